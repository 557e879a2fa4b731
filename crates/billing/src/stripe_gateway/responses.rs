//! What is read of Stripe's answers, and nothing else.
//!
//! What is used must be what it is documented to be, or the answer cannot be read and nothing is concluded from it.
//! What is not used is not looked at: a field that moved, a new status, an object where an id used to be, or an id
//! where an object was asked for, stop nothing. Nothing here that can hold a client secret prints it.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};
use rawdrive_plans::Interval;
use secrecy::SecretString;
use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::gateway::{ClientSecret, Decline, GatewayError, Listed};
use crate::ids::{
    ChargeId, CheckoutId, CustomerId, DisputeId, InvoiceId, ItemId, PaymentMethodId, PriceId,
    ProductId, SubscriptionId,
};
use crate::money::{Currency, Money};
use crate::provider_objects::{
    Attempt, AttemptOutcome, ChargeSnapshot, CheckoutSnapshot, CollectionMethod, CustomerSnapshot,
    DiscountSnapshot, DisputeSnapshot, InvoiceSnapshot, InvoiceStatus, ItemSnapshot, Metadata,
    Pause, Paused, PriceSnapshot, RefundSnapshot, ScheduledChange, SubscriptionSnapshot,
    SubscriptionStatus,
};

const GENERIC_DECLINE: &str = "generic_decline";
/// The codes by which a bank says that its customer must be present.
const WANTS_PAYER: [&str; 3] = [
    "authentication_required",
    "authentication_not_handled",
    "payment_intent_authentication_failure",
];

/// An id, whether Stripe gives the id or the object that has it.
#[derive(Debug, Clone)]
pub(super) struct Ref<T>(pub(super) T);

impl<'de, T> Deserialize<'de> for Ref<T>
where
    T: TryFrom<String>,
    T::Error: fmt::Display,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Named {
            id: String,
        }
        let (Expandable::Id(id) | Expandable::Object(Named { id })) =
            Expandable::<Named>::deserialize(deserializer)?;
        T::try_from(id).map(Self).map_err(D::Error::custom)
    }
}

fn id<T>(reference: Option<Ref<T>>) -> Option<T> {
    reference.map(|Ref(id)| id)
}

/// An object, or the id under which it is to be fetched.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Expandable<T> {
    Id(String),
    Object(T),
}

/// A time: whole seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At(pub(super) DateTime<Utc>);

impl<'de> Deserialize<'de> for At {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = i64::deserialize(deserializer)?;
        let at = DateTime::from_timestamp(seconds, 0);
        at.map(Self)
            .ok_or_else(|| D::Error::custom("expected a time"))
    }
}

fn at(time: Option<At>) -> Option<DateTime<Utc>> {
    time.map(|At(at)| at)
}

/// Texts that were left on an object; whatever is no text was not left by us.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Texts(Option<BTreeMap<String, Value>>);

impl From<Texts> for Metadata {
    fn from(texts: Texts) -> Self {
        let pairs = texts.0.unwrap_or_default().into_iter();
        let texts = pairs.filter_map(|(key, value)| match value {
            Value::String(text) => Some((key, text)),
            _ => None,
        });
        Self(texts.collect())
    }
}

/// A page of a list.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Page<T> {
    pub(super) data: Vec<T>,
    #[serde(default)]
    pub(super) has_more: bool,
}

impl<T> Page<T> {
    /// The page as the port gives it; `next` is asked for by the last item's id.
    pub(super) fn listed<S>(
        self,
        id: impl Fn(&S) -> String,
        snapshot: impl Fn(T) -> Result<S, GatewayError>,
    ) -> Result<Listed<S>, GatewayError> {
        let has_more = self.has_more;
        let items: Vec<S> = self
            .data
            .into_iter()
            .map(snapshot)
            .collect::<Result<_, _>>()?;
        let next = items.last().filter(|_| has_more).map(id);
        Ok(Listed { items, next })
    }
}

/// An answer that lacks what is used.
fn lacks(what: &'static str) -> GatewayError {
    GatewayError::Unreachable {
        reason: format!("an answer without {what}"),
    }
}

/// A customer.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Customer {
    id: CustomerId,
    #[serde(default)]
    deleted: bool,
    email: Option<String>,
    name: Option<String>,
    currency: Option<Currency>,
    invoice_settings: Option<InvoiceSettings>,
    created: Option<At>,
    /// A deleted one does not say.
    livemode: Option<bool>,
    #[serde(default)]
    metadata: Texts,
}

#[derive(Debug, Clone, Deserialize)]
struct InvoiceSettings {
    default_payment_method: Option<Ref<PaymentMethodId>>,
}

impl Customer {
    /// The customer. One that was deleted does not say whether it moved real money: our key sees those of its own mode
    /// alone.
    pub(super) fn snapshot(self, livemode: bool) -> CustomerSnapshot {
        let settings = self.invoice_settings;
        CustomerSnapshot {
            id: self.id,
            deleted: self.deleted,
            email: self.email,
            name: self.name,
            currency: self.currency,
            default_payment_method: id(settings.and_then(|s| s.default_payment_method)),
            created: at(self.created),
            livemode: self.livemode.unwrap_or(livemode),
            metadata: self.metadata.into(),
        }
    }
}

/// Anything of which only the name matters.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Named {
    pub(super) id: String,
}

/// A price.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Price {
    id: PriceId,
    product: Ref<ProductId>,
    currency: Currency,
    recurring: Option<Recurring>,
    unit_amount: Option<i64>,
    active: Option<bool>,
    lookup_key: Option<String>,
    #[serde(default)]
    metadata: Texts,
}

