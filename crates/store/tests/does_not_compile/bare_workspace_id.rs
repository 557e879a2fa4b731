//! Knowing a workspace's id is not the right to act in it.

use rawdrive_store::Store;
use rawdrive_tenancy_core::id::{WorkspaceId};

async fn attempt(store: &Store, theirs: WorkspaceId) {
    let _ = store.read(&theirs);
    let _ = store.begin(&theirs).await;
}

fn main() {}
