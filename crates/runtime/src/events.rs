//! Events: each is told to each consumer that wants it by a job of its own.

use std::sync::Arc;

use rawdrive_store::Store;
use rawdrive_tenancy_core::Commit as _;
use rawdrive_tenancy_core::event::{DeliverEvent, DomainEvent};
use rawdrive_tenancy_core::job::{Job, JobsTx as _, LeasedJob};

use crate::job::{Handler, JobContext, JobError};

/// Which events a consumer wants.
pub(crate) type Interest = Box<dyn Fn(&DomainEvent) -> bool + Send + Sync>;

/// One consumer of events.
pub(crate) struct Consumer {
    /// The kind of its jobs.
    pub(crate) job_kind: String,
    pub(crate) wants: Interest,
}

/// The kind of a consumer's jobs. The name is stored: a consumer that is renamed leaves its events behind.
pub(crate) fn job_kind(consumer: &str) -> String {
    format!("event.{consumer}")
}

/// Delivers an event: one transaction leaves a job for each consumer, and finishes the delivery. Where nobody wants it
/// the delivery is just finished.
pub(crate) fn deliver(store: Store, consumers: Vec<Consumer>) -> Handler<LeasedJob> {
    let consumers = Arc::new(consumers);
    Arc::new(move |leased| {
        let (context, consumers) = (
            JobContext::new(store.clone(), leased.clone()),
            consumers.clone(),
        );
        Box::pin(async move {
            let DeliverEvent { event } = leased.job.payload()?;
            let wanting: Vec<_> = consumers.iter().filter(|c| (c.wants)(&event)).collect();
            if wanting.is_empty() {
                return Ok(());
            }
            let told = DeliverEvent { event };
            let mut tx = context.begin().await?;
            for consumer in wanting {
                tx.enqueue_job(Job::named(&consumer.job_kind, &told)?, None);
            }
            context.finish(&mut tx).await?;
            tx.commit().await?;
            Ok(())
        })
    })
}

/// The handler of one consumer's jobs.
pub(crate) fn consume<F, Fut>(store: Store, consumer: F) -> Handler<LeasedJob>
where
    F: Fn(JobContext, DomainEvent) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), JobError>> + Send + 'static,
{
    let consumer = Arc::new(consumer);
    Arc::new(move |leased| {
        let (store, consumer) = (store.clone(), consumer.clone());
        Box::pin(async move {
            let DeliverEvent { event } = leased.job.payload()?;
            consumer(JobContext::new(store, leased), event).await
        })
    })
}
