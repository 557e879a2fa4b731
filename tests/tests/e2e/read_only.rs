//! A workspace whose grace is over: every operation of the API in a table, allowed or 402.

use chrono::TimeDelta;
use e2e::{Actor, Api, image, unknown_id};
use reqwest::Method;
use serde_json::{Value, json};

use crate::crash::until;
use crate::stage::{Stage, access};

/// What is refused: whatever makes or changes something. Everything else goes on.
const REFUSED: &[&str] = &[
    "PATCH /v1/workspace",
    "PATCH /v1/workspace/members/{user_id}",
    "POST /v1/workspace/invitations",
    "POST /v1/onboarding/steps/{id}/skip",
    "POST /v1/libraries",
    "PATCH /v1/libraries/{id}",
    "POST /v1/galleries",
    "PATCH /v1/galleries/{id}",
    "POST /v1/galleries/{id}/restore",
    "POST /v1/galleries/{id}/photos",
    "POST /v1/photos/{id}/analysis",
    "PATCH /v1/photos/{id}",
    "POST /v1/photos/move",
    "POST /v1/clients",
    "PATCH /v1/clients/{id}",
    "POST /v1/clients/{id}/invite",
    "POST /v1/branding",
    "POST /v1/webhook-endpoints",
];

/// What there is in the workspace.
struct Things {
    library: String,
    gallery: String,
    photo: String,
    client: String,
}

fn path_of(path: &str, things: &Things) -> String {
    let id = [
        ("/v1/libraries/", things.library.clone()),
        ("/v1/galleries/", things.gallery.clone()),
        ("/v1/photos/", things.photo.clone()),
        ("/v1/clients/", things.client.clone()),
        ("/v1/api-keys/", unknown_id("key")),
        ("/v1/workspace/members/", unknown_id("usr")),
        ("/v1/workspace/invitations/", unknown_id("inv")),
        ("/v1/onboarding/steps/", "profile".to_owned()),
        ("/v1/shared/{token}/galleries/", things.gallery.clone()),
        ("/v1/shared/{token}/photos/", things.photo.clone()),
    ]
    .into_iter()
    .find_map(|(start, id)| path.starts_with(start).then_some(id))
    .unwrap_or_default();
    path.replace("{token}", "rdc_nobody")
        .replace("{id}", &id)
        .replace("{user_id}", &id)
}

/// A body that is acceptable, so that what is refused is refused for the workspace's state alone.
fn body_of(operation: &str, things: &Things) -> Value {
    match operation {
        "POST /v1/api-keys" => json!({ "name": "x", "role": "member" }),
        "PATCH /v1/workspace"
        | "POST /v1/libraries"
        | "PATCH /v1/libraries/{id}"
        | "PATCH /v1/galleries/{id}"
        | "PATCH /v1/clients/{id}" => json!({ "name": "New" }),
        "PATCH /v1/workspace/members/{user_id}" => json!({ "role": "member" }),
        "POST /v1/workspace/invitations" => {
            json!({ "email": "guest@example.test", "role": "member" })
        }
        "POST /v1/galleries" => {
            json!({ "library_id": things.library, "name": "New", "download": "none" })
        }
        "POST /v1/clients" => json!({ "name": "New", "email": "new@example.test" }),
        "POST /v1/branding" => json!({ "display_name": "New", "primary_color": "#112233" }),
        "PATCH /v1/photos/{id}" => json!({ "filename": "new.jpg" }),
        "POST /v1/photos/move" => {
            json!({ "photo_ids": [things.photo], "gallery_id": things.gallery })
        }
        "POST /v1/photos/delete" => json!({ "photo_ids": [unknown_id("pho")] }),
        "POST /v1/webhook-endpoints" => json!({ "url": "https://example.invalid/hooks" }),
        "POST /v1/billing/portal" => json!({ "return_url": "https://studio.example" }),
        "POST /v1/billing/subscription/preview" => json!({ "plan": "studio", "interval": "month" }),
        _ => json!({}),
    }
}

