//! The first transaction of uploads: the gallery is there, and both limits admit the photo.

use std::collections::HashMap;

use crate::id::{GalleryId, PhotoId};
use rawdrive_plans::BeginError;
use rawdrive_tenancy_core::{Commit, Env, StoreError, WorkspaceScope};
use rawdrive_usage::{Exceeded, Hold, hold_all, hold_each};

use crate::charges::charges;
use crate::{GalleryTx, UPLOAD, UploadStore};

/// An upload that is about to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// The photo's id.
    pub photo: PhotoId,
    /// The gallery it goes to.
    pub gallery: GalleryId,
    /// What is held for it at first, in bytes.
    pub bytes: u64,
}

/// What became of an opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// Its photo and its bytes are held.
    Held,
    /// There is no such gallery.
    NoGallery,
    /// A limit is in the way.
    Exceeded(Exceeded),
}

/// Opens uploads to one workspace together, each as if it were alone and in their order: a busy workspace's
/// counters are locked once for all that arrive meanwhile, and not once for each.
///
/// # Errors
/// The workspace is read-only, or the database does not answer: then none was opened.
pub async fn open_together<S: UploadStore>(
    store: &S,
    env: &Env,
    scope: &WorkspaceScope,
    openings: &[Opening],
) -> Result<Vec<Opened>, BeginError> {
    let mut tx = store.begin(scope).await?;
    let found = look(&mut tx, openings).await?;
    let all: Vec<Hold> = holds(openings, &found).collect();
    let all_fit = hold_all(&mut tx, env, &all).await?;
    if all_fit {
        tx.commit().await?;
        let opened = openings.iter().map(|opening| {
            if found[&opening.gallery] {
                Opened::Held
            } else {
                Opened::NoGallery
            }
        });
        return Ok(opened.collect());
    }
    // Not all fit. What was reserved so far is locked, and looking for overdue holds locks more: anew.
    drop(tx);
    let mut tx = store.begin(scope).await?;
    let found = look(&mut tx, openings).await?;
    let each = holds(openings, &found).collect();
    let mut outcomes = hold_each(&mut tx, env, each).await?.into_iter();
    tx.commit().await?;
    let opened = openings.iter().map(|opening| {
        if !found[&opening.gallery] {
            return Opened::NoGallery;
        }
        match outcomes.next() {
            Some(Err(exceeded)) => Opened::Exceeded(exceeded),
            Some(Ok(())) | None => Opened::Held,
        }
    });
    Ok(opened.collect())
}

/// Whether an upload could be opened now, of at least so many bytes. Nothing is held by that, and the upload may be refused
/// all the same: it is for a body whose first bytes would have to be read before it is opened.
///
/// # Errors
/// As [`open_together`].
pub async fn foresee<S: UploadStore>(
    store: &S,
    env: &Env,
    scope: &WorkspaceScope,
    opening: Opening,
) -> Result<Opened, BeginError> {
    // Dropped, and with it whatever was reserved.
    let mut tx = store.begin(scope).await?;
    let found = look(&mut tx, &[opening]).await?;
    if !found[&opening.gallery] {
        return Ok(Opened::NoGallery);
    }
    let holds = holds(&[opening], &found).collect();
    Ok(
        match hold_each(&mut tx, env, holds).await?.into_iter().next() {
            Some(Err(exceeded)) => Opened::Exceeded(exceeded),
            Some(Ok(())) | None => Opened::Held,
        },
    )
}

/// Which of the galleries are there.
async fn look(
    tx: &mut impl GalleryTx,
    openings: &[Opening],
) -> Result<HashMap<GalleryId, bool>, StoreError> {
    let mut found = HashMap::new();
    for Opening { gallery, .. } in openings {
        if !found.contains_key(gallery) {
            let row = tx.gallery(*gallery).await?;
            found.insert(*gallery, row.is_some_and(|g| g.deleted_at.is_none()));
        }
    }
    Ok(found)
}

fn holds<'a>(
    openings: &'a [Opening],
    found: &'a HashMap<GalleryId, bool>,
) -> impl Iterator<Item = Hold> + 'a {
    let there = openings.iter().filter(|opening| found[&opening.gallery]);
    there.map(|opening| {
        let mut charges: Vec<_> = charges(opening.gallery, opening.bytes).into();
        charges.sort_by(|a, b| a.key.cmp(&b.key));
        Hold {
            id: opening.photo.hold(),
            purpose: UPLOAD,
            charges,
        }
    })
}
