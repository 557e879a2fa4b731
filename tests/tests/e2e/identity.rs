//! Who is asking, and until when.

use std::fs;

use e2e::{Actor, Server, unknown_id};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_signs_up_once_whatever_its_case() {
    let server = Server::shared();
    let ada = server.sign_up("Case").await;
    let again = json!({
        "email": ada.email.to_uppercase(),
        "password": Actor::PASSWORD,
        "name": "Somebody else",
        "workspace_name": "Another studio",
    });
    let answer = server.anonymous().post("/v1/signup", &again).await;
    answer.problem(409, "email_taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_and_an_unknown_address_are_one_answer() {
    let server = Server::shared();
    let ada = server.sign_up("signin").await;
    let sign_in = async |email: &str, password: &str| {
        let body = json!({ "email": email, "password": password });
        server.anonymous().post("/v1/sessions", &body).await
    };
    let right = sign_in(&ada.email, Actor::PASSWORD).await.is(201).json();
    let api = server.bearer(right["access_token"].as_str().expect("a token"));
    let me = api.get("/v1/me").await.is(200).json();
    assert_eq!(me["workspace"]["id"], ada.workspace_id.as_str());
    assert_eq!(
        right["token_type"]
            .as_str()
            .map(str::to_lowercase)
            .as_deref(),
        Some("bearer")
    );
    assert!(
        right["expires_in"]
            .as_u64()
            .is_some_and(|seconds| (1..=900).contains(&seconds)),
        "{right}"
    );

    let wrong = sign_in(&ada.email, "not the password at all").await;
    wrong.problem(401, "unauthenticated");
    let unknown = sign_in("nobody-at-all@example.test", "not the password at all").await;
    assert_eq!(wrong.essence(), unknown.essence());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_used_refresh_token_ends_its_whole_family() {
    let server = Server::shared();
    let ada = server.sign_up("refresh").await;
    let other = json!({ "email": ada.email, "password": Actor::PASSWORD });
    let other = server
        .anonymous()
        .post("/v1/sessions", &other)
        .await
        .is(201)
        .text("access_token");

    let refresh = async |token: &str| {
        let body = json!({ "refresh_token": token });
        server.anonymous().post("/v1/sessions/refresh", &body).await
    };
    let second = refresh(&ada.refresh).await.is(200);
    let second_access = second.text("access_token");
    let second_refresh = second.text("refresh_token");
    assert_ne!(second_refresh, ada.refresh);
    let _ = server.bearer(&second_access).get("/v1/me").await.is(200);

    refresh(&ada.refresh).await.problem(401, "unauthenticated");
    refresh(&second_refresh)
        .await
        .problem(401, "unauthenticated");
    server
        .bearer(&second_access)
        .get("/v1/me")
        .await
        .problem(401, "unauthenticated");
    ada.get("/v1/me").await.problem(401, "unauthenticated");
    let _ = server.bearer(&other).get("/v1/me").await.is(200);
    refresh("nonsense").await.problem(401, "unauthenticated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_switches_to_a_workspace_they_do_not_belong_to() {
    let server = Server::shared();
    let ada = server.sign_up("switch").await;
    let eve = server.sign_up("eve").await;
    let switch = async |workspace: &str| {
        eve.post("/v1/sessions/switch", &json!({ "workspace": workspace }))
            .await
    };
    let foreign = switch(&ada.workspace_id).await;
    foreign.problem(404, "not_found");
    assert_eq!(foreign.essence(), switch(&unknown_id("ws")).await.essence());
    assert_eq!(foreign.essence(), switch("nonsense").await.essence());
    let own = switch(&eve.workspace_id).await.is(200).text("access_token");
    let me = server.bearer(&own).get("/v1/me").await.is(200).json();
    assert_eq!(me["workspace"]["id"], eve.workspace_id.as_str());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_out_ends_the_access_token_at_once() {
    let server = Server::shared();
    let ada = server.sign_up("signout").await;
    let _ = ada.get("/v1/me").await.is(200);
    let _ = ada.delete("/v1/sessions/current").await.is(204);
    ada.get("/v1/me").await.problem(401, "unauthenticated");
    let body = json!({ "refresh_token": ada.refresh });
    let refreshed = server.anonymous().post("/v1/sessions/refresh", &body).await;
    refreshed.problem(401, "unauthenticated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_not_ours_is_refused_with_a_challenge() {
    let server = Server::shared();
    let ada = server.sign_up("token").await;
    let (signed, signature) = ada.token.rsplit_once('.').expect("a token has three parts");
    let (head, claims) = signed.split_once('.').expect("a token has three parts");
    let swap = |text: &str, at: usize| {
        let other = if text.as_bytes()[at] == b'A' {
            "B"
        } else {
            "A"
        };
        format!("{}{other}{}", &text[..at], &text[at + 1..])
    };
    // {"alg":"none","typ":"JWT"} and {"alg":"HS256","typ":"JWT"}
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    let hmac = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";
    let tokens = [
        format!("{signed}.{}", swap(signature, 10)),
        format!("{head}.{}.{signature}", swap(claims, 12)),
        format!("{none}.{claims}."),
        format!("{none}.{claims}.{signature}"),
        format!("{hmac}.{claims}.{signature}"),
        format!("{signed}."),
        signed.to_owned(),
        "nonsense".to_owned(),
        "rd_nonsense".to_owned(),
        ada.refresh.clone(),
    ];
    for token in &tokens {
        let answer = server.bearer(token).get("/v1/me").await;
        answer.problem(401, "unauthenticated");
        assert!(!answer.header("www-authenticate").is_empty());
    }
    let anonymous = server.anonymous();
    let answer = anonymous.get("/v1/me").await;
    answer.problem(401, "unauthenticated");
    assert!(answer.header("www-authenticate").starts_with("Bearer"));
    let basic = anonymous
        .request(reqwest::Method::GET, "/v1/me")
        .header("authorization", "Basic YTpi");
    anonymous.send(basic).await.problem(401, "unauthenticated");
    let _ = ada.get("/v1/me").await.is(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_access_token_expires() {
    let clock = tempfile::NamedTempFile::new().expect("failed to make the clock's file");
    fs::write(clock.path(), "2026-03-01T10:00:00Z").expect("failed to set the clock");
    let path = clock.path().to_str().expect("the path is text");
    let server = Server::start_with(&[("RAWDRIVE_DEV", "1"), ("RAWDRIVE_DEV_CLOCK", path)]);
    let ada = server.sign_up("clock").await;
    let _ = ada.get("/v1/me").await.is(200);
    fs::write(clock.path(), "2026-03-01T10:16:00Z").expect("failed to set the clock");
    let mut answer = ada.get("/v1/me").await;
    for _ in 0..50 {
        if answer.status != 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        answer = ada.get("/v1/me").await;
    }
    answer.problem(401, "unauthenticated");
    assert!(!answer.header("www-authenticate").is_empty());
    let body = json!({ "refresh_token": ada.refresh });
    let renewed = server
        .anonymous()
        .post("/v1/sessions/refresh", &body)
        .await
        .is(200);
    let _ = server
        .bearer(&renewed.text("access_token"))
        .get("/v1/me")
        .await
        .is(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_public_keys_are_public_and_no_more() {
    let server = Server::shared();
    let ada = server.sign_up("keys").await;
    let keys = server
        .anonymous()
        .get("/.well-known/jwks.json")
        .await
        .is(200)
        .json();
    let keys = keys["keys"].as_array().expect("a key set").clone();
    assert!(!keys.is_empty());
    for key in &keys {
        assert_eq!(key["kty"], "OKP");
        assert_eq!(key["crv"], "Ed25519");
        assert!(key["x"].as_str().is_some_and(|x| x.len() == 43), "{key}");
        assert!(key.get("d").is_none(), "the private key is in the key set");
    }
    let head = ada.token.split('.').next().expect("a token has parts");
    let head: Value = serde_json::from_slice(&base64url(head)).expect("the head is JSON");
    assert_eq!(head["alg"], "EdDSA");
    assert!(
        keys.iter().any(|key| key["kid"] == head["kid"]),
        "{head} names none of {keys:?}"
    );
}

fn base64url(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (mut bytes, mut buffer, mut bits) = (Vec::new(), 0_u32, 0);
    for character in text.bytes() {
        let value = ALPHABET
            .iter()
            .position(|known| *known == character)
            .expect("base64url");
        buffer = (buffer << 6) | u32::try_from(value).expect("less than 64");
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((buffer >> bits) & 0xFF).expect("eight bits"));
        }
    }
    bytes
}
