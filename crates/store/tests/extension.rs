//! Tables of an embedder's own: their migrations, their rows in the core's transactions, and what is refused.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test are test code, which clippy knows of functions marked as tests alone"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "what is forgotten or forced is to be held to the workspace all the same"
)]

use rawdrive_migrations::{Migrator, MigratorTrait as _};
use rawdrive_plans::{Limit, Metric};
use rawdrive_store::extension::{Extension, MigrationFuture, MigrationTx, Row, column};
use rawdrive_store::{OpenError, Store, Url};
use rawdrive_tenancy_core::{Causes, Commit as _, Env, StoreError, WorkspaceScope};
use rawdrive_testkit::contract::{Stage, Subject as _};
use rawdrive_usage::{Charge, HoldPurpose, QuotaKey, TakeError, UsageTx as _, hold, settle};
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::sqlx::postgres::PgPoolOptions;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sea_orm::sqlx::{AssertSqlSafe, Executor as _};
use sea_orm::{
    ColumnTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, Set,
    SqlxPostgresConnector, SqlxSqliteConnector,
};

#[macro_use]
mod support;
#[path = "contract/subject.rs"]
mod subject;

use subject::Opened;
use support::{Blank, Database, Engine, app_role, owner_role};

const FIRST: &[&str] = &[
    "CREATE TABLE contracts (
        workspace_id {uuid} NOT NULL,
        id {uuid} NOT NULL,
        title TEXT NOT NULL,
        signed_at {time},
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ){strict}",
    "CREATE UNIQUE INDEX contracts_by_title ON contracts (workspace_id, title)",
];

const SECOND: &[&str] = &[
    "CREATE TABLE contract_parties (
        workspace_id {uuid} NOT NULL,
        contract_id {uuid} NOT NULL,
        name TEXT NOT NULL,
        PRIMARY KEY (workspace_id, contract_id, name),
        FOREIGN KEY (workspace_id, contract_id) REFERENCES contracts (workspace_id, id) ON DELETE CASCADE
    ){strict}",
    "CREATE TABLE contract_forms (name TEXT NOT NULL PRIMARY KEY, text TEXT NOT NULL){strict}",
    "INSERT INTO contract_forms (name, text) VALUES ('sale', 'We sell')",
];

const CONTRACTS: Extension = Extension::new("contracts", &[("0001", FIRST), ("0002", SECOND)])
.globals(&[("contract_forms", "forms are the installation's")])
.checks(&[(
    "contracts_have_parties",
    "SELECT 'contract ' || c.title || ' has no party' AS detail FROM contracts c
     WHERE c.workspace_id = $1 AND NOT EXISTS
        (SELECT 1 FROM contract_parties p WHERE p.workspace_id = c.workspace_id AND p.contract_id = c.id)",
)])
.facts(&[(
    "first_contract",
    "SELECT 1 AS one FROM contracts WHERE workspace_id = $1",
)]);

rawdrive_store::tenant_entity! {
    mod contracts("contracts", [id: Uuid]) { title: String, signed_at: Option<ChronoDateTimeUtc> }
}

rawdrive_store::tenant_entity! {
    mod quotas("quotas", [metric: String]) { used: i64 }
}

const INSERT: &str = "INSERT INTO contracts (workspace_id, id, title) VALUES ($1, $2, $3)";

async fn stage(engine: Engine) -> Stage<Opened> {
    Stage::set(async |test_env, catalogue| {
        subject::open_with(engine, test_env, catalogue, &[CONTRACTS]).await
    })
    .await
}

async fn insert(store: &Store, scope: &WorkspaceScope, title: &str) -> Result<(), StoreError> {
    let mut tx = store.begin(scope).await.unwrap();
    let values = [tx.env().uuid().into(), title.into()];
    tx.execute("insert a contract", INSERT, values).await?;
    tx.commit().await
}

fn contracts_taken(amount: u64) -> Charge {
    Charge {
        key: QuotaKey::level(Metric::new("contracts")),
        amount,
    }
}

/// A contract, and its place in the limit, or neither.
async fn create(store: &Store, scope: &WorkspaceScope, n: usize) -> Result<(), TakeError> {
    let env = store.env();
    let mut tx = store.begin(scope).await.unwrap();
    let id = env.id();
    let charges = vec![contracts_taken(1)];
    hold(&mut tx, env, id, HoldPurpose::new("creation"), charges).await?;
    let values = [env.uuid().into(), format!("contract {n}").into()];
    tx.execute("insert a contract", INSERT, values).await?;
    let used = [(contracts_taken(1), "contract".to_owned())];
    settle(&mut tx, env, id, &used).await?;
    tx.commit().await?;
    Ok(())
}

async fn count(store: &Store, scope: &WorkspaceScope) -> u64 {
    let reader = store.read(scope);
    reader.select::<contracts::Entity>().count().await.unwrap()
}

