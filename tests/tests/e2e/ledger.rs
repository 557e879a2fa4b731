//! The ledger, its history and statements, and events that programs report.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use e2e::{Actor, Api, Server, image, reported_events};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

const PLANS: &str = r#"
[[metric]]
name = "api_calls"
kind = "flow"
ingest = true

[[metric]]
name = "devices"
kind = "level"
ingest = true

[[metric]]
name = "own_calls"
kind = "flow"

[[plan]]
slug = "free"
version = 1
name = "Free"
limits = { storage_gb = 5, max_photos_per_gallery = 100, max_team_members = 1, ai_analysis_monthly = 0, api_calls = 100 }
features = { custom_branding = false }
"#;

/// A server whose clock and metrics are the test's.
struct Meter {
    server: Server,
    clock: NamedTempFile,
    _plans: NamedTempFile,
}

impl Meter {
    fn start(now: &str) -> Self {
        let clock = NamedTempFile::new().expect("failed to make the clock's file");
        let plans = NamedTempFile::new().expect("failed to make the catalogue's file");
        fs::write(clock.path(), now).expect("failed to set the clock");
        fs::write(plans.path(), PLANS).expect("failed to write the catalogue");
        let path = |file: &NamedTempFile| file.path().to_str().expect("a path").to_owned();
        let server = Server::start_with(&[
            ("RAWDRIVE_DEV", "1"),
            ("RAWDRIVE_DEV_CLOCK", &path(&clock)),
            ("RAWDRIVE_PLANS", &path(&plans)),
        ]);
        Self {
            server,
            clock,
            _plans: plans,
        }
    }

    fn set_clock(&self, now: &str) {
        // In one step: a half-written file leaves the last time in force.
        let next = NamedTempFile::new_in(self.clock.path().parent().expect("a directory"))
            .expect("failed to make a file");
        fs::write(next.path(), now).expect("failed to write the time");
        fs::rename(next.path(), self.clock.path()).expect("failed to set the clock");
    }

    /// A program of somebody's workspace, whose credential no clock ends.
    async fn program(&self, actor: &Actor) -> Api {
        let body = json!({ "name": "meter", "role": "member" });
        let key = actor.post("/v1/api-keys", &body).await.is(201);
        self.server.bearer(&key.text("secret"))
    }

    /// Writes a statement to a file.
    async fn statement(&self, api: &Api, month: &str, accept: &str) -> PathBuf {
        let path = format!("/v1/usage/statements/{month}");
        let request = api.request(Method::GET, &path).header("accept", accept);
        let answer = api.send(request).await.is(200);
        assert_eq!(answer.header("content-type"), accept);
        let extension = if accept.ends_with("ndjson") {
            "ndjson"
        } else {
            "json"
        };
        let file = self.server.scratch(&format!("{month}.{extension}"));
        fs::write(&file, &answer.body).expect("failed to write the statement");
        file
    }
}

fn event(id: &str, quantity: i64, at: &str) -> Value {
    json!({ "id": id, "metric": "api_calls", "quantity": quantity, "occurred_at": at })
}

async fn report(api: &Api, events: &[Value]) -> Value {
    let body = json!({ "events": events });
    api.post("/v1/usage/events", &body).await.is(202).json()
}

fn verify_arguments(files: &[PathBuf]) -> Vec<&str> {
    let files = files.iter().map(|f| f.to_str().expect("a path is text"));
    ["usage", "verify"].into_iter().chain(files).collect()
}

