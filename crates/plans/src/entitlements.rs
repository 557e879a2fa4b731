//! What a workspace is entitled to at a given time.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rawdrive_tenancy_core::id::WorkspaceId;

use crate::{Allowance, Feature, Limit, Metric, Metrics, Override, Plan, Setting};

/// Why a workspace takes no writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOnly {
    /// A stable word, such as `payment_failed`.
    pub reason: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// The access schedule at a given time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Everything the plan allows.
    Full,
    /// Everything still, until then.
    Grace {
        /// When the grace ends.
        until: DateTime<Utc>,
    },
    /// Reads, downloads, deletes and billing.
    ReadOnly(ReadOnly),
}

impl Access {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Grace { .. } => "grace",
            Self::ReadOnly(_) => "read_only",
        }
    }
}

/// Where an entitlement's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The plan version in force.
    Plan,
    /// The plan version in force, by grace: a payment has failed.
    Grace,
    /// An operator's override above the plan.
    Override,
}

impl Origin {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Grace => "grace",
            Self::Override => "override",
        }
    }
}

/// A value and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entitlement<T> {
    /// The limit or the switch.
    pub value: T,
    /// Plan, grace or override.
    pub origin: Origin,
    /// When it ends by itself: the override, the grace, or a plan that was granted for a time.
    pub until: Option<DateTime<Utc>>,
}

/// What a workspace is entitled to: a pure function of `now` over stored facts. Evaluated by everyone,
/// written by plan changes and billing alone.
#[derive(Debug, Clone)]
pub struct Entitlements {
    /// Whose entitlements they are.
    pub workspace: WorkspaceId,
    /// The plan version the workspace is on; it stays until the workspace is moved, or until it ends by itself:
    /// [`Entitlements::plan_at`] says which is in force.
    pub plan: Arc<Plan>,
    /// Overrides in the order they were made, ended ones included.
    pub overrides: Vec<Override>,
    /// The day and time of the billing period, if there is a subscription.
    pub billing_anchor: Option<DateTime<Utc>>,
    /// Until when a failed payment is forgiven.
    pub grace_until: Option<DateTime<Utc>>,
    /// From when the workspace takes no writes, and why.
    pub read_only: Option<ReadOnly>,
    /// When the plan ends by itself, and what follows it; nothing for one that stays.
    pub ends: Option<PlanEnd>,
    /// What is counted, and how.
    pub metrics: Arc<Metrics>,
    /// What the workspace pays in: ISO 4217, lower case.
    pub currency: String,
    /// The plans that can be had today, in the catalogue's order.
    pub plans_today: Arc<[Arc<Plan>]>,
}

/// The end of a plan that was granted for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanEnd {
    /// The first instant at which the plan is not in force any more.
    pub at: DateTime<Utc>,
    /// What is in force from then on.
    pub then: Arc<Plan>,
}

/// What billing writes into entitlements beside the plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schedule {
    /// The day and time of the billing period.
    pub billing_anchor: Option<DateTime<Utc>>,
    /// Until when a failed payment is forgiven.
    pub grace_until: Option<DateTime<Utc>>,
    /// From when the workspace takes no writes, and why; the time may lie ahead.
    pub read_only: Option<ReadOnly>,
    /// When the plan ends by itself, and what follows it.
    pub ends: Option<PlanEnd>,
}

