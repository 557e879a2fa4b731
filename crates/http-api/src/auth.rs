//! The scope of a request, from its credential alone.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;

use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest, dev, web};
use rawdrive_identity::ports::{Authenticated, IdentityRead, WorkspaceStatus};
use rawdrive_identity::{ApiKeyToken, ProvenKey, prove_api_key};
use rawdrive_tenancy_core::{Membership, Role, WorkspaceScope};

use crate::app::App;
use crate::edge::{Code, Problem};

/// The least role that a route asks for.
pub trait LeastRole: 'static {
    /// The role.
    const ROLE: Role;
    /// Whether a deleted or suspended workspace's session reaches the route.
    const ALSO_INACTIVE: bool = false;
}

/// Any member.
#[derive(Debug)]
pub enum Member {}
/// An admin or an owner.
#[derive(Debug)]
pub enum Admin {}
/// An owner.
#[derive(Debug)]
pub enum Owner {}
/// Any member, also of a workspace that is deleted or suspended: signing out and switching stay possible.
#[derive(Debug)]
pub enum Leaving {}

impl LeastRole for Member {
    const ROLE: Role = Role::Member;
}
impl LeastRole for Admin {
    const ROLE: Role = Role::Admin;
}
impl LeastRole for Owner {
    const ROLE: Role = Role::Owner;
}
impl LeastRole for Leaving {
    const ROLE: Role = Role::Member;
    const ALSO_INACTIVE: bool = true;
}

/// An authenticated request with at least the role `R`, as it stands in the database at this request.
#[derive(Debug)]
pub struct Scoped<R> {
    /// The right to touch the workspace.
    pub scope: WorkspaceScope,
    /// The role behind it, at least `R`'s.
    pub role: Role,
    least: PhantomData<R>,
}

/// As [`Scoped`], by a person's own session: for what concerns the person.
#[derive(Debug)]
pub struct Personal<R> {
    /// The right to touch the workspace.
    pub scope: WorkspaceScope,
    /// The session and its membership.
    pub authenticated: Authenticated,
    least: PhantomData<R>,
}

/// As [`Scoped`], by a program's API key: for what programs alone report.
#[derive(Debug)]
pub struct Program<R> {
    /// The right to touch the workspace, in the key's name.
    pub scope: WorkspaceScope,
    least: PhantomData<R>,
}

impl<R> Personal<R> {
    /// The membership.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.authenticated.membership
    }
}

/// A credential that holds at this request.
enum Credential {
    Session(Authenticated),
    Key(ProvenKey),
}

impl Credential {
    /// Its scope, where it reaches a route that asks for `R`.
    fn admit<R: LeastRole>(&self) -> Result<(WorkspaceScope, Role), Problem> {
        let (status, role) = match self {
            Self::Session(session) => (session.workspace_status, session.membership.role()),
            Self::Key(key) => (key.workspace_status, key.grant.role()),
        };
        if status != WorkspaceStatus::Active && !R::ALSO_INACTIVE {
            return Err(Problem::new(
                Code::WorkspaceInactive,
                "The workspace is deleted or suspended.",
            ));
        }
        if role < R::ROLE {
            let detail = format!("This needs the role {}.", R::ROLE);
            return Err(insufficient(R::ROLE, detail));
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place that turns a credential into a scope"
        )]
        let scope = match self {
            Self::Session(session) => WorkspaceScope::for_member(&session.membership),
            Self::Key(key) => WorkspaceScope::for_key(&key.grant),
        };
        Ok((scope, role))
    }
}

/// The credential holds, but not for this: it lacks `role`, or is no person's.
pub(crate) fn insufficient(role: Role, detail: impl Into<String>) -> Problem {
    Problem::new(Code::InsufficientRole, detail).with("required_role", role.as_str())
}

impl<R: LeastRole> FromRequest for Scoped<R> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let (scope, role) = authenticate(&request).await?.admit::<R>()?;
            Ok(Self {
                scope,
                role,
                least: PhantomData,
            })
        })
    }
}

impl<R: LeastRole> FromRequest for Personal<R> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let credential = authenticate(&request).await?;
            let (scope, _) = credential.admit::<R>()?;
            let Credential::Session(authenticated) = credential else {
                let detail = "This needs a person's session; an API key does not do.";
                return Err(insufficient(R::ROLE, detail));
            };
            Ok(Self {
                scope,
                authenticated,
                least: PhantomData,
            })
        })
    }
}

impl<R: LeastRole> FromRequest for Program<R> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let credential = authenticate(&request).await?;
            let (scope, _) = credential.admit::<R>()?;
            let Credential::Key(_) = credential else {
                let detail = "This is for programs: it needs an API key; a session does not do.";
                return Err(insufficient(R::ROLE, detail));
            };
            Ok(Self {
                scope,
                least: PhantomData,
            })
        })
    }
}

/// The session of a request that may come without one; a credential that does not hold is refused all the
/// same, and so is a key.
pub(crate) async fn session_if_any(
    request: &HttpRequest,
) -> Result<Option<Authenticated>, Problem> {
    if !request.headers().contains_key(header::AUTHORIZATION) {
        return Ok(None);
    }
    match authenticate(request).await? {
        Credential::Session(session) => Ok(Some(session)),
        Credential::Key(_) => Err(Problem::unauthenticated()),
    }
}

async fn authenticate(request: &HttpRequest) -> Result<Credential, Problem> {
    let app = request
        .app_data::<web::Data<App>>()
        .ok_or_else(|| Problem::internal("no App is configured"))?;
    let token = bearer(request)?;
    // What an access token begins with is `ey`, whoever made it.
    if token.starts_with("rd_") {
        return present_key(app, token).await.map(Credential::Key);
    }
    let claims = app
        .issuer
        .verify(app.ambient(), token)
        .map_err(|_| Problem::unauthenticated())?;
    app.store
        .authenticate(&claims)
        .await?
        .map(Credential::Session)
        .ok_or_else(Problem::unauthenticated)
}

async fn present_key(app: &App, text: &str) -> Result<ProvenKey, Problem> {
    let token = ApiKeyToken::parse(text).map_err(|_| Problem::unauthenticated())?;
    let key = prove_api_key(&app.store, app.ambient(), &app.pepper, &token).await?;
    app.key_uses.note(&key, app.ambient().now());
    Ok(key)
}

/// The one bearer token of a request.
fn bearer(request: &HttpRequest) -> Result<&str, Problem> {
    let mut headers = request.headers().get_all(header::AUTHORIZATION);
    let (Some(value), None) = (headers.next(), headers.next()) else {
        return Err(Problem::unauthenticated());
    };
    let value = value.to_str().map_err(|_| Problem::unauthenticated())?;
    let (scheme, token) = value.split_once(' ').ok_or_else(Problem::unauthenticated)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        Ok(token.trim())
    } else {
        Err(Problem::unauthenticated())
    }
}
