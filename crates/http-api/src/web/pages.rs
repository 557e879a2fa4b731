//! The pages that are the same for everybody: what a problem means, and what there is.

use std::future::ready;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION,
    VARY,
};
use actix_web::{HttpRequest, HttpResponse, web};

use super::email_token_pages::{EMAIL_VERIFICATION_PATH, PASSWORD_RESET_PATH, email_token_pages};
use super::html::{document, escaped, page_route, policy};
use super::problem::{Code, Problem};

/// Where `upgrade_url` points, on the installation's public URL.
pub const UPGRADE_PATH: &str = "/settings/billing/upgrade";

/// Where the link of a mailed invitation points, on the installation's public URL.
pub const INVITATION_PATH: &str = "/invitations/accept";

/// Serves `GET /problems/{code}`, the pages of mailed proofs, the page of links at the root, and the icon. `prefix` is where
/// they are mounted, `about` what the product is for.
pub(crate) fn pages(prefix: &str, about: &str) -> impl Fn(&mut web::ServiceConfig) + Clone + use<> {
    let (prefix, home): (Arc<str>, Arc<str>) = (prefix.into(), home(prefix, about).into());
    move |config| {
        let explained = prefix.clone();
        config
            .service(page_route("/problems/{code}").to(
                move |request: HttpRequest, code: web::Path<String>| {
                    ready(problem_page(&explained, &request, &code))
                },
            ))
            .configure(|config| email_token_pages(config, &prefix))
            .configure(|config| home_page(config, &prefix, &home));
    }
}

/// The pages' paths, and the methods that they answer: they are not in the API's document.
pub(super) const PAGE_PATHS: [(&str, &[&str]); 8] = [
    (HOME_PATH, &["GET"]),
    (FAVICON_PATHS[0], &["GET"]),
    (FAVICON_PATHS[1], &["GET"]),
    ("/problems/{code}", &["GET"]),
    (UPGRADE_PATH, &["GET", "POST"]),
    (INVITATION_PATH, &["GET", "POST"]),
    (PASSWORD_RESET_PATH, &["GET"]),
    (EMAIL_VERIFICATION_PATH, &["GET"]),
];

const HOME_PATH: &str = "/";
const FAVICON_PATHS: [&str; 2] = ["/favicon.ico", "/favicon.svg"];

/// What there is, for who arrives without an address: its path, and what to call it.
const PLACES: [(&str, &str, &str); 5] = [
    ("documentation", "/docs", "The API's documentation"),
    (
        "openapi",
        "/openapi.json",
        "The same as an OpenAPI document, for generators",
    ),
    ("plans", "/v1/plans", "The plans and their prices, as JSON"),
    (
        "upgrade",
        UPGRADE_PATH,
        "Your workspace's plan, its payment and its invoices",
    ),
    (
        "health",
        "/readyz",
        "Whether this server can serve, as JSON",
    ),
];

/// Serves `GET /`, for a browser a page of links and for a program the same as JSON, and the icon that browsers ask
/// for.
fn home_page(config: &mut web::ServiceConfig, prefix: &Arc<str>, page: &Arc<str>) {
    let (below, page) = (prefix.clone(), page.clone());
    config
        .service(page_route(HOME_PATH).to(move |request: HttpRequest| {
            let mut response = if prefers_html(request.headers()) {
                html(page.to_string())
            } else {
                let mut places = serde_json::Map::new();
                places.insert("name".to_owned(), "RawDrive".into());
                for (name, path, _) in PLACES {
                    places.insert(name.to_owned(), format!("{below}{path}").into());
                }
                HttpResponse::Ok()
                    .insert_header((CACHE_CONTROL, "public, max-age=3600"))
                    .json(places)
            };
            response
                .headers_mut()
                .insert(VARY, HeaderValue::from_static("accept"));
            ready(response)
        }))
        .service(
            page_route(FAVICON_PATHS[0])
                .to(|| async { icon("image/vnd.microsoft.icon", include_bytes!("favicon.ico")) }),
        )
        .service(
            page_route(FAVICON_PATHS[1])
                .to(|| async { icon("image/svg+xml", include_bytes!("favicon.svg")) }),
        );
    if !prefix.is_empty() {
        // Below a path the root has two spellings; links on the page hold at the one with the slash.
        let root = format!("{prefix}/");
        config.service(page_route("").to(move || {
            let answer = HttpResponse::PermanentRedirect()
                .insert_header((LOCATION, root.as_str()))
                .finish();
            ready(answer)
        }));
    }
}

