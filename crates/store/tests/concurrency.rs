//! Many at once: limits hold, nobody waits for ever, and nobody sees another's rows.
//!
//! `RAWDRIVE_TEST_ROUNDS` and `RAWDRIVE_TEST_REQUESTS` make it longer; CI runs 20 rounds.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test are test code, which clippy knows of functions marked as tests alone"
)]

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use chrono::TimeDelta;
use rawdrive_gallery::id::LibraryId;
use rawdrive_gallery::testkit::{gallery, library, photo};
use rawdrive_gallery::{GalleryRead, GalleryTx, Library, LibraryDeletion};
use rawdrive_identity::Count;
use rawdrive_identity::ports::PasswordAttempts;
use rawdrive_plans::ReviewThresholds;
use rawdrive_plans::{Limit, Override, PlansTx, Setting};
use rawdrive_store::{Claimed, Release, Store, WriteTx};
use rawdrive_tenancy_core::audit::{AuditTx, Change};
use rawdrive_tenancy_core::job::JobsTx;
use rawdrive_tenancy_core::page::PageRequest;
use rawdrive_tenancy_core::{Commit, Env, StoreError, WorkspaceScope};
use rawdrive_testkit::TestEnv;
use rawdrive_testkit::contract::Subject;
use rawdrive_usage::{
    Charge, HOLD_SECONDS, HoldPurpose, QuotaKey, TakeError, add, expire_overdue, extend, hold,
    release, settle,
};

use sea_orm::sqlx::{Executor, Row};

#[macro_use]
mod support;
#[path = "contract/subject.rs"]
mod subject;

use subject::{Opened, stage};
use support::{Database, Engine};

fn from_env(name: &str, otherwise: usize) -> usize {
    let value = std::env::var(name).ok();
    value.map_or(otherwise, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number"))
    })
}

fn rounds() -> usize {
    let in_ci = std::env::var_os("CI").is_some();
    from_env("RAWDRIVE_TEST_ROUNDS", if in_ci { 20 } else { 2 })
}

fn bytes(amount: u64) -> Charge {
    Charge {
        key: QuotaKey::level(rawdrive_gallery::STORAGE_BYTES),
        amount,
    }
}

fn photos_of(gallery: &str, amount: u64) -> Charge {
    Charge {
        key: QuotaKey::level_of(rawdrive_gallery::PHOTOS, gallery),
        amount,
    }
}

async fn take_one(store: &Store, scope: &WorkspaceScope) -> Result<(), TakeError> {
    let env = store.env();
    let begun = store.begin(scope).await;
    let mut tx = begun.unwrap_or_else(|error| panic!("the workspace takes writes: {error:?}"));
    hold(
        &mut tx,
        env,
        env.id(),
        HoldPurpose::new("look"),
        vec![bytes(1)],
    )
    .await?;
    tx.commit().await?;
    Ok(())
}

