//! What a server refuses to work with, what an operator is told, and how the schema comes to be.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test are test code, which clippy knows of functions marked as tests alone"
)]

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_gallery::testkit::library;
use rawdrive_gallery::{GalleryRead, GalleryTx};
use rawdrive_plans::Catalogue;
use rawdrive_store::{Backend, OpenError, SchemaIssue, Severity, Store, Url};
use rawdrive_tenancy_core::{Commit, Env};
use rawdrive_testkit::contract::Subject;
use sea_orm::sqlx::{AssertSqlSafe, Executor, Row};

#[macro_use]
mod support;
#[path = "contract/subject.rs"]
mod subject;

use support::{Blank, Database, Engine, administer, app_role, owner_role, postgres_url};

async fn open(url: &Url) -> Result<Store, OpenError> {
    Store::open(
        url,
        Env::system(),
        &rawdrive_gallery::built_in_catalogue(),
        &[],
    )
    .await
}

#[tokio::test]
async fn a_role_that_is_not_bound_is_refused() {
    let database = Database::new(Engine::Postgres).await;
    let superuser: sea_orm::sqlx::postgres::PgConnectOptions = postgres_url().parse().unwrap();
    let refused = open(&Url::parse(&database.url_for(superuser.get_username())).unwrap()).await;
    assert!(
        matches!(refused, Err(OpenError::Unbound { .. })),
        "{refused:?}"
    );

    let role = format!("rd_bypass_{}", std::process::id());
    administer(&format!(
        "CREATE ROLE {role} LOGIN BYPASSRLS PASSWORD 'rawdrive'"
    ))
    .await;
    let refused = open(&Url::parse(&database.url_for(&role)).unwrap()).await;
    assert!(
        matches!(&refused, Err(OpenError::Unbound { role: named }) if *named == role),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_server_that_is_too_old_is_refused_and_says_which_is_wanted() {
    let database = Database::new(Engine::Postgres).await;
    let url = Url::parse(&database.url_for(&app_role())).unwrap();
    let store = open(&url).await.unwrap();
    store.close().await;
    // There is one PostgreSQL here: this database's says that it is another.
    let mut superuser = database.connect_as_superuser().await;
    for sql in [
        "CREATE SCHEMA old",
        "GRANT USAGE ON SCHEMA old TO PUBLIC",
        "CREATE FUNCTION old.current_setting(text) RETURNS text LANGUAGE sql STABLE AS $$
            SELECT CASE $1 WHEN 'server_version' THEN '13.21' WHEN 'server_version_num' THEN '130021'
                ELSE pg_catalog.current_setting($1) END $$",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = old, pg_catalog, public',
            current_database()); END $$",
    ] {
        superuser.execute(sql).await.unwrap();
    }
    let refused = open(&url).await.unwrap_err();
    assert!(
        matches!(&refused, OpenError::TooOld { found, wanted: 14 } if found == "13.21"),
        "{refused:?}"
    );
    let told = refused.to_string();
    assert!(told.contains("13.21") && told.contains("14"), "{told}");
}

#[tokio::test]
async fn a_schema_that_is_behind_is_refused_and_named() {
    let blank = Blank::new().await;
    let url = Url::parse(&blank.url_for(&owner_role())).unwrap();
    let Err(OpenError::Behind { missing }) = open(&url).await else {
        panic!("there is no schema");
    };
    assert_eq!(missing, rawdrive_migrations::names());
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_said_at_once_and_why() {
    let nowhere = Url::parse("postgres://rawdrive@127.0.0.1:1/rawdrive").unwrap();
    let begun = std::time::Instant::now();
    for refused in [
        open(&nowhere).await.map(drop),
        Store::migrate(&nowhere, None, &[]).await,
    ] {
        let OpenError::Database(error) = refused.unwrap_err() else {
            panic!("nobody listens there");
        };
        assert!(error.to_string().contains("refused"), "{error}");
    }
    // The pool would have tried for half a minute, twice.
    assert!(begun.elapsed().as_secs() < 30);
}

#[tokio::test]
async fn a_role_that_may_not_change_the_schema_is_named() {
    let blank = Blank::new().await;
    let server = Url::parse(&blank.url_for(&app_role())).unwrap();
    let refused = Store::migrate(&server, Some(&app_role()), &[]).await;
    assert!(
        matches!(&refused, Err(OpenError::NotOwner { role }) if *role == app_role()),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_that_open_an_empty_file_together_all_do() {
    let folder = tempfile::tempdir().unwrap();
    let url = Url::sqlite(folder.path().join("rawdrive.db"));
    let stores = (0..4).map(|_| {
        let url = url.clone();
        tokio::spawn(async move { open(&url).await })
    });
    for store in stores.collect::<Vec<_>>() {
        store.await.unwrap().unwrap().close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_start_together_migrate_once() {
    let blank = Blank::new().await;
    let owner = Url::parse(&blank.url_for(&owner_role())).unwrap();
    let migrations = (0..6).map(|_| {
        let owner = owner.clone();
        tokio::spawn(async move { Store::migrate(&owner, Some(&app_role()), &[]).await })
    });
    for migration in migrations.collect::<Vec<_>>() {
        migration.await.unwrap().unwrap();
    }
    let url = Url::parse(&blank.url_for(&app_role())).unwrap();
    let stores = (0..4).map(|_| {
        let url = url.clone();
        tokio::spawn(async move { open(&url).await })
    });
    for store in stores.collect::<Vec<_>>() {
        let store = store.await.unwrap().unwrap();
        assert_eq!(store.schema_issues().await.unwrap(), []);
        store.close().await;
    }
}

#[tokio::test]
async fn one_role_for_everything_works_and_is_remarked_upon() {
    let blank = Blank::new().await;
    let owner = Url::parse(&blank.url_for(&owner_role())).unwrap();
    Store::migrate(&owner, None, &[]).await.unwrap();
    let store = open(&owner).await.unwrap();
    let schema_issues = store.schema_issues().await.unwrap();
    assert_eq!(
        schema_issues,
        [SchemaIssue::OwnsTables { role: owner_role() }]
    );
    assert_eq!(schema_issues[0].severity(), Severity::Note);
    store.close().await;
}

#[tokio::test]
async fn a_wall_that_is_missing_is_found() {
    let database = Database::new(Engine::Postgres).await;
    let store = open(&database.url).await.unwrap();
    assert_eq!(store.backend(), Backend::Postgres);
    assert_eq!(store.schema_issues().await.unwrap(), []);
    let mut owner = database.connect_as_owner().await;
    for sql in [
        "ALTER TABLE photos DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE jobs NO FORCE ROW LEVEL SECURITY",
        "DROP POLICY tenant ON galleries",
        "ALTER POLICY tenant ON clients USING (true)",
        "CREATE POLICY everyone ON holds USING (true)",
        "CREATE TABLE stray (workspace_id uuid)",
        "ALTER TABLE ledger DISABLE TRIGGER ledger_no_change",
        "DROP TRIGGER audit_entries_no_truncate ON audit_entries",
    ] {
        owner.execute(AssertSqlSafe(sql)).await.unwrap();
    }
    let schema_issues = store.schema_issues().await.unwrap();
    let found: Vec<_> = schema_issues.iter().map(ToString::to_string).collect();
    let lacks = |table, what| {
        format!("table `{table}` lacks {what}: rows of one workspace could reach another")
    };
    let rewritable = |table, trigger| {
        format!(
            "table `{table}` has no trigger `{trigger}` that is in force: what was recorded could be changed"
        )
    };
    assert_eq!(
        found,
        [
            rewritable("ledger", "ledger_no_change"),
            rewritable("audit_entries", "audit_entries_no_truncate"),
            lacks("clients", "the policy `tenant`"),
            lacks("galleries", "the policy `tenant`"),
            lacks("jobs", "FORCE ROW LEVEL SECURITY"),
            lacks("photos", "row-level security"),
            lacks("stray", "row-level security"),
            lacks("stray", "FORCE ROW LEVEL SECURITY"),
            lacks("stray", "the policy `tenant`"),
            "table `holds` has a policy `everyone` that this release does not know".to_owned(),
            "table `stray`: its primary key begins with nothing, not with `workspace_id`: rows of one workspace could \
             meet another's"
                .to_owned(),
        ]
    );
    assert!(
        schema_issues
            .iter()
            .all(|issue| issue.severity() == Severity::Finding)
    );
}

/// PgBouncer hands each transaction another session: a statement that were prepared by name would be found by
/// nobody, or by somebody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_pgbouncer_no_session_keeps_a_statement_or_a_setting() {
    let database = Database::new(Engine::PgBouncer).await;
    let opened = subject::Opened::new(open(&database.url).await.unwrap());
    let plan = rawdrive_gallery::built_in_catalogue()
        .newest(&"enterprise".parse().unwrap())
        .unwrap();
    let scopes = [opened.workspace(&plan).await, opened.workspace(&plan).await];
    let tasks = (0..16).map(|n| {
        let (store, scope) = (opened.store.clone(), scopes[n % 2]);
        tokio::spawn(async move {
            for _ in 0..10 {
                let mut tx = store.begin(&scope).await.unwrap();
                let shelf = library(store.env());
                tx.insert_library(&shelf).await.unwrap();
                tx.commit().await.unwrap();
                let read = store.read(&scope).library(shelf.id).await.unwrap();
                assert_eq!(read, Some(shelf));
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    // A client of the pooler that is handed the same sessions.
    let mut connection = database.connect_behind_pgbouncer().await;
    for _ in 0..6 {
        let kept = "SELECT (SELECT count(*) FROM pg_prepared_statements)::text
            || coalesce(current_setting('app.workspace_id', true), '')";
        let rows = connection.fetch_all(kept).await.unwrap();
        assert_eq!(rows[0].get::<String, _>(0), "0");
    }
}

/// What is compared for equality is what was stored, however fine it came.
async fn times_come_back_as_they_are_compared(engine: Engine) {
    let database = Database::new(engine).await;
    let opened = subject::Opened::new(open(&database.url).await.unwrap());
    let plan = rawdrive_gallery::built_in_catalogue()
        .newest(&"enterprise".parse().unwrap())
        .unwrap();
    let scope = opened.workspace(&plan).await;
    let now = opened.store.env().now();
    assert_eq!(
        now.timestamp_subsec_nanos() % 1_000,
        0,
        "Env tells microseconds"
    );

    let finer: DateTime<Utc> = "2026-02-28T23:59:59.123456789Z".parse().unwrap();
    let before_the_epoch: DateTime<Utc> = "1969-07-20T20:17:40.999999999Z".parse().unwrap();
    for (given, kept) in [
        (finer, "2026-02-28T23:59:59.123456Z"),
        (before_the_epoch, "1969-07-20T20:17:40.999999Z"),
        (
            finer + TimeDelta::nanoseconds(-123_456_789),
            "2026-02-28T23:59:59Z",
        ),
    ] {
        use rawdrive_plans::Limit;
        use rawdrive_usage::{Charge, QuotaKey, UsageTx};
        let key = |period_start| QuotaKey {
            metric: rawdrive_gallery::AI_ANALYSIS,
            subject: String::new(),
            period_start,
        };
        let kept: DateTime<Utc> = kept.parse().unwrap();
        let mut tx = opened.store.begin(&scope).await.unwrap();
        for period_start in [given, kept] {
            let charge = Charge {
                key: key(period_start),
                amount: 1,
            };
            assert!(tx.reserve(&charge, Limit::AtMost(2)).await.unwrap());
        }
        let full = Charge {
            key: key(given),
            amount: 1,
        };
        assert!(
            !tx.reserve(&full, Limit::AtMost(2)).await.unwrap(),
            "one counter, not two"
        );
        let applied = tx.apply(&key(given), 2, 1, Limit::Unlimited).await.unwrap();
        assert_eq!(applied.map(|row| (row.used, row.reserved)), Some((1, 0)));
        let stored = tx.quotas().await.unwrap();
        assert!(
            stored.iter().any(|(key, _)| key.period_start == kept),
            "{stored:?}"
        );
    }
}

const TWO_PLANS: &str = "
[[plan]]
slug = \"free\"
version = 1
name = \"Free\"

[[plan]]
slug = \"studio\"
version = 1
name = \"Studio\"
limits = { max_team_members = 3 }
";

/// Who starts to sell what was granted only, or in a further currency, adds a price and no version; servers of before
/// and after run side by side.
async fn a_published_version_is_sold_at_further_prices(engine: Engine) {
    let database = Database::new(engine).await;
    let with = |prices: &str| Catalogue::parse(&format!("{TWO_PLANS}{prices}\n")).unwrap();
    let start = async |catalogue: &Catalogue| {
        Store::open(&database.url, Env::system(), catalogue, &[]).await
    };
    let dollars = r#"{ currency = "usd", interval = "month", amount = 2900 }"#;
    let euros = r#"{ currency = "eur", interval = "month", amount = 2700 }"#;
    let (none, usd, eur) = (
        with(""),
        with(&format!("prices = [{dollars}]")),
        with(&format!("prices = [{euros}]")),
    );
    for catalogue in [&none, &usd, &none, &eur, &usd] {
        start(catalogue).await.unwrap().close().await;
    }
    // What others published counts: neither of the two amounts may be another.
    for dearer in [dollars, euros].map(|price| price.replace("00 }", "01 }")) {
        let refused = start(&with(&format!("prices = [{dearer}]"))).await;
        let error = refused.unwrap_err().to_string();
        assert!(
            error.contains("studio") && error.contains("01 as its price in"),
            "{error}"
        );
    }
    let other = Catalogue::parse(&TWO_PLANS.replace("= 3", "= 4")).unwrap();
    let error = start(&other).await.unwrap_err().to_string();
    assert!(error.contains("other limits"), "{error}");
}

on_every_database![
    times_come_back_as_they_are_compared,
    a_published_version_is_sold_at_further_prices,
];
