//! Mailed proofs: global rows, so each statement names one row, or one person's.

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_identity::{PasswordHash, ProofPace, ProofRequest, ProofRequests, ProofRow, Proofs};
use rawdrive_tenancy_core::StoreError;
use rawdrive_tenancy_core::id::{ProofId, TypedId, UserId};
use rawdrive_tenancy_core::job::backoff;
use sea_orm::{ConnectionTrait, QueryResult};

use crate::reach::Reach;
use crate::scope::{column, corrupt, execute, failed, query, to_change_if_free};
use crate::store::{Store, WriteTx};

fn request_of(row: &QueryResult) -> Result<ProofRequest, StoreError> {
    let id = ProofId::from_uuid(column(row, "id")?);
    let purpose: String = column(row, "purpose")?;
    Ok(ProofRequest {
        id,
        purpose: purpose
            .parse()
            .map_err(|e| corrupt("proof_requests", "purpose", id, e))?,
        email_folded: column(row, "email_folded")?,
        created_at: column(row, "created_at")?,
        attempts: u32::try_from(column::<i64>(row, "attempts")?).unwrap_or(u32::MAX),
    })
}

async fn insert_request(
    on: &impl ConnectionTrait,
    request: &ProofRequest,
) -> Result<(), StoreError> {
    const INSERT: &str = "INSERT INTO proof_requests
            (id, purpose, email_folded, leased_until, attempts, created_at)
        VALUES ($1, $2, $3, $4, 0, $5)";
    let values = [
        request.id.uuid().into(),
        request.purpose.as_str().into(),
        request.email_folded.as_str().into(),
        DateTime::<Utc>::UNIX_EPOCH.into(),
        request.created_at.into(),
    ];
    execute(on, "write a request down", INSERT, values).await?;
    Ok(())
}

impl WriteTx {
    /// Writes a request down with everything else that the transaction does.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn insert_proof_request(&mut self, request: &ProofRequest) -> Result<(), StoreError> {
        insert_request(&self.tx, request).await?;
        self.wakes_requests = true;
        Ok(())
    }
}

impl ProofRequests for Store {
    async fn insert_request(&self, request: &ProofRequest) -> Result<(), StoreError> {
        insert_request(&self.writes(Reach::Installation), request).await?;
        self.0.requests.notify_one();
        Ok(())
    }

    async fn lease_requests(
        &self,
        n: u32,
        lease: TimeDelta,
    ) -> Result<Vec<ProofRequest>, StoreError> {
        const DUE: &str = "SELECT 1 AS one FROM proof_requests WHERE leased_until <= $1 LIMIT 1";
        let now = self.0.env.lease_now();
        // As with jobs: an idle runner only reads.
        if query(
            &self.reads(Reach::Installation),
            "look for requests",
            DUE,
            [now.into()],
        )
        .await?
        .is_empty()
        {
            return Ok(Vec::new());
        }
        let on = self.writes(Reach::Installation);
        let lock = to_change_if_free(&on);
        let sql = format!(
            "UPDATE proof_requests SET leased_until = $2, attempts = attempts + 1
            WHERE id IN (SELECT id FROM proof_requests WHERE leased_until <= $1 ORDER BY id LIMIT $3{lock})
            RETURNING id, purpose, email_folded, attempts, created_at"
        );
        let values = [now.into(), (now + lease).into(), n.into()];
        let rows = query(&on, "lease requests", &sql, values).await?;
        rows.iter().map(request_of).collect()
    }

    async fn finish_request(&self, request: &ProofRequest) -> Result<(), StoreError> {
        const FINISH: &str = "DELETE FROM proof_requests WHERE id = $1 AND attempts = $2";
        let values = [request.id.uuid().into(), i64::from(request.attempts).into()];
        execute(
            &self.writes(Reach::Installation),
            "finish a request",
            FINISH,
            values,
        )
        .await?;
        Ok(())
    }

    async fn retry_request(&self, request: &ProofRequest) -> Result<(), StoreError> {
        const RETRY: &str =
            "UPDATE proof_requests SET leased_until = $3 WHERE id = $1 AND attempts = $2";
        let at = self.0.env.lease_now() + backoff(request.attempts);
        let values = [
            request.id.uuid().into(),
            i64::from(request.attempts).into(),
            at.into(),
        ];
        execute(
            &self.writes(Reach::Installation),
            "retry a request",
            RETRY,
            values,
        )
        .await?;
        Ok(())
    }
}

