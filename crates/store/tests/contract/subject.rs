//! The store on a database that goes with it.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test binary uses some of it"
)]

use chrono::TimeDelta;
use rawdrive_identity::ports::{IdentityTx, NewWorkspace, User};
use rawdrive_identity::{Currency, EmailAddress, PasswordHash, PersonName, WorkspaceName};
use rawdrive_plans::{BeginError, Catalogue, Plan, PlansTx, UnitOfWork};
use rawdrive_store::extension::{Extension, column};
use rawdrive_store::{AuditFilter, Reader, Release, Store, WriteTx};
use rawdrive_tenancy_core::audit::{Entry, Hash};
use rawdrive_tenancy_core::id::UserId;
use rawdrive_tenancy_core::job::Job;
use rawdrive_tenancy_core::page::PageRequest;
use rawdrive_tenancy_core::{Commit, Env, Role, StoreError, WorkspaceScope};
use rawdrive_testkit::contract::{Stage, Subject};
use rawdrive_testkit::{TestEnv, scope};
use rawdrive_usage::{LedgerEntry, LineFilter, UsageRead};
use uuid::Uuid;

use crate::support::{Database, Engine};

/// Somebody with this role in the transaction's workspace.
pub(crate) async fn member(tx: &mut WriteTx, env: &Env, role: Role) -> UserId {
    let (id, now) = (env.id::<UserId>(), env.now());
    let user = User {
        id,
        email: EmailAddress::parse(&format!("{id}@example.com")).expect("an address"),
        name: PersonName::parse("Somebody").expect("a name"),
        password_hash: PasswordHash::from_stored(String::new()),
        session_epoch: 0,
        created_at: now,
        email_verified_at: None,
    };
    tx.insert_user(&user).await.expect("nobody has the address");
    let joined = tx.insert_membership(id, role, now).await;
    joined.expect("they are no member yet");
    id
}

/// More than any test writes.
const ALL: PageRequest = PageRequest {
    limit: 200,
    after: None,
};

pub(crate) struct Opened {
    pub(crate) store: Store,
    database: Option<Database>,
}

impl Opened {
    /// A store on a database that somebody else keeps.
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            database: None,
        }
    }

    /// The database that goes with the store.
    pub(crate) fn database(&self) -> &Database {
        self.database.as_ref().expect("it is kept here")
    }
}

/// Opens a store on a fresh database.
pub(crate) async fn open(engine: Engine, test_env: &TestEnv, catalogue: &Catalogue) -> Opened {
    let database = Database::new(engine).await;
    let store = database.open(test_env.env().clone(), catalogue).await;
    Opened {
        store,
        database: Some(database),
    }
}

/// As [`open`], with extensions.
pub(crate) async fn open_with(
    engine: Engine,
    test_env: &TestEnv,
    catalogue: &Catalogue,
    extensions: &[Extension],
) -> Opened {
    let database = Database::new(engine).await;
    let env = test_env.env().clone();
    let store = database.open_with(env, catalogue, extensions).await;
    Opened {
        store,
        database: Some(database),
    }
}

pub(crate) async fn sqlite(test_env: &TestEnv, catalogue: &Catalogue) -> Opened {
    open(Engine::Sqlite, test_env, catalogue).await
}

pub(crate) async fn postgres(test_env: &TestEnv, catalogue: &Catalogue) -> Opened {
    open(Engine::Postgres, test_env, catalogue).await
}

pub(crate) async fn pgbouncer(test_env: &TestEnv, catalogue: &Catalogue) -> Opened {
    open(Engine::PgBouncer, test_env, catalogue).await
}

/// A stage on a fresh database.
pub(crate) async fn stage(engine: Engine) -> Stage<Opened> {
    Stage::set(async |test_env, catalogue| open(engine, test_env, catalogue).await).await
}

impl UnitOfWork for Opened {
    type Tx = WriteTx;

