//! Migrations that made what is an extension's since.

use sea_orm_migration::prelude::*;

/// A migration of which the name alone is left: databases of the releases that had it have it in their history, and
/// extensions adopt what it made ([`crate::Extension::adopts`]). It changes nothing.
#[derive(Debug)]
pub(crate) struct Moved(pub(crate) &'static str);

impl MigrationName for Moved {
    fn name(&self) -> &str {
        self.0
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Moved {
    async fn up(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Ok(())
    }
}
