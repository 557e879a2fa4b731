//! What billing needs of a payment provider, and what each failure means.
//!
//! Every method that changes something takes an [`IdempotencyKey`]. **What may be concluded from an answer:**
//!
//! | answer | it happened | what to do |
//! | --- | --- | --- |
//! | `Ok(Outcome::Done)` | yes | project what came back |
//! | `Ok(Outcome::Declined)`, `Ok(Outcome::ActionRequired)` | final for this key | tell the payer; another try is another operation |
//! | [`GatewayError::Unreachable`] | **unknown** | the same call under the same key, or look at what is there |
//! | [`GatewayError::RateLimited`] | no | the same call under the same key, later |
//! | [`GatewayError::ReplayedFailure`] | unknown, and the key will say so for ever | look at what is there; then another key |
//! | [`GatewayError::Rejected`], [`GatewayError::NotFound`] | no | nothing: the call is wrong as it is |
//! | [`GatewayError::Unauthorized`], [`GatewayError::NotConfigured`] | no | an operator must act |
//!
//! An adapter may try again by itself, with the same key and within a bounded time; a call never takes longer than
//! [`CALL_SECONDS`]. Nothing here is called inside a transaction.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rawdrive_plans::Interval;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::event::ProviderEvent;
use crate::ids::{
    ChargeId, CheckoutId, CustomerId, DisputeId, IdempotencyKey, InvoiceId, ItemId,
    PaymentMethodId, PriceId, ProductId, SubscriptionId,
};
use crate::money::{Currency, Money};
use crate::provider_objects::{
    ChargeSnapshot, CheckoutSnapshot, CustomerSnapshot, DisputeSnapshot, InvoiceSnapshot, Metadata,
    PriceSnapshot, SubscriptionSnapshot,
};

/// The longest that one call may take, an adapter's own tries included, in seconds.
pub const CALL_SECONDS: u64 = 30;

/// The code of [`GatewayError::Rejected`] for a paused subscription that nothing is there to pay with.
pub const NOTHING_TO_PAY_WITH: &str = "payment_method_missing";

/// Why a call came to nothing, or is not known to have come to anything. None of them holds a secret, or a text of
/// the provider that could hold one.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// No answer, none in time, a 5xx, or the key is in use by a call under way: whether it happened is unknown.
    #[error("failed to reach the payment provider: {reason}")]
    Unreachable {
        /// What was seen, for the log.
        reason: String,
    },
    /// Too many calls. Nothing happened.
    #[error("the payment provider asks for fewer calls")]
    RateLimited {
        /// How long to wait, if it says.
        retry_after: Option<Duration>,
    },
    /// The provider answers what it stored under this key, and that is a failure of its own: it will never answer
    /// otherwise. Whether the first call had an effect is unknown.
    #[error("the payment provider keeps answering a failure that it stored under this key")]
    ReplayedFailure,
    /// The call is refused as it is: it would be refused again. Nothing happened.
    #[error("the payment provider refused the call: {code}: {message}")]
    Rejected {
        /// The provider's code, as `resource_missing`; empty where it gives none.
        code: String,
        /// The provider's sentence, for the log.
        message: String,
    },
    /// What the call is about is not there. Nothing happened.
    #[error("the payment provider knows no such object")]
    NotFound,
    /// The provider does not take our key. Nothing happened.
    #[error("the payment provider does not accept the secret key")]
    Unauthorized,
    /// This installation sells nothing: plans are granted by an operator.
    #[error("billing is not configured")]
    NotConfigured,
}

impl GatewayError {
    /// Whether the call may have happened.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::ReplayedFailure)
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::RateLimited { .. })
    }
}

/// A card network's refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decline {
    /// The network's word, as `insufficient_funds`; `generic_decline` where it gives none.
    pub decline_code: String,
}

/// What the payer's browser needs to confirm a payment. It lets its holder confirm that one payment and nothing
/// else, but it is shown to the payer alone: not in logs, not in the database.
#[derive(Clone)]
pub struct ClientSecret(pub SecretString);

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(…)")
    }
}

/// How a call ended that may ask for money. All three are final for their key.
#[derive(Debug, Clone)]
pub enum Outcome<T> {
    /// It was done, and paid where it had to be.
    Done(T),
    /// The payment was refused.
    Declined {
        /// Why.
        decline: Decline,
        /// What is there all the same: an `incomplete` subscription, which grants nothing. A change that was
        /// declined leaves nothing: the subscription is as it was.
        left: Option<T>,
    },
    /// The payer must confirm the payment; then the provider goes on by itself, and tells by events.
    ActionRequired {
        /// For the payer's browser.
        client_secret: ClientSecret,
        /// What is there meanwhile.
        left: Option<T>,
    },
}

