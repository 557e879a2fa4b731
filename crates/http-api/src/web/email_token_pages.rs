//! The pages that mailed links lead to. They are the same for every token: the script, whose hash is all that
//! the browser may run, takes it from the address and out of the history.

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use actix_web::web::ServiceConfig;

use super::html::{document, page_route, policy_with, source_hash};

/// Where the link to a new password leads, on the installation's public URL.
pub const PASSWORD_RESET_PATH: &str = "/password-reset";
/// Where the link that verifies an address leads.
pub const EMAIL_VERIFICATION_PATH: &str = "/email-verification";

/// Serves both pages, below `prefix`.
pub(super) fn email_token_pages(config: &mut ServiceConfig, prefix: &str) {
    // A verification waits for a click as well: what scans mails follows links by itself.
    const PAGES: [(&str, &str, &str, &str); 2] = [
        (
            PASSWORD_RESET_PATH,
            "Set a new password",
            "v1/password-resets/complete",
            "<p><label>New password, at least 8 characters<br>\
             <input name=\"password\" type=\"password\" autocomplete=\"new-password\" minlength=\"8\" required></label></p>\
             <p><button>Set the password</button></p>",
        ),
        (
            EMAIL_VERIFICATION_PATH,
            "Confirm your e-mail address",
            "v1/email-verifications/complete",
            "<p><button>Confirm</button></p>",
        ),
    ];
    for (path, title, action, fields) in PAGES {
        let (page, policy) = (page(prefix, title, action, fields), policy());
        config.service(page_route(path).to(move || {
            let answer = HttpResponse::Ok()
                .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
                // The address holds a credential: nothing on the way may keep it.
                .insert_header((CACHE_CONTROL, "no-store"))
                .insert_header((CONTENT_SECURITY_POLICY, policy.as_str()))
                .body(page.clone());
            std::future::ready(answer)
        }));
    }
}

/// Relative addresses, so that the pages also work below a path.
const SCRIPT: &str = r#"
const form = document.querySelector("form");
const said = document.querySelector("output");
const token = new URLSearchParams(location.search).get("token");
history.replaceState(null, "", location.pathname);
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const answer = await fetch(form.dataset.action, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ...Object.fromEntries(new FormData(form)), token: token ?? "" }),
    });
    if (answer.ok) {
      form.hidden = true;
      said.textContent = "Done.";
      return;
    }
    const problem = await answer.json();
    said.textContent = answer.status === 404
      ? "This link is used up or too old. Ask for a new one."
      : problem.errors?.map((e) => `${e.field} ${e.message}`).join("; ") ?? problem.detail;
  } catch {
    said.textContent = "The server cannot be reached. Try again.";
  }
  button.disabled = false;
});
"#;

fn page(prefix: &str, title: &str, action: &str, fields: &str) -> String {
    let body = format!(
        "<form data-action=\"{action}\">{fields}</form>\n<p><output></output></p>\n\
         <noscript><p>This page needs JavaScript.</p></noscript>\n<script>{SCRIPT}</script>\n"
    );
    document(prefix, title, &body)
}

fn policy() -> String {
    let script = source_hash(SCRIPT);
    policy_with(&format!(
        "script-src {script}; connect-src 'self'; form-action 'none'"
    ))
}
