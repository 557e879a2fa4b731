//! Usage as it is read in real time: commits publish to a cache, readers are told what it holds, and nobody
//! waits for a cache that is known not to answer.
//!
//! Invariant: a reader is told of a workspace only while everything that this process has committed of it, and
//! what others have committed until the republisher's last round, is in the cache. Whatever fails in between
//! makes this process fall back on SQL until the [republisher](crate::Republisher) has repeated what was missed.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rawdrive_tenancy_core::Causes;
use rawdrive_tenancy_core::id::WorkspaceId;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};

use crate::QuotaKey;
use crate::usage_cache::{
    CACHE_PATIENCE, LiveRow, UsageCache, UsageCacheCondition, UsageCacheError, WorkspaceRows,
};

/// How many rows wait for publication at most. A cache that is that far behind has failed: what overflows is
/// left to the republisher, which finds it in SQL.
const MOST_WAITING: usize = 4096;
/// How many workspaces are filled beside their requests at once.
const MOST_FILLING: usize = 4;

/// How long a gap may be filled with what was read because of it: less than the republisher looks back.
const GAP_LASTS: Duration = Duration::from_secs(1);

/// What a cache says of a workspace's counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// These, in the order in which they were asked for.
    Rows(Vec<LiveRow>),
    /// It does not hold all of them: read SQL, and [fill](LiveUsage::fill_beside) the gap.
    Missing(Gap),
    /// It cannot be asked, or may lag: read SQL.
    Unavailable,
}

/// Counters that a cache did not hold when it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    losses: u64,
    seen: Instant,
}

/// What is known of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// It did not answer. Nobody asks it but the republisher.
    Down,
    /// It answers, and may not have everything.
    Behind,
    /// It has everything.
    Live,
}

type Rows = HashMap<WorkspaceId, HashMap<QuotaKey, LiveRow>>;

struct State {
    link: Link,
    /// How often something was lost: what was begun before is no proof of wholeness after.
    losses: u64,
    /// Whether the operator was told that it does not answer.
    told: bool,
    /// The newest version of each row that waits for the next batch.
    waiting: Rows,
    waiting_rows: usize,
    /// Whose rows are on their way.
    in_flight: HashSet<WorkspaceId>,
    /// The number of the batch that is being collected.
    batch: u64,
    /// Whether a task sends batches.
    flushing: bool,
}

impl State {
    fn lose(&mut self) {
        self.losses += 1;
        self.waiting.clear();
        self.waiting_rows = 0;
        if self.link == Link::Live {
            self.link = Link::Behind;
        }
    }
}

struct Shared {
    cache: Arc<dyn UsageCache>,
    state: Mutex<State>,
    /// The number of the newest batch that has ended, well or not.
    ended: watch::Sender<u64>,
    fills: Arc<Semaphore>,
}

/// What the server's commits and readers have of the cache. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct LiveUsage(Arc<Shared>);

impl fmt::Debug for LiveUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveUsage")
            .field("cache", &self.0.cache)
            .field("link", &self.state().link)
            .finish_non_exhaustive()
    }
}

impl LiveUsage {
    /// Live usage in a cache, which is not asked before a [`Republisher`](crate::Republisher) has reached it.
    #[must_use]
    pub fn new(cache: Arc<dyn UsageCache>) -> Self {
        Self(Arc::new(Shared {
            cache,
            state: Mutex::new(State {
                link: Link::Down,
                losses: 0,
                told: false,
                waiting: Rows::new(),
                waiting_rows: 0,
                in_flight: HashSet::new(),
                batch: 1,
                flushing: false,
            }),
            ended: watch::Sender::new(0),
            fills: Arc::new(Semaphore::new(MOST_FILLING)),
        }))
    }

    /// Publishes what a commit has left, together with what other commits leave meanwhile, and waits until that
    /// has ended, for at most [`CACHE_PATIENCE`]. It cannot fail: what is lost is repeated from SQL.
    pub async fn publish(&self, workspace: WorkspaceId, rows: Vec<LiveRow>) {
        let Some(batch) = self.enqueue(workspace, rows) else {
            return;
        };
        let mut ended = self.0.ended.subscribe();
        // Late: the answer does not wait any longer, and readers read SQL for as long as the rows wait.
        let _ = timeout(CACHE_PATIENCE, ended.wait_for(|ended| *ended >= batch)).await;
    }

