//! A payment provider in memory: a small model of Stripe, for decisions that are tested without HTTP.
//!
//! It knows nothing of our code but the port: subscriptions have a life of their own that goes on by the clock
//! ([`MemoryGateway::pass`]), every change makes an event, an answer is stored under its key, and calls fail when a
//! test says so.

mod answer;
mod behaviour;
mod model;
mod port;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rawdrive_billing::{
    ChargeId, Currency, CustomerId, DisputeId, InvoiceId, PriceId, ProviderEvent, Sold, SoldPrice,
    SubscriptionId, SubscriptionSnapshot,
};
use rawdrive_plans::Catalogue;
use rawdrive_tenancy_core::Env;

pub use self::behaviour::{Card, GatewayFault, Renewals};
use self::model::Model;

/// A payment provider in memory. Cheap to clone; all clones are the one provider.
#[derive(Debug, Clone)]
pub struct MemoryGateway {
    model: Arc<Mutex<Model>>,
    env: Env,
}

impl MemoryGateway {
    /// An empty provider that lives by the same clock.
    #[must_use]
    pub fn new(env: Env) -> Self {
        Self {
            model: Arc::default(),
            env,
        }
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        model.now = self.env.now();
        model
    }

    /// Makes every price of a catalogue, and says what each one is of.
    ///
    /// # Panics
    /// A currency of the catalogue is none.
    #[must_use]
    pub fn sell(&self, catalogue: &Catalogue) -> Vec<SoldPrice> {
        let mut model = self.model();
        let mut sold = Vec::new();
        for plan in catalogue.versions() {
            for price in &plan.prices {
                let currency = Currency::parse(&price.currency).expect("a currency");
                let lookup_key = format!(
                    "rawdrive_{}_v{}_{currency}_{}",
                    plan.slug, plan.version, price.interval
                );
                let amount = i64::try_from(price.amount).expect("an amount");
                let id = model.add_price(&lookup_key, currency, price.interval, amount);
                sold.push(SoldPrice {
                    price: id,
                    sold: Sold {
                        plan: plan.slug.clone(),
                        version: plan.version,
                    },
                    currency,
                    interval: price.interval,
                });
            }
        }
        sold
    }

    /// The calls of these numbers that change something fail so; calls are counted from 0, from now on.
    pub fn fail(&self, faults: impl IntoIterator<Item = (usize, GatewayFault)>) {
        let mut model = self.model();
        model.calls = 0;
        model.faults = faults.into_iter().collect::<BTreeMap<_, _>>();
    }

    /// How many calls that change something were made since the faults were set.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.model().calls
    }

    /// How many calls of any kind were ever made.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.model().asked
    }

    /// Whether it answers nobody.
    pub fn set_down(&self, down: bool) {
        self.model().down = down;
    }

    /// What becomes of subscriptions that nobody pays.
    pub fn set_renewals(&self, renewals: Renewals) {
        self.model().renewals = renewals;
    }

    /// Lets happen what is due by now: renewals, ends of trials, retries.
    pub fn pass(&self) {
        self.model().pass();
    }

    /// Every event that was ever made, oldest first.
    #[must_use]
    pub fn history(&self) -> Vec<ProviderEvent> {
        self.model().events.clone()
    }

    /// Notes that an event was delivered.
    pub fn delivered(&self, event: &ProviderEvent) {
        let id = event.envelope.id.clone();
        self.model().delivered.insert(id);
    }

    /// Makes another means of paying the customer's default.
    pub fn set_card(&self, customer: &CustomerId, card: Card) {
        self.model().set_card(customer, card);
    }

    /// Tries to collect an open invoice now.
    pub fn collect(&self, invoice: &InvoiceId) {
        self.model().collect(invoice);
    }

    /// The payer confirms what an invoice waits for.
    pub fn confirm(&self, invoice: &InvoiceId) {
        self.model().confirm(invoice);
    }

    /// Withdraws an invoice.
    pub fn void(&self, invoice: &InvoiceId) {
        self.model().void(invoice);
    }

    /// Deletes a customer, and ends its subscriptions.
    pub fn delete_customer(&self, customer: &CustomerId) {
        self.model().delete_customer(customer);
    }

    /// Gives an amount of a charge back.
    pub fn refund(&self, charge: &ChargeId, amount: i64) {
        self.model().refund(charge, amount);
    }

    /// Opens a dispute over a charge.
    #[must_use]
    pub fn dispute_charge(&self, charge: &ChargeId) -> DisputeId {
        self.model().open_dispute(charge)
    }

    /// Decides a dispute.
    pub fn decide_dispute(&self, dispute: &DisputeId, status: &str) {
        self.model().decide_dispute(dispute, status);
    }

    /// Gives a subscription a state that this version does not know.
    pub fn set_unknown_status(&self, subscription: &SubscriptionId, status: &str) {
        self.model().set_unknown_status(subscription, status);
    }

    /// Somebody changes a subscription's price in the provider's own pages.
    pub fn reprice(&self, subscription: &SubscriptionId, price: &PriceId) {
        self.model().reprice(subscription, price);
    }

    /// The payer pays in a hosted checkout, by a card that is good.
    pub fn complete_checkout(&self, id: &rawdrive_billing::CheckoutId) {
        self.model().complete_checkout(id);
    }

    /// Every customer, subscription, invoice and charge: what a test counts.
    #[must_use]
    pub fn books(&self) -> Books {
        let model = self.model();
        Books {
            customers: model.customers.keys().cloned().collect(),
            subscriptions: model.subscriptions.values().cloned().collect(),
            invoices: model.invoices.keys().cloned().collect(),
            charges: model.charges.keys().cloned().collect(),
        }
    }

    /// Changes what a test could not reach otherwise: the metadata of a customer's subscriptions.
    pub fn edit_subscription(
        &self,
        id: &SubscriptionId,
        edit: impl FnOnce(&mut SubscriptionSnapshot),
    ) {
        let mut model = self.model();
        edit(
            model
                .subscriptions
                .get_mut(id)
                .expect("the subscription is there"),
        );
        model.subscription_event(id, "updated");
    }
}

/// What the provider has.
#[derive(Debug, Clone)]
pub struct Books {
    /// Customers, deleted ones too.
    pub customers: Vec<CustomerId>,
    /// Subscriptions, ended ones too.
    pub subscriptions: Vec<SubscriptionSnapshot>,
    /// Invoices.
    pub invoices: Vec<InvoiceId>,
    /// Charges that were paid.
    pub charges: Vec<ChargeId>,
}
