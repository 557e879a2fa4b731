//! The HTTP side: a listener on a thread of its own, the ticks, and the sender of webhooks.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::thread;

use actix_web::body::BodyStream;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use tokio::sync::oneshot;

use crate::config::{Config, StartError};
use crate::control;
use crate::pages;
use crate::persistence::{self, Kept};
use crate::recorder::Recorder;
use crate::service::{self, Reply, Request};
use crate::shared::Shared;
use crate::state::API_VERSION;

/// The largest body that is read.
const MAX_BODY: usize = 1024 * 1024;

/// A running server.
pub(crate) struct Running {
    pub(crate) shared: Arc<Shared>,
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.released.notify_waiters();
        if let Some(stop) = self.stop.take() {
            // The thread may have ended by itself.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the double's thread panicked");
        }
        self.shared.keep();
    }
}

/// Listens and serves.
pub(crate) fn start(config: Config) -> Result<Running, StartError> {
    let kept = earlier(&config)?;
    let asked = config.listen.unwrap_or_else(Config::any_port);
    let failed = |source| StartError::Listen {
        address: asked,
        source,
    };
    // Where it was before, so that pages which somebody has open go on; elsewhere if that is taken by now.
    let before = kept.as_ref().and_then(Kept::address);
    let before = before.filter(|_| config.listen.is_none());
    let listener = match before.map(TcpListener::bind) {
        Some(Ok(listener)) => listener,
        Some(Err(_)) | None => TcpListener::bind(asked).map_err(failed)?,
    };
    let address = listener.local_addr().map_err(failed)?;
    let client = reqwest::Client::builder()
        .timeout(config.webhook_timeout)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(StartError::Client)?;
    let recorder = match &config.record {
        Some(path) => Some(Recorder::open(path).map_err(|source| StartError::Record {
            path: path.clone(),
            source,
        })?),
        None => None,
    };
    let base_url = format!("http://{address}");
    let shared = Arc::new(Shared::new(config, base_url, kept, recorder));
    let (stop, stopped) = oneshot::channel();
    let (ready, is_ready) = mpsc::channel();
    let of_thread = Arc::clone(&shared);
    let thread = thread::Builder::new()
        .name("stripe-double".to_owned())
        .spawn(move || {
            let system = actix_web::rt::System::new();
            system.block_on(serve(of_thread, listener, client, stopped, ready));
        })
        .map_err(StartError::Thread)?;
    match is_ready.recv() {
        Ok(Ok(())) => Ok(Running {
            shared,
            address,
            stop: Some(stop),
            thread: Some(thread),
        }),
        Ok(Err(source)) => Err(failed(source)),
        Err(_) => Err(StartError::Ended),
    }
}

/// What an earlier double left.
fn earlier(config: &Config) -> Result<Option<Kept>, StartError> {
    let Some(path) = &config.state else {
        return Ok(None);
    };
    persistence::load(path).map_err(|source| StartError::State {
        path: path.clone(),
        source,
    })
}

async fn serve(
    shared: Arc<Shared>,
    listener: TcpListener,
    client: reqwest::Client,
    stopped: oneshot::Receiver<()>,
    ready: mpsc::Sender<std::io::Result<()>>,
) {
    let of_app = Arc::clone(&shared);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::from(Arc::clone(&of_app)))
            .app_data(web::PayloadConfig::new(MAX_BODY))
            .default_service(web::to(handle))
    })
    .workers(2)
    .disable_signals()
    .shutdown_timeout(0)
    .listen(listener);
    let server = match server {
        Ok(server) => server.run(),
        Err(source) => {
            // Nobody waits any more if this fails.
            let _ = ready.send(Err(source));
            return;
        }
    };
    let handle = server.handle();
    let ticks = actix_web::rt::spawn(tick(Arc::clone(&shared)));
    let keeping = actix_web::rt::spawn(keep(Arc::clone(&shared)));
    let deliveries = actix_web::rt::spawn(deliver(shared, client));
    let _ = ready.send(Ok(()));
    let running = actix_web::rt::spawn(server);
    // An error means that the handle was dropped: the same wish.
    let _ = stopped.await;
    ticks.abort();
    keeping.abort();
    deliveries.abort();
    handle.stop(false).await;
    if let Ok(Err(error)) = running.await {
        tracing::error!(%error, "the double's server failed");
    }
}

