//! What this crate needs of a store.

use std::future::Future;
use std::sync::Arc;

use rawdrive_tenancy_core::audit::AuditTx;
use rawdrive_tenancy_core::job::JobsTx;
use rawdrive_tenancy_core::{Commit, StoreError, WorkspaceScope};

use crate::{Entitlements, Override, Plan, ReadOnly, Schedule};

/// The entitlements of the handle's workspace, for writing.
pub trait PlansTx {
    /// The entitlements, locked against change until this transaction ends.
    fn entitlements(
        &mut self,
    ) -> impl Future<Output = Result<Arc<Entitlements>, StoreError>> + Send;
    /// Writes the first entitlements of a new workspace.
    fn insert_entitlements(
        &mut self,
        plan: &Plan,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Moves the workspace to a plan version; the schedule beside it stays as it is.
    fn move_to_plan(&mut self, plan: &Plan) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Writes the schedule beside the plan: billing anchor, grace, read-only, the plan's own end.
    fn schedule(
        &mut self,
        schedule: &Schedule,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Adds an override; a later one of the same name stands above it.
    fn add_override(
        &mut self,
        new: &Override,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What the use cases of this crate ask of a transaction: [`PlansTx`] for the entitlements, [`AuditTx`] because each
/// change is audited, [`JobsTx`] because thresholds are reviewed after it. Whatever has the three has this.
pub trait PlansUnit: PlansTx + AuditTx + JobsTx + Send {}

impl<T: PlansTx + AuditTx + JobsTx + Send> PlansUnit for T {}

/// Why a write transaction does not begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The workspace takes no writes now.
    #[error("the workspace is read-only")]
    ReadOnly(ReadOnly),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A store that begins writes in a workspace: SQL's, or one in memory.
pub trait UnitOfWork: Send + Sync {
    /// Its write handle.
    type Tx: Commit + Send;
    /// Begins a write; refused while the workspace is read-only.
    fn begin(
        &self,
        scope: &WorkspaceScope,
    ) -> impl Future<Output = Result<Self::Tx, BeginError>> + Send;
    /// Begins a write that only gives back or renews what is held.
    fn begin_release(
        &self,
        scope: &WorkspaceScope,
    ) -> impl Future<Output = Result<Self::Tx, StoreError>> + Send;
}
