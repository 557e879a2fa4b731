//! The threads and the memory that photos are decoded with: one of each for a process, whoever needs pixels.

use std::num::NonZero;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use rawdrive_tenancy_core::WorkspaceScope;
use tokio::sync::Semaphore;

use super::decode::{Decoded, Encoded, Sides};
use super::memory::{Memory, transient};
use super::pool::{GivenUp, Pool};
use super::{AnalyzeError, Bound, MAX_ENCODED_BYTES, Subject};
use crate::id::PhotoId;
use crate::{BlobError, Blobs, Piece};

/// More threads would mostly wait for memory.
const MOST_THREADS: u32 = 4;

/// Decodes photos on few threads, within the memory that all have together. Cheap to clone; clones share both.
#[derive(Debug, Clone)]
pub struct Decoders {
    /// One for each thread.
    turns: Arc<Semaphore>,
    memory: Memory,
    pool: Pool,
}

impl Decoders {
    /// As many photos at once as the machine has cores, and four at most.
    #[must_use]
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self::with_threads(u32::try_from(cores).unwrap_or(1).min(MOST_THREADS))
    }

    /// So many photos at once.
    #[must_use]
    pub fn with_threads(threads: u32) -> Self {
        let threads = threads.max(1);
        Self {
            turns: Arc::new(Semaphore::new(threads as usize)),
            memory: Memory::new(),
            pool: Pool::new(threads),
        }
    }

    /// Decodes a photo when it is its turn, and does something with its pixels on the same thread.
    pub(crate) async fn decoded<T: Send + 'static>(
        &self,
        subject: Subject<'_>,
        sides: Sides,
        work: impl FnOnce(Decoded) -> T + Send + 'static,
    ) -> Result<T, AnalyzeError> {
        let turn = self.turns.clone().acquire_owned().await;
        let turn = turn.map_err(|closed| AnalyzeError::Unavailable(closed.into()))?;
        let file = self.memory.for_file(subject.size_bytes).await?;
        let bytes = subject.bytes.await;
        let bytes = bytes.map_err(|error| AnalyzeError::Unavailable(error.into()))?;
        if bytes.len() as u64 > subject.size_bytes.min(MAX_ENCODED_BYTES) {
            return Err(AnalyzeError::TooLarge(Bound::File));
        }
        let format = subject.format;
        let look = self.pool.run(move || Encoded::open(format, bytes, sides));
        let image = look.await.unwrap_or_else(given_up)?;
        let decoding = self.memory.for_decoding(image.decoding_bytes()).await?;
        let work = self.pool.run(move || {
            // Kept by the work itself: nobody can call it back, also when nobody waits for it any more.
            let _held = (turn, file, decoding);
            Ok(work(image.decode()?))
        });
        work.await.unwrap_or_else(given_up)
    }
}

impl Default for Decoders {
    fn default() -> Self {
        Self::new()
    }
}

fn given_up<T>(GivenUp: GivenUp) -> Result<T, AnalyzeError> {
    tracing::error!("an image broke its decoder");
    Err(AnalyzeError::Damaged("the decoder gave up".to_owned()))
}

/// All bytes of a photo.
pub(crate) async fn whole(
    blobs: &Blobs,
    scope: &WorkspaceScope,
    photo: PhotoId,
    size_bytes: u64,
) -> Result<Bytes, BlobError> {
    let (_, stream) = blobs.read(scope, Piece::original(photo), None).await?;
    let all = transient(usize::try_from(size_bytes).unwrap_or_default());
    let bytes = stream.try_fold(all, async |mut bytes, chunk| {
        bytes.extend_from_slice(&chunk);
        Ok(bytes)
    });
    Ok(bytes.await?.into())
}
