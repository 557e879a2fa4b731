//! Two tenants' rows meet in no join: the core's entities and their scoped selects are the store's own.

use rawdrive_store::entity::{quotas, standings}; //~ E0603
use rawdrive_store::scope::Tenant; //~ E0603
use rawdrive_tenancy_core::WorkspaceScope;

fn attempt(mine: &WorkspaceScope) {
    let _ = quotas::Entity::scoped(mine).select_also(standings::Entity); //~
}

fn main() {}
