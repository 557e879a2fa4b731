//! Which representation of a resource goes over the wire: whole, in a content coding, or none because the client has it;
//! and who may keep it (RFC 9110, sections 8.4, 12.5.3 and 13.1; RFC 9111).
//!
//! Invariant: an answer that holds a secret says `no-store`, and what says `no-store` is never compressed: the length of
//! a compressed answer tells of its content.

use actix_http::ResponseHead;
use actix_http::encoding::Encoder;
use actix_web::HttpRequest;
use actix_web::body::{BodySize, BoxBody, EitherBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::http::header::{
    AcceptEncoding, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ContentEncoding, ETAG, Encoding,
    EntityTag, Header as _, HeaderMap, HeaderName, HeaderValue, LOCATION, VARY,
};
use actix_web::http::{Method, StatusCode};

use super::etag::{CODINGS, coded, names_coded, not_modified};

/// The least size that is worth compressing: below it, an answer is one packet either way.
const LEAST_BYTES: u64 = 1024;

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const MINIMAL: &str = "return=minimal";
const QUOTED_MINIMAL: &str = "return=\"minimal\"";

/// What may be read by whoever holds its address: a token of the path is the credential.
const TOKEN_PARAMETER: &str = "token";

/// Gives an answer that is no refusal its final form.
pub(super) fn represent<B: MessageBody + 'static>(
    mut response: ServiceResponse<B>,
    asked: &Method,
) -> ServiceResponse<EitherBody<B>> {
    let reads = matches!(*asked, Method::GET | Method::HEAD);
    let cache_control = cache_control(response.request(), response.response().head(), reads);
    let head = response.response_mut().head_mut();
    if let Some(value) = cache_control {
        head.headers_mut().insert(CACHE_CONTROL, value);
    }
    if reads && let Some(tag) = tag_of(response.headers()) {
        let headers = response.request().headers();
        let unchanged = response.status() == StatusCode::OK && not_modified(headers, &tag);
        if unchanged || response.status() == StatusCode::NOT_MODIFIED {
            let coding = CODINGS
                .into_iter()
                .find(|one| names_coded(headers, &tag, one));
            return without_body(response, coding.map(|coding| coded(&tag, coding)));
        }
    }
    if !reads && leaves_out(response.request(), response.response().head()) {
        return minimal(response);
    }
    if *asked == Method::GET
        && is_compressible(
            response.response().head(),
            response.response().body().size(),
        )
    {
        return compress(response);
    }
    response.map_into_left_body()
}

fn tag_of(headers: &HeaderMap) -> Option<EntityTag> {
    headers.get(ETAG)?.to_str().ok()?.parse().ok()
}

/// 304, with the tag of the representation that the client has.
fn without_body<B>(
    response: ServiceResponse<B>,
    tag: Option<EntityTag>,
) -> ServiceResponse<EitherBody<B>> {
    let mut response = response.map_body(|head, _| {
        head.status = StatusCode::NOT_MODIFIED;
        EitherBody::right(BoxBody::new(()))
    });
    let headers = response.headers_mut();
    headers.remove(CONTENT_TYPE);
    headers.remove(CONTENT_LENGTH);
    if let Some(value) = tag.and_then(|tag| HeaderValue::from_str(&tag.to_string()).ok()) {
        headers.insert(ETAG, value);
    }
    response
}

/// Whether a change's answer is left without what was changed (RFC 7240): the client prefers so, and the answer is the
/// resource as it can be read again, by its address or in that version. What is told only once is always told.
fn leaves_out(request: &HttpRequest, head: &ResponseHead) -> bool {
    let readable = match head.status {
        StatusCode::CREATED => head.headers().contains_key(LOCATION),
        StatusCode::OK => head.headers().contains_key(ETAG),
        _ => false,
    };
    let preferences = request.headers().get_all(PREFER);
    let mut preferences = preferences.filter_map(|value| value.to_str().ok());
    readable
        && preferences.any(|value| {
            let mut each = value.split(',').map(|one| one.split(';').next());
            each.any(|one| {
                let one: String = one.unwrap_or_default().split_whitespace().collect();
                one.eq_ignore_ascii_case(MINIMAL) || one.eq_ignore_ascii_case(QUOTED_MINIMAL)
            })
        })
}

