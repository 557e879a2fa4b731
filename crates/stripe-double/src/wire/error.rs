//! Stripe's error envelope. Codes and messages follow <https://docs.stripe.com/api/errors> and what the API
//! answers in test mode.

use serde_json::{Map, Value, json};

/// What a route answers: an object, or an error.
pub(crate) type Answer = Result<Value, ApiError>;

/// An error as Stripe answers it.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    /// The fields of `error`.
    pub(crate) fields: Map<String, Value>,
    /// Whether work had begun. Only then is the answer stored under an idempotency key: "if incoming
    /// parameters fail validation, … we don't save the idempotent result because no API endpoint initiates
    /// the execution".
    pub(crate) begun: bool,
    /// Seconds of a `Retry-After`.
    pub(crate) retry_after: Option<u64>,
}

impl ApiError {
    pub(crate) fn new(status: u16, kind: &str, message: impl Into<String>) -> Self {
        let mut fields = Map::new();
        fields.insert("message".into(), Value::String(message.into()));
        fields.insert("type".into(), json!(kind));
        Self {
            status,
            fields,
            begun: true,
            retry_after: None,
        }
    }

    /// A request that Stripe understood and refuses.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", message)
    }

    /// A parameter that is absent or malformed: refused before any work.
    pub(crate) fn malformed(param: &str, code: Option<&str>, message: impl Into<String>) -> Self {
        let mut error = Self::invalid(message).param(param);
        if let Some(code) = code {
            error = error.code(code);
        }
        error.begun = false;
        error
    }

    pub(crate) fn parameter_missing(param: &str) -> Self {
        let message = format!("Missing required param: {param}.");
        Self::malformed(param, Some("parameter_missing"), message)
    }

    pub(crate) fn parameter_unknown(param: &str) -> Self {
        let message = format!("Received unknown parameter: {param}");
        Self::malformed(param, Some("parameter_unknown"), message)
    }

    /// An object that is not there. A 404 when the path names it, a 400 when a parameter does.
    pub(crate) fn no_such(noun: &str, id: &str, param: &str, in_path: bool) -> Self {
        let mut error = Self::invalid(format!("No such {noun}: '{id}'"))
            .code("resource_missing")
            .param(param);
        error.status = if in_path { 404 } else { 400 };
        error
    }

    pub(crate) fn unauthorized(message: &str) -> Self {
        let mut error = Self::new(401, "invalid_request_error", message);
        error.begun = false;
        error
    }

    pub(crate) fn unrecognized_url(method: &str, path: &str) -> Self {
        let mut error = Self::new(
            404,
            "invalid_request_error",
            format!(
                "Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or we can help at https://support.stripe.com/."
            ),
        );
        error.begun = false;
        error
    }

    /// A declined card.
    pub(crate) fn card(code: &str, decline_code: Option<&str>, message: &str) -> Self {
        let mut error = Self::new(402, "card_error", message).code(code);
        if let Some(decline_code) = decline_code {
            error = error.with("decline_code", json!(decline_code));
        }
        error.with(
            "doc_url",
            json!(format!(
                "https://docs.stripe.com/error-codes/{}",
                code.replace('_', "-")
            )),
        )
    }

    pub(crate) fn rate_limited(retry_after: u64) -> Self {
        let mut error = Self::new(
            429,
            "invalid_request_error",
            "Request rate limit exceeded. You can learn more about rate limits here https://stripe.com/docs/rate-limits.",
        )
        .code("rate_limit");
        error.begun = false;
        error.retry_after = Some(retry_after);
        error
    }

    /// An error of Stripe's own. `begun` says whether it came from within an endpoint.
    pub(crate) fn internal(status: u16, begun: bool) -> Self {
        let mut error = Self::new(
            status,
            "api_error",
            "Sorry! There was an error while talking to one of our backends. Support has been notified.",
        );
        error.begun = begun;
        error
    }

    pub(crate) fn code(self, code: &str) -> Self {
        self.with("code", json!(code))
    }

    pub(crate) fn param(self, param: &str) -> Self {
        self.with("param", json!(param))
    }

    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn with(mut self, field: &str, value: Value) -> Self {
        self.fields.insert(field.to_owned(), value);
        self
    }

    pub(crate) fn body(&self) -> Value {
        json!({ "error": Value::Object(self.fields.clone()) })
    }
}
