//! One transaction on a connection of its own, the same for both databases.
//!
//! Invariant: a connection whose BEGIN, COMMIT or ROLLBACK did not end as it should is never used again, and COMMIT
//! answers only for the outermost transaction. BEGIN is sent as itself and never as a savepoint, so that a connection
//! that is still inside a transaction refuses it; SQLite's COMMIT then ends with autocommit on, or is an error.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sea_orm::sqlx::Error;
use sea_orm::{DbErr, ExecResult, QueryResult, RuntimeErr, Statement};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use crate::deadline::within_one_deadline;
use crate::pool::{Driven, Pool, PooledConnection, lost};

/// The longest that a cancelled request's transaction may take to be rolled back before its connection is closed: it may
/// wait for a lock, and nobody needs what it waits for.
const UNDONE_WITHIN: Duration = Duration::from_secs(1);

/// A connection in which a transaction is open, or may be: from before its BEGIN is sent until its end is answered. A
/// cancelled request has it rolled back, or where that takes longer than [`UNDONE_WITHIN`] the connection closed: its
/// locks would keep others waiting.
struct Open<C: Driven> {
    connection: Option<PooledConnection<C>>,
    /// It is to be closed, not rolled back: it has failed, or is being rolled back already.
    must_close: bool,
}

impl<C: Driven> Open<C> {
    fn connection(&mut self) -> &mut PooledConnection<C> {
        self.connection
            .as_mut()
            .expect("a connection until its end")
    }

    fn note<T>(&mut self, answer: Result<T, Error>) -> Result<T, Error> {
        if answer.as_ref().is_err_and(C::has_failed) {
            self.must_close = true;
        }
        answer
    }

    /// The transaction's end was answered: nothing of it is left in the connection.
    fn end(mut self) {
        if let Some(connection) = self.connection.take() {
            connection.end(&Ok::<_, Error>(()));
        }
    }

    /// Closes the connection, and with it whatever was begun.
    fn discard(mut self) {
        if let Some(connection) = self.connection.take() {
            connection.discard();
        }
    }
}

impl<C: Driven> Drop for Open<C> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        match Handle::try_current() {
            Ok(runtime) if !self.must_close => {
                let mut left = Self {
                    connection: Some(connection),
                    must_close: true,
                };
                runtime.spawn(async move {
                    let undo = async {
                        match left.connection().command("ROLLBACK").await {
                            // That was the answer to the statement that was cancelled; the driver has sent nothing
                            // after it. Where such an answer cannot come, the connection is closed.
                            Err(Error::Database(_)) if C::OUTLIVES_CANCELLATION => {
                                left.connection().command("ROLLBACK").await
                            }
                            undone => undone,
                        }
                    };
                    match tokio::time::timeout(UNDONE_WITHIN, undo).await {
                        Ok(Ok(_)) => left.end(),
                        _ => left.discard(),
                    }
                });
            }
            // It is closed, and the transaction ends with it; as it does when the process ends.
            _ => connection.discard(),
        }
    }
}

/// A transaction. Dropping it rolls back.
pub(crate) struct Transaction<C: Driven> {
    open: Mutex<Open<C>>,
    persistent: bool,
    /// A statement failed, or its answer was not waited for: no further one is run. PostgreSQL refuses them by itself;
    /// SQLite may have rolled back by itself, and would run them outside of any transaction.
    is_aborted: AtomicBool,
    /// Rows were changed.
    has_written: AtomicBool,
}

/// The one savepoint that a transaction has at a time.
const SAVEPOINT: &str = "attempt";

