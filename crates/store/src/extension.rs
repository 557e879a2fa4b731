//! Tables of an embedder's own, in the core's transactions.
//!
//! An [`Extension`] declares migrations; [`Store::open`](crate::Store::open) runs them after the core's. Its rows are
//! read and written on the core's own handles, [`WriteTx`] and [`Reader`], so that a row, its quota and its ledger line
//! are committed together or not at all. The handle knows the workspace: in a statement it is `$1`, and on an entity it
//! is a condition that nobody writes.
//!
//! ```
//! use rawdrive_plans::Catalogue;
//! use rawdrive_store::extension::Extension;
//! use rawdrive_store::{Store, Url};
//! use rawdrive_tenancy_core::{Commit as _, Env, WorkspaceScope};
//!
//! const CONTRACTS: Extension = Extension::new("contracts", &[("0001", &[
//!     "CREATE TABLE contracts (workspace_id {uuid} NOT NULL, id {uuid} NOT NULL, title TEXT NOT NULL,
//!      PRIMARY KEY (workspace_id, id)){strict}"])]);
//!
//! async fn create(store: &Store, scope: &WorkspaceScope, title: &str) -> Result<(), Box<dyn std::error::Error>> {
//!     let mut tx = store.begin(scope).await?;                            // refuses a read-only workspace
//!     let id = tx.env().uuid();
//!     tx.execute("insert a contract",
//!         "INSERT INTO contracts (workspace_id, id, title) VALUES ($1, $2, $3)",   // $1 is bound by the handle
//!         [id.into(), title.into()]).await?;
//!     tx.commit().await?;
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let file = directory.path().join("app.db");
//! let catalogue = Catalogue::parse("[[plan]]\nslug = \"free\"\nversion = 1\nname = \"Free\"")?;
//! let store = Store::open(&Url::sqlite(file), Env::system(), &catalogue, &[CONTRACTS]).await?;
//! # store.close().await;
//! # Ok(()) }
//! ```
//!
//! The same by entities: [`tenant_entity!`](crate::tenant_entity) declares one, and `tx.select::<contracts::Entity>()`,
//! `tx.insert([row])`, `tx.update::<…>()` and `tx.delete::<…>()` take SeaORM's conditions, orders and locks.
//!
//! Invariant: no statement of an extension is run that is not held to the handle's workspace. A statement is read before
//! it is run ([`StatementError`] says what it must not be); what an entity's builder made is put under the workspace's
//! condition when it is run; and on PostgreSQL row-level security stands behind both.

use std::borrow::Cow;

use rawdrive_tenancy_core::id::{TypedId, WorkspaceId};
use rawdrive_tenancy_core::{Env, StoreError, SystemReason, WorkspaceScope};
use sea_orm::{ConnectionTrait, FromQueryResult, TryGetable, Value};

use crate::doctor::Snapshot;
use crate::reach::Reach;
use crate::rows::On;
use crate::scope::{self, failed, locks_rows};
use crate::statement_check::{About, refused};
use crate::store::{Reader, Store, WriteTx};
use crate::url::Backend;

pub use rawdrive_migrations::tokens::Unreadable;
pub use rawdrive_migrations::{
    DataMigration, Extension, ExtensionError, MigrationFuture, MigrationTx, Place, Problem,
};
pub use sea_orm::{self, DbErr, QueryResult as Row};

pub use crate::batcher::Batcher;
pub use crate::rows::{ByName, ByPlace, Deleted, Inserted, Mapped, Selected, Updated};
pub use crate::scope::TenantEntity;
pub use crate::statement_check::StatementError;

/// A column of a row, by its name.
///
/// # Errors
/// There is no such column, or its value is of another type.
pub fn column<T: TryGetable>(row: &Row, name: &'static str) -> Result<T, StoreError> {
    scope::column(row, name)
}

/// Names a value that a row must not hold.
#[must_use]
pub fn corrupt(
    table: &'static str,
    column: &'static str,
    row: impl ToString,
    reason: impl ToString,
) -> StoreError {
    scope::corrupt(table, column, row, reason)
}

/// An amount as the database keeps it; the largest is no bound.
#[must_use]
pub fn amount(value: u64) -> i64 {
    scope::amount(value)
}

/// Something that an extension says can be known of a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact {
    /// Whose it is.
    pub extension: &'static str,
    /// Its name.
    pub name: &'static str,
    /// A statement that returns a row where it is so, `$1` being the workspace.
    pub sql: &'static str,
}

