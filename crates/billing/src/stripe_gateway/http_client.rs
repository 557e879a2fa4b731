//! One call of Stripe's HTTP API: sent, sent again under the same key where that may help, and answered in our
//! terms within a bounded time.
//!
//! The bindings' own client is not used: an explicit idempotency key makes it try once, it waits for ever to
//! connect, and it shows neither `Retry-After` nor `Idempotent-Replayed`. Their request builders are; what they
//! build is sent here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, Utc};
use rawdrive_tenancy_core::Env;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
    USER_AGENT,
};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use stripe_client_core::{RequestBuilder, StripeMethod};
use tokio::time::{Instant, sleep};

use super::responses::{ErrorBody, Refusal};
use super::{StripeSettings, StripeSetupError};
use crate::gateway::{ClientSecret, Decline, GatewayError};
use crate::ids::IdempotencyKey;

/// The longest that one try of a read may take.
const READ_WITHIN: Duration = Duration::from_secs(6);
/// The longest that what is only shown is waited for, every try included.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);
/// The version of Stripe's API that this adapter was written against, sent with each call: an account's default may
/// be any. A test holds it against the bindings' own.
pub(super) const API_VERSION: &str = "2026-09-30.endive";

const BASE: &str = "https://api.stripe.com";
const CONNECT: Duration = Duration::from_secs(5);
/// The largest answer that is read: a page of 100 events stays below.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// The longest text of Stripe's that is kept, in characters.
const MAX_TEXT: usize = 300;
const MAX_KEY_BYTES: usize = 255;

const VERSION_HEADER: HeaderName = HeaderName::from_static("stripe-version");
const KEY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED_HEADER: HeaderName = HeaderName::from_static("idempotent-replayed");
const SHOULD_RETRY_HEADER: HeaderName = HeaderName::from_static("stripe-should-retry");

/// Until when everything that one call of the port does must have ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Instant);

impl Deadline {
    fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// Why a call came to nothing: an error of the port, or a card that was refused, which is no error where money was
/// asked for.
#[derive(Debug)]
pub(super) enum Failure {
    Gateway(GatewayError),
    Card(CardRefusal),
}

impl From<GatewayError> for Failure {
    fn from(error: GatewayError) -> Self {
        Self::Gateway(error)
    }
}

impl From<Failure> for GatewayError {
    /// Where no money was asked for, a card's refusal is the call's.
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Gateway(error) => error,
            Failure::Card(card) => Self::Rejected {
                code: card.decline.decline_code,
                message: card.message,
            },
        }
    }
}

/// A 402.
#[derive(Debug)]
pub(super) struct CardRefusal {
    pub(super) decline: Decline,
    /// Of the payment that a confirmation by the payer would complete.
    pub(super) confirmable: Option<ClientSecret>,
    message: String,
}

#[derive(Debug)]
pub(super) struct HttpClient {
    client: Client,
    base: String,
    env: Env,
    call_timeout: Duration,
    try_timeout: Duration,
    tries: u32,
    /// Whether the last try was answered.
    answers: AtomicBool,
}

impl HttpClient {
    pub(super) fn new(settings: &StripeSettings, env: Env) -> Result<Self, StripeSetupError> {
        let client = Client::builder()
            .default_headers(headers(&settings.secret_key)?)
            .connect_timeout(CONNECT.min(settings.try_timeout))
            // The key goes where the operator said, and nowhere else.
            .redirect(Policy::none())
            .build()
            .map_err(StripeSetupError::Client)?;
        Ok(Self {
            client,
            base: base(settings)?,
            env,
            call_timeout: settings.call_timeout,
            try_timeout: settings.try_timeout,
            tries: settings.tries.max(1),
            answers: AtomicBool::new(true),
        })
    }

