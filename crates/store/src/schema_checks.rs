//! What an operator should know of the database's set-up, and what a server refuses to work with.

use std::fmt;

use rawdrive_migrations::{
    Extension, ExtensionError, MigrateError, TENANT_TABLES, append_only_triggers, deploy, names,
    pending,
};
use rawdrive_tenancy_core::StoreError;
use sea_orm::sqlx::postgres::PgPoolOptions;
use sea_orm::{ConnectionTrait as _, DbErr, RuntimeErr, SqlxPostgresConnector, TransactionTrait};

use crate::connection::Database;
use crate::pool::lost;
use crate::postgres::try_connect;
use crate::reach::Reach;
use crate::scope::{column, query};
use crate::store::{OpenError, Store, declared};
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
    /// A key of a table with a `workspace_id` does not begin with it.
    LooseKey {
        /// The table.
        table: String,
        /// Which kind of key.
        key: String,
        /// What it begins with, if there is one.
        begins: Option<String>,
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
            Self::Unprotected { .. }
            | Self::Rewritable { .. }
            | Self::LooseKey { .. }
            | Self::UnknownPolicy { .. } => Severity::Finding,
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
            Self::LooseKey { table, key, begins } => write!(
                f,
                "table `{table}`: its {key} begins with {}, not with `workspace_id`: rows of one workspace could meet \
                 another's",
                begins
                    .as_ref()
                    .map_or_else(|| "nothing".to_owned(), |column| format!("`{column}`"))
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

/// The keys of tenant tables, each with the column that it begins with. Of foreign keys those between tenant tables,
/// from both sides.
const KEYS: &str = "WITH tenants AS (
        SELECT c.oid, c.relname::text AS name FROM pg_class c
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
          AND EXISTS (SELECT 1 FROM pg_attribute a
              WHERE a.attrelid = c.oid AND a.attname = 'workspace_id' AND NOT a.attisdropped)),
      keys AS (
        SELECT t.oid, t.name, 'primary key' AS kind, p.conkey[1] AS num
            FROM tenants t LEFT JOIN pg_constraint p ON p.conrelid = t.oid AND p.contype = 'p'
        UNION ALL SELECT t.oid, t.name, 'foreign key', f.conkey[1]
            FROM tenants t JOIN pg_constraint f ON f.conrelid = t.oid AND f.contype = 'f'
            JOIN tenants target ON target.oid = f.confrelid
        UNION ALL SELECT target.oid, t.name, 'foreign key''s target', f.confkey[1]
            FROM tenants t JOIN pg_constraint f ON f.conrelid = t.oid AND f.contype = 'f'
            JOIN tenants target ON target.oid = f.confrelid
        UNION ALL SELECT t.oid, t.name, 'unique index', i.indkey[0]
            FROM tenants t JOIN pg_index i ON i.indrelid = t.oid AND i.indisunique)
    SELECT k.name, k.kind, a.attname::text AS begins
    FROM keys k LEFT JOIN pg_attribute a ON a.attrelid = k.oid AND a.attnum = k.num
    WHERE a.attname IS DISTINCT FROM 'workspace_id' ORDER BY k.name, k.kind, begins";
const KEYS_SQLITE: &str = "WITH tenants AS (
        SELECT m.name AS name FROM sqlite_schema m WHERE m.type = 'table'
          AND EXISTS (SELECT 1 FROM pragma_table_info(m.name) c WHERE c.name = 'workspace_id')),
      keys AS (
        SELECT t.name AS name, 'primary key' AS kind,
            (SELECT c.name FROM pragma_table_info(t.name) c WHERE c.pk = 1) AS begins FROM tenants t
        UNION ALL SELECT t.name, 'foreign key', f.\"from\" FROM tenants t, pragma_foreign_key_list(t.name) f
            WHERE f.seq = 0 AND f.\"table\" IN (SELECT name FROM tenants)
        UNION ALL SELECT t.name, 'foreign key''s target', f.\"to\" FROM tenants t, pragma_foreign_key_list(t.name) f
            WHERE f.seq = 0 AND f.\"to\" IS NOT NULL AND f.\"table\" IN (SELECT name FROM tenants)
        UNION ALL SELECT t.name, 'unique index', c.name
            FROM tenants t, pragma_index_list(t.name) i, pragma_index_info(i.name) c
            WHERE i.\"unique\" AND i.origin <> 'pk' AND c.seqno = 0)
    SELECT name, kind, begins FROM keys WHERE begins IS NOT 'workspace_id' ORDER BY name, kind, begins";

impl Store {
    /// Brings a database's schema up to date, as the role that owns it; on PostgreSQL the role that the server
    /// connects as is granted what it needs. The extensions' migrations run after the core's. Several may do so at once.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn migrate(
        owner: &Url,
        server_role: Option<&str>,
        extensions: &[Extension],
    ) -> Result<(), OpenError> {
        declared(extensions)?;
        let server = match &owner.0 {
            Target::Sqlite(_) => {
                let database = Database::connect(&owner.0, extensions).await?;
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
        if let Err(error) = deploy(&tx, server_role, extensions).await {
            let denied = match &error {
                MigrateError::Database(source)
                | MigrateError::Extension(ExtensionError::Failed { source, .. }) => {
                    is_denied(source)
                }
                MigrateError::Extension(_) => false,
            };
            return Err(if denied {
                let role = server.options.get_username().to_owned();
                OpenError::NotOwner { role }
            } else {
                error.into()
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
            schema_issues.extend(self.loose_keys(KEYS_SQLITE).await?);
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
        schema_issues.extend(self.loose_keys(KEYS).await?);
        for row in query(&on, OPERATION, OWNER, []).await? {
            let role = column(&row, "role")?;
            schema_issues.push(SchemaIssue::OwnsTables { role });
        }
        Ok(schema_issues)
    }

    async fn loose_keys(&self, sql: &str) -> Result<Vec<SchemaIssue>, StoreError> {
        let on = self.reads(Reach::Installation);
        let mut found = Vec::new();
        for row in query(&on, "look at the keys", sql, []).await? {
            let (table, key): (String, String) = (column(&row, "name")?, column(&row, "kind")?);
            // One of the core's is unique across workspaces for a reason: the payment provider's customer.
            if key == "unique index" && TENANT_TABLES.contains(&table.as_str()) {
                continue;
            }
            let begins = column(&row, "begins")?;
            found.push(SchemaIssue::LooseKey { table, key, begins });
        }
        Ok(found)
    }

    /// Refuses a database that is too old, that would not bind the server, or whose schema is behind.
    pub(crate) async fn require_fit_database(&self) -> Result<(), OpenError> {
        const SERVER: &str = "SELECT current_setting('server_version') AS version,
                current_setting('server_version_num')::int / 10000 AS major, current_user::text AS role,
                (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user) AS unbound,
                to_regclass('seaql_migrations') IS NOT NULL AS has_schema,
                to_regclass('extension_migrations') IS NOT NULL AS has_extensions";
        const APPLIED: &str = "SELECT version FROM seaql_migrations";
        const EXTENSIONS: &str = "SELECT extension, name FROM extension_migrations";
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
        let mut missing: Vec<_> = names()
            .into_iter()
            .filter(|name| !applied.contains(name))
            .collect();
        let mut of_extensions = Vec::new();
        if column(row, "has_extensions")? {
            for row in query(&on, OPERATION, EXTENSIONS, []).await? {
                of_extensions.push((column(&row, "extension")?, column(&row, "name")?));
            }
        }
        missing.extend(pending(&self.0.extensions, &of_extensions));
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
