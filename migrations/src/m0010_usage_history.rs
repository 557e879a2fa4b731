//! The ledger is chained, and summed by hour and by month; the ids of reported events.

use sea_orm_migration::prelude::*;

use crate::ddl::define;

mod chain;

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0010_usage_history"
    }
}

const STATEMENTS: &[&str] = &[
    // Without a CHECK, as the purposes of holds: reading names what it does not know.
    "ALTER TABLE ledger ADD COLUMN kind TEXT NOT NULL DEFAULT 'usage'",
    "ALTER TABLE ledger ADD COLUMN event_id TEXT",
    // A column that is added to a table with rows has no value of its own in each at first.
    "ALTER TABLE ledger ADD COLUMN hash {bytes}",
    "ALTER TABLE ledger_heads ADD COLUMN hash {bytes}",
    "ALTER TABLE ledger_heads ADD COLUMN not_before {time}",
    "CREATE INDEX ledger_by_metric ON ledger (workspace_id, metric, seq)",
    "CREATE INDEX ledger_by_recording ON ledger (workspace_id, recorded_at, seq)",
    "CREATE TABLE usage_hours (
        workspace_id {uuid} NOT NULL,
        metric TEXT NOT NULL,
        hour {time} NOT NULL,
        quantity {int} NOT NULL,
        PRIMARY KEY (workspace_id, metric, hour),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ){strict}",
    "CREATE TABLE usage_months (
        workspace_id {uuid} NOT NULL,
        month {time} NOT NULL,
        metric TEXT NOT NULL,
        lines {int} NOT NULL CHECK (lines > 0),
        events {int} NOT NULL,
        corrections {int} NOT NULL,
        late_lines {int} NOT NULL,
        late_quantity {int} NOT NULL,
        PRIMARY KEY (workspace_id, month, metric),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ){strict}",
    // Kept for ever: the same id counts once, whenever it comes again.
    "CREATE TABLE usage_event_ids (
        workspace_id {uuid} NOT NULL,
        event_id TEXT NOT NULL,
        claimed_at {time} NOT NULL,
        PRIMARY KEY (workspace_id, event_id),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ){strict}",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        define(manager, STATEMENTS).await?;
        chain::chain_old_lines(manager).await
    }
}
