//! What a runtime promises, on every database.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test are test code, which clippy knows of functions marked as tests alone"
)]

#[path = "../../store/tests/support/mod.rs"]
#[macro_use]
mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::TimeDelta;
use rawdrive_identity::ports::{IdentityTx, NewWorkspace};
use rawdrive_identity::{Currency, WorkspaceName};
use rawdrive_onboarding::{ONBOARDING_COMPLETED, Step};
use rawdrive_plans::{PlansTx, ReviewThresholds};
use rawdrive_runtime::{Builder, JobContext, JobError, Runtime};
use rawdrive_store::{Release, Store};
use rawdrive_tenancy_core::event::{DomainEvent, EventsTx};
use rawdrive_tenancy_core::id::{JobId, WorkspaceId};
use rawdrive_tenancy_core::job::{Job, JobKind, JobsTx};
use rawdrive_tenancy_core::{Commit, Env, WorkspaceScope};
use serde::{Deserialize, Serialize};
use support::{Database, Engine};
use tokio::time::{Instant, sleep, timeout};

#[derive(Debug, Serialize, Deserialize)]
struct Work {
    n: u32,
}
impl JobKind for Work {
    const NAME: &'static str = "work";
}

#[derive(Debug, Serialize, Deserialize)]
struct Hang {}
impl JobKind for Hang {
    const NAME: &'static str = "hang";
}

/// A store and its workspaces.
struct House {
    store: Store,
    scopes: Vec<WorkspaceScope>,
    _database: Database,
}

async fn house(engine: Engine, workspaces: usize) -> House {
    let database = Database::new(engine).await;
    let catalogue = rawdrive_gallery::built_in_catalogue();
    let store = database.open(Env::system(), &catalogue).await;
    let plan = catalogue.current().next().unwrap();
    let mut scopes = Vec::new();
    for _ in 0..workspaces {
        let scope = rawdrive_testkit::scope(store.env().id::<WorkspaceId>());
        let mut tx = begin(&store, &scope).await;
        let workspace = NewWorkspace {
            name: WorkspaceName::parse("Studio").unwrap(),
            slug: "studio".to_owned(),
            billing_email: None,
            currency: Currency::parse("usd").unwrap(),
            created_at: store.env().now(),
        };
        tx.insert_workspace(&workspace).await.unwrap();
        tx.insert_entitlements(plan).await.unwrap();
        tx.commit().await.unwrap();
        scopes.push(scope);
    }
    House {
        store,
        scopes,
        _database: database,
    }
}

async fn begin(store: &Store, scope: &WorkspaceScope) -> rawdrive_store::WriteTx {
    let begun = store.begin_despite_read_only(scope, Release::System).await;
    begun.unwrap()
}

async fn enqueue(store: &Store, scope: &WorkspaceScope, jobs: u32) {
    let mut tx = begin(store, scope).await;
    for n in 0..jobs {
        tx.enqueue(&Work { n }, None).unwrap();
    }
    tx.commit().await.unwrap();
}

async fn left(store: &Store) -> Vec<(String, u64)> {
    store.jobs_by_kind().await.unwrap()
}

/// Runs until `done`, for half a minute at most.
async fn run_until(builder: Builder, done: impl AsyncFn() -> bool) {
    let run = builder.build().run_until(
        async {
            let begun = Instant::now();
            while !done().await {
                assert!(begun.elapsed() < Duration::from_secs(30), "it ends in time");
                sleep(Duration::from_millis(20)).await;
            }
        },
        Duration::from_secs(10),
    );
    timeout(Duration::from_secs(50), run).await.unwrap();
}

/// Who was served, in order.
type Served = Arc<Mutex<Vec<WorkspaceId>>>;

fn serving(store: &Store, served: &Served) -> Builder {
    let served = served.clone();
    Runtime::builder(store.clone()).job(move |context: JobContext, _: Work| {
        served.lock().unwrap().push(context.scope().workspace());
        async { Ok(()) }
    })
}

async fn a_workspace_with_a_backlog_delays_another_by_two_rounds_at_most(engine: Engine) {
    let house = house(engine, 2).await;
    let [a, b] = &house.scopes[..] else { panic!() };
    enqueue(&house.store, a, 10_000).await;
    enqueue(&house.store, b, 1).await;
    let served = Served::default();
    let b = b.workspace();
    run_until(serving(&house.store, &served), async || {
        served.lock().unwrap().contains(&b)
    })
    .await;
    let at = served.lock().unwrap().iter().position(|of| *of == b);
    assert!(at.unwrap() < 16, "two rounds of eight: {at:?}");
}

