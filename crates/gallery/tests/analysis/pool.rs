//! The local analyser's pool: bounded at work, bounded in front.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use rawdrive_gallery::analysis::{
    AnalyzeError, Analyzer as _, LocalAnalyzer, PixelFormat, Subject,
};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::{PHOTOS, analyzed};

/// Photos whose bytes come when the gate opens, and how many of them were asked for.
struct Gate {
    open: Arc<Notify>,
    asked: Arc<AtomicUsize>,
}

impl Gate {
    fn new() -> Self {
        Self {
            open: Arc::new(Notify::new()),
            asked: Arc::default(),
        }
    }

    fn enter(&self, pool: &LocalAnalyzer, pixels: u64) -> JoinHandle<Result<(), AnalyzeError>> {
        let (open, asked, pool) = (self.open.clone(), self.asked.clone(), pool.clone());
        tokio::spawn(async move {
            let bytes = async move {
                asked.fetch_add(1, Ordering::SeqCst);
                open.notified().await;
                Ok(Bytes::from_static(PHOTOS[0].2))
            };
            let subject = Subject {
                format: PixelFormat::Png,
                pixels: Some(pixels),
                bytes: bytes.boxed(),
            };
            pool.analyze(subject).await.map(|_| ())
        })
    }

    /// Waits until so many were asked for, and a moment longer to see one too many.
    async fn asked(&self, wanted: usize) {
        for _ in 0..200 {
            if self.asked.load(Ordering::SeqCst) >= wanted {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert_eq!(self.asked.load(Ordering::SeqCst), wanted);
    }
}

#[tokio::test]
async fn those_who_wait_are_bounded_and_their_bytes_are_not_read() {
    let (pool, gate) = (LocalAnalyzer::with_pool(2, 3), Gate::new());
    let mut admitted: Vec<_> = (0..5).map(|_| gate.enter(&pool, 1_000)).collect();
    gate.asked(2).await;
    for _ in 0..3 {
        let refused = gate.enter(&pool, 1_000).await.expect("no panic");
        assert!(matches!(refused, Err(AnalyzeError::Busy)), "{refused:?}");
    }
    // Somebody who gives up makes room, at work and in front.
    admitted.remove(0).abort();
    gate.asked(3).await;
    admitted.push(gate.enter(&pool, 1_000));
    for _ in 0..100 {
        gate.open.notify_waiters();
        tokio::time::sleep(Duration::from_millis(20)).await;
        if admitted.iter().all(JoinHandle::is_finished) {
            break;
        }
    }
    for one in admitted {
        assert!(one.await.expect("no panic").is_ok());
    }
    let again = analyzed(&pool, PixelFormat::Png, PHOTOS[0].2).await;
    assert!(again.is_ok(), "{again:?}");
}

#[tokio::test]
async fn a_large_photo_is_decoded_alone() {
    let (pool, gate) = (LocalAnalyzer::with_pool(2, 5), Gate::new());
    let small = gate.enter(&pool, 1_000);
    gate.asked(1).await;
    let large = gate.enter(&pool, 100_000_000);
    gate.asked(1).await;
    gate.open.notify_one();
    assert!(small.await.expect("no panic").is_ok());
    gate.asked(2).await;
    let small = gate.enter(&pool, 1_000);
    gate.asked(2).await;
    gate.open.notify_one();
    assert!(large.await.expect("no panic").is_ok());
    gate.asked(3).await;
    gate.open.notify_one();
    assert!(small.await.expect("no panic").is_ok());
}
