//! What the store promises to those who call it: the contract of the domain's ports, and what the ports do
//! not cover. Each test has a database of its own.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test are test code, which clippy knows of functions marked as tests alone"
)]

#[path = "../support/mod.rs"]
#[macro_use]
mod support;

mod authenticated_read;
mod deletion;
mod gallery;
mod idempotency;
mod ledger;
mod live_usage;
mod quota_model;
mod subject;

/// A backend keeps the contract when it is listed here.
mod contract {
    mod sqlite {
        rawdrive_testkit::store_contract!(crate::subject::sqlite);
    }
    mod postgres {
        rawdrive_testkit::store_contract!(crate::subject::postgres);
    }
    mod pgbouncer {
        rawdrive_testkit::store_contract!(crate::subject::pgbouncer);
    }
}