#[derive(Debug, Clone, Deserialize)]
struct Recurring {
    interval: String,
    interval_count: Option<u64>,
}

impl From<Price> for PriceSnapshot {
    fn from(price: Price) -> Self {
        let once = |recurring: &Recurring| recurring.interval_count.unwrap_or(1) == 1;
        let recurring = price.recurring.filter(once);
        Self {
            id: price.id,
            product: price.product.0,
            currency: price.currency,
            interval: recurring.and_then(|r| r.interval.parse::<Interval>().ok()),
            amount: price.unit_amount,
            active: price.active.unwrap_or(true),
            lookup_key: price.lookup_key,
            metadata: price.metadata.into(),
        }
    }
}

/// A subscription.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Subscription {
    id: SubscriptionId,
    customer: Ref<CustomerId>,
    status: SubscriptionStatus,
    created: At,
    #[serde(default)]
    livemode: bool,
    items: Option<Page<Item>>,
    billing_cycle_anchor: Option<At>,
    /// Where older versions keep what newer ones keep on the items.
    current_period_start: Option<At>,
    current_period_end: Option<At>,
    trial_end: Option<At>,
    cancel_at_period_end: Option<bool>,
    cancel_at: Option<At>,
    canceled_at: Option<At>,
    ended_at: Option<At>,
    pause_collection: Option<PauseCollection>,
    collection_method: Option<CollectionMethod>,
    discounts: Option<Vec<Expandable<Discount>>>,
    cancellation_details: Option<CancellationDetails>,
    status_details: Option<StatusDetails>,
    default_payment_method: Option<Ref<PaymentMethodId>>,
    latest_invoice: Option<Ref<InvoiceId>>,
    pub(super) pending_setup_intent: Option<Expandable<SetupIntent>>,
    pub(super) schedule: Option<Expandable<Schedule>>,
    pending_update: Option<IgnoredAny>,
    #[serde(default)]
    metadata: Texts,
}

#[derive(Debug, Clone, Deserialize)]
struct Item {
    id: ItemId,
    price: Price,
    quantity: Option<u64>,
    current_period_start: Option<At>,
    current_period_end: Option<At>,
}

#[derive(Debug, Clone, Deserialize)]
struct CancellationDetails {
    reason: Option<String>,
}

/// A discount, where newer versions keep its coupon and where older ones do.
#[derive(Debug, Clone, Deserialize)]
struct Discount {
    source: Option<DiscountSource>,
    coupon: Option<Ref<String>>,
    end: Option<At>,
}

#[derive(Debug, Clone, Deserialize)]
struct DiscountSource {
    coupon: Option<Ref<String>>,
}

impl Discount {
    fn snapshot(self) -> Option<DiscountSnapshot> {
        let coupon = self
            .source
            .and_then(|source| source.coupon)
            .or(self.coupon)?;
        Some(DiscountSnapshot {
            coupon: coupon.0,
            ends_at: at(self.end),
        })
    }
}

/// Why a subscription has its status.
#[derive(Debug, Clone, Deserialize)]
struct StatusDetails {
    paused: Option<PausedDetails>,
}

#[derive(Debug, Clone, Deserialize)]
struct PausedDetails {
    transitioned_at: At,
    subscription: Option<PauseType>,
}

#[derive(Debug, Clone, Deserialize)]
struct PauseType {
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl StatusDetails {
    fn paused(self) -> Option<Paused> {
        let details = self.paused?;
        let kind = details.subscription.and_then(|pause| pause.kind);
        Some(Paused {
            reason: kind.unwrap_or_else(|| "unknown".to_owned()),
            since: details.transitioned_at.0,
        })
    }
}

/// What sets a card up for later payments.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct SetupIntent {
    status: String,
    client_secret: Option<Hidden>,
}

impl SetupIntent {
    /// What its payer's browser needs, where the bank asks for the payer.
    pub(super) fn confirmable(&self) -> Option<ClientSecret> {
        let waits = matches!(
            self.status.as_str(),
            "requires_action" | "requires_confirmation"
        );
        let secret = self.client_secret.as_ref().filter(|_| waits)?;
        Some(secret.reveal())
    }
}

#[derive(Debug, Clone, Deserialize)]
struct PauseCollection {
    behavior: String,
    resumes_at: Option<At>,
}

impl Subscription {
    /// Whether a change of it waits for its payment.
    pub(super) const fn waits_for_payment(&self) -> bool {
        self.pending_update.is_some()
    }

