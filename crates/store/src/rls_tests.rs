//! Row-level security as the second wall: the store without its own filters keeps the whole contract, and each
//! form in which a statement is told how far it may see fails closed.

#![expect(
    clippy::disallowed_methods,
    reason = "what is tested is what becomes of statements that name no workspace"
)]

use std::time::Duration;

use chrono::TimeDelta;
use rawdrive_plans::Catalogue;
use rawdrive_tenancy_core::Commit;
use rawdrive_tenancy_core::WorkspaceScope;
use rawdrive_tenancy_core::id::{TypedId, UserId};
use rawdrive_testkit::contract::{self, Stage, Subject as _};
use rawdrive_testkit::{TestEnv, product};
use sea_orm::sqlx::postgres::PgConnection;
use sea_orm::sqlx::{self, AssertSqlSafe, Executor, Row};
use sea_orm::{ConnectionTrait, DatabaseBackend, Statement};
use uuid::Uuid;

use crate::connection;
use crate::postgres::within;
use crate::reach::Reach;
use crate::subject::{self, Opened};
use crate::support::{Database, Engine};
use crate::test_hooks;
use crate::url::Target;

/// A store that has dropped its own filter.
async fn unfiltered(test_env: &TestEnv, catalogue: &Catalogue) -> Opened {
    test_hooks::drop_the_filter();
    subject::postgres(test_env, catalogue).await
}

async fn unfiltered_behind_pgbouncer(test_env: &TestEnv, catalogue: &Catalogue) -> Opened {
    test_hooks::drop_the_filter();
    subject::pgbouncer(test_env, catalogue).await
}

async fn unfiltered_without_a_second_wall(test_env: &TestEnv, catalogue: &Catalogue) -> Opened {
    test_hooks::drop_the_filter();
    subject::sqlite(test_env, catalogue).await
}

/// Foreign reads answer nothing, foreign writes change nothing, and everything else works as ever.
mod without_its_own_filter {
    mod postgres {
        rawdrive_testkit::store_contract!(crate::rls_tests::unfiltered);
    }
    mod pgbouncer {
        rawdrive_testkit::store_contract!(crate::rls_tests::unfiltered_behind_pgbouncer);
    }
}

/// The store without its filter is one: where nothing else holds rows apart, they meet.
#[tokio::test]
#[should_panic(expected = "assertion")]
async fn without_row_level_security_the_unfiltered_store_mixes_workspaces() {
    let stage = Stage::set(unfiltered_without_a_second_wall).await;
    contract::transactions::workspaces_do_not_see_each_others_rows(&stage).await;
}

crate::tenant_entity! {
    mod memos("memos", [id: Uuid]) { text: String }
}

/// Rows of an extension are behind the same wall: neither its statements nor its entities reach another workspace's,
/// with the store's own filter taken out.
#[tokio::test]
async fn rows_of_an_extension_are_its_workspaces_alone_without_a_filter() {
    let stage = Stage::set(unfiltered).await;
    let store = &stage.store.store;
    for (scope, text) in [(&stage.scope, "mine"), (&stage.other, "theirs")] {
        let mut tx = store.begin(scope).await.unwrap();
        let insert = "INSERT INTO memos (workspace_id, id, text) VALUES ($1, $2, $3)";
        let values = [tx.env().uuid().into(), text.into()];
        tx.execute("insert a note", insert, values).await.unwrap();
        tx.commit().await.unwrap();
    }
    let reader = store.read(&stage.scope);
    let read = reader.select::<memos::Entity>().all().await.unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].text, "mine");
    let all = "SELECT text FROM memos WHERE workspace_id = $1";
    assert_eq!(reader.query("read notes", all, []).await.unwrap().len(), 1);
    let mut tx = store.begin(&stage.scope).await.unwrap();
    let change = "UPDATE memos SET text = $2 WHERE workspace_id = $1";
    let changed = tx.execute("change notes", change, ["ours".into()]).await;
    assert_eq!(changed.unwrap(), 1);
    assert_eq!(tx.delete::<memos::Entity>().exec().await.unwrap(), 1);
    tx.commit().await.unwrap();
    let theirs = store.read(&stage.other).select::<memos::Entity>();
    assert_eq!(theirs.one().await.unwrap().unwrap().text, "theirs");
}

