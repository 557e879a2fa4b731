//! The double through the real client: its strict types read every answer.

use std::collections::HashMap;

use stripe::{Client, ClientBuilder, IdempotencyKey, RequestStrategy, StripeRequest as _};
use stripe_billing::subscription::{
    CancelSubscription, CreateSubscription, CreateSubscriptionItems,
    CreateSubscriptionPaymentBehavior, ListSubscription, ListSubscriptionStatus,
    ResumeSubscription, RetrieveSubscription, UpdateSubscription, UpdateSubscriptionItems,
    UpdateSubscriptionProrationBehavior,
};
use stripe_core::customer::{CreateCustomer, DeleteCustomer, ListCustomer, RetrieveCustomer};
use stripe_payment::payment_method::{AttachPaymentMethod, ListPaymentMethod};
use stripe_product::price::{CreatePrice, CreatePriceRecurring, CreatePriceRecurringInterval};
use stripe_product::product::CreateProduct;
use stripe_shared::{ApiErrorsCode, ApiErrorsType, SubscriptionStatus};
use stripe_types::Currency;

use crate::support::{Bench, KEY, at, id, text};

fn client(bench: &Bench) -> Client {
    // Two providers are in the tree. An error means that another test has chosen already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    ClientBuilder::new(KEY)
        .url(bench.double.url())
        .build()
        .expect("the double's address is a URL")
}

async fn price(client: &Client) -> String {
    let product = CreateProduct::new("Professional")
        .send(client)
        .await
        .expect("a product is made");
    let price = CreatePrice::new(Currency::USD)
        .product(product.id.as_str())
        .unit_amount(2900)
        .lookup_key("professional_month")
        .recurring(CreatePriceRecurring::new(
            CreatePriceRecurringInterval::Month,
        ))
        .send(client)
        .await
        .expect("a price is made");
    price.id.to_string()
}

async fn customer(client: &Client, card: &str) -> String {
    let customer = CreateCustomer::new()
        .email("jo@example.com")
        .metadata(HashMap::from([("workspace".to_owned(), "one".to_owned())]))
        .send(client)
        .await
        .expect("a customer is made");
    let id = customer.id.to_string();
    let method = AttachPaymentMethod::new(card)
        .customer(id.as_str())
        .send(client)
        .await
        .expect("the card attaches");
    stripe_core::customer::UpdateCustomer::new(id.as_str())
        .invoice_settings(stripe_core::customer::UpdateCustomerInvoiceSettings {
            default_payment_method: Some(method.id.to_string()),
            ..Default::default()
        })
        .send(client)
        .await
        .expect("the card becomes the default");
    id
}

