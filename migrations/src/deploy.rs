//! Bringing a PostgreSQL schema up to date, as the role that owns it.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseTransaction, Statement};

use crate::Migrator;
use crate::extension::{Extension, MigrateError, migrate};

/// The advisory lock of schema changes: any number that nothing else of this product uses.
const LOCK: i64 = 0x5244_7363_6865_6D61;

/// The names of all migrations, oldest first.
#[must_use]
pub fn names() -> Vec<String> {
    let migrations = Migrator::migrations();
    migrations.iter().map(|m| m.name().to_owned()).collect()
}

/// Runs every pending migration, the core's and the extensions', in the transaction, and grants the server's role what it needs, also on tables
/// that later migrations make. Several may do so at once: all but one wait, and then find nothing to do. The
/// lock is the transaction's, so it holds behind PgBouncer in transaction mode too.
///
/// # Errors
/// A declaration is wrong, or the database refuses.
pub async fn deploy(
    tx: &DatabaseTransaction,
    server_role: Option<&str>,
    extensions: &[Extension],
) -> Result<(), MigrateError> {
    execute(tx, &format!("SELECT pg_advisory_xact_lock({LOCK})")).await?;
    // A pooler may have handed us a session in which another migration left its statements, whose names
    // ours would meet.
    execute(tx, "DEALLOCATE ALL").await?;
    migrate(tx, extensions).await?;
    if let Some(role) = server_role {
        grant(tx, &quoted(role)).await?;
    }
    Ok(execute(tx, "DEALLOCATE ALL").await?)
}

async fn grant(tx: &DatabaseTransaction, role: &str) -> Result<(), DbErr> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the catalogue of schemas belongs to no workspace"
    )]
    let row = tx
        .query_one_raw(Statement::from_string(
            tx.get_database_backend(),
            "SELECT current_schema()::text AS name",
        ))
        .await?;
    let schema = row.ok_or_else(|| DbErr::Custom("there is no current schema".to_owned()))?;
    let schema = quoted(&schema.try_get::<String>("", "name")?);
    for sql in [
        format!("GRANT USAGE ON SCHEMA {schema} TO {role}"),
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}"),
        format!(
            "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}"
        ),
        format!(
            "REVOKE INSERT, UPDATE, DELETE ON {schema}.seaql_migrations, {schema}.extension_migrations FROM {role}"
        ),
    ] {
        execute(tx, &sql).await?;
    }
    Ok(())
}

/// A name as an identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

async fn execute(tx: &DatabaseTransaction, sql: &str) -> Result<(), DbErr> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a schema is raw statements, and belongs to no workspace"
    )]
    tx.execute_unprepared(sql).await?;
    Ok(())
}
