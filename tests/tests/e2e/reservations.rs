//! Reservations of an own metric: exact under any number of clients, and given back whatever happens to whom.

use std::fs;
use std::time::{Duration, Instant};

use e2e::{Actor, Api, Server, unknown_id};
use futures_util::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

const PLANS: &str = r#"
[[metric]]
name = "api_calls"
kind = "flow"
ingest = true
unit = "calls"

[[metric]]
name = "rooms"
kind = "level"
ingest = true
per = "house"

[[plan]]
slug = "free"
version = 1
name = "Free"
limits = { storage_gb = 5, max_photos_per_gallery = 100, max_team_members = 2, ai_analysis_monthly = 0, api_calls = 100, rooms = 3 }
features = { custom_branding = false }

[[plan]]
slug = "large"
version = 1
name = "Large"
limits = { api_calls = { max = 1000, soft = true } }
prices = [{ currency = "usd", interval = "month", amount = 900 }]
"#;

const RESERVATIONS: &str = "/v1/usage/reservations";

/// A server with metrics of its own, and a program of a workspace.
struct Meter {
    server: Server,
    ada: Actor,
    program: Api,
    _plans: NamedTempFile,
}

impl Meter {
    async fn start() -> Self {
        let plans = NamedTempFile::new().expect("failed to make the catalogue's file");
        fs::write(plans.path(), PLANS).expect("failed to write the catalogue");
        let path = plans.path().to_str().expect("a path");
        let server = Server::start_with(&[("RAWDRIVE_PLANS", path)]);
        let ada = server.sign_up("meter").await;
        let body = json!({ "name": "meter", "role": "member" });
        let key = ada.post("/v1/api-keys", &body).await.is(201).text("secret");
        Self {
            program: server.bearer(&key),
            server,
            ada,
            _plans: plans,
        }
    }

    async fn reserve(&self, amount: u64, ttl_seconds: u64) -> String {
        let body = wanted(amount, ttl_seconds);
        let made = self.program.post(RESERVATIONS, &body).await.is(201);
        made.text("id")
    }

    async fn counted(&self) -> (u64, u64) {
        let usage = self.ada.usage("api_calls").await;
        let number = |member: &str| usage[member].as_u64().expect("a number");
        (number("used"), number("reserved"))
    }
}

fn wanted(amount: u64, ttl_seconds: u64) -> Value {
    json!({ "metric": "api_calls", "amount": amount, "ttl_seconds": ttl_seconds })
}

