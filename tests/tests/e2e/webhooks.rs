//! What Stripe tells, and what somebody pretends it told: order, repetition, loss.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use e2e::{Answer, Api, outage};
use rawdrive_stripe_double::DeliveryOrder;
use reqwest::Method;
use serde_json::{Value, json};

use crate::crash::until;
use crate::stage::{
    Stage, WEBHOOK_SECRET, all_projected, count_of, subscribe, subscription, until_shown,
};

const PATH: &str = "/v1/webhooks/stripe";

pub(crate) fn tag(secret: &str, time: i64, body: &[u8]) -> String {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
    let signed = [format!("{time}.").as_bytes(), body].concat();
    let tag = aws_lc_rs::hmac::sign(&key, &signed);
    tag.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

pub(crate) async fn post(api: &Api, signature: Option<&str>, body: impl Into<Vec<u8>>) -> Answer {
    let request = api
        .request(Method::POST, PATH)
        .header("content-type", "application/json");
    let request = match signature {
        Some(signature) => request.header("stripe-signature", signature),
        None => request,
    };
    api.send(request.body(body.into())).await
}

/// Posts an event as Stripe signs it at this time.
async fn tell(stage: &Stage, event: &Value) -> Answer {
    let body = event.to_string();
    let time = stage.now().timestamp();
    let signature = format!("t={time},v1={}", tag(WEBHOOK_SECRET, time, body.as_bytes()));
    post(&stage.server.anonymous(), Some(&signature), body).await
}

fn event(id: &str, kind: &str, object: Value) -> Value {
    json!({ "id": id, "object": "event", "type": kind, "created": 1, "livemode": false, "data": { "object": object } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_event_is_taken_and_a_huge_one_is_not() {
    let stage = Stage::start().await;
    let padded = |id: &str, size: usize| {
        event(
            id,
            "customer.tax_id.created",
            json!({ "id": "txi_1", "padding": "x".repeat(size) }),
        )
    };
    let _ = tell(&stage, &padded("evt_large", 300_000)).await.is(200);
    let problem = tell(&stage, &padded("evt_huge", 5_000_000))
        .await
        .problem(413, "payload_too_large");
    assert_eq!(problem["limit"], 1024 * 1024);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_comes_a_hundred_times_at_once_has_one_effect() {
    let stage = Stage::start().await;
    let (ada, api) = stage.subscriber("hundred", "professional").await;
    stage.settled().await;
    let customer = stage.customer(&ada);
    let events = stage.state().events();
    let about = |event: &&Value| event["data"]["object"]["customer"] == customer.as_str();
    let told: Vec<_> = events.iter().filter(about).collect();
    assert!(told.len() >= 3, "{told:#?}");
    let fresh = event(
        "evt_hundred",
        "invoice.paid",
        told.iter()
            .find(|event| event["type"] == "invoice.paid")
            .expect("it was paid")["data"]["object"]
            .clone(),
    );
    let before = crate::stage::actions(&api).await;
    let posts = (0..100).map(|_| tell(&stage, &fresh));
    for answer in futures_util::future::join_all(posts).await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    for event in told {
        let _ = tell(&stage, event).await.is(200);
    }
    stage.settled().await;
    assert_eq!(crate::stage::actions(&api).await, before);
    stage.server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_kept_and_changes_nothing() {
    let stage = Stage::start().await;
    let (ada, api) = stage.subscriber("named", "professional").await;
    let (eve, evil) = stage.subscriber("names", "studio").await;
    let (hers, ours) = (stage.customer(&eve), stage.customer(&ada));
    stage.settled().await;
    let before = subscription(&api).await;
    // A customer whom nobody made through the product, with a subscription.
    let stranger = stage
        .stripe("/v1/customers", &[("email", "stranger@example.test")])
        .await;
    let stranger = stranger["id"].as_str().expect("an id").to_owned();
    // What Eve's subscription says of itself is Ada's workspace; whose it is, its customer says.
    let own = stage.subscriptions(&hers).remove(0);
    let path = format!("/v1/subscriptions/{}", own["id"].as_str().expect("an id"));
    let _ = stage
        .stripe(
            &path,
            &[("metadata[rawdrive_workspace]", &ada.workspace_id)],
        )
        .await;
    let _ = stage
        .stripe(
            &format!("/v1/customers/{stranger}"),
            &[("metadata[rawdrive_workspace]", &ada.workspace_id)],
        )
        .await;
    stage.webhooks_arrived();
    until(10, "the stranger waits", async || {
        let report = stage.server.admin(&["doctor", "--json"]).await.succeeded();
        report
            .stdout
            .contains("wait for a customer that no workspace has")
    })
    .await;
    assert_eq!(subscription(&api).await, before);
    assert_eq!(subscription(&evil).await["plan"], "studio");
    assert_eq!(stage.subscriptions(&ours).len(), 1);
    // Of the other mode, and about nothing that is known.
    let object = json!({ "id": own["id"], "customer": ours });
    let mut other_mode = event("evt_live", "customer.subscription.deleted", object);
    other_mode["livemode"] = json!(true);
    let _ = tell(&stage, &other_mode).await.is(200);
    let unknown = event(
        "evt_unknown",
        "starship.launched",
        json!({ "id": "ship_1", "customer": ours }),
    );
    let _ = tell(&stage, &unknown).await.is(200);
    let lie = event(
        "evt_lie",
        "customer.subscription.deleted",
        json!({ "id": stage.subscriptions(&ours)[0]["id"], "customer": ours, "status": "canceled" }),
    );
    let _ = tell(&stage, &lie).await.is(200);
    stage.settled().await;
    // An event is a hint: what it says is fetched, and is otherwise.
    assert_eq!(subscription(&api).await, before);
    let replayed = stage
        .server
        .admin(&["stripe", "replay", "--json"])
        .await
        .succeeded();
    let replayed: Value = serde_json::from_str(&replayed.stdout).expect("JSON");
    assert!(
        replayed["touched"]
            .as_u64()
            .is_some_and(|touched| touched >= 1),
        "{replayed}"
    );
    assert_eq!(subscription(&api).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_may_be_told_before_the_beginning() {
    let stage = Stage::start().await;
    stage.faults().hold_webhooks(true);
    stage.faults().order_webhooks(DeliveryOrder::NewestFirst);
    let (ada, api) = stage.subscriber("reversed", "professional").await;
    let customer = stage.customer(&ada);
    let own = stage.subscriptions(&customer).remove(0);
    let path = format!(
        "{}/v1/subscriptions/{}",
        stage.double.url(),
        own["id"].as_str().expect("an id")
    );
    let request = reqwest::Client::new()
        .delete(path)
        .bearer_auth(crate::stage::SECRET_KEY);
    assert!(
        request
            .send()
            .await
            .expect("the double answers")
            .status()
            .is_success()
    );
    stage.faults().hold_webhooks(false);
    stage.webhooks_arrived();
    until_shown(&api, 10, "it has ended", |shown| {
        shown["status"] == "canceled" && shown["plan"] == "free"
    })
    .await;
    stage.settled().await;
    assert_eq!(subscription(&api).await["status"], "canceled");
    for action in ["subscription.created", "subscription.ended", "invoice.paid"] {
        until(10, action, async || count_of(&api, action).await == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_stripe_is_down_webhooks_are_taken_and_later_everything_is_as_stripe_has_it() {
    let stage = Stage::start().await;
    let (ada, api) = stage.subscriber("outage", "professional").await;
    stage.settled().await;
    let customer = stage.customer(&ada);
    let own = stage.subscriptions(&customer).remove(0);
    let path = format!("/v1/subscriptions/{}", own["id"].as_str().expect("an id"));
    let changes = count_of(&api, "subscription.changed").await;
    stage.faults().hold_webhooks(true);
    let _ = stage
        .stripe(&path, &[("cancel_at_period_end", "true")])
        .await;
    let (_, buyer) = stage.owner("patient").await;
    let subject = stage.state().object(own["id"].as_str().expect("an id"));
    let subject = subject.expect("Stripe has it");
    stage.faults().down(true);
    let gone = Instant::now();
    stage.faults().hold_webhooks(false);
    stage.webhooks_arrived();
    let deliveries = stage.state().deliveries();
    assert!(
        deliveries
            .iter()
            .all(|delivery| delivery.attempts.last() == Some(&Some(200))),
        "{deliveries:#?}"
    );
    assert_eq!(subscription(&api).await["cancel_at_period_end"], false);
    // A mail goes out meanwhile: what hangs at Stripe delays nothing else.
    let _ = stage
        .server
        .anonymous()
        .post("/v1/password-resets", &json!({ "email": ada.email }))
        .await
        .is(202);
    let _ = stage.server.letters_to(&ada.email, 1).await;
    let mut n = 0;
    while gone.elapsed() < outage() {
        let id = format!("evt_outage_{n}");
        let told = event(&id, "customer.subscription.updated", subject.clone());
        let _ = tell(&stage, &told).await.is(200);
        let answer = subscribe(&buyer, "professional", "pm_card_visa").await;
        answer.problem(503, "dependency_unavailable");
        let wait: u64 = answer.header("retry-after").parse().expect("seconds");
        assert!((1..=60).contains(&wait), "{wait}");
        let library = json!({ "name": format!("Meanwhile {n}") });
        let _ = api.post("/v1/libraries", &library).await.is(201);
        n += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(n > 2, "it was hardly asked while it was down");
    stage.faults().down(false);
    let back = Instant::now();
    until_shown(&api, 60, "it converges", |shown| {
        shown["cancel_at_period_end"] == true
    })
    .await;
    // Who asks again joins what is under way, or begins where it ended.
    until(60, "it can be bought", async || {
        let answer = subscribe(&buyer, "professional", "pm_card_visa").await;
        assert!([201, 409, 503].contains(&answer.status), "{answer:?}");
        answer.status == 201
    })
    .await;
    all_projected(&stage.server, 60).await;
    let took = back.elapsed();
    assert!(took < Duration::from_secs(60), "converged after {took:?}");
    assert_eq!(count_of(&api, "subscription.changed").await, changes + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asked_for_a_change_is_who_made_it_and_what_stripe_did_by_itself_is_nobodys() {
    let stage = Stage::start().await;
    let (ada, _) = stage.owner("responsible").await;
    let by_whom = async || {
        let entries = ada.list_all("/v1/workspace/audit", 100).await;
        let of_plan = entries.into_iter().filter(|entry| {
            let action = entry["action"].as_str().expect("an action");
            action.starts_with("subscription.") || action == "plan.changed"
        });
        let told = of_plan.map(|entry| (entry["action"].clone(), entry["actor"].clone()));
        told.collect::<Vec<_>>()
    };
    let _ = subscribe(&ada, "professional", "pm_card_visa")
        .await
        .is(201);
    stage.settled().await;
    let subscribed = by_whom().await;
    assert_eq!(subscribed.len(), 2, "{subscribed:?}");
    assert!(
        subscribed.iter().all(|(_, actor)| *actor == ada.user_id),
        "{subscribed:?}"
    );
    let key = stage.key_of(&ada).await;
    let _ = key
        .post(
            "/v1/billing/subscription/cancel",
            &json!({ "at_period_end": true }),
        )
        .await
        .is(200);
    stage.settled().await;
    let own = stage.subscriptions(&stage.customer(&ada)).remove(0);
    let path = format!("/v1/subscriptions/{}", own["id"].as_str().expect("an id"));
    let _ = stage
        .stripe(&path, &[("cancel_at_period_end", "false")])
        .await;
    stage.settled().await;
    let all = by_whom().await;
    let actors: Vec<_> = all.iter().map(|(_, actor)| actor.clone()).collect();
    let [outside, by_key, ..] = &actors[..] else {
        panic!("{all:?}")
    };
    assert_eq!(all.len(), 4, "{all:?}");
    assert_eq!(outside, "system:job");
    let by_key = by_key.as_str().expect("a text");
    assert!(by_key.starts_with("key_"), "{by_key}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_kill() {
    let stage = Stage::start().await;
    let (ada, api) = stage.subscriber("survives", "professional").await;
    stage.settled().await;
    let customer = stage.customer(&ada);
    let own = stage.subscriptions(&customer).remove(0);
    let path = format!("/v1/subscriptions/{}", own["id"].as_str().expect("an id"));
    // Nothing can be fetched before the kill; the webhook is acknowledged all the same.
    stage.faults().hold_webhooks(true);
    let _ = stage
        .stripe(&path, &[("cancel_at_period_end", "true")])
        .await;
    stage.faults().down(true);
    stage.faults().hold_webhooks(false);
    stage.webhooks_arrived();
    stage.server.kill9();
    stage.faults().down(false);
    let delivered = stage.state().deliveries().len();
    stage.server.restart();
    until_shown(&api, 90, "it converges", |shown| {
        shown["cancel_at_period_end"] == true
    })
    .await;
    assert_eq!(
        stage.state().deliveries().len(),
        delivered,
        "nothing was delivered again"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_never_arrived_is_found_by_reconciliation() {
    let stage = Stage::start_with(&[("RAWDRIVE_RECONCILE_SECONDS", "2")]).await;
    // What making the plans had to tell.
    stage.settled().await;
    let told = stage.state().deliveries().len();
    stage.faults().drop_webhooks(10_000, "*");
    let (ada, api) = stage.subscriber("healed", "professional").await;
    let customer = stage.customer(&ada);
    until(20, "the invoice is found", async || {
        count_of(&api, "invoice.paid").await == 1
    })
    .await;
    let own = stage.subscriptions(&customer).remove(0);
    let path = format!("/v1/subscriptions/{}", own["id"].as_str().expect("an id"));
    // What the subscribing itself had touched is fetched by now: what changes from here on, nobody is told of.
    until(60, "what was lost is projected", async || {
        stage.under_way().await["unprojected"] == 0
    })
    .await;
    let _ = stage
        .stripe(&path, &[("cancel_at_period_end", "true")])
        .await;
    until_shown(&api, 30, "it is healed", |shown| {
        shown["cancel_at_period_end"] == true
    })
    .await;
    until(30, "the drift is reported", async || {
        stage.server.log().contains("reconciliation found that")
    })
    .await;
    let deliveries = stage.state().deliveries();
    let arrived = |attempts: &[Option<u16>]| attempts.contains(&Some(200));
    assert!(
        !deliveries
            .iter()
            .skip(told)
            .any(|delivery| arrived(&delivery.attempts)),
        "{deliveries:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_beginning_of_a_grace_is_the_same_when_its_event_was_lost() {
    let stage = Stage::start().await;
    let (ada, api) = stage.subscriber("lost-grace", "professional").await;
    // A fetch that the subscribing called for and that came late would see what nobody was told of.
    stage.settled().await;
    let customer = stage.customer(&ada);
    for _ in 0..10 {
        stage
            .faults()
            .decline_next_charge(&customer, "insufficient_funds")
            .expect("a customer");
    }
    stage.faults().drop_webhooks(10_000, "*");
    stage.turn(TimeDelta::days(30) + TimeDelta::hours(2));
    // Three days on it failed a second time. Nobody was told of either.
    stage.turn(TimeDelta::days(4));
    assert_eq!(subscription(&api).await["grace_until"], Value::Null);
    let dry = [
        "stripe",
        "reconcile",
        "--dry-run",
        "--since",
        "2026-12-01",
        "--json",
    ];
    let dry = stage.server.admin(&dry).await.succeeded();
    let dry: Value = serde_json::from_str(&dry.stdout).expect("JSON");
    let drift = dry["drift"].as_array().expect("drift");
    for kind in ["stale_subscription", "stale_invoice"] {
        assert!(drift.iter().any(|found| found["kind"] == kind), "{dry}");
    }
    assert_eq!(subscription(&api).await["grace_until"], Value::Null);
    let _ = stage
        .server
        .admin(&["stripe", "reconcile", "--since", "2026-12-01"])
        .await
        .succeeded();
    until_shown(&api, 30, "the grace is found", |shown| {
        shown["grace_until"].is_string()
    })
    .await;
    let failed = stage
        .state()
        .objects("charge")
        .into_iter()
        .filter(|charge| charge["paid"] == false);
    let first = failed
        .filter_map(|charge| charge["created"].as_i64())
        .min()
        .expect("a failed charge");
    let until = subscription(&api).await["grace_until"]
        .as_str()
        .and_then(|t| t.parse::<chrono::DateTime<chrono::Utc>>().ok());
    assert_eq!(
        until.map(|until| until.timestamp() - first),
        Some(14 * 86_400)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dispute_and_a_refund_are_kept_and_told() {
    let stage = Stage::start().await;
    let (ada, api) = stage.subscriber("disputed", "professional").await;
    let charge = stage.state().paid_charges(&stage.customer(&ada)).remove(0);
    let charge = charge["id"].as_str().expect("an id");
    let _ = stage
        .stripe("/v1/refunds", &[("charge", charge), ("amount", "500")])
        .await;
    until(10, "the refund is kept", async || {
        count_of(&api, "charge.refunded").await == 1
    })
    .await;
    stage
        .faults()
        .dispute(charge, "fraudulent")
        .expect("a charge");
    until(10, "the dispute is kept", async || {
        count_of(&api, "dispute.opened").await == 1
    })
    .await;
    until(10, "both are told", async || {
        let letters = stage.server.letters_to(&ada.email, 0).await.join("\n");
        letters.contains("5.00 USD were given back") && letters.contains("a payment is disputed")
    })
    .await;
    assert_eq!(subscription(&api).await["status"], "active");
    let _ = subscribe(&api, "professional", "pm_card_visa")
        .await
        .is(409);
}
