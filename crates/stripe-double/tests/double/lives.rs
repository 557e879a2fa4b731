//! Lives of subscriptions, driven by the clock.

use rawdrive_stripe_double::FinalAction;
use serde_json::json;

use crate::support::{Bench, at, id, text};

fn period(subscription: &serde_json::Value) -> (i64, i64) {
    let item = &subscription["items"]["data"][0];
    let read = |key: &str| item[key].as_i64().expect("an item has a period");
    (read("current_period_start"), read("current_period_end"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_renews_on_its_anchor_day_clamped_to_the_month() {
    let bench = Bench::new();
    let price = bench.price("Professional", "2900", "month").await;
    let customer = bench.customer("pm_card_visa").await;
    let subscription = bench.subscribe(&customer, &price, &[]).await.ok();
    assert_eq!(subscription["status"], "active");
    assert_eq!(
        period(&subscription),
        (at("2027-01-31T10:00:00Z"), at("2027-02-28T10:00:00Z"))
    );

    // Five months at once: everything in between happens at its own time.
    bench.travel_to("2027-07-01T00:00:00Z");
    let subscription = bench.subscription(&id(&subscription)).await;
    assert_eq!(
        period(&subscription),
        (at("2027-06-30T10:00:00Z"), at("2027-07-31T10:00:00Z"))
    );
    let charges = bench.double.state().paid_charges(&customer);
    let times: Vec<_> = charges
        .iter()
        .map(|charge| charge["created"].as_i64())
        .collect();
    assert_eq!(
        times,
        [
            at("2027-01-31T10:00:00Z"),
            at("2027-02-28T11:00:00Z"),
            at("2027-03-31T11:00:00Z"),
            at("2027-04-30T11:00:00Z"),
            at("2027-05-31T11:00:00Z"),
            at("2027-06-30T11:00:00Z"),
        ]
        .map(Some)
    );
    let events = bench.double.state().events();
    let times: Vec<_> = events
        .iter()
        .map(|event| event["created"].as_i64())
        .collect();
    assert!(times.is_sorted(), "events come about in the order of time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_is_a_draft_for_an_hour() {
    let bench = Bench::new();
    let price = bench.price("Professional", "2900", "month").await;
    let customer = bench.customer("pm_card_visa").await;
    let subscription = bench.subscribe(&customer, &price, &[]).await.ok();
    bench.travel_to("2027-02-28T10:30:00Z");
    let subscription = bench.subscription(&id(&subscription)).await;
    let draft = bench.invoice(text(&subscription, "latest_invoice")).await;
    assert_eq!(draft["status"], "draft");
    assert_eq!(draft["billing_reason"], "subscription_cycle");
    assert_eq!(
        draft["automatically_finalizes_at"],
        at("2027-02-28T11:00:00Z")
    );
    assert_eq!(draft["period_start"], at("2027-01-31T10:00:00Z"));
    assert_eq!(draft["period_end"], at("2027-02-28T10:00:00Z"));
    assert_eq!(
        draft["lines"]["data"][0]["period"],
        json!({ "start": at("2027-02-28T10:00:00Z"), "end": at("2027-03-31T10:00:00Z") })
    );
    bench.travel_to("2027-02-28T11:00:00Z");
    let paid = bench.invoice(&id(&draft)).await;
    assert_eq!(paid["status"], "paid");
    assert_eq!(
        paid["status_transitions"]["paid_at"],
        at("2027-02-28T11:00:00Z")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_subscription_expires_after_23_hours() {
    let bench = Bench::new();
    let price = bench.price("Professional", "2900", "month").await;
    let customer = bench.customer("pm_card_chargeCustomerFail").await;
    let subscription = bench.subscribe(&customer, &price, &[]).await.ok();
    assert_eq!(subscription["status"], "incomplete");
    let invoice = bench.invoice(text(&subscription, "latest_invoice")).await;
    assert_eq!(invoice["status"], "open");
    assert_eq!(invoice["attempt_count"], 1);
    assert!(invoice["next_payment_attempt"].is_null());

    bench.travel_to("2027-02-01T08:59:59Z");
    let waiting = bench.subscription(&id(&subscription)).await;
    assert_eq!(waiting["status"], "incomplete");
    bench.travel_to("2027-02-01T09:00:00Z");
    let expired = bench.subscription(&id(&subscription)).await;
    assert_eq!(expired["status"], "incomplete_expired");
    let invoice = bench.invoice(&id(&invoice)).await;
    assert_eq!(invoice["status"], "void");
    let listed = bench.get("/v1/subscriptions").await.ok();
    assert_eq!(listed["data"], json!([]));
    let all = bench.get("/v1/subscriptions?status=all").await.ok();
    assert_eq!(all["data"].as_array().map(Vec::len), Some(1));
}

async fn declining_renewal(bench: &Bench) -> (String, String) {
    let price = bench.price("Professional", "2900", "month").await;
    let customer = bench.customer("pm_card_visa").await;
    let subscription = id(&bench.subscribe(&customer, &price, &[]).await.ok());
    bench
        .give_card(&customer, "pm_card_chargeCustomerFail")
        .await;
    (customer, subscription)
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_renewals_are_retried_and_then_the_subscription_is_canceled() {
    let bench = Bench::new();
    let (customer, id) = declining_renewal(&bench).await;
    bench.travel_to("2027-02-28T11:00:00Z");
    let subscription = bench.subscription(&id).await;
    assert_eq!(subscription["status"], "past_due");
    let invoice = bench.invoice(text(&subscription, "latest_invoice")).await;
    assert_eq!(invoice["attempt_count"], 1);
    assert_eq!(invoice["next_payment_attempt"], at("2027-03-03T11:00:00Z"));
    bench.travel_to("2027-03-03T11:00:00Z");
    let invoice = bench.invoice(text(&invoice, "id")).await;
    assert_eq!(invoice["attempt_count"], 2);
    assert_eq!(invoice["next_payment_attempt"], at("2027-03-08T11:00:00Z"));
    bench.travel_to("2027-03-15T10:59:59Z");
    assert_eq!(bench.subscription(&id).await["status"], "past_due");
    bench.travel_to("2027-03-15T11:00:00Z");
    let subscription = bench.subscription(&id).await;
    assert_eq!(subscription["status"], "canceled");
    assert_eq!(
        subscription["cancellation_details"]["reason"],
        "payment_failed"
    );
    assert_eq!(subscription["ended_at"], at("2027-03-15T11:00:00Z"));
    let invoice = bench.invoice(text(&invoice, "id")).await;
    assert_eq!(invoice["status"], "open");
    assert_eq!(invoice["auto_advance"], false);
    assert_eq!(bench.double.state().paid_charges(&customer).len(), 1);
    bench.travel_to("2027-12-01T00:00:00Z");
    assert_eq!(bench.double.state().paid_charges(&customer).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpaid_subscription_drafts_invoices_and_paying_the_latest_revives_it() {
    let bench = Bench::with(|config| config.account.final_action = FinalAction::Unpaid);
    let (customer, id) = declining_renewal(&bench).await;
    bench.travel_to("2027-04-02T00:00:00Z");
    let subscription = bench.subscription(&id).await;
    assert_eq!(subscription["status"], "unpaid");
    let latest = bench.invoice(text(&subscription, "latest_invoice")).await;
    assert_eq!(latest["status"], "draft");
    assert_eq!(latest["auto_advance"], false);
    bench.give_card(&customer, "pm_card_visa").await;
    let path = format!("/v1/invoices/{}/pay", text(&latest, "id"));
    assert_eq!(bench.post(&path, &[]).await.ok()["status"], "paid");
    assert_eq!(bench.subscription(&id).await["status"], "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_card_ends_past_due_at_the_next_retry() {
    let bench = Bench::with(|config| config.account.final_action = FinalAction::PastDue);
    let (customer, id) = declining_renewal(&bench).await;
    bench.travel_to("2027-03-01T00:00:00Z");
    bench.give_card(&customer, "pm_card_visa").await;
    bench.travel_to("2027-03-03T11:00:00Z");
    assert_eq!(bench.subscription(&id).await["status"], "active");
    let event = bench.last_event("customer.subscription.updated");
    assert_eq!(
        event["data"]["previous_attributes"],
        json!({ "status": "past_due" })
    );
    assert_eq!(event["request"]["id"], json!(null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_warns_three_days_before_and_ends_into_a_payment() {
    let bench = Bench::new();
    let price = bench.price("Professional", "2900", "month").await;
    let customer = bench.customer("pm_card_visa").await;
    let trial = [("trial_period_days", "14")];
    let subscription = bench.subscribe(&customer, &price, &trial).await.ok();
    assert_eq!(subscription["status"], "trialing");
    assert_eq!(subscription["trial_end"], at("2027-02-14T10:00:00Z"));
    let invoice = bench.invoice(text(&subscription, "latest_invoice")).await;
    assert_eq!(
        (&invoice["total"], &invoice["status"]),
        (&json!(0), &json!("paid"))
    );
    bench.travel_to("2027-02-11T09:59:59Z");
    let told = |bench: &Bench| {
        let types = bench.event_types();
        let kind = "customer.subscription.trial_will_end";
        types.iter().filter(|own| *own == kind).count()
    };
    assert_eq!(told(&bench), 0);
    bench.travel_to("2027-02-11T10:00:00Z");
    assert_eq!(told(&bench), 1);
    bench.travel_to("2027-02-14T11:00:00Z");
    let subscription = bench.subscription(&id(&subscription)).await;
    assert_eq!(subscription["status"], "active");
    assert_eq!(
        period(&subscription),
        (at("2027-02-14T10:00:00Z"), at("2027-03-14T10:00:00Z"))
    );
    let paid = bench.double.state().paid_charges(&customer);
    assert_eq!(paid.len(), 1);
    assert_eq!(paid[0]["amount"], 2900);
    assert_eq!(told(&bench), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_without_a_card_ends_as_it_was_told_to() {
    let bench = Bench::new();
    let price = bench.price("Professional", "2900", "month").await;
    let mut ends = Vec::new();
    for behavior in ["cancel", "pause", "create_invoice"] {
        let customer = id(&bench.post("/v1/customers", &[]).await.ok());
        let terms = [
            ("trial_period_days", "7"),
            (
                "trial_settings[end_behavior][missing_payment_method]",
                behavior,
            ),
        ];
        let subscription = bench.subscribe(&customer, &price, &terms).await.ok();
        assert_eq!(subscription["status"], "trialing");
        assert!(subscription["pending_setup_intent"].is_string());
        ends.push((customer, id(&subscription)));
    }
    bench.travel_to("2027-02-07T11:00:00Z");
    let mut statuses = Vec::new();
    for (_, subscription) in &ends {
        statuses.push(text(&bench.subscription(subscription).await, "status").to_owned());
    }
    assert_eq!(statuses, ["canceled", "paused", "past_due"]);

    let (customer, paused) = &ends[1];
    let path = format!("/v1/subscriptions/{paused}/resume");
    bench.post(&path, &[]).await.error(400);
    bench.give_card(customer, "pm_card_visa").await;
    let resumed = bench.post(&path, &[]).await.ok();
    assert_eq!(resumed["status"], "active");
    assert_eq!(
        period(&resumed),
        (at("2027-02-07T11:00:00Z"), at("2027-03-07T11:00:00Z"))
    );
    assert_eq!(bench.double.state().paid_charges(customer).len(), 1);
    bench.last_event("customer.subscription.paused");
    bench.last_event("customer.subscription.resumed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_at_the_end_of_the_period_can_be_taken_back() {
    let bench = Bench::new();
    let price = bench.price("Professional", "2900", "month").await;
    let customer = bench.customer("pm_card_visa").await;
    let path = format!(
        "/v1/subscriptions/{}",
        id(&bench.subscribe(&customer, &price, &[]).await.ok())
    );
    let planned = bench
        .post(&path, &[("cancel_at_period_end", "true")])
        .await
        .ok();
    assert_eq!(planned["status"], "active");
    assert_eq!(planned["cancel_at"], at("2027-02-28T10:00:00Z"));
    assert_eq!(planned["canceled_at"], at("2027-01-31T10:00:00Z"));
    let kept = bench
        .post(&path, &[("cancel_at_period_end", "false")])
        .await
        .ok();
    assert!(kept["cancel_at"].is_null() && kept["canceled_at"].is_null());
    bench
        .post(&path, &[("cancel_at_period_end", "true")])
        .await
        .ok();
    bench.travel_to("2027-02-28T10:00:00Z");
    let ended = bench.get(&path).await.ok();
    assert_eq!(ended["status"], "canceled");
    assert_eq!(ended["ended_at"], at("2027-02-28T10:00:00Z"));
    bench.last_event("customer.subscription.deleted");
    assert_eq!(bench.double.state().paid_charges(&customer).len(), 1);
    bench.delete(&path).await.error(404);
    let error = bench
        .post(&path, &[("cancel_at_period_end", "false")])
        .await
        .error(400);
    assert_eq!(error["code"], "invalid_canceled_subscription_fields");
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_collection_leaves_the_status_and_voids_what_it_would_have_charged() {
    let bench = Bench::new();
    let price = bench.price("Professional", "2900", "month").await;
    let customer = bench.customer("pm_card_visa").await;
    let subscription = id(&bench.subscribe(&customer, &price, &[]).await.ok());
    let path = format!("/v1/subscriptions/{subscription}");
    let pause = [
        ("pause_collection[behavior]", "void"),
        (
            "pause_collection[resumes_at]",
            &at("2027-03-20T00:00:00Z").to_string(),
        ),
    ];
    assert_eq!(bench.post(&path, &pause).await.ok()["status"], "active");
    bench.travel_to("2027-03-01T00:00:00Z");
    let invoice = bench.subscription(&subscription).await;
    let invoice = bench.invoice(text(&invoice, "latest_invoice")).await;
    assert_eq!(invoice["status"], "void");
    bench.travel_to("2027-04-01T00:00:00Z");
    assert!(bench.subscription(&subscription).await["pause_collection"].is_null());
    assert_eq!(bench.double.state().paid_charges(&customer).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_changes_the_price_at_the_end_of_the_period() {
    let bench = Bench::new();
    let dear = bench.price("Enterprise", "9900", "month").await;
    let cheap = bench.price("Professional", "2900", "month").await;
    let customer = bench.customer("pm_card_visa").await;
    let subscription = id(&bench.subscribe(&customer, &dear, &[]).await.ok());
    let schedule = bench
        .post(
            "/v1/subscription_schedules",
            &[("from_subscription", &subscription)],
        )
        .await
        .ok();
    let start = schedule["phases"][0]["start_date"].to_string();
    let end = schedule["phases"][0]["end_date"].to_string();
    let form = [
        ("end_behavior", "release"),
        ("phases[0][start_date]", start.as_str()),
        ("phases[0][end_date]", end.as_str()),
        ("phases[0][items][0][price]", &dear),
        ("phases[1][items][0][price]", &cheap),
        ("phases[1][proration_behavior]", "none"),
    ];
    let path = format!("/v1/subscription_schedules/{}", id(&schedule));
    let updated = bench.post(&path, &form).await.ok();
    assert_eq!(
        updated["phases"][1]["start_date"],
        updated["phases"][0]["end_date"]
    );
    let managed = bench
        .post(
            &format!("/v1/subscriptions/{subscription}"),
            &[("items[0][price]", &cheap)],
        )
        .await;
    managed.error(400);
    bench.travel_to("2027-02-28T11:00:00Z");
    let changed = bench.subscription(&subscription).await;
    assert_eq!(changed["items"]["data"][0]["price"]["id"], cheap.as_str());
    let amounts: Vec<_> = bench
        .double
        .state()
        .paid_charges(&customer)
        .iter()
        .map(|charge| charge["amount"].as_i64())
        .collect();
    assert_eq!(amounts, [Some(9900), Some(2900)]);
    bench.travel_to("2027-04-01T00:00:00Z");
    let released = bench.get(&path).await.ok();
    assert_eq!(released["status"], "released");
    assert_eq!(released["released_subscription"], subscription.as_str());
    assert!(bench.subscription(&subscription).await["schedule"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_clock_moves_its_own_customers_alone() {
    let bench = Bench::new();
    let price = bench.price("Professional", "2900", "month").await;
    let frozen = at("2030-05-31T00:00:00Z").to_string();
    let clock = bench
        .post("/v1/test_helpers/test_clocks", &[("frozen_time", &frozen)])
        .await
        .ok();
    let clock = id(&clock);
    let customer = bench
        .post("/v1/customers", &[("test_clock", &clock)])
        .await
        .ok();
    bench.give_card(&id(&customer), "pm_card_visa").await;
    let other = bench.customer("pm_card_visa").await;
    let own = bench.subscribe(&id(&customer), &price, &[]).await.ok();
    bench.subscribe(&other, &price, &[]).await.ok();
    assert_eq!(own["start_date"], at("2030-05-31T00:00:00Z"));
    let target = at("2030-07-31T02:00:00Z").to_string();
    let path = format!("/v1/test_helpers/test_clocks/{clock}");
    let moving = bench
        .post(&format!("{path}/advance"), &[("frozen_time", &target)])
        .await
        .ok();
    assert_eq!(moving["status"], "advancing");
    bench.double.settle();
    let arrived = bench.get(&path).await.ok();
    assert_eq!(arrived["status"], "ready");
    assert_eq!(bench.double.state().paid_charges(&id(&customer)).len(), 3);
    assert_eq!(bench.double.state().paid_charges(&other).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_passes_over_many_at_once() {
    let bench = Bench::new();
    let price = bench.price("Professional", "2900", "month").await;
    let mut customers = Vec::new();
    for _ in 0..25 {
        let customer = bench.customer("pm_card_visa").await;
        bench.subscribe(&customer, &price, &[]).await.ok();
        customers.push(customer);
    }
    bench.travel_to("2028-01-31T12:00:00Z");
    let state = bench.double.state();
    for customer in &customers {
        assert_eq!(state.paid_charges(customer).len(), 13);
    }
    let renewed = bench
        .get("/v1/subscriptions?limit=100&status=active")
        .await
        .ok();
    assert_eq!(renewed["data"].as_array().map(Vec::len), Some(25));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_that_cannot_become_final_says_why_and_leaves_the_subscription_active() {
    let bench = Bench::new();
    let price = bench.price("Professional", "2900", "month").await;
    let customer = bench.customer("pm_card_visa").await;
    let sold = bench.subscribe(&customer, &price, &[]).await.ok();
    let faults = bench.double.faults();
    let unknown = faults.fail_next_finalization(&customer, "no_such_code");
    assert!(unknown.is_err());
    faults
        .fail_next_finalization(&customer, "customer_tax_location_invalid")
        .expect("the customer is there");
    bench.travel_to("2027-03-02T10:00:00Z");
    let subscription = bench.subscription(&id(&sold)).await;
    assert_eq!(subscription["status"], "active");
    let draft = bench.invoice(text(&subscription, "latest_invoice")).await;
    assert_eq!(draft["status"], "draft");
    assert!(draft["number"].is_null() && draft["automatically_finalizes_at"].is_null());
    let error = &draft["last_finalization_error"];
    assert_eq!(
        (&error["type"], &error["code"]),
        (
            &json!("invalid_request_error"),
            &json!("customer_tax_location_invalid")
        )
    );
    let event = bench.last_event("invoice.finalization_failed");
    assert_eq!(event["data"]["object"], draft);
    assert_eq!(bench.double.state().paid_charges(&customer).len(), 1);

    // Once the cause is mended somebody finalizes it, which clears the error; it is collected as any other.
    let path = format!("/v1/invoices/{}", id(&draft));
    let done = bench.post(&format!("{path}/finalize"), &[]).await.ok();
    assert_eq!(done["status"], "open");
    assert!(done["last_finalization_error"].is_null());
    let paid = bench.post(&format!("{path}/pay"), &[]).await.ok();
    assert_eq!(paid["status"], "paid");
    // The next renewal becomes final by itself.
    bench.travel_to("2027-04-01T10:00:00Z");
    assert_eq!(bench.double.state().paid_charges(&customer).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phase_that_begins_with_a_trial_costs_nothing_until_it_ends() {
    let bench = Bench::new();
    let cheap = bench.price("Professional", "2900", "month").await;
    let dear = bench.price("Enterprise", "9900", "month").await;
    let customer = bench.customer("pm_card_visa").await;
    let subscription = id(&bench.subscribe(&customer, &cheap, &[]).await.ok());
    let from = [("from_subscription", subscription.as_str())];
    let schedule = bench.post("/v1/subscription_schedules", &from).await.ok();
    let start = schedule["phases"][0]["start_date"].to_string();
    let end = schedule["phases"][0]["end_date"].to_string();
    let trial_end = at("2027-03-14T10:00:00Z").to_string();
    let path = format!("/v1/subscription_schedules/{}", id(&schedule));
    let update = async |more: &[(&str, &str)]| {
        let mut form = vec![
            ("end_behavior", "release"),
            ("phases[0][start_date]", start.as_str()),
            ("phases[0][end_date]", end.as_str()),
            ("phases[0][items][0][price]", &cheap),
            ("phases[1][items][0][price]", &dear),
            ("phases[1][duration][interval]", "month"),
            ("phases[1][duration][interval_count]", "2"),
        ];
        form.extend(more);
        bench.post(&path, &form).await
    };
    let both = [
        ("phases[1][trial]", "true"),
        ("phases[1][trial_end]", trial_end.as_str()),
    ];
    update(&both).await.error(400);
    let late = at("2027-05-01T10:00:00Z").to_string();
    update(&[("phases[1][trial_end]", &late)]).await.error(400);
    let planned = update(&[("phases[1][trial_end]", &trial_end)]).await.ok();
    assert_eq!(
        planned["phases"][1]["trial_end"],
        at("2027-03-14T10:00:00Z")
    );

    bench.travel_to("2027-02-28T11:00:00Z");
    let trialing = bench.subscription(&subscription).await;
    assert_eq!(trialing["status"], "trialing");
    assert_eq!(trialing["trial_end"], at("2027-03-14T10:00:00Z"));
    assert_eq!(trialing["items"]["data"][0]["price"]["id"], dear.as_str());
    assert_eq!(
        period(&trialing),
        (at("2027-02-28T10:00:00Z"), at("2027-03-14T10:00:00Z"))
    );
    assert_eq!(bench.double.state().paid_charges(&customer).len(), 1);

    bench.travel_to("2027-03-14T12:00:00Z");
    assert_eq!(bench.subscription(&subscription).await["status"], "active");
    let charges = bench.double.state().paid_charges(&customer);
    let amounts: Vec<_> = charges
        .iter()
        .map(|charge| charge["amount"].as_i64())
        .collect();
    assert_eq!(amounts, [Some(2900), Some(9900)]);
}
