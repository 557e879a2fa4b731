//! Rate limits: who asks too often is told to wait (429 `rate_limited`), by credential where one is proved and by address
//! otherwise (of IPv6 by /64, behind a trusted proxy by the client that it names).
//!
//! The limit is looked at before anything else is: no body is read and no database asked for a request too many. An
//! access token is proved by its signature; an API key by the database, at its first use, which counts against its
//! address. So nobody can use up what is another's: a stranger's wrong keys count against the stranger.
//!
//! Attempts at passwords and mails to strangers have limits of their own besides (`rawdrive_identity`).
//!
//! Wrap [`Throttle`] inside of [`Edge`](crate::web::Edge) and of the CORS middleware: a page hears of its limit too.

mod buckets;
mod class;
#[cfg(feature = "redis")]
mod shared_buckets;

use std::fmt;
use std::future::{Ready, ready};
use std::rc::Rc;
use std::sync::Arc;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::web::Data;
use actix_web::{Error, HttpRequest};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use futures_util::future::{Either, LocalBoxFuture, Map, Ready as Done};
use futures_util::future::{FutureExt as _, ready as done};
use governor::clock::MonotonicClock;
use rawdrive_identity::{LimitState, MasterKey, Network};

use crate::app::App;
use crate::auth::{Caller, caller};
use crate::client_address::client_address;
use crate::pages::refusal_page;
use crate::web::{Code, Problem, RateLimits, prefers_html};
use buckets::{Buckets, Client, Decision, Verdict};
use class::Known;

pub use class::{Allowance, InvalidLimits, RequestLimits, RouteClass};

/// The middleware. Its clones count together.
#[derive(Debug, Clone)]
pub struct Throttle(Arc<Counts>);

struct Counts {
    limits: RequestLimits,
    /// Names clients. Installations that share a Redis have different ones, and so count apart.
    naming: Key,
    own: Buckets<MonotonicClock>,
    #[cfg(feature = "redis")]
    shared: Option<Arc<shared_buckets::SharedBuckets>>,
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counts")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Throttle {
    /// Counts in this process's memory.
    #[must_use]
    pub fn new(limits: RequestLimits, master: &MasterKey) -> Self {
        Self(Arc::new(Counts {
            own: Buckets::new(&limits, &MonotonicClock),
            limits,
            naming: naming(master),
            #[cfg(feature = "redis")]
            shared: None,
        }))
    }

    /// Counts in Redis, together with the other servers there that have the same key; by itself while Redis does not
    /// answer. Waits a moment for the connection.
    #[cfg(feature = "redis")]
    pub async fn shared(
        limits: RequestLimits,
        master: &MasterKey,
        url: rawdrive_usage::RedisUrl,
    ) -> Self {
        let shared = shared_buckets::SharedBuckets::new(url);
        if limits.are_on() {
            Arc::clone(&shared).connect().await;
        }
        Self(Arc::new(Counts {
            own: Buckets::new(&limits, &MonotonicClock),
            limits,
            naming: naming(master),
            shared: Some(shared),
        }))
    }
}

fn naming(master: &MasterKey) -> Key {
    Key::new(HMAC_SHA256, &master.derive("rate limits: names of clients"))
}

/// A request that counts.
#[derive(Debug, Clone, Copy)]
struct Counted {
    class: RouteClass,
    allowance: Allowance,
    client: Client,
}

impl Counts {
    fn counted(&self, request: &HttpRequest) -> Option<Counted> {
        if !self.limits.are_on() {
            return None;
        }
        let (known, client) = match caller(request) {
            Caller::Anonymous => (Known::Anonymous, None),
            Caller::Unproven => (Known::Unproven, None),
            Caller::Proven(credential) => (Known::Proven, Some(credential)),
        };
        let app = request.app_data::<Data<App>>();
        let prefix = app.map_or("", |app| app.prefix());
        let path = request.path();
        let path = path.strip_prefix(prefix).unwrap_or(path);
        let class = RouteClass::of(request.method(), path, request.headers(), known)?;
        let (_, allowance) = self.limits.each().find(|(limited, _)| *limited == class)?;
        let client =
            client.unwrap_or_else(|| Network::of(client_address(request)).octets().to_vec());
        // Kept as a keyed hash: who was here is nobody's business, and a plain hash of an address is soon guessed.
        let hash = sign(&self.naming, &client);
        let mut client = [0; 16];
        client.copy_from_slice(hash.as_ref().get(..16)?);
        Some(Counted {
            class,
            allowance,
            client,
        })
    }

