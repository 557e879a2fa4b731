//! Rows of an extension's entities, by SeaORM's own builders, on a handle that says whose they are.
//!
//! The workspace's condition is added last, when the statement is run: whatever was built before is within it.

#![expect(
    clippy::disallowed_methods,
    reason = "these wrap SeaORM's unscoped statements, and scope them where they are run"
)]

use std::marker::PhantomData;

use rawdrive_migrations::{GLOBAL_TABLES, TENANT_TABLES};
use rawdrive_tenancy_core::{StoreError, WorkspaceScope};
use sea_orm::sea_query::{
    Condition, Expr, IntoCondition, IntoIden, OnConflict, SelectStatement, SimpleExpr,
};
use sea_orm::{
    ActiveModelTrait, ConnectionTrait, DatabaseBackend, DbErr, DeleteMany, EntityTrait, ExecResult,
    FromQueryResult, IdenStatic, IntoActiveModel, QueryFilter, QueryOrder, QueryResult,
    QuerySelect, QueryTrait, Select, Statement, TryGetableMany, UpdateMany,
};

use crate::connection::{Conn, Tx};
use crate::scope::{Tenant, TenantEntity, failed, filtered};
use crate::statement_check::{StatementError, refused};
use crate::store::{Reader, WriteTx};

/// Where the statements of a handle go.
#[derive(Clone)]
pub(crate) enum On<'h> {
    Tx(&'h Tx),
    Conn(Conn),
}

#[async_trait::async_trait]
impl ConnectionTrait for On<'_> {
    fn get_database_backend(&self) -> DatabaseBackend {
        match self {
            Self::Tx(tx) => tx.get_database_backend(),
            Self::Conn(conn) => conn.get_database_backend(),
        }
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        match self {
            Self::Tx(tx) => tx.execute_raw(statement).await,
            Self::Conn(conn) => conn.execute_raw(statement).await,
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        match self {
            Self::Tx(tx) => tx.execute_unprepared(sql).await,
            Self::Conn(conn) => conn.execute_unprepared(sql).await,
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        match self {
            Self::Tx(tx) => tx.query_one_raw(statement).await,
            Self::Conn(conn) => conn.query_one_raw(statement).await,
        }
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self {
            Self::Tx(tx) => tx.query_all_raw(statement).await,
            Self::Conn(conn) => conn.query_all_raw(statement).await,
        }
    }
}

impl Reader {
    /// Reads the workspace's own rows of an entity.
    pub fn select<E: TenantEntity>(&self) -> Selected<'static, E> {
        Selected::new(On::Conn(self.db().clone()), &self.scope)
    }
}

impl WriteTx {
    /// Reads the workspace's own rows of an entity, within the transaction.
    pub fn select<E: TenantEntity>(&self) -> Selected<'_, E> {
        Selected::new(On::Tx(&self.tx), &self.scope)
    }

    /// Inserts rows into the workspace, whatever they say of theirs.
    pub fn insert<A>(&mut self, rows: impl IntoIterator<Item = A>) -> Inserted<'_, A>
    where
        A: ActiveModelTrait,
        A::Entity: TenantEntity,
    {
        Inserted {
            on: &self.tx,
            rows: rows.into_iter().collect(),
            scope: &self.scope,
            conflict: None,
            operation: "insert rows",
        }
    }

    /// Changes the workspace's own rows of an entity.
    pub fn update<E: TenantEntity>(&mut self) -> Updated<'_, E> {
        Updated {
            on: &self.tx,
            scope: &self.scope,
            update: E::update_many(),
            operation: "update rows",
        }
    }

    /// Deletes the workspace's own rows of an entity.
    pub fn delete<E: TenantEntity>(&mut self) -> Deleted<'_, E> {
        Deleted {
            on: &self.tx,
            scope: &self.scope,
            delete: E::delete_many(),
            operation: "delete rows",
        }
    }
}

/// Whether an entity's rows are an extension's to write.
fn writable<E: TenantEntity>(operation: &'static str) -> Result<(), StoreError> {
    let table = E::default();
    let table = table.table_name();
    if TENANT_TABLES.contains(&table) || GLOBAL_TABLES.iter().any(|(name, _)| *name == table) {
        let error = StatementError::Core(table.to_owned());
        return Err(refused(operation, error));
    }
    is_tenant::<E>(operation)
}

