//! The republisher: repeats to the cache what it may have missed, from what SQL holds.
//!
//! | what happens | what makes it right |
//! | --- | --- |
//! | a publication fails or is late | this process reads SQL until a round has repeated what changed since the last one |
//! | a server dies between commit and publication | the others' next round finds the row by its time of change; after its own start a server reads SQL until its first round |
//! | the cache is emptied | no period is whole: readers read SQL and fill it, and the republisher fills every workspace |
//! | the cache restarts, empty or from an old dump | it is another instance, in which no period is whole |
//! | the cache hangs | the first request waits, the others are not told to ask it; then as for a failed publication |
//! | it holds what SQL never held (the database was restored from a backup) | a rotating look at every workspace puts SQL's word in its place |
//!
//! Nothing of it is on the path of a request: a commit's statements note the time of change beside the counter.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::{Causes, StoreError};
use tokio::time::{Instant, sleep};

use crate::live_usage::LiveUsage;
use crate::usage_cache::{CACHE_DAYS, LiveRow, UsageCache, UsageCacheError, WorkspaceRows};

/// How long the republisher rests between rounds. With what a round takes, well below the 5 s within which a
/// missed publication is repeated.
const REST: Duration = Duration::from_secs(1);
/// Changes become visible a while after the time that they are noted with (a transaction lasts, servers'
/// clocks differ): each round begins so long before the last one.
const OVERLAP: TimeDelta = TimeDelta::seconds(10);
/// As [`OVERLAP`], at a process's start, when it is cheap to look back further.
const OVERLAP_AT_START: TimeDelta = TimeDelta::seconds(60);
/// How many workspaces are listed at once.
const PAGE: u32 = 200;
/// How many rows are published at once.
const BATCH_ROWS: usize = 512;
/// How much of a round may be spent on filling an empty cache.
const FILL_SLICE: Duration = Duration::from_millis(500);
/// How many workspaces a round looks at for what nothing else explains.
const SAMPLE: u32 = 16;
/// When a difference is looked at again before an operator is told. A publication is awaited for 250 ms.
const LOOK_AGAIN: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(1),
];
/// Of flows, periods that began earlier have ended and expired.
const OLDEST_PERIOD: TimeDelta = TimeDelta::days(31 + CACHE_DAYS);

/// That something changed in a workspace since a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangedWorkspace {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// How many of its rows changed.
    pub rows: u64,
    /// The sum of their versions: it grows with each further change.
    pub versions: u64,
}

/// What the republisher reads of SQL. Its answers are of what was committed when it was asked, or newer.
pub trait LiveSource {
    /// The time by which changes are noted.
    fn now(&self) -> DateTime<Utc>;

