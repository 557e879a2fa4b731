//! The way to the first delivery: steps by facts, skips, and completion that is told once.

use e2e::{Actor, Answer, Server};
use reqwest::Method;
use serde_json::{Value, json};

/// What each step says, in order, with the percentage.
fn said(shown: &Value) -> (Vec<String>, u64) {
    let steps = shown["steps"].as_array().expect("steps").iter();
    let statuses = steps.map(|step| step["status"].as_str().expect("a status").to_owned());
    let percentage = shown["progress_percentage"].as_u64().expect("a percentage");
    (statuses.collect(), percentage)
}

async fn look(actor: &Actor) -> (Vec<String>, u64) {
    said(&actor.get("/v1/onboarding").await.is(200).json())
}

async fn completed_at(actor: &Actor) -> Value {
    let shown = actor.get("/v1/onboarding").await.is(200).json();
    assert_eq!(shown["is_complete"], shown["progress_percentage"] == 100);
    shown["completed_at"].clone()
}

async fn skip(actor: &Actor, step: &str) -> Answer {
    let path = format!("/v1/onboarding/steps/{step}/skip");
    actor.send(actor.request(Method::POST, &path)).await
}

async fn unskip(actor: &Actor, step: &str) -> Answer {
    actor
        .delete(&format!("/v1/onboarding/steps/{step}/skip"))
        .await
}

async fn invited(actor: &Actor, email: &str) -> String {
    let body = json!({ "name": "Mia", "email": email });
    let client = actor.post("/v1/clients", &body).await.is(201).text("id");
    let path = format!("/v1/clients/{client}/invite");
    let _ = actor.post(&path, &json!({})).await.is(201);
    client
}

