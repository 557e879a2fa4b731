//! Gating and counting in one line each, and what a refusal says to a client.

use std::fmt::Display;

use chrono::{DateTime, Utc};
use rawdrive_plans::{BeginError, Entitlements, Feature, Metric, MetricKind, PlansTx, ReadOnly};
use rawdrive_tenancy_core::{Env, StoreError};
use serde_json::{Map, Value, json};

use crate::checks::time;
use crate::{
    Charge, FeatureCheck, Period, QuotaCheck, QuotaKey, TakeError, UsageUnit, add, subtract,
};

/// Why something is not done for a workspace: what its plan says, or the database.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The workspace takes no writes now.
    #[error("the workspace takes no writes now; everything can still be read")]
    ReadOnly(ReadOnly),
    /// The plan does not include the feature.
    #[error("the plan {} does not include {}", .0.explanation.plan, .0.feature)]
    Feature(Box<FeatureCheck>),
    /// A limit is in the way.
    #[error("{}", .0.sentence())]
    Quota(Box<QuotaCheck>),
    /// The metric is not declared, or is counted in another way: a mistake in the program. Counting it would mean
    /// that it is unlimited.
    #[error("the metric {metric} {mistake}")]
    Metric {
        /// What was to be counted.
        metric: Metric,
        /// What is wrong, and what would be right.
        mistake: &'static str,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<BeginError> for Refused {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::ReadOnly(read_only) => Self::ReadOnly(read_only),
            BeginError::Store(error) => Self::Store(error),
        }
    }
}

impl Refused {
    /// The stable code of API clients.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ReadOnly(_) => "workspace_read_only",
            Self::Feature(_) => "feature_not_available",
            Self::Quota(_) => "quota_exceeded",
            Self::Metric { .. } => "internal_error",
            Self::Store(StoreError::Full { .. }) => "insufficient_storage",
            Self::Store(StoreError::Unavailable { .. }) => "dependency_unavailable",
            Self::Store(_) => "internal_error",
        }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::ReadOnly(_) | Self::Feature(_) | Self::Quota(_) => 402,
            Self::Store(StoreError::Full { .. } | StoreError::Unavailable { .. }) => 503,
            Self::Metric { .. } | Self::Store(_) => 500,
        }
    }

    /// The members of a 402 beside those of every problem: which limit or feature, what set it, which plan would allow it
    /// and where to upgrade.
    #[must_use]
    pub fn members(&self, upgrade_url: &str) -> Map<String, Value> {
        let members = match self {
            Self::ReadOnly(read_only) => json!({
                "reason": read_only.reason, "since": time(read_only.since), "upgrade_url": upgrade_url,
            }),
            Self::Feature(check) => return check.members(upgrade_url),
            Self::Quota(check) => return check.members(upgrade_url),
            Self::Metric { .. } | Self::Store(_) => Value::Null,
        };
        match members {
            Value::Object(members) => members,
            _ => Map::new(),
        }
    }

    /// The answer's body as `application/problem+json` (RFC 9457), for a service without our HTTP API. What went wrong
    /// inside is not told.
    #[must_use]
    pub fn problem(&self, upgrade_url: &str) -> Value {
        let detail = match self {
            Self::Metric { .. } | Self::Store(_) => "Something went wrong on this side.".to_owned(),
            refused => {
                let text = refused.to_string();
                let mut chars = text.chars();
                let first = chars.next().map(|c| c.to_uppercase().to_string());
                format!("{}{}.", first.unwrap_or_default(), chars.as_str())
            }
        };
        let mut problem = self.members(upgrade_url);
        problem.extend([
            (
                "type".to_owned(),
                json!(format!("/problems/{}", self.code())),
            ),
            ("status".to_owned(), json!(self.status())),
            ("code".to_owned(), json!(self.code())),
            ("detail".to_owned(), json!(detail)),
        ]);
        Value::Object(problem)
    }
}