fn proof_of(id: ProofId, row: &QueryResult) -> Result<ProofRow, StoreError> {
    let purpose: String = column(row, "purpose")?;
    Ok(ProofRow {
        id,
        purpose: purpose
            .parse()
            .map_err(|e| corrupt("proofs", "purpose", id, e))?,
        user: UserId::from_uuid(column(row, "user_id")?),
        secret_hash: column(row, "secret_hash")?,
        created_at: column(row, "created_at")?,
        expires_at: column(row, "expires_at")?,
    })
}

/// Spends one proof. 1, unless somebody was faster.
const SPEND: &str = "DELETE FROM proofs WHERE id = $1";

impl Proofs for Store {
    async fn insert_proof(&self, proof: &ProofRow, pace: ProofPace) -> Result<bool, StoreError> {
        // The user's row is there to be locked: of two that are made at once the second counts the first.
        const LOCK: &str = "UPDATE users SET email_folded = email_folded WHERE id = $1";
        const INSERT: &str = "INSERT INTO proofs
                (id, purpose, user_id, secret_hash, created_at, expires_at)
            SELECT $1, $2, $3, $4, $5, $6
            WHERE (SELECT count(*) FROM proofs WHERE user_id = $3 AND purpose = $2 AND created_at > $7) < $9
                OR NOT EXISTS (SELECT 1 FROM proofs WHERE user_id = $3 AND purpose = $2 AND created_at > $8)";
        let operation = "insert a proof";
        let values = [
            proof.id.uuid().into(),
            proof.purpose.as_str().into(),
            proof.user.uuid().into(),
            proof.secret_hash.as_str().into(),
            proof.created_at.into(),
            proof.expires_at.into(),
            pace.since.into(),
            pace.newest_since.into(),
            i64::from(pace.at_most).into(),
        ];
        let tx = self.begin_in(Reach::Installation, operation).await?;
        execute(&tx, operation, LOCK, [proof.user.uuid().into()]).await?;
        let inserted = execute(&tx, operation, INSERT, values).await?;
        tx.commit().await.map_err(failed(operation))?;
        Ok(inserted == 1)
    }

    async fn proof(&self, id: ProofId) -> Result<Option<ProofRow>, StoreError> {
        const PROOF: &str = "SELECT purpose, user_id, secret_hash, created_at, expires_at
            FROM proofs WHERE id = $1";
        let rows = query(
            &self.reads(Reach::Installation),
            "read a proof",
            PROOF,
            [id.uuid().into()],
        )
        .await?;
        rows.first().map(|row| proof_of(id, row)).transpose()
    }

    async fn spend_on_password(
        &self,
        proof: &ProofRow,
        password_hash: &PasswordHash,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        const OTHERS: &str = "DELETE FROM proofs WHERE user_id = $1";
        const RESET: &str =
            "UPDATE users SET password_hash = $2, session_epoch = session_epoch + 1,
                email_verified_at = coalesce(email_verified_at, $3)
            WHERE id = $1";
        let operation = "reset a password";
        let user = proof.user.uuid();
        let tx = self.begin_in(Reach::Installation, operation).await?;
        if execute(&tx, operation, SPEND, [proof.id.uuid().into()]).await? == 0 {
            return Ok(false);
        }
        execute(&tx, operation, OTHERS, [user.into()]).await?;
        let values = [user.into(), password_hash.expose().into(), at.into()];
        execute(&tx, operation, RESET, values).await?;
        tx.commit().await.map_err(failed(operation))?;
        Ok(true)
    }

    async fn spend_on_verification(
        &self,
        proof: &ProofRow,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        const OTHERS: &str = "DELETE FROM proofs WHERE user_id = $1 AND purpose = $2";
        const VERIFY: &str = "UPDATE users SET email_verified_at = $2
            WHERE id = $1 AND email_verified_at IS NULL";
        let operation = "verify an address";
        let user = proof.user.uuid();
        let tx = self.begin_in(Reach::Installation, operation).await?;
        if execute(&tx, operation, SPEND, [proof.id.uuid().into()]).await? == 0 {
            return Ok(false);
        }
        let values = [user.into(), proof.purpose.as_str().into()];
        execute(&tx, operation, OTHERS, values).await?;
        execute(&tx, operation, VERIFY, [user.into(), at.into()]).await?;
        tx.commit().await.map_err(failed(operation))?;
        Ok(true)
    }
}
