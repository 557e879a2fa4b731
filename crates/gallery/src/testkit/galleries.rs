//! Libraries, galleries, photos and branding.

#![expect(
    clippy::unwrap_used,
    reason = "each function is a test, and a failing store is its failure"
)]

use chrono::TimeDelta;
use futures_util::future::join_all;
use rawdrive_plans::Limit;
use rawdrive_tenancy_core::{Commit, StoreError};

use rawdrive_testkit::contract::{Stage, begin};

use super::{GallerySubject, gallery, library, photo};
use crate::id::PhotoId;
use crate::renditions::model::{Obstacle, Rendition, Renditions};
use crate::{
    Branding, Download, Gallery, GalleryTx, Library, LibraryDeletion, Opened, Opening, Orientation,
    Photo,
};

pub(crate) fn is_dangling<T: std::fmt::Debug>(outcome: &Result<T, StoreError>) -> bool {
    matches!(outcome, Err(StoreError::Dangling { .. }))
}

/// A gallery in its library, committed.
async fn furnished<S: GallerySubject>(stage: &Stage<S>) -> Gallery {
    let library = library(stage.env());
    let gallery = gallery(stage.env(), library.id);
    let mut tx = stage.begin().await;
    tx.insert_library(&library).await.unwrap();
    tx.insert_gallery(&gallery).await.unwrap();
    tx.commit().await.unwrap();
    gallery
}

/// Uploads that begin at once are held within both limits, as many as fit, whether they go together or not; one
/// to a gallery that is not there is refused by itself.
pub async fn of_many_uploads_as_many_open_as_fit<S: GallerySubject>(stage: &Stage<S>) {
    let gallery = furnished(stage).await;
    stage.limit(crate::PHOTOS, Limit::AtMost(7)).await;
    stage.limit(crate::STORAGE_BYTES, Limit::AtMost(60)).await;
    let open = |gallery, bytes| {
        let opening = Opening {
            photo: stage.id(),
            gallery,
            bytes,
        };
        stage.store.open(&stage.scope, stage.env(), opening)
    };
    let nowhere = stage.id();
    let outcomes = join_all((0..40).map(|n| {
        if n % 10 == 3 {
            open(nowhere, 1)
        } else {
            open(gallery.id, 10)
        }
    }))
    .await;
    let outcomes: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
    let count = |wanted: fn(&Opened) -> bool| outcomes.iter().filter(|o| wanted(o)).count();
    assert_eq!(count(|o| *o == Opened::NoGallery), 4);
    assert_eq!(
        count(|o| *o == Opened::Held),
        6,
        "bytes are the nearer limit"
    );
    assert_eq!(count(|o| matches!(o, Opened::Exceeded(_))), 30);
    assert_eq!(stage.store.discrepancies(&stage.scope).await, [""; 0]);
    let last = open(gallery.id, 0).await.unwrap();
    assert_eq!(last, Opened::Held);
    let full = open(gallery.id, 0).await.unwrap();
    assert!(
        matches!(&full, Opened::Exceeded(e) if e.metric == crate::PHOTOS && e.denied.current == 7),
        "{full:?}"
    );
}

