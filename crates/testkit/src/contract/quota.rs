//! Counters and holds.

#![expect(
    clippy::unwrap_used,
    reason = "each function is a test, and a failing store is its failure"
)]

use chrono::TimeDelta;
use futures_util::future::join_all;
use rawdrive_plans::{Denied, Limit};
use rawdrive_tenancy_core::Commit;
use rawdrive_tenancy_core::event::DeliverEvent;
use rawdrive_tenancy_core::id::HoldId;
use rawdrive_tenancy_core::job::Job;
use rawdrive_usage::{
    Charge, Exceeded, HOLD_SECONDS, Hold, HoldEnded, HoldPurpose, HoldState, QuotaKey, QuotaRow,
    THRESHOLD_CROSSED, TakeError, UsageTx, add, expire_overdue, extend, hold, hold_all, hold_each,
    release, settle, subtract,
};

use super::{Stage, Subject, begin, bytes};
use crate::product;

fn key() -> QuotaKey {
    QuotaKey::level(product::BYTES)
}

fn counted(used: u64, reserved: u64) -> QuotaRow {
    QuotaRow {
        used,
        reserved,
        fired: 0,
    }
}

async fn row<S: Subject>(stage: &Stage<S>) -> QuotaRow {
    stage.begin().await.quota(&key()).await.unwrap()
}

/// A purpose whose end leaves a job.
const LEAVING: HoldPurpose = HoldPurpose::leaving("upload", "hold_ended");

/// Holds bytes and commits.
async fn held<S: Subject>(stage: &Stage<S>, amount: u64) -> Result<HoldId, TakeError> {
    let id = stage.id();
    let mut tx = stage.begin().await;
    let purpose = LEAVING;
    hold(&mut tx, stage.env(), id, purpose, vec![bytes(amount)]).await?;
    tx.commit().await?;
    Ok(id)
}

/// Settles bytes and commits.
async fn settled<S: Subject>(
    stage: &Stage<S>,
    id: HoldId,
    actual: &[(Charge, String)],
) -> Result<(), TakeError> {
    let mut tx = stage.begin().await;
    settle(&mut tx, stage.env(), id, actual).await?;
    tx.commit().await?;
    Ok(())
}

fn is_exceeded<T>(outcome: &Result<T, TakeError>) -> bool {
    matches!(outcome, Err(TakeError::Exceeded(_)))
}

fn is_ended<T>(outcome: &Result<T, TakeError>) -> bool {
    matches!(outcome, Err(TakeError::NotHeld))
}

/// `used + reserved` reaches the limit and never passes it; a limit of 0 admits nothing, none everything.
pub async fn reserving_stops_at_the_limit<S: Subject>(stage: &Stage<S>) {
    let mut tx = stage.begin().await;
    let limit = Limit::AtMost(100);
    assert!(!tx.reserve(&bytes(1), Limit::AtMost(0)).await.unwrap());
    assert!(!tx.reserve(&bytes(101), limit).await.unwrap());
    assert!(tx.reserve(&bytes(60), limit).await.unwrap());
    assert!(!tx.reserve(&bytes(41), limit).await.unwrap());
    assert!(tx.reserve(&bytes(40), limit).await.unwrap());
    assert!(!tx.reserve(&bytes(1), limit).await.unwrap());
    assert_eq!(tx.quota(&key()).await.unwrap(), counted(0, 100));
    assert!(tx.reserve(&bytes(1 << 50), Limit::Unlimited).await.unwrap());
    assert!(!tx.reserve(&bytes(1), limit).await.unwrap(), "far above it");
}

/// Of many at once exactly as many are admitted as fit.
pub async fn no_interleaving_passes_the_limit<S: Subject>(stage: &Stage<S>) {
    stage.limit(product::BYTES, Limit::AtMost(70)).await;
    let outcomes = join_all((0..16).map(|_| held(stage, 10))).await;
    let admitted = outcomes.iter().filter(|o| o.is_ok()).count();
    assert_eq!(admitted, 7);
    assert!(
        outcomes.iter().all(|o| o.is_ok() || is_exceeded(o)),
        "{outcomes:?}"
    );
    assert_eq!(row(stage).await, counted(0, 70));
}

