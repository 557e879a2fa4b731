//! The provider's objects as they were when they were fetched, reduced to what is used.
//!
//! What the provider may add tomorrow (a status, a reason) is kept as it came and grants nothing. Times are the
//! provider's own, in whole seconds. Snapshots are stored as JSON beside the columns that are searched, hence
//! `Serialize`; they are no wire shape.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_plans::Interval;
use rawdrive_tenancy_core::id::{OperationId, WorkspaceId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::{
    ChargeId, CheckoutId, CustomerId, DisputeId, InvoiceId, ItemId, PaymentMethodId, PriceId,
    ProductId, SubscriptionId,
};
use crate::money::{Currency, Money};

/// The key of the workspace's id in the metadata of everything that we make at the provider.
pub const WORKSPACE_KEY: &str = "rawdrive_workspace";
/// The key of the operation's id in the metadata of what an operation makes or changes.
pub const OPERATION_KEY: &str = "rawdrive_operation";

/// Texts that we left on an object. They say what we wrote, and prove nothing: whose a customer is, our own
/// table says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Metadata(pub BTreeMap<String, String>);

impl Metadata {
    /// What everything that is made for a workspace carries.
    #[must_use]
    pub fn of(workspace: WorkspaceId, operation: Option<OperationId>) -> Self {
        let operation = operation.map(|id| (OPERATION_KEY.to_owned(), id.to_string()));
        let workspace = (WORKSPACE_KEY.to_owned(), workspace.to_string());
        Self([workspace].into_iter().chain(operation).collect())
    }

    /// The workspace that the object names, if it names one.
    #[must_use]
    pub fn workspace(&self) -> Option<WorkspaceId> {
        self.0.get(WORKSPACE_KEY)?.parse().ok()
    }

    /// The operation that last made or changed the object, if it names one.
    #[must_use]
    pub fn operation(&self) -> Option<OperationId> {
        self.0.get(OPERATION_KEY)?.parse().ok()
    }
}

macro_rules! status {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
            /// One that was not known when this was written; kept as it came, and grants nothing.
            Unknown(String),
        }
        impl $name {
            /// The provider's word.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Unknown(text) => text,
                }
            }
        }
        impl From<String> for $name {
            fn from(text: String) -> Self {
                match text.as_str() {
                    $($text => Self::$variant,)+
                    _ => Self::Unknown(text),
                }
            }
        }
        impl From<$name> for String {
            fn from(status: $name) -> Self { status.as_str().to_owned() }
        }
    };
}

status! {
    /// Where a subscription is in its life (Stripe, "Subscription statuses").
    SubscriptionStatus {
        /// The first payment is still to be made; after 23 hours it becomes `IncompleteExpired`.
        Incomplete = "incomplete",
        /// The first payment was never made. Final.
        IncompleteExpired = "incomplete_expired",
        /// Nothing is charged yet.
        Trialing = "trialing",
        /// In good standing. Collection may be paused all the same: see [`SubscriptionSnapshot::pause`].
        Active = "active",
        /// The latest invoice is not paid; the provider tries again.
        PastDue = "past_due",
        /// The latest invoice is not paid; the provider has given up.
        Unpaid = "unpaid",
        /// The trial ended without a means of paying.
        Paused = "paused",
        /// Ended. Final.
        Canceled = "canceled",
    }
}

impl SubscriptionStatus {
    /// Whether nothing follows it.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Canceled | Self::IncompleteExpired)
    }

    /// Whether it came to life: its first payment was made, or a trial began. It may have ended since.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        !matches!(self, Self::Incomplete | Self::IncompleteExpired)
    }

    /// Whether nothing is charged yet.
    #[must_use]
    pub const fn is_trial(&self) -> bool {
        matches!(self, Self::Trialing)
    }
}

status! {
    /// Where an invoice is in its life.
    InvoiceStatus {
        /// Still being written.
        Draft = "draft",
        /// To be paid.
        Open = "open",
        /// Paid. Final.
        Paid = "paid",
        /// Nobody expects it to be paid any more; it still may be.
        Uncollectible = "uncollectible",
        /// Withdrawn. Final.
        Void = "void",
    }
}

status! {
    /// How an invoice is collected.
    #[derive(Default)]
    CollectionMethod {
        /// From the payer's default means of paying, at once.
        #[default]
        ChargeAutomatically = "charge_automatically",
        /// It is mailed, and to be paid by its due date.
        SendInvoice = "send_invoice",
    }
}

/// A price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceSnapshot {
    /// Its id.
    pub id: PriceId,
    /// What it is a price of.
    pub product: ProductId,
    /// Its currency.
    pub currency: Currency,
    /// How often it is charged; nothing for a price that is charged once, or at an interval that we do not sell.
    pub interval: Option<Interval>,
    /// Minor units; nothing for a tiered price.
    pub amount: Option<i64>,
    /// Whether new subscriptions may use it.
    pub active: bool,
    /// The name under which it is found again.
    pub lookup_key: Option<String>,
    /// What we left on it.
    pub metadata: Metadata,
}

