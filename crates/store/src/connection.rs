//! The connections, and the one way through which every statement goes: [`Conn`] for a statement of its own,
//! [`Tx`] for a transaction. Both know how far they reach, and see to it that PostgreSQL does; no caller knows
//! in which form.

#![expect(
    clippy::disallowed_methods,
    reason = "with the scope module this is what everything else is forbidden"
)]

use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use rawdrive_migrations::{Extension, MigrateError};
use rawdrive_tenancy_core::StoreError;
use sea_orm::sqlx::sqlite::SqliteConnection;
use sea_orm::{ConnectionTrait, DatabaseBackend, DbErr, ExecResult, QueryResult, Statement, Value};

use crate::credential_row::Proving;
use crate::postgres::{self, PgTx, Postgres};
use crate::reach::Reach;
use crate::scope::failed;
use crate::sqlite::Sqlite;
use crate::transaction::Transaction;
use crate::url::Target;

/// The database's connections.
pub(crate) enum Database {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Database {
    /// Connects. A SQLite file's schema is brought up to date first.
    pub(crate) async fn connect(
        target: &Target,
        extensions: &[Extension],
    ) -> Result<Self, MigrateError> {
        match target {
            Target::Sqlite(path) => Sqlite::open(path, extensions).await.map(Self::Sqlite),
            Target::Postgres(server) => {
                let connected = Postgres::connect(server).await;
                Ok(connected.map(Self::Postgres)?)
            }
        }
    }

    /// Begins a transaction that writes.
    pub(crate) async fn begin(
        &self,
        reach: Reach,
        operation: &'static str,
    ) -> Result<Tx, StoreError> {
        // Boxed: what waits for it is nested deeply enough.
        let begun = match self {
            Self::Sqlite(sqlite) => {
                let begun = Box::pin(sqlite.begin()).await;
                begun.map(|tx| Tx::Sqlite(Box::new(tx)))
            }
            Self::Postgres(postgres) => {
                let begun = Box::pin(postgres.begin(reach)).await;
                begun.map(|tx| Tx::Postgres(Box::new(tx)))
            }
        };
        begun.map_err(failed(operation))
    }

    /// Begins a transaction that sees one state of the database, from its first statement on.
    pub(crate) async fn snapshot(&self, operation: &'static str) -> Result<Tx, StoreError> {
        let begun = match self {
            Self::Sqlite(sqlite) => sqlite.snapshot().await.map(|tx| Tx::Sqlite(Box::new(tx))),
            Self::Postgres(postgres) => {
                let begun = postgres.snapshot(Reach::Worker).await;
                begun.map(|tx| Tx::Postgres(Box::new(tx)))
            }
        };
        begun.map_err(failed(operation))
    }

    /// On SQLite, has the statements run before whatever is written next, and tries to run them now.
    pub(crate) async fn recover(&self, statements: Vec<Statement>) -> Result<u64, DbErr> {
        match self {
            Self::Sqlite(sqlite) => {
                let statements = statements.into_iter().map(exact).collect();
                sqlite.recover_first(statements).await;
                sqlite.recovered().await
            }
            Self::Postgres(_) => Ok(0),
        }
    }

    /// Whether the last write found no room.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Self::Sqlite(sqlite) => sqlite.is_full(),
            Self::Postgres(postgres) => postgres.is_full(),
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(sqlite) => sqlite.close().await,
            Self::Postgres(postgres) => postgres.close().await,
        }
    }

    fn backend(&self) -> DatabaseBackend {
        match self {
            Self::Sqlite(_) => DatabaseBackend::Sqlite,
            Self::Postgres(_) => DatabaseBackend::Postgres,
        }
    }
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
            Database::Sqlite(sqlite) if self.writes => sqlite.write_returning(&statement).await,
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
            Database::Sqlite(sqlite) => sqlite.write(&statement).await,
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
    Sqlite(Box<Transaction<SqliteConnection>>),
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
            Self::Sqlite(tx) => tx.mark().await,
            Self::Postgres(tx) => tx.mark().await,
        }
    }

    /// Undoes what was done since [`Self::mark`], and lets go of the rows that were locked since.
    pub(crate) async fn rewind(&self) -> Result<(), DbErr> {
        match self {
            Self::Sqlite(tx) => tx.rewind().await,
            Self::Postgres(tx) => tx.rewind().await,
        }
    }

    /// Has PostgreSQL find by index whatever this transaction looks for. Row-level security hides from its planner how
    /// many rows there are: it expects a few, and would read and sort a whole backlog for its first row.
    pub(crate) async fn by_index(&self, operation: &'static str) -> Result<(), StoreError> {
        const SETTINGS: &str = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; \
            SET LOCAL enable_sort = off; SET LOCAL jit = off";
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(tx) => tx
                .command(SETTINGS)
                .await
                .map(drop)
                .map_err(failed(operation)),
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
            Self::Postgres(tx) => postgres::enter(tx, reach).await.map_err(failed(operation)),
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
            Self::Sqlite(tx) => tx.execute(statement).await,
            Self::Postgres(tx) => tx.execute(statement).await,
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        match self {
            Self::Sqlite(tx) => tx.command(sql).await,
            Self::Postgres(tx) => tx.command(sql).await,
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        Ok(self.query_all_raw(statement).await?.into_iter().next())
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let statement = exact(statement);
        match self {
            Self::Sqlite(tx) => tx.query(statement).await,
            Self::Postgres(tx) => tx.query(statement).await,
        }
    }
}

/// Times in whole microseconds, the finest that PostgreSQL keeps: what is compared with what was stored must
/// have been stored as it is. [`rawdrive_tenancy_core::Env`] gives no finer ones, but what a request
/// says may be.
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
