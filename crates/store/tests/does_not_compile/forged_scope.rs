//! A scope comes from a membership or a stated reason; it is not written down.

use rawdrive_tenancy_core::id::{WorkspaceId};
use rawdrive_tenancy_core::{Actor, WorkspaceScope};

fn attempt(workspace: WorkspaceId, actor: Actor) -> WorkspaceScope {
    WorkspaceScope { workspace, actor }
}

fn main() {}
