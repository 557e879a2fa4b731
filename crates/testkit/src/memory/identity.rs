//! Identity: accounts, memberships, sessions, keys, invitations, mailed proofs, and what limits attempts.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_identity::ports::{
    Attempt, Authenticated, Belonging, CounterKey, IdentityRead, IdentityTx, InsertUserError,
    NewRefresh, NewSession, NewWorkspace, PasswordAttempts, RefreshRow, SigningKeys, User,
    UserUpdate, WorkspaceStatus,
};
use rawdrive_identity::{
    AccessClaims, ApiKeyList, ApiKeyRead, ApiKeyRow, ApiKeyToken, ApiKeysTx, Count, Currency,
    EmailAddress, FoundInvitation, Invitation, InvitationRead, InvitationToken, InvitationTx,
    Inviter, LimitState, ListedKey, Member, PasswordHash, ProofPace, ProofPurpose, ProofRequest,
    ProofRequests, ProofRow, Proofs, SealedKey, StoredKey, StrangerMailTx, TeamTx, WorkspaceName,
    worth,
};
use rawdrive_tenancy_core::id::{
    ApiKeyId, InvitationId, ProofId, RefreshId, SessionId, TypedId, UserId, WorkspaceId,
};
use rawdrive_tenancy_core::job::backoff;
use rawdrive_tenancy_core::page::{Page, PageRequest, Position};
use rawdrive_tenancy_core::{Actor, Membership, Role, StoreError};

use super::{MemoryReader, MemoryStore, MemoryTx};

/// A workspace, as identity knows it.
#[derive(Debug, Clone)]
pub struct WorkspaceRow {
    /// What it was made as.
    pub made: NewWorkspace,
    /// Whether it can be worked in.
    pub status: WorkspaceStatus,
}

/// A membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MembershipRow {
    /// The role.
    pub role: Role,
    /// Since when.
    pub joined_at: DateTime<Utc>,
}

/// A session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRow {
    /// As it was made, with the epoch that it was stamped with last.
    pub session: NewSession,
    /// When it was revoked, if it was.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshTokenRow {
    /// As it was issued.
    pub refresh: NewRefresh,
    /// When it was exchanged, if it was.
    pub used_at: Option<DateTime<Utc>>,
}

/// Everything that identity keeps. What belongs to a workspace lies under its id; the rest is the installation's.
#[derive(Debug, Clone, Default)]
pub struct IdentityRows {
    /// Accounts.
    pub users: BTreeMap<UserId, User>,
    /// Where somebody worked last.
    pub last_workspaces: BTreeMap<UserId, WorkspaceId>,
    /// Workspaces.
    pub workspaces: BTreeMap<WorkspaceId, WorkspaceRow>,
    /// Memberships.
    pub memberships: BTreeMap<(WorkspaceId, UserId), MembershipRow>,
    /// Sessions, revoked ones too.
    pub sessions: BTreeMap<(WorkspaceId, SessionId), SessionRow>,
    /// Refresh tokens, used ones too.
    pub refresh_tokens: BTreeMap<(WorkspaceId, RefreshId), RefreshTokenRow>,
    /// API keys, and the hashes of their secrets.
    pub api_keys: BTreeMap<(WorkspaceId, ApiKeyId), (ApiKeyRow, String)>,
    /// Invitations, expired ones too, and the hashes of their secrets.
    pub invitations: BTreeMap<(WorkspaceId, InvitationId), (Invitation, [u8; 32])>,
    /// Counters of attempts and of mails.
    pub counters: BTreeMap<CounterKey, Count>,
    /// Signing keys, in the order in which they were made.
    pub signing_keys: Vec<SealedKey>,
    /// Mailed proofs that are open.
    pub proofs: BTreeMap<ProofId, ProofRow>,
    /// Requests for mails, and until when each is leased.
    pub proof_requests: BTreeMap<ProofId, (ProofRequest, DateTime<Utc>)>,
}

impl IdentityRows {
    fn role(&self, workspace: WorkspaceId, user: UserId) -> Option<Role> {
        let row = self.memberships.get(&(workspace, user))?;
        Some(row.role)
    }

