//! What [`PaymentGateway`] promises, put to every gateway that takes money.

#![expect(
    clippy::unwrap_used,
    reason = "each function is a test, and a failing gateway is its failure"
)]

use std::any::Any;
use std::future::Future;

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_billing::{
    AttemptOutcome, CancelWhen, ChangePrice, ChangeTiming, Currency, CustomerId, CustomerQuery,
    CustomerSnapshot, EventQuery, GatewayError, IdempotencyKey, InvoiceStatus, Metadata,
    NewCheckout, NewCustomer, NewPrice, Outcome, PaymentGateway, PaymentMethodId, PreviewRequest,
    PriceId, Subscribe, SubscriptionSnapshot, SubscriptionStatus,
};
use rawdrive_plans::Interval;
use rawdrive_tenancy_core::id::{OperationId, TypedId as _, WorkspaceId};
use secrecy::ExposeSecret as _;
use uuid::Uuid;

/// A card for each thing that a card can do.
#[derive(Debug, Clone)]
pub struct Cards {
    /// Pays.
    pub pays: PaymentMethodId,
    /// Can be attached; every charge is refused.
    pub refused: PaymentMethodId,
    /// Cannot even be attached; nothing where the gateway knows no such card.
    pub unattachable: Option<PaymentMethodId>,
    /// Wants its holder to confirm each payment.
    pub wants_payer: PaymentMethodId,
}

/// A gateway and what it takes to use it.
pub struct Till<G> {
    /// The gateway, with nothing in it.
    pub gateway: G,
    /// Cards that it knows.
    pub cards: Cards,
    /// Its time.
    pub now: DateTime<Utc>,
    /// What lives as long as the gateway is used.
    pub running: Box<dyn Any + Send + Sync>,
}

/// What a price comes to each month, in minor units.
const BASIC: u64 = 1_000;
const PRO: u64 = 2_900;

/// A till with two prices and a customer.
pub struct Shop<G> {
    till: Till<G>,
    basic: PriceId,
    pro: PriceId,
    customer: CustomerId,
}

fn key(name: &str) -> IdempotencyKey {
    format!("contract-{name}").parse().expect("a short word is a key")
}

fn metadata(operation: u128) -> Metadata {
    let operation = OperationId::from_uuid(Uuid::from_u128(operation));
    Metadata::of(WorkspaceId::from_uuid(Uuid::from_u128(7)), Some(operation))
}

fn usd() -> Currency {
    Currency::parse("usd").expect("usd is a currency")
}

fn price(name: &str, amount: u64) -> NewPrice {
    NewPrice {
        product: format!("rawdrive_{name}_v1").parse().expect("a short word is an id"),
        product_name: name.to_owned(),
        lookup_key: format!("rawdrive_{name}_v1_usd_month"),
        currency: usd(),
        interval: Interval::Month,
        amount,
        metadata: Metadata::default(),
    }
}

fn new_customer() -> NewCustomer {
    NewCustomer {
        name: "Studio Ä & Söhne".to_owned(),
        email: Some("owner@example.com".to_owned()),
        metadata: metadata(1),
    }
}

fn done<T: std::fmt::Debug>(outcome: Outcome<T>) -> T {
    match outcome {
        Outcome::Done(value) => value,
        other => panic!("expected it to be done: {other:?}"),
    }
}

fn price_of(subscription: &SubscriptionSnapshot) -> &PriceId {
    &subscription.item().expect("there is a line").price.id
}

impl<G: PaymentGateway> Shop<G> {
    /// Opens it.
    ///
    /// # Panics
    /// The gateway fails.
    pub async fn open(till: Till<G>) -> Self {
        let gateway = &till.gateway;
        let basic = gateway.create_price(&price("basic", BASIC), &key("basic")).await;
        let basic = basic.expect("a price can be made").id;
        let pro = gateway.create_price(&price("pro", PRO), &key("pro")).await;
        let pro = pro.expect("a price can be made").id;
        let customer = gateway.create_customer(&new_customer(), &key("customer")).await;
        let customer = customer.expect("a customer can be made").id;
        Self {
            basic,
            pro,
            customer,
            till,
        }
    }

    fn gateway(&self) -> &G {
        &self.till.gateway
    }

