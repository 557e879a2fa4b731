//! What the provider has, and how it changes. It counts in whole seconds.

use std::collections::BTreeMap;

use chrono::{DateTime, Months, TimeDelta, Utc};
use rawdrive_billing::{
    Attempt, AttemptOutcome, CancelWhen, ChangePrice, ChangeTiming, CollectionMethod, CustomerId,
    CustomerSnapshot, IdempotencyKey, InvoiceId, InvoiceSnapshot, InvoiceStatus, ItemSnapshot,
    Metadata, NewCustomer, NewPrice, PaymentMethodId, PriceId, PriceSnapshot, ScheduledChange,
    Subscribe, SubscriptionId, SubscriptionSnapshot, SubscriptionStatus,
};
use rawdrive_plans::Interval;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How long an invoice may be paid before anybody is in arrears.
const DUE_DAYS: i64 = 14;
/// How long after that a subscription ends.
const GIVEN_UP_DAYS: i64 = 30;
/// How long events and the answers under keys are kept.
const KEPT_DAYS: i64 = 30;

/// How somebody pays. The port names means of paying by a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// On account: an invoice counts as paid when it is written.
    Account,
    /// By a transfer, which an operator finds and marks.
    Transfer,
    /// On an account that was closed: refused.
    Closed,
}

impl Means {
    const ALL: [Self; 3] = [Self::Account, Self::Transfer, Self::Closed];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Transfer => "transfer",
            Self::Closed => "closed_account",
        }
    }

    /// The means of a name; one that nobody knows is refused when it is to pay.
    fn of(method: &PaymentMethodId) -> Self {
        let mut all = Self::ALL.into_iter();
        all.find(|means| means.name() == method.as_str())
            .unwrap_or(Self::Closed)
    }
}

/// How collecting an invoice ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Collected {
    Paid,
    Refused,
    /// An operator is to mark it.
    Waits,
}

/// What was answered under a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Customer(CustomerSnapshot),
    Subscription {
        snapshot: Box<SubscriptionSnapshot>,
        collected: Collected,
        /// What the payer names in the transfer.
        reference: String,
    },
    Price(PriceSnapshot),
    Rejected(String),
}

/// A call that was made, and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) call: String,
    pub(crate) answer: Answer,
    pub(crate) at: DateTime<Utc>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Books {
    now: DateTime<Utc>,
    numbers: u64,
    pub(crate) customers: BTreeMap<CustomerId, CustomerSnapshot>,
    pub(crate) subscriptions: BTreeMap<SubscriptionId, SubscriptionSnapshot>,
    pub(crate) invoices: BTreeMap<InvoiceId, InvoiceSnapshot>,
    pub(crate) prices: BTreeMap<PriceId, PriceSnapshot>,
    /// Oldest first.
    pub(crate) events: Vec<Value>,
    pub(crate) keys: BTreeMap<IdempotencyKey, Kept>,
}

/// Every id that is made here reads as one.
const ID: &str = "an id of a prefix and digits";