    /// The subscription; its schedule, if it has one, must have been fetched.
    pub(super) fn snapshot(self) -> Result<SubscriptionSnapshot, GatewayError> {
        let outer = (self.current_period_start, self.current_period_end);
        let items = self.items.map(|page| page.data).unwrap_or_default();
        let items = items.into_iter().map(|item| item.snapshot(outer));
        let items: Vec<_> = items.collect::<Result<_, _>>()?;
        let schedule = match &self.schedule {
            Some(Expandable::Object(schedule)) => Some(schedule),
            Some(Expandable::Id(_)) | None => None,
        };
        let scheduled = schedule.and_then(|schedule| schedule.change(&items));
        let ends = schedule.and_then(Schedule::cancels_at);
        let paused = self.status_details.and_then(StatusDetails::paused);
        let is_paused = self.status == SubscriptionStatus::Paused;
        let discounts = self.discounts.unwrap_or_default().into_iter();
        let mut discounts = discounts.filter_map(|discount| match discount {
            Expandable::Object(discount) => discount.snapshot(),
            Expandable::Id(_) => None,
        });
        Ok(SubscriptionSnapshot {
            scheduled,
            plan_item: None,
            paused: paused.filter(|_| is_paused),
            collection_method: self.collection_method.unwrap_or_default(),
            discount: discounts.next(),
            cancellation_reason: self.cancellation_details.and_then(|details| details.reason),
            id: self.id,
            customer: self.customer.0,
            status: self.status,
            created: self.created.0,
            livemode: self.livemode,
            items,
            billing_cycle_anchor: self.billing_cycle_anchor.unwrap_or(self.created).0,
            trial_end: at(self.trial_end),
            cancel_at_period_end: self.cancel_at_period_end.unwrap_or(false),
            cancel_at: at(self.cancel_at).or(ends),
            canceled_at: at(self.canceled_at),
            ended_at: at(self.ended_at),
            pause: self.pause_collection.map(|pause| Pause {
                behavior: pause.behavior,
                resumes_at: at(pause.resumes_at),
            }),
            default_payment_method: id(self.default_payment_method),
            latest_invoice: id(self.latest_invoice),
            metadata: self.metadata.into(),
        })
    }
}

impl Item {
    fn snapshot(self, outer: (Option<At>, Option<At>)) -> Result<ItemSnapshot, GatewayError> {
        let start = self.current_period_start.or(outer.0);
        let end = self.current_period_end.or(outer.1);
        Ok(ItemSnapshot {
            id: self.id,
            price: self.price.into(),
            quantity: self.quantity.unwrap_or(1),
            period_start: at(start).ok_or_else(|| lacks("the current period"))?,
            period_end: at(end).ok_or_else(|| lacks("the current period"))?,
        })
    }
}

/// A schedule of a subscription.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Schedule {
    pub(super) id: String,
    status: Option<String>,
    pub(super) current_phase: Option<CurrentPhase>,
    #[serde(default)]
    pub(super) phases: Vec<Phase>,
    end_behavior: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct CurrentPhase {
    pub(super) start_date: At,
    end_date: Option<At>,
}

