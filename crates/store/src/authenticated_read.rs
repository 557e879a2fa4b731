//! Reading for a credential that is not proved yet: the first statement that reads looks its row up too, so that an
//! authenticated read is one round trip and not two. What was read is withheld until the row has been judged.
//!
//! The statement reads nothing for a credential whose row is not there or whose secret is another; the caller
//! judges the rest (role, expiry, the secret once more in constant time) before anything is released.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rawdrive_identity::ports::{Authenticated, IdentityRead as _};
use rawdrive_identity::{AccessClaims, ApiKeyRead as _, ApiKeyToken, StoredKey, TokenPepper};
use rawdrive_tenancy_core::id::{ApiKeyId, TypedId, WorkspaceId};
use rawdrive_tenancy_core::{StoreError, SystemReason, WorkspaceScope};
use sea_orm::{DatabaseBackend, DbErr, QueryResult, Statement, Value, Values};

use crate::api_keys::{KeyProof, key_row, stored_key};
use crate::connection::Reach;
use crate::identity::{authenticated, session_row};
use crate::scope::column;
use crate::store::{Reader, Store};

/// A credential as it was presented.
#[derive(Debug)]
pub enum Presented {
    /// An access token whose signature was verified.
    Session(AccessClaims),
    /// An API key, about which nothing is known yet.
    Key(ApiKeyToken),
    /// A key that is named by a token which was verified.
    KeyOfPage {
        /// The key's workspace.
        workspace: WorkspaceId,
        /// The key.
        key: ApiKeyId,
    },
}

/// The row that a presented credential names; nothing where there is none.
#[derive(Debug)]
pub enum Found {
    /// The session's membership.
    Session(Option<Authenticated>),
    /// The key, whose secret is to be compared.
    Key(Option<StoredKey>),
}

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

impl Presented {
    fn workspace(&self) -> WorkspaceId {
        match self {
            Self::Session(claims) => claims.workspace,
            Self::Key(token) => token.workspace(),
            Self::KeyOfPage { workspace, .. } => *workspace,
        }
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

/// How the first statement looks the credential's row up.
pub(crate) struct Proving {
    credential: Credential,
    values: [Value; 3],
    state: Mutex<State>,
}

enum Credential {
    Session(AccessClaims),
    Key(KeyProof),
}

enum State {
    /// No statement has looked the row up yet.
    Open,
    /// One has. Further ones read where the row was there and its secret right.
    Looked {
        found: Result<Found, StoreError>,
        holds: bool,
    },
}

impl Proving {
    fn of(presented: &Presented, pepper: &TokenPepper) -> Self {
        let (credential, values) = match presented {
            Presented::Session(claims) => (
                Credential::Session(*claims),
                [
                    claims.workspace.uuid().into(),
                    claims.user.uuid().into(),
                    claims.session.uuid().into(),
                ],
            ),
            Presented::Key(token) => (
                Credential::Key(KeyProof::Secret),
                [
                    token.workspace().uuid().into(),
                    token.id().uuid().into(),
                    token.stored_hash(pepper).into(),
                ],
            ),
            Presented::KeyOfPage { workspace, key } => (
                Credential::Key(KeyProof::Token),
                [workspace.uuid().into(), key.uuid().into(), "".into()],
            ),
        };
        Self {
            credential,
            values,
            state: Mutex::new(State::Open),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Result<Found, StoreError>> {
        match std::mem::replace(&mut *self.state(), State::Open) {
            State::Open => None,
            State::Looked { found, .. } => Some(found),
        }
    }

    /// Whether the next statement is to look the row up. An error where one has, and found that nothing may be read.
    pub(crate) fn is_open(&self) -> Result<bool, DbErr> {
        match *self.state() {
            State::Open => Ok(true),
            State::Looked { holds: true, .. } => Ok(false),
            State::Looked { holds: false, .. } => Err(does_not_hold()),
        }
    }

    /// The statement that looks the row up and, only where it is there and its secret is right, reads. Both
    /// databases test that before they read: it is constant for what is read.
    pub(crate) fn joined(&self, statement: Statement) -> Result<Statement, DbErr> {
        let Statement {
            sql,
            values,
            db_backend,
        } = statement;
        let mut values = values.map_or_else(Vec::new, |values| values.0);
        let first = values.len() + 1;
        let row = match self.credential {
            Credential::Session(_) => session_row(first),
            Credential::Key(proof) => key_row(first, proof),
        };
        values.extend(self.values.iter().cloned());
        let sql = match db_backend {
            // Without its own LIMIT, r would be free to forget in which order it is. Its columns stand first: some are
            // read by their place.
            DatabaseBackend::Sqlite => format!(
                "WITH p AS MATERIALIZED ({row}), r AS
                    (SELECT q.*, 1 AS proof_present FROM ({sql}) q WHERE (SELECT proof_holds FROM p) LIMIT -1)
                 SELECT r.*, p.* FROM p LEFT JOIN r ON true"
            ),
            DatabaseBackend::Postgres => format!(
                "SELECT r.*, p.* FROM ({row}) p LEFT JOIN LATERAL
                    (SELECT q.*, 1 AS proof_present FROM ({sql}) q WHERE p.proof_holds OFFSET 0) r ON true"
            ),
            _ => return Err(DbErr::Custom("an unknown database".to_owned())),
        };
        Ok(Statement {
            sql,
            values: Some(Values(values)),
            db_backend,
        })
    }

    /// Keeps the credential's row and hands on those that were read.
    pub(crate) fn split(&self, rows: Vec<QueryResult>) -> Result<Vec<QueryResult>, DbErr> {
        let first = rows.first();
        let found = match &self.credential {
            Credential::Session(claims) => first
                .map(|row| authenticated(claims, row))
                .transpose()
                .map(Found::Session),
            Credential::Key(_) => first.map(stored_key).transpose().map(Found::Key),
        };
        let holds = first.is_some_and(|row| column(row, "proof_holds").unwrap_or(false));
        *self.state() = State::Looked { found, holds };
        if !holds {
            return Err(does_not_hold());
        }
        let mut read = Vec::with_capacity(rows.len());
        for row in rows {
            if row.try_get::<Option<i32>>("", "proof_present")?.is_some() {
                read.push(row);
            }
        }
        Ok(read)
    }
}

fn does_not_hold() -> DbErr {
    DbErr::Custom("the credential does not hold".to_owned())
}

#[cfg(test)]
mod tests {
    use rawdrive_identity::{ApiKeyName, NewApiKey, Scopes, create_api_key};

    use rawdrive_tenancy_core::{Commit as _, Role};
    use rawdrive_testkit::{TestEnv, contract, product};
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
