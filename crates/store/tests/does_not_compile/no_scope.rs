//! Without a scope there is no handle.

use rawdrive_store::Store;

async fn attempt(store: &Store) {
    let _ = store.read();
    let _ = store.begin().await;
}

fn main() {}
