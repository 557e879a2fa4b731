//! Units of an embedder's own metric, set aside while something happens elsewhere.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, delete, get, post, web};
use rawdrive_plans::{Metric, PlansTx as _};
use rawdrive_store::{Release, WriteTx};
use rawdrive_tenancy_core::id::{HoldId, TypedId};
use rawdrive_usage::{
    Charge, HoldState, MAX_RESERVATION_SECONDS, MAX_UNITS, QuotaCheck, Refused, Reservation,
    ReservationError, counter, extend_reservation, is_subject, make_reservation,
    release_reservation, settle_reservation,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::{App, time};
use crate::auth::{Member, Scoped};
use crate::idempotent_write::{Answer, Begin, mutate, no_body};
use crate::openapi::headers::Idempotent;
use crate::openapi::words::ReservationStateName;
use crate::web::{Body, Code, Nullable, Problem, Validator, parse_json, path_id, sentence};

/// Units to set aside.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "metric": "api_calls", "amount": 25, "ttl_seconds": 300 }))]
pub(crate) struct NewReservation {
    /// One that this service lets programs report: its operator declares it with `ingest = true`.
    metric: String,
    /// What it is counted for apart, for a metric that is. 1 to 128 visible ASCII characters; no personal data.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    subject: Nullable<String>,
    /// A whole number from 1 to 2^53 − 1.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_u64)]
    amount: u64,
    /// For how long they are held unless they are settled, extended or deleted: 1 second to a day.
    #[schema(minimum = 1, maximum = 86_400)]
    ttl_seconds: u32,
}

/// What a reservation came to.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "amount": 21 }))]
pub(crate) struct SettleReservation {
    /// What was used: by default what is held. More takes the rest as well, within the limit.
    #[serde(default)]
    #[schema(value_type = Option<u64>, maximum = 9_007_199_254_740_991_u64)]
    amount: Nullable<u64>,
}

/// For how long a reservation is still needed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "ttl_seconds": 300 }))]
pub(crate) struct ExtendReservation {
    /// From now on: 1 second to a day. One that ends later anyway stays as it is.
    #[schema(minimum = 1, maximum = 86_400)]
    ttl_seconds: u32,
}

#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "hld_0192f0c1a2b37c4d8e5f60718293a4b5", "metric": "api_calls", "subject": null, "amount": 25, "state": "held",
    "expires_at": "2026-09-14T10:37:00Z", "created_at": "2026-09-14T10:32:00Z",
}))]
pub(crate) struct ReservationView {
    id: String,
    metric: String,
    #[schema(required = true)]
    subject: Option<String>,
    /// What is held; of a settled reservation, what was used.
    amount: u64,
    #[schema(value_type = ReservationStateName)]
    state: &'static str,
    /// When what is held is given back by itself.
    expires_at: String,
    created_at: String,
}

impl ReservationView {
    fn of(app: &App, reservation: &Reservation) -> Self {
        let subject = &reservation.key.subject;
        Self {
            id: reservation.id.to_string(),
            metric: reservation.key.metric.to_string(),
            subject: (!subject.is_empty()).then(|| subject.clone()),
            amount: reservation.amount,
            state: match reservation.state_at(app.env().lease_now()) {
                HoldState::Held => "held",
                HoldState::Committed => "settled",
                HoldState::Released => "deleted",
                HoldState::Expired => "expired",
            },
            expires_at: time(reservation.expires_at),
            created_at: time(reservation.created_at),
        }
    }
}

/// Within the transaction that met it: what the problem says is what that has read.
async fn refusal(app: &App, tx: &mut WriteTx, error: ReservationError) -> Problem {
    match error {
        ReservationError::Exceeded(exceeded) => match tx.entitlements().await {
            Ok(entitlements) => {
                let check = QuotaCheck::refused(&entitlements, &exceeded, app.env().now());
                app.refused(Refused::Quota(Box::new(check)))
            }
            Err(error) => error.into(),
        },
        ReservationError::Unknown => Problem::not_found(),
        error @ (ReservationError::TooMany
        | ReservationError::Ended(_)
        | ReservationError::Settled(_)) => Problem::new(Code::Conflict, sentence(&error)),
        ReservationError::Store(error) => error.into(),
    }
}