/// A line of a subscription. The period lives here, since the provider lets lines differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemSnapshot {
    /// Its id.
    pub id: ItemId,
    /// Its price.
    pub price: PriceSnapshot,
    /// How many.
    pub quantity: u64,
    /// When the current period began.
    pub period_start: DateTime<Utc>,
    /// When it ends.
    pub period_end: DateTime<Utc>,
}

impl ItemSnapshot {
    /// The time nearest to `at` from which a difference of prices can be counted: within `[period_start, period_end)`.
    #[must_use]
    pub fn within_period(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        let last = self.period_end - TimeDelta::seconds(1);
        at.min(last).max(self.period_start)
    }
}

/// Collection that an operator has paused at the provider; the status stays `active`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// `keep_as_draft`, `mark_uncollectible` or `void`: what becomes of invoices meanwhile.
    pub behavior: String,
    /// When it ends by itself.
    pub resumes_at: Option<DateTime<Utc>>,
}

/// Why and since when a subscription has the status `paused`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// The provider's word, as `pause_requested`.
    pub reason: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// What a subscription is given less for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscountSnapshot {
    /// The provider's coupon.
    pub coupon: String,
    /// When it ends by itself.
    pub ends_at: Option<DateTime<Utc>>,
}

/// A change of price that is to happen by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledChange {
    /// The price that follows.
    pub price: PriceId,
    /// When.
    pub at: DateTime<Utc>,
}

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionSnapshot {
    /// Its id.
    pub id: SubscriptionId,
    /// Who pays it. Its workspace is the one that this customer is linked to, whatever the metadata says.
    pub customer: CustomerId,
    /// Where it is in its life.
    pub status: SubscriptionStatus,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// Whether it moves real money.
    pub livemode: bool,
    /// Its lines. Ours have one; what others add is kept.
    pub items: Vec<ItemSnapshot>,
    /// The line that is the plan, where it is not the first. Found when it is projected: the provider does not know
    /// what we sell.
    #[serde(default)]
    pub plan_item: Option<ItemId>,
    /// The day and time by which its periods are counted.
    pub billing_cycle_anchor: DateTime<Utc>,
    /// When the trial ends or ended, if there is one.
    pub trial_end: Option<DateTime<Utc>>,
    /// Whether it ends with the current period.
    pub cancel_at_period_end: bool,
    /// When it is to end, if that is settled.
    pub cancel_at: Option<DateTime<Utc>>,
    /// Why it ended or is to end, as `payment_failed`.
    #[serde(default)]
    pub cancellation_reason: Option<String>,
    /// When somebody asked for its end.
    pub canceled_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Collection that is paused.
    pub pause: Option<Pause>,
    /// Why it has the status `paused`, if it has.
    #[serde(default)]
    pub paused: Option<Paused>,
    /// How its invoices are collected.
    #[serde(default)]
    pub collection_method: CollectionMethod,
    /// What it is given less for, if anything; of several, the first.
    #[serde(default)]
    pub discount: Option<DiscountSnapshot>,
    /// What its invoices are charged to, where it is not the customer's own default.
    pub default_payment_method: Option<PaymentMethodId>,
    /// The newest invoice.
    pub latest_invoice: Option<InvoiceId>,
    /// A change of price at a later time.
    pub scheduled: Option<ScheduledChange>,
    /// What we left on it.
    pub metadata: Metadata,
}

impl SubscriptionSnapshot {
    /// The line that is the plan; nothing for a subscription without lines.
    #[must_use]
    pub fn item(&self) -> Option<&ItemSnapshot> {
        let plan = self.plan_item.as_ref();
        plan.and_then(|id| self.item_of(id))
            .or_else(|| self.items.first())
    }

    /// A line by its id.
    #[must_use]
    pub fn item_of(&self, id: &ItemId) -> Option<&ItemSnapshot> {
        self.items.iter().find(|item| item.id == *id)
    }

    /// The lines beside the plan.
    pub fn addons(&self) -> impl Iterator<Item = &ItemSnapshot> {
        let plan = self.item().map(|item| &item.id);
        self.items.iter().filter(move |item| Some(&item.id) != plan)
    }

    /// When it ends, however that was asked for: with its period, or at a date. Nothing where it goes on, or has
    /// ended.
    #[must_use]
    pub fn ends_at(&self) -> Option<DateTime<Utc>> {
        if self.status.is_final() {
            return None;
        }
        let with_period = self.period_end().filter(|_| self.cancel_at_period_end);
        self.cancel_at.or(with_period)
    }

