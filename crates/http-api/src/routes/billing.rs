//! The subscription, its invoices, and the hosted pages. All of it works in a read-only workspace, which could not
//! become writable otherwise.

use std::str::FromStr as _;

use actix_web::{HttpRequest, HttpResponse, get, patch, post, web};
use rawdrive_billing::{
    Account, BillingDirectory, BillingError, BillingRead, Broken, CancelWhen, Effective,
    InvoiceSnapshot, ItemSnapshot, Order, PaymentMethodId, Preview, PriceCatalog, Subscription,
    SubscriptionSnapshot, SubscriptionStatus, current,
};
use rawdrive_plans::{Entitlements, Interval, Slug};
use rawdrive_store::WorkspaceRow;
use rawdrive_tenancy_core::WorkspaceScope;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::{App, time};
use crate::auth::{Admin, Member, Scoped};
use crate::idempotent_write::{Answer, mutate_outside};
use crate::openapi::headers::Idempotent;
use crate::openapi::words::{
    EffectiveName, IntervalName, InvoiceStatusName, SubscriptionStatusName,
};
use crate::web::{
    Body, ListView, NoFilters, Nullable, PageParams, PageQuery, Problem, Validator, parse_json,
    read_json,
};

/// The longest address that a payer is sent back to, in bytes.
const URL_BYTES: usize = 2_000;

#[derive(Serialize, ToSchema)]
pub(crate) struct ScheduledView {
    /// The plan that follows; `null` for a price that is none of this installation's.
    #[schema(required = true)]
    pub(crate) plan: Option<String>,
    /// `month` or `year`; `null` as `plan` is.
    #[schema(value_type = Option<IntervalName>, required = true)]
    pub(crate) interval: Option<&'static str>,
    pub(crate) at: String,
}

/// Why nothing is charged at the moment.
#[derive(Serialize, ToSchema)]
pub(crate) struct PausedView {
    /// Stripe's word: `pause_requested`, `trial_end_without_payment_method`, `first_payment_failure`,
    /// `final_payment_failure`, `system`. `collection_paused` where the subscription goes on and its invoices are not
    /// collected.
    pub(crate) reason: String,
    /// `null` where Stripe does not say.
    #[schema(required = true)]
    pub(crate) since: Option<String>,
    /// When it goes on by itself.
    #[schema(required = true)]
    pub(crate) resumes_at: Option<String>,
}

/// What is paid for beside the plan.
#[derive(Serialize, ToSchema)]
pub(crate) struct AddonView {
    /// Stripe's price.
    price: String,
    /// Stripe's product.
    product: String,
    quantity: u64,
    /// Minor units for one; `null` where the price has steps.
    #[schema(required = true)]
    amount: Option<i64>,
}

