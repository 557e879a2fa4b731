use chrono::{DateTime, TimeDelta};
use proptest::prelude::*;
use rawdrive_plans::{Limit, Metric, Thresholds};
use rawdrive_tenancy_core::Commit as _;
use rawdrive_tenancy_core::id::HoldId;
use rawdrive_testkit::quota_model::{operations, play};
use rawdrive_testkit::{MemoryStore, TestEnv, plan};
use rawdrive_usage::{
    Charge, Edges, HOLD_SECONDS, Hold, HoldPurpose, HoldState, Period, QuotaKey, QuotaRow,
    TakeError, UsageTx as _, add, edges, expire_overdue, extend, hold, hold_all, release, review,
    settle, subtract,
};

const BYTES: Metric = Metric::new("bytes");
const CALLS: Metric = Metric::new("calls");
const UPLOAD: HoldPurpose = HoldPurpose::new("upload");

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn counters_and_holds_are_what_the_model_says(operations in operations(30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let test_env = TestEnv::seeded(1);
        let store = MemoryStore::new(test_env.env().clone());
        runtime.block_on(play(&store, &test_env, &plan(&[]), &operations));
    }
}

#[test]
fn a_counter_is_of_a_metric_a_subject_and_a_period() {
    let start = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
    let period = Period {
        start,
        end: start + TimeDelta::days(30),
    };
    for (key, subject, period_start, is_level) in [
        (QuotaKey::level(BYTES), "", DateTime::UNIX_EPOCH, true),
        (
            QuotaKey::level_of(BYTES, 7),
            "7",
            DateTime::UNIX_EPOCH,
            true,
        ),
        (QuotaKey::flow(BYTES, period), "", start, false),
    ] {
        assert_eq!(key.metric, BYTES);
        assert_eq!(
            (key.subject.as_str(), key.period_start),
            (subject, period_start)
        );
        assert_eq!(key.is_level(), is_level);
    }
}

#[test]
fn names_are_what_is_stored() {
    let states = [
        HoldState::Held,
        HoldState::Committed,
        HoldState::Released,
        HoldState::Expired,
    ];
    assert_eq!(
        states.map(HoldState::as_str),
        ["held", "committed", "released", "expired"]
    );
    let upload = HoldPurpose::leaving("upload", "upload_ended");
    assert_eq!(
        (upload.name(), upload.cleanup()),
        ("upload", Some("upload_ended"))
    );
    assert_eq!((UPLOAD.name(), UPLOAD.cleanup()), ("upload", None));
    let stored = HoldPurpose::stored("upload".to_owned(), Some("upload_ended".to_owned()));
    assert_eq!(stored, upload);
}

#[test]
fn an_episode_begins_and_ends_by_its_own_bit() {
    let limit = Limit::AtMost(100);
    for (used, fired, fire, rearm, after) in [
        (79, 0b000, &[][..], &[][..], 0b000),
        (80, 0b000, &[80], &[], 0b001),
        (90, 0b001, &[90], &[], 0b011),
        (100, 0b000, &[80, 90, 100], &[], 0b111),
        (94, 0b111, &[], &[100], 0b011),
        (84, 0b011, &[], &[90], 0b001),
        (0, 0b111, &[], &[80, 90, 100], 0b000),
    ] {
        let thresholds = Thresholds::default();
        let found = edges(used, limit, &thresholds, fired);
        let goes_on = thresholds.iter().filter(|t| t.bit & fired & after != 0);
        let expected = Edges {
            fire: fire.to_vec(),
            rearm: rearm.to_vec(),
            kept: goes_on.map(|threshold| threshold.percent).collect(),
            fired: after,
        };
        assert_eq!(found, expected, "{used} after {fired:b}");
        assert_eq!(found.notice(), fire.last().copied());
        assert_eq!(found.is_empty(), fire.is_empty() && rearm.is_empty());
    }
}

struct Stage {
    test_env: TestEnv,
    store: MemoryStore,
    scope: rawdrive_tenancy_core::WorkspaceScope,
}

impl Stage {
    async fn with(limits: &[(Metric, Limit)]) -> Self {
        let test_env = TestEnv::seeded(1);
        let store = MemoryStore::new(test_env.env().clone());
        let scope = store.workspace(&plan(limits)).await.expect("a workspace");
        Self {
            test_env,
            store,
            scope,
        }
    }

    fn bytes(amount: u64) -> Charge {
        Charge {
            key: QuotaKey::level(BYTES),
            amount,
        }
    }

    async fn hold(&self, amount: u64) -> Result<HoldId, TakeError> {
        let id = self.test_env.env().id();
        let mut tx = self.store.begin_despite_read_only(&self.scope).await;
        let charges = vec![Self::bytes(amount)];
        hold(&mut tx, self.test_env.env(), id, UPLOAD, charges).await?;
        tx.commit().await?;
        Ok(id)
    }

