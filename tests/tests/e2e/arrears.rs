//! Who owes, since when, and until when that is forgiven: invoices by mail, debts that were forgiven, and what the
//! account's setting makes of a subscription that nobody pays.

use chrono::{DateTime, TimeDelta, Utc};
use e2e::{Actor, Api};
use rawdrive_stripe_double::FinalAction;
use serde_json::{Value, json};

use crate::crash::until;
use crate::stage::{Stage, access, id, stripe_time, subscribe, subscription, time_of, until_shown};

const GRACE: TimeDelta = TimeDelta::days(14);

/// The invoices of a customer at Stripe, oldest first.
fn invoices(stage: &Stage, customer: &str) -> Vec<Value> {
    let mut all = stage.state().objects("invoice");
    all.retain(|invoice| invoice["customer"] == customer);
    all
}

fn with_status(stage: &Stage, customer: &str, status: &str) -> Vec<Value> {
    let mut all = invoices(stage, customer);
    all.retain(|invoice| invoice["status"] == status);
    all
}

fn stripe_path(stage: &Stage, customer: &str) -> String {
    let all = stage.subscriptions(customer);
    format!(
        "/v1/subscriptions/{}",
        id(all.last().expect("a subscription"))
    )
}

pub(crate) fn decline(stage: &Stage, customer: &str, times: usize) {
    for _ in 0..times {
        stage
            .faults()
            .decline_next_charge(customer, "insufficient_funds")
            .expect("a customer");
    }
}

async fn said(stage: &Stage, to: &Actor, words: &str) -> usize {
    let letters = stage.server.letters_to(&to.email, 0).await;
    letters.iter().filter(|l| l.contains(words)).count()
}

