//! API keys: a program's credential in one workspace. A member answers for each, its *sponsor*: at first the one who
//! made it, later perhaps the one who kept it when its maker was removed. A key is worth at most what its sponsor is
//! worth at that moment, and nothing while the sponsor is no member.

use std::future::Future;

use chrono::{DateTime, Utc};
use rawdrive_tenancy_core::audit::{AuditTx, Change};
use rawdrive_tenancy_core::id::{ApiKeyId, UserId, WorkspaceId};
use rawdrive_tenancy_core::page::{Page, PageRequest};
use rawdrive_tenancy_core::{Env, KeyGrant, Role, StoreError};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::error::IdentityError;
use crate::opaque_token::{ApiKeyToken, TokenPepper};
use crate::ports::WorkspaceStatus;
use crate::scopes::Scopes;
use crate::team_ports::{ApiKeyRow, IdentityUnit};
use crate::validated_text::ApiKeyName;

/// How many keys a workspace holds at most, expired ones included: a list that nobody can read is a list
/// that nobody revokes from.
pub const MAX_API_KEYS: u64 = 100;

/// What something with a role is worth, for which somebody answers who has a role now, or none any more.
#[must_use]
pub fn worth(role: Role, sponsor: Option<Role>) -> Option<Role> {
    sponsor.map(|sponsor| sponsor.min(role))
}

/// A key, and what it is worth now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedKey {
    /// The key.
    pub key: ApiKeyRow,
    /// Nothing while its sponsor is no member.
    pub worth: Option<Role>,
}

/// What decides whether a presented key holds, read in one statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// Its role.
    pub role: Role,
    /// What it may be used for.
    pub scopes: Scopes,
    /// What it is called.
    pub name: ApiKeyName,
    /// The role that its sponsor has now.
    pub sponsor_role: Option<Role>,
    /// [`SecretToken::stored_hash`](crate::SecretToken::stored_hash) of its secret.
    pub secret_hash: String,
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was used last.
    pub last_used_at: Option<DateTime<Utc>>,
    /// The status of its workspace.
    pub workspace_status: WorkspaceStatus,
}

/// A lookup that comes before any scope, by a presented secret.
pub trait ApiKeyRead: Sync {
    /// The row that the token names, inside the workspace that it names; nothing is proved by that.
    fn presented_key(
        &self,
        token: &ApiKeyToken,
    ) -> impl Future<Output = Result<Option<StoredKey>, StoreError>> + Send;

    /// The row of a key that a verified token names.
    fn named_key(
        &self,
        workspace: WorkspaceId,
        key: ApiKeyId,
    ) -> impl Future<Output = Result<Option<StoredKey>, StoreError>> + Send;
}

/// The keys of the handle's workspace, to read.
pub trait ApiKeyList: Sync {
    /// A page of them, oldest first.
    fn api_keys(
        &self,
        page: PageRequest,
    ) -> impl Future<Output = Result<Page<ListedKey>, StoreError>> + Send;
}

/// What a new key is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewApiKey {
    /// Its name.
    pub name: ApiKeyName,
    /// Its role.
    pub role: Role,
    /// What it may be used for.
    pub scopes: Scopes,
    /// When it ends by itself; in the future.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Why no key was made.
