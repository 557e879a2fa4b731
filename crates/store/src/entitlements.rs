//! Entitlements: plan version, overrides, access schedule.

use std::sync::Arc;

use rawdrive_plans::{
    Entitlements, Limit, Override, Plan, PlanEnd, PlansTx, ReadOnly, Schedule, Setting,
};
use rawdrive_tenancy_core::id::{OverrideId, TypedId};
use rawdrive_tenancy_core::{StoreError, WorkspaceScope};
use sea_orm::sea_query::Expr;
use sea_orm::{ConnectionTrait, QueryResult, Set};

use crate::entity::{overrides, standings};
use crate::scope::{Tenant, amount, column, corrupt, failed, locks_rows, query};
use crate::store::{EntitlementsLock, Reader, Store, WriteTx};

// One round trip for all entitlements: a row for each override, one with nulls where there is none.
const SELECT: &str = "SELECT s.plan_slug, s.plan_version, s.billing_anchor, s.grace_until, s.read_only_reason, s.read_only_since,
        s.plan_ends_at, s.then_plan_slug, s.then_plan_version, o.id AS override_id, o.kind, o.name, o.bound, o.enabled, o.reason, o.until, w.currency
    FROM standings s JOIN workspaces w ON w.workspace_id = s.workspace_id LEFT JOIN overrides o ON o.workspace_id = s.workspace_id
    WHERE s.workspace_id = $1 ORDER BY o.seq, o.id";

async fn load(
    store: &Store,
    scope: &WorkspaceScope,
    lock: Option<EntitlementsLock>,
    on: &impl ConnectionTrait,
) -> Result<Arc<Entitlements>, StoreError> {
    let workspace = scope.workspace();
    let mut sql = SELECT.to_owned();
    if locks_rows(on) {
        sql.push_str(match lock {
            None => "",
            Some(EntitlementsLock::Shared) => " FOR SHARE OF s",
            Some(EntitlementsLock::Own) => " FOR NO KEY UPDATE OF s",
        });
    }
    let rows = query(on, "read the standing", &sql, [workspace.uuid().into()]).await?;
    let first = rows
        .first()
        .ok_or_else(|| corrupt("standings", "workspace_id", workspace, "has no standing"))?;
    let plan = store
        .plan(
            &column::<String>(first, "plan_slug")?,
            column(first, "plan_version")?,
            on,
        )
        .await?;
    let read_only = match (
        column(first, "read_only_reason")?,
        column(first, "read_only_since")?,
    ) {
        (Some(reason), Some(since)) => Some(ReadOnly { reason, since }),
        _ => None,
    };
    let then = (
        column::<Option<String>>(first, "then_plan_slug")?,
        column::<Option<i64>>(first, "then_plan_version")?,
    );
    let ends = match (column(first, "plan_ends_at")?, then) {
        (Some(at), (Some(slug), Some(version))) => Some(PlanEnd {
            at,
            then: store.plan(&slug, version, on).await?,
        }),
        _ => None,
    };
    let overrides = rows
        .iter()
        .filter_map(|row| read_override(row).transpose())
        .collect::<Result<_, _>>()?;
    Ok(Arc::new(Entitlements {
        workspace,
        plan,
        overrides,
        billing_anchor: column(first, "billing_anchor")?,
        grace_until: column(first, "grace_until")?,
        read_only,
        ends,
        metrics: store.0.metrics.clone(),
        currency: column(first, "currency")?,
        plans_today: store.0.plans_today.clone(),
    }))
}

fn read_override(row: &QueryResult) -> Result<Option<Override>, StoreError> {
    let Some(id) = column::<Option<uuid::Uuid>>(row, "override_id")? else {
        return Ok(None);
    };
    let id = OverrideId::from_uuid(id);
    let wrong = |column| corrupt("overrides", column, id, "is not what it must be");
    let name: String = column(row, "name")?;
    let setting = match column::<String>(row, "kind")?.as_str() {
        "limit" => {
            let bound = column::<Option<i64>>(row, "bound")?
                .map(u64::try_from)
                .transpose()
                .map_err(|_| wrong("bound"))?;
            Setting::Limit(
                name.parse().map_err(|_| wrong("name"))?,
                Limit::from_bound(bound),
            )
        }
        "feature" => {
            let on = column::<Option<bool>>(row, "enabled")?.ok_or_else(|| wrong("enabled"))?;
            Setting::Feature(name.parse().map_err(|_| wrong("name"))?, on)
        }
        _ => return Err(wrong("kind")),
    };
    Ok(Some(Override {
        id,
        setting,
        reason: column(row, "reason")?,
        until: column(row, "until")?,
    }))
}

impl Reader {
    /// The entitlements as they are committed now.
    ///
    /// # Errors
    /// The database does not answer, or the row is corrupt.
    pub async fn entitlements(&self) -> Result<Arc<Entitlements>, StoreError> {
        load(&self.store, &self.scope, None, self.db()).await
    }
}

