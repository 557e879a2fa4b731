//! What decoding may take of the machine's memory, all photos of the process together.
//!
//! Invariant: nothing large is allocated before its bytes are held here; what would never fit is refused.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{AnalyzeError, Bound, MAX_DECODING_BYTES, MAX_ENCODED_BYTES};

/// Bytes that are counted as one.
const UNIT: u64 = 16 * 1024;

/// The system's allocator maps a block of more than 32 MiB apart and gives it back as soon as it is freed; of smaller
/// ones it keeps what it was once given, for every thread (`M_MMAP_THRESHOLD` in `mallopt(3)`). Pages that nobody
/// writes to take no memory.
const MAPPED_BYTES: usize = 33 << 20;

/// An empty buffer whose memory the process gives back when it is dropped.
pub(crate) fn transient<T>(capacity: usize) -> Vec<T> {
    let least = MAPPED_BYTES / size_of::<T>().max(1);
    Vec::with_capacity(capacity.max(least))
}

/// The two budgets: files as they are stored, and what decoding them takes. They are held in this order, and whoever
/// holds of the second waits for nothing, so that nobody waits for ever.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    files: Arc<Semaphore>,
    decoding: Arc<Semaphore>,
}

/// Bytes that are held until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    _permit: OwnedSemaphorePermit,
}

impl Memory {
    pub(super) fn new() -> Self {
        let budget = |bytes| Arc::new(Semaphore::new(units(bytes) as usize));
        Self {
            files: budget(MAX_ENCODED_BYTES),
            decoding: budget(MAX_DECODING_BYTES),
        }
    }

    /// Waits until a file of this size may be read.
    pub(super) async fn for_file(&self, size_bytes: u64) -> Result<Held, AnalyzeError> {
        if size_bytes > MAX_ENCODED_BYTES {
            return Err(AnalyzeError::TooLarge(Bound::File));
        }
        hold(&self.files, size_bytes).await
    }

    /// Waits until an image may be decoded that takes so much.
    pub(super) async fn for_decoding(&self, bytes: u64) -> Result<Held, AnalyzeError> {
        if bytes > MAX_DECODING_BYTES {
            return Err(AnalyzeError::TooLarge(Bound::Memory));
        }
        hold(&self.decoding, bytes).await
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

async fn hold(budget: &Arc<Semaphore>, bytes: u64) -> Result<Held, AnalyzeError> {
    let permit = budget.clone().acquire_many_owned(units(bytes)).await;
    Ok(Held {
        _permit: permit.map_err(|closed| AnalyzeError::Unavailable(closed.into()))?,
    })
}
