//! The operation log of a workspace.

use chrono::{DateTime, Utc};
use rawdrive_billing::{Lane, Operation, OperationOutcome, OperationRequest, OperationsTx};
use rawdrive_tenancy_core::id::{OperationId, TypedId};
use rawdrive_tenancy_core::{Actor, StoreError};
use sea_orm::QueryResult;

use super::of_json;
use crate::scope::{column, corrupt, count, execute, query};
use crate::store::WriteTx;

const TABLE: &str = "billing_operations";

/// The row's `actor`.
pub(super) fn actor_of(row: &QueryResult) -> Result<Actor, StoreError> {
    let actor: String = column(row, "actor")?;
    actor
        .parse()
        .map_err(|e| corrupt(TABLE, "actor", &actor, e))
}

fn operation_of(row: &QueryResult) -> Result<Operation, StoreError> {
    let id = OperationId::from_uuid(column(row, "id")?);
    let request: String = column(row, "request")?;
    let attempt: i64 = column(row, "attempt")?;
    Ok(Operation {
        id,
        request: of_json(TABLE, "request", &id.to_string(), &request)?,
        actor: actor_of(row)?,
        attempt: u32::try_from(attempt).map_err(|e| corrupt(TABLE, "attempt", id, e))?,
        fence: count(TABLE, "fence", column(row, "fence")?)?,
        created_at: column(row, "created_at")?,
        leased_until: column(row, "leased_until")?,
        unanswered: column(row, "unanswered")?,
    })
}

impl WriteTx {
    /// Changes a live operation whose fence is still the caller's; the rest of `set` begins at `$4`.
    async fn change_operation(
        &mut self,
        name: &'static str,
        operation: &Operation,
        set: &str,
        rest: impl IntoIterator<Item = sea_orm::Value>,
    ) -> Result<bool, StoreError> {
        let sql = format!(
            "UPDATE billing_operations SET {set}
             WHERE workspace_id = $1 AND id = $2 AND fence = $3 AND outcome IS NULL"
        );
        let values = [
            self.scope.workspace().uuid().into(),
            operation.id.uuid().into(),
            operation.fence.cast_signed().into(),
        ];
        Ok(execute(&self.tx, name, &sql, values.into_iter().chain(rest)).await? == 1)
    }
}

impl OperationsTx for WriteTx {
    async fn begin_operation(&mut self, operation: &Operation) -> Result<bool, StoreError> {
        const BEGIN: &str =
            "INSERT INTO billing_operations (workspace_id, id, lane, kind, request, attempt, fence,
                leased_until, created_at, unanswered, actor)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING";
        let request = serde_json::to_string(&operation.request)
            .map_err(|e| corrupt(TABLE, "request", operation.id, e))?;
        let values = [
            self.scope.workspace().uuid().into(),
            operation.id.uuid().into(),
            operation.request.lane().as_str().into(),
            operation.request.kind().into(),
            request.into(),
            i64::from(operation.attempt).into(),
            operation.fence.cast_signed().into(),
            operation.leased_until.into(),
            operation.created_at.into(),
            operation.unanswered.into(),
            operation.actor.to_string().into(),
        ];
        Ok(execute(&self.tx, "begin an operation", BEGIN, values).await? == 1)
    }

    async fn live_operation(&mut self, lane: Lane) -> Result<Option<Operation>, StoreError> {
        const LIVE: &str =
            "SELECT id, request, actor, attempt, fence, created_at, leased_until, unanswered
            FROM billing_operations WHERE workspace_id = $1 AND lane = $2 AND outcome IS NULL";
        let values = [self.scope.workspace().uuid().into(), lane.as_str().into()];
        let rows = query(&self.tx, "look for an operation", LIVE, values).await?;
        rows.first().map(operation_of).transpose()
    }

    async fn take_up(
        &mut self,
        id: OperationId,
        leased_until: DateTime<Utc>,
    ) -> Result<Option<Operation>, StoreError> {
        const TAKE: &str = "UPDATE billing_operations SET leased_until = $4, fence = fence + 1
            WHERE workspace_id = $1 AND id = $2 AND outcome IS NULL AND leased_until <= $3
            RETURNING id, request, actor, attempt, fence, created_at, leased_until, unanswered";
        let values = [
            self.scope.workspace().uuid().into(),
            id.uuid().into(),
            self.env().lease_now().into(),
            leased_until.into(),
        ];
        let rows = query(&self.tx, "take an operation up", TAKE, values).await?;
        rows.first().map(operation_of).transpose()
    }

    async fn next_attempt(
        &mut self,
        operation: &Operation,
        leased_until: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let set = "attempt = attempt + 1, leased_until = $4, unanswered = FALSE";
        self.change_operation("begin an attempt", operation, set, [leased_until.into()])
            .await
    }

    async fn put_down(
        &mut self,
        operation: &Operation,
        until: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let set = "leased_until = $4, unanswered = TRUE";
        self.change_operation("put an operation down", operation, set, [until.into()])
            .await
    }

    async fn end_operation(
        &mut self,
        operation: &Operation,
        outcome: &OperationOutcome,
    ) -> Result<bool, StoreError> {
        let outcome = serde_json::to_string(outcome)
            .map_err(|e| corrupt(TABLE, "outcome", operation.id, e))?;
        let now = self.env().now();
        let set = "outcome = $4, ended_at = $5";
        let rest = [outcome.into(), now.into()];
        self.change_operation("end an operation", operation, set, rest)
            .await
    }

    async fn ended_last(&mut self, lane: Lane) -> Result<Option<OperationRequest>, StoreError> {
        // By real time: of one lane, no two are leased at a time.
        const LAST: &str = "SELECT id, request FROM billing_operations
            WHERE workspace_id = $1 AND lane = $2 AND outcome IS NOT NULL
            ORDER BY leased_until DESC, id DESC LIMIT 1";
        let values = [self.scope.workspace().uuid().into(), lane.as_str().into()];
        let rows = query(&self.tx, "read the last operation", LAST, values).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let id = OperationId::from_uuid(column(row, "id")?);
        let request: String = column(row, "request")?;
        of_json(TABLE, "request", &id.to_string(), &request).map(Some)
    }

    async fn outcome(&mut self, id: OperationId) -> Result<Option<OperationOutcome>, StoreError> {
        const OUTCOME: &str =
            "SELECT outcome FROM billing_operations WHERE workspace_id = $1 AND id = $2";
        let values = [self.scope.workspace().uuid().into(), id.uuid().into()];
        let rows = query(&self.tx, "read an outcome", OUTCOME, values).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let text = column::<Option<String>>(row, "outcome")?;
        text.map(|text| of_json(TABLE, "outcome", &id.to_string(), &text))
            .transpose()
    }
}
