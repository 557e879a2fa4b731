//! Billing: the projection of the payment provider's objects in a workspace, and the two global parts beside it.
//!
//! Nothing here locks by itself. Every use case takes the entitlements first, held as one who may change them
//! ([`Release::Billing`]): two transactions of one workspace do not decide at a time.

mod directory;
mod doctor_notes;
mod inbox;
mod operations;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rawdrive_billing::{
    Account, BillingRead, BillingStore, BillingTx, Currency, CustomerId, Grant, InvoiceId,
    InvoiceSnapshot, Payer, Sold, Subscription, SubscriptionId, SubscriptionSnapshot,
};
use rawdrive_plans::Plan;
use rawdrive_tenancy_core::id::{TypedId, UserId};
use rawdrive_tenancy_core::page::{Page, PageRequest, Position};
use rawdrive_tenancy_core::{StoreError, WorkspaceScope};
use sea_orm::{ConnectionTrait, QueryResult};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::entity::workspaces;
use crate::scope::{Tenant, column, corrupt, execute, failed, query};
use crate::store::{Reader, Release, Store, WriteTx};

impl BillingStore for Store {
    type Tx = WriteTx;

    async fn begin_billing(&self, scope: &WorkspaceScope) -> Result<WriteTx, StoreError> {
        self.begin_despite_read_only(scope, Release::Billing).await
    }
}

/// An id of the provider's as it stands in a column.
fn id_of<T: std::str::FromStr<Err: ToString>>(
    table: &'static str,
    name: &'static str,
    text: &str,
) -> Result<T, StoreError> {
    text.parse()
        .map_err(|e: T::Err| corrupt(table, name, text, e))
}

fn optional_id<T: std::str::FromStr<Err: ToString>>(
    row: &QueryResult,
    table: &'static str,
    name: &'static str,
) -> Result<Option<T>, StoreError> {
    let text = column::<Option<String>>(row, name)?;
    text.map(|text| id_of(table, name, &text)).transpose()
}

fn to_json(table: &'static str, id: &str, value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| corrupt(table, "snapshot", id, e))
}

fn of_json<T: DeserializeOwned>(
    table: &'static str,
    name: &'static str,
    id: &str,
    text: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|e| corrupt(table, name, id, e))
}

/// A plan version of two columns; nothing where both are null.
fn sold_of(
    row: &QueryResult,
    table: &'static str,
    slug: &'static str,
    version: &'static str,
) -> Result<Option<Sold>, StoreError> {
    let (plan, number) = (
        column::<Option<String>>(row, slug)?,
        column::<Option<i64>>(row, version)?,
    );
    let (Some(plan), Some(number)) = (plan, number) else {
        return Ok(None);
    };
    Ok(Some(Sold {
        version: u32::try_from(number).map_err(|e| corrupt(table, version, number, e))?,
        plan: plan
            .parse()
            .map_err(|_| corrupt(table, slug, &plan, "is no plan's name"))?,
    }))
}

async fn account(scope: &WorkspaceScope, on: &impl ConnectionTrait) -> Result<Account, StoreError> {
    const TABLE: &str = "billing_accounts";
    const ACCOUNT: &str =
        "SELECT customer, checkout, grant_slug, grant_version, grant_until, review_at
        FROM billing_accounts WHERE workspace_id = $1";
    let values = [scope.workspace().uuid().into()];
    let rows = query(on, "read the billing account", ACCOUNT, values).await?;
    let Some(row) = rows.first() else {
        return Ok(Account::default());
    };
    let until: Option<DateTime<Utc>> = column(row, "grant_until")?;
    Ok(Account {
        customer: optional_id(row, TABLE, "customer")?,
        checkout: optional_id(row, TABLE, "checkout")?,
        grant: sold_of(row, TABLE, "grant_slug", "grant_version")?
            .map(|sold| Grant { sold, until }),
        review_at: column(row, "review_at")?,
    })
}

fn subscription_of(row: &QueryResult) -> Result<Subscription, StoreError> {
    const TABLE: &str = "subscriptions";
    let id: String = column(row, "id")?;
    let snapshot: String = column(row, "snapshot")?;
    Ok(Subscription {
        snapshot: of_json::<SubscriptionSnapshot>(TABLE, "snapshot", &id, &snapshot)?,
        sold: sold_of(row, TABLE, "plan_slug", "plan_version")?,
    })
}

