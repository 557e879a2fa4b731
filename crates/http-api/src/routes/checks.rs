//! What would be allowed: the answer that a 402 would give, without doing anything.

use actix_web::{HttpResponse, post, web};
use chrono::{DateTime, Utc};
use rawdrive_plans::{Access, Entitlements, Feature, Metric};
use rawdrive_store::Reader;
use rawdrive_usage::{FeatureCheck, QuotaCheck, QuotaKey, QuotaRow, counter, is_subject};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::app::{App, time};
use crate::auth::{Member, Scoped};
use crate::openapi::words::{IntervalName, OriginName};
use crate::web::{Body, FieldError, Nullable, Problem, parse_json};

/// The most questions of one request.
const MAX_CHECKS: usize = 100;

/// Either `feature`, or `metric` and `amount`; or up to 100 of these as `checks`.
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
    /// What it is counted for apart, for a metric that is.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    subject: Nullable<String>,
    /// Several questions at once, answered in their order. Alone in the body.
    #[serde(default)]
    #[schema(value_type = Option<Vec<OneCheck>>, min_items = 1, max_items = 100)]
    checks: Nullable<Vec<Value>>,
}

/// One question: either `feature`, or `metric` and `amount`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "feature": "priority_support" }))]
pub(crate) struct OneCheck {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    feature: Nullable<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    metric: Nullable<String>,
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    amount: Nullable<u64>,
    /// What it is counted for apart, for a metric that is.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    subject: Nullable<String>,
}

/// One thing that sets a limit or a feature.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the document's source; a check's members are sent"
)]
pub(crate) struct LayerView {
    #[schema(value_type = OriginName)]
    origin: String,
    /// The limit that it sets; `null` is unlimited. Of a limit alone.
    #[schema(required = false)]
    limit: Option<u64>,
    /// The most that is admitted under it, with its tolerance; `null` where nothing is refused. Of a limit alone.
    #[schema(required = false)]
    hard_limit: Option<u64>,
    /// Whether it turns the feature on. Of a feature alone.
    #[schema(required = false, nullable = false)]
    enabled: Option<bool>,
    /// When it ends by itself.
    #[schema(required = true)]
    until: Option<String>,
    /// Whether it is the one in force.
    wins: bool,
}

/// What a plan costs.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the document's source; a check's members are sent"
)]
pub(crate) struct OfferedPriceView {
    currency: String,
    #[schema(value_type = IntervalName)]
    interval: String,
    /// Minor units.
    amount: u64,
}

/// A plan that would allow it.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the document's source; a check's members are sent"
)]
pub(crate) struct OfferView {
    slug: String,
    name: String,
    version: u32,
    price: OfferedPriceView,
}

/// Whether it would be allowed, and what a 402 would say of it.
#[derive(ToSchema)]
#[schema(as = CheckAnswer, example = json!({
    "allowed": false, "metric": "storage_bytes", "subject": null, "current": 5_368_709_000_u64,
    "used": 5_368_709_000_u64, "reserved": 0, "requested": 4_821_733, "limit": 5_368_709_120_u64,
    "hard_limit": 5_368_709_120_u64, "plan": "free", "plan_version": 1, "resets_at": null,
    "layers": [{ "origin": "plan", "limit": 5_368_709_120_u64, "hard_limit": 5_368_709_120_u64, "until": null, "wins": true }],
    "cheapest_plan": {
        "slug": "professional", "name": "Professional", "version": 1,
        "price": { "currency": "usd", "interval": "month", "amount": 2_900 },
    },
    "upgrade_url": "https://rawdrive.example.org/settings/billing/upgrade",
}))]
#[expect(
    dead_code,
    reason = "the document's source; a check's members are sent"
)]
pub(crate) struct CheckView {
    /// Of several questions, whether all of it is allowed.
    allowed: bool,
    /// The feature that was asked for.
    #[schema(required = false, nullable = false)]
    feature: Option<String>,
    /// The metric that was asked for.
    #[schema(required = false, nullable = false)]
    metric: Option<String>,
    /// What it is counted for apart.
    #[schema(required = false)]
    subject: Option<String>,
    /// What is used and reserved.
    #[schema(required = false, nullable = false)]
    current: Option<u64>,
    /// What is used.
    #[schema(required = false, nullable = false)]
    used: Option<u64>,
    /// What is reserved.
    #[schema(required = false, nullable = false)]
    reserved: Option<u64>,
    /// The amount that was asked for.
    #[schema(required = false, nullable = false)]
    requested: Option<u64>,
    /// The most there may be; `null` is unlimited.
    #[schema(required = false)]
    limit: Option<u64>,
    /// The most that is admitted, with the limit's tolerance; `null` where nothing is refused.
    #[schema(required = false)]
    hard_limit: Option<u64>,
    /// The plan in force, by its slug.
    #[schema(required = false, nullable = false)]
    plan: Option<String>,
    /// Its version.
    #[schema(required = false, nullable = false)]
    plan_version: Option<u32>,
    /// When the count begins anew; `null` for what never resets.
    #[schema(required = false)]
    resets_at: Option<String>,
    /// Everything that sets the value now, the lowest first; the last one wins.
    #[schema(required = false, nullable = false)]
    layers: Option<Vec<LayerView>>,
    /// The cheapest plan in the workspace's currency that would allow it; `null` where there is none.
    #[schema(required = false)]
    cheapest_plan: Option<OfferView>,
    /// Why nothing can be written, while the workspace is read-only.
    #[schema(required = false, nullable = false)]
    reason: Option<String>,
    /// Since when it is read-only.
    #[schema(required = false, nullable = false)]
    since: Option<String>,
    upgrade_url: String,
    /// The answers to several questions, in their order.
    #[schema(required = false, nullable = false)]
    checks: Option<Vec<CheckedView>>,
}

