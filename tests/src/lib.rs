//! The harness of the end-to-end tests: starts the real `rawdrive` binary on a fresh data directory and
//! speaks to it as its clients and its operator do. It imports none of the workspace's crates, so that a
//! test can only know what a client knows.
//!
//! ```no_run
//! # async fn example() {
//! let server = e2e::Server::start();
//! let ada = server.sign_up("ada").await;
//! ada.get("/v1/me").await.is(200);
//! # }
//! ```
//!
//! Invariant: a server never outlives the test process, however that ends (a watchdog on a pipe sees to it). Nothing
//! that a server prints holds a secret that a test knows: a server's log is searched when it ends.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `RAWDRIVE_BIN` | the binary; otherwise the one built beside the tests |
//! | `RAWDRIVE_E2E_BACKEND` | what the servers stand on: `sqlite` (otherwise), `postgres`, `postgres-redis`, `pgbouncer-redis` |
//! | `RAWDRIVE_E2E_ROUNDS` | rounds of the races and of the kills; otherwise the size for CI |
//! | `RAWDRIVE_E2E_UPLOADS` | uploads per round of the kills; otherwise the size for CI |
//! | `RAWDRIVE_E2E_EVENTS` | events of the test that reports many; otherwise the size for CI |
//! | `RAWDRIVE_E2E_OUTAGE` | seconds for which Stripe is down in the test of that; otherwise the size for CI |
//! | `RAWDRIVE_E2E_PREVIEWS` | previews that are compared with what is charged; otherwise the size for CI |
//! | `RAWDRIVE_E2E_ORDERS` | in how many of its 720 orders a story of six events is told |
//! | `RAWDRIVE_E2E_TRACES` | random traces of Stripe's events |
//! | `RAWDRIVE_E2E_FAULTS` | at how many places the disk, or the connection to PostgreSQL, fails |
//! | `RAWDRIVE_E2E_FLIPS` | bytes of each signed payload that are flipped |

mod api;
mod backend;
mod browser;
mod document;
pub mod image;
mod redis;
mod secrets;
mod server;

pub use api::{Actor, Answer, Api, IDLE};
pub use backend::Backend;
pub use browser::Browser;
pub use redis::Redis;
pub use secrets::{Leak, Secrets};
pub use server::{Output, Server};

use std::env;
use std::time::Duration;

/// Rounds of a test whose size is `ci` unless the environment says otherwise.
#[must_use]
pub fn rounds(ci: usize) -> usize {
    number("RAWDRIVE_E2E_ROUNDS", ci)
}

/// Uploads in one round of the kill test.
#[must_use]
pub fn uploads_per_round(ci: usize) -> usize {
    number("RAWDRIVE_E2E_UPLOADS", ci)
}

/// Events of the test that reports many.
#[must_use]
pub fn reported_events(ci: usize) -> usize {
    number("RAWDRIVE_E2E_EVENTS", ci)
}

/// How long Stripe is down in the test that has it down.
#[must_use]
pub fn outage() -> Duration {
    let seconds = number("RAWDRIVE_E2E_OUTAGE", 20);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX))
}

/// Cases of the test that compares previews with charges.
#[must_use]
pub fn previews(ci: usize) -> usize {
    number("RAWDRIVE_E2E_PREVIEWS", ci)
}

/// In how many of its 720 orders a story of six events is told.
#[must_use]
pub fn event_orders(ci: usize) -> usize {
    number("RAWDRIVE_E2E_ORDERS", ci)
}

/// How many random traces of events there are.
#[must_use]
pub fn event_traces(ci: usize) -> usize {
    number("RAWDRIVE_E2E_TRACES", ci)
}

/// How many bytes of a signed payload are flipped, one at a time.
#[must_use]
pub fn flipped_bytes(ci: usize) -> usize {
    number("RAWDRIVE_E2E_FLIPS", ci)
}

/// At how many places the disk or the connection to the database fails.
#[must_use]
pub fn storage_faults(ci: usize) -> usize {
    number("RAWDRIVE_E2E_FAULTS", ci)
}

fn number(variable: &str, default: usize) -> usize {
    env::var(variable).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}"))
    })
}

/// SHA-256 in lower-case hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write;

    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a String takes every write");
        hex
    })
}

/// An id of the kind `prefix` that no workspace has.
#[must_use]
pub fn unknown_id(prefix: &str) -> String {
    let id = uuid::Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_dead_beef);
    format!("{prefix}_{}", id.simple())
}
