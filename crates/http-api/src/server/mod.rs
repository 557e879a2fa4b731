//! A server for applications that mount this crate: HTTP/1.1 as a stranger on the network cannot stop it.
//!
//! ```no_run
//! use actix_web::{App, HttpResponse, web};
//! use rawdrive_http_api::server::Server;
//! use rawdrive_tenancy_core::Env;
//!
//! # async fn run() -> std::io::Result<()> {
//! let app = || App::new().route("/", web::get().to(HttpResponse::NoContent));
//! let listener = std::net::TcpListener::bind("127.0.0.1:8080")?;
//! Server::new(Env::system(), app).listen(listener)?.await
//! # }
//! ```
//!
//! Parsing and encoding are actix-http's; this is its own dispatcher, with other turns: a request is decoded when the
//! one before it has been answered, its body is read as the application polls it, and every wait for the client ends.
//! Decision 0014 tells why.
//!
//! Whoever mounts the routes in actix-web's own `HttpServer` keeps its dispatcher, and sets what it offers:
//! `tcp_nodelay(true)`, `client_request_timeout`, `keep_alive`, and `max_connections` below the limit of open files.
//! There, readers that do not read, `HEAD` within a pipeline and `Upgrade` are for the proxy in front to mend.
//!
//! Invariant: a client that sends or takes nothing holds a connection for a bounded time, and never one that somebody
//! else needs.

mod connection;
mod framed_stream;
mod limits;
mod seats;

use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_http::body::MessageBody;
use actix_http::{KeepAlive, Request, Response, ServiceConfig};
use actix_server::ServerHandle;
use actix_service::{IntoServiceFactory, Service, ServiceFactory, fn_factory, fn_service};
use actix_web::dev::AppConfig;
use rawdrive_tenancy_core::Env;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::client_address::TrustedProxies;

pub use limits::Limits;
use seats::Seats;

/// Connections that are told that there is no room for them, at a time; more are closed without a word.
const REFUSED_AT_A_TIME: usize = 64;
/// How much of an answer the system holds that it has not sent: what a client really takes shows in steps of this.
const UNSENT_BYTES: u32 = 64 * 1024;

/// Serves an actix application. See the [module](self).
#[derive(Debug)]
pub struct Server<F> {
    factory: F,
    env: Env,
    limits: Limits,
    workers: Option<usize>,
    proxies: TrustedProxies,
}

impl<F> Server<F> {
    /// A server of the application that `factory` makes, once for each worker. Ids of requests that cannot be read come
    /// from `env`.
    #[must_use]
    pub fn new(env: Env, factory: F) -> Self {
        Self {
            factory,
            env,
            limits: Limits::default(),
            workers: None,
            proxies: TrustedProxies::default(),
        }
    }

    /// Replaces the standard limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Names the proxies in front of it, each of which speaks for many clients and has no share of the connections.
    #[must_use]
    pub fn trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// Sets the number of worker threads; otherwise as many as the machine runs at a time.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Serves the connections of `listener`, until the returned future's [`Stop`] is asked for.
    ///
    /// # Errors
    /// The listener cannot be used.
    pub fn listen<I, S, B>(self, listener: TcpListener) -> io::Result<Running>
    where
        F: Fn() -> I + Clone + Send + 'static,
        I: IntoServiceFactory<S, Request>,
        S: ServiceFactory<Request, Config = AppConfig> + 'static,
        S::Response: Into<Response<B>>,
        S::Error: Into<actix_web::Error>,
        S::InitError: std::fmt::Debug,
        B: MessageBody + 'static,
    {
        let Self {
            factory,
            env,
            limits,
            workers,
            proxies,
        } = self;
        let (stop, stopping) = watch::channel(false);
        let seats = Arc::new(Seats::new(
            limits.connections,
            limits.connections_per_address,
            proxies.clone(),
        ));
        let refused = Arc::new(Seats::new(REFUSED_AT_A_TIME, REFUSED_AT_A_TIME, proxies));
        let mut builder = actix_server::Server::build()
            .disable_signals()
            .shutdown_timeout(limits.drain.as_secs())
            // The seats bound them: here, a full worker would leave everybody waiting.
            .max_concurrent_connections(usize::MAX - 1);
        if let Some(workers) = workers {
            builder = builder.workers(workers);
        }
        let server = builder
            .listen("http", listener, move || {
                let application = factory().into_factory();
                let worker = Worker {
                    env: env.clone(),
                    limits: limits.clone(),
                    stopping: stopping.clone(),
                    seats: Arc::clone(&seats),
                    refused: Arc::clone(&refused),
                };
                let application = Rc::new(application);
                fn_factory(move || {
                    let (application, worker) = (Rc::clone(&application), worker.clone());
                    async move {
                        let service = application.new_service(AppConfig::default()).await;
                        let service = service.map_err(|error| {
                            tracing::error!(?error, "the application cannot be made");
                        })?;
                        let (service, worker) = (Rc::new(service), Rc::new(worker.start()));
                        Ok::<_, ()>(fn_service(move |stream: TcpStream| {
                            let (service, worker) = (Rc::clone(&service), Rc::clone(&worker));
                            async move {
                                worker.serve(stream, &*service).await;
                                Ok::<_, std::convert::Infallible>(())
                            }
                        }))
                    }
                })
            })?
            .run();
        let handle = server.handle();
        Ok(Running {
            server,
            stop: Stop { handle, stop },
        })
    }
}