    async fn begin(&self, scope: &WorkspaceScope) -> Result<WriteTx, BeginError> {
        self.store.begin(scope).await
    }

    async fn begin_release(&self, scope: &WorkspaceScope) -> Result<WriteTx, StoreError> {
        UnitOfWork::begin_release(&self.store, scope).await
    }
}

impl Subject for Opened {
    type Read = Reader;
    type Installation = Store;

    fn read(&self, scope: &WorkspaceScope) -> Reader {
        self.store.read(scope)
    }

    fn installation(&self) -> &Store {
        &self.store
    }

    async fn workspace(&self, plan: &Plan) -> WorkspaceScope {
        let env = self.store.env();
        let scope = scope(env.id());
        let begun = self.store.begin_despite_read_only(&scope, Release::System);
        let mut tx = begun.await.unwrap();
        let workspace = NewWorkspace {
            name: WorkspaceName::parse("Studio").unwrap(),
            slug: "studio".to_owned(),
            billing_email: None,
            currency: Currency::parse("usd").unwrap(),
            created_at: env.now(),
        };
        tx.insert_workspace(&workspace).await.unwrap();
        tx.insert_entitlements(plan).await.unwrap();
        tx.commit().await.unwrap();
        scope
    }

    async fn due_jobs(&self, scope: &WorkspaceScope) -> Vec<Job> {
        // A lease of no time leaves the jobs as they are.
        let leased = self.store.lease_jobs(10_000, TimeDelta::zero()).await;
        let jobs = leased.unwrap().into_iter();
        jobs.filter(|job| job.workspace == scope.workspace())
            .map(|job| job.job)
            .collect()
    }

    async fn ledger(&self, scope: &WorkspaceScope) -> Vec<LedgerEntry> {
        let reader = self.store.read(scope);
        let page = reader
            .find_lines(&LineFilter::default(), ALL)
            .await
            .unwrap();
        page.items.into_iter().rev().collect()
    }

    async fn audit(&self, scope: &WorkspaceScope) -> (Vec<Entry>, (u64, Hash)) {
        let reader = self.store.read(scope);
        let page = reader.audit(ALL, &AuditFilter::default()).await.unwrap();
        let head = reader.audit_head().await.unwrap();
        (page.items.into_iter().rev().collect(), head)
    }

    async fn insert_note(tx: &mut WriteTx, id: Uuid, text: &str) -> Result<(), StoreError> {
        const INSERT: &str = "INSERT INTO memos (workspace_id, id, text) VALUES ($1, $2, $3)";
        let values = [id.into(), text.into()];
        tx.execute("insert a note", INSERT, values).await.map(drop)
    }

    async fn change_note(tx: &mut WriteTx, id: Uuid, text: &str) -> Result<bool, StoreError> {
        const CHANGE: &str = "UPDATE memos SET text = $3 WHERE workspace_id = $1 AND id = $2";
        let values = [id.into(), text.into()];
        Ok(tx.execute("change a note", CHANGE, values).await? == 1)
    }

    async fn note(tx: &mut WriteTx, id: Uuid) -> Result<Option<String>, StoreError> {
        const READ: &str = "SELECT text FROM memos WHERE workspace_id = $1 AND id = $2";
        let rows = tx.query("read a note", READ, [id.into()]).await?;
        rows.first().map(|row| column(row, "text")).transpose()
    }

    async fn discrepancies(&self, scope: &WorkspaceScope) -> Vec<String> {
        // The others speak of members and of photos, which these tests do without.
        const OF_COUNTERS: [&str; 5] = [
            "used_equals_ledger",
            "reserved_equals_holds",
            "ledger_without_gaps",
            "ledger_chain",
            "sums_equal_ledger",
        ];
        let snapshot = self.store.snapshot().await.unwrap();
        let findings = snapshot.check(scope).await.unwrap().into_iter();
        findings
            .filter(|finding| OF_COUNTERS.contains(&finding.invariant))
            .map(|finding| finding.detail)
            .collect()
    }
}
