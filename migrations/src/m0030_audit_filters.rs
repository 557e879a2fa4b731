//! The audit log is asked for by what was done and by who did it.

use sea_orm_migration::prelude::*;

use crate::ddl::define;

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0030_audit_filters"
    }
}

const INDEXES: &[&str] = &[
    "CREATE INDEX audit_entries_by_action ON audit_entries (workspace_id, action, seq)",
    "CREATE INDEX audit_entries_by_actor ON audit_entries (workspace_id, actor, seq)",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        define(manager, INDEXES).await
    }
}
