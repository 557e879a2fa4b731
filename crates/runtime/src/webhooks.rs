//! Outbound webhooks: each endpoint has one job at most, which sends it one event after the other and ends when there is
//! none left. A commit that adds events to the feed leaves a job for each endpoint that has none.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rawdrive_identity::Unsealable;
use rawdrive_notices::webhooks::{
    Attempted, DeliverWebhooks, Delivery, DeliveryState, DisabledReason, Endpoint, ResendWebhook,
    WEBHOOK_ENDPOINT_DISABLED, WebhookKeys, WebhookSender, WebhooksRead as _, WebhooksTx as _,
    judge,
};
use rawdrive_store::WriteTx;
use rawdrive_tenancy_core::Commit as _;
use rawdrive_tenancy_core::event::{DomainEvent, EventSelection, EventsTx as _, RecordedEvent};
use rawdrive_tenancy_core::id::WebhookEndpointId;
use rawdrive_tenancy_core::job::JobsTx as _;
use rawdrive_tenancy_core::page::{PageRequest, Position};
use tokio::time::Instant;

use crate::job::{JobContext, JobError};

/// How many endpoints are sent to at once: most of the time is spent waiting for receivers, and one that hangs is in
/// nobody's way.
pub(crate) const CONCURRENCY: u32 = 128;
/// How long one job sends before it makes way: an attempt of a job is over before its lease ends.
const TURN: Duration = Duration::from_secs(25);
/// So many events are read at a time.
const BATCH: u16 = 20;

/// What outbound webhooks need.
pub struct Webhooks<S> {
    /// Sends a message.
    pub sender: S,
    /// Opens the endpoints' secrets.
    pub keys: WebhookKeys,
}

impl<S> fmt::Debug for Webhooks<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhooks").finish_non_exhaustive()
    }
}

/// How far an attempt has got.
enum Sent {
    /// The next event may follow.
    Done,
    /// Somebody has changed the endpoint meanwhile.
    Changed,
    /// Nothing follows: the job has ended.
    Ended,
}

impl<S: WebhookSender> Webhooks<S> {
    /// Sends an endpoint what it has not got yet, in the feed's order.
    pub(crate) async fn deliver(
        &self,
        context: JobContext,
        job: DeliverWebhooks,
    ) -> Result<(), JobError> {
        let began = Instant::now();
        let reader = context.store().read(context.scope());
        loop {
            let endpoint = reader.webhook_endpoint(job.endpoint).await?;
            let Some(endpoint) = endpoint.filter(|endpoint| endpoint.enabled) else {
                return self.sleep(&context, job.endpoint, None).await;
            };
            let page = PageRequest {
                limit: BATCH,
                after: Some(Position::Seq(endpoint.delivered_seq)),
            };
            let end = reader.feed_end().await?;
            let found = reader.events(page, &endpoint.wants).await?;
            if found.items.is_empty() {
                // Up to there nothing is wanted.
                return self
                    .sleep(&context, job.endpoint, Some((end, endpoint.wants)))
                    .await;
            }
            let mut endpoint = endpoint;
            for event in &found.items {
                if began.elapsed() > TURN {
                    return make_way(&context, job).await;
                }
                match self.next(&context, &mut endpoint, event).await? {
                    Sent::Done => {}
                    Sent::Changed => break,
                    Sent::Ended => return Ok(()),
                }
            }
        }
    }

    /// Sends the next event of an endpoint.
    async fn next(
        &self,
        context: &JobContext,
        endpoint: &mut Endpoint,
        event: &RecordedEvent,
    ) -> Result<Sent, JobError> {
        let env = context.store().env();
        let earlier = context
            .store()
            .read(context.scope())
            .delivery_of(endpoint.id, event.seq)
            .await?;
        let mut delivery = earlier.unwrap_or_else(|| Delivery {
            id: env.id(),
            endpoint: endpoint.id,
            event: event.id,
            event_seq: event.seq,
            kind: event.event.kind.clone(),
            state: DeliveryState::Pending,
            attempts: 0,
            response_status: None,
            error: None,
            last_attempt_at: None,
            next_attempt_at: None,
            created_at: env.now(),
        });
        let attempted = self
            .attempt(context, endpoint, event, &mut delivery)
            .await?;
        let now = env.now();
        let mut tx = context.begin().await?;
        let _ = tx.lock_feed().await?;
        // Changed meanwhile: what is there now counts. One that was enabled anew begins elsewhere.
        let stored = tx.locked_webhook_endpoint(endpoint.id).await?;
        let Some(mut current) =
            stored.filter(|e| e.enabled && e.delivered_seq == endpoint.delivered_seq)
        else {
            return Ok(Sent::Changed);
        };
        let [random] = env.bytes();
        let verdict = judge(
            attempted,
            delivery.attempts,
            current.failing_since,
            now,
            random,
        );
        delivery.state = verdict.state;
        delivery.next_attempt_at = verdict.again_at;
        tx.put_delivery(&delivery).await?;
        current.failing_since = verdict.failing_since;
        if verdict.state != DeliveryState::Pending {
            current.delivered_seq = event.seq;
        }
        if let Some(reason) = verdict.disables {
            disable(&mut tx, &mut current, reason);
            tx.give_up_deliveries(current.id).await?;
        }
        tx.update_webhook_endpoint(&current).await?;
        let ended = if let Some(again_at) = verdict.again_at {
            tx.enqueue(
                &DeliverWebhooks {
                    endpoint: endpoint.id,
                },
                Some(again_at),
            )?;
            true
        } else if verdict.disables.is_some() {
            tx.set_awake(endpoint.id, false).await?;
            true
        } else {
            false
        };
        if ended {
            context.finish(&mut tx).await?;
        }
        tx.commit().await?;
        *endpoint = current;
        Ok(if ended { Sent::Ended } else { Sent::Done })
    }

