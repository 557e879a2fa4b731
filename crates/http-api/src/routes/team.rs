//! Members and invitations.

use actix_web::{HttpRequest, HttpResponse, delete, get, patch, post, web};
use rawdrive_identity::ports::Authenticated;
use rawdrive_identity::{
    AcceptError, Acceptance, ApiKeyRow, ClaimedPassword, EmailAddress, Invitation, InvitationToken,
    KeysOf, LeftBehind, Password, PersonName, SignedIn, TeamError, change_role, invite, leave,
    prove_acceptance, transfer,
};
use rawdrive_store::{Release, WriteTx};
use rawdrive_tenancy_core::id::{InvitationId, TypedId, UserId};
use rawdrive_tenancy_core::{Commit, Role, SystemReason};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::accounts::{SignedInView, signed_in, system_scope};
use crate::app::{App, time};
use crate::auth::{Admin, Member, Owner, Personal, Scoped, session_if_any};
use crate::client_address::client_address;
use crate::idempotent_write::{Answer, Begin, mutate, no_body};
use crate::openapi::headers::Idempotent;
use crate::openapi::words::RoleName;
use crate::web::{
    Body, Code, INVITATION_PATH, ListView, NoFilters, Nullable, PageParams, PageQuery, Problem,
    Validator, parse_json, parse_query, path_id, read_json,
};

#[derive(Serialize, ToSchema)]
pub(crate) struct MemberView {
    /// The user's id.
    id: String,
    /// The same.
    user_id: String,
    name: String,
    email: String,
    #[schema(value_type = RoleName)]
    role: &'static str,
    joined_at: String,
}

