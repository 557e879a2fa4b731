//! What the Stripe gateway concludes from each answer, and from none: against a server that answers by a script.
#![cfg(feature = "stripe")]
#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test are test code, which clippy knows of functions marked as tests alone"
)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rawdrive_billing::{
    CancelWhen, CustomerSnapshot, GatewayError, IdempotencyKey, Metadata, NewCustomer, Outcome,
    PaymentGateway as _, StripeGateway, StripeSettings, StripeSetupError,
};
use rawdrive_testkit::TestEnv;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const SECRET: &str = "sk_test_very_secret";
const CUSTOMER: &str = r#"{"id": "cus_1", "metadata": {}}"#;

/// What the server does with one request.
#[derive(Clone)]
enum Reply {
    /// Status, further headers, body.
    Answer(u16, &'static str, String),
    /// Takes the request and closes the connection.
    Close,
    /// Takes the request and says nothing.
    Hang,
}

fn answer(status: u16, body: &str) -> Reply {
    Reply::Answer(status, "", body.to_owned())
}

fn refusal(status: u16, error: &str) -> Reply {
    Reply::Answer(status, "", format!(r#"{{"error": {error}}}"#))
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    head: String,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A server that answers each request by the next line of its script, and the last line for ever.
struct Script {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Script {
    async fn play(replies: impl IntoIterator<Item = Reply>) -> Self {
        let replies: Vec<_> = replies.into_iter().collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, replies.clone(), Arc::clone(&log)));
            }
        });
        Self { address, seen }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn settings(&self) -> StripeSettings {
        let mut settings = StripeSettings::new(SecretString::from(SECRET));
        settings.api_url = Some(format!("http://{}", self.address));
        settings
    }

    fn gateway(&self) -> StripeGateway {
        gateway(&self.settings())
    }

    async fn create(&self) -> Result<CustomerSnapshot, GatewayError> {
        create(&self.gateway()).await
    }
}

async fn serve(mut stream: TcpStream, replies: Vec<Reply>, log: Arc<Mutex<Vec<Seen>>>) {
    let Some(request) = read(&mut stream).await else {
        return;
    };
    let place = {
        let mut log = log.lock().unwrap();
        log.push(request);
        log.len() - 1
    };
    match &replies[place.min(replies.len() - 1)] {
        Reply::Answer(status, headers, body) => {
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n",
                body.len()
            );
            // Whoever has read enough may hang up.
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(body.as_bytes()).await;
        }
        Reply::Close => {}
        Reply::Hang => std::future::pending().await,
    }
}

async fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let seen = Seen {
                head: head.to_owned(),
                body: body.to_owned(),
            };
            let length = seen
                .header("content-length")
                .map_or(0, |l| l.parse().unwrap());
            if body.len() >= length {
                return Some(seen);
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn gateway(settings: &StripeSettings) -> StripeGateway {
    let test_env = TestEnv::seeded(7);
    StripeGateway::new(settings, test_env.env().clone()).unwrap()
}

fn key() -> IdempotencyKey {
    "op-1".parse().unwrap()
}

async fn create(gateway: &StripeGateway) -> Result<CustomerSnapshot, GatewayError> {
    let pairs = ["a", "b", "c", "d", "e"].map(|key| (key.to_owned(), "1".to_owned()));
    let new = NewCustomer {
        name: "A & B = Ä".to_owned(),
        email: None,
        metadata: Metadata(pairs.into()),
    };
    gateway.create_customer(&new, &key()).await
}

#[tokio::test]
async fn a_call_says_who_asks_for_what_in_which_version() {
    let script = Script::play([answer(200, CUSTOMER)]).await;
    script.create().await.unwrap();
    let seen = script.seen().remove(0);
    assert!(
        seen.head.starts_with("POST /v1/customers HTTP/1.1"),
        "{}",
        seen.head
    );
    assert_eq!(
        seen.header("authorization"),
        Some("Bearer sk_test_very_secret")
    );
    assert_eq!(seen.header("stripe-version"), Some("2026-09-30.endive"));
    assert_eq!(seen.header("idempotency-key"), Some("op-1"));
    assert_eq!(
        seen.header("content-type"),
        Some("application/x-www-form-urlencoded")
    );
    assert!(
        seen.body
            .contains("metadata[a]=1&metadata[b]=1&metadata[c]=1"),
        "{}",
        seen.body
    );
    assert!(
        !seen.body.contains('Ä') && !seen.body.contains("& "),
        "{}",
        seen.body
    );
}

#[tokio::test]
async fn a_read_carries_no_key() {
    let script = Script::play([answer(200, CUSTOMER)]).await;
    let found = script
        .gateway()
        .customer(&"cus_1".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(found.unwrap().id.as_str(), "cus_1");
    let seen = script.seen().remove(0);
    assert!(
        seen.head.starts_with("GET /v1/customers/cus_1 HTTP/1.1"),
        "{}",
        seen.head
    );
    assert_eq!(seen.header("idempotency-key"), None);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_by_the_same_call() {
    let script = Script::play([Reply::Close, Reply::Close, answer(200, CUSTOMER)]).await;
    assert_eq!(script.create().await.unwrap().id.as_str(), "cus_1");
    let seen = script.seen();
    assert_eq!(seen.len(), 3);
    assert!(
        seen.iter()
            .all(|s| s.header("idempotency-key") == Some("op-1"))
    );
    assert!(seen.iter().all(|s| s.body == seen[0].body), "{seen:?}");
}

#[tokio::test]
async fn a_key_in_use_is_waited_for() {
    let in_use = r#"{"type": "idempotency_error", "code": "idempotency_key_in_use"}"#;
    let script = Script::play([refusal(409, in_use), answer(200, CUSTOMER)]).await;
    script.create().await.unwrap();
    assert_eq!(script.seen().len(), 2);

    let script = Script::play([refusal(409, in_use)]).await;
    let error = script.create().await.unwrap_err();
    assert!(
        matches!(error, GatewayError::Unreachable { .. }),
        "{error:?}"
    );
    assert_eq!(script.seen().len(), 5);
}

#[tokio::test]
async fn too_many_calls_wait_as_long_as_they_are_told() {
    let slow = Reply::Answer(429, "Retry-After: 1\r\n", "{}".to_owned());
    let script = Script::play([slow, answer(200, CUSTOMER)]).await;
    let began = Instant::now();
    script.create().await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_wait_that_is_longer_than_a_call_is_left_to_the_caller() {
    let slow = Reply::Answer(429, "Retry-After: 3600\r\n", "{}".to_owned());
    let script = Script::play([slow]).await;
    let error = script.create().await.unwrap_err();
    let hour = Some(Duration::from_secs(3_600));
    assert!(matches!(error, GatewayError::RateLimited { retry_after } if retry_after == hour));
    assert_eq!(script.seen().len(), 1);
}

#[tokio::test]
async fn what_may_have_happened_stays_unknown_whatever_is_said_next() {
    let slow = Reply::Answer(429, "Retry-After: 3600\r\n", "{}".to_owned());
    for next in [slow, answer(401, "{}")] {
        let script = Script::play([Reply::Close, next]).await;
        let error = script.create().await.unwrap_err();
        assert!(error.is_unknown(), "{error:?}");
        assert_eq!(script.seen().len(), 2);
    }
    // A read has no effect that could be unknown.
    let script = Script::play([Reply::Close, answer(401, "{}")]).await;
    let error = script
        .gateway()
        .customer(&"cus_1".parse().unwrap())
        .await
        .unwrap_err();
    assert!(matches!(error, GatewayError::Unauthorized), "{error:?}");
}

#[tokio::test]
async fn a_failure_that_is_kept_under_the_key_is_told_from_one_that_is_not() {
    let replayed = Reply::Answer(500, "Idempotent-Replayed: true\r\n", "{}".to_owned());
    let script = Script::play([answer(500, "{}"), replayed]).await;
    let error = script.create().await.unwrap_err();
    assert!(matches!(error, GatewayError::ReplayedFailure), "{error:?}");
    assert_eq!(script.seen().len(), 2);

    for status in [500, 503, 424] {
        let script = Script::play([answer(status, "{}")]).await;
        let error = script.create().await.unwrap_err();
        assert!(
            matches!(error, GatewayError::Unreachable { .. }),
            "{error:?}"
        );
        assert_eq!(script.seen().len(), 5);
    }
    let script = Script::play([answer(503, "<html>"), answer(200, CUSTOMER)]).await;
    script.create().await.unwrap();
}

#[tokio::test]
async fn what_stripe_says_not_to_try_again_is_not_tried_again() {
    let no = Reply::Answer(500, "Stripe-Should-Retry: false\r\n", "{}".to_owned());
    let script = Script::play([no]).await;
    let error = script.create().await.unwrap_err();
    assert!(
        matches!(error, GatewayError::Unreachable { .. }),
        "{error:?}"
    );
    assert_eq!(script.seen().len(), 1);
}

#[tokio::test]
async fn silence_ends_within_the_bound() {
    let script = Script::play([Reply::Hang]).await;
    let mut settings = script.settings();
    settings.try_timeout = Duration::from_millis(200);
    settings.call_timeout = Duration::from_millis(700);
    let began = Instant::now();
    let error = create(&gateway(&settings)).await.unwrap_err();
    assert!(
        matches!(error, GatewayError::Unreachable { .. }),
        "{error:?}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    assert!(
        (1..=3).contains(&script.seen().len()),
        "{}",
        script.seen().len()
    );
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = StripeSettings::new(SecretString::from(SECRET));
    settings.api_url = Some(format!("http://{}/v1/", listener.local_addr().unwrap()));
    drop(listener);
    settings.tries = 2;
    let error = create(&gateway(&settings)).await.unwrap_err();
    assert!(
        matches!(error, GatewayError::Unreachable { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn every_refusal_is_what_it_is() {
    for status in [401, 403] {
        let error = Script::play([answer(status, "{}")])
            .await
            .create()
            .await
            .unwrap_err();
        assert!(matches!(error, GatewayError::Unauthorized), "{error:?}");
    }
    let error = Script::play([answer(404, "{}")])
        .await
        .create()
        .await
        .unwrap_err();
    assert!(matches!(error, GatewayError::NotFound), "{error:?}");

    let wrong = r#"{"type": "invalid_request_error", "code": "parameter_unknown",
        "message": "Not with sk_test_x or pi_1_secret_2."}"#;
    let script = Script::play([refusal(400, wrong)]).await;
    let error = script.create().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the payment provider refused the call: parameter_unknown: Not with … or …"
    );
    assert_eq!(script.seen().len(), 1);

    let bare = Script::play([answer(400, "no JSON")])
        .await
        .create()
        .await
        .unwrap_err();
    assert!(matches!(bare, GatewayError::Rejected { ref code, .. } if code.is_empty()));
    let moved = Reply::Answer(302, "Location: http://127.0.0.1:1/\r\n", String::new());
    let script = Script::play([moved]).await;
    let error = script.create().await.unwrap_err();
    assert!(
        matches!(error, GatewayError::Unreachable { .. }),
        "{error:?}"
    );
    assert_eq!(script.seen().len(), 1, "the key goes nowhere else");
}

#[tokio::test]
async fn a_refused_card_is_an_outcome_where_a_card_was_asked_for() {
    let attach = |script: Script| async move {
        let (customer, card) = ("cus_1".parse().unwrap(), "pm_1".parse().unwrap());
        script
            .gateway()
            .attach_payment_method(&customer, &card, &key())
            .await
    };
    let declined =
        r#"{"type": "card_error", "code": "card_declined", "decline_code": "lost_card"}"#;
    let outcome = attach(Script::play([refusal(402, declined)]).await)
        .await
        .unwrap();
    match outcome {
        Outcome::Declined {
            decline,
            left: None,
        } => assert_eq!(decline.decline_code, "lost_card"),
        other => panic!("{other:?}"),
    }
    let expired = r#"{"type": "card_error", "code": "expired_card"}"#;
    let outcome = attach(Script::play([refusal(402, expired)]).await)
        .await
        .unwrap();
    assert!(
        matches!(outcome, Outcome::Declined { decline, .. } if decline.decline_code == "expired_card")
    );

    let holder = r#"{"type": "card_error", "code": "authentication_required", "payment_intent":
        {"id": "pi_1", "status": "requires_payment_method", "client_secret": "pi_1_secret_2"}}"#;
    let outcome = attach(Script::play([refusal(402, holder)]).await)
        .await
        .unwrap();
    assert!(
        matches!(outcome, Outcome::ActionRequired { .. }),
        "{outcome:?}"
    );
    assert!(!format!("{outcome:?}").contains("pi_1_secret_2"));

    let error = Script::play([refusal(402, declined)])
        .await
        .create()
        .await
        .unwrap_err();
    assert!(matches!(error, GatewayError::Rejected { ref code, .. } if code == "lost_card"));
}

#[tokio::test]
async fn what_was_paid_while_it_was_being_ended_is_not_ended() {
    let subscription = |status: &str| {
        let body = format!(
            r#"{{"id": "sub_1", "customer": "cus_1", "status": "{status}", "created": 1, "latest_invoice": "in_1"}}"#
        );
        answer(200, &body)
    };
    let paid =
        r#"{"type": "invalid_request_error", "code": "invoice_not_editable", "message": "paid"}"#;
    let script = Script::play([
        subscription("incomplete"),
        subscription("incomplete"),
        refusal(400, paid),
        subscription("active"),
    ])
    .await;
    let id = "sub_1".parse().unwrap();
    let ended = script
        .gateway()
        .cancel(&id, CancelWhen::Now, &Metadata::default(), &key())
        .await
        .unwrap();
    assert_eq!(ended.status.as_str(), "active");
    let seen = script.seen();
    let lines: Vec<_> = seen.iter().filter_map(|s| s.head.lines().next()).collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(
        lines[2].starts_with("POST /v1/invoices/in_1/void "),
        "{lines:?}"
    );
    assert!(!lines.iter().any(|l| l.starts_with("DELETE")), "{lines:?}");
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_proves_nothing_and_repeats_nothing() {
    for body in [
        "",
        "[]",
        "null",
        r#"{"id": 7, "name": "pi_1_secret_2"}"#,
        r#"{"id": "pi_1_secret_2 "}"#,
    ] {
        let script = Script::play([answer(200, body)]).await;
        let error = script.create().await.unwrap_err();
        assert!(
            matches!(error, GatewayError::Unreachable { .. }),
            "{body}: {error:?}"
        );
        assert!(
            !format!("{error:?} {error}").contains("pi_1_secret_2"),
            "{error:?}"
        );
        assert_eq!(script.seen().len(), 1);
    }
}

#[tokio::test]
async fn an_endless_answer_is_not_read_to_its_end() {
    let script = Script::play([answer(200, &"x".repeat(17 * 1024 * 1024))]).await;
    let mut settings = script.settings();
    settings.tries = 1;
    let error = create(&gateway(&settings)).await.unwrap_err();
    assert!(error.to_string().contains("more than"), "{error}");
}

#[tokio::test]
async fn an_id_that_leads_elsewhere_is_not_sent() {
    let script = Script::play([answer(200, CUSTOMER)]).await;
    let gateway = script.gateway();
    for bad in [
        "../refunds",
        "sub_1/discount",
        "sub_1?x=1",
        "sub_1#x",
        "%2e%2e",
    ] {
        let subscription = bad.parse().unwrap();
        assert_eq!(gateway.subscription(&subscription).await.unwrap(), None);
        assert_eq!(gateway.customer(&bad.parse().unwrap()).await.unwrap(), None);
        assert_eq!(gateway.charge(&bad.parse().unwrap()).await.unwrap(), None);
        assert_eq!(gateway.dispute(&bad.parse().unwrap()).await.unwrap(), None);
        assert_eq!(gateway.invoice(&bad.parse().unwrap()).await.unwrap(), None);
        assert_eq!(
            gateway
                .checkout_session(&bad.parse().unwrap())
                .await
                .unwrap(),
            None
        );
        let none = Metadata::default();
        let ended = gateway
            .cancel(&subscription, CancelWhen::Now, &none, &key())
            .await;
        assert!(matches!(ended, Err(GatewayError::NotFound)), "{ended:?}");
        let customer = "cus_1".parse().unwrap();
        let attached = gateway
            .attach_payment_method(&customer, &bad.parse().unwrap(), &key())
            .await;
        assert!(
            matches!(attached, Err(GatewayError::NotFound)),
            "{attached:?}"
        );
    }
    assert_eq!(script.seen(), []);
}

#[tokio::test]
async fn the_secret_key_is_shown_nowhere() {
    let script = Script::play([answer(401, "{}")]).await;
    let gateway = script.gateway();
    let error = create(&gateway).await.unwrap_err();
    let shown = format!("{gateway:?} {:?} {error:?} {error}", script.settings());
    assert!(!shown.contains("very_secret"), "{shown}");
    assert!(shown.contains("livemode: false"), "{shown}");
}

#[tokio::test]
async fn a_key_says_whether_money_is_real_and_a_wrong_one_is_refused() {
    let env = TestEnv::seeded(7).env().clone();
    let open = |key: &str, url: Option<&str>| {
        let mut settings = StripeSettings::new(SecretString::from(key));
        settings.api_url = url.map(str::to_owned);
        StripeGateway::new(&settings, env.clone())
    };
    for (key, live) in [
        ("sk_live_1", true),
        ("rk_live_1", true),
        ("sk_test_1", false),
        ("rk_test_1", false),
    ] {
        assert_eq!(open(key, None).unwrap().livemode(), Some(live));
    }
    for key in ["", "pk_live_1", "whsec_1", "sk_live_\n"] {
        assert!(
            matches!(open(key, None), Err(StripeSetupError::Key)),
            "{key:?}"
        );
    }
    for url in [
        "",
        "stripe",
        "ftp://stripe",
        "https://user@stripe",
        "https://stripe/?a=b",
    ] {
        assert!(
            matches!(open("sk_test_1", Some(url)), Err(StripeSetupError::Address)),
            "{url:?}"
        );
    }
    let clear = open("sk_live_1", Some("http://127.0.0.1:1"));
    assert!(matches!(clear, Err(StripeSetupError::Clear)));
    open("sk_live_1", Some("https://127.0.0.1:1")).unwrap();
}
