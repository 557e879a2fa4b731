//! Where the database is, by URL.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread::available_parallelism;

use sea_orm::sqlx::ConnectOptions;
use sea_orm::sqlx::postgres::PgConnectOptions;

/// Which kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// A file of this machine, for one server.
    Sqlite,
    /// A server, for as many of ours as wanted.
    Postgres,
}

/// Where the database is.
#[derive(Clone)]
pub struct Url(pub(crate) Target);

#[derive(Clone)]
pub(crate) enum Target {
    Sqlite(PathBuf),
    Postgres(Box<Server>),
}

/// A PostgreSQL server, and how it is spoken to.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) options: PgConnectOptions,
    /// PgBouncer in transaction mode stands between: a statement's name may mean nothing, or another
    /// statement, to the session that the next transaction is given.
    pub(crate) pgbouncer: bool,
    /// Connections for reading, and as many for transactions.
    pub(crate) pool_size: u32,
}

/// Why a text is no URL of a database. It never repeats the text, which may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// Another scheme.
    #[error("must begin with sqlite:// or postgres://")]
    Scheme,
    /// No file is named.
    #[error("must name a file, such as sqlite://data/rawdrive.db")]
    NoFile,
    /// A parameter that means nothing here.
    #[error("has an unknown parameter `{0}`")]
    Parameter(String),
    /// A parameter with a value that it cannot have.
    #[error("must give `{name}` as {expected}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// What it can be.
        expected: &'static str,
    },
    /// Something else is wrong with it.
    #[error("must look like postgres://user:password@host:5432/database")]
    Malformed,
}

/// What a PostgreSQL URL may say beyond its address, as libpq names it.
const PARAMETERS: [&str; 12] = [
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "application_name",
    "options",
];

/// Prepared statements that a connection keeps: more than the store has, but for lists of many lengths.
const STATEMENTS: usize = 300;

impl Url {
    /// A SQLite file; it is made when it is not there.
    #[must_use]
    pub fn sqlite(path: impl AsRef<Path>) -> Self {
        Self(Target::Sqlite(path.as_ref().to_owned()))
    }

    /// Reads `sqlite://<file>` or `postgres://…`; the latter knows, besides libpq's parameters, `pgbouncer=1`
    /// (PgBouncer in transaction mode stands between) and `pool=<connections>`.
    ///
    /// # Errors
    /// See [`UrlError`].
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if let Some(path) = text.strip_prefix("sqlite://") {
            return match path {
                "" => Err(UrlError::NoFile),
                path => Ok(Self::sqlite(path)),
            };
        }
        if !["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| text.starts_with(scheme))
        {
            return Err(UrlError::Scheme);
        }
        Server::parse(text).map(|server| Self(Target::Postgres(Box::new(server))))
    }

    /// Which kind of database it is.
    #[must_use]
    pub fn backend(&self) -> Backend {
        match &self.0 {
            Target::Sqlite(_) => Backend::Sqlite,
            Target::Postgres(_) => Backend::Postgres,
        }
    }

    /// The file of a SQLite URL.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match &self.0 {
            Target::Sqlite(path) => Some(path),
            Target::Postgres(_) => None,
        }
    }

    /// The role that a PostgreSQL URL connects as.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        match &self.0 {
            Target::Sqlite(_) => None,
            Target::Postgres(server) => Some(server.options.get_username()),
        }
    }
}

impl FromStr for Url {
    type Err = UrlError;
    fn from_str(text: &str) -> Result<Self, UrlError> {
        Self::parse(text)
    }
}

/// Without the password.
impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Target::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Target::Postgres(server) => {
                let options = &server.options;
                let socket = options.get_socket().map(|path| path.display().to_string());
                let host = socket.unwrap_or_else(|| options.get_host().to_owned());
                let database = options.get_database().unwrap_or_default();
                write!(f, "postgres://{}@{host}/{database}", options.get_username())
            }
        }
    }
}

