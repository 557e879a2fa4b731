//! What a change of plan would cost and break, before it is made; and a token that holds a change to it.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;
use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_plans::{Interval, Limit, Metric, Plan, PlansTx as _};
use rawdrive_tenancy_core::WorkspaceScope;
use rawdrive_tenancy_core::id::UserId;
use rawdrive_usage::{QuotaKey, UsageTx};
use serde_json::json;

use crate::gateway::{ChangeTiming, ChargePreview, PaymentGateway, PreviewRequest};
use crate::money::Money;
use crate::ports::{BillingStore, BillingTx as _, Subscription};
use crate::subscriptions::{
    BillingError, Change, Known, Order, named, named_plan, newest, workspace_of,
};
use crate::sync_worker::Billing;

/// How long a token holds: the second from which the difference is counted must not lie far back.
const TOKEN_LIFE: TimeDelta = TimeDelta::minutes(30);

/// What tokens are signed with: 32 bytes of the installation's own.
#[derive(Clone)]
pub struct PreviewKey(hmac::Key);

impl fmt::Debug for PreviewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PreviewKey(…)")
    }
}

impl PreviewKey {
    /// A key of these bytes.
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }
}

/// A limit of the new plan that today's usage would break. Nothing is deleted for it: no more can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// What is counted.
    pub metric: Metric,
    /// What it is counted for; empty for the workspace.
    pub subject: String,
    /// What is used today.
    pub used: u64,
    /// What the plan allows.
    pub limit: u64,
    /// Members whose seats are beyond the limit; empty for another metric. They stay.
    pub members: Vec<UserId>,
}

impl Broken {
    /// By how much it would be broken.
    #[must_use]
    pub const fn over(&self) -> u64 {
        self.used.saturating_sub(self.limit)
    }
}

/// When a change takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effective {
    /// At once.
    Now,
    /// When the period ends.
    AtPeriodEnd,
}

/// What a change of plan would mean.
#[derive(Debug, Clone)]
pub struct Preview {
    /// The plan that would be had.
    pub plan: Arc<Plan>,
    /// From when on.
    pub effective: Effective,
    /// When that is.
    pub effective_at: DateTime<Utc>,
    /// What would be charged at once; negative is credited.
    pub charged_now: Money,
    /// What the next invoice would come to; zero after an end.
    pub charged_next: Money,
    /// When that would be; nothing after an end.
    pub next_at: Option<DateTime<Utc>>,
    /// Limits that today's usage would break.
    pub broken: Vec<Broken>,
    /// Makes the change hold to this preview, while it is so.
    pub commit_token: String,
}

/// Shows what an order would mean for the workspace as it is now. Changes nothing, and reserves nothing.
///
/// A workspace without a subscription is shown what a first one costs; its token holds nobody to anything.
///
/// # Errors
/// [`BillingError`].
pub async fn preview<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    scope: &WorkspaceScope,
    key: &PreviewKey,
    order: &Order,
) -> Result<Preview, BillingError> {
    let mut known = Known::read(billing, scope).await?;
    let plan = newest(billing, &order.plan)?;
    if known.changeable().is_err() {
        // A first purchase is previewed for whoever the provider still knows.
        known.living_customer(billing, scope).await?;
    }
    // Whole seconds: that is how the provider counts.
    let now = billing.env.now();
    let date = DateTime::from_timestamp(now.timestamp(), 0).unwrap_or(now);
    let facts = ChangeFacts::gather(billing, scope, &known, &plan, order.interval, date).await?;
    let commit_token = facts.token(key, scope);
    let (effective, effective_at) = match facts.change() {
        Change::Price {
            timing: ChangeTiming::Now { proration_date },
            ..
        } => (Effective::Now, proration_date),
        Change::Price { .. } | Change::Cancellation => match facts.period_end {
            Some(end) => (Effective::AtPeriodEnd, end),
            // Nothing was paid for whose end could be waited for.
            None => (Effective::Now, date),
        },
    };
    let none = Money::new(0, known.payer.currency);
    Ok(Preview {
        effective,
        effective_at,
        charged_now: facts.charge.map_or(none, |charge| charge.now),
        charged_next: facts.charge.map_or(none, |charge| charge.next),
        next_at: facts.charge.map(|charge| charge.next_at),
        broken: facts.broken,
        commit_token,
        plan,
    })
}

