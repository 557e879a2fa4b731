//! Plans, entitlements, usage.

use actix_web::{HttpResponse, get, post, web};
use chrono::{DateTime, Utc};
use rawdrive_plans::{
    Access, Decision, Denied, Feature, Limit, Metric, MetricKind, Plan, ReadOnly, decide, level,
    percent,
};
use rawdrive_usage::{Exceeded, Period, QuotaKey, QuotaRow};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::app::{App, time};
use crate::auth::{Member, Scoped};
use crate::openapi::words::{IntervalName, LevelName, OriginName};
use crate::web::{Body, Nullable, Problem};

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
    /// By name.
    #[schema(value_type = BTreeMap<String, bool>)]
    features: Value,
}

impl PlanView {
    fn of(app: &App, plan: &Plan) -> Self {
        let limits = app.catalogue.metrics().map(|(m, _)| {
            (
                app.catalogue.declared().limit_name(m).to_owned(),
                json!(plan.limit(m).bound()),
            )
        });
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
            limits: Value::Object(limits.collect()),
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
    /// `null` is unlimited.
    #[schema(required = true)]
    value: Option<u64>,
    /// `plan` or `override`.
    #[schema(value_type = OriginName)]
    origin: &'static str,
    #[schema(required = true)]
    until: Option<String>,
    /// `null` for a metric that is counted apart for each of its subjects.
    #[schema(required = true)]
    used: Option<u64>,
    #[schema(required = true)]
    reserved: Option<u64>,
    /// `null` is unlimited.
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

fn key(
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

fn find(rows: &[(QuotaKey, QuotaRow)], key: &QuotaKey) -> QuotaRow {
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
        let limit = entitlements.limit(metric, now);
        let row = definition.per.is_none().then(|| {
            find(
                &rows,
                &key(metric, definition.kind, now, entitlements.billing_anchor),
            )
        });
        LimitView {
            metric: metric.to_string(),
            name: app.catalogue.declared().limit_name(metric).to_owned(),
            value: limit.value.bound(),
            origin: limit.origin.as_str(),
            until: limit.until.map(time),
            used: row.map(|r| r.used),
            reserved: row.map(|r| r.reserved),
            remaining: row.and_then(|r| {
                limit
                    .value
                    .bound()
                    .map(|n| n.saturating_sub(r.used + r.reserved))
            }),
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

/// Either `feature`, or `metric` and `amount`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "metric": "storage_bytes", "amount": 4_821_733 }))]
pub(crate) struct Check {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    feature: Nullable<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    metric: Nullable<String>,
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    amount: Nullable<u64>,
    /// What it is counted for, by its id: for a metric that is counted apart for each.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    subject: Nullable<String>,
}

/// Whether it would be allowed, and what a 402 would say of it.
#[derive(ToSchema)]
#[schema(as = CheckAnswer, example = json!({
    "allowed": false, "metric": "storage_bytes", "current": 5_368_709_000_u64, "requested": 4_821_733,
    "limit": 5_368_709_120_u64, "plan": "free", "resets_at": null,
    "upgrade_url": "https://rawdrive.example.org/settings/billing/upgrade",
}))]
#[expect(
    dead_code,
    reason = "the document's source; the answer's members are a refusal's"
)]
pub(crate) struct CheckView {
    allowed: bool,
    /// The feature that was asked for.
    #[schema(required = false, nullable = false)]
    feature: Option<String>,
    /// The metric that was asked for.
    #[schema(required = false, nullable = false)]
    metric: Option<String>,
    /// What is used and reserved.
    #[schema(required = false, nullable = false)]
    current: Option<u64>,
    /// The amount that was asked for.
    #[schema(required = false, nullable = false)]
    requested: Option<u64>,
    /// The most there may be; `null` is unlimited.
    #[schema(required = false)]
    limit: Option<u64>,
    /// The plan in force, by its slug.
    #[schema(required = false, nullable = false)]
    plan: Option<String>,
    /// When the count begins anew; `null` for what never resets.
    #[schema(required = false)]
    resets_at: Option<String>,
    /// Why nothing can be written, while the workspace is read-only.
    #[schema(required = false, nullable = false)]
    reason: Option<String>,
    /// Since when it is read-only.
    #[schema(required = false, nullable = false)]
    since: Option<String>,
    upgrade_url: String,
}

/// What a check answers while the workspace takes no writes, whatever its plan allows.
fn closed(app: &App, read_only: &ReadOnly, asked: &str, name: &str) -> HttpResponse {
    HttpResponse::Ok().json(json!({
        "allowed": false,
        asked: name,
        "reason": read_only.reason,
        "since": time(read_only.since),
        "upgrade_url": app.upgrade_url(),
    }))
}

