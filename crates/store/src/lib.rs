//! The one SeaORM adapter: every port of the domain crates on SQLite.
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
mod clients;
mod doctor;
mod entity;
mod gallery;
mod idempotency;
mod identity;
mod jobs;
mod ledger;
mod onboarding;
mod proofs;
mod scope;
mod standing;
mod store;
mod team;
mod usage;
mod workspace;

pub use doctor::{Finding, Snapshot};
pub use idempotency::{Claim, Claimed, Replay};
pub use store::{OpenError, Reader, Release, Store, Url, WriteTx};
pub use workspace::WorkspaceRow;
