//! What a lane takes its work from.

use std::future::Future;
use std::time::Duration;

use chrono::TimeDelta;
use rawdrive_identity::{ProofRequest, ProofRequests as _};
use rawdrive_store::{Store, Turn};
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::job::{LeasedJob, backoff};
use rawdrive_tenancy_core::{Causes, StoreError};

/// How long work is a lane's own.
const LEASE: TimeDelta = TimeDelta::seconds(60);
/// The slow fallback: commits wake a lane, and for those of other servers somebody looks for all lanes together.
pub(crate) const POLL: Duration = Duration::from_secs(5);
/// How many jobs of one workspace are leased in a round.
const PER_WORKSPACE: u32 = 8;

/// Leased work of one kind.
pub(crate) trait Queue: Clone + Send + Sync + 'static {
    /// What is leased.
    type Item: Clone + Send + Sync + 'static;
    /// Where the next round begins.
    type Cursor: Default + Send;

    /// The kind's name.
    fn name(&self) -> &str;

    /// Leases up to `n` due items.
    fn lease(
        &self,
        cursor: &mut Self::Cursor,
        n: u32,
    ) -> impl Future<Output = Result<Round<Self::Item>, StoreError>> + Send;

    /// The item is done.
    fn finish(&self, item: &Self::Item) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The item is tried again after its backoff.
    fn retry(&self, item: &Self::Item) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// How often it was leased.
    fn attempts(item: &Self::Item) -> u32;

    /// What the log knows it by: no personal data.
    fn label(item: &Self::Item) -> String;

    /// Waits until there may be more.
    fn arrived(&self) -> impl Future<Output = ()> + Send;
}

/// What a round has leased.
pub(crate) struct Round<T> {
    pub(crate) items: Vec<T>,
    /// Whether a further round may find more at once.
    pub(crate) more: bool,
}

/// After how long an item that failed is due again.
pub(crate) fn pause(attempts: u32) -> Duration {
    backoff(attempts).to_std().unwrap_or_default()
}

/// Jobs of one kind.
#[derive(Debug, Clone)]
pub(crate) struct Jobs {
    pub(crate) store: Store,
    pub(crate) kind: String,
}

impl Queue for Jobs {
    type Item = LeasedJob;
    type Cursor = Option<WorkspaceId>;

    fn name(&self) -> &str {
        &self.kind
    }

    async fn lease(
        &self,
        cursor: &mut Option<WorkspaceId>,
        n: u32,
    ) -> Result<Round<LeasedJob>, StoreError> {
        let turn = Turn {
            kind: &self.kind,
            after: *cursor,
            jobs: n,
            per_workspace: PER_WORKSPACE,
            lease: LEASE,
        };
        let leased = self.store.lease_turn(&turn).await?;
        *cursor = leased.after;
        for (job, error) in &leased.unreadable {
            tracing::error!(
                error = %Causes(error), kind = self.kind, job = %job.id,
                "a job cannot be read and is kept"
            );
            // Where that fails, its lease ends by itself; the others go on.
            if let Err(error) = self.store.retry_job(job).await {
                tracing::warn!(error = %Causes(&error), job = %job.id, "its backoff was not recorded");
            }
        }
        Ok(Round {
            items: leased.jobs,
            more: leased.more,
        })
    }

    async fn finish(&self, job: &LeasedJob) -> Result<(), StoreError> {
        self.store.finish_job(job).await
    }

    async fn retry(&self, job: &LeasedJob) -> Result<(), StoreError> {
        self.store.retry_job(job).await
    }

    fn attempts(job: &LeasedJob) -> u32 {
        job.attempts
    }

    fn label(job: &LeasedJob) -> String {
        format!("{} of {}", job.id, job.workspace)
    }

    async fn arrived(&self) {
        self.store.jobs_arrived(&self.kind).await;
    }
}

/// Requests for mailed links. They belong to no workspace.
#[derive(Debug, Clone)]
pub(crate) struct Requests(pub(crate) Store);

impl Queue for Requests {
    type Item = ProofRequest;
    type Cursor = ();

    fn name(&self) -> &str {
        "mailed links"
    }

    async fn lease(&self, (): &mut (), n: u32) -> Result<Round<ProofRequest>, StoreError> {
        let items = self.0.lease_requests(n, LEASE).await?;
        let more = items.len() >= n as usize;
        Ok(Round { items, more })
    }

    async fn finish(&self, request: &ProofRequest) -> Result<(), StoreError> {
        self.0.finish_request(request).await
    }

    async fn retry(&self, request: &ProofRequest) -> Result<(), StoreError> {
        self.0.retry_request(request).await
    }

    fn attempts(request: &ProofRequest) -> u32 {
        request.attempts
    }

    fn label(request: &ProofRequest) -> String {
        format!("{} for {}", request.id, request.purpose)
    }

    async fn arrived(&self) {
        // Requests of other servers are seen too.
        let _ = tokio::time::timeout(POLL, self.0.requests_arrived()).await;
    }
}
