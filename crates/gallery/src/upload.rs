//! The upload protocol: hold, stream, settle; or give everything back.

use crate::id::{GalleryId, PhotoId};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use rawdrive_plans::{BeginError, ReadOnly};
use rawdrive_tenancy_core::job::JobsTx;
use rawdrive_tenancy_core::{Commit, Env, StoreError, WorkspaceScope};
use rawdrive_usage::{Charge, Exceeded, QuotaKey, TakeError, extend, release, settle};

use crate::blobs::BlobWriter;
use crate::charges::charges;
use crate::renditions::model::{MakeRenditions, Renditions};
use crate::upload_hooks::{RENEW_EVERY, renew, renewing};
use crate::{
    BlobError, Blobs, Companion, DeleteBlob, FileName, Finding, GalleryTx, ImageFacts,
    InspectError, Inspector, MediaType, Opened, Opening, Photo, Piece, STORAGE_BYTES, SecondLook,
    UploadStore,
};

/// The first and the largest step by which a hold of unknown length grows, in bytes.
const FIRST_STEP: u64 = 1 << 20;
const LARGEST_STEP: u64 = 64 << 20;

/// How long the body will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// The transport promises exactly this many bytes.
    Exactly(u64),
    /// At most this many, by an envelope around it; or unknown.
    AtMost(Option<u64>),
}

/// A photo that is about to come in.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The photo's id, fresh for each attempt: it names hold and blob.
    pub id: PhotoId,
    /// The gallery it goes to.
    pub gallery: GalleryId,
    /// The name it comes with.
    pub filename: FileName,
    /// The type its content must have.
    pub media: MediaType,
    /// How long it will be.
    pub length: Length,
    /// The most bytes that are taken.
    pub max_bytes: u64,
}

/// Why a body ended early.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum BodyError {
    /// The client went away, or the transport's framing is broken.
    #[error("the body broke off")]
    Broken,
    /// The client sends too slowly.
    #[error("the body comes too slowly")]
    TooSlow,
    /// An envelope around the file is malformed.
    #[error("{0}")]
    Malformed(String),
    /// A part of the envelope is not acceptable.
    #[error("{field} {message}")]
    Refused {
        /// The part's name.
        field: String,
        /// Why not.
        message: &'static str,
    },
}

/// Why an upload came to nothing. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The workspace takes no writes.
    #[error("the workspace is read-only")]
    ReadOnly(ReadOnly),
    /// There is no such gallery.
    #[error("there is no such gallery")]
    NoGallery,
    /// A limit is in the way.
    #[error("the limit of {} is reached", .0.metric)]
    Exceeded(Exceeded),
    /// The file is larger than this installation takes.
    #[error("the file is larger than {limit} bytes")]
    TooLarge {
        /// Bytes.
        limit: u64,
    },
    /// No bytes came.
    #[error("the file is empty")]
    Empty,
    /// The bytes are not what they are said to be.
    #[error(transparent)]
    Content(#[from] InspectError),
    /// The body ended early.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The hold expired while the upload stalled.
    #[error("the upload stalled for too long")]
    Expired,
    /// The blob store failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<TakeError> for UploadError {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::Exceeded(exceeded) => Self::Exceeded(exceeded),
            TakeError::NotHeld => Self::Expired,
            TakeError::Store(error) => Self::Store(error),
        }
    }
}

impl From<BeginError> for UploadError {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::ReadOnly(read_only) => Self::ReadOnly(read_only),
            BeginError::Store(error) => Self::Store(error),
        }
    }
}

