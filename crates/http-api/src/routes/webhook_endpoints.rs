//! Outbound webhooks: where a workspace's events are sent.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, delete, get, patch, post, web};
use rawdrive_notices::webhooks::{
    Delivery, Endpoint, EndpointChange, NewEndpoint, WebhookSecret, WebhookUrl, WebhooksRead as _,
    change_endpoint as change, create_endpoint, delete_endpoint as remove, rotate_secret,
    send_again,
};
use rawdrive_store::Release;
use rawdrive_tenancy_core::Commit as _;
use rawdrive_tenancy_core::event::EventSelection;
use rawdrive_tenancy_core::id::{DeliveryId, WebhookEndpointId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::{App, time};
use crate::auth::{Admin, Scoped};
use crate::idempotent_write::{Answer, Begin, mutate, no_body, nothing};
use crate::openapi::headers::{Conditional, Idempotent};
use crate::openapi::words::{DeliveryStateName, DisabledReasonName};
use crate::web::{
    Body, EntityTag, IfMatch, ListView, NoFilters, Nullable, PageParams, PageQuery, Problem,
    Validator, etag_of, path_id, read_json, tagged_view,
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "url": "https://example.com/hooks", "events": ["plan.changed", "subscription.*"] }))]
pub(crate) struct CreateWebhookEndpoint {
    /// `https://…`, on the open internet, without a user name and a password. `http://` and private addresses where the
    /// installation allows them.
    #[schema(example = "https://example.com/hooks")]
    url: String,
    /// Kinds of events, such as `plan.changed`; `noun.*` for all of a noun. All where it is left out, `null` or empty.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, max_items = 50)]
    events: Nullable<Vec<String>>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "enabled": true }))]
