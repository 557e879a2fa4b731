//! What an operator changes: the plan, and overrides above it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rawdrive_tenancy_core::audit::Change;
use rawdrive_tenancy_core::job::JobKind;
use rawdrive_tenancy_core::{Env, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Catalogue, Feature, Metric, Override, Plan, PlansUnit, Setting, Slug};

/// The job that evaluates thresholds again, because an entitlement changes at its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewThresholds {}

impl JobKind for ReviewThresholds {
    const NAME: &'static str = "review_thresholds";
}

/// Why a grant is refused.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The catalogue has no such plan.
    #[error("there is no plan `{slug}`; the catalogue has {known}")]
    UnknownPlan {
        /// What was asked for.
        slug: Slug,
        /// What there is.
        known: String,
    },
    /// The catalogue declares no such metric.
    #[error("there is no limit `{name}`; the catalogue has {known}")]
    UnknownMetric {
        /// What was asked for.
        name: Metric,
        /// What there is.
        known: String,
    },
    /// No plan names such a feature.
    #[error("there is no feature `{name}`; the catalogue has {known}")]
    UnknownFeature {
        /// What was asked for.
        name: Feature,
        /// What there is.
        known: String,
    },
    /// The reason is empty or too long.
    #[error("a reason of 1 to 500 characters is required: the audit log keeps it")]
    NoReason,
    /// The grant or the override would end before it begins.
    #[error("it would end at {0}, which is past")]
    Past(DateTime<Utc>),
    /// The free plan is what every workspace falls back to: granting it takes a grant back, and has no end.
    #[error("the free plan takes a grant back at once and has no end: leave `until` out")]
    FreeHasNoEnd,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl GrantError {
    /// No such plan, and which there are.
    #[must_use]
    pub fn unknown_plan(catalogue: &Catalogue, slug: &Slug) -> Self {
        Self::UnknownPlan {
            slug: slug.clone(),
            known: catalogue.known_plans(),
        }
    }
}

fn reason_of(reason: &str) -> Result<&str, GrantError> {
    let reason = reason.trim();
    if (1..=500).contains(&reason.chars().count()) {
        Ok(reason)
    } else {
        Err(GrantError::NoReason)
    }
}

/// Moves the workspace to the newest version of a plan, audited as `plan.changed`, and has thresholds
/// reviewed under the new limits.
///
/// # Errors
/// An unknown plan, no reason, or the database's failure; nothing is changed then.
pub async fn set_plan(
    tx: &mut impl PlansUnit,
    catalogue: &Catalogue,
    slug: &Slug,
    reason: &str,
) -> Result<Arc<Plan>, GrantError> {
    let reason = reason_of(reason)?;
    let plan = catalogue
        .newest(slug)
        .ok_or_else(|| GrantError::unknown_plan(catalogue, slug))?;
    let before = tx.entitlements().await?;
    tx.move_to_plan(&plan).await?;
    tx.record(Change {
        action: "plan.changed",
        subject: before.workspace.to_string(),
        before: json!({ "plan": before.plan.slug, "version": before.plan.version }),
        after: json!({ "plan": plan.slug, "version": plan.version, "reason": reason }),
    });
    tx.enqueue(&ReviewThresholds {}, None)?;
    Ok(plan)
}

/// Sets one limit or feature above the plan, audited as `override.added`; thresholds are reviewed now and
/// again when the override ends by itself.
///
/// # Errors
/// An unknown name, no reason, a date that is past, or the database's failure; nothing is changed then.
pub async fn override_setting(
    tx: &mut impl PlansUnit,
    env: &Env,
    catalogue: &Catalogue,
    setting: Setting,
    until: Option<DateTime<Utc>>,
    reason: &str,
) -> Result<Override, GrantError> {
    let reason = reason_of(reason)?.to_owned();
    let now = env.now();
    if let Some(until) = until.filter(|until| *until <= now) {
        return Err(GrantError::Past(until));
    }
    match &setting {
        Setting::Limit(name, _) if !catalogue.declares(name) => {
            return Err(GrantError::UnknownMetric {
                name: name.clone(),
                known: catalogue.known_metrics(),
            });
        }
        Setting::Feature(name, _) if !catalogue.has_feature(name) => {
            return Err(GrantError::UnknownFeature {
                name: name.clone(),
                known: catalogue.known_features(),
            });
        }
        Setting::Limit(..) | Setting::Feature(..) => {}
    }
    let entitlements = tx.entitlements().await?;
    let new = Override {
        id: env.id(),
        setting,
        reason,
        until,
    };
    let (name, before, after) = match &new.setting {
        Setting::Limit(name, limit) => (
            name.to_string(),
            json!(entitlements.limit(name, now).value.bound()),
            json!(limit.bound()),
        ),
        Setting::Feature(name, on) => (
            name.to_string(),
            json!(entitlements.feature(name, now).value),
            json!(on),
        ),
    };
    tx.add_override(&new).await?;
    tx.record(Change {
        action: "override.added",
        subject: new.id.to_string(),
        before: json!({ "name": name, "value": before }),
        after: json!({ "name": name, "value": after, "until": until, "reason": new.reason }),
    });
    tx.enqueue(&ReviewThresholds {}, None)?;
    if let Some(until) = until {
        tx.enqueue(&ReviewThresholds {}, Some(until))?;
    }
    Ok(new)
}
