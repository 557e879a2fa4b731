//! Writing down what follows: the entitlements, and what is told of it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rawdrive_plans::{
    Catalogue, Entitlements, Plan, PlanEnd, PlansTx, ReadOnly, ReviewThresholds, Schedule, Slug,
};
use rawdrive_tenancy_core::audit::{AuditTx, Change};
use rawdrive_tenancy_core::event::{DomainEvent, EventsTx};
use rawdrive_tenancy_core::job::JobsTx;
use rawdrive_tenancy_core::{Env, StoreError};
use rawdrive_usage::{UsageTx, move_anchor};
use serde_json::{Value, json};

use crate::entitlement_policy::{
    Basis, Grace, GraceStage, PAYMENT_REVERSED, basis, ended_unpaid, grace, next_due, read_only,
};
use crate::ports::{Account, BillingTx, Sold, Subscription};
use crate::provider_objects::InvoiceSnapshot;

/// A stage of a grace was reached; facts `stage`, `until`, `invoice`, `overdue` (it was to be paid by a day),
/// `ended` (the provider has ended the subscription: a payment does not bring it back) and `owed` (how many invoices).
pub const GRACE_REACHED: &str = "billing.grace_reached";
/// The plan in force is another.
pub const PLAN_CHANGED: &str = "plan.changed";
/// The access schedule is another: grace, read-only, full.
pub const ACCESS_CHANGED: &str = "access.changed";

/// What an installation has decided about money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// For how many days a failed payment is forgiven, where the plan does not say.
    pub grace_days: u16,
    /// What becomes of a workspace whose payment is taken back.
    pub reversal: Reversal,
}

/// What becomes of a workspace whose payment is taken back: given back in full, or lost in a dispute. The operator is
/// told in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reversal {
    /// Nothing: who gives money back may mean it well.
    #[default]
    Keep,
    /// It is read-only until a later payment stays.
    ReadOnly,
    /// Its subscription ends at once.
    End,
}

/// A text that names no such policy.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("must be keep, read_only or end")]
pub struct UnknownReversal;

impl std::str::FromStr for Reversal {
    type Err = UnknownReversal;
    fn from_str(text: &str) -> Result<Self, UnknownReversal> {
        match text {
            "keep" => Ok(Self::Keep),
            "read_only" => Ok(Self::ReadOnly),
            "end" => Ok(Self::End),
            _ => Err(UnknownReversal),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            grace_days: 14,
            reversal: Reversal::Keep,
        }
    }
}

/// One entry in the audit chain, and one event of the same name.
pub(crate) struct AuditedEvent {
    pub(crate) action: &'static str,
    pub(crate) subject: String,
    pub(crate) before: Value,
    pub(crate) after: Value,
}

/// Records a change and tells of it.
pub(crate) fn tell(tx: &mut (impl AuditTx + EventsTx), audited: AuditedEvent) {
    let event = DomainEvent {
        kind: audited.action.to_owned(),
        subject: audited.subject.clone(),
        facts: audited.after.clone(),
    };
    tx.record(Change {
        action: audited.action,
        subject: audited.subject,
        before: audited.before,
        after: audited.after,
    });
    tx.emit(event);
}

/// Records and tells what follows from a fact of the provider, the first time that the fact is met.
pub(crate) async fn tell_once(
    tx: &mut (impl BillingTx + AuditTx + EventsTx + Send),
    key: &str,
    audited: AuditedEvent,
) -> Result<(), StoreError> {
    if tx.record_effect(key).await? {
        tell(tx, audited);
    }
    Ok(())
}

/// Computes the entitlements anew from everything that is projected, writes what differs, and tells of it; also what the
/// passing of time alone calls for. A pure function of the rows and of the time, so that it may run at any time. Where
/// the billing day moves, what was used in the period that it cuts short moves with it: call it where nothing but
/// rows of billing's own follows.
///
/// # Errors
/// The database's, or a row that names a plan version that was never published; nothing is changed then.
pub async fn apply_entitlements(
    tx: &mut (impl BillingTx + PlansTx + UsageTx + AuditTx + EventsTx + JobsTx + Send),
    catalogue: &Catalogue,
    policy: Policy,
    env: &Env,
) -> Result<(), StoreError> {
    settle_because(tx, catalogue, policy, env, None).await?;
    Ok(())
}

