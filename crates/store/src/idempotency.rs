//! Idempotency keys: a leased claim that allots the effect's id, completed in the effect's transaction.

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_tenancy_core::{StoreError, WorkspaceScope};
use sea_orm::sea_query::{Expr, LockType, OnConflict};
use sea_orm::{ColumnTrait, ConnectionTrait, QueryFilter, QuerySelect, Set, UpdateMany};
use uuid::Uuid;

use crate::entity::idempotency_keys;
use crate::reach::Reach;
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
        const OPERATION: &str = "claim a key";
        let tx = self.begin_in(Reach::of(scope), OPERATION).await?;
        let now = self.0.env.lease_now();
        // Twice: between the attempt to write the row and the look at it, its request may have given it back.
        for _ in 0..2 {
            let new = Claim {
                key: key.to_owned(),
                claimed_at: now,
                effect_id: self.0.env.uuid(),
            };
            if insert(scope, &new, fingerprint, &tx).await? {
                tx.commit().await.map_err(failed(OPERATION))?;
                return Ok(Claimed::Mine(new));
            }
            let Some(row) = present(scope, key, &tx).await? else {
                continue;
            };
            if row.fingerprint != fingerprint {
                return Ok(Claimed::Reused);
            }
            if let Some(status) = row.status {
                return replay_of(row, status).map(Claimed::Replay);
            }
            if row.leased_until > now {
                let seconds = (row.leased_until - now).num_seconds();
                return Ok(Claimed::InFlight {
                    retry_after: u32::try_from(seconds).unwrap_or(1).max(1),
                });
            }
            unanswered(scope, key)
                .col_expr(
                    idempotency_keys::Column::LeasedUntil,
                    Expr::value(lease_end(now)),
                )
                .col_expr(idempotency_keys::Column::CreatedAt, Expr::value(now))
                .exec(&tx)
                .await
                .map_err(failed(OPERATION))?;
            tx.commit().await.map_err(failed(OPERATION))?;
            return Ok(Claimed::Mine(Claim {
                effect_id: row.effect_id,
                ..new
            }));
        }
        // Others keep taking it and giving it back: one of them is at work.
        Ok(Claimed::InFlight { retry_after: 1 })
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
        complete(scope, claim, answer, &self.writes(Reach::of(scope))).await
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
            .exec(&self.writes(Reach::of(scope)))
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
        let lease = lease_end(self.env().lease_now());
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

/// Writes a new claim; false when the key has a row.
async fn insert(
    scope: &WorkspaceScope,
    claim: &Claim,
    fingerprint: [u8; 32],
    on: &impl ConnectionTrait,
) -> Result<bool, StoreError> {
    use idempotency_keys::Column;
    let row = idempotency_keys::ActiveModel {
        actor: Set(scope.actor().to_string()),
        key: Set(claim.key.clone()),
        fingerprint: Set(fingerprint.to_vec()),
        effect_id: Set(claim.effect_id),
        leased_until: Set(lease_end(claim.claimed_at)),
        created_at: Set(claim.claimed_at),
        ..Default::default()
    };
    let unless_there = OnConflict::columns([Column::WorkspaceId, Column::Actor, Column::Key])
        .do_nothing()
        .to_owned();
    let inserted = idempotency_keys::Entity::scoped_insert(scope, [row])
        .on_conflict(unless_there)
        .exec_without_returning(on)
        .await
        .map_err(failed("claim a key"))?;
    Ok(inserted == 1)
}

/// The key's row, locked until the transaction ends.
async fn present(
    scope: &WorkspaceScope,
    key: &str,
    on: &impl ConnectionTrait,
) -> Result<Option<idempotency_keys::Model>, StoreError> {
    idempotency_keys::Entity::scoped(scope)
        .filter(idempotency_keys::Column::Actor.eq(scope.actor().to_string()))
        .filter(idempotency_keys::Column::Key.eq(key))
        .lock(LockType::NoKeyUpdate)
        .one(on)
        .await
        .map_err(failed("claim a key"))
}

fn replay_of(row: idempotency_keys::Model, status: i64) -> Result<Replay, StoreError> {
    Ok(Replay {
        status: u16::try_from(status)
            .map_err(|e| corrupt("idempotency_keys", "status", status, e))?,
        etag: row.etag,
        body: row.body.unwrap_or_default(),
        body_digest: row.body_digest,
    })
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
