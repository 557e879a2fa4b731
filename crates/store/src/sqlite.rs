//! SQLite: one file, one writer, and readers beside it.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rawdrive_migrations::{Extension, MigrateError};
use sea_orm::sqlx::SqlitePool;
use sea_orm::sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sea_orm::{DbErr, ExecResult, QueryResult, RuntimeErr, SqlxSqliteConnector, Statement};

use tokio::sync::Mutex;

use crate::deadline::{Pulse, within_one_deadline};
use crate::pool::{Pool, lost};
use crate::transaction::Transaction;

/// What is kept free for the index of the write-ahead log, and a page of the log: with it a server starts on a full disk.
const RESERVE_BYTES: usize = 64 * 1024;

/// How many read at a time beside the one writer.
const READERS: u32 = 4;
/// A writer that began as a reader would be refused when it writes, whatever the busy timeout.
const IMMEDIATE: &str = "BEGIN IMMEDIATE";

pub(crate) struct Sqlite {
    /// One connection: one writer at a time is SQLite's nature, and a fair queue beats busy-polling.
    writer: Pool<SqliteConnection>,
    readers: Pool<SqliteConnection>,
    /// For transactions that read: one of these never waits for a connection that another holds.
    snapshots: Pool<SqliteConnection>,
    /// What is to be done before anything else is written.
    recovery: Mutex<Vec<Statement>>,
    has_recovered: AtomicBool,
    /// A connection that is always open. With the last one the index of the write-ahead log goes, and on a full disk
    /// there may be no room for another.
    anchor: SqlitePool,
    pulse: Pulse,
}

impl Sqlite {
    /// Opens the file and brings its schema up to date.
    pub(crate) async fn open(path: &Path, extensions: &[Extension]) -> Result<Self, MigrateError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10))
            .pragma("secure_delete", "on")
            .pragma("recursive_triggers", "on");
        let anchor = match migrate(path, &options, extensions).await {
            Ok(anchor) => {
                keep(&reserve(path));
                anchor
            }
            // A full disk has no room for the index of the write-ahead log, which even readers need.
            Err(_) if release(&reserve(path)) => migrate(path, &options, extensions).await?,
            Err(error) => return Err(error),
        };
        let pulse = Pulse::new();
        let pool = |size| Pool::new(options.clone(), size, pulse.clone());
        let [writer, readers, snapshots] = [pool(1)?, pool(READERS)?, pool(READERS)?];
        Ok(Self {
            writer,
            readers,
            snapshots,
            anchor,
            pulse,
            recovery: Mutex::default(),
            has_recovered: AtomicBool::new(true),
        })
    }

    /// Has statements run, in one transaction, before whatever is written next.
    pub(crate) async fn recover_first(&self, statements: Vec<Statement>) {
        *self.recovery.lock().await = statements;
        self.has_recovered.store(false, Ordering::Release);
    }

    /// Runs what [`Self::recover_first`] was given, once. Returns how many rows it changed.
    pub(crate) async fn recovered(&self) -> Result<u64, DbErr> {
        if self.has_recovered.load(Ordering::Acquire) {
            return Ok(0);
        }
        let mut recovery = self.recovery.lock().await;
        let tx = Transaction::begin(&self.writer, IMMEDIATE, true, |_| false).await?;
        let mut changed = 0;
        for statement in &*recovery {
            changed += tx.execute(statement.clone()).await?.rows_affected();
        }
        tx.commit().await?;
        recovery.clear();
        self.has_recovered.store(true, Ordering::Release);
        Ok(changed)
    }

    /// Begins a transaction that writes.
    pub(crate) async fn begin(&self) -> Result<Transaction<SqliteConnection>, DbErr> {
        self.recovered().await?;
        Transaction::begin(&self.writer, IMMEDIATE, true, |_| false).await
    }

    /// Begins a transaction that sees one state of the database, from its first statement on.
    pub(crate) async fn snapshot(&self) -> Result<Transaction<SqliteConnection>, DbErr> {
        Transaction::begin(&self.snapshots, "BEGIN DEFERRED", true, |_| false).await
    }

    /// Reads: one statement, one state.
    pub(crate) async fn read(&self, statement: &Statement) -> Result<Vec<QueryResult>, DbErr> {
        Ok(self.readers.read(statement, true).await?)
    }

    /// Writes: one statement, a transaction of its own.
    pub(crate) async fn write(&self, statement: &Statement) -> Result<ExecResult, DbErr> {
        within_one_deadline(async {
            self.recovered().await?;
            let mut connection = self.writer.acquire().await?;
            let ran = connection.execute(statement, true).await;
            if ran.as_ref().is_ok_and(|ran| ran.rows_affected() > 0) {
                connection.has_written();
            }
            connection.end(&ran);
            ran.map_err(|error| DbErr::Exec(RuntimeErr::SqlxError(error.into())))
        })
        .await
    }

    /// As [`Self::write`], for a statement that answers rows.
    pub(crate) async fn write_returning(
        &self,
        statement: &Statement,
    ) -> Result<Vec<QueryResult>, DbErr> {
        self.recovered().await?;
        Ok(self.writer.read(statement, true).await?)
    }

    /// Whether the last write found no room.
    pub(crate) fn is_full(&self) -> bool {
        self.pulse.is_full()
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.snapshots.close().await;
        self.writer.close().await;
        self.anchor.close().await;
    }
}

async fn migrate(
    path: &Path,
    options: &SqliteConnectOptions,
    extensions: &[Extension],
) -> Result<SqlitePool, MigrateError> {
    let pool = SqlitePoolOptions::new().max_connections(1);
    let pool = pool.idle_timeout(None).max_lifetime(None);
    let pool = pool.connect_with(options.clone()).await.map_err(lost)?;
    // Whoever starts beside this one waits: a schema is many statements.
    let _alone = alone(path).await?;
    let connection = SqlxSqliteConnector::from_sqlx_sqlite_pool(pool.clone());
    rawdrive_migrations::migrate(&connection, extensions).await?;
    Ok(pool)
}

/// The file that keeps room free.
fn reserve(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".reserve");
    PathBuf::from(name)
}

/// Makes the reserve, if it is not there. Where there is no room for it, that is for another time.
fn keep(reserve: &Path) {
    let has_all = reserve
        .metadata()
        .is_ok_and(|file| file.len() >= RESERVE_BYTES as u64);
    if !has_all && std::fs::write(reserve, vec![0; RESERVE_BYTES]).is_err() {
        let _ = std::fs::remove_file(reserve);
    }
}

/// Gives the reserve up; whether there was one.
fn release(reserve: &Path) -> bool {
    std::fs::remove_file(reserve).is_ok()
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
