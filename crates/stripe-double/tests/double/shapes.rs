//! The shape of what is served against Stripe's own example objects: each field of an example is there, with
//! the same type of JSON value.

use serde_json::{Map, Value};

use crate::support::{Bench, at, id, text};

/// Where the double differs from the examples, and why. A path ends at the field itself.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        "invoice.subscription",
        "the version in use has it under parent.subscription_details",
    ),
    (
        "charge.refunds",
        "shown only when expanded, since 2022-11-15",
    ),
    (
        "customer.shipping",
        "null, as Stripe answers where none is known; the example has an empty object",
    ),
    (
        "subscription.status_details",
        "left out where there are none: by the SDKs' types an empty object would not do",
    ),
];

/// The examples, `null` meaning that nothing is said about the type.
fn examples() -> Map<String, Value> {
    let text = include_str!("../fixtures/fixtures3.json");
    let all: Value = serde_json::from_str(text).expect("the fixtures are JSON");
    all["resources"].as_object().cloned().expect("by resource")
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What an object lacks or has of another type, compared with an example.
fn differences(name: &str, example: &Value, object: &Value) -> Vec<String> {
    let fields = example.as_object().expect("an example is an object");
    let mut found = Vec::new();
    for (key, wanted) in fields {
        let path = format!("{name}.{key}");
        if DIFFERENCES.iter().any(|(known, _)| *known == path) {
            continue;
        }
        match object.get(key) {
            None => found.push(format!("{path} is missing")),
            // Null stands for any type: what an object lacks, Stripe shows as null.
            Some(got) if got.is_null() || wanted.is_null() => {}
            Some(got) if kind(got) != kind(wanted) => found.push(format!(
                "{path} is {}, the example has {}",
                kind(got),
                kind(wanted)
            )),
            Some(_) => {}
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_stripes_examples_is_there() {
    let bench = Bench::with(|config| config.account.portal_saved = true);
    let price = bench.price("Professional", "2900", "month").await;
    let customer = bench.customer("pm_card_createDispute").await;
    let subscription = bench.subscribe(&customer, &price, &[]).await.ok();
    let from = id(&subscription);
    let charge = id(&bench.double.state().paid_charges(&customer)[0]);
    let schedule = bench
        .post(
            "/v1/subscription_schedules",
            &[("from_subscription", &from)],
        )
        .await
        .ok();
    let other = bench.customer("pm_card_visa").await;
    bench.subscribe(&other, &price, &[]).await.ok();
    let paid = id(&bench.double.state().paid_charges(&other)[0]);
    let refund = bench.post("/v1/refunds", &[("charge", &paid)]).await.ok();
    let item = [
        ("customer", other.as_str()),
        ("amount", "100"),
        ("currency", "usd"),
    ];
    let item = bench.post("/v1/invoiceitems", &item).await.ok();
    let credit = [("amount", "-500"), ("currency", "usd")];
    let path = format!("/v1/customers/{other}/balance_transactions");
    let transaction = bench.post(&path, &credit).await.ok();
    let session = [
        ("mode", "subscription"),
        ("line_items[0][price]", price.as_str()),
        ("success_url", "http://app.test/done"),
    ];
    let session = bench.post("/v1/checkout/sessions", &session).await.ok();
    let portal = [("customer", customer.as_str())];
    let portal = bench
        .post("/v1/billing_portal/sessions", &portal)
        .await
        .ok();
    let setup = bench
        .post("/v1/setup_intents", &[("customer", &customer)])
        .await
        .ok();
    let frozen = at("2027-06-01T00:00:00Z").to_string();
    let clock = bench
        .post("/v1/test_helpers/test_clocks", &[("frozen_time", &frozen)])
        .await
        .ok();
    let endpoint = [("url", "http://127.0.0.1:9/"), ("enabled_events[]", "none")];
    let endpoint = bench.post("/v1/webhook_endpoints", &endpoint).await.ok();
    let invoice = bench.invoice(text(&subscription, "latest_invoice")).await;
    let state = bench.double.state();
    let get = async |path: String| bench.get(&path).await.ok();
    let first = |kind: &str| state.objects(kind)[0].clone();
    let deleted = id(&bench.post("/v1/customers", &[]).await.ok());
    let deleted = bench.delete(&format!("/v1/customers/{deleted}")).await.ok();
    let served = [
        ("customer", get(format!("/v1/customers/{customer}")).await),
        ("deleted_customer", deleted),
        ("customer_balance_transaction", transaction),
        ("product", first("product")),
        ("price", get(format!("/v1/prices/{price}")).await),
        ("plan", subscription["items"]["data"][0]["plan"].clone()),
        ("payment_method", first("payment_method")),
        ("setup_intent", setup),
        ("payment_intent", first("payment_intent")),
        ("charge", get(format!("/v1/charges/{charge}")).await),
        ("refund", refund),
        ("dispute", first("dispute")),
        ("subscription", subscription.clone()),
        (
            "subscription_item",
            subscription["items"]["data"][0].clone(),
        ),
        ("subscription_schedule", schedule),
        ("invoice", invoice.clone()),
        ("line_item", invoice["lines"]["data"][0].clone()),
        ("invoice_payment", first("invoice_payment")),
        ("invoiceitem", item),
        ("checkout.session", session),
        (
            "billing_portal.configuration",
            get(format!(
                "/v1/billing_portal/configurations/{}",
                text(&portal, "configuration")
            ))
            .await,
        ),
        ("billing_portal.session", portal),
        ("event", first("event")),
        ("webhook_endpoint", endpoint),
        ("test_helpers.test_clock", clock),
    ];
    let examples = examples();
    let mut found = Vec::new();
    for (name, object) in &served {
        found.extend(differences(name, &examples[*name], object));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert_eq!(served.len(), examples.len(), "every example is compared");
}
