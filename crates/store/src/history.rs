//! The ledger: appended to with the sums that stand beside it, read, and sealed.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_plans::Metric;
use rawdrive_tenancy_core::audit::Hash;
use rawdrive_tenancy_core::id::TypedId;
use rawdrive_tenancy_core::page::{Page, PageRequest, Position};
use rawdrive_tenancy_core::{Actor, StoreError, WorkspaceScope};
use rawdrive_usage::{
    LedgerEntry, LedgerHead, LedgerLine, LineFilter, MAX_AHEAD, Month, MonthSums, Rollups, SealTx,
    UsageRead, extend_ledger,
};
use sea_orm::{ConnectionTrait, QueryResult, Set, Value};

use crate::entity::ledger;
use crate::scope::{Tenant, amount, column, corrupt, count, execute, failed, query};
use crate::store::{Reader, WriteTx};
use crate::usage::key_of;

/// Rows of one statement: within every database's number of parameters.
const ROWS: usize = 500;

// The head as it is, locked until the transaction ends.
const LOCK_HEAD: &str = "INSERT INTO ledger_heads (workspace_id, seq) VALUES ($1, 0)
    ON CONFLICT (workspace_id) DO UPDATE SET seq = ledger_heads.seq
    RETURNING seq, hash, not_before";

const COLUMNS: &str = "seq, kind, metric, key_subject, period_start, quantity, subject, event_id, actor, \
    occurred_at, recorded_at, hash";

fn hash_of(table: &'static str, seq: u64, bytes: Option<Vec<u8>>) -> Result<Hash, StoreError> {
    let bytes = bytes.ok_or_else(|| corrupt(table, "hash", seq, "is missing"))?;
    bytes
        .try_into()
        .map_err(|_| corrupt(table, "hash", seq, "is not 32 bytes"))
}

fn head_of(row: Option<&QueryResult>) -> Result<LedgerHead, StoreError> {
    let Some(row) = row else {
        return Ok(LedgerHead::default());
    };
    let seq = count("ledger_heads", "seq", column(row, "seq")?)?;
    let hash = match seq {
        0 => Hash::default(),
        _ => hash_of("ledger_heads", seq, column(row, "hash")?)?,
    };
    Ok(LedgerHead {
        seq,
        hash,
        not_before: column(row, "not_before")?,
    })
}

fn entry_of(row: &QueryResult) -> Result<LedgerEntry, StoreError> {
    let seq = count("ledger", "seq", column(row, "seq")?)?;
    let kind: String = column(row, "kind")?;
    Ok(LedgerEntry {
        seq,
        kind: kind
            .parse()
            .map_err(|e| corrupt("ledger", "kind", seq, e))?,
        key: key_of(
            &column::<String>(row, "metric")?,
            column(row, "key_subject")?,
            column(row, "period_start")?,
        )?,
        quantity: column(row, "quantity")?,
        subject: column(row, "subject")?,
        event_id: column(row, "event_id")?,
        actor: column(row, "actor")?,
        occurred_at: column(row, "occurred_at")?,
        recorded_at: column(row, "recorded_at")?,
        hash: hash_of("ledger", seq, column(row, "hash")?)?,
    })
}

fn metric_of(table: &'static str, row: &QueryResult) -> Result<Metric, StoreError> {
    let metric: String = column(row, "metric")?;
    metric
        .parse()
        .map_err(|e| corrupt(table, "metric", &metric, e))
}

/// The lines `after + 1 ..= until`, at most `limit`.
pub(crate) async fn read_lines(
    on: &impl ConnectionTrait,
    scope: &WorkspaceScope,
    after: u64,
    until: u64,
    limit: u32,
) -> Result<Vec<LedgerEntry>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM ledger WHERE workspace_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4"
    );
    let values = [
        scope.workspace().uuid().into(),
        amount(after).into(),
        amount(until).into(),
        i64::from(limit).into(),
    ];
    let rows = query(on, "read the ledger", &sql, values).await?;
    rows.iter().map(entry_of).collect()
}

