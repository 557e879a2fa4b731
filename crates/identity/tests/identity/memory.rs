//! An installation in memory, with a clock that the test moves.

use std::net::{IpAddr, Ipv4Addr};

use chrono::{DateTime, Utc};
use rawdrive_identity::ports::*;
use rawdrive_identity::{
    ClaimedPassword, Currency, EmailAddress, HashCost, HashWaiting, Keyring, MasterKey, NewAccount,
    Password, PasswordHash, PasswordHasher, PersonName, SignedIn, TokenIssuer, TokenPepper,
    WorkspaceName, load_keyring, meet_network, sign_up,
};
use rawdrive_plans::PlansTx as _;
use rawdrive_tenancy_core::audit::Entry;
use rawdrive_tenancy_core::id::{UserId, WorkspaceId};
use rawdrive_tenancy_core::{Commit as _, Env, Role};
use rawdrive_testkit::{MembershipRow, MemoryStore, MemoryTx, TestEnv, plan, scope};
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

pub(crate) struct World {
    pub(crate) store: MemoryStore,
    pub(crate) clock: TestEnv,
    pub(crate) env: Env,
    pub(crate) hasher: PasswordHasher,
    pub(crate) issuer: TokenIssuer,
}

impl World {
    pub(crate) async fn new() -> Self {
        let clock = TestEnv::seeded(1);
        let env = clock.env().clone();
        let store = MemoryStore::new(env.clone());
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

    pub(crate) async fn begin(&self, workspace: WorkspaceId) -> MemoryTx {
        begin(&self.store, workspace).await
    }

    pub(crate) async fn sign_up(&self, email: &str) -> SignedIn {
        let hash = self
            .hasher
            .hash(&new_password(PASSWORD), &self.env, CLIENT)
            .await
            .expect("a hash");
        let mut tx = self.begin(self.env.id()).await;
        let done = sign_up(&mut tx, &self.env, &self.issuer, new_account(email), hash).await;
        let done = done.expect("signed up");
        tx.start_plan().await;
        tx.commit().await.expect("committed");
        meet_network(&self.store, &self.env, &done.person.email, CLIENT)
            .await
            .expect("noted");
        done
    }

    /// Somebody who is a member of the workspace, and has never signed in.
    pub(crate) async fn member(&self, workspace: WorkspaceId, role: Role) -> UserId {
        let id: UserId = self.env.id();
        let user = User {
            id,
            email: email(&format!("{id}@example.com")),
            name: PersonName::parse("Somebody").expect("a name"),
            password_hash: PasswordHash::from_stored(String::new()),
            session_epoch: 0,
            created_at: self.env.now(),
            email_verified_at: None,
        };
        let mut tx = self.begin(workspace).await;
        tx.insert_user(&user).await.expect("inserted");
        let joined = tx.insert_membership(id, role, self.env.now()).await;
        joined.expect("inserted");
        tx.commit().await.expect("committed");
        id
    }

    /// Gives a user a role in a workspace, or takes it.
    pub(crate) async fn set_membership(
        &self,
        workspace: WorkspaceId,
        user: UserId,
        role: Option<Role>,
    ) {
        let joined_at = self.env.now();
        let edited = self.store.edit_identity(|rows| {
            let key = (workspace, user);
            match role {
                Some(role) => rows
                    .memberships
                    .insert(key, MembershipRow { role, joined_at }),
                None => rows.memberships.remove(&key),
            }
        });
        edited.await;
    }

    /// Makes a user a member of one more workspace.
    pub(crate) async fn join(&self, user: UserId, name: &str, at: DateTime<Utc>) -> WorkspaceId {
        let id = self.env.id();
        let mut tx = self.begin(id).await;
        let row = NewWorkspace {
            slug: String::new(),
            name: WorkspaceName::parse(name).expect("a name"),
            billing_email: None,
            currency: Currency::parse("usd").expect("a currency"),
            created_at: at,
        };
        tx.insert_workspace(&row).await.expect("inserted");
        tx.start_plan().await;
        tx.insert_membership(user, Role::Member, at)
            .await
            .expect("inserted");
        tx.commit().await.expect("committed");
        id
    }

    /// What was audited in the workspace, oldest first.
    pub(crate) fn audit(&self, workspace: WorkspaceId) -> Vec<Entry> {
        self.store.rows(&scope(workspace)).audit.clone()
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
    TestEnv::seeded(1).env().now()
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

pub(crate) async fn begin(store: &MemoryStore, workspace: WorkspaceId) -> MemoryTx {
    store.begin_despite_read_only(&scope(workspace)).await
}

/// Puts a workspace that is being made on a plan without limits.
trait StartPlan {
    async fn start_plan(&mut self);
}

impl StartPlan for MemoryTx {
    async fn start_plan(&mut self) {
        let started = self.insert_entitlements(&plan(&[])).await;
        started.expect("inserted");
    }
}
