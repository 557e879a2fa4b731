//! A gallery of many photos is deleted by the set.

use chrono::TimeDelta;
use rawdrive_gallery::id::{GalleryId, PhotoId};
use rawdrive_gallery::testkit::{gallery, library, photo};
use rawdrive_gallery::{DeleteBlobs, GalleryTx, delete_gallery_permanently};
use rawdrive_tenancy_core::Commit;
use rawdrive_testkit::contract::Stage;
use rawdrive_usage::{Charge, QuotaKey, QuotaRow, add};

use crate::subject::{Opened, stage};
use crate::support::Engine;

async fn deleting_a_gallery_leaves_a_job_for_each_500_photos_and_no_photo_out(engine: Engine) {
    let stage = stage(engine).await;
    let photos = 1_201;
    let gallery = fill(&stage, photos).await;

    let mut tx = stage.begin().await;
    let deleted = delete_gallery_permanently(&mut tx, stage.env(), gallery).await;
    assert!(deleted.unwrap());
    tx.commit().await.unwrap();

    let reader = stage.store.store.read(&stage.scope);
    for key in keys(gallery) {
        assert_eq!(reader.quota(&key).await.unwrap(), QuotaRow::default());
    }
    let jobs = stage
        .store
        .store
        .lease_jobs(100, TimeDelta::seconds(60))
        .await;
    let mut sizes = Vec::new();
    let mut to_delete: Vec<PhotoId> = Vec::new();
    for job in jobs.unwrap() {
        let Some(DeleteBlobs { photos }) = job.job.as_kind() else {
            panic!("only blobs are left: {job:?}")
        };
        sizes.push(photos.len());
        to_delete.extend(photos);
    }
    assert_eq!(sizes, [500, 500, 201]);
    to_delete.sort_unstable();
    to_delete.dedup();
    assert_eq!(to_delete.len(), photos);
}

fn keys(gallery: GalleryId) -> [QuotaKey; 2] {
    [
        QuotaKey::level_of(rawdrive_gallery::PHOTOS, gallery),
        QuotaKey::level(rawdrive_gallery::STORAGE_BYTES),
    ]
}

/// A gallery with rows of that many photos of one byte each, counted as uploads count them.
async fn fill(stage: &Stage<Opened>, photos: usize) -> GalleryId {
    let env = stage.env();
    let library = library(env);
    let gallery = gallery(env, library.id);
    let mut tx = stage.begin().await;
    for key in keys(gallery.id) {
        let amount = photos as u64;
        add(&mut tx, env, Charge { key, amount }, gallery.id.to_string())
            .await
            .unwrap();
    }
    tx.insert_library(&library).await.unwrap();
    tx.insert_gallery(&gallery).await.unwrap();
    for _ in 0..photos {
        let photo = photo(env, gallery.id, 1);
        tx.insert_photo(&photo).await.unwrap();
    }
    tx.commit().await.unwrap();
    gallery.id
}

on_every_database![deleting_a_gallery_leaves_a_job_for_each_500_photos_and_no_photo_out,];
