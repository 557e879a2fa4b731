//! Declines, authentication, balances, refunds and disputes.

use serde_json::json;

use crate::support::{Bench, id, text};

#[tokio::test(flavor = "multi_thread")]
async fn cards_that_always_decline_cannot_be_attached() {
    let bench = Bench::new();
    let customer = id(&bench.post("/v1/customers", &[]).await.ok());
    for (card, code, decline) in [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        (
            "pm_card_visa_chargeDeclined",
            "card_declined",
            "generic_decline",
        ),
        (
            "pm_card_chargeDeclinedInsufficientFunds",
            "card_declined",
            "insufficient_funds",
        ),
        (
            "pm_card_visa_chargeDeclinedInsufficientFunds",
            "card_declined",
            "insufficient_funds",
        ),
        (
            "pm_card_visa_chargeDeclinedLostCard",
            "card_declined",
            "lost_card",
        ),
        (
            "pm_card_visa_chargeDeclinedStolenCard",
            "card_declined",
            "stolen_card",
        ),
        (
            "pm_card_chargeDeclinedExpiredCard",
            "expired_card",
            "expired_card",
        ),
        (
            "pm_card_chargeDeclinedIncorrectCvc",
            "incorrect_cvc",
            "incorrect_cvc",
        ),
    ] {
        let path = format!("/v1/payment_methods/{card}/attach");
        let error = bench
            .post(&path, &[("customer", &customer)])
            .await
            .error(402);
        assert_eq!(error["type"], "card_error");
        assert_eq!(
            (&error["code"], &error["decline_code"]),
            (&json!(code), &json!(decline))
        );
    }
    let attached = bench
        .get(&format!("/v1/payment_methods?customer={customer}"))
        .await
        .ok();
    assert_eq!(attached["data"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_payment_behaves_as_payment_behavior_says() {
    let bench = Bench::new();
    let price = bench.price("Professional", "2900", "month").await;
    let customer = bench.customer("pm_card_chargeCustomerFail").await;

    let refused = [("payment_behavior", "error_if_incomplete")];
    let error = bench
        .subscribe(&customer, &price, &refused)
        .await
        .error(402);
    assert_eq!(error["code"], "card_declined");
    assert_eq!(bench.double.state().count("subscription"), 0);
    assert_eq!(bench.double.state().count("invoice"), 0);
    assert_eq!(bench.double.state().count("charge"), 1);

    let allowed = bench.subscribe(&customer, &price, &[]).await.ok();
    assert_eq!(allowed["status"], "incomplete");

    let waiting = [
        ("payment_behavior", "default_incomplete"),
        ("expand[]", "latest_invoice.confirmation_secret"),
        (
            "expand[]",
            "latest_invoice.payments.data.payment.payment_intent",
        ),
    ];
    let waiting = bench.subscribe(&customer, &price, &waiting).await.ok();
    assert_eq!(waiting["status"], "incomplete");
    let invoice = &waiting["latest_invoice"];
    assert_eq!(invoice["attempt_count"], 0);
    let intent = &invoice["payments"]["data"][0]["payment"]["payment_intent"];
    assert_eq!(intent["status"], "requires_confirmation");
    assert_eq!(
        invoice["confirmation_secret"]["client_secret"],
        intent["client_secret"]
    );
    let path = format!("/v1/payment_intents/{}/confirm", text(intent, "id"));
    let error = bench.post(&path, &[]).await.error(402);
    assert_eq!(error["payment_intent"]["status"], "requires_payment_method");
    let paid = bench
        .post(&path, &[("payment_method", "pm_card_visa")])
        .await
        .ok();
    assert_eq!(paid["status"], "succeeded");
    let active = bench.subscription(&id(&waiting)).await;
    assert_eq!(active["status"], "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_card_nothing_is_made() {
    let bench = Bench::new();
    let price = bench.price("Professional", "2900", "month").await;
    let customer = id(&bench.post("/v1/customers", &[]).await.ok());
    let error = bench.subscribe(&customer, &price, &[]).await.error(400);
    assert_eq!(error["code"], "resource_missing");
    assert_eq!(bench.double.state().count("subscription"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn authentication_completes_or_fails_a_first_payment() {
    let bench = Bench::new();
    let price = bench.price("Professional", "2900", "month").await;
    let customer = bench
        .customer("pm_card_authenticationRequiredOnSetup")
        .await;
    let expand = [("expand[]", "latest_invoice.payments")];
    let subscription = bench.subscribe(&customer, &price, &expand).await.ok();
    assert_eq!(subscription["status"], "incomplete");
    let payment = &subscription["latest_invoice"]["payments"]["data"][0];
    let intent = text(&payment["payment"], "payment_intent").to_owned();
    let shown = bench
        .get(&format!("/v1/payment_intents/{intent}"))
        .await
        .ok();
    assert_eq!(shown["status"], "requires_action");
    bench.last_event("invoice.payment_action_required");
    bench.last_event("payment_intent.requires_action");

    let faults = bench.double.faults();
    faults.authenticate(&intent, false).expect("it waits");
    let shown = bench
        .get(&format!("/v1/payment_intents/{intent}"))
        .await
        .ok();
    assert_eq!(
        shown["last_payment_error"]["code"],
        "payment_intent_authentication_failure"
    );
    let method = [("payment_method", "pm_card_authenticationRequiredOnSetup")];
    let path = format!("/v1/payment_intents/{intent}/confirm");
    assert_eq!(
        bench.post(&path, &method).await.ok()["status"],
        "requires_action"
    );
    faults.authenticate(&intent, true).expect("it waits");
    assert_eq!(
        bench.subscription(&id(&subscription)).await["status"],
        "active"
    );
    assert_eq!(bench.double.state().paid_charges(&customer).len(), 1);
    assert!(faults.authenticate(&intent, true).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_always_asks_is_declined_off_session() {
    let bench = Bench::new();
    let price = bench.price("Professional", "2900", "month").await;
    let customer = bench.customer("pm_card_authenticationRequired").await;
    let off_session = [("off_session", "true")];
    let subscription = bench.subscribe(&customer, &price, &off_session).await.ok();
    assert_eq!(subscription["status"], "incomplete");
    let charges = bench.double.state().objects("charge");
    assert_eq!(charges[0]["failure_code"], "authentication_required");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_has_one_currency_while_anything_lives() {
    let bench = Bench::new();
    let usd = bench.price("Professional", "2900", "month").await;
    let eur = [
        ("currency", "eur"),
        ("unit_amount", "2700"),
        ("recurring[interval]", "month"),
        ("product_data[name]", "Professional"),
    ];
    let eur = id(&bench.post("/v1/prices", &eur).await.ok());
    let customer = bench.customer("pm_card_visa").await;
    let first = bench.subscribe(&customer, &usd, &[]).await.ok();
    let error = bench.subscribe(&customer, &eur, &[]).await.error(400);
    let message = text(&error, "message");
    assert!(
        message.contains("You cannot combine currencies on a single customer"),
        "{message}"
    );
    let path = format!("/v1/subscriptions/{}", id(&first));
    bench.delete(&path).await.ok();
    bench.subscribe(&customer, &eur, &[]).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_pays_first_and_what_is_too_little_waits() {
    let bench = Bench::new();
    let price = bench.price("Professional", "2900", "month").await;
    let customer = bench.customer("pm_card_visa").await;
    let path = format!("/v1/customers/{customer}/balance_transactions");
    let credit = [("amount", "-2880"), ("currency", "usd")];
    bench.post(&path, &credit).await.ok();
    let subscription = bench.subscribe(&customer, &price, &[]).await.ok();
    assert_eq!(subscription["status"], "active");
    let invoice = bench.invoice(text(&subscription, "latest_invoice")).await;
    // 20 cents are less than a charge may be: paid now, owed with the next invoice.
    assert_eq!(invoice["amount_due"], 0);
    assert_eq!(invoice["starting_balance"], -2880);
    assert_eq!(invoice["ending_balance"], 20);
    assert_eq!(bench.double.state().count("charge"), 0);
    bench.travel_to("2027-02-28T11:00:00Z");
    let charges = bench.double.state().paid_charges(&customer);
    assert_eq!(charges[0]["amount"], 2920);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_charge_can_be_told_to_fail() {
    let bench = Bench::new();
    let price = bench.price("Professional", "2900", "month").await;
    let customer = bench.customer("pm_card_visa").await;
    let faults = bench.double.faults();
    assert!(
        faults
            .decline_next_charge(&customer, "no_such_code")
            .is_err()
    );
    faults
        .decline_next_charge(&customer, "insufficient_funds")
        .expect("the customer is there");
    let subscription = bench.subscribe(&customer, &price, &[]).await.ok();
    assert_eq!(subscription["status"], "incomplete");
    let path = format!("/v1/invoices/{}/pay", text(&subscription, "latest_invoice"));
    assert_eq!(bench.post(&path, &[]).await.ok()["status"], "paid");
    let error = bench.post(&path, &[]).await.error(400);
    assert_eq!(error["code"], "invoice_already_paid");
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_are_refunded_and_disputed() {
    let bench = Bench::new();
    let price = bench.price("Professional", "2900", "month").await;
    let customer = bench.customer("pm_card_createDispute").await;
    bench.subscribe(&customer, &price, &[]).await.ok();
    let disputes = bench.get("/v1/disputes").await.ok();
    assert_eq!(disputes["data"][0]["reason"], "fraudulent");
    let charge = text(&disputes["data"][0], "charge").to_owned();
    let error = bench
        .post("/v1/refunds", &[("charge", &charge)])
        .await
        .error(400);
    assert_eq!(error["code"], "charge_disputed");

    let other = bench.customer("pm_card_visa").await;
    bench.subscribe(&other, &price, &[]).await.ok();
    let charge = id(&bench.double.state().paid_charges(&other)[0]);
    let part = [("charge", charge.as_str()), ("amount", "900")];
    bench.post("/v1/refunds", &part).await.ok();
    let shown = bench
        .get(&format!("/v1/charges/{charge}?expand[]=refunds"))
        .await
        .ok();
    assert_eq!(shown["amount_refunded"], 900);
    assert_eq!(shown["refunded"], false);
    assert_eq!(shown["refunds"]["data"][0]["amount"], 900);
    bench.last_event("charge.refunded");
}
