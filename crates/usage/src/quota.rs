//! Take, hold, settle, release: the only ways in which a quota row changes.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_plans::{Allowance, Decision, Denied, Entitlements, Limit, Metric, decide};
use rawdrive_tenancy_core::event::DomainEvent;
use rawdrive_tenancy_core::id::HoldId;
use rawdrive_tenancy_core::{Env, StoreError};
use serde_json::json;

use crate::{
    Charge, Hold, HoldPurpose, HoldState, LedgerLine, Period, QuotaKey, QuotaRow,
    THRESHOLD_CROSSED, UsageTx, UsageUnit, edges,
};

/// How long a hold lasts unless it is renewed, in seconds of real time.
pub const HOLD_SECONDS: i64 = 60;

/// A refused take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    /// The metric whose limit is in the way.
    pub metric: Metric,
    /// What it is counted for; empty for the workspace itself.
    pub subject: String,
    /// How much of what there is is reserved.
    pub reserved: u64,
    /// The numbers.
    pub denied: Denied,
}

/// Why a take failed.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The limit is in the way. Drop the transaction: nothing stays taken.
    #[error("the limit of {} is reached", .0.metric)]
    Exceeded(Exceeded),
    /// The hold is not held any more.
    #[error("the hold has ended")]
    NotHeld,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a hold could not be settled. Drop the transaction, then release the hold.
pub type SettleError = TakeError;

/// Reserves every charge, or none: the caller drops the transaction when it is refused.
///
/// # Errors
/// [`TakeError::Exceeded`] for the first charge that does not fit.
pub async fn hold(
    tx: &mut impl UsageUnit,
    env: &Env,
    id: HoldId,
    purpose: HoldPurpose,
    charges: Vec<Charge>,
) -> Result<(), TakeError> {
    hold_until(tx, env, id, purpose, charges, expiry(env)).await
}

/// As [`hold`], until another time of real time.
pub(crate) async fn hold_until(
    tx: &mut impl UsageUnit,
    env: &Env,
    id: HoldId,
    purpose: HoldPurpose,
    mut charges: Vec<Charge>,
    expires_at: DateTime<Utc>,
) -> Result<(), TakeError> {
    charges.sort_by(|a, b| a.key.cmp(&b.key));
    let entitlements = tx.entitlements().await?;
    take(tx, env, &entitlements, &charges).await?;
    let hold = Hold {
        id,
        purpose,
        charges,
    };
    tx.insert_holds(&[hold], expires_at).await?;
    Ok(())
}

/// As [`hold`], for several at once: one update a counter, however many they are. False where not all of them
/// fit: drop the transaction then, and decide each by [`hold_each`] in a new one.
///
/// # Errors
/// The database's failure.
pub async fn hold_all(
    tx: &mut impl UsageUnit,
    env: &Env,
    holds: &[Hold],
) -> Result<bool, StoreError> {
    let entitlements = tx.entitlements().await?;
    for (key, amount) in sums(holds) {
        let charge = Charge {
            key: key.clone(),
            amount,
        };
        let allowance = entitlements.allowance(&key.metric, env.now()).value;
        if !tx.reserve(&charge, allowance.hard_limit()).await? {
            return Ok(false);
        }
    }
    if !holds.is_empty() {
        tx.insert_holds(holds, expiry(env)).await?;
    }
    Ok(true)
}

/// As [`hold`], for several in their order, each of which is held or refused by itself. To be the first in its
/// transaction that touches counters.
///
/// # Errors
/// The database's failure.
pub async fn hold_each(
    tx: &mut impl UsageUnit,
    env: &Env,
    holds: Vec<Hold>,
) -> Result<Vec<Result<(), Exceeded>>, StoreError> {
    let entitlements = tx.entitlements().await?;
    expire_overdue(tx, env).await?;
    let mut counters = BTreeMap::new();
    for (key, _) in sums(&holds) {
        let row = tx.quota(key).await?;
        let allowance = entitlements.allowance(&key.metric, env.now()).value;
        counters.insert(key.clone(), (row, allowance));
    }
    let (mut outcomes, mut admitted) = (Vec::with_capacity(holds.len()), Vec::new());
    for hold in holds {
        let refused = hold.charges.iter().find_map(|charge| {
            let (row, allowance) = counters[&charge.key];
            match decide(row.used + row.reserved, charge.amount, allowance) {
                Decision::Allow => None,
                Decision::Deny(denied) => Some(exceeded(&charge.key, row.reserved, denied)),
            }
        });
        if let Some(exceeded) = refused {
            outcomes.push(Err(exceeded));
            continue;
        }
        for charge in &hold.charges {
            if let Some((row, _)) = counters.get_mut(&charge.key) {
                row.reserved += charge.amount;
            }
        }
        outcomes.push(Ok(()));
        admitted.push(hold);
    }
    if hold_all(tx, env, &admitted).await? {
        Ok(outcomes)
    } else {
        // A counter that was not there when it was looked at has been made since, and filled.
        Err(StoreError::Taken {
            operation: "hold several",
        })
    }
}

