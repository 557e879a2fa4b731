//! The ports in memory: a transaction is a copy, a commit puts it back.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard};

use chrono::{DateTime, Utc};
use rawdrive_identity::ports::*;
use rawdrive_identity::{
    AccessClaims, ApiKeyRow, ClaimedPassword, Count, Currency, EmailAddress, HashCost, HashWaiting,
    Keyring, LimitState, MasterKey, NewAccount, Password, PasswordHasher, PersonName, ProofPurpose,
    ProofRequest, ProofRow, SealedKey, SignedIn, TokenIssuer, TokenPepper, WorkspaceName,
    load_keyring, meet_network, sign_up,
};
use rawdrive_tenancy_core::audit::{AuditTx, Change};
use rawdrive_tenancy_core::env::{Env, ManualClock, SystemEntropy};
use rawdrive_tenancy_core::id::{
    ApiKeyId, ProofId, RefreshId, SessionId, TypedId, UserId, WorkspaceId,
};
use rawdrive_tenancy_core::{Membership, Role, StoreError};
use secrecy::ExposeSecret;

pub(crate) const ISSUER: &str = "https://photos.example";
pub(crate) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
pub(crate) const WAITING: HashWaiting = HashWaiting {
    per_network: 64,
    in_total: 64,
};

pub(crate) fn pepper() -> TokenPepper {
    TokenPepper::new(&[7; 32])
}

#[derive(Clone)]
pub(crate) struct Workspace {
    pub(crate) row: NewWorkspace,
    pub(crate) status: WorkspaceStatus,
}

#[derive(Clone)]
struct Session {
    row: NewSession,
    workspace: WorkspaceId,
    revoked: bool,
}

#[derive(Clone)]
struct Refresh {
    row: NewRefresh,
    workspace: WorkspaceId,
    used_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Default)]
pub(crate) struct State {
    pub(crate) users: BTreeMap<UserId, User>,
    last_workspace: BTreeMap<UserId, WorkspaceId>,
    pub(crate) workspaces: BTreeMap<WorkspaceId, Workspace>,
    pub(crate) memberships: BTreeMap<(WorkspaceId, UserId), (Role, DateTime<Utc>)>,
    sessions: BTreeMap<SessionId, Session>,
    refreshes: BTreeMap<RefreshId, Refresh>,
    pub(crate) attempts: BTreeMap<CounterKey, Count>,
    pub(crate) told: Vec<LimitState>,
    pub(crate) keys: Vec<SealedKey>,
    pub(crate) api_keys: BTreeMap<(WorkspaceId, ApiKeyId), (ApiKeyRow, String)>,
    pub(crate) proof_requests: Vec<ProofRequest>,
    pub(crate) proofs: BTreeMap<ProofId, ProofRow>,
    pub(crate) audit: Vec<Change>,
}

#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<State>>);

impl Memory {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0
            .lock()
            .expect("no test panics while it holds the state")
    }

    pub(crate) fn begin(&self, workspace: WorkspaceId) -> Tx {
        Tx {
            workspace,
            state: self.state().clone(),
            store: self.clone(),
            refresh_was_taken: false,
        }
    }

    /// Gives a user a role in a workspace, or takes it.
    pub(crate) fn set_membership(
        &self,
        workspace: WorkspaceId,
        user: UserId,
        role: Option<Role>,
        at: DateTime<Utc>,
    ) {
        let memberships = &mut self.state().memberships;
        match role {
            Some(role) => memberships.insert((workspace, user), (role, at)),
            None => memberships.remove(&(workspace, user)),
        };
    }

    /// Makes a user a member of one more workspace.
    pub(crate) async fn join(&self, user: UserId, name: &str, at: DateTime<Utc>) -> WorkspaceId {
        let id = WorkspaceId::from_uuid(Env::system().uuid());
        let mut tx = self.begin(id);
        let name = WorkspaceName::parse(name).expect("a name");
        let currency = Currency::parse("usd").expect("a currency");
        let row = NewWorkspace {
            slug: String::new(),
            name,
            billing_email: None,
            currency,
            created_at: at,
        };
        tx.insert_workspace(&row).await.expect("inserted");
        tx.insert_membership(user, Role::Member, at)
            .await
            .expect("inserted");
        tx.commit();
        id
    }
}