    /// Whether it ends with its current period, however that was asked for.
    #[must_use]
    pub fn ends_with_period(&self) -> bool {
        let at = self.ends_at();
        at.is_some() && (self.cancel_at_period_end || at == self.period_end())
    }

    /// When the current period ends.
    #[must_use]
    pub fn period_end(&self) -> Option<DateTime<Utc>> {
        self.item().map(|item| item.period_end)
    }
}

/// How an attempt to collect an invoice ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// It was paid.
    Succeeded,
    /// It was refused.
    Failed {
        /// The card network's word, as `insufficient_funds`.
        decline_code: Option<String>,
    },
    /// The payer has to confirm it, as by 3-D Secure.
    ActionRequired,
}

/// An attempt to collect an invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// What names it for ever: the charge's id, or the payment's where no charge was made.
    pub id: String,
    /// When, by the provider's clock.
    pub at: DateTime<Utc>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: AttemptOutcome,
}

/// An invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceSnapshot {
    /// Its id.
    pub id: InvoiceId,
    /// Who pays it.
    pub customer: CustomerId,
    /// The subscription it collects for, if any.
    pub subscription: Option<SubscriptionId>,
    /// The number on it, once it is finalized.
    pub number: Option<String>,
    /// Where it is in its life.
    pub status: InvoiceStatus,
    /// Why it was made, as `subscription_cycle`.
    pub billing_reason: Option<String>,
    /// Its currency.
    pub currency: Currency,
    /// What it comes to, in minor units.
    pub total: i64,
    /// What of it is to be collected.
    pub amount_due: i64,
    /// What was collected.
    pub amount_paid: i64,
    /// What is still missing.
    pub amount_remaining: i64,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// The period it is for.
    pub period_start: DateTime<Utc>,
    /// The period's end.
    pub period_end: DateTime<Utc>,
    /// How it is collected.
    #[serde(default)]
    pub collection_method: CollectionMethod,
    /// By when it is to be paid, where it is mailed.
    #[serde(default)]
    pub due_at: Option<DateTime<Utc>>,
    /// When its payment was taken back: given back in full, or lost in a dispute. Found when its charge is projected.
    #[serde(default)]
    pub reversed_at: Option<DateTime<Utc>>,
    /// When it was finalized.
    pub finalized_at: Option<DateTime<Utc>>,
    /// When it was paid.
    pub paid_at: Option<DateTime<Utc>>,
    /// When it was withdrawn.
    pub voided_at: Option<DateTime<Utc>>,
    /// When it was given up.
    pub marked_uncollectible_at: Option<DateTime<Utc>>,
    /// Every attempt to collect it that the provider tells of, oldest first. May be empty although
    /// `attempt_count` is not: a list of invoices does not carry attempts, and not every API version tells them.
    pub attempts: Vec<Attempt>,
    /// How many attempts the provider counts.
    pub attempt_count: u32,
    /// When the provider tries again.
    pub next_attempt: Option<DateTime<Utc>>,
    /// Why it could not be finalized, if it could not.
    pub finalization_error: Option<String>,
    /// The page where it can be paid.
    pub hosted_url: Option<String>,
    /// The document.
    pub pdf_url: Option<String>,
    /// Whether it moves real money.
    pub livemode: bool,
    /// What we left on it.
    pub metadata: Metadata,
}

impl InvoiceSnapshot {
    /// Its place among the workspace's invoices: a UUIDv7 of the time it was made, of its number and of its id, so
    /// that one page follows another in time. The provider counts whole seconds, and numbers what it finalizes; what
    /// has no number yet is the newest of its second.
    #[must_use]
    pub fn position(&self) -> Uuid {
        let millis = u64::try_from(self.created.timestamp_millis()).unwrap_or(0);
        let number = self.number.as_deref();
        let number = number.and_then(|number| number.rsplit('-').next()?.parse::<u32>().ok());
        let hash = digest(&SHA256, self.id.as_str().as_bytes());
        // The first three bytes lose bits to the version and the variant.
        let mut tail = [0; 10];
        tail[3..7].copy_from_slice(&number.unwrap_or(u32::MAX).to_be_bytes());
        tail[7..].copy_from_slice(&hash.as_ref()[..3]);
        uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid()
    }

    /// What it comes to.
    #[must_use]
    pub const fn total_money(&self) -> Money {
        Money::new(self.total, self.currency)
    }

    /// Whether money is still expected, or was until somebody gave up.
    #[must_use]
    pub const fn is_owed(&self) -> bool {
        matches!(
            self.status,
            InvoiceStatus::Open | InvoiceStatus::Uncollectible
        )
    }

    /// Since when its payment is missing: the first attempt that failed, or the day by which it was to be paid where
    /// nobody attempts. A draft that nobody finalizes is missing since it was written.
    #[must_use]
    pub fn missing_since(&self) -> Option<DateTime<Utc>> {
        match (&self.status, &self.collection_method) {
            (InvoiceStatus::Draft, _) => Some(self.created),
            (_, CollectionMethod::SendInvoice) => self.due_at,
            _ => self.first_failed_at(),
        }
    }