/// Refuses where the plan in force does not include the feature.
///
/// # Errors
/// [`Refused::Feature`], or the database's failure.
pub async fn require(
    tx: &mut (impl PlansTx + Send),
    env: &Env,
    feature: &Feature,
) -> Result<(), Refused> {
    let entitlements = tx.entitlements().await?;
    let now = env.now();
    if entitlements.feature(feature, now).value {
        return Ok(());
    }
    let check = FeatureCheck::of(&entitlements, feature.clone(), now);
    Err(Refused::Feature(Box::new(check)))
}

/// What is counted, and in which counter.
#[derive(Debug, Clone, Copy)]
pub struct Counted<'a> {
    /// The metric.
    pub metric: &'a Metric,
    /// What the metric is counted apart for; nothing for the workspace.
    pub per: Option<&'a str>,
    /// How many units.
    pub amount: u64,
}

/// Takes units of a metric, within the limit in force, and records them under what was counted (its id). They are taken
/// exactly when the transaction is committed.
///
/// # Errors
/// [`Refused::Quota`] where they do not fit: drop the transaction then; [`Refused::Metric`]; the database's failure.
pub async fn take(
    tx: &mut impl UsageUnit,
    env: &Env,
    counted: Counted<'_>,
    subject: impl Display + Send,
) -> Result<(), Refused> {
    let charge = charge(tx, env, counted).await?;
    match add(tx, env, charge, subject.to_string()).await {
        Ok(()) => Ok(()),
        Err(TakeError::Exceeded(exceeded)) => {
            let entitlements = tx.entitlements().await?;
            let check = QuotaCheck::refused(&entitlements, &exceeded, env.now());
            Err(Refused::Quota(Box::new(check)))
        }
        // Nothing was held.
        Err(TakeError::NotHeld) => Err(StoreError::Dangling {
            operation: "take units",
        }
        .into()),
        Err(TakeError::Store(error)) => Err(error.into()),
    }
}

/// Gives back units of a level, when what they were taken for is deleted.
///
/// # Errors
/// [`Refused::Metric`], or the database's failure.
pub async fn give_back(
    tx: &mut impl UsageUnit,
    env: &Env,
    counted: Counted<'_>,
    subject: impl Display + Send,
) -> Result<(), Refused> {
    let charge = charge(tx, env, counted).await?;
    if !charge.key.is_level() {
        return Err(Refused::Metric {
            metric: charge.key.metric,
            mistake: "is a flow: what was used in a period is not given back, but corrected",
        });
    }
    subtract(tx, env, charge, subject.to_string()).await?;
    Ok(())
}

/// The counter's charge.
async fn charge(
    tx: &mut (impl PlansTx + Send),
    env: &Env,
    counted: Counted<'_>,
) -> Result<Charge, Refused> {
    let entitlements = tx.entitlements().await?;
    let key = counter(&entitlements, counted.metric, counted.per, env.now());
    let key = key.map_err(|mistake| Refused::Metric {
        metric: counted.metric.clone(),
        mistake,
    })?;
    Ok(Charge {
        key,
        amount: counted.amount,
    })
}

/// The counter of a metric at `now`, for what it is counted apart.
///
/// # Errors
/// What is wrong with the metric, or with `per`: the end of a sentence about the metric.
pub fn counter(
    entitlements: &Entitlements,
    metric: &Metric,
    per: Option<&str>,
    now: DateTime<Utc>,
) -> Result<QuotaKey, &'static str> {
    let definition = entitlements.metrics.get(metric);
    let definition =
        definition.ok_or("is declared nowhere: add it as a [[metric]] to the plan catalogue")?;
    let mut key = match definition.kind {
        MetricKind::Level => QuotaKey::level(metric.clone()),
        MetricKind::Flow => {
            let period = Period::containing(now, entitlements.billing_anchor);
            QuotaKey::flow(metric.clone(), period)
        }
    };
    match (&definition.per, per) {
        (None, None) => {}
        (Some(_), Some(per)) => per.clone_into(&mut key.subject),
        (None, Some(_)) => return Err("is counted for the whole workspace, for nothing in it"),
        (Some(_), None) => return Err("is counted apart: say for what"),
    }
    Ok(key)
}
