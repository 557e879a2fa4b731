//! Mailed proofs: a new password, and the verification of an address.

use actix_web::{HttpRequest, HttpResponse, post, web};
use rawdrive_identity::{
    EmailAddress, EmailVerificationToken, Password, PasswordResetToken, ProofPurpose,
    request_proof, reset_password, verify_email,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;
use crate::client_address::client_address;
use crate::web::{Body, Problem};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestMail {
    /// Compared case-folded.
    email: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompleteReset {
    /// As it stood in the mailed link.
    token: String,
    /// At least 8 characters.
    #[schema(format = Password)]
    password: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompleteVerification {
    /// As it stood in the mailed link.
    token: String,
}

/// Says nothing of the address.
#[derive(Serialize, ToSchema)]
pub(crate) struct AcceptedView {
    detail: &'static str,
}

async fn ask(
    app: &App,
    request: &HttpRequest,
    body: Body,
    purpose: ProofPurpose,
) -> Result<HttpResponse, Problem> {
    let (input, mut v): (RequestMail, _) = body.checked_json().await?;
    let email = v.check("email", EmailAddress::parse(&input.email));
    let email = v.finish_with(email)?;
    ask_for(app, request, &email, purpose).await?;
    Ok(HttpResponse::Accepted().json(AcceptedView { detail: ASKED }))
}

/// What is said to whoever asks for a mail, whether or not there is an account.
pub(crate) const ASKED: &str =
    "If there is something to be done for this address, a mail is on its way.";

/// Asks for a mail, and has the answer tell how the limit stands.
pub(crate) async fn ask_for(
    app: &App,
    request: &HttpRequest,
    email: &EmailAddress,
    purpose: ProofPurpose,
) -> Result<(), Problem> {
    let (attempts, client) = (app.attempts(), client_address(request));
    let asked = request_proof(&app.store, &attempts, app.env(), purpose, email, client).await;
    attempts.announce(request);
    Ok(asked?)
}

/// Mails a link to a new password, where the address is an account's. The answer is the same in any case.
#[utoipa::path(tag = "identity", request_body = RequestMail, responses((status = 202, body = AcceptedView), (status = 422), (status = 429, headers(("RateLimit" = String)))))]
#[post("/v1/password-resets")]
pub(crate) async fn request_password_reset(
    app: web::Data<App>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    ask(&app, &request, body, ProofPurpose::PasswordReset).await
}

/// Sets a new password by a mailed token, once. All sessions of the user end.
#[utoipa::path(tag = "identity", request_body = CompleteReset, responses((status = 204), (status = 404), (status = 422)))]
#[post("/v1/password-resets/complete")]
pub(crate) async fn complete_password_reset(
    app: web::Data<App>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let (input, mut v): (CompleteReset, _) = body.checked_json().await?;
    let password = v.check("password", Password::parse(&input.password));
    let password = v.finish_with(password)?;
    let token = PasswordResetToken::parse(&input.token).map_err(|_| Problem::not_found())?;
    reset_password(
        &app.store,
        &app.attempts(),
        &app.hasher,
        (app.env(), &app.pepper),
        (&token, client_address(&request)),
        &password,
    )
    .await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Mails a link that verifies the address, where it is an account's and not verified. The answer is the same
/// in any case.
#[utoipa::path(tag = "identity", request_body = RequestMail, responses((status = 202, body = AcceptedView), (status = 422), (status = 429, headers(("RateLimit" = String)))))]
#[post("/v1/email-verifications")]
pub(crate) async fn request_email_verification(
    app: web::Data<App>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    ask(&app, &request, body, ProofPurpose::EmailVerification).await
}

/// Verifies an address by a mailed token, once.
#[utoipa::path(tag = "identity", request_body = CompleteVerification, responses((status = 204), (status = 404), (status = 422)))]
#[post("/v1/email-verifications/complete")]
pub(crate) async fn complete_email_verification(
    app: web::Data<App>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let input: CompleteVerification = body.json().await?;
    let token = EmailVerificationToken::parse(&input.token).map_err(|_| Problem::not_found())?;
    verify_email(&app.store, app.env(), &app.pepper, &token).await?;
    Ok(HttpResponse::NoContent().finish())
}
