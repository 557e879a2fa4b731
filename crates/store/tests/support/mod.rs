//! A database of its own for each test, on SQLite, on PostgreSQL, and on PostgreSQL behind PgBouncer.
//!
//! The PostgreSQL server is the one that `RAWDRIVE_TEST_POSTGRES_URL` names as a superuser (`cargo xtask test`
//! sets it); without the variable each test binary starts one. Nothing is ever skipped.
//!
//! Each test's database is a copy of one that was migrated once, by a role that owns it; the store connects as
//! a role that owns nothing, is no superuser and does not bypass row-level security.

#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "each test binary uses some of it, and the helpers of a test are test code"
)]

mod server;

use std::sync::atomic::{AtomicU32, Ordering};

use rawdrive_gallery::sql::GALLERY;
use rawdrive_plans::Catalogue;
use rawdrive_store::extension::Extension;
use rawdrive_store::{Store, Url};
use rawdrive_tenancy_core::Env;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection};
use sea_orm::sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use tempfile::TempDir;
use tokio::sync::OnceCell;

pub use server::postgres_url;

/// A table of an extension's own.
pub const MEMOS: Extension = Extension::new(
    "memos",
    &[(
        "0001",
        &["CREATE TABLE memos (workspace_id {uuid} NOT NULL, id {uuid} NOT NULL, text TEXT NOT NULL,
            PRIMARY KEY (workspace_id, id)){strict}"],
    )],
);

/// What every test's database has beside the core's tables: the template has them already.
pub const EXTENSIONS: &[Extension] = &[MEMOS, GALLERY];

/// Of the roles that tests make. No secret: they are in a server that lives as long as a test run.
const PASSWORD: &str = "rawdrive";

/// On what a test runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
    /// PostgreSQL behind PgBouncer in transaction mode.
    PgBouncer,
}

/// Makes tests of each `async fn(Engine)`, on every database.
#[macro_export]
macro_rules! on_every_database {
    ($($name:ident),+ $(,)?) => {
        mod sqlite { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::support::Engine::Sqlite).await; }
        )+ }
        mod postgres { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::support::Engine::Postgres).await; }
        )+ }
        mod pgbouncer { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::support::Engine::PgBouncer).await; }
        )+ }
    };
}

/// A database that goes with its test.
pub struct Database {
    pub url: Url,
    _keep: Keep,
}

enum Keep {
    File(TempDir),
    Postgres(Own),
}

impl Database {
    /// An empty database with the current schema.
    pub async fn new(engine: Engine) -> Self {
        Self::with(engine, "").await
    }

    /// As [`Self::new`], with further parameters of the URL where it is PostgreSQL.
    pub async fn with(engine: Engine, parameters: &str) -> Self {
        if engine == Engine::Sqlite {
            let folder = tempfile::tempdir().unwrap();
            let url = Url::sqlite(folder.path().join("rawdrive.db"));
            return Self {
                url,
                _keep: Keep::File(folder),
            };
        }
        let own = Own::copy().await;
        let address = match engine {
            Engine::PgBouncer => server::pgbouncer_address(&app_role()),
            _ => server::address(),
        };
        let mut url = address.url(&own.name, &app_role());
        if engine == Engine::PgBouncer {
            url.push_str("&pgbouncer=1");
        }
        Self {
            url: Url::parse(&format!("{url}{parameters}")).unwrap(),
            _keep: Keep::Postgres(own),
        }
    }

    /// Opens a store on it.
    pub async fn open(&self, env: Env, catalogue: &Catalogue) -> Store {
        let store = Store::open(&self.url, env, catalogue, EXTENSIONS).await;
        store.unwrap_or_else(|error| panic!("{error}: {error:?}"))
    }

    /// Opens a store with extensions on it, whose migrations run first.
    pub async fn open_with(
        &self,
        env: Env,
        catalogue: &Catalogue,
        extensions: &[Extension],
    ) -> Store {
        let migrates = extensions.iter().any(|e| !e.migrations.is_empty());
        if migrates && matches!(self._keep, Keep::Postgres(_)) {
            let owner = Url::parse(&self.url_for(&owner_role())).unwrap();
            let migrated = Store::migrate(&owner, Some(&app_role()), extensions).await;
            migrated.unwrap_or_else(|error| panic!("{error}: {error:?}"));
        }
        let store = Store::open(&self.url, env, catalogue, extensions).await;
        store.unwrap_or_else(|error| panic!("{error}: {error:?}"))
    }