pub(crate) async fn turn_to(stage: &Stage, at: DateTime<Utc>) {
    stage.settled().await;
    stage.turn_to(at);
    stage.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invoice_by_mail_is_forgiven_from_its_due_date_and_no_longer() {
    let stage = Stage::start().await;
    let (ada, api) = stage.subscriber("by-mail", "professional").await;
    let customer = stage.customer(&ada);
    let form = [
        ("collection_method", "send_invoice"),
        ("days_until_due", "7"),
    ];
    let _ = stage.stripe(&stripe_path(&stage, &customer), &form).await;
    until_shown(&api, 10, "it is billed by mail", |shown| {
        shown["collection_method"] == "send_invoice"
    })
    .await;
    let renewal = time_of(&subscription(&api).await["current_period_end"]);
    turn_to(&stage, renewal + TimeDelta::hours(2)).await;
    let open = with_status(&stage, &customer, "open");
    let [first] = open.as_slice() else {
        panic!("{open:#?}")
    };
    let due = stripe_time(&first["due_date"]);
    // Not due yet: nothing is forgiven, since nothing is owed.
    turn_to(&stage, due - TimeDelta::minutes(1)).await;
    let shown = subscription(&api).await;
    assert_eq!(
        (&shown["status"], &shown["grace_until"]),
        (&json!("active"), &Value::Null),
        "{shown}"
    );
    assert_eq!(access(&api).await, "full");

    turn_to(&stage, due + TimeDelta::minutes(1)).await;
    until_shown(&api, 15, "it is overdue", |shown| {
        shown["grace_until"].is_string()
    })
    .await;
    let shown = subscription(&api).await;
    assert_eq!(shown["status"], "past_due", "{shown}");
    assert_eq!(time_of(&shown["grace_until"]), due + GRACE);
    assert_eq!(access(&api).await, "grace");
    until(20, "it is said", async || {
        said(&stage, &ada, "an invoice is overdue").await == 1
    })
    .await;

    // Later invoices change nothing: it is read-only when it would have been, and stays so.
    turn_to(&stage, due + GRACE + TimeDelta::seconds(1)).await;
    assert_eq!(access(&api).await, "read_only");
    turn_to(&stage, due + TimeDelta::days(100)).await;
    assert!(with_status(&stage, &customer, "open").len() > 3);
    assert_eq!(access(&api).await, "read_only");
    let problem = api
        .post("/v1/libraries", &json!({ "name": "No" }))
        .await
        .problem(402, "workspace_read_only");
    assert_eq!(
        (&problem["reason"], time_of(&problem["since"])),
        (&json!("payment_failed"), due + GRACE)
    );

    // A transfer arrives, and the operator writes it down.
    for open in with_status(&stage, &customer, "open") {
        let path = format!("/v1/invoices/{}/pay", id(&open));
        let _ = stage.stripe(&path, &[("paid_out_of_band", "true")]).await;
    }
    until(5, "it is opened at once", async || {
        access(&api).await == "full"
    })
    .await;
    stage.settled().await;
    let shown = subscription(&api).await;
    assert_eq!(
        (&shown["status"], &shown["grace_until"]),
        (&json!("active"), &Value::Null)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_forgiven_or_is_old_takes_nothing_from_the_next_failure() {
    let stage = Stage::start_at(|account| {
        account.retry_days = vec![3];
        account.final_action = FinalAction::PastDue;
    })
    .await;
    let (ada, api) = stage.subscriber("forgiven", "professional").await;
    let customer = stage.customer(&ada);
    let fails = async |number: usize| {
        let renewal = time_of(&subscription(&api).await["current_period_end"]);
        decline(&stage, &customer, 2);
        turn_to(&stage, renewal + TimeDelta::hours(2)).await;
        until_shown(&api, 15, "it is forgiven", |shown| {
            shown["grace_until"].is_string()
        })
        .await;
        let failed = renewal + TimeDelta::hours(1);
        let shown = subscription(&api).await;
        assert_eq!(time_of(&shown["grace_until"]), failed + GRACE, "{shown}");
        assert_eq!(access(&api).await, "grace");
        until(20, "each failure is said", async || {
            said(&stage, &ada, "a payment failed").await == number
        })
        .await;
        turn_to(&stage, failed + TimeDelta::days(4)).await;
    };
    fails(1).await;
    // The operator gives it up: Stripe calls the subscription active again.
    let open = with_status(&stage, &customer, "open");
    let path = format!("/v1/invoices/{}/mark_uncollectible", id(&open[0]));
    let _ = stage.stripe(&path, &[]).await;
    until_shown(&api, 10, "it is active", |shown| {
        shown["status"] == "active"
    })
    .await;
    assert_eq!(access(&api).await, "full");
    fails(2).await;
    // This one stays open; the next is paid, and Stripe's rule is that the latest decides.
    let renewal = time_of(&subscription(&api).await["current_period_end"]);
    turn_to(&stage, renewal + TimeDelta::hours(2)).await;
    until_shown(&api, 10, "it is active", |shown| {
        shown["status"] == "active"
    })
    .await;
    assert_eq!(with_status(&stage, &customer, "open").len(), 1);
    assert_eq!(access(&api).await, "full");
    fails(3).await;
}

/// A renewal has just failed, on an account with one retry a day later and a setting for what follows.
pub(crate) async fn failed_at(
    action: FinalAction,
    name: &str,
) -> (Stage, Actor, Api, String, DateTime<Utc>) {
    let stage = Stage::start_at(|account| {
        account.retry_days = vec![1];
        account.final_action = action;
    })
    .await;
    let (ada, api) = stage.subscriber(name, "professional").await;
    let customer = stage.customer(&ada);
    let renewal = time_of(&subscription(&api).await["current_period_end"]);
    decline(&stage, &customer, 2);
    turn_to(&stage, renewal + TimeDelta::hours(2)).await;
    let failed = renewal + TimeDelta::hours(1);
    turn_to(&stage, failed + TimeDelta::days(2)).await;
    (stage, ada, api, customer, failed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_stripe_cancels_early_keeps_its_grace_and_no_more() {
    let (stage, ada, api, _, failed) = failed_at(FinalAction::Cancel, "canceled-early").await;
    let shown = subscription(&api).await;
    assert_eq!(
        (&shown["status"], &shown["plan"]),
        (&json!("canceled"), &json!("professional")),
        "{shown}"
    );
    assert_eq!(time_of(&shown["grace_until"]), failed + GRACE);
    assert_eq!(access(&api).await, "grace");
    turn_to(&stage, failed + GRACE - TimeDelta::hours(3)).await;
    until(20, "the last day is told", async || {
        said(&stage, &ada, "the last day").await == 1
    })
    .await;
    // Nobody is told that a payment brings back what has ended.
    let letters = stage.server.letters_to(&ada.email, 0).await;
    let last = letters.iter().find(|l| l.contains("the last day"));
    let last = last.expect("a letter");
    assert!(last.contains("subscribe again"), "{last}");
    assert!(!last.contains("until it is paid"), "{last}");
    turn_to(&stage, failed + GRACE + TimeDelta::seconds(1)).await;
    let shown = subscription(&api).await;
    assert_eq!(
        (&shown["plan"], &shown["grace_until"], access(&api).await),
        (&json!("free"), &Value::Null, json!("full")),
        "{shown}"
    );
    let made = subscribe(&api, "professional", "pm_card_visa").await;
    assert_eq!(made.is(201).json()["plan"], "professional");
    stage.server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_subscribes_again_in_that_grace_has_it_at_once() {
    let (stage, _, api, customer, _) = failed_at(FinalAction::Cancel, "again").await;
    assert_eq!(access(&api).await, "grace");
    let made = subscribe(&api, "studio", "pm_card_visa").await;
    let made = made.is(201).json();
    assert_eq!(
        (&made["plan"], &made["status"], &made["grace_until"]),
        (&json!("studio"), &json!("active"), &Value::Null)
    );
    assert_eq!(access(&api).await, "full");
    assert_eq!(stage.subscriptions(&customer).len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unpaid_subscription_is_never_full_and_a_payment_collects_what_was_written_meanwhile() {
    let (stage, _, api, customer, failed) = failed_at(FinalAction::Unpaid, "unpaid").await;
    let shown = subscription(&api).await;
    assert_eq!(shown["status"], "unpaid", "{shown}");
    assert_eq!(time_of(&shown["grace_until"]), failed + GRACE);
    assert_eq!(access(&api).await, "grace");
    turn_to(&stage, failed + TimeDelta::days(70)).await;
    assert_eq!(access(&api).await, "read_only");
    assert_eq!(with_status(&stage, &customer, "draft").len(), 2);
    // The card pays again, and the invoice that failed is paid on its page.
    let open = with_status(&stage, &customer, "open");
    let page = open[0]["hosted_invoice_url"].as_str().expect("a page");
    let client = reqwest::Client::new();
    let paid = client
        .post(page)
        .header("content-type", crate::stage::FORM)
        .body("card=4242424242424242")
        .send()
        .await
        .expect("the page answers");
    assert!(paid.status().is_success());
    until(30, "what was written meanwhile is collected", async || {
        with_status(&stage, &customer, "draft").is_empty()
            && with_status(&stage, &customer, "open").is_empty()
    })
    .await;
    until_shown(&api, 15, "it is active", |shown| {
        shown["status"] == "active"
    })
    .await;
    assert_eq!(access(&api).await, "full");
    assert_eq!(stage.state().paid_charges(&customer).len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unpaid_subscription_goes_on_by_resuming_it() {
    let (stage, _, api, customer, failed) = failed_at(FinalAction::Unpaid, "unpaid-resumed").await;
    turn_to(&stage, failed + TimeDelta::days(40)).await;
    assert_eq!(access(&api).await, "read_only");
    let resume = "/v1/billing/subscription/resume";
    // What is refused leaves it as it is.
    decline(&stage, &customer, 1);
    api.post(resume, &json!({}))
        .await
        .problem(402, "payment_declined");
    assert_eq!(access(&api).await, "read_only");
    let awake = api.post(resume, &json!({})).await.is(200).json();
    assert_eq!(awake["status"], "active", "{awake}");
    assert_eq!(access(&api).await, "full");
    assert_eq!(with_status(&stage, &customer, "paid").len(), 3);
    assert_eq!(stage.state().paid_charges(&customer).len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_stripe_leaves_past_due_is_read_only_after_its_grace() {
    let (stage, _, api, customer, failed) = failed_at(FinalAction::PastDue, "past-due").await;
    assert_eq!(subscription(&api).await["status"], "past_due");
    assert_eq!(access(&api).await, "grace");
    decline(&stage, &customer, 10);
    turn_to(&stage, failed + TimeDelta::days(70)).await;
    let shown = subscription(&api).await;
    assert_eq!(
        (&shown["status"], access(&api).await),
        (&json!("past_due"), json!("read_only")),
        "{shown}"
    );
}
