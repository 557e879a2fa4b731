//! Deleting, renaming and moving photos, one or many in one transaction.
//!
//! A photo's counter is its gallery's. Who deletes a photo or moves it holds that counter from before its row is read for
//! good, so that nobody else does either meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use rawdrive_plans::{Decision, PlansTx, decide};
use rawdrive_tenancy_core::event::EventsTx;
use rawdrive_tenancy_core::job::JobsTx;
use rawdrive_tenancy_core::{Env, StoreError};
use rawdrive_usage::{Exceeded, QuotaKey, QuotaRow, TakeError, UsageTx, add, subtract};

use crate::charges::charges;
use crate::id::{GalleryId, PhotoId};
use crate::{BLOBS_PER_JOB, DeleteBlob, DeleteBlobs, FileName, GalleryTx, PHOTOS, Photo};

/// Deletes a photo: row, ledger lines and the durable intent to delete its blob. False when there is none.
///
/// # Errors
/// The database's failure.
pub async fn delete_photo(
    tx: &mut (impl GalleryTx + UsageTx + PlansTx + EventsTx + JobsTx + Send),
    env: &Env,
    id: PhotoId,
) -> Result<bool, StoreError> {
    Ok(delete_photos(tx, env, &[id]).await?.contains(&id))
}

/// Deletes photos, of deleted galleries too: rows, ledger lines and the durable intent to delete their blobs. Answers
/// which of them there were.
///
/// # Errors
/// [`StoreError::Taken`] when another transaction has moved one of them meanwhile, or the database's failure.
pub async fn delete_photos(
    tx: &mut (impl GalleryTx + UsageTx + PlansTx + EventsTx + JobsTx + Send),
    env: &Env,
    ids: &[PhotoId],
) -> Result<BTreeSet<PhotoId>, StoreError> {
    // The entitlements before counters: whoever reviews them all holds them meanwhile.
    tx.entitlements().await?;
    let seen = tx.photos_among(ids).await?;
    let held = hold_counters(tx, seen.iter().map(|photo| photo.gallery)).await?;
    // Whoever else deletes them has finished by now, and they may be gone.
    let photos = tx.photos_among(ids).await?;
    still_held(&photos, &held)?;
    let mut of_gallery: BTreeMap<GalleryId, Vec<&Photo>> = BTreeMap::new();
    for photo in &photos {
        of_gallery.entry(photo.gallery).or_default().push(photo);
    }
    for (gallery, photos) in &of_gallery {
        let [mut count, _] = charges(*gallery, 0);
        count.amount = photos.len() as u64;
        subtract(tx, env, count, subject(photos.iter().copied(), *gallery)).await?;
    }
    for (gallery, photos) in &of_gallery {
        let bytes = photos.iter().map(|photo| photo.size_bytes).sum();
        let [_, bytes] = charges(*gallery, bytes);
        subtract(tx, env, bytes, subject(photos.iter().copied(), *gallery)).await?;
    }
    let gone: Vec<PhotoId> = photos.iter().map(|photo| photo.id).collect();
    if tx.delete_photos(&gone).await? != gone.len() as u64 {
        return Err(changed("delete photos"));
    }
    match gone[..] {
        [photo] => tx.enqueue(&DeleteBlob { photo }, None)?,
        _ => {
            for some in gone.chunks(BLOBS_PER_JOB) {
                let photos = some.to_vec();
                tx.enqueue(&DeleteBlobs { photos }, None)?;
            }
        }
    }
    Ok(gone.into_iter().collect())
}

/// What a photo's record becomes. What is left out stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PhotoChange {
    /// Its name.
    pub filename: Option<FileName>,
    /// The gallery it is in.
    pub gallery: Option<GalleryId>,
}

/// Why a photo is not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There is no such photo.
    #[error("there is no such photo")]
    NoPhoto,
    /// There is no such gallery.
    #[error("there is no such gallery")]
    NoGallery,
    /// The gallery that it was to be moved to is full.
    #[error("the limit of {} is reached", .0.metric)]
    Exceeded(Exceeded),
    /// The database failed; [`StoreError::Taken`] when another transaction has changed the photo meanwhile.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Changes the record of a photo as it was seen in this transaction, in a gallery that is not deleted.
