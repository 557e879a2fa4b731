//! The shape of every idempotent write: claim the key, read, begin, one verb, store the answer, commit.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use rawdrive_store::{Claim, Claimed, Release, Replay, WriteTx, in_request};
use rawdrive_tenancy_core::{Causes, Commit, WorkspaceScope};
use serde::Serialize;
use uuid::Uuid;

use crate::app::App;
use crate::web::{
    Body, Code, EntityTag, IdempotencyKey, Problem, body_digest, fingerprint, parse_json, view_etag,
};

const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What a verb answers, before it is sent and stored.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    etag: Option<EntityTag>,
    body: Vec<u8>,
}

impl Answer {
    /// A JSON answer.
    ///
    /// # Errors
    /// 500: the view has no JSON text.
    pub fn json(status: StatusCode, view: &impl Serialize) -> Result<Self, Problem> {
        Ok(Self {
            status,
            etag: None,
            body: serde_json::to_vec(view).map_err(Problem::internal)?,
        })
    }

    /// 201 with JSON.
    ///
    /// # Errors
    /// As [`json`](Self::json).
    pub fn created(view: &impl Serialize) -> Result<Self, Problem> {
        Self::json(StatusCode::CREATED, view)
    }

    /// 200 with JSON.
    ///
    /// # Errors
    /// As [`json`](Self::json).
    pub fn ok(view: &impl Serialize) -> Result<Self, Problem> {
        Self::json(StatusCode::OK, view)
    }

    /// 204.
    #[must_use]
    pub fn no_content() -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            etag: None,
            body: Vec::new(),
        }
    }

    /// With its `ETag`.
    #[must_use]
    pub fn tagged(mut self, etag: EntityTag) -> Self {
        self.etag = Some(etag);
        self
    }

    /// With the tag of what it shows of a version: see [`view_etag`].
    #[must_use]
    pub fn tagged_view(self, version: &EntityTag) -> Self {
        let etag = view_etag(version, &self.body);
        self.tagged(etag)
    }

    /// As it is stored under an idempotency key; with the digest of the body where that is not the key's own.
    #[must_use]
    pub fn stored(&self, body_digest: Option<Vec<u8>>) -> Replay {
        Replay {
            status: self.status.as_u16(),
            etag: self.etag.as_ref().map(ToString::to_string),
            body: self.body.clone(),
            body_digest,
        }
    }

    /// The answer to the request.
    #[must_use]
    pub fn send(self, app: &App) -> HttpResponse {
        respond(
            app,
            self.status,
            self.etag.map(|t| t.to_string()).as_deref(),
            self.body,
            false,
        )
    }
}

/// Where what was created can be read: by the kind of its id, for kinds that have an address of their own. From the
/// body, so that a replay says it too.
fn address_of(app: &App, body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Created<'a> {
        #[serde(borrow)]
        id: &'a str,
    }
    let Created { id } = serde_json::from_slice(body).ok()?;
    app.address_of(id)
}

fn respond(
    app: &App,
    status: StatusCode,
    etag: Option<&str>,
    body: Vec<u8>,
    replayed: bool,
) -> HttpResponse {
    let mut response = HttpResponse::build(status);
    if !body.is_empty() {
        let problem = status.is_client_error();
        response.insert_header((
            CONTENT_TYPE,
            if problem {
                "application/problem+json"
            } else {
                "application/json"
            },
        ));
    }
    if status == StatusCode::CREATED
        && let Some(address) = address_of(app, &body)
    {
        response.insert_header((LOCATION, address));
    }
    if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(etag).ok()) {
        response.insert_header((ETAG, etag));
    }
    if replayed {
        response.insert_header((REPLAYED, "true"));
    }
    if body.is_empty() {
        response.finish()
    } else {
        response.body(body)
    }
}

/// The stored answer, said to be a replay.
#[must_use]
pub fn replay(app: &App, stored: Replay) -> HttpResponse {
    let status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    respond(app, status, stored.etag.as_deref(), stored.body, true)
}

/// How a mutation's transaction begins.
#[derive(Debug, Clone, Copy)]
pub enum Begin {
    /// Refused while the workspace takes no writes.
    Writable,
    /// Right also then.
    Despite(Release),
}

/// What a key came to.
#[derive(Debug)]
pub enum KeyOutcome {
    /// Go on, with the claim if there was a key.
    Go(Option<Claim>),
    /// Answer this at once.
    Replay(Replay),
}

/// Claims the request's `Idempotency-Key`, if it has one.
///
/// # Errors
/// 400 for what is no key, 409 `idempotency_in_flight`, 422 `idempotency_key_reused`, or the database does not answer.
pub async fn claim(
    app: &App,
    scope: &WorkspaceScope,
    request: &HttpRequest,
    digest: &[u8; 32],
) -> Result<KeyOutcome, Problem> {
    let Some(key) = IdempotencyKey::of(request.headers())? else {
        return Ok(KeyOutcome::Go(None));
    };
    let route = request.uri().path_and_query().map_or("", |p| p.as_str());
    let header = |name: &'static str| {
        (
            name,
            request
                .headers()
                .get(name)
                .and_then(|v| v.to_str().ok())
                .unwrap_or(""),
        )
    };
    let print = fingerprint(
        request.method().as_str(),
        route,
        &[header("if-match")],
        digest,
    );
    match app.store.claim_key(scope, key.as_str(), print).await? {
        Claimed::Mine(claim) => Ok(KeyOutcome::Go(Some(claim))),
        Claimed::Replay(stored) => Ok(KeyOutcome::Replay(stored)),
        Claimed::Reused => Err(reused()),
        Claimed::InFlight { retry_after } => Err(Problem::new(
            Code::IdempotencyInFlight,
            "A request with this Idempotency-Key is still under way.",
        )
        .retry_after(u64::from(retry_after))),
    }
}