    /// What the cache says of the workspace's own counters (without a subject).
    pub async fn read(&self, workspace: WorkspaceId, keys: &[QuotaKey]) -> Reading {
        let losses = {
            let state = self.state();
            if state.link != Link::Live
                || state.waiting.contains_key(&workspace)
                || state.in_flight.contains(&workspace)
            {
                return Reading::Unavailable;
            }
            state.losses
        };
        let seen = Instant::now();
        match within(self.0.cache.read(workspace, keys)).await {
            Ok(Some(rows)) => Reading::Rows(rows),
            Ok(None) => Reading::Missing(Gap { losses, seen }),
            Err(error) => {
                self.fall(&error);
                Reading::Unavailable
            }
        }
    }

    /// Fills a workspace's periods beside the request that has found them missing, with what SQL held in them
    /// afterwards. Where much is missing at once, the rest is left to the republisher and to later readers. So is a
    /// gap of another connection, or of a while ago: what was published meanwhile may be gone since.
    pub fn fill_beside(
        &self,
        gap: Gap,
        workspace: WorkspaceId,
        periods: Vec<DateTime<Utc>>,
        rows: Vec<LiveRow>,
    ) {
        let Ok(permit) = self.0.fills.clone().try_acquire_owned() else {
            return;
        };
        let live = self.clone();
        tokio::spawn(async move {
            let _permit = permit;
            if gap.seen.elapsed() > GAP_LASTS || live.losses() != gap.losses {
                return;
            }
            if let Err(error) = live.fill(workspace, &periods, &rows).await {
                live.fall(&error);
            }
        });
    }

