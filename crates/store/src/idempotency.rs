//! Idempotency keys: a leased claim that allots the effect's id, completed in the effect's transaction.

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_tenancy_core::{StoreError, WorkspaceScope};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, ConnectionTrait, QueryFilter, Set, UpdateMany};
use uuid::Uuid;

use crate::entity::idempotency_keys;
use crate::scope::{Tenant, corrupt, failed};
use crate::store::{Store, WriteTx};

/// How long a claim is held for a request that does not come back, in seconds of real time.
const LEASE_SECONDS: i64 = 60;

/// A claim that this request holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    key: String,
    /// Tells this claim from a later one of the same key; its lease moves, this does not.
    claimed_at: DateTime<Utc>,
    /// The id that the effect must have, also on a second attempt after a crash.
    pub effect_id: Uuid,
}

/// A stored answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// HTTP status.
    pub status: u16,
    /// `ETag` of the answer, if it had one.
    pub etag: Option<String>,
    /// The answer's body.
    pub body: Vec<u8>,
    /// SHA-256 of the request's streamed body, where the fingerprint does not cover it.
    pub body_digest: Option<Vec<u8>>,
}

/// What a key turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// New, or left by a request that died: go on.
    Mine(Claim),
    /// Answered before.
    Replay(Replay),
    /// Used before for another request.
    Reused,
    /// Another request with it is under way.
    InFlight {
        /// Until its lease ends, in seconds, at least 1.
        retry_after: u32,
    },
}

impl Store {
    /// Claims a key in a transaction of its own.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn claim_key(
        &self,
        scope: &WorkspaceScope,
        key: &str,
        fingerprint: [u8; 32],
    ) -> Result<Claimed, StoreError> {
        let tx = self.begin_immediate("claim a key").await?;
        let real = self.0.ambient.lease_now();
        let lease = lease_end(real);
        let actor = scope.actor().to_string();
        let row = idempotency_keys::Entity::scoped(scope)
            .filter(idempotency_keys::Column::Actor.eq(actor.as_str()))
            .filter(idempotency_keys::Column::Key.eq(key))
            .one(&tx)
            .await
            .map_err(failed("claim a key"))?;
        let claimed = match row {
            Some(row) if row.fingerprint != fingerprint => return Ok(Claimed::Reused),
            Some(row) => match row.status {
                Some(status) => {
                    let status = u16::try_from(status)
                        .map_err(|e| corrupt("idempotency_keys", "status", status, e))?;
                    let body = row.body.unwrap_or_default();
                    return Ok(Claimed::Replay(Replay {
                        status,
                        etag: row.etag,
                        body,
                        body_digest: row.body_digest,
                    }));
                }
                None if row.leased_until > real => {
                    let seconds = (row.leased_until - real).num_seconds();
                    return Ok(Claimed::InFlight {
                        retry_after: u32::try_from(seconds).unwrap_or(1).max(1),
                    });
                }
                None => {
                    unanswered(scope, key)
                        .col_expr(idempotency_keys::Column::LeasedUntil, Expr::value(lease))
                        .col_expr(idempotency_keys::Column::CreatedAt, Expr::value(real))
                        .exec(&tx)
                        .await
                        .map_err(failed("claim a key"))?;
                    Claim {
                        key: key.to_owned(),
                        claimed_at: real,
                        effect_id: row.effect_id,
                    }
                }
            },
            None => {
                let effect_id = self.0.ambient.uuid();
                let row = idempotency_keys::ActiveModel {
                    actor: Set(actor),
                    key: Set(key.to_owned()),
                    fingerprint: Set(fingerprint.to_vec()),
                    effect_id: Set(effect_id),
                    leased_until: Set(lease),
                    created_at: Set(real),
                    ..Default::default()
                };
                let insert = idempotency_keys::Entity::scoped_insert(scope, [row]);
                insert
                    .exec_without_returning(&tx)
                    .await
                    .map_err(failed("claim a key"))?;
                Claim {
                    key: key.to_owned(),
                    claimed_at: real,
                    effect_id,
                }
            }
        };
        tx.commit().await.map_err(failed("claim a key"))?;
        Ok(Claimed::Mine(claimed))
    }

    /// Stores an answer that had no effect (a 422), so that it replays.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn complete_key(
        &self,
        scope: &WorkspaceScope,
        claim: &Claim,
        answer: &Replay,
    ) -> Result<(), StoreError> {
        complete(scope, claim, answer, &self.0.writer).await
    }

    /// Gives a claim up: the request came to nothing, and may be tried again at once.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn abandon_key(
        &self,
        scope: &WorkspaceScope,
        claim: &Claim,
    ) -> Result<(), StoreError> {
        idempotency_keys::Entity::scoped_delete(scope)
            .filter(idempotency_keys::Column::Actor.eq(scope.actor().to_string()))
            .filter(idempotency_keys::Column::Key.eq(claim.key.as_str()))
            .filter(idempotency_keys::Column::CreatedAt.eq(claim.claimed_at))
            .filter(idempotency_keys::Column::Status.is_null())
            .exec(&self.0.writer)
            .await
            .map_err(failed("abandon a key"))?;
        Ok(())
    }
}