/// Looks for what has become due.
async fn tick(shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(shared.config.tick);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let mut inner = shared.lock();
        shared.catch_up(&mut inner);
    }
}

/// Writes what is known soon after it has changed.
async fn keep(shared: Arc<Shared>) {
    if !shared.keeps() {
        return;
    }
    let mut interval = tokio::time::interval(persistence::WITHIN);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let of_disk = Arc::clone(&shared);
        // Elsewhere: a slow disk is not to hold back what is delivered.
        if let Err(error) = tokio::task::spawn_blocking(move || of_disk.keep()).await {
            tracing::error!(%error, "what the double knows could not be kept");
        }
    }
}

/// Sends what is to be delivered, one after the other.
async fn deliver(shared: Arc<Shared>, client: reqwest::Client) {
    loop {
        let parcel = {
            let mut inner = shared.lock();
            let now = shared.now(&inner);
            let inner = &mut *inner;
            inner
                .deliveries
                .next(&inner.world, &inner.faults.webhooks, now)
        };
        let Some(parcel) = parcel else {
            // Waits end by news, or by time: a retry may have become due.
            let news = shared.to_deliver.notified();
            let _ = tokio::time::timeout(shared.config.tick, news).await;
            continue;
        };
        let sent = client
            .post(&parcel.url)
            .header("Content-Type", "application/json; charset=utf-8")
            .header(
                "User-Agent",
                "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            )
            .header("Stripe-Signature", parcel.signature)
            .body(parcel.body)
            .send()
            .await;
        let status = match sent {
            Ok(response) => Some(response.status().as_u16()),
            Err(error) => {
                tracing::debug!(%error, url = %parcel.url, "a webhook was not delivered");
                None
            }
        };
        let mut inner = shared.lock();
        let of_lock = &mut *inner;
        of_lock.deliveries.attempted(
            &mut of_lock.world,
            parcel.number,
            status,
            &shared.config.webhook_backoff,
        );
        drop(inner);
        shared.delivery_ended();
    }
}

async fn handle(request: HttpRequest, body: web::Bytes, shared: web::Data<Shared>) -> HttpResponse {
    let shared = shared.into_inner();
    let path = request.path().to_owned();
    let text = |name: &str| {
        let value = request.headers().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    if path.starts_with("/_double/") {
        let is_near = request
            .peer_addr()
            .is_some_and(|peer| peer.ip().is_loopback());
        return control::answer(&shared, is_near, request.method().as_str(), &path, &body);
    }
    let Ok(body) = String::from_utf8(body.to_vec()) else {
        return HttpResponse::BadRequest().finish();
    };
    if !path.starts_with("/v1/") {
        return pages::answer(&shared, request.method().as_str(), &path, &body);
    }
    let request = Request {
        method: request.method().as_str().to_owned(),
        path,
        query: request.query_string().to_owned(),
        body,
        authorization: text("Authorization"),
        idempotency_key: text("Idempotency-Key"),
        user_agent: text("User-Agent"),
    };
    // On a task of its own: the work goes on when the caller has hung up.
    match actix_web::rt::spawn(service::answer(shared, request)).await {
        Ok(reply) => respond(reply),
        Err(error) => {
            tracing::error!(%error, "a call panicked");
            HttpResponse::InternalServerError().finish()
        }
    }
}

fn respond(reply: Reply) -> HttpResponse {
    let Reply::Answer {
        stored,
        replayed,
        retry_after,
        idempotency_key,
    } = reply
    else {
        return close_unanswered();
    };
    let status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    response
        .insert_header((header::CONTENT_TYPE, "application/json"))
        .insert_header(("Stripe-Version", API_VERSION));
    if replayed {
        response
            .insert_header(("Idempotent-Replayed", "true"))
            .insert_header(("Original-Request", stored.request_id.clone()));
    }
    response.insert_header(("Request-Id", stored.request_id));
    if let Some(key) = idempotency_key {
        response.insert_header(("Idempotency-Key", key));
    }
    if let Some(seconds) = retry_after {
        response.insert_header((header::RETRY_AFTER, seconds.to_string()));
    }
    response.body(stored.body)
}

/// A body that fails at once: the connection is closed before even the head has gone out.
fn close_unanswered() -> HttpResponse {
    let broken = std::io::Error::from(std::io::ErrorKind::ConnectionAborted);
    let stream = futures_util::stream::iter([Err::<web::Bytes, _>(broken)]);
    HttpResponse::Ok().body(BodyStream::new(stream))
}
