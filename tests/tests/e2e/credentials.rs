//! Credentials: API keys, access tokens, signing keys, and what may pass for none of them.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use e2e::{Answer, Api, Server, unknown_id};
use reqwest::Method;
use serde_json::{Value, json};

/// A server whose time the test says.
pub(crate) struct Clocked {
    pub(crate) server: Server,
    clock: tempfile::NamedTempFile,
}

impl Clocked {
    pub(crate) fn start(at: &str, extra: &[(&str, &str)]) -> Self {
        let clock = tempfile::NamedTempFile::new().expect("failed to make the clock's file");
        fs::write(clock.path(), at).expect("failed to set the clock");
        let path = clock.path().to_str().expect("the path is text").to_owned();
        let mut variables = vec![("RAWDRIVE_DEV", "1"), ("RAWDRIVE_DEV_CLOCK", path.as_str())];
        variables.extend(extra);
        let server = Server::start_with(&variables);
        Self { server, clock }
    }

    pub(crate) fn set(&self, at: &str) {
        fs::write(self.clock.path(), at).expect("failed to set the clock");
    }
}

/// Makes a key; answers its id and a client that uses it.
async fn key(server: &Server, maker: &Api, role: &str) -> (String, String, Api) {
    let body = json!({ "name": format!("A {role}'s key"), "role": role });
    let made = maker.post("/v1/api-keys", &body).await.is(201);
    let secret = made.text("secret");
    let api = server.bearer(&secret);
    (made.text("id"), secret, api)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_shown_once_and_lies_nowhere_in_clear() {
    let server = Server::start();
    let ada = server.sign_up("keyed").await;
    let body = json!({ "name": " Uploader ", "role": "member", "expires_at": "2099-01-01T02:00:00+02:00" });
    let made = ada.post("/v1/api-keys", &body).await.is(201);
    let (id, secret) = (made.text("id"), made.text("secret"));
    let digits = |id: &str| id.split_once('_').expect("an id has a prefix").1.to_owned();
    let start = format!("rd_{}_{}_", digits(&ada.workspace_id), digits(&id));
    let rest = secret
        .strip_prefix(&start)
        .expect("the secret names its workspace and its row");
    assert!(
        rest.len() == 43 && rest.bytes().all(|b| b.is_ascii_alphanumeric()),
        "{secret}"
    );
    let mut shown = made.json();
    shown.as_object_mut().expect("an object").remove("secret");
    assert_eq!(shown["name"], "Uploader");
    assert_eq!(shown["role"], "member");
    assert_eq!(shown["expires_at"], "2099-01-01T00:00:00Z");
    assert_eq!(shown["last_used_at"], Value::Null);
    assert_eq!(shown["created_by"], ada.user_id.as_str());
    let listed = ada.get("/v1/api-keys").await.is(200).json();
    assert_eq!(listed, json!({ "items": [shown], "next_cursor": null }));

    let api = server.bearer(&secret);
    let _ = api.get("/v1/libraries").await.is(200);
    api.get(&format!("/v1/galleries/{secret}"))
        .await
        .problem(404, "not_found");
    server
        .bearer(&format!("{secret}x"))
        .get("/v1/libraries")
        .await
        .problem(401, "unauthenticated");
    server.kill9();
    for path in server.all_files() {
        let bytes = fs::read(&path).unwrap_or_default();
        let needle = rest.as_bytes();
        let found = bytes.windows(needle.len()).any(|window| window == needle);
        assert!(!found, "{} holds the secret", path.display());
    }
    let log = server.log();
    assert!(
        log.contains("/v1/api-keys"),
        "the log tells of requests: {log}"
    );
    assert!(!log.contains(rest), "the log holds the secret");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_reaches_what_its_role_does_but_nothing_personal() {
    let server = Server::shared();
    let ada = server.sign_up_on("roles", "professional").await;
    let (_, _, member) = key(server, &ada, "member").await;
    let (_, _, admin) = key(server, &ada, "admin").await;
    let (_, _, owner) = key(server, &ada, "owner").await;
    for api in [&member, &admin, &owner] {
        let gallery = api.gallery("By a key").await;
        let photo = e2e::image::jpeg(1_000, 1);
        let _ = api.upload(&gallery, photo, "image/jpeg").await.is(201);
        let _ = api.get("/v1/workspace").await.is(200);
        for (method, path) in [
            (Method::PATCH, "/v1/me"),
            (Method::POST, "/v1/sessions/switch"),
            (Method::DELETE, "/v1/sessions/current"),
        ] {
            let request = api.request(method.clone(), path).json(&json!({}));
            let problem = api.send(request).await.problem(403, "insufficient_role");
            let detail = problem["detail"].as_str().unwrap_or_default();
            assert!(detail.contains("session"), "{method} {path}: {problem}");
        }
    }
    let settings = json!({ "name": "Renamed by a key" });
    let refused = member
        .patch("/v1/workspace", &settings)
        .await
        .problem(403, "insufficient_role");
    assert_eq!(refused["required_role"], "admin");
    let branding = json!({ "display_name": "X", "primary_color": "#112233" });
    member
        .post("/v1/branding", &branding)
        .await
        .problem(403, "insufficient_role");
    member
        .get("/v1/workspace/audit")
        .await
        .problem(403, "insufficient_role");
    member
        .get("/v1/api-keys")
        .await
        .problem(403, "insufficient_role");
    let _ = admin.patch("/v1/workspace", &settings).await.is(200);
    // The ledger and the audit log name the key.
    let audit = admin.get("/v1/workspace/audit").await.is(200).json();
    let entry = &audit["items"][0];
    assert_eq!(entry["action"], "workspace.updated");
    assert!(
        entry["actor"]
            .as_str()
            .is_some_and(|actor| actor.starts_with("key_")),
        "{entry}"
    );
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_makes_a_key_above_their_own_role() {
    let server = Server::shared();
    let ada = server.sign_up_on("above", "professional").await;
    let admin = server.join(&ada, "above-admin", "admin").await;
    let member = server.join(&ada, "above-member", "member").await;
    // Told before any field that is wrong.
    for body in [
        json!({ "name": "Mine", "role": "owner" }),
        json!({ "name": "", "role": "owner", "expires_at": "yesterday" }),
    ] {
        let refused = admin
            .post("/v1/api-keys", &body)
            .await
            .problem(403, "insufficient_role");
        assert_eq!(refused["required_role"], "owner");
    }
    let body = json!({ "name": "Mine", "role": "member" });
    member
        .post("/v1/api-keys", &body)
        .await
        .problem(403, "insufficient_role");
    // A key makes none, whatever its role: who had it once would have it for ever.
    let (_, _, owners) = key(server, &ada, "owner").await;
    let (_, _, admins) = key(server, &admin, "admin").await;
    for key in [&owners, &admins] {
        key.post("/v1/api-keys", &body)
            .await
            .problem(403, "insufficient_role");
    }
    let listed = admins.get("/v1/api-keys").await.is(200).json();
    let made_by: BTreeSet<_> = listed["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|key| key["created_by"].as_str().expect("a maker").to_owned())
        .collect();
    assert_eq!(
        made_by,
        BTreeSet::from([ada.user_id.clone(), admin.user_id.clone()])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_cannot_be_is_refused_by_field() {
    let server = Server::shared();
    let ada = server.sign_up("fields").await;
    for (body, field) in [
        (json!({ "role": "member" }), "name"),
        (json!({ "name": "", "role": "member" }), "name"),
        (json!({ "name": "a\u{0}b", "role": "member" }), "name"),
        (json!({ "name": "x".repeat(201), "role": "member" }), "name"),
        (json!({ "name": "x" }), "role"),
        (json!({ "name": "x", "role": "root" }), "role"),
        (json!({ "name": "x", "role": "Member" }), "role"),
        (json!({ "name": "x", "role": 1 }), "role"),
        (
            json!({ "name": "x", "role": "member", "expires_at": "2020-01-01T00:00:00Z" }),
            "expires_at",
        ),
        (
            json!({ "name": "x", "role": "member", "expires_at": "tomorrow" }),
            "expires_at",
        ),
        (
            json!({ "name": "x", "role": "member", "expires_at": "2099-01-01" }),
            "expires_at",
        ),
        (
            json!({ "name": "x", "role": "member", "expires_at": 4_102_444_800_u64 }),
            "expires_at",
        ),
        (
            json!({ "name": "x", "role": "member", "workspace_id": "ws_1" }),
            "workspace_id",
        ),
    ] {
        let problem = ada
            .post("/v1/api-keys", &body)
            .await
            .problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["field"], field, "{body}: {problem}");
    }
    let listed = ada.get("/v1/api-keys").await.is(200).json();
    assert_eq!(listed["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_one_workspace_sees_nothing_of_another() {
    let server = Server::shared();
    let (ada, eve) = (server.sign_up("ada").await, server.sign_up("eve").await);
    let gallery = ada.gallery("Ada's").await;
    let (adas, _, _) = key(server, &ada, "member").await;
    let (_, _, eves) = key(server, &eve, "owner").await;
    let foreign = eves.get(&format!("/v1/galleries/{gallery}")).await;
    foreign.problem(404, "not_found");
    let unknown = eves
        .get(&format!("/v1/galleries/{}", unknown_id("gal")))
        .await;
    assert_eq!(foreign.essence(), unknown.essence());
    assert_eq!(eves.list_all("/v1/galleries", 50).await.len(), 0);
    let foreign = eves.delete(&format!("/v1/api-keys/{adas}")).await;
    foreign.problem(404, "not_found");
    for nobodys in [unknown_id("key"), "nonsense".to_owned(), gallery] {
        let answer = eves.delete(&format!("/v1/api-keys/{nobodys}")).await;
        assert_eq!(foreign.essence(), answer.essence(), "{nobodys}");
    }
    assert_eq!(ada.list_all("/v1/api-keys", 50).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_ends_at_once_also_amid_requests() {
    let server = Server::shared();
    let ada = server.sign_up("revoke").await;
    let nobody = server.anonymous().get("/v1/libraries").await;
    for _ in 0..e2e::rounds(5) {
        let (id, _, api) = key(server, &ada, "member").await;
        let revoked = std::sync::atomic::AtomicBool::new(false);
        let ask = async || {
            let mut before = 0;
            for _ in 0..200 {
                let is_revoked = revoked.load(std::sync::atomic::Ordering::SeqCst);
                let answer = api.get("/v1/libraries").await;
                match answer.status {
                    200 => {
                        assert!(!is_revoked, "a request after the revocation was admitted");
                        before += 1;
                    }
                    _ => {
                        assert_eq!(answer.essence(), nobody.essence());
                        if is_revoked {
                            break;
                        }
                    }
                }
            }
            before
        };
        let revoke = async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            let _ = ada.delete(&format!("/v1/api-keys/{id}")).await.is(204);
            revoked.store(true, std::sync::atomic::Ordering::SeqCst);
        };
        let (one, two, three, ()) = tokio::join!(ask(), ask(), ask(), revoke);
        assert!(
            one + two + three > 0,
            "no request came before the revocation"
        );
        assert_eq!(api.get("/v1/libraries").await.essence(), nobody.essence());
        ada.delete(&format!("/v1/api-keys/{id}"))
            .await
            .problem(404, "not_found");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_ends_at_its_expiry() {
    let clocked = Clocked::start("2026-03-01T10:00:00Z", &[]);
    let server = &clocked.server;
    let ada = server.sign_up("expiry").await;
    let body = json!({ "name": "Short", "role": "member", "expires_at": "2026-03-01T10:10:00Z" });
    let secret = ada.post("/v1/api-keys", &body).await.is(201).text("secret");
    let api = server.bearer(&secret);
    clocked.set("2026-03-01T10:09:59Z");
    let _ = api.get("/v1/libraries").await.is(200);
    clocked.set("2026-03-01T10:10:00Z");
    let ended = api.get("/v1/libraries").await;
    ended.problem(401, "unauthenticated");
    let nobody = server.anonymous().get("/v1/libraries").await;
    assert_eq!(ended.essence(), nobody.essence());
    // What has ended is still listed, so that somebody tidies up.
    assert_eq!(ada.list_all("/v1/api-keys", 50).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_use_is_noted_to_the_minute() {
    let clocked = Clocked::start("2026-03-01T10:00:00Z", &[]);
    let server = &clocked.server;
    let ada = server.sign_up("used").await;
    let (_, _, api) = key(server, &ada, "member").await;
    let noted = async |expected: &str| {
        let mut shown = Value::Null;
        for _ in 0..100 {
            let listed = ada.get("/v1/api-keys").await.is(200).json();
            shown = listed["items"][0]["last_used_at"].clone();
            if shown == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("expected {expected}, not {shown}");
    };
    let _ = api.get("/v1/libraries").await.is(200);
    noted("2026-03-01T10:00:00Z").await;
    clocked.set("2026-03-01T10:00:59Z");
    let _ = api.get("/v1/libraries").await.is(200);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    noted("2026-03-01T10:00:00Z").await;
    clocked.set("2026-03-01T10:01:00Z");
    let _ = api.get("/v1/libraries").await.is(200);
    noted("2026-03-01T10:01:00Z").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_holds_a_hundred_keys_however_many_are_asked_for_at_once() {
    let server = Server::shared();
    let ada = server.sign_up("hundred").await;
    let body = json!({ "name": "One of many", "role": "member" });
    let ask = async || {
        let mut made = 0;
        for _ in 0..26 {
            let answer = ada.post("/v1/api-keys", &body).await;
            if answer.status == 201 {
                made += 1;
            } else {
                answer.problem(409, "conflict");
            }
        }
        made
    };
    let (a, b, c, d) = tokio::join!(ask(), ask(), ask(), ask());
    assert_eq!(a + b + c + d, 100);
    let keys = ada.list_all("/v1/api-keys", 33).await;
    assert_eq!(keys.len(), 100);
    let id = keys[0]["id"].as_str().expect("an id");
    let _ = ada.delete(&format!("/v1/api-keys/{id}")).await.is(204);
    let _ = ada.post("/v1/api-keys", &body).await.is(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn making_and_revoking_a_key_is_audited_once_and_never_replayed() {
    let server = Server::shared();
    let ada = server.sign_up("audited").await;
    let body = json!({ "name": "Audited", "role": "admin" });
    let make = async || {
        let request = ada
            .request(Method::POST, "/v1/api-keys")
            .header("idempotency-key", "same");
        ada.send(request.json(&body)).await.is(201)
    };
    let (one, two) = (make().await, make().await);
    assert_ne!(one.text("secret"), two.text("secret"));
    assert!(!two.headers.contains_key("idempotency-replayed"));
    let id = one.text("id");
    let _ = ada.delete(&format!("/v1/api-keys/{id}")).await.is(204);
    ada.delete(&format!("/v1/api-keys/{id}"))
        .await
        .problem(404, "not_found");
    let audit = ada.get("/v1/workspace/audit").await.is(200).json();
    let of_key: Vec<_> = audit["items"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|entry| entry["subject"] == id.as_str())
        .map(|entry| {
            (
                entry["action"].clone(),
                entry["before"].clone(),
                entry["after"].clone(),
            )
        })
        .collect();
    let said = json!({ "name": "Audited", "role": "admin", "expires_at": null });
    assert_eq!(
        of_key,
        [
            (json!("api_key.revoked"), said.clone(), Value::Null),
            (json!("api_key.created"), Value::Null, said),
        ]
    );
    assert!(
        !audit.to_string().contains(&one.text("secret")[70..]),
        "the audit log holds a secret"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_mutated_key_is_accepted() {
    let server = Server::shared();
    let (ada, eve) = (server.sign_up("ada").await, server.sign_up("eve").await);
    let (_, adas, api) = key(server, &ada, "owner").await;
    let (_, eves, _) = key(server, &eve, "owner").await;
    let (_, second, _) = key(server, &ada, "owner").await;
    let parts: Vec<&str> = adas.split('_').collect();
    let [rd, workspace, id, secret] = parts[..] else {
        panic!("a key has four parts: {adas}")
    };
    let eves: Vec<&str> = eves.split('_').collect();
    let second: Vec<&str> = second.split('_').collect();
    let mut mutated = BTreeSet::from([
        format!("{rd}_{}_{id}_{secret}", eves[1]),
        format!("{rd}_{workspace}_{}_{secret}", eves[2]),
        format!("{rd}_{workspace}_{id}_{}", eves[3]),
        format!("{rd}_{}_{}_{secret}", eves[1], eves[2]),
        format!("{rd}_{}_{id}_{}", eves[1], eves[3]),
        format!("{rd}_{workspace}_{}_{}", eves[2], eves[3]),
        format!("{rd}_{workspace}_{}_{secret}", second[2]),
        format!("{rd}_{workspace}_{id}_{}", second[3]),
        format!("{rd}_{id}_{workspace}_{secret}"),
        format!("{rd}_ws_{workspace}_{id}_{secret}"),
        format!("{rd}_{workspace}_key_{id}_{secret}"),
        format!("{rd}_{workspace}_{id}_{}", secret.to_uppercase()),
        format!("{rd}_{workspace}_{id}_{}", secret.to_lowercase()),
        format!("{rd}_{}_{id}_{secret}", workspace.to_uppercase()),
        format!("{rd}_{workspace}_{}_{secret}", id.to_uppercase()),
        format!("{rd}_{workspace}_{id}_{secret}_"),
        format!("{rd}_{workspace}_{id}_{secret}0"),
        format!("{rd}_{workspace}_{id}_0{secret}"),
        format!("{rd}_{workspace}_{id}_{secret}{secret}"),
        format!("{rd}_{workspace}_{id}__{secret}"),
        format!("{rd}_{workspace}_{id}_"),
        format!("{rd}_{workspace}_{id}"),
        format!("{rd}_{workspace}_{id}_{}", "0".repeat(43)),
        format!("{rd}_{workspace}_{id}_{}", "%27%20OR%201=1--"),
        format!("{rd}_{workspace}_{id}_' OR '1'='1"),
        format!("{rd}_{workspace}_{id}_{secret} {rd}_{workspace}_{id}_{secret}"),
        format!("{rd}_{workspace}_{id}_{secret},"),
        format!("{rd}_{}_{id}_{secret}", "0".repeat(32)),
        format!("{rd}_{workspace}_{}_{secret}", "0".repeat(32)),
        adas.to_uppercase(),
        adas.replacen("rd_", "RD_", 1),
        adas.replacen("rd_", "rdr_", 1),
        adas.replacen("rd_", "rdi_", 1),
        adas.replacen("rd_", "rdc_", 1),
        adas.replacen("rd_", "rdp_", 1),
        adas.replacen("rd_", "", 1),
        adas.replace('_', "-"),
        adas.replace('_', "."),
        format!("\"{adas}\""),
        format!("Bearer {adas}"),
        secret.to_owned(),
        ada.refresh.replacen("rdr_", "rd_", 1),
    ]);
    // Cut at every place, and each character of the secret changed.
    mutated.extend((1..adas.len()).map(|end| adas[..end].to_owned()));
    mutated.extend(
        (1..adas.len())
            .step_by(7)
            .map(|start| adas[start..].to_owned()),
    );
    let first = adas.len() - secret.len();
    mutated.extend((first..adas.len()).map(|at| {
        let other = if &adas[at..=at] == "A" { "B" } else { "A" };
        format!("{}{other}{}", &adas[..at], &adas[at + 1..])
    }));
    assert!(mutated.len() >= 150, "only {} keys", mutated.len());
    none_is_accepted(server, &mutated).await;
    let _ = api.get("/v1/libraries").await.is(200);
}

/// Sends each as the bearer; every answer is the 401 that nobody at all gets, byte for byte.
async fn none_is_accepted(server: &Server, tokens: &BTreeSet<String>) {
    let anonymous = server.anonymous();
    let expected = anonymous.get("/v1/libraries").await;
    expected.problem(401, "unauthenticated");
    for token in tokens {
        let request = anonymous
            .request(Method::GET, "/v1/libraries")
            .header("authorization", format!("Bearer {token}"));
        let answer: Answer = anonymous.send(request).await;
        assert_eq!(answer.essence(), expected.essence(), "{token:?}");
    }
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Every forgery that can be made without the installation's key: each header under each signature, and each
/// set of claims under the two that are worth most.
fn forgeries(token: &str, public: &[u8], listener: &str) -> BTreeSet<String> {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else {
        panic!("a token has three parts: {token}")
    };
    let read = |part: &str| -> Value {
        let bytes = URL_SAFE_NO_PAD.decode(part).expect("base64url");
        serde_json::from_slice(&bytes).expect("JSON")
    };
    let (header, claims) = (read(header), read(claims));
    let attacker = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).expect("a seed");
    let attacker_jwk = json!({
        "kty": "OKP", "crv": "Ed25519", "x": encoded(attacker.public_key()), "kid": header["kid"],
    });
    let with = |value: &Value, name: &str, new: Value| {
        let mut changed = value.clone();
        changed[name] = new;
        changed
    };
    let without = |value: &Value, name: &str| {
        let mut changed = value.clone();
        changed.as_object_mut().expect("an object").remove(name);
        changed
    };
    let kid = header["kid"].as_str().expect("a kid");
    let mut headers = vec![header.clone(), json!({}), json!([]), json!("EdDSA")];
    for alg in [
        "none", "None", "NONE", "HS256", "HS384", "HS512", "RS256", "ES256", "eddsa", "Ed25519", "",
    ] {
        headers.push(with(&header, "alg", json!(alg)));
    }
    for kid in [
        "../../../../dev/null",
        "/dev/null",
        "..%2f..%2fsecret.key",
        "secret.key",
        "' OR '1'='1",
        "' UNION SELECT 'AAAA' --",
        "1; DROP TABLE signing_keys",
        "\u{0}",
        "",
        "*",
        &kid.to_uppercase(),
        &format!("{kid}\u{0}"),
        &format!("{kid}/../{kid}"),
    ] {
        headers.push(with(&header, "kid", json!(kid)));
    }
    headers.push(with(&header, "kid", json!([kid])));
    headers.push(with(&header, "typ", json!("JWT")));
    headers.push(with(&header, "jwk", attacker_jwk.clone()));
    headers.push(with(&without(&header, "kid"), "jwk", attacker_jwk));
    for (name, path) in [("jku", "jwks.json"), ("x5u", "cert.pem")] {
        let address = json!(format!("http://{listener}/{path}"));
        headers.push(with(&header, name, address.clone()));
        headers.push(with(&without(&header, "kid"), name, address));
    }
    headers.push(with(&header, "x5c", json!(["AAAA"])));
    headers.push(with(&header, "crit", json!(["exp"])));
    headers.push(with(&header, "b64", json!(false)));
    for name in ["alg", "typ", "kid"] {
        headers.push(without(&header, name));
    }

    let now = claims["iat"].as_i64().expect("a time");
    let other = "https://elsewhere.example";
    let mut bodies = vec![
        json!({}),
        json!([]),
        json!(null),
        with(&claims, "role", json!("owner")),
    ];
    for exp in [
        json!((now + 900).to_string()),
        json!(f64::from(u32::try_from(now).expect("in this century")) + 900.5),
        json!(1e300),
        json!(-1),
        json!(0),
        json!(now - 30),
        json!(253_402_300_799_u64),
        json!(u64::MAX),
        json!(null),
        json!([now + 900]),
        json!(true),
    ] {
        bodies.push(with(&claims, "exp", exp));
    }
    for name in [
        "iss", "aud", "sub", "wid", "sid", "iat", "nbf", "exp", "jti",
    ] {
        bodies.push(without(&claims, name));
        bodies.push(with(&claims, name, json!([claims[name].clone()])));
        bodies.push(with(&claims, name, json!(other)));
    }
    bodies.push(with(&claims, "nbf", json!(now + 3_600)));
    bodies.push(with(&claims, "wid", json!(unknown_id("ws"))));
    bodies.push(with(&claims, "sub", json!(unknown_id("usr"))));

    let hmac_with = |secret: &[u8], message: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        encoded(hmac::sign(&key, message.as_bytes()))
    };
    let mut found = BTreeSet::new();
    for header in &headers {
        let message = format!(
            "{}.{}",
            encoded(header.to_string()),
            encoded(claims.to_string())
        );
        found.insert(format!("{message}."));
        found.insert(format!(
            "{message}.{}",
            encoded(attacker.sign(message.as_bytes()))
        ));
        found.insert(format!("{message}.{}", hmac_with(public, &message)));
        found.insert(format!(
            "{message}.{}",
            hmac_with(encoded(public).as_bytes(), &message)
        ));
        // The true signature lies on other bytes than these, whatever they say.
        found.insert(format!("{message}.{signature}"));
    }
    for body in &bodies {
        let message = format!(
            "{}.{}",
            encoded(header.to_string()),
            encoded(body.to_string())
        );
        found.insert(format!(
            "{message}.{}",
            encoded(attacker.sign(message.as_bytes()))
        ));
        found.insert(format!("{message}.{signature}"));
    }
    found.remove(token);
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_forged_token_is_accepted_and_none_makes_the_server_call_out() {
    let server = Server::shared();
    let ada = server.sign_up("forged").await;
    let listener = TcpListener::bind("127.0.0.1:0").expect("failed to listen");
    listener
        .set_nonblocking(true)
        .expect("a listener that does not wait");
    let address = listener.local_addr().expect("an address").to_string();
    let keys = server
        .anonymous()
        .get("/.well-known/jwks.json")
        .await
        .is(200)
        .json();
    let public = keys["keys"][0]["x"].as_str().expect("a key");
    let public = URL_SAFE_NO_PAD.decode(public).expect("base64url");
    let mut tokens = forgeries(&ada.token, &public, &address);
    tokens.insert(ada.refresh.clone());
    tokens.insert(format!("{}.{}", ada.token, "AAAA"));
    tokens.insert(ada.token[..ada.token.len() - 1].to_owned());
    tokens.insert(format!("{}=", ada.token));
    tokens.insert("..".to_owned());
    tokens.insert("a".repeat(6_000));
    assert!(tokens.len() >= 250, "only {} tokens", tokens.len());
    none_is_accepted(server, &tokens).await;
    let called = listener.accept();
    assert!(
        called.is_err_and(|e| e.kind() == ErrorKind::WouldBlock),
        "the server called out"
    );
    let _ = ada.get("/v1/libraries").await.is(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_true_token_that_ended_30_seconds_ago_is_as_good_as_none() {
    let clocked = Clocked::start("2026-03-01T10:00:00Z", &[]);
    let ada = clocked.server.sign_up("ended").await;
    clocked.set("2026-03-01T10:15:04Z");
    let _ = ada.get("/v1/libraries").await.is(200);
    for late in [
        "2026-03-01T10:15:05Z",
        "2026-03-01T10:15:30Z",
        "9999-12-31T23:59:59Z",
    ] {
        clocked.set(late);
        none_is_accepted(&clocked.server, &BTreeSet::from([ada.token.clone()])).await;
    }
    // Nor does it begin before it was issued.
    clocked.set("2026-03-01T09:59:00Z");
    none_is_accepted(&clocked.server, &BTreeSet::from([ada.token.clone()])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotated_keys_overlap_and_every_token_holds_to_its_end() {
    let clocked = Clocked::start("2026-03-01T10:00:00Z", &[]);
    let server = &clocked.server;
    let ada = server.sign_up("rotated").await;
    let kid_of = |token: &str| {
        let head = token.split('.').next().expect("a token has parts");
        let head = URL_SAFE_NO_PAD.decode(head).expect("base64url");
        let head: Value = serde_json::from_slice(&head).expect("JSON");
        head["kid"].as_str().expect("a kid").to_owned()
    };
    let kids = async || -> BTreeSet<String> {
        let keys = server
            .anonymous()
            .get("/.well-known/jwks.json")
            .await
            .is(200)
            .json();
        let keys = keys["keys"].as_array().expect("a key set").clone();
        keys.iter()
            .map(|key| key["kid"].as_str().expect("a kid").to_owned())
            .collect()
    };
    let fresh = async || {
        let body = json!({ "email": ada.email, "password": e2e::Actor::PASSWORD });
        server
            .anonymous()
            .post("/v1/sessions", &body)
            .await
            .is(201)
            .text("access_token")
    };
    let old = kid_of(&ada.token);
    let said = server
        .admin(&["keys", "rotate", "--json"])
        .await
        .succeeded()
        .stdout;
    let said: Value = serde_json::from_str(&said).expect("JSON");
    let new = said["kid"].as_str().expect("a kid").to_owned();
    // A server reads its keys every minute; starting reads them at once.
    server.restart();
    assert_eq!(kids().await, BTreeSet::from([old.clone(), new.clone()]));
    let _ = ada.get("/v1/me").await.is(200);
    assert_eq!(
        kid_of(&fresh().await),
        old,
        "other servers may not know the new key yet"
    );

    clocked.set("2026-03-01T10:10:00Z");
    let second = fresh().await;
    assert_eq!(kid_of(&second), new);
    let _ = server.bearer(&second).get("/v1/me").await.is(200);
    let _ = ada.get("/v1/me").await.is(200);
    clocked.set("2026-03-01T10:30:00Z");
    assert_eq!(kids().await, BTreeSet::from([new]));
    ada.get("/v1/me").await.problem(401, "unauthenticated");

    // Under another secret key nothing is rotated: the servers could not open what came of it.
    let another = [(
        "RAWDRIVE_SECRET_KEY",
        "another secret key of at least 32 bytes",
    )];
    let refused = server.admin_with(&another, &["keys", "rotate"]).await;
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert!(
        refused.stderr.contains("another secret key"),
        "{refused:#?}"
    );
    server.restart();
    let _ = fresh().await;
    assert_eq!(kids().await.len(), 1);

    let alone = Server::run_alone(&["keys", "rotate"]).await;
    assert_eq!(alone.code, Some(1), "{alone:#?}");
    assert!(
        alone.stderr.contains("nothing was ever served"),
        "{alone:#?}"
    );
}