    fn sponsor_role(&self, workspace: WorkspaceId, sponsor: Option<UserId>) -> Option<Role> {
        self.role(workspace, sponsor?)
    }

    /// Of a workspace that is there: keys and invitations lie in no other.
    fn status(&self, workspace: WorkspaceId) -> Option<WorkspaceStatus> {
        self.workspaces.get(&workspace).map(|row| row.status)
    }

    fn members(&self, workspace: WorkspaceId) -> impl Iterator<Item = (UserId, MembershipRow)> {
        let rows = self.memberships.iter();
        rows.filter(move |((at, _), _)| *at == workspace)
            .map(|((_, user), row)| (*user, *row))
    }

    fn revoke(&mut self, at: DateTime<Utc>, is_meant: impl Fn(&WorkspaceId, &SessionRow) -> bool) {
        let open = self
            .sessions
            .iter_mut()
            .filter(|((workspace, _), row)| row.revoked_at.is_none() && is_meant(workspace, row));
        for (_, row) in open {
            row.revoked_at = Some(at);
        }
    }

    /// Deletes the proof with the others that are meant. `false`: it was spent before.
    fn spend(&mut self, proof: &ProofRow, is_meant: impl Fn(&ProofRow) -> bool) -> bool {
        if self.proofs.remove(&proof.id).is_none() {
            return false;
        }
        self.proofs
            .retain(|_, other| other.user != proof.user || !is_meant(other));
        true
    }
}

impl MemoryStore {
    /// What identity keeps, as it is committed.
    #[must_use]
    pub fn identity(&self) -> Arc<IdentityRows> {
        self.state().identity.clone()
    }

    /// Changes what identity keeps, as an operator or another process would.
    pub async fn edit_identity<R>(&self, edit: impl FnOnce(&mut IdentityRows) -> R) -> R {
        let _turn = self.turn.lock().await;
        edit(Arc::make_mut(&mut self.state().identity))
    }

    /// How limits stand, as they were told last, each by its name.
    #[must_use]
    pub fn told_limits(&self) -> Vec<LimitState> {
        let told = self.told.lock();
        told.unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn identity_statement<T>(
        &self,
        operation: &'static str,
        run: impl FnOnce(&mut IdentityRows) -> T,
    ) -> Result<T, StoreError> {
        self.statement(operation, |state| run(Arc::make_mut(&mut state.identity)))
            .await
    }
}

impl MemoryTx {
    /// Has the next exchange of a refresh token find that another transaction was faster, as it may where reading
    /// locks nothing.
    pub fn lose_next_exchange(&mut self) {
        self.loses_exchange = true;
    }

    /// Makes the workspace for tests that need one and look at nothing of it.
    pub(super) fn insert_plain_workspace(&mut self) {
        let made = NewWorkspace {
            name: WorkspaceName::parse("Studio").expect("a name"),
            slug: "studio".to_owned(),
            billing_email: None,
            currency: Currency::parse("usd").expect("three letters"),
            created_at: self.store.env.now(),
        };
        let row = WorkspaceRow {
            made,
            status: WorkspaceStatus::Active,
        };
        let rows = Arc::make_mut(&mut self.state.identity);
        rows.workspaces.insert(self.scope.workspace(), row);
    }

    fn people(&self, operation: &'static str) -> Result<&IdentityRows, StoreError> {
        self.store.call(operation)?;
        Ok(&self.state.identity)
    }

    fn people_to_change(
        &mut self,
        operation: &'static str,
    ) -> Result<&mut IdentityRows, StoreError> {
        self.store.call(operation)?;
        Ok(Arc::make_mut(&mut self.state.identity))
    }

    fn id(&self) -> WorkspaceId {
        self.scope.workspace()
    }
}

/// Inserts a row whose key nobody has yet.
fn insert<K: Ord, V>(
    rows: &mut BTreeMap<K, V>,
    key: K,
    row: V,
    operation: &'static str,
) -> Result<(), StoreError> {
    match rows.insert(key, row) {
        None => Ok(()),
        Some(_) => Err(StoreError::Taken { operation }),
    }
}

/// What a row refers to is there.
fn required(there: bool, operation: &'static str) -> Result<(), StoreError> {
    if there {
        Ok(())
    } else {
        Err(StoreError::Dangling { operation })
    }
}

impl IdentityTx for MemoryTx {
    fn workspace(&self) -> WorkspaceId {
        self.id()
    }

