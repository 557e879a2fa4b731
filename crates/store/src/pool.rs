//! A bounded number of connections: for one statement, or for a transaction.
//!
//! The driver's pool pings every connection that comes back, which costs a short read as much as the read itself. Here a
//! connection is reused without a ping once its last answer was read to the end. One that failed is closed; one that
//! was left in the middle of an answer, or idle for long, is asked first or closed.

use std::future::Future;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{
    self, Manager, Metrics, Object, PoolError, QueueMode, RecycleError, Timeouts,
};
use sea_orm::sqlx::postgres::{PgConnection, PgDatabaseError, PgSeverity};
use sea_orm::sqlx::sqlite::SqliteConnection;
use sea_orm::sqlx::{self, AssertSqlSafe, ConnectOptions, Connection, Error, Executor as _};
use sea_orm::{DbErr, ExecResult, QueryResult, RuntimeErr, Statement, Values};
use sea_query_sqlx::SqlxValues;
use tokio::time::timeout;

use crate::deadline::{Pulse, within_one_deadline};

/// The longest that somebody waits for a connection.
const ACQUIRE_WITHIN: Duration = Duration::from_secs(30);
/// The longest that a connection may take to be made. That others are answered says nothing of it.
const MADE_WITHIN: Duration = Duration::from_secs(3);
/// The longest that we wait for an answer: the database gives up before, unless it is out of reach.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);
/// The longest that a connection may take to say that it lives.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// What stood idle for so long may have been cut off by whatever lies between.
const IDLE: Duration = Duration::from_secs(240);
/// The oldest that a connection grows: settings of a role, or an address, change.
const AGE: Duration = Duration::from_secs(1_800);

/// A connection of a driver.
pub(crate) trait Driven:
    Connection<Options: ConnectOptions<Connection = Self> + Sync> + Send + 'static
{
    /// Whether a connection that was left in the middle of an answer may be used again once it answers a ping.
    const OUTLIVES_CANCELLATION: bool;

    /// Runs statements without parameters, unprepared.
    fn command(&mut self, sql: &str) -> impl Future<Output = Result<ExecResult, Error>> + Send;

    /// Runs a statement that answers rows.
    fn rows(
        &mut self,
        statement: &Statement,
        persistent: bool,
    ) -> impl Future<Output = Result<Vec<QueryResult>, Error>> + Send;

    /// Runs a statement that answers how many rows it changed.
    fn execute(
        &mut self,
        statement: &Statement,
        persistent: bool,
    ) -> impl Future<Output = Result<ExecResult, Error>> + Send;

    /// Whether the connection, and not the statement, has failed.
    fn has_failed(error: &Error) -> bool;
}

macro_rules! runs_statements {
    () => {
        async fn command(&mut self, sql: &str) -> Result<ExecResult, Error> {
            let ran = sea_orm::sqlx::Executor::execute(self, AssertSqlSafe(sql.to_owned())).await;
            ran.map(ExecResult::from)
        }

        async fn rows(
            &mut self,
            statement: &Statement,
            persistent: bool,
        ) -> Result<Vec<QueryResult>, Error> {
            let rows = self.fetch_all(bind(statement, persistent)).await?;
            Ok(rows.into_iter().map(QueryResult::from).collect())
        }

        async fn execute(
            &mut self,
            statement: &Statement,
            persistent: bool,
        ) -> Result<ExecResult, Error> {
            let ran = sea_orm::sqlx::Executor::execute(self, bind(statement, persistent)).await;
            ran.map(ExecResult::from)
        }
    };
}

impl Driven for PgConnection {
    const OUTLIVES_CANCELLATION: bool = true;

    runs_statements!();

    /// What the database says last to a session that it ends is an answer too: to whatever is asked next.
    fn has_failed(error: &Error) -> bool {
        let Error::Database(answer) = error else {
            return true;
        };
        answer
            .try_downcast_ref::<PgDatabaseError>()
            .is_some_and(|answer| {
                matches!(answer.severity(), PgSeverity::Fatal | PgSeverity::Panic)
            })
    }
}

/// `SQLITE_CONSTRAINT`, the one failure of a statement that says nothing about the file.
const CONSTRAINT: i32 = 19;

