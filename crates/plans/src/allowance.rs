//! How much a plan allows of a metric, and what happens beyond.

use std::num::NonZeroU16;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::Limit;

/// The largest tolerance: what is ten times beyond is no tolerance any more.
pub(crate) const MAX_TOLERANCE_PERCENT: u16 = 1000;

/// What SQL keeps of an amount: signed 64 bits.
const MAX_AMOUNT: u64 = i64::MAX.unsigned_abs();

/// How much of a metric may be held or used, and how strictly.
///
/// [`Allowance::limit`] is the number that percentages, levels and notices are of; [`Allowance::hard_limit`] is the
/// number at which a take is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// No limit.
    Unlimited,
    /// At most this many units; 0 allows none.
    Hard(u64),
    /// At most `max` and so many percent of it more, rounded down. Beyond `max` the level is over.
    Tolerant {
        /// Units.
        max: u64,
        /// Percent of `max`, at most 1,000.
        tolerance_percent: NonZeroU16,
    },
    /// Every take is admitted. Beyond this many units the level is over, and people are told.
    Soft(u64),
}

impl Allowance {
    /// A limit with a tolerance in percent, at most 1,000; 0 is none.
    #[must_use]
    pub const fn tolerant(max: u64, tolerance_percent: u16) -> Self {
        let most = if tolerance_percent > MAX_TOLERANCE_PERCENT {
            MAX_TOLERANCE_PERCENT
        } else {
            tolerance_percent
        };
        match NonZeroU16::new(most) {
            None => Self::Hard(max),
            Some(tolerance_percent) => Self::Tolerant {
                max,
                tolerance_percent,
            },
        }
    }

    /// What a level and a percentage are of.
    #[must_use]
    pub const fn limit(self) -> Limit {
        match self {
            Self::Unlimited => Limit::Unlimited,
            Self::Hard(max) | Self::Soft(max) | Self::Tolerant { max, .. } => Limit::AtMost(max),
        }
    }

    /// What a take must stay within.
    #[must_use]
    pub fn hard_limit(self) -> Limit {
        match self {
            Self::Unlimited | Self::Soft(_) => Limit::Unlimited,
            Self::Hard(max) => Limit::AtMost(max),
            Self::Tolerant {
                max,
                tolerance_percent,
            } => {
                let more = u128::from(max) * u128::from(tolerance_percent.get()) / 100;
                let most = (u128::from(max) + more).min(u128::from(MAX_AMOUNT));
                // A limit beyond what is kept is itself; the tolerance takes nothing away.
                Limit::AtMost(u64::try_from(most).unwrap_or(MAX_AMOUNT).max(max))
            }
        }
    }

    /// The same strictness about another limit: what an override of the number comes to.
    #[must_use]
    pub const fn with_limit(self, limit: Limit) -> Self {
        match (limit, self) {
            (Limit::Unlimited, _) => Self::Unlimited,
            (Limit::AtMost(max), Self::Unlimited | Self::Hard(_)) => Self::Hard(max),
            (
                Limit::AtMost(max),
                Self::Tolerant {
                    tolerance_percent, ..
                },
            ) => Self::Tolerant {
                max,
                tolerance_percent,
            },
            (Limit::AtMost(max), Self::Soft(_)) => Self::Soft(max),
        }
    }
}

impl From<Limit> for Allowance {
    fn from(limit: Limit) -> Self {
        Self::Unlimited.with_limit(limit)
    }
}

/// As a published version is kept: `null`, a number, or a table. Those without a table are as they always were, so that
/// their digests stand.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    Plain(Option<u64>),
    Table(Table),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    max: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tolerance_percent: Option<u16>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    soft: bool,
}

impl Serialize for Allowance {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let table = |max, tolerance_percent, soft| {
            Stored::Table(Table {
                max,
                tolerance_percent,
                soft,
            })
        };
        match *self {
            Self::Unlimited => Stored::Plain(None),
            Self::Hard(max) => Stored::Plain(Some(max)),
            Self::Tolerant {
                max,
                tolerance_percent,
            } => table(max, Some(tolerance_percent.get()), false),
            Self::Soft(max) => table(max, None, true),
        }
        .serialize(s)
    }
}

