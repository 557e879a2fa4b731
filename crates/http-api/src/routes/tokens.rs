//! Short-lived tokens for pages.

use actix_web::{HttpRequest, HttpResponse, post, web};
use rawdrive_identity::{PAGE_TOKEN_MAX_SECONDS, READ_SUFFIX, Scopes};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::{App, time};
use crate::auth::{Minting, operation_scopes};
use crate::web::{Body, Nullable, Problem};

/// How long a token holds where its maker does not say, in seconds.
const USUAL_SECONDS: u32 = 900;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateToken {
    /// How long it holds; 900 when left out.
    #[schema(minimum = 1, maximum = 3600, nullable = false)]
    ttl_seconds: Option<u32>,
    /// What it may be used for: scopes that only read, of one's own. All of those when left out.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, example = json!(["usage:read"]))]
    scopes: Nullable<Vec<String>>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct TokenView {
    /// The credential, as `Authorization: Bearer` takes it.
    token: String,
    /// `Bearer`.
    token_type: &'static str,
    #[schema(example = json!(["usage:read"]))]
    scopes: Vec<String>,
    expires_at: String,
    /// Seconds until it ends.
    expires_in: u32,
}

/// Makes a token for a page that shows something of the workspace to whoever looks at it. It reads and never writes, as a
/// member at most, and ends with the session or the key that asks for it, at the latest after an hour. An
/// `Idempotency-Key` is not obeyed: a replay would keep the token in clear.
#[utoipa::path(tag = "identity", security(("bearer" = ["tokens:write"])), request_body = CreateToken, responses((status = 201, body = TokenView), (status = 403), (status = 422)))]
#[post("/v1/tokens")]
pub(crate) async fn create_token(
    app: web::Data<App>,
    minting: Minting,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let (input, mut v): (CreateToken, _) = body.checked_json().await?;
    let known = operation_scopes(&request)?;
    let may = |name: &str| name.ends_with(READ_SUFFIX) && minting.scopes.contains(name);
    let seconds = input.ttl_seconds.unwrap_or(USUAL_SECONDS);
    v.require(
        "ttl_seconds",
        (1..=PAGE_TOKEN_MAX_SECONDS).contains(&seconds),
        "must be from 1 to 3600",
    );
    let scopes = match input.scopes.value() {
        None => known
            .names()
            .filter(|name| may(name))
            .map(str::to_owned)
            .collect(),
        Some(names) => {
            v.require("scopes", !names.is_empty(), "must name a scope");
            for (at, name) in names.iter().enumerate() {
                let field = format!("scopes[{at}]");
                let is_one = known.is_known(name) && may(name);
                v.require(
                    &field,
                    is_one,
                    "must be a scope of one's own that only reads",
                );
            }
            names
        }
    };
    v.finish()?;
    let scopes = Scopes::only(scopes);
    let (token, expires_at) = app.issuer.issue_page_token(
        app.env(),
        minting.scope.workspace(),
        minting.minter,
        &scopes,
        seconds,
    );
    Ok(HttpResponse::Created().json(TokenView {
        token: token.expose_secret().to_owned(),
        token_type: "Bearer",
        scopes: scopes
            .names()
            .unwrap_or_default()
            .into_iter()
            .map(str::to_owned)
            .collect(),
        expires_at: time(expires_at),
        expires_in: seconds,
    }))
}
