//! The one module that speaks to SeaORM without a workspace in the statement's type: it is what puts the
//! workspace there. Everything else in this crate goes through [`Tenant`] or the handles' own `sql`.

#![expect(
    clippy::disallowed_methods,
    reason = "the scope module wraps what everything else is forbidden"
)]

use std::error::Error;

use rawdrive_tenancy_core::id::TypedId;
use rawdrive_tenancy_core::{StoreError, WorkspaceScope};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DatabaseBackend, DbErr, DeleteMany,
    EntityTrait, Insert, InsertMany, QueryFilter, QueryResult, RuntimeErr, Select, SqlErr,
    Statement, UpdateMany, Value,
};

use crate::{pool, test_hooks};

/// An entity whose rows belong to a workspace. `tenant_entity!` declares one.
pub trait TenantEntity: EntityTrait {
    /// The column `workspace_id`.
    const WORKSPACE: Self::Column;
}

/// Statements on a table whose rows belong to a workspace: each begins with the workspace.
pub(crate) trait Tenant: TenantEntity {
    /// Reads of the scope's own rows.
    fn scoped(scope: &WorkspaceScope) -> Select<Self> {
        filtered(Self::find(), Self::WORKSPACE, scope)
    }

    /// Updates of the scope's own rows.
    fn scoped_update(scope: &WorkspaceScope) -> UpdateMany<Self> {
        filtered(Self::update_many(), Self::WORKSPACE, scope)
    }

    /// Deletes of the scope's own rows.
    fn scoped_delete(scope: &WorkspaceScope) -> DeleteMany<Self> {
        filtered(Self::delete_many(), Self::WORKSPACE, scope)
    }

    /// An insert, stamped with the scope's workspace whatever the row said.
    fn scoped_insert<A>(scope: &WorkspaceScope, rows: impl IntoIterator<Item = A>) -> InsertMany<A>
    where
        A: ActiveModelTrait<Entity = Self>,
    {
        Insert::many(rows.into_iter().map(|mut row| {
            row.set(Self::WORKSPACE, scope.workspace().uuid().into());
            row
        }))
    }
}

impl<E: TenantEntity> Tenant for E {}

/// The scope's own rows of what a statement is about.
pub(crate) fn filtered<Q: QueryFilter>(
    statement: Q,
    workspace: impl ColumnTrait,
    scope: &WorkspaceScope,
) -> Q {
    if test_hooks::has_no_filter() {
        return statement;
    }
    statement.filter(workspace.eq(scope.workspace().uuid()))
}

/// Whether the database locks rows that are read to be changed. SQLite has one writer at a time.
pub(crate) fn locks_rows(on: &impl ConnectionTrait) -> bool {
    on.get_database_backend() == DatabaseBackend::Postgres
}

/// What ends a statement of this crate's own SQL that reads rows to change them, where those that others work
/// on just now are to be left out. It keeps nobody from pointing at them.
pub(crate) fn to_change_if_free(on: &impl ConnectionTrait) -> &'static str {
    if locks_rows(on) {
        " FOR NO KEY UPDATE SKIP LOCKED"
    } else {
        ""
    }
}

/// Reads of a global table.
pub(crate) fn global<E: EntityTrait>() -> Select<E> {
    E::find()
}

/// An insert into a global table.
pub(crate) fn global_insert<A: ActiveModelTrait>(row: A) -> Insert<A> {
    Insert::one(row)
}

/// Runs a statement of this crate's own SQL: `$1` is by convention the workspace wherever a tenant table is
/// named. Answers the rows that changed.
pub(crate) async fn execute(
    on: &impl ConnectionTrait,
    operation: &'static str,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<u64, StoreError> {
    let done = on
        .execute_raw(statement(on.get_database_backend(), sql, values))
        .await
        .map_err(failed(operation))?;
    Ok(done.rows_affected())
}

/// As [`execute`], and answers the rows that the statement returns.
pub(crate) async fn query(
    on: &impl ConnectionTrait,
    operation: &'static str,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<QueryResult>, StoreError> {
    on.query_all_raw(statement(on.get_database_backend(), sql, values))
        .await
        .map_err(failed(operation))
}

fn statement(
    backend: DatabaseBackend,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Statement {
    test_hooks::count_statement();
    if test_hooks::has_no_filter() {
        return Statement::from_sql_and_values(backend, test_hooks::unfiltered(sql), values);
    }
    Statement::from_sql_and_values(backend, sql, values)
}

/// What a database error means to a port.
pub(crate) fn failed(operation: &'static str) -> impl Fn(DbErr) -> StoreError {
    move |error| match error.sql_err() {
        Some(SqlErr::UniqueConstraintViolation(_)) => StoreError::Taken { operation },
        Some(SqlErr::ForeignKeyConstraintViolation(_)) => StoreError::Dangling { operation },
        _ if is_full(&error) => StoreError::Full {
            operation,
            source: error.into(),
        },
        _ => StoreError::Unavailable {
            operation,
            source: Box::<dyn Error + Send + Sync>::from(error),
        },
    }
}

/// Whether there is no room to write.
fn is_full(error: &DbErr) -> bool {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => pool::is_full(error),
        _ => false,
    }
}

/// A column of a row from [`query`].
pub(crate) fn column<T: sea_orm::TryGetable>(
    row: &QueryResult,
    name: &'static str,
) -> Result<T, StoreError> {
    row.try_get("", name).map_err(failed("read a column"))
}

/// Names a value that a row must not hold.
pub(crate) fn corrupt(
    table: &'static str,
    column: &'static str,
    row: impl ToString,
    reason: impl ToString,
) -> StoreError {
    StoreError::Corrupt {
        table,
        column,
        row: row.to_string(),
        reason: reason.to_string(),
    }
}

/// A database integer that must be a count.
pub(crate) fn count(
    table: &'static str,
    column: &'static str,
    value: i64,
) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|e| corrupt(table, column, value, e))
}

/// A domain amount as the database keeps it.
pub(crate) fn amount(value: u64) -> i64 {
    // Limits and amounts are checked to fit when they are read; the largest means "no bound".
    i64::try_from(value).unwrap_or(i64::MAX)
}
