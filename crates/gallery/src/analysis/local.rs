//! The analyser that needs nothing but this machine.

use std::num::NonZero;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use image::RgbImage;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::decode::Encoded;
use super::measure::measure;
use super::memory::Memory;
use super::pool::{GivenUp, Pool};
use super::{AnalyzeError, Analyzer, Bound, Findings, MAX_ENCODED_BYTES, Measurements, Subject};

/// Name and version: changes when the numbers mean something else.
pub(super) const NAME: &str = "local-1";

/// How many photos may wait for a thread. More are refused: a request that waits for minutes helps nobody.
const WAITING: usize = 64;

/// More threads would mostly wait for memory.
const MOST_THREADS: u32 = 4;

/// Measures pixels on few threads, within the memory that all analyses share, and with a bounded number waiting.
/// Cheap to clone; clones share threads and memory. A process has one.
#[derive(Debug, Clone)]
pub struct LocalAnalyzer {
    /// One for each photo that is analysed or waits.
    places: Arc<Semaphore>,
    /// One for each thread.
    turns: Arc<Semaphore>,
    memory: Memory,
    pool: Pool,
}

/// Being one of those who are analysed or wait.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl LocalAnalyzer {
    /// A pool of as many photos at once as the machine has cores, and four at most.
    #[must_use]
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = u32::try_from(cores).unwrap_or(1).min(MOST_THREADS);
        Self::with_pool(threads, WAITING)
    }

    /// A pool of `threads` photos at once and `waiting` more.
    #[must_use]
    pub fn with_pool(threads: u32, waiting: usize) -> Self {
        let threads = threads.max(1);
        Self {
            places: Arc::new(Semaphore::new(waiting + threads as usize)),
            turns: Arc::new(Semaphore::new(threads as usize)),
            memory: Memory::new(),
            pool: Pool::new(threads),
        }
    }

    /// A place among those who are analysed or wait, or [`AnalyzeError::Busy`].
    pub(super) fn enter(&self) -> Result<Place, AnalyzeError> {
        let permit = self.places.clone().try_acquire_owned();
        Ok(Place {
            _permit: permit.map_err(|_| AnalyzeError::Busy)?,
        })
    }

    /// Decodes and measures when it is the subject's turn, and makes `more` of the decoded image.
    pub(super) async fn measured<T: Send + 'static>(
        &self,
        subject: Subject<'_>,
        more: impl FnOnce(RgbImage) -> T + Send + 'static,
    ) -> Result<(Measurements, T), AnalyzeError> {
        let turn = self.turns.clone().acquire_owned().await;
        let turn = turn.map_err(|closed| AnalyzeError::Unavailable(closed.into()))?;
        let file = self.memory.for_file(subject.size_bytes).await?;
        let bytes = subject.bytes.await;
        let bytes = bytes.map_err(|error| AnalyzeError::Unavailable(error.into()))?;
        if bytes.len() as u64 > subject.size_bytes.min(MAX_ENCODED_BYTES) {
            return Err(AnalyzeError::TooLarge(Bound::File));
        }
        let format = subject.format;
        let look = self.pool.run(move || Encoded::open(format, bytes));
        let image = look.await.unwrap_or_else(given_up)?;
        let decoding = self.memory.for_decoding(image.decoding_bytes()).await?;
        let work = self.pool.run(move || {
            // Kept by the work itself: nobody can call it back, also when nobody waits for it any more.
            let _held = (turn, file, decoding);
            let image = image.decode()?;
            Ok((measure(&image), more(image)))
        });
        work.await.unwrap_or_else(given_up)
    }
}

fn given_up<T>(GivenUp: GivenUp) -> Result<T, AnalyzeError> {
    tracing::error!("an image broke its decoder");
    Err(AnalyzeError::Damaged("the decoder gave up".to_owned()))
}

impl Default for LocalAnalyzer {
    fn default() -> Self {
        Self::new()
    }
}

impl Analyzer for LocalAnalyzer {
    fn name(&self) -> &str {
        NAME
    }

    fn analyze<'a>(
        &'a self,
        subject: Subject<'a>,
    ) -> BoxFuture<'a, Result<Findings, AnalyzeError>> {
        async move {
            let _place = self.enter()?;
            let (measured, ()) = self.measured(subject, drop).await?;
            Ok(Findings {
                measured,
                caption: None,
            })
        }
        .boxed()
    }
}
