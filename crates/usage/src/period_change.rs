//! The billing day moves: what was used in the period that it cuts short is used in the one that replaces it.

use chrono::{DateTime, Utc};
use rawdrive_plans::Thresholds;
use rawdrive_tenancy_core::{Env, StoreError};

use crate::quota::mark;
use crate::{Edges, LedgerLine, LineKind, Period, QuotaKey, QuotaRow, UsageTx, UsageUnit};

/// What moving a flow's counter from one period to another leaves: what each has used afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// Units that move.
    pub moved: u64,
    /// What the period that is cut short has used afterwards: nothing.
    pub from: u64,
    /// What the period that replaces it has used afterwards.
    pub to: u64,
}

/// Carries usage over. Whatever the billing day moves to, and however often, what is left of a limit is at no
/// move more than it was: an anchor that moves grants nothing anew.
#[must_use]
pub const fn carry(from_used: u64, to_used: u64) -> Carried {
    Carried {
        moved: from_used,
        from: 0,
        to: to_used.saturating_add(from_used),
    }
}

/// Carries the usage of every flow from the period that contains now under the old anchor into the one that
/// contains now under the new, with what is held and with the thresholds that were told of. Call it in the
/// transaction that moves the anchor, after the entitlements are locked and before rows.
///
/// # Errors
/// The database's failure.
pub async fn move_anchor(
    tx: &mut impl UsageUnit,
    env: &Env,
    old: Option<DateTime<Utc>>,
    new: Option<DateTime<Utc>>,
) -> Result<(), StoreError> {
    let now = env.now();
    let from = Period::containing(now, old).start;
    let to = Period::containing(now, new).start;
    if from == to {
        return Ok(());
    }
    let entitlements = tx.entitlements().await?;
    for (key, _) in tx.quotas().await? {
        if key.is_level() || key.period_start != from {
            continue;
        }
        let replaced = QuotaKey {
            period_start: to,
            ..key.clone()
        };
        // In the order of all locks, which is that of time here.
        let (row, before) = if key < replaced {
            let row = tx.lock(&key).await?;
            (row, tx.lock(&replaced).await?)
        } else {
            let before = tx.lock(&replaced).await?;
            (tx.lock(&key).await?, before)
        };
        tx.move_held(&key, &replaced).await?;
        let carried = carry(row.used, before.used);
        if carried.moved > 0 {
            shift(tx, env, &key, &replaced, carried.moved).await?;
        }
        let of = entitlements.metrics.thresholds(&key.metric);
        tell_no_more(tx, of, (&key, row), (&replaced, before)).await?;
        let after = tx.quota(&replaced).await?;
        mark(tx, &entitlements, now, &replaced, after).await?;
    }
    Ok(())
}

async fn shift(
    tx: &mut (impl UsageTx + Send),
    env: &Env,
    from: &QuotaKey,
    to: &QuotaKey,
    moved: u64,
) -> Result<(), StoreError> {
    use rawdrive_plans::Limit::Unlimited;
    // Counters are kept in signed 64 bits.
    let units = i64::try_from(moved).unwrap_or(i64::MAX);
    tx.apply(from, 0, -units, Unlimited).await?;
    // What was used was used: a limit that has fallen since does not undo it.
    tx.apply(to, 0, units, Unlimited).await?;
    let line = |key: &QuotaKey, quantity| LedgerLine {
        kind: LineKind::Carry,
        ..LedgerLine::usage(key.clone(), quantity, String::new(), env.now())
    };
    tx.add_line(line(from, -units));
    tx.add_line(line(to, units));
    Ok(())
}

/// The new period takes over the episodes of the old one: the same usage is not told of twice.
async fn tell_no_more(
    tx: &mut (impl UsageTx + Send),
    of: &Thresholds,
    (from, row): (&QuotaKey, QuotaRow),
    (to, before): (&QuotaKey, QuotaRow),
) -> Result<(), StoreError> {
    let thresholds = |bits: u8| {
        let of = of.iter().filter(|t| bits & t.bit != 0);
        of.map(|t| t.percent).collect::<Vec<_>>()
    };
    if row.fired == 0 {
        return Ok(());
    }
    let ended = Edges {
        fire: Vec::new(),
        rearm: thresholds(row.fired),
        kept: Vec::new(),
        fired: 0,
    };
    tx.mark_thresholds(from, &ended).await?;
    let begun = Edges {
        fire: thresholds(row.fired & !before.fired),
        rearm: Vec::new(),
        kept: thresholds(before.fired),
        fired: row.fired | before.fired,
    };
    tx.mark_thresholds(to, &begun).await
}
