//! What is done with endpoints.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_identity::{MasterKey, Sealer, Unsealable};
use rawdrive_tenancy_core::audit::{AuditTx, Change};
use rawdrive_tenancy_core::event::{EventSelection, RecordedEvent};
use rawdrive_tenancy_core::id::{DeliveryId, WebhookEndpointId, WorkspaceId};
use rawdrive_tenancy_core::job::JobsTx;
use rawdrive_tenancy_core::{Env, StoreError};
use serde_json::{Value, json};

use super::{
    DeliverWebhooks, Delivery, DeliveryState, Endpoint, Message, ResendWebhook, WebhookSecret,
    WebhookUrl, WebhooksTx, signature, told,
};

/// How many endpoints a workspace has at most.
pub const MAX_ENDPOINTS: u64 = 20;
/// For how long the secret before signs too.
const OVERLAP: TimeDelta = TimeDelta::hours(24);

/// Seals and opens endpoints' secrets.
#[derive(Clone)]
pub struct WebhookKeys(Sealer);

impl fmt::Debug for WebhookKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookKeys(…)")
    }
}

impl WebhookKeys {
    /// From the installation's secret key.
    #[must_use]
    pub fn new(master: &MasterKey) -> Self {
        Self(Sealer::new(master, "webhook secrets"))
    }

    fn seal(&self, env: &Env, workspace: WorkspaceId, secret: &WebhookSecret) -> String {
        self.0.seal(env, &workspace.to_string(), &secret.text())
    }

    fn open(&self, workspace: WorkspaceId, sealed: &str) -> Result<WebhookSecret, Unsealable> {
        let text = self.0.open(&workspace.to_string(), sealed)?;
        WebhookSecret::parse(&text).ok_or(Unsealable)
    }