    /// Nothing is left to send: the next commit that adds events wakes the endpoint. `nothing_until` says how far the feed
    /// was looked through, for which events.
    async fn sleep(
        &self,
        context: &JobContext,
        id: WebhookEndpointId,
        nothing_until: Option<(u64, EventSelection)>,
    ) -> Result<(), JobError> {
        let mut tx = context.begin().await?;
        let end = tx.lock_feed().await?;
        let endpoint = tx.locked_webhook_endpoint(id).await?;
        if let (Some(mut endpoint), Some((until, wants))) = (endpoint, nothing_until)
            && endpoint.enabled
        {
            if until == end && endpoint.wants == wants {
                if endpoint.delivered_seq < end {
                    endpoint.delivered_seq = end;
                    tx.update_webhook_endpoint(&endpoint).await?;
                }
            } else {
                // More has come, or something else is wanted now.
                drop(tx);
                return make_way(context, DeliverWebhooks { endpoint: id }).await;
            }
        }
        tx.set_awake(id, false).await?;
        context.finish(&mut tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Sends one event once more, beside the others, as often as any.
    pub(crate) async fn resend(
        &self,
        context: JobContext,
        job: ResendWebhook,
    ) -> Result<(), JobError> {
        let reader = context.store().read(context.scope());
        let Some(mut delivery) = reader.webhook_delivery(job.delivery).await? else {
            return Ok(());
        };
        let endpoint = reader.webhook_endpoint(delivery.endpoint).await?;
        let event = reader.event_at(delivery.event_seq).await?;
        let (Some(endpoint), Some(event)) = (endpoint, event) else {
            return Ok(());
        };
        if delivery.state != DeliveryState::Pending {
            return Ok(());
        }
        let attempted = self
            .attempt(&context, &endpoint, &event, &mut delivery)
            .await?;
        let env = context.store().env();
        let [random] = env.bytes();
        let verdict = judge(attempted, delivery.attempts, None, env.now(), random);
        let mut tx = context.begin().await?;
        let _ = tx.lock_feed().await?;
        if tx.locked_webhook_endpoint(endpoint.id).await?.is_none() {
            return Ok(());
        }
        delivery.state = verdict.state;
        delivery.next_attempt_at = verdict.again_at;
        tx.put_delivery(&delivery).await?;
        if let Some(again_at) = verdict.again_at {
            tx.enqueue(&job, Some(again_at))?;
        }
        context.finish(&mut tx).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn attempt(
        &self,
        context: &JobContext,
        endpoint: &Endpoint,
        event: &RecordedEvent,
        delivery: &mut Delivery,
    ) -> Result<Attempted, Unsealable> {
        let env = context.store().env();
        // Receivers compare the time with their own clocks, whatever this server takes for now.
        let (sent, now): (DateTime<Utc>, _) = (env.lease_now(), env.now());
        let workspace = context.scope().workspace();
        let message = self.keys.message(workspace, endpoint, event, sent, now)?;
        let attempted = match self.sender.send(&endpoint.url, &message).await {
            Ok(status) => Attempted::Answered(status),
            Err(failure) => Attempted::Failed(failure),
        };
        delivery.attempts += 1;
        delivery.last_attempt_at = Some(env.now());
        delivery.response_status = attempted.status();
        delivery.error = attempted.error();
        Ok(attempted)
    }
}

/// Another job goes on in its turn.
async fn make_way(context: &JobContext, job: DeliverWebhooks) -> Result<(), JobError> {
    let mut tx = context.begin().await?;
    tx.enqueue(&job, None)?;
    context.finish(&mut tx).await?;
    tx.commit().await?;
    Ok(())
}

fn disable(tx: &mut WriteTx, endpoint: &mut Endpoint, reason: DisabledReason) {
    endpoint.enabled = false;
    endpoint.disabled = Some(reason);
    endpoint.version += 1;
    tx.emit(DomainEvent {
        kind: WEBHOOK_ENDPOINT_DISABLED.to_owned(),
        subject: endpoint.id.to_string(),
        facts: serde_json::json!({ "reason": reason.as_str(), "host": endpoint.url.host() }),
    });
}
