//! Reservations of programs outside, among the holds.

use rawdrive_tenancy_core::id::{HoldId, TypedId};
use rawdrive_tenancy_core::{StoreError, WorkspaceScope};
use rawdrive_usage::{HoldState, RESERVATION, Reservation, ReservationsTx};
use sea_orm::sea_query::{Expr, LockType};
use sea_orm::{ColumnTrait, ConnectionTrait, QueryFilter, QuerySelect, Select};

use crate::entity::{hold_charges, holds};
use crate::scope::{Tenant, amount, column, corrupt, count, failed, query};
use crate::store::{Reader, WriteTx};
use crate::usage::key_of;

// Counting ends where it does not matter any more.
const OPEN: &str = "SELECT count(*) AS open FROM (
    SELECT 1 AS one FROM holds WHERE workspace_id = $1 AND state = 'held' AND purpose = $2 LIMIT $3) held";

async fn one(
    scope: &WorkspaceScope,
    select: Select<holds::Entity>,
    id: HoldId,
    on: &impl ConnectionTrait,
) -> Result<Option<Reservation>, StoreError> {
    let row = select
        .filter(holds::Column::Id.eq(id.uuid()))
        .filter(holds::Column::Purpose.eq(RESERVATION.name()))
        .one(on)
        .await
        .map_err(failed("read a reservation"))?;
    let Some(row) = row else {
        return Ok(None);
    };
    let charge = hold_charges::Entity::scoped(scope)
        .filter(hold_charges::Column::HoldId.eq(id.uuid()))
        .one(on)
        .await
        .map_err(failed("read a reservation"))?
        .ok_or_else(|| corrupt("hold_charges", "hold_id", id, "is not there"))?;
    let state = HoldState::stored(&row.state)
        .ok_or_else(|| corrupt("holds", "state", id, "is not what it must be"))?;
    Ok(Some(Reservation {
        id,
        key: key_of(&charge.metric, charge.subject, charge.period_start)?,
        amount: count("hold_charges", "amount", charge.amount)?,
        state,
        expires_at: row.expires_at,
        created_at: row.created_at,
    }))
}

impl ReservationsTx for WriteTx {
    async fn reservation(&mut self, id: HoldId) -> Result<Option<Reservation>, StoreError> {
        let select = holds::Entity::scoped(&self.scope).lock(LockType::NoKeyUpdate);
        one(&self.scope, select, id, &self.tx).await
    }

    async fn open_reservations(&mut self, most: u64) -> Result<u64, StoreError> {
        let values = [
            self.scope.workspace().uuid().into(),
            RESERVATION.name().into(),
            amount(most).into(),
        ];
        let rows = query(&self.tx, "count reservations", OPEN, values).await?;
        let open = rows.first().map_or(Ok(0), |row| column(row, "open"))?;
        count("holds", "open", open)
    }

    async fn note_settled(&mut self, id: HoldId, settled: u64) -> Result<(), StoreError> {
        hold_charges::Entity::scoped_update(&self.scope)
            .col_expr(hold_charges::Column::Amount, Expr::value(amount(settled)))
            .filter(hold_charges::Column::HoldId.eq(id.uuid()))
            .exec(&self.tx)
            .await
            .map_err(failed("note what a reservation came to"))?;
        Ok(())
    }
}

impl Reader {
    /// A reservation, whatever its state; holds of other purposes are none.
    ///
    /// # Errors
    /// The database does not answer, or a row is corrupt.
    pub async fn reservation(&self, id: HoldId) -> Result<Option<Reservation>, StoreError> {
        let select = holds::Entity::scoped(&self.scope);
        one(&self.scope, select, id, self.db()).await
    }
}
