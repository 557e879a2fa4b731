//! What identity needs of a store. Users and signing keys are global rows; everything else belongs to the
//! workspace that the handle knows, and no method takes a workspace's id.
//!
//! `Err(StoreError)` of a write means: drop the handle, nothing of the transaction stands.

use std::fmt;
use std::future::Future;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use rawdrive_tenancy_core::id::{ApiKeyId, RefreshId, SessionId, UserId, WorkspaceId};
use rawdrive_tenancy_core::{Membership, Role, StoreError};

use crate::email::EmailAddress;
use crate::limit::{Count, LimitState};
use crate::password::PasswordHash;
use crate::scopes::Scopes;
use crate::validated_text::{Currency, PersonName, WorkspaceName};

/// A person with an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Their id.
    pub id: UserId,
    /// Their address as they typed it.
    pub email: EmailAddress,
    /// Their name.
    pub name: PersonName,
    /// The hash of their password.
    pub password_hash: PasswordHash,
    /// Sessions stamped with another number have ended; a new user's is 0.
    pub session_epoch: u32,
    /// When they signed up.
    pub created_at: DateTime<Utc>,
    /// When they proved that mail to their address reaches them, if they did.
    pub email_verified_at: Option<DateTime<Utc>>,
}

/// What of a user changes; `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserUpdate {
    /// A new name.
    pub name: Option<PersonName>,
    /// A new password's hash.
    pub password_hash: Option<PasswordHash>,
}

/// What a verified access token says. It proves a session, not a right: the membership is read at each
/// request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessClaims {
    /// Who.
    pub user: UserId,
    /// In which workspace.
    pub workspace: WorkspaceId,
    /// Of which sign-in.
    pub session: SessionId,
    /// Until when.
    pub expires_at: DateTime<Utc>,
}

/// Who asked for a token, and stands behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Minter {
    /// A person, in a session.
    Session {
        /// Who.
        user: UserId,
        /// The session.
        session: SessionId,
    },
    /// A program.
    Key(ApiKeyId),
}

/// What a verified token says. It proves who asked for it, not a right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageClaims {
    /// In which workspace.
    pub workspace: WorkspaceId,
    /// Who stands behind it.
    pub minter: Minter,
    /// What it may be used for.
    pub scopes: Scopes,
    /// Until when.
    pub expires_at: DateTime<Utc>,
}

impl PageClaims {
    /// The session behind it as an access token would name it, where it is one.
    #[must_use]
    pub fn session(&self) -> Option<AccessClaims> {
        match self.minter {
            Minter::Session { user, session } => Some(AccessClaims {
                user,
                workspace: self.workspace,
                session,
                expires_at: self.expires_at,
            }),
            Minter::Key(_) => None,
        }
    }
}

/// A signing key as it lies in SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedKey {
    /// The key's name in token headers and in the JWKS; 32 lower-case hex digits.
    pub kid: String,
    /// The public half.
    pub public: [u8; 32],
    /// The private half: 12 bytes nonce, ciphertext, 16 bytes tag.
    pub sealed: Vec<u8>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// From when on it signs no more; set ahead of time by a rotation.
    pub retired_at: Option<DateTime<Utc>>,
}

/// Whether a workspace can be worked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkspaceStatus {
    /// It can.
    Active,
    /// An operator closed it.
    Suspended,
    /// Its owner deleted it; it can be restored until it is purged.
    Deleted,
}

impl WorkspaceStatus {
    /// The name on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deleted => "deleted",
        }
    }
}

impl fmt::Display for WorkspaceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no status.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected active, suspended or deleted")]
pub struct UnknownStatus;

impl FromStr for WorkspaceStatus {
    type Err = UnknownStatus;
    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        [Self::Active, Self::Suspended, Self::Deleted]
            .into_iter()
            .find(|s| s.as_str() == text)
            .ok_or(UnknownStatus)
    }
}

/// The workspace of a handle, about to be made; it begins active.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWorkspace {
    /// Its name.
    pub name: WorkspaceName,
    /// Its slug.
    pub slug: String,
    /// Where invoices go; empty until the owner says so.
    pub billing_email: Option<EmailAddress>,
    /// What it pays in, for ever.
    pub currency: Currency,
    /// When it is made.
    pub created_at: DateTime<Utc>,
}

