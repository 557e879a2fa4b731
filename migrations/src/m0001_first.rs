//! The first schema.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::ConnectionTrait;

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0001_first"
    }
}

// STRICT: SQLite refuses a value of another type instead of keeping it.
const TABLES: &[&str] = &[
    "CREATE TABLE users (
        id BLOB NOT NULL PRIMARY KEY,
        email TEXT NOT NULL,
        email_folded TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        password_hash TEXT NOT NULL,
        session_epoch INTEGER NOT NULL,
        last_workspace_id BLOB,
        created_at TEXT NOT NULL
    ) STRICT",
    "CREATE TABLE signing_keys (
        kid TEXT NOT NULL PRIMARY KEY,
        public_key BLOB NOT NULL,
        sealed BLOB NOT NULL,
        created_at TEXT NOT NULL,
        retire_at TEXT
    ) STRICT",
    "CREATE TABLE plan_versions (
        slug TEXT NOT NULL,
        version INTEGER NOT NULL,
        definition TEXT NOT NULL,
        digest BLOB NOT NULL,
        published_at TEXT NOT NULL,
        PRIMARY KEY (slug, version)
    ) STRICT",
    "CREATE TABLE password_attempts (
        key_hash BLOB NOT NULL PRIMARY KEY,
        attempts INTEGER NOT NULL CHECK (attempts >= 0),
        window_ends_at TEXT NOT NULL
    ) STRICT",
    "CREATE TABLE workspaces (
        workspace_id BLOB NOT NULL PRIMARY KEY,
        name TEXT NOT NULL,
        slug TEXT NOT NULL,
        billing_email TEXT,
        currency TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('active', 'suspended', 'deleted')),
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        version INTEGER NOT NULL
    ) STRICT",
    "CREATE TABLE memberships (
        workspace_id BLOB NOT NULL REFERENCES workspaces (workspace_id),
        user_id BLOB NOT NULL REFERENCES users (id),
        role TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'member')),
        joined_at TEXT NOT NULL,
        PRIMARY KEY (workspace_id, user_id)
    ) STRICT",
    "CREATE INDEX memberships_by_user ON memberships (user_id)",
    "CREATE TABLE sessions (
        workspace_id BLOB NOT NULL,
        id BLOB NOT NULL,
        user_id BLOB NOT NULL,
        epoch INTEGER NOT NULL,
        created_at TEXT NOT NULL,
        expires_at TEXT NOT NULL,
        revoked_at TEXT,
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ) STRICT",
    "CREATE TABLE refresh_tokens (
        workspace_id BLOB NOT NULL,
        id BLOB NOT NULL,
        session_id BLOB NOT NULL,
        secret_hash BLOB NOT NULL,
        issued_at TEXT NOT NULL,
        expires_at TEXT NOT NULL,
        used_at TEXT,
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id, session_id) REFERENCES sessions (workspace_id, id) ON DELETE CASCADE
    ) STRICT",
    "CREATE INDEX refresh_tokens_by_session ON refresh_tokens (workspace_id, session_id)",
    "CREATE TABLE standings (
        workspace_id BLOB NOT NULL PRIMARY KEY REFERENCES workspaces (workspace_id),
        plan_slug TEXT NOT NULL,
        plan_version INTEGER NOT NULL,
        billing_anchor TEXT,
        grace_until TEXT,
        read_only_reason TEXT,
        read_only_since TEXT,
        updated_at TEXT NOT NULL,
        FOREIGN KEY (plan_slug, plan_version) REFERENCES plan_versions (slug, version)
    ) STRICT",
    "CREATE TABLE overrides (
        workspace_id BLOB NOT NULL,
        id BLOB NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('limit', 'feature')),
        name TEXT NOT NULL,
        bound INTEGER,
        enabled INTEGER,
        reason TEXT NOT NULL,
        until TEXT,
        created_at TEXT NOT NULL,
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ) STRICT",
    "CREATE TABLE quotas (
        workspace_id BLOB NOT NULL,
        metric TEXT NOT NULL,
        subject TEXT NOT NULL,
        period_start TEXT NOT NULL,
        used INTEGER NOT NULL CHECK (used >= 0),
        reserved INTEGER NOT NULL CHECK (reserved >= 0),
        fired INTEGER NOT NULL,
        version INTEGER NOT NULL,
        PRIMARY KEY (workspace_id, metric, subject, period_start),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ) STRICT",
    "CREATE TABLE holds (
        workspace_id BLOB NOT NULL,
        id BLOB NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('held', 'committed', 'released', 'expired')),
        expires_at TEXT NOT NULL,
        created_at TEXT NOT NULL,
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ) STRICT",
    "CREATE INDEX holds_by_expiry ON holds (expires_at) WHERE state = 'held'",
    "CREATE TABLE hold_charges (
        workspace_id BLOB NOT NULL,
        hold_id BLOB NOT NULL,
        metric TEXT NOT NULL,
        subject TEXT NOT NULL,
        period_start TEXT NOT NULL,
        amount INTEGER NOT NULL CHECK (amount >= 0),
        PRIMARY KEY (workspace_id, hold_id, metric, subject, period_start),
        FOREIGN KEY (workspace_id, hold_id) REFERENCES holds (workspace_id, id) ON DELETE CASCADE
    ) STRICT",
    "CREATE TABLE threshold_episodes (
        workspace_id BLOB NOT NULL,
        id BLOB NOT NULL,
        metric TEXT NOT NULL,
        subject TEXT NOT NULL,
        period_start TEXT NOT NULL,
        threshold INTEGER NOT NULL,
        fired_at TEXT NOT NULL,
        rearmed_at TEXT,
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ) STRICT",
    "CREATE UNIQUE INDEX threshold_episodes_open ON threshold_episodes
        (workspace_id, metric, subject, period_start, threshold) WHERE rearmed_at IS NULL",
    "CREATE TABLE ledger_heads (
        workspace_id BLOB NOT NULL PRIMARY KEY REFERENCES workspaces (workspace_id),
        seq INTEGER NOT NULL
    ) STRICT",
    "CREATE TABLE ledger (
        workspace_id BLOB NOT NULL,
        seq INTEGER NOT NULL,
        metric TEXT NOT NULL,
        key_subject TEXT NOT NULL,
        period_start TEXT NOT NULL,
        quantity INTEGER NOT NULL,
        subject TEXT NOT NULL,
        actor TEXT NOT NULL,
        occurred_at TEXT NOT NULL,
        recorded_at TEXT NOT NULL,
        PRIMARY KEY (workspace_id, seq),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ) STRICT",
    "CREATE TABLE audit_heads (
        workspace_id BLOB NOT NULL PRIMARY KEY REFERENCES workspaces (workspace_id),
        seq INTEGER NOT NULL,
        hash BLOB NOT NULL
    ) STRICT",
    "CREATE TABLE audit_entries (
        workspace_id BLOB NOT NULL,
        seq INTEGER NOT NULL,
        at TEXT NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        subject TEXT NOT NULL,
        payload_hash BLOB NOT NULL,
        hash BLOB NOT NULL,
        PRIMARY KEY (workspace_id, seq),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ) STRICT",
    "CREATE TABLE audit_payloads (
        workspace_id BLOB NOT NULL,
        seq INTEGER NOT NULL,
        salt BLOB NOT NULL,
        payload TEXT NOT NULL,
        PRIMARY KEY (workspace_id, seq),
        FOREIGN KEY (workspace_id, seq) REFERENCES audit_entries (workspace_id, seq)
    ) STRICT",
    "CREATE TABLE jobs (
        workspace_id BLOB NOT NULL,
        id BLOB NOT NULL,
        work TEXT NOT NULL,
        due_at TEXT NOT NULL,
        retry_at TEXT NOT NULL,
        leased_until TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        created_at TEXT NOT NULL,
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ) STRICT",
    "CREATE INDEX jobs_by_due ON jobs (due_at)",
    "CREATE TABLE idempotency_keys (
        workspace_id BLOB NOT NULL,
        actor TEXT NOT NULL,
        key TEXT NOT NULL,
        fingerprint BLOB NOT NULL,
        effect_id BLOB NOT NULL,
        leased_until TEXT NOT NULL,
        status INTEGER,
        etag TEXT,
        body BLOB,
        body_digest BLOB,
        created_at TEXT NOT NULL,
        PRIMARY KEY (workspace_id, actor, key),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ) STRICT",
    "CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at)",
    "CREATE TABLE libraries (
        workspace_id BLOB NOT NULL,
        id BLOB NOT NULL,
        name TEXT NOT NULL,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        version INTEGER NOT NULL,
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ) STRICT",
    "CREATE TABLE galleries (
        workspace_id BLOB NOT NULL,
        id BLOB NOT NULL,
        library_id BLOB NOT NULL,
        name TEXT NOT NULL,
        download TEXT NOT NULL CHECK (download IN ('none', 'web', 'original')),
        deleted_at TEXT,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        version INTEGER NOT NULL,
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id, library_id) REFERENCES libraries (workspace_id, id)
    ) STRICT",
    "CREATE INDEX galleries_by_library ON galleries (workspace_id, library_id, id)",
    "CREATE TABLE photos (
        workspace_id BLOB NOT NULL,
        id BLOB NOT NULL,
        gallery_id BLOB NOT NULL,
        filename TEXT NOT NULL,
        content_type TEXT NOT NULL,
        size_bytes INTEGER NOT NULL CHECK (size_bytes > 0),
        sha256 BLOB NOT NULL,
        width INTEGER,
        height INTEGER,
        taken_at TEXT,
        created_at TEXT NOT NULL,
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id, gallery_id) REFERENCES galleries (workspace_id, id)
    ) STRICT",
    "CREATE INDEX photos_by_gallery ON photos (workspace_id, gallery_id, id)",
    "CREATE TABLE branding (
        workspace_id BLOB NOT NULL PRIMARY KEY REFERENCES workspaces (workspace_id),
        display_name TEXT NOT NULL,
        primary_color TEXT NOT NULL,
        logo_photo_id BLOB,
        website TEXT,
        updated_at TEXT NOT NULL
    ) STRICT",
];

/// Tables whose rows are written once.
const APPEND_ONLY: &[&str] = &["ledger", "audit_entries"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        for table in TABLES {
            #[expect(
                clippy::disallowed_methods,
                reason = "a schema is raw statements, and belongs to no workspace"
            )]
            connection.execute_unprepared(table).await?;
        }
        for table in APPEND_ONLY {
            for verb in ["UPDATE", "DELETE"] {
                let trigger = format!(
                    "CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table}
                     BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
                );
                #[expect(
                    clippy::disallowed_methods,
                    reason = "a schema is raw statements, and belongs to no workspace"
                )]
                connection.execute_unprepared(&trigger).await?;
            }
        }
        Ok(())
    }
}
