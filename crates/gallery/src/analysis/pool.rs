//! The threads that pixels are decoded on.
//!
//! Threads of our own, and few: the system's allocator keeps some of what it was once given for every thread that
//! asked, and the runtime has hundreds for work that blocks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

type Work = Box<dyn FnOnce() + Send>;

/// A fixed number of threads. They end when the last clone of the pool is dropped.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    work: Sender<Work>,
}

/// The work panicked, or there is no thread that would do it.
#[derive(Debug, thiserror::Error)]
#[error("the work was given up")]
pub(super) struct GivenUp;

impl Pool {
    pub(super) fn new(threads: u32) -> Self {
        let (work, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..threads {
            let queue = queue.clone();
            let named = thread::Builder::new().name(format!("decode-{number}"));
            if let Err(error) = named.spawn(move || run(&queue)) {
                tracing::error!(%error, "a thread for decoding cannot be started");
            }
        }
        Self { work }
    }

    /// Does this when a thread is free. Once it has begun it is done to its end, also when nobody waits any more.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, GivenUp> {
        let (done, answer) = oneshot::channel();
        let work = move || _ = done.send(work());
        self.work.send(Box::new(work)).map_err(|_| GivenUp)?;
        answer.await.map_err(|_| GivenUp)
    }
}

fn run(queue: &Mutex<Receiver<Work>>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(work) = next else { return };
        // Whoever waits for the answer learns that none comes; the thread goes on.
        _ = catch_unwind(AssertUnwindSafe(work));
    }
}