/// A library is what was written last; one that holds a gallery, deleted or not, stays.
pub async fn a_library_is_read_as_written_and_deleted_when_empty<S: GallerySubject>(
    stage: &Stage<S>,
) {
    let mut gallery = furnished(stage).await;
    let mut tx = stage.begin().await;
    let before = tx.library(gallery.library).await.unwrap().unwrap();
    let changed = Library {
        name: "Portraits".parse().unwrap(),
        updated_at: before.updated_at + TimeDelta::seconds(1),
        version: 2,
        ..before
    };
    tx.update_library(&changed).await.unwrap();
    assert_eq!(tx.library(changed.id).await.unwrap(), Some(changed.clone()));
    let outcome = tx.delete_library(changed.id).await.unwrap();
    assert_eq!(outcome, LibraryDeletion::NotEmpty);
    gallery.deleted_at = Some(stage.env().now());
    gallery.version += 1;
    tx.update_gallery(&gallery).await.unwrap();
    let outcome = tx.delete_library(changed.id).await.unwrap();
    assert_eq!(outcome, LibraryDeletion::NotEmpty, "it can come back");
    assert!(tx.delete_gallery(gallery.id).await.unwrap());
    let outcome = tx.delete_library(changed.id).await.unwrap();
    assert_eq!(outcome, LibraryDeletion::Deleted);
    let outcome = tx.delete_library(changed.id).await.unwrap();
    assert_eq!(outcome, LibraryDeletion::Missing);
    for (nth, is_only) in [(1, true), (2, false)] {
        let another = library(stage.env());
        let told = tx.insert_library(&another).await.unwrap();
        assert_eq!(told, is_only, "library {nth}");
    }
    assert_eq!(tx.library(changed.id).await.unwrap(), None);
}

/// A gallery is what was written last, deleted or not.
pub async fn a_gallery_is_read_as_written<S: GallerySubject>(stage: &Stage<S>) {
    let before = furnished(stage).await;
    let shelf = library(stage.env());
    let changed = Gallery {
        library: shelf.id,
        name: "Autumn".parse().unwrap(),
        download: Download::Original,
        deleted_at: Some(before.created_at + TimeDelta::days(1)),
        updated_at: before.updated_at + TimeDelta::days(1),
        version: 2,
        ..before.clone()
    };
    let mut tx = stage.begin().await;
    assert_eq!(tx.gallery(before.id).await.unwrap(), Some(before));
    tx.insert_library(&shelf).await.unwrap();
    tx.update_gallery(&changed).await.unwrap();
    assert_eq!(tx.gallery(changed.id).await.unwrap(), Some(changed));
    assert_eq!(tx.gallery(stage.id()).await.unwrap(), None);
}

/// Who looked at a gallery before another wrote it writes nothing over that.
pub async fn a_gallery_is_written_over_by_a_later_version_alone<S: GallerySubject>(
    stage: &Stage<S>,
) {
    let seen = furnished(stage).await;
    let mut mine = seen.clone();
    (mine.name, mine.version) = ("Mine".parse().unwrap(), seen.version + 1);
    let mut tx = stage.begin().await;
    tx.update_gallery(&mine).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = stage.begin().await;
    let theirs = Gallery {
        name: "Theirs".parse().unwrap(),
        version: seen.version + 1,
        ..seen
    };
    let outcome = tx.update_gallery(&theirs).await;
    assert!(
        matches!(outcome, Err(StoreError::Taken { .. })),
        "{outcome:?}"
    );
    drop(tx);
    let kept = stage.begin().await.gallery(mine.id).await.unwrap();
    assert_eq!(kept, Some(mine));
}

/// No gallery without its library, no photo without its gallery.
pub async fn nothing_stands_in_what_is_not_there<S: GallerySubject>(stage: &Stage<S>) {
    let nowhere = gallery(stage.env(), stage.id());
    let outcome = stage.begin().await.insert_gallery(&nowhere).await;
    assert!(is_dangling(&outcome), "{outcome:?}");
    let lost = photo(stage.env(), stage.id(), 1);
    let outcome = stage.begin().await.insert_photo(&lost).await;
    assert!(is_dangling(&outcome), "{outcome:?}");
}

