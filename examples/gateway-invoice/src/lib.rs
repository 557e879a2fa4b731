//! A payment gateway that is not Stripe: invoices that an operator marks as paid.
//!
//! Here is the port: each call under its key, the books in their file. What the provider does is in `books.rs`.

mod books;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rawdrive_billing::{
    AttemptOutcome, CancelWhen, ChangePrice, ChangeTiming, ChargeId, ChargePreview, ChargeSnapshot,
    CheckoutId, CheckoutSnapshot, ClientSecret, CustomerId, CustomerQuery, CustomerSnapshot,
    Decline, DisputeId, DisputeSnapshot, EventQuery, GatewayError, IdempotencyKey, InvoiceId,
    InvoiceSnapshot, InvoiceStatus, Listed, Metadata, Money, NewCheckout, NewCustomer, NewPrice,
    Outcome, PaymentGateway, PaymentMethodId, PreviewRequest, PriceId, PriceSnapshot,
    ProviderEvent, Subscribe, SubscriptionId, SubscriptionSnapshot,
};
use rawdrive_tenancy_core::Env;

pub use books::Means;
use books::{Answer, Books, Collected, Kept, after, missing};

/// How many items a page holds.
const PAGE: usize = 100;

/// The gateway. Cheap to clone; all clones keep the same books.
#[derive(Clone)]
pub struct InvoiceGateway {
    books: Arc<Mutex<Books>>,
    file: Arc<Path>,
    env: Env,
}

impl std::fmt::Debug for InvoiceGateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InvoiceGateway")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl InvoiceGateway {
    /// Opens the books, or begins them where there is no such file. One process keeps them.
    ///
    /// # Errors
    /// The file cannot be read, or holds no books.
    pub fn open(file: PathBuf, env: Env) -> io::Result<Self> {
        let books = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Books::default(),
            Err(error) => return Err(error),
        };
        Ok(Self {
            books: Arc::new(Mutex::new(books)),
            file: file.into(),
            env,
        })
    }

    /// An operator has found the payment of an invoice. Whether it was still expected.
    ///
    /// # Errors
    /// The books cannot be written.
    pub fn mark_paid(&self, invoice: &InvoiceId) -> Result<bool, GatewayError> {
        self.change(|books| books.mark_paid(invoice))
    }

    /// The invoices that wait for a payment, oldest first.
    ///
    /// # Errors
    /// The books cannot be written.
    pub fn open_invoices(&self) -> Result<Vec<InvoiceSnapshot>, GatewayError> {
        self.change(|books| {
            let open = books
                .invoices
                .values()
                .filter(|i| i.status == InvoiceStatus::Open);
            let mut open: Vec<_> = open.cloned().collect();
            open.sort_by_key(InvoiceSnapshot::position);
            open
        })
    }

    /// Lets happen what is due, then looks or changes something; what has changed is on disk before anybody hears of it.
    fn change<T>(&self, change: impl FnOnce(&mut Books) -> T) -> Result<T, GatewayError> {
        let mut books: MutexGuard<'_, Books> =
            self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let mut after = books.clone();
        after.pass(self.env.now());
        let answer = change(&mut after);
        if after != *books {
            // A few milliseconds for some hundreds of customers: not worth another thread.
            write(&self.file, &after).map_err(|error| GatewayError::Unreachable {
                reason: format!("failed to write {}: {error}", self.file.display()),
            })?;
            *books = after;
        }
        Ok(answer)
    }

    /// A change under a key, which happens once.
    fn once(
        &self,
        key: &IdempotencyKey,
        call: String,
        change: impl FnOnce(&mut Books) -> Answer,
    ) -> Result<Answer, GatewayError> {
        let answer = self.change(|books| match books.keys.get(key) {
            Some(kept) if kept.call != call => Answer::Rejected("idempotency_error".to_owned()),
            Some(kept) => kept.answer.clone(),
            None => {
                let answer = change(books);
                let kept = Kept {
                    call,
                    answer: answer.clone(),
                    at: books.now(),
                };
                books.keys.insert(key.clone(), kept);
                answer
            }
        })?;
        match answer {
            Answer::Rejected(code) => Err(rejected(&code)),
            answer => Ok(answer),
        }
    }
}