/// Where the ledger ends.
pub(crate) async fn read_head(
    on: &impl ConnectionTrait,
    scope: &WorkspaceScope,
) -> Result<LedgerHead, StoreError> {
    const HEAD: &str = "SELECT seq, hash, not_before FROM ledger_heads WHERE workspace_id = $1";
    let values = [scope.workspace().uuid().into()];
    let rows = query(on, "read the ledger's head", HEAD, values).await?;
    head_of(rows.first())
}

/// The sums as they are kept.
pub(crate) async fn read_rollups(
    on: &impl ConnectionTrait,
    scope: &WorkspaceScope,
) -> Result<Rollups, StoreError> {
    const HOURS: &str = "SELECT metric, hour, quantity FROM usage_hours WHERE workspace_id = $1";
    let mut sums = Rollups::default();
    let workspace = || [scope.workspace().uuid().into()];
    for row in query(on, "read sums", HOURS, workspace()).await? {
        let key = (metric_of("usage_hours", &row)?, column(&row, "hour")?);
        sums.hours.insert(key, column(&row, "quantity")?);
    }
    for (month, metric, found) in read_months(on, scope).await? {
        sums.months.insert((month, metric), found);
    }
    Ok(sums)
}

async fn read_months(
    on: &impl ConnectionTrait,
    scope: &WorkspaceScope,
) -> Result<Vec<(Month, Metric, MonthSums)>, StoreError> {
    const MONTHS: &str =
        "SELECT month, metric, lines, events, corrections, late_lines, late_quantity
        FROM usage_months WHERE workspace_id = $1 ORDER BY month, metric";
    let values = [scope.workspace().uuid().into()];
    let rows = query(on, "read sums", MONTHS, values).await?;
    let months = rows.iter().map(|row| {
        let sums = MonthSums {
            lines: count("usage_months", "lines", column(row, "lines")?)?,
            events: column(row, "events")?,
            corrections: column(row, "corrections")?,
            late_lines: count("usage_months", "late_lines", column(row, "late_lines")?)?,
            late_quantity: column(row, "late_quantity")?,
        };
        let month = Month::containing(column(row, "month")?);
        Ok((month, metric_of("usage_months", row)?, sums))
    });
    months.collect()
}

