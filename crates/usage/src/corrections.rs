//! An operator puts a count right.

use chrono::{DateTime, Utc};
use rawdrive_plans::{Catalogue, Limit, Metric, MetricKind};
use rawdrive_tenancy_core::audit::{AuditTx, Change};
use rawdrive_tenancy_core::{Env, StoreError};
use serde_json::json;

use crate::ingest::MAX_UNITS;
use crate::quota::mark;
use crate::{LedgerLine, LineKind, Period, QuotaKey, UsageUnit};

/// What is to be put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// The metric.
    pub metric: Metric,
    /// For which subject, where the metric is counted apart for each.
    pub subject: Option<String>,
    /// Units to add; negative lowers the count.
    pub quantity: i64,
    /// A time in the period that is meant, of a flow; now where it is left out.
    pub at: Option<DateTime<Utc>>,
    /// Why; the audit log keeps it.
    pub reason: String,
}

/// A correction that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corrected {
    /// The counter.
    pub key: QuotaKey,
    /// What it counted before.
    pub before: u64,
    /// What it counts now.
    pub after: u64,
}

/// Why nothing is corrected.
#[derive(Debug, thiserror::Error)]
pub enum CorrectError {
    /// The catalogue declares no such metric.
    #[error("there is no metric `{0}` in the catalogue")]
    UnknownMetric(Metric),
    /// The subject is missing where one is needed, or given where none is.
    #[error("{0} {1}")]
    Subject(Metric, &'static str),
    /// The quantity changes nothing.
    #[error("a correction of 0 corrects nothing")]
    Zero,
    /// The reason is empty or too long.
    #[error("a reason of 1 to 500 characters is required: the audit log keeps it")]
    NoReason,
    /// The time lies ahead.
    #[error("{0} lies ahead")]
    Ahead(DateTime<Utc>),
    /// The counter would leave what a counter can be.
    #[error("{used} are counted: {quantity:+} would leave no count from 0 to {MAX_UNITS}")]
    OutOfRange {
        /// What is counted.
        used: u64,
        /// What was to be added.
        quantity: i64,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Adds a correcting line to the ledger and its quantity to the counter, audited as `usage.corrected`;
/// thresholds are evaluated again.
///
/// # Errors
/// See [`CorrectError`]; nothing is changed then.
pub async fn correct(
    tx: &mut (impl UsageUnit + AuditTx),
    env: &Env,
    catalogue: &Catalogue,
    correction: &Correction,
) -> Result<Corrected, CorrectError> {
    let Correction {
        metric, quantity, ..
    } = correction;
    let reason = correction.reason.trim();
    if !(1..=500).contains(&reason.chars().count()) {
        return Err(CorrectError::NoReason);
    }
    let definition = catalogue
        .definition(metric)
        .ok_or_else(|| CorrectError::UnknownMetric(metric.clone()))?;
    if *quantity == 0 {
        return Err(CorrectError::Zero);
    }
    let entitlements = tx.entitlements().await?;
    let now = env.now();
    let at = correction.at.unwrap_or(now);
    if at > now {
        return Err(CorrectError::Ahead(at));
    }
    let refuse = |why| Err(CorrectError::Subject(metric.clone(), why));
    let period = Period::containing(at, entitlements.billing_anchor);
    let key = match (
        definition.per.is_some(),
        &correction.subject,
        definition.kind,
    ) {
        (true, None, _) => return refuse("is counted for each subject: say for which"),
        (false, Some(_), _) => return refuse("is counted for the whole workspace, for no subject"),
        (true, Some(subject), _) => QuotaKey::level_of(metric.clone(), subject),
        (false, None, MetricKind::Level) => QuotaKey::level(metric.clone()),
        (false, None, MetricKind::Flow) => QuotaKey::flow(metric.clone(), period),
    };
    let before = tx.lock(&key).await?.used;
    let after = before
        .checked_add_signed(*quantity)
        .filter(|after| *after <= MAX_UNITS);
    let row = match after {
        Some(_) => tx.apply(&key, 0, *quantity, Limit::Unlimited).await?,
        None => None,
    };
    let Some(row) = row else {
        return Err(CorrectError::OutOfRange {
            used: before,
            quantity: *quantity,
        });
    };
    if key.is_level() || period == Period::containing(now, entitlements.billing_anchor) {
        mark(tx, &entitlements, now, &key, row).await?;
    }
    let period_start = (!key.is_level()).then_some(key.period_start);
    tx.record(Change {
        action: "usage.corrected",
        subject: entitlements.workspace.to_string(),
        before: json!({ "metric": metric, "counted_for": key.subject, "period_start": period_start, "used": before }),
        after: json!({ "metric": metric, "counted_for": key.subject, "period_start": period_start, "used": row.used, "reason": reason }),
    });
    let line = LedgerLine {
        kind: LineKind::Correction,
        ..LedgerLine::usage(key.clone(), *quantity, key.subject.clone(), at)
    };
    tx.add_line(line);
    Ok(Corrected {
        key,
        before,
        after: row.used,
    })
}
