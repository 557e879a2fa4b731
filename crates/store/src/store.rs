//! Opening the database, and the two handles.

use std::any::{Any, TypeId};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use rawdrive_migrations::{
    Extension, ExtensionError, MigrateError, Place, Problem, check_declarations,
};
use rawdrive_plans::{
    Access, BeginError, Catalogue, Contradiction, Entitlements, Metrics, Plan, Slug, UnitOfWork,
};
use rawdrive_tenancy_core::{Commit, Env, StoreError, WorkspaceScope};
use rawdrive_usage::{LiveRow, LiveUsage, Pending, PendingMark};
use sea_orm::sea_query::{LockType, OnConflict};
use sea_orm::{ConnectionTrait, EntityTrait, QueryOrder, QuerySelect, Set};
use tokio::sync::Notify;

use crate::connection::{Conn, Database, Tx};
use crate::entity::plan_versions;
use crate::reach::Reach;
use crate::scope::{corrupt, execute, failed, global, global_insert};
use crate::statement_check::{About, Statements};
use crate::url::{Backend, Url};

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database does not open or does not take the schema.
    #[error("failed to open the database")]
    Database(#[source] sea_orm::DbErr),
    /// The server is too old.
    #[error("the database is PostgreSQL {found}; {wanted} or newer is needed")]
    TooOld {
        /// Its version.
        found: String,
        /// The oldest that will do.
        wanted: u32,
    },
    /// Row-level security would not bind the server.
    #[error(
        "the role `{role}` is a superuser or has BYPASSRLS, so that row-level security does not bind it: let the \
         server connect as a role that is neither"
    )]
    Unbound {
        /// The role that the URL names.
        role: String,
    },
    /// The schema is older than this release.
    #[error(
        "the schema lacks {}: run `rawdrive migrate` with the URL of the role that owns it",
        .missing.join(", ")
    )]
    Behind {
        /// The migrations that have not run.
        missing: Vec<String>,
    },
    /// The schema is to be changed by a role that may not.
    #[error(
        "the role `{role}` may not change the schema: run `rawdrive migrate` with the URL of the role that owns it \
         in DATABASE_OWNER_URL"
    )]
    NotOwner {
        /// The role that the URL names.
        role: String,
    },
    /// The catalogue contradicts what was published.
    #[error(
        "plan `{slug}` version {version} was published with {contradiction}: a published version never changes, \
         add version {} instead",
        version + 1
    )]
    PlanChanged {
        /// The plan.
        slug: Slug,
        /// Its version.
        version: u32,
        /// What the two say differently.
        contradiction: Contradiction,
    },
    /// An extension is not right, or the database refuses it.
    #[error(transparent)]
    Extension(#[from] ExtensionError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<MigrateError> for OpenError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Database(error) => Self::Database(error),
            MigrateError::Extension(error) => Self::Extension(error),
        }
    }
}

pub(crate) struct Inner {
    pub(crate) database: Arc<Database>,
    backend: Backend,
    pub(crate) env: Env,
    plans: RwLock<HashMap<(Slug, u32), Arc<Plan>>>,
    /// What the catalogue declares.
    pub(crate) metrics: Arc<Metrics>,
    /// The plans that can be had today.
    pub(crate) plans_today: Arc<[Arc<Plan>]>,
    /// A lane of jobs waits for its kind.
    lanes: Mutex<HashMap<String, Arc<Notify>>>,
    pub(crate) requests: Notify,
    /// See [`Store::shared`].
    shared: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
    /// Where usage is cached, if anywhere.
    pub(crate) live: OnceLock<LiveUsage>,
    billing: Notify,
    pub(crate) extensions: Arc<[Extension]>,
    /// The statements of extensions that were read.
    pub(crate) statements: Statements,
}

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Store(pub(crate) Arc<Inner>);

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// Why a write may begin although the workspace takes no writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// Something is deleted or given back.
    Freeing,
    /// As [`Self::Freeing`], of something whose being there others may count on: it waits for writes under way.
    Emptying,
    /// Sessions and people's own accounts.
    Identity,
    /// What has happened already is recorded.
    Metering,
    /// Billing goes on, or the workspace could never become writable again. It may change the entitlements.
    Billing,
    /// An operator or the job runner acts.
    System,
}

