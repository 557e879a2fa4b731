//! The gallery's tables, and its ports on the store's handles: an extension like any other embedder's.
//!
//! Invariant: no statement here names a workspace but `$1`, which the handle binds.

mod analysis;
mod blob_mark;
mod clients;
mod doctor;
mod entities;
mod galleries;
mod migrations;
mod renditions;

pub use blob_mark::{blob_mark, know_blob_mark};
pub use doctor::{in_transit, pieces, pieces_among, some_photos};
pub use renditions::photos_to_render;

use rawdrive_store::extension::{Extension, corrupt};
use rawdrive_tenancy_core::StoreError;
use rawdrive_tenancy_core::page::PageRequest;

/// The gallery's tables, what of them onboarding looks at, and what `doctor` checks.
pub const GALLERY: Extension = Extension::new("gallery", migrations::MIGRATIONS)
    .data_migrations(migrations::DATA)
    .adopts(migrations::ADOPTS)
    .globals(migrations::GLOBALS)
    .facts(crate::FACTS)
    .checks(crate::CHECKS);

/// One row more than the page shows says whether another follows.
fn one_more(page: PageRequest) -> u64 {
    u64::from(page.limit) + 1
}

fn version(table: &'static str, value: i64) -> Result<u32, StoreError> {
    u32::try_from(value).map_err(|e| corrupt(table, "version", value, e))
}

/// A database integer that must be a count.
fn count(table: &'static str, column: &'static str, value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|e| corrupt(table, column, value, e))
}
