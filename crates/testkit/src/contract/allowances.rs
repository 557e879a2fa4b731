//! Limits that say how strict they are, and reservations of programs outside.

#![expect(
    clippy::unwrap_used,
    reason = "each function is a test, and a failing store is its failure"
)]

use chrono::TimeDelta;
use futures_util::future::join_all;
use rawdrive_plans::{Denied, PlansTx as _};
use rawdrive_tenancy_core::Commit;
use rawdrive_tenancy_core::event::DeliverEvent;
use rawdrive_tenancy_core::id::HoldId;
use rawdrive_tenancy_core::job::Job;
use rawdrive_usage::{
    Charge, HoldState, QuotaCheck, QuotaKey, QuotaRow, ReservationError, ReservationsTx as _,
    THRESHOLD_CROSSED, TakeError, UsageTx as _, add, expire_overdue, extend_reservation,
    make_reservation, release_reservation, settle_reservation,
};

use super::{Stage, Subject, bytes};
use crate::product;

/// Moves the workspace to the plan whose limits are not all hard.
async fn on_lenient_plan<S: Subject>(stage: &Stage<S>) {
    let plan = product::catalogue().newest(&product::LENIENT).unwrap();
    let mut tx = stage.begin().await;
    tx.move_to_plan(&plan).await.unwrap();
    tx.commit().await.unwrap();
}

async fn taken<S: Subject>(stage: &Stage<S>, charge: Charge) -> Result<(), TakeError> {
    let mut tx = stage.begin().await;
    add(&mut tx, stage.env(), charge, "thing".to_owned()).await?;
    tx.commit().await?;
    Ok(())
}

async fn row<S: Subject>(stage: &Stage<S>, key: &QuotaKey) -> QuotaRow {
    stage.begin().await.quota(key).await.unwrap()
}

fn told(jobs: &[Job]) -> Vec<u64> {
    let events = jobs.iter().filter_map(Job::as_kind::<DeliverEvent>);
    let mut told: Vec<_> = events
        .filter(|told| told.event.kind == THRESHOLD_CROSSED)
        .filter_map(|told| told.event.facts["threshold"].as_u64())
        .collect();
    told.sort_unstable();
    told
}

/// Of many at once as many are admitted as fit into the limit and its tolerance; a refusal names both.
pub async fn a_tolerance_is_taken_to_its_last_unit<S: Subject>(stage: &Stage<S>) {
    on_lenient_plan(stage).await;
    let outcomes = join_all((0..16).map(|_| taken(stage, bytes(10)))).await;
    let admitted = outcomes.iter().filter(|o| o.is_ok()).count();
    assert_eq!(admitted, 11);
    let key = bytes(0).key;
    assert_eq!(row(stage, &key).await.used, 110);
    let refused = taken(stage, bytes(1)).await;
    let Err(TakeError::Exceeded(exceeded)) = refused else {
        panic!("110 of 100 and a tenth are all there is: {refused:?}");
    };
    let denied = Denied {
        current: 110,
        requested: 1,
        limit: 100,
        hard_limit: 110,
    };
    assert_eq!((exceeded.denied, exceeded.reserved), (denied, 0));
    let entitlements = stage.begin().await.entitlements().await.unwrap();
    let check = QuotaCheck::refused(&entitlements, &exceeded, stage.env().now());
    assert!(!check.allowed());
    assert_eq!((check.used, check.reserved), (110, 0));
    // Told of at the percentages of the limit, and the last time at the limit itself.
    let told = told(&stage.store.due_jobs(&stage.scope).await);
    assert_eq!(told, [80, 90, 100]);
}

/// A soft limit admits everything, and is told of like any other.
pub async fn a_soft_limit_refuses_nothing<S: Subject>(stage: &Stage<S>) {
    on_lenient_plan(stage).await;
    let notes = |amount| Charge {
        key: QuotaKey::level_of(product::NOTES, "folder_1"),
        amount,
    };
    for amount in [9, 3, 1 << 40] {
        taken(stage, notes(amount)).await.unwrap();
    }
    assert_eq!(row(stage, &notes(0).key).await.used, (1 << 40) + 12);
    let told = told(&stage.store.due_jobs(&stage.scope).await);
    assert_eq!(told, [90, 100]);
    assert_eq!(stage.store.discrepancies(&stage.scope).await, [""; 0]);
}

async fn reserved<S: Subject>(
    stage: &Stage<S>,
    amount: u64,
    ttl_seconds: u32,
) -> Result<HoldId, ReservationError> {
    let (id, mut tx) = (stage.id(), stage.begin().await);
    make_reservation(&mut tx, stage.env(), id, bytes(amount), ttl_seconds).await?;
    tx.commit().await?;
    Ok(id)
}

