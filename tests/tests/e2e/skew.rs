//! The server's clock and Stripe's never agree to the second: a date of ours is moved into the period that Stripe says
//! is the current one.

use chrono::{DateTime, TimeDelta, Utc};
use e2e::Api;
use serde_json::{Value, json};

use crate::stage::{Stage, subscribe, subscription};

const PATH: &str = "/v1/billing/subscription";

fn order(plan: &str) -> Value {
    json!({ "plan": plan, "interval": "month" })
}

async fn preview(api: &Api, plan: &str) -> Value {
    let path = format!("{PATH}/preview");
    api.post(&path, &order(plan)).await.is(200).json()
}

async fn change(api: &Api, plan: &str, shown: Option<&Value>) -> Value {
    let mut body = order(plan);
    if let Some(shown) = shown {
        body["commit_token"] = shown["commit_token"].clone();
    }
    api.patch(PATH, &body).await.is(200).json()
}

fn time(of: &Value, member: &str) -> DateTime<Utc> {
    of[member]
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("{member} of {of}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_was_just_made_can_be_changed_whichever_clock_is_ahead() {
    let stage = Stage::start().await;
    for ahead in [-3, -1, 0, 3, -90] {
        for (plan, to) in [("professional", "studio"), ("trial", "professional")] {
            stage.skew(TimeDelta::seconds(ahead));
            let what = format!("{plan} to {to}, {ahead} s ahead");
            let (_, api) = stage.owner("skewed").await;
            let _ = subscribe(&api, plan, "pm_card_visa").await.is(201);
            // At once: nothing waits until the clocks have passed the period's beginning.
            let shown = preview(&api, to).await;
            assert_eq!(shown["effective"], "now", "{what}: {shown}");
            if plan == "professional" && ahead <= 0 {
                // The whole period is charged, not more than that.
                assert_eq!(shown["amount_now"], 9_900 - 2_900, "{what}: {shown}");
            }
            let changed = change(&api, to, Some(&shown)).await;
            assert_eq!(changed["plan"], to, "{what}: {changed}");
        }
    }
    // Without a preview as well.
    stage.skew(TimeDelta::seconds(-3));
    let (_, api) = stage.owner("unseen").await;
    let _ = subscribe(&api, "professional", "pm_card_visa")
        .await
        .is(201);
    assert_eq!(change(&api, "studio", None).await["plan"], "studio");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_period_that_is_over_by_one_clock_alone_can_be_changed_in() {
    let stage = Stage::start().await;
    let (_, early) = stage.subscriber("early", "professional").await;
    let (_, lagging) = stage.subscriber("lagging", "professional").await;
    stage.settled().await;
    let end = time(&subscription(&early).await, "current_period_end");

    // By ours it is over, by Stripe's not yet.
    stage.skew(TimeDelta::seconds(4));
    stage.turn_to(end - TimeDelta::seconds(2));
    let shown = preview(&early, "studio").await;
    let changed = change(&early, "studio", Some(&shown)).await;
    assert_eq!(changed["plan"], "studio", "{shown} {changed}");
    stage.settled().await;

    // By Stripe's it is over, and nobody has told us yet.
    stage.skew(TimeDelta::seconds(-3));
    stage.faults().hold_webhooks(true);
    stage.turn_to(end + TimeDelta::seconds(1));
    let shown = preview(&lagging, "studio").await;
    assert_eq!(shown["amount_now"], 9_900 - 2_900, "{shown}");
    let changed = change(&lagging, "studio", None).await;
    assert_eq!(changed["plan"], "studio", "{shown} {changed}");
    stage.faults().hold_webhooks(false);
    stage.settled().await;
}
