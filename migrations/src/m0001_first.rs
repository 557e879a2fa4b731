//! The first schema.

use sea_orm_migration::prelude::*;

use crate::ddl::{append_only, define};

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0001_first"
    }
}

const TABLES: &[&str] = &[
    "CREATE TABLE users (
        id {uuid} NOT NULL PRIMARY KEY,
        email TEXT NOT NULL,
        email_folded TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        password_hash TEXT NOT NULL,
        session_epoch {int} NOT NULL,
        last_workspace_id {uuid},
        created_at {time} NOT NULL
    ){strict}",
    "CREATE TABLE signing_keys (
        kid TEXT NOT NULL PRIMARY KEY,
        public_key {bytes} NOT NULL,
        sealed {bytes} NOT NULL,
        created_at {time} NOT NULL,
        retire_at {time}
    ){strict}",
    "CREATE TABLE plan_versions (
        slug TEXT NOT NULL,
        version {int} NOT NULL,
        definition TEXT NOT NULL,
        digest {bytes} NOT NULL,
        published_at {time} NOT NULL,
        PRIMARY KEY (slug, version)
    ){strict}",
    "CREATE TABLE password_attempts (
        key_hash {bytes} NOT NULL PRIMARY KEY,
        attempts {int} NOT NULL CHECK (attempts >= 0),
        window_ends_at {time} NOT NULL
    ){strict}",
    "CREATE TABLE workspaces (
        workspace_id {uuid} NOT NULL PRIMARY KEY,
        name TEXT NOT NULL,
        slug TEXT NOT NULL,
        billing_email TEXT,
        currency TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('active', 'suspended', 'deleted')),
        created_at {time} NOT NULL,
        updated_at {time} NOT NULL,
        version {int} NOT NULL
    ){strict}",
    "CREATE TABLE memberships (
        workspace_id {uuid} NOT NULL REFERENCES workspaces (workspace_id),
        user_id {uuid} NOT NULL REFERENCES users (id),
        role TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'member')),
        joined_at {time} NOT NULL,
        PRIMARY KEY (workspace_id, user_id)
    ){strict}",
    "CREATE INDEX memberships_by_user ON memberships (user_id)",
    "CREATE TABLE sessions (
        workspace_id {uuid} NOT NULL,
        id {uuid} NOT NULL,
        user_id {uuid} NOT NULL,
        epoch {int} NOT NULL,
        created_at {time} NOT NULL,
        expires_at {time} NOT NULL,
        revoked_at {time},
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ){strict}",
    "CREATE TABLE refresh_tokens (
        workspace_id {uuid} NOT NULL,
        id {uuid} NOT NULL,
        session_id {uuid} NOT NULL,
        secret_hash {bytes} NOT NULL,
        issued_at {time} NOT NULL,
        expires_at {time} NOT NULL,
        used_at {time},
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id, session_id) REFERENCES sessions (workspace_id, id) ON DELETE CASCADE
    ){strict}",
    "CREATE INDEX refresh_tokens_by_session ON refresh_tokens (workspace_id, session_id)",
    "CREATE TABLE standings (
        workspace_id {uuid} NOT NULL PRIMARY KEY REFERENCES workspaces (workspace_id),
        plan_slug TEXT NOT NULL,
        plan_version {int} NOT NULL,
        billing_anchor {time},
        grace_until {time},
        read_only_reason TEXT,
        read_only_since {time},
        updated_at {time} NOT NULL,
        FOREIGN KEY (plan_slug, plan_version) REFERENCES plan_versions (slug, version)
    ){strict}",
    "CREATE TABLE overrides (
        workspace_id {uuid} NOT NULL,
        id {uuid} NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('limit', 'feature')),
        name TEXT NOT NULL,
        bound {int},
        enabled {bool},
        reason TEXT NOT NULL,
        until {time},
        created_at {time} NOT NULL,
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ){strict}",
    "CREATE TABLE quotas (
        workspace_id {uuid} NOT NULL,
        metric TEXT NOT NULL,
        subject TEXT NOT NULL,
        period_start {time} NOT NULL,
        used {int} NOT NULL CHECK (used >= 0),
        reserved {int} NOT NULL CHECK (reserved >= 0),
        fired {int} NOT NULL,
        version {int} NOT NULL,
        PRIMARY KEY (workspace_id, metric, subject, period_start),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ){strict}",
    "CREATE TABLE holds (
        workspace_id {uuid} NOT NULL,
        id {uuid} NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('held', 'committed', 'released', 'expired')),
        expires_at {time} NOT NULL,
        created_at {time} NOT NULL,
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ){strict}",
    "CREATE INDEX holds_by_expiry ON holds (expires_at) WHERE state = 'held'",
    "CREATE TABLE hold_charges (
        workspace_id {uuid} NOT NULL,
        hold_id {uuid} NOT NULL,
        metric TEXT NOT NULL,
        subject TEXT NOT NULL,
        period_start {time} NOT NULL,
        amount {int} NOT NULL CHECK (amount >= 0),
        PRIMARY KEY (workspace_id, hold_id, metric, subject, period_start),
        FOREIGN KEY (workspace_id, hold_id) REFERENCES holds (workspace_id, id) ON DELETE CASCADE
    ){strict}",
    "CREATE TABLE threshold_episodes (
        workspace_id {uuid} NOT NULL,
        id {uuid} NOT NULL,
        metric TEXT NOT NULL,
        subject TEXT NOT NULL,
        period_start {time} NOT NULL,
        threshold {int} NOT NULL,
        fired_at {time} NOT NULL,
        rearmed_at {time},
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ){strict}",
    "CREATE UNIQUE INDEX threshold_episodes_open ON threshold_episodes
        (workspace_id, metric, subject, period_start, threshold) WHERE rearmed_at IS NULL",
    "CREATE TABLE ledger_heads (
        workspace_id {uuid} NOT NULL PRIMARY KEY REFERENCES workspaces (workspace_id),
        seq {int} NOT NULL
    ){strict}",
    "CREATE TABLE ledger (
        workspace_id {uuid} NOT NULL,
        seq {int} NOT NULL,
        metric TEXT NOT NULL,
        key_subject TEXT NOT NULL,
        period_start {time} NOT NULL,
        quantity {int} NOT NULL,
        subject TEXT NOT NULL,
        actor TEXT NOT NULL,
        occurred_at {time} NOT NULL,
        recorded_at {time} NOT NULL,
        PRIMARY KEY (workspace_id, seq),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ){strict}",
    "CREATE TABLE audit_heads (
        workspace_id {uuid} NOT NULL PRIMARY KEY REFERENCES workspaces (workspace_id),
        seq {int} NOT NULL,
        hash {bytes} NOT NULL
    ){strict}",
    "CREATE TABLE audit_entries (
        workspace_id {uuid} NOT NULL,
        seq {int} NOT NULL,
        at {time} NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        subject TEXT NOT NULL,
        payload_hash {bytes} NOT NULL,
        hash {bytes} NOT NULL,
        PRIMARY KEY (workspace_id, seq),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ){strict}",
    "CREATE TABLE audit_payloads (
        workspace_id {uuid} NOT NULL,
        seq {int} NOT NULL,
        salt {bytes} NOT NULL,
        payload TEXT NOT NULL,
        PRIMARY KEY (workspace_id, seq),
        FOREIGN KEY (workspace_id, seq) REFERENCES audit_entries (workspace_id, seq)
    ){strict}",
    "CREATE TABLE jobs (
        workspace_id {uuid} NOT NULL,
        id {uuid} NOT NULL,
        work TEXT NOT NULL,
        due_at {time} NOT NULL,
        retry_at {time} NOT NULL,
        leased_until {time} NOT NULL,
        attempts {int} NOT NULL,
        created_at {time} NOT NULL,
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ){strict}",
    "CREATE INDEX jobs_by_due ON jobs (due_at)",
    "CREATE TABLE idempotency_keys (
        workspace_id {uuid} NOT NULL,
        actor TEXT NOT NULL,
        key TEXT NOT NULL,
        fingerprint {bytes} NOT NULL,
        effect_id {uuid} NOT NULL,
        leased_until {time} NOT NULL,
        status {int},
        etag TEXT,
        body {bytes},
        body_digest {bytes},
        created_at {time} NOT NULL,
        PRIMARY KEY (workspace_id, actor, key),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ){strict}",
    "CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at)",
];

/// Tables whose rows are written once.
const APPEND_ONLY: &[&str] = &["ledger", "audit_entries"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        define(manager, TABLES).await?;
        for table in APPEND_ONLY {
            append_only(manager, table).await?;
        }
        Ok(())
    }
}