/// A session about to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewSession {
    /// Its id.
    pub id: SessionId,
    /// Whose it is; a member of the workspace.
    pub user: UserId,
    /// The user's session epoch when their password was proved.
    pub epoch: u32,
    /// When it begins.
    pub created_at: DateTime<Utc>,
    /// When it ends, however often it is refreshed.
    pub expires_at: DateTime<Utc>,
}

/// A refresh token about to be issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewRefresh {
    /// Its id.
    pub id: RefreshId,
    /// Its session.
    pub session: SessionId,
    /// SHA-256 of its secret.
    pub secret_hash: [u8; 32],
    /// When it is issued.
    pub issued_at: DateTime<Utc>,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
}

/// A refresh token with everything that decides whether it still works, read together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshRow {
    /// Its id.
    pub id: RefreshId,
    /// SHA-256 of its secret.
    pub secret_hash: [u8; 32],
    /// When it ends.
    pub expires_at: DateTime<Utc>,
    /// When it was exchanged, if it was.
    pub used_at: Option<DateTime<Utc>>,
    /// Its session.
    pub session: SessionId,
    /// Whether the session was revoked.
    pub session_revoked: bool,
    /// When the session ends.
    pub session_expires_at: DateTime<Utc>,
    /// The epoch that the session was stamped with.
    pub session_epoch: u32,
    /// Whose session it is.
    pub user: UserId,
    /// The user's own epoch.
    pub user_epoch: u32,
    /// The user's role in the workspace, unless they were removed.
    pub role: Option<Role>,
    /// The workspace's status.
    pub workspace_status: WorkspaceStatus,
}

/// Why a user could not be inserted.
#[derive(Debug, thiserror::Error)]
pub enum InsertUserError {
    /// The folded address belongs to somebody.
    #[error("the e-mail address is taken")]
    EmailTaken,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The write handle: one transaction in one workspace.
pub trait IdentityTx: Send {
    /// The workspace of this handle.
    fn workspace(&self) -> WorkspaceId;

    /// Inserts a user; `users.email_folded` is unique.
    fn insert_user(
        &mut self,
        user: &User,
    ) -> impl Future<Output = Result<(), InsertUserError>> + Send;

