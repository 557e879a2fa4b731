//! Domain events and the outbox port: what happened, told to whoever must act on it after commit.

use std::future::Future;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::StoreError;

/// Something that happened in a workspace. The handle that emits it adds workspace, id and time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DomainEvent {
    /// `noun.verb`, such as `usage.threshold_crossed`.
    pub kind: String,
    /// The id of what it happened to.
    pub subject: String,
    /// Its facts, by id; no personal data.
    pub facts: Value,
}

/// The outbox: events stand exactly when the transaction does, and are delivered at least once after it.
pub trait EventsTx {
    /// Puts an event into the outbox.
    fn emit(&mut self, event: DomainEvent) -> impl Future<Output = Result<(), StoreError>> + Send;
}
