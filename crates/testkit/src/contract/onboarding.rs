//! Facts, skips, and completion that is told once.

#![expect(
    clippy::unwrap_used,
    reason = "each function is a test, and a failing store is its failure"
)]

use chrono::TimeDelta;
use rawdrive_onboarding::{
    BILLING_EMAIL_SET, NAMED, ONBOARDING_COMPLETED, OnboardingRead, OnboardingTx, PROFILE, Step,
    review,
};
use rawdrive_tenancy_core::event::{DeliverEvent, DomainEvent};
use rawdrive_tenancy_core::job::JobKind;
use rawdrive_tenancy_core::{Commit, WorkspaceScope};
use serde_json::json;

use super::{Stage, Subject, begin};

async fn read<S: Subject>(stage: &Stage<S>, scope: &WorkspaceScope) -> (Vec<String>, Vec<String>) {
    let (facts, _) = stage.store.read(scope).onboarding().await.unwrap();
    (
        facts.held.into_iter().collect(),
        facts.skipped.into_iter().collect(),
    )
}

/// A workspace has its name from the start, and a billing address when somebody gives one.
pub async fn facts_are_what_the_rows_say<S: Subject>(stage: &Stage<S>) {
    let mut tx = stage.begin().await;
    let (facts, told) = OnboardingTx::onboarding(&mut tx).await.unwrap();
    drop(tx);
    assert!(facts.hold(NAMED) && !facts.hold(BILLING_EMAIL_SET));
    assert!(facts.skipped.is_empty());
    assert_eq!(told, None);
    let read = stage.store.read(&stage.scope);
    assert_eq!(read.onboarding().await.unwrap(), (facts, None));
}

/// A step is skipped once, however often it is said, in its workspace; and taken back.
pub async fn a_skip_stands_until_it_is_taken_back<S: Subject>(stage: &Stage<S>) {
    let now = stage.env().now();
    let mut tx = stage.begin().await;
    for step in ["profile", "first_note", "profile"] {
        tx.skip_step(step, now).await.unwrap();
    }
    let (facts, _) = OnboardingTx::onboarding(&mut tx).await.unwrap();
    assert_eq!(facts.skipped.len(), 2, "within the transaction too");
    tx.commit().await.unwrap();
    let skipped = async |scope: &WorkspaceScope| read(stage, scope).await.1;
    assert_eq!(skipped(&stage.scope).await, ["first_note", "profile"]);
    assert!(skipped(&stage.other).await.is_empty());

    let mut theirs = begin(&stage.store, &stage.other).await;
    theirs.unskip_step("profile").await.unwrap();
    theirs.commit().await.unwrap();
    let mut tx = stage.begin().await;
    tx.unskip_step("first_note").await.unwrap();
    tx.unskip_step("no_such_step").await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(skipped(&stage.scope).await, ["profile"]);
    let mut tx = stage.begin().await;
    tx.unskip_step("profile").await.unwrap();
    drop(tx);
    assert_eq!(skipped(&stage.scope).await, ["profile"], "rolled back");
}

const STEPS: [Step; 2] = [
    PROFILE,
    Step {
        id: "first_note",
        title: "Write a note",
        needs: None,
        done: |facts| facts.hold("note_written"),
    },
];

/// Completion is told by the first transaction that stands with every step done or skipped, and never again.
pub async fn completion_is_told_once<S: Subject>(stage: &Stage<S>) {
    let told = async |scope: &WorkspaceScope| {
        let due = stage.store.due_jobs(scope).await;
        let events = due.iter().filter(|job| job.kind() == DeliverEvent::NAME);
        events.cloned().collect::<Vec<_>>()
    };
    let skip = async |step: &str, stands: bool| {
        let mut tx = stage.begin().await;
        tx.skip_step(step, stage.env().now()).await.unwrap();
        review(&mut tx, stage.env(), &STEPS).await.unwrap();
        if stands {
            tx.commit().await.unwrap();
        }
    };
    skip("profile", true).await;
    assert_eq!(told(&stage.scope).await, [], "one is open");
    skip("first_note", false).await;
    assert_eq!(told(&stage.scope).await, [], "rolled back");
    stage.test_env.advance(TimeDelta::seconds(5));
    let completed_at = stage.env().now();
    skip("first_note", true).await;
    let event = DomainEvent {
        kind: ONBOARDING_COMPLETED.to_owned(),
        subject: stage.scope.workspace().to_string(),
        facts: json!({ "completed_at": completed_at }),
    };
    let expected = [rawdrive_tenancy_core::job::Job::of(&DeliverEvent { event }).unwrap()];
    assert_eq!(told(&stage.scope).await, expected);

    stage.test_env.advance(TimeDelta::seconds(5));
    let mut tx = stage.begin().await;
    assert_eq!(tx.lock_completion().await.unwrap(), Some(completed_at));
    tx.unskip_step("first_note").await.unwrap();
    tx.commit().await.unwrap();
    skip("first_note", true).await;
    assert_eq!(told(&stage.scope).await, expected, "undone and done again");
    let read = stage.store.read(&stage.scope).onboarding().await;
    assert_eq!(read.unwrap().1, Some(completed_at));
    assert_eq!(told(&stage.other).await, []);
    let mut theirs = begin(&stage.store, &stage.other).await;
    assert_eq!(theirs.lock_completion().await.unwrap(), None);
}
