//! A membership is read from the database; it is not written down.

use rawdrive_tenancy_core::id::{SessionId, UserId, WorkspaceId};
use rawdrive_tenancy_core::{Membership, Role};

fn attempt(workspace: WorkspaceId, user: UserId, session: SessionId) -> Membership {
    let role = Role::Owner;
    Membership { workspace, user, role, session } //~ E0451
    //+ Membership::attest(workspace, user, role, session)
}

fn main() {}
