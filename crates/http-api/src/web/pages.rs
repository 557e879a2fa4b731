//! The pages that a problem or a mailed link leads to.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use actix_web::{HttpResponse, web};

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
pub const PAGE_PATHS: [&str; 7] = [
    "/problems/{code}",
    UPGRADE_PATH,
    INVITATION_PATH,
    SHARED_PATH,
    SHARED_SCRIPT_PATH,
    PASSWORD_RESET_PATH,
    EMAIL_VERIFICATION_PATH,
];

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
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        ))
        .body(page)
}

fn page(heading: &str, name: &str, text: &str) -> String {
    let paragraphs: String = text
        .split("\n\n")
        .map(|p| format!("<p>{}</p>\n", escaped(p)))
        .collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{heading}</title>\n\
         <style>body{{font:1rem/1.6 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}}\
         code{{color:#666}}</style>\n</head>\n<body>\n<main>\n<h1>{heading}</h1>\n<p><code>{name}</code></p>\n\
         {paragraphs}</main>\n</body>\n</html>\n",
        heading = escaped(heading),
        name = escaped(name),
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
