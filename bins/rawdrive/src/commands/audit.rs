//! `rawdrive audit verify`: every workspace's chain of changes hashed again, and held against heads that were kept
//! elsewhere.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rawdrive_store::Store;
use rawdrive_tenancy_core::StoreError;
use rawdrive_usage::hex;
use serde_json::{Value, json};

use super::doctor::doctor_scope;

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditError {
    /// The database.
    #[error("failed to read the audit log")]
    Store(#[from] StoreError),
    /// The anchors' file cannot be read.
    #[error("failed to read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The anchors' file holds something else.
    #[error(
        "failed to read anchors from {}: expected {{\"seq\": …, \"hash\": \"…\"}}, as the API gives them, one or several",
        path.display()
    )]
    NoAnchor {
        /// The file.
        path: PathBuf,
    },
    /// Nobody listens any more.
    #[error("failed to write the answer")]
    Output(#[from] io::Error),
}

/// A head that was kept: the sequence number of an entry, and its hash in hex. A hash is of one entry of one
/// workspace, so that it need not say which.
type Anchor = (u64, String);

/// Reads anchors as `GET /v1/workspace/audit/anchor` gave them, one after the other.
///
/// # Errors
/// The file cannot be read, or holds anything else; or holds none, which would prove nothing.
pub(crate) fn read_anchors(path: &Path) -> Result<Vec<Anchor>, AuditError> {
    let text = std::fs::read(path).map_err(|source| AuditError::File {
        path: path.to_owned(),
        source,
    })?;
    let anchor = |value: Result<Value, serde_json::Error>| {
        let value = value.ok()?;
        let (seq, hash) = (value.get("seq")?.as_u64()?, value.get("hash")?.as_str()?);
        Some((seq, hash.to_lowercase()))
    };
    let values = serde_json::Deserializer::from_slice(&text).into_iter();
    let anchors: Option<Vec<_>> = values.map(anchor).collect();
    anchors
        .filter(|anchors| !anchors.is_empty())
        .ok_or_else(|| AuditError::NoAnchor {
            path: path.to_owned(),
        })
}

/// Hashes every chain again in one snapshot, and looks for the anchors: a chain whose tail was cut is whole, and lacks
/// what was its head. Whether everything holds.
///
/// # Errors
/// See [`AuditError`].
pub(crate) async fn verify(
    store: &Store,
    anchors: &[Anchor],
    out: &mut dyn Write,
    as_json: bool,
) -> Result<bool, AuditError> {
    let snapshot = store.snapshot().await?;
    let (mut entries, mut broken) = (0, Vec::new());
    let mut missing: BTreeSet<_> = anchors.iter().cloned().collect();
    let workspaces = snapshot.workspaces().await?;
    for workspace in &workspaces {
        let chain = snapshot.audit_chain(&doctor_scope(*workspace)).await?;
        entries += chain.hashes.len();
        for (seq, hash) in &chain.hashes {
            missing.remove(&(*seq, hex(hash)));
        }
        if let Some(at) = chain.broken {
            broken.push((*workspace, at));
        }
    }
    let holds = broken.is_empty() && missing.is_empty();
    if as_json {
        let broken: Vec<_> = broken
            .iter()
            .map(|(workspace, at)| json!({ "workspace": workspace, "detail": at.to_string() }))
            .collect();
        let missing: Vec<_> = missing
            .iter()
            .map(|(seq, hash)| json!({ "seq": seq, "hash": hash }))
            .collect();
        let said = json!({
            "holds": holds, "workspaces": workspaces.len(), "entries": entries, "anchors": anchors.len(),
            "broken": broken, "missing_anchors": missing,
        });
        writeln!(out, "{said}")?;
        return Ok(holds);
    }
    for (workspace, at) in &broken {
        writeln!(out, "BROKEN {workspace}: {at}")?;
    }
    for (seq, hash) in &missing {
        writeln!(
            out,
            "MISSING entry {seq} with the hash {hash}: no chain has it any more"
        )?;
    }
    let verdict = if holds {
        "every chain holds"
    } else {
        "changed since"
    };
    writeln!(
        out,
        "{} workspaces, {entries} entries, {} anchors: {verdict}",
        workspaces.len(),
        anchors.len()
    )?;
    Ok(holds)
}
