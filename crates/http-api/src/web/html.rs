//! What every page is made of: text that is escaped, one style sheet, and a policy that lets nothing else in.

use std::sync::OnceLock;

use actix_web::guard::{self, Guard};
use actix_web::{Resource, web};
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The style sheet of all pages. The policy names its hash, so that no other style applies.
const STYLE: &str = "body{font:1rem/1.6 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}\
main.wide{max-width:none}body:has(main.wide){max-width:64rem}code{color:#666}input,button,select{font:inherit;padding:.3rem .6rem}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.35rem .6rem;border-bottom:1px solid #ddd}\
.scroll{overflow-x:auto}.over{color:#a00;font-weight:600}.alert{border-left:.3rem solid #a00;padding:.1rem 1rem;background:#fdf3f3}\
.notice{border-left:.3rem solid #266;padding:.1rem 1rem;background:#f2f8f8}form.inline{display:inline}";

/// The route of a page: GET alone.
pub fn page_route(path: &str) -> Resource {
    web::resource(path.to_owned()).guard(guard::Get())
}

/// The route of a page with a form that this server takes: GET and POST.
pub(crate) fn form_route(path: &str) -> Resource {
    let both =
        guard::fn_guard(|request| guard::Get().check(request) || guard::Post().check(request));
    web::resource(path.to_owned()).guard(both)
}

/// Text for HTML, in content and in quoted attributes.
pub(crate) fn escaped(text: &str) -> String {
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

/// A page of these elements.
pub(crate) fn document(prefix: &str, heading: &str, body: &str) -> String {
    whole(
        prefix,
        heading,
        "",
        &format!("<main>\n{}{body}</main>", title(heading)),
    )
}

/// As [`document`], with room for a table, and with these elements in its head.
pub(crate) fn wide_document(prefix: &str, heading: &str, head: &str, body: &str) -> String {
    let body = format!("<main class=\"wide\">\n{}{body}</main>", title(heading));
    whole(prefix, heading, head, &body)
}

fn title(heading: &str) -> String {
    format!("<h1>{}</h1>\n", escaped(heading))
}

fn whole(prefix: &str, heading: &str, head: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{heading}</title>\n\
         <link rel=\"icon\" href=\"{prefix}/favicon.svg\" type=\"image/svg+xml\">\n\
         <style>{STYLE}</style>\n{head}</head>\n<body>\n{body}\n</body>\n</html>\n",
        heading = escaped(heading),
    )
}

/// How a policy names what may stand inline.
pub(crate) fn source_hash(text: &str) -> String {
    format!(
        "'sha256-{}'",
        STANDARD.encode(digest(&SHA256, text.as_bytes()))
    )
}

/// The policy of a page that shows and links, and does nothing.
pub(crate) fn policy() -> &'static str {
    static POLICY: OnceLock<String> = OnceLock::new();
    POLICY.get_or_init(|| policy_with("form-action 'none'"))
}

/// The policy of a page whose forms this server takes.
pub(crate) fn form_policy() -> &'static str {
    static POLICY: OnceLock<String> = OnceLock::new();
    POLICY.get_or_init(|| policy_with("form-action 'self'"))
}

/// The policy of a page, with these further directives.
pub(crate) fn policy_with(directives: &str) -> String {
    format!(
        "default-src 'none'; style-src {}; img-src 'self'; {directives}; base-uri 'none'; frame-ancestors 'none'",
        source_hash(STYLE)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_on_a_page_is_text_and_nothing_else() {
        let page = document("/saas", "<b>", &escaped("\"&'<script>"));
        assert!(page.contains("<title>&lt;b&gt;</title>"), "{page}");
        assert!(page.contains("&quot;&amp;&#39;&lt;script&gt;"), "{page}");
        assert!(page.contains("href=\"/saas/favicon.svg\""), "{page}");
        let policy = policy();
        assert!(
            policy.starts_with("default-src 'none'; style-src 'sha256-"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}
