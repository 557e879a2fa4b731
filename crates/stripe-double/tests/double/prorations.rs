//! Changes within a period, to the cent.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{Bench, at, id, text};

struct Plans {
    bench: Bench,
    professional: String,
    enterprise: String,
    yearly: String,
    customer: String,
    subscription: String,
    item: String,
}

async fn plans() -> Plans {
    let bench = Bench::new();
    let professional = bench.price("Professional", "2900", "month").await;
    let enterprise = bench.price("Enterprise", "9900", "month").await;
    let yearly = bench.price("Yearly", "29000", "year").await;
    let customer = bench.customer("pm_card_visa").await;
    let subscription = bench.subscribe(&customer, &professional, &[]).await.ok();
    Plans {
        item: id(&subscription["items"]["data"][0]),
        subscription: id(&subscription),
        bench,
        professional,
        enterprise,
        yearly,
        customer,
    }
}

impl Plans {
    fn path(&self) -> String {
        format!("/v1/subscriptions/{}", self.subscription)
    }

    async fn change(&self, price: &str, more: &[(&str, &str)]) -> crate::support::Answer {
        let mut form = vec![
            ("items[0][id]", self.item.as_str()),
            ("items[0][price]", price),
        ];
        form.extend(more);
        self.bench.post(&self.path(), &form).await
    }

    fn charged(&self) -> Vec<i64> {
        let charges = self.bench.double.state().paid_charges(&self.customer);
        let amounts = charges.iter().map(|charge| charge["amount"].as_i64());
        amounts
            .map(|amount| amount.expect("a charge has an amount"))
            .collect()
    }
}

