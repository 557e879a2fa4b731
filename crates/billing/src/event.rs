//! The provider's events: a tolerant reading of their envelope, and which object each one touches.
//!
//! An event is a hint that an object has changed. What has become of it is fetched; what the event's body says of
//! it is never used.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{CustomerId, ProviderEventId};

/// A kind of object that is fetched and projected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// A customer.
    Customer,
    /// A subscription.
    Subscription,
    /// An invoice.
    Invoice,
    /// A hosted checkout.
    Checkout,
    /// A charge.
    Charge,
    /// A dispute.
    Dispute,
}

impl ObjectKind {
    const ALL: [Self; 6] = [
        Self::Customer,
        Self::Subscription,
        Self::Invoice,
        Self::Checkout,
        Self::Charge,
        Self::Dispute,
    ];

    /// The name in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Subscription => "subscription",
            Self::Invoice => "invoice",
            Self::Checkout => "checkout",
            Self::Charge => "charge",
            Self::Dispute => "dispute",
        }
    }
}

/// A text that names no kind of object.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("must be customer, subscription, invoice, checkout, charge or dispute")]
pub struct UnknownObjectKind;

impl FromStr for ObjectKind {
    type Err = UnknownObjectKind;
    fn from_str(text: &str) -> Result<Self, UnknownObjectKind> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(UnknownObjectKind)
    }
}

/// Names an object at the provider.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectRef {
    /// What it is.
    pub kind: ObjectKind,
    /// Its id, visible ASCII.
    pub id: String,
}

impl ObjectRef {
    /// Names an object.
    #[must_use]
    pub fn new(kind: ObjectKind, id: impl fmt::Display) -> Self {
        Self {
            kind,
            id: id.to_string(),
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.id)
    }
}

/// What is read of an event. All but id and type may be missing: then the event is kept and touches nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventEnvelope {
    /// Its id: the same event delivered again has the same.
    pub id: ProviderEventId,
    /// What happened, as `customer.subscription.updated`.
    pub kind: String,
    /// When, in whole seconds by the provider's clock: no order can be read from it.
    pub created: Option<DateTime<Utc>>,
    /// Whether real money moves.
    pub livemode: Option<bool>,
    /// The connected account it happened in; ours has none.
    pub account: Option<String>,
    /// The id of the object it is about.
    pub object: Option<String>,
    /// The customer that the object names, if it names one.
    pub customer: Option<CustomerId>,
    /// The subscription that the object names, if it names one.
    pub subscription: Option<String>,
    /// The charge that the object names, if it names one.
    pub charge: Option<String>,
}

/// A body that is no event: it was signed, so somebody with our secret sent something else.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("failed to read an event: {0}")]
pub struct NoEvent(&'static str);

impl EventEnvelope {
    /// Reads the envelope of an event's bytes.
    ///
    /// # Errors
    /// No JSON object, or one without an id or a type.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoEvent> {
        let event: Value = serde_json::from_slice(bytes).map_err(|_| NoEvent("it is no JSON"))?;
        // No database keeps a NUL in a text, and nothing of the provider's has one.
        let text = |value: &Value| {
            let text = value.as_str().filter(|text| !text.contains('\0'));
            text.map(str::to_owned)
        };
        let id = text(&event["id"])
            .and_then(|id| id.parse().ok())
            .ok_or(NoEvent("it has no id"))?;
        let kind = text(&event["type"]).ok_or(NoEvent("it has no type"))?;
        let object = &event["data"]["object"];
        // An id, or the object itself where the account expands it.
        let reference = |value: &Value| text(value).or_else(|| text(&value["id"]));
        Ok(Self {
            id,
            kind,
            created: event["created"]
                .as_i64()
                .and_then(|seconds| DateTime::from_timestamp(seconds, 0)),
            livemode: event["livemode"].as_bool(),
            account: text(&event["account"]),
            object: text(&object["id"]).filter(|id| is_id(id)),
            customer: reference(&object["customer"]).and_then(|id| id.parse().ok()),
            subscription: reference(&object["subscription"]).filter(|id| is_id(id)),
            charge: reference(&object["charge"]).filter(|id| is_id(id)),
        })
    }

    /// What becomes of the event where `livemode` is ours.
    #[must_use]
    pub fn disposition(&self, livemode: Option<bool>) -> Disposition {
        if self.account.is_some() {
            return Disposition::Ignored(Ignored::OtherAccount);
        }
        if livemode.is_some() && self.livemode != livemode {
            return Disposition::Ignored(Ignored::OtherMode);
        }
        let Some((kind, id)) = self.touched() else {
            return Disposition::Ignored(Ignored::UnknownType);
        };
        match id {
            Some(id) => Disposition::Touches(ObjectRef::new(kind, id)),
            None => Disposition::Ignored(Ignored::NoObject),
        }
    }

    /// Which object the event is about; nothing for a type that means nothing to us.
    fn touched(&self) -> Option<(ObjectKind, Option<&str>)> {
        let customer = self.customer.as_ref().map(CustomerId::as_str);
        let (object, kind) = (self.object.as_deref(), self.kind.as_str());
        match kind {
            "customer.created" | "customer.updated" | "customer.deleted" => {
                Some((ObjectKind::Customer, object))
            }
            "charge.refunded" => Some((ObjectKind::Charge, object)),
            // A refund that fails later was none.
            "charge.refund.updated" | "refund.created" | "refund.updated" | "refund.failed" => {
                Some((ObjectKind::Charge, self.charge.as_deref()))
            }
            _ if kind.starts_with("customer.subscription.") => {
                Some((ObjectKind::Subscription, object))
            }
            _ if kind.starts_with("subscription_schedule.") => {
                Some((ObjectKind::Subscription, self.subscription.as_deref()))
            }
            _ if kind.starts_with("invoice.") => Some((ObjectKind::Invoice, object)),
            _ if kind.starts_with("checkout.session.") => Some((ObjectKind::Checkout, object)),
            _ if kind.starts_with("charge.dispute.") => Some((ObjectKind::Dispute, object)),
            // A method that was detached names no customer any more; the customer's own event follows.
            _ if kind.starts_with("payment_method.") => Some((ObjectKind::Customer, customer)),
            _ => None,
        }
    }
}

