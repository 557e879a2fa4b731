//! What an API key may be used for below its role, and tokens for pages.

use e2e::{Actor, Api, Server};
use serde_json::{Value, json};

async fn key(server: &Server, owner: &Actor, role: &str, scopes: &[&str]) -> Api {
    let body = json!({ "name": "Scoped", "role": role, "scopes": scopes });
    let made = owner.post("/v1/api-keys", &body).await.is(201);
    assert_eq!(made.json()["scopes"], json!(scopes));
    server.bearer(&made.text("secret"))
}

async fn page(server: &Server, of: &Api, body: &Value) -> (Api, Value) {
    let made = of.post("/v1/tokens", body).await.is(201);
    assert_eq!(made.header("cache-control"), "no-store");
    (server.bearer(&made.text("token")), made.json())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_reaches_what_its_scopes_name_and_nothing_else() {
    let server = Server::shared();
    let ada = server.sign_up("scopes").await;
    let library = ada.library("Weddings").await;
    let key = key(server, &ada, "admin", &["galleries:read", "usage:write"]).await;
    let _ = key.get("/v1/libraries").await.is(200);
    let _ = key.get(&format!("/v1/libraries/{library}")).await.is(200);
    let events = json!({ "events": [] });
    let reported = key.post("/v1/usage/events", &events).await;
    assert_ne!(reported.status, 403, "{reported:?}");
    for (method, path, scope) in [
        ("GET", "/v1/usage", "usage:read"),
        ("GET", "/v1/workspace", "workspace:read"),
        ("GET", "/v1/api-keys", "identity:read"),
        ("POST", "/v1/libraries", "galleries:write"),
        ("POST", "/v1/entitlements/check", "plans:read"),
        ("POST", "/v1/tokens", "tokens:write"),
    ] {
        let answer = match method {
            "GET" => key.get(path).await,
            _ => key.post(path, &json!({ "name": "x" })).await,
        };
        let problem = answer.problem(403, "insufficient_scope");
        assert_eq!(problem["required_scope"], scope, "{method} {path}");
    }
    let me = key.get("/v1/me").await.is(200).json();
    assert_eq!(
        me["key"]["scopes"],
        json!(["galleries:read", "usage:write"])
    );
    assert_eq!(me["key"]["role"], "admin");
    assert_eq!(me["key"]["name"], "Scoped");
    assert_eq!(me["key"]["expires_at"], Value::Null);
    assert_eq!(me["workspace"]["id"], ada.workspace_id.as_str());
    // Below the role, and not above it.
    let member = self::key(server, &ada, "member", &["identity:read"]).await;
    member
        .get("/v1/api-keys")
        .await
        .problem(403, "insufficient_role");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_may_be_used_for_everything_unless_it_says_otherwise() {
    let server = Server::shared();
    let ada = server.sign_up("unscoped").await;
    let body = json!({ "name": "All", "role": "owner" });
    let made = ada.post("/v1/api-keys", &body).await.is(201);
    let all = made.json()["scopes"].clone();
    let names = all.as_array().expect("a list");
    for name in ["photos:read", "photos:write", "usage:write", "tokens:write"] {
        assert!(names.contains(&json!(name)), "{name}: {all}");
    }
    let key = server.bearer(&made.text("secret"));
    let _ = key.get("/v1/usage").await.is(200);
    assert_eq!(key.get("/v1/me").await.is(200).json()["key"]["scopes"], all);
    for scopes in [
        json!([]),
        json!(["photos:burn"]),
        json!(["any"]),
        json!([""]),
    ] {
        let body = json!({ "name": "x", "role": "member", "scopes": scopes });
        let refused = ada.post("/v1/api-keys", &body).await;
        let problem = refused.problem(422, "validation_failed");
        let field = problem["errors"][0]["field"].as_str().expect("a field");
        assert!(field.starts_with("scopes"), "{problem}");
    }
    let entry = ada.get("/v1/workspace/audit?action=api_key.created").await;
    let entry = entry.is(200).json()["items"][0].clone();
    assert_eq!(entry["after"].get("scopes"), None, "{entry}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pages_token_reads_as_a_member_and_ends_with_who_had_it_made() {
    let server = Server::shared();
    let ada = server.sign_up("page").await;
    let body = json!({ "name": "Backend", "role": "owner" });
    let made = ada.post("/v1/api-keys", &body).await.is(201);
    let key = server.bearer(&made.text("secret"));
    let wanted = json!({ "ttl_seconds": 600, "scopes": ["usage:read"] });
    let (page_of_key, told) = page(server, &key, &wanted).await;
    assert_eq!(told["expires_in"], 600);
    assert_eq!(told["scopes"], json!(["usage:read"]));
    let (page_of_person, _) = page(server, &ada, &wanted).await;
    for page in [&page_of_key, &page_of_person] {
        let _ = page.get("/v1/usage").await.is(200);
        let _ = page.get("/v1/usage/history?metric=storage_bytes&from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z&granularity=day").await;
        page.get("/v1/libraries")
            .await
            .problem(403, "insufficient_scope");
        let refused = page
            .post("/v1/usage/events", &json!({ "events": [] }))
            .await;
        assert_eq!(refused.status, 403, "{refused:?}");
        page.post("/v1/tokens", &json!({}))
            .await
            .problem(403, "insufficient_scope");
        page.patch("/v1/me", &json!({ "name": "x" }))
            .await
            .problem(403, "insufficient_role");
        let me = page.get("/v1/me").await.is(200).json();
        assert_eq!(me["token"]["role"], "member");
        assert_eq!(me["token"]["scopes"], json!(["usage:read"]));
    }
    // All that only reads, and that a member may.
    let (everything, told) = page(server, &ada, &json!({})).await;
    assert_eq!(told["expires_in"], 900);
    let scopes = told["scopes"].as_array().expect("a list");
    assert!(
        scopes
            .iter()
            .all(|scope| scope.as_str().is_some_and(|s| s.ends_with(":read")))
    );
    let _ = everything.get("/v1/libraries").await.is(200);
    everything
        .get("/v1/workspace/audit")
        .await
        .problem(403, "insufficient_role");
    // What it may not be asked for.
    for (wanted, field) in [
        (json!({ "ttl_seconds": 3601 }), "ttl_seconds"),
        (json!({ "ttl_seconds": 0 }), "ttl_seconds"),
        (json!({ "scopes": ["usage:write"] }), "scopes[0]"),
        (json!({ "scopes": [] }), "scopes"),
    ] {
        let refused = ada.post("/v1/tokens", &wanted).await;
        let problem = refused.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["field"], field);
    }
    let narrow = self::key(server, &ada, "member", &["galleries:read", "tokens:write"]).await;
    let refused = narrow.post("/v1/tokens", &wanted).await;
    refused.problem(422, "validation_failed");
    // Its end is that of the key and of the session behind it.
    let id = made.text("id");
    let _ = ada.delete(&format!("/v1/api-keys/{id}")).await.is(204);
    page_of_key
        .get("/v1/usage")
        .await
        .problem(401, "unauthenticated");
    let _ = ada.delete("/v1/sessions/current").await.is(204);
    page_of_person
        .get("/v1/usage")
        .await
        .problem(401, "unauthenticated");
}