/// Several holds are all held where all fit; otherwise each is held or refused as if it came alone.
pub async fn several_holds_are_decided_as_one_after_the_other<S: Subject>(stage: &Stage<S>) {
    stage.limit(product::BYTES, Limit::AtMost(100)).await;
    let holds = |amounts: &[u64]| -> Vec<Hold> {
        let hold = |amount: &u64| Hold {
            id: stage.id(),
            purpose: HoldPurpose::new("look"),
            charges: vec![bytes(*amount)],
        };
        amounts.iter().map(hold).collect()
    };
    let env = stage.env();
    let mut tx = stage.begin().await;
    assert!(hold_all(&mut tx, env, &holds(&[30, 40])).await.unwrap());
    tx.commit().await.unwrap();
    let mut tx = stage.begin().await;
    let several = holds(&[40, 30, 1, 0]);
    assert!(!hold_all(&mut tx, env, &several).await.unwrap());
    drop(tx);
    let mut tx = stage.begin().await;
    let outcomes = hold_each(&mut tx, env, several.clone()).await.unwrap();
    tx.commit().await.unwrap();
    let refused = |requested, current| {
        let exceeded = Exceeded {
            metric: product::BYTES,
            subject: String::new(),
            reserved: current,
            denied: Denied {
                current,
                requested,
                limit: 100,
                hard_limit: 100,
            },
        };
        Err(exceeded)
    };
    assert_eq!(outcomes, [refused(40, 70), Ok(()), refused(1, 100), Ok(())]);
    assert_eq!(row(stage).await, counted(0, 100));
    let mut tx = stage.begin().await;
    for (hold, outcome) in several.iter().zip(&outcomes) {
        let held = tx.held(hold.id).await.unwrap();
        assert_eq!(held.is_some(), outcome.is_ok());
    }
}

/// Usage grows within the limit alone, and shrinks also above it; where there is no row nothing is applied.
pub async fn growth_is_bounded_and_shrinking_never<S: Subject>(stage: &Stage<S>) {
    let mut tx = stage.begin().await;
    assert_eq!(
        tx.apply(&key(), 0, 0, Limit::Unlimited).await.unwrap(),
        None
    );
    assert!(tx.reserve(&bytes(80), Limit::Unlimited).await.unwrap());
    let grown = tx.apply(&key(), 80, 80, Limit::AtMost(80)).await.unwrap();
    assert_eq!(grown, Some(counted(80, 0)));
    let too_much = tx.apply(&key(), 0, 1, Limit::AtMost(80)).await.unwrap();
    assert_eq!(too_much, None);
    assert_eq!(tx.quota(&key()).await.unwrap(), counted(80, 0));
    let shrunk = tx.apply(&key(), 0, -30, Limit::AtMost(10)).await.unwrap();
    assert_eq!(shrunk, Some(counted(50, 0)));
}

/// What a settling takes beyond its hold must fit beside what others hold.
pub async fn settling_more_than_was_held_takes_the_rest<S: Subject>(stage: &Stage<S>) {
    stage.limit(product::BYTES, Limit::AtMost(100)).await;
    let (mine, theirs) = (
        held(stage, 10).await.unwrap(),
        held(stage, 60).await.unwrap(),
    );
    let actual = |amount| [(bytes(amount), "pho".to_owned())];
    let too_much = settled(stage, mine, &actual(41)).await;
    assert!(is_exceeded(&too_much), "{too_much:?}");
    settled(stage, mine, &actual(40)).await.unwrap();
    assert_eq!(row(stage).await, counted(40, 60));
    settled(stage, theirs, &actual(60)).await.unwrap();
}

/// A counter that would fall below zero contradicts its ledger: the store refuses to go on.
pub async fn what_takes_below_zero_is_an_error<S: Subject>(stage: &Stage<S>) {
    for (released, delta) in [(0, -11), (11, 0)] {
        let mut tx = stage.begin().await;
        assert!(tx.reserve(&bytes(20), Limit::Unlimited).await.unwrap());
        tx.apply(&key(), 10, 10, Limit::Unlimited).await.unwrap();
        let below = tx.apply(&key(), released, delta, Limit::Unlimited).await;
        assert!(below.is_err(), "{below:?}");
    }
}

