//! Counters and sums made anew from the ledger and what is held; and whether they are what they must be.

use std::collections::{BTreeMap, BTreeSet};

use rawdrive_plans::Metric;
use rawdrive_tenancy_core::id::TypedId;
use rawdrive_tenancy_core::{StoreError, WorkspaceScope};
use rawdrive_usage::{LedgerHead, QuotaKey, Rollups, UsageTx, follow};
use sea_orm::{ConnectionTrait, Value};

use crate::doctor::{Finding, Snapshot};
use crate::history::{read_head, read_lines, read_rollups, write_rollups};
use crate::scope::{amount, column, corrupt, count, execute, query};
use crate::store::WriteTx;
use crate::usage::key_of;

/// Lines read at once.
const PAGE: u32 = 2_000;

/// What a rebuild finds wrong, and puts right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What is kept: `used`, `reserved`, `hour` or `month`.
    pub what: &'static str,
    /// Of which counter or sum.
    pub of: String,
    /// What was kept; nothing where there was no such sum.
    pub kept: Option<i64>,
    /// What the ledger and the holds come to; nothing where there should be no such sum.
    pub right: Option<i64>,
}

fn name(key: &QuotaKey) -> String {
    let mut name = key.metric.to_string();
    if !key.subject.is_empty() {
        name = format!("{name} {}", key.subject);
    }
    if !key.is_level() {
        name = format!("{name} from {}", key.period_start.to_rfc3339());
    }
    name
}

/// Sums by counter.
async fn sums(
    on: &impl ConnectionTrait,
    scope: &WorkspaceScope,
    sql: &str,
) -> Result<BTreeMap<QuotaKey, i64>, StoreError> {
    let values = [scope.workspace().uuid().into()];
    let rows = query(on, "sum up usage", sql, values).await?;
    rows.iter()
        .map(|row| {
            let key = key_of(
                &column::<String>(row, "metric")?,
                column(row, "subject")?,
                column(row, "period_start")?,
            )?;
            Ok((key, column(row, "total")?))
        })
        .collect()
}

const KEPT: &str =
    "SELECT metric, subject, period_start, used AS total FROM quotas WHERE workspace_id = $1";
const USED: &str =
    "SELECT metric, key_subject AS subject, period_start, CAST(sum(quantity) AS BIGINT) AS total
    FROM ledger WHERE workspace_id = $1 GROUP BY metric, key_subject, period_start";
const HELD: &str =
    "SELECT c.metric, c.subject, c.period_start, CAST(sum(c.amount) AS BIGINT) AS total
    FROM hold_charges c JOIN holds h ON h.workspace_id = c.workspace_id AND h.id = c.hold_id
    WHERE c.workspace_id = $1 AND h.state = 'held' GROUP BY c.metric, c.subject, c.period_start";
// Open invitations hold their seats by themselves.
const INVITED: &str = "SELECT count(*) AS n FROM invitations WHERE workspace_id = $1";

impl WriteTx {
    /// Makes every counter and every sum anew, and answers what was not what it must be. Commit it to put
    /// that right, drop it to have looked only.
    ///
    /// # Errors
    /// The database fails, or the ledger sums to less than nothing.
    pub async fn rebuild_usage(&mut self) -> Result<Vec<Difference>, StoreError> {
        let mut keys: BTreeSet<QuotaKey> = BTreeSet::new();
        for sql in [KEPT, USED, HELD] {
            keys.extend(sums(&self.tx, &self.scope, sql).await?.into_keys());
        }
        let seats = QuotaKey::level(Metric::team_members());
        keys.insert(seats.clone());
        let mut rows = BTreeMap::new();
        for key in keys {
            let row = self.lock(&key).await?;
            rows.insert(key, row);
        }
        let head = self.lock_ledger().await?;
        // Under the locks: what is read from here on stays as it is.
        let used = sums(&self.tx, &self.scope, USED).await?;
        let mut held = sums(&self.tx, &self.scope, HELD).await?;
        let workspace: Value = self.scope.workspace().uuid().into();
        let invited = query(&self.tx, "count invitations", INVITED, [workspace]).await?;
        if let Some(row) = invited.first() {
            *held.entry(seats).or_default() += column::<i64>(row, "n")?;
        }
        let mut found = Vec::new();
        for (key, row) in rows {
            let right = (
                used.get(&key).copied().unwrap_or_default(),
                held.get(&key).copied().unwrap_or_default(),
            );
            let kept = (amount(row.used), amount(row.reserved));
            if kept == right {
                continue;
            }
            count("ledger", "quantity", right.0)?;
            for (what, kept, right) in [("used", kept.0, right.0), ("reserved", kept.1, right.1)] {
                if kept != right {
                    found.push(Difference {
                        what,
                        of: name(&key),
                        kept: Some(kept),
                        right: Some(right),
                    });
                }
            }
            self.set_counter(&key, right).await?;
        }
        found.extend(self.rebuild_sums(head).await?);
        Ok(found)
    }