    fn wish(&self, card: Option<&PaymentMethodId>) -> Subscribe {
        Subscribe {
            customer: self.customer.clone(),
            price: self.basic.clone(),
            payment_method: card.cloned(),
            trial_days: None,
            metadata: metadata(2),
        }
    }

    async fn subscribed(&self) -> SubscriptionSnapshot {
        let wish = self.wish(Some(&self.till.cards.pays));
        let outcome = self.gateway().subscribe(&wish, &key("subscribe")).await;
        done(outcome.expect("a subscription can be made"))
    }

    fn change(&self, of: &SubscriptionSnapshot, to: &PriceId, timing: ChangeTiming) -> ChangePrice {
        ChangePrice {
            subscription: of.id.clone(),
            item: of.item().expect("there is a line").id.clone(),
            price: to.clone(),
            timing,
            metadata: metadata(3),
        }
    }

    async fn changed(
        &self,
        of: &SubscriptionSnapshot,
        to: &PriceId,
        timing: ChangeTiming,
        name: &str,
    ) -> Outcome<SubscriptionSnapshot> {
        let change = self.change(of, to, timing);
        let outcome = self.gateway().change_price(&change, &key(name)).await;
        outcome.expect("a price can be changed")
    }

    const fn at_once(&self) -> ChangeTiming {
        ChangeTiming::Now {
            proration_date: self.till.now,
        }
    }

    async fn now(&self, subscription: &SubscriptionSnapshot) -> SubscriptionSnapshot {
        let found = self.gateway().subscription(&subscription.id).await;
        found.expect("it can be fetched").expect("it is there")
    }

    async fn use_card(&self, card: &PaymentMethodId, name: &str) -> Outcome<CustomerSnapshot> {
        let gateway = self.gateway();
        let attached = gateway.attach_payment_method(&self.customer, card, &key(name)).await;
        attached.expect("it answers")
    }
}

/// A call made again under its key is the call made once.
pub async fn a_customer_made_twice_under_a_key_is_one(shop: &Shop<impl PaymentGateway>) {
    let gateway = shop.gateway();
    let again = gateway.create_customer(&new_customer(), &key("customer")).await.unwrap();
    assert_eq!(again.id, shop.customer);
    let listed = gateway.customers(&CustomerQuery::default()).await.unwrap();
    assert_eq!(listed.items.len(), 1);
    assert_eq!(listed.next, None);
    let other = gateway.create_customer(&new_customer(), &key("another")).await.unwrap();
    assert_ne!(other.id, shop.customer);
}

/// What was made is found by the list, with what was left on it.
pub async fn a_customer_is_found_by_what_was_left_on_it(shop: &Shop<impl PaymentGateway>) {
    let listed = shop.gateway().customers(&CustomerQuery::default()).await.unwrap();
    let found = &listed.items[0];
    assert_eq!(found.metadata.operation(), metadata(1).operation());
    assert_eq!(found.metadata.workspace(), metadata(1).workspace());
    assert_eq!(found.name.as_deref(), Some("Studio Ä & Söhne"));
    assert_eq!(found.email.as_deref(), Some("owner@example.com"));
    assert!(!found.deleted);
    let same = shop.gateway().customer(&shop.customer).await.unwrap().unwrap();
    assert_eq!(&same, found);
    let later = CustomerQuery {
        created_from: Some(shop.till.now + TimeDelta::days(2)),
        after: None,
    };
    assert!(shop.gateway().customers(&later).await.unwrap().items.is_empty());
}

/// Absence is an answer.
pub async fn what_is_not_there_is_nothing(shop: &Shop<impl PaymentGateway>) {
    let gateway = shop.gateway();
    assert_eq!(gateway.customer(&"cus_none".parse().unwrap()).await.unwrap(), None);
    assert_eq!(gateway.subscription(&"sub_none".parse().unwrap()).await.unwrap(), None);
    assert_eq!(gateway.invoice(&"in_none".parse().unwrap()).await.unwrap(), None);
    assert_eq!(gateway.checkout_session(&"cs_none".parse().unwrap()).await.unwrap(), None);
    assert_eq!(gateway.charge(&"ch_none".parse().unwrap()).await.unwrap(), None);
    assert_eq!(gateway.dispute(&"dp_none".parse().unwrap()).await.unwrap(), None);
    assert_eq!(gateway.price("rawdrive_none").await.unwrap(), None);
    assert!(gateway.waits_for(&"in_none".parse().unwrap()).await.unwrap().is_none());
}

