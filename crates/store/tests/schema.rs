//! Every table is a workspace's or on the list of global ones, in both databases: whoever adds a table is told
//! here what it lacks.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test are test code, which clippy knows of functions marked as tests alone"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "the database's own description of its tables belongs to no workspace"
)]

use std::collections::{BTreeMap, BTreeSet};

use rawdrive_migrations::{Extension, GLOBAL_TABLES, TENANT_TABLES};
use rawdrive_tenancy_core::Env;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sea_orm::sqlx::{self, AssertSqlSafe, Connection, Executor, Row};

mod support;

use support::{Database, EXTENSIONS, Engine};

/// A table as a database describes it.
#[derive(Debug, Default)]
struct Table {
    columns: BTreeSet<String>,
    primary_key: Vec<String>,
    /// The columns of each unique index.
    unique: Vec<Vec<String>>,
    /// The columns of each foreign key, and the table that it points at.
    foreign_keys: Vec<(Vec<String>, String)>,
}

impl Table {
    fn is_tenant(&self) -> bool {
        self.columns.contains("workspace_id")
    }
}

type Schema = BTreeMap<String, Table>;

fn words(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

async fn sqlite(extensions: &[Extension]) -> Schema {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rawdrive.db");
    let url = rawdrive_store::Url::sqlite(&file);
    let store = rawdrive_store::Store::open(
        &url,
        Env::system(),
        &rawdrive_gallery::built_in_catalogue(),
        extensions,
    )
    .await;
    store.unwrap().close().await;
    let options = SqliteConnectOptions::new().filename(file);
    let mut on = SqliteConnection::connect_with(&options).await.unwrap();
    let mut schema = Schema::new();
    for sql in [
        "SELECT m.name AS t, 'column' AS kind, c.name AS a, '' AS b FROM sqlite_schema m, pragma_table_info(m.name) c
            WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'",
        "SELECT t, 'key', group_concat(c), '' FROM (SELECT m.name AS t, c.name AS c FROM sqlite_schema m, pragma_table_info(m.name) c
            WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND c.pk > 0 ORDER BY m.name, c.pk) GROUP BY t",
        "SELECT t, 'unique', group_concat(c), '' FROM (SELECT m.name AS t, i.name AS i, c.name AS c
            FROM sqlite_schema m, pragma_index_list(m.name) i, pragma_index_info(i.name) c
            WHERE m.type = 'table' AND i.\"unique\" ORDER BY m.name, i.name, c.seqno) GROUP BY t, i",
        "SELECT t, 'foreign', group_concat(c), target FROM (SELECT m.name AS t, f.id AS id, f.\"from\" AS c, f.\"table\" AS target
            FROM sqlite_schema m, pragma_foreign_key_list(m.name) f
            WHERE m.type = 'table' ORDER BY m.name, f.id, f.seq) GROUP BY t, id",
    ] {
        for row in on.fetch_all(sql).await.unwrap() {
            take(&mut schema, row.get(0), row.get(1), row.get(2), row.get(3));
        }
    }
    schema
}

fn take(schema: &mut Schema, table: String, kind: &str, first: &str, second: &str) {
    let table = schema.entry(table).or_default();
    match kind {
        "column" => drop(table.columns.insert(first.to_owned())),
        "key" => table.primary_key = words(first),
        "unique" => table.unique.push(words(first)),
        _ => table.foreign_keys.push((words(first), second.to_owned())),
    }
}

async fn postgres() -> Schema {
    let database = Database::new(Engine::Postgres).await;
    let mut on = database.connect_as_superuser().await;
    let mut schema = Schema::new();
    for sql in [
        "SELECT table_name::text, 'column', column_name::text, '' FROM information_schema.columns WHERE table_schema = 'public'",
        "SELECT conrelid::regclass::text, 'key', (SELECT string_agg(a.attname, ',' ORDER BY k.n)
                FROM unnest(conkey) WITH ORDINALITY k (num, n) JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = k.num), ''
            FROM pg_constraint WHERE contype = 'p' AND connamespace = 'public'::regnamespace",
        "SELECT indrelid::regclass::text, 'unique', (SELECT string_agg(a.attname, ',' ORDER BY k.n)
                FROM unnest(indkey) WITH ORDINALITY k (num, n) JOIN pg_attribute a ON a.attrelid = indrelid AND a.attnum = k.num), ''
            FROM pg_index JOIN pg_class c ON c.oid = indrelid WHERE indisunique AND c.relnamespace = 'public'::regnamespace",
        "SELECT conrelid::regclass::text, 'foreign', (SELECT string_agg(a.attname, ',' ORDER BY k.n)
                FROM unnest(conkey) WITH ORDINALITY k (num, n) JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = k.num),
                confrelid::regclass::text
            FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace",
    ] {
        for row in sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut on).await.unwrap() {
            take(&mut schema, row.get(0), row.get(1), row.get(2), row.get(3));
        }
    }
    schema
}

