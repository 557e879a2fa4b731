//! What somebody did to the file behind the store's back is found, and what can be put right is.

use chrono::TimeDelta;
use rawdrive_migrations::{Migrator, MigratorTrait as _};
use rawdrive_plans::Limit;
use rawdrive_store::{Finding, Store, Url};
use rawdrive_tenancy_core::Commit;
use rawdrive_testkit::contract::Stage;
use rawdrive_testkit::{TestEnv, scope};
use rawdrive_usage::{LedgerLine, QuotaKey, UsageRead, UsageTx};
use sea_orm::SqlxSqliteConnector;
use sea_orm::sqlx::Executor as _;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use crate::subject::{Opened, stage};
use crate::support::Engine;

async fn filled() -> Stage<Opened> {
    let stage = stage(Engine::Sqlite).await;
    let key = QuotaKey::level(rawdrive_gallery::STORAGE_BYTES);
    for n in 1..=5 {
        let mut tx = stage.begin().await;
        tx.lock(&key).await.unwrap();
        tx.apply(&key, 0, n, Limit::Unlimited).await.unwrap();
        let now = stage.env().now();
        let line = LedgerLine::usage(key.clone(), n, "pho".to_owned(), now);
        tx.add_line(line);
        tx.commit().await.unwrap();
        stage.test_env.advance(TimeDelta::days(20));
    }
    stage
}

/// Runs statements on the file as nobody may.
async fn tamper(stage: &Stage<Opened>, statements: &[&str]) {
    let options = SqliteConnectOptions::new().filename(stage.store.database().url.file().unwrap());
    let pool = SqlitePool::connect_with(options).await.unwrap();
    for statement in statements {
        pool.execute(sea_orm::sqlx::AssertSqlSafe((*statement).to_owned()))
            .await
            .unwrap();
    }
    pool.close().await;
}

async fn findings(stage: &Stage<Opened>) -> Vec<(&'static str, String)> {
    let snapshot = stage.store.store.snapshot().await.unwrap();
    let found = snapshot.check(&stage.scope).await.unwrap();
    found
        .into_iter()
        .filter(|f| f.invariant.contains("ledger"))
        .map(|f| (f.invariant, f.detail))
        .collect()
}

const WRITABLE: [&str; 2] = [
    "DROP TRIGGER ledger_no_UPDATE",
    "DROP TRIGGER ledger_no_DELETE",
];

#[tokio::test]
async fn a_line_that_was_changed_moved_or_taken_out_is_named() {
    assert_eq!(findings(&filled().await).await, []);
    for (statement, said) in [
        (
            "UPDATE ledger SET subject = 'other' WHERE seq = 3",
            "line 3 does not hash to what it says",
        ),
        (
            "UPDATE ledger SET hash = zeroblob(32) WHERE seq = 2",
            "line 2 does not hash to what it says",
        ),
        (
            "UPDATE ledger SET hash = NULL WHERE seq = 4",
            "ledger.hash of 4: is missing",
        ),
        (
            "DELETE FROM ledger WHERE seq = 2",
            "line 2 is missing: 3 stands in its place",
        ),
        (
            "DELETE FROM ledger WHERE seq = 5",
            "the ledger ends at line 4, its head says 5",
        ),
        (
            "UPDATE ledger SET seq = 9 WHERE seq = 1",
            "line 1 is missing: 2 stands in its place",
        ),
    ] {
        let stage = filled().await;
        tamper(&stage, &[WRITABLE[0], WRITABLE[1], statement]).await;
        let found = findings(&stage).await;
        let chain = found.iter().find(|(name, _)| *name == "ledger_chain");
        let (_, detail) = chain.unwrap_or_else(|| panic!("{statement}: {found:?}"));
        assert!(detail.contains(said), "{statement}: {detail}");
    }
}

#[tokio::test]
async fn the_ledger_takes_no_change_from_anybody() {
    let stage = filled().await;
    let options = SqliteConnectOptions::new().filename(stage.store.database().url.file().unwrap());
    let pool = SqlitePool::connect_with(options).await.unwrap();
    for statement in ["UPDATE ledger SET quantity = 0", "DELETE FROM ledger"] {
        let error = pool.execute(statement).await.unwrap_err();
        assert!(error.to_string().contains("append-only"), "{error}");
    }
}