impl WriteTx {
    pub(crate) async fn load_entitlements(&mut self) -> Result<Arc<Entitlements>, StoreError> {
        if let Some(entitlements) = &self.entitlements {
            return Ok(entitlements.clone());
        }
        let lock = Some(self.entitlements_lock);
        let entitlements = load(&self.store, &self.scope, lock, &self.tx).await?;
        self.entitlements = Some(entitlements.clone());
        Ok(entitlements)
    }

    /// The entitlements, held as one who is about to change them, or what hangs on it: a take under way ends first,
    /// and later ones see the change.
    ///
    /// # Errors
    /// The database does not answer, or a row is corrupt.
    pub async fn entitlements_to_change(&mut self) -> Result<Arc<Entitlements>, StoreError> {
        if self.entitlements_lock != EntitlementsLock::Own {
            self.entitlements_lock = EntitlementsLock::Own;
            // It may have changed before the row was ours.
            self.entitlements = None;
        }
        self.load_entitlements().await
    }
}

impl PlansTx for WriteTx {
    async fn entitlements(&mut self) -> Result<Arc<Entitlements>, StoreError> {
        self.load_entitlements().await
    }

    async fn insert_entitlements(&mut self, plan: &Plan) -> Result<(), StoreError> {
        let row = standings::ActiveModel {
            plan_slug: Set(plan.slug.to_string()),
            plan_version: Set(i64::from(plan.version)),
            updated_at: Set(self.env().now()),
            ..Default::default()
        };
        let insert = standings::Entity::scoped_insert(&self.scope, [row]);
        insert
            .exec_without_returning(&self.tx)
            .await
            .map_err(failed("insert the standing"))?;
        Ok(())
    }

    async fn move_to_plan(&mut self, plan: &Plan) -> Result<(), StoreError> {
        self.entitlements_to_change().await?;
        standings::Entity::scoped_update(&self.scope)
            .col_expr(standings::Column::PlanSlug, Expr::value(plan.slug.as_str()))
            .col_expr(
                standings::Column::PlanVersion,
                Expr::value(i64::from(plan.version)),
            )
            .col_expr(standings::Column::UpdatedAt, Expr::value(self.env().now()))
            .exec(&self.tx)
            .await
            .map_err(failed("move to a plan"))?;
        self.entitlements = None;
        Ok(())
    }

    async fn schedule(&mut self, schedule: &Schedule) -> Result<(), StoreError> {
        let (reason, since) = match &schedule.read_only {
            Some(read_only) => (Some(read_only.reason.clone()), Some(read_only.since)),
            None => (None, None),
        };
        let (ends_at, slug, version) = match &schedule.ends {
            Some(PlanEnd { at, then }) => (
                Some(*at),
                Some(then.slug.to_string()),
                Some(i64::from(then.version)),
            ),
            None => (None, None, None),
        };
        let columns = [
            (
                standings::Column::BillingAnchor,
                Expr::value(schedule.billing_anchor),
            ),
            (
                standings::Column::GraceUntil,
                Expr::value(schedule.grace_until),
            ),
            (standings::Column::ReadOnlyReason, Expr::value(reason)),
            (standings::Column::ReadOnlySince, Expr::value(since)),
            (standings::Column::PlanEndsAt, Expr::value(ends_at)),
            (standings::Column::ThenPlanSlug, Expr::value(slug)),
            (standings::Column::ThenPlanVersion, Expr::value(version)),
            (standings::Column::UpdatedAt, Expr::value(self.env().now())),
        ];
        let update = columns.into_iter().fold(
            standings::Entity::scoped_update(&self.scope),
            |update, (column, value)| update.col_expr(column, value),
        );
        update
            .exec(&self.tx)
            .await
            .map_err(failed("schedule access"))?;
        self.entitlements = None;
        Ok(())
    }

    async fn add_override(&mut self, new: &Override) -> Result<(), StoreError> {
        let (kind, name, bound, enabled) = match &new.setting {
            Setting::Limit(name, limit) => {
                ("limit", name.as_str(), limit.bound().map(amount), None)
            }
            Setting::Feature(name, on) => ("feature", name.as_str(), None, Some(*on)),
        };
        // Ended ones stay, so that their number is the place in the order.
        let seq = self.entitlements_to_change().await?.overrides.len() + 1;
        let row = overrides::ActiveModel {
            seq: Set(i64::try_from(seq).unwrap_or(i64::MAX)),
            id: Set(new.id.uuid()),
            kind: Set(kind.to_owned()),
            name: Set(name.to_owned()),
            bound: Set(bound),
            enabled: Set(enabled),
            reason: Set(new.reason.clone()),
            until: Set(new.until),
            created_at: Set(self.env().now()),
            ..Default::default()
        };
        let insert = overrides::Entity::scoped_insert(&self.scope, [row]);
        insert
            .exec_without_returning(&self.tx)
            .await
            .map_err(failed("add an override"))?;
        self.entitlements = None;
        Ok(())
    }
}