    async fn insert_user(&mut self, user: &User) -> Result<(), InsertUserError> {
        const OPERATION: &str = "insert a user";
        let rows = self.people_to_change(OPERATION)?;
        let folded = user.email.folded();
        if rows.users.values().any(|u| u.email.folded() == folded) {
            return Err(InsertUserError::EmailTaken);
        }
        Ok(insert(&mut rows.users, user.id, user.clone(), OPERATION)?)
    }

    async fn insert_workspace(&mut self, workspace: &NewWorkspace) -> Result<(), StoreError> {
        const OPERATION: &str = "insert a workspace";
        let id = self.id();
        let row = WorkspaceRow {
            made: workspace.clone(),
            status: WorkspaceStatus::Active,
        };
        let rows = self.people_to_change(OPERATION)?;
        insert(&mut rows.workspaces, id, row, OPERATION)
    }

    async fn insert_membership(
        &mut self,
        user: UserId,
        role: Role,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        const OPERATION: &str = "insert a membership";
        let id = self.id();
        let rows = self.people_to_change(OPERATION)?;
        let there = rows.users.contains_key(&user) && rows.workspaces.contains_key(&id);
        required(there, OPERATION)?;
        let joined_at = at;
        let row = MembershipRow { role, joined_at };
        insert(&mut rows.memberships, (id, user), row, OPERATION)
    }

    async fn membership(&mut self, user: UserId) -> Result<Option<Role>, StoreError> {
        let id = self.id();
        Ok(self.people("read a membership")?.role(id, user))
    }

    async fn user(&mut self, user: UserId) -> Result<Option<User>, StoreError> {
        Ok(self.people("read a user")?.users.get(&user).cloned())
    }

    async fn update_user(&mut self, user: UserId, update: &UserUpdate) -> Result<(), StoreError> {
        let rows = self.people_to_change("update a user")?;
        if let Some(row) = rows.users.get_mut(&user) {
            let UserUpdate {
                name,
                password_hash,
            } = update.clone();
            row.name = name.unwrap_or_else(|| row.name.clone());
            row.password_hash = password_hash.unwrap_or_else(|| row.password_hash.clone());
        }
        Ok(())
    }

    async fn bump_session_epoch(&mut self, user: UserId) -> Result<u32, StoreError> {
        const OPERATION: &str = "end sessions";
        let rows = self.people_to_change(OPERATION)?;
        let is_reset = |row: &ProofRow| row.purpose == ProofPurpose::PasswordReset;
        rows.proofs
            .retain(|_, row| row.user != user || !is_reset(row));
        let row = rows.users.get_mut(&user);
        let row = row.ok_or(StoreError::Dangling {
            operation: OPERATION,
        })?;
        row.session_epoch += 1;
        Ok(row.session_epoch)
    }

    async fn note_last_workspace(&mut self, user: UserId) -> Result<(), StoreError> {
        let id = self.id();
        let rows = self.people_to_change("note the last workspace")?;
        rows.last_workspaces.insert(user, id);
        Ok(())
    }

    async fn insert_session(&mut self, session: &NewSession) -> Result<(), StoreError> {
        const OPERATION: &str = "insert a session";
        let key = (self.id(), session.id);
        let row = SessionRow {
            session: *session,
            revoked_at: None,
        };
        let rows = self.people_to_change(OPERATION)?;
        required(rows.users.contains_key(&session.user), OPERATION)?;
        insert(&mut rows.sessions, key, row, OPERATION)
    }

    async fn restamp_session(&mut self, session: SessionId, epoch: u32) -> Result<(), StoreError> {
        let key = (self.id(), session);
        let rows = self.people_to_change("restamp a session")?;
        if let Some(row) = rows.sessions.get_mut(&key) {
            row.session.epoch = epoch;
        }
        Ok(())
    }

    async fn revoke_session(
        &mut self,
        session: SessionId,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let id = self.id();
        let rows = self.people_to_change("revoke a session")?;
        rows.revoke(at, |workspace, row| {
            (*workspace, row.session.id) == (id, session)
        });
        Ok(())
    }

