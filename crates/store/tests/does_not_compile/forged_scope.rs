//! A scope comes from a membership or a stated reason; it is not written down.

use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::{Actor, Membership, WorkspaceScope};

fn attempt(workspace: WorkspaceId, actor: Actor, membership: &Membership) -> WorkspaceScope {
    WorkspaceScope { workspace, actor } //~ E0451
    //+ WorkspaceScope::for_member(membership)
}

fn main() {}