/// Receives a photo. When this returns an error, row and hold are gone and the bytes are deleted, now or by
/// the durable job that the hold's end leaves behind. Run it in a task of its own: a caller that is dropped
/// must not drop the protocol with it.
///
/// # Errors
/// See [`UploadError`].
pub async fn receive<S: UploadStore>(
    store: &S,
    blobs: &Blobs,
    env: &Env,
    scope: &WorkspaceScope,
    incoming: Incoming,
    body: impl Stream<Item = Result<Bytes, BodyError>> + Send + Unpin,
    companion: impl Companion<S::Tx, Photo>,
) -> Result<Photo, UploadError> {
    let held_bytes = open(store, env, scope, &incoming).await?;
    let id = incoming.id;
    let attempt = async {
        let writer = blobs.create(scope, id).await?;
        let renew = || renew(store, env, scope, id.hold(), &companion);
        let receiving = async {
            let body = stream(store, env, scope, &incoming, held_bytes, body, writer);
            let received = body.await?;
            if let Finding::Open(_) = received.found {
                look_again(blobs, scope, &incoming).await?;
            }
            Ok::<_, UploadError>(received)
        };
        let received = renewing(RENEW_EVERY, renew, receiving).await?;
        // Without renewals from here on: one that met the commit would take it for the hold's end.
        finish(store, env, scope, incoming, received, companion).await
    };
    let error = match attempt.await {
        Ok(photo) => return Ok(photo),
        Err(error) => error,
    };
    match give_up(store, scope, id).await {
        Ok(Some(photo)) => return Ok(photo),
        // Gone at once where possible; the job is for where it is not.
        Ok(None) => drop(blobs.delete(scope, id).await),
        // The hold expires by itself, and the job that its expiry leaves deletes the bytes.
        Err(_) => {}
    }
    Err(error)
}

/// Ends an upload that failed. Answers its photo where it did not fail after all: the last commit may have
/// taken effect although its answer was lost, and bytes that have a row must stay.
async fn give_up<S: UploadStore>(
    store: &S,
    scope: &WorkspaceScope,
    id: PhotoId,
) -> Result<Option<Photo>, StoreError> {
    let mut tx = store.begin_release(scope).await?;
    if !release(&mut tx, id.hold()).await? {
        let photo = tx.photo(id).await?;
        if photo.is_some() {
            return Ok(photo);
        }
        // The hold expired, and the job of its expiry may have run before all bytes were there.
        tx.enqueue(&DeleteBlob { photo: id }, None)?;
    }
    tx.commit().await?;
    Ok(None)
}

/// The first transaction; answers the bytes that are held from then on.
async fn open<S: UploadStore>(
    store: &S,
    env: &Env,
    scope: &WorkspaceScope,
    incoming: &Incoming,
) -> Result<u64, UploadError> {
    let opening = |bytes| Opening {
        photo: incoming.id,
        gallery: incoming.gallery,
        bytes,
    };
    let bytes = match incoming.length {
        Length::Exactly(0) => return Err(UploadError::Empty),
        Length::Exactly(bytes) if bytes > incoming.max_bytes => {
            let limit = incoming.max_bytes;
            return Err(UploadError::TooLarge { limit });
        }
        Length::Exactly(bytes) => bytes,
        // The hold grows as bytes come: an envelope's length would refuse a file that just fits.
        Length::AtMost(_) => 0,
    };
    match store.open(scope, env, opening(bytes)).await? {
        Opened::Held => Ok(bytes),
        Opened::NoGallery => Err(UploadError::NoGallery),
        Opened::Exceeded(exceeded) => Err(UploadError::Exceeded(exceeded)),
    }
}

struct Received {
    size_bytes: u64,
    sha256: [u8; 32],
    found: Finding,
}

impl Received {
    fn facts(&self) -> ImageFacts {
        let (Finding::Whole(facts) | Finding::Open(facts)) = self.found;
        facts
    }
}

/// Reads an image again whose end was not seen. Rare, so that the stream need not be understood so well each time.
async fn look_again(
    blobs: &Blobs,
    scope: &WorkspaceScope,
    incoming: &Incoming,
) -> Result<(), UploadError> {
    let mut look = SecondLook::new(incoming.media);
    let original = Piece::original(incoming.id);
    let (_, mut bytes) = blobs.read(scope, original, None).await?;
    while let Some(chunk) = bytes.next().await {
        if look.push(&chunk?) {
            break;
        }
        // Counting is work: others have their turn between two chunks.
        tokio::task::yield_now().await;
    }
    Ok(look.finish()?)
}