    async fn set_counter(
        &mut self,
        key: &QuotaKey,
        (used, reserved): (i64, i64),
    ) -> Result<(), StoreError> {
        const SET: &str = "UPDATE quotas SET used = $5, reserved = $6, version = version + 1
            WHERE workspace_id = $1 AND metric = $2 AND subject = $3 AND period_start = $4";
        let values = [
            self.scope.workspace().uuid().into(),
            key.metric.as_str().into(),
            key.subject.as_str().into(),
            key.period_start.into(),
            used.into(),
            reserved.into(),
        ];
        execute(&self.tx, "set a counter", SET, values).await?;
        Ok(())
    }

    async fn rebuild_sums(&mut self, head: LedgerHead) -> Result<Vec<Difference>, StoreError> {
        const NO_HOURS: &str = "DELETE FROM usage_hours WHERE workspace_id = $1";
        const NO_MONTHS: &str = "DELETE FROM usage_months WHERE workspace_id = $1";
        let mut right = Rollups::default();
        let mut seq = 0;
        while seq < head.seq {
            let lines = read_lines(&self.tx, &self.scope, seq, head.seq, PAGE).await?;
            seq = lines
                .last()
                .ok_or_else(|| corrupt("ledger", "seq", seq + 1, "is missing"))?
                .seq;
            lines.iter().for_each(|line| right.add(line));
        }
        let kept = read_rollups(&self.tx, &self.scope).await?;
        let found = differences(&kept, &right);
        if !found.is_empty() {
            let workspace = || [self.scope.workspace().uuid().into()];
            execute(&self.tx, "make sums anew", NO_HOURS, workspace()).await?;
            execute(&self.tx, "make sums anew", NO_MONTHS, workspace()).await?;
            write_rollups(&self.tx, &self.scope, &right, true).await?;
        }
        Ok(found)
    }
}

/// Where kept sums are not the right ones.
fn differences(kept: &Rollups, right: &Rollups) -> Vec<Difference> {
    let mut found = Vec::new();
    let hours: BTreeSet<_> = kept.hours.keys().chain(right.hours.keys()).collect();
    for hour in hours {
        let (kept, right) = (kept.hours.get(hour), right.hours.get(hour));
        if kept != right {
            found.push(Difference {
                what: "hour",
                of: format!("{} {}", hour.0, hour.1.to_rfc3339()),
                kept: kept.copied(),
                right: right.copied(),
            });
        }
    }
    let months: BTreeSet<_> = kept.months.keys().chain(right.months.keys()).collect();
    for month in months {
        let (kept, right) = (kept.months.get(month), right.months.get(month));
        if kept != right {
            found.push(Difference {
                what: "month",
                of: format!("{} {}", month.1, month.0),
                kept: kept.map(|sums| sums.events + sums.corrections),
                right: right.map(|sums| sums.events + sums.corrections),
            });
        }
    }
    found
}

impl Snapshot {
    /// The ledger's chain line by line, and the sums beside it.
    pub(crate) async fn ledger(&self, scope: &WorkspaceScope) -> Result<Vec<Finding>, StoreError> {
        let workspace = scope.workspace();
        let finding = |invariant, detail: String| Finding {
            invariant,
            detail: format!("{workspace}: {detail}"),
        };
        let head = read_head(self.connection(), scope).await?;
        let (mut at, mut right) = (LedgerHead::default(), Rollups::default());
        loop {
            let page = read_lines(self.connection(), scope, at.seq, u64::MAX, PAGE).await;
            let lines = match page {
                // A line that cannot be read is what is looked for here.
                Err(error @ StoreError::Corrupt { .. }) => {
                    return Ok(vec![finding("ledger_chain", error.to_string())]);
                }
                page => page?,
            };
            if lines.is_empty() {
                break;
            }
            for line in &lines {
                right.add(line);
                match follow(at, workspace, line) {
                    Ok(next) => at = next,
                    Err(broken) => return Ok(vec![finding("ledger_chain", broken.to_string())]),
                }
            }
        }
        let mut found = Vec::new();
        // A seal may have moved the head's time beyond the last line's.
        if (at.seq, at.hash) != (head.seq, head.hash) || at.not_before > head.not_before {
            let detail = format!(
                "the ledger ends at line {}, its head says {}",
                at.seq, head.seq
            );
            found.push(finding("ledger_chain", detail));
        }
        let kept = read_rollups(self.connection(), scope).await?;
        for difference in differences(&kept, &right) {
            let Difference {
                what,
                of,
                kept,
                right,
            } = difference;
            let number = |n: Option<i64>| n.map_or("nothing".to_owned(), |n| n.to_string());
            let detail = format!(
                "{what} {of}: kept {}, ledger {}",
                number(kept),
                number(right)
            );
            found.push(finding("sums_equal_ledger", detail));
        }
        Ok(found)
    }
}
