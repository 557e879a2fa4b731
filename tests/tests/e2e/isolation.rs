//! Two workspaces that must not learn anything of each other.

use std::collections::BTreeMap;

use e2e::{Actor, Answer, Server, image, unknown_id};
use reqwest::Method;
use serde_json::{Value, json};

/// Routes with a parameter that names nothing of one workspace, each with what it names instead.
const NO_ONES: [(&str, &str); 5] = [
    ("/v1/onboarding/steps/", "a step of everybody's"),
    ("/v1/usage/statements/", "a month of everybody's calendar"),
    ("/v1/shared/", "a secret, which is its own credential"),
    (
        "/v1/usage/reservations/",
        "units of a metric that this catalogue has not: reservations.rs asks",
    ),
    (
        "/v1/webhook-endpoints/deliveries/",
        "what was sent to a receiver: outbound.rs asks",
    ),
];

/// What the parameter of a route is the id of, by the route's beginning. The first that fits counts.
const KINDS: [(&str, &str); 8] = [
    ("/v1/libraries/", "lib"),
    ("/v1/galleries/", "gal"),
    ("/v1/photos/", "pho"),
    ("/v1/clients/", "cli"),
    ("/v1/api-keys/", "key"),
    ("/v1/webhook-endpoints/", "whe"),
    ("/v1/workspace/members/", "usr"),
    ("/v1/workspace/invitations/", "inv"),
];

async fn id_of(actor: &Actor, gallery: &str, kind: &str) -> String {
    match kind {
        "lib" => actor.library("Foreign").await,
        "gal" => actor.gallery("Foreign").await,
        "pho" => {
            let bytes = image::jpeg(1_000, 1);
            actor
                .upload(gallery, bytes, "image/jpeg")
                .await
                .is(201)
                .text("id")
        }
        "cli" => {
            let body = json!({ "name": "Client", "email": "client@example.test" });
            actor.post("/v1/clients", &body).await.is(201).text("id")
        }
        "key" => {
            let body = json!({ "name": "Key", "role": "member" });
            actor.post("/v1/api-keys", &body).await.is(201).text("id")
        }
        "inv" => {
            let body = json!({ "email": "guest@example.test", "role": "member" });
            actor
                .post("/v1/workspace/invitations", &body)
                .await
                .is(201)
                .text("id")
        }
        "whe" => {
            let body = json!({ "url": "https://example.invalid/hooks" });
            actor
                .post("/v1/webhook-endpoints", &body)
                .await
                .is(201)
                .text("id")
        }
        "usr" => actor.user_id.clone(),
        other => panic!("nobody knows how to make a {other}"),
    }
}

