//! Which other origins' pages may call the API (the Fetch standard's CORS protocol).
//!
//! Credentials in the protocol's sense are cookies, which this API knows none of: a page shows its token itself, in
//! `Authorization`. So a page of a foreign origin can do no more than its token can, and a preflight, which comes
//! without one, is answered before authentication.

use std::str::FromStr;

use actix_cors::Cors;
use actix_web::http::{Method, Uri};
use actix_web::middleware::Condition;

/// How long a browser remembers a preflight's answer, in seconds; browsers cap it at two hours or less.
const REMEMBERED_SECONDS: usize = 7200;

/// What of an answer's headers a page may read, besides those that it always may.
const EXPOSED: [&str; 16] = [
    "Accept-Ranges",
    "Allow",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Range",
    "Deprecation",
    "ETag",
    "Idempotency-Replayed",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "Sunset",
    "WWW-Authenticate",
    "X-Request-Id",
];

/// The origins whose pages may call the API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CorsOrigins(Origins);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Origins {
    #[default]
    None,
    Any,
    These(Vec<String>),
}

/// A text that is no list of origins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected origins such as https://app.example or http://localhost:5173, separated by commas, or * for every origin"
)]
pub struct InvalidOrigins;

impl FromStr for CorsOrigins {
    type Err = InvalidOrigins;

    fn from_str(text: &str) -> Result<Self, InvalidOrigins> {
        if text.trim() == "*" {
            return Ok(Self(Origins::Any));
        }
        let origins: Result<Vec<_>, _> = text.split(',').map(|one| origin(one.trim())).collect();
        Ok(Self(Origins::These(origins?)))
    }
}

/// An origin as browsers write it: scheme, host and port, in lower case, without the scheme's own port.
fn origin(text: &str) -> Result<String, InvalidOrigins> {
    let uri: Uri = text.parse().map_err(|_| InvalidOrigins)?;
    let (Some(scheme @ ("http" | "https")), Some(host)) = (uri.scheme_str(), uri.host()) else {
        return Err(InvalidOrigins);
    };
    let port = uri.port_u16();
    let own = match scheme {
        "http" => 80,
        _ => 443,
    };
    let mut origin = format!("{scheme}://{}", host.to_ascii_lowercase());
    let written = match port {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    };
    // No path, no query, no user, no fragment: an origin is none of these.
    if !text.eq_ignore_ascii_case(&written) || host.is_empty() {
        return Err(InvalidOrigins);
    }
    if let Some(port) = port.filter(|port| *port != own) {
        origin.push_str(&format!(":{port}"));
    }
    Ok(origin)
}

