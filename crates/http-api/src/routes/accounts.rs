//! Sign-up, sessions, one's own account.

use actix_web::{HttpRequest, HttpResponse, delete, get, patch, post, web};
use rawdrive_identity::ports::{Belonging, IdentityRead};
use rawdrive_identity::{
    AccountUpdate, ClaimedPassword, Credentials, Currency, DeviceToken, EmailAddress, NewAccount,
    Opening, Password, PasswordChange, Person, PersonName, ProofRequest, RefreshToken, SignInCode,
    SignedIn, Tokens, WorkspaceName, meet_network, open_session, prepare_sign_up,
};
use rawdrive_plans::{Metric, PlansTx, Slug};
use rawdrive_store::{Release, WriteTx};
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::{Causes, Commit, SystemReason, WorkspaceScope};
use rawdrive_usage::{Charge, QuotaKey, TakeError};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::api_keys::scope_names;
use super::workspace::WorkspaceView;
use crate::app::{App, time};
use crate::auth::{Identified, Leaving, Personal, operation_scopes};
use crate::client_address::client_address;
use crate::openapi::words::RoleName;
use crate::web::{Body, Nullable, Problem};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignUp {
    /// The owner's address; compared case-folded.
    email: String,
    /// At least 8 characters.
    #[schema(format = Password)]
    password: String,
    /// The owner's name.
    name: String,
    /// The new workspace's name.
    workspace_name: String,
    /// ISO 4217; fixed for ever. The installation's own when left out.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    currency: Nullable<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignIn {
    email: String,
    #[schema(format = Password)]
    password: String,
    /// What an earlier sign-up or sign-in on this device answered: whoever else has tried too often, this device may
    /// try.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    device_token: Nullable<String>,
    /// The code that was mailed because too many attempts had failed.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    code: Nullable<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refresh {
    refresh_token: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Switch {
    /// A workspace that the user belongs to.
    workspace: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateMe {
    #[schema(nullable = false)]
    name: Option<String>,
    /// Needs `current_password`; ends all other sessions.
    #[schema(format = Password, nullable = false)]
    password: Option<String>,
    #[schema(format = Password, nullable = false)]
    current_password: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct UserView {
    id: String,
    email: String,
    name: String,
    /// Whether the user proved that mail to their address reaches them.
    email_verified: bool,
}

impl From<&Person> for UserView {
    fn from(person: &Person) -> Self {
        Self {
            id: person.id.to_string(),
            email: person.email.as_str().to_owned(),
            name: person.name.as_str().to_owned(),
            email_verified: person.email_verified,
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct TokensView {
    access_token: String,
    refresh_token: String,
    /// `Bearer`.
    token_type: &'static str,
    /// Seconds until the access token ends.
    expires_in: u32,
}

impl From<&Tokens> for TokensView {
    fn from(tokens: &Tokens) -> Self {
        Self {
            access_token: tokens.access.expose_secret().to_owned(),
            refresh_token: tokens.refresh.expose_secret().to_owned(),
            token_type: "Bearer",
            expires_in: tokens.expires_in_seconds,
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct SignedInView {
    user: UserView,
    workspace: WorkspaceView,
    #[serde(flatten)]
    tokens: TokensView,
    /// For the next sign-in on this device, for 180 days. It opens nothing by itself.
    device_token: String,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct BelongingView {
    id: String,
    name: String,
    #[schema(value_type = RoleName)]
    role: &'static str,
}

impl From<&Belonging> for BelongingView {
    fn from(belonging: &Belonging) -> Self {
        Self {
            id: belonging.workspace.to_string(),
            name: belonging.name.as_str().to_owned(),
            role: belonging.role.as_str(),
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct MeView {
    user: UserView,
    workspace: WorkspaceView,
    #[schema(value_type = RoleName)]
    role: &'static str,
    workspaces: Vec<BelongingView>,
}

/// Who is asking.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Caller)]
pub(crate) enum WhoView {
    Person(Box<MeView>),
    Key(KeyMeView),
    Page(PageMeView),
}

/// The API key itself.
#[derive(Serialize, ToSchema)]
pub(crate) struct OwnKeyView {
    id: String,
    name: String,
    /// What it is worth now: at most what its sponsor's role is.
    #[schema(value_type = RoleName)]
    role: &'static str,
    /// What it may be used for, below its role.
    #[schema(example = json!(["team:read", "usage:write"]))]
    scopes: Vec<String>,
    #[schema(required = true)]
    expires_at: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct KeyMeView {
    key: OwnKeyView,
    workspace: WorkspaceView,
}

/// The page's token itself.
#[derive(Serialize, ToSchema)]
pub(crate) struct OwnTokenView {
    #[schema(value_type = RoleName)]
    role: &'static str,
    #[schema(example = json!(["usage:read"]))]
    scopes: Vec<String>,
    expires_at: String,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct PageMeView {
    token: OwnTokenView,
    workspace: WorkspaceView,
}

pub(crate) async fn signed_in(
    app: &App,
    tx: &mut WriteTx,
    signed: &SignedIn,
) -> Result<SignedInView, Problem> {
    let row = tx.workspace_row().await?;
    let entitlements = tx.entitlements().await?;
    Ok(SignedInView {
        user: UserView::from(&signed.person),
        workspace: WorkspaceView::of(app, &row, &entitlements),
        tokens: TokensView::from(&signed.tokens),
        device_token: DeviceToken::issue(app.env(), &app.pepper, signed.person.id)
            .text()
            .expose_secret()
            .to_owned(),
    })
}

/// Makes a user, their workspace on the free plan, and a session. Where mail leaves the machine, the link that verifies
/// the address is mailed.
#[utoipa::path(tag = "identity", request_body = SignUp, responses((status = 201, body = SignedInView), (status = 409, description = "email_taken"), (status = 422), (status = 429, description = "rate_limited", headers(("RateLimit" = String)))))]
#[post("/v1/signup")]
pub(crate) async fn sign_up(
    app: web::Data<App>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let (input, mut v): (SignUp, _) = body.checked_json().await?;
    let email = v.check("email", EmailAddress::parse(&input.email));
    let password = v.check("password", Password::parse(&input.password));
    let name = v.check("name", PersonName::parse(&input.name));
    let workspace_name = v.check(
        "workspace_name",
        WorkspaceName::parse(&input.workspace_name),
    );
    let currency = v.check_some("currency", input.currency.value(), |text| {
        Currency::parse(&text)
    });
    let ((Some(email), Some(password)), (Some(name), Some(workspace_name))) =
        ((email, password), (name, workspace_name))
    else {
        v.finish()?;
        return Err(Problem::internal("a refused field has no message"));
    };
    v.finish()?;
    let currency = currency.unwrap_or(app.settings.currency);
    let env = app.env();
    let (attempts, client) = (app.attempts(), client_address(&request));
    let prepared = prepare_sign_up(
        &app.store,
        &attempts,
        &app.hasher,
        env,
        (&email, &password),
        client,
    )
    .await;
    attempts.announce(&request);
    let hash = prepared?;
    let scope = system_scope(env.id(), SystemReason::SIGN_UP);
    let mut tx = app
        .store
        .begin_despite_read_only(&scope, Release::Identity)
        .await?;
    let account = NewAccount {
        email,
        name,
        workspace_name,
        currency,
    };
    let signed = rawdrive_identity::sign_up(&mut tx, env, &app.issuer, account, hash).await?;
    let free = app
        .catalogue
        .newest(&Slug::free())
        .ok_or_else(|| Problem::internal("the catalogue has no free plan"))?;
    tx.insert_entitlements(&free).await?;
    let seat = Charge {
        key: QuotaKey::level(Metric::team_members()),
        amount: 1,
    };
    match rawdrive_usage::add(&mut tx, env, seat, signed.person.id.to_string()).await {
        Ok(()) => {}
        Err(TakeError::Store(error)) => return Err(error.into()),
        Err(error) => return Err(Problem::internal(error)),
    }
    app.review_onboarding(&mut tx).await?;
    if app.settings.mail_leaves {
        let verification = ProofRequest::for_verification(env, &signed.person.email);
        tx.insert_proof_request(&verification).await?;
    }
    let view = signed_in(&app, &mut tx, &signed).await?;
    tx.commit().await?;
    // The account stands, also where this does not: it only makes guessing at the account harder for others.
    if let Err(error) = meet_network(&attempts, env, &signed.person.email, client).await {
        tracing::warn!(error = %Causes(&error), "a new account does not know its network");
    }
    Ok(HttpResponse::Created().json(view))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a scope before there is a membership: sign-up, sign-in, and a token that names its workspace"
)]
pub(crate) fn system_scope(workspace: WorkspaceId, reason: SystemReason) -> WorkspaceScope {
    WorkspaceScope::for_system(workspace, reason)
}

/// Opens a session in the last used workspace, otherwise the oldest.
#[utoipa::path(tag = "identity", request_body = SignIn, responses((status = 201, body = SignedInView), (status = 401), (status = 403, description = "workspace_inactive"), (status = 422), (status = 429, description = "rate_limited; `code_mailed: true` where a code gets the account's owner in", headers(("RateLimit" = String)))))]
#[post("/v1/sessions")]
pub(crate) async fn sign_in(
    app: web::Data<App>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let (input, mut v): (SignIn, _) = body.checked_json().await?;
    let email = v.check("email", EmailAddress::parse(&input.email));
    let password = v.check("password", ClaimedPassword::parse(&input.password));
    let code = v.check_some("code", input.code.value(), |text| SignInCode::parse(&text));
    let (Some(email), Some(password)) = (email, password) else {
        v.finish()?;
        return Err(Problem::internal("a refused field has no message"));
    };
    v.finish()?;
    let credentials = Credentials {
        email,
        password,
        client: client_address(&request),
        // One that is none is worth as much as no token.
        device: input
            .device_token
            .value()
            .and_then(|token| DeviceToken::parse(&token).ok()),
        code,
    };
    let opening = prove(&app, &request, &credentials).await?;
    open(&app, opening, SystemReason::SIGN_IN, signed_in)
        .await
        .map(|view| HttpResponse::Created().json(view))
}

/// Whether somebody is who they say. Counts the attempt, and has the answer tell how its limit stands.
pub(crate) async fn prove(
    app: &App,
    request: &HttpRequest,
    credentials: &Credentials,
) -> Result<Opening, Problem> {
    let attempts = app.attempts();
    let opening = rawdrive_identity::sign_in(
        &app.store,
        &attempts,
        &app.hasher,
        (app.env(), &app.pepper),
        credentials,
    )
    .await;
    attempts.announce(request);
    Ok(opening?)
}

/// Opens the session, and shows of it what `view` makes of it in the same transaction.
pub(crate) async fn open<T>(
    app: &App,
    opening: Opening,
    reason: SystemReason,
    view: impl AsyncFnOnce(&App, &mut WriteTx, &SignedIn) -> Result<T, Problem>,
) -> Result<T, Problem> {
    let scope = system_scope(opening.workspace(), reason);
    let mut tx = app
        .store
        .begin_despite_read_only(&scope, Release::Identity)
        .await?;
    let signed = open_session(&mut tx, app.env(), &app.issuer, opening).await?;
    let view = view(app, &mut tx, &signed).await?;
    tx.commit().await?;
    Ok(view)
}

/// Exchanges a refresh token for a new pair. A used one ends its session.
#[utoipa::path(tag = "identity", request_body = Refresh, responses((status = 200, body = TokensView), (status = 401)))]
#[post("/v1/sessions/refresh")]
pub(crate) async fn refresh_session(
    app: web::Data<App>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let input: Refresh = body.json().await?;
    let token =
        RefreshToken::parse(&input.refresh_token).map_err(|_| Problem::unauthenticated())?;
    let scope = system_scope(token.workspace(), SystemReason::AUTHENTICATE);
    let mut tx = app
        .store
        .begin_despite_read_only(&scope, Release::Identity)
        .await?;
    let refreshed = rawdrive_identity::refresh(&mut tx, app.env(), &app.issuer, &token).await?;
    // Also a revocation must stand.
    tx.commit().await?;
    Ok(HttpResponse::Ok().json(TokensView::from(&refreshed.tokens()?)))
}

/// Opens a session in another workspace of the user.
#[utoipa::path(tag = "identity", security(("bearer" = ["any"])), request_body = Switch, responses((status = 200, body = SignedInView), (status = 404), (status = 403, description = "insufficient_role: it takes a person's session")))]
#[post("/v1/sessions/switch")]
pub(crate) async fn switch_workspace(
    app: web::Data<App>,
    scoped: Personal<Leaving>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let input: Switch = body.json().await?;
    let target = input.workspace.parse().map_err(|_| Problem::not_found())?;
    let opening = rawdrive_identity::switch(&app.store, &scoped.authenticated, target).await?;
    open(&app, opening, SystemReason::SIGN_IN, signed_in)
        .await
        .map(|view| HttpResponse::Ok().json(view))
}

/// Ends the session of this token.
#[utoipa::path(tag = "identity", security(("bearer" = ["any"])), responses((status = 204), (status = 401), (status = 403, description = "insufficient_role: it takes a person's session")))]
#[delete("/v1/sessions/current")]
pub(crate) async fn sign_out(
    app: web::Data<App>,
    scoped: Personal<Leaving>,
) -> Result<HttpResponse, Problem> {
    let mut tx = app
        .store
        .begin_despite_read_only(&scoped.scope, Release::Identity)
        .await?;
    rawdrive_identity::sign_out(&mut tx, app.env(), scoped.membership()).await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn me_view(app: &App, scoped: &Personal<Leaving>) -> Result<MeView, Problem> {
    let reader = app.store.read(&scoped.scope);
    let user = IdentityRead::user(&app.store, scoped.membership().user())
        .await?
        .ok_or_else(Problem::unauthenticated)?;
    let workspaces = app.store.workspaces_of(user.id).await?;
    let (row, entitlements) = (reader.workspace().await?, reader.entitlements().await?);
    Ok(MeView {
        user: UserView::from(&Person::from(user)),
        workspace: WorkspaceView::of(app, &row, &entitlements),
        role: scoped.membership().role().as_str(),
        workspaces: workspaces.iter().map(BelongingView::from).collect(),
    })
}

/// Who is asking, by which credential: a person, with all their workspaces; a program, by its key; a page, by the token
/// that was made for it.
#[utoipa::path(tag = "identity", security(("bearer" = ["any"])), responses((status = 200, body = WhoView), (status = 401)))]
#[get("/v1/me")]
pub(crate) async fn show_me(
    app: web::Data<App>,
    identified: Identified,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let known = operation_scopes(&request)?;
    let view = match identified {
        Identified::Person(scoped) => WhoView::Person(Box::new(me_view(&app, &scoped).await?)),
        Identified::Key(scope, key) => WhoView::Key(KeyMeView {
            key: OwnKeyView {
                id: key.grant.key().to_string(),
                name: key.name.as_str().to_owned(),
                role: key.grant.role().as_str(),
                scopes: scope_names(&key.scopes, known),
                expires_at: key.expires_at.map(time),
            },
            workspace: workspace_view(&app, &scope).await?,
        }),
        Identified::Page(scope, role, page) => WhoView::Page(PageMeView {
            token: OwnTokenView {
                role: role.as_str(),
                scopes: scope_names(&page.scopes, known),
                expires_at: time(page.expires_at),
            },
            workspace: workspace_view(&app, &scope).await?,
        }),
    };
    Ok(HttpResponse::Ok().json(view))
}

async fn workspace_view(app: &App, scope: &WorkspaceScope) -> Result<WorkspaceView, Problem> {
    let reader = app.store.read(scope);
    let (row, entitlements) = (reader.workspace().await?, reader.entitlements().await?);
    Ok(WorkspaceView::of(app, &row, &entitlements))
}

/// Changes the user's name or password.
#[utoipa::path(tag = "identity", security(("bearer" = ["any"])), request_body = UpdateMe, responses((status = 200, body = MeView), (status = 422), (status = 429, headers(("RateLimit" = String))), (status = 403, description = "insufficient_role: it takes a person's session")))]
#[patch("/v1/me")]
pub(crate) async fn update_me(
    app: web::Data<App>,
    scoped: Personal<Leaving>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let (input, mut v): (UpdateMe, _) = body.checked_json().await?;
    let name = v.check_some("name", input.name.as_deref(), PersonName::parse);
    let new = v.check_some("password", input.password.as_deref(), Password::parse);
    let current = v.check_some(
        "current_password",
        input.current_password.as_deref(),
        ClaimedPassword::parse,
    );
    v.require(
        "current_password",
        input.password.is_none() || input.current_password.is_some(),
        "is required to change the password",
    );
    v.finish()?;
    let password = new
        .zip(current)
        .map(|(new, current)| PasswordChange { new, current });
    let attempts = app.attempts();
    let proven = rawdrive_identity::prove_update(
        &app.store,
        &attempts,
        &app.hasher,
        app.env(),
        (scoped.membership(), client_address(&request)),
        AccountUpdate { name, password },
    )
    .await;
    attempts.announce(&request);
    let proven = proven?;
    let mut tx = app
        .store
        .begin_despite_read_only(&scoped.scope, Release::Identity)
        .await?;
    rawdrive_identity::update_me(&mut tx, scoped.membership(), proven).await?;
    tx.commit().await?;
    Ok(HttpResponse::Ok().json(me_view(&app, &scoped).await?))
}

/// A JSON Web Key Set (RFC 7517).
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's source; the issuer writes the set")]
pub(crate) struct KeySetView {
    keys: Vec<KeyView>,
}

/// A public key (RFC 7517), of the kind that it says.
#[derive(ToSchema)]
#[schema(as = SigningKey)]
#[expect(dead_code, reason = "the document's source; the issuer writes the set")]
pub(crate) struct KeyView {
    #[schema(example = "OKP")]
    kty: String,
    #[schema(example = "Ed25519")]
    crv: String,
    #[schema(example = "EdDSA")]
    alg: String,
    #[schema(example = "sig")]
    r#use: String,
    #[schema(example = "k1")]
    kid: String,
    /// The public key, in base64url.
    #[schema(example = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")]
    x: String,
}

/// The public keys that access tokens are verified with.
#[utoipa::path(operation_id = "get_signing_keys", tag = "identity", responses((status = 200, description = "A JSON Web Key Set (RFC 7517)", body = KeySetView)))]
#[get("/.well-known/jwks.json")]
pub(crate) async fn jwks(app: web::Data<App>) -> HttpResponse {
    HttpResponse::Ok().json(app.issuer.jwks(app.env()))
}