/// 150 at once against a limit of 100: as many rows as were admitted, as the counter says, and as the ledger says.
async fn of_150_creations_as_many_are_kept_as_fit(engine: Engine) {
    let stage = stage(engine).await;
    let limit = Limit::AtMost(100);
    stage.limit(Metric::new("contracts"), limit).await;
    let tasks = (0..150).map(|n| {
        let (store, scope) = (stage.store.store.clone(), stage.scope);
        tokio::spawn(async move { create(&store, &scope, n).await })
    });
    let mut admitted = 0;
    for task in tasks.collect::<Vec<_>>() {
        match task.await.unwrap() {
            Ok(()) => admitted += 1,
            Err(TakeError::Exceeded(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(admitted, 100);
    assert_eq!(count(&stage.store.store, &stage.scope).await, 100);
    assert_eq!(count(&stage.store.store, &stage.other).await, 0);
    let mut tx = stage.begin().await;
    let row = tx.quota(&contracts_taken(1).key).await.unwrap();
    assert_eq!((row.used, row.reserved), (100, 0));
    drop(tx);
    assert_eq!(stage.store.ledger(&stage.scope).await.len(), 100);
    assert_eq!(stage.store.discrepancies(&stage.scope).await, [""; 0]);
}

async fn what_is_rolled_back_leaves_no_row(engine: Engine) {
    let stage = stage(engine).await;
    let mut tx = stage.begin().await;
    let values = [tx.env().uuid().into(), "draft".into()];
    tx.execute("insert a contract", INSERT, values)
        .await
        .unwrap();
    assert!(tx.select::<contracts::Entity>().exists().await.unwrap());
    drop(tx);
    assert_eq!(count(&stage.store.store, &stage.scope).await, 0);
}

fn titles(rows: &[Row]) -> Vec<String> {
    rows.iter()
        .map(|row| column(row, "title").unwrap())
        .collect()
}

async fn statements_are_held_to_the_workspace(engine: Engine) {
    const ALL: &str =
        "SELECT title FROM contracts WHERE workspace_id = $1 AND title >= $2 ORDER BY title";
    let stage = stage(engine).await;
    let store = &stage.store.store;
    for title in ["b", "a"] {
        insert(store, &stage.scope, title).await.unwrap();
    }
    insert(store, &stage.other, "a").await.unwrap();
    let taken = insert(store, &stage.scope, "a").await;
    assert!(matches!(taken, Err(StoreError::Taken { .. })), "{taken:?}");
    let reader = store.read(&stage.scope);
    let rows = reader.query("list contracts", ALL, ["a".into()]).await;
    assert_eq!(titles(&rows.unwrap()), ["a", "b"]);
    let mut tx = stage.begin().await;
    let sql = format!("{ALL}{}", tx.for_update());
    let rows = tx.query("list contracts", &sql, ["b".into()]).await;
    assert_eq!(titles(&rows.unwrap()), ["b"]);
    let sign = "UPDATE contracts SET signed_at = $2 WHERE workspace_id = $1 RETURNING *";
    let now = tx.env().now();
    let signed = tx.query_as::<contracts::Model>("sign", sign, [now.into()]);
    let signed = signed.await.unwrap();
    assert_eq!(signed.len(), 2);
    assert!(signed.iter().all(|row| row.signed_at == Some(now)));
    tx.commit().await.unwrap();
    let theirs = store.read(&stage.other).select::<contracts::Entity>();
    assert_eq!(theirs.one().await.unwrap().unwrap().signed_at, None);

    let refused = reader.query("list contracts", "SELECT * FROM contracts", []);
    let error = refused.await.unwrap_err();
    let told = Causes(&error).to_string();
    assert!(
        told.starts_with("failed to list contracts: ")
            && told.contains("`contracts` is not held to the workspace"),
        "{told}"
    );
    let writes = "DELETE FROM contracts WHERE workspace_id = $1";
    let error = reader.query("delete", writes, []).await.unwrap_err();
    assert!(
        Causes(&error)
            .to_string()
            .contains("on a handle that reads")
    );
    // The statement was not run, so that the transaction goes on.
    let mut tx = stage.begin().await;
    let error = tx.execute(
        "reset",
        "UPDATE quotas SET used = 0 WHERE workspace_id = $1",
        [],
    );
    assert!(
        Causes(&error.await.unwrap_err())
            .to_string()
            .contains("`quotas`, which is the core's")
    );
    assert_eq!(tx.execute("delete", writes, []).await.unwrap(), 2);
    tx.commit().await.unwrap();
    assert_eq!(count(store, &stage.scope).await, 0);
    assert_eq!(count(store, &stage.other).await, 1);
}

async fn entities_are_held_to_the_workspace(engine: Engine) {
    use contracts::{ActiveModel, Column, Entity};
    let stage = stage(engine).await;
    let store = &stage.store.store;
    let row = |title: &str| ActiveModel {
        // Of another workspace, as a row may say by mistake.
        workspace_id: Set(store.env().uuid()),
        id: Set(store.env().uuid()),
        title: Set(title.to_owned()),
        signed_at: Set(None),
    };
    for scope in [&stage.scope, &stage.other] {
        let mut tx = store.begin(scope).await.unwrap();
        let inserted = tx
            .insert(["a", "b", "c"].map(row))
            .named("insert contracts");
        assert_eq!(inserted.exec().await.unwrap(), 3);
        let again = OnConflict::columns([Column::WorkspaceId, Column::Title])
            .do_nothing()
            .to_owned();
        let again = tx.insert([row("c"), row("d")]).on_conflict(again);
        assert_eq!(again.exec().await.unwrap(), 1);
        assert_eq!(tx.insert::<ActiveModel>([]).exec().await.unwrap(), 0);
        tx.commit().await.unwrap();
    }
    let mut tx = stage.begin().await;
    let updated = tx
        .update::<Entity>()
        .col_expr(Column::Title, Expr::value("z"))
        .filter(Column::Title.eq("a"));
    assert_eq!(updated.exec().await.unwrap(), 1);
    let moved = tx.update::<Entity>().set(row("moved"));
    let error = Causes(&moved.exec().await.unwrap_err()).to_string();
    assert!(error.contains("changes `workspace_id`"), "{error}");
    let reset = tx
        .update::<quotas::Entity>()
        .col_expr(quotas::Column::Used, Expr::value(0));
    let error = Causes(&reset.exec().await.unwrap_err()).to_string();
    assert!(error.contains("`quotas`, which is the core's"), "{error}");
    let deleted = tx.delete::<Entity>().filter(Column::Title.eq("b"));
    assert_eq!(deleted.exec().await.unwrap(), 1);
    let locked = tx
        .select::<Entity>()
        .filter(Column::Title.eq("c"))
        .lock(sea_orm::sea_query::LockType::NoKeyUpdate);
    assert_eq!(
        locked.one().await.unwrap().unwrap().workspace_id,
        workspace(&stage.scope)
    );
    tx.commit().await.unwrap();

    let reader = store.read(&stage.scope);
    let select = || reader.select::<Entity>().order_by_desc(Column::Title);
    let all = select().all().await.unwrap();
    let read: Vec<_> = all.iter().map(|row| row.title.as_str()).collect();
    assert_eq!(read, ["z", "d", "c"]);
    let pair = select()
        .select_only()
        .column(Column::Title)
        .into_tuple::<String>();
    assert_eq!(pair.one().await.unwrap().as_deref(), Some("z"));
    let model = select().limit(2).into_model::<contracts::Model>();
    assert_eq!(model.all().await.unwrap(), all[..2]);
    assert_eq!(select().limit(2).count().await.unwrap(), 2);
    assert!(
        !select()
            .filter(Column::Title.eq("a"))
            .exists()
            .await
            .unwrap()
    );
    // However its conditions were built, and whatever else became of the statement.
    let mut wide = reader.select::<Entity>();
    *sea_orm::QuerySelect::query(&mut wide) =
        sea_orm::QueryTrait::into_query(<Entity as sea_orm::EntityTrait>::find());
    let wide = wide.filter(
        sea_orm::Condition::any()
            .add(Column::Title.is_not_null())
            .add(Expr::value(true)),
    );
    assert_eq!(wide.count().await.unwrap(), 3);
    let inside = reader.select::<Entity>().select_only().column(Column::Id);
    let inside = inside
        .filter(Column::Title.eq("d"))
        .into_subquery()
        .unwrap();
    let found = select()
        .filter(Column::Id.in_subquery(inside))
        .all()
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(count(store, &stage.other).await, 4);
}

fn workspace(scope: &WorkspaceScope) -> sea_orm::prelude::Uuid {
    use rawdrive_tenancy_core::id::TypedId as _;
    scope.workspace().uuid()
}

async fn global_tables_have_a_handle_of_their_own(engine: Engine) {
    let stage = stage(engine).await;
    let store = &stage.store.store;
    let forms = store.globals();
    let insert =
        "INSERT INTO contract_forms (name, text) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
    for changed in [1, 0] {
        let values = ["lease".into(), "We let".into()];
        assert_eq!(
            forms.execute("add a form", insert, values).await.unwrap(),
            changed
        );
    }
    let all = "SELECT name FROM contract_forms ORDER BY name";
    let rows = forms.query("list forms", all, []).await.unwrap();
    let names: Vec<String> = rows
        .iter()
        .map(|row| column(row, "name").unwrap())
        .collect();
    assert_eq!(names, ["lease", "sale"]);
    let users = forms.query("list users", "SELECT * FROM users", []).await;
    let error = Causes(&users.unwrap_err()).to_string();
    assert!(
        error.contains("`users` is no global table of an extension"),
        "{error}"
    );
}

async fn doctor_and_onboarding_know_of_an_extension(engine: Engine) {
    let stage = stage(engine).await;
    let store = &stage.store.store;
    insert(store, &stage.scope, "sale").await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    let found = snapshot.check(&stage.scope).await.unwrap();
    let own = found
        .iter()
        .find(|f| f.invariant == "contracts_have_parties");
    let detail = &own.unwrap().detail;
    assert!(detail.ends_with(": contract sale has no party"), "{detail}");
    let theirs = snapshot.check(&stage.other).await.unwrap();
    let all = "SELECT title FROM contracts WHERE workspace_id = $1";
    for (scope, n) in [(&stage.scope, 1), (&stage.other, 0)] {
        let rows = snapshot.rows(scope, "list contracts", all, []).await;
        assert_eq!(rows.unwrap().len(), n);
    }
    assert!(
        theirs
            .iter()
            .all(|f| f.invariant != "contracts_have_parties")
    );
    drop(snapshot);
    let facts: Vec<_> = store.facts().collect();
    assert_eq!(
        (facts[0].extension, facts[0].name),
        ("contracts", "first_contract")
    );
    for (scope, holds) in [(&stage.scope, true), (&stage.other, false)] {
        let reader = store.read_to_authenticate(scope.workspace());
        let rows = reader
            .query("look at a fact", facts[0].sql, [])
            .await
            .unwrap();
        assert_eq!(!rows.is_empty(), holds);
    }
}

async fn tables_that_would_mix_workspaces_are_found(engine: Engine) {
    let stage = stage(engine).await;
    let store = &stage.store.store;
    assert_eq!(store.schema_issues().await.unwrap(), []);
    let (uuid, protect) = match engine {
        Engine::Sqlite => ("BLOB", ""),
        _ => (
            "UUID",
            "; ALTER TABLE loose ENABLE ROW LEVEL SECURITY; ALTER TABLE loose FORCE ROW LEVEL SECURITY;
             CREATE POLICY tenant ON loose
                USING (workspace_id = nullif(current_setting('app.workspace_id', true), '')::uuid)
                WITH CHECK (workspace_id = nullif(current_setting('app.workspace_id', true), '')::uuid)",
        ),
    };
    let sql = format!(
        "CREATE TABLE loose (workspace_id {uuid} NOT NULL, id {uuid} PRIMARY KEY, name TEXT UNIQUE,
            contract_id {uuid}, FOREIGN KEY (contract_id, workspace_id) REFERENCES contracts (id, workspace_id)){protect}"
    );
    let database = stage.store.database();
    if engine == Engine::Sqlite {
        let options = SqliteConnectOptions::new().filename(database.url.file().unwrap());
        let pool = SqlitePool::connect_with(options).await.unwrap();
        pool.execute(AssertSqlSafe(sql)).await.unwrap();
        pool.close().await;
    } else {
        let unique = "CREATE UNIQUE INDEX contracts_turned ON contracts (id, workspace_id)";
        let mut owner = database.connect_as_owner().await;
        owner.execute(unique).await.unwrap();
        owner.execute(AssertSqlSafe(sql)).await.unwrap();
    }
    let issues = store.schema_issues().await.unwrap();
    let found: Vec<_> = issues.iter().map(ToString::to_string).collect();
    let said = |key: &str, column: &str| {
        format!(
            "table `loose`: its {key} begins with `{column}`, not with `workspace_id`: rows of one workspace could meet \
             another's"
        )
    };
    for expected in [
        said("primary key", "id"),
        said("foreign key", "contract_id"),
        said("foreign key's target", "id"),
        said("unique index", "name"),
    ] {
        assert!(found.contains(&expected), "{expected}: {found:#?}");
    }
}

fn in_capitals(tx: &mut MigrationTx) -> MigrationFuture<'_> {
    Box::pin(async move {
        tx.open_workspaces(&["contracts"]).await?;
        let rows = tx.query(
            "SELECT id, title FROM contracts WHERE title <> $1",
            ["".into()],
        );
        for row in rows.await? {
            let id: sea_orm::prelude::Uuid = row.try_get("", "id")?;
            let title: String = row.try_get("", "title")?;
            let values = [id.into(), title.to_uppercase().into()];
            tx.execute("UPDATE contracts SET title = $2 WHERE id = $1", values)
                .await?;
        }
        Ok(())
    })
}

const WITH_CAPITALS: Extension = Extension::new(
    "contracts",
    &[
        ("0001", FIRST),
        ("0002", SECOND),
        (
            "0003",
            &["ALTER TABLE contracts ADD COLUMN note TEXT NOT NULL DEFAULT ''"],
        ),
    ],
)
.globals(CONTRACTS.globals)
.data_migrations(&[("0003", in_capitals)]);

async fn later_migrations_run_once_and_see_every_workspace(engine: Engine) {
    let stage = stage(engine).await;
    let store = &stage.store.store;
    for scope in [&stage.scope, &stage.other] {
        insert(store, scope, "sale").await.unwrap();
    }
    store.close().await;
    let database = stage.store.database();
    let (env, catalogue) = (Env::system(), rawdrive_testkit::product::catalogue());
    for title in ["lease", "loan"] {
        let store = database
            .open_with(env.clone(), &catalogue, &[WITH_CAPITALS])
            .await;
        assert_eq!(store.schema_issues().await.unwrap(), []);
        let read = store.read(&stage.scope).select::<contracts::Entity>();
        let read = read
            .order_by_asc(contracts::Column::Id)
            .all()
            .await
            .unwrap();
        assert_eq!(read[0].title, "SALE");
        // What came after is left as it is.
        assert!(read[1..].iter().all(|row| row.title == "lease"));
        insert(&store, &stage.scope, title).await.unwrap();
        store.close().await;
    }
    // One that was released does not go away.
    let Err(error) = open(database, &[CONTRACTS]).await else {
        panic!("the database has a migration that is not declared");
    };
    assert_eq!(
        error.to_string(),
        "extension `contracts`, migration `0003`: it was applied to this database, and is not declared any more"
    );
}

/// Brings the schema up to date and opens it.
async fn open(database: &Database, extensions: &[Extension]) -> Result<Store, OpenError> {
    if database.url.file().is_none() {
        let owner = Url::parse(&database.url_for(&owner_role())).unwrap();
        Store::migrate(&owner, Some(&app_role()), extensions).await?;
    }
    let catalogue = rawdrive_gallery::built_in_catalogue();
    Store::open(&database.url, Env::system(), &catalogue, extensions).await
}

async fn a_migration_that_fails_is_named_and_leaves_nothing(engine: Engine) {
    const FAILS: Extension = Extension::new(
        "notes",
        &[(
            "0001",
            &[
                "CREATE TABLE notes (workspace_id {uuid} NOT NULL, id {uuid} NOT NULL, PRIMARY KEY (workspace_id, id)){strict}",
                "CREATE INDEX notes_by_day ON notes (day)",
            ],
        )],
    );
    const MENDED: Extension = Extension::new(
        "notes",
        &[(
            "0001",
            &[
                "CREATE TABLE notes (workspace_id {uuid} NOT NULL, id {uuid} NOT NULL, PRIMARY KEY (workspace_id, id)){strict}",
            ],
        )],
    );
    let database = Database::new(engine).await;
    let Err(error) = open(&database, &[FAILS]).await else {
        panic!("there is no such column");
    };
    assert_eq!(
        error.to_string(),
        "extension `notes`, migration `0001`, statement 2: the database refuses it"
    );
    open(&database, &[MENDED]).await.unwrap().close().await;
}

on_every_database![
    of_150_creations_as_many_are_kept_as_fit,
    what_is_rolled_back_leaves_no_row,
    statements_are_held_to_the_workspace,
    entities_are_held_to_the_workspace,
    global_tables_have_a_handle_of_their_own,
    doctor_and_onboarding_know_of_an_extension,
    tables_that_would_mix_workspaces_are_found,
    later_migrations_run_once_and_see_every_workspace,
    a_migration_that_fails_is_named_and_leaves_nothing,
];

#[tokio::test]
async fn a_server_without_an_extensions_tables_is_refused_and_they_are_named() {
    let database = Database::new(Engine::Postgres).await;
    let catalogue = rawdrive_gallery::built_in_catalogue();
    let refused = Store::open(&database.url, Env::system(), &catalogue, &[CONTRACTS]).await;
    let Err(OpenError::Behind { missing }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(missing, ["contracts 0001", "contracts 0002"]);
}

/// An extension whose first table an older release of the core had made, by what was its fourth migration then.
const ADOPTING: Extension =
    Extension::new("contracts", &[("0001", FIRST)]).adopts(&[("0001", "m0004_clients")]);

/// How many of the core's migrations the older release had, whether the extension is declared from the first start on,
/// and whether its table is there without having been made again.
const RELEASES: [(&str, bool, bool); 7] = [
    // This one knew extensions, and its core made a product's tables all the same.
    ("m0028_housekeeping", true, true),
    ("m0028_housekeeping", false, true),
    ("m0026_extensions", true, true),
    ("m0026_extensions", false, true),
    ("m0004_clients", true, false),
    ("m0001_first", true, false),
    ("m0001_first", false, false),
];

fn before(migration: &str) -> u32 {
    let names = rawdrive_migrations::names();
    let at = names.iter().position(|name| name == migration);
    u32::try_from(at.unwrap()).unwrap()
}

/// The table as the older release had it: with a column by which it is known.
fn made_before(uuid: &str) -> String {
    format!(
        "CREATE TABLE contracts (workspace_id {uuid} NOT NULL, id {uuid} NOT NULL, of_before TEXT)"
    )
}

#[tokio::test]
async fn tables_of_an_older_release_are_adopted_on_sqlite() {
    for (release, from_the_first, is_adopted) in RELEASES {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rawdrive.db");
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true);
        let one = SqlitePoolOptions::new().max_connections(1);
        let pool = one.connect_with(options.clone()).await.unwrap();
        let connection = SqlxSqliteConnector::from_sqlx_sqlite_pool(pool.clone());
        Migrator::up(&connection, Some(before(release)))
            .await
            .unwrap();
        if is_adopted {
            pool.execute(AssertSqlSafe(made_before("BLOB")))
                .await
                .unwrap();
        }
        pool.close().await;
        let url = Url::sqlite(&path);
        let first: &[Extension] = if from_the_first { &[ADOPTING] } else { &[] };
        for extensions in [first, &[ADOPTING], &[ADOPTING]] {
            let store = Store::open(
                &url,
                Env::system(),
                &rawdrive_gallery::built_in_catalogue(),
                extensions,
            )
            .await;
            store.unwrap().close().await;
        }
        let pool = SqlitePool::connect_with(options).await.unwrap();
        let columns = pool.fetch_all("SELECT of_before FROM contracts").await;
        assert_eq!(columns.is_ok(), is_adopted, "{release}");
    }
}

/// The extension's table was dropped, and the migration that once made it taken out of the core's history.
#[tokio::test]
async fn what_is_taken_out_of_the_cores_history_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rawdrive.db");
    let url = Url::sqlite(&path);
    let catalogue = rawdrive_gallery::built_in_catalogue();
    for round in 0..2 {
        let store = Store::open(&url, Env::system(), &catalogue, &[ADOPTING]).await;
        store.unwrap().close().await;
        let options = SqliteConnectOptions::new().filename(&path);
        let pool = SqlitePool::connect_with(options).await.unwrap();
        let rows = pool.fetch_all("SELECT id FROM contracts").await;
        assert!(rows.is_ok(), "round {round}");
        for sql in [
            "DROP TABLE contracts",
            "DELETE FROM seaql_migrations WHERE version = 'm0004_clients'",
        ] {
            pool.execute(sql).await.unwrap();
        }
        pool.close().await;
    }
}

#[tokio::test]
async fn tables_of_an_older_release_are_adopted_on_postgres() {
    for (release, from_the_first, is_adopted) in RELEASES {
        let blank = Blank::new().await;
        let owner = blank.url_for(&owner_role());
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .connect(&owner)
            .await
            .unwrap();
        let connection = SqlxPostgresConnector::from_sqlx_postgres_pool(pool.clone());
        Migrator::up(&connection, Some(before(release)))
            .await
            .unwrap();
        if is_adopted {
            pool.execute(AssertSqlSafe(made_before("UUID")))
                .await
                .unwrap();
        }
        let url = Url::parse(&owner).unwrap();
        let first: &[Extension] = if from_the_first { &[ADOPTING] } else { &[] };
        for extensions in [first, &[ADOPTING], &[ADOPTING]] {
            Store::migrate(&url, Some(&app_role()), extensions)
                .await
                .unwrap();
        }
        let server = Url::parse(&blank.url_for(&app_role())).unwrap();
        let store = Store::open(
            &server,
            Env::system(),
            &rawdrive_gallery::built_in_catalogue(),
            &[ADOPTING],
        )
        .await;
        store.unwrap().close().await;
        let columns = pool.fetch_all("SELECT of_before FROM contracts").await;
        assert_eq!(columns.is_ok(), is_adopted, "{release}");
        pool.close().await;
    }
}

/// A new database is no older release, even where its start was cut short.
#[tokio::test]
async fn a_start_that_was_cut_short_is_no_older_release() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rawdrive.db");
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true);
    let url = Url::sqlite(&path);
    let start = async |extensions: &[Extension]| {
        Store::open(
            &url,
            Env::system(),
            &rawdrive_gallery::built_in_catalogue(),
            extensions,
        )
        .await
    };
    start(&[]).await.unwrap().close().await;
    // As if the process had ended between two migrations of the core.
    let pool = SqlitePool::connect_with(options.clone()).await.unwrap();
    pool.execute("DELETE FROM seaql_migrations WHERE version = 'm0026_extensions'")
        .await
        .unwrap();
    pool.close().await;
    start(&[ADOPTING]).await.unwrap().close().await;
    let pool = SqlitePool::connect_with(options).await.unwrap();
    pool.fetch_all("SELECT title FROM contracts").await.unwrap();
}

