//! How a photo's pixels are turned for display. Photos from before keep the sides that were stored with them, and
//! say nothing of it: their bytes would have to be read again.

use sea_orm_migration::prelude::*;

use crate::ddl::define;

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0024_orientation"
    }
}

const TABLES: &[&str] =
    &["ALTER TABLE photos ADD COLUMN orientation {int} CHECK (orientation BETWEEN 1 AND 8)"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        define(manager, TABLES).await
    }
}
