//! A membership is read from the database; it is not written down.

use rawdrive_tenancy_core::id::{SessionId, UserId, WorkspaceId};
use rawdrive_tenancy_core::{Membership, Role};

fn attempt(workspace: WorkspaceId, user: UserId, session: SessionId) -> Membership {
    Membership {
        workspace,
        user,
        role: Role::Owner,
        session,
    }
}

fn main() {}
