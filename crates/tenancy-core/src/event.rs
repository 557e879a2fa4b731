//! Domain events and the outbox port: what happened, told to whoever must act on it after commit.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::job::JobKind;

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

/// The job that tells an event to its consumers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeliverEvent {
    /// The event.
    pub event: DomainEvent,
}

impl JobKind for DeliverEvent {
    const NAME: &'static str = "deliver_event";
}

/// The outbox: events stand exactly when the transaction does, and are delivered at least once after it.
pub trait EventsTx {
    /// Puts an event into the outbox, at commit.
    fn emit(&mut self, event: DomainEvent);
}
