//! Events and their deliveries, verified by a receiver that shares no code with the double.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::hmac;
use rawdrive_stripe_double::{DeliveryOrder, DeliveryState};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::{Bench, id, text};

const SECRET: &str = "whsec_test_secret";
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What a receiver was sent: the signature's header and the raw body.
pub(crate) type Received = Arc<Mutex<Vec<(String, String)>>>;

/// A receiver of webhooks that answers with `statuses`, and with 200 after the last.
pub(crate) async fn receiver(statuses: Vec<u16>) -> (String, Received) {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    let url = format!(
        "http://{}/hooks",
        listener.local_addr().expect("it is bound")
    );
    let received = Received::default();
    let of_task = Arc::clone(&received);
    tokio::spawn(async move {
        let mut statuses = statuses.into_iter();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            let mut chunk = [0_u8; 16 * 1024];
            let (head, body) = loop {
                let read = stream.read(&mut chunk).await.unwrap_or(0);
                bytes.extend_from_slice(&chunk[..read]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else {
                    continue;
                };
                if body.len() >= content_length(head) || read == 0 {
                    break (head.to_owned(), body.to_owned());
                }
            };
            let status = statuses.next().unwrap_or(200);
            let signature = header(&head, "stripe-signature").unwrap_or_default();
            if let Ok(mut received) = of_task.lock() {
                received.push((signature, body));
            }
            let answer =
                format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (url, received)
}

fn header(head: &str, name: &str) -> Option<String> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.to_owned())
}

fn content_length(head: &str) -> usize {
    let length = header(head, "content-length");
    length.and_then(|length| length.parse().ok()).unwrap_or(0)
}

async fn bench_with(statuses: Vec<u16>) -> (Bench, Received) {
    let (url, received) = receiver(statuses).await;
    let bench = Bench::with(|config| {
        config.webhook = vec![(url, SECRET.to_owned())];
        config.webhook_backoff = vec![Duration::from_millis(5); 3];
    });
    (bench, received)
}

fn settled(bench: &Bench) {
    assert!(bench.double.wait_for_webhooks(PATIENCE), "deliveries end");
}

fn received_types(received: &Received) -> Vec<String> {
    let received = received.lock().expect("no test panics here");
    let events = received.iter().map(|(_, body)| {
        let event: Value = serde_json::from_str(body).expect("a webhook is JSON");
        text(&event, "type").to_owned()
    });
    events.collect()
}

/// The signature, computed as Stripe's documentation says to verify it.
fn verify(header: &str, body: &str) -> i64 {
    let part = |name: &str| {
        let mut parts = header.split(',').filter_map(|part| part.split_once('='));
        parts
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.to_owned())
    };
    let time = part("t").expect("a signature has its time");
    let digest = part("v1").expect("a signature has its digest");
    let bytes: Vec<u8> = (0..digest.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digest[at..at + 2], 16).expect("hex"))
        .collect();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    hmac::verify(&key, format!("{time}.{body}").as_bytes(), &bytes).expect("the signature holds");
    time.parse().expect("seconds")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_tells_its_story_signed_and_in_full() {
    let (bench, received) = bench_with(Vec::new()).await;
    let price = bench.price("Professional", "2900", "month").await;
    let customer = bench.customer("pm_card_visa").await;
    let before = bench.double.state().events().len();
    let form = [("customer", customer.as_str()), ("items[0][price]", &price)];
    bench.keyed("/v1/subscriptions", &form, "op-1").await.ok();
    settled(&bench);
    let told = received_types(&received)[before..].to_vec();
    assert_eq!(
        told,
        [
            "invoice.created",
            "invoice.finalized",
            "payment_intent.created",
            "charge.succeeded",
            "payment_intent.succeeded",
            "invoice_payment.paid",
            "invoice.updated",
            "invoice.paid",
            "invoice.payment_succeeded",
            "customer.subscription.created",
        ]
    );
    for (header, body) in received.lock().expect("no test panics here").iter() {
        assert_eq!(
            verify(header, body),
            crate::support::at(crate::support::START)
        );
    }
    let event = bench.last_event("customer.subscription.created");
    assert_eq!(event["data"]["object"]["status"], "active");
    assert_eq!(event["request"]["idempotency_key"], "op-1");
    assert!(text(&event["request"], "id").starts_with("req_"));
    assert_eq!(event["api_version"], "2026-09-30.endive");
    assert_eq!(event["pending_webhooks"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_receiver_refuses_is_sent_again_and_at_last_given_up() {
    let (bench, received) = bench_with(vec![500, 503]).await;
    bench.post("/v1/products", &[("name", "Thing")]).await.ok();
    settled(&bench);
    assert_eq!(received_types(&received), vec!["product.created"; 3]);
    let deliveries = bench.double.state().deliveries();
    assert_eq!(deliveries[0].attempts, [Some(500), Some(503), Some(200)]);
    assert_eq!(deliveries[0].state, DeliveryState::Delivered);

    let (bench, _) = bench_with(vec![500; 4]).await;
    bench.post("/v1/products", &[("name", "Thing")]).await.ok();
    settled(&bench);
    let deliveries = bench.double.state().deliveries();
    assert_eq!(deliveries[0].state, DeliveryState::GivenUp);
    assert_eq!(deliveries[0].attempts.len(), 4);
    let undelivered = bench.get("/v1/events?delivery_success=false").await.ok();
    assert_eq!(undelivered["data"][0]["type"], "product.created");
    assert_eq!(undelivered["data"][0]["pending_webhooks"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_lost_doubled_held_and_turned_round() {
    let (bench, received) = bench_with(Vec::new()).await;
    let faults = bench.double.faults();
    let make = async |name: &str| bench.post("/v1/products", &[("name", name)]).await.ok();
    faults.drop_webhooks(1, "product.*");
    make("lost").await;
    settled(&bench);
    assert_eq!(received_types(&received).len(), 0);
    let lost = id(&bench.last_event("product.created"));
    let listed = bench.get("/v1/events?type=product.created").await.ok();
    assert_eq!(id(&listed["data"][0]), lost);

    faults.duplicate_webhooks(1, "*");
    make("doubled").await;
    settled(&bench);
    assert_eq!(received_types(&received).len(), 2);

    faults.hold_webhooks(true);
    faults.order_webhooks(DeliveryOrder::NewestFirst);
    make("first").await;
    make("second").await;
    assert!(!bench.double.wait_for_webhooks(Duration::from_millis(30)));
    faults.hold_webhooks(false);
    settled(&bench);
    let names: Vec<_> = {
        let received = received.lock().expect("no test panics here");
        let events = received[2..].iter().map(|(_, body)| {
            let event: Value = serde_json::from_str(body).expect("a webhook is JSON");
            event["data"]["object"]["name"].clone()
        });
        events.collect()
    };
    assert_eq!(names, ["second", "first"]);

    assert_eq!(faults.redeliver(&lost).expect("the event is there"), 1);
    settled(&bench);
    let last = received
        .lock()
        .expect("no test panics here")
        .last()
        .cloned();
    assert!(last.is_some_and(|(_, body)| body.contains(&lost)));
    assert!(faults.redeliver("evt_none").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_are_made_over_the_api_and_hear_what_they_asked_for() {
    let (url, received) = receiver(Vec::new()).await;
    let bench = Bench::new();
    let form = [
        ("url", url.as_str()),
        ("enabled_events[]", "product.created"),
    ];
    let endpoint = bench.post("/v1/webhook_endpoints", &form).await.ok();
    assert!(text(&endpoint, "secret").starts_with("whsec_"));
    let path = format!("/v1/webhook_endpoints/{}", id(&endpoint));
    assert!(bench.get(&path).await.ok().get("secret").is_none());
    bench.post("/v1/customers", &[]).await.ok();
    bench.post("/v1/products", &[("name", "Thing")]).await.ok();
    settled(&bench);
    assert_eq!(received_types(&received), ["product.created"]);
    bench.delete(&path).await.ok();
    bench.post("/v1/products", &[("name", "Thing")]).await.ok();
    settled(&bench);
    assert_eq!(received_types(&received).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_say_what_was_before() {
    let bench = Bench::new();
    let form = [("email", "a@example.com"), ("metadata[plan]", "one")];
    let customer = id(&bench.post("/v1/customers", &form).await.ok());
    let path = format!("/v1/customers/{customer}");
    let change = [("email", "b@example.com"), ("metadata[plan]", "two")];
    bench.post(&path, &change).await.ok();
    let event = bench.last_event("customer.updated");
    assert_eq!(
        event["data"]["previous_attributes"],
        json!({ "email": "a@example.com", "metadata": { "plan": "one" } })
    );
    let events = bench.double.state().events().len();
    bench.post(&path, &change).await.ok();
    assert_eq!(
        bench.double.state().events().len(),
        events,
        "nothing changed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_listed_by_time_and_type_for_thirty_days() {
    let bench = Bench::new();
    bench.post("/v1/products", &[("name", "Thing")]).await.ok();
    bench.post("/v1/customers", &[]).await.ok();
    let both = "/v1/events?types[]=product.created&types[]=customer.created";
    let listed = bench.get(both).await.ok();
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(2));
    assert_eq!(listed["data"][0]["type"], "customer.created");
    let first = id(&listed["data"][1]);
    bench.travel_to("2027-03-02T10:00:01Z");
    let listed = bench.get("/v1/events").await.ok();
    assert_eq!(listed["data"], json!([]));
    bench.get(&format!("/v1/events/{first}")).await.error(404);
}
