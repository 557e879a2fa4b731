//! PostgreSQL: the pools, and the forms in which a statement is told how far it may see.
//!
//! Every setting is transaction-local, so that it ends with the transaction whoever uses the session next. A
//! read is one statement that makes the setting and reads under it; behind PgBouncer, whose sessions remember
//! no statements, it is a transaction. Whoever says nothing sees nothing: row-level security compares with
//! a setting that is not there.

#![expect(
    clippy::disallowed_methods,
    reason = "with the scope module this is what everything else is forbidden"
)]

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection, PgQueryResult, PgRow};
use sea_orm::sqlx::{self, AssertSqlSafe, ConnectOptions, Connection, Executor};
use sea_orm::{DbErr, ExecResult, QueryResult, RuntimeErr, Statement, Value, Values};
use sea_query_sqlx::SqlxValues;
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use crate::connection::Reach;
use crate::sessions::{Lent, Sessions, is_over};
use crate::url::Server;

/// The longest that a statement may take in the database.
const STATEMENT_TIMEOUT: &str = "30s";
/// The longest that a statement waits for a row that another transaction holds.
const LOCK_TIMEOUT: &str = "15s";
/// The longest that a transaction may stand idle before the database ends it.
const IDLE_TIMEOUT: &str = "60s";
/// How often the database looks whether somebody still waits for its answer.
const PRESENCE_INTERVAL: &str = "1s";
/// The longest that a transaction whose request is gone may take to be rolled back before its session is ended: it may
/// wait for a lock, and nobody needs what it waits for.
const UNDONE_WITHIN: Duration = Duration::from_secs(1);
/// The longest that we wait for an answer: the database gives up before, unless it is out of reach.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// A PostgreSQL server's connections: for statements that read, for transactions that read, for those that write. A
/// transaction that reads outside itself never waits for a connection that another such transaction holds.
pub(crate) struct Postgres {
    readers: Sessions<PgConnection>,
    reads: Sessions<PgConnection>,
    writes: Sessions<PgConnection>,
    pgbouncer: bool,
}

impl Postgres {
    pub(crate) async fn connect(server: &Server) -> Result<Self, DbErr> {
        let options = if server.pgbouncer {
            // It refuses start-up parameters that it does not track, and looks by itself whether its clients are there.
            let options = server.options.clone().statement_cache_capacity(0);
            let options = options.extra_float_digits(None);
            try_connect(&options).await?;
            options
        } else {
            let bounded = server.options.clone().options([
                ("statement_timeout", STATEMENT_TIMEOUT),
                ("lock_timeout", LOCK_TIMEOUT),
                ("idle_in_transaction_session_timeout", IDLE_TIMEOUT),
            ]);
            watching(bounded).await?
        };
        let sessions = || Sessions::new(options.clone(), server.pool_size);
        Ok(Self {
            readers: sessions()?,
            reads: sessions()?,
            writes: sessions()?,
            pgbouncer: server.pgbouncer,
        })
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.reads.close().await;
        self.writes.close().await;
    }

    /// Reads within reach: one statement, one round trip; or a transaction where PgBouncer stands between.
    pub(crate) async fn read(
        &self,
        reach: Reach,
        statement: Statement,
    ) -> Result<Vec<QueryResult>, DbErr> {
        if self.pgbouncer {
            let tx = self.begin_in(&self.reads, reach, "").await?;
            let rows = tx.query(statement).await?;
            tx.commit().await?;
            return Ok(rows);
        }
        let statement = within(reach, statement)?;
        let mut stale = self.readers.count();
        loop {
            let mut lent = self.readers.lend().await?;
            let read = bounded(fetch(&mut lent, &statement, true)).await;
            lent.end(&read);
            match read {
                // Nothing was changed, so that reading again is right.
                Err(error) if stale > 0 && is_lost(&error) => stale -= 1,
                read => return answers(read.map(rows)),
            }
        }
    }

    /// Writes within reach, in a transaction of its own.
    pub(crate) async fn write(
        &self,
        reach: Reach,
        statement: Statement,
    ) -> Result<ExecResult, DbErr> {
        let tx = self.begin(reach).await?;
        let done = tx.execute(statement).await?;
        tx.commit().await?;
        Ok(done)
    }

    /// As [`Self::write`], for a statement that answers rows.
    pub(crate) async fn write_returning(
        &self,
        reach: Reach,
        statement: Statement,
    ) -> Result<Vec<QueryResult>, DbErr> {
        let tx = self.begin(reach).await?;
        let rows = tx.query(statement).await?;
        tx.commit().await?;
        Ok(rows)
    }

    /// Begins a transaction within reach.
    pub(crate) async fn begin(&self, reach: Reach) -> Result<PgTx, DbErr> {
        self.begin_in(&self.writes, reach, "").await
    }

    /// Begins a transaction that sees one state of the database.
    pub(crate) async fn snapshot(&self, reach: Reach) -> Result<PgTx, DbErr> {
        let mode = " ISOLATION LEVEL REPEATABLE READ READ ONLY";
        self.begin_in(&self.reads, reach, mode).await
    }