#[tokio::test]
async fn a_rebuild_names_every_difference_and_puts_it_right_once_it_is_committed() {
    let stage = filled().await;
    let read = stage.store.store.read(&stage.scope);
    let months = read.months().await.unwrap();
    tamper(
        &stage,
        &[
            "UPDATE quotas SET used = used + 7, reserved = 3",
            "UPDATE usage_hours SET quantity = 40 WHERE quantity = 4",
            "DELETE FROM usage_months WHERE month = (SELECT max(month) FROM usage_months)",
        ],
    )
    .await;
    let broken = findings(&stage).await;
    assert_eq!(broken.len(), 3, "{broken:?}");

    let mut tx = stage.begin().await;
    let found = tx.rebuild_usage().await.unwrap();
    let told: Vec<_> = found.iter().map(|d| (d.what, d.kept, d.right)).collect();
    assert_eq!(
        told,
        [
            ("used", Some(22), Some(15)),
            ("reserved", Some(3), Some(0)),
            ("hour", Some(40), Some(4)),
            ("month", None, Some(5)),
        ]
    );
    drop(tx);
    assert_eq!(findings(&stage).await, broken, "a dry run changes nothing");

    let mut tx = stage.begin().await;
    assert_eq!(tx.rebuild_usage().await.unwrap(), found);
    tx.commit().await.unwrap();
    assert_eq!(findings(&stage).await, []);
    assert_eq!(read.months().await.unwrap(), months);
    let mut tx = stage.begin().await;
    assert_eq!(tx.rebuild_usage().await.unwrap(), []);
}

/// Lines from before lines had hashes get them when the schema is brought up to date.
#[tokio::test]
async fn old_lines_are_chained_and_summed_by_the_migration() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rawdrive.db");
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let connection = SqlxSqliteConnector::from_sqlx_sqlite_pool(pool.clone());
    // The last schema before.
    let before = Migrator::migrations()
        .iter()
        .position(|migration| migration.name() == "m0010_usage_history")
        .unwrap();
    Migrator::up(&connection, Some(u32::try_from(before).unwrap()))
        .await
        .unwrap();
    let workspace = "x'01890000000070008000000000000001'";
    let mut statements = vec![
        format!(
            "INSERT INTO workspaces VALUES ({workspace}, 'Studio', 'studio', NULL, 'usd', 'active',
             '2026-01-01T00:00:00+00:00', '2026-01-01T00:00:00+00:00', 1)"
        ),
        format!("INSERT INTO ledger_heads VALUES ({workspace}, 3)"),
    ];
    for (seq, recorded) in [
        "2026-01-31T23:59:59.5",
        "2026-02-01T00:00:00",
        "2026-01-31T00:00:00",
    ]
    .iter()
    .enumerate()
    {
        statements.push(format!(
            "INSERT INTO ledger VALUES ({workspace}, {}, 'storage_bytes', '', '1970-01-01T00:00:00+00:00', {}, 'pho',
             'key_1', '{recorded}+00:00', '{recorded}+00:00')",
            seq + 1,
            (seq + 1) * 10
        ));
    }
    for statement in statements {
        pool.execute(sea_orm::sqlx::AssertSqlSafe(statement))
            .await
            .unwrap();
    }
    connection.close().await.unwrap();

    let test_env = TestEnv::seeded(1);
    let env = test_env.env().clone();
    let store = Store::open(
        &Url::sqlite(&path),
        env,
        &rawdrive_gallery::built_in_catalogue(),
        &[],
    )
    .await;
    let store = store.unwrap();
    let scope = scope("ws_01890000000070008000000000000001".parse().unwrap());
    let snapshot = store.snapshot().await.unwrap();
    let found = snapshot.check(&scope).await.unwrap();
    let of_ledger = found.iter().filter(|f| {
        ["ledger_chain", "sums_equal_ledger", "ledger_without_gaps"].contains(&f.invariant)
    });
    assert_eq!(of_ledger.collect::<Vec<_>>(), Vec::<&Finding>::new());
    let months = store.read(&scope).months().await.unwrap();
    let sums: Vec<_> = months
        .iter()
        .map(|(month, _, sums)| (month.to_string(), sums.lines, sums.events, sums.late_lines))
        .collect();
    assert_eq!(
        sums,
        [
            ("2026-01".to_owned(), 1, 10, 0),
            ("2026-02".to_owned(), 2, 50, 1)
        ]
    );
    let options = SqliteConnectOptions::new().filename(&path);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let error = pool.execute("UPDATE ledger SET quantity = 0").await;
    assert!(error.unwrap_err().to_string().contains("append-only"));
}
