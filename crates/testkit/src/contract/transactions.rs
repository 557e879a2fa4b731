//! What stands, and who sees it.

#![expect(
    clippy::unwrap_used,
    reason = "each function is a test, and a failing store is its failure"
)]

use chrono::TimeDelta;
use rawdrive_plans::{Limit, Override, PlansTx, ReviewThresholds, Setting};
use rawdrive_tenancy_core::Commit;
use rawdrive_tenancy_core::audit::{AuditTx, Change};
use rawdrive_tenancy_core::id::HoldId;
use rawdrive_tenancy_core::job::{Job, JobsTx};
use rawdrive_usage::{HoldPurpose, HoldState, QuotaKey, QuotaRow, UsageTx, add, hold};
use serde_json::Value;
use uuid::Uuid;

use super::{Stage, Subject, begin, bytes};
use crate::product;

struct Written {
    note: Uuid,
    hold: HoldId,
}

const TEXT: &str = "mine";

/// One row of everything, not yet committed.
async fn write<S: Subject>(stage: &Stage<S>, tx: &mut S::Tx) -> Written {
    let env = stage.env();
    let written = Written {
        note: env.uuid(),
        hold: env.id(),
    };
    hold(
        tx,
        env,
        written.hold,
        HoldPurpose::new("upload"),
        vec![bytes(3)],
    )
    .await
    .unwrap();
    add(tx, env, bytes(5), written.note.to_string())
        .await
        .unwrap();
    S::insert_note(tx, written.note, TEXT).await.unwrap();
    tx.enqueue(&ReviewThresholds {}, None).unwrap();
    tx.add_override(&Override {
        id: env.id(),
        setting: Setting::Limit(product::BYTES, Limit::AtMost(100)),
        reason: "test".to_owned(),
        until: None,
    })
    .await
    .unwrap();
    let change = Change {
        action: "notes.changed",
        subject: "ws".to_owned(),
        before: Value::Null,
        after: Value::Null,
    };
    tx.record(change);
    written
}

/// Sees nothing of what was written, by a handle of a workspace that it is not in.
async fn sees_nothing<S: Subject>(stage: &Stage<S>, mut tx: S::Tx, written: &Written) {
    let key = bytes(0).key;
    assert_eq!(tx.quota(&key).await.unwrap(), QuotaRow::default());
    assert_eq!(tx.quotas().await.unwrap(), []);
    assert_eq!(tx.held(written.hold).await.unwrap(), None);
    let much_later = stage.env().lease_now() + TimeDelta::days(1);
    assert_eq!(tx.overdue(much_later).await.unwrap(), []);
    assert_eq!(S::note(&mut tx, written.note).await.unwrap(), None);
    let entitlements = tx.entitlements().await.unwrap();
    assert!(entitlements.overrides.is_empty());
}

async fn recorded_nothing<S: Subject>(
    stage: &Stage<S>,
    scope: &rawdrive_tenancy_core::WorkspaceScope,
) {
    assert_eq!(stage.store.ledger(scope).await, []);
    assert_eq!(stage.store.audit(scope).await, (Vec::new(), (0, [0; 32])));
    assert_eq!(stage.store.due_jobs(scope).await, []);
}

/// A transaction that is dropped leaves no trace of any kind.
pub async fn what_is_dropped_never_was<S: Subject>(stage: &Stage<S>) {
    let mut tx = stage.begin().await;
    let written = write(stage, &mut tx).await;
    drop(tx);
    sees_nothing(stage, stage.begin().await, &written).await;
    recorded_nothing(stage, &stage.scope).await;
}

/// What one workspace commits another does not see, count or record.
pub async fn workspaces_do_not_see_each_others_rows<S: Subject>(stage: &Stage<S>) {
    let mut tx = stage.begin().await;
    let written = write(stage, &mut tx).await;
    tx.commit().await.unwrap();
    let theirs = begin(&stage.store, &stage.other).await;
    sees_nothing(stage, theirs, &written).await;
    recorded_nothing(stage, &stage.other).await;

    let mut tx = stage.begin().await;
    let note = S::note(&mut tx, written.note).await.unwrap();
    assert_eq!(note.as_deref(), Some(TEXT));
    assert!(tx.held(written.hold).await.unwrap().is_some());
    let row = tx.quota(&bytes(0).key).await.unwrap();
    assert_eq!((row.used, row.reserved), (5, 3));
    drop(tx);
    assert_eq!(stage.store.ledger(&stage.scope).await.len(), 1);
    assert_eq!(stage.store.audit(&stage.scope).await.0.len(), 1);
    assert_eq!(
        stage.store.due_jobs(&stage.scope).await,
        [Job::of(&ReviewThresholds {}).unwrap()]
    );
}

/// A name taken in one workspace says nothing in another.
pub async fn one_id_may_stand_in_two_workspaces<S: Subject>(stage: &Stage<S>) {
    let note = stage.env().uuid();
    let id: HoldId = stage.id();
    for scope in [&stage.scope, &stage.other] {
        let mut tx = begin(&stage.store, scope).await;
        S::insert_note(&mut tx, note, TEXT).await.unwrap();
        hold(
            &mut tx,
            stage.env(),
            id,
            HoldPurpose::new("upload"),
            vec![bytes(1)],
        )
        .await
        .unwrap();
        tx.commit().await.unwrap();
    }
    let mut tx = begin(&stage.store, &stage.other).await;
    assert!(tx.close_hold(id, HoldState::Released).await.unwrap());
    tx.commit().await.unwrap();
    assert!(stage.begin().await.held(id).await.unwrap().is_some());
}

/// By its id alone a row of another workspace is neither changed nor deleted.
pub async fn an_unseen_row_is_not_written<S: Subject>(stage: &Stage<S>) {
    let mut tx = stage.begin().await;
    let written = write(stage, &mut tx).await;
    tx.commit().await.unwrap();
    let later = stage.env().lease_now() + TimeDelta::days(1);

    let mut tx = begin(&stage.store, &stage.other).await;
    let changed = S::change_note(&mut tx, written.note, "theirs").await;
    assert!(!changed.unwrap());
    assert!(
        !tx.close_hold(written.hold, HoldState::Released)
            .await
            .unwrap()
    );
    assert!(!tx.grow_hold(written.hold, None, later).await.unwrap());
    let bytes_of_all = QuotaKey::level(product::BYTES);
    let applied = tx.apply(&bytes_of_all, 0, -1, Limit::Unlimited).await;
    assert_eq!(applied.unwrap(), None);
    tx.commit().await.unwrap();

    let mut tx = stage.begin().await;
    let note = S::note(&mut tx, written.note).await.unwrap();
    assert_eq!(note.as_deref(), Some(TEXT));
    let row = tx.quota(&bytes(0).key).await.unwrap();
    assert_eq!((row.used, row.reserved), (5, 3));
    assert_eq!(tx.overdue(stage.env().lease_now()).await.unwrap(), []);
}
