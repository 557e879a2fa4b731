//! What billing does beside requests: projecting what webhooks touched, recovering operations, reconciling, and what
//! the passing of time alone calls for. Apart from the lanes of jobs: a payment provider that hangs delays no mail.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rawdrive_billing::{
    Billing, Heal, PaymentGateway, default_since, project_next, reconcile, recover_operations,
    review_due,
};
use rawdrive_store::Store;
use rawdrive_tenancy_core::{Causes, StoreError};
use tokio::time::{sleep, timeout};

/// The slow fallback: commits wake the workers, time alone does not.
const POLL: Duration = Duration::from_secs(2);
/// How often a provider that does not answer is asked whether it does again.
const WATCH: Duration = Duration::from_secs(5);
/// A name that no price has.
const NO_PRICE: &str = "rawdrive_is_stripe_there";
/// How many objects are fetched at a time: one fetch that hangs must not hold the others up.
const WORKERS: usize = 4;

/// Whether there is a payment provider to keep in step with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// None: grants end by themselves, and that is all.
    Absent,
    /// One, whose state is compared with ours that often.
    Present {
        /// The time between two reconciliations.
        reconcile_every: Duration,
    },
}

/// Works until it is dropped. Several servers may run one each.
pub(crate) struct BillingRunner<G> {
    pub(crate) billing: Arc<Billing<Store, G>>,
    pub(crate) provider: Provider,
}

impl<G: PaymentGateway> BillingRunner<G> {
    pub(crate) async fn run(self) {
        let Provider::Present { reconcile_every } = self.provider else {
            return self.review().await;
        };
        let workers = join_all((0..WORKERS).map(|_| self.project()));
        tokio::join!(
            workers,
            self.review(),
            self.recover(),
            self.reconcile(reconcile_every),
            self.watch()
        );
    }

    /// Projects what is dirty.
    async fn project(&self) {
        loop {
            match project_next(&self.billing).await {
                // Where there was one there may be more: another worker helps.
                Ok(Some(_)) => self.billing.store.wake_billing(),
                Ok(None) => {
                    let _ = timeout(POLL, self.billing.store.billing_arrived()).await;
                }
                Err(error) => wait_out(&error, "an object of the payment provider").await,
            }
        }
    }

    /// Grace that reaches a stage, grants that end.
    async fn review(&self) {
        loop {
            match review_due(&self.billing).await {
                Ok(0) => sleep(POLL).await,
                Ok(_) => {}
                Err(error) => wait_out(&error, "a review of what workspaces pay").await,
            }
        }
    }

    /// Operations whose driver is dead, or got no answer.
    async fn recover(&self) {
        loop {
            match recover_operations(&self.billing).await {
                Ok(0) => sleep(POLL).await,
                Ok(_) => {}
                Err(error) => wait_out(&error, "the recovery of operations").await,
            }
        }
    }

    /// A provider that did not answer is asked until it does, so that its return is known before somebody needs it.
    async fn watch(&self) {
        loop {
            sleep(WATCH).await;
            if self.billing.gateway.answers() == Some(false) {
                // What it answers matters to nobody; that it does is noted.
                let _ = self.billing.gateway.price(NO_PRICE).await;
            }
        }
    }

    /// Whatever was lost.
    async fn reconcile(&self, every: Duration) {
        loop {
            sleep(every).await;
            let since = default_since(self.billing.env.now());
            match reconcile(&self.billing, since, Heal::Yes).await {
                Ok(drifted) => {
                    for drift in drifted {
                        tracing::warn!("reconciliation found that {drift}");
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        error = %Causes(&error),
                        "reconciliation broke off; the next run begins anew"
                    );
                }
            }
        }
    }
}

async fn wait_out(error: &StoreError, what: &str) {
    tracing::warn!(error = %Causes(error), "{what} waits for the database");
    sleep(POLL).await;
}
