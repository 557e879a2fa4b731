//! Events of the payment provider are found by their age, to be forgotten.

use sea_orm_migration::prelude::*;

use crate::ddl::define;

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0021_event_age"
    }
}

const INDEXES: &[&str] = &[
    "CREATE INDEX billing_events_by_age ON billing_events (received_at) WHERE disposition = 'touches'",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        define(manager, INDEXES).await
    }
}