    async fn insert_refresh(&mut self, refresh: &NewRefresh) -> Result<(), StoreError> {
        const OPERATION: &str = "insert a refresh token";
        let id = self.id();
        let row = RefreshTokenRow {
            refresh: *refresh,
            used_at: None,
        };
        let rows = self.people_to_change(OPERATION)?;
        required(
            rows.sessions.contains_key(&(id, refresh.session)),
            OPERATION,
        )?;
        insert(&mut rows.refresh_tokens, (id, refresh.id), row, OPERATION)
    }

    async fn refresh(&mut self, id: RefreshId) -> Result<Option<RefreshRow>, StoreError> {
        let workspace = self.id();
        let rows = self.people("read a refresh token")?;
        let joined = || {
            let row = rows.refresh_tokens.get(&(workspace, id))?;
            let session = rows.sessions.get(&(workspace, row.refresh.session))?;
            let user = session.session.user;
            Some(RefreshRow {
                id,
                secret_hash: row.refresh.secret_hash,
                expires_at: row.refresh.expires_at,
                used_at: row.used_at,
                session: session.session.id,
                session_revoked: session.revoked_at.is_some(),
                session_expires_at: session.session.expires_at,
                session_epoch: session.session.epoch,
                user,
                user_epoch: rows.users.get(&user)?.session_epoch,
                role: rows.role(workspace, user),
                workspace_status: rows.status(workspace)?,
            })
        };
        Ok(joined())
    }

    async fn mark_refresh_used(
        &mut self,
        id: RefreshId,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let key = (self.id(), id);
        let is_lost = std::mem::take(&mut self.loses_exchange);
        let rows = self.people_to_change("use a refresh token")?;
        let unused = rows.refresh_tokens.get_mut(&key);
        let unused = unused.filter(|row| row.used_at.is_none() && !is_lost);
        Ok(unused.map(|row| row.used_at = Some(at)).is_some())
    }
}

impl IdentityRead for MemoryStore {
    async fn user_by_email(&self, folded: &str) -> Result<Option<User>, StoreError> {
        self.look("read a user", |state| {
            let mut users = state.identity.users.values();
            users.find(|user| user.email.folded() == folded).cloned()
        })
    }

    async fn user(&self, user: UserId) -> Result<Option<User>, StoreError> {
        self.look("read a user", |state| {
            state.identity.users.get(&user).cloned()
        })
    }

    async fn workspaces_of(&self, user: UserId) -> Result<Vec<Belonging>, StoreError> {
        self.look("list a user's workspaces", |state| {
            let rows = &state.identity;
            let last = rows.last_workspaces.get(&user).copied();
            let mine = rows.memberships.iter().filter(|((_, of), _)| *of == user);
            let mut mine: Vec<_> = mine
                .map(|((workspace, _), row)| (*workspace, *row))
                .collect();
            mine.sort_by_key(|(workspace, row)| {
                (Some(*workspace) != last, row.joined_at, *workspace)
            });
            let belonging = |(workspace, row): (WorkspaceId, MembershipRow)| {
                let found = rows.workspaces.get(&workspace)?;
                Some(Belonging {
                    workspace,
                    name: found.made.name.clone(),
                    role: row.role,
                    status: found.status,
                })
            };
            mine.into_iter().filter_map(belonging).collect()
        })
    }

    async fn authenticate(
        &self,
        claims: &AccessClaims,
    ) -> Result<Option<Authenticated>, StoreError> {
        let (user, workspace) = (claims.user, claims.workspace);
        self.look("authenticate", |state| {
            let rows = &state.identity;
            let row = rows.sessions.get(&(workspace, claims.session))?;
            let holds = row.session.user == user
                && row.revoked_at.is_none()
                && row.session.epoch == rows.users.get(&user)?.session_epoch;
            let role = rows.role(workspace, user).filter(|_| holds)?;
            Some(Authenticated {
                membership: attest(workspace, user, role, claims.session),
                workspace_status: rows.status(workspace)?,
                session_epoch: row.session.epoch,
            })
        })
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the store that has just read the membership"
)]
fn attest(workspace: WorkspaceId, user: UserId, role: Role, session: SessionId) -> Membership {
    Membership::attest(workspace, user, role, session)
}

impl TeamTx for MemoryTx {
    fn actor(&self) -> Actor {
        self.scope.actor()
    }

