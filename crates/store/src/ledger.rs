//! The audit chain.

use chrono::{DateTime, Utc};
use rawdrive_tenancy_core::StoreError;
use rawdrive_tenancy_core::audit::{Entry, GENESIS, Hash, Payload};
use rawdrive_tenancy_core::id::TypedId;
use rawdrive_tenancy_core::page::{Page, PageRequest, Position};
use sea_orm::{ColumnTrait, Condition, QueryFilter, QueryOrder, QuerySelect};

use crate::entity::{audit_entries, audit_heads, audit_payloads};
use crate::scope::{Tenant, column, corrupt, count, failed, query};
use crate::store::{Reader, WriteTx};

fn hash_of(column: &'static str, seq: i64, bytes: &[u8]) -> Result<Hash, StoreError> {
    bytes
        .try_into()
        .map_err(|_| corrupt("audit_entries", column, seq, "is not 32 bytes"))
}

impl WriteTx {
    /// The head of the audit chain, its row locked until the transaction ends; made where there is none, so that
    /// the first entry has something to lock too.
    pub(crate) async fn lock_audit_head(&mut self) -> Result<(u64, Hash), StoreError> {
        const LOCK: &str = "INSERT INTO audit_heads (workspace_id, seq, hash) VALUES ($1, 0, $2)
            ON CONFLICT (workspace_id) DO UPDATE SET seq = audit_heads.seq RETURNING seq, hash";
        let values = [
            self.scope.workspace().uuid().into(),
            GENESIS.to_vec().into(),
        ];
        let rows = query(&self.tx, "lock the audit head", LOCK, values).await?;
        let row = rows.first().ok_or(StoreError::Dangling {
            operation: "lock the audit head",
        })?;
        let seq = column(row, "seq")?;
        let hash: Vec<u8> = column(row, "hash")?;
        Ok((
            count("audit_heads", "seq", seq)?,
            hash_of("hash", seq, &hash)?,
        ))
    }
}

fn entry_of(
    row: audit_entries::Model,
    payload: Option<audit_payloads::Model>,
) -> Result<Entry, StoreError> {
    let payload = payload
        .map(|p| {
            let salt = p
                .salt
                .as_slice()
                .try_into()
                .map_err(|_| corrupt("audit_payloads", "salt", p.seq, "is not 16 bytes"))?;
            Ok::<_, StoreError>(Payload {
                salt,
                text: p.payload,
            })
        })
        .transpose()?;
    Ok(Entry {
        seq: count("audit_entries", "seq", row.seq)?,
        at: row.at,
        payload_hash: hash_of("payload_hash", row.seq, &row.payload_hash)?,
        hash: hash_of("hash", row.seq, &row.hash)?,
        actor: row.actor,
        action: row.action,
        subject: row.subject,
        payload,
    })
}

fn before(page: PageRequest) -> i64 {
    match page.after {
        Some(Position::Seq(seq)) => i64::try_from(seq).unwrap_or(i64::MAX),
        _ => i64::MAX,
    }
}

/// Which audit entries are asked for: those that every member here names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// What was done, such as `api_key.created`.
    pub action: Option<String>,
    /// Who did it, as entries name them.
    pub actor: Option<String>,
    /// From then on.
    pub from: Option<DateTime<Utc>>,
    /// Before then.
    pub to: Option<DateTime<Utc>>,
}

impl AuditFilter {
    fn condition(&self) -> Condition {
        use audit_entries::Column;
        Condition::all()
            .add_option(self.action.as_ref().map(|action| Column::Action.eq(action)))
            .add_option(self.actor.as_ref().map(|actor| Column::Actor.eq(actor)))
            .add_option(self.from.map(|from| Column::At.gte(from)))
            .add_option(self.to.map(|to| Column::At.lt(to)))
    }
}

impl Reader {
    /// Those audit entries that pass the filter, newest first.
    ///
    /// # Errors
    /// The database does not answer, or a row is corrupt.
    pub async fn audit(
        &self,
        page: PageRequest,
        filter: &AuditFilter,
    ) -> Result<Page<Entry>, StoreError> {
        let rows = audit_entries::Entity::scoped(&self.scope)
            .filter(audit_entries::Column::Seq.lt(before(page)))
            .filter(filter.condition())
            .order_by_desc(audit_entries::Column::Seq)
            .limit(u64::from(page.limit) + 1)
            .all(self.db())
            .await
            .map_err(failed("read the audit chain"))?;
        let seqs = rows.iter().map(|row| row.seq);
        let payloads = audit_payloads::Entity::scoped(&self.scope)
            .filter(audit_payloads::Column::Seq.is_in(seqs))
            .all(self.db())
            .await
            .map_err(failed("read the audit chain"))?;
        let mut payloads: std::collections::HashMap<_, _> =
            payloads.into_iter().map(|p| (p.seq, p)).collect();
        let entries = rows.into_iter().map(|row| {
            let payload = payloads.remove(&row.seq);
            entry_of(row, payload)
        });
        Ok(Page::cut(
            entries.collect::<Result<_, _>>()?,
            page.limit,
            |e| Position::Seq(e.seq),
        ))
    }

    /// The chain's head, to keep elsewhere.
    ///
    /// # Errors
    /// The database does not answer, or the row is corrupt.
    pub async fn audit_head(&self) -> Result<(u64, Hash), StoreError> {
        let head = audit_heads::Entity::scoped(&self.scope)
            .one(self.db())
            .await
            .map_err(failed("read the audit head"))?;
        match head {
            Some(head) => Ok((
                count("audit_heads", "seq", head.seq)?,
                hash_of("hash", head.seq, &head.hash)?,
            )),
            None => Ok((0, GENESIS)),
        }
    }
}