/// What is wrong with a schema.
fn complaints(schema: &Schema) -> Vec<String> {
    let own = EXTENSIONS.iter().flat_map(|extension| extension.globals);
    let global: BTreeMap<_, _> = GLOBAL_TABLES.iter().chain(own).copied().collect();
    let first = |columns: &[String]| columns.first().is_some_and(|c| c == "workspace_id");
    let mut found = Vec::new();
    for (name, table) in schema {
        match (table.is_tenant(), global.contains_key(name.as_str())) {
            (false, true) => continue,
            (false, false) => {
                found.push(format!("{name} has no workspace_id and no reason"));
                continue;
            }
            (true, true) => found.push(format!("{name} is a workspace's and global")),
            (true, false) => {}
        }
        if !first(&table.primary_key) {
            found.push(format!("{name}'s primary key is {:?}", table.primary_key));
        }
        for unique in table.unique.iter().filter(|unique| !first(unique)) {
            found.push(format!("{name} is unique by {unique:?}"));
        }
        for (columns, to) in &table.foreign_keys {
            if schema.get(to).is_some_and(Table::is_tenant) && !first(columns) {
                found.push(format!("{name} points at {to} by {columns:?}"));
            }
        }
    }
    for name in global.keys().filter(|name| !schema.contains_key(**name)) {
        found.push(format!("{name} is on the list and not there"));
    }
    found
}

#[tokio::test]
async fn every_table_is_a_workspaces_or_global_for_a_reason() {
    let (core, sqlite) = (sqlite(&[]).await, sqlite(EXTENSIONS).await);
    let postgres = postgres().await;
    for schema in [&sqlite, &postgres] {
        assert!(schema.len() > 20, "the schema was read: {schema:#?}");
        let holds = &schema["hold_charges"];
        assert_eq!(holds.primary_key[..2], ["workspace_id", "hold_id"]);
        assert!(!holds.foreign_keys.is_empty() && !holds.unique.is_empty());
        // The one reasoned exception: an event names the customer alone, whose that is comes out by it.
        assert_eq!(
            complaints(schema),
            [r#"billing_customers is unique by ["customer"]"#]
        );
    }
    let tenants = core.iter().filter(|(_, table)| table.is_tenant());
    let tenants: Vec<_> = tenants.map(|(name, _)| name.as_str()).collect();
    assert_eq!(tenants, TENANT_TABLES, "the list of tenant tables");
    let shape = |schema: &Schema| -> BTreeMap<String, BTreeSet<String>> {
        let tables = schema.iter();
        tables
            .map(|(name, table)| (name.clone(), table.columns.clone()))
            .collect()
    };
    assert_eq!(
        shape(&sqlite),
        shape(&postgres),
        "both databases have the same tables"
    );
}

#[test]
fn a_table_that_is_neither_is_named() {
    let mut schema = Schema::new();
    let columns = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let list = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    let own = EXTENSIONS.iter().flat_map(|extension| extension.globals);
    for (name, _) in GLOBAL_TABLES.iter().chain(own) {
        schema.insert((*name).to_owned(), Table::default());
    }
    schema.insert(
        "stray".to_owned(),
        Table {
            columns: columns(&["id"]),
            ..Table::default()
        },
    );
    schema.insert(
        "loose".to_owned(),
        Table {
            columns: columns(&["workspace_id", "id", "loose_id"]),
            primary_key: list(&["id"]),
            unique: vec![list(&["id", "workspace_id"])],
            foreign_keys: vec![(list(&["loose_id"]), "loose".to_owned())],
        },
    );
    assert_eq!(
        complaints(&schema),
        [
            "loose's primary key is [\"id\"]",
            "loose is unique by [\"id\", \"workspace_id\"]",
            "loose points at loose by [\"loose_id\"]",
            "stray has no workspace_id and no reason",
        ]
    );
}

/// The last wall is a property of the database, whoever asks.
#[tokio::test]
async fn every_tenant_table_is_protected_from_its_owner_too() {
    const PROTECTED: &str = "SELECT c.relname::text FROM pg_class c JOIN pg_policy p ON p.polrelid = c.oid
        WHERE c.relrowsecurity AND c.relforcerowsecurity AND p.polname = 'tenant' AND p.polcmd = '*' AND p.polpermissive
          AND p.polroles = '{0}'
          AND pg_get_expr(p.polqual, c.oid) = pg_get_expr(p.polwithcheck, c.oid)
          AND pg_get_expr(p.polqual, c.oid)
            = '(workspace_id = (NULLIF(current_setting(''app.workspace_id''::text, true), ''''::text))::uuid)'";
    let database = Database::new(Engine::Postgres).await;
    let mut on = database.connect_as_superuser().await;
    let rows = sqlx::query(PROTECTED).fetch_all(&mut on).await.unwrap();
    let protected: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let schema = postgres().await;
    let tenants: BTreeSet<String> = schema
        .iter()
        .filter(|(_, table)| table.is_tenant())
        .map(|(name, _)| name.clone())
        .collect();
    assert!(
        tenants.contains("photos") && tenants.contains("workspaces") && tenants.contains("jobs")
    );
    assert_eq!(protected, tenants);

    // Beside it stand the capabilities, which read and do nothing else.
    const OTHERS: &str =
        "SELECT polname || ' ' || polrelid::regclass || ' ' || polcmd::text FROM pg_policy
        WHERE polname <> 'tenant' ORDER BY 1";
    let rows = sqlx::query(OTHERS).fetch_all(&mut on).await.unwrap();
    let others: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert!(others.contains(&"own memberships r".to_owned()));
    assert!(
        others.iter().all(|policy| {
            policy.ends_with(" r") && (policy.starts_with("own ") || policy.starts_with("worker "))
        }),
        "{others:#?}"
    );

    // Nothing goes around them.
    const AROUND: &str = "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
            AND relkind IN ('v', 'm', 'f')
        UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef";
    let around = sqlx::query(AROUND).fetch_all(&mut on).await.unwrap();
    assert!(
        around.is_empty(),
        "a view, or a function that runs as its owner"
    );
}
