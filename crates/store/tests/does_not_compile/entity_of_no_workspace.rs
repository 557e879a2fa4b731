//! An entity that does not say which column is the workspace's is not read on a handle.

use rawdrive_store::Reader;

mod notes {
    use rawdrive_store::extension::sea_orm;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "notes")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

fn attempt(reader: &Reader) {
    let _ = reader.select::<notes::Entity>();
}

fn main() {}