/// A page of a list, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// At most 100.
    pub items: Vec<T>,
    /// What to ask for to get the next page; nothing after the last.
    pub next: Option<String>,
}

/// A customer to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewCustomer {
    /// The name on invoices.
    pub name: String,
    /// Where invoices go.
    pub email: Option<String>,
    /// Workspace and operation.
    pub metadata: Metadata,
}

/// Which customers to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CustomerQuery {
    /// Made at this time or later.
    pub created_from: Option<DateTime<Utc>>,
    /// Continues after a page.
    pub after: Option<String>,
}

/// A subscription to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribe {
    /// Who pays.
    pub customer: CustomerId,
    /// For what.
    pub price: PriceId,
    /// With what; attached to the customer and made its default. A trial can do without: it then pauses at its end
    /// unless one has been added.
    pub payment_method: Option<PaymentMethodId>,
    /// Days before the first charge.
    pub trial_days: Option<u16>,
    /// A paused subscription that it takes the place of: a payment that this waits for is withdrawn first.
    #[serde(default)]
    pub replaces: Option<SubscriptionId>,
    /// Workspace and operation.
    pub metadata: Metadata,
}

/// When a change of price takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "timing", rename_all = "snake_case")]
pub enum ChangeTiming {
    /// At once; the difference is charged or credited at once, counted from this second on (Stripe's
    /// `proration_date`, so that a preview's amounts are what is charged).
    Now {
        /// From when on the new price counts. A change takes it within the current period only; see
        /// [`ChargePreview::proration_date`].
        proration_date: DateTime<Utc>,
    },
    /// When the current period ends; nothing is charged before.
    AtPeriodEnd,
}

/// A change of price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangePrice {
    /// Of which subscription.
    pub subscription: SubscriptionId,
    /// Its line.
    pub item: ItemId,
    /// The price it is to have.
    pub price: PriceId,
    /// How many of it, which a change of price alone keeps. Nothing for an operation of a release that did not say.
    #[serde(default)]
    pub quantity: Option<u64>,
    /// From when on.
    #[serde(flatten)]
    pub timing: ChangeTiming,
    /// Workspace and operation.
    pub metadata: Metadata,
}

/// What is to be previewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewRequest {
    /// Who would pay; nothing for somebody whom the provider does not know yet.
    pub customer: Option<CustomerId>,
    /// What would change; nothing for a new subscription.
    pub change: Option<(SubscriptionId, ItemId)>,
    /// The price it would have.
    pub price: PriceId,
    /// How many of it.
    pub quantity: u64,
    /// Days before the first charge of a new subscription.
    pub trial_days: Option<u16>,
    /// From when on.
    pub timing: ChangeTiming,
}

/// What a change would cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChargePreview {
    /// What would be charged at once; negative is credited to later invoices.
    pub now: Money,
    /// What the next regular invoice would come to.
    pub next: Money,
    /// When that would be.
    pub next_at: DateTime<Utc>,
    /// The second from which the difference is counted, where one is: the one that was asked for, moved into the
    /// period that the provider says is the current one. Our clock and the provider's never agree to the second.
    pub proration_date: Option<DateTime<Utc>>,
}

/// When a subscription ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelWhen {
    /// At once; nothing is given back.
    Now,
    /// When what was paid for is over.
    AtPeriodEnd,
}

/// A hosted checkout of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewCheckout {
    /// Who pays.
    pub customer: CustomerId,
    /// For what.
    pub price: PriceId,
    /// Days before the first charge.
    pub trial_days: Option<u16>,
    /// A paused subscription that it takes the place of: a payment that this waits for is withdrawn first.
    #[serde(default)]
    pub replaces: Option<SubscriptionId>,
    /// Where the payer comes back to when it is done.
    pub success_url: String,
    /// Where the payer comes back to otherwise.
    pub cancel_url: String,
    /// Workspace and operation: on the checkout, and on the subscription that comes of it.
    pub metadata: Metadata,
}

/// Which events to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventQuery {
    /// Made at this time or later. Stripe keeps them for 30 days.
    pub created_from: DateTime<Utc>,
    /// Only those of which a delivery failed or is still to come.
    pub undelivered: bool,
    /// Continues after a page.
    pub after: Option<String>,
}

