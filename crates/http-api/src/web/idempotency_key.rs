//! The `Idempotency-Key` header and the fingerprint of the request that it stands for.

use actix_web::http::header::HeaderMap;
use aws_lc_rs::digest;

use super::problem::Problem;

/// The header's name.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A client's key: 1 to 255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The key of a request, if it carries one.
    ///
    /// # Errors
    /// 400 if the header is empty, too long, holds other characters or comes twice.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let mut values = headers.get_all(IDEMPOTENCY_KEY);
        let Some(value) = values.next() else {
            return Ok(None);
        };
        let bytes = value.as_bytes();
        let well_formed =
            (1..=255).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
        match std::str::from_utf8(bytes) {
            Ok(text) if well_formed && values.next().is_none() => Ok(Some(Self(text.to_owned()))),
            _ => Err(Problem::malformed(
                "Idempotency-Key must be one value of 1 to 255 visible ASCII characters.",
            )),
        }
    }

    /// The key's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// SHA-256 of what makes two requests the same one: method, path with its query, the headers that change the
/// outcome (lower-case names, in a fixed order), and the body's own digest. Each part is preceded by its
/// length, so that no two requests share a fingerprint by moving a boundary.
#[must_use]
pub fn fingerprint(
    method: &str,
    route: &str,
    headers: &[(&str, &str)],
    body_digest: &[u8; 32],
) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut part = |bytes: &[u8]| {
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    };
    part(method.as_bytes());
    part(route.as_bytes());
    for (name, value) in headers {
        part(name.as_bytes());
        part(value.as_bytes());
    }
    part(body_digest);
    finish(context)
}

/// SHA-256 of a body that is in memory.
#[must_use]
pub fn body_digest(body: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(body);
    finish(context)
}

fn finish(context: digest::Context) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::problem::Code;
    use actix_web::test::TestRequest;

    fn of(values: &[&[u8]]) -> Result<Option<IdempotencyKey>, Problem> {
        let mut request = TestRequest::default();
        for value in values {
            let value = actix_web::http::header::HeaderValue::from_bytes(value).unwrap();
            request = request.append_header((IDEMPOTENCY_KEY, value));
        }
        IdempotencyKey::of(request.to_http_request().headers())
    }

    #[test]
    fn a_key_is_1_to_255_visible_ascii_characters() {
        assert_eq!(of(&[]).unwrap(), None);
        let longest = [b'k'; 255];
        for good in [b"a".as_slice(), b"~!\"", &longest] {
            assert_eq!(of(&[good]).unwrap().unwrap().as_str().as_bytes(), good);
        }
        for bad in [
            b"".as_slice(),
            b"a b",
            b"a\tb",
            "\u{e9}".as_bytes(),
            &[b'k'; 256],
        ] {
            assert_eq!(
                of(&[bad]).unwrap_err().code,
                Code::MalformedRequest,
                "{bad:?}"
            );
        }
        assert!(of(&[b"a", b"b"]).is_err());
    }

    #[test]
    fn a_fingerprint_changes_with_each_part_and_boundary() {
        let body = body_digest(b"{}");
        let prints = [
            fingerprint("POST", "/a", &[], &body),
            fingerprint("PUT", "/a", &[], &body),
            fingerprint("POST", "/b", &[], &body),
            fingerprint("POST", "/a", &[("if-match", "1")], &body),
            fingerprint("POST", "/a", &[("if-match1", "")], &body),
            fingerprint("POST", "/a", &[], &body_digest(b"{ }")),
        ];
        for (i, a) in prints.iter().enumerate() {
            assert!(prints[i + 1..].iter().all(|b| a != b));
        }
        assert_eq!(prints[0], fingerprint("POST", "/a", &[], &body));
    }
}
