//! An embedder's entity has no rows without a handle, which knows the workspace.

use rawdrive_store::extension::sea_orm::EntityTrait;
use rawdrive_store::extension::{Selected, TenantEntity};
use rawdrive_store::{Reader, Store, WriteTx};

rawdrive_store::tenant_entity! {
    mod notes("notes", [id: Uuid]) { text: String }
}

async fn attempt(store: &Store, reader: &Reader, tx: &mut WriteTx) {
    let _ = store.select::<notes::Entity>(); //~ E0599
    let _ = Selected::<notes::Entity>::new(); //~ E0061, E0624
    //+ let selected: Selected<'_, notes::Entity> = reader.select::<notes::Entity>();
    // SeaORM's own select has nothing to run on.
    let unscoped = <notes::Entity as EntityTrait>::find();
    let _ = unscoped.all(reader).await; //~ E0277
    //+ let _ = selected.all().await;
    // Writing is not for a handle that reads.
    let _ = reader.delete::<notes::Entity>(); //~ E0599
    //+ let _ = tx.delete::<notes::Entity>();
    let _ = notes::Entity::WORKSPACE;
}

fn main() {}
