//! The feed of events and the webhooks that carry it, against receivers that verify with the Standard Webhooks' own
//! library, hang, fail and redirect.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use e2e::{Actor, Api, Server};
use futures_util::future::join_all;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::stage::Stage;

const ANYWHERE: (&str, &str) = ("RAWDRIVE_WEBHOOKS_ALLOW_PRIVATE", "true");

/// What a receiver does with a request.
#[derive(Debug, Clone)]
enum Answers {
    Status(u16),
    Redirect(String),
    Hangs,
}

/// What a receiver was sent.
#[derive(Debug, Clone)]
struct Received {
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Received {
    fn event(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    fn kind(&self) -> String {
        self.event()["type"].as_str().expect("a type").to_owned()
    }

    /// Whether the library takes it with this secret.
    fn verifies_with(&self, secret: &str) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let name: HeaderName = name.parse().expect("a header's name");
            headers.insert(
                name,
                HeaderValue::from_str(value).expect("a header's value"),
            );
        }
        let webhook = Webhook::new(secret).expect("the library takes the secret");
        webhook.verify(&self.body, &headers).is_ok()
    }
}

/// For `cargo xtask judge`, which has libraries of other languages sign the same.
fn record(all: &[Received], secret: &str) {
    let Some(path) = std::env::var_os("RAWDRIVE_RECORD_WEBHOOKS") else {
        return;
    };
    let line = |received: &Received| {
        let body = String::from_utf8_lossy(&received.body);
        let line = json!({ "secret": secret, "headers": received.headers, "body": body });
        format!("{line}\n")
    };
    let lines: String = all.iter().map(line).collect();
    std::fs::write(path, lines).expect("failed to record webhooks");
}

