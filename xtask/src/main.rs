//! The workspace's own commands.
//!
//! - `cargo xtask test` starts a real PostgreSQL, a `PgBouncer` and a real Redis and runs every test against
//!   them; the black-box tests on each of the backends, on two of them in part. Two other mocks of Stripe are installed for the tests
//!   of the double.
//! - `cargo xtask clients` has others judge the API's document: a linter, and generators of clients, two of which do the
//!   main job against a running server.
//! - `cargo xtask fuzz-api` has schemathesis ask a running server at random, and holds its answers against the document.
//! - `cargo xtask judge` has Stripe's own SDKs judge the double, and our gateway's requests.
//! - `cargo xtask surface` writes down what each published crate shows, for review (`tests/public_surface`).
//! - `cargo xtask ci` runs everything that a change must pass, `test`, `judge`, `clients` and `fuzz-api` last.
//!
//! No dependencies: it is the first thing a new machine builds.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line talks to its terminal"
)]

mod ci;
mod clients;
mod judge;
mod mocks;
mod packages;
mod process;
mod servers;
mod test_run;
mod toolbox;

use std::ffi::OsString;
use std::process::ExitCode;

use process::{Failure, cargo, run};

const USAGE: &str = "\
usage: cargo xtask <command>

  test [ARGS]   start PostgreSQL, PgBouncer and Redis, run all tests, the black-box ones four ways: all of them on SQLite and
                on PostgreSQL behind PgBouncer with Redis, on the two between those in which the difference has a part
                (RAWDRIVE_E2E_BACKEND names one of the four, and runs all of them there);
                ARGS go to `cargo test`, such as the name of a test
  clients       lint the API's document, compare it with the one before, make clients of it with four generators,
                and do the main job with two of them
  fuzz-api [--cases N]
                ask a server at random, about N times (2000 otherwise), and hold its answers against the API's document
  judge         live a customer's life against the double of Stripe with two of Stripe's own SDKs, and hold its answers
                and our gateway's requests, as the last tests recorded them, against their types
  surface       write down anew what each published crate shows; a test compares it
  ci            formatting, clippy, dependency rules, documentation, test, judge, clients, then fuzz-api";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let command = args.next();
    let rest: Vec<OsString> = args.collect();
    let outcome = match command.as_deref().and_then(|c| c.to_str()) {
        Some("test") => test_run::run_tests(&rest),
        Some("clients") if rest.is_empty() => clients::run_all(),
        Some("fuzz-api") if let Some(cases) = fuzz_cases(&rest) => clients::fuzz(cases),
        Some("judge") if rest.is_empty() => judge::run_all(),
        Some("surface") if rest.is_empty() => surface(),
        Some("ci") if rest.is_empty() => ci::run_all(),
        Some("help" | "--help" | "-h") => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

/// Runs the test that compares, and has it accept what it finds.
fn surface() -> Result<(), Failure> {
    let mut test = cargo();
    // The whole workspace: another choice of packages would build everything again.
    test.args(["test", "--workspace", "--test", "public_surface"]);
    run(test.env("RAWDRIVE_ACCEPT_SURFACE", "1"))
}

fn fuzz_cases(args: &[OsString]) -> Option<u32> {
    match args {
        [] => Some(clients::FUZZ_CASES),
        [name, number] if name == "--cases" => number.to_str()?.parse().ok(),
        _ => None,
    }
}
