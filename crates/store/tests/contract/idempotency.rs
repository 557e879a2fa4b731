//! A key is one request's for as long as that lives, and anybody's afterwards.

use chrono::TimeDelta;
use rawdrive_store::{Claim, Claimed, Replay};
use rawdrive_tenancy_core::{Commit, StoreError};
use rawdrive_testkit::contract::Stage;

use crate::subject::{Opened, stage};
use crate::support::Engine;

const PRINT: [u8; 32] = [7; 32];

async fn claim(stage: &Stage<Opened>) -> Claimed {
    let claimed = stage.store.store.claim_key(&stage.scope, "k", PRINT).await;
    claimed.unwrap()
}

async fn mine(stage: &Stage<Opened>) -> Claim {
    match claim(stage).await {
        Claimed::Mine(claim) => claim,
        other => panic!("the key is free: {other:?}"),
    }
}

async fn renew(stage: &Stage<Opened>, claim: &Claim) -> Result<(), StoreError> {
    let mut tx = stage.begin().await;
    tx.renew_key(claim).await?;
    tx.commit().await
}

async fn complete(stage: &Stage<Opened>, claim: &Claim) -> Result<(), StoreError> {
    let mut tx = stage.begin().await;
    tx.complete_key(claim, &answer()).await?;
    tx.commit().await
}

/// Lets real time pass: that of leases.
fn pass(stage: &Stage<Opened>, seconds: i64) {
    stage.test_env.advance_leases(TimeDelta::seconds(seconds));
}

fn answer() -> Replay {
    Replay {
        status: 201,
        etag: None,
        body: b"{}".to_vec(),
        body_digest: None,
    }
}

fn is_in_flight(claimed: &Claimed) -> bool {
    matches!(claimed, Claimed::InFlight { retry_after } if (1..=60).contains(retry_after))
}

async fn a_renewed_claim_is_in_flight_for_as_long_as_its_request_lives(engine: Engine) {
    let stage = stage(engine).await;
    let first = mine(&stage).await;
    for _ in 0..15 {
        pass(&stage, 20);
        renew(&stage, &first).await.unwrap();
        let second = claim(&stage).await;
        assert!(is_in_flight(&second), "{second:?}");
    }
    complete(&stage, &first).await.unwrap();
    assert_eq!(claim(&stage).await, Claimed::Replay(answer()));
}

async fn a_request_that_is_not_heard_of_loses_its_key_for_good(engine: Engine) {
    let stage = stage(engine).await;
    let dead = mine(&stage).await;
    pass(&stage, 59);
    assert!(is_in_flight(&claim(&stage).await));
    pass(&stage, 1);
    let heir = mine(&stage).await;
    assert_eq!(heir.effect_id, dead.effect_id, "one key has one effect");

    let late = [renew(&stage, &dead).await, complete(&stage, &dead).await];
    for outcome in late {
        assert!(
            matches!(outcome, Err(StoreError::Taken { .. })),
            "{outcome:?}"
        );
    }
    stage
        .store
        .store
        .abandon_key(&stage.scope, &dead)
        .await
        .unwrap();
    assert!(
        is_in_flight(&claim(&stage).await),
        "the heir's claim stands"
    );
    complete(&stage, &heir).await.unwrap();
    assert_eq!(claim(&stage).await, Claimed::Replay(answer()));
}

async fn a_renewal_that_is_rolled_back_renews_nothing(engine: Engine) {
    let stage = stage(engine).await;
    let first = mine(&stage).await;
    pass(&stage, 30);
    stage.begin().await.renew_key(&first).await.unwrap();
    pass(&stage, 30);
    mine(&stage).await;
}

async fn a_request_that_came_to_nothing_gives_its_key_back_also_after_renewals(engine: Engine) {
    let stage = stage(engine).await;
    let first = mine(&stage).await;
    pass(&stage, 20);
    renew(&stage, &first).await.unwrap();
    stage
        .store
        .store
        .abandon_key(&stage.scope, &first)
        .await
        .unwrap();
    let second = mine(&stage).await;
    assert_ne!(second.effect_id, first.effect_id);
}

on_every_database![
    a_renewed_claim_is_in_flight_for_as_long_as_its_request_lives,
    a_request_that_is_not_heard_of_loses_its_key_for_good,
    a_renewal_that_is_rolled_back_renews_nothing,
    a_request_that_came_to_nothing_gives_its_key_back_also_after_renewals,
];
