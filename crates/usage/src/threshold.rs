//! Thresholds as edges: an episode begins once, and ends when the value falls well below.

use rawdrive_plans::{Limit, Thresholds, reached, rearmed};

/// The event that one notice comes from.
pub const THRESHOLD_CROSSED: &str = "usage.threshold_crossed";

/// What changes when a quota row has a new value or a new limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Edges {
    /// Thresholds whose episode begins.
    pub fire: Vec<u8>,
    /// Thresholds whose episode ends.
    pub rearm: Vec<u8>,
    /// Thresholds whose episode goes on. One that is in neither list is none any more: the metric was declared anew.
    pub kept: Vec<u8>,
    /// The thresholds in an episode afterwards, by their bits.
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
pub fn edges(used: u64, limit: Limit, thresholds: &Thresholds, fired: u8) -> Edges {
    let mut edges = Edges {
        fired,
        ..Edges::default()
    };
    for threshold in thresholds.iter() {
        let percent = threshold.percent;
        if fired & threshold.bit == 0 {
            if reached(used, limit, percent) {
                edges.fire.push(percent);
                edges.fired |= threshold.bit;
            }
        } else if rearmed(used, limit, percent) {
            edges.rearm.push(percent);
            edges.fired &= !threshold.bit;
        } else {
            edges.kept.push(percent);
        }
    }
    edges
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn edges(used: u64, limit: Limit, fired: u8) -> Edges {
        super::edges(used, limit, &Thresholds::DEFAULT, fired)
    }

    #[test]
    fn a_metric_with_warnings_of_its_own_tells_of_them_and_of_the_limit() {
        let warn = Thresholds::new(vec![70, 85, 95]).unwrap();
        let at = |used, fired| super::edges(used, Limit::AtMost(100), &warn, fired);
        let first = at(72, 0);
        assert_eq!((first.fire.clone(), first.notice()), (vec![70], Some(70)));
        let full = at(100, first.fired);
        assert_eq!(
            (full.fire.clone(), full.kept.clone(), full.notice()),
            (vec![85, 95, 100], vec![70], Some(100))
        );
        let fallen = at(84, full.fired);
        assert_eq!((fallen.kept, fallen.rearm), (vec![70, 85], vec![95, 100]));
    }

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
        fn every_threshold_is_in_one_list_or_waits(used: u64, n: u64, fired in 0_u8..8) {
            let after = edges(used, Limit::AtMost(n), fired);
            for t in Thresholds::DEFAULT.iter() {
                let lists = [&after.fire, &after.rearm, &after.kept];
                let found = lists.iter().filter(|list| list.contains(&t.percent)).count();
                let waits = fired & t.bit == 0 && after.fired & t.bit == 0;
                prop_assert_eq!(found, usize::from(!waits));
                let goes_on = after.fire.contains(&t.percent) || after.kept.contains(&t.percent);
                prop_assert_eq!(goes_on, after.fired & t.bit != 0);
            }
        }

        #[test]
        fn applying_edges_twice_changes_nothing(used: u64, n: u64, fired in 0_u8..8) {
            let after = edges(used, Limit::AtMost(n), fired);
            prop_assert!(edges(used, Limit::AtMost(n), after.fired).is_empty());
        }
    }
}
