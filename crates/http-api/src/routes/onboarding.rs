//! The way to the first delivery.

use actix_web::{HttpRequest, HttpResponse, delete, get, post, web};
use chrono::{DateTime, Utc};
use rawdrive_onboarding::{Facts, Item, OnboardingRead, OnboardingTx, Status, checklist};
use rawdrive_plans::{Entitlements, PlansTx};
use rawdrive_store::{Release, WriteTx};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::{App, time};
use crate::auth::{Admin, Member, Scoped};
use crate::idempotent_write::{Answer, Begin, mutate, no_body, nothing};
use crate::openapi::headers::Idempotent;
use crate::openapi::words::StepStatusName;
use crate::web::{Body, Problem};

#[derive(Serialize, ToSchema)]
pub(crate) struct StepView {
    id: &'static str,
    title: &'static str,
    /// `open`, `completed`, `skipped` or `not_available`.
    #[schema(value_type = StepStatusName)]
    status: &'static str,
}

impl From<&Item> for StepView {
    fn from(item: &Item) -> Self {
        Self {
            id: item.id,
            title: item.title,
            status: item.status.as_str(),
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct OnboardingView {
    steps: Vec<StepView>,
    completed: Vec<&'static str>,
    progress_percentage: u8,
    is_complete: bool,
    /// When it was complete for the first time; it stays, also when a step opens again.
    #[schema(required = true)]
    completed_at: Option<String>,
}

impl OnboardingView {
    fn of(
        app: &App,
        facts: &Facts,
        completed_at: Option<DateTime<Utc>>,
        entitlements: &Entitlements,
    ) -> Self {
        let now = app.env().now();
        let list = checklist(&app.steps, facts, |f| entitlements.feature(f, now).value);
        let completed = list.steps.iter().filter(|s| s.status == Status::Completed);
        Self {
            completed: completed.map(|s| s.id).collect(),
            steps: list.steps.iter().map(StepView::from).collect(),
            progress_percentage: list.progress_percentage,
            is_complete: list.is_complete,
            completed_at: completed_at.map(time),
        }
    }
}

/// The way to the first delivery, computed from facts.
#[utoipa::path(tag = "onboarding", security(("bearer" = [])), responses((status = 200, body = OnboardingView), (status = 401)))]
#[get("/v1/onboarding")]
pub(crate) async fn show_onboarding(
    app: web::Data<App>,
    scoped: Scoped<Member>,
) -> Result<HttpResponse, Problem> {
    let reader = app.store.read(&scoped.scope);
    let (facts, completed_at) = reader.onboarding().await?;
    let entitlements = reader.entitlements().await?;
    Ok(HttpResponse::Ok().json(OnboardingView::of(
        &app,
        &facts,
        completed_at,
        &entitlements,
    )))
}

/// Says that a step need not be done, for the whole workspace: an admin's word, as the billing address
/// is. It counts as long as the step is neither done nor off the plan.
#[utoipa::path(tag = "onboarding", security(("bearer" = [])), params(("id" = String, Path, description = "The step"), Idempotent), responses((status = 200, body = OnboardingView), (status = 403), (status = 404), (status = 402, description = "workspace_read_only")))]
#[post("/v1/onboarding/steps/{id}/skip")]
pub(crate) async fn skip_step(
    app: web::Data<App>,
    scoped: Scoped<Admin>,
    id: web::Path<String>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        Begin::Writable,
        nothing,
        async |tx, _, ()| {
            tx.skip_step(known(&app, &id)?, app.env().now()).await?;
            app.review_onboarding(tx).await?;
            view(&app, tx).await
        },
    )
    .await
}

/// Takes a skip back; it is no error when there was none.
#[utoipa::path(tag = "onboarding", security(("bearer" = [])), params(("id" = String, Path, description = "The step"), Idempotent), responses((status = 200, body = OnboardingView), (status = 403), (status = 404)))]
#[delete("/v1/onboarding/steps/{id}/skip")]
pub(crate) async fn unskip_step(
    app: web::Data<App>,
    scoped: Scoped<Admin>,
    id: web::Path<String>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let begin = Begin::Despite(Release::Freeing);
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        begin,
        no_body,
        async |tx, _, ()| {
            tx.unskip_step(known(&app, &id)?).await?;
            view(&app, tx).await
        },
    )
    .await
}

/// The step of that id, by the id's own text: nothing else is ever stored.
fn known(app: &App, id: &str) -> Result<&'static str, Problem> {
    let step = app.steps.iter().find(|step| step.id == id);
    step.map(|step| step.id).ok_or_else(Problem::not_found)
}

async fn view(app: &App, tx: &mut WriteTx) -> Result<Answer, Problem> {
    let (facts, completed_at) = tx.onboarding().await?;
    let entitlements = tx.entitlements().await?;
    Answer::ok(&OnboardingView::of(
        app,
        &facts,
        completed_at,
        &entitlements,
    ))
}
