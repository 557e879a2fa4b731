//! The local analyser's pool: bounded at work, bounded in front.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use rawdrive_gallery::analysis::{
    AnalyzeError, Analyzer as _, Bound, LocalAnalyzer, MAX_DECODING_BYTES, MAX_ENCODED_BYTES,
    PixelFormat, Subject,
};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::{PHOTOS, analyzed};

/// Bytes of a small file, as far as the pool knows.
const SMALL: u64 = 1 << 20;

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

    fn enter(&self, pool: &LocalAnalyzer, size_bytes: u64) -> JoinHandle<Result<(), AnalyzeError>> {
        let (open, asked, pool) = (self.open.clone(), self.asked.clone(), pool.clone());
        tokio::spawn(async move {
            let bytes = async move {
                asked.fetch_add(1, Ordering::SeqCst);
                open.notified().await;
                Ok(Bytes::from_static(PHOTOS[0].2))
            };
            let subject = Subject {
                format: PixelFormat::Png,
                size_bytes,
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
    let mut admitted: Vec<_> = (0..5).map(|_| gate.enter(&pool, SMALL)).collect();
    gate.asked(2).await;
    for _ in 0..3 {
        let refused = gate.enter(&pool, SMALL).await.expect("no panic");
        assert!(matches!(refused, Err(AnalyzeError::Busy)), "{refused:?}");
    }
    // Somebody who gives up makes room, at work and in front.
    admitted.remove(0).abort();
    gate.asked(3).await;
    admitted.push(gate.enter(&pool, SMALL));
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
async fn large_files_do_not_lie_in_memory_together() {
    const LARGE: u64 = MAX_ENCODED_BYTES - SMALL;
    let (pool, gate) = (LocalAnalyzer::with_pool(4, 5), Gate::new());
    let large = gate.enter(&pool, LARGE);
    gate.asked(1).await;
    let small = gate.enter(&pool, SMALL);
    gate.asked(2).await;
    let another = gate.enter(&pool, LARGE);
    gate.asked(2).await;
    gate.open.notify_waiters();
    assert!(large.await.expect("no panic").is_ok());
    assert!(small.await.expect("no panic").is_ok());
    gate.asked(3).await;
    gate.open.notify_waiters();
    assert!(another.await.expect("no panic").is_ok());
    let too_large = gate.enter(&pool, MAX_ENCODED_BYTES + 1).await;
    let too_large = too_large.expect("no panic");
    assert!(
        matches!(too_large, Err(AnalyzeError::TooLarge(Bound::File))),
        "{too_large:?}"
    );
    assert_eq!(gate.asked.load(Ordering::SeqCst), 3);
}

/// 34 bytes that say they are 115 megapixels, eight times at once; beside them others are analysed.
#[tokio::test]
async fn what_takes_too_much_is_refused_with_its_bound() {
    let bits = (14_000_u32 - 1) | (8_200 - 1) << 14;
    let bomb = [
        &b"RIFF\x1A\0\0\0WEBPVP8L\x0D\0\0\0\x2F"[..],
        &bits.to_le_bytes(),
        b"\x88\x88\x08\0\0\0\0\0\0",
    ]
    .concat();
    let pool = LocalAnalyzer::with_pool(4, 20);
    let bombs = (0..8).map(|_| analyzed(&pool, PixelFormat::Webp, bomb.clone()));
    for refused in futures_util::future::join_all(bombs).await {
        let Err(error @ AnalyzeError::TooLarge(Bound::Memory)) = refused else {
            panic!("{refused:?}");
        };
        let said = error.to_string();
        assert!(said.contains(&MAX_DECODING_BYTES.to_string()), "{said}");
    }
    assert!(analyzed(&pool, PixelFormat::Png, PHOTOS[0].2).await.is_ok());
}