    async fn lock_team(&mut self) -> Result<(), StoreError> {
        const OPERATION: &str = "lock the team";
        let id = self.id();
        // Whoever writes here writes alone.
        required(
            self.people(OPERATION)?.workspaces.contains_key(&id),
            OPERATION,
        )
    }

    async fn member(&mut self, user: UserId) -> Result<Option<Member>, StoreError> {
        let id = self.id();
        let rows = self.people("read a member")?;
        let row = rows.memberships.get(&(id, user)).zip(rows.users.get(&user));
        Ok(row.map(|(row, person)| Member {
            user,
            name: person.name.clone(),
            email: person.email.clone(),
            role: row.role,
            joined_at: row.joined_at,
        }))
    }

    async fn owners(&mut self) -> Result<u64, StoreError> {
        let members = self.people("count owners")?.members(self.id());
        Ok(members.filter(|(_, row)| row.role == Role::Owner).count() as u64)
    }

    async fn set_role(&mut self, user: UserId, role: Role) -> Result<(), StoreError> {
        let key = (self.id(), user);
        let rows = self.people_to_change("change a role")?;
        if let Some(row) = rows.memberships.get_mut(&key) {
            row.role = role;
        }
        Ok(())
    }

    async fn delete_membership(
        &mut self,
        user: UserId,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let id = self.id();
        let rows = self.people_to_change("delete a membership")?;
        rows.memberships.remove(&(id, user));
        rows.revoke(at, |workspace, row| {
            (*workspace, row.session.user) == (id, user)
        });
        Ok(())
    }
}

impl InvitationTx for MemoryTx {
    async fn is_member(&mut self, email: &EmailAddress) -> Result<bool, StoreError> {
        let rows = self.people("look for a member")?;
        let folded = email.folded();
        let has = |user: &User| user.email.folded() == folded;
        let mut members = rows.members(self.scope.workspace());
        Ok(members.any(|(user, _)| rows.users.get(&user).is_some_and(has)))
    }

    async fn insert_invitation(
        &mut self,
        invitation: &Invitation,
        secret_hash: &[u8; 32],
    ) -> Result<bool, StoreError> {
        const OPERATION: &str = "insert an invitation";
        let id = self.id();
        let rows = self.people_to_change(OPERATION)?;
        let folded = invitation.email.folded();
        let is_taken = |((at, _), (row, _)): (&(WorkspaceId, _), &(Invitation, _))| {
            *at == id && row.email.folded() == folded
        };
        if rows.invitations.iter().any(is_taken) {
            return Ok(false);
        }
        let row = (invitation.clone(), *secret_hash);
        insert(&mut rows.invitations, (id, invitation.id), row, OPERATION)?;
        Ok(true)
    }

    async fn take_invitation(
        &mut self,
        id: InvitationId,
    ) -> Result<Option<Invitation>, StoreError> {
        let key = (self.id(), id);
        let rows = self.people_to_change("use an invitation up")?;
        Ok(rows.invitations.remove(&key).map(|(row, _)| row))
    }

    async fn take_invitations(&mut self, inviter: Inviter) -> Result<Vec<Invitation>, StoreError> {
        let is_theirs = |row: &Invitation| match inviter {
            Inviter::Sponsor(user) => row.sponsor == Some(user),
            Inviter::Key(key) => row.invited_by == key.to_string(),
        };
        self.take_all("delete somebody's invitations", is_theirs)
    }

    async fn take_expired_invitations(&mut self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        let taken = self.take_all("delete expired invitations", |row| row.expires_at <= now)?;
        Ok(taken.len() as u64)
    }

