//! Limits with a tolerance, soft ones, warnings of one's own, and what a check explains.

use std::fs;

use e2e::{Backend, Server};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

const PLANS: &str = r#"
[[metric]]
name = "seats_in_rooms"
kind = "level"
ingest = true
unit = "seats"
warn_at = [70, 85]

[[metric]]
name = "api_calls"
kind = "flow"
ingest = true
unit = "calls"

[[plan]]
slug = "free"
version = 1
name = "Free"
limits = { storage_gb = 5, max_photos_per_gallery = 100, max_team_members = 1, ai_analysis_monthly = 0, seats_in_rooms = { max = 100, tolerance_percent = 10 }, api_calls = { max = 10, soft = true } }
features = { custom_branding = false }

[[plan]]
slug = "team"
version = 1
name = "Team"
limits = { seats_in_rooms = 500, ai_analysis_monthly = 0 }
features = { custom_branding = true }
prices = [{ currency = "usd", interval = "month", amount = 1900 }, { currency = "eur", interval = "month", amount = 1700 }]

[[plan]]
slug = "house"
version = 1
name = "House"
limits = { seats_in_rooms = "unlimited" }
features = { custom_branding = true }
prices = [{ currency = "usd", interval = "month", amount = 9900 }]
"#;

fn start() -> (Server, NamedTempFile) {
    Backend::Sqlite.assert_chosen();
    let plans = NamedTempFile::new().expect("failed to make the catalogue's file");
    fs::write(plans.path(), PLANS).expect("failed to write the catalogue");
    let path = plans.path().to_str().expect("a path");
    (Server::start_with(&[("RAWDRIVE_PLANS", path)]), plans)
}

