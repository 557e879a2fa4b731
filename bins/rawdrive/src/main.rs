//! The server and its commands: command line, configuration, telemetry, then one module a command.

#[cfg_attr(
    not(test),
    expect(dead_code, reason = "read once the store is composed in")
)]
mod cli;
#[expect(dead_code, reason = "read once the store is composed in")]
mod commands;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "read once the store and the API are composed in")
)]
mod config;
mod data_dir;
mod telemetry;

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command, Serve};
use commands::Installation;
use config::Config;

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
    #[error("this command is not part of this build")]
    NotBuilt,
}

fn main() -> ExitCode {
    match run(Cli::parse().into_command()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody reads standard error: the exit status still tells.
            let _ = writeln!(std::io::stderr(), "rawdrive: {}", chain(&failure));
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
        Command::Serve(Serve { dev }) => Ok(commands::serve::run(open(dev)?)?),
        Command::Migrate | Command::Doctor { .. } | Command::Admin(_) | Command::Openapi => {
            Err(Failure::NotBuilt)
        }
    }
}

/// The configuration, then logging, then what every command that touches data begins with.
fn open(dev: bool) -> Result<Installation, Failure> {
    let config = Config::from_process(dev)?;
    telemetry::start(&config)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    Ok(Installation::open(config)?)
}

/// An error and its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
