//! Signing in on a page: the same use case as `POST /v1/sessions`, with its limits and its queue. What is left of it in
//! the browser is a cookie.

use actix_web::http::header::HeaderValue;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use rawdrive_identity::{
    ClaimedPassword, Credentials, DeviceToken, EmailAddress, Opening, ProofPurpose, SignInCode,
    SignedIn,
};
use rawdrive_store::WriteTx;
use rawdrive_tenancy_core::SystemReason;
use secrecy::ExposeSecret as _;

use super::answer::{Page, alert, notice, refusal_text, see_other, with_refusal};
use super::asked::Asked;
use super::comparison::words;
use super::visit::{Cookie, Form, Transport, device, known_visitor, transport, visitor};
use crate::app::App;
use crate::client_address::client_address;
use crate::routes::accounts::{open, prove};
use crate::routes::email_tokens::{ASKED, ask_for};
use crate::web::html::escaped;
use crate::web::{Problem, Validator};

pub(super) const HEADING: &str = "Plan and payment";

/// What stands in the form already.
#[derive(Default)]
pub(super) struct Filled<'a> {
    /// What is to be read before the form.
    pub(super) said: String,
    pub(super) email: &'a str,
    /// Whether a code was mailed that has to be given along.
    pub(super) asks_code: bool,
}

/// The form.
pub(super) fn page(
    app: &App,
    request: &HttpRequest,
    asked: &Asked,
    filled: &Filled<'_>,
) -> Result<Page, Problem> {
    let refused = refused_words(asked);
    let lead =
        "<p>Sign in to see the plans beside what your workspace uses, and to choose one.</p>\n";
    if transport(app) == Transport::Plain {
        let text = "This installation is reached by an address without encryption, over which nobody should send a \
                    password. Ask its operator for an address that begins with https://.";
        return Ok(Page::new(
            HEADING,
            format!("{refused}{lead}{}", alert(text)),
        ));
    }
    let (name, cookie) = visitor(app, request)?;
    let token = app.page_keys.form_token(&name);
    let code = if filled.asks_code {
        "<p><label>The code that was mailed to you<br><input name=\"code\" inputmode=\"numeric\" autocomplete=\"one-time-code\"></label></p>\n"
    } else {
        ""
    };
    let (action, email) = (escaped(&asked.address()), escaped(filled.email));
    let body = format!(
        "{refused}{said}{lead}<form method=\"post\" action=\"{action}\">\n\
         <input type=\"hidden\" name=\"form_token\" value=\"{token}\">\n\
         <p><label>E-mail<br><input name=\"email\" type=\"email\" autocomplete=\"username\" required value=\"{email}\"></label></p>\n\
         <p><label>Password<br><input name=\"password\" type=\"password\" autocomplete=\"current-password\"></label></p>\n\
         {code}<p><button name=\"action\" value=\"sign_in\">Sign in</button> \
         <button name=\"action\" value=\"forgot\">Mail me a link to a new password</button></p>\n</form>\n",
        said = filled.said,
    );
    let mut page = Page::new(HEADING, body);
    page.cookies.extend(cookie);
    Ok(page)
}

/// What the address says was refused: all that can be told before it is known who asks.
fn refused_words(asked: &Asked) -> String {
    let feature = asked
        .feature
        .as_ref()
        .map(|feature| format!("The plan does not include {}.", words(feature.as_str())));
    let metric = asked
        .metric
        .as_ref()
        .map(|metric| format!("The limit of {} was reached.", words(metric.as_str())));
    feature
        .or(metric)
        .map_or_else(String::new, |text| notice(&text))
}

/// Takes the form: signs in, or mails a link to a new password.
pub(super) async fn act(
    app: &Data<App>,
    request: &HttpRequest,
    asked: &Asked,
    form: &Form,
) -> Result<HttpResponse, Problem> {
    let mut filled = Filled {
        email: form.text("email"),
        asks_code: form.get("code").is_some(),
        ..Filled::default()
    };
    let known = known_visitor(app, request);
    if !known.is_some_and(|name| app.page_keys.is_form_token(&name, form.text("form_token"))) {
        filled.said = alert("The form was open for too long, or cookies are off. Try again.");
        let mut page = page(app, request, asked, &filled)?;
        page.status = actix_web::http::StatusCode::FORBIDDEN;
        return Ok(page.send(app.prefix()));
    }
    let acted = if form.text("action") == "forgot" {
        forgot(app, request, form).await.map(|()| None)
    } else {
        sign_in(app, request, form).await.map(Some)
    };
    match acted {
        Ok(Some(cookies)) => Ok(see_other(&asked.address(), cookies)),
        Ok(None) => {
            filled.said = notice(ASKED);
            Ok(page(app, request, asked, &filled)?.send(app.prefix()))
        }
        Err(problem) if problem.code.number() < 500 => {
            filled.said = alert(&refusal_text(&problem));
            filled.asks_code |= problem.members.get("code_mailed") == Some(&true.into());
            let page = page(app, request, asked, &filled)?;
            Ok(with_refusal(page.send(app.prefix()), &problem))
        }
        Err(problem) => Err(problem),
    }
}

async fn forgot(app: &App, request: &HttpRequest, form: &Form) -> Result<(), Problem> {
    let mut v = Validator::new();
    let email = v.check("email", EmailAddress::parse(form.text("email")));
    let email = v.finish_with(email)?;
    ask_for(app, request, &email, ProofPurpose::PasswordReset).await
}

async fn sign_in(
    app: &App,
    request: &HttpRequest,
    form: &Form,
) -> Result<Vec<HeaderValue>, Problem> {
    let mut v = Validator::new();
    let email = v.check("email", EmailAddress::parse(form.text("email")));
    let password = v.check("password", ClaimedPassword::parse(form.text("password")));
    let code = v.check_some("code", form.get("code"), SignInCode::parse);
    let (email, password) = v.finish_with(email.zip(password))?;
    let credentials = Credentials {
        email,
        password,
        client: client_address(request),
        device: device(app, request).and_then(|text| DeviceToken::parse(&text).ok()),
        code,
    };
    let opening = prove(app, request, &credentials).await?;
    open_on_page(app, opening).await
}

/// Opens a session, and has the browser remember it. The session's own tokens are given to nobody.
pub(super) async fn open_on_page(app: &App, opening: Opening) -> Result<Vec<HeaderValue>, Problem> {
    let view = async |app: &App, _: &mut WriteTx, signed: &SignedIn| {
        let device = DeviceToken::issue(app.env(), &app.pepper, signed.person.id).text();
        Ok((signed.tokens.access.clone(), device))
    };
    let (access, device) = open(app, opening, SystemReason::SIGN_IN, view).await?;
    let claims = app.issuer.verify(app.env(), access.expose_secret());
    let claims = claims.map_err(Problem::internal)?;
    let sealed = app.page_keys.seal(app.env(), &claims);
    Ok(vec![
        Cookie::Session.set(app, &sealed)?,
        Cookie::Device.set(app, device.expose_secret())?,
    ])
}