    pub(super) fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// The time of decisions, which is the provider's too.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.env.now()
    }

    pub(super) fn deadline(&self) -> Deadline {
        Deadline(Instant::now() + self.call_timeout)
    }

    /// For what is shown and changes nothing: whoever waits for it can ask again.
    pub(super) fn short_deadline(&self) -> Deadline {
        Deadline(Instant::now() + self.call_timeout.min(SHOWN_WITHIN))
    }

    /// Reads.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        within: Deadline,
        request: RequestBuilder,
    ) -> Result<T, Failure> {
        self.call(within, Call::new(request, None)?).await
    }

    /// Reads what may not be there.
    pub(super) async fn find<T: DeserializeOwned>(
        &self,
        within: Deadline,
        request: RequestBuilder,
    ) -> Result<Option<T>, GatewayError> {
        match self.get(within, request).await {
            Ok(found) => Ok(Some(found)),
            Err(Failure::Gateway(GatewayError::NotFound)) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Changes something, once for the key.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        within: Deadline,
        request: RequestBuilder,
        key: &IdempotencyKey,
    ) -> Result<T, Failure> {
        self.call(within, Call::new(request, Some(key.as_str().to_owned()))?)
            .await
    }

    /// A further change that a call of the port makes, once for the port's key and what is sent: what is sent may
    /// depend on what was found, and Stripe refuses a key that comes back with something else.
    pub(super) async fn post_part<T: DeserializeOwned>(
        &self,
        within: Deadline,
        request: RequestBuilder,
        key: &IdempotencyKey,
    ) -> Result<T, Failure> {
        let mut call = Call::new(request, None)?;
        call.key = Some(part_key(key, &call));
        self.call(within, call).await
    }

    /// Changes nothing that matters twice: no key.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        within: Deadline,
        request: RequestBuilder,
    ) -> Result<T, Failure> {
        self.call(within, Call::new(request, None)?).await
    }

    async fn call<T: DeserializeOwned>(&self, within: Deadline, call: Call) -> Result<T, Failure> {
        let bytes = self.answered(within, &call).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            // What it says of the value could be a secret; where it is cannot.
            let reason = format!(
                "an answer to {} {} that cannot be read, at line {} column {}",
                call.method,
                call.path,
                error.line(),
                error.column()
            );
            Failure::Gateway(GatewayError::Unreachable { reason })
        })
    }

    async fn answered(&self, within: Deadline, call: &Call) -> Result<Vec<u8>, Failure> {
        // Whether an earlier try may have been carried out although it was not answered.
        let mut unknown = false;
        for number in 1.. {
            let tried = self.once(within, call).await;
            let answers = tried.as_ref().is_ok_and(|answer| answer.status < 500);
            self.answers.store(answers, Ordering::Relaxed);
            let verdict = match tried {
                Ok(answer) => answer.verdict(call),
                Err(lost) => Verdict::again(lost.reason, lost.was_sent, None),
            };
            let (failure, unknown_now, wait) = match verdict {
                Verdict::Final(Err(failure)) if unknown => return Err(still_unknown(failure)),
                Verdict::Final(end) => return end,
                Verdict::Again {
                    error,
                    unknown,
                    wait,
                } => (Failure::Gateway(error), unknown, wait),
            };
            unknown |= unknown_now && call.method != Method::GET;
            let pause = self.backoff(number).max(wait.unwrap_or_default());
            if number >= self.tries || pause >= within.left() {
                return Err(if unknown {
                    still_unknown(failure)
                } else {
                    failure
                });
            }
            tracing::debug!(method = %call.method, path = call.path, number, ?failure, "Stripe is asked again");
            sleep(pause).await;
        }
        unreachable!("the loop ends by its own bound")
    }

    /// 250 ms, doubled with each try up to 2 s, of which a random half is left out so that callers spread.
    fn backoff(&self, number: u32) -> Duration {
        let whole = Duration::from_millis(250 << number.saturating_sub(1).min(3));
        let random = f64::from(u16::from_le_bytes(self.env.bytes())) / f64::from(u16::MAX);
        whole.mul_f64(0.5 + random / 2.0)
    }

    async fn once(&self, within: Deadline, call: &Call) -> Result<Answer, Lost> {
        let url = Url::parse(&call.url(&self.base)).map_err(|_| Lost {
            reason: "no address can be made of the call".to_owned(),
            was_sent: false,
        })?;
        // No bank is asked for what is only read.
        let patience = match call.method {
            Method::GET => self.try_timeout.min(READ_WITHIN),
            _ => self.try_timeout,
        };
        let mut request = self
            .client
            .request(call.method.clone(), url)
            .timeout(patience.min(within.left()));
        if let Some(key) = &call.key {
            request = request.header(KEY_HEADER, key);
        }
        if let Some(body) = &call.body {
            request = request
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(body.clone());
        }
        let response = request.send().await.map_err(|error| Lost::of(&error))?;
        Answer::read(response).await
    }
}

