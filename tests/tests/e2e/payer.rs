//! Who pays, as Stripe knows them; and what becomes of money that is given back.

use e2e::{Actor, Api};
use serde_json::{Value, json};

use crate::crash::until;
use crate::stage::{Stage, access, id, subscription, until_shown};

fn customer_of(stage: &Stage, actor: &Actor) -> Value {
    let customer = stage.customer(actor);
    stage.state().object(&customer).expect("the customer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_customer_record_follows_the_workspace() {
    let stage = Stage::start().await;
    let (ada, api) = stage.subscriber("follows", "professional").await;
    // From the first day somebody gets Stripe's letters: the owner, as long as nobody else is named.
    assert_eq!(customer_of(&stage, &ada)["email"], ada.email.as_str());
    let change = json!({ "name": "Studio Äther", "billing_email": "bills@example.test" });
    let _ = api.patch("/v1/workspace", &change).await.is(200);
    until(20, "the record follows", async || {
        let now = customer_of(&stage, &ada);
        now["email"] == "bills@example.test" && now["name"] == "Studio Äther"
    })
    .await;
    // Also when Stripe was down, and when it changed twice meanwhile.
    stage.faults().down(true);
    for email in ["first@example.test", "second@example.test"] {
        let change = json!({ "billing_email": email });
        let _ = api.patch("/v1/workspace", &change).await.is(200);
    }
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    stage.faults().down(false);
    until(60, "the record follows", async || {
        customer_of(&stage, &ada)["email"] == "second@example.test"
    })
    .await;
    // Nobody is named any more: it is the owner's again.
    let _ = api
        .patch("/v1/workspace", &json!({ "billing_email": null }))
        .await
        .is(200);
    until(20, "the record follows", async || {
        customer_of(&stage, &ada)["email"] == ada.email.as_str()
    })
    .await;
    // What is as it should be is not written again.
    stage.settled().await;
    let path = format!("/v1/customers/{}", stage.customer(&ada));
    let calls = stage.state().calls_to("POST", &path);
    let _ = stage
        .server
        .admin(&["stripe", "reconcile"])
        .await
        .succeeded();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(stage.state().calls_to("POST", &path), calls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reconciliation_sees_a_record_that_somebody_changed_at_stripe() {
    let stage = Stage::start().await;
    let (ada, _) = stage.subscriber("by-hand", "professional").await;
    stage.settled().await;
    stage.faults().drop_webhooks(1_000, "*");
    let path = format!("/v1/customers/{}", stage.customer(&ada));
    let _ = stage.stripe(&path, &[("email", "typo@example.test")]).await;
    let found = stage
        .server
        .admin(&["stripe", "reconcile", "--json"])
        .await
        .succeeded();
    let found: Value = serde_json::from_str(&found.stdout).expect("JSON");
    let drift = found["drift"].as_array().expect("a list");
    assert!(
        drift.iter().any(|d| d["kind"] == "stale_customer"),
        "{found}"
    );
    until(30, "the record is right again", async || {
        customer_of(&stage, &ada)["email"] == ada.email.as_str()
    })
    .await;
}

async fn refunds(api: &Api) -> Vec<i64> {
    let log = api.list_all("/v1/workspace/audit", 100).await;
    let told = log
        .iter()
        .rev()
        .filter(|entry| entry["action"] == "charge.refunded");
    told.map(|entry| entry["after"]["refunded"].as_i64().expect("an amount"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_refund_is_told_by_itself() {
    let stage = Stage::start().await;
    let (ada, api) = stage.subscriber("refunds", "professional").await;
    let charge = id(&stage.state().paid_charges(&stage.customer(&ada))[0]);
    for (amount, all) in [("1000", vec![1_000]), ("500", vec![1_000, 500])] {
        let form = [("charge", charge.as_str()), ("amount", amount)];
        let _ = stage.stripe("/v1/refunds", &form).await;
        until(20, "it is told", async || refunds(&api).await == all).await;
    }
    // Two before anybody looks.
    stage.faults().hold_webhooks(true);
    for amount in ["300", "200"] {
        let form = [("charge", charge.as_str()), ("amount", amount)];
        let _ = stage.stripe("/v1/refunds", &form).await;
    }
    stage.faults().hold_webhooks(false);
    until(20, "both are told", async || {
        let mut told = refunds(&api).await;
        told.sort_unstable();
        told == [200, 300, 500, 1_000]
    })
    .await;
    stage.settled().await;
    let letters = stage.server.letters_to(&ada.email, 0).await;
    for amount in ["10.00 USD", "5.00 USD", "3.00 USD", "2.00 USD"] {
        let said = letters
            .iter()
            .filter(|l| l.contains(&format!("{amount} were given back")));
        assert_eq!(said.count(), 1, "{amount}: {letters:#?}");
    }
    // What was given back in part changes nothing.
    assert_eq!(access(&api).await, "full");
}

async fn refund_all(stage: &Stage, actor: &Actor) {
    let charge = id(&stage.state().paid_charges(&stage.customer(actor))[0]);
    let _ = stage.stripe("/v1/refunds", &[("charge", &charge)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_becomes_of_a_payment_that_is_taken_back_is_the_operators_choice() {
    // By default nothing but a remark.
    let stage = Stage::start().await;
    let (ada, api) = stage.subscriber("keep", "professional").await;
    refund_all(&stage, &ada).await;
    until(20, "it is told", async || refunds(&api).await == [2_900]).await;
    stage.settled().await;
    assert_eq!(access(&api).await, "full");
    let report = stage.server.admin(&["doctor"]).await.succeeded();
    assert!(
        report.stdout.contains("was taken back"),
        "{}",
        report.stdout
    );

    let stage = Stage::start_with(&[("RAWDRIVE_REVERSAL_POLICY", "read_only")]).await;
    let (ada, api) = stage.subscriber("read-only", "professional").await;
    stage.settled().await;
    let charge = id(&stage.state().paid_charges(&stage.customer(&ada))[0]);
    let dispute = stage
        .faults()
        .dispute(&charge, "fraudulent")
        .expect("a charge");
    stage.settled().await;
    assert_eq!(access(&api).await, "full", "nothing is decided yet");
    stage
        .faults()
        .decide_dispute(&dispute, false)
        .expect("a dispute");
    until(20, "it is read-only", async || {
        access(&api).await == "read_only"
    })
    .await;
    let problem = api
        .post("/v1/libraries", &json!({ "name": "No" }))
        .await
        .problem(402, "workspace_read_only");
    assert_eq!(problem["reason"], "payment_reversed");
    // The next payment that stays opens it again.
    stage.turn(chrono::TimeDelta::days(31));
    until(20, "it is open", async || access(&api).await == "full").await;

    let stage = Stage::start_with(&[("RAWDRIVE_REVERSAL_POLICY", "end")]).await;
    let (eve, api) = stage.subscriber("end", "professional").await;
    stage.settled().await;
    refund_all(&stage, &eve).await;
    until_shown(&api, 30, "it has ended", |shown| {
        shown["status"] == "canceled"
    })
    .await;
    assert_eq!(subscription(&api).await["plan"], "free");
}
