//! Events, and the endpoints that are told of them.

use serde_json::{Value, json};

use super::{list_params, retrieve};
use crate::calendar::DAY;
use crate::json::{Fields as _, set};
use crate::state::{API_VERSION, Kind, World, random_text};
use crate::wire::error::{Answer, ApiError};
use crate::wire::list;
use crate::wire::params::Params;

/// How long events can be read.
const KEPT: i64 = 30 * DAY;

pub(super) fn route(
    world: &mut World,
    method: &str,
    path: &[&str],
    params: &Params,
) -> Option<Answer> {
    Some(match (method, path) {
        ("GET", []) => list_events(world, params),
        ("GET", [id]) => retrieve_event(world, id, params),
        _ => return None,
    })
}

fn is_kept(world: &World, event: &Value) -> bool {
    event.number("created") > world.now - KEPT
}

fn retrieve_event(world: &World, id: &str, params: &Params) -> Answer {
    let event = retrieve(world, Kind::Event, id, params)?;
    if is_kept(world, &event) {
        return Ok(event);
    }
    Err(ApiError::no_such("event", id, "id", true))
}

fn list_events(world: &World, params: &Params) -> Answer {
    params.only(&list_params(&[
        "created",
        "delivery_success",
        "type",
        "types",
    ]))?;
    let kind = params.text("type")?;
    let kinds = params.texts("types");
    if kind.is_some() && !kinds.is_empty() {
        return Err(ApiError::malformed(
            "types",
            Some("parameters_exclusive"),
            "You may only specify one of these parameters: type, types.",
        ));
    }
    if kinds.len() > 20 {
        return Err(ApiError::malformed(
            "types",
            None,
            "You may provide at most 20 types.",
        ));
    }
    let delivered = params.boolean("delivery_success")?;
    let mut rows = Vec::new();
    for event in world.all(Kind::Event).rev() {
        let own = event.text("type");
        let wanted = kind.as_ref().is_none_or(|kind| matches_kind(kind, own))
            && (kinds.is_empty() || kinds.iter().any(|kind| matches_kind(kind, own)))
            && delivered
                .is_none_or(|delivered| (event.number("pending_webhooks") == 0) == delivered);
        if wanted
            && is_kept(world, event)
            && list::in_range(params, "created", event.time("created"))?
        {
            rows.push(event);
        }
    }
    list::page(params, "/v1/events", rows)
}

/// `type` may end in `*`: "a specific event name, or group of events using * as a wildcard".
fn matches_kind(wanted: &str, own: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(group) => own.starts_with(group),
        None => own == wanted,
    }
}

pub(super) fn endpoints(
    world: &mut World,
    method: &str,
    path: &[&str],
    params: &Params,
) -> Option<Answer> {
    Some(match (method, path) {
        ("POST", []) => create_endpoint(world, params),
        ("GET", []) => params.only(&list::PAGING).and_then(|()| {
            super::list_of(
                world,
                Kind::WebhookEndpoint,
                "/v1/webhook_endpoints",
                params,
                |_| true,
            )
        }),
        ("GET", [id]) => retrieve(world, Kind::WebhookEndpoint, id, params),
        ("POST", [id]) => update_endpoint(world, id, params),
        ("DELETE", [id]) => delete_endpoint(world, id, params),
        _ => return None,
    })
}

fn create_endpoint(world: &mut World, params: &Params) -> Answer {
    params.only(&[
        "api_version",
        "connect",
        "description",
        "enabled_events",
        "metadata",
        "url",
    ])?;
    let url = checked_url(params)?.ok_or_else(|| ApiError::parameter_missing("url"))?;
    let events = params.texts("enabled_events");
    if events.is_empty() {
        return Err(ApiError::parameter_missing("enabled_events"));
    }
    let secret = format!("whsec_{}", random_text(32));
    let id = new_endpoint(world, &url, &secret, events);
    let mut endpoint = world.copy(&id);
    params.merge_metadata(&mut endpoint)?;
    set(&mut endpoint, "description", params.text("description")?);
    world.edit(&id, |stored| *stored = endpoint.clone());
    // The secret is shown once, on creation.
    set(&mut endpoint, "secret", secret);
    Ok(endpoint)
}

/// Stores an endpoint; its secret stays a note.
pub(crate) fn new_endpoint(
    world: &mut World,
    url: &str,
    secret: &str,
    events: Vec<String>,
) -> String {
    let id = world.new_id(Kind::WebhookEndpoint);
    let endpoint = json!({
        "id": id,
        "object": "webhook_endpoint",
        "api_version": API_VERSION,
        "application": null,
        "created": world.now,
        "description": null,
        "enabled_events": events,
        "livemode": false,
        "metadata": {},
        "status": "enabled",
        "url": url,
        "_secret": secret,
    });
    world.insert(Kind::WebhookEndpoint, endpoint)
}

fn checked_url(params: &Params) -> Result<Option<String>, ApiError> {
    let Some(url) = params.text("url")? else {
        return Ok(None);
    };
    if url.starts_with("http://") || url.starts_with("https://") {
        return Ok(Some(url));
    }
    Err(ApiError::malformed(
        "url",
        Some("url_invalid"),
        "Invalid URL: An explicit scheme (such as https) must be provided.",
    ))
}

fn update_endpoint(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&[
        "description",
        "disabled",
        "enabled_events",
        "metadata",
        "url",
    ])?;
    let mut endpoint = world.find(Kind::WebhookEndpoint, id, "id", true)?;
    if let Some(url) = checked_url(params)? {
        set(&mut endpoint, "url", url);
    }
    if params.has("enabled_events") {
        set(
            &mut endpoint,
            "enabled_events",
            params.texts("enabled_events"),
        );
    }
    if let Some(disabled) = params.boolean("disabled")? {
        set(
            &mut endpoint,
            "status",
            if disabled { "disabled" } else { "enabled" },
        );
    }
    super::set_texts(&mut endpoint, params, &["description"])?;
    params.merge_metadata(&mut endpoint)?;
    world.edit(id, |stored| *stored = endpoint);
    Ok(world.copy(id))
}

fn delete_endpoint(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&[])?;
    world.find(Kind::WebhookEndpoint, id, "id", true)?;
    world.forget(id);
    Ok(json!({ "id": id, "object": "webhook_endpoint", "deleted": true }))
}