pub(crate) struct Tx {
    pub(crate) workspace: WorkspaceId,
    pub(crate) state: State,
    store: Memory,
    /// Another transaction exchanges the same token between our read and our write.
    pub(crate) refresh_was_taken: bool,
}

impl Tx {
    pub(crate) fn commit(self) {
        *self.store.state() = self.state;
    }
}

impl AuditTx for Tx {
    fn record(&mut self, change: Change) {
        self.state.audit.push(change);
    }
}

impl IdentityTx for Tx {
    fn workspace(&self) -> WorkspaceId {
        self.workspace
    }

    async fn insert_user(&mut self, user: &User) -> Result<(), InsertUserError> {
        if self
            .state
            .users
            .values()
            .any(|u| u.email.folded() == user.email.folded())
        {
            return Err(InsertUserError::EmailTaken);
        }
        self.state.users.insert(user.id, user.clone());
        Ok(())
    }

    async fn insert_workspace(&mut self, workspace: &NewWorkspace) -> Result<(), StoreError> {
        let row = Workspace {
            row: workspace.clone(),
            status: WorkspaceStatus::Active,
        };
        self.state.workspaces.insert(self.workspace, row);
        Ok(())
    }

    async fn insert_membership(
        &mut self,
        user: UserId,
        role: Role,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.state
            .memberships
            .insert((self.workspace, user), (role, at));
        Ok(())
    }

    async fn membership(&mut self, user: UserId) -> Result<Option<Role>, StoreError> {
        Ok(self
            .state
            .memberships
            .get(&(self.workspace, user))
            .map(|m| m.0))
    }

    async fn user(&mut self, user: UserId) -> Result<Option<User>, StoreError> {
        Ok(self.state.users.get(&user).cloned())
    }

    async fn update_user(&mut self, user: UserId, update: &UserUpdate) -> Result<(), StoreError> {
        let user = self
            .state
            .users
            .get_mut(&user)
            .ok_or(StoreError::Dangling {
                operation: "update",
            })?;
        if let Some(name) = &update.name {
            user.name = name.clone();
        }
        if let Some(hash) = &update.password_hash {
            user.password_hash = hash.clone();
        }
        Ok(())
    }

    async fn bump_session_epoch(&mut self, user: UserId) -> Result<u32, StoreError> {
        let user = self
            .state
            .users
            .get_mut(&user)
            .ok_or(StoreError::Dangling { operation: "bump" })?;
        user.session_epoch += 1;
        let id = user.id;
        let is_reset =
            |row: &ProofRow| row.user == id && row.purpose == ProofPurpose::PasswordReset;
        self.state.proofs.retain(|_, row| !is_reset(row));
        Ok(self.state.users[&id].session_epoch)
    }

    async fn note_last_workspace(&mut self, user: UserId) -> Result<(), StoreError> {
        self.state.last_workspace.insert(user, self.workspace);
        Ok(())
    }

    async fn insert_session(&mut self, session: &NewSession) -> Result<(), StoreError> {
        let row = Session {
            row: *session,
            workspace: self.workspace,
            revoked: false,
        };
        self.state.sessions.insert(session.id, row);
        Ok(())
    }

    async fn restamp_session(&mut self, session: SessionId, epoch: u32) -> Result<(), StoreError> {
        let workspace = self.workspace;
        if let Some(found) = self
            .state
            .sessions
            .get_mut(&session)
            .filter(|s| s.workspace == workspace)
        {
            found.row.epoch = epoch;
        }
        Ok(())
    }

    async fn revoke_session(
        &mut self,
        session: SessionId,
        _: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let workspace = self.workspace;
        if let Some(found) = self
            .state
            .sessions
            .get_mut(&session)
            .filter(|s| s.workspace == workspace)
        {
            found.revoked = true;
        }
        Ok(())
    }

