//! The outermost middleware: what holds for every answer, whoever gave it.

use std::cell::RefCell;
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
use super::representation::{is_json, media_type, represent};
use super::request_id::{RequestId, X_REQUEST_ID};
use super::trace_context::trace_id;

/// Gives every answer its `X-Request-Id`, its security headers and one line in the log; answers HEAD as GET
/// without the body; answers 304 where the client has what an `ETag` names; compresses text that is no secret; says who
/// may keep an answer; turns errors that are no problems into problems; and reads what a handler left of a
/// body, so that the client gets the answer rather than a reset.
///
/// Wrap it last, so that it is the outermost: `App::new().wrap(…).wrap(Edge::new(env))`.
///
/// The line holds the route's pattern, never the path or the query: both can carry tokens.
#[derive(Debug, Clone)]
pub struct Edge {
    env: Env,
    https_only: bool,
    prefix: Arc<str>,
}

impl Edge {
    /// Request ids come from `env`.
    #[must_use]
    pub fn new(env: Env) -> Self {
        Self {
            env,
            https_only: false,
            prefix: "".into(),
        }
    }

    /// Has browsers come by HTTPS alone (RFC 6797), as an installation may ask whose public URL says so.
    #[must_use]
    pub const fn https_only(mut self, https_only: bool) -> Self {
        self.https_only = https_only;
        self
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
    https_only: bool,
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
            https_only: self.edge.https_only,
            prefix: self.edge.prefix.clone(),
        };
        request.extensions_mut().insert(started.id.clone());
        if started.method == Method::HEAD {
            request.head_mut().method = Method::GET;
        }
        let drained_by_server = request.extensions().get::<DrainedByServer>().is_some();
        let payload = request.take_payload();
        if drained_by_server || matches!(payload, Payload::None) {
            request.set_payload(payload);
            let finish: Finish<B> = |(answer, started)| finish(answer, started, None);
            return Either::Left(
                join(in_request(self.service.call(request)), done(started)).map(finish),
            );
        }
        let rest = Rest::new(payload);
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
            Some(problem) => {
                let mut replacing = problem.response_under(&started.prefix);
                keep_cors(response.headers(), replacing.headers_mut());
                response.into_response(replacing).map_into_right_body()
            }
            None => {
                let moved = moved(&response, &started.prefix);
                let response = represent(response, &started.method);
                match (moved, is_head) {
                    (None, false) => response,
                    (None, true) => response
                        .map_body(|_, body| EitherBody::right(BoxBody::new(Silent(body.size())))),
                    (Some(body), false) => {
                        response.map_body(|_, _| EitherBody::right(BoxBody::new(body)))
                    }
                    (Some(body), true) => response
                        .map_body(|_, _| EitherBody::right(BoxBody::new(Silent(body.size())))),
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
            started.seal(response.response_mut().headers_mut());
            if let Some(limits) = RateLimits::announced(response.request()) {
                limits.write(response.response_mut().headers_mut());
            }
            if close {
                response
                    .response_mut()
                    .head_mut()
                    .set_connection_type(ConnectionType::Close);
            }
            let trace = trace_id(response.request().headers());
            started.log(route.as_deref(), trace, response.status());
            Ok(response)
        }
        Err(mut response) => {
            started.seal(response.headers_mut());
            if close {
                response
                    .head_mut()
                    .set_connection_type(ConnectionType::Close);
            }
            started.log(None, None, response.status());
            Err(InternalError::from_response("refused before a route was found", response).into())
        }
    }
}

impl Started {
    fn seal(&self, headers: &mut HeaderMap) {
        seal(headers, &self.id);
        if self.https_only {
            headers.insert(
                header::STRICT_TRANSPORT_SECURITY,
                HeaderValue::from_static("max-age=31536000"),
            );
        }
    }

    fn log(&self, route: Option<&str>, trace_id: Option<&str>, status: StatusCode) {
        tracing::info!(
            trace_id,
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
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CONTENT_SECURITY_POLICY) {
        // What is opened by itself runs nothing, whatever it holds. A page says itself what it needs.
        headers.insert(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; sandbox"),
        );
    }
    if is_json(headers) {
        // Data is for scripts that ask for it by CORS; no page draws it in as an image or a script.
        headers.insert(
            header::CROSS_ORIGIN_RESOURCE_POLICY,
            HeaderValue::from_static("same-origin"),
        );
        if !headers.contains_key(header::CACHE_CONTROL) {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
    }
}

/// What says who may read an answer says so of the one that stands in its place.
fn keep_cors(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from {
        if name == header::VARY || name.as_str().starts_with("access-control-") {
            to.append(name.clone(), value.clone());
        }
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

/// Said of a request whose server reads what a handler leaves of the body, behind the answer:
/// [`Server`](crate::server::Server) does. Under another one the answer waits until the rest has been read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DrainedByServer;

/// What a handler left of a body. The handler reads through it; afterwards the rest is drained.
#[derive(Clone)]
struct Rest(Rc<RefCell<Source>>);

struct Source {
    payload: Payload,
    ended: bool,
}

impl Rest {
    fn new(payload: Payload) -> Self {
        Self(Rc::new(RefCell::new(Source {
            payload,
            ended: false,
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
