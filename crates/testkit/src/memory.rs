//! The ports in memory: a transaction works on a copy, a commit puts it back, a drop forgets it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use rawdrive_gallery::{
    Branding, Gallery, GalleryTx, Library, LibraryDeletion, Photo, UploadStore,
};
use rawdrive_plans::{
    Access, BeginError, Decision, Limit, Override, Plan, PlansTx, ReadOnly, Standing, decide,
};
use rawdrive_tenancy_core::audit::{AuditTx, Change, Entry, GENESIS, Payload, chain_hash};
use rawdrive_tenancy_core::event::{DomainEvent, EventsTx};
use rawdrive_tenancy_core::id::{GalleryId, HoldId, LibraryId, PhotoId, WorkspaceId};
use rawdrive_tenancy_core::job::{JobsTx, Work};
use rawdrive_tenancy_core::{Ambient, Commit, StoreError, WorkspaceScope};
use rawdrive_usage::{
    Charge, Edges, Hold, HoldState, LedgerEntry, LedgerLine, QuotaKey, QuotaRow, UsageTx,
};
use tokio::sync::OwnedMutexGuard;

use crate::build::scope;
use crate::fault::{Fault, Faults, unavailable};

/// A hold and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldRow {
    /// Its id and amounts.
    pub hold: Hold,
    /// Held, or how it ended.
    pub state: HoldState,
    /// When it ends by itself.
    pub expires_at: DateTime<Utc>,
}

/// Everything that one workspace holds.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Plan, overrides and access.
    pub standing: Standing,
    /// The counters that were ever taken from.
    pub quotas: BTreeMap<QuotaKey, QuotaRow>,
    /// Holds, ended ones too.
    pub holds: BTreeMap<HoldId, HoldRow>,
    /// Threshold episodes that are open.
    pub episodes: Vec<(QuotaKey, u8)>,
    /// The ledger, oldest line first.
    pub ledger: Vec<(QuotaKey, LedgerEntry)>,
    /// The audit chain, oldest entry first.
    pub audit: Vec<Entry>,
    /// Jobs with the time at which they become due, in the order in which they were enqueued.
    pub jobs: Vec<(Work, Option<DateTime<Utc>>)>,
    /// Libraries.
    pub libraries: BTreeMap<LibraryId, Library>,
    /// Galleries, deleted ones too.
    pub galleries: BTreeMap<GalleryId, Gallery>,
    /// Photos.
    pub photos: BTreeMap<PhotoId, Photo>,
    /// The branding, if it was ever saved.
    pub branding: Option<Branding>,
}

impl Rows {
    /// In which counters usage is not the ledger's sum, or reserved not the sum of what is held.
    #[must_use]
    pub fn discrepancies(&self) -> Vec<String> {
        let mut sums: BTreeMap<&QuotaKey, (i64, u64)> = BTreeMap::new();
        for (key, line) in &self.ledger {
            sums.entry(key).or_default().0 += line.quantity;
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
        found
    }
}

type State = BTreeMap<WorkspaceId, Arc<Rows>>;

/// A store in memory. Cheap to clone; all clones are the one store.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    ambient: Ambient,
    /// Who holds it writes: one at a time, in the order of asking.
    turn: Arc<tokio::sync::Mutex<()>>,
    committed: Arc<Mutex<State>>,
    faults: Faults,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(ambient: Ambient) -> Self {
        Self {
            ambient,
            turn: Arc::default(),
            committed: Arc::default(),
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

    /// Makes a workspace on a plan.
    ///
    /// # Errors
    /// As the faults say.
    pub async fn workspace(&self, plan: &Plan) -> Result<WorkspaceScope, StoreError> {
        let scope = scope(self.ambient.id());
        let mut tx = self.begin_despite_read_only(&scope).await;
        tx.insert_standing(plan).await?;
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
            _turn: turn,
        }
    }

    /// What is committed of a workspace.
    ///
    /// # Panics
    /// There is no such workspace.
    #[must_use]
    pub fn rows(&self, scope: &WorkspaceScope) -> Arc<Rows> {
        let rows = self.state().get(&scope.workspace()).cloned();
        rows.expect("the workspace was made")
    }

    /// Lets a workspace take no writes, or take them again: what billing does.
    pub async fn set_read_only(&self, scope: &WorkspaceScope, read_only: Option<ReadOnly>) {
        let _turn = self.turn.lock().await;
        if let Some(rows) = self.state().get_mut(&scope.workspace()) {
            Arc::make_mut(rows).standing.read_only = read_only;
        }
    }

    /// The surroundings that the store works in.
    #[must_use]
    pub fn ambient(&self) -> &Ambient {
        &self.ambient
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.committed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, operation: &'static str) -> Result<(), StoreError> {
        match self.faults.strike() {
            None => Ok(()),
            Some(_) => Err(unavailable(operation, "a fault was asked for")),
        }
    }
}

impl UploadStore for MemoryStore {
    type Tx = MemoryTx;

