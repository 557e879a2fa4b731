//! Whatever fails, and whatever happens meanwhile, a photo is whole or it is not there.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use rawdrive_testkit::{Fault, Faults};
use rawdrive_usage::HoldState;

use crate::studio::{MAX_BYTES, Step, Studio, content};

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..200_000_usize).prop_map(Step::Bytes),
        2 => (1..12_u32).prop_map(Step::Stall),
        1 => Just(Step::Break),
        1 => any::<bool>().prop_map(|permanent| Step::DeleteGallery { permanent }),
        1 => (0..MAX_BYTES / 2).prop_map(Step::Limit),
        1 => Just(Step::Expire),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![Just(Fault::Refused), Just(Fault::AnswerLost)]
}

proptest! {
    #[test]
    fn a_photo_is_whole_or_nothing_of_it_remains(
        steps in vec(step(), 1..8),
        announced: bool,
        faults in btree_map(0..60_usize, fault(), 0..3),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(upload(&steps, announced, Faults::at(faults)));
    }
}

async fn upload(steps: &[Step], announced: bool, faults: Faults) {
    let studio = Studio::open().await;
    let outcome = studio
        .upload(studio.gallery.id, steps, announced, faults, ())
        .await;
    let rows = studio.rows();
    if let Ok(photo) = &outcome {
        let kept = studio.gallery_rows();
        assert_eq!(kept.photos.get(&photo.id), Some(photo));
    }
    for photo in studio.gallery_rows().photos.values() {
        let expected = content(steps);
        assert_eq!(photo.size_bytes, expected.len() as u64);
        assert!(
            studio.bytes_of(photo.id).await == expected,
            "the bytes are others"
        );
        assert_eq!(rows.ledger.len(), 2, "{:?}", rows.ledger);
        assert!(
            rows.holds
                .values()
                .all(|hold| hold.state == HoldState::Committed)
        );
    }
    studio.settle_down().await;
    studio.check().await;
}

/// The numbers of the calls above are drawn from 0 to 60; were that far more than there are, few faults would
/// strike.
#[tokio::test(start_paused = true)]
async fn an_upload_makes_about_as_many_calls_as_are_made_to_fail() {
    let studio = Studio::open().await;
    let faults = Faults::default();
    let steps = [Step::Bytes(400_000), Step::Stall(6), Step::Bytes(400_000)];
    let upload = studio.upload(studio.gallery.id, &steps, false, faults.clone(), ());
    upload.await.unwrap();
    assert!((30..60).contains(&faults.calls()), "{}", faults.calls());
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_keeps_its_photo() {
    let steps = [Step::Bytes(1000)];
    let studio = Studio::open().await;
    let count = Faults::default();
    let upload = studio.upload(studio.gallery.id, &steps, true, count.clone(), ());
    upload.await.unwrap();

    let studio = Studio::open().await;
    let last = Faults::at([(count.calls() - 1, Fault::AnswerLost)]);
    let outcome = studio
        .upload(studio.gallery.id, &steps, true, last, ())
        .await;
    let photo = outcome.unwrap();
    assert_eq!(studio.bytes_of(photo.id).await, content(&steps));
    studio.settle_down().await;
    studio.check().await;
}
