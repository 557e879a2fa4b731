//! What an operator should know of the database's set-up, and what a server refuses to work with.

use std::fmt;

use rawdrive_migrations::{append_only_triggers, deploy, names};
use rawdrive_tenancy_core::StoreError;
use sea_orm::sqlx::postgres::PgPoolOptions;
use sea_orm::{ConnectionTrait as _, DbErr, RuntimeErr, SqlxPostgresConnector, TransactionTrait};

use crate::connection::{Database, Reach};
use crate::pool::lost;
use crate::postgres::try_connect;
use crate::scope::{column, query};
use crate::store::{OpenError, Store};
use crate::url::{Backend, Target, Url};

/// The oldest PostgreSQL that will do: it is the oldest that is still maintained.
const OLDEST: u32 = 14;

/// How much an issue matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Note,
    /// A wall is missing.
    Finding,
}

/// Something about the database's set-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaIssue {
    /// The server works as the role that owns the tables: it could lift what binds it.
    OwnsTables {
        /// The role.
        role: String,
    },
    /// A table with a `workspace_id` has no row-level security, or not all of it.
    Unprotected {
        /// The table.
        table: String,
        /// What it lacks.
        lacks: &'static str,
    },
    /// What was recorded could be changed: a trigger is gone, or switched off.
    Rewritable {
        /// The table.
        table: &'static str,
        /// The trigger.
        trigger: String,
    },
    /// A policy lets more be done than this release knows of.
    UnknownPolicy {
        /// The table.
        table: String,
        /// The policy.
        policy: String,
    },
}

impl SchemaIssue {
    /// How much it matters.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::OwnsTables { .. } => Severity::Note,
            Self::Unprotected { .. } | Self::Rewritable { .. } | Self::UnknownPolicy { .. } => {
                Severity::Finding
            }
        }
    }
}

impl fmt::Display for SchemaIssue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnsTables { role } => write!(
                f,
                "the server connects as `{role}`, which owns the tables and could lift their row-level security: \
                 give it a role of its own, and that role's name to `rawdrive migrate`"
            ),
            Self::Unprotected { table, lacks } => {
                write!(
                    f,
                    "table `{table}` lacks {lacks}: rows of one workspace could reach another"
                )
            }
            Self::Rewritable { table, trigger } => write!(
                f,
                "table `{table}` has no trigger `{trigger}` that is in force: what was recorded could be changed"
            ),
            Self::UnknownPolicy { table, policy } => {
                write!(
                    f,
                    "table `{table}` has a policy `{policy}` that this release does not know"
                )
            }
        }
    }
}