/// A phase. What an operator may have put on the subscription is read to be kept, since a phase replaces it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Phase {
    start_date: At,
    end_date: Option<At>,
    #[serde(default)]
    pub(super) items: Vec<PhaseItem>,
    pub(super) discounts: Option<Vec<PhaseDiscount>>,
    pub(super) default_tax_rates: Option<Vec<Ref<String>>>,
    pub(super) default_payment_method: Option<Ref<String>>,
    pub(super) automatic_tax: Option<AutomaticTax>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct PhaseItem {
    pub(super) price: Ref<PriceId>,
    pub(super) quantity: Option<u64>,
    pub(super) discounts: Option<Vec<PhaseDiscount>>,
    pub(super) tax_rates: Option<Vec<Ref<String>>>,
    #[serde(default)]
    pub(super) metadata: Texts,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct PhaseDiscount {
    pub(super) coupon: Option<Ref<String>>,
    pub(super) discount: Option<Ref<String>>,
    pub(super) promotion_code: Option<Ref<String>>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct AutomaticTax {
    pub(super) enabled: Option<bool>,
}

impl Schedule {
    /// Whether it holds the subscription now.
    pub(super) fn is_active(&self) -> bool {
        self.status
            .as_deref()
            .is_none_or(|status| status == "active")
    }

    /// The phase that holds now.
    pub(super) fn phase(&self) -> Option<&Phase> {
        let start = self.current_phase.as_ref()?.start_date;
        self.phases.iter().find(|phase| phase.start_date == start)
    }

    /// When it ends the subscription, if it does.
    fn cancels_at(&self) -> Option<DateTime<Utc>> {
        let cancels = self.is_active() && self.end_behavior.as_deref() == Some("cancel");
        let ends = self.phases.iter().filter_map(|phase| phase.end_date).max();
        at(ends.filter(|_| cancels))
    }

    /// The next change to a price that is not there now.
    fn change(&self, present: &[ItemSnapshot]) -> Option<ScheduledChange> {
        let current = self.current_phase.as_ref().filter(|_| self.is_active())?;
        let mut later: Vec<_> = self.phases.iter().collect();
        later.retain(|phase| match current.end_date {
            Some(end) => phase.start_date >= end,
            None => phase.start_date > current.start_date,
        });
        later.sort_by_key(|phase| phase.start_date);
        later.into_iter().find_map(|phase| {
            let mut prices = phase.items.iter().map(|item| &item.price.0);
            let price = prices.find(|price| present.iter().all(|item| item.price.id != **price))?;
            Some(ScheduledChange {
                price: price.clone(),
                at: phase.start_date.0,
            })
        })
    }
}

/// An invoice.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Invoice {
    id: InvoiceId,
    customer: Ref<CustomerId>,
    parent: Option<Parent>,
    /// Where older versions keep what newer ones keep in `parent`.
    subscription: Option<Ref<SubscriptionId>>,
    number: Option<String>,
    status: Option<InvoiceStatus>,
    billing_reason: Option<String>,
    currency: Currency,
    total: i64,
    amount_due: Option<i64>,
    amount_paid: Option<i64>,
    amount_remaining: Option<i64>,
    created: At,
    period_start: Option<At>,
    period_end: Option<At>,
    lines: Option<Page<Line>>,
    collection_method: Option<CollectionMethod>,
    due_date: Option<At>,
    status_transitions: Option<Transitions>,
    #[serde(default)]
    attempted: bool,
    attempt_count: Option<u32>,
    next_payment_attempt: Option<At>,
    last_finalization_error: Option<Refusal>,
    hosted_invoice_url: Option<String>,
    invoice_pdf: Option<String>,
    #[serde(default)]
    livemode: bool,
    #[serde(default)]
    metadata: Texts,
}

#[derive(Debug, Clone, Deserialize)]
struct Parent {
    subscription_details: Option<SubscriptionDetails>,
}

#[derive(Debug, Clone, Deserialize)]
struct SubscriptionDetails {
    subscription: Option<Ref<SubscriptionId>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Line {
    amount: Option<i64>,
    period: Option<Period>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Period {
    start: At,
    end: At,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Transitions {
    finalized_at: Option<At>,
    paid_at: Option<At>,
    voided_at: Option<At>,
    marked_uncollectible_at: Option<At>,
}

impl Invoice {
    /// Whether somebody has tried to collect it.
    pub(super) fn was_attempted(&self) -> bool {
        self.attempted || self.attempt_count.is_some_and(|count| count > 0)
    }

    pub(super) fn snapshot(self, attempts: Vec<Attempt>) -> InvoiceSnapshot {
        // What the lines are for; the invoice's own period is the one before, in which items were gathered.
        let lines = self.lines.map(|page| page.data).unwrap_or_default();
        let periods: Vec<_> = lines.into_iter().filter_map(|line| line.period).collect();
        let start = periods.iter().map(|period| period.start).min();
        let end = periods.iter().map(|period| period.end).max();
        let due = self.amount_due.unwrap_or(self.total);
        let paid = self.amount_paid.unwrap_or(0);
        let details = self.parent.and_then(|parent| parent.subscription_details);
        let subscription = details.and_then(|details| details.subscription);
        let moments = self.status_transitions.unwrap_or_default();
        InvoiceSnapshot {
            id: self.id,
            customer: self.customer.0,
            subscription: id(subscription.or(self.subscription)),
            number: self.number,
            status: self.status.unwrap_or(InvoiceStatus::Draft),
            billing_reason: self.billing_reason,
            currency: self.currency,
            total: self.total,
            amount_due: due,
            amount_paid: paid,
            amount_remaining: self.amount_remaining.unwrap_or(due - paid),
            created: self.created.0,
            period_start: start.or(self.period_start).unwrap_or(self.created).0,
            period_end: end.or(self.period_end).unwrap_or(self.created).0,
            collection_method: self.collection_method.unwrap_or_default(),
            due_at: at(self.due_date),
            reversed_at: None,
            finalized_at: at(moments.finalized_at),
            paid_at: at(moments.paid_at),
            voided_at: at(moments.voided_at),
            marked_uncollectible_at: at(moments.marked_uncollectible_at),
            attempts,
            attempt_count: self.attempt_count.unwrap_or(0),
            next_attempt: at(self.next_payment_attempt),
            finalization_error: self.last_finalization_error.map(|error| {
                let code = error.code.or(error.kind);
                code.unwrap_or_else(|| "unknown".to_owned())
            }),
            hosted_url: self.hosted_invoice_url,
            pdf_url: self.invoice_pdf,
            livemode: self.livemode,
            metadata: self.metadata.into(),
        }
    }
}

/// What an invoice that is not made yet would come to.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Preview {
    currency: Currency,
    total: i64,
    amount_due: Option<i64>,
    lines: Option<Page<Line>>,
}

impl Preview {
    pub(super) const fn total(&self) -> Money {
        Money::new(self.total, self.currency)
    }

    /// What is charged; a negative total is credited as it is.
    pub(super) fn charged(&self) -> Money {
        let due = self.amount_due.unwrap_or(self.total);
        Money::new(if self.total < 0 { self.total } else { due }, self.currency)
    }

    /// The end of what it pays for. What is credited for the time that is not used ends when that would have, which
    /// can be much later: a year that becomes months.
    pub(super) fn until(&self) -> Option<DateTime<Utc>> {
        let lines = self.lines.as_ref()?.data.iter();
        let pays = lines.filter(|line| line.amount.is_none_or(|amount| amount >= 0));
        pays.filter_map(|line| Some(line.period?.end.0)).max()
    }
}

/// A payment of an invoice.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct InvoicePayment {
    pub(super) payment: Option<Payment>,
    pub(super) invoice: Option<Ref<InvoiceId>>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Payment {
    pub(super) payment_intent: Option<Expandable<Intent>>,
}

/// A payment with its attempts.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Intent {
    pub(super) id: String,
    pub(super) status: String,
    pub(super) created: At,
    pub(super) client_secret: Option<Hidden>,
    pub(super) last_payment_error: Option<Refusal>,
}

impl Intent {
    pub(super) fn is_canceled(&self) -> bool {
        self.status == "canceled"
    }

    /// Whether the payer can complete it by a confirmation.
    pub(super) fn wants_payer(&self) -> bool {
        let refused = self.last_payment_error.as_ref();
        match self.status.as_str() {
            "requires_action" | "requires_confirmation" => true,
            "requires_payment_method" => refused.is_some_and(Refusal::wants_payer),
            _ => false,
        }
    }

    /// What it says of its attempts where no charge tells of them.
    pub(super) fn attempt(&self) -> Option<Attempt> {
        let outcome = match (self.status.as_str(), &self.last_payment_error) {
            ("succeeded", _) => AttemptOutcome::Succeeded,
            ("requires_action", _) => AttemptOutcome::ActionRequired,
            (_, Some(refusal)) => AttemptOutcome::Failed {
                decline_code: Some(refusal.decline().decline_code),
            },
            _ => return None,
        };
        Some(Attempt {
            id: self.id.clone(),
            at: self.created.0,
            outcome,
        })
    }
}

/// A text that is shown to the payer alone.
#[derive(Clone, Deserialize)]
pub(super) struct Hidden(String);

impl Hidden {
    pub(super) fn reveal(&self) -> ClientSecret {
        ClientSecret(SecretString::from(self.0.clone()))
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(…)")
    }
}

/// An invoice with what its payer's browser needs.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Confirmable {
    pub(super) confirmation_secret: Option<Confirmation>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Confirmation {
    pub(super) client_secret: Hidden,
}

/// A charge.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Charge {
    id: ChargeId,
    customer: Option<Ref<CustomerId>>,
    amount: i64,
    currency: Currency,
    amount_refunded: Option<i64>,
    pub(super) payment_intent: Option<Ref<String>>,
    created: At,
    status: Option<String>,
    failure_code: Option<String>,
    outcome: Option<ChargeOutcome>,
    #[serde(default)]
    livemode: bool,
}

#[derive(Debug, Clone, Deserialize)]
struct ChargeOutcome {
    reason: Option<String>,
}

impl Charge {
    /// The attempt that it is; nothing while it is under way.
    pub(super) fn attempt(&self) -> Option<Attempt> {
        let outcome = match self.status.as_deref() {
            Some("succeeded") => AttemptOutcome::Succeeded,
            Some("failed") => {
                let network = self
                    .outcome
                    .as_ref()
                    .and_then(|outcome| outcome.reason.as_ref());
                AttemptOutcome::Failed {
                    decline_code: network.or(self.failure_code.as_ref()).cloned(),
                }
            }
            _ => return None,
        };
        Some(Attempt {
            id: self.id.to_string(),
            at: self.created.0,
            outcome,
        })
    }
}

impl Charge {
    /// Whether something of it was given back.
    pub(super) fn was_refunded(&self) -> bool {
        self.amount_refunded.is_some_and(|amount| amount > 0)
    }

    pub(super) fn snapshot(
        self,
        refunds: Vec<RefundSnapshot>,
        invoice: Option<InvoiceId>,
    ) -> ChargeSnapshot {
        ChargeSnapshot {
            id: self.id,
            customer: id(self.customer),
            amount: Money::new(self.amount, self.currency),
            amount_refunded: self.amount_refunded.unwrap_or(0),
            refunds,
            invoice,
            created: self.created.0,
            livemode: self.livemode,
        }
    }
}

/// Money that was given back, or is on its way.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Refund {
    id: String,
    amount: i64,
    created: At,
    status: Option<String>,
}

