//! The row that a credential names: what selects it, alone or along with what a statement reads, and what it says.
//!
//! A statement that looks it up along reads nothing for a credential whose row is not there or whose secret is another;
//! the caller judges the rest before anything is released.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rawdrive_identity::ports::{Authenticated, WorkspaceStatus};
use rawdrive_identity::{AccessClaims, ApiKeyName, ApiKeyToken, Scopes, StoredKey, TokenPepper};
use rawdrive_tenancy_core::id::{ApiKeyId, TypedId, WorkspaceId};
use rawdrive_tenancy_core::{Membership, Role, StoreError};
use sea_orm::{DatabaseBackend, DbErr, QueryResult, Statement, Value, Values};

use crate::scope::{column, corrupt};

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

impl Presented {
    pub(crate) fn workspace(&self) -> WorkspaceId {
        match self {
            Self::Session(claims) => claims.workspace,
            Self::Key(token) => token.workspace(),
            Self::KeyOfPage { workspace, .. } => *workspace,
        }
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
    pub(crate) fn of(presented: &Presented, pepper: &TokenPepper) -> Self {
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

    pub(crate) fn take(&self) -> Option<Result<Found, StoreError>> {
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

/// What shows that a key may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyProof {
    /// Its secret, by the third parameter.
    Secret,
    /// A token that it had issued.
    Token,
}

/// Selects the row that an API key names, with the role that its sponsor has now. Its parameters, workspace, key and the hash of the presented secret, are
/// numbered from `first` on. Whether the secret is right is for [`rawdrive_identity::prove_api_key`] to say; a
/// statement that reads more asks here first. Where a verified token names the key, there is no secret to compare, and
/// the third parameter is any text.
pub(crate) fn key_row(first: usize, proof: KeyProof) -> String {
    let [workspace, id, hash] = [first, first + 1, first + 2];
    let holds = match proof {
        KeyProof::Secret => format!("k.secret_hash = ${hash}"),
        KeyProof::Token => format!("CAST(${hash} AS TEXT) IS NOT NULL"),
    };
    format!(
        "SELECT k.role AS proof_role, m.role AS proof_sponsor_role, w.status AS proof_status,
            k.secret_hash AS proof_hash, k.expires_at AS proof_expires_at, k.last_used_at AS proof_last_used_at,
            k.scopes AS proof_scopes, k.name AS proof_name, {holds} AS proof_holds
        FROM api_keys k JOIN workspaces w ON w.workspace_id = k.workspace_id
        LEFT JOIN memberships m ON m.workspace_id = k.workspace_id AND m.user_id = k.sponsor_id
        WHERE k.workspace_id = ${workspace} AND k.id = ${id}"
    )
}

/// Reads a row of [`key_row`].
pub(crate) fn stored_key(row: &QueryResult) -> Result<StoredKey, StoreError> {
    let role: String = column(row, "proof_role")?;
    let sponsor: Option<String> = column(row, "proof_sponsor_role")?;
    Ok(StoredKey {
        role: role_of("api_keys", &role)?,
        sponsor_role: sponsor
            .map(|role| role_of(MEMBERSHIPS, &role))
            .transpose()?,
        scopes: Scopes::of_text(column::<Option<String>>(row, "proof_scopes")?.as_deref()),
        name: ApiKeyName::from_stored(column(row, "proof_name")?),
        secret_hash: column(row, "proof_hash")?,
        expires_at: column(row, "proof_expires_at")?,
        last_used_at: column(row, "proof_last_used_at")?,
        workspace_status: status_of(&column::<String>(row, "proof_status")?)?,
    })
}

/// Selects the row that an access token names. Its parameters, workspace, user and session, are numbered from
/// `first` on.
pub(crate) fn session_row(first: usize) -> String {
    let [workspace, user, session] = [first, first + 1, first + 2];
    format!(
        "SELECT m.role AS proof_role, w.status AS proof_status, s.epoch AS proof_epoch, true AS proof_holds
        FROM memberships m
        JOIN sessions s ON s.workspace_id = m.workspace_id AND s.user_id = m.user_id
        JOIN users u ON u.id = m.user_id
        JOIN workspaces w ON w.workspace_id = m.workspace_id
        WHERE m.workspace_id = ${workspace} AND m.user_id = ${user} AND s.id = ${session}
          AND s.revoked_at IS NULL AND s.epoch = u.session_epoch"
    )
}

/// Reads a row of [`session_row`].
pub(crate) fn authenticated(
    claims: &AccessClaims,
    row: &QueryResult,
) -> Result<Authenticated, StoreError> {
    let role = role_of(MEMBERSHIPS, &column::<String>(row, "proof_role")?)?;
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the store's own reading of the membership's row"
    )]
    let membership = Membership::attest(claims.workspace, claims.user, role, claims.session);
    Ok(Authenticated {
        membership,
        workspace_status: status_of(&column::<String>(row, "proof_status")?)?,
        session_epoch: epoch("sessions", column(row, "proof_epoch")?)?,
    })
}

/// Where members have their roles.
pub(crate) const MEMBERSHIPS: &str = "memberships";

pub(crate) fn role_of(table: &'static str, text: &str) -> Result<Role, StoreError> {
    text.parse().map_err(|e| corrupt(table, "role", text, e))
}

pub(crate) fn status_of(text: &str) -> Result<WorkspaceStatus, StoreError> {
    text.parse()
        .map_err(|e| corrupt("workspaces", "status", text, e))
}

pub(crate) fn epoch(table: &'static str, value: i64) -> Result<u32, StoreError> {
    u32::try_from(value).map_err(|e| corrupt(table, "session_epoch", value, e))
}
