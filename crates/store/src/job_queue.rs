//! Outbox and jobs: one table, leased.

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_tenancy_core::StoreError;
use rawdrive_tenancy_core::id::{JobId, TypedId, WorkspaceId};
use rawdrive_tenancy_core::job::{LeasedJob, backoff};
use sea_orm::QueryResult;
use uuid::Uuid;

use crate::connection::Reach;
use crate::scope::{column, corrupt, execute, failed, query, to_change_if_free};
use crate::store::Store;

/// For how many days the provider's events are kept: three times as long as the provider itself lists them, which is as
/// far back as reconciliation looks.
const EVENT_DAYS: i64 = 90;
/// So many counters of attempts stay, which is some 100 MB.
const MOST_COUNTERS: i64 = 1_000_000;

fn leased_of(row: &QueryResult) -> Result<LeasedJob, StoreError> {
    let id = JobId::from_uuid(column(row, "id")?);
    let job = serde_json::from_str(&column::<String>(row, "work")?)
        .map_err(|e| corrupt("jobs", "work", id, e))?;
    let attempts = u32::try_from(column::<i64>(row, "attempts")?).unwrap_or(u32::MAX);
    Ok(LeasedJob {
        id,
        workspace: WorkspaceId::from_uuid(column(row, "workspace_id")?),
        job,
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
        const OPERATION: &str = "lease jobs";
        let (now, real) = (self.0.env.now(), self.0.env.lease_now());
        // An idle runner only reads: a write transaction would wait in the writers' queue for nothing.
        let waiting = self.workspaces_with_due_jobs(n, now, real).await?;
        let Some(first) = waiting.first() else {
            return Ok(Vec::new());
        };
        let tx = self.begin_in(Reach::Workspace(*first), OPERATION).await?;
        // What another server leases just now is left to it.
        let lock = to_change_if_free(&tx);
        let sql = format!(
            "UPDATE jobs SET leased_until = $4, attempts = attempts + 1
            WHERE workspace_id = $1 AND id IN (SELECT id FROM jobs
                WHERE workspace_id = $1 AND due_at <= $2 AND retry_at <= $3 AND leased_until <= $3
                ORDER BY id LIMIT $5{lock})
            RETURNING workspace_id, id, work, attempts"
        );
        let mut leased = Vec::new();
        for workspace in waiting {
            let room = i64::from(n) - leased.len() as i64;
            if room <= 0 {
                break;
            }
            tx.enter(Reach::Workspace(workspace), OPERATION).await?;
            let values = [
                workspace.uuid().into(),
                now.into(),
                real.into(),
                (real + lease).into(),
                room.into(),
            ];
            for row in query(&tx, OPERATION, &sql, values).await? {
                leased.push(leased_of(&row)?);
            }
        }
        tx.commit().await.map_err(failed(OPERATION))?;
        leased.sort_unstable_by_key(|job| job.id);
        Ok(leased)
    }

    /// The workspaces of the oldest due jobs. More than one runner can lease: others may be at the first ones.
    async fn workspaces_with_due_jobs(
        &self,
        n: u32,
        now: DateTime<Utc>,
        real: DateTime<Utc>,
    ) -> Result<Vec<WorkspaceId>, StoreError> {
        const DUE: &str = "SELECT workspace_id FROM jobs
            WHERE due_at <= $1 AND retry_at <= $2 AND leased_until <= $2 ORDER BY id LIMIT $3";
        let values = [now.into(), real.into(), (4 * i64::from(n)).into()];
        let rows = query(&self.reads(Reach::Worker), "look for jobs", DUE, values).await?;
        let mut workspaces = Vec::new();
        for row in &rows {
            let workspace = WorkspaceId::from_uuid(column(row, "workspace_id")?);
            if !workspaces.contains(&workspace) {
                workspaces.push(workspace);
            }
        }
        Ok(workspaces)
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
        let within = self.writes(Reach::Workspace(job.workspace));
        execute(&within, "finish a job", FINISH, values).await?;
        Ok(())
    }

    /// A job failed; it is tried again after its backoff.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn retry_job(&self, job: &LeasedJob) -> Result<(), StoreError> {
        const RETRY: &str = "UPDATE jobs SET leased_until = $4, retry_at = $4
            WHERE workspace_id = $1 AND id = $2 AND attempts = $3";
        let at = self.0.env.lease_now() + backoff(job.attempts);
        let values = [
            job.workspace.uuid().into(),
            job.id.uuid().into(),
            i64::from(job.attempts).into(),
            at.into(),
        ];
        let within = self.writes(Reach::Workspace(job.workspace));
        execute(&within, "retry a job", RETRY, values).await?;
        Ok(())
    }

    /// Workspaces that have holds past their expiry.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn workspaces_with_overdue_holds(&self) -> Result<Vec<WorkspaceId>, StoreError> {
        const OVERDUE: &str = "SELECT DISTINCT workspace_id FROM holds WHERE state = 'held' AND expires_at <= $1 LIMIT 1000";
        let rows = query(
            &self.reads(Reach::Worker),
            "look for overdue holds",
            OVERDUE,
            [self.0.env.lease_now().into()],
        )
        .await?;
        rows.iter()
            .map(|row| Ok(WorkspaceId::from_uuid(column(row, "workspace_id")?)))
            .collect()
    }

    /// Gives back what an earlier run of the one server held when it broke off: holds of operations under way, and leases
    /// of the payment provider's operations and objects. On SQLite alone: there the one server, before its first
    /// write, knows that whoever held them is dead. On PostgreSQL others may be at work; what the dead held expires
    /// by itself. Where it fails, on a full disk, it is done before whatever is written first. Returns how many.
    ///
    /// A command beside the server that has leased an object loses it, and writes nothing: the fence sees to that.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn recover(&self) -> Result<u64, StoreError> {
        const HOLDS: &str =
            "UPDATE holds SET expires_at = $1 WHERE state = 'held' AND expires_at > $1";
        const OPERATIONS: &str = "UPDATE billing_operations SET leased_until = $1
            WHERE outcome IS NULL AND leased_until > $1";
        // As what was given back has it: a time that is always past.
        const OBJECTS: &str =
            "UPDATE billing_objects SET leased_until = $2 WHERE leased_until > $1";
        let now = self.0.env.lease_now();
        let of = |sql, values: Vec<sea_orm::Value>| {
            sea_orm::Statement::from_sql_and_values(sea_orm::DatabaseBackend::Sqlite, sql, values)
        };
        self.0
            .database
            .recover(vec![
                of(HOLDS, vec![now.into()]),
                of(OPERATIONS, vec![now.into()]),
                of(OBJECTS, vec![now.into(), DateTime::UNIX_EPOCH.into()]),
            ])
            .await
            .map_err(failed("give back what an earlier run held"))
    }

    /// Whether there is such a workspace: for the operator's commands.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn has_workspace(&self, workspace: WorkspaceId) -> Result<bool, StoreError> {
        const ONE: &str = "SELECT 1 AS one FROM workspaces WHERE workspace_id = $1";
        Ok(!query(
            &self.reads(Reach::Workspace(workspace)),
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
        // Of counters the ones that end last are kept: nobody fills the table, however many addresses they have.
        const SURPLUS: &str = "DELETE FROM password_attempts WHERE window_ends_at <=
            (SELECT window_ends_at FROM password_attempts ORDER BY window_ends_at DESC LIMIT 1 OFFSET $1)";
        const OF_ALL: [&str; 2] = [
            "DELETE FROM password_attempts WHERE window_ends_at < $1",
            "DELETE FROM proofs WHERE expires_at < $1",
        ];
        // What came of it is projected. One that comes again is taken once more, and changes nothing.
        const EVENTS: &str =
            "DELETE FROM billing_events WHERE disposition = 'touches' AND received_at < $1";
        const OF_ONE: [&str; 4] = [
            "DELETE FROM idempotency_keys WHERE workspace_id = $1 AND created_at < $3 AND leased_until < $2",
            "DELETE FROM sessions WHERE workspace_id = $1 AND expires_at < $2",
            "DELETE FROM refresh_tokens WHERE workspace_id = $1 AND expires_at < $2",
            "DELETE FROM holds WHERE workspace_id = $1 AND state <> 'held' AND expires_at < $3",
        ];
        let now = self.0.env.lease_now().min(self.0.env.now());
        let a_day_ago = now - TimeDelta::days(1);
        let on = self.writes(Reach::Installation);
        for sql in OF_ALL {
            execute(&on, "sweep", sql, [now.into()]).await?;
        }
        execute(&on, "sweep", SURPLUS, [MOST_COUNTERS.into()]).await?;
        let old = now - TimeDelta::days(EVENT_DAYS);
        execute(&on, "sweep", EVENTS, [old.into()]).await?;
        let mut after = None;
        loop {
            let page = self.workspaces_after(after).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(*last);
            for workspace in page {
                let tx = self.begin_in(Reach::Workspace(workspace), "sweep").await?;
                for sql in OF_ONE {
                    let values = [workspace.uuid().into(), now.into(), a_day_ago.into()];
                    execute(&tx, "sweep", sql, values).await?;
                }
                tx.commit().await.map_err(failed("sweep"))?;
            }
        }
    }

    /// Workspaces by id, some at a time.
    async fn workspaces_after(
        &self,
        after: Option<WorkspaceId>,
    ) -> Result<Vec<WorkspaceId>, StoreError> {
        const NEXT: &str = "SELECT workspace_id FROM workspaces WHERE workspace_id > $1
            ORDER BY workspace_id LIMIT 1000";
        let after = after.map_or(Uuid::nil(), TypedId::uuid);
        let on = self.reads(Reach::Worker);
        let rows = query(&on, "list workspaces", NEXT, [after.into()]).await?;
        rows.iter()
            .map(|row| Ok(WorkspaceId::from_uuid(column(row, "workspace_id")?)))
            .collect()
    }
}
