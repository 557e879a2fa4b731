//! An entity that does not say which column is the workspace's is not read on a handle.

use rawdrive_store::Reader;
use rawdrive_store::extension::TenantEntity;
use rawdrive_store::extension::sea_orm::EntityTrait;

fn attempt<E: EntityTrait, T: TenantEntity>(reader: &Reader) {
    let _ = reader.select::<E>(); //~ E0277
    //+ let _ = reader.select::<T>();
}

fn main() {}
