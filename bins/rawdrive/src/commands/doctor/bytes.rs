//! Rows against bytes: two stores that no snapshot covers together. What looks wrong is a suspect, and is told only where
//! it still looks wrong from all sides afterwards.
//!
//! Invariant: beside servers at work nothing is told that is right, and what is wrong is always told. A photo's id is
//! never used again, so that a blob which is there before and after a state of the database that knows nothing of it is
//! nobody's; and a photo that is there in two states had bytes in between, or lost them. A rendition has other bytes when
//! it was made anew, in whose time there is a job.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use rawdrive_gallery::{Blobs, Layout, Piece, StoredBlob, sql};
use rawdrive_store::{Finding, Snapshot, Store};
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::{StoreError, WorkspaceScope};

use super::{DoctorError, doctor_scope};

/// When suspects are looked at again. The last pauses are for an upload whose hold has just run out while its bytes
/// still came: it ends by itself, and takes them along.
const LOOK_AGAIN: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(500),
    Duration::from_millis(1_500),
];

/// Compares workspace by workspace, then looks at the suspects of all again.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// How many photos the first look saw.
    pub(super) photos: usize,
    /// What is under way.
    pub(super) notes: Vec<String>,
    suspects: Vec<Suspects>,
}

/// What looks wrong in one workspace.
#[derive(Debug)]
struct Suspects {
    scope: WorkspaceScope,
    /// Bytes of which the database knows nothing.
    strays: Vec<StoredBlob>,
    /// What photos' rows say has bytes, and has none or another number of them.
    hollow: HashSet<Piece>,
}

impl Suspects {
    fn is_empty(&self) -> bool {
        self.strays.is_empty() && self.hollow.is_empty()
    }
}

/// What one state of the database knows of a workspace's bytes.
struct Known {
    pieces: HashMap<Piece, u64>,
    in_transit: HashSet<Piece>,
}

impl Known {
    async fn all(on: &Snapshot, scope: &WorkspaceScope) -> Result<Self, StoreError> {
        Ok(Self {
            pieces: sql::pieces(on, scope).await?,
            in_transit: sql::in_transit(on, scope).await?,
        })
    }

    async fn among(
        on: &Snapshot,
        scope: &WorkspaceScope,
        pieces: impl IntoIterator<Item = Piece>,
    ) -> Result<Self, StoreError> {
        let photos = pieces.into_iter().map(|piece| piece.photo);
        let photos: BTreeSet<_> = photos.collect();
        let photos: Vec<_> = photos.into_iter().collect();
        Ok(Self {
            pieces: sql::pieces_among(on, scope, &photos).await?,
            in_transit: sql::in_transit(on, scope).await?,
        })
    }

    /// Whether a blob has a photo, or a hold or a job that it is for. The beginning of an upload is no photo's any more
    /// once that has a row.
    fn explains(&self, blob: &StoredBlob) -> bool {
        blob.piece.is_some_and(|piece| {
            self.in_transit.contains(&piece) || (!blob.partial && self.pieces.contains_key(&piece))
        })
    }

    /// How many bytes a piece must have; nothing where they are changing, or where there is no such piece.
    fn size_of(&self, piece: &Piece) -> Option<u64> {
        let size = self.pieces.get(piece).copied();
        size.filter(|_| piece.rendition.is_none() || !self.in_transit.contains(piece))
    }
}

impl Comparison {
    /// The first look at one workspace, from a state of the database that was taken before.
    ///
    /// # Errors
    /// The database or the photos' store does not answer.
    pub(super) async fn look(
        &mut self,
        store: &Store,
        blobs: &Blobs,
        earlier: &Snapshot,
        scope: &WorkspaceScope,
    ) -> Result<(), DoctorError> {
        let before = Known::all(earlier, scope).await?;
        let stored = blobs.list(scope).await?;
        let later = store.snapshot().await?;
        let after = Known::all(&later, scope).await?;
        let originals = before.pieces.keys().filter(|p| p.rendition.is_none());
        self.photos += originals.count();
        let mut sizes = HashMap::new();
        let mut strays = Vec::new();
        for blob in stored {
            if let (Some(piece), false) = (blob.piece, blob.partial) {
                sizes.insert(piece, blob.size_bytes);
            }
            if !before.explains(&blob) && !after.explains(&blob) {
                strays.push(blob);
            } else if let Some(piece) = blob.piece.filter(|p| after.in_transit.contains(p)) {
                self.notes.push(format!(
                    "{}: {} is under way: an upload, or a deletion or renditions that a job carries out",
                    scope.workspace(),
                    piece.name()
                ));
            }
        }
        let hollow = before.pieces.keys().copied();
        let hollow = hollow.filter(|piece| {
            let found = sizes.get(piece).copied();
            [&before, &after].into_iter().all(|known| {
                let size = known.size_of(piece);
                size.is_some() && size != found
            })
        });
        let hollow = hollow.collect();
        let suspects = Suspects {
            scope: *scope,
            strays,
            hollow,
        };
        if !suspects.is_empty() {
            self.suspects.push(suspects);
        }
        Ok(())
    }