impl Store {
    /// What the extensions say can be known of a workspace.
    pub fn facts(&self) -> impl Iterator<Item = Fact> + '_ {
        self.0.extensions.iter().flat_map(|extension| {
            extension.facts.iter().map(|&(name, sql)| Fact {
                extension: extension.name,
                name,
                sql,
            })
        })
    }

    /// A read handle for a credential that an extension has minted, in the workspace that it names: for looking the
    /// credential's row up, before anybody is known. What else is read is nobody's yet, and must not be shown.
    #[must_use]
    pub fn read_to_authenticate(&self, workspace: WorkspaceId) -> Reader {
        #[expect(
            clippy::disallowed_methods,
            reason = "the credential is checked inside the workspace that it names"
        )]
        let scope = WorkspaceScope::for_system(workspace, SystemReason::AUTHENTICATE);
        self.read(&scope)
    }

    /// The handle of the extensions' global tables.
    #[must_use]
    pub fn globals(&self) -> Globals {
        Globals(self.clone())
    }
}

/// The global tables of extensions: what belongs to no workspace. A statement on them is a transaction of its own, its
/// values begin at `$1`, and it names no other table.
#[derive(Debug, Clone)]
pub struct Globals(Store);

impl Globals {
    /// Runs a statement, and answers how many rows it changed.
    ///
    /// # Errors
    /// The statement is not one that is run ([`StatementError`]), or the database fails.
    pub async fn execute(
        &self,
        operation: &'static str,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<u64, StoreError> {
        let values: Vec<_> = values.into_iter().collect();
        self.check(operation, sql, values.len(), true)?;
        let on = self.0.writes(Reach::Installation);
        scope::execute(&on, operation, sql, values).await
    }

    /// Reads rows.
    ///
    /// # Errors
    /// The statement is not one that is run ([`StatementError`]), or the database fails.
    pub async fn query(
        &self,
        operation: &'static str,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<Row>, StoreError> {
        let values: Vec<_> = values.into_iter().collect();
        self.check(operation, sql, values.len(), false)?;
        let on = self.0.reads(Reach::Installation);
        scope::query(&on, operation, &closed(sql), values).await
    }

    fn check(
        &self,
        operation: &'static str,
        sql: &str,
        values: usize,
        may_write: bool,
    ) -> Result<(), StoreError> {
        let statements = &self.0.0.statements;
        let checked = statements.check(sql, About::Installation, values, may_write);
        checked.map_err(|error| refused(operation, error))
    }
}

/// A statement that may run, and its values with the workspace before them.
fn bound<'s>(
    store: &Store,
    scope: &WorkspaceScope,
    operation: &'static str,
    sql: &'s str,
    values: impl IntoIterator<Item = Value>,
    may_write: bool,
) -> Result<(Cow<'s, str>, Vec<Value>), StoreError> {
    let mut bound = vec![scope.workspace().uuid().into()];
    bound.extend(values);
    let statements = &store.0.statements;
    statements
        .check(sql, About::Workspace, bound.len(), may_write)
        .map_err(|error| refused(operation, error))?;
    Ok((closed(sql), bound))
}

/// A statement that others may stand around: a comment at its end would take in what follows.
fn closed(sql: &str) -> Cow<'_, str> {
    if sql.contains("--") {
        Cow::Owned(format!("{sql}\n"))
    } else {
        Cow::Borrowed(sql)
    }
}

async fn mapped<M: FromQueryResult>(
    on: On<'_>,
    operation: &'static str,
    sql: &str,
    values: Vec<Value>,
) -> Result<Vec<M>, StoreError> {
    let rows = scope::query(&on, operation, sql, values).await?;
    rows.iter()
        .map(|row| M::from_query_result(row, "").map_err(failed(operation)))
        .collect()
}

fn dialect(on: &impl ConnectionTrait) -> Backend {
    match locks_rows(on) {
        true => Backend::Postgres,
        false => Backend::Sqlite,
    }
}

impl WriteTx {
    /// Runs a statement on the workspace's rows, and answers how many it changed. `$1` is the workspace; the values
    /// begin at `$2`.
    ///
    /// # Errors
    /// The statement is not one that is run ([`StatementError`]), a key is taken, a row that is pointed at is gone, or the
    /// database fails.
    pub async fn execute(
        &mut self,
        operation: &'static str,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<u64, StoreError> {
        let (sql, values) = bound(&self.store, &self.scope, operation, sql, values, true)?;
        scope::execute(&self.tx, operation, &sql, values).await
    }

    /// As [`WriteTx::execute`], and answers the rows that the statement returns.
    ///
    /// # Errors
    /// As [`WriteTx::execute`].
    pub async fn query(
        &mut self,
        operation: &'static str,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<Row>, StoreError> {
        let (sql, values) = bound(&self.store, &self.scope, operation, sql, values, true)?;
        scope::query(&self.tx, operation, &sql, values).await
    }

