//! Holds say which job their end leaves, and jobs of which kind they are, in columns of their own.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DatabaseBackend;

use crate::ddl::{close_workspaces, define, open_workspaces};

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0027_open_kinds"
    }
}

const COLUMNS: &[&str] = &[
    "ALTER TABLE holds ADD COLUMN cleanup TEXT",
    "ALTER TABLE jobs ADD COLUMN kind TEXT NOT NULL DEFAULT ''",
    "CREATE INDEX jobs_by_kind ON jobs (kind, workspace_id, id)",
];

/// The one purpose that left a job behind so far.
const HOLDS: &str = "UPDATE holds SET cleanup = 'upload_ended' WHERE purpose = 'upload'";

/// Servers of the release before go on during an upgrade, and write neither column: what they leave must be found too.
/// SQLite has one server at a time.
const OLDER_SERVERS: &str = "CREATE OR REPLACE FUNCTION kind_of_an_older_server() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN
            IF TG_TABLE_NAME = 'jobs' THEN NEW.kind := NEW.work::json->>'kind';
            ELSE NEW.cleanup := 'upload_ended'; END IF;
            RETURN NEW;
        END $$;
    CREATE TRIGGER jobs_kind BEFORE INSERT ON jobs FOR EACH ROW WHEN (NEW.kind = '')
        EXECUTE FUNCTION kind_of_an_older_server();
    CREATE TRIGGER holds_cleanup BEFORE INSERT ON holds FOR EACH ROW
        WHEN (NEW.purpose = 'upload' AND NEW.cleanup IS NULL) EXECUTE FUNCTION kind_of_an_older_server();";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        const TENANT: [&str; 2] = ["holds", "jobs"];
        define(manager, COLUMNS).await?;
        if manager.get_database_backend() == DatabaseBackend::Postgres {
            define(manager, &[OLDER_SERVERS]).await?;
        }
        let kinds = match manager.get_database_backend() {
            DatabaseBackend::Sqlite => "UPDATE jobs SET kind = json_extract(work, '$.kind')",
            _ => "UPDATE jobs SET kind = work::json->>'kind'",
        };
        open_workspaces(manager, &TENANT).await?;
        define(manager, &[HOLDS, kinds]).await?;
        close_workspaces(manager, &TENANT).await
    }
}
