#![doc = include_str!("../README.md")]

mod api_keys;
mod authenticated_read;
mod batcher;
mod billing;
mod connection;
mod counter_rebuild;
mod credential_row;
mod deadline;
mod doctor;
mod entitlements;
mod entity;
pub mod extension;
mod history;
mod idempotency;
mod identity;
mod ingest;
mod job_queue;
mod ledger;
mod live_usage;
mod onboarding;
mod pending;
mod pool;
mod postgres;
mod proofs;
mod reach;
mod reservations;
mod rows;
mod schema_checks;
mod scope;
mod sqlite;
mod statement_check;
mod store;
mod team;
mod test_hooks;
mod transaction;
mod url;
mod usage;
mod webhooks;
mod workspace;

#[cfg(test)]
extern crate self as rawdrive_store;
#[cfg(test)]
mod rls_tests;
#[cfg(test)]
#[path = "../tests/contract/subject.rs"]
mod subject;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;

pub use authenticated_read::Withheld;
pub use counter_rebuild::Difference;
pub use credential_row::{Found, Presented};
pub use deadline::{InRequest, Waits, in_background, in_request};
pub use doctor::{AuditChain, Finding, Snapshot};
pub use idempotency::{Claim, Claimed, Replay};
pub use job_queue::{LeasedTurn, Turn};
pub use ledger::AuditFilter;
pub use schema_checks::{SchemaIssue, Severity};
pub use store::{OpenError, Reader, Release, Store, WriteTx};
pub use url::{Backend, Url, UrlError};
pub use workspace::WorkspaceRow;
