//! The schema's statements, written once for every database: types stand in braces.
//!
//! On PostgreSQL a table with a column `workspace_id` is made together with its row-level security: enabled,
//! forced (so that it binds the owner too), and with the policy `tenant`. Whoever adds a table says nothing of
//! it, and cannot forget it.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseBackend};

/// A type in braces, what it is in SQLite, and in PostgreSQL. STRICT: a value of another type is refused
/// instead of kept, as PostgreSQL does by nature.
const TYPES: &[(&str, &str, &str)] = &[
    ("{uuid}", "BLOB", "UUID"),
    ("{bytes}", "BLOB", "BYTEA"),
    ("{time}", "TEXT", "TIMESTAMPTZ"),
    ("{int}", "INTEGER", "BIGINT"),
    ("{real}", "REAL", "DOUBLE PRECISION"),
    ("{bool}", "INTEGER", "BOOLEAN"),
    ("{strict}", " STRICT", ""),
];

/// The workspace that a transaction was begun in. A setting that has ended reads as an empty text, not as
/// NULL, in a session that knew it before.
const WORKSPACE: &str = "nullif(current_setting('app.workspace_id', true), '')::uuid";

/// Runs the statements in their order.
pub(crate) async fn define(manager: &SchemaManager<'_>, statements: &[&str]) -> Result<(), DbErr> {
    for statement in statements {
        define_one(manager, statement, tenant_table(statement)).await?;
    }
    Ok(())
}

/// Runs a statement. `tenant` is the table that it makes, where rows of it belong to a workspace.
pub(crate) async fn define_one(
    manager: &SchemaManager<'_>,
    statement: &str,
    tenant: Option<&str>,
) -> Result<(), DbErr> {
    execute(manager, &render(manager.get_database_backend(), statement)).await?;
    match tenant {
        Some(table) => protect(manager, table).await,
        None => Ok(()),
    }
}

/// Whether a type of this name may stand in braces.
pub(crate) fn is_type(name: &str) -> bool {
    TYPES.iter().any(|(braced, ..)| {
        let braced = braced.strip_prefix('{');
        braced.and_then(|rest| rest.strip_suffix('}')) == Some(name)
    })
}

fn render(backend: DatabaseBackend, statement: &str) -> String {
    let mut sql = statement.to_owned();
    for (name, sqlite, postgres) in TYPES {
        let value = if is_postgres(backend) {
            postgres
        } else {
            sqlite
        };
        sql = sql.replace(name, value);
    }
    sql
}

/// The table that a statement makes, if its rows belong to a workspace.
fn tenant_table(statement: &str) -> Option<&str> {
    let mut words = statement.split_whitespace();
    let mut expect = |word: &str| words.next().is_some_and(|w| w.eq_ignore_ascii_case(word));
    if !(expect("CREATE") && expect("TABLE")) {
        return None;
    }
    let (head, columns) = statement.split_once('(')?;
    let table = head.split_whitespace().last()?;
    let mut words = columns.split([',', '(', ')']).map(str::trim);
    words
        .any(|column| {
            column.split_whitespace().next() == Some("workspace_id") && column != "workspace_id"
        })
        .then_some(table)
}

/// Puts a table under row-level security, for its owner too.
async fn protect(manager: &SchemaManager<'_>, table: &str) -> Result<(), DbErr> {
    if !is_postgres(manager.get_database_backend()) {
        return Ok(());
    }
    let sql = format!(
        "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
         ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
         CREATE POLICY tenant ON {table}
             USING (workspace_id = {WORKSPACE}) WITH CHECK (workspace_id = {WORKSPACE});"
    );
    execute(manager, &sql).await
}

/// What a transaction may read beyond a workspace, on the strength of a setting other than the workspace.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Capability {
    /// `app.user_id`: a person's own.
    User,
    /// `app.worker`: the job runner learns which workspace to enter.
    Worker,
}

impl Capability {
    const fn name(self) -> &'static str {
        match self {
            Self::User => "own",
            Self::Worker => "worker",
        }
    }
}

/// The person that a transaction was begun for.
pub(crate) const USER: &str = "nullif(current_setting('app.user_id', true), '')::uuid";

/// Lets a capability read a tenant table's rows for which `condition` holds, and do nothing else with them.
/// It counts in a transaction that was begun in no workspace alone: two rights never add up.
pub(crate) async fn readable_by(
    manager: &SchemaManager<'_>,
    capability: Capability,
    table: &str,
    condition: &str,
) -> Result<(), DbErr> {
    if !is_postgres(manager.get_database_backend()) {
        return Ok(());
    }
    let holds = match capability {
        Capability::User => format!("{USER} IS NOT NULL"),
        Capability::Worker => "current_setting('app.worker', true) = 'on'".to_owned(),
    };
    let name = capability.name();
    let sql = format!(
        "CREATE POLICY {name} ON {table} FOR SELECT
             USING ({holds} AND {WORKSPACE} IS NULL AND ({condition}))"
    );
    execute(manager, &sql).await
}