async fn subscriptions(
    scope: &WorkspaceScope,
    on: &impl ConnectionTrait,
) -> Result<Vec<Subscription>, StoreError> {
    const ALL: &str = "SELECT id, plan_slug, plan_version, snapshot FROM subscriptions
        WHERE workspace_id = $1 ORDER BY id";
    let values = [scope.workspace().uuid().into()];
    let rows = query(on, "read subscriptions", ALL, values).await?;
    rows.iter().map(subscription_of).collect()
}

fn invoice_of(row: &QueryResult) -> Result<InvoiceSnapshot, StoreError> {
    let (id, snapshot) = (
        column::<String>(row, "id")?,
        column::<String>(row, "snapshot")?,
    );
    of_json("invoices", "snapshot", &id, &snapshot)
}

impl BillingTx for WriteTx {
    async fn payer(&mut self) -> Result<Payer, StoreError> {
        const OPERATION: &str = "read who pays";
        let workspace = self.scope.workspace();
        const OWNER: &str = "SELECT u.email FROM memberships m JOIN users u ON u.id = m.user_id
            WHERE m.workspace_id = $1 AND m.role = 'owner' ORDER BY m.joined_at, m.user_id LIMIT 1";
        let row = workspaces::Entity::scoped(&self.scope)
            .one(&self.tx)
            .await
            .map_err(failed(OPERATION))?
            .ok_or(StoreError::Dangling {
                operation: OPERATION,
            })?;
        let email = match row.billing_email {
            Some(email) => Some(email),
            None => {
                let owner = query(&self.tx, OPERATION, OWNER, [workspace.uuid().into()]).await?;
                owner.first().map(|row| column(row, "email")).transpose()?
            }
        };
        Ok(Payer {
            workspace,
            name: row.name,
            email,
            currency: Currency::parse(&row.currency)
                .map_err(|e| corrupt("workspaces", "currency", workspace, e))?,
        })
    }

    async fn account(&mut self) -> Result<Account, StoreError> {
        account(&self.scope, &self.tx).await
    }

    async fn put_account(&mut self, account: &Account) -> Result<(), StoreError> {
        const OPERATION: &str = "write the billing account";
        const PUT: &str = "INSERT INTO billing_accounts (workspace_id, customer, checkout, grant_slug, grant_version,
                grant_until, review_at, updated_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            ON CONFLICT (workspace_id) DO UPDATE SET customer = excluded.customer, checkout = excluded.checkout,
                grant_slug = excluded.grant_slug, grant_version = excluded.grant_version,
                grant_until = excluded.grant_until, review_at = excluded.review_at, updated_at = excluded.updated_at";
        if let Some(customer) = &account.customer
            && !self.link_customer(customer).await?
        {
            return Err(StoreError::Taken {
                operation: OPERATION,
            });
        }
        let grant = account.grant.as_ref();
        let values = [
            self.scope.workspace().uuid().into(),
            account.customer.as_ref().map(ToString::to_string).into(),
            account.checkout.as_ref().map(ToString::to_string).into(),
            grant.map(|grant| grant.sold.plan.to_string()).into(),
            grant.map(|grant| i64::from(grant.sold.version)).into(),
            grant.and_then(|grant| grant.until).into(),
            account.review_at.into(),
            self.env().now().into(),
        ];
        execute(&self.tx, OPERATION, PUT, values).await?;
        Ok(())
    }

    async fn link_customer(&mut self, customer: &CustomerId) -> Result<bool, StoreError> {
        const OPERATION: &str = "link a customer";
        const LINK: &str = "INSERT INTO billing_customers (workspace_id, customer, created_at)
            VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        const OURS: &str =
            "SELECT 1 AS one FROM billing_customers WHERE workspace_id = $1 AND customer = $2";
        let (workspace, now) = (self.scope.workspace().uuid(), self.env().now());
        let values = [workspace.into(), customer.as_str().into(), now.into()];
        if execute(&self.tx, OPERATION, LINK, values).await? == 1 {
            self.wakes_billing = true;
            return Ok(true);
        }
        let values = [workspace.into(), customer.as_str().into()];
        Ok(!query(&self.tx, OPERATION, OURS, values).await?.is_empty())
    }

