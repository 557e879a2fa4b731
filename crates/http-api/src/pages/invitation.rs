//! The page that a mailed invitation leads to: it does what `POST /v1/invitations/accept` does, for somebody new and for
//! somebody who has an account.
//!
//! No cookie is set, and none is needed: who sends this form knows the token, and gains nothing in this browser.

use std::sync::OnceLock;

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use rawdrive_identity::{InvitationToken, SignedIn, find_invitation};
use rawdrive_store::WriteTx;
use rawdrive_tenancy_core::SystemReason;

use super::answer::{Page, alert, notice, refusal_text, refused, stale, with_refusal};
use super::overview::{day, hidden};
use super::visit::{Form, Transport, is_anothers, transport};
use crate::app::App;
use crate::routes::accounts::system_scope;
use crate::routes::team::{AcceptanceInput, accept, accept_problem};
use crate::web::html::{escaped, policy_with, source_hash};
use crate::web::{Body, Code, INVITATION_PATH, Problem, pairs};

const HEADING: &str = "Invitation";

/// The address holds a credential: it is not to stay in the browser's history. Without scripts it does.
const SCRIPT: &str = "history.replaceState(null, \"\", location.pathname);";

fn policy() -> &'static str {
    static POLICY: OnceLock<String> = OnceLock::new();
    POLICY.get_or_init(|| {
        let script = source_hash(SCRIPT);
        policy_with(&format!("script-src {script}; form-action 'self'"))
    })
}

pub(super) async fn show(app: Data<App>, request: HttpRequest) -> HttpResponse {
    let pairs = pairs(request.query_string()).unwrap_or_default();
    let token = pairs.into_iter().find(|(name, _)| name == "token");
    let Some((_, token)) = token else {
        // Whoever loads the page anew, too: the token has been taken out of its address.
        let text = "An invitation comes by mail: open the link in it.";
        return Page::new(HEADING, notice(text)).send(app.prefix());
    };
    match form(&app, &token, "").await {
        Ok(page) => page.send_under(app.prefix(), policy()),
        Err(problem) => refusal(&app, &problem),
    }
}

pub(super) async fn act(app: Data<App>, request: HttpRequest, body: Body) -> HttpResponse {
    let form = match Form::read(body).await {
        Ok(form) => form,
        Err(problem) => return refusal(&app, &problem),
    };
    if is_anothers(&request) {
        return stale(HEADING).send(app.prefix());
    }
    acted(&app, &request, &form).await
}

async fn acted(app: &Data<App>, request: &HttpRequest, sent: &Form) -> HttpResponse {
    let token = app.page_keys.open_invitation(sent.text("invitation"));
    let token = token.unwrap_or_default();
    let input = AcceptanceInput {
        token: token.clone(),
        name: sent.get("name").map(str::to_owned),
        password: sent.get("password").map(str::to_owned),
        session: None,
    };
    let view = async |_: &App, _: &mut WriteTx, signed: &SignedIn| {
        let (workspace, email) = (signed.workspace.name.as_str(), signed.person.email.as_str());
        Ok(format!(
            "<p>You belong to {} now. Sign in with {} and your password in the application of this installation.</p>\n\
             <p><a href=\"../\">What there is</a></p>\n",
            escaped(workspace),
            escaped(email)
        ))
    };
    let problem = match accept(app, request, input, view).await {
        Ok(body) => return Page::new("Welcome", body).send(app.prefix()),
        Err(problem) => problem,
    };
    if !matches!(
        problem.code,
        Code::ValidationFailed
            | Code::Unauthenticated
            | Code::RateLimited
            | Code::DependencyUnavailable
    ) {
        return refusal(app, &problem);
    }
    // It can be tried again.
    let said = match problem.code {
        Code::Unauthenticated => {
            "There is an account of this address, and this is not its password.".to_owned()
        }
        Code::ValidationFailed => {
            format!(
                "{} Are you new here? Then say who you are.",
                refusal_text(&problem)
            )
        }
        _ => refusal_text(&problem),
    };
    match form(app, &token, &said).await {
        Ok(page) => with_refusal(page.send_under(app.prefix(), policy()), &problem),
        Err(problem) => refusal(app, &problem),
    }
}

/// Both forms, where the token opens an invitation.
async fn form(app: &Data<App>, token: &str, said: &str) -> Result<Page, Problem> {
    if transport(app) == Transport::Plain {
        let text = "This installation is reached by an address without encryption, over which nobody should send a \
                    password. Ask its operator for an address that begins with https://.";
        return Ok(Page::new(HEADING, alert(text)));
    }
    let parsed = InvitationToken::parse(token).map_err(|_| Problem::not_found())?;
    let found = find_invitation(&app.store, app.env(), &app.pepper, &parsed).await;
    let found = match found {
        Ok(found) => found,
        Err(error) => return Err(accept_problem(app, None, error).await),
    };
    let scope = system_scope(parsed.workspace(), SystemReason::ACCEPT_INVITATION);
    let workspace = app.store.read(&scope).workspace().await?.name;
    let invitation = &found.invitation;
    // Relative, so that it holds wherever the page is mounted.
    let action = INVITATION_PATH.rsplit('/').next().unwrap_or_default();
    let open = format!(
        "<form method=\"post\" action=\"{action}\">{}<p><label>E-mail<br><input type=\"email\" autocomplete=\"username\" readonly value=\"{}\"></label></p>\n",
        hidden(&[(
            "invitation",
            &app.page_keys.seal_invitation(app.env(), token)
        )]),
        escaped(invitation.email.as_str())
    );
    let mut page = Page::new(
        HEADING,
        format!(
            "<p>You are invited to {} as {}, until {}.</p>\n{}\
             <h2>I have an account</h2>\n{open}\
             <p><label>Password<br><input name=\"password\" type=\"password\" autocomplete=\"current-password\" required></label></p>\n\
             <p><button>Accept</button></p></form>\n\
             <h2>I am new here</h2>\n{open}\
             <p><label>Name<br><input name=\"name\" autocomplete=\"name\" required></label></p>\n\
             <p><label>A password, at least 8 characters<br><input name=\"password\" type=\"password\" autocomplete=\"new-password\" minlength=\"8\" required></label></p>\n\
             <p><button>Make my account and accept</button></p></form>\n<script>{SCRIPT}</script>\n",
            escaped(&workspace),
            invitation.role.as_str(),
            day(invitation.expires_at),
            alert(said),
        ),
    );
    page.head = "<meta name=\"robots\" content=\"noindex\">\n".to_owned();
    Ok(page)
}

/// A page of nothing but a refusal, in words for who was invited.
fn refusal(app: &App, problem: &Problem) -> HttpResponse {
    let mut page = refused(problem);
    HEADING.clone_into(&mut page.heading);
    if problem.code == Code::NotFound {
        page.body = alert(
            "This link is used up or too old, or is not whole. Ask whoever has invited you for another one.",
        );
    }
    with_refusal(page.send(app.prefix()), problem)
}
