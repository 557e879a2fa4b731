//! Two tenants' rows meet in no join: the entities and their scoped selects are the store's own.

use rawdrive_store::entity::{standings, quotas};
use rawdrive_store::scope::Tenant;
use rawdrive_tenancy_core::WorkspaceScope;

fn attempt(mine: &WorkspaceScope) {
    let _ = quotas::Entity::scoped(mine).select_also(standings::Entity);
}

fn main() {}
