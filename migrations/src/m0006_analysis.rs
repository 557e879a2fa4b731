//! Analyses of photos, and holds of more than uploads.

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
    "CREATE TABLE photo_analyses (
        workspace_id {uuid} NOT NULL,
        photo_id {uuid} NOT NULL,
        sharpness {real} NOT NULL,
        exposure_mean {real} NOT NULL,
        shadows_clipped {real} NOT NULL,
        highlights_clipped {real} NOT NULL,
        dominant_colors TEXT NOT NULL,
        perceptual_hash {int} NOT NULL,
        caption TEXT,
        analyzer TEXT NOT NULL,
        analyzed_at {time} NOT NULL,
        PRIMARY KEY (workspace_id, photo_id),
        FOREIGN KEY (workspace_id, photo_id) REFERENCES photos (workspace_id, id) ON DELETE CASCADE
    ){strict}",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        define(manager, STATEMENTS).await
    }
}
