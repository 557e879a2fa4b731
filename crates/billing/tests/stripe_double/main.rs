//! The Stripe gateway against the double of Stripe: the contract of gateways, and what faults do to it.
#![cfg(feature = "stripe")]
#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test are test code, which clippy knows of functions marked as tests alone"
)]

mod promises;
mod sync;

use std::time::Duration;

use chrono::TimeDelta;
use rawdrive_billing::{
    AttemptOutcome, CancelWhen, ChangePrice, ChangeTiming, Currency, CustomerId, EventQuery,
    GatewayError, IdempotencyKey, Metadata, NewCustomer, NewPrice, Outcome, PaymentGateway as _,
    PaymentMethodId, PriceId, StripeGateway, StripeSettings, Subscribe, SubscriptionSnapshot,
    SubscriptionStatus,
};
use rawdrive_plans::Interval;
use rawdrive_stripe_double::{Config, Fault, Matching, StripeDouble};
use rawdrive_tenancy_core::Env;
use rawdrive_testkit::contract::gateway::GatewaySubject;
use rawdrive_testkit::{Card, TestEnv};
use secrecy::SecretString;

const KEY: &str = "sk_test_double";

fn start() -> (StripeDouble, StripeSettings) {
    let mut config = Config::new(KEY);
    config.record = std::env::var_os("STRIPE_DOUBLE_RECORD").map(Into::into);
    let double = StripeDouble::start(config).unwrap();
    let mut settings = StripeSettings::new(SecretString::from(KEY));
    settings.api_url = Some(double.url());
    (double, settings)
}

fn gateway(settings: &StripeSettings) -> StripeGateway {
    StripeGateway::new(settings, TestEnv::seeded(7).env().clone()).unwrap()
}

/// The double as a subject of the gateways' contract.
struct Subject {
    double: StripeDouble,
    gateway: StripeGateway,
    env: Env,
    prices: [PriceId; 2],
}

impl Subject {
    async fn open() -> Self {
        let (double, settings) = start();
        let gateway = gateway(&settings);
        let basic = gateway
            .create_price(&new_price("basic", 1_000), &key("basic"))
            .await;
        let pro = gateway
            .create_price(&new_price("pro", 2_900), &key("pro"))
            .await;
        Self {
            double,
            gateway,
            env: Env::system(),
            prices: [basic.unwrap().id, pro.unwrap().id],
        }
    }
}

impl GatewaySubject for Subject {
    type Gateway = StripeGateway;
    fn gateway(&self) -> &StripeGateway {
        &self.gateway
    }
    fn env(&self) -> &Env {
        &self.env
    }
    fn prices(&self) -> [PriceId; 2] {
        self.prices.clone()
    }
    fn method(&self, card: Card) -> PaymentMethodId {
        card.method().parse().unwrap()
    }
    async fn lose_next_answer(&self) {
        let subscribe = Matching::new("POST", "/v1/subscriptions");
        self.double
            .faults()
            .next(usize::MAX, subscribe, Fault::DropAnswer);
    }
    async fn pass(&self, by: TimeDelta) {
        self.double.advance(by);
    }
    async fn heal(&self) {
        self.double.faults().clear();
    }
}

rawdrive_testkit::gateway_contract!(crate::Subject::open);

/// A double with a customer and a price, and a gateway that is quick to give up.
struct Scene {
    double: StripeDouble,
    gateway: StripeGateway,
    customer: CustomerId,
    price: PriceId,
}

impl Scene {
    async fn set() -> Self {
        let (double, mut settings) = start();
        settings.try_timeout = Duration::from_millis(600);
        settings.call_timeout = Duration::from_secs(5);
        let gateway = gateway(&settings);
        let customer = gateway
            .create_customer(&new_customer(), &key("customer"))
            .await;
        let customer = customer.unwrap().id;
        let price = gateway
            .create_price(&new_price("basic", 1_000), &key("price"))
            .await;
        let price = price.unwrap().id;
        Self {
            double,
            gateway,
            customer,
            price,
        }
    }

