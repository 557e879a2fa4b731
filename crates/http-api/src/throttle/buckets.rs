//! The limits as one server counts them, in memory: GCRA, by the crate `governor`.
//!
//! Invariant: memory is bounded. Where a table is full, a new client takes the place of one that has not been seen for
//! long, whose count is forgotten: who floods from many addresses locks nobody out, and gains little himself.

use std::convert::Infallible;
use std::sync::Arc;

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use quick_cache::sync::Cache;

use super::class::{Allowance, RequestLimits, RouteClass};

/// How many clients of one class are counted at a time; a few megabytes in all.
const MOST_CLIENTS: usize = 20_000;

/// A client, as limits know it: a hash that names nobody.
pub(super) type Client = [u8; 16];

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) verdict: Verdict,
    /// How many more may come at once.
    pub(super) remaining: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Admitted,
    /// The next one may come after so long; at least a second.
    Refused {
        retry_after_seconds: u64,
    },
}

/// Clients with when they would have asked if they kept to the pace.
struct Table(Cache<Client, Arc<InMemoryState>>);

impl StateStore for Table {
    type Key = Client;

    fn measure_and_replace<T, F, E>(&self, key: &Client, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let fresh = || Ok::<_, Infallible>(Arc::default());
        let Ok(state) = self.0.get_or_insert_with(key, fresh);
        state.measure_and_replace(&NotKeyed::NonKey, f)
    }
}

type Limiter<C> = RateLimiter<Client, Table, C, StateInformationMiddleware>;

/// The counts of one server.
pub(super) struct Buckets<C: Clock = MonotonicClock> {
    limiters: Vec<(RouteClass, Limiter<C>)>,
}

impl<C: Clock + Clone> Buckets<C> {
    pub(super) fn new(limits: &RequestLimits, clock: &C) -> Self {
        let limiter = |(class, allowance): (RouteClass, Allowance)| {
            let table = Table(Cache::new(MOST_CLIENTS));
            let limiter: Limiter<C> = RateLimiter::new(pace(allowance), table, clock.clone());
            (class, limiter)
        };
        Self {
            limiters: limits.each().map(limiter).collect(),
        }
    }

    /// Counts a request, unless it is one too many.
    pub(super) fn count(&self, class: RouteClass, client: &Client) -> Decision {
        let unlimited = Decision {
            verdict: Verdict::Admitted,
            remaining: u32::MAX,
        };
        let Some((_, limiter)) = self.limiters.iter().find(|(known, _)| *known == class) else {
            return unlimited;
        };
        match limiter.check_key(client) {
            Ok(state) => Decision {
                verdict: Verdict::Admitted,
                remaining: state.remaining_burst_capacity(),
            },
            Err(until) => {
                let wait = until.wait_time_from(limiter.clock().now());
                Decision {
                    verdict: Verdict::Refused {
                        retry_after_seconds: whole_seconds(wait.as_micros()),
                    },
                    remaining: 0,
                }
            }
        }
    }
}

/// At least one.
pub(super) fn whole_seconds(micros: u128) -> u64 {
    u64::try_from(micros.div_ceil(1_000_000))
        .unwrap_or(u64::MAX)
        .max(1)
}

fn pace(allowance: Allowance) -> Quota {
    let window = std::time::Duration::from_secs(allowance.window_seconds.get().into());
    let quota = allowance.quota;
    // A window of a second and more, over 2^32 requests at most, is no pace of nothing.
    Quota::with_period(window / quota.get())
        .unwrap_or_else(|| Quota::per_second(quota))
        .allow_burst(quota)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;

    use super::*;

    const CLIENT: Client = [1; 16];

    fn refused(decision: Decision) -> Option<u64> {
        match decision.verdict {
            Verdict::Admitted => None,
            Verdict::Refused {
                retry_after_seconds,
            } => Some(retry_after_seconds),
        }
    }

    #[test]
    fn a_burst_is_taken_at_once_and_comes_back_bit_by_bit() {
        let clock = FakeRelativeClock::default();
        let limits = "read=6/60".parse().unwrap();
        let buckets = Buckets::new(&limits, &clock);
        let count = || buckets.count(RouteClass::Read, &CLIENT);
        for left in (0..6).rev() {
            assert_eq!(count().remaining, left);
        }
        assert_eq!(refused(count()), Some(10));
        clock.advance(Duration::from_secs(9));
        assert_eq!(refused(count()), Some(1));
        clock.advance(Duration::from_secs(1));
        assert_eq!(refused(count()), None);
        assert_eq!(refused(count()), Some(10));
        clock.advance(Duration::from_secs(600));
        assert_eq!(count().remaining, 5);
    }

    #[test]
    fn clients_and_classes_do_not_know_each_other() {
        let limits = "read=1/60,write=1/60,upload=off".parse().unwrap();
        let buckets = Buckets::new(&limits, &FakeRelativeClock::default());
        assert_eq!(refused(buckets.count(RouteClass::Read, &CLIENT)), None);
        assert_eq!(refused(buckets.count(RouteClass::Read, &CLIENT)), Some(60));
        assert_eq!(refused(buckets.count(RouteClass::Read, &[2; 16])), None);
        assert_eq!(refused(buckets.count(RouteClass::Write, &CLIENT)), None);
        for _ in 0..10 {
            assert_eq!(refused(buckets.count(RouteClass::Upload, &CLIENT)), None);
        }
    }

    #[test]
    fn a_flood_from_many_addresses_is_counted_in_bounded_memory() {
        let limits = "unproven=2/60".parse().unwrap();
        let buckets = Buckets::new(&limits, &FakeRelativeClock::default());
        for n in 0..5 * MOST_CLIENTS as u128 {
            assert_eq!(
                refused(buckets.count(RouteClass::Unproven, &n.to_be_bytes())),
                None
            );
        }
        let (_, limiter) = buckets
            .limiters
            .into_iter()
            .find(|(class, _)| *class == RouteClass::Unproven)
            .unwrap();
        assert!(limiter.into_state_store().0.len() <= MOST_CLIENTS);
    }
}
