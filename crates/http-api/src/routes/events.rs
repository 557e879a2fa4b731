//! What happened in the workspace, in its order: what webhooks tell, for whoever would rather ask.

use actix_web::{HttpRequest, HttpResponse, get, web};
use rawdrive_notices::webhooks::{WebhooksRead as _, told};
use rawdrive_tenancy_core::event::EventSelection;
use rawdrive_tenancy_core::id::{EventId, WorkspaceId};
use rawdrive_tenancy_core::page::Position;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::auth::{Admin, Scoped};
use crate::web::{ListView, PageParams, PageQuery, Problem, Validator};

/// Which events are asked for.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventParams {
    /// Events after this one: the id of an event, such as the last one that was seen. One that is older than 90 days, or
    /// none of the workspace's, is 422: begin again without it, and read the present state.
    #[param(
        required = false,
        nullable = false,
        example = "evt_01890000000070008000000000000001"
    )]
    after: Option<String>,
    /// Kinds, with commas between them; `noun.*` for all of a noun. All where it is left out.
    #[param(
        required = false,
        nullable = false,
        example = "plan.changed,subscription.*"
    )]
    types: Option<String>,
}

/// An event, as webhooks carry it too.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "evt_01890000000070008000000000000001", "type": "plan.changed", "timestamp": "2026-12-01T10:00:00.000000Z",
    "workspace": "ws_01890000000070008000000000000001", "seq": 7,
    "subject": "ws_01890000000070008000000000000001", "data": { "actor": "usr_01890000000070008000000000000001" },
}))]
pub(crate) struct EventView {
    /// The same wherever the event is told, however often.
    id: String,
    /// `noun.verb`: what the audit log names, such as `api_key.created`, `invitation.created`, `membership.created`,
    /// `membership.role_changed`, `override.added`, `webhook_endpoint.created`, `workspace.created` and `workspace.updated`;
    /// about money `plan.changed`, `access.changed`, `subscription.created`, `subscription.changed`, `subscription.ended`,
    /// `invoice.paid`, `invoice.payment_failed`, `invoice.payment_action_required`, `charge.refunded`, `dispute.opened`,
    /// `dispute.closed` and `billing.grace_reached`; and `usage.threshold_crossed`, `onboarding.completed` and
    /// `webhook_endpoint.disabled`. Further ones may come.
    #[serde(rename = "type")]
    kind: String,
    #[schema(format = DateTime)]
    timestamp: String,
    workspace: String,
    /// 1, 2, 3 … without a gap.
    seq: u64,
    /// The id of what it happened to.
    subject: String,
    /// Its facts; `actor` where somebody did it.
    #[schema(value_type = Object)]
    data: Value,
}

/// What happened in the workspace, oldest first: the feed that webhooks deliver. It reaches back 90 days. Where
/// `next_cursor` is `null` there is nothing more yet: ask again later, `after` the last event. What is uploaded, and what is
/// used bit by bit, is in the ledger of usage and not here.
#[utoipa::path(tag = "events", security(("bearer" = [])), params(EventParams, PageParams), responses((status = 200, body = ListView<EventView>), (status = 403), (status = 422)))]
#[get("/v1/events")]
pub(crate) async fn list_events(
    app: web::Data<App>,
    scoped: Scoped<Admin>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let workspace = scoped.scope.workspace();
    let (mut page, params): (_, EventParams) =
        PageQuery::read(request.query_string(), &app.cursors, workspace, "events")?;
    let mut v = Validator::new();
    let after = v.check_some("after", params.after, |id| {
        id.parse::<EventId>()
            .map_err(|_| "expected the id of an event")
    });
    let types = params.types.unwrap_or_default();
    let kinds = types
        .split(',')
        .map(str::trim)
        .filter(|kind| !kind.is_empty());
    let wants = v.check("types", EventSelection::of(kinds.map(str::to_owned)));
    let wants = v.finish_with(wants)?;
    let reader = app.store.read(&scoped.scope);
    // A cursor goes on behind where it was made.
    if let (Some(after), None) = (after, page.request.after) {
        let seq = reader.event_seq(after).await?;
        let unknown = || Problem::invalid_field("after", "is no event of the last 90 days");
        page.request.after = Some(Position::Seq(seq.ok_or_else(unknown)?));
    }
    let events = reader.events(page.request, &wants).await?;
    Ok(HttpResponse::Ok().json(page.view(events, &app.cursors, |event| view(workspace, &event))))
}

fn view(workspace: WorkspaceId, event: &rawdrive_tenancy_core::event::RecordedEvent) -> Value {
    told(workspace, event)
}
