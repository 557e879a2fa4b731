//! The model behind the port: keys, faults, lists.

use chrono::{DateTime, Utc};
use rawdrive_billing::{
    AttemptOutcome, CancelWhen, ChangePrice, ChangeTiming, ChargeId, ChargePreview, ChargeSnapshot,
    CheckoutId, CheckoutSnapshot, ClientSecret, CustomerId, CustomerQuery, CustomerSnapshot,
    Decline, DisputeId, DisputeSnapshot, EventQuery, GatewayError, IdempotencyKey, InvoiceId,
    InvoiceSnapshot, InvoiceStatus, Listed, Metadata, Money, NOTHING_TO_PAY_WITH, NewCheckout,
    NewCustomer, NewPrice, Outcome, PaymentGateway, PaymentMethodId, PreviewRequest, PriceId,
    PriceSnapshot, ProviderEvent, Subscribe, SubscriptionId, SubscriptionSnapshot,
};

use super::MemoryGateway;
use super::answer::Answer;
use super::behaviour::GatewayFault;
use super::model::{Collected, Model, after};

/// How many items a page holds: few, so that a test of a few turns pages.
const PAGE: usize = 3;

fn unreachable() -> GatewayError {
    GatewayError::Unreachable {
        reason: "a fault was asked for".to_owned(),
    }
}

fn rejected(code: &str) -> GatewayError {
    GatewayError::Rejected {
        code: code.to_owned(),
        message: "as the model says".to_owned(),
    }
}

impl MemoryGateway {
    /// A read.
    fn look<T>(&self, look: impl FnOnce(&Model) -> T) -> Result<T, GatewayError> {
        let mut model = self.model();
        model.asked += 1;
        if model.down {
            return Err(unreachable());
        }
        Ok(look(&model))
    }

    /// A change under a key, which happens once.
    fn once(
        &self,
        key: &IdempotencyKey,
        call: String,
        change: impl FnOnce(&mut Model) -> Answer,
    ) -> Result<Answer, GatewayError> {
        let mut model = self.model();
        model.asked += 1;
        if model.down {
            return Err(unreachable());
        }
        let number = model.calls;
        model.calls += 1;
        let fault = model.faults.get(&number).copied();
        match fault {
            Some(GatewayFault::Refused) => return Err(unreachable()),
            Some(GatewayFault::RateLimited) => {
                return Err(GatewayError::RateLimited { retry_after: None });
            }
            _ => {}
        }
        if let Some((first, answer)) = model.keys.get(key).cloned() {
            if first != call {
                return Err(rejected("idempotency_error"));
            }
            return match answer {
                Some(_) if fault == Some(GatewayFault::AnswerLost) => Err(unreachable()),
                Some(Answer::Rejected(code)) => Err(rejected(code)),
                Some(answer) => Ok(answer),
                None => Err(GatewayError::ReplayedFailure),
            };
        }
        if fault == Some(GatewayFault::Failed) {
            model.keys.insert(key.clone(), (call, None));
            return Err(unreachable());
        }
        let answer = change(&mut model);
        let stored = (fault != Some(GatewayFault::DoneAndFailed)).then(|| answer.clone());
        model.keys.insert(key.clone(), (call, stored));
        match (fault, answer) {
            (Some(_), _) => Err(unreachable()),
            (None, Answer::Rejected(code)) => Err(rejected(code)),
            (None, answer) => Ok(answer),
        }
    }
}

fn subscription(answer: Answer) -> Outcome<SubscriptionSnapshot> {
    match answer {
        Answer::Subscription(outcome) => *outcome,
        _ => unreachable!("a key's call is compared before its answer is given"),
    }
}

fn secret(model: &Model, id: &SubscriptionId) -> ClientSecret {
    let invoice = model.subscriptions[id].latest_invoice.as_ref();
    ClientSecret(format!("{}_secret", invoice.map_or("none", InvoiceId::as_str)).into())
}