async fn one_that_comes_while_a_backlog_is_worked_off_is_next(engine: Engine) {
    let house = house(engine, 2).await;
    let [a, b] = &house.scopes[..] else { panic!() };
    enqueue(&house.store, a, 10_000).await;
    let served = Served::default();
    let (store, other) = (house.store.clone(), *b);
    let came_at = Arc::new(AtomicU32::new(0));
    let b = b.workspace();
    let enqueued = tokio::sync::OnceCell::new();
    run_until(serving(&house.store, &served), async || {
        let so_far = served.lock().unwrap().len();
        if so_far > 20 {
            enqueued.get_or_init(|| enqueue(&store, &other, 1)).await;
            if came_at.load(Ordering::Relaxed) == 0 {
                let so_far = served.lock().unwrap().len();
                came_at.store(u32::try_from(so_far).unwrap(), Ordering::Relaxed);
            }
        }
        served.lock().unwrap().contains(&b)
    })
    .await;
    let at = served
        .lock()
        .unwrap()
        .iter()
        .position(|of| *of == b)
        .unwrap();
    let after = at.saturating_sub(came_at.load(Ordering::Relaxed) as usize);
    assert!(after <= 24, "two rounds of eight, and what ran: {after}");
}

async fn a_kind_that_hangs_delays_no_other(engine: Engine) {
    let house = house(engine, 2).await;
    for scope in &house.scopes {
        let mut tx = begin(&house.store, scope).await;
        for _ in 0..30 {
            tx.enqueue(&Hang {}, None).unwrap();
        }
        tx.commit().await.unwrap();
        enqueue(&house.store, scope, 40).await;
    }
    let served = Served::default();
    let builder = serving(&house.store, &served)
        .job(|_: JobContext, _: Hang| std::future::pending::<Result<(), JobError>>());
    let begun = Instant::now();
    let run = tokio::spawn(builder.build().run());
    while served.lock().unwrap().len() < 80 {
        assert!(begun.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(20)).await;
    }
    // Dropping it is safe.
    run.abort();
    let _ = run.await;
    let hanging = left(&house.store)
        .await
        .into_iter()
        .find(|(kind, _)| kind == "hang");
    assert_eq!(hanging, Some(("hang".to_owned(), 60)));
}

async fn several_runtimes_do_each_job_once(engine: Engine) {
    let house = house(engine, 5).await;
    for scope in &house.scopes {
        enqueue(&house.store, scope, 60).await;
    }
    let done: Arc<Mutex<Vec<JobId>>> = Arc::default();
    let runtimes: Vec<_> = (0..3)
        .map(|_| {
            let done = done.clone();
            let builder = Runtime::builder(house.store.clone());
            let runtime = builder.job(move |context: JobContext, _: Work| {
                done.lock().unwrap().push(context.id());
                async move {
                    assert_eq!(context.attempts(), 1);
                    Ok(())
                }
            });
            tokio::spawn(runtime.build().run())
        })
        .collect();
    let begun = Instant::now();
    while !left(&house.store).await.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(40));
        sleep(Duration::from_millis(50)).await;
    }
    runtimes.iter().for_each(tokio::task::JoinHandle::abort);
    let done = done.lock().unwrap().clone();
    assert_eq!(done.len(), 300);
    assert_eq!(done.iter().collect::<BTreeSet<_>>().len(), 300, "each once");
}

async fn a_panic_is_tried_again_and_giving_up_ends(engine: Engine) {
    let house = house(engine, 1).await;
    enqueue(&house.store, &house.scopes[0], 3).await;
    let tries = Arc::new(AtomicU32::new(0));
    let counted = tries.clone();
    let builder =
        Runtime::builder(house.store.clone()).job(move |context: JobContext, work: Work| {
            counted.fetch_add(1, Ordering::Relaxed);
            async move {
                match work.n {
                    0 => assert!(context.attempts() > 1, "the first time"),
                    1 => return Err(JobError::give_up("it makes no sense")),
                    _ => {}
                }
                Ok(())
            }
        });
    let store = house.store.clone();
    run_until(builder, async || left(&store).await.is_empty()).await;
    assert_eq!(tries.load(Ordering::Relaxed), 4);
}

fn event(kind: &str) -> DomainEvent {
    DomainEvent {
        kind: kind.to_owned(),
        subject: "s".to_owned(),
        facts: serde_json::json!({}),
    }
}