    /// As [`WriteTx::query`], each row as a model, by the names of the columns.
    ///
    /// # Errors
    /// As [`WriteTx::execute`], or a row has other columns.
    pub async fn query_as<M: FromQueryResult>(
        &mut self,
        operation: &'static str,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<M>, StoreError> {
        let (sql, values) = bound(&self.store, &self.scope, operation, sql, values, true)?;
        mapped(On::Tx(&self.tx), operation, &sql, values).await
    }

    /// Whose SQL it is, where the two differ.
    #[must_use]
    pub fn dialect(&self) -> Backend {
        dialect(&self.tx)
    }

    /// What ends a SELECT of rows that are going to be changed: it keeps others from changing them, and nobody from
    /// pointing at them. Nothing on SQLite, where one writes at a time.
    #[must_use]
    pub fn for_update(&self) -> &'static str {
        match self.dialect() {
            Backend::Postgres => " FOR NO KEY UPDATE",
            Backend::Sqlite => "",
        }
    }

    /// As [`WriteTx::for_update`], of one of the tables that the SELECT joins, by its alias.
    #[must_use]
    pub fn for_update_of(&self, alias: &str) -> String {
        match self.for_update() {
            "" => String::new(),
            suffix => format!("{suffix} OF {alias}"),
        }
    }

    /// As [`WriteTx::for_update`], and leaves out rows that others are changing just now.
    #[must_use]
    pub fn for_update_skip_locked(&self) -> &'static str {
        scope::to_change_if_free(&self.tx)
    }

    /// A fresh id.
    #[must_use]
    pub fn new_id<I: TypedId>(&self) -> I {
        self.env().id()
    }
}

impl Snapshot {
    /// As [`Reader::query`], in the state that this snapshot shows.
    ///
    /// # Errors
    /// The statement is not one that is run ([`StatementError`]), or the database fails.
    pub async fn rows(
        &self,
        scope: &WorkspaceScope,
        operation: &'static str,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<Row>, StoreError> {
        let (sql, values) = bound(&self.store, scope, operation, sql, values, false)?;
        self.on().enter(Reach::of(scope), operation).await?;
        scope::query(self.on(), operation, &sql, values).await
    }
}

impl Reader {
    /// Reads rows of the workspace: `$1` is the workspace, and the values begin at `$2`.
    ///
    /// # Errors
    /// The statement is not one that is run ([`StatementError`]), or the database fails.
    pub async fn query(
        &self,
        operation: &'static str,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<Row>, StoreError> {
        let (sql, values) = bound(&self.store, &self.scope, operation, sql, values, false)?;
        scope::query(self.db(), operation, &sql, values).await
    }

    /// As [`Reader::query`], each row as a model, by the names of the columns.
    ///
    /// # Errors
    /// As [`Reader::query`], or a row has other columns.
    pub async fn query_as<M: FromQueryResult>(
        &self,
        operation: &'static str,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<M>, StoreError> {
        let (sql, values) = bound(&self.store, &self.scope, operation, sql, values, false)?;
        mapped(On::Conn(self.db().clone()), operation, &sql, values).await
    }

    /// Whose SQL it is, where the two differ.
    #[must_use]
    pub fn dialect(&self) -> Backend {
        dialect(self.db())
    }

    /// The time, ids and randomness that the store works with.
    #[must_use]
    pub fn env(&self) -> &Env {
        self.store.env()
    }
}

/// Declares an entity whose rows belong to workspaces, in a module of its own: the table, the columns of its primary key
/// after `workspace_id`, and the others.
///
/// ```
/// rawdrive_store::tenant_entity! {
///     /// What was agreed.
///     pub mod contracts("contracts", [id: Uuid]) {
///         title: String, signed_at: Option<ChronoDateTimeUtc>,
///     }
/// }
/// use contracts::{Column, Entity, Model};
/// # let _ = (Column::Title, Entity, |row: Model| row.signed_at);
/// ```
#[macro_export]
macro_rules! tenant_entity {
    (
        $(#[$doc:meta])* $vis:vis mod $module:ident($name:literal, [$($key:ident: $key_type:ty),* $(,)?])
        { $($column:ident: $type:ty),* $(,)? }
    ) => {
        $(#[$doc])*
        $vis mod $module {
            #![allow(missing_docs, unreachable_pub, clippy::allow_attributes, reason = "SeaORM's derives want public models")]
            use $crate::extension::sea_orm;
            use $crate::extension::sea_orm::entity::prelude::*;

            #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
            #[sea_orm(table_name = $name)]
            pub struct Model {
                #[sea_orm(primary_key, auto_increment = false)]
                pub workspace_id: Uuid,
                $(#[sea_orm(primary_key, auto_increment = false)] pub $key: $key_type,)*
                $(pub $column: $type,)*
            }

            #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
            pub enum Relation {}

            impl ActiveModelBehavior for ActiveModel {}

            impl $crate::extension::TenantEntity for Entity {
                const WORKSPACE: Column = Column::WorkspaceId;
            }
        }
    };
}