/// Another file first, so that a crash leaves the old books or the new ones.
fn write(file: &Path, books: &Books) -> io::Result<()> {
    let beside = file.with_extension("new");
    let mut new = File::create(&beside)?;
    new.write_all(&serde_json::to_vec(books)?)?;
    new.sync_all()?;
    fs::rename(&beside, file)
}

fn rejected(code: &str) -> GatewayError {
    GatewayError::Rejected {
        code: code.to_owned(),
        message: "by the books of invoices".to_owned(),
    }
}

/// There is no page of ours that a payer could be sent to.
fn no_pages<T>() -> Result<T, GatewayError> {
    Err(rejected("no_hosted_pages"))
}

const DIFFERS: &str = "a key's call is compared before its answer is given";

fn customer(answer: Answer) -> CustomerSnapshot {
    match answer {
        Answer::Customer(customer) => customer,
        other => unreachable!("{DIFFERS}: {other:?}"),
    }
}

/// What collecting came to. `leaves`: what was made stays, although it is not paid.
fn outcome(answer: Answer, leaves: bool) -> Outcome<SubscriptionSnapshot> {
    let Answer::Subscription {
        snapshot,
        collected,
        reference,
    } = answer
    else {
        unreachable!("{DIFFERS}: {answer:?}");
    };
    let left = || leaves.then(|| (*snapshot).clone());
    match collected {
        Collected::Paid => Outcome::Done(*snapshot),
        Collected::Refused => Outcome::Declined {
            decline: closed(),
            left: left(),
        },
        Collected::Waits => Outcome::ActionRequired {
            client_secret: ClientSecret(reference.into()),
            left: left(),
        },
    }
}

fn snapshot(answer: Answer) -> SubscriptionSnapshot {
    match answer {
        Answer::Subscription { snapshot, .. } => *snapshot,
        other => unreachable!("{DIFFERS}: {other:?}"),
    }
}

fn closed() -> Decline {
    Decline {
        decline_code: "account_closed".to_owned(),
    }
}

/// A page of what is ordered newest first, after the one of this name.
fn page<T>(all: Vec<T>, after: Option<&str>, name: impl Fn(&T) -> String) -> Listed<T> {
    let from = after.map_or(0, |after| {
        let at = all.iter().position(|item| name(item) == after);
        at.map_or(all.len(), |at| at + 1)
    });
    let more = from + PAGE < all.len();
    let items: Vec<_> = all.into_iter().skip(from).take(PAGE).collect();
    Listed {
        next: items.last().filter(|_| more).map(name),
        items,
    }
}

impl PaymentGateway for InvoiceGateway {
    fn livemode(&self) -> Option<bool> {
        Some(true)
    }

    async fn create_customer(
        &self,
        new: &NewCustomer,
        key: &IdempotencyKey,
    ) -> Result<CustomerSnapshot, GatewayError> {
        let call = format!("create_customer {new:?}");
        self.once(key, call, |books| books.add_customer(new))
            .map(customer)
    }

    async fn customer(&self, id: &CustomerId) -> Result<Option<CustomerSnapshot>, GatewayError> {
        self.change(|books| books.customers.get(id).cloned())
    }

    async fn customers(
        &self,
        query: &CustomerQuery,
    ) -> Result<Listed<CustomerSnapshot>, GatewayError> {
        self.change(|books| {
            let made = |customer: &&CustomerSnapshot| customer.created >= query.created_from;
            let mut all: Vec<_> = books.customers.values().filter(made).cloned().collect();
            all.sort_by(|a, b| (b.created, &b.id).cmp(&(a.created, &a.id)));
            page(all, query.after.as_deref(), |customer| {
                customer.id.to_string()
            })
        })
    }

