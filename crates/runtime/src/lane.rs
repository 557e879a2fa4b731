//! A lane carries out the work of one queue: so much at once, each within its time, none in the way of another.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use rawdrive_store::in_background;
use rawdrive_tenancy_core::{Causes, StoreError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::job::{Handler, JobError};
use crate::queue::{POLL, Queue, pause};

/// How long one attempt may take: less than its lease, so that nobody else has begun the next one.
const ATTEMPT: Duration = Duration::from_secs(50);
/// So many times at which something is due again are kept.
const MOST_TIMES: usize = 256;

/// Becomes true when the runtime is to end.
pub(crate) type Ending = watch::Receiver<bool>;

pub(crate) struct Lane<Q: Queue> {
    pub(crate) queue: Q,
    pub(crate) handler: Handler<Q::Item>,
    pub(crate) concurrency: u32,
}

impl<Q: Queue> Lane<Q> {
    /// Works until the runtime ends; what has begun then is finished. Dropping it breaks off what has begun.
    pub(crate) async fn run(self, mut ending: Ending) {
        let mut running: JoinSet<Option<Duration>> = JoinSet::new();
        let mut cursor = Q::Cursor::default();
        // Whether there may be work, and when there is some again.
        let mut look = true;
        let mut again = BTreeSet::new();
        loop {
            while let Some(ended) = running.try_join_next() {
                note(&mut again, ended.ok().flatten());
            }
            let room = self.concurrency.saturating_sub(running.len() as u32);
            if look && room > 0 {
                match self.queue.lease(&mut cursor, room).await {
                    Ok(round) => {
                        look = round.more;
                        for item in round.items {
                            let (queue, handler) = (self.queue.clone(), self.handler.clone());
                            running.spawn(in_background(attempt(queue, handler, item)));
                        }
                    }
                    Err(error) => {
                        let kind = self.queue.name();
                        tracing::warn!(error = %Causes(&error), kind, "a lane waits for the database");
                        look = false;
                        note(&mut again, Some(POLL));
                    }
                }
                // The runtime may have ended meanwhile, and what has begun wants its turn.
                if !*ending.borrow() {
                    tokio::task::yield_now().await;
                }
            }
            if *ending.borrow() {
                break;
            }
            if look && running.len() < self.concurrency as usize {
                continue;
            }
            let next = again.first().copied();
            tokio::select! {
                () = self.queue.arrived() => look = true,
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    look = true;
                    let now = Instant::now();
                    again.retain(|at| *at > now);
                }
                Some(ended) = running.join_next() => note(&mut again, ended.ok().flatten()),
                ended = ending.changed() => if ended.is_err() { break },
            }
        }
        while running.join_next().await.is_some() {}
    }
}

/// Something is due again after that time. Each time is kept: one that comes first must not hide those behind it. Beyond
/// so many, the look for all lanes finds what is due.
fn note(again: &mut BTreeSet<Instant>, after: Option<Duration>) {
    again.extend(after.map(|after| Instant::now() + after));
    if again.len() > MOST_TIMES {
        again.pop_last();
    }
}

/// Why an attempt came to no end of its own.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("it took longer than {} s", ATTEMPT.as_secs())]
    TooLong,
    #[error("it panicked: {0}")]
    Panicked(String),
}

/// Carries one item out, and says after how long it is due again if it is.
async fn attempt<Q: Queue>(queue: Q, handler: Handler<Q::Item>, item: Q::Item) -> Option<Duration> {
    let (kind, attempts, job) = (queue.name(), Q::attempts(&item), Q::label(&item));
    let work = AssertUnwindSafe(async { handler(item.clone()).await }).catch_unwind();
    let ended = match timeout(ATTEMPT, work).await {
        Ok(Ok(ended)) => ended,
        Ok(Err(panic)) => Err(JobError::retry(Broken::Panicked(told(&*panic)))),
        Err(_) => Err(JobError::retry(Broken::TooLong)),
    };
    let (again, noted) = match ended {
        Ok(()) => (None, queue.finish(&item).await),
        Err(error) if error.gives_up() => {
            tracing::error!(error = %Causes(error.cause()), kind, job, attempts, "a job is given up");
            (None, queue.finish(&item).await)
        }
        Err(error) => {
            tracing::warn!(error = %Causes(error.cause()), kind, job, attempts, "a job failed and is tried again");
            (Some(pause(attempts)), queue.retry(&item).await)
        }
    };
    noted.map_or_else(|error| lost(kind, &error), |()| again)
}

/// The end of an attempt was not written: the lease ends, and the job is done again.
fn lost(kind: &str, error: &StoreError) -> Option<Duration> {
    tracing::warn!(error = %Causes(error), kind, "a job's end was not recorded: it is done again");
    None
}

/// What a panic said.
fn told(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
