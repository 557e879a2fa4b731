//! What onboarding cannot compute from facts: skipped steps, and that completion was told.

use sea_orm_migration::prelude::*;

use crate::ddl::define;

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0005_onboarding"
    }
}

const TABLES: &[&str] = &[
    "CREATE TABLE onboarding (
        workspace_id {uuid} NOT NULL PRIMARY KEY REFERENCES workspaces (workspace_id),
        completed_at {time}
    ){strict}",
    "CREATE TABLE onboarding_skips (
        workspace_id {uuid} NOT NULL,
        step TEXT NOT NULL,
        skipped_at {time} NOT NULL,
        PRIMARY KEY (workspace_id, step),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ){strict}",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        define(manager, TABLES).await
    }
}