///
/// # Errors
/// See [`ChangeError`].
pub async fn change_photo(
    tx: &mut (impl GalleryTx + UsageTx + PlansTx + EventsTx + JobsTx + Send),
    env: &Env,
    seen: &Photo,
    change: PhotoChange,
) -> Result<Photo, ChangeError> {
    tx.entitlements().await?;
    let target = change.gallery.unwrap_or(seen.gallery);
    let held = hold_counters(tx, [seen.gallery, target]).await?;
    let Some(photo) = tx.photo(seen.id).await? else {
        return Err(ChangeError::NoPhoto);
    };
    if photo.version != seen.version {
        return Err(changed("change a photo").into());
    }
    if !is_shown(tx, photo.gallery).await? {
        return Err(ChangeError::NoPhoto);
    }
    if !is_shown(tx, target).await? {
        return Err(ChangeError::NoGallery);
    }
    if target != photo.gallery {
        let room = Room::of(tx, env, target, held[&target]).await?;
        if room.left == 0 {
            return Err(ChangeError::Exceeded(room.full));
        }
        let moved = recount(tx, env, std::slice::from_ref(&photo), target).await;
        moved.map_err(|error| match error {
            TakeError::Exceeded(exceeded) => ChangeError::Exceeded(exceeded),
            TakeError::Store(error) => error.into(),
            TakeError::NotHeld => changed("change a photo").into(),
        })?;
    }
    let after = Photo {
        filename: change.filename.unwrap_or_else(|| photo.filename.clone()),
        gallery: target,
        ..photo.clone()
    };
    if after == photo {
        return Ok(photo);
    }
    let after = renewed(env, after);
    tx.update_photos(std::slice::from_ref(&after)).await?;
    Ok(after)
}

/// What became of a photo that was to be moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    /// It is in the gallery.
    There,
    /// The gallery is full.
    Exceeded(Exceeded),
}

/// Moves photos to a gallery, as many as it takes, in the order in which they are named. Answers what became of each that
/// there is, or nothing where there is no such gallery.
///
/// # Errors
/// [`StoreError::Taken`] when another transaction has changed one of them meanwhile, or the database's failure.
pub async fn move_photos(
    tx: &mut (impl GalleryTx + UsageTx + PlansTx + EventsTx + JobsTx + Send),
    env: &Env,
    ids: &[PhotoId],
    target: GalleryId,
) -> Result<Option<BTreeMap<PhotoId, Moved>>, StoreError> {
    tx.entitlements().await?;
    let seen = tx.photos_among(ids).await?;
    let galleries: BTreeSet<_> = seen.iter().map(|photo| photo.gallery).collect();
    let held = hold_counters(tx, galleries.iter().copied().chain([target])).await?;
    if !is_shown(tx, target).await? {
        return Ok(None);
    }
    let mut shown = BTreeSet::new();
    for gallery in galleries {
        if is_shown(tx, gallery).await? {
            shown.insert(gallery);
        }
    }
    let found = tx.photos_among(ids).await?;
    still_held(&found, &held)?;
    let mut found: BTreeMap<_, _> = found.into_iter().map(|photo| (photo.id, photo)).collect();
    let mut outcomes = BTreeMap::new();
    let mut moving = Vec::new();
    let room = Room::of(tx, env, target, held[&target]).await?;
    for id in ids {
        let Some(photo) = found.remove(id).filter(|p| shown.contains(&p.gallery)) else {
            continue;
        };
        let outcome = if photo.gallery == target {
            Moved::There
        } else if (moving.len() as u64) < room.left {
            moving.push(photo);
            Moved::There
        } else {
            Moved::Exceeded(room.full.clone())
        };
        outcomes.insert(*id, outcome);
    }
    if moving.is_empty() {
        return Ok(Some(outcomes));
    }
    let moved = recount(tx, env, &moving, target).await;
    moved.map_err(|error| match error {
        TakeError::Store(error) => error,
        // There was room for all of them under the counter's lock.
        TakeError::Exceeded(_) | TakeError::NotHeld => changed("move photos"),
    })?;
    let after: Vec<Photo> = moving
        .into_iter()
        .map(|photo| {
            let gallery = target;
            renewed(env, Photo { gallery, ..photo })
        })
        .collect();
    tx.update_photos(&after).await?;
    Ok(Some(outcomes))
}