/// What is given less for.
#[derive(Serialize, ToSchema)]
pub(crate) struct DiscountView {
    /// Stripe's coupon.
    coupon: String,
    /// When it ends by itself.
    #[schema(required = true)]
    ends_at: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct GrantView {
    pub(crate) plan: String,
    /// When it ends by itself.
    #[schema(required = true)]
    pub(crate) until: Option<String>,
}

/// What the workspace has, and what it pays for it. A workspace that pays for nothing has one too.
#[derive(Serialize, ToSchema)]
pub(crate) struct SubscriptionView {
    /// The plan in force.
    pub(crate) plan: String,
    pub(crate) plan_version: u32,
    /// `none` where there was never a subscription; otherwise `incomplete`, `trialing`,
    /// `active`, `past_due`, `unpaid`, `paused` or `canceled`.
    #[schema(value_type = SubscriptionStatusName)]
    pub(crate) status: String,
    /// `month` or `year`; `null` without a subscription.
    #[schema(value_type = Option<IntervalName>, required = true)]
    pub(crate) interval: Option<&'static str>,
    /// What the workspace pays in.
    pub(crate) currency: String,
    #[schema(required = true)]
    pub(crate) current_period_end: Option<String>,
    /// Whether it ends with the current period, however that was asked for.
    pub(crate) cancel_at_period_end: bool,
    /// When it ends, however that was asked for; `null` where it goes on, or has ended.
    #[schema(required = true)]
    pub(crate) cancel_at: Option<String>,
    /// `charge_automatically`, or `send_invoice` where invoices are mailed and due by a day; `null` without a
    /// subscription.
    #[schema(required = true)]
    pub(crate) collection_method: Option<String>,
    /// How many of the plan; `null` without a subscription.
    #[schema(required = true)]
    pub(crate) quantity: Option<u64>,
    pub(crate) addons: Vec<AddonView>,
    #[schema(required = true)]
    pub(crate) discount: Option<DiscountView>,
    #[schema(required = true)]
    pub(crate) paused: Option<PausedView>,
    /// Until when a failed payment is forgiven; from then on the workspace is read-only.
    #[schema(required = true)]
    pub(crate) grace_until: Option<String>,
    #[schema(required = true)]
    pub(crate) trial_end: Option<String>,
    /// A change of plan that happens by itself.
    #[schema(required = true)]
    pub(crate) scheduled: Option<ScheduledView>,
    /// A plan that an operator has granted: it stands above the subscription.
    #[schema(required = true)]
    pub(crate) grant: Option<GrantView>,
}

/// The subscription that is shown: the one that an end would be of, otherwise the newest, whatever became of it; but
/// for one whose first payment was never made.
fn shown(subscriptions: &[Subscription]) -> Option<&Subscription> {
    current(subscriptions).or_else(|| {
        let lived = |s: &&Subscription| s.snapshot.status != SubscriptionStatus::IncompleteExpired;
        let lived = subscriptions.iter().filter(lived);
        lived.max_by_key(|s| (s.snapshot.created, &s.snapshot.id))
    })
}

impl PausedView {
    fn of(snapshot: &SubscriptionSnapshot) -> Option<Self> {
        if snapshot.status == SubscriptionStatus::Paused {
            let paused = snapshot.paused.as_ref();
            return Some(Self {
                reason: paused.map_or_else(|| "unknown".to_owned(), |paused| paused.reason.clone()),
                since: paused.map(|paused| time(paused.since)),
                resumes_at: None,
            });
        }
        let pause = snapshot.pause.as_ref()?;
        Some(Self {
            reason: "collection_paused".to_owned(),
            since: None,
            resumes_at: pause.resumes_at.map(time),
        })
    }
}

impl AddonView {
    fn of(item: &ItemSnapshot) -> Self {
        Self {
            price: item.price.id.to_string(),
            product: item.price.product.to_string(),
            quantity: item.quantity,
            amount: item.price.amount,
        }
    }
}

impl SubscriptionView {
    fn of(
        app: &App,
        workspace: &WorkspaceRow,
        entitlements: &Entitlements,
        account: &Account,
        subscriptions: &[Subscription],
        book: &PriceCatalog,
    ) -> Self {
        let now = app.env().now();
        let plan = entitlements.plan_at(now);
        let snapshot = shown(subscriptions).map(|subscription| &subscription.snapshot);
        let item = snapshot.and_then(|snapshot| snapshot.item());
        let is_over = snapshot.is_some_and(|snapshot| snapshot.status.is_final());
        let scheduled = snapshot.and_then(|snapshot| snapshot.scheduled.as_ref());
        let grant = account.grant.as_ref();
        Self {
            plan: plan.slug.to_string(),
            plan_version: plan.version,
            status: snapshot.map_or_else(|| "none".to_owned(), |s| s.status.as_str().to_owned()),
            interval: item
                .and_then(|item| item.price.interval)
                .map(Interval::as_str),
            currency: workspace.currency.clone(),
            current_period_end: item.filter(|_| !is_over).map(|item| time(item.period_end)),
            cancel_at_period_end: snapshot
                .is_some_and(|s| s.cancel_at_period_end || s.ends_with_period()),
            cancel_at: snapshot.and_then(SubscriptionSnapshot::ends_at).map(time),
            collection_method: snapshot.map(|s| s.collection_method.as_str().to_owned()),
            quantity: item.map(|item| item.quantity),
            addons: snapshot
                .into_iter()
                .flat_map(SubscriptionSnapshot::addons)
                .map(AddonView::of)
                .collect(),
            discount: snapshot
                .and_then(|snapshot| snapshot.discount.as_ref())
                .map(|discount| DiscountView {
                    coupon: discount.coupon.clone(),
                    ends_at: discount.ends_at.map(time),
                }),
            paused: snapshot.and_then(PausedView::of),
            // With a plan that has ended by itself the grace has, too.
            grace_until: entitlements
                .grace_until
                .filter(|_| entitlements.ends.as_ref().is_none_or(|end| now < end.at))
                .map(time),
            trial_end: snapshot.and_then(|snapshot| snapshot.trial_end).map(time),
            scheduled: scheduled.map(|change| {
                let follows = book.sold_by(&change.price);
                ScheduledView {
                    plan: follows.map(|price| price.sold.plan.to_string()),
                    interval: follows.map(|price| price.interval.as_str()),
                    at: time(change.at),
                }
            }),
            grant: grant
                .filter(|grant| grant.until.is_none_or(|until| now < until))
                .map(|grant| GrantView {
                    plan: grant.sold.plan.to_string(),
                    until: grant.until.map(time),
                }),
        }
    }
}

pub(crate) async fn view(app: &App, scope: &WorkspaceScope) -> Result<SubscriptionView, Problem> {
    let reader = app.store.read(scope);
    let (account, subscriptions) = reader.billing().await?;
    let (workspace, entitlements) = (reader.workspace().await?, reader.entitlements().await?);
    let noted = app.store.sold_prices().await?;
    let book = PriceCatalog::new(noted, &app.catalogue);
    Ok(SubscriptionView::of(
        app,
        &workspace,
        &entitlements,
        &account,
        &subscriptions,
        &book,
    ))
}

/// The subscription. A workspace without one is shown its plan, with the status `none`.
#[utoipa::path(tag = "billing", security(("bearer" = [])), responses((status = 200, body = SubscriptionView), (status = 401)))]
#[get("/v1/billing/subscription")]
pub(crate) async fn show_subscription(
    app: web::Data<App>,
    scoped: Scoped<Member>,
) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(view(&app, &scoped.scope).await?))
}