/// Whether something would be allowed now. Reserves nothing.
#[utoipa::path(tag = "plans", security(("bearer" = ["plans:read"])), request_body = Check, responses((status = 200, description = "`allowed`, and the members that a 402 would carry", body = CheckView), (status = 404), (status = 422)))]
#[post("/v1/entitlements/check")]
pub(crate) async fn check_entitlement(
    app: web::Data<App>,
    scoped: Scoped<Member>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let input: Check = body.json().await?;
    let reader = app.store.read(&scoped.scope);
    let now = app.env().now();
    let asked = (
        input.feature.value(),
        input.metric.value(),
        input.amount.value(),
        input.subject.value(),
    );
    match asked {
        (Some(feature), None, None, None) => {
            let known = feature
                .parse::<Feature>()
                .ok()
                .filter(|f| app.catalogue.has_feature(f));
            let feature = known
                .ok_or_else(|| Problem::invalid_field("feature", "is no feature of any plan"))?;
            let entitlements = reader.entitlements().await?;
            if let Access::ReadOnly(read_only) = entitlements.access(now) {
                return Ok(closed(&app, &read_only, "feature", feature.as_str()));
            }
            Ok(HttpResponse::Ok().json(json!({
                "allowed": entitlements.feature(&feature, now).value,
                "feature": feature,
                "plan": entitlements.plan_at(now).slug,
                "upgrade_url": app.upgrade_url(),
            })))
        }
        (None, Some(metric), Some(amount), subject) => {
            let known = metric
                .parse::<Metric>()
                .ok()
                .filter(|m| app.catalogue.declares(m));
            let metric = known.ok_or_else(|| {
                Problem::invalid_field("metric", "is no metric of this installation")
            })?;
            let entitlements = reader.entitlements().await?;
            let definition = app.catalogue.definition(&metric);
            let per = definition.and_then(|definition| definition.per.as_deref());
            let key = match (per, subject) {
                (Some(kind), Some(subject)) => {
                    let subject = app.subject(&reader, kind, &subject).await?;
                    QuotaKey::level_of(metric.clone(), subject)
                }
                (Some(kind), None) => {
                    return Err(Problem::invalid_field(
                        "subject",
                        format!("is required for this metric: a {kind}"),
                    ));
                }
                (None, Some(_)) => {
                    return Err(Problem::invalid_field(
                        "subject",
                        "must be left out for this metric",
                    ));
                }
                (None, None) => {
                    let kind = app
                        .catalogue
                        .definition(&metric)
                        .map_or(MetricKind::Level, |m| m.kind);
                    key(&metric, kind, now, entitlements.billing_anchor)
                }
            };
            if let Access::ReadOnly(read_only) = entitlements.access(now) {
                return Ok(closed(&app, &read_only, "metric", metric.as_str()));
            }
            let row = reader.quota(&key).await?;
            let limit = entitlements.limit(&metric, now).value;
            let current = row.used + row.reserved;
            let allowed = decide(current, amount, limit) == Decision::Allow;
            let denied = Denied {
                current,
                requested: amount,
                limit: limit.bound().unwrap_or_default(),
            };
            let over = app.over_quota(&entitlements, Exceeded { metric, denied });
            let mut members = over.members(&app.upgrade_url());
            members.insert("allowed".to_owned(), json!(allowed));
            members.insert("limit".to_owned(), json!(limit.bound()));
            Ok(HttpResponse::Ok().json(members))
        }
        _ => Err(Problem::invalid_field(
            "body",
            "must hold either feature, or metric and amount",
        )),
    }
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
    /// `null` for a limit of 0 or none.
    #[schema(required = true)]
    percent: Option<f64>,
    /// `ok`, `warning_80`, `warning_90`, `full` or `over`.
    #[schema(value_type = LevelName)]
    level: &'static str,
    /// `null` for what never resets.
    #[schema(required = true)]
    resets_at: Option<String>,
}

impl MetricView {
    pub(crate) fn of(
        metric: &Metric,
        used: u64,
        reserved: u64,
        limit: Limit,
        resets_at: Option<DateTime<Utc>>,
    ) -> Self {
        Self {
            metric: metric.to_string(),
            used,
            reserved,
            limit: limit.bound(),
            percent: percent(used, limit),
            level: level(used, limit).as_str(),
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
        let limit = entitlements.limit(metric, now).value;
        let resets_at = app.resets_at(metric, entitlements.billing_anchor);
        MetricView::of(metric, row.used, row.reserved, limit, resets_at)
    });
    Ok(HttpResponse::Ok().json(UsageView {
        period: PeriodView {
            start: time(period.start),
            end: time(period.end),
        },
        metrics: metrics.collect(),
    }))
}
