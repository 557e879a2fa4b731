//! The analysis of one photo: hold, look, settle; or give everything back.

use crate::id::{GalleryId, PhotoId};
use futures_util::FutureExt as _;
use rawdrive_plans::{BeginError, PlansTx as _, ReadOnly};
use rawdrive_tenancy_core::id::HoldId;
use rawdrive_tenancy_core::{Commit, Env, StoreError, WorkspaceScope};
use rawdrive_usage::{Charge, Exceeded, Period, QuotaKey, TakeError, hold, release, settle};

use super::decoders::whole;
use super::{
    Analysis, AnalyzeError, Analyzer, NEAR_DUPLICATE_DISTANCE, PerceptualHash, PixelFormat,
    Subject, Unfit, fitness,
};
use crate::upload_hooks::{RENEW_EVERY, renew, renewing};
use crate::{
    AI_ANALYSIS, ANALYSIS, AnalysisRead, AnalysisTx, Blobs, Companion, GalleryTx, Photo,
    UploadStore,
};

/// The most near duplicates that are told, nearest first.
const MOST_NEAR: usize = 50;
/// Hashes that are compared at a time: memory does not grow with the gallery.
const HASHES_AT_ONCE: u32 = 5_000;

/// A photo of the same gallery that looks nearly the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NearDuplicate {
    /// Bits of 64 in which the hashes differ, at most [`NEAR_DUPLICATE_DISTANCE`].
    pub distance: u32,
    /// The photo.
    pub photo: PhotoId,
}

/// An analysis, and what its photo was found to resemble.
#[derive(Debug, Clone, PartialEq)]
pub struct Analyzed {
    /// The analysis, as it is stored.
    pub analysis: Analysis,
    /// Nearest first.
    pub near_duplicates: Vec<NearDuplicate>,
}

/// Why an analysis came to nothing. Nothing was consumed.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// The workspace takes no writes.
    #[error("the workspace is read-only")]
    ReadOnly(ReadOnly),
    /// There is no such photo.
    #[error("there is no such photo")]
    NoPhoto,
    /// No analyser could work on it.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The limit is in the way.
    #[error("the limit of {} is reached", .0.metric)]
    Exceeded(Exceeded),
    /// The analyser found nothing.
    #[error(transparent)]
    Analyzer(#[from] AnalyzeError),
    /// The hold expired although it was renewed: the database was out of reach for too long.
    #[error("the analysis took too long")]
    Expired,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<TakeError> for AnalysisError {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::Exceeded(exceeded) => Self::Exceeded(exceeded),
            TakeError::NotHeld => Self::Expired,
            TakeError::Store(error) => Self::Store(error),
        }
    }
}

impl From<BeginError> for AnalysisError {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::ReadOnly(read_only) => Self::ReadOnly(read_only),
            BeginError::Store(error) => Self::Store(error),
        }
    }
}

/// Analyses a photo anew and stores the result in the place of an earlier one. When this returns an error,
/// nothing was consumed and nothing is held. Run it in a task of its own: a caller that is dropped must not
/// drop the protocol with it.
///
/// # Errors
/// See [`AnalysisError`].
#[expect(
    clippy::too_many_arguments,
    reason = "the ports of one protocol; a struct of them would be used here alone"
)]
pub async fn analyze<S: UploadStore<Tx: AnalysisTx>>(
    store: &S,
    read: &(impl AnalysisRead + Sync),
    blobs: &Blobs,
    analyzer: &dyn Analyzer,
    env: &Env,
    scope: &WorkspaceScope,
    photo: PhotoId,
    companion: impl Companion<S::Tx, Analyzed>,
) -> Result<Analyzed, AnalysisError> {
    let unit = reserve(store, env, scope, photo).await?;
    let attempt = async {
        let renew = || renew(store, env, scope, unit.hold, &companion);
        let subject = Subject {
            format: unit.format,
            size_bytes: unit.photo.size_bytes,
            bytes: whole(blobs, scope, photo, unit.photo.size_bytes).boxed(),
        };
        let look = async { Ok::<_, AnalysisError>(analyzer.analyze(subject).await?) };
        let findings = renewing(RENEW_EVERY, renew, look).await?;
        let analysis = Analysis {
            photo,
            findings,
            analyzer: analyzer.name().to_owned(),
            analyzed_at: env.now(),
        };
        let hash = analysis.findings.measured.perceptual_hash;
        // Before the transaction: comparing with a large gallery would keep the next writer waiting.
        let near_duplicates = near_duplicates(read, unit.photo.gallery, photo, hash).await?;
        let analyzed = Analyzed {
            analysis,
            near_duplicates,
        };
        keep(store, env, scope, &unit, &analyzed, companion).await?;
        Ok(analyzed)
    };
    let outcome = attempt.await;
    if outcome.is_err() {
        let mut tx = store.begin_release(scope).await?;
        release(&mut tx, unit.hold).await?;
        tx.commit().await?;
    }
    outcome
}

/// A unit that is held for a photo.
struct Unit {
    hold: HoldId,
    charge: Charge,
    photo: Photo,
    format: PixelFormat,
}