impl Books {
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.now
    }

    fn id<I: std::str::FromStr<Err: std::fmt::Debug>>(&mut self, prefix: &str) -> I {
        self.numbers += 1;
        format!("{prefix}_{:08}", self.numbers).parse().expect(ID)
    }

    fn event(&mut self, kind: &str, object: &str, customer: &CustomerId) {
        let id: PriceId = self.id("evt");
        self.events.push(json!({
            "id": id, "object": "event", "type": kind, "created": self.now.timestamp(), "livemode": true,
            "data": { "object": { "id": object, "customer": customer } },
        }));
    }

    fn subscription_event(&mut self, id: &SubscriptionId, what: &str) {
        let customer = self.subscriptions[id].customer.clone();
        self.event(
            &format!("customer.subscription.{what}"),
            id.as_str(),
            &customer,
        );
    }

    fn invoice_event(&mut self, id: &InvoiceId, what: &str) {
        let customer = self.invoices[id].customer.clone();
        self.event(&format!("invoice.{what}"), id.as_str(), &customer);
    }

    fn subscription(&mut self, id: &SubscriptionId) -> &mut SubscriptionSnapshot {
        self.subscriptions
            .get_mut(id)
            .expect("whoever has its id has looked")
    }

    fn invoice(&mut self, id: &InvoiceId) -> &mut InvoiceSnapshot {
        self.invoices.get_mut(id).expect("invoices stay")
    }

    /// The subscription as it is, and how collecting for it ended.
    pub(crate) fn answer(&self, id: &SubscriptionId, collected: Collected) -> Answer {
        let snapshot = self.subscriptions[id].clone();
        let invoice = snapshot
            .latest_invoice
            .as_ref()
            .and_then(|id| self.invoices.get(id));
        Answer::Subscription {
            reference: invoice
                .and_then(|invoice| invoice.number.clone())
                .unwrap_or_default(),
            snapshot: Box::new(snapshot),
            collected,
        }
    }

    pub(crate) fn add_price(&mut self, new: &NewPrice) -> Answer {
        let taken =
            |price: &PriceSnapshot| price.lookup_key.as_deref() == Some(new.lookup_key.as_str());
        let Ok(amount) = i64::try_from(new.amount) else {
            return Answer::Rejected("amount_too_large".to_owned());
        };
        if self.prices.values().any(taken) {
            return Answer::Rejected("resource_already_exists".to_owned());
        }
        let made = PriceSnapshot {
            id: self.id("price"),
            product: new.product.clone(),
            currency: new.currency,
            interval: Some(new.interval),
            amount: Some(amount),
            active: true,
            lookup_key: Some(new.lookup_key.clone()),
            metadata: new.metadata.clone(),
        };
        self.prices.insert(made.id.clone(), made.clone());
        Answer::Price(made)
    }

    pub(crate) fn add_customer(&mut self, new: &NewCustomer) -> Answer {
        let made = CustomerSnapshot {
            id: self.id("cus"),
            deleted: false,
            email: new.email.clone(),
            name: Some(new.name.clone()),
            currency: None,
            default_payment_method: None,
            created: Some(self.now),
            livemode: true,
            metadata: new.metadata.clone(),
        };
        self.customers.insert(made.id.clone(), made.clone());
        self.event("customer.created", made.id.as_str(), &made.id);
        Answer::Customer(made)
    }

    /// Changes a customer's record.
    pub(crate) fn edit_customer(
        &mut self,
        id: &CustomerId,
        edit: impl FnOnce(&mut CustomerSnapshot),
    ) -> Answer {
        let Some(customer) = self.customers.get_mut(id) else {
            return missing();
        };
        edit(customer);
        let edited = customer.clone();
        self.event("customer.updated", id.as_str(), id);
        Answer::Customer(edited)
    }

    fn means(&self, customer: &CustomerId) -> Option<Means> {
        let method = self
            .customers
            .get(customer)?
            .default_payment_method
            .as_ref();
        method.map(Means::of)
    }

    pub(crate) fn subscribe(&mut self, new: &Subscribe) -> Answer {
        let (Some(customer), Some(price)) = (
            self.customers.get(&new.customer),
            self.prices.get(&new.price),
        ) else {
            return missing();
        };
        let (price, amount) = (price.clone(), price.amount.unwrap_or(0));
        if customer
            .currency
            .is_some_and(|currency| currency != price.currency)
        {
            return Answer::Rejected("currency_mismatch".to_owned());
        }
        let pays = new.payment_method.is_some() || customer.default_payment_method.is_some();
        if !pays && new.trial_days.is_none() {
            return missing();
        }
        let (id, now): (SubscriptionId, _) = (self.id("sub"), self.now);
        let customer = self.customers.get_mut(&new.customer).expect("it was read");
        customer.currency = Some(price.currency);
        if let Some(method) = &new.payment_method {
            customer.default_payment_method = Some(method.clone());
        }
        let trial_end = new
            .trial_days
            .map(|days| now + TimeDelta::days(days.into()));
        let first = ItemSnapshot {
            id: self.id("si"),
            period_end: trial_end.unwrap_or_else(|| after(now, price.interval)),
            period_start: now,
            quantity: 1,
            price,
        };
        let made = SubscriptionSnapshot {
            id: id.clone(),
            customer: new.customer.clone(),
            status: SubscriptionStatus::Incomplete,
            created: now,
            livemode: true,
            items: vec![first],
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
            collection_method: CollectionMethod::ChargeAutomatically,
            discount: None,
            default_payment_method: None,
            latest_invoice: None,
            scheduled: None,
            metadata: new.metadata.clone(),
        };
        self.subscriptions.insert(id.clone(), made);
        let collected = match trial_end {
            Some(_) => Collected::Paid,
            None => self.bill(&id, "subscription_create", amount),
        };
        self.subscription(&id).status = match (collected, trial_end) {
            (Collected::Paid, Some(_)) => SubscriptionStatus::Trialing,
            (Collected::Paid, None) => SubscriptionStatus::Active,
            (Collected::Refused | Collected::Waits, _) => SubscriptionStatus::Incomplete,
        };
        self.subscription_event(&id, "created");
        self.answer(&id, collected)
    }

    /// Writes an invoice for the current period, and collects it as the customer pays.
    fn bill(&mut self, of: &SubscriptionId, reason: &str, amount: i64) -> Collected {
        let (id, now): (InvoiceId, _) = (self.id("in"), self.now);
        let subscription = self.subscription(of);
        subscription.latest_invoice = Some(id.clone());
        let (item, customer) = (subscription.items[0].clone(), subscription.customer.clone());
        let means = self.means(&customer).unwrap_or(Means::Closed);
        let collected = match means {
            _ if amount <= 0 => Collected::Paid,
            Means::Account => Collected::Paid,
            Means::Transfer => Collected::Waits,
            Means::Closed => Collected::Refused,
        };
        let method = match means {
            Means::Transfer => CollectionMethod::SendInvoice,
            Means::Account | Means::Closed => CollectionMethod::ChargeAutomatically,
        };
        self.subscription(of).collection_method = method.clone();
        let due = amount.max(0);
        let attempt = Attempt {
            id: self.id("att"),
            at: now,
            outcome: match collected {
                Collected::Paid => AttemptOutcome::Succeeded,
                Collected::Waits => AttemptOutcome::ActionRequired,
                Collected::Refused => AttemptOutcome::Failed {
                    decline_code: Some("account_closed".to_owned()),
                },
            },
        };
        let made = InvoiceSnapshot {
            id: id.clone(),
            customer,
            subscription: Some(of.clone()),
            number: Some(format!("RD-{}", self.numbers)),
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
            collection_method: method,
            due_at: (means == Means::Transfer).then(|| now + TimeDelta::days(DUE_DAYS)),
            reversed_at: None,
            finalized_at: Some(now),
            paid_at: None,
            voided_at: None,
            marked_uncollectible_at: None,
            attempts: vec![attempt],
            attempt_count: 1,
            next_attempt: None,
            finalization_error: None,
            hosted_url: None,
            pdf_url: None,
            livemode: true,
            metadata: Metadata::default(),
        };
        self.invoices.insert(id.clone(), made);
        self.invoice_event(&id, "finalized");
        match collected {
            Collected::Paid => self.paid(&id),
            Collected::Waits => self.invoice_event(&id, "payment_action_required"),
            Collected::Refused => self.invoice_event(&id, "payment_failed"),
        }
        collected
    }

    fn paid(&mut self, id: &InvoiceId) {
        let now = self.now;
        let invoice = self.invoice(id);
        invoice.status = InvoiceStatus::Paid;
        (invoice.amount_paid, invoice.amount_remaining) = (invoice.amount_due, 0);
        invoice.paid_at = Some(now);
        self.invoice_event(id, "paid");
    }

    /// The money has come. Whether it was still expected.
    pub(crate) fn mark_paid(&mut self, id: &InvoiceId) -> bool {
        let Some(invoice) = self
            .invoices
            .get(id)
            .filter(|i| i.status == InvoiceStatus::Open)
        else {
            return false;
        };
        let of = invoice.subscription.clone();
        self.paid(id);
        if let Some(of) = of {
            let owes = |i: &InvoiceSnapshot| {
                i.subscription.as_ref() == Some(&of) && i.status == InvoiceStatus::Open
            };
            let owes = self.invoices.values().any(owes);
            let waits = !matches!(
                self.subscriptions[&of].status,
                SubscriptionStatus::Active | SubscriptionStatus::Trialing
            );
            if waits && !owes && !self.subscriptions[&of].status.is_final() {
                self.subscription(&of).status = SubscriptionStatus::Active;
                self.subscription_event(&of, "updated");
            }
        }
        true
    }

    fn void(&mut self, id: &InvoiceId) {
        let now = self.now;
        let invoice = self.invoice(id);
        if invoice.status == InvoiceStatus::Open {
            invoice.status = InvoiceStatus::Void;
            invoice.voided_at = Some(now);
            self.invoice_event(id, "voided");
        }
    }

    /// Ends a subscription at once. What was never paid for takes its invoice with it; what is owed stays owed.
    fn end(&mut self, id: &SubscriptionId, reason: Option<&str>) {
        let now = self.now;
        let subscription = self.subscription(id);
        let status = subscription.status.clone();
        subscription.status = match status {
            SubscriptionStatus::Incomplete => SubscriptionStatus::IncompleteExpired,
            _ => SubscriptionStatus::Canceled,
        };
        subscription.ended_at = Some(now);
        subscription.canceled_at.get_or_insert(now);
        subscription.cancellation_reason = reason.map(str::to_owned);
        subscription.scheduled = None;
        let latest = subscription.latest_invoice.clone();
        if matches!(
            status,
            SubscriptionStatus::Incomplete | SubscriptionStatus::Paused
        ) && let Some(latest) = latest
        {
            self.void(&latest);
        }
        self.subscription_event(id, "deleted");
    }

    pub(crate) fn cancel(
        &mut self,
        id: &SubscriptionId,
        when: CancelWhen,
        metadata: &Metadata,
    ) -> Answer {
        let now = self.now;
        let Some(subscription) = self.subscriptions.get_mut(id) else {
            return missing();
        };
        if !subscription.status.is_final() {
            subscription.metadata.0.extend(metadata.0.clone());
            let is_over = subscription.period_end().is_some_and(|end| end <= now);
            let never_paid = subscription.status == SubscriptionStatus::Incomplete;
            if when == CancelWhen::Now || is_over || never_paid {
                self.end(id, None);
            } else {
                subscription.cancel_at_period_end = true;
                subscription.cancel_at = subscription.period_end();
                subscription.canceled_at = Some(now);
                subscription.scheduled = None;
                self.subscription_event(id, "updated");
            }
        }
        self.answer(id, Collected::Paid)
    }

    /// Nobody makes the payment any more that a paused subscription waits for.
    pub(crate) fn withdraw(&mut self, id: &SubscriptionId) -> Answer {
        let Some(subscription) = self.subscriptions.get(id) else {
            return missing();
        };
        if subscription.status == SubscriptionStatus::Paused
            && let Some(latest) = subscription.latest_invoice.clone()
        {
            self.void(&latest);
        }
        self.answer(id, Collected::Paid)
    }

    pub(crate) fn resume(&mut self, id: &SubscriptionId, metadata: &Metadata) -> Answer {
        let Some(subscription) = self.subscriptions.get(id) else {
            return missing();
        };
        let sleeps = subscription.status == SubscriptionStatus::Paused;
        if subscription.status.is_final() {
            return Answer::Rejected("subscription_canceled".to_owned());
        }
        if sleeps && self.means(&subscription.customer).is_none() {
            return Answer::Rejected(rawdrive_billing::NOTHING_TO_PAY_WITH.to_owned());
        }
        let subscription = self.subscription(id);
        subscription.metadata.0.extend(metadata.0.clone());
        stays(subscription);
        let mut collected = Collected::Paid;
        if sleeps {
            collected = self.renew(id);
            match (collected, self.subscriptions[id].latest_invoice.clone()) {
                (Collected::Paid, _) => self.subscription(id).status = SubscriptionStatus::Active,
                // Nothing is left that could be paid later.
                (Collected::Refused, Some(latest)) => self.void(&latest),
                (Collected::Refused | Collected::Waits, _) => {}
            }
        }
        self.subscription_event(id, "updated");
        self.answer(id, collected)
    }

    /// What a change costs at once, and the line that it leaves.
    pub(crate) fn proration(
        current: &ItemSnapshot,
        price: &PriceSnapshot,
        from: DateTime<Utc>,
        is_trial: bool,
    ) -> (i64, ItemSnapshot) {
        let mut item = ItemSnapshot {
            price: price.clone(),
            ..current.clone()
        };
        if is_trial {
            return (0, item);
        }
        let length = (current.period_end - current.period_start)
            .num_seconds()
            .max(1);
        let left = (current.period_end - from).num_seconds().clamp(0, length);
        // In 128 bits: the amount of a price is anybody's.
        let part = |amount: Option<i64>| {
            i128::from(amount.unwrap_or(0)) * i128::from(left) / i128::from(length)
        };
        let whole = |amount: i128| i64::try_from(amount).unwrap_or(i64::MAX);
        if current.price.interval == price.interval {
            return (whole(part(price.amount) - part(current.price.amount)), item);
        }
        item.period_start = from;
        item.period_end = after(from, price.interval);
        (
            whole(i128::from(price.amount.unwrap_or(0)) - part(current.price.amount)),
            item,
        )
    }

    pub(crate) fn change_price(&mut self, change: &ChangePrice) -> Answer {
        let id = &change.subscription;
        let (Some(before), Some(price)) =
            (self.subscriptions.get(id), self.prices.get(&change.price))
        else {
            return missing();
        };
        let (before, price) = (before.clone(), price.clone());
        if before.status.is_final() {
            return Answer::Rejected("subscription_canceled".to_owned());
        }
        let item = before.items[0].clone();
        let (amount, after) = match change.timing {
            ChangeTiming::AtPeriodEnd => (0, None),
            ChangeTiming::Now {
                proration_date: from,
            } => {
                if !(item.period_start..=item.period_end).contains(&from) {
                    return Answer::Rejected("proration_date_outside_of_period".to_owned());
                }
                let (amount, item) = Self::proration(&item, &price, from, before.status.is_trial());
                (amount, Some(item))
            }
        };
        let subscription = self.subscription(id);
        subscription.metadata.0.extend(change.metadata.0.clone());
        stays(subscription);
        match after {
            None => {
                subscription.scheduled = Some(ScheduledChange {
                    price: price.id,
                    at: item.period_end,
                })
            }
            Some(item) => subscription.items = vec![item],
        }
        if amount != 0 {
            let collected = self.bill(id, "subscription_update", amount);
            if collected != Collected::Paid {
                // What is not paid at once is taken back: it can be had at the period's end.
                let latest_invoice = self.subscriptions[id].latest_invoice.clone();
                let answer = self.answer(id, collected);
                if let Some(latest) = &latest_invoice {
                    self.void(latest);
                }
                *self.subscription(id) = SubscriptionSnapshot {
                    latest_invoice,
                    ..before
                };
                return answer;
            }
        }
        self.subscription_event(id, "updated");
        self.answer(id, Collected::Paid)
    }

    /// Begins the next period, and bills it.
    fn renew(&mut self, id: &SubscriptionId) -> Collected {
        let subscription = self.subscription(id);
        let scheduled = subscription.scheduled.take();
        let mut item = subscription.items[0].clone();
        if let Some(price) = scheduled.and_then(|change| self.prices.get(&change.price)) {
            item.price = price.clone();
        }
        item.period_start = item.period_end;
        item.period_end = after(item.period_start, item.price.interval);
        let amount = item.price.amount.unwrap_or(0);
        self.subscription(id).items = vec![item];
        self.bill(id, "subscription_cycle", amount)
    }

    /// Lets happen what is due by now, oldest first, and forgets what is kept no longer.
    pub(crate) fn pass(&mut self, now: DateTime<Utc>) {
        let now = DateTime::from_timestamp(now.timestamp(), 0).unwrap_or(now);
        while let Some((at, due)) = self.next_due().filter(|(at, _)| *at <= now) {
            self.now = at;
            match due {
                Due::Period(id) => self.period_over(&id),
                Due::Arrears(id) => {
                    self.subscription(&id).status = SubscriptionStatus::PastDue;
                    self.subscription_event(&id, "updated");
                }
                Due::GivenUp(id) => self.end(&id, Some("payment_failed")),
            }
        }
        self.now = now;
        let oldest = now - TimeDelta::days(KEPT_DAYS);
        self.keys.retain(|_, kept| kept.at >= oldest);
        self.events.retain(|event| {
            event["created"]
                .as_i64()
                .is_some_and(|at| at >= oldest.timestamp())
        });
    }

    fn next_due(&self) -> Option<(DateTime<Utc>, Due)> {
        let alive = self.subscriptions.values().filter(|s| {
            use SubscriptionStatus::{Active, PastDue, Trialing};
            matches!(s.status, Active | PastDue | Trialing)
        });
        let of = |subscription: &SubscriptionSnapshot| {
            let id = &subscription.id;
            let period = subscription
                .period_end()
                .map(|at| (at, Due::Period(id.clone())));
            let missing = self.invoices.values().filter(|invoice| {
                invoice.subscription.as_ref() == Some(id) && invoice.status == InvoiceStatus::Open
            });
            let missing = missing.filter_map(InvoiceSnapshot::missing_since).min();
            let arrears = missing.map(|at| match subscription.status {
                SubscriptionStatus::PastDue => (
                    at + TimeDelta::days(GIVEN_UP_DAYS),
                    Due::GivenUp(id.clone()),
                ),
                _ => (at, Due::Arrears(id.clone())),
            });
            period.into_iter().chain(arrears)
        };
        alive.flat_map(of).min()
    }

    fn period_over(&mut self, id: &SubscriptionId) {
        let subscription = &self.subscriptions[id];
        if subscription.cancel_at_period_end {
            return self.end(id, None);
        }
        let is_trial = subscription.status.is_trial();
        if is_trial && self.means(&subscription.customer).is_none() {
            self.subscription(id).status = SubscriptionStatus::Paused;
            return self.subscription_event(id, "paused");
        }
        self.renew(id);
        if is_trial {
            self.subscription(id).status = SubscriptionStatus::Active;
        }
        self.subscription_event(id, "updated");
    }
}

/// What happens by itself. Of two at one time, arrears come before the period that they are about ends.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Arrears(SubscriptionId),
    GivenUp(SubscriptionId),
    Period(SubscriptionId),
}

/// Takes back an end and a change that were to come.
fn stays(subscription: &mut SubscriptionSnapshot) {
    subscription.cancel_at_period_end = false;
    subscription.cancel_at = None;
    subscription.canceled_at = None;
    subscription.scheduled = None;
}

pub(crate) fn missing() -> Answer {
    Answer::Rejected("resource_missing".to_owned())
}

pub(crate) fn after(from: DateTime<Utc>, interval: Option<Interval>) -> DateTime<Utc> {
    let months = Months::new(interval.map_or(1, Interval::months));
    from.checked_add_months(months)
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}