async fn each_consumer_is_told_by_itself_and_one_that_fails_repeats_no_other(engine: Engine) {
    let house = house(engine, 1).await;
    let mut tx = begin(&house.store, &house.scopes[0]).await;
    for kind in ["quota.threshold", "quota.threshold", "nobody.cares"] {
        tx.emit(event(kind));
    }
    tx.commit().await.unwrap();
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let (one, all) = (told.clone(), told.clone());
    let builder = Runtime::builder(house.store.clone())
        .on("quota.threshold", move |_, event| {
            one.lock().unwrap().push(format!("one {}", event.kind));
            async { Ok(()) }
        })
        .on_all("all", move |context: JobContext, event| {
            all.lock().unwrap().push(format!("all {}", event.kind));
            async move {
                match context.attempts() {
                    1 => Err(std::io::Error::other("not yet").into()),
                    _ => Ok(()),
                }
            }
        });
    let store = house.store.clone();
    run_until(builder, async || left(&store).await.is_empty()).await;
    let mut told = told.lock().unwrap().clone();
    told.sort_unstable();
    let all = "all quota.threshold";
    let none = "all nobody.cares";
    let one = "one quota.threshold";
    assert_eq!(told, [none, none, all, all, all, all, one, one]);
}

async fn what_has_no_handler_or_cannot_be_read_is_kept(engine: Engine) {
    let house = house(engine, 1).await;
    let mut tx = begin(&house.store, &house.scopes[0]).await;
    tx.enqueue_job(
        Job::named("later", &serde_json::json!({"a": 1})).unwrap(),
        None,
    );
    tx.enqueue_job(
        Job::named("work", &serde_json::json!({"m": 1})).unwrap(),
        None,
    );
    tx.enqueue(&Work { n: 7 }, None).unwrap();
    tx.commit().await.unwrap();
    let served = Served::default();
    run_until(serving(&house.store, &served), async || {
        !served.lock().unwrap().is_empty()
    })
    .await;
    sleep(Duration::from_millis(200)).await;
    let kept = [("later".to_owned(), 1), ("work".to_owned(), 1)];
    assert_eq!(left(&house.store).await, kept);
    // Nobody has leased what has no handler.
    let leased = house
        .store
        .lease_jobs(10, TimeDelta::seconds(1))
        .await
        .unwrap();
    assert!(
        leased
            .iter()
            .any(|job| (job.job.kind(), job.attempts) == ("later", 1)),
        "{leased:?}"
    );
}

async fn onboarding_is_complete_by_the_steps_that_were_given(engine: Engine) {
    let named: fn(&rawdrive_onboarding::Facts) -> bool =
        |facts| facts.hold(rawdrive_onboarding::NAMED);
    for (done, completions) in [(named, 1), (|_| false, 0)] {
        let house = house(engine, 1).await;
        let mut tx = begin(&house.store, &house.scopes[0]).await;
        // Twice: it is told once.
        for _ in 0..2 {
            tx.enqueue(&ReviewThresholds {}, None).unwrap();
        }
        tx.commit().await.unwrap();
        let step = Step {
            id: "name",
            title: "Give it a name",
            needs: None,
            done,
        };
        let told = Arc::new(AtomicU32::new(0));
        let counted = told.clone();
        let builder = Runtime::builder(house.store.clone())
            .review_thresholds(vec![step])
            .on(ONBOARDING_COMPLETED, move |_, _| {
                counted.fetch_add(1, Ordering::Relaxed);
                async { Ok(()) }
            });
        let store = house.store.clone();
        run_until(builder, async || left(&store).await.is_empty()).await;
        assert_eq!(told.load(Ordering::Relaxed), completions);
    }
}

/// A job that finishes in its own transaction takes effect once: who has lost it in the meantime cannot commit.
async fn a_job_that_another_runner_holds_by_now_cannot_be_finished(engine: Engine) {
    let house = house(engine, 2).await;
    let [mine, other] = &house.scopes[..] else {
        panic!()
    };
    enqueue(&house.store, mine, 1).await;
    let lease = async |lease| house.store.lease_jobs(1, lease).await.unwrap().remove(0);
    let first = lease(TimeDelta::zero()).await;
    let second = lease(TimeDelta::seconds(60)).await;
    assert_eq!((first.id, second.attempts), (second.id, 2));
    for (scope, job, finishes) in [
        (mine, &first, false),
        (other, &second, false),
        (mine, &second, true),
    ] {
        let mut tx = begin(&house.store, scope).await;
        assert_eq!(tx.finish_job(job).await.is_ok(), finishes);
        if finishes {
            tx.commit().await.unwrap();
        }
    }
    assert_eq!(left(&house.store).await, []);
}

on_every_database![
    a_workspace_with_a_backlog_delays_another_by_two_rounds_at_most,
    one_that_comes_while_a_backlog_is_worked_off_is_next,
    a_kind_that_hangs_delays_no_other,
    several_runtimes_do_each_job_once,
    a_panic_is_tried_again_and_giving_up_ends,
    each_consumer_is_told_by_itself_and_one_that_fails_repeats_no_other,
    what_has_no_handler_or_cannot_be_read_is_kept,
    onboarding_is_complete_by_the_steps_that_were_given,
    a_job_that_another_runner_holds_by_now_cannot_be_finished,
];
