//! The workspace's own commands.
//!
//! - `cargo xtask test` starts a real PostgreSQL, a `PgBouncer` and a real Redis and runs every test against
//!   them; the black-box tests on each of [`BACKENDS`], on two of them in part. Two other mocks of Stripe are installed for the tests
//!   of the double.
//! - `cargo xtask clients` has others judge the API's document: a linter, and generators of clients, two of which do the
//!   main job against a running server.
//! - `cargo xtask fuzz-api` has schemathesis ask a running server at random, and holds its answers against the document.
//! - `cargo xtask judge` has Stripe's own SDKs judge the double, and our gateway's requests.
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
mod servers;
mod toolbox;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

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
  ci            formatting, clippy, dependency rules, documentation, test, judge, clients, then fuzz-api";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let command = args.next();
    let rest: Vec<OsString> = args.collect();
    let outcome = match command.as_deref().and_then(|c| c.to_str()) {
        Some("test") => test(&rest),
        Some("clients") if rest.is_empty() => clients::run_all(),
        Some("fuzz-api") if let Some(cases) = fuzz_cases(&rest) => clients::fuzz(cases),
        Some("judge") if rest.is_empty() => judge::run_all(),
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

/// How often the gate asks at random.
const FUZZ_CASES: u32 = 2_000;

fn fuzz_cases(args: &[OsString]) -> Option<u32> {
    match args {
        [] => Some(FUZZ_CASES),
        [name, number] if name == "--cases" => number.to_str()?.parse().ok(),
        _ => None,
    }
}

/// Why a command did not succeed, and the status that says so.
#[derive(Debug)]
struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 1,
        }
    }
}

/// Says what is being done, does it, and says how long it took.
fn step<T>(name: &str, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    println!("==> {name}");
    let start = Instant::now();
    let result = work();
    let outcome = if result.is_ok() { "ok" } else { "FAILED" };
    println!(
        "<== {name}: {outcome} after {:.1} s",
        start.elapsed().as_secs_f64()
    );
    result
}

fn test(args: &[OsString]) -> Result<(), Failure> {
    let only = std::env::var("RAWDRIVE_E2E_BACKEND").ok();
    // Black-box tests alone do not ask them.
    let mocks = match only {
        None => Some(step("other mocks of Stripe", mocks::Mocks::install)?),
        Some(_) => None,
    };
    let servers = step("servers", servers::Servers::start)?;
    // Always the whole workspace, also where only the black-box tests run: another choice of packages chooses
    // other features for what they stand on, and would build it all again. The server is built along, for the
    // tests of its package.
    let cargo_test = |select: &[&str], to_tests: &[&str]| {
        let mut command = cargo();
        command.args(["test", "--workspace", "--no-fail-fast"]);
        command.args(select).args(args);
        if !to_tests.is_empty() {
            if !args.iter().any(|arg| arg == "--") {
                command.arg("--");
            }
            command.args(to_tests);
        }
        if std::env::var_os("RUST_TEST_THREADS").is_none() {
            command.env("RUST_TEST_THREADS", test_threads().to_string());
        }
        command.env("RAWDRIVE_TEST_POSTGRES_URL", servers.postgres_url());
        command.env("RAWDRIVE_TEST_PGBOUNCER_URL", servers.pgbouncer_url());
        command.env("RAWDRIVE_TEST_REDIS_URL", servers.redis_url());
        if let Some(mocks) = &mocks {
            command.env("RAWDRIVE_TEST_LOCALSTRIPE", mocks.localstripe());
            command.env("RAWDRIVE_TEST_STATEFUL_MOCK", mocks.stateful_mock());
        }
        command
    };
    step("build", || run(&mut cargo_test(&["--no-run"], &[])))?;
    let mut failed = Vec::new();
    for (n, backend) in BACKENDS.into_iter().enumerate() {
        let (name, select): (_, &[&str]) = match &only {
            Some(only) if only != backend => continue,
            Some(_) => (format!("black-box tests on {backend}"), BLACK_BOX),
            None if n == 0 => (format!("all tests, the black-box ones on {backend}"), &[]),
            None => (format!("black-box tests on {backend}"), BLACK_BOX),
        };
        let mut choice = about_this(backend).to_vec();
        if only.is_none() && args.is_empty() {
            choice.extend(of_all(backend));
        }
        let mut command = cargo_test(select, &choice);
        command.env("RAWDRIVE_E2E_BACKEND", backend);
        if n == 0 {
            // One backend's calls are as good as another's.
            let record = judge::record_of_tests();
            fs::create_dir_all(record.with_file_name(""))
                .and_then(|()| fs::write(&record, ""))
                .map_err(toolbox::failed("begin", &record))?;
            command.env(judge::RECORD, record);
        }
        if step(&name, || run(&mut command)).is_err() {
            failed.push(name);
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!("failed: {}", failed.join(", "))))
    }
}

/// Twice the cores: a test against a server waits for half of its time, for leases, intervals and answers.
fn test_threads() -> usize {
    2 * std::thread::available_parallelism().map_or(2, usize::from)
}

/// What selects the black-box tests alone.
const BLACK_BOX: &[&str] = &["--test", "e2e"];

/// What the product runs on, as `tests/src/backend.rs` reads it.
const BACKENDS: [&str; 4] = ["sqlite", "postgres", "postgres-redis", "pgbouncer-redis"];

/// The black-box tests that are asked on a backend where it is not asked for alone: every test runs on SQLite and on what
/// has all (PostgreSQL behind `PgBouncer`, with Redis); between the two, those in which the difference has a part.
fn of_all(backend: &str) -> &'static [&'static str] {
    match backend {
        // Named statements, no pooler, and no Redis to count in.
        "postgres" => &[
            "on_postgres::",
            "conventions::",
            "crash::",
            "doctor::",
            "isolation::",
            "quota::",
            "read_only::",
            "team::",
            "webhooks::",
        ],
        "postgres-redis" => &[
            "crash::",
            "isolation::",
            "ledger::",
            "mirror::",
            "operation::",
            "quota::",
            "secrets::",
        ],
        _ => &[],
    }
}

/// What leaves out the black-box tests that are about another database, so that they are counted as filtered out or
/// ignored and not as passed: those in `on_sqlite` run unless they are skipped, those in `on_postgres` are ignored.
fn about_this(backend: &str) -> &'static [&'static str] {
    match backend {
        "sqlite" => &[],
        "postgres" => &["--include-ignored", "--skip", "on_sqlite::"],
        _ => &["--skip", "on_sqlite::"],
    }
}

/// The cargo that runs us, at the workspace's root. What it has told us about our own package is not for those that it
/// builds now: build scripts look at it, and would run again after each build by hand.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace_root());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

fn workspace_root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// Runs to the end with our own output; a failure keeps the child's exit status.
fn run(command: &mut Command) -> Result<(), Failure> {
    let name = describe(command);
    let status = command
        .status()
        .map_err(|e| Failure::new(format!("failed to start `{name}`: {e}")))?;
    if status.success() {
        return Ok(());
    }
    let code = status.code().and_then(|c| u8::try_from(c).ok());
    Err(Failure {
        message: format!("`{name}` failed: {status}"),
        code: code.unwrap_or(1),
    })
}

fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut text = program
        .file_name()
        .unwrap_or(program.as_os_str())
        .to_string_lossy()
        .into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}
