//! The one SeaORM adapter: every port of the domain crates, on SQLite and on PostgreSQL.
//!
//! ```no_run
//! use rawdrive_plans::Catalogue;
//! use rawdrive_store::{Store, Url};
//! use rawdrive_tenancy_core::Env;
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::open(&Url::sqlite("data/rawdrive.db"), Env::system(), &Catalogue::parse(&std::fs::read_to_string("plans.toml")?)?, &[]).await?;
//! store.ping().await?;
//! # Ok(()) }
//! ```
//!
//! Invariant: entities and connections are private; the only ways to tenant rows are [`Store::begin`] and
//! [`Store::read`], and both take a scope. Tables of an embedder's own: [`extension`].

mod api_keys;
mod authenticated_read;
mod batcher;
mod billing;
mod connection;
mod counter_rebuild;
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

pub use authenticated_read::{Found, Presented, Withheld};
pub use counter_rebuild::Difference;
pub use deadline::{InRequest, Waits, in_background, in_request};
pub use doctor::{AuditChain, Finding, Snapshot};
pub use idempotency::{Claim, Claimed, Replay};
pub use job_queue::{LeasedTurn, Turn};
pub use ledger::AuditFilter;
pub use schema_checks::{SchemaIssue, Severity};
pub use store::{OpenError, Reader, Release, Store, WriteTx};
pub use url::{Backend, Url, UrlError};
pub use workspace::WorkspaceRow;
