//! The outermost middleware: what holds for every answer, whoever gave it.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, EitherBody, MessageBody};
use actix_web::dev::{Payload, Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::error::{InternalError, PayloadError};
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::http::{ConnectionType, Method, StatusCode};
use actix_web::{Error, HttpMessage};
use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::{
    Either, FutureExt, Join, LocalBoxFuture, Map, Ready as Done, join, ready as done,
};
use rawdrive_store::{InRequest, in_request};
use rawdrive_tenancy_core::Env;
use tokio::time::Instant;

use super::body::{DRAIN_BYTES, DRAIN_TIME, Drained, drain};
use super::problem::{Code, Problem};
use super::rate_limits::RateLimits;
use super::request_id::{RequestId, X_REQUEST_ID};

/// Gives every answer its `X-Request-Id`, its security headers and one line in the log; answers HEAD as GET
/// without the body; turns errors that are no problems into problems; and reads what a handler left of a
/// body, so that the client gets the answer rather than a reset.
///
/// Wrap it last, so that it is the outermost: `App::new().wrap(…).wrap(Edge::new(env))`.
///
/// The line holds the route's pattern, never the path or the query: both can carry tokens.
#[derive(Debug, Clone)]
pub struct Edge {
    env: Env,
    prefix: Arc<str>,
}

impl Edge {
    /// Request ids come from `env`.
    #[must_use]
    pub fn new(env: Env) -> Self {
        let prefix = "".into();
        Self { env, prefix }
    }

    /// Problems are explained by pages below this path: where the API is mounted there.
    #[must_use]
    pub fn problems_under(mut self, prefix: &str) -> Self {
        self.prefix = prefix.into();
        self
    }
}

impl<S, B> Transform<S, ServiceRequest> for Edge
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Transform = EdgeService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(EdgeService {
            service,
            edge: self.clone(),
        }))
    }
}

/// [`Edge`] around a service.
#[derive(Debug)]
pub struct EdgeService<S> {
    service: S,
    edge: Edge,
}

/// What is kept of a request until its answer.
#[derive(Debug)]
pub struct Started {
    at: Instant,
    id: RequestId,
    method: Method,
    prefix: Arc<str>,
}

type Answer<B> = Result<ServiceResponse<B>, Error>;
type Finished<B> = Answer<EitherBody<B>>;
type Finish<B> = fn((Answer<B>, Started)) -> Finished<B>;

impl<S, B> Service<ServiceRequest> for EdgeService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    // Requests without a body, which are most, cost no boxed future.
    type Future = Either<
        Map<Join<InRequest<S::Future>, Done<Started>>, Finish<B>>,
        LocalBoxFuture<'static, Finished<B>>,
    >;

    forward_ready!(service);

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        let started = Started {
            at: Instant::now(),
            id: RequestId::of(request.headers(), &self.edge.env),
            method: request.method().clone(),
            prefix: self.edge.prefix.clone(),
        };
        request.extensions_mut().insert(started.id.clone());
        if started.method == Method::HEAD {
            request.head_mut().method = Method::GET;
        }
        let expects = request.extensions().get::<AwaitsContinue>().cloned();
        let payload = request.take_payload();
        if matches!(payload, Payload::None) {
            let finish: Finish<B> = |(answer, started)| finish(answer, started, None);
            return Either::Left(
                join(in_request(self.service.call(request)), done(started)).map(finish),
            );
        }
        let rest = Rest::new(payload, expects.unwrap_or_default());
        request.set_payload(Payload::Stream {
            payload: Box::pin(rest.clone()),
        });
        let answer = in_request(self.service.call(request));
        Either::Right(
            async move {
                let answer = answer.await;
                let drained = rest.forget(&answer).await;
                finish(answer, started, Some(drained))
            }
            .boxed_local(),
        )
    }
}

fn finish<B: MessageBody + 'static>(
    answer: Answer<B>,
    started: Started,
    drained: Option<Drained>,
) -> Finished<B> {
    let is_head = started.method == Method::HEAD;
    let answer = match answer {
        Ok(response) => Ok(match replacement(response.status(), response.headers()) {
            Some(problem) => response
                .into_response(problem.response_under(&started.prefix))
                .map_into_right_body(),
            None => {
                let moved = moved(&response, &started.prefix);
                match (moved, is_head) {
                    (None, false) => response.map_into_left_body(),
                    (None, true) => response
                        .map_body(|_, body| BoxBody::new(Silent(body.size())))
                        .map_into_right_body(),
                    (Some(body), false) => response
                        .map_body(|_, _| BoxBody::new(body))
                        .map_into_right_body(),
                    (Some(body), true) => response
                        .map_body(|_, _| BoxBody::new(Silent(body.size())))
                        .map_into_right_body(),
                }
            }
        }),
        Err(error) => {
            let response = error.error_response();
            let response = match replacement(response.status(), response.headers()) {
                Some(problem) => problem.response_under(&started.prefix),
                None => response,
            };
            Err(response)
        }
    };
    let close = drained == Some(Drained::InPart);
    match answer {
        Ok(mut response) => {
            let route = response.request().match_pattern();
            seal(response.response_mut().headers_mut(), &started.id);
            if let Some(limits) = RateLimits::announced(response.request()) {
                limits.write(response.response_mut().headers_mut());
            }
            if close {
                response
                    .response_mut()
                    .head_mut()
                    .set_connection_type(ConnectionType::Close);
            }
            started.log(route.as_deref(), response.status());
            Ok(response)
        }
        Err(mut response) => {
            seal(response.headers_mut(), &started.id);
            if close {
                response
                    .head_mut()
                    .set_connection_type(ConnectionType::Close);
            }
            started.log(None, response.status());
            Err(InternalError::from_response("refused before a route was found", response).into())
        }
    }
}

