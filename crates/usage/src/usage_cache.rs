//! The port of the live usage cache: usage where it can be read without asking SQL.
//!
//! SQL decides and records; a cache repeats what was committed. It holds counters, never limits: those follow
//! from the entitlements, which may change by the passing of time alone.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use rawdrive_tenancy_core::id::WorkspaceId;

use crate::QuotaKey;

/// How long a request waits for the cache, at most.
pub const CACHE_PATIENCE: Duration = Duration::from_millis(250);

/// How long a period's counters outlive their last publication.
pub const CACHE_DAYS: i64 = 35;

/// The largest number that a cache holds: the largest that a script's double tells from the next.
pub const CACHE_MAX: u64 = (1 << 53) - 1;

/// A counter as a commit left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveRow {
    /// Which counter.
    pub key: QuotaKey,
    /// Grows with each change of the row; 0 where there is no row.
    pub version: u64,
    /// Units in use.
    pub used: u64,
    /// Units held by operations under way.
    pub reserved: u64,
}

impl LiveRow {
    /// A counter that nothing was ever taken from.
    #[must_use]
    pub const fn untouched(key: QuotaKey) -> Self {
        Self {
            key,
            version: 0,
            used: 0,
            reserved: 0,
        }
    }

    /// Whether a cache can hold it without losing a digit.
    #[must_use]
    pub const fn fits(&self) -> bool {
        self.version <= CACHE_MAX && self.used <= CACHE_MAX && self.reserved <= CACHE_MAX
    }
}

/// Why a cache did not do what it was asked. Whether it did is unknown: everything can be asked again.
#[derive(Debug, thiserror::Error)]
pub enum UsageCacheError {
    /// It is not connected.
    #[error("the mirror is not connected")]
    NotConnected,
    /// It did not answer in time.
    #[error("the mirror did not answer within {} ms", .0.as_millis())]
    TooLate(Duration),
    /// It cannot be reached, or refuses.
    #[error("failed to {operation} the mirror")]
    Failed {
        /// What was tried, as a verb.
        operation: &'static str,
        /// Why it failed. It holds no credential.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// What an operator should know of the server that holds the cache.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UsageCacheCondition {
    /// Its policy when memory runs out, where it tells.
    pub eviction: Option<String>,
    /// Whether anything of it survives its process, where it tells.
    pub persistent: Option<bool>,
}

impl UsageCacheCondition {
    /// What is not as it should be, a sentence each. Nothing of it changes a decision or loses a record.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let evicts = self.eviction.as_deref().filter(|p| *p != "noeviction");
        let evicts = evicts.map(|policy| {
            format!(
                "Redis drops counters when memory runs out (maxmemory-policy {policy}): usage is then read from \
                 the database; set it to noeviction"
            )
        });
        let forgets = (self.persistent == Some(false)).then(|| {
            "Redis keeps nothing on disk (neither append-only file nor save points): it is refilled from the \
             database after each restart"
                .to_owned()
        });
        evicts.into_iter().chain(forgets).collect()
    }
}

/// Rows of one workspace.
pub type WorkspaceRows = (WorkspaceId, Vec<LiveRow>);

/// The future of a cache's answer.
pub type UsageCacheFuture<'a, T> = BoxFuture<'a, Result<T, UsageCacheError>>;

/// Holds counters of workspaces, by period: what a transaction left of them, the newest version of each.
///
/// A period's counters are *whole* from a [`fill`](UsageCache::fill) on, for as long as the cache keeps them
/// and its instance lives. An instance is one run of the server: after a restart nothing is whole, whatever the
/// server has found on its disk, since that may be older than what it once confirmed.
///
/// Calls may be given up at any time, repeated, and reordered; each is atomic for one workspace.
pub trait UsageCache: Send + Sync + fmt::Debug {
    /// Connects anew; what was connected before is given up. Takes at most 5 s. Until it has succeeded once
    /// every other call fails at once.
    fn connect(&self) -> UsageCacheFuture<'_, ()>;

    /// Keeps each row unless it holds the same version of it or a newer one, and sets the [`CACHE_DAYS`] of
    /// the periods that are named anew. Writes nothing where a row does not [fit](LiveRow::fits).
    fn publish<'a>(&'a self, rows: &'a [WorkspaceRows]) -> UsageCacheFuture<'a, ()>;

    /// Publishes the rows, and marks the periods as whole: no counter of the workspace itself (without a
    /// subject) has changed in them but those of `rows`, or by what was published since the instance began.
    fn fill<'a>(
        &'a self,
        workspace: WorkspaceId,
        periods: &'a [DateTime<Utc>],
        rows: &'a [LiveRow],
    ) -> UsageCacheFuture<'a, ()>;

    /// The workspace's counters, in the order of `keys`; nothing unless the periods of all are whole.
    fn read<'a>(
        &'a self,
        workspace: WorkspaceId,
        keys: &'a [QuotaKey],
    ) -> UsageCacheFuture<'a, Option<Vec<LiveRow>>>;

    /// Forgets whole periods of a workspace.
    fn forget<'a>(
        &'a self,
        workspace: WorkspaceId,
        periods: &'a [DateTime<Utc>],
    ) -> UsageCacheFuture<'a, ()>;

    /// The time that was given to [`cover`](UsageCache::cover) last, within this instance's life.
    fn covered(&self) -> UsageCacheFuture<'_, Option<DateTime<Utc>>>;

    /// Notes that what was committed until then has been published to this instance.
    fn cover(&self, until: DateTime<Utc>) -> UsageCacheFuture<'_, ()>;

    /// What an operator should know of it.
    fn inspect(&self) -> UsageCacheFuture<'_, UsageCacheCondition>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_hears_of_eviction_and_of_forgetting_and_of_nothing_else() {
        let condition = |eviction: Option<&str>, persistent| UsageCacheCondition {
            eviction: eviction.map(str::to_owned),
            persistent,
        };
        assert_eq!(condition(None, None).notes(), Vec::<String>::new());
        assert_eq!(
            condition(Some("noeviction"), Some(true)).notes(),
            Vec::<String>::new()
        );
        let notes = condition(Some("allkeys-lru"), Some(false)).notes();
        assert_eq!(notes.len(), 2);
        assert!(
            notes[0].contains("maxmemory-policy allkeys-lru"),
            "{notes:?}"
        );
        assert!(notes[1].contains("keeps nothing on disk"), "{notes:?}");
    }
}
