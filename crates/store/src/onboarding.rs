//! Onboarding: its facts, what was skipped, and that completion was told.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use rawdrive_onboarding::{BILLING_EMAIL_SET, Facts, NAMED, OnboardingRead, OnboardingTx};
use rawdrive_tenancy_core::id::TypedId;
use rawdrive_tenancy_core::{StoreError, WorkspaceScope};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, ConnectionTrait, QueryFilter};

use crate::entity::{onboarding, onboarding_skips};
use crate::scope::{Tenant, column, execute, failed, query};
use crate::store::{Reader, Store, WriteTx};

/// One statement for all facts, a row for each skipped step, one with null where there is none.
async fn facts(
    store: &Store,
    scope: &WorkspaceScope,
    on: &impl ConnectionTrait,
) -> Result<(Facts, Option<DateTime<Utc>>), StoreError> {
    const READ: &str = "read onboarding's facts";
    let looked_at: Vec<_> = store.facts().collect();
    let mut sql = "SELECT CASE WHEN w.name <> '' THEN 1 ELSE 0 END AS named,
            CASE WHEN w.billing_email IS NOT NULL THEN 1 ELSE 0 END AS billing_email_set,
            o.completed_at, s.step"
        .to_owned();
    for (at, fact) in looked_at.iter().enumerate() {
        sql.push_str(&format!(
            ", CASE WHEN EXISTS ({}) THEN 1 ELSE 0 END AS fact_{at}",
            fact.sql
        ));
    }
    sql.push_str(
        " FROM workspaces w
        LEFT JOIN onboarding o ON o.workspace_id = w.workspace_id
        LEFT JOIN onboarding_skips s ON s.workspace_id = w.workspace_id
        WHERE w.workspace_id = $1",
    );
    let rows = query(on, READ, &sql, [scope.workspace().uuid().into()]).await?;
    let row = rows
        .first()
        .ok_or(StoreError::Dangling { operation: READ })?;
    let mut held = BTreeSet::new();
    for name in [NAMED, BILLING_EMAIL_SET] {
        if column::<i32>(row, name)? == 1 {
            held.insert(name.to_owned());
        }
    }
    for (at, fact) in looked_at.iter().enumerate() {
        let holds: i32 = row
            .try_get("", &format!("fact_{at}"))
            .map_err(failed("read a column"))?;
        if holds == 1 {
            held.insert(fact.name.to_owned());
        }
    }
    let facts = Facts {
        held,
        skipped: rows
            .iter()
            .filter_map(|row| column::<Option<String>>(row, "step").transpose())
            .collect::<Result<_, _>>()?,
    };
    Ok((facts, column(row, "completed_at")?))
}

impl OnboardingRead for Reader {
    async fn onboarding(&self) -> Result<(Facts, Option<DateTime<Utc>>), StoreError> {
        facts(&self.store, &self.scope, self.db()).await
    }
}

impl OnboardingTx for WriteTx {
    async fn onboarding(&mut self) -> Result<(Facts, Option<DateTime<Utc>>), StoreError> {
        facts(&self.store, &self.scope, &self.tx).await
    }

    async fn skip_step(&mut self, step: &str, at: DateTime<Utc>) -> Result<(), StoreError> {
        const SKIP: &str =
            "INSERT INTO onboarding_skips (workspace_id, step, skipped_at) VALUES ($1, $2, $3)
            ON CONFLICT (workspace_id, step) DO NOTHING";
        let values = [self.scope.workspace().uuid().into(), step.into(), at.into()];
        execute(&self.tx, "skip a step", SKIP, values).await?;
        Ok(())
    }

    async fn unskip_step(&mut self, step: &str) -> Result<(), StoreError> {
        onboarding_skips::Entity::scoped_delete(&self.scope)
            .filter(onboarding_skips::Column::Step.eq(step))
            .exec(&self.tx)
            .await
            .map_err(failed("take a skip back"))?;
        Ok(())
    }

    async fn lock_completion(&mut self) -> Result<Option<DateTime<Utc>>, StoreError> {
        // The row that is written is the lock, also where writers do not wait for each other by nature; and
        // what is read after it is what the transaction before has committed.
        const LOCK: &str = "INSERT INTO onboarding (workspace_id) VALUES ($1)
            ON CONFLICT (workspace_id) DO UPDATE SET completed_at = onboarding.completed_at
            RETURNING completed_at";
        const OPERATION: &str = "lock onboarding's completion";
        // Told once, it stays told: nothing to lock, and nothing to write at all.
        let told = onboarding::Entity::scoped(&self.scope)
            .one(&self.tx)
            .await
            .map_err(failed(OPERATION))?
            .and_then(|row| row.completed_at);
        if told.is_some() {
            return Ok(told);
        }
        let values = [self.scope.workspace().uuid().into()];
        let rows = query(&self.tx, OPERATION, LOCK, values).await?;
        let row = rows.first().ok_or(StoreError::Dangling {
            operation: OPERATION,
        })?;
        column(row, "completed_at")
    }

    async fn note_completion(&mut self, at: DateTime<Utc>) -> Result<(), StoreError> {
        onboarding::Entity::scoped_update(&self.scope)
            .col_expr(onboarding::Column::CompletedAt, Expr::value(at))
            .exec(&self.tx)
            .await
            .map_err(failed("note onboarding's completion"))?;
        Ok(())
    }
}
