//! API keys, mailed proofs, and whether an address was proved.

use sea_orm_migration::prelude::*;

use crate::ddl::define;

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0003_credentials"
    }
}

const TABLES: &[&str] = &[
    "CREATE TABLE api_keys (
        workspace_id {uuid} NOT NULL,
        id {uuid} NOT NULL,
        name TEXT NOT NULL,
        role TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'member')),
        secret_hash TEXT NOT NULL,
        created_by TEXT NOT NULL,
        created_at {time} NOT NULL,
        expires_at {time},
        last_used_at {time},
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ){strict}",
    "ALTER TABLE users ADD COLUMN email_verified_at {time}",
    "CREATE TABLE proof_requests (
        id {uuid} NOT NULL PRIMARY KEY,
        purpose TEXT NOT NULL CHECK (purpose IN ('password_reset', 'email_verification')),
        email_folded TEXT NOT NULL,
        leased_until {time} NOT NULL,
        attempts {int} NOT NULL,
        created_at {time} NOT NULL
    ){strict}",
    "CREATE TABLE proofs (
        id {uuid} NOT NULL PRIMARY KEY,
        purpose TEXT NOT NULL CHECK (purpose IN ('password_reset', 'email_verification')),
        user_id {uuid} NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        secret_hash TEXT NOT NULL,
        created_at {time} NOT NULL,
        expires_at {time} NOT NULL
    ){strict}",
    "CREATE INDEX proofs_by_user ON proofs (user_id)",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        define(manager, TABLES).await
    }
}
