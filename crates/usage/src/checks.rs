//! What a check and a 402 say of a limit or a feature: the numbers, what set them, and what would allow it.

use chrono::{DateTime, SecondsFormat, Utc};
use rawdrive_plans::{
    Allowance, Decision, Entitlement, Entitlements, Explanation, Feature, Offer, decide,
};
use serde_json::{Map, Value, json};

use crate::{Exceeded, Period, QuotaKey, QuotaRow};

/// A question about units of a metric, and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaCheck {
    /// The counter.
    pub key: QuotaKey,
    /// Units in use.
    pub used: u64,
    /// Units held by others.
    pub reserved: u64,
    /// Units that were asked for.
    pub requested: u64,
    /// When the counter begins anew; a level never does.
    pub resets_at: Option<DateTime<Utc>>,
    /// The limit's layers, and the plan that would admit it.
    pub explanation: Explanation<Allowance>,
}

impl QuotaCheck {
    /// Asks whether `requested` units fit into a counter as it is.
    #[must_use]
    pub fn of(
        entitlements: &Entitlements,
        key: QuotaKey,
        row: QuotaRow,
        requested: u64,
        now: DateTime<Utc>,
    ) -> Self {
        let current = row.used.saturating_add(row.reserved);
        let period = || Period::containing(now, entitlements.billing_anchor);
        Self {
            resets_at: (!key.is_level()).then(|| period().end),
            explanation: entitlements.explain_limit(&key.metric, current, requested, now),
            used: row.used,
            reserved: row.reserved,
            requested,
            key,
        }
    }

    /// Explains a refused take.
    #[must_use]
    pub fn refused(entitlements: &Entitlements, exceeded: &Exceeded, now: DateTime<Utc>) -> Self {
        let metric = exceeded.metric.clone();
        let flow = entitlements.metrics.get(&metric);
        let flow = flow.is_some_and(|d| d.kind == rawdrive_plans::MetricKind::Flow);
        let period_start = if flow {
            Period::containing(now, entitlements.billing_anchor).start
        } else {
            DateTime::UNIX_EPOCH
        };
        let key = QuotaKey {
            metric,
            subject: exceeded.subject.clone(),
            period_start,
        };
        let row = QuotaRow {
            used: exceeded.denied.current.saturating_sub(exceeded.reserved),
            reserved: exceeded.reserved,
            fired: 0,
        };
        Self::of(entitlements, key, row, exceeded.denied.requested, now)
    }

    /// The limit in force, and how strict it is.
    #[must_use]
    pub fn allowance(&self) -> Allowance {
        let winner = self.explanation.layers.last();
        winner.map_or(Allowance::Unlimited, |layer| layer.value)
    }

    /// Used and reserved together.
    #[must_use]
    pub const fn current(&self) -> u64 {
        self.used.saturating_add(self.reserved)
    }

    /// Whether it fits.
    #[must_use]
    pub fn allowed(&self) -> bool {
        decide(self.current(), self.requested, self.allowance()) == Decision::Allow
    }

    /// The members of a 402 and of a check's answer.
    #[must_use]
    pub fn members(&self, upgrade_url: &str) -> Map<String, Value> {
        let allowance = self.allowance();
        let value = |allowance: Allowance| {
            json!({
                "limit": allowance.limit().bound(),
                "hard_limit": allowance.hard_limit().bound(),
            })
        };
        let subject = (!self.key.subject.is_empty()).then_some(&self.key.subject);
        let members = json!({
            "metric": self.key.metric,
            "subject": subject,
            "current": self.current(),
            "used": self.used,
            "reserved": self.reserved,
            "requested": self.requested,
            "limit": allowance.limit().bound(),
            "hard_limit": allowance.hard_limit().bound(),
            "resets_at": self.resets_at.map(time),
            "upgrade_url": upgrade_url,
        });
        explained(members, &self.explanation, value)
    }

    /// The limit and what is in its way, for a person.
    pub(crate) fn sentence(&self) -> String {
        let allowance = self.allowance();
        let (limit, hard_limit) = (allowance.limit(), allowance.hard_limit());
        let tolerance = if limit == hard_limit {
            String::new()
        } else {
            format!(", with its tolerance {hard_limit}")
        };
        format!(
            "the limit of {} is {limit}{tolerance}: {} are used or reserved, and {} more were asked for",
            self.key.metric,
            self.current(),
            self.requested
        )
    }
}

/// A question about a feature, and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureCheck {
    /// What was asked for.
    pub feature: Feature,
    /// The switch's layers, and the plan that would turn it on.
    pub explanation: Explanation<bool>,
}

impl FeatureCheck {
    /// Asks whether a feature is on.
    #[must_use]
    pub fn of(entitlements: &Entitlements, feature: Feature, now: DateTime<Utc>) -> Self {
        Self {
            explanation: entitlements.explain_feature(&feature, now),
            feature,
        }
    }

    /// Whether it is on.
    #[must_use]
    pub fn allowed(&self) -> bool {
        let winner = self.explanation.layers.last();
        winner.is_some_and(|layer| layer.value)
    }

    /// The members of a 402 and of a check's answer.
    #[must_use]
    pub fn members(&self, upgrade_url: &str) -> Map<String, Value> {
        let members = json!({ "feature": self.feature, "upgrade_url": upgrade_url });
        explained(members, &self.explanation, |on| json!({ "enabled": on }))
    }
}

/// Adds the plan, the layers, each with its value, and the offer.
fn explained<T: Copy>(
    members: Value,
    explanation: &Explanation<T>,
    value: impl Fn(T) -> Value,
) -> Map<String, Value> {
    let mut members = object(members);
    let top = explanation.layers.len().saturating_sub(1);
    let layer = |(i, layer): (usize, &Entitlement<T>)| {
        let mut shown = object(json!({
            "origin": layer.origin.as_str(),
            "until": layer.until.map(time),
            "wins": i == top,
        }));
        shown.extend(object(value(layer.value)));
        Value::Object(shown)
    };
    let layers: Vec<_> = explanation.layers.iter().enumerate().map(layer).collect();
    members.extend(object(json!({
        "plan": explanation.plan,
        "plan_version": explanation.plan_version,
        "layers": layers,
        "cheapest_plan": explanation.cheapest_plan.as_ref().map(offered),
    })));
    members
}

fn offered(offer: &Offer) -> Value {
    json!({
        "slug": offer.plan.slug,
        "name": offer.plan.name,
        "version": offer.plan.version,
        "price": {
            "currency": offer.price.currency,
            "interval": offer.price.interval.as_str(),
            "amount": offer.price.amount,
        },
    })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

pub(crate) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