impl<'de> Deserialize<'de> for Allowance {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match Stored::deserialize(d)? {
            Stored::Plain(bound) => Ok(Limit::from_bound(bound).into()),
            Stored::Table(Table {
                max,
                tolerance_percent: None,
                soft: true,
            }) => Ok(Self::Soft(max)),
            Stored::Table(Table {
                max,
                tolerance_percent,
                soft: false,
            }) => Ok(Self::tolerant(max, tolerance_percent.unwrap_or(0))),
            Stored::Table(_) => Err(D::Error::custom("a soft limit has no tolerance")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn allowances() -> impl Strategy<Value = Allowance> {
        prop_oneof![
            Just(Allowance::Unlimited),
            any::<u64>().prop_map(Allowance::Hard),
            any::<u64>().prop_map(Allowance::Soft),
            (any::<u64>(), 0..=MAX_TOLERANCE_PERCENT).prop_map(|(n, t)| Allowance::tolerant(n, t)),
        ]
    }

    #[test]
    fn a_tolerance_is_a_share_of_the_limit_rounded_down() {
        let hard = |max, percent| Allowance::tolerant(max, percent).hard_limit();
        assert_eq!(hard(100, 10), Limit::AtMost(110));
        assert_eq!(hard(19, 10), Limit::AtMost(20));
        assert_eq!(hard(9, 10), Limit::AtMost(9));
        assert_eq!(hard(0, 1000), Limit::AtMost(0));
        assert_eq!(hard(MAX_AMOUNT - 1, 100), Limit::AtMost(MAX_AMOUNT));
        assert_eq!(hard(u64::MAX, 100), Limit::AtMost(u64::MAX));
        assert_eq!(hard(10, u16::MAX), Limit::AtMost(110));
        assert_eq!(Allowance::tolerant(7, 0), Allowance::Hard(7));
        assert_eq!(Allowance::Soft(7).hard_limit(), Limit::Unlimited);
        assert_eq!(Allowance::Soft(7).limit(), Limit::AtMost(7));
    }

    #[test]
    fn an_override_replaces_the_number_and_keeps_the_strictness() {
        let to = |allowance: Allowance, bound| allowance.with_limit(Limit::from_bound(bound));
        assert_eq!(to(Allowance::Soft(1), Some(5)), Allowance::Soft(5));
        assert_eq!(to(Allowance::Hard(1), Some(5)), Allowance::Hard(5));
        assert_eq!(to(Allowance::Unlimited, Some(5)), Allowance::Hard(5));
        let tolerant = Allowance::tolerant(1, 20);
        assert_eq!(to(tolerant, Some(5)), Allowance::tolerant(5, 20));
        for allowance in [tolerant, Allowance::Soft(1), Allowance::Hard(1)] {
            assert_eq!(to(allowance, None), Allowance::Unlimited);
        }
    }

    #[test]
    fn plain_limits_are_kept_as_they_always_were() {
        let kept = |allowance| serde_json::to_string(&allowance).unwrap();
        assert_eq!(kept(Allowance::Unlimited), "null");
        assert_eq!(kept(Allowance::Hard(5)), "5");
        assert_eq!(
            kept(Allowance::tolerant(5, 20)),
            "{\"max\":5,\"tolerance_percent\":20}"
        );
        assert_eq!(kept(Allowance::Soft(5)), "{\"max\":5,\"soft\":true}");
        let contradiction = "{\"max\":5,\"tolerance_percent\":20,\"soft\":true}";
        assert!(serde_json::from_str::<Allowance>(contradiction).is_err());
        assert!(serde_json::from_str::<Allowance>("{\"max\":5,\"sofd\":true}").is_err());
    }

    proptest! {
        #[test]
        fn what_is_kept_reads_back_as_it_was(allowance in allowances()) {
            let text = serde_json::to_string(&allowance).unwrap();
            prop_assert_eq!(serde_json::from_str::<Allowance>(&text).unwrap(), allowance);
        }

        #[test]
        fn a_hard_limit_is_never_below_the_limit(allowance in allowances(), total: u64) {
            prop_assert!(!allowance.limit().admits(total) || allowance.hard_limit().admits(total));
        }
    }
}
