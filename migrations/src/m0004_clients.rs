//! Clients, the links that were mailed to them, and which galleries they see.

use sea_orm_migration::prelude::*;

use crate::ddl::define;

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0004_clients"
    }
}

const TABLES: &[&str] = &[
    "CREATE TABLE clients (
        workspace_id {uuid} NOT NULL,
        id {uuid} NOT NULL,
        name TEXT NOT NULL,
        email TEXT NOT NULL,
        email_folded TEXT NOT NULL,
        last_seen_at {time},
        created_at {time} NOT NULL,
        updated_at {time} NOT NULL,
        version {int} NOT NULL,
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ){strict}",
    "CREATE UNIQUE INDEX clients_by_email ON clients (workspace_id, email_folded)",
    // A link that is revoked is deleted: nothing is left that could be compared with.
    "CREATE TABLE client_links (
        workspace_id {uuid} NOT NULL,
        id {uuid} NOT NULL,
        client_id {uuid} NOT NULL,
        secret_hash {bytes} NOT NULL,
        created_at {time} NOT NULL,
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id, client_id) REFERENCES clients (workspace_id, id) ON DELETE CASCADE
    ){strict}",
    "CREATE UNIQUE INDEX client_links_by_client ON client_links (workspace_id, client_id)",
    "CREATE TABLE gallery_clients (
        workspace_id {uuid} NOT NULL,
        gallery_id {uuid} NOT NULL,
        client_id {uuid} NOT NULL,
        PRIMARY KEY (workspace_id, gallery_id, client_id),
        FOREIGN KEY (workspace_id, gallery_id) REFERENCES galleries (workspace_id, id) ON DELETE CASCADE,
        FOREIGN KEY (workspace_id, client_id) REFERENCES clients (workspace_id, id) ON DELETE CASCADE
    ){strict}",
    "CREATE INDEX gallery_clients_by_client ON gallery_clients (workspace_id, client_id, gallery_id)",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        define(manager, TABLES).await
    }
}
