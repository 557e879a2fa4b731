//! A workspace with a gallery, and bodies in which things happen.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use chrono::TimeDelta;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use rawdrive_gallery::id::{GalleryId, PhotoId};
use rawdrive_gallery::testkit::{GalleryRows, gallery, library};
use rawdrive_gallery::{
    Blobs, BodyError, Companion, DeleteBlob, DeleteBlobs, Gallery, GalleryTx, Incoming, Length,
    MediaType, Photo, Piece, UploadEnded, UploadError, delete_gallery_permanently, receive,
};
use rawdrive_plans::{Limit, Override, PlansTx, Setting, UnitOfWork as _};
use rawdrive_tenancy_core::{Commit, Env, WorkspaceScope};
use rawdrive_testkit::{Faults, MemoryStore, MemoryTx, Rows, TestEnv, plan};
use rawdrive_usage::{QuotaKey, expire_overdue};

use crate::objects::FailingObjects;

/// What a TIFF begins with; its content is looked at no further.
const MAGIC: &[u8] = b"II*\0";

/// More than any upload here.
pub(crate) const MAX_BYTES: u64 = 4 << 20;

/// What happens while a body comes in.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Bytes(usize),
    /// Nothing comes for so many times ten seconds.
    Stall(u32),
    Break,
    DeleteGallery {
        permanent: bool,
    },
    /// The limit of stored bytes becomes this.
    Limit(u64),
    /// The hold is taken for dead.
    Expire,
}

#[derive(Clone)]
pub(crate) struct Studio {
    pub(crate) test_env: TestEnv,
    /// Never fails.
    pub(crate) store: MemoryStore,
    objects: Arc<InMemory>,
    pub(crate) scope: WorkspaceScope,
    pub(crate) gallery: Gallery,
}

impl Studio {
    pub(crate) async fn open() -> Self {
        let test_env = TestEnv::seeded(1);
        let env = test_env.env();
        let store = MemoryStore::new(env.clone());
        let limits = [(rawdrive_gallery::STORAGE_BYTES, Limit::AtMost(MAX_BYTES))];
        let scope = store.workspace(&plan(&limits)).await.unwrap();
        let shelf = library(env);
        let gallery = gallery(env, shelf.id);
        let mut tx = store.begin_despite_read_only(&scope).await;
        tx.insert_library(&shelf).await.unwrap();
        tx.insert_gallery(&gallery).await.unwrap();
        tx.commit().await.unwrap();
        Self {
            test_env,
            store,
            objects: Arc::default(),
            scope,
            gallery,
        }
    }

    pub(crate) fn env(&self) -> &Env {
        self.test_env.env()
    }

    /// What the gallery has committed.
    pub(crate) fn gallery_rows(&self) -> Arc<GalleryRows> {
        GalleryRows::of(&self.rows())
    }

    pub(crate) fn rows(&self) -> Arc<Rows> {
        self.store.rows(&self.scope)
    }

    pub(crate) async fn begin(&self) -> MemoryTx {
        self.store.begin(&self.scope).await.unwrap()
    }

    /// Blobs that fail as the faults say.
    pub(crate) fn blobs(&self, faults: Faults) -> Blobs {
        Blobs::over(Arc::new(FailingObjects {
            objects: self.objects.clone(),
            faults,
        }))
    }

    /// Uploads to a gallery what the steps bring, while store and blobs fail as the faults say.
    pub(crate) async fn upload(
        &self,
        gallery: GalleryId,
        steps: &[Step],
        announced: bool,
        faults: Faults,
        companion: impl Companion<MemoryTx, Photo>,
    ) -> Result<Photo, UploadError> {
        let size = content(steps).len() as u64;
        let incoming = Incoming {
            id: self.env().id(),
            gallery,
            filename: "a.tif".parse().unwrap(),
            media: MediaType::Tiff,
            length: if announced {
                Length::Exactly(size)
            } else {
                Length::AtMost(None)
            },
            max_bytes: MAX_BYTES,
        };
        let store = self.store.failing(faults.clone());
        receive(
            &store,
            &self.blobs(faults),
            self.env(),
            &self.scope,
            incoming,
            self.body(steps),
            companion,
        )
        .await
    }

