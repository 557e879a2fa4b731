//! A find without a scope needs an entity, and nobody outside the store can name one.

use sea_orm::EntityTrait;

fn attempt() {
    let _ = rawdrive_store::entity::quotas::Entity::find();
}

fn main() {}
