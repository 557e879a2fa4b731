//! Things to start from. Each is the plainest of its kind; a test changes the fields that matter to it.

use std::sync::Arc;

use rawdrive_gallery::id::{GalleryId, LibraryId};
use rawdrive_gallery::{Client, Download, Gallery, Library, Photo};
use rawdrive_identity::{EmailAddress, PersonName};
use rawdrive_plans::{Limit, Metric, Plan};
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::{Env, SystemReason, WorkspaceScope};
use serde_json::json;

/// The scope of the job runner in a workspace.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "tests act in workspaces that have no members"
)]
pub fn scope(workspace: WorkspaceId) -> WorkspaceScope {
    WorkspaceScope::for_system(workspace, SystemReason::JOB)
}

/// A plan with these limits, and none but these.
///
/// # Panics
/// When a plan is no longer what it serializes to.
#[must_use]
pub fn plan(limits: &[(Metric, Limit)]) -> Arc<Plan> {
    let limits: serde_json::Map<_, _> = limits
        .iter()
        .map(|(metric, limit)| (metric.to_string(), json!(limit.bound())))
        .collect();
    let plan =
        json!({ "slug": "test", "version": 1, "name": "Test", "limits": limits, "features": {} });
    let plan: Plan = serde_json::from_value(plan).expect("a plan has these fields");
    Arc::new(plan)
}

/// A library.
///
/// # Panics
/// Never.
#[must_use]
pub fn library(env: &Env) -> Library {
    Library {
        id: env.id(),
        name: "Weddings".parse().expect("a title"),
        created_at: env.now(),
        updated_at: env.now(),
        version: 1,
    }
}

/// A gallery of a library.
///
/// # Panics
/// Never.
#[must_use]
pub fn gallery(env: &Env, library: LibraryId) -> Gallery {
    Gallery {
        id: env.id(),
        library,
        name: "Summer".parse().expect("a title"),
        download: Download::None,
        deleted_at: None,
        created_at: env.now(),
        updated_at: env.now(),
        version: 1,
    }
}

/// A photo of a gallery.
///
/// # Panics
/// Never.
#[must_use]
pub fn photo(env: &Env, gallery: GalleryId, size_bytes: u64) -> Photo {
    Photo {
        id: env.id(),
        gallery,
        filename: "a.jpg".parse().expect("a file name"),
        content_type: "image/jpeg".to_owned(),
        size_bytes,
        sha256: [0; 32],
        width: None,
        height: None,
        orientation: None,
        taken_at: None,
        created_at: env.now(),
    }
}

/// A client who was not invited yet.
///
/// # Panics
/// The text is no address.
#[must_use]
pub fn client(env: &Env, email: &str) -> Client {
    Client {
        id: env.id(),
        name: PersonName::parse("Ada").expect("a name"),
        email: EmailAddress::parse(email).expect("an address"),
        invited_at: None,
        last_seen_at: None,
        created_at: env.now(),
        updated_at: env.now(),
        version: 1,
    }
}
