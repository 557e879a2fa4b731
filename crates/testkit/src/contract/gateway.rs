//! What a payment gateway promises, put to every one.

#![expect(
    clippy::unwrap_used,
    reason = "each function is a test, and a failing gateway is its failure"
)]

use std::future::Future;

use chrono::TimeDelta;
use rawdrive_billing::{
    CancelWhen, ChangePrice, ChangeTiming, Currency, CustomerId, CustomerQuery, CustomerSnapshot,
    EventQuery, GatewayError, IdempotencyKey, InvoiceStatus, Metadata, NOTHING_TO_PAY_WITH,
    NewCheckout, NewCustomer, NewPrice, Outcome, PaymentGateway, PaymentMethodId, PreviewRequest,
    PriceId, Subscribe, SubscriptionId, SubscriptionSnapshot, SubscriptionStatus,
};
use rawdrive_plans::{Catalogue, Interval};
use rawdrive_tenancy_core::Env;
use rawdrive_tenancy_core::id::{OperationId, WorkspaceId};

use crate::{Card, GatewayFault, MemoryGateway, TestEnv};

/// A gateway that can be put to the contract: beside the port, what a test must choose.
pub trait GatewaySubject: Send + Sync {
    /// What is put to it.
    type Gateway: PaymentGateway;
    /// It.
    fn gateway(&self) -> &Self::Gateway;
    /// Time and ids, as the gateway lives by.
    fn env(&self) -> &Env;
    /// Two prices in one currency by the month: one of 1000 minor units, and one of 2900.
    fn prices(&self) -> [PriceId; 2];
    /// A means of paying that behaves so.
    fn method(&self, card: Card) -> PaymentMethodId;
    /// The answer of the next call that changes something is lost, and every try that an adapter makes by itself.
    fn lose_next_answer(&self) -> impl Future<Output = ()> + Send;
    /// Time passes, and what is due by then happens at the provider.
    fn pass(&self, by: TimeDelta) -> impl Future<Output = ()> + Send;
    /// Answers arrive again.
    fn heal(&self) -> impl Future<Output = ()> + Send;
}

/// The provider in memory as a subject.
#[derive(Debug)]
pub struct MemorySubject {
    gateway: MemoryGateway,
    test_env: TestEnv,
    prices: [PriceId; 2],
}

impl MemorySubject {
    /// A provider with two prices.
    ///
    /// # Panics
    /// Never: the catalogue stands here.
    #[must_use]
    pub fn new() -> Self {
        const PLANS: &str = "[[plan]]\nslug = \"free\"\nversion = 1\nname = \"Free\"\n[[plan]]\nslug = \"a\"\nversion = 1\nname = \"A\"\nprices = [{ currency = \"usd\", interval = \"month\", amount = 1000 }]\n[[plan]]\nslug = \"b\"\nversion = 1\nname = \"B\"\nprices = [{ currency = \"usd\", interval = \"month\", amount = 2900 }]\n";
        let test_env = TestEnv::seeded(1);
        let gateway = MemoryGateway::new(test_env.env().clone());
        let sold = gateway.sell(&Catalogue::parse(PLANS).unwrap());
        let prices = [sold[0].price.clone(), sold[1].price.clone()];
        Self {
            gateway,
            test_env,
            prices,
        }
    }
}

impl Default for MemorySubject {
    fn default() -> Self {
        Self::new()
    }
}

impl GatewaySubject for MemorySubject {
    type Gateway = MemoryGateway;
    fn gateway(&self) -> &MemoryGateway {
        &self.gateway
    }
    fn env(&self) -> &Env {
        self.test_env.env()
    }
    fn prices(&self) -> [PriceId; 2] {
        self.prices.clone()
    }
    fn method(&self, card: Card) -> PaymentMethodId {
        card.method().parse().unwrap()
    }
    async fn lose_next_answer(&self) {
        self.gateway.fail([(0, GatewayFault::AnswerLost)]);
    }
    async fn pass(&self, by: TimeDelta) {
        self.test_env.advance(by);
        self.gateway.pass();
    }
    async fn heal(&self) {
        self.gateway.fail([]);
    }
}