/// A price to be made; a product of the same name is made where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPrice {
    /// The product's id, chosen by us: a second call finds the first's.
    pub product: ProductId,
    /// The product's name, for people.
    pub product_name: String,
    /// The name under which the price is found again, unique among prices in use.
    pub lookup_key: String,
    /// Its currency.
    pub currency: Currency,
    /// How often it is charged.
    pub interval: Interval,
    /// Minor units.
    pub amount: u64,
    /// Plan and version.
    pub metadata: Metadata,
}

/// A payment provider. See the module for what a failure means.
///
/// Fetches answer `Ok(None)` for what is not there; a customer that was deleted is there, and says so. What a fetch
/// answers was true at some time after the call began.
pub trait PaymentGateway: Send + Sync {
    /// Whether it moves real money. Nothing for a gateway that moves none; events of the other mode are stored and
    /// touch nothing.
    fn livemode(&self) -> Option<bool>;
    /// Whether the provider answered when it was asked last; nothing where nobody can be asked. Asks nobody.
    fn answers(&self) -> Option<bool> {
        self.livemode().map(|_| true)
    }

    /// Makes a customer. Before a second try under *another* key, look for what the first may have made:
    /// [`PaymentGateway::customers`].
    fn create_customer(
        &self,
        new: &NewCustomer,
        key: &IdempotencyKey,
    ) -> impl Future<Output = Result<CustomerSnapshot, GatewayError>> + Send;
    /// A customer.
    fn customer(
        &self,
        id: &CustomerId,
    ) -> impl Future<Output = Result<Option<CustomerSnapshot>, GatewayError>> + Send;
    /// Customers, newest first, by the provider's list and never by its search, which lags behind.
    fn customers(
        &self,
        query: &CustomerQuery,
    ) -> impl Future<Output = Result<Listed<CustomerSnapshot>, GatewayError>> + Send;
    /// Attaches a payment method to a customer and makes it the default. `Declined`: the card was refused.
    fn attach_payment_method(
        &self,
        customer: &CustomerId,
        method: &PaymentMethodId,
        key: &IdempotencyKey,
    ) -> impl Future<Output = Result<Outcome<CustomerSnapshot>, GatewayError>> + Send;

    /// Makes a subscription. `Declined` and `ActionRequired` may leave an `incomplete` one: end it before another
    /// is made, or two could come to life.
    fn subscribe(
        &self,
        new: &Subscribe,
        key: &IdempotencyKey,
    ) -> impl Future<Output = Result<Outcome<SubscriptionSnapshot>, GatewayError>> + Send;
    /// A subscription.
    fn subscription(
        &self,
        id: &SubscriptionId,
    ) -> impl Future<Output = Result<Option<SubscriptionSnapshot>, GatewayError>> + Send;
    /// Every subscription of a customer, ended ones too (those may be bounded: the newest 100).
    fn subscriptions_of(
        &self,
        customer: &CustomerId,
    ) -> impl Future<Output = Result<Vec<SubscriptionSnapshot>, GatewayError>> + Send;
    /// Changes the price of one line, and nothing else of it; other lines stay as they are. A change that was scheduled
    /// earlier, and an end that was set, are dropped. `Declined`: the subscription is as it was. `Rejected` where the difference is to be counted from a time outside
    /// of the current period: it is not moved here, since a repetition must send the same under its key.
    fn change_price(
        &self,
        change: &ChangePrice,
        key: &IdempotencyKey,
    ) -> impl Future<Output = Result<Outcome<SubscriptionSnapshot>, GatewayError>> + Send;
    /// What a change would cost; changes nothing. A time outside of the current period is moved into it.
    fn preview(
        &self,
        request: &PreviewRequest,
    ) -> impl Future<Output = Result<ChargePreview, GatewayError>> + Send;
    /// Ends a subscription. One that has ended already is answered as it is. One that waits for a payment, its first or
    /// that of its waking, takes the invoice with it, which nobody can pay any more; where it was paid meanwhile, it is
    /// answered as it has become. At the period's end is at once where the period is over, or nothing was ever paid.
    fn cancel(
        &self,
        id: &SubscriptionId,
        when: CancelWhen,
        metadata: &Metadata,
        key: &IdempotencyKey,
    ) -> impl Future<Output = Result<SubscriptionSnapshot, GatewayError>> + Send;
    /// Withdraws the payment that waking a paused subscription waits for, so that nobody makes it any more. Answers the
    /// subscription as it is then: awake, where the payer was faster.
    fn withdraw(
        &self,
        id: &SubscriptionId,
        key: &IdempotencyKey,
    ) -> impl Future<Output = Result<SubscriptionSnapshot, GatewayError>> + Send;
    /// Brings a customer's name and address up to date.
    fn update_customer(
        &self,
        customer: &CustomerId,
        name: &str,
        email: Option<&str>,
        key: &IdempotencyKey,
    ) -> impl Future<Output = Result<CustomerSnapshot, GatewayError>> + Send;
    /// Collects all that an unpaid subscription owes, oldest first: what was written meanwhile is finalized first. The
    /// latest decides, so that it is in order when all is paid. It stops at what is refused.
    fn collect_unpaid(
        &self,
        id: &SubscriptionId,
        metadata: &Metadata,
        key: &IdempotencyKey,
    ) -> impl Future<Output = Result<Outcome<SubscriptionSnapshot>, GatewayError>> + Send;
    /// Takes back an end that was set and a scheduled change, or wakes a paused one, which may have to be
    /// paid: `Rejected` with [`NOTHING_TO_PAY_WITH`] where nothing is there to pay with, and `Declined` leaves nothing
    /// that could be paid later. One that has ended stays so: `Rejected`.
    fn resume(
        &self,
        id: &SubscriptionId,
        metadata: &Metadata,
        key: &IdempotencyKey,
    ) -> impl Future<Output = Result<Outcome<SubscriptionSnapshot>, GatewayError>> + Send;

