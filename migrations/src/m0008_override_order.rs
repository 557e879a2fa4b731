//! The order in which overrides were made, which their ids do not tell of two of the same millisecond.

use sea_orm_migration::prelude::*;

use crate::ddl::define;

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0008_override_order"
    }
}

const TABLES: &[&str] = &["ALTER TABLE overrides ADD COLUMN seq {int} NOT NULL DEFAULT 0"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        define(manager, TABLES).await
    }
}