impl CorsOrigins {
    /// The middleware: wrap it inside of [`Edge`](super::Edge), which gives a preflight's answer its id and its line in
    /// the log as any other. It does nothing where no origin is named.
    #[must_use]
    pub fn middleware(&self) -> Condition<Cors> {
        let methods = [
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PATCH,
            Method::DELETE,
        ];
        let cors = Cors::default()
            .allowed_methods(methods)
            .allow_any_header()
            .expose_headers(EXPOSED)
            .max_age(REMEMBERED_SECONDS)
            // A foreign page's request is answered: its browser keeps the answer from it. A program that sends an
            // `Origin` of its own is nobody's business.
            .block_on_origin_mismatch(false);
        let cors = match &self.0 {
            Origins::None => return Condition::new(false, cors),
            Origins::Any => cors.allow_any_origin().send_wildcard(),
            Origins::These(origins) => origins
                .iter()
                .fold(cors, |cors, origin| cors.allowed_origin(origin)),
        };
        Condition::new(true, cors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_as_browsers_write_them() {
        let read = |text: &str| text.parse::<CorsOrigins>().map(|origins| origins.0);
        assert_eq!(read("*"), Ok(Origins::Any));
        assert_eq!(
            read("https://App.Example:443, http://localhost:5173,http://[::1]:80"),
            Ok(Origins::These(vec![
                "https://app.example".to_owned(),
                "http://localhost:5173".to_owned(),
                "http://[::1]".to_owned(),
            ]))
        );
        for bad in [
            "",
            "app.example",
            "https://",
            "https://app.example/",
            "https://app.example/path",
            "https://app.example?x",
            "https://user@app.example",
            "ftp://app.example",
            "https://app.example,",
            "https://a.example,*",
            "null",
        ] {
            assert_eq!(read(bad), Err(InvalidOrigins), "{bad}");
        }
    }

    /// Asks an application that knows no credential, from an origin; the answer's status and its headers.
    async fn ask(
        configured: &str,
        method: Method,
        headers: &[(&str, &str)],
    ) -> (u16, actix_web::http::header::HeaderMap) {
        use actix_web::dev::Service;
        use actix_web::test::{TestRequest, init_service};
        use actix_web::{App, web};

        let locked = || async { Err::<&str, _>(crate::web::Problem::unauthenticated()) };
        let own = || async { Err::<&str, _>(actix_web::error::ErrorImATeapot("text")) };
        let origins: CorsOrigins = configured.parse().unwrap();
        let app = App::new()
            .service(
                web::resource("/locked")
                    .guard(actix_web::guard::Get())
                    .to(locked),
            )
            .service(web::resource("/own").to(own))
            .wrap(origins.middleware())
            .wrap(crate::web::Edge::new(rawdrive_tenancy_core::Env::system()));
        let app = init_service(app).await;
        let path = if method == Method::POST {
            "/own"
        } else {
            "/locked"
        };
        let mut request = TestRequest::with_uri(path).method(method);
        for (name, value) in headers {
            request = request.insert_header((*name, *value));
        }
        let answer = app.call(request.to_request()).await.unwrap();
        (answer.status().as_u16(), answer.headers().clone())
    }

    #[actix_web::test]
    async fn a_preflight_is_answered_before_authentication_and_only_for_named_origins() {
        let preflight = |origin: &'static str| {
            [
                ("origin", origin),
                ("access-control-request-method", "PATCH"),
                ("access-control-request-headers", "authorization,if-match"),
            ]
        };
        let named = "https://app.example";
        let (status, headers) = ask(named, Method::OPTIONS, &preflight(named)).await;
        assert_eq!(status, 200);
        assert_eq!(headers.get("access-control-allow-origin").unwrap(), named);
        assert_eq!(headers.get("access-control-max-age").unwrap(), "7200");
        assert!(!headers.contains_key("access-control-allow-credentials"));
        assert!(headers.contains_key("x-request-id"));
        let allowed = headers.get("access-control-allow-headers").unwrap();
        assert_eq!(allowed, "authorization,if-match");
        let (_, headers) = ask(named, Method::OPTIONS, &preflight("https://evil.example")).await;
        assert!(!headers.contains_key("access-control-allow-origin"));
    }

    #[actix_web::test]
    async fn a_page_reads_refusals_and_their_headers_too() {
        let named = "https://app.example";
        for method in [Method::GET, Method::POST] {
            let (status, headers) = ask(named, method, &[("origin", named)]).await;
            assert!(status >= 400);
            assert_eq!(headers.get("access-control-allow-origin").unwrap(), named);
            let exposed = headers.get("access-control-expose-headers").unwrap();
            let exposed = exposed.to_str().unwrap().to_ascii_lowercase();
            for name in [
                "etag",
                "ratelimit",
                "retry-after",
                "x-request-id",
                "location",
            ] {
                assert!(exposed.contains(name), "{name}: {exposed}");
            }
            let vary: Vec<_> = headers.get_all("vary").collect();
            let vary = format!("{vary:?}").to_ascii_lowercase();
            assert!(vary.contains("origin"), "{vary}");
        }
        let (_, headers) = ask(named, Method::GET, &[("origin", "https://evil.example")]).await;
        assert!(!headers.contains_key("access-control-allow-origin"));
        let (_, headers) = ask("*", Method::GET, &[("origin", named)]).await;
        assert_eq!(headers.get("access-control-allow-origin").unwrap(), "*");
    }
}