    async fn begin_in(
        &self,
        sessions: &Sessions<PgConnection>,
        reach: Reach,
        mode: &str,
    ) -> Result<PgTx, DbErr> {
        let mut opening = format!("BEGIN{mode}");
        if self.pgbouncer {
            for (name, value) in [
                ("statement_timeout", STATEMENT_TIMEOUT),
                ("lock_timeout", LOCK_TIMEOUT),
                ("idle_in_transaction_session_timeout", IDLE_TIMEOUT),
            ] {
                opening.push_str(&format!("; SET LOCAL {name} = '{value}'"));
            }
        }
        if let Some((name, value)) = reach.setting() {
            // An id or a word of ours: nothing in it needs quoting.
            opening.push_str(&format!("; SET LOCAL {name} = '{value}'"));
        }
        // As many may be stale as there are.
        let mut stale = sessions.count();
        loop {
            let mut open = Open {
                session: Some(sessions.lend().await?),
                is_left: false,
            };
            match open.command(&opening).await {
                Ok(_) => {
                    return Ok(PgTx {
                        open: Mutex::new(open),
                        persistent: !self.pgbouncer,
                        is_aborted: AtomicBool::new(false),
                    });
                }
                Err(error) => {
                    open.discard();
                    if stale == 0 || !is_lost(&error) {
                        return Err(lost(error));
                    }
                    stale -= 1;
                }
            }
        }
    }
}

/// A session in which a transaction is open, or may be: from before its BEGIN is sent until its end is answered. Whoever
/// goes away in between has it rolled back, or where that takes longer than [`UNDONE_WITHIN`] the session ended: its
/// locks would keep others waiting.
struct Open {
    session: Option<Lent<PgConnection>>,
    /// It is being rolled back already. Whoever goes away now ends the session.
    is_left: bool,
}

impl Open {
    fn session(&mut self) -> &mut PgConnection {
        self.session.as_mut().expect("a session until its end")
    }

    /// Runs statements without parameters, by the protocol that needs no preparing.
    async fn command(&mut self, sql: &str) -> Result<PgQueryResult, sqlx::Error> {
        bounded(self.session().execute(AssertSqlSafe(sql.to_owned()))).await
    }

    /// The transaction's end was answered: nothing of it is left in the session.
    fn end(mut self) {
        if let Some(lent) = self.session.take() {
            lent.end(&Ok::<_, sqlx::Error>(()));
        }
    }

    /// Ends the session, and with it whatever was begun.
    fn discard(mut self) {
        if let Some(lent) = self.session.take() {
            lent.discard();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(lent) = self.session.take() else {
            return;
        };
        let mut left = Self {
            session: Some(lent),
            is_left: true,
        };
        match Handle::try_current() {
            Ok(runtime) if !self.is_left => {
                runtime.spawn(async move {
                    let undo = async {
                        match left.command("ROLLBACK").await {
                            // That was the answer to what was left; the driver has sent nothing after it.
                            Err(sqlx::Error::Database(_)) => left.command("ROLLBACK").await,
                            undone => undone,
                        }
                    };
                    match tokio::time::timeout(UNDONE_WITHIN, undo).await {
                        Ok(Ok(_)) => left.end(),
                        // The database sees that nobody is there any more, and ends what it had begun.
                        _ => left.discard(),
                    }
                });
            }
            // The process ends, or this server: so does the connection, and the transaction with it.
            _ => left.discard(),
        }
    }
}

/// A transaction. Dropping it rolls back.
pub(crate) struct PgTx {
    open: Mutex<Open>,
    persistent: bool,
    /// A statement failed, and the database takes no further one.
    is_aborted: AtomicBool,
}

/// The one savepoint that a transaction has at a time.
const SAVEPOINT: &str = "attempt";

impl PgTx {
    pub(crate) async fn query(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let mut open = self.open.lock().await;
        let read = bounded(fetch(open.session(), &statement, self.persistent)).await;
        answers(self.noted(read).map(rows))
    }

    pub(crate) async fn execute(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let mut open = self.open.lock().await;
        let query = bind(&statement, self.persistent);
        done(self.noted(bounded(query.execute(open.session())).await))
    }

    /// Runs statements without parameters, by the protocol that needs no preparing.
    pub(crate) async fn command(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let ran = self.open.lock().await.command(sql).await;
        done(self.noted(ran))
    }

    /// Turns the transaction to another reach.
    pub(crate) async fn enter(&self, reach: Reach) -> Result<(), DbErr> {
        let mut sql = Reach::SETTINGS
            .map(|name| format!("SET LOCAL {name} = ''"))
            .join("; ");
        if let Some((name, value)) = reach.setting() {
            sql.push_str(&format!("; SET LOCAL {name} = '{value}'"));
        }
        self.command(&sql).await.map(drop)
    }

    /// Marks where [`Self::rewind`] goes back to.
    pub(crate) async fn mark(&self) -> Result<(), DbErr> {
        self.command(&format!("SAVEPOINT {SAVEPOINT}"))
            .await
            .map(drop)
    }