/// A price is found under its name, once.
pub async fn a_price_is_found_by_its_lookup_key(shop: &Shop<impl PaymentGateway>) {
    let found = shop.gateway().price("rawdrive_pro_v1_usd_month").await.unwrap().unwrap();
    assert_eq!(found.id, shop.pro);
    assert_eq!(found.amount, Some(2_900));
    assert_eq!(found.interval, Some(Interval::Month));
    assert_eq!(found.currency, usd());
    let again = shop.gateway().create_price(&price("pro", PRO), &key("pro")).await.unwrap();
    assert_eq!(again.id, shop.pro);
}

/// A good card is charged, and everything says so.
pub async fn subscribing_with_a_good_card_is_paid(shop: &Shop<impl PaymentGateway>) {
    let subscription = shop.subscribed().await;
    assert_eq!(subscription.status, SubscriptionStatus::Active);
    assert_eq!(subscription.customer, shop.customer);
    assert_eq!(price_of(&subscription), &shop.basic);
    assert_eq!(subscription.metadata.operation(), metadata(2).operation());
    let item = subscription.item().unwrap();
    assert!(item.period_end >= item.period_start + TimeDelta::days(28));
    assert_eq!(shop.now(&subscription).await, subscription);
    assert_eq!(shop.gateway().subscriptions_of(&shop.customer).await.unwrap(), [subscription.clone()]);

    let invoice = subscription.latest_invoice.expect("it was invoiced");
    let invoice = shop.gateway().invoice(&invoice).await.unwrap().unwrap();
    assert_eq!(invoice.status, InvoiceStatus::Paid);
    assert_eq!((invoice.total, invoice.amount_paid), (1_000, 1_000));
    assert_eq!(invoice.subscription, Some(subscription.id));
    let outcomes: Vec<_> = invoice.attempts.iter().map(|attempt| &attempt.outcome).collect();
    assert_eq!(outcomes, [&AttemptOutcome::Succeeded]);
    assert_eq!(invoice.first_failed_at(), None);
    let listed = shop.gateway().invoices_of(&shop.customer, None).await.unwrap();
    assert_eq!(listed.items.len(), 1);
    assert!(shop.gateway().waits_for(&invoice.id).await.unwrap().is_none());
    let customer = shop.gateway().customer(&shop.customer).await.unwrap().unwrap();
    assert!(customer.default_payment_method.is_some());
}

/// A lost answer never makes a second subscription.
pub async fn subscribing_twice_under_a_key_is_subscribing_once(shop: &Shop<impl PaymentGateway>) {
    let first = shop.subscribed().await;
    let second = shop.subscribed().await;
    assert_eq!(first.id, second.id);
    assert_eq!(shop.gateway().subscriptions_of(&shop.customer).await.unwrap().len(), 1);
    let invoices = shop.gateway().invoices_of(&shop.customer, None).await.unwrap();
    assert_eq!(invoices.items.len(), 1);
}

/// A refused card grants nothing, says why, and what is left can be ended.
pub async fn a_refused_card_leaves_nothing_that_lives(shop: &Shop<impl PaymentGateway>) {
    let wish = shop.wish(Some(&shop.till.cards.refused));
    let outcome = shop.gateway().subscribe(&wish, &key("refused")).await.unwrap();
    let Outcome::Declined { decline, left } = outcome else {
        panic!("expected a decline: {outcome:?}");
    };
    assert!(!decline.decline_code.is_empty());
    if let Some(left) = left {
        assert_eq!(left.status, SubscriptionStatus::Incomplete);
        let invoice = left.latest_invoice.clone().unwrap();
        let invoice = shop.gateway().invoice(&invoice).await.unwrap().unwrap();
        assert!(invoice.first_failed_at().is_some());
        let waits = shop.gateway().waits_for(&invoice.id).await.unwrap();
        assert!(matches!(waits, Some(Outcome::Declined { .. })), "{waits:?}");
        let ended = shop
            .gateway()
            .cancel(&left.id, CancelWhen::Now, &metadata(4), &key("end"))
            .await
            .unwrap();
        assert!(ended.status.is_final());
    }
    let again = shop.gateway().subscribe(&wish, &key("refused")).await.unwrap();
    assert!(matches!(again, Outcome::Declined { .. }), "{again:?}");
    let all = shop.gateway().subscriptions_of(&shop.customer).await.unwrap();
    assert!(all.iter().all(|subscription| subscription.status.is_final()));
    assert!(all.len() <= 1);
}