impl Server {
    fn parse(text: &str) -> Result<Self, UrlError> {
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        let (mut pgbouncer, mut pool_size) = (false, None);
        let mut rest = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "pgbouncer" => pgbouncer = switch(value)?,
                "pool" => pool_size = Some(connections(value)?),
                name if PARAMETERS.contains(&name) => rest.push(pair),
                name => return Err(UrlError::Parameter(name.to_owned())),
            }
        }
        let url = format!("{address}?{}", rest.join("&"));
        // The driver's own error may repeat what it could not read.
        let options: PgConnectOptions = url.parse().map_err(|_| UrlError::Malformed)?;
        let mut options = options
            .disable_statement_logging()
            .statement_cache_capacity(STATEMENTS);
        if options.get_application_name().is_none() {
            options = options.application_name("rawdrive");
        }
        Ok(Self {
            options,
            pgbouncer,
            pool_size: pool_size.unwrap_or_else(default_pool_size),
        })
    }
}

fn switch(value: &str) -> Result<bool, UrlError> {
    match value {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(UrlError::Value {
            name: "pgbouncer",
            expected: "0 or 1",
        }),
    }
}

fn connections(value: &str) -> Result<u32, UrlError> {
    let wrong = UrlError::Value {
        name: "pool",
        expected: "a number from 1 to 1000",
    };
    match value.parse() {
        Ok(n @ 1..=1000) => Ok(n),
        _ => Err(wrong),
    }
}

/// A few for each core: more connections than work can be done at once cost throughput, and with fewer, requests wait
/// for each other while the database is idle.
fn default_pool_size() -> u32 {
    let cores = available_parallelism().map_or(2, usize::from);
    u32::try_from(4 * cores).unwrap_or(u32::MAX).clamp(8, 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> Server {
        match Url::parse(text).unwrap().0 {
            Target::Postgres(server) => *server,
            Target::Sqlite(path) => panic!("a file: {}", path.display()),
        }
    }

    #[test]
    fn a_url_says_where_and_how() {
        let url = Url::parse("sqlite:///var/lib/rawdrive.db").unwrap();
        assert_eq!(format!("{url:?}"), "sqlite:///var/lib/rawdrive.db");
        assert_eq!((url.backend(), url.user()), (Backend::Sqlite, None));
        let url =
            Url::parse("postgres://app:s3cret@db.example:6432/rd?pgbouncer=1&pool=7").unwrap();
        assert_eq!(format!("{url:?}"), "postgres://app@db.example/rd");
        assert_eq!(
            (url.backend(), url.user()),
            (Backend::Postgres, Some("app"))
        );
        let socket = server("postgres:///rd?host=/tmp/pg&user=app&pgbouncer=true&pool=2");
        assert!(socket.pgbouncer);
        assert_eq!(socket.pool_size, 2);
        assert_eq!(socket.options.get_username(), "app");
        assert_eq!(socket.options.get_database(), Some("rd"));
        assert!(!server("postgresql://app@localhost/rd").pgbouncer);
    }

    #[test]
    fn what_is_no_url_is_refused_without_repeating_it() {
        for (text, expected) in [
            (
                "mysql://root:s3cret@x/y",
                "must begin with sqlite:// or postgres://",
            ),
            ("s3cret", "must begin with sqlite:// or postgres://"),
            (
                "sqlite://",
                "must name a file, such as sqlite://data/rawdrive.db",
            ),
            (
                "postgres://a:s3cret@x/y?sslmod=require",
                "has an unknown parameter `sslmod`",
            ),
            (
                "postgres://a:s3cret@x/y?pgbouncer=s3cret",
                "must give `pgbouncer` as 0 or 1",
            ),
            (
                "postgres://a:s3cret@x/y?pool=0",
                "must give `pool` as a number from 1 to 1000",
            ),
            (
                "postgres://a:s3cret@x:s3cret/y",
                "must look like postgres://user:password@host:5432/database",
            ),
        ] {
            assert_eq!(Url::parse(text).unwrap_err().to_string(), expected);
        }
    }
}
