//! The pages that a problem or a mailed link leads to.

use actix_web::http::StatusCode;
use actix_web::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderValue, VARY,
};
use actix_web::{HttpRequest, HttpResponse, web};

use super::email_token_pages::{EMAIL_VERIFICATION_PATH, PASSWORD_RESET_PATH};
use super::problem::{Code, Problem};

/// Where `upgrade_url` points, on the installation's public URL.
pub const UPGRADE_PATH: &str = "/settings/billing/upgrade";

/// Where the link of a mailed invitation points, on the installation's public URL.
pub const INVITATION_PATH: &str = "/invitations/accept";

const INVITATION_TEXT: &str = "The link that brought you here is an invitation: it works once, for the address that it was \
    mailed to.\n\nThe application of this installation takes it from here. Without one, send the text after \
    `token=` to `POST /v1/invitations/accept`, with a name and a password if you are new, or with the password of \
    your account.";

/// Serves `GET /problems/{code}`, and `GET /settings/billing/upgrade` with the given text, whose blank lines
/// part paragraphs. Use as `App::new().configure(problem_pages(text))`.
pub fn problem_pages(upgrade_text: impl Into<String>) -> impl FnOnce(&mut web::ServiceConfig) {
    let upgrade_text = upgrade_text.into();
    move |config| {
        config
            .service(page_route("/problems/{code}").to(problem_page))
            .service(page_route(UPGRADE_PATH).to(move || {
                let page = page("Upgrade", "Upgrade", &upgrade_text);
                async move { html(page) }
            }))
            .service(
                page_route(INVITATION_PATH)
                    .to(|| async { html(page("You are invited", "Invitation", INVITATION_TEXT)) }),
            );
    }
}

/// Where the link that is mailed to a client points, on the installation's public URL.
pub const SHARED_PATH: &str = "/shared";
const SHARED_SCRIPT_PATH: &str = "/shared.js";

/// Serves `GET /shared`, which shows a client's galleries by asking the API with the token in its own address,
/// and the script that does so.
pub fn shared_page(config: &mut web::ServiceConfig) {
    // The address holds a token: nobody keeps the page under it. The script is the same for everybody.
    const POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    config
        .service(page_route(SHARED_PATH).to(|| async {
            HttpResponse::Ok()
                .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
                .insert_header((CACHE_CONTROL, "no-store"))
                .insert_header((CONTENT_SECURITY_POLICY, POLICY))
                .body(include_str!("shared.html"))
        }))
        .service(page_route(SHARED_SCRIPT_PATH).to(|| async {
            HttpResponse::Ok()
                .insert_header((CONTENT_TYPE, "text/javascript; charset=utf-8"))
                .insert_header((CACHE_CONTROL, "public, max-age=3600"))
                .body(include_str!("shared.js"))
        }));
}

/// The pages' paths, all answered to GET: they are not in the API's document.
pub const PAGE_PATHS: [&str; 10] = [
    HOME_PATH,
    FAVICON_PATHS[0],
    FAVICON_PATHS[1],
    "/problems/{code}",
    UPGRADE_PATH,
    INVITATION_PATH,
    SHARED_PATH,
    SHARED_SCRIPT_PATH,
    PASSWORD_RESET_PATH,
    EMAIL_VERIFICATION_PATH,
];

const HOME_PATH: &str = "/";
const FAVICON_PATHS: [&str; 2] = ["/favicon.ico", "/favicon.svg"];

/// What there is, for who arrives without an address: its path, and what to call it.
const PLACES: [(&str, &str, &str); 4] = [
    ("documentation", "/docs", "The API's documentation"),
    (
        "openapi",
        "/openapi.json",
        "The same as an OpenAPI document, for generators",
    ),
    ("plans", "/v1/plans", "The plans and their prices, as JSON"),
    (
        "health",
        "/readyz",
        "Whether this server can serve, as JSON",
    ),
];

/// Serves `GET /`, for a browser a page of links and for a program the same as JSON, and the icon that browsers ask
/// for.
pub fn home_page(config: &mut web::ServiceConfig) {
    config
        .service(page_route(HOME_PATH).to(|request: HttpRequest| async move {
            let mut response = if prefers_html(request.headers()) {
                html(home())
            } else {
                let mut places = serde_json::Map::new();
                places.insert("name".to_owned(), "RawDrive".into());
                for (name, path, _) in PLACES {
                    places.insert(name.to_owned(), path.into());
                }
                HttpResponse::Ok()
                    .insert_header((CACHE_CONTROL, "public, max-age=3600"))
                    .json(places)
            };
            response
                .headers_mut()
                .insert(VARY, HeaderValue::from_static("accept"));
            response
        }))
        .service(
            page_route(FAVICON_PATHS[0])
                .to(|| async { icon("image/vnd.microsoft.icon", include_bytes!("favicon.ico")) }),
        )
        .service(
            page_route(FAVICON_PATHS[1])
                .to(|| async { icon("image/svg+xml", include_bytes!("favicon.svg")) }),
        );
}

fn icon(content_type: &'static str, bytes: &'static [u8]) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, content_type))
        .insert_header((CACHE_CONTROL, "public, max-age=86400"))
        .body(bytes)
}

fn home() -> String {
    let links: String = PLACES
        .iter()
        // Relative: the public URL may have a path, which a proxy takes away.
        .map(|(_, path, text)| {
            let path = path.trim_start_matches('/');
            format!("<li><a href=\"{path}\">{}</a></li>\n", escaped(text))
        })
        .collect();
    document(
        "RawDrive",
        &format!(
            "<p>Where photographers store, select and deliver photos.</p>\n<ul>\n{links}</ul>\n"
        ),
    )
}

/// What a browser sees at an address where nothing is.
pub(super) fn missing_page() -> HttpResponse {
    let body = "<p>There is nothing at this address.</p>\n<p><a href=\"/\">What there is</a></p>\n";
    let mut response = html(document("Not found", body));
    *response.status_mut() = StatusCode::NOT_FOUND;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    response
}

/// Whether who asks is rather shown a page than sent JSON: a browser names `text/html`. Who takes anything is a program.
pub(super) fn prefers_html(headers: &HeaderMap) -> bool {
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

pub(super) fn page_route(path: &str) -> actix_web::Resource {
    web::resource(path.to_owned()).guard(actix_web::guard::Get())
}

async fn problem_page(code: web::Path<String>) -> Result<HttpResponse, Problem> {
    let code = Code::from_name(&code).ok_or_else(Problem::not_found)?;
    let heading = format!("{} ({})", code.title(), code.number());
    Ok(html(page(&heading, code.as_str(), code.explanation())))
}

fn html(page: String) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((CACHE_CONTROL, "public, max-age=3600"))
        .insert_header((
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; frame-ancestors 'none'",
        ))
        .body(page)
}

fn page(heading: &str, name: &str, text: &str) -> String {
    let paragraphs: String = text
        .split("\n\n")
        .map(|p| format!("<p>{}</p>\n", escaped(p)))
        .collect();
    document(
        heading,
        &format!("<p><code>{}</code></p>\n{paragraphs}", escaped(name)),
    )
}

/// A page of these elements.
fn document(heading: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{heading}</title>\n\
         <link rel=\"icon\" href=\"/favicon.svg\" type=\"image/svg+xml\">\n\
         <style>body{{font:1rem/1.6 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}}\
         code{{color:#666}}</style>\n</head>\n<body>\n<main>\n<h1>{heading}</h1>\n\
         {body}</main>\n</body>\n</html>\n",
        heading = escaped(heading),
    )
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
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
