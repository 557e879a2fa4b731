//! What `doctor` compares with the blob store, in one state of the database.

use std::collections::{HashMap, HashSet};

use rawdrive_store::Snapshot;
use rawdrive_store::extension::{Row, column, corrupt};
use rawdrive_tenancy_core::id::TypedId as _;
use rawdrive_tenancy_core::job::Job;
use rawdrive_tenancy_core::{StoreError, WorkspaceScope};

use crate::id::PhotoId;
use crate::{DeleteBlob, DeleteBlobs, UPLOAD, UploadEnded};

fn id_of(row: &Row) -> Result<PhotoId, StoreError> {
    Ok(PhotoId::from_uuid(column(row, "id")?))
}

fn size_of(row: &Row) -> Result<u64, StoreError> {
    super::count("photos", "size_bytes", column(row, "size_bytes")?)
}

/// The size in bytes of every photo of the scope's workspace.
///
/// # Errors
/// The database does not answer.
pub async fn photos(
    on: &Snapshot,
    scope: &WorkspaceScope,
) -> Result<HashMap<PhotoId, u64>, StoreError> {
    const PHOTOS: &str = "SELECT id, size_bytes FROM photos WHERE workspace_id = $1";
    let rows = on.rows(scope, "list photos", PHOTOS, []).await?;
    rows.iter()
        .map(|row| Ok((id_of(row)?, size_of(row)?)))
        .collect()
}

/// Some photos of the scope's workspace, chosen at random.
///
/// # Errors
/// The database does not answer.
pub async fn some_photos(
    on: &Snapshot,
    scope: &WorkspaceScope,
    at_most: u32,
) -> Result<Vec<PhotoId>, StoreError> {
    const SOME: &str = "SELECT id FROM photos WHERE workspace_id = $1 ORDER BY random() LIMIT $2";
    let values = [i64::from(at_most).into()];
    let rows = on.rows(scope, "look for photos", SOME, values).await?;
    rows.iter().map(id_of).collect()
}

/// As [`photos`], of these alone.
///
/// # Errors
/// The database does not answer.
pub async fn photos_among(
    on: &Snapshot,
    scope: &WorkspaceScope,
    ids: &[PhotoId],
) -> Result<HashMap<PhotoId, u64>, StoreError> {
    const ONE: &str = "SELECT size_bytes FROM photos WHERE workspace_id = $1 AND id = $2";
    let mut found = HashMap::new();
    for id in ids {
        let values = [id.uuid().into()];
        let rows = on.rows(scope, "look for photos", ONE, values).await?;
        if let Some(row) = rows.first() {
            found.insert(*id, size_of(row)?);
        }
    }
    Ok(found)
}

/// Photos whose bytes may lie in the blob store without a row: uploads under way, and deletions that a job has still to
/// carry out.
///
/// # Errors
/// The database does not answer, or a row is corrupt.
pub async fn in_transit(
    on: &Snapshot,
    scope: &WorkspaceScope,
) -> Result<HashSet<PhotoId>, StoreError> {
    const HELD: &str =
        "SELECT id FROM holds WHERE workspace_id = $1 AND state = 'held' AND purpose = $2";
    const JOBS: &str = "SELECT work FROM jobs WHERE workspace_id = $1";
    let purpose = UPLOAD.name().into();
    let mut found = HashSet::new();
    for row in on.rows(scope, "list holds", HELD, [purpose]).await? {
        found.insert(id_of(&row)?);
    }
    for row in on.rows(scope, "list jobs", JOBS, []).await? {
        let job: Job = serde_json::from_str(&column::<String>(&row, "work")?)
            .map_err(|e| corrupt("jobs", "work", scope.workspace(), e))?;
        found.extend(job.as_kind().map(|DeleteBlob { photo }| photo));
        found.extend(job.as_kind().map(UploadEnded::photo));
        let many = job.as_kind().map(|DeleteBlobs { photos }| photos);
        found.extend(many.into_iter().flatten());
    }
    Ok(found)
}