impl Entitlements {
    /// What billing has written beside the plan.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        Schedule {
            billing_anchor: self.billing_anchor,
            grace_until: self.grace_until,
            read_only: self.read_only.clone(),
            ends: self.ends.clone(),
        }
    }

    /// The plan version in force at `now`.
    #[must_use]
    pub fn plan_at(&self, now: DateTime<Utc>) -> &Arc<Plan> {
        match &self.ends {
            Some(end) if end.at <= now => &end.then,
            _ => &self.plan,
        }
    }

    /// The access schedule at `now`.
    #[must_use]
    pub fn access(&self, now: DateTime<Utc>) -> Access {
        if let Some(read_only) = &self.read_only
            && read_only.since <= now
        {
            return Access::ReadOnly(read_only.clone());
        }
        match self.grace_until {
            Some(until) if now < until => Access::Grace { until },
            _ => Access::Full,
        }
    }

    /// The limit of a metric at `now`: what levels and percentages are of. A metric that the plan does not name is
    /// unlimited there.
    #[must_use]
    pub fn limit(&self, metric: &Metric, now: DateTime<Utc>) -> Entitlement<Limit> {
        let Entitlement {
            value,
            origin,
            until,
        } = self.allowance(metric, now);
        Entitlement {
            value: value.limit(),
            origin,
            until,
        }
    }

    /// The limit of a metric at `now`, and how strict it is: what takes are decided by.
    #[must_use]
    pub fn allowance(&self, metric: &Metric, now: DateTime<Utc>) -> Entitlement<Allowance> {
        let plan = self.plan_at(now).allowance(metric);
        let above = self.overrides_at(now).rev();
        winner(self.of_plan(plan, now), above, |setting| {
            limit_above(plan, metric, setting)
        })
    }

    /// Whether a feature is on at `now`. A feature that the plan does not name is off.
    #[must_use]
    pub fn feature(&self, feature: &Feature, now: DateTime<Utc>) -> Entitlement<bool> {
        let plan = self.plan_at(now).feature(feature);
        let above = self.overrides_at(now).rev();
        winner(self.of_plan(plan, now), above, |setting| {
            feature_above(feature, setting)
        })
    }

    /// Every value that a limit has at `now`, the lowest first: the plan's, by grace, of each override in force. The last
    /// one wins.
    #[must_use]
    pub fn limit_layers(&self, metric: &Metric, now: DateTime<Utc>) -> Vec<Entitlement<Allowance>> {
        let plan = self.plan_at(now).allowance(metric);
        self.layers(plan, now, |setting| limit_above(plan, metric, setting))
    }

    /// As [`Entitlements::limit_layers`], of a feature.
    #[must_use]
    pub fn feature_layers(&self, feature: &Feature, now: DateTime<Utc>) -> Vec<Entitlement<bool>> {
        let plan = self.plan_at(now).feature(feature);
        self.layers(plan, now, |setting| feature_above(feature, setting))
    }

    fn layers<T: Copy>(
        &self,
        plan: T,
        now: DateTime<Utc>,
        pick: impl Fn(&Setting) -> Option<T>,
    ) -> Vec<Entitlement<T>> {
        let below = Entitlement {
            value: plan,
            origin: Origin::Plan,
            until: self.plan_ends(now),
        };
        let held = self.of_plan(plan, now);
        let grace = (held.origin == Origin::Grace).then_some(held);
        let above = self.overrides_at(now).filter_map(|o| above(o, &pick));
        [below].into_iter().chain(grace).chain(above).collect()
    }

    /// What the plan's value is worth at `now`.
    fn of_plan<T>(&self, value: T, now: DateTime<Utc>) -> Entitlement<T> {
        match self.access(now) {
            Access::Grace { until } => Entitlement {
                value,
                origin: Origin::Grace,
                until: Some(until),
            },
            Access::Full | Access::ReadOnly(_) => Entitlement {
                value,
                origin: Origin::Plan,
                until: self.plan_ends(now),
            },
        }
    }

    fn plan_ends(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let end = self.ends.as_ref().map(|end| end.at);
        end.filter(|at| now < *at)
    }

    fn overrides_at(&self, now: DateTime<Utc>) -> impl DoubleEndedIterator<Item = &Override> {
        let in_force = move |o: &&Override| o.until.is_none_or(|until| now < until);
        self.overrides.iter().filter(in_force)
    }
}

pub(crate) fn limit_above(
    plan: Allowance,
    metric: &Metric,
    setting: &Setting,
) -> Option<Allowance> {
    match setting {
        Setting::Limit(name, limit) if name == metric => Some(plan.with_limit(*limit)),
        Setting::Limit(..) | Setting::Feature(..) => None,
    }
}

fn feature_above(feature: &Feature, setting: &Setting) -> Option<bool> {
    match setting {
        Setting::Feature(name, on) if name == feature => Some(*on),
        Setting::Limit(..) | Setting::Feature(..) => None,
    }
}

fn above<T>(o: &Override, pick: impl Fn(&Setting) -> Option<T>) -> Option<Entitlement<T>> {
    pick(&o.setting).map(|value| Entitlement {
        value,
        origin: Origin::Override,
        until: o.until,
    })
}

/// The first of the overrides, newest first, that sets the value; otherwise what lies below.
fn winner<'a, T>(
    below: Entitlement<T>,
    mut newest_first: impl Iterator<Item = &'a Override>,
    pick: impl Fn(&Setting) -> Option<T>,
) -> Entitlement<T> {
    let found = newest_first.find_map(|o| above(o, &pick));
    found.unwrap_or(below)
}