/// A card that cannot be attached is a decline as well.
pub async fn a_card_that_cannot_be_attached_is_declined(shop: &Shop<impl PaymentGateway>) {
    let Some(card) = &shop.till.cards.unattachable else {
        return;
    };
    let outcome = shop.use_card(card, "attach").await;
    assert!(matches!(outcome, Outcome::Declined { left: None, .. }), "{outcome:?}");
    let outcome = shop.gateway().subscribe(&shop.wish(Some(card)), &key("bad")).await.unwrap();
    assert!(matches!(outcome, Outcome::Declined { left: None, .. }), "{outcome:?}");
    assert!(shop.gateway().subscriptions_of(&shop.customer).await.unwrap().is_empty());
}

/// A card that wants its holder asks for the payer, who is told what to confirm.
pub async fn a_card_that_wants_its_holder_waits_for_the_payer(shop: &Shop<impl PaymentGateway>) {
    let wish = shop.wish(Some(&shop.till.cards.wants_payer));
    let outcome = shop.gateway().subscribe(&wish, &key("holder")).await.unwrap();
    let Outcome::ActionRequired {
        client_secret,
        left,
    } = outcome
    else {
        panic!("expected a confirmation to be asked for: {outcome:?}");
    };
    let left = left.expect("a subscription waits");
    assert_eq!(left.status, SubscriptionStatus::Incomplete);
    let invoice = left.latest_invoice.expect("an invoice waits");
    match shop.gateway().waits_for(&invoice).await.unwrap() {
        Some(Outcome::ActionRequired { client_secret: told, .. }) => {
            assert_eq!(told.0.expose_secret(), client_secret.0.expose_secret());
        }
        other => panic!("expected the same confirmation: {other:?}"),
    }
    let shown = format!("{client_secret:?}");
    assert!(!shown.contains(client_secret.0.expose_secret()), "{shown}");
}

/// A trial needs no card and charges nothing.
pub async fn a_trial_needs_no_card(shop: &Shop<impl PaymentGateway>) {
    let wish = Subscribe {
        trial_days: Some(14),
        ..shop.wish(None)
    };
    let trial = done(shop.gateway().subscribe(&wish, &key("trial")).await.unwrap());
    assert_eq!(trial.status, SubscriptionStatus::Trialing);
    let ends = trial.trial_end.expect("a trial ends");
    assert!(ends > shop.till.now + TimeDelta::days(13));
    let customer = shop.gateway().customer(&shop.customer).await.unwrap().unwrap();
    assert_eq!(customer.default_payment_method, None);
}

/// A preview says what a change then charges.
pub async fn a_change_charges_what_its_preview_said(shop: &Shop<impl PaymentGateway>) {
    let subscription = shop.subscribed().await;
    let item = subscription.item().unwrap();
    let request = PreviewRequest {
        customer: shop.customer.clone(),
        change: Some((subscription.id.clone(), item.id.clone())),
        price: shop.pro.clone(),
        timing: shop.at_once(),
    };
    let preview = shop.gateway().preview(&request).await.unwrap();
    assert!(preview.now.minor > 0, "{preview:?}");
    assert_eq!(preview.next.minor, 2_900);
    assert_eq!(preview.next_at, item.period_end);
    assert_eq!(shop.now(&subscription).await, subscription, "a preview changes nothing");

    let outcome = shop.changed(&subscription, &shop.pro, shop.at_once(), "up").await;
    let changed = done(outcome);
    assert_eq!(price_of(&changed), &shop.pro);
    assert_eq!(changed.metadata.operation(), metadata(3).operation());
    assert_eq!(shop.now(&subscription).await, changed);
    let invoice = changed.latest_invoice.clone().expect("the difference was invoiced");
    let invoice = shop.gateway().invoice(&invoice).await.unwrap().unwrap();
    assert_eq!(invoice.total_money(), preview.now);
    assert_eq!(invoice.status, InvoiceStatus::Paid);

    let again = done(shop.changed(&subscription, &shop.pro, shop.at_once(), "up").await);
    assert_eq!(price_of(&again), &shop.pro);
    let invoices = shop.gateway().invoices_of(&shop.customer, None).await.unwrap();
    assert_eq!(invoices.items.len(), 2);
}