/// How many photos a gallery still takes.
struct Room {
    left: u64,
    /// What is said beyond that.
    full: Exceeded,
}

impl Room {
    /// Of a gallery whose counter is held. Holds that nobody renews any more count until they are swept: their counters
    /// may not be locked behind this one.
    async fn of(
        tx: &mut (impl PlansTx + Send),
        env: &Env,
        gallery: GalleryId,
        row: QuotaRow,
    ) -> Result<Self, StoreError> {
        let allowance = tx.entitlements().await?.allowance(&PHOTOS, env.now()).value;
        let current = row.used + row.reserved;
        let most = allowance.hard_limit().bound().unwrap_or(u64::MAX);
        let left = most.saturating_sub(current);
        // What the first photo is told that does not fit any more.
        let denied = match decide(current + left, 1, allowance) {
            Decision::Deny(denied) => denied,
            Decision::Allow => rawdrive_plans::Denied {
                current: current + left,
                requested: 1,
                limit: allowance.limit().bound().unwrap_or(u64::MAX),
                hard_limit: most,
            },
        };
        let full = Exceeded {
            metric: PHOTOS,
            subject: gallery.to_string(),
            reserved: row.reserved,
            denied,
        };
        Ok(Self { left, full })
    }
}

/// Counts photos where they are going, and no more where they come from.
async fn recount(
    tx: &mut (impl UsageTx + PlansTx + EventsTx + JobsTx + Send),
    env: &Env,
    photos: &[Photo],
    target: GalleryId,
) -> Result<(), TakeError> {
    let [mut count, _] = charges(target, 0);
    count.amount = photos.len() as u64;
    add(tx, env, count, subject(photos, target)).await?;
    let mut of_gallery: BTreeMap<GalleryId, u64> = BTreeMap::new();
    for photo in photos {
        *of_gallery.entry(photo.gallery).or_default() += 1;
    }
    for (gallery, amount) in of_gallery {
        let [mut count, _] = charges(gallery, 0);
        count.amount = amount;
        subtract(tx, env, count, subject(photos, gallery)).await?;
    }
    Ok(())
}

/// What a line of the ledger is about: the photo, or the gallery of several.
fn subject<'p>(photos: impl IntoIterator<Item = &'p Photo>, gallery: GalleryId) -> String {
    let mut photos = photos.into_iter();
    match (photos.next(), photos.next()) {
        (Some(photo), None) => photo.id.to_string(),
        _ => gallery.to_string(),
    }
}

/// Locks the counters of galleries, in the order in which everybody does.
async fn hold_counters(
    tx: &mut (impl UsageTx + Send),
    galleries: impl IntoIterator<Item = GalleryId>,
) -> Result<BTreeMap<GalleryId, QuotaRow>, StoreError> {
    let mut keys: Vec<_> = galleries
        .into_iter()
        .map(|gallery| (QuotaKey::level_of(PHOTOS, gallery), gallery))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    let mut held = BTreeMap::new();
    for (key, gallery) in keys {
        held.insert(gallery, tx.lock(&key).await?);
    }
    Ok(held)
}

/// Who moved a photo between the two looks held its counter before us.
fn still_held(photos: &[Photo], held: &BTreeMap<GalleryId, QuotaRow>) -> Result<(), StoreError> {
    match photos.iter().all(|photo| held.contains_key(&photo.gallery)) {
        true => Ok(()),
        false => Err(changed("read photos")),
    }
}

async fn is_shown(tx: &mut impl GalleryTx, gallery: GalleryId) -> Result<bool, StoreError> {
    let gallery = tx.gallery(gallery).await?;
    Ok(gallery.is_some_and(|gallery| gallery.deleted_at.is_none()))
}

fn renewed(env: &Env, photo: Photo) -> Photo {
    Photo {
        updated_at: env.now(),
        version: photo.version + 1,
        ..photo
    }
}

fn changed(operation: &'static str) -> StoreError {
    StoreError::Taken { operation }
}