pub(crate) struct UpdateWebhookEndpoint {
    /// Another address.
    #[schema(nullable = false)]
    url: Option<String>,
    /// Other kinds; `null` for all.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, max_items = 50)]
    events: Nullable<Vec<String>>,
    /// Whether events are sent. One that is enabled anew gets what happens from then on.
    #[schema(nullable = false)]
    enabled: Option<bool>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct WebhookEndpointView {
    id: String,
    #[schema(example = "https://example.com/hooks")]
    url: String,
    /// Which kinds of events are sent; empty for all.
    events: Vec<String>,
    /// Whether events are sent.
    enabled: bool,
    /// Why it was disabled by itself: `failing` where it took nothing for five days, `gone` where it answered 410.
    #[schema(value_type = Option<DisabledReasonName>, required = true, example = json!(null))]
    disabled_reason: Option<&'static str>,
    /// Since when it has taken nothing.
    #[schema(required = true, format = DateTime, example = json!(null))]
    failing_since: Option<String>,
    /// Until when the secret before the present one signs too.
    #[schema(required = true, format = DateTime, example = json!(null))]
    old_secret_until: Option<String>,
    created_at: String,
}

impl WebhookEndpointView {
    fn of(app: &App, endpoint: &Endpoint) -> Self {
        let now = app.env().now();
        let old = endpoint.old_secret.as_ref().map(|(_, until)| *until);
        Self {
            id: endpoint.id.to_string(),
            url: endpoint.url.as_str().to_owned(),
            events: endpoint.wants.kinds().to_vec(),
            enabled: endpoint.enabled,
            disabled_reason: endpoint.disabled.map(|reason| reason.as_str()),
            failing_since: endpoint.failing_since.map(time),
            old_secret_until: old.filter(|until| *until > now).map(time),
            created_at: time(endpoint.created_at),
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct WebhookEndpointWithSecretView {
    #[serde(flatten)]
    endpoint: WebhookEndpointView,
    /// What its events are signed with: `whsec_` and base64, as every implementation of the Standard Webhooks takes it. Shown here
    /// and never again.
    #[schema(example = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")]
    secret: String,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct WebhookDeliveryView {
    id: String,
    endpoint: String,
    /// The event: `webhook-id`.
    event: String,
    #[serde(rename = "type")]
    kind: String,
    /// `pending`, `delivered` or `failed`.
    #[schema(value_type = DeliveryStateName)]
    state: &'static str,
    /// How often it was sent.
    attempts: u32,
    /// What the endpoint answered last.
    #[schema(required = true)]
    response_status: Option<u16>,
    /// Why the last attempt failed.
    #[schema(required = true)]
    error: Option<String>,
    #[schema(required = true)]
    last_attempt_at: Option<String>,
    #[schema(required = true)]
    next_attempt_at: Option<String>,
    created_at: String,
}

impl From<&Delivery> for WebhookDeliveryView {
    fn from(delivery: &Delivery) -> Self {
        Self {
            id: delivery.id.to_string(),
            endpoint: delivery.endpoint.to_string(),
            event: delivery.event.to_string(),
            kind: delivery.kind.clone(),
            state: delivery.state.as_str(),
            attempts: delivery.attempts,
            response_status: delivery.response_status,
            error: delivery.error.clone(),
            last_attempt_at: delivery.last_attempt_at.map(time),
            next_attempt_at: delivery.next_attempt_at.map(time),
            created_at: time(delivery.created_at),
        }
    }
}

fn tag(endpoint: &Endpoint) -> EntityTag {
    etag_of(endpoint.id, endpoint.version)
}

fn selection(v: &mut Validator, kinds: Option<Vec<String>>) -> Option<EventSelection> {
    v.check("events", EventSelection::of(kinds.unwrap_or_default()))
}

/// Has the workspace's events sent to an address, from now on, one after the other. The answer holds the secret: an
/// `Idempotency-Key` is not obeyed, since a replay would keep it in clear.
///
/// Each event is a `POST` of an `Event` as JSON, with the headers of the Standard Webhooks: `webhook-id` (the event's `id`),
/// `webhook-timestamp` (seconds of Unix time) and `webhook-signature` (`v1,` and base64; two, with a space between them, while a
/// secret is being replaced). Verify the bytes as they came. An answer of 2xx within 15 seconds says that it was taken; after
/// anything else, a redirect among it, it is sent again after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h and 10 h, and the events behind it
/// wait. An event may come twice: its `id` is the same. `webhook_endpoint.created` is sent at once and may come before this
/// answer: answer it with 503 until you have the secret.
#[utoipa::path(tag = "events", security(("bearer" = [])), request_body = CreateWebhookEndpoint, responses((status = 201, body = WebhookEndpointWithSecretView), (status = 402, description = "workspace_read_only"), (status = 403), (status = 409, description = "conflict: the workspace has 20"), (status = 422)))]
#[post("/v1/webhook-endpoints")]
pub(crate) async fn create_webhook_endpoint(
    app: Data<App>,
    scoped: Scoped<Admin>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let (input, mut v): (CreateWebhookEndpoint, _) = body.checked_json().await?;
    let url = v.check(
        "url",
        WebhookUrl::parse(&input.url, app.settings.webhook_reach),
    );
    let wants = selection(&mut v, input.events.value());
    let (url, wants) = v.finish_with(url.zip(wants))?;
    let workspace = scoped.scope.workspace();
    let mut tx = app
        .store
        .begin(&scoped.scope)
        .await
        .map_err(|error| app.begin_problem(error))?;
    let new = NewEndpoint { url, wants };
    let (endpoint, secret) =
        create_endpoint(&mut tx, app.env(), &app.webhook_keys, workspace, new).await?;
    tx.commit().await?;
    Ok(HttpResponse::Created()
        .insert_header((
            "Location",
            format!("{}/v1/webhook-endpoints/{}", app.prefix(), endpoint.id),
        ))
        .json(with_secret(&app, &endpoint, &secret)))
}

fn with_secret(
    app: &App,
    endpoint: &Endpoint,
    secret: &WebhookSecret,
) -> WebhookEndpointWithSecretView {
    WebhookEndpointWithSecretView {
        endpoint: WebhookEndpointView::of(app, endpoint),
        secret: secret.text(),
    }
}

/// Where events are sent, oldest first.
#[utoipa::path(tag = "events", security(("bearer" = [])), params(PageParams), responses((status = 200, body = ListView<WebhookEndpointView>), (status = 403)))]
#[get("/v1/webhook-endpoints")]
pub(crate) async fn list_webhook_endpoints(
    app: Data<App>,
    scoped: Scoped<Admin>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (page, NoFilters {}) = PageQuery::read(
        request.query_string(),
        &app.cursors,
        scoped.scope.workspace(),
        "webhook-endpoints",
    )?;
    let endpoints = app
        .store
        .read(&scoped.scope)
        .webhook_endpoints(page.request)
        .await?;
    let view = |endpoint: Endpoint| WebhookEndpointView::of(&app, &endpoint);
    Ok(HttpResponse::Ok().json(page.view(endpoints, &app.cursors, view)))
}

/// An endpoint.
#[utoipa::path(tag = "events", security(("bearer" = [])), params(("id" = String, Path)), responses((status = 200, body = WebhookEndpointView), (status = 403), (status = 404)))]
#[get("/v1/webhook-endpoints/{id}")]
pub(crate) async fn show_webhook_endpoint(
    app: Data<App>,
    scoped: Scoped<Admin>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let reader = app.store.read(&scoped.scope);
    let found = reader.webhook_endpoint(path_id(&id)?).await?;
    let endpoint = found.ok_or_else(Problem::not_found)?;
    tagged_view(&tag(&endpoint), &WebhookEndpointView::of(&app, &endpoint))
}

/// Changes an endpoint, or enables it again.
#[utoipa::path(tag = "events", security(("bearer" = [])), params(("id" = String, Path), Idempotent, Conditional), request_body = UpdateWebhookEndpoint, responses((status = 200, body = WebhookEndpointView), (status = 403), (status = 404), (status = 412), (status = 422)))]
#[patch("/v1/webhook-endpoints/{id}")]
pub(crate) async fn update_webhook_endpoint(
    app: Data<App>,
    scoped: Scoped<Admin>,
    id: web::Path<String>,
    request: HttpRequest,
    condition: IfMatch,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let reach = app.settings.webhook_reach;
    let read = |bytes: &[u8]| {
        let (input, mut v): (UpdateWebhookEndpoint, _) = read_json(bytes)?;
        let url = v.check_some("url", input.url, |url| WebhookUrl::parse(&url, reach));
        let wants = (input.events.change()).and_then(|kinds| selection(&mut v, kinds));
        v.finish()?;
        Ok(EndpointChange {
            url,
            wants,
            enabled: input.enabled,
        })
    };
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        // Also while the workspace takes no writes: it must be possible to have nothing sent.
        Begin::Despite(Release::Freeing),
        read,
        async |tx, _, input| {
            let fits = |endpoint: &Endpoint| condition.check(&tag(endpoint));
            let endpoint = change(tx, path_id(&id)?, input, fits).await?;
            Ok(Answer::ok(&WebhookEndpointView::of(&app, &endpoint))?.tagged_view(&tag(&endpoint)))
        },
    )
    .await
}

/// Deletes an endpoint with its deliveries: nothing more is sent.
#[utoipa::path(tag = "events", security(("bearer" = [])), params(("id" = String, Path), Idempotent), responses((status = 204), (status = 403), (status = 404)))]
#[delete("/v1/webhook-endpoints/{id}")]
pub(crate) async fn delete_webhook_endpoint(
    app: Data<App>,
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
        Begin::Despite(Release::Freeing),
        no_body,
        async |tx, _, ()| {
            remove(tx, path_id(&id)?).await?;
            Ok(Answer::no_content())
        },
    )
    .await
}

/// Gives an endpoint a new secret. For a day both sign, so that a receiver may change over when it likes. The answer holds
/// the secret: an `Idempotency-Key` is not obeyed.
#[utoipa::path(tag = "events", security(("bearer" = [])), params(("id" = String, Path)), responses((status = 200, body = WebhookEndpointWithSecretView), (status = 403), (status = 404)))]
#[post("/v1/webhook-endpoints/{id}/rotate-secret")]
pub(crate) async fn rotate_webhook_secret(
    app: Data<App>,
    scoped: Scoped<Admin>,
    id: web::Path<String>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    nothing(&body.json_bytes().await?)?;
    let id: WebhookEndpointId = path_id(&id)?;
    let workspace = scoped.scope.workspace();
    // Also while the workspace takes no writes: a leaked secret must be replaceable at any time.
    let mut tx = app
        .store
        .begin_despite_read_only(&scoped.scope, Release::Identity)
        .await?;
    let (endpoint, secret) =
        rotate_secret(&mut tx, app.env(), &app.webhook_keys, workspace, id).await?;
    tx.commit().await?;
    Ok(HttpResponse::Ok().json(with_secret(&app, &endpoint, &secret)))
}

/// What was sent to an endpoint, newest first, and what came of it.
#[utoipa::path(tag = "events", security(("bearer" = [])), params(("id" = String, Path), PageParams), responses((status = 200, body = ListView<WebhookDeliveryView>), (status = 403), (status = 404)))]
#[get("/v1/webhook-endpoints/{id}/deliveries")]
pub(crate) async fn list_webhook_deliveries(
    app: Data<App>,
    scoped: Scoped<Admin>,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let id: WebhookEndpointId = path_id(&id)?;
    let list = format!("webhook-deliveries of {id}");
    let (page, NoFilters {}) = PageQuery::read(
        request.query_string(),
        &app.cursors,
        scoped.scope.workspace(),
        &list,
    )?;
    let reader = app.store.read(&scoped.scope);
    if reader.webhook_endpoint(id).await?.is_none() {
        return Err(Problem::not_found());
    }
    let deliveries = reader.webhook_deliveries(id, page.request).await?;
    let view = |delivery: Delivery| WebhookDeliveryView::from(&delivery);
    Ok(HttpResponse::Ok().json(page.view(deliveries, &app.cursors, view)))
}

/// Sends an event once more that was delivered or given up, with the same id.
#[utoipa::path(tag = "events", security(("bearer" = [])), params(("id" = String, Path), Idempotent), responses((status = 202, body = WebhookDeliveryView), (status = 403), (status = 404), (status = 409, description = "conflict: it is under way, its endpoint is disabled, or the event is older than the feed")))]
#[post("/v1/webhook-endpoints/deliveries/{id}/resend")]
pub(crate) async fn resend_webhook_delivery(
    app: Data<App>,
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
        Begin::Despite(Release::Metering),
        nothing,
        async |tx, _, ()| {
            let id: DeliveryId = path_id(&id)?;
            let delivery = send_again(tx, app.env(), id).await?;
            Answer::json(
                actix_web::http::StatusCode::ACCEPTED,
                &WebhookDeliveryView::from(&delivery),
            )
        },
    )
    .await
}