impl Refund {
    /// What was given back; nothing for one that failed or was taken back.
    pub(super) fn snapshot(self) -> Option<RefundSnapshot> {
        let is_void = matches!(self.status.as_deref(), Some("failed" | "canceled"));
        (!is_void).then_some(RefundSnapshot {
            id: self.id,
            amount: self.amount,
            created: self.created.0,
        })
    }
}

/// A dispute.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Dispute {
    id: DisputeId,
    pub(super) charge: Option<Expandable<DisputedCharge>>,
    amount: i64,
    currency: Currency,
    status: String,
    reason: Option<String>,
    created: At,
    #[serde(default)]
    livemode: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct DisputedCharge {
    id: ChargeId,
    customer: Option<Ref<CustomerId>>,
    payment_intent: Option<Ref<String>>,
}

impl Dispute {
    /// Whether somebody has decided that the money is gone.
    pub(super) fn is_lost(&self) -> bool {
        self.status == "lost"
    }

    /// The payment that is disputed.
    pub(super) fn payment_intent(&self) -> Option<&str> {
        match &self.charge {
            Some(Expandable::Object(charge)) => {
                charge.payment_intent.as_ref().map(|id| id.0.as_str())
            }
            _ => None,
        }
    }

    pub(super) fn snapshot(self, invoice: Option<InvoiceId>) -> DisputeSnapshot {
        let (charge, customer) = match self.charge {
            Some(Expandable::Object(charge)) => (Some(charge.id), id(charge.customer)),
            Some(Expandable::Id(charge)) => (charge.parse().ok(), None),
            None => (None, None),
        };
        DisputeSnapshot {
            id: self.id,
            charge,
            customer,
            invoice,
            amount: Money::new(self.amount, self.currency),
            status: self.status,
            reason: self.reason,
            created: self.created.0,
            livemode: self.livemode,
        }
    }
}

/// A hosted checkout.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Checkout {
    id: CheckoutId,
    status: Option<String>,
    url: Option<String>,
    customer: Option<Ref<CustomerId>>,
    subscription: Option<Ref<SubscriptionId>>,
    #[serde(default)]
    livemode: bool,
    #[serde(default)]
    metadata: Texts,
}

impl From<Checkout> for CheckoutSnapshot {
    fn from(checkout: Checkout) -> Self {
        Self {
            id: checkout.id,
            status: checkout.status.unwrap_or_else(|| "unknown".to_owned()),
            url: checkout.url,
            customer: id(checkout.customer),
            subscription: id(checkout.subscription),
            livemode: checkout.livemode,
            metadata: checkout.metadata.into(),
        }
    }
}

/// The settings of the hosted portal.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct PortalConfiguration {
    pub(super) id: String,
    #[serde(default)]
    metadata: Texts,
}