fn order(v: &mut Validator, plan: &str, interval: &str) -> Option<Order> {
    let plan = v.check(
        "plan",
        Slug::from_str(plan).map_err(|_| "is no plan's name"),
    );
    let interval = v.check("interval", Interval::from_str(interval));
    Some(Order {
        plan: plan?,
        interval: interval?,
    })
}

fn address(v: &mut Validator, field: &str, text: String) -> Option<String> {
    let rest = text.strip_prefix("https://");
    let rest = rest.or_else(|| text.strip_prefix("http://"));
    let has_host = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', '?', '#']));
    let good =
        has_host && text.len() <= URL_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic());
    let checked = if good {
        Ok(text)
    } else {
        Err("must be an address that begins with https:// or http://, of at most 2000 bytes")
    };
    v.check(field, checked)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSubscription {
    /// The plan's slug; its newest version is sold.
    plan: String,
    /// `month` or `year`.
    #[schema(value_type = IntervalName)]
    interval: String,
    /// Stripe's id of a card or another means of paying. A plan that begins with a trial can do without.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    payment_method_id: Nullable<String>,
}

/// Subscribes, and charges the payment method. One whose trial has ended without a payment method is ended then, once
/// this is paid. An Idempotency-Key makes it safe to ask again; so does asking again without one: a charge whose answer
/// was lost is found, not repeated.
#[utoipa::path(
    tag = "billing", security(("bearer" = [])), params(Idempotent), request_body = NewSubscription,
    responses((status = 201, body = SubscriptionView), (status = 402, description = "`payment_declined` with `decline_code`, or `payment_action_required` with `client_secret`"),
        (status = 409, description = "`currency_mismatch`, `operation_in_progress`, or `conflict` where there is a subscription"), (status = 422), (status = 503, description = "`dependency_unavailable` or `billing_not_configured`"), (status = 403))
)]
#[post("/v1/billing/subscription")]
pub(crate) async fn create_subscription(
    app: web::Data<App>,
    scoped: Scoped<Admin>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let read = |bytes: &[u8]| {
        let (input, mut v): (NewSubscription, _) = read_json(bytes)?;
        let order = order(&mut v, &input.plan, &input.interval);
        let method = input.payment_method_id.value();
        let method = v.check_some("payment_method_id", method, |text| {
            PaymentMethodId::from_str(&text)
        });
        v.finish_with(order.map(|order| (order, method)))
    };
    mutate_outside(
        &app,
        &scoped.scope,
        &request,
        body,
        read,
        |app, scope, (order, method)| async move {
            let subscribed = app.billing.subscribe(&scope, &order, method).await;
            subscribed.map_err(|error| method_problem(&app, error))?;
            Answer::created(&view(&app, &scope).await?)
        },
    )
    .await
}