/// A gallery's row stays while photos stand in it; they are taken together, and no other gallery's.
pub async fn a_gallery_goes_after_its_photos<S: GallerySubject>(stage: &Stage<S>) {
    let (one, two) = (furnished(stage).await, furnished(stage).await);
    let photos = [3, 4, 5].map(|size| photo(stage.env(), one.id, size));
    let elsewhere = photo(stage.env(), two.id, 6);
    let mut tx = stage.begin().await;
    for photo in photos.iter().chain([&elsewhere]) {
        tx.insert_photo(photo).await.unwrap();
    }
    tx.commit().await.unwrap();
    let outcome = stage.begin().await.delete_gallery(one.id).await;
    assert!(is_dangling(&outcome), "{outcome:?}");

    let mut tx = stage.begin().await;
    let mut taken = tx.take_photos_of(one.id).await.unwrap();
    taken.sort_unstable();
    let mut expected = photos.map(|p| (p.id, p.size_bytes));
    expected.sort_unstable();
    assert_eq!(taken, expected);
    assert_eq!(tx.take_photos_of(one.id).await.unwrap(), []);
    assert!(tx.delete_gallery(one.id).await.unwrap());
    assert!(!tx.delete_gallery(one.id).await.unwrap());
    assert_eq!(tx.photo(elsewhere.id).await.unwrap(), Some(elsewhere));
}

/// A photo is what was written, until it is deleted, and with it its use as a logo.
pub async fn a_photo_goes_with_its_use_as_a_logo<S: GallerySubject>(stage: &Stage<S>) {
    let gallery = furnished(stage).await;
    let full = Photo {
        width: Some(6000),
        height: Some(4000),
        orientation: Orientation::of_exif(6),
        taken_at: Some(gallery.created_at - TimeDelta::days(3)),
        sha256: [9; 32],
        ..photo(stage.env(), gallery.id, 7)
    };
    let plain = photo(stage.env(), gallery.id, 8);
    let mut tx = stage.begin().await;
    for photo in [&full, &plain] {
        tx.insert_photo(photo).await.unwrap();
        assert_eq!(tx.photo(photo.id).await.unwrap().as_ref(), Some(photo));
    }
    tx.put_branding(&brand(Some(full.id))).await.unwrap();
    assert_eq!(tx.delete_photos(&[plain.id]).await.unwrap(), 1);
    assert_eq!(tx.branding().await.unwrap(), Some(brand(Some(full.id))));
    assert_eq!(tx.delete_photos(&[full.id]).await.unwrap(), 1);
    assert_eq!(tx.branding().await.unwrap(), Some(brand(None)));
    assert_eq!(tx.delete_photos(&[full.id]).await.unwrap(), 0);
    assert_eq!(tx.photo(full.id).await.unwrap(), None);

    tx.insert_photo(&plain).await.unwrap();
    tx.put_branding(&brand(Some(plain.id))).await.unwrap();
    tx.take_photos_of(gallery.id).await.unwrap();
    assert_eq!(tx.branding().await.unwrap(), Some(brand(None)));
}

fn brand(logo_photo: Option<PhotoId>) -> Branding {
    Branding {
        display_name: "Studio".parse().unwrap(),
        primary_color: "#102030".parse().unwrap(),
        logo_photo,
        website: None,
    }
}

/// There is one branding, and the last one stands.
pub async fn branding_is_replaced<S: GallerySubject>(stage: &Stage<S>) {
    let mut tx = stage.begin().await;
    assert_eq!(tx.branding().await.unwrap(), None);
    tx.put_branding(&brand(None)).await.unwrap();
    let other = Branding {
        display_name: "Atelier".parse().unwrap(),
        website: Some("https://example.com".parse().unwrap()),
        ..brand(None)
    };
    tx.put_branding(&other).await.unwrap();
    assert_eq!(tx.branding().await.unwrap(), Some(other));
}

