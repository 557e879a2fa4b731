//! The id that ties an answer to its line in the log.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpMessage, HttpRequest};
use rawdrive_tenancy_core::Env;

/// The header's name.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A request's id: the client's own well-formed one, or a fresh UUIDv7.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The client's id if it is one to 128 letters, digits, `.`, `_` and `-`; otherwise a fresh one.
    #[must_use]
    pub fn of(headers: &HeaderMap, env: &Env) -> Self {
        let own = headers
            .get(X_REQUEST_ID)
            .filter(|value| is_well_formed(value.as_bytes()))
            .cloned();
        own.map_or_else(|| Self::fresh(env), Self)
    }

    /// A fresh id, for a request that cannot be read.
    #[must_use]
    pub fn fresh(env: &Env) -> Self {
        let mut buffer = uuid::Uuid::encode_buffer();
        let text = env.uuid().hyphenated().encode_lower(&mut buffer);
        // Hex digits and hyphens are always a header's value.
        Self(HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown")))
    }

    /// The id that [`Edge`](super::Edge) gave to this request.
    #[must_use]
    pub fn of_request(request: &HttpRequest) -> Option<Self> {
        request.extensions().get::<Self>().cloned()
    }

    /// The id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    pub(super) fn into_value(self) -> HeaderValue {
        self.0
    }
}

fn is_well_formed(bytes: &[u8]) -> bool {
    (1..=128).contains(&bytes.len())
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn of(value: &[u8]) -> String {
        let value = HeaderValue::from_bytes(value).unwrap();
        let request = TestRequest::default()
            .insert_header((X_REQUEST_ID, value))
            .to_http_request();
        RequestId::of(request.headers(), &Env::system())
            .as_str()
            .to_owned()
    }

    #[test]
    fn a_well_formed_id_is_kept_and_another_replaced() {
        assert_eq!(of(b"a-B_9.z"), "a-B_9.z");
        assert_eq!(of(&[b'a'; 128]), "a".repeat(128));
        for bad in [
            b"".as_slice(),
            b"a b",
            b"a\"b",
            b"a/b",
            "\u{e9}".as_bytes(),
            &[b'a'; 129],
        ] {
            let fresh: uuid::Uuid = of(bad).parse().unwrap();
            assert_eq!(fresh.get_version_num(), 7);
        }
    }
}