/// 1,000 at once against a limit of 100: exactly 100 are admitted, the others are told the numbers.
async fn of_a_thousand_takes_as_many_succeed_as_fit(engine: Engine) {
    for _ in 0..rounds() {
        let stage = stage(engine).await;
        stage
            .limit(rawdrive_gallery::STORAGE_BYTES, Limit::AtMost(100))
            .await;
        let tasks = (0..1_000).map(|_| {
            let (store, scope) = (stage.store.store.clone(), stage.scope);
            tokio::spawn(async move { take_one(&store, &scope).await })
        });
        let (mut admitted, mut refused) = (0, 0);
        for task in tasks.collect::<Vec<_>>() {
            match task.await.unwrap() {
                Ok(()) => admitted += 1,
                Err(TakeError::Exceeded(exceeded)) => {
                    assert_eq!((exceeded.denied.current, exceeded.denied.limit), (100, 100));
                    refused += 1;
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!((admitted, refused), (100, 900));
        assert_eq!(stage.store.discrepancies(&stage.scope).await, [""; 0]);
    }
}

/// Refused takes expire what is overdue, of several counters each: they used to be able to wait for each
/// other, each with a counter in hand that the other wanted.
async fn refused_takes_that_expire_holds_do_not_wait_for_each_other(engine: Engine) {
    const GALLERIES: [&str; 4] = ["gal_1", "gal_2", "gal_3", "gal_4"];
    let stage = Arc::new(stage(engine).await);
    stage
        .limit(rawdrive_gallery::STORAGE_BYTES, Limit::AtMost(40))
        .await;
    for _ in 0..rounds().min(5) {
        for n in 0..40 {
            let mut tx = stage.begin().await;
            let charges = vec![bytes(1), photos_of(GALLERIES[n % 4], 1)];
            let id = stage.env().id();
            hold(
                &mut tx,
                stage.env(),
                id,
                HoldPurpose::new("upload"),
                charges,
            )
            .await
            .unwrap();
            tx.commit().await.unwrap();
        }
        stage
            .test_env
            .advance_leases(TimeDelta::seconds(HOLD_SECONDS));
        let tasks = (0..48_usize).map(|n| {
            let stage = stage.clone();
            tokio::spawn(async move {
                let env = stage.env();
                let mut tx = stage.begin().await;
                if n % 8 == 0 {
                    expire_overdue(&mut tx, env).await?;
                } else {
                    let charges = vec![photos_of(GALLERIES[n % 4], 1), bytes(1)];
                    let taken =
                        hold(&mut tx, env, env.id(), HoldPurpose::new("upload"), charges).await;
                    match taken {
                        Ok(()) => {}
                        Err(TakeError::Exceeded(_)) => return Ok(()),
                        Err(error) => return Err(error),
                    }
                }
                tx.commit().await?;
                Ok(())
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap().unwrap();
        }
        assert_eq!(stage.store.discrepancies(&stage.scope).await, [""; 0]);
        stage
            .test_env
            .advance_leases(TimeDelta::seconds(HOLD_SECONDS));
        let mut tx = stage.begin().await;
        expire_overdue(&mut tx, stage.env()).await.unwrap();
        tx.commit().await.unwrap();
    }
}

/// However a hold ends, and whoever ends it at the same time, its amounts are given back once.
async fn a_hold_that_many_end_ends_once(engine: Engine) {
    let stage = Arc::new(stage(engine).await);
    for _ in 0..10 {
        let id = stage.id();
        let mut tx = stage.begin().await;
        let charges = vec![bytes(7), photos_of("gal_1", 1)];
        hold(
            &mut tx,
            stage.env(),
            id,
            HoldPurpose::new("upload"),
            charges,
        )
        .await
        .unwrap();
        tx.commit().await.unwrap();
        stage
            .test_env
            .advance_leases(TimeDelta::seconds(HOLD_SECONDS));
        let ended = Arc::new(AtomicUsize::new(0));
        let tasks = (0..12_usize).map(|n| {
            let (stage, ended) = (stage.clone(), ended.clone());
            tokio::spawn(async move {
                let env = stage.env();
                let mut tx = stage.begin().await;
                let ends = match n % 4 {
                    0 => usize::from(release(&mut tx, id).await?),
                    1 => expire_overdue(&mut tx, env).await?,
                    2 => match extend(&mut tx, env, id, Some(bytes(1))).await {
                        Ok(()) | Err(TakeError::NotHeld) => 0,
                        Err(error) => return Err(error),
                    },
                    _ => {
                        let actual = used(vec![bytes(7), photos_of("gal_1", 1)], "pho");
                        match settle(&mut tx, env, id, &actual).await {
                            Ok(()) => 1,
                            Err(TakeError::NotHeld) => return Ok(()),
                            Err(error) => return Err(error),
                        }
                    }
                };
                tx.commit().await?;
                ended.fetch_add(ends, Ordering::Relaxed);
                Ok(())
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap().unwrap();
        }
        assert_eq!(ended.load(Ordering::Relaxed), 1);
        assert_eq!(stage.store.discrepancies(&stage.scope).await, [""; 0]);
    }
}

/// Uploads that begin and end in a gallery while it is deleted for good: each photo that stands is counted, and
/// none stands in a gallery that is gone.
async fn a_gallery_is_deleted_under_uploads(engine: Engine) {
    use rawdrive_gallery::delete_gallery_permanently;
    let stage = Arc::new(stage(engine).await);
    for _ in 0..5 {
        let shelf = library(stage.env());
        let target = gallery(stage.env(), shelf.id);
        let mut tx = stage.begin().await;
        tx.insert_library(&shelf).await.unwrap();
        tx.insert_gallery(&target).await.unwrap();
        tx.commit().await.unwrap();
        let tasks = (0..16_usize).map(|n| {
            let (stage, target) = (stage.clone(), target.id);
            tokio::spawn(async move {
                let env = stage.env();
                let mut tx = stage.begin().await;
                if n == 8 {
                    delete_gallery_permanently(&mut tx, env, target).await?;
                    tx.commit().await?;
                    return Ok(());
                }
                if tx.gallery(target).await?.is_none() {
                    return Ok(());
                }
                let new = photo(env, target, 3);
                let id = new.id.hold();
                let charges = vec![photos_of(&target.to_string(), 1), bytes(3)];
                hold(
                    &mut tx,
                    env,
                    id,
                    HoldPurpose::new("upload"),
                    charges.clone(),
                )
                .await?;
                tx.commit().await?;
                let mut tx = stage.begin().await;
                let actual = used(charges, new.id);
                settle(&mut tx, env, id, &actual).await?;
                if tx.gallery(target).await?.is_none() {
                    drop(tx);
                    let mut tx = stage.begin().await;
                    release(&mut tx, id).await?;
                    tx.commit().await?;
                    return Ok(());
                }
                tx.insert_photo(&new).await?;
                tx.commit().await?;
                Ok::<_, TakeError>(())
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap().unwrap();
        }
        assert_eq!(stage.store.discrepancies(&stage.scope).await, [""; 0]);
        let snapshot = stage.store.store.snapshot().await.unwrap();
        assert_eq!(
            rawdrive_gallery::sql::pieces(&snapshot, &stage.scope)
                .await
                .unwrap()
                .len(),
            0,
            "all went with it"
        );
    }
}

/// What was used, as it was held.
fn used(charges: Vec<Charge>, subject: impl ToString) -> Vec<(Charge, String)> {
    let charges = charges.into_iter();
    charges
        .map(|charge| (charge, subject.to_string()))
        .collect()
}

/// Entries and lines that are written at once are numbered one by one, the first ones too.
async fn the_chain_and_the_ledger_take_everyone_in_turn(engine: Engine) {
    let stage = Arc::new(stage(engine).await);
    let tasks = (0..40_u64).map(|n| {
        let stage = stage.clone();
        tokio::spawn(async move {
            let mut tx = stage.begin().await;
            add(&mut tx, stage.env(), bytes(1), n.to_string())
                .await
                .unwrap();
            let change = Change {
                action: "workspace.changed",
                subject: n.to_string(),
                before: serde_json::Value::Null,
                after: serde_json::Value::Null,
            };
            tx.record(change);
            tx.commit().await.unwrap();
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let (entries, head) = stage.store.audit(&stage.scope).await;
    assert_eq!(entries.len(), 40);
    rawdrive_tenancy_core::audit::verify(&entries, head).unwrap();
    let lines = stage.store.ledger(&stage.scope).await;
    let seqs: Vec<_> = lines.iter().map(|line| line.seq).collect();
    assert_eq!(seqs, (1..=40).collect::<Vec<_>>());
}

/// Whoever lowers a limit waits for takes under way, and later takes see it.
async fn a_limit_that_falls_holds_from_the_next_take_on(engine: Engine) {
    let stage = Arc::new(stage(engine).await);
    stage
        .limit(rawdrive_gallery::STORAGE_BYTES, Limit::AtMost(1_000))
        .await;
    let tasks = (0..60_u64).map(|n| {
        let stage = stage.clone();
        tokio::spawn(async move {
            if n % 20 == 10 {
                let store = &stage.store.store;
                let release = rawdrive_store::Release::System;
                let mut tx = store
                    .begin_despite_read_only(&stage.scope, release)
                    .await
                    .unwrap();
                let new = Override {
                    id: stage.id(),
                    setting: Setting::Limit(
                        rawdrive_gallery::STORAGE_BYTES,
                        Limit::AtMost(30 - n / 5),
                    ),
                    reason: "test".to_owned(),
                    until: None,
                };
                tx.add_override(&new).await.unwrap();
                tx.commit().await.unwrap();
                return true;
            }
            match take_one(&stage.store.store, &stage.scope).await {
                Ok(()) => true,
                Err(TakeError::Exceeded(_)) => false,
                Err(error) => panic!("{error:?}"),
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let refused = take_one(&stage.store.store, &stage.scope).await;
    let mut tx = stage.begin().await;
    let entitlements = tx.entitlements().await.unwrap();
    assert_eq!(
        entitlements.overrides.len(),
        4,
        "each has a place of its own"
    );
    let used = rawdrive_usage::UsageTx::quota(&mut tx, &bytes(0).key)
        .await
        .unwrap()
        .reserved;
    let limit = entitlements
        .limit(&rawdrive_gallery::STORAGE_BYTES, stage.env().now())
        .value;
    assert_eq!(refused.is_err(), limit.bound().unwrap() <= used);
}

/// Several servers of one database lease each job once.
async fn servers_share_the_work(engine: Engine) {
    let stage = stage(engine).await;
    const JOBS: usize = 120;
    for n in 0..JOBS {
        let scope = if n % 3 == 0 {
            &stage.other
        } else {
            &stage.scope
        };
        let mut tx = stage.store.store.begin(scope).await.unwrap();
        tx.enqueue(&ReviewThresholds {}, None).unwrap();
        tx.commit().await.unwrap();
    }
    let tasks = (0..6).map(|_| {
        let store = stage.store.store.clone();
        tokio::spawn(async move {
            let mut mine = Vec::new();
            loop {
                let jobs = store.lease_jobs(7, TimeDelta::seconds(60)).await.unwrap();
                assert!(jobs.len() <= 7);
                if jobs.is_empty() {
                    return mine;
                }
                for job in jobs {
                    assert_eq!(job.attempts, 1);
                    store.finish_job(&job).await.unwrap();
                    mine.push(job.id);
                }
            }
        })
    });
    let mut done = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        done.extend(task.await.unwrap());
    }
    // Who found all of them leased by others has stopped: what is left is leased by nobody.
    for job in stage
        .store
        .store
        .lease_jobs(1_000, TimeDelta::seconds(60))
        .await
        .unwrap()
    {
        done.push(job.id);
    }
    assert_eq!(done.len(), JOBS);
    done.sort_unstable();
    done.dedup();
    assert_eq!(done.len(), JOBS, "each once");
}

/// Of many requests with one key one goes on, and the others are told that it is under way.
async fn a_key_is_claimed_once(engine: Engine) {
    let stage = stage(engine).await;
    for n in 0..10 {
        let tasks = (0..12).map(|_| {
            let (store, scope) = (stage.store.store.clone(), stage.scope);
            tokio::spawn(async move {
                store
                    .claim_key(&scope, &format!("k{n}"), [1; 32])
                    .await
                    .unwrap()
            })
        });
        let mut claims = 0;
        for task in tasks.collect::<Vec<_>>() {
            match task.await.unwrap() {
                Claimed::Mine(_) => claims += 1,
                Claimed::InFlight { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(claims, 1);
    }
}

/// Counters are changed by one at a time, whatever the order in which their keys are named; what is not changed leaves
/// no row.
async fn counters_take_everyone_in_turn(engine: Engine) {
    let stage = stage(engine).await;
    let store = &stage.store.store;
    let (one, two, untouched) = ([1; 32], [2; 32], [3; 32]);
    let ends_at = store.env().now() + TimeDelta::hours(1);
    let tasks = (0..40).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            let keys = if n % 2 == 0 {
                [one, two, untouched]
            } else {
                [untouched, two, one]
            };
            let change = |counts: &mut [Option<Count>]| {
                let mut admitted = 0;
                for (key, count) in keys.iter().zip(counts) {
                    let used = count.map_or(0, |count| count.used);
                    if *key != untouched && used < 25 {
                        *count = Some(Count {
                            used: used + 1,
                            ends_at,
                        });
                        admitted += 1;
                    }
                }
                admitted
            };
            store.change(&keys, change).await.unwrap()
        })
    });
    let mut admitted = 0;
    for task in tasks.collect::<Vec<_>>() {
        admitted += task.await.unwrap();
    }
    assert_eq!(admitted, 50);
    let full = Some(Count { used: 25, ends_at });
    let counts = store.counts(&[two, untouched, one]).await.unwrap();
    assert_eq!(counts, [full, None, full]);
    store
        .change(&[one], |counts| counts[0] = None)
        .await
        .unwrap();
    assert_eq!(store.counts(&[one, two]).await.unwrap(), [None, full]);
}

/// Of many who change what they have seen, one at a time succeeds.
async fn a_gallery_is_changed_by_one_at_a_time(engine: Engine) {
    let stage = Arc::new(stage(engine).await);
    let shelf = library(stage.env());
    let target = gallery(stage.env(), shelf.id);
    let mut tx = stage.begin().await;
    tx.insert_library(&shelf).await.unwrap();
    tx.insert_gallery(&target).await.unwrap();
    tx.commit().await.unwrap();
    let written = Arc::new(AtomicU64::new(0));
    let tasks = (0..24).map(|_| {
        let (stage, id, written) = (stage.clone(), target.id, written.clone());
        tokio::spawn(async move {
            let mut tx = stage.begin().await;
            let mut seen = tx.gallery(id).await.unwrap().unwrap();
            seen.version += 1;
            match tx.update_gallery(&seen).await {
                Ok(()) => {
                    tx.commit().await.unwrap();
                    written.fetch_add(1, Ordering::Relaxed);
                }
                Err(StoreError::Taken { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let seen = stage
        .begin()
        .await
        .gallery(target.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(u64::from(seen.version), 1 + written.load(Ordering::Relaxed));
}

/// Who adds a library is told whether it is the only one, and nobody makes that untrue before it is committed.
async fn who_adds_a_library_knows_whether_it_is_the_only_one(engine: Engine) {
    let stage = Arc::new(stage(engine).await);
    let add = async |tx: &mut WriteTx| {
        let new = library(stage.env());
        (tx.insert_library(&new).await.unwrap(), new.id)
    };
    let delete = |ids: Vec<LibraryId>| {
        let stage = stage.clone();
        async move {
            let (store, scope) = (&stage.store.store, &stage.scope);
            let begun = store.begin_despite_read_only(scope, Release::Emptying);
            let mut tx = begun.await.unwrap();
            for id in ids {
                let deleted = tx.delete_library(id).await.unwrap();
                assert_eq!(deleted, LibraryDeletion::Deleted);
            }
            tx
        }
    };
    let mut tx = stage.begin().await;
    let (is_only, first) = add(&mut tx).await;
    assert!(is_only);
    tx.commit().await.unwrap();

    // One that is being added has seen the first: who deletes that waits.
    let mut adding = stage.begin().await;
    let (is_only, second) = add(&mut adding).await;
    assert!(!is_only);
    let deleting = tokio::spawn(delete(vec![first]));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!deleting.is_finished(), "it did not wait");
    adding.commit().await.unwrap();
    deleting.await.unwrap().commit().await.unwrap();

    // And who adds one while the last is deleted sees that.
    let deleting = delete(vec![second]).await;
    let adding = tokio::spawn({
        let stage = stage.clone();
        async move {
            let mut tx = stage.begin().await;
            let new = library(stage.env());
            tx.insert_library(&new).await.unwrap()
        }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!adding.is_finished(), "it did not wait");
    deleting.commit().await.unwrap();
    assert!(adding.await.unwrap(), "it is the only one");
}

const ALL: PageRequest = PageRequest {
    limit: 200,
    after: None,
};

/// A library whose name names its workspace.
fn canary(env: &Env, scope: &WorkspaceScope) -> Library {
    let mut canary = library(env);
    canary.name = scope.workspace().to_string().parse().unwrap();
    canary
}

/// 200 tasks in 50 workspaces on a pool of two, with requests that are given up at any moment: nobody ever
/// sees a row of another workspace, and every connection is fit for the next request.
async fn a_small_pool_serves_many_workspaces_and_mixes_none(engine: Engine) {
    let test_env = TestEnv::seeded(7);
    let catalogue = rawdrive_gallery::built_in_catalogue();
    let database = match engine {
        Engine::Sqlite => Database::new(engine).await,
        _ => Database::with(engine, "&pool=2").await,
    };
    let store = database.open(test_env.env().clone(), &catalogue).await;
    let opened = Opened::new(store.clone());
    let plan = catalogue.newest(&"enterprise".parse().unwrap()).unwrap();
    let mut scopes = Vec::new();
    for _ in 0..50 {
        let scope = opened.workspace(&plan).await;
        let mut tx = store.begin(&scope).await.unwrap();
        tx.insert_library(&canary(store.env(), &scope))
            .await
            .unwrap();
        tx.commit().await.unwrap();
        scopes.push(scope);
    }
    let scopes = Arc::new(scopes);
    let requests = from_env("RAWDRIVE_TEST_REQUESTS", 5_000);
    let counter = Arc::new(AtomicUsize::new(0));
    let given_up = Arc::new(AtomicUsize::new(0));
    let tasks = (0..200_usize).map(|task| {
        let (store, scopes, counter, given_up) = (
            store.clone(),
            scopes.clone(),
            counter.clone(),
            given_up.clone(),
        );
        tokio::spawn(async move {
            loop {
                let n = counter.fetch_add(1, Ordering::Relaxed);
                if n >= requests {
                    return;
                }
                let scope = scopes[(n * 31 + task * 17) % scopes.len()];
                let request = request(&store, &scope, n);
                // By the number of the request: some are given up at once, some on the way, most never.
                let patience = match n % 5 {
                    0 => std::time::Duration::from_micros((n as u64 * 7_919) % 6_000),
                    _ => std::time::Duration::from_secs(60),
                };
                let answered = if n % 5 == 1 {
                    for_some_polls(1 + n % 11, request).await.is_some()
                } else {
                    tokio::time::timeout(patience, request).await.is_ok()
                };
                if !answered {
                    assert!(n % 5 < 2, "nobody waits for ever");
                    given_up.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert!(
        given_up.load(Ordering::Relaxed) > requests / 50,
        "some were given up"
    );
    if engine != Engine::Sqlite {
        assert_no_transaction_stands_open(&database).await;
    }
    for scope in scopes.iter() {
        assert_own(&store, scope).await;
    }
}

/// Whoever gives up while a transaction begins leaves none behind, and no right that the next request would have.
async fn a_beginning_that_is_given_up_leaves_no_transaction(engine: Engine) {
    let stage = stage(engine).await;
    let mut given_up = 0;
    // The last of each round is given up first of all, so that no later one tidies up after it.
    for n in 0..200 {
        let polls = 5 - n % 5;
        let begun = for_some_polls(polls, stage.store.store.begin(&stage.scope)).await;
        given_up += u32::from(begun.is_none());
    }
    assert!(given_up > 20, "{given_up} were given up");
    stage.store.assert_no_transaction_stands_open().await;
    take_one(&stage.store.store, &stage.scope).await.unwrap();
}

/// What a future comes to, if it comes to something at so many polls; otherwise it is dropped where it stands.
async fn for_some_polls<F: Future>(mut polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| {
        polls -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if polls == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

impl Opened {
    async fn assert_no_transaction_stands_open(&self) {
        if self.store.backend() == rawdrive_store::Backend::Postgres {
            assert_no_transaction_stands_open(self.database()).await;
        }
    }
}

/// A request that was given up has rolled back, and its connection is in no transaction any more.
async fn assert_no_transaction_stands_open(database: &Database) {
    const OPEN: &str = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND state LIKE 'idle in transaction%' AND usename <> current_user";
    let mut on = database.connect_as_superuser().await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let row = on.fetch_one(OPEN).await.unwrap();
        let open: i64 = row.get(0);
        if open == 0 {
            return;
        }
        // The last rollbacks are under way, and the view tells nobody of them who does not ask.
        assert!(
            std::time::Instant::now() < deadline,
            "{open} sessions stay in a transaction"
        );
        tokio::task::yield_now().await;
    }
}

async fn assert_own(store: &Store, scope: &WorkspaceScope) {
    let own = scope.workspace().to_string();
    let by_age = rawdrive_gallery::NameListing::default();
    let reader = store.read(scope);
    let libraries = reader.libraries(&by_age, ALL).await.unwrap().items;
    assert!(!libraries.is_empty(), "a canary of its own");
    assert!(
        libraries.iter().all(|l| l.name.to_string() == own),
        "{libraries:?}"
    );
}

async fn request(store: &Store, scope: &WorkspaceScope, n: usize) {
    match n % 3 {
        0 => {
            let mut tx = store.begin(scope).await.unwrap();
            let new = canary(store.env(), scope);
            tx.insert_library(&new).await.unwrap();
            let read = tx.library(new.id).await.unwrap().unwrap();
            assert_eq!(read.name.to_string(), scope.workspace().to_string());
            // Most of them are dropped.
            if n.is_multiple_of(30) {
                tx.commit().await.unwrap();
            }
        }
        1 => assert_own(store, scope).await,
        _ => {
            let workspace = store.read(scope).workspace().await.unwrap();
            assert_eq!(workspace.id, scope.workspace());
            let entitlements = store.read(scope).entitlements().await.unwrap();
            assert_eq!(entitlements.workspace, scope.workspace());
        }
    }
}

on_every_database![
    of_a_thousand_takes_as_many_succeed_as_fit,
    refused_takes_that_expire_holds_do_not_wait_for_each_other,
    a_hold_that_many_end_ends_once,
    a_gallery_is_deleted_under_uploads,
    the_chain_and_the_ledger_take_everyone_in_turn,
    a_limit_that_falls_holds_from_the_next_take_on,
    servers_share_the_work,
    a_key_is_claimed_once,
    counters_take_everyone_in_turn,
    a_gallery_is_changed_by_one_at_a_time,
    who_adds_a_library_knows_whether_it_is_the_only_one,
    a_small_pool_serves_many_workspaces_and_mixes_none,
    a_beginning_that_is_given_up_leaves_no_transaction,
];
