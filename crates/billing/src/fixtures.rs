//! The plainest of each snapshot, for this crate's own tests.

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_plans::Interval;

use crate::money::Currency;
use crate::ports::{Sold, Subscription};
use crate::provider_objects::{
    CollectionMethod, InvoiceSnapshot, InvoiceStatus, ItemSnapshot, Metadata, PriceSnapshot,
    SubscriptionSnapshot, SubscriptionStatus,
};

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).unwrap()
}

pub(crate) fn usd() -> Currency {
    Currency::parse("usd").unwrap()
}

/// An active subscription to professional 1.
pub(crate) fn subscription(id: &str) -> Subscription {
    let price = PriceSnapshot {
        id: "price_1".parse().unwrap(),
        product: "prod_1".parse().unwrap(),
        currency: usd(),
        interval: Some(Interval::Month),
        amount: Some(2_900),
        active: true,
        lookup_key: None,
        metadata: Metadata::default(),
    };
    let item = ItemSnapshot {
        id: "si_1".parse().unwrap(),
        price,
        quantity: 1,
        period_start: start(),
        period_end: start() + TimeDelta::days(30),
    };
    let snapshot = SubscriptionSnapshot {
        id: id.parse().unwrap(),
        customer: "cus_1".parse().unwrap(),
        status: SubscriptionStatus::Active,
        created: start(),
        livemode: false,
        items: vec![item],
        plan_item: None,
        billing_cycle_anchor: start(),
        trial_end: None,
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
        metadata: Metadata::default(),
    };
    let sold = Sold {
        plan: "professional".parse().unwrap(),
        version: 1,
    };
    Subscription {
        snapshot,
        sold: Some(sold),
    }
}

/// An open invoice of `sub_1` that was never attempted.
pub(crate) fn invoice(id: &str) -> InvoiceSnapshot {
    InvoiceSnapshot {
        id: id.parse().unwrap(),
        customer: "cus_1".parse().unwrap(),
        subscription: Some("sub_1".parse().unwrap()),
        number: None,
        status: InvoiceStatus::Open,
        billing_reason: None,
        currency: usd(),
        total: 2_900,
        amount_due: 2_900,
        amount_paid: 0,
        amount_remaining: 2_900,
        created: start(),
        period_start: start(),
        period_end: start() + TimeDelta::days(30),
        collection_method: CollectionMethod::default(),
        due_at: None,
        reversed_at: None,
        finalized_at: Some(start()),
        paid_at: None,
        voided_at: None,
        marked_uncollectible_at: None,
        attempts: Vec::new(),
        attempt_count: 0,
        next_attempt: None,
        finalization_error: None,
        hosted_url: None,
        pdf_url: None,
        livemode: false,
        metadata: Metadata::default(),
    }
}
