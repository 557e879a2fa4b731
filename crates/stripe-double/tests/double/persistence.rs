//! What outlives a double that keeps its state in a file.

use std::path::Path;
use std::time::Duration;

use rawdrive_stripe_double::{Config, StartError, StripeDouble};
use serde_json::{Value, json};

use crate::support::{Bench, KEY, id, text};
use crate::webhooks::{PATIENCE, receiver};

fn bench(state: &Path) -> Bench {
    Bench::with(|config| config.state = Some(state.to_owned()))
}

/// The file, once it is as it should be.
async fn written(path: &Path, is_right: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..300 {
        let bytes = std::fs::read(path).unwrap_or_default();
        if let Ok(content) = serde_json::from_slice::<Value>(&bytes)
            && is_right(&content)
        {
            return content;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{} is not written as it should be", path.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_double_that_is_started_again_goes_on_where_it_was() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let state = folder.path().join("double.json");
    let first = bench(&state);
    let price = first.price("Professional", "2900", "month").await;
    let customer = first.customer("pm_card_visa").await;
    let keyed = [("customer", customer.as_str()), ("items[0][price]", &price)];
    let sold = first.keyed("/v1/subscriptions", &keyed, "sub-1").await.ok();
    let subscription = id(&sold);
    let invoice = first.invoice(text(&sold, "latest_invoice")).await;
    let before: Vec<_> = ["customer", "subscription", "invoice", "charge", "event"]
        .map(|kind| first.double.state().objects(kind))
        .into();
    let url = first.double.url();
    drop(first);

    let second = bench(&state);
    assert_eq!(second.double.url(), url, "open pages stay where they are");
    let after: Vec<_> = ["customer", "subscription", "invoice", "charge", "event"]
        .map(|kind| second.double.state().objects(kind))
        .into();
    assert_eq!(before, after);
    let replayed = second.keyed("/v1/subscriptions", &keyed, "sub-1").await;
    assert_eq!(replayed.header("Idempotent-Replayed"), Some("true"));
    assert_eq!(id(&replayed.ok()), subscription);
    let page = second
        .page(text(&invoice, "hosted_invoice_url"), None)
        .await;
    assert_eq!(page.status().as_u16(), 200);
    // Time goes on as well, with the card that was noted.
    second.travel_to("2027-03-01T12:00:00Z");
    assert_eq!(second.double.state().paid_charges(&customer).len(), 2);
    let path = format!("/v1/subscriptions/{subscription}");
    let change = [("cancel_at_period_end", "true")];
    second.post(&path, &change).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_while_no_double_runs_is_made_up_for() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let state = folder.path().join("double.json");
    let first = bench(&state);
    let price = first.price("Professional", "2900", "month").await;
    let customer = first.customer("pm_card_visa").await;
    first.subscribe(&customer, &price, &[]).await.ok();
    drop(first);
    let second = Bench::with(|config| {
        config.state = Some(state.clone());
        config.clock = std::sync::Arc::new(|| {
            "2027-04-10T00:00:00Z"
                .parse()
                .expect("a test states valid times")
        });
    });
    second.double.settle();
    assert_eq!(second.double.state().paid_charges(&customer).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_written_without_an_end_to_wait_for() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let state = folder.path().join("double.json");
    let bench = bench(&state);
    let customer = id(&bench.post("/v1/customers", &[]).await.ok());
    let kept = |content: &Value| content["objects"]["customer"][0]["id"] == customer.as_str();
    written(&state, kept).await;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&state)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "secrets of webhooks are in it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_that_had_not_arrived_go_to_where_the_endpoint_is_now() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let state = folder.path().join("double.json");
    let first = Bench::with(|config| {
        config.state = Some(state.clone());
        config.webhook = vec![("http://127.0.0.1:9/gone".to_owned(), "whsec_old".to_owned())];
        config.webhook_backoff = vec![Duration::from_secs(3600)];
    });
    let customer = id(&first.post("/v1/customers", &[]).await.ok());
    drop(first);
    let (url, received) = receiver(Vec::new()).await;
    let second = Bench::with(|config| {
        config.state = Some(state.clone());
        config.webhook = vec![(url, "whsec_new".to_owned())];
    });
    assert!(second.double.wait_for_webhooks(PATIENCE));
    let received = received.lock().expect("nobody panicked with it").clone();
    assert_eq!(received.len(), 1, "{received:?}");
    let event: Value = serde_json::from_str(&received[0].1).expect("an event is JSON");
    assert_eq!(event["data"]["object"]["id"], customer.as_str());
    assert_eq!(second.double.state().count("webhook_endpoint"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_double_elsewhere_shows_its_pages_where_it_is() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let state = folder.path().join("double.json");
    let first = bench(&state);
    let price = first.price("Professional", "2900", "month").await;
    let customer = first.customer("pm_card_visa").await;
    let sold = first.subscribe(&customer, &price, &[]).await.ok();
    let invoice = text(&sold, "latest_invoice").to_owned();
    let address = first.double.url().trim_start_matches("http://").to_owned();
    drop(first);
    let _taken = std::net::TcpListener::bind(&address).expect("the port is free again");
    let second = bench(&state);
    assert_ne!(second.double.url(), format!("http://{address}"));
    let invoice = second.invoice(&invoice).await;
    let page = second
        .page(text(&invoice, "hosted_invoice_url"), None)
        .await;
    assert_eq!(page.status().as_u16(), 200);
}

#[test]
fn a_file_that_is_not_a_doubles_stops_the_start_and_stays_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let state = folder.path().join("double.json");
    let whole = json!({
        "format": 1, "url": "http://127.0.0.1:1", "ahead": 0, "objects": {}, "keys": [], "webhooks": [],
    });
    let with = |field: &str, value: Value| {
        let mut content = whole.clone();
        content[field] = value;
        content.to_string()
    };
    let wrong = [
        String::new(),
        "{".to_owned(),
        with("format", json!(2)),
        with("objects", json!({ "unicorn": [] })),
        with("objects", json!({ "customer": [{ "object": "customer" }] })),
        with("keys", json!("none")),
    ];
    for content in wrong {
        std::fs::write(&state, &content).expect("a file can be written");
        let mut config = Config::new(KEY);
        config.state = Some(state.clone());
        let refused = StripeDouble::start(config);
        let Err(error @ StartError::State { .. }) = refused else {
            panic!("{content}: {refused:?}");
        };
        let said = error.to_string();
        assert!(said.contains(&state.display().to_string()), "{said}");
        let kept = std::fs::read_to_string(&state).expect("it is still there");
        assert_eq!(kept, content);
    }
    std::fs::write(&state, whole.to_string()).expect("a file can be written");
    let mut config = Config::new(KEY);
    config.state = Some(state);
    StripeDouble::start(config).expect("what a double writes, one can read");
}
