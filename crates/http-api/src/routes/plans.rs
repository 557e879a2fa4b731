//! Plans, entitlements, usage.

use actix_web::{HttpResponse, get, web};
use chrono::{DateTime, Utc};
use rawdrive_plans::{Allowance, Metric, MetricKind, Plan, level, percent};
use rawdrive_usage::{Period, QuotaKey, QuotaRow};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::app::{App, time};
use crate::auth::{Member, Scoped};
use crate::openapi::words::{IntervalName, OriginName};
use crate::web::Problem;

#[derive(Serialize, ToSchema)]
pub(crate) struct PriceView {
    currency: String,
    #[schema(value_type = IntervalName)]
    interval: String,
    /// Minor units.
    amount: u64,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct PlanView {
    slug: String,
    name: String,
    version: u32,
    prices: Vec<PriceView>,
    /// By name; unlimited is `null`.
    #[schema(value_type = BTreeMap<String, Option<u64>>)]
    limits: Value,
    /// The most that is admitted, with each limit's tolerance, by the limit's name; `null` where nothing is refused.
    #[schema(value_type = BTreeMap<String, Option<u64>>)]
    hard_limits: Value,
    /// By name.
    #[schema(value_type = BTreeMap<String, bool>)]
    features: Value,
}

impl PlanView {
    fn of(app: &App, plan: &Plan) -> Self {
        let by_name = |bound: fn(Allowance) -> Option<u64>| {
            let limits = app.catalogue.metrics().map(|(metric, _)| {
                let name = app.catalogue.declared().limit_name(metric);
                (name.to_owned(), json!(bound(plan.allowance(metric))))
            });
            Value::Object(limits.collect())
        };
        let features = app
            .catalogue
            .features()
            .map(|f| (f.to_string(), json!(plan.feature(f))));
        Self {
            slug: plan.slug.to_string(),
            name: plan.name.clone(),
            version: plan.version,
            prices: plan
                .prices
                .iter()
                .map(|p| PriceView {
                    currency: p.currency.clone(),
                    interval: p.interval.as_str().to_owned(),
                    amount: p.amount,
                })
                .collect(),
            limits: by_name(|allowance| allowance.limit().bound()),
            hard_limits: by_name(|allowance| allowance.hard_limit().bound()),
            features: Value::Object(features.collect()),
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct PlansView {
    items: Vec<PlanView>,
}

/// The plans that can be had.
#[utoipa::path(tag = "plans", responses((status = 200, body = PlansView)))]
#[get("/v1/plans")]
pub(crate) async fn list_plans(app: web::Data<App>) -> HttpResponse {
    HttpResponse::Ok().json(PlansView {
        items: app
            .catalogue
            .current()
            .map(|plan| PlanView::of(&app, plan))
            .collect(),
    })
}

#[derive(Serialize, ToSchema)]
pub(crate) struct LimitView {
    metric: String,
    /// The name in the plan.
    name: String,
    /// What a unit is; `null` where nothing was declared.
    #[schema(required = true)]
    unit: Option<String>,
    /// What it is counted apart for; `null` for the whole workspace.
    #[schema(required = true)]
    per: Option<String>,
    /// `null` is unlimited.
    #[schema(required = true)]
    value: Option<u64>,
    /// The most that is admitted, with the limit's tolerance; `null` where nothing is refused.
    #[schema(required = true)]
    hard_limit: Option<u64>,
    /// The percentages of the limit at which people are warned, before the limit itself.
    warn_at: Vec<u8>,
    /// `plan`, `grace` or `override`.
    #[schema(value_type = OriginName)]
    origin: &'static str,
    #[schema(required = true)]
    until: Option<String>,
    /// `null` for a metric that is counted apart for each of its subjects.
    #[schema(required = true)]
    used: Option<u64>,
    #[schema(required = true)]
    reserved: Option<u64>,
    /// What is left of the limit, 0 beyond it; `null` is unlimited.
    #[schema(required = true)]
    remaining: Option<u64>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct FeatureView {
    feature: String,
    value: bool,
    #[schema(value_type = OriginName)]
    origin: &'static str,
    #[schema(required = true)]
    until: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct EntitlementsView {
    plan: String,
    plan_version: u32,
    limits: Vec<LimitView>,
    features: Vec<FeatureView>,
}

/// The counter of a metric of the whole workspace, at this time.
pub(crate) fn key(
    metric: &Metric,
    kind: MetricKind,
    now: DateTime<Utc>,
    anchor: Option<DateTime<Utc>>,
) -> QuotaKey {
    match kind {
        MetricKind::Level => QuotaKey::level(metric.clone()),
        MetricKind::Flow => QuotaKey::flow(metric.clone(), Period::containing(now, anchor)),
    }
}

/// What is left of a limit. What a tolerance or a soft limit admits beyond it is nothing that is left.
fn remaining(allowance: Allowance, used: u64, reserved: u64) -> Option<u64> {
    let limit = allowance.limit().bound()?;
    Some(limit.saturating_sub(used.saturating_add(reserved)))
}

pub(crate) fn find(rows: &[(QuotaKey, QuotaRow)], key: &QuotaKey) -> QuotaRow {
    rows.iter()
        .find(|(k, _)| k == key)
        .map_or_else(QuotaRow::default, |(_, row)| *row)
}

/// Every limit and feature in force, with its origin and what remains.
#[utoipa::path(tag = "plans", security(("bearer" = [])), responses((status = 200, body = EntitlementsView), (status = 401)))]
#[get("/v1/entitlements")]
pub(crate) async fn show_entitlements(
    app: web::Data<App>,
    scoped: Scoped<Member>,
) -> Result<HttpResponse, Problem> {
    let reader = app.store.read(&scoped.scope);
    let (entitlements, rows) = (
        reader.entitlements().await?,
        reader.workspace_quotas().await?,
    );
    let now = app.env().now();
    let limits = app.catalogue.metrics().map(|(metric, definition)| {
        let allowance = entitlements.allowance(metric, now);
        let limit = allowance.value.limit();
        let row = definition.per.is_none().then(|| {
            find(
                &rows,
                &key(metric, definition.kind, now, entitlements.billing_anchor),
            )
        });
        LimitView {
            metric: metric.to_string(),
            name: app.catalogue.declared().limit_name(metric).to_owned(),
            unit: definition.unit.as_deref().map(str::to_owned),
            per: definition.per.as_deref().map(str::to_owned),
            value: limit.bound(),
            hard_limit: allowance.value.hard_limit().bound(),
            warn_at: definition.warn_at.warnings().to_vec(),
            origin: allowance.origin.as_str(),
            until: allowance.until.map(time),
            used: row.map(|r| r.used),
            reserved: row.map(|r| r.reserved),
            remaining: row.and_then(|r| remaining(allowance.value, r.used, r.reserved)),
        }
    });
    let features = app.catalogue.features().map(|feature| {
        let entitlement = entitlements.feature(feature, now);
        FeatureView {
            feature: feature.to_string(),
            value: entitlement.value,
            origin: entitlement.origin.as_str(),
            until: entitlement.until.map(time),
        }
    });
    Ok(HttpResponse::Ok().json(EntitlementsView {
        plan: entitlements.plan_at(now).slug.to_string(),
        plan_version: entitlements.plan_at(now).version,
        limits: limits.collect(),
        features: features.collect(),
    }))
}

#[derive(Serialize, ToSchema)]
pub(crate) struct PeriodView {
    start: String,
    end: String,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct MetricView {
    metric: String,
    used: u64,
    reserved: u64,
    /// `null` is unlimited.
    #[schema(required = true)]
    limit: Option<u64>,
    /// The most that is admitted, with the limit's tolerance; `null` where nothing is refused.
    #[schema(required = true)]
    hard_limit: Option<u64>,
    /// What is left of the limit, 0 beyond it; `null` is unlimited.
    #[schema(required = true)]
    remaining: Option<u64>,
    /// What is used, in percent of the limit: beyond it more than 100. `null` for a limit of 0 or none.
    #[schema(required = true)]
    percent: Option<f64>,
    /// `ok`, `warning_80` and `warning_90` or what the metric's own `warn_at` says, `full` at the limit, `over` beyond it.
    #[schema(
        pattern = "^(ok|warning_[1-9][0-9]|full|over)$",
        example = "warning_80"
    )]
    level: String,
    /// The percentages of the limit at which people are warned, before the limit itself.
    warn_at: Vec<u8>,
    /// What a unit is; `null` where nothing was declared.
    #[schema(required = true)]
    unit: Option<String>,
    /// `null` for what never resets.
    #[schema(required = true)]
    resets_at: Option<String>,
}

impl MetricView {
    fn of(
        app: &App,
        metric: &Metric,
        (used, reserved): (u64, u64),
        allowance: Allowance,
        resets_at: Option<DateTime<Utc>>,
    ) -> Self {
        let limit = allowance.limit();
        let thresholds = app.catalogue.declared().thresholds(metric);
        let definition = app.catalogue.definition(metric);
        Self {
            metric: metric.to_string(),
            used,
            reserved,
            limit: limit.bound(),
            hard_limit: allowance.hard_limit().bound(),
            remaining: remaining(allowance, used, reserved),
            percent: percent(used, limit),
            level: level(used, limit, thresholds).to_string(),
            warn_at: thresholds.warnings().to_vec(),
            unit: definition.and_then(|d| d.unit.as_deref().map(str::to_owned)),
            resets_at: resets_at.map(time),
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct UsageView {
    period: PeriodView,
    metrics: Vec<MetricView>,
}

/// What is used now: from the live mirror where there is one, otherwise from the database.
#[utoipa::path(tag = "usage", security(("bearer" = [])), responses((status = 200, body = UsageView), (status = 401)))]
#[get("/v1/usage")]
pub(crate) async fn show_usage(
    app: web::Data<App>,
    scoped: Scoped<Member>,
) -> Result<HttpResponse, Problem> {
    let reader = app.store.read(&scoped.scope);
    let entitlements = reader.entitlements().await?;
    let now = app.env().now();
    let period = Period::containing(now, entitlements.billing_anchor);
    let keys: Vec<_> = app
        .catalogue
        .metrics()
        .filter(|(_, definition)| definition.per.is_none())
        .map(|(metric, definition)| key(metric, definition.kind, now, entitlements.billing_anchor))
        .collect();
    let rows = reader.live_quotas(&keys).await?;
    let metrics = rows.iter().map(|row| {
        let metric = &row.key.metric;
        let allowance = entitlements.allowance(metric, now).value;
        let resets_at = app.resets_at(metric, entitlements.billing_anchor);
        MetricView::of(&app, metric, (row.used, row.reserved), allowance, resets_at)
    });
    Ok(HttpResponse::Ok().json(UsageView {
        period: PeriodView {
            start: time(period.start),
            end: time(period.end),
        },
        metrics: metrics.collect(),
    }))
}
