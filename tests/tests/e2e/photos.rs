//! One photo's way in and out.

use e2e::{Actor, Server, image, sha256};
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_picture_is_described_by_its_own_header() {
    let server = Server::shared();
    let ada = server.sign_up("kinds").await;
    let gallery = ada.gallery("Kinds").await;
    let large = image::jpeg_with_late_header(200_000, 5);
    type Case<'a> = (&'a [u8], &'a str, (u64, u64), Option<&'a str>);
    let table: [Case<'_>; 4] = [
        (
            image::COFFEE_JPEG,
            "image/jpeg",
            (600, 400),
            Some("2024-05-18T09:41:07"),
        ),
        (image::CAMERA_PNG, "image/png", (256, 256), None),
        (image::GRASS_WEBP, "image/webp", (384, 384), None),
        (&large, "image/jpeg", image::TINY_SIZE, None),
    ];
    for (bytes, content_type, (width, height), taken_at) in table {
        let photo = ada
            .upload(&gallery, bytes.to_vec(), content_type)
            .await
            .is(201)
            .json();
        assert_eq!(photo["content_type"], content_type);
        assert_eq!(photo["size_bytes"], bytes.len());
        assert_eq!(photo["sha256"], sha256(bytes));
        assert_eq!(
            (&photo["width"], &photo["height"]),
            (&json!(width), &json!(height))
        );
        match taken_at {
            Some(start) => {
                let taken = photo["taken_at"].as_str().unwrap_or_default();
                assert!(taken.starts_with(start), "{photo}");
            }
            None => assert!(photo["taken_at"].is_null(), "{photo}"),
        }
        let id = photo["id"].as_str().expect("an id");
        let shown = ada.get(&format!("/v1/photos/{id}")).await.is(200).json();
        assert_eq!(shown["sha256"], photo["sha256"]);
        let content = ada.get(&format!("/v1/photos/{id}/content")).await.is(200);
        assert_eq!(content.header("content-type"), content_type);
        assert_eq!(content.header("x-content-type-options"), "nosniff");
        assert!(
            content.body == bytes,
            "the download differs from the upload"
        );
    }
    assert_eq!(
        ada.list_all(&format!("/v1/galleries/{gallery}/photos"), 3)
            .await
            .len(),
        4
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browsers_form_uploads_one_file() {
    let server = Server::shared();
    let ada = server.sign_up("form").await;
    let gallery = ada.gallery("Form").await;
    let path = format!("/v1/galleries/{gallery}/photos");
    let file = || {
        Part::bytes(image::COFFEE_JPEG.to_vec())
            .file_name("Morning coffee.jpg")
            .mime_str("image/jpeg")
            .expect("a media type")
    };
    let send = async |form: Form| {
        ada.send(ada.request(Method::POST, &path).multipart(form))
            .await
    };
    let photo = send(Form::new().part("file", file())).await.is(201).json();
    assert_eq!(photo["filename"], "Morning coffee.jpg");
    assert_eq!(photo["content_type"], "image/jpeg");
    assert_eq!(photo["size_bytes"], image::COFFEE_JPEG.len());
    assert_eq!(photo["sha256"], sha256(image::COFFEE_JPEG));
    assert_eq!(photo["width"], 600);

    let no_file = send(Form::new().text("caption", "x")).await;
    assert!((400..500).contains(&no_file.status), "{no_file:?}");
    let exe = Part::bytes(b"MZ\x90\0 not a photo".to_vec()).file_name("a.jpg");
    let exe = send(Form::new().part("file", exe.mime_str("image/jpeg").expect("a type"))).await;
    exe.problem(415, "unsupported_media_type");
    let usage = ada.usage("storage_bytes").await;
    assert_eq!(usage["used"], image::COFFEE_JPEG.len());
    assert_eq!(usage["reserved"], 0);
}

/// A client that does not know a format sends it as octets; the name tells, and the content is checked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_of_octets_is_taken_by_its_name_and_its_content() {
    let server = Server::shared();
    let ada = server.sign_up("octets").await;
    let gallery = ada.gallery("Octets").await;
    let path = format!("/v1/galleries/{gallery}/photos");
    let send = async |bytes: &[u8], name: &'static str| {
        let part = Part::bytes(bytes.to_vec()).file_name(name);
        let part = part.mime_str("application/octet-stream").expect("a type");
        let form = Form::new().part("file", part);
        ada.send(ada.request(Method::POST, &path).multipart(form))
            .await
    };
    let photo = send(image::CAMERA_PNG, "camera.PNG").await.is(201).json();
    assert_eq!(photo["content_type"], "image/png");
    let wrong = send(image::CAMERA_PNG, "camera.jpg").await;
    wrong.problem(415, "unsupported_media_type");
    let unknown = send(image::CAMERA_PNG, "camera.bin").await;
    unknown.problem(415, "unsupported_media_type");
}

