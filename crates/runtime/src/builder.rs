//! A runtime is put together by registration, and then runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rawdrive_billing::{Billing, PaymentGateway};
use rawdrive_identity::ProofRequest;
use rawdrive_notices::webhooks::{DeliverWebhooks, ResendWebhook, WebhookSender};
use rawdrive_notices::{Mailer, SendMail};
use rawdrive_onboarding::Step;
use rawdrive_plans::ReviewThresholds;
use rawdrive_store::{Store, in_background};
use rawdrive_tenancy_core::Commit as _;
use rawdrive_tenancy_core::event::{DeliverEvent, DomainEvent};
use rawdrive_tenancy_core::job::{JobKind, LeasedJob};
use rawdrive_usage::Republisher;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use crate::billing::{BillingRunner, Provider};
use crate::events::{Consumer, Interest, consume, deliver, job_kind};
use crate::housekeeping;
use crate::job::{Handler, JobContext, JobError};
use crate::lane::Lane;
use crate::mails::Mails;
use crate::queue::{Jobs, Requests};
use crate::webhooks::{self, Webhooks};

/// How much of a kind runs at once, unless somebody says otherwise.
const CONCURRENCY: u32 = 8;
/// The name of the consumer that mails owners.
const MAIL: &str = "mail";

/// Registers what a runtime does. Housekeeping comes with every runtime.
pub struct Builder {
    store: Store,
    handlers: BTreeMap<String, Handler<LeasedJob>>,
    consumers: Vec<Consumer>,
    concurrency: BTreeMap<String, u32>,
    requests: Option<Handler<ProofRequest>>,
    services: Vec<(&'static str, BoxFuture<'static, ()>)>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("kinds", &self.handlers.keys())
            .finish_non_exhaustive()
    }
}

impl Builder {
    fn new(store: Store) -> Self {
        Self {
            store,
            handlers: BTreeMap::new(),
            consumers: Vec::new(),
            concurrency: BTreeMap::new(),
            requests: None,
            services: Vec::new(),
        }
    }

    /// Carries jobs of a kind out. A payload that does not read as the kind's type is kept, named in the log and tried
    /// again: a later release may read it.
    ///
    /// # Panics
    /// The kind has a handler already.
    #[must_use]
    pub fn job<K, F, Fut>(self, handler: F) -> Self
    where
        K: JobKind + Send + 'static,
        F: Fn(JobContext, K) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), JobError>> + Send + 'static,
    {
        let (store, handler) = (self.store.clone(), Arc::new(handler));
        self.handle(
            K::NAME.to_owned(),
            Arc::new(move |leased: LeasedJob| {
                let (store, handler) = (store.clone(), handler.clone());
                Box::pin(async move {
                    let payload = leased.job.payload().map_err(Payload)?;
                    handler(JobContext::new(store, leased), payload).await
                })
            }),
        )
    }

    /// Tells a consumer of each event of a kind. The consumer's name is the event's kind; where several want it, the
    /// others are named by [`Builder::consumer`].
    ///
    /// # Panics
    /// There is a consumer of that name.
    #[must_use]
    pub fn on<F, Fut>(self, event: &'static str, consumer: F) -> Self
    where
        F: Fn(JobContext, DomainEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), JobError>> + Send + 'static,
    {
        self.consumer(event, move |e| e.kind == event, consumer)
    }

    /// Tells a consumer of every event.
    ///
    /// # Panics
    /// There is a consumer of that name.
    #[must_use]
    pub fn on_all<F, Fut>(self, name: &str, consumer: F) -> Self
    where
        F: Fn(JobContext, DomainEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), JobError>> + Send + 'static,
    {
        self.consumer(name, |_| true, consumer)
    }

    /// Tells a consumer of the events that it wants. Its name is stored with what waits for it, and stays: a consumer
    /// that is renamed or left out leaves its events behind, kept and named as jobs of a kind without a handler.
    ///
    /// # Panics
    /// There is a consumer of that name.
    #[must_use]
    pub fn consumer<F, Fut>(
        mut self,
        name: &str,
        wants: impl Fn(&DomainEvent) -> bool + Send + Sync + 'static,
        consumer: F,
    ) -> Self
    where
        F: Fn(JobContext, DomainEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), JobError>> + Send + 'static,
    {
        let (job_kind, wants): (_, Interest) = (job_kind(name), Box::new(wants));
        self.consumers.push(Consumer {
            job_kind: job_kind.clone(),
            wants,
        });
        let handler = consume(self.store.clone(), consumer);
        self.handle(job_kind, handler)
    }

    /// Bounds how many jobs of a kind run at once; 8 where nothing is said. A consumer's kind is `event.<name>`.
    #[must_use]
    pub fn concurrency(mut self, kind: &str, at_once: u32) -> Self {
        self.concurrency.insert(kind.to_owned(), at_once.max(1));
        self
    }

    /// Sends mails: what events say to owners, letters that transactions leave behind, and links that people ask for.
    #[must_use]
    pub fn mails<M: Mailer + 'static>(mut self, mails: Mails<M>) -> Self {
        let mails = Arc::new(mails);
        let (answering, telling, store) = (mails.clone(), mails.clone(), self.store.clone());
        self.requests = Some(Arc::new(move |request| {
            let (mails, store) = (answering.clone(), store.clone());
            Box::pin(async move { mails.answer(&store, &request).await })
        }));
        self.consumer(MAIL, Mails::<M>::is_told, move |context, event| {
            let mails = telling.clone();
            async move { mails.tell(context, event).await }
        })
        .job(move |context, mail: SendMail| {
            let mails = mails.clone();
            async move { mails.send(context, mail).await }
        })
    }

    /// Sends events to the endpoints that workspaces name.
    #[must_use]
    pub fn webhooks<S: WebhookSender + 'static>(self, webhooks: Webhooks<S>) -> Self {
        let webhooks = Arc::new(webhooks);
        let again = webhooks.clone();
        self.job(move |context, job: DeliverWebhooks| {
            let webhooks = webhooks.clone();
            async move { webhooks.deliver(context, job).await }
        })
        .job(move |context, job: ResendWebhook| {
            let webhooks = again.clone();
            async move { webhooks.resend(context, job).await }
        })
        .concurrency(DeliverWebhooks::NAME, webhooks::CONCURRENCY)
    }

    /// Reviews thresholds where limits have changed, and whether the onboarding of these steps is complete by that.
    #[must_use]
    pub fn review_thresholds(self, steps: Vec<Step>) -> Self {
        let steps: Arc<[Step]> = steps.into();
        self.job(move |context: JobContext, _: ReviewThresholds| {
            let steps = steps.clone();
            async move {
                let env = context.store().env();
                let mut tx = context.begin().await?;
                rawdrive_usage::review(&mut tx, env).await?;
                // A step that the plan cannot do (any more) holds nothing back.
                rawdrive_onboarding::review(&mut tx, env, &steps).await?;
                context.finish(&mut tx).await?;
                tx.commit().await?;
                Ok(())
            }
        })
    }

    /// Keeps billing in step: projects what webhooks touched, recovers operations, reconciles, ends grants and grace.
    #[must_use]
    pub fn billing<G: PaymentGateway + 'static>(
        mut self,
        billing: Arc<Billing<Store, G>>,
        provider: Provider,
    ) -> Self {
        let runner = BillingRunner { billing, provider };
        self.services.push(("billing", Box::pin(runner.run())));
        self
    }

    /// Repeats what the cache of usage may have missed.
    #[must_use]
    pub fn usage_cache(mut self, republisher: Republisher<Store>) -> Self {
        let run = Box::pin(republisher.run());
        self.services.push(("the cache of usage", run));
        self
    }

    fn handle(mut self, kind: String, handler: Handler<LeasedJob>) -> Self {
        let before = self.handlers.insert(kind.clone(), handler);
        assert!(
            before.is_none(),
            "jobs of the kind {kind} have two handlers"
        );
        self
    }

    /// The runtime.
    ///
    /// # Panics
    /// A bound is set for a kind that has no handler.
    #[must_use]
    pub fn build(mut self) -> Runtime {
        let consumers = std::mem::take(&mut self.consumers);
        let delivery = deliver(self.store.clone(), consumers);
        let mut this = self.handle(DeliverEvent::NAME.to_owned(), delivery);
        let kinds: BTreeSet<_> = this.handlers.keys().cloned().collect();
        for kind in this.concurrency.keys() {
            assert!(kinds.contains(kind), "no handler is registered for {kind}");
        }
        let store = &this.store;
        this.services.extend([
            (
                "waking lanes",
                Box::pin(housekeeping::wake_lanes(store.clone())) as BoxFuture<'static, ()>,
            ),
            (
                "giving back",
                Box::pin(housekeeping::give_back(store.clone())),
            ),
            (
                "sweeping",
                Box::pin(housekeeping::sweep(store.clone(), kinds)),
            ),
        ]);
        Runtime(this)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("failed to read a job's payload")]
