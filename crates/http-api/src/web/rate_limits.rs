//! How limits stand, as every answer of a rate-limited route tells: the IETF's `RateLimit` and `RateLimit-Policy`
//! (draft-ietf-httpapi-ratelimit-headers).

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpMessage as _, HttpRequest};
use rawdrive_identity::LimitState;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Kept with a request until its answer.
#[derive(Debug, Clone)]
pub(crate) struct RateLimits(Vec<LimitState>);

impl RateLimits {
    pub(crate) fn of(states: Vec<LimitState>) -> Self {
        Self(states)
    }

    /// Has the answer to this request carry them, beside those that were announced before.
    pub(crate) fn announce(mut self, request: &HttpRequest) {
        let mut extensions = request.extensions_mut();
        if let Some(Self(mut before)) = extensions.remove::<Self>() {
            before.append(&mut self.0);
            self.0 = before;
        }
        if !self.0.is_empty() {
            extensions.insert(self);
        }
    }

    /// What was announced for a request.
    pub(crate) fn announced(request: &HttpRequest) -> Option<Self> {
        request.extensions_mut().remove()
    }

    /// Writes them down: lists of RFC 9651, the names as strings.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let policy = |limit: &LimitState| {
            let LimitState {
                name,
                quota,
                window_seconds,
                ..
            } = limit;
            format!("\"{name}\";q={quota};w={window_seconds}")
        };
        let state = |limit: &LimitState| {
            let LimitState {
                name,
                remaining,
                reset_seconds,
                ..
            } = limit;
            format!("\"{name}\";r={remaining};t={reset_seconds}")
        };
        let policies: Vec<_> = self.0.iter().map(policy).collect();
        let states: Vec<_> = self.0.iter().map(state).collect();
        for (name, items) in [(RATE_LIMIT_POLICY, policies), (RATE_LIMIT, states)] {
            if let Ok(value) = HeaderValue::from_str(&items.join(", ")) {
                headers.insert(name, value);
            }
        }
    }
}
