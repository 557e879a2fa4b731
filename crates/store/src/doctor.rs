//! The invariants over the data, read in one snapshot.

use std::collections::BTreeMap;

use rawdrive_identity::EmailAddress;
use rawdrive_tenancy_core::audit::{ChainBreak, Entry, GENESIS, Hash, Payload, verify};
use rawdrive_tenancy_core::id::{TypedId, UserId, WorkspaceId};
use rawdrive_tenancy_core::{StoreError, WorkspaceScope};
use sea_orm::QueryResult;

use crate::connection::Tx;
use crate::reach::Reach;
use crate::scope::{column, corrupt, locks_rows, query};
use crate::store::Store;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The invariant's stable name.
    pub invariant: &'static str,
    /// Where, and by how much.
    pub detail: String,
}

/// A workspace's audit chain.
#[derive(Debug, PartialEq)]
pub struct AuditChain {
    /// Every entry's sequence number and hash, oldest first, as they are stored.
    pub hashes: Vec<(u64, Hash)>,
    /// Where it does not hold, if it does not.
    pub broken: Option<ChainBreak>,
}

/// One consistent state of the database.
pub struct Snapshot {
    tx: Tx,
    pub(crate) store: Store,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

impl Store {
    /// Opens a snapshot; writers go on meanwhile and are not seen.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let tx = self.begin_snapshot("open a snapshot").await?;
        // The snapshot is taken at the first read.
        query(
            &tx,
            "open a snapshot",
            "SELECT count(*) AS n FROM workspaces",
            [],
        )
        .await?;
        Ok(Snapshot {
            tx,
            store: self.clone(),
        })
    }
}

/// Statements that return a row for each violation, `$1` being the workspace.
const CHECKS: &[(&str, &str)] = &[
    (
        "used_equals_ledger",
        "SELECT q.metric || ' ' || q.subject || ': used ' || q.used || ', ledger ' || q.total AS detail FROM (
            SELECT k.metric, k.subject, k.period_start,
                coalesce((SELECT used FROM quotas WHERE workspace_id = $1 AND metric = k.metric AND subject = k.subject
                    AND period_start = k.period_start), 0) AS used,
                coalesce((SELECT sum(quantity) FROM ledger WHERE workspace_id = $1 AND metric = k.metric
                    AND key_subject = k.subject AND period_start = k.period_start), 0) AS total
            FROM (SELECT metric, subject, period_start FROM quotas WHERE workspace_id = $1
                UNION SELECT metric, key_subject, period_start FROM ledger WHERE workspace_id = $1) k) q
         WHERE q.used <> q.total",
    ),
    (
        "reserved_equals_holds",
        "SELECT q.metric || ' ' || q.subject || ': reserved ' || q.reserved || ', held ' || q.held AS detail FROM (
            SELECT metric, subject, reserved, coalesce((SELECT sum(c.amount) FROM hold_charges c
                JOIN holds h ON h.workspace_id = c.workspace_id AND h.id = c.hold_id
                WHERE h.workspace_id = $1 AND h.state = 'held' AND c.metric = quotas.metric
                  AND c.subject = quotas.subject AND c.period_start = quotas.period_start), 0)
              + CASE WHEN metric = 'team_members'
                THEN (SELECT count(*) FROM invitations WHERE workspace_id = $1) ELSE 0 END AS held
            FROM quotas WHERE workspace_id = $1) q
         WHERE q.reserved <> q.held",
    ),
    (
        "seats_equal_members",
        "SELECT 'used ' || q.used || ', members ' || q.members AS detail FROM (SELECT
            coalesce((SELECT used FROM quotas WHERE workspace_id = $1 AND metric = 'team_members'), 0) AS used,
            (SELECT count(*) FROM memberships WHERE workspace_id = $1) AS members) q
         WHERE q.used <> q.members",
    ),
    (
        "ledger_without_gaps",
        "SELECT q.n || ' lines, head ' || q.head AS detail FROM (SELECT
            (SELECT count(*) FROM ledger WHERE workspace_id = $1) AS n,
            coalesce((SELECT max(seq) FROM ledger WHERE workspace_id = $1), 0) AS last,
            coalesce((SELECT seq FROM ledger_heads WHERE workspace_id = $1), 0) AS head) q
         WHERE q.n <> q.head OR q.last <> q.head",
    ),
    (
        "one_owner_at_least",
        "SELECT 'no owner' AS detail WHERE NOT EXISTS
            (SELECT 1 FROM memberships WHERE workspace_id = $1 AND role = 'owner')",
    ),
    (
        "a_standing_for_each_workspace",
        "SELECT 'no standing' AS detail WHERE NOT EXISTS (SELECT 1 FROM standings WHERE workspace_id = $1)",
    ),
];

