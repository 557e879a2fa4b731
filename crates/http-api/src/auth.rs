//! The scope of a request, from its credential alone.

use std::future::{Future, Ready, ready};
use std::marker::PhantomData;
use std::pin::Pin;

use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest, dev, web};
use rawdrive_identity::ports::{AccessClaims, Authenticated, IdentityRead, WorkspaceStatus};
use rawdrive_identity::{
    ApiKeyRead, ApiKeyToken, Minter, PageClaims, ProvenKey, READ_SUFFIX, Scopes, TokenError,
    prove_api_key, prove_key_of_page,
};
use rawdrive_store::{Found, Presented, Reader};
use rawdrive_tenancy_core::id::TypedId as _;
use rawdrive_tenancy_core::{Membership, Role, WorkspaceScope};
use secrecy::ExposeSecret as _;

use crate::app::App;
use crate::key_uses::token_hash;
use crate::openapi::scopes::{Needed, OperationScopes};
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
    page: Option<PageClaims>,
    needed: Needed,
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
struct Credential {
    holder: Holder,
    /// Of a token for a page: what it may be used for, and until when.
    page: Option<PageClaims>,
}

/// Who is behind a credential.
enum Holder {
    Session(Authenticated),
    Key(ProvenKey),
}

impl Credential {
    /// What it may be used for, below its role.
    fn scopes(&self) -> Scopes {
        let of_holder = match &self.holder {
            Holder::Session(_) => Scopes::all(),
            Holder::Key(key) => key.scopes.clone(),
        };
        match &self.page {
            None => of_holder,
            Some(page) => {
                let named = page.scopes.names().unwrap_or_default().into_iter();
                // Whatever is in the token, it reads.
                let kept = named.filter(|n| n.ends_with(READ_SUFFIX) && of_holder.contains(n));
                Scopes::only(kept.map(str::to_owned))
            }
        }
    }

    fn role(&self) -> Role {
        let role = match &self.holder {
            Holder::Session(session) => session.membership.role(),
            Holder::Key(key) => key.grant.role(),
        };
        // Whoever looks at a page is nobody's admin.
        self.page.as_ref().map_or(role, |_| role.min(Role::Member))
    }

    /// Its scope, where it reaches a route that asks for `R` and whose operation asks for `needed`.
    fn admit<R: LeastRole>(&self, needed: &Needed) -> Result<(WorkspaceScope, Role), Problem> {
        let status = match &self.holder {
            Holder::Session(session) => session.workspace_status,
            Holder::Key(key) => key.workspace_status,
        };
        if status != WorkspaceStatus::Active && !R::ALSO_INACTIVE {
            return Err(Problem::new(
                Code::WorkspaceInactive,
                "The workspace is deleted or suspended.",
            ));
        }
        let role = self.role();
        if role < R::ROLE {
            let detail = format!("This needs the role {}.", R::ROLE);
            return Err(insufficient(R::ROLE, detail));
        }
        self.reaches(needed)?;
        #[expect(
            clippy::disallowed_methods,
            reason = "a credential that was proved becomes a scope"
        )]
        let scope = match &self.holder {
            Holder::Session(session) => WorkspaceScope::for_member(&session.membership),
            Holder::Key(key) => WorkspaceScope::for_key(&key.grant),
        };
        Ok((scope, role))
    }

    fn reaches(&self, needed: &Needed) -> Result<(), Problem> {
        let scopes = self.scopes();
        let (holds, needed) = match needed {
            Needed::Nothing => return Ok(()),
            Needed::Scope(scope) => (scopes.contains(scope), scope.as_str()),
            Needed::Everything => (scopes == Scopes::all(), "*"),
        };
        if holds {
            return Ok(());
        }
        let detail = format!("The credential lacks the scope {needed}.");
        Err(Problem::new(Code::InsufficientScope, detail).with("required_scope", needed))
    }

    /// The session, where it is one, and not a token that was made in it.
    fn session(self) -> Option<Authenticated> {
        match (self.holder, self.page) {
            (Holder::Session(session), None) => Some(session),
            _ => None,
        }
    }
}

/// The scopes of the operations that are mounted.
pub(crate) fn operation_scopes(
    request: &HttpRequest,
) -> Result<&web::Data<OperationScopes>, Problem> {
    request
        .app_data::<web::Data<OperationScopes>>()
        .ok_or_else(|| Problem::internal("no scopes are configured"))
}