const NOTHING: &[&str] = &[];
const TABLE: &str = "CREATE TABLE notes (workspace_id {uuid} NOT NULL, id {uuid} NOT NULL, PRIMARY KEY (workspace_id, id))";

macro_rules! one {
    ($($statement:expr),+) => {
        Extension::new("notes", &[("0001", &[$($statement),+])])
    };
}

/// What is refused before anything has run, and how it is said.
const REFUSED: &[(&[Extension], &str)] = &[
    (
        &[Extension::new("Notes", &[])],
        ": `Notes` is no name: a lower-case letter, then lower-case letters, digits and `_`, 50 at most, not in quotes",
    ),
    (&[Extension::new("core", &[])], ": `core` is the core's"),
    (
        &[Extension::new("notes", &[]), Extension::new("notes", &[])],
        ": `notes` is declared twice",
    ),
    (
        &[Extension::new("notes", &[("one more", NOTHING)])],
        ": `one more` is no name: a lower-case letter, then lower-case letters, digits and `_`, 50 at most, not in quotes",
    ),
    (
        &[Extension::new(
            "notes",
            &[("0001", NOTHING), ("0001", NOTHING)],
        )],
        ": `0001` is declared twice",
    ),
    (
        &[Extension::new("notes", &[("0001", NOTHING)]).adopts(&[("0002", "m0001_first")])],
        ": migration `0002` is not declared",
    ),
    (
        &[Extension::new("notes", &[("0001", NOTHING)]).adopts(&[("0001", "m0099_never")])],
        ": the core has no migration `m0099_never`",
    ),
    (
        &[Extension::new("notes", &[]).data_migrations(&[("0001", in_capitals)])],
        ": migration `0001` is not declared",
    ),
    (
        &[Extension::new("notes", &[]).globals(&[("pages", "they are everybody's")])],
        ": global table `pages` is made by no migration, or has no reason",
    ),
    (
        &[one!("CREATE TABLE pages (id {uuid} PRIMARY KEY)").globals(&[("pages", " ")])],
        ": global table `pages` is made by no migration, or has no reason",
    ),
    (
        &[one!(TABLE).globals(&[("notes", "why not")])],
        ", migration `0001`, statement 1: table `notes` has a `workspace_id`, and is listed as global",
    ),
    (
        &[one!("CREATE TABLE pages (id {uuid} PRIMARY KEY)")],
        ", migration `0001`, statement 1: table `pages` has no `workspace_id`, and is not listed as global with a reason",
    ),
    (
        &[one!(
            "CREATE TABLE notes (workspace_id {uuid} NOT NULL, id {uuid} PRIMARY KEY)"
        )],
        ", migration `0001`, statement 1: the primary key of table `notes` is (id): it must begin with `workspace_id`",
    ),
    (
        &[one!(
            "CREATE TABLE notes (workspace_id {uuid} NOT NULL, id {uuid} NOT NULL)"
        )],
        ", migration `0001`, statement 1: the primary key of table `notes` is (): it must begin with `workspace_id`",
    ),
    (
        &[one!(
            "CREATE TABLE notes (workspace_id {uuid} NOT NULL, id {uuid}, PRIMARY KEY (id, workspace_id))"
        )],
        ", migration `0001`, statement 1: the primary key of table `notes` is (id, workspace_id): it must begin with `workspace_id`",
    ),
    (
        &[one!("CREATE TABLE notes (workspace_id {uuid} PRIMARY KEY)")],
        ", migration `0001`, statement 1: `workspace_id` of table `notes` is not `{uuid} NOT NULL`",
    ),
    (
        &[one!(
            "CREATE TABLE notes (workspace_id TEXT NOT NULL PRIMARY KEY)"
        )],
        ", migration `0001`, statement 1: `workspace_id` of table `notes` is not `{uuid} NOT NULL`",
    ),
    (
        &[one!(
            "CREATE TABLE notes (workspace_id {uuid} NOT NULL PRIMARY KEY, name TEXT UNIQUE)"
        )],
        ", migration `0001`, statement 1: table `notes` is unique by (name), which must begin with `workspace_id`",
    ),
    (
        &[one!(
            "CREATE TABLE notes (workspace_id {uuid} NOT NULL PRIMARY KEY, name TEXT, CONSTRAINT n UNIQUE (name, workspace_id))"
        )],
        ", migration `0001`, statement 1: table `notes` is unique by (name, workspace_id), which must begin with `workspace_id`",
    ),
    (
        &[one!(
            TABLE,
            "CREATE UNIQUE INDEX notes_once ON notes (lower(workspace_id), id)"
        )],
        ", migration `0001`, statement 2: table `notes` is unique by ((…), id), which must begin with `workspace_id`",
    ),
    (
        &[one!(
            "CREATE TABLE notes (workspace_id {uuid} NOT NULL PRIMARY KEY, job {uuid} REFERENCES jobs (id))"
        )],
        ", migration `0001`, statement 1: table `notes` points at `jobs` by (job): both sides must begin with `workspace_id`",
    ),
    (
        &[one!(
            TABLE,
            "CREATE TABLE tags (workspace_id {uuid} NOT NULL PRIMARY KEY, note {uuid}, FOREIGN KEY (workspace_id, note) REFERENCES notes (id, workspace_id))"
        )],
        ", migration `0001`, statement 2: table `tags` points at `notes` by (workspace_id, note): both sides must begin with `workspace_id`",
    ),
    (
        &[one!(
            TABLE,
            "ALTER TABLE notes ADD COLUMN next {uuid} REFERENCES notes (id)"
        )],
        ", migration `0001`, statement 2: table `notes` points at `notes` by (next): both sides must begin with `workspace_id`",
    ),
    (
        &[one!(
            "CREATE TABLE notes (workspace_id {uuid} NOT NULL PRIMARY KEY, page {uuid} REFERENCES pages (id))"
        )],
        ", migration `0001`, statement 1: `pages` is no table of the core, of this extension or of one before it",
    ),
    (
        &[one!(
            "CREATE TABLE quotas (workspace_id {uuid} NOT NULL PRIMARY KEY)"
        )],
        ", migration `0001`, statement 1: `quotas` is the core's",
    ),
    (
        &[one!("ALTER TABLE users ADD COLUMN nickname TEXT")],
        ", migration `0001`, statement 1: `users` is the core's",
    ),
    (
        &[one!("DROP TABLE ledger")],
        ", migration `0001`, statement 1: `ledger` is the core's",
    ),
    (
        &[one!("DROP INDEX jobs_by_due")],
        ", migration `0001`, statement 1: `jobs_by_due` is no index of this extension",
    ),
    (
        &[
            CONTRACTS,
            one!("ALTER TABLE contracts ADD COLUMN note TEXT"),
        ],
        ", migration `0001`, statement 1: `contracts` is a table of extension `contracts`",
    ),
    (
        &[one!(TABLE, TABLE)],
        ", migration `0001`, statement 2: `notes` is declared twice",
    ),
    (
        &[one!(
            TABLE,
            "ALTER TABLE notes RENAME COLUMN workspace_id TO owner"
        )],
        ", migration `0001`, statement 2: `workspace_id` of table `notes` cannot be added, renamed or dropped",
    ),
    (
        &[one!(TABLE, "ALTER TABLE notes DROP COLUMN workspace_id")],
        ", migration `0001`, statement 2: `workspace_id` of table `notes` cannot be added, renamed or dropped",
    ),
    (
        &[one!(TABLE, "ALTER TABLE notes NO FORCE ROW LEVEL SECURITY")],
        ", migration `0001`, statement 2: `NO` is not understood there",
    ),
    (
        &[one!(TABLE, "UPDATE notes SET id = id")],
        ", migration `0001`, statement 2: rows of table `notes` belong to workspaces: change them by a function (`Extension::data_migrations`)",
    ),
    (
        &[one!("UPDATE users SET name = ''")],
        ", migration `0001`, statement 1: `users` is the core's",
    ),
    (
        &[one!("GRANT ALL ON notes TO PUBLIC")],
        ", migration `0001`, statement 1: it begins with `GRANT`: a migration makes, changes and drops tables and indexes, and changes rows of global tables",
    ),
    (
        &[one!("CREATE VIEW all_users AS SELECT * FROM users")],
        ", migration `0001`, statement 1: `VIEW` is not understood there",
    ),
    (
        &[one!("CREATE TABLE notes AS SELECT * FROM users")],
        ", migration `0001`, statement 1: `AS` is not understood there",
    ),
    (
        &[one!(
            "CREATE TABLE notes (workspace_id {uuid} NOT NULL PRIMARY KEY); DROP TABLE users"
        )],
        ", migration `0001`, statement 1: it is more than one statement",
    ),
    (
        &[one!(
            "CREATE TABLE \"notes\" (workspace_id {uuid} NOT NULL PRIMARY KEY)"
        )],
        ", migration `0001`, statement 1: `\"notes\"` is no name: a lower-case letter, then lower-case letters, digits and `_`, 50 at most, not in quotes",
    ),
    (
        &[one!(
            "CREATE TABLE Notes (workspace_id {uuid} NOT NULL PRIMARY KEY)"
        )],
        ", migration `0001`, statement 1: `Notes` is no name: a lower-case letter, then lower-case letters, digits and `_`, 50 at most, not in quotes",
    ),
    (
        &[one!(
            "CREATE TABLE notes (workspace_id {uid} NOT NULL PRIMARY KEY)"
        )],
        ", migration `0001`, statement 1: `{uid}` is no type",
    ),
    (
        &[one!(
            "CREATE TABLE notes (workspace_id {uuid} NOT NULL PRIMARY KEY /* why */)"
        )],
        ", migration `0001`, statement 1: comments begin with `--`",
    ),
    (
        &[one!(TABLE).facts(&[("any", "SELECT 1 FROM notes")])],
        ": `any`: `notes` is not held to the workspace: compare its `workspace_id`, with `$1` or a table that is compared",
    ),
    (
        &[one!(TABLE).checks(&[("none", "DELETE FROM notes WHERE workspace_id = $1")])],
        ": `none`: it writes, on a handle that reads",
    ),
];

#[tokio::test]
async fn a_wrong_declaration_is_refused_before_anything_runs() {
    // Nothing could be opened there.
    let nowhere = Url::sqlite("/nowhere/rawdrive.db");
    for (extensions, said) in REFUSED {
        let catalogue = rawdrive_gallery::built_in_catalogue();
        let opened = Store::open(&nowhere, Env::system(), &catalogue, extensions).await;
        let name = extensions.last().unwrap().name;
        let error = opened.unwrap_err().to_string();
        assert_eq!(error, format!("extension `{name}`{said}"));
        let migrated = Store::migrate(&nowhere, None, extensions).await;
        assert_eq!(migrated.unwrap_err().to_string(), error);
    }
}
