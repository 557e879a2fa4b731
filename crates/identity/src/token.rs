//! Access tokens.

use chrono::{DateTime, Utc};
use rawdrive_tenancy_core::id::{SessionId, UserId, WorkspaceId};

/// What a verified access token says. It proves a session, not a right: the membership is read at each
/// request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessClaims {
    /// Who.
    pub user: UserId,
    /// In which workspace.
    pub workspace: WorkspaceId,
    /// Of which sign-in.
    pub session: SessionId,
    /// Until when.
    pub expires_at: DateTime<Utc>,
}