impl Started {
    fn log(&self, route: Option<&str>, status: StatusCode) {
        tracing::info!(
            request_id = self.id.as_str(),
            method = self.method.as_str(),
            route = route.unwrap_or("none"),
            status = status.as_u16(),
            elapsed_ms = u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX),
            "request"
        );
    }
}

/// The headers of every answer.
pub(crate) fn seal(headers: &mut HeaderMap, id: &RequestId) {
    headers.insert(X_REQUEST_ID, id.clone().into_value());
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    // Nearly every JSON answer belongs to a credential (a header's, or a token in the path); a route whose
    // answer is public says so itself.
    if !headers.contains_key(header::CACHE_CONTROL) && is_json(headers) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

/// The body of a problem whose page lies below a path.
fn moved<B>(response: &ServiceResponse<B>, prefix: &str) -> Option<Vec<u8>> {
    if prefix.is_empty() {
        return None;
    }
    let problem = response.response().error()?.as_error::<Problem>()?;
    Some(problem.body_under(prefix))
}

fn media_type(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    text.split(';').next().map(str::trim)
}

fn is_json(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|t| t.ends_with("/json") || t.ends_with("+json"))
}

/// The problem that stands for an error whose text is the framework's, not ours.
fn replacement(status: StatusCode, headers: &HeaderMap) -> Option<Problem> {
    if !(status.is_client_error() || status.is_server_error()) {
        return None;
    }
    if media_type(headers).is_some_and(|media_type| media_type != "text/plain") {
        return None;
    }
    let code = match status.as_u16() {
        401 => return Some(Problem::unauthenticated()),
        404 => return Some(Problem::not_found()),
        405 => {
            let problem = Problem::new(
                Code::MethodNotAllowed,
                "This address does not answer the method.",
            );
            let allow = headers
                .get(header::ALLOW)
                .and_then(|v| v.to_str().ok())
                .unwrap_or_default();
            return Some(problem.header(header::ALLOW, allow));
        }
        403 => Code::InsufficientRole,
        408 => Code::RequestTimeout,
        409 => Code::Conflict,
        412 => Code::PreconditionFailed,
        413 => Code::PayloadTooLarge,
        415 => Code::UnsupportedMediaType,
        416 => Code::RangeNotSatisfiable,
        422 => Code::ValidationFailed,
        429 => Code::RateLimited,
        503 => Code::DependencyUnavailable,
        400..=499 => Code::MalformedRequest,
        _ => {
            return Some(Problem::internal(format!(
                "an answer of status {status} was no problem"
            )));
        }
    };
    Some(Problem::new(code, "The request was refused."))
}

/// What a handler left of a body. The handler reads through it; afterwards the rest is drained.
#[derive(Clone)]
struct Rest(Rc<RefCell<Source>>);

struct Source {
    payload: Payload,
    ended: bool,
    expects: AwaitsContinue,
}

/// Whether a client that sent `Expect: 100-continue` still waits for it. [`Server`](crate::server::Server) says so
/// beside a request, and sends `100 Continue` when the body is first read. Another server sends it at once.
#[derive(Debug, Clone, Default)]
pub(crate) struct AwaitsContinue(Rc<Cell<bool>>);

impl AwaitsContinue {
    pub(crate) fn new(waits: bool) -> Self {
        Self(Rc::new(Cell::new(waits)))
    }

    /// Whether it does.
    fn is_pending(&self) -> bool {
        self.0.get()
    }

    /// Whether it does; from now on it does not.
    pub(crate) fn take(&self) -> bool {
        self.0.take()
    }
}

impl Rest {
    fn new(payload: Payload, expects: AwaitsContinue) -> Self {
        Self(Rc::new(RefCell::new(Source {
            payload,
            ended: false,
            expects,
        })))
    }

    async fn forget<B>(mut self, answer: &Answer<B>) -> Drained {
        let status = match answer {
            Ok(response) => response.status(),
            Err(error) => error.as_response_error().status_code(),
        };
        if self.0.borrow().ended {
            return Drained::Wholly;
        }
        // Nobody has asked for the body: the answer is final, and the client does not send it.
        if self.0.borrow().expects.is_pending() {
            return Drained::InPart;
        }
        // A body that was refused for its slowness would only go on holding the connection.
        if status == StatusCode::REQUEST_TIMEOUT || status == StatusCode::SWITCHING_PROTOCOLS {
            return Drained::InPart;
        }
        drain(&mut self, DRAIN_BYTES, DRAIN_TIME).await
    }
}

impl Stream for Rest {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut source = self.0.borrow_mut();
        if source.ended {
            return Poll::Ready(None);
        }
        let next = Pin::new(&mut source.payload).poll_next(cx);
        source.ended = matches!(next, Poll::Ready(None | Some(Err(_))));
        next
    }
}

/// The body of an answer to HEAD: announced at its size, neither produced nor sent.
struct Silent(BodySize);

impl MessageBody for Silent {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        self.0
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(None)
    }
}
