//! What keeps a protocol alive while it works, and what stands with its result.

use std::future::Future;
use std::time::Duration;

use rawdrive_tenancy_core::id::HoldId;
use rawdrive_tenancy_core::{Commit, Env, StoreError, WorkspaceScope};
use rawdrive_usage::{TakeError, extend};

use crate::UploadStore;

/// A hold lasts 60 s; it is renewed three times as often.
pub(crate) const RENEW_EVERY: Duration = Duration::from_secs(20);

/// What lives with a protocol and stands with what it stores (a photo, an analysis), such as a claim on an
/// idempotency key.
pub trait Companion<Tx, T>: Send + Sync {
    /// Keeps it alive; called whenever the hold is renewed, in that transaction. A failure ends the protocol.
    fn renew(&self, tx: &mut Tx) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Lets it stand; called in the last transaction, ahead of the ledger.
    fn stored(self, tx: &mut Tx, stored: &T)
    -> impl Future<Output = Result<(), StoreError>> + Send;
}

impl<Tx: Send, T: Sync> Companion<Tx, T> for () {
    async fn renew(&self, _: &mut Tx) -> Result<(), StoreError> {
        Ok(())
    }

    async fn stored(self, _: &mut Tx, _: &T) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Renews a hold and its companion together.
pub(crate) async fn renew<S: UploadStore, T, E: From<StoreError> + From<TakeError>>(
    store: &S,
    env: &Env,
    scope: &WorkspaceScope,
    hold: HoldId,
    companion: &impl Companion<S::Tx, T>,
) -> Result<(), E> {
    let mut tx = store.begin_release(scope).await?;
    extend(&mut tx, env, hold, None).await?;
    companion.renew(&mut tx).await?;
    tx.commit().await?;
    Ok(())
}

/// Works, and renews at each beat until the work is done, however long a client, a disk or a model takes. A
/// renewal that fails ends the work: what is not held any more cannot be settled.
///
/// The work goes on while it is renewed: it may have a transaction that the renewal's would wait for.
pub(crate) async fn renewing<T, E, Renewal: Future<Output = Result<(), E>>>(
    every: Duration,
    renew: impl Fn() -> Renewal,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let beats = async {
        loop {
            tokio::time::sleep(every).await;
            if let Err(error) = renew().await {
                return error;
            }
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        error = beats => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const BEAT: Duration = Duration::from_millis(10);

    async fn work(duration: Duration) -> Result<&'static str, &'static str> {
        tokio::time::sleep(duration).await;
        Ok("done")
    }

    #[tokio::test]
    async fn work_is_renewed_while_it_runs_and_not_before_its_first_beat() {
        let renewals = Cell::new(0);
        let renew = || async {
            renewals.set(renewals.get() + 1);
            Ok(())
        };
        let quick = renewing(Duration::from_secs(60), renew, work(BEAT)).await;
        assert_eq!((quick, renewals.get()), (Ok("done"), 0));
        let long = renewing(BEAT, renew, work(BEAT * 12)).await;
        assert_eq!(long, Ok("done"));
        assert!((2..=12).contains(&renewals.get()), "{}", renewals.get());
    }

    #[tokio::test]
    async fn a_renewal_that_fails_ends_the_work() {
        let ended = renewing(BEAT, || async { Err("not held") }, work(BEAT * 12)).await;
        assert_eq!(ended, Err("not held"));
    }

    #[tokio::test]
    async fn work_goes_on_while_a_renewal_waits_for_it() {
        let turn = tokio::sync::Mutex::new(());
        let renew = || async {
            drop(turn.lock().await);
            Ok::<_, &str>(())
        };
        let work = async {
            let _mine = turn.lock().await;
            work(BEAT * 5).await
        };
        assert_eq!(renewing(BEAT, renew, work).await, Ok("done"));
    }
}
