//! Outbound webhooks: a workspace's events, sent to addresses that it names, by the Standard Webhooks scheme.
//!
//! Each endpoint gets the events that it wants one after the other, in the order of the feed. One that is not taken is
//! sent again, and those behind it wait: what an endpoint has seen is always a beginning of the feed, less what was given
//! up. An event may come twice, with the same id.

mod address;
mod endpoints;
mod schedule;
#[cfg(feature = "http")]
mod sender;
mod signature;

pub use address::{InvalidWebhookUrl, Reach, WebhookUrl, may_call};
pub use endpoints::{
    EndpointChange, EndpointError, MAX_ENDPOINTS, NewEndpoint, WebhookKeys, change_endpoint,
    create_endpoint, delete_endpoint, rotate_secret, send_again,
};
pub use schedule::retry_after;
#[cfg(feature = "http")]
pub use sender::HttpSender;
pub use signature::{WebhookSecret, signature};

use std::future::Future;

use chrono::{DateTime, Utc};
use rawdrive_tenancy_core::StoreError;
use rawdrive_tenancy_core::event::{EventSelection, RecordedEvent};
use rawdrive_tenancy_core::id::{DeliveryId, EventId, WebhookEndpointId, WorkspaceId};
use rawdrive_tenancy_core::job::JobKind;
use rawdrive_tenancy_core::page::{Page, PageRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The event that tells owners that an endpoint was disabled.
pub const WEBHOOK_ENDPOINT_DISABLED: &str = "webhook_endpoint.disabled";

/// Where events are sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// Its id.
    pub id: WebhookEndpointId,
    /// The address.
    pub url: WebhookUrl,
    /// Which events it gets.
    pub wants: EventSelection,
    /// The secret, sealed.
    pub secret: String,
    /// The secret before it, sealed, and until when both sign.
    pub old_secret: Option<(String, DateTime<Utc>)>,
    /// Whether events are sent.
    pub enabled: bool,
    /// Why we have disabled it, if we have.
    pub disabled: Option<DisabledReason>,
    /// Everything up to this event was delivered, given up, or not wanted.
    pub delivered_seq: u64,
    /// Since when it has taken nothing.
    pub failing_since: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// 1, 2, 3 …: grows with each change of its settings.
    pub version: u32,
}

/// Why an endpoint was disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisabledReason {
    /// It has taken nothing for days.
    Failing,
    /// It has answered 410: nobody is there any more.
    Gone,
}

impl DisabledReason {
    /// As it is stored and told.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Gone => "gone",
        }
    }

    /// Reads a stored one.
    #[must_use]
    pub fn stored(text: &str) -> Option<Self> {
        [Self::Failing, Self::Gone]
            .into_iter()
            .find(|reason| reason.as_str() == text)
    }
}

/// Where a delivery is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// It is sent again.
    Pending,
    /// The endpoint has taken it.
    Delivered,
    /// It was sent as often as it is, in vain.
    Failed,
}

impl DeliveryState {
    /// As it is stored and told.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }

    /// Reads a stored one.
    #[must_use]
    pub fn stored(text: &str) -> Option<Self> {
        [Self::Pending, Self::Delivered, Self::Failed]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// An event that was sent to an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// Where it was sent.
    pub endpoint: WebhookEndpointId,
    /// The event.
    pub event: EventId,
    /// The event's place in the feed.
    pub event_seq: u64,
    /// The event's kind.
    pub kind: String,
    /// Where it is in its life.
    pub state: DeliveryState,
    /// How often it was sent since it was asked for.
    pub attempts: u32,
    /// What the endpoint answered last.
    pub response_status: Option<u16>,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// When it was sent last.
    pub last_attempt_at: Option<DateTime<Utc>>,
    /// When it is sent again.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// When it was sent first.
    pub created_at: DateTime<Utc>,
}

/// What an endpoint is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `webhook-id`: the event's, the same in each attempt.
    pub event: EventId,
    /// `webhook-timestamp`.
    pub at: DateTime<Utc>,
    /// `webhook-signature`.
    pub signature: String,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there was no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendFailure {
    /// The address leads into a private network.
    #[error("the address is within a private network, which is not called")]
    Private,
    /// There is no connection.
    #[error("the address could not be reached")]
    Unreachable,
    /// It took too long.
    #[error("there was no answer within 15 seconds")]
    TooSlow,
}

/// Sends a message. Answers the status.
pub trait WebhookSender: Send + Sync {
    /// One attempt.
    fn send(
        &self,
        url: &WebhookUrl,
        message: &Message,
    ) -> impl Future<Output = Result<u16, SendFailure>> + Send;
}

/// The job that sends an endpoint what it has not got yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeliverWebhooks {
    /// The endpoint.
    pub endpoint: WebhookEndpointId,
}