fn headers(secret_key: &SecretString) -> Result<HeaderMap, StripeSetupError> {
    let bearer = format!("Bearer {}", secret_key.expose_secret());
    let mut bearer = HeaderValue::try_from(bearer).map_err(|_| StripeSetupError::Key)?;
    bearer.set_sensitive(true);
    let agent = concat!("rawdrive/", env!("CARGO_PKG_VERSION"));
    Ok(HeaderMap::from_iter([
        (AUTHORIZATION, bearer),
        (ACCEPT, HeaderValue::from_static("application/json")),
        (USER_AGENT, HeaderValue::from_static(agent)),
        (VERSION_HEADER, HeaderValue::from_static(API_VERSION)),
    ]))
}

/// The address without `/v1`. A live key is not sent in the clear.
fn base(settings: &StripeSettings) -> Result<String, StripeSetupError> {
    let Some(text) = &settings.api_url else {
        return Ok(BASE.to_owned());
    };
    let base = text.trim_end_matches('/').trim_end_matches("/v1");
    let url = Url::parse(base).map_err(|_| StripeSetupError::Address)?;
    let is_bare = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    match url.scheme() {
        "https" if is_bare => Ok(base.to_owned()),
        "http" if is_bare && settings.livemode()? => Err(StripeSetupError::Clear),
        "http" if is_bare => Ok(base.to_owned()),
        _ => Err(StripeSetupError::Address),
    }
}

fn part_key(key: &IdempotencyKey, call: &Call) -> String {
    let body = call.body.as_deref().unwrap_or_default();
    derived(key, &format!("{} {}\n{body}", call.method, call.path))
}

/// A key that follows from another one and a text.
fn derived(key: &IdempotencyKey, text: &str) -> String {
    let hash: String = digest(&SHA256, text.as_bytes()).as_ref()[..12]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let room = MAX_KEY_BYTES - hash.len() - 1;
    // Keys are ASCII: any place is a character's boundary.
    let stem = &key.as_str()[key.as_str().len().saturating_sub(room)..];
    format!("{stem}-{hash}")
}

/// The key for undoing what was done to an object: each time it is undone, it is another object.
pub(super) fn undo_key(key: &IdempotencyKey, object: &str) -> IdempotencyKey {
    let text = derived(key, object);
    text.parse().unwrap_or_else(|_| key.clone())
}

/// What a definite refusal means where an earlier try may have been carried out: that one was not refused.
fn still_unknown(failure: Failure) -> Failure {
    let reason = match failure {
        Failure::Gateway(GatewayError::RateLimited { .. }) => {
            "no answer, and then too many calls".to_owned()
        }
        Failure::Gateway(GatewayError::Unauthorized) => {
            "no answer, and then the key was not accepted".to_owned()
        }
        other => return other,
    };
    Failure::Gateway(GatewayError::Unreachable { reason })
}

/// Whether a text can stand in a path as one segment: an id can come from a client.
pub(super) fn segment(id: &str) -> Result<&str, GatewayError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !id.is_empty() && id.bytes().all(plain) {
        Ok(id)
    } else {
        Err(GatewayError::NotFound)
    }
}

struct Call {
    method: Method,
    path: String,
    query: Option<String>,
    body: Option<String>,
    key: Option<String>,
}

impl Call {
    fn new(request: RequestBuilder, key: Option<String>) -> Result<Self, GatewayError> {
        // Each segment has been checked where an id was put in; this holds if one was forgotten.
        for part in request.path.split('/').skip(1) {
            segment(part)?;
        }
        let method = match request.method {
            StripeMethod::Get => Method::GET,
            StripeMethod::Post => Method::POST,
            StripeMethod::Delete => Method::DELETE,
        };
        let body = request.body.map(|body| sorted(&body));
        // The bindings put a DELETE's parameters into a body; Stripe's own SDKs send them in the query, and what
        // becomes of the body of a DELETE on its way is nobody's promise.
        let (query, body) = match method {
            Method::DELETE => (request.query.or(body), None),
            _ => (request.query, body),
        };
        Ok(Self {
            method,
            path: request.path,
            query: query.filter(|query| !query.is_empty()),
            body,
            key,
        })
    }