    /// Undoes what was done since [`Self::mark`], and lets go of the rows that were locked since.
    pub(crate) async fn rewind(&self) -> Result<(), DbErr> {
        let sql = format!("ROLLBACK TO SAVEPOINT {SAVEPOINT}");
        self.command(&sql).await?;
        self.is_aborted.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Commits; an error when a statement had failed, since the database would answer such a COMMIT by rolling
    /// back, without an error.
    pub(crate) async fn commit(self) -> Result<(), DbErr> {
        if self.is_aborted.into_inner() {
            return Err(DbErr::Custom(
                "a statement of the transaction failed".to_owned(),
            ));
        }
        let mut open = self.open.into_inner();
        match open.command("COMMIT").await {
            Ok(_) => {
                open.end();
                Ok(())
            }
            // It may be the answer to a statement that was left, and COMMIT not sent at all.
            Err(error) => {
                open.discard();
                Err(lost(error))
            }
        }
    }

    fn noted<T>(&self, outcome: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        if outcome.is_err() {
            self.is_aborted.store(true, Ordering::Relaxed);
        }
        outcome
    }
}

/// The statement that makes the setting and reads under it.
///
/// The order is forced, not hoped for: what depends on `scope.id` by LATERAL can only be the inner side of a
/// nested loop over `scope`, and OFFSET 0 keeps the planner from taking it apart. So the setting is made before
/// the first row is looked at. Were it otherwise, row-level security would answer nothing.
pub(crate) fn within(reach: Reach, statement: Statement) -> Result<Statement, DbErr> {
    let Some((name, value)) = reach.setting() else {
        return Ok(statement);
    };
    let Statement { sql, values, .. } = statement;
    let word = sql.split_whitespace().next().unwrap_or_default();
    if !word.eq_ignore_ascii_case("SELECT") && !word.eq_ignore_ascii_case("WITH") {
        return Err(DbErr::Custom("a read handle reads".to_owned()));
    }
    let mut values = values.map_or_else(Vec::new, |values| values.0);
    values.push(Value::from(value));
    let sql = format!(
        "WITH scope AS MATERIALIZED (SELECT set_config('{name}', ${}, true) AS id)
         SELECT r.* FROM scope CROSS JOIN LATERAL
             (SELECT q.* FROM ({sql}) q WHERE scope.id IS NOT NULL OFFSET 0) r",
        values.len()
    );
    Ok(Statement {
        sql,
        values: Some(Values(values)),
        db_backend: statement.db_backend,
    })
}

/// With the database looking whether its clients are there, where its machine can tell; connects once with either.
async fn watching(options: PgConnectOptions) -> Result<PgConnectOptions, DbErr> {
    let watching = options
        .clone()
        .options([("client_connection_check_interval", PRESENCE_INTERVAL)]);
    match try_connect(&watching).await {
        Ok(()) => Ok(watching),
        Err(DbErr::Conn(RuntimeErr::SqlxError(error)))
            if matches!(*error, sqlx::Error::Database(_)) =>
        {
            try_connect(&options).await?;
            Ok(options)
        }
        Err(error) => Err(error),
    }
}

/// Connects once. A server that cannot be reached is said at once, with the reason: the driver's pool would try for as
/// long as a request waits, and then say only that time is up.
pub(crate) async fn try_connect(options: &PgConnectOptions) -> Result<(), DbErr> {
    let connection = bounded(options.connect()).await.map_err(lost)?;
    // It has served: nothing is lost where it does not part politely.
    let _ = bounded(connection.close()).await;
    Ok(())
}

pub(crate) fn bind<D: sqlx::Database + sqlx::database::HasStatementCache>(
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

async fn fetch(
    connection: &mut PgConnection,
    statement: &Statement,
    persistent: bool,
) -> Result<Vec<PgRow>, sqlx::Error> {
    bind(statement, persistent).fetch_all(connection).await
}

fn rows(read: Vec<PgRow>) -> Vec<QueryResult> {
    read.into_iter().map(QueryResult::from).collect()
}

/// A driver's failure to read, as SeaORM tells it.
pub(crate) fn answers(
    read: Result<Vec<QueryResult>, sqlx::Error>,
) -> Result<Vec<QueryResult>, DbErr> {
    read.map_err(|error| DbErr::Query(RuntimeErr::SqlxError(error.into())))
}

fn done(ran: Result<PgQueryResult, sqlx::Error>) -> Result<ExecResult, DbErr> {
    ran.map(ExecResult::from)
        .map_err(|e| DbErr::Exec(RuntimeErr::SqlxError(e.into())))
}

/// Waits for an answer, but not for ever.
async fn bounded<T>(
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

/// Whether the session, and not the statement, is what failed; and not because it took too long.
fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() != std::io::ErrorKind::TimedOut,
        sqlx::Error::Database(_) => is_over(error),
        _ => false,
    }
}

pub(crate) fn lost(error: sqlx::Error) -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(error.into()))
}
