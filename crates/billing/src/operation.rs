//! The operation log: what we ask of the provider, written down before it is asked.

use std::fmt;

use chrono::{DateTime, Utc};
use rawdrive_tenancy_core::Actor;
use rawdrive_tenancy_core::id::{OperationId, TypedId as _};
use serde::{Deserialize, Serialize};

use crate::gateway::{CancelWhen, ChangePrice, Decline, NewCheckout, NewCustomer, Subscribe};
use crate::ids::{CheckoutId, CustomerId, IdempotencyKey, InvoiceId, SubscriptionId};
use crate::provider_objects::Metadata;

/// How long an operation is the one's who drives it, in seconds of real time; longer than a call can take.
pub const OPERATION_LEASE_SECONDS: i64 = 45;

/// What must not happen twice at a time in a workspace: at most one operation of a lane is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Making the customer, and keeping its record.
    Customer,
    /// Whatever makes or changes the subscription: a change does not overtake a cancellation.
    Subscription,
    /// Ending what another subscription has taken the place of.
    Retirement,
}

impl Lane {
    /// The name in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Subscription => "subscription",
            Self::Retirement => "retirement",
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A call with all that it takes to make it again exactly so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OperationRequest {
    /// Make the workspace's customer.
    CreateCustomer(NewCustomer),
    /// Bring the customer's name and address up to date.
    UpdateCustomer {
        /// Which.
        customer: CustomerId,
        /// The name on invoices.
        name: String,
        /// Where invoices go.
        email: Option<String>,
    },
    /// Subscribe.
    Subscribe(Subscribe),
    /// Change the price.
    ChangePrice(ChangePrice),
    /// End the subscription.
    Cancel {
        /// Which.
        subscription: SubscriptionId,
        /// When.
        when: CancelWhen,
        /// Workspace and operation.
        metadata: Metadata,
    },
    /// Take an end or a scheduled change back.
    Resume {
        /// Of which.
        subscription: SubscriptionId,
        /// Workspace and operation.
        metadata: Metadata,
    },
    /// Open a hosted checkout.
    Checkout(NewCheckout),
    /// End a paused subscription at once, since another is in force.
    Retire {
        /// Which.
        subscription: SubscriptionId,
        /// Workspace and operation.
        metadata: Metadata,
    },
}

impl OperationRequest {
    /// Its lane.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        match self {
            Self::CreateCustomer(_) | Self::UpdateCustomer { .. } => Lane::Customer,
            Self::Subscribe(_)
            | Self::ChangePrice(_)
            | Self::Cancel { .. }
            | Self::Resume { .. }
            | Self::Checkout(_) => Lane::Subscription,
            Self::Retire { .. } => Lane::Retirement,
        }
    }

    /// What the provider has been told of who pays, by an operation that says it.
    #[must_use]
    pub fn told(&self) -> Option<(&str, Option<&str>)> {
        match self {
            Self::CreateCustomer(new) => Some((&new.name, new.email.as_deref())),
            Self::UpdateCustomer { name, email, .. } => Some((name, email.as_deref())),
            _ => None,
        }
    }

    /// Whether two requests ask for the same, each made by an operation of its own at a time of its own.
    #[must_use]
    pub fn is_same_request(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::CreateCustomer(_), Self::CreateCustomer(_)) => true,
            (Self::Subscribe(a), Self::Subscribe(b)) => {
                (&a.customer, &a.price, &a.payment_method, a.trial_days)
                    == (&b.customer, &b.price, &b.payment_method, b.trial_days)
            }
            (Self::ChangePrice(a), Self::ChangePrice(b)) => {
                let same_time =
                    std::mem::discriminant(&a.timing) == std::mem::discriminant(&b.timing);
                same_time && (&a.subscription, &a.price) == (&b.subscription, &b.price)
            }
            (
                Self::Cancel {
                    subscription: a,
                    when: when_a,
                    ..
                },
                Self::Cancel {
                    subscription: b,
                    when: when_b,
                    ..
                },
            ) => a == b && when_a == when_b,
            (
                Self::Resume {
                    subscription: a, ..
                },
                Self::Resume {
                    subscription: b, ..
                },
            )
            | (
                Self::Retire {
                    subscription: a, ..
                },
                Self::Retire {
                    subscription: b, ..
                },
            ) => a == b,
            (Self::Checkout(a), Self::Checkout(b)) => {
                (&a.customer, &a.price, &a.success_url, &a.cancel_url)
                    == (&b.customer, &b.price, &b.success_url, &b.cancel_url)
            }
            _ => false,
        }
    }

    /// The name in the database and in logs.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::CreateCustomer(_) => "create_customer",
            Self::UpdateCustomer { .. } => "update_customer",
            Self::Subscribe(_) => "subscribe",
            Self::ChangePrice(_) => "change_price",
            Self::Cancel { .. } => "cancel",
            Self::Resume { .. } => "resume",
            Self::Checkout(_) => "checkout",
            Self::Retire { .. } => "retire",
        }
    }
}

/// How an operation ended. It holds no client secret: that is asked for again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum OperationOutcome {
    /// There is a customer.
    Customer {
        /// Which.
        customer: CustomerId,
    },
    /// The subscription is as it was asked for.
    Subscription {
        /// Which.
        subscription: SubscriptionId,
    },
    /// The checkout is open.
    Checkout {
        /// Which.
        checkout: CheckoutId,
    },
    /// The payment was refused.
    Declined(Decline),
    /// The payer must confirm the payment of this invoice.
    ActionRequired {
        /// What waits for the payer, if it is known.
        invoice: Option<InvoiceId>,
    },
    /// The provider refused the call.
    Rejected {
        /// Its code.
        code: String,
    },
}

/// An operation that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Its id; also on what it makes, as metadata.
    pub id: OperationId,
    /// What is asked for.
    pub request: OperationRequest,
    /// Who asked for it: what comes of it was their doing.
    pub actor: Actor,
    /// 1, 2, 3 …: each has a key of its own, and follows only when the one before can say nothing more.
    pub attempt: u32,
    /// How often somebody took it up: who writes with an older number has lost it.
    pub fence: u64,
    /// When it was begun, by the time of decisions: what it made is not older.
    pub created_at: DateTime<Utc>,
    /// Until when it is the one's who drives it, in real time.
    pub leased_until: DateTime<Utc>,
    /// Whether the provider did not answer when it was last asked under this attempt's key.
    pub unanswered: bool,
}

impl Operation {
    /// The attempt's key; the same whenever it is asked for.
    #[must_use]
    pub fn key(&self) -> IdempotencyKey {
        self.key_for("call")
    }

    /// The key of a further call that the attempt makes, about an object.
    ///
    /// # Panics
    /// The object's id is no id.
    #[must_use]
    pub fn key_for(&self, part: &str) -> IdempotencyKey {
        let text = format!("rd-{}-{}-{part}", self.id.uuid().simple(), self.attempt);
        // Whatever an id's length, a key's is bounded.
        let end = text.len().min(255);
        text[..end].parse().expect("visible characters are a key")
    }
}
