//! Usage in real time: what commits publish, what readers read, and what the republisher repeats.

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use rawdrive_tenancy_core::StoreError;
use rawdrive_tenancy_core::id::{TypedId, WorkspaceId};
use rawdrive_usage::{ChangedWorkspace, LiveRow, LiveSource, LiveUsage, QuotaKey, Reading};
use sea_orm::{QueryResult, Value};
use uuid::Uuid;

use crate::reach::Reach;
use crate::scope::{column, count, query};
use crate::store::{Reader, Store, WriteTx};
use crate::usage::key_of;

impl WriteTx {
    /// The time of change that a counter is noted with, in whole seconds of real time: a busy row's index entry
    /// then moves once a second, and not with each change.
    pub(crate) fn changed_at(&self) -> DateTime<Utc> {
        let now = self.env().lease_now();
        now.duration_trunc(TimeDelta::seconds(1)).unwrap_or(now)
    }

    /// Notes what a statement has made of a counter, which is published after the commit.
    pub(crate) fn note_changed(
        &mut self,
        key: &QuotaKey,
        row: &QueryResult,
    ) -> Result<(), StoreError> {
        self.changed.push(live_row(key.clone(), row)?);
        Ok(())
    }
}

fn live_row(key: QuotaKey, row: &QueryResult) -> Result<LiveRow, StoreError> {
    Ok(LiveRow {
        key,
        version: count("quotas", "version", column(row, "version")?)?,
        used: count("quotas", "used", column(row, "used")?)?,
        reserved: count("quotas", "reserved", column(row, "reserved")?)?,
    })
}

fn live_rows(rows: &[QueryResult]) -> Result<Vec<LiveRow>, StoreError> {
    let each = rows.iter().map(|row| {
        let metric: String = column(row, "metric")?;
        let key = key_of(
            &metric,
            column(row, "subject")?,
            column(row, "period_start")?,
        )?;
        live_row(key, row)
    });
    each.collect()
}

impl Store {
    /// Caches usage from now on. Once for a store: a second cache is not taken.
    pub fn cache_usage_in(&self, live: LiveUsage) {
        // Whoever was first stays.
        let _ = self.0.live.set(live);
    }

    /// Where usage is cached, if anywhere.
    #[must_use]
    pub fn live_usage(&self) -> Option<&LiveUsage> {
        self.0.live.get()
    }
}

impl Reader {
    /// Counters of the workspace itself (without a subject), in the order of `keys`: as the cache holds them,
    /// and as SQL does where there is no cache or it does not answer.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn live_quotas(&self, keys: &[QuotaKey]) -> Result<Vec<LiveRow>, StoreError> {
        let workspace = self.scope.workspace();
        let reading = match self.store.0.live.get() {
            Some(live) => live.read(workspace, keys).await,
            None => Reading::Unavailable,
        };
        if let Reading::Rows(rows) = reading {
            return Ok(rows);
        }
        let rows = self.own_rows(keys).await?;
        let answer = keys.iter().map(|key| {
            let row = rows.iter().find(|row| row.key == *key);
            row.cloned()
                .unwrap_or_else(|| LiveRow::untouched(key.clone()))
        });
        let answer = answer.collect();
        if let (Reading::Missing(gap), Some(live)) = (reading, self.store.0.live.get()) {
            live.fill_beside(gap, workspace, periods(keys), rows);
        }
        Ok(answer)
    }

    /// Every counter of the workspace itself in the keys' periods.
    async fn own_rows(&self, keys: &[QuotaKey]) -> Result<Vec<LiveRow>, StoreError> {
        let mut rows = Vec::new();
        for period in periods(keys) {
            const OWN: &str =
                "SELECT metric, subject, period_start, version, used, reserved FROM quotas
                WHERE workspace_id = $1 AND subject = '' AND period_start = $2";
            let values = [self.scope.workspace().uuid().into(), period.into()];
            rows.extend(live_rows(
                &query(self.db(), "read live usage", OWN, values).await?,
            )?);
        }
        Ok(rows)
    }
}

/// At most two: that of levels, and that of flows.
fn periods(keys: &[QuotaKey]) -> Vec<DateTime<Utc>> {
    let mut periods: Vec<_> = keys.iter().map(|key| key.period_start).collect();
    periods.sort_unstable();
    periods.dedup();
    periods
}

/// What the republisher reads across workspaces: which of them changed, and the numbers of their counters.
impl LiveSource for Store {
    fn now(&self) -> DateTime<Utc> {
        self.0.env.lease_now()
    }

    async fn changed(
        &self,
        since: DateTime<Utc>,
        after: Option<WorkspaceId>,
        limit: u32,
    ) -> Result<Vec<ChangedWorkspace>, StoreError> {
        const CHANGED: &str =
            "SELECT workspace_id, count(*) AS n, CAST(sum(version) AS BIGINT) AS versions
            FROM quotas WHERE changed_at >= $1 AND workspace_id > $2
            GROUP BY workspace_id ORDER BY workspace_id LIMIT $3";
        let values = [since.into(), after_or_first(after), i64::from(limit).into()];
        let rows = query(
            &self.reads(Reach::Worker),
            "look for changed usage",
            CHANGED,
            values,
        )
        .await?;
        let each = rows.iter().map(|row| {
            Ok(ChangedWorkspace {
                workspace: WorkspaceId::from_uuid(column(row, "workspace_id")?),
                rows: count("quotas", "version", column(row, "n")?)?,
                versions: count("quotas", "version", column(row, "versions")?)?,
            })
        });
        each.collect()
    }

    async fn rows_changed(
        &self,
        workspace: WorkspaceId,
        since: DateTime<Utc>,
    ) -> Result<Vec<LiveRow>, StoreError> {
        const ROWS: &str =
            "SELECT metric, subject, period_start, version, used, reserved FROM quotas
            WHERE workspace_id = $1 AND changed_at >= $2";
        let values = [workspace.uuid().into(), since.into()];
        live_rows(
            &query(
                &self.reads(Reach::Workspace(workspace)),
                "read changed usage",
                ROWS,
                values,
            )
            .await?,
        )
    }

    async fn workspaces(
        &self,
        after: Option<WorkspaceId>,
        limit: u32,
    ) -> Result<Vec<WorkspaceId>, StoreError> {
        const PAGE: &str = "SELECT workspace_id FROM workspaces WHERE workspace_id > $1
            ORDER BY workspace_id LIMIT $2";
        let values = [after_or_first(after), i64::from(limit).into()];
        let rows = query(&self.reads(Reach::Worker), "list workspaces", PAGE, values).await?;
        let each = rows
            .iter()
            .map(|row| Ok(WorkspaceId::from_uuid(column(row, "workspace_id")?)));
        each.collect()
    }

    async fn rows(
        &self,
        workspace: WorkspaceId,
        from: DateTime<Utc>,
    ) -> Result<Vec<LiveRow>, StoreError> {
        const ROWS: &str =
            "SELECT metric, subject, period_start, version, used, reserved FROM quotas
            WHERE workspace_id = $1 AND (period_start >= $2 OR period_start = $3)";
        let levels = DateTime::<Utc>::UNIX_EPOCH;
        let values = [workspace.uuid().into(), from.into(), levels.into()];
        live_rows(
            &query(
                &self.reads(Reach::Workspace(workspace)),
                "read live usage",
                ROWS,
                values,
            )
            .await?,
        )
    }
}

/// No workspace has the nil id.
fn after_or_first(after: Option<WorkspaceId>) -> Value {
    after
        .map_or(Uuid::nil(), |workspace| workspace.uuid())
        .into()
}
