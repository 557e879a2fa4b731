//! Time that a test moves; ids and bytes that a seed decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_tenancy_core::Env;
use rawdrive_tenancy_core::env::{Entropy, ManualClock};

/// An [`Env`] of which a test decides everything. It begins on 21 September 2026.
#[derive(Debug, Clone)]
pub struct TestEnv {
    env: Env,
    clock: Arc<ManualClock>,
    lease_clock: Arc<ManualClock>,
    entropy: Arc<SeededEntropy>,
}

impl TestEnv {
    /// An environment whose ids and bytes follow from the seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        let start = DateTime::UNIX_EPOCH + TimeDelta::seconds(1_790_000_000);
        let entropy = Arc::new(SeededEntropy(AtomicU64::new(seed)));
        Self::starting(start, start, entropy)
    }

    /// An environment at the same time, which passes there by itself from now on; ids and bytes come from the same
    /// sequence, so that none is made twice. With [`MemoryStore::at`](crate::MemoryStore::at), a clock for one workspace.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self::starting(
            self.env.now(),
            self.env.lease_now(),
            Arc::clone(&self.entropy),
        )
    }

    fn starting(now: DateTime<Utc>, lease_now: DateTime<Utc>, entropy: Arc<SeededEntropy>) -> Self {
        let clock = Arc::new(ManualClock::at(now));
        let lease_clock = Arc::new(ManualClock::at(lease_now));
        Self {
            env: Env::new(clock.clone(), lease_clock.clone(), entropy.clone()),
            clock,
            lease_clock,
            entropy,
        }
    }

    /// What code under test is given.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Lets time pass: that of decisions, and that of leases and holds.
    pub fn advance(&self, by: TimeDelta) {
        self.clock.advance(by);
        self.advance_leases(by);
    }

    /// Lets time pass for leases and holds alone, as under a development clock that stands still.
    pub fn advance_leases(&self, by: TimeDelta) {
        self.lease_clock.advance(by);
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): every seed gives another sequence, and none is short.
#[derive(Debug)]
struct SeededEntropy(AtomicU64);

impl Entropy for SeededEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        for chunk in buffer.chunks_mut(8) {
            let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            let bytes = (z ^ (z >> 31)).to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_every_id_and_byte() {
        let ids = |seed| {
            let test_env = TestEnv::seeded(seed);
            [(); 3].map(|()| test_env.env().uuid())
        };
        assert_eq!(ids(1), ids(1));
        assert_ne!(ids(1), ids(2));
        let [a, b, c] = ids(1);
        assert!(a != b && b != c && a != c);
    }

    #[test]
    fn time_beside_passes_by_itself_and_no_id_is_made_twice() {
        let here = TestEnv::seeded(1);
        here.advance(TimeDelta::hours(1));
        let there = here.beside();
        assert_eq!(there.env().now(), here.env().now());
        there.advance(TimeDelta::days(1));
        assert_eq!(there.env().now() - here.env().now(), TimeDelta::days(1));
        assert_eq!(
            there.env().lease_now() - here.env().lease_now(),
            TimeDelta::days(1)
        );
        assert_ne!(here.env().uuid(), there.env().uuid());
    }

    #[test]
    fn leases_can_age_while_decisions_stand_still() {
        let test_env = TestEnv::seeded(1);
        let (now, real) = (test_env.env().now(), test_env.env().lease_now());
        test_env.advance_leases(TimeDelta::seconds(61));
        assert_eq!(test_env.env().now(), now);
        test_env.advance(TimeDelta::seconds(1));
        assert_eq!(test_env.env().now(), now + TimeDelta::seconds(1));
        assert_eq!(test_env.env().lease_now(), real + TimeDelta::seconds(62));
    }
}