    fn row(&self) -> QuotaRow {
        let rows = self.store.rows(&self.scope);
        let row = rows.quotas.get(&QuotaKey::level(BYTES));
        row.copied().unwrap_or_default()
    }

    fn numbers(&self) -> (u64, u64) {
        let row = self.row();
        (row.used, row.reserved)
    }
}

#[tokio::test]
async fn a_hold_lasts_sixty_seconds_of_real_time_from_its_last_renewal() {
    let stage = Stage::with(&[(BYTES, Limit::AtMost(10))]).await;
    let env = stage.test_env.env();
    let id = stage.hold(4).await.unwrap();
    stage
        .test_env
        .advance_leases(TimeDelta::seconds(HOLD_SECONDS - 1));
    let mut tx = stage.store.begin_despite_read_only(&stage.scope).await;
    assert_eq!(expire_overdue(&mut tx, env).await.unwrap(), 0);
    extend(&mut tx, env, id, None).await.unwrap();
    tx.commit().await.unwrap();
    stage
        .test_env
        .advance_leases(TimeDelta::seconds(HOLD_SECONDS - 1));
    let mut tx = stage.store.begin_despite_read_only(&stage.scope).await;
    assert_eq!(expire_overdue(&mut tx, env).await.unwrap(), 0);
    drop(tx);
    stage.test_env.advance_leases(TimeDelta::seconds(1));
    let mut tx = stage.store.begin_despite_read_only(&stage.scope).await;
    assert_eq!(expire_overdue(&mut tx, env).await.unwrap(), 1);
    tx.commit().await.unwrap();
    assert_eq!(stage.numbers(), (0, 0));
    let mut tx = stage.store.begin_despite_read_only(&stage.scope).await;
    let late = extend(&mut tx, env, id, None).await;
    assert!(matches!(late, Err(TakeError::NotHeld)), "{late:?}");
    let late = extend(&mut tx, env, id, Some(Stage::bytes(1))).await;
    assert!(matches!(late, Err(TakeError::NotHeld)), "{late:?}");
    assert!(!release(&mut tx, id).await.unwrap());
}

