//! The jobs port: durable intents that one leased runner carries out after commit.

use std::future::Future;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::StoreError;
use crate::event::DomainEvent;
use crate::id::{JobId, PhotoId, WorkspaceId};

/// The most blobs that one job deletes: well within a lease, and one request to stores that delete in bulk.
pub const BLOBS_PER_JOB: usize = 500;

/// What is to be done. Every kind is idempotent: the runner may carry it out twice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Work {
    /// Delete the blob of a photo or of an upload that came to nothing.
    DeleteBlob {
        /// The photo's id, which names its blob.
        photo: PhotoId,
    },
    /// Delete the blobs of many photos, at most [`BLOBS_PER_JOB`].
    DeleteBlobs {
        /// The photos' ids.
        photos: Vec<PhotoId>,
    },
    /// Tell a domain event to its consumers.
    DeliverEvent {
        /// The event.
        event: DomainEvent,
    },
    /// Hand a mail over for delivery.
    SendMail {
        /// The mail with its recipients, sealed and in base64: it may hold a link that is a credential.
        sealed: String,
    },
    /// Evaluate thresholds again, because an entitlement changes at this time by itself.
    ReviewThresholds,
}

/// A job that this runner holds until its lease ends.
#[derive(Debug, Clone, PartialEq)]
pub struct LeasedJob {
    /// Its id.
    pub id: JobId,
    /// The workspace it belongs to.
    pub workspace: WorkspaceId,
    /// What is to be done.
    pub work: Work,
    /// How often it was leased, this time included.
    pub attempts: u32,
}

/// How long to wait before the next attempt: 1 s doubling to 5 min.
#[must_use]
pub fn backoff(attempts: u32) -> TimeDelta {
    TimeDelta::seconds(1_i64 << attempts.saturating_sub(1).min(9)).min(TimeDelta::minutes(5))
}

/// Enqueues durable intents.
pub trait JobsTx {
    /// The job stands exactly when the transaction does, and becomes due at `due` (decision time; `None`
    /// means at once).
    fn enqueue(
        &mut self,
        work: Work,
        due: Option<DateTime<Utc>>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_and_is_bounded() {
        assert_eq!(backoff(1), TimeDelta::seconds(1));
        assert_eq!(backoff(4), TimeDelta::seconds(8));
        assert_eq!(backoff(u32::MAX), TimeDelta::minutes(5));
    }
}