    fn wish(&self, card: &str) -> Subscribe {
        Subscribe {
            customer: self.customer.clone(),
            price: self.price.clone(),
            payment_method: Some(card.parse().unwrap()),
            trial_days: None,
            replaces: None,
            metadata: Metadata::default(),
        }
    }

    async fn subscribe(&self, card: &str) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        self.gateway
            .subscribe(&self.wish(card), &key("subscribe"))
            .await
    }

    async fn subscribed(&self) -> SubscriptionSnapshot {
        match self.subscribe("pm_card_visa").await.unwrap() {
            Outcome::Done(subscription) => subscription,
            other => panic!("{other:?}"),
        }
    }

    async fn attach(&self, card: &str) {
        let (method, key) = (card.parse().unwrap(), key(card));
        let attached = self
            .gateway
            .attach_payment_method(&self.customer, &method, &key)
            .await;
        assert!(matches!(attached.unwrap(), Outcome::Done(_)));
    }

    fn fault(&self, times: usize, method: &str, path: &str, fault: Fault) {
        self.double
            .faults()
            .next(times, Matching::new(method, path), fault);
    }

    fn assert_one_of_each(&self) {
        let state = self.double.state();
        assert_eq!(state.count("subscription"), 1);
        assert_eq!(state.count("customer"), 1);
        assert_eq!(state.paid_charges(self.customer.as_str()).len(), 1);
    }
}

fn key(name: &str) -> IdempotencyKey {
    format!("test-{name}").parse().unwrap()
}

fn new_customer() -> NewCustomer {
    NewCustomer {
        name: "Studio".to_owned(),
        email: None,
        metadata: Metadata::default(),
    }
}

fn new_price(name: &str, amount: u64) -> NewPrice {
    NewPrice {
        product: format!("rawdrive_{name}_v1").parse().unwrap(),
        product_name: name.to_owned(),
        lookup_key: format!("rawdrive_{name}_v1_usd_month"),
        currency: Currency::parse("usd").unwrap(),
        interval: Interval::Month,
        amount,
        metadata: Metadata::default(),
    }
}

#[tokio::test]
async fn an_answer_that_was_dropped_after_the_work_is_fetched_under_the_same_key() {
    let scene = Scene::set().await;
    scene.fault(2, "POST", "/v1/subscriptions", Fault::DropAnswer);
    scene.fault(1, "POST", "/v1/payment_methods/*", Fault::DropAnswer);
    let made = scene.subscribed().await;
    assert_eq!(made.status, SubscriptionStatus::Active);
    scene.assert_one_of_each();
    assert_eq!(
        scene.double.state().calls_to("POST", "/v1/subscriptions"),
        3
    );
}

#[tokio::test]
async fn an_answer_that_never_comes_is_fetched_under_the_same_key() {
    let scene = Scene::set().await;
    scene.fault(1, "POST", "/v1/subscriptions", Fault::HangAnswer);
    assert_eq!(scene.subscribed().await.status, SubscriptionStatus::Active);
    scene.assert_one_of_each();
}

#[tokio::test]
async fn a_call_that_hangs_beyond_the_bound_is_unknown_and_can_be_made_again() {
    let scene = Scene::set().await;
    scene.fault(9, "POST", "/v1/subscriptions", Fault::Hang);
    let error = scene.subscribe("pm_card_visa").await.unwrap_err();
    assert!(
        matches!(error, GatewayError::Unreachable { .. }),
        "{error:?}"
    );
    scene.double.faults().clear();
    assert_eq!(scene.subscribed().await.status, SubscriptionStatus::Active);
    scene.assert_one_of_each();
}

