//! Usage is the sum of what is there, whatever is deleted in which order.

use proptest::collection::vec;
use proptest::prelude::*;
use rawdrive_gallery::testkit::gallery;
use rawdrive_gallery::{GalleryTx, delete_photo};
use rawdrive_tenancy_core::Commit;
use rawdrive_testkit::Faults;

use crate::studio::{Step, Studio};

/// Galleries and photos are named by their place among those that were made, modulo their number.
#[derive(Debug, Clone)]
enum Act {
    Upload { gallery: usize, bytes: usize },
    DeletePhoto(usize),
    DeleteGallery { gallery: usize, permanent: bool },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..3_usize, 1..5_000_usize).prop_map(|(gallery, bytes)| Act::Upload { gallery, bytes }),
        2 => any::<usize>().prop_map(Act::DeletePhoto),
        1 => (0..3_usize, any::<bool>())
            .prop_map(|(gallery, permanent)| Act::DeleteGallery { gallery, permanent }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn usage_is_the_sum_of_the_photos_sizes(acts in vec(act(), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(perform(&acts));
    }
}

async fn perform(acts: &[Act]) {
    let studio = Studio::open().await;
    let mut galleries = vec![studio.gallery.id];
    let mut tx = studio.begin().await;
    for _ in 0..2 {
        let more = gallery(studio.env(), studio.gallery.library);
        tx.insert_gallery(&more).await.unwrap();
        galleries.push(more.id);
    }
    tx.commit().await.unwrap();
    let mut uploaded = Vec::new();
    for act in acts {
        match act {
            Act::Upload { gallery, bytes } => {
                let id = galleries[*gallery];
                let living = studio
                    .gallery_rows()
                    .galleries
                    .get(&id)
                    .is_some_and(|g| g.deleted_at.is_none());
                let steps = [Step::Bytes(*bytes)];
                let upload = studio.upload(id, &steps, true, Faults::default(), ());
                let outcome = upload.await;
                assert_eq!(outcome.is_ok(), living, "{outcome:?}");
                uploaded.extend(outcome.ok());
            }
            Act::DeletePhoto(place) if !uploaded.is_empty() => {
                let id = uploaded[place % uploaded.len()].id;
                let existed = studio.gallery_rows().photos.contains_key(&id);
                let mut tx = studio.begin().await;
                assert_eq!(
                    delete_photo(&mut tx, studio.env(), id).await.unwrap(),
                    existed
                );
                tx.commit().await.unwrap();
            }
            Act::DeletePhoto(_) => {}
            Act::DeleteGallery { gallery, permanent } => {
                studio.delete_gallery(galleries[*gallery], *permanent).await;
            }
        }
        // The rows agree at once; the bytes do when the jobs have run.
        studio.settle_down().await;
        studio.check().await;
    }
    let rows = studio.gallery_rows();
    for photo in &uploaded {
        let stands = rows.galleries.contains_key(&photo.gallery);
        assert!(
            stands || !rows.photos.contains_key(&photo.id),
            "a photo outlived its gallery"
        );
    }
}
