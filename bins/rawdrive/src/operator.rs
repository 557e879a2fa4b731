//! As whom the commands work.

use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::{SystemReason, WorkspaceScope};

#[expect(
    clippy::disallowed_methods,
    reason = "an operator names the workspace at the command line"
)]
pub(crate) fn operator(workspace: WorkspaceId) -> WorkspaceScope {
    WorkspaceScope::for_system(workspace, SystemReason::OPERATOR)
}
