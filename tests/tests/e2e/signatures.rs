//! Which webhooks are Stripe's: what it signed a moment ago, byte for byte, and nothing else.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use e2e::{Api, flipped_bytes};
use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::convergence::Shop;
use crate::stage::{BEGIN, Stage, WEBHOOK_SECRET, subscribe};
use crate::webhooks::{post, tag};

/// The secret that the stage's is being rotated to.
const NEXT_SECRET: &str = "whsec_the_next_one_of_the_end_to_end_tests";
const PAYLOADS: usize = 20;
/// Posts under way at a time.
const AT_ONCE: usize = 16;

/// Has much happen at Stripe, and returns an event of each of its types, the shortest first.
async fn events(shop: &Shop) -> Vec<Value> {
    let (stage, id) = (&shop.stage, |value: &Value| {
        value["id"].as_str().expect("an id").to_owned()
    });
    // What making the plans had to tell was told.
    let told = stage.state().count("event");
    let order = json!({
        "plan": "professional", "interval": "month",
        "success_url": "https://studio.example/done", "cancel_url": "https://studio.example/back",
    });
    let (_, api) = stage.owner("signed-later").await;
    let _ = api.post("/v1/billing/checkout", &order).await.is(200);
    let (ada, api) = stage.owner("signed").await;
    let _ = subscribe(&api, "trial", "pm_card_visa").await.is(201);
    let customer = stage.customer(&ada);
    let own = id(&stage.subscriptions(&customer)[0]);
    let named = [("name", "Grüße aus Köln")];
    let _ = shop
        .post(&format!("/v1/customers/{customer}"), &named)
        .await;
    let attach = "/v1/payment_methods/pm_card_amex/attach";
    let card = shop.post(attach, &[("customer", &customer)]).await;
    let _ = shop
        .post(&format!("/v1/payment_methods/{card}/detach"), &[])
        .await;
    // The trial ends, its first payment fails twice; all within the thirty days for which Stripe lists its events.
    for _ in 0..2 {
        let declined = stage
            .faults()
            .decline_next_charge(&customer, "insufficient_funds");
        declined.expect("a customer");
    }
    stage.turn(TimeDelta::days(14) + TimeDelta::hours(2));
    stage.turn(TimeDelta::days(9));
    let paid = stage.state().paid_charges(&customer);
    let charge = id(paid.last().expect("it was paid"));
    let part = [("charge", charge.as_str()), ("amount", "500")];
    let _ = shop.post("/v1/refunds", &part).await;
    let disputed = stage.faults().dispute(&charge, "fraudulent");
    disputed.expect("a charge");
    let (status, body) = shop
        .ask(Method::DELETE, &format!("/v1/subscriptions/{own}"), &[])
        .await;
    assert_eq!(status, 200, "{body}");
    let mut types = BTreeSet::new();
    let mut events = stage.state().events().split_off(told);
    events.sort_by_key(|event| event.to_string().len());
    events.retain(|event| types.insert(event["type"].to_string()));
    events
}

/// One thing that is posted, and whether it is to be taken.
struct Delivery {
    what: String,
    header: Option<String>,
    body: Vec<u8>,
}

fn signed(secret: &str, time: i64, body: &[u8]) -> String {
    format!("t={time},v1={}", tag(secret, time, body))
}

/// What nobody but a forger, or somebody with a wrong clock, sends.
fn forgeries(body: &str, now: i64, flips: usize) -> Vec<Delivery> {
    let (bytes, wrong) = (body.as_bytes(), "0".repeat(64));
    let tag_now = tag(WEBHOOK_SECRET, now, bytes);
    let (good, late) = (signed(WEBHOOK_SECRET, now, bytes), now - 301);
    let parsed: Value = serde_json::from_str(body).expect("JSON");
    let (compact, pretty) = (
        parsed.to_string(),
        serde_json::to_string_pretty(&parsed).expect("JSON"),
    );
    let respaced = if body == compact { pretty } else { compact };
    let headers = [
        ("301 s late", Some(signed(WEBHOOK_SECRET, late, bytes))),
        (
            "301 s early",
            Some(signed(WEBHOOK_SECRET, now + 301, bytes)),
        ),
        (
            "301 s late, by the next secret",
            Some(signed(NEXT_SECRET, late, bytes)),
        ),
        (
            "late, but with today's time",
            Some(format!("t={now},v1={}", tag(WEBHOOK_SECRET, late, bytes))),
        ),
        ("only another scheme", Some(format!("t={now},v0={tag_now}"))),
        (
            "bad ones only",
            Some(format!("t={now},v1={wrong},v1={wrong}")),
        ),
        (
            "another secret",
            Some(signed("whsec_of_somebody_else_entirely", now, bytes)),
        ),
        ("no secret", Some(signed("", now, bytes))),
        (
            "both secrets as one",
            Some(signed(
                &format!("{NEXT_SECRET},{WEBHOOK_SECRET}"),
                now,
                bytes,
            )),
        ),
        ("no time", Some(format!("v1={tag_now}"))),
        ("another time", Some(format!("t={},v1={tag_now}", now + 1))),
        ("two times", Some(format!("t={now},t={now},v1={tag_now}"))),
        ("empty", Some(String::new())),
        ("no header", None),
    ];
    let mut all: Vec<_> = headers
        .into_iter()
        .map(|(what, header)| Delivery {
            what: what.to_owned(),
            header,
            body: bytes.to_vec(),
        })
        .collect();
    let mut altered = |what: String, body: Vec<u8>| {
        all.push(Delivery {
            what,
            header: Some(good.clone()),
            body,
        });
    };
    altered("other spacing".to_owned(), respaced.into_bytes());
    altered(
        "a line's end more".to_owned(),
        format!("{body}\n").into_bytes(),
    );
    altered("a byte less".to_owned(), bytes[..bytes.len() - 1].to_vec());
    for at in (0..bytes.len()).step_by(bytes.len().div_ceil(flips).max(1)) {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 1 << (at % 8);
        altered(format!("a bit of byte {at}"), flipped);
    }
    for at in 0..good.len() {
        let mut flipped = good.clone().into_bytes();
        flipped[at] ^= 1;
        let header = String::from_utf8(flipped).expect("it is ASCII still");
        all.push(Delivery {
            what: format!("a bit of the signature's byte {at}"),
            header: Some(header),
            body: bytes.to_vec(),
        });
    }
    all
}