/// The facts that a token is of.
pub(crate) struct ChangeFacts {
    change: Change,
    from: String,
    to: String,
    date: DateTime<Utc>,
    period_end: Option<DateTime<Utc>>,
    charge: Option<ChargePreview>,
    broken: Vec<Broken>,
}

impl ChangeFacts {
    pub(crate) async fn gather<S: BillingStore, G: PaymentGateway>(
        billing: &Billing<S, G>,
        scope: &WorkspaceScope,
        known: &Known,
        plan: &Arc<Plan>,
        interval: Interval,
        date: DateTime<Utc>,
    ) -> Result<Self, BillingError> {
        let broken = broken(billing, scope, plan).await?;
        // The state counts too: what costs nothing in a trial costs something after it.
        let from = |s: &Subscription| format!("{} {}", named(s), s.snapshot.status.as_str());
        let (from, change, period_end) = match (known.changeable(), known.current()) {
            (Ok(current), _) => (
                from(current),
                Change::to(known, current, plan, interval, date)?,
                // An end that comes sooner is not put off.
                current.snapshot.period_end().map(|end| {
                    let ends = current.snapshot.ends_at();
                    let ends = ends.filter(|_| plan.prices.is_empty());
                    ends.map_or(end, |ends| ends.min(end))
                }),
            ),
            (Err(_), Ok(unpaid)) if plan.prices.is_empty() => {
                (from(unpaid), Change::Cancellation, None)
            }
            // Another would be begun, beside or instead of one that nobody has paid for.
            (Err(_), _) => {
                let price = known.price(plan, interval)?;
                let timing = ChangeTiming::Now {
                    proration_date: date,
                };
                (String::new(), Change::Price { price, timing }, None)
            }
        };
        let charge = match &change {
            Change::Cancellation => None,
            Change::Price { price, timing } => {
                Some(charge(billing, known, plan, price, *timing).await?)
            }
        };
        let change = match (change, charge.and_then(|charge| charge.proration_date)) {
            // The change counts from the very second that its amounts were counted from.
            (
                Change::Price {
                    price,
                    timing: ChangeTiming::Now { .. },
                },
                Some(proration_date),
            ) => Change::Price {
                price,
                timing: ChangeTiming::Now { proration_date },
            },
            (change, _) => change,
        };
        Ok(Self {
            change,
            from,
            to: format!("{} {interval}", named_plan(plan)),
            date,
            period_end,
            charge,
            broken,
        })
    }

    pub(crate) fn change(&self) -> Change {
        self.change.clone()
    }

    /// The seconds from which the difference is counted, then the keyed hash of all that was shown.
    fn token(&self, key: &PreviewKey, scope: &WorkspaceScope) -> String {
        let tag = hmac::sign(&key.0, &self.canonical(scope));
        let hex: String = tag
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{}.{hex}", self.date.timestamp())
    }

    fn canonical(&self, scope: &WorkspaceScope) -> Vec<u8> {
        let broken = self.broken.iter();
        // By how much usage is within a limit is nobody's consent; by how much it breaks one is.
        let broken = broken.map(|b| json!([b.metric, b.subject, b.used, b.limit, b.members]));
        let at_once = matches!(
            &self.change,
            Change::Price {
                timing: ChangeTiming::Now { .. },
                ..
            }
        );
        let price = match &self.change {
            Change::Price { price, .. } => Some(price),
            Change::Cancellation => None,
        };
        // Not when the next charge comes: where the interval changes, a period begins with the change itself, and
        // otherwise the period's end says it.
        let charge = self.charge.map(|charge| (charge.now, charge.next));
        json!({
            "workspace": workspace_of(scope), "from": self.from, "to": self.to, "price": price,
            "at_once": at_once, "date": self.date.timestamp(), "period_end": self.period_end,
            "charge": charge, "broken": broken.collect::<Vec<_>>(),
        })
        .to_string()
        .into_bytes()
    }
}

