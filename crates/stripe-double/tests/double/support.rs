//! A double whose clock the test moves, and a client that sends forms and reads JSON.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rawdrive_stripe_double::{Config, StripeDouble};
use serde_json::Value;

pub(crate) const KEY: &str = "sk_test_double";

/// 31 January 2027, 10:00: an anchor that short months clamp.
pub(crate) const START: &str = "2027-01-31T10:00:00Z";

pub(crate) fn at(text: &str) -> i64 {
    DateTime::parse_from_rfc3339(text)
        .expect("a test states valid times")
        .timestamp()
}

pub(crate) struct Bench {
    pub(crate) double: StripeDouble,
    time: Arc<AtomicI64>,
    http: reqwest::Client,
}

/// An answer: its status, the headers of interest, and its body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) headers: reqwest::header::HeaderMap,
}

impl Answer {
    /// The body of a success.
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }

    /// The error of a failure with that status.
    pub(crate) fn error(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body["error"].clone()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(adjust: impl FnOnce(&mut Config)) -> Self {
        let time = Arc::new(AtomicI64::new(at(START)));
        let of_clock = Arc::clone(&time);
        let mut config = Config::new(KEY);
        config.clock = Arc::new(move || {
            DateTime::<Utc>::from_timestamp(of_clock.load(Ordering::SeqCst), 0)
                .expect("a test's time is valid")
        });
        config.tick = Duration::from_millis(5);
        adjust(&mut config);
        Self {
            double: StripeDouble::start(config).expect("a loopback port is free"),
            time,
            http: reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .timeout(Duration::from_secs(20))
                .build()
                .expect("a client without TLS needs nothing"),
        }
    }

    /// Moves the clock and lets everything happen that is due.
    pub(crate) fn travel_to(&self, time: &str) {
        self.time.store(at(time), Ordering::SeqCst);
        self.double.settle();
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        let request = self.http.get(format!("{}{path}", self.double.url()));
        self.send(request.bearer_auth(KEY))
            .await
            .expect("the double answers")
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        let request = self.http.delete(format!("{}{path}", self.double.url()));
        self.send(request.bearer_auth(KEY))
            .await
            .expect("the double answers")
    }

    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        self.try_post(path, form, None)
            .await
            .expect("the double answers")
    }

    pub(crate) async fn keyed(&self, path: &str, form: &[(&str, &str)], key: &str) -> Answer {
        self.try_post(path, form, Some(key))
            .await
            .expect("the double answers")
    }

    pub(crate) async fn try_post(
        &self,
        path: &str,
        form: &[(&str, &str)],
        key: Option<&str>,
    ) -> Result<Answer, reqwest::Error> {
        let mut request = self
            .http
            .post(format!("{}{path}", self.double.url()))
            .bearer_auth(KEY)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(encode(form));
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        self.send(request).await
    }

    /// Without authentication, to a page or a control route.
    pub(crate) async fn page(&self, url: &str, form: Option<&[(&str, &str)]>) -> reqwest::Response {
        let url = if url.starts_with('/') {
            format!("{}{url}", self.double.url())
        } else {
            url.to_owned()
        };
        let request = match form {
            Some(form) => self.http.post(url).body(encode(form)),
            None => self.http.get(url),
        };
        request.send().await.expect("the double answers")
    }

    pub(crate) async fn control(&self, path: &str, body: &str) -> Answer {
        let url = format!("{}/_double/{path}", self.double.url());
        let request = self.http.post(url).body(body.to_owned());
        self.send(request).await.expect("the double answers")
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
        let response = request.send().await?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let text = response.text().await?;
        Ok(Answer {
            status,
            body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
            headers,
        })
    }

    /// A monthly price of a product with a name.
    pub(crate) async fn price(&self, name: &str, amount: &str, interval: &str) -> String {
        let form = [
            ("currency", "usd"),
            ("unit_amount", amount),
            ("recurring[interval]", interval),
            ("product_data[name]", name),
        ];
        id(&self.post("/v1/prices", &form).await.ok())
    }

    /// A customer with a card as the default.
    pub(crate) async fn customer(&self, card: &str) -> String {
        let form = [("email", "jo@example.com")];
        let customer = id(&self.post("/v1/customers", &form).await.ok());
        self.give_card(&customer, card).await;
        customer
    }

    /// Attaches a card and makes it the default. Returns the payment method.
    pub(crate) async fn give_card(&self, customer: &str, card: &str) -> String {
        let path = format!("/v1/payment_methods/{card}/attach");
        let method = id(&self.post(&path, &[("customer", customer)]).await.ok());
        self.post(
            &format!("/v1/customers/{customer}"),
            &[("invoice_settings[default_payment_method]", &method)],
        )
        .await
        .ok();
        method
    }

    pub(crate) async fn subscribe(
        &self,
        customer: &str,
        price: &str,
        more: &[(&str, &str)],
    ) -> Answer {
        let mut form = vec![("customer", customer), ("items[0][price]", price)];
        form.extend(more);
        self.post("/v1/subscriptions", &form).await
    }

    pub(crate) async fn subscription(&self, id: &str) -> Value {
        self.get(&format!("/v1/subscriptions/{id}")).await.ok()
    }

    pub(crate) async fn invoice(&self, id: &str) -> Value {
        self.get(&format!("/v1/invoices/{id}")).await.ok()
    }

    /// The types of the events so far, oldest first.
    pub(crate) fn event_types(&self) -> Vec<String> {
        let events = self.double.state().events();
        let types = events.iter().map(|event| text(event, "type").to_owned());
        types.collect()
    }

    /// The last event of a type.
    pub(crate) fn last_event(&self, kind: &str) -> Value {
        let events = self.double.state().events();
        let found = events.into_iter().rev().find(|event| event["type"] == kind);
        found.unwrap_or_else(|| panic!("there was no {kind}"))
    }
}

pub(crate) fn id(object: &Value) -> String {
    text(object, "id").to_owned()
}

pub(crate) fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} is no text in {object}"))
}

pub(crate) fn encode(form: &[(&str, &str)]) -> String {
    let escape = |text: &str| -> String {
        let bytes = text.bytes().map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        });
        bytes.collect()
    };
    let pairs = form
        .iter()
        .map(|(name, value)| format!("{}={}", escape(name), escape(value)));
    pairs.collect::<Vec<_>>().join("&")
}
