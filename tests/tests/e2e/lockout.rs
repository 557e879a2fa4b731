//! Whoever tries too often is slowed down, and nobody else is: behind a proxy, behind one address for everybody, by
//! many connections.

use std::time::{Duration, Instant};

use e2e::{Actor, Answer, Server};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

const BEHIND_A_PROXY: &[(&str, &str)] = &[
    ("RAWDRIVE_RATE_LIMITS", "on"),
    ("RAWDRIVE_TRUSTED_PROXIES", "127.0.0.0/8"),
];

/// What a proxy sends that saw `client`.
async fn by_proxy(server: &Server, client: &str, path: &str, body: &Value) -> Answer {
    let api = server.anonymous();
    let request = api
        .request(Method::POST, path)
        .header("X-Forwarded-For", client);
    api.send(request.json(body)).await
}

async fn sign_in(server: &Server, client: &str, email: &str, password: &str) -> Answer {
    let body = json!({ "email": email, "password": password });
    by_proxy(server, client, "/v1/sessions", &body).await
}

fn sign_up_body(email: &str) -> Value {
    json!({ "email": email, "password": Actor::PASSWORD, "name": "Ana", "workspace_name": "Ana's" })
}

/// The parameters of one limit in a `RateLimit` or `RateLimit-Policy`.
fn limit(answer: &Answer, header: &str, name: &str) -> Vec<(String, u64)> {
    let item = answer
        .header(header)
        .split(", ")
        .find(|item| item.starts_with(&format!("\"{name}\";")));
    let item = item.unwrap_or_else(|| panic!("{header} does not speak of {name}: {answer:?}"));
    let parameters = item.split(';').skip(1).map(|parameter| {
        let (key, value) = parameter.split_once('=').expect("a parameter");
        (key.to_owned(), value.parse().expect("a whole number"))
    });
    parameters.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_behind_the_same_proxy_locks_nobody_out() {
    let server = Server::start_with(BEHIND_A_PROXY);
    let email = "ana@example.test";
    let home = "203.0.113.1";
    let up = by_proxy(&server, home, "/v1/signup", &sign_up_body(email))
        .await
        .is(201);
    assert_eq!(
        limit(&up, "ratelimit-policy", "sign-up"),
        [("q".to_owned(), 50), ("w".to_owned(), 3600)]
    );
    for left in (0..10).rev() {
        let wrong = sign_in(&server, "198.51.100.7", email, "a guess").await;
        wrong.problem(401, "unauthenticated");
        assert_eq!(
            limit(&wrong, "ratelimit", "sign-in")[0],
            ("r".to_owned(), left)
        );
        assert_eq!(
            limit(&wrong, "ratelimit-policy", "sign-in"),
            [("q".to_owned(), 10), ("w".to_owned(), 86_400)]
        );
    }
    // A header that the stranger writes makes them nobody else: the proxy appends whom it saw.
    for client in [
        "198.51.100.7",
        "1.2.3.4, 198.51.100.7",
        "203.0.113.1,198.51.100.7, 127.0.0.9",
    ] {
        let refused = sign_in(&server, client, email, Actor::PASSWORD).await;
        let problem = refused.problem(429, "rate_limited");
        assert_eq!(problem["code_mailed"], true);
        let seconds: u64 = refused.header("retry-after").parse().expect("seconds");
        assert!((1..=15).contains(&seconds), "{seconds}");
        assert_eq!(
            limit(&refused, "ratelimit", "sign-in"),
            [("r".to_owned(), 0), ("t".to_owned(), seconds)]
        );
    }
    for client in [home, "203.0.113.77", "2001:db8::1"] {
        let _ = sign_in(&server, client, email, Actor::PASSWORD)
            .await
            .is(201);
    }
    // Resets that others asked for use up nobody else's.
    for n in 0..8 {
        let body = json!({ "email": email });
        for _ in 0..5 {
            let client = format!("198.51.100.{n}");
            let _ = by_proxy(&server, &client, "/v1/password-resets", &body)
                .await
                .is(202);
        }
    }
    let body = json!({ "email": email });
    let asked = by_proxy(&server, home, "/v1/password-resets", &body)
        .await
        .is(202);
    assert_eq!(
        limit(&asked, "ratelimit", "mails-to-address")[0],
        ("r".to_owned(), 4)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_one_address_for_everybody_a_device_or_a_mailed_code_gets_in() {
    // No proxy is trusted: whatever it says, everybody is the proxy.
    let server = Server::start_with(&[("RAWDRIVE_RATE_LIMITS", "on")]);
    let email = "ana@example.test";
    let up = server
        .anonymous()
        .post("/v1/signup", &sign_up_body(email))
        .await
        .is(201)
        .json();
    let device = up["device_token"].as_str().expect("a device").to_owned();
    for n in 0..10 {
        let wrong = sign_in(&server, &format!("198.51.100.{n}"), email, "a guess").await;
        wrong.problem(401, "unauthenticated");
    }
    let attempt = async |password: &str, more: Value| {
        let mut body = json!({ "email": email, "password": password });
        body.as_object_mut()
            .expect("an object")
            .extend(more.as_object().cloned().expect("an object"));
        server.anonymous().post("/v1/sessions", &body).await
    };
    let none = json!({});
    let right = attempt(Actor::PASSWORD, none.clone()).await;
    let right = right.problem(429, "rate_limited");
    let wrong = attempt("a guess", none.clone())
        .await
        .problem(429, "rate_limited");
    assert_eq!(right, wrong, "the answer tells no password");
    let _ = attempt(Actor::PASSWORD, json!({ "device_token": device }))
        .await
        .is(201);

    let letters = server.letters_to(email, 1).await;
    assert_eq!(letters.len(), 1, "one code, however often: {letters:?}");
    let code = letters[0]
        .lines()
        .map(str::trim)
        .find(|line| line.len() == 14 && line.as_bytes()[4] == b'-' && line.as_bytes()[9] == b'-')
        .expect("the mail has a code")
        .to_owned();
    attempt("a guess", json!({ "code": code }))
        .await
        .problem(401, "unauthenticated");
    attempt(Actor::PASSWORD, json!({ "code": "0000-0000-0000" }))
        .await
        .problem(429, "rate_limited");
    let refused = attempt(Actor::PASSWORD, json!({ "code": "12" })).await;
    assert_eq!(
        refused.problem(422, "validation_failed")["errors"][0]["field"],
        "code"
    );
    let _ = attempt(Actor::PASSWORD, json!({ "code": code.to_lowercase() }))
        .await
        .is(201);
    let _ = attempt(Actor::PASSWORD, none).await.is(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_signs_up_an_office_and_not_two_hundred() {
    let server = Server::start_with(BEHIND_A_PROXY);
    let sign_up = async |client: &str, n: u32| {
        let body = sign_up_body(&format!("n{n}@example.test"));
        by_proxy(&server, client, "/v1/signup", &body).await
    };
    let mut answers = Vec::new();
    for n in (0..200).step_by(40) {
        answers.extend(join_all((n..n + 40).map(|n| sign_up("198.51.100.7", n))).await);
    }
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(made, 50);
    for refused in answers.iter().filter(|answer| answer.status != 201) {
        refused.problem(429, "rate_limited");
        let seconds: u64 = refused.header("retry-after").parse().expect("seconds");
        assert!((3_000..=3_600).contains(&seconds), "{seconds}");
        assert_eq!(
            limit(refused, "ratelimit", "sign-up")[0],
            ("r".to_owned(), 0)
        );
    }
    let _ = sign_up("198.51.100.8", 1_000).await.is(201);
    // One that cannot be made is not counted before it is found wrong, and costs no hash.
    let taken = by_proxy(
        &server,
        "198.51.100.9",
        "/v1/signup",
        &sign_up_body("N1@example.test"),
    )
    .await;
    taken.problem(409, "email_taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_tries_a_hundred_passwords_at_whatever_accounts_and_not_five_hundred() {
    let server = Server::start_with(BEHIND_A_PROXY);
    let email = "ana@example.test";
    let _ = by_proxy(&server, "203.0.113.1", "/v1/signup", &sign_up_body(email))
        .await
        .is(201);
    let spray = async |n: u32| {
        let nobody = format!("n{n}@example.test");
        sign_in(&server, "198.51.100.7", &nobody, "a guess").await
    };
    let mut answers = Vec::new();
    for n in (0..500).step_by(20) {
        answers.extend(join_all((n..n + 20).map(&spray)).await);
    }
    let tried = answers.iter().filter(|answer| answer.status == 401).count();
    assert_eq!(tried, 100);
    for refused in answers.iter().filter(|answer| answer.status != 401) {
        refused.problem(429, "rate_limited");
        assert_eq!(
            limit(refused, "ratelimit", "sign-in-network")[0],
            ("r".to_owned(), 0)
        );
    }
    let _ = sign_in(&server, "203.0.113.77", email, Actor::PASSWORD)
        .await
        .is(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_up_that_cannot_be_is_refused_before_its_password_is_hashed() {
    let server = Server::start();
    let ada = server.sign_up("hashed").await;
    let anonymous = server.anonymous();
    let median = async |path: &str, body: &Value, status: u16| {
        let mut times = Vec::new();
        for _ in 0..21 {
            let since = Instant::now();
            let _ = anonymous.post(path, body).await.is(status);
            times.push(since.elapsed());
        }
        times.sort();
        times[times.len() / 2]
    };
    let wrong = json!({ "email": ada.email, "password": "a guess" });
    let hashed = median("/v1/sessions", &wrong, 401).await;
    let mut nameless = sign_up_body("nameless@example.test");
    nameless["workspace_name"] = json!("");
    for (body, status) in [(sign_up_body(&ada.email), 409), (nameless, 422)] {
        let refused = median("/v1/signup", &body, status).await;
        assert!(refused < hashed / 2, "{refused:?}, and {hashed:?} to hash");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eighty_connections_of_one_client_keep_nobody_from_signing_in() {
    let server = Server::start_with(&[
        ("RAWDRIVE_RATE_LIMITS", "off"),
        ("RAWDRIVE_TRUSTED_PROXIES", "127.0.0.1"),
    ]);
    let email = server.sign_up("crowded").await.email.clone();
    let crowd = async {
        loop {
            let all = (0..80).map(async |n| {
                let nobody = format!("n{n}@example.test");
                sign_in(&server, "198.51.100.7", &nobody, "a guess").await
            });
            let answers = join_all(all).await;
            assert!(
                answers
                    .iter()
                    .all(|answer| [401, 503].contains(&answer.status))
            );
        }
    };
    let others = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        for n in 0..30 {
            let _ = sign_in(&server, &format!("203.0.113.{n}"), &email, Actor::PASSWORD)
                .await
                .is(201);
        }
    };
    tokio::select! {
        () = crowd => {}
        () = others => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_password_took_is_used_again() {
    let server = Server::start();
    let _ = server.sign_up("first").await;
    let before = server.memory_bytes("VmRSS");
    for _ in 0..8 {
        join_all((0..16).map(|_| server.sign_up("many"))).await;
    }
    let after = server.memory_bytes("VmRSS");
    let grown = after.saturating_sub(before) >> 20;
    // The second buffer of 19 MiB, and what a server warms up: 353 MiB once.
    assert!(grown < 80, "{grown} MiB more after 128 sign-ups");
}
