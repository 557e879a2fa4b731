//! When a plan that was granted for a time ends by itself, and what follows it.

use sea_orm_migration::prelude::*;

use crate::ddl::define;

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0019_plan_end"
    }
}

const TABLES: &[&str] = &[
    "ALTER TABLE standings ADD COLUMN plan_ends_at {time}",
    "ALTER TABLE standings ADD COLUMN then_plan_slug TEXT",
    "ALTER TABLE standings ADD COLUMN then_plan_version {int}",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        define(manager, TABLES).await
    }
}