fn is_id(text: &str) -> bool {
    text.parse::<ProviderEventId>().is_ok()
}

/// Why an event touches nothing. It is kept all the same, and can be replayed once it means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// A type that means nothing to this version.
    UnknownType,
    /// Test money where ours is real, or the reverse.
    OtherMode,
    /// It happened in a connected account.
    OtherAccount,
    /// It names no object (as `invoice.upcoming`, whose invoice does not exist yet).
    NoObject,
}

impl Ignored {
    /// The name in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownType => "unknown_type",
            Self::OtherMode => "other_mode",
            Self::OtherAccount => "other_account",
            Self::NoObject => "no_object",
        }
    }
}

/// What becomes of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// Its object is to be fetched.
    Touches(ObjectRef),
    /// It is kept and touches nothing.
    Ignored(Ignored),
}

/// An event with its bytes as they were signed, or as the provider's list gave them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderEvent {
    /// What was read of it.
    pub envelope: EventEnvelope,
    /// All of it.
    pub payload: Vec<u8>,
}

impl ProviderEvent {
    /// Reads an event.
    ///
    /// # Errors
    /// The bytes are no event.
    pub fn read(payload: Vec<u8>) -> Result<Self, NoEvent> {
        Ok(Self {
            envelope: EventEnvelope::parse(&payload)?,
            payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn envelope(event: &Value) -> EventEnvelope {
        EventEnvelope::parse(event.to_string().as_bytes()).unwrap()
    }

    fn touches(kind: &str, object: Value) -> Disposition {
        let event =
            json!({ "id": "evt_1", "type": kind, "livemode": false, "data": { "object": object } });
        envelope(&event).disposition(Some(false))
    }

    #[test]
    fn a_text_that_no_database_keeps_is_none() {
        let event = json!({ "id": "evt_1", "type": "x\u{0}y", "account": "acct\u{0}" });
        let refused = EventEnvelope::parse(event.to_string().as_bytes());
        assert_eq!(refused.unwrap_err(), NoEvent("it has no type"));
    }

    #[test]
    fn an_event_touches_the_object_that_it_is_about() {
        let object = json!({ "id": "x_1", "customer": "cus_1", "subscription": { "id": "sub_1" }, "charge": "ch_1" });
        for (kind, touched, id) in [
            (
                "customer.subscription.deleted",
                ObjectKind::Subscription,
                "x_1",
            ),
            ("customer.updated", ObjectKind::Customer, "x_1"),
            ("invoice.payment_failed", ObjectKind::Invoice, "x_1"),
            ("checkout.session.completed", ObjectKind::Checkout, "x_1"),
            ("payment_method.attached", ObjectKind::Customer, "cus_1"),
            ("charge.refunded", ObjectKind::Charge, "x_1"),
            ("refund.updated", ObjectKind::Charge, "ch_1"),
            ("charge.dispute.closed", ObjectKind::Dispute, "x_1"),
            (
                "subscription_schedule.released",
                ObjectKind::Subscription,
                "sub_1",
            ),
        ] {
            let expected = Disposition::Touches(ObjectRef::new(touched, id));
            assert_eq!(touches(kind, object.clone()), expected, "{kind}");
        }
    }

    #[test]
    fn what_is_not_ours_or_means_nothing_is_kept_and_touches_nothing() {
        let ignored = |why| Disposition::Ignored(why);
        assert_eq!(
            touches("customer.tax_id.created", json!({ "id": "txi_1" })),
            ignored(Ignored::UnknownType)
        );
        assert_eq!(
            touches("invoice.upcoming", json!({})),
            ignored(Ignored::NoObject)
        );
        assert_eq!(
            touches("invoice.paid", json!({ "id": "in 1" })),
            ignored(Ignored::NoObject)
        );
        assert_eq!(
            touches(
                "payment_method.detached",
                json!({ "id": "pm_1", "customer": null })
            ),
            ignored(Ignored::NoObject)
        );
        let live = envelope(
            &json!({ "id": "evt_1", "type": "invoice.paid", "livemode": true, "data": { "object": { "id": "in_1" } } }),
        );
        assert_eq!(live.disposition(Some(false)), ignored(Ignored::OtherMode));
        assert!(matches!(
            live.disposition(Some(true)),
            Disposition::Touches(_)
        ));
        let abroad = envelope(
            &json!({ "id": "evt_1", "type": "invoice.paid", "account": "acct_1", "livemode": true, "data": { "object": { "id": "in_1" } } }),
        );
        assert_eq!(
            abroad.disposition(Some(true)),
            ignored(Ignored::OtherAccount)
        );
        let modeless = envelope(
            &json!({ "id": "evt_1", "type": "invoice.paid", "data": { "object": { "id": "in_1" } } }),
        );
        assert_eq!(
            modeless.disposition(Some(false)),
            ignored(Ignored::OtherMode)
        );
    }

    #[test]
    fn what_has_no_id_or_no_type_is_no_event() {
        for wrong in [
            "",
            "[]",
            "{}",
            "{\"id\":\"evt_1\"}",
            "{\"type\":\"a\"}",
            "{\"id\":7,\"type\":\"a\"}",
            "{\"id\":\"\",\"type\":\"a\"}",
        ] {
            assert!(EventEnvelope::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = EventEnvelope::parse(&bytes);
        }
    }
}