fn amounts(invoice: &Value) -> Vec<i64> {
    let lines = invoice["lines"]["data"].as_array().expect("lines");
    let amounts = lines.iter().map(|line| line["amount"].as_i64());
    amounts
        .map(|amount| amount.expect("a line has an amount"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_is_credited_and_debited_with_the_next_invoice() {
    let plans = plans().await;
    // Half of the 28 days from 31 January to 28 February.
    plans.bench.travel_to("2027-02-14T10:00:00Z");
    plans.change(&plans.enterprise, &[]).await.ok();
    assert_eq!(plans.charged(), [2900]);
    plans.bench.travel_to("2027-02-28T11:00:00Z");
    // 9900 for the new period, 4950 for the rest of the old one, less 1450 that was unused.
    assert_eq!(plans.charged(), [2900, 9900 + 4950 - 1450]);
}

#[tokio::test(flavor = "multi_thread")]
async fn always_invoice_charges_the_difference_at_once() {
    let plans = plans().await;
    plans.bench.travel_to("2027-02-14T10:00:00Z");
    let changed = plans
        .change(
            &plans.enterprise,
            &[("proration_behavior", "always_invoice")],
        )
        .await
        .ok();
    assert_eq!(plans.charged(), [2900, 3500]);
    let invoice = plans.bench.invoice(text(&changed, "latest_invoice")).await;
    assert_eq!(invoice["billing_reason"], "subscription_update");
    let mut lines = amounts(&invoice);
    lines.sort_unstable();
    assert_eq!(lines, [-1450, 4950]);
    let credit = invoice["lines"]["data"]
        .as_array()
        .and_then(|lines| lines.iter().find(|line| line["amount"] == -1450))
        .expect("the credit");
    let details = &credit["parent"]["subscription_item_details"];
    assert_eq!(details["proration"], true);
    assert!(details["proration_details"]["credited_items"]["invoice"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_downgrade_becomes_credit() {
    let plans = plans().await;
    let up = [("proration_behavior", "always_invoice")];
    plans.change(&plans.enterprise, &up).await.ok();
    assert_eq!(plans.charged(), [2900, 7000]);
    plans.bench.travel_to("2027-02-14T10:00:00Z");
    plans.change(&plans.professional, &up).await.ok();
    // −4950 + 1450: nothing is charged, the customer has 35.00 of credit.
    let customer = plans
        .bench
        .get(&format!("/v1/customers/{}", plans.customer))
        .await
        .ok();
    assert_eq!(customer["balance"], -3500);
    plans.bench.travel_to("2027-02-28T11:00:00Z");
    assert_eq!(plans.charged(), [2900, 7000]);
    plans.bench.travel_to("2027-03-31T11:00:00Z");
    assert_eq!(plans.charged(), [2900, 7000, 2300]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_prorations_the_price_changes_with_the_next_period() {
    let plans = plans().await;
    plans.bench.travel_to("2027-02-14T10:00:00Z");
    let none = [("proration_behavior", "none")];
    plans.change(&plans.enterprise, &none).await.ok();
    plans.bench.travel_to("2027-02-28T11:00:00Z");
    assert_eq!(plans.charged(), [2900, 9900]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_interval_begins_a_new_cycle_at_once() {
    let plans = plans().await;
    plans.bench.travel_to("2027-02-14T10:00:00Z");
    let changed = plans.change(&plans.yearly, &[]).await.ok();
    assert_eq!(plans.charged(), [2900, 29000 - 1450]);
    let item = &changed["items"]["data"][0];
    assert_eq!(item["current_period_end"], at("2028-02-14T10:00:00Z"));
    assert_eq!(changed["billing_cycle_anchor"], at("2027-02-14T10:00:00Z"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_without_its_id_is_added_not_replaced() {
    let plans = plans().await;
    let form = [("items[0][price]", plans.enterprise.as_str())];
    let changed = plans.bench.post(&plans.path(), &form).await.ok();
    assert_eq!(changed["items"]["data"].as_array().map(Vec::len), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_says_what_the_change_then_costs_and_changes_nothing() {
    let plans = plans().await;
    plans.bench.travel_to("2027-02-11T07:13:41Z");
    let date = at("2027-02-11T07:13:41Z").to_string();
    let state = plans.bench.double.state();
    let events = state.events().len();
    for behavior in ["always_invoice", "create_prorations"] {
        let form = [
            ("subscription", plans.subscription.as_str()),
            ("subscription_details[items][0][id]", &plans.item),
            ("subscription_details[items][0][price]", &plans.enterprise),
            ("subscription_details[proration_behavior]", behavior),
            ("subscription_details[proration_date]", &date),
        ];
        let preview = plans
            .bench
            .post("/v1/invoices/create_preview", &form)
            .await
            .ok();
        assert!(text(&preview, "id").starts_with("upcoming_in_"));
        let whole = 28 * 86_400;
        let left = at("2027-02-28T10:00:00Z") - at("2027-02-11T07:13:41Z");
        let share = |amount: i64| (amount * left * 2 + whole) / (whole * 2);
        let difference = share(9900) - share(2900);
        let expected = match behavior {
            "always_invoice" => difference,
            _ => difference + 9900,
        };
        assert_eq!(preview["total"], expected, "{behavior}");
    }
    assert_eq!(state.events().len(), events);
    assert_eq!(state.count("invoice"), 1);
    let preview = plans.bench.subscription(&plans.subscription).await;
    assert_eq!(
        preview["items"]["data"][0]["price"]["id"],
        plans.professional.as_str()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_preview_of_what_will_not_be_invoiced() {
    let plans = plans().await;
    let end = [("cancel_at_period_end", "true")];
    plans.bench.post(&plans.path(), &end).await.ok();
    let form = [("subscription", plans.subscription.as_str())];
    let error = plans
        .bench
        .post("/v1/invoices/create_preview", &form)
        .await
        .error(404);
    assert_eq!(error["code"], "invoice_upcoming_none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_cannot_be_paid_waits_fails_or_is_past_due() {
    let plans = plans().await;
    plans
        .bench
        .give_card(&plans.customer, "pm_card_chargeCustomerFail")
        .await;
    let now = ("proration_behavior", "always_invoice");

    let refused = plans
        .change(
            &plans.enterprise,
            &[now, ("payment_behavior", "error_if_incomplete")],
        )
        .await;
    refused.error(402);
    let same = plans.bench.subscription(&plans.subscription).await;
    assert_eq!(
        same["items"]["data"][0]["price"]["id"],
        plans.professional.as_str()
    );

    let pending = plans
        .change(
            &plans.enterprise,
            &[now, ("payment_behavior", "pending_if_incomplete")],
        )
        .await
        .ok();
    assert_eq!(pending["status"], "active");
    assert_eq!(
        pending["pending_update"]["subscription_items"][0]["price"]["id"],
        plans.enterprise.as_str()
    );
    assert_eq!(
        pending["items"]["data"][0]["price"]["id"],
        plans.professional.as_str()
    );
    plans.bench.give_card(&plans.customer, "pm_card_visa").await;
    let pay = format!("/v1/invoices/{}/pay", text(&pending, "latest_invoice"));
    plans.bench.post(&pay, &[]).await.ok();
    let applied = plans.bench.subscription(&plans.subscription).await;
    assert_eq!(
        applied["items"]["data"][0]["price"]["id"],
        plans.enterprise.as_str()
    );
    assert_eq!(applied["pending_update"], json!(null));
    plans
        .bench
        .last_event("customer.subscription.pending_update_applied");

    plans
        .bench
        .give_card(&plans.customer, "pm_card_chargeCustomerFail")
        .await;
    let owed = plans
        .change(&plans.enterprise, &[now, ("items[0][quantity]", "3")])
        .await
        .ok();
    assert_eq!(owed["items"]["data"][0]["quantity"], 3);
    let owed = plans.bench.subscription(&plans.subscription).await;
    assert_eq!(owed["status"], "past_due");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_update_expires_after_23_hours() {
    let plans = plans().await;
    plans
        .bench
        .give_card(&plans.customer, "pm_card_chargeCustomerFail")
        .await;
    let terms = [
        ("proration_behavior", "always_invoice"),
        ("payment_behavior", "pending_if_incomplete"),
    ];
    let pending = plans.change(&plans.enterprise, &terms).await.ok();
    plans.bench.travel_to("2027-02-01T09:00:00Z");
    let kept = plans.bench.subscription(&plans.subscription).await;
    assert!(kept["pending_update"].is_null());
    assert_eq!(
        kept["items"]["data"][0]["price"]["id"],
        plans.professional.as_str()
    );
    let invoice = plans.bench.invoice(text(&pending, "latest_invoice")).await;
    assert_eq!(invoice["status"], "void");
    plans
        .bench
        .last_event("customer.subscription.pending_update_expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_and_texts_wait_with_the_change_that_they_came_with() {
    let plans = plans().await;
    let bench = &plans.bench;
    bench
        .post(&plans.path(), &[("metadata[kept]", "yes")])
        .await
        .ok();
    bench
        .give_card(&plans.customer, "pm_card_chargeCustomerFail")
        .await;
    let terms = [
        ("proration_behavior", "always_invoice"),
        ("payment_behavior", "pending_if_incomplete"),
        ("cancel_at_period_end", "true"),
        ("metadata[operation]", "one"),
    ];
    let pending = plans.change(&plans.enterprise, &terms).await.ok();
    assert_eq!(pending["cancel_at_period_end"], false);
    assert_eq!(pending["metadata"], json!({ "kept": "yes" }));
    let update = &pending["pending_update"];
    assert_eq!(
        (&update["cancel_at_period_end"], &update["metadata"]),
        (&json!(true), &json!({ "operation": "one" }))
    );

    bench.give_card(&plans.customer, "pm_card_visa").await;
    let pay = format!("/v1/invoices/{}/pay", text(&pending, "latest_invoice"));
    bench.post(&pay, &[]).await.ok();
    let applied = bench.subscription(&plans.subscription).await;
    assert!(applied["pending_update"].is_null(), "{applied}");
    assert_eq!(applied["cancel_at_period_end"], true);
    assert_eq!(applied["cancel_at"], at("2027-02-28T10:00:00Z"));
    assert_eq!(
        applied["metadata"],
        json!({ "kept": "yes", "operation": "one" })
    );
    bench.travel_to("2027-02-28T10:00:00Z");
    let ended = bench.subscription(&plans.subscription).await;
    assert_eq!(ended["status"], "canceled");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_says_otherwise_of_the_end_expires_what_waits() {
    let plans = plans().await;
    let bench = &plans.bench;
    bench
        .give_card(&plans.customer, "pm_card_chargeCustomerFail")
        .await;
    let terms = [
        ("proration_behavior", "always_invoice"),
        ("payment_behavior", "pending_if_incomplete"),
        ("cancel_at_period_end", "false"),
    ];
    let pending = plans.change(&plans.enterprise, &terms).await.ok();
    assert_eq!(pending["pending_update"]["cancel_at_period_end"], false);
    let same = [("cancel_at_period_end", "false")];
    let kept = bench.post(&plans.path(), &same).await.ok();
    assert!(kept["pending_update"].is_object(), "{kept}");
    let other = [("cancel_at_period_end", "true")];
    let ending = bench.post(&plans.path(), &other).await.ok();
    assert!(ending["pending_update"].is_null(), "{ending}");
    assert_eq!(ending["cancel_at_period_end"], true);
    assert_eq!(
        ending["items"]["data"][0]["price"]["id"],
        plans.professional.as_str()
    );
    let invoice = bench.invoice(text(&pending, "latest_invoice")).await;
    assert_eq!(invoice["status"], "void");
    bench.last_event("customer.subscription.pending_update_expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_update_does_not_outlive_the_period() {
    let plans = plans().await;
    plans
        .bench
        .give_card(&plans.customer, "pm_card_chargeCustomerFail")
        .await;
    plans.bench.travel_to("2027-02-28T04:00:00Z");
    let terms = [
        ("proration_behavior", "always_invoice"),
        ("payment_behavior", "pending_if_incomplete"),
    ];
    let pending = plans.change(&plans.enterprise, &terms).await.ok();
    assert_eq!(
        pending["pending_update"]["expires_at"],
        at("2027-02-28T10:00:00Z")
    );
    plans.bench.travel_to("2027-02-28T10:30:00Z");
    let renewed = plans.bench.subscription(&plans.subscription).await;
    assert!(renewed["pending_update"].is_null(), "{renewed}");
    assert_eq!(
        renewed["items"]["data"][0]["price"]["id"],
        plans.professional.as_str()
    );
    assert_eq!(
        renewed["items"]["data"][0]["current_period_end"],
        at("2027-03-31T10:00:00Z")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recurring_preview_is_a_whole_period_of_the_items_alone() {
    let plans = plans().await;
    let bench = &plans.bench;
    // What a next invoice would show and a recurring one does not: a one-off item, and a credit.
    let item = [
        ("customer", plans.customer.as_str()),
        ("amount", "700"),
        ("currency", "usd"),
    ];
    bench.post("/v1/invoiceitems", &item).await.ok();
    let credit = [("amount", "-500"), ("currency", "usd")];
    let path = format!("/v1/customers/{}/balance_transactions", plans.customer);
    bench.post(&path, &credit).await.ok();
    bench.travel_to("2027-02-11T07:13:41Z");
    let events = bench.double.state().events().len();
    let ask = async |more: &[(&str, &str)]| {
        let mut form = vec![
            ("customer", plans.customer.as_str()),
            ("preview_mode", "recurring"),
        ];
        form.extend(more);
        bench.post("/v1/invoices/create_preview", &form).await
    };
    let own = ("subscription", plans.subscription.as_str());
    let present = ask(&[own]).await.ok();
    assert_eq!(
        (amounts(&present), &present["total"]),
        (vec![2900], &json!(2900))
    );
    assert_eq!(present["amount_due"], 2900);

    let changed = ask(&[
        own,
        ("subscription_details[items][0][id]", &plans.item),
        ("subscription_details[items][0][price]", &plans.enterprise),
        ("subscription_details[items][0][quantity]", "2"),
        ("subscription_details[proration_behavior]", "always_invoice"),
    ])
    .await
    .ok();
    assert_eq!(amounts(&changed), [19_800]);

    let new = ask(&[
        ("subscription_details[items][0][price]", &plans.yearly),
        (
            "subscription_details[trial_end]",
            &at("2027-03-11T00:00:00Z").to_string(),
        ),
    ])
    .await
    .ok();
    assert_eq!(amounts(&new), [29_000]);
    assert_eq!(
        new["lines"]["data"][0]["period"],
        json!({ "start": at("2027-03-11T00:00:00Z"), "end": at("2028-03-11T00:00:00Z") })
    );

    assert_eq!(bench.double.state().events().len(), events);
    assert_eq!(bench.double.state().count("invoice"), 1);
    let end = [("cancel_at_period_end", "true")];
    bench.post(&plans.path(), &end).await.ok();
    let none = ask(&[own]).await.error(404);
    assert_eq!(none["code"], "invoice_upcoming_none");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever is changed when, the money that moved is what each moment cost, within a cent per line.
    #[test]
    fn charges_add_up_to_what_was_used(steps in proptest::collection::vec((1_i64..600_000, any::<bool>()), 1..5)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let plans = plans().await;
            let start = at("2027-01-31T10:00:00Z");
            let end = at("2027-02-28T10:00:00Z");
            let (mut now, mut dear, mut used) = (start, false, 0.0_f64);
            let whole = f64::from(u32::try_from(end - start).expect("a month"));
            let price = |dear: bool| if dear { 9900.0 } else { 2900.0 };
            for (wait, wants_dear) in &steps {
                let then = now + wait;
                used += price(dear) * f64::from(u32::try_from(wait.to_owned()).expect("short")) / whole;
                now = then;
                let moment = chrono::DateTime::from_timestamp(now, 0).expect("a time");
                plans.bench.travel_to(&moment.to_rfc3339());
                let target = if *wants_dear { &plans.enterprise } else { &plans.professional };
                plans.change(target, &[("proration_behavior", "always_invoice")]).await.ok();
                dear = *wants_dear;
            }
            used += price(dear) * f64::from(u32::try_from(end - now).expect("within the month")) / whole;
            let customer = plans.bench.get(&format!("/v1/customers/{}", plans.customer)).await.ok();
            let balance = customer["balance"].as_i64().expect("a balance");
            let charged: i64 = plans.charged().iter().sum();
            // Cents may be off by rounding, once per line.
            let difference = (f64::from(i32::try_from(charged + balance).expect("small")) - used).abs();
            assert!(difference <= 2.0 * f64::from(u32::try_from(steps.len()).expect("few")) + 1.0,
                "charged {charged}, balance {balance}, used {used}, steps {steps:?}");
        });
    }
}
