//! How far a statement may see.

use rawdrive_tenancy_core::WorkspaceScope;
use rawdrive_tenancy_core::id::{TypedId, UserId, WorkspaceId};

/// How far a statement may see. PostgreSQL's row-level security holds everyone to it; SQLite, which has none,
/// relies on the scoped entities alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The installation's own tables, and no workspace's.
    Installation,
    /// One workspace's rows.
    Workspace(WorkspaceId),
    /// A person's own memberships, and the names of those workspaces. To read alone.
    User(UserId),
    /// What tells the job runner which workspace to enter. To read alone.
    Worker,
}

impl Reach {
    /// Everything that can be set.
    pub(crate) const SETTINGS: [&'static str; 3] =
        ["app.workspace_id", "app.user_id", "app.worker"];

    pub(crate) fn of(scope: &WorkspaceScope) -> Self {
        Self::Workspace(scope.workspace())
    }

    /// What the database is told.
    pub(crate) fn setting(self) -> Option<(&'static str, String)> {
        match self {
            Self::Installation => None,
            Self::Workspace(id) => Some(("app.workspace_id", id.uuid().to_string())),
            Self::User(id) => Some(("app.user_id", id.uuid().to_string())),
            Self::Worker => Some(("app.worker", "on".to_owned())),
        }
    }
}
