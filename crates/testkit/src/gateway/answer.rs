//! What the provider keeps under an idempotency key.

use rawdrive_billing::{
    CheckoutSnapshot, CustomerSnapshot, Outcome, PriceSnapshot, SubscriptionSnapshot,
};

/// What is stored under a key.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Customer(CustomerSnapshot),
    Subscription(Box<Outcome<SubscriptionSnapshot>>),
    Checkout(CheckoutSnapshot),
    Price(PriceSnapshot),
    Attached(Outcome<CustomerSnapshot>),
    Rejected(&'static str),
}

impl Answer {
    pub(super) fn subscription(outcome: Outcome<SubscriptionSnapshot>) -> Self {
        Self::Subscription(Box::new(outcome))
    }
}