/// A refusal that speaks of the payment method is the field's.
fn method_problem(app: &App, error: BillingError) -> Problem {
    match error {
        BillingError::Refused { code }
            if matches!(code.as_str(), "resource_missing" | "not_found")
                || code.starts_with("payment_method") =>
        {
            Problem::invalid_field(
                "payment_method_id",
                "is not accepted by the payment provider",
            )
        }
        error => app.billing_problem(error),
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WantedPlan {
    /// The plan's slug, as in `GET /v1/plans`; its newest version is sold.
    plan: String,
    /// `month` or `year`.
    #[schema(value_type = IntervalName)]
    interval: String,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ExceededView {
    metric: String,
    /// What it is counted for apart, by its id; `null` for the workspace.
    #[schema(required = true)]
    subject: Option<String>,
    used: u64,
    limit: u64,
    /// By how much.
    over: u64,
    /// Members whose seats lie beyond the limit. They stay; nobody more can join.
    members: Vec<String>,
}

impl From<Broken> for ExceededView {
    fn from(broken: Broken) -> Self {
        Self {
            over: broken.over(),
            metric: broken.metric.to_string(),
            subject: Some(broken.subject).filter(|subject| !subject.is_empty()),
            used: broken.used,
            limit: broken.limit,
            members: broken.members.iter().map(ToString::to_string).collect(),
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct PreviewView {
    plan: String,
    plan_version: u32,
    #[schema(value_type = IntervalName)]
    interval: &'static str,
    /// `now` or `at_period_end`.
    #[schema(value_type = EffectiveName)]
    effective: &'static str,
    effective_at: String,
    currency: String,
    /// What is charged at once, in minor units; negative is credited to later invoices.
    amount_now: i64,
    /// What the next regular invoice comes to, in minor units.
    amount_next: i64,
    /// When that is; `null` when nothing follows.
    #[schema(required = true)]
    next_charge_at: Option<String>,
    /// Each limit of the plan that today's usage would break. Nothing is deleted for it: only nothing more can be
    /// made.
    exceeded: Vec<ExceededView>,
    /// Makes a change hold to this preview, for a while.
    commit_token: String,
}

impl PreviewView {
    fn of(preview: Preview, interval: Interval) -> Self {
        Self {
            plan: preview.plan.slug.to_string(),
            plan_version: preview.plan.version,
            interval: interval.as_str(),
            effective: match preview.effective {
                Effective::Now => "now",
                Effective::AtPeriodEnd => "at_period_end",
            },
            effective_at: time(preview.effective_at),
            currency: preview.charged_now.currency.as_str().to_owned(),
            amount_now: preview.charged_now.minor,
            amount_next: preview.charged_next.minor,
            next_charge_at: preview.next_at.map(time),
            exceeded: preview.broken.into_iter().map(ExceededView::from).collect(),
            commit_token: preview.commit_token,
        }
    }
}

/// What a plan would cost now and next, and which limits today's usage would break. Changes nothing.
#[utoipa::path(
    tag = "billing", security(("bearer" = [])), request_body = WantedPlan,
    responses((status = 200, body = PreviewView), (status = 409, description = "`currency_mismatch`"), (status = 422), (status = 503, description = "billing_not_configured"), (status = 403))
)]
#[post("/v1/billing/subscription/preview")]
pub(crate) async fn preview_subscription(
    app: web::Data<App>,
    scoped: Scoped<Admin>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let (input, mut v): (WantedPlan, _) = body.checked_json().await?;
    let order = order(&mut v, &input.plan, &input.interval);
    let order = v.finish_with(order)?;
    let preview = app.billing.preview(&scoped.scope, &order).await;
    let preview = preview.map_err(|error| app.billing_problem(error))?;
    Ok(HttpResponse::Ok().json(PreviewView::of(preview, order.interval)))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanChange {
    /// The plan's slug, as in `GET /v1/plans`; its newest version is sold.
    plan: String,
    /// `month` or `year`.
    #[schema(value_type = IntervalName)]
    interval: String,
    /// Of a preview: the change is made only while what that showed is still so.
    #[schema(nullable = false)]
    commit_token: Option<String>,
}

/// Changes plan or interval: at once where it costs more, at the period's end where it costs less.
#[utoipa::path(
    tag = "billing", security(("bearer" = [])), params(Idempotent), request_body = PlanChange,
    responses((status = 200, body = SubscriptionView), (status = 402, description = "`payment_declined` or `payment_action_required`"),
        (status = 409, description = "`plan_change_stale`, `currency_mismatch`, `operation_in_progress`, or `conflict` where there is no subscription"), (status = 422), (status = 503, description = "billing_not_configured"), (status = 403))
)]
#[patch("/v1/billing/subscription")]
pub(crate) async fn change_subscription(
    app: web::Data<App>,
    scoped: Scoped<Admin>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let read = |bytes: &[u8]| {
        let (input, mut v): (PlanChange, _) = read_json(bytes)?;
        let order = order(&mut v, &input.plan, &input.interval);
        v.finish_with(order.map(|order| (order, input.commit_token)))
    };
    mutate_outside(
        &app,
        &scoped.scope,
        &request,
        body,
        read,
        |app, scope, (order, token)| async move {
            let changed = app
                .billing
                .change_plan(&scope, &order, token.as_deref())
                .await;
            changed.map_err(|error| app.billing_problem(error))?;
            Answer::ok(&view(&app, &scope).await?)
        },
    )
    .await
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cancellation {
    /// Otherwise at once; what was paid is not given back.
    #[serde(default = "yes")]
    at_period_end: bool,
}

const fn yes() -> bool {
    true
}

/// Ends the subscription, by default when what was paid for is over; where nothing was, at once.
#[utoipa::path(
    tag = "billing", security(("bearer" = [])), params(Idempotent), request_body = Cancellation,
    responses((status = 200, body = SubscriptionView), (status = 409, description = "`operation_in_progress`, or `conflict` where there is no subscription"), (status = 503, description = "billing_not_configured"), (status = 403))
)]
#[post("/v1/billing/subscription/cancel")]
pub(crate) async fn cancel_subscription(
    app: web::Data<App>,
    scoped: Scoped<Admin>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let read = |bytes: &[u8]| {
        let bytes = if bytes.is_empty() { b"{}" } else { bytes };
        let input: Cancellation = parse_json(bytes)?;
        Ok(if input.at_period_end {
            CancelWhen::AtPeriodEnd
        } else {
            CancelWhen::Now
        })
    };
    mutate_outside(
        &app,
        &scoped.scope,
        &request,
        body,
        read,
        |app, scope, when| async move {
            let ended = app.billing.cancel(&scope, when).await;
            ended.map_err(|error| app.billing_problem(error))?;
            Answer::ok(&view(&app, &scope).await?)
        },
    )
    .await
}

/// Takes back an end or a change of plan that was to come; wakes a paused subscription, and collects what an unpaid one
/// owes.
#[utoipa::path(
    tag = "billing", security(("bearer" = [])),
    params(Idempotent), responses((status = 200, body = SubscriptionView), (status = 402, description = "`payment_declined` or `payment_action_required`"),
        (status = 409, description = "`operation_in_progress`, or `conflict` where there is no subscription"), (status = 503, description = "billing_not_configured"), (status = 403))
)]
#[post("/v1/billing/subscription/resume")]
pub(crate) async fn resume_subscription(
    app: web::Data<App>,
    scoped: Scoped<Admin>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let read = crate::idempotent_write::nothing;
    mutate_outside(
        &app,
        &scoped.scope,
        &request,
        body,
        read,
        |app, scope, ()| async move {
            let resumed = app.billing.resume(&scope).await;
            resumed.map_err(|error| app.billing_problem(error))?;
            Answer::ok(&view(&app, &scope).await?)
        },
    )
    .await
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewCheckout {
    /// The plan's slug, as in `GET /v1/plans`; its newest version is sold.
    plan: String,
    /// `month` or `year`.
    #[schema(value_type = IntervalName)]
    interval: String,
    /// Where the payer comes back to when it is done: an absolute address of at most 2,000 characters. Stripe puts the page's id
    /// in the place of `{CHECKOUT_SESSION_ID}`.
    success_url: String,
    /// Where the payer comes back to otherwise; likewise.
    cancel_url: String,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct PageView {
    /// Where the payer is sent.
    url: String,
}

/// Opens a hosted page where the plan is paid. An earlier one of the workspace is closed. The provider tells of the payment in
/// its own time, often after the payer is back: ask `GET /v1/billing/subscription` until its `status` is `active` or `trialing`,
/// from when on the plan is in force, or wait for the event `plan.changed`.
#[utoipa::path(
    tag = "billing", security(("bearer" = [])), params(Idempotent), request_body = NewCheckout,
    responses((status = 200, body = PageView), (status = 409, description = "`currency_mismatch`, `operation_in_progress`, or `conflict` where there is a subscription"), (status = 422), (status = 503, description = "billing_not_configured"), (status = 403))
)]
#[post("/v1/billing/checkout")]
pub(crate) async fn open_checkout(
    app: web::Data<App>,
    scoped: Scoped<Admin>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let read = |bytes: &[u8]| {
        let (input, mut v): (NewCheckout, _) = read_json(bytes)?;
        let order = order(&mut v, &input.plan, &input.interval);
        let success = address(&mut v, "success_url", input.success_url);
        let cancel = address(&mut v, "cancel_url", input.cancel_url);
        v.finish_with(order.zip(success).zip(cancel))
    };
    mutate_outside(
        &app,
        &scoped.scope,
        &request,
        body,
        read,
        |app, scope, ((order, success), cancel)| async move {
            let opened = app.billing.checkout(&scope, &order, success, cancel).await;
            let url = opened.map_err(|error| app.billing_problem(error))?;
            Answer::ok(&PageView { url })
        },
    )
    .await
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPortal {
    /// Where the payer comes back to.
    return_url: String,
}

/// Opens a hosted page where cards and invoices are managed. Its address is a credential for a short time, so that
/// none is kept for an Idempotency-Key; another does no harm.
#[utoipa::path(
    tag = "billing", security(("bearer" = [])), request_body = NewPortal,
    responses((status = 200, body = PageView), (status = 409, description = "`conflict` where nothing was ever paid"), (status = 422), (status = 503, description = "billing_not_configured"), (status = 403))
)]
#[post("/v1/billing/portal")]
pub(crate) async fn open_portal(
    app: web::Data<App>,
    scoped: Scoped<Admin>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let (input, mut v): (NewPortal, _) = body.checked_json().await?;
    let return_url = address(&mut v, "return_url", input.return_url);
    let return_url = v.finish_with(return_url)?;
    let opened = app.billing.portal(&scoped.scope, &return_url).await;
    let url = opened.map_err(|error| app.billing_problem(error))?;
    Ok(HttpResponse::Ok().json(PageView { url }))
}

