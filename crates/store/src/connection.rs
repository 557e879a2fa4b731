//! The connections, and the one way through which every statement goes: [`Conn`] for a statement of its own,
//! [`Tx`] for a transaction. Both know how far they reach, and see to it that PostgreSQL does; no caller knows
//! in which form.

#![expect(
    clippy::disallowed_methods,
    reason = "with the scope module this is what everything else is forbidden"
)]

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound, Utc};
use rawdrive_migrations::{Migrator, MigratorTrait};
use rawdrive_tenancy_core::id::{TypedId, UserId, WorkspaceId};
use rawdrive_tenancy_core::{StoreError, WorkspaceScope};
use sea_orm::sqlx::Sqlite as Driver;
use sea_orm::sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sea_orm::{
    ConnectionTrait, DatabaseBackend, DatabaseTransaction, DbErr, ExecResult, QueryResult,
    RuntimeErr, SqliteTransactionMode, SqlxSqliteConnector, Statement, TransactionOptions,
    TransactionTrait, Value,
};

use crate::postgres::{PgTx, Postgres, answers, bind};
use crate::presented::Proving;
use crate::scope::failed;
use crate::sessions::Sessions;
use crate::url::Target;

#[expect(
    clippy::disallowed_types,
    reason = "the store owns the connections; nothing outside can name them"
)]
type Connection = sea_orm::DatabaseConnection;

/// How far a statement may see. PostgreSQL's row-level security holds everyone to it; SQLite, which has none,
/// relies on the scoped entities alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The installation's own tables, and no workspace's.
    Installation,
    /// One workspace's rows.
    Workspace(WorkspaceId),
    /// A person's own memberships, and the names of those workspaces. To read alone.
    User(UserId),
    /// What tells the job runner which workspace to enter. To read alone.
    Worker,
}

impl Reach {
    /// Everything that can be set.
    pub(crate) const SETTINGS: [&'static str; 3] =
        ["app.workspace_id", "app.user_id", "app.worker"];

    pub(crate) fn of(scope: &WorkspaceScope) -> Self {
        Self::Workspace(scope.workspace())
    }

    /// What the database is told.
    pub(crate) fn setting(self) -> Option<(&'static str, String)> {
        match self {
            Self::Installation => None,
            Self::Workspace(id) => Some(("app.workspace_id", id.uuid().to_string())),
            Self::User(id) => Some(("app.user_id", id.uuid().to_string())),
            Self::Worker => Some(("app.worker", "on".to_owned())),
        }
    }
}

/// How many read at a time beside SQLite's one writer.
const READERS: u32 = 4;

/// The database's connections.
pub(crate) enum Database {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

pub(crate) struct Sqlite {
    /// One connection: one writer at a time is SQLite's nature, and a fair queue beats busy-polling.
    writer: Connection,
    readers: Sessions<SqliteConnection>,
    /// For transactions that read.
    reader: Connection,
}

impl Database {
    pub(crate) async fn connect(target: &Target) -> Result<Self, DbErr> {
        match target {
            Target::Sqlite(path) => Sqlite::open(path).await.map(Self::Sqlite),
            Target::Postgres(server) => Postgres::connect(server).await.map(Self::Postgres),
        }
    }

    /// Begins a transaction that writes.
    pub(crate) async fn begin(
        &self,
        reach: Reach,
        operation: &'static str,
    ) -> Result<Tx, StoreError> {
        let begun = match self {
            Self::Sqlite(sqlite) => sqlite.begin().await.map(Tx::Sqlite),
            Self::Postgres(postgres) => {
                let begun = postgres.begin(reach).await;
                begun.map(|tx| Tx::Postgres(Box::new(tx)))
            }
        };
        begun.map_err(failed(operation))
    }

    /// Begins a transaction that sees one state of the database, from its first statement on.
    pub(crate) async fn snapshot(&self, operation: &'static str) -> Result<Tx, StoreError> {
        let begun = match self {
            Self::Sqlite(sqlite) => sqlite.reader.begin().await.map(Tx::Sqlite),
            Self::Postgres(postgres) => {
                let begun = postgres.snapshot(Reach::Worker).await;
                begun.map(|tx| Tx::Postgres(Box::new(tx)))
            }
        };
        begun.map_err(failed(operation))
    }

