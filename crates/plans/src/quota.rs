//! The pure decision about an amount.

use crate::{Allowance, Limit};

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
    /// The limit in force: what levels and percentages are of.
    pub limit: u64,
    /// What was in the way: the limit with its tolerance.
    pub hard_limit: u64,
}

/// Decides whether `requested` more units fit beside `current` (used and reserved), up to the hard limit.
#[must_use]
pub fn decide(current: u64, requested: u64, allowance: impl Into<Allowance>) -> Decision {
    let allowance = allowance.into();
    let Limit::AtMost(hard_limit) = allowance.hard_limit() else {
        return Decision::Allow;
    };
    match current.checked_add(requested) {
        Some(total) if total <= hard_limit => Decision::Allow,
        _ => Decision::Deny(Denied {
            current,
            requested,
            limit: allowance.limit().bound().unwrap_or(hard_limit),
            hard_limit,
        }),
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
            hard_limit: 0,
        };
        assert_eq!(decide(0, 1, Limit::AtMost(0)), Decision::Deny(denied));
        assert_eq!(decide(0, 0, Limit::AtMost(0)), Decision::Allow);
        assert_eq!(
            decide(u64::MAX, u64::MAX, Limit::Unlimited),
            Decision::Allow
        );
    }

    #[test]
    fn a_tolerance_is_used_up_to_its_last_unit_and_a_soft_limit_never_refuses() {
        let tolerant = Allowance::tolerant(100, 10);
        assert_eq!(decide(100, 10, tolerant), Decision::Allow);
        let denied = Denied {
            current: 100,
            requested: 11,
            limit: 100,
            hard_limit: 110,
        };
        assert_eq!(decide(100, 11, tolerant), Decision::Deny(denied));
        assert_eq!(decide(u64::MAX, 1, Allowance::Soft(0)), Decision::Allow);
    }

    proptest! {
        #[test]
        fn what_is_allowed_never_passes_the_hard_limit(current: u64, requested: u64, n: u64, tolerance in 0_u16..1000) {
            let allowance = Allowance::tolerant(n, tolerance);
            let most = allowance.hard_limit().bound().unwrap();
            let total = u128::from(current) + u128::from(requested);
            match decide(current, requested, allowance) {
                Decision::Allow => prop_assert!(total <= u128::from(most)),
                Decision::Deny(d) => {
                    prop_assert!(total > u128::from(most));
                    prop_assert_eq!((d.current, d.requested, d.limit, d.hard_limit), (current, requested, n, most));
                }
            }
        }

        #[test]
        fn a_looser_allowance_refuses_nothing_more(current: u64, requested: u64, n: u64, a in 0_u16..1000, b in 0_u16..1000) {
            let allows = |allowance| decide(current, requested, allowance) == Decision::Allow;
            let (low, high) = (Allowance::tolerant(n, a.min(b)), Allowance::tolerant(n, a.max(b)));
            prop_assert!(!allows(Allowance::Hard(n)) || allows(low));
            prop_assert!(!allows(low) || allows(high));
            prop_assert!(allows(Allowance::Soft(n)) && allows(Allowance::Unlimited));
        }
    }
}