/// The answer to one of several questions: what it would be alone, or `error`.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the document's source; a check's members are sent"
)]
pub(crate) struct CheckedView {
    allowed: bool,
    /// Why the question has no answer.
    #[schema(required = false, nullable = false)]
    error: Option<CheckError>,
    #[schema(required = false, nullable = false)]
    feature: Option<String>,
    #[schema(required = false, nullable = false)]
    metric: Option<String>,
    #[schema(required = false)]
    subject: Option<String>,
    #[schema(required = false, nullable = false)]
    current: Option<u64>,
    #[schema(required = false, nullable = false)]
    used: Option<u64>,
    #[schema(required = false, nullable = false)]
    reserved: Option<u64>,
    #[schema(required = false, nullable = false)]
    requested: Option<u64>,
    #[schema(required = false)]
    limit: Option<u64>,
    #[schema(required = false)]
    hard_limit: Option<u64>,
    #[schema(required = false, nullable = false)]
    plan: Option<String>,
    #[schema(required = false, nullable = false)]
    plan_version: Option<u32>,
    #[schema(required = false)]
    resets_at: Option<String>,
    #[schema(required = false, nullable = false)]
    layers: Option<Vec<LayerView>>,
    #[schema(required = false)]
    cheapest_plan: Option<OfferView>,
    #[schema(required = false, nullable = false)]
    reason: Option<String>,
    #[schema(required = false, nullable = false)]
    since: Option<String>,
    #[schema(required = false, nullable = false)]
    upgrade_url: Option<String>,
}

/// What a problem would say of a question that came alone.
#[derive(Serialize, ToSchema)]
pub(crate) struct CheckError {
    /// The HTTP status.
    status: u16,
    /// The stable code.
    code: &'static str,
    /// For a person.
    detail: String,
    /// The refused fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false, value_type = Option<Vec<FieldError>>)]
    errors: Option<Value>,
}

impl CheckError {
    /// Refuses the whole request where it was not the question's fault.
    fn of(problem: Problem) -> Result<Self, Problem> {
        if problem.code.number() >= 500 {
            return Err(problem);
        }
        Ok(Self {
            status: problem.code.number(),
            code: problem.code.as_str(),
            errors: problem.members.get("errors").cloned(),
            detail: problem.detail,
        })
    }
}

/// A question that can be answered.
enum Asked {
    Feature(Feature),
    Units {
        metric: Metric,
        amount: u64,
        subject: Option<String>,
    },
}

impl OneCheck {
    fn read(self, app: &App) -> Result<Asked, Problem> {
        let asked = (
            self.feature.value(),
            self.metric.value(),
            self.amount.value(),
            self.subject.value(),
        );
        match asked {
            (Some(feature), None, None, None) => {
                let feature = feature.parse::<Feature>().ok();
                let known = feature.filter(|f| app.catalogue.has_feature(f));
                known
                    .map(Asked::Feature)
                    .ok_or_else(|| Problem::invalid_field("feature", "is no feature of any plan"))
            }
            (None, Some(metric), Some(amount), subject) => {
                let metric = metric.parse::<Metric>().ok();
                let known = metric.filter(|m| app.catalogue.declares(m));
                let metric = known.ok_or_else(|| {
                    Problem::invalid_field("metric", "is no metric of this installation")
                })?;
                Ok(Asked::Units {
                    metric,
                    amount,
                    subject,
                })
            }
            _ => Err(Problem::invalid_field(
                "body",
                "must hold either feature, or metric and amount",
            )),
        }
    }
}

/// The counter of a metric: for the workspace, or apart for a subject that is there.
pub(super) async fn counter_of(
    app: &App,
    reader: &Reader,
    entitlements: &Entitlements,
    metric: &Metric,
    subject: Option<&str>,
) -> Result<QuotaKey, Problem> {
    let definition = app.catalogue.definition(metric);
    let per = definition.and_then(|definition| definition.per.as_deref());
    let refuse = |message: &str| Problem::invalid_field("subject", message);
    match (per, subject) {
        (Some(per), None) => {
            return Err(refuse(&format!("is required for this metric: a {per}")));
        }
        (None, Some(_)) => return Err(refuse("must be left out for this metric")),
        (Some(per), Some(subject)) => match app.subject_exists(reader, per, subject).await? {
            Some(true) => {}
            Some(false) => return Err(Problem::not_found()),
            None if is_subject(subject) => {}
            None => return Err(refuse("expected 1 to 128 visible ASCII characters")),
        },
        (None, None) => {}
    }
    counter(entitlements, metric, subject, app.env().now()).map_err(refuse)
}

