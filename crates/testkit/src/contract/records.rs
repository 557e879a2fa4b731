//! Ledger, jobs, events, audit chain and overrides.

#![expect(
    clippy::unwrap_used,
    reason = "each function is a test, and a failing store is its failure"
)]

use chrono::TimeDelta;
use rawdrive_plans::{Limit, PlansTx, ReviewThresholds};
use rawdrive_tenancy_core::Commit;
use rawdrive_tenancy_core::audit::{AuditTx, Change, verify};
use rawdrive_tenancy_core::event::{DeliverEvent, DomainEvent, EventsTx};
use rawdrive_tenancy_core::job::{Job, JobsTx};
use rawdrive_usage::{LedgerLine, UsageTx};
use serde_json::json;

use super::{Stage, Subject, begin, bytes};
use crate::product;

/// 1, 2, 3 … in the order of commits, in each workspace; what is rolled back takes no number.
pub async fn ledger_lines_are_numbered_without_gaps<S: Subject>(stage: &Stage<S>) {
    let lines = |quantities: &[i64]| -> Vec<_> {
        let line = |quantity: &i64| {
            let now = stage.env().now();
            LedgerLine::usage(bytes(0).key, *quantity, "pho".to_owned(), now)
        };
        quantities.iter().map(line).collect()
    };
    for (quantities, stands) in [
        (&[1, 2][..], true),
        (&[30], false),
        (&[], true),
        (&[-3, 4], true),
    ] {
        let mut tx = stage.begin().await;
        for line in lines(quantities) {
            tx.add_line(line);
        }
        if stands {
            tx.commit().await.unwrap();
        }
        stage.test_env.advance(TimeDelta::seconds(1));
    }
    let mut tx = begin(&stage.store, &stage.other).await;
    for line in lines(&[9]) {
        tx.add_line(line);
    }
    tx.commit().await.unwrap();

    let ledger = stage.store.ledger(&stage.scope).await;
    let numbered: Vec<_> = ledger.iter().map(|l| (l.seq, l.quantity)).collect();
    assert_eq!(numbered, [(1, 1), (2, 2), (3, -3), (4, 4)]);
    assert_eq!(
        ledger[3].occurred_at,
        ledger[0].occurred_at + TimeDelta::seconds(3)
    );
    assert!(
        ledger
            .iter()
            .all(|l| l.actor == stage.scope.actor().to_string())
    );
    assert!(
        ledger
            .iter()
            .all(|l| l.key.metric == product::BYTES && l.subject == "pho")
    );
    assert_eq!(stage.store.ledger(&stage.other).await[0].seq, 1);
}

/// A job without a time is due at once, another when its time has come, not earlier.
pub async fn jobs_become_due<S: Subject>(stage: &Stage<S>) {
    let tomorrows = Job::of(&ReviewThresholds {}).unwrap();
    let at_once = Job::named("at_once", &json!({ "n": 1 })).unwrap();
    let mut tx = stage.begin().await;
    tx.enqueue_job(at_once.clone(), None);
    let tomorrow = stage.env().now() + TimeDelta::days(1);
    tx.enqueue_job(tomorrows.clone(), Some(tomorrow));
    tx.commit().await.unwrap();
    assert_eq!(
        stage.store.due_jobs(&stage.scope).await,
        std::slice::from_ref(&at_once)
    );
    stage
        .test_env
        .advance(TimeDelta::days(1) - TimeDelta::seconds(1));
    assert_eq!(stage.store.due_jobs(&stage.scope).await.len(), 1);
    stage.test_env.advance(TimeDelta::seconds(1));
    let due = stage.store.due_jobs(&stage.scope).await;
    assert!(due.contains(&at_once) && due.contains(&tomorrows));
}

/// An event is told by a job of its own, with all that it says.
pub async fn events_are_delivered_by_jobs<S: Subject>(stage: &Stage<S>) {
    let event = DomainEvent {
        kind: "gallery.delivered".to_owned(),
        subject: "gal_1".to_owned(),
        facts: json!({ "photos": 3 }),
    };
    let mut tx = stage.begin().await;
    tx.emit(event.clone());
    tx.commit().await.unwrap();
    let due = stage.store.due_jobs(&stage.scope).await;
    assert_eq!(due, [Job::of(&DeliverEvent { event }).unwrap()]);
}

/// Entries are chained in the order of commits, and a rolled-back one is not missed.
pub async fn the_audit_chain_verifies<S: Subject>(stage: &Stage<S>) {
    for (n, stands) in [(1, true), (2, false), (3, true), (4, true)] {
        let change = Change {
            action: "plan.changed",
            subject: n.to_string(),
            before: json!(n),
            after: json!({ "name": "Zoë" }),
        };
        let mut tx = stage.begin().await;
        tx.record(change);
        if stands {
            tx.commit().await.unwrap();
        }
    }
    let (chain, head) = stage.store.audit(&stage.scope).await;
    assert_eq!(verify(&chain, head), Ok(()));
    let subjects: Vec<_> = chain.iter().map(|e| e.subject.as_str()).collect();
    assert_eq!(subjects, ["1", "3", "4"]);
    let actor = stage.scope.actor().to_string();
    assert!(
        chain
            .iter()
            .all(|e| e.actor == actor && e.action == "plan.changed")
    );
    assert!(chain.iter().all(|e| e.payload.is_some()));
    assert_eq!(
        stage.store.audit(&stage.other).await,
        (Vec::new(), (0, [0; 32]))
    );
}

/// Overrides are read in the order in which they were made, in the transaction that makes them too.
pub async fn a_later_override_stands_above<S: Subject>(stage: &Stage<S>) {
    let metric = || product::BYTES;
    for bound in [7, 5] {
        stage.limit(metric(), Limit::AtMost(bound)).await;
        stage.test_env.advance(TimeDelta::seconds(1));
    }
    let mut tx = stage.begin().await;
    let now = stage.env().now();
    let entitlements = tx.entitlements().await.unwrap();
    assert_eq!(entitlements.limit(&metric(), now).value, Limit::AtMost(5));
    assert_eq!(entitlements.workspace, stage.scope.workspace());
    drop(tx);
    let mut tx = begin(&stage.store, &stage.other).await;
    let entitlements = tx.entitlements().await.unwrap();
    assert_eq!(entitlements.limit(&metric(), now).value, Limit::Unlimited);
}
