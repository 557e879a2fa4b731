//! What a server and its commands print holds no secret. The harness searches whatever any server of these tests has
//! printed; here is what makes one print much, and what makes it complain.

use std::time::Duration;

use e2e::{Actor, Api, Output, Server};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::stage::{Stage, WEBHOOK_SECRET, subscribe};
use crate::webhooks::{post, tag};

const NEW_PASSWORD: &str = "another horse, another staple";

async fn send_text(api: &Api, method: Method, path: &str, text: String) {
    let request = api
        .request(method, path)
        .header("content-type", "application/json")
        .body(text);
    let _ = api.send(request).await;
}

/// Every credential that there is: made, used, used wrongly, and handed in where it does not belong.
async fn use_credentials(stage: &Stage) {
    let (server, anyone) = (&stage.server, stage.server.anonymous());
    let (ada, key) = stage.owner("secretive").await;
    server.set_plan(&ada, "professional").await;
    let made = ada
        .post(
            "/v1/api-keys",
            &json!({ "name": "Another", "role": "member" }),
        )
        .await
        .is(201);
    let secret = made.text("secret");
    let _ = server.bearer(&secret).get("/v1/libraries").await.is(200);
    let _ = server
        .bearer(&format!("{secret}x"))
        .get("/v1/me")
        .await
        .is(401);
    let _ = server
        .bearer(&format!("{}x", ada.token))
        .get("/v1/me")
        .await
        .is(401);
    let _ = server.join(&ada, "secretive-member", "member").await;
    let refresh = json!({ "refresh_token": ada.refresh });
    let fresh = anyone
        .post("/v1/sessions/refresh", &refresh)
        .await
        .is(200)
        .json();
    let _ = anyone.post("/v1/sessions/refresh", &refresh).await.is(401);
    let _ = server
        .bearer(fresh["access_token"].as_str().expect("a token"))
        .get("/v1/me")
        .await;
    for password in [Actor::PASSWORD, NEW_PASSWORD] {
        let _ = anyone
            .post(
                "/v1/sessions",
                &json!({ "email": ada.email, "password": password }),
            )
            .await;
    }
    let _ = anyone
        .post("/v1/password-resets", &json!({ "email": ada.email }))
        .await
        .is(202);
    let reset = server.mailed_token(&ada.email, 1).await;
    let complete = json!({ "token": reset, "password": NEW_PASSWORD });
    for status in [204, 404] {
        let _ = anyone
            .post("/v1/password-resets/complete", &complete)
            .await
            .is(status);
    }

    let client = json!({ "name": "Mia", "email": "mia-secretive@example.test" });
    let client = key.post("/v1/clients", &client).await.is(201).text("id");
    let invite = key.request(Method::POST, &format!("/v1/clients/{client}/invite"));
    let _ = key.send(invite).await.is(201);
    let link = server.mailed_token("mia-secretive@example.test", 1).await;
    let _ = anyone.get(&format!("/v1/shared/{link}")).await.is(200);
    let _ = anyone.get(&format!("/shared?token={link}")).await.is(200);

    // Where they do not belong.
    for token in [secret.as_str(), &ada.token, &ada.refresh, &reset, &link] {
        for path in [
            "/v1/galleries/",
            "/v1/nonsense/",
            "/v1/shared/",
            "/v1/usage?metric=",
            "/v1/libraries?cursor=",
        ] {
            let _ = key.get(&format!("{path}{token}")).await;
        }
        for (method, path) in [
            (Method::POST, "/v1/sessions"),
            (Method::POST, "/v1/signup"),
            (Method::POST, "/v1/sessions/refresh"),
            (Method::POST, "/v1/invitations/accept"),
            (Method::POST, "/v1/libraries"),
            (Method::POST, "/v1/branding"),
            (Method::POST, "/v1/billing/subscription"),
            (Method::POST, "/v1/entitlements/check"),
            (Method::PATCH, "/v1/me"),
        ] {
            let cut = format!(
                "{{\"email\": \"{token}\", \"password\": \"{}",
                Actor::PASSWORD
            );
            send_text(&key, method.clone(), path, cut).await;
            for body in [
                json!(token),
                json!([token]),
                json!({ "name": { "password": token }, "email": [token] }),
            ] {
                send_text(&key, method.clone(), path, body.to_string()).await;
            }
        }
        let strange = anyone
            .request(Method::GET, "/v1/me")
            .header("authorization", format!("Basic {token}"));
        let _ = anyone.send(strange).await.is(401);
    }
}

/// What is Stripe's.
async fn use_money(stage: &Stage) {
    let (ada, api) = stage.owner("pays").await;
    let order = json!({
        "plan": "professional", "interval": "month",
        "success_url": "https://studio.example/done", "cancel_url": "https://studio.example/back",
    });
    let _ = api.post("/v1/billing/checkout", &order).await.is(200);
    let _ = subscribe(&api, "professional", "pm_card_authenticationRequired")
        .await
        .is(402);
    let _ = subscribe(&api, "professional", "pm_card_chargeDeclined").await;
    let (_, api) = stage.subscriber("pays-at-once", "professional").await;
    let _ = api
        .post(
            "/v1/billing/portal",
            &json!({ "return_url": "https://studio.example/" }),
        )
        .await
        .is(200);
    stage.webhooks_arrived();
    let body = json!({ "id": "evt_secretive", "type": "invoice.paid", "data": { "object": { "id": "in_unknown" } } });
    let (body, time) = (body.to_string(), stage.now().timestamp());
    let tag = tag(WEBHOOK_SECRET, time, body.as_bytes());
    let anyone = stage.server.anonymous();
    let _ = post(&anyone, Some(&format!("t={time},v1={tag}")), body.clone())
        .await
        .is(200);
    let _ = post(
        &anyone,
        Some(&format!("t={time},v0={WEBHOOK_SECRET}")),
        body,
    )
    .await
    .is(400);
    stage.faults().down(true);
    let _ = api
        .post(
            "/v1/billing/portal",
            &json!({ "return_url": "https://studio.example/" }),
        )
        .await
        .is(503);
    stage.faults().down(false);
    let _ = ada.get("/v1/billing/invoices").await.is(200);
    for arguments in [
        &["stripe", "sync-plans"][..],
        &["stripe", "reconcile"],
        &["stripe", "replay"],
        &["doctor"],
        &["doctor", "--json"],
        &["keys", "rotate"],
        &["--help"],
    ] {
        let _ = stage
            .server
            .admin_with(&[("RAWDRIVE_LOG", "trace")], arguments)
            .await
            .succeeded();
    }
}