    /// A connection as the server's role.
    pub async fn connect(&self) -> PgConnection {
        self.own().connect_as(&app_role()).await
    }

    /// A connection as the server's role, through PgBouncer.
    pub async fn connect_behind_pgbouncer(&self) -> PgConnection {
        let url = server::pgbouncer_address(&app_role()).url(&self.own().name, &app_role());
        let options: PgConnectOptions = url.parse().unwrap();
        let options = options.extra_float_digits(None).disable_statement_logging();
        PgConnection::connect_with(&options).await.unwrap()
    }

    /// A connection as the role that owns the tables.
    pub async fn connect_as_owner(&self) -> PgConnection {
        self.own().connect_as(&owner_role()).await
    }

    /// A connection as a superuser.
    pub async fn connect_as_superuser(&self) -> PgConnection {
        let options = superuser().database(&self.own().name);
        PgConnection::connect_with(&options).await.unwrap()
    }

    /// Its URL for another role.
    pub fn url_for(&self, role: &str) -> String {
        server::address().url(&self.own().name, role)
    }

    fn own(&self) -> &Own {
        match &self._keep {
            Keep::Postgres(own) => own,
            Keep::File(_) => panic!("a file has no roles"),
        }
    }
}

pub fn app_role() -> String {
    format!("rd_app_{}", std::process::id())
}

pub fn owner_role() -> String {
    format!("rd_owner_{}", std::process::id())
}

fn template() -> String {
    format!("rd_template_{}", std::process::id())
}

fn superuser() -> PgConnectOptions {
    let options: PgConnectOptions = postgres_url().parse().unwrap();
    options.disable_statement_logging()
}

/// Runs one statement as a superuser; `CREATE DATABASE` must be sent alone.
pub async fn administer(sql: &str) {
    let mut connection = PgConnection::connect_with(&superuser()).await.unwrap();
    let done = connection.execute(AssertSqlSafe(sql.to_owned())).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    connection.close().await.unwrap();
}

/// A PostgreSQL database that is dropped with this.
struct Own {
    name: String,
}

impl Own {
    async fn empty() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            name: format!("rd_{}_{n}", std::process::id()),
        }
    }

    async fn copy() -> Self {
        static TEMPLATE: OnceCell<()> = OnceCell::const_new();
        TEMPLATE.get_or_init(make_template).await;
        let own = Self::empty().await;
        let (name, owner, template) = (&own.name, owner_role(), template());
        administer(&format!(
            "CREATE DATABASE {name} TEMPLATE {template} OWNER {owner}"
        ))
        .await;
        own
    }

    async fn connect_as(&self, role: &str) -> PgConnection {
        let url = server::address().url(&self.name, role);
        let options: PgConnectOptions = url.parse().unwrap();
        let options = options.disable_statement_logging();
        PgConnection::connect_with(&options).await.unwrap()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // A drop cannot wait, and the test's runtime may be about to end.
        let done = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(administer(&sql));
        });
        // A failure leaves a database behind in a server that does not live long.
        let _ = done.join();
    }
}

async fn make_template() {
    let (app, owner, template) = (app_role(), owner_role(), template());
    for role in [&app, &owner] {
        administer(&format!(
            "CREATE ROLE {role} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE PASSWORD '{PASSWORD}'"
        ))
        .await;
    }
    administer(&format!("CREATE DATABASE {template} OWNER {owner}")).await;
    let url = server::address().url(&template, &owner);
    Store::migrate(&Url::parse(&url).unwrap(), Some(&app), EXTENSIONS)
        .await
        .unwrap_or_else(|error| panic!("{error}: {error:?}"));
}

/// A database that belongs to the owner's role and holds nothing.
pub struct Blank(Own);

impl Blank {
    pub async fn new() -> Self {
        // The roles come with the template.
        drop(Own::copy().await);
        let own = Own::empty().await;
        administer(&format!(
            "CREATE DATABASE {} OWNER {}",
            own.name,
            owner_role()
        ))
        .await;
        Self(own)
    }

    pub fn url_for(&self, role: &str) -> String {
        server::address().url(&self.0.name, role)
    }
}