#[derive(Serialize, ToSchema)]
pub(crate) struct InvoicePeriodView {
    start: String,
    end: String,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct InvoiceView {
    id: String,
    /// `null` until it is finalized.
    #[schema(required = true)]
    number: Option<String>,
    /// `draft`, `open`, `paid`, `uncollectible` or `void`.
    #[schema(value_type = InvoiceStatusName)]
    status: String,
    currency: String,
    /// Minor units.
    total: i64,
    amount_due: i64,
    amount_paid: i64,
    amount_remaining: i64,
    period: InvoicePeriodView,
    created_at: String,
    #[schema(required = true)]
    paid_at: Option<String>,
    /// By when it is to be paid, where it is mailed.
    #[schema(required = true)]
    due_at: Option<String>,
    /// How often it was tried to collect it.
    attempt_count: u32,
    #[schema(required = true)]
    next_attempt_at: Option<String>,
    /// The page where it can be seen and paid.
    #[schema(required = true)]
    hosted_url: Option<String>,
    /// The document.
    #[schema(required = true)]
    pdf_url: Option<String>,
}

impl From<InvoiceSnapshot> for InvoiceView {
    fn from(invoice: InvoiceSnapshot) -> Self {
        Self {
            id: invoice.id.to_string(),
            number: invoice.number,
            status: invoice.status.as_str().to_owned(),
            currency: invoice.currency.as_str().to_owned(),
            total: invoice.total,
            amount_due: invoice.amount_due,
            amount_paid: invoice.amount_paid,
            amount_remaining: invoice.amount_remaining,
            period: InvoicePeriodView {
                start: time(invoice.period_start),
                end: time(invoice.period_end),
            },
            created_at: time(invoice.created),
            paid_at: invoice.paid_at.map(time),
            due_at: invoice.due_at.map(time),
            attempt_count: invoice.attempt_count,
            next_attempt_at: invoice.next_attempt.map(time),
            hosted_url: invoice.hosted_url,
            pdf_url: invoice.pdf_url,
        }
    }
}

/// The invoices, newest first.
#[utoipa::path(tag = "billing", security(("bearer" = [])), params(PageParams), responses((status = 200, body = ListView<InvoiceView>), (status = 403)))]
#[get("/v1/billing/invoices")]
pub(crate) async fn list_invoices(
    app: web::Data<App>,
    scoped: Scoped<Admin>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (page, NoFilters {}) = PageQuery::read(
        request.query_string(),
        &app.cursors,
        scoped.scope.workspace(),
        "invoices",
    )?;
    let invoices = app
        .store
        .read(&scoped.scope)
        .invoices(&page.request)
        .await?;
    Ok(HttpResponse::Ok().json(page.view(invoices, &app.cursors, InvoiceView::from)))
}
