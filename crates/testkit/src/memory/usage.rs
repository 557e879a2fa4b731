//! Counters, holds, ledger and thresholds.

use chrono::{DateTime, Utc};
use rawdrive_plans::{Decision, Limit, decide};
use rawdrive_tenancy_core::id::HoldId;
use rawdrive_tenancy_core::{Actor, StoreError};
use rawdrive_usage::{
    Charge, Edges, Hold, HoldState, LedgerLine, QuotaKey, QuotaRow, RESERVATION, Reservation,
    ReservationsTx, UsageTx,
};

use super::{HoldRow, MemoryTx, Rows};
use crate::fault::unavailable;

impl UsageTx for MemoryTx {
    async fn reserve(&mut self, charge: &Charge, limit: Limit) -> Result<bool, StoreError> {
        let rows = self.write("reserve")?;
        let row = rows.quotas.get(&charge.key).copied().unwrap_or_default();
        if decide(row.used + row.reserved, charge.amount, limit) != Decision::Allow {
            return Ok(false);
        }
        rows.quotas.entry(charge.key.clone()).or_default().reserved += charge.amount;
        Ok(true)
    }

    async fn apply(
        &mut self,
        key: &QuotaKey,
        released: u64,
        delta: i64,
        limit: Limit,
    ) -> Result<Option<QuotaRow>, StoreError> {
        const OPERATION: &str = "apply to a quota";
        let Some(row) = self.write(OPERATION)?.quotas.get_mut(key) else {
            return Ok(None);
        };
        if delta > 0 && !limit.admits(row.used.saturating_add_signed(delta)) {
            return Ok(None);
        }
        let (Some(used), Some(reserved)) = (
            row.used.checked_add_signed(delta),
            row.reserved.checked_sub(released),
        ) else {
            return Err(unavailable(OPERATION, "a counter would fall below zero"));
        };
        (row.used, row.reserved) = (used, reserved);
        Ok(Some(*row))
    }

    async fn quota(&mut self, key: &QuotaKey) -> Result<QuotaRow, StoreError> {
        let rows = self.read("read a quota")?;
        Ok(rows.quotas.get(key).copied().unwrap_or_default())
    }

    async fn begin_attempt(&mut self) -> Result<(), StoreError> {
        self.write("begin an attempt")?;
        self.attempt = Some((self.state.clone(), self.pending.mark()));
        Ok(())
    }

    async fn undo_attempt(&mut self) -> Result<(), StoreError> {
        self.write("undo an attempt")?;
        match &self.attempt {
            Some((before, mark)) => {
                self.state = before.clone();
                self.pending.undo(*mark);
            }
            None => panic!("an attempt is begun before it is undone"),
        }
        Ok(())
    }

    async fn lock(&mut self, key: &QuotaKey) -> Result<QuotaRow, StoreError> {
        let rows = self.write("lock a quota")?;
        Ok(*rows.quotas.entry(key.clone()).or_default())
    }

    async fn move_held(&mut self, from: &QuotaKey, to: &QuotaKey) -> Result<(), StoreError> {
        let rows = self.write("move what is held")?;
        let held = rows
            .holds
            .values_mut()
            .filter(|row| row.state == HoldState::Held);
        let mut moved = 0;
        for row in held {
            for charge in row.hold.charges.iter_mut().filter(|c| c.key == *from) {
                charge.key = to.clone();
                moved += charge.amount;
            }
            row.hold.charges.sort_by(|a, b| a.key.cmp(&b.key));
        }
        rows.quotas.entry(from.clone()).or_default().reserved -= moved;
        rows.quotas.entry(to.clone()).or_default().reserved += moved;
        Ok(())
    }

    async fn quotas(&mut self) -> Result<Vec<(QuotaKey, QuotaRow)>, StoreError> {
        let rows = self.read("read quotas")?;
        Ok(rows.quotas.iter().map(|(k, r)| (k.clone(), *r)).collect())
    }

