//! What the adapter promises beyond the contract of gateways: that a call made again under its key ends as it did,
//! what a change leaves of what was to come, and what the payer is told.

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_billing::{
    AttemptOutcome, CancelWhen, ChangePrice, ChangeTiming, Currency, CustomerId, CustomerQuery,
    CustomerSnapshot, EventQuery, GatewayError, IdempotencyKey, InvoiceStatus, Metadata,
    NewCustomer, NewPrice, Outcome, PaymentGateway as _, PreviewRequest, PriceId, StripeGateway,
    Subscribe, SubscriptionSnapshot, SubscriptionStatus,
};
use rawdrive_plans::Interval;
use rawdrive_stripe_double::StripeDouble;
use rawdrive_tenancy_core::id::{OperationId, TypedId as _, WorkspaceId};
use secrecy::ExposeSecret as _;
use uuid::Uuid;

use crate::{gateway, start};

const PAYS: &str = "pm_card_visa";
/// Can be attached; every charge is refused.
const REFUSED: &str = "pm_card_chargeCustomerFail";
/// Cannot even be attached.
const UNATTACHABLE: &str = "pm_card_chargeDeclined";
/// Wants its holder to confirm each payment.
const WANTS_PAYER: &str = "pm_card_authenticationRequired";

/// What a price comes to each month, in minor units.
const BASIC: u64 = 1_000;
const PRO: u64 = 2_900;

/// A gateway with two prices and a customer.
struct Shop {
    gateway: StripeGateway,
    now: DateTime<Utc>,
    basic: PriceId,
    pro: PriceId,
    customer: CustomerId,
    /// Runs as long as it is used.
    _double: StripeDouble,
}