impl<C: Driven> Transaction<C> {
    /// Begins with the statements of `opening`. A connection that turns out to have been lost while idle, as
    /// `is_stale` says of the error, is passed over.
    pub(crate) async fn begin(
        pool: &Pool<C>,
        opening: &str,
        persistent: bool,
        is_stale: impl Fn(&Error) -> bool,
    ) -> Result<Self, DbErr> {
        within_one_deadline(async {
            // As many may be stale as there are.
            let mut stale = pool.count();
            loop {
                let mut open = Open {
                    connection: Some(pool.acquire().await?),
                    must_close: false,
                };
                match open.connection().command(opening).await {
                    Ok(_) => {
                        return Ok(Self {
                            open: Mutex::new(open),
                            persistent,
                            is_aborted: AtomicBool::new(false),
                            has_written: AtomicBool::new(false),
                        });
                    }
                    Err(error) => {
                        open.discard();
                        if stale == 0 || !is_stale(&error) {
                            return Err(lost(error));
                        }
                        stale -= 1;
                    }
                }
            }
        })
        .await
    }

    pub(crate) async fn query(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let mut open = self.open.lock().await;
        self.require_whole()?;
        let read = open.connection().rows(&statement, self.persistent).await;
        self.noted(open.note(read))
            .map_err(|e| DbErr::Query(RuntimeErr::SqlxError(e.into())))
    }

    pub(crate) async fn execute(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let mut open = self.open.lock().await;
        self.require_whole()?;
        let ran = open.connection().execute(&statement, self.persistent).await;
        let ran = self.noted(open.note(ran)).map_err(refused)?;
        if ran.rows_affected() > 0 {
            self.has_written.store(true, Ordering::Relaxed);
        }
        Ok(ran)
    }

    /// Runs statements without parameters, by the protocol that needs no preparing.
    pub(crate) async fn command(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let mut open = self.open.lock().await;
        self.require_whole()?;
        let ran = open.connection().command(sql).await;
        self.noted(open.note(ran)).map_err(refused)
    }

    /// Marks where [`Self::rewind`] goes back to.
    pub(crate) async fn mark(&self) -> Result<(), DbErr> {
        self.command(&format!("SAVEPOINT {SAVEPOINT}"))
            .await
            .map(drop)
    }

    /// Undoes what was done since [`Self::mark`], and lets go of the rows that were locked since.
    pub(crate) async fn rewind(&self) -> Result<(), DbErr> {
        let mut open = self.open.lock().await;
        self.is_aborted.store(true, Ordering::Relaxed);
        let sql = format!("ROLLBACK TO SAVEPOINT {SAVEPOINT}");
        let ran = open.connection().command(&sql).await;
        self.noted(open.note(ran)).map_err(refused).map(drop)
    }

    /// Commits; an error when a statement had failed, since PostgreSQL would answer such a COMMIT by rolling back,
    /// without an error.
    pub(crate) async fn commit(self) -> Result<(), DbErr> {
        if self.is_aborted.into_inner() {
            return Err(aborted());
        }
        let mut open = self.open.into_inner();
        match open.connection().command("COMMIT").await {
            Ok(_) => {
                if self.has_written.into_inner() {
                    open.connection().has_written();
                }
                open.end();
                Ok(())
            }
            // Whether it took effect is unknown, and whether the transaction is still open. On PostgreSQL it may be
            // the answer to a statement that was cancelled, and COMMIT not sent at all.
            Err(error) => {
                open.discard();
                Err(refused(error))
            }
        }
    }

    /// From here to the statement's answer the transaction counts as aborted: whoever does not wait for the answer
    /// does not know what was done.
    fn require_whole(&self) -> Result<(), DbErr> {
        if self.is_aborted.swap(true, Ordering::Relaxed) {
            return Err(aborted());
        }
        Ok(())
    }

    fn noted<T>(&self, answer: Result<T, Error>) -> Result<T, Error> {
        self.is_aborted.store(answer.is_err(), Ordering::Relaxed);
        answer
    }
}

fn aborted() -> DbErr {
    DbErr::Custom("a statement of the transaction failed".to_owned())
}

fn refused(error: Error) -> DbErr {
    DbErr::Exec(RuntimeErr::SqlxError(error.into()))
}
