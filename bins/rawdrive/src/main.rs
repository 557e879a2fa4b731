//! The server and its commands: command line, configuration, telemetry, then one module a command.

mod allocator;
mod billing;
mod cli;
mod commands;
mod config;
mod data_dir;
mod descriptors;
mod jobs;
mod operator;
mod own_stripe;
mod telemetry;

use std::io::Write as _;
use std::process::ExitCode;

use cli::{Audit, Blobs, Cli, Command, Keys, Plans, Renditions, Serve, Usage};
use commands::Installation;
use config::Config;
use operator::operator;
use rawdrive_gallery::STEPS;
use rawdrive_store::{Release, in_background};
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::{Causes, Commit as _};

/// Of what was asked wrongly: a configuration, like a command line, that cannot be read.
const MISUSE: u8 = 2;

/// Why the process ends without having done what it was asked.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("failed to configure")]
    Config(#[from] config::ConfigError),
    #[error("failed to start logging")]
    Telemetry(#[from] tracing_subscriber::util::TryInitError),
    #[error("failed to start")]
    Open(#[from] commands::OpenError),
    #[error("failed to serve")]
    Serve(#[from] commands::serve::ServeError),
    #[error("the demo ended early")]
    Demo(#[from] commands::demo::DemoError),
    #[error("failed to apply the change")]
    Admin(#[from] commands::admin::AdminError),
    #[error("there is no workspace {0}")]
    NoWorkspace(WorkspaceId),
    #[error("failed to rotate the signing keys")]
    Keys(#[from] rawdrive_identity::KeyError),
    #[error("STRIPE_SECRET_KEY is not set: this installation bills nobody")]
    NoStripe,
    #[error("STRIPE_SECRET_KEY")]
    StripeSetup(#[from] rawdrive_billing::StripeSetupError),
    #[error("failed to speak of Stripe")]
    Stripe(#[from] commands::stripe::StripeError),
    #[error("failed to correct the count")]
    Correct(#[from] rawdrive_usage::CorrectError),
    #[error(transparent)]
    Usage(#[from] commands::usage::UsageError),
    #[error(transparent)]
    Renditions(#[from] commands::renditions::RenditionsError),
    #[error(transparent)]
    Audit(#[from] commands::audit::AuditError),
    #[error("the audit log is not what was recorded")]
    Rewritten,
    #[error("failed to examine the data")]
    Doctor(#[from] commands::doctor::DoctorError),
    #[error("{0} is no database: nothing was ever served from here")]
    NoDatabase(String),
    #[error("not every invariant holds")]
    Unhealthy,
    #[error("failed to write the answer")]
    Output(#[from] std::io::Error),
}

fn main() -> ExitCode {
    // Where a client leaves the choice open, two providers in one process would be a panic. It fails only where
    // one is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run(Cli::from_process().into_command()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody reads standard error: the exit status still tells.
            let _ = writeln!(std::io::stderr(), "rawdrive: {}", Causes(&failure));
            match failure {
                Failure::Config(_) => ExitCode::from(MISUSE),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Demo { once } => {
            commands::demo::run(once, std::io::stdout(), &mut std::io::stderr())?;
            Ok(())
        }
        Command::Serve(Serve { dev }) => {
            let kept = allocator::give_large_blocks_back();
            let installation = open(dev)?;
            if let Err(error) = kept {
                tracing::warn!(
                    error = %Causes(&error),
                    "memory that decoding takes may be kept: the process could not begin anew"
                );
            }
            Ok(commands::serve::run(installation)?)
        }
        Command::Migrate => {
            let installation = open(false)?;
            block_on(async {
                installation.migrate().await?;
                writeln!(
                    std::io::stdout(),
                    "the schema of {:?} is up to date",
                    installation.config.database
                )?;
                Ok(())
            })
        }
        Command::Keys(Keys::Rotate { json }) => {
            let installation = open_served()?;
            block_on(async {
                let store = installation.open_store().await?;
                let key = commands::keys::rotate(&store, &installation.master_key()?).await?;
                commands::keys::write(&mut std::io::stdout(), &key, json)?;
                Ok(())
            })
        }
        Command::Doctor { json } => {
            let installation = open_served()?;
            block_on(async {
                let (store, blobs) = (installation.open_store().await?, installation.open_blobs()?);
                let cache = installation.cache();
                let master = installation.master_key()?;
                let report =
                    commands::doctor::examine(&store, &master, &blobs, cache.as_ref()).await?;
                report.write(&mut std::io::stdout(), json)?;
                if report.is_healthy() {
                    Ok(())
                } else {
                    Err(Failure::Unhealthy)
                }
            })
        }
        Command::Blobs(Blobs::Adopt { force, json }) => {
            let installation = open_served()?;
            block_on(async {
                let (store, blobs) = (installation.open_store().await?, installation.open_blobs()?);
                let adopted = commands::blobs::adopt(&store, &blobs, force).await;
                let adopted = adopted.map_err(commands::OpenError::Belonging)?;
                adopted.write(&mut std::io::stdout(), json)?;
                Ok(())
            })
        }
        Command::Renditions(Renditions::Rebuild {
            workspace,
            missing,
            json,
        }) => {
            let installation = open_served()?;
            block_on(async {
                let store = installation.open_store().await?;
                if let Some(workspace) = workspace {
                    known(&store, workspace).await?;
                }
                let out = &mut std::io::stdout();
                commands::renditions::rebuild(&store, workspace, missing, json, out).await?;
                Ok(())
            })
        }
        Command::Audit(Audit::Verify { anchor, json }) => {
            let anchors = match anchor {
                Some(file) => commands::audit::read_anchors(&file)?,
                None => Vec::new(),
            };
            let installation = open_served()?;
            block_on(async {
                let store = installation.open_store().await?;
                let out = &mut std::io::stdout();
                if commands::audit::verify(&store, &anchors, out, json).await? {
                    Ok(())
                } else {
                    Err(Failure::Rewritten)
                }
            })
        }
        Command::Admin(admin) => {
            let installation = open_served()?;
            block_on(async {
                let store = installation.open_store().await?;
                let workspace = admin.workspace();
                known(&store, workspace).await?;
                let scope = operator(workspace);
                let mut tx = store
                    .begin_despite_read_only(&scope, Release::System)
                    .await
                    .map_err(commands::OpenError::Store)?;
                let applied = commands::admin::apply(
                    &mut tx,
                    &installation.env,
                    &installation.catalogue,
                    installation.policy(),
                    &admin,
                )
                .await?;
                rawdrive_onboarding::review(&mut tx, &installation.env, &STEPS)
                    .await
                    .map_err(commands::OpenError::Store)?;
                tx.commit().await.map_err(commands::OpenError::Store)?;
                applied.write(&mut std::io::stdout(), workspace, admin.json())?;
                Ok(())
            })
        }
        Command::Stripe(command) => {
            let installation = open(false)?;
            let Some(stripe) = installation.config.stripe.clone() else {
                return Err(Failure::NoStripe);
            };
            block_on(async {
                let store = installation.open_store().await?;
                let gateway = billing::stripe_gateway(&installation, &stripe)?;
                let billing = billing::assemble(&installation, store, gateway);
                commands::stripe::run(&billing, command, &mut std::io::stdout()).await?;
                Ok(())
            })
        }
        Command::Usage(command) => usage(command),
        Command::Config { json } => {
            config::Listing::from_process()?.write(&mut std::io::stdout(), json)?;
            // Also said where it was not asked for: a value that cannot be read.
            Config::from_process(false)?;
            Ok(())
        }
        Command::Plans(Plans::Print) => {
            let catalogue = commands::catalogue(&Config::from_process(false)?)?;
            let text = catalogue.to_toml(&rawdrive_gallery::metrics());
            write!(std::io::stdout(), "{text}")?;
            Ok(())
        }
        Command::Openapi => {
            let config = Config::from_process(false)?;
            let url = config.public_url(config.listen);
            let document =
                rawdrive_http_api::document(&[rawdrive_gallery::http::described()], url.as_str());
            let text = rawdrive_http_api::openapi::pretty(&document);
            writeln!(std::io::stdout(), "{text}")?;
            Ok(())
        }
    }
}

fn usage(command: Usage) -> Result<(), Failure> {
    match command {
        // It reads files alone, wherever it is run.
        Usage::Verify { files, json } => Ok(commands::usage::verify(
            &files,
            &mut std::io::stdout(),
            json,
        )?),
        Usage::Rebuild {
            workspace,
            dry_run,
            json,
        } => {
            let installation = open_served()?;
            block_on(async {
                let store = installation.open_store().await?;
                if let Some(workspace) = workspace {
                    known(&store, workspace).await?;
                }
                let out = &mut std::io::stdout();
                let differ =
                    commands::usage::rebuild(&store, workspace, dry_run, json, out).await?;
                if differ && dry_run {
                    return Err(Failure::Unhealthy);
                }
                Ok(())
            })
        }
        Usage::Correct {
            workspace,
            metric,
            quantity,
            subject,
            at,
            common,
        } => {
            let installation = open_served()?;
            block_on(async {
                let store = installation.open_store().await?;
                known(&store, workspace).await?;
                let correction = rawdrive_usage::Correction {
                    metric,
                    subject,
                    quantity,
                    at,
                    reason: common.reason,
                };
                let scope = operator(workspace);
                let begun = store.begin_despite_read_only(&scope, Release::System);
                let mut tx = begun.await.map_err(commands::OpenError::Store)?;
                let catalogue = &installation.catalogue;
                let corrected =
                    rawdrive_usage::correct(&mut tx, store.env(), catalogue, &correction).await?;
                tx.commit().await.map_err(commands::OpenError::Store)?;
                let out = &mut std::io::stdout();
                commands::usage::write_corrected(out, workspace, &corrected, common.json)?;
                Ok(())
            })
        }
    }
}

async fn known(store: &rawdrive_store::Store, workspace: WorkspaceId) -> Result<(), Failure> {
    let known = store.has_workspace(workspace).await;
    if known.map_err(commands::OpenError::Store)? {
        Ok(())
    } else {
        Err(Failure::NoWorkspace(workspace))
    }
}

fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    actix_web::rt::System::new().block_on(in_background(Box::pin(work)))
}

/// The configuration, then logging, then what every command that touches data begins with.
fn open(dev: bool) -> Result<Installation, Failure> {
    Ok(Installation::open(configured(dev)?)?)
}

/// As [`open`], where something was served before: whoever is in the wrong directory should hear it, rather
/// than be given a new installation.
fn open_served() -> Result<Installation, Failure> {
    let config = configured(false)?;
    if let Some(file) = config.database.file().filter(|file| !file.exists()) {
        return Err(Failure::NoDatabase(file.display().to_string()));
    }
    Ok(Installation::open(config)?)
}

fn configured(dev: bool) -> Result<Config, Failure> {
    let config = Config::from_process(dev)?;
    telemetry::start(&config)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    Ok(config)
}
