//! Time, ids and randomness as an argument.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use uuid::Uuid;

use crate::id::TypedId;

/// A source of the current time.
pub trait Clock: Send + Sync {
    /// The current time; [`Env`] rounds it down to microseconds, the finest that both databases keep.
    fn now(&self) -> DateTime<Utc>;
}

/// A source of unpredictable bytes.
pub trait Entropy: Send + Sync {
    /// Fills the whole buffer.
    fn fill(&self, buffer: &mut [u8]);
}

/// What a decision takes as an argument: clock, ids, randomness. Cheap to clone.
#[derive(Clone)]
pub struct Env {
    clock: Arc<dyn Clock>,
    lease_clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Env").finish_non_exhaustive()
    }
}

impl Env {
    /// The machine's clock and random number generator.
    #[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
    #[must_use]
    pub fn system() -> Self {
        Self::new(
            Arc::new(SystemClock),
            Arc::new(SystemClock),
            Arc::new(SystemEntropy),
        )
    }

    /// Decisions by `clock`; leases, holds and backoff always by the machine's own clock.
    #[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self::new(clock, Arc::new(SystemClock), Arc::new(SystemEntropy))
    }

    /// All three sources chosen: for tests.
    #[must_use]
    pub fn new(
        clock: Arc<dyn Clock>,
        lease_clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self {
            clock,
            lease_clock,
            entropy,
        }
    }

    /// The time by which decisions are made and tokens signed, in whole microseconds.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        to_microseconds(self.clock.now())
    }

    /// The time by which leases, holds and backoff run: real time, also under a development clock.
    #[must_use]
    pub fn lease_now(&self) -> DateTime<Utc> {
        to_microseconds(self.lease_clock.now())
    }

    /// Fresh unpredictable bytes.
    #[must_use]
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes);
        bytes
    }

    /// A fresh UUIDv7 (RFC 9562): milliseconds, then 74 random bits.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        let millis = u64::try_from(self.clock.now().timestamp_millis()).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &self.bytes()).into_uuid()
    }

    /// A fresh typed id.
    #[must_use]
    pub fn id<I: TypedId>(&self) -> I {
        I::from_uuid(self.uuid())
    }
}

fn to_microseconds(at: DateTime<Utc>) -> DateTime<Utc> {
    at.duration_trunc(TimeDelta::microseconds(1)).unwrap_or(at)
}

/// The machine's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place that reads the machine's clock"
        )]
        SystemTime::now().into()
    }
}

/// The operating system's random number generator.
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
#[derive(Debug, Clone, Copy)]
pub struct SystemEntropy;

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        // Without entropy no secret is secret: stopping is the only safe answer.
        getrandom::fill(buffer).expect("the operating system's random number generator answers");
    }
}

/// The development clock: a file whose RFC 3339 time is now, followed by edits. An unreadable or
/// half-written file leaves the last good time in force.
#[derive(Debug)]
pub struct FileClock {
    path: PathBuf,
    last: Mutex<(Option<SystemTime>, DateTime<Utc>)>,
}

impl FileClock {
    /// Opens the file.
    ///
    /// # Errors
    /// The file cannot be read or holds no RFC 3339 time.
    pub fn open(path: PathBuf) -> Result<Self, FileClockError> {
        let at = Self::read(&path)?;
        Ok(Self {
            path,
            last: Mutex::new((None, at)),
        })
    }

    fn read(path: &std::path::Path) -> Result<DateTime<Utc>, FileClockError> {
        let text = std::fs::read_to_string(path).map_err(FileClockError::Unreadable)?;
        let at = DateTime::parse_from_rfc3339(text.trim()).map_err(FileClockError::NoTime)?;
        Ok(at.with_timezone(&Utc))
    }
}

/// Why a development clock cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileClockError {
    /// The file cannot be read.
    #[error("failed to read the development clock's file")]
    Unreadable(#[source] std::io::Error),
    /// The file holds something else.
    #[error(
        "failed to read an RFC 3339 time such as 2026-01-31T12:00:00Z from the development clock's file"
    )]
    NoTime(#[source] chrono::ParseError),
}

impl Clock for FileClock {
    fn now(&self) -> DateTime<Utc> {
        let modified = std::fs::metadata(&self.path)
            .and_then(|m| m.modified())
            .ok();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Rereading only a changed file would miss two edits within the file system's tick; a read of
        // 30 bytes is cheap, and this clock is for development alone.
        if let Ok(at) = Self::read(&self.path) {
            *last = (modified, at);
        }
        last.1
    }
}

/// A clock that stands still until it is told otherwise: for tests.
#[derive(Debug)]
pub struct ManualClock(Mutex<DateTime<Utc>>);

impl ManualClock {
    /// Starts at the given time.
    #[must_use]
    pub fn at(start: DateTime<Utc>) -> Self {
        Self(Mutex::new(start))
    }

    /// Moves forward (or back).
    pub fn advance(&self, by: TimeDelta) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{SessionId, TypedId};

    #[test]
    fn ids_are_version_7_and_carry_the_clock() {
        let start = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let clock = Arc::new(ManualClock::at(start));
        let env = Env::with_clock(clock.clone());
        let first = env.id::<SessionId>();
        clock.advance(TimeDelta::milliseconds(1));
        let second = env.id::<SessionId>();
        assert_eq!(first.uuid().get_version_num(), 7);
        assert!(first < second);
    }
}
