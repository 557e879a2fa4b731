//! What owners ask for and what their cards answer: the subscription's life over HTTP, against a double of Stripe.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use e2e::{Api, Server, image};
use rawdrive_stripe_double::{Fault, Matching};
use serde_json::{Value, json};

use crate::crash::until;
use crate::stage::{
    FORM, Stage, access, actions, count_of, form_of, readiness, subscribe, subscription,
    until_shown,
};

fn order(plan: &str, interval: &str) -> Value {
    json!({ "plan": plan, "interval": interval })
}

async fn storage_limit(api: &Api) -> Value {
    let entitlements = api.get("/v1/entitlements").await.is(200).json();
    let limits = entitlements["limits"].as_array().expect("limits");
    let storage = limits
        .iter()
        .find(|limit| limit["metric"] == "storage_bytes");
    storage.expect("a limit of storage")["value"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preview_of_the_period_before_is_stale_and_no_conflict() {
    let stage = Stage::start().await;
    let (_, api) = stage.owner("late-to-commit").await;
    // A preview lives for half an hour; this one's period ends within it.
    let _ = subscribe(&api, "professional", "pm_card_visa")
        .await
        .is(201);
    stage.turn(TimeDelta::days(27));
    let ends = subscription(&api).await["current_period_end"].clone();
    let ends: DateTime<Utc> = serde_json::from_value(ends).expect("a time");
    stage.turn_to(ends - TimeDelta::minutes(5));
    let mut body = json!({ "plan": "studio", "interval": "month" });
    let seen = api.post("/v1/billing/subscription/preview", &body).await;
    body["commit_token"] = seen.is(200).json()["commit_token"].clone();
    stage.turn_to(ends + TimeDelta::minutes(10));
    stage.settled().await;
    api.patch("/v1/billing/subscription", &body)
        .await
        .problem(409, "plan_change_stale");
    body["commit_token"] = json!("-99999999.aaaa");
    api.patch("/v1/billing/subscription", &body)
        .await
        .problem(409, "plan_change_stale");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_is_active_with_its_answer_and_limits_follow_at_once() {
    let stage = Stage::start().await;
    let (ada, api) = stage.owner("ada").await;
    let before = subscription(&api).await;
    assert_eq!(
        (&before["plan"], &before["status"], &before["interval"]),
        (&json!("free"), &json!("none"), &Value::Null)
    );
    assert_eq!(storage_limit(&api).await, json!(5_u64 << 30));

    let made = subscribe(&api, "professional", "pm_card_visa")
        .await
        .is(201)
        .json();
    for (member, value) in [
        ("plan", json!("professional")),
        ("plan_version", json!(1)),
        ("status", json!("active")),
        ("interval", json!("month")),
        ("currency", json!("usd")),
        ("current_period_end", json!("2026-12-24T10:00:00Z")),
        ("cancel_at_period_end", json!(false)),
        ("grace_until", Value::Null),
    ] {
        assert_eq!(made[member], value, "{member}: {made}");
    }
    assert_eq!(storage_limit(&api).await, json!(500_u64 << 30));
    assert_eq!(subscription(&api).await, made);
    let customer = stage.customer(&ada);
    assert_eq!(stage.state().paid_charges(&customer).len(), 1);

    until(10, "the invoice is projected", async || {
        !api.list_all("/v1/billing/invoices", 1).await.is_empty()
    })
    .await;
    let invoices = api.list_all("/v1/billing/invoices", 1).await;
    let [invoice] = invoices.as_slice() else {
        panic!("{invoices:#?}")
    };
    assert_eq!(
        (
            &invoice["status"],
            &invoice["total"],
            &invoice["amount_paid"],
            &invoice["currency"]
        ),
        (&json!("paid"), &json!(2900), &json!(2900), &json!("usd")),
        "{invoice}"
    );
    assert!(
        invoice["number"].is_string() && invoice["hosted_url"].is_string(),
        "{invoice}"
    );

    stage.webhooks_arrived();
    for action in ["subscription.created", "plan.changed", "invoice.paid"] {
        until(10, action, async || count_of(&api, action).await == 1).await;
    }
    subscribe(&api, "professional", "pm_card_visa")
        .await
        .problem(409, "conflict");
    assert_eq!(stage.subscriptions(&customer).len(), 1);
    stage.server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_charges_once_and_two_at_once_make_one_subscription() {
    let stage = Stage::start().await;
    let (ada, api) = stage.owner("twice").await;
    let ask = async || {
        let body = json!({ "plan": "professional", "interval": "month", "payment_method_id": "pm_card_visa" });
        let request = api
            .request(reqwest::Method::POST, "/v1/billing/subscription")
            .json(&body);
        api.send(request.header("idempotency-key", "once")).await
    };
    let first = ask().await.is(201);
    let second = ask().await.is(201);
    assert_eq!(second.header("idempotency-replayed"), "true");
    assert_eq!(first.body, second.body);
    assert_eq!(stage.state().paid_charges(&stage.customer(&ada)).len(), 1);

    let (eve, api) = stage.owner("at-once").await;
    let asked = (0..8).map(|_| subscribe(&api, "professional", "pm_card_visa"));
    let answers = futures_util::future::join_all(asked).await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    assert!(made >= 1, "{answers:#?}");
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!(answer.status, 409, "{answer:?}");
    }
    let customer = stage.customer(&eve);
    assert_eq!(stage.subscriptions(&customer).len(), 1);
    assert_eq!(stage.state().paid_charges(&customer).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declined_card_leaves_nothing_and_another_card_pays() {
    let stage = Stage::start().await;
    let (ada, api) = stage.owner("declined").await;
    let answer = subscribe(
        &api,
        "professional",
        "pm_card_chargeDeclinedInsufficientFunds",
    )
    .await;
    let problem = answer.problem(402, "payment_declined");
    assert_eq!(problem["decline_code"], "insufficient_funds");
    assert_eq!(subscription(&api).await["plan"], "free");
    assert_eq!(
        stage.state().paid_charges(&stage.customer(&ada)),
        Vec::<Value>::new()
    );
    let answer = subscribe(&api, "professional", "pm_nobody_has_this").await;
    let problem = answer.problem(422, "validation_failed");
    assert_eq!(problem["errors"][0]["field"], "payment_method_id");
    let _ = subscribe(&api, "professional", "pm_card_visa")
        .await
        .is(201);
    assert_eq!(subscription(&api).await["status"], "active");
    assert_eq!(stage.state().paid_charges(&stage.customer(&ada)).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_that_must_be_confirmed_goes_on_when_it_is() {
    let stage = Stage::start().await;
    let (ada, api) = stage.owner("secure").await;
    let answer = subscribe(&api, "professional", "pm_card_authenticationRequired").await;
    let problem = answer.problem(402, "payment_action_required");
    let secret = problem["client_secret"]
        .as_str()
        .expect("a client secret")
        .to_owned();
    let (intent, _) = secret
        .split_once("_secret_")
        .expect("the secret names its intent");
    until_shown(&api, 10, "it waits", |shown| {
        shown["status"] == "incomplete"
    })
    .await;
    assert_eq!(subscription(&api).await["plan"], "free");
    stage
        .faults()
        .authenticate(intent, true)
        .expect("the intent waits");
    until_shown(&api, 10, "it is active", |shown| {
        shown["status"] == "active" && shown["plan"] == "professional"
    })
    .await;
    assert_eq!(stage.state().paid_charges(&stage.customer(&ada)).len(), 1);
    assert!(
        !stage.server.log().contains(&secret),
        "the log holds the client secret"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_is_asked_for_no_other_currency_and_nobody_is_called() {
    let stage = Stage::start().await;
    let euro = stage.owner_in("euro", "eur").await;
    let calls = stage.state().calls().len();
    let mut body = order("professional", "month");
    euro.post("/v1/billing/subscription/preview", &body)
        .await
        .problem(409, "currency_mismatch");
    body["payment_method_id"] = json!("pm_card_visa");
    let problem = euro
        .post("/v1/billing/subscription", &body)
        .await
        .problem(409, "currency_mismatch");
    assert_eq!(problem["currency"], "eur");
    let mut body = order("professional", "month");
    body["success_url"] = json!("https://studio.example/done");
    body["cancel_url"] = json!("https://studio.example/back");
    euro.post("/v1/billing/checkout", &body)
        .await
        .problem(409, "currency_mismatch");
    assert_eq!(stage.state().calls().len(), calls);
    // What is sold in its currency it can have.
    let made = subscribe(&euro, "studio", "pm_card_visa")
        .await
        .is(201)
        .json();
    assert_eq!(
        (&made["currency"], &made["status"]),
        (&json!("eur"), &json!("active"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_costs_what_its_preview_said_and_a_stale_preview_holds_nobody() {
    let stage = Stage::start().await;
    let (ada, api) = stage.subscriber("change", "professional").await;
    let customer = stage.customer(&ada);
    stage.turn(TimeDelta::days(10));
    let seen = api
        .post(
            "/v1/billing/subscription/preview",
            &order("studio", "month"),
        )
        .await
        .is(200)
        .json();
    assert_eq!(
        (&seen["effective"], &seen["currency"]),
        (&json!("now"), &json!("usd")),
        "{seen}"
    );
    assert!(
        seen["amount_now"].as_i64().is_some_and(|amount| amount > 0),
        "{seen}"
    );
    let mut body = order("studio", "month");
    body["commit_token"] = seen["commit_token"].clone();
    let changed = api
        .patch("/v1/billing/subscription", &body)
        .await
        .is(200)
        .json();
    assert_eq!(
        (&changed["plan"], &changed["status"]),
        (&json!("studio"), &json!("active")),
        "{changed}"
    );
    assert_eq!(storage_limit(&api).await, json!(2000_u64 << 30));
    let charges = stage.state().paid_charges(&customer);
    assert_eq!(
        charges.last().map(|charge| &charge["amount"]),
        Some(&seen["amount_now"]),
        "{charges:#?}"
    );
    // The facts have moved: the token was of a change from professional.
    api.patch("/v1/billing/subscription", &body)
        .await
        .problem(409, "plan_change_stale");
    body["commit_token"] = json!("1.ab");
    api.patch("/v1/billing/subscription", &body)
        .await
        .problem(409, "plan_change_stale");
    assert_eq!(stage.state().paid_charges(&customer).len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_smaller_plan_waits_for_the_periods_end_and_says_first_what_it_would_break() {
    let stage = Stage::start().await;
    let (_, api) = stage.subscriber("smaller", "studio").await;
    let gallery = api.gallery("Wedding").await;
    for photo in 0..3 {
        let _ = api
            .upload(&gallery, image::jpeg(4_000, photo), "image/jpeg")
            .await
            .is(201);
    }
    let seen = api
        .post(
            "/v1/billing/subscription/preview",
            &order("professional", "month"),
        )
        .await
        .is(200)
        .json();
    assert_eq!(
        (
            &seen["effective"],
            &seen["amount_now"],
            &seen["amount_next"]
        ),
        (&json!("at_period_end"), &json!(0), &json!(2900)),
        "{seen}"
    );
    let broken = json!([{ "metric": "photos", "subject": gallery, "used": 3, "limit": 1, "over": 2, "members": [] }]);
    assert_eq!(seen["exceeded"], broken);
    let mut body = order("professional", "month");
    body["commit_token"] = seen["commit_token"].clone();
    let changed = api
        .patch("/v1/billing/subscription", &body)
        .await
        .is(200)
        .json();
    assert_eq!(
        (&changed["plan"], &changed["scheduled"]["plan"]),
        (&json!("studio"), &json!("professional")),
        "{changed}"
    );
    // Taken back, and wanted again.
    let back = api
        .post("/v1/billing/subscription/resume", &json!({}))
        .await
        .is(200)
        .json();
    assert_eq!(back["scheduled"], Value::Null, "{back}");
    let _ = api
        .patch("/v1/billing/subscription", &order("professional", "month"))
        .await
        .is(200);
    stage.turn(TimeDelta::days(31));
    until_shown(&api, 15, "the smaller plan", |shown| {
        shown["plan"] == "professional"
    })
    .await;
    // Nothing is deleted; nothing more is taken.
    assert_eq!(
        api.list_all(&format!("/v1/galleries/{gallery}/photos"), 10)
            .await
            .len(),
        3
    );
    let problem = api
        .upload(&gallery, image::jpeg(4_000, 9), "image/jpeg")
        .await
        .problem(402, "quota_exceeded");
    assert_eq!(
        (&problem["metric"], &problem["plan"]),
        (&json!("photos"), &json!("professional"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_can_be_taken_back_until_it_comes() {
    let stage = Stage::start().await;
    let (_, api) = stage.subscriber("ends", "professional").await;
    let path = "/v1/billing/subscription";
    let ending = api
        .post(&format!("{path}/cancel"), &json!({ "at_period_end": true }))
        .await
        .is(200)
        .json();
    assert_eq!(
        (&ending["status"], &ending["cancel_at_period_end"]),
        (&json!("active"), &json!(true))
    );
    let back = api
        .post(&format!("{path}/resume"), &json!({}))
        .await
        .is(200)
        .json();
    assert_eq!(
        (&back["status"], &back["cancel_at_period_end"]),
        (&json!("active"), &json!(false))
    );
    // A plan without a price ends it when what was paid for is over.
    let ending = api
        .patch(path, &order("free", "month"))
        .await
        .is(200)
        .json();
    assert_eq!(
        (&ending["plan"], &ending["cancel_at_period_end"]),
        (&json!("professional"), &json!(true))
    );
    let ended = api
        .post(
            &format!("{path}/cancel"),
            &json!({ "at_period_end": false }),
        )
        .await
        .is(200)
        .json();
    assert_eq!(
        (&ended["plan"], &ended["status"]),
        (&json!("free"), &json!("canceled")),
        "{ended}"
    );
    api.post(&format!("{path}/resume"), &json!({}))
        .await
        .problem(409, "conflict");
    api.post(&format!("{path}/cancel"), &json!({}))
        .await
        .problem(409, "conflict");
    until(10, "it is told once", async || {
        count_of(&api, "subscription.ended").await == 1
    })
    .await;
    let _ = subscribe(&api, "professional", "pm_card_visa")
        .await
        .is(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_pays_on_the_hosted_page_is_subscribed() {
    let stage = Stage::start().await;
    let (ada, api) = stage.owner("hosted").await;
    api.post(
        "/v1/billing/portal",
        &json!({ "return_url": "https://studio.example" }),
    )
    .await
    .problem(409, "conflict");
    let mut body = order("professional", "month");
    body["success_url"] = json!("https://studio.example/done");
    body["cancel_url"] = json!("javascript:alert(1)");
    let problem = api
        .post("/v1/billing/checkout", &body)
        .await
        .problem(422, "validation_failed");
    assert_eq!(problem["errors"][0]["field"], "cancel_url");
    body["cancel_url"] = json!("https://studio.example/back");
    let first = api
        .post("/v1/billing/checkout", &body)
        .await
        .is(200)
        .text("url");
    let url = api
        .post("/v1/billing/checkout", &body)
        .await
        .is(200)
        .text("url");
    assert!(
        url.starts_with(&stage.double.url()) && url != first,
        "{url}"
    );
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client");
    let pay = |url: &str| {
        let request = client.post(url).header("content-type", FORM);
        request.body(form_of(&[("card", "4242424242424242")]))
    };
    let paid = pay(&url).send().await.expect("the page answers");
    assert_eq!(paid.headers()["location"], "https://studio.example/done");
    until_shown(&api, 10, "it is active", |shown| {
        shown["status"] == "active" && shown["plan"] == "professional"
    })
    .await;
    // The page that was opened first is closed: nobody pays twice.
    let _ = pay(&first).send().await.expect("the page answers");
    assert_eq!(stage.subscriptions(&stage.customer(&ada)).len(), 1);
    let portal = api
        .post(
            "/v1/billing/portal",
            &json!({ "return_url": "https://studio.example" }),
        )
        .await
        .is(200)
        .text("url");
    assert!(portal.starts_with(&stage.double.url()), "{portal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_needs_no_card_ends_read_only_without_one_and_goes_on_with_one() {
    let stage = Stage::start().await;
    let (ada, api) = stage.owner("trial").await;
    let made = api
        .post("/v1/billing/subscription", &order("trial", "month"))
        .await
        .is(201)
        .json();
    assert_eq!(
        (&made["status"], &made["trial_end"]),
        (&json!("trialing"), &json!("2026-12-08T10:00:00Z")),
        "{made}"
    );
    stage.turn(TimeDelta::days(15));
    until(15, "the trial is over", async || {
        access(&api).await == "read_only"
    })
    .await;
    let problem = api
        .post("/v1/libraries", &json!({ "name": "No" }))
        .await
        .problem(402, "workspace_read_only");
    assert_eq!(problem["reason"], "trial_ended");

    // What leads nowhere says what would lead out.
    for (path, body) in [
        ("", Some(order("professional", "month"))),
        ("/resume", None),
    ] {
        let path = format!("/v1/billing/subscription{path}");
        let answer = match body {
            Some(body) => api.patch(&path, &body).await,
            None => api.post(&path, &json!({})).await,
        };
        let problem = answer.problem(409, "conflict");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains("without a payment method"), "{detail}");
    }
    let shown = api
        .post("/v1/billing/subscription/preview", &order("trial", "month"))
        .await
        .is(200)
        .json();
    assert_eq!(
        (&shown["effective"], &shown["amount_now"]),
        (&json!("now"), &json!(1_900)),
        "{shown}"
    );
    let _ = subscribe(&api, "trial", "pm_card_chargeCustomerFail")
        .await
        .problem(402, "payment_declined");
    assert_eq!(access(&api).await, "read_only");
    let made = subscribe(&api, "trial", "pm_card_visa")
        .await
        .is(201)
        .json();
    assert_eq!(
        (&made["status"], &made["trial_end"]),
        (&json!("active"), &Value::Null),
        "{made}"
    );
    assert_eq!(access(&api).await, "full");
    let customer = stage.customer(&ada);
    until(15, "the first has ended", async || {
        let all = stage.subscriptions(&customer);
        let lasting = all.iter().filter(|s| s["status"] == "active");
        lasting.count() == 1 && all.iter().all(|s| s["status"] != "paused")
    })
    .await;
    assert_eq!(stage.state().paid_charges(&customer).len(), 1);
    until(15, "its end is told", async || {
        count_of(&api, "subscription.ended").await == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_grants_nothing_can_be_ended_or_changed_all_the_same() {
    let stage = Stage::start().await;
    // A payment that waits to be confirmed.
    let (_, api) = stage.owner("waits").await;
    let _ = subscribe(&api, "professional", "pm_card_authenticationRequired")
        .await
        .problem(402, "payment_action_required");
    until_shown(&api, 10, "it waits", |shown| {
        shown["status"] == "incomplete"
    })
    .await;
    let problem = api
        .patch("/v1/billing/subscription", &order("studio", "month"))
        .await
        .problem(409, "conflict");
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains("waits for its first payment"), "{detail}");
    let ended = api
        .post("/v1/billing/subscription/cancel", &json!({}))
        .await
        .is(200)
        .json();
    assert_eq!(
        (&ended["status"], &ended["plan"]),
        (&json!("none"), &json!("free")),
        "{ended}"
    );

    // A price that somebody made by hand grants nothing, until it is changed for one that is sold.
    let (ada, api) = stage.subscriber("by-hand", "professional").await;
    let made = stage
        .stripe(
            "/v1/prices",
            &[
                ("currency", "usd"),
                ("unit_amount", "700"),
                ("recurring[interval]", "month"),
                ("product_data[name]", "By hand"),
            ],
        )
        .await;
    let subscription_id = stage.subscriptions(&stage.customer(&ada))[0].clone();
    let item = &subscription_id["items"]["data"][0]["id"];
    let path = format!(
        "/v1/subscriptions/{}",
        subscription_id["id"].as_str().expect("an id")
    );
    let _ = stage
        .stripe(
            &path,
            &[
                ("items[0][id]", item.as_str().expect("an id")),
                ("items[0][price]", made["id"].as_str().expect("an id")),
                ("proration_behavior", "none"),
            ],
        )
        .await;
    until_shown(&api, 15, "it grants nothing", |shown| {
        shown["plan"] == "free" && shown["status"] == "active"
    })
    .await;
    let _ = subscribe(&api, "professional", "pm_card_visa")
        .await
        .problem(409, "conflict");
    let changed = api
        .patch("/v1/billing/subscription", &order("professional", "month"))
        .await
        .is(200)
        .json();
    assert_eq!(changed["plan"], "professional", "{changed}");
}

/// A subscriber whose renewal fails, and when that is forgiven no more.
async fn failed_renewal(stage: &Stage, name: &str) -> (e2e::Actor, Api, String, DateTime<Utc>) {
    let (ada, api) = stage.subscriber(name, "professional").await;
    let customer = stage.customer(&ada);
    for _ in 0..10 {
        stage
            .faults()
            .decline_next_charge(&customer, "insufficient_funds")
            .expect("a customer");
    }
    stage.turn(TimeDelta::days(30) + TimeDelta::hours(2));
    until_shown(&api, 15, "the failure is known", |shown| {
        shown["grace_until"].is_string()
    })
    .await;
    let shown = subscription(&api).await;
    let until: DateTime<Utc> = shown["grace_until"]
        .as_str()
        .and_then(|t| t.parse().ok())
        .expect("a time");
    assert_eq!(shown["status"], "past_due", "{shown}");
    (ada, api, customer, until)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_payment_is_forgiven_to_the_second_and_a_paid_one_at_once() {
    let stage = Stage::start().await;
    let (ada, api, customer, end) = failed_renewal(&stage, "grace").await;
    let workspace = api.get("/v1/workspace").await.is(200).json();
    assert_eq!(workspace["access"], "grace");
    assert_eq!(
        workspace["grace_until"],
        json!(end.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
    );
    let first = stage
        .state()
        .objects("charge")
        .into_iter()
        .find(|charge| charge["customer"] == customer.as_str() && charge["paid"] == false);
    let failed_at = first.expect("a failed charge")["created"]
        .as_i64()
        .expect("a time");
    assert_eq!(end.timestamp() - failed_at, 14 * 86_400);

    // Half of it, the last day: told as they come. Later failures do not extend it.
    stage.turn_to(end - TimeDelta::days(6));
    let said = |letters: &[String], words: &str| {
        letters
            .iter()
            .filter(|letter| letter.contains(words))
            .count()
    };
    until(20, "half is told", async || {
        said(
            &stage.server.letters_to(&ada.email, 0).await,
            "a payment is still missing",
        ) == 1
    })
    .await;
    stage.turn_to(end - TimeDelta::hours(3));
    until(20, "the last day is told", async || {
        said(
            &stage.server.letters_to(&ada.email, 0).await,
            "the last day to pay",
        ) == 1
    })
    .await;
    assert_eq!(
        said(
            &stage.server.letters_to(&ada.email, 0).await,
            "a payment failed"
        ),
        1
    );

    stage.turn_to(end - TimeDelta::seconds(1));
    stage.settled().await;
    let failed = stage.state().objects("charge").into_iter();
    let failed = failed.filter(|c| c["customer"] == customer.as_str() && c["paid"] == false);
    assert!(failed.count() > 1, "it was not tried again");
    assert_eq!(
        subscription(&api).await["grace_until"],
        workspace["grace_until"]
    );
    assert_eq!(access(&api).await, "grace");
    let library = api
        .post("/v1/libraries", &json!({ "name": "In time" }))
        .await
        .is(201)
        .text("id");
    stage.turn_to(end + TimeDelta::seconds(1));
    let problem = api
        .post("/v1/libraries", &json!({ "name": "Too late" }))
        .await
        .problem(402, "workspace_read_only");
    assert_eq!(
        (&problem["reason"], &problem["since"]),
        (&json!("payment_failed"), &workspace["grace_until"])
    );
    let upgrade = problem["upgrade_url"].as_str().expect("an address");
    assert!(upgrade.ends_with("/settings/billing/upgrade"), "{problem}");
    let _ = api.get(&format!("/v1/libraries/{library}")).await.is(200);
    let _ = api
        .delete(&format!("/v1/libraries/{library}"))
        .await
        .is(204);
    // Billing goes on, or nothing could ever change.
    let portal = api
        .post(
            "/v1/billing/portal",
            &json!({ "return_url": "https://studio.example" }),
        )
        .await
        .is(200);
    assert!(portal.text("url").starts_with(&stage.double.url()));

    // The queued declines end with the attempts that were made; another card pays what is owed.
    let owed = api.list_all("/v1/billing/invoices", 10).await;
    let owed: Vec<_> = owed
        .iter()
        .filter(|invoice| invoice["status"] == "open")
        .collect();
    let [owed] = owed.as_slice() else {
        panic!("{owed:#?}")
    };
    let pay = format!("/v1/invoices/{}/pay", owed["id"].as_str().expect("an id"));
    let _ = stage.stripe(&pay, &[("paid_out_of_band", "true")]).await;
    until(5, "a payment opens it at once", async || {
        access(&api).await == "full"
    })
    .await;
    let _ = api
        .post("/v1/libraries", &json!({ "name": "Again" }))
        .await
        .is(201);
    let log = actions(&api).await;
    assert_eq!(
        log.iter()
            .filter(|action| *action == "access.changed")
            .count(),
        2,
        "{log:#?}"
    );
    stage.server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_found_and_not_asked_for_again() {
    let stage = Stage::start().await;
    let (ada, api) = stage.owner("lost").await;
    for path in ["/v1/customers", "/v1/subscriptions"] {
        stage
            .faults()
            .next(1, Matching::new("POST", path), Fault::DropAnswer);
    }
    let _ = subscribe(&api, "professional", "pm_card_visa")
        .await
        .is(201);
    let customer = stage.customer(&ada);
    assert_eq!(stage.subscriptions(&customer).len(), 1);
    assert_eq!(stage.state().paid_charges(&customer).len(), 1);
    // A failure that Stripe stores under the key and keeps answering.
    let (eve, api) = stage.owner("stored").await;
    let stored = Fault::ServerError { committed: true };
    stage
        .faults()
        .next(1, Matching::new("POST", "/v1/subscriptions"), stored);
    let _ = subscribe(&api, "professional", "pm_card_visa")
        .await
        .is(201);
    let customer = stage.customer(&eve);
    assert_eq!(stage.subscriptions(&customer).len(), 1);
    assert_eq!(stage.state().paid_charges(&customer).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_stripe_is_down_requests_say_so_and_what_was_asked_goes_on_when_it_returns() {
    let stage = Stage::start().await;
    let (ada, api) = stage.owner("down").await;
    stage.faults().down(true);
    let answer = subscribe(&api, "professional", "pm_card_visa").await;
    answer.problem(503, "dependency_unavailable");
    let wait: u64 = answer.header("retry-after").parse().expect("seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    let says =
        async |status: &str| readiness(&stage.server, "stripe").await.as_deref() == Some(status);
    assert!(says("unavailable").await);
    // Everything else works.
    let _ = api
        .post("/v1/libraries", &json!({ "name": "Meanwhile" }))
        .await
        .is(201);
    assert_eq!(subscription(&api).await["status"], "none");
    stage.faults().down(false);
    until(20, "its return is seen", async || says("ok").await).await;
    // The customer is made by itself; who asks again joins what is under way, or begins where it ended.
    let mut status = 503;
    until(60, "it can be bought", async || {
        let answer = subscribe(&api, "professional", "pm_card_visa").await;
        status = answer.status;
        assert!([201, 409, 503].contains(&status), "{answer:?}");
        status == 201
    })
    .await;
    let customer = stage.customer(&ada);
    assert_eq!(stage.subscriptions(&customer).len(), 1);
    assert_eq!(stage.state().paid_charges(&customer).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_amid_a_call_finds_what_came_of_it() {
    let stage = Stage::start().await;
    let (ada, api) = stage.owner("killed").await;
    stage.faults().next(
        1,
        Matching::new("POST", "/v1/subscriptions"),
        Fault::HangAnswer,
    );
    let asked = tokio::spawn({
        let api = api.clone();
        async move {
            let body = json!({ "plan": "professional", "interval": "month", "payment_method_id": "pm_card_visa" });
            let request = api
                .request(reqwest::Method::POST, "/v1/billing/subscription")
                .json(&body);
            api.try_send(request).await
        }
    });
    until(20, "Stripe has done it", async || {
        stage.state().count("subscription") == 1
    })
    .await;
    stage.server.kill9();
    assert!(
        asked.await.expect("no panic").is_err(),
        "the answer was lost"
    );
    stage.faults().clear();
    stage.server.restart();
    until_shown(&api, 60, "it was found", |shown| {
        shown["status"] == "active" && shown["plan"] == "professional"
    })
    .await;
    let customer = stage.customer(&ada);
    assert_eq!(stage.subscriptions(&customer).len(), 1);
    assert_eq!(stage.state().paid_charges(&customer).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_without_stripe_says_so_and_grants_plans_that_end_by_themselves() {
    let server = Server::shared();
    let ada = server.sign_up("manual").await;
    assert_eq!(subscription(&ada).await["status"], "none");
    let body =
        json!({ "plan": "professional", "interval": "month", "payment_method_id": "pm_card_visa" });
    ada.post("/v1/billing/subscription", &body)
        .await
        .problem(503, "billing_not_configured");
    ada.post("/v1/billing/subscription/cancel", &json!({}))
        .await
        .problem(503, "billing_not_configured");
    assert_eq!(
        ada.list_all("/v1/billing/invoices", 1).await,
        Vec::<Value>::new()
    );
    let output = server.admin(&["stripe", "sync-plans"]).await;
    assert!(
        output.code == Some(1) && output.stderr.contains("STRIPE_SECRET_KEY"),
        "{output:?}"
    );

    let stage = Stage::start().await;
    let (eve, api) = stage.owner("granted").await;
    let end = "2026-12-01T00:00:00Z";
    let grant = [
        "admin",
        "set-plan",
        "--workspace",
        &eve.workspace_id,
        "--plan",
        "studio",
        "--until",
        end,
        "--reason",
        "a favour",
    ];
    let _ = stage.server.admin(&grant).await.succeeded();
    let shown = subscription(&api).await;
    assert_eq!(
        (&shown["plan"], &shown["status"]),
        (&json!("studio"), &json!("none")),
        "{shown}"
    );
    assert_eq!(shown["grant"], json!({ "plan": "studio", "until": end }));
    stage.turn_to(end.parse().expect("a time"));
    // By the passing of time alone, from the same request on.
    assert_eq!(subscription(&api).await["plan"], "free");
    assert_eq!(storage_limit(&api).await, json!(5_u64 << 30));
    assert_eq!(
        api.get("/v1/workspace").await.is(200).json()["plan"],
        "free"
    );
    until(15, "the end is written down", async || {
        count_of(&api, "plan.changed").await == 2
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(count_of(&api, "plan.changed").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_are_synced_once_and_a_dry_run_makes_nothing() {
    let stage = Stage::start().await;
    let prices = stage.state().count("price");
    assert_eq!(prices, 5);
    let again = stage
        .server
        .admin(&["stripe", "sync-plans", "--json"])
        .await
        .succeeded();
    let again: Value = serde_json::from_str(&again.stdout).expect("JSON");
    let findings: Vec<_> = again["prices"]
        .as_array()
        .expect("prices")
        .iter()
        .map(|p| &p["finding"])
        .collect();
    assert_eq!(findings, ["present"; 5]);
    assert_eq!(stage.state().count("price"), prices);
    let found = stage
        .server
        .admin(&["stripe", "reconcile", "--dry-run", "--json"])
        .await
        .succeeded();
    let found: Value = serde_json::from_str(&found.stdout).expect("JSON");
    assert_eq!(found["drift"], json!([]), "{found}");
    assert!(!stage.server.log().contains(crate::stage::SECRET_KEY));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invoice_that_cannot_become_final_is_told_of_and_costs_nobody_anything() {
    let stage = Stage::start().await;
    let (ada, api) = stage.subscriber("final", "professional").await;
    let customer = stage.customer(&ada);
    stage
        .faults()
        .fail_next_finalization(&customer, "customer_tax_location_invalid")
        .expect("the customer is there");
    stage.turn(TimeDelta::days(32));
    let failed = async || {
        let log = api.list_all("/v1/workspace/audit", 50).await;
        let failed = |entry: &&Value| entry["action"] == "invoice.finalization_failed";
        log.iter().filter(failed).count()
    };
    until(60, "the failure is in the log", async || failed().await > 0).await;
    let shown = subscription(&api).await;
    assert_eq!(
        (&shown["plan"], &shown["status"]),
        (&json!("professional"), &json!("active")),
        "{shown}"
    );
    let invoices = api.list_all("/v1/billing/invoices", 10).await;
    let draft = invoices.iter().find(|invoice| invoice["status"] == "draft");
    let draft = draft.unwrap_or_else(|| panic!("no draft: {invoices:#?}"));
    assert_eq!(draft["number"], Value::Null, "{draft}");

    // Mended and finalized by hand, it is an invoice as any other, and the failure is told once.
    let path = format!("/v1/invoices/{}", draft["id"].as_str().expect("an id"));
    let _ = stage.stripe(&format!("{path}/finalize"), &[]).await;
    let _ = stage.stripe(&format!("{path}/pay"), &[]).await;
    until(60, "it is paid", async || {
        let invoices = api.list_all("/v1/billing/invoices", 10).await;
        invoices.len() == 2 && invoices.iter().all(|invoice| invoice["status"] == "paid")
    })
    .await;
    stage.webhooks_arrived();
    assert_eq!(failed().await, 1);
    assert_eq!(stage.state().paid_charges(&customer).len(), 2);
    stage.server.assert_healthy().await;
}
