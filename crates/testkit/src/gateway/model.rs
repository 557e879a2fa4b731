//! What the provider has, and how it changes.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Months, TimeDelta, Utc};
use rawdrive_billing::{
    Attempt, AttemptOutcome, CancelWhen, ChangePrice, ChangeTiming, ChargeId, ChargeSnapshot,
    CheckoutId, CheckoutSnapshot, CollectionMethod, Currency, CustomerId, CustomerSnapshot,
    DisputeId, DisputeSnapshot, IdempotencyKey, InvoiceId, InvoiceSnapshot, InvoiceStatus,
    ItemSnapshot, Metadata, Money, NewCheckout, NewCustomer, PaymentMethodId, PriceId,
    PriceSnapshot, ProviderEvent, ProviderEventId, RefundSnapshot, ScheduledChange, Subscribe,
    SubscriptionId, SubscriptionSnapshot, SubscriptionStatus,
};
use rawdrive_plans::Interval;
use serde_json::json;

use super::answer::Answer;
use super::behaviour::{Card, GatewayFault, Renewals};

/// How long after a failed attempt the next is made, and how many are made in all.
const RETRY_DAYS: i64 = 5;
const ATTEMPTS: u32 = 4;

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) now: DateTime<Utc>,
    pub(super) customers: BTreeMap<CustomerId, CustomerSnapshot>,
    pub(super) subscriptions: BTreeMap<SubscriptionId, SubscriptionSnapshot>,
    pub(super) invoices: BTreeMap<InvoiceId, InvoiceSnapshot>,
    pub(super) charges: BTreeMap<ChargeId, ChargeSnapshot>,
    pub(super) disputes: BTreeMap<DisputeId, DisputeSnapshot>,
    pub(super) checkouts: BTreeMap<CheckoutId, (CheckoutSnapshot, NewCheckout)>,
    pub(super) prices: BTreeMap<PriceId, PriceSnapshot>,
    pub(super) events: Vec<ProviderEvent>,
    pub(super) delivered: BTreeSet<ProviderEventId>,
    /// What was answered under a key: the call, and the answer, or a failure of its own.
    pub(super) keys: BTreeMap<IdempotencyKey, (String, Option<Answer>)>,
    pub(super) faults: BTreeMap<usize, GatewayFault>,
    pub(super) calls: usize,
    pub(super) asked: usize,
    pub(super) down: bool,
    pub(super) renewals: Renewals,
    pub(super) has_portal: bool,
    numbers: u64,
}

/// How a collection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Collected {
    Paid,
    Declined,
    Confirms,
}

