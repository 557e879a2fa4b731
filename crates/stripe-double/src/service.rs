//! One request to the API: authentication, faults, idempotency, the work, the answer.

use std::sync::Arc;

use serde_json::Value;

use crate::faults::Fault;
use crate::idempotency::{Claim, Stored};
use crate::json::Fields as _;
use crate::routes;
use crate::shared::{Call, Inner, Shared};
use crate::state::{Cause, random_text};
use crate::wire::error::{Answer, ApiError};
use crate::wire::form;
use crate::wire::params::Params;

/// A request, read in full.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// The path, with the leading `/v1/`.
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: String,
    pub(crate) authorization: Option<String>,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) user_agent: Option<String>,
}

/// An answer, or none.
#[derive(Debug)]
pub(crate) enum Reply {
    Answer {
        stored: Stored,
        replayed: bool,
        retry_after: Option<u64>,
        idempotency_key: Option<String>,
    },
    /// The connection is closed.
    Nothing,
}

/// Answers a request. Runs to its end even if the caller has gone, as Stripe does.
pub(crate) async fn answer(shared: Arc<Shared>, request: Request) -> Reply {
    let reply = reply(&shared, request.clone()).await;
    if let Some(recorder) = &shared.recorder {
        recorder.note(&request, &reply);
    }
    reply
}

async fn reply(shared: &Shared, request: Request) -> Reply {
    let (fault, down) = {
        let mut inner = shared.lock();
        let fault = inner.faults.take(&request.method, &request.path);
        (fault, inner.faults.down)
    };
    if down {
        log(shared, &request, None, false, false);
        return Reply::Nothing;
    }
    match fault {
        Some(Fault::Hang) => {
            log(shared, &request, None, false, false);
            shared.released.notified().await;
            return Reply::Nothing;
        }
        Some(Fault::RateLimit { retry_after }) => {
            return refuse(shared, &request, ApiError::rate_limited(retry_after));
        }
        Some(Fault::Unavailable) => {
            return refuse(shared, &request, ApiError::internal(503, false));
        }
        _ => {}
    }
    let params = match authorize(shared, &request).and_then(|()| read(&request)) {
        Ok(params) => params,
        Err(error) => return refuse(shared, &request, error),
    };
    let key = request.idempotency_key.clone();
    let key = key.filter(|_| request.method == "POST");
    if let Some(key) = &key {
        let claim = {
            let mut inner = shared.lock();
            let now = shared.now(&inner);
            inner.keys.claim(key, &fingerprint(&request), now)
        };
        match claim {
            Claim::New => {}
            Claim::Refused(error) => return refuse(shared, &request, error),
            Claim::Replay(stored) => {
                return conclude(shared, &request, fault, stored, true, false, None).await;
            }
        }
    }
    if let Some(Fault::Delay(time)) = &fault {
        tokio::time::sleep(*time).await;
    }
    let executes = fault != Some(Fault::ServerError { committed: false });
    let request_id = format!("req_{}", random_text(14));
    let (stored, begun, retry_after) = {
        let mut inner = shared.lock();
        let mut answer = if executes {
            work(shared, &mut inner, &request, &params, &request_id)
        } else {
            Ok(Value::Null)
        };
        if matches!(fault, Some(Fault::ServerError { .. })) {
            answer = Err(ApiError::internal(500, true));
        }
        let begun = answer.as_ref().map_or_else(|error| error.begun, |_| true);
        let retry_after = answer.as_ref().err().and_then(|error| error.retry_after);
        let stored = store(answer, request_id);
        if let Some(key) = &key {
            inner.keys.settle(key, begun.then(|| stored.clone()));
        }
        (stored, begun, retry_after)
    };
    let executed = executes && begun;
    conclude(
        shared,
        &request,
        fault,
        stored,
        false,
        executed,
        retry_after,
    )
    .await
}

/// Sends what has been done, unless a fault keeps it back.
async fn conclude(
    shared: &Shared,
    request: &Request,
    fault: Option<Fault>,
    stored: Stored,
    replayed: bool,
    executed: bool,
    retry_after: Option<u64>,
) -> Reply {
    match fault {
        Some(Fault::DropAnswer) => {
            log(shared, request, None, replayed, executed);
            Reply::Nothing
        }
        Some(Fault::HangAnswer) => {
            log(shared, request, None, replayed, executed);
            shared.released.notified().await;
            Reply::Nothing
        }
        _ => {
            log(shared, request, Some(stored.status), replayed, executed);
            Reply::Answer {
                stored,
                replayed,
                retry_after,
                idempotency_key: request.idempotency_key.clone(),
            }
        }
    }
}

