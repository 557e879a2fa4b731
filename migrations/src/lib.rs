#![doc = include_str!("../README.md")]

pub use ddl::append_only_triggers;
pub use declaration::{Place, Problem, check as check_declarations};
pub use deploy::{deploy, names};
pub use extension::{
    DataMigration, Extension, ExtensionError, Migratable, MigrateError, MigrationFuture,
    MigrationTx, migrate, pending,
};
pub use sea_orm_migration::MigratorTrait;
use sea_orm_migration::prelude::*;

mod ddl;
mod declaration;
mod deploy;
mod extension;
mod m0001_first;
mod m0002_team;
mod m0003_credentials;
mod m0005_onboarding;
mod m0006_analysis;
mod m0008_override_order;
mod m0009_capabilities;
mod m0010_usage_history;
mod m0014_live_usage;
mod m0019_plan_end;
mod m0020_billing;
mod m0021_event_age;
mod m0022_counters;
mod m0023_addresses;
mod m0023_sponsors;
mod m0026_extensions;
mod m0027_open_kinds;
mod m0028_housekeeping;
mod m0029_key_scopes;
mod m0030_audit_filters;
mod m0031_events;
mod moved;
pub mod tokens;

use moved::Moved;

/// Tables that belong to no workspace, and why.
pub const GLOBAL_TABLES: &[(&str, &str)] = &[
    ("users", "a person belongs to any number of workspaces"),
    (
        "signing_keys",
        "the installation signs access tokens before it knows a workspace",
    ),
    ("plan_versions", "the catalogue is the installation's"),
    (
        "password_attempts",
        "attempts are counted before anybody is known; keyed by hashes",
    ),
    (
        "proof_requests",
        "who asks for a mailed link is not known yet, and may belong to no workspace",
    ),
    (
        "proofs",
        "password resets and verified addresses are a person's, in every workspace",
    ),
    (
        "billing_events",
        "an event names the provider's customer; whose that is comes out behind the inbox",
    ),
    (
        "billing_objects",
        "what is to be fetched is known before it is known whose it is",
    ),
    (
        "billing_prices",
        "what is sold is the installation's, like the catalogue",
    ),
    ("seaql_migrations", "the schema's own history"),
    (
        "extension_migrations",
        "the history of what embedders add to the schema",
    ),
];

/// Tables whose rows belong to a workspace. `crates/store/tests/schema.rs` compares both lists with the databases.
pub const TENANT_TABLES: &[&str] = &[
    "api_keys",
    "audit_entries",
    "audit_heads",
    "audit_payloads",
    "billing_accounts",
    "billing_customers",
    "billing_effects",
    "billing_operations",
    "event_heads",
    "events",
    "hold_charges",
    "holds",
    "idempotency_keys",
    "invitations",
    "invoices",
    "jobs",
    "ledger",
    "ledger_heads",
    "memberships",
    "onboarding",
    "onboarding_skips",
    "overrides",
    "quotas",
    "refresh_tokens",
    "sessions",
    "standings",
    "subscriptions",
    "threshold_episodes",
    "usage_event_ids",
    "usage_hours",
    "usage_months",
    "webhook_deliveries",
    "webhook_endpoints",
    "workspaces",
];

/// All migrations, oldest first.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_first::Migration),
            Box::new(m0002_team::Migration),
            Box::new(m0003_credentials::Migration),
            Box::new(Moved("m0004_clients")),
            Box::new(m0005_onboarding::Migration),
            Box::new(m0006_analysis::Migration),
            Box::new(m0008_override_order::Migration),
            Box::new(m0009_capabilities::Migration),
            Box::new(m0010_usage_history::Migration),
            Box::new(m0014_live_usage::Migration),
            Box::new(m0019_plan_end::Migration),
            Box::new(m0020_billing::Migration),
            Box::new(m0021_event_age::Migration),
            Box::new(m0022_counters::Migration),
            Box::new(m0023_addresses::Migration),
            Box::new(m0023_sponsors::Migration),
            Box::new(Moved("m0024_orientation")),
            Box::new(Moved("m0025_blob_mark")),
            Box::new(m0026_extensions::Migration),
            Box::new(m0027_open_kinds::Migration),
            Box::new(m0028_housekeeping::Migration),
            Box::new(m0029_key_scopes::Migration),
            Box::new(m0030_audit_filters::Migration),
            Box::new(m0031_events::Migration),
        ]
    }
}
