//! Two tenants' rows meet in no join: the entities and their scoped selects are the store's own.

use rawdrive_store::entity::{galleries, photos};
use rawdrive_store::scope::Tenant;
use rawdrive_tenancy_core::WorkspaceScope;

fn attempt(mine: &WorkspaceScope) {
    let _ = photos::Entity::scoped(mine).select_also(galleries::Entity);
}

fn main() {}
