//! An embedder's entity has no rows without a handle, which knows the workspace.

use rawdrive_store::extension::{Selected, TenantEntity};
use rawdrive_store::{Reader, Store};

rawdrive_store::tenant_entity! {
    mod notes("notes", [id: Uuid]) { text: String }
}

async fn attempt(store: &Store, reader: &Reader) {
    let _ = store.select::<notes::Entity>();
    let _ = Selected::<notes::Entity>::new();
    // SeaORM's own select has nothing to run on.
    let unscoped = <notes::Entity as rawdrive_store::extension::sea_orm::EntityTrait>::find();
    let _ = unscoped.all(reader).await;
    // Writing is not for a handle that reads.
    let _ = reader.delete::<notes::Entity>();
    let _ = notes::Entity::WORKSPACE;
}

fn main() {}