/// Takes back what [`readable_by`] gave on a table.
pub(crate) async fn not_readable_by(
    manager: &SchemaManager<'_>,
    capability: Capability,
    table: &str,
) -> Result<(), DbErr> {
    if !is_postgres(manager.get_database_backend()) {
        return Ok(());
    }
    let name = capability.name();
    execute(manager, &format!("DROP POLICY {name} ON {table}")).await
}

/// Lets statements touch every workspace's rows of the tables, as a data migration does, until [`close_workspaces`]
/// within the same transaction: FORCE binds the owner too.
pub(crate) async fn open_workspaces(
    manager: &SchemaManager<'_>,
    tables: &[&str],
) -> Result<(), DbErr> {
    force(manager, tables, "NO FORCE").await
}

/// Puts back what [`open_workspaces`] has lifted.
pub(crate) async fn close_workspaces(
    manager: &SchemaManager<'_>,
    tables: &[&str],
) -> Result<(), DbErr> {
    force(manager, tables, "FORCE").await
}

async fn force(manager: &SchemaManager<'_>, tables: &[&str], verb: &str) -> Result<(), DbErr> {
    if !is_postgres(manager.get_database_backend()) {
        return Ok(());
    }
    for table in tables {
        execute(
            manager,
            &format!("ALTER TABLE {table} {verb} ROW LEVEL SECURITY"),
        )
        .await?;
    }
    Ok(())
}

/// Tables whose rows are written once.
const APPEND_ONLY: [&str; 2] = ["ledger", "audit_entries"];

/// The triggers that keep what was recorded from being changed, each with its table.
#[must_use]
pub fn append_only_triggers(backend: DatabaseBackend) -> Vec<(&'static str, String)> {
    let kinds = if is_postgres(backend) {
        ["change", "truncate"]
    } else {
        ["UPDATE", "DELETE"]
    };
    APPEND_ONLY
        .into_iter()
        .flat_map(|table| kinds.map(|kind| (table, format!("{table}_no_{kind}"))))
        .collect()
}

/// Makes a table's rows ones that are written once.
pub(crate) async fn append_only(manager: &SchemaManager<'_>, table: &str) -> Result<(), DbErr> {
    if is_postgres(manager.get_database_backend()) {
        let sql = format!(
            "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$;
             CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table}
                 FOR EACH ROW EXECUTE FUNCTION refuse_change();
             CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table}
                 FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();"
        );
        return execute(manager, &sql).await;
    }
    for verb in ["UPDATE", "DELETE"] {
        let trigger = format!(
            "CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table}
             BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        );
        execute(manager, &trigger).await?;
    }
    Ok(())
}

fn is_postgres(backend: DatabaseBackend) -> bool {
    backend == DatabaseBackend::Postgres
}

async fn execute(manager: &SchemaManager<'_>, sql: &str) -> Result<(), DbErr> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a schema is raw statements, and belongs to no workspace"
    )]
    manager.get_connection().execute_unprepared(sql).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_belongs_to_workspaces_when_a_column_of_it_says_so() {
        for (statement, table) in [
            (
                "CREATE TABLE a (\n workspace_id {uuid} NOT NULL,\n id {uuid} NOT NULL)",
                Some("a"),
            ),
            (
                "CREATE TABLE b (id {uuid} PRIMARY KEY, workspace_id {uuid}){strict}",
                Some("b"),
            ),
            (
                "create table IF NOT EXISTS c (workspace_id {uuid} PRIMARY KEY REFERENCES d (workspace_id))",
                Some("c"),
            ),
            ("CREATE TABLE e (id {uuid}, last_workspace_id {uuid})", None),
            (
                "CREATE TABLE f (id {uuid} PRIMARY KEY REFERENCES d (workspace_id))",
                None,
            ),
            ("CREATE INDEX g ON a (workspace_id, id)", None),
            ("ALTER TABLE a ADD COLUMN workspace_id_2 {uuid}", None),
        ] {
            assert_eq!(tenant_table(statement), table, "{statement}");
        }
    }

    #[test]
    fn each_type_has_a_name_in_each_database() {
        let sql = "CREATE TABLE t (a {uuid}, b {time}, c {int}, d {bool}){strict}";
        assert_eq!(
            render(DatabaseBackend::Sqlite, sql),
            "CREATE TABLE t (a BLOB, b TEXT, c INTEGER, d INTEGER) STRICT"
        );
        assert_eq!(
            render(DatabaseBackend::Postgres, sql),
            "CREATE TABLE t (a UUID, b TIMESTAMPTZ, c BIGINT, d BOOLEAN)"
        );
    }
}