/// What a new subscription would cost is previewed too.
pub async fn a_new_subscription_is_previewed(shop: &Shop<impl PaymentGateway>) {
    let request = PreviewRequest {
        customer: shop.customer.clone(),
        change: None,
        price: shop.pro.clone(),
        timing: shop.at_once(),
    };
    let preview = shop.gateway().preview(&request).await.unwrap();
    assert_eq!((preview.now.minor, preview.next.minor), (2_900, 2_900));
    assert!(preview.next_at > shop.till.now + TimeDelta::days(27));
    assert!(shop.gateway().subscriptions_of(&shop.customer).await.unwrap().is_empty());
}

/// A change that its card refuses leaves the subscription as it was.
pub async fn a_refused_change_leaves_the_price(shop: &Shop<impl PaymentGateway>) {
    let before = shop.subscribed().await;
    done(shop.use_card(&shop.till.cards.refused, "worse").await);
    for _ in 0..2 {
        let outcome = shop.changed(&before, &shop.pro, shop.at_once(), "up").await;
        assert!(matches!(outcome, Outcome::Declined { .. }), "{outcome:?}");
        let after = shop.now(&before).await;
        assert_eq!(after.status, SubscriptionStatus::Active);
        assert_eq!(after.items, before.items);
    }
    done(shop.use_card(&shop.till.cards.pays, "better").await);
    let outcome = shop.changed(&before, &shop.pro, shop.at_once(), "again").await;
    assert_eq!(price_of(&done(outcome)), &shop.pro);
}

/// A change that waits for the payer leaves the price until then, and gives way to another.
pub async fn a_change_that_waits_for_the_payer_leaves_the_price(
    shop: &Shop<impl PaymentGateway>,
) {
    let before = shop.subscribed().await;
    done(shop.use_card(&shop.till.cards.wants_payer, "holder").await);
    for _ in 0..2 {
        let outcome = shop.changed(&before, &shop.pro, shop.at_once(), "up").await;
        assert!(matches!(outcome, Outcome::ActionRequired { .. }), "{outcome:?}");
        let after = shop.now(&before).await;
        assert_eq!(after.status, SubscriptionStatus::Active);
        assert_eq!(price_of(&after), &shop.basic);
    }
    done(shop.use_card(&shop.till.cards.pays, "better").await);
    let another = ChangePrice {
        metadata: metadata(5),
        ..shop.change(&before, &shop.pro, shop.at_once())
    };
    let outcome = shop.gateway().change_price(&another, &key("another")).await.unwrap();
    assert_eq!(price_of(&done(outcome)), &shop.pro);
}

/// A change at the period's end is told at once, happens later, and can be taken back.
pub async fn a_change_at_the_periods_end_waits_for_it(shop: &Shop<impl PaymentGateway>) {
    let before = shop.subscribed().await;
    let later = ChangeTiming::AtPeriodEnd;
    let changed = done(shop.changed(&before, &shop.pro, later, "later").await);
    let scheduled = changed.scheduled.clone().expect("a change is to come");
    assert_eq!(scheduled.price, shop.pro);
    assert_eq!(Some(scheduled.at), before.period_end());
    assert_eq!(price_of(&changed), &shop.basic);
    assert_eq!(changed.metadata.operation(), metadata(3).operation());
    assert_eq!(shop.now(&before).await, changed);
    let again = done(shop.changed(&before, &shop.pro, later, "later").await);
    assert_eq!(again.scheduled, changed.scheduled);

    let resumed = shop.gateway().resume(&before.id, &metadata(4), &key("resume")).await;
    let resumed = done(resumed.unwrap());
    assert_eq!(resumed.scheduled, None);
    assert_eq!(resumed.metadata.operation(), metadata(4).operation());
    let invoices = shop.gateway().invoices_of(&shop.customer, None).await.unwrap();
    assert_eq!(invoices.items.len(), 1, "nothing was charged");
}

