//! How close to its limit a value is, and at which percentages people are told.

use std::borrow::Cow;
use std::fmt;

use crate::Limit;

/// How far, in points, a value falls below a threshold before the threshold can fire again.
const REARM_POINTS: u8 = 5;

/// The percentages at which the holders of a metric are told, ascending. The limit itself, 100, is always the last.
///
/// ```
/// use rawdrive_plans::Thresholds;
/// let percents = |thresholds: &Thresholds| thresholds.iter().map(|t| t.percent).collect::<Vec<_>>();
/// assert_eq!(percents(&Thresholds::default()), [80, 90, 100]);
/// assert_eq!(percents(&Thresholds::new(vec![70, 85])?), [70, 85, 100]);
/// # Ok::<(), rawdrive_plans::ThresholdsError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thresholds(Cow<'static, [u8]>);

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    /// Percent of the limit.
    pub percent: u8,
    /// The bit that stands for its episode in a counter's row.
    pub bit: u8,
}

/// Percentages that cannot be thresholds.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("must be up to {max} whole percentages from {from} to {to}, ascending: 100 is told of always", max = Thresholds::MAX, from = Thresholds::LOWEST, to = Thresholds::HIGHEST)]
pub struct ThresholdsError;

impl Default for Thresholds {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Thresholds {
    /// 80, 90 and 100 percent.
    pub const DEFAULT: Self = Self(Cow::Borrowed(&[80, 90]));
    /// The most warnings before the limit itself: an episode is a bit of eight.
    pub const MAX: usize = 7;
    const LOWEST: u8 = 10;
    const HIGHEST: u8 = 99;
    /// The limit's own bit. Warnings have the others, in their order: whatever they are changed to, what was told of the
    /// limit stays told.
    const LIMIT_BIT: u8 = 1 << 2;

    /// Warnings at these percentages, before 100.
    ///
    /// # Errors
    /// There are more than seven, one is not from 10 to 99, or they do not ascend.
    pub fn new(warn_at: Vec<u8>) -> Result<Self, ThresholdsError> {
        let ascending = warn_at.is_sorted_by(|a, b| a < b);
        let range = Self::LOWEST..=Self::HIGHEST;
        let fit = warn_at.len() <= Self::MAX && warn_at.iter().all(|p| range.contains(p));
        (ascending && fit)
            .then_some(Self(Cow::Owned(warn_at)))
            .ok_or(ThresholdsError)
    }

    /// The warnings, without the limit itself.
    #[must_use]
    pub fn warnings(&self) -> &[u8] {
        &self.0
    }

    /// Every threshold, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Threshold> + '_ {
        let bits = (0..8)
            .map(|i| 1_u8 << i)
            .filter(|bit| *bit != Self::LIMIT_BIT);
        let warnings = self.0.iter().zip(bits);
        let limit = Threshold {
            percent: 100,
            bit: Self::LIMIT_BIT,
        };
        warnings
            .map(|(percent, bit)| Threshold {
                percent: *percent,
                bit,
            })
            .chain([limit])
    }
}

/// How close a value is to its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Below every warning.
    Ok,
    /// At this warning, in percent, or beyond.
    Warning(u8),
    /// Exactly at the limit.
    Full,
    /// Above the limit: within a tolerance, of a soft limit, after a downgrade, or by ingest of what had already
    /// happened.
    Over,
}

impl fmt::Display for Level {
    /// The name on the wire.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Warning(percent) => write!(f, "warning_{percent}"),
            Self::Full => f.write_str("full"),
            Self::Over => f.write_str("over"),
        }
    }
}

/// Whether `used` has reached `threshold` percent of the limit: `100·used ≥ t·limit`, in 128 bits, so
/// that no product overflows. A limit of 0 or none is never reached.
#[must_use]
pub const fn reached(used: u64, limit: Limit, threshold: u8) -> bool {
    match limit {
        Limit::Unlimited | Limit::AtMost(0) => false,
        Limit::AtMost(n) => 100 * used as u128 >= threshold as u128 * n as u128,
    }
}

/// Whether a fired threshold is ready again: the value fell below `t − 5` points, or the limit is gone.
#[must_use]
pub const fn rearmed(used: u64, limit: Limit, threshold: u8) -> bool {
    !reached(used, limit, threshold.saturating_sub(REARM_POINTS))
}

/// The level of `used` under the limit. A limit of 0 is full when nothing is used.
#[must_use]
pub fn level(used: u64, limit: Limit, thresholds: &Thresholds) -> Level {
    match limit {
        Limit::Unlimited => Level::Ok,
        Limit::AtMost(n) if used > n => Level::Over,
        Limit::AtMost(n) if used == n => Level::Full,
        Limit::AtMost(_) => {
            let warnings = thresholds.warnings().iter().rev();
            let highest = warnings.copied().find(|t| reached(used, limit, *t));
            highest.map_or(Level::Ok, Level::Warning)
        }
    }
}