    /// An event as it is sent to an endpoint at `sent`; `now` says which secrets are in force.
    ///
    /// # Errors
    /// The secret was sealed under another key.
    pub fn message(
        &self,
        workspace: WorkspaceId,
        endpoint: &Endpoint,
        event: &RecordedEvent,
        sent: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Message, Unsealable> {
        let mut secrets = vec![self.open(workspace, &endpoint.secret)?];
        if let Some((old, until)) = &endpoint.old_secret
            && now < *until
        {
            secrets.push(self.open(workspace, old)?);
        }
        let body = told(workspace, event).to_string().into_bytes();
        Ok(Message {
            event: event.id,
            at: sent,
            signature: signature(&secrets, event.id, sent, &body),
            body,
        })
    }
}

/// Why something cannot be done with an endpoint.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// There is none of this id.
    #[error("there is no such endpoint")]
    Unknown,
    /// The workspace has as many as it may.
    #[error("the workspace has {MAX_ENDPOINTS} endpoints: delete one first")]
    TooMany,
    /// The event is on its way.
    #[error("this delivery is under way: it is sent again by itself")]
    UnderWay,
    /// The endpoint is disabled.
    #[error("the endpoint is disabled: enable it first")]
    Disabled,
    /// The feed does not keep the event any more.
    #[error("the event is older than the feed")]
    TooOld,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An endpoint to be made.
#[derive(Debug, Clone)]
pub struct NewEndpoint {
    /// The address.
    pub url: WebhookUrl,
    /// Which events it gets.
    pub wants: EventSelection,
}

/// What is to be changed.
#[derive(Debug, Clone, Default)]
pub struct EndpointChange {
    /// Another address.
    pub url: Option<WebhookUrl>,
    /// Other events.
    pub wants: Option<EventSelection>,
    /// Whether events are sent.
    pub enabled: Option<bool>,
}

fn settings(endpoint: &Endpoint) -> Value {
    json!({
        "url": endpoint.url.as_str(), "events": endpoint.wants.kinds(), "enabled": endpoint.enabled,
    })
}

/// Makes an endpoint, which gets what happens from now on, its own making first. Its secret is shown here alone.
///
/// # Errors
/// [`EndpointError::TooMany`], or the database's failure.
pub async fn create_endpoint(
    tx: &mut (impl WebhooksTx + AuditTx),
    env: &Env,
    keys: &WebhookKeys,
    workspace: WorkspaceId,
    new: NewEndpoint,
) -> Result<(Endpoint, WebhookSecret), EndpointError> {
    let end = tx.lock_feed().await?;
    if tx.count_webhook_endpoints().await? >= MAX_ENDPOINTS {
        return Err(EndpointError::TooMany);
    }
    let secret = WebhookSecret::generate(env);
    let endpoint = Endpoint {
        id: env.id(),
        url: new.url,
        wants: new.wants,
        secret: keys.seal(env, workspace, &secret),
        old_secret: None,
        enabled: true,
        disabled: None,
        delivered_seq: end,
        failing_since: None,
        created_at: env.now(),
        version: 1,
    };
    tx.insert_webhook_endpoint(&endpoint).await?;
    tx.record(Change {
        action: "webhook_endpoint.created",
        subject: endpoint.id.to_string(),
        before: Value::Null,
        after: settings(&endpoint),
    });
    Ok((endpoint, secret))
}

/// Changes an endpoint. One that is enabled anew gets what happens from then on: what it has missed is in the feed.
/// `fits` judges what is there before anything is changed.
///
/// # Errors
/// [`EndpointError::Unknown`], what `fits` says, or the database's failure.
pub async fn change_endpoint<E: From<EndpointError>>(
    tx: &mut (impl WebhooksTx + AuditTx + JobsTx),
    id: WebhookEndpointId,
    change: EndpointChange,
    fits: impl FnOnce(&Endpoint) -> Result<(), E>,
) -> Result<Endpoint, E> {
    let end = tx.lock_feed().await.map_err(EndpointError::from)?;
    let found = tx.locked_webhook_endpoint(id).await;
    let found = found.map_err(EndpointError::from)?;
    let mut endpoint = found.ok_or(EndpointError::Unknown)?;
    fits(&endpoint)?;
    let before = settings(&endpoint);
    // What waits for a receiver that was elsewhere, or off, does not wait any longer.
    let is_tried_at_once = change.enabled.unwrap_or(endpoint.enabled)
        && (!endpoint.enabled || change.url.as_ref().is_some_and(|url| *url != endpoint.url));
    if let Some(url) = change.url {
        endpoint.url = url;
    }
    if let Some(wants) = change.wants {
        endpoint.wants = wants;
    }
    if change.enabled == Some(true) && !endpoint.enabled {
        endpoint.disabled = None;
        endpoint.failing_since = None;
        endpoint.delivered_seq = end;
    }
    if let Some(enabled) = change.enabled {
        endpoint.enabled = enabled;
    }
    let after = settings(&endpoint);
    if after != before {
        endpoint.version += 1;
        let updated = tx.update_webhook_endpoint(&endpoint).await;
        updated.map_err(EndpointError::from)?;
        if !endpoint.enabled {
            // Nothing would come of them, and nobody could send them again.
            let given_up = tx.give_up_deliveries(id).await;
            given_up.map_err(EndpointError::from)?;
        }
        if is_tried_at_once {
            let awake = tx.set_awake(id, true).await;
            awake.map_err(EndpointError::from)?;
            let job = tx.enqueue(&DeliverWebhooks { endpoint: id }, None);
            job.map_err(EndpointError::from)?;
        }
        tx.record(Change {
            action: "webhook_endpoint.updated",
            subject: id.to_string(),
            before,
            after,
        });
    }
    Ok(endpoint)
}

/// Deletes an endpoint with its deliveries.
///
/// # Errors
/// [`EndpointError::Unknown`], or the database's failure.
pub async fn delete_endpoint(
    tx: &mut (impl WebhooksTx + AuditTx),
    id: WebhookEndpointId,
) -> Result<(), EndpointError> {
    let _ = tx.lock_feed().await?;
    let endpoint = tx.locked_webhook_endpoint(id).await?;
    let endpoint = endpoint.ok_or(EndpointError::Unknown)?;
    tx.delete_webhook_endpoint(id).await?;
    tx.record(Change {
        action: "webhook_endpoint.deleted",
        subject: id.to_string(),
        before: settings(&endpoint),
        after: Value::Null,
    });
    Ok(())
}

/// Gives an endpoint a new secret. The one before signs too for a day.
///
/// # Errors
/// [`EndpointError::Unknown`], or the database's failure.
pub async fn rotate_secret(
    tx: &mut (impl WebhooksTx + AuditTx),
    env: &Env,
    keys: &WebhookKeys,
    workspace: WorkspaceId,
    id: WebhookEndpointId,
) -> Result<(Endpoint, WebhookSecret), EndpointError> {
    let _ = tx.lock_feed().await?;
    let endpoint = tx.locked_webhook_endpoint(id).await?;
    let mut endpoint = endpoint.ok_or(EndpointError::Unknown)?;
    let secret = WebhookSecret::generate(env);
    let old = std::mem::replace(&mut endpoint.secret, keys.seal(env, workspace, &secret));
    endpoint.old_secret = Some((old, env.now() + OVERLAP));
    endpoint.version += 1;
    tx.update_webhook_endpoint(&endpoint).await?;
    tx.record(Change {
        action: "webhook_endpoint.secret_rotated",
        subject: id.to_string(),
        before: Value::Null,
        after: Value::Null,
    });
    Ok((endpoint, secret))
}

/// Has an event that was delivered or given up sent once more, with the same id.
///
/// # Errors
/// [`EndpointError::Unknown`], [`EndpointError::UnderWay`], [`EndpointError::Disabled`], [`EndpointError::TooOld`], or
/// the database's failure.
pub async fn send_again(
    tx: &mut (impl WebhooksTx + JobsTx),
    env: &Env,
    id: DeliveryId,
) -> Result<Delivery, EndpointError> {
    // Two that ask at once: one of them finds it under way.
    let _ = tx.lock_feed().await?;
    let delivery = tx.locked_delivery(id).await?;
    let mut delivery = delivery.ok_or(EndpointError::Unknown)?;
    if delivery.state == DeliveryState::Pending {
        return Err(EndpointError::UnderWay);
    }
    let endpoint = tx.locked_webhook_endpoint(delivery.endpoint).await?;
    if !endpoint.ok_or(EndpointError::Unknown)?.enabled {
        return Err(EndpointError::Disabled);
    }
    if !tx.keeps_event(delivery.event_seq).await? {
        return Err(EndpointError::TooOld);
    }
    delivery.state = DeliveryState::Pending;
    delivery.attempts = 0;
    delivery.next_attempt_at = Some(env.now());
    tx.put_delivery(&delivery).await?;
    tx.enqueue(&ResendWebhook { delivery: id }, None)?;
    Ok(delivery)
}
