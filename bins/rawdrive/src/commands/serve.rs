//! `rawdrive serve`: the server, until it is asked to end.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::web::ServiceConfig;
use actix_web::{App, HttpServer};

use super::stop::Stop;
use super::{Installation, OpenError};
use crate::data_dir::DataDirError;

/// How long a request that has begun may take after the server was asked to end.
const DRAIN_SECONDS: u64 = 30;
/// How long a client may take to send a request's head.
const HEAD: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Why the server does not serve (any more).
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The installation.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The data directory's lock.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The address is taken, or not this machine's.
    #[error("failed to listen on {address}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The server's own machinery.
    #[error("failed to serve")]
    Serve(#[source] std::io::Error),
}

/// Serves until SIGINT or SIGTERM; requests that have begun are answered first.
///
/// # Errors
/// See [`ServeError`].
pub(crate) fn run(installation: Installation) -> Result<(), ServeError> {
    actix_web::rt::System::new().block_on(async move {
        let only_server = installation.data_dir.lock()?;
        let listener = listen(installation.config.listen)?;
        let bound = listener.local_addr().map_err(ServeError::Serve)?;
        let public_url = installation.config.public_url(bound);
        tracing::info!(
            address = %bound,
            %public_url,
            data_dir = %installation.data_dir.path().display(),
            only_server = only_server.is_some(),
            "serving"
        );
        serve(listener, |_services| {}).await
    })
}

fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        })
        .map_err(|source| ServeError::Listen { address, source })
}

async fn serve(
    listener: TcpListener,
    configure: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
) -> Result<(), ServeError> {
    let mut stop = Stop::listen().map_err(ServeError::Serve)?;
    let server = HttpServer::new(move || App::new().configure(configure.clone()))
        .client_request_timeout(HEAD)
        .keep_alive(KEEP_ALIVE)
        .shutdown_timeout(DRAIN_SECONDS)
        // Its own handling of SIGINT would cut requests off.
        .disable_signals()
        .listen(listener)
        .map_err(ServeError::Serve)?
        .run();
    let handle = server.handle();
    actix_web::rt::spawn(async move {
        stop.requested().await;
        tracing::info!("asked to end: answering what has begun");
        handle.stop(true).await;
    });
    server.await.map_err(ServeError::Serve)
}