    async fn attach_payment_method(
        &self,
        id: &CustomerId,
        method: &PaymentMethodId,
        key: &IdempotencyKey,
    ) -> Result<Outcome<CustomerSnapshot>, GatewayError> {
        let attached = self.once(key, format!("attach {id} {method}"), |books| {
            books.edit_customer(id, |customer| {
                customer.default_payment_method = Some(method.clone())
            })
        });
        attached.map(customer).map(Outcome::Done)
    }

    async fn subscribe(
        &self,
        new: &Subscribe,
        key: &IdempotencyKey,
    ) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        let made = self.once(key, format!("subscribe {new:?}"), |books| {
            if let Some(replaced) = &new.replaces {
                books.withdraw(replaced);
            }
            books.subscribe(new)
        });
        made.map(|answer| outcome(answer, true))
    }

    async fn subscription(
        &self,
        id: &SubscriptionId,
    ) -> Result<Option<SubscriptionSnapshot>, GatewayError> {
        self.change(|books| books.subscriptions.get(id).cloned())
    }

    async fn subscriptions_of(
        &self,
        customer: &CustomerId,
    ) -> Result<Vec<SubscriptionSnapshot>, GatewayError> {
        self.change(|books| {
            let of = books
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
        let call = format!("change {change:?}");
        self.once(key, call, |books| books.change_price(change))
            .map(|answer| outcome(answer, false))
    }

    async fn preview(&self, request: &PreviewRequest) -> Result<ChargePreview, GatewayError> {
        let preview = self.change(|books| {
            let price = books.prices.get(&request.price)?;
            let amount = price
                .amount?
                .checked_mul(i64::try_from(request.quantity).ok()?)?;
            let money = |minor| Money::new(minor, price.currency);
            let (now, next_at, proration_date) = match &request.change {
                None => match request.trial_days.filter(|days| *days > 0) {
                    Some(days) => (0, books.now() + chrono::TimeDelta::days(days.into()), None),
                    None => (amount, after(books.now(), price.interval), None),
                },
                Some((id, _)) => {
                    let subscription = books.subscriptions.get(id)?;
                    let item = subscription.item()?;
                    match request.timing {
                        ChangeTiming::AtPeriodEnd => (0, item.period_end, None),
                        ChangeTiming::Now { proration_date } => {
                            let from = item.within_period(proration_date);
                            let (now, item) =
                                Books::proration(item, price, from, subscription.status.is_trial());
                            (now, item.period_end, Some(from))
                        }
                    }
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
        self.once(key, call, |books| books.cancel(id, when, metadata))
            .map(snapshot)
    }

    async fn withdraw(
        &self,
        id: &SubscriptionId,
        key: &IdempotencyKey,
    ) -> Result<SubscriptionSnapshot, GatewayError> {
        self.once(key, format!("withdraw {id}"), |books| books.withdraw(id))
            .map(snapshot)
    }

    async fn update_customer(
        &self,
        id: &CustomerId,
        name: &str,
        email: Option<&str>,
        key: &IdempotencyKey,
    ) -> Result<CustomerSnapshot, GatewayError> {
        let updated = self.once(key, format!("update {id} {name} {email:?}"), |books| {
            books.edit_customer(id, |customer| {
                customer.name = Some(name.to_owned());
                customer.email = email.map(str::to_owned);
            })
        });
        updated.map(customer)
    }

    /// Nothing is collected here: whoever owes has the invoices, and an operator marks them.
    async fn collect_unpaid(
        &self,
        id: &SubscriptionId,
        _: &Metadata,
        key: &IdempotencyKey,
    ) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        let collected = self.once(key, format!("collect {id}"), |books| {
            let owed = books
                .invoices
                .values()
                .filter(|i| i.subscription.as_ref() == Some(id) && i.is_owed())
                .count();
            match (books.subscriptions.contains_key(id), owed) {
                (false, _) => missing(),
                (true, 0) => books.answer(id, Collected::Paid),
                (true, _) => books.answer(id, Collected::Waits),
            }
        });
        collected.map(|answer| outcome(answer, false))
    }

    async fn resume(
        &self,
        id: &SubscriptionId,
        metadata: &Metadata,
        key: &IdempotencyKey,
    ) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        let call = format!("resume {id} {metadata:?}");
        self.once(key, call, |books| books.resume(id, metadata))
            .map(|answer| outcome(answer, false))
    }

    async fn invoice(&self, id: &InvoiceId) -> Result<Option<InvoiceSnapshot>, GatewayError> {
        self.change(|books| books.invoices.get(id).cloned())
    }

    async fn invoices_of(
        &self,
        customer: &CustomerId,
        after: Option<String>,
    ) -> Result<Listed<InvoiceSnapshot>, GatewayError> {
        self.change(|books| {
            let of = books.invoices.values().filter(|i| i.customer == *customer);
            let mut all: Vec<_> = of.cloned().collect();
            all.sort_by_key(|invoice| std::cmp::Reverse(invoice.position()));
            page(all, after.as_deref(), |invoice| invoice.id.to_string())
        })
    }

    async fn waits_for(&self, invoice: &InvoiceId) -> Result<Option<Outcome<()>>, GatewayError> {
        self.change(|books| {
            let found = books
                .invoices
                .get(invoice)
                .filter(|i| i.status == InvoiceStatus::Open)?;
            match &found.attempts.last()?.outcome {
                AttemptOutcome::Succeeded => None,
                AttemptOutcome::Failed { .. } => Some(Outcome::Declined {
                    decline: closed(),
                    left: None,
                }),
                AttemptOutcome::ActionRequired => Some(Outcome::ActionRequired {
                    client_secret: ClientSecret(found.number.clone()?.into()),
                    left: None,
                }),
            }
        })
    }

    async fn checkout(
        &self,
        _: &NewCheckout,
        _: &IdempotencyKey,
    ) -> Result<CheckoutSnapshot, GatewayError> {
        no_pages()
    }

    async fn checkout_session(
        &self,
        _: &CheckoutId,
    ) -> Result<Option<CheckoutSnapshot>, GatewayError> {
        Ok(None)
    }

    async fn expire_checkout(&self, _: &CheckoutId) -> Result<CheckoutSnapshot, GatewayError> {
        Err(GatewayError::NotFound)
    }

    async fn portal(&self, _: &CustomerId, _: &str) -> Result<String, GatewayError> {
        no_pages()
    }

    /// Nothing is missing: there are no pages to be set up.
    async fn sync_portal(&self, _: bool, _: &IdempotencyKey) -> Result<bool, GatewayError> {
        Ok(false)
    }

    async fn charge(&self, _: &ChargeId) -> Result<Option<ChargeSnapshot>, GatewayError> {
        Ok(None)
    }

    async fn dispute(&self, _: &DisputeId) -> Result<Option<DisputeSnapshot>, GatewayError> {
        Ok(None)
    }

    async fn events(&self, query: &EventQuery) -> Result<Listed<ProviderEvent>, GatewayError> {
        self.change(|books| {
            // Nobody delivers them: all are as yet to be heard of.
            let all = books
                .events
                .iter()
                .rev()
                .filter_map(|event| ProviderEvent::read(event.to_string().into_bytes()).ok());
            let all = all.filter(|event| event.envelope.created >= Some(query.created_from));
            page(all.collect(), query.after.as_deref(), |event| {
                event.envelope.id.to_string()
            })
        })
    }

    async fn price(&self, lookup_key: &str) -> Result<Option<PriceSnapshot>, GatewayError> {
        self.change(|books| {
            let mut prices = books.prices.values();
            prices
                .find(|price| price.lookup_key.as_deref() == Some(lookup_key))
                .cloned()
        })
    }

    async fn price_by_id(&self, id: &PriceId) -> Result<Option<PriceSnapshot>, GatewayError> {
        self.change(|books| books.prices.get(id).cloned())
    }

    async fn create_price(
        &self,
        new: &NewPrice,
        key: &IdempotencyKey,
    ) -> Result<PriceSnapshot, GatewayError> {
        match self.once(key, format!("create_price {new:?}"), |books| {
            books.add_price(new)
        })? {
            Answer::Price(price) => Ok(price),
            other => unreachable!("{DIFFERS}: {other:?}"),
        }
    }
}
