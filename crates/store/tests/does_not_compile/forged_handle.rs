//! A handle comes from the store; it is not put together by hand.

use rawdrive_store::{Reader, Store};
use rawdrive_tenancy_core::WorkspaceScope;

fn attempt(store: Store, scope: WorkspaceScope) -> Reader {
    Reader { store, scope } //~ cannot construct `Reader` with struct literal syntax due to private fields
    //+ store.read(&scope)
}

fn main() {}
