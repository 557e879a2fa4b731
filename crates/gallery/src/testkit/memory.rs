//! Libraries, galleries, photos and branding, in the store in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rawdrive_tenancy_core::StoreError;
use rawdrive_testkit::{MemoryTx, Rows};

use crate::id::{ClientId, GalleryId, LibraryId, PhotoId};
use crate::renditions::model::Renditions;
use crate::{Branding, Client, Gallery, GalleryTx, Library, LibraryDeletion, Photo};

/// What the gallery keeps of one workspace.
#[derive(Debug, Clone, Default)]
pub struct GalleryRows {
    /// Libraries.
    pub libraries: BTreeMap<LibraryId, Library>,
    /// Galleries, deleted ones too.
    pub galleries: BTreeMap<GalleryId, Gallery>,
    /// Photos.
    pub photos: BTreeMap<PhotoId, Photo>,
    /// The branding, if it was ever saved.
    pub branding: Option<Branding>,
    /// Clients.
    pub clients: BTreeMap<ClientId, Client>,
    /// Who sees which gallery.
    pub seen_by: BTreeSet<(GalleryId, ClientId)>,
}

impl GalleryRows {
    /// What is committed of them.
    #[must_use]
    pub fn of(rows: &Rows) -> Arc<Self> {
        rows.slots.get()
    }
}

impl GalleryTx for MemoryTx {
    async fn insert_library(&mut self, library: &Library) -> Result<bool, StoreError> {
        const OPERATION: &str = "insert a library";
        self.change_slot(OPERATION, |rows: &mut GalleryRows| {
            insert(&mut rows.libraries, library.id, library, OPERATION)?;
            Ok(rows.libraries.len() == 1)
        })
    }

    async fn library(&mut self, id: LibraryId) -> Result<Option<Library>, StoreError> {
        Ok(self
            .slot::<GalleryRows>("read a library")?
            .libraries
            .get(&id)
            .cloned())
    }

    async fn update_library(&mut self, library: &Library) -> Result<(), StoreError> {
        self.change_slot("update a library", |rows: &mut GalleryRows| {
            if let Some(row) = rows.libraries.get_mut(&library.id) {
                // When it was made never changes.
                *row = Library {
                    created_at: row.created_at,
                    ..library.clone()
                };
            }
            Ok(())
        })
    }

    async fn delete_library(&mut self, id: LibraryId) -> Result<LibraryDeletion, StoreError> {
        self.change_slot("delete a library", |rows: &mut GalleryRows| {
            if rows.galleries.values().any(|g| g.library == id) {
                return Ok(LibraryDeletion::NotEmpty);
            }
            Ok(match rows.libraries.remove(&id) {
                Some(_) => LibraryDeletion::Deleted,
                None => LibraryDeletion::Missing,
            })
        })
    }

    async fn insert_gallery(&mut self, gallery: &Gallery) -> Result<(), StoreError> {
        const OPERATION: &str = "insert a gallery";
        self.change_slot(OPERATION, |rows: &mut GalleryRows| {
            if !rows.libraries.contains_key(&gallery.library) {
                return Err(StoreError::Dangling {
                    operation: OPERATION,
                });
            }
            insert(&mut rows.galleries, gallery.id, gallery, OPERATION)
        })
    }

    async fn gallery(&mut self, id: GalleryId) -> Result<Option<Gallery>, StoreError> {
        Ok(self
            .slot::<GalleryRows>("read a gallery")?
            .galleries
            .get(&id)
            .cloned())
    }

    async fn gallery_to_change(&mut self, id: GalleryId) -> Result<Option<Gallery>, StoreError> {
        self.gallery(id).await
    }

    async fn update_gallery(&mut self, gallery: &Gallery) -> Result<(), StoreError> {
        const OPERATION: &str = "update a gallery";
        self.change_slot(OPERATION, |rows: &mut GalleryRows| {
            let Some(row) = rows.galleries.get_mut(&gallery.id) else {
                return Ok(());
            };
            if !rows.libraries.contains_key(&gallery.library) {
                return Err(StoreError::Dangling {
                    operation: OPERATION,
                });
            }
            if row.version >= gallery.version {
                return Err(StoreError::Taken {
                    operation: OPERATION,
                });
            }
            *row = Gallery {
                created_at: row.created_at,
                ..gallery.clone()
            };
            Ok(())
        })
    }

