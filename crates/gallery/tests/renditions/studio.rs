//! A workspace, its blobs, and who makes renditions.

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use rawdrive_gallery::analysis::Decoders;
use rawdrive_gallery::renditions::{Rendition, RenditionMaker, RenditionName, Renditions};
use rawdrive_gallery::testkit::photo;
use rawdrive_gallery::{Blobs, Photo, Piece};
use rawdrive_tenancy_core::WorkspaceScope;
use rawdrive_testkit::{MemoryStore, TestEnv, plan};

pub(crate) struct Studio {
    test_env: TestEnv,
    scope: WorkspaceScope,
    blobs: Blobs,
    maker: RenditionMaker,
}

impl Studio {
    pub(crate) async fn open() -> Self {
        let test_env = TestEnv::seeded(1);
        let store = MemoryStore::new(test_env.env().clone());
        let scope = store.workspace(&plan(&[])).await.unwrap();
        let blobs = Blobs::in_memory();
        let maker = RenditionMaker::new(blobs.clone(), Decoders::with_threads(2));
        Self {
            test_env,
            scope,
            blobs,
            maker,
        }
    }

    /// A photo whose bytes are stored.
    pub(crate) async fn stored(&self, content_type: &str, bytes: &[u8]) -> Photo {
        let env = self.test_env.env();
        let photo = Photo {
            content_type: content_type.to_owned(),
            ..photo(env, env.id(), bytes.len() as u64)
        };
        let mut writer = self.blobs.create(&self.scope, photo.id).await.unwrap();
        writer.write(Bytes::copy_from_slice(bytes)).await.unwrap();
        writer.finish().await.unwrap();
        photo
    }

    pub(crate) async fn make(&self, photo: &Photo, attempts: u32) -> Renditions {
        let made = self.maker.make(&self.scope, photo, attempts).await;
        made.unwrap()
    }

    /// A photo, and what renditions were made of it.
    pub(crate) async fn made(&self, content_type: &str, bytes: &[u8]) -> Photo {
        let photo = self.stored(content_type, bytes).await;
        let renditions = self.make(&photo, 1).await;
        Photo {
            renditions,
            ..photo
        }
    }

    /// A rendition that must be there, and its bytes.
    pub(crate) async fn rendition(
        &self,
        photo: &Photo,
        name: RenditionName,
    ) -> (Rendition, Vec<u8>) {
        let Some(rendition) = photo.renditions.get(name) else {
            panic!("there is no {name}: {:?}", photo.renditions);
        };
        let piece = Piece {
            photo: photo.id,
            rendition: Some(name),
        };
        let (size, stream) = self.blobs.read(&self.scope, piece, None).await.unwrap();
        let bytes: Vec<_> = stream.try_collect().await.unwrap();
        let bytes = bytes.concat();
        assert_eq!((size, bytes.len() as u64), (rendition.size_bytes, size));
        (*rendition, bytes)
    }

    /// The names of a photo's blobs but for its original.
    pub(crate) async fn renditions_of(&self, photo: &Photo) -> Vec<String> {
        let blobs = self.blobs.list(&self.scope).await.unwrap();
        let of_it = blobs.into_iter().filter_map(|blob| blob.piece);
        let of_it = of_it.filter(|p| p.photo == photo.id && p.rendition.is_some());
        of_it.map(Piece::name).collect()
    }
}