    async fn workspace_name(&mut self) -> Result<WorkspaceName, StoreError> {
        const OPERATION: &str = "read the workspace";
        let id = self.id();
        let row = self.people(OPERATION)?.workspaces.get(&id);
        row.map(|row| row.made.name.clone())
            .ok_or(StoreError::Dangling {
                operation: OPERATION,
            })
    }
}

impl MemoryTx {
    /// Deletes the invitations that are meant; oldest first.
    fn take_all(
        &mut self,
        operation: &'static str,
        is_meant: impl Fn(&Invitation) -> bool,
    ) -> Result<Vec<Invitation>, StoreError> {
        let id = self.id();
        let rows = self.people_to_change(operation)?;
        let meant =
            |(at, _): &(WorkspaceId, _), (row, _): &mut (Invitation, _)| *at == id && is_meant(row);
        let taken = rows.invitations.extract_if(.., meant);
        Ok(taken.map(|(_, (row, _))| row).collect())
    }
}

impl InvitationRead for MemoryStore {
    async fn invitation(
        &self,
        token: &InvitationToken,
    ) -> Result<Option<FoundInvitation>, StoreError> {
        let workspace = token.workspace();
        self.look("find an invitation", |state| {
            let rows = &state.identity;
            let (invitation, hash) = rows.invitations.get(&(workspace, token.id()))?;
            Some(FoundInvitation {
                invitation: invitation.clone(),
                sponsor_role: rows.sponsor_role(workspace, invitation.sponsor),
                secret_hash: hash.to_vec(),
                workspace_status: rows.status(workspace)?,
            })
        })
    }
}

impl ApiKeysTx for MemoryTx {
    async fn count_api_keys(&mut self) -> Result<u64, StoreError> {
        let id = self.id();
        let keys = self.people("count API keys")?.api_keys.keys();
        Ok(keys.filter(|(at, _)| *at == id).count() as u64)
    }

    async fn insert_api_key(
        &mut self,
        key: &ApiKeyRow,
        secret_hash: &str,
    ) -> Result<(), StoreError> {
        const OPERATION: &str = "insert an API key";
        let id = self.id();
        let row = (key.clone(), secret_hash.to_owned());
        let rows = self.people_to_change(OPERATION)?;
        insert(&mut rows.api_keys, (id, key.id), row, OPERATION)
    }

    async fn api_key(&mut self, id: ApiKeyId) -> Result<Option<ApiKeyRow>, StoreError> {
        let key = (self.id(), id);
        let found = self.people("read an API key")?.api_keys.get(&key);
        Ok(found.map(|(row, _)| row.clone()))
    }

    async fn delete_api_keys_of(&mut self, sponsor: UserId) -> Result<Vec<ApiKeyRow>, StoreError> {
        let id = self.id();
        let rows = self.people_to_change("delete a member's API keys")?;
        let theirs = |(at, _): &(WorkspaceId, _), (row, _): &mut (ApiKeyRow, _)| {
            *at == id && row.sponsor == Some(sponsor)
        };
        let deleted = rows.api_keys.extract_if(.., theirs);
        Ok(deleted.map(|(_, (row, _))| row).collect())
    }

    async fn hand_over_api_keys(
        &mut self,
        from: UserId,
        to: UserId,
    ) -> Result<Vec<ApiKeyRow>, StoreError> {
        let id = self.id();
        let rows = self.people_to_change("hand over a member's API keys")?;
        let mut handed_over = Vec::new();
        for ((at, _), (row, _)) in &mut rows.api_keys {
            if *at == id && row.sponsor == Some(from) {
                handed_over.push(row.clone());
                row.sponsor = Some(to);
            }
        }
        Ok(handed_over)
    }

    async fn delete_api_key(&mut self, id: ApiKeyId) -> Result<Option<ApiKeyRow>, StoreError> {
        let key = (self.id(), id);
        let rows = self.people_to_change("delete an API key")?;
        Ok(rows.api_keys.remove(&key).map(|(row, _)| row))
    }

    async fn note_key_use(&mut self, id: ApiKeyId, at: DateTime<Utc>) -> Result<(), StoreError> {
        let key = (self.id(), id);
        let rows = self.people_to_change("note a key's use")?;
        if let Some((row, _)) = rows.api_keys.get_mut(&key) {
            row.last_used_at = row.last_used_at.max(Some(at));
        }
        Ok(())
    }
}

impl ApiKeyRead for MemoryStore {
    async fn presented_key(&self, token: &ApiKeyToken) -> Result<Option<StoredKey>, StoreError> {
        self.named_key(token.workspace(), token.id()).await
    }