async fn stream<S: UploadStore>(
    store: &S,
    env: &Env,
    scope: &WorkspaceScope,
    incoming: &Incoming,
    mut held: u64,
    mut body: impl Stream<Item = Result<Bytes, BodyError>> + Send + Unpin,
    mut writer: BlobWriter,
) -> Result<Received, UploadError> {
    let mut inspector = Inspector::new(incoming.media);
    let mut size = 0_u64;
    let mut step = FIRST_STEP;
    let cap = match incoming.length {
        Length::Exactly(n) => n,
        Length::AtMost(bound) => bound.unwrap_or(u64::MAX).min(incoming.max_bytes),
    };
    while let Some(chunk) = body.next().await {
        let chunk = chunk?;
        let arrived = size + chunk.len() as u64;
        if arrived > incoming.max_bytes {
            return Err(UploadError::TooLarge {
                limit: incoming.max_bytes,
            });
        }
        if arrived > held {
            held = grow(
                store,
                env,
                scope,
                incoming.id,
                held,
                arrived,
                &mut step,
                cap,
            )
            .await?;
        }
        inspector.push(&chunk)?;
        size = arrived;
        writer.write(chunk).await?;
    }
    if size == 0 {
        return Err(UploadError::Empty);
    }
    let found = inspector.finish()?;
    let sha256 = writer.finish().await?;
    Ok(Received {
        size_bytes: size,
        sha256,
        found,
    })
}

/// Grows a hold to at least `needed` bytes, by doubling steps while they fit and by what is needed where
/// they do not: a file that just fits is taken, a file that does not is refused with exact numbers.
#[expect(
    clippy::too_many_arguments,
    reason = "the loop's own state; a struct of it would be used here alone"
)]
async fn grow<S: UploadStore>(
    store: &S,
    env: &Env,
    scope: &WorkspaceScope,
    id: PhotoId,
    held: u64,
    needed: u64,
    step: &mut u64,
    cap: u64,
) -> Result<u64, UploadError> {
    loop {
        let target = (held + *step).min(cap).max(needed);
        let mut tx = store.begin(scope).await?;
        let more = Charge {
            key: QuotaKey::level(STORAGE_BYTES),
            amount: target - held,
        };
        match extend(&mut tx, env, id.hold(), Some(more)).await {
            Ok(()) => {
                tx.commit().await?;
                *step = (*step * 2).min(LARGEST_STEP);
                return Ok(target);
            }
            Err(TakeError::Exceeded(_)) if target > needed => *step /= 4,
            Err(error) => return Err(error.into()),
        }
    }
}

/// The last transaction: hold, row, companion and ledger.
async fn finish<S: UploadStore>(
    store: &S,
    env: &Env,
    scope: &WorkspaceScope,
    incoming: Incoming,
    received: Received,
    companion: impl Companion<S::Tx, Photo>,
) -> Result<Photo, UploadError> {
    let facts = received.facts();
    let photo = Photo {
        id: incoming.id,
        gallery: incoming.gallery,
        filename: incoming.filename,
        content_type: incoming.media.as_str().to_owned(),
        size_bytes: received.size_bytes,
        sha256: received.sha256,
        width: facts.width,
        height: facts.height,
        orientation: facts.orientation,
        taken_at: facts.taken_at,
        created_at: env.now(),
        updated_at: env.now(),
        version: 1,
        renditions: Renditions::of_new(incoming.media.as_str()),
    };
    let mut tx = store.begin(scope).await?;
    let [one, bytes] = charges(photo.gallery, photo.size_bytes);
    let actual = [(one, photo.id.to_string()), (bytes, photo.id.to_string())];
    settle(&mut tx, env, photo.id.hold(), &actual).await?;
    // The gallery may have been deleted while the bytes came.
    if tx
        .gallery(photo.gallery)
        .await?
        .is_none_or(|g| g.deleted_at.is_some())
    {
        return Err(UploadError::NoGallery);
    }
    tx.insert_photo(&photo).await?;
    if photo.renditions == Renditions::Pending {
        tx.enqueue(&MakeRenditions { photo: photo.id }, None)?;
    }
    companion.stored(&mut tx, &photo).await?;
    tx.commit().await?;
    Ok(photo)
}
