//! What this crate needs of a store. Every handle knows its workspace.

use std::future::Future;

use crate::id::{GalleryId, LibraryId, PhotoId};
use chrono::{DateTime, Utc};
use rawdrive_plans::{BeginError, PlansTx, UnitOfWork};
use rawdrive_tenancy_core::event::EventsTx;
use rawdrive_tenancy_core::job::JobsTx;
use rawdrive_tenancy_core::page::{Page, PageRequest};
use rawdrive_tenancy_core::{Env, StoreError, WorkspaceScope};
use rawdrive_usage::UsageTx;

use crate::analysis::{Analysis, PerceptualHash};
use crate::renditions::model::Renditions;
use crate::{
    Branding, Gallery, Library, ListedGallery, Opened, Opening, Photo, Title, open_together,
};

/// What became of a library that was to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LibraryDeletion {
    /// It is gone.
    Deleted,
    /// It holds galleries, soft-deleted ones included, and stays.
    NotEmpty,
    /// There is none.
    Missing,
}

/// Writes. The rows that a lookup returns are locked until the transaction ends, but for galleries and photos:
/// those are looked at before counters are taken, which are locked before rows. A gallery is written where
/// nobody else has written it meanwhile; a photo goes with its gallery's counter in hand.
pub trait GalleryTx {
    /// Adds a library. Whether it is the workspace's only one: of the others that were seen none is deleted before
    /// this transaction ends.
    fn insert_library(
        &mut self,
        library: &Library,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// A library.
    fn library(
        &mut self,
        id: LibraryId,
    ) -> impl Future<Output = Result<Option<Library>, StoreError>> + Send;
    /// Writes a library that was looked up in this transaction.
    fn update_library(
        &mut self,
        library: &Library,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Deletes a library that holds no gallery.
    fn delete_library(
        &mut self,
        id: LibraryId,
    ) -> impl Future<Output = Result<LibraryDeletion, StoreError>> + Send;
    /// Adds a gallery; [`StoreError::Dangling`] when its library is gone.
    fn insert_gallery(
        &mut self,
        gallery: &Gallery,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// A gallery, deleted ones included.
    fn gallery(
        &mut self,
        id: GalleryId,
    ) -> impl Future<Output = Result<Option<Gallery>, StoreError>> + Send;
    /// As [`gallery`](Self::gallery), for who is going to change it: of two at the same time, one follows the other and
    /// reads what that has written.
    fn gallery_to_change(
        &mut self,
        id: GalleryId,
    ) -> impl Future<Output = Result<Option<Gallery>, StoreError>> + Send;
    /// Writes a gallery that was looked up in this transaction, under a greater version;
    /// [`StoreError::Taken`] when another transaction has written it meanwhile.
    fn update_gallery(
        &mut self,
        gallery: &Gallery,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Deletes a gallery's row; its photos must be gone.
    fn delete_gallery(
        &mut self,
        id: GalleryId,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Adds a photo; [`StoreError::Dangling`] when its gallery is gone.
    fn insert_photo(
        &mut self,
        photo: &Photo,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// A photo, of deleted galleries too.
    fn photo(
        &mut self,
        id: PhotoId,
    ) -> impl Future<Output = Result<Option<Photo>, StoreError>> + Send;
    /// Those of the photos that are there, of deleted galleries too, in no order.
    fn photos_among(
        &mut self,
        ids: &[PhotoId],
    ) -> impl Future<Output = Result<Vec<Photo>, StoreError>> + Send;
    /// Writes the name, the gallery and the version of photos whose gallery's counter is held; [`StoreError::Taken`]
    /// where one is gone, or was written meanwhile.
    fn update_photos(
        &mut self,
        photos: &[Photo],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Writes what renditions a photo has, of deleted galleries too; false when the photo is gone.
    fn put_renditions(
        &mut self,
        photo: PhotoId,
        renditions: &Renditions,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Deletes photos' rows, and their use as a logo. Answers how many were there.
    fn delete_photos(
        &mut self,
        ids: &[PhotoId],
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;
    /// Deletes all rows of a gallery's photos and returns ids and sizes in bytes. The counter of its photos is
    /// locked first, so that none comes in meanwhile.
    fn take_photos_of(
        &mut self,
        gallery: GalleryId,
    ) -> impl Future<Output = Result<Vec<(PhotoId, u64)>, StoreError>> + Send;
    /// The branding, if it was ever saved.
    fn branding(&mut self) -> impl Future<Output = Result<Option<Branding>, StoreError>> + Send;
    /// Writes the branding.
    fn put_branding(
        &mut self,
        branding: &Branding,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// In which order libraries or galleries stand. Where names are the same, the one that was made first is before the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NameOrder {
    /// By name, whatever the case, instead of by when they were made.
    pub by_name: bool,
    /// The greatest first, and of the same name the one that was made last.
    pub descending: bool,
}

impl NameOrder {
    /// What something of this name is sorted by, as a text that [`NameListing::after_key`] takes.
    #[must_use]
    pub fn key_of(self, name: &Title) -> String {
        match self.by_name {
            true => name.folded(),
            // An id says when it was made.
            false => String::new(),
        }
    }
}

/// Which libraries or galleries a list shows, by their names, and in which order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NameListing {
    /// Those whose name holds this text, as [`Title::folded`] has it.
    pub name: Option<String>,
    /// The order.
    pub order: NameOrder,
    /// Where the page begins in that order: behind the one with this key and the page's id.
    pub after_key: Option<String>,
}

/// Which galleries a list shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GalleryFilter {
    /// Those of one library.
    pub library: Option<LibraryId>,
    /// The deleted ones instead of the others.
    pub deleted: bool,
    /// By their names, and in which order.
    pub listing: NameListing,
}

/// What a list of photos is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PhotoKey {
    /// When they were uploaded.
    #[default]
    Uploaded,
    /// Their names, whatever the case.
    FileName,
    /// When they were taken; of those that do not say it, when they were uploaded.
    Taken,
}

/// In which order a list of photos stands. Where the key is the same, the one that was uploaded first is before the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PhotoOrder {
    /// By what.
    pub by: PhotoKey,
    /// The greatest first, and of the same key the one that was uploaded last.
    pub descending: bool,
}

impl PhotoOrder {
    /// What a photo is sorted by, as a text that [`PhotoListing::after_key`] takes.
    #[must_use]
    pub fn key_of(self, photo: &Photo) -> String {
        match self.by {
            // An id says when it was made.
            PhotoKey::Uploaded => String::new(),
            PhotoKey::FileName => photo.filename.folded(),
            PhotoKey::Taken => photo.taken_or_uploaded_at().to_rfc3339(),
        }
    }
}

/// Which photos of a gallery a list shows, and in which order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PhotoListing {
    /// Those whose name holds this text, as [`FileName::folded`](crate::FileName::folded) has it.
    pub filename: Option<String>,
    /// Those that were taken then or later.
    pub taken_from: Option<DateTime<Utc>>,
    /// Those that were taken before.
    pub taken_before: Option<DateTime<Utc>>,
    /// The order.
    pub order: PhotoOrder,
    /// Where the page begins in that order: behind the photo with this key and the page's id.
    pub after_key: Option<String>,
}

/// Reads. Photos of a deleted gallery, and the gallery itself, are not found.
pub trait GalleryRead {
    /// A library.
    fn library(
        &self,
        id: LibraryId,
    ) -> impl Future<Output = Result<Option<Library>, StoreError>> + Send;
    /// Libraries.
    fn libraries(
        &self,
        listing: &NameListing,
        page: PageRequest,
    ) -> impl Future<Output = Result<Page<Library>, StoreError>> + Send;
    /// A gallery.
    fn gallery(
        &self,
        id: GalleryId,
    ) -> impl Future<Output = Result<Option<ListedGallery>, StoreError>> + Send;
    /// Galleries.
    fn galleries(
        &self,
        filter: &GalleryFilter,
        page: PageRequest,
    ) -> impl Future<Output = Result<Page<ListedGallery>, StoreError>> + Send;
    /// A photo.
    fn photo(&self, id: PhotoId) -> impl Future<Output = Result<Option<Photo>, StoreError>> + Send;
    /// A photo, of deleted galleries too.
    fn any_photo(
        &self,
        id: PhotoId,
    ) -> impl Future<Output = Result<Option<Photo>, StoreError>> + Send;
    /// A gallery's photos; nothing when there is no such gallery.
    fn photos(
        &self,
        gallery: GalleryId,
        listing: &PhotoListing,
        page: PageRequest,
    ) -> impl Future<Output = Result<Option<Page<Photo>>, StoreError>> + Send;
    /// The branding, if it was ever saved.
    fn branding(&self) -> impl Future<Output = Result<Option<Branding>, StoreError>> + Send;
}

/// Writes of analyses.
pub trait AnalysisTx {
    /// Writes a photo's analysis in the place of an earlier one; [`StoreError::Dangling`] when the photo
    /// is gone. It goes when the photo goes.
    fn put_analysis(
        &mut self,
        analysis: &Analysis,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Reads of analyses. Those of photos of a deleted gallery are not found.
pub trait AnalysisRead {
    /// A photo's analysis and its gallery, if it was ever analysed.
    fn analysis(
        &self,
        photo: PhotoId,
    ) -> impl Future<Output = Result<Option<(GalleryId, Analysis)>, StoreError>> + Send;
    /// The hashes of a gallery's analysed photos, in order of their ids, those after `after`.
    fn hashes(
        &self,
        gallery: GalleryId,
        after: Option<PhotoId>,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<(PhotoId, PerceptualHash)>, StoreError>> + Send;
}

/// A store whose transactions can carry an upload, or another protocol that holds quota meanwhile.
pub trait UploadStore: UnitOfWork<Tx: GalleryTx + UsageTx + PlansTx + EventsTx + JobsTx> {
    /// Opens an upload as [`open_together`] does; a store may do so together with others.
    fn open(
        &self,
        scope: &WorkspaceScope,
        env: &Env,
        opening: Opening,
    ) -> impl Future<Output = Result<Opened, BeginError>> + Send
    where
        Self: Sized,
    {
        async move {
            let opened = open_together(self, env, scope, &[opening]).await?;
            // One was asked for, and each is answered.
            Ok(opened.into_iter().next().unwrap_or(Opened::NoGallery))
        }
    }
}
