//! What the use cases of this crate need of a transaction.

use std::future::Future;

use chrono::{DateTime, Utc};
use rawdrive_plans::{Limit, PlansTx};
use rawdrive_tenancy_core::event::EventsTx;
use rawdrive_tenancy_core::id::HoldId;
use rawdrive_tenancy_core::job::JobsTx;
use rawdrive_tenancy_core::{Actor, StoreError};

use crate::{Charge, Edges, Hold, HoldState, LedgerLine, QuotaKey, QuotaRow};

/// The counters, holds and ledger of the handle's workspace.
pub trait UsageTx {
    /// Adds `amount` to `reserved` where `used + reserved + amount` stays within `limit`, in one
    /// conditional update that makes the row when it is not there. Returns whether it did.
    fn reserve(
        &mut self,
        charge: &Charge,
        limit: Limit,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Gives back `released` of `reserved` and changes `used` by `delta`, where `used` stays within
    /// `limit` if it grows; returns the row afterwards, or nothing where the limit is in the way.
    fn apply(
        &mut self,
        key: &QuotaKey,
        released: u64,
        delta: i64,
        limit: Limit,
    ) -> impl Future<Output = Result<Option<QuotaRow>, StoreError>> + Send;
    /// The counter, locked until the transaction ends; zero when there is no row.
    fn quota(
        &mut self,
        key: &QuotaKey,
    ) -> impl Future<Output = Result<QuotaRow, StoreError>> + Send;
    /// Begins what [`Self::undo_attempt`] undoes. There is one attempt at a time; a later one takes its place.
    fn begin_attempt(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Undoes what was done since the attempt began, and lets go of the rows that were locked since.
    fn undo_attempt(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// The counter, made where there is none, and locked against every change until the transaction ends.
    fn lock(&mut self, key: &QuotaKey)
    -> impl Future<Output = Result<QuotaRow, StoreError>> + Send;
    /// Moves what holds hold of one counter to another, and the counters' `reserved` with it. Both are
    /// locked.
    fn move_held(
        &mut self,
        from: &QuotaKey,
        to: &QuotaKey,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Every counter, locked until the transaction ends: for review.
    fn quotas(
        &mut self,
    ) -> impl Future<Output = Result<Vec<(QuotaKey, QuotaRow)>, StoreError>> + Send;
    /// Writes new holds, in as many statements for many as for one.
    fn insert_holds(
        &mut self,
        holds: &[Hold],
        expires_at: DateTime<Utc>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// The hold, if it is still held; locked until the transaction ends. Holds are locked before counters.
    fn held(&mut self, id: HoldId)
    -> impl Future<Output = Result<Option<Hold>, StoreError>> + Send;
    /// Adds to what a held hold holds and moves its expiry; false when it is not held any more.
    fn grow_hold(
        &mut self,
        id: HoldId,
        more: Option<&Charge>,
        expires_at: DateTime<Utc>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// `held →` another state, by compare-and-set; false when it was not held.
    fn close_hold(
        &mut self,
        id: HoldId,
        state: HoldState,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Holds whose expiry is past, at most 1,000, locked until the transaction ends. Those that another
    /// transaction works on are left out: waiting for it, it might wait for us.
    fn overdue(
        &mut self,
        lease_now: DateTime<Utc>,
    ) -> impl Future<Output = Result<Vec<Hold>, StoreError>> + Send;
    /// Adds a line to the ledger, in the name of the handle's actor. It is written at commit, under the head's lock,
    /// which orders all lines of the workspace. What changes a counter's `used` calls it.
    fn add_line(&mut self, line: LedgerLine);
    /// As [`UsageTx::add_line`], in the name of somebody else of the same workspace.
    fn add_line_by(&mut self, actor: Actor, line: LedgerLine);
    /// Begins and ends threshold episodes of a counter.
    fn mark_thresholds(
        &mut self,
        key: &QuotaKey,
        edges: &Edges,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What the use cases of this crate ask of a transaction: [`UsageTx`] for counters, holds and ledger, [`PlansTx`] for the
/// limits in force, [`EventsTx`] for notices at a threshold, [`JobsTx`] for what a hold leaves behind. Whatever has the
/// four has this.
pub trait UsageUnit: UsageTx + PlansTx + EventsTx + JobsTx + Send {}

impl<T: UsageTx + PlansTx + EventsTx + JobsTx + Send> UsageUnit for T {}
