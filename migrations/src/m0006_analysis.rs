//! Holds of more than one purpose.

use sea_orm_migration::prelude::*;

use crate::ddl::define;

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0006_analysis"
    }
}

const STATEMENTS: &[&str] = &[
    // Without a CHECK: SQLite would have to rebuild the table for each further purpose, and reading names
    // what it does not know.
    "ALTER TABLE holds ADD COLUMN purpose TEXT NOT NULL DEFAULT 'upload'",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        define(manager, STATEMENTS).await
    }
}
