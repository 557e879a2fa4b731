//! Bytes in an object store, each under its workspace's prefix.

use std::fmt;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use crate::id::PhotoId;
use crate::renditions::model::RenditionName;
use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutPayload,
};
use rawdrive_tenancy_core::WorkspaceScope;
use rawdrive_tenancy_core::id::WorkspaceId;
use uuid::Uuid;

/// The name of the file that marks a blob store, beside the workspaces' prefixes.
const MARK: &str = "rawdrive-blobs.mark";

/// Bytes gathered before they are written. With one part in flight, an upload holds at most two of them.
const PART_BYTES: usize = 256 * 1024;

/// A failure of the object store. What it says stays in the log: it may name paths.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The store does not answer, or has no room.
    #[error("failed to {operation}: the object store is unavailable")]
    Unavailable {
        /// What was being done.
        operation: &'static str,
        /// The store's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no such blob.
    #[error("there is no such blob")]
    Missing,
}

impl BlobError {
    /// Whether there was no room to write.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<std::io::Error>() {
                use std::io::ErrorKind::{QuotaExceeded, StorageFull};
                return matches!(error.kind(), StorageFull | QuotaExceeded);
            }
            cause = error.source();
        }
        false
    }

    fn of(operation: &'static str) -> impl Fn(object_store::Error) -> Self + Send {
        move |error| match error {
            object_store::Error::NotFound { .. } => Self::Missing,
            other => Self::Unavailable {
                operation,
                source: Box::new(other),
            },
        }
    }
}

/// What a database knows its blob store by: the store holds it in a small file. Two servers that share a database but
/// not the blobs would each delete only what lies at home, and leave the rest behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobMark(Uuid);

impl BlobMark {
    /// The mark of this number.
    #[must_use]
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// Its number.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for BlobMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// The mark's file holds something else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 hex digits in the first line of {MARK}")]
pub struct NoMark;

/// Below a workspace's prefix: the originals, each under its photo's id.
const PHOTOS: &str = "photos";
/// And the renditions, each under its photo's id and its own name.
const RENDITIONS: &str = "renditions";

/// A photo's original, or one of its renditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Piece {
    /// The photo.
    pub photo: PhotoId,
    /// Which rendition; nothing for the original.
    pub rendition: Option<RenditionName>,
}

impl Piece {
    /// A photo's original.
    #[must_use]
    pub const fn original(photo: PhotoId) -> Self {
        Self {
            photo,
            rendition: None,
        }
    }

    /// The name that the piece's blob has: a [`StoredBlob::name`].
    #[must_use]
    pub fn name(self) -> String {
        match self.rendition {
            None => self.photo.to_string(),
            Some(rendition) => format!("{RENDITIONS}/{}.{rendition}", self.photo),
        }
    }

    /// The piece whose blob has this name.
    fn named(name: &str) -> Option<Self> {
        let Some(name) = name
            .strip_prefix(RENDITIONS)
            .and_then(|n| n.strip_prefix('/'))
        else {
            return name.parse().ok().map(Self::original);
        };
        let (photo, rendition) = name.split_once('.')?;
        Some(Self {
            photo: photo.parse().ok()?,
            rendition: Some(rendition.parse().ok()?),
        })
    }
}

/// A blob as it lies in the store, for checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlob {
    /// Its name: an original's as it is, a rendition's with `renditions/` before it.
    pub name: String,
    /// What its name says that it is, or nothing for a name that is none of ours.
    pub piece: Option<Piece>,
    /// Bytes.
    pub size_bytes: u64,
    /// Whether it is the beginning of what is not complete.
    pub partial: bool,
}

impl StoredBlob {
    fn named(name: &str, size_bytes: u64) -> Self {
        let (whole, partial) = name
            .split_once('#')
            .map_or((name, false), |(whole, _)| (whole, true));
        Self {
            name: name.to_owned(),
            piece: Piece::named(whole),
            size_bytes,
            partial,
        }
    }
}

