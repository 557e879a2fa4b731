//! The ports in memory: a transaction works on a copy, a commit puts it back, a drop forgets it.

mod billing;
mod billing_rows;
mod history;
mod identity;
mod onboarding;
mod records;
mod usage;

pub use history::MemoryReader;
pub use identity::{IdentityRows, MembershipRow, RefreshTokenRow, SessionRow, WorkspaceRow};
pub use onboarding::{Fact, OnboardingRows};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use rawdrive_identity::LimitState;
use rawdrive_plans::{Access, BeginError, Entitlements, Plan, PlansTx, ReadOnly, UnitOfWork};
use rawdrive_tenancy_core::audit::Entry;
use rawdrive_tenancy_core::id::{HoldId, WorkspaceId};
use rawdrive_tenancy_core::job::Job;
use rawdrive_tenancy_core::{Commit, Env, StoreError, WorkspaceScope};
use rawdrive_usage::{
    Hold, HoldState, LedgerEntry, LedgerHead, Pending, PendingMark, QuotaKey, QuotaRow, Rollups,
};
use tokio::sync::OwnedMutexGuard;

use self::billing_rows::Global;
pub use self::billing_rows::{BillingRows, ObjectRow};
use crate::fault::{Fault, Faults, unavailable};
use crate::fixtures::scope;
use crate::slots::{Slot, Slots};

/// A hold and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldRow {
    /// Its id and amounts.
    pub hold: Hold,
    /// Held, or how it ended.
    pub state: HoldState,
    /// When it ends by itself.
    pub expires_at: DateTime<Utc>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// Everything that one workspace holds.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Plan, overrides and access.
    pub entitlements: Entitlements,
    /// The counters that were ever taken from.
    pub quotas: BTreeMap<QuotaKey, QuotaRow>,
    /// Holds, ended ones too.
    pub holds: BTreeMap<HoldId, HoldRow>,
    /// Threshold episodes that are open.
    pub episodes: Vec<(QuotaKey, u8)>,
    /// The ledger, oldest line first.
    pub ledger: Vec<LedgerEntry>,
    /// Where it ends.
    pub ledger_head: LedgerHead,
    /// The sums beside it.
    pub rollups: Rollups,
    /// The ids of events that were reported.
    pub event_ids: BTreeSet<String>,
    /// The audit chain, oldest entry first.
    pub audit: Vec<Entry>,
    /// Jobs with the time at which they become due, in the order in which they were enqueued.
    pub jobs: Vec<(Job, Option<DateTime<Utc>>)>,
    /// What extensions keep, by its type.
    pub slots: Slots,
    /// What billing keeps.
    pub billing: BillingRows,
    /// What onboarding keeps.
    pub onboarding: OnboardingRows,
}

impl Rows {
    /// In which counters usage is not the ledger's sum, or reserved not the sum of what is held.
    #[must_use]
    pub fn discrepancies(&self) -> Vec<String> {
        let mut sums: BTreeMap<&QuotaKey, (i64, u64)> = BTreeMap::new();
        for line in &self.ledger {
            sums.entry(&line.key).or_default().0 += line.quantity;
        }
        let held = self.holds.values().filter(|h| h.state == HoldState::Held);
        for charge in held.flat_map(|h| &h.hold.charges) {
            sums.entry(&charge.key).or_default().1 += charge.amount;
        }
        for key in self.quotas.keys() {
            sums.entry(key).or_default();
        }
        let mut found = Vec::new();
        for (key, (ledger, held)) in sums {
            let row = self.quotas.get(key).copied().unwrap_or_default();
            if i64::try_from(row.used) != Ok(ledger) || row.reserved != held {
                found.push(format!(
                    "{} {}: {row:?}, ledger {ledger}, held {held}",
                    key.metric, key.subject
                ));
            }
        }
        if self.rollups != Rollups::of(&self.ledger) {
            found.push(format!("{:?} is not the ledger's sum", self.rollups));
        }
        found
    }
}

