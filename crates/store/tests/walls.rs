//! Row-level security, asked directly: as the server's role, with settings made by hand.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test are test code, which clippy knows of functions marked as tests alone"
)]

use rawdrive_identity::ports::{IdentityRead, IdentityTx, NewWorkspace, User};
use rawdrive_identity::{Currency, EmailAddress, PasswordHash, PersonName, WorkspaceName};
use rawdrive_plans::ReviewThresholds;
use rawdrive_plans::{PlansTx, Slug};
use rawdrive_store::{Release, Store};
use rawdrive_tenancy_core::id::{TypedId, UserId, WorkspaceId};
use rawdrive_tenancy_core::job::JobsTx;
use rawdrive_tenancy_core::{Commit, Env, Role, WorkspaceScope};
use rawdrive_testkit::scope;
use sea_orm::sqlx::postgres::PgConnection;
use sea_orm::sqlx::{AssertSqlSafe, Executor, Row};

#[macro_use]
mod support;

use support::{Database, Engine};

/// Ada is in both workspaces, Bob in the second.
struct House {
    database: Database,
    store: Store,
    first: WorkspaceScope,
    second: WorkspaceScope,
    ada: UserId,
    bob: UserId,
}

impl House {
    async fn new(engine: Engine) -> Self {
        let database = Database::new(engine).await;
        let catalogue = rawdrive_gallery::built_in_catalogue();
        let store = database.open(Env::system(), &catalogue).await;
        let env = store.env().clone();
        let user = |email: &str| User {
            id: env.id(),
            email: EmailAddress::parse(email).unwrap(),
            name: PersonName::parse("Somebody").unwrap(),
            password_hash: PasswordHash::from_stored("none".to_owned()),
            session_epoch: 0,
            created_at: env.now(),
            email_verified_at: None,
        };
        let (ada, bob) = (user("ada@example.com"), user("bob@example.com"));
        let (first, second) = (scope(env.id()), scope(env.id()));
        for (scope, name, people) in [
            (&first, "First", &[&ada][..]),
            (&second, "Second", &[&ada, &bob]),
        ] {
            let begun = store.begin_despite_read_only(scope, Release::Identity);
            let mut tx = begun.await.unwrap();
            let workspace = NewWorkspace {
                name: WorkspaceName::parse(name).unwrap(),
                slug: name.to_lowercase(),
                billing_email: None,
                currency: Currency::parse("usd").unwrap(),
                created_at: env.now(),
            };
            tx.insert_workspace(&workspace).await.unwrap();
            tx.insert_entitlements(&catalogue.newest(&Slug::free()).unwrap())
                .await
                .unwrap();
            for user in people {
                if tx.user(user.id).await.unwrap().is_none() {
                    tx.insert_user(user).await.unwrap();
                }
                tx.insert_membership(user.id, Role::Owner, env.now())
                    .await
                    .unwrap();
            }
            tx.enqueue(&ReviewThresholds {}, None).unwrap();
            tx.commit().await.unwrap();
        }
        Self {
            database,
            store,
            first,
            second,
            ada: ada.id,
            bob: bob.id,
        }
    }
}

/// One transaction of the server's role under settings.
struct Session(PgConnection);

impl Session {
    async fn begin(house: &House, settings: &[(&str, String)]) -> Self {
        let mut connection = house.database.connect().await;
        connection.execute("BEGIN").await.unwrap();
        for (name, value) in settings {
            let sql = format!("SET LOCAL {name} = '{value}'");
            connection.execute(AssertSqlSafe(sql)).await.unwrap();
        }
        Self(connection)
    }