fn outcome(model: &Model, id: &SubscriptionId, collected: &Collected, leaves: bool) -> Answer {
    let snapshot = model.subscriptions[id].clone();
    let left = leaves.then(|| snapshot.clone());
    Answer::subscription(match collected {
        Collected::Paid => Outcome::Done(snapshot),
        Collected::Declined => Outcome::Declined {
            decline: generic(),
            left,
        },
        Collected::Confirms => Outcome::ActionRequired {
            client_secret: secret(model, id),
            left,
        },
    })
}

fn generic() -> Decline {
    Decline {
        decline_code: "generic_decline".to_owned(),
    }
}

/// A page of what is ordered newest first, after the one of this name.
fn page<T: Clone>(all: &[T], after: Option<&str>, name: impl Fn(&T) -> String) -> Listed<T> {
    let from = after.map_or(0, |after| {
        let at = all.iter().position(|item| name(item) == after);
        at.map_or(all.len(), |at| at + 1)
    });
    let items: Vec<_> = all[from..].iter().take(PAGE).cloned().collect();
    let more = from + items.len() < all.len();
    Listed {
        next: items.last().filter(|_| more).map(&name),
        items,
    }
}

fn unless_missing(found: bool, then: impl FnOnce() -> Answer) -> Answer {
    if found {
        then()
    } else {
        Answer::Rejected("resource_missing")
    }
}

impl PaymentGateway for MemoryGateway {
    fn livemode(&self) -> Option<bool> {
        Some(false)
    }

    async fn create_customer(
        &self,
        new: &NewCustomer,
        key: &IdempotencyKey,
    ) -> Result<CustomerSnapshot, GatewayError> {
        let call = format!("create_customer {new:?}");
        match self.once(key, call, |model| {
            Answer::Customer(model.create_customer(new))
        })? {
            Answer::Customer(made) => Ok(made),
            _ => unreachable!("a key's call is compared before its answer is given"),
        }
    }

    async fn customer(&self, id: &CustomerId) -> Result<Option<CustomerSnapshot>, GatewayError> {
        self.look(|model| model.customers.get(id).cloned())
    }

    async fn customers(
        &self,
        query: &CustomerQuery,
    ) -> Result<Listed<CustomerSnapshot>, GatewayError> {
        self.look(|model| {
            let from = |c: &&CustomerSnapshot| query.created_from <= c.created && !c.deleted;
            let mut all: Vec<_> = model.customers.values().filter(from).cloned().collect();
            all.sort_by(|a, b| (b.created, &b.id).cmp(&(a.created, &a.id)));
            page(&all, query.after.as_deref(), |c| c.id.to_string())
        })
    }

    async fn attach_payment_method(
        &self,
        customer: &CustomerId,
        method: &PaymentMethodId,
        key: &IdempotencyKey,
    ) -> Result<Outcome<CustomerSnapshot>, GatewayError> {
        let call = format!("attach {customer} {method}");
        let answer = self.once(key, call, |model| {
            unless_missing(model.customers.contains_key(customer), || {
                model.attach(customer, method);
                Answer::Attached(Outcome::Done(model.customers[customer].clone()))
            })
        })?;
        match answer {
            Answer::Attached(outcome) => Ok(outcome),
            _ => unreachable!("a key's call is compared before its answer is given"),
        }
    }

