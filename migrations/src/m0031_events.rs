//! What happened in a workspace, in its order, and where it is sent.

use sea_orm_migration::prelude::*;

use crate::ddl::{Capability, define, readable_by};

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0031_events"
    }
}

const TABLES: &[&str] = &[
    // The last number of the feed: who adds events holds the row until the commit, so that numbers are seen in their order.
    "CREATE TABLE event_heads (
        workspace_id {uuid} NOT NULL PRIMARY KEY,
        seq {int} NOT NULL,
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ){strict}",
    "CREATE TABLE events (
        workspace_id {uuid} NOT NULL,
        seq {int} NOT NULL,
        id {uuid} NOT NULL,
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        facts TEXT NOT NULL,
        at {time} NOT NULL,
        PRIMARY KEY (workspace_id, seq),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ){strict}",
    "CREATE UNIQUE INDEX events_by_id ON events (workspace_id, id)",
    "CREATE INDEX events_by_age ON events (at)",
    // `secret` and `old_secret` are sealed. `delivered_seq`: everything up to it was delivered, given up or not wanted.
    // `awake`: a job looks for what comes after it.
    "CREATE TABLE webhook_endpoints (
        workspace_id {uuid} NOT NULL,
        id {uuid} NOT NULL,
        url TEXT NOT NULL,
        kinds TEXT NOT NULL,
        secret TEXT NOT NULL,
        old_secret TEXT,
        old_secret_until {time},
        enabled {bool} NOT NULL,
        disabled_reason TEXT CHECK (disabled_reason IN ('failing', 'gone')),
        delivered_seq {int} NOT NULL,
        awake {bool} NOT NULL,
        failing_since {time},
        created_at {time} NOT NULL,
        version {int} NOT NULL,
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ){strict}",
    "CREATE TABLE webhook_deliveries (
        workspace_id {uuid} NOT NULL,
        id {uuid} NOT NULL,
        endpoint_id {uuid} NOT NULL,
        event_seq {int} NOT NULL,
        event_id {uuid} NOT NULL,
        kind TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'failed')),
        attempts {int} NOT NULL,
        response_status {int},
        error TEXT,
        last_attempt_at {time},
        next_attempt_at {time},
        created_at {time} NOT NULL,
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id, endpoint_id) REFERENCES webhook_endpoints (workspace_id, id)
    ){strict}",
    "CREATE UNIQUE INDEX webhook_deliveries_by_event ON webhook_deliveries (workspace_id, endpoint_id, event_seq)",
    "CREATE INDEX webhook_deliveries_by_age ON webhook_deliveries (created_at) WHERE state <> 'pending'",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        define(manager, TABLES).await?;
        // The sweep looks for workspaces with what is old.
        for table in ["events", "webhook_deliveries"] {
            readable_by(manager, Capability::Worker, table, "true").await?;
        }
        Ok(())
    }
}