async fn content_of_10_000(ada: &Actor) -> (Vec<u8>, String) {
    let gallery = ada.gallery("Ranges").await;
    let bytes = image::jpeg(10_000, 3);
    let id = ada
        .upload(&gallery, bytes.clone(), "image/jpeg")
        .await
        .is(201)
        .text("id");
    (bytes, format!("/v1/photos/{id}/content"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_is_answered_with_those_bytes() {
    let server = Server::shared();
    let ada = server.sign_up("range").await;
    let (bytes, path) = content_of_10_000(&ada).await;
    let range = async |value: &str| {
        ada.send(ada.request(Method::GET, &path).header("range", value))
            .await
    };
    let table = [
        ("bytes=100-199", 100..200),
        ("bytes=0-0", 0..1),
        ("bytes=9990-", 9_990..10_000),
        ("bytes=-10", 9_990..10_000),
        ("bytes=9000-99999", 9_000..10_000),
    ];
    for (value, expected) in table {
        let part = range(value).await.is(206);
        assert_eq!(part.body, &bytes[expected.clone()], "{value}");
        let shown = format!("bytes {}-{}/10000", expected.start, expected.end - 1);
        assert_eq!(part.header("content-range"), shown);
        assert_eq!(part.header("content-length"), expected.len().to_string());
        assert_eq!(part.header("content-type"), "image/jpeg");
    }
    for value in ["bytes=10000-", "bytes=10000-10001", "bytes=-0"] {
        let refused = range(value).await;
        refused.problem(416, "range_not_satisfiable");
        assert_eq!(refused.header("content-range"), "bytes */10000");
    }
    // What is no range of bytes at all may be ignored (RFC 9110, 14.2), never answered with other bytes.
    for value in ["bytes=5-1", "bytes=x", "lines=1-2"] {
        let answer = range(value).await;
        assert!(
            answer.status == 416 || (answer.status == 200 && answer.body == bytes),
            "{value}: {answer:?}"
        );
    }
    let whole = ada.get(&path).await.is(200);
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("content-length"), "10000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_has_the_bytes_is_not_sent_them_again() {
    let server = Server::shared();
    let ada = server.sign_up("etag").await;
    let (_, path) = content_of_10_000(&ada).await;
    let etag = ada.get(&path).await.is(200).header("etag").to_owned();
    let ask = async |value: &str| {
        ada.send(
            ada.request(Method::GET, &path)
                .header("if-none-match", value),
        )
        .await
    };
    for value in [etag.as_str(), "*", &format!("\"other\", {etag}")] {
        let answer = ask(value).await.is(304);
        assert!(answer.body.is_empty());
        assert_eq!(answer.header("etag"), etag);
    }
    assert_eq!(ask("\"other\"").await.is(200).body.len(), 10_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_a_photo_gives_its_bytes_back() {
    let server = Server::shared();
    let ada = server.sign_up("delete").await;
    let gallery = ada.gallery("Deleting").await;
    let mut ids = Vec::new();
    for seed in 0..2 {
        let answer = ada
            .upload(&gallery, image::jpeg(20_000, seed), "image/jpeg")
            .await
            .is(201);
        ids.push(answer.text("id"));
    }
    let path = format!("/v1/photos/{}", ids[0]);
    let _ = ada.delete(&path).await.is(204);
    assert_eq!(ada.usage("storage_bytes").await["used"], 20_000);
    assert_eq!(
        ada.get(&format!("/v1/galleries/{gallery}"))
            .await
            .is(200)
            .json()["photo_count"],
        1
    );
    for path in [path.clone(), format!("{path}/content")] {
        ada.get(&path).await.problem(404, "not_found");
    }
    ada.delete(&path).await.problem(404, "not_found");
    assert_eq!(ada.usage("storage_bytes").await["used"], 20_000);
    crate::crash::until(15, "the deleted photo's file is gone", async || {
        server.files_of(&ada.workspace_id).len() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_megabytes_pass_through_less_than_ten_of_memory() {
    const SIZE: usize = 30_000_000;
    const ALLOWED: u64 = 10_000_000;
    let server = Server::start();
    let ada = server.sign_up("memory").await;
    let gallery = ada.gallery("Memory").await;
    // The first upload pays for what every process pays once.
    let warm = ada
        .upload(&gallery, image::jpeg(200_000, 1), "image/jpeg")
        .await
        .is(201)
        .text("id");
    let _ = ada.get(&format!("/v1/photos/{warm}/content")).await.is(200);
    ada.rendered(&warm).await;

    // Of a format that is stored as it is: what is made of others afterwards takes memory of its own.
    let bytes = [&b"II*\0"[..], &image::jpeg(SIZE - 4, 2)].concat();
    let digest = sha256(&bytes);
    let before = server.memory_bytes("VmRSS");
    server.reset_memory_peak();
    let photo = ada
        .upload(&gallery, bytes, "image/x-nikon-nef")
        .await
        .is(201)
        .json();
    let after_upload = server.memory_bytes("VmHWM");
    assert_eq!(photo["size_bytes"], SIZE);
    assert_eq!(photo["sha256"], digest);
    let path = format!(
        "/v1/photos/{}/content",
        photo["id"].as_str().expect("an id")
    );
    let content = ada.get(&path).await.is(200).body;
    let after_download = server.memory_bytes("VmHWM");
    assert_eq!(sha256(&content), digest);
    assert!(
        after_upload > 0 && after_upload - before.min(after_upload) < ALLOWED,
        "upload: {before} grew to {after_upload}"
    );
    assert!(
        after_download - before.min(after_download) < ALLOWED,
        "download: {before} grew to {after_download}"
    );
    let part = ada
        .send(
            ada.request(Method::GET, &path)
                .header("range", "bytes=100-199"),
        )
        .await
        .is(206);
    assert_eq!(part.body, &content[100..200]);
}
