//! Subscriptions as people really have them: several items, quantities, prices that were negotiated, credit on the
//! account; and previews that say what will be charged.

use chrono::TimeDelta;
use e2e::Api;
use serde_json::{Value, json};

use crate::stage::{Stage, id, subscribe, subscription, until_shown};

const PATH: &str = "/v1/billing/subscription";

fn order(plan: &str, interval: &str) -> Value {
    json!({ "plan": plan, "interval": interval })
}

async fn preview(api: &Api, order: &Value) -> Value {
    api.post(&format!("{PATH}/preview"), order)
        .await
        .is(200)
        .json()
}

async fn price(stage: &Stage, more: &[(&str, &str)]) -> String {
    let mut form = vec![("currency", "usd"), ("recurring[interval]", "month")];
    form.extend(more);
    id(&stage.stripe("/v1/prices", &form).await)
}

/// Something that is sold beside the plan.
async fn addon(stage: &Stage) -> String {
    price(
        stage,
        &[
            ("unit_amount", "700"),
            ("product_data[name]", "Extra backup"),
        ],
    )
    .await
}

fn only(stage: &Stage, customer: &str) -> Value {
    let all = stage.subscriptions(customer);
    let living: Vec<_> = all.iter().filter(|s| s["status"] != "canceled").collect();
    let [one] = living.as_slice() else {
        panic!("{all:#?}")
    };
    (*one).clone()
}

/// The items of a subscription at Stripe: product or price, and quantity.
fn items(subscription: &Value) -> Vec<(String, i64)> {
    let rows = subscription["items"]["data"].as_array().expect("items");
    let of = |item: &Value| {
        let price = item["price"]["id"].as_str().expect("a price").to_owned();
        (price, item["quantity"].as_i64().expect("a quantity"))
    };
    rows.iter().map(of).collect()
}

fn invoices(stage: &Stage, customer: &str) -> Vec<Value> {
    let mut all = stage.state().objects("invoice");
    all.retain(|invoice| invoice["customer"] == customer);
    all
}

fn paid(stage: &Stage, customer: &str) -> i64 {
    let charges = stage.state().paid_charges(customer);
    charges
        .iter()
        .map(|c| c["amount"].as_i64().expect("an amount"))
        .sum()
}