    fn url(&self, base: &str) -> String {
        let path = &self.path;
        match &self.query {
            Some(query) => format!("{base}/v1{path}?{query}"),
            None => format!("{base}/v1{path}"),
        }
    }
}

/// The pairs of a form in one order. The bindings keep metadata in a hash map, whose order changes from call to
/// call; the same call is to be the same bytes.
fn sorted(form: &str) -> String {
    let mut pairs: Vec<_> = form.split('&').filter(|pair| !pair.is_empty()).collect();
    pairs.sort_unstable();
    pairs.join("&")
}

/// A try without an answer.
struct Lost {
    reason: String,
    /// Whether Stripe may have got it.
    was_sent: bool,
}

impl Lost {
    fn of(error: &reqwest::Error) -> Self {
        let reason = if error.is_connect() {
            "no connection"
        } else if error.is_timeout() {
            "no answer in time"
        } else {
            "the connection broke"
        };
        Self {
            reason: reason.to_owned(),
            was_sent: !error.is_connect(),
        }
    }
}

/// What came back on one try.
struct Answer {
    status: u16,
    retry_after: Option<Duration>,
    replayed: bool,
    should_retry: Option<bool>,
    body: Vec<u8>,
}

enum Verdict {
    Final(Result<Vec<u8>, Failure>),
    Again {
        error: GatewayError,
        /// Whether this try may have been carried out.
        unknown: bool,
        wait: Option<Duration>,
    },
}

impl Verdict {
    fn again(reason: String, unknown: bool, wait: Option<Duration>) -> Self {
        Self::Again {
            error: GatewayError::Unreachable { reason },
            unknown,
            wait,
        }
    }

    fn refused(error: impl Into<Failure>) -> Self {
        Self::Final(Err(error.into()))
    }
}

impl Answer {
    async fn read(mut response: Response) -> Result<Self, Lost> {
        let header = |name: &HeaderName| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::trim)
        };
        let flag = |name: &HeaderName| header(name).map(|value| value.eq_ignore_ascii_case("true"));
        // Seconds; a date would need a clock that agrees with theirs.
        let retry_after = header(&RETRY_AFTER).and_then(|value| value.parse().ok());
        let mut answer = Self {
            status: response.status().as_u16(),
            retry_after: retry_after.map(Duration::from_secs),
            replayed: flag(&REPLAYED_HEADER) == Some(true),
            should_retry: flag(&SHOULD_RETRY_HEADER),
            body: Vec::new(),
        };
        while let Some(chunk) = response.chunk().await.map_err(|error| Lost::of(&error))? {
            if answer.body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(Lost {
                    reason: format!("an answer of more than {MAX_ANSWER_BYTES} bytes"),
                    was_sent: true,
                });
            }
            answer.body.extend_from_slice(&chunk);
        }
        Ok(answer)
    }

    /// What the answer means (<https://docs.stripe.com/error-low-level>).
    fn verdict(self, call: &Call) -> Verdict {
        let may_retry = self.should_retry != Some(false);
        match self.status {
            200..=299 => Verdict::Final(Ok(self.body)),
            401 | 403 => Verdict::refused(GatewayError::Unauthorized),
            404 => Verdict::refused(GatewayError::NotFound),
            409 if may_retry => {
                let reason = "the key is in use by a call under way".to_owned();
                Verdict::again(reason, true, self.retry_after)
            }
            429 => Verdict::Again {
                error: GatewayError::RateLimited {
                    retry_after: self.retry_after,
                },
                unknown: false,
                wait: self.retry_after,
            },
            424 | 500.. => {
                if self.replayed && call.key.is_some() {
                    return Verdict::refused(GatewayError::ReplayedFailure);
                }
                let reason = format!("Stripe answers {}", self.status);
                if may_retry {
                    Verdict::again(reason, true, self.retry_after)
                } else {
                    Verdict::refused(GatewayError::Unreachable { reason })
                }
            }
            400..=499 => Verdict::refused(self.refusal()),
            // Nobody at Stripe's address answers so; what became of the call is not known.
            other => Verdict::refused(GatewayError::Unreachable {
                reason: format!("Stripe answers {other}"),
            }),
        }
    }

    fn refusal(&self) -> Failure {
        let body: Option<ErrorBody> = serde_json::from_slice(&self.body).ok();
        let refusal = body.map(|body| body.error).unwrap_or_default();
        let message = harmless(refusal.message.as_deref().unwrap_or_default());
        if self.status == 402 || refusal.kind.as_deref() == Some("card_error") {
            return Failure::Card(CardRefusal {
                decline: refusal.decline(),
                confirmable: refusal.confirmable(),
                message,
            });
        }
        Failure::Gateway(GatewayError::Rejected {
            code: code(&refusal),
            message,
        })
    }
}