fn sum(items: &[Value], member: &str) -> i64 {
    items
        .iter()
        .map(|item| item[member].as_i64().expect("a number"))
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_counts_once_whoever_sends_it_and_each_refusal_has_its_code() {
    let meter = Meter::start("2026-03-20T12:00:00Z");
    let ada = meter.server.sign_up("meter").await;
    let (one, two) = (meter.program(&ada).await, meter.program(&ada).await);
    let events = [
        event("a", 40, "2026-03-20T11:00:00Z"),
        event("b", 30, "2026-03-20T12:05:00Z"),
        event("a", 40, "2026-03-20T11:00:00Z"),
        event("late", 9, "2026-02-13T12:00:00Z"),
        event("too-late", 1, "2026-02-13T11:59:59Z"),
        event("ahead", 1, "2026-03-20T12:05:01Z"),
        event("zero", 0, "2026-03-20T12:00:00Z"),
        json!({ "id": "fraction", "metric": "api_calls", "quantity": 1.5 }),
        json!({ "id": "huge", "metric": "api_calls", "quantity": 1_u64 << 53 }),
        json!({ "id": "own", "metric": "own_calls", "quantity": 1 }),
        json!({ "id": "storage", "metric": "storage_bytes", "quantity": 1 }),
        json!({ "id": "unknown", "metric": "nothing", "quantity": 1 }),
        json!({ "id": "when", "metric": "api_calls", "quantity": 1, "occurred_at": "yesterday" }),
        json!({ "id": "what", "metric": "api_calls", "quantity": 1, "subject": "with space" }),
        json!({ "id": "", "metric": "api_calls", "quantity": 1 }),
        json!({ "id": "down", "metric": "devices", "quantity": -1 }),
    ];
    let receipt = report(&one, &events).await;
    assert_eq!(
        (&receipt["accepted"], &receipt["duplicates"]),
        (&json!(3), &json!(1))
    );
    let refused: BTreeMap<_, _> = receipt["refused"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|r| {
            (
                r["id"].as_str().unwrap_or_default(),
                r["code"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    let expected = BTreeMap::from([
        ("too-late", "too_old"),
        ("ahead", "in_the_future"),
        ("zero", "invalid_quantity"),
        ("fraction", "invalid_quantity"),
        ("huge", "invalid_quantity"),
        ("own", "metric_not_ingested"),
        ("storage", "metric_not_ingested"),
        ("unknown", "unknown_metric"),
        ("when", "invalid_occurred_at"),
        ("what", "invalid_subject"),
        ("", "invalid_id"),
        ("down", "below_zero"),
    ]);
    assert_eq!(refused, expected);
    // Another key, another quantity: the id has counted. One that was refused has not.
    let again = report(
        &two,
        &[
            event("a", 1, "2026-03-20T12:00:00Z"),
            json!({ "id": "down", "metric": "devices", "quantity": -1 }),
            json!({ "id": "up", "metric": "devices", "quantity": 3, "subject": "camera-1" }),
        ],
    )
    .await;
    assert_eq!(
        (&again["accepted"], &again["duplicates"]),
        (&json!(2), &json!(1))
    );
    // Beyond the limit of 100 all the same.
    let over = report(&one, &[event("c", 31, "2026-03-20T12:00:00Z")]).await;
    assert_eq!(over["accepted"], 1);
    let usage = ada.usage("api_calls").await;
    assert_eq!(
        (&usage["used"], &usage["level"]),
        (&json!(101), &json!("over"))
    );
    assert_eq!(ada.usage("devices").await["used"], 2);
    // Elsewhere the same id is another event.
    let eve = meter.server.sign_up("other").await;
    let theirs = meter.program(&eve).await;
    assert_eq!(
        report(&theirs, &[event("a", 2, "2026-03-20T12:00:00Z")]).await["accepted"],
        1
    );
    assert_eq!(eve.usage("api_calls").await["used"], 2);

    let lines = ada
        .get("/v1/usage/events?metric=api_calls")
        .await
        .is(200)
        .json();
    let lines = lines["items"].as_array().expect("items").clone();
    assert_eq!(sum(&lines, "quantity"), 110);
    let late = lines
        .iter()
        .find(|l| l["event_id"] == "late")
        .expect("the late one");
    assert_eq!(late["period_start"], "2026-02-01T00:00:00Z");
    assert_eq!(late["recorded_at"], "2026-03-20T12:00:00Z");
    let filtered = "/v1/usage/events?from=2026-03-01&to=2026-03-20T12:00:00Z&metric=api_calls";
    let filtered = ada.get(filtered).await.is(200).json();
    let ids: Vec<_> = filtered["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|l| l["event_id"].clone())
        .collect();
    assert_eq!(ids, ["a"]);
    let reversed = "/v1/usage/events?from=2026-03-20&to=2026-03-01";
    let problem = ada.get(reversed).await.problem(422, "validation_failed");
    assert_eq!(problem["errors"][0]["field"], "to", "{problem}");
    meter.server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_envelope_names_its_field_and_records_nothing() {
    let meter = Meter::start("2026-03-20T12:00:00Z");
    let ada = meter.server.sign_up("envelope").await;
    let program = meter.program(&ada).await;
    let good = || event("a", 1, "2026-03-20T12:00:00Z");
    let with = |name: &str, value: Value| {
        let mut event = good();
        event[name] = value;
        json!({ "events": [good(), event] })
    };
    for (body, field) in [
        (json!({}), "events"),
        (json!({ "events": [] }), "events"),
        (json!({ "events": good() }), "events"),
        (json!({ "events": vec![good(); 1_001] }), "events"),
        (
            json!({ "events": [good()], "workspace_id": 1 }),
            "workspace_id",
        ),
        (with("quantity", json!("5")), "events[1].quantity"),
        (with("colour", json!(1)), "events[1].colour"),
        (with("id", json!(7)), "events[1].id"),
        (with("metric", Value::Null), "events[1].metric"),
        (with("subject", json!("a\u{0}b")), "events[1].subject"),
    ] {
        let problem = program
            .post("/v1/usage/events", &body)
            .await
            .problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    let problem = ada
        .post("/v1/usage/events", &json!({ "events": [good()] }))
        .await;
    problem.problem(403, "insufficient_role");
    assert_eq!(ada.usage("api_calls").await["used"], 0);
    // An idempotency key replays the receipt itself; without one, the ids are enough.
    let body = json!({ "events": [good()] });
    let send = async || {
        let request = program.request(Method::POST, "/v1/usage/events");
        program
            .send(request.json(&body).header("idempotency-key", "k1"))
            .await
            .is(202)
    };
    let (first, second) = (send().await, send().await);
    assert_eq!(first.json(), second.json());
    assert_eq!(second.header("idempotency-replayed"), "true");
    assert_eq!(report(&program, &[good()]).await["duplicates"], 1);
    assert_eq!(ada.usage("api_calls").await["used"], 1);

    for (query, field) in [
        ("", "metric"),
        ("metric=nothing", "metric"),
        ("metric=api_calls&granularity=week", "granularity"),
        ("metric=api_calls&from=now", "from"),
        ("metric=api_calls&from=2026-03-02&to=2026-03-01", "to"),
        ("metric=api_calls&from=2025-01-01&granularity=hour", "from"),
        ("metric=api_calls&colour=red", "colour"),
    ] {
        let answer = ada.get(&format!("/v1/usage/history?{query}")).await;
        let problem = answer.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["field"], field, "{query}: {problem}");
    }
    let many = ada.get("/v1/usage/history?metric=api_calls&from=2025-01-01&granularity=hour");
    let many = many.await.problem(422, "validation_failed").to_string();
    assert!(
        many.contains("1000 hours") && many.contains("granularity=day"),
        "{many}"
    );
    for month in ["2026-04", "2026-02", "2026-3", "2026-13", "nonsense", "%00"] {
        let answer = ada.get(&format!("/v1/usage/statements/{month}")).await;
        answer.problem(404, "not_found");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_sums_to_the_ledger_at_every_granularity() {
    let meter = Meter::start("2026-01-10T09:30:00Z");
    let ada = meter.server.sign_up("history").await;
    let program = meter.program(&ada).await;
    let gallery = program.gallery("History").await;
    let photo = program
        .upload(&gallery, image::jpeg(4_000, 1), "image/jpeg")
        .await
        .is(201)
        .text("id");
    for (n, now) in [
        "2026-01-31T23:59:59.999Z",
        "2026-02-01T00:00:00Z",
        "2026-02-28T12:00:00Z",
        "2026-03-01T00:00:00Z",
    ]
    .into_iter()
    .enumerate()
    {
        meter.set_clock(now);
        let late = format!("{}T06:00:00Z", &now[..10]);
        let events = [
            json!({ "id": format!("{n}"), "metric": "api_calls", "quantity": 10 + n }),
            event(&format!("{n}-late"), 5, &late),
            json!({ "id": format!("{n}-level"), "metric": "devices", "quantity": if n == 2 { -3 } else { 4 } }),
        ];
        // What lies ahead of the clock by hours is refused; nothing is lost by that here.
        let receipt = report(&program, &events).await;
        assert!(receipt["accepted"].as_i64() >= Some(2), "{receipt}");
        let size = 2_000 + n;
        let answer = program
            .upload(&gallery, image::jpeg(size, 1), "image/jpeg")
            .await;
        let _ = answer.is(201);
    }
    let _ = program.delete(&format!("/v1/photos/{photo}")).await.is(204);
    for metric in [
        "api_calls",
        "devices",
        "storage_bytes",
        "team_members",
        "photos",
        "ai_analysis",
    ] {
        let lines = program
            .get(&format!("/v1/usage/events?limit=200&metric={metric}"))
            .await
            .is(200)
            .json();
        let ledger = sum(lines["items"].as_array().expect("items"), "quantity");
        for (granularity, from) in [
            ("hour", "2026-01-25"),
            ("day", "2026-01-01"),
            ("month", "2026-01-01"),
        ] {
            let path = format!(
                "/v1/usage/history?metric={metric}&granularity={granularity}&from={from}&to=2026-03-02"
            );
            let history = program.get(&path).await.is(200).json();
            let points = history["points"].as_array().expect("points").clone();
            let total = sum(&points, "quantity");
            assert_eq!(history["total"], total, "{path}");
            let level = history["kind"] == "level";
            let opening = history["opening"].as_i64().unwrap_or_default();
            if level {
                assert_eq!(opening + total, ledger, "{path}: {history}");
                let last = points.last().expect("a point");
                assert_eq!(last["closing"], ledger);
            } else {
                assert!(history["opening"].is_null() && points[0]["closing"].is_null());
                if granularity != "hour" {
                    assert_eq!(total, ledger, "{path}");
                }
            }
            assert!(
                points
                    .windows(2)
                    .all(|pair| pair[0]["end"] == pair[1]["start"])
            );
        }
    }
    // By default: 30 days to now, in days.
    let history = program
        .get("/v1/usage/history?metric=api_calls")
        .await
        .is(200)
        .json();
    assert_eq!(history["granularity"], "day");
    assert_eq!(history["from"], "2026-01-30T00:00:00Z");
    meter.server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_are_closed_for_ever_and_verified_offline() {
    let meter = Meter::start("2026-01-10T09:30:00Z");
    let ada = meter.server.sign_up("statement").await;
    let program = meter.program(&ada).await;
    for (n, now) in [
        "2026-01-31T23:59:59.999Z",
        "2026-02-01T00:00:00Z",
        "2026-02-20T00:00:00Z",
    ]
    .into_iter()
    .enumerate()
    {
        meter.set_clock(now);
        let events: Vec<_> = (0..600)
            .map(|i| json!({ "id": format!("{n}-{i}"), "metric": "api_calls", "quantity": 1 + i % 3 }))
            .collect();
        assert_eq!(report(&program, &events).await["accepted"], 600);
    }
    let late = event("late", 7, "2026-01-31T23:59:59.999Z");
    assert_eq!(report(&program, &[late]).await["accepted"], 1);
    let correct = [
        "usage",
        "correct",
        "--workspace",
        &ada.workspace_id,
        "--metric",
        "api_calls",
        "--quantity",
        "-100",
        "--reason",
        "counted twice",
        "--json",
    ];
    let corrected = meter.server.admin(&correct).await.succeeded();
    let corrected: Value = serde_json::from_str(&corrected.stdout).expect("JSON");
    assert_eq!(
        (&corrected["before"], &corrected["after"]),
        (&json!(2_400), &json!(2_300))
    );

    let january = meter
        .statement(&program, "2026-01", "application/json")
        .await;
    let closed = fs::read(&january).expect("the file");
    let head: Value = serde_json::from_slice(&closed).expect("JSON");
    assert_eq!(
        (&head["status"], &head["previous_digest"]),
        (&json!("closed"), &Value::Null)
    );
    // The sign-up's seat, and the events up to the last millisecond.
    assert_eq!(head["line_count"], 601);
    meter.set_clock("2026-04-02T00:00:00Z");
    let february = meter
        .statement(&program, "2026-02", "application/x-ndjson")
        .await;
    let march = meter
        .statement(&program, "2026-03", "application/json")
        .await;
    let text = fs::read_to_string(&february).expect("the file");
    let head: Value = serde_json::from_str(text.lines().next().expect("a head")).expect("JSON");
    let totals = &head["metrics"][0];
    let expected = json!({
        "metric": "api_calls", "opening": 1_200, "events": 2_407, "corrections": 100, "closing": 3_507,
        "late": { "lines": 1, "quantity": 7 },
    });
    assert_eq!(totals, &expected);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!((lines.len(), &head["line_count"]), (1_203, &json!(1_202)));
    let line: Value = serde_json::from_str(lines[1_201]).expect("JSON");
    assert_eq!(
        (&line["event_id"], &line["late"]),
        (&json!("late"), &json!(true))
    );
    assert_eq!(line["period_start"], "2026-01-01T00:00:00Z");

    // What was recorded since changes nothing in what was closed.
    assert_eq!(
        fs::read(
            meter
                .statement(&program, "2026-01", "application/json")
                .await
        )
        .expect("the file"),
        closed
    );
    let list = program.list_all("/v1/usage/statements", 2).await;
    let months: Vec<_> = list
        .iter()
        .map(|s| s["month"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(months, ["2026-04", "2026-03", "2026-02", "2026-01"]);
    assert_eq!(list[2], head);
    assert_eq!(list[0]["status"], "open");

    let files = [march, january.clone(), february.clone()];
    let verified = Server::run_alone(&verify_arguments(&files))
        .await
        .succeeded();
    assert_eq!(verified.stdout.lines().count(), 3, "{verified:?}");
    let gap = Server::run_alone(&verify_arguments(&[files[0].clone(), january])).await;
    assert_eq!(gap.code, Some(1));
    assert!(
        gap.stderr.contains("months between them are missing"),
        "{gap:?}"
    );

    // The 700th line: 601 were January's, so that it is line 1301 of the ledger.
    let spoilt = meter.server.scratch("spoilt.ndjson");
    let number = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["seq"].clone();
    assert_eq!(number(lines[700]), 1_301);
    let changed = lines[700].replace("\"quantity\":", "\"quantity\":1");
    let without = |skip: usize| {
        let kept = lines.iter().enumerate().filter(|(n, _)| *n != skip);
        kept.map(|(_, line)| *line).collect::<Vec<_>>().join("\n")
    };
    let mut swapped = lines.clone();
    swapped.swap(700, 900);
    for (text, what) in [
        (
            lines.join("\n").replace(lines[700], &changed),
            "does not hash",
        ),
        (without(700), "is missing"),
        (swapped.join("\n"), "is missing"),
        (lines[..700].join("\n"), "ends before it"),
    ] {
        fs::write(&spoilt, text).expect("failed to write");
        let refused = Server::run_alone(&verify_arguments(std::slice::from_ref(&spoilt))).await;
        assert_eq!(refused.code, Some(1));
        assert!(
            refused.stderr.contains("line 1301: ") && refused.stderr.contains(what),
            "{what}: {refused:?}"
        );
    }
    let rebuilt = meter
        .server
        .admin(&["usage", "rebuild", "--dry-run", "--json"])
        .await;
    let rebuilt: Value = serde_json::from_str(&rebuilt.succeeded().stdout).expect("JSON");
    assert_eq!(rebuilt["differences"], json!([]));
    let audit = ada_audit(&meter, &ada).await;
    assert!(
        audit.contains("usage.corrected") && audit.contains("counted twice"),
        "{audit}"
    );
    meter.server.assert_healthy().await;
}

/// The owner's session has ended by the clock; a new one reads the log.
async fn ada_audit(meter: &Meter, ada: &Actor) -> String {
    let body = json!({ "email": ada.email, "password": Actor::PASSWORD });
    let session = meter
        .server
        .anonymous()
        .post("/v1/sessions", &body)
        .await
        .is(201);
    let api = meter.server.bearer(&session.text("access_token"));
    let audit = api.get("/v1/workspace/audit").await.is(200);
    String::from_utf8_lossy(&audit.body).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_come_at_once_are_all_counted_and_a_kill_loses_none_that_was_acknowledged() {
    let meter = Meter::start("2026-03-20T12:00:00Z");
    let ada = meter.server.sign_up("burst").await;
    let program = meter.program(&ada).await;
    let batch = |n: usize| -> Vec<Value> {
        (0..20)
            .map(|i| event(&format!("{n}-{i}"), 1, "2026-03-20T12:00:00Z"))
            .collect()
    };
    let bodies: Vec<_> = (0..100).map(|n| json!({ "events": batch(n) })).collect();
    let sent = bodies.iter().enumerate().map(|(n, body)| {
        let (program, server) = (&program, &meter.server);
        async move {
            if n == 60 {
                server.kill9();
            }
            let request = program.request(Method::POST, "/v1/usage/events").json(body);
            program
                .try_send(request)
                .await
                .is_ok_and(|a| a.status == 202)
        }
    });
    let acknowledged: BTreeSet<_> = stream::iter(sent)
        .buffered(16)
        .enumerate()
        .filter_map(|(n, ok)| async move { ok.then_some(n) })
        .collect()
        .await;
    assert!(!acknowledged.is_empty() && acknowledged.len() < 100);
    meter.server.restart();
    let again = join_all(
        acknowledged
            .iter()
            .map(|n| report(&program, bodies_of(&bodies, *n))),
    )
    .await;
    for (n, receipt) in acknowledged.iter().zip(&again) {
        assert_eq!(
            receipt["duplicates"], 20,
            "batch {n} was acknowledged and is not there"
        );
    }
    let all = join_all((0..100).map(|n| report(&program, bodies_of(&bodies, n)))).await;
    let counted: i64 = all
        .iter()
        .map(|r| r["accepted"].as_i64().unwrap_or(0) + r["duplicates"].as_i64().unwrap_or(0))
        .sum();
    assert_eq!(counted, 2_000);
    let usage = program.usage("api_calls").await;
    assert_eq!(usage["used"], 2_000);
    meter.server.assert_healthy().await;
}

fn bodies_of(bodies: &[Value], n: usize) -> &[Value] {
    bodies[n]["events"].as_array().expect("events")
}

/// Says how long something took, to whoever runs the test with `--nocapture`.
#[expect(clippy::print_stderr, reason = "a test's figures are for its reader")]
fn figure(what: &str, begun: std::time::Instant) {
    eprintln!("{what} in {:.1} s", begun.elapsed().as_secs_f64());
}

/// Numbers that look like chance and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % n as u64).expect("it is below a usize")
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for n in (1..items.len()).rev() {
            items.swap(n, self.below(n + 1));
        }
    }
}

/// `RAWDRIVE_E2E_EVENTS=1000000` sends as many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_events_over_three_months_shuffled_and_doubled_are_exact() {
    let count = reported_events(100_000);
    let meter = Meter::start("2026-04-30T12:00:00Z");
    let ada = meter.server.sign_up("many").await;
    let program = meter.program(&ada).await;
    let mut dice = Dice(7);
    let (mut sums, mut sent, mut duplicates) = (BTreeMap::<String, i64>::new(), 0_usize, 0_usize);
    let begun = std::time::Instant::now();
    // Each month is told of at its end and in the month after, in any order.
    for (round, now) in [
        "2026-04-30T12:00:00Z",
        "2026-05-30T12:00:00Z",
        "2026-06-30T12:00:00Z",
    ]
    .into_iter()
    .enumerate()
    {
        meter.set_clock(now);
        let month = round + 4;
        let own = count / 3 + usize::from(round < count % 3);
        let mut events = Vec::with_capacity(own + own / 10 + 1);
        for n in 0..own {
            // Some of the month before, where that is not too long ago.
            let (of, day) = if round > 0 && n % 20 == 0 {
                (month - 1, 28)
            } else {
                (month, 1 + dice.below(29))
            };
            let at = format!(
                "2026-{of:02}-{day:02}T{:02}:{:02}:00Z",
                dice.below(12),
                dice.below(60)
            );
            let quantity = 1 + i64::try_from(dice.below(9)).expect("a digit");
            *sums.entry(format!("2026-{of:02}")).or_default() += quantity;
            events.push(event(&format!("{round}-{n}"), quantity, &at));
        }
        for _ in 0..own / 10 {
            events.push(events[dice.below(own)].clone());
            duplicates += 1;
        }
        dice.shuffle(&mut events);
        sent += events.len();
        let batches: Vec<_> = events.chunks(1_000).map(<[Value]>::to_vec).collect();
        let receipts: Vec<_> = stream::iter(batches)
            .map(|batch| {
                let program = program.clone();
                async move { report(&program, &batch).await }
            })
            .buffer_unordered(8)
            .collect()
            .await;
        assert_eq!(
            sum(&receipts, "accepted"),
            i64::try_from(own).expect("a count")
        );
        assert!(receipts.iter().all(|r| r["refused"] == json!([])));
    }
    figure(
        &format!("{sent} events sent, {duplicates} of them doubles"),
        begun,
    );
    let total: i64 = sums.values().sum();
    let path = "/v1/usage/history?metric=api_calls&from=2026-04-01&to=2026-07-01&granularity";
    for granularity in ["month", "day"] {
        let history = program
            .get(&format!("{path}={granularity}"))
            .await
            .is(200)
            .json();
        assert_eq!(history["total"], total);
        if granularity == "month" {
            for point in history["points"].as_array().expect("points") {
                let month = &point["start"].as_str().expect("a time")[..7];
                assert_eq!(point["quantity"], sums[month], "{month}");
            }
        }
    }
    assert_eq!(program.usage("api_calls").await["used"], sums["2026-06"]);
    meter.set_clock("2026-07-01T00:00:00Z");
    let mut files = Vec::new();
    let mut lines = 0;
    for month in ["2026-04", "2026-05", "2026-06"] {
        let file = meter
            .statement(&program, month, "application/x-ndjson")
            .await;
        lines += fs::read_to_string(&file).expect("the file").lines().count() - 1;
        files.push(file);
    }
    // The seat of the sign-up is the one line more.
    assert_eq!(lines, count + 1);
    let begun = std::time::Instant::now();
    let verified = Server::run_alone(&verify_arguments(&files))
        .await
        .succeeded();
    figure(&format!("{lines} lines verified"), begun);
    assert_eq!(verified.stdout.lines().count(), 3);
    meter.server.assert_healthy().await;
}
