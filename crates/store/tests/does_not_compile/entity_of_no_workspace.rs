//! An entity that does not say which column is the workspace's is not read on a handle.

use rawdrive_store::Reader;
use rawdrive_store::extension::sea_orm::EntityTrait;

fn attempt<E: EntityTrait>(reader: &Reader) {
    let _ = reader.select::<E>();
}

fn main() {}