struct Wanted {
    metric: Metric,
    subject: Option<String>,
    amount: u64,
    ttl_seconds: u32,
}

fn check_ttl(v: &mut Validator, seconds: u32) {
    v.require(
        "ttl_seconds",
        (1..=MAX_RESERVATION_SECONDS).contains(&seconds),
        "expected a whole number from 1 to 86400",
    );
}

fn read_new(app: &App, bytes: &[u8]) -> Result<Wanted, Problem> {
    let input: NewReservation = parse_json(bytes)?;
    let mut v = Validator::new();
    let metric = input.metric.parse::<Metric>().ok();
    let declared = metric.and_then(|metric| {
        let definition = app.catalogue.definition(&metric)?;
        Some((metric, definition))
    });
    let subject = input.subject.value();
    match (&declared, &subject) {
        (None, _) => v.refuse("metric", "is no metric of this installation"),
        (Some((_, definition)), _) if !definition.ingest => v.refuse(
            "metric",
            "is counted by this installation itself: only a metric that plans.toml declares with ingest = true can be reserved",
        ),
        (Some((_, definition)), subject) => match (&definition.per, subject) {
            (Some(per), None) => v.refuse("subject", format!("is required for this metric: a {per}")),
            (None, Some(_)) => v.refuse("subject", "must be left out for this metric"),
            (Some(_), Some(subject)) => v.require(
                "subject",
                is_subject(subject),
                "expected 1 to 128 visible ASCII characters",
            ),
            (None, None) => {}
        },
    }
    v.require(
        "amount",
        (1..=MAX_UNITS).contains(&input.amount),
        "expected a whole number from 1 to 9007199254740991",
    );
    check_ttl(&mut v, input.ttl_seconds);
    let (metric, _) = v.finish_with(declared)?;
    Ok(Wanted {
        metric,
        subject,
        amount: input.amount,
        ttl_seconds: input.ttl_seconds,
    })
}

/// Sets units of an own metric aside, within the limit in force, before what uses them happens elsewhere. What is not
/// settled, extended or deleted in time is given back by itself, whatever happens to whom.
#[utoipa::path(tag = "usage", security(("bearer" = [])), params(Idempotent), request_body = NewReservation, responses((status = 201, body = ReservationView), (status = 401), (status = 402, description = "quota_exceeded, workspace_read_only"), (status = 409, description = "conflict: 1,000 are open"), (status = 422)))]
#[post("/v1/usage/reservations")]
pub(crate) async fn create_reservation(
    app: Data<App>,
    scoped: Scoped<Member>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        Begin::Writable,
        |bytes| read_new(&app, bytes),
        async |tx, id, wanted| {
            let entitlements = tx.entitlements().await?;
            let (env, subject) = (app.env(), wanted.subject.as_deref());
            let key = counter(&entitlements, &wanted.metric, subject, env.now())
                .map_err(|mistake| Problem::invalid_field("metric", mistake))?;
            let charge = Charge {
                key,
                amount: wanted.amount,
            };
            let id = HoldId::from_uuid(id);
            match make_reservation(tx, env, id, charge, wanted.ttl_seconds).await {
                Ok(made) => Answer::created(&ReservationView::of(&app, &made)),
                Err(error) => Err(refusal(&app, tx, error).await),
            }
        },
    )
    .await
}

