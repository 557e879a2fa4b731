//! Uploads that are opened together come to what they would have come to one after the other.

use proptest::collection::vec;
use proptest::prelude::*;
use rawdrive_gallery::testkit::{gallery, library};
use rawdrive_gallery::{Opened, Opening, UploadStore as _, open_together};
use rawdrive_plans::{Limit, UnitOfWork as _};
use rawdrive_tenancy_core::Commit;
use rawdrive_testkit::{MemoryStore, TestEnv, plan};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn together_is_as_one_after_the_other(
        openings in vec((0..3_usize, 0..60_u64), 1..30),
        bytes in 0..1_000_u64,
        photos in 0..12_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let together = runtime.block_on(open(&openings, bytes, photos, true));
        let apart = runtime.block_on(open(&openings, bytes, photos, false));
        prop_assert_eq!(together, apart);
    }
}

/// Gallery 2 is not there.
async fn open(
    openings: &[(usize, u64)],
    bytes: u64,
    photos: u64,
    together: bool,
) -> (Vec<Opened>, usize) {
    use rawdrive_gallery::GalleryTx;

    let test_env = TestEnv::seeded(7);
    let env = test_env.env();
    let store = MemoryStore::new(env.clone());
    let limits = [
        (rawdrive_gallery::STORAGE_BYTES, Limit::AtMost(bytes)),
        (rawdrive_gallery::PHOTOS, Limit::AtMost(photos)),
    ];
    let scope = store.workspace(&plan(&limits)).await.unwrap();
    let shelf = library(env);
    let there = [gallery(env, shelf.id), gallery(env, shelf.id)];
    let mut tx = store.begin(&scope).await.unwrap();
    tx.insert_library(&shelf).await.unwrap();
    for gallery in &there {
        tx.insert_gallery(gallery).await.unwrap();
    }
    tx.commit().await.unwrap();
    let nowhere = env.id();
    let openings: Vec<_> = openings
        .iter()
        .map(|(to, bytes)| Opening {
            photo: env.id(),
            gallery: there.get(*to).map_or(nowhere, |gallery| gallery.id),
            bytes: *bytes,
        })
        .collect();
    let outcomes = if together {
        open_together(&store, env, &scope, &openings).await.unwrap()
    } else {
        let mut outcomes = Vec::new();
        for opening in &openings {
            outcomes.push(store.open(&scope, env, *opening).await.unwrap());
        }
        outcomes
    };
    let rows = store.rows(&scope);
    assert_eq!(rows.discrepancies(), [""; 0]);
    (outcomes, rows.holds.len())
}
