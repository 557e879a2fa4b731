//! Plans, jobs, events and the audit chain.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rawdrive_plans::{Entitlements, Override, Plan, PlansTx, Schedule};
use rawdrive_tenancy_core::StoreError;
use rawdrive_tenancy_core::audit::{AuditTx, Change, Entry, GENESIS, Payload, chain_hash};
use rawdrive_tenancy_core::event::{DeliverEvent, DomainEvent, EventsTx};
use rawdrive_tenancy_core::job::{Job, JobsTx};
use rawdrive_usage::{LedgerHead, Rollups, extend_ledger};

use super::{BillingRows, MemoryTx, OnboardingRows, Rows};
use crate::slots::Slots;

impl PlansTx for MemoryTx {
    async fn entitlements(&mut self) -> Result<Arc<Entitlements>, StoreError> {
        let rows = self.read("read the standing")?;
        Ok(Arc::new(Entitlements {
            currency: rows.billing.currency.as_str().to_owned(),
            ..rows.entitlements.clone()
        }))
    }

    async fn insert_entitlements(&mut self, plan: &Plan) -> Result<(), StoreError> {
        const OPERATION: &str = "insert the standing";
        self.store.call(OPERATION)?;
        let workspace = self.scope.workspace();
        let rows = Rows {
            entitlements: Entitlements {
                workspace,
                plan: Arc::new(plan.clone()),
                overrides: Vec::new(),
                billing_anchor: None,
                grace_until: None,
                read_only: None,
                ends: None,
                metrics: Arc::clone(&self.state.billing.metrics),
                currency: String::new(),
                plans_today: Arc::default(),
            },
            quotas: BTreeMap::new(),
            holds: BTreeMap::new(),
            episodes: Vec::new(),
            ledger: Vec::new(),
            ledger_head: LedgerHead::default(),
            rollups: Rollups::default(),
            event_ids: BTreeSet::new(),
            audit: Vec::new(),
            jobs: Vec::new(),
            slots: Slots::default(),
            billing: BillingRows::default(),
            onboarding: OnboardingRows::default(),
        };
        self.publish(plan);
        match self.state.workspaces.insert(workspace, Arc::new(rows)) {
            None => Ok(()),
            Some(_) => Err(StoreError::Taken {
                operation: OPERATION,
            }),
        }
    }

    async fn move_to_plan(&mut self, plan: &Plan) -> Result<(), StoreError> {
        self.write("move to a plan")?.entitlements.plan = Arc::new(plan.clone());
        Ok(())
    }

    async fn schedule(&mut self, schedule: &Schedule) -> Result<(), StoreError> {
        let entitlements = &mut self.write("schedule access")?.entitlements;
        *entitlements = Entitlements {
            billing_anchor: schedule.billing_anchor,
            grace_until: schedule.grace_until,
            read_only: schedule.read_only.clone(),
            ends: schedule.ends.clone(),
            ..entitlements.clone()
        };
        Ok(())
    }

    async fn add_override(&mut self, new: &Override) -> Result<(), StoreError> {
        let rows = self.write("add an override")?;
        rows.entitlements.overrides.push(new.clone());
        Ok(())
    }
}

impl JobsTx for MemoryTx {
    fn enqueue_job(&mut self, job: Job, due: Option<DateTime<Utc>>) {
        self.pending.jobs.push((job, due));
    }
}

impl EventsTx for MemoryTx {
    fn emit(&mut self, event: DomainEvent) {
        // An event is an object.
        if let Ok(job) = Job::of(&DeliverEvent { event }) {
            self.enqueue_job(job, None);
        }
    }
}

impl AuditTx for MemoryTx {
    fn record(&mut self, change: Change) {
        self.pending.changes.push((self.scope.actor(), change));
    }
}

impl MemoryTx {
    /// Writes what the transaction has collected.
    pub(super) fn write_pending(&mut self) -> Result<(), StoreError> {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return Ok(());
        }
        let (env, workspace) = (self.store.env.clone(), self.scope.workspace());
        let now = env.now();
        let rows = self.rows_to_change("write what was collected")?;
        rows.jobs.extend(pending.jobs);
        for (actor, change) in pending.changes {
            let payload = Payload::of(&change, env.bytes());
            let previous = rows.audit.last().map_or(GENESIS, |entry| entry.hash);
            let mut entry = Entry {
                seq: rows.audit.len() as u64 + 1,
                at: now,
                actor: actor.to_string(),
                action: change.action.to_owned(),
                subject: change.subject,
                payload_hash: payload.hash(),
                hash: GENESIS,
                payload: Some(payload),
            };
            entry.hash = chain_hash(&previous, &entry);
            rows.audit.push(entry);
        }
        let (entries, head) = extend_ledger(rows.ledger_head, workspace, now, &pending.lines);
        rows.rollups.merge(&Rollups::of(&entries));
        rows.ledger_head = head;
        rows.ledger.extend(entries);
        Ok(())
    }
}