#[derive(Debug, thiserror::Error)]
pub enum ApiKeyError {
    /// The maker's membership ended meanwhile.
    #[error("the membership has ended")]
    Unauthenticated,
    /// The role is above the maker's own.
    #[error("a key cannot have a role above that of whoever makes it")]
    AboveOwnRole {
        /// What was asked for.
        role: Role,
    },
    /// The workspace holds as many as it may.
    #[error("the workspace holds {MAX_API_KEYS} keys already")]
    TooMany,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes a key that its maker answers for, and audits `api_key.created`. The secret exists in clear only in the answer.
/// People make keys; a key makes none, or whoever had it once would have it for ever.
///
/// # Errors
/// See [`ApiKeyError`].
pub async fn create_api_key(
    tx: &mut impl IdentityUnit,
    env: &Env,
    pepper: &TokenPepper,
    maker: UserId,
    new: NewApiKey,
) -> Result<(ApiKeyRow, SecretString), ApiKeyError> {
    // The count's lock is the team's: a maker who is being removed makes no key that nobody takes away.
    let count = tx.count_api_keys().await?;
    let own_role = tx.membership(maker).await?;
    if new.role > own_role.ok_or(ApiKeyError::Unauthenticated)? {
        return Err(ApiKeyError::AboveOwnRole { role: new.role });
    }
    if count >= MAX_API_KEYS {
        return Err(ApiKeyError::TooMany);
    }
    let token = ApiKeyToken::generate(env, tx.workspace());
    let key = ApiKeyRow {
        id: token.id(),
        name: new.name,
        role: new.role,
        scopes: new.scopes,
        sponsor: Some(maker),
        created_by: maker.to_string(),
        created_at: env.now(),
        expires_at: new.expires_at,
        last_used_at: None,
    };
    tx.insert_api_key(&key, &token.stored_hash(pepper)).await?;
    tx.record(Change {
        action: "api_key.created",
        subject: key.id.to_string(),
        before: Value::Null,
        after: audited(&key),
    });
    Ok((key, token.text()))
}

pub(crate) async fn record_revoked(
    tx: &mut impl AuditTx,
    key: &ApiKeyRow,
) -> Result<(), StoreError> {
    tx.record(Change {
        action: "api_key.revoked",
        subject: key.id.to_string(),
        before: audited(key),
        after: Value::Null,
    });
    Ok(())
}

/// Audits that a member answers for a key from now on.
pub(crate) async fn record_handed_over(
    tx: &mut impl AuditTx,
    key: &ApiKeyRow,
    to: UserId,
) -> Result<(), StoreError> {
    tx.record(Change {
        action: "api_key.sponsor_changed",
        subject: key.id.to_string(),
        before: json!({ "sponsor": key.sponsor }),
        after: json!({ "sponsor": to }),
    });
    Ok(())
}

fn audited(key: &ApiKeyRow) -> Value {
    let mut audited = json!({ "name": key.name.as_str(), "role": key.role.as_str(), "expires_at": key.expires_at });
    if let Some(scopes) = key.scopes.names() {
        audited["scopes"] = json!(scopes);
    }
    audited
}

/// A key that was proved at this request: by its secret, or by a token that it had issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenKey {
    /// What it may do, and where.
    pub grant: KeyGrant,
    /// What it may be used for.
    pub scopes: Scopes,
    /// What it is called.
    pub name: ApiKeyName,
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// The status of its workspace.
    pub workspace_status: WorkspaceStatus,
    /// When it was used last, as far as that is noted.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// Proves a presented key by the row that it names: there, its secret right, not expired, its sponsor a member. Which
/// of these does not hold is not told, and a key that is not there costs what one that is there does. The grant is for
/// what the key is [`worth`].
///
/// # Errors
/// [`IdentityError::Unauthenticated`].
pub fn prove_api_key(
    env: &Env,
    pepper: &TokenPepper,
    token: &ApiKeyToken,
    found: Option<StoredKey>,
) -> Result<ProvenKey, IdentityError> {
    let is_right = token.matches_stored(pepper, found.as_ref().map(|key| key.secret_hash.as_str()));
    attested(
        env,
        token.workspace(),
        token.id(),
        found.filter(|_| is_right),
    )
}

/// Proves the key behind a page's token, whose signature was verified, by the key's row: there, not expired, its sponsor a
/// member. The grant is for what the key is [`worth`] now.
///
/// # Errors
/// [`IdentityError::Unauthenticated`].
pub fn prove_key_of_page(
    env: &Env,
    workspace: WorkspaceId,
    key: ApiKeyId,
    found: Option<StoredKey>,
) -> Result<ProvenKey, IdentityError> {
    attested(env, workspace, key, found)
}

fn attested(
    env: &Env,
    workspace: WorkspaceId,
    id: ApiKeyId,
    found: Option<StoredKey>,
) -> Result<ProvenKey, IdentityError> {
    let now = env.now();
    let key = found
        .filter(|key| key.expires_at.is_none_or(|end| now < end))
        .ok_or(IdentityError::Unauthenticated)?;
    let role = worth(key.role, key.sponsor_role).ok_or(IdentityError::Unauthenticated)?;
    #[expect(
        clippy::disallowed_methods,
        reason = "the row was read just now, and its secret compared or a token of its own verified"
    )]
    let grant = KeyGrant::attest(workspace, id, role);
    Ok(ProvenKey {
        grant,
        scopes: key.scopes,
        name: key.name,
        expires_at: key.expires_at,
        workspace_status: key.workspace_status,
        last_used_at: key.last_used_at,
    })
}
