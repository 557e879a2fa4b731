//! A bare UUID opens nothing.

use rawdrive_store::Store;
use rawdrive_store::extension::sea_orm::prelude::Uuid;
use rawdrive_tenancy_core::WorkspaceScope;

fn attempt(store: &Store, theirs: Uuid, mine: &WorkspaceScope) {
    let _ = store.read(&theirs); //~ E0308
    //+ let _ = store.read(mine);
}

fn main() {}