/// Photos are written over by later versions alone, and go together.
pub async fn photos_are_renamed_moved_rendered_and_deleted<S: GallerySubject>(stage: &Stage<S>) {
    let here = furnished(stage).await;
    let there = gallery(stage.env(), here.library);
    let photos = [5, 7].map(|size| photo(stage.env(), here.id, size));
    let mut tx = stage.begin().await;
    tx.insert_gallery(&there).await.unwrap();
    for photo in &photos {
        tx.insert_photo(photo).await.unwrap();
    }
    let mut after = photos.clone().map(|photo| Photo {
        filename: "Ärger.JPG".parse().unwrap(),
        gallery: there.id,
        updated_at: photo.updated_at + TimeDelta::seconds(1),
        version: 2,
        ..photo
    });
    tx.update_photos(&after).await.unwrap();
    let made = Rendition {
        width: 4,
        height: 3,
        size_bytes: 9,
        sha256: [7; 32],
    };
    let ready = Renditions::Ready {
        thumb: made,
        web: Rendition { width: 40, ..made },
    };
    assert!(tx.put_renditions(after[0].id, &ready).await.unwrap());
    let broken = Renditions::Impossible(Obstacle::Damaged);
    assert!(tx.put_renditions(after[1].id, &broken).await.unwrap());
    assert!(!tx.put_renditions(stage.id(), &broken).await.unwrap());
    (after[0].renditions, after[1].renditions) = (ready, broken);
    tx.commit().await.unwrap();

    let mut tx = stage.begin().await;
    let ids = [after[1].id, stage.id(), after[0].id];
    let mut found = tx.photos_among(&ids).await.unwrap();
    found.sort_by_key(|photo| photo.size_bytes);
    assert_eq!(found, after);
    let outcome = tx.update_photos(&after[..1]).await;
    assert!(
        matches!(outcome, Err(StoreError::Taken { .. })),
        "the version is the same: {outcome:?}"
    );
    drop(tx);
    let mut tx = begin(&stage.store, &stage.other).await;
    assert_eq!(tx.photos_among(&ids).await.unwrap(), []);
    assert!(!tx.put_renditions(ids[0], &broken).await.unwrap());
    assert_eq!(tx.delete_photos(&ids).await.unwrap(), 0);
    drop(tx);
    let mut tx = stage.begin().await;
    assert_eq!(tx.delete_photos(&ids).await.unwrap(), 2);
    assert_eq!(tx.photos_among(&ids).await.unwrap(), []);
}

/// Neither read nor changed nor pointed at by its id alone.
pub async fn no_workspace_sees_anothers_rows<S: GallerySubject>(stage: &Stage<S>) {
    let mine = furnished(stage).await;
    let picture = photo(stage.env(), mine.id, 5);
    let mut tx = stage.begin().await;
    tx.insert_photo(&picture).await.unwrap();
    tx.put_branding(&brand(None)).await.unwrap();
    tx.commit().await.unwrap();

    let mut tx = begin(&stage.store, &stage.other).await;
    assert_eq!(tx.library(mine.library).await.unwrap(), None);
    assert_eq!(tx.gallery(mine.id).await.unwrap(), None);
    assert_eq!(tx.photo(picture.id).await.unwrap(), None);
    assert_eq!(tx.take_photos_of(mine.id).await.unwrap(), []);
    assert_eq!(tx.branding().await.unwrap(), None);
    let mut renamed = mine.clone();
    renamed.name = "Theirs".parse().unwrap();
    tx.update_gallery(&renamed).await.unwrap();
    assert_eq!(tx.delete_photos(&[picture.id]).await.unwrap(), 0);
    assert!(!tx.delete_gallery(mine.id).await.unwrap());
    tx.commit().await.unwrap();
    let mut tx = begin(&stage.store, &stage.other).await;
    let abroad = gallery(stage.env(), mine.library);
    let outcome = tx.insert_gallery(&abroad).await;
    assert!(is_dangling(&outcome), "{outcome:?}");
    drop(tx);

    let mut tx = stage.begin().await;
    assert_eq!(tx.gallery(mine.id).await.unwrap(), Some(mine));
    assert_eq!(tx.photo(picture.id).await.unwrap(), Some(picture));
    assert_eq!(tx.branding().await.unwrap(), Some(brand(None)));
}
