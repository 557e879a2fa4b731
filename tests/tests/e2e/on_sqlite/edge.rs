//! What every answer has in common, as browsers, caches and clients on slow lines meet it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use e2e::{Server, image};
use reqwest::Method;
use serde_json::{Value, json};

const ORIGIN: &str = "https://app.example";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_a_named_origin_signs_up_uploads_and_reads() {
    let server = Server::start_with(&[("RAWDRIVE_CORS_ORIGINS", ORIGIN)]);
    let anonymous = server.anonymous();
    let preflight = |path: &str, method: &str| {
        anonymous
            .request(Method::OPTIONS, path)
            .header("origin", ORIGIN)
            .header("access-control-request-method", method)
            .header(
                "access-control-request-headers",
                "authorization,content-type,idempotency-key",
            )
    };
    // Without a credential, as browsers ask.
    for (path, method) in [
        ("/v1/signup", "POST"),
        ("/v1/workspace", "PATCH"),
        ("/v1/usage", "GET"),
    ] {
        let answer = anonymous.send(preflight(path, method)).await;
        assert!((200..300).contains(&answer.status), "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), ORIGIN);
        assert!(
            answer
                .header("access-control-allow-methods")
                .contains(method)
        );
    }
    let foreign = anonymous
        .request(Method::GET, "/v1/plans")
        .header("origin", "https://elsewhere.example");
    let foreign = anonymous.send(foreign).await.is(200);
    assert!(!foreign.headers.contains_key("access-control-allow-origin"));
    // Refusals are read as well, with what they say.
    let refused = anonymous
        .request(Method::GET, "/v1/usage")
        .header("origin", ORIGIN);
    let refused = anonymous.send(refused).await;
    refused.problem(401, "unauthenticated");
    assert_eq!(refused.header("access-control-allow-origin"), ORIGIN);
    let exposed = refused
        .header("access-control-expose-headers")
        .to_ascii_lowercase();
    for name in [
        "etag",
        "ratelimit",
        "retry-after",
        "x-request-id",
        "location",
        "idempotency-replayed",
    ] {
        assert!(exposed.contains(name), "{name}: {exposed}");
    }
    assert!(
        !refused
            .headers
            .contains_key("access-control-allow-credentials")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_is_compressed_and_told_when_it_has_not_changed() {
    let server = Server::shared();
    let ada = server.sign_up("coded").await;
    for n in 0..12 {
        let _ = ada
            .library(&format!("A library with a rather long name, number {n}"))
            .await;
    }
    let list = ada
        .request(Method::GET, "/v1/libraries")
        .header("accept-encoding", "gzip");
    let list = ada.send(list).await.is(200);
    assert_eq!(list.header("content-encoding"), "gzip");
    assert_eq!(list.header("vary"), "accept-encoding");
    assert_eq!(list.header("cache-control"), "private, no-cache");
    let plain = ada.get("/v1/libraries").await.is(200);
    assert!(list.body.len() * 2 < plain.body.len());
    // Secrets and photos are not.
    let body = json!({ "name": "x".repeat(200), "role": "member" });
    let made = ada
        .request(Method::POST, "/v1/api-keys")
        .header("accept-encoding", "gzip")
        .json(&body);
    let made = ada.send(made).await.is(201);
    assert!(!made.headers.contains_key("content-encoding"));
    assert_eq!(made.header("cache-control"), "no-store");
    // Whoever has a version is told so, wherever a version is told.
    let gallery = ada.gallery("Unchanged").await;
    for path in [
        "/v1/workspace".to_owned(),
        format!("/v1/galleries/{gallery}"),
    ] {
        let shown = ada.get(&path).await.is(200);
        let tag = shown.header("etag").to_owned();
        assert!(!tag.is_empty(), "{path}");
        let again = ada
            .request(Method::GET, &path)
            .header("if-none-match", &tag);
        let again = ada.send(again).await.is(304);
        assert!(again.body.is_empty());
        assert_eq!(again.header("etag"), tag);
    }
}

/// What is counted, granted or seen changes without anybody's changing the resource.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_shown_otherwise_is_another_version_to_read_and_the_same_to_change() {
    let server = Server::shared();
    let ada = server.sign_up("otherwise").await;
    let gallery = ada.gallery("Filling").await;
    let client = ada
        .post(
            "/v1/clients",
            &json!({ "name": "Mia", "email": "mia@example.test" }),
        )
        .await
        .is(201);
    let client = client.text("id");
    let (gallery, client) = (
        format!("/v1/galleries/{gallery}"),
        format!("/v1/clients/{client}"),
    );
    let mut tags = Vec::new();
    for path in ["/v1/workspace", &gallery, &client] {
        tags.push((path, ada.get(path).await.is(200).header("etag").to_owned()));
    }
    let _ = ada
        .upload(
            gallery.trim_start_matches("/v1/galleries/"),
            image::jpeg(1_000, 1),
            "image/jpeg",
        )
        .await
        .is(201);
    let _ = ada
        .post(&format!("{client}/invite"), &json!({}))
        .await
        .is(201);
    server.set_plan(&ada, "professional").await;
    for (path, tag) in tags {
        let asked = ada.request(Method::GET, path).header("if-none-match", &tag);
        let shown = ada.send(asked).await.is(200);
        assert_ne!(shown.header("etag"), tag, "{path}");
        let change = ada
            .request(Method::PATCH, path)
            .header("if-match", &tag)
            .json(&json!({ "name": "Renamed" }));
        let changed = ada.send(change).await.is(200);
        let late = ada
            .request(Method::PATCH, path)
            .header("if-match", shown.header("etag"))
            .json(&json!({ "name": "Too late" }));
        ada.send(late).await.problem(412, "precondition_failed");
        assert_eq!(ada.get(path).await.header("etag"), changed.header("etag"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_not_shown_to_who_prefers_so() {
    let server = Server::shared();
    let ada = server.sign_up("minimal").await;
    let body = json!({ "name": "Renamed" });
    let changed = ada
        .request(Method::PATCH, "/v1/workspace")
        .header("prefer", "return=minimal")
        .json(&body);
    let changed = ada.send(changed).await.is(204);
    assert_eq!(changed.header("preference-applied"), "return=minimal");
    let shown = ada.get("/v1/workspace").await.is(200);
    assert_eq!(shown.json()["name"], "Renamed");
    assert_eq!(shown.header("etag"), changed.header("etag"));
    let body = json!({ "name": "Made" });
    let made = ada
        .request(Method::POST, "/v1/libraries")
        .header("prefer", "return=minimal")
        .header("idempotency-key", "minimal-1")
        .json(&body);
    let made = ada.send(made).await.is(201);
    assert!(made.body.is_empty());
    let _ = ada.get(made.header("location")).await.is(200);
    // Without it, the same request is answered as it would have been.
    let again = ada
        .request(Method::POST, "/v1/libraries")
        .header("idempotency-key", "minimal-1")
        .json(&body);
    let again = ada.send(again).await.is(201);
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.json()["name"], "Made");
    // A secret is told only once.
    let body = json!({ "name": "Key", "role": "member" });
    let key = ada
        .request(Method::POST, "/v1/api-keys")
        .header("prefer", "return=minimal")
        .json(&body);
    assert!(!ada.send(key).await.is(201).text("secret").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_is_wrong_with_a_body_is_told_at_once() {
    let server = Server::shared();
    let body =
        json!({ "email": "no address", "password": "x", "workspace_name": 5, "role": "owner" });
    let refused = server.anonymous().post("/v1/signup", &body).await;
    let problem = refused.problem(422, "validation_failed");
    let mut fields: Vec<_> = problem["errors"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|error| error["field"].as_str().expect("a field"))
        .collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        ["email", "name", "password", "role", "workspace_name"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_log_is_read_by_what_who_and_when() {
    let server = Server::shared();
    let ada = server.sign_up("audited").await;
    for name in ["One", "Two", "Three"] {
        let _ = ada
            .patch("/v1/workspace", &json!({ "name": name }))
            .await
            .is(200);
    }
    let body = json!({ "name": "Key", "role": "owner" });
    let key = ada.post("/v1/api-keys", &body).await.is(201);
    let program = server.bearer(&key.text("secret"));
    let _ = program
        .patch("/v1/workspace", &json!({ "name": "Four" }))
        .await
        .is(200);
    let read = async |query: &str| {
        let answer = ada
            .get(&format!("/v1/workspace/audit?{query}"))
            .await
            .is(200)
            .json();
        answer["items"].as_array().expect("a list").clone()
    };
    let updates = read("action=workspace.updated").await;
    assert_eq!(updates.len(), 4);
    assert!(
        updates
            .iter()
            .all(|entry| entry["action"] == "workspace.updated")
    );
    let by_key = read(&format!(
        "action=workspace.updated&actor={}",
        key.text("id")
    ))
    .await;
    assert_eq!(by_key.len(), 1, "{by_key:?}");
    assert_eq!(by_key[0]["after"]["name"], "Four");
    let at = updates[1]["at"].as_str().expect("a time");
    assert!(read(&format!("from={at}")).await.len() >= 2);
    let before = read(&format!("to={at}")).await;
    assert!(
        before.iter().all(|entry| entry["at"].as_str() < Some(at)),
        "{before:?}"
    );
    // A cursor holds for its filters alone.
    let first = ada
        .get("/v1/workspace/audit?action=workspace.updated&limit=3")
        .await
        .is(200)
        .json();
    let cursor = first["next_cursor"].as_str().expect("there is more");
    assert_eq!(
        read(&format!("action=workspace.updated&limit=3&cursor={cursor}"))
            .await
            .len(),
        1
    );
    ada.get(&format!("/v1/workspace/audit?limit=3&cursor={cursor}"))
        .await
        .problem(400, "invalid_cursor");
    let refused = ada.get("/v1/workspace/audit?from=yesterday&to=x").await;
    let problem = refused.problem(422, "validation_failed");
    assert_eq!(problem["errors"].as_array().map(Vec::len), Some(2));
    ada.get("/v1/workspace/audit?from=2027-01-02T00:00:00Z&to=2027-01-01T00:00:00Z")
        .await
        .problem(422, "validation_failed");
}

/// Sends the head of an upload of three gigabytes, and at most as much of it as the system takes meanwhile; the answer's
/// head and how long it took.
fn refused_upload(server: &Server, path: &str, fields: &str) -> (String, Duration) {
    let address = server.url().replace("http://", "");
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a timeout can be set");
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: t\r\n{fields}Content-Length: 3221225472\r\n\r\n");
    let since = Instant::now();
    stream
        .write_all(head.as_bytes())
        .expect("the head is taken");
    stream
        .write_all(&[b'x'; 1000])
        .expect("the beginning is taken");
    let mut answer = Vec::new();
    let mut piece = [0; 8192];
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut piece).expect("the answer comes");
        assert_ne!(read, 0, "an answer, and no end");
        answer.extend_from_slice(&piece[..read]);
    }
    (
        String::from_utf8_lossy(&answer).into_owned(),
        since.elapsed(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_gigabytes_are_refused_before_they_are_sent() {
    let server = Server::start();
    let ada = server.sign_up("large").await;
    let gallery = ada.gallery("Large").await;
    let full = server.sign_up("large-full").await;
    let full_gallery = full.gallery("Full").await;
    server.override_limit(&full, "storage_bytes=10").await;
    let photos = |gallery: &str| format!("/v1/galleries/{gallery}/photos?filename=x.jpg");
    let fields = |token: &str, content: &str| {
        format!("Authorization: Bearer {token}\r\nContent-Type: {content}\r\n")
    };
    let nowhere = e2e::unknown_id("gal");
    let form = "multipart/form-data; boundary=b";
    for (case, path, fields, status) in [
        (
            "bad token",
            photos(&gallery),
            fields("nobody", "image/jpeg"),
            401,
        ),
        (
            "wrong gallery",
            photos(&nowhere),
            fields(&ada.token, "image/jpeg"),
            404,
        ),
        (
            "full",
            photos(&full_gallery),
            fields(&full.token, "image/jpeg"),
            402,
        ),
        (
            "wrong gallery, form",
            photos(&nowhere),
            fields(&ada.token, form),
            404,
        ),
        (
            "full, form",
            photos(&full_gallery),
            fields(&full.token, form),
            402,
        ),
        (
            "type",
            photos(&gallery),
            fields(&ada.token, "text/plain"),
            415,
        ),
        (
            "JSON",
            "/v1/libraries".to_owned(),
            fields(&ada.token, "application/json"),
            413,
        ),
    ] {
        let (answer, took) =
            tokio::task::block_in_place(|| refused_upload(&server, &path, &fields));
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{case}: {answer}"
        );
        assert!(took < Duration::from_secs(2), "{case}: {took:?}");
        #[expect(clippy::print_stderr, reason = "the figure that is asked for")]
        {
            eprintln!("{case}: {status} within {} ms", took.as_millis());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_of_the_clients_is_in_the_log() {
    let server = Server::start();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let api = server.anonymous();
    for parent in [
        format!("00-{trace}-00f067aa0ba902b7-01"),
        "nonsense-\"x".to_owned(),
    ] {
        let request = api
            .request(Method::GET, "/v1/plans")
            .header("traceparent", parent);
        let _: Value = api.send(request).await.is(200).json();
    }
    let log = server.log();
    assert!(log.contains(trace) && !log.contains("nonsense"), "{log}");
}
