//! How many statements housekeeping takes, and whose turn it is.

use chrono::TimeDelta;
use rawdrive_tenancy_core::Env;
use rawdrive_tenancy_core::id::{TypedId, WorkspaceId};
use tempfile::TempDir;
use uuid::Uuid;

use super::Turn;
use crate::reach::Reach;
use crate::scope::execute;
use crate::test_hooks::statements;
use crate::{Store, Url};

/// A store on SQLite with that many workspaces.
async fn store_with(workspaces: u32) -> (Store, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let url = Url::sqlite(folder.path().join("rawdrive.db"));
    let store = Store::open(
        &url,
        Env::system(),
        &rawdrive_testkit::product::catalogue(),
        &[],
    )
    .await;
    let store = store.unwrap();
    run(
        &store,
        &format!(
            "INSERT INTO workspaces (workspace_id, name, slug, currency, status, created_at, updated_at, version)
            WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {workspaces})
            SELECT unhex(printf('%032x', n)), 'W', 'w', 'usd', 'active', '2026-01-01', '2026-01-01', 1 FROM n"
        ),
    )
    .await;
    (store, folder)
}

async fn run(store: &Store, sql: &str) {
    let on = store.writes(Reach::Installation);
    execute(&on, "set up", sql, []).await.unwrap();
}

/// Jobs of a kind, one row for each number, in the workspace with that number.
async fn enqueue(store: &Store, workspace: u32, kind: &str, jobs: u32) {
    run(
        store,
        &format!(
            "INSERT INTO jobs (workspace_id, id, kind, work, due_at, retry_at, leased_until, attempts, created_at)
            WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {jobs})
            SELECT unhex(printf('%032x', {workspace})), randomblob(16), '{kind}', '{{\"kind\":\"{kind}\"}}',
                '1970-01-01T00:00:00+00:00', '1970-01-01T00:00:00+00:00', '1970-01-01T00:00:00+00:00', 0, '2026-01-01'
            FROM n"
        ),
    )
    .await;
}

async fn statements_of<T>(work: impl Future<Output = T>) -> (u64, T) {
    let before = statements();
    let done = work.await;
    (statements() - before, done)
}

#[tokio::test]
async fn a_sweep_that_finds_nothing_is_five_statements_at_most_whatever_the_number_of_workspaces() {
    for workspaces in [1, 10_000] {
        let (store, _folder) = store_with(workspaces).await;
        let (count, deleted) = statements_of(store.sweep()).await;
        assert_eq!(deleted.unwrap(), 0);
        assert!(count <= 5, "{count} statements for {workspaces} workspaces");
    }
}

#[tokio::test]
async fn a_sweep_visits_the_workspaces_that_have_something_and_no_other() {
    let (store, _folder) = store_with(10_000).await;
    for (workspace, expires) in [(7, "2020-01-01"), (9, "2020-01-01"), (11, "2999-01-01")] {
        run(
            &store,
            &format!(
                "INSERT INTO sessions (workspace_id, id, user_id, epoch, created_at, expires_at)
                SELECT unhex(printf('%032x', {workspace})), randomblob(16), randomblob(16), 0, '2020-01-01', '{expires}'"
            ),
        )
        .await;
    }
    let (count, deleted) = statements_of(store.sweep()).await;
    assert_eq!(deleted.unwrap(), 2);
    // Three for the installation, two looks, and one for each workspace.
    assert_eq!(count, 7);
}

/// By hand: `cargo test -p rawdrive-store --lib -- --ignored --nocapture hundred_thousand`.
#[tokio::test]
#[ignore = "takes its time; it is there to be measured"]
#[expect(clippy::print_stdout, reason = "a measurement is read")]
async fn a_sweep_of_a_hundred_thousand_workspaces() {
    let (store, _folder) = store_with(100_000).await;
    let begun = std::time::Instant::now();
    let (count, deleted) = statements_of(store.sweep()).await;
    println!("{count} statements in {:?}", begun.elapsed());
    assert_eq!((count, deleted.unwrap()), (4, 0));
}

fn workspace(n: u32) -> WorkspaceId {
    WorkspaceId::from_uuid(Uuid::from_u128(n.into()))
}

#[tokio::test]
async fn rounds_go_from_workspace_to_workspace_and_look_at_no_backlog() {
    let (store, _folder) = store_with(1_000).await;
    for (of, jobs) in [(1, 10_000), (2, 1), (900, 20)] {
        enqueue(&store, of, "report", jobs).await;
    }
    enqueue(&store, 3, "other", 50).await;
    let mut turn = Turn {
        kind: "report",
        after: None,
        jobs: 9,
        per_workspace: 4,
        lease: TimeDelta::seconds(60),
    };
    let mut rounds = Vec::new();
    for _ in 0..3 {
        let (count, leased) = statements_of(store.lease_turn(&turn)).await;
        let leased = leased.unwrap();
        let of = [1, 2, 900].map(|n| {
            let mine = leased
                .jobs
                .iter()
                .filter(|job| job.workspace == workspace(n));
            mine.count()
        });
        rounds.push((of, leased.more));
        // Two looks where the cursor is not at the end, and one statement for each workspace that waits.
        assert!(count <= 5, "{count} statements");
        turn.after = leased.after;
    }
    assert_eq!(
        rounds,
        [([3, 1, 3], true), ([4, 0, 4], true), ([4, 0, 4], true)]
    );
    assert_eq!(store.job_kinds().await.unwrap(), ["other", "report"]);
    assert_eq!(
        store.jobs_by_kind().await.unwrap(),
        [("other".to_owned(), 50), ("report".to_owned(), 10_000)],
        "counted up to a bound"
    );
}

#[tokio::test]
async fn what_cannot_be_read_holds_up_nothing_else() {
    let (store, _folder) = store_with(1).await;
    enqueue(&store, 1, "report", 2).await;
    run(
        &store,
        "UPDATE jobs SET work = '{' WHERE rowid IN (SELECT min(rowid) FROM jobs)",
    )
    .await;
    let turn = Turn {
        kind: "report",
        after: None,
        jobs: 8,
        per_workspace: 8,
        lease: TimeDelta::seconds(60),
    };
    let leased = store.lease_turn(&turn).await.unwrap();
    assert_eq!((leased.jobs.len(), leased.unreadable.len()), (1, 1));
    let (job, error) = &leased.unreadable[0];
    assert!(error.to_string().contains("jobs.work"), "{error}");
    store.retry_job(job).await.unwrap();
    store.finish_job(&leased.jobs[0]).await.unwrap();
    assert_eq!(
        store.jobs_by_kind().await.unwrap(),
        [("report".to_owned(), 1)],
        "it is kept"
    );
}
