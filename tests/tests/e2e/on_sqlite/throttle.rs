//! Rate limits of requests: by credential and by address, together with other servers.

use e2e::{Api, Redis, Server};
use reqwest::Method;
use serde_json::json;

const FEW: &str = "read=5/3600,write=4/3600,public=6/3600,unproven=3/3600";

/// How many reads are admitted before one is refused, which says when to come again.
async fn admitted(api: &Api, path: &str) -> usize {
    for n in 0..30 {
        let answer = api.get(path).await;
        assert!(answer.headers.contains_key("ratelimit"), "{answer:?}");
        if answer.status == 429 {
            answer.problem(429, "rate_limited");
            let wait: u64 = answer.header("retry-after").parse().expect("seconds");
            assert!((1..=3600).contains(&wait), "{wait}");
            return n;
        }
    }
    panic!("nothing was refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_too_often_waits_and_nobody_else_does() {
    let server = Server::start_with(&[("RAWDRIVE_RATE_LIMITS", FEW)]);
    let (ada, eve) = (server.sign_up("ada").await, server.sign_up("eve").await);
    let shown = ada.get("/v1/usage").await.is(200);
    assert_eq!(shown.header("ratelimit-policy"), "\"read\";q=5;w=3600");
    assert!(
        shown.header("ratelimit").starts_with("\"read\";r=4;t="),
        "{shown:?}"
    );
    assert_eq!(admitted(&ada, "/v1/usage").await, 4);
    // Another kind of request, another client, and another credential of the same address.
    let _ = ada.library("A change").await;
    let _ = eve.get("/v1/usage").await.is(200);
    let _ = server.anonymous().get("/v1/plans").await.is(200);
    // A supervisor is always answered.
    for _ in 0..10 {
        let _ = server.anonymous().get("/livez").await.is(200);
    }
    assert!(admitted(&server.anonymous(), "/v1/plans").await < 6);
    // Who looks at a page is told on one.
    let page = server
        .anonymous()
        .request(Method::GET, "/settings/billing/upgrade");
    let page = page.header("accept", "text/html,*/*;q=0.8");
    let page = server.anonymous().send(page).await.is(429);
    assert!(
        page.header("content-type").starts_with("text/html"),
        "{page:?}"
    );
    assert!(page.headers.contains_key("retry-after"), "{page:?}");
    let _ = eve.get("/v1/usage").await.is(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_count_against_who_sends_them_and_not_against_a_key() {
    let server = Server::start_with(&[("RAWDRIVE_RATE_LIMITS", FEW)]);
    let ada = server.sign_up("ada").await;
    let body = json!({ "name": "Key", "role": "member" });
    let key = ada.post("/v1/api-keys", &body).await.is(201).text("secret");
    let program = server.bearer(&key);
    let _ = program.get("/v1/usage").await.is(200);
    // The key's name with a wrong secret.
    let end = if key.ends_with('A') { "B" } else { "A" };
    let wrong = server.bearer(&format!("{}{end}", &key[..key.len() - 1]));
    let mut refused = 0;
    for _ in 0..10 {
        let answer = wrong.get("/v1/usage").await;
        assert!([401, 429].contains(&answer.status), "{answer:?}");
        refused += usize::from(answer.status == 429);
    }
    assert!(refused >= 7, "{refused}");
    // Who was proved before is served all the same, from the same address.
    let _ = program.get("/v1/usage").await.is(200);
    let _ = ada.get("/v1/usage").await.is(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_behind_a_trusted_proxy_are_told_apart() {
    let settings = [
        ("RAWDRIVE_RATE_LIMITS", FEW),
        ("RAWDRIVE_TRUSTED_PROXIES", "127.0.0.1"),
    ];
    let server = Server::start_with(&settings);
    let api = server.anonymous();
    let ask = async |client: &str| {
        let request = api
            .request(Method::GET, "/v1/plans")
            .header("x-forwarded-for", client);
        api.send(request).await.status
    };
    for client in ["198.51.100.1", "198.51.100.2", "2001:db8::1"] {
        for _ in 0..6 {
            assert_eq!(ask(client).await, 200, "{client}");
        }
        assert_eq!(ask(client).await, 429, "{client}");
    }
    // Of IPv6 a subscriber has a /64.
    assert_eq!(ask("2001:db8::ffff").await, 429);
    assert_eq!(ask("2001:db8:0:1::1").await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_one_redis_count_together_and_alone_while_it_is_away() {
    let redis = Redis::start();
    let url = redis.url();
    // One installation: a token of one server is one of the other.
    let settings = [
        ("RAWDRIVE_RATE_LIMITS", "read=8/3600"),
        ("RAWDRIVE_PUBLIC_URL", "https://together.example"),
        ("REDIS_URL", url.as_str()),
    ];
    let first = Server::start_with(&settings);
    let blobs = format!("file://{}", first.data_dir().join("blobs").display());
    let beside = [
        settings[0],
        settings[1],
        settings[2],
        ("BLOB_URL", blobs.as_str()),
    ];
    let second = Server::start_beside(&first, &beside).expect("a second server starts");
    let ada = first.sign_up("together").await;
    let elsewhere = second.bearer(&ada.token);
    for _ in 0..4 {
        let _ = ada.get("/v1/usage").await.is(200);
        let _ = elsewhere.get("/v1/usage").await.is(200);
    }
    ada.get("/v1/usage").await.problem(429, "rate_limited");
    elsewhere
        .get("/v1/usage")
        .await
        .problem(429, "rate_limited");
    // Away: served, by each server's own count, and told in the log.
    redis.kill9();
    assert_eq!(admitted(&ada, "/v1/usage").await, 8);
    assert_eq!(admitted(&elsewhere, "/v1/usage").await, 8);
    assert!(
        first.log().contains("counts rate limits by itself"),
        "{}",
        first.log()
    );
    // Back, and empty: together again.
    redis.run();
    let since = std::time::Instant::now();
    loop {
        let answer = ada.get("/v1/usage").await;
        if answer.status == 200 {
            break;
        }
        assert!(
            since.elapsed().as_secs() < 20,
            "it is not used again: {answer:?}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let left: usize = admitted(&ada, "/v1/usage").await;
    assert!(left <= 7, "{left}");
    elsewhere
        .get("/v1/usage")
        .await
        .problem(429, "rate_limited");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn installations_that_share_a_redis_count_apart() {
    let redis = Redis::start();
    let settings = [
        ("RAWDRIVE_RATE_LIMITS", "public=5/3600"),
        ("REDIS_URL", &redis.url()),
    ];
    let (one, other) = (Server::start_with(&settings), Server::start_with(&settings));
    assert_eq!(admitted(&one.anonymous(), "/v1/plans").await, 5);
    assert_eq!(admitted(&other.anonymous(), "/v1/plans").await, 5);
}