    /// When the first attempt to collect it failed, by the provider's clock. Where the provider counts attempts
    /// but does not tell their times, the time at which the invoice became collectable stands for the first,
    /// which is made at once: every fetch finds the same.
    #[must_use]
    pub fn first_failed_at(&self) -> Option<DateTime<Utc>> {
        let told = self.attempts.iter();
        let failed = told.filter(|attempt| attempt.outcome != AttemptOutcome::Succeeded);
        failed.map(|attempt| attempt.at).min().or_else(|| {
            let counted = self.attempts.is_empty() && self.attempt_count > 0 && self.is_owed();
            counted.then(|| self.finalized_at.unwrap_or(self.created))
        })
    }
}

/// A customer: who pays for a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomerSnapshot {
    /// Its id.
    pub id: CustomerId,
    /// Whether it was deleted at the provider. All else of a deleted one may be empty.
    pub deleted: bool,
    /// Where invoices go.
    pub email: Option<String>,
    /// The name on invoices.
    pub name: Option<String>,
    /// What it is billed in, once it was.
    pub currency: Option<Currency>,
    /// What invoices are charged to by default.
    pub default_payment_method: Option<PaymentMethodId>,
    /// When it was made; nothing for a deleted one.
    pub created: Option<DateTime<Utc>>,
    /// Whether it moves real money.
    pub livemode: bool,
    /// What we left on it.
    pub metadata: Metadata,
}

/// A hosted checkout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckoutSnapshot {
    /// Its id.
    pub id: CheckoutId,
    /// `open`, `complete` or `expired`.
    pub status: String,
    /// Where the payer is sent; nothing once it is over.
    pub url: Option<String>,
    /// Who pays.
    pub customer: Option<CustomerId>,
    /// What came of it.
    pub subscription: Option<SubscriptionId>,
    /// Whether it moves real money.
    pub livemode: bool,
    /// What we left on it.
    pub metadata: Metadata,
}

/// Money that was given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundSnapshot {
    /// Its id.
    pub id: String,
    /// How much, in minor units.
    pub amount: i64,
    /// When it was made.
    pub created: DateTime<Utc>,
}

/// A charge, for what was given back of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChargeSnapshot {
    /// Its id.
    pub id: ChargeId,
    /// Whom it was charged to.
    pub customer: Option<CustomerId>,
    /// What was charged.
    pub amount: Money,
    /// What of it was given back, in minor units.
    pub amount_refunded: i64,
    /// Each time that something was given back, oldest first. May be empty although something was, where the
    /// provider does not list them.
    pub refunds: Vec<RefundSnapshot>,
    /// The invoice that it paid, if that is known.
    pub invoice: Option<InvoiceId>,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// Whether it moves real money.
    pub livemode: bool,
}

impl ChargeSnapshot {
    /// Whether all of it was given back.
    #[must_use]
    pub const fn is_reversed(&self) -> bool {
        self.amount.minor > 0 && self.amount_refunded >= self.amount.minor
    }
}

/// A dispute: the payer asked the bank for the money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisputeSnapshot {
    /// Its id.
    pub id: DisputeId,
    /// What it is about.
    pub charge: Option<ChargeId>,
    /// Whom that was charged to: read from the charge, since a dispute does not say.
    pub customer: Option<CustomerId>,
    /// The invoice that the charge paid, if that is known.
    pub invoice: Option<InvoiceId>,
    /// What is at stake.
    pub amount: Money,
    /// `needs_response`, `won`, `lost` …
    pub status: String,
    /// The payer's reason, as `fraudulent`.
    pub reason: Option<String>,
    /// When it was opened.
    pub created: DateTime<Utc>,
    /// Whether it moves real money.
    pub livemode: bool,
}

impl DisputeSnapshot {
    /// Whether the money is lost.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.status == "lost"
    }
}

#[cfg(test)]
mod tests {
    use crate::fixtures::invoice;

    #[test]
    fn invoices_of_one_second_are_in_the_order_of_their_numbers() {
        let numbered = |number: Option<&str>| {
            let mut made = invoice("in_1");
            made.number = number.map(str::to_owned);
            made.position()
        };
        let in_order = [
            Some("2F6A-0002"),
            Some("2F6A-0010"),
            Some("2F6A-70000"),
            None,
        ];
        let positions = in_order.map(numbered);
        assert!(positions.is_sorted(), "{positions:?}");
        let mut later = invoice("in_1");
        later.created += chrono::TimeDelta::seconds(1);
        later.number = Some("2F6A-0001".to_owned());
        assert!(positions[3] < later.position());
    }
}
