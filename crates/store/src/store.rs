//! Opening the database, and the two handles.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rawdrive_migrations::{Migrator, MigratorTrait};
use rawdrive_plans::{Access, BeginError, Catalogue, Plan, Slug, Standing};
use rawdrive_tenancy_core::{Ambient, Commit, StoreError, WorkspaceScope};
use sea_orm::sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sea_orm::{
    DatabaseTransaction, EntityTrait, Set, SqliteTransactionMode, SqlxSqliteConnector,
    TransactionOptions, TransactionTrait,
};
use tokio::sync::Notify;

use crate::entity::plan_versions;
use crate::scope::{failed, global, global_insert};

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(PathBuf);

impl Url {
    /// A SQLite file; it is made when it is not there.
    #[must_use]
    pub fn sqlite(path: impl AsRef<Path>) -> Self {
        Self(path.as_ref().to_owned())
    }
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database does not open or does not take the schema.
    #[error("failed to open the database")]
    Database(#[source] sea_orm::DbErr),
    /// The catalogue contradicts what was published.
    #[error(
        "plan `{slug}` version {version} was published with another definition: a published version never \
         changes, add version {} instead",
        version + 1
    )]
    PlanChanged {
        /// The plan.
        slug: Slug,
        /// Its version.
        version: u32,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[expect(
    clippy::disallowed_types,
    reason = "the store owns the connections; nothing outside can name them"
)]
type Connection = sea_orm::DatabaseConnection;

pub(crate) struct Inner {
    /// One connection: one writer at a time is SQLite's nature, and a fair queue beats busy-polling.
    pub(crate) writer: Connection,
    pub(crate) reader: Connection,
    pub(crate) ambient: Ambient,
    plans: RwLock<HashMap<(Slug, u32), Arc<Plan>>>,
    pub(crate) jobs: Notify,
    billing: Notify,
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
    /// Sessions and people's own accounts.
    Identity,
    /// Billing goes on, or the workspace could never become writable again. It may change the standing.
    Billing,
    /// An operator or the job runner acts.
    System,
}

impl Store {
    /// Opens the database, brings its schema up to date and publishes the catalogue's new plan versions.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(
        url: &Url,
        ambient: Ambient,
        catalogue: &Catalogue,
    ) -> Result<Self, OpenError> {
        let options = SqliteConnectOptions::new()
            .filename(&url.0)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10))
            .pragma("secure_delete", "on")
            .pragma("recursive_triggers", "on");
        let pool = |size: u32| {
            SqlitePoolOptions::new()
                .max_connections(size)
                .min_connections(1)
                .test_before_acquire(false)
                .idle_timeout(None)
                .max_lifetime(None)
                .acquire_timeout(Duration::from_secs(30))
        };
        let database = |e: sea_orm::sqlx::Error| {
            OpenError::Database(sea_orm::DbErr::Conn(sea_orm::RuntimeErr::SqlxError(
                e.into(),
            )))
        };
        let writer = pool(1)
            .connect_with(options.clone())
            .await
            .map_err(database)?;
        let writer = SqlxSqliteConnector::from_sqlx_sqlite_pool(writer);
        Migrator::up(&writer, None)
            .await
            .map_err(OpenError::Database)?;
        let reader = pool(4).connect_with(options).await.map_err(database)?;
        let reader = SqlxSqliteConnector::from_sqlx_sqlite_pool(reader);
        let store = Self(Arc::new(Inner {
            writer,
            reader,
            ambient,
            plans: RwLock::default(),
            jobs: Notify::new(),
            billing: Notify::new(),
        }));
        store.publish(catalogue).await?;
        Ok(store)
    }

    async fn publish(&self, catalogue: &Catalogue) -> Result<(), OpenError> {
        let tx = self.begin_immediate("publish plans").await?;
        let published = global::<plan_versions::Entity>()
            .all(&tx)
            .await
            .map_err(failed("read plans"))?;
        for plan in catalogue.versions() {
            let same = |row: &&plan_versions::Model| {
                row.slug == plan.slug.as_str() && row.version == i64::from(plan.version)
            };
            match published.iter().find(same) {
                Some(row) if row.digest == plan.digest() => {}
                Some(_) => {
                    return Err(OpenError::PlanChanged {
                        slug: plan.slug.clone(),
                        version: plan.version,
                    });
                }
                None => {
                    let row = plan_versions::ActiveModel {
                        slug: Set(plan.slug.to_string()),
                        version: Set(i64::from(plan.version)),
                        definition: Set(plan.canonical()),
                        digest: Set(plan.digest()),
                        published_at: Set(self.0.ambient.now()),
                    };
                    global_insert(row)
                        .exec_without_returning(&tx)
                        .await
                        .map_err(failed("publish a plan"))?;
                }
            }
        }
        tx.commit().await.map_err(failed("publish plans"))?;
        self.load_plans().await?;
        Ok(())
    }

    async fn load_plans(&self) -> Result<(), StoreError> {
        let rows = global::<plan_versions::Entity>()
            .all(&self.0.reader)
            .await
            .map_err(failed("read plans"))?;
        let mut plans = HashMap::new();
        for row in rows {
            let plan: Plan = serde_json::from_str(&row.definition)
                .map_err(|e| crate::scope::corrupt("plan_versions", "definition", &row.slug, e))?;
            plans.insert((plan.slug.clone(), plan.version), Arc::new(plan));
        }
        *self.0.plans.write().unwrap_or_else(PoisonError::into_inner) = plans;
        Ok(())
    }

    /// A published plan version; another process may have published it since this one started. An unknown
    /// one is an error that stops, never a silent "free".
    pub(crate) async fn plan(&self, slug: &str, version: i64) -> Result<Arc<Plan>, StoreError> {
        let unknown = || {
            crate::scope::corrupt(
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
        self.load_plans().await?;
        find().ok_or_else(unknown)
    }

    /// Begins a write in the scope's workspace. Dropping the handle rolls back.
    ///
    /// # Errors
    /// The workspace is read-only, or the database does not answer.
    pub async fn begin(&self, scope: &WorkspaceScope) -> Result<WriteTx, BeginError> {
        let mut tx = self.begin_despite_read_only(scope, Release::System).await?;
        let standing = tx.load_standing().await?;
        match standing.access(self.0.ambient.now()) {
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
        _reason: Release,
    ) -> Result<WriteTx, StoreError> {
        let tx = self.begin_immediate("begin").await?;
        Ok(WriteTx {
            tx,
            store: self.clone(),
            scope: *scope,
            standing: None,
            wakes_jobs: false,
            wakes_billing: false,
        })
    }

    /// The read handle of the scope's workspace.
    #[must_use]
    pub fn read(&self, scope: &WorkspaceScope) -> Reader {
        Reader {
            store: self.clone(),
            scope: *scope,
        }
    }

    pub(crate) async fn begin_immediate(
        &self,
        operation: &'static str,
    ) -> Result<DatabaseTransaction, StoreError> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..Default::default()
        };
        self.0
            .writer
            .begin_with_options(options)
            .await
            .map_err(failed(operation))
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.0
            .reader
            .ping()
            .await
            .map_err(failed("reach the database"))
    }

    /// Waits until a commit has left jobs behind.
    pub async fn jobs_arrived(&self) {
        self.0.jobs.notified().await;
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
    pub fn ambient(&self) -> &Ambient {
        &self.0.ambient
    }

    /// Closes all connections; what was committed is durable.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.0
            .reader
            .close_by_ref()
            .await
            .map_err(failed("close"))?;
        self.0.writer.close_by_ref().await.map_err(failed("close"))
    }
}

