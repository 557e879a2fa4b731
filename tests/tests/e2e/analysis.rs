//! Analyses: what they say, and that each is one unit, taken before and consumed only by success.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use e2e::{Actor, Answer, Api, Server, image, rounds, unknown_id};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::crash::{swept_within_seconds, until};

async fn upload(actor: &Api, gallery: &str, bytes: impl Into<Vec<u8>>, kind: &str) -> String {
    let answer = actor.upload(gallery, bytes.into(), kind).await;
    answer.is(201).text("id")
}

async fn coffee(actor: &Api) -> String {
    let gallery = actor.gallery("Coffee").await;
    upload(actor, &gallery, image::COFFEE_JPEG, "image/jpeg").await
}

async fn analyze(actor: &Api, photo: &str) -> Answer {
    let path = format!("/v1/photos/{photo}/analysis");
    actor.send(actor.request(Method::POST, &path)).await
}

async fn analysis(actor: &Api, photo: &str) -> Answer {
    actor.get(&format!("/v1/photos/{photo}/analysis")).await
}

async fn analyze_at_once(actor: &Actor, photo: &str, count: usize) -> Vec<Answer> {
    let requests = (0..count).map(|_| {
        let (actor, photo) = (actor.clone(), photo.to_owned());
        tokio::spawn(async move { analyze(&actor, &photo).await })
    });
    let answers = join_all(requests).await.into_iter();
    answers.map(|answer| answer.expect("no panic")).collect()
}

/// Used and reserved of `ai_analysis`.
async fn usage(actor: &Api) -> (u64, u64) {
    let usage = actor.usage("ai_analysis").await;
    let number = |name: &str| usage[name].as_u64().expect("a number");
    (number("used"), number("reserved"))
}

/// A vision endpoint that always gives this answer, or none at all; returns its address and how often it
/// was asked.
async fn endpoint(answer: Option<&'static str>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                count.fetch_add(1, Ordering::SeqCst);
                match answer {
                    // The server may be killed meanwhile: that is what such a test is about.
                    Some(answer) => {
                        let mut head = [0; 4096];
                        let _ = connection.read(&mut head).await;
                        let _ = connection.write_all(answer.as_bytes()).await;
                        let mut rest = Vec::new();
                        let _ = connection.read_to_end(&mut rest).await;
                    }
                    None => tokio::time::sleep(Duration::from_secs(600)).await,
                }
            });
        }
    });
    (format!("http://{address}/v1"), asked)
}

