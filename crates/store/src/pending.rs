//! What a transaction has collected, written at its commit in the order of locks: the feed of events, jobs, the audit chain,
//! the ledger.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use rawdrive_tenancy_core::audit::{AuditTx, Change, Entry, GENESIS, Payload, chain_hash};
use rawdrive_tenancy_core::event::{DeliverEvent, DomainEvent, EventsTx};
use rawdrive_tenancy_core::id::TypedId;
use rawdrive_tenancy_core::job::{Job, JobsTx};
use rawdrive_tenancy_core::{Actor, StoreError};
use sea_orm::Set;
use serde_json::{Value, json};

use crate::entity::{audit_entries, audit_payloads, jobs};
use crate::scope::{Tenant, corrupt, execute, failed};
use crate::store::WriteTx;

/// So many rows an INSERT has at most: the databases bound a statement's parameters.
const ROWS: usize = 500;

impl JobsTx for WriteTx {
    fn enqueue_job(&mut self, job: Job, due: Option<DateTime<Utc>>) {
        self.pending.jobs.push((job, due));
    }
}

impl EventsTx for WriteTx {
    fn emit(&mut self, event: DomainEvent) {
        // An event is an object: it makes a payload.
        if let Ok(job) = Job::of(&DeliverEvent { event }) {
            self.enqueue_job(job, None);
        }
    }
}

impl AuditTx for WriteTx {
    fn record(&mut self, change: Change) {
        self.pending.changes.push((self.scope.actor(), change));
    }
}

/// What the feed is to say: the events, and each audited change by its action, once: an event that is audited too says who
/// did it. What it was before and after is the audit trail's: events hold ids and facts.
fn happened(
    jobs: &[(Job, Option<DateTime<Utc>>)],
    changes: &[(Actor, Change)],
) -> Vec<DomainEvent> {
    let events = jobs
        .iter()
        .filter_map(|(job, _)| job.as_kind::<DeliverEvent>());
    let mut happened: Vec<_> = events.map(|told| told.event).collect();
    let events = happened.len();
    for (actor, change) in changes {
        let actor = Value::from(actor.to_string());
        let is_told = |event: &&mut DomainEvent| {
            event.kind == change.action
                && event.subject == change.subject
                && event.facts.is_object()
                && event.facts.get("actor").is_none()
        };
        if let Some(event) = happened[..events].iter_mut().find(is_told) {
            event.facts["actor"] = actor;
            continue;
        }
        happened.push(DomainEvent {
            kind: change.action.to_owned(),
            subject: change.subject.clone(),
            facts: json!({ "actor": actor }),
        });
    }
    happened
}

impl WriteTx {
    /// Writes what was collected. Nothing is collected afterwards.
    pub(crate) async fn write_pending(&mut self) -> Result<(), StoreError> {
        let mut pending = std::mem::take(&mut self.pending);
        let happened = happened(&pending.jobs, &pending.changes);
        let woken = self.write_events(happened).await?;
        pending
            .jobs
            .extend(woken.into_iter().map(|job| (job, None)));
        self.write_jobs(pending.jobs).await?;
        self.write_changes(pending.changes).await?;
        self.append_lines(&pending.lines).await
    }

    async fn write_jobs(
        &mut self,
        pending: Vec<(Job, Option<DateTime<Utc>>)>,
    ) -> Result<(), StoreError> {
        if pending.is_empty() {
            return Ok(());
        }
        let mut kinds = BTreeSet::new();
        let env = self.env();
        // Ready from now on: what waits is leased in the order in which it became ready, so that what is tried again
        // is not put off for ever by what is new.
        let ready = env.lease_now();
        let mut rows = Vec::with_capacity(pending.len());
        for (job, due) in pending {
            let work =
                serde_json::to_string(&job).map_err(|e| corrupt("jobs", "work", job.kind(), e))?;
            rows.push(jobs::ActiveModel {
                id: Set(env.uuid()),
                kind: Set(job.kind().to_owned()),
                work: Set(work),
                due_at: Set(due.unwrap_or(DateTime::UNIX_EPOCH)),
                retry_at: Set(DateTime::UNIX_EPOCH),
                leased_until: Set(ready),
                attempts: Set(0),
                created_at: Set(env.now()),
                ..Default::default()
            });
            kinds.insert(job.kind().to_owned());
        }
        for chunk in rows.chunks(ROWS) {
            let insert = jobs::Entity::scoped_insert(&self.scope, chunk.to_vec());
            insert
                .exec_without_returning(&self.tx)
                .await
                .map_err(failed("enqueue jobs"))?;
        }
        self.wakes_kinds.extend(kinds);
        Ok(())
    }

    async fn write_changes(&mut self, pending: Vec<(Actor, Change)>) -> Result<(), StoreError> {
        const ADVANCE: &str = "UPDATE audit_heads SET seq = $2, hash = $3 WHERE workspace_id = $1";
        const OPERATION: &str = "append to the audit chain";
        if pending.is_empty() {
            return Ok(());
        }
        let (mut seq, mut previous) = self.lock_audit_head().await?;
        let at = self.env().now();
        let (mut entries, mut payloads) = (Vec::new(), Vec::new());
        for (actor, change) in pending {
            let payload = Payload::of(&change, self.env().bytes());
            seq += 1;
            let mut entry = Entry {
                seq,
                at,
                actor: actor.to_string(),
                action: change.action.to_owned(),
                subject: change.subject,
                payload_hash: payload.hash(),
                hash: GENESIS,
                payload: None,
            };
            entry.hash = chain_hash(&previous, &entry);
            previous = entry.hash;
            entries.push(audit_entries::ActiveModel {
                seq: Set(seq.cast_signed()),
                at: Set(entry.at),
                actor: Set(entry.actor),
                action: Set(entry.action),
                subject: Set(entry.subject),
                payload_hash: Set(entry.payload_hash.to_vec()),
                hash: Set(entry.hash.to_vec()),
                ..Default::default()
            });
            payloads.push(audit_payloads::ActiveModel {
                seq: Set(seq.cast_signed()),
                salt: Set(payload.salt.to_vec()),
                payload: Set(payload.text),
                ..Default::default()
            });
        }
        for chunk in entries.chunks(ROWS) {
            let insert = audit_entries::Entity::scoped_insert(&self.scope, chunk.to_vec());
            let inserted = insert.exec_without_returning(&self.tx).await;
            inserted.map_err(failed(OPERATION))?;
        }
        for chunk in payloads.chunks(ROWS) {
            let insert = audit_payloads::Entity::scoped_insert(&self.scope, chunk.to_vec());
            let inserted = insert.exec_without_returning(&self.tx).await;
            inserted.map_err(failed(OPERATION))?;
        }
        let values = [
            self.scope.workspace().uuid().into(),
            seq.cast_signed().into(),
            previous.to_vec().into(),
        ];
        execute(&self.tx, "advance the audit head", ADVANCE, values).await?;
        Ok(())
    }
}
