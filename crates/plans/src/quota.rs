//! Pure decisions about amounts.

use crate::Limit;

/// Percentages of a limit at which a notice goes out.
pub const THRESHOLDS: [u8; 3] = [80, 90, 100];

/// How far, in points, a value falls below a threshold before the threshold can fire again.
const REARM_POINTS: u8 = 5;

/// Whether an amount may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It fits.
    Allow,
    /// It does not.
    Deny(Denied),
}

/// Why an amount may not be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied {
    /// Used and reserved together.
    pub current: u64,
    /// What was asked for.
    pub requested: u64,
    /// The limit in force.
    pub limit: u64,
}

/// Decides whether `requested` more units fit beside `current` (used and reserved).
#[must_use]
pub const fn decide(current: u64, requested: u64, limit: Limit) -> Decision {
    let Limit::AtMost(limit) = limit else {
        return Decision::Allow;
    };
    match current.checked_add(requested) {
        Some(total) if total <= limit => Decision::Allow,
        _ => Decision::Deny(Denied {
            current,
            requested,
            limit,
        }),
    }
}

/// How close a level is to its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Below 80 %.
    Ok,
    /// 80 % or more.
    Warning80,
    /// 90 % or more.
    Warning90,
    /// Exactly at the limit.
    Full,
    /// Above the limit (after a downgrade, or by ingest of what had already happened).
    Over,
}

impl Level {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning80 => "warning_80",
            Self::Warning90 => "warning_90",
            Self::Full => "full",
            Self::Over => "over",
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
    !reached(used, limit, threshold - REARM_POINTS)
}

/// The level of `used` under the limit. A limit of 0 is full when nothing is used.
#[must_use]
pub const fn level(used: u64, limit: Limit) -> Level {
    match limit {
        Limit::Unlimited => Level::Ok,
        Limit::AtMost(n) if used > n => Level::Over,
        Limit::AtMost(n) if used == n => Level::Full,
        limit if reached(used, limit, 90) => Level::Warning90,
        limit if reached(used, limit, 80) => Level::Warning80,
        Limit::AtMost(_) => Level::Ok,
    }
}

/// `used` in percent of the limit, to one decimal, rounded down; nothing for a limit of 0 or none.
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
    use proptest::prelude::*;

    #[test]
    fn a_limit_of_zero_refuses_and_unlimited_admits_everything() {
        let denied = Denied {
            current: 0,
            requested: 1,
            limit: 0,
        };
        assert_eq!(decide(0, 1, Limit::AtMost(0)), Decision::Deny(denied));
        assert_eq!(
            decide(u64::MAX, u64::MAX, Limit::Unlimited),
            Decision::Allow
        );
        assert_eq!(percent(5, Limit::Unlimited), None);
        assert_eq!(percent(0, Limit::AtMost(0)), None);
        assert!(!reached(u64::MAX, Limit::AtMost(0), 80));
    }

    #[test]
    fn the_levels_of_a_megabyte() {
        let limit = Limit::AtMost(1_048_576);
        assert_eq!(level(1_000_000, limit), Level::Warning90);
        assert_eq!(percent(1_000_000, limit), Some(95.3));
        assert_eq!(level(1_048_576, limit), Level::Full);
        assert_eq!(level(1_048_577, limit), Level::Over);
        assert_eq!(level(838_860, limit), Level::Ok);
        assert_eq!(level(838_861, limit), Level::Warning80);
    }

    proptest! {
        #[test]
        fn what_is_allowed_never_passes_the_limit(current: u64, requested: u64, n: u64) {
            match decide(current, requested, Limit::AtMost(n)) {
                Decision::Allow => prop_assert!(u128::from(current) + u128::from(requested) <= u128::from(n)),
                Decision::Deny(d) => {
                    prop_assert!(u128::from(current) + u128::from(requested) > u128::from(n));
                    prop_assert_eq!((d.current, d.requested, d.limit), (current, requested, n));
                }
            }
        }

        #[test]
        fn a_rearmed_threshold_is_not_reached(used: u64, n: u64, i in 0_usize..3) {
            let (limit, t) = (Limit::AtMost(n), THRESHOLDS[i]);
            if rearmed(used, limit, t) { prop_assert!(!reached(used, limit, t)); }
        }

        #[test]
        fn reaching_a_threshold_reaches_the_lower_ones(used: u64, n: u64) {
            let limit = Limit::AtMost(n);
            prop_assert!(!reached(used, limit, 100) || reached(used, limit, 90));
            prop_assert!(!reached(used, limit, 90) || reached(used, limit, 80));
        }
    }
}