fn key(s: &impl GatewaySubject) -> IdempotencyKey {
    s.env().uuid().to_string().parse().unwrap()
}

fn metadata(s: &impl GatewaySubject) -> Metadata {
    let (workspace, operation): (WorkspaceId, OperationId) = (s.env().id(), s.env().id());
    Metadata::of(workspace, Some(operation))
}

fn new_customer(s: &impl GatewaySubject) -> NewCustomer {
    NewCustomer {
        name: "Studio".to_owned(),
        email: Some("studio@example.com".to_owned()),
        metadata: metadata(s),
    }
}

async fn customer(s: &impl GatewaySubject) -> CustomerSnapshot {
    let made = s.gateway().create_customer(&new_customer(s), &key(s)).await;
    made.unwrap()
}

fn order(s: &impl GatewaySubject, customer: &CustomerId, card: Option<Card>) -> Subscribe {
    Subscribe {
        customer: customer.clone(),
        price: s.prices()[0].clone(),
        payment_method: card.map(|card| s.method(card)),
        trial_days: None,
        replaces: None,
        metadata: metadata(s),
    }
}

async fn subscribed(s: &impl GatewaySubject) -> SubscriptionSnapshot {
    let customer = customer(s).await;
    let order = order(s, &customer.id, Some(Card::Good));
    done(s.gateway().subscribe(&order, &key(s)).await)
}

fn done<T: std::fmt::Debug>(outcome: Result<Outcome<T>, GatewayError>) -> T {
    match outcome {
        Ok(Outcome::Done(value)) => value,
        other => panic!("it was to be done: {other:?}"),
    }
}

fn is_rejected<T: std::fmt::Debug>(answer: &Result<T, GatewayError>) -> bool {
    matches!(
        answer,
        Err(GatewayError::Rejected { .. } | GatewayError::NotFound)
    )
}

/// The same call under the same key is one customer; another call under it is refused.
pub async fn a_customer_is_made_once_for_a_key<S: GatewaySubject>(s: &S) {
    let (new, key) = (new_customer(s), key(s));
    let first = s.gateway().create_customer(&new, &key).await.unwrap();
    let again = s.gateway().create_customer(&new, &key).await.unwrap();
    assert_eq!(first.id, again.id);
    assert_eq!(first.metadata, new.metadata);
    let other = s.gateway().create_customer(&new_customer(s), &key).await;
    assert!(is_rejected(&other), "{other:?}");
    let read = s.gateway().customer(&first.id).await.unwrap().unwrap();
    assert_eq!((read.email, read.deleted), (new.email, false));
}