    async fn texts(&mut self, sql: &str) -> Vec<String> {
        let rows = self
            .0
            .fetch_all(AssertSqlSafe(sql.to_owned()))
            .await
            .unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// How many rows a statement changes; `None` where it is refused.
    async fn changes(&mut self, sql: &str) -> Option<u64> {
        self.0.execute("SAVEPOINT s").await.unwrap();
        let done = self.0.execute(AssertSqlSafe(sql.to_owned())).await;
        self.0.execute("ROLLBACK TO s").await.unwrap();
        done.ok().map(|done| done.rows_affected())
    }

    /// What there is of each table that this sees rows of.
    async fn seen(&mut self) -> Vec<String> {
        let tables = "SELECT relname::text FROM pg_class c WHERE relrowsecurity ORDER BY 1";
        let mut seen = Vec::new();
        for table in self.texts(tables).await {
            let count = format!("SELECT count(*)::text FROM {table}");
            let n = self.texts(&count).await.remove(0);
            if n != "0" {
                seen.push(format!("{table} {n}"));
            }
        }
        seen
    }
}

fn workspace(id: WorkspaceId) -> (&'static str, String) {
    ("app.workspace_id", id.uuid().to_string())
}

fn user(id: UserId) -> (&'static str, String) {
    ("app.user_id", id.uuid().to_string())
}

fn worker() -> (&'static str, String) {
    ("app.worker", "on".to_owned())
}

const WRITES: [&str; 6] = [
    "UPDATE workspaces SET name = 'x'",
    "DELETE FROM workspaces",
    "UPDATE memberships SET role = 'member'",
    "DELETE FROM memberships",
    "UPDATE jobs SET attempts = 9",
    "DELETE FROM jobs",
];

#[tokio::test]
async fn who_says_nothing_sees_and_changes_nothing() {
    let house = House::new(Engine::Postgres).await;
    for settings in [
        &[][..],
        &[
            ("app.workspace_id", String::new()),
            ("app.user_id", String::new()),
        ],
        &[("app.worker", "off".to_owned())],
        &[("app.worker", String::new())],
    ] {
        let mut session = Session::begin(&house, settings).await;
        assert_eq!(session.seen().await, [""; 0], "{settings:?}");
        for sql in WRITES {
            assert_eq!(session.changes(sql).await, Some(0), "{settings:?}: {sql}");
        }
    }
}

#[tokio::test]
async fn a_workspace_sees_and_changes_its_own_rows_alone() {
    let house = House::new(Engine::Postgres).await;
    let (mine, theirs) = (house.first.workspace(), house.second.workspace());
    let mut session = Session::begin(&house, &[workspace(mine)]).await;
    assert_eq!(
        session.seen().await,
        ["jobs 1", "memberships 1", "standings 1", "workspaces 1"]
    );
    assert_eq!(
        session.texts("SELECT name FROM workspaces").await,
        ["First"]
    );
    for sql in WRITES {
        if !sql.starts_with("DELETE FROM workspaces") {
            assert_eq!(session.changes(sql).await, Some(1), "{sql}");
        }
    }
    let theirs = theirs.uuid();
    for refused in [
        format!("UPDATE memberships SET workspace_id = '{theirs}'"),
        format!(
            "INSERT INTO memberships VALUES ('{theirs}', '{}', 'owner', now())",
            house.bob.uuid()
        ),
        format!("INSERT INTO libraries VALUES ('{theirs}', '{theirs}', 'x', now(), now(), 1)"),
    ] {
        assert_eq!(session.changes(&refused).await, None, "{refused}");
    }
    // The ids that a row is told apart by are each workspace's own: what stands elsewhere is not learnt.
    let id = "01890000-0000-7000-8000-00000000000a";
    let mine = mine.uuid();
    let insert = format!("INSERT INTO libraries VALUES ('{mine}', '{id}', 'x', now(), now(), 1)");
    assert_eq!(session.changes(&insert).await, Some(1));
}

/// During an upgrade servers of the release before write rows that do not say their kind.
#[tokio::test]
async fn what_an_older_server_leaves_is_found_by_its_kind() {
    let house = House::new(Engine::Postgres).await;
    let (settings, id) = ([workspace(house.first.workspace())], house.ada.uuid());
    let mine = house.first.workspace().uuid();
    let mut session = Session::begin(&house, &settings).await;
    let job = format!(
        "INSERT INTO jobs (workspace_id, id, work, due_at, retry_at, leased_until, attempts, created_at)
        VALUES ('{mine}', '{id}', '{{\"kind\":\"send_mail\",\"sealed\":\"x\"}}', now(), now(), now(), 0, now())
        RETURNING kind"
    );
    assert_eq!(session.texts(&job).await, ["send_mail"]);
    let hold = format!(
        "INSERT INTO holds (workspace_id, id, state, purpose, expires_at, created_at)
        VALUES ('{mine}', '{id}', 'held', 'upload', now(), now()) RETURNING cleanup"
    );
    assert_eq!(session.texts(&hold).await, ["upload_ended"]);
}

#[tokio::test]
async fn a_person_sees_their_memberships_and_the_workspaces_names_and_changes_nothing() {
    let house = House::new(Engine::Postgres).await;
    let mut session = Session::begin(&house, &[user(house.bob)]).await;
    assert_eq!(session.seen().await, ["memberships 1", "workspaces 1"]);
    assert_eq!(
        session.texts("SELECT name FROM workspaces").await,
        ["Second"]
    );
    for sql in WRITES {
        assert_eq!(session.changes(sql).await, Some(0), "{sql}");
    }
    assert_eq!(
        session.changes("SELECT 1 FROM workspaces FOR UPDATE").await,
        Some(0),
        "nor locks it"
    );
    let mut session = Session::begin(&house, &[user(house.ada)]).await;
    assert_eq!(
        session
            .texts("SELECT name FROM workspaces ORDER BY name")
            .await,
        ["First", "Second"]
    );
    let nobody: UserId = house.store.env().id();
    let mut session = Session::begin(&house, &[user(nobody)]).await;
    assert_eq!(session.seen().await, [""; 0]);
}

#[tokio::test]
async fn the_worker_learns_where_to_go_and_changes_nothing() {
    let house = House::new(Engine::Postgres).await;
    let mut session = Session::begin(&house, &[worker()]).await;
    assert_eq!(session.seen().await, ["jobs 2", "workspaces 2"]);
    for sql in WRITES {
        assert_eq!(session.changes(sql).await, Some(0), "{sql}");
    }
    assert_eq!(
        session.changes("SELECT 1 FROM jobs FOR UPDATE").await,
        Some(0),
        "nor locks it"
    );
}

#[tokio::test]
async fn a_capability_beside_a_workspace_counts_for_nothing() {
    let house = House::new(Engine::Postgres).await;
    let mine = house.first.workspace();
    let alone = Session::begin(&house, &[workspace(mine)])
        .await
        .seen()
        .await;
    for settings in [
        vec![workspace(mine), user(house.bob)],
        vec![worker(), workspace(mine)],
        vec![worker(), workspace(mine), user(house.ada)],
    ] {
        let mut session = Session::begin(&house, &settings).await;
        assert_eq!(session.seen().await, alone, "{settings:?}");
        assert_eq!(
            session.texts("SELECT name FROM workspaces").await,
            ["First"]
        );
    }
}

#[tokio::test]
async fn what_a_transaction_says_ends_with_it() {
    let house = House::new(Engine::Postgres).await;
    let mut session = Session::begin(&house, &[workspace(house.first.workspace()), worker()]).await;
    for end in ["COMMIT", "ROLLBACK"] {
        session.0.execute(end).await.unwrap();
        assert_eq!(session.seen().await, [""; 0], "after {end}");
        session.0.execute("BEGIN").await.unwrap();
        session
            .0
            .execute("SET LOCAL app.worker = 'on'")
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn the_owner_is_bound_too_and_the_server_may_not_change_what_binds() {
    let house = House::new(Engine::Postgres).await;
    let mut owner = Session(house.database.connect_as_owner().await);
    assert_eq!(owner.seen().await, [""; 0]);
    let mut server = Session(house.database.connect().await);
    server.0.execute("BEGIN").await.unwrap();
    for sql in [
        "ALTER TABLE photos NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE photos DISABLE ROW LEVEL SECURITY",
        "DROP POLICY tenant ON photos",
        "CREATE POLICY all_of_them ON photos USING (true)",
        "CREATE TABLE mine (id int)",
        "TRUNCATE jobs",
        "SET ROLE postgres",
        "DELETE FROM seaql_migrations",
    ] {
        assert_eq!(server.changes(sql).await, None, "{sql}");
    }
}

/// As a data migration does (`ddl::across_workspaces`).
#[tokio::test]
async fn a_data_migration_lifts_what_binds_the_owner_for_its_transaction() {
    let house = House::new(Engine::Postgres).await;
    let mut owner = Session(house.database.connect_as_owner().await);
    owner.0.execute("BEGIN").await.unwrap();
    let lift = "ALTER TABLE workspaces NO FORCE ROW LEVEL SECURITY";
    owner.0.execute(lift).await.unwrap();
    assert_eq!(owner.seen().await, ["workspaces 2"]);
    let rename = "UPDATE workspaces SET name = name || '!'";
    assert_eq!(owner.changes(rename).await, Some(2));
    let put_back = "ALTER TABLE workspaces FORCE ROW LEVEL SECURITY";
    owner.0.execute(put_back).await.unwrap();
    owner.0.execute("COMMIT").await.unwrap();
    assert_eq!(owner.seen().await, [""; 0]);
}

#[tokio::test]
async fn what_is_written_once_stays_for_its_owner_too() {
    let house = House::new(Engine::Postgres).await;
    let mine = house.first.workspace().uuid();
    let mut owner = Session(house.database.connect_as_owner().await);
    for (table, row) in [
        ("ledger", "1, 'photos', '', now(), 1, '', '', now(), now()"),
        ("audit_entries", r"1, now(), '', '', '', '\x00', '\x00'"),
    ] {
        owner.0.execute("BEGIN").await.unwrap();
        let enter = format!("SET LOCAL app.workspace_id = '{mine}'");
        owner.0.execute(AssertSqlSafe(enter)).await.unwrap();
        let insert = format!("INSERT INTO {table} VALUES ('{mine}', {row})");
        owner.0.execute(AssertSqlSafe(insert)).await.unwrap();
        for refused in [
            "UPDATE {} SET seq = 2",
            "DELETE FROM {}",
            "TRUNCATE {} CASCADE",
        ] {
            assert_eq!(
                owner.changes(&refused.replace("{}", table)).await,
                None,
                "{refused}"
            );
        }
        owner.0.execute("COMMIT").await.unwrap();
    }
}

/// The ports that use the capabilities.
async fn people_find_their_workspaces(engine: Engine) {
    let house = House::new(engine).await;
    let names = async |user| {
        let found = house.store.workspaces_of(user).await.unwrap();
        let mut names: Vec<_> = found.iter().map(|b| b.name.as_str().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(house.ada).await, ["First", "Second"]);
    assert_eq!(names(house.bob).await, ["Second"]);
    assert_eq!(names(house.store.env().id()).await, [""; 0]);
    assert!(
        house
            .store
            .has_workspace(house.first.workspace())
            .await
            .unwrap()
    );
    assert!(
        !house
            .store
            .has_workspace(house.store.env().id())
            .await
            .unwrap()
    );
}

async fn a_snapshot_sees_each_workspace_and_all_of_them(engine: Engine) {
    let house = House::new(engine).await;
    let snapshot = house.store.snapshot().await.unwrap();
    let mut expected = vec![house.first.workspace(), house.second.workspace()];
    expected.sort_unstable();
    assert_eq!(snapshot.workspaces().await.unwrap(), expected);
    for scope in [&house.first, &house.second] {
        let findings = snapshot.check(scope).await.unwrap();
        let found: Vec<_> = findings.iter().map(|f| f.invariant).collect();
        assert_eq!(
            found,
            ["seats_equal_members"],
            "seats were never taken here"
        );
    }
    assert_eq!(snapshot.workspaces().await.unwrap(), expected);
    assert_eq!(snapshot.integrity().await.unwrap(), []);
}

on_every_database![
    people_find_their_workspaces,
    a_snapshot_sees_each_workspace_and_all_of_them,
];