/// `($1, $2, $3), ($1, $4, $5), …`: so many rows of so many values each behind the workspace.
pub(crate) fn rows_of(rows: usize, columns: usize) -> String {
    let row = |n: usize| {
        let values = (0..columns).map(|column| format!("${}", n * columns + column + 2));
        format!("($1, {})", values.collect::<Vec<_>>().join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// Writes sums: added to those that are there, or in their place.
pub(crate) async fn write_rollups(
    on: &impl ConnectionTrait,
    scope: &WorkspaceScope,
    sums: &Rollups,
    replace: bool,
) -> Result<(), StoreError> {
    let set = |table: &str, columns: &[&str]| {
        let one = |column: &&str| match replace {
            true => format!("{column} = excluded.{column}"),
            false => format!("{column} = {table}.{column} + excluded.{column}"),
        };
        columns.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let workspace: Value = scope.workspace().uuid().into();
    let hours: Vec<_> = sums.hours.iter().collect();
    for chunk in hours.chunks(ROWS) {
        let sql = format!(
            "INSERT INTO usage_hours (workspace_id, metric, hour, quantity) VALUES {}
             ON CONFLICT (workspace_id, metric, hour) DO UPDATE SET {}",
            rows_of(chunk.len(), 3),
            set("usage_hours", &["quantity"])
        );
        let values = chunk.iter().flat_map(|((metric, hour), quantity)| {
            [metric.as_str().into(), (*hour).into(), (**quantity).into()]
        });
        let values = std::iter::once(workspace.clone()).chain(values);
        execute(on, "sum up hours", &sql, values).await?;
    }
    let months: Vec<_> = sums.months.iter().collect();
    for chunk in months.chunks(ROWS) {
        const SUMS: [&str; 5] = [
            "lines",
            "events",
            "corrections",
            "late_lines",
            "late_quantity",
        ];
        let sql = format!(
            "INSERT INTO usage_months (workspace_id, month, metric, {}) VALUES {}
             ON CONFLICT (workspace_id, month, metric) DO UPDATE SET {}",
            SUMS.join(", "),
            rows_of(chunk.len(), 7),
            set("usage_months", &SUMS)
        );
        let values = chunk.iter().flat_map(|((month, metric), sums)| {
            [
                month.start().into(),
                metric.as_str().into(),
                amount(sums.lines).into(),
                sums.events.into(),
                sums.corrections.into(),
                amount(sums.late_lines).into(),
                sums.late_quantity.into(),
            ]
        });
        let values = std::iter::once(workspace.clone()).chain(values);
        execute(on, "sum up months", &sql, values).await?;
    }
    Ok(())
}

impl WriteTx {
    /// The ledger's head, locked until the transaction ends.
    pub(crate) async fn lock_ledger(&mut self) -> Result<LedgerHead, StoreError> {
        let values = [self.scope.workspace().uuid().into()];
        let rows = query(&self.tx, "lock the ledger", LOCK_HEAD, values).await?;
        head_of(rows.first())
    }

    pub(crate) async fn append_lines(
        &mut self,
        lines: &[(Actor, LedgerLine)],
    ) -> Result<(), StoreError> {
        const ADVANCE: &str = "UPDATE ledger_heads SET seq = $2, hash = $3, not_before = $4
            WHERE workspace_id = $1";
        if lines.is_empty() {
            return Ok(());
        }
        let head = self.lock_ledger().await?;
        let workspace = self.scope.workspace();
        let (entries, head) = extend_ledger(head, workspace, self.env().now(), lines);
        for chunk in entries.chunks(ROWS) {
            let rows = chunk.iter().map(|line| ledger::ActiveModel {
                seq: Set(amount(line.seq)),
                kind: Set(line.kind.to_string()),
                metric: Set(line.key.metric.to_string()),
                key_subject: Set(line.key.subject.clone()),
                period_start: Set(line.key.period_start),
                quantity: Set(line.quantity),
                subject: Set(line.subject.clone()),
                event_id: Set(line.event_id.clone()),
                actor: Set(line.actor.clone()),
                occurred_at: Set(line.occurred_at),
                recorded_at: Set(line.recorded_at),
                hash: Set(Some(line.hash.to_vec())),
                ..Default::default()
            });
            let insert = ledger::Entity::scoped_insert(&self.scope, rows);
            insert
                .exec_without_returning(&self.tx)
                .await
                .map_err(failed("append to the ledger"))?;
        }
        // Under the head's lock as the lines are: the sums cannot differ from them.
        write_rollups(&self.tx, &self.scope, &Rollups::of(&entries), false).await?;
        let values = [
            workspace.uuid().into(),
            amount(head.seq).into(),
            head.hash.to_vec().into(),
            head.not_before.into(),
        ];
        execute(&self.tx, "advance the ledger", ADVANCE, values).await?;
        Ok(())
    }
}

impl SealTx for WriteTx {
    async fn seal_ledger(&mut self, until: DateTime<Utc>) -> Result<(), StoreError> {
        const SEAL: &str =
            "INSERT INTO ledger_heads (workspace_id, seq, not_before) VALUES ($1, 0, $2)
            ON CONFLICT (workspace_id) DO UPDATE SET not_before = $2
            WHERE ledger_heads.not_before IS NULL OR ledger_heads.not_before < $2";
        let values = [self.scope.workspace().uuid().into(), until.into()];
        execute(&self.tx, "seal the ledger", SEAL, values).await?;
        Ok(())
    }
}

impl UsageRead for Reader {
    async fn total_before(
        &self,
        metric: &Metric,
        before: DateTime<Utc>,
    ) -> Result<i64, StoreError> {
        const TOTAL: &str =
            "SELECT CAST(coalesce(sum(quantity), 0) AS BIGINT) AS total FROM usage_hours
            WHERE workspace_id = $1 AND metric = $2 AND hour < $3";
        let values = [
            self.scope.workspace().uuid().into(),
            metric.as_str().into(),
            before.into(),
        ];
        let rows = query(self.db(), "read sums", TOTAL, values).await?;
        rows.first().map_or(Ok(0), |row| column(row, "total"))
    }

    async fn hours(
        &self,
        metric: &Metric,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Vec<(DateTime<Utc>, i64)>, StoreError> {
        const HOURS: &str = "SELECT hour, quantity FROM usage_hours
            WHERE workspace_id = $1 AND metric = $2 AND hour >= $3 AND hour < $4 ORDER BY hour";
        let values = [
            self.scope.workspace().uuid().into(),
            metric.as_str().into(),
            from.into(),
            to.into(),
        ];
        let rows = query(self.db(), "read sums", HOURS, values).await?;
        rows.iter()
            .map(|row| Ok((column(row, "hour")?, column(row, "quantity")?)))
            .collect()
    }

    async fn months(&self) -> Result<Vec<(Month, Metric, MonthSums)>, StoreError> {
        read_months(self.db(), &self.scope).await
    }

    async fn ledger_head(&self) -> Result<LedgerHead, StoreError> {
        read_head(self.db(), &self.scope).await
    }

    async fn line_hashes(&self, seqs: &[u64]) -> Result<HashMap<u64, Hash>, StoreError> {
        let mut hashes = HashMap::with_capacity(seqs.len());
        for chunk in seqs.chunks(ROWS) {
            let places = (0..chunk.len()).map(|n| format!("${}", n + 2));
            let sql = format!(
                "SELECT seq, hash FROM ledger WHERE workspace_id = $1 AND seq IN ({})",
                places.collect::<Vec<_>>().join(", ")
            );
            let seqs = chunk.iter().map(|seq| Value::from(amount(*seq)));
            let workspace: Value = self.scope.workspace().uuid().into();
            let values = std::iter::once(workspace).chain(seqs);
            for row in query(self.db(), "read the ledger", &sql, values).await? {
                let seq = count("ledger", "seq", column(&row, "seq")?)?;
                hashes.insert(seq, hash_of("ledger", seq, column(&row, "hash")?)?);
            }
        }
        Ok(hashes)
    }

    async fn lines(
        &self,
        after: u64,
        until: u64,
        limit: u32,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        read_lines(self.db(), &self.scope, after, until, limit).await
    }

    async fn find_lines(
        &self,
        filter: &LineFilter,
        request: PageRequest,
    ) -> Result<Page<LedgerEntry>, StoreError> {
        let before = match request.after {
            Some(Position::Seq(seq)) => amount(seq),
            _ => i64::MAX,
        };
        let mut values: Vec<Value> = vec![self.scope.workspace().uuid().into(), before.into()];
        let mut sql = format!("SELECT {COLUMNS} FROM ledger WHERE workspace_id = $1 AND seq < $2");
        let mut and = |condition: &str, value: Value| {
            values.push(value);
            sql.push_str(&format!(" AND {condition} ${}", values.len()));
        };
        if let Some(metric) = &filter.metric {
            and("metric =", metric.as_str().into());
        }
        if let Some(kind) = filter.kind {
            and("kind =", kind.as_str().into());
        }
        if let Some(from) = filter.from {
            and("occurred_at >=", from.into());
            // Nothing is recorded long before it happens, so that older lines need not be looked at.
            and(
                "seq >=",
                self.first_recorded(from - MAX_AHEAD).await?.into(),
            );
        }
        if let Some(to) = filter.to {
            and("occurred_at <", to.into());
        }
        sql.push_str(&format!(
            " ORDER BY seq DESC LIMIT {}",
            u32::from(request.limit) + 1
        ));
        let rows = query(self.db(), "read the ledger", &sql, values).await?;
        let lines = rows.iter().map(entry_of).collect::<Result<_, _>>()?;
        Ok(Page::cut(lines, request.limit, |line| {
            Position::Seq(line.seq)
        }))
    }
}

impl Reader {
    /// The first line that was recorded then or later.
    async fn first_recorded(&self, at: DateTime<Utc>) -> Result<i64, StoreError> {
        const FIRST: &str = "SELECT seq FROM ledger WHERE workspace_id = $1 AND recorded_at >= $2
            ORDER BY recorded_at, seq LIMIT 1";
        // A microsecond of leeway is what rounding may have cost.
        let at = at - TimeDelta::microseconds(1);
        let values = [self.scope.workspace().uuid().into(), at.into()];
        let rows = query(self.db(), "read the ledger", FIRST, values).await?;
        rows.first().map_or(Ok(i64::MAX), |row| column(row, "seq"))
    }
}