    pub(crate) async fn close(&self) -> Result<(), DbErr> {
        match self {
            Self::Sqlite(sqlite) => {
                sqlite.readers.close().await;
                sqlite.reader.close_by_ref().await?;
                sqlite.writer.close_by_ref().await
            }
            Self::Postgres(postgres) => {
                postgres.close().await;
                Ok(())
            }
        }
    }

    fn backend(&self) -> DatabaseBackend {
        match self {
            Self::Sqlite(_) => DatabaseBackend::Sqlite,
            Self::Postgres(_) => DatabaseBackend::Postgres,
        }
    }
}

impl Sqlite {
    /// Opens the file and brings its schema up to date.
    async fn open(path: &Path) -> Result<Self, DbErr> {
        let options = SqliteConnectOptions::new()
            .filename(path)
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
                .test_before_acquire(false)
                .idle_timeout(None)
                .max_lifetime(None)
                .acquire_timeout(Duration::from_secs(30))
        };
        let database = |e: sea_orm::sqlx::Error| DbErr::Conn(RuntimeErr::SqlxError(e.into()));
        let writer = pool(1).connect_with(options.clone()).await;
        let writer = SqlxSqliteConnector::from_sqlx_sqlite_pool(writer.map_err(database)?);
        {
            // Whoever starts beside this one waits: a schema is many statements.
            let _alone = alone(path).await?;
            Migrator::up(&writer, None).await?;
        }
        let reader = pool(READERS).connect_lazy_with(options.clone());
        Ok(Self {
            writer,
            readers: Sessions::new(options, READERS)?,
            reader: SqlxSqliteConnector::from_sqlx_sqlite_pool(reader),
        })
    }

    async fn begin(&self) -> Result<DatabaseTransaction, DbErr> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..Default::default()
        };
        self.writer.begin_with_options(options).await
    }

    async fn read(&self, statement: &Statement) -> Result<Vec<QueryResult>, DbErr> {
        let mut lent = self.readers.lend().await?;
        let read = bind::<Driver>(statement, true).fetch_all(&mut *lent).await;
        lent.end(&read);
        answers(read.map(|rows| rows.into_iter().map(QueryResult::from).collect()))
    }
}

/// The longest that another process' work on a file's schema is waited for.
const SCHEMA_WITHIN: Duration = Duration::from_secs(60);
const SCHEMA_POLL: Duration = Duration::from_millis(20);

/// Keeps other processes out of a file's schema until it is dropped. The lock is the system's own: it ends with its
/// process, whatever becomes of that.
async fn alone(path: &Path) -> Result<File, DbErr> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let locked = tokio::task::spawn_blocking(move || {
        let mut options = File::options();
        options.create(true).write(true).truncate(false);
        let file = options.open(PathBuf::from(name))?;
        let until = Instant::now() + SCHEMA_WITHIN;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if Instant::now() < until => sleep(SCHEMA_POLL),
                Err(TryLockError::WouldBlock) => {
                    return Err(std::io::Error::other("another process holds it"));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    });
    let locked = locked.await.map_err(|e| DbErr::Custom(e.to_string()))?;
    locked.map_err(|e| DbErr::Custom(format!("failed to lock the database's schema: {e}")))
}

/// Where statements go that are transactions of their own. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Conn {
    database: Arc<Database>,
    reach: Reach,
    writes: bool,
    /// A credential that the first statement looks up along.
    proving: Option<Arc<Proving>>,
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conn")
            .field("reach", &self.reach)
            .field("writes", &self.writes)
            .finish_non_exhaustive()
    }
}

impl Conn {
    pub(crate) fn new(database: Arc<Database>, reach: Reach, writes: bool) -> Self {
        Self {
            database,
            reach,
            writes,
            proving: None,
        }
    }

    /// As it is, and the first statement looks a credential up along.
    pub(crate) fn proving(self, proving: Arc<Proving>) -> Self {
        Self {
            proving: Some(proving),
            ..self
        }
    }