/// The first transaction: the photo is there and fit, and the limit admits one more analysis.
async fn reserve<S: UploadStore<Tx: AnalysisTx>>(
    store: &S,
    env: &Env,
    scope: &WorkspaceScope,
    photo: PhotoId,
) -> Result<Unit, AnalysisError> {
    let mut tx = store.begin(scope).await?;
    let photo = tx.photo(photo).await?.ok_or(AnalysisError::NoPhoto)?;
    if !shown(&mut tx, photo.gallery).await? {
        return Err(AnalysisError::NoPhoto);
    }
    let format = fitness(&photo)?;
    let anchor = tx.entitlements().await?.billing_anchor;
    // It counts in the period in which it began, whenever it ends.
    let period = Period::containing(env.now(), anchor);
    let unit = Unit {
        hold: env.id(),
        charge: Charge {
            key: QuotaKey::flow(AI_ANALYSIS, period),
            amount: 1,
        },
        photo,
        format,
    };
    let charges = vec![unit.charge.clone()];
    hold(&mut tx, env, unit.hold, ANALYSIS, charges).await?;
    tx.commit().await?;
    Ok(unit)
}

async fn shown(tx: &mut impl GalleryTx, gallery: GalleryId) -> Result<bool, StoreError> {
    let gallery = tx.gallery(gallery).await?;
    Ok(gallery.is_some_and(|gallery| gallery.deleted_at.is_none()))
}

/// The last transaction: the unit, the result, the ledger line and whatever must stand with them.
async fn keep<S: UploadStore<Tx: AnalysisTx>>(
    store: &S,
    env: &Env,
    scope: &WorkspaceScope,
    unit: &Unit,
    analyzed: &Analyzed,
    companion: impl Companion<S::Tx, Analyzed>,
) -> Result<(), AnalysisError> {
    let mut tx = store.begin(scope).await?;
    let actual = [(unit.charge.clone(), unit.photo.id.to_string())];
    settle(&mut tx, env, unit.hold, &actual).await?;
    // The photo or its gallery may have been deleted meanwhile.
    if !shown(&mut tx, unit.photo.gallery).await? {
        return Err(AnalysisError::NoPhoto);
    }
    match tx.put_analysis(&analyzed.analysis).await {
        Err(StoreError::Dangling { .. }) => return Err(AnalysisError::NoPhoto),
        put => put?,
    }
    companion.stored(&mut tx, analyzed).await?;
    tx.commit().await?;
    Ok(())
}

/// The photos of a gallery whose hash is near, nearest first, at most 50.
///
/// # Errors
/// The database's failure.
pub async fn near_duplicates(
    read: &(impl AnalysisRead + Sync),
    gallery: GalleryId,
    photo: PhotoId,
    hash: PerceptualHash,
) -> Result<Vec<NearDuplicate>, StoreError> {
    let mut near = Vec::new();
    let mut after = None;
    loop {
        let hashes = read.hashes(gallery, after, HASHES_AT_ONCE).await?;
        near.extend(
            hashes
                .iter()
                .filter(|(other, _)| *other != photo)
                .map(|(other, theirs)| NearDuplicate {
                    distance: theirs.distance(hash),
                    photo: *other,
                })
                .filter(|found| found.distance <= NEAR_DUPLICATE_DISTANCE),
        );
        near.sort_unstable();
        near.truncate(MOST_NEAR);
        if hashes.len() < HASHES_AT_ONCE as usize {
            return Ok(near);
        }
        after = hashes.last().map(|(last, _)| *last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gallery's hashes, in order of their photos.
    struct Hashes(Vec<(PhotoId, PerceptualHash)>);

    impl AnalysisRead for Hashes {
        async fn analysis(&self, _: PhotoId) -> Result<Option<(GalleryId, Analysis)>, StoreError> {
            Ok(None)
        }
        async fn hashes(
            &self,
            _: GalleryId,
            after: Option<PhotoId>,
            limit: u32,
        ) -> Result<Vec<(PhotoId, PerceptualHash)>, StoreError> {
            let later = self.0.iter().filter(|(id, _)| Some(*id) > after);
            Ok(later.copied().take(limit as usize).collect())
        }
    }

    #[tokio::test]
    async fn the_nearest_are_found_in_a_gallery_of_any_size() {
        let env = Env::system();
        let mut ids: Vec<PhotoId> = (0..2 * HASHES_AT_ONCE + 7).map(|_| env.id()).collect();
        ids.sort();
        let far = |id: &PhotoId| (*id, PerceptualHash::from_bits(u64::MAX));
        let mut hashes = Hashes(ids.iter().map(far).collect());
        let own = PerceptualHash::from_bits(0b1111);
        let last = ids.len() - 1;
        // The photo itself, one beyond the threshold, and near ones at both ends.
        let one_in_page_two = HASHES_AT_ONCE as usize + 3;
        for (at, bits) in [
            (1, 0b1111),
            (2, 0b1111 | 0x7FF << 10),
            (0, 0b1111 | 0x3FF << 10),
            (one_in_page_two, 0b1111),
            (last, 0b0111),
        ] {
            hashes.0[at].1 = PerceptualHash::from_bits(bits);
        }
        let gallery = env.id();
        let found = near_duplicates(&hashes, gallery, ids[1], own)
            .await
            .unwrap();
        let found: Vec<_> = found.iter().map(|n| (n.photo, n.distance)).collect();
        assert_eq!(
            found,
            [(ids[one_in_page_two], 0), (ids[last], 1), (ids[0], 10)]
        );
        for hash in &mut hashes.0 {
            hash.1 = own;
        }
        let found = near_duplicates(&hashes, gallery, ids[1], own)
            .await
            .unwrap();
        assert_eq!(found.len(), MOST_NEAR);
        assert_eq!((found[0].photo, found[1].photo), (ids[0], ids[2]));
    }
}