/// A customer is found by what was left on it, whichever page it is on.
pub async fn customers_are_found_by_their_metadata_in_the_list<S: GatewaySubject>(s: &S) {
    let from = s.env().now() - chrono::TimeDelta::hours(1);
    let mut made = Vec::new();
    for _ in 0..7 {
        made.push(customer(s).await);
    }
    let mut query = CustomerQuery {
        created_from: Some(from),
        after: None,
    };
    let mut found = Vec::new();
    loop {
        let page = s.gateway().customers(&query).await.unwrap();
        found.extend(
            page.items
                .into_iter()
                .map(|c| (c.id, c.metadata.operation())),
        );
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    for customer in made {
        let wanted = (customer.id, customer.metadata.operation());
        assert_eq!(
            found.iter().filter(|found| **found == wanted).count(),
            1,
            "{wanted:?}"
        );
    }
}

/// A customer's record is brought up to date, as often as it is asked for.
pub async fn a_customers_record_is_updated<S: GatewaySubject>(s: &S) {
    let made = customer(s).await;
    for email in [Some("bills@example.com"), None] {
        let (key, gateway) = (key(s), s.gateway());
        for _ in 0..2 {
            let told = gateway.update_customer(&made.id, "Atelier", email, &key);
            assert_eq!(told.await.unwrap().email.as_deref(), email);
        }
        let read = gateway.customer(&made.id).await.unwrap().unwrap();
        assert_eq!(
            (read.name.as_deref(), read.email.as_deref()),
            (Some("Atelier"), email)
        );
        assert_eq!(read.metadata, made.metadata);
    }
}

/// What a first purchase costs is told of somebody whom the provider does not know yet, and nobody is made for it.
pub async fn a_first_purchase_is_previewed_for_nobody<S: GatewaySubject>(s: &S) {
    let request = |trial_days, quantity| PreviewRequest {
        customer: None,
        change: None,
        price: s.prices()[1].clone(),
        quantity,
        trial_days,
        timing: ChangeTiming::Now {
            proration_date: s.env().now(),
        },
    };
    let shown = s.gateway().preview(&request(None, 2)).await.unwrap();
    assert_eq!((shown.now.minor, shown.next.minor), (5_800, 5_800));
    let shown = s.gateway().preview(&request(Some(14), 1)).await.unwrap();
    assert_eq!((shown.now.minor, shown.next.minor), (0, 2_900));
    let days = (shown.next_at - s.env().now()).num_hours();
    assert!((14 * 24 - 1..=14 * 24).contains(&days), "{shown:?}");
    let all = s.gateway().customers(&CustomerQuery::default()).await;
    assert!(all.unwrap().items.is_empty());
}

/// The settings of the hosted page are made once.
pub async fn the_portals_settings_are_made_once<S: GatewaySubject>(s: &S) {
    let sync = async |dry_run| s.gateway().sync_portal(dry_run, &key(s)).await.unwrap();
    assert!(
        sync(true).await && sync(true).await,
        "a dry run makes nothing"
    );
    assert!(sync(false).await);
    assert!(!sync(false).await && !sync(true).await);
}

/// Absence is no error.
pub async fn what_is_not_there_is_nothing<S: GatewaySubject>(s: &S) {
    let gateway = s.gateway();
    assert!(
        gateway
            .customer(&"cus_ghost".parse().unwrap())
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        gateway
            .subscription(&"sub_ghost".parse().unwrap())
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        gateway
            .invoice(&"in_ghost".parse().unwrap())
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        gateway
            .checkout_session(&"cs_ghost".parse().unwrap())
            .await
            .unwrap()
            .is_none()
    );
    assert!(gateway.price("rawdrive_ghost").await.unwrap().is_none());
    let ghost = "sub_ghost".parse().unwrap();
    let cancel = gateway
        .cancel(&ghost, CancelWhen::Now, &metadata(s), &key(s))
        .await;
    assert!(is_rejected(&cancel), "{cancel:?}");
}

/// A subscription is active when its first invoice is paid, and carries what was left on it.
pub async fn a_subscription_is_made_and_paid<S: GatewaySubject>(s: &S) {
    let made = subscribed(s).await;
    assert_eq!(made.status, SubscriptionStatus::Active);
    let item = made.item().unwrap();
    assert_eq!(
        (&item.price.id, item.price.amount),
        (&s.prices()[0], Some(1_000))
    );
    assert!(item.period_start < item.period_end);
    assert!(made.metadata.operation().is_some());
    let listed = s.gateway().subscriptions_of(&made.customer).await.unwrap();
    assert_eq!(listed.iter().map(|s| &s.id).collect::<Vec<_>>(), [&made.id]);
    let read = s.gateway().subscription(&made.id).await.unwrap().unwrap();
    assert_eq!((read.status, read.metadata), (made.status, made.metadata));
    let invoice = s
        .gateway()
        .invoice(&made.latest_invoice.unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (invoice.status.clone(), invoice.amount_paid),
        (InvoiceStatus::Paid, 1_000)
    );
    assert_eq!(invoice.subscription, Some(made.id));
    assert_eq!(invoice.first_failed_at(), None);
    let invoices = s.gateway().invoices_of(&made.customer, None).await.unwrap();
    assert!(invoices.items.iter().any(|listed| listed.id == invoice.id));
}

/// The same call under the same key is one subscription and one charge.
pub async fn one_key_makes_one_subscription<S: GatewaySubject>(s: &S) {
    let customer = customer(s).await;
    let (order, key) = (order(s, &customer.id, Some(Card::Good)), key(s));
    let first = done(s.gateway().subscribe(&order, &key).await);
    let again = done(s.gateway().subscribe(&order, &key).await);
    assert_eq!(first.id, again.id);
    let listed = s.gateway().subscriptions_of(&customer.id).await.unwrap();
    let invoices = s.gateway().invoices_of(&customer.id, None).await.unwrap();
    assert_eq!((listed.len(), invoices.items.len()), (1, 1));
}

/// An answer that was lost is had under the same key, and what it was about is there once.
pub async fn a_lost_answer_is_had_under_its_key<S: GatewaySubject>(s: &S) {
    let customer = customer(s).await;
    let (order, key) = (order(s, &customer.id, Some(Card::Good)), key(s));
    s.lose_next_answer().await;
    let lost = s.gateway().subscribe(&order, &key).await;
    s.heal().await;
    assert!(
        matches!(lost, Err(GatewayError::Unreachable { .. })),
        "{lost:?}"
    );
    let found = s.gateway().subscriptions_of(&customer.id).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].metadata.operation(), order.metadata.operation());
    let again = done(s.gateway().subscribe(&order, &key).await);
    assert_eq!(again.id, found[0].id);
}