/// What the operation of a request asks of a credential's scopes.
fn needed(request: &HttpRequest) -> Result<Needed, Problem> {
    let pattern = request.match_pattern().unwrap_or_default();
    Ok(operation_scopes(request)?.needed(request.method().as_str(), &pattern))
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
            let credential = authenticate(&request).await?;
            let (scope, role) = credential.admit::<R>(&needed(&request)?)?;
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
            let (presented, page) = present(app, bearer(request)?)?;
            Ok(Self {
                presented,
                page,
                needed: needed(request)?,
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
        let (page, needed) = (self.page, self.needed);
        withheld.release(|presented, found| {
            let holder = judge(app, presented, found)?;
            Credential { holder, page }.admit::<R>(&needed).map(drop)
        })?
    }
}

impl<R: LeastRole> FromRequest for Personal<R> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Self::admitted(authenticate(&request).await?) })
    }
}

impl<R: LeastRole> Personal<R> {
    /// The person whose session the cookie of one of our pages names. The cookie was proved by who opened it; whether its
    /// session still holds is looked up here, as for a bearer token.
    pub(crate) async fn of_page(app: &App, claims: AccessClaims) -> Result<Self, Problem> {
        let found = Found::Session(app.store.authenticate(&claims).await?);
        let holder = judge(app, &Presented::Session(claims), found)?;
        Self::admitted(Credential { holder, page: None })
    }

