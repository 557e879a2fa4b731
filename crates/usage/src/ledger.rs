//! The ledger: append-only lines whose sum is the usage.

use chrono::{DateTime, Utc};
use rawdrive_plans::Metric;

use crate::QuotaKey;

/// A line to be appended; the handle adds workspace, actor, time of recording and `seq`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerLine {
    /// What is counted, for which subject, in which period.
    pub key: QuotaKey,
    /// Units, negative when freed.
    pub quantity: i64,
    /// The id of what was counted (a photo, a gallery, a member). Ids only: a ledger is never erased.
    pub subject: String,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
}

/// A line as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// 1, 2, 3 … per workspace, without a gap, in order of commit.
    pub seq: u64,
    /// What is counted.
    pub metric: Metric,
    /// Units, negative when freed.
    pub quantity: i64,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// The id of what was counted.
    pub subject: String,
    /// Who did it.
    pub actor: String,
}
