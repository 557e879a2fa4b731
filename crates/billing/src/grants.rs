//! Plans that an operator grants: what an installation without a payment provider runs on, and a favour beside one.

use chrono::{DateTime, Utc};
use rawdrive_plans::{Catalogue, GrantError, PlansTx, Slug};
use rawdrive_tenancy_core::Env;
use rawdrive_tenancy_core::audit::AuditTx;
use rawdrive_tenancy_core::event::EventsTx;
use rawdrive_tenancy_core::job::JobsTx;
use rawdrive_usage::UsageTx;
use serde_json::json;

use crate::apply_entitlements::{AuditedEvent, Policy, settle_because, tell};
use crate::ports::{BillingTx, Grant};
use crate::price_catalog::sold;

/// A plan was granted, or a grant taken back, and the plan in force stays as it was. Otherwise [`crate::PLAN_CHANGED`]
/// says so alone: one change, one entry.
pub const PLAN_GRANTED: &str = "plan.granted";

/// What an operator decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGrant {
    /// The plan, in its newest version; the free plan takes a grant back, and a subscription counts again.
    pub plan: Slug,
    /// When it ends by itself.
    pub until: Option<DateTime<Utc>>,
    /// Why: 1 to 500 characters, kept in the audit log.
    pub reason: String,
}

/// Grants a plan. It stands above any subscription until it ends by itself or is taken back.
///
/// # Errors
/// An unknown plan, no reason, an end that is past or of the free plan, or the database's failure; nothing is changed then.
pub async fn grant_plan(
    tx: &mut (impl BillingTx + PlansTx + UsageTx + AuditTx + EventsTx + JobsTx + Send),
    catalogue: &Catalogue,
    policy: Policy,
    env: &Env,
    new: &NewGrant,
) -> Result<(), GrantError> {
    let now = env.now();
    let reason = new.reason.trim();
    if !(1..=500).contains(&reason.chars().count()) {
        return Err(GrantError::NoReason);
    }
    if let Some(until) = new.until.filter(|until| *until <= now) {
        return Err(GrantError::Past(until));
    }
    if new.until.is_some() && new.plan == Slug::free() {
        return Err(GrantError::FreeHasNoEnd);
    }
    let plan = catalogue
        .newest(&new.plan)
        .ok_or_else(|| GrantError::unknown_plan(catalogue, &new.plan))?;
    let entitlements = tx.entitlements().await?;
    let mut account = tx.account().await?;
    let facts = |grant: Option<&Grant>| json!(grant);
    let before = facts(account.grant.as_ref());
    account.grant = Some(Grant {
        sold: sold(&plan),
        // The free plan is what is had anyway: a grant of it is over as it begins.
        until: if plan.slug == Slug::free() {
            Some(now)
        } else {
            new.until
        },
    });
    let mut after = facts(account.grant.as_ref());
    after["reason"] = json!(reason);
    tx.put_account(&account).await?;
    if settle_because(tx, catalogue, policy, env, Some(reason)).await? {
        return Ok(());
    }
    let audited = AuditedEvent {
        action: PLAN_GRANTED,
        subject: entitlements.workspace.to_string(),
        before,
        after,
    };
    tell(tx, audited);
    Ok(())
}