async fn nothing_is_printed(format: &str) {
    let stage = Stage::start_with(&[
        // All that there is, statements too.
        ("RAWDRIVE_LOG", "trace,sqlx=trace,sea_orm=trace"),
        ("RAWDRIVE_LOG_FORMAT", format),
    ])
    .await;
    use_credentials(&stage).await;
    use_money(&stage).await;
    let log = stage.server.log();
    assert!(log.contains("TRACE") && log.len() > 100_000, "it says much");
    // The last line may still be being written; standard output, with the address for a person, is no log.
    let (whole, _) = log.rsplit_once('\n').expect("lines");
    let mut lines = whole
        .lines()
        .filter(|line| !line.starts_with("RawDrive ") && !line.starts_with("  "));
    let is_json = |line: &&str| serde_json::from_str::<Value>(line).is_ok();
    let odd = lines.find(|line| is_json(line) != (format == "json"));
    assert_eq!(odd, None);
    // The log is searched when the server ends.
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_talkative_log_of_text_holds_no_secret() {
    nothing_is_printed("text").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_talkative_log_of_json_holds_no_secret() {
    nothing_is_printed("json").await;
}

/// Accepts and hangs up.
async fn reluctant() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_complains_of_a_setting_does_not_show_it() {
    let server = Server::start();
    let reluctant = reluctant().await;
    let database = format!("postgres://server:database-password@{reluctant}/rawdrive");
    let redis = format!("redis://:redis-password-of-tests@{reluctant}");
    let smtp =
        format!("smtp://mailer:mail-password-of-tests@{reluctant}?from=photos@studio.example");
    let stripe = format!("http://{reluctant}");
    let long_key = (
        "RAWDRIVE_SECRET_KEY",
        "a key of the tests that is longer than 32 bytes",
    );
    let run = async |settings: &[(&str, &str)], command: &str| -> Output {
        let settings = [
            &[("RAWDRIVE_LOG", "trace"), ("RUST_BACKTRACE", "full")],
            settings,
        ]
        .concat();
        let arguments = [command];
        let ended = server.admin_with(&settings, &arguments);
        tokio::time::timeout(Duration::from_secs(60), ended)
            .await
            .expect("the command ends")
    };
    for (settings, command, ends_well) in [
        (
            &[("DATABASE_URL", database.as_str()), long_key][..],
            "serve",
            false,
        ),
        (&[("DATABASE_URL", &database), long_key], "doctor", false),
        (
            &[
                ("DATABASE_OWNER_URL", &database),
                ("DATABASE_URL", &database),
                long_key,
            ],
            "migrate",
            false,
        ),
        (
            &[(
                "DATABASE_URL",
                "mysql://server:database-password@db/rawdrive",
            )],
            "doctor",
            false,
        ),
        (&[("REDIS_URL", &redis)], "doctor", true),
        (
            &[("REDIS_URL", "tcp://:redis-password-of-tests@redis")],
            "doctor",
            false,
        ),
        (&[("RAWDRIVE_SMTP_URL", &smtp)], "doctor", true),
        (
            &[(
                "RAWDRIVE_SMTP_URL",
                "mail://mailer:mail-password-of-tests@nowhere",
            )],
            "doctor",
            false,
        ),
        (
            &[("RAWDRIVE_SECRET_KEY", "a key, too short")],
            "doctor",
            false,
        ),
        (
            &[
                ("STRIPE_SECRET_KEY", "sk_test_of the tests"),
                ("STRIPE_WEBHOOK_SECRET", WEBHOOK_SECRET),
            ],
            "doctor",
            false,
        ),
        (
            &[
                ("STRIPE_SECRET_KEY", "sk_test_of_these_tests"),
                ("STRIPE_WEBHOOK_SECRET", "secret of the tests"),
            ],
            "doctor",
            false,
        ),
        (
            &[
                ("STRIPE_SECRET_KEY", "sk_test_of_these_tests"),
                ("STRIPE_WEBHOOK_SECRET", WEBHOOK_SECRET),
                ("STRIPE_API_URL", &stripe),
            ],
            "doctor",
            true,
        ),
    ] {
        // Whatever is printed is searched as it is read.
        let output = run(settings, command).await;
        let names: Vec<_> = settings.iter().map(|(name, _)| name).collect();
        assert_eq!(
            output.code == Some(0),
            ends_well,
            "{names:?} {command}: {output:#?}"
        );
        assert!(
            ends_well || !output.stderr.is_empty(),
            "{names:?}: nothing is said"
        );
    }
}