#[tokio::test]
async fn work_that_outlasts_a_try_is_waited_for_while_its_key_is_in_use() {
    let scene = Scene::set().await;
    let slow = Fault::Delay(Duration::from_millis(900));
    scene.fault(1, "POST", "/v1/subscriptions", slow);
    assert_eq!(scene.subscribed().await.status, SubscriptionStatus::Active);
    scene.assert_one_of_each();
}

#[tokio::test]
async fn a_failure_stored_under_the_key_is_named_and_another_key_goes_on() {
    for committed in [false, true] {
        let scene = Scene::set().await;
        scene.fault(
            1,
            "POST",
            "/v1/subscriptions",
            Fault::ServerError { committed },
        );
        for _ in 0..2 {
            let error = scene.subscribe("pm_card_visa").await.unwrap_err();
            assert!(matches!(error, GatewayError::ReplayedFailure), "{error:?}");
        }
        let there = scene
            .gateway
            .subscriptions_of(&scene.customer)
            .await
            .unwrap();
        assert_eq!(there.len(), usize::from(committed));
        if !committed {
            let wish = scene.wish("pm_card_visa");
            let again = scene.gateway.subscribe(&wish, &key("second")).await;
            assert!(matches!(again.unwrap(), Outcome::Done(_)));
        }
        scene.assert_one_of_each();
    }
}

#[tokio::test]
async fn limits_and_short_outages_are_waited_out() {
    let scene = Scene::set().await;
    scene.fault(
        1,
        "POST",
        "/v1/subscriptions",
        Fault::RateLimit { retry_after: 1 },
    );
    scene.fault(2, "POST", "/v1/subscriptions", Fault::Unavailable);
    scene.fault(2, "GET", "*", Fault::Unavailable);
    let made = scene.subscribed().await;
    assert!(
        scene
            .gateway
            .subscription(&made.id)
            .await
            .unwrap()
            .is_some()
    );
    scene.assert_one_of_each();
}

#[tokio::test]
async fn a_long_limit_is_told() {
    let scene = Scene::set().await;
    scene.fault(
        1,
        "POST",
        "/v1/subscriptions",
        Fault::RateLimit { retry_after: 60 },
    );
    let error = scene.subscribe("pm_card_visa").await.unwrap_err();
    let minute = Some(Duration::from_secs(60));
    assert!(matches!(error, GatewayError::RateLimited { retry_after } if retry_after == minute));
    assert_eq!(scene.double.state().count("subscription"), 0);
}

#[tokio::test]
async fn a_stripe_that_is_down_is_unreachable() {
    let scene = Scene::set().await;
    scene.double.faults().down(true);
    let error = scene.subscribe("pm_card_visa").await.unwrap_err();
    assert!(
        matches!(error, GatewayError::Unreachable { .. }),
        "{error:?}"
    );
    scene.double.faults().down(false);
    scene.subscribed().await;
    scene.assert_one_of_each();
}

#[tokio::test]
async fn another_key_is_not_accepted() {
    let (_double, mut settings) = start();
    settings.secret_key = SecretString::from("sk_test_other");
    let error = gateway(&settings).price("any").await.unwrap_err();
    assert!(matches!(error, GatewayError::Unauthorized), "{error:?}");
}