async fn ask(actor: &Actor, method: &Method, path: &str, template: &str) -> Answer {
    let request = actor.request(method.clone(), path);
    let request = match (method.as_str(), template) {
        ("POST", template)
            if template.starts_with("/v1/galleries/") && template.ends_with("/photos") =>
        {
            request
                .header("content-type", "image/jpeg")
                .body(image::jpeg(1_000, 1))
        }
        ("POST", template)
            if template.starts_with("/v1/galleries/") && template.ends_with("/uploads") =>
        {
            let body = json!({ "filename": "a.jpg", "content_type": "image/jpeg", "size_bytes": 1_000, "sha256": "0".repeat(64) });
            request.json(&body)
        }
        ("PATCH", template) if template.starts_with("/v1/workspace/members/") => {
            request.json(&json!({ "role": "member" }))
        }
        ("PATCH", template) if template.starts_with("/v1/photos/") => {
            request.json(&json!({ "filename": "Taken over" }))
        }
        ("PATCH", template) if template.starts_with("/v1/webhook-endpoints/") => {
            request.json(&json!({ "enabled": false }))
        }
        ("PATCH", _) => request.json(&json!({ "name": "Taken over" })),
        ("POST" | "PUT", _) => request.json(&json!({})),
        _ => request,
    };
    actor.send(request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_answers_a_foreign_id_as_an_unknown_one() {
    let server = Server::shared();
    let ada = server.sign_up_on("ada", "enterprise").await;
    let eve = server.sign_up_on("eve", "enterprise").await;
    let gallery = ada.gallery("Ada's").await;
    let mut ids = BTreeMap::new();
    let document = server.anonymous().get("/openapi.json").await.is(200).json();
    let mut asked = 0;
    for (template, operations) in document["paths"]
        .as_object()
        .expect("the document has paths")
    {
        if !template.contains('{')
            || !template.starts_with("/v1/")
            || NO_ONES.iter().any(|(start, _)| template.starts_with(start))
        {
            continue;
        }
        let kind = KINDS
            .iter()
            .find_map(|(start, kind)| template.starts_with(start).then_some(*kind))
            .unwrap_or_else(|| {
                panic!("{template} is in no table of this test: say what its parameter names")
            });
        if !ids.contains_key(kind) {
            ids.insert(kind, id_of(&ada, &gallery, kind).await);
        }
        for method in operations
            .as_object()
            .expect("a path has operations")
            .keys()
        {
            let method = match method.as_str() {
                "get" => Method::GET,
                "post" => Method::POST,
                "patch" => Method::PATCH,
                "put" => Method::PUT,
                "delete" => Method::DELETE,
                _ => continue,
            };
            let (start, rest) = template.split_once('{').expect("the path has a parameter");
            let (_, end) = rest.split_once('}').expect("the parameter ends");
            // Of what lies below a thing, the kinds are no secret.
            let end = end.replace("{name}", "web");
            assert!(
                !end.contains('{'),
                "{template} has two parameters: teach this test about it"
            );
            let mut queries = vec![""];
            if method == Method::DELETE && template.starts_with("/v1/galleries/") {
                queries.push("?permanent=true");
            }
            for query in queries {
                let foreign = format!("{start}{}{end}{query}", ids[kind]);
                let unknown = format!("{start}{}{end}{query}", unknown_id(kind));
                let foreign = ask(&eve, &method, &foreign, template).await;
                let unknown = ask(&eve, &method, &unknown, template).await;
                foreign.problem(404, "not_found");
                assert_eq!(foreign.essence(), unknown.essence(), "{method} {template}");
                asked += 1;
            }
        }
    }
    assert!(
        asked >= 12,
        "only {asked} routes were asked: is the document whole?"
    );
    // Nothing of what Eve tried has touched Ada.
    for (kind, start) in [
        ("lib", "/v1/libraries/"),
        ("gal", "/v1/galleries/"),
        ("pho", "/v1/photos/"),
    ] {
        let shown = ada.get(&format!("{start}{}", ids[kind])).await.is(200);
        assert!(
            !String::from_utf8_lossy(&shown.body).contains("Taken over"),
            "{shown:?}"
        );
    }
    assert_eq!(eve.usage("storage_bytes").await["used"], 0);
    assert_eq!(eve.usage("storage_bytes").await["reserved"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_id_in_a_body_or_a_query_answers_as_an_unknown_one() {
    let server = Server::shared();
    let ada = server.sign_up_on("ada", "enterprise").await;
    let eve = server.sign_up_on("eve", "enterprise").await;
    let library = ada.library("Ada's").await;
    let gallery = ada.gallery_in(&library, "Ada's").await;
    let photo = ada
        .upload(&gallery, image::jpeg(1_000, 1), "image/jpeg")
        .await
        .is(201)
        .text("id");
    let own = eve.gallery("Eve's").await;

    let in_gallery = |id: &str| json!({ "library_id": id, "name": "x", "download": "web" });
    let in_check = |id: &str| json!({ "metric": "photos", "amount": 1, "subject": id });
    let in_branding =
        |id: &str| json!({ "display_name": "x", "primary_color": "#112233", "logo_photo_id": id });
    type Body<'a> = &'a dyn Fn(&str) -> Value;
    let table: [(&str, &str, &str, Body<'_>); 3] = [
        ("/v1/galleries", &library, "lib", &in_gallery),
        ("/v1/entitlements/check", &gallery, "gal", &in_check),
        ("/v1/branding", &photo, "pho", &in_branding),
    ];
    for (path, foreign, kind, body) in table {
        let foreign = eve.post(path, &body(foreign)).await;
        let unknown = eve.post(path, &body(&unknown_id(kind))).await;
        assert!([404, 422].contains(&foreign.status), "{path}: {foreign:?}");
        assert_eq!(foreign.essence(), unknown.essence(), "{path}");
    }
    let foreign = eve
        .get(&format!("/v1/galleries?library_id={library}"))
        .await;
    let unknown = eve
        .get(&format!("/v1/galleries?library_id={}", unknown_id("lib")))
        .await;
    assert_eq!(foreign.essence(), unknown.essence());
    assert!(!String::from_utf8_lossy(&foreign.body).contains(&gallery));

    let listed = eve.list_all("/v1/galleries", 50).await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["id"], own.as_str());
    assert_eq!(eve.list_all("/v1/libraries", 50).await.len(), 1);
    assert_eq!(ada.list_all("/v1/galleries", 50).await.len(), 1);
    for entry in eve.list_all("/v1/workspace/audit", 50).await {
        assert!(!entry.to_string().contains(&ada.workspace_id), "{entry}");
    }
}