/// `used` in percent of the limit, to one decimal, rounded down; beyond the limit more than 100. Nothing for a limit of
/// 0 or none.
#[must_use]
pub fn percent(used: u64, limit: Limit) -> Option<f64> {
    match limit {
        Limit::Unlimited | Limit::AtMost(0) => None,
        #[expect(
            clippy::cast_precision_loss,
            reason = "tenths of a percent are far below 2^52"
        )]
        Limit::AtMost(n) => Some((1000 * u128::from(used) / u128::from(n)) as f64 / 10.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    fn thresholds() -> impl Strategy<Value = Thresholds> {
        btree_set(10_u8..100, 0..=7)
            .prop_map(|set| Thresholds::new(set.into_iter().collect()).unwrap())
    }

    #[test]
    fn a_limit_of_zero_or_none_is_never_reached() {
        assert_eq!(percent(5, Limit::Unlimited), None);
        assert_eq!(percent(0, Limit::AtMost(0)), None);
        assert!(!reached(u64::MAX, Limit::AtMost(0), 80));
        assert!(!reached(u64::MAX, Limit::Unlimited, 80));
        assert_eq!(
            level(0, Limit::AtMost(0), &Thresholds::DEFAULT),
            Level::Full
        );
    }

    #[test]
    fn the_levels_of_a_megabyte() {
        let limit = Limit::AtMost(1_048_576);
        let level = |used| level(used, limit, &Thresholds::DEFAULT).to_string();
        assert_eq!(level(1_000_000), "warning_90");
        assert_eq!(percent(1_000_000, limit), Some(95.3));
        assert_eq!(level(1_048_576), "full");
        assert_eq!(level(1_048_577), "over");
        assert_eq!(level(838_860), "ok");
        assert_eq!(level(838_861), "warning_80");
        assert_eq!(percent(2_097_152, limit), Some(200.0));
    }

    #[test]
    fn a_metric_warns_at_percentages_of_its_own() {
        let warn = Thresholds::new(vec![70, 85]).unwrap();
        let at = |used| level(used, Limit::AtMost(100), &warn);
        assert_eq!(at(69), Level::Ok);
        assert_eq!(at(70), Level::Warning(70));
        assert_eq!(at(85), Level::Warning(85));
        assert_eq!(at(99), Level::Warning(85));
        let never = Thresholds::new(Vec::new()).unwrap();
        assert_eq!(level(99, Limit::AtMost(100), &never), Level::Ok);
        let wrong = [vec![9], vec![100], vec![80, 80], vec![90, 80], vec![50; 8]];
        for wrong in wrong.into_iter().chain([(20..28).collect()]) {
            assert_eq!(
                Thresholds::new(wrong.clone()),
                Err(ThresholdsError),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn the_bits_of_the_first_thresholds_are_those_that_rows_have() {
        let bits: Vec<_> = Thresholds::DEFAULT
            .iter()
            .map(|t| (t.percent, t.bit))
            .collect();
        assert_eq!(bits, [(80, 1), (90, 2), (100, 4)]);
    }

    proptest! {
        #[test]
        fn each_threshold_has_a_bit_and_the_limit_always_the_same(thresholds in thresholds()) {
            let all: Vec<_> = thresholds.iter().collect();
            prop_assert!(all.is_sorted_by(|a, b| a.percent < b.percent));
            let mut seen = 0_u8;
            for t in &all {
                prop_assert_eq!((t.bit.count_ones(), seen & t.bit), (1, 0));
                seen |= t.bit;
            }
            prop_assert_eq!(all.last(), Some(&Threshold { percent: 100, bit: 4 }));
        }

        #[test]
        fn a_rearmed_threshold_is_not_reached(used: u64, n: u64, thresholds in thresholds()) {
            let limit = Limit::AtMost(n);
            for t in thresholds.iter() {
                if rearmed(used, limit, t.percent) { prop_assert!(!reached(used, limit, t.percent)); }
            }
        }

        #[test]
        fn what_falls_to_nothing_rearms_every_threshold(n: u64, thresholds in thresholds()) {
            for t in thresholds.iter() {
                prop_assert!(rearmed(0, Limit::AtMost(n), t.percent));
            }
        }

        #[test]
        fn reaching_a_threshold_reaches_the_lower_ones(used: u64, n: u64, low in 1_u8..100, more in 0_u8..50) {
            let limit = Limit::AtMost(n);
            prop_assert!(!reached(used, limit, low.saturating_add(more)) || reached(used, limit, low));
        }

        #[test]
        fn a_level_only_rises_with_what_is_used(a: u64, b: u64, n: u64, thresholds in thresholds()) {
            let of = |used| level(used, Limit::AtMost(n), &thresholds);
            prop_assert!(of(a.min(b)) <= of(a.max(b)));
            prop_assert_eq!(of(a) == Level::Over, a > n);
        }
    }
}