fn key(name: &str) -> IdempotencyKey {
    format!("contract-{name}")
        .parse()
        .expect("a short word is a key")
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
        product: format!("rawdrive_{name}_v1")
            .parse()
            .expect("a short word is an id"),
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

impl Shop {
    async fn open() -> Self {
        let (double, settings) = start();
        let gateway = gateway(&settings);
        let basic = gateway
            .create_price(&price("basic", BASIC), &key("basic"))
            .await;
        let pro = gateway.create_price(&price("pro", PRO), &key("pro")).await;
        let customer = gateway
            .create_customer(&new_customer(), &key("customer"))
            .await;
        Self {
            gateway,
            now: double.now(),
            basic: basic.unwrap().id,
            pro: pro.unwrap().id,
            customer: customer.unwrap().id,
            _double: double,
        }
    }

    const fn gateway(&self) -> &StripeGateway {
        &self.gateway
    }

    fn wish(&self, card: Option<&str>) -> Subscribe {
        Subscribe {
            customer: self.customer.clone(),
            price: self.basic.clone(),
            payment_method: card.map(|card| card.parse().unwrap()),
            trial_days: None,
            replaces: None,
            metadata: metadata(2),
        }
    }

    async fn subscribed(&self) -> SubscriptionSnapshot {
        let wish = self.wish(Some(PAYS));
        let outcome = self.gateway().subscribe(&wish, &key("subscribe")).await;
        done(outcome.expect("a subscription can be made"))
    }

    fn change(&self, of: &SubscriptionSnapshot, to: &PriceId, timing: ChangeTiming) -> ChangePrice {
        ChangePrice {
            subscription: of.id.clone(),
            item: of.item().expect("there is a line").id.clone(),
            price: to.clone(),
            quantity: Some(1),
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
            proration_date: self.now,
        }
    }

    async fn now(&self, subscription: &SubscriptionSnapshot) -> SubscriptionSnapshot {
        let found = self.gateway().subscription(&subscription.id).await;
        found.expect("it can be fetched").expect("it is there")
    }

    async fn use_card(&self, card: &str, name: &str) -> Outcome<CustomerSnapshot> {
        let (gateway, card) = (self.gateway(), card.parse().unwrap());
        let attached = gateway
            .attach_payment_method(&self.customer, &card, &key(name))
            .await;
        attached.expect("it answers")
    }
}

#[tokio::test]
async fn a_customer_is_found_by_what_was_left_on_it() {
    let shop = &Shop::open().await;
    let listed = shop
        .gateway()
        .customers(&CustomerQuery::default())
        .await
        .unwrap();
    let found = &listed.items[0];
    assert_eq!(found.metadata.operation(), metadata(1).operation());
    assert_eq!(found.metadata.workspace(), metadata(1).workspace());
    assert_eq!(found.name.as_deref(), Some("Studio Ä & Söhne"));
    assert_eq!(found.email.as_deref(), Some("owner@example.com"));
    assert!(!found.deleted);
    let same = shop
        .gateway()
        .customer(&shop.customer)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&same, found);
    let later = CustomerQuery {
        created_from: Some(shop.now + TimeDelta::days(2)),
        after: None,
    };
    assert!(
        shop.gateway()
            .customers(&later)
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn what_is_not_there_is_nothing() {
    let shop = &Shop::open().await;
    let gateway = shop.gateway();
    assert_eq!(
        gateway
            .customer(&"cus_none".parse().unwrap())
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        gateway
            .subscription(&"sub_none".parse().unwrap())
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        gateway.invoice(&"in_none".parse().unwrap()).await.unwrap(),
        None
    );
    assert_eq!(
        gateway
            .checkout_session(&"cs_none".parse().unwrap())
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        gateway.charge(&"ch_none".parse().unwrap()).await.unwrap(),
        None
    );
    assert_eq!(
        gateway.dispute(&"dp_none".parse().unwrap()).await.unwrap(),
        None
    );
    assert_eq!(gateway.price("rawdrive_none").await.unwrap(), None);
    assert!(
        gateway
            .waits_for(&"in_none".parse().unwrap())
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn subscribing_with_a_good_card_is_paid() {
    let shop = &Shop::open().await;
    let subscription = shop.subscribed().await;
    assert_eq!(subscription.status, SubscriptionStatus::Active);
    assert_eq!(subscription.customer, shop.customer);
    assert_eq!(price_of(&subscription), &shop.basic);
    assert_eq!(subscription.metadata.operation(), metadata(2).operation());
    let item = subscription.item().unwrap();
    assert!(item.period_end >= item.period_start + TimeDelta::days(28));
    assert_eq!(shop.now(&subscription).await, subscription);
    assert_eq!(
        shop.gateway()
            .subscriptions_of(&shop.customer)
            .await
            .unwrap(),
        std::slice::from_ref(&subscription)
    );

    let invoice = subscription.latest_invoice.expect("it was invoiced");
    let invoice = shop.gateway().invoice(&invoice).await.unwrap().unwrap();
    assert_eq!(invoice.status, InvoiceStatus::Paid);
    assert_eq!((invoice.total, invoice.amount_paid), (1_000, 1_000));
    assert_eq!(invoice.subscription, Some(subscription.id));
    let outcomes: Vec<_> = invoice
        .attempts
        .iter()
        .map(|attempt| &attempt.outcome)
        .collect();
    assert_eq!(outcomes, [&AttemptOutcome::Succeeded]);
    assert_eq!(invoice.first_failed_at(), None);
    let listed = shop
        .gateway()
        .invoices_of(&shop.customer, None)
        .await
        .unwrap();
    assert_eq!(listed.items.len(), 1);
    assert!(
        shop.gateway()
            .waits_for(&invoice.id)
            .await
            .unwrap()
            .is_none()
    );
    let customer = shop
        .gateway()
        .customer(&shop.customer)
        .await
        .unwrap()
        .unwrap();
    assert!(customer.default_payment_method.is_some());
}

#[tokio::test]
async fn a_refused_card_leaves_nothing_that_lives() {
    let shop = &Shop::open().await;
    let wish = shop.wish(Some(REFUSED));
    let outcome = shop
        .gateway()
        .subscribe(&wish, &key("refused"))
        .await
        .unwrap();
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
    let again = shop
        .gateway()
        .subscribe(&wish, &key("refused"))
        .await
        .unwrap();
    assert!(matches!(again, Outcome::Declined { .. }), "{again:?}");
    let all = shop
        .gateway()
        .subscriptions_of(&shop.customer)
        .await
        .unwrap();
    assert!(
        all.iter()
            .all(|subscription| subscription.status.is_final())
    );
    assert!(all.len() <= 1);
}

#[tokio::test]
async fn a_card_that_cannot_be_attached_is_declined() {
    let shop = &Shop::open().await;
    let card = UNATTACHABLE;
    let outcome = shop.use_card(card, "attach").await;
    assert!(
        matches!(outcome, Outcome::Declined { left: None, .. }),
        "{outcome:?}"
    );
    let outcome = shop
        .gateway()
        .subscribe(&shop.wish(Some(card)), &key("bad"))
        .await
        .unwrap();
    assert!(
        matches!(outcome, Outcome::Declined { left: None, .. }),
        "{outcome:?}"
    );
    assert!(
        shop.gateway()
            .subscriptions_of(&shop.customer)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_card_that_wants_its_holder_waits_for_the_payer() {
    let shop = &Shop::open().await;
    let wish = shop.wish(Some(WANTS_PAYER));
    let outcome = shop
        .gateway()
        .subscribe(&wish, &key("holder"))
        .await
        .unwrap();
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
        Some(Outcome::ActionRequired {
            client_secret: told,
            ..
        }) => {
            assert_eq!(told.0.expose_secret(), client_secret.0.expose_secret());
        }
        other => panic!("expected the same confirmation: {other:?}"),
    }
    let shown = format!("{client_secret:?}");
    assert!(!shown.contains(client_secret.0.expose_secret()), "{shown}");
}

#[tokio::test]
async fn a_change_charges_what_its_preview_said() {
    let shop = &Shop::open().await;
    let subscription = shop.subscribed().await;
    let item = subscription.item().unwrap();
    let request = PreviewRequest {
        customer: Some(shop.customer.clone()),
        change: Some((subscription.id.clone(), item.id.clone())),
        price: shop.pro.clone(),
        quantity: item.quantity,
        trial_days: None,
        timing: shop.at_once(),
    };
    let preview = shop.gateway().preview(&request).await.unwrap();
    assert!(preview.now.minor > 0, "{preview:?}");
    assert_eq!(preview.next.minor, 2_900);
    assert_eq!(preview.next_at, item.period_end);
    assert_eq!(
        shop.now(&subscription).await,
        subscription,
        "a preview changes nothing"
    );

    let outcome = shop
        .changed(&subscription, &shop.pro, shop.at_once(), "up")
        .await;
    let changed = done(outcome);
    assert_eq!(price_of(&changed), &shop.pro);
    assert_eq!(changed.metadata.operation(), metadata(3).operation());
    assert_eq!(shop.now(&subscription).await, changed);
    let invoice = changed
        .latest_invoice
        .clone()
        .expect("the difference was invoiced");
    let invoice = shop.gateway().invoice(&invoice).await.unwrap().unwrap();
    assert_eq!(invoice.total_money(), preview.now);
    assert_eq!(invoice.status, InvoiceStatus::Paid);

    let again = done(
        shop.changed(&subscription, &shop.pro, shop.at_once(), "up")
            .await,
    );
    assert_eq!(price_of(&again), &shop.pro);
    let invoices = shop
        .gateway()
        .invoices_of(&shop.customer, None)
        .await
        .unwrap();
    assert_eq!(invoices.items.len(), 2);
}

#[tokio::test]
async fn a_new_subscription_is_previewed() {
    let shop = &Shop::open().await;
    let request = PreviewRequest {
        customer: Some(shop.customer.clone()),
        change: None,
        price: shop.pro.clone(),
        quantity: 1,
        trial_days: None,
        timing: shop.at_once(),
    };
    let preview = shop.gateway().preview(&request).await.unwrap();
    assert_eq!((preview.now.minor, preview.next.minor), (2_900, 2_900));
    assert!(preview.next_at > shop.now + TimeDelta::days(27));
    assert!(
        shop.gateway()
            .subscriptions_of(&shop.customer)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_refused_change_leaves_the_price() {
    let shop = &Shop::open().await;
    let before = shop.subscribed().await;
    done(shop.use_card(REFUSED, "worse").await);
    for _ in 0..2 {
        let outcome = shop.changed(&before, &shop.pro, shop.at_once(), "up").await;
        assert!(matches!(outcome, Outcome::Declined { .. }), "{outcome:?}");
        let after = shop.now(&before).await;
        assert_eq!(after.status, SubscriptionStatus::Active);
        assert_eq!(after.items, before.items);
    }
    done(shop.use_card(PAYS, "better").await);
    let outcome = shop
        .changed(&before, &shop.pro, shop.at_once(), "again")
        .await;
    assert_eq!(price_of(&done(outcome)), &shop.pro);
}

#[tokio::test]
async fn a_change_that_waits_for_the_payer_leaves_the_price() {
    let shop = &Shop::open().await;
    let before = shop.subscribed().await;
    done(shop.use_card(WANTS_PAYER, "holder").await);
    for _ in 0..2 {
        let outcome = shop.changed(&before, &shop.pro, shop.at_once(), "up").await;
        assert!(
            matches!(outcome, Outcome::ActionRequired { .. }),
            "{outcome:?}"
        );
        let after = shop.now(&before).await;
        assert_eq!(after.status, SubscriptionStatus::Active);
        assert_eq!(price_of(&after), &shop.basic);
    }
    done(shop.use_card(PAYS, "better").await);
    let another = ChangePrice {
        metadata: metadata(5),
        ..shop.change(&before, &shop.pro, shop.at_once())
    };
    let outcome = shop
        .gateway()
        .change_price(&another, &key("another"))
        .await
        .unwrap();
    assert_eq!(price_of(&done(outcome)), &shop.pro);
}

#[tokio::test]
async fn a_change_at_the_periods_end_waits_for_it() {
    let shop = &Shop::open().await;
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

    let resumed = shop
        .gateway()
        .resume(&before.id, &metadata(4), &key("resume"))
        .await;
    let resumed = done(resumed.unwrap());
    assert_eq!(resumed.scheduled, None);
    assert_eq!(resumed.metadata.operation(), metadata(4).operation());
    let invoices = shop
        .gateway()
        .invoices_of(&shop.customer, None)
        .await
        .unwrap();
    assert_eq!(invoices.items.len(), 1, "nothing was charged");
}

#[tokio::test]
async fn a_change_drops_what_was_to_come() {
    let shop = &Shop::open().await;
    let before = shop.subscribed().await;
    let later = ChangeTiming::AtPeriodEnd;
    done(shop.changed(&before, &shop.pro, later, "later").await);
    let changed = done(
        shop.changed(&before, &shop.pro, shop.at_once(), "now")
            .await,
    );
    assert_eq!(
        (price_of(&changed), changed.scheduled.clone()),
        (&shop.pro, None)
    );
    let back = done(shop.changed(&before, &shop.basic, later, "back").await);
    assert_eq!(back.scheduled.map(|s| s.price), Some(shop.basic.clone()));

    let when = CancelWhen::AtPeriodEnd;
    let gateway = shop.gateway();
    let ends = gateway
        .cancel(&before.id, when, &metadata(6), &key("end"))
        .await
        .unwrap();
    assert!(ends.cancel_at_period_end);
    assert_eq!(ends.scheduled, None);
    let changed = done(
        shop.changed(&before, &shop.basic, shop.at_once(), "stay")
            .await,
    );
    assert!(!changed.cancel_at_period_end, "a change takes an end back");
}

#[tokio::test]
async fn a_refused_change_keeps_what_was_to_come() {
    let shop = &Shop::open().await;
    let before = shop.subscribed().await;
    let pro = done(shop.changed(&before, &shop.pro, shop.at_once(), "up").await);
    let later = ChangeTiming::AtPeriodEnd;
    let scheduled = done(shop.changed(&pro, &shop.basic, later, "later").await).scheduled;
    let dear = price("dear", 99_000);
    let dear = shop
        .gateway()
        .create_price(&dear, &key("dear"))
        .await
        .unwrap()
        .id;
    done(shop.use_card(REFUSED, "worse").await);
    for _ in 0..2 {
        let outcome = shop.changed(&pro, &dear, shop.at_once(), "dearer").await;
        assert!(matches!(outcome, Outcome::Declined { .. }), "{outcome:?}");
        let after = shop.now(&pro).await;
        assert_eq!(price_of(&after), &shop.pro);
        assert_eq!(after.scheduled, scheduled);
    }
}

#[tokio::test]
async fn an_end_is_taken_back_until_it_has_come() {
    let shop = &Shop::open().await;
    let gateway = shop.gateway();
    let before = shop.subscribed().await;
    let ends = gateway
        .cancel(
            &before.id,
            CancelWhen::AtPeriodEnd,
            &metadata(3),
            &key("end"),
        )
        .await
        .unwrap();
    assert!(ends.cancel_at_period_end);
    assert_eq!(ends.status, SubscriptionStatus::Active);
    assert_eq!(ends.metadata.operation(), metadata(3).operation());
    assert_eq!(ends.metadata.workspace(), metadata(3).workspace());
    let resumed = gateway
        .resume(&before.id, &metadata(4), &key("resume"))
        .await
        .unwrap();
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
    assert!(
        matches!(late, Err(GatewayError::Rejected { .. })),
        "{late:?}"
    );
    let all = gateway.subscriptions_of(&shop.customer).await.unwrap();
    assert_eq!(all.len(), 1, "one that has ended is told too");
}

#[tokio::test]
async fn events_are_listed_newest_first() {
    let shop = &Shop::open().await;
    let subscription = shop.subscribed().await;
    let from = |created_from| EventQuery {
        created_from,
        undelivered: false,
        after: None,
    };
    let start = shop.now - TimeDelta::hours(1);
    let listed = shop.gateway().events(&from(start)).await.unwrap();
    let place = |kind: &str| {
        let mut kinds = listed
            .items
            .iter()
            .map(|event| event.envelope.kind.as_str());
        kinds
            .position(|k| k == kind)
            .unwrap_or_else(|| panic!("no {kind}"))
    };
    assert!(place("customer.subscription.created") < place("customer.created"));
    let made = &listed.items[place("customer.subscription.created")];
    assert_eq!(
        made.envelope.object.as_deref(),
        Some(subscription.id.as_str())
    );
    assert_eq!(made.envelope.customer.as_ref(), Some(&shop.customer));
    assert_eq!(made.envelope.livemode, shop.gateway().livemode());
    let end = shop.now + TimeDelta::days(2);
    assert!(
        shop.gateway()
            .events(&from(end))
            .await
            .unwrap()
            .items
            .is_empty()
    );
}