/// `held →` another state happens once; afterwards the hold is neither found nor grown nor ended.
pub async fn a_hold_ends_once<S: Subject>(stage: &Stage<S>) {
    let later = stage.env().lease_now() + TimeDelta::seconds(60);
    for state in [
        HoldState::Committed,
        HoldState::Released,
        HoldState::Expired,
    ] {
        let mut charges = vec![bytes(3), photos_of("gal_1", 1)];
        charges.sort_by(|a, b| a.key.cmp(&b.key));
        let hold = Hold {
            id: stage.id(),
            purpose: HoldPurpose::new("look"),
            charges,
        };
        let mut tx = stage.begin().await;
        tx.insert_holds(std::slice::from_ref(&hold), later)
            .await
            .unwrap();
        assert_eq!(tx.held(hold.id).await.unwrap().as_ref(), Some(&hold));
        assert!(tx.grow_hold(hold.id, Some(&bytes(4)), later).await.unwrap());
        let grown = tx.held(hold.id).await.unwrap().unwrap();
        assert!(grown.charges.contains(&bytes(7)) && grown.charges.len() == 2);
        assert!(tx.close_hold(hold.id, state).await.unwrap());
        assert!(!tx.close_hold(hold.id, HoldState::Released).await.unwrap());
        assert!(!tx.grow_hold(hold.id, None, later).await.unwrap());
        assert_eq!(tx.held(hold.id).await.unwrap(), None);
        let much_later = later + TimeDelta::days(1);
        assert_eq!(tx.overdue(much_later).await.unwrap(), []);
        tx.commit().await.unwrap();
    }
}

fn photos_of(gallery: &str, amount: u64) -> Charge {
    Charge {
        key: QuotaKey::level_of(product::NOTES, gallery),
        amount,
    }
}

/// A hold may come to hold another counter; its end gives back both.
pub async fn a_hold_grows_by_what_it_did_not_hold_as_well<S: Subject>(stage: &Stage<S>) {
    let id = held(stage, 5).await.unwrap();
    let more = photos_of("gal_1", 2);
    let mut tx = stage.begin().await;
    extend(&mut tx, stage.env(), id, Some(more.clone()))
        .await
        .unwrap();
    let now_held = tx.held(id).await.unwrap().unwrap();
    assert_eq!(now_held.charges, [more.clone(), bytes(5)], "sorted by key");
    tx.commit().await.unwrap();
    assert_eq!(stage.store.discrepancies(&stage.scope).await, [""; 0]);

    let mut tx = stage.begin().await;
    assert!(release(&mut tx, id).await.unwrap());
    assert_eq!(tx.quota(&key()).await.unwrap(), counted(0, 0));
    assert_eq!(tx.quota(&more.key).await.unwrap(), counted(0, 0));
}

/// What was given back because nobody renewed it cannot be taken up again.
pub async fn expiry_is_final<S: Subject>(stage: &Stage<S>) {
    let id = held(stage, 10).await.unwrap();
    stage
        .test_env
        .advance_leases(TimeDelta::seconds(HOLD_SECONDS - 1));
    let mut tx = stage.begin().await;
    assert_eq!(expire_overdue(&mut tx, stage.env()).await.unwrap(), 0);
    extend(&mut tx, stage.env(), id, None).await.unwrap();
    tx.commit().await.unwrap();
    stage
        .test_env
        .advance_leases(TimeDelta::seconds(HOLD_SECONDS - 1));
    let mut tx = stage.begin().await;
    assert_eq!(
        expire_overdue(&mut tx, stage.env()).await.unwrap(),
        0,
        "it was renewed"
    );
    drop(tx);

    stage.test_env.advance_leases(TimeDelta::seconds(1));
    let mut tx = stage.begin().await;
    assert_eq!(expire_overdue(&mut tx, stage.env()).await.unwrap(), 1);
    tx.commit().await.unwrap();
    assert_eq!(row(stage).await, counted(0, 0));
    let jobs = stage.store.due_jobs(&stage.scope).await;
    let left = Job::named("hold_ended", &HoldEnded { hold: id }).unwrap();
    assert_eq!(jobs, [left], "what its purpose asks for");

    let mut tx = stage.begin().await;
    assert!(is_ended(&extend(&mut tx, stage.env(), id, None).await));
    assert!(!release(&mut tx, id).await.unwrap());
    drop(tx);
    assert!(is_ended(
        &settled(stage, id, &[(bytes(10), "pho".to_owned())]).await
    ));
}

