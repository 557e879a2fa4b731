//! Gating and counting in one line each, and what a refusal says to a client.

use std::fmt::Display;

use chrono::{DateTime, SecondsFormat, Utc};
use rawdrive_plans::{BeginError, Feature, Metric, MetricKind, PlansTx, ReadOnly, Slug};
use rawdrive_tenancy_core::event::EventsTx;
use rawdrive_tenancy_core::job::JobsTx;
use rawdrive_tenancy_core::{Env, StoreError};
use serde_json::{Map, Value, json};

use crate::{Charge, Exceeded, Period, QuotaKey, TakeError, UsageTx, add, subtract};

/// Why something is not done for a workspace: what its plan says, or the database.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The workspace takes no writes now.
    #[error("the workspace takes no writes now; everything can still be read")]
    ReadOnly(ReadOnly),
    /// The plan does not include the feature.
    #[error("the plan {plan} does not include {feature}")]
    Feature {
        /// What was asked for.
        feature: Feature,
        /// The plan in force.
        plan: Slug,
    },
    /// A limit is in the way.
    #[error(
        "the limit of {} is {}: {} are used or reserved, and {} more were asked for",
        exceeded.metric, exceeded.denied.limit, exceeded.denied.current, exceeded.denied.requested
    )]
    Quota {
        /// Which, and the numbers.
        exceeded: Exceeded,
        /// The plan in force.
        plan: Slug,
        /// When the counter begins anew; a level never does.
        resets_at: Option<DateTime<Utc>>,
    },
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
            Self::Feature { .. } => "feature_not_available",
            Self::Quota { .. } => "quota_exceeded",
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
            Self::ReadOnly(_) | Self::Feature { .. } | Self::Quota { .. } => 402,
            Self::Store(StoreError::Full { .. } | StoreError::Unavailable { .. }) => 503,
            Self::Metric { .. } | Self::Store(_) => 500,
        }
    }

    /// The members of a 402 beside those of every problem: which limit or feature, and where to upgrade.
    #[must_use]
    pub fn members(&self, upgrade_url: &str) -> Map<String, Value> {
        let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let members = match self {
            Self::ReadOnly(read_only) => json!({
                "reason": read_only.reason, "since": time(read_only.since), "upgrade_url": upgrade_url,
            }),
            Self::Feature { feature, plan } => json!({
                "feature": feature, "plan": plan, "upgrade_url": upgrade_url,
            }),
            Self::Quota {
                exceeded,
                plan,
                resets_at,
            } => json!({
                "metric": exceeded.metric,
                "current": exceeded.denied.current,
                "requested": exceeded.denied.requested,
                "limit": exceeded.denied.limit,
                "plan": plan,
                "resets_at": resets_at.map(time),
                "upgrade_url": upgrade_url,
            }),
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
    Err(Refused::Feature {
        feature: feature.clone(),
        plan: entitlements.plan_at(now).slug.clone(),
    })
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
    tx: &mut (impl UsageTx + PlansTx + EventsTx + JobsTx + Send),
    env: &Env,
    counted: Counted<'_>,
    subject: impl Display + Send,
) -> Result<(), Refused> {
    let (charge, resets_at) = charge(tx, env, counted).await?;
    match add(tx, env, charge, subject.to_string()).await {
        Ok(()) => Ok(()),
        Err(TakeError::Exceeded(exceeded)) => Err(Refused::Quota {
            exceeded,
            plan: tx.entitlements().await?.plan_at(env.now()).slug.clone(),
            resets_at,
        }),
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
    tx: &mut (impl UsageTx + PlansTx + EventsTx + Send),
    env: &Env,
    counted: Counted<'_>,
    subject: impl Display + Send,
) -> Result<(), Refused> {
    let (charge, resets_at) = charge(tx, env, counted).await?;
    if resets_at.is_some() {
        return Err(Refused::Metric {
            metric: charge.key.metric,
            mistake: "is a flow: what was used in a period is not given back, but corrected",
        });
    }
    subtract(tx, env, charge, subject.to_string()).await?;
    Ok(())
}

/// The counter's charge, and when it begins anew.
async fn charge(
    tx: &mut (impl PlansTx + Send),
    env: &Env,
    counted: Counted<'_>,
) -> Result<(Charge, Option<DateTime<Utc>>), Refused> {
    let Counted {
        metric,
        per,
        amount,
    } = counted;
    let mistake = |mistake| Refused::Metric {
        metric: metric.clone(),
        mistake,
    };
    let entitlements = tx.entitlements().await?;
    let definition = entitlements.metrics.get(metric).ok_or_else(|| {
        mistake("is declared nowhere: add it as a [[metric]] to the plan catalogue")
    })?;
    let (key, resets_at) = match (&definition.per, per, definition.kind) {
        (None, Some(_), _) => {
            return Err(mistake(
                "is counted for the whole workspace, for nothing in it",
            ));
        }
        (Some(_), None, _) => return Err(mistake("is counted apart: say for what")),
        (Some(_), Some(per), MetricKind::Level) => (QuotaKey::level_of(metric.clone(), per), None),
        (None, None, MetricKind::Level) => (QuotaKey::level(metric.clone()), None),
        (_, _, MetricKind::Flow) => {
            let period = Period::containing(env.now(), entitlements.billing_anchor);
            let mut key = QuotaKey::flow(metric.clone(), period);
            per.unwrap_or_default().clone_into(&mut key.subject);
            (key, Some(period.end))
        }
    };
    Ok((Charge { key, amount }, resets_at))
}
