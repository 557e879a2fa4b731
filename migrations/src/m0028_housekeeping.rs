//! What runs in the background finds what is due by an index: jobs that are ready, in each workspace, and rows that have
//! outlived their use.

use sea_orm_migration::prelude::*;

use crate::ddl::{Capability, define, not_readable_by, readable_by};

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0028_housekeeping"
    }
}

const INDEXES: &[&str] = &[
    // From workspace to workspace of one kind, and in each to what is ready, past what waits for its next attempt.
    "CREATE INDEX jobs_by_turn ON jobs (kind, workspace_id, leased_until, id)",
    "DROP INDEX jobs_by_kind",
    "CREATE INDEX sessions_by_expiry ON sessions (expires_at)",
    "CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at)",
    "CREATE INDEX holds_closed ON holds (expires_at) WHERE state <> 'held'",
    "CREATE INDEX proofs_by_expiry ON proofs (expires_at)",
];

/// Where the sweep looks for workspaces. It saw open holds so far.
const SWEPT: [&str; 4] = ["idempotency_keys", "sessions", "refresh_tokens", "holds"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        define(manager, INDEXES).await?;
        not_readable_by(manager, Capability::Worker, "holds").await?;
        for table in SWEPT {
            readable_by(manager, Capability::Worker, table, "true").await?;
        }
        Ok(())
    }
}
