//! API keys.

use actix_web::{HttpRequest, HttpResponse, delete, get, post, web};
use chrono::{DateTime, Utc};
use rawdrive_identity::{
    ApiKeyError, ApiKeyList, ApiKeyName, ApiKeyRow, NewApiKey, Scopes, create_api_key as create,
    revoke_api_key as revoke,
};
use rawdrive_store::Release;
use rawdrive_tenancy_core::{Commit, Role};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::{App, time};
use crate::auth::{Admin, Personal, Scoped, insufficient, operation_scopes};
use crate::idempotent_write::{Answer, Begin, mutate, no_body};
use crate::openapi::headers::Idempotent;
use crate::openapi::scopes::OperationScopes;
use crate::openapi::words::RoleName;
use crate::web::{
    Body, Code, ListView, NoFilters, Nullable, PageParams, PageQuery, Problem, path_id,
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateApiKey {
    /// 1 to 200 characters.
    name: String,
    /// `owner`, `admin` or `member`; at most one's own.
    #[schema(value_type = RoleName)]
    role: String,
    /// What it may be used for, below its role; everything when left out or `null`. Each operation names its scope.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, example = json!(["usage:write", "team:read"]))]
    scopes: Nullable<Vec<String>>,
    /// RFC 3339, in the future; never when left out or `null`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    expires_at: Nullable<String>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ApiKeyView {
    id: String,
    name: String,
    #[schema(value_type = RoleName)]
    role: &'static str,
    /// What it is worth now: at most what its sponsor's role is. `null` while the sponsor is no member.
    #[schema(value_type = Option<RoleName>, required = true)]
    effective_role: Option<&'static str>,
    /// What it may be used for, below its role.
    #[schema(example = json!(["team:read", "usage:write"]))]
    scopes: Vec<String>,
    created_at: String,
    #[schema(required = true)]
    expires_at: Option<String>,
    /// To the minute.
    #[schema(required = true)]
    last_used_at: Option<String>,
    /// The member who made it.
    created_by: String,
    /// The member who answers for it: the one who made it, or who kept it when that one was removed.
    #[schema(required = true)]
    sponsor: Option<String>,
}

impl ApiKeyView {
    fn of(key: &ApiKeyRow, worth: Option<Role>, known: &OperationScopes) -> Self {
        Self {
            id: key.id.to_string(),
            name: key.name.as_str().to_owned(),
            role: key.role.as_str(),
            effective_role: worth.map(Role::as_str),
            scopes: scope_names(&key.scopes, known),
            created_at: time(key.created_at),
            expires_at: key.expires_at.map(time),
            last_used_at: key.last_used_at.map(time),
            created_by: key.created_by.clone(),
            sponsor: key.sponsor.map(|sponsor| sponsor.to_string()),
        }
    }
}

/// The names of scopes; of those of no restriction, all that there are.
pub(crate) fn scope_names(scopes: &Scopes, known: &OperationScopes) -> Vec<String> {
    match scopes.names() {
        Some(names) => names.into_iter().map(str::to_owned).collect(),
        None => known.names().map(str::to_owned).collect(),
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedApiKeyView {
    #[serde(flatten)]
    key: ApiKeyView,
    /// The credential, as `Authorization: Bearer` takes it. Shown here and never again.
    secret: String,
}

/// API keys, oldest first, without their secrets.
#[utoipa::path(tag = "identity", security(("bearer" = [])), params(PageParams), responses((status = 200, body = ListView<ApiKeyView>), (status = 403)))]
#[get("/v1/api-keys")]
pub(crate) async fn list_api_keys(
    app: web::Data<App>,
    scoped: Scoped<Admin>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (page, NoFilters {}) = PageQuery::read(
        request.query_string(),
        &app.cursors,
        scoped.scope.workspace(),
        "api-keys",
    )?;
    let known = operation_scopes(&request)?;
    let keys = app.store.read(&scoped.scope).api_keys(page.request).await?;
    Ok(
        HttpResponse::Ok().json(page.view(keys, &app.cursors, |listed| {
            ApiKeyView::of(&listed.key, listed.worth, known)
        })),
    )
}

fn expiry(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, &'static str> {
    let at = DateTime::parse_from_rfc3339(text)
        .map_err(|_| "must be an RFC 3339 time such as 2027-01-31T12:00:00Z")?
        .with_timezone(&Utc);
    if at > now {
        Ok(at)
    } else {
        Err("must be in the future")
    }
}

/// Makes an API key, which is worth at most what its maker's role is at each moment. Keys make no keys. An
/// `Idempotency-Key` is not obeyed: a replay would keep the secret in clear.
#[utoipa::path(tag = "identity", security(("bearer" = ["any"])), request_body = CreateApiKey, responses((status = 201, body = CreatedApiKeyView), (status = 403), (status = 409), (status = 422)))]
#[post("/v1/api-keys")]
pub(crate) async fn create_api_key(
    app: web::Data<App>,
    personal: Personal<Admin>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let maker = *personal.membership();
    let (input, mut v): (CreateApiKey, _) = body.checked_json().await?;
    let role = v.check("role", input.role.parse::<Role>());
    // A role that one may not give is told before any field that is wrong.
    if let Some(role) = role.filter(|role| *role > maker.role()) {
        return Err(above_own(role));
    }
    let name = v.check("name", ApiKeyName::parse(&input.name));
    let now = app.env().now();
    let expires_at = v.check_some("expires_at", input.expires_at.value(), |text| {
        expiry(&text, now)
    });
    let known = operation_scopes(&request)?;
    let scopes = input.scopes.value();
    if let Some(names) = &scopes {
        v.require("scopes", !names.is_empty(), "must name a scope");
        for (at, name) in names.iter().enumerate() {
            let field = format!("scopes[{at}]");
            v.require(&field, known.is_known(name), "is no scope");
        }
    }
    let (name, role) = v.finish_with(name.zip(role))?;
    let new = NewApiKey {
        name,
        role,
        scopes: scopes.map_or_else(Scopes::all, Scopes::only),
        expires_at,
    };
    // Also while the workspace takes no writes: a leaked key must be replaceable at any time.
    let mut tx = app
        .store
        .begin_despite_read_only(&personal.scope, Release::Identity)
        .await?;
    let (key, secret) = create(&mut tx, app.env(), &app.pepper, maker.user(), new)
        .await
        .map_err(refusal)?;
    tx.commit().await?;
    Ok(HttpResponse::Created().json(CreatedApiKeyView {
        key: ApiKeyView::of(&key, Some(key.role), known),
        secret: secret.expose_secret().to_owned(),
    }))
}

fn refusal(error: ApiKeyError) -> Problem {
    match error {
        ApiKeyError::Unauthenticated => Problem::unauthenticated(),
        ApiKeyError::AboveOwnRole { role } => above_own(role),
        ApiKeyError::TooMany => Problem::new(
            Code::Conflict,
            "The workspace holds as many API keys as it may; revoke one first.",
        ),
        ApiKeyError::Store(error) => error.into(),
    }
}

fn above_own(role: Role) -> Problem {
    let detail = format!("A key with the role {role} is made by somebody with that role.");
    insufficient(role, detail)
}

/// Revokes an API key, from the next request on, and the open invitations that it made.
#[utoipa::path(tag = "identity", security(("bearer" = [])), params(("id" = String, Path), Idempotent), responses((status = 204), (status = 403), (status = 404)))]
#[delete("/v1/api-keys/{id}")]
pub(crate) async fn revoke_api_key(
    app: web::Data<App>,
    scoped: Scoped<Admin>,
    id: web::Path<String>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        Begin::Despite(Release::Identity),
        no_body,
        async |tx, _, ()| {
            if revoke(tx, app.env(), path_id(&id)?).await? {
                Ok(Answer::no_content())
            } else {
                Err(Problem::not_found())
            }
        },
    )
    .await
}
