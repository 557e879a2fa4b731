//! Limits on attempts: what a counter holds, when the next attempt may be made, and what is told of that. Nothing here
//! knows the clock or a store.

use chrono::{DateTime, TimeDelta, Utc};

/// What is stored of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Attempts that were counted; a counter that is stored has at least one.
    pub used: u32,
    /// When they are forgotten.
    pub ends_at: DateTime<Utc>,
}

/// What is told of a limit, as the IETF's `RateLimit` fields name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitState {
    /// The limit's name.
    pub name: &'static str,
    /// How many attempts its window takes.
    pub quota: u32,
    /// The length of the window.
    pub window_seconds: u64,
    /// How many attempts may be made now.
    pub remaining: u32,
    /// When more than these may be made.
    pub reset_seconds: u64,
}

/// How attempts are limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// As many as the quota in a window, which begins with the first of them.
    Window {
        /// Attempts.
        quota: u32,
        /// From the first attempt on.
        window: TimeDelta,
    },
    /// As many as the quota at once; from then on each waits for the one before it, twice as long each time.
    Backoff {
        /// Attempts without a wait.
        quota: u32,
        /// The first wait.
        first: TimeDelta,
        /// No wait is longer.
        longest: TimeDelta,
        /// Everything is forgotten so long after the last attempt.
        window: TimeDelta,
    },
}

impl Rule {
    const fn quota(&self) -> u32 {
        match *self {
            Self::Window { quota, .. } | Self::Backoff { quota, .. } => quota,
        }
    }

    const fn window(&self) -> TimeDelta {
        match *self {
            Self::Window { window, .. } | Self::Backoff { window, .. } => window,
        }
    }

    /// How long the next attempt has to wait; `None` when it may be made.
    pub(crate) fn wait(&self, count: Option<Count>, now: DateTime<Utc>) -> Option<TimeDelta> {
        let count = live(count, now).filter(|count| count.used >= self.quota())?;
        // A clock that was set back makes no wait longer than it would have been.
        let left = (count.ends_at - now).min(self.window());
        let wait = match *self {
            Self::Window { .. } => left,
            Self::Backoff {
                quota,
                first,
                longest,
                window,
            } => {
                let doublings = (count.used - quota).min(16);
                let wait = (first * (1 << doublings)).min(longest);
                wait - (window - left)
            }
        };
        (wait > TimeDelta::zero()).then_some(wait)
    }

    /// The counter after one more attempt.
    pub(crate) fn taken(&self, count: Option<Count>, now: DateTime<Utc>) -> Count {
        let ends_at = now + self.window();
        match live(count, now) {
            None => Count { used: 1, ends_at },
            Some(count) => Count {
                used: count.used.saturating_add(1),
                ends_at: match self {
                    Self::Window { .. } => count.ends_at.min(ends_at),
                    Self::Backoff { .. } => ends_at,
                },
            },
        }
    }

    /// What is told of the counter.
    pub(crate) fn state(
        &self,
        name: &'static str,
        count: Option<Count>,
        now: DateTime<Utc>,
    ) -> LimitState {
        let live = live(count, now);
        let used = live.map_or(0, |count| count.used);
        let wait = self.wait(count, now);
        let remaining = match wait {
            Some(_) => 0,
            // After a wait one more is possible.
            None => self.quota().saturating_sub(used).max(1),
        };
        let until_forgotten = live.map_or(TimeDelta::zero(), |count| {
            (count.ends_at - now).min(self.window())
        });
        LimitState {
            name,
            quota: self.quota(),
            window_seconds: seconds(self.window()),
            remaining,
            reset_seconds: seconds(wait.unwrap_or(until_forgotten)),
        }
    }
}

/// The counter after one attempt came to nothing by no fault of whoever made it.
pub(crate) fn given_back(count: Option<Count>) -> Option<Count> {
    count.filter(|count| count.used > 1).map(|count| Count {
        used: count.used - 1,
        ..count
    })
}