/// What lies in the store beside the photos of known workspaces, for checks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layout {
    /// Workspaces that have a prefix of their own, by their names.
    pub workspaces: Vec<WorkspaceId>,
    /// Paths of what lies where nothing of ours does; a folder's ends with a slash.
    pub strays: Vec<String>,
}

/// The photos' bytes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    /// The root of a store of plain files, whose unfinished uploads only the file system can see.
    root: Option<PathBuf>,
}

impl Blobs {
    /// Files below a directory, durable when they are acknowledged.
    ///
    /// # Errors
    /// The directory cannot be made or used.
    pub fn local(root: &FilePath) -> Result<Self, BlobError> {
        let broken = |source| BlobError::Unavailable {
            operation: "make the photos' directory",
            source,
        };
        std::fs::create_dir_all(root).map_err(|e| broken(Box::new(e)))?;
        let root = root.canonicalize().map_err(|e| broken(Box::new(e)))?;
        // Without fsync a photo would be less durable than its row.
        let store = LocalFileSystem::new_with_prefix(&root)
            .map_err(|e| broken(Box::new(e)))?
            .with_fsync(true);
        Ok(Self {
            store: Arc::new(store),
            root: Some(root),
        })
    }

    /// Memory, for tests.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::over(Arc::new(object_store::memory::InMemory::new()))
    }

    /// Any object store: what an embedder brings along, or a test that lets one fail.
    #[must_use]
    pub fn over(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, root: None }
    }

    fn prefix(scope: &WorkspaceScope, of: &str) -> Path {
        Path::from_iter([
            "workspaces".to_owned(),
            scope.workspace().to_string(),
            of.to_owned(),
        ])
    }

    fn key(scope: &WorkspaceScope, photo: PhotoId) -> Path {
        Self::prefix(scope, PHOTOS).join(photo.to_string().as_str())
    }

    fn rendition_key(scope: &WorkspaceScope, photo: PhotoId, name: RenditionName) -> Path {
        let name = format!("{photo}.{name}");
        Self::prefix(scope, RENDITIONS).join(name.as_str())
    }

    /// Begins to write a photo's bytes; nothing is visible before [`BlobWriter::finish`].
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn create(
        &self,
        scope: &WorkspaceScope,
        photo: PhotoId,
    ) -> Result<BlobWriter, BlobError> {
        let upload = self
            .store
            .put_multipart(&Self::key(scope, photo))
            .await
            .map_err(BlobError::of("begin a blob"))?;
        Ok(BlobWriter {
            upload,
            pending: BytesMut::new(),
            hash: Context::new(&SHA256),
        })
    }

    /// Reads a range of a piece's bytes as a stream, and says how many bytes the whole piece has.
    ///
    /// # Errors
    /// There is no such blob, or the store is unavailable.
    pub async fn read(
        &self,
        scope: &WorkspaceScope,
        piece: Piece,
        range: Option<Range<u64>>,
    ) -> Result<(u64, BoxStream<'static, Result<Bytes, BlobError>>), BlobError> {
        let options = GetOptions {
            range: range.map(GetRange::Bounded),
            ..GetOptions::default()
        };
        let key = match piece.rendition {
            None => Self::key(scope, piece.photo),
            Some(name) => Self::rendition_key(scope, piece.photo, name),
        };
        let got = self.store.get_opts(&key, options).await;
        let got = got.map_err(BlobError::of("read a blob"))?;
        let size = got.meta.size;
        let stream = got.into_stream().map_err(BlobError::of("read a blob"));
        Ok((size, stream.boxed()))
    }

    /// Stores a rendition's bytes in the place of those that are there. Readers see the ones or the others.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn put_rendition(
        &self,
        scope: &WorkspaceScope,
        photo: PhotoId,
        name: RenditionName,
        bytes: Bytes,
    ) -> Result<(), BlobError> {
        let key = Self::rendition_key(scope, photo, name);
        // What a killed process has left would be left for ever: the store would begin a file of another name.
        self.delete_staged(&key).await?;
        let put = self.store.put(&key, PutPayload::from(bytes)).await;
        put.map(drop).map_err(BlobError::of("store a rendition"))
    }

    /// Deletes a photo's renditions, finished or not. Deleting what is not there succeeds.
    ///
    /// # Errors
    /// The store is unavailable; one may be deleted.
    pub async fn delete_renditions(
        &self,
        scope: &WorkspaceScope,
        photo: PhotoId,
    ) -> Result<(), BlobError> {
        for name in RenditionName::ALL {
            let key = Self::rendition_key(scope, photo, name);
            self.delete_key(&key).await?;
        }
        Ok(())
    }

    /// Deletes a photo's bytes, finished or not, and its renditions. Deleting what is not there succeeds.
    ///
    /// # Errors
    /// The store is unavailable; some may be deleted.
    pub async fn delete(&self, scope: &WorkspaceScope, photo: PhotoId) -> Result<(), BlobError> {
        self.delete_renditions(scope, photo).await?;
        self.delete_key(&Self::key(scope, photo)).await
    }

    async fn delete_key(&self, key: &Path) -> Result<(), BlobError> {
        match self
            .store
            .delete(key)
            .await
            .map_err(BlobError::of("delete a blob"))
        {
            Ok(()) | Err(BlobError::Missing) => {}
            Err(error) => return Err(error),
        }
        self.delete_staged(key).await
    }

    /// A killed process leaves the file that a blob was staged in.
    async fn delete_staged(&self, key: &Path) -> Result<(), BlobError> {
        let Some(root) = &self.root else {
            return Ok(());
        };
        match tokio::fs::remove_file(root.join(format!("{key}#1"))).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(BlobError::Unavailable {
                    operation: "delete a blob",
                    source: Box::new(error),
                })
            }
            _ => Ok(()),
        }
    }

    /// Deletes the bytes of many photos whose upload was finished, and their renditions, in bulk where the store can.
    /// Deleting what is not there succeeds.
    ///
    /// # Errors
    /// The store is unavailable; some may be deleted.
    pub async fn delete_all(
        &self,
        scope: &WorkspaceScope,
        photos: &[PhotoId],
    ) -> Result<(), BlobError> {
        let keys = photos.iter().flat_map(|photo| {
            let renditions = RenditionName::ALL.into_iter();
            let renditions = renditions.map(|name| Self::rendition_key(scope, *photo, name));
            renditions.chain([Self::key(scope, *photo)]).map(Ok)
        });
        let keys: Vec<_> = keys.collect();
        let mut deleted = self.store.delete_stream(stream::iter(keys).boxed());
        while let Some(outcome) = deleted.next().await {
            match outcome.map_err(BlobError::of("delete blobs")) {
                Ok(_) | Err(BlobError::Missing) => {}
                Err(error) => return Err(error),
            }
        }
        // What was being made when the photo went.
        for photo in photos {
            for name in RenditionName::ALL {
                let key = Self::rendition_key(scope, *photo, name);
                self.delete_staged(&key).await?;
            }
        }
        Ok(())
    }

    /// Everything that lies under the scope's prefix, originals and renditions. What comes or goes meanwhile may be missed:
    /// [`Blobs::stored`] says of one name whether it is there.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn list(&self, scope: &WorkspaceScope) -> Result<Vec<StoredBlob>, BlobError> {
        let mut found = self.list_in(&Self::prefix(scope, PHOTOS), "").await?;
        let renditions = Self::prefix(scope, RENDITIONS);
        found.extend(self.list_in(&renditions, "renditions/").await?);
        Ok(found)
    }

    async fn list_in(&self, prefix: &Path, before: &str) -> Result<Vec<StoredBlob>, BlobError> {
        let broken = |source| BlobError::Unavailable {
            operation: "list blobs",
            source,
        };
        let named = |name: &str, size| StoredBlob::named(&format!("{before}{name}"), size);
        let Some(root) = &self.root else {
            let listed = self
                .store
                .list(Some(prefix))
                .try_collect::<Vec<_>>()
                .await
                .map_err(BlobError::of("list blobs"))?;
            return Ok(listed
                .iter()
                .map(|m| named(m.location.filename().unwrap_or_default(), m.size))
                .collect());
        };
        let mut entries = match tokio::fs::read_dir(root.join(prefix.as_ref())).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(broken(Box::new(error))),
        };
        let mut found = Vec::new();
        while let Some(entry) = entries
            .next_entry()
            .await
            .map_err(|e| broken(Box::new(e)))?
        {
            let size = entry.metadata().await.map_or(0, |m| m.len());
            found.push(named(&entry.file_name().to_string_lossy(), size));
        }
        Ok(found)
    }

    /// What lies under a [`StoredBlob::name`], now.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn stored(
        &self,
        scope: &WorkspaceScope,
        name: &str,
    ) -> Result<Option<StoredBlob>, BlobError> {
        let (of, file) = match name.strip_prefix("renditions/") {
            Some(file) => (RENDITIONS, file),
            None => (PHOTOS, name),
        };
        let prefix = Self::prefix(scope, of);
        if let Some(root) = &self.root {
            let path = root.join(prefix.as_ref()).join(file);
            return match tokio::fs::symlink_metadata(path).await {
                Ok(metadata) => Ok(Some(StoredBlob::named(name, metadata.len()))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(BlobError::Unavailable {
                    operation: "look for a blob",
                    source: Box::new(error),
                }),
            };
        }
        // As it was listed: another constructor would escape what is escaped.
        let Ok(path) = Path::parse(format!("{prefix}/{file}")) else {
            return Ok(None);
        };
        match self
            .store
            .head(&path)
            .await
            .map_err(BlobError::of("look for a blob"))
        {
            Ok(found) => Ok(Some(StoredBlob::named(name, found.size))),
            Err(BlobError::Missing) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Which workspaces have a prefix, and what lies outside of all.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn layout(&self) -> Result<Layout, BlobError> {
        let mut layout = Layout::default();
        for name in self.children("").await? {
            match name.as_str() {
                "workspaces/" => {}
                // And what it is written to before it has its name.
                mark if mark.starts_with(MARK) => {}
                _ => layout.strays.push(name),
            }
        }
        for name in self.children("workspaces/").await? {
            let path = format!("workspaces/{name}");
            let workspace = name.strip_suffix('/').and_then(|name| name.parse().ok());
            let Some(workspace) = workspace else {
                layout.strays.push(path);
                continue;
            };
            layout.workspaces.push(workspace);
            let within = self.children(&path).await?.into_iter();
            let strays = within.filter(|name| name != "photos/" && name != "renditions/");
            layout
                .strays
                .extend(strays.map(|name| format!("{path}{name}")));
        }
        Ok(layout)
    }

    /// The names at a place that is the root or ends with a slash; those of prefixes end with a slash themselves.
    async fn children(&self, place: &str) -> Result<Vec<String>, BlobError> {
        let operation = "list blobs";
        let Some(root) = &self.root else {
            let prefix = Path::from(place);
            let listed = self.store.list_with_delimiter(Some(&prefix)).await;
            let listed = listed.map_err(BlobError::of(operation))?;
            let name = |path: &Path| path.filename().unwrap_or_default().to_owned();
            let files = listed.objects.iter().map(|object| name(&object.location));
            let prefixes = listed.common_prefixes.iter();
            let prefixes = prefixes.map(|path| format!("{}/", name(path)));
            return Ok(files.chain(prefixes).collect());
        };
        // The file system itself: its files may have names that an object cannot have.
        let broken = |source| BlobError::Unavailable {
            operation,
            source: Box::<dyn std::error::Error + Send + Sync>::from(source),
        };
        let mut names = Vec::new();
        let mut entries = match tokio::fs::read_dir(root.join(place)).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(names),
            Err(error) => return Err(broken(error)),
        };
        while let Some(entry) = entries.next_entry().await.map_err(broken)? {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_folder = entry.file_type().await.is_ok_and(|kind| kind.is_dir());
            names.push(if is_folder { format!("{name}/") } else { name });
        }
        Ok(names)
    }

    /// Where the store is, for messages.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.root {
            Some(root) => root.display().to_string(),
            None => self.store.to_string(),
        }
    }

    /// The store's mark, if it has one.
    ///
    /// # Errors
    /// The store is unavailable, or the mark's file holds something else.
    pub async fn mark(&self) -> Result<Option<BlobMark>, BlobError> {
        let operation = "read the blob store's mark";
        let got = match self
            .store
            .get(&Path::from(MARK))
            .await
            .map_err(BlobError::of(operation))
        {
            Ok(got) => got.bytes().await.map_err(BlobError::of(operation))?,
            Err(BlobError::Missing) => return Ok(None),
            Err(error) => return Err(error),
        };
        let first = got.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let uuid = Uuid::try_parse_ascii(first.trim_ascii());
        uuid.map(|uuid| Some(BlobMark(uuid)))
            .map_err(|_| BlobError::Unavailable {
                operation,
                source: Box::new(NoMark),
            })
    }

    /// Marks the store, unless it is marked: answers the mark that it then has. Several may do so at once, and all are
    /// answered the same.
    ///
    /// # Errors
    /// The store is unavailable, or the mark's file holds something else.
    pub async fn mark_once(&self, mark: BlobMark) -> Result<BlobMark, BlobError> {
        match self.write_mark(mark, PutMode::Create).await {
            Ok(()) => Ok(mark),
            Err(object_store::Error::AlreadyExists { .. }) => {
                Ok(self.mark().await?.ok_or(BlobError::Missing)?)
            }
            Err(error) => Err(BlobError::of("mark the blob store")(error)),
        }
    }

    /// Marks the store, whatever mark it had.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn mark_anew(&self, mark: BlobMark) -> Result<(), BlobError> {
        self.write_mark(mark, PutMode::Overwrite)
            .await
            .map_err(BlobError::of("mark the blob store"))
    }

    async fn write_mark(&self, mark: BlobMark, mode: PutMode) -> object_store::Result<()> {
        let text = format!(
            "{mark}\nThe database of this RawDrive installation knows its blobs by this mark. Back it up with them.\n"
        );
        let written = self
            .store
            .put_opts(&Path::from(MARK), PutPayload::from(text), mode.into())
            .await;
        written.map(drop)
    }

    /// Whether the store answers: a look-up of a name that is not there.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn ping(&self) -> Result<(), BlobError> {
        if let Some(root) = &self.root {
            return tokio::fs::metadata(root).await.map(|_| ()).map_err(|e| {
                BlobError::Unavailable {
                    operation: "reach the photos' directory",
                    source: Box::new(e),
                }
            });
        }
        match self
            .store
            .head(&Path::from("ping"))
            .await
            .map_err(BlobError::of("reach the object store"))
        {
            Ok(_) | Err(BlobError::Missing) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Writes one blob, hashing as it goes. Dropped without [`BlobWriter::finish`], it leaves nothing visible.
pub struct BlobWriter {
    upload: Box<dyn MultipartUpload>,
    pending: BytesMut,
    hash: Context,
}

impl std::fmt::Debug for BlobWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobWriter").finish_non_exhaustive()
    }
}

