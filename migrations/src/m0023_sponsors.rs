//! Who answers for an API key and for an invitation.
//!
//! What a member made, the member answers for. What a key made, answers for who answers for the key, as far back as the
//! keys are still there; nobody answers for the rest, which is worth nothing from now on.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DatabaseBackend;

use crate::ddl::{close_workspaces, define, open_workspaces};

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0023_sponsors"
    }
}

const COLUMNS: &[&str] = &[
    "ALTER TABLE api_keys ADD COLUMN sponsor_id {uuid}",
    "ALTER TABLE invitations ADD COLUMN sponsor_id {uuid}",
];

/// An id's 32 hex digits, of a column.
fn digits(backend: DatabaseBackend, column: &str) -> String {
    match backend {
        DatabaseBackend::Postgres => format!("replace({column}::text, '-', '')"),
        _ => format!("lower(hex({column}))"),
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        define(manager, COLUMNS).await?;
        let backend = manager.get_database_backend();
        let (user, key) = (digits(backend, "m.user_id"), digits(backend, "k.id"));
        // A chain of keys that made each other is walked from the members' end. It has an end: a key that is younger
        // than another did not make it.
        let of_keys = format!(
            "WITH RECURSIVE answered (workspace_id, id, sponsor_id) AS (
                SELECT k.workspace_id, k.id, m.user_id FROM api_keys k
                JOIN memberships m ON m.workspace_id = k.workspace_id AND k.created_by = 'usr_' || {user}
                UNION
                SELECT made.workspace_id, made.id, a.sponsor_id FROM answered a
                JOIN api_keys k ON k.workspace_id = a.workspace_id AND k.id = a.id
                JOIN api_keys made ON made.workspace_id = k.workspace_id AND made.created_by = 'key_' || {key}
            )
            UPDATE api_keys SET sponsor_id = (SELECT a.sponsor_id FROM answered a
                WHERE a.workspace_id = api_keys.workspace_id AND a.id = api_keys.id)"
        );
        let of_invitations = format!(
            "UPDATE invitations SET sponsor_id = coalesce(
                (SELECT m.user_id FROM memberships m WHERE m.workspace_id = invitations.workspace_id
                    AND invitations.invited_by = 'usr_' || {user}),
                (SELECT k.sponsor_id FROM api_keys k WHERE k.workspace_id = invitations.workspace_id
                    AND invitations.invited_by = 'key_' || {key}))"
        );
        let tables = ["api_keys", "invitations", "memberships"];
        open_workspaces(manager, &tables).await?;
        define(manager, &[&of_keys, &of_invitations]).await?;
        close_workspaces(manager, &tables).await
    }
}