    async fn insert_refresh(&mut self, refresh: &NewRefresh) -> Result<(), StoreError> {
        let row = Refresh {
            row: *refresh,
            workspace: self.workspace,
            used_at: None,
        };
        self.state.refreshes.insert(refresh.id, row);
        Ok(())
    }

    async fn refresh(&mut self, id: RefreshId) -> Result<Option<RefreshRow>, StoreError> {
        let workspace = self.workspace;
        let found = self
            .state
            .refreshes
            .get(&id)
            .filter(|r| r.workspace == workspace);
        Ok(found.map(|refresh| {
            let session = &self.state.sessions[&refresh.row.session];
            let user = session.row.user;
            RefreshRow {
                id,
                secret_hash: refresh.row.secret_hash,
                expires_at: refresh.row.expires_at,
                used_at: refresh.used_at,
                session: session.row.id,
                session_revoked: session.revoked,
                session_expires_at: session.row.expires_at,
                session_epoch: session.row.epoch,
                user,
                user_epoch: self.state.users[&user].session_epoch,
                role: self.state.memberships.get(&(workspace, user)).map(|m| m.0),
                workspace_status: self.state.workspaces[&workspace].status,
            }
        }))
    }

    async fn mark_refresh_used(
        &mut self,
        id: RefreshId,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let row = self
            .state
            .refreshes
            .get_mut(&id)
            .ok_or(StoreError::Dangling { operation: "mark" })?;
        if row.used_at.is_some() || self.refresh_was_taken {
            return Ok(false);
        }
        row.used_at = Some(at);
        Ok(true)
    }
}

impl IdentityRead for Memory {
    async fn user_by_email(&self, folded: &str) -> Result<Option<User>, StoreError> {
        Ok(self
            .state()
            .users
            .values()
            .find(|u| u.email.folded() == folded)
            .cloned())
    }

    async fn user(&self, user: UserId) -> Result<Option<User>, StoreError> {
        Ok(self.state().users.get(&user).cloned())
    }

    async fn workspaces_of(&self, user: UserId) -> Result<Vec<Belonging>, StoreError> {
        let state = self.state();
        let last = state.last_workspace.get(&user).copied();
        let mut found: Vec<_> = state
            .memberships
            .iter()
            .filter(|((_, u), _)| *u == user)
            .collect();
        found.sort_by_key(|((workspace, _), (_, at))| (Some(*workspace) != last, *at));
        let belonging =
            |(&(workspace, _), &(role, _)): (&(WorkspaceId, UserId), &(Role, DateTime<Utc>))| {
                let Workspace { row, status } = &state.workspaces[&workspace];
                Belonging {
                    workspace,
                    name: row.name.clone(),
                    role,
                    status: *status,
                }
            };
        Ok(found.into_iter().map(belonging).collect())
    }

    async fn authenticate(
        &self,
        claims: &AccessClaims,
    ) -> Result<Option<Authenticated>, StoreError> {
        let state = self.state();
        let AccessClaims {
            user,
            workspace,
            session,
            ..
        } = *claims;
        let epoch = state.users.get(&user).map(|u| u.session_epoch);
        let session = state.sessions.get(&session).filter(|s| {
            s.workspace == workspace
                && s.row.user == user
                && !s.revoked
                && Some(s.row.epoch) == epoch
        });
        let role = state.memberships.get(&(workspace, user)).map(|m| m.0);
        Ok(session.zip(role).map(|(session, role)| Authenticated {
            membership: attest(workspace, user, role, session.row.id),
            workspace_status: state.workspaces[&workspace].status,
            session_epoch: session.row.epoch,
        }))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the store that has just read the membership"
)]
fn attest(workspace: WorkspaceId, user: UserId, role: Role, session: SessionId) -> Membership {
    Membership::attest(workspace, user, role, session)
}

impl PasswordAttempts for Memory {
    async fn counts(&self, keys: &[CounterKey]) -> Result<Vec<Option<Count>>, StoreError> {
        let state = self.state();
        Ok(keys
            .iter()
            .map(|key| state.attempts.get(key).copied())
            .collect())
    }

