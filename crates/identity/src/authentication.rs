//! Who is calling, from the credential of a request alone.

use rawdrive_tenancy_core::{Env, Role, WorkspaceScope};

use crate::access_token::TokenIssuer;
use crate::api_key::{ApiKeyRead, ProvenKey, prove_api_key};
use crate::error::IdentityError;
use crate::opaque_token::{ApiKeyToken, TokenPepper};
use crate::ports::{Authenticated, IdentityRead, WorkspaceStatus};
use crate::scopes::Scopes;

/// Somebody whose credential holds at this request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A person, by an access token of their session.
    Person(Authenticated),
    /// A program, by an API key.
    Program(ProvenKey),
}

/// Why a caller is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// The workspace is deleted or suspended.
    #[error("the workspace is not active")]
    WorkspaceInactive,
    /// It takes a higher role.
    #[error("this needs the role {required}")]
    Forbidden {
        /// The least role that may.
        required: Role,
    },
    /// The key is for other things.
    #[error("the key lacks the scope")]
    OutOfScope,
}

impl Caller {
    /// The role at this request: a member's, or what the key is worth.
    #[must_use]
    pub fn role(&self) -> Role {
        match self {
            Self::Person(session) => session.membership.role(),
            Self::Program(key) => key.grant.role(),
        }
    }

    /// The status of the workspace.
    #[must_use]
    pub fn workspace_status(&self) -> WorkspaceStatus {
        match self {
            Self::Person(session) => session.workspace_status,
            Self::Program(key) => key.workspace_status,
        }
    }

    /// The right to touch the caller's workspace in the caller's name, for whoever has at least this role there. A key that
    /// is for some things alone is not let in: [`admit_for`](Caller::admit_for) says what this is.
    ///
    /// # Errors
    /// [`NotAdmitted`].
    pub fn admit(&self, least: Role) -> Result<WorkspaceScope, NotAdmitted> {
        self.active()?;
        self.admit_also_inactive(least)
    }

    /// As [`Caller::admit`], also for a key that has this scope, such as `contracts:write`.
    ///
    /// # Errors
    /// [`NotAdmitted`].
    pub fn admit_for(&self, least: Role, scope: &str) -> Result<WorkspaceScope, NotAdmitted> {
        self.active()?;
        self.enter(least, |scopes| scopes.contains(scope))
    }

    fn active(&self) -> Result<(), NotAdmitted> {
        if self.workspace_status() == WorkspaceStatus::Active {
            Ok(())
        } else {
            Err(NotAdmitted::WorkspaceInactive)
        }
    }

    /// As [`Caller::admit`], also where the workspace is deleted or suspended: for signing out, switching to another,
    /// and restoring it.
    ///
    /// # Errors
    /// [`NotAdmitted::Forbidden`], [`NotAdmitted::OutOfScope`].
    pub fn admit_also_inactive(&self, least: Role) -> Result<WorkspaceScope, NotAdmitted> {
        self.enter(least, |scopes| *scopes == Scopes::all())
    }

    fn enter(
        &self,
        least: Role,
        is_for: impl FnOnce(&Scopes) -> bool,
    ) -> Result<WorkspaceScope, NotAdmitted> {
        if self.role() < least {
            return Err(NotAdmitted::Forbidden { required: least });
        }
        if let Self::Program(key) = self
            && !is_for(&key.scopes)
        {
            return Err(NotAdmitted::OutOfScope);
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "a credential that was proved becomes a scope"
        )]
        let scope = match self {
            Self::Person(session) => WorkspaceScope::for_member(&session.membership),
            Self::Program(key) => WorkspaceScope::for_key(&key.grant),
        };
        Ok(scope)
    }
}

/// Finds out who presents a credential: an access token or an API key, as it comes behind `Bearer`. What it takes to
/// hold is read at each call, so that removal and demotion hold from the next request on. Then
/// [`admit`](Caller::admit) the caller.
///
/// # Errors
/// [`IdentityError::Unauthenticated`], whatever does not hold; the database's failure.
pub async fn authenticate(
    read: &(impl IdentityRead + ApiKeyRead),
    issuer: &TokenIssuer,
    (env, pepper): (&Env, &TokenPepper),
    credential: &str,
) -> Result<Caller, IdentityError> {
    // What an access token begins with is `ey`, whoever made it.
    if credential.starts_with("rd_") {
        let token = ApiKeyToken::parse(credential).map_err(|_| IdentityError::Unauthenticated)?;
        let found = read.presented_key(&token).await?;
        return prove_api_key(env, pepper, &token, found).map(Caller::Program);
    }
    let claims = issuer.verify(env, credential);
    let claims = claims.map_err(|_| IdentityError::Unauthenticated)?;
    let found = read.authenticate(&claims).await?;
    found
        .map(Caller::Person)
        .ok_or(IdentityError::Unauthenticated)
}
