//! A database with a workspace in it, and clocks that a test moves.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta};
use rawdrive_identity::ports::{IdentityTx, NewWorkspace};
use rawdrive_identity::{Currency, WorkspaceName};
use rawdrive_plans::{Catalogue, PlansTx};
use rawdrive_store::{Release, Store, Url, WriteTx};
use rawdrive_tenancy_core::ambient::{ManualClock, SystemEntropy};
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::{Ambient, Commit, SystemReason, WorkspaceScope};
use tempfile::TempDir;

/// A store on a file that goes with it, and the scope of a workspace on the enterprise plan.
pub(crate) struct Stage {
    pub(crate) store: Store,
    pub(crate) scope: WorkspaceScope,
    lease_clock: Arc<ManualClock>,
    _directory: TempDir,
}

impl Stage {
    pub(crate) async fn set() -> Self {
        let start = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
        let lease_clock = Arc::new(ManualClock::at(start));
        let ambient = Ambient::new(
            Arc::new(ManualClock::at(start)),
            lease_clock.clone(),
            Arc::new(SystemEntropy),
        );
        let directory = tempfile::tempdir().unwrap();
        let url = Url::sqlite(directory.path().join("rawdrive.db"));
        let catalogue = Catalogue::built_in();
        let store = Store::open(&url, ambient.clone(), &catalogue)
            .await
            .unwrap();
        let scope = scope_of(ambient.id());
        let mut tx = store
            .begin_despite_read_only(&scope, Release::Identity)
            .await
            .unwrap();
        tx.insert_workspace(&NewWorkspace {
            name: WorkspaceName::parse("Studio").unwrap(),
            slug: "studio".to_owned(),
            billing_email: None,
            currency: Currency::parse("usd").unwrap(),
            created_at: start,
        })
        .await
        .unwrap();
        let plan = catalogue.newest(&"enterprise".parse().unwrap()).unwrap();
        tx.insert_standing(&plan).await.unwrap();
        tx.commit().await.unwrap();
        Self {
            store,
            scope,
            lease_clock,
            _directory: directory,
        }
    }

    pub(crate) async fn begin(&self) -> WriteTx {
        self.store.begin(&self.scope).await.unwrap()
    }

    /// Lets real time pass: that of leases and holds.
    pub(crate) fn pass(&self, seconds: i64) {
        self.lease_clock.advance(TimeDelta::seconds(seconds));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the tests act in workspaces that have no members"
)]
fn scope_of(workspace: WorkspaceId) -> WorkspaceScope {
    WorkspaceScope::for_system(workspace, SystemReason::Job)
}