    async fn named_key(
        &self,
        workspace: WorkspaceId,
        id: ApiKeyId,
    ) -> Result<Option<StoredKey>, StoreError> {
        self.look("read an API key", |state| {
            let rows = &state.identity;
            let (key, hash) = rows.api_keys.get(&(workspace, id))?;
            Some(StoredKey {
                role: key.role,
                scopes: key.scopes.clone(),
                name: key.name.clone(),
                sponsor_role: rows.sponsor_role(workspace, key.sponsor),
                secret_hash: hash.clone(),
                expires_at: key.expires_at,
                last_used_at: key.last_used_at,
                workspace_status: rows.status(workspace)?,
            })
        })
    }
}

impl ApiKeyList for MemoryReader {
    async fn api_keys(&self, page: PageRequest) -> Result<Page<ListedKey>, StoreError> {
        let workspace = self.scope.workspace();
        self.store.look("list API keys", |state| {
            let rows = &state.identity;
            let mine = rows
                .api_keys
                .iter()
                .filter(|((at, id), _)| *at == workspace && id.uuid() > page.after_id());
            let listed = |(key, _): &(ApiKeyRow, String)| ListedKey {
                worth: worth(key.role, rows.sponsor_role(workspace, key.sponsor)),
                key: key.clone(),
            };
            let found = mine.take(usize::from(page.limit) + 1);
            let found = found.map(|(_, row)| listed(row)).collect();
            Page::cut(found, page.limit, |listed: &ListedKey| {
                Position::Id(listed.key.id.uuid())
            })
        })
    }
}

impl StrangerMailTx for MemoryTx {
    async fn has_verified_owner(&mut self) -> Result<bool, StoreError> {
        let rows = self.people("look for a verified owner")?;
        let is_verified =
            |user| (rows.users.get(&user)).is_some_and(|user| user.email_verified_at.is_some());
        let mut members = rows.members(self.scope.workspace());
        Ok(members.any(|(user, row)| row.role == Role::Owner && is_verified(user)))
    }

    async fn count_mail(
        &mut self,
        key: CounterKey,
        limit: u32,
        window: TimeDelta,
        now: DateTime<Utc>,
    ) -> Result<Attempt, StoreError> {
        let rows = self.people_to_change("count a mail")?;
        let open = rows.counters.get(&key).filter(|count| now < count.ends_at);
        let count = open.copied().unwrap_or(Count {
            used: 0,
            ends_at: now + window,
        });
        if count.used >= limit {
            let seconds = (count.ends_at - now).num_seconds();
            return Ok(Attempt::RetryAfter {
                seconds: u32::try_from(seconds).unwrap_or(1).max(1),
            });
        }
        let used = count.used + 1;
        rows.counters.insert(key, Count { used, ..count });
        Ok(Attempt::Allowed)
    }
}

impl PasswordAttempts for MemoryStore {
    async fn counts(&self, keys: &[CounterKey]) -> Result<Vec<Option<Count>>, StoreError> {
        self.look("read counters", |state| {
            let counters = &state.identity.counters;
            keys.iter().map(|key| counters.get(key).copied()).collect()
        })
    }

    async fn change<R: Send>(
        &self,
        keys: &[CounterKey],
        change: impl FnOnce(&mut [Option<Count>]) -> R + Send,
    ) -> Result<R, StoreError> {
        self.identity_statement("change counters", |rows| {
            let counts = keys.iter().map(|key| rows.counters.get(key).copied());
            let mut counts: Vec<_> = counts.collect();
            let result = change(&mut counts);
            for (key, count) in keys.iter().zip(counts) {
                match count {
                    Some(count) => rows.counters.insert(*key, count),
                    None => rows.counters.remove(key),
                };
            }
            result
        })
        .await
    }

    fn tell(&self, states: &[LimitState]) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|old| states.iter().all(|new| new.name != old.name));
        told.extend_from_slice(states);
    }
}

impl SigningKeys for MemoryStore {
    async fn signing_keys(&self) -> Result<Vec<SealedKey>, StoreError> {
        self.look("read signing keys", |state| {
            state.identity.signing_keys.clone()
        })
    }