/// What several holds hold of each counter together, in the order in which counters are locked.
fn sums(holds: &[Hold]) -> BTreeMap<&QuotaKey, u64> {
    let mut sums = BTreeMap::<_, u64>::new();
    for charge in holds.iter().flat_map(|hold| &hold.charges) {
        let sum = sums.entry(&charge.key).or_default();
        *sum = sum.saturating_add(charge.amount);
    }
    sums
}

/// Keeps a hold alive, and reserves `more` for it where given.
///
/// # Errors
/// [`TakeError::NotHeld`] when it has expired: expiry is final. [`TakeError::Exceeded`] when `more` does not fit.
pub async fn extend(
    tx: &mut impl UsageUnit,
    env: &Env,
    id: HoldId,
    more: Option<Charge>,
) -> Result<(), TakeError> {
    if let Some(charge) = &more {
        let entitlements = tx.entitlements().await?;
        // The hold before the counter, in the order of those who end it.
        if tx.held(id).await?.is_none() {
            return Err(TakeError::NotHeld);
        }
        take(tx, env, &entitlements, std::slice::from_ref(charge)).await?;
    }
    if tx.grow_hold(id, more.as_ref(), expiry(env)).await? {
        Ok(())
    } else {
        Err(TakeError::NotHeld)
    }
}

fn expiry(env: &Env) -> DateTime<Utc> {
    env.lease_now() + TimeDelta::seconds(HOLD_SECONDS)
}

/// Reserves every charge, in the order of their keys, or says which is in the way.
async fn take(
    tx: &mut impl UsageUnit,
    env: &Env,
    entitlements: &Entitlements,
    charges: &[Charge],
) -> Result<(), TakeError> {
    tx.begin_attempt().await?;
    let Some(mut refused) = reserve_all(tx, env, entitlements, charges).await? else {
        return Ok(());
    };
    // Only a refusal is worth the look at holds that nobody renews any more. Expiring them locks counters in
    // their order, so the attempt first lets go of its own: with some of them in hand it could wait for
    // somebody who waits for us.
    tx.undo_attempt().await?;
    if expire_overdue(tx, env).await? > 0 {
        match reserve_all(tx, env, entitlements, charges).await? {
            None => return Ok(()),
            Some(again) => refused = again,
        }
    }
    let row = tx.quota(&refused.key).await?;
    let allowance = entitlements.allowance(&refused.key.metric, env.now()).value;
    Err(refusal(refused, row.used, row.reserved, allowance))
}

/// The first charge that does not fit, if one does not; those before it are reserved.
async fn reserve_all<'a>(
    tx: &mut (impl UsageTx + Send),
    env: &Env,
    entitlements: &Entitlements,
    charges: &'a [Charge],
) -> Result<Option<&'a Charge>, StoreError> {
    for charge in charges {
        let allowance = entitlements.allowance(&charge.key.metric, env.now()).value;
        if !tx.reserve(charge, allowance.hard_limit()).await? {
            return Ok(Some(charge));
        }
    }
    Ok(None)
}

/// Under what is in the way: `used`, and what others have `reserved`.
fn refusal(charge: &Charge, used: u64, reserved: u64, allowance: Allowance) -> TakeError {
    let current = used + reserved;
    let bound = |limit: Limit| limit.bound().unwrap_or(u64::MAX);
    let denied = match decide(current, charge.amount, allowance) {
        Decision::Deny(denied) => denied,
        // The row changed between the update and this read; the update's refusal stands.
        Decision::Allow => Denied {
            current,
            requested: charge.amount,
            limit: bound(allowance.limit()),
            hard_limit: bound(allowance.hard_limit()),
        },
    };
    TakeError::Exceeded(exceeded(&charge.key, reserved, denied))
}

fn exceeded(key: &QuotaKey, reserved: u64, denied: Denied) -> Exceeded {
    Exceeded {
        metric: key.metric.clone(),
        subject: key.subject.clone(),
        reserved,
        denied,
    }
}