    fn body(&self, steps: &[Step]) -> BoxStream<'static, Result<Bytes, BodyError>> {
        let studio = self.clone();
        let content = Bytes::from(content(steps));
        // They outlive the slice: the body is a stream of its own.
        let steps = VecDeque::from(steps.to_vec());
        let body = stream::unfold(
            (studio, content, steps),
            |(studio, mut content, mut steps)| async {
                loop {
                    match steps.pop_front()? {
                        Step::Bytes(n) => {
                            let chunk = content.split_to(n.max(MAGIC.len()).min(content.len()));
                            return Some((Ok(chunk), (studio, content, steps)));
                        }
                        Step::Break => {
                            return Some((Err(BodyError::Broken), (studio, content, steps)));
                        }
                        other => studio.happen(&other).await,
                    }
                }
            },
        );
        body.boxed()
    }

    async fn happen(&self, step: &Step) {
        match step {
            Step::Stall(times) => {
                for _ in 0..*times {
                    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
                    self.test_env.advance_leases(TimeDelta::seconds(10));
                }
            }
            Step::DeleteGallery { permanent } => {
                self.delete_gallery(self.gallery.id, *permanent).await;
            }
            Step::Limit(limit) => {
                let mut tx = self.begin().await;
                let setting =
                    Setting::Limit(rawdrive_gallery::STORAGE_BYTES, Limit::AtMost(*limit));
                let new = Override {
                    id: self.env().id(),
                    setting,
                    reason: "test".to_owned(),
                    until: None,
                };
                tx.add_override(&new).await.unwrap();
                tx.commit().await.unwrap();
            }
            Step::Expire => self.expire().await,
            Step::Bytes(_) | Step::Break => {}
        }
    }

    pub(crate) async fn delete_gallery(&self, id: GalleryId, permanent: bool) -> bool {
        let mut tx = self.begin().await;
        let existed = if permanent {
            delete_gallery_permanently(&mut tx, self.env(), id)
                .await
                .unwrap()
        } else if let Some(mut gallery) = tx.gallery(id).await.unwrap() {
            gallery.deleted_at = Some(self.env().now());
            gallery.version += 1;
            tx.update_gallery(&gallery).await.unwrap();
            true
        } else {
            false
        };
        tx.commit().await.unwrap();
        existed
    }

    async fn expire(&self) {
        self.test_env.advance_leases(TimeDelta::seconds(60));
        let mut tx = self.begin().await;
        expire_overdue(&mut tx, self.env()).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Lets every hold expire and every job run.
    pub(crate) async fn settle_down(&self) {
        self.expire().await;
        let blobs = self.blobs(Faults::default());
        for (work, _) in &self.rows().jobs {
            let one = work.as_kind().map(|DeleteBlob { photo }| photo);
            let ended = work.as_kind().map(UploadEnded::photo);
            let many = work.as_kind().map(|DeleteBlobs { photos }| photos);
            for photo in one
                .into_iter()
                .chain(ended)
                .chain(many.into_iter().flatten())
            {
                blobs.delete(&self.scope, photo).await.unwrap();
            }
        }
    }

    /// The bytes that lie in the store under a photo's id.
    pub(crate) async fn bytes_of(&self, photo: PhotoId) -> Vec<u8> {
        let blobs = self.blobs(Faults::default());
        let original = Piece::original(photo);
        let (_, bytes) = blobs.read(&self.scope, original, None).await.unwrap();
        let chunks: Vec<Bytes> = bytes.try_collect().await.unwrap();
        chunks.concat()
    }

    /// Usage is what the photos' rows say, and nothing lies in the store that has no row.
    pub(crate) async fn check(&self) {
        let (rows, kept) = (self.rows(), self.gallery_rows());
        assert_eq!(rows.discrepancies(), [""; 0]);
        let used = |key: &QuotaKey| rows.quotas.get(key).map_or(0, |row| row.used);
        let bytes: u64 = kept.photos.values().map(|p| p.size_bytes).sum();
        assert_eq!(
            used(&QuotaKey::level(rawdrive_gallery::STORAGE_BYTES)),
            bytes
        );
        for key in rows
            .quotas
            .keys()
            .filter(|key| key.metric == rawdrive_gallery::PHOTOS)
        {
            let inside = |photo: &&Photo| photo.gallery.to_string() == key.subject;
            let count = kept.photos.values().filter(inside).count();
            assert_eq!(used(key), count as u64);
        }
        assert!(
            rows.quotas.values().all(|row| row.reserved == 0),
            "{:?}",
            rows.quotas
        );
        let stored = self
            .blobs(Faults::default())
            .list(&self.scope)
            .await
            .unwrap();
        let mut stored: Vec<_> = stored
            .iter()
            .map(|b| (b.piece.unwrap().photo, b.size_bytes))
            .collect();
        stored.sort_unstable();
        let photos = kept.photos.values();
        let expected: Vec<_> = photos.map(|p| (p.id, p.size_bytes)).collect();
        assert_eq!(stored, expected);
    }
}

/// Everything that the steps bring.
pub(crate) fn content(steps: &[Step]) -> Vec<u8> {
    let size: usize = steps
        .iter()
        .map(|step| match step {
            Step::Bytes(n) => (*n).max(MAGIC.len()),
            _ => 0,
        })
        .sum();
    let noise = (MAGIC.len()..size).map(|i| (i % 251) as u8);
    let magic = MAGIC.iter().copied().take(size);
    magic.chain(noise).collect()
}
