//! Migrations that an embedder brings along: declared as data, checked as a whole, run through the same door as the
//! core's own, and remembered apart from them.
//!
//! The history is the table `extension_migrations`. It is made before the first migration of the core runs, with a note
//! in it that this release made the database ([`NEUTRAL`]). A database without the note, in which the core's migrations
//! have begun, is of a release whose core made tables that are an extension's since. What such a release had applied is
//! written down, as the extension `core`, before anything else runs: an extension that takes over tables of the core finds
//! there what it need not make again, however late it is declared.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{
    ConnectionTrait, DatabaseBackend, DatabaseTransaction, QueryResult, SqliteTransactionMode,
    Statement, TransactionOptions, TransactionTrait, Value,
};

use crate::declaration::{Place, Problem, check, renamed_table, tenant_table};
use crate::{Migrator, ddl, m0026_extensions};

/// As whose the history keeps the core's migrations of a release from before extensions.
pub(crate) const CORE: &str = "core";

/// What the history says of a database that was begun by a release whose core makes no tables of a product, and of an
/// older one once its migrations were written down.
const NEUTRAL: &str = "neutral";

/// The tables of an embedder, and what the core is to know of them.
///
/// Migrations run in their order, each in one transaction, once per database. One that was released never changes.
/// Types stand in braces (`{uuid}`, `{bytes}`, `{time}`, `{int}`, `{real}`, `{bool}`, and `{strict}` after a table), as
/// what they are in each database. A table with a `workspace_id` is put under row-level security as it is made.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Extension {
    /// Its name, in the history and in errors.
    pub name: &'static str,
    /// Each migration's name and statements.
    pub migrations: &'static [(&'static str, &'static [&'static str])],
    /// See [`Extension::data_migrations`].
    pub data_migrations: &'static [(&'static str, DataMigration)],
    /// See [`Extension::globals`].
    pub globals: &'static [(&'static str, &'static str)],
    /// See [`Extension::adopts`].
    pub adopts: &'static [(&'static str, &'static str)],
    /// See [`Extension::checks`].
    pub checks: &'static [(&'static str, &'static str)],
    /// See [`Extension::facts`].
    pub facts: &'static [(&'static str, &'static str)],
}

impl Extension {
    /// An extension with these migrations, oldest first.
    #[must_use]
    pub const fn new(
        name: &'static str,
        migrations: &'static [(&'static str, &'static [&'static str])],
    ) -> Self {
        Self {
            name,
            migrations,
            data_migrations: &[],
            globals: &[],
            adopts: &[],
            checks: &[],
            facts: &[],
        }
    }

    /// Functions that change rows, by the name of the migration after whose statements they run, in its transaction.
    /// A migration of a function alone has no statements.
    #[must_use]
    pub const fn data_migrations(
        mut self,
        functions: &'static [(&'static str, DataMigration)],
    ) -> Self {
        self.data_migrations = functions;
        self
    }

    /// Tables that belong to no workspace, each with its reason. Every other one has a `workspace_id`.
    #[must_use]
    pub const fn globals(mut self, tables: &'static [(&'static str, &'static str)]) -> Self {
        self.globals = tables;
        self
    }

    /// Tables that an older release of the core has made: pairs of a migration of this extension, and the core's that
    /// did the same. Where that release had applied the latter, the former counts as applied.
    #[must_use]
    pub const fn adopts(mut self, migrations: &'static [(&'static str, &'static str)]) -> Self {
        self.adopts = migrations;
        self
    }

    /// Invariants for `doctor`: a name, and a statement that returns a row with a column `detail` for each violation
    /// in the workspace `$1`.
    #[must_use]
    pub const fn checks(mut self, statements: &'static [(&'static str, &'static str)]) -> Self {
        self.checks = statements;
        self
    }

    /// What can be known of the workspace `$1`: a name, and a statement that returns a row where it is so.
    #[must_use]
    pub const fn facts(mut self, statements: &'static [(&'static str, &'static str)]) -> Self {
        self.facts = statements;
        self
    }

    /// The core's migration that did what this one does.
    fn adopted(&self, migration: &str) -> Option<&'static str> {
        let mut adopts = self.adopts.iter();
        adopts.find_map(|(own, core)| (*own == migration).then_some(*core))
    }
}

