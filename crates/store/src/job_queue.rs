//! Outbox and jobs: one table, leased.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_tenancy_core::StoreError;
use rawdrive_tenancy_core::id::{JobId, TypedId, WorkspaceId};
use rawdrive_tenancy_core::job::{Job, LeasedJob, backoff};
use rawdrive_usage::RESERVATION;
use sea_orm::{QueryResult, Value};
use uuid::Uuid;

use crate::reach::Reach;
use crate::scope::{column, corrupt, count, execute, failed, query, to_change_if_free};
use crate::store::{Store, WriteTx};
use crate::url::Backend;

/// For how many days the provider's events are kept: three times as long as the provider itself lists them, which is as
/// far back as reconciliation looks.
const EVENT_DAYS: i64 = 90;
/// So many counters of attempts stay, which is some 100 MB.
const MOST_COUNTERS: i64 = 1_000_000;

/// Of a job that was leased by whoever finishes it: its attempts are the fence.
const FINISH: &str = "DELETE FROM jobs WHERE workspace_id = $1 AND id = $2 AND attempts = $3";
/// So many workspaces one statement looks at, and so many statements one round makes. Where more wait, and none of
/// them has a due job, the next round goes on behind them.
const SEEN_AT_ONCE: usize = 256;
const LOOKS: usize = 64;
/// From one kind to the next by `jobs_by_turn`.
const KINDS: &str = "WITH RECURSIVE kinds (kind) AS (
    SELECT (SELECT j.kind FROM jobs j ORDER BY j.kind LIMIT 1)
    UNION ALL
    SELECT (SELECT j.kind FROM jobs j WHERE j.kind > kinds.kind ORDER BY j.kind LIMIT 1)
    FROM kinds WHERE kinds.kind IS NOT NULL)";

const SWEEP: &str = "sweep";
/// How many days back the feed of events reaches, and what is kept of deliveries.
const FEED_DAYS: i64 = 90;
/// So often one sweep looks for workspaces. What is left is the next one's.
const SWEEPS: usize = 100;
/// What is deleted of workspaces: the table, its key within the workspace, the column by whose index it is found, and
/// when it is due ($1 is now, $2 a day ago, $3 as long ago as the feed of events reaches).
const SWEPT: [(&str, &str, &str, &str); 6] = [
    (
        "idempotency_keys",
        "actor, key",
        "created_at",
        "created_at < $2 AND leased_until < $1",
    ),
    ("sessions", "id", "expires_at", "expires_at < $1"),
    ("refresh_tokens", "id", "expires_at", "expires_at < $1"),
    (
        "holds",
        "id",
        "expires_at",
        "state <> 'held' AND expires_at < $2",
    ),
    ("events", "seq", "at", "at < $3"),
    (
        "webhook_deliveries",
        "id",
        "created_at",
        "state <> 'pending' AND created_at < $3",
    ),
];

/// One round of one kind: what [`Store::lease_turn`] is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Turn<'a> {
    /// The kind's name.
    pub kind: &'a str,
    /// Where the last round ended: [`LeasedTurn::after`].
    pub after: Option<WorkspaceId>,
    /// How many jobs at most.
    pub jobs: u32,
    /// How many of one workspace at most.
    pub per_workspace: u32,
    /// How long they are the runner's own.
    pub lease: TimeDelta,
}

/// What a round has leased.
#[derive(Debug)]
pub struct LeasedTurn {
    /// Jobs, oldest first.
    pub jobs: Vec<LeasedJob>,
    /// Jobs whose row cannot be read, and why. Leased too: they are retried like the others.
    pub unreadable: Vec<(LeasedJob, StoreError)>,
    /// Where the next round begins.
    pub after: Option<WorkspaceId>,
    /// Whether a further round may find more at once.
    pub more: bool,
}