    async fn delete_gallery(&mut self, id: GalleryId) -> Result<bool, StoreError> {
        const OPERATION: &str = "delete a gallery";
        self.change_slot(OPERATION, |rows: &mut GalleryRows| {
            if rows.photos.values().any(|p| p.gallery == id) {
                return Err(StoreError::Dangling {
                    operation: OPERATION,
                });
            }
            rows.seen_by.retain(|(gallery, _)| *gallery != id);
            Ok(rows.galleries.remove(&id).is_some())
        })
    }

    async fn insert_photo(&mut self, photo: &Photo) -> Result<(), StoreError> {
        const OPERATION: &str = "insert a photo";
        self.change_slot(OPERATION, |rows: &mut GalleryRows| {
            if !rows.galleries.contains_key(&photo.gallery) {
                return Err(StoreError::Dangling {
                    operation: OPERATION,
                });
            }
            insert(&mut rows.photos, photo.id, photo, OPERATION)
        })
    }

    async fn photo(&mut self, id: PhotoId) -> Result<Option<Photo>, StoreError> {
        Ok(self
            .slot::<GalleryRows>("read a photo")?
            .photos
            .get(&id)
            .cloned())
    }

    async fn photos_among(&mut self, ids: &[PhotoId]) -> Result<Vec<Photo>, StoreError> {
        let rows = self.slot::<GalleryRows>("read photos")?;
        let ids: BTreeSet<_> = ids.iter().collect();
        let found = ids.into_iter().filter_map(|id| rows.photos.get(id));
        Ok(found.cloned().collect())
    }

    async fn update_photos(&mut self, photos: &[Photo]) -> Result<(), StoreError> {
        const OPERATION: &str = "update photos";
        self.change_slot(OPERATION, |rows: &mut GalleryRows| {
            for photo in photos {
                if !rows.galleries.contains_key(&photo.gallery) {
                    return Err(StoreError::Dangling {
                        operation: OPERATION,
                    });
                }
                let row = rows.photos.get_mut(&photo.id);
                let Some(row) = row.filter(|row| row.version < photo.version) else {
                    return Err(StoreError::Taken {
                        operation: OPERATION,
                    });
                };
                row.filename = photo.filename.clone();
                row.gallery = photo.gallery;
                row.updated_at = photo.updated_at;
                row.version = photo.version;
            }
            Ok(())
        })
    }

    async fn put_renditions(
        &mut self,
        photo: PhotoId,
        renditions: &Renditions,
    ) -> Result<bool, StoreError> {
        self.change_slot("record renditions", |rows: &mut GalleryRows| {
            let row = rows.photos.get_mut(&photo);
            Ok(row.map(|row| row.renditions = *renditions).is_some())
        })
    }

    async fn delete_photos(&mut self, ids: &[PhotoId]) -> Result<u64, StoreError> {
        self.change_slot("delete photos", |rows: &mut GalleryRows| {
            forget_logo(rows, |logo| ids.contains(&logo));
            let before = rows.photos.len();
            rows.photos.retain(|id, _| !ids.contains(id));
            Ok((before - rows.photos.len()) as u64)
        })
    }

    async fn take_photos_of(
        &mut self,
        gallery: GalleryId,
    ) -> Result<Vec<(PhotoId, u64)>, StoreError> {
        self.change_slot("delete a gallery's photos", |rows: &mut GalleryRows| {
            let inside = rows.photos.values().filter(|p| p.gallery == gallery);
            let taken: Vec<_> = inside.map(|p| (p.id, p.size_bytes)).collect();
            forget_logo(rows, |logo| taken.iter().any(|(id, _)| *id == logo));
            rows.photos.retain(|_, photo| photo.gallery != gallery);
            Ok(taken)
        })
    }

    async fn branding(&mut self) -> Result<Option<Branding>, StoreError> {
        Ok(self
            .slot::<GalleryRows>("read the branding")?
            .branding
            .clone())
    }

    async fn put_branding(&mut self, branding: &Branding) -> Result<(), StoreError> {
        self.change_slot("save the branding", |rows: &mut GalleryRows| {
            rows.branding = Some(branding.clone());
            Ok(())
        })
    }
}

pub(super) fn insert<K: Ord, V: Clone>(
    rows: &mut BTreeMap<K, V>,
    id: K,
    row: &V,
    operation: &'static str,
) -> Result<(), StoreError> {
    match rows.insert(id, row.clone()) {
        None => Ok(()),
        Some(_) => Err(StoreError::Taken { operation }),
    }
}

fn forget_logo(rows: &mut GalleryRows, gone: impl Fn(PhotoId) -> bool) {
    if let Some(branding) = &mut rows.branding {
        branding.logo_photo = branding.logo_photo.filter(|logo| !gone(*logo));
    }
}