/// The write handle: one transaction in one workspace, implementing every tenant port.
pub struct WriteTx {
    pub(crate) tx: DatabaseTransaction,
    pub(crate) store: Store,
    pub(crate) scope: WorkspaceScope,
    pub(crate) standing: Option<Arc<Standing>>,
    pub(crate) wakes_jobs: bool,
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

    pub(crate) fn ambient(&self) -> &Ambient {
        &self.store.0.ambient
    }
}

impl Commit for WriteTx {
    async fn commit(self) -> Result<(), StoreError> {
        self.tx.commit().await.map_err(failed("commit"))?;
        if self.wakes_jobs {
            self.store.0.jobs.notify_one();
        }
        if self.wakes_billing {
            self.store.wake_billing();
        }
        Ok(())
    }
}

/// The read handle: single statements, each of which sees one committed state.
#[derive(Debug, Clone)]
pub struct Reader {
    pub(crate) store: Store,
    pub(crate) scope: WorkspaceScope,
}

impl Reader {
    pub(crate) fn db(&self) -> &Connection {
        &self.store.0.reader
    }

    /// The scope that this handle reads in.
    #[must_use]
    pub fn scope(&self) -> &WorkspaceScope {
        &self.scope
    }
}

/// Counts rows of an entity's select.
pub(crate) async fn exists<E: EntityTrait>(
    select: sea_orm::Select<E>,
    on: &impl sea_orm::ConnectionTrait,
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
