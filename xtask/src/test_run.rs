//! Every test, on everything that the product runs on.

use std::ffi::OsString;
use std::fs;

use crate::judge::{RECORD, WEBHOOKS, record_of_tests, webhooks_of_tests};
use crate::mocks::Mocks;
use crate::process::{Failure, cargo, run, step};
use crate::servers::Servers;
use crate::toolbox;

pub(crate) fn run_tests(args: &[OsString]) -> Result<(), Failure> {
    let only = std::env::var("RAWDRIVE_E2E_BACKEND").ok();
    // Black-box tests alone do not ask them.
    let mocks = match only {
        None => Some(step("other mocks of Stripe", Mocks::install)?),
        Some(_) => None,
    };
    let servers = step("servers", Servers::start)?;
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
            for (variable, record) in [(RECORD, record_of_tests()), (WEBHOOKS, webhooks_of_tests())]
            {
                fs::create_dir_all(record.with_file_name(""))
                    .and_then(|()| fs::write(&record, ""))
                    .map_err(toolbox::failed("begin", &record))?;
                command.env(variable, record);
            }
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
