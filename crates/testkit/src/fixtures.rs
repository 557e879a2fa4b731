//! Things to start from. Each is the plainest of its kind; a test changes the fields that matter to it.

use std::sync::Arc;

use rawdrive_plans::{Allowance, Feature, Limit, Metric, Plan};
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::{SystemReason, WorkspaceScope};
use serde_json::{Map, json};

/// The scope of the job runner in a workspace.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "tests act in workspaces that have no members"
)]
pub fn scope(workspace: WorkspaceId) -> WorkspaceScope {
    WorkspaceScope::for_system(workspace, SystemReason::JOB)
}

/// A plan with these limits, and none but these; without features.
#[must_use]
pub fn plan(limits: &[(Metric, Limit)]) -> Arc<Plan> {
    plan_with(limits, &[])
}

/// As [`plan`], with limits that say how strict they are.
#[must_use]
pub fn plan_allowing(limits: &[(Metric, Allowance)]) -> Arc<Plan> {
    plan_of(limits, &[])
}

/// A plan with these limits and features, and none but these.
///
/// # Panics
/// When a plan is no longer what it serializes to.
#[must_use]
pub fn plan_with(limits: &[(Metric, Limit)], features: &[Feature]) -> Arc<Plan> {
    let allowances: Vec<_> = limits
        .iter()
        .map(|(metric, limit)| (metric.clone(), Allowance::from(*limit)))
        .collect();
    plan_of(&allowances, features)
}

fn plan_of(limits: &[(Metric, Allowance)], features: &[Feature]) -> Arc<Plan> {
    let limits: Map<_, _> = limits
        .iter()
        .map(|(metric, allowance)| (metric.to_string(), json!(allowance)))
        .collect();
    let features = features.iter();
    let features: Map<_, _> = features
        .map(|feature| (feature.to_string(), json!(true)))
        .collect();
    let plan = json!({
        "slug": "test",
        "version": 1,
        "name": "Test",
        "limits": limits,
        "features": features,
    });
    let plan: Plan = serde_json::from_value(plan).expect("a plan has these fields");
    Arc::new(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_has_what_was_said_and_nothing_else() {
        let (seats, reports) = (Metric::team_members(), Feature::new("reports"));
        let plan = plan_with(
            &[(seats.clone(), Limit::AtMost(3))],
            std::slice::from_ref(&reports),
        );
        assert!(plan.feature(&reports));
        assert!(!plan.feature(&Feature::new("exports")));
        let limits: Vec<_> = plan
            .limits()
            .map(|(metric, limit)| (metric.clone(), limit))
            .collect();
        assert_eq!(limits, [(seats, Allowance::from(Limit::AtMost(3)))]);
    }
}