/// What a [`DataMigration`] returns.
pub type MigrationFuture<'t> = Pin<Box<dyn Future<Output = Result<(), DbErr>> + Send + 't>>;

/// A step of a migration that is code: `|tx| Box::pin(async move { … })`.
pub type DataMigration = fn(&mut MigrationTx) -> MigrationFuture<'_>;

/// The transaction of a migration, for its function. On PostgreSQL it sees no workspace's rows until
/// [`MigrationTx::open_workspaces`].
pub struct MigrationTx {
    tx: DatabaseTransaction,
    /// The extension's tables whose rows belong to workspaces.
    tenants: BTreeSet<String>,
    open: Vec<String>,
}

impl std::fmt::Debug for MigrationTx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MigrationTx").finish_non_exhaustive()
    }
}

impl MigrationTx {
    /// Which database it is.
    #[must_use]
    pub fn backend(&self) -> DatabaseBackend {
        self.tx.get_database_backend()
    }

    /// Lets the statements of this migration touch every workspace's rows of the extension's own tables.
    ///
    /// # Errors
    /// A table is not the extension's, or the database fails.
    pub async fn open_workspaces(&mut self, tables: &[&str]) -> Result<(), DbErr> {
        if let Some(table) = tables.iter().find(|table| !self.tenants.contains(**table)) {
            let text = format!("`{table}` is no table of this extension with a `workspace_id`");
            return Err(DbErr::Custom(text));
        }
        ddl::open_workspaces(&SchemaManager::new(&self.tx), tables).await?;
        self.open
            .extend(tables.iter().map(|table| (*table).to_owned()));
        Ok(())
    }

    /// Runs a statement with its values, `$1` being the first. Answers how many rows it changed.
    ///
    /// # Errors
    /// The database's.
    pub async fn execute(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value> + Send,
    ) -> Result<u64, DbErr> {
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        #[expect(
            clippy::disallowed_methods,
            reason = "a data migration writes every workspace's rows"
        )]
        let done = self.tx.execute_raw(statement).await?;
        Ok(done.rows_affected())
    }

    /// Runs a statement with its values, `$1` being the first, and answers its rows.
    ///
    /// # Errors
    /// The database's.
    pub async fn query(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value> + Send,
    ) -> Result<Vec<QueryResult>, DbErr> {
        query(&self.tx, sql, values).await
    }

    async fn close_workspaces(&mut self) -> Result<(), DbErr> {
        let open: Vec<_> = self.open.iter().map(String::as_str).collect();
        ddl::close_workspaces(&SchemaManager::new(&self.tx), &open).await?;
        self.open.clear();
        Ok(())
    }
}

/// Why the tables of an extension are not brought up to date.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtensionError {
    /// A declaration would not hold; nothing has run.
    #[error("extension `{extension}`{place}: {problem}")]
    Declaration {
        /// The extension.
        extension: &'static str,
        /// Where in it.
        place: Place,
        /// What is wrong.
        problem: Problem,
    },
    /// The history knows more than is declared; nothing has run.
    #[error(
        "extension `{extension}`, migration `{migration}`: it was applied to this database, and is not declared any more"
    )]
    Forgotten {
        /// The extension.
        extension: &'static str,
        /// The migration.
        migration: String,
    },
    /// A migration failed, and was rolled back.
    #[error("extension `{extension}`{place}: the database refuses it")]
    Failed {
        /// The extension.
        extension: &'static str,
        /// The migration, and which of its statements; none for its function.
        place: Place,
        /// Why.
        #[source]
        source: DbErr,
    },
}

