//! Input that nobody sends by accident.

use e2e::{Server, image, unknown_id};
use reqwest::Method;
use serde_json::{Value, json};

use crate::crash::until;

const EXE: &[u8] = b"MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xFF\xFF\x00\x00 This program cannot be run in DOS mode.";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_uploads_get_the_documented_problem_and_leave_nothing() {
    // A server of its own: the whole data directory is looked through.
    let server = Server::start();
    let ada = server.sign_up("hostile").await;
    let gallery = ada.gallery("Hostile").await;
    let clean = server.all_files().len();

    let exe_large = [EXE, &[0; 200_000]].concat();
    let png_half = [&image::CAMERA_PNG[..20], &[0; 5_000]].concat();
    let table: [(&[u8], &str, u16, &str); 9] = [
        (EXE, "image/jpeg", 415, "unsupported_media_type"),
        (&exe_large, "image/jpeg", 415, "unsupported_media_type"),
        (EXE, "image/png", 415, "unsupported_media_type"),
        (
            EXE,
            "application/x-msdownload",
            415,
            "unsupported_media_type",
        ),
        (
            image::CAMERA_PNG,
            "image/jpeg",
            415,
            "unsupported_media_type",
        ),
        (
            image::COFFEE_JPEG,
            "image/webp",
            415,
            "unsupported_media_type",
        ),
        (
            image::COFFEE_JPEG,
            "text/html",
            415,
            "unsupported_media_type",
        ),
        (&png_half, "image/png", 415, "unsupported_media_type"),
        (b"", "image/jpeg", 422, "validation_failed"),
    ];
    for (bytes, content_type, status, code) in table {
        let answer = ada.upload(&gallery, bytes.to_vec(), content_type).await;
        answer.problem(status, code);
    }
    let untyped = ada.request(
        Method::POST,
        &format!("/v1/galleries/{gallery}/photos?filename=x"),
    );
    let untyped = ada.send(untyped.body(image::COFFEE_JPEG)).await;
    untyped.problem(415, "unsupported_media_type");

    let head = |length: usize| {
        format!(
            "POST /v1/galleries/{gallery}/photos?filename=x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer {}\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n",
            ada.token
        )
    };
    for (length, sent) in [
        (1_000_000, 50_000),
        (50_001, 50_000),
        (1_000_000, 0),
        (3_000_000_000, 100),
    ] {
        let image = image::jpeg(50_000, 1);
        let request = [head(length).as_bytes(), &image[..sent]].concat();
        let answer = server.raw(request).await;
        let refused = ["HTTP/1.1 400", "HTTP/1.1 408"]
            .iter()
            .any(|start| answer.starts_with(start));
        assert!(
            answer.is_empty() || refused,
            "{length} announced, {sent} sent: {answer}"
        );
    }
    for length in ["-1", "x", "1, 2"] {
        let request = head(1).replace(
            "Content-Length: 1\r\n",
            &format!("Content-Length: {length}\r\n"),
        );
        let answer = server.raw(request.into_bytes()).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
            "{length}: {answer}"
        );
    }

    let usage = async || {
        let usage = ada.usage("storage_bytes").await;
        (usage["used"].clone(), usage["reserved"].clone())
    };
    until(15, "broken uploads hold no quota", async || {
        usage().await == (json!(0), json!(0))
    })
    .await;
    until(15, "broken uploads leave no bytes", async || {
        server.files_of(&ada.workspace_id).is_empty()
    })
    .await;
    let shown = ada
        .get(&format!("/v1/galleries/{gallery}"))
        .await
        .is(200)
        .json();
    assert_eq!(shown["photo_count"], 0);
    assert!(
        ada.list_all(&format!("/v1/galleries/{gallery}/photos"), 50)
            .await
            .is_empty()
    );
    let files = server.all_files();
    let extra: Vec<_> = files.iter().filter(|path| !is_database(path)).collect();
    assert!(extra.len() <= clean, "{extra:?}");
    // And the gallery still takes a good one.
    let _ = ada
        .upload(&gallery, image::COFFEE_JPEG, "image/jpeg")
        .await
        .is(201);
    server.assert_healthy().await;
}