fn minimal<B>(response: ServiceResponse<B>) -> ServiceResponse<EitherBody<B>> {
    let mut response = response.map_body(|head, _| {
        if head.status == StatusCode::OK {
            head.status = StatusCode::NO_CONTENT;
        }
        EitherBody::right(BoxBody::new(()))
    });
    let headers = response.headers_mut();
    headers.remove(CONTENT_TYPE);
    headers.remove(CONTENT_LENGTH);
    headers.insert(PREFERENCE_APPLIED, HeaderValue::from_static(MINIMAL));
    response
}

/// Who may keep an answer whose route does not say so itself. Nearly every one belongs to a credential.
fn cache_control(request: &HttpRequest, head: &ResponseHead, reads: bool) -> Option<HeaderValue> {
    if head.headers().contains_key(CACHE_CONTROL) {
        return None;
    }
    let unchanged = head.status == StatusCode::NOT_MODIFIED;
    if !unchanged && !is_json(head.headers()) {
        return None;
    }
    let kept = reads
        && (unchanged || head.status.is_success())
        && request.match_info().get(TOKEN_PARAMETER).is_none();
    // `no-cache` keeps, and asks each time whether it still holds. A change's answer can hold a fresh secret.
    Some(HeaderValue::from_static(if kept {
        "private, no-cache"
    } else {
        "no-store"
    }))
}

pub(super) fn media_type(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    text.split(';').next().map(str::trim)
}

pub(super) fn is_json(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|t| t.ends_with("/json") || t.ends_with("+json"))
}

/// Text that is no secret, whole, and not coded yet.
fn is_compressible(head: &ResponseHead, size: BodySize) -> bool {
    let text = media_type(head.headers()).is_some_and(|media| {
        media.starts_with("text/")
            || media.ends_with("+xml")
            || matches!(media, "application/x-ndjson" | "application/javascript")
    });
    let large = match size {
        BodySize::None => false,
        BodySize::Sized(bytes) => bytes >= LEAST_BYTES,
        BodySize::Stream => true,
    };
    let secret = head.headers().get(CACHE_CONTROL).is_none_or(|value| {
        value
            .to_str()
            .is_ok_and(|directives| directives.contains("no-store"))
    });
    let coded = head
        .headers()
        .contains_key(actix_web::http::header::CONTENT_ENCODING);
    large && head.status == StatusCode::OK && !secret && !coded && (text || is_json(head.headers()))
}

/// In the coding that the client prefers. Each coding is a representation of its own, with its own tag.
fn compress<B: MessageBody + 'static>(
    response: ServiceResponse<B>,
) -> ServiceResponse<EitherBody<B>> {
    let coding = wanted_coding(response.request());
    let mut response = match coding {
        None => response.map_into_left_body(),
        Some(coding) => response.map_body(|head, body| {
            if let Some(tag) = tag_of(head.headers())
                && let Ok(value) = HeaderValue::from_str(&coded(&tag, coding.as_str()).to_string())
            {
                head.headers_mut().insert(ETAG, value);
            }
            // The encoder's own word about `Vary` is the one below.
            let vary = head.headers().get(VARY).cloned();
            let body = Encoder::response(coding, head, body);
            head.headers_mut().remove(VARY);
            if let Some(vary) = vary {
                head.headers_mut().insert(VARY, vary);
            }
            EitherBody::right(BoxBody::new(body))
        }),
    };
    // Also of an answer that is not compressed: another client's would be.
    response
        .headers_mut()
        .append(VARY, HeaderValue::from_static("accept-encoding"));
    response
}

