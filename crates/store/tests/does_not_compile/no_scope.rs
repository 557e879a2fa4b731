//! Without a scope there is no handle.

use rawdrive_store::Store;
use rawdrive_tenancy_core::WorkspaceScope;

async fn attempt(store: &Store, mine: &WorkspaceScope) {
    let _ = store.read(); //~ E0061
    let _ = store.begin().await; //~ E0061
    //+ let _ = store.read(mine);
    //+ let _ = store.begin(mine).await;
}

fn main() {}
