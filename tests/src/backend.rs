//! What the server under test stands on.
//!
//! The same suite runs on each: nothing in a test says which, but for the few in `on_sqlite` and `on_postgres`. On PostgreSQL every server has a database of its
//! own, copied from one that `rawdrive migrate` made as the owner's role, and works as a role that owns nothing.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The roles that `cargo xtask test` makes.
const OWNER_ROLE: &str = "rawdrive_owner";
const SERVER_ROLE: &str = "rawdrive_server";

/// One of the four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The embedded default.
    Sqlite,
    /// PostgreSQL alone.
    Postgres,
    /// PostgreSQL, and usage live in Redis.
    PostgresRedis,
    /// PostgreSQL behind `PgBouncer` in transaction mode, and Redis.
    PgbouncerRedis,
}

impl Backend {
    /// The one that `RAWDRIVE_E2E_BACKEND` names; SQLite without it.
    #[must_use]
    pub fn chosen() -> Self {
        static CHOSEN: OnceLock<Backend> = OnceLock::new();
        *CHOSEN.get_or_init(|| match env::var("RAWDRIVE_E2E_BACKEND").as_deref() {
            Err(_) | Ok("sqlite") => Self::Sqlite,
            Ok("postgres") => Self::Postgres,
            Ok("postgres-redis") => Self::PostgresRedis,
            Ok("pgbouncer-redis") => Self::PgbouncerRedis,
            Ok(other) => panic!(
                "RAWDRIVE_E2E_BACKEND is {other:?}: expected sqlite, postgres, postgres-redis or pgbouncer-redis"
            ),
        })
    }

    /// For a test that is about this one: fails on another, where it should have been left out.
    ///
    /// # Panics
    /// Another was chosen.
    #[track_caller]
    pub fn assert_chosen(self) {
        let chosen = Self::chosen();
        assert_eq!(
            chosen, self,
            "this test is about {self:?} alone, and `cargo xtask test` leaves it out elsewhere"
        );
    }

    /// Whether the data lie in PostgreSQL.
    #[must_use]
    pub fn is_postgres(self) -> bool {
        self != Self::Sqlite
    }

    /// Whether usage is mirrored in Redis.
    #[must_use]
    pub fn has_redis(self) -> bool {
        matches!(self, Self::PostgresRedis | Self::PgbouncerRedis)
    }

    /// The socket of the tests' PostgreSQL.
    #[must_use]
    pub fn postgres_socket() -> PathBuf {
        let url = env_url("RAWDRIVE_TEST_POSTGRES_URL");
        let of = |name: &str| {
            let (_, rest) = url.split_once(&format!("{name}="))?;
            rest.split('&').next().map(str::to_owned)
        };
        let port = of("port").unwrap_or_else(|| "5432".to_owned());
        PathBuf::from(of("host").expect("the URL names a socket")).join(format!(".s.PGSQL.{port}"))
    }

    /// Makes what one server needs; `settings` are its environment variables.
    pub(crate) fn provide(self, binary: &Path) -> Provided {
        if !self.is_postgres() {
            return Provided::default();
        }
        let name = format!("rd_{}_{}", std::process::id(), next());
        sql(&format!(
            "CREATE DATABASE {name} OWNER {OWNER_ROLE} TEMPLATE {}",
            template(binary)
        ));
        let server = if self == Self::PgbouncerRedis {
            env_url("RAWDRIVE_TEST_PGBOUNCER_URL").replace("/postgres?", &format!("/{name}?"))
        } else {
            url(&name, SERVER_ROLE)
        };
        let mut settings = vec![
            ("DATABASE_URL".to_owned(), server),
            ("DATABASE_OWNER_URL".to_owned(), url(&name, OWNER_ROLE)),
            (
                "RAWDRIVE_SECRET_KEY".to_owned(),
                format!("{name} has a secret key of 32 bytes"),
            ),
        ];
        if self.has_redis() {
            settings.push(("REDIS_URL".to_owned(), env_url("RAWDRIVE_TEST_REDIS_URL")));
        }
        Provided {
            database: Some(name),
            settings,
        }
    }
}

/// What one server stands on, removed on drop.
#[derive(Debug, Default)]
pub(crate) struct Provided {
    database: Option<String>,
    /// The environment variables that name it.
    pub(crate) settings: Vec<(String, String)>,
}

impl Drop for Provided {
    fn drop(&mut self) {
        if let Some(name) = &self.database {
            // A failed test may leave connections behind, and a panic here would hide it.
            let _ = psql(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).output();
        }
    }
}

fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A database with today's schema and no rows, made once for all tests of this process.
fn template(binary: &Path) -> &'static str {
    static TEMPLATE: OnceLock<String> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let name = format!("rd_template_{}", std::process::id());
        sql(&format!("CREATE DATABASE {name} OWNER {OWNER_ROLE}"));
        let folder = tempfile::tempdir().expect("failed to make a directory");
        let output = Command::new(binary)
            .env_clear()
            .env("DATABASE_URL", url(&name, SERVER_ROLE))
            .env("DATABASE_OWNER_URL", url(&name, OWNER_ROLE))
            .env(
                "RAWDRIVE_SECRET_KEY",
                "the template needs a key of 32 bytes",
            )
            .current_dir(folder.path())
            .arg("migrate")
            .output()
            .expect("failed to run the binary");
        assert!(output.status.success(), "failed to migrate: {output:?}");
        name
    })
}

fn url(database: &str, role: &str) -> String {
    env_url("RAWDRIVE_TEST_POSTGRES_URL")
        .replace("/postgres?", &format!("/{database}?"))
        .replace("user=postgres", &format!("user={role}"))
}

fn env_url(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run `cargo xtask test`, which starts the servers")
    })
}

fn psql(statement: &str) -> Command {
    let mut command = Command::new("psql");
    command
        .args(["--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1"])
        .arg(format!(
            "--dbname={}",
            env_url("RAWDRIVE_TEST_POSTGRES_URL")
        ))
        .arg(format!("--command={statement}"))
        .stdin(Stdio::null());
    command
}

/// Runs one statement as a superuser.
fn sql(statement: &str) {
    let output = psql(statement).output().expect("failed to start psql");
    assert!(output.status.success(), "{statement}: {output:?}");
}
