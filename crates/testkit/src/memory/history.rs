//! The ledger's sums, seals, the ids of events, and reading them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rawdrive_plans::Metric;
use rawdrive_tenancy_core::audit::Hash;
use rawdrive_tenancy_core::page::{Page, PageRequest, Position};
use rawdrive_tenancy_core::{StoreError, WorkspaceScope};
use rawdrive_usage::{
    IngestTx, LedgerEntry, LedgerHead, LineFilter, Month, MonthSums, SealTx, UsageRead,
};

use super::{MemoryStore, MemoryTx, Rows};

impl SealTx for MemoryTx {
    async fn seal_ledger(&mut self, until: DateTime<Utc>) -> Result<(), StoreError> {
        let head = &mut self.write("seal the ledger")?.ledger_head;
        head.not_before = head.not_before.max(Some(until));
        Ok(())
    }
}

impl IngestTx for MemoryTx {
    async fn claim_events(&mut self, ids: &BTreeSet<&str>) -> Result<HashSet<String>, StoreError> {
        let rows = self.write("claim events")?;
        let free = ids
            .iter()
            .filter(|id| rows.event_ids.insert((**id).to_owned()));
        Ok(free.map(|id| (*id).to_owned()).collect())
    }

    async fn give_back_events(&mut self, ids: &HashSet<String>) -> Result<(), StoreError> {
        let rows = self.write("give back events")?;
        rows.event_ids.retain(|id| !ids.contains(id));
        Ok(())
    }
}

/// Reads a workspace as it is committed.
#[derive(Debug, Clone)]
pub struct MemoryReader {
    pub(super) store: MemoryStore,
    pub(super) scope: WorkspaceScope,
}

impl MemoryReader {
    fn rows(&self, operation: &'static str) -> Result<Arc<Rows>, StoreError> {
        self.store.call(operation)?;
        let rows = self
            .store
            .state()
            .workspaces
            .get(&self.scope.workspace())
            .cloned();
        rows.ok_or(StoreError::Dangling { operation })
    }
}

impl UsageRead for MemoryReader {
    async fn total_before(
        &self,
        metric: &Metric,
        before: DateTime<Utc>,
    ) -> Result<i64, StoreError> {
        let rows = self.rows("read sums")?;
        let hours = rows.rollups.hours.iter();
        Ok(hours
            .filter(|((of, hour), _)| of == metric && *hour < before)
            .map(|(_, quantity)| quantity)
            .sum())
    }

    async fn hours(
        &self,
        metric: &Metric,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Vec<(DateTime<Utc>, i64)>, StoreError> {
        let rows = self.rows("read sums")?;
        let hours = rows.rollups.hours.iter();
        Ok(hours
            .filter(|((of, hour), _)| of == metric && (from..to).contains(hour))
            .map(|((_, hour), quantity)| (*hour, *quantity))
            .collect())
    }

    async fn months(&self) -> Result<Vec<(Month, Metric, MonthSums)>, StoreError> {
        let rows = self.rows("read sums")?;
        let months = rows.rollups.months.iter();
        Ok(months
            .map(|((month, metric), sums)| (*month, metric.clone(), *sums))
            .collect())
    }

    async fn ledger_head(&self) -> Result<LedgerHead, StoreError> {
        Ok(self.rows("read the ledger's head")?.ledger_head)
    }

    async fn line_hashes(&self, seqs: &[u64]) -> Result<HashMap<u64, Hash>, StoreError> {
        let rows = self.rows("read the ledger")?;
        let lines = rows.ledger.iter();
        Ok(lines
            .filter(|line| seqs.contains(&line.seq))
            .map(|line| (line.seq, line.hash))
            .collect())
    }

    async fn lines(
        &self,
        after: u64,
        until: u64,
        limit: u32,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        let rows = self.rows("read the ledger")?;
        let lines = rows
            .ledger
            .iter()
            .filter(|line| after < line.seq && line.seq <= until);
        Ok(lines.take(limit as usize).cloned().collect())
    }

    async fn find_lines(
        &self,
        filter: &LineFilter,
        request: PageRequest,
    ) -> Result<Page<LedgerEntry>, StoreError> {
        let rows = self.rows("read the ledger")?;
        let before = match request.after {
            Some(Position::Seq(seq)) => seq,
            _ => u64::MAX,
        };
        let passes = |line: &&LedgerEntry| {
            line.seq < before
                && filter.metric.as_ref().is_none_or(|m| line.key.metric == *m)
                && filter.kind.is_none_or(|kind| line.kind == kind)
                && filter.from.is_none_or(|from| from <= line.occurred_at)
                && filter.to.is_none_or(|to| line.occurred_at < to)
        };
        let found = rows.ledger.iter().rev().filter(passes);
        let found = found
            .take(usize::from(request.limit) + 1)
            .cloned()
            .collect();
        Ok(Page::cut(found, request.limit, |line| {
            Position::Seq(line.seq)
        }))
    }
}