    async fn insert_holds(
        &mut self,
        holds: &[Hold],
        expires_at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        const OPERATION: &str = "insert holds";
        let created_at = self.store.env.now();
        let rows = self.write(OPERATION)?;
        for hold in holds {
            let row = HoldRow {
                hold: hold.clone(),
                state: HoldState::Held,
                expires_at,
                created_at,
            };
            if rows.holds.insert(hold.id, row).is_some() {
                return Err(StoreError::Taken {
                    operation: OPERATION,
                });
            }
        }
        Ok(())
    }

    async fn held(&mut self, id: HoldId) -> Result<Option<Hold>, StoreError> {
        let row = self.read("read a hold")?.holds.get(&id);
        Ok(row
            .filter(|row| row.state == HoldState::Held)
            .map(|row| row.hold.clone()))
    }

    async fn grow_hold(
        &mut self,
        id: HoldId,
        more: Option<&Charge>,
        expires_at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let Some(row) = held_row(self.write("grow a hold")?, id) else {
            return Ok(false);
        };
        row.expires_at = expires_at;
        if let Some(more) = more {
            let charges = &mut row.hold.charges;
            match charges.binary_search_by(|charge| charge.key.cmp(&more.key)) {
                Ok(at) => charges[at].amount += more.amount,
                Err(at) => charges.insert(at, more.clone()),
            }
        }
        Ok(true)
    }

    async fn close_hold(&mut self, id: HoldId, state: HoldState) -> Result<bool, StoreError> {
        let row = held_row(self.write("close a hold")?, id);
        Ok(row.map(|row| row.state = state).is_some())
    }

    async fn overdue(&mut self, lease_now: DateTime<Utc>) -> Result<Vec<Hold>, StoreError> {
        let holds = self.read("read overdue holds")?.holds.values();
        let overdue = holds.filter(|h| h.state == HoldState::Held && h.expires_at <= lease_now);
        Ok(overdue.map(|h| h.hold.clone()).take(1000).collect())
    }

    fn add_line(&mut self, line: LedgerLine) {
        self.add_line_by(self.scope.actor(), line);
    }

    fn add_line_by(&mut self, actor: Actor, line: LedgerLine) {
        self.pending.lines.push((actor, line));
    }

    async fn mark_thresholds(&mut self, key: &QuotaKey, edges: &Edges) -> Result<(), StoreError> {
        const OPERATION: &str = "mark thresholds";
        let rows = self.write(OPERATION)?;
        if let Some(row) = rows.quotas.get_mut(key) {
            row.fired = edges.fired;
        }
        rows.episodes
            .retain(|(of, threshold)| of != key || edges.kept.contains(threshold));
        for threshold in &edges.fire {
            let episode = (key.clone(), *threshold);
            if rows.episodes.contains(&episode) {
                return Err(StoreError::Taken {
                    operation: OPERATION,
                });
            }
            rows.episodes.push(episode);
        }
        Ok(())
    }
}

impl ReservationsTx for MemoryTx {
    async fn reservation(&mut self, id: HoldId) -> Result<Option<Reservation>, StoreError> {
        let row = self.read("read a reservation")?.holds.get(&id);
        let row = row.filter(|row| row.hold.purpose == RESERVATION);
        Ok(row.and_then(|row| {
            let charge = row.hold.charges.first()?;
            Some(Reservation {
                id,
                key: charge.key.clone(),
                amount: charge.amount,
                state: row.state,
                expires_at: row.expires_at,
                created_at: row.created_at,
            })
        }))
    }

    async fn open_reservations(&mut self, most: u64) -> Result<u64, StoreError> {
        let holds = self.read("count reservations")?.holds.values();
        let open = holds.filter(|h| h.state == HoldState::Held && h.hold.purpose == RESERVATION);
        Ok(open.map(|_| 1).sum::<u64>().min(most))
    }

    async fn note_settled(&mut self, id: HoldId, amount: u64) -> Result<(), StoreError> {
        let rows = self.write("note what a reservation came to")?;
        let charge = rows.holds.get_mut(&id).map(|row| &mut row.hold.charges);
        for charge in charge.into_iter().flatten() {
            charge.amount = amount;
        }
        Ok(())
    }
}

fn held_row(rows: &mut Rows, id: HoldId) -> Option<&mut HoldRow> {
    let row = rows.holds.get_mut(&id)?;
    (row.state == HoldState::Held).then_some(row)
}
