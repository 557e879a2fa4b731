//! How long the database's answers are waited for.
//!
//! A request waits in line for a connection as long as the database answers others. Once it has one, an answer that does
//! not come within [`FROZEN`] is given up, as is the line of a database that has answered nobody for so long: a frozen
//! database, or a connection that has gone silent, is told within five seconds on every route.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::futures::TaskLocalFuture;
use tokio::time::{Instant, timeout_at};

/// A database that has not answered for so long is taken to be frozen.
const FROZEN: Duration = Duration::from_secs(4);
/// The least that is waited: what follows a wait that was given up is tried, briefly.
const LEAST: Duration = Duration::from_millis(50);
/// Waits with no more than this between them are one wait.
const BETWEEN: Duration = Duration::from_secs(1);

tokio::task_local! {
    static WAITS: Waits;
}

/// What a task knows of its waits for the database.
#[derive(Debug)]
pub struct Waits {
    /// Long statements are expected: only their own limit ends them.
    is_patient: bool,
    /// Since when the task waits without having had an answer, and until when it did.
    unanswered: Cell<Option<(Instant, Instant)>>,
}

impl Waits {
    /// A wait begins; answers since when the database owes an answer.
    fn begin(&self, now: Instant) -> Instant {
        let since = match self.unanswered.get() {
            Some((since, until)) if now <= until + BETWEEN => since,
            _ => now,
        };
        self.unanswered.set(Some((since, now)));
        since
    }

    /// A wait has ended.
    fn end(&self) {
        let unanswered = self.unanswered.get();
        self.unanswered
            .set(unanswered.map(|(since, _)| (since, Instant::now())));
    }
}

fn waits(is_patient: bool) -> Waits {
    Waits {
        is_patient,
        unanswered: Cell::new(None),
    }
}

/// Runs a request: its waits for a database that is frozen end within five seconds in all, also where it goes on after
/// the first of them to give something back.
pub fn in_request<F: Future>(work: F) -> InRequest<F> {
    WAITS.scope(waits(false), work)
}

/// What [`in_request`] answers.
pub type InRequest<F> = TaskLocalFuture<Waits, F>;

/// Runs work in the background or for an operator, whose statements may take as long as the database lets them.
pub fn in_background<F: Future>(work: F) -> TaskLocalFuture<Waits, F> {
    WAITS.scope(waits(true), work)
}

/// Runs one operation of several waits. As part of a request it shares the request's time.
pub(crate) async fn within_one_deadline<T>(work: impl Future<Output = T>) -> T {
    match WAITS.try_with(|_| ()) {
        Ok(()) => work.await,
        Err(_) => in_request(work).await,
    }
}

/// The wait was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it did not answer in time")]
pub(crate) struct TooLong;

/// When the database last answered anybody, and whether it has room. Clones tell the same.
#[derive(Debug, Clone)]
pub(crate) struct Pulse(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    origin: Instant,
    /// Milliseconds after the origin.
    last: AtomicU64,
    /// The last write found no room.
    is_full: AtomicBool,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            origin: Instant::now(),
            last: AtomicU64::new(0),
            is_full: AtomicBool::new(false),
        }))
    }

    /// The database has answered.
    pub(crate) fn beat(&self) {
        let passed = self.0.origin.elapsed().as_millis();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        self.0.last.fetch_max(passed, Ordering::Relaxed);
        let _ = WAITS.try_with(|waits| waits.unanswered.set(None));
    }

    /// A write found no room, or was durable.
    pub(crate) fn note_full(&self, is_full: bool) {
        self.0.is_full.store(is_full, Ordering::Relaxed);
    }

    /// Whether the last write found no room.
    pub(crate) fn is_full(&self) -> bool {
        self.0.is_full.load(Ordering::Relaxed)
    }

    fn last(&self) -> Instant {
        self.0.origin + Duration::from_millis(self.0.last.load(Ordering::Relaxed))
    }

    /// Waits for a connection: for at most `limit`, and for no longer than the database answers others.
    pub(crate) async fn in_line<T>(
        &self,
        limit: Duration,
        turn: impl Future<Output = T>,
    ) -> Result<T, TooLong> {
        let mut turn = pin!(turn);
        let wait = Wait::begin(limit);
        loop {
            let alive = self.last().max(wait.since);
            match timeout_at(wait.until(alive), &mut turn).await {
                Ok(turn) => return Ok(turn),
                Err(_) if Instant::now() < wait.end && self.last() > alive => {}
                Err(_) => return Err(TooLong),
            }
        }
    }

    /// Waits for an answer: for at most `limit`, and for at most [`FROZEN`] unless the work is in the background.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        answer: impl Future<Output = T>,
    ) -> Result<T, TooLong> {
        let wait = Wait::begin(limit);
        let until = wait.until(self.last().max(wait.since));
        timeout_at(until, answer).await.map_err(|_| TooLong)
    }
}

/// A wait that is under way.
struct Wait {
    start: Instant,
    end: Instant,
    since: Instant,
    is_patient: bool,
}

impl Wait {
    fn begin(limit: Duration) -> Self {
        let start = Instant::now();
        let (since, is_patient) = WAITS
            .try_with(|waits| (waits.begin(start), waits.is_patient))
            .unwrap_or((start, false));
        Self {
            start,
            end: start + limit,
            since,
            is_patient,
        }
    }

    /// When the wait is given up, if the database was last alive then.
    fn until(&self, alive: Instant) -> Instant {
        if self.is_patient {
            self.end
        } else {
            (alive + FROZEN).max(self.start + LEAST).min(self.end)
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let _ = WAITS.try_with(Waits::end);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    async fn wait(pulse: &Pulse) -> (bool, Duration) {
        let start = Instant::now();
        let answered = pulse.within(LIMIT, pending::<()>()).await.is_ok();
        (answered, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn all_waits_of_a_request_together_end_soon_when_nobody_is_answered() {
        let pulse = Pulse::new();
        in_request(async {
            assert_eq!(wait(&pulse).await, (false, FROZEN));
            // To give something back, say.
            for _ in 0..3 {
                assert_eq!(wait(&pulse).await, (false, LEAST));
            }
            pulse.beat();
            assert_eq!(wait(&pulse).await, (false, FROZEN));
            // Something else was done meanwhile.
            tokio::time::sleep(2 * BETWEEN).await;
            assert_eq!(wait(&pulse).await, (false, FROZEN));
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_and_its_first_answer_are_one_wait() {
        let pulse = Pulse::new();
        let start = Instant::now();
        within_one_deadline(async {
            let waited = pulse.in_line(LIMIT, tokio::time::sleep(FROZEN / 2)).await;
            assert!(waited.is_ok());
            assert_eq!(wait(&pulse).await, (false, FROZEN / 2));
        })
        .await;
        assert_eq!(start.elapsed(), FROZEN);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_in_line_waits_as_long_as_others_are_answered() {
        let pulse = Pulse::new();
        let others = pulse.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                others.beat();
            }
        });
        let start = Instant::now();
        let turn = in_request(pulse.in_line(LIMIT, pending::<()>())).await;
        assert_eq!(turn, Err(TooLong));
        assert_eq!(start.elapsed(), Duration::from_secs(10) + FROZEN);
    }

    #[tokio::test(start_paused = true)]
    async fn work_in_the_background_waits_for_its_own_limit_alone() {
        let pulse = Pulse::new();
        assert_eq!(in_background(wait(&pulse)).await, (false, LIMIT));
    }
}
