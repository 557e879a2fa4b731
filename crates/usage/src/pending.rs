//! What a transaction has collected, to be written at its commit in the order of locks: jobs, audit entries, ledger
//! lines. For the adapters of stores.

use chrono::{DateTime, Utc};
use rawdrive_tenancy_core::Actor;
use rawdrive_tenancy_core::audit::Change;
use rawdrive_tenancy_core::job::Job;

use crate::LedgerLine;

/// Collected and not written yet. Who acted is kept with each: a transaction may go on in another's name.
#[derive(Debug, Default)]
pub struct Pending {
    /// Jobs, with the time at which they become due.
    pub jobs: Vec<(Job, Option<DateTime<Utc>>)>,
    /// Changes for the audit chain.
    pub changes: Vec<(Actor, Change)>,
    /// Lines for the ledger.
    pub lines: Vec<(Actor, LedgerLine)>,
}

/// How much was collected at some time: see [`Pending::undo`].
#[derive(Debug, Clone, Copy, Default)]
pub struct PendingMark {
    jobs: usize,
    changes: usize,
    lines: usize,
}

impl Pending {
    /// Whether nothing was collected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.changes.is_empty() && self.lines.is_empty()
    }

    /// How much is collected now.
    #[must_use]
    pub fn mark(&self) -> PendingMark {
        PendingMark {
            jobs: self.jobs.len(),
            changes: self.changes.len(),
            lines: self.lines.len(),
        }
    }

    /// Forgets what was collected since.
    pub fn undo(&mut self, mark: PendingMark) {
        self.jobs.truncate(mark.jobs);
        self.changes.truncate(mark.changes);
        self.lines.truncate(mark.lines);
    }
}
