//! A scope that is rightly held is not turned to another workspace.

use rawdrive_tenancy_core::WorkspaceScope;
use rawdrive_tenancy_core::id::WorkspaceId;

fn attempt(mine: &mut WorkspaceScope, theirs: WorkspaceId) {
    mine.workspace = theirs; //~ E0616
    //+ let _: bool = mine.workspace() == theirs;
}

fn main() {}