async fn bill_to(actor: &Actor, email: Value) {
    let body = json!({ "billing_email": email });
    let _ = actor.patch("/v1/workspace", &body).await.is(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_step_follows_its_fact_there_and_back() {
    let server = Server::shared();
    let ada = server.sign_up_on("steps", "professional").await;
    assert_eq!(look(&ada).await, (["open"; 4].map(str::to_owned).into(), 0));
    bill_to(&ada, json!("bills@example.test")).await;
    assert_eq!(look(&ada).await.0[0], "completed");
    let library = ada.library("First").await;
    assert_eq!(look(&ada).await.0[2], "completed");
    let client = invited(&ada, "mia@example.test").await;
    assert_eq!(look(&ada).await.0[3], "completed");
    assert_eq!(look(&ada).await.1, 75);
    assert_eq!(completed_at(&ada).await, Value::Null);

    let _ = ada
        .delete(&format!("/v1/clients/{client}/invite"))
        .await
        .is(204);
    assert_eq!(look(&ada).await.0[3], "open");
    let _ = ada
        .post(&format!("/v1/clients/{client}/invite"), &json!({}))
        .await
        .is(201);
    let _ = ada.delete(&format!("/v1/clients/{client}")).await.is(204);
    assert_eq!(look(&ada).await.0[3], "open");
    let _ = ada
        .delete(&format!("/v1/libraries/{library}"))
        .await
        .is(204);
    bill_to(&ada, Value::Null).await;
    assert_eq!(look(&ada).await, (["open"; 4].map(str::to_owned).into(), 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_can_be_skipped_and_the_skip_taken_back() {
    let server = Server::shared();
    let ada = server.sign_up_on("skips", "professional").await;
    let shown = skip(&ada, "invite_client").await.is(200).json();
    assert_eq!(shown["completed"], json!([]));
    let (statuses, percentage) = said(&shown);
    assert_eq!(statuses, ["open", "open", "open", "skipped"]);
    assert_eq!(percentage, 25);
    let again = skip(&ada, "invite_client").await.is(200).json();
    assert_eq!(again, shown);
    assert_eq!(look(&ada).await.0[3], "skipped");

    // What is done is completed, whatever was said before, and open to be skipped when it is undone.
    let client = invited(&ada, "mia@example.test").await;
    assert_eq!(look(&ada).await.0[3], "completed");
    let _ = ada.delete(&format!("/v1/clients/{client}")).await.is(204);
    assert_eq!(look(&ada).await.0[3], "skipped");
    for _ in 0..2 {
        let shown = unskip(&ada, "invite_client").await.is(200).json();
        assert_eq!(said(&shown).0[3], "open");
    }

    // What the plan cannot do says so, skipped or not.
    let _ = skip(&ada, "branding").await.is(200);
    server.set_plan(&ada, "free").await;
    assert_eq!(look(&ada).await.0[1], "not_available");
    let shown = skip(&ada, "branding").await.is(200).json();
    assert_eq!(said(&shown).0[1], "not_available");

    for unknown in ["nonsense", "Profile", "profile%00", "", &"x".repeat(500)] {
        skip(&ada, unknown).await.problem(404, "not_found");
        unskip(&ada, unknown).await.problem(404, "not_found");
    }
    let path = "/v1/onboarding/steps/profile/skip";
    let smuggled = json!({ "workspace_id": ada.workspace_id });
    let refused = ada.post(path, &smuggled).await;
    refused.problem(422, "validation_failed");
    let anonymous = server.anonymous().post(path, &json!({})).await;
    anonymous.problem(401, "unauthenticated");
    assert_eq!(look(&ada).await.0[0], "open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_change_completes_the_list_tells_so_once() {
    let server = Server::shared();
    let others = ["profile", "branding", "first_library", "invite_client"];
    for last in [
        "profile",
        "branding",
        "first_library",
        "invite_client",
        "a skip",
        "a plan",
    ] {
        let ada = server.sign_up_on("complete", "professional").await;
        for step in others.iter().filter(|step| **step != last) {
            if (last == "a skip" && *step == "profile") || (last == "a plan" && *step == "branding")
            {
                continue;
            }
            let _ = skip(&ada, step).await.is(200);
        }
        assert_eq!(completed_at(&ada).await, Value::Null, "{last}");
        match last {
            "profile" => bill_to(&ada, json!("bills@example.test")).await,
            "branding" => {
                let body = json!({ "display_name": "Ada", "primary_color": "#112233" });
                let _ = ada.post("/v1/branding", &body).await.is(201);
            }
            "first_library" => drop(ada.library("First").await),
            "invite_client" => drop(invited(&ada, "mia@example.test").await),
            "a skip" => drop(skip(&ada, "profile").await.is(200)),
            _ => server.set_plan(&ada, "free").await,
        }
        let at = completed_at(&ada).await;
        assert!(at.is_string(), "{last}");

        // It stays told, whatever reopens and completes afterwards.
        server.set_plan(&ada, "professional").await;
        let _ = unskip(&ada, "profile").await.is(200);
        bill_to(&ada, Value::Null).await;
        let shown = ada.get("/v1/onboarding").await.is(200).json();
        assert_eq!(
            (&shown["is_complete"], &shown["completed_at"]),
            (&json!(false), &at)
        );
        let _ = skip(&ada, "profile").await.is(200);
        let _ = skip(&ada, "branding").await.is(200);
        assert_eq!(completed_at(&ada).await, at, "{last}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_override_that_ends_by_itself_completes_the_list() {
    let clock = tempfile::NamedTempFile::new().expect("failed to make a file");
    let set = |time: &str| std::fs::write(clock.path(), time).expect("failed to set the clock");
    set("2026-11-24T10:00:00Z");
    let path = clock.path().to_str().expect("a path of text");
    let server = Server::start_with(&[("RAWDRIVE_DEV", "1"), ("RAWDRIVE_DEV_CLOCK", path)]);
    let ada = server.sign_up("until").await;
    let until = [
        "admin",
        "override",
        "--workspace",
        &ada.workspace_id,
        "--feature",
        "custom_branding=true",
        "--until",
        "2026-11-24T10:05:00Z",
        "--reason",
        "trial",
    ];
    let _ = server.admin(&until).await.succeeded();
    for step in ["profile", "first_library", "invite_client"] {
        let _ = skip(&ada, step).await.is(200);
    }
    assert_eq!(completed_at(&ada).await, Value::Null);
    set("2026-11-24T10:05:00Z");
    crate::crash::until(
        15,
        "the end of the override completes the list",
        async || completed_at(&ada).await == "2026-11-24T10:05:00Z",
    )
    .await;
}
