//! Reported events: their ids, and several reporters in one transaction.

use std::collections::{BTreeSet, HashSet};

use rawdrive_tenancy_core::id::TypedId;
use rawdrive_tenancy_core::{StoreError, WorkspaceScope};
use rawdrive_usage::IngestTx;
use sea_orm::Value;

use crate::history::rows_of;
use crate::scope::{column, execute, query};
use crate::store::WriteTx;

const ROWS: usize = 500;

impl IngestTx for WriteTx {
    async fn claim_events(&mut self, ids: &BTreeSet<&str>) -> Result<HashSet<String>, StoreError> {
        let mut free = HashSet::with_capacity(ids.len());
        // In their order: two transactions that claim the same ids wait for each other one way round.
        let ids: Vec<_> = ids.iter().copied().collect();
        let now = self.env().now();
        for chunk in ids.chunks(ROWS) {
            let sql = format!(
                "INSERT INTO usage_event_ids (workspace_id, event_id, claimed_at) VALUES {}
                 ON CONFLICT (workspace_id, event_id) DO NOTHING RETURNING event_id",
                rows_of(chunk.len(), 2)
            );
            let rows = chunk.iter().flat_map(|id| [(*id).into(), now.into()]);
            let values = std::iter::once(self.scope.workspace().uuid().into()).chain(rows);
            for row in query(&self.tx, "claim events", &sql, values).await? {
                free.insert(column(&row, "event_id")?);
            }
        }
        Ok(free)
    }

    async fn give_back_events(&mut self, ids: &HashSet<String>) -> Result<(), StoreError> {
        let ids: Vec<_> = ids.iter().collect();
        for chunk in ids.chunks(ROWS) {
            let places = (0..chunk.len()).map(|n| format!("${}", n + 2));
            let sql = format!(
                "DELETE FROM usage_event_ids WHERE workspace_id = $1 AND event_id IN ({})",
                places.collect::<Vec<_>>().join(", ")
            );
            let workspace: Value = self.scope.workspace().uuid().into();
            let ids = chunk.iter().map(|id| Value::from(id.as_str()));
            let values = std::iter::once(workspace).chain(ids);
            execute(&self.tx, "give back events", &sql, values).await?;
        }
        Ok(())
    }
}

impl WriteTx {
    /// Goes on in the name of another actor of the same workspace: several requests may share one
    /// transaction, and each line names its own.
    ///
    /// # Errors
    /// The scope is another workspace's ([`StoreError::Dangling`]).
    pub fn continue_as(&mut self, scope: &WorkspaceScope) -> Result<(), StoreError> {
        if scope.workspace() != self.scope.workspace() {
            return Err(StoreError::Dangling {
                operation: "continue in another workspace",
            });
        }
        self.scope = *scope;
        Ok(())
    }
}