    async fn subscribe(
        &self,
        new: &Subscribe,
        key: &IdempotencyKey,
    ) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        let answer = self.once(key, format!("subscribe {new:?}"), |model| {
            let customer = model.customers.get(&new.customer).filter(|c| !c.deleted);
            let price = model.prices.get(&new.price).filter(|price| price.active);
            let (Some(customer), Some(price)) = (customer, price) else {
                return Answer::Rejected("resource_missing");
            };
            if customer
                .currency
                .is_some_and(|currency| currency != price.currency)
            {
                return Answer::Rejected("currency_mismatch");
            }
            let pays = new.payment_method.is_some() || customer.default_payment_method.is_some();
            if !pays && new.trial_days.is_none() {
                return Answer::Rejected("resource_missing");
            }
            let (id, collected) = model.subscribe(new);
            outcome(model, &id, &collected, true)
        })?;
        Ok(subscription(answer))
    }

    async fn subscription(
        &self,
        id: &SubscriptionId,
    ) -> Result<Option<SubscriptionSnapshot>, GatewayError> {
        let found = self.look(|model| model.subscriptions.get(id).cloned());
        // What was fetched is old already when it arrives.
        tokio::task::yield_now().await;
        found
    }

    async fn subscriptions_of(
        &self,
        customer: &CustomerId,
    ) -> Result<Vec<SubscriptionSnapshot>, GatewayError> {
        self.look(|model| {
            let of = model
                .subscriptions
                .values()
                .filter(|s| s.customer == *customer);
            of.cloned().collect()
        })
    }

    async fn change_price(
        &self,
        change: &ChangePrice,
        key: &IdempotencyKey,
    ) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        let answer = self.once(key, format!("change {change:?}"), |model| {
            let found = model.subscriptions.get(&change.subscription);
            if found.is_none() || !model.prices.contains_key(&change.price) {
                return Answer::Rejected("resource_missing");
            }
            if found.is_some_and(|s| s.status.is_final()) {
                return Answer::Rejected("subscription_canceled");
            }
            let item = found.and_then(SubscriptionSnapshot::item);
            if let (ChangeTiming::Now { proration_date }, Some(item)) = (change.timing, item)
                && !(item.period_start..=item.period_end).contains(&proration_date)
            {
                return Answer::Rejected("proration_date_outside_of_period");
            }
            let collected = model.change_price(change);
            outcome(model, &change.subscription, &collected, false)
        })?;
        Ok(subscription(answer))
    }

    async fn preview(&self, request: &PreviewRequest) -> Result<ChargePreview, GatewayError> {
        let preview = self.look(|model| {
            let price = model.prices.get(&request.price)?;
            let amount = price.amount.unwrap_or(0);
            let amount = amount * i64::try_from(request.quantity).ok()?;
            let money = |minor| Money::new(minor, price.currency);
            let Some((id, _)) = &request.change else {
                let now = model.second();
                let days = request.trial_days.map(i64::from).filter(|days| *days > 0);
                return Some(match days {
                    Some(days) => ChargePreview {
                        now: money(0),
                        next: money(amount),
                        next_at: now + chrono::TimeDelta::days(days),
                        proration_date: None,
                    },
                    None => ChargePreview {
                        now: money(amount),
                        next: money(amount),
                        next_at: after(now, price.interval),
                        proration_date: None,
                    },
                });
            };
            let subscription = model.subscriptions.get(id)?;
            let item = subscription.item()?;
            let (now, next_at, proration_date) = match request.timing {
                ChangeTiming::AtPeriodEnd => (0, item.period_end, None),
                ChangeTiming::Now { proration_date } => {
                    let date = item.within_period(proration_date);
                    let trial = subscription.status.is_trial();
                    let (charged, left) = model.proration(item, price, date, trial);
                    (charged, left.period_end, Some(date))
                }
            };
            Some(ChargePreview {
                now: money(now),
                next: money(amount),
                next_at,
                proration_date,
            })
        })?;
        preview.ok_or(GatewayError::NotFound)
    }

    async fn cancel(
        &self,
        id: &SubscriptionId,
        when: CancelWhen,
        metadata: &Metadata,
        key: &IdempotencyKey,
    ) -> Result<SubscriptionSnapshot, GatewayError> {
        let call = format!("cancel {id} {when:?} {metadata:?}");
        let answer = self.once(key, call, |model| {
            unless_missing(model.subscriptions.contains_key(id), || {
                Answer::subscription(Outcome::Done(model.cancel(id, when, metadata)))
            })
        })?;
        match subscription(answer) {
            Outcome::Done(snapshot) => Ok(snapshot),
            _ => unreachable!("an end asks for no money"),
        }
    }

    async fn withdraw(
        &self,
        id: &SubscriptionId,
        key: &IdempotencyKey,
    ) -> Result<SubscriptionSnapshot, GatewayError> {
        let answer = self.once(key, format!("withdraw {id}"), |model| {
            unless_missing(model.subscriptions.contains_key(id), || {
                Answer::subscription(Outcome::Done(model.withdraw(id)))
            })
        })?;
        match subscription(answer) {
            Outcome::Done(snapshot) => Ok(snapshot),
            _ => unreachable!("a withdrawal asks for no money"),
        }
    }

    async fn resume(
        &self,
        id: &SubscriptionId,
        metadata: &Metadata,
        key: &IdempotencyKey,
    ) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        let call = format!("resume {id} {metadata:?}");
        let answer = self.once(key, call, |model| match model.subscriptions.get(id) {
            None => Answer::Rejected("resource_missing"),
            Some(found) if found.status.is_final() => Answer::Rejected("subscription_canceled"),
            Some(_) if model.wants_card(id) => Answer::Rejected(NOTHING_TO_PAY_WITH),
            Some(_) => {
                let collected = model.resume(id, metadata);
                outcome(model, id, &collected, false)
            }
        })?;
        Ok(subscription(answer))
    }

    async fn update_customer(
        &self,
        customer: &CustomerId,
        name: &str,
        email: Option<&str>,
        key: &IdempotencyKey,
    ) -> Result<CustomerSnapshot, GatewayError> {
        let call = format!("update {customer} {name} {email:?}");
        let answer = self.once(key, call, |model| {
            let updated = model.update_customer(customer, name, email);
            updated.map_or(Answer::Rejected("resource_missing"), Answer::Customer)
        })?;
        match answer {
            Answer::Customer(updated) => Ok(updated),
            _ => unreachable!("a key's call is compared before its answer is given"),
        }
    }

    async fn collect_unpaid(
        &self,
        id: &SubscriptionId,
        metadata: &Metadata,
        key: &IdempotencyKey,
    ) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        let answer = self.once(key, format!("collect {id} {metadata:?}"), |model| {
            unless_missing(model.subscriptions.contains_key(id), || {
                let collected = model.collect_unpaid(id, metadata);
                outcome(model, id, &collected, false)
            })
        })?;
        Ok(subscription(answer))
    }

    async fn invoice(&self, id: &InvoiceId) -> Result<Option<InvoiceSnapshot>, GatewayError> {
        let found = self.look(|model| model.invoices.get(id).cloned());
        tokio::task::yield_now().await;
        found
    }

    async fn invoices_of(
        &self,
        customer: &CustomerId,
        after: Option<String>,
    ) -> Result<Listed<InvoiceSnapshot>, GatewayError> {
        self.look(|model| {
            let of = model.invoices.values().filter(|i| i.customer == *customer);
            // A list does not carry attempts.
            let mut all: Vec<_> = of
                .map(|invoice| InvoiceSnapshot {
                    attempts: Vec::new(),
                    ..invoice.clone()
                })
                .collect();
            all.sort_by_key(|invoice| std::cmp::Reverse(invoice.position()));
            page(&all, after.as_deref(), |i| i.id.to_string())
        })
    }

    async fn waits_for(&self, invoice: &InvoiceId) -> Result<Option<Outcome<()>>, GatewayError> {
        self.look(|model| {
            let found = model.invoices.get(invoice)?;
            if found.status != InvoiceStatus::Open {
                return None;
            }
            match &found.attempts.last()?.outcome {
                AttemptOutcome::Succeeded => None,
                AttemptOutcome::Failed { .. } => Some(Outcome::Declined {
                    decline: generic(),
                    left: None,
                }),
                AttemptOutcome::ActionRequired => Some(Outcome::ActionRequired {
                    client_secret: ClientSecret(format!("{invoice}_secret").into()),
                    left: None,
                }),
            }
        })
    }

    async fn checkout(
        &self,
        new: &NewCheckout,
        key: &IdempotencyKey,
    ) -> Result<CheckoutSnapshot, GatewayError> {
        let call = format!("checkout {new:?}");
        match self.once(key, call, |model| {
            Answer::Checkout(model.open_checkout(new))
        })? {
            Answer::Checkout(made) => Ok(made),
            _ => unreachable!("a key's call is compared before its answer is given"),
        }
    }

    async fn checkout_session(
        &self,
        id: &CheckoutId,
    ) -> Result<Option<CheckoutSnapshot>, GatewayError> {
        self.look(|model| {
            model
                .checkouts
                .get(id)
                .map(|(checkout, _)| checkout.clone())
        })
    }

    async fn expire_checkout(&self, id: &CheckoutId) -> Result<CheckoutSnapshot, GatewayError> {
        self.look(|_| ())?;
        let closed = self.model().expire_checkout(id);
        closed.ok_or(GatewayError::NotFound)
    }

    async fn portal(&self, customer: &CustomerId, _: &str) -> Result<String, GatewayError> {
        let known = self.look(|model| model.customers.get(customer).is_some_and(|c| !c.deleted))?;
        if known {
            Ok(format!("https://portal.example/{customer}"))
        } else {
            Err(GatewayError::NotFound)
        }
    }

    async fn sync_portal(&self, dry_run: bool, _: &IdempotencyKey) -> Result<bool, GatewayError> {
        self.look(|_| ())?;
        let mut model = self.model();
        let is_missing = !model.has_portal;
        model.has_portal |= !dry_run;
        Ok(is_missing)
    }

    async fn charge(&self, id: &ChargeId) -> Result<Option<ChargeSnapshot>, GatewayError> {
        self.look(|model| model.charges.get(id).cloned())
    }

    async fn dispute(&self, id: &DisputeId) -> Result<Option<DisputeSnapshot>, GatewayError> {
        self.look(|model| model.disputes.get(id).cloned())
    }

    async fn events(&self, query: &EventQuery) -> Result<Listed<ProviderEvent>, GatewayError> {
        self.look(|model| {
            let from: DateTime<Utc> = query.created_from;
            let wanted = |event: &&ProviderEvent| {
                let open = !model.delivered.contains(&event.envelope.id);
                event.envelope.created.is_some_and(|at| at >= from) && (open || !query.undelivered)
            };
            let all: Vec<_> = model.events.iter().rev().filter(wanted).cloned().collect();
            page(&all, query.after.as_deref(), |e| e.envelope.id.to_string())
        })
    }

    async fn price(&self, lookup_key: &str) -> Result<Option<PriceSnapshot>, GatewayError> {
        self.look(|model| {
            let mut prices = model.prices.values();
            prices
                .find(|p| p.lookup_key.as_deref() == Some(lookup_key))
                .cloned()
        })
    }

    async fn price_by_id(&self, id: &PriceId) -> Result<Option<PriceSnapshot>, GatewayError> {
        self.look(|model| model.prices.get(id).cloned())
    }

    async fn create_price(
        &self,
        new: &NewPrice,
        key: &IdempotencyKey,
    ) -> Result<PriceSnapshot, GatewayError> {
        let answer = self.once(key, format!("create_price {new:?}"), |model| {
            let taken =
                |p: &PriceSnapshot| p.lookup_key.as_deref() == Some(new.lookup_key.as_str());
            if model.prices.values().any(taken) {
                return Answer::Rejected("resource_already_exists");
            }
            let amount = i64::try_from(new.amount).unwrap_or(i64::MAX);
            let id = model.add_price(&new.lookup_key, new.currency, new.interval, amount);
            let price = model.prices.get_mut(&id).expect("it was made");
            price.product = new.product.clone();
            price.metadata = new.metadata.clone();
            Answer::Price(price.clone())
        })?;
        match answer {
            Answer::Price(made) => Ok(made),
            _ => unreachable!("a key's call is compared before its answer is given"),
        }
    }
}
