//! Idempotency keys, authentication, and the faults of the network.

use std::time::Duration;

use rawdrive_stripe_double::{Fault, Matching};
use serde_json::json;

use crate::support::{Bench, id, text};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_gives_the_same_answer_again() {
    let bench = Bench::new();
    let form = [("email", "jo@example.com")];
    let first = bench.keyed("/v1/customers", &form, "key-1").await;
    assert_eq!(first.header("Idempotent-Replayed"), None);
    let request = first.header("Request-Id").map(str::to_owned);
    assert!(request.as_deref().is_some_and(|id| id.starts_with("req_")));
    let again = bench.keyed("/v1/customers", &form, "key-1").await;
    assert_eq!(again.header("Idempotent-Replayed"), Some("true"));
    assert_eq!(again.header("Original-Request"), request.as_deref());
    assert_eq!(first.body, again.body);
    assert_eq!(bench.double.state().count("customer"), 1);

    let other = [("email", "other@example.com")];
    let error = bench
        .keyed("/v1/customers", &other, "key-1")
        .await
        .error(400);
    assert_eq!(error["type"], "idempotency_error");
    bench.keyed("/v1/products", &form, "key-1").await.error(400);

    bench.travel_to("2027-02-01T10:00:01Z");
    bench.keyed("/v1/customers", &form, "key-1").await.ok();
    assert_eq!(bench.double.state().count("customer"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_card_is_replayed_but_a_malformed_request_is_not() {
    let bench = Bench::new();
    let customer = id(&bench.post("/v1/customers", &[]).await.ok());
    let form = [("customer", customer.as_str())];
    let path = "/v1/payment_methods/pm_card_chargeDeclined/attach";
    bench.keyed(path, &form, "declined").await.error(402);
    let again = bench.keyed(path, &form, "declined").await;
    assert_eq!(again.header("Idempotent-Replayed"), Some("true"));

    let bad = [("unit_amount", "many"), ("currency", "usd")];
    let error = bench
        .keyed("/v1/prices", &bad, "malformed")
        .await
        .error(400);
    assert_eq!(error["code"], "parameter_invalid_integer");
    let mended = [
        ("unit_amount", "5"),
        ("currency", "usd"),
        ("product_data[name]", "Thing"),
    ];
    bench.keyed("/v1/prices", &mended, "malformed").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_found_again_under_its_key() {
    let bench = Bench::new();
    let price = bench.price("Professional", "2900", "month").await;
    let customer = bench.customer("pm_card_visa").await;
    let faults = bench.double.faults();
    faults.next(
        1,
        Matching::new("POST", "/v1/subscriptions"),
        Fault::DropAnswer,
    );
    let form = [("customer", customer.as_str()), ("items[0][price]", &price)];
    let lost = bench
        .try_post("/v1/subscriptions", &form, Some("sub-1"))
        .await;
    assert!(
        lost.is_err(),
        "nothing came back, not even a head: {lost:?}"
    );
    assert_eq!(bench.double.state().paid_charges(&customer).len(), 1);
    let found = bench.keyed("/v1/subscriptions", &form, "sub-1").await;
    assert_eq!(found.header("Idempotent-Replayed"), Some("true"));
    assert_eq!(found.ok()["status"], "active");
    assert_eq!(bench.double.state().paid_charges(&customer).len(), 1);
    let calls = bench.double.state().calls();
    let last: Vec<_> = calls
        .iter()
        .filter(|call| call.path == "/v1/subscriptions")
        .map(|call| (call.status, call.executed, call.replayed))
        .collect();
    assert_eq!(last, [(None, true, false), (Some(200), false, true)]);
    assert_eq!(
        bench.double.state().calls_to("POST", "/v1/subscriptions"),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_500_stays_a_500_under_its_key() {
    let bench = Bench::new();
    let faults = bench.double.faults();
    let creation = || Matching::new("POST", "/v1/customers");
    for (committed, made) in [(false, 0), (true, 1)] {
        faults.next(1, creation(), Fault::ServerError { committed });
        let key = format!("key-{committed}");
        let error = bench.keyed("/v1/customers", &[], &key).await.error(500);
        assert_eq!(error["type"], "api_error");
        let again = bench.keyed("/v1/customers", &[], &key).await;
        assert_eq!(again.header("Idempotent-Replayed"), Some("true"));
        again.error(500);
        assert_eq!(bench.double.state().count("customer"), made);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_began_is_not_kept() {
    let bench = Bench::new();
    let faults = bench.double.faults();
    faults.next(1, Matching::any(), Fault::RateLimit { retry_after: 7 });
    let limited = bench.keyed("/v1/customers", &[], "key").await;
    assert_eq!(limited.header("Retry-After"), Some("7"));
    assert_eq!(limited.error(429)["code"], "rate_limit");
    faults.next(1, Matching::any(), Fault::Unavailable);
    bench.keyed("/v1/customers", &[], "key").await.error(503);
    faults.down(true);
    let nothing = bench.try_post("/v1/customers", &[], Some("key")).await;
    assert!(nothing.is_err());
    faults.down(false);
    let made = bench.keyed("/v1/customers", &[], "key").await;
    assert_eq!(made.header("Idempotent-Replayed"), None);
    made.ok();
    assert_eq!(bench.double.state().count("customer"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_in_use_while_its_request_is_under_way() {
    let bench = Bench::new();
    let faults = bench.double.faults();
    let wait = Fault::Delay(Duration::from_millis(400));
    faults.next(1, Matching::new("POST", "/v1/customers"), wait);
    // Whichever comes first takes the fault and the key; the other is refused meanwhile.
    let (one, other) = tokio::join!(
        bench.keyed("/v1/customers", &[], "key"),
        bench.keyed("/v1/customers", &[], "key"),
    );
    let (made, refused) = if one.status == 200 {
        (one, other)
    } else {
        (other, one)
    };
    assert_eq!(refused.error(409)["code"], "idempotency_key_in_use");
    assert_eq!(made.header("Idempotent-Replayed"), None);
    made.ok();
    assert_eq!(bench.double.state().count("customer"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_hangs_ends_when_the_faults_are_cleared() {
    let bench = Bench::new();
    let faults = bench.double.faults();
    faults.next(1, Matching::new("GET", "/v1/customers"), Fault::Hang);
    let hanging = bench.get("/v1/events");
    hanging.await.ok();
    let double_url = bench.double.url();
    let hanging = tokio::spawn(async move {
        let http = reqwest::Client::new();
        let request = http.get(format!("{double_url}/v1/customers"));
        request
            .bearer_auth(crate::support::KEY)
            .send()
            .await
            .is_err()
    });
    while bench.double.state().calls_to("GET", "/v1/customers") == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!hanging.is_finished());
    // The call is noted just before it hangs: clear until it has let go.
    while !hanging.is_finished() {
        faults.clear();
        tokio::task::yield_now().await;
    }
    assert!(hanging.await.expect("the task ends"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_hangs_up_does_not_stop_the_work() {
    let bench = Bench::new();
    let faults = bench.double.faults();
    let wait = Fault::Delay(Duration::from_millis(100));
    faults.next(1, Matching::any(), wait);
    let call = bench.keyed("/v1/customers", &[], "key");
    let gone = tokio::time::timeout(Duration::from_millis(30), call).await;
    assert!(gone.is_err());
    let found = async {
        loop {
            let answer = bench.keyed("/v1/customers", &[], "key").await;
            if answer.status == 200 {
                return answer;
            }
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(5), found)
        .await
        .expect("the work goes on");
    assert_eq!(found.header("Idempotent-Replayed"), Some("true"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_key_opens_the_api() {
    let bench = Bench::new();
    let http = reqwest::Client::new();
    let url = format!("{}/v1/customers", bench.double.url());
    let status = |request: reqwest::RequestBuilder| async {
        let response = request.send().await.expect("the double answers");
        response.status().as_u16()
    };
    assert_eq!(status(http.get(&url)).await, 401);
    assert_eq!(
        status(http.get(&url).bearer_auth("sk_test_other")).await,
        401
    );
    let basic = http.get(&url).basic_auth(crate::support::KEY, Some(""));
    assert_eq!(status(basic).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_what_is_wrong() {
    let bench = Bench::new();
    let missing = bench.get("/v1/customers/cus_none").await.error(404);
    assert_eq!(missing["code"], "resource_missing");
    assert_eq!(missing["message"], "No such customer: 'cus_none'");
    let form = [("customer", "cus_none"), ("items[0][price]", "price_none")];
    let error = bench.post("/v1/subscriptions", &form).await.error(400);
    assert_eq!(error["code"], "resource_missing");
    let error = bench
        .post("/v1/customers", &[("colour", "red")])
        .await
        .error(400);
    assert_eq!(
        (&error["code"], &error["param"]),
        (&json!("parameter_unknown"), &json!("colour"))
    );
    let error = bench.post("/v1/subscriptions", &[]).await.error(400);
    assert_eq!(
        (&error["code"], &error["param"]),
        (&json!("parameter_missing"), &json!("customer"))
    );
    let error = bench.get("/v1/nothing").await.error(404);
    assert!(text(&error, "message").starts_with("Unrecognized request URL (GET: /v1/nothing)"));
    let customer = id(&bench.post("/v1/customers", &[]).await.ok());
    let path = format!("/v1/customers/{customer}");
    let error = bench
        .get(&format!("{path}?expand[]=shoes"))
        .await
        .error(400);
    assert_eq!(
        error["message"],
        "This property cannot be expanded (shoes)."
    );
    bench.delete(&path).await.ok();
    let gone = bench.get(&path).await.ok();
    assert_eq!(gone["deleted"], true);
    bench.post(&path, &[("name", "Jo")]).await.error(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_paged_and_filtered() {
    let bench = Bench::new();
    let mut made = Vec::new();
    for n in 0..5 {
        bench.travel_to(&format!("2027-02-0{}T00:00:00Z", n + 1));
        let email = format!("c{}@example.com", n % 2);
        made.push(id(&bench
            .post("/v1/customers", &[("email", &email)])
            .await
            .ok()));
    }
    let ids = |list: &serde_json::Value| -> Vec<String> {
        let rows = list["data"].as_array().expect("a list has data");
        rows.iter().map(id).collect()
    };
    let first = bench.get("/v1/customers?limit=2").await.ok();
    assert_eq!(ids(&first), [made[4].clone(), made[3].clone()]);
    assert_eq!(first["has_more"], true);
    let path = format!("/v1/customers?limit=3&starting_after={}", made[3]);
    let rest = bench.get(&path).await.ok();
    assert_eq!(
        ids(&rest),
        [made[2].clone(), made[1].clone(), made[0].clone()]
    );
    assert_eq!(rest["has_more"], false);
    let odd = bench.get("/v1/customers?email=c1%40example.com").await.ok();
    assert_eq!(ids(&odd), [made[3].clone(), made[1].clone()]);
    let since = crate::support::at("2027-02-04T00:00:00Z");
    let late = bench
        .get(&format!("/v1/customers?created[gte]={since}"))
        .await
        .ok();
    assert_eq!(ids(&late), [made[4].clone(), made[3].clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_routes_do_what_the_handle_does() {
    let bench = Bench::new();
    let plan = r#"{"fault":"rate_limit","times":1,"method":"GET","path":"/v1/customers*"}"#;
    bench.control("faults", plan).await.ok();
    bench.get("/v1/customers").await.error(429);
    bench.get("/v1/customers").await.ok();
    let moved = bench
        .control("clock/advance", r#"{"seconds":3600}"#)
        .await
        .ok();
    assert_eq!(moved["now"], crate::support::at("2027-01-31T11:00:00Z"));
    assert_eq!(
        bench.control("faults", r#"{"fault":"flood"}"#).await.status,
        400
    );
    assert_eq!(bench.control("nothing", "").await.status, 404);
}
