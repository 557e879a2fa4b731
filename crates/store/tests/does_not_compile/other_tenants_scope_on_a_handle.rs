//! A handle is of one workspace: its reads take no second scope.

use rawdrive_gallery::GalleryRead;
use rawdrive_gallery::id::LibraryId;
use rawdrive_store::Reader;
use rawdrive_tenancy_core::WorkspaceScope;

async fn attempt(mine: &Reader, theirs: &WorkspaceScope, id: LibraryId) {
    let _ = mine.library(theirs, id).await; //~ E0061
    //+ let _ = mine.library(id).await;
}

fn main() {}
