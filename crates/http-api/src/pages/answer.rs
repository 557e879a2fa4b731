//! Answers that are pages.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, LOCATION, SET_COOKIE,
};

use crate::web::html::{escaped, form_policy, wide_document};
use crate::web::{Code, FieldError, Problem};

/// A page, while it is put together.
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) heading: String,
    /// Elements of its head.
    pub(super) head: String,
    pub(super) body: String,
    /// What the browser is to keep.
    pub(super) cookies: Vec<HeaderValue>,
}

impl Page {
    pub(super) fn new(heading: impl Into<String>, body: impl Into<String>) -> Self {
        Self {
            status: StatusCode::OK,
            heading: heading.into(),
            head: String::new(),
            body: body.into(),
            cookies: Vec::new(),
        }
    }

    pub(super) fn send(self, prefix: &str) -> HttpResponse {
        self.send_under(prefix, form_policy())
    }

    /// With a policy of its own.
    pub(super) fn send_under(self, prefix: &str, policy: &str) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        for cookie in self.cookies {
            response.append_header((SET_COOKIE, cookie));
        }
        response
            .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
            // It shows what is a workspace's own, or holds a credential.
            .insert_header((CACHE_CONTROL, "no-store"))
            .insert_header((CONTENT_SECURITY_POLICY, policy))
            .body(wide_document(prefix, &self.heading, &self.head, &self.body))
    }
}

/// Has the browser ask for another address by GET. It is relative to this one.
pub(super) fn see_other(to: &str, cookies: Vec<HeaderValue>) -> HttpResponse {
    let mut response = HttpResponse::SeeOther();
    for cookie in cookies {
        response.append_header((SET_COOKIE, cookie));
    }
    response
        .insert_header((LOCATION, to))
        .insert_header((CACHE_CONTROL, "no-store"))
        .finish()
}

/// A page that leads on by itself. A redirect would not do: of a form's answer, `form-action` lets none leave this origin;
/// and one that a foreign site began carries no cookie of ours.
pub(super) fn leading_on(heading: &str, to: &str, text: &str) -> Page {
    let to = escaped(to);
    let mut page = Page::new(
        heading,
        format!("<p><a href=\"{to}\">{}</a></p>\n", escaped(text)),
    );
    page.head = format!("<meta http-equiv=\"refresh\" content=\"0; url={to}\">\n");
    page
}

/// What a refusal says, for a person.
pub(super) fn refusal_text(problem: &Problem) -> String {
    let errors: Vec<FieldError> = problem
        .members
        .get("errors")
        .and_then(|errors| serde_json::from_value(errors.clone()).ok())
        .unwrap_or_default();
    if errors.is_empty() {
        return problem.detail.clone();
    }
    let errors = errors
        .iter()
        .map(|error| format!("{} {}.", error.field.replace('_', " "), error.message));
    let text = errors.collect::<Vec<_>>().join(" ");
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}

/// An alert at the head of a page; nothing of an empty text.
pub(super) fn alert(text: &str) -> String {
    match text {
        "" => String::new(),
        text => format!(
            "<div class=\"alert\" role=\"alert\"><p>{}</p></div>\n",
            escaped(text)
        ),
    }
}

/// What somebody may want to know.
pub(super) fn notice(text: &str) -> String {
    format!(
        "<div class=\"notice\" role=\"status\"><p>{}</p></div>\n",
        escaped(text)
    )
}

/// A page of nothing but a refusal.
pub(super) fn refused(problem: &Problem) -> Page {
    let mut page = Page::new(problem.code.title(), alert(&refusal_text(problem)));
    page.status = problem.code.status();
    page
}

/// The answer to somebody who looks at a page, and is refused it.
pub(crate) fn refusal_page(prefix: &str, problem: &Problem) -> HttpResponse {
    with_refusal(refused(problem).send(prefix), problem)
}

/// Gives an answer the status and the headers of a refusal, and writes its cause to the log, as the API does.
pub(super) fn with_refusal(mut response: HttpResponse, problem: &Problem) -> HttpResponse {
    let refusal = problem.response();
    *response.status_mut() = refusal.status();
    for (name, value) in refusal.headers() {
        // A page asks by a form, not by a dialogue of the browser's.
        let own = *name == CONTENT_TYPE || problem.code == Code::Unauthenticated;
        if !own {
            response.headers_mut().append(name.clone(), value.clone());
        }
    }
    response
}

/// The page for a form that is not taken: another site's, or one that was shown too long ago.
pub(super) fn stale(heading: &str) -> Page {
    let text =
        "This form is too old, or was not sent by this page. Open the page anew and try again.";
    let mut page = Page::new(heading, alert(text));
    page.status = StatusCode::FORBIDDEN;
    page
}
