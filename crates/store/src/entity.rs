//! The tables as SeaORM sees them. Private to the store: nobody outside can name an entity.

#![expect(
    unreachable_pub,
    reason = "SeaORM's derives want public models; the module itself is private"
)]

/// One module per table: `table! { tenant name { columns } }`.
macro_rules! table {
    ($module:ident, $name:literal, [$($key:ident: $key_type:ty),+], { $($column:ident: $type:ty),* $(,)? }) => {
        pub(crate) mod $module {
            use sea_orm::entity::prelude::*;
            #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
            #[sea_orm(table_name = $name)]
            pub struct Model {
                $(#[sea_orm(primary_key, auto_increment = false)] pub $key: $key_type,)+
                $(pub $column: $type,)*
            }
            #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
            pub enum Relation {}
            impl ActiveModelBehavior for ActiveModel {}
        }
    };
}

/// A tenant table: one whose first key is `workspace_id`.
macro_rules! tenant {
    ($module:ident, $name:literal, [$($key:ident: $key_type:ty),*], { $($column:ident: $type:ty),* $(,)? }) => {
        table!($module, $name, [workspace_id: Uuid $(, $key: $key_type)*], { $($column: $type),* });
        impl crate::scope::TenantEntity for $module::Entity {
            const WORKSPACE: Self::Column = $module::Column::WorkspaceId;
        }
    };
}

table!(users, "users", [id: Uuid], {
    email: String, email_folded: String, name: String, password_hash: String, session_epoch: i64,
    last_workspace_id: Option<Uuid>, created_at: ChronoDateTimeUtc, email_verified_at: Option<ChronoDateTimeUtc>,
});
table!(signing_keys, "signing_keys", [kid: String], {
    public_key: Vec<u8>, sealed: Vec<u8>, created_at: ChronoDateTimeUtc, retire_at: Option<ChronoDateTimeUtc>,
});
table!(plan_versions, "plan_versions", [slug: String, version: i64], {
    definition: String, digest: Vec<u8>, published_at: ChronoDateTimeUtc,
});
tenant!(workspaces, "workspaces", [], {
    name: String, slug: String, billing_email: Option<String>, currency: String, status: String,
    created_at: ChronoDateTimeUtc, updated_at: ChronoDateTimeUtc, version: i64,
});
tenant!(memberships, "memberships", [user_id: Uuid], { role: String, joined_at: ChronoDateTimeUtc });
tenant!(sessions, "sessions", [id: Uuid], {
    user_id: Uuid, epoch: i64, created_at: ChronoDateTimeUtc, expires_at: ChronoDateTimeUtc,
    revoked_at: Option<ChronoDateTimeUtc>,
});
tenant!(refresh_tokens, "refresh_tokens", [id: Uuid], {
    session_id: Uuid, secret_hash: Vec<u8>, issued_at: ChronoDateTimeUtc, expires_at: ChronoDateTimeUtc,
    used_at: Option<ChronoDateTimeUtc>,
});
tenant!(api_keys, "api_keys", [id: Uuid], {
    name: String, role: String, sponsor_id: Option<Uuid>, secret_hash: String, created_by: String,
    created_at: ChronoDateTimeUtc, expires_at: Option<ChronoDateTimeUtc>, last_used_at: Option<ChronoDateTimeUtc>,
    scopes: Option<String>,
});
tenant!(invitations, "invitations", [id: Uuid], {
    email: String, email_folded: String, role: String, sponsor_id: Option<Uuid>, secret_hash: Vec<u8>,
    invited_by: String, created_at: ChronoDateTimeUtc, expires_at: ChronoDateTimeUtc,
});
tenant!(standings, "standings", [], {
    plan_slug: String, plan_version: i64, billing_anchor: Option<ChronoDateTimeUtc>,
    grace_until: Option<ChronoDateTimeUtc>, read_only_reason: Option<String>,
    read_only_since: Option<ChronoDateTimeUtc>, updated_at: ChronoDateTimeUtc,
    plan_ends_at: Option<ChronoDateTimeUtc>, then_plan_slug: Option<String>, then_plan_version: Option<i64>,
});
tenant!(overrides, "overrides", [id: Uuid], {
    kind: String, name: String, bound: Option<i64>, enabled: Option<bool>, reason: String,
    until: Option<ChronoDateTimeUtc>, created_at: ChronoDateTimeUtc, seq: i64,
});
tenant!(quotas, "quotas", [metric: String, subject: String, period_start: ChronoDateTimeUtc], {
    used: i64, reserved: i64, fired: i64, version: i64,
});
tenant!(holds, "holds", [id: Uuid], {
    state: String, purpose: String, cleanup: Option<String>, expires_at: ChronoDateTimeUtc, created_at: ChronoDateTimeUtc,
});
tenant!(hold_charges, "hold_charges", [
    hold_id: Uuid, metric: String, subject: String, period_start: ChronoDateTimeUtc
], { amount: i64 });
tenant!(threshold_episodes, "threshold_episodes", [id: Uuid], {
    metric: String, subject: String, period_start: ChronoDateTimeUtc, threshold: i64,
    fired_at: ChronoDateTimeUtc, rearmed_at: Option<ChronoDateTimeUtc>,
});
tenant!(ledger, "ledger", [seq: i64], {
    metric: String, key_subject: String, period_start: ChronoDateTimeUtc, quantity: i64, subject: String,
    actor: String, occurred_at: ChronoDateTimeUtc, recorded_at: ChronoDateTimeUtc, kind: String,
    event_id: Option<String>, hash: Option<Vec<u8>>,
});
tenant!(audit_heads, "audit_heads", [], { seq: i64, hash: Vec<u8> });
tenant!(audit_entries, "audit_entries", [seq: i64], {
    at: ChronoDateTimeUtc, actor: String, action: String, subject: String, payload_hash: Vec<u8>, hash: Vec<u8>,
});
tenant!(audit_payloads, "audit_payloads", [seq: i64], { salt: Vec<u8>, payload: String });
tenant!(jobs, "jobs", [id: Uuid], {
    kind: String, work: String, due_at: ChronoDateTimeUtc, retry_at: ChronoDateTimeUtc, leased_until: ChronoDateTimeUtc,
    attempts: i64, created_at: ChronoDateTimeUtc,
});
tenant!(idempotency_keys, "idempotency_keys", [actor: String, key: String], {
    fingerprint: Vec<u8>, effect_id: Uuid, leased_until: ChronoDateTimeUtc, status: Option<i64>,
    etag: Option<String>, body: Option<Vec<u8>>, body_digest: Option<Vec<u8>>, created_at: ChronoDateTimeUtc,
});
tenant!(onboarding, "onboarding", [], { completed_at: Option<ChronoDateTimeUtc> });
tenant!(onboarding_skips, "onboarding_skips", [step: String], { skipped_at: ChronoDateTimeUtc });
tenant!(events, "events", [seq: i64], {
    id: Uuid, kind: String, subject: String, facts: String, at: ChronoDateTimeUtc,
});
tenant!(webhook_endpoints, "webhook_endpoints", [id: Uuid], {
    url: String, kinds: String, secret: String, old_secret: Option<String>, old_secret_until: Option<ChronoDateTimeUtc>,
    enabled: bool, disabled_reason: Option<String>, delivered_seq: i64, awake: bool,
    failing_since: Option<ChronoDateTimeUtc>, created_at: ChronoDateTimeUtc, version: i64,
});
tenant!(webhook_deliveries, "webhook_deliveries", [id: Uuid], {
    endpoint_id: Uuid, event_seq: i64, event_id: Uuid, kind: String, state: String, attempts: i64,
    response_status: Option<i64>, error: Option<String>, last_attempt_at: Option<ChronoDateTimeUtc>,
    next_attempt_at: Option<ChronoDateTimeUtc>, created_at: ChronoDateTimeUtc,
});