impl LeasedTurn {
    fn take(&mut self, kind: &str, row: &QueryResult) -> Result<(), StoreError> {
        let id = JobId::from_uuid(column(row, "id")?);
        let attempts = u32::try_from(column::<i64>(row, "attempts")?).unwrap_or(u32::MAX);
        let workspace = WorkspaceId::from_uuid(column(row, "workspace_id")?);
        let leased = |job| LeasedJob {
            id,
            workspace,
            job,
            attempts,
        };
        match serde_json::from_str(&column::<String>(row, "work")?) {
            Ok(job) => self.jobs.push(leased(job)),
            Err(error) => {
                let empty = Job::named(kind, &serde_json::Map::new())?;
                let error = corrupt("jobs", "work", id, error);
                self.unreadable.push((leased(empty), error));
            }
        }
        Ok(())
    }
}

impl WriteTx {
    /// A job is done together with what this transaction does: both stand, or neither.
    ///
    /// # Errors
    /// [`StoreError::Dangling`] where the job is another runner's by now, or another workspace's: what the transaction
    /// has done is to be dropped. Or the database does not answer.
    pub async fn finish_job(&mut self, job: &LeasedJob) -> Result<(), StoreError> {
        let operation = "finish a job";
        let values = [
            self.scope.workspace().uuid().into(),
            job.id.uuid().into(),
            i64::from(job.attempts).into(),
        ];
        match execute(&self.tx, operation, FINISH, values).await? {
            0 => Err(StoreError::Dangling { operation }),
            _ => Ok(()),
        }
    }
}

/// What the runner does across workspaces: it learns which workspace to enter, and nothing more of it.
impl Store {
    /// Leases up to `n` due jobs of any kind, oldest first: for tests and tools. A runner takes turns by
    /// [`Store::lease_turn`].
    ///
    /// # Errors
    /// The database does not answer, or a row is corrupt.
    pub async fn lease_jobs(&self, n: u32, lease: TimeDelta) -> Result<Vec<LeasedJob>, StoreError> {
        let (mut leased, mut after) = (Vec::new(), None);
        let kinds = self.job_kinds().await?;
        for kind in kinds {
            loop {
                let turn = Turn {
                    kind: &kind,
                    after,
                    jobs: n - u32::try_from(leased.len()).unwrap_or(n).min(n),
                    per_workspace: n,
                    lease,
                };
                if turn.jobs == 0 {
                    break;
                }
                let got = self.lease_turn(&turn).await?;
                if let Some((_, error)) = got.unreadable.into_iter().next() {
                    return Err(error);
                }
                after = got.after;
                // Without a lease the same ones would come for ever.
                let more = got.more && !got.jobs.is_empty() && lease > TimeDelta::zero();
                leased.extend(got.jobs);
                if !more {
                    break;
                }
            }
            after = None;
        }
        leased.sort_unstable_by_key(|job| job.id);
        Ok(leased)
    }

