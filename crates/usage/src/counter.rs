//! Counters: what is counted, for whom, in which period, and how much of it there is.

use chrono::{DateTime, Utc};
use rawdrive_plans::Metric;

use crate::Period;

/// Which counter. Ordered: rows are locked in this order, so that no two transactions wait for each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuotaKey {
    /// What is counted.
    pub metric: Metric,
    /// The id of what it is counted for; empty for the workspace itself.
    pub subject: String,
    /// The period's start for a flow; the epoch for a level, which never resets.
    pub period_start: DateTime<Utc>,
}

impl QuotaKey {
    /// A level of the whole workspace.
    #[must_use]
    pub fn level(metric: Metric) -> Self {
        Self {
            metric,
            subject: String::new(),
            period_start: DateTime::UNIX_EPOCH,
        }
    }

    /// A level of one subject.
    #[must_use]
    pub fn level_of(metric: Metric, subject: impl ToString) -> Self {
        Self {
            metric,
            subject: subject.to_string(),
            period_start: DateTime::UNIX_EPOCH,
        }
    }

    /// A flow of the whole workspace in one period.
    #[must_use]
    pub fn flow(metric: Metric, period: Period) -> Self {
        Self {
            metric,
            subject: String::new(),
            period_start: period.start,
        }
    }

    /// Whether it never resets.
    #[must_use]
    pub fn is_level(&self) -> bool {
        self.period_start == DateTime::UNIX_EPOCH
    }
}

/// A counter's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QuotaRow {
    /// Units in use.
    pub used: u64,
    /// Units held by operations under way.
    pub reserved: u64,
    /// Thresholds in an episode, by their [bits](rawdrive_plans::Threshold::bit).
    pub fired: u8,
}

/// An amount of one counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The counter.
    pub key: QuotaKey,
    /// Units.
    pub amount: u64,
}
