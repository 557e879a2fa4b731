//! The one SeaORM adapter: every port of the domain crates, on SQLite and on PostgreSQL.
//!
//! ```no_run
//! use rawdrive_plans::Catalogue;
//! use rawdrive_store::{Store, Url};
//! use rawdrive_tenancy_core::Ambient;
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::open(&Url::sqlite("data/rawdrive.db"), Ambient::system(), &Catalogue::built_in()).await?;
//! store.ping().await?;
//! # Ok(()) }
//! ```
//!
//! Invariant: entities and connections are private; the only ways to tenant rows are [`Store::begin`] and
//! [`Store::read`], and both take a scope.

mod analysis;
mod api_keys;
mod billing;
mod blob_mark;
mod clients;
mod connection;
mod deadline;
mod doctor;
mod entity;
mod gallery;
mod history;
mod idempotency;
mod identity;
mod ingest;
mod jobs;
mod ledger;
mod live;
mod mutant;
mod onboarding;
mod postgres;
mod presented;
mod proofs;
mod rebuild;
mod remarks;
mod scope;
mod sessions;
mod sqlite;
mod standing;
mod store;
mod team;
mod together;
mod transaction;
mod url;
mod usage;
mod workspace;

#[cfg(test)]
extern crate self as rawdrive_store;
#[cfg(test)]
mod second_wall;
#[cfg(test)]
#[path = "../tests/contract/subject.rs"]
mod subject;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;

pub use deadline::{InRequest, Waits, in_background, in_request};
pub use doctor::{AuditChain, Finding, Snapshot};
pub use idempotency::{Claim, Claimed, Replay};
pub use presented::{Found, Presented, Withheld};
pub use rebuild::Difference;
pub use remarks::{Remark, Severity};
pub use store::{OpenError, Reader, Release, Store, WriteTx};
pub use url::{Backend, Url, UrlError};
pub use workspace::WorkspaceRow;
