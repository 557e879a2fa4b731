//! The scope of a request, from its credential alone.

use std::future::{Future, Ready, ready};
use std::marker::PhantomData;
use std::pin::Pin;

use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest, dev, web};
use rawdrive_identity::ports::{Authenticated, IdentityRead, WorkspaceStatus};
use rawdrive_identity::{ApiKeyRead, ApiKeyToken, ProvenKey, prove_api_key};
use rawdrive_store::{Found, Presented, Reader};
use rawdrive_tenancy_core::{Membership, Role, WorkspaceScope};

use crate::app::App;
use crate::web::{Code, Problem};

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

/// As [`Scoped`], for a route that reads and no more: the statement that reads looks the credential up along.
#[derive(Debug)]
pub struct Reading<R> {
    presented: Presented,
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

impl<R: LeastRole> FromRequest for Reading<R> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        ready(app_of(request).and_then(|app| {
            Ok(Self {
                presented: present(app, bearer(request)?)?,
                least: PhantomData,
            })
        }))
    }
}

impl<R: LeastRole> Reading<R> {
    /// What was read, once the credential is known to reach the route. Whatever else is wrong with the request is to
    /// be said in `read`: it is told only to those who may ask.
    ///
    /// # Errors
    /// 401, 403, what `read` refuses, or the database does not answer.
    pub async fn read<T>(
        self,
        app: &App,
        read: impl AsyncFnOnce(&Reader) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let withheld = app
            .store
            .read_presented(self.presented, &app.pepper, read)
            .await?;
        withheld.release(|presented, found| judge(app, presented, found)?.admit::<R>().map(drop))?
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
    let app = app_of(request)?;
    let presented = present(app, bearer(request)?)?;
    let found = match &presented {
        Presented::Session(claims) => Found::Session(app.store.authenticate(claims).await?),
        Presented::Key(token) => Found::Key(app.store.presented_key(token).await?),
    };
    judge(app, &presented, found)
}

fn app_of(request: &HttpRequest) -> Result<&web::Data<App>, Problem> {
    request
        .app_data::<web::Data<App>>()
        .ok_or_else(|| Problem::internal("no App is configured"))
}

/// What a bearer token says, as far as that can be known without the database.
fn present(app: &App, token: &str) -> Result<Presented, Problem> {
    // What an access token begins with is `ey`, whoever made it.
    if token.starts_with("rd_") {
        let token = ApiKeyToken::parse(token).map_err(|_| Problem::unauthenticated())?;
        return Ok(Presented::Key(token));
    }
    let claims = app.issuer.verify(app.env(), token);
    let claims = claims.map_err(|_| Problem::unauthenticated())?;
    Ok(Presented::Session(claims))
}

/// Whether a credential holds, by the row that it names.
fn judge(app: &App, presented: &Presented, found: Found) -> Result<Credential, Problem> {
    match (presented, found) {
        (Presented::Session(_), Found::Session(Some(session))) => Ok(Credential::Session(session)),
        (Presented::Key(token), Found::Key(row)) => {
            let key = prove_api_key(app.env(), &app.pepper, token, row)?;
            app.key_uses.note(&key, app.env().now());
            Ok(Credential::Key(key))
        }
        _ => Err(Problem::unauthenticated()),
    }
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