/// As [`apply_entitlements`], for a reason that is kept with a change of the plan. Whether there was one.
pub(crate) async fn settle_because(
    tx: &mut (impl BillingTx + PlansTx + UsageTx + AuditTx + EventsTx + JobsTx + Send),
    catalogue: &Catalogue,
    policy: Policy,
    env: &Env,
    reason: Option<&str>,
) -> Result<bool, StoreError> {
    let now = env.now();
    let entitlements = tx.entitlements().await?;
    let account = tx.account().await?;
    let subscriptions = tx.subscriptions().await?;

    let basis = basis(account.grant.as_ref(), &subscriptions, now);
    let (mut plan, mut schedule, mut forgiven) = (None, Schedule::default(), None);
    let (mut due, mut has_ended) = (None, false);
    schedule.billing_anchor = anchor(&subscriptions).or(entitlements.billing_anchor);
    match basis {
        Basis::Untouched => {
            note_review(tx, account, None, now).await?;
            return Ok(false);
        }
        Basis::Nothing => {
            if let Some(ended) = ended_unpaid(&subscriptions)
                && let Some(sold) = &ended.sold
            {
                let sold = published(tx, sold).await?;
                let invoices = tx.invoices_of(&ended.snapshot.id).await?;
                let days = sold.grace_days.unwrap_or(policy.grace_days);
                let lasting = grace(ended, &invoices, days, now).filter(|grace| now < grace.until);
                if let Some(grace) = lasting {
                    // It ends when it would have become read-only, and no sooner.
                    schedule.billing_anchor = Some(ended.snapshot.billing_cycle_anchor);
                    schedule.grace_until = Some(grace.until);
                    schedule.ends = Some(PlanEnd {
                        at: grace.until,
                        then: free(catalogue, &entitlements),
                    });
                    (plan, forgiven, has_ended) = (Some(sold), Some(grace), true);
                }
            }
        }
        Basis::Grant(granted) => {
            plan = Some(published(tx, &granted.sold).await?);
            if let Some(until) = granted.until {
                let then =
                    crate::entitlement_policy::ruling(&subscriptions).and_then(|s| s.sold.as_ref());
                let then = match then {
                    Some(sold) => published(tx, sold).await?,
                    None => free(catalogue, &entitlements),
                };
                schedule.ends = Some(PlanEnd { at: until, then });
            }
        }
        Basis::Subscription(subscription) => {
            let mut reversed = None;
            if let Some(sold) = &subscription.sold {
                let sold = published(tx, sold).await?;
                let days = sold.grace_days.unwrap_or(policy.grace_days);
                let invoices = tx.invoices_of(&subscription.snapshot.id).await?;
                forgiven = grace(subscription, &invoices, days, now);
                due = next_due(subscription, &invoices, now);
                reversed = reversal(policy, &invoices);
                plan = Some(sold);
            }
            schedule.billing_anchor = Some(subscription.snapshot.billing_cycle_anchor);
            schedule.grace_until = forgiven.as_ref().map(|grace| grace.until);
            schedule.read_only = read_only(subscription, forgiven.as_ref()).or(reversed);
        }
    }
    let plan = plan.unwrap_or_else(|| free(catalogue, &entitlements));
    carry_over(tx, env, &entitlements, &schedule).await?;
    let changed = write(tx, &entitlements, &plan, &schedule, reason).await?;
    if let Some(grace) = &forgiven {
        tell_grace(tx, grace, now, has_ended).await?;
    }
    let next = [
        due,
        forgiven
            .as_ref()
            .and_then(|grace| GraceStage::next(grace, now)),
        schedule.ends.map(|end| end.at),
    ];
    note_review(tx, account, next.into_iter().flatten().min(), now).await?;
    Ok(changed)
}

/// Read-only because the latest payment did not stay, where the installation wants it so. A later payment that stays
/// opens the workspace again.
fn reversal(policy: Policy, invoices: &[InvoiceSnapshot]) -> Option<ReadOnly> {
    if policy.reversal != Reversal::ReadOnly {
        return None;
    }
    let paid = invoices.iter().filter(|i| i.amount_paid > 0);
    let latest = paid.max_by_key(|i| i.position())?;
    Some(ReadOnly {
        reason: PAYMENT_REVERSED.to_owned(),
        since: latest.reversed_at?,
    })
}

/// A billing day that moves grants nothing anew. Before the new plan is written: thresholds are told by the limit
/// under which the units were used.
async fn carry_over(
    tx: &mut (impl UsageTx + PlansTx + EventsTx + JobsTx + Send),
    env: &Env,
    entitlements: &Entitlements,
    schedule: &Schedule,
) -> Result<(), StoreError> {
    let (old, new) = (entitlements.billing_anchor, schedule.billing_anchor);
    if old == new {
        return Ok(());
    }
    move_anchor(tx, env, old, new).await
}

/// The day of the month outlives the subscription that it came from: another one would begin a period anew, and grant
/// it again.
fn anchor(subscriptions: &[Subscription]) -> Option<DateTime<Utc>> {
    let lived = subscriptions.iter().filter(|s| s.snapshot.status.is_live());
    let latest = lived.max_by_key(|s| (s.snapshot.created, &s.snapshot.id));
    latest.map(|s| s.snapshot.billing_cycle_anchor)
}

