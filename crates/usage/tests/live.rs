//! Live usage over a cache in memory: whatever fails, nobody is told less than what their own server has
//! committed, and after one quiet round everybody is told what SQL holds.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test are test code, which clippy knows of functions marked as tests alone"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use rawdrive_plans::Metric;
use rawdrive_tenancy_core::StoreError;
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_testkit::contract::usage_cache::{MemorySubject, converges, level, workspace};
use rawdrive_testkit::usage_cache::{Dump, MemoryUsageCacheServer, Mood};
use rawdrive_usage::{
    CACHE_MAX, CACHE_PATIENCE, ChangedWorkspace, LiveRow, LiveSource, LiveUsage, QuotaKey, Reading,
    Republisher, cache_notes,
};
use tokio::time::Instant;

async fn start() -> MemorySubject {
    MemorySubject::default()
}

rawdrive_testkit::usage_cache_contract!(crate::start);

/// Rows with the times at which they changed.
type Rows = BTreeMap<(WorkspaceId, QuotaKey), (LiveRow, DateTime<Utc>)>;

/// What is committed, and the time.
#[derive(Debug, Clone)]
struct Sql(Arc<Mutex<(Rows, DateTime<Utc>)>>);

impl Sql {
    fn new() -> Self {
        let start = DateTime::UNIX_EPOCH + TimeDelta::seconds(1_790_000_000);
        Self(Arc::new(Mutex::new((Rows::new(), start))))
    }

    fn advance(&self, seconds: i64) {
        self.0.lock().unwrap().1 += TimeDelta::seconds(seconds);
    }

    /// Commits a change of a counter.
    fn commit(&self, workspace: WorkspaceId, key: QuotaKey, used: u64) -> LiveRow {
        let mut sql = self.0.lock().unwrap();
        let now = sql.1;
        let untouched = (LiveRow::untouched(key.clone()), now);
        let (row, at) = sql.0.entry((workspace, key)).or_insert(untouched);
        row.version += 1;
        row.used = used;
        *at = now;
        row.clone()
    }

    fn row(&self, workspace: WorkspaceId, key: &QuotaKey) -> LiveRow {
        let sql = self.0.lock().unwrap();
        let row = sql.0.get(&(workspace, key.clone()));
        row.map_or_else(|| LiveRow::untouched(key.clone()), |(row, _)| row.clone())
    }

    fn all(&self, workspace: WorkspaceId) -> Vec<LiveRow> {
        let sql = self.0.lock().unwrap();
        let own = sql.0.iter().filter(|((of, _), _)| *of == workspace);
        own.map(|(_, (row, _))| row.clone()).collect()
    }
}

impl LiveSource for Sql {
    fn now(&self) -> DateTime<Utc> {
        self.0.lock().unwrap().1
    }

    async fn changed(
        &self,
        since: DateTime<Utc>,
        after: Option<WorkspaceId>,
        limit: u32,
    ) -> Result<Vec<ChangedWorkspace>, StoreError> {
        let mut changed: BTreeMap<WorkspaceId, ChangedWorkspace> = BTreeMap::new();
        for ((workspace, _), (row, at)) in &self.0.lock().unwrap().0 {
            if *at >= since && after.is_none_or(|after| *workspace > after) {
                let none = ChangedWorkspace {
                    workspace: *workspace,
                    rows: 0,
                    versions: 0,
                };
                let of = changed.entry(*workspace).or_insert(none);
                of.rows += 1;
                of.versions += row.version;
            }
        }
        Ok(changed.into_values().take(limit as usize).collect())
    }

    async fn rows_changed(
        &self,
        workspace: WorkspaceId,
        since: DateTime<Utc>,
    ) -> Result<Vec<LiveRow>, StoreError> {
        let sql = self.0.lock().unwrap();
        let rows = sql
            .0
            .iter()
            .filter(|((of, _), (_, at))| *of == workspace && *at >= since);
        Ok(rows.map(|(_, (row, _))| row.clone()).collect())
    }

    async fn workspaces(
        &self,
        after: Option<WorkspaceId>,
        limit: u32,
    ) -> Result<Vec<WorkspaceId>, StoreError> {
        let all = (1..=WORKSPACES).map(workspace);
        let page = all.filter(|workspace| after.is_none_or(|after| *workspace > after));
        Ok(page.take(limit as usize).collect())
    }