impl Driven for SqliteConnection {
    /// It is quickly made anew.
    const OUTLIVES_CANCELLATION: bool = false;

    runs_statements!();

    /// After a full disk, an I/O error, a damaged file or an interruption nobody knows whether the transaction is still
    /// open (`sqlite3_get_autocommit`): the connection is closed, which rolls back whatever there is.
    fn has_failed(error: &Error) -> bool {
        sqlite_code(error) != Some(CONSTRAINT)
    }
}

/// SQLite's result code of an error, without the extension.
pub(crate) fn sqlite_code(error: &Error) -> Option<i32> {
    let code = error.as_database_error()?.code()?;
    Some(code.parse::<i32>().ok()? & 0xff)
}

/// A bounded number of connections.
pub(crate) struct Pool<C: Driven> {
    pool: managed::Pool<ConnectionManager<C>>,
    pulse: Pulse,
}

pub(crate) struct ConnectionManager<C: Driven> {
    options: C::Options,
}

/// A connection, and whether its last answer was left unread.
pub(crate) struct TrackedConnection<C> {
    connection: C,
    is_mid_answer: bool,
}

/// A connection that is in use.
pub(crate) struct PooledConnection<C: Driven> {
    object: Object<ConnectionManager<C>>,
    pulse: Pulse,
}

impl<C: Driven> Manager for ConnectionManager<C> {
    type Type = TrackedConnection<C>;
    type Error = Error;

    async fn create(&self) -> Result<TrackedConnection<C>, Error> {
        // Boxed: connecting is by far the largest future, and every statement's would hold room for it.
        let connection = Box::pin(self.options.connect()).await?;
        Ok(TrackedConnection {
            connection,
            is_mid_answer: false,
        })
    }

    async fn recycle(
        &self,
        tracked: &mut TrackedConnection<C>,
        metrics: &Metrics,
    ) -> managed::RecycleResult<Error> {
        if metrics.age() > AGE {
            return Err(RecycleError::message("it is old"));
        }
        if tracked.is_mid_answer && !C::OUTLIVES_CANCELLATION {
            return Err(RecycleError::message(
                "it was left in the middle of an answer",
            ));
        }
        if tracked.is_mid_answer || metrics.last_used() > IDLE {
            match timeout(ANSWERS_WITHIN, tracked.connection.ping()).await {
                Ok(alive) => alive?,
                Err(_) => return Err(RecycleError::message("it does not answer")),
            }
        }
        tracked.is_mid_answer = false;
        Ok(())
    }
}

impl<C: Driven> Pool<C> {
    /// None is made before it is needed.
    pub(crate) fn new(options: C::Options, size: u32, pulse: Pulse) -> Result<Self, DbErr> {
        let pool = managed::Pool::builder(ConnectionManager { options })
            .max_size(usize::try_from(size).unwrap_or(usize::MAX))
            .queue_mode(QueueMode::Lifo)
            .timeouts(Timeouts {
                wait: Some(ACQUIRE_WITHIN),
                create: Some(MADE_WITHIN),
                recycle: None,
            })
            .runtime(Runtime::Tokio1)
            .build();
        let pool = pool.map_err(|e| DbErr::Custom(e.to_string()))?;
        Ok(Self { pool, pulse })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.pool.status().size
    }

    /// Takes one. From now on it is in the middle of an answer, until [`PooledConnection::end`].
    pub(crate) async fn acquire(&self) -> Result<PooledConnection<C>, DbErr> {
        let timed_out = || DbErr::ConnectionAcquire(sea_orm::ConnAcquireErr::Timeout);
        let acquired = self.pulse.in_line(ACQUIRE_WITHIN, self.pool.get()).await;
        let acquired = acquired
            .map_err(|_| timed_out())?
            .map_err(|error| match error {
                PoolError::Backend(error) => lost(error),
                PoolError::Timeout(_) => timed_out(),
                error => DbErr::Custom(error.to_string()),
            });
        let mut object = acquired?;
        object.is_mid_answer = true;
        Ok(PooledConnection {
            object,
            pulse: self.pulse.clone(),
        })
    }