#[tokio::test]
async fn a_change_survives_the_loss_of_any_one_answer() {
    let calls = [
        ("POST", "/v1/subscriptions/*"),
        ("GET", "/v1/subscriptions/*"),
        ("POST", "/v1/subscription_schedules"),
        ("POST", "/v1/subscription_schedules/*"),
        ("GET", "/v1/prices/*"),
    ];
    for (method, path) in calls {
        let scene = Scene::set().await;
        let dear = scene
            .gateway
            .create_price(&new_price("pro", 2_900), &key("pro"))
            .await;
        let dear = dear.unwrap().id;
        let subscription = scene.subscribed().await;
        let mut change = ChangePrice {
            subscription: subscription.id.clone(),
            item: subscription.item().unwrap().id.clone(),
            price: dear.clone(),
            quantity: Some(1),
            timing: ChangeTiming::AtPeriodEnd,
            metadata: Metadata::default(),
        };
        scene.fault(1, method, path, Fault::DropAnswer);
        let later = scene
            .gateway
            .change_price(&change, &key("later"))
            .await
            .unwrap();
        match later {
            Outcome::Done(later) => assert_eq!(later.scheduled.unwrap().price, dear),
            other => panic!("{other:?}"),
        }
        assert_eq!(scene.double.state().count("subscription_schedule"), 1);
        change.timing = ChangeTiming::Now {
            proration_date: scene.double.now(),
        };
        scene.fault(1, method, path, Fault::DropAnswer);
        let now = scene
            .gateway
            .change_price(&change, &key("now"))
            .await
            .unwrap();
        match now {
            Outcome::Done(now) => {
                assert_eq!(now.item().unwrap().price.id, dear);
                assert_eq!(now.scheduled, None);
            }
            other => panic!("{other:?}"),
        }
        let paid = scene.double.state().paid_charges(scene.customer.as_str());
        assert_eq!(paid.len(), 2, "{method} {path}");
    }
}

#[tokio::test]
async fn an_end_survives_the_loss_of_its_answer() {
    let scene = Scene::set().await;
    let subscription = scene.subscribed().await;
    scene.fault(1, "DELETE", "/v1/subscriptions/*", Fault::DropAnswer);
    let none = Metadata::default();
    let now = CancelWhen::Now;
    let ended = scene
        .gateway
        .cancel(&subscription.id, now, &none, &key("end"))
        .await;
    assert_eq!(ended.unwrap().status, SubscriptionStatus::Canceled);
}

