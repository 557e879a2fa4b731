//! `rawdrive serve`: the server, until it is asked to end.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::{Data, ServiceConfig};
use futures_util::FutureExt as _;
use rawdrive_gallery::Blobs;
use rawdrive_gallery::STEPS;
use rawdrive_gallery::analysis::{
    Analyzer, Decoders, LocalAnalyzer, VisionAnalyzer, VisionSetupError,
};
use rawdrive_gallery::http::{Downloads, Galleries, GalleryApi, routes};
use rawdrive_http_api::server::{Limits, Server};
use rawdrive_http_api::throttle::Throttle;
use rawdrive_http_api::web::{CorsOrigins, Edge};
use rawdrive_http_api::{App, BillingDesk, TrustedProxies, configure, record_key_uses};
use rawdrive_identity::{Currency, KeyError, MasterKey, load_keyring};
use rawdrive_notices::webhooks::{HttpSender, Reach};
use rawdrive_notices::{FileMailer, Sender, SmtpMailer};
use rawdrive_runtime::Builder;
use rawdrive_store::{Store, in_background};
use rawdrive_tenancy_core::{Causes, Env, StoreError};
use rawdrive_usage::{LiveUsage, Republisher};
use tokio::sync::oneshot;

use super::stop::Stop;
use super::{Installation, OpenError, blobs};
use crate::billing::{CollectError, collect};
use crate::data_dir::{DataDirError, InstanceLock};
use crate::descriptors::raise_limit;
use crate::jobs::of_application;
use crate::own_stripe::OwnStripe;

/// How often signing keys are read again.
const RELOAD_KEYS: Duration = Duration::from_secs(60);

/// How long jobs that have begun may take to end when the server does.
const GRACE: Duration = Duration::from_secs(5);

/// In the data directory: mails, where no server takes them.
const MAILS: &str = "mail";
/// In the data directory: what the development's own Stripe knows.
const DOUBLE_STATE: &str = "stripe-double.json";

/// Why the server does not serve (any more).
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The installation.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The data directory's lock.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// No key to sign access tokens with.
    #[error("failed to load the signing keys")]
    Keys(#[from] KeyError),
    /// The vision endpoint cannot be used as configured.
    #[error("RAWDRIVE_ANALYSIS_URL")]
    Vision(#[from] VisionSetupError),
    /// Nobody could collect the money.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// The address is taken, or not this machine's.
    #[error("failed to listen on {address}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Webhooks cannot be sent.
    #[error("failed to set up TLS for outbound webhooks")]
    Webhooks(#[source] std::io::Error),
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
        let (store, blobs) = (installation.open_store().await?, installation.open_blobs()?);
        blobs::claim(&store, &blobs)
            .await
            .map_err(OpenError::Belonging)?;
        let database = installation.config.database.file();
        let only_of_database = match database.map(InstanceLock::of_database) {
            Some(Ok(claimed)) => claimed,
            // On a full disk reads are served all the same: nobody knows then whether others are at work.
            Some(Err(error)) => {
                tracing::error!(error = %Causes(&error), "it is not known whether this is the only server");
                None
            }
            None => None,
        };
        for issue in store.schema_issues().await.map_err(OpenError::Store)? {
            tracing::warn!("{issue}");
        }
        // Of a file this is the only server; of PostgreSQL others may be at work.
        if only_server.is_some() && only_of_database.is_some() {
            match store.recover().await {
                Ok(0) => {}
                Ok(given_back) => {
                    tracing::info!(
                        given_back,
                        "what an earlier run held when it broke off is given back"
                    );
                }
                // On a full disk reads are served all the same.
                Err(error @ (StoreError::Full { .. } | StoreError::Unavailable { .. })) => {
                    tracing::error!(
                        error = %Causes(&error),
                        "writes are refused until the database takes them again"
                    );
                }
                Err(error) => return Err(OpenError::Store(error).into()),
            }
        }
        let republisher = cache(&installation, &store);
        let listener = listen(installation.config.listen)?;
        let bound = listener.local_addr().map_err(ServeError::Serve)?;
        let public_url = installation.config.public_url(bound);
        let master = installation.master_key()?;
        // A file has one writer: a second server of this directory has a Stripe that forgets.
        let double_state = only_server
            .as_ref()
            .map(|_| installation.data_dir.path().join(DOUBLE_STATE));
        let collecting = collect(
            &installation,
            store.clone(),
            &master,
            &local_url(bound),
            double_state,
        )
        .await?;
        let billing = collecting.desk;
        let decoders = Decoders::new();
        let app = app(
            &installation,
            store.clone(),
            blobs.clone(),
            decoders.clone(),
            billing,
            public_url.as_str(),
        )
        .await?;
        let keys = tokio::spawn(in_background(reload_keys(
            app.clone(),
            installation.master_key()?,
        )));
        let uses = tokio::spawn(in_background(record_key_uses(app.clone())));
        let background = background(&installation, &app, &blobs, decoders)?;
        let background = (collecting.background)(background);
        let background = match republisher {
            Some(republisher) => background.usage_cache(republisher),
            None => background,
        };
        let (end_background, background_ends) = oneshot::channel::<()>();
        let background = tokio::spawn(background.build().run_until(
            // A sender that is gone says so too.
            background_ends.map(drop),
            GRACE,
        ));
        tracing::info!(address = %bound, only_server = only_server.is_some(), "serving");
        welcome(
            &mut std::io::stdout(),
            public_url.as_str(),
            &installation,
            collecting.double.as_ref(),
        );
        let proxies = installation.config.trusted_proxies.clone();
        let env = installation.env.clone();
        let edge = app.edge();
        let cors = installation.config.cors_origins.clone();
        let throttle = throttle(&installation).await?;
        let ended = serve(listener, env, proxies, (edge, cors, throttle), configure(app)).await;
        drop(end_background);
        if let Err(error) = background.await {
            tracing::error!(%error, "the background work broke off");
        }
        drop(collecting.double);
        keys.abort();
        uses.abort();
        store.close().await;
        ended
    })
}