impl BlobWriter {
    /// Takes the next bytes; returns when the store has them or they are gathered for the next part.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), BlobError> {
        self.hash.update(&chunk);
        self.pending.extend_from_slice(&chunk);
        if self.pending.len() >= PART_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), BlobError> {
        let part = self.pending.split().freeze();
        self.upload
            .put_part(PutPayload::from(part))
            .await
            .map_err(BlobError::of("write a blob"))
    }

    /// Makes the blob durable and visible; returns the SHA-256 of all its bytes.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn finish(mut self) -> Result<[u8; 32], BlobError> {
        if !self.pending.is_empty() {
            self.flush().await?;
        }
        self.upload
            .complete()
            .await
            .map_err(BlobError::of("finish a blob"))?;
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(self.hash.finish().as_ref());
        Ok(sha256)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rawdrive_tenancy_core::SystemReason;
    use rawdrive_tenancy_core::id::TypedId;

    use super::*;

    fn scope(n: u128) -> WorkspaceScope {
        #[expect(clippy::disallowed_methods, reason = "a test acts as the job runner")]
        WorkspaceScope::for_system(
            WorkspaceId::from_uuid(Uuid::from_u128(n)),
            SystemReason::JOB,
        )
    }

    #[tokio::test]
    async fn deleting_many_spares_the_others_and_does_not_miss_the_missing() {
        let directory = tempfile::tempdir().unwrap();
        for blobs in [Blobs::in_memory(), Blobs::local(directory.path()).unwrap()] {
            let (mine, foreign) = (scope(1), scope(2));
            let photos: Vec<_> = (0..30)
                .map(|n| PhotoId::from_uuid(Uuid::from_u128(n)))
                .collect();
            for (scope, photo) in [
                (&mine, photos[0]),
                (&mine, photos[2]),
                (&mine, photos[29]),
                (&foreign, photos[0]),
            ] {
                let mut writer = blobs.create(scope, photo).await.unwrap();
                writer.write(Bytes::from_static(b"bytes")).await.unwrap();
                writer.finish().await.unwrap();
            }
            blobs.delete_all(&mine, &photos[..20]).await.unwrap();
            let left = blobs.list(&mine).await.unwrap();
            assert_eq!(
                left.iter().map(|b| b.piece).collect::<Vec<_>>(),
                [Some(Piece::original(photos[29]))]
            );
            assert_eq!(blobs.list(&foreign).await.unwrap().len(), 1);
        }
    }

    #[tokio::test]
    async fn a_store_keeps_the_first_mark_until_it_is_marked_anew() {
        let directory = tempfile::tempdir().unwrap();
        let mark = |n| BlobMark::from_uuid(Uuid::from_u128(n));
        for blobs in [Blobs::in_memory(), Blobs::local(directory.path()).unwrap()] {
            assert_eq!(blobs.mark().await.unwrap(), None);
            assert_eq!(blobs.mark_once(mark(1)).await.unwrap(), mark(1));
            assert_eq!(blobs.mark_once(mark(2)).await.unwrap(), mark(1));
            assert_eq!(blobs.mark().await.unwrap(), Some(mark(1)));
            blobs.mark_anew(mark(2)).await.unwrap();
            assert_eq!(blobs.mark().await.unwrap(), Some(mark(2)));
            assert_eq!(blobs.layout().await.unwrap(), Layout::default());
        }
        std::fs::write(directory.path().join(MARK), "something else\n").unwrap();
        let error = Blobs::local(directory.path())
            .unwrap()
            .mark()
            .await
            .unwrap_err();
        assert!(matches!(error, BlobError::Unavailable { .. }), "{error}");
    }

    #[tokio::test]
    async fn what_lies_beside_the_photos_is_found() {
        let directory = tempfile::tempdir().unwrap();
        for (blobs, on_disk) in [
            (Blobs::in_memory(), false),
            (Blobs::local(directory.path()).unwrap(), true),
        ] {
            let (mine, photo) = (scope(1), PhotoId::from_uuid(Uuid::from_u128(7)));
            let mut writer = blobs.create(&mine, photo).await.unwrap();
            writer.write(Bytes::from_static(b"bytes")).await.unwrap();
            writer.finish().await.unwrap();
            let mut expected = Layout {
                workspaces: vec![mine.workspace()],
                strays: Vec::new(),
            };
            assert_eq!(blobs.layout().await.unwrap(), expected);
            let own = format!("workspaces/{}", mine.workspace());
            for (file, shown) in [
                ("a", "a"),
                ("b/c", "b/"),
                ("workspaces/d", "workspaces/d"),
                ("workspaces/e/f", "workspaces/e/"),
                (&format!("{own}/g"), &format!("{own}/g")),
                (&format!("{own}/h/i"), &format!("{own}/h/")),
            ] {
                let payload = PutPayload::from_static(b"stray");
                blobs.store.put(&Path::from(file), payload).await.unwrap();
                expected.strays.push(shown.to_owned());
            }
            let mut found = blobs.layout().await.unwrap();
            found.strays.sort();
            expected.strays.sort();
            assert_eq!(found, expected);

            let name = photo.to_string();
            let stored = blobs.stored(&mine, &name).await.unwrap().unwrap();
            assert_eq!(
                (stored.piece, stored.size_bytes, stored.partial),
                (Some(Piece::original(photo)), 5, false)
            );
            assert_eq!(blobs.list(&mine).await.unwrap(), [stored]);
            assert_eq!(blobs.stored(&mine, "pho_1").await.unwrap(), None);
            if on_disk {
                let path = directory
                    .path()
                    .join(Blobs::prefix(&mine, PHOTOS).as_ref())
                    .join("x y#1");
                std::fs::write(path, "half").unwrap();
                let partial = blobs.stored(&mine, "x y#1").await.unwrap().unwrap();
                assert!(partial.partial && blobs.list(&mine).await.unwrap().contains(&partial));
            }
        }
    }

    #[tokio::test]
    async fn renditions_are_replaced_listed_and_go_with_their_photo() {
        let directory = tempfile::tempdir().unwrap();
        for (blobs, on_disk) in [
            (Blobs::in_memory(), false),
            (Blobs::local(directory.path()).unwrap(), true),
        ] {
            let (mine, photo) = (scope(1), PhotoId::from_uuid(Uuid::from_u128(7)));
            let name = |rendition| {
                let rendition = Some(rendition);
                Piece { photo, rendition }.name()
            };
            for bytes in ["one", "another"] {
                for rendition in RenditionName::ALL {
                    let staged = blobs.root.as_ref().map(|root| {
                        let key = Blobs::rendition_key(&mine, photo, rendition);
                        root.join(format!("{key}#1"))
                    });
                    if let Some(staged) = staged.filter(|_| bytes == "another") {
                        std::fs::write(staged, "half").unwrap();
                    }
                    let bytes = Bytes::from_static(bytes.as_bytes());
                    let put = blobs.put_rendition(&mine, photo, rendition, bytes);
                    put.await.unwrap();
                }
            }
            let rendition = Some(RenditionName::Web);
            let web = Piece { photo, rendition };
            let (size, stream) = blobs.read(&mine, web, None).await.unwrap();
            let read: Vec<_> = stream.try_collect().await.unwrap();
            assert_eq!((size, &read.concat()[..]), (7, &b"another"[..]));
            let mut listed = blobs.list(&mine).await.unwrap();
            listed.sort_by(|a, b| a.name.cmp(&b.name));
            let names: Vec<_> = listed.iter().map(|blob| blob.name.clone()).collect();
            assert_eq!(names, RenditionName::ALL.map(name));
            for blob in &listed {
                assert_eq!(blob.piece.map(Piece::name).as_ref(), Some(&blob.name));
                let stored = blobs.stored(&mine, &blob.name).await.unwrap();
                assert_eq!(stored.as_ref(), Some(blob));
            }
            assert_eq!(blobs.layout().await.unwrap().strays, [""; 0]);
            if on_disk {
                let key = Blobs::rendition_key(&mine, photo, RenditionName::Thumb);
                std::fs::write(directory.path().join(format!("{key}#1")), "half").unwrap();
            }
            blobs.delete_all(&mine, &[photo]).await.unwrap();
            assert_eq!(blobs.list(&mine).await.unwrap(), []);
        }
    }

    fn key(workspace: u128, photo: u128) -> String {
        Blobs::key(
            &scope(workspace),
            PhotoId::from_uuid(Uuid::from_u128(photo)),
        )
        .to_string()
    }

    proptest! {
        #[test]
        fn a_key_lies_under_its_workspace_and_no_two_photos_share_one(
            (a, b, p, q) in any::<(u128, u128, u128, u128)>(), same_workspace: bool, same_photo: bool
        ) {
            let b = if same_workspace { a } else { b };
            let q = if same_photo { p } else { q };
            let (one, other) = (key(a, p), key(b, q));
            prop_assert_eq!(one == other, (a, p) == (b, q));
            let prefix = format!("workspaces/{}/", WorkspaceId::from_uuid(Uuid::from_u128(a)));
            prop_assert!(one.starts_with(&prefix), "{}", one);
            prop_assert!(!one.contains(".."));
            prop_assert_eq!(other.starts_with(&prefix), a == b);
        }
    }
}
