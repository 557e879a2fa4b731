//! What a person can do to a subscription in Stripe's Dashboard or in the portal: end it at a date, take that back,
//! pause it, delete its customer. Whatever it is, it is seen, said, and has its consequence.

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::crash::until;
use crate::stage::{
    Stage, access, count_of, id, stripe_time, subscribe, subscription, time_of, until_shown,
};

const PATH: &str = "/v1/billing/subscription";

/// The one subscription of a customer at Stripe.
fn only(stage: &Stage, customer: &str) -> Value {
    let all = stage.subscriptions(customer);
    let [one] = all.as_slice() else {
        panic!("{all:#?}")
    };
    one.clone()
}

/// A page of the portal that can end a subscription.
async fn portal(stage: &Stage, customer: &str) -> String {
    let features = [
        ("features[subscription_cancel][enabled]", "true"),
        ("features[payment_method_update][enabled]", "true"),
    ];
    let made = stage
        .stripe("/v1/billing_portal/configurations", &features)
        .await;
    let form = [("customer", customer), ("configuration", &id(&made))];
    let session = stage.stripe("/v1/billing_portal/sessions", &form).await;
    session["url"].as_str().expect("an address").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_the_portal_asked_for_is_shown_and_can_be_taken_back() {
    let stage = Stage::start().await;
    let (ada, api) = stage.subscriber("portal-end", "professional").await;
    let customer = stage.customer(&ada);
    let stripe_id = id(&only(&stage, &customer));
    let (path, page) = (
        format!("/v1/subscriptions/{stripe_id}"),
        portal(&stage, &customer).await,
    );
    let at_stripe = async || {
        let now = only(&stage, &customer);
        (
            now["cancel_at"].clone(),
            now["cancel_at_period_end"].clone(),
        )
    };
    let period_end = subscription(&api).await["current_period_end"].clone();
    assert_eq!(subscription(&api).await["cancel_at"], Value::Null);

    let form = [("action", "cancel"), ("subscription", stripe_id.as_str())];
    stage.page(&page, &form).await;
    assert_eq!(at_stripe().await.1, json!(false), "the portal sets a date");
    until_shown(&api, 10, "it ends", |shown| {
        shown["cancel_at"] == period_end
    })
    .await;
    assert_eq!(subscription(&api).await["cancel_at_period_end"], true);
    let back = api.post(&format!("{PATH}/resume"), &json!({})).await;
    let back = back.is(200).json();
    assert_eq!(
        (&back["cancel_at"], &back["cancel_at_period_end"]),
        (&Value::Null, &json!(false)),
        "{back}"
    );
    assert_eq!(at_stripe().await, (Value::Null, json!(false)));

    // A date of the operator's is that date, and no later end replaces it.
    let date = stage.now() + TimeDelta::days(9);
    let _ = stage
        .stripe(&path, &[("cancel_at", &date.timestamp().to_string())])
        .await;
    let is_shown = |shown: &Value| {
        shown["cancel_at"].is_string()
            && time_of(&shown["cancel_at"]) == date
            && shown["cancel_at_period_end"] == false
    };
    until_shown(&api, 10, "it ends at the date", is_shown).await;
    let ending = api
        .post(&format!("{PATH}/cancel"), &json!({ "at_period_end": true }))
        .await
        .is(200)
        .json();
    assert!(is_shown(&ending), "{ending}");
    // A change to another plan takes an end back, whichever it was.
    let changed = api
        .patch(PATH, &json!({ "plan": "studio", "interval": "month" }))
        .await
        .is(200)
        .json();
    assert_eq!(
        (&changed["plan"], &changed["cancel_at"]),
        (&json!("studio"), &Value::Null)
    );
    // What we ask for ourselves is said in the same way.
    let ending = api.post(&format!("{PATH}/cancel"), &json!({})).await;
    let ending = ending.is(200).json();
    assert_eq!(ending["cancel_at"], ending["current_period_end"]);
    let back = api.post(&format!("{PATH}/resume"), &json!({})).await;
    assert_eq!(back.is(200).json()["cancel_at"], Value::Null);

    stage.page(&page, &form).await;
    until_shown(&api, 10, "it ends", |shown| shown["cancel_at"].is_string()).await;
    stage.turn(TimeDelta::days(32));
    until_shown(&api, 15, "it has ended", |shown| {
        shown["plan"] == "free" && shown["status"] == "canceled" && shown["cancel_at"].is_null()
    })
    .await;
    stage.server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_is_declined_leaves_the_end_that_was_set() {
    let stage = Stage::start().await;
    let (ada, api) = stage.subscriber("declined-end", "professional").await;
    let customer = stage.customer(&ada);
    let path = format!("/v1/subscriptions/{}", id(&only(&stage, &customer)));
    let date = stage.now() + TimeDelta::days(9);
    let form = [("cancel_at", date.timestamp().to_string())];
    let _ = stage.stripe(&path, &[(form[0].0, &form[0].1)]).await;
    until_shown(&api, 10, "it ends", |shown| shown["cancel_at"].is_string()).await;
    stage
        .faults()
        .decline_next_charge(&customer, "insufficient_funds")
        .expect("a customer");
    api.patch(PATH, &json!({ "plan": "studio", "interval": "month" }))
        .await
        .problem(402, "payment_declined");
    assert_eq!(stripe_time(&only(&stage, &customer)["cancel_at"]), date);
}

/// What the workspace says when something is made, if it does not make it.
async fn refusal(api: &e2e::Api) -> Value {
    let made = api.post("/v1/libraries", &json!({ "name": "No" })).await;
    made.problem(402, "workspace_read_only")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_pause_has_its_own_reason_and_way_out() {
    let stage = Stage::start().await;
    // Somebody asked for it: nothing is charged, and nothing new is taken until it goes on.
    let (ada, api) = stage.subscriber("paused", "professional").await;
    let customer = stage.customer(&ada);
    let stripe_id = id(&only(&stage, &customer));
    assert_eq!(subscription(&api).await["paused"], Value::Null);
    stage.turn(TimeDelta::days(3));
    let since = stage.now();
    let _ = stage
        .stripe(
            &format!("/v1/subscriptions/{stripe_id}/pause"),
            &[("type", "subscription")],
        )
        .await;
    until_shown(&api, 10, "it is paused", |shown| {
        shown["status"] == "paused"
    })
    .await;
    let shown = subscription(&api).await;
    assert_eq!(shown["paused"]["reason"], "pause_requested", "{shown}");
    assert_eq!(time_of(&shown["paused"]["since"]), since);
    assert_eq!(access(&api).await, "read_only");
    let problem = refusal(&api).await;
    assert_eq!(problem["reason"], "subscription_paused", "{problem}");
    assert_eq!(time_of(&problem["since"]), since);
    let awake = api.post(&format!("{PATH}/resume"), &json!({})).await;
    let awake = awake.is(200).json();
    assert_eq!(
        (&awake["status"], &awake["paused"]),
        (&json!("active"), &Value::Null),
        "{awake}"
    );
    assert_eq!(access(&api).await, "full");

    // Collection alone is paused: Stripe calls it active, and says until when.
    let resumes = stage.now() + TimeDelta::days(20);
    let form = [
        ("pause_collection[behavior]", "void".to_owned()),
        (
            "pause_collection[resumes_at]",
            resumes.timestamp().to_string(),
        ),
    ];
    let form: Vec<_> = form
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let _ = stage
        .stripe(&format!("/v1/subscriptions/{stripe_id}"), &form)
        .await;
    until_shown(&api, 10, "collection is paused", |shown| {
        shown["paused"]["reason"] == "collection_paused"
    })
    .await;
    let shown = subscription(&api).await;
    assert_eq!(time_of(&shown["paused"]["resumes_at"]), resumes);
    assert_eq!(
        (&shown["status"], access(&api).await),
        (&json!("active"), json!("full"))
    );

    // The first payment failed: nobody speaks of a trial, and a card that pays leads out.
    let (eve, api) = stage.subscriber("unpaid-pause", "professional").await;
    let customer = stage.customer(&eve);
    let stripe_id = id(&only(&stage, &customer));
    stage
        .faults()
        .pause_subscription(&stripe_id, "first_payment_failure")
        .expect("a subscription");
    until_shown(&api, 10, "it is paused", |shown| {
        shown["paused"]["reason"] == "first_payment_failure"
    })
    .await;
    assert_eq!(refusal(&api).await["reason"], "payment_failed");
    let awake = api.post(&format!("{PATH}/resume"), &json!({})).await;
    assert_eq!(awake.is(200).json()["status"], "active");
    assert_eq!(access(&api).await, "full");

    // And a trial that ended without a card is what it was.
    let (_, api) = stage.owner("over").await;
    let order = json!({ "plan": "trial", "interval": "month" });
    let _ = api.post(PATH, &order).await.is(201);
    stage.settled().await;
    stage.turn(TimeDelta::days(15));
    until_shown(&api, 15, "the trial is over", |shown| {
        shown["paused"]["reason"] == "trial_end_without_payment_method"
    })
    .await;
    assert_eq!(refusal(&api).await["reason"], "trial_ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trials_card_that_wants_its_holder_is_said_so() {
    let stage = Stage::start().await;
    let (ada, api) = stage.owner("trial-secure").await;
    let answer = subscribe(&api, "trial", "pm_card_authenticationRequiredOnSetup").await;
    let problem = answer.problem(402, "payment_action_required");
    let secret = problem["client_secret"].as_str().expect("a secret");
    let (intent, _) = secret.split_once("_secret_").expect("it names its intent");
    assert!(intent.starts_with("seti_"), "{intent}");
    // It is there all the same, and its trial runs.
    assert_eq!(subscription(&api).await["status"], "trialing");
    assert_eq!(access(&api).await, "full");
    stage
        .faults()
        .authenticate(intent, true)
        .expect("the intent waits");
    stage.settled().await;
    stage.turn(TimeDelta::days(14) + TimeDelta::hours(2));
    until_shown(&api, 15, "it is paid", |shown| shown["status"] == "active").await;
    until(15, "a charge", async || {
        stage.state().paid_charges(&stage.customer(&ada)).len() == 1
    })
    .await;
    assert_eq!(access(&api).await, "full");
    // A card that wants nobody is not asked for anything.
    let (_, api) = stage.owner("trial-plain").await;
    let made = subscribe(&api, "trial", "pm_card_visa")
        .await
        .is(201)
        .json();
    assert_eq!(made["status"], "trialing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_whose_customer_is_gone_gets_a_new_one() {
    let stage = Stage::start().await;
    let (ada, api) = stage.subscriber("gone", "professional").await;
    let customer = stage.customer(&ada);
    let _ = api
        .post(
            &format!("{PATH}/cancel"),
            &json!({ "at_period_end": false }),
        )
        .await
        .is(200);
    stage.settled().await;
    // Nobody tells of the deletion.
    stage.faults().drop_webhooks(1_000, "*");
    let _ = stage
        .stripe_delete(&format!("/v1/customers/{customer}"))
        .await;
    let order = json!({ "plan": "professional", "interval": "month" });
    let seen = api.post(&format!("{PATH}/preview"), &order).await.is(200);
    assert_eq!(seen.json()["amount_now"], 2_900);
    let made = subscribe(&api, "professional", "pm_card_visa").await;
    assert_eq!(made.is(201).json()["status"], "active");
    let all = stage.state().objects("customer");
    let ours = all
        .iter()
        .filter(|c| c["metadata"]["rawdrive_workspace"] == ada.workspace_id.as_str());
    assert_eq!(ours.count(), 1, "{all:#?}");
    assert_eq!(count_of(&api, "billing.customer_deleted").await, 1);
    let portal = json!({ "return_url": "https://studio.example" });
    let _ = api.post("/v1/billing/portal", &portal).await.is(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_portal_needs_nothing_that_somebody_saved_in_the_dashboard() {
    let stage = Stage::start().await;
    let (ada, api) = stage.subscriber("portal", "professional").await;
    let portal = json!({ "return_url": "https://studio.example" });
    let opened = api.post("/v1/billing/portal", &portal).await.is(200);
    let made = stage.state().objects("billing_portal.configuration");
    let [made] = made.as_slice() else {
        panic!("{made:#?}")
    };
    let features = &made["features"];
    for feature in [
        "invoice_history",
        "payment_method_update",
        "subscription_cancel",
    ] {
        assert_eq!(features[feature]["enabled"], true, "{feature}");
    }
    let sessions = stage.state().objects("billing_portal.session");
    assert_eq!(sessions[0]["configuration"], made["id"]);
    // Synced again, it is found and not made again.
    let again = stage
        .server
        .admin(&["stripe", "sync-plans", "--json"])
        .await
        .succeeded();
    let again: Value = serde_json::from_str(&again.stdout).expect("JSON");
    assert_eq!(again["portal"], "present", "{again}");
    assert_eq!(stage.state().count("billing_portal.configuration"), 1);
    // And it works: the subscription can be ended there.
    let stripe_id = id(&only(&stage, &stage.customer(&ada)));
    let form = [("action", "cancel"), ("subscription", stripe_id.as_str())];
    stage.page(&opened.text("url"), &form).await;
    until_shown(&api, 10, "it ends", |shown| shown["cancel_at"].is_string()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_at_once_sends_its_parameters_as_stripes_libraries_do() {
    let stage = Stage::start().await;
    let (_, api) = stage.subscriber("deleted", "professional").await;
    let ended = api
        .post(
            &format!("{PATH}/cancel"),
            &json!({ "at_period_end": false }),
        )
        .await
        .is(200)
        .json();
    assert_eq!(ended["status"], "canceled", "{ended}");
    let calls = stage.state().calls();
    let delete = calls.iter().rfind(|call| call.method == "DELETE");
    let query = &delete.expect("a call").query;
    for parameter in ["invoice_now=false", "prorate=false"] {
        assert!(query.split('&').any(|pair| pair == parameter), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reconciliation_goes_on_past_a_customer_that_stripe_does_not_know() {
    let stage = Stage::start().await;
    let (ada, _) = stage.subscriber("lost", "professional").await;
    let (eve, api) = stage.subscriber("kept", "professional").await;
    let (zoe, other) = stage.subscriber("kept-too", "professional").await;
    stage.settled().await;
    let lost = stage.customer(&ada);
    let gone = id(&only(&stage, &lost));
    stage.faults().forget(&lost).expect("a customer");
    stage.faults().forget(&gone).expect("a subscription");
    stage.faults().drop_webhooks(1_000, "*");
    for actor in [&eve, &zoe] {
        let path = format!(
            "/v1/subscriptions/{}",
            id(&only(&stage, &stage.customer(actor)))
        );
        let _ = stage
            .stripe(&path, &[("cancel_at_period_end", "true")])
            .await;
    }
    let found = stage
        .server
        .admin(&["stripe", "reconcile", "--json"])
        .await
        .succeeded();
    let found: Value = serde_json::from_str(&found.stdout).expect("JSON");
    let drift = found["drift"].as_array().expect("a list").clone();
    let of = |kind: &str| -> Vec<Value> {
        let all = drift.iter().filter(|drift| drift["kind"] == kind);
        all.cloned().collect()
    };
    let unknown = of("unknown_customer");
    assert_eq!(unknown.len(), 1, "{found}");
    assert_eq!(unknown[0]["customer"], lost.as_str());
    assert_eq!(of("unknown_subscription")[0]["subscription"], gone.as_str());
    assert_eq!(of("stale_subscription").len(), 2, "{found}");
    for api in [&api, &other] {
        until_shown(api, 10, "it is healed", |shown| {
            shown["cancel_at"].is_string()
        })
        .await;
    }
}

/// As a key of another account would have it: the customer is unknown, and the subscription is paid for all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_whom_stripe_does_not_know_for_a_while_stays_linked() {
    let stage = Stage::start().await;
    let (ada, api) = stage.subscriber("unknown", "professional").await;
    stage.settled().await;
    let customer = stage.customer(&ada);
    let stripe_id = id(&only(&stage, &customer));
    stage.faults().forget(&customer).expect("a customer");
    let portal = json!({ "return_url": "https://studio.example" });
    // The second time too: it is the provider that refuses, and not a workspace without a subscription.
    for _ in 0..2 {
        let refused = api.post("/v1/billing/portal", &portal).await.is(409);
        assert_eq!(refused.json()["provider_code"], "resource_missing");
    }
    assert_eq!(subscription(&api).await["status"], "active");
    let path = format!("/v1/subscriptions/{stripe_id}");
    let _ = stage
        .stripe(&path, &[("cancel_at_period_end", "true")])
        .await;
    until_shown(&api, 10, "what happens to it is still theirs", |shown| {
        shown["cancel_at"].is_string()
    })
    .await;
}