/// The key was used for another request.
#[must_use]
pub fn reused() -> Problem {
    Problem::new(
        Code::IdempotencyKeyReused,
        "This Idempotency-Key was used before for another request.",
    )
}

/// After a refusal: a 422 is stored, so that it replays; anything else may change, and gives the key back.
pub async fn settle_refusal(
    app: &App,
    scope: &WorkspaceScope,
    claim: Option<&Claim>,
    problem: &Problem,
) {
    let Some(claim) = claim else { return };
    let outcome = if problem.code.number() == 422 {
        let stored = Replay {
            status: 422,
            etag: None,
            body: problem.body_under(app.prefix()),
            body_digest: None,
        };
        app.store.complete_key(scope, claim, &stored).await
    } else {
        app.store.abandon_key(scope, claim).await
    };
    if let Err(error) = outcome {
        // The lease ends by itself; the refusal is the answer that matters now.
        tracing::warn!(
            error = %Causes(&error),
            "an idempotency key was not settled"
        );
    }
}

/// Runs a mutation of one transaction. `read` turns the body into the verb's input and refuses what is not
/// acceptable, before anything begins; `verb` works in the transaction and is given the id that a new thing
/// must have.
///
/// # Errors
/// What `read` and `verb` refuse, what the key or the workspace's state does, or the database's failure.
pub async fn mutate<T>(
    app: &App,
    scope: &WorkspaceScope,
    request: &HttpRequest,
    body: Body,
    begin: Begin,
    read: impl FnOnce(&[u8]) -> Result<T, Problem>,
    verb: impl AsyncFnOnce(&mut WriteTx, Uuid, T) -> Result<Answer, Problem>,
) -> Result<HttpResponse, Problem> {
    let bytes = body.json_bytes().await?;
    let claim = match claim(app, scope, request, &body_digest(&bytes)).await? {
        KeyOutcome::Go(claim) => claim,
        KeyOutcome::Replay(stored) => return Ok(replay(app, stored)),
    };
    let effect = async {
        let input = read(&bytes)?;
        let mut tx = match begin {
            Begin::Writable => app
                .store
                .begin(scope)
                .await
                .map_err(|e| app.begin_problem(e))?,
            Begin::Despite(reason) => app.store.begin_despite_read_only(scope, reason).await?,
        };
        let id = claim
            .as_ref()
            .map_or_else(|| app.env().uuid(), |claim| claim.effect_id);
        let answer = verb(&mut tx, id, input).await?;
        if let Some(claim) = &claim {
            tx.complete_key(claim, &answer.stored(None)).await?;
        }
        tx.commit().await?;
        Ok(answer)
    };
    match effect.await {
        Ok(answer) => Ok(answer.send(app)),
        Err(problem) => {
            settle_refusal(app, scope, claim.as_ref(), &problem).await;
            Err(problem)
        }
    }
}

/// Runs a mutation that asks somebody outside, in transactions of its own. It runs in a task of its own: a
/// cancelled request drops the handler, and not what was begun.
///
/// # Errors
/// As [`mutate`].
pub async fn mutate_outside<T, F>(
    app: &Data<App>,
    scope: &WorkspaceScope,
    request: &HttpRequest,
    body: Body,
    read: impl FnOnce(&[u8]) -> Result<T, Problem>,
    act: impl FnOnce(Data<App>, WorkspaceScope, T) -> F,
) -> Result<HttpResponse, Problem>
where
    F: Future<Output = Result<Answer, Problem>> + Send + 'static,
{
    let bytes = body.json_bytes().await?;
    let claim = match claim(app, scope, request, &body_digest(&bytes)).await? {
        KeyOutcome::Go(claim) => claim,
        KeyOutcome::Replay(stored) => return Ok(replay(app, stored)),
    };
    let input = match read(&bytes) {
        Ok(input) => input,
        Err(problem) => {
            settle_refusal(app, scope, claim.as_ref(), &problem).await;
            return Err(problem);
        }
    };
    let (acting, shared, scope) = (act(app.clone(), *scope, input), app.clone(), *scope);
    let task = tokio::spawn(in_request(async move {
        let acted = acting.await;
        match (&acted, &claim) {
            (Ok(answer), Some(claim)) => {
                let stored = answer.stored(None);
                if let Err(error) = shared.store.complete_key(&scope, claim, &stored).await {
                    // What was asked for is done; the same key finds it done, and does not do it twice.
                    tracing::warn!(
                        error = %Causes(&error),
                        "an answer was not stored under its idempotency key"
                    );
                }
            }
            (Err(problem), claim) => settle_refusal(&shared, &scope, claim.as_ref(), problem).await,
            (Ok(_), None) => {}
        }
        acted
    }));
    Ok(task.await.map_err(Problem::internal)??.send(app))
}

/// For mutations without a body.
///
/// # Errors
/// None.
pub fn no_body(_: &[u8]) -> Result<(), Problem> {
    Ok(())
}

/// For mutations that take no fields: the body is empty, or an empty object.
///
/// # Errors
/// 400 or 422 for any other body.
pub fn nothing(bytes: &[u8]) -> Result<(), Problem> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    if bytes.is_empty() {
        return Ok(());
    }
    parse_json(bytes).map(|Nothing {}| ())
}