    /// Looks at the suspects again, and at nothing else, and tells what is wrong with those that remain.
    ///
    /// # Errors
    /// The database or the photos' store does not answer.
    pub(super) async fn confirm(
        mut self,
        store: &Store,
        blobs: &Blobs,
    ) -> Result<Vec<Finding>, DoctorError> {
        let mut findings = Vec::new();
        for pause in LOOK_AGAIN {
            if self.suspects.is_empty() {
                break;
            }
            tokio::time::sleep(pause).await;
            findings.clear();
            let mut still = Vec::new();
            for mut suspects in self.suspects {
                findings.extend(look_again(store, blobs, &mut suspects).await?);
                if !suspects.is_empty() {
                    still.push(suspects);
                }
            }
            self.suspects = still;
        }
        Ok(findings)
    }
}

/// Keeps the suspects that are suspect still, and tells what is wrong with each.
async fn look_again(
    store: &Store,
    blobs: &Blobs,
    suspects: &mut Suspects,
) -> Result<Vec<Finding>, DoctorError> {
    let scope = suspects.scope;
    let workspace = scope.workspace();
    let mut sizes = HashMap::new();
    for piece in &suspects.hollow {
        let found = blobs.stored(&scope, &piece.name()).await?;
        sizes.insert(*piece, found.map(|blob| blob.size_bytes));
    }
    let mut there = Vec::new();
    for stray in &suspects.strays {
        there.extend(blobs.stored(&scope, &stray.name).await?);
    }
    let named = there.iter().filter_map(|blob| blob.piece);
    let pieces = suspects.hollow.iter().copied().chain(named);
    let known = Known::among(&store.snapshot().await?, &scope, pieces).await?;
    let mut findings = Vec::new();

    there.retain(|blob| !known.explains(blob));
    suspects.strays = Vec::new();
    for blob in there {
        // There before the state that does not know it, and after: nobody begins it anew in between.
        let Some(blob) = blobs.stored(&scope, &blob.name).await? else {
            continue;
        };
        let what = match blob.piece {
            Some(piece) if blob.partial => format!("the beginning of {}", piece.name()),
            Some(piece) => piece.name(),
            None => format!("a file of another name ({:?})", blob.name),
        };
        findings.push(Finding {
            invariant: "bytes_have_a_photo",
            detail: format!(
                "{workspace}: {what}, {} bytes, has no photo, no hold and no job",
                blob.size_bytes
            ),
        });
        suspects.strays.push(blob);
    }

    suspects.hollow.retain(|piece| {
        let Some(size) = known.size_of(piece) else {
            return false;
        };
        let found = sizes.get(piece).copied().flatten();
        let is_hollow = found != Some(size);
        if is_hollow {
            let name = piece.name();
            let detail = match found {
                Some(found) => format!("{workspace}: {name} has {found} bytes instead of {size}"),
                None => format!("{workspace}: {name} has no bytes"),
            };
            findings.push(Finding {
                invariant: "photos_have_bytes",
                detail,
            });
        }
        is_hollow
    });
    Ok(findings)
}

/// Workspaces that have bytes although they were not known when the doctor began, by a layout that was read since.
pub(super) fn unknown_workspaces(
    layout: &Layout,
    known: &[WorkspaceId],
) -> impl Iterator<Item = WorkspaceScope> {
    let known: HashSet<_> = known.iter().copied().collect();
    let unknown = layout.workspaces.iter().copied();
    let unknown: BTreeSet<_> = unknown.filter(|id| !known.contains(id)).collect();
    unknown.into_iter().map(doctor_scope)
}

/// What lies where nothing of ours does, and lies there still.
///
/// # Errors
/// The photos' store does not answer.
pub(super) async fn strays(blobs: &Blobs, layout: Layout) -> Result<Vec<Finding>, DoctorError> {
    if layout.strays.is_empty() {
        return Ok(Vec::new());
    }
    // A server that starts marks the store by a file of another name first.
    let again: HashSet<_> = blobs.layout().await?.strays.into_iter().collect();
    let still = layout
        .strays
        .into_iter()
        .filter(|path| again.contains(path));
    Ok(still
        .map(|path| Finding {
            invariant: "bytes_have_a_photo",
            detail: format!("{path} lies beside the workspaces' photos"),
        })
        .collect())
}
