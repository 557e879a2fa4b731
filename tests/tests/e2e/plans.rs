//! What a plan allows, what a workspace has used, and how that is told.

use std::collections::BTreeMap;

use e2e::{Server, image};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

fn branding() -> Value {
    json!({ "display_name": "Studio Ada", "primary_color": "#112233" })
}

/// The part of an answer that speaks of `name`: the member of that name, or the object that names itself so.
fn about<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(members) => {
            let names_itself = ["name", "metric", "limit", "feature", "id"]
                .iter()
                .any(|key| members.get(*key).is_some_and(|value| value == name));
            if names_itself {
                return Some(value);
            }
            members
                .get(name)
                .filter(|found| found.is_object())
                .or_else(|| members.values().find_map(|value| about(value, name)))
        }
        Value::Array(items) => items.iter().find_map(|value| about(value, name)),
        _ => None,
    }
}

#[track_caller]
fn origin(entitlements: &Value, names: [&str; 2]) -> String {
    let entry = names
        .iter()
        .find_map(|name| about(entitlements, name))
        .unwrap_or_else(|| panic!("nothing about {names:?} in {entitlements}"));
    entry["origin"]
        .as_str()
        .unwrap_or_else(|| panic!("no origin in {entry}"))
        .to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_catalogue_is_public_and_knows_three_plans() {
    let plans = Server::shared()
        .anonymous()
        .get("/v1/plans")
        .await
        .is(200)
        .json();
    let plans: BTreeMap<_, _> = plans["items"]
        .as_array()
        .expect("a list of plans")
        .iter()
        .map(|plan| {
            (
                plan["slug"].as_str().expect("a slug").to_owned(),
                plan.clone(),
            )
        })
        .collect();
    let limits = |storage: Value, photos: Value, members: Value, analyses: Value| {
        json!({
            "storage_bytes": storage,
            "max_photos_per_gallery": photos,
            "max_team_members": members,
            "ai_analysis_monthly": analyses,
        })
    };
    let table = [
        (
            "free",
            limits(json!(5_u64 << 30), json!(100), json!(1), json!(0)),
            false,
        ),
        (
            "professional",
            limits(json!(500_u64 << 30), json!(1_000), json!(10), json!(500)),
            true,
        ),
        (
            "enterprise",
            limits(Value::Null, Value::Null, Value::Null, Value::Null),
            true,
        ),
    ];
    assert_eq!(plans.len(), table.len());
    for (slug, limits, custom_branding) in table {
        assert_eq!(plans[slug]["limits"], limits, "{slug}");
        assert_eq!(
            plans[slug]["features"],
            json!({ "custom_branding": custom_branding })
        );
        assert_eq!(plans[slug]["version"], 1);
        assert!(plans[slug]["prices"].is_array());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_granted_plan_opens_its_features_to_the_same_token() {
    let server = Server::shared();
    let ada = server.sign_up("gate").await;
    let _ = ada.get("/v1/branding").await.is(200);
    let problem = ada
        .post("/v1/branding", &branding())
        .await
        .problem(402, "feature_not_available");
    assert_eq!(problem["feature"], "custom_branding");
    assert_eq!(problem["plan"], "free");
    let upgrade = problem["upgrade_url"].as_str().expect("an upgrade_url");
    assert_eq!(
        upgrade,
        format!("{}/settings/billing/upgrade", server.url())
    );
    // The page says what was refused, and is there without that, too.
    for (path, says) in [("?feature=custom_branding", true), ("", false)] {
        let path = format!("/settings/billing/upgrade{path}");
        let page = server.anonymous().get(&path).await.is(200);
        assert!(page.header("content-type").starts_with("text/html"));
        let text = String::from_utf8_lossy(&page.body).into_owned();
        assert_eq!(text.contains("custom branding"), says, "{text}");
    }

    server.set_plan(&ada, "professional").await;
    let _ = ada.post("/v1/branding", &branding()).await.succeeded();
    assert_eq!(
        ada.get("/v1/branding").await.is(200).json()["display_name"],
        "Studio Ada"
    );
    assert_eq!(
        ada.get("/v1/workspace").await.is(200).json()["plan"],
        "professional"
    );

    server.set_plan(&ada, "free").await;
    ada.post("/v1/branding", &branding())
        .await
        .problem(402, "feature_not_available");
    // What was saved stays readable.
    assert_eq!(
        ada.get("/v1/branding").await.is(200).json()["display_name"],
        "Studio Ada"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overridden_feature_opens_without_a_plan() {
    let server = Server::shared();
    let ada = server.sign_up("feature").await;
    let arguments = [
        "admin",
        "override",
        "--workspace",
        &ada.workspace_id,
        "--feature",
        "custom_branding=true",
        "--reason",
        "trial",
    ];
    let _ = server.admin(&arguments).await.succeeded();
    let _ = ada.post("/v1/branding", &branding()).await.succeeded();
    let entitlements = ada.get("/v1/entitlements").await.is(200).json();
    assert_eq!(origin(&entitlements, ["custom_branding"; 2]), "override");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enterprise_really_is_unlimited() {
    const PHOTOS: usize = 120;
    let server = Server::shared();
    let ada = server.sign_up_on("unlimited", "enterprise").await;
    let gallery = ada.gallery("Unlimited").await;
    let statuses: Vec<_> = stream::iter(0..PHOTOS as u64)
        .map(|seed| {
            let (ada, gallery) = (&ada, &gallery);
            async move {
                ada.upload(gallery, image::jpeg(1_000, seed), "image/jpeg")
                    .await
                    .status
            }
        })
        .buffer_unordered(8)
        .collect()
        .await;
    assert_eq!(statuses, vec![201; PHOTOS]);
    let shown = ada
        .get(&format!("/v1/galleries/{gallery}"))
        .await
        .is(200)
        .json();
    assert_eq!(shown["photo_count"], PHOTOS);
    assert!(
        shown.get("photo_limit").is_some_and(Value::is_null),
        "{shown}"
    );
    let usage = ada.usage("storage_bytes").await;
    assert_eq!(usage["used"], PHOTOS * 1_000);
    assert!(
        usage["limit"].is_null() && usage["percent"].is_null(),
        "{usage}"
    );
    assert_eq!(usage["level"], "ok");
    for (metric, amount) in [
        ("storage_bytes", 1_u64 << 50),
        ("team_members", 1 << 20),
        ("ai_analysis", 1 << 30),
    ] {
        let body = json!({ "metric": metric, "amount": amount });
        let check = ada
            .post("/v1/entitlements/check", &body)
            .await
            .is(200)
            .json();
        assert_eq!(check["allowed"], true, "{metric}: {check}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entitlements_tell_where_each_value_comes_from() {
    let server = Server::shared();
    let ada = server.sign_up("origin").await;
    let before = ada.get("/v1/entitlements").await.is(200).json();
    assert!(before.to_string().contains("\"free\""), "{before}");
    assert_eq!(origin(&before, ["storage_bytes"; 2]), "plan");
    assert_eq!(
        origin(&before, ["max_photos_per_gallery", "photos"]),
        "plan"
    );
    assert_eq!(origin(&before, ["custom_branding"; 2]), "plan");
    server.override_limit(&ada, "storage_bytes=1048576").await;
    let after = ada.get("/v1/entitlements").await.is(200).json();
    assert_eq!(origin(&after, ["storage_bytes"; 2]), "override");
    assert_eq!(origin(&after, ["max_photos_per_gallery", "photos"]), "plan");
    assert_eq!(ada.usage("storage_bytes").await["limit"], 1_048_576);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_says_what_the_refusal_would_and_takes_nothing() {
    let server = Server::shared();
    let ada = server.sign_up("check").await;
    let gallery = ada.gallery("Check").await;
    server.override_limit(&ada, "storage_bytes=50000").await;
    let _ = ada
        .upload(&gallery, image::jpeg(40_000, 1), "image/jpeg")
        .await
        .is(201);
    let check = async |body: Value| ada.post("/v1/entitlements/check", &body).await;

    for _ in 0..5 {
        let fits = check(json!({ "metric": "storage_bytes", "amount": 10_000 }))
            .await
            .is(200)
            .json();
        assert_eq!(fits["allowed"], true, "{fits}");
    }
    let refused = check(json!({ "metric": "storage_bytes", "amount": 10_001 }))
        .await
        .is(200)
        .json();
    let upload = ada
        .upload(&gallery, image::jpeg(10_001, 2), "image/jpeg")
        .await;
    let problem = upload.problem(402, "quota_exceeded");
    assert_eq!(refused["allowed"], false);
    for member in [
        "metric",
        "current",
        "requested",
        "limit",
        "plan",
        "resets_at",
        "upgrade_url",
    ] {
        assert!(problem.get(member).is_some(), "the 402 lacks {member}");
        assert_eq!(refused.get(member), problem.get(member), "{member}");
    }
    let feature = check(json!({ "feature": "custom_branding" }))
        .await
        .is(200)
        .json();
    let problem = ada
        .post("/v1/branding", &branding())
        .await
        .problem(402, "feature_not_available");
    assert_eq!(feature["allowed"], false);
    for member in ["feature", "plan", "upgrade_url"] {
        assert!(problem.get(member).is_some(), "the 402 lacks {member}");
        assert_eq!(feature.get(member), problem.get(member), "{member}");
    }
    let photos = json!({ "metric": "photos", "amount": 99, "subject": gallery });
    assert_eq!(check(photos).await.is(200).json()["allowed"], true);
    let photos = json!({ "metric": "photos", "amount": 100, "subject": gallery });
    assert_eq!(check(photos).await.is(200).json()["allowed"], false);
    for wrong in [
        json!({}),
        json!({ "metric": "nonsense", "amount": 1 }),
        json!({ "feature": "nonsense" }),
        json!({ "metric": "storage_bytes", "amount": -1 }),
    ] {
        check(wrong).await.problem(422, "validation_failed");
    }
    let usage = ada.usage("storage_bytes").await;
    assert_eq!(
        (&usage["used"], &usage["reserved"]),
        (&json!(40_000), &json!(0))
    );
    let _ = ada
        .upload(&gallery, image::jpeg(10_000, 3), "image/jpeg")
        .await
        .is(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_rises_through_its_levels() {
    let server = Server::shared();
    let ada = server.sign_up("levels").await;
    let gallery = ada.gallery("Levels").await;
    server.override_limit(&ada, "storage_bytes=100000").await;
    let mut used = 0;
    for (add, level) in [
        (79_000, "ok"),
        (1_000, "warning_80"),
        (10_000, "warning_90"),
        (10_000, "full"),
    ] {
        let _ = ada
            .upload(&gallery, image::jpeg(add, used as u64), "image/jpeg")
            .await
            .is(201);
        used += add;
        let usage = ada.usage("storage_bytes").await;
        assert_eq!(
            (&usage["used"], &usage["level"]),
            (&json!(used), &json!(level))
        );
    }
    server.override_limit(&ada, "storage_bytes=50000").await;
    assert_eq!(ada.usage("storage_bytes").await["level"], "over");

    let usage = ada.get("/v1/usage").await.is(200).json();
    for end in ["start", "end"] {
        let time = usage["period"][end]
            .as_str()
            .expect("the period has both ends");
        assert!(
            chrono::DateTime::parse_from_rfc3339(time).is_ok(),
            "{usage}"
        );
    }
    let seats = ada.usage("team_members").await;
    assert_eq!(
        (&seats["used"], &seats["limit"], &seats["level"]),
        (&json!(1), &json!(1), &json!("full"))
    );
    let analyses = ada.usage("ai_analysis").await;
    assert_eq!(
        (&analyses["used"], &analyses["limit"], &analyses["percent"]),
        (&json!(0), &json!(0), &Value::Null)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn onboarding_follows_the_facts() {
    let server = Server::shared();
    let ada = server.sign_up("onboarding").await;
    let look = async || {
        let shown = ada.get("/v1/onboarding").await.is(200).json();
        let steps: Vec<(String, String)> = shown["steps"]
            .as_array()
            .expect("a list of steps")
            .iter()
            .map(|step| {
                (
                    step["id"].as_str().expect("an id").to_owned(),
                    step["status"].as_str().expect("a status").to_owned(),
                )
            })
            .collect();
        let ids: Vec<_> = steps.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(
            ids,
            ["profile", "branding", "first_library", "invite_client"]
        );
        let count = |wanted: &[&str]| {
            steps
                .iter()
                .filter(|(_, status)| wanted.contains(&status.as_str()))
                .count()
        };
        let applicable = count(&["open", "completed", "skipped"]);
        assert_eq!(applicable + count(&["not_available"]), 4, "{shown}");
        let percentage = 100 * count(&["completed", "skipped"]) / applicable;
        assert_eq!(shown["progress_percentage"], percentage, "{shown}");
        assert_eq!(shown["is_complete"], count(&["open"]) == 0, "{shown}");
        let completed: Vec<_> = steps
            .iter()
            .filter(|(_, status)| status == "completed")
            .map(|(id, _)| id.clone())
            .collect();
        assert_eq!(shown["completed"], json!(completed), "{shown}");
        steps.into_iter().collect::<BTreeMap<_, _>>()
    };
    let workspace = ada.get("/v1/workspace").await.is(200).json();
    let fresh = look().await;
    let profile = if workspace["billing_email"].is_null() {
        "open"
    } else {
        "completed"
    };
    assert_eq!(fresh["profile"], profile);
    assert_eq!(fresh["branding"], "not_available");
    assert_eq!(fresh["first_library"], "open");

    let library = ada.library("First").await;
    assert_eq!(look().await["first_library"], "completed");
    let _ = ada
        .delete(&format!("/v1/libraries/{library}"))
        .await
        .is(204);
    assert_eq!(look().await["first_library"], "open");

    server.set_plan(&ada, "professional").await;
    assert_eq!(look().await["branding"], "open");
    let _ = ada.post("/v1/branding", &branding()).await.succeeded();
    assert_eq!(look().await["branding"], "completed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_grant_leaves_one_entry_in_the_audit() {
    let server = Server::shared();
    let ada = server.sign_up("audit").await;
    let before = ada.list_all("/v1/workspace/audit", 2).await;
    server.set_plan(&ada, "professional").await;
    server.override_limit(&ada, "storage_bytes=1048576").await;
    let after = ada.list_all("/v1/workspace/audit", 2).await;
    assert_eq!(after.len(), before.len() + 2, "{after:?}");
    let changes: Vec<_> = after
        .iter()
        .filter(|entry| entry["action"] == "plan.changed")
        .collect();
    assert_eq!(changes.len(), 1, "{after:?}");
    assert!(
        changes[0]["before"].to_string().contains("free"),
        "{}",
        changes[0]
    );
    assert!(
        changes[0]["after"].to_string().contains("professional"),
        "{}",
        changes[0]
    );
    let sequence: Vec<_> = after
        .iter()
        .map(|entry| entry["seq"].as_u64().expect("a seq"))
        .collect();
    assert!(
        sequence.is_sorted_by(|newer, older| *newer == older + 1),
        "{sequence:?}"
    );
    for entry in &after {
        for member in ["at", "actor", "action", "hash"] {
            assert!(
                entry.get(member).is_some_and(|value| !value.is_null()),
                "{entry} lacks {member}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_for_nobody_or_nothing_fails_and_changes_nothing() {
    let server = Server::shared();
    let ada = server.sign_up("operator").await;
    let own = ada.workspace_id.as_str();
    let unknown = e2e::unknown_id("ws");
    let table: [&[&str]; 5] = [
        &[
            "admin",
            "set-plan",
            "--workspace",
            &unknown,
            "--plan",
            "professional",
            "--reason",
            "x",
        ],
        &[
            "admin",
            "set-plan",
            "--workspace",
            own,
            "--plan",
            "platinum",
            "--reason",
            "x",
        ],
        &[
            "admin",
            "set-plan",
            "--workspace",
            own,
            "--plan",
            "professional",
        ],
        &[
            "admin",
            "override",
            "--workspace",
            own,
            "--limit",
            "nonsense=1",
            "--reason",
            "x",
        ],
        &[
            "admin",
            "override",
            "--workspace",
            own,
            "--limit",
            "storage_bytes=-1",
            "--reason",
            "x",
        ],
    ];
    let before = ada.get("/v1/workspace/audit").await.is(200).json();
    for arguments in table {
        let output = server.admin(arguments).await;
        assert!(
            output.code.is_some_and(|code| code != 0),
            "{arguments:?}: {output:?}"
        );
        assert!(
            !output.stderr.is_empty() && !output.stderr.contains("panicked"),
            "{output:?}"
        );
    }
    assert_eq!(ada.get("/v1/workspace/audit").await.is(200).json(), before);
    assert_eq!(
        ada.get("/v1/workspace").await.is(200).json()["plan"],
        "free"
    );
}