    async fn insert_first_signing_key(&self, key: &SealedKey) -> Result<(), StoreError> {
        self.identity_statement("make a signing key", |rows| {
            if rows.signing_keys.is_empty() {
                rows.signing_keys.push(key.clone());
            }
        })
        .await
    }

    async fn rotate_signing_keys(
        &self,
        new: &SealedKey,
        retire_at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.identity_statement("rotate signing keys", |rows| {
            for key in &mut rows.signing_keys {
                key.retired_at.get_or_insert(retire_at);
            }
            rows.signing_keys.push(new.clone());
        })
        .await
    }
}

impl ProofRequests for MemoryStore {
    async fn insert_request(&self, request: &ProofRequest) -> Result<(), StoreError> {
        const OPERATION: &str = "write a request down";
        let row = (request.clone(), DateTime::<Utc>::UNIX_EPOCH);
        let inserted = self.identity_statement(OPERATION, |rows| {
            insert(&mut rows.proof_requests, request.id, row, OPERATION)
        });
        inserted.await?
    }

    async fn lease_requests(
        &self,
        n: u32,
        lease: TimeDelta,
    ) -> Result<Vec<ProofRequest>, StoreError> {
        let now = self.env.lease_now();
        self.identity_statement("lease requests", |rows| {
            let due = rows.proof_requests.values_mut();
            let due = due.filter(|(_, until)| *until <= now).take(n as usize);
            due.map(|(request, until)| {
                *until = now + lease;
                request.attempts += 1;
                request.clone()
            })
            .collect()
        })
        .await
    }

    async fn finish_request(&self, request: &ProofRequest) -> Result<(), StoreError> {
        self.identity_statement("finish a request", |rows| {
            rows.proof_requests
                .retain(|_, (row, _)| !is_same_lease(row, request));
        })
        .await
    }

    async fn retry_request(&self, request: &ProofRequest) -> Result<(), StoreError> {
        let at = self.env.lease_now() + backoff(request.attempts);
        self.identity_statement("retry a request", |rows| {
            let mut requests = rows.proof_requests.values_mut();
            if let Some((_, until)) = requests.find(|(row, _)| is_same_lease(row, request)) {
                *until = at;
            }
        })
        .await
    }
}

/// Whoever has lost their lease ends nothing.
fn is_same_lease(row: &ProofRequest, leased: &ProofRequest) -> bool {
    (row.id, row.attempts) == (leased.id, leased.attempts)
}

impl Proofs for MemoryStore {
    async fn insert_proof(&self, proof: &ProofRow, pace: ProofPace) -> Result<bool, StoreError> {
        const OPERATION: &str = "insert a proof";
        let inserted = self.identity_statement(OPERATION, |rows| {
            let alike = |row: &&ProofRow| (row.user, row.purpose) == (proof.user, proof.purpose);
            let later = |than| {
                let alike = rows.proofs.values().filter(alike);
                alike.filter(|row| row.created_at > than).count()
            };
            if later(pace.since) >= pace.at_most as usize && later(pace.newest_since) > 0 {
                return Ok(false);
            }
            required(rows.users.contains_key(&proof.user), OPERATION)?;
            insert(&mut rows.proofs, proof.id, proof.clone(), OPERATION)?;
            Ok(true)
        });
        inserted.await?
    }

    async fn proof(&self, id: ProofId) -> Result<Option<ProofRow>, StoreError> {
        self.look("read a proof", |state| {
            state.identity.proofs.get(&id).cloned()
        })
    }

    async fn spend_on_password(
        &self,
        proof: &ProofRow,
        password_hash: &PasswordHash,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        self.identity_statement("reset a password", |rows| {
            if !rows.spend(proof, |_| true) {
                return false;
            }
            if let Some(user) = rows.users.get_mut(&proof.user) {
                user.password_hash = password_hash.clone();
                user.session_epoch += 1;
                user.email_verified_at.get_or_insert(at);
            }
            true
        })
        .await
    }

    async fn spend_on_verification(
        &self,
        proof: &ProofRow,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        self.identity_statement("verify an address", |rows| {
            if !rows.spend(proof, |other| other.purpose == proof.purpose) {
                return false;
            }
            if let Some(user) = rows.users.get_mut(&proof.user) {
                user.email_verified_at.get_or_insert(at);
            }
            true
        })
        .await
    }
}