#[tokio::test]
async fn jobs_are_leased_in_their_own_workspaces_without_a_filter_too() {
    use rawdrive_plans::ReviewThresholds;
    use rawdrive_tenancy_core::job::JobsTx;
    let stage = Stage::set(unfiltered).await;
    for scope in [&stage.scope, &stage.other] {
        let mut tx = stage.store.store.begin(scope).await.unwrap();
        tx.enqueue(&ReviewThresholds {}, None).unwrap();
        tx.commit().await.unwrap();
    }
    let store = &stage.store.store;
    let leased = store.lease_jobs(10, TimeDelta::seconds(60)).await.unwrap();
    let mut of: Vec<_> = leased.iter().map(|job| job.workspace).collect();
    of.sort_unstable();
    let mut expected = vec![stage.scope.workspace(), stage.other.workspace()];
    expected.sort_unstable();
    assert_eq!(of, expected);
    for job in &leased {
        store.finish_job(job).await.unwrap();
    }
    store.sweep().await.unwrap();
    assert_eq!(store.lease_jobs(10, TimeDelta::zero()).await.unwrap(), []);
}

fn statement(sql: &str) -> Statement {
    Statement::from_sql_and_values(DatabaseBackend::Postgres, sql, [])
}

async fn names(connection: &mut PgConnection, statement: &Statement) -> Vec<String> {
    let values = statement
        .values
        .clone()
        .unwrap_or_else(|| sea_orm::Values(Vec::new()));
    let values = sea_query_sqlx::SqlxValues(values);
    let query = sqlx::query_with(AssertSqlSafe(statement.sql.clone()), values);
    let rows = query.fetch_all(connection).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Two workspaces with three notes each, in a database of their own.
struct House {
    database: Database,
    mine: WorkspaceScope,
    theirs: WorkspaceScope,
}

impl House {
    async fn new() -> Self {
        let test_env = TestEnv::seeded(1);
        let database = Database::new(Engine::Postgres).await;
        let catalogue = product::catalogue();
        let store = database.open(test_env.env().clone(), &catalogue).await;
        let opened = Opened::new(store.clone());
        let plan = catalogue.newest(&"unlimited".parse().unwrap()).unwrap();
        let mine = contract::Subject::workspace(&opened, &plan).await;
        let theirs = contract::Subject::workspace(&opened, &plan).await;
        for (scope, name) in [(&mine, "mine"), (&theirs, "theirs")] {
            let mut tx = store.begin(scope).await.unwrap();
            for n in 0..3 {
                let text = format!("{name} {n}");
                let inserted = Opened::insert_note(&mut tx, test_env.env().uuid(), &text).await;
                inserted.unwrap();
            }
            tx.commit().await.unwrap();
        }
        store.close().await;
        Self {
            database,
            mine,
            theirs,
        }
    }
}

/// Every way of joining and looking that the planner has, alone.
const PLANNERS: [&str; 8] = [
    "",
    "SET enable_nestloop = off",
    "SET enable_hashjoin = off; SET enable_mergejoin = off",
    "SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off",
    "SET enable_seqscan = off",
    "SET plan_cache_mode = force_generic_plan",
    "SET enable_material = off; SET enable_memoize = off",
    "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0",
];

#[tokio::test]
async fn a_read_in_one_statement_fails_closed_under_every_plan() {
    let house = House::new().await;
    let mut connection = house.database.connect().await;
    let reach = Reach::of(&house.mine);
    let own = ["mine 0", "mine 1", "mine 2"].map(str::to_owned);
    let joined = "SELECT l.text FROM workspaces w JOIN standings s ON s.workspace_id = w.workspace_id
        JOIN memos l ON l.workspace_id = s.workspace_id LEFT JOIN jobs j ON j.workspace_id = w.workspace_id";
    let constant = |scope: &WorkspaceScope| {
        let id = scope.workspace().uuid();
        format!("SELECT text FROM memos WHERE workspace_id = '{id}' ORDER BY text")
    };
    for planner in PLANNERS {
        connection.execute("RESET ALL").await.unwrap();
        connection.execute(AssertSqlSafe(planner)).await.unwrap();
        for (sql, expected) in [
            ("SELECT text FROM memos ORDER BY text", &own[..]),
            (constant(&house.mine).as_str(), &own[..]),
            (constant(&house.theirs).as_str(), &[][..]),
            (&format!("{joined} ORDER BY l.text"), &own[..]),
            ("SELECT max(text) FROM memos", &own[2..]),
            (
                "SELECT text FROM memos WHERE EXISTS (SELECT 1 FROM standings) ORDER BY text LIMIT 2",
                &own[..2],
            ),
            (
                "WITH all_of_them AS (SELECT * FROM memos) SELECT text FROM all_of_them ORDER BY text",
                &own[..],
            ),
        ] {
            let told = within(reach, statement(sql)).unwrap();
            // Often enough for a plan that serves every workspace.
            for _ in 0..7 {
                assert_eq!(
                    names(&mut connection, &told).await,
                    expected,
                    "{planner}: {sql}"
                );
            }
            let untold = names(&mut connection, &statement("SELECT text FROM memos")).await;
            assert_eq!(untold, [""; 0], "the setting ends with its statement");
        }
    }
}

/// The plan itself: what reads is the inner side of a loop over what sets.
#[tokio::test]
async fn the_setting_is_made_before_the_first_row_is_looked_at() {
    let house = House::new().await;
    let mut connection = house.database.connect().await;
    let sql = "SELECT l.text FROM memos l JOIN workspaces w ON w.workspace_id = l.workspace_id";
    let mut told = within(Reach::of(&house.mine), statement(sql)).unwrap();
    told.sql = format!("EXPLAIN (COSTS OFF) {}", told.sql);
    for planner in PLANNERS {
        connection.execute("RESET ALL").await.unwrap();
        connection.execute(AssertSqlSafe(planner)).await.unwrap();
        let plan = names(&mut connection, &told).await;
        let at = |what: &str| {
            let line = plan.iter().position(|line| line.contains(what));
            line.unwrap_or_else(|| panic!("no {what} in {plan:#?}"))
        };
        assert!(plan[0].starts_with("Nested Loop"), "{plan:#?}");
        assert!(at("CTE Scan on scope") < at("on memos l"), "{plan:#?}");
        assert!(at("CTE Scan on scope") < at("on workspaces w"), "{plan:#?}");
        assert!(
            at("One-Time Filter: (scope.id IS NOT NULL)") > at("CTE Scan on scope"),
            "{plan:#?}"
        );
    }
}

#[test]
fn a_read_handle_takes_no_other_statement() {
    let reach = Reach::User(UserId::from_uuid(Uuid::nil()));
    for sql in [
        "DELETE FROM memos",
        "UPDATE memos SET text = ''",
        "",
        "SET ROLE postgres",
    ] {
        assert!(within(reach, statement(sql)).is_err(), "{sql}");
    }
}

#[tokio::test]
async fn a_handle_that_reaches_no_workspace_reads_and_writes_none() {
    let stage = Stage::set(subject::postgres).await;
    let store = &stage.store.store;
    let count = "SELECT count(*) AS n FROM workspaces";
    for reach in [
        Reach::Installation,
        Reach::User(stage.id()),
        Reach::Workspace(stage.id()),
    ] {
        let rows = store
            .reads(reach)
            .query_all_raw(statement(count))
            .await
            .unwrap();
        assert_eq!(rows[0].try_get::<i64>("", "n").unwrap(), 0, "{reach:?}");
    }
    let rows = store
        .reads(Reach::Worker)
        .query_all_raw(statement(count))
        .await
        .unwrap();
    assert_eq!(rows[0].try_get::<i64>("", "n").unwrap(), 2);
    for reach in [Reach::Installation, Reach::User(stage.id()), Reach::Worker] {
        let rename = statement("UPDATE workspaces SET name = 'Theirs'");
        let done = store.writes(reach).execute_raw(rename).await.unwrap();
        assert_eq!(done.rows_affected(), 0, "{reach:?}");
        let delete = statement("DELETE FROM workspaces");
        let done = store.writes(reach).execute_raw(delete).await.unwrap();
        assert_eq!(done.rows_affected(), 0, "{reach:?}");
    }
    let write = statement("DELETE FROM workspaces");
    let refused = store
        .reads(Reach::of(&stage.scope))
        .execute_raw(write)
        .await;
    assert!(refused.is_err(), "a read handle reads");
}

/// A statement that failed ends its transaction: what was done before is not committed as if nothing had been.
#[tokio::test]
async fn after_a_failed_statement_nothing_is_committed() {
    let stage = Stage::set(subject::postgres).await;
    let mut tx = stage.begin().await;
    let id = stage.env().uuid();
    Opened::insert_note(&mut tx, id, "one").await.unwrap();
    let again = Opened::insert_note(&mut tx, id, "two").await;
    assert!(again.is_err(), "the id is taken");
    assert!(tx.commit().await.is_err());
    let read = Opened::note(&mut stage.begin().await, id).await;
    assert_eq!(read.unwrap(), None);
}

/// A statement that is given up, and fails afterwards, is the last of its transaction: whoever gets the connection next
/// begins anew. The driver sends nothing after such a failure before it has been read.
#[tokio::test]
async fn a_statement_that_fails_after_it_was_given_up_is_nobody_elses() {
    let database = Database::new(Engine::Postgres).await;
    let connected = of_one_session(&database).await;
    let reach = Reach::Installation;
    for round in 0..5 {
        let tx = connected.begin(reach, "give up").await.unwrap();
        let fails = "SELECT 1 / length(pg_sleep(0.3)::text)";
        let given_up = tx.query_all_raw(statement(fails));
        let given_up = tokio::time::timeout(Duration::from_millis(50), given_up);
        assert!(given_up.await.is_err(), "it was to be given up");
        drop(tx);
        // Nobody waits for the statement: the session is asked for while it still runs, and when it has failed.
        tokio::time::sleep(Duration::from_millis(100 * round)).await;
        let tx = connected.begin(reach, "go on").await.unwrap();
        tx.query_all_raw(statement("SELECT 1")).await.unwrap();
        tx.commit().await.unwrap();
    }
    connected.close().await;
}

/// A transaction whose request is gone waits for no lock, and keeps nobody from its session.
#[tokio::test]
async fn who_goes_away_waits_for_no_lock() {
    let database = Database::new(Engine::Postgres).await;
    let connected = of_one_session(&database).await;
    let mut owner = database.connect_as_owner().await;
    owner.execute("BEGIN").await.unwrap();
    owner.execute("LOCK TABLE signing_keys").await.unwrap();
    let tx = connected.begin(Reach::Installation, "wait").await.unwrap();
    let waits = tx.query_all_raw(statement("SELECT kid FROM signing_keys"));
    let given_up = tokio::time::timeout(Duration::from_millis(50), waits).await;
    assert!(given_up.is_err(), "it was to wait");
    drop(tx);
    let next = connected.begin(Reach::Installation, "go on");
    let next = tokio::time::timeout(Duration::from_secs(10), next).await;
    let next = next.expect("the session is free").unwrap();
    next.query_all_raw(statement("SELECT 1")).await.unwrap();
    next.commit().await.unwrap();
    let waiting = "SELECT 'it' FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    for tries in 0.. {
        if names(&mut owner, &statement(waiting)).await.is_empty() {
            break;
        }
        assert!(tries < 100, "the database still waits for the lock");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    connected.close().await;
}

async fn of_one_session(database: &Database) -> connection::Database {
    let mut target = database.url.0.clone();
    if let Target::Postgres(server) = &mut target {
        server.pool_size = 1;
    }
    connection::Database::connect(&target, &[]).await.unwrap()
}