#[derive(Clone)]
struct Worker {
    env: Env,
    limits: Limits,
    stopping: watch::Receiver<bool>,
    seats: Arc<Seats>,
    refused: Arc<Seats>,
}

impl Worker {
    fn start(self) -> StartedWorker {
        let keep_alive = KeepAlive::Timeout(self.limits.idle);
        // The codec asks for whether connections are kept, and for the date; the times are this module's own.
        let config = ServiceConfig::new(
            keep_alive,
            self.limits.head,
            self.limits.stalled_at_stop,
            false,
            None,
        );
        StartedWorker {
            shared: connection::Shared {
                config,
                limits: Rc::new(self.limits),
                env: self.env,
                stop: self.stopping,
            },
            seats: self.seats,
            refused: self.refused,
        }
    }
}

struct StartedWorker {
    shared: connection::Shared,
    seats: Arc<Seats>,
    refused: Arc<Seats>,
}

impl StartedWorker {
    async fn serve<S, B>(&self, stream: TcpStream, service: &S)
    where
        S: Service<Request>,
        S::Response: Into<Response<B>>,
        S::Error: Into<actix_web::Error>,
        B: MessageBody + 'static,
    {
        // Without a peer it is closed already.
        let Ok(peer) = stream.peer_addr() else {
            return;
        };
        set_options(&stream);
        match self.seats.take(peer.ip()) {
            Some(seat) => connection::serve(stream, peer, seat, service, &self.shared).await,
            None => {
                if let Some(seat) = self.refused.take(peer.ip()) {
                    connection::refuse(stream, seat, &self.shared).await;
                }
            }
        }
    }
}

/// A system that does not know an option serves all the same.
fn set_options(stream: &TcpStream) {
    // Otherwise the end of an answer waits until its beginning has been acknowledged: 40 ms.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY is not set");
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES) {
        tracing::debug!(%error, "TCP_NOTSENT_LOWAT is not set");
    }
}

/// A server at work; ends after [`Stop::stop`].
#[must_use = "a server serves while it is polled"]
pub struct Running {
    server: actix_server::Server,
    stop: Stop,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}

impl Running {
    /// What ends it.
    #[must_use]
    pub fn stop_handle(&self) -> Stop {
        self.stop.clone()
    }
}

impl Future for Running {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.server).poll(cx)
    }
}

/// Ends a server.
#[derive(Debug, Clone)]
pub struct Stop {
    handle: ServerHandle,
    stop: watch::Sender<bool>,
}

impl Stop {
    /// Takes no connection any more, and ends when the requests under way have been answered: clients that make no
    /// progress are not waited for, see [`Limits`].
    pub async fn stop(&self) {
        let _ = self.stop.send_replace(true);
        self.handle.stop(true).await;
    }
}

#[cfg(test)]
mod tests;
