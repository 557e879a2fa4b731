//! Whether the server lives, and whether it can serve.

use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::openapi::words::{DependencyStatusName, ReadinessName};

/// How long a dependency may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Serialize, ToSchema)]
pub(crate) struct Liveness {
    status: &'static str,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Dependency {
    name: &'static str,
    /// `ok`, `unavailable`, or `full`: it has no room to write, and reading goes on.
    #[schema(value_type = DependencyStatusName)]
    status: &'static str,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// `ready` or `unavailable`.
    #[schema(value_type = ReadinessName)]
    status: &'static str,
    dependencies: Vec<Dependency>,
}

/// The process answers.
#[utoipa::path(operation_id = "get_liveness", tag = "operation", responses((status = 200, body = Liveness)))]
#[get("/livez")]
pub(crate) async fn livez() -> HttpResponse {
    HttpResponse::Ok().json(Liveness { status: "ok" })
}

/// Each dependency by name; 503 when the database, or what is kept beside it, does not answer, and for no other.
#[utoipa::path(operation_id = "get_readiness", tag = "operation", responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
#[get("/readyz")]
pub(crate) async fn readyz(app: web::Data<App>) -> HttpResponse {
    let asked = app.dependencies.iter().map(|dependency| async {
        let answers = tokio::time::timeout(PATIENCE, dependency.answers()).await;
        (dependency.name(), answers.unwrap_or(false))
    });
    let (database, others) = futures_util::future::join(
        tokio::time::timeout(PATIENCE, app.store.ping()),
        futures_util::future::join_all(asked),
    )
    .await;
    let state = |name, ok: bool| Dependency {
        name,
        status: if ok { "ok" } else { "unavailable" },
    };
    let mut dependencies = vec![state("database", matches!(database, Ok(Ok(()))))];
    dependencies.extend(others.into_iter().map(|(name, ok)| state(name, ok)));
    let ready = dependencies.iter().all(|d| d.status == "ok");
    // It serves reads all the same.
    if ready && app.store.is_full() {
        dependencies[0].status = "full";
    }
    // Named, and nothing that the server cannot do without: asked beside the requests, and not for this answer.
    if let Some(live) = app.store.live_usage() {
        dependencies.push(state("redis", live.answers()));
    }
    if let Some(answers) = app.billing.provider_answers() {
        dependencies.push(state("stripe", answers));
    }
    let status = if ready { "ready" } else { "unavailable" };
    let mut response = if ready {
        HttpResponse::Ok()
    } else {
        // As long as a look at what does not answer takes.
        let wait = (header::RETRY_AFTER, PATIENCE.as_secs());
        let mut response = HttpResponse::ServiceUnavailable();
        response.insert_header(wait);
        response
    };
    response.json(Readiness {
        status,
        dependencies,
    })
}