impl Store {
    /// Opens the database and publishes the catalogue's new plan versions. A SQLite file's schema is brought up
    /// to date first, the core's and then the extensions'; PostgreSQL's must be ([`Store::migrate`]), since the server's
    /// role owns nothing.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(
        url: &Url,
        env: Env,
        catalogue: &Catalogue,
        extensions: &[Extension],
    ) -> Result<Self, OpenError> {
        let statements = declared(extensions)?;
        let database = Database::connect(&url.0, extensions).await?;
        let store = Self(Arc::new(Inner {
            database: Arc::new(database),
            backend: url.backend(),
            env,
            plans: RwLock::default(),
            metrics: catalogue.declared().clone(),
            plans_today: catalogue.current().cloned().collect(),
            lanes: Mutex::default(),
            requests: Notify::new(),
            shared: Mutex::default(),
            live: OnceLock::new(),
            billing: Notify::new(),
            extensions: extensions.into(),
            statements,
        }));
        store.require_fit_database().await?;
        store.publish(catalogue).await?;
        Ok(store)
    }

    /// Which kind of database it is.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.0.backend
    }

    async fn publish(&self, catalogue: &Catalogue) -> Result<(), OpenError> {
        let tx = self.begin_in(Reach::Installation, "publish plans").await?;
        for plan in catalogue.versions() {
            let row = plan_versions::ActiveModel {
                slug: Set(plan.slug.to_string()),
                version: Set(i64::from(plan.version)),
                definition: Set(plan.canonical()),
                digest: Set(plan.digest()),
                published_at: Set(self.0.env.now()),
            };
            // Other servers may be publishing the same.
            let known = [plan_versions::Column::Slug, plan_versions::Column::Version];
            global_insert(row)
                .on_conflict(OnConflict::columns(known).do_nothing().to_owned())
                .exec_without_returning(&tx)
                .await
                .map_err(failed("publish a plan"))?;
        }
        // Locked: of two servers that add prices neither loses the other's.
        let published = global::<plan_versions::Entity>()
            .order_by_asc(plan_versions::Column::Slug)
            .order_by_asc(plan_versions::Column::Version)
            .lock(LockType::NoKeyUpdate)
            .all(&tx)
            .await
            .map_err(failed("read plans"))?;
        for row in published {
            let known = definition(&row)?;
            let ours = catalogue.versions().iter();
            let mut ours = ours.filter(|p| (&p.slug, p.version) == (&known.slug, known.version));
            let Some(plan) = ours.next() else { continue };
            let amended = known.amended(plan);
            let amended = amended.map_err(|contradiction| OpenError::PlanChanged {
                slug: plan.slug.clone(),
                version: plan.version,
                contradiction,
            })?;
            if amended != known {
                Self::amend(&tx, row, &amended).await?;
            }
        }
        tx.commit().await.map_err(failed("publish plans"))?;
        self.load_plans(&self.reads(Reach::Installation)).await?;
        Ok(())
    }

    async fn amend(
        tx: &impl ConnectionTrait,
        row: plan_versions::Model,
        amended: &Plan,
    ) -> Result<(), StoreError> {
        const AMEND: &str = "UPDATE plan_versions SET definition = $1, digest = $2 WHERE slug = $3 AND version = $4";
        let values = [
            amended.canonical().into(),
            amended.digest().into(),
            row.slug.into(),
            row.version.into(),
        ];
        execute(tx, "add prices to a plan", AMEND, values).await?;
        Ok(())
    }

    async fn load_plans(&self, on: &impl ConnectionTrait) -> Result<(), StoreError> {
        let rows = global::<plan_versions::Entity>()
            .all(on)
            .await
            .map_err(failed("read plans"))?;
        let mut plans = HashMap::new();
        for row in rows {
            let plan = definition(&row)?;
            plans.insert((plan.slug.clone(), plan.version), Arc::new(plan));
        }
        *self.0.plans.write().unwrap_or_else(PoisonError::into_inner) = plans;
        Ok(())
    }

    /// A published plan version; another process may have published it since this one started. An unknown
    /// one is an error that stops, never a silent "free".
    pub(crate) async fn plan(
        &self,
        slug: &str,
        version: i64,
        on: &impl ConnectionTrait,
    ) -> Result<Arc<Plan>, StoreError> {
        let unknown = || {
            corrupt(
                "standings",
                "plan_slug",
                slug,
                format!("no version {version} was published"),
            )
        };
        let key = (
            slug.parse().map_err(|_| unknown())?,
            u32::try_from(version).map_err(|_| unknown())?,
        );
        let find = || {
            self.0
                .plans
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&key)
                .cloned()
        };
        if let Some(plan) = find() {
            return Ok(plan);
        }
        self.load_plans(on).await?;
        find().ok_or_else(unknown)
    }

    /// Begins a write in the scope's workspace. Dropping the handle rolls back.
    ///
    /// # Errors
    /// The workspace is read-only, or the database does not answer.
    pub async fn begin(&self, scope: &WorkspaceScope) -> Result<WriteTx, BeginError> {
        let mut tx = self
            .begin_despite_read_only(scope, Release::Freeing)
            .await?;
        let entitlements = tx.load_entitlements().await?;
        match entitlements.access(self.0.env.now()) {
            Access::ReadOnly(read_only) => Err(BeginError::ReadOnly(read_only)),
            Access::Full | Access::Grace { .. } => Ok(tx),
        }
    }

    /// Begins a write that is right also while the workspace takes no writes.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn begin_despite_read_only(
        &self,
        scope: &WorkspaceScope,
        reason: Release,
    ) -> Result<WriteTx, StoreError> {
        let tx = self.begin_in(Reach::of(scope), "begin").await?;
        Ok(WriteTx {
            tx,
            store: self.clone(),
            scope: *scope,
            entitlements: None,
            entitlements_lock: match reason {
                // These change it, or what hangs on it. Two that both held it shared, to change it then, would
                // wait for each other.
                Release::System | Release::Billing | Release::Emptying => EntitlementsLock::Own,
                Release::Freeing | Release::Identity | Release::Metering => {
                    EntitlementsLock::Shared
                }
            },
            wakes_requests: false,
            wakes_kinds: BTreeSet::new(),
            pending: Pending::default(),
            attempt: PendingMark::default(),
            changed: Vec::new(),
            wakes_billing: false,
        })
    }

    /// The read handle of the scope's workspace.
    #[must_use]
    pub fn read(&self, scope: &WorkspaceScope) -> Reader {
        self.reader(self.reads(Reach::of(scope)), scope)
    }

    /// A read handle whose statements go there.
    pub(crate) fn reader(&self, db: Conn, scope: &WorkspaceScope) -> Reader {
        Reader {
            db,
            store: self.clone(),
            scope: *scope,
        }
    }

    /// Where statements go that read, each a transaction of its own.
    pub(crate) fn reads(&self, reach: Reach) -> Conn {
        Conn::new(self.0.database.clone(), reach, false)
    }

    /// Where statements go that write, each a transaction of its own.
    pub(crate) fn writes(&self, reach: Reach) -> Conn {
        Conn::new(self.0.database.clone(), reach, true)
    }

    /// Begins a transaction that writes within reach.
    pub(crate) async fn begin_in(
        &self,
        reach: Reach,
        operation: &'static str,
    ) -> Result<Tx, StoreError> {
        self.0.database.begin(reach, operation).await
    }

    /// Begins a transaction that sees one state of the database and learns which workspaces there are.
    pub(crate) async fn begin_snapshot(&self, operation: &'static str) -> Result<Tx, StoreError> {
        self.0.database.snapshot(operation).await
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let on = self.reads(Reach::Installation);
        crate::scope::query(&on, "reach the database", "SELECT 1 AS one", []).await?;
        Ok(())
    }

    /// Whether the last write found no room. Reading goes on meanwhile.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.0.database.is_full()
    }

    /// Waits until a commit has left a job of this kind behind, or somebody called [`Store::wake_jobs`]. What came
    /// before the wait counts.
    pub async fn jobs_arrived(&self, kind: &str) {
        self.lane(kind).notified().await;
    }

    /// Wakes one who waits in [`Store::jobs_arrived`] for this kind.
    pub fn wake_jobs(&self, kind: &str) {
        self.lane(kind).notify_one();
    }

    /// Kinds are as many as the program has.
    fn lane(&self, kind: &str) -> Arc<Notify> {
        let mut lanes = self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(kind) {
            return lane.clone();
        }
        lanes.entry(kind.to_owned()).or_default().clone()
    }

    /// Waits until somebody has asked for a mailed link.
    pub async fn requests_arrived(&self) {
        self.0.requests.notified().await;
    }

    /// Waits until an object of the payment provider was made dirty.
    pub async fn billing_arrived(&self) {
        self.0.billing.notified().await;
    }

    /// Wakes one who waits in [`Store::billing_arrived`].
    pub fn wake_billing(&self) {
        self.0.billing.notify_one();
    }

    /// The time, ids and randomness that this store works with.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.0.env
    }

    /// What an extension keeps beside the store in this process: one of each type, made when it is first asked for.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn shared<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let mut shared = self.0.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = shared.entry(TypeId::of::<T>());
        let kept = kept.or_insert_with(|| Arc::new(T::default())).clone();
        drop(shared);
        kept.downcast().expect("it is kept by its type")
    }

    /// Closes all connections; what was committed is durable.
    pub async fn close(&self) {
        self.0.database.close().await;
    }
}

