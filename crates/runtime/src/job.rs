//! What a handler is given, and what it answers.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use rawdrive_store::{Release, Store, WriteTx};
use rawdrive_tenancy_core::id::{JobId, WorkspaceId};
use rawdrive_tenancy_core::job::LeasedJob;
use rawdrive_tenancy_core::{StoreError, SystemReason, WorkspaceScope};

/// What a handler works with: the store, and the job that it carries out.
#[derive(Debug, Clone)]
pub struct JobContext {
    store: Store,
    scope: WorkspaceScope,
    job: Arc<LeasedJob>,
}

impl JobContext {
    pub(crate) fn new(store: Store, job: LeasedJob) -> Self {
        Self {
            store,
            scope: job_scope(job.workspace),
            job: Arc::new(job),
        }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The job's workspace, in the name of the job runner.
    #[must_use]
    pub fn scope(&self) -> &WorkspaceScope {
        &self.scope
    }

    /// The job's id: the same in each attempt, and so a key for what must happen once elsewhere.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.job.id
    }

    /// How often the job was begun, this time included.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.job.attempts
    }

    /// Begins a write in the job's workspace, also while it takes no writes.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn begin(&self) -> Result<WriteTx, StoreError> {
        self.store
            .begin_despite_read_only(&self.scope, Release::System)
            .await
    }

    /// The job is done with this transaction: both stand, or neither.
    ///
    /// # Errors
    /// The job is another runner's by now: the transaction must be dropped. Or the database does not answer.
    pub async fn finish(&self, tx: &mut WriteTx) -> Result<(), StoreError> {
        tx.finish_job(&self.job).await
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a leased job, or a row past its time, names the workspace whose scope is entered"
)]
pub(crate) fn job_scope(workspace: WorkspaceId) -> WorkspaceScope {
    WorkspaceScope::for_system(workspace, SystemReason::JOB)
}

/// Why a job is not done. By `?` any error says: try again later.
pub struct JobError {
    cause: Box<dyn Error + Send + Sync>,
    gives_up: bool,
}

impl JobError {
    /// Trying again is of no use: the job is deleted, and the reason is in the log.
    pub fn give_up(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            cause: cause.into(),
            gives_up: true,
        }
    }

    /// The job is tried again after its backoff.
    pub fn retry(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            cause: cause.into(),
            gives_up: false,
        }
    }

    /// Why.
    #[must_use]
    pub fn cause(&self) -> &(dyn Error + 'static) {
        &*self.cause
    }

    pub(crate) fn gives_up(&self) -> bool {
        self.gives_up
    }
}

impl fmt::Debug for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.cause, f)
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for JobError {
    fn from(cause: E) -> Self {
        Self::retry(cause)
    }
}

/// A handler whose types are forgotten.
pub(crate) type Handler<T> =
    Arc<dyn Fn(T) -> BoxFuture<'static, Result<(), JobError>> + Send + Sync>;
