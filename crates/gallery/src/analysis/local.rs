//! The analyser that needs nothing but this machine.

use std::num::NonZero;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use image::RgbImage;
use rawdrive_tenancy_core::Causes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::decode::decode;
use super::measure::measure;
use super::{AnalyzeError, Analyzer, Findings, MAX_ENCODED_BYTES, Measurements, Subject};

/// Name and version: changes when the same pixels would measure otherwise.
pub(super) const NAME: &str = "local-1";

/// How many photos may wait for a core. More are refused: a request that waits for minutes helps nobody.
const WAITING: usize = 64;

/// An image of more pixels is decoded alone, so that memory is bounded by the largest image and not by as
/// many of them as there are cores.
const LARGE_PIXELS: u64 = 32_000_000;

/// Measures pixels on a bounded pool: one photo a core, a bounded number waiting. Cheap to clone; clones
/// share the pool.
#[derive(Debug, Clone)]
pub struct LocalAnalyzer {
    /// One for each photo that is analysed or waits.
    places: Arc<Semaphore>,
    /// One for each core.
    turns: Arc<Semaphore>,
    cores: u32,
}

/// Being one of those who are analysed or wait.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl LocalAnalyzer {
    /// A pool of as many photos at once as the machine has cores.
    #[must_use]
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self::with_pool(u32::try_from(cores).unwrap_or(1), WAITING)
    }

    /// A pool of `cores` photos at once and `waiting` more.
    #[must_use]
    pub fn with_pool(cores: u32, waiting: usize) -> Self {
        let cores = cores.max(1);
        Self {
            places: Arc::new(Semaphore::new(waiting + cores as usize)),
            turns: Arc::new(Semaphore::new(cores as usize)),
            cores,
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
        // Unknown is large until the decoder has seen it.
        let turns = match subject.pixels {
            Some(pixels) if pixels <= LARGE_PIXELS => 1,
            _ => self.cores,
        };
        let turn = self.turns.clone().acquire_many_owned(turns).await;
        let turn = turn.map_err(|closed| AnalyzeError::Unavailable(closed.into()))?;
        let bytes = subject.bytes.await;
        let bytes = bytes.map_err(|error| AnalyzeError::Unavailable(error.into()))?;
        if bytes.len() as u64 > MAX_ENCODED_BYTES {
            return Err(AnalyzeError::TooLarge);
        }
        let work = tokio::task::spawn_blocking(move || {
            // Kept by the work itself: nobody can call it back, also when nobody waits for it any more.
            let _turn = turn;
            let image = decode(subject.format, &bytes)?;
            drop(bytes);
            Ok((measure(&image), more(image)))
        });
        work.await.unwrap_or_else(|panicked| {
            tracing::error!(
                error = %Causes(&panicked),
                "an image broke its decoder"
            );
            Err(AnalyzeError::Damaged("the decoder gave up".to_owned()))
        })
    }
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
