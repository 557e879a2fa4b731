//! An open handle is not turned to another workspace.

use rawdrive_store::{Reader, Store, WriteTx};
use rawdrive_tenancy_core::WorkspaceScope;

fn attempt(store: &Store, reader: &mut Reader, tx: &mut WriteTx, theirs: &WorkspaceScope) {
    reader.scope = *theirs; //~ E0616
    tx.scope = *theirs; //~ E0616
    //+ *reader = store.read(theirs);
}

fn main() {}