    async fn published(&mut self, sold: &Sold) -> Result<Option<Arc<Plan>>, StoreError> {
        let found = self
            .store
            .plan(sold.plan.as_str(), i64::from(sold.version), &self.tx)
            .await;
        match found {
            Ok(plan) => Ok(Some(plan)),
            Err(StoreError::Corrupt { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn subscriptions(&mut self) -> Result<Vec<Subscription>, StoreError> {
        subscriptions(&self.scope, &self.tx).await
    }

    async fn put_subscription(&mut self, subscription: &Subscription) -> Result<(), StoreError> {
        const PUT: &str = "INSERT INTO subscriptions (workspace_id, id, customer, status, plan_slug, plan_version,
                period_end, snapshot, updated_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            ON CONFLICT (workspace_id, id) DO UPDATE SET customer = excluded.customer, status = excluded.status,
                plan_slug = excluded.plan_slug, plan_version = excluded.plan_version,
                period_end = excluded.period_end, snapshot = excluded.snapshot, updated_at = excluded.updated_at";
        let snapshot = &subscription.snapshot;
        let sold = subscription.sold.as_ref();
        let values = [
            self.scope.workspace().uuid().into(),
            snapshot.id.as_str().into(),
            snapshot.customer.as_str().into(),
            snapshot.status.as_str().into(),
            sold.map(|sold| sold.plan.to_string()).into(),
            sold.map(|sold| i64::from(sold.version)).into(),
            snapshot.period_end().into(),
            to_json("subscriptions", snapshot.id.as_str(), snapshot)?.into(),
            self.env().now().into(),
        ];
        execute(&self.tx, "write a subscription", PUT, values).await?;
        Ok(())
    }

    async fn invoice(&mut self, id: &InvoiceId) -> Result<Option<InvoiceSnapshot>, StoreError> {
        const ONE: &str = "SELECT id, snapshot FROM invoices WHERE workspace_id = $1 AND id = $2";
        let values = [self.scope.workspace().uuid().into(), id.as_str().into()];
        let rows = query(&self.tx, "read an invoice", ONE, values).await?;
        rows.first().map(invoice_of).transpose()
    }

    async fn owed_invoices(&mut self) -> Result<Vec<InvoiceSnapshot>, StoreError> {
        const OWED: &str = "SELECT id, snapshot FROM invoices
            WHERE workspace_id = $1 AND status IN ('open', 'uncollectible') ORDER BY position";
        let values = [self.scope.workspace().uuid().into()];
        let rows = query(&self.tx, "read what is owed", OWED, values).await?;
        rows.iter().map(invoice_of).collect()
    }

    async fn invoices_of(
        &mut self,
        subscription: &SubscriptionId,
    ) -> Result<Vec<InvoiceSnapshot>, StoreError> {
        // Five years of months. What is older decides no grace.
        const NEWEST: &str = "SELECT id, snapshot FROM invoices
            WHERE workspace_id = $1 AND subscription = $2 ORDER BY position DESC, id LIMIT 60";
        let values = [
            self.scope.workspace().uuid().into(),
            subscription.as_str().into(),
        ];
        let rows = query(&self.tx, "read a subscription's invoices", NEWEST, values).await?;
        rows.iter().map(invoice_of).collect()
    }

    async fn was_paid(&mut self, subscription: &SubscriptionId) -> Result<bool, StoreError> {
        const PAID: &str = "SELECT id, snapshot FROM invoices
            WHERE workspace_id = $1 AND subscription = $2 AND status = 'paid'";
        let values = [
            self.scope.workspace().uuid().into(),
            subscription.as_str().into(),
        ];
        let rows = query(&self.tx, "look for a payment", PAID, values).await?;
        let paid: Vec<_> = rows.iter().map(invoice_of).collect::<Result<_, _>>()?;
        // A trial's first invoice is paid with nothing.
        Ok(paid.iter().any(|invoice| invoice.amount_paid > 0))
    }

    async fn put_invoice(&mut self, invoice: &InvoiceSnapshot) -> Result<(), StoreError> {
        const PUT: &str = "INSERT INTO invoices (workspace_id, id, position, customer, subscription, status, snapshot,
                updated_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            ON CONFLICT (workspace_id, id) DO UPDATE SET position = excluded.position, customer = excluded.customer,
                subscription = excluded.subscription, status = excluded.status, snapshot = excluded.snapshot,
                updated_at = excluded.updated_at";
        let values = [
            self.scope.workspace().uuid().into(),
            invoice.id.as_str().into(),
            invoice.position().into(),
            invoice.customer.as_str().into(),
            invoice
                .subscription
                .as_ref()
                .map(ToString::to_string)
                .into(),
            invoice.status.as_str().into(),
            to_json("invoices", invoice.id.as_str(), invoice)?.into(),
            self.env().now().into(),
        ];
        execute(&self.tx, "write an invoice", PUT, values).await?;
        Ok(())
    }

    async fn members_beyond(&mut self, seats: u64) -> Result<Vec<UserId>, StoreError> {
        const MEMBERS: &str = "SELECT user_id FROM memberships WHERE workspace_id = $1
            ORDER BY CASE role WHEN 'owner' THEN 0 WHEN 'admin' THEN 1 ELSE 2 END, joined_at, user_id";
        let values = [self.scope.workspace().uuid().into()];
        let rows = query(&self.tx, "list members", MEMBERS, values).await?;
        let beyond = rows
            .iter()
            .skip(usize::try_from(seats).unwrap_or(usize::MAX));
        beyond
            .map(|row| Ok(UserId::from_uuid(column(row, "user_id")?)))
            .collect()
    }

    async fn record_effect(&mut self, key: &str) -> Result<bool, StoreError> {
        const RECORD: &str =
            "INSERT INTO billing_effects (workspace_id, key, at) VALUES ($1, $2, $3)
            ON CONFLICT (workspace_id, key) DO NOTHING";
        let values = [
            self.scope.workspace().uuid().into(),
            key.into(),
            self.env().now().into(),
        ];
        Ok(execute(&self.tx, "record an effect", RECORD, values).await? == 1)
    }
}

impl WriteTx {
    /// Who pays may be called otherwise from now on: billing looks at it, and tells the provider.
    pub(crate) async fn review_payer(&mut self) -> Result<(), StoreError> {
        const REVIEW: &str = "UPDATE billing_accounts SET review_at = $2
            WHERE workspace_id = $1 AND customer IS NOT NULL AND (review_at IS NULL OR review_at > $2)";
        let values = [
            self.scope.workspace().uuid().into(),
            self.env().now().into(),
        ];
        execute(&self.tx, "let who pays be looked at", REVIEW, values).await?;
        Ok(())
    }
}

impl BillingRead for Reader {
    async fn billing(&self) -> Result<(Account, Vec<Subscription>), StoreError> {
        Ok((
            account(&self.scope, self.db()).await?,
            subscriptions(&self.scope, self.db()).await?,
        ))
    }

    async fn invoices(&self, page: &PageRequest) -> Result<Page<InvoiceSnapshot>, StoreError> {
        const NEWEST: &str = "SELECT id, position, snapshot FROM invoices WHERE workspace_id = $1
            ORDER BY position DESC, id LIMIT $2";
        const OLDER: &str =
            "SELECT id, position, snapshot FROM invoices WHERE workspace_id = $1 AND position < $3
            ORDER BY position DESC, id LIMIT $2";
        let mut values = vec![
            self.scope.workspace().uuid().into(),
            (i64::from(page.limit) + 1).into(),
        ];
        let sql = match page.after {
            Some(Position::Id(position)) => {
                values.push(position.into());
                OLDER
            }
            // No cursor of this list holds a number.
            Some(Position::Seq(_)) => {
                values.push(Uuid::nil().into());
                OLDER
            }
            None => NEWEST,
        };
        let rows = query(self.db(), "list invoices", sql, values).await?;
        // By the place that it was stored at, which an earlier release may have reckoned otherwise.
        let placed = |row| Ok((column::<Uuid>(row, "position")?, invoice_of(row)?));
        let items = rows.iter().map(placed).collect::<Result<_, StoreError>>()?;
        let page = Page::cut(items, page.limit, |(position, _)| Position::Id(*position));
        Ok(page.map(|(_, invoice)| invoice))
    }

    async fn subscription(&self, id: &SubscriptionId) -> Result<Option<Subscription>, StoreError> {
        const ONE: &str = "SELECT id, plan_slug, plan_version, snapshot FROM subscriptions
            WHERE workspace_id = $1 AND id = $2";
        let values = [self.scope.workspace().uuid().into(), id.as_str().into()];
        let rows = query(self.db(), "read a subscription", ONE, values).await?;
        rows.first().map(subscription_of).transpose()
    }
}
