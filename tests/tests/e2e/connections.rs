//! What lies between the socket and the handlers, as strangers and slow clients meet it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use e2e::{Actor, Server, image};
use serde_json::{Value, json};

/// What is answered at once takes far less, on a loaded machine too; what was waited for took 20 s.
const AT_ONCE: Duration = Duration::from_secs(5);

fn connect(server: &Server) -> TcpStream {
    let address = server.url().replace("http://", "");
    let stream = TcpStream::connect(address).expect("the server listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a timeout can be set");
    stream
}

/// Sends, and reads what comes until the server closes or `enough` has come.
fn exchange(server: &Server, request: &str, enough: &str) -> String {
    let mut stream = connect(server);
    stream
        .write_all(request.as_bytes())
        .expect("the server takes the request");
    let mut answer = Vec::new();
    let mut piece = [0; 8192];
    while let Ok(read @ 1..) = stream.read(&mut piece) {
        answer.extend_from_slice(&piece[..read]);
        if !enough.is_empty() && String::from_utf8_lossy(&answer).contains(enough) {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// A client's link to a gallery with one photo of `size_bytes`; the path of the photo's bytes by it.
async fn shared_photo(server: &Server, owner: &Actor, size_bytes: usize) -> String {
    let gallery = owner.gallery("Shared").await;
    let photo = owner
        .upload(&gallery, image::jpeg(size_bytes, 7), "image/jpeg")
        .await
        .is(201)
        .text("id");
    let email = format!("client-of-{}", owner.email);
    let body = json!({ "name": "Client", "email": email });
    let client = owner.post("/v1/clients", &body).await.is(201).text("id");
    let body = json!({ "client_ids": [client] });
    let _ = owner
        .patch(&format!("/v1/galleries/{gallery}"), &body)
        .await
        .is(200);
    let _ = owner
        .post(&format!("/v1/clients/{client}/invite"), &json!({}))
        .await
        .succeeded();
    let token = server.mailed_token(&email, 1).await;
    format!("/v1/shared/{token}/photos/{photo}/content")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_is_not_held_back_for_an_acknowledgement() {
    let server = Server::start();
    let ada = server.sign_up("nagle").await;
    let gallery = ada.gallery("Nagle").await;
    let photo = ada
        .upload(&gallery, image::COFFEE_JPEG, "image/jpeg")
        .await
        .is(201)
        .text("id");
    let median = async |path: String| {
        let mut times = Vec::new();
        for _ in 0..31 {
            let since = Instant::now();
            let _ = ada.get(&path).await.is(200);
            times.push(since.elapsed());
        }
        times.sort();
        times[times.len() / 2]
    };
    let row = median(format!("/v1/photos/{photo}")).await;
    let bytes = median(format!("/v1/photos/{photo}/content")).await;
    // Forty milliseconds are what a delayed acknowledgement takes; reading the row is the same work in both.
    assert!(
        bytes < row * 4 + Duration::from_millis(20),
        "the bytes take {bytes:?}, the row {row:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_do_not_read_keep_nobody_out_and_the_servers_end_is_not_theirs_to_choose() {
    const STALLED: usize = 400;
    let server = Server::start();
    let ada = server.sign_up("stalled").await;
    let path = shared_photo(&server, &ada, 8_000_000).await;
    let mut stalled = Vec::new();
    for n in 0..STALLED {
        let mut stream = connect(&server);
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it is taken");
        // The first of them get their photo's beginning, and leave the rest of it there.
        let mut start = [0; 12];
        stream.read_exact(&mut start).expect("it is answered");
        let refused = &start == b"HTTP/1.1 503";
        assert_eq!(
            refused,
            n >= 256,
            "one link has 256 downloads at a time: {n}"
        );
        stalled.push(stream);
    }
    let mut times = Vec::new();
    for _ in 0..21 {
        // A client and a connection of its own each time.
        let client = server.bearer(&ada.token);
        let since = Instant::now();
        let _ = client.get("/v1/me").await.is(200);
        times.push(since.elapsed());
    }
    times.sort();
    assert!(times[10] < Duration::from_secs(1), "{times:?}");
    let since = Instant::now();
    let pid = server.pid().to_string();
    let ended = std::process::Command::new("sh")
        .args([
            "-c",
            "kill -TERM $0; while [ -e /proc/$0 ] && ! grep -q '^State:.Z' /proc/$0/status; do sleep 0.1; done",
        ])
        .arg(&pid)
        .status()
        .expect("the signal is sent");
    assert!(ended.success());
    assert!(
        since.elapsed() < Duration::from_secs(20),
        "{:?}",
        since.elapsed()
    );
    drop(stalled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_takes_nothing_for_a_minute_is_cut_and_a_slow_one_is_not() {
    // More than the system's buffers on both sides hold.
    const SIZE: usize = 24_000_000;
    let server = Server::start();
    let ada = server.sign_up("paced").await;
    let path = shared_photo(&server, &ada, SIZE).await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    let mut stalled: Vec<_> = (0..30)
        .map(|n| {
            let mut stream = connect(&server);
            stream.write_all(request.as_bytes()).expect("it is taken");
            // Some take a good part first: what was taken before is no pace.
            let mut start = vec![0; if n % 2 == 0 { 12 } else { 2_000_000 }];
            stream.read_exact(&mut start).expect("it is answered");
            stream
        })
        .collect();
    let mut slow = connect(&server);
    slow.write_all(request.as_bytes()).expect("it is taken");
    let slow = tokio::task::spawn_blocking(move || {
        let mut piece = vec![0; 20_000];
        for _ in 0..62 {
            slow.read_exact(&mut piece).expect("it is still served");
            std::thread::sleep(Duration::from_secs(1));
        }
        let mut taken = 62 * piece.len();
        while let Ok(read @ 1..) = slow.read(&mut piece) {
            taken += read;
        }
        taken
    });
    let taken = slow.await.expect("no panic");
    assert!(taken > SIZE, "the slow one has the whole photo: {taken}");
    for stream in &mut stalled {
        let mut piece = vec![0; 100_000];
        let mut taken = 0;
        while let Ok(read @ 1..) = stream.read(&mut piece) {
            taken += read;
        }
        assert!(
            taken < SIZE - 2_000_000,
            "it was cut: {taken} bytes came after all"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_uplink_that_moves_gets_through_and_a_byte_a_second_does_not() {
    const PIECE: usize = 3 * 1024;
    const SECONDS: usize = 22;
    let server = Server::shared();
    let ada = server.sign_up("uplink").await;
    let gallery = ada.gallery("Uplink").await;
    let head = format!(
        "POST /v1/galleries/{gallery}/photos?filename=x.jpg HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\
         Authorization: Bearer {}\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
        ada.token,
        PIECE * SECONDS
    );
    let photo = image::jpeg(PIECE * SECONDS, 5);
    let open = || {
        let mut stream = connect(server);
        stream.write_all(head.as_bytes()).expect("it is taken");
        stream
    };
    let (mut phone, mut dripping, drops) = (open(), open(), photo.clone());
    let phone = tokio::task::spawn_blocking(move || {
        for piece in photo.chunks(PIECE) {
            std::thread::sleep(Duration::from_secs(1));
            if phone.write_all(piece).is_err() {
                break;
            }
        }
        let mut answer = Vec::new();
        let _ = phone.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    });
    let dripping = tokio::task::spawn_blocking(move || {
        let since = Instant::now();
        dripping
            .set_read_timeout(Some(Duration::from_secs(1)))
            .expect("a timeout can be set");
        for drop in drops.chunks(1) {
            // An answer or the end: nothing comes before.
            let mut start = [0; 12];
            if dripping.write_all(drop).is_err() || dripping.read(&mut start).is_ok() {
                break;
            }
        }
        since.elapsed()
    });
    let answer = phone.await.expect("no panic");
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    let held = dripping.await.expect("no panic");
    assert!(held < Duration::from_secs(32), "{held:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_all_answered_in_order() {
    let server = Server::shared();
    let one = "GET /livez HTTP/1.1\r\nHost: t\r\n\r\n";
    let head = "HEAD /livez HTTP/1.1\r\nHost: t\r\n\r\n";
    let missing = "HEAD /nowhere HTTP/1.1\r\nHost: t\r\n\r\n";
    let post = "POST /v1/libraries HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n{}";
    let last = "GET /livez HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
    let answer = exchange(
        server,
        &[one, head, missing, post, head, one, last].concat(),
        "",
    );
    let statuses: Vec<_> = answer
        .match_indices("HTTP/1.1 ")
        .map(|(at, _)| &answer[at + 9..at + 12])
        .collect();
    assert_eq!(
        statuses,
        ["200", "200", "404", "401", "200", "200", "200"],
        "{answer}"
    );
    assert_eq!(answer.matches("{\"status\":\"ok\"}").count(), 3, "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_refused_is_answered_at_once_although_a_body_is_expected() {
    let server = Server::shared();
    let ada = server.sign_up("expects").await;
    let gallery = ada.gallery("Expects").await;
    let token = &ada.token;
    let photos = format!("/v1/galleries/{gallery}/photos?filename=x.jpg");
    let authorization = format!("Authorization: Bearer {token}\r\n");
    let elsewhere = format!(
        "/v1/galleries/{}/photos?filename=x.jpg",
        e2e::unknown_id("gal")
    );
    let image = format!("{authorization}Content-Type: image/jpeg\r\n");
    let full = server.sign_up("expects-full").await;
    server.override_limit(&full, "storage_bytes=10").await;
    let full_gallery = full.gallery("Full").await;
    let full_photos = format!("/v1/galleries/{full_gallery}/photos?filename=x.jpg");
    let full_image = format!(
        "Authorization: Bearer {}\r\nContent-Type: image/jpeg\r\n",
        full.token
    );
    let since = Instant::now();
    for (path, fields, status) in [
        (photos.as_str(), "Content-Type: image/jpeg\r\n", 401),
        (elsewhere.as_str(), image.as_str(), 404),
        (full_photos.as_str(), full_image.as_str(), 402),
        ("/v1/libraries", "Content-Type: application/json\r\n", 401),
        (
            photos.as_str(),
            &format!("{authorization}Content-Type: text/plain\r\n"),
            415,
        ),
        (
            "/v1/libraries",
            &format!("{authorization}Content-Type: text/plain\r\n"),
            415,
        ),
        (
            "/v1/nowhere",
            &format!("{authorization}Content-Type: application/json\r\n"),
            404,
        ),
        (
            "/v1/me",
            &format!("{authorization}Content-Type: application/json\r\n"),
            405,
        ),
    ] {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: t\r\n{fields}Content-Length: 5000\r\nExpect: 100-continue\r\n\r\n"
        );
        let answer = exchange(server, &request, "");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{path} {fields}: {answer}"
        );
        assert!(answer.contains("connection: close"), "{answer}");
    }
    let request = format!(
        "POST /v1/libraries HTTP/1.1\r\nHost: t\r\n{authorization}Content-Type: application/json\r\n\
         Content-Length: 50000000\r\nExpect: 100-continue\r\n\r\n"
    );
    let answer = exchange(server, &request, "");
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(since.elapsed() < AT_ONCE * 2, "{:?}", since.elapsed());

    // What is accepted is asked for.
    let body = image::jpeg(5_000, 3);
    let mut stream = connect(server);
    let request = format!(
        "POST {photos} HTTP/1.1\r\nHost: t\r\n{authorization}Content-Type: image/jpeg\r\nContent-Length: 5000\r\n\
         Expect: 100-continue\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("it is taken");
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).expect("it is answered");
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(&body).expect("the body is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it is answered");
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_a_problem_with_an_id() {
    let server = Server::shared();
    let since = Instant::now();
    let too_many = format!(
        "GET /livez HTTP/1.1\r\nHost: t\r\n{}\r\n",
        "x: y\r\n".repeat(200)
    );
    for (request, status) in [
        ("GET /livez HTTP/1.1\r\n\r\n", 400),
        (too_many.as_str(), 431),
        (
            "POST /v1/signup HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
            400,
        ),
        (
            "POST /v1/signup HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
            400,
        ),
        (
            "POST /v1/signup HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            400,
        ),
        (
            "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n",
            405,
        ),
        (
            "GET example.com:443 HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n",
            404,
        ),
    ] {
        let answer = exchange(server, request, "");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {answer}"
        );
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.contains("x-request-id: "), "{head}");
        assert!(
            head.contains("content-type: application/problem+json"),
            "{head}"
        );
        let problem: Value = serde_json::from_str(body).expect("a problem");
        assert_eq!(problem["status"], status, "{problem}");
    }
    let upgrade =
        "GET /livez HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let answer = exchange(server, upgrade, "");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let server_wide = "OPTIONS * HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
    let answer = exchange(server, server_wide, "");
    assert!(
        answer.starts_with("HTTP/1.1 204 ") && answer.contains("allow: "),
        "{answer}"
    );
    assert!(since.elapsed() < AT_ONCE * 2, "{:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_says_what_it_may_load() {
    let server = Server::shared();
    let anonymous = server.anonymous();
    for path in [
        "/docs",
        "/docs/",
        "/docs/swagger-initializer.js",
        "/problems/not_found",
        "/settings/billing/upgrade",
        "/invitations/accept",
        "/shared",
        "/password-reset",
        "/email-verification",
    ] {
        let page = anonymous.get(path).await.is(200);
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
        assert!(
            policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
        // An inline script runs by its hash alone.
        assert!(
            !policy.contains("script-src 'unsafe-inline'"),
            "{path}: {policy}"
        );
    }
    let document = anonymous.get("/openapi.json").await.is(200).json();
    assert!(document["paths"]["/v1/signup"].is_object());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_deletes_and_who_restores_a_gallery_follow_each_other() {
    let server = Server::shared();
    let ada = server.sign_up("follow").await;
    let gallery = ada.gallery("Follow").await;
    let path = format!("/v1/galleries/{gallery}");
    let restore = format!("{path}/restore");
    for round in 0..8 {
        let each = (0..8).map(|n| {
            let (ada, path, restore) = (ada.clone(), path.clone(), restore.clone());
            async move {
                match n % 4 {
                    0 => ada.delete(&path).await,
                    1 | 2 => ada.post(&restore, &json!({})).await,
                    _ => {
                        ada.patch(&path, &json!({ "name": format!("Follow {n}") }))
                            .await
                    }
                }
            }
        });
        let answers = futures_util::future::join_all(each).await;
        for answer in answers {
            assert!(
                // Deleted meanwhile, and so not there to be deleted or named again.
                [200, 204, 404].contains(&answer.status),
                "round {round}: {answer:?}"
            );
        }
        let _ = ada.post(&restore, &json!({})).await.is(200);
        let _ = ada.get(&path).await.is(200);
    }
}
