//! The pages that a problem leads to.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use actix_web::{HttpResponse, web};

use super::problem::{Code, Problem};

/// Where `upgrade_url` points, on the installation's public URL.
pub const UPGRADE_PATH: &str = "/settings/billing/upgrade";

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
            }));
    }
}

/// The paths that [`problem_pages`] serves, all by GET: they are not in the API's document.
pub const PAGE_PATHS: [&str; 2] = ["/problems/{code}", UPGRADE_PATH];

fn page_route(path: &str) -> actix_web::Resource {
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
