//! A handle comes from the store; it is not put together by hand.

use rawdrive_store::{Reader, Store};
use rawdrive_tenancy_core::WorkspaceScope;

fn attempt(store: Store, scope: WorkspaceScope) -> Reader {
    Reader { store, scope }
}

fn main() {}
