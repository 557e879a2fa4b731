//! The hosted pages, as a browser without scripts uses them.

use crate::support::{Bench, at, id, text};

async fn session(bench: &Bench, more: &[(&str, &str)]) -> serde_json::Value {
    let price = bench.price("Professional", "2900", "month").await;
    let mut form = vec![
        ("mode", "subscription"),
        ("line_items[0][price]", price.as_str()),
        ("line_items[0][quantity]", "1"),
        (
            "success_url",
            "http://app.test/done?session={CHECKOUT_SESSION_ID}",
        ),
        ("cancel_url", "http://app.test/back"),
        ("client_reference_id", "workspace-1"),
        ("metadata[workspace]", "one"),
        ("subscription_data[metadata][workspace]", "one"),
    ];
    form.extend(more);
    bench.post("/v1/checkout/sessions", &form).await.ok()
}

fn location(response: &reqwest::Response) -> String {
    let header = response.headers().get("location");
    let header = header.and_then(|value| value.to_str().ok());
    header.expect("the page redirects").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkout_makes_customer_card_and_subscription() {
    let bench = Bench::new();
    let session = session(&bench, &[]).await;
    let url = text(&session, "url").to_owned();
    let page = bench.page(&url, None).await;
    assert_eq!(page.status(), 200);
    let html = page.text().await.expect("a page");
    assert!(html.contains("Professional") && html.contains("http://app.test/back"));

    let declined = [("card", "4000000000009995"), ("email", "jo@example.com")];
    let page = bench.page(&url, Some(&declined)).await;
    assert!(
        page.text()
            .await
            .expect("a page")
            .contains("insufficient funds")
    );
    assert_eq!(bench.double.state().count("subscription"), 0);

    let form = [("card", "4242 4242 4242 4242"), ("email", "jo@example.com")];
    let done = bench.page(&url, Some(&form)).await;
    assert_eq!(done.status(), 303);
    assert_eq!(
        location(&done),
        format!("http://app.test/done?session={}", id(&session))
    );
    let path = format!(
        "/v1/checkout/sessions/{}?expand[]=subscription&expand[]=line_items",
        id(&session)
    );
    let complete = bench.get(&path).await.ok();
    assert_eq!(complete["status"], "complete");
    assert_eq!(complete["payment_status"], "paid");
    assert_eq!(complete["subscription"]["status"], "active");
    assert_eq!(complete["subscription"]["metadata"]["workspace"], "one");
    assert!(complete["subscription"]["default_payment_method"].is_string());
    assert_eq!(complete["customer_details"]["email"], "jo@example.com");
    assert_eq!(complete["line_items"]["data"][0]["amount_total"], 2900);
    bench.last_event("checkout.session.completed");
    let again = bench.page(&url, Some(&form)).await;
    assert_eq!(again.status(), 200, "a complete session is not paid again");
    assert_eq!(bench.double.state().count("subscription"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkout_waits_for_authentication() {
    let bench = Bench::new();
    let customer = id(&bench
        .post("/v1/customers", &[("email", "jo@example.com")])
        .await
        .ok());
    let session = session(&bench, &[("customer", &customer)]).await;
    let url = text(&session, "url").to_owned();
    let asked = bench
        .page(&url, Some(&[("card", "4000002500003155")]))
        .await;
    let secure = location(&asked);
    assert!(secure.starts_with("/3d_secure/pi_"), "{secure}");

    let failed = bench.page(&secure, Some(&[("outcome", "fail")])).await;
    let back = bench.page(&location(&failed), None).await;
    assert!(
        back.text()
            .await
            .expect("a page")
            .contains("unable to authenticate")
    );

    let asked = bench
        .page(&url, Some(&[("card", "4000002500003155")]))
        .await;
    let passed = bench
        .page(&location(&asked), Some(&[("outcome", "complete")]))
        .await;
    let done = bench.page(&location(&passed), None).await;
    assert!(location(&done).starts_with("http://app.test/done"));
    let listed = bench
        .get(&format!(
            "/v1/subscriptions?customer={customer}&status=active"
        ))
        .await
        .ok();
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkout_with_a_trial_takes_no_money_and_expires_if_nobody_comes() {
    let bench = Bench::new();
    let trial = [("subscription_data[trial_period_days]", "14")];
    let first = session(&bench, &trial).await;
    let form = [("card", "4242424242424242"), ("email", "jo@example.com")];
    let done = bench.page(text(&first, "url"), Some(&form)).await;
    assert_eq!(done.status(), 303);
    let path = format!("/v1/checkout/sessions/{}?expand[]=subscription", id(&first));
    let complete = bench.get(&path).await.ok();
    assert_eq!(complete["payment_status"], "no_payment_required");
    assert_eq!(complete["subscription"]["status"], "trialing");
    assert_eq!(bench.double.state().count("charge"), 0);

    let second = session(&bench, &[]).await;
    bench.travel_to("2027-02-01T10:00:00Z");
    let path = format!("/v1/checkout/sessions/{}", id(&second));
    let expired = bench.get(&path).await.ok();
    assert_eq!(expired["status"], "expired");
    assert!(expired["url"].is_null());
    bench.post(&format!("{path}/expire"), &[]).await.error(400);
    bench.last_event("checkout.session.expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_portal_cancels_keeps_and_replaces_the_card() {
    let bench = Bench::new();
    let price = bench.price("Professional", "2900", "month").await;
    let customer = bench.customer("pm_card_visa").await;
    let subscription = id(&bench.subscribe(&customer, &price, &[]).await.ok());
    // A new account has saved nothing: a session must name its configuration.
    let sessions = "/v1/billing_portal/sessions";
    let form = [("customer", customer.as_str())];
    bench.post(sessions, &form).await.error(400);
    let features = [
        ("features[subscription_cancel][enabled]", "true"),
        ("features[payment_method_update][enabled]", "true"),
    ];
    let path = "/v1/billing_portal/configurations";
    let configuration = id(&bench.post(path, &features).await.ok());
    let form = [
        ("customer", customer.as_str()),
        ("configuration", configuration.as_str()),
        ("return_url", "http://app.test/billing"),
    ];
    let portal = bench.post("/v1/billing_portal/sessions", &form).await.ok();
    let url = text(&portal, "url").to_owned();
    let html = bench.page(&url, None).await.text().await.expect("a page");
    assert!(html.contains("http://app.test/billing") && html.contains("4242"));

    let act = async |action: &str| {
        let form = [("action", action), ("subscription", subscription.as_str())];
        bench.page(&url, Some(&form)).await.status().as_u16()
    };
    assert_eq!(act("cancel").await, 303);
    let planned = bench.subscription(&subscription).await;
    assert_eq!(planned["cancel_at"], at("2027-02-28T10:00:00Z"));
    // On flexible billing the portal sets a date, which the flag does not clear.
    assert_eq!(planned["cancel_at_period_end"], false);
    let path = format!("/v1/subscriptions/{subscription}");
    let kept = bench
        .post(&path, &[("cancel_at_period_end", "false")])
        .await;
    assert_eq!(kept.ok()["cancel_at"], planned["cancel_at"]);
    let cleared = bench.post(&path, &[("cancel_at", "")]).await;
    assert!(cleared.ok()["cancel_at"].is_null());
    assert_eq!(act("cancel").await, 303);
    assert_eq!(act("resume").await, 303);
    assert!(bench.subscription(&subscription).await["cancel_at"].is_null());

    let card = [("action", "replace_card"), ("card", "5555555555554444")];
    assert_eq!(bench.page(&url, Some(&card)).await.status(), 303);
    let path = format!("/v1/customers/{customer}?expand[]=invoice_settings.default_payment_method");
    let shown = bench.get(&path).await.ok();
    let method = &shown["invoice_settings"]["default_payment_method"];
    assert_eq!(method["card"]["last4"], "4444");

    let other = bench.customer("pm_card_visa").await;
    let foreign = id(&bench.subscribe(&other, &price, &[]).await.ok());
    let form = [("action", "cancel"), ("subscription", foreign.as_str())];
    bench.page(&url, Some(&form)).await;
    assert!(bench.subscription(&foreign).await["cancel_at"].is_null());
    bench.travel_to("2027-01-31T11:00:01Z");
    assert_eq!(bench.page(&url, None).await.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_invoice_is_paid_on_its_page() {
    let bench = Bench::new();
    let price = bench.price("Professional", "2900", "month").await;
    let customer = bench.customer("pm_card_chargeCustomerFail").await;
    let subscription = bench.subscribe(&customer, &price, &[]).await.ok();
    let invoice = bench.invoice(text(&subscription, "latest_invoice")).await;
    let url = text(&invoice, "hosted_invoice_url").to_owned();
    let page = bench
        .page(&url, Some(&[("card", "4242424242424242")]))
        .await;
    assert!(page.text().await.expect("a page").contains("(paid)"));
    assert_eq!(
        bench.subscription(&id(&subscription)).await["status"],
        "active"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_callers_send_does_not_become_markup() {
    let bench = Bench::new();
    let back = "http://app.test/\"><script>alert(1)</script>";
    let session = session(&bench, &[("cancel_url", back)]).await;
    let page = bench.page(text(&session, "url"), None).await;
    assert!(!page.text().await.expect("a page").contains("<script>"));
}