/// A refusal is an outcome; what it leaves grants nothing and can be ended.
pub async fn a_declined_card_is_an_outcome<S: GatewaySubject>(s: &S) {
    let customer = customer(s).await;
    let order = order(s, &customer.id, Some(Card::Declined));
    let outcome = s.gateway().subscribe(&order, &key(s)).await.unwrap();
    let Outcome::Declined { decline, .. } = outcome else {
        panic!("{outcome:?}");
    };
    assert!(!decline.decline_code.is_empty());
    for left in s.gateway().subscriptions_of(&customer.id).await.unwrap() {
        assert_eq!(left.status, SubscriptionStatus::Incomplete);
        let invoice = s
            .gateway()
            .invoice(left.latest_invoice.as_ref().unwrap())
            .await
            .unwrap()
            .unwrap();
        assert!(invoice.first_failed_at().is_some(), "{invoice:?}");
        ends_with_its_invoice(s, &left).await;
    }
}

/// What waits for its first payment ends with the invoice: nobody can pay it any more.
async fn ends_with_its_invoice<S: GatewaySubject>(s: &S, left: &SubscriptionSnapshot) {
    let ended = s
        .gateway()
        .cancel(&left.id, CancelWhen::Now, &left.metadata, &key(s))
        .await;
    assert!(ended.unwrap().status.is_final());
    let id = left.latest_invoice.as_ref().unwrap();
    let invoice = s.gateway().invoice(id).await.unwrap().unwrap();
    assert_eq!(invoice.status, InvoiceStatus::Void, "{invoice:?}");
    assert!(invoice.voided_at.is_some());
    let waits = s.gateway().waits_for(id).await.unwrap();
    assert!(
        !matches!(waits, Some(Outcome::ActionRequired { .. })),
        "{waits:?}"
    );
}

/// A payment that waits for its payer is an outcome, and says so again when it is asked; its secret is not shown.
pub async fn a_payment_to_confirm_is_an_outcome<S: GatewaySubject>(s: &S) {
    use secrecy::ExposeSecret as _;
    let customer = customer(s).await;
    let order = order(s, &customer.id, Some(Card::Confirms));
    let outcome = s.gateway().subscribe(&order, &key(s)).await.unwrap();
    let shown = format!("{outcome:?}");
    let Outcome::ActionRequired {
        client_secret,
        left,
    } = outcome
    else {
        panic!("{outcome:?}");
    };
    let secret = client_secret.0.expose_secret();
    assert!(!secret.is_empty() && !shown.contains(secret));
    let left = left.unwrap();
    assert_eq!(left.status, SubscriptionStatus::Incomplete);
    let invoice = left.latest_invoice.as_ref().unwrap();
    let waits = s.gateway().waits_for(invoice).await.unwrap();
    assert!(
        matches!(waits, Some(Outcome::ActionRequired { .. })),
        "{waits:?}"
    );
    ends_with_its_invoice(s, &left).await;
}