/// Nobody is moved to a newer version of the free plan who is on it already.
fn free(catalogue: &Catalogue, entitlements: &Entitlements) -> Arc<Plan> {
    if entitlements.plan.slug == Slug::free() {
        return entitlements.plan.clone();
    }
    let newest = catalogue.newest(&Slug::free());
    newest.unwrap_or_else(|| entitlements.plan.clone())
}

async fn published(tx: &mut (impl BillingTx + Send), sold: &Sold) -> Result<Arc<Plan>, StoreError> {
    let found = tx.published(sold).await?;
    found.ok_or_else(|| StoreError::Corrupt {
        table: "subscriptions",
        column: "plan_version",
        row: sold.plan.to_string(),
        reason: format!("no version {} was published", sold.version),
    })
}

/// Notes when the workspace is to be looked at next. A review that is due stays so until it was made: it may be about
/// something else, as who pays.
async fn note_review(
    tx: &mut (impl BillingTx + Send),
    mut account: Account,
    review_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let is_due = account.review_at.is_some_and(|at| at <= now);
    if account.review_at == review_at || is_due {
        return Ok(());
    }
    account.review_at = review_at;
    tx.put_account(&account).await
}

async fn write(
    tx: &mut (impl PlansTx + AuditTx + EventsTx + JobsTx + Send),
    entitlements: &Entitlements,
    plan: &Plan,
    schedule: &Schedule,
    reason: Option<&str>,
) -> Result<bool, StoreError> {
    let before = entitlements.schedule();
    let moves = (&plan.slug, plan.version) != (&entitlements.plan.slug, entitlements.plan.version);
    if moves {
        tx.move_to_plan(plan).await?;
    }
    if before != *schedule {
        tx.schedule(schedule).await?;
    }
    let subject = entitlements.workspace.to_string();
    let changed = moves || before.ends != schedule.ends;
    if changed {
        let before = plan_facts(&entitlements.plan, before.ends.as_ref());
        let mut after = plan_facts(plan, schedule.ends.as_ref());
        if let Some(reason) = reason {
            after["reason"] = json!(reason);
        }
        tell(
            tx,
            AuditedEvent {
                action: PLAN_CHANGED,
                subject: subject.clone(),
                before,
                after,
            },
        );
        // Limits are others now, and may become others again when the plan ends by itself.
        tx.enqueue(&ReviewThresholds {}, None)?;
        if let Some(end) = &schedule.ends {
            tx.enqueue(&ReviewThresholds {}, Some(end.at))?;
        }
    }
    if (before.grace_until, &before.read_only) != (schedule.grace_until, &schedule.read_only) {
        let (before, after) = (access_facts(&before), access_facts(schedule));
        let audited = AuditedEvent {
            action: ACCESS_CHANGED,
            subject,
            before,
            after,
        };
        tell(tx, audited);
    }
    Ok(changed)
}

fn plan_facts(plan: &Plan, ends: Option<&PlanEnd>) -> Value {
    let mut facts = json!({ "plan": plan.slug, "version": plan.version });
    if let Some(end) = ends {
        facts["until"] = json!(end.at);
        facts["then"] = json!(end.then.slug);
    }
    facts
}

fn access_facts(schedule: &Schedule) -> Value {
    json!({
        "grace_until": schedule.grace_until,
        "read_only_from": schedule.read_only.as_ref().map(|read_only| read_only.since),
        "reason": schedule.read_only.as_ref().map(|read_only| &read_only.reason),
    })
}

/// Tells the stage that was reached, once, and no earlier one after it: who was not told of the beginning in time is
/// not told of it at the end.
async fn tell_grace(
    tx: &mut (impl BillingTx + EventsTx + Send),
    grace: &Grace,
    now: DateTime<Utc>,
    has_ended: bool,
) -> Result<(), StoreError> {
    let Some(reached) = GraceStage::reached(grace, now) else {
        return Ok(());
    };
    let mut is_new = false;
    for stage in GraceStage::ALL
        .into_iter()
        .filter(|stage| *stage <= reached)
    {
        let key = format!("grace:{}:{}", grace.invoice, stage.as_str());
        is_new = tx.record_effect(&key).await?;
    }
    if is_new {
        let facts = json!({
            "stage": reached.as_str(), "until": grace.until, "invoice": grace.invoice,
            "overdue": grace.is_overdue, "ended": has_ended, "owed": grace.owed,
        });
        tx.emit(DomainEvent {
            kind: GRACE_REACHED.to_owned(),
            subject: grace.invoice.to_string(),
            facts,
        });
    }
    Ok(())
}
