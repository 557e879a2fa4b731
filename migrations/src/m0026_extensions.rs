//! The history of the migrations that extensions bring along.
//!
//! Where the schema is brought up to date the table is there before the first migration runs
//! ([`crate::extension`] says why); whoever runs the migrations alone gets it here.

use sea_orm_migration::prelude::*;

use crate::ddl::define;

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0026_extensions"
    }
}

/// One row for each migration that was applied. `core` names the migrations of a release from before extensions.
pub(crate) const TABLES: &[&str] = &["CREATE TABLE IF NOT EXISTS extension_migrations (
        extension TEXT NOT NULL,
        name TEXT NOT NULL,
        applied_at {time} NOT NULL,
        PRIMARY KEY (extension, name)
    ){strict}"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        define(manager, TABLES).await
    }
}