/// The price of a plan as it was made at Stripe.
fn price_of(stage: &Stage, plan: &str, interval: &str) -> String {
    let key = format!("rawdrive_{plan}_v1_usd_{interval}");
    let all = stage.state().objects("price");
    let found = all.iter().find(|price| price["lookup_key"] == key.as_str());
    id(found.unwrap_or_else(|| panic!("no {key}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plan_is_what_we_sell_wherever_it_stands_and_whatever_it_costs() {
    let stage = Stage::start().await;
    let (ada, api) = stage.subscriber("items", "professional").await;
    let customer = stage.customer(&ada);
    assert_eq!(
        (
            &subscription(&api).await["quantity"],
            &subscription(&api).await["addons"]
        ),
        (&json!(1), &json!([]))
    );
    let _ = api
        .post(
            &format!("{PATH}/cancel"),
            &json!({ "at_period_end": false }),
        )
        .await
        .is(200);
    // The operator makes one by hand, with the add-on first.
    let (extra, plan) = (
        addon(&stage).await,
        price_of(&stage, "professional", "month"),
    );
    let form = [
        ("customer", customer.as_str()),
        ("items[0][price]", &extra),
        ("items[0][quantity]", "2"),
        ("items[1][price]", &plan),
        ("items[1][quantity]", "3"),
    ];
    let made = stage.stripe("/v1/subscriptions", &form).await;
    until_shown(&api, 10, "the plan is seen", |shown| {
        shown["plan"] == "professional" && shown["status"] == "active"
    })
    .await;
    let shown = subscription(&api).await;
    assert_eq!(
        (&shown["interval"], &shown["quantity"]),
        (&json!("month"), &json!(3)),
        "{shown}"
    );
    let addons = shown["addons"].as_array().expect("a list");
    assert_eq!(addons.len(), 1, "{shown}");
    assert_eq!(
        (
            &addons[0]["price"],
            &addons[0]["quantity"],
            &addons[0]["amount"]
        ),
        (&json!(extra), &json!(2), &json!(700)),
        "{shown}"
    );

    // A price that was negotiated, on the product that we sell, is that plan.
    let negotiated = price(
        &stage,
        &[
            ("unit_amount", "2500"),
            ("product", "rawdrive_professional_v1"),
        ],
    )
    .await;
    let item = &made["items"]["data"][1]["id"];
    let form = [
        ("items[0][id]", item.as_str().expect("an id")),
        ("items[0][price]", negotiated.as_str()),
        ("items[0][quantity]", "3"),
        ("proration_behavior", "none"),
    ];
    let _ = stage
        .stripe(&format!("/v1/subscriptions/{}", id(&made)), &form)
        .await;
    stage.settled().await;
    let shown = subscription(&api).await;
    assert_eq!(
        (&shown["plan"], &shown["plan_version"], &shown["quantity"]),
        (&json!("professional"), &json!(1), &json!(3)),
        "{shown}"
    );
    // Who asks for the plan that is there keeps what was negotiated.
    let _ = api
        .patch(PATH, &order("professional", "month"))
        .await
        .is(200);
    let now = items(&only(&stage, &customer));
    assert_eq!(now, [(extra.clone(), 2), (negotiated.clone(), 3)]);
    let found = stage
        .server
        .admin(&["stripe", "reconcile", "--dry-run", "--json"])
        .await
        .succeeded();
    let found: Value = serde_json::from_str(&found.stdout).expect("JSON");
    assert_eq!(found["drift"], json!([]), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_touches_the_plan_alone_and_costs_what_its_preview_said() {
    let stage = Stage::start().await;
    let (ada, api) = stage.subscriber("seats", "professional").await;
    let customer = stage.customer(&ada);
    let extra = addon(&stage).await;
    let stripe_id = id(&only(&stage, &customer));
    let path = format!("/v1/subscriptions/{stripe_id}");
    let item = only(&stage, &customer)["items"]["data"][0]["id"].clone();
    let form = [
        ("items[0][id]", item.as_str().expect("an id")),
        ("items[0][quantity]", "3"),
        ("items[1][price]", extra.as_str()),
        ("items[1][quantity]", "2"),
        ("proration_behavior", "none"),
    ];
    let _ = stage.stripe(&path, &form).await;
    until_shown(&api, 10, "three of it", |shown| shown["quantity"] == 3).await;
    stage.turn(TimeDelta::days(10));
    stage.settled().await;

    // At once.
    let mut body = order("studio", "month");
    let seen = preview(&api, &body).await;
    assert_eq!(seen["amount_next"], 3 * 9_900 + 2 * 700, "{seen}");
    let before = paid(&stage, &customer);
    body["commit_token"] = seen["commit_token"].clone();
    let changed = api.patch(PATH, &body).await.is(200).json();
    assert_eq!(
        (&changed["plan"], &changed["quantity"]),
        (&json!("studio"), &json!(3)),
        "{changed}"
    );
    let studio = price_of(&stage, "studio", "month");
    let now = items(&only(&stage, &customer));
    assert_eq!(now, [(studio.clone(), 3), (extra.clone(), 2)]);
    let charged = paid(&stage, &customer) - before;
    assert_eq!(json!(charged), seen["amount_now"], "{seen}");

    // At the period's end: the add-on and the quantity are there before and after.
    let mut body = order("professional", "month");
    let seen = preview(&api, &body).await;
    assert_eq!(
        (
            &seen["effective"],
            &seen["amount_now"],
            &seen["amount_next"]
        ),
        (
            &json!("at_period_end"),
            &json!(0),
            &json!(3 * 2_900 + 2 * 700)
        ),
        "{seen}"
    );
    body["commit_token"] = seen["commit_token"].clone();
    let changed = api.patch(PATH, &body).await.is(200).json();
    assert_eq!(changed["scheduled"]["plan"], "professional", "{changed}");
    let now = items(&only(&stage, &customer));
    assert_eq!(now, [(studio, 3), (extra.clone(), 2)]);
    stage.settled().await;
    let count = invoices(&stage, &customer).len();
    stage.turn(TimeDelta::days(22));
    until_shown(&api, 15, "the smaller plan", |shown| {
        shown["plan"] == "professional" && shown["quantity"] == 3
    })
    .await;
    let plan = price_of(&stage, "professional", "month");
    let now = items(&only(&stage, &customer));
    assert_eq!(now, [(plan, 3), (extra, 2)]);
    stage.settled().await;
    let made = &invoices(&stage, &customer)[count..];
    assert_eq!(made.len(), 1, "{made:#?}");
    assert_eq!(made[0]["total"], seen["amount_next"], "{seen} {made:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn previews_know_of_credit_and_of_quantity() {
    let stage = Stage::start().await;
    // A first purchase costs what it costs before there is anybody at Stripe.
    let (ada, api) = stage.owner("credit").await;
    let seen = preview(&api, &order("professional", "month")).await;
    assert_eq!(
        (
            &seen["amount_now"],
            &seen["amount_next"],
            &seen["effective"]
        ),
        (&json!(2_900), &json!(2_900), &json!("now")),
        "{seen}"
    );
    assert_eq!(stage.state().count("customer"), 0);
    assert!(
        stage
            .state()
            .calls_to("POST", "/v1/invoices/create_preview")
            > 0
    );
    let seen = preview(&api, &order("trial", "month")).await;
    assert_eq!(
        (
            &seen["amount_now"],
            &seen["amount_next"],
            &seen["next_charge_at"]
        ),
        (&json!(0), &json!(1_900), &json!("2026-12-08T10:00:00Z")),
        "{seen}"
    );

    // With 50.00 of credit nothing is charged.
    let _ = subscribe(&api, "professional", "pm_card_visa")
        .await
        .is(201);
    let customer = stage.customer(&ada);
    let _ = api
        .post(
            &format!("{PATH}/cancel"),
            &json!({ "at_period_end": false }),
        )
        .await
        .is(200);
    let form = [("amount", "-5000"), ("currency", "usd")];
    let path = format!("/v1/customers/{customer}/balance_transactions");
    let _ = stage.stripe(&path, &form).await;
    let seen = preview(&api, &order("professional", "month")).await;
    assert_eq!(seen["amount_now"], 0, "{seen}");
    let before = paid(&stage, &customer);
    let _ = subscribe(&api, "professional", "pm_card_visa")
        .await
        .is(201);
    assert_eq!(paid(&stage, &customer) - before, 0);

    // Three of it, for a year.
    let (eve, api) = stage.subscriber("yearly", "professional").await;
    let customer = stage.customer(&eve);
    let now = only(&stage, &customer);
    let form = [
        (
            "items[0][id]",
            now["items"]["data"][0]["id"].as_str().expect("an id"),
        ),
        ("items[0][quantity]", "3"),
        ("proration_behavior", "none"),
    ];
    let _ = stage
        .stripe(&format!("/v1/subscriptions/{}", id(&now)), &form)
        .await;
    until_shown(&api, 10, "three of it", |shown| shown["quantity"] == 3).await;
    let mut body = order("professional", "year");
    let seen = preview(&api, &body).await;
    // A year costs less than twelve months: it begins when this month ends.
    assert_eq!(
        (
            &seen["effective"],
            &seen["amount_now"],
            &seen["amount_next"]
        ),
        (&json!("at_period_end"), &json!(0), &json!(3 * 29_000)),
        "{seen}"
    );
    body["commit_token"] = seen["commit_token"].clone();
    let _ = api.patch(PATH, &body).await.is(200);
    stage.settled().await;
    let before = paid(&stage, &customer);
    stage.turn(TimeDelta::days(31));
    until_shown(&api, 15, "a year", |shown| {
        shown["interval"] == "year" && shown["quantity"] == 3
    })
    .await;
    assert_eq!(paid(&stage, &customer) - before, 3 * 29_000);
}