/// A trial can do without a means of paying, and charges nothing.
pub async fn a_trial_needs_no_card<S: GatewaySubject>(s: &S) {
    let customer = customer(s).await;
    let order = Subscribe {
        trial_days: Some(14),
        ..order(s, &customer.id, None)
    };
    let made = done(s.gateway().subscribe(&order, &key(s)).await);
    assert_eq!(made.status, SubscriptionStatus::Trialing);
    let length = made.trial_end.unwrap() - made.created;
    assert_eq!(length, TimeDelta::days(14));
}

/// A customer, and a subscription of theirs whose trial has ended without a card.
async fn tried_out<S: GatewaySubject>(s: &S) -> (CustomerId, SubscriptionId) {
    let customer = customer(s).await.id;
    let order = Subscribe {
        trial_days: Some(7),
        ..order(s, &customer, None)
    };
    let made = done(s.gateway().subscribe(&order, &key(s)).await);
    s.pass(TimeDelta::days(8)).await;
    (customer, made.id)
}

async fn attach<S: GatewaySubject>(s: &S, customer: &CustomerId, card: Card) {
    let (method, key) = (s.method(card), key(s));
    let attached = s.gateway().attach_payment_method(customer, &method, &key);
    done(attached.await);
}

/// A trial that ends without a card pauses. It wakes by one that pays; a refusal leaves it asleep, and nothing that
/// could be paid later.
pub async fn a_trial_that_ended_wakes_by_a_card_that_pays<S: GatewaySubject>(s: &S) {
    let (customer, id) = tried_out(s).await;
    let read = async || s.gateway().subscription(&id).await.unwrap().unwrap();
    let resume = async || s.gateway().resume(&id, &metadata(s), &key(s)).await;
    let latest = async || {
        let invoice = read().await.latest_invoice.unwrap();
        s.gateway().invoice(&invoice).await.unwrap().unwrap().status
    };
    assert_eq!(read().await.status, SubscriptionStatus::Paused);
    let refused = resume().await;
    assert!(
        matches!(&refused, Err(GatewayError::Rejected { code, .. }) if code == NOTHING_TO_PAY_WITH),
        "{refused:?}"
    );
    attach(s, &customer, Card::Declined).await;
    let declined = resume().await;
    assert!(
        matches!(declined, Ok(Outcome::Declined { .. })),
        "{declined:?}"
    );
    assert_eq!(read().await.status, SubscriptionStatus::Paused);
    assert_eq!(latest().await, InvoiceStatus::Void);
    // What waits for its payer waits for nobody once it is withdrawn.
    attach(s, &customer, Card::Confirms).await;
    let waits = resume().await;
    assert!(
        matches!(waits, Ok(Outcome::ActionRequired { .. })),
        "{waits:?}"
    );
    assert_eq!(latest().await, InvoiceStatus::Open);
    let now = s.gateway().withdraw(&id, &key(s)).await.unwrap();
    assert_eq!(now.status, SubscriptionStatus::Paused);
    assert_eq!(latest().await, InvoiceStatus::Void);
    attach(s, &customer, Card::Good).await;
    assert_eq!(done(resume().await).status, SubscriptionStatus::Active);
}

/// A paused subscription that is ended takes the payment of its waking with it.
pub async fn who_ends_a_trial_that_is_over_is_not_charged_for_waking_it<S: GatewaySubject>(s: &S) {
    let (customer, id) = tried_out(s).await;
    attach(s, &customer, Card::Confirms).await;
    let waits = s.gateway().resume(&id, &metadata(s), &key(s)).await;
    assert!(
        matches!(waits, Ok(Outcome::ActionRequired { .. })),
        "{waits:?}"
    );
    let now = CancelWhen::Now;
    let ended = s.gateway().cancel(&id, now, &metadata(s), &key(s)).await;
    let ended = ended.unwrap();
    assert_eq!(ended.status, SubscriptionStatus::Canceled);
    let invoice = ended.latest_invoice.unwrap();
    let invoice = s.gateway().invoice(&invoice).await.unwrap().unwrap();
    assert_eq!(invoice.status, InvoiceStatus::Void);
}