/// Whether the entity names the column that row-level security compares.
fn is_tenant<E: TenantEntity>(operation: &'static str) -> Result<(), StoreError> {
    if E::WORKSPACE.as_str() == "workspace_id" {
        return Ok(());
    }
    let table = E::default().table_name().to_owned();
    Err(refused(operation, StatementError::Unbound(table)))
}

/// A SELECT of the workspace's own rows; SeaORM's `QueryFilter`, `QueryOrder` and `QuerySelect` build it.
#[must_use = "it reads nothing before `all`, `one`, `exists` or `count`"]
pub struct Selected<'h, E: TenantEntity> {
    on: On<'h>,
    scope: WorkspaceScope,
    select: Select<E>,
    operation: &'static str,
}

/// A [`Selected`] whose rows become something else than the entity's models.
#[must_use = "it reads nothing before `all` or `one`"]
pub struct Mapped<'h, E: TenantEntity, T, How> {
    selected: Selected<'h, E>,
    becomes: PhantomData<fn() -> (T, How)>,
}

impl<'h, E: TenantEntity> Selected<'h, E> {
    fn new(on: On<'h>, scope: &WorkspaceScope) -> Self {
        Self {
            on,
            scope: *scope,
            select: E::find(),
            operation: "read rows",
        }
    }

    /// What is being done, for errors: "list contracts".
    pub fn named(self, operation: &'static str) -> Self {
        Self { operation, ..self }
    }

    fn scoped(self) -> Result<Select<E>, StoreError> {
        is_tenant::<E>(self.operation)?;
        Ok(filtered(self.select, E::WORKSPACE, &self.scope))
    }

    /// All rows.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn all(self) -> Result<Vec<E::Model>, StoreError> {
        let (on, operation) = (self.on.clone(), self.operation);
        self.scoped()?.all(&on).await.map_err(failed(operation))
    }

    /// The first row.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn one(self) -> Result<Option<E::Model>, StoreError> {
        let (on, operation) = (self.on.clone(), self.operation);
        self.scoped()?.one(&on).await.map_err(failed(operation))
    }

    /// Whether there is a row.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn exists(self) -> Result<bool, StoreError> {
        let one = Expr::val(1);
        let one = self.select_only().expr_as(one, "one").limit(1);
        Ok(one.into_tuple::<i32>().one().await?.is_some())
    }

    /// How many rows there are.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn count(self) -> Result<u64, StoreError> {
        let (on, operation) = (self.on.clone(), self.operation);
        let mut inner = self.scoped()?;
        QueryTrait::query(&mut inner).clear_order_by();
        let inner = inner.select_only().expr_as(Expr::val(1), "one");
        let mut count = SelectStatement::new();
        count.expr_as(Expr::cust("COUNT(*)"), "n");
        count.from_subquery(inner.into_query(), "counted");
        let row = on.query_one(&count).await.map_err(failed(operation))?;
        let n: i64 = match row {
            Some(row) => row.try_get("", "n").map_err(failed(operation))?,
            None => 0,
        };
        Ok(n.unsigned_abs())
    }

    /// Each row as a model of its own, by the names of the columns.
    pub fn into_model<M: FromQueryResult>(self) -> Mapped<'h, E, M, ByName> {
        Mapped {
            selected: self,
            becomes: PhantomData,
        }
    }

    /// Each row as a tuple, by the places of the columns.
    pub fn into_tuple<T: TryGetableMany>(self) -> Mapped<'h, E, T, ByPlace> {
        Mapped {
            selected: self,
            becomes: PhantomData,
        }
    }

    /// The statement, for a condition of another one: `Column::Id.in_subquery(…)`.
    ///
    /// # Errors
    /// The entity names another column than `workspace_id`.
    pub fn into_subquery(self) -> Result<SelectStatement, StoreError> {
        Ok(self.scoped()?.into_query())
    }
}

/// Rows become models, by the names of their columns.
#[derive(Debug)]
pub struct ByName;

/// Rows become tuples, by the places of their columns.
#[derive(Debug)]
pub struct ByPlace;