fn wanted_coding(request: &HttpRequest) -> Option<ContentEncoding> {
    let accepted = AcceptEncoding::parse(request).ok()?;
    let offered = [
        Encoding::brotli(),
        Encoding::zstd(),
        Encoding::gzip(),
        Encoding::identity(),
    ];
    match accepted.negotiate(offered.iter())? {
        Encoding::Known(ContentEncoding::Identity) | Encoding::Unknown(_) => None,
        Encoding::Known(coding) => Some(coding),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;
    use actix_web::dev::Service;
    use actix_web::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, IF_NONE_MATCH};
    use actix_web::test::{TestRequest, init_service};
    use actix_web::{App, HttpResponse, web};
    use rawdrive_tenancy_core::Env;

    use super::*;
    use crate::web::Edge;

    struct Answer {
        status: u16,
        headers: HeaderMap,
        body: Vec<u8>,
    }

    impl Answer {
        fn header(&self, name: &str) -> String {
            let values = self.headers.get_all(name);
            let values: Vec<_> = values.map(|value| value.to_str().unwrap()).collect();
            values.join(", ")
        }
    }

    /// A large document with a tag; a small one without; a secret; an image; what a token in the address shows.
    async fn ask(method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        const LARGE: usize = 100_000;
        let large = || serde_json::json!({ "text": "x".repeat(LARGE) });
        let app = App::new()
            .service(web::resource("/large").to(move || async move {
                HttpResponse::Ok()
                    .insert_header((ETAG, "\"v1\""))
                    .json(large())
            }))
            .service(web::resource("/small").to(|| async { HttpResponse::Ok().json(1) }))
            .service(web::resource("/secret").to(move || async move {
                HttpResponse::Ok()
                    .insert_header((CACHE_CONTROL, "no-store"))
                    .json(large())
            }))
            .service(web::resource("/image").to(|| async {
                HttpResponse::Ok()
                    .insert_header((ETAG, "\"p\""))
                    .insert_header((CACHE_CONTROL, "private, no-cache"))
                    .content_type("image/jpeg")
                    .body(vec![b'x'; LARGE])
            }))
            .service(web::resource("/made").to(|| async {
                HttpResponse::Created()
                    .insert_header((LOCATION, "/large"))
                    .json(1)
            }))
            .service(
                web::resource("/shared/{token}")
                    .to(move || async move { HttpResponse::Ok().json(large()) }),
            )
            .wrap(Edge::new(Env::system()));
        let app = init_service(app).await;
        let mut request = TestRequest::with_uri(path).method(method);
        for (name, value) in headers {
            request = request.insert_header((*name, *value));
        }
        let response = app.call(request.to_request()).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let Ok(body) = to_bytes(response.into_body()).await else {
            panic!("the body failed")
        };
        Answer {
            status,
            headers,
            body: body.to_vec(),
        }
    }

    #[actix_web::test]
    async fn text_is_sent_in_the_coding_that_is_asked_for_with_a_tag_of_its_own() {
        for (accepted, coding) in [
            ("gzip", "gzip"),
            ("br", "br"),
            ("zstd", "zstd"),
            ("gzip;q=0.5, br", "br"),
            ("gzip, br;q=0", "gzip"),
        ] {
            let answer = ask(
                Method::GET,
                "/large",
                &[(ACCEPT_ENCODING.as_str(), accepted)],
            )
            .await;
            assert_eq!(answer.header("content-encoding"), coding);
            assert_eq!(answer.header("etag"), format!("\"v1-{coding}\""));
            assert_eq!(answer.header("vary"), "accept-encoding");
            assert!(answer.body.len() < 5_000, "{}", answer.body.len());
        }
        for accepted in ["identity", "lzma", "gzip;q=0", "*;q=0"] {
            let answer = ask(
                Method::GET,
                "/large",
                &[(ACCEPT_ENCODING.as_str(), accepted)],
            )
            .await;
            assert_eq!(answer.header("content-encoding"), "", "{accepted}");
            assert_eq!(answer.header("etag"), "\"v1\"");
            assert_eq!(answer.header("vary"), "accept-encoding");
        }
    }

    #[actix_web::test]
    async fn secrets_images_and_what_is_small_are_sent_as_they_are() {
        for path in ["/secret", "/image", "/small", "/shared/t"] {
            let answer = ask(Method::GET, path, &[(ACCEPT_ENCODING.as_str(), "gzip, br")]).await;
            assert!(!answer.headers.contains_key(CONTENT_ENCODING), "{path}");
            assert!(!answer.headers.contains_key(VARY), "{path}");
        }
    }

    #[actix_web::test]
    async fn who_has_a_version_is_told_so_in_whichever_coding() {
        for named in [
            "\"v1\"",
            "W/\"v1\"",
            "\"v1-gzip\"",
            "\"v0\", \"v1-br\"",
            "*",
        ] {
            for method in [Method::GET, Method::HEAD] {
                let conditions = [
                    (IF_NONE_MATCH.as_str(), named),
                    (ACCEPT_ENCODING.as_str(), "gzip"),
                ];
                let answer = ask(method, "/large", &conditions).await;
                assert_eq!((answer.status, answer.body.len()), (304, 0), "{named}");
                let tag = answer.header("etag");
                assert!(named == "*" || named.contains(&tag), "{named}: {tag}");
                assert_eq!(answer.header("cache-control"), "private, no-cache");
                assert!(!answer.headers.contains_key(CONTENT_TYPE));
            }
        }
        for named in ["\"v0\"", "\"v1-lzma\"", ""] {
            let answer = ask(Method::GET, "/large", &[(IF_NONE_MATCH.as_str(), named)]).await;
            assert_eq!(answer.status, 200, "{named}");
        }
        // A condition on a change is another one.
        let answer = ask(Method::POST, "/large", &[(IF_NONE_MATCH.as_str(), "*")]).await;
        assert_eq!(answer.status, 200);
        let answer = ask(Method::GET, "/image", &[(IF_NONE_MATCH.as_str(), "\"p\"")]).await;
        assert_eq!((answer.status, answer.body.len()), (304, 0));
    }

    #[actix_web::test]
    async fn what_is_read_may_be_kept_by_its_reader_and_no_secret_by_anybody() {
        for (method, path, expected) in [
            (Method::GET, "/large", "private, no-cache"),
            (Method::HEAD, "/large", "private, no-cache"),
            (Method::POST, "/large", "no-store"),
            (Method::GET, "/secret", "no-store"),
            (Method::GET, "/shared/t", "no-store"),
            (Method::GET, "/image", "private, no-cache"),
        ] {
            let answer = ask(method.clone(), path, &[]).await;
            assert_eq!(answer.header("cache-control"), expected, "{method} {path}");
        }
    }

    #[actix_web::test]
    async fn who_prefers_so_is_not_shown_what_can_be_read_again() {
        let minimal = [("prefer", "respond-async, return=minimal; x=1")];
        let changed = ask(Method::PATCH, "/large", &minimal).await;
        assert_eq!((changed.status, changed.body.len()), (204, 0));
        assert_eq!(changed.header("etag"), "\"v1\"");
        assert_eq!(changed.header("preference-applied"), "return=minimal");
        let made = ask(Method::POST, "/made", &minimal).await;
        assert_eq!((made.status, made.body.len()), (201, 0));
        assert_eq!(made.header("location"), "/large");
        // Reads, what is told only once, and other preferences.
        for (method, path, preference) in [
            (Method::GET, "/large", "return=minimal"),
            (Method::POST, "/secret", "return=minimal"),
            (Method::PATCH, "/large", "return=representation"),
        ] {
            let answer = ask(method, path, &[("prefer", preference)]).await;
            assert_eq!(answer.status, 200, "{path}");
            assert!(!answer.body.is_empty(), "{path}");
            assert_eq!(answer.header("preference-applied"), "", "{path}");
        }
    }
}
