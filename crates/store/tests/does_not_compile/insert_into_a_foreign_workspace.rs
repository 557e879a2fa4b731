//! An insert goes to the handle's workspace; it is not told another one.

use rawdrive_gallery::{GalleryTx, Library};
use rawdrive_store::WriteTx;
use rawdrive_tenancy_core::id::WorkspaceId;

async fn attempt(tx: &mut WriteTx, theirs: WorkspaceId, library: &Library) {
    let _ = tx.insert_library(theirs, library).await; //~ E0061
    //+ let _ = tx.insert_library(library).await;
}

fn main() {}