/// The code; where there is none, what kind of error it is says more than nothing.
fn code(refusal: &Refusal) -> String {
    let code = refusal.code.as_ref().or(refusal.kind.as_ref());
    harmless(code.map_or("", String::as_str))
}

/// One line of bounded length, without words that are, or hold, a secret.
fn harmless(text: &str) -> String {
    let marks = ["sk_", "rk_", "pk_", "whsec_", "_secret_", "Bearer"];
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let words = words.filter(|word| !word.is_empty()).map(|word| {
        let hides = marks.iter().any(|mark| word.contains(mark));
        if hides { "…" } else { word }
    });
    let line = words.collect::<Vec<_>>().join(" ");
    line.chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_that_is_sent_is_the_one_the_bindings_were_made_for() {
        assert_eq!(stripe_client_core::VERSION.as_str(), API_VERSION);
    }

    #[test]
    fn the_parameters_of_a_delete_are_in_its_query() {
        let mut request = RequestBuilder::new(StripeMethod::Delete, "/subscriptions/sub_1");
        request.body = Some("prorate=false&invoice_now=false".to_owned());
        let call = Call::new(request, None).unwrap();
        assert_eq!(call.body, None);
        assert_eq!(
            call.url("https://api.example"),
            "https://api.example/v1/subscriptions/sub_1?invoice_now=false&prorate=false"
        );
    }

    #[test]
    fn a_form_is_the_same_bytes_whatever_order_it_came_in() {
        assert_eq!(sorted("b=2&a[0][x]=1&&a=3"), sorted("a=3&b=2&a[0][x]=1"));
        assert_eq!(sorted(""), "");
    }

    #[test]
    fn an_id_that_leads_elsewhere_is_no_id() {
        for good in ["sub_1", "pm_card_visa", "cs_test_a1B-2"] {
            assert_eq!(segment(good).unwrap(), good);
        }
        for bad in ["", ".", "..", "a/b", "a?b", "a#b", "a%2fb", "a b", "ä"] {
            assert!(matches!(segment(bad), Err(GatewayError::NotFound)), "{bad}");
        }
    }

    #[test]
    fn texts_of_stripe_are_cut_and_hold_no_secret() {
        let said = "Invalid API Key provided:\n sk_test_*1234 for pi_1_secret_2 and whsec_3.";
        assert_eq!(harmless(said), "Invalid API Key provided: … for … and …");
        assert_eq!(harmless(&"ab ".repeat(1_000)).chars().count(), MAX_TEXT);
    }

    #[test]
    fn a_part_has_a_key_of_its_own_that_depends_on_what_is_sent() {
        let request = |price: &str| {
            let body = format!("price={price}");
            let mut request = RequestBuilder::new(StripeMethod::Post, "/subscriptions");
            request.body = Some(body);
            Call::new(request, None).unwrap()
        };
        let key: IdempotencyKey = "op-1".parse().unwrap();
        let first = part_key(&key, &request("a"));
        assert!(first.starts_with("op-1-"));
        assert_eq!(first, part_key(&key, &request("a")));
        assert_ne!(first, part_key(&key, &request("b")));
        let long: IdempotencyKey = "k".repeat(255).parse().unwrap();
        let short: IdempotencyKey = part_key(&long, &request("a")).parse().unwrap();
        assert_eq!(short.as_str().len(), 255);
    }
}
