//! The schema's statements, written once for every database: types stand in braces.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::ConnectionTrait;

/// What a type in braces is in SQLite. STRICT: a value of another type is refused instead of kept.
const SQLITE: &[(&str, &str)] = &[
    ("{uuid}", "BLOB"),
    ("{bytes}", "BLOB"),
    ("{time}", "TEXT"),
    ("{int}", "INTEGER"),
    ("{real}", "REAL"),
    ("{bool}", "INTEGER"),
    ("{strict}", " STRICT"),
];

/// Runs the statements in their order.
pub(crate) async fn define(manager: &SchemaManager<'_>, statements: &[&str]) -> Result<(), DbErr> {
    for statement in statements {
        let mut sql = (*statement).to_owned();
        for (name, value) in SQLITE {
            sql = sql.replace(name, value);
        }
        execute(manager, &sql).await?;
    }
    Ok(())
}

/// Makes a table's rows ones that are written once.
pub(crate) async fn append_only(manager: &SchemaManager<'_>, table: &str) -> Result<(), DbErr> {
    for verb in ["UPDATE", "DELETE"] {
        let trigger = format!(
            "CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table}
             BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        );
        execute(manager, &trigger).await?;
    }
    Ok(())
}

async fn execute(manager: &SchemaManager<'_>, sql: &str) -> Result<(), DbErr> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a schema is raw statements, and belongs to no workspace"
    )]
    manager.get_connection().execute_unprepared(sql).await?;
    Ok(())
}
