//! A bare UUID opens nothing.

use rawdrive_store::Store;
use uuid::Uuid;

fn attempt(store: &Store, theirs: Uuid) {
    let _ = store.read(&theirs);
}

fn main() {}