impl From<&rawdrive_identity::Member> for MemberView {
    fn from(member: &rawdrive_identity::Member) -> Self {
        Self {
            id: member.user.to_string(),
            user_id: member.user.to_string(),
            name: member.name.as_str().to_owned(),
            email: member.email.as_str().to_owned(),
            role: member.role.as_str(),
            joined_at: time(member.joined_at),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeMember {
    /// `owner`, `admin` or `member`.
    #[schema(value_type = RoleName)]
    role: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Transfer {
    /// The member who becomes an owner.
    user_id: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Invite {
    email: String,
    /// `owner`, `admin` or `member`; at most one's own.
    #[schema(value_type = RoleName)]
    role: String,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct InvitationView {
    id: String,
    email: String,
    #[schema(value_type = RoleName)]
    role: &'static str,
    /// What it would make somebody now: at most what its sponsor's role is. `null` while the sponsor is no member.
    #[schema(value_type = Option<RoleName>, required = true)]
    effective_role: Option<&'static str>,
    /// The member or the key that invited.
    invited_by: String,
    /// The member who answers for it: who invited, or who answers for the key that did.
    #[schema(required = true)]
    sponsor: Option<String>,
    created_at: String,
    /// Until when it holds its seat.
    expires_at: String,
}

impl InvitationView {
    fn of(invitation: &Invitation, worth: Option<Role>) -> Self {
        Self {
            id: invitation.id.to_string(),
            email: invitation.email.as_str().to_owned(),
            role: invitation.role.as_str(),
            effective_role: worth.map(Role::as_str),
            invited_by: invitation.invited_by.clone(),
            sponsor: invitation.sponsor.map(|sponsor| sponsor.to_string()),
            created_at: time(invitation.created_at),
            expires_at: time(invitation.expires_at),
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Removal {
    /// Keeps the API keys that the member answers for; who removes the member answers for them from now on, and they
    /// are worth at most what that one's role is. They are revoked otherwise.
    #[param(required = false, nullable = false)]
    keep_keys: Option<bool>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct NamedKeyView {
    id: String,
    name: String,
    #[schema(value_type = RoleName)]
    role: &'static str,
}

impl From<&ApiKeyRow> for NamedKeyView {
    fn from(key: &ApiKeyRow) -> Self {
        Self {
            id: key.id.to_string(),
            name: key.name.as_str().to_owned(),
            role: key.role.as_str(),
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct NamedInvitationView {
    id: String,
    email: String,
    #[schema(value_type = RoleName)]
    role: &'static str,
}

impl From<&Invitation> for NamedInvitationView {
    fn from(invitation: &Invitation) -> Self {
        Self {
            id: invitation.id.to_string(),
            email: invitation.email.as_str().to_owned(),
            role: invitation.role.as_str(),
        }
    }
}

/// What a person left behind.
#[derive(Serialize, ToSchema)]
pub(crate) struct LeftBehindView {
    /// Keys that were revoked.
    revoked_api_keys: Vec<NamedKeyView>,
    /// Open invitations that were taken back.
    revoked_invitations: Vec<NamedInvitationView>,
    /// Keys that somebody else answers for now.
    kept_api_keys: Vec<NamedKeyView>,
}

/// 204 where a person left nothing behind, and otherwise what became of it.
fn left_behind(left: &LeftBehind) -> Result<Answer, Problem> {
    if left.is_nothing() {
        return Ok(Answer::no_content());
    }
    let named = |keys: &[ApiKeyRow]| keys.iter().map(NamedKeyView::from).collect();
    Answer::ok(&LeftBehindView {
        revoked_api_keys: named(&left.api_keys),
        revoked_invitations: left
            .invitations
            .iter()
            .map(NamedInvitationView::from)
            .collect(),
        kept_api_keys: named(&left.kept_api_keys),
    })
}

/// A new user says name and password; an existing one the password, or comes with a session.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AcceptInvitation {
    /// As it was mailed.
    token: String,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    name: Nullable<String>,
    #[serde(default)]
    #[schema(format = Password, value_type = Option<String>)]
    password: Nullable<String>,
}

/// Members, by the age of their accounts.
#[utoipa::path(tag = "team", security(("bearer" = [])), params(PageParams), responses((status = 200, body = ListView<MemberView>), (status = 401)))]
#[get("/v1/workspace/members")]
pub(crate) async fn list_members(
    app: web::Data<App>,
    scoped: Scoped<Member>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (page, NoFilters {}) = PageQuery::read(
        request.query_string(),
        &app.cursors,
        scoped.scope.workspace(),
        "members",
    )?;
    let members = app.store.read(&scoped.scope).members(page.request).await?;
    Ok(HttpResponse::Ok().json(page.view(members, &app.cursors, |m| MemberView::from(&m))))
}

/// Gives a member another role, from the next request on. Who is or becomes an owner, owners alone decide.
#[utoipa::path(tag = "team", security(("bearer" = [])), params(("user_id" = String, Path), Idempotent), request_body = ChangeMember, responses((status = 200, body = MemberView), (status = 403), (status = 404), (status = 409, description = "last_owner"), (status = 402, description = "workspace_read_only")))]
#[patch("/v1/workspace/members/{user_id}")]
pub(crate) async fn change_member(
    app: web::Data<App>,
    scoped: Scoped<Admin>,
    id: web::Path<String>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let read = |bytes: &[u8]| {
        let (input, mut v): (ChangeMember, _) = read_json(bytes)?;
        let role = v.check("role", input.role.parse::<Role>());
        v.finish_with(role)
    };
    let verb = async |tx: &mut WriteTx, _, role| {
        let member = change_role(tx, path_id::<UserId>(&id)?, role).await;
        let member = match member {
            Ok(member) => member,
            Err(error) => return Err(app.team_problem(tx, error).await),
        };
        Answer::ok(&MemberView::from(&member))
    };
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        Begin::Writable,
        read,
        verb,
    )
    .await
}

/// Takes a member out of the workspace, from the next request on; their seat is free. The open invitations and the API
/// keys that they answer for are revoked, and named in the answer and in the audit log.
#[utoipa::path(tag = "team", security(("bearer" = [])), params(("user_id" = String, Path), Removal, Idempotent), responses((status = 200, description = "The member is removed, and this was left behind", body = LeftBehindView), (status = 204, description = "The member is removed, and left nothing behind"), (status = 403), (status = 404), (status = 409, description = "last_owner"), (status = 422)))]
#[delete("/v1/workspace/members/{user_id}")]
pub(crate) async fn remove_member(
    app: web::Data<App>,
    scoped: Scoped<Admin>,
    id: web::Path<String>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let removal: Removal = parse_query(request.query_string())?;
    let keys = match removal.keep_keys {
        Some(true) => KeysOf::Kept,
        Some(false) | None => KeysOf::Revoked,
    };
    let begin = Begin::Despite(Release::Freeing);
    let verb = async |tx: &mut WriteTx, _, ()| {
        let user = path_id::<UserId>(&id)?;
        match rawdrive_identity::remove_member(tx, app.env(), user, keys).await {
            Ok(left) => left_behind(&left),
            Err(error) => Err(app.team_problem(tx, error).await),
        }
    };
    mutate(&app, &scoped.scope, &request, body, begin, no_body, verb).await
}

/// Leaves the workspace of this session. The API keys that one answers for are revoked. The invitations that one answers
/// for can be accepted by nobody any more; an admin takes them back.
#[utoipa::path(tag = "team", security(("bearer" = ["any"])), params(Idempotent), request_body = Nothing, responses((status = 200, description = "Left, and this was left behind", body = LeftBehindView), (status = 204, description = "Left, with nothing left behind"), (status = 409, description = "last_owner"), (status = 403)))]
#[post("/v1/workspace/leave")]
pub(crate) async fn leave_workspace(
    app: web::Data<App>,
    personal: Personal<Member>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let read = |bytes: &[u8]| {
        // An empty body says as little as an empty object.
        if bytes.is_empty() {
            return Ok(());
        }
        parse_json(bytes).map(|Nothing {}| ())
    };
    let begin = Begin::Despite(Release::Identity);
    let user = personal.membership().user();
    let verb = async |tx: &mut WriteTx, _, ()| match leave(tx, app.env(), user).await {
        Ok(left) => left_behind(&left),
        Err(error) => Err(app.team_problem(tx, error).await),
    };
    mutate(&app, &personal.scope, &request, body, begin, read, verb).await
}

/// Hands the workspace over: the other becomes an owner, the one who asks an admin.
#[utoipa::path(tag = "team", security(("bearer" = ["any"])), params(Idempotent), request_body = Transfer, responses((status = 200, body = MemberView), (status = 403), (status = 404), (status = 402, description = "workspace_read_only")))]
#[post("/v1/workspace/transfer")]
pub(crate) async fn transfer_workspace(
    app: web::Data<App>,
    personal: Personal<Owner>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let read = |bytes: &[u8]| parse_json(bytes).map(|input: Transfer| input.user_id);
    let from = personal.membership().user();
    let verb = async |tx: &mut WriteTx, _, to: String| {
        let to = path_id::<UserId>(&to)?;
        match transfer(tx, from, to).await {
            Ok(heir) => Answer::ok(&MemberView::from(&heir)),
            Err(error) => Err(app.team_problem(tx, error).await),
        }
    };
    mutate(
        &app,
        &personal.scope,
        &request,
        body,
        Begin::Writable,
        read,
        verb,
    )
    .await
}

/// Open invitations, oldest first.
#[utoipa::path(tag = "team", security(("bearer" = [])), params(PageParams), responses((status = 200, body = ListView<InvitationView>), (status = 403)))]
#[get("/v1/workspace/invitations")]
pub(crate) async fn list_invitations(
    app: web::Data<App>,
    scoped: Scoped<Admin>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (page, NoFilters {}) = PageQuery::read(
        request.query_string(),
        &app.cursors,
        scoped.scope.workspace(),
        "invitations",
    )?;
    let found = app
        .store
        .read(&scoped.scope)
        .invitations(page.request)
        .await?;
    Ok(
        HttpResponse::Ok().json(page.view(found, &app.cursors, |listed| {
            InvitationView::of(&listed.invitation, listed.worth)
        })),
    )
}

/// Invites somebody; the invitation holds a seat until it is accepted, taken back, or a week has passed.
#[utoipa::path(tag = "team", security(("bearer" = [])), params(Idempotent), request_body = Invite, responses((status = 201, body = InvitationView), (status = 402, description = "workspace_read_only or quota_exceeded"), (status = 403, description = "insufficient_role, workspace_inactive, or email_not_verified where mail leaves the machine"), (status = 409), (status = 422), (status = 429)))]
#[post("/v1/workspace/invitations")]
pub(crate) async fn create_invitation(
    app: web::Data<App>,
    scoped: Scoped<Admin>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let read = |bytes: &[u8]| {
        let (input, mut v): (Invite, _) = read_json(bytes)?;
        let email = v.check("email", EmailAddress::parse(&input.email));
        let role = v.check("role", input.role.parse::<Role>());
        v.finish_with(email.zip(role))
    };
    let verb = async |tx: &mut WriteTx, id, (email, role)| {
        let id = InvitationId::from_uuid(id);
        let invited = invite(tx, app.env(), &app.pepper, id, email, role).await;
        let (invitation, token) = match invited {
            Ok(invited) => invited,
            Err(error) => return Err(app.team_problem(tx, error).await),
        };
        let workspace = tx.workspace_row().await?.name;
        let link = app.mailed_link(INVITATION_PATH, token.text().expose_secret());
        let letter = rawdrive_notices::team_invitation(
            invitation.email.as_str(),
            &workspace,
            invitation.role.as_str(),
            &link,
            &invitation.expires_at.format("%-d %B %Y").to_string(),
        );
        app.post_to_stranger(tx, &invitation.email, &letter).await?;
        Answer::created(&InvitationView::of(&invitation, Some(invitation.role)))
    };
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        Begin::Writable,
        read,
        verb,
    )
    .await
}

/// Takes an invitation back; its seat is free.
#[utoipa::path(tag = "team", security(("bearer" = [])), params(("id" = String, Path), Idempotent), responses((status = 204), (status = 403), (status = 404)))]
#[delete("/v1/workspace/invitations/{id}")]
pub(crate) async fn revoke_invitation(
    app: web::Data<App>,
    scoped: Scoped<Admin>,
    id: web::Path<String>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let begin = Begin::Despite(Release::Freeing);
    let verb = async |tx: &mut WriteTx, _, ()| {
        let id = path_id::<InvitationId>(&id)?;
        match rawdrive_identity::revoke_invitation(tx, app.env(), id).await {
            Ok(()) => Ok(Answer::no_content()),
            Err(error) => Err(app.team_problem(tx, error).await),
        }
    };
    mutate(&app, &scoped.scope, &request, body, begin, no_body, verb).await
}

/// Accepts an invitation, once. An `Idempotency-Key` is not obeyed: a replay would keep the tokens in clear.
#[utoipa::path(tag = "team", security((), ("bearer" = [])), request_body = AcceptInvitation, responses((status = 201, body = SignedInView), (status = 401), (status = 402, description = "quota_exceeded"), (status = 403, description = "workspace_inactive"), (status = 404), (status = 409, description = "conflict or email_taken"), (status = 422), (status = 429, headers(("RateLimit" = String)))))]
#[post("/v1/invitations/accept")]
pub(crate) async fn accept_invitation(
    app: web::Data<App>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let session = session_if_any(&request).await?;
    let input: AcceptInvitation = body.json().await?;
    let acceptance = AcceptanceInput {
        token: input.token,
        name: input.name.value(),
        password: input.password.value(),
        session,
    };
    let view = accept(&app, &request, acceptance, signed_in).await?;
    Ok(HttpResponse::Created().json(view))
}

/// What somebody says who accepts an invitation.
pub(crate) struct AcceptanceInput {
    pub(crate) token: String,
    pub(crate) name: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) session: Option<Authenticated>,
}

/// Accepts an invitation, and shows of it what `view` makes of it in the same transaction.
pub(crate) async fn accept<T>(
    app: &App,
    request: &HttpRequest,
    input: AcceptanceInput,
    view: impl AsyncFnOnce(&App, &mut WriteTx, &SignedIn) -> Result<T, Problem>,
) -> Result<T, Problem> {
    let mut v = Validator::new();
    let name = v.check_some("name", input.name.as_deref(), PersonName::parse);
    let claimed = v.check_some(
        "password",
        input.password.as_deref(),
        ClaimedPassword::parse,
    );
    v.finish()?;
    // Whether a new password or a present one is meant shows only when the invitation is found.
    let new_password = input.password.as_deref().map(Password::parse).transpose();
    let unfit = new_password.as_ref().err().map(ToString::to_string);
    let acceptance = Acceptance {
        token: InvitationToken::parse(&input.token).map_err(|_| Problem::not_found())?,
        name,
        new_password: new_password.ok().flatten(),
        claimed_password: claimed,
        session: input.session,
        client: client_address(request),
    };
    let attempts = app.attempts();
    let accepting = prove_acceptance(
        &app.store,
        &attempts,
        &app.hasher,
        app.env(),
        &app.pepper,
        acceptance,
    )
    .await;
    attempts.announce(request);
    let accepting = match (accepting, unfit) {
        (Ok(accepting), _) => accepting,
        (Err(AcceptError::Missing { field: "password" }), Some(message)) => {
            return Err(Problem::invalid_field("password", message));
        }
        (Err(error), _) => return Err(accept_problem(app, None, error).await),
    };
    let scope = system_scope(
        accepting.token().workspace(),
        SystemReason::ACCEPT_INVITATION,
    );
    let mut tx = app
        .store
        .begin(&scope)
        .await
        .map_err(|e| app.begin_problem(e))?;
    let accepted = rawdrive_identity::accept(&mut tx, app.env(), &app.issuer, accepting).await;
    let signed = match accepted {
        Ok(signed) => signed,
        Err(error) => return Err(accept_problem(app, Some(&mut tx), error).await),
    };
    let view = view(app, &mut tx, &signed).await?;
    tx.commit().await?;
    Ok(view)
}

pub(crate) async fn accept_problem(
    app: &App,
    tx: Option<&mut WriteTx>,
    error: AcceptError,
) -> Problem {
    match (error, tx) {
        (AcceptError::NoInvitation, _) => Problem::not_found(),
        (AcceptError::WorkspaceInactive, _) => Problem::new(
            Code::WorkspaceInactive,
            "The workspace is deleted or suspended.",
        ),
        (AcceptError::Missing { field }, _) => {
            Problem::invalid_field(field, "is required of a new user")
        }
        (AcceptError::Identity(error), _) => error.into(),
        (AcceptError::Team(TeamError::Store(error)), _) => error.into(),
        (AcceptError::Team(error), Some(tx)) => app.team_problem(tx, error).await,
        (AcceptError::Team(error), None) => Problem::internal(error),
    }
}