#[tokio::test]
async fn a_refusal_says_what_is_in_the_way() {
    let stage = Stage::with(&[(BYTES, Limit::AtMost(10))]).await;
    let env = stage.test_env.env();
    stage.hold(4).await.unwrap();
    let mut tx = stage.store.begin_despite_read_only(&stage.scope).await;
    add(&mut tx, env, Stage::bytes(3), "doc".to_owned())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    match stage.hold(4).await {
        Err(TakeError::Exceeded(exceeded)) => {
            assert_eq!(exceeded.metric, BYTES);
            let denied = exceeded.denied;
            assert_eq!((denied.current, denied.requested, denied.limit), (7, 4, 10));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(stage.numbers(), (3, 4));
    stage.hold(3).await.unwrap();
    assert_eq!(stage.numbers(), (3, 7));
}

#[tokio::test]
async fn what_is_settled_is_used_and_what_is_released_is_free() {
    let stage = Stage::with(&[(BYTES, Limit::AtMost(10))]).await;
    let env = stage.test_env.env();
    let (first, second) = (stage.hold(4).await.unwrap(), stage.hold(5).await.unwrap());
    let mut tx = stage.store.begin_despite_read_only(&stage.scope).await;
    let actual = [(Stage::bytes(3), "doc_1".to_owned())];
    settle(&mut tx, env, first, &actual).await.unwrap();
    assert!(release(&mut tx, second).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(stage.numbers(), (3, 0));
    let rows = stage.store.rows(&stage.scope);
    assert_eq!(rows.holds[&first].state, HoldState::Committed);
    assert_eq!(rows.holds[&second].state, HoldState::Released);
    let lines: Vec<_> = rows
        .ledger
        .iter()
        .map(|line| (line.quantity, line.subject.as_str()))
        .collect();
    assert_eq!(lines, [(3, "doc_1")]);
    let mut tx = stage.store.begin_despite_read_only(&stage.scope).await;
    subtract(&mut tx, env, Stage::bytes(2), "doc_1".to_owned())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(stage.numbers(), (1, 0));
    assert_eq!(stage.store.rows(&stage.scope).discrepancies(), [""; 0]);
}

#[tokio::test]
async fn several_are_held_by_their_sum_or_not_at_all() {
    let stage = Stage::with(&[(BYTES, Limit::AtMost(10)), (CALLS, Limit::AtMost(2))]).await;
    let env = stage.test_env.env();
    let holds = |amounts: &[(u64, u64)]| -> Vec<Hold> {
        let hold = |(bytes, calls): &(u64, u64)| Hold {
            id: env.id(),
            purpose: UPLOAD,
            charges: vec![
                Stage::bytes(*bytes),
                Charge {
                    key: QuotaKey::level(CALLS),
                    amount: *calls,
                },
            ],
        };
        amounts.iter().map(hold).collect()
    };
    for (amounts, fits) in [
        (&[(5, 1), (5, 1)][..], true),
        (&[(5, 1), (6, 1)], false),
        (&[(1, 1), (1, 2)], false),
        (&[], true),
    ] {
        let mut tx = stage.store.begin_despite_read_only(&stage.scope).await;
        let held = hold_all(&mut tx, env, &holds(amounts)).await.unwrap();
        assert_eq!(held, fits, "{amounts:?}");
        let row = tx.quota(&QuotaKey::level(BYTES)).await.unwrap();
        let sum: u64 = amounts.iter().map(|(bytes, _)| bytes).sum();
        if fits {
            assert_eq!(row.reserved, sum);
        }
    }
}

/// What the workspace was told of.
fn told(stage: &Stage) -> Vec<(u64, u64)> {
    use rawdrive_tenancy_core::event::DeliverEvent;
    let rows = stage.store.rows(&stage.scope);
    let events = rows.jobs.iter();
    let events = events.filter_map(|(job, _)| job.as_kind::<DeliverEvent>());
    let facts = events.map(|deliver| {
        assert_eq!(deliver.event.kind, "usage.threshold_crossed");
        assert_eq!(deliver.event.facts["metric"], "bytes");
        assert_eq!(deliver.event.facts["limit"], 10);
        let number = |name: &str| deliver.event.facts[name].as_u64().expect("a number");
        (number("threshold"), number("used"))
    });
    facts.collect()
}

#[tokio::test]
async fn a_threshold_is_told_once_and_by_a_review_as_well() {
    let stage = Stage::with(&[(BYTES, Limit::AtMost(10))]).await;
    let env = stage.test_env.env();
    let change = async |by: i64| {
        let mut tx = stage.store.begin_despite_read_only(&stage.scope).await;
        let charge = Stage::bytes(by.unsigned_abs());
        if by > 0 {
            add(&mut tx, env, charge, "doc".to_owned()).await.unwrap();
        } else {
            subtract(&mut tx, env, charge, "doc".to_owned())
                .await
                .unwrap();
        }
        tx.commit().await.unwrap();
    };
    change(7).await;
    assert_eq!(told(&stage), []);
    change(2).await;
    assert_eq!(told(&stage), [(90, 9)], "the highest alone");
    change(1).await;
    change(-1).await;
    assert_eq!(told(&stage), [(90, 9), (100, 10)]);
    change(-5).await;
    change(5).await;
    assert_eq!(
        told(&stage),
        [(90, 9), (100, 10), (90, 9)],
        "fallen and risen"
    );
    assert_eq!(stage.row().fired, 0b011);
    // The same usage under another limit.
    let mut tx = stage.store.begin_despite_read_only(&stage.scope).await;
    use rawdrive_plans::PlansTx as _;
    tx.move_to_plan(&plan(&[(BYTES, Limit::AtMost(1_000))]))
        .await
        .unwrap();
    review(&mut tx, env).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(stage.row().fired, 0);
    let mut tx = stage.store.begin_despite_read_only(&stage.scope).await;
    tx.move_to_plan(&plan(&[(BYTES, Limit::AtMost(10))]))
        .await
        .unwrap();
    review(&mut tx, env).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(told(&stage).len(), 4);
}

#[tokio::test]
async fn a_review_leaves_periods_that_are_over_alone() {
    let stage = Stage::with(&[(CALLS, Limit::AtMost(10))]).await;
    let env = stage.test_env.env();
    let key = QuotaKey::flow(CALLS, Period::containing(env.now(), None));
    let charge = Charge {
        key: key.clone(),
        amount: 5,
    };
    let mut tx = stage.store.begin_despite_read_only(&stage.scope).await;
    add(&mut tx, env, charge, "call".to_owned()).await.unwrap();
    tx.commit().await.unwrap();
    let fired = async |months_later: i64| {
        stage.test_env.advance(TimeDelta::days(31 * months_later));
        let mut tx = stage.store.begin_despite_read_only(&stage.scope).await;
        use rawdrive_plans::PlansTx as _;
        tx.move_to_plan(&plan(&[(CALLS, Limit::AtMost(5))]))
            .await
            .unwrap();
        review(&mut tx, stage.test_env.env()).await.unwrap();
        tx.quota(&key).await.unwrap().fired
    };
    assert_eq!(fired(0).await, 0b111);
    assert_eq!(fired(1).await, 0, "nobody is warned any more");
}
