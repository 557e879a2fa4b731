//! What `doctor` says about billing. Notes: none of it is a broken invariant, all of it is worth a look.

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_billing::{Basis, REVERSAL, basis};
use rawdrive_plans::Slug;
use rawdrive_tenancy_core::id::{OperationId, TypedId};
use rawdrive_tenancy_core::{Env, StoreError, WorkspaceScope};
use sea_orm::QueryResult;

use super::{account, subscriptions};
use crate::doctor::Snapshot;
use crate::reach::Reach;
use crate::scope::{column, count, query};

/// How many of one kind are told by name.
const NAMED: i64 = 20;
/// For how long a payment that was taken back is told.
const TOLD_FOR: TimeDelta = TimeDelta::days(30);
/// How old a live operation is when somebody should look at it.
const STUCK_AFTER: TimeDelta = TimeDelta::minutes(10);

impl Snapshot {
    /// What waits in the inbox of the payment provider's events.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn inbox_notes(&self) -> Result<Vec<String>, StoreError> {
        const OPERATOR: &str =
            "SELECT kind || ' ' || id || ' waits for an operator: ' || coalesce(reason, '') AS note
            FROM billing_objects WHERE waiting = 'operator' ORDER BY touched_at, kind, id LIMIT $1";
        const CUSTOMERS: &str =
            "SELECT count(*) AS n FROM billing_objects WHERE waiting = 'customer'";
        const FAILING: &str = "SELECT kind || ' ' || id || ' failed ' || attempts || ' times: ' || coalesce(reason, '') AS note
            FROM billing_objects WHERE waiting IS NULL AND version > settled_version AND attempts > 10
            ORDER BY attempts DESC, kind, id LIMIT $1";
        let mut notes = Vec::new();
        for sql in [OPERATOR, FAILING] {
            for row in query(self.on(), "look into the inbox", sql, [NAMED.into()]).await? {
                notes.push(column(&row, "note")?);
            }
        }
        for row in query(self.on(), "look into the inbox", CUSTOMERS, []).await? {
            let waiting: i64 = column(&row, "n")?;
            if waiting > 0 {
                notes.push(format!(
                    "{waiting} objects of the payment provider wait for a customer that no workspace has"
                ));
            }
        }
        Ok(notes)
    }

    /// How many objects of the payment provider are still to be fetched and projected, by whoever is at it. What waits
    /// for a customer or for an operator is none of them.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn unprojected(&self) -> Result<u64, StoreError> {
        const DIRTY: &str = "SELECT count(*) AS n FROM billing_objects
            WHERE waiting IS NULL AND version > settled_version";
        let rows = query(self.on(), "count what is to be projected", DIRTY, []).await?;
        number(&rows, "billing_objects")
    }

    /// How many operations of a workspace have not ended.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn live_operations(&self, scope: &WorkspaceScope) -> Result<u64, StoreError> {
        const LIVE: &str = "SELECT count(*) AS n FROM billing_operations
            WHERE workspace_id = $1 AND outcome IS NULL";
        const OPERATION: &str = "count live operations";
        self.on().enter(Reach::of(scope), OPERATION).await?;
        let values = [scope.workspace().uuid().into()];
        let rows = query(self.on(), OPERATION, LIVE, values).await?;
        number(&rows, "billing_operations")
    }

    /// Operations of a workspace that do not end, and a plan that is not the one that was bought or granted.
    ///
    /// # Errors
    /// The database does not answer, or a row is corrupt.
    pub async fn billing_notes(
        &self,
        scope: &WorkspaceScope,
        env: &Env,
    ) -> Result<Vec<String>, StoreError> {
        const STUCK: &str = "SELECT id, kind, attempt FROM billing_operations
            WHERE workspace_id = $1 AND outcome IS NULL AND created_at <= $2 ORDER BY created_at";
        const PLAN: &str =
            "SELECT plan_slug, plan_version, plan_ends_at FROM standings WHERE workspace_id = $1";
        const REVERSED: &str = "SELECT key FROM billing_effects
            WHERE workspace_id = $1 AND key LIKE $2 AND at >= $3 ORDER BY at, key";
        let (workspace, now) = (scope.workspace(), env.now());
        let operation = "look at a workspace's billing";
        self.on().enter(Reach::of(scope), operation).await?;
        let mut notes = Vec::new();
        let values = [workspace.uuid().into(), (now - STUCK_AFTER).into()];
        for row in query(self.on(), "look for stuck operations", STUCK, values).await? {
            let id = OperationId::from_uuid(column(&row, "id")?);
            let (kind, attempt) = (
                column::<String>(&row, "kind")?,
                column::<i64>(&row, "attempt")?,
            );
            notes.push(format!(
                "{workspace}: operation {id} ({kind}) has not ended, at attempt {attempt}"
            ));
        }
        let values = [
            workspace.uuid().into(),
            format!("{REVERSAL}%").into(),
            (now - TOLD_FOR).into(),
        ];
        for row in query(
            self.on(),
            "look for payments that did not stay",
            REVERSED,
            values,
        )
        .await?
        {
            let key = column::<String>(&row, "key")?;
            let charge = key.trim_start_matches(REVERSAL);
            notes.push(format!(
                "{workspace}: the payment {charge} was taken back, by a refund of all of it or a dispute that was lost"
            ));
        }
        let account = account(scope, self.on()).await?;
        let subscriptions = subscriptions(scope, self.on()).await?;
        let due = match basis(account.grant.as_ref(), &subscriptions, now) {
            Basis::Untouched => return Ok(notes),
            Basis::Nothing => None,
            Basis::Grant(grant) => Some(&grant.sold),
            Basis::Subscription(subscription) => subscription.sold.as_ref(),
        };
        for row in query(self.on(), "read the plan", PLAN, [workspace.uuid().into()]).await? {
            let (plan, version) = (
                column::<String>(&row, "plan_slug")?,
                column::<i64>(&row, "plan_version")?,
            );
            // One that was ended for want of payment is kept until its grace is over.
            let ends: Option<DateTime<Utc>> = column(&row, "plan_ends_at")?;
            let right = match due {
                None if ends.is_some_and(|ends| now < ends) => true,
                Some(sold) => plan == sold.plan.as_str() && version == i64::from(sold.version),
                None => plan == Slug::free().as_str(),
            };
            if !right {
                let due = due.map_or_else(
                    || Slug::free().to_string(),
                    |sold| format!("{} {}", sold.plan, sold.version),
                );
                notes.push(format!(
                    "{workspace}: has the plan {plan} {version}, {due} is what was bought or granted; a review or a reconciliation settles it"
                ));
            }
        }
        Ok(notes)
    }
}

/// The count in the one row of an answer.
fn number(rows: &[QueryResult], table: &'static str) -> Result<u64, StoreError> {
    match rows.first() {
        Some(row) => count(table, "n", column(row, "n")?),
        None => Ok(0),
    }
}