#[tokio::test]
async fn the_attempts_of_an_invoice_are_told_by_the_providers_clock() {
    let scene = Scene::set().await;
    let subscription = scene.subscribed().await;
    let faults = scene.double.faults();
    for code in ["insufficient_funds", "generic_decline"] {
        faults
            .decline_next_charge(scene.customer.as_str(), code)
            .unwrap();
    }
    let renewal = subscription.period_end().unwrap();
    scene
        .double
        .advance(renewal - scene.double.now() + TimeDelta::hours(2));
    let now = scene
        .gateway
        .subscription(&subscription.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(now.status, SubscriptionStatus::PastDue);
    let id = now.latest_invoice.unwrap();
    let first = scene.gateway.invoice(&id).await.unwrap().unwrap();
    let failed_at = first.first_failed_at().unwrap();
    assert!(failed_at >= renewal && failed_at <= renewal + TimeDelta::hours(2));
    let insufficient = AttemptOutcome::Failed {
        decline_code: Some("insufficient_funds".to_owned()),
    };
    assert_eq!(first.attempts[0].outcome, insufficient);
    let waits = scene.gateway.waits_for(&id).await.unwrap();
    assert!(
        matches!(waits, Some(Outcome::Declined { ref decline, .. }) if decline.decline_code == "insufficient_funds"),
        "{waits:?}"
    );

    scene.double.advance(TimeDelta::days(3));
    let second = scene.gateway.invoice(&id).await.unwrap().unwrap();
    assert_eq!(second.attempts.len(), 2);
    assert_eq!(
        second.first_failed_at(),
        Some(failed_at),
        "later failures do not move it"
    );
    scene.double.advance(TimeDelta::days(5));
    let paid = scene.gateway.invoice(&id).await.unwrap().unwrap();
    assert_eq!(
        paid.attempts.last().unwrap().outcome,
        AttemptOutcome::Succeeded
    );
    assert_eq!(paid.first_failed_at(), Some(failed_at));
}

#[tokio::test]
async fn a_payment_confirmed_by_its_payer_goes_on_by_itself() {
    let scene = Scene::set().await;
    let outcome = scene
        .subscribe("pm_card_authenticationRequired")
        .await
        .unwrap();
    let Outcome::ActionRequired {
        left: Some(left), ..
    } = outcome
    else {
        panic!("{outcome:?}");
    };
    let intent = scene.double.state().objects("payment_intent").remove(0);
    let intent = intent["id"].as_str().unwrap();
    scene.double.faults().authenticate(intent, true).unwrap();
    let now = scene.gateway.subscription(&left.id).await.unwrap().unwrap();
    assert_eq!(now.status, SubscriptionStatus::Active);
    // The same call again is as old as its key, and still tells what has become of it.
    let again = scene
        .subscribe("pm_card_authenticationRequired")
        .await
        .unwrap();
    assert!(matches!(again, Outcome::Done(_)), "{again:?}");
}

#[tokio::test]
async fn a_trial_without_a_card_pauses_and_wakes_by_one() {
    let scene = Scene::set().await;
    let wish = Subscribe {
        payment_method: None,
        trial_days: Some(7),
        ..scene.wish("pm_card_visa")
    };
    let trial = scene.gateway.subscribe(&wish, &key("trial")).await.unwrap();
    let Outcome::Done(trial) = trial else {
        panic!("{trial:?}")
    };
    scene.double.advance(TimeDelta::days(8));
    let now = scene
        .gateway
        .subscription(&trial.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(now.status, SubscriptionStatus::Paused);

    let none = Metadata::default();
    scene.attach("pm_card_chargeCustomerFail").await;
    let woken = scene
        .gateway
        .resume(&trial.id, &none, &key("wake"))
        .await
        .unwrap();
    assert!(matches!(woken, Outcome::Declined { .. }), "{woken:?}");
    scene.attach("pm_card_visa").await;
    let woken = scene
        .gateway
        .resume(&trial.id, &none, &key("wake-again"))
        .await
        .unwrap();
    let Outcome::Done(woken) = woken else {
        panic!("{woken:?}")
    };
    assert_eq!(woken.status, SubscriptionStatus::Active);
}

#[tokio::test]
async fn a_dispute_names_the_customer_of_its_charge() {
    let scene = Scene::set().await;
    scene.subscribed().await;
    let charge = scene
        .double
        .state()
        .paid_charges(scene.customer.as_str())
        .remove(0);
    let charge = charge["id"].as_str().unwrap();
    let dispute = scene.double.faults().dispute(charge, "fraudulent").unwrap();
    let dispute = scene
        .gateway
        .dispute(&dispute.parse().unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(dispute.customer, Some(scene.customer.clone()));
    assert_eq!(dispute.reason.as_deref(), Some("fraudulent"));
    let found = scene
        .gateway
        .charge(&charge.parse().unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.customer, Some(scene.customer.clone()));
    assert_eq!(dispute.charge, Some(found.id));
}

#[tokio::test]
async fn lists_go_on_where_a_page_ends() {
    let scene = Scene::set().await;
    for number in 0..120 {
        let key = key(&format!("c{number}"));
        scene
            .gateway
            .create_customer(&new_customer(), &key)
            .await
            .unwrap();
    }
    let mut query = rawdrive_billing::CustomerQuery::default();
    let first = scene.gateway.customers(&query).await.unwrap();
    assert_eq!(first.items.len(), 100);
    query.after = first.next;
    let second = scene.gateway.customers(&query).await.unwrap();
    assert_eq!((second.items.len(), second.next), (21, None));

    let mut query = EventQuery {
        created_from: scene.double.now() - TimeDelta::hours(1),
        undelivered: false,
        after: None,
    };
    let first = scene.gateway.events(&query).await.unwrap();
    assert_eq!(first.items.len(), 100);
    query.after = first.next;
    assert!(!scene.gateway.events(&query).await.unwrap().items.is_empty());
    query = EventQuery {
        undelivered: true,
        after: None,
        ..query
    };
    // Nobody listens, so nothing is undelivered.
    assert!(scene.gateway.events(&query).await.unwrap().items.is_empty());
}