fn at(id: &str, verb: &str) -> String {
    format!("{RESERVATIONS}/{id}{verb}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_reservations_at_once_exactly_as_many_are_made_as_fit() {
    let meter = Meter::start().await;
    let statuses: Vec<_> = stream::iter(0..1_000)
        .map(|_| async {
            let made = meter.program.post(RESERVATIONS, &wanted(1, 600)).await;
            (made.status, made)
        })
        .buffer_unordered(64)
        .collect()
        .await;
    let made: Vec<_> = statuses.iter().filter(|(s, _)| *s == 201).collect();
    assert_eq!(made.len(), 100);
    for (status, refused) in statuses.iter().filter(|(s, _)| *s != 201) {
        assert_eq!(*status, 402, "{refused:?}");
    }
    assert_eq!(meter.counted().await, (0, 100));
    // Settled and deleted in any order, at once: each once.
    let each = made.iter().enumerate().map(|(i, (_, made))| {
        let (id, program) = (made.text("id"), &meter.program);
        async move {
            if i % 2 == 0 {
                let settled = program.post(&at(&id, "/settle"), &json!({})).await;
                let _ = settled.is(200);
            } else {
                let _ = program.delete(&at(&id, "")).await.is(204);
            }
        }
    });
    stream::iter(each)
        .buffer_unordered(16)
        .collect::<Vec<_>>()
        .await;
    assert_eq!(meter.counted().await, (50, 0));
    meter.server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_server_held_is_settled_after_it_or_given_back_within_its_time() {
    const TTL: u64 = 6;
    let meter = Meter::start().await;
    let kept = meter.reserve(30, 600).await;
    let lost = meter.reserve(50, TTL).await;
    let begun = Instant::now();
    meter.server.kill9();
    meter.server.restart();
    // A restart ends none of them: who holds them is a program that knows of no restart.
    assert_eq!(meter.counted().await, (0, 80));
    let settled = meter.program.post(&at(&kept, "/settle"), &json!({})).await;
    assert_eq!(settled.is(200).json()["state"], "settled");
    while meter.counted().await != (30, 0) {
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(TTL + 10), "{waited:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(TTL) - Duration::from_millis(500));
    // Expiry is final.
    let shown = meter.program.get(&at(&lost, "")).await.is(200).json();
    assert_eq!(shown["state"], "expired");
    let late = meter.program.post(&at(&lost, "/settle"), &json!({})).await;
    late.problem(409, "conflict");
    let late = json!({ "ttl_seconds": 60 });
    let late = meter.program.post(&at(&lost, "/extend"), &late).await;
    late.problem(409, "conflict");
    let _ = meter.program.delete(&at(&lost, "")).await.is(204);
    meter.server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reservation_is_settled_once_for_what_it_came_to() {
    let meter = Meter::start().await;
    let program = &meter.program;
    let made = program.post(RESERVATIONS, &wanted(60, 600)).await.is(201);
    let id = made.text("id");
    assert_eq!(made.header("location"), at(&id, ""));
    let shown = program.get(&at(&id, "")).await.is(200).json();
    assert_eq!(shown, made.json());
    assert_eq!(
        (&shown["state"], &shown["amount"]),
        (&json!("held"), &json!(60))
    );

    // More than is held takes the rest, where it fits beside what others hold.
    let other = meter.reserve(30, 600).await;
    let settle = async |id: &str, amount: u64| {
        program
            .post(&at(id, "/settle"), &json!({ "amount": amount }))
            .await
    };
    let refused = settle(&id, 71).await.problem(402, "quota_exceeded");
    for (member, value) in [
        ("current", json!(30)),
        ("used", json!(0)),
        ("reserved", json!(30)),
        ("requested", json!(71)),
        ("limit", json!(100)),
        ("hard_limit", json!(100)),
        ("subject", Value::Null),
    ] {
        assert_eq!(refused[member], value, "{member}: {refused}");
    }
    assert_eq!(refused["cheapest_plan"]["slug"], "large", "{refused}");
    assert_eq!(meter.counted().await, (0, 90));
    let settled = settle(&id, 70).await.is(200).json();
    assert_eq!(
        (&settled["state"], &settled["amount"]),
        (&json!("settled"), &json!(70))
    );
    assert_eq!(meter.counted().await, (70, 30));
    // Again is the same; otherwise is a conflict.
    assert_eq!(settle(&id, 70).await.is(200).json(), settled);
    let again = program.post(&at(&id, "/settle"), &json!({})).await;
    assert_eq!(again.is(200).json(), settled);
    settle(&id, 69).await.problem(409, "conflict");
    program.delete(&at(&id, "")).await.problem(409, "conflict");
    assert_eq!(program.get(&at(&id, "")).await.is(200).json(), settled);

    // Less gives the rest back, and nothing is no line of the ledger.
    let _ = settle(&other, 5).await.is(200);
    assert_eq!(meter.counted().await, (75, 0));
    let nothing = meter.reserve(25, 600).await;
    let _ = settle(&nothing, 0).await.is(200);
    assert_eq!(meter.counted().await, (75, 0));
    let lines = meter.ada.list_all("/v1/usage/events", 50).await;
    let told: Vec<_> = lines
        .iter()
        .filter(|line| line["metric"] == "api_calls")
        .map(|line| (line["subject"].clone(), line["quantity"].clone()))
        .collect();
    assert_eq!(told, [(json!(other), json!(5)), (json!(id), json!(70))]);
    meter.server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_names_one_reservation_and_a_foreign_one_is_not_there() {
    let meter = Meter::start().await;
    let (program, body) = (&meter.program, wanted(10, 600));
    let keyed = async || {
        let request = program.request(Method::POST, RESERVATIONS).json(&body);
        program
            .send(request.header("idempotency-key", "job-1"))
            .await
    };
    let first = keyed().await.is(201);
    let again = keyed().await.is(201);
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.json(), first.json());
    assert_eq!(meter.counted().await, (0, 10));

    let id = first.text("id");
    let longer = json!({ "ttl_seconds": 3_600 });
    let extended = program
        .post(&at(&id, "/extend"), &longer)
        .await
        .is(200)
        .json();
    assert!(extended["expires_at"].as_str() > first.json()["expires_at"].as_str());
    // What is shorter takes nothing away.
    let shorter = json!({ "ttl_seconds": 1 });
    let kept = program.post(&at(&id, "/extend"), &shorter).await.is(200);
    assert_eq!(kept.json(), extended);

    let eve = meter.server.sign_up("eve").await;
    for id in [id.as_str(), &unknown_id("hld"), "hld_1"] {
        eve.get(&at(id, "")).await.problem(404, "not_found");
        eve.delete(&at(id, "")).await.problem(404, "not_found");
        for (verb, body) in [("/settle", json!({})), ("/extend", longer.clone())] {
            eve.post(&at(id, verb), &body)
                .await
                .problem(404, "not_found");
        }
    }
    // A person of the workspace may, too.
    let _ = meter.ada.delete(&at(&id, "")).await.is(204);
    let _ = meter.ada.delete(&at(&id, "")).await.is(204);
    let gone = program.post(&at(&id, "/settle"), &json!({})).await;
    gone.problem(409, "conflict");
    assert_eq!(meter.counted().await, (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_metrics_alone_are_reserved_and_each_subject_has_its_own_limit() {
    let meter = Meter::start().await;
    let rooms = |house: &str, amount: u64| json!({ "metric": "rooms", "subject": house, "amount": amount, "ttl_seconds": 60 });
    let program = &meter.program;
    let _ = program.post(RESERVATIONS, &rooms("h1", 3)).await.is(201);
    let _ = program.post(RESERVATIONS, &rooms("h2", 3)).await.is(201);
    let full = program.post(RESERVATIONS, &rooms("h1", 1)).await;
    let full = full.problem(402, "quota_exceeded");
    assert_eq!(
        (&full["subject"], &full["resets_at"]),
        (&json!("h1"), &Value::Null)
    );
    // A check says the same of it.
    let check = json!({ "metric": "rooms", "subject": "h1", "amount": 1 });
    let check = program
        .post("/v1/entitlements/check", &check)
        .await
        .is(200)
        .json();
    for member in [
        "subject",
        "used",
        "reserved",
        "requested",
        "limit",
        "layers",
        "cheapest_plan",
    ] {
        assert_eq!(check[member], full[member], "{member}");
    }
    let mut no_metric = rooms("h1", 1);
    no_metric["metric"] = json!("nothing");
    for (wrong, field) in [
        (no_metric, "metric"),
        (
            json!({ "metric": "storage_bytes", "amount": 1, "ttl_seconds": 60 }),
            "metric",
        ),
        (
            json!({ "metric": "rooms", "amount": 1, "ttl_seconds": 60 }),
            "subject",
        ),
        (rooms("a b", 1), "subject"),
        (rooms("h1", 0), "amount"),
        (wanted(1, 0), "ttl_seconds"),
        (wanted(1, 86_401), "ttl_seconds"),
        (
            json!({ "metric": "api_calls", "subject": "h1", "amount": 1, "ttl_seconds": 60 }),
            "subject",
        ),
    ] {
        let refused = program.post(RESERVATIONS, &wrong).await;
        let refused = refused.problem(422, "validation_failed");
        assert_eq!(refused["errors"][0]["field"], field, "{wrong}: {refused}");
    }
    let own = json!({ "metric": "storage_bytes", "amount": 1, "ttl_seconds": 60 });
    let refused = program.post(RESERVATIONS, &own).await;
    assert!(
        refused
            .problem(422, "validation_failed")
            .to_string()
            .contains("ingest = true")
    );
}
