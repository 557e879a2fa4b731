//! The gateway keeps the contract of gateways, and the core sells by it.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test are test code, which clippy knows of functions marked as tests alone"
)]

use chrono::TimeDelta;
use example_gateway_invoice::{InvoiceGateway, Means};
use rawdrive_billing::{
    Billing, BillingError, Currency, Heal, IdempotencyKey, InvoiceStatus, Metadata, NewPrice,
    Order, PaymentGateway as _, PaymentMethodId, Policy, PriceId, Step, default_since,
    project_next, reconcile, review_due, subscribe, sync_plans,
};
use rawdrive_plans::{Access, Catalogue, Interval, Slug};
use rawdrive_tenancy_core::{Env, WorkspaceScope};
use rawdrive_testkit::contract::gateway::GatewaySubject;
use rawdrive_testkit::{Card, MemoryStore, TestEnv};
use tempfile::TempDir;

struct Subject {
    gateway: InvoiceGateway,
    test_env: TestEnv,
    prices: [PriceId; 2],
    _folder: TempDir,
}

async fn subject() -> Subject {
    let (test_env, folder) = (TestEnv::seeded(1), tempfile::tempdir().unwrap());
    let file = folder.path().join("books.json");
    let gateway = InvoiceGateway::open(file, test_env.env().clone()).unwrap();
    let price = async |amount: u64| {
        let new = NewPrice {
            product: format!("prod_{amount}").parse().unwrap(),
            product_name: "A plan".to_owned(),
            lookup_key: format!("price_{amount}"),
            currency: Currency::USD,
            interval: Interval::Month,
            amount,
            metadata: Metadata::default(),
        };
        gateway.create_price(&new, &key(amount)).await.unwrap().id
    };
    let prices = [price(1_000).await, price(2_900).await];
    Subject {
        gateway,
        test_env,
        prices,
        _folder: folder,
    }
}

fn key(n: u64) -> IdempotencyKey {
    format!("key-{n}").parse().unwrap()
}

fn by(means: Means) -> PaymentMethodId {
    means.name().parse().unwrap()
}

impl GatewaySubject for Subject {
    type Gateway = InvoiceGateway;

    fn gateway(&self) -> &InvoiceGateway {
        &self.gateway
    }

    fn env(&self) -> &Env {
        self.test_env.env()
    }

    fn prices(&self) -> [PriceId; 2] {
        self.prices.clone()
    }

    fn method(&self, card: Card) -> PaymentMethodId {
        by(match card {
            Card::Good => Means::Account,
            Card::Declined => Means::Closed,
            Card::Confirms => Means::Transfer,
        })
    }

    async fn lose_next_answer(&self) {
        unreachable!("nothing lies between this gateway and its books")
    }

    async fn pass(&self, by: TimeDelta) {
        // What is due happens when somebody looks.
        self.test_env.advance(by);
    }

    async fn heal(&self) {}
}

// All but a lost answer (see above), and two about hosted pages, which a business that writes invoices has not.
rawdrive_testkit::gateway_contract! { crate::subject =>
    a_customer_is_made_once_for_a_key,
    customers_are_found_by_their_metadata_in_the_list,
    a_customers_record_is_updated,
    a_first_purchase_is_previewed_for_nobody,
    what_is_not_there_is_nothing,
    a_subscription_is_made_and_paid,
    one_key_makes_one_subscription,
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
    events_are_listed,
    a_price_is_made_and_found_by_its_name,
}

const PLANS: &str = r#"
[[plan]]
slug = "free"
version = 1
name = "Free"

[[plan]]
slug = "team"
version = 1
name = "Team"
grace_days = 7
prices = [{ currency = "usd", interval = "month", amount = 2900 }]
"#;

/// A workspace that buys by invoice.
struct Shop {
    test_env: TestEnv,
    billing: Billing<MemoryStore, InvoiceGateway>,
    scope: WorkspaceScope,
    folder: TempDir,
}

impl Shop {
    async fn open() -> Self {
        let (test_env, folder) = (TestEnv::seeded(2), tempfile::tempdir().unwrap());
        let env = test_env.env().clone();
        let file = folder.path().join("books.json");
        let gateway = InvoiceGateway::open(file, env.clone()).unwrap();
        let catalogue = Catalogue::parse(PLANS).unwrap();
        let store = MemoryStore::new(env.clone());
        store.publish(&catalogue).await;
        sync_plans(&catalogue, &gateway, &store, false)
            .await
            .unwrap();
        let free = catalogue.newest(&Slug::free()).unwrap();
        let scope = store.workspace(&free).await.unwrap();
        let policy = Policy::default();
        let billing = Billing {
            gateway,
            store,
            env,
            catalogue,
            policy,
        };
        Self {
            test_env,
            billing,
            scope,
            folder,
        }
    }

