//! What the payment provider tells.

use actix_web::{HttpRequest, HttpResponse, post, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::web::{Body, Problem};

/// The largest event that is taken; the provider's are far smaller.
const EVENT_LIMIT_BYTES: u64 = 1024 * 1024;

#[derive(Serialize, ToSchema)]
pub(crate) struct ReceivedView {
    received: bool,
}

/// Takes an event of Stripe. 200 as soon as it is durably stored, also for one that was stored before; what it
/// means is fetched afterwards.
#[utoipa::path(
    operation_id = "receive_stripe_event", tag = "billing",
    params(("Stripe-Signature" = String, Header)),
    request_body(content = Object, content_type = "application/json", description = "The event, byte for byte as it was signed; at most 1 MiB"),
    responses((status = 200, body = ReceivedView), (status = 400, description = "`invalid_signature`, or `malformed_request` for what is no event"), (status = 413), (status = 503, description = "Send it again"))
)]
#[post("/v1/webhooks/stripe")]
pub(crate) async fn stripe_webhook(
    app: web::Data<App>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let bytes = body.bytes(EVENT_LIMIT_BYTES).await?;
    let header = request.headers().get("stripe-signature");
    let signature = header.and_then(|value| value.to_str().ok()).unwrap_or("");
    app.billing.take_webhook(signature, bytes.to_vec()).await?;
    Ok(HttpResponse::Ok().json(ReceivedView { received: true }))
}