/// The second from which a token counts the difference. Whatever else it says, one that is older or newer than a token
/// can be, or that is none, is of no facts that hold: nobody need be asked about its time.
pub(crate) fn fresh_date(token: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, BillingError> {
    let seconds = token.split_once('.').and_then(|(s, _)| s.parse().ok());
    let date = seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    // Some seconds ahead too: the token's time is in whole seconds, and clocks of servers differ.
    let fresh = |date: &DateTime<Utc>| {
        let age = now.signed_duration_since(*date);
        age <= TOKEN_LIFE && age > TimeDelta::seconds(-5)
    };
    date.filter(fresh).ok_or(BillingError::PlanChangeStale)
}

/// Whether a token is of these facts.
pub(crate) fn check_token(
    key: &PreviewKey,
    scope: &WorkspaceScope,
    facts: &ChangeFacts,
    token: &str,
) -> Result<(), BillingError> {
    let ours = facts.token(key, scope);
    aws_lc_rs::constant_time::verify_slices_are_equal(ours.as_bytes(), token.as_bytes())
        .map_err(|_| BillingError::PlanChangeStale)
}

/// What is charged, as the provider reckons it: credit, discounts, taxes, quantities and whatever stands beside the
/// plan are its to know.
async fn charge<S, G: PaymentGateway>(
    billing: &Billing<S, G>,
    known: &Known,
    plan: &Plan,
    price: &crate::ids::PriceId,
    timing: ChangeTiming,
) -> Result<ChargePreview, BillingError> {
    let current = known.changeable().ok();
    let item = current.and_then(|c| Some((c.snapshot.id.clone(), c.snapshot.item()?)));
    let quantity = item.as_ref().map_or(1, |(_, item)| item.quantity);
    let request = PreviewRequest {
        customer: known.account.customer.clone(),
        trial_days: match item {
            Some(_) => None,
            None => known.trial_days(plan),
        },
        change: item.map(|(subscription, item)| (subscription, item.id.clone())),
        price: price.clone(),
        quantity,
        timing,
    };
    Ok(billing.gateway.preview(&request).await?)
}

/// The limits of a plan that today's usage would break, overrides above the plan considered.
async fn broken<S: BillingStore, G>(
    billing: &Billing<S, G>,
    scope: &WorkspaceScope,
    plan: &Arc<Plan>,
) -> Result<Vec<Broken>, BillingError> {
    let now = billing.env.now();
    let mut tx = billing.store.begin_billing(scope).await?;
    let entitlements = tx.entitlements().await?;
    let mut then = (*entitlements).clone();
    then.plan = plan.clone();
    then.ends = None;
    let mut rows = tx.quotas().await?;
    let seats = QuotaKey::level(Metric::team_members());
    let taken = tx.quota(&seats).await?;
    rows.retain(|(key, _)| *key != seats);
    rows.push((seats, taken));
    rows.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut broken = Vec::new();
    for (key, row) in rows {
        // What was used of a flow is used; the next period begins at zero under the new limit.
        let Limit::AtMost(limit) = then.limit(&key.metric, now).value else {
            continue;
        };
        if !key.is_level() || row.used <= limit {
            continue;
        }
        let members = if key.metric == Metric::team_members() {
            tx.members_beyond(limit).await?
        } else {
            Vec::new()
        };
        broken.push(Broken {
            metric: key.metric,
            subject: key.subject,
            used: row.used,
            limit,
            members,
        });
    }
    Ok(broken)
}
