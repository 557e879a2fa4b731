//! The people of a workspace, their keys and their invitations: the rows, what changes them, and the one bound of all use
//! cases.

use std::future::Future;

use chrono::{DateTime, Utc};
use rawdrive_tenancy_core::audit::AuditTx;
use rawdrive_tenancy_core::id::{ApiKeyId, InvitationId, UserId};
use rawdrive_tenancy_core::{Actor, Role, StoreError};
use rawdrive_usage::UsageUnit;

use crate::email::EmailAddress;
use crate::ports::IdentityTx;
use crate::scopes::Scopes;
use crate::validated_text::{ApiKeyName, PersonName, WorkspaceName};

/// A member of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The person.
    pub user: UserId,
    /// Their name.
    pub name: PersonName,
    /// Their address.
    pub email: EmailAddress,
    /// Their role.
    pub role: Role,
    /// Since when.
    pub joined_at: DateTime<Utc>,
}

/// The team of the handle's workspace.
pub trait TeamTx: Send {
    /// Who acts in this transaction.
    fn actor(&self) -> Actor;

    /// Locks the team until the transaction ends; whoever changes a membership calls it first.
    fn lock_team(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// A member.
    fn member(
        &mut self,
        user: UserId,
    ) -> impl Future<Output = Result<Option<Member>, StoreError>> + Send;

    /// How many owners there are.
    fn owners(&mut self) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Gives a member another role.
    fn set_role(
        &mut self,
        user: UserId,
        role: Role,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Deletes a membership and revokes the person's sessions in the workspace.
    fn delete_membership(
        &mut self,
        user: UserId,
        at: DateTime<Utc>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A key without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyRow {
    /// Its id.
    pub id: ApiKeyId,
    /// What its owner calls it.
    pub name: ApiKeyName,
    /// What it may do at most; what it is worth, [`worth`](crate::worth) says.
    pub role: Role,
    /// What it may be used for.
    pub scopes: Scopes,
    /// The member who answers for it. Nobody answers for a key that was made before keys had sponsors, by another
    /// key that is gone.
    pub sponsor: Option<UserId>,
    /// Who made it, as the audit log names them.
    pub created_by: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was used last, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// The keys of the handle's workspace, to change.
pub trait ApiKeysTx: Send {
    /// How many keys there are. Whoever makes one waits until this transaction ends, so that the count
    /// still holds when a key is inserted by it.
    fn count_api_keys(&mut self) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Inserts a key.
    fn insert_api_key(
        &mut self,
        key: &ApiKeyRow,
        secret_hash: &str,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// A key.
    fn api_key(
        &mut self,
        id: ApiKeyId,
    ) -> impl Future<Output = Result<Option<ApiKeyRow>, StoreError>> + Send;

    /// Deletes the keys that a member answers for, and answers what they were, oldest first.
    fn delete_api_keys_of(
        &mut self,
        sponsor: UserId,
    ) -> impl Future<Output = Result<Vec<ApiKeyRow>, StoreError>> + Send;

    /// Makes another member answer for the keys of one, and answers what they were, oldest first.
    fn hand_over_api_keys(
        &mut self,
        from: UserId,
        to: UserId,
    ) -> impl Future<Output = Result<Vec<ApiKeyRow>, StoreError>> + Send;

    /// Deletes a key and answers what it was.
    fn delete_api_key(
        &mut self,
        id: ApiKeyId,
    ) -> impl Future<Output = Result<Option<ApiKeyRow>, StoreError>> + Send;

    /// Notes a use, unless a later one is noted. A key that is gone is no error.
    fn note_key_use(
        &mut self,
        id: ApiKeyId,
        at: DateTime<Utc>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// An invitation, open unless it has expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Its id.
    pub id: InvitationId,
    /// Who is invited.
    pub email: EmailAddress,
    /// To what at most: it makes somebody what its sponsor may still make them (see [`worth`](crate::worth)).
    pub role: Role,
    /// The member who answers for it: who invited, or who answers for the key that did.
    pub sponsor: Option<UserId>,
    /// Who invited, as audit names actors.
    pub invited_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// Until when it can be accepted, and holds its seat.
    pub expires_at: DateTime<Utc>,
}

/// Whose invitations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inviter {
    /// Those that a member answers for.
    Sponsor(UserId),
    /// Those that a key made.
    Key(ApiKeyId),
}

/// The invitations of the handle's workspace.
pub trait InvitationTx: Send {
    /// Whether a member has this address.
    fn is_member(
        &mut self,
        email: &EmailAddress,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Inserts an invitation. `false`: the address has one already.
    fn insert_invitation(
        &mut self,
        invitation: &Invitation,
        secret_hash: &[u8; 32],
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Deletes an invitation and returns it.
    fn take_invitation(
        &mut self,
        id: InvitationId,
    ) -> impl Future<Output = Result<Option<Invitation>, StoreError>> + Send;

    /// Deletes somebody's invitations, expired ones included, and returns them, oldest first.
    fn take_invitations(
        &mut self,
        inviter: Inviter,
    ) -> impl Future<Output = Result<Vec<Invitation>, StoreError>> + Send;

    /// Deletes every invitation that has expired and returns how many.
    fn take_expired_invitations(
        &mut self,
        now: DateTime<Utc>,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// The workspace's name.
    fn workspace_name(&mut self) -> impl Future<Output = Result<WorkspaceName, StoreError>> + Send;
}

/// What the use cases of this crate ask of a transaction: the people, sessions, keys and invitations of a workspace,
/// [`UsageUnit`] for their seats, and [`AuditTx`] because each change is audited. Whatever has them has this.
pub trait IdentityUnit:
    IdentityTx + TeamTx + ApiKeysTx + InvitationTx + UsageUnit + AuditTx
{
}

impl<T: IdentityTx + TeamTx + ApiKeysTx + InvitationTx + UsageUnit + AuditTx> IdentityUnit for T {}
