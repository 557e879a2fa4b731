//! The worker beside a Stripe that tells it nothing.
#![expect(
    clippy::disallowed_methods,
    reason = "the test vouches for the workspace that it makes"
)]

use std::process::{Child, Command};
use std::time::Duration;

use rawdrive_billing::{
    Billing, Order, PaymentMethodId, Policy, StripeGateway, StripeSettings, subscribe, sync_plans,
};
use rawdrive_identity::{Currency, WorkspaceName};
use rawdrive_plans::{Catalogue, Interval, Slug};
use rawdrive_store::{Store, Url};
use rawdrive_stripe_double::{Config, StripeDouble};
use rawdrive_tenancy_core::{Actor, Env, SystemReason, WorkspaceScope};

const KEY: &str = "sk_test_worker";

/// Ends with the test.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_webhook_told_is_found_by_the_worker() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("billing.db");
    let double = StripeDouble::start(Config::new(KEY)).unwrap();
    let catalogue = Catalogue::parse(include_str!("../plans.toml")).unwrap();
    let store = Store::open(&Url::sqlite(&file), Env::system(), &catalogue, &[])
        .await
        .unwrap();
    let mut stripe = StripeSettings::new(KEY.to_owned().into());
    stripe.api_url = Some(double.url());
    let billing = Billing {
        gateway: StripeGateway::new(&stripe, Env::system()).unwrap(),
        store: store.clone(),
        env: Env::system(),
        catalogue: catalogue.clone(),
        policy: Policy::default(),
    };
    sync_plans(&catalogue, &billing.gateway, &store, false)
        .await
        .unwrap();

    let scope = WorkspaceScope::trusted(store.env().id(), Actor::System(SystemReason::SIGN_UP));
    let free = catalogue.newest(&"free".parse::<Slug>().unwrap()).unwrap();
    let (name, currency) = (WorkspaceName::parse("Ada's").unwrap(), Currency::USD);
    store
        .create_workspace(&scope, name, currency, &free)
        .await
        .unwrap();
    let order = Order {
        plan: "team".parse().unwrap(),
        interval: Interval::Month,
    };
    let card: PaymentMethodId = "pm_card_visa".parse().unwrap();
    let bought = subscribe(&billing, &scope, &order, Some(card))
        .await
        .unwrap();
    let plan = async || {
        let entitlements = store.read(&scope).entitlements().await.unwrap();
        entitlements.plan_at(store.env().now()).slug.to_string()
    };
    assert_eq!(plan().await, "team");

    let cancelled = reqwest::Client::new()
        .delete(format!(
            "{}/v1/subscriptions/{}",
            double.url(),
            bought.snapshot.id
        ))
        .bearer_auth(KEY)
        .send()
        .await
        .unwrap();
    assert_eq!(cancelled.status(), 200);
    assert_eq!(plan().await, "team", "nobody has told");

    let worker = Command::new(env!("CARGO_BIN_EXE_example-billing-worker"))
        .envs([
            ("DATABASE_URL", format!("sqlite://{}", file.display())),
            ("STRIPE_SECRET_KEY", KEY.to_owned()),
            ("STRIPE_API_URL", double.url()),
            ("RECONCILE_SECONDS", "1".to_owned()),
        ])
        .spawn();
    let _worker = Worker(worker.unwrap());
    for _ in 0..300 {
        if plan().await == "free" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the worker has not found that the subscription ended");
}