impl<E: TenantEntity, M: FromQueryResult + Send + Sync> Mapped<'_, E, M, ByName> {
    /// All rows.
    ///
    /// # Errors
    /// The database does not answer, or a row has other columns.
    pub async fn all(self) -> Result<Vec<M>, StoreError> {
        let (on, operation) = (self.selected.on.clone(), self.selected.operation);
        let select = self.selected.scoped()?.into_model::<M>();
        select.all(&on).await.map_err(failed(operation))
    }

    /// The first row.
    ///
    /// # Errors
    /// The database does not answer, or the row has other columns.
    pub async fn one(self) -> Result<Option<M>, StoreError> {
        let (on, operation) = (self.selected.on.clone(), self.selected.operation);
        let select = self.selected.scoped()?.into_model::<M>();
        select.one(&on).await.map_err(failed(operation))
    }
}

impl<E: TenantEntity, T: TryGetableMany + Send + Sync> Mapped<'_, E, T, ByPlace> {
    /// All rows.
    ///
    /// # Errors
    /// The database does not answer, or a row has other columns.
    pub async fn all(self) -> Result<Vec<T>, StoreError> {
        let (on, operation) = (self.selected.on.clone(), self.selected.operation);
        let select = self.selected.scoped()?.into_tuple::<T>();
        select.all(&on).await.map_err(failed(operation))
    }

    /// The first row.
    ///
    /// # Errors
    /// The database does not answer, or the row has other columns.
    pub async fn one(self) -> Result<Option<T>, StoreError> {
        let (on, operation) = (self.selected.on.clone(), self.selected.operation);
        let select = self.selected.scoped()?.into_tuple::<T>();
        select.one(&on).await.map_err(failed(operation))
    }
}

impl<E: TenantEntity> QueryFilter for Selected<'_, E> {
    type QueryStatement = SelectStatement;

    fn query(&mut self) -> &mut SelectStatement {
        QueryTrait::query(&mut self.select)
    }
}

impl<E: TenantEntity> QueryOrder for Selected<'_, E> {
    type QueryStatement = SelectStatement;

    fn query(&mut self) -> &mut SelectStatement {
        QueryTrait::query(&mut self.select)
    }
}

impl<E: TenantEntity> QuerySelect for Selected<'_, E> {
    type QueryStatement = SelectStatement;

    fn query(&mut self) -> &mut SelectStatement {
        QueryTrait::query(&mut self.select)
    }
}

/// Rows to be inserted into the workspace.
#[must_use = "it writes nothing before `exec`"]
pub struct Inserted<'h, A: ActiveModelTrait> {
    on: &'h Tx,
    rows: Vec<A>,
    scope: &'h WorkspaceScope,
    conflict: Option<OnConflict>,
    operation: &'static str,
}

impl<A> Inserted<'_, A>
where
    A: ActiveModelTrait,
    A::Entity: TenantEntity,
{
    /// What is being done, for errors: "insert a contract".
    pub fn named(self, operation: &'static str) -> Self {
        Self { operation, ..self }
    }

    /// What becomes of a row whose key is there already.
    pub fn on_conflict(mut self, conflict: OnConflict) -> Self {
        self.conflict = Some(conflict);
        self
    }

    /// Inserts, and answers how many rows were.
    ///
    /// # Errors
    /// A key is taken, a row that is pointed at is gone, or the database does not answer.
    pub async fn exec(self) -> Result<u64, StoreError> {
        let (on, operation) = (self.on, self.operation);
        match self.prepared()? {
            Some(insert) => insert
                .exec_without_returning(on)
                .await
                .map_err(failed(operation)),
            None => Ok(0),
        }
    }

    /// Inserts, and answers the rows as they are then.
    ///
    /// # Errors
    /// A key is taken, a row that is pointed at is gone, or the database does not answer.
    pub async fn exec_with_returning(
        self,
    ) -> Result<Vec<<A::Entity as EntityTrait>::Model>, StoreError>
    where
        <A::Entity as EntityTrait>::Model: IntoActiveModel<A>,
    {
        let (on, operation) = (self.on, self.operation);
        match self.prepared()? {
            Some(insert) => insert
                .exec_with_returning(on)
                .await
                .map_err(failed(operation)),
            None => Ok(Vec::new()),
        }
    }

    fn prepared(self) -> Result<Option<sea_orm::InsertMany<A>>, StoreError> {
        writable::<A::Entity>(self.operation)?;
        if self.rows.is_empty() {
            return Ok(None);
        }
        let insert = <A::Entity as Tenant>::scoped_insert(self.scope, self.rows);
        Ok(Some(match self.conflict {
            Some(conflict) => insert.on_conflict(conflict),
            None => insert,
        }))
    }
}

