//! A handle is of one workspace: its reads take no second scope.

use rawdrive_gallery::GalleryRead;
use rawdrive_store::Reader;
use rawdrive_tenancy_core::WorkspaceScope;
use rawdrive_gallery::id::{LibraryId};

async fn attempt(mine: &Reader, theirs: &WorkspaceScope, id: LibraryId) {
    let _ = mine.library(theirs, id).await;
}

fn main() {}