/// Why a schema is not brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database refuses a migration of the core, or does not answer.
    #[error("failed to bring the schema up to date")]
    Database(#[from] DbErr),
    /// An extension is not right, or the database refuses it.
    #[error(transparent)]
    Extension(#[from] ExtensionError),
}

/// A connection, or a transaction within which others are savepoints.
pub trait Migratable:
    ConnectionTrait + TransactionTrait<Transaction = DatabaseTransaction>
{
}

impl<C: ConnectionTrait + TransactionTrait<Transaction = DatabaseTransaction>> Migratable for C {}

/// Runs every pending migration: the core's, then each extension's.
///
/// # Errors
/// A declaration is wrong, or the database refuses.
pub async fn migrate<'c, C>(on: &'c C, extensions: &[Extension]) -> Result<(), MigrateError>
where
    C: Migratable,
    &'c C: sea_orm_migration::IntoSchemaManagerConnection<'c>,
{
    check(extensions)?;
    prepare(on, extensions).await?;
    let applied = history(on).await?;
    for extension in extensions {
        let declared = |name: &str| extension.migrations.iter().any(|(known, _)| *known == name);
        let mut names = applied.iter().filter(|(of, _)| of == extension.name);
        if let Some((_, migration)) = names.find(|(_, name)| !declared(name)) {
            return Err(MigrateError::Extension(ExtensionError::Forgotten {
                extension: extension.name,
                migration: migration.clone(),
            }));
        }
    }
    Migrator::up(on, None).await?;
    for extension in extensions {
        apply(on, extension, &applied).await?;
    }
    Ok(())
}

/// The migrations that have not run, each with its extension's name before it.
#[must_use]
pub fn pending(extensions: &[Extension], applied: &[(String, String)]) -> Vec<String> {
    let all = extensions.iter().flat_map(|extension| {
        let of = extension.migrations.iter();
        of.map(|(migration, _)| (extension.name, *migration))
    });
    all.filter(|(extension, migration)| {
        !applied
            .iter()
            .any(|(of, name)| of == extension && name == migration)
    })
    .map(|(extension, migration)| format!("{extension} {migration}"))
    .collect()
}

/// Makes the history where there is none, and writes down once what an older release had applied.
async fn prepare(on: &impl Migratable, extensions: &[Extension]) -> Result<(), DbErr> {
    let tx = begin(on).await?;
    let manager = SchemaManager::new(&tx);
    ddl::define(&manager, m0026_extensions::TABLES).await?;
    let noted = history(&tx).await?;
    if noted.contains(&(CORE.to_owned(), NEUTRAL.to_owned())) {
        forget_what_the_core_forgot(&tx, applied_adoptions(extensions, &noted)).await?;
        return tx.commit().await;
    }
    let now = now(tx.get_database_backend());
    if manager.has_table("seaql_migrations").await? {
        let sql = format!(
            "INSERT INTO extension_migrations (extension, name, applied_at)
             SELECT $1, version, {now} FROM seaql_migrations WHERE true ON CONFLICT DO NOTHING"
        );
        run(&tx, &sql, [CORE.into()]).await?;
    }
    let sql = format!(
        "INSERT INTO extension_migrations (extension, name, applied_at) VALUES ($1, $2, {now})"
    );
    run(&tx, &sql, [CORE.into(), NEUTRAL.into()]).await?;
    tx.commit().await
}

/// The extension, its migration and the core's, of those that were applied and have done what the core's did.
fn applied_adoptions(
    extensions: &[Extension],
    noted: &BTreeSet<(String, String)>,
) -> Vec<[&'static str; 3]> {
    let mut found = Vec::new();
    for extension in extensions {
        for (own, core) in extension.adopts {
            if noted.contains(&(extension.name.to_owned(), (*own).to_owned())) {
                found.push([extension.name, *own, *core]);
            }
        }
    }
    found
}