/// Everything there is: what workspaces hold, and what belongs to none.
#[derive(Debug, Clone, Default)]
struct State {
    workspaces: BTreeMap<WorkspaceId, Arc<Rows>>,
    billing: Arc<Global>,
    identity: Arc<IdentityRows>,
}

/// A store in memory. Cheap to clone; all clones are the one store.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    env: Env,
    /// Who holds it writes: one at a time, in the order of asking.
    turn: Arc<tokio::sync::Mutex<()>>,
    committed: Arc<Mutex<State>>,
    /// Outside of what is committed: whoever hears of limits hears at once.
    told: Arc<Mutex<Vec<LimitState>>>,
    facts: Arc<[Fact]>,
    faults: Faults,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(env: Env) -> Self {
        Self {
            env,
            turn: Arc::default(),
            committed: Arc::default(),
            told: Arc::default(),
            facts: Arc::default(),
            faults: Faults::default(),
        }
    }

    /// The same store, whose calls by this handle fail as the faults say: every beginning, every method of a
    /// port and every commit counts as one.
    #[must_use]
    pub fn failing(&self, faults: Faults) -> Self {
        Self {
            faults,
            ..self.clone()
        }
    }

    /// The same store as it works by another environment: that of a workspace which lives at a time of its own, say
    /// (see [`TestEnv::beside`](crate::TestEnv::beside)).
    #[must_use]
    pub fn at(&self, env: Env) -> Self {
        Self {
            env,
            ..self.clone()
        }
    }

    /// Makes a workspace on a plan, with nobody in it.
    ///
    /// # Errors
    /// As the faults say.
    pub async fn workspace(&self, plan: &Plan) -> Result<WorkspaceScope, StoreError> {
        let scope = scope(self.env.id());
        let mut tx = self.begin_despite_read_only(&scope).await;
        tx.insert_plain_workspace();
        tx.insert_entitlements(plan).await?;
        tx.commit().await?;
        Ok(scope)
    }

    /// Begins a write that is right also while the workspace takes no writes.
    pub async fn begin_despite_read_only(&self, scope: &WorkspaceScope) -> MemoryTx {
        let turn = self.turn.clone().lock_owned().await;
        MemoryTx {
            state: self.state().clone(),
            store: self.clone(),
            scope: *scope,
            attempt: None,
            loses_exchange: false,
            pending: Pending::default(),
            _turn: turn,
        }
    }

    /// What is committed of a workspace.
    ///
    /// # Panics
    /// There is no such workspace.
    #[must_use]
    pub fn rows(&self, scope: &WorkspaceScope) -> Arc<Rows> {
        let rows = self.state().workspaces.get(&scope.workspace()).cloned();
        rows.expect("the workspace was made")
    }

    /// Lets a workspace take no writes, or take them again: what billing does.
    pub async fn set_read_only(&self, scope: &WorkspaceScope, read_only: Option<ReadOnly>) {
        let _turn = self.turn.lock().await;
        if let Some(rows) = self.state().workspaces.get_mut(&scope.workspace()) {
            Arc::make_mut(rows).entitlements.read_only = read_only;
        }
    }

    /// The clock, ids and randomness that the store works with.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Reads what is committed of a workspace.
    #[must_use]
    pub fn read(&self, scope: &WorkspaceScope) -> MemoryReader {
        MemoryReader {
            store: self.clone(),
            scope: *scope,
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.committed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// One statement outside of a transaction; it waits for its turn as one does.
    async fn statement<T>(
        &self,
        operation: &'static str,
        run: impl FnOnce(&mut State) -> T,
    ) -> Result<T, StoreError> {
        let fault = self.faults.strike();
        if fault == Some(Fault::Refused) {
            return Err(unavailable(operation, "a fault was asked for"));
        }
        let _turn = self.turn.lock().await;
        let answer = run(&mut self.state());
        match fault {
            None => Ok(answer),
            Some(_) => Err(unavailable(operation, "a fault was asked for")),
        }
    }

    /// One statement that only reads.
    fn look<T>(
        &self,
        operation: &'static str,
        look: impl FnOnce(&State) -> T,
    ) -> Result<T, StoreError> {
        self.call(operation)?;
        Ok(look(&self.state()))
    }

    fn call(&self, operation: &'static str) -> Result<(), StoreError> {
        match self.faults.strike() {
            None => Ok(()),
            Some(_) => Err(unavailable(operation, "a fault was asked for")),
        }
    }
}

impl UnitOfWork for MemoryStore {
    type Tx = MemoryTx;

    async fn begin(&self, scope: &WorkspaceScope) -> Result<MemoryTx, BeginError> {
        self.call("begin")?;
        let tx = self.begin_despite_read_only(scope).await;
        match tx.rows("begin")?.entitlements.access(self.env.now()) {
            Access::ReadOnly(read_only) => Err(BeginError::ReadOnly(read_only)),
            Access::Full | Access::Grace { .. } => Ok(tx),
        }
    }

    async fn begin_release(&self, scope: &WorkspaceScope) -> Result<MemoryTx, StoreError> {
        self.call("begin")?;
        Ok(self.begin_despite_read_only(scope).await)
    }
}

/// A transaction in one workspace.
#[derive(Debug)]
pub struct MemoryTx {
    store: MemoryStore,
    scope: WorkspaceScope,
    state: State,
    /// What an attempt that is undone goes back to.
    attempt: Option<(State, PendingMark)>,
    loses_exchange: bool,
    pending: Pending,
    _turn: OwnedMutexGuard<()>,
}

impl MemoryTx {
    fn rows(&self, operation: &'static str) -> Result<&Rows, StoreError> {
        let rows = self.state.workspaces.get(&self.scope.workspace());
        rows.map(Arc::as_ref)
            .ok_or(StoreError::Dangling { operation })
    }

    /// A call that reads.
    fn read(&self, operation: &'static str) -> Result<&Rows, StoreError> {
        self.store.call(operation)?;
        self.rows(operation)
    }

    /// A call that writes.
    fn write(&mut self, operation: &'static str) -> Result<&mut Rows, StoreError> {
        self.store.call(operation)?;
        self.rows_to_change(operation)
    }

    fn rows_to_change(&mut self, operation: &'static str) -> Result<&mut Rows, StoreError> {
        let rows = self.state.workspaces.get_mut(&self.scope.workspace());
        rows.map(Arc::make_mut)
            .ok_or(StoreError::Dangling { operation })
    }
}

/// The rows of an extension, as its ports in memory reach them. Each counts as a call that may fail.
impl MemoryTx {
    /// What the workspace keeps of this type.
    ///
    /// # Errors
    /// As the faults say.
    pub fn slot<T: Slot>(&self, operation: &'static str) -> Result<Arc<T>, StoreError> {
        Ok(self.read(operation)?.slots.get())
    }

    /// Changes what the workspace keeps of this type.
    ///
    /// # Errors
    /// As the faults say, or as the change does.
    pub fn change_slot<T: Slot, R>(
        &mut self,
        operation: &'static str,
        change: impl FnOnce(&mut T) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        self.write(operation)?.slots.change(change)
    }

    /// The clock, ids and randomness that the store works with.
    #[must_use]
    pub fn env(&self) -> &Env {
        self.store.env()
    }
}

impl Commit for MemoryTx {
    async fn commit(mut self) -> Result<(), StoreError> {
        self.write_pending()?;
        let fault = self.store.faults.strike();
        if fault != Some(Fault::Refused) {
            *self.store.state() = self.state;
        }
        match fault {
            None => Ok(()),
            Some(_) => Err(unavailable("commit", "a fault was asked for")),
        }
    }
}
