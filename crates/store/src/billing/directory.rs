//! What the billing worker may know across workspaces, and the prices of the installation.

use rawdrive_billing::{Billed, BillingDirectory, Currency, CustomerId, SoldPrice};
use rawdrive_tenancy_core::id::{OperationId, TypedId, WorkspaceId};
use rawdrive_tenancy_core::{Actor, StoreError};
use sea_orm::QueryResult;
use uuid::Uuid;

use super::operations::actor_of;
use super::{id_of, sold_of};
use crate::connection::{Conn, Tx};
use crate::reach::Reach;
use crate::scope::{column, corrupt, execute, query};
use crate::store::Store;

/// Where billing's statements beyond a workspace go: the one place that says so.
impl Store {
    /// Reads of the global tables.
    pub(super) fn inbox_reads(&self) -> Conn {
        self.reads(Reach::Installation)
    }

    /// Writes of the global tables, each a transaction of its own.
    pub(super) fn inbox_writes(&self) -> Conn {
        self.writes(Reach::Installation)
    }

    /// A transaction that writes global tables.
    pub(super) async fn begin_inbox(&self, operation: &'static str) -> Result<Tx, StoreError> {
        self.begin_in(Reach::Installation, operation).await
    }

    /// Reads by which the worker learns which workspace to enter.
    fn directory_reads(&self) -> Conn {
        self.reads(Reach::Worker)
    }
}

impl Store {
    /// Every workspace that is there with each verified address of an owner of it: what an operator adopts the
    /// provider's customers by. Enters one workspace after the other.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn verified_owners(&self) -> Result<Vec<(WorkspaceId, String)>, StoreError> {
        const ALL: &str = "SELECT workspace_id FROM workspaces ORDER BY workspace_id";
        const OWNERS: &str = "SELECT u.email FROM memberships m
            JOIN users u ON u.id = m.user_id
            JOIN workspaces w ON w.workspace_id = m.workspace_id
            WHERE m.workspace_id = $1 AND m.role = 'owner' AND u.email_verified_at IS NOT NULL
                AND w.status <> 'deleted' ORDER BY m.joined_at, m.user_id";
        let mut owners = Vec::new();
        for row in query(&self.directory_reads(), "list workspaces", ALL, []).await? {
            let workspace = workspace_in(&row)?;
            let within = self.reads(Reach::Workspace(workspace));
            let values = [workspace.uuid().into()];
            for owner in query(&within, "read verified owners", OWNERS, values).await? {
                owners.push((workspace, column(&owner, "email")?));
            }
        }
        Ok(owners)
    }
}

fn workspace_in(row: &QueryResult) -> Result<WorkspaceId, StoreError> {
    Ok(WorkspaceId::from_uuid(column(row, "workspace_id")?))
}

fn price_of(row: &QueryResult) -> Result<SoldPrice, StoreError> {
    const TABLE: &str = "billing_prices";
    let price: String = column(row, "price")?;
    let currency: String = column(row, "currency")?;
    let interval: String = column(row, "charged_every")?;
    let sold = sold_of(row, TABLE, "plan_slug", "plan_version")?;
    Ok(SoldPrice {
        sold: sold.ok_or_else(|| corrupt(TABLE, "plan_slug", &price, "is null"))?,
        currency: Currency::parse(&currency).map_err(|e| corrupt(TABLE, "currency", &price, e))?,
        interval: interval
            .parse()
            .map_err(|e| corrupt(TABLE, "charged_every", &price, e))?,
        price: id_of(TABLE, "price", &price)?,
    })
}

impl BillingDirectory for Store {
    async fn workspace_of(&self, customer: &CustomerId) -> Result<Option<WorkspaceId>, StoreError> {
        const OWNER: &str = "SELECT workspace_id FROM billing_customers WHERE customer = $1";
        let values = [customer.as_str().into()];
        let rows = query(&self.directory_reads(), "look a customer up", OWNER, values).await?;
        rows.first().map(workspace_in).transpose()
    }

