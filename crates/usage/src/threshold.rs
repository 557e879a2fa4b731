//! Thresholds as edges: an episode begins once, and ends when the value falls well below.

use rawdrive_plans::{Limit, THRESHOLDS, reached, rearmed};

/// The event that one notice comes from.
pub const THRESHOLD_CROSSED: &str = "usage.threshold_crossed";

/// What changes when a quota row has a new value or a new limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Edges {
    /// Thresholds whose episode begins.
    pub fire: Vec<u8>,
    /// Thresholds whose episode ends.
    pub rearm: Vec<u8>,
    /// The thresholds in an episode afterwards, bit `i` for `THRESHOLDS[i]`.
    pub fired: u8,
}

impl Edges {
    /// The one threshold a notice goes out for: the highest that fires.
    #[must_use]
    pub fn notice(&self) -> Option<u8> {
        self.fire.last().copied()
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fire.is_empty() && self.rearm.is_empty()
    }
}

/// The edges from the episodes in `fired` to those that `used` under `limit` calls for.
#[must_use]
pub fn edges(used: u64, limit: Limit, fired: u8) -> Edges {
    let mut edges = Edges {
        fired,
        ..Edges::default()
    };
    for (i, threshold) in THRESHOLDS.into_iter().enumerate() {
        let bit = 1 << i;
        if fired & bit == 0 && reached(used, limit, threshold) {
            edges.fire.push(threshold);
            edges.fired |= bit;
        } else if fired & bit != 0 && rearmed(used, limit, threshold) {
            edges.rearm.push(threshold);
            edges.fired &= !bit;
        }
    }
    edges
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn crossing_several_at_once_makes_one_notice() {
        let first = edges(95, Limit::AtMost(100), 0);
        assert_eq!(
            (first.fire.clone(), first.notice()),
            (vec![80, 90], Some(90))
        );
        assert!(edges(95, Limit::AtMost(100), first.fired).is_empty());
    }

    #[test]
    fn wavering_at_the_threshold_fires_once_and_a_real_fall_rearms() {
        let limit = Limit::AtMost(100);
        let fired = edges(80, limit, 0).fired;
        assert!(edges(76, limit, fired).is_empty());
        assert!(edges(80, limit, fired).is_empty());
        let fallen = edges(74, limit, fired);
        assert_eq!(fallen.rearm, [80]);
        assert_eq!(edges(80, limit, fallen.fired).fire, [80]);
    }

    proptest! {
        #[test]
        fn applying_edges_twice_changes_nothing(used: u64, n: u64, fired in 0_u8..8) {
            let after = edges(used, Limit::AtMost(n), fired);
            prop_assert!(edges(used, Limit::AtMost(n), after.fired).is_empty());
        }
    }
}
