//! A cache of usage in memory, whose server can fail in the ways in which a real one does.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use futures_util::future::pending;
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_usage::{
    LiveRow, QuotaKey, UsageCache, UsageCacheCondition, UsageCacheError, UsageCacheFuture,
    WorkspaceRows,
};

#[derive(Debug, Clone, Default)]
struct Period {
    /// The instance in which it was filled.
    whole: Option<u64>,
    rows: BTreeMap<QuotaKey, LiveRow>,
}

/// What a server has on its disk.
#[derive(Debug, Clone, Default)]
pub struct Dump {
    periods: BTreeMap<(WorkspaceId, DateTime<Utc>), Period>,
    covered: Option<(u64, DateTime<Utc>)>,
}

/// How a server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    Well,
    /// It refuses everything, connections too.
    Away,
    /// It takes everything and never answers.
    Hanging,
}

#[derive(Debug)]
struct Server {
    /// This run of it; a connection of another run is broken.
    run: u64,
    mood: Mood,
    data: Dump,
    /// How many of the next publications fail without having been heard.
    lost: usize,
}

/// A server in memory. Cheap to clone; all clones are the one server.
#[derive(Debug, Clone)]
pub struct MemoryUsageCacheServer(Arc<Mutex<Server>>);

impl Default for MemoryUsageCacheServer {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Server {
            run: 1,
            mood: Mood::Well,
            data: Dump::default(),
            lost: 0,
        })))
    }
}

impl MemoryUsageCacheServer {
    /// A client of its own, not connected yet.
    #[must_use]
    pub fn client(&self) -> MemoryUsageCache {
        MemoryUsageCache {
            server: self.clone(),
            connected: Mutex::new(None),
        }
    }

    /// Forgets everything, without ending.
    pub fn empty(&self) {
        self.lock().data = Dump::default();
    }

    /// What a restart could find.
    #[must_use]
    pub fn dump(&self) -> Dump {
        self.lock().data.clone()
    }

    /// Ends, and starts again with what it finds.
    pub fn restart(&self, found: Dump) {
        let mut server = self.lock();
        server.run += 1;
        server.data = found;
    }

    /// Answers from now on as it is told.
    pub fn set_mood(&self, mood: Mood) {
        self.lock().mood = mood;
    }

    /// So many of the next publications fail, and were not heard.
    pub fn lose(&self, publications: usize) {
        self.lock().lost = publications;
    }

    /// Puts a counter there by hand, whatever its version.
    pub fn put(&self, workspace: WorkspaceId, row: LiveRow) {
        let mut server = self.lock();
        let key = (workspace, row.key.period_start);
        let period = server.data.periods.entry(key).or_default();
        period.rows.insert(row.key.clone(), row);
    }

    fn lock(&self) -> MutexGuard<'_, Server> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client of a [`MemoryUsageCacheServer`].
pub struct MemoryUsageCache {
    server: MemoryUsageCacheServer,
    connected: Mutex<Option<u64>>,
}

impl fmt::Debug for MemoryUsageCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryUsageCache")
    }
}

fn away() -> UsageCacheError {
    UsageCacheError::Failed {
        operation: "reach",
        source: "a fault was asked for".into(),
    }
}

impl MemoryUsageCache {
    fn connected(&self) -> MutexGuard<'_, Option<u64>> {
        self.connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn call<'a, T: Send + 'a>(
        &'a self,
        work: impl FnOnce(&mut Server) -> Result<T, UsageCacheError> + Send + 'a,
    ) -> UsageCacheFuture<'a, T> {
        async move {
            if self.server.lock().mood == Mood::Hanging {
                return pending().await;
            }
            let run = self.connected().ok_or(UsageCacheError::NotConnected)?;
            let mut server = self.server.lock();
            if server.mood == Mood::Away || server.run != run {
                return Err(away());
            }
            work(&mut server)
        }
        .boxed()
    }
}

fn keep(server: &mut Server, workspace: WorkspaceId, rows: &[LiveRow]) {
    for row in rows {
        let key = (workspace, row.key.period_start);
        let period = server.data.periods.entry(key).or_default();
        let held = period.rows.get(&row.key);
        if held.is_none_or(|held| held.version < row.version) {
            period.rows.insert(row.key.clone(), row.clone());
        }
    }
}

fn refuse_unfit<'a>(rows: impl IntoIterator<Item = &'a LiveRow>) -> Result<(), UsageCacheError> {
    if rows.into_iter().all(LiveRow::fits) {
        return Ok(());
    }
    Err(UsageCacheError::Failed {
        operation: "publish to",
        source: "a row does not fit".into(),
    })
}

impl UsageCache for MemoryUsageCache {
    fn connect(&self) -> UsageCacheFuture<'_, ()> {
        async move {
            *self.connected() = None;
            let (run, mood) = {
                let server = self.server.lock();
                (server.run, server.mood)
            };
            match mood {
                Mood::Well => {
                    *self.connected() = Some(run);
                    Ok(())
                }
                // A client bounds the wait for a connection itself.
                Mood::Away | Mood::Hanging => Err(away()),
            }
        }
        .boxed()
    }

    fn publish<'a>(&'a self, rows: &'a [WorkspaceRows]) -> UsageCacheFuture<'a, ()> {
        self.call(move |server| {
            if server.lost > 0 {
                server.lost -= 1;
                return Err(away());
            }
            for (workspace, rows) in rows {
                refuse_unfit(rows)?;
                keep(server, *workspace, rows);
            }
            Ok(())
        })
    }

    fn fill<'a>(
        &'a self,
        workspace: WorkspaceId,
        periods: &'a [DateTime<Utc>],
        rows: &'a [LiveRow],
    ) -> UsageCacheFuture<'a, ()> {
        self.call(move |server| {
            refuse_unfit(rows)?;
            keep(server, workspace, rows);
            let of_rows = rows.iter().map(|row| row.key.period_start);
            for start in periods.iter().copied().chain(of_rows) {
                let period = server.data.periods.entry((workspace, start)).or_default();
                period.whole = Some(server.run);
            }
            Ok(())
        })
    }

    fn read<'a>(
        &'a self,
        workspace: WorkspaceId,
        keys: &'a [QuotaKey],
    ) -> UsageCacheFuture<'a, Option<Vec<LiveRow>>> {
        self.call(move |server| {
            let read = |key: &QuotaKey| {
                let period = server.data.periods.get(&(workspace, key.period_start))?;
                let row = period.rows.get(key).cloned();
                let is_whole = period.whole == Some(server.run);
                is_whole.then(|| row.unwrap_or_else(|| LiveRow::untouched(key.clone())))
            };
            Ok(keys.iter().map(read).collect())
        })
    }

    fn forget<'a>(
        &'a self,
        workspace: WorkspaceId,
        periods: &'a [DateTime<Utc>],
    ) -> UsageCacheFuture<'a, ()> {
        self.call(move |server| {
            for start in periods {
                server.data.periods.remove(&(workspace, *start));
            }
            Ok(())
        })
    }

    fn covered(&self) -> UsageCacheFuture<'_, Option<DateTime<Utc>>> {
        self.call(|server| {
            let noted = server.data.covered;
            Ok(noted
                .filter(|(run, _)| *run == server.run)
                .map(|(_, at)| at))
        })
    }

    fn cover(&self, until: DateTime<Utc>) -> UsageCacheFuture<'_, ()> {
        self.call(move |server| {
            server.data.covered = Some((server.run, until));
            Ok(())
        })
    }

    fn inspect(&self) -> UsageCacheFuture<'_, UsageCacheCondition> {
        self.call(|_| Ok(UsageCacheCondition::default()))
    }
}