async fn settled<S: Subject>(
    stage: &Stage<S>,
    id: HoldId,
    amount: Option<u64>,
) -> Result<u64, ReservationError> {
    let mut tx = stage.begin().await;
    let settled = settle_reservation(&mut tx, stage.env(), id, amount).await?;
    tx.commit().await?;
    Ok(settled.amount)
}

async fn state<S: Subject>(stage: &Stage<S>, id: HoldId) -> HoldState {
    let found = stage.begin().await.reservation(id).await.unwrap();
    found.unwrap().state_at(stage.env().lease_now())
}

/// A reservation becomes usage once, of what it came to; what is beyond it is a take like any other.
pub async fn a_reservation_is_settled_once<S: Subject>(stage: &Stage<S>) {
    on_lenient_plan(stage).await;
    let key = bytes(0).key;
    let (one, two) = (
        reserved(stage, 60, 600).await.unwrap(),
        reserved(stage, 40, 600).await.unwrap(),
    );
    let refused = reserved(stage, 11, 600).await;
    assert!(
        matches!(refused, Err(ReservationError::Exceeded(_))),
        "{refused:?}"
    );
    let more = settled(stage, one, Some(71)).await;
    assert!(
        matches!(more, Err(ReservationError::Exceeded(_))),
        "{more:?}"
    );
    assert_eq!(state(stage, one).await, HoldState::Held);
    assert_eq!(settled(stage, one, Some(70)).await.unwrap(), 70);
    assert_eq!(settled(stage, one, None).await.unwrap(), 70);
    assert_eq!(settled(stage, one, Some(70)).await.unwrap(), 70);
    let other = settled(stage, one, Some(1)).await;
    assert!(
        matches!(other, Err(ReservationError::Settled(70))),
        "{other:?}"
    );
    let mut tx = stage.begin().await;
    let given_back = release_reservation(&mut tx, one).await;
    assert!(matches!(given_back, Err(ReservationError::Settled(70))));
    drop(tx);
    assert_eq!(settled(stage, two, Some(0)).await.unwrap(), 0);
    let row = row(stage, &key).await;
    assert_eq!((row.used, row.reserved), (70, 0));
    let lines = stage.store.ledger(&stage.scope).await;
    let lines: Vec<_> = lines
        .iter()
        .map(|l| (l.subject.clone(), l.quantity))
        .collect();
    assert_eq!(lines, [(one.to_string(), 70)]);
    assert_eq!(stage.store.discrepancies(&stage.scope).await, [""; 0]);
}

/// What is neither settled nor extended in time is given back, and never anything else again.
pub async fn a_reservation_ends_in_its_time<S: Subject>(stage: &Stage<S>) {
    let (short, long) = (
        reserved(stage, 5, 60).await.unwrap(),
        reserved(stage, 7, 60).await.unwrap(),
    );
    let extended = async |id, seconds| {
        let mut tx = stage.begin().await;
        let extended = extend_reservation(&mut tx, stage.env(), id, seconds).await?;
        tx.commit().await?;
        Ok::<_, ReservationError>(extended.expires_at)
    };
    let until = extended(long, 120).await.unwrap();
    assert_eq!(extended(long, 1).await.unwrap(), until, "never shorter");
    stage.test_env.advance(TimeDelta::seconds(60));
    // Past its end it has ended, also before anybody gave it back.
    assert_eq!(state(stage, short).await, HoldState::Expired);
    let late = settled(stage, short, None).await;
    assert!(
        matches!(late, Err(ReservationError::Ended(HoldState::Expired))),
        "{late:?}"
    );
    assert!(extended(short, 60).await.is_err());
    let mut tx = stage.begin().await;
    assert_eq!(tx.open_reservations(10).await.unwrap(), 2);
    assert_eq!(tx.open_reservations(1).await.unwrap(), 1);
    // A handle that was dropped lets go of its locks a moment later, and what is locked is left to the next sweep.
    let mut expired = 0;
    for _ in 0..200 {
        expired = expire_overdue(&mut tx, stage.env()).await.unwrap();
        if expired > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(expired, 1);
    tx.commit().await.unwrap();
    let mut tx = stage.begin().await;
    assert_eq!(tx.open_reservations(10).await.unwrap(), 1);
    for id in [short, long, long] {
        release_reservation(&mut tx, id).await.unwrap();
    }
    tx.commit().await.unwrap();
    assert_eq!(state(stage, long).await, HoldState::Released);
    let late = settled(stage, long, None).await;
    assert!(
        matches!(late, Err(ReservationError::Ended(HoldState::Released))),
        "{late:?}"
    );
    let row = row(stage, &bytes(0).key).await;
    assert_eq!((row.used, row.reserved), (0, 0));
    let unknown = settled(stage, stage.id(), None).await;
    assert!(matches!(unknown, Err(ReservationError::Unknown)));
}