/// Expires overdue holds of the handle's workspace; what they leave behind becomes jobs. Returns how many.
///
/// # Errors
/// The database's failure.
pub async fn expire_overdue(tx: &mut impl UsageUnit, env: &Env) -> Result<usize, StoreError> {
    let overdue = tx.overdue(env.lease_now()).await?;
    for (key, amount) in sums(&overdue) {
        tx.apply(key, amount, 0, Limit::Unlimited).await?;
    }
    for hold in &overdue {
        close(tx, hold, HoldState::Expired).await?;
    }
    Ok(overdue.len())
}

/// Gives a hold's amounts back; what it leaves behind becomes a job. Does nothing when it is not held any
/// more.
///
/// # Errors
/// The database's failure.
pub async fn release(tx: &mut impl UsageUnit, id: HoldId) -> Result<bool, StoreError> {
    match tx.held(id).await? {
        Some(hold) => {
            for charge in &hold.charges {
                tx.apply(&charge.key, charge.amount, 0, Limit::Unlimited)
                    .await?;
            }
            close(tx, &hold, HoldState::Released).await?;
            Ok(true)
        }
        None => Ok(false),
    }
}

/// Ends a hold that this transaction has locked, and whose amounts it has given back.
async fn close(tx: &mut impl UsageUnit, hold: &Hold, state: HoldState) -> Result<(), StoreError> {
    if !tx.close_hold(hold.id, state).await? {
        return Err(StoreError::Taken {
            operation: "close a hold",
        });
    }
    if let Some(job) = hold.left_behind()? {
        tx.enqueue_job(job, None);
    }
    Ok(())
}

/// Turns a hold into usage: every actual amount is a conditional take against the limit in force now,
/// so that a plan changed meanwhile is kept to as well, and what goes beyond the hold must fit beside what
/// others hold.
///
/// # Errors
/// [`TakeError::NotHeld`] when it has expired; [`TakeError::Exceeded`] when the limit in force now does not admit it.
pub async fn settle(
    tx: &mut impl UsageUnit,
    env: &Env,
    id: HoldId,
    actual: &[(Charge, String)],
) -> Result<(), SettleError> {
    let entitlements = tx.entitlements().await?;
    let Some(hold) = tx.held(id).await? else {
        return Err(TakeError::NotHeld);
    };
    let actual: Vec<_> = actual
        .iter()
        .map(|(charge, subject)| (hold.settled(charge), subject))
        .collect();
    let used = actual.iter().map(|(charge, _)| charge);
    let mut keys: Vec<_> = hold.charges.iter().chain(used).map(|c| &c.key).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let held = hold.charges.iter().find(|c| c.key == *key);
        let held = held.map_or(0, |c| c.amount);
        let Some((charge, subject)) = actual.iter().find(|(c, _)| c.key == *key) else {
            tx.apply(key, held, 0, Limit::Unlimited).await?;
            continue;
        };
        if charge.amount == 0 && held == 0 {
            continue;
        }
        let beyond = Charge {
            key: key.clone(),
            amount: charge.amount.saturating_sub(held),
        };
        let allowance = entitlements.allowance(&key.metric, env.now()).value;
        if beyond.amount > 0 && !tx.reserve(&beyond, allowance.hard_limit()).await? {
            let row = tx.quota(key).await?;
            let others = row.reserved.saturating_sub(held);
            return Err(refusal(charge, row.used, others, allowance));
        }
        let reserved = held.max(charge.amount);
        grow(tx, env, &entitlements, charge, reserved, subject).await?;
    }
    if !tx.close_hold(id, HoldState::Committed).await? {
        return Err(TakeError::NotHeld);
    }
    Ok(())
}

/// Reserves without a hold, for what keeps its own record of what it reserved and until when (an
/// invitation's seat).
///
/// # Errors
/// [`TakeError::Exceeded`] when it does not fit.
pub async fn reserve(tx: &mut impl UsageUnit, env: &Env, charge: &Charge) -> Result<(), TakeError> {
    let entitlements = tx.entitlements().await?;
    take(tx, env, &entitlements, std::slice::from_ref(charge)).await
}

/// Gives back what [`reserve`] took.
///
/// # Errors
/// The database's failure.
pub async fn give_back_reserved(
    tx: &mut (impl UsageTx + Send),
    charge: &Charge,
) -> Result<(), StoreError> {
    tx.apply(&charge.key, charge.amount, 0, Limit::Unlimited)
        .await?;
    Ok(())
}