impl Snapshot {
    /// Reads in the workspace of a scope.
    async fn query(
        &self,
        scope: &WorkspaceScope,
        operation: &'static str,
        sql: &str,
    ) -> Result<Vec<QueryResult>, StoreError> {
        self.tx.enter(Reach::of(scope), operation).await?;
        query(&self.tx, operation, sql, [scope.workspace().uuid().into()]).await
    }

    /// Where this state is read.
    pub(crate) const fn on(&self) -> &Tx {
        &self.tx
    }

    /// Whether SQLite itself finds its file whole, and every row that is pointed at is there. PostgreSQL is asked
    /// for indexes and constraints that it does not vouch for.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn integrity(&self) -> Result<Vec<Finding>, StoreError> {
        if locks_rows(&self.tx) {
            return self.postgres_integrity().await;
        }
        let mut findings = Vec::new();
        for row in query(&self.tx, "check integrity", "PRAGMA integrity_check", []).await? {
            let detail: String = column(&row, "integrity_check")?;
            if detail != "ok" {
                findings.push(Finding {
                    invariant: "database_integrity",
                    detail,
                });
            }
        }
        for row in query(
            &self.tx,
            "check foreign keys",
            "PRAGMA foreign_key_check",
            [],
        )
        .await?
        {
            findings.push(Finding {
                invariant: "foreign_keys",
                detail: format!("a row of {}", column::<String>(&row, "table")?),
            });
        }
        Ok(findings)
    }

    async fn postgres_integrity(&self) -> Result<Vec<Finding>, StoreError> {
        const UNSURE: &str = "SELECT 'index ' || indexrelid::regclass::text AS detail FROM pg_index
                WHERE NOT indisvalid AND indrelid::regclass::text NOT LIKE 'pg_%'
            UNION ALL SELECT 'constraint ' || conname || ' of ' || conrelid::regclass::text
                FROM pg_constraint WHERE NOT convalidated";
        let rows = query(&self.tx, "check integrity", UNSURE, []).await?;
        rows.iter()
            .map(|row| {
                Ok(Finding {
                    invariant: "database_integrity",
                    detail: format!("{} is not valid", column::<String>(row, "detail")?),
                })
            })
            .collect()
    }

    /// Every workspace of this state: one that signs up meanwhile is not in it.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn workspaces(&self) -> Result<Vec<WorkspaceId>, StoreError> {
        const ALL: &str = "SELECT workspace_id FROM workspaces ORDER BY workspace_id";
        self.tx.enter(Reach::Worker, "list workspaces").await?;
        let rows = query(&self.tx, "list workspaces", ALL, []).await?;
        rows.iter()
            .map(|row| Ok(WorkspaceId::from_uuid(column(row, "workspace_id")?)))
            .collect()
    }

    /// The invariants of one workspace: counters, ledger, rows, audit chain.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn check(&self, scope: &WorkspaceScope) -> Result<Vec<Finding>, StoreError> {
        let workspace = scope.workspace();
        let mut findings = Vec::new();
        let extensions = self.store.0.extensions.iter();
        let own = extensions.flat_map(|extension| extension.checks);
        for (invariant, sql) in CHECKS.iter().chain(own) {
            for row in self.query(scope, "check an invariant", sql).await? {
                findings.push(Finding {
                    invariant,
                    detail: format!("{workspace}: {}", column::<String>(&row, "detail")?),
                });
            }
        }
        findings.extend(self.ledger(scope).await?);
        if let Some(broken) = self.audit_chain(scope).await?.broken {
            findings.push(Finding {
                invariant: "audit_chain",
                detail: format!("{workspace}: {broken}"),
            });
        }
        Ok(findings)
    }

    /// Accounts that have one address, and are told apart by how it was typed. There are none since addresses are
    /// compared as they are; those of before are here.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn address_notes(&self) -> Result<Vec<String>, StoreError> {
        const USERS: &str = "SELECT id, email, email_folded FROM users ORDER BY id";
        self.tx.enter(Reach::Installation, "list addresses").await?;
        let rows = query(&self.tx, "list addresses", USERS, []).await?;
        let mut known = BTreeMap::new();
        let mut others = Vec::new();
        for row in &rows {
            let user = UserId::from_uuid(column(row, "id")?);
            let folded = EmailAddress::from_stored(column(row, "email")?).folded();
            if folded == column::<String>(row, "email_folded")? {
                known.insert(folded, user);
            } else {
                others.push((folded, user));
            }
        }
        let named = others.iter().map(|(folded, user)| match known.get(folded) {
            Some(first) => format!("{first} and {user} have one e-mail address"),
            None => format!("{user} is known by another text than its e-mail address is today"),
        });
        Ok(named.collect())
    }

    pub(crate) fn connection(&self) -> &Tx {
        &self.tx
    }

    /// The audit chain of the scope's workspace, every entry of it hashed again.
    ///
    /// # Errors
    /// The database does not answer, or a row is corrupt.
    pub async fn audit_chain(&self, scope: &WorkspaceScope) -> Result<AuditChain, StoreError> {
        const CHAIN: &str = "SELECT e.seq, e.at, e.actor, e.action, e.subject, e.payload_hash, e.hash, p.salt, p.payload
            FROM audit_entries e LEFT JOIN audit_payloads p ON p.workspace_id = e.workspace_id AND p.seq = e.seq
            WHERE e.workspace_id = $1 ORDER BY e.seq";
        const HEAD: &str = "SELECT seq, hash FROM audit_heads WHERE workspace_id = $1";
        let workspace = scope.workspace();
        let fixed = |bytes: Vec<u8>| {
            bytes
                .try_into()
                .map_err(|_| corrupt("audit_entries", "hash", workspace, "is not 32 bytes"))
        };
        let mut entries = Vec::new();
        for row in self.query(scope, "read the audit chain", CHAIN).await? {
            let payload = match (
                column::<Option<Vec<u8>>>(&row, "salt")?,
                column(&row, "payload")?,
            ) {
                (Some(salt), Some(text)) => Some(Payload {
                    salt: salt.try_into().map_err(|_| {
                        corrupt("audit_payloads", "salt", workspace, "is not 16 bytes")
                    })?,
                    text,
                }),
                _ => None,
            };
            entries.push(Entry {
                seq: column::<i64>(&row, "seq")?.cast_unsigned(),
                at: column(&row, "at")?,
                actor: column(&row, "actor")?,
                action: column(&row, "action")?,
                subject: column(&row, "subject")?,
                payload_hash: fixed(column(&row, "payload_hash")?)?,
                hash: fixed(column(&row, "hash")?)?,
                payload,
            });
        }
        let head = match self
            .query(scope, "read the audit head", HEAD)
            .await?
            .first()
        {
            Some(row) => (
                column::<i64>(row, "seq")?.cast_unsigned(),
                fixed(column(row, "hash")?)?,
            ),
            None => (0, GENESIS),
        };
        Ok(AuditChain {
            broken: verify(&entries, head).err(),
            hashes: entries
                .iter()
                .map(|entry| (entry.seq, entry.hash))
                .collect(),
        })
    }
}
