//! Mailed proofs: a new password, a verified address, and the mail server that carries them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use e2e::{Actor, Answer, Server};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::credentials::Clocked;

const NEW_PASSWORD: &str = "an entirely new password";

async fn ask(server: &Server, what: &str, email: &str) -> Answer {
    let body = json!({ "email": email });
    server.anonymous().post(&format!("/v1/{what}"), &body).await
}

async fn reset(server: &Server, token: &str, password: &str) -> Answer {
    let body = json!({ "token": token, "password": password });
    server
        .anonymous()
        .post("/v1/password-resets/complete", &body)
        .await
}

async fn verify(server: &Server, token: &str) -> Answer {
    let body = json!({ "token": token });
    server
        .anonymous()
        .post("/v1/email-verifications/complete", &body)
        .await
}

async fn sign_in(server: &Server, email: &str, password: &str) -> Answer {
    let body = json!({ "email": email, "password": password });
    server.anonymous().post("/v1/sessions", &body).await
}

/// The tokens of the links to `page` that were mailed to an address: waits until there are `at_least`. Mails of
/// other kinds may be there first.
async fn mailed(server: &Server, page: &str, email: &str, at_least: usize) -> Vec<String> {
    let start = format!("{}/{page}?token=", server.url());
    let mut mails = Vec::new();
    for _ in 0..100 {
        mails = server.letters_to(email, 0).await;
        let tokens = mails.iter().filter_map(|mail| token_in(mail, &start));
        let tokens: BTreeSet<_> = tokens.collect();
        if tokens.len() >= at_least {
            return tokens.into_iter().collect();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{email} did not get {at_least} links to {page} within 10 s: {mails:#?}")
}

fn token_in(mail: &str, start: &str) -> Option<String> {
    mail.lines()
        .find_map(|line| line.strip_prefix(start))
        .map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mailed_link_sets_a_new_password_once_and_ends_every_session() {
    let server = Server::start();
    let ada = server.sign_up("forgetful").await;
    let other = sign_in(&server, &ada.email, Actor::PASSWORD).await.is(201);
    let other = server.bearer(&other.text("access_token"));
    assert_eq!(
        ada.get("/v1/me").await.is(200).json()["user"]["email_verified"],
        false
    );

    let known = ask(&server, "password-resets", &ada.email.to_uppercase())
        .await
        .is(202);
    let unknown = ask(&server, "password-resets", "nobody-at-all@example.test").await;
    assert_eq!(known.essence(), unknown.essence());
    let first = mailed(&server, "password-reset", &ada.email, 1)
        .await
        .remove(0);
    let _ = ask(&server, "password-resets", &ada.email).await.is(202);
    let mut both = mailed(&server, "password-reset", &ada.email, 2).await;
    both.retain(|token| *token != first);
    let second = both.remove(0);
    assert!(
        server
            .letters_to("nobody-at-all@example.test", 0)
            .await
            .is_empty()
    );

    // A refused password spends nothing.
    let refused = reset(&server, &first, "short")
        .await
        .problem(422, "validation_failed");
    assert_eq!(refused["errors"][0]["field"], "password");
    let _ = reset(&server, &first, NEW_PASSWORD).await.is(204);
    for spent in [&first, &second] {
        reset(&server, spent, "yet another password")
            .await
            .problem(404, "not_found");
    }
    for session in [&*ada, &other] {
        session.get("/v1/me").await.problem(401, "unauthenticated");
    }
    let body = json!({ "refresh_token": ada.refresh });
    let refreshed = server.anonymous().post("/v1/sessions/refresh", &body).await;
    refreshed.problem(401, "unauthenticated");
    sign_in(&server, &ada.email, Actor::PASSWORD)
        .await
        .problem(401, "unauthenticated");
    let back = sign_in(&server, &ada.email, NEW_PASSWORD)
        .await
        .is(201)
        .json();
    assert_eq!(
        back["user"]["email_verified"], true,
        "the mail was read: {back}"
    );

    let log = server.log();
    for token in [&first, &second] {
        let secret = token.rsplit('_').next().expect("a token has parts");
        assert!(!log.contains(secret), "the log holds a token");
        // The mail itself is its one place; the database has a keyed hash.
        for path in server.all_files() {
            if path.extension().is_none_or(|end| end != "eml") {
                let bytes = std::fs::read(&path).unwrap_or_default();
                let found = bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
                assert!(!found, "{} holds a token", path.display());
            }
        }
    }
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_to_a_new_password_works_for_an_hour() {
    let clocked = Clocked::start("2026-03-01T10:00:00Z", &[]);
    let server = &clocked.server;
    let ada = server.sign_up("late").await;
    let eve = server.sign_up("early").await;
    for actor in [&ada, &eve] {
        let _ = ask(server, "password-resets", &actor.email).await.is(202);
    }
    let late = mailed(server, "password-reset", &ada.email, 1)
        .await
        .remove(0);
    let early = mailed(server, "password-reset", &eve.email, 1)
        .await
        .remove(0);
    clocked.set("2026-03-01T10:59:59Z");
    let _ = reset(server, &early, NEW_PASSWORD).await.is(204);
    clocked.set("2026-03-01T11:00:00Z");
    reset(server, &late, NEW_PASSWORD)
        .await
        .problem(404, "not_found");
    let _ = sign_in(server, &ada.email, Actor::PASSWORD).await.is(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_without_a_workspace_gets_a_new_password_too() {
    let server = Server::shared();
    let ada = server.sign_up_on("owner", "professional").await;
    let bob = server.join(&ada, "bob", "member").await;
    let path = format!("/v1/workspace/members/{}", bob.user_id);
    let _ = ada.delete(&path).await.is(204);
    let _ = ask(server, "password-resets", &bob.email).await.is(202);
    // The first mail was the invitation.
    let _ = server.letters_to(&bob.email, 2).await;
    let token = mailed(server, "password-reset", &bob.email, 1)
        .await
        .remove(0);
    let _ = reset(server, &token, NEW_PASSWORD).await.is(204);
    let old = sign_in(server, &bob.email, Actor::PASSWORD).await;
    old.problem(401, "unauthenticated");
    let new = sign_in(server, &bob.email, NEW_PASSWORD).await;
    new.problem(403, "workspace_inactive");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_use_a_link_at_once_one_succeeds() {
    let server = Server::shared();
    let ada = server.sign_up("raced").await;
    let _ = ask(server, "password-resets", &ada.email).await.is(202);
    let token = mailed(server, "password-reset", &ada.email, 1)
        .await
        .remove(0);
    let attempt = async |n: u32| {
        let password = format!("password number {n}");
        (reset(server, &token, &password).await.status, password)
    };
    let outcomes = tokio::join!(attempt(1), attempt(2), attempt(3), attempt(4));
    let outcomes = [outcomes.0, outcomes.1, outcomes.2, outcomes.3];
    let won: Vec<_> = outcomes
        .iter()
        .filter(|(status, _)| *status == 204)
        .collect();
    assert_eq!(won.len(), 1, "{outcomes:?}");
    assert!(
        outcomes
            .iter()
            .all(|(status, _)| [204, 404].contains(status)),
        "{outcomes:?}"
    );
    let _ = sign_in(server, &ada.email, &won[0].1).await.is(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_was_changed_ends_the_open_links() {
    let server = Server::shared();
    let ada = server.sign_up("changed").await;
    let _ = ask(server, "password-resets", &ada.email).await.is(202);
    let token = mailed(server, "password-reset", &ada.email, 1)
        .await
        .remove(0);
    let change = json!({ "password": NEW_PASSWORD, "current_password": Actor::PASSWORD });
    let _ = ada.patch("/v1/me", &change).await.is(200);
    reset(server, &token, "yet another password")
        .await
        .problem(404, "not_found");
    let _ = sign_in(server, &ada.email, NEW_PASSWORD).await.is(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_mutated_proof_is_accepted() {
    let server = Server::shared();
    let (ada, eve) = (server.sign_up("ada").await, server.sign_up("eve").await);
    for actor in [&ada, &eve] {
        let _ = ask(server, "password-resets", &actor.email).await.is(202);
        let _ = ask(server, "email-verifications", &actor.email)
            .await
            .is(202);
    }
    let adas = mailed(server, "password-reset", &ada.email, 1)
        .await
        .remove(0);
    let eves = mailed(server, "password-reset", &eve.email, 1)
        .await
        .remove(0);
    let verification = mailed(server, "email-verification", &ada.email, 1)
        .await
        .remove(0);
    let parts: Vec<&str> = adas.split('_').collect();
    let [rdp, user, id, secret] = parts[..] else {
        panic!("a token has four parts: {adas}")
    };
    let eves: Vec<&str> = eves.split('_').collect();
    let expected = reset(server, "nonsense", NEW_PASSWORD).await;
    expected.problem(404, "not_found");
    let mutated = [
        String::new(),
        format!("{rdp}_{}_{id}_{secret}", eves[1]),
        format!("{rdp}_{user}_{}_{secret}", eves[2]),
        format!("{rdp}_{user}_{id}_{}", eves[3]),
        format!("{rdp}_{}_{}_{secret}", eves[1], eves[2]),
        format!("{rdp}_{}_{id}_{}", eves[1], eves[3]),
        format!("{rdp}_{user}_{id}_{}", secret.to_lowercase()),
        format!("{rdp}_{user}_{id}_{}", &secret[1..]),
        format!("{rdp}_{user}_{id}_{secret}0"),
        format!("{rdp}_usr_{user}_{id}_{secret}"),
        adas.to_uppercase(),
        adas.replacen("rdp", "rdv", 1),
        adas.replacen("rdp", "rd", 1),
        verification.clone(),
        verification.replacen("rdv", "rdp", 1),
        ada.refresh.clone(),
        ada.token.clone(),
    ];
    for token in &mutated {
        let answer = reset(server, token, NEW_PASSWORD).await;
        assert_eq!(answer.essence(), expected.essence(), "{token:?}");
    }
    for token in [
        adas.clone(),
        adas.replacen("rdp", "rdv", 1),
        "nonsense".to_owned(),
    ] {
        let answer = verify(server, &token).await;
        assert_eq!(answer.essence(), expected.essence(), "{token:?}");
    }
    for (body, field) in [
        (json!({ "token": 1, "password": NEW_PASSWORD }), "token"),
        (json!({ "password": NEW_PASSWORD }), "token"),
        (json!({ "token": adas }), "password"),
        (
            json!({ "token": adas, "password": "a\u{0}b long enough" }),
            "password",
        ),
        (
            json!({ "token": adas, "password": NEW_PASSWORD, "user_id": "usr_1" }),
            "user_id",
        ),
    ] {
        let answer = server
            .anonymous()
            .post("/v1/password-resets/complete", &body)
            .await;
        let problem = answer.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    let _ = reset(server, &adas, NEW_PASSWORD).await.is(204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_verified_by_its_mail() {
    let server = Server::shared();
    let ada = server.sign_up("verified").await;
    let verified =
        async || ada.get("/v1/me").await.is(200).json()["user"]["email_verified"].clone();
    assert_eq!(verified().await, false);
    assert!(
        server.letters_to(&ada.email, 0).await.is_empty(),
        "nothing is mailed unasked"
    );
    let known = ask(server, "email-verifications", &ada.email).await.is(202);
    let unknown = ask(server, "email-verifications", "nobody@example.test").await;
    assert_eq!(known.essence(), unknown.essence());
    let token = mailed(server, "email-verification", &ada.email, 1)
        .await
        .remove(0);
    let _ = verify(server, &token).await.is(204);
    assert_eq!(verified().await, true, "and the session goes on");
    verify(server, &token).await.problem(404, "not_found");
    // Who is verified is not written to again, and is answered the same.
    let again = ask(server, "email-verifications", &ada.email).await;
    assert_eq!(known.essence(), again.essence());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.letters_to(&ada.email, 1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mails_are_few_whether_the_address_is_known_or_not() {
    let server = Server::start_with(&[("RAWDRIVE_RATE_LIMITS", "on")]);
    let ada = server.sign_up("bothered").await;
    let mut refusals = Vec::new();
    for email in [ada.email.as_str(), "nobody@example.test"] {
        for _ in 0..5 {
            let _ = ask(&server, "password-resets", email).await.is(202);
        }
        let refused = ask(&server, "password-resets", email).await;
        refused.problem(429, "rate_limited");
        let seconds: u64 = refused.header("retry-after").parse().expect("seconds");
        assert!((3_000..=3_600).contains(&seconds), "{seconds}");
        refusals.push(refused.body);
        // Another purpose is another count.
        let _ = ask(&server, "email-verifications", email).await.is(202);
    }
    assert_eq!(refusals[0], refusals[1]);
    for n in 0..20 {
        let _ = ask(&server, "password-resets", &format!("n{n}@example.test"))
            .await
            .is(202);
    }
    // 30 by one client, whatever the addresses.
    ask(&server, "password-resets", "n20@example.test")
        .await
        .problem(429, "rate_limited");
    assert_eq!(
        mailed(&server, "password-reset", &ada.email, 5).await.len(),
        5
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_of_mailed_links_are_the_same_for_every_token() {
    let server = Server::shared();
    for (path, action) in [
        ("/password-reset", "v1/password-resets/complete"),
        ("/email-verification", "v1/email-verifications/complete"),
    ] {
        let anonymous = server.anonymous();
        let bare = anonymous.get(path).await.is(200);
        let evil = "?token=%22%3E%3Cscript%3Ealert(1)%3C/script%3E";
        let page = anonymous.get(&format!("{path}{evil}")).await.is(200);
        assert_eq!(page.essence(), bare.essence());
        let text = String::from_utf8_lossy(&page.body).into_owned();
        assert!(text.contains(action), "{text}");
        assert_eq!(page.header("cache-control"), "no-store");
        assert_eq!(page.header("referrer-policy"), "no-referrer");
        // The one script of the page is the one that the policy lets run.
        let (_, script) = text.split_once("<script>").expect("the page has a script");
        let (script, _) = script.split_once("</script>").expect("the script ends");
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, script.as_bytes());
        let hash = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, digest);
        let policy = page.header("content-security-policy");
        assert!(
            policy.contains(&format!("script-src 'sha256-{hash}'")),
            "{policy}"
        );
        let request = anonymous.request(Method::POST, path);
        anonymous
            .send(request)
            .await
            .problem(405, "method_not_allowed");
    }
}

/// A mail server that puts the first mail off and takes the others.
async fn reluctant() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("failed to listen");
    let address = listener.local_addr().expect("an address").to_string();
    let mails = Arc::new(Mutex::new(Vec::new()));
    let kept = mails.clone();
    tokio::spawn(async move {
        let mut refusals = 1;
        while let Ok((stream, _)) = listener.accept().await {
            let (reader, mut writer) = stream.into_split();
            let mut lines = BufReader::new(reader).lines();
            let _ = writer.write_all(b"220 reluctant\r\n").await;
            let mut data: Option<String> = None;
            while let Ok(Some(line)) = lines.next_line().await {
                let answer = match (&mut data, line.as_str()) {
                    (Some(mail), ".") => {
                        kept.lock().expect("no panic").push(std::mem::take(mail));
                        data = None;
                        "250 kept"
                    }
                    (Some(mail), line) => {
                        mail.push_str(line);
                        mail.push('\n');
                        continue;
                    }
                    (None, "DATA") if refusals > 0 => {
                        refusals -= 1;
                        "451 come again"
                    }
                    (None, "DATA") => {
                        data = Some(String::new());
                        "354 go on"
                    }
                    (None, line) if line.starts_with("EHLO") => "250-reluctant\r\n250 AUTH PLAIN",
                    (None, line) if line.starts_with("AUTH") => "235 welcome",
                    (None, "QUIT") => "221 bye",
                    (None, _) => "250 fine",
                };
                let _ = writer.write_all(format!("{answer}\r\n").as_bytes()).await;
            }
        }
    });
    (address, mails)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_that_the_server_put_off_is_sent_again() {
    let (address, mails) = reluctant().await;
    let url = format!("smtp://mailer:hunter2secret@{address}?from=photos@studio.example");
    let server = Server::start_with(&[("RAWDRIVE_SMTP_URL", &url)]);
    let ada = server.sign_up("postal").await;
    let _ = ask(&server, "password-resets", &ada.email).await.is(202);
    let start = format!("{}/password-reset?token=", server.url());
    let mut arrived = Vec::new();
    for _ in 0..150 {
        arrived.clone_from(&mails.lock().expect("no panic"));
        if arrived.len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Sign-up mails a link for the address, too: either mail may be the first, which is put off.
    assert_eq!(
        arrived.len(),
        2,
        "the verification and the reset: {arrived:#?}\n{}",
        server.log()
    );
    for mail in &arrived {
        assert!(mail.contains(&format!("To: {}\n", ada.email)), "{mail}");
        assert!(mail.contains("From: photos@studio.example\n"), "{mail}");
    }
    let token = arrived
        .iter()
        .find_map(|mail| token_in(mail, &start))
        .expect("one of the mails has a link to a new password");
    let _ = reset(&server, &token, NEW_PASSWORD).await.is(204);
    assert!(
        !server.data_dir().join("mail").exists(),
        "nothing is written to files"
    );
    let log = server.log();
    assert!(
        log.contains("451"),
        "the log tells why it took longer: {log}"
    );
    assert!(
        !log.contains("hunter2secret") && !log.contains(&token),
        "the log holds a secret"
    );
    let found: Value =
        serde_json::from_str(&server.admin(&["doctor", "--json"]).await.succeeded().stdout)
            .expect("JSON");
    assert!(!found.to_string().contains("hunter2secret"));
}