    /// Workspaces with rows that changed at `since` or later, by id, of those `after` one, at most `limit`.
    fn changed(
        &self,
        since: DateTime<Utc>,
        after: Option<WorkspaceId>,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<ChangedWorkspace>, StoreError>> + Send;

    /// The workspace's rows that changed at `since` or later.
    fn rows_changed(
        &self,
        workspace: WorkspaceId,
        since: DateTime<Utc>,
    ) -> impl Future<Output = Result<Vec<LiveRow>, StoreError>> + Send;

    /// Workspaces by id, of those `after` one, at most `limit`.
    fn workspaces(
        &self,
        after: Option<WorkspaceId>,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<WorkspaceId>, StoreError>> + Send;

    /// The workspace's levels, and its flows of periods that began at `from` or later.
    fn rows(
        &self,
        workspace: WorkspaceId,
        from: DateTime<Utc>,
    ) -> impl Future<Output = Result<Vec<LiveRow>, StoreError>> + Send;
}

/// Why a round broke off.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Cache(#[from] UsageCacheError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Repeats what a cache may have missed. One for each server; several for one cache do no harm.
#[derive(Debug)]
pub struct Republisher<S> {
    live: LiveUsage,
    source: S,
    /// Everything noted until then has been published; nothing of a process that has just started.
    scanned_until: Option<DateTime<Utc>>,
    /// Whether this process may go by [`Self::scanned_until`]: not before the cache was whole once.
    was_whole: bool,
    /// What the last round published, so that a workspace that rests is not read again.
    published: HashMap<WorkspaceId, ChangedWorkspace>,
    /// Where the filling of an empty cache is.
    filling: Option<Option<WorkspaceId>>,
    /// Where the rotating look is.
    looked_at: Option<WorkspaceId>,
}

impl<S: LiveSource> Republisher<S> {
    /// A republisher that has done nothing yet.
    #[must_use]
    pub fn new(live: LiveUsage, source: S) -> Self {
        Self {
            live,
            source,
            scanned_until: None,
            was_whole: false,
            published: HashMap::new(),
            filling: None,
            looked_at: None,
        }
    }

    /// Works until it is dropped.
    pub async fn run(mut self) {
        loop {
            let rest = self.step().await;
            tokio::time::sleep(rest).await;
        }
    }

    /// Reaches the cache if it was not reached, then does one round. Returns how long to rest.
    pub async fn step(&mut self) -> Duration {
        if !self.live.answers() {
            match self.live.connect().await {
                Ok(condition) => {
                    for note in condition.notes() {
                        tracing::warn!("{note}");
                    }
                }
                Err(error) => {
                    self.live.fall(&error);
                    return REST;
                }
            }
            // What was published or filled may have been another instance's.
            self.published.clear();
            self.filling = None;
        }
        match self.round().await {
            Ok(()) if self.filling.is_some() => Duration::ZERO,
            Ok(()) => REST,
            Err(RoundError::Cache(error)) => {
                self.live.fall(&error);
                REST
            }
            Err(RoundError::Store(error)) => {
                tracing::warn!(
                    error = %Causes(&error),
                    "the republisher waits for the database"
                );
                REST
            }
        }
    }

    async fn round(&mut self) -> Result<(), RoundError> {
        // In this order: what is lost from here on, or changes, is the next round's.
        let losses = self.live.losses();
        let began = self.source.now();
        let covered = self.live.covered().await?;
        let since = match (self.scanned_until, covered) {
            (Some(until), _) => Some(until - OVERLAP),
            (None, Some(until)) => Some(until.min(began) - OVERLAP_AT_START),
            (None, None) => None,
        };
        if covered.is_none() {
            // It was emptied: what was published to it is gone.
            self.published.clear();
        }
        if let Some(since) = since {
            self.repeat(since).await?;
        }
        // Another server may have covered it meanwhile.
        self.was_whole |= covered.is_some();
        if covered.is_none() && self.filling.is_none() {
            self.filling = Some(None);
        }
        self.scanned_until = Some(began);
        if self.filling.is_some() {
            self.fill_slice().await?;
        } else {
            self.look().await?;
        }
        if self.filling.is_none() {
            self.was_whole = true;
            self.live.cover(began).await?;
        }
        if self.was_whole {
            self.live.caught_up(losses);
        }
        Ok(())
    }

    /// Publishes every row that changed at `since` or later.
    async fn repeat(&mut self, since: DateTime<Utc>) -> Result<(), RoundError> {
        let mut published = HashMap::new();
        let mut batch: Vec<WorkspaceRows> = Vec::new();
        let (mut size, mut after) = (0, None);
        loop {
            let page = self.source.changed(since, after, PAGE).await?;
            after = page.last().map(|changed| changed.workspace);
            for changed in &page {
                let workspace = changed.workspace;
                if self.published.get(&workspace) != Some(changed) {
                    let rows = self.source.rows_changed(workspace, since).await?;
                    size += rows.len();
                    batch.push((workspace, rows));
                }
                published.insert(workspace, *changed);
                if size >= BATCH_ROWS {
                    self.live.send(std::mem::take(&mut batch)).await?;
                    size = 0;
                }
            }
            if page.len() < PAGE as usize {
                break;
            }
        }
        if !batch.is_empty() {
            self.live.send(batch).await?;
        }
        self.published = published;
        Ok(())
    }

    /// Fills further workspaces for a while; the rest is the next round's.
    async fn fill_slice(&mut self) -> Result<(), RoundError> {
        let began = Instant::now();
        while let Some(after) = self.filling {
            let page = self.source.workspaces(after, PAGE).await?;
            for workspace in &page {
                self.fill(*workspace).await?;
                self.filling = Some(Some(*workspace));
                if began.elapsed() >= FILL_SLICE {
                    return Ok(());
                }
            }
            if page.len() < PAGE as usize {
                self.filling = None;
                tracing::info!("the mirror is filled from the database");
            }
        }
        Ok(())
    }

    async fn fill(&self, workspace: WorkspaceId) -> Result<(), RoundError> {
        let rows = self.source.rows(workspace, self.oldest_period()).await?;
        let (own, of_subjects) = own_rows(rows);
        self.live.fill(workspace, &periods_of(&own), &own).await?;
        for rows in of_subjects.chunks(BATCH_ROWS) {
            self.live.send(vec![(workspace, rows.to_vec())]).await?;
        }
        Ok(())
    }

    /// Compares further workspaces with the cache, all of them in turn.
    async fn look(&mut self) -> Result<(), RoundError> {
        let page = self.source.workspaces(self.looked_at, SAMPLE).await?;
        let last = page.last().copied();
        for workspace in &page {
            self.compare(*workspace).await?;
        }
        self.looked_at = last.filter(|_| page.len() == SAMPLE as usize);
        Ok(())
    }

    async fn compare(&self, workspace: WorkspaceId) -> Result<(), RoundError> {
        let from = self.oldest_period();
        let (own, _) = own_rows(self.source.rows(workspace, from).await?);
        let keys: Vec<_> = own.iter().map(|row| row.key.clone()).collect();
        let Some(cached) = self.live.peek(workspace, &keys).await? else {
            return Ok(self.live.fill(workspace, &periods_of(&own), &own).await?);
        };
        if cached == own {
            return Ok(());
        }
        // Commits go on: only what is ahead of SQL afterwards was never SQL's.
        let (now, _) = own_rows(self.source.rows(workspace, from).await?);
        let strange = cached.iter().any(|held| {
            let row = now.iter().find(|row| row.key == held.key);
            row.is_none_or(|row| {
                held.version > row.version || (held.version == row.version && held != row)
            })
        });
        if strange {
            tracing::warn!(%workspace, "the mirror held what the database never did; it is corrected");
            let periods = periods_of(&now);
            return Ok(self.live.replace(workspace, &periods, &now).await?);
        }
        Ok(self.live.fill(workspace, &periods_of(&now), &now).await?)
    }

    fn oldest_period(&self) -> DateTime<Utc> {
        self.source.now() - OLDEST_PERIOD
    }
}

/// What an operator should know of a cache: that it cannot be reached, what is not as it should be with its server,
/// and how many workspaces it does not hold as SQL does. It lags while a server is at work, and is emptied at
/// times: none of that is wrong.
///
/// # Errors
/// The database does not answer.
pub async fn cache_notes(
    cache: &impl UsageCache,
    source: &impl LiveSource,
) -> Result<Vec<String>, StoreError> {
    match examine(cache, source).await {
        Ok(notes) => Ok(notes),
        Err(RoundError::Store(error)) => Err(error),
        Err(RoundError::Cache(error)) => {
            let cause = std::error::Error::source(&error);
            let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
            Ok(vec![format!("Redis: {error}{cause}")])
        }
    }
}

async fn examine(
    cache: &impl UsageCache,
    source: &impl LiveSource,
) -> Result<Vec<String>, RoundError> {
    cache.connect().await?;
    let mut notes = cache.inspect().await?.notes();
    let (mut different, mut after) = (Vec::new(), None);
    loop {
        let page = source.workspaces(after, PAGE).await?;
        for workspace in &page {
            if let Some(difference) = difference(cache, source, *workspace).await? {
                different.push((*workspace, difference));
            }
        }
        after = page.last().copied();
        if page.len() < PAGE as usize {
            break;
        }
    }
    // What was just committed may be on its way: only what stays different is told.
    for pause in LOOK_AGAIN {
        if different.is_empty() {
            break;
        }
        sleep(pause).await;
        let mut still = Vec::new();
        for (workspace, _) in different {
            if let Some(difference) = difference(cache, source, workspace).await? {
                still.push((workspace, difference));
            }
        }
        different = still;
    }
    let count = |what| different.iter().filter(|(_, is)| *is == what).count();
    let (absent, lagging) = (count(Difference::Absent), count(Difference::Other));
    if absent > 0 {
        notes.push(format!("Redis does not hold the usage of {absent} workspaces: it is read from the database until a server fills them"));
    }
    if lagging > 0 {
        notes.push(format!(
            "Redis holds other usage of {lagging} workspaces than the database: it lags"
        ));
    }
    Ok(notes)
}

/// How a workspace's usage in the cache differs from SQL's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Difference {
    /// The cache does not hold it.
    Absent,
    /// The cache holds an older state, or one that SQL never held.
    Other,
}

/// Compares one workspace. SQL is read before and after the cache, since a counter may change in between.
async fn difference(
    cache: &impl UsageCache,
    source: &impl LiveSource,
    workspace: WorkspaceId,
) -> Result<Option<Difference>, RoundError> {
    let from = source.now() - OLDEST_PERIOD;
    let (before, _) = own_rows(source.rows(workspace, from).await?);
    let keys: Vec<_> = before.iter().map(|row| row.key.clone()).collect();
    let Some(held) = cache.read(workspace, &keys).await? else {
        return Ok(Some(Difference::Absent));
    };
    if held == before {
        return Ok(None);
    }
    let (after, _) = own_rows(source.rows(workspace, from).await?);
    let as_in_between = held.len() == before.len()
        && before.iter().zip(&held).all(|(before, held)| {
            let after = after.iter().find(|row| row.key == before.key);
            after.is_some_and(|after| is_between(before, held, after))
        });
    Ok((!as_in_between).then_some(Difference::Other))
}

/// Whether a row can be what SQL held between two readings of it.
fn is_between(before: &LiveRow, held: &LiveRow, after: &LiveRow) -> bool {
    let agrees = |row: &LiveRow| held.version != row.version || held == row;
    (before.version..=after.version).contains(&held.version) && agrees(before) && agrees(after)
}

/// The workspace's own rows, and those of subjects.
fn own_rows(rows: Vec<LiveRow>) -> (Vec<LiveRow>, Vec<LiveRow>) {
    rows.into_iter().partition(|row| row.key.subject.is_empty())
}

/// That of levels, and those of the rows.
fn periods_of(rows: &[LiveRow]) -> Vec<DateTime<Utc>> {
    let mut periods: Vec<_> = rows.iter().map(|row| row.key.period_start).collect();
    periods.push(DateTime::UNIX_EPOCH);
    periods.sort_unstable();
    periods.dedup();
    periods
}