    /// Whether the cache answers, as far as is known: the republisher asks it every second.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.state().link != Link::Down
    }

    /// Whether readers are told what the cache holds.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.state().link == Link::Live
    }

    fn enqueue(&self, workspace: WorkspaceId, rows: Vec<LiveRow>) -> Option<u64> {
        let mut state = self.state();
        if state.link == Link::Down || rows.is_empty() {
            return None;
        }
        let waiting = state.waiting.entry(workspace).or_default();
        let before = waiting.len();
        for row in rows {
            keep_newest(waiting, row);
        }
        let more = waiting.len() - before;
        state.waiting_rows += more;
        if state.waiting_rows > MOST_WAITING {
            state.lose();
            return None;
        }
        if !state.flushing {
            state.flushing = true;
            tokio::spawn(flush(self.clone()));
        }
        Some(state.batch)
    }

    /// The next batch with its number; nothing, and no task any more, when no row waits.
    fn take(&self) -> Option<(u64, Vec<WorkspaceRows>)> {
        let mut state = self.state();
        let number = state.batch;
        state.batch += 1;
        let rows = std::mem::take(&mut state.waiting);
        state.waiting_rows = 0;
        if rows.is_empty() {
            state.flushing = false;
            self.0.ended.send_replace(number);
            return None;
        }
        state.in_flight = rows.keys().copied().collect();
        let rows = rows.into_iter();
        let rows = rows.map(|(workspace, rows)| (workspace, rows.into_values().collect()));
        Some((number, rows.collect()))
    }

    fn landed(&self, number: u64) {
        self.state().in_flight.clear();
        self.0.ended.send_replace(number);
    }

    /// Sends rows now.
    pub(crate) async fn send(&self, mut rows: Vec<WorkspaceRows>) -> Result<(), UsageCacheError> {
        // What does not fit must not leave an older value behind either.
        let mut unfit = Vec::new();
        for (workspace, rows) in &mut rows {
            rows.retain(|row| {
                if !row.fits() {
                    unfit.push((*workspace, row.key.period_start));
                }
                row.fits()
            });
        }
        rows.retain(|(_, rows)| !rows.is_empty());
        within(self.0.cache.publish(&rows)).await?;
        for (workspace, period) in unfit {
            within(self.0.cache.forget(workspace, &[period])).await?;
        }
        Ok(())
    }

    /// Fills periods now.
    pub(crate) async fn fill(
        &self,
        workspace: WorkspaceId,
        periods: &[DateTime<Utc>],
        rows: &[LiveRow],
    ) -> Result<(), UsageCacheError> {
        if !rows.iter().all(LiveRow::fits) {
            return Ok(());
        }
        within(self.0.cache.fill(workspace, periods, rows)).await
    }

    /// Puts what SQL holds in the place of what it cannot ever have held.
    pub(crate) async fn replace(
        &self,
        workspace: WorkspaceId,
        periods: &[DateTime<Utc>],
        rows: &[LiveRow],
    ) -> Result<(), UsageCacheError> {
        within(self.0.cache.forget(workspace, periods)).await?;
        self.fill(workspace, periods, rows).await
    }

    /// As [`UsageCache::read`], whatever is known of the cache.
    pub(crate) async fn peek(
        &self,
        workspace: WorkspaceId,
        keys: &[QuotaKey],
    ) -> Result<Option<Vec<LiveRow>>, UsageCacheError> {
        within(self.0.cache.read(workspace, keys)).await
    }

    pub(crate) async fn covered(&self) -> Result<Option<DateTime<Utc>>, UsageCacheError> {
        within(self.0.cache.covered()).await
    }

    pub(crate) async fn cover(&self, until: DateTime<Utc>) -> Result<(), UsageCacheError> {
        within(self.0.cache.cover(until)).await
    }

    /// Connects anew; from then on commits publish.
    pub(crate) async fn connect(&self) -> Result<UsageCacheCondition, UsageCacheError> {
        self.0.cache.connect().await?;
        let condition = within(self.0.cache.inspect()).await?;
        let mut state = self.state();
        state.link = Link::Behind;
        state.losses += 1;
        Ok(condition)
    }

    pub(crate) fn losses(&self) -> u64 {
        self.state().losses
    }

    /// The cache has everything, unless something was lost since [`LiveUsage::losses`] was asked.
    pub(crate) fn caught_up(&self, losses: u64) {
        let mut state = self.state();
        if state.link == Link::Behind && state.losses == losses {
            state.link = Link::Live;
            state.told = false;
            drop(state);
            tracing::info!("live usage is read from the mirror");
        }
    }

    /// The cache does not answer: nobody asks it any more until the republisher has reached it again.
    pub(crate) fn fall(&self, error: &UsageCacheError) {
        let mut state = self.state();
        state.lose();
        state.link = Link::Down;
        let told = std::mem::replace(&mut state.told, true);
        drop(state);
        if !told {
            tracing::warn!(
                error = %Causes(error),
                "the mirror does not answer: usage is read from the database meanwhile"
            );
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep_newest(rows: &mut HashMap<QuotaKey, LiveRow>, row: LiveRow) {
    match rows.get_mut(&row.key) {
        Some(held) if held.version >= row.version => {}
        Some(held) => *held = row,
        None => drop(rows.insert(row.key.clone(), row)),
    }
}

async fn within<T>(
    answer: impl Future<Output = Result<T, UsageCacheError>>,
) -> Result<T, UsageCacheError> {
    let late = |_| Err(UsageCacheError::TooLate(CACHE_PATIENCE));
    timeout(CACHE_PATIENCE, answer).await.unwrap_or_else(late)
}

/// Sends batches, one after the other, until no row waits: while one is on its way the next is collected.
async fn flush(live: LiveUsage) {
    let broken_off = BrokenOff(&live);
    while let Some((number, rows)) = live.take() {
        if let Err(error) = live.send(rows).await {
            live.fall(&error);
        }
        live.landed(number);
    }
    std::mem::forget(broken_off);
}

/// Its runtime may end before the task does: then another task has to be possible.
struct BrokenOff<'a>(&'a LiveUsage);

impl Drop for BrokenOff<'_> {
    fn drop(&mut self) {
        self.0.fall(&UsageCacheError::NotConnected);
        let mut state = self.0.state();
        state.flushing = false;
        state.in_flight.clear();
        state.batch += 1;
        self.0.0.ended.send_replace(state.batch - 1);
    }
}