    fn admitted(credential: Credential) -> Result<Self, Problem> {
        // A person may do everything that the role may: scopes are for keys.
        let (scope, _) = credential.admit::<R>(&Needed::Nothing)?;
        let Some(authenticated) = credential.session() else {
            let detail = "This needs a person's session; an API key does not do.";
            return Err(insufficient(R::ROLE, detail));
        };
        Ok(Self {
            scope,
            authenticated,
            least: PhantomData,
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
            let (scope, _) = credential.admit::<R>(&needed(&request)?)?;
            let (Holder::Key(_), None) = (&credential.holder, &credential.page) else {
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

/// Whoever is behind a request, whatever the credential may be used for: to be told who that is.
pub(crate) enum Identified {
    /// A person's session.
    Person(Personal<Leaving>),
    /// A program's key.
    Key(WorkspaceScope, ProvenKey),
    /// A page, by a token that was made for it.
    Page(WorkspaceScope, Role, PageClaims),
}

impl FromRequest for Identified {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let credential = authenticate(&request).await?;
            let (scope, role) = credential.admit::<Leaving>(&Needed::Nothing)?;
            Ok(match (credential.holder, credential.page) {
                (_, Some(page)) => Self::Page(scope, role, page),
                (Holder::Key(key), None) => Self::Key(scope, key),
                (Holder::Session(authenticated), None) => Self::Person(Personal {
                    scope,
                    authenticated,
                    least: PhantomData,
                }),
            })
        })
    }
}

/// Who may have a token made for a page: a person or a program, and no page.
pub(crate) struct Minting {
    /// The right to touch the workspace.
    pub(crate) scope: WorkspaceScope,
    /// Who is to stand behind the token.
    pub(crate) minter: Minter,
    /// What that one may do.
    pub(crate) scopes: Scopes,
}

impl FromRequest for Minting {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let credential = authenticate(&request).await?;
            let (scope, _) = credential.admit::<Member>(&needed(&request)?)?;
            let minter = match &credential.holder {
                Holder::Session(session) => Minter::Session {
                    user: session.membership.user(),
                    session: session.membership.session(),
                },
                Holder::Key(key) => Minter::Key(key.grant.key()),
            };
            Ok(Self {
                scope,
                minter,
                scopes: credential.scopes(),
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
    let session = authenticate(request).await?.session();
    session.map(Some).ok_or_else(Problem::unauthenticated)
}

async fn authenticate(request: &HttpRequest) -> Result<Credential, Problem> {
    let app = app_of(request)?;
    let (presented, page) = present(app, bearer(request)?)?;
    let found = match &presented {
        Presented::Session(claims) => Found::Session(app.store.authenticate(claims).await?),
        Presented::Key(token) => Found::Key(app.store.presented_key(token).await?),
        Presented::KeyOfPage { workspace, key } => {
            Found::Key(app.store.named_key(*workspace, *key).await?)
        }
    };
    let holder = judge(app, &presented, found)?;
    Ok(Credential { holder, page })
}

/// Who sent a request, as far as that can be known without the database.
pub(crate) enum Caller {
    /// There is no credential.
    Anonymous,
    /// There is one, which nothing is known of.
    Unproven,
    /// A credential that was proved, by its name: a session's user and workspace, or a key.
    Proven(Vec<u8>),
}

/// The [`Caller`] of a request. What it says decides whose limit is counted against, and nothing else.
pub(crate) fn caller(request: &HttpRequest) -> Caller {
    if !request.headers().contains_key(header::AUTHORIZATION) {
        return Caller::Anonymous;
    }
    let (Ok(app), Ok(text)) = (app_of(request), bearer(request)) else {
        return Caller::Unproven;
    };
    match present(app, text) {
        Ok((presented, Some(page))) => {
            // A page's visitors do not use up what is left to the session or the key behind it.
            let behind = match presented {
                Presented::Session(claims) => claims.session.uuid(),
                Presented::KeyOfPage { key, .. } => key.uuid(),
                Presented::Key(_) => return Caller::Unproven,
            };
            let workspace = page.workspace.uuid();
            let name = [b"page".as_slice(), behind.as_bytes(), workspace.as_bytes()];
            Caller::Proven(name.concat())
        }
        Ok((Presented::Session(claims), None)) => {
            let (user, workspace) = (claims.user.uuid(), claims.workspace.uuid());
            Caller::Proven([*user.as_bytes(), *workspace.as_bytes()].concat())
        }
        Ok((Presented::KeyOfPage { .. }, None)) => Caller::Unproven,
        Ok((Presented::Key(_), None)) => match app.key_uses.remembered(&token_hash(text)) {
            Some(key) => Caller::Proven(key.uuid().as_bytes().to_vec()),
            None => Caller::Unproven,
        },
        Err(_) => Caller::Unproven,
    }
}

fn app_of(request: &HttpRequest) -> Result<&web::Data<App>, Problem> {
    request
        .app_data::<web::Data<App>>()
        .ok_or_else(|| Problem::internal("no App is configured"))
}

/// What a bearer token says, as far as that can be known without the database; and the claims of one for a page, which
/// stands for the session or the key that had it made.
fn present(app: &App, token: &str) -> Result<(Presented, Option<PageClaims>), Problem> {
    // What an access token begins with is `ey`, whoever made it.
    if token.starts_with("rd_") {
        let token = ApiKeyToken::parse(token).map_err(|_| Problem::unauthenticated())?;
        return Ok((Presented::Key(token), None));
    }
    match app.issuer.verify(app.env(), token) {
        Ok(claims) => Ok((Presented::Session(claims), None)),
        // It is of another type.
        Err(TokenError::Header) => {
            let claims = app.issuer.verify_page_token(app.env(), token);
            let claims = claims.map_err(|_| Problem::unauthenticated())?;
            let presented = match (claims.session(), claims.minter) {
                (Some(session), _) => Presented::Session(session),
                (None, Minter::Key(key)) => Presented::KeyOfPage {
                    workspace: claims.workspace,
                    key,
                },
                (None, Minter::Session { .. }) => return Err(Problem::unauthenticated()),
            };
            Ok((presented, Some(claims)))
        }
        Err(_) => Err(Problem::unauthenticated()),
    }
}

/// Whether a credential holds, by the row that it names.
fn judge(app: &App, presented: &Presented, found: Found) -> Result<Holder, Problem> {
    match (presented, found) {
        (Presented::Session(_), Found::Session(Some(session))) => Ok(Holder::Session(session)),
        (Presented::Key(token), Found::Key(row)) => {
            let key = prove_api_key(app.env(), &app.pepper, token, row)?;
            app.key_uses.note(&key, app.env().now());
            app.key_uses
                .remember(token_hash(token.text().expose_secret()), &key);
            Ok(Holder::Key(key))
        }
        (Presented::KeyOfPage { workspace, key }, Found::Key(row)) => {
            let key = prove_key_of_page(app.env(), *workspace, *key, row)?;
            Ok(Holder::Key(key))
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
