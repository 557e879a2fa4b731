//! When counters changed: what a mirror of usage may have missed is found by it.

use sea_orm_migration::prelude::*;

use crate::ddl::{Capability, define, readable_by};

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0014_live_usage"
    }
}

const STATEMENTS: &[&str] = &[
    // A server of an earlier release does not note it: until it is replaced, the mirror's rotating look alone
    // finds what it changed.
    "ALTER TABLE quotas ADD COLUMN changed_at {time} NOT NULL DEFAULT '1970-01-01T00:00:00+00:00'",
    // Across workspaces: it begins with the time, and is no wall between them.
    "CREATE INDEX quotas_by_change ON quotas (changed_at, workspace_id)",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        define(manager, STATEMENTS).await?;
        // The republisher learns which workspaces changed.
        readable_by(manager, Capability::Worker, "quotas", "true").await
    }
}
