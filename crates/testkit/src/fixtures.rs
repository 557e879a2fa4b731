//! Things to start from. Each is the plainest of its kind; a test changes the fields that matter to it.

use std::sync::Arc;

use rawdrive_plans::{Allowance, Limit, Metric, Plan};
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::{SystemReason, WorkspaceScope};
use serde_json::json;

/// The scope of the job runner in a workspace.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "tests act in workspaces that have no members"
)]
pub fn scope(workspace: WorkspaceId) -> WorkspaceScope {
    WorkspaceScope::for_system(workspace, SystemReason::JOB)
}

/// A plan with these limits, and none but these.
///
/// # Panics
/// When a plan is no longer what it serializes to.
#[must_use]
pub fn plan(limits: &[(Metric, Limit)]) -> Arc<Plan> {
    let allowances: Vec<_> = limits
        .iter()
        .map(|(metric, limit)| (metric.clone(), Allowance::from(*limit)))
        .collect();
    plan_allowing(&allowances)
}

/// As [`plan`], with limits that say how strict they are.
///
/// # Panics
/// When a plan is no longer what it serializes to.
#[must_use]
pub fn plan_allowing(limits: &[(Metric, Allowance)]) -> Arc<Plan> {
    let limits: serde_json::Map<_, _> = limits
        .iter()
        .map(|(metric, allowance)| (metric.to_string(), json!(allowance)))
        .collect();
    let plan =
        json!({ "slug": "test", "version": 1, "name": "Test", "limits": limits, "features": {} });
    let plan: Plan = serde_json::from_value(plan).expect("a plan has these fields");
    Arc::new(plan)
}
