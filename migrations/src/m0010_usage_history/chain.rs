//! Lines that were recorded before lines had hashes are chained, and summed, as if they had had them.
//!
//! SQLite alone: no release has kept a ledger in PostgreSQL without hashes. What is written here must stay what
//! `rawdrive-usage` checks, and is its own text all the same: a migration never changes with the code.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::prelude::{ChronoDateTimeUtc as Time, Uuid};
use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseBackend, Statement};

use crate::ddl::append_only;

const LINES: &str = "SELECT workspace_id, seq, metric, key_subject, period_start, quantity, subject, actor, occurred_at,
    recorded_at FROM ledger ORDER BY workspace_id, seq";
const HASH: &str =
    "UPDATE ledger SET hash = $3, recorded_at = $4 WHERE workspace_id = $1 AND seq = $2";
const HEAD: &str = "UPDATE ledger_heads SET hash = $2, not_before = $3 WHERE workspace_id = $1";
const HOUR: &str =
    "INSERT INTO usage_hours (workspace_id, metric, hour, quantity) VALUES ($1, $2, $3, $4)";
const MONTH: &str = "INSERT INTO usage_months
    (workspace_id, month, metric, lines, events, corrections, late_lines, late_quantity)
    VALUES ($1, $2, $3, $4, $5, 0, $6, $7)";

struct Line {
    workspace: Uuid,
    seq: i64,
    metric: String,
    counted_for: String,
    period_start: Time,
    quantity: i64,
    subject: String,
    actor: String,
    occurred_at: Time,
    recorded_at: Time,
}

/// Where a workspace's chain has come to.
struct Head {
    hash: [u8; 32],
    recorded_at: Time,
}

pub(super) async fn chain_old_lines(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    if manager.get_database_backend() != DatabaseBackend::Sqlite {
        return Ok(());
    }
    let lines = read(manager).await?;
    if lines.is_empty() {
        return Ok(());
    }
    for verb in ["UPDATE", "DELETE"] {
        run(manager, &format!("DROP TRIGGER ledger_no_{verb}"), []).await?;
    }
    let mut heads: BTreeMap<Uuid, Head> = BTreeMap::new();
    let mut hours: BTreeMap<(Uuid, String, Time), i64> = BTreeMap::new();
    let mut months: BTreeMap<(Uuid, Time, String), [i64; 4]> = BTreeMap::new();
    for mut line in lines {
        let head = heads.entry(line.workspace).or_insert(Head {
            hash: [0; 32],
            recorded_at: line.recorded_at,
        });
        // Time of recording goes forward alone from here on.
        line.recorded_at = Ord::max(line.recorded_at, head.recorded_at);
        let hash = hash(&head.hash, &line);
        let values = [
            line.workspace.into(),
            line.seq.into(),
            hash.to_vec().into(),
            line.recorded_at.into(),
        ];
        run(manager, HASH, values).await?;
        *head = Head {
            hash,
            recorded_at: line.recorded_at,
        };
        let hour = (
            line.workspace,
            line.metric.clone(),
            hour_of(line.occurred_at),
        );
        *hours.entry(hour).or_default() += line.quantity;
        let month = month_of(line.recorded_at);
        let late = i64::from(line.occurred_at < month);
        let added = [1, line.quantity, late, late * line.quantity];
        let sums = months.entry((line.workspace, month, line.metric));
        let sums = sums.or_default();
        for (sum, more) in sums.iter_mut().zip(added) {
            *sum += more;
        }
    }
    for (workspace, head) in heads {
        let values = [
            workspace.into(),
            head.hash.to_vec().into(),
            head.recorded_at.into(),
        ];
        run(manager, HEAD, values).await?;
    }
    for ((workspace, metric, hour), quantity) in hours {
        let values = [
            workspace.into(),
            metric.into(),
            hour.into(),
            quantity.into(),
        ];
        run(manager, HOUR, values).await?;
    }
    for ((workspace, month, metric), sums) in months {
        let key = [workspace.into(), month.into(), metric.into()];
        let values = key.into_iter().chain(sums.map(Value::from));
        run(manager, MONTH, values).await?;
    }
    append_only(manager, "ledger").await
}

#[expect(
    clippy::disallowed_methods,
    reason = "a data migration reads every workspace's lines"
)]
async fn read(manager: &SchemaManager<'_>) -> Result<Vec<Line>, DbErr> {
    let db = manager.get_connection();
    let statement = Statement::from_string(db.get_database_backend(), LINES);
    let rows = db.query_all_raw(statement).await?;
    let lines = rows.iter().map(|row| {
        Ok(Line {
            workspace: row.try_get("", "workspace_id")?,
            seq: row.try_get("", "seq")?,
            metric: row.try_get("", "metric")?,
            counted_for: row.try_get("", "key_subject")?,
            period_start: row.try_get("", "period_start")?,
            quantity: row.try_get("", "quantity")?,
            subject: row.try_get("", "subject")?,
            actor: row.try_get("", "actor")?,
            occurred_at: row.try_get("", "occurred_at")?,
            recorded_at: row.try_get("", "recorded_at")?,
        })
    });
    lines.collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a data migration writes every workspace's lines"
)]
async fn run(
    manager: &SchemaManager<'_>,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<(), DbErr> {
    let db = manager.get_connection();
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    db.execute_raw(statement).await?;
    Ok(())
}

fn hash(previous: &[u8; 32], line: &Line) -> [u8; 32] {
    let micros = |at: Time| at.timestamp_micros().to_be_bytes();
    let workspace = line.workspace.into_bytes();
    // No line was anything but usage, nor reported from outside.
    let fields: [&[u8]; 14] = [
        previous,
        &workspace,
        &line.seq.to_be_bytes(),
        b"usage",
        line.metric.as_bytes(),
        line.counted_for.as_bytes(),
        &micros(line.period_start),
        &line.quantity.to_be_bytes(),
        line.subject.as_bytes(),
        &[0],
        &[],
        line.actor.as_bytes(),
        &micros(line.occurred_at),
        &micros(line.recorded_at),
    ];
    let mut bytes = Vec::with_capacity(384);
    for field in fields {
        bytes.extend_from_slice(&(field.len() as u64).to_be_bytes());
        bytes.extend_from_slice(field);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, &bytes).as_ref());
    hash
}

fn hour_of(at: Time) -> Time {
    let seconds = at.timestamp();
    Time::from_timestamp(seconds - seconds.rem_euclid(3_600), 0).unwrap_or(at)
}

fn month_of(at: Time) -> Time {
    let start = at.format("%Y-%m-01T00:00:00Z").to_string();
    start.parse().unwrap_or(at)
}
