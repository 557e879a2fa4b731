//! Outbox and jobs: one table, leased.

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_tenancy_core::StoreError;
use rawdrive_tenancy_core::event::{DomainEvent, EventsTx};
use rawdrive_tenancy_core::id::{JobId, TypedId, WorkspaceId};
use rawdrive_tenancy_core::job::{JobsTx, LeasedJob, Work, backoff};
use sea_orm::{QueryResult, Set};

use crate::entity::jobs;
use crate::scope::{Tenant, column, corrupt, execute, failed, query};
use crate::store::{Store, WriteTx};

impl JobsTx for WriteTx {
    async fn enqueue(&mut self, work: Work, due: Option<DateTime<Utc>>) -> Result<(), StoreError> {
        let ambient = self.ambient();
        let text = serde_json::to_string(&work).map_err(|e| corrupt("jobs", "work", "new", e))?;
        let row = jobs::ActiveModel {
            id: Set(ambient.uuid()),
            work: Set(text),
            due_at: Set(due.unwrap_or(DateTime::UNIX_EPOCH)),
            retry_at: Set(DateTime::UNIX_EPOCH),
            leased_until: Set(DateTime::UNIX_EPOCH),
            attempts: Set(0),
            created_at: Set(ambient.now()),
            ..Default::default()
        };
        let insert = jobs::Entity::scoped_insert(&self.scope, [row]);
        insert
            .exec_without_returning(&self.tx)
            .await
            .map_err(failed("enqueue a job"))?;
        self.wakes_jobs = true;
        Ok(())
    }
}

impl EventsTx for WriteTx {
    async fn emit(&mut self, event: DomainEvent) -> Result<(), StoreError> {
        self.enqueue(Work::DeliverEvent { event }, None).await
    }
}

fn leased_of(row: &QueryResult) -> Result<LeasedJob, StoreError> {
    let id = JobId::from_uuid(column(row, "id")?);
    let work = serde_json::from_str(&column::<String>(row, "work")?)
        .map_err(|e| corrupt("jobs", "work", id, e))?;
    let attempts = u32::try_from(column::<i64>(row, "attempts")?).unwrap_or(u32::MAX);
    Ok(LeasedJob {
        id,
        workspace: WorkspaceId::from_uuid(column(row, "workspace_id")?),
        work,
        attempts,
    })
}

/// What the runner does across workspaces: it learns which workspace to enter, and nothing more of it.
impl Store {
    /// Leases up to `n` due jobs. Nobody else gets them until the lease ends.
    ///
    /// # Errors
    /// The database does not answer, or a row is corrupt.
    pub async fn lease_jobs(&self, n: u32, lease: TimeDelta) -> Result<Vec<LeasedJob>, StoreError> {
        const DUE: &str = "SELECT 1 AS one FROM jobs WHERE due_at <= $1 AND retry_at <= $2 AND leased_until <= $2 LIMIT 1";
        const LEASE: &str = "UPDATE jobs SET leased_until = $3, attempts = attempts + 1
            WHERE (workspace_id, id) IN (SELECT workspace_id, id FROM jobs
                WHERE due_at <= $1 AND retry_at <= $2 AND leased_until <= $2 ORDER BY id LIMIT $4)
            RETURNING workspace_id, id, work, attempts";
        let (now, real) = (self.0.ambient.now(), self.0.ambient.lease_now());
        // An idle runner only reads: a write transaction would wait in the writers' queue for nothing.
        if query(
            &self.0.reader,
            "look for jobs",
            DUE,
            [now.into(), real.into()],
        )
        .await?
        .is_empty()
        {
            return Ok(Vec::new());
        }
        let values = [now.into(), real.into(), (real + lease).into(), n.into()];
        let rows = query(&self.0.writer, "lease jobs", LEASE, values).await?;
        rows.iter().map(leased_of).collect()
    }

    /// A job is done.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn finish_job(&self, job: &LeasedJob) -> Result<(), StoreError> {
        const FINISH: &str =
            "DELETE FROM jobs WHERE workspace_id = $1 AND id = $2 AND attempts = $3";
        let values = [
            job.workspace.uuid().into(),
            job.id.uuid().into(),
            i64::from(job.attempts).into(),
        ];
        execute(&self.0.writer, "finish a job", FINISH, values).await?;
        Ok(())
    }

    /// A job failed; it is tried again after its backoff.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn retry_job(&self, job: &LeasedJob) -> Result<(), StoreError> {
        const RETRY: &str = "UPDATE jobs SET leased_until = $4, retry_at = $4
            WHERE workspace_id = $1 AND id = $2 AND attempts = $3";
        let at = self.0.ambient.lease_now() + backoff(job.attempts);
        let values = [
            job.workspace.uuid().into(),
            job.id.uuid().into(),
            i64::from(job.attempts).into(),
            at.into(),
        ];
        execute(&self.0.writer, "retry a job", RETRY, values).await?;
        Ok(())
    }

    /// Workspaces that have holds past their expiry.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn workspaces_with_overdue_holds(&self) -> Result<Vec<WorkspaceId>, StoreError> {
        const OVERDUE: &str = "SELECT DISTINCT workspace_id FROM holds WHERE state = 'held' AND expires_at <= $1 LIMIT 1000";
        let rows = query(
            &self.0.reader,
            "look for overdue holds",
            OVERDUE,
            [self.0.ambient.lease_now().into()],
        )
        .await?;
        rows.iter()
            .map(|row| Ok(WorkspaceId::from_uuid(column(row, "workspace_id")?)))
            .collect()
    }

    /// Ends the hold time of every operation under way. Right only for the one server of this database, before
    /// it takes its first request: whoever held them is dead.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn expire_holds_of_dead_server(&self) -> Result<u64, StoreError> {
        const EXPIRE: &str =
            "UPDATE holds SET expires_at = $1 WHERE state = 'held' AND expires_at > $1";
        execute(
            &self.0.writer,
            "expire holds",
            EXPIRE,
            [self.0.ambient.lease_now().into()],
        )
        .await
    }

    /// Whether there is such a workspace: for the operator's commands.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn has_workspace(&self, workspace: WorkspaceId) -> Result<bool, StoreError> {
        const ONE: &str = "SELECT 1 AS one FROM workspaces WHERE workspace_id = $1";
        Ok(!query(
            &self.0.reader,
            "look for a workspace",
            ONE,
            [workspace.uuid().into()],
        )
        .await?
        .is_empty())
    }

    /// Deletes what has outlived its use: idempotency keys after a day, sessions past their end, attempt
    /// windows that are over, mailed proofs past their end, and closed holds after a day.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        const SWEEPS: [&str; 6] = [
            "DELETE FROM idempotency_keys WHERE created_at < $2 AND leased_until < $1",
            "DELETE FROM sessions WHERE expires_at < $1",
            "DELETE FROM refresh_tokens WHERE expires_at < $1",
            "DELETE FROM password_attempts WHERE window_ends_at < $1",
            "DELETE FROM proofs WHERE expires_at < $1",
            "DELETE FROM holds WHERE state <> 'held' AND expires_at < $2",
        ];
        let now = self.0.ambient.lease_now().min(self.0.ambient.now());
        for sql in SWEEPS {
            let values = [now.into(), (now - TimeDelta::days(1)).into()];
            execute(&self.0.writer, "sweep", sql, values).await?;
        }
        Ok(())
    }
}
