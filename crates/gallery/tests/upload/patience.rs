//! An upload lives for as long as its bytes come, however slowly.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rawdrive_gallery::{Companion, Photo, UploadError};
use rawdrive_tenancy_core::StoreError;
use rawdrive_testkit::{Faults, MemoryTx};

use crate::studio::{Step, Studio};

/// Counts its renewals, and fails from some number on.
#[derive(Clone)]
struct Claim {
    renewed: Arc<AtomicUsize>,
    fails_at: usize,
}

impl Claim {
    fn failing_at(fails_at: usize) -> Self {
        Self {
            renewed: Arc::default(),
            fails_at,
        }
    }
}

impl Companion<MemoryTx, Photo> for Claim {
    async fn renew(&self, _: &mut MemoryTx) -> Result<(), StoreError> {
        let before = self.renewed.fetch_add(1, Ordering::Relaxed);
        if before + 1 == self.fails_at {
            return Err(StoreError::Taken { operation: "renew" });
        }
        Ok(())
    }

    async fn stored(self, _: &mut MemoryTx, _: &Photo) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Ten minutes in which nothing comes, between two pieces.
const SLOW: [Step; 3] = [Step::Bytes(10), Step::Stall(60), Step::Bytes(10)];

#[tokio::test(start_paused = true)]
async fn a_stalling_upload_keeps_its_hold_and_renews_its_companion() {
    let studio = Studio::open().await;
    let claim = Claim::failing_at(usize::MAX);
    let upload = studio.upload(
        studio.gallery.id,
        &SLOW,
        true,
        Faults::default(),
        claim.clone(),
    );
    let photo = upload.await.unwrap();
    assert_eq!(photo.size_bytes, 20);
    let renewed = claim.renewed.load(Ordering::Relaxed);
    assert!((29..=30).contains(&renewed), "every 20 s: {renewed}");
    studio.check().await;
}

#[tokio::test(start_paused = true)]
async fn an_upload_whose_companion_is_lost_ends() {
    let studio = Studio::open().await;
    let claim = Claim::failing_at(3);
    let upload = studio.upload(
        studio.gallery.id,
        &SLOW,
        true,
        Faults::default(),
        claim.clone(),
    );
    let outcome = upload.await;
    assert!(
        matches!(outcome, Err(UploadError::Store(StoreError::Taken { .. }))),
        "{outcome:?}"
    );
    assert_eq!(claim.renewed.load(Ordering::Relaxed), 3);
    studio.settle_down().await;
    studio.check().await;
    assert!(studio.gallery_rows().photos.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_for_dead_does_not_come_back() {
    let studio = Studio::open().await;
    let steps = [
        Step::Bytes(10),
        Step::Expire,
        Step::Stall(3),
        Step::Bytes(10),
    ];
    let outcome = studio
        .upload(studio.gallery.id, &steps, true, Faults::default(), ())
        .await;
    assert!(matches!(outcome, Err(UploadError::Expired)), "{outcome:?}");
    studio.settle_down().await;
    studio.check().await;
    assert!(studio.gallery_rows().photos.is_empty());
}