/// An end at the period's end can be taken back; an end at once is final, twice as well as once.
pub async fn an_end_can_be_taken_back_until_it_has_come<S: GatewaySubject>(s: &S) {
    let made = subscribed(s).await;
    let cancel = async |when| {
        s.gateway()
            .cancel(&made.id, when, &metadata(s), &key(s))
            .await
            .unwrap()
    };
    let ending = cancel(CancelWhen::AtPeriodEnd).await;
    assert!(ending.cancel_at_period_end && !ending.status.is_final());
    assert_eq!(ending.ends_at(), ending.period_end());
    let resumed = done(s.gateway().resume(&made.id, &metadata(s), &key(s)).await);
    assert_eq!(resumed.ends_at(), None);
    let ended = cancel(CancelWhen::Now).await;
    assert_eq!(ended.status, SubscriptionStatus::Canceled);
    assert!(ended.ended_at.is_some());
    assert_eq!(
        cancel(CancelWhen::Now).await.status,
        SubscriptionStatus::Canceled
    );
    let late = s.gateway().resume(&made.id, &metadata(s), &key(s)).await;
    assert!(is_rejected(&late), "{late:?}");
}

fn change(s: &impl GatewaySubject, of: &SubscriptionSnapshot, timing: ChangeTiming) -> ChangePrice {
    ChangePrice {
        subscription: of.id.clone(),
        item: of.item().unwrap().id.clone(),
        price: s.prices()[1].clone(),
        quantity: Some(1),
        timing,
        metadata: metadata(s),
    }
}