/// Answers an error without having worked.
fn refuse(shared: &Shared, request: &Request, error: ApiError) -> Reply {
    let retry_after = error.retry_after;
    let stored = store(Err(error), format!("req_{}", random_text(14)));
    log(shared, request, Some(stored.status), false, false);
    Reply::Answer {
        stored,
        replayed: false,
        retry_after,
        idempotency_key: request.idempotency_key.clone(),
    }
}

fn log(shared: &Shared, request: &Request, status: Option<u16>, replayed: bool, executed: bool) {
    tracing::debug!(method = %request.method, path = %request.path, ?status, replayed, "call");
    shared.lock().calls.push(Call {
        method: request.method.clone(),
        path: request.path.clone(),
        query: request.query.clone(),
        idempotency_key: request.idempotency_key.clone(),
        status,
        replayed,
        executed,
    });
}

fn store(answer: Answer, request_id: String) -> Stored {
    let (status, mut body) = match answer {
        Ok(body) => (200, body),
        Err(error) => (error.status, error.body()),
    };
    if body.get("error").is_some_and(Value::is_object) {
        let url = format!("https://dashboard.stripe.com/test/logs/{request_id}");
        body["error"]["request_log_url"] = Value::String(url);
    }
    Stored {
        status,
        body: serde_json::to_string_pretty(&body).unwrap_or_default(),
        request_id,
    }
}

/// The secret key, as a bearer token or as the user of basic authentication.
fn authorize(shared: &Shared, request: &Request) -> Result<(), ApiError> {
    let Some(header) = &request.authorization else {
        return Err(ApiError::unauthorized(
            "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication for details, or we can help at https://support.stripe.com/.",
        ));
    };
    let key = match header.split_once(' ') {
        Some(("Bearer", key)) => Some(key.trim().to_owned()),
        Some(("Basic", encoded)) => basic_user(encoded.trim()),
        _ => None,
    };
    if key.as_deref() == Some(&shared.config.secret_key) {
        return Ok(());
    }
    Err(ApiError::unauthorized("Invalid API Key provided."))
}

/// The user name in the header of basic authentication.
fn basic_user(encoded: &str) -> Option<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0_u32;
    let mut count = 0;
    let mut bytes = Vec::new();
    for byte in encoded.bytes().filter(|byte| *byte != b'=') {
        let value = ALPHABET.iter().position(|letter| *letter == byte)?;
        bits = (bits << 6) | u32::try_from(value).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff).ok()?);
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    text.split_once(':').map(|(user, _)| user.to_owned())
}

/// The parameters: of the query, and of the body.
fn read(request: &Request) -> Result<Params, ApiError> {
    if request.method == "DELETE" && !request.body.is_empty() {
        // Stripe's SDKs send a DELETE's parameters in the query. What a body becomes on its way is nobody's promise.
        let mut refused = ApiError::invalid(
            "A DELETE takes its parameters in the query string, not in the body.",
        );
        refused.begun = false;
        return Err(refused);
    }
    let text = if request.query.is_empty() {
        request.body.clone()
    } else {
        format!("{}&{}", request.query, request.body)
    };
    let fields = form::decode(&text).map_err(|error| {
        let mut refused = ApiError::invalid(error.to_string());
        refused.begun = false;
        refused
    })?;
    Ok(Params::new(fields))
}

fn fingerprint(request: &Request) -> String {
    // The order of parameters is no difference.
    let mut pairs: Vec<_> = request.body.split('&').collect();
    pairs.sort_unstable();
    format!("{} {} {}", request.method, request.path, pairs.join("&"))
}

/// Lets an endpoint do its work, at the time of the clock that the request is about.
fn work(
    shared: &Shared,
    inner: &mut Inner,
    request: &Request,
    params: &Params,
    request_id: &str,
) -> Answer {
    shared.catch_up(inner);
    let path = request.path.trim_start_matches("/v1/");
    let path: Vec<_> = path.trim_end_matches('/').split('/').collect();
    let real_now = inner.world.now;
    let clock = routes::clock_of_call(&inner.world, &path, params);
    if let Some(clock) = clock.filter(|_| !path.contains(&"test_clocks")) {
        inner.world.now = inner.world.copy(&clock).number("frozen_time");
    }
    inner.world.cause = Cause {
        request_id: Some(request_id.to_owned()),
        idempotency_key: request.idempotency_key.clone(),
    };
    let before = (request.method != "GET").then(|| inner.world.clone());
    let answer = routes::call(&mut inner.world, &request.method, &path, params);
    match (&answer, before) {
        // A declined card leaves its traces; every other error leaves none.
        (Err(error), Some(before)) if error.status != 402 => inner.world = before,
        _ => {}
    }
    inner.world.now = real_now;
    inner.world.cause = Cause::default();
    shared.take_up(inner);
    shared.catch_up_after(inner);
    answer
}