    /// An invoice with its attempts.
    fn invoice(
        &self,
        id: &InvoiceId,
    ) -> impl Future<Output = Result<Option<InvoiceSnapshot>, GatewayError>> + Send;
    /// Invoices of a customer, newest first; their attempts may be left out.
    fn invoices_of(
        &self,
        customer: &CustomerId,
        after: Option<String>,
    ) -> impl Future<Output = Result<Listed<InvoiceSnapshot>, GatewayError>> + Send;
    /// What an unpaid invoice waits for: a confirmation, or another card. Nothing where it waits for nobody.
    /// For the answer of an operation that ended before somebody asked.
    fn waits_for(
        &self,
        invoice: &InvoiceId,
    ) -> impl Future<Output = Result<Option<Outcome<()>>, GatewayError>> + Send;

    /// Opens a hosted checkout.
    fn checkout(
        &self,
        new: &NewCheckout,
        key: &IdempotencyKey,
    ) -> impl Future<Output = Result<CheckoutSnapshot, GatewayError>> + Send;
    /// A hosted checkout.
    fn checkout_session(
        &self,
        id: &CheckoutId,
    ) -> impl Future<Output = Result<Option<CheckoutSnapshot>, GatewayError>> + Send;
    /// Closes a hosted checkout, so that nobody pays there any more. One that is over is answered as it is.
    fn expire_checkout(
        &self,
        id: &CheckoutId,
    ) -> impl Future<Output = Result<CheckoutSnapshot, GatewayError>> + Send;
    /// The address of a hosted page where a customer manages cards and invoices. Making a second does no harm.
    fn portal(
        &self,
        customer: &CustomerId,
        return_url: &str,
    ) -> impl Future<Output = Result<String, GatewayError>> + Send;

    /// Makes the hosted page's settings where they are missing; whether they were. A dry run makes nothing.
    fn sync_portal(
        &self,
        dry_run: bool,
        key: &IdempotencyKey,
    ) -> impl Future<Output = Result<bool, GatewayError>> + Send;

    /// A charge.
    fn charge(
        &self,
        id: &ChargeId,
    ) -> impl Future<Output = Result<Option<ChargeSnapshot>, GatewayError>> + Send;
    /// A dispute, with the customer of its charge.
    fn dispute(
        &self,
        id: &DisputeId,
    ) -> impl Future<Output = Result<Option<DisputeSnapshot>, GatewayError>> + Send;
    /// Events, newest first, with their bytes.
    fn events(
        &self,
        query: &EventQuery,
    ) -> impl Future<Output = Result<Listed<ProviderEvent>, GatewayError>> + Send;

    /// The price in use under a name.
    fn price(
        &self,
        lookup_key: &str,
    ) -> impl Future<Output = Result<Option<PriceSnapshot>, GatewayError>> + Send;
    /// A price by its id.
    fn price_by_id(
        &self,
        id: &PriceId,
    ) -> impl Future<Output = Result<Option<PriceSnapshot>, GatewayError>> + Send;
    /// Makes a price, and its product where there is none.
    fn create_price(
        &self,
        new: &NewPrice,
        key: &IdempotencyKey,
    ) -> impl Future<Output = Result<PriceSnapshot, GatewayError>> + Send;
}
