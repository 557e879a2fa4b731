//! Whoever has the command line acts in any workspace, in the system's name.

use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::{SystemReason, WorkspaceScope};

#[expect(
    clippy::disallowed_methods,
    reason = "an operator names the workspace at the command line"
)]
pub(crate) fn scope(workspace: WorkspaceId) -> WorkspaceScope {
    WorkspaceScope::for_system(workspace, SystemReason::OPERATOR)
}