fn with_endpoint(url: &str) -> Server {
    Server::start_with(&[
        ("RAWDRIVE_ANALYSIS_URL", url),
        ("RAWDRIVE_ANALYSIS_MODEL", "see-all"),
        ("RAWDRIVE_ANALYSIS_KEY", "sk-nobody-may-see-this"),
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_photo_is_measured_stored_and_counted() {
    let server = Server::shared();
    let ada = server.sign_up_on("measured", "professional").await;
    let photo = coffee(&ada).await;
    analysis(&ada, &photo).await.problem(404, "not_found");
    let made = analyze(&ada, &photo).await.is(201).json();
    assert_eq!(made["photo_id"], photo.as_str());
    let number = |pointer: &str| {
        made.pointer(pointer)
            .and_then(Value::as_f64)
            .expect("a number")
    };
    assert!(number("/sharpness") > 100.0, "{made}");
    let mean = number("/exposure/mean");
    assert!((0.05..0.95).contains(&mean), "{made}");
    for share in ["/exposure/shadows_clipped", "/exposure/highlights_clipped"] {
        assert!((0.0..=1.0).contains(&number(share)), "{made}");
    }
    let colors = made["dominant_colors"].as_array().expect("colours");
    assert!((1..=5).contains(&colors.len()), "{made}");
    let shares: f64 = colors.iter().filter_map(|c| c["share"].as_f64()).sum();
    assert!(shares > 0.5 && shares <= 1.000_001, "{made}");
    for color in colors {
        let text = color["color"].as_str().expect("a colour");
        let hex = text.strip_prefix('#').expect("begins with #");
        assert!(
            hex.len() == 6 && hex.bytes().all(|b| b.is_ascii_hexdigit()),
            "{text}"
        );
    }
    let hash = made["perceptual_hash"].as_str().expect("a hash");
    assert!(
        hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()),
        "{hash}"
    );
    assert_eq!(made["near_duplicates"], json!([]));
    assert_eq!(
        (&made["description"], &made["tags"]),
        (&Value::Null, &json!([]))
    );
    assert_eq!(made["analyzer"], "local-1");
    assert_eq!(analysis(&ada, &photo).await.is(200).json(), made);

    // Each request is a fresh analysis: one unit more, and the same numbers.
    assert_eq!(usage(&ada).await, (1, 0));
    let again = analyze(&ada, &photo).await.is(201).json();
    assert_eq!(again["sharpness"], made["sharpness"]);
    assert_eq!(again["perceptual_hash"], made["perceptual_hash"]);
    assert!(again["analyzed_at"].as_str() > made["analyzed_at"].as_str());
    assert_eq!(usage(&ada).await, (2, 0));
    let shown = ada.usage("ai_analysis").await;
    assert_eq!(
        (&shown["limit"], &shown["level"]),
        (&json!(500), &json!("ok"))
    );
    assert!(shown["resets_at"].is_string(), "{shown}");
    let lines = ada.list_all("/v1/usage/events", 50).await;
    let lines: Vec<_> = lines
        .iter()
        .filter(|line| line["metric"] == "ai_analysis")
        .collect();
    assert_eq!(lines.len(), 2);
    for line in lines {
        assert_eq!(
            (&line["quantity"], &line["subject"]),
            (&json!(1), &json!(photo))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_flat_colours_are_told_and_every_format_is_read() {
    let server = Server::shared();
    let ada = server.sign_up_on("colours", "professional").await;
    let gallery = ada.gallery("Colours").await;
    let flag = image::picture(120, 80, |x, _| {
        if x < 90 {
            [0xd0, 0x10, 0x30]
        } else {
            [0x10, 0x20, 0xc0]
        }
    });
    let flag = upload(&ada, &gallery, flag, "image/png").await;
    let made = analyze(&ada, &flag).await.is(201).json();
    assert_eq!(
        made["dominant_colors"],
        json!([{ "color": "#d01030", "share": 0.75 }, { "color": "#1020c0", "share": 0.25 }])
    );
    for (bytes, kind) in [
        (image::CAMERA_PNG, "image/png"),
        (image::GRASS_WEBP, "image/webp"),
    ] {
        let photo = upload(&ada, &gallery, bytes, kind).await;
        let _ = analyze(&ada, &photo).await.is(201);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn near_duplicates_are_those_of_the_same_gallery_until_they_are_deleted() {
    let server = Server::shared();
    let ada = server.sign_up_on("near", "professional").await;
    let (gallery, other) = (ada.gallery("Near").await, ada.gallery("Other").await);
    // A picture with structure, and the same a little brighter.
    let hills = |lift: u8| {
        image::picture(96, 64, move |x, y| {
            let light = (x * 2 + y / 4 * 3 + (x / 12 * y / 8) % 5 * 20) % 200;
            [u8::try_from(light).unwrap_or(199) + lift; 3]
        })
    };
    let first = upload(&ada, &gallery, hills(0), "image/png").await;
    let second = upload(&ada, &gallery, hills(6), "image/png").await;
    let camera = upload(&ada, &gallery, image::CAMERA_PNG, "image/png").await;
    let elsewhere = upload(&ada, &other, hills(0), "image/png").await;
    for photo in [&first, &camera, &elsewhere] {
        let made = analyze(&ada, photo).await.is(201).json();
        assert_eq!(made["near_duplicates"], json!([]), "{photo}");
    }
    let near = |answer: &Value| -> Vec<String> {
        let near = answer["near_duplicates"].as_array().expect("a list");
        assert!(
            near.iter().all(|n| n["distance"].as_u64() <= Some(10)),
            "{answer}"
        );
        near.iter()
            .filter_map(|n| Some(n["photo_id"].as_str()?.to_owned()))
            .collect()
    };
    let made = analyze(&ada, &second).await.is(201).json();
    assert_eq!(near(&made), [first.as_str()]);
    // Who was there before learns of it too.
    let shown = analysis(&ada, &first).await.is(200).json();
    assert_eq!(near(&shown), [second.as_str()]);

    let _ = ada.delete(&format!("/v1/photos/{second}")).await.is(204);
    analysis(&ada, &second).await.problem(404, "not_found");
    let shown = analysis(&ada, &first).await.is(200).json();
    assert_eq!(near(&shown), [""; 0]);
    let _ = ada
        .delete(&format!("/v1/galleries/{gallery}"))
        .await
        .is(204);
    analysis(&ada, &first).await.problem(404, "not_found");
    analyze(&ada, &first).await.problem(404, "not_found");
    let _ = ada
        .delete(&format!("/v1/galleries/{gallery}?permanent=true"))
        .await
        .is(204);
    // What was analysed stays counted: it was done.
    assert_eq!(usage(&ada).await, (4, 0));
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hundred_at_once_exactly_as_many_succeed_as_the_limit_says() {
    let server = Server::shared();
    for round in 0..rounds(3) {
        let ada = server.sign_up("hundred").await;
        server.override_limit(&ada, "ai_analysis_monthly=10").await;
        let photo = coffee(&ada).await;
        let answers = analyze_at_once(&ada, &photo, 100).await;
        let (done, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|a| a.status == 201);
        assert_eq!((done.len(), refused.len()), (10, 90), "round {round}");
        for answer in &refused {
            let problem = answer.problem(402, "quota_exceeded");
            assert_eq!(problem["metric"], "ai_analysis");
            assert_eq!(
                (
                    &problem["limit"],
                    &problem["current"],
                    &problem["requested"]
                ),
                (&json!(10), &json!(10), &json!(1))
            );
            assert!(problem["resets_at"].is_string(), "{problem}");
        }
        assert_eq!(usage(&ada).await, (10, 0), "round {round}");
        assert_eq!(ada.usage("ai_analysis").await["level"], "full");
    }
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_analyser_consumes_nothing() {
    const FAILURE: &str = "HTTP/1.1 500 Broken\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
    let (url, asked) = endpoint(Some(FAILURE)).await;
    let server = with_endpoint(&url);
    let ada = server.sign_up("failing").await;
    server.override_limit(&ada, "ai_analysis_monthly=10").await;
    let photo = coffee(&ada).await;
    for answer in analyze_at_once(&ada, &photo, 30).await {
        // While ten are under way, the limit is full.
        if answer.status != 402 {
            answer.problem(503, "dependency_unavailable");
            assert!(answer.header("retry-after").parse::<u32>().is_ok());
        }
    }
    assert!(
        asked.load(Ordering::SeqCst) > 0,
        "the endpoint was never asked"
    );
    assert_eq!(usage(&ada).await, (0, 0));
    analysis(&ada, &photo).await.problem(404, "not_found");
    // A failure is not kept under a key: the next attempt is one.
    let before = asked.load(Ordering::SeqCst);
    for _ in 0..2 {
        let path = format!("/v1/photos/{photo}/analysis");
        let request = ada
            .request(Method::POST, &path)
            .header("idempotency-key", "again");
        let answer = ada.send(request).await;
        answer.problem(503, "dependency_unavailable");
        assert!(!answer.headers.contains_key("idempotency-replayed"));
    }
    assert_eq!(asked.load(Ordering::SeqCst), before + 2);
    assert_eq!(usage(&ada).await, (0, 0));
    let lines = ada.list_all("/v1/usage/events", 50).await;
    assert!(
        lines.iter().all(|line| line["metric"] != "ai_analysis"),
        "{lines:?}"
    );
    assert!(!server.log().contains("sk-nobody-may-see-this"));
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_adds_its_words() {
    const WORDS: &str = r#"{"choices":[{"message":{"content":"{\"description\":\"A cup.\",\"tags\":[\"Coffee\"]}"}}]}"#;
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{WORDS}",
        WORDS.len()
    );
    let (url, _) = endpoint(Some(answer.leak())).await;
    let server = with_endpoint(&url);
    let ada = server.sign_up_on("words", "enterprise").await;
    let photo = coffee(&ada).await;
    let made = analyze(&ada, &photo).await.is(201).json();
    assert_eq!(
        (&made["description"], &made["tags"]),
        (&json!("A cup."), &json!(["coffee"]))
    );
    assert_eq!(made["analyzer"], "local-1+see-all");
    assert_eq!(analysis(&ada, &photo).await.is(200).json(), made);
    // Unlimited is counted too.
    assert_eq!(usage(&ada).await, (1, 0));
    assert!(ada.usage("ai_analysis").await["limit"].is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_analysed_is_refused_and_costs_nothing() {
    let server = Server::shared();
    let ada = server.sign_up_on("refused", "professional").await;
    let gallery = ada.gallery("Refused").await;
    // A type whose pixels nobody decodes is refused before the limit is looked at.
    let raw = [b"II*\0".to_vec(), vec![0; 2_000]].concat();
    let free = server.sign_up("free").await;
    let free_gallery = free.gallery("Free").await;
    for (actor, gallery) in [(&ada, &gallery), (&free, &free_gallery)] {
        for kind in ["image/tiff", "image/x-adobe-dng"] {
            let photo = upload(actor, gallery, raw.clone(), kind).await;
            let problem = analyze(actor, &photo)
                .await
                .problem(415, "unsupported_media_type");
            let detail = problem["detail"].as_str().expect("a text");
            assert!(
                detail.contains(kind) && detail.contains("JPEG, PNG and WebP"),
                "{detail}"
            );
        }
    }
    for (bytes, kind) in [
        (image::damaged_png(), "image/png"),
        (image::bomb(60_000, 60_000), "image/png"),
        (image::bomb(9_000, 9_000), "image/png"),
    ] {
        let photo = upload(&ada, &gallery, bytes, kind).await;
        let problem = analyze(&ada, &photo)
            .await
            .problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["field"], "photo");
        analysis(&ada, &photo).await.problem(404, "not_found");
    }
    let whole = coffee(&ada).await;
    let path = format!("/v1/photos/{whole}/analysis");
    let smuggled = json!({ "workspace_id": free.workspace_id });
    let smuggled = ada.post(&path, &smuggled).await;
    smuggled.problem(422, "validation_failed");
    analyze(&ada, &unknown_id("pho"))
        .await
        .problem(404, "not_found");
    assert_eq!(usage(&ada).await, (0, 0));
    assert!(
        ada.list_all("/v1/usage/events", 50)
            .await
            .iter()
            .all(|l| l["metric"] != "ai_analysis")
    );

    // A plan without analyses: a limit, not a feature.
    let photo = upload(&free, &free_gallery, image::COFFEE_JPEG, "image/jpeg").await;
    let problem = analyze(&free, &photo).await.problem(402, "quota_exceeded");
    assert_eq!(
        (&problem["limit"], &problem["plan"]),
        (&json!(0), &json!("free"))
    );
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_analyses_or_sees_a_foreign_photo() {
    let server = Server::shared();
    let ada = server.sign_up_on("ada", "professional").await;
    let eve = server.sign_up_on("eve", "professional").await;
    let photo = coffee(&ada).await;
    let _ = analyze(&ada, &photo).await.is(201);
    let unknown = unknown_id("pho");
    assert_eq!(
        analyze(&eve, &photo).await.essence(),
        analyze(&eve, &unknown).await.essence()
    );
    assert_eq!(
        analysis(&eve, &photo).await.essence(),
        analysis(&eve, &unknown).await.essence()
    );
    analysis(&eve, &photo).await.problem(404, "not_found");
    // The same picture in another workspace is nobody's near duplicate.
    let own = coffee(&eve).await;
    let made = analyze(&eve, &own).await.is(201).json();
    assert_eq!(made["near_duplicates"], json!([]));
    assert_eq!((usage(&ada).await, usage(&eve).await), ((1, 0), (1, 0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_key_neither_analyses_nor_consumes_again() {
    let server = Server::shared();
    let ada = server.sign_up_on("key", "professional").await;
    let photo = coffee(&ada).await;
    let path = format!("/v1/photos/{photo}/analysis");
    let keyed = || {
        ada.request(Method::POST, &path)
            .header("idempotency-key", "once")
    };
    let first = ada.send(keyed()).await.is(201);
    assert!(!first.headers.contains_key("idempotency-replayed"));
    let second = ada.send(keyed()).await.is(201);
    assert_eq!(second.header("idempotency-replayed"), "true");
    assert_eq!(second.body, first.body);
    assert_eq!(usage(&ada).await, (1, 0));
    // At once, too: one is done, the others wait or are told its answer.
    let at_once = join_all((0..8).map(|_| {
        let ada = ada.clone();
        let request = ada
            .request(Method::POST, &path)
            .header("idempotency-key", "race");
        async move { ada.send(request).await }
    }));
    let bodies: BTreeSet<_> = at_once
        .await
        .into_iter()
        .filter_map(|answer| match answer.status {
            201 => Some(answer.body),
            _ => {
                answer.problem(409, "idempotency_in_flight");
                None
            }
        })
        .collect();
    assert_eq!(bodies.len(), 1);
    assert_eq!(usage(&ada).await, (2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_period_begins_with_nothing_used() {
    let folder = tempfile::tempdir().expect("a directory");
    let clock = folder.path().join("clock");
    let set = |at: &str| fs::write(&clock, at).expect("failed to set the clock");
    set("2027-01-31T23:50:00Z");
    let path = clock.to_str().expect("the path is text");
    let server = Server::start_with(&[("RAWDRIVE_DEV", "1"), ("RAWDRIVE_DEV_CLOCK", path)]);
    let ada = server.sign_up("period").await;
    server.override_limit(&ada, "ai_analysis_monthly=1").await;
    let photo = coffee(&ada).await;
    let _ = analyze(&ada, &photo).await.is(201);
    let problem = analyze(&ada, &photo).await.problem(402, "quota_exceeded");
    assert_eq!(problem["resets_at"], "2027-02-01T00:00:00Z");

    set("2027-02-01T00:00:00Z");
    assert_eq!(usage(&ada).await, (0, 0));
    assert_eq!(
        ada.usage("ai_analysis").await["resets_at"],
        "2027-03-01T00:00:00Z"
    );
    let _ = analyze(&ada, &photo).await.is(201);
    analyze(&ada, &photo).await.problem(402, "quota_exceeded");
    assert_eq!(usage(&ada).await, (1, 0));
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_server_was_analysing_is_given_back() {
    let (url, asked) = endpoint(None).await;
    let server = with_endpoint(&url);
    let ada = server.sign_up_on("killed", "professional").await;
    let photo = coffee(&ada).await;
    let under_way: Vec<_> = (0..6)
        .map(|_| {
            let (ada, photo) = (ada.clone(), photo.clone());
            tokio::spawn(async move {
                let path = format!("/v1/photos/{photo}/analysis");
                ada.try_send(ada.request(Method::POST, &path))
                    .await
                    .is_err()
            })
        })
        .collect();
    until(60, "all six are under way", async || {
        asked.load(Ordering::SeqCst) == 6
    })
    .await;
    assert_eq!(usage(&ada).await, (0, 6));
    // Holds under way are in order, and their photos' bytes no leftovers.
    server.assert_healthy().await;
    server.kill9();
    for one in under_way {
        assert!(one.await.expect("no panic"), "an analysis was answered");
    }
    server.restart();
    server.assert_healthy().await;
    until(
        swept_within_seconds(),
        "what was held is given back",
        async || usage(&ada).await == (0, 0),
    )
    .await;
    analysis(&ada, &photo).await.problem(404, "not_found");
    // The photo is what it was.
    let content = ada
        .get(&format!("/v1/photos/{photo}/content"))
        .await
        .is(200);
    assert_eq!(content.body, image::COFFEE_JPEG);
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_queue_one_is_told_to_come_back_and_nothing_is_held() {
    const WAITING: usize = 64;
    const TOO_MANY: usize = 10;
    let (url, _) = endpoint(None).await;
    let server = with_endpoint(&url);
    let ada = server.sign_up_on("queue", "enterprise").await;
    let photo = coffee(&ada).await;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (send, mut answers) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..WAITING + cores + TOO_MANY {
        let (ada, photo, send) = (ada.clone(), photo.clone(), send.clone());
        // Those who are admitted wait until the server is gone.
        tokio::spawn(async move {
            let path = format!("/v1/photos/{photo}/analysis");
            if let Ok(answer) = ada.try_send(ada.request(Method::POST, &path)).await {
                let _ = send.send(answer);
            }
        });
    }
    for _ in 0..TOO_MANY {
        let refused = tokio::time::timeout(Duration::from_secs(60), answers.recv()).await;
        let refused = refused.expect("in time").expect("an answer");
        refused.problem(503, "dependency_unavailable");
        assert_eq!(refused.header("retry-after"), "5");
    }
    let admitted = u64::try_from(WAITING + cores).expect("a small number");
    until(30, "only the admitted hold a unit", async || {
        usage(&ada).await == (0, admitted)
    })
    .await;
    assert!(answers.try_recv().is_err(), "one too many was refused");
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_decoding_took_is_given_back_and_no_profile_is_unpacked() {
    // A server of its own: its memory is measured.
    let server = Server::start();
    let ada = server.sign_up_on("memory", "enterprise").await;
    let gallery = ada.gallery("Memory").await;
    let coffee = upload(&ada, &gallery, image::COFFEE_JPEG, "image/jpeg").await;
    let _ = analyze(&ada, &coffee).await.is(201);
    // Renditions are made beside: what they take is not what is left.
    let quiet = async || {
        let path = format!("/v1/galleries/{gallery}/photos");
        until(60, "all renditions are made", async || {
            let photos = ada.list_all(&path, 200).await;
            let is_pending = |photo: &Value| photo["renditions"]["status"] == "pending";
            !photos.iter().any(is_pending)
        })
        .await;
    };
    quiet().await;
    let before = server.memory_bytes("VmRSS");

    let flat = image::png_with_profile(400_000_000);
    let mut photos = Vec::new();
    for _ in 0..8 {
        photos.push(upload(&ada, &gallery, flat.clone(), "image/png").await);
    }
    server.reset_memory_peak();
    for answer in join_all(photos.iter().map(|photo| analyze(&ada, photo))).await {
        let _ = answer.is(201);
    }
    let grown = server.memory_bytes("VmHWM").saturating_sub(before) >> 20;
    assert!(grown < 100, "{grown} MiB for profiles of 400 MB");

    let progressive = image::progressive_jpeg(4_000, 3_000, 3);
    for _ in 0..2 {
        let mut photos = Vec::new();
        for _ in 0..4 {
            photos.push(upload(&ada, &gallery, progressive.clone(), "image/jpeg").await);
        }
        for answer in join_all(photos.iter().map(|photo| analyze(&ada, photo))).await {
            let _ = answer.is(201);
        }
    }
    quiet().await;
    let grown = server.memory_bytes("VmRSS").saturating_sub(before) >> 20;
    assert!(grown < 40, "{grown} MiB more after 8 analyses");
}