fn seats(amount: u64) -> Value {
    json!({ "metric": "seats_in_rooms", "amount": amount, "ttl_seconds": 600 })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tolerance_is_used_exactly_and_a_soft_limit_refuses_nothing() {
    let (server, _plans) = start();
    let ada = server.sign_up("tolerance").await;
    let statuses: Vec<_> = stream::iter(0..150)
        .map(|_| async { ada.post("/v1/usage/reservations", &seats(1)).await })
        .buffer_unordered(32)
        .collect()
        .await;
    let made: Vec<_> = statuses.iter().filter(|a| a.status == 201).collect();
    assert_eq!(made.len(), 110);
    let refused = ada.post("/v1/usage/reservations", &seats(2)).await;
    let refused = refused.problem(402, "quota_exceeded");
    for (member, value) in [
        ("current", 110),
        ("requested", 2),
        ("limit", 100),
        ("hard_limit", 110),
    ] {
        assert_eq!(refused[member], value, "{member}: {refused}");
    }
    let detail = refused["detail"].as_str().expect("a detail");
    assert!(detail.contains("100, with its tolerance 110"), "{detail}");

    // The levels are those of the limit, at the metric's own percentages.
    let mut levels = Vec::new();
    for (i, made) in made.iter().enumerate() {
        let path = format!("/v1/usage/reservations/{}/settle", made.text("id"));
        let _ = ada.post(&path, &json!({})).await.is(200);
        if [69, 70, 84, 85, 99, 100, 101, 110].contains(&(i + 1)) {
            let usage = ada.usage("seats_in_rooms").await;
            levels.push((
                i + 1,
                usage["level"].as_str().expect("a level").to_owned(),
                usage["remaining"].clone(),
                usage["percent"].clone(),
            ));
        }
    }
    let level = |used: usize, level: &str, remaining: u64, percent: f64| {
        (used, level.to_owned(), json!(remaining), json!(percent))
    };
    // Whatever is reserved still is not what remains.
    assert_eq!(
        levels,
        [
            level(69, "ok", 0, 69.0),
            level(70, "warning_70", 0, 70.0),
            level(84, "warning_70", 0, 84.0),
            level(85, "warning_85", 0, 85.0),
            level(99, "warning_85", 0, 99.0),
            level(100, "full", 0, 100.0),
            level(101, "over", 0, 101.0),
            level(110, "over", 0, 110.0),
        ]
    );
    let usage = ada.usage("seats_in_rooms").await;
    assert_eq!(
        (
            &usage["limit"],
            &usage["hard_limit"],
            &usage["unit"],
            &usage["warn_at"]
        ),
        (&json!(100), &json!(110), &json!("seats"), &json!([70, 85]))
    );

    let calls = |amount: u64| json!({ "metric": "api_calls", "amount": amount, "ttl_seconds": 60 });
    let made = ada.post("/v1/usage/reservations", &calls(25)).await.is(201);
    let path = format!("/v1/usage/reservations/{}/settle", made.text("id"));
    let _ = ada.post(&path, &json!({ "amount": 30 })).await.is(200);
    let usage = ada.usage("api_calls").await;
    assert_eq!(
        (
            &usage["level"],
            &usage["percent"],
            &usage["remaining"],
            &usage["hard_limit"]
        ),
        (&json!("over"), &json!(300.0), &json!(0), &Value::Null)
    );
    let entitlements = ada.get("/v1/entitlements").await.is(200).json();
    let of = |metric: &str| {
        let limits = entitlements["limits"].as_array().expect("limits");
        limits
            .iter()
            .find(|l| l["metric"] == metric)
            .expect("a limit")
            .clone()
    };
    assert_eq!(
        (&of("api_calls")["value"], &of("api_calls")["hard_limit"]),
        (&json!(10), &Value::Null)
    );
    assert_eq!(
        (
            &of("seats_in_rooms")["value"],
            &of("seats_in_rooms")["hard_limit"]
        ),
        (&json!(100), &json!(110))
    );
    assert_eq!(of("photos")["per"], "gallery");
    // An override replaces the number; how strict it is stays the plan's.
    server.override_limit(&ada, "seats_in_rooms=200").await;
    let usage = ada.usage("seats_in_rooms").await;
    assert_eq!(
        (&usage["limit"], &usage["hard_limit"], &usage["level"]),
        (&json!(200), &json!(220), &json!("ok"))
    );
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_checks_are_answered_at_once_each_with_its_layers_and_a_plan() {
    let (server, _plans) = start();
    let ada = server.sign_up("checks").await;
    server.override_limit(&ada, "storage_bytes=1000").await;
    let ask = async |body: Value| ada.post("/v1/entitlements/check", &body).await;
    let gallery = ada.gallery("Checks").await;
    let questions = json!([
        { "feature": "custom_branding" },
        { "metric": "seats_in_rooms", "amount": 110 },
        { "metric": "seats_in_rooms", "amount": 111 },
        { "metric": "seats_in_rooms", "amount": 501 },
        { "metric": "storage_bytes", "amount": 1001 },
        { "metric": "api_calls", "amount": 1_000_000 },
        { "metric": "photos", "amount": 1, "subject": gallery },
        { "metric": "photos", "amount": 1, "subject": "gal_0192f0c1a2b37c4d8e5f60718293a4b5" },
        { "metric": "nothing", "amount": 1 },
        { "metric": "api_calls", "amount": 1, "colour": "red" },
        {},
    ]);
    let answer = ask(json!({ "checks": questions })).await.is(200).json();
    assert_eq!(answer["allowed"], false);
    let checks = answer["checks"].as_array().expect("answers");
    let allowed: Vec<_> = checks.iter().map(|c| c["allowed"] == true).collect();
    assert_eq!(
        allowed,
        [
            false, true, false, false, false, true, true, false, false, false, false
        ]
    );
    let errors: Vec<_> = checks
        .iter()
        .map(|c| c["error"]["code"].as_str().unwrap_or("none"))
        .collect();
    assert_eq!(errors[..7], ["none"; 7]);
    assert_eq!(
        errors[7..],
        [
            "not_found",
            "validation_failed",
            "validation_failed",
            "validation_failed"
        ]
    );
    // Each is what it would be alone.
    for (question, together) in questions.as_array().into_iter().flatten().zip(checks) {
        let alone = ask(question.clone()).await;
        if together["error"].is_null() {
            assert_eq!(alone.is(200).json(), *together);
        } else {
            let code = together["error"]["code"].as_str().expect("a code");
            let status = together["error"]["status"].as_u64().expect("a status");
            alone.problem(u16::try_from(status).expect("a status"), code);
        }
    }
    let plan = |i: usize| checks[i]["cheapest_plan"].clone();
    assert_eq!(
        plan(0),
        json!({ "slug": "team", "name": "Team", "version": 1, "price": { "currency": "usd", "interval": "month", "amount": 1900 } })
    );
    assert_eq!(plan(2)["slug"], "team");
    assert_eq!(plan(3)["slug"], "house");
    // An override is above every plan.
    assert_eq!(plan(4), Value::Null);
    assert_eq!(
        checks[4]["layers"],
        json!([
            { "origin": "plan", "limit": 5_u64 << 30, "hard_limit": 5_u64 << 30, "until": null, "wins": false },
            { "origin": "override", "limit": 1000, "hard_limit": 1000, "until": null, "wins": true },
        ])
    );
    assert_eq!(
        checks[0]["layers"],
        json!([{ "origin": "plan", "enabled": false, "until": null, "wins": true }])
    );
    let fine = json!({ "checks": [{ "metric": "api_calls", "amount": 1 }] });
    assert_eq!(ask(fine).await.is(200).json()["allowed"], true);
    let many: Vec<_> = (0..101)
        .map(|_| json!({ "feature": "custom_branding" }))
        .collect();
    for wrong in [
        json!({ "checks": [] }),
        json!({ "checks": many }),
        json!({ "checks": [{}], "feature": "custom_branding" }),
    ] {
        ask(wrong).await.problem(422, "validation_failed");
    }
    // The 402 says the same.
    let body = json!({ "display_name": "Ada", "primary_color": "#112233" });
    let refused = ada.post("/v1/branding", &body).await;
    let refused = refused.problem(402, "feature_not_available");
    for member in ["layers", "cheapest_plan", "plan_version"] {
        assert_eq!(refused[member], checks[0][member], "{member}");
    }
}
