//! Knowing a workspace's id is not the right to act in it.

use rawdrive_store::Store;
use rawdrive_tenancy_core::WorkspaceScope;
use rawdrive_tenancy_core::id::WorkspaceId;

async fn attempt(store: &Store, theirs: WorkspaceId, mine: &WorkspaceScope) {
    let _ = store.read(&theirs); //~ E0308
    let _ = store.begin(&theirs).await; //~ E0308
    //+ let _ = store.read(mine);
    //+ let _ = store.begin(mine).await;
}

fn main() {}