    /// Runs one statement that reads.
    pub(crate) async fn read(
        &self,
        statement: &Statement,
        persistent: bool,
    ) -> Result<Vec<QueryResult>, ReadError> {
        within_one_deadline(async {
            let mut pooled = self.acquire().await.map_err(ReadError::Acquire)?;
            let read = pooled.rows(statement, persistent).await;
            pooled.end(&read);
            read.map_err(ReadError::Statement)
        })
        .await
    }

    /// Closes all that are not in use, and gives none out any more.
    pub(crate) async fn close(&self) {
        let idle = self.pool.retain(|_, _| false).removed;
        self.pool.close();
        for tracked in idle {
            // Nothing is under way in it: nothing is lost where it does not part politely.
            let _ = timeout(ANSWERS_WITHIN, tracked.connection.close()).await;
        }
    }
}

/// Why a statement did not read.
pub(crate) enum ReadError {
    /// There was no connection.
    Acquire(DbErr),
    /// The statement failed, or the connection with it.
    Statement(Error),
}

impl From<ReadError> for DbErr {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Acquire(error) => error,
            ReadError::Statement(error) => Self::Query(RuntimeErr::SqlxError(error.into())),
        }
    }
}

impl<C: Driven> PooledConnection<C> {
    /// Runs statements without parameters, unprepared.
    pub(crate) async fn command(&mut self, sql: &str) -> Result<ExecResult, Error> {
        let pulse = self.pulse.clone();
        answered(&pulse, self.object.connection.command(sql)).await
    }

    /// Runs a statement that answers rows.
    pub(crate) async fn rows(
        &mut self,
        statement: &Statement,
        persistent: bool,
    ) -> Result<Vec<QueryResult>, Error> {
        let pulse = self.pulse.clone();
        answered(&pulse, self.object.connection.rows(statement, persistent)).await
    }

    /// Runs a statement that answers how many rows it changed.
    pub(crate) async fn execute(
        &mut self,
        statement: &Statement,
        persistent: bool,
    ) -> Result<ExecResult, Error> {
        let pulse = self.pulse.clone();
        answered(
            &pulse,
            self.object.connection.execute(statement, persistent),
        )
        .await
    }

    /// What was written is durable.
    pub(crate) fn has_written(&self) {
        self.pulse.note_full(false);
    }

    /// Its answer has come to an end: reused, unless the connection failed with it.
    pub(crate) fn end<T>(mut self, answer: &Result<T, Error>) {
        match answer {
            Err(error) if C::has_failed(error) => self.discard(),
            Ok(_) | Err(_) => self.object.is_mid_answer = false,
        }
    }

    /// Closes it; nobody gets it any more.
    pub(crate) fn discard(self) {
        drop(Object::take(self.object));
    }
}

/// Waits for an answer, but not for ever. An answer that says no is one.
async fn answered<T>(
    pulse: &Pulse,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let Ok(answer) = pulse.within(ANSWER_WITHIN, answer).await else {
        return Err(Error::Io(std::io::ErrorKind::TimedOut.into()));
    };
    if matches!(answer, Ok(_) | Err(Error::Database(_))) {
        pulse.beat();
    }
    if answer.as_ref().is_err_and(is_full) {
        pulse.note_full(true);
    }
    answer
}

/// Whether there is no room to write: `SQLITE_FULL`, `SQLITE_IOERR_SHMSIZE` (the index of the write-ahead log could not
/// grow), PostgreSQL's `disk_full`.
pub(crate) fn is_full(error: &Error) -> bool {
    let code = error.as_database_error().and_then(|answer| answer.code());
    code.is_some_and(|code| matches!(&*code, "13" | "4874" | "53100"))
}

/// A failure of the connection, as SeaORM tells it.
pub(crate) fn lost(error: Error) -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(error.into()))
}

/// A SeaORM statement as a driver's query.
#[expect(
    clippy::disallowed_methods,
    reason = "with the connection module this is what everything else is forbidden"
)]
fn bind<D: sqlx::Database + sqlx::database::HasStatementCache>(
    statement: &Statement,
    persistent: bool,
) -> sqlx::query::Query<'_, D, SqlxValues>
where
    SqlxValues: sqlx::IntoArguments<D>,
{
    let values = statement
        .values
        .clone()
        .unwrap_or_else(|| Values(Vec::new()));
    sqlx::query_with(AssertSqlSafe(statement.sql.as_str()), SqlxValues(values))
        .persistent(persistent)
}