    fn count_own(&self, counted: &Counted) -> Decision {
        self.own.count(counted.class, &counted.client)
    }
}

/// Has the answer tell how the limit stands. The refusal, where there is one.
fn told(request: &HttpRequest, counted: &Counted, decision: Decision) -> Result<(), Problem> {
    let quota = counted.allowance.quota.get();
    let window_seconds = u64::from(counted.allowance.window_seconds.get());
    let used = u64::from(quota.saturating_sub(decision.remaining));
    let state = LimitState {
        name: counted.class.as_str(),
        quota,
        window_seconds,
        remaining: decision.remaining,
        reset_seconds: (used * window_seconds).div_ceil(u64::from(quota)),
    };
    RateLimits::of(vec![state]).announce(request);
    match decision.verdict {
        Verdict::Admitted => Ok(()),
        Verdict::Refused {
            retry_after_seconds,
        } => Err(Problem::new(
            Code::RateLimited,
            "Too many requests were sent within a short time.",
        )
        .retry_after(retry_after_seconds)),
    }
}

impl<S, B> Transform<S, ServiceRequest> for Throttle
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Transform = ThrottleService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(ThrottleService {
            service: Rc::new(service),
            counts: Arc::clone(&self.0),
        }))
    }
}

/// [`Throttle`] around a service.
#[derive(Debug)]
pub struct ThrottleService<S> {
    service: Rc<S>,
    counts: Arc<Counts>,
}

type Answer<B> = Result<ServiceResponse<EitherBody<B>>, Error>;
type Wrap<B> = fn(Result<ServiceResponse<B>, Error>) -> Answer<B>;

impl<S, B> Service<ServiceRequest> for ThrottleService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    // What is counted in memory costs no boxed future.
    type Future = Either<
        Either<Map<S::Future, Wrap<B>>, Done<Answer<B>>>,
        LocalBoxFuture<'static, Answer<B>>,
    >;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let pass: Wrap<B> = |answer| answer.map(ServiceResponse::map_into_left_body);
        let Some(counted) = self.counts.counted(request.request()) else {
            return Either::Left(Either::Left(self.service.call(request).map(pass)));
        };
        #[cfg(feature = "redis")]
        if let Some(shared) = self.counts.shared.clone() {
            let (service, counts) = (Rc::clone(&self.service), Arc::clone(&self.counts));
            return Either::Right(
                async move {
                    let Counted {
                        class,
                        allowance,
                        client,
                    } = counted;
                    let together = shared.count(class, allowance, &client).await;
                    let decision = together.unwrap_or_else(|| counts.count_own(&counted));
                    match told(request.request(), &counted, decision) {
                        Ok(()) => pass(service.call(request).await),
                        Err(problem) => refused(request, problem),
                    }
                }
                .boxed_local(),
            );
        }
        let decision = self.counts.count_own(&counted);
        Either::Left(match told(request.request(), &counted, decision) {
            Ok(()) => Either::Left(self.service.call(request).map(pass)),
            Err(problem) => Either::Right(done(refused(request, problem))),
        })
    }
}

fn refused<B>(request: ServiceRequest, problem: Problem) -> Answer<B> {
    if prefers_html(request.headers()) {
        // Somebody looks at a page, and is told on one.
        let prefix = request
            .app_data::<Data<App>>()
            .map_or("", |app| app.prefix());
        let page = refusal_page(prefix, &problem);
        return Ok(request.into_response(page).map_into_right_body());
    }
    Ok(request.error_response(problem).map_into_right_body())
}