    /// Inserts the handle's own workspace.
    fn insert_workspace(
        &mut self,
        workspace: &NewWorkspace,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Makes a user a member.
    fn insert_membership(
        &mut self,
        user: UserId,
        role: Role,
        at: DateTime<Utc>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// A user's role in the workspace.
    fn membership(
        &mut self,
        user: UserId,
    ) -> impl Future<Output = Result<Option<Role>, StoreError>> + Send;

    /// A user, their row locked until the transaction ends.
    fn user(
        &mut self,
        user: UserId,
    ) -> impl Future<Output = Result<Option<User>, StoreError>> + Send;

    /// Changes a user; an empty update changes nothing.
    fn update_user(
        &mut self,
        user: UserId,
        update: &UserUpdate,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Adds one to a user's session epoch, which ends all their sessions everywhere, and deletes their open
    /// password resets; answers the new epoch.
    fn bump_session_epoch(
        &mut self,
        user: UserId,
    ) -> impl Future<Output = Result<u32, StoreError>> + Send;

    /// Remembers the handle's workspace as the one the user worked in last.
    fn note_last_workspace(
        &mut self,
        user: UserId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Inserts a session.
    fn insert_session(
        &mut self,
        session: &NewSession,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stamps a session of the workspace with another epoch.
    fn restamp_session(
        &mut self,
        session: SessionId,
        epoch: u32,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Revokes a session for good; the first time of revocation stays, an unknown session is no error.
    fn revoke_session(
        &mut self,
        session: SessionId,
        at: DateTime<Utc>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Inserts a refresh token.
    fn insert_refresh(
        &mut self,
        refresh: &NewRefresh,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// A refresh token of the workspace, with its session, user, membership and workspace.
    fn refresh(
        &mut self,
        id: RefreshId,
    ) -> impl Future<Output = Result<Option<RefreshRow>, StoreError>> + Send;

    /// Marks an unused refresh token as used. `false`: somebody was faster.
    fn mark_refresh_used(
        &mut self,
        id: RefreshId,
        at: DateTime<Utc>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// A workspace that a user belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Belonging {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// Its name.
    pub name: WorkspaceName,
    /// The user's role in it.
    pub role: Role,
    /// Its status.
    pub status: WorkspaceStatus,
}

/// A request whose token, session and membership all hold now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authenticated {
    /// The membership as it stands at this request.
    pub membership: Membership,
    /// The workspace's status.
    pub workspace_status: WorkspaceStatus,
    /// The epoch of session and user, which are equal.
    pub session_epoch: u32,
}

/// The account of an address. An account that turned out to have another one's address, when addresses began to be
/// compared as they are now, is still known by the text that it was known by.
pub(crate) async fn account_of(
    read: &impl IdentityRead,
    email: &EmailAddress,
) -> Result<Option<User>, StoreError> {
    let (folded, former) = (email.folded(), email.formerly_folded());
    if former != folded
        && let Some(user) = read.user_by_email(&former).await?
    {
        return Ok(Some(user));
    }
    read.user_by_email(&folded).await
}

/// Lookups that come before any workspace scope, each by a capability: an address, a user, a token.
pub trait IdentityRead: Sync {
    /// The user whose folded address this is.
    fn user_by_email(
        &self,
        folded: &str,
    ) -> impl Future<Output = Result<Option<User>, StoreError>> + Send;

    /// A user by id.
    fn user(&self, user: UserId) -> impl Future<Output = Result<Option<User>, StoreError>> + Send;

    /// The workspaces a user belongs to, of every status: the last used one first, the others from the
    /// oldest membership to the youngest.
    fn workspaces_of(
        &self,
        user: UserId,
    ) -> impl Future<Output = Result<Vec<Belonging>, StoreError>> + Send;

    /// Joins, in one statement, the claims' membership, their session (of that user and workspace, not
    /// revoked, stamped with the user's present epoch) and the workspace's status. `None` when any is
    /// missing. Whether the token itself holds, the caller has verified.
    fn authenticate(
        &self,
        claims: &AccessClaims,
    ) -> impl Future<Output = Result<Option<Authenticated>, StoreError>> + Send;
}

/// Whether another attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// It was counted and may go on.
    Allowed,
    /// The window is full; nothing was counted.
    RetryAfter {
        /// Until the window ends, at least 1.
        seconds: u32,
    },
}

/// Names a counter: a hash that names nobody.
pub type CounterKey = [u8; 32];

/// Counters of attempts, at a secret or at having mail sent: global rows. Never inside another transaction: what was
/// counted stays counted.
pub trait PasswordAttempts: Sync {
    /// The counters of these keys, in their order, as they stand. One whose end has come may be missing.
    fn counts(
        &self,
        keys: &[CounterKey],
    ) -> impl Future<Output = Result<Vec<Option<Count>>, StoreError>> + Send;

    /// In one transaction: has these counters changed, while nobody else changes any of them, and writes down what
    /// is different then. The keys differ from each other; `None` is no counter.
    fn change<R: Send>(
        &self,
        keys: &[CounterKey],
        change: impl FnOnce(&mut [Option<Count>]) -> R + Send,
    ) -> impl Future<Output = Result<R, StoreError>> + Send;

    /// Hears how limits stand after an attempt, for whoever wants to tell the client.
    fn tell(&self, _states: &[LimitState]) {}
}

/// The signing keys: global rows, a handful.
pub trait SigningKeys: Sync {
    /// All keys, in any order.
    fn signing_keys(&self) -> impl Future<Output = Result<Vec<SealedKey>, StoreError>> + Send;

    /// Inserts the very first key. When there is one already (another server was faster), nothing happens.
    fn insert_first_signing_key(
        &self,
        key: &SealedKey,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// In one transaction: every key without a retirement gets `retire_at`, and the new key is inserted.
    fn rotate_signing_keys(
        &self,
        new: &SealedKey,
        retire_at: DateTime<Utc>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}
