//! A find without a scope needs an entity, and nobody outside the store can name one of the core's.

use rawdrive_store::extension::sea_orm::EntityTrait;

rawdrive_store::tenant_entity! {
    mod notes("notes", [id: Uuid]) { text: String }
}

fn attempt() {
    let _ = rawdrive_store::entity::quotas::Entity::find(); //~ E0603
    //+ let _ = notes::Entity::find();
}

fn main() {}