    async fn begin(&self, scope: &WorkspaceScope) -> Result<MemoryTx, BeginError> {
        self.call("begin")?;
        let tx = self.begin_despite_read_only(scope).await;
        match tx.rows("begin")?.standing.access(self.ambient.now()) {
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
    _turn: OwnedMutexGuard<()>,
}

impl MemoryTx {
    fn rows(&self, operation: &'static str) -> Result<&Rows, StoreError> {
        let rows = self.state.get(&self.scope.workspace());
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
        let rows = self.state.get_mut(&self.scope.workspace());
        rows.map(Arc::make_mut)
            .ok_or(StoreError::Dangling { operation })
    }
}

impl Commit for MemoryTx {
    async fn commit(self) -> Result<(), StoreError> {
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

impl PlansTx for MemoryTx {
    async fn standing(&mut self) -> Result<Arc<Standing>, StoreError> {
        Ok(Arc::new(self.read("read the standing")?.standing.clone()))
    }

    async fn insert_standing(&mut self, plan: &Plan) -> Result<(), StoreError> {
        const OPERATION: &str = "insert the standing";
        self.store.call(OPERATION)?;
        let workspace = self.scope.workspace();
        let rows = Rows {
            standing: Standing {
                workspace,
                plan: Arc::new(plan.clone()),
                overrides: Vec::new(),
                billing_anchor: None,
                grace_until: None,
                read_only: None,
            },
            quotas: BTreeMap::new(),
            holds: BTreeMap::new(),
            episodes: Vec::new(),
            ledger: Vec::new(),
            audit: Vec::new(),
            jobs: Vec::new(),
            libraries: BTreeMap::new(),
            galleries: BTreeMap::new(),
            photos: BTreeMap::new(),
            branding: None,
        };
        match self.state.insert(workspace, Arc::new(rows)) {
            None => Ok(()),
            Some(_) => Err(StoreError::Taken {
                operation: OPERATION,
            }),
        }
    }

    async fn move_to_plan(&mut self, plan: &Plan) -> Result<(), StoreError> {
        self.write("move to a plan")?.standing.plan = Arc::new(plan.clone());
        Ok(())
    }

    async fn add_override(&mut self, new: &Override) -> Result<(), StoreError> {
        let rows = self.write("add an override")?;
        rows.standing.overrides.push(new.clone());
        Ok(())
    }
}

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

    async fn quotas(&mut self) -> Result<Vec<(QuotaKey, QuotaRow)>, StoreError> {
        let rows = self.read("read quotas")?;
        Ok(rows.quotas.iter().map(|(k, r)| (k.clone(), *r)).collect())
    }

    async fn insert_hold(
        &mut self,
        hold: &Hold,
        expires_at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        const OPERATION: &str = "insert a hold";
        let row = HoldRow {
            hold: hold.clone(),
            state: HoldState::Held,
            expires_at,
        };
        match self.write(OPERATION)?.holds.insert(hold.id, row) {
            None => Ok(()),
            Some(_) => Err(StoreError::Taken {
                operation: OPERATION,
            }),
        }
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

    async fn append(&mut self, lines: &[LedgerLine]) -> Result<(), StoreError> {
        let actor = self.scope.actor().to_string();
        let ledger = &mut self.write("append to the ledger")?.ledger;
        for line in lines {
            let entry = LedgerEntry {
                seq: ledger.len() as u64 + 1,
                metric: line.key.metric.clone(),
                quantity: line.quantity,
                occurred_at: line.occurred_at,
                subject: line.subject.clone(),
                actor: actor.clone(),
            };
            ledger.push((line.key.clone(), entry));
        }
        Ok(())
    }

    async fn mark_thresholds(&mut self, key: &QuotaKey, edges: &Edges) -> Result<(), StoreError> {
        const OPERATION: &str = "mark thresholds";
        let rows = self.write(OPERATION)?;
        if let Some(row) = rows.quotas.get_mut(key) {
            row.fired = edges.fired;
        }
        rows.episodes
            .retain(|(of, threshold)| of != key || !edges.rearm.contains(threshold));
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

fn held_row(rows: &mut Rows, id: HoldId) -> Option<&mut HoldRow> {
    let row = rows.holds.get_mut(&id)?;
    (row.state == HoldState::Held).then_some(row)
}

impl GalleryTx for MemoryTx {
    async fn insert_library(&mut self, library: &Library) -> Result<(), StoreError> {
        const OPERATION: &str = "insert a library";
        insert(
            &mut self.write(OPERATION)?.libraries,
            library.id,
            library,
            OPERATION,
        )
    }

    async fn library(&mut self, id: LibraryId) -> Result<Option<Library>, StoreError> {
        Ok(self.read("read a library")?.libraries.get(&id).cloned())
    }

    async fn update_library(&mut self, library: &Library) -> Result<(), StoreError> {
        let rows = self.write("update a library")?;
        if let Some(row) = rows.libraries.get_mut(&library.id) {
            // When it was made never changes.
            *row = Library {
                created_at: row.created_at,
                ..library.clone()
            };
        }
        Ok(())
    }

    async fn delete_library(&mut self, id: LibraryId) -> Result<LibraryDeletion, StoreError> {
        let rows = self.write("delete a library")?;
        if rows.galleries.values().any(|g| g.library == id) {
            return Ok(LibraryDeletion::NotEmpty);
        }
        Ok(match rows.libraries.remove(&id) {
            Some(_) => LibraryDeletion::Deleted,
            None => LibraryDeletion::Missing,
        })
    }

    async fn insert_gallery(&mut self, gallery: &Gallery) -> Result<(), StoreError> {
        const OPERATION: &str = "insert a gallery";
        let rows = self.write(OPERATION)?;
        if !rows.libraries.contains_key(&gallery.library) {
            return Err(StoreError::Dangling {
                operation: OPERATION,
            });
        }
        insert(&mut rows.galleries, gallery.id, gallery, OPERATION)
    }

    async fn gallery(&mut self, id: GalleryId) -> Result<Option<Gallery>, StoreError> {
        Ok(self.read("read a gallery")?.galleries.get(&id).cloned())
    }

    async fn update_gallery(&mut self, gallery: &Gallery) -> Result<(), StoreError> {
        const OPERATION: &str = "update a gallery";
        let rows = self.write(OPERATION)?;
        let Some(row) = rows.galleries.get_mut(&gallery.id) else {
            return Ok(());
        };
        if !rows.libraries.contains_key(&gallery.library) {
            return Err(StoreError::Dangling {
                operation: OPERATION,
            });
        }
        *row = Gallery {
            created_at: row.created_at,
            ..gallery.clone()
        };
        Ok(())
    }

    async fn delete_gallery(&mut self, id: GalleryId) -> Result<bool, StoreError> {
        const OPERATION: &str = "delete a gallery";
        let rows = self.write(OPERATION)?;
        if rows.photos.values().any(|p| p.gallery == id) {
            return Err(StoreError::Dangling {
                operation: OPERATION,
            });
        }
        Ok(rows.galleries.remove(&id).is_some())
    }

    async fn insert_photo(&mut self, photo: &Photo) -> Result<(), StoreError> {
        const OPERATION: &str = "insert a photo";
        let rows = self.write(OPERATION)?;
        if !rows.galleries.contains_key(&photo.gallery) {
            return Err(StoreError::Dangling {
                operation: OPERATION,
            });
        }
        insert(&mut rows.photos, photo.id, photo, OPERATION)
    }

    async fn photo(&mut self, id: PhotoId) -> Result<Option<Photo>, StoreError> {
        Ok(self.read("read a photo")?.photos.get(&id).cloned())
    }

    async fn delete_photo(&mut self, id: PhotoId) -> Result<bool, StoreError> {
        let rows = self.write("delete a photo")?;
        forget_logo(rows, |logo| logo == id);
        Ok(rows.photos.remove(&id).is_some())
    }

    async fn take_photos_of(
        &mut self,
        gallery: GalleryId,
    ) -> Result<Vec<(PhotoId, u64)>, StoreError> {
        let rows = self.write("delete a gallery's photos")?;
        let inside = rows.photos.values().filter(|p| p.gallery == gallery);
        let taken: Vec<_> = inside.map(|p| (p.id, p.size_bytes)).collect();
        forget_logo(rows, |logo| taken.iter().any(|(id, _)| *id == logo));
        rows.photos.retain(|_, photo| photo.gallery != gallery);
        Ok(taken)
    }

    async fn branding(&mut self) -> Result<Option<Branding>, StoreError> {
        Ok(self.read("read the branding")?.branding.clone())
    }

    async fn put_branding(&mut self, branding: &Branding) -> Result<(), StoreError> {
        self.write("save the branding")?.branding = Some(branding.clone());
        Ok(())
    }
}

fn insert<K: Ord, V: Clone>(
    rows: &mut BTreeMap<K, V>,
    id: K,
    row: &V,
    operation: &'static str,
) -> Result<(), StoreError> {
    match rows.insert(id, row.clone()) {
        None => Ok(()),
        Some(_) => Err(StoreError::Taken { operation }),
    }
}

fn forget_logo(rows: &mut Rows, gone: impl Fn(PhotoId) -> bool) {
    if let Some(branding) = &mut rows.branding {
        branding.logo_photo = branding.logo_photo.filter(|logo| !gone(*logo));
    }
}

impl JobsTx for MemoryTx {
    async fn enqueue(&mut self, work: Work, due: Option<DateTime<Utc>>) -> Result<(), StoreError> {
        self.write("enqueue a job")?.jobs.push((work, due));
        Ok(())
    }
}

impl EventsTx for MemoryTx {
    async fn emit(&mut self, event: DomainEvent) -> Result<(), StoreError> {
        self.enqueue(Work::DeliverEvent { event }, None).await
    }
}

impl AuditTx for MemoryTx {
    async fn record(&mut self, change: Change) -> Result<(), StoreError> {
        let payload = Payload::of(&change, self.store.ambient.bytes());
        let (at, actor) = (self.store.ambient.now(), self.scope.actor().to_string());
        let chain = &mut self.write("append to the audit chain")?.audit;
        let previous = chain.last().map_or(GENESIS, |entry| entry.hash);
        let mut entry = Entry {
            seq: chain.len() as u64 + 1,
            at,
            actor,
            action: change.action.to_owned(),
            subject: change.subject,
            payload_hash: payload.hash(),
            hash: GENESIS,
            payload: Some(payload),
        };
        entry.hash = chain_hash(&previous, &entry);
        chain.push(entry);
        Ok(())
    }
}
