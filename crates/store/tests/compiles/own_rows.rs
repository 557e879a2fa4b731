//! A member reads and writes the rows of the workspace that the membership names.

use rawdrive_gallery::{GalleryRead, GalleryTx, Library};
use rawdrive_plans::BeginError;
use rawdrive_store::{Reader, Store, WriteTx};
use rawdrive_gallery::id::{LibraryId};
use rawdrive_tenancy_core::{Commit, Membership, StoreError, WorkspaceScope};

async fn reads(
    store: &Store,
    membership: &Membership,
    id: LibraryId,
) -> Result<Option<Library>, StoreError> {
    let scope = WorkspaceScope::for_member(membership);
    let reader: Reader = store.read(&scope);
    reader.library(id).await
}

async fn writes(store: &Store, scope: &WorkspaceScope, library: Library) -> Result<(), BeginError> {
    let mut tx: WriteTx = store.begin(scope).await?;
    let version = library.version + 1;
    tx.insert_library(&Library { version, ..library }).await?;
    tx.commit().await?;
    Ok(())
}

fn main() {
    let _ = (reads, writes);
}
