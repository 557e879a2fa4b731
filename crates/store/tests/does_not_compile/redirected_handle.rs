//! An open handle is not turned to another workspace.

use rawdrive_store::{Reader, WriteTx};
use rawdrive_tenancy_core::WorkspaceScope;

fn attempt(reader: &mut Reader, tx: &mut WriteTx, theirs: &WorkspaceScope) {
    reader.scope = *theirs;
    tx.scope = *theirs;
}

fn main() {}
