//! Requests for mails of a further purpose, and counters that are found by their end.

use sea_orm_migration::prelude::*;

use crate::ddl::define;

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0022_counters"
    }
}

const STATEMENTS: &[&str] = &[
    // SQLite drops no CHECK: the table is made anew, on both databases alike. Without one this time, as the purposes
    // of holds: reading names what it does not know.
    "CREATE TABLE proof_requests_new (
        id {uuid} NOT NULL PRIMARY KEY,
        purpose TEXT NOT NULL,
        email_folded TEXT NOT NULL,
        leased_until {time} NOT NULL,
        attempts {int} NOT NULL,
        created_at {time} NOT NULL
    ){strict}",
    "INSERT INTO proof_requests_new (id, purpose, email_folded, leased_until, attempts, created_at)
        SELECT id, purpose, email_folded, leased_until, attempts, created_at FROM proof_requests",
    "DROP TABLE proof_requests",
    "ALTER TABLE proof_requests_new RENAME TO proof_requests",
    "CREATE INDEX password_attempts_by_end ON password_attempts (window_ends_at)",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        define(manager, STATEMENTS).await
    }
}
