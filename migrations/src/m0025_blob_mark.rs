//! The mark of the blob store that holds the photos of this database.

use sea_orm_migration::prelude::*;

use crate::ddl::define;

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0025_blob_mark"
    }
}

const TABLES: &[&str] = &["CREATE TABLE blob_marks (
        holds TEXT NOT NULL PRIMARY KEY CHECK (holds = 'photos'),
        mark {uuid} NOT NULL,
        marked_at {time} NOT NULL
    ){strict}"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        define(manager, TABLES).await
    }
}