/// What answers the questions of one request.
struct Desk<'a> {
    app: &'a App,
    reader: Reader,
    entitlements: &'a Entitlements,
    now: DateTime<Utc>,
    /// The workspace's own counters, where they were read at once.
    rows: Option<Vec<(QuotaKey, QuotaRow)>>,
}

impl Desk<'_> {
    async fn row(&self, key: &QuotaKey) -> Result<QuotaRow, Problem> {
        match &self.rows {
            Some(rows) if key.subject.is_empty() => {
                let found = rows.iter().find(|(known, _)| known == key);
                Ok(found.map_or_else(QuotaRow::default, |(_, row)| *row))
            }
            _ => Ok(self.reader.quota(key).await?),
        }
    }

    async fn answer(&self, asked: Asked) -> Result<Map<String, Value>, Problem> {
        let (app, entitlements) = (self.app, self.entitlements);
        let upgrade_url = app.upgrade_url();
        let (allowed, members) = match asked {
            Asked::Feature(feature) => {
                let check = FeatureCheck::of(entitlements, feature, self.now);
                (check.allowed(), check.members(&upgrade_url))
            }
            Asked::Units {
                metric,
                amount,
                subject,
            } => {
                let subject = subject.as_deref();
                let key = counter_of(app, &self.reader, entitlements, &metric, subject).await?;
                let row = self.row(&key).await?;
                let check = QuotaCheck::of(entitlements, key, row, amount, self.now);
                (check.allowed(), check.members(&upgrade_url))
            }
        };
        let mut members = members;
        members.insert("allowed".to_owned(), json!(allowed));
        if let Access::ReadOnly(read_only) = entitlements.access(self.now) {
            // Whatever the plan allows; and another plan is not what is missing.
            members.insert("allowed".to_owned(), json!(false));
            members.insert("cheapest_plan".to_owned(), Value::Null);
            members.insert("reason".to_owned(), json!(read_only.reason));
            members.insert("since".to_owned(), json!(time(read_only.since)));
        }
        Ok(members)
    }
}

/// Whether something would be allowed now, and why. Reserves nothing. Several questions are answered at once, each by
/// itself: what one is refused for is its `error`.
#[utoipa::path(tag = "plans", security(("bearer" = ["plans:read"])), request_body = Check, responses((status = 200, description = "`allowed`, and the members that a 402 would carry", body = CheckView), (status = 404), (status = 422)))]
#[post("/v1/entitlements/check")]
pub(crate) async fn check_entitlement(
    app: web::Data<App>,
    scoped: Scoped<Member>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let input: Check = body.json().await?;
    let one = OneCheck {
        feature: input.feature,
        metric: input.metric,
        amount: input.amount,
        subject: input.subject,
    };
    let several = input.checks.value();
    let asked = match &several {
        None => Some(one.read(&app)?),
        Some(checks) => {
            if one.read(&app).is_ok() {
                let message = "must be alone in the body";
                return Err(Problem::invalid_field("checks", message));
            }
            if !(1..=MAX_CHECKS).contains(&checks.len()) {
                let message = format!("expected 1 to {MAX_CHECKS} checks");
                return Err(Problem::invalid_field("checks", message));
            }
            None
        }
    };
    let reader = app.store.read(&scoped.scope);
    let entitlements = reader.entitlements().await?;
    let mut desk = Desk {
        app: &app,
        reader,
        entitlements: &entitlements,
        now: app.env().now(),
        rows: None,
    };
    if let Some(asked) = asked {
        return Ok(HttpResponse::Ok().json(desk.answer(asked).await?));
    }
    desk.rows = Some(desk.reader.workspace_quotas().await?);
    let (mut all, mut answers) = (true, Vec::new());
    for check in several.into_iter().flatten() {
        let bytes = serde_json::to_vec(&check).map_err(Problem::internal)?;
        let asked = parse_json::<OneCheck>(&bytes).and_then(|check| check.read(&app));
        let answer = match asked {
            Ok(asked) => desk.answer(asked).await,
            Err(problem) => Err(problem),
        };
        let answer = match answer {
            Ok(members) => Value::Object(members),
            Err(problem) => json!({ "allowed": false, "error": CheckError::of(problem)? }),
        };
        all &= answer["allowed"] == true;
        answers.push(answer);
    }
    Ok(HttpResponse::Ok().json(json!({
        "allowed": all,
        "checks": answers,
        "upgrade_url": app.upgrade_url(),
    })))
}