/// A change at once drops what was to come.
pub async fn a_change_drops_what_was_to_come(shop: &Shop<impl PaymentGateway>) {
    let before = shop.subscribed().await;
    let later = ChangeTiming::AtPeriodEnd;
    done(shop.changed(&before, &shop.pro, later, "later").await);
    let changed = done(shop.changed(&before, &shop.pro, shop.at_once(), "now").await);
    assert_eq!((price_of(&changed), changed.scheduled.clone()), (&shop.pro, None));
    let back = done(shop.changed(&before, &shop.basic, later, "back").await);
    assert_eq!(back.scheduled.map(|s| s.price), Some(shop.basic.clone()));

    let when = CancelWhen::AtPeriodEnd;
    let gateway = shop.gateway();
    let ends = gateway.cancel(&before.id, when, &metadata(6), &key("end")).await.unwrap();
    assert!(ends.cancel_at_period_end);
    assert_eq!(ends.scheduled, None);
    let changed = done(shop.changed(&before, &shop.basic, shop.at_once(), "stay").await);
    assert!(!changed.cancel_at_period_end, "a change takes an end back");
}

/// A refused change keeps what was to come.
pub async fn a_refused_change_keeps_what_was_to_come(shop: &Shop<impl PaymentGateway>) {
    let before = shop.subscribed().await;
    let pro = done(shop.changed(&before, &shop.pro, shop.at_once(), "up").await);
    let later = ChangeTiming::AtPeriodEnd;
    let scheduled = done(shop.changed(&pro, &shop.basic, later, "later").await).scheduled;
    let dear = price("dear", 99_000);
    let dear = shop.gateway().create_price(&dear, &key("dear")).await.unwrap().id;
    done(shop.use_card(&shop.till.cards.refused, "worse").await);
    for _ in 0..2 {
        let outcome = shop.changed(&pro, &dear, shop.at_once(), "dearer").await;
        assert!(matches!(outcome, Outcome::Declined { .. }), "{outcome:?}");
        let after = shop.now(&pro).await;
        assert_eq!(price_of(&after), &shop.pro);
        assert_eq!(after.scheduled, scheduled);
    }
}

/// An end at the period's end is told at once and can be taken back; an end at once is final.
pub async fn an_end_is_taken_back_until_it_has_come(shop: &Shop<impl PaymentGateway>) {
    let gateway = shop.gateway();
    let before = shop.subscribed().await;
    let ends = gateway
        .cancel(&before.id, CancelWhen::AtPeriodEnd, &metadata(3), &key("end"))
        .await
        .unwrap();
    assert!(ends.cancel_at_period_end);
    assert_eq!(ends.status, SubscriptionStatus::Active);
    assert_eq!(ends.metadata.operation(), metadata(3).operation());
    assert_eq!(ends.metadata.workspace(), metadata(3).workspace());
    let resumed = gateway.resume(&before.id, &metadata(4), &key("resume")).await.unwrap();
    assert!(!done(resumed).cancel_at_period_end);

    for name in ["now", "now", "twice"] {
        let ended = gateway
            .cancel(&before.id, CancelWhen::Now, &metadata(5), &key(name))
            .await
            .unwrap();
        assert_eq!(ended.status, SubscriptionStatus::Canceled);
        assert!(ended.ended_at.is_some());
    }
    let late = gateway.resume(&before.id, &metadata(6), &key("late")).await;
    assert!(matches!(late, Err(GatewayError::Rejected { .. })), "{late:?}");
    let all = gateway.subscriptions_of(&shop.customer).await.unwrap();
    assert_eq!(all.len(), 1, "one that has ended is told too");
}

