//! Reading for a credential that is not proved yet: the first statement that reads looks its row up too, so that an
//! authenticated read is one round trip and not two. What was read is withheld until the row has been judged.
//!
//! The statement reads nothing for a credential whose row is not there or whose secret is another; the caller
//! judges the rest (role, expiry, the secret once more in constant time) before anything is released.

use std::sync::Arc;

use rawdrive_identity::ports::IdentityRead as _;
use rawdrive_identity::{ApiKeyRead as _, TokenPepper};
use rawdrive_tenancy_core::{StoreError, SystemReason, WorkspaceScope};

use crate::credential_row::{Found, Presented, Proving};
use crate::reach::Reach;
use crate::store::{Reader, Store};

/// What was read for a credential, kept back until the credential's row has been judged.
#[derive(Debug)]
pub struct Withheld<T> {
    presented: Presented,
    found: Found,
    read: T,
}

impl<T> Withheld<T> {
    /// Gives out what was read, where the judgement is that the credential holds.
    ///
    /// # Errors
    /// The judgement's.
    pub fn release<E>(
        self,
        judge: impl FnOnce(&Presented, Found) -> Result<(), E>,
    ) -> Result<T, E> {
        judge(&self.presented, self.found)?;
        Ok(self.read)
    }
}

impl Store {
    /// Runs what reads for a presented credential, in the workspace that it names. The first statement looks the
    /// credential's row up as well; where none is run, that is done apart.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn read_presented<T>(
        &self,
        presented: Presented,
        pepper: &TokenPepper,
        read: impl AsyncFnOnce(&Reader) -> T,
    ) -> Result<Withheld<T>, StoreError> {
        let proving = Arc::new(Proving::of(&presented, pepper));
        #[expect(
            clippy::disallowed_methods,
            reason = "the credential is checked inside the workspace that it names, and what is read is withheld"
        )]
        let scope = WorkspaceScope::for_system(presented.workspace(), SystemReason::AUTHENTICATE);
        let db = self.reads(Reach::of(&scope)).proving(proving.clone());
        let read = read(&self.reader(db, &scope)).await;
        let found = match (proving.take(), &presented) {
            (Some(found), _) => found?,
            (None, Presented::Session(claims)) => Found::Session(self.authenticate(claims).await?),
            (None, Presented::Key(token)) => Found::Key(self.presented_key(token).await?),
            (None, Presented::KeyOfPage { workspace, key }) => {
                Found::Key(self.named_key(*workspace, *key).await?)
            }
        };
        Ok(Withheld {
            presented,
            found,
            read,
        })
    }
}

#[cfg(test)]
mod tests {
    use rawdrive_identity::{ApiKeyName, ApiKeyToken, NewApiKey, Scopes, create_api_key};
    use rawdrive_tenancy_core::id::TypedId as _;
    use rawdrive_tenancy_core::{Commit as _, Role};
    use rawdrive_testkit::{TestEnv, contract, product};
    use sea_orm::DatabaseBackend;
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::scope::query;
    use crate::subject::{Opened, member, open};
    use crate::support::Engine;

    /// A read that fails on the first row that it looks at.
    fn fatal(backend: DatabaseBackend) -> &'static str {
        match backend {
            DatabaseBackend::Sqlite => {
                "SELECT abs(-9223372036854775807 - length(text) / length(text)) AS n FROM memos WHERE workspace_id = $1"
            }
            _ => "SELECT 1 / (length(text) - length(text)) AS n FROM memos WHERE workspace_id = $1",
        }
    }

    async fn not_a_row_is_looked_at_without_the_secret(engine: Engine) {
        let test_env = TestEnv::seeded(1);
        let (env, pepper) = (test_env.env(), TokenPepper::new(&[7; 32]));
        let catalogue = product::catalogue();
        let opened = open(engine, &test_env, &catalogue).await;
        let plan = catalogue.newest(&"unlimited".parse().unwrap()).unwrap();
        let scope = contract::Subject::workspace(&opened, &plan).await;
        let new = NewApiKey {
            name: ApiKeyName::parse("reader").unwrap(),
            role: Role::Member,
            scopes: Scopes::all(),
            expires_at: None,
        };
        let mut tx = opened.store.begin(&scope).await.unwrap();
        let noted = <Opened as contract::Subject>::insert_note(&mut tx, env.uuid(), "note").await;
        noted.unwrap();
        let maker = member(&mut tx, env, Role::Owner).await;
        let made = create_api_key(&mut tx, env, &pepper, maker, new).await;
        let right = made.unwrap().1;
        tx.commit().await.unwrap();
        let right = ApiKeyToken::parse(right.expose_secret()).unwrap();
        for (pepper, looks) in [(&pepper, true), (&TokenPepper::new(&[8; 32]), false)] {
            let presented = Presented::Key(right.clone());
            let read = async |reader: &Reader| {
                let sql = fatal(sea_orm::ConnectionTrait::get_database_backend(reader.db()));
                let workspace = [scope.workspace().uuid().into()];
                query(reader.db(), "look", sql, workspace)
                    .await
                    .unwrap_err()
            };
            let withheld = opened.store.read_presented(presented, pepper, read).await;
            let StoreError::Unavailable { source, .. } = withheld.unwrap().read else {
                panic!("it fails either way");
            };
            let refused = source.to_string().contains("does not hold");
            assert_eq!(refused, !looks, "{source}");
        }
    }

    #[tokio::test]
    async fn not_a_row_is_looked_at_without_the_secret_on_sqlite() {
        not_a_row_is_looked_at_without_the_secret(Engine::Sqlite).await;
    }

    #[tokio::test]
    async fn not_a_row_is_looked_at_without_the_secret_on_postgres() {
        not_a_row_is_looked_at_without_the_secret(Engine::Postgres).await;
    }
}