impl JobKind for DeliverWebhooks {
    const NAME: &'static str = "deliver_webhooks";
}

/// The job that sends one event once more, beside the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResendWebhook {
    /// The delivery.
    pub delivery: DeliveryId,
}

impl JobKind for ResendWebhook {
    const NAME: &'static str = "resend_webhook";
}

/// An event as it is told outside: the body of a webhook, and an item of the feed.
#[must_use]
pub fn told(workspace: WorkspaceId, recorded: &RecordedEvent) -> Value {
    let RecordedEvent { id, seq, at, event } = recorded;
    json!({
        "id": id,
        "type": event.kind,
        "timestamp": at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
        "workspace": workspace,
        "seq": seq,
        "subject": event.subject,
        "data": event.facts,
    })
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempted {
    /// The endpoint has answered.
    Answered(u16),
    /// It has not.
    Failed(SendFailure),
}

impl Attempted {
    /// Whether the event was taken: any status of success.
    #[must_use]
    pub const fn is_delivered(self) -> bool {
        matches!(self, Self::Answered(200..=299))
    }

    /// Whether nobody is there any more.
    #[must_use]
    pub const fn is_gone(self) -> bool {
        matches!(self, Self::Answered(410))
    }

    /// The status.
    #[must_use]
    pub const fn status(self) -> Option<u16> {
        match self {
            Self::Answered(status) => Some(status),
            Self::Failed(_) => None,
        }
    }

    /// What was wrong.
    #[must_use]
    pub fn error(self) -> Option<String> {
        match self {
            Self::Failed(failure) => Some(failure.to_string()),
            _ if self.is_delivered() => None,
            Self::Answered(status @ 300..=399) => {
                Some(format!("answered {status}: redirects are not followed"))
            }
            Self::Answered(status) => Some(format!("answered {status}")),
        }
    }
}

/// What becomes of a delivery after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Where it is now.
    pub state: DeliveryState,
    /// When it is sent again.
    pub again_at: Option<DateTime<Utc>>,
    /// Why the endpoint is disabled, if it is.
    pub disables: Option<DisabledReason>,
    /// Since when the endpoint has taken nothing.
    pub failing_since: Option<DateTime<Utc>>,
}

/// Decides what follows from the `attempts`-th attempt, at an endpoint that has been failing since `failing_since`.
#[must_use]
pub fn judge(
    attempted: Attempted,
    attempts: u32,
    failing_since: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
    random: u8,
) -> Verdict {
    if attempted.is_delivered() {
        return Verdict {
            state: DeliveryState::Delivered,
            again_at: None,
            disables: None,
            failing_since: None,
        };
    }
    let since = failing_since.unwrap_or(now);
    let disables = if attempted.is_gone() {
        Some(DisabledReason::Gone)
    } else if now - since >= schedule::FAILING_FOR {
        Some(DisabledReason::Failing)
    } else {
        None
    };
    let wait = retry_after(attempts, random).filter(|_| disables.is_none());
    Verdict {
        state: if wait.is_some() {
            DeliveryState::Pending
        } else {
            DeliveryState::Failed
        },
        again_at: wait.map(|wait| now + wait),
        disables,
        failing_since: Some(since),
    }
}

/// Reads events and endpoints of a workspace.
pub trait WebhooksRead: Send + Sync {
    /// Events after a place in the feed, oldest first.
    fn events(
        &self,
        page: PageRequest,
        wants: &EventSelection,
    ) -> impl Future<Output = Result<Page<RecordedEvent>, StoreError>> + Send;

    /// An event's place in the feed.
    fn event_seq(
        &self,
        event: EventId,
    ) -> impl Future<Output = Result<Option<u64>, StoreError>> + Send;

    /// The event at a place of the feed; `None` where it is too old.
    fn event_at(
        &self,
        seq: u64,
    ) -> impl Future<Output = Result<Option<RecordedEvent>, StoreError>> + Send;

