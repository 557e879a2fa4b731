//! What holds for every route.

use std::collections::BTreeSet;

use e2e::{Server, image, unknown_id};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_well_formed_request_id_is_kept_and_another_is_replaced() {
    let server = Server::shared();
    let ada = server.sign_up("request-id").await;
    let ask = async |id: &str| {
        let request = ada
            .request(Method::GET, "/v1/me")
            .header("x-request-id", id);
        ada.send(request)
            .await
            .is(200)
            .header("x-request-id")
            .to_owned()
    };
    assert_eq!(ask("order-4711").await, "order-4711");
    for bad in ["", "two words", &"x".repeat(5_000)] {
        let kept = ask(bad).await;
        assert!(!kept.is_empty() && kept != bad, "{kept}");
    }
    let (one, two) = (ada.get("/v1/me").await, ada.get("/v1/me").await);
    assert_ne!(one.header("x-request-id"), two.header("x-request-id"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_method_that_a_route_lacks_is_405_with_those_it_has() {
    let server = Server::shared();
    let ada = server.sign_up("methods").await;
    for (method, path, allowed) in [
        (Method::PUT, "/v1/me", ["GET", "PATCH"]),
        (Method::DELETE, "/v1/libraries", ["GET", "POST"]),
        (Method::PATCH, "/v1/branding", ["GET", "POST"]),
    ] {
        let answer = ada.send(ada.request(method, path)).await;
        answer.problem(405, "method_not_allowed");
        let allow: BTreeSet<_> = answer.header("allow").split(',').map(str::trim).collect();
        assert!(
            allowed.iter().all(|method| allow.contains(method)),
            "{path}: {allow:?}"
        );
    }
    ada.get("/v1/nonsense").await.problem(404, "not_found");
    ada.get("/nonsense").await.problem(404, "not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_id_answers_as_an_unknown_one() {
    let server = Server::shared();
    let ada = server.sign_up("ids").await;
    let library = ada.library("Mine").await;
    let gallery = ada.gallery_in(&library, "Mine").await;
    for (route, prefix) in [
        ("libraries", "lib"),
        ("galleries", "gal"),
        ("photos", "pho"),
        ("clients", "cli"),
    ] {
        let unknown = ada
            .get(&format!("/v1/{route}/{}", unknown_id(prefix)))
            .await;
        unknown.problem(404, "not_found");
        let other_kind = if prefix == "lib" { &gallery } else { &library };
        let hex = unknown_id(prefix)[prefix.len() + 1..].to_owned();
        let malformed = [
            other_kind.clone(),
            "nonsense".into(),
            format!("{prefix}_"),
            format!("{prefix}_{}", &hex[1..]),
            format!("{prefix}_{}", hex.to_uppercase()),
            hex,
            format!("{prefix}_{}", "g".repeat(32)),
            "%00".into(),
            "%FF".into(),
            "a%27%20OR%201%3D1".into(),
            "x".repeat(2_000),
        ];
        for id in malformed {
            let answer = ada.get(&format!("/v1/{route}/{id}")).await;
            assert_eq!(answer.essence(), unknown.essence(), "/v1/{route}/{id}");
        }
    }
    let upper = format!("/v1/libraries/{}", library.to_uppercase());
    ada.get(&upper).await.problem(404, "not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_that_is_not_known_is_refused() {
    let server = Server::shared();
    let ada = server.sign_up("fields").await;
    let eve = server.sign_up("other").await;
    let library = ada.library("Mine").await;
    let workspace = eve.workspace_id.as_str();
    let sign_up = json!({ "email": "x@example.test", "password": "long enough password", "name": "x", "workspace_name": "x", "workspace_id": workspace });
    for (path, body) in [
        ("/v1/signup", sign_up),
        (
            "/v1/libraries",
            json!({ "name": "x", "workspace_id": workspace }),
        ),
        (
            "/v1/galleries",
            json!({ "library_id": library, "name": "x", "download": "web", "workspace_id": workspace }),
        ),
        (
            "/v1/entitlements/check",
            json!({ "feature": "custom_branding", "workspace_id": workspace }),
        ),
        (
            "/v1/branding",
            json!({ "display_name": "x", "primary_color": "#112233", "workspace_id": workspace }),
        ),
    ] {
        let problem = ada
            .post(path, &body)
            .await
            .problem(422, "validation_failed");
        let errors = problem["errors"].as_array().expect("a list of errors");
        assert!(
            !errors.is_empty() && problem.to_string().contains("workspace_id"),
            "{path}: {problem}"
        );
        assert!(
            errors
                .iter()
                .all(|error| error["field"].is_string() && error["message"].is_string()),
            "{problem}"
        );
    }
    let body = json!({ "name": "x", "workspace_id": workspace });
    let patched = ada.patch(&format!("/v1/libraries/{library}"), &body).await;
    patched.problem(422, "validation_failed");
    ada.post("/v1/libraries", &json!({ "name": "x", "colour": "red" }))
        .await
        .problem(422, "validation_failed");
    assert_eq!(ada.list_all("/v1/libraries", 50).await.len(), 1);
    assert!(eve.list_all("/v1/libraries", 50).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_that_cannot_be_is_refused() {
    let server = Server::shared();
    let ada = server.sign_up("text").await;
    for name in ["a\0b", "\0", "", "   "] {
        let answer = ada.post("/v1/libraries", &json!({ "name": name })).await;
        answer.problem(422, "validation_failed");
    }
    let long = ada
        .post("/v1/libraries", &json!({ "name": "x".repeat(100_000) }))
        .await;
    long.problem(422, "validation_failed");
    let _ = ada
        .post(
            "/v1/libraries",
            &json!({ "name": "Hochzeit 💍 婚礼 O'Brien\"; --" }),
        )
        .await
        .is(201);
    assert_eq!(ada.list_all("/v1/libraries", 50).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_read_page_by_page_without_gap_or_repeat() {
    let server = Server::shared();
    let ada = server.sign_up("pages").await;
    let mut made = BTreeSet::new();
    for number in 0..11 {
        made.insert(ada.library(&format!("Library {number}")).await);
    }
    for limit in [1, 2, 3, 5, 11, 200] {
        let items = ada.list_all("/v1/libraries", limit).await;
        let ids: Vec<_> = items
            .iter()
            .map(|item| item["id"].as_str().expect("an id").to_owned())
            .collect();
        assert_eq!(ids.len(), 11, "limit {limit}");
        assert_eq!(ids.iter().cloned().collect::<BTreeSet<_>>(), made);
    }
    for limit in ["-1", "0", "201", "x", "", "1e3", "99999999999999999999"] {
        let answer = ada.get(&format!("/v1/libraries?limit={limit}")).await;
        answer.problem(422, "validation_failed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_is_only_its_own_workspaces_and_only_as_it_was_given() {
    let server = Server::shared();
    let ada = server.sign_up("cursor").await;
    let eve = server.sign_up("eve").await;
    for actor in [&ada, &eve] {
        for number in 0..3 {
            let _ = actor.library(&format!("Library {number}")).await;
        }
    }
    let cursor = ada
        .get("/v1/libraries?limit=1")
        .await
        .is(200)
        .text("next_cursor");
    let _ = ada
        .get(&format!("/v1/libraries?limit=1&cursor={cursor}"))
        .await
        .is(200);
    let foreign = eve
        .get(&format!("/v1/libraries?limit=1&cursor={cursor}"))
        .await;
    foreign.problem(400, "invalid_cursor");
    let mut tampered = vec![
        "nonsense".to_owned(),
        String::from("%20"),
        cursor[1..].to_owned(),
    ];
    for at in [0, cursor.len() / 3, cursor.len() / 2, cursor.len() - 8] {
        let other = if cursor.as_bytes()[at] == b'A' {
            "B"
        } else {
            "A"
        };
        tampered.push(format!("{}{other}{}", &cursor[..at], &cursor[at + 1..]));
    }
    for cursor in tampered {
        let answer = ada
            .get(&format!("/v1/libraries?limit=1&cursor={cursor}"))
            .await;
        answer.problem(400, "invalid_cursor");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_of_what_has_changed_meanwhile_is_refused() {
    let server = Server::shared();
    let ada = server.sign_up("etag").await;
    let library = ada.library("Before").await;
    let gallery = ada.gallery_in(&library, "Before").await;
    for path in [
        format!("/v1/libraries/{library}"),
        format!("/v1/galleries/{gallery}"),
    ] {
        let rename = async |name: &str, etag: &str| {
            let request = ada.request(Method::PATCH, &path).header("if-match", etag);
            ada.send(request.json(&json!({ "name": name }))).await
        };
        let first = ada.get(&path).await.is(200).header("etag").to_owned();
        let second = rename("After", &first)
            .await
            .is(200)
            .header("etag")
            .to_owned();
        assert_ne!(first, second);
        rename("Lost", &first)
            .await
            .problem(412, "precondition_failed");
        rename("Lost", "\"nonsense\"")
            .await
            .problem(412, "precondition_failed");
        let shown = ada.get(&path).await.is(200);
        assert_eq!(
            (shown.text("name").as_str(), shown.header("etag")),
            ("After", second.as_str())
        );
        let _ = rename("Any", "*").await.is(200);
        // Of two that start from the same state one wins.
        let etag = ada.get(&path).await.is(200).header("etag").to_owned();
        let answers = join_all((0..8).map(|_| rename("Raced", &etag))).await;
        let won = answers.iter().filter(|answer| answer.status == 200).count();
        let lost = answers.iter().filter(|answer| answer.status == 412).count();
        assert!(won >= 1 && won + lost == 8, "{answers:?}");
        let _ = ada
            .patch(&path, &json!({ "name": "Without a condition" }))
            .await
            .is(200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_request_has_one_effect_and_one_answer() {
    let server = Server::shared();
    let ada = server.sign_up("replay").await;
    let create = async |key: &str, name: &str| {
        let request = ada
            .request(Method::POST, "/v1/libraries")
            .header("idempotency-key", key);
        ada.send(request.json(&json!({ "name": name }))).await
    };
    let first = create("key-1", "One").await.is(201);
    assert!(!first.headers.contains_key("idempotency-replayed"));
    for _ in 0..3 {
        let replay = create("key-1", "One").await.is(201);
        assert_eq!(replay.header("idempotency-replayed"), "true");
        assert_eq!(replay.body, first.body);
    }
    create("key-1", "Two")
        .await
        .problem(422, "idempotency_key_reused");
    let refused = create("key-2", "").await;
    refused.problem(422, "validation_failed");
    let again = create("key-2", "").await;
    assert_eq!(again.body, refused.body);
    for bad in ["", "two words", &"x".repeat(256)] {
        let answer = create(bad, "Bad key").await;
        assert!([400, 422].contains(&answer.status), "{bad:?}: {answer:?}");
    }
    let _ = create(&"x".repeat(255), "Two").await.is(201);
    assert_eq!(ada.list_all("/v1/libraries", 50).await.len(), 2);

    // A key is its workspace's own.
    let eve = server.sign_up("eve").await;
    let request = eve
        .request(Method::POST, "/v1/libraries")
        .header("idempotency-key", "key-1");
    let other = eve
        .send(request.json(&json!({ "name": "One" })))
        .await
        .is(201);
    assert!(!other.headers.contains_key("idempotency-replayed"));
    assert_ne!(other.text("id"), first.text("id"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_one_key_at_once_have_one_effect() {
    let server = Server::shared();
    let ada = server.sign_up("at-once").await;
    let answers = join_all((0..16).map(|_| {
        let request = ada
            .request(Method::POST, "/v1/libraries")
            .header("idempotency-key", "at-once");
        ada.send(request.json(&json!({ "name": "Once" })))
    }))
    .await;
    let mut effects = 0;
    let mut ids = BTreeSet::new();
    for answer in &answers {
        if answer.status == 201 {
            effects += usize::from(!answer.headers.contains_key("idempotency-replayed"));
            ids.insert(answer.text("id"));
        } else {
            answer.problem(409, "idempotency_in_flight");
            assert!(!answer.header("retry-after").is_empty());
        }
    }
    assert_eq!((effects, ids.len()), (1, 1), "{answers:?}");
    assert_eq!(ada.list_all("/v1/libraries", 50).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_upload_is_stored_and_counted_once() {
    let server = Server::shared();
    let ada = server.sign_up("upload-key").await;
    let gallery = ada.gallery("Once").await;
    let upload = async |bytes: Vec<u8>| {
        let request = ada.upload_request(&gallery, bytes, "image/jpeg");
        ada.send(request.header("idempotency-key", "photo-1")).await
    };
    let first = upload(image::jpeg(50_000, 1)).await.is(201);
    let replay = upload(image::jpeg(50_000, 1)).await.is(201);
    assert_eq!(replay.header("idempotency-replayed"), "true");
    assert_eq!(replay.body, first.body);
    upload(image::jpeg(50_000, 2))
        .await
        .problem(422, "idempotency_key_reused");
    let usage = ada.usage("storage_bytes").await;
    assert_eq!(
        (&usage["used"], &usage["reserved"]),
        (&json!(50_000), &json!(0))
    );
    assert_eq!(server.files_of(&ada.workspace_id).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mint_of_credentials_is_not_replayed() {
    let server = Server::shared();
    let ada = server.sign_up("mint").await;
    let anonymous = server.anonymous();
    let sign_in = async || {
        let body = json!({ "email": ada.email, "password": e2e::Actor::PASSWORD });
        let request = anonymous
            .request(Method::POST, "/v1/sessions")
            .header("idempotency-key", "mint");
        anonymous.send(request.json(&body)).await.is(201)
    };
    let (one, two) = (sign_in().await, sign_in().await);
    assert_ne!(one.text("refresh_token"), two.text("refresh_token"));
    assert!(!two.headers.contains_key("idempotency-replayed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_are_rfc_3339_in_utc() {
    let server = Server::shared();
    let ada = server.sign_up("times").await;
    let library = ada.library("Times").await;
    let answers: [Value; 2] = [
        ada.get(&format!("/v1/libraries/{library}"))
            .await
            .is(200)
            .json(),
        ada.get("/v1/workspace").await.is(200).json(),
    ];
    for answer in answers {
        let time = answer["created_at"].as_str().expect("a created_at");
        assert!(
            time.ends_with('Z') && chrono::DateTime::parse_from_rfc3339(time).is_ok(),
            "{time}"
        );
    }
}