impl UnitOfWork for Store {
    type Tx = WriteTx;

    async fn begin(&self, scope: &WorkspaceScope) -> Result<WriteTx, BeginError> {
        Self::begin(self, scope).await
    }

    async fn begin_release(&self, scope: &WorkspaceScope) -> Result<WriteTx, StoreError> {
        self.begin_despite_read_only(scope, Release::Freeing).await
    }
}

/// How a transaction holds the entitlements that it has read, until it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntitlementsLock {
    /// As everyone does who acts under it: nobody changes it meanwhile.
    Shared,
    /// As one who may change it.
    Own,
}

/// The write handle: one transaction in one workspace, implementing every tenant port.
pub struct WriteTx {
    pub(crate) tx: Tx,
    pub(crate) store: Store,
    pub(crate) scope: WorkspaceScope,
    pub(crate) entitlements: Option<Arc<Entitlements>>,
    pub(crate) entitlements_lock: EntitlementsLock,
    pub(crate) wakes_requests: bool,
    /// Kinds of jobs that the commit leaves behind.
    pub(crate) wakes_kinds: BTreeSet<String>,
    /// Collected, and written at commit.
    pub(crate) pending: Pending,
    /// What an attempt that is undone goes back to.
    pub(crate) attempt: PendingMark,
    /// What the transaction has made of counters, oldest first.
    pub(crate) changed: Vec<LiveRow>,
    pub(crate) wakes_billing: bool,
}