/// A change of the workspace's own rows.
#[must_use = "it writes nothing before `exec`"]
pub struct Updated<'h, E: TenantEntity> {
    on: &'h Tx,
    scope: &'h WorkspaceScope,
    update: UpdateMany<E>,
    operation: &'static str,
}

impl<E: TenantEntity> Updated<'_, E> {
    /// What is being done, for errors: "rename a contract".
    pub fn named(self, operation: &'static str) -> Self {
        Self { operation, ..self }
    }

    /// Only rows of which the condition holds.
    pub fn filter(mut self, condition: impl IntoCondition) -> Self {
        self.update = QueryFilter::filter(self.update, condition.into_condition());
        self
    }

    /// Gives a column a value.
    pub fn col_expr(mut self, column: impl IntoIden, value: SimpleExpr) -> Self {
        self.update = self.update.col_expr(column, value);
        self
    }

    /// Gives the columns that are set in a model their values.
    pub fn set<A: ActiveModelTrait<Entity = E>>(mut self, model: A) -> Self {
        self.update = self.update.set(model);
        self
    }

    /// Changes the rows, and answers how many there were.
    ///
    /// # Errors
    /// A key is taken, a row that is pointed at is gone, or the database does not answer.
    pub async fn exec(self) -> Result<u64, StoreError> {
        let operation = self.operation;
        writable::<E>(operation)?;
        let values = self.update.as_query().get_values();
        if values
            .iter()
            .any(|(column, _)| column.to_string() == "workspace_id")
        {
            return Err(refused(operation, StatementError::Moves));
        }
        let scoped = filtered(self.update, E::WORKSPACE, self.scope);
        let done = scoped.exec(self.on).await.map_err(failed(operation))?;
        Ok(done.rows_affected)
    }
}

/// A deletion of the workspace's own rows.
#[must_use = "it writes nothing before `exec`"]
pub struct Deleted<'h, E: TenantEntity> {
    on: &'h Tx,
    scope: &'h WorkspaceScope,
    delete: DeleteMany<E>,
    operation: &'static str,
}

impl<E: TenantEntity> Deleted<'_, E> {
    /// What is being done, for errors: "delete a contract".
    pub fn named(self, operation: &'static str) -> Self {
        Self { operation, ..self }
    }

    /// Only rows of which the condition holds.
    pub fn filter(mut self, condition: impl IntoCondition) -> Self {
        let condition: Condition = condition.into_condition();
        self.delete = QueryFilter::filter(self.delete, condition);
        self
    }

    /// Deletes the rows, and answers how many there were.
    ///
    /// # Errors
    /// A row is still pointed at, or the database does not answer.
    pub async fn exec(self) -> Result<u64, StoreError> {
        let operation = self.operation;
        writable::<E>(operation)?;
        let scoped = filtered(self.delete, E::WORKSPACE, self.scope);
        let done = scoped.exec(self.on).await.map_err(failed(operation))?;
        Ok(done.rows_affected)
    }
}

macro_rules! opaque {
    ($($name:ident<$($life:lifetime,)? $of:ident: $bound:path>),+) => {$(
        impl<$of: $bound> std::fmt::Debug for $name<'_, $of> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("operation", &self.operation)
                    .finish_non_exhaustive()
            }
        }
    )+};
}

opaque!(Selected<E: TenantEntity>, Inserted<A: ActiveModelTrait>, Updated<E: TenantEntity>, Deleted<E: TenantEntity>);

impl<E: TenantEntity, T, How> std::fmt::Debug for Mapped<'_, E, T, How> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mapped").finish_non_exhaustive()
    }
}