/// Has usage cached where a Redis is configured. Whether it answers is found out beside the requests: it decides
/// nothing, and nobody waits for it. A task of its own: a job may wait for a mail server.
fn cache(installation: &Installation, store: &Store) -> Option<Republisher<Store>> {
    let live = LiveUsage::new(Arc::new(installation.cache()?));
    store.cache_usage_in(live.clone());
    Some(Republisher::new(live, store.clone()))
}

/// Counts requests, together with other servers where a Redis is configured.
async fn throttle(installation: &Installation) -> Result<Throttle, OpenError> {
    let limits = installation.config.rate_limits.clone();
    let master = installation.master_key()?;
    Ok(match installation.config.redis.clone() {
        Some(url) => Throttle::shared(limits, &master, url).await,
        None => Throttle::new(limits, &master),
    })
}

/// Background work, with the mail server that is configured, otherwise with files.
fn background(
    installation: &Installation,
    app: &Data<App>,
    blobs: &Blobs,
    decoders: Decoders,
) -> Result<Builder, ServeError> {
    let webhooks = HttpSender::new(app.settings.webhook_reach).map_err(ServeError::Webhooks)?;
    let env = installation.env.clone();
    let sender = Sender::no_reply(&app.settings.public_url);
    Ok(match &installation.config.smtp_url {
        Some(url) => {
            let mailer = SmtpMailer::new(url, sender, env);
            of_application(app, blobs, decoders, mailer, webhooks)
        }
        None => {
            let directory = installation.data_dir.path().join(MAILS);
            let mailer = FileMailer::new(&directory, sender, env);
            of_application(app, blobs, decoders, mailer, webhooks)
        }
    })
}

