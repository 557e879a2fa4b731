//! What `doctor` compares with the blob store, in one state of the database.

use std::collections::{HashMap, HashSet};

use rawdrive_store::Snapshot;
use rawdrive_store::extension::{Row, column, corrupt};
use rawdrive_tenancy_core::id::TypedId as _;
use rawdrive_tenancy_core::job::Job;
use rawdrive_tenancy_core::{StoreError, WorkspaceScope};

use super::renditions::renditions_of;
use crate::id::PhotoId;
use crate::renditions::model::{MakeRenditions, RenditionName};
use crate::{DeleteBlob, DeleteBlobs, Piece, UPLOAD, UploadEnded};

fn id_of(row: &Row) -> Result<PhotoId, StoreError> {
    Ok(PhotoId::from_uuid(column(row, "id")?))
}

/// A photo's original and its renditions, each with its size in bytes.
fn pieces_of(row: &Row) -> Result<Vec<(Piece, u64)>, StoreError> {
    let photo = id_of(row)?;
    let size = super::count("photos", "size_bytes", column(row, "size_bytes")?)?;
    let text: Option<String> = column(row, "renditions")?;
    let content_type: String = column(row, "content_type")?;
    let renditions = renditions_of(photo, &content_type, text.as_deref())?;
    let made = RenditionName::ALL.into_iter().filter_map(|name| {
        let rendition = Some(name);
        let piece = Piece { photo, rendition };
        renditions.get(name).map(|made| (piece, made.size_bytes))
    });
    Ok([(Piece::original(photo), size)]
        .into_iter()
        .chain(made)
        .collect())
}

/// Everything of the photos of the scope's workspace that has bytes, by its size.
///
/// # Errors
/// The database does not answer, or a row is corrupt.
pub async fn pieces(
    on: &Snapshot,
    scope: &WorkspaceScope,
) -> Result<HashMap<Piece, u64>, StoreError> {
    const PHOTOS: &str =
        "SELECT id, size_bytes, content_type, renditions FROM photos WHERE workspace_id = $1";
    let mut found = HashMap::new();
    for row in on.rows(scope, "list photos", PHOTOS, []).await? {
        found.extend(pieces_of(&row)?);
    }
    Ok(found)
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

/// As [`pieces`], of these photos alone.
///
/// # Errors
/// As [`pieces`].
pub async fn pieces_among(
    on: &Snapshot,
    scope: &WorkspaceScope,
    ids: &[PhotoId],
) -> Result<HashMap<Piece, u64>, StoreError> {
    const ONE: &str = "SELECT id, size_bytes, content_type, renditions FROM photos
        WHERE workspace_id = $1 AND id = $2";
    let mut found = HashMap::new();
    for id in ids {
        let values = [id.uuid().into()];
        for row in on.rows(scope, "look for photos", ONE, values).await? {
            found.extend(pieces_of(&row)?);
        }
    }
    Ok(found)
}

/// What may lie in the blob store without a row, or otherwise than its row says: uploads under way, and deletions and
/// renditions that a job has still to carry out.
///
/// # Errors
/// The database does not answer, or a row is corrupt.
pub async fn in_transit(
    on: &Snapshot,
    scope: &WorkspaceScope,
) -> Result<HashSet<Piece>, StoreError> {
    const HELD: &str =
        "SELECT id FROM holds WHERE workspace_id = $1 AND state = 'held' AND purpose = $2";
    const JOBS: &str = "SELECT work FROM jobs WHERE workspace_id = $1";
    let purpose = UPLOAD.name().into();
    let mut found = HashSet::new();
    for row in on.rows(scope, "list holds", HELD, [purpose]).await? {
        found.insert(Piece::original(id_of(&row)?));
    }
    let renditions = |photo| {
        RenditionName::ALL.map(|name| {
            let rendition = Some(name);
            Piece { photo, rendition }
        })
    };
    for row in on.rows(scope, "list jobs", JOBS, []).await? {
        let job: Job = serde_json::from_str(&column::<String>(&row, "work")?)
            .map_err(|e| corrupt("jobs", "work", scope.workspace(), e))?;
        let deleted = job.as_kind().map(|DeleteBlob { photo }| vec![photo]);
        let ended = job.as_kind().map(|job: UploadEnded| vec![job.photo()]);
        let many = job.as_kind().map(|DeleteBlobs { photos }| photos);
        for photo in [deleted, ended, many].into_iter().flatten().flatten() {
            found.insert(Piece::original(photo));
            found.extend(renditions(photo));
        }
        if let Some(MakeRenditions { photo }) = job.as_kind() {
            found.extend(renditions(photo));
        }
    }
    Ok(found)
}