/// What a preview shows is what is charged at once.
pub async fn a_change_costs_what_its_preview_says<S: GatewaySubject>(s: &S) {
    let made = subscribed(s).await;
    let now = s.env().now().timestamp();
    let timing = ChangeTiming::Now {
        proration_date: chrono::DateTime::from_timestamp(now, 0).unwrap(),
    };
    let change = change(s, &made, timing);
    let request = PreviewRequest {
        customer: Some(made.customer.clone()),
        change: Some((made.id.clone(), change.item.clone())),
        price: change.price.clone(),
        quantity: 1,
        trial_days: None,
        timing,
    };
    let shown = s.gateway().preview(&request).await.unwrap();
    let changed = done(s.gateway().change_price(&change, &key(s)).await);
    assert_eq!(changed.item().unwrap().price.id, change.price);
    assert_eq!(changed.metadata.operation(), change.metadata.operation());
    assert_ne!(changed.latest_invoice, made.latest_invoice);
    let invoice = s
        .gateway()
        .invoice(&changed.latest_invoice.unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((invoice.total, shown.next.minor), (shown.now.minor, 2_900));
    assert_eq!(shown.next_at, changed.items[0].period_end);
}

/// A time outside of the current period is moved into it where a change is previewed, and refused where it is made.
pub async fn a_time_outside_of_the_period_is_moved_into_it<S: GatewaySubject>(s: &S) {
    let seconds = chrono::TimeDelta::seconds;
    for (from_start, from_end) in [
        (Some(-3_000_000), 0),
        (Some(-1), 0),
        (Some(0), 0),
        (None, 3),
    ] {
        let made = subscribed(s).await;
        let item = made.item().unwrap().clone();
        let (asked, within) = match from_start {
            Some(ahead) => (item.period_start + seconds(ahead), item.period_start),
            None => (
                item.period_end + seconds(from_end),
                item.period_end - seconds(1),
            ),
        };
        let timing = |proration_date| ChangeTiming::Now { proration_date };
        let request = PreviewRequest {
            customer: Some(made.customer.clone()),
            change: Some((made.id.clone(), item.id.clone())),
            price: s.prices()[1].clone(),
            quantity: 1,
            trial_days: None,
            timing: timing(asked),
        };
        let shown = s.gateway().preview(&request).await.unwrap();
        assert_eq!(
            shown.proration_date,
            Some(within),
            "for {asked} of {item:?}"
        );
        if asked != within {
            let change = change(s, &made, timing(asked));
            let refused = s.gateway().change_price(&change, &key(s)).await;
            assert!(
                is_rejected(&refused),
                "for {asked} of {item:?}: {refused:?}"
            );
        }
        let change = change(s, &made, timing(within));
        let changed = done(s.gateway().change_price(&change, &key(s)).await);
        assert_eq!(changed.item().unwrap().price.id, change.price);
    }
}

/// A change that is declined leaves the price, and the subscription in good standing.
pub async fn a_declined_change_leaves_the_subscription_as_it_was<S: GatewaySubject>(s: &S) {
    let made = subscribed(s).await;
    attach(s, &made.customer, Card::Declined).await;
    let timing = ChangeTiming::Now {
        proration_date: made.created,
    };
    let outcome = s
        .gateway()
        .change_price(&change(s, &made, timing), &key(s))
        .await
        .unwrap();
    assert!(matches!(outcome, Outcome::Declined { .. }), "{outcome:?}");
    let read = s.gateway().subscription(&made.id).await.unwrap().unwrap();
    assert_eq!(
        (read.status, &read.items[0].price.id),
        (SubscriptionStatus::Active, &s.prices()[0])
    );
}

/// A change at the period's end is seen before it comes, charges nothing, and can be taken back.
pub async fn a_change_at_the_periods_end_is_scheduled<S: GatewaySubject>(s: &S) {
    let made = subscribed(s).await;
    let change = change(s, &made, ChangeTiming::AtPeriodEnd);
    let changed = done(s.gateway().change_price(&change, &key(s)).await);
    assert_eq!(changed.items[0].price.id, s.prices()[0]);
    let read = s.gateway().subscription(&made.id).await.unwrap().unwrap();
    let scheduled = read.scheduled.unwrap();
    assert_eq!(
        (scheduled.price, scheduled.at),
        (change.price, made.items[0].period_end)
    );
    assert_eq!(read.latest_invoice, made.latest_invoice);
    let resumed = done(s.gateway().resume(&made.id, &metadata(s), &key(s)).await);
    assert_eq!(resumed.scheduled, None);
}

/// A hosted checkout has an address until it is closed.
pub async fn a_checkout_is_opened_and_closed<S: GatewaySubject>(s: &S) {
    let customer = customer(s).await;
    let new = NewCheckout {
        customer: customer.id.clone(),
        price: s.prices()[0].clone(),
        trial_days: None,
        replaces: None,
        success_url: "https://example.com/ok".to_owned(),
        cancel_url: "https://example.com/no".to_owned(),
        metadata: metadata(s),
    };
    let key = key(s);
    let opened = s.gateway().checkout(&new, &key).await.unwrap();
    assert_eq!(
        (opened.status.as_str(), opened.url.is_some()),
        ("open", true)
    );
    assert_eq!(
        s.gateway().checkout(&new, &key).await.unwrap().id,
        opened.id
    );
    for _ in 0..2 {
        let closed = s.gateway().expire_checkout(&opened.id).await.unwrap();
        assert_eq!(closed.status, "expired");
    }
    let settings: IdempotencyKey = s.env().uuid().to_string().parse().unwrap();
    s.gateway().sync_portal(false, &settings).await.unwrap();
    let portal = s
        .gateway()
        .portal(&customer.id, "https://example.com")
        .await;
    assert!(portal.unwrap().starts_with("http"));
}

/// Every change has made an event, which is listed and reads as one that is delivered.
pub async fn events_are_listed<S: GatewaySubject>(s: &S) {
    let from = s.env().now() - chrono::TimeDelta::hours(1);
    let made = subscribed(s).await;
    let mut query = EventQuery {
        created_from: from,
        undelivered: false,
        after: None,
    };
    let mut kinds = Vec::new();
    loop {
        let page = s.gateway().events(&query).await.unwrap();
        let of = page.items.iter().map(|event| &event.envelope);
        kinds.extend(
            of.filter(|e| e.object.as_deref() == Some(made.id.as_str()))
                .map(|e| e.kind.clone()),
        );
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    assert!(
        kinds
            .iter()
            .any(|kind| kind == "customer.subscription.created"),
        "{kinds:?}"
    );
}

/// A price is made once, with its product, and found by its name.
pub async fn a_price_is_made_and_found_by_its_name<S: GatewaySubject>(s: &S) {
    let name = format!("rawdrive_test_{}", s.env().uuid().simple());
    let new = NewPrice {
        product: format!("prod_{name}").parse().unwrap(),
        product_name: "Test".to_owned(),
        lookup_key: name.clone(),
        currency: Currency::parse("eur").unwrap(),
        interval: Interval::Year,
        amount: 12_345,
        metadata: Metadata::default(),
    };
    let key = key(s);
    let made = s.gateway().create_price(&new, &key).await.unwrap();
    assert_eq!(
        s.gateway().create_price(&new, &key).await.unwrap().id,
        made.id
    );
    let found = s.gateway().price(&name).await.unwrap().unwrap();
    assert_eq!(
        (&found.id, found.amount, found.interval),
        (&made.id, Some(12_345), Some(Interval::Year))
    );
    assert_eq!((found.currency, found.product), (new.currency, new.product));
}

/// A gateway that sells nothing has nothing, and says so where something is asked for.
pub async fn sells_nothing(gateway: &impl PaymentGateway) {
    let customer: CustomerId = "cus_1".parse().unwrap();
    let key: IdempotencyKey = "key".parse().unwrap();
    assert_eq!(gateway.livemode(), None);
    assert!(gateway.customer(&customer).await.unwrap().is_none());
    assert!(
        gateway
            .subscriptions_of(&customer)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        gateway
            .customers(&CustomerQuery::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    let new = NewCustomer {
        name: "a".to_owned(),
        email: None,
        metadata: Metadata::default(),
    };
    let refused = gateway.create_customer(&new, &key).await;
    assert!(
        matches!(refused, Err(GatewayError::NotConfigured)),
        "{refused:?}"
    );
    let refused = gateway.portal(&customer, "https://example.com").await;
    assert!(
        matches!(refused, Err(GatewayError::NotConfigured)),
        "{refused:?}"
    );
}

/// Makes a test of each promise, for the subject that a function makes: an `async fn() -> S` that is named by a path
/// from the crate's root.
#[macro_export]
macro_rules! gateway_contract {
    ($make:path) => {
        $crate::gateway_contract! { $make =>
            a_customer_is_made_once_for_a_key,
            customers_are_found_by_their_metadata_in_the_list,
            a_customers_record_is_updated,
            a_first_purchase_is_previewed_for_nobody,
            the_portals_settings_are_made_once,
            what_is_not_there_is_nothing,
            a_subscription_is_made_and_paid,
            one_key_makes_one_subscription,
            a_lost_answer_is_had_under_its_key,
            a_declined_card_is_an_outcome,
            a_payment_to_confirm_is_an_outcome,
            a_trial_needs_no_card,
            a_trial_that_ended_wakes_by_a_card_that_pays,
            who_ends_a_trial_that_is_over_is_not_charged_for_waking_it,
            an_end_can_be_taken_back_until_it_has_come,
            a_change_costs_what_its_preview_says,
            a_time_outside_of_the_period_is_moved_into_it,
            a_declined_change_leaves_the_subscription_as_it_was,
            a_change_at_the_periods_end_is_scheduled,
            a_checkout_is_opened_and_closed,
            events_are_listed,
            a_price_is_made_and_found_by_its_name,
        }
    };
    ($make:path => $($name:ident,)+) => {
        mod gateway {$(
            #[tokio::test]
            async fn $name() {
                let subject = $make().await;
                $crate::contract::gateway::$name(&subject).await;
            }
        )+}
    };
}