    async fn rows(
        &self,
        workspace: WorkspaceId,
        _: DateTime<Utc>,
    ) -> Result<Vec<LiveRow>, StoreError> {
        Ok(self.all(workspace))
    }
}

const WORKSPACES: u128 = 3;

fn keys() -> [QuotaKey; 2] {
    let flow = QuotaKey {
        metric: Metric::new("reports"),
        subject: String::new(),
        period_start: DateTime::UNIX_EPOCH + TimeDelta::seconds(1_789_000_000),
    };
    [QuotaKey::level(Metric::new("storage_bytes")), flow]
}

/// A process: what it has committed so far, and its view of the cache.
struct Process {
    live: LiveUsage,
    republisher: Republisher<Sql>,
}

impl Process {
    fn start(server: &MemoryUsageCacheServer, sql: &Sql) -> Self {
        let live = LiveUsage::new(Arc::new(server.client()));
        Self {
            republisher: Republisher::new(live.clone(), sql.clone()),
            live,
        }
    }

    /// As the store reads: by the cache, and SQL otherwise, which fills the gap.
    async fn read(&self, sql: &Sql, workspace: WorkspaceId) -> Option<Vec<LiveRow>> {
        match self.live.read(workspace, &keys()).await {
            Reading::Rows(rows) => Some(rows),
            Reading::Unavailable => None,
            Reading::Missing(gap) => {
                let periods = keys().map(|key| key.period_start).to_vec();
                self.live
                    .fill_beside(gap, workspace, periods, sql.all(workspace));
                tokio::task::yield_now().await;
                None
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Commit {
        process: usize,
        workspace: u128,
        key: usize,
    },
    /// The process dies between the commit and its publication, and starts again.
    CommitAndDie {
        process: usize,
        workspace: u128,
        key: usize,
    },
    Read {
        process: usize,
        workspace: u128,
    },
    Round {
        process: usize,
    },
    Advance(i64),
    Lose(usize),
    Empty,
    Save,
    Restart {
        from_dump: bool,
    },
    Away,
    Back,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let process = || 0..2_usize;
    let workspace = || 1..=WORKSPACES;
    let step = prop_oneof![
        8 => (process(), workspace(), 0..2_usize)
            .prop_map(|(process, workspace, key)| Step::Commit { process, workspace, key }),
        1 => (process(), workspace(), 0..2_usize)
            .prop_map(|(process, workspace, key)| Step::CommitAndDie { process, workspace, key }),
        8 => (process(), workspace()).prop_map(|(process, workspace)| Step::Read { process, workspace }),
        6 => process().prop_map(|process| Step::Round { process }),
        3 => (0..8_i64).prop_map(Step::Advance),
        1 => (1..3_usize).prop_map(Step::Lose),
        1 => Just(Step::Empty),
        1 => Just(Step::Save),
        1 => any::<bool>().prop_map(|from_dump| Step::Restart { from_dump }),
        1 => Just(Step::Away),
        2 => Just(Step::Back),
    ];
    prop::collection::vec(step, 0..80)
}

/// What a history proves: how often a reader was told something by the cache.
async fn play(steps: &[Step]) -> usize {
    let (server, sql) = (MemoryUsageCacheServer::default(), Sql::new());
    let mut processes = [Process::start(&server, &sql), Process::start(&server, &sql)];
    let mut own: BTreeMap<(usize, WorkspaceId, QuotaKey), u64> = BTreeMap::new();
    let (mut saved, mut used, mut told) = (Dump::default(), 0, 0);
    for step in steps {
        match step {
            Step::Commit {
                process,
                workspace: of,
                key,
            } => {
                used += 1;
                let (of, key) = (workspace(*of), keys()[*key].clone());
                let row = sql.commit(of, key.clone(), used);
                own.insert((*process, of, key), row.version);
                processes[*process].live.publish(of, vec![row]).await;
            }
            Step::CommitAndDie {
                process,
                workspace: of,
                key,
            } => {
                used += 1;
                let (of, key) = (workspace(*of), keys()[*key].clone());
                let row = sql.commit(of, key.clone(), used);
                own.insert((*process, of, key), row.version);
                processes[*process] = Process::start(&server, &sql);
            }
            Step::Read {
                process,
                workspace: of,
            } => {
                let of = workspace(*of);
                let Some(rows) = processes[*process].read(&sql, of).await else {
                    continue;
                };
                told += 1;
                for row in rows {
                    let committed = own.get(&(*process, of, row.key.clone())).copied();
                    let newest = sql.row(of, &row.key);
                    assert!(
                        committed.unwrap_or(0) <= row.version && row.version <= newest.version,
                        "told {row:?} after {committed:?} of {newest:?}"
                    );
                }
            }
            Step::Round { process } => {
                processes[*process].republisher.step().await;
            }
            Step::Advance(seconds) => sql.advance(*seconds),
            Step::Lose(publications) => server.lose(*publications),
            Step::Empty => server.empty(),
            Step::Save => saved = server.dump(),
            Step::Restart { from_dump } => {
                let found = if *from_dump {
                    saved.clone()
                } else {
                    Dump::default()
                };
                server.restart(found);
            }
            Step::Away => server.set_mood(Mood::Away),
            Step::Back => server.set_mood(Mood::Well),
        }
    }
    // Faults end; a second has passed for each process twice: once to notice, once to repeat.
    server.set_mood(Mood::Well);
    server.lose(0);
    for _ in 0..2 {
        sql.advance(1);
        for process in &mut processes {
            process.republisher.step().await;
        }
    }
    for process in &processes {
        for of in (1..=WORKSPACES).map(workspace) {
            assert!(process.live.is_live());
            let rows = match process.read(&sql, of).await {
                Some(rows) => rows,
                // A flow that was never used is filled by its first reader.
                None => process.read(&sql, of).await.expect("the gap was filled"),
            };
            let right: Vec<_> = keys().iter().map(|key| sql.row(of, key)).collect();
            assert_eq!(rows, right);
        }
    }
    told
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn nobody_is_told_less_than_they_have_committed_and_a_quiet_round_makes_all_right(steps in steps()) {
        runtime().block_on(play(&steps));
    }

    #[test]
    fn publications_converge_to_the_newest_in_any_order(
        versions in prop::collection::vec((any::<bool>(), 1..20_u64), 0..30)
    ) {
        runtime().block_on(async {
            let cache: Arc<dyn rawdrive_usage::UsageCache> = Arc::new(MemoryUsageCacheServer::default().client());
            cache.connect().await.unwrap();
            converges(&cache, workspace(1), &versions).await;
        });
    }
}

#[test]
fn a_quiet_history_is_told_by_the_cache() {
    let mut steps = vec![Step::Round { process: 0 }, Step::Round { process: 1 }];
    for n in 0..10 {
        let process = n % 2;
        steps.push(Step::Commit {
            process,
            workspace: 1,
            key: n % 2,
        });
        steps.push(Step::Read {
            process: 1 - process,
            workspace: 1,
        });
    }
    // The first reader finds a period that was never filled.
    assert_eq!(runtime().block_on(play(&steps)), 9);
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_hangs_is_waited_for_once() {
    let (server, sql) = (MemoryUsageCacheServer::default(), Sql::new());
    let mut process = Process::start(&server, &sql);
    process.republisher.step().await;
    assert!(process.live.is_live());
    server.set_mood(Mood::Hanging);
    let began = Instant::now();
    process
        .live
        .publish(workspace(1), vec![level(1, 1, 0)])
        .await;
    let waited = began.elapsed();
    assert!(
        (CACHE_PATIENCE..2 * CACHE_PATIENCE).contains(&waited),
        "{waited:?}"
    );
    let began = Instant::now();
    for version in 2..1_000 {
        process
            .live
            .publish(workspace(1), vec![level(version, 1, 0)])
            .await;
        assert_eq!(
            process.live.read(workspace(1), &keys()).await,
            Reading::Unavailable
        );
    }
    assert_eq!(began.elapsed(), Duration::ZERO, "it is known to hang");
    // A reader may be who finds out, too.
    server.set_mood(Mood::Well);
    process.republisher.step().await;
    assert!(process.live.is_live());
    server.set_mood(Mood::Hanging);
    assert_eq!(
        process.live.read(workspace(1), &keys()).await,
        Reading::Unavailable
    );
    assert!(!process.live.answers());
}

#[tokio::test(start_paused = true)]
async fn more_than_the_queue_holds_is_left_to_the_republisher() {
    let (server, sql) = (MemoryUsageCacheServer::default(), Sql::new());
    let mut process = Process::start(&server, &sql);
    process.republisher.step().await;
    let galleries =
        (0..5_000).map(|n| QuotaKey::level_of(Metric::new("pages"), format!("gal_{n}")));
    let rows: Vec<_> = galleries
        .map(|key| sql.commit(workspace(1), key, 1))
        .collect();
    let began = Instant::now();
    process.live.publish(workspace(1), rows).await;
    assert_eq!(began.elapsed(), Duration::ZERO, "nobody waits for it");
    assert!(process.live.answers() && !process.live.is_live());
    // What is known to lag is not told, although it would answer.
    assert_eq!(
        process.live.read(workspace(2), &keys()[..1]).await,
        Reading::Unavailable
    );
    process.republisher.step().await;
    assert!(process.live.is_live());
    let key = QuotaKey::level_of(Metric::new("pages"), "gal_4999");
    let told = process
        .live
        .read(workspace(1), std::slice::from_ref(&key))
        .await;
    assert_eq!(told, Reading::Rows(vec![sql.row(workspace(1), &key)]));
}

#[tokio::test]
async fn what_does_not_fit_is_read_from_sql() {
    let (server, sql) = (MemoryUsageCacheServer::default(), Sql::new());
    let mut process = Process::start(&server, &sql);
    let key = keys()[0].clone();
    let row = sql.commit(workspace(1), key.clone(), 1);
    process.republisher.step().await;
    process.live.publish(workspace(1), vec![row]).await;
    let ask = async |process: &Process| process.live.read(workspace(1), &keys()[..1]).await;
    assert!(matches!(ask(&process).await, Reading::Rows(_)));
    let row = sql.commit(workspace(1), key.clone(), CACHE_MAX + 1);
    process.live.publish(workspace(1), vec![row]).await;
    assert!(matches!(ask(&process).await, Reading::Missing(_)));
    assert_eq!(process.read(&sql, workspace(1)).await, None);
    process.republisher.step().await;
    assert!(matches!(ask(&process).await, Reading::Missing(_)));
    let row = sql.commit(workspace(1), key, 2);
    process.live.publish(workspace(1), vec![row.clone()]).await;
    process.republisher.step().await;
    assert_eq!(ask(&process).await, Reading::Rows(vec![row]));
}

#[tokio::test]
async fn what_sql_never_held_is_corrected() {
    let (server, sql) = (MemoryUsageCacheServer::default(), Sql::new());
    let mut process = Process::start(&server, &sql);
    let key = keys()[0].clone();
    let row = sql.commit(workspace(1), key.clone(), 10);
    process.republisher.step().await;
    for strange in [
        LiveRow {
            version: 100,
            used: 1,
            ..row.clone()
        },
        LiveRow {
            used: 11,
            ..row.clone()
        },
    ] {
        server.put(workspace(1), strange.clone());
        let told = process
            .live
            .read(workspace(1), std::slice::from_ref(&key))
            .await;
        assert_eq!(told, Reading::Rows(vec![strange]));
        process.republisher.step().await;
        let told = process
            .live
            .read(workspace(1), std::slice::from_ref(&key))
            .await;
        assert_eq!(told, Reading::Rows(vec![row.clone()]));
    }
}

#[tokio::test]
async fn an_emptied_cache_is_filled_without_a_reader() {
    let (server, sql) = (MemoryUsageCacheServer::default(), Sql::new());
    let mut process = Process::start(&server, &sql);
    let of_gallery = QuotaKey::level_of(Metric::new("pages"), "gal_1");
    for of in 1..=WORKSPACES {
        sql.commit(workspace(of), keys()[0].clone(), 5);
        sql.commit(workspace(of), of_gallery.clone(), 7);
    }
    // Longer ago than what is repeated.
    sql.advance(3_600);
    for _ in 0..2 {
        assert_eq!(process.republisher.step().await, Duration::from_secs(1));
        for of in (1..=WORKSPACES).map(workspace) {
            let wanted = [keys()[0].clone(), of_gallery.clone()];
            let told = process.live.read(of, &wanted).await;
            let right = wanted.iter().map(|key| sql.row(of, key)).collect();
            assert_eq!(told, Reading::Rows(right));
        }
        server.empty();
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_is_told_what_is_absent_or_lags() {
    let (server, sql) = (MemoryUsageCacheServer::default(), Sql::new());
    let mut process = Process::start(&server, &sql);
    for of in 1..=WORKSPACES {
        sql.commit(workspace(of), keys()[0].clone(), 5);
    }
    let client = server.client();
    let notes = cache_notes(&client, &sql).await.unwrap();
    assert!(
        notes.len() == 1 && notes[0].contains("of 3 workspaces"),
        "{notes:?}"
    );
    process.republisher.step().await;
    assert_eq!(
        cache_notes(&client, &sql).await.unwrap(),
        Vec::<String>::new()
    );
    sql.commit(workspace(2), keys()[0].clone(), 6);
    let notes = cache_notes(&client, &sql).await.unwrap();
    assert!(
        notes.len() == 1 && notes[0].contains("of 1 workspaces"),
        "{notes:?}"
    );
    server.set_mood(Mood::Away);
    let notes = cache_notes(&client, &sql).await.unwrap();
    assert!(
        notes.len() == 1 && notes[0].contains("failed to reach"),
        "{notes:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_operator_is_not_told_of_what_is_on_its_way() {
    let (server, sql) = (MemoryUsageCacheServer::default(), Sql::new());
    let mut process = Process::start(&server, &sql);
    for of in 1..=WORKSPACES {
        sql.commit(workspace(of), keys()[0].clone(), 5);
    }
    process.republisher.step().await;
    let client = server.client();
    for used in 6..9 {
        // Committed, and published while an operator looks.
        sql.commit(workspace(2), keys()[0].clone(), used);
        let publishes = async {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            process.republisher.step().await;
        };
        let (notes, ()) = tokio::join!(cache_notes(&client, &sql), publishes);
        assert_eq!(notes.unwrap(), Vec::<String>::new());
    }
}

/// A database that is slow, and in which something happens while workspaces are listed.
struct Busy {
    sql: Sql,
    slow: Duration,
    meanwhile: Mutex<Option<LiveUsage>>,
}

impl LiveSource for Busy {
    fn now(&self) -> DateTime<Utc> {
        self.sql.now()
    }

    async fn changed(
        &self,
        since: DateTime<Utc>,
        after: Option<WorkspaceId>,
        limit: u32,
    ) -> Result<Vec<ChangedWorkspace>, StoreError> {
        self.sql.changed(since, after, limit).await
    }

    async fn rows_changed(
        &self,
        workspace: WorkspaceId,
        since: DateTime<Utc>,
    ) -> Result<Vec<LiveRow>, StoreError> {
        self.sql.rows_changed(workspace, since).await
    }

    async fn workspaces(
        &self,
        after: Option<WorkspaceId>,
        limit: u32,
    ) -> Result<Vec<WorkspaceId>, StoreError> {
        let live = self.meanwhile.lock().unwrap().take();
        if let Some(live) = live {
            // More than the queue holds: lost.
            let galleries = (0..5_000).map(|n| QuotaKey::level_of(Metric::new("pages"), n));
            let rows = galleries.map(|key| self.sql.commit(workspace(1), key, 1));
            live.publish(workspace(1), rows.collect()).await;
        }
        self.sql.workspaces(after, limit).await
    }

    async fn rows(
        &self,
        workspace: WorkspaceId,
        from: DateTime<Utc>,
    ) -> Result<Vec<LiveRow>, StoreError> {
        tokio::time::sleep(self.slow).await;
        self.sql.rows(workspace, from).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_has_just_started_tells_nothing_before_the_mirror_is_full() {
    let (server, sql) = (MemoryUsageCacheServer::default(), Sql::new());
    let live = LiveUsage::new(Arc::new(server.client()));
    let slow = Duration::from_millis(600);
    let meanwhile = Mutex::new(None);
    let mut republisher = Republisher::new(
        live.clone(),
        Busy {
            sql,
            slow,
            meanwhile,
        },
    );
    let mut rounds = 0;
    while republisher.step().await.is_zero() {
        assert!(live.answers() && !live.is_live());
        rounds += 1;
    }
    assert!(live.is_live());
    assert_eq!(rounds, WORKSPACES, "a workspace takes a round's share");
}

#[tokio::test]
async fn what_is_lost_during_a_round_is_the_next_ones() {
    let (server, sql) = (MemoryUsageCacheServer::default(), Sql::new());
    let live = LiveUsage::new(Arc::new(server.client()));
    let (slow, meanwhile) = (Duration::ZERO, Mutex::new(Some(live.clone())));
    let mut republisher = Republisher::new(
        live.clone(),
        Busy {
            sql,
            slow,
            meanwhile,
        },
    );
    republisher.step().await;
    assert!(live.answers() && !live.is_live());
    republisher.step().await;
    assert!(live.is_live());
}
