//! What may be read beyond a workspace in PostgreSQL: a person's own memberships, and what tells the job
//! runner which workspace to enter. SQLite has no row-level security.

use sea_orm_migration::prelude::*;

use crate::ddl::{Capability, USER, readable_by};

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0009_capabilities"
    }
}

/// Tables that the job runner looks through for workspaces that wait for it.
const QUEUES: &[(&str, &str)] = &[
    ("workspaces", "true"),
    ("jobs", "true"),
    ("holds", "state = 'held'"),
    ("invitations", "true"),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let own = format!("user_id = {USER}");
        readable_by(manager, Capability::User, "memberships", &own).await?;
        // The subquery is under the policies itself: it sees the person's own memberships alone.
        let theirs = "workspace_id IN (SELECT m.workspace_id FROM memberships m)";
        readable_by(manager, Capability::User, "workspaces", theirs).await?;
        for (table, waiting) in QUEUES {
            readable_by(manager, Capability::Worker, table, waiting).await?;
        }
        Ok(())
    }
}