    /// Leases due jobs of one kind, from one workspace after the other beginning behind the cursor. Nobody else gets
    /// them until the lease ends.
    ///
    /// Workspaces are found by an index, in steps from one to the next: how many jobs wait in each costs nothing.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn lease_turn(&self, turn: &Turn<'_>) -> Result<LeasedTurn, StoreError> {
        const OPERATION: &str = "lease jobs";
        let (now, real) = (self.0.env.now(), self.0.env.lease_now());
        // An idle runner only reads: a write transaction would wait in the writers' queue for nothing.
        let (waiting, after) = self.next_workspaces(turn, now, real).await?;
        let mut leased = LeasedTurn {
            jobs: Vec::new(),
            unreadable: Vec::new(),
            after,
            more: false,
        };
        let Some(first) = waiting.first() else {
            return Ok(leased);
        };
        let several = u32::try_from(waiting.len()).unwrap_or(u32::MAX);
        let share = turn.jobs.div_ceil(several).min(turn.per_workspace).max(1);
        let tx = self.begin_in(Reach::Workspace(*first), OPERATION).await?;
        tx.by_index(OPERATION).await?;
        // What another server leases just now is left to it.
        let lock = to_change_if_free(&tx);
        let sql = format!(
            "UPDATE jobs SET leased_until = $4, attempts = attempts + 1
            WHERE workspace_id = $1 AND id IN (SELECT id FROM jobs
                WHERE workspace_id = $1 AND kind = $6 AND leased_until <= $3 AND due_at <= $2
                ORDER BY leased_until, id LIMIT $5{lock})
            RETURNING workspace_id, id, work, attempts"
        );
        let mut room = turn.jobs;
        for workspace in waiting {
            if room == 0 {
                leased.more = true;
                break;
            }
            tx.enter(Reach::Workspace(workspace), OPERATION).await?;
            let n = share.min(room);
            let values = [
                workspace.uuid().into(),
                now.into(),
                real.into(),
                (real + turn.lease).into(),
                i64::from(n).into(),
                turn.kind.into(),
            ];
            let rows = query(&tx, OPERATION, &sql, values).await?;
            let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
            leased.more |= count >= n;
            room = room.saturating_sub(count);
            leased.after = Some(workspace);
            for row in rows {
                leased.take(turn.kind, &row)?;
            }
        }
        tx.commit().await.map_err(failed(OPERATION))?;
        leased.jobs.sort_unstable_by_key(|job| job.id);
        Ok(leased)
    }

    /// The next workspaces, in the order of their ids and once round, that have a due job of the kind: no more than
    /// jobs are asked for. Besides, where the look ended.
    async fn next_workspaces(
        &self,
        turn: &Turn<'_>,
        now: DateTime<Utc>,
        real: DateTime<Utc>,
    ) -> Result<(Vec<WorkspaceId>, Option<WorkspaceId>), StoreError> {
        // By kind and workspace as a pair: the order is that of the index, and no other index gives it.
        let sql = format!(
            "WITH RECURSIVE turn (workspace_id, n) AS (
                SELECT (SELECT CASE WHEN j.kind = $1 THEN j.workspace_id END FROM jobs j
                    WHERE (j.kind, j.workspace_id) > ($1, $2) ORDER BY j.kind, j.workspace_id LIMIT 1), 1
                UNION ALL
                SELECT (SELECT CASE WHEN j.kind = $1 THEN j.workspace_id END FROM jobs j
                    WHERE (j.kind, j.workspace_id) > ($1, turn.workspace_id)
                    ORDER BY j.kind, j.workspace_id LIMIT 1), turn.n + 1
                FROM turn WHERE turn.workspace_id IS NOT NULL AND turn.n < {SEEN_AT_ONCE})
            SELECT turn.workspace_id AS workspace_id, CASE WHEN (SELECT 1 FROM jobs j
                WHERE j.kind = $1 AND j.workspace_id = turn.workspace_id AND j.leased_until <= $3 AND j.due_at <= $4
                ORDER BY j.leased_until LIMIT 1) = 1 THEN 1 ELSE 0 END AS is_due
            FROM turn WHERE turn.workspace_id IS NOT NULL"
        );
        let start = turn.after.map(TypedId::uuid);
        let (mut at, mut is_round) = (start.unwrap_or_default(), start.is_none());
        let mut waiting = Vec::new();
        let mut looked_at = turn.after;
        for _ in 0..LOOKS {
            let values = [turn.kind.into(), at.into(), real.into(), now.into()];
            let rows = self.look("look for jobs", &sql, values).await?;
            for row in &rows {
                at = column(row, "workspace_id")?;
                if is_round && start.is_some_and(|start| at > start) {
                    return Ok((waiting, looked_at));
                }
                looked_at = Some(WorkspaceId::from_uuid(at));
                if column::<i32>(row, "is_due")? == 1 {
                    waiting.push(WorkspaceId::from_uuid(at));
                }
                if waiting.len() >= turn.jobs as usize {
                    return Ok((waiting, looked_at));
                }
            }
            if rows.len() < SEEN_AT_ONCE {
                if is_round {
                    return Ok((waiting, looked_at));
                }
                (at, is_round) = (Uuid::nil(), true);
            }
        }
        Ok((waiting, looked_at))
    }

    /// Reads across workspaces what tells which of them to enter.
    async fn look(
        &self,
        operation: &'static str,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<QueryResult>, StoreError> {
        if self.backend() == Backend::Sqlite {
            return query(&self.reads(Reach::Worker), operation, sql, values).await;
        }
        let tx = self.begin_snapshot(operation).await?;
        tx.by_index(operation).await?;
        let rows = query(&tx, operation, sql, values).await?;
        tx.commit().await.map_err(failed(operation))?;
        Ok(rows)
    }

    /// The kinds of which there are jobs, due or not: one statement, by an index, however many jobs there are.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn job_kinds(&self) -> Result<Vec<String>, StoreError> {
        let sql = format!("{KINDS} SELECT kind FROM kinds WHERE kind IS NOT NULL");
        let rows = self.look("look for jobs", &sql, []).await?;
        rows.iter().map(|row| column(row, "kind")).collect()
    }

    /// How many jobs of each kind there are, counted up to 10,000: for those who look whether a kind has no handler.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn jobs_by_kind(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let sql = format!(
            "{KINDS} SELECT kind, (SELECT count(*) FROM
                (SELECT 1 FROM jobs j WHERE j.kind = kinds.kind LIMIT 10000) AS counted) AS jobs
            FROM kinds WHERE kind IS NOT NULL"
        );
        let rows = self.look("count jobs", &sql, []).await?;
        rows.iter()
            .map(|row| {
                let jobs = count("jobs", "kind", column(row, "jobs")?)?;
                Ok((column(row, "kind")?, jobs))
            })
            .collect()
    }

    /// A job is done.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn finish_job(&self, job: &LeasedJob) -> Result<(), StoreError> {
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
    /// of jobs and of the payment provider's operations and objects. On SQLite alone: there the one server, before its first
    /// write, knows that whoever held them is dead. On PostgreSQL others may be at work; what the dead held expires
    /// by itself. Reservations are left alone: who holds them is a program outside. Where it fails, on a full disk, it is done before whatever is written first. Returns how many.
    ///
    /// A command beside the server that has leased an object loses it, and writes nothing: the fence sees to that.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn recover(&self) -> Result<u64, StoreError> {
        const HOLDS: &str = "UPDATE holds SET expires_at = $1 WHERE state = 'held' AND expires_at > $1 AND purpose <> $2";
        const OPERATIONS: &str = "UPDATE billing_operations SET leased_until = $1
            WHERE outcome IS NULL AND leased_until > $1";
        // As what was given back has it: a time that is always past.
        const OBJECTS: &str =
            "UPDATE billing_objects SET leased_until = $2 WHERE leased_until > $1";
        // What waits for its next attempt goes on waiting.
        const JOBS: &str =
            "UPDATE jobs SET leased_until = $1 WHERE leased_until > $1 AND leased_until > retry_at";
        let now = self.0.env.lease_now();
        let of = |sql, values: Vec<sea_orm::Value>| {
            sea_orm::Statement::from_sql_and_values(sea_orm::DatabaseBackend::Sqlite, sql, values)
        };
        self.0
            .database
            .recover(vec![
                of(HOLDS, vec![now.into(), RESERVATION.name().into()]),
                of(OPERATIONS, vec![now.into()]),
                of(JOBS, vec![now.into()]),
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
    /// windows that are over, mailed proofs past their end, the provider's events, and closed holds after a day.
    /// Returns how many rows.
    ///
    /// Workspaces that have something to delete are found by one statement: where nothing is due, the sweep is four
    /// statements however many workspaces there are. One whose rows cannot be deleted holds up no other.
    ///
    /// # Errors
    /// The database does not answer, or the first failure of a workspace, after all others were seen to.
    pub async fn sweep(&self) -> Result<u64, StoreError> {
        let now = self.0.env.lease_now().min(self.0.env.now());
        let mut deleted = self.sweep_installation(now).await?;
        let mut failure = None;
        for _ in 0..SWEEPS {
            let mut of_workspaces = 0;
            for (workspace, tables) in self.workspaces_to_sweep(now).await? {
                match self.sweep_workspace(workspace, &tables, now).await {
                    Ok(rows) => of_workspaces += rows,
                    Err(error @ (StoreError::Unavailable { .. } | StoreError::Full { .. })) => {
                        return Err(error);
                    }
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
            deleted += of_workspaces;
            if of_workspaces == 0 {
                break;
            }
        }
        failure.map_or(Ok(deleted), Err)
    }

    async fn sweep_installation(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        // Of counters the ones that end last are kept: nobody fills the table, however many addresses they have.
        const ATTEMPTS: &str = "DELETE FROM password_attempts WHERE window_ends_at < $1 OR window_ends_at <=
            (SELECT window_ends_at FROM password_attempts ORDER BY window_ends_at DESC LIMIT 1 OFFSET $2)";
        const PROOFS: &str = "DELETE FROM proofs WHERE expires_at < $1";
        // What came of it is projected. One that comes again is taken once more, and changes nothing.
        const EVENTS: &str =
            "DELETE FROM billing_events WHERE disposition = 'touches' AND received_at < $1";
        let on = self.writes(Reach::Installation);
        let old = now - TimeDelta::days(EVENT_DAYS);
        Ok(
            execute(&on, SWEEP, ATTEMPTS, [now.into(), MOST_COUNTERS.into()]).await?
                + execute(&on, SWEEP, PROOFS, [now.into()]).await?
                + execute(&on, SWEEP, EVENTS, [old.into()]).await?,
        )
    }

    /// Workspaces with something to delete, a thousand rows of each table's oldest at a time, and in which of
    /// [`SWEPT`].
    async fn workspaces_to_sweep(
        &self,
        now: DateTime<Utc>,
    ) -> Result<BTreeMap<WorkspaceId, Vec<usize>>, StoreError> {
        let parts: Vec<_> = SWEPT
            .iter()
            .enumerate()
            .map(|(at, (table, _, since, is_due))| {
                format!(
                    "SELECT workspace_id, swept FROM (SELECT workspace_id, {at} AS swept FROM {table}
                        WHERE {is_due} ORDER BY {since} LIMIT 1000) AS of_{table}"
                )
            })
            .collect();
        let values = [
            now.into(),
            (now - TimeDelta::days(1)).into(),
            (now - TimeDelta::days(FEED_DAYS)).into(),
        ];
        let rows = self.look(SWEEP, &parts.join(" UNION "), values).await?;
        let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for row in &rows {
            let workspace = WorkspaceId::from_uuid(column(row, "workspace_id")?);
            let at = usize::try_from(column::<i32>(row, "swept")?).unwrap_or_default();
            found.entry(workspace).or_default().push(at);
        }
        Ok(found)
    }

    async fn sweep_workspace(
        &self,
        workspace: WorkspaceId,
        tables: &[usize],
        now: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        let tx = self.begin_in(Reach::Workspace(workspace), SWEEP).await?;
        let mut deleted = 0;
        for (table, key, since, is_due) in tables.iter().filter_map(|at| SWEPT.get(*at)) {
            let is_due = is_due
                .replace("$3", "$4")
                .replace("$2", "$3")
                .replace("$1", "$2");
            let sql = format!(
                "DELETE FROM {table} WHERE workspace_id = $1 AND ({key}) IN (SELECT {key} FROM {table}
                    WHERE workspace_id = $1 AND {is_due} ORDER BY {since} LIMIT 5000)"
            );
            let values = [
                workspace.uuid().into(),
                now.into(),
                (now - TimeDelta::days(1)).into(),
                (now - TimeDelta::days(FEED_DAYS)).into(),
            ];
            deleted += execute(&tx, SWEEP, &sql, values).await?;
        }
        tx.commit().await.map_err(failed(SWEEP))?;
        Ok(deleted)
    }
}

#[cfg(test)]
#[path = "job_queue_tests.rs"]
mod tests;
