//! PostgreSQL: the pools, and the forms in which a statement is told how far it may see.
//!
//! Every setting is transaction-local, so that it ends with the transaction whoever uses the session next. A
//! read is one statement that makes the setting and reads under it; behind PgBouncer, whose sessions remember
//! no statements, it is a transaction. Whoever says nothing sees nothing: row-level security compares with
//! a setting that is not there.

use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection};
use sea_orm::sqlx::{self, ConnectOptions, Connection};
use sea_orm::{DbErr, ExecResult, QueryResult, RuntimeErr, Statement, Value, Values};

use crate::deadline::{Pulse, within_one_deadline};
use crate::pool::{Driven, Pool, ReadError, lost};
use crate::reach::Reach;
use crate::transaction::Transaction;
use crate::url::Server;

/// The longest that a statement may take in the database.
const STATEMENT_TIMEOUT: &str = "30s";
/// The longest that a statement waits for a row that another transaction holds.
const LOCK_TIMEOUT: &str = "15s";
/// The longest that a transaction may stand idle before the database ends it.
const IDLE_TIMEOUT: &str = "60s";
/// How often the database looks whether somebody still waits for its answer.
const PRESENCE_INTERVAL: &str = "1s";
/// The longest that a connection at start may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(40);

/// A PostgreSQL server's connections: for statements that read, for transactions that read, for those that write. A
/// transaction that reads outside itself never waits for a connection that another such transaction holds.
pub(crate) struct Postgres {
    readers: Pool<PgConnection>,
    reads: Pool<PgConnection>,
    writes: Pool<PgConnection>,
    pgbouncer: bool,
    pulse: Pulse,
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
        let pulse = Pulse::new();
        let pool = || Pool::new(options.clone(), server.pool_size, pulse.clone());
        let [readers, reads, writes] = [pool()?, pool()?, pool()?];
        Ok(Self {
            readers,
            reads,
            writes,
            pulse,
            pgbouncer: server.pgbouncer,
        })
    }

    /// Whether the last write found no room.
    pub(crate) fn is_full(&self) -> bool {
        self.pulse.is_full()
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
        within_one_deadline(async {
            let mut stale = self.readers.count();
            loop {
                match self.readers.read(&statement, true).await {
                    // Nothing was changed, so that reading again is right.
                    Err(ReadError::Statement(error)) if stale > 0 && is_stale(&error) => stale -= 1,
                    read => return Ok(read?),
                }
            }
        })
        .await
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
        pool: &Pool<PgConnection>,
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
        Transaction::begin(pool, &opening, !self.pgbouncer, is_stale).await
    }
}

/// A transaction. Dropping it rolls back.
pub(crate) type PgTx = Transaction<PgConnection>;

/// Turns a transaction to another reach.
pub(crate) async fn enter(tx: &PgTx, reach: Reach) -> Result<(), DbErr> {
    let mut sql = Reach::SETTINGS
        .map(|name| format!("SET LOCAL {name} = ''"))
        .join("; ");
    if let Some((name, value)) = reach.setting() {
        sql.push_str(&format!("; SET LOCAL {name} = '{value}'"));
    }
    tx.command(&sql).await.map(drop)
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
    let connection = tokio::time::timeout(CONNECT_WITHIN, options.connect());
    let connection = connection
        .await
        .map_err(|_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()));
    let connection = connection.and_then(|made| made).map_err(lost)?;
    // It has served: nothing is lost where it does not part politely.
    let _ = tokio::time::timeout(CONNECT_WITHIN, connection.close()).await;
    Ok(())
}

/// Whether a connection had been lost before the statement was sent; not whether it took too long.
fn is_stale(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() != std::io::ErrorKind::TimedOut,
        sqlx::Error::Database(_) => PgConnection::has_failed(error),
        _ => false,
    }
}