impl Model {
    /// The provider counts in whole seconds.
    pub(super) fn second(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.now.timestamp(), 0).expect("a time of today")
    }

    /// A fresh id; ids do not tell the order in which things happened.
    fn id<I: std::str::FromStr<Err: std::fmt::Debug>>(&mut self, prefix: &str) -> I {
        self.numbers += 1;
        let scattered = self.numbers.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        format!("{prefix}_{scattered:016x}").parse().expect("an id")
    }

    fn event(&mut self, kind: &str, object: &str, customer: Option<&CustomerId>) {
        let id: ProviderEventId = self.id("evt");
        let event = json!({
            "id": id, "object": "event", "type": kind, "created": self.now.timestamp(), "livemode": false,
            "data": { "object": { "id": object, "customer": customer } },
        });
        let event = ProviderEvent::read(event.to_string().into_bytes());
        self.events.push(event.expect("an event"));
    }

    pub(super) fn subscription_event(&mut self, id: &SubscriptionId, what: &str) {
        let customer = self.subscriptions[id].customer.clone();
        self.event(
            &format!("customer.subscription.{what}"),
            id.as_str(),
            Some(&customer),
        );
    }

    fn invoice_event(&mut self, id: &InvoiceId, what: &str) {
        let customer = self.invoices[id].customer.clone();
        self.event(&format!("invoice.{what}"), id.as_str(), Some(&customer));
    }

    pub(super) fn add_price(
        &mut self,
        lookup_key: &str,
        currency: Currency,
        interval: Interval,
        amount: i64,
    ) -> PriceId {
        let id: PriceId = self.id("price");
        let price = PriceSnapshot {
            id: id.clone(),
            product: self.id("prod"),
            currency,
            interval: Some(interval),
            amount: Some(amount),
            active: true,
            lookup_key: Some(lookup_key.to_owned()),
            metadata: Metadata::default(),
        };
        self.prices.insert(id.clone(), price);
        id
    }

    pub(super) fn create_customer(&mut self, new: &NewCustomer) -> CustomerSnapshot {
        let made = CustomerSnapshot {
            id: self.id("cus"),
            deleted: false,
            email: new.email.clone(),
            name: Some(new.name.clone()),
            currency: None,
            default_payment_method: None,
            created: Some(self.second()),
            livemode: false,
            metadata: new.metadata.clone(),
        };
        self.customers.insert(made.id.clone(), made.clone());
        self.event("customer.created", made.id.as_str(), Some(&made.id));
        made
    }

    pub(super) fn update_customer(
        &mut self,
        id: &CustomerId,
        name: &str,
        email: Option<&str>,
    ) -> Option<CustomerSnapshot> {
        let row = self.customers.get_mut(id).filter(|row| !row.deleted)?;
        row.name = Some(name.to_owned());
        row.email = email.map(str::to_owned);
        let updated = row.clone();
        self.event("customer.updated", id.as_str(), Some(id));
        Some(updated)
    }

    pub(super) fn set_card(&mut self, customer: &CustomerId, card: Card) {
        self.attach(customer, &card.method().parse().expect("an id"));
    }

    pub(super) fn attach(&mut self, customer: &CustomerId, method: &PaymentMethodId) {
        if let Some(found) = self.customers.get_mut(customer) {
            found.default_payment_method = Some(method.clone());
        }
        self.event("payment_method.attached", method.as_str(), Some(customer));
        self.event("customer.updated", customer.as_str(), Some(customer));
        // A subscription that was paused for want of it does not wake by itself, as at Stripe.
    }

    /// Whether a subscription waits for a means of paying, and none is there.
    pub(super) fn wants_card(&self, id: &SubscriptionId) -> bool {
        let row = &self.subscriptions[id];
        row.status == SubscriptionStatus::Paused && self.card(&row.customer).is_none()
    }

    /// What the customer's means of paying does; nothing where there is none.
    fn card(&self, customer: &CustomerId) -> Option<Card> {
        let method = self
            .customers
            .get(customer)?
            .default_payment_method
            .as_ref()?;
        let cards = [Card::Declined, Card::Confirms];
        let found = cards
            .into_iter()
            .find(|card| card.method() == method.as_str());
        Some(found.unwrap_or(Card::Good))
    }

    fn item(&mut self, price: &PriceId, from: DateTime<Utc>) -> ItemSnapshot {
        let price = self.prices[price].clone();
        ItemSnapshot {
            id: self.id("si"),
            period_end: after(from, price.interval),
            period_start: from,
            quantity: 1,
            price,
        }
    }

    pub(super) fn subscribe(&mut self, new: &Subscribe) -> (SubscriptionId, Collected) {
        if let Some(method) = &new.payment_method {
            self.attach(&new.customer, method);
        }
        let now = self.second();
        let trial_end = new
            .trial_days
            .map(|days| now + TimeDelta::days(i64::from(days)));
        let mut item = self.item(&new.price, now);
        if let Some(trial_end) = trial_end {
            item.period_end = trial_end;
        }
        let (amount, currency) = (item.price.amount.unwrap_or(0), item.price.currency);
        let id: SubscriptionId = self.id("sub");
        let made = SubscriptionSnapshot {
            id: id.clone(),
            customer: new.customer.clone(),
            status: SubscriptionStatus::Incomplete,
            created: now,
            livemode: false,
            items: vec![item],
            plan_item: None,
            billing_cycle_anchor: trial_end.unwrap_or(now),
            trial_end,
            cancel_at_period_end: false,
            cancel_at: None,
            cancellation_reason: None,
            canceled_at: None,
            ended_at: None,
            pause: None,
            paused: None,
            collection_method: CollectionMethod::default(),
            discount: None,
            default_payment_method: None,
            latest_invoice: None,
            scheduled: None,
            metadata: new.metadata.clone(),
        };
        self.subscriptions.insert(id.clone(), made);
        if let Some(customer) = self.customers.get_mut(&new.customer) {
            customer.currency = Some(currency);
        }
        let amount = if trial_end.is_some() { 0 } else { amount };
        let invoice = self.invoice(&id, "subscription_create", amount);
        let collected = self.attempt(&invoice);
        let status = match (&collected, trial_end) {
            (Collected::Paid, Some(_)) => SubscriptionStatus::Trialing,
            (Collected::Paid, None) => SubscriptionStatus::Active,
            _ => SubscriptionStatus::Incomplete,
        };
        self.set_status(&id, status);
        self.subscription_event(&id, "created");
        (id, collected)
    }

    fn set_status(&mut self, id: &SubscriptionId, status: SubscriptionStatus) {
        self.subscriptions
            .get_mut(id)
            .expect("the subscription is there")
            .status = status;
    }

    /// Makes and finalizes an invoice for the subscription's current period.
    fn invoice(&mut self, of: &SubscriptionId, reason: &str, amount: i64) -> InvoiceId {
        let now = self.second();
        let id: InvoiceId = self.id("in");
        self.numbers += 1;
        let number = format!("RD-{:06}", self.numbers);
        let subscription = self
            .subscriptions
            .get_mut(of)
            .expect("the subscription is there");
        subscription.latest_invoice = Some(id.clone());
        let item = subscription.items[0].clone();
        let due = amount.max(0);
        let made = InvoiceSnapshot {
            id: id.clone(),
            customer: subscription.customer.clone(),
            subscription: Some(of.clone()),
            number: Some(number),
            status: InvoiceStatus::Open,
            billing_reason: Some(reason.to_owned()),
            currency: item.price.currency,
            total: amount,
            amount_due: due,
            amount_paid: 0,
            amount_remaining: due,
            created: now,
            period_start: item.period_start,
            period_end: item.period_end,
            collection_method: CollectionMethod::default(),
            due_at: None,
            reversed_at: None,
            finalized_at: Some(now),
            paid_at: None,
            voided_at: None,
            marked_uncollectible_at: None,
            attempts: Vec::new(),
            attempt_count: 0,
            next_attempt: None,
            finalization_error: None,
            hosted_url: Some(format!("https://pay.example/{id}")),
            pdf_url: None,
            livemode: false,
            metadata: Metadata::default(),
        };
        self.invoices.insert(id.clone(), made);
        self.invoice_event(&id, "created");
        self.invoice_event(&id, "finalized");
        id
    }

    /// One attempt to collect an open invoice.
    fn attempt(&mut self, id: &InvoiceId) -> Collected {
        let invoice = self.invoices[id].clone();
        if invoice.amount_remaining == 0 {
            self.paid(id);
            return Collected::Paid;
        }
        let card = self.card(&invoice.customer);
        let charge: ChargeId = self.id("ch");
        let (outcome, collected) = match card {
            Some(Card::Good) => (AttemptOutcome::Succeeded, Collected::Paid),
            Some(Card::Confirms) => (AttemptOutcome::ActionRequired, Collected::Confirms),
            Some(Card::Declined) | None => {
                let decline_code = Some("generic_decline".to_owned());
                (AttemptOutcome::Failed { decline_code }, Collected::Declined)
            }
        };
        let at = self.second();
        let row = self.invoices.get_mut(id).expect("the invoice is there");
        row.attempt_count += 1;
        row.attempts.push(Attempt {
            id: charge.to_string(),
            at,
            outcome,
        });
        let more = row.attempt_count < ATTEMPTS
            && row.billing_reason.as_deref() == Some("subscription_cycle");
        row.next_attempt = more.then(|| at + TimeDelta::days(RETRY_DAYS));
        match collected {
            Collected::Paid => {
                self.charge(charge, &invoice);
                self.paid(id);
            }
            Collected::Declined => self.invoice_event(id, "payment_failed"),
            Collected::Confirms => {
                self.invoice_event(id, "payment_failed");
                self.invoice_event(id, "payment_action_required");
            }
        }
        collected
    }

    fn charge(&mut self, id: ChargeId, invoice: &InvoiceSnapshot) {
        let charge = ChargeSnapshot {
            id: id.clone(),
            customer: Some(invoice.customer.clone()),
            amount: Money::new(invoice.amount_remaining, invoice.currency),
            amount_refunded: 0,
            refunds: Vec::new(),
            invoice: Some(invoice.id.clone()),
            created: self.second(),
            livemode: false,
        };
        self.charges.insert(id, charge);
    }

    fn paid(&mut self, id: &InvoiceId) {
        let at = self.second();
        let row = self.invoices.get_mut(id).expect("the invoice is there");
        row.status = InvoiceStatus::Paid;
        row.amount_paid = row.amount_due;
        row.amount_remaining = 0;
        row.paid_at = Some(at);
        row.next_attempt = None;
        self.invoice_event(id, "paid");
    }

    /// A subscription in arrears that has nothing left to pay is in order again.
    fn revive(&mut self, id: &SubscriptionId) {
        let owes = self
            .invoices
            .values()
            .any(|i| i.subscription.as_ref() == Some(id) && i.status == InvoiceStatus::Open);
        let status = &self.subscriptions[id].status;
        let waits = matches!(
            status,
            SubscriptionStatus::PastDue
                | SubscriptionStatus::Unpaid
                | SubscriptionStatus::Incomplete
        );
        if waits && !owes {
            self.set_status(id, SubscriptionStatus::Active);
            self.subscription_event(id, "updated");
        }
    }

    pub(super) fn collect(&mut self, id: &InvoiceId) {
        if self.invoices[id].status != InvoiceStatus::Open {
            return;
        }
        let collected = self.attempt(id);
        self.after_attempt(id, &collected);
    }

    fn after_attempt(&mut self, id: &InvoiceId, collected: &Collected) {
        let invoice = self.invoices[id].clone();
        let Some(subscription) = invoice.subscription else {
            return;
        };
        if *collected == Collected::Paid {
            return self.revive(&subscription);
        }
        if invoice.billing_reason.as_deref() != Some("subscription_cycle") {
            return;
        }
        let status = self.subscriptions[&subscription].status.clone();
        if invoice.next_attempt.is_none() {
            match self.renewals {
                Renewals::Cancel => {
                    self.end(&subscription);
                    let row = self.subscriptions.get_mut(&subscription);
                    row.expect("it is there").cancellation_reason =
                        Some("payment_failed".to_owned());
                }
                Renewals::LeaveUnpaid => {
                    self.set_status(&subscription, SubscriptionStatus::Unpaid);
                    self.subscription_event(&subscription, "updated");
                }
            }
        } else if status != SubscriptionStatus::PastDue {
            self.set_status(&subscription, SubscriptionStatus::PastDue);
            self.subscription_event(&subscription, "updated");
        }
    }

    pub(super) fn confirm(&mut self, id: &InvoiceId) {
        let invoice = self.invoices[id].clone();
        if invoice.status != InvoiceStatus::Open {
            return;
        }
        let charge: ChargeId = self.id("ch");
        self.charge(charge, &invoice);
        self.paid(id);
        if let Some(subscription) = &invoice.subscription {
            self.revive(subscription);
        }
    }

    pub(super) fn void(&mut self, id: &InvoiceId) {
        let at = self.second();
        let row = self.invoices.get_mut(id).expect("the invoice is there");
        if row.status != InvoiceStatus::Open {
            return;
        }
        row.status = InvoiceStatus::Void;
        row.voided_at = Some(at);
        row.next_attempt = None;
        let subscription = row.subscription.clone();
        self.invoice_event(id, "voided");
        let past_due =
            |s: &SubscriptionId| self.subscriptions[s].status == SubscriptionStatus::PastDue;
        if let Some(subscription) = subscription.filter(past_due) {
            self.revive(&subscription);
        }
    }

    /// Ends a subscription at once.
    fn end(&mut self, id: &SubscriptionId) {
        let at = self.second();
        let row = self
            .subscriptions
            .get_mut(id)
            .expect("the subscription is there");
        if row.status.is_final() {
            return;
        }
        let was_incomplete = row.status == SubscriptionStatus::Incomplete;
        let waits = row.status == SubscriptionStatus::Paused;
        row.status = if was_incomplete {
            SubscriptionStatus::IncompleteExpired
        } else {
            SubscriptionStatus::Canceled
        };
        row.ended_at = Some(at);
        row.canceled_at.get_or_insert(at);
        row.scheduled = None;
        let of = |i: &InvoiceSnapshot| {
            i.subscription.as_ref() == Some(id) && i.status == InvoiceStatus::Open
        };
        let open: Vec<_> = self
            .invoices
            .values()
            .filter(|i| of(i))
            .map(|i| i.id.clone())
            .collect();
        for invoice in open {
            if was_incomplete || waits {
                self.void(&invoice);
                continue;
            }
            let row = self.invoices.get_mut(&invoice).expect("it was listed");
            // What is owed is not tried any more; it stays open, as at Stripe.
            row.next_attempt = None;
        }
        self.subscription_event(id, "deleted");
    }

    pub(super) fn cancel(
        &mut self,
        id: &SubscriptionId,
        when: CancelWhen,
        metadata: &Metadata,
    ) -> SubscriptionSnapshot {
        let at = self.second();
        if !self.subscriptions[id].status.is_final() {
            self.merge(id, metadata);
            let row = &self.subscriptions[id];
            let is_over = row.period_end().is_some_and(|end| end <= at);
            let when = if is_over || row.status == SubscriptionStatus::Incomplete {
                CancelWhen::Now
            } else {
                when
            };
            match when {
                CancelWhen::Now => self.end(id),
                CancelWhen::AtPeriodEnd => {
                    let row = self.subscriptions.get_mut(id).expect("it is there");
                    row.cancel_at_period_end = true;
                    row.cancel_at = row.period_end();
                    row.canceled_at = Some(at);
                    row.scheduled = None;
                    self.subscription_event(id, "updated");
                }
            }
        }
        self.subscriptions[id].clone()
    }

    /// Collects all that an unpaid subscription owes, oldest first.
    pub(super) fn collect_unpaid(&mut self, id: &SubscriptionId, metadata: &Metadata) -> Collected {
        self.merge(id, metadata);
        let of = |i: &&InvoiceSnapshot| {
            i.subscription.as_ref() == Some(id) && i.status == InvoiceStatus::Open
        };
        let mut open: Vec<_> = self.invoices.values().filter(of).cloned().collect();
        open.sort_by_key(InvoiceSnapshot::position);
        for invoice in open {
            let collected = self.attempt(&invoice.id);
            if collected != Collected::Paid {
                return collected;
            }
        }
        self.revive(id);
        Collected::Paid
    }

    /// Nobody makes the payment any more that a paused subscription waits for.
    pub(super) fn withdraw(&mut self, id: &SubscriptionId) -> SubscriptionSnapshot {
        let row = self.subscriptions[id].clone();
        if row.status == SubscriptionStatus::Paused
            && let Some(invoice) = &row.latest_invoice
            && self.invoices[invoice].status == InvoiceStatus::Open
        {
            self.void(invoice);
        }
        self.subscriptions[id].clone()
    }

    fn merge(&mut self, id: &SubscriptionId, metadata: &Metadata) {
        let row = self.subscriptions.get_mut(id).expect("it is there");
        row.metadata.0.extend(metadata.0.clone());
    }

    /// The outcome of waking a subscription, where it has not ended.
    pub(super) fn resume(&mut self, id: &SubscriptionId, metadata: &Metadata) -> Collected {
        self.merge(id, metadata);
        let row = self.subscriptions.get_mut(id).expect("it is there");
        row.cancel_at_period_end = false;
        row.cancel_at = None;
        row.canceled_at = None;
        row.scheduled = None;
        let mut collected = Collected::Paid;
        if row.status == SubscriptionStatus::Paused {
            collected = self.renew(id);
            let invoice = self.subscriptions[id].latest_invoice.clone();
            match (&collected, invoice) {
                (Collected::Paid, _) => self.set_status(id, SubscriptionStatus::Active),
                // Nothing is left that could be paid later.
                (Collected::Declined, Some(invoice)) => self.void(&invoice),
                (Collected::Declined | Collected::Confirms, _) => {}
            }
        }
        self.subscription_event(id, "updated");
        collected
    }

    /// What a change costs at once, and the item that it leaves.
    pub(super) fn proration(
        &self,
        current: &ItemSnapshot,
        price: &PriceSnapshot,
        date: DateTime<Utc>,
        is_trial: bool,
    ) -> (i64, ItemSnapshot) {
        let mut item = current.clone();
        item.price = price.clone();
        if is_trial {
            return (0, item);
        }
        let length = (current.period_end - current.period_start)
            .num_seconds()
            .max(1);
        let left = (current.period_end - date).num_seconds().clamp(0, length);
        let part = |amount: Option<i64>| amount.unwrap_or(0) * left / length;
        if current.price.interval == price.interval {
            return (part(price.amount) - part(current.price.amount), item);
        }
        item.period_start = date;
        item.period_end = after(date, price.interval);
        (price.amount.unwrap_or(0) - part(current.price.amount), item)
    }

    pub(super) fn change_price(&mut self, change: &ChangePrice) -> Collected {
        let id = &change.subscription;
        let before = self.subscriptions[id].clone();
        let item = before.items[0].clone();
        let price = self.prices[&change.price].clone();
        match change.timing {
            ChangeTiming::AtPeriodEnd => {
                self.merge(id, &change.metadata);
                let row = self.subscriptions.get_mut(id).expect("it is there");
                row.scheduled = Some(ScheduledChange {
                    price: change.price.clone(),
                    at: item.period_end,
                });
                row.cancel_at_period_end = false;
                row.cancel_at = None;
                row.canceled_at = None;
            }
            ChangeTiming::Now { proration_date } => {
                let trial = before.status.is_trial();
                let (amount, item) = self.proration(&item, &price, proration_date, trial);
                self.merge(id, &change.metadata);
                let row = self.subscriptions.get_mut(id).expect("it is there");
                row.items = vec![item];
                row.scheduled = None;
                row.cancel_at_period_end = false;
                row.cancel_at = None;
                row.canceled_at = None;
                if amount != 0 {
                    let invoice = self.invoice(id, "subscription_update", amount);
                    let collected = self.attempt(&invoice);
                    if collected != Collected::Paid {
                        // The change is taken back, and what it would have cost with it.
                        self.void(&invoice);
                        let latest_invoice = Some(invoice);
                        let back = SubscriptionSnapshot {
                            latest_invoice,
                            ..before
                        };
                        self.subscriptions.insert(id.clone(), back);
                        return collected;
                    }
                }
            }
        }
        self.subscription_event(id, "updated");
        Collected::Paid
    }

    pub(super) fn reprice(&mut self, id: &SubscriptionId, price: &PriceId) {
        let price = self.prices[price].clone();
        self.subscriptions.get_mut(id).expect("it is there").items[0].price = price;
        self.subscription_event(id, "updated");
    }

    pub(super) fn set_unknown_status(&mut self, id: &SubscriptionId, status: &str) {
        self.set_status(id, SubscriptionStatus::from(status.to_owned()));
        self.subscription_event(id, "updated");
    }

    /// Begins the next period and collects for it.
    fn renew(&mut self, id: &SubscriptionId) -> Collected {
        let row = self.subscriptions.get_mut(id).expect("it is there");
        let scheduled = row.scheduled.take().map(|change| change.price);
        let mut item = row.items[0].clone();
        if let Some(price) = scheduled {
            item.price = self.prices[&price].clone();
        }
        item.period_start = item.period_end;
        item.period_end = after(item.period_start, item.price.interval);
        let amount = item.price.amount.unwrap_or(0);
        self.subscriptions.get_mut(id).expect("it is there").items = vec![item];
        let invoice = self.invoice(id, "subscription_cycle", amount);
        self.attempt(&invoice)
    }

    /// What is due by now, oldest first.
    pub(super) fn pass(&mut self) {
        let until = self.now;
        loop {
            let subscriptions = self.subscriptions.values().filter(|s| renews(&s.status));
            let periods =
                subscriptions.filter_map(|s| Some((s.period_end()?, Due::Period(s.id.clone()))));
            let retries = self
                .invoices
                .values()
                .filter(|i| i.status == InvoiceStatus::Open);
            let retries =
                retries.filter_map(|i| Some((i.next_attempt?, Due::Attempt(i.id.clone()))));
            let next = periods.chain(retries).filter(|(at, _)| *at <= until).min();
            let Some((at, due)) = next else {
                break;
            };
            self.now = at;
            match due {
                Due::Attempt(invoice) => self.collect(&invoice),
                Due::Period(id) => self.period_over(&id),
            }
        }
        self.now = until;
    }

    fn period_over(&mut self, id: &SubscriptionId) {
        let row = self.subscriptions[id].clone();
        if row.cancel_at_period_end {
            return self.end(id);
        }
        if row.status.is_trial() && self.card(&row.customer).is_none() {
            self.set_status(id, SubscriptionStatus::Paused);
            return self.subscription_event(id, "paused");
        }
        let collected = self.renew(id);
        if row.status.is_trial() && collected == Collected::Paid {
            self.set_status(id, SubscriptionStatus::Active);
        }
        self.subscription_event(id, "updated");
        if let Some(invoice) = self.subscriptions[id].latest_invoice.clone() {
            self.after_attempt(&invoice, &collected);
        }
    }

    pub(super) fn delete_customer(&mut self, id: &CustomerId) {
        let of = self.subscriptions.values().filter(|s| s.customer == *id);
        for subscription in of.map(|s| s.id.clone()).collect::<Vec<_>>() {
            self.end(&subscription);
        }
        if let Some(customer) = self.customers.get_mut(id) {
            customer.deleted = true;
            customer.default_payment_method = None;
        }
        self.event("customer.deleted", id.as_str(), Some(id));
    }

    pub(super) fn refund(&mut self, id: &ChargeId, amount: i64) {
        let refund: ChargeId = self.id("re");
        let created = self.second();
        let charge = self.charges.get_mut(id).expect("the charge is there");
        charge.amount_refunded += amount;
        charge.refunds.push(RefundSnapshot {
            id: refund.to_string(),
            amount,
            created,
        });
        let customer = charge.customer.clone();
        self.event("charge.refunded", id.as_str(), customer.as_ref());
    }

    pub(super) fn open_dispute(&mut self, charge: &ChargeId) -> DisputeId {
        let about = self.charges[charge].clone();
        let made = DisputeSnapshot {
            id: self.id("dp"),
            charge: Some(charge.clone()),
            customer: about.customer,
            invoice: about.invoice,
            amount: about.amount,
            status: "needs_response".to_owned(),
            reason: Some("fraudulent".to_owned()),
            created: self.second(),
            livemode: false,
        };
        let id = made.id.clone();
        self.disputes.insert(id.clone(), made);
        self.event("charge.dispute.created", id.as_str(), None);
        id
    }

    pub(super) fn decide_dispute(&mut self, id: &DisputeId, status: &str) {
        self.disputes
            .get_mut(id)
            .expect("the dispute is there")
            .status = status.to_owned();
        self.event("charge.dispute.closed", id.as_str(), None);
    }

    pub(super) fn open_checkout(&mut self, new: &NewCheckout) -> CheckoutSnapshot {
        let id: CheckoutId = self.id("cs");
        let made = CheckoutSnapshot {
            url: Some(format!("https://checkout.example/{id}")),
            id: id.clone(),
            status: "open".to_owned(),
            customer: Some(new.customer.clone()),
            subscription: None,
            livemode: false,
            metadata: new.metadata.clone(),
        };
        self.checkouts.insert(id, (made.clone(), new.clone()));
        made
    }

    pub(super) fn expire_checkout(&mut self, id: &CheckoutId) -> Option<CheckoutSnapshot> {
        let (checkout, _) = self.checkouts.get_mut(id)?;
        if checkout.status == "open" {
            checkout.status = "expired".to_owned();
            checkout.url = None;
            let customer = checkout.customer.clone();
            self.event("checkout.session.expired", id.as_str(), customer.as_ref());
        }
        Some(self.checkouts[id].0.clone())
    }

    pub(super) fn complete_checkout(&mut self, id: &CheckoutId) {
        let (checkout, new) = self.checkouts[id].clone();
        if checkout.status != "open" {
            return;
        }
        let (subscription, _) = self.subscribe(&Subscribe {
            customer: new.customer.clone(),
            price: new.price,
            payment_method: Card::Good.method().parse().ok(),
            trial_days: new.trial_days,
            replaces: None,
            metadata: new.metadata,
        });
        let (checkout, _) = self.checkouts.get_mut(id).expect("it was read");
        checkout.status = "complete".to_owned();
        checkout.url = None;
        checkout.subscription = Some(subscription);
        self.event(
            "checkout.session.completed",
            id.as_str(),
            Some(&new.customer),
        );
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Attempt(InvoiceId),
    Period(SubscriptionId),
}

const fn renews(status: &SubscriptionStatus) -> bool {
    matches!(
        status,
        SubscriptionStatus::Active
            | SubscriptionStatus::Trialing
            | SubscriptionStatus::PastDue
            | SubscriptionStatus::Unpaid
    )
}

pub(super) fn after(from: DateTime<Utc>, interval: Option<Interval>) -> DateTime<Utc> {
    let months = Months::new(interval.map_or(1, Interval::months));
    from.checked_add_months(months).expect("a time of this age")
}