    async fn billed(&self, after: Option<&Billed>, limit: u32) -> Result<Vec<Billed>, StoreError> {
        const BILLED: &str = "SELECT workspace_id, customer FROM billing_customers
            WHERE (workspace_id, customer) > ($1, $2) ORDER BY workspace_id, customer LIMIT $3";
        let (workspace, customer) = after.map_or((Uuid::nil(), ""), |after| {
            (after.workspace.uuid(), after.customer.as_str())
        });
        let values = [workspace.into(), customer.into(), i64::from(limit).into()];
        let rows = query(&self.directory_reads(), "list customers", BILLED, values).await?;
        let billed = |row: &QueryResult| {
            let customer: String = column(row, "customer")?;
            Ok(Billed {
                workspace: workspace_in(row)?,
                customer: id_of("billing_customers", "customer", &customer)?,
            })
        };
        rows.iter().map(billed).collect()
    }

    async fn exists(&self, workspace: WorkspaceId) -> Result<bool, StoreError> {
        self.has_workspace(workspace).await
    }

    async fn due_reviews(
        &self,
        after: Option<WorkspaceId>,
        limit: u32,
    ) -> Result<Vec<WorkspaceId>, StoreError> {
        const DUE: &str = "SELECT workspace_id FROM billing_accounts
            WHERE review_at IS NOT NULL AND review_at <= $1 AND workspace_id > $2 ORDER BY workspace_id LIMIT $3";
        let values = [
            self.0.env.now().into(),
            after.map_or_else(Uuid::nil, TypedId::uuid).into(),
            i64::from(limit).into(),
        ];
        let rows = query(&self.directory_reads(), "look for reviews", DUE, values).await?;
        rows.iter().map(workspace_in).collect()
    }

    async fn abandoned_operations(
        &self,
        limit: u32,
    ) -> Result<Vec<(WorkspaceId, OperationId)>, StoreError> {
        const ABANDONED: &str = "SELECT workspace_id, id FROM billing_operations
            WHERE outcome IS NULL AND leased_until <= $1 ORDER BY leased_until LIMIT $2";
        let values = [self.0.env.lease_now().into(), i64::from(limit).into()];
        let on = &self.directory_reads();
        let rows = query(on, "look for abandoned operations", ABANDONED, values).await?;
        let operation = |row: &QueryResult| {
            let id = OperationId::from_uuid(column(row, "id")?);
            Ok((workspace_in(row)?, id))
        };
        rows.iter().map(operation).collect()
    }

    async fn actor_of(
        &self,
        workspace: WorkspaceId,
        operation: OperationId,
    ) -> Result<Option<Actor>, StoreError> {
        const ACTOR: &str = "SELECT actor FROM billing_operations
            WHERE workspace_id = $1 AND id = $2 AND outcome IS NULL";
        let reads = self.reads(Reach::Workspace(workspace));
        let values = [workspace.uuid().into(), operation.uuid().into()];
        let rows = query(&reads, "look for who asked", ACTOR, values).await?;
        rows.first().map(actor_of).transpose()
    }

    async fn sold_prices(&self) -> Result<Vec<SoldPrice>, StoreError> {
        // The one that was noted last comes last: of several prices of one thing, it is the one that sells.
        const PRICES: &str =
            "SELECT price, plan_slug, plan_version, currency, charged_every FROM billing_prices
            ORDER BY noted_at, price";
        let rows = query(&self.inbox_reads(), "read prices", PRICES, []).await?;
        rows.iter().map(price_of).collect()
    }

    async fn put_price(&self, price: &SoldPrice) -> Result<(), StoreError> {
        const PUT: &str = "INSERT INTO billing_prices (price, plan_slug, plan_version, currency, charged_every, noted_at)
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (price) DO NOTHING";
        let values = [
            price.price.as_str().into(),
            price.sold.plan.to_string().into(),
            i64::from(price.sold.version).into(),
            price.currency.as_str().into(),
            price.interval.as_str().into(),
            self.0.env.lease_now().into(),
        ];
        execute(&self.inbox_writes(), "note a price", PUT, values).await?;
        Ok(())
    }
}