fn icon(content_type: &'static str, bytes: &'static [u8]) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, content_type))
        .insert_header((CACHE_CONTROL, "public, max-age=86400"))
        .body(bytes)
}

fn home(prefix: &str, about: &str) -> String {
    let links: String = PLACES
        .iter()
        // Relative: the public URL may have a path, which a proxy takes away.
        .map(|(_, path, text)| {
            let path = path.trim_start_matches('/');
            format!("<li><a href=\"{path}\">{}</a></li>\n", escaped(text))
        })
        .collect();
    let about = match about {
        "" => String::new(),
        about => format!("<p>{}</p>\n", escaped(about)),
    };
    document(prefix, "RawDrive", &format!("{about}<ul>\n{links}</ul>\n"))
}

/// What a browser sees at an address where nothing is.
pub(super) fn missing_page(prefix: &str) -> HttpResponse {
    let body = format!(
        "<p>There is nothing at this address.</p>\n<p><a href=\"{prefix}/\">What there is</a></p>\n"
    );
    let mut response = html(document(prefix, "Not found", &body));
    *response.status_mut() = StatusCode::NOT_FOUND;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    response
}

/// Whether who asks is rather shown a page than sent JSON: a browser names `text/html`. Who takes anything is a program.
pub(crate) fn prefers_html(headers: &HeaderMap) -> bool {
    let (mut html, mut json) = (0.0_f32, 0.0_f32);
    let ranges = headers
        .get_all(ACCEPT)
        .filter_map(|value| value.to_str().ok());
    for range in ranges.flat_map(|value| value.split(',')) {
        let mut parts = range
            .split(';')
            .map(|part| part.trim().to_ascii_lowercase());
        let media_type = parts.next().unwrap_or_default();
        let quality = parts
            .find_map(|part| part.strip_prefix("q=")?.trim().parse().ok())
            .unwrap_or(1.0_f32);
        match media_type.as_str() {
            "text/html" | "application/xhtml+xml" => html = html.max(quality),
            "application/json" | "application/problem+json" => json = json.max(quality),
            _ => {}
        }
    }
    html > 0.0 && html >= json
}

fn problem_page(prefix: &str, request: &HttpRequest, code: &str) -> Result<HttpResponse, Problem> {
    let Some(code) = Code::from_name(code) else {
        if prefers_html(request.headers()) {
            return Ok(missing_page(prefix));
        }
        return Err(Problem::not_found());
    };
    let heading = format!("{} ({})", code.title(), code.number());
    Ok(html(page(
        prefix,
        &heading,
        code.as_str(),
        code.explanation(),
    )))
}

fn html(page: String) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((CACHE_CONTROL, "public, max-age=3600"))
        .insert_header((CONTENT_SECURITY_POLICY, policy()))
        .body(page)
}

fn page(prefix: &str, heading: &str, name: &str, text: &str) -> String {
    let paragraphs: String = text
        .split("\n\n")
        .map(|p| format!("<p>{}</p>\n", escaped(p)))
        .collect();
    document(
        prefix,
        heading,
        &format!("<p><code>{}</code></p>\n{paragraphs}", escaped(name)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn a_page_is_for_who_names_html_first() {
        let asks = |accept: &str| {
            let request = TestRequest::default().insert_header((ACCEPT, accept));
            prefers_html(request.to_http_request().headers())
        };
        for browser in [
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "TEXT/HTML",
            "application/json;q=0.5, text/html;q=0.6",
        ] {
            assert!(asks(browser), "{browser}");
        }
        for program in [
            "*/*",
            "application/json",
            "application/json, text/html;q=0.9",
            "text/html;q=0, */*",
            "application/problem+json",
            "",
        ] {
            assert!(!asks(program), "{program}");
        }
        assert!(!prefers_html(
            TestRequest::default().to_http_request().headers()
        ));
    }
}