    async fn change<R: Send>(
        &self,
        keys: &[CounterKey],
        change: impl FnOnce(&mut [Option<Count>]) -> R + Send,
    ) -> Result<R, StoreError> {
        let mut state = self.state();
        let mut counts: Vec<_> = keys
            .iter()
            .map(|key| state.attempts.get(key).copied())
            .collect();
        let result = change(&mut counts);
        for (key, count) in keys.iter().zip(counts) {
            match count {
                Some(count) => state.attempts.insert(*key, count),
                None => state.attempts.remove(key),
            };
        }
        Ok(result)
    }

    fn tell(&self, states: &[LimitState]) {
        let told = &mut self.state().told;
        told.retain(|old| states.iter().all(|new| new.name != old.name));
        told.extend_from_slice(states);
    }
}

impl SigningKeys for Memory {
    async fn signing_keys(&self) -> Result<Vec<SealedKey>, StoreError> {
        Ok(self.state().keys.clone())
    }

    async fn insert_first_signing_key(&self, key: &SealedKey) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.keys.is_empty() {
            state.keys.push(key.clone());
        }
        Ok(())
    }

    async fn rotate_signing_keys(
        &self,
        new: &SealedKey,
        retire_at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut state = self.state();
        for key in &mut state.keys {
            key.retired_at.get_or_insert(retire_at);
        }
        state.keys.push(new.clone());
        Ok(())
    }
}

/// An installation with a clock that the test moves.
pub(crate) struct World {
    pub(crate) store: Memory,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) env: Env,
    pub(crate) hasher: PasswordHasher,
    pub(crate) issuer: TokenIssuer,
}

impl World {
    pub(crate) async fn new() -> Self {
        let clock = Arc::new(ManualClock::at(start()));
        let env = Env::new(clock.clone(), clock.clone(), Arc::new(SystemEntropy));
        let store = Memory::default();
        let keyring: Keyring = load_keyring(&store, &env, &master())
            .await
            .expect("a keyring");
        let hasher = PasswordHasher::new(HashCost::LEAST, 2, WAITING).expect("a cost");
        Self {
            store,
            clock,
            env,
            hasher,
            issuer: TokenIssuer::new(keyring, ISSUER.into()),
        }
    }

    pub(crate) async fn sign_up(&self, email: &str) -> SignedIn {
        let workspace: WorkspaceId = self.env.id();
        let hash = self
            .hasher
            .hash(&new_password(PASSWORD), &self.env, CLIENT)
            .await
            .expect("a hash");
        let mut tx = self.store.begin(workspace);
        let done = sign_up(&mut tx, &self.env, &self.issuer, new_account(email), hash).await;
        let done = done.expect("signed up");
        tx.commit();
        meet_network(&self.store, &self.env, &done.person.email, CLIENT)
            .await
            .expect("noted");
        done
    }

    /// The membership behind an access token, if it holds.
    pub(crate) async fn authenticate(&self, signed_in: &SignedIn) -> Option<Authenticated> {
        let claims = self
            .issuer
            .verify(&self.env, signed_in.tokens.access.expose_secret())
            .ok()?;
        self.store.authenticate(&claims).await.expect("an answer")
    }
}

pub(crate) const PASSWORD: &str = "correct horse";

pub(crate) fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).expect("a time")
}

pub(crate) fn master() -> MasterKey {
    MasterKey::new("thirty-two bytes at the very least").expect("long enough")
}

pub(crate) fn email(text: &str) -> EmailAddress {
    EmailAddress::parse(text).expect("an address")
}

pub(crate) fn new_password(text: &str) -> Password {
    Password::parse(text).expect("a password")
}

pub(crate) fn claimed(text: &str) -> ClaimedPassword {
    ClaimedPassword::parse(text).expect("a password")
}

pub(crate) fn new_account(address: &str) -> NewAccount {
    NewAccount {
        email: email(address),
        name: PersonName::parse("Ana").expect("a name"),
        workspace_name: WorkspaceName::parse("Ana's Studio").expect("a name"),
        currency: Currency::parse("EUR").expect("a currency"),
    }
}