/// What Stripe may send, by its clock and by whichever secret.
fn genuine(body: &str, now: i64) -> Vec<Delivery> {
    let (bytes, wrong) = (body.as_bytes(), "0".repeat(64));
    let tag_now = tag(WEBHOOK_SECRET, now, bytes);
    [
        ("300 s late", signed(WEBHOOK_SECRET, now - 300, bytes)),
        ("299 s late", signed(WEBHOOK_SECRET, now - 299, bytes)),
        ("as it is", signed(WEBHOOK_SECRET, now, bytes)),
        ("299 s early", signed(WEBHOOK_SECRET, now + 299, bytes)),
        ("300 s early", signed(WEBHOOK_SECRET, now + 300, bytes)),
        ("the next secret", signed(NEXT_SECRET, now, bytes)),
        (
            "a bad one first",
            format!("t={now},v1={wrong},v1={tag_now}"),
        ),
        (
            "another scheme beside it",
            format!("t={now},v0={wrong},v1={tag_now}"),
        ),
    ]
    .into_iter()
    .map(|(what, header)| Delivery {
        what: what.to_owned(),
        header: Some(header),
        body: bytes.to_vec(),
    })
    .collect()
}

/// Posts them, several at a time; each has this outcome.
async fn post_all(api: &Api, kind: &str, deliveries: Vec<Delivery>, taken: bool) {
    let posts = deliveries.into_iter().map(|delivery| async move {
        let answer = post(api, delivery.header.as_deref(), delivery.body).await;
        let expected = if taken { 200 } else { 400 };
        assert_eq!(
            answer.status, expected,
            "{kind}, {}: {answer:?}",
            delivery.what
        );
        if taken {
            assert_eq!(answer.json(), json!({ "received": true }));
        } else {
            answer.problem(400, "invalid_signature");
        }
    });
    futures_util::stream::iter(posts)
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
}

/// Which of the events the server says it never got.
async fn missed(stage: &Stage, events: &[Value]) -> usize {
    let arguments = [
        "stripe",
        "reconcile",
        "--dry-run",
        "--since",
        BEGIN,
        "--json",
    ];
    let output = stage.server.admin(&arguments).await.succeeded();
    let found: Value = serde_json::from_str(&output.stdout).expect("JSON");
    let missed: BTreeSet<_> = found["drift"]
        .as_array()
        .expect("drift")
        .iter()
        .map(|d| d["event"].to_string())
        .collect();
    events
        .iter()
        .filter(|event| missed.contains(&event["id"].to_string()))
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_stripe_signed_just_now_is_taken() {
    // Two secrets, while the older is being rotated away.
    let secrets = format!("{NEXT_SECRET},{WEBHOOK_SECRET}");
    let shop = Shop::open_with(&[("STRIPE_WEBHOOK_SECRET", &secrets)]).await;
    let mut events = events(&shop).await;
    assert!(
        events.len() >= PAYLOADS,
        "{:?}",
        events.iter().map(|e| &e["type"]).collect::<Vec<_>>()
    );
    // The shortest, the longest, and some between.
    let middle = events.len() - PAYLOADS / 2;
    events = [&events[..PAYLOADS / 2], &events[middle..]].concat();
    let (stage, api) = (&shop.stage, &shop.teller);
    let now = stage.now().timestamp();
    let payloads: Vec<_> = events
        .iter()
        .enumerate()
        .map(|(n, event)| match n % 2 {
            0 => event.to_string(),
            _ => serde_json::to_string_pretty(event).expect("JSON"),
        })
        .collect();
    shop.quiet().await;
    assert_eq!(missed(stage, &events).await, PAYLOADS, "nobody was told");

    let calls = stage.state().calls().len();
    for (n, (payload, event)) in payloads.iter().zip(&events).enumerate() {
        // Every byte of the shortest; some of the others, unless all are asked for.
        let flips = if n == 0 {
            payload.len()
        } else {
            flipped_bytes(60)
        };
        let kind = event["type"].as_str().expect("a type");
        post_all(api, kind, forgeries(payload, now, flips), false).await;
    }
    assert_eq!(
        stage.state().calls().len(),
        calls,
        "what was refused is asked for"
    );
    assert_eq!(
        missed(stage, &events).await,
        PAYLOADS,
        "what was refused is kept"
    );
    for (payload, event) in payloads.iter().zip(&events) {
        let kind = event["type"].as_str().expect("a type");
        post_all(api, kind, genuine(payload, now), true).await;
    }
    assert_eq!(missed(stage, &events).await, 0, "what was taken is kept");
    let no_event = b"[]";
    let header = signed(WEBHOOK_SECRET, now, no_event);
    post(api, Some(&header), &no_event[..])
        .await
        .problem(400, "malformed_request");
}