/// The counter, unless it is forgotten.
pub(crate) fn live(count: Option<Count>, now: DateTime<Utc>) -> Option<Count> {
    count.filter(|count| now < count.ends_at)
}

/// Whole seconds, rounded up.
pub(crate) fn seconds(time: TimeDelta) -> u64 {
    u64::try_from((time.num_milliseconds() + 999) / 1000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Rule = Rule::Window {
        quota: 3,
        window: TimeDelta::hours(1),
    };
    const BACKOFF: Rule = Rule::Backoff {
        quota: 3,
        first: TimeDelta::seconds(15),
        longest: TimeDelta::minutes(15),
        window: TimeDelta::hours(24),
    };

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::seconds(seconds)
    }

    #[test]
    fn waits_double_up_to_the_longest_and_are_forgotten_a_day_later() {
        let mut count = None;
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..12 {
            let wait = BACKOFF.wait(count, now);
            waits.push(wait.map_or(0, seconds));
            now += wait.unwrap_or_default();
            assert_eq!(BACKOFF.wait(count, now), None);
            count = Some(BACKOFF.taken(count, now));
        }
        assert_eq!(waits, [0, 0, 0, 15, 30, 60, 120, 240, 480, 900, 900, 900]);
        now += TimeDelta::hours(24);
        assert_eq!(BACKOFF.state("x", count, now).remaining, 3);
    }

    #[test]
    fn what_is_told_is_what_holds() {
        let mut count = None;
        for (second, remaining, reset) in [(0, 2, 3600), (60, 1, 3540), (120, 0, 3480)] {
            count = Some(WINDOW.taken(count, at(second)));
            let state = WINDOW.state("x", count, at(second));
            assert_eq!(
                (
                    state.quota,
                    state.window_seconds,
                    state.remaining,
                    state.reset_seconds
                ),
                (3, 3600, remaining, reset)
            );
        }
        assert_eq!(WINDOW.state("x", None, at(0)).remaining, 3);
        assert_eq!(WINDOW.state("x", count, at(3600)).remaining, 3);
    }

    proptest! {
        /// Of any attempts at any times no more than the quota pass in a window; and whoever waits as long as they
        /// are told gets through.
        #[test]
        fn no_window_takes_more_than_its_quota(steps in proptest::collection::vec(0_i64..1_500, 1..80)) {
            for rule in [WINDOW, BACKOFF] {
                let (mut count, mut now) = (None, at(0));
                let mut passed: Vec<DateTime<Utc>> = Vec::new();
                for step in &steps {
                    now += TimeDelta::seconds(*step);
                    match rule.wait(count, now) {
                        None => {
                            count = Some(rule.taken(count, now));
                            passed.push(now);
                        }
                        Some(wait) => {
                            prop_assert!(rule.state("x", count, now).remaining == 0);
                            prop_assert!(rule.wait(count, now + wait).is_none());
                            let just_before = now + wait - TimeDelta::milliseconds(1);
                            prop_assert!(rule.wait(count, just_before).is_some());
                        }
                    }
                }
                for (n, begin) in passed.iter().enumerate() {
                    let span = match rule { Rule::Window { window, .. } => window, Rule::Backoff { .. } => TimeDelta::hours(24) };
                    let within = passed[n..].iter().filter(|t| **t < *begin + span).count();
                    // A window's end may lie within: twice the quota. A day of the longest waits: 96 and the start.
                    let most = match rule { Rule::Window { .. } => 6, Rule::Backoff { .. } => 3 + 6 + 96 };
                    prop_assert!(within <= most, "{within}");
                }
            }
        }

        #[test]
        fn a_clock_that_goes_back_locks_nobody_out(used in 1_u32..40, back in 0_i64..10_000_000) {
            for rule in [WINDOW, BACKOFF] {
                let count = Some(Count { used, ends_at: at(0) + rule.window() });
                let wait = rule.wait(count, at(-back)).unwrap_or_default();
                prop_assert!(wait <= TimeDelta::hours(1));
            }
        }
    }
}