impl PortalConfiguration {
    /// Whether we made it, for this.
    pub(super) fn has_mark(&self, key: &str) -> bool {
        let texts = self.metadata.0.as_ref();
        texts.is_some_and(|texts| texts.contains_key(key))
    }
}

/// A page of the hosted portal.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Portal {
    pub(super) url: String,
}

/// Events, each with its bytes as they came.
#[derive(Debug, Deserialize)]
pub(super) struct Events {
    pub(super) data: Vec<Box<RawValue>>,
    #[serde(default)]
    pub(super) has_more: bool,
}

/// The body of a refusal.
#[derive(Debug, Deserialize)]
pub(super) struct ErrorBody {
    pub(super) error: Refusal,
}

/// Why Stripe refuses something (<https://docs.stripe.com/api/errors>).
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Refusal {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) code: Option<String>,
    decline_code: Option<String>,
    pub(super) message: Option<String>,
    payment_intent: Option<Expandable<RefusedIntent>>,
}

#[derive(Debug, Clone, Deserialize)]
struct RefusedIntent {
    status: Option<String>,
    client_secret: Option<Hidden>,
}

impl Refusal {
    /// The network's word, or Stripe's where the network gave none.
    pub(super) fn decline(&self) -> Decline {
        let word = self.decline_code.as_ref().or(self.code.as_ref());
        Decline {
            decline_code: word.map_or_else(|| GENERIC_DECLINE.to_owned(), Clone::clone),
        }
    }

    fn wants_payer(&self) -> bool {
        let words = [&self.decline_code, &self.code].into_iter().flatten();
        words
            .into_iter()
            .any(|word| WANTS_PAYER.contains(&word.as_str()))
    }

    /// What the payer can confirm, where that is all that is missing.
    pub(super) fn confirmable(&self) -> Option<ClientSecret> {
        let Some(Expandable::Object(intent)) = &self.payment_intent else {
            return None;
        };
        let waits = intent.status.as_deref() == Some("requires_action") || self.wants_payer();
        let secret = intent.client_secret.as_ref().filter(|_| waits)?;
        Some(secret.reveal())
    }
}

