//! `rawdrive serve --dev`: the Stripe that it brings remembers what it sold; and what every start tells a newcomer.

use std::process::Command;

use e2e::Server;
use serde_json::{Value, json};

use crate::crash::until;
use crate::stage::{PLANS, all_projected, subscribe, subscription, until_shown};

/// What the server's own Stripe has written of itself.
fn kept(server: &Server) -> Value {
    let path = server.data_dir().join("stripe-double.json");
    let bytes = std::fs::read(path).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_of_the_development_outlives_the_server() {
    let folder = tempfile::tempdir().expect("failed to make a directory");
    let plans = folder.path().join("plans.toml");
    std::fs::write(&plans, PLANS).expect("failed to write the plans");
    let plans = plans.to_str().expect("a path of text");
    let server = Server::start_with(&[("RAWDRIVE_DEV", "1"), ("RAWDRIVE_PLANS", plans)]);
    let owner = server.sign_up("newcomer").await;
    let _ = subscribe(&owner, "professional", "pm_card_visa")
        .await
        .is(201);
    until(
        60,
        "the sale is written, and told to the server",
        async || {
            let kept = kept(&server);
            kept["objects"]["subscription"][0]["status"] == "active"
                && kept["webhooks"] == json!([])
        },
    )
    .await;
    all_projected(&server, 60).await;
    let sold = kept(&server)["objects"]["subscription"][0]["id"].clone();

    server.restart();
    let shown = subscription(&owner).await;
    assert_eq!(shown["plan"], "professional", "{shown}");
    // Each of these is a call about the customer of before.
    let _ = owner
        .post("/v1/billing/subscription/cancel", &json!({}))
        .await
        .is(200);
    until_shown(&owner, 30, "the planned end", |shown| {
        shown["cancel_at_period_end"] == true
    })
    .await;
    let _ = owner
        .post("/v1/billing/subscription/resume", &json!({}))
        .await
        .is(200);
    let mut body = json!({ "plan": "studio", "interval": "month" });
    let seen = owner
        .post("/v1/billing/subscription/preview", &body)
        .await
        .is(200)
        .json();
    body["commit_token"] = seen["commit_token"].clone();
    let _ = owner.patch("/v1/billing/subscription", &body).await.is(200);
    until_shown(&owner, 30, "the other plan", |shown| {
        shown["plan"] == "studio"
    })
    .await;
    until(60, "the change is written as well", async || {
        let kept = kept(&server);
        let invoices = kept["objects"]["invoice"].as_array().map_or(0, Vec::len);
        kept["objects"]["subscription"][0]["id"] == sold && invoices == 2
    })
    .await;

    // What nobody can read is not taken for nothing.
    server.kill9();
    let path = server.data_dir().join("stripe-double.json");
    std::fs::write(&path, "{").expect("failed to spoil the file");
    let refused = server.admin(&["serve"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused
            .stderr
            .contains(path.to_str().expect("a path of text")),
        "{refused:?}"
    );
    let spoiled = std::fs::read_to_string(&path).expect("it is still there");
    assert_eq!(spoiled, "{");
}

/// What the start has told under a name.
fn told(server: &Server, name: &str) -> Option<String> {
    let log = server.log();
    let mut lines = log.lines().map(str::trim_start);
    lines.find_map(|line| Some(line.strip_prefix(name)?.trim_start().to_owned()))
}

/// By a client that we did not write.
fn curl(arguments: &[&str]) -> Value {
    let output = Command::new("curl")
        .arg("--silent")
        .args(arguments)
        .output()
        .expect("there is a curl");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_start_tells_how_the_developments_stripe_is_called_and_where_mails_lie() {
    let server = Server::start_with(&[("RAWDRIVE_DEV", "1")]);
    let url = told(&server, "STRIPE_API_URL=").expect("an address");
    let key = told(&server, "STRIPE_SECRET_KEY=").expect("a key");
    let prices = format!("{url}/v1/prices");
    let shown = curl(&[&prices, "--user", &format!("{key}:")]);
    let of_plans = shown["data"].as_array().map_or(0, Vec::len);
    assert!(of_plans > 0, "{shown}");
    let refused = curl(&[&prices, "--user", "sk_test_another:"]);
    assert_eq!(
        refused["error"]["type"], "invalid_request_error",
        "{refused}"
    );

    let mails = server.data_dir().join("mail");
    let line = told(&server, "mail ").expect("a line about mails");
    assert!(
        line.contains(mails.to_str().expect("a path of text")),
        "{line}"
    );
    let owner = server.sign_up("reader").await;
    let body = json!({ "email": owner.email });
    let _ = server.anonymous().post("/v1/password-resets", &body).await;
    let letters = server.letters_to(&owner.email, 1).await;
    assert_eq!(
        letters.len(),
        std::fs::read_dir(&mails).expect("it is there").count()
    );

    // None of it where it is not so.
    let smtp = ("RAWDRIVE_SMTP_URL", "smtp://127.0.0.1:1");
    let server = Server::start_with(&[smtp]);
    assert_eq!(told(&server, "mail "), None, "{}", server.log());
    assert!(!server.log().contains("STRIPE_"), "{}", server.log());
}