/// Whoever takes a migration out of the core's history has it run again: so does the extension's that made the same.
async fn forget_what_the_core_forgot(
    on: &impl ConnectionTrait,
    adoptions: Vec<[&'static str; 3]>,
) -> Result<(), DbErr> {
    const KNOWN: &str = "SELECT version FROM seaql_migrations WHERE version = $1";
    const FORGET: &str = "DELETE FROM extension_migrations WHERE extension = $1 AND name = $2";
    for [extension, own, core] in adoptions {
        if query(on, KNOWN, [core.into()]).await?.is_empty() {
            run(on, FORGET, [extension.into(), own.into()]).await?;
            run(on, FORGET, [CORE.into(), core.into()]).await?;
        }
    }
    Ok(())
}

/// What was applied: extensions and migrations.
async fn history(on: &impl ConnectionTrait) -> Result<BTreeSet<(String, String)>, DbErr> {
    const ALL: &str = "SELECT extension, name FROM extension_migrations";
    let rows = query(on, ALL, []).await?;
    rows.iter()
        .map(|row| Ok((row.try_get("", "extension")?, row.try_get("", "name")?)))
        .collect()
}

async fn apply(
    on: &impl Migratable,
    extension: &Extension,
    applied: &BTreeSet<(String, String)>,
) -> Result<(), MigrateError> {
    let knows = |of: &str, name: &str| applied.contains(&(of.to_owned(), name.to_owned()));
    let mut tenants = BTreeSet::new();
    for (migration, statements) in extension.migrations {
        for sql in *statements {
            tenants.extend(tenant_table(sql));
            if let Some((from, to)) = renamed_table(sql)
                && tenants.remove(&from)
            {
                tenants.insert(to);
            }
        }
        if knows(extension.name, migration) {
            continue;
        }
        let is_adopted = extension
            .adopted(migration)
            .is_some_and(|core| knows(CORE, core));
        let mut step = MigrationTx {
            tx: begin(on).await?,
            tenants: tenants.clone(),
            open: Vec::new(),
        };
        let mut place = Place {
            migration: Some(migration),
            statement: None,
        };
        let ran = if is_adopted {
            Ok(())
        } else {
            run_migration(&mut step, extension, migration, statements, &mut place).await
        };
        ran.map_err(|source| ExtensionError::Failed {
            extension: extension.name,
            place,
            source,
        })?;
        let sql = format!(
            "INSERT INTO extension_migrations (extension, name, applied_at) VALUES ($1, $2, {})",
            now(step.backend())
        );
        let values = [extension.name.into(), (*migration).into()];
        run(&step.tx, &sql, values).await?;
        step.tx.commit().await?;
    }
    Ok(())
}

async fn run_migration(
    step: &mut MigrationTx,
    extension: &Extension,
    migration: &str,
    statements: &[&str],
    place: &mut Place,
) -> Result<(), DbErr> {
    for (n, statement) in statements.iter().enumerate() {
        place.statement = Some(n + 1);
        let manager = SchemaManager::new(&step.tx);
        let tenant = tenant_table(statement);
        ddl::define_one(&manager, statement, tenant.as_deref()).await?;
    }
    place.statement = None;
    let mut functions = extension.data_migrations.iter();
    if let Some((_, function)) = functions.find(|(name, _)| *name == migration) {
        function(step).await?;
        step.close_workspaces().await?;
    }
    Ok(())
}

/// Begins as one who writes: SQLite would refuse a reader that writes later, where somebody else has written.
async fn begin(on: &impl Migratable) -> Result<DatabaseTransaction, DbErr> {
    let immediate = match on.get_database_backend() {
        DatabaseBackend::Sqlite => Some(SqliteTransactionMode::Immediate),
        _ => None,
    };
    on.begin_with_options(TransactionOptions {
        sqlite_transaction_mode: immediate,
        ..TransactionOptions::default()
    })
    .await
}

/// The database's own time, as the store writes times.
const fn now(backend: DatabaseBackend) -> &'static str {
    match backend {
        DatabaseBackend::Sqlite => "strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')",
        _ => "now()",
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the history of migrations belongs to no workspace"
)]
async fn run(
    on: &impl ConnectionTrait,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<(), DbErr> {
    let statement = Statement::from_sql_and_values(on.get_database_backend(), sql, values);
    on.execute_raw(statement).await.map(drop)
}

#[expect(
    clippy::disallowed_methods,
    reason = "migrations belong to no workspace"
)]
async fn query(
    on: &impl ConnectionTrait,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<QueryResult>, DbErr> {
    on.query_all_raw(Statement::from_sql_and_values(
        on.get_database_backend(),
        sql,
        values,
    ))
    .await
}
