//! How many downloads one link may have under way.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use crate::id::ClientId;
use bytes::Bytes;
use futures_util::Stream;

use rawdrive_http_api::web::{Code, Problem};

/// A gallery that everybody at a wedding looks at has fewer under way; a file is open for each.
const DOWNLOADS_PER_LINK: usize = 256;
/// When to try again beyond it.
const RETRY_SECONDS: u64 = 5;

/// Bounds the downloads that one client's link has under way: a link is a secret that many may know, and nobody of them
/// has an account that could be held to something.
#[derive(Debug, Clone)]
pub struct Downloads {
    per_link: usize,
    under_way: Arc<Mutex<HashMap<ClientId, usize>>>,
}

impl Default for Downloads {
    fn default() -> Self {
        Self::per_link(DOWNLOADS_PER_LINK)
    }
}

impl Downloads {
    /// At most `per_link` at a time.
    #[must_use]
    pub fn per_link(per_link: usize) -> Self {
        Self {
            per_link,
            under_way: Arc::default(),
        }
    }

    /// # Errors
    /// 503 `overloaded` when the link has as many as it may.
    pub(crate) fn begin(&self, client: ClientId) -> Result<Download, Problem> {
        let mut under_way = self.lock();
        let own = under_way.entry(client).or_default();
        if *own >= self.per_link {
            let detail = "Too many downloads of this link are under way. Try again shortly.";
            return Err(Problem::new(Code::Overloaded, detail).retry_after(RETRY_SECONDS));
        }
        *own += 1;
        Ok(Download {
            downloads: self.clone(),
            client,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClientId, usize>> {
        // A count is changed by one step that cannot panic.
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One download under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Download {
    downloads: Downloads,
    client: ClientId,
}

impl Drop for Download {
    fn drop(&mut self) {
        let mut under_way = self.downloads.lock();
        if let Some(own) = under_way.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                under_way.remove(&self.client);
            }
        }
    }
}

/// Bytes that are a download while they are being sent.
pub(crate) struct Counted<S> {
    pub(crate) bytes: S,
    pub(crate) _download: Option<Download>,
}

impl<S, E> Stream for Counted<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        Pin::new(&mut self.bytes).poll_next(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rawdrive_tenancy_core::id::TypedId as _;

    #[test]
    fn a_link_has_its_number_of_downloads_and_no_other_links() {
        let downloads = Downloads::per_link(2);
        let (ada, bob) = (1, 2);
        let begin = |n| downloads.begin(ClientId::from_uuid(uuid::Uuid::from_u128(n)));
        let first = begin(ada).unwrap();
        let _second = begin(ada).unwrap();
        assert_eq!(begin(ada).unwrap_err().code, Code::Overloaded);
        let other = begin(bob).unwrap();
        drop(first);
        let _third = begin(ada).unwrap();
        drop(other);
        assert_eq!(
            downloads.lock().len(),
            1,
            "who downloads nothing is forgotten"
        );
    }
}