    /// The last place of the feed.
    fn feed_end(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Endpoints, oldest first.
    fn webhook_endpoints(
        &self,
        page: PageRequest,
    ) -> impl Future<Output = Result<Page<Endpoint>, StoreError>> + Send;

    /// An endpoint.
    fn webhook_endpoint(
        &self,
        id: WebhookEndpointId,
    ) -> impl Future<Output = Result<Option<Endpoint>, StoreError>> + Send;

    /// Deliveries to an endpoint, newest first.
    fn webhook_deliveries(
        &self,
        endpoint: WebhookEndpointId,
        page: PageRequest,
    ) -> impl Future<Output = Result<Page<Delivery>, StoreError>> + Send;

    /// A delivery.
    fn webhook_delivery(
        &self,
        id: DeliveryId,
    ) -> impl Future<Output = Result<Option<Delivery>, StoreError>> + Send;

    /// The delivery of an event to an endpoint, if it was sent before.
    fn delivery_of(
        &self,
        endpoint: WebhookEndpointId,
        event_seq: u64,
    ) -> impl Future<Output = Result<Option<Delivery>, StoreError>> + Send;
}

/// Writes endpoints and deliveries. Whoever changes an endpoint locks the feed first, as those do that add events.
pub trait WebhooksTx: Send {
    /// Holds the feed until the transaction ends; answers its last place.
    fn lock_feed(&mut self) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// How many endpoints there are.
    fn count_webhook_endpoints(&mut self) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Adds an endpoint.
    fn insert_webhook_endpoint(
        &mut self,
        endpoint: &Endpoint,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// An endpoint, to be changed.
    fn locked_webhook_endpoint(
        &mut self,
        id: WebhookEndpointId,
    ) -> impl Future<Output = Result<Option<Endpoint>, StoreError>> + Send;

    /// Writes an endpoint that was read to be changed.
    fn update_webhook_endpoint(
        &mut self,
        endpoint: &Endpoint,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Deletes an endpoint with its deliveries.
    fn delete_webhook_endpoint(
        &mut self,
        id: WebhookEndpointId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Whether a job looks for what an endpoint has not got yet.
    fn set_awake(
        &mut self,
        id: WebhookEndpointId,
        awake: bool,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// A delivery, to be changed.
    fn locked_delivery(
        &mut self,
        id: DeliveryId,
    ) -> impl Future<Output = Result<Option<Delivery>, StoreError>> + Send;

    /// Gives up what is under way to an endpoint: it can be sent again by hand.
    fn give_up_deliveries(
        &mut self,
        endpoint: WebhookEndpointId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Whether the feed still holds an event.
    fn keeps_event(&mut self, seq: u64) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Writes a delivery, in the place of the one that there was for this event and endpoint.
    fn put_delivery(
        &mut self,
        delivery: &Delivery,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn at(hours: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::hours(hours)
    }

    #[test]
    fn what_is_taken_ends_a_failing() {
        let verdict = judge(Attempted::Answered(204), 3, Some(at(0)), at(1), 0);
        assert_eq!(
            verdict,
            Verdict {
                state: DeliveryState::Delivered,
                again_at: None,
                disables: None,
                failing_since: None
            }
        );
    }

    #[test]
    fn what_is_not_taken_is_sent_again_until_it_is_given_up() {
        for failed in [
            Attempted::Answered(500),
            Attempted::Answered(302),
            Attempted::Answered(199),
            Attempted::Failed(SendFailure::TooSlow),
        ] {
            let first = judge(failed, 1, None, at(1), 0);
            assert_eq!(first.state, DeliveryState::Pending);
            assert_eq!(first.again_at, Some(at(1) + TimeDelta::seconds(5)));
            assert_eq!((first.failing_since, first.disables), (Some(at(1)), None));
            let last = judge(failed, 8, Some(at(1)), at(29), 0);
            assert_eq!((last.state, last.again_at), (DeliveryState::Failed, None));
            assert_eq!((last.failing_since, last.disables), (Some(at(1)), None));
            assert!(failed.error().is_some());
        }
    }

    #[test]
    fn an_endpoint_that_fails_for_days_or_is_gone_is_disabled() {
        let failed = Attempted::Answered(500);
        let almost = judge(
            failed,
            1,
            Some(at(0)),
            at(5 * 24) - TimeDelta::seconds(1),
            0,
        );
        assert_eq!(
            (almost.disables, almost.state),
            (None, DeliveryState::Pending)
        );
        let disabled = judge(failed, 1, Some(at(0)), at(5 * 24), 0);
        assert_eq!(disabled.disables, Some(DisabledReason::Failing));
        assert_eq!(
            (disabled.state, disabled.again_at),
            (DeliveryState::Failed, None)
        );
        let gone = judge(Attempted::Answered(410), 1, None, at(0), 0);
        assert_eq!(
            (gone.disables, gone.state),
            (Some(DisabledReason::Gone), DeliveryState::Failed)
        );
    }

    #[test]
    fn words_are_read_as_they_are_stored() {
        for state in [
            DeliveryState::Pending,
            DeliveryState::Delivered,
            DeliveryState::Failed,
        ] {
            assert_eq!(DeliveryState::stored(state.as_str()), Some(state));
        }
        for reason in [DisabledReason::Failing, DisabledReason::Gone] {
            assert_eq!(DisabledReason::stored(reason.as_str()), Some(reason));
        }
        assert_eq!(
            (DeliveryState::stored("x"), DisabledReason::stored("x")),
            (None, None)
        );
    }
}