fn items(price: &str) -> Vec<CreateSubscriptionItems> {
    vec![CreateSubscriptionItems {
        price: Some(price.to_owned()),
        quantity: Some(1),
        ..CreateSubscriptionItems::new()
    }]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_made_changed_listed_and_canceled() {
    let bench = Bench::new();
    let client = client(&bench);
    let price = price(&client).await;
    let customer = customer(&client, "pm_card_visa").await;
    let made = CreateSubscription::new()
        .customer(customer.as_str())
        .items(items(&price))
        .metadata(HashMap::from([("workspace".to_owned(), "one".to_owned())]))
        .expand(["latest_invoice.payments".to_owned()])
        .customize()
        .request_strategy(RequestStrategy::Idempotent(
            IdempotencyKey::new("sub-1").expect("a key"),
        ))
        .send(&client)
        .await
        .expect("a subscription is made");
    assert_eq!(made.status, SubscriptionStatus::Active);
    assert_eq!(
        made.items.data[0].current_period_end,
        at("2027-02-28T10:00:00Z")
    );
    assert!(
        made.latest_invoice
            .as_ref()
            .is_some_and(|invoice| invoice.is_object())
    );

    let item = made.items.data[0].id.to_string();
    let changed = UpdateSubscription::new(made.id.as_str())
        .items(vec![UpdateSubscriptionItems {
            id: Some(item),
            quantity: Some(2),
            ..UpdateSubscriptionItems::new()
        }])
        .proration_behavior(UpdateSubscriptionProrationBehavior::AlwaysInvoice)
        .send(&client)
        .await
        .expect("the quantity changes");
    assert_eq!(changed.items.data[0].quantity, Some(2));

    let listed = ListSubscription::new()
        .customer(customer.as_str())
        .status(ListSubscriptionStatus::All)
        .limit(1)
        .send(&client)
        .await
        .expect("subscriptions are listed");
    assert_eq!(listed.data[0].id, made.id);

    let ended = CancelSubscription::new(made.id.as_str())
        .send(&client)
        .await
        .expect("it is canceled");
    assert_eq!(ended.status, SubscriptionStatus::Canceled);
    let gone = CancelSubscription::new(made.id.as_str())
        .send(&client)
        .await;
    let Err(stripe::StripeError::Stripe(error, 404)) = gone else {
        panic!("a canceled subscription cannot be canceled: {gone:?}");
    };
    assert_eq!(error.code, Some(ApiErrorsCode::ResourceMissing));
    RetrieveSubscription::new(made.id.as_str())
        .send(&client)
        .await
        .expect("it can still be read");
    let resumed = ResumeSubscription::new(made.id.as_str())
        .send(&client)
        .await;
    assert!(resumed.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decline_reads_as_a_card_error_with_its_intent() {
    let bench = Bench::new();
    let client = client(&bench);
    let price = price(&client).await;
    let customer = customer(&client, "pm_card_chargeCustomerFail").await;
    let refused = CreateSubscription::new()
        .customer(customer.as_str())
        .items(items(&price))
        .payment_behavior(CreateSubscriptionPaymentBehavior::ErrorIfIncomplete)
        .send(&client)
        .await;
    let Err(stripe::StripeError::Stripe(error, 402)) = refused else {
        panic!("the card is declined: {refused:?}");
    };
    assert_eq!(error.type_, ApiErrorsType::CardError);
    assert_eq!(error.code, Some(ApiErrorsCode::CardDeclined));
    assert_eq!(error.decline_code.as_deref(), Some("generic_decline"));
    assert!(error.payment_intent.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn customers_cards_and_deletions_read() {
    let bench = Bench::new();
    let client = client(&bench);
    let customer = customer(&client, "pm_card_visa").await;
    let cards = ListPaymentMethod::new()
        .customer(customer.as_str())
        .send(&client)
        .await
        .expect("cards are listed");
    assert_eq!(cards.data.len(), 1);
    let found = ListCustomer::new()
        .email("jo@example.com")
        .send(&client)
        .await
        .expect("customers are listed");
    assert_eq!(found.data[0].id.as_str(), customer);
    DeleteCustomer::new(customer.as_str())
        .send(&client)
        .await
        .expect("a customer is deleted");
    let gone = RetrieveCustomer::new(customer.as_str())
        .send(&client)
        .await
        .expect("a deleted customer reads");
    assert!(matches!(
        gone,
        stripe_core::customer::RetrieveCustomerReturned::DeletedCustomer(_)
    ));
}

/// Reads an object with the client's own type, and finds no value that the type does not know.
fn reads<T: miniserde::Deserialize + std::fmt::Debug>(object: &serde_json::Value) {
    let parsed: T = miniserde::json::from_str(&object.to_string())
        .unwrap_or_else(|_| panic!("{} does not read: {object:#}", std::any::type_name::<T>()));
    let shown = format!("{parsed:?}");
    let unknown = shown
        .find("Unknown(")
        .map(|at| &shown[at..shown.len().min(at + 80)]);
    assert_eq!(unknown, None, "{}", std::any::type_name::<T>());
}

/// A life that makes every kind of object, in every state that is easily reached.
async fn full_life() -> Bench {
    let bench = Bench::with(|config| config.account.portal_saved = true);
    let price = bench.price("Professional", "2900", "month").await;
    let dear = bench.price("Enterprise", "9900", "month").await;
    let customer = bench.customer("pm_card_createDispute").await;
    let subscription = bench.subscribe(&customer, &price, &[]).await.ok();
    let item = id(&subscription["items"]["data"][0]);
    let path = format!("/v1/subscriptions/{}", id(&subscription));
    bench.travel_to("2027-02-10T00:00:00Z");
    let change = [("items[0][id]", item.as_str()), ("items[0][price]", &dear)];
    bench.post(&path, &change).await.ok();
    bench.give_card(&customer, "pm_card_visa").await;
    bench.travel_to("2027-03-01T00:00:00Z");
    let charge = id(&bench.double.state().paid_charges(&customer)[1]);
    bench.post("/v1/refunds", &[("charge", &charge)]).await.ok();
    let schedule = [("from_subscription", id(&subscription))];
    let schedule: Vec<_> = schedule.iter().map(|(k, v)| (*k, v.as_str())).collect();
    bench
        .post("/v1/subscription_schedules", &schedule)
        .await
        .ok();

    let other = bench.customer("pm_card_authenticationRequired").await;
    bench.subscribe(&other, &price, &[]).await.ok();
    let third = bench.customer("pm_card_chargeCustomerFail").await;
    bench.subscribe(&third, &price, &[]).await.ok();
    let trial = id(&bench.post("/v1/customers", &[]).await.ok());
    let paused = [
        ("trial_period_days", "3"),
        (
            "trial_settings[end_behavior][missing_payment_method]",
            "pause",
        ),
    ];
    bench.subscribe(&trial, &price, &paused).await.ok();
    bench.travel_to("2027-03-05T00:00:00Z");
    let balance = format!("/v1/customers/{customer}/balance_transactions");
    let credit = [("amount", "-500"), ("currency", "usd")];
    bench.post(&balance, &credit).await.ok();
    let session = [
        ("mode", "subscription"),
        ("line_items[0][price]", price.as_str()),
        ("success_url", "http://app.test/done"),
    ];
    let session = bench.post("/v1/checkout/sessions", &session).await.ok();
    let form = [("card", "4242424242424242"), ("email", "jo@example.com")];
    bench.page(text(&session, "url"), Some(&form)).await;
    let portal = [("customer", customer.as_str())];
    bench
        .post("/v1/billing_portal/sessions", &portal)
        .await
        .ok();
    let clock = [("frozen_time", "1900000000")];
    bench
        .post("/v1/test_helpers/test_clocks", &clock)
        .await
        .ok();
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn every_object_reads_with_the_clients_types() {
    let bench = full_life().await;
    let state = bench.double.state();
    let mut kinds = 0;
    let mut each = |kind: &str, read: fn(&serde_json::Value)| {
        let objects = state.objects(kind);
        assert!(!objects.is_empty(), "the life makes a {kind}");
        objects.iter().for_each(read);
        kinds += 1;
    };
    each("customer", reads::<stripe_shared::Customer>);
    each(
        "customer_balance_transaction",
        reads::<stripe_shared::CustomerBalanceTransaction>,
    );
    each("product", reads::<stripe_shared::Product>);
    each("price", reads::<stripe_shared::Price>);
    each("payment_method", reads::<stripe_shared::PaymentMethod>);
    each("setup_intent", reads::<stripe_shared::SetupIntent>);
    each("payment_intent", reads::<stripe_shared::PaymentIntent>);
    each("charge", reads::<stripe_shared::Charge>);
    each("refund", reads::<stripe_shared::Refund>);
    each("dispute", reads::<stripe_shared::Dispute>);
    each("subscription", reads::<stripe_shared::Subscription>);
    each(
        "subscription_schedule",
        reads::<stripe_shared::SubscriptionSchedule>,
    );
    each("invoice", reads::<stripe_shared::Invoice>);
    each("invoice_payment", reads::<stripe_shared::InvoicePayment>);
    each("invoiceitem", reads::<stripe_billing::InvoiceItem>);
    each("checkout.session", reads::<stripe_shared::CheckoutSession>);
    each(
        "billing_portal.session",
        reads::<stripe_billing::BillingPortalSession>,
    );
    each(
        "billing_portal.configuration",
        reads::<stripe_billing::BillingPortalConfiguration>,
    );
    each("event", reads::<stripe_shared::Event>);
    each(
        "test_helpers.test_clock",
        reads::<stripe_shared::TestHelpersTestClock>,
    );
    assert_eq!(kinds, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn expanded_and_listed_objects_read_too() {
    let bench = full_life().await;
    let subscriptions = bench
        .get("/v1/subscriptions?status=all&expand[]=data.customer&expand[]=data.default_payment_method&expand[]=data.latest_invoice&expand[]=data.latest_invoice.payments&expand[]=data.pending_setup_intent&expand[]=data.schedule")
        .await
        .ok();
    reads::<stripe_types::List<stripe_shared::Subscription>>(&subscriptions);
    let customer = text(&subscriptions["data"][0]["customer"], "id").to_owned();
    let invoices = bench
        .get("/v1/invoices?expand[]=data.payments.data.payment.payment_intent&expand[]=data.confirmation_secret&expand[]=data.customer")
        .await
        .ok();
    reads::<stripe_types::List<stripe_shared::Invoice>>(&invoices);
    let invoice = id(&invoices["data"][0]);
    let lines = bench
        .get(&format!("/v1/invoices/{invoice}/lines"))
        .await
        .ok();
    reads::<stripe_types::List<stripe_shared::InvoiceLineItem>>(&lines);
    let payments = bench
        .get(&format!("/v1/invoice_payments?invoice={invoice}"))
        .await
        .ok();
    reads::<stripe_types::List<stripe_shared::InvoicePayment>>(&payments);
    let form = [("customer", customer.as_str())];
    let items = [
        form[0],
        (
            "subscription_details[items][0][price]",
            text(&subscriptions["data"][0]["items"]["data"][0]["price"], "id"),
        ),
    ];
    let preview = bench.post("/v1/invoices/create_preview", &items).await.ok();
    reads::<stripe_shared::Invoice>(&preview);
    let sessions = bench
        .get("/v1/checkout/sessions?expand[]=data.line_items")
        .await
        .ok();
    reads::<stripe_types::List<stripe_shared::CheckoutSession>>(&sessions);
    let charges = bench.get("/v1/charges?expand[]=data.refunds").await.ok();
    reads::<stripe_types::List<stripe_shared::Charge>>(&charges);
    let events = bench.get("/v1/events?limit=100").await.ok();
    reads::<stripe_types::List<stripe_shared::Event>>(&events);
}