/// Tenant tables, with what holds their rows apart.
const PROTECTION: &str = "SELECT c.relname::text AS name, c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced,
        EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'tenant' AND p.polcmd = '*'
            AND pg_get_expr(p.polqual, p.polrelid) = pg_get_expr(p.polwithcheck, p.polrelid)
            AND pg_get_expr(p.polqual, p.polrelid) =
                '(workspace_id = (NULLIF(current_setting(''app.workspace_id''::text, true), ''''::text))::uuid)'
        ) AS has_policy
    FROM pg_class c
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
      AND EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'workspace_id' AND NOT a.attisdropped)
    ORDER BY c.relname";

/// Policies beside `tenant`: ours let a capability read, and no more.
const OTHERS: &str = "SELECT c.relname::text AS name, p.polname::text AS policy
    FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
    WHERE c.relnamespace = current_schema()::regnamespace AND p.polpermissive AND p.polname <> 'tenant'
      AND NOT (p.polname IN ('own', 'worker') AND p.polcmd = 'r')
    ORDER BY c.relname, p.polname";

impl Store {
    /// Brings a database's schema up to date, as the role that owns it; on PostgreSQL the role that the server
    /// connects as is granted what it needs. Several may do so at once.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn migrate(owner: &Url, server_role: Option<&str>) -> Result<(), OpenError> {
        let server = match &owner.0 {
            Target::Sqlite(_) => {
                let database = Database::connect(&owner.0)
                    .await
                    .map_err(OpenError::Database)?;
                database.close().await;
                return Ok(());
            }
            Target::Postgres(server) => server,
        };
        let mut options = server.options.clone();
        if server.pgbouncer {
            options = options.statement_cache_capacity(0).extra_float_digits(None);
        }
        try_connect(&options).await.map_err(OpenError::Database)?;
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .connect_with(options);
        let pool = pool.await.map_err(|e| OpenError::Database(lost(e)))?;
        let owner = SqlxPostgresConnector::from_sqlx_postgres_pool(pool);
        let tx = owner.begin().await.map_err(OpenError::Database)?;
        if let Err(error) = deploy(&tx, server_role).await {
            return Err(if is_denied(&error) {
                let role = server.options.get_username().to_owned();
                OpenError::NotOwner { role }
            } else {
                OpenError::Database(error)
            });
        }
        tx.commit().await.map_err(OpenError::Database)?;
        owner.close().await.map_err(OpenError::Database)
    }

    /// What an operator should know of the database's set-up, the gravest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn schema_issues(&self) -> Result<Vec<SchemaIssue>, StoreError> {
        const OWNER: &str = "SELECT current_user::text AS role FROM pg_class
            WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
              AND pg_has_role(current_user, relowner, 'USAGE') LIMIT 1";
        const OPERATION: &str = "look at the database's set-up";
        const TRIGGERS: &str = "SELECT t.tgname::text AS name FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
            WHERE c.relnamespace = current_schema()::regnamespace AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')";
        const TRIGGERS_SQLITE: &str = "SELECT name FROM sqlite_master WHERE type = 'trigger'";
        let on = self.reads(Reach::Installation);
        let mut schema_issues = Vec::new();
        let triggers = match self.backend() {
            Backend::Sqlite => TRIGGERS_SQLITE,
            Backend::Postgres => TRIGGERS,
        };
        let mut in_force: Vec<String> = Vec::new();
        for row in query(&on, OPERATION, triggers, []).await? {
            in_force.push(column(&row, "name")?);
        }
        for (table, trigger) in append_only_triggers(on.get_database_backend()) {
            if !in_force.contains(&trigger) {
                schema_issues.push(SchemaIssue::Rewritable { table, trigger });
            }
        }
        if self.backend() == Backend::Sqlite {
            return Ok(schema_issues);
        }
        for row in query(&on, OPERATION, PROTECTION, []).await? {
            for (has, lacks) in [
                ("enabled", "row-level security"),
                ("forced", "FORCE ROW LEVEL SECURITY"),
                ("has_policy", "the policy `tenant`"),
            ] {
                if !column::<bool>(&row, has)? {
                    let table = column(&row, "name")?;
                    schema_issues.push(SchemaIssue::Unprotected { table, lacks });
                }
            }
        }
        for row in query(&on, OPERATION, OTHERS, []).await? {
            schema_issues.push(SchemaIssue::UnknownPolicy {
                table: column(&row, "name")?,
                policy: column(&row, "policy")?,
            });
        }
        for row in query(&on, OPERATION, OWNER, []).await? {
            let role = column(&row, "role")?;
            schema_issues.push(SchemaIssue::OwnsTables { role });
        }
        Ok(schema_issues)
    }

    /// Refuses a database that is too old, that would not bind the server, or whose schema is behind.
    pub(crate) async fn require_fit_database(&self) -> Result<(), OpenError> {
        const SERVER: &str = "SELECT current_setting('server_version') AS version,
                current_setting('server_version_num')::int / 10000 AS major, current_user::text AS role,
                (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user) AS unbound,
                to_regclass('seaql_migrations') IS NOT NULL AS has_schema";
        const APPLIED: &str = "SELECT version FROM seaql_migrations";
        const OPERATION: &str = "look at the database";
        if self.backend() == Backend::Sqlite {
            return Ok(());
        }
        let on = self.reads(Reach::Installation);
        let rows = query(&on, OPERATION, SERVER, []).await?;
        let row = rows.first().ok_or(StoreError::Dangling {
            operation: OPERATION,
        })?;
        if i64::from(column::<i32>(row, "major")?) < i64::from(OLDEST) {
            return Err(OpenError::TooOld {
                found: column(row, "version")?,
                wanted: OLDEST,
            });
        }
        if column(row, "unbound")? {
            return Err(OpenError::Unbound {
                role: column(row, "role")?,
            });
        }
        let mut applied: Vec<String> = Vec::new();
        if column(row, "has_schema")? {
            for row in query(&on, OPERATION, APPLIED, []).await? {
                applied.push(column(&row, "version")?);
            }
        }
        // More than this release knows is a newer one's, and expands only.
        let missing: Vec<_> = names()
            .into_iter()
            .filter(|name| !applied.contains(name))
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(OpenError::Behind { missing })
        }
    }
}

/// Whether the role lacks a privilege.
fn is_denied(error: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) =
        error
    else {
        return false;
    };
    let code = error.as_database_error().and_then(|error| error.code());
    code.as_deref() == Some("42501")
}
