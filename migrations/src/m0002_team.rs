//! Invitations.

use sea_orm_migration::prelude::*;

use crate::ddl::define;

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0002_team"
    }
}

const TABLES: &[&str] = &[
    // One invitation an address: whoever invites again takes the first one back.
    "CREATE TABLE invitations (
        workspace_id {uuid} NOT NULL,
        id {uuid} NOT NULL,
        email TEXT NOT NULL,
        email_folded TEXT NOT NULL,
        role TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'member')),
        secret_hash {bytes} NOT NULL,
        invited_by TEXT NOT NULL,
        created_at {time} NOT NULL,
        expires_at {time} NOT NULL,
        PRIMARY KEY (workspace_id, id),
        UNIQUE (workspace_id, email_folded),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ){strict}",
    "CREATE INDEX invitations_by_expiry ON invitations (expires_at)",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        define(manager, TABLES).await
    }
}
