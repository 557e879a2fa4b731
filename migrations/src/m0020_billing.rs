//! Billing: the inbox of the payment provider's events, the projection of its objects, and the operation log.

use sea_orm_migration::prelude::*;

use crate::ddl::{Capability, define, readable_by};

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0020_billing"
    }
}

/// Global: an event names a customer, and whose that is comes out only behind the inbox.
const GLOBAL: &[&str] = &[
    "CREATE TABLE billing_events (
        id TEXT NOT NULL PRIMARY KEY,
        kind TEXT NOT NULL,
        created_at {time},
        livemode {bool},
        customer TEXT,
        disposition TEXT NOT NULL,
        object_kind TEXT,
        object_id TEXT,
        payload {bytes} NOT NULL,
        received_at {time} NOT NULL
    ){strict}",
    "CREATE INDEX billing_events_ignored ON billing_events (id) WHERE disposition <> 'touches'",
    "CREATE TABLE billing_objects (
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        customer TEXT,
        version {int} NOT NULL,
        settled_version {int} NOT NULL,
        fence {int} NOT NULL,
        attempts {int} NOT NULL,
        leased_until {time} NOT NULL,
        retry_at {time} NOT NULL,
        waiting TEXT CHECK (waiting IN ('customer', 'operator')),
        reason TEXT,
        touched_at {time} NOT NULL,
        PRIMARY KEY (kind, id),
        CHECK (settled_version <= version)
    ){strict}",
    "CREATE INDEX billing_objects_due ON billing_objects (retry_at)
        WHERE version > settled_version AND waiting IS NULL",
    "CREATE INDEX billing_objects_waiting ON billing_objects (customer) WHERE waiting IS NOT NULL",
    "CREATE TABLE billing_prices (
        price TEXT NOT NULL PRIMARY KEY,
        plan_slug TEXT NOT NULL,
        plan_version {int} NOT NULL,
        currency TEXT NOT NULL,
        charged_every TEXT NOT NULL,
        noted_at {time} NOT NULL,
        FOREIGN KEY (plan_slug, plan_version) REFERENCES plan_versions (slug, version)
    ){strict}",
];

const TENANT: &[&str] = &[
    // The one unique key across workspaces: an event names the customer alone, so that one customer of two
    // workspaces would be nobody's. It tells nothing: its values are the provider's, and no request chooses them.
    "CREATE TABLE billing_customers (
        workspace_id {uuid} NOT NULL,
        customer TEXT NOT NULL UNIQUE,
        created_at {time} NOT NULL,
        PRIMARY KEY (workspace_id, customer),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ){strict}",
    "CREATE TABLE billing_accounts (
        workspace_id {uuid} NOT NULL PRIMARY KEY REFERENCES workspaces (workspace_id),
        customer TEXT,
        checkout TEXT,
        grant_slug TEXT,
        grant_version {int},
        grant_until {time},
        review_at {time},
        updated_at {time} NOT NULL,
        FOREIGN KEY (workspace_id, customer) REFERENCES billing_customers (workspace_id, customer),
        FOREIGN KEY (grant_slug, grant_version) REFERENCES plan_versions (slug, version)
    ){strict}",
    "CREATE INDEX billing_accounts_by_review ON billing_accounts (review_at) WHERE review_at IS NOT NULL",
    "CREATE TABLE subscriptions (
        workspace_id {uuid} NOT NULL,
        id TEXT NOT NULL,
        customer TEXT NOT NULL,
        status TEXT NOT NULL,
        plan_slug TEXT,
        plan_version {int},
        period_end {time},
        snapshot TEXT NOT NULL,
        updated_at {time} NOT NULL,
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id, customer) REFERENCES billing_customers (workspace_id, customer),
        FOREIGN KEY (plan_slug, plan_version) REFERENCES plan_versions (slug, version)
    ){strict}",
    "CREATE TABLE invoices (
        workspace_id {uuid} NOT NULL,
        id TEXT NOT NULL,
        position {uuid} NOT NULL,
        customer TEXT NOT NULL,
        subscription TEXT,
        status TEXT NOT NULL,
        snapshot TEXT NOT NULL,
        updated_at {time} NOT NULL,
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id, customer) REFERENCES billing_customers (workspace_id, customer)
    ){strict}",
    "CREATE INDEX invoices_by_position ON invoices (workspace_id, position)",
    "CREATE INDEX invoices_owed ON invoices (workspace_id) WHERE status IN ('open', 'uncollectible')",
    "CREATE TABLE billing_effects (
        workspace_id {uuid} NOT NULL,
        key TEXT NOT NULL,
        at {time} NOT NULL,
        PRIMARY KEY (workspace_id, key),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ){strict}",
    "CREATE TABLE billing_operations (
        workspace_id {uuid} NOT NULL,
        id {uuid} NOT NULL,
        lane TEXT NOT NULL,
        kind TEXT NOT NULL,
        request TEXT NOT NULL,
        actor TEXT NOT NULL,
        attempt {int} NOT NULL,
        fence {int} NOT NULL,
        leased_until {time} NOT NULL,
        unanswered {bool} NOT NULL,
        created_at {time} NOT NULL,
        outcome TEXT,
        ended_at {time},
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ){strict}",
    "CREATE UNIQUE INDEX billing_operations_live ON billing_operations (workspace_id, lane)
        WHERE outcome IS NULL",
    "CREATE INDEX billing_operations_abandoned ON billing_operations (leased_until) WHERE outcome IS NULL",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        define(manager, GLOBAL).await?;
        define(manager, TENANT).await?;
        // The worker learns whose a customer is, and which workspace waits for it.
        for table in [
            "billing_customers",
            "billing_accounts",
            "billing_operations",
        ] {
            readable_by(manager, Capability::Worker, table, "true").await?;
        }
        Ok(())
    }
}
