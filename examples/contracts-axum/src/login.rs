//! What is this service's own affair: who acts, and how an answer looks on the wire.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use rawdrive_plans::{BeginError, Feature, Metric};
use rawdrive_store::Store;
use rawdrive_tenancy_core::id::{UserId, WorkspaceId};
use rawdrive_tenancy_core::{Actor, StoreError, WorkspaceScope};

/// Everything that the routes work with.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) contracts: Metric,
    pub(crate) pages: Metric,
    pub(crate) feature: Feature,
    /// Who is signed in, by token.
    pub(crate) sessions: Arc<HashMap<String, (WorkspaceId, UserId)>>,
}

/// The sessions of this service's own login: `SESSIONS=token:workspace:user,…`.
pub(crate) fn sessions() -> Arc<HashMap<String, (WorkspaceId, UserId)>> {
    let text = std::env::var("SESSIONS").unwrap_or_default();
    let session = |entry: &str| {
        let mut parts = entry.split(':');
        let token = parts.next()?.to_owned();
        Some((
            token,
            (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?),
        ))
    };
    Arc::new(text.split(',').filter_map(session).collect())
}

/// The right to touch one workspace, from the request's token alone.
pub(crate) struct Scoped(pub(crate) WorkspaceScope);

impl FromRequestParts<App> for Scoped {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, StatusCode> {
        let token = parts.headers.get(header::AUTHORIZATION);
        let token = token.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let session = token.and_then(|token| app.sessions.get(token));
        let (workspace, user) = session.ok_or(StatusCode::UNAUTHORIZED)?;
        #[expect(
            clippy::disallowed_methods,
            reason = "this service has just looked its own session up"
        )]
        let scope = WorkspaceScope::trusted(*workspace, Actor::User(*user));
        Ok(Self(scope))
    }
}

/// What is answered instead.
pub(crate) enum Refused {
    NotFound,
    /// The core's refusal: the same problem that RawDrive's own API answers.
    Core(rawdrive_usage::Refused),
}

impl From<BeginError> for Refused {
    fn from(error: BeginError) -> Self {
        Self::Core(error.into())
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Dangling { .. } => Self::NotFound,
            error => Self::Core(error.into()),
        }
    }
}

impl From<rawdrive_usage::Refused> for Refused {
    fn from(refused: rawdrive_usage::Refused) -> Self {
        Self::Core(refused)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self::Core(refused) = self else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let status = StatusCode::from_u16(refused.status());
        let problem = refused.problem("https://contracts.example/upgrade");
        let media = [(header::CONTENT_TYPE, "application/problem+json")];
        (
            status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            media,
            Json(problem),
        )
            .into_response()
    }
}