/// A take that would be refused first gives back what nobody renews.
pub async fn overdue_holds_make_room_for_others<S: Subject>(stage: &Stage<S>) {
    stage.limit(product::BYTES, Limit::AtMost(10)).await;
    held(stage, 10).await.unwrap();
    assert!(is_exceeded(&held(stage, 10).await));
    stage
        .test_env
        .advance_leases(TimeDelta::seconds(HOLD_SECONDS));
    held(stage, 10).await.unwrap();
    assert_eq!(row(stage).await, counted(0, 10));
}

/// Of a hold over several counters none is taken when one is full, and the refusal has exact numbers.
pub async fn a_refused_take_leaves_nothing_behind<S: Subject>(stage: &Stage<S>) {
    stage.limit(product::BYTES, Limit::AtMost(10)).await;
    held(stage, 8).await.unwrap();
    let photos = photos_of("gal_1", 1);
    let mut tx = stage.begin().await;
    let charges = vec![bytes(3), photos.clone()];
    let refused = hold(
        &mut tx,
        stage.env(),
        stage.id(),
        HoldPurpose::new("look"),
        charges,
    )
    .await;
    drop(tx);
    let Err(TakeError::Exceeded(exceeded)) = refused else {
        panic!("3 do not fit beside 8 of 10: {refused:?}");
    };
    assert_eq!(exceeded.metric, product::BYTES);
    let denied = exceeded.denied;
    assert_eq!((denied.current, denied.requested, denied.limit), (8, 3, 10));
    assert_eq!(row(stage).await, counted(0, 8));
    let mut tx = stage.begin().await;
    assert_eq!(tx.quota(&photos.key).await.unwrap(), counted(0, 0));
}

/// Crossing a threshold is told once, wavering at it not again, a new rise after a real fall again.
pub async fn an_episode_fires_once_and_again_after_a_real_fall<S: Subject>(stage: &Stage<S>) {
    stage.limit(product::BYTES, Limit::AtMost(100)).await;
    for (delta, told) in [
        (79_i64, 0),
        (1, 1),
        (-4, 1),
        (4, 1),
        (-6, 1),
        (6, 2),
        (20, 3),
    ] {
        let mut tx = stage.begin().await;
        let subject = "pho".to_owned();
        if delta > 0 {
            let charge = bytes(delta.unsigned_abs());
            add(&mut tx, stage.env(), charge, subject).await.unwrap();
        } else {
            let charge = bytes(delta.unsigned_abs());
            subtract(&mut tx, stage.env(), charge, subject)
                .await
                .unwrap();
        }
        tx.commit().await.unwrap();
        let thresholds = thresholds_told(&stage.store.due_jobs(&stage.scope).await);
        assert_eq!(thresholds.len(), told, "after {delta}: {thresholds:?}");
    }
    let told = thresholds_told(&stage.store.due_jobs(&stage.scope).await);
    assert_eq!(
        told,
        [80, 80, 100],
        "90 is passed in silence on the way to 100"
    );
    assert_eq!(row(stage).await.fired, 0b111);
    let theirs = begin(&stage.store, &stage.other).await.quota(&key()).await;
    assert_eq!(theirs.unwrap(), counted(0, 0));
}

fn thresholds_told(jobs: &[Job]) -> Vec<u64> {
    let mut told: Vec<_> = jobs
        .iter()
        .filter_map(Job::as_kind::<DeliverEvent>)
        .filter(|told| told.event.kind == THRESHOLD_CROSSED)
        .filter_map(|told| told.event.facts["threshold"].as_u64())
        .collect();
    told.sort_unstable();
    told
}

/// What was used of a counter that the hold did not know is taken and recorded, or refused.
pub async fn settling_counts_what_was_not_held<S: Subject>(stage: &Stage<S>) {
    stage.limit(product::NOTES, Limit::AtMost(1)).await;
    let photos = |amount| (photos_of("gal_1", amount), "pho".to_owned());
    let id = held(stage, 5).await.unwrap();
    let actual = |n| [(bytes(5), "pho".to_owned()), photos(n)];
    let refused = settled(stage, id, &actual(2)).await;
    assert!(is_exceeded(&refused), "{refused:?}");
    settled(stage, id, &actual(1)).await.unwrap();
    let mut tx = stage.begin().await;
    assert_eq!(tx.quota(&photos(1).0.key).await.unwrap().used, 1);
    assert_eq!(tx.quota(&key()).await.unwrap().used, 5);
    drop(tx);
    assert_eq!(stage.store.discrepancies(&stage.scope).await, [""; 0]);
}