/// A checkout is opened once, carries our marks, and can be closed.
pub async fn a_checkout_is_opened_and_closed(shop: &Shop<impl PaymentGateway>) {
    let gateway = shop.gateway();
    let new = NewCheckout {
        customer: shop.customer.clone(),
        price: shop.basic.clone(),
        trial_days: None,
        success_url: "https://example.com/yes?a=1&b=2".to_owned(),
        cancel_url: "https://example.com/no".to_owned(),
        metadata: metadata(2),
    };
    let opened = gateway.checkout(&new, &key("checkout")).await.unwrap();
    assert_eq!(opened.status, "open");
    assert!(opened.url.is_some());
    assert_eq!(opened.customer.as_ref(), Some(&shop.customer));
    assert_eq!(opened.metadata.operation(), metadata(2).operation());
    let again = gateway.checkout(&new, &key("checkout")).await.unwrap();
    assert_eq!(again.id, opened.id);
    for _ in 0..2 {
        let closed = gateway.expire_checkout(&opened.id).await.unwrap();
        assert_eq!((closed.id, closed.status.as_str()), (opened.id.clone(), "expired"));
    }
    let found = gateway.checkout_session(&opened.id).await.unwrap().unwrap();
    assert_eq!((found.status.as_str(), found.url), ("expired", None));
    assert!(gateway.subscriptions_of(&shop.customer).await.unwrap().is_empty());
}

/// A page where the customer manages cards has an address.
pub async fn the_portal_has_an_address(shop: &Shop<impl PaymentGateway>) {
    let url = shop.gateway().portal(&shop.customer, "https://example.com/back").await.unwrap();
    assert!(url.starts_with("http"), "{url}");
}

/// Events come newest first, from a time on, with their bytes.
pub async fn events_are_listed_newest_first(shop: &Shop<impl PaymentGateway>) {
    let subscription = shop.subscribed().await;
    let from = |created_from| EventQuery {
        created_from,
        undelivered: false,
        after: None,
    };
    let start = shop.till.now - TimeDelta::hours(1);
    let listed = shop.gateway().events(&from(start)).await.unwrap();
    let place = |kind: &str| {
        let mut kinds = listed.items.iter().map(|event| event.envelope.kind.as_str());
        kinds.position(|k| k == kind).unwrap_or_else(|| panic!("no {kind}"))
    };
    assert!(place("customer.subscription.created") < place("customer.created"));
    let made = &listed.items[place("customer.subscription.created")];
    assert_eq!(made.envelope.object.as_deref(), Some(subscription.id.as_str()));
    assert_eq!(made.envelope.customer.as_ref(), Some(&shop.customer));
    assert_eq!(made.envelope.livemode, shop.gateway().livemode());
    let end = shop.till.now + TimeDelta::days(2);
    assert!(shop.gateway().events(&from(end)).await.unwrap().items.is_empty());
}

/// Opens a shop; what [`gateway_contract!`](crate::gateway_contract) calls.
pub async fn shop<G: PaymentGateway>(till: impl Future<Output = Till<G>>) -> Shop<G> {
    Shop::open(till.await).await
}

/// Puts a gateway to the contract: each promise becomes a test. `$make` is an async function without arguments that
/// gives a fresh [`Till`].
#[macro_export]
macro_rules! gateway_contract {
    ($make:path) => {
        $crate::gateway_contract! { $make =>
            a_customer_made_twice_under_a_key_is_one,
            a_customer_is_found_by_what_was_left_on_it,
            what_is_not_there_is_nothing,
            a_price_is_found_by_its_lookup_key,
            subscribing_with_a_good_card_is_paid,
            subscribing_twice_under_a_key_is_subscribing_once,
            a_refused_card_leaves_nothing_that_lives,
            a_card_that_cannot_be_attached_is_declined,
            a_card_that_wants_its_holder_waits_for_the_payer,
            a_trial_needs_no_card,
            a_change_charges_what_its_preview_said,
            a_new_subscription_is_previewed,
            a_refused_change_leaves_the_price,
            a_change_that_waits_for_the_payer_leaves_the_price,
            a_change_at_the_periods_end_waits_for_it,
            a_change_drops_what_was_to_come,
            a_refused_change_keeps_what_was_to_come,
            an_end_is_taken_back_until_it_has_come,
            a_checkout_is_opened_and_closed,
            the_portal_has_an_address,
            events_are_listed_newest_first,
        }
    };
    ($make:path => $($name:ident,)+) => {
        $(
            #[tokio::test]
            async fn $name() {
                let shop = $crate::contract::gateway::shop($make()).await;
                $crate::contract::gateway::$name(&shop).await;
            }
        )+
    };
}