impl std::fmt::Debug for WriteTx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteTx")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

impl WriteTx {
    /// The scope that this transaction writes in.
    #[must_use]
    pub fn scope(&self) -> &WorkspaceScope {
        &self.scope
    }

    /// The time, ids and randomness that the store works with.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.store.0.env
    }
}

impl Commit for WriteTx {
    async fn commit(mut self) -> Result<(), StoreError> {
        self.write_pending().await?;
        self.tx.commit().await.map_err(failed("commit"))?;
        if self.wakes_requests {
            self.store.0.requests.notify_one();
        }
        for kind in &self.wakes_kinds {
            self.store.wake_jobs(kind);
        }
        if self.wakes_billing {
            self.store.wake_billing();
        }
        if let Some(live) = self.store.0.live.get() {
            live.publish(self.scope.workspace(), self.changed).await;
        }
        Ok(())
    }
}

/// The read handle: single statements, each of which sees one committed state.
#[derive(Debug, Clone)]
pub struct Reader {
    db: Conn,
    pub(crate) store: Store,
    pub(crate) scope: WorkspaceScope,
}

impl Reader {
    pub(crate) fn db(&self) -> &Conn {
        &self.db
    }

    /// The scope that this handle reads in.
    #[must_use]
    pub fn scope(&self) -> &WorkspaceScope {
        &self.scope
    }
}

/// Whether the extensions may run together, and what checks their statements.
pub(crate) fn declared(extensions: &[Extension]) -> Result<Statements, ExtensionError> {
    check_declarations(extensions)?;
    let statements = Statements::new(extensions);
    for extension in extensions {
        for (name, sql) in extension.checks.iter().chain(extension.facts) {
            statements
                .check(sql, About::Workspace, 1, false)
                .map_err(|error| ExtensionError::Declaration {
                    extension: extension.name,
                    place: Place::default(),
                    problem: Problem::Statement {
                        name,
                        reason: error.to_string(),
                    },
                })?;
        }
    }
    Ok(statements)
}

/// Counts rows of an entity's select.
pub(crate) async fn exists<E: EntityTrait>(
    select: sea_orm::Select<E>,
    on: &impl ConnectionTrait,
) -> Result<bool, StoreError> {
    use sea_orm::QuerySelect;
    let one = select
        .select_only()
        .expr_as(sea_orm::sea_query::Expr::val(1), "one")
        .limit(1);
    Ok(one
        .into_tuple::<i32>()
        .one(on)
        .await
        .map_err(failed("look for a row"))?
        .is_some())
}

fn definition(row: &plan_versions::Model) -> Result<Plan, StoreError> {
    serde_json::from_str(&row.definition)
        .map_err(|e| corrupt("plan_versions", "definition", &row.slug, e))
}