    async fn rows(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match &*self.database {
            Database::Sqlite(sqlite) if self.writes => sqlite.writer.query_all_raw(statement).await,
            Database::Sqlite(sqlite) => sqlite.read(&statement).await,
            Database::Postgres(postgres) if self.writes => {
                postgres.write_returning(self.reach, statement).await
            }
            Database::Postgres(postgres) => postgres.read(self.reach, statement).await,
        }
    }

    fn writable(&self) -> Result<(), DbErr> {
        if self.writes {
            Ok(())
        } else {
            Err(DbErr::Custom("a read handle reads".to_owned()))
        }
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for Conn {
    fn get_database_backend(&self) -> DatabaseBackend {
        self.database.backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.writable()?;
        let statement = exact(statement);
        match &*self.database {
            Database::Sqlite(sqlite) => sqlite.writer.execute_raw(statement).await,
            Database::Postgres(postgres) => postgres.write(self.reach, statement).await,
        }
    }

    async fn execute_unprepared(&self, _: &str) -> Result<ExecResult, DbErr> {
        Err(DbErr::Custom("statements are prepared".to_owned()))
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        // SeaORM asks for one with LIMIT 1.
        Ok(self.query_all_raw(statement).await?.into_iter().next())
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let statement = exact(statement);
        match &self.proving {
            Some(proving) if proving.is_open()? => {
                proving.split(self.rows(proving.joined(statement)?).await?)
            }
            _ => self.rows(statement).await,
        }
    }
}

/// A transaction. Dropping it rolls back.
pub(crate) enum Tx {
    Sqlite(DatabaseTransaction),
    Postgres(Box<PgTx>),
}

impl Tx {
    pub(crate) async fn commit(self) -> Result<(), DbErr> {
        match self {
            Self::Sqlite(tx) => tx.commit().await,
            Self::Postgres(tx) => tx.commit().await,
        }
    }

    /// Marks where [`Self::rewind`] goes back to.
    pub(crate) async fn mark(&self) -> Result<(), DbErr> {
        match self {
            Self::Sqlite(tx) => tx.execute_unprepared("SAVEPOINT attempt").await.map(drop),
            Self::Postgres(tx) => tx.mark().await,
        }
    }

    /// Undoes what was done since [`Self::mark`], and lets go of the rows that were locked since.
    pub(crate) async fn rewind(&self) -> Result<(), DbErr> {
        match self {
            Self::Sqlite(tx) => {
                let done = tx.execute_unprepared("ROLLBACK TO SAVEPOINT attempt").await;
                done.map(drop)
            }
            Self::Postgres(tx) => tx.rewind().await,
        }
    }

    /// Turns the transaction to another reach.
    pub(crate) async fn enter(
        &self,
        reach: Reach,
        operation: &'static str,
    ) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(tx) => tx.enter(reach).await.map_err(failed(operation)),
        }
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for Tx {
    fn get_database_backend(&self) -> DatabaseBackend {
        match self {
            Self::Sqlite(_) => DatabaseBackend::Sqlite,
            Self::Postgres(_) => DatabaseBackend::Postgres,
        }
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let statement = exact(statement);
        match self {
            Self::Sqlite(tx) => tx.execute_raw(statement).await,
            Self::Postgres(tx) => tx.execute(statement).await,
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        match self {
            Self::Sqlite(tx) => tx.execute_unprepared(sql).await,
            Self::Postgres(tx) => tx.command(sql).await,
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        Ok(self.query_all_raw(statement).await?.into_iter().next())
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let statement = exact(statement);
        match self {
            Self::Sqlite(tx) => tx.query_all_raw(statement).await,
            Self::Postgres(tx) => tx.query(statement).await,
        }
    }
}

/// Times in whole microseconds, the finest that PostgreSQL keeps: what is compared with what was stored must
/// have been stored as it is. [`rawdrive_tenancy_core::Ambient`] gives no finer ones, but a request or a
/// photo may.
fn exact(mut statement: Statement) -> Statement {
    for value in statement.values.iter_mut().flat_map(|values| &mut values.0) {
        if let Value::ChronoDateTimeUtc(Some(at)) = value {
            *at = microseconds(*at);
        }
    }
    statement
}

fn microseconds(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(6)
}