/// What a newcomer needs first.
fn welcome(out: &mut dyn Write, url: &str, installation: &Installation, own: Option<&OwnStripe>) {
    let data = installation.data_dir.path();
    let data = data.canonicalize().unwrap_or_else(|_| data.to_owned());
    let mut text = format!(
        "RawDrive serves {url}\n  docs    {url}/docs\n  data    {}\n",
        data.display()
    );
    if installation.config.smtp_url.is_none() {
        text.push_str(&format!(
            "  mail    written to files in {}, since RAWDRIVE_SMTP_URL names no mail server\n",
            data.join(MAILS).display()
        ));
    }
    if let Some(own) = own {
        text.push_str(&own.welcome(url));
    }
    text.push_str(&format!(
        "  try     curl -s {url}/v1/signup -H 'content-type: application/json' \
         -d '{{\"email\":\"you-'$RANDOM'@example.com\",\"password\":\"correct horse\",\"name\":\"You\",\"workspace_name\":\"Studio\"}}'\n"
    ));
    // Nobody may be reading standard output: the server serves all the same.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The address at which this machine reaches the server.
fn local_url(bound: SocketAddr) -> String {
    let host = match bound.ip() {
        ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    format!("http://{host}:{}", bound.port())
}

async fn app(
    installation: &Installation,
    store: Store,
    blobs: Blobs,
    decoders: Decoders,
    billing: Arc<dyn BillingDesk>,
    public_url: &str,
) -> Result<Data<App>, ServeError> {
    let master = installation.master_key()?;
    let keyring = load_keyring(&store, &installation.env, &master).await?;
    let currency =
        Currency::parse(&installation.config.currency).map_err(|_| OpenError::Currency)?;
    let gallery = GalleryApi {
        blobs: blobs.clone(),
        analyzer: analyzer(installation, decoders)?,
        downloads: Downloads::default(),
        max_upload_bytes: installation.config.max_upload_bytes,
    };
    let app = App::builder(store, installation.catalogue.clone(), &master, keyring)
        .public_url(public_url)
        .currency(currency)
        .limit_attempts(installation.config.rate_limits.are_on())
        .trusted_proxies(installation.config.trusted_proxies.clone())
        .mail_leaves(installation.config.smtp_url.is_some())
        .webhook_reach(if installation.config.webhooks_allow_private {
            Reach::Anywhere
        } else {
            Reach::Public
        })
        .billing(billing)
        .steps(STEPS)
        .dependency(blobs)
        .subjects(Galleries)
        .routes(routes(Data::new(gallery)))
        .build();
    Ok(Data::new(app))
}

/// Photos are measured on this machine, and described where a model is configured.
fn analyzer(
    installation: &Installation,
    decoders: Decoders,
) -> Result<Arc<dyn Analyzer>, ServeError> {
    let local = LocalAnalyzer::on(decoders);
    Ok(match &installation.config.vision {
        None => Arc::new(local),
        Some(settings) => Arc::new(VisionAnalyzer::new(local, settings)?),
    })
}

/// Follows rotations by other processes, well within the overlap in which old keys still sign.
async fn reload_keys(app: Data<App>, master: MasterKey) {
    loop {
        tokio::time::sleep(RELOAD_KEYS).await;
        match load_keyring(&app.store, app.env(), &master).await {
            Ok(keyring) => app.issuer.replace_keys(keyring),
            Err(error) => tracing::warn!(
                error = %Causes(&error),
                "signing keys were not reloaded"
            ),
        }
    }
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
    env: Env,
    proxies: TrustedProxies,
    (edge, cors, throttle): (Edge, CorsOrigins, Throttle),
    configure: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
) -> Result<(), ServeError> {
    let mut stop = Stop::listen().map_err(ServeError::Serve)?;
    let limits = Limits::for_descriptors(raise_limit());
    tracing::info!(connections = limits.connections, "connections at a time");
    let application = move || {
        actix_web::App::new()
            .configure(configure.clone())
            .wrap(throttle.clone())
            .wrap(cors.middleware())
            .wrap(edge.clone())
    };
    let server = Server::new(env, application)
        .limits(limits)
        .trusted_proxies(proxies)
        .listen(listener)
        .map_err(ServeError::Serve)?;
    let handle = server.stop_handle();
    actix_web::rt::spawn(async move {
        stop.requested().await;
        tracing::info!("asked to end: answering what has begun");
        handle.stop().await;
    });
    server.await.map_err(ServeError::Serve)
}