struct Payload(#[source] serde_json::Error);

/// Background work, ready to run.
pub struct Runtime(Builder);

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Runtime").field(&self.0).finish()
    }
}

impl Runtime {
    /// Begins the registration.
    #[must_use]
    pub fn builder(store: Store) -> Builder {
        Builder::new(store)
    }

    /// Works until it is dropped, which is safe at any time: what had begun is done again, here or elsewhere.
    pub async fn run(self) {
        self.run_until(std::future::pending(), Duration::ZERO).await;
    }

    /// Works until `stop` comes. Then nothing more is begun, and jobs that have begun have so much time to end.
    pub async fn run_until(self, stop: impl Future<Output = ()>, grace: Duration) {
        let Self(mut builder) = self;
        let (end, ending) = watch::channel(false);
        let mut lanes = JoinSet::new();
        for (kind, handler) in std::mem::take(&mut builder.handlers) {
            let concurrency = builder.concurrency.get(&kind).copied();
            let lane = Lane {
                queue: Jobs {
                    store: builder.store.clone(),
                    kind,
                },
                handler,
                concurrency: concurrency.unwrap_or(CONCURRENCY),
            };
            lanes.spawn(in_background(lane.run(ending.clone())));
        }
        if let Some(handler) = builder.requests.take() {
            let lane = Lane {
                queue: Requests(builder.store.clone()),
                handler,
                concurrency: CONCURRENCY,
            };
            lanes.spawn(in_background(lane.run(ending.clone())));
        }
        let mut services = JoinSet::new();
        for (name, service) in builder.services {
            services.spawn(in_background(async move {
                service.await;
                name
            }));
        }
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                // They run until they are told to end: only a panic ends one.
                Some(ended) = lanes.join_next() => tell(ended.map(|()| "a lane")),
                Some(ended) = services.join_next() => tell(ended),
            }
        }
        services.abort_all();
        let _ = end.send(true);
        let all = async { while lanes.join_next().await.is_some() {} };
        if timeout(grace, all).await.is_err() {
            tracing::warn!("jobs that did not end in time are left to the next run");
        }
    }
}

/// One part of the runtime has ended, and the others go on.
fn tell(ended: Result<&'static str, JoinError>) {
    match ended {
        Ok(name) => tracing::error!("{name} has ended by itself"),
        Err(error) => tracing::error!(%error, "a part of the runtime has ended"),
    }
}