/// A reservation. It can be read for a day after it has ended.
#[utoipa::path(tag = "usage", security(("bearer" = [])), params(("id" = String, Path)), responses((status = 200, body = ReservationView), (status = 401), (status = 404)))]
#[get("/v1/usage/reservations/{id}")]
pub(crate) async fn show_reservation(
    app: Data<App>,
    scoped: Scoped<Member>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let reader = app.store.read(&scoped.scope);
    let found = reader.reservation(path_id(&id)?).await?;
    let reservation = found.ok_or_else(Problem::not_found)?;
    Ok(HttpResponse::Ok().json(ReservationView::of(&app, &reservation)))
}

/// Turns a reservation into usage. Less than is held gives the rest back; more takes the rest, exactly, or is refused and
/// leaves it held: of that refusal `requested` is the whole amount, and `reserved` leaves this reservation out. Settling again
/// with the same amount answers the same.
#[utoipa::path(tag = "usage", security(("bearer" = [])), params(("id" = String, Path), Idempotent), request_body = SettleReservation, responses((status = 200, body = ReservationView), (status = 401), (status = 402, description = "quota_exceeded"), (status = 404), (status = 409, description = "conflict: it has ended, or was settled with another amount"), (status = 422)))]
#[post("/v1/usage/reservations/{id}/settle")]
pub(crate) async fn settle_reserved_units(
    app: Data<App>,
    scoped: Scoped<Member>,
    id: web::Path<String>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let read = |bytes: &[u8]| {
        let input = if bytes.is_empty() {
            SettleReservation {
                amount: Nullable::Absent,
            }
        } else {
            parse_json::<SettleReservation>(bytes)?
        };
        let amount = input.amount.value();
        let mut v = Validator::new();
        v.require(
            "amount",
            amount.is_none_or(|amount| amount <= MAX_UNITS),
            "expected a whole number from 0 to 9007199254740991",
        );
        v.finish()?;
        Ok(amount)
    };
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        // It has happened.
        Begin::Despite(Release::Metering),
        read,
        async |tx, _, amount| {
            let id = path_id(&id)?;
            match settle_reservation(tx, app.env(), id, amount).await {
                Ok(settled) => Answer::ok(&ReservationView::of(&app, &settled)),
                Err(error) => Err(refusal(&app, tx, error).await),
            }
        },
    )
    .await
}

/// Keeps a reservation for longer.
#[utoipa::path(tag = "usage", security(("bearer" = [])), params(("id" = String, Path), Idempotent), request_body = ExtendReservation, responses((status = 200, body = ReservationView), (status = 401), (status = 404), (status = 409, description = "conflict: it has ended or was settled"), (status = 422)))]
#[post("/v1/usage/reservations/{id}/extend")]
pub(crate) async fn extend_reserved_units(
    app: Data<App>,
    scoped: Scoped<Member>,
    id: web::Path<String>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let read = |bytes: &[u8]| {
        let input: ExtendReservation = parse_json(bytes)?;
        let mut v = Validator::new();
        check_ttl(&mut v, input.ttl_seconds);
        v.finish()?;
        Ok(input.ttl_seconds)
    };
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        Begin::Despite(Release::Freeing),
        read,
        async |tx, _, ttl_seconds| {
            let id = path_id(&id)?;
            match extend_reservation(tx, app.env(), id, ttl_seconds).await {
                Ok(extended) => Answer::ok(&ReservationView::of(&app, &extended)),
                Err(error) => Err(refusal(&app, tx, error).await),
            }
        },
    )
    .await
}

/// Gives a reservation back. One that has been given back or has expired stays so.
#[utoipa::path(tag = "usage", security(("bearer" = [])), params(("id" = String, Path), Idempotent), responses((status = 204), (status = 401), (status = 404), (status = 409, description = "conflict: it was settled")))]
#[delete("/v1/usage/reservations/{id}")]
pub(crate) async fn delete_reservation(
    app: Data<App>,
    scoped: Scoped<Member>,
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
            let id = path_id(&id)?;
            match release_reservation(tx, id).await {
                Ok(()) => Ok(Answer::no_content()),
                Err(error) => Err(refusal(&app, tx, error).await),
            }
        },
    )
    .await
}
