//! `rawdrive doctor`: the invariants over the data.

mod bytes;

use std::io::{self, Write};

use rawdrive_gallery::{BlobError, Blobs, Layout};
use rawdrive_identity::ports::SigningKeys as _;
use rawdrive_identity::{Keyring, MasterKey};
use rawdrive_store::{Finding, Severity, Store};
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::{StoreError, SystemReason, WorkspaceScope};
use rawdrive_usage::{UsageCache, cache_notes};
use serde_json::json;

use super::blobs::{Belonging, BlobsError, belonging};
use bytes::Comparison;

/// What was looked at, and what does not hold.
#[derive(Debug, Default)]
pub(crate) struct Report {
    workspaces: usize,
    photos: usize,
    /// Objects of the payment provider that are still to be projected.
    unprojected: u64,
    /// Calls of the payment provider that have not come to their end.
    live_operations: u64,
    findings: Vec<Finding>,
    notes: Vec<String>,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DoctorError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Belonging(#[from] BlobsError),
}

/// Checks every workspace in one snapshot of the database, then its bytes beside it. What compares two stores is looked
/// at again before it is told. Of the cache there are notes alone: nothing that it holds or lacks is a record.
///
/// # Errors
/// The database or the photos' store does not answer.
pub(crate) async fn examine(
    store: &Store,
    master: &MasterKey,
    blobs: &Blobs,
    cache: Option<&impl UsageCache>,
) -> Result<Report, DoctorError> {
    let mut report = Report::default();
    for issue in store.schema_issues().await? {
        match issue.severity() {
            Severity::Note => report.notes.push(issue.to_string()),
            Severity::Finding => report.findings.push(Finding {
                invariant: "the_database_keeps_its_walls",
                detail: issue.to_string(),
            }),
        }
    }
    let keys = store.signing_keys().await?;
    if let Err(error) = Keyring::open(&keys, master)
        && !keys.is_empty()
    {
        report.findings.push(Finding {
            invariant: "the_secret_key_opens_the_signing_keys",
            detail: error.to_string(),
        });
    }
    if let Some(cache) = cache {
        report.notes.extend(cache_notes(cache, store).await?);
    }
    let snapshot = store.snapshot().await?;
    report.findings.extend(snapshot.integrity().await?);
    report.notes.extend(snapshot.inbox_notes().await?);
    report.notes.extend(snapshot.address_notes().await?);
    report.unprojected = snapshot.unprojected().await?;
    let workspaces = snapshot.workspaces().await?;
    report.workspaces = workspaces.len();
    // The bytes of another database say nothing of this one's photos.
    let comparable = match belonging(store, blobs).await? {
        Belonging::Known | Belonging::Unmarked => true,
        Belonging::Foreign(error) => {
            report.findings.push(Finding {
                invariant: "the_blobs_are_the_databases",
                detail: error.to_string(),
            });
            false
        }
    };
    let mut bytes = Comparison::default();
    for workspace in &workspaces {
        let scope = doctor_scope(*workspace);
        report.findings.extend(snapshot.check(&scope).await?);
        let billing = snapshot.billing_notes(&scope, store.env()).await?;
        report.notes.extend(billing);
        report.live_operations += snapshot.live_operations(&scope).await?;
        if comparable {
            bytes.look(store, blobs, &snapshot, &scope).await?;
        }
    }
    let layout = if comparable {
        blobs.layout().await?
    } else {
        Layout::default()
    };
    for scope in bytes::unknown_workspaces(&layout, &workspaces) {
        bytes.look(store, blobs, &snapshot, &scope).await?;
    }
    drop(snapshot);
    report.photos = bytes.photos;
    report.notes.append(&mut bytes.notes);
    report.findings.extend(bytes.confirm(store, blobs).await?);
    report.findings.extend(bytes::strays(blobs, layout).await?);
    Ok(report)
}

#[expect(
    clippy::disallowed_methods,
    reason = "doctor reads every workspace, one scope after the other"
)]
pub(crate) fn doctor_scope(workspace: WorkspaceId) -> WorkspaceScope {
    WorkspaceScope::for_system(workspace, SystemReason::DOCTOR)
}

impl Report {
    /// Whether every invariant holds.
    pub(crate) fn is_healthy(&self) -> bool {
        self.findings.is_empty()
    }

    /// Writes it as text or as one JSON object.
    ///
    /// # Errors
    /// Nobody listens any more.
    pub(crate) fn write(&self, out: &mut dyn Write, as_json: bool) -> io::Result<()> {
        if as_json {
            let findings: Vec<_> = self
                .findings
                .iter()
                .map(|f| json!({ "invariant": f.invariant, "detail": f.detail }))
                .collect();
            let report = json!({
                "healthy": self.is_healthy(), "workspaces": self.workspaces, "photos": self.photos,
                "billing": { "unprojected": self.unprojected, "live_operations": self.live_operations },
                "findings": findings, "notes": self.notes,
            });
            return writeln!(out, "{report}");
        }
        for note in &self.notes {
            writeln!(out, "note: {note}")?;
        }
        if self.unprojected + self.live_operations > 0 {
            writeln!(
                out,
                "note: under way with the payment provider: {} objects to fetch, {} operations",
                self.unprojected, self.live_operations
            )?;
        }
        for finding in &self.findings {
            writeln!(out, "FAILED {}: {}", finding.invariant, finding.detail)?;
        }
        let verdict = if self.is_healthy() {
            "every invariant holds"
        } else {
            "not healthy"
        };
        writeln!(
            out,
            "{} workspaces, {} photos: {verdict}",
            self.workspaces, self.photos
        )
    }
}
