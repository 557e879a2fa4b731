//! The workspace's own row, and facts about it.

use chrono::{DateTime, Utc};
use rawdrive_identity::ports::{IdentityTx as _, NewWorkspace, WorkspaceStatus};
use rawdrive_identity::{Currency, WorkspaceName, slug};
use rawdrive_plans::{Plan, PlansTx as _};
use rawdrive_tenancy_core::id::{TypedId, WorkspaceId};
use rawdrive_tenancy_core::{Commit as _, StoreError, WorkspaceScope};
use sea_orm::sea_query::{Expr, LockType};
use sea_orm::{ConnectionTrait, QuerySelect, Select};

use crate::entity::workspaces;
use crate::scope::{Tenant, column, corrupt, failed, query};
use crate::store::{Reader, Release, Store, WriteTx};

/// A workspace's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceRow {
    /// Its id.
    pub id: WorkspaceId,
    /// Its name.
    pub name: String,
    /// Its slug.
    pub slug: String,
    /// Where invoices go.
    pub billing_email: Option<String>,
    /// ISO 4217, lower case; never changes once billed.
    pub currency: String,
    /// Active, suspended or deleted.
    pub status: WorkspaceStatus,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// 1, 2, 3 …: grows with each change.
    pub version: u32,
}

async fn one(
    scope: &WorkspaceScope,
    select: Select<workspaces::Entity>,
    on: &impl ConnectionTrait,
) -> Result<WorkspaceRow, StoreError> {
    let id = scope.workspace();
    let row = select.one(on).await.map_err(failed("read the workspace"))?;
    let row = row.ok_or(StoreError::Dangling {
        operation: "read the workspace",
    })?;
    Ok(WorkspaceRow {
        id,
        name: row.name,
        slug: row.slug,
        billing_email: row.billing_email,
        currency: row.currency,
        status: row
            .status
            .parse()
            .map_err(|e| corrupt("workspaces", "status", id, e))?,
        created_at: row.created_at,
        version: u32::try_from(row.version).map_err(|e| corrupt("workspaces", "version", id, e))?,
    })
}

impl Reader {
    /// The workspace.
    ///
    /// # Errors
    /// The database does not answer, or the workspace is gone.
    pub async fn workspace(&self) -> Result<WorkspaceRow, StoreError> {
        let select = workspaces::Entity::scoped(&self.scope);
        one(&self.scope, select, self.db()).await
    }

    /// E-mail addresses of the workspace's owners: who is told of thresholds.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn owners(&self) -> Result<Vec<String>, StoreError> {
        const OWNERS: &str = "SELECT u.email FROM memberships m JOIN users u ON u.id = m.user_id
            WHERE m.workspace_id = $1 AND m.role = 'owner' ORDER BY m.joined_at";
        let rows = query(
            self.db(),
            "list owners",
            OWNERS,
            [self.scope.workspace().uuid().into()],
        )
        .await?;
        rows.iter().map(|row| column(row, "email")).collect()
    }
}

impl WriteTx {
    /// The workspace, its row locked until the transaction ends.
    ///
    /// # Errors
    /// The database does not answer, or the workspace is gone.
    pub async fn workspace_row(&mut self) -> Result<WorkspaceRow, StoreError> {
        let select = workspaces::Entity::scoped(&self.scope).lock(LockType::NoKeyUpdate);
        one(&self.scope, select, &self.tx).await
    }

    /// Writes name, billing address and version of a workspace that was looked up in this transaction.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn update_workspace(&mut self, row: &WorkspaceRow) -> Result<(), StoreError> {
        workspaces::Entity::scoped_update(&self.scope)
            .col_expr(workspaces::Column::Name, Expr::value(row.name.as_str()))
            .col_expr(
                workspaces::Column::BillingEmail,
                Expr::value(row.billing_email.clone()),
            )
            .col_expr(workspaces::Column::UpdatedAt, Expr::value(self.env().now()))
            .col_expr(
                workspaces::Column::Version,
                Expr::value(i64::from(row.version)),
            )
            .exec(&self.tx)
            .await
            .map_err(failed("update the workspace"))?;
        self.review_payer().await
    }
}

impl Store {
    /// Makes the scope's workspace, on a plan: for a service that has accounts of its own. With ours,
    /// [`sign_up`](rawdrive_identity::sign_up) makes it together with its owner.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when there is one, or the database does not answer.
    pub async fn create_workspace(
        &self,
        scope: &WorkspaceScope,
        name: WorkspaceName,
        currency: Currency,
        plan: &Plan,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin_despite_read_only(scope, Release::System).await?;
        let workspace = NewWorkspace {
            slug: slug(&name, scope.workspace()),
            name,
            billing_email: None,
            currency,
            created_at: self.env().now(),
        };
        tx.insert_workspace(&workspace).await?;
        tx.insert_entitlements(plan).await?;
        tx.commit().await
    }
}