/// An HTTP server that keeps what it is sent.
#[derive(Clone)]
struct Receiver {
    port: u16,
    answers: Arc<Mutex<Answers>>,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    async fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let this = Self {
            port: listener.local_addr().expect("an address").port(),
            answers: Arc::new(Mutex::new(answers)),
            received: Arc::default(),
        };
        let serving = this.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move { serving.serve(connection).await });
            }
        });
        this
    }

    async fn serve(&self, mut connection: TcpStream) -> Option<()> {
        let mut bytes = Vec::new();
        let end = loop {
            let mut chunk = [0; 4096];
            match connection.read(&mut chunk).await.ok()? {
                0 => return None,
                n => bytes.extend_from_slice(&chunk[..n]),
            }
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let headers: BTreeMap<_, _> = (head.lines().skip(1))
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length: usize = headers.get("content-length")?.parse().ok()?;
        while bytes.len() < end + length {
            let mut chunk = [0; 4096];
            match connection.read(&mut chunk).await.ok()? {
                0 => return None,
                n => bytes.extend_from_slice(&chunk[..n]),
            }
        }
        let body = bytes.split_off(end);
        self.received
            .lock()
            .expect("no panic")
            .push(Received { headers, body });
        let answers = self.answers.lock().expect("no panic").clone();
        let answer = match answers {
            Answers::Status(status) => format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n"),
            Answers::Redirect(to) => {
                format!("HTTP/1.1 307 x\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n")
            }
            Answers::Hangs => {
                tokio::time::sleep(Duration::from_secs(600)).await;
                return None;
            }
        };
        connection.write_all(answer.as_bytes()).await.ok()
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hooks?from=rawdrive", self.port)
    }

    fn answer(&self, answers: Answers) {
        *self.answers.lock().expect("no panic") = answers;
    }

    fn all(&self) -> Vec<Received> {
        self.received.lock().expect("no panic").clone()
    }

    fn kinds(&self) -> Vec<String> {
        self.all().iter().map(Received::kind).collect()
    }

    /// Waits until so many requests have come.
    async fn has(&self, count: usize) -> Vec<Received> {
        let since = Instant::now();
        loop {
            let all = self.all();
            if all.len() >= count {
                return all;
            }
            assert!(
                since.elapsed() < Duration::from_secs(30),
                "{} of {count} came: {:?}",
                all.len(),
                self.kinds()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn endpoint(actor: &Api, url: &str, events: &[&str]) -> (String, String) {
    let body = json!({ "url": url, "events": events });
    let made = actor.post("/v1/webhook-endpoints", &body).await.is(201);
    (made.text("id"), made.text("secret"))
}

/// Something that happens: an API key that is made.
async fn happen(actor: &Api, name: &str) -> String {
    let body = json!({ "name": name, "role": "member" });
    actor.post("/v1/api-keys", &body).await.is(201).text("id")
}

async fn deliveries(actor: &Api, endpoint: &str) -> Vec<Value> {
    actor
        .list_all(&format!("/v1/webhook-endpoints/{endpoint}/deliveries"), 50)
        .await
}

/// Waits until the newest delivery is as wanted.
async fn newest_delivery(actor: &Api, endpoint: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let since = Instant::now();
    loop {
        let all = deliveries(actor, endpoint).await;
        if let Some(newest) = all.first()
            && wanted(newest)
        {
            return newest.clone();
        }
        assert!(since.elapsed() < Duration::from_secs(30), "{all:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_comes_once_in_its_order_and_signed() {
    let server = Server::start_with(&[ANYWHERE]);
    let ada = server.sign_up("ordered").await;
    let receiver = Receiver::start(Answers::Status(204)).await;
    let (id, secret) = endpoint(&ada, &receiver.url(), &[]).await;
    let mut keys = Vec::new();
    for n in 0..10 {
        keys.push(happen(&ada, &format!("key {n}")).await);
    }
    let all = receiver.has(11).await;
    assert_eq!(all[0].kind(), "webhook_endpoint.created");
    assert_eq!(all[0].event()["subject"], id.as_str());
    for (received, key) in all[1..].iter().zip(&keys) {
        assert_eq!(
            (received.kind().as_str(), &received.event()["subject"]),
            ("api_key.created", &json!(key))
        );
        assert_eq!(received.event()["workspace"], ada.workspace_id.as_str());
        assert_eq!(received.event()["data"], json!({ "actor": ada.user_id }));
    }
    for received in &all {
        assert!(received.verifies_with(&secret), "{received:?}");
        assert!(!received.verifies_with("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="));
        assert_eq!(
            received.headers["webhook-id"],
            received.event()["id"].as_str().expect("an id")
        );
        assert_eq!(received.headers["content-type"], "application/json");
    }
    record(&all, &secret);
    // The feed is the same, and began before.
    let feed = ada.list_all("/v1/events", 4).await;
    let told: Vec<_> = all.iter().map(Received::event).collect();
    assert_eq!(feed[feed.len() - 11..], told);
    assert_eq!(feed[0]["type"], "workspace.created");
    let seqs: Vec<_> = feed
        .iter()
        .map(|event| event["seq"].as_u64().expect("a number"))
        .collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    let after = told[8]["id"].as_str().expect("an id");
    let rest = ada
        .get(&format!("/v1/events?after={after}&types=api_key.*"))
        .await
        .is(200)
        .json();
    assert_eq!(rest["items"], json!(told[9..]));
    assert_eq!(rest["next_cursor"], Value::Null);
    // Nothing came twice, and it is all written down.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(receiver.all().len(), 11);
    let written = deliveries(&ada, &id).await;
    assert_eq!(written.len(), 11);
    assert!(
        written.iter().all(|d| d["state"] == "delivered"
            && d["attempts"] == 1
            && d["response_status"] == 204),
        "{written:#?}"
    );
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_gets_what_it_wants_while_it_is_on() {
    let server = Server::start_with(&[ANYWHERE]);
    let (ada, eve) = (server.sign_up("wants").await, server.sign_up("eve").await);
    let receiver = Receiver::start(Answers::Status(200)).await;
    let (id, _) = endpoint(&ada, &receiver.url(), &["api_key.revoked", "invitation.*"]).await;
    let path = format!("/v1/webhook-endpoints/{id}");
    let key = happen(&ada, "first").await;
    let _ = ada.delete(&format!("/v1/api-keys/{key}")).await.is(204);
    assert_eq!(receiver.has(1).await[0].kind(), "api_key.revoked");
    // Off, and on again: what happened meanwhile is in the feed alone.
    let tag = ada.get(&path).await.is(200).header("etag").to_owned();
    let off = ada.patch(&path, &json!({ "enabled": false })).await.is(200);
    assert_eq!(off.json()["enabled"], false);
    assert_ne!(off.header("etag"), tag);
    let key = happen(&ada, "second").await;
    let _ = ada.delete(&format!("/v1/api-keys/{key}")).await.is(204);
    let on = json!({ "enabled": true, "events": ["api_key.*"] });
    assert_eq!(
        ada.patch(&path, &on).await.is(200).json()["events"],
        json!(["api_key.*"])
    );
    let _ = happen(&ada, "third").await;
    let all = receiver.has(2).await;
    assert_eq!(all[1].kind(), "api_key.created");
    // Somebody else's: not there.
    for answer in [
        eve.get(&path).await,
        eve.patch(&path, &json!({ "enabled": false })).await,
        eve.delete(&path).await,
        eve.get(&format!("{path}/deliveries")).await,
        eve.post(&format!("{path}/rotate-secret"), &json!({})).await,
    ] {
        answer.problem(404, "not_found");
    }
    let delivery = deliveries(&ada, &id).await[0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let again = format!("/v1/webhook-endpoints/deliveries/{delivery}/resend");
    eve.post(&again, &json!({})).await.problem(404, "not_found");
    assert_eq!(
        eve.list_all("/v1/webhook-endpoints", 50).await,
        [] as [Value; 0]
    );
    // Sent again: the same event.
    let sent = ada.post(&again, &json!({})).await.is(202).json();
    assert_eq!(
        (&sent["state"], &sent["id"]),
        (&json!("pending"), &json!(delivery))
    );
    let all = receiver.has(3).await;
    assert_eq!(all[2].body, all[1].body);
    let _ = newest_delivery(&ada, &id, |newest| newest["state"] == "delivered").await;
    // Deleted: nothing more is sent.
    let _ = ada.delete(&path).await.is(204);
    let _ = happen(&ada, "fourth").await;
    ada.get(&path).await.problem(404, "not_found");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(receiver.all().len(), 3);
    // Members look at none of it.
    let _ = server.override_limit(&ada, "max_team_members=5").await;
    let mia = server.join(&ada, "mia", "member").await;
    mia.get("/v1/events")
        .await
        .problem(403, "insufficient_role");
    mia.get("/v1/webhook-endpoints")
        .await
        .problem(403, "insufficient_role");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_an_endpoint_are_all_named_and_there_are_not_too_many() {
    let server = Server::shared();
    let ada = server.sign_up("faults").await;
    let refused = async |body: Value, fields: &[&str]| {
        let problem = ada
            .post("/v1/webhook-endpoints", &body)
            .await
            .problem(422, "validation_failed");
        let errors = problem["errors"].as_array().expect("errors").clone();
        let named: Vec<_> = errors
            .iter()
            .map(|e| e["field"].as_str().expect("a field").to_owned())
            .collect();
        assert_eq!(named, fields, "{problem}");
    };
    refused(
        json!({ "url": "http://example.com/", "events": ["plan"] }),
        &["url", "events"],
    )
    .await;
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "169.254.169.254",
        "10.1.2.3",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[fd00::1]",
    ] {
        refused(json!({ "url": format!("https://{host}/") }), &["url"]).await;
    }
    refused(json!({ "url": "https://me:pw@example.com/" }), &["url"]).await;
    ada.get("/v1/events?types=Plan.changed")
        .await
        .problem(422, "validation_failed");
    ada.get("/v1/events?after=evt_01890000000070008000000000000001")
        .await
        .problem(422, "validation_failed");
    let made = join_all((0..25).map(|n| {
        let body = json!({ "url": format!("https://example.invalid/{n}") });
        let ada = &ada;
        async move { ada.post("/v1/webhook-endpoints", &body).await }
    }))
    .await;
    assert_eq!(
        made.iter().filter(|answer| answer.status == 201).count(),
        20
    );
    for answer in made.iter().filter(|answer| answer.status != 201) {
        answer.problem(409, "conflict");
    }
    assert_eq!(ada.list_all("/v1/webhook-endpoints", 7).await.len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_inside_is_not_called_and_no_redirect_is_followed() {
    let inside = Receiver::start(Answers::Status(200)).await;
    let server = Server::start();
    let ada = server.sign_up("inside").await;
    // The name is a good one; where it leads is found out when it is called.
    let (id, _) = endpoint(&ada, &format!("https://localhost:{}/", inside.port), &[]).await;
    let failed = newest_delivery(&ada, &id, |newest| newest["attempts"] != 0).await;
    assert_eq!(
        failed["error"],
        "the address is within a private network, which is not called"
    );
    assert_eq!(
        (&failed["state"], &failed["response_status"]),
        (&json!("pending"), &Value::Null)
    );
    assert!(failed["next_attempt_at"].is_string(), "{failed}");
    assert_eq!(inside.all().len(), 0);

    let open = Server::start_with(&[ANYWHERE]);
    let ada = open.sign_up("redirected").await;
    let redirecting = Receiver::start(Answers::Redirect(inside.url())).await;
    let (id, _) = endpoint(&ada, &redirecting.url(), &[]).await;
    let failed = newest_delivery(&ada, &id, |newest| newest["attempts"] != 0).await;
    assert_eq!(failed["error"], "answered 307: redirects are not followed");
    assert_eq!(failed["response_status"], 307);
    assert_eq!(inside.all().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_secret_is_replaced_both_sign() {
    let server = Server::start_with(&[ANYWHERE]);
    let ada = server.sign_up("rotates").await;
    let receiver = Receiver::start(Answers::Status(200)).await;
    let (id, first) = endpoint(&ada, &receiver.url(), &[]).await;
    let _ = receiver.has(1).await;
    let path = format!("/v1/webhook-endpoints/{id}/rotate-secret");
    let rotated = ada.post(&path, &json!({})).await.is(200);
    let second = rotated.text("secret");
    assert_ne!(first, second);
    assert!(rotated.json()["old_secret_until"].is_string());
    let all = receiver.has(2).await;
    assert_eq!(all[1].kind(), "webhook_endpoint.secret_rotated");
    assert!(all[1].verifies_with(&first) && all[1].verifies_with(&second));
    // A third: the first is out.
    let third = ada.post(&path, &json!({})).await.is(200).text("secret");
    let all = receiver.has(3).await;
    assert!(all[2].verifies_with(&second) && all[2].verifies_with(&third));
    assert!(!all[2].verifies_with(&first));
    let shown = ada
        .get(&format!("/v1/webhook-endpoints/{id}"))
        .await
        .is(200)
        .json();
    assert!(shown.get("secret").is_none(), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_and_audited_too_is_one_event() {
    let stage = Stage::start().await;
    let (_, api) = stage.subscriber("told-once", "professional").await;
    let feed = api.list_all("/v1/events", 50).await;
    for kind in ["subscription.created", "invoice.paid", "plan.changed"] {
        let of_kind = feed.iter().filter(|event| event["type"] == kind);
        let [told] = of_kind.collect::<Vec<_>>()[..] else {
            panic!("{kind}: {feed:#?}");
        };
        let data = told["data"].as_object().expect("facts");
        assert!(data["actor"].is_string() && data.len() > 1, "{told}");
    }
}

struct Clock {
    file: tempfile::NamedTempFile,
    now: Mutex<DateTime<Utc>>,
}

impl Clock {
    fn start() -> Self {
        let now = "2026-03-01T10:00:00Z".parse().expect("a time");
        let this = Self {
            file: tempfile::NamedTempFile::new().expect("a file"),
            now: Mutex::new(now),
        };
        this.turn(TimeDelta::zero());
        this
    }

    fn path(&self) -> &str {
        self.file.path().to_str().expect("a path of text")
    }

    fn turn(&self, by: TimeDelta) {
        let mut now = self.now.lock().expect("no panic");
        *now += by;
        std::fs::write(self.file.path(), now.to_rfc3339()).expect("failed to set the clock");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_is_sent_again_for_a_day_in_its_order_and_then_the_endpoint_is_disabled() {
    let clock = Clock::start();
    let dev = [
        ("RAWDRIVE_DEV", "1"),
        ("RAWDRIVE_DEV_CLOCK", clock.path()),
        ANYWHERE,
    ];
    let server = Server::start_with(&dev);
    let ada = server.sign_up("retried").await;
    let key = json!({ "name": "a key that does not end with a session", "role": "owner" });
    let api = server.bearer(&ada.post("/v1/api-keys", &key).await.is(201).text("secret"));
    let receiver = Receiver::start(Answers::Status(500)).await;
    let (id, secret) = endpoint(
        &api,
        &receiver.url(),
        &["webhook_endpoint.*", "workspace.*"],
    )
    .await;
    let rename = async |name: &str| {
        let _ = api
            .patch("/v1/workspace", &json!({ "name": name }))
            .await
            .is(200);
    };
    rename("second").await;
    // Each wait, and not before its time.
    for (attempts, wait) in [5, 300, 1_800, 7_200, 18_000, 36_000, 36_000]
        .into_iter()
        .enumerate()
    {
        let _ = receiver.has(attempts + 1).await;
        let _ = newest_delivery(&api, &id, |newest| newest["attempts"] == attempts + 1).await;
        clock.turn(TimeDelta::seconds(wait * 9 / 10));
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(receiver.all().len(), attempts + 1, "before its time");
        clock.turn(TimeDelta::seconds(wait * 2 / 10 + 1));
    }
    // The first is given up, the second is next: until then it waited.
    let all = receiver.has(9).await;
    let first = all[0].headers["webhook-id"].clone();
    assert!(
        all[..8].iter().all(|r| r.headers["webhook-id"] == first),
        "{:?}",
        receiver.kinds()
    );
    assert!(all.iter().all(|r| r.verifies_with(&secret)));
    assert_eq!(all[8].kind(), "workspace.updated");
    let second = |newest: &Value| newest["type"] == "workspace.updated";
    let _ = newest_delivery(&api, &id, second).await;
    let failed = deliveries(&api, &id).await;
    assert_eq!(
        (&failed[1]["state"], &failed[1]["attempts"]),
        (&json!("failed"), &json!(8)),
        "{failed:#?}"
    );
    assert_eq!(failed[1]["next_attempt_at"], Value::Null);
    // It works again: everything that waited comes, in its order.
    rename("third").await;
    receiver.answer(Answers::Status(200));
    clock.turn(TimeDelta::seconds(10));
    let all = receiver.has(11).await;
    let names: Vec<_> = all[9..].iter().map(|r| r.event()["seq"].as_u64()).collect();
    assert!(names[0] < names[1], "{names:?}");
    let shown = api
        .get(&format!("/v1/webhook-endpoints/{id}"))
        .await
        .is(200)
        .json();
    assert_eq!(shown["failing_since"], Value::Null);
    // Given up, sent again by hand.
    let delivery = failed[1]["id"].as_str().expect("an id");
    let _ = api
        .post(
            &format!("/v1/webhook-endpoints/deliveries/{delivery}/resend"),
            &json!({}),
        )
        .await
        .is(202);
    assert_eq!(receiver.has(12).await[11].headers["webhook-id"], first);
    // Five days of nothing: off, and its owner hears of it.
    receiver.answer(Answers::Status(503));
    rename("fourth").await;
    let _ = receiver.has(13).await;
    let _ = newest_delivery(&api, &id, |newest| newest["attempts"] == 1).await;
    clock.turn(TimeDelta::days(5));
    let letters = server.letters_to(&ada.email, 1).await;
    let letter = letters.last().expect("a letter");
    assert!(
        letter.contains("a webhook is off") && letter.contains("127.0.0.1"),
        "{letter}"
    );
    let shown = api
        .get(&format!("/v1/webhook-endpoints/{id}"))
        .await
        .is(200)
        .json();
    assert_eq!(
        (&shown["enabled"], &shown["disabled_reason"]),
        (&json!(false), &json!("failing"))
    );
    let feed = api.list_all("/v1/events", 50).await;
    assert_eq!(
        feed.last().expect("an event")["type"],
        "webhook_endpoint.disabled"
    );
    // Switched off while an event waits to be sent again: it is given up, and can be sent by hand once it is on.
    let path = format!("/v1/webhook-endpoints/{id}");
    let _ = api.patch(&path, &json!({ "enabled": true })).await.is(200);
    let waits = newest_delivery(&api, &id, |newest| newest["state"] == "pending").await;
    let _ = api.patch(&path, &json!({ "enabled": false })).await.is(200);
    let given_up = deliveries(&api, &id).await;
    let given_up = given_up.iter().find(|d| d["id"] == waits["id"]);
    let given_up = given_up.expect("the delivery is still there");
    assert_eq!(given_up["state"], "failed");
    assert_eq!(given_up["next_attempt_at"], Value::Null);
    // Gone is gone at once.
    receiver.answer(Answers::Status(410));
    let on = api
        .patch(&path, &json!({ "enabled": true }))
        .await
        .is(200)
        .json();
    assert_eq!(
        (&on["enabled"], &on["disabled_reason"]),
        (&json!(true), &Value::Null)
    );
    let since = Instant::now();
    while api.get(&path).await.is(200).json()["disabled_reason"] != "gone" {
        assert!(since.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hangs_or_is_behind_delays_nobody_else() {
    let server = Server::start_with(&[ANYWHERE]);
    let (slow, quick) = (server.sign_up("slow").await, server.sign_up("quick").await);
    let hanging = Receiver::start(Answers::Hangs).await;
    for _ in 0..20 {
        let _ = endpoint(&slow, &hanging.url(), &[]).await;
    }
    let _ = join_all((0..200).map(|n| {
        let slow: &Actor = &slow;
        async move {
            let name = json!({ "name": format!("name {n}") });
            slow.patch("/v1/workspace", &name).await.is(200)
        }
    }))
    .await;
    let receiver = Receiver::start(Answers::Status(200)).await;
    let (_, secret) = endpoint(&quick, &receiver.url(), &["api_key.*"]).await;
    for n in 1..=5 {
        let since = Instant::now();
        let _ = happen(&quick, "quick").await;
        let came = receiver.has(n).await;
        let took = since.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert!(came[n - 1].verifies_with(&secret));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_no_event_and_keeps_their_order() {
    let server = Server::start_with(&[ANYWHERE]);
    let ada = server.sign_up("killed").await;
    let receiver = Receiver::start(Answers::Status(200)).await;
    let (_, secret) = endpoint(&ada, &receiver.url(), &["workspace.updated"]).await;
    let mut acknowledged = 0;
    for round in 0..10 {
        for n in 0..5 {
            let name = json!({ "name": format!("round {round}, {n}") });
            let _ = ada.patch("/v1/workspace", &name).await.is(200);
            acknowledged += 1;
        }
        server.kill9();
        server.restart();
    }
    let feed = ada.list_all("/v1/events", 100).await;
    let told: Vec<_> = feed
        .iter()
        .filter(|event| event["type"] == "workspace.updated")
        .collect();
    assert_eq!(told.len(), acknowledged);
    let since = Instant::now();
    let ids: Vec<_> = told
        .iter()
        .map(|event| event["id"].as_str().expect("an id").to_owned())
        .collect();
    let last = ids.last().expect("an event");
    while receiver
        .all()
        .last()
        .is_none_or(|r| r.headers["webhook-id"] != *last)
    {
        assert!(
            since.elapsed() < Duration::from_secs(90),
            "{} of {acknowledged}",
            receiver.all().len()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Each at least once; without the repetitions, in the order of the feed.
    let mut seen: Vec<String> = Vec::new();
    for received in receiver.all() {
        assert!(received.verifies_with(&secret));
        let id = &received.headers["webhook-id"];
        if !seen.contains(id) {
            seen.push(id.clone());
        }
    }
    assert_eq!(seen, ids);
    server.assert_healthy().await;
}
