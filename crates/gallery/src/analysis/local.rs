//! The analyser that needs nothing but this machine.

use std::num::NonZero;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use image::RgbImage;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::decode::Sides;
use super::decoders::Decoders;
use super::measure::measure;
use super::{AnalyzeError, Analyzer, Findings, Measurements, Subject};

/// Name and version: changes when the numbers mean something else.
pub(super) const NAME: &str = "local-1";

/// How many photos may wait for a thread. More are refused: a request that waits for minutes helps nobody.
const WAITING: usize = 64;

/// Measures pixels on few threads, within the memory that all analyses share, and with a bounded number waiting.
/// Cheap to clone; clones share threads and memory. A process has one.
#[derive(Debug, Clone)]
pub struct LocalAnalyzer {
    /// One for each photo that is analysed or waits.
    places: Arc<Semaphore>,
    decoders: Decoders,
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
        Self::on(Decoders::new())
    }

    /// With threads and memory that others use too.
    #[must_use]
    pub fn on(decoders: Decoders) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            places: Arc::new(Semaphore::new(WAITING + cores)),
            decoders,
        }
    }

    /// A pool of `threads` photos at once and `waiting` more.
    #[must_use]
    pub fn with_pool(threads: u32, waiting: usize) -> Self {
        let threads = threads.max(1);
        Self {
            places: Arc::new(Semaphore::new(waiting + threads as usize)),
            decoders: Decoders::with_threads(threads),
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
        let decoded = self.decoders.decoded(subject, Sides::MEASURED, |decoded| {
            (measure(&decoded.image), more(decoded.image))
        });
        decoded.await
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
