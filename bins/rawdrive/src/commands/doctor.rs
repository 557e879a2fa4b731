//! `rawdrive doctor`: the invariants over the data.

use std::collections::HashMap;
use std::io::{self, Write};

use rawdrive_gallery::{BlobError, Blobs};
use rawdrive_identity::ports::SigningKeys as _;
use rawdrive_identity::{Keyring, MasterKey};
use rawdrive_store::{Finding, Severity, Store};
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::{StoreError, SystemReason, WorkspaceScope};
use rawdrive_usage::{UsageMirror, mirror_notes};
use serde_json::json;

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
}

/// Checks every workspace in one snapshot of the database, then its bytes. Of the mirror there are notes alone:
/// nothing that it holds or lacks is a record.
///
/// # Errors
/// The database or the photos' store does not answer.
pub(crate) async fn examine(
    store: &Store,
    master: &MasterKey,
    blobs: &Blobs,
    mirror: Option<&impl UsageMirror>,
) -> Result<Report, DoctorError> {
    let mut report = Report::default();
    for remark in store.remarks().await? {
        match remark.severity() {
            Severity::Note => report.notes.push(remark.to_string()),
            Severity::Finding => report.findings.push(Finding {
                invariant: "the_database_keeps_its_walls",
                detail: remark.to_string(),
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
    if let Some(mirror) = mirror {
        report.notes.extend(mirror_notes(mirror, store).await?);
    }
    let snapshot = store.snapshot().await?;
    report.findings.extend(snapshot.integrity().await?);
    report.notes.extend(snapshot.inbox_notes().await?);
    report.unprojected = snapshot.unprojected().await?;
    for workspace in snapshot.workspaces().await? {
        let scope = doctor_scope(workspace);
        report.workspaces += 1;
        report.findings.extend(snapshot.check(&scope).await?);
        let billing = snapshot.billing_notes(&scope, store.ambient()).await?;
        report.notes.extend(billing);
        report.live_operations += snapshot.live_operations(&scope).await?;
        let (before, leaving) = (
            snapshot.photos(&scope).await?,
            snapshot.in_transit(&scope).await?,
        );
        let stored = blobs.list(&scope).await?;
        // A server may be at work: only what was wrong before and after the listing is wrong.
        let later = store.snapshot().await?;
        let (after, arriving) = (later.photos(&scope).await?, later.in_transit(&scope).await?);
        report.photos += before.len();
        let mut sizes = HashMap::new();
        for blob in &stored {
            match blob.photo {
                Some(photo) if !blob.partial => drop(sizes.insert(photo, blob.size_bytes)),
                _ => {}
            }
            let known = blob.photo.is_some_and(|p| {
                (!blob.partial && (before.contains_key(&p) || after.contains_key(&p)))
                    || leaving.contains(&p)
                    || arriving.contains(&p)
            });
            let name = blob
                .photo
                .map_or_else(|| "a file of another name".to_owned(), |p| p.to_string());
            if !known {
                let detail = format!(
                    "{workspace}: {name}, {} bytes, has no photo, no hold and no job",
                    blob.size_bytes
                );
                report.findings.push(Finding {
                    invariant: "bytes_have_a_photo",
                    detail,
                });
            } else if blob.photo.is_some_and(|p| arriving.contains(&p)) {
                report.notes.push(format!("{workspace}: {name} is under way: an upload, or a deletion that a job carries out"));
            }
        }
        for (photo, size) in before
            .iter()
            .filter(|(photo, _)| after.contains_key(*photo))
        {
            let problem = match sizes.get(photo) {
                Some(found) if found == size => continue,
                Some(found) => format!("{workspace}: {photo} has {found} bytes instead of {size}"),
                None => format!("{workspace}: {photo} has no bytes"),
            };
            report.findings.push(Finding {
                invariant: "photos_have_bytes",
                detail: problem,
            });
        }
    }
    Ok(report)
}

#[expect(
    clippy::disallowed_methods,
    reason = "doctor reads every workspace, one scope after the other"
)]
pub(super) fn doctor_scope(workspace: WorkspaceId) -> WorkspaceScope {
    WorkspaceScope::for_system(workspace, SystemReason::Doctor)
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