impl WriteTx {
    /// Moves the end of a claim's lease, for a request that takes longer than one.
    ///
    /// # Errors
    /// The claim was lost to another request ([`StoreError::Taken`]), or the database failed.
    pub async fn renew_key(&mut self, claim: &Claim) -> Result<(), StoreError> {
        let lease = lease_end(self.ambient().lease_now());
        let renewed = own(&self.scope, claim)
            .col_expr(idempotency_keys::Column::LeasedUntil, Expr::value(lease));
        write(renewed, "renew a key", &self.tx).await
    }

    /// Stores the answer in the effect's own transaction.
    ///
    /// # Errors
    /// The claim was lost to another request ([`StoreError::Taken`]), or the database failed; drop the transaction.
    pub async fn complete_key(&mut self, claim: &Claim, answer: &Replay) -> Result<(), StoreError> {
        complete(&self.scope, claim, answer, &self.tx).await
    }
}

fn lease_end(real: DateTime<Utc>) -> DateTime<Utc> {
    real + TimeDelta::seconds(LEASE_SECONDS)
}

fn unanswered(scope: &WorkspaceScope, key: &str) -> UpdateMany<idempotency_keys::Entity> {
    idempotency_keys::Entity::scoped_update(scope)
        .filter(idempotency_keys::Column::Actor.eq(scope.actor().to_string()))
        .filter(idempotency_keys::Column::Key.eq(key))
        .filter(idempotency_keys::Column::Status.is_null())
}

/// The row of a claim that is still this request's.
fn own(scope: &WorkspaceScope, claim: &Claim) -> UpdateMany<idempotency_keys::Entity> {
    unanswered(scope, &claim.key).filter(idempotency_keys::Column::CreatedAt.eq(claim.claimed_at))
}

async fn complete(
    scope: &WorkspaceScope,
    claim: &Claim,
    answer: &Replay,
    on: &impl ConnectionTrait,
) -> Result<(), StoreError> {
    let completed = own(scope, claim)
        .col_expr(
            idempotency_keys::Column::Status,
            Expr::value(i64::from(answer.status)),
        )
        .col_expr(
            idempotency_keys::Column::Etag,
            Expr::value(answer.etag.clone()),
        )
        .col_expr(
            idempotency_keys::Column::Body,
            Expr::value(answer.body.clone()),
        )
        .col_expr(
            idempotency_keys::Column::BodyDigest,
            Expr::value(answer.body_digest.clone()),
        );
    write(completed, "complete a key", on).await
}

/// Writes to a claim's row, or says that it is another request's now.
async fn write(
    update: UpdateMany<idempotency_keys::Entity>,
    operation: &'static str,
    on: &impl ConnectionTrait,
) -> Result<(), StoreError> {
    let done = update.exec(on).await.map_err(failed(operation))?;
    if done.rows_affected == 1 {
        Ok(())
    } else {
        Err(StoreError::Taken { operation })
    }
}