async fn ask(api: &Api, operation: &str, things: &Things) -> e2e::Answer {
    let (method, path) = operation.split_once(' ').expect("a method and a path");
    let method: Method = method.parse().expect("a method");
    let mut path = path_of(path, things);
    if operation == "POST /v1/galleries/{id}/photos" {
        path.push_str("?filename=new.jpg");
        let request = api
            .request(method, &path)
            .header("content-type", "image/jpeg");
        return api.send(request.body(image::jpeg(4_000, 7))).await;
    }
    let request = api.request(method.clone(), &path);
    let request = match method {
        Method::POST | Method::PATCH => request.json(&body_of(operation, things)),
        _ => request,
    };
    api.send(request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_is_allowed_or_402_as_the_table_says() {
    let stage = Stage::start().await;
    let (ada, api) = stage.subscriber("frozen", "professional").await;
    let customer = stage.customer(&ada);
    let gallery = api.gallery("Wedding").await;
    let client = api
        .post(
            "/v1/clients",
            &json!({ "name": "Mia", "email": "mia@example.test" }),
        )
        .await
        .is(201)
        .text("id");
    let seen = json!({ "client_ids": [client] });
    let _ = api
        .patch(&format!("/v1/galleries/{gallery}"), &seen)
        .await
        .is(200);
    let _ = api
        .post(&format!("/v1/clients/{client}/invite"), &json!({}))
        .await
        .succeeded();
    let token = stage.server.mailed_token("mia@example.test", 1).await;
    let things = Things {
        library: api.library("Shelf").await,
        photo: api
            .upload(&gallery, image::jpeg(4_000, 1), "image/jpeg")
            .await
            .is(201)
            .text("id"),
        gallery,
        client,
    };
    for _ in 0..10 {
        stage
            .faults()
            .decline_next_charge(&customer, "insufficient_funds")
            .expect("a customer");
    }
    stage.turn(TimeDelta::days(30) + TimeDelta::hours(2));
    until(15, "grace", async || access(&api).await == "grace").await;
    stage.turn(TimeDelta::days(14));
    assert_eq!(access(&api).await, "read_only");

    no_gallery_goes_dark(&stage, &token, &things).await;
    for asked in [
        json!({ "feature": "custom_branding" }),
        json!({ "metric": "storage_bytes", "amount": 1 }),
    ] {
        let check = api.post("/v1/entitlements/check", &asked).await;
        let answer = check.is(200).json();
        assert_eq!(answer["allowed"], false, "{answer}");
        assert_eq!(answer["reason"], "payment_failed", "{answer}");
        assert!(answer["upgrade_url"].is_string(), "{answer}");
    }

    // What ends sessions, members and things comes last; what makes new sessions is asked apart.
    let document = stage
        .server
        .anonymous()
        .get("/openapi.json")
        .await
        .is(200)
        .json();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("there are paths") {
        for method in methods.as_object().expect("a path has operations").keys() {
            operations.push(format!("{} {path}", method.to_uppercase()));
        }
    }
    for refused in REFUSED {
        assert!(
            operations.iter().any(|operation| operation == refused),
            "no operation {refused}"
        );
    }
    operations.sort_by_key(|operation| operation.starts_with("DELETE"));
    for operation in &operations {
        let answer = ask(&api, operation, &things).await;
        if REFUSED.contains(&operation.as_str()) {
            let problem = answer.problem(402, "workspace_read_only");
            assert_eq!(problem["reason"], "payment_failed", "{operation}");
        } else {
            assert_ne!(
                answer.json_code(),
                "workspace_read_only",
                "{operation}: {answer:?}"
            );
            assert!(answer.status < 500, "{operation}: {answer:?}");
        }
    }
    // People come and go.
    let signed_in = json!({ "email": ada.email, "password": Actor::PASSWORD });
    let _ = stage
        .server
        .anonymous()
        .post("/v1/sessions", &signed_in)
        .await
        .is(201);
}

/// The audience does not pay, and is not made to: everything that a client's link leads to is there.
async fn no_gallery_goes_dark(stage: &Stage, token: &str, things: &Things) {
    let anyone = stage.server.anonymous();
    let home = format!("/v1/shared/{token}");
    let shared = anyone.get(&home).await.is(200).json();
    assert!(
        shared["galleries"].to_string().contains(&things.gallery),
        "{shared}"
    );
    let photos = format!("{home}/galleries/{}/photos", things.gallery);
    let photos = anyone.get(&photos).await.is(200).json();
    assert_eq!(photos["items"][0]["id"], things.photo.as_str(), "{photos}");
    let content = anyone
        .get(&format!("{home}/photos/{}/content", things.photo))
        .await
        .is(200);
    assert_eq!(content.body, image::jpeg(4_000, 1));
    let _ = anyone.get("/shared").await.is(200);
}

trait JsonCode {
    fn json_code(&self) -> String;
}

impl JsonCode for e2e::Answer {
    fn json_code(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["code"].as_str().unwrap_or_default().to_owned()
    }
}