    async fn order(&self) -> BillingError {
        let order = Order {
            plan: "team".parse().unwrap(),
            interval: Interval::Month,
        };
        let bought = subscribe(
            &self.billing,
            &self.scope,
            &order,
            Some(by(Means::Transfer)),
        )
        .await;
        bought.expect_err("a transfer takes its time")
    }

    /// The operator finds a payment for each open invoice; how many there were.
    fn all_are_paid(&self) -> usize {
        let open = self.billing.gateway.open_invoices().unwrap();
        for invoice in &open {
            assert!(self.billing.gateway.mark_paid(&invoice.id).unwrap());
            assert!(
                !self.billing.gateway.mark_paid(&invoice.id).unwrap(),
                "once"
            );
        }
        open.len()
    }

    /// Nobody delivers events: reconciliation finds what has changed, as the runtime has it run.
    async fn reconciled(&self) -> (String, &'static str) {
        let now = self.test_env.env().now();
        reconcile(&self.billing, default_since(now), Heal::Yes)
            .await
            .unwrap();
        while let Some(step) = project_next(&self.billing).await.unwrap() {
            assert_ne!(step, Step::DeadLetter);
        }
        review_due(&self.billing).await.unwrap();
        let entitlements = &self.billing.store.rows(&self.scope).entitlements;
        let access: Access = entitlements.access(now);
        (entitlements.plan_at(now).slug.to_string(), access.as_str())
    }
}

#[tokio::test]
async fn what_is_bought_by_transfer_is_had_when_an_operator_marks_it_as_paid() {
    let shop = Shop::open().await;
    let waits = shop.order().await;
    assert!(
        matches!(waits, BillingError::ActionRequired(_)),
        "{waits:?}"
    );
    assert_eq!(shop.reconciled().await, ("free".to_owned(), "full"));
    assert_eq!(shop.all_are_paid(), 1);
    assert_eq!(shop.reconciled().await, ("team".to_owned(), "full"));

    // The next month's invoice is due after fourteen days; until then nobody is in arrears.
    shop.test_env.advance(TimeDelta::days(32));
    assert_eq!(shop.reconciled().await, ("team".to_owned(), "full"));
    let [open] = &shop.billing.gateway.open_invoices().unwrap()[..] else {
        panic!("the renewal alone is open");
    };
    assert_eq!(
        (open.total, open.due_at),
        (2_900, Some(open.created + TimeDelta::days(14)))
    );
    shop.test_env.advance(TimeDelta::days(14));
    assert_eq!(shop.reconciled().await, ("team".to_owned(), "grace"));
    assert_eq!(shop.all_are_paid(), 1);
    assert_eq!(shop.reconciled().await, ("team".to_owned(), "full"));
}

#[tokio::test]
async fn who_never_pays_again_is_read_only_and_then_on_the_free_plan() {
    let shop = Shop::open().await;
    shop.order().await;
    shop.all_are_paid();
    // Past the first renewal, its days to pay and the days of grace.
    shop.test_env.advance(TimeDelta::days(31 + 14 + 8));
    assert_eq!(shop.reconciled().await, ("team".to_owned(), "read_only"));
    shop.test_env.advance(TimeDelta::days(30));
    let (plan, _) = shop.reconciled().await;
    assert_eq!(plan, "free");
    let owed = shop.billing.gateway.open_invoices().unwrap();
    assert!(
        !owed.is_empty() && owed.iter().all(|i| i.status == InvoiceStatus::Open),
        "what is owed stays owed"
    );
}

#[tokio::test]
async fn the_books_outlive_the_process() {
    let shop = Shop::open().await;
    shop.order().await;
    let open = shop.billing.gateway.open_invoices().unwrap();
    let file = shop.folder.path().join("books.json");
    let again = InvoiceGateway::open(file.clone(), shop.test_env.env().clone()).unwrap();
    assert_eq!(again.open_invoices().unwrap(), open);
    assert!(again.mark_paid(&open[0].id).unwrap());
    std::fs::write(&file, "no books").unwrap();
    assert!(InvoiceGateway::open(file, shop.test_env.env().clone()).is_err());
}

#[tokio::test]
async fn what_cannot_be_written_has_not_happened() {
    let shop = Shop::open().await;
    shop.order().await;
    let open = shop.billing.gateway.open_invoices().unwrap();
    // The folder is gone, and with it the place for the next books.
    let file = shop.folder.path().join("books.json");
    std::fs::remove_dir_all(shop.folder.path()).unwrap();
    shop.billing.gateway.mark_paid(&open[0].id).unwrap_err();
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    assert_eq!(shop.billing.gateway.open_invoices().unwrap(), open);
}