/// A refusal of which nothing is told.
pub(super) fn generic_decline() -> Decline {
    Refusal::default().decline()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A subscription with all that is read of one, references as ids.
    fn subscription() -> Value {
        json!({
            "id": "sub_1",
            "customer": "cus_1",
            "status": "active",
            "created": 1_790_000_000,
            "livemode": false,
            "items": { "data": [{
                "id": "si_1",
                "price": price(),
                "quantity": 1,
                "current_period_start": 1_790_000_000,
                "current_period_end": 1_792_592_000,
            }], "has_more": false },
            "billing_cycle_anchor": 1_790_000_000,
            "trial_end": null,
            "cancel_at_period_end": false,
            "cancel_at": null,
            "canceled_at": null,
            "ended_at": null,
            "pause_collection": { "behavior": "void", "resumes_at": 1_791_000_000 },
            "default_payment_method": "pm_1",
            "latest_invoice": "in_1",
            "schedule": schedule(),
            "pending_update": null,
            "metadata": { "rawdrive_operation": "x" },
        })
    }

    fn price() -> Value {
        json!({
            "id": "price_1",
            "product": "prod_1",
            "currency": "usd",
            "recurring": { "interval": "month", "interval_count": 1 },
            "unit_amount": 2_900,
            "active": true,
            "lookup_key": "rawdrive_professional_v1_usd_month",
            "metadata": {},
        })
    }

    fn schedule() -> Value {
        json!({
            "id": "sub_sched_1",
            "status": "active",
            "current_phase": { "start_date": 1_790_000_000, "end_date": 1_792_592_000 },
            "phases": [
                { "start_date": 1_790_000_000, "end_date": 1_792_592_000,
                  "items": [{ "price": "price_1", "quantity": 1 }] },
                { "start_date": 1_792_592_000, "items": [{ "price": "price_2", "quantity": 1 }] },
            ],
        })
    }

    fn invoice() -> Value {
        json!({
            "id": "in_1",
            "customer": "cus_1",
            "parent": { "subscription_details": { "subscription": "sub_1" } },
            "number": "A-1",
            "status": "open",
            "billing_reason": "subscription_cycle",
            "currency": "usd",
            "total": 2_900,
            "amount_due": 2_900,
            "amount_paid": 0,
            "amount_remaining": 2_900,
            "created": 1_790_000_000,
            "period_start": 1_787_000_000,
            "period_end": 1_790_000_000,
            "lines": { "data": [
                { "period": { "start": 1_790_000_000, "end": 1_792_592_000 } },
            ] },
            "status_transitions": {
                "finalized_at": 1_790_003_600, "paid_at": null, "voided_at": null,
                "marked_uncollectible_at": null,
            },
            "attempted": true,
            "attempt_count": 1,
            "next_payment_attempt": 1_790_262_800,
            "last_finalization_error": null,
            "hosted_invoice_url": "https://invoice.example/1",
            "invoice_pdf": null,
            "livemode": false,
            "metadata": {},
        })
    }

    fn read_subscription(value: &Value) -> Option<SubscriptionSnapshot> {
        let read: Subscription = serde_json::from_str(&value.to_string()).ok()?;
        read.snapshot().ok()
    }

    fn read_invoice(value: &Value) -> Option<InvoiceSnapshot> {
        let read: Invoice = serde_json::from_str(&value.to_string()).ok()?;
        Some(read.snapshot(Vec::new()))
    }

    #[test]
    fn what_is_used_of_a_subscription_is_read() {
        let read = read_subscription(&subscription()).unwrap();
        assert_eq!(read.status, SubscriptionStatus::Active);
        assert_eq!(read.period_end().unwrap().timestamp(), 1_792_592_000);
        assert_eq!(read.item().unwrap().price.interval, Some(Interval::Month));
        assert_eq!(read.pause.unwrap().behavior, "void");
        let scheduled = read.scheduled.unwrap();
        assert_eq!(scheduled.price.as_str(), "price_2");
        assert_eq!(scheduled.at.timestamp(), 1_792_592_000);
    }

    #[test]
    fn what_is_used_of_an_invoice_is_read() {
        let read = read_invoice(&invoice()).unwrap();
        assert_eq!(read.subscription.unwrap().as_str(), "sub_1");
        assert_eq!(read.period_end.timestamp(), 1_792_592_000, "what it is for");
        assert_eq!(read.amount_remaining, 2_900);
    }

    #[test]
    fn a_status_from_tomorrow_is_kept_as_it_came() {
        let mut tomorrow = subscription();
        tomorrow["status"] = json!("hibernating");
        let read = read_subscription(&tomorrow).unwrap();
        assert_eq!(
            read.status,
            SubscriptionStatus::Unknown("hibernating".into())
        );
        let mut tomorrow = invoice();
        tomorrow["status"] = json!("pending_review");
        let read = read_invoice(&tomorrow).unwrap();
        assert_eq!(read.status, InvoiceStatus::Unknown("pending_review".into()));
    }

    #[test]
    fn the_period_is_found_where_older_versions_keep_it() {
        let mut older = subscription();
        let item = older["items"]["data"][0].as_object_mut().unwrap();
        let start = item.remove("current_period_start").unwrap();
        let end = item.remove("current_period_end").unwrap();
        assert_eq!(read_subscription(&older), None, "a period is used");
        older["current_period_start"] = start;
        older["current_period_end"] = end;
        assert_eq!(
            read_subscription(&older),
            read_subscription(&subscription())
        );

        let mut older = invoice();
        older.as_object_mut().unwrap().remove("parent");
        older["subscription"] = json!({ "id": "sub_1", "object": "subscription" });
        assert_eq!(read_invoice(&older), read_invoice(&invoice()));
    }

    #[test]
    fn a_schedule_that_changes_nothing_or_is_over_is_no_change() {
        let mut same = subscription();
        same["schedule"]["phases"][1]["items"][0]["price"] = json!("price_1");
        assert_eq!(read_subscription(&same).unwrap().scheduled, None);
        for status in ["released", "canceled", "completed"] {
            let mut over = subscription();
            over["schedule"]["status"] = json!(status);
            assert_eq!(read_subscription(&over).unwrap().scheduled, None);
        }
        let mut bare = subscription();
        bare["schedule"] = json!("sub_sched_1");
        assert_eq!(read_subscription(&bare).unwrap().scheduled, None);
    }

    #[test]
    fn a_deleted_customer_says_so_and_nothing_else() {
        let read: Customer =
            serde_json::from_str(r#"{"id": "cus_1", "object": "customer", "deleted": true}"#)
                .unwrap();
        // It does not say of which mode it was: our key sees its own alone.
        assert!(read.clone().snapshot(true).livemode);
        let read = read.snapshot(false);
        assert!(read.deleted && !read.livemode);
        assert_eq!(
            (read.email, read.created, read.currency),
            (None, None, None)
        );
    }

    #[test]
    fn what_people_do_in_the_dashboard_is_read() {
        let mut value = subscription();
        value["status"] = json!("paused");
        value["collection_method"] = json!("send_invoice");
        value["cancellation_details"] = json!({ "reason": "payment_failed" });
        value["status_details"] = json!({ "paused": {
            "type": "subscription", "transitioned_at": 1_790_000_100,
            "subscription": { "type": "pause_requested" },
        }});
        value["discounts"] = json!([
            { "id": "di_1", "source": { "type": "coupon", "coupon": "SPRING" }, "end": 1_800_000_000 },
        ]);
        value["schedule"]["end_behavior"] = json!("cancel");
        value["schedule"]["phases"][1]["end_date"] = json!(1_795_000_000);
        let read = read_subscription(&value).unwrap();
        assert_eq!(read.collection_method, CollectionMethod::SendInvoice);
        assert_eq!(read.cancellation_reason.as_deref(), Some("payment_failed"));
        assert_eq!(read.ends_at().unwrap().timestamp(), 1_795_000_000);
        let discount = read.discount.unwrap();
        assert_eq!(discount.coupon, "SPRING");
        assert_eq!(discount.ends_at.unwrap().timestamp(), 1_800_000_000);
        let paused = read.paused.unwrap();
        assert_eq!(
            (paused.reason.as_str(), paused.since.timestamp()),
            ("pause_requested", 1_790_000_100)
        );
        // What was the reason once is none of one that goes on.
        value["status"] = json!("active");
        assert_eq!(read_subscription(&value).unwrap().paused, None);
        let mut mailed = invoice();
        mailed["collection_method"] = json!("send_invoice");
        mailed["due_date"] = json!(1_790_600_000);
        let read = read_invoice(&mailed).unwrap();
        assert_eq!(read.missing_since().unwrap().timestamp(), 1_790_600_000);
    }

    #[test]
    fn what_a_payment_waits_for_is_told_from_what_it_was_refused_for() {
        let intent = |status: &str, error: Value| -> Intent {
            let value = json!({
                "id": "pi_1", "status": status, "created": 1_790_000_000,
                "client_secret": "pi_1_secret_2", "last_payment_error": error,
            });
            serde_json::from_str(&value.to_string()).unwrap()
        };
        let refused = json!({ "code": "card_declined", "decline_code": "insufficient_funds" });
        let refused = intent("requires_payment_method", refused);
        assert!(!refused.wants_payer());
        let insufficient = AttemptOutcome::Failed {
            decline_code: Some("insufficient_funds".to_owned()),
        };
        assert_eq!(refused.attempt().unwrap().outcome, insufficient);
        let absent = json!({ "code": "card_declined", "decline_code": "authentication_required" });
        assert!(intent("requires_payment_method", absent).wants_payer());
        let present = intent("requires_action", Value::Null);
        assert!(present.wants_payer());
        assert_eq!(
            present.attempt().unwrap().outcome,
            AttemptOutcome::ActionRequired
        );
        assert_eq!(intent("processing", Value::Null).attempt(), None);
        assert!(!format!("{present:?}").contains("secret_2"), "{present:?}");
    }

    #[test]
    fn a_price_at_an_interval_that_is_not_sold_has_none() {
        for (interval, count, expected) in [
            ("month", 1, Some(Interval::Month)),
            ("year", 1, Some(Interval::Year)),
            ("month", 3, None),
            ("week", 1, None),
            ("fortnight", 1, None),
        ] {
            let mut value = price();
            value["recurring"] = json!({ "interval": interval, "interval_count": count });
            let read: Price = serde_json::from_str(&value.to_string()).unwrap();
            assert_eq!(
                PriceSnapshot::from(read).interval,
                expected,
                "{interval} × {count}"
            );
        }
    }

    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::vec(("[a-z]{1,6}", inner), 0..3)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    /// Puts something that nobody reads into every object, and objects where ids were.
    fn grown(value: &Value, extra: &Value, expands: bool) -> Value {
        const REFERENCES: [&str; 7] = [
            "customer",
            "product",
            "default_payment_method",
            "latest_invoice",
            "subscription",
            "price",
            "charge",
        ];
        match value {
            Value::Object(fields) => {
                let grown = fields.iter().map(|(key, value)| {
                    let named = json!({ "id": value, "zz_unread": extra });
                    let expands =
                        expands && value.is_string() && REFERENCES.contains(&key.as_str());
                    let value = if expands {
                        named
                    } else {
                        grown(value, extra, expands)
                    };
                    (key.clone(), value)
                });
                let unread = [("zz_unread".to_owned(), extra.clone())];
                Value::Object(grown.chain(unread).collect())
            }
            Value::Array(rows) => rows.iter().map(|row| grown(row, extra, expands)).collect(),
            other => other.clone(),
        }
    }

    /// Every place of a value, depth first.
    fn places(value: &Value, at: &str, all: &mut Vec<String>) {
        let mut go = |key: &str, inner: &Value| {
            let place = format!("{at}/{key}");
            all.push(place.clone());
            places(inner, &place, all);
        };
        match value {
            Value::Object(fields) => fields.iter().for_each(|(key, inner)| go(key, inner)),
            Value::Array(rows) => {
                for (index, inner) in rows.iter().enumerate() {
                    go(&index.to_string(), inner);
                }
            }
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn what_is_not_used_changes_nothing(extra in anything(), expands in any::<bool>()) {
            let sub = grown(&subscription(), &extra, expands);
            prop_assert_eq!(read_subscription(&sub), {
                let mut plain = read_subscription(&subscription());
                // Metadata are texts: one more is one more, if it is a text.
                if let (Some(plain), Some(text)) = (&mut plain, extra.as_str()) {
                    plain.metadata.0.insert("zz_unread".into(), text.into());
                    for item in &mut plain.items {
                        item.price.metadata.0.insert("zz_unread".into(), text.into());
                    }
                }
                plain
            });
            let mut plain = read_invoice(&invoice());
            if let (Some(plain), Some(text)) = (&mut plain, extra.as_str()) {
                plain.metadata.0.insert("zz_unread".into(), text.into());
            }
            prop_assert_eq!(read_invoice(&grown(&invoice(), &extra, expands)), plain);
        }

        #[test]
        fn what_is_used_and_wrong_is_an_error_or_absent_and_never_a_panic(
            at in any::<prop::sample::Index>(), wrong in anything(),
        ) {
            let broken = |original: Value| {
                let mut all = Vec::new();
                places(&original, "", &mut all);
                let place = all.swap_remove(at.index(all.len()));
                let mut broken = original;
                *broken.pointer_mut(&place).unwrap() = wrong.clone();
                (broken, place)
            };
            // Whatever is read, the object is still itself and its payer the same, unless that is what was broken.
            let (value, place) = broken(subscription());
            if let Some(read) = read_subscription(&value) {
                prop_assert!(read.id.as_str() == "sub_1" || place == "/id");
                prop_assert!(read.customer.as_str() == "cus_1" || place == "/customer");
                prop_assert!(read.status == SubscriptionStatus::Active || place == "/status");
            }
            let (value, place) = broken(invoice());
            if let Some(read) = read_invoice(&value) {
                prop_assert!(read.id.as_str() == "in_1" || place == "/id");
                prop_assert!(read.customer.as_str() == "cus_1" || place == "/customer");
                prop_assert!(read.total == 2_900 || place == "/total");
            }
        }
    }
}