/// Turns what [`reserve`] took into usage, within the limit in force now.
///
/// # Errors
/// [`TakeError::Exceeded`] when the limit fell meanwhile.
pub async fn settle_reserved(
    tx: &mut impl UsageUnit,
    env: &Env,
    charge: &Charge,
    subject: &str,
) -> Result<(), TakeError> {
    let entitlements = tx.entitlements().await?;
    grow(tx, env, &entitlements, charge, charge.amount, subject).await
}

/// Takes and settles at once, for what needs no hold (a seat).
///
/// # Errors
/// [`TakeError::Exceeded`] when it does not fit.
pub async fn add(
    tx: &mut impl UsageUnit,
    env: &Env,
    charge: Charge,
    subject: String,
) -> Result<(), TakeError> {
    let entitlements = tx.entitlements().await?;
    take(tx, env, &entitlements, std::slice::from_ref(&charge)).await?;
    grow(tx, env, &entitlements, &charge, charge.amount, &subject).await
}

async fn grow(
    tx: &mut impl UsageUnit,
    env: &Env,
    entitlements: &Entitlements,
    charge: &Charge,
    released: u64,
    subject: &str,
) -> Result<(), TakeError> {
    let allowance = entitlements.allowance(&charge.key.metric, env.now()).value;
    let (quantity, limit) = (to_signed(charge.amount), allowance.hard_limit());
    let Some(row) = tx.apply(&charge.key, released, quantity, limit).await? else {
        let row = tx.quota(&charge.key).await?;
        let others = row.reserved.saturating_sub(released);
        return Err(refusal(charge, row.used, others, allowance));
    };
    mark(tx, entitlements, env.now(), &charge.key, row).await?;
    tx.add_line(LedgerLine::usage(
        charge.key.clone(),
        quantity,
        subject.to_owned(),
        env.now(),
    ));
    Ok(())
}

/// Frees what a deleted thing took.
///
/// # Errors
/// The database's failure.
pub async fn subtract(
    tx: &mut impl UsageUnit,
    env: &Env,
    charge: Charge,
    subject: String,
) -> Result<(), StoreError> {
    let entitlements = tx.entitlements().await?;
    let quantity = -to_signed(charge.amount);
    let row = tx
        .apply(&charge.key, 0, quantity, Limit::Unlimited)
        .await?
        .unwrap_or_default();
    mark(tx, &entitlements, env.now(), &charge.key, row).await?;
    tx.add_line(LedgerLine::usage(charge.key, quantity, subject, env.now()));
    Ok(())
}

/// Evaluates the thresholds of every counter again, after an entitlement changed.
///
/// # Errors
/// The database's failure.
pub async fn review(tx: &mut impl UsageUnit, env: &Env) -> Result<(), StoreError> {
    let entitlements = tx.entitlements().await?;
    let period = Period::containing(env.now(), entitlements.billing_anchor);
    for (key, row) in tx.quotas().await? {
        // A period that is over warns nobody any more.
        if !key.is_level() && key.period_start != period.start {
            continue;
        }
        mark(tx, &entitlements, env.now(), &key, row).await?;
    }
    Ok(())
}

/// Begins and ends the threshold episodes of a counter, where its metric warns of them, and tells of the highest.
pub(crate) async fn mark(
    tx: &mut impl UsageUnit,
    entitlements: &Entitlements,
    now: DateTime<Utc>,
    key: &QuotaKey,
    row: QuotaRow,
) -> Result<(), StoreError> {
    let definition = entitlements.metrics.get(&key.metric);
    if definition.is_some_and(|definition| !definition.warns) {
        return Ok(());
    }
    let limit = entitlements.limit(&key.metric, now).value;
    let thresholds = entitlements.metrics.thresholds(&key.metric);
    let edges = edges(row.used, limit, thresholds, row.fired);
    if edges.is_empty() {
        return Ok(());
    }
    tx.mark_thresholds(key, &edges).await?;
    if let Some(threshold) = edges.notice() {
        tx.emit(DomainEvent {
            kind: THRESHOLD_CROSSED.to_owned(),
            subject: key.subject.clone(),
            facts: json!({ "metric": key.metric, "threshold": threshold, "used": row.used, "limit": limit.bound() }),
        });
    }
    Ok(())
}

fn to_signed(amount: u64) -> i64 {
    // Amounts are bounded by bytes of a request and rows of a table, far below 2^63.
    i64::try_from(amount).unwrap_or(i64::MAX)
}