fn is_database(path: &std::path::Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("rawdrive.db"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_json_gets_the_documented_problem() {
    let server = Server::shared();
    let ada = server.sign_up("json").await;
    let send = async |content_type: &str, body: Vec<u8>| {
        let request = ada
            .request(Method::POST, "/v1/libraries")
            .header("content-type", content_type);
        ada.send(request.body(body)).await
    };
    let nested = |open: &str, close: &str| {
        format!(
            "{{\"name\":{}1{}}}",
            open.repeat(10_000),
            close.repeat(10_000)
        )
        .into_bytes()
    };
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(10_000_000)).into_bytes();
    let problem = send("application/json", large)
        .await
        .problem(413, "payload_too_large");
    assert!(
        problem["limit"]
            .as_u64()
            .is_some_and(|limit| limit < 10_000_000),
        "{problem}"
    );
    let table: [(&str, Vec<u8>, u16, &str); 11] = [
        (
            "application/json",
            nested("[", "]"),
            400,
            "malformed_request",
        ),
        (
            "application/json",
            nested("{\"a\":", "}"),
            400,
            "malformed_request",
        ),
        (
            "application/json",
            b"{\"name\":".to_vec(),
            400,
            "malformed_request",
        ),
        (
            "application/json",
            b"{\"name\":\"x\"} trailing".to_vec(),
            400,
            "malformed_request",
        ),
        (
            "application/json",
            b"{\"name\":\"\xFF\xFE\"}".to_vec(),
            400,
            "malformed_request",
        ),
        ("application/json", b"".to_vec(), 400, "malformed_request"),
        (
            "text/plain",
            b"{\"name\":\"x\"}".to_vec(),
            415,
            "unsupported_media_type",
        ),
        ("application/json", b"{}".to_vec(), 422, "validation_failed"),
        (
            "application/json",
            b"{\"name\":5}".to_vec(),
            422,
            "validation_failed",
        ),
        (
            "application/json",
            b"{\"name\":null}".to_vec(),
            422,
            "validation_failed",
        ),
        (
            "application/json",
            b"{\"name\":\"x\\u0000\"}".to_vec(),
            422,
            "validation_failed",
        ),
    ];
    for (content_type, body, status, code) in table {
        send(content_type, body).await.problem(status, code);
    }
    assert!(ada.list_all("/v1/libraries", 50).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_problems_the_first_in_the_documented_order_is_told() {
    let server = Server::shared();
    let ada = server.sign_up("order").await;
    let library = ada.library("Order").await;
    let unknown = unknown_id("lib");
    // 401 before 422 and 404.
    let anonymous = server.anonymous();
    let answer = anonymous
        .patch(&format!("/v1/libraries/{unknown}"), &json!({ "x": 1 }))
        .await;
    answer.problem(401, "unauthenticated");
    // 422 before 404.
    let answer = ada
        .patch(&format!("/v1/libraries/{unknown}"), &json!({ "x": 1 }))
        .await;
    answer.problem(422, "validation_failed");
    let answer = ada
        .patch(&format!("/v1/libraries/{unknown}"), &json!({ "name": "x" }))
        .await;
    answer.problem(404, "not_found");
    // 422 before the feature.
    let answer = ada
        .post(
            "/v1/branding",
            &json!({ "display_name": "x", "primary_color": "red-ish" }),
        )
        .await;
    answer.problem(422, "validation_failed");
    // 404 before the quota, and the quota before the look at the bytes.
    server.override_limit(&ada, "storage_bytes=10").await;
    let answer = ada
        .upload(&unknown_id("gal"), image::jpeg(1_000, 1), "image/jpeg")
        .await;
    answer.problem(404, "not_found");
    let gallery = ada.gallery_in(&library, "Order").await;
    ada.upload(&gallery, EXE, "image/jpeg")
        .await
        .problem(402, "quota_exceeded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_body_is_drained_so_that_the_answer_can_be_read() {
    let server = Server::shared();
    let ada = server.sign_up("drain").await;
    server.override_limit(&ada, "storage_bytes=1000").await;
    let gallery = ada.gallery("Drain").await;
    let body = image::jpeg(12_000_000, 1);
    for _ in 0..3 {
        let answer = ada.upload(&gallery, body.clone(), "image/jpeg").await;
        answer.problem(402, "quota_exceeded");
        let answer = ada
            .upload(&unknown_id("gal"), body.clone(), "image/jpeg")
            .await;
        answer.problem(404, "not_found");
        let answer = server
            .anonymous()
            .upload(&gallery, body.clone(), "image/jpeg")
            .await;
        answer.problem(401, "unauthenticated");
    }
    let usage: Value = ada.usage("storage_bytes").await;
    assert_eq!((&usage["used"], &usage["reserved"]), (&json!(0), &json!(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_name_is_a_name_and_leads_nowhere() {
    let server = Server::start();
    let ada = server.sign_up("names").await;
    let gallery = ada.gallery("Names").await;
    let before = server.all_files().len();
    let long = "n".repeat(4_096);
    // What stands in the address, after its decoding by the server; `None`: refused.
    let table: [(&str, Option<&str>); 15] = [
        ("..", None),
        ("%2e%2e", None),
        ("..%2f..%2frawdrive.db", None),
        ("..%5c..%5crawdrive.db", None),
        ("%2fetc%2fpasswd", None),
        ("a%00.jpg", None),
        ("a%0ab.jpg", None),
        ("%ff%fe", None),
        (&long, None),
        ("", None),
        ("%252e%252e%252fup.jpg", Some("%2e%2e%2fup.jpg")),
        ("..jpg", Some("..jpg")),
        ("CON", Some("CON")),
        // One letter, written in two ways: two names, two photos.
        ("Zo%C3%AB.jpg", Some("Zo\u{eb}.jpg")),
        ("Zoe%CC%88.jpg", Some("Zoe\u{308}.jpg")),
    ];
    let mut stored = 0;
    for (seed, (name, kept)) in table.into_iter().enumerate() {
        let path = format!("/v1/galleries/{gallery}/photos?filename={name}");
        let request = ada
            .request(Method::POST, &path)
            .header("content-type", "image/jpeg")
            .body(image::jpeg(2_000, seed as u64));
        let answer = ada.send(request).await;
        match kept {
            Some(kept) => {
                assert_eq!(answer.is(201).text("filename"), kept, "{name}");
                stored += 1;
            }
            None => assert!([400, 422].contains(&answer.status), "{name}: {answer:?}"),
        }
    }
    let own = server.files_of(&ada.workspace_id);
    assert_eq!(own.len(), stored, "{own:?}");
    let mut all = server.all_files();
    // Smaller copies come when their time has come.
    all.retain(|path| !path.to_string_lossy().contains("/renditions/"));
    assert_eq!(all.len(), before + stored);
    let prefix = server
        .data_dir()
        .join("blobs")
        .join("workspaces")
        .join(&ada.workspace_id);
    for file in own {
        assert!(
            file.starts_with(&prefix),
            "{file:?} lies outside {prefix:?}"
        );
        let name = file
            .file_name()
            .expect("a file has a name")
            .to_string_lossy();
        assert!(
            name.starts_with("pho_"),
            "{name}: the client chose a file's name"
        );
    }
}
