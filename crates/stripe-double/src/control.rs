//! The control routes under `/_double/`, for callers on loopback: faults, deliveries, disputes,
//! authentication, time, and what the double holds.

use std::time::Duration;

use actix_web::HttpResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::faults::{DeliveryOrder, Fault, Matching};
use crate::json::visible;
use crate::shared::Shared;
use crate::state::Kind;
use crate::test_handle::{FaultError, Faults};
use crate::webhooks::DeliveryState;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFault {
    fault: FaultName,
    #[serde(default = "once")]
    times: usize,
    method: Option<String>,
    path: Option<String>,
    /// Of `delay`, in milliseconds.
    #[serde(default)]
    delay_ms: u64,
    /// Of `rate_limit`, in seconds.
    #[serde(default = "one_second")]
    retry_after: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum FaultName {
    DropAnswer,
    RateLimit,
    ServerError,
    ServerErrorAfterCommit,
    Unavailable,
    Delay,
    Hang,
    HangAnswer,
}

fn once() -> usize {
    1
}

fn one_second() -> u64 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanWebhooks {
    hold: Option<bool>,
    drop_next: Option<usize>,
    duplicate_next: Option<usize>,
    /// Which types `drop_next` and `duplicate_next` are for; `*` stands for any text.
    #[serde(default = "any_type")]
    types: String,
    delay_ms: Option<u64>,
    order: Option<OrderName>,
    #[serde(default)]
    seed: u64,
}

fn any_type() -> String {
    "*".to_owned()
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum OrderName {
    OldestFirst,
    NewestFirst,
    Shuffled,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Down {
    down: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    seconds: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dispute {
    #[serde(default = "fraudulent")]
    reason: String,
}

fn fraudulent() -> String {
    "fraudulent".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decide {
    won: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pause {
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Authenticate {
    succeed: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decline {
    #[serde(default = "generic")]
    decline_code: String,
}

fn generic() -> String {
    "generic_decline".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FailFinalization {
    #[serde(default = "tax_location")]
    code: String,
}

fn tax_location() -> String {
    "customer_tax_location_invalid".to_owned()
}

/// Why a control route did not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum ControlError {
    #[error("failed to read the body: {0}")]
    Body(#[from] serde_json::Error),
    #[error("there is no such control route")]
    Route,
    #[error("{0}")]
    Refused(#[from] FaultError),
}

pub(crate) fn answer(
    shared: &std::sync::Arc<Shared>,
    is_near: bool,
    method: &str,
    path: &str,
    body: &[u8],
) -> HttpResponse {
    if !is_near {
        return HttpResponse::NotFound().finish();
    }
    let path: Vec<_> = path.trim_start_matches("/_double/").split('/').collect();
    let body = if body.is_empty() { b"{}" } else { body };
    match control(shared, method, &path, body) {
        Ok(answer) => HttpResponse::Ok().json(answer),
        Err(error @ ControlError::Route) => {
            HttpResponse::NotFound().json(json!({ "error": error.to_string() }))
        }
        Err(error) => HttpResponse::BadRequest().json(json!({ "error": error.to_string() })),
    }
}

fn control(
    shared: &std::sync::Arc<Shared>,
    method: &str,
    path: &[&str],
    body: &[u8],
) -> Result<Value, ControlError> {
    let faults = Faults::of(shared);
    let done = json!({ "done": true });
    match (method, path) {
        ("POST", ["faults"]) => {
            plan(&faults, serde_json::from_slice(body)?);
            Ok(done)
        }
        ("DELETE", ["faults"]) => {
            faults.clear();
            Ok(done)
        }
        ("POST", ["down"]) => {
            let wish: Down = serde_json::from_slice(body)?;
            faults.down(wish.down);
            Ok(done)
        }
        ("POST", ["webhooks"]) => {
            plan_webhooks(&faults, serde_json::from_slice(body)?);
            Ok(done)
        }
        ("POST", ["events", id, "redeliver"]) => Ok(json!({ "deliveries": faults.redeliver(id)? })),
        ("POST", ["charges", id, "dispute"]) => {
            let wish: Dispute = serde_json::from_slice(body)?;
            Ok(json!({ "dispute": faults.dispute(id, &wish.reason)? }))
        }
        ("POST", ["disputes", id, "decide"]) => {
            let wish: Decide = serde_json::from_slice(body)?;
            faults.decide_dispute(id, wish.won)?;
            Ok(done)
        }
        ("POST", ["subscriptions", id, "pause"]) => {
            let wish: Pause = serde_json::from_slice(body)?;
            faults.pause_subscription(id, &wish.reason)?;
            Ok(done)
        }
        ("DELETE", ["objects", id]) => {
            faults.forget(id)?;
            Ok(done)
        }
        ("POST", ["intents", id, "authenticate"]) => {
            let wish: Authenticate = serde_json::from_slice(body)?;
            faults.authenticate(id, wish.succeed)?;
            Ok(done)
        }
        ("POST", ["customers", id, "decline_next"]) => {
            let wish: Decline = serde_json::from_slice(body)?;
            faults.decline_next_charge(id, &wish.decline_code)?;
            Ok(done)
        }
        ("POST", ["customers", id, "fail_finalization"]) => {
            let wish: FailFinalization = serde_json::from_slice(body)?;
            faults.fail_next_finalization(id, &wish.code)?;
            Ok(done)
        }
        ("POST", ["clock", "advance"]) => {
            let wish: Advance = serde_json::from_slice(body)?;
            let mut inner = shared.lock();
            inner.ahead += wish.seconds;
            shared.catch_up(&mut inner);
            Ok(json!({ "now": inner.world.now }))
        }
        ("GET", ["state"]) => Ok(state(shared)),
        ("GET", ["deliveries"]) => Ok(deliveries(shared)),
        ("GET", ["objects", id]) => Ok(visible(&shared.lock().world.copy(id))),
        _ => Err(ControlError::Route),
    }
}

fn plan(faults: &Faults, wish: PlanFault) {
    let fault = match wish.fault {
        FaultName::DropAnswer => Fault::DropAnswer,
        FaultName::RateLimit => Fault::RateLimit {
            retry_after: wish.retry_after,
        },
        FaultName::ServerError => Fault::ServerError { committed: false },
        FaultName::ServerErrorAfterCommit => Fault::ServerError { committed: true },
        FaultName::Unavailable => Fault::Unavailable,
        FaultName::Delay => Fault::Delay(Duration::from_millis(wish.delay_ms)),
        FaultName::Hang => Fault::Hang,
        FaultName::HangAnswer => Fault::HangAnswer,
    };
    faults.next(
        wish.times,
        Matching::from_parts(wish.method, wish.path),
        fault,
    );
}

fn plan_webhooks(faults: &Faults, wish: PlanWebhooks) {
    if let Some(hold) = wish.hold {
        faults.hold_webhooks(hold);
    }
    if let Some(times) = wish.drop_next {
        faults.drop_webhooks(times, &wish.types);
    }
    if let Some(times) = wish.duplicate_next {
        faults.duplicate_webhooks(times, &wish.types);
    }
    if let Some(delay) = wish.delay_ms {
        faults.delay_webhooks(Duration::from_millis(delay));
    }
    if let Some(order) = wish.order {
        faults.order_webhooks(match order {
            OrderName::OldestFirst => DeliveryOrder::OldestFirst,
            OrderName::NewestFirst => DeliveryOrder::NewestFirst,
            OrderName::Shuffled => DeliveryOrder::Shuffled(wish.seed),
        });
    }
}

fn state(shared: &Shared) -> Value {
    let inner = shared.lock();
    let counts: serde_json::Map<_, _> = Kind::ALL
        .into_iter()
        .map(|kind| (kind.object().to_owned(), json!(inner.world.count(kind))))
        .collect();
    json!({
        "now": shared.now(&inner),
        "calls": Shared::counters(&inner),
        "objects": counts,
    })
}

fn deliveries(shared: &Shared) -> Value {
    let all = shared.lock().deliveries.list();
    let rows = all.iter().map(|delivery| {
        json!({
            "event": delivery.event_id,
            "type": delivery.event_type,
            "url": delivery.url,
            "attempts": delivery.attempts,
            "state": match delivery.state {
                DeliveryState::Pending => "pending",
                DeliveryState::Delivered => "delivered",
                DeliveryState::Dropped => "dropped",
                DeliveryState::GivenUp => "given_up",
            },
        })
    });
    Value::Array(rows.collect())
}
