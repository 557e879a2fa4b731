//! Deliveries of events: signed, retried with growing waits, and subject to faults.
//!
//! The signature is Stripe's scheme `v1` (<https://docs.stripe.com/webhooks/signature>): HMAC-SHA256 over
//! `{t}.{body}`, with `t` in seconds of the double's own clock.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::faults::{DeliveryOrder, WebhookFaults, take_for};
use crate::json::Fields as _;
use crate::state::{Kind, World, listens};

/// Where a delivery stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryState {
    /// To be attempted, again or for the first time.
    Pending,
    /// The receiver answered with a 2xx.
    Delivered,
    /// A fault took it away.
    Dropped,
    /// Every attempt failed.
    GivenUp,
}

/// The delivery of one event to one endpoint.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Which event.
    pub event_id: String,
    /// The event's type.
    pub event_type: String,
    /// Where to.
    pub url: String,
    /// What each attempt came to: a status, or `None` where there was no answer.
    pub attempts: Vec<Option<u16>>,
    /// Where it stands.
    pub state: DeliveryState,
    pub(crate) number: u64,
    endpoint: String,
    due: Instant,
}

/// All deliveries, in the order they came about.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    all: Vec<Delivery>,
    /// The one that is on its way.
    on_its_way: Option<u64>,
    changes: u64,
}

/// A delivery that has not ended, as it is kept beyond a run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Waiting {
    event: String,
    endpoint: String,
    attempts: Vec<Option<u16>>,
}

/// What is to be sent.
pub(crate) struct Parcel {
    pub(crate) number: u64,
    pub(crate) url: String,
    pub(crate) body: String,
    pub(crate) signature: String,
}

impl Deliveries {
    pub(crate) fn list(&self) -> Vec<Delivery> {
        self.all.clone()
    }

    /// Counts what has happened to deliveries.
    pub(crate) const fn changes(&self) -> u64 {
        self.changes
    }

    /// What has not ended. Of one that is on its way it is not known whether it arrives: it is sent again.
    pub(crate) fn waiting(&self) -> Vec<Waiting> {
        let waiting = self
            .all
            .iter()
            .filter(|delivery| delivery.state == DeliveryState::Pending);
        waiting
            .map(|delivery| Waiting {
                event: delivery.event_id.clone(),
                endpoint: delivery.endpoint.clone(),
                attempts: delivery.attempts.clone(),
            })
            .collect()
    }

    /// Takes up what waited in an earlier run, for endpoints that are still there.
    pub(crate) fn restore(&mut self, world: &World, waiting: Vec<Waiting>) {
        for waiting in waiting {
            let kind = world.copy(&waiting.event).text("type").to_owned();
            let Some(endpoint) = world.get(&waiting.endpoint).filter(|_| !kind.is_empty()) else {
                continue;
            };
            self.push(&waiting.event, &kind, endpoint, Duration::ZERO, false);
            if let Some(delivery) = self.all.last_mut() {
                delivery.attempts = waiting.attempts;
            }
        }
    }

    /// Sends what waits to where its endpoint is now; what was for one that is gone is given up.
    pub(crate) fn readdress(&mut self, world: &World) {
        for delivery in &mut self.all {
            match world.get(&delivery.endpoint) {
                Some(endpoint) => endpoint.text("url").clone_into(&mut delivery.url),
                None => delivery.state = DeliveryState::GivenUp,
            }
        }
    }

    /// Plans the deliveries of what has come about.
    pub(crate) fn take_up(&mut self, world: &mut World, faults: &mut WebhookFaults) {
        for event in std::mem::take(&mut world.outbox) {
            self.plan(world, faults, &event);
        }
    }

    fn plan(&mut self, world: &World, faults: &mut WebhookFaults, event_id: &str) {
        let kind = world.copy(event_id).text("type").to_owned();
        for endpoint in receivers(world, &kind) {
            let dropped = take_for(&mut faults.drops, &kind);
            let copies = if take_for(&mut faults.duplicates, &kind) {
                2
            } else {
                1
            };
            for _ in 0..copies {
                self.push(event_id, &kind, &endpoint, faults.delay, dropped);
            }
        }
    }

    /// Sends an event again, whatever became of it.
    pub(crate) fn redeliver(&mut self, world: &World, event_id: &str) -> usize {
        let kind = world.copy(event_id).text("type").to_owned();
        let receivers = receivers(world, &kind);
        for endpoint in &receivers {
            self.push(event_id, &kind, endpoint, Duration::ZERO, false);
        }
        receivers.len()
    }

    fn push(&mut self, event: &str, kind: &str, endpoint: &Value, delay: Duration, dropped: bool) {
        self.changes += 1;
        self.all.push(Delivery {
            event_id: event.to_owned(),
            event_type: kind.to_owned(),
            url: endpoint.text("url").to_owned(),
            attempts: Vec::new(),
            state: if dropped {
                DeliveryState::Dropped
            } else {
                DeliveryState::Pending
            },
            number: self.all.len() as u64,
            endpoint: endpoint.text("id").to_owned(),
            due: Instant::now() + delay,
        });
    }

    /// Whether nothing waits and nothing is on its way.
    pub(crate) fn is_settled(&self) -> bool {
        let waits = |delivery: &Delivery| delivery.state == DeliveryState::Pending;
        self.on_its_way.is_none() && !self.all.iter().any(waits)
    }

    /// The next delivery to attempt, signed at `now`.
    pub(crate) fn next(
        &mut self,
        world: &World,
        faults: &WebhookFaults,
        now: i64,
    ) -> Option<Parcel> {
        if faults.held {
            return None;
        }
        let moment = Instant::now();
        let due = self
            .all
            .iter()
            .filter(|delivery| delivery.state == DeliveryState::Pending && delivery.due <= moment);
        let next = match faults.order {
            DeliveryOrder::OldestFirst => due.min_by_key(|delivery| delivery.number),
            DeliveryOrder::NewestFirst => due.max_by_key(|delivery| delivery.number),
            DeliveryOrder::Shuffled(seed) => due.min_by_key(|delivery| {
                let mut hasher = DefaultHasher::new();
                (seed, delivery.number).hash(&mut hasher);
                hasher.finish()
            }),
        }?;
        let number = next.number;
        let event = crate::json::visible(&world.copy(&next.event_id));
        let body = serde_json::to_string_pretty(&event).unwrap_or_default();
        let secret = world.copy(&next.endpoint).text("_secret").to_owned();
        let url = next.url.clone();
        self.on_its_way = Some(number);
        Some(Parcel {
            number,
            url,
            signature: signature(&secret, now, &body),
            body,
        })
    }

    /// Notes what an attempt came to, and plans the next one where it failed.
    pub(crate) fn attempted(
        &mut self,
        world: &mut World,
        number: u64,
        status: Option<u16>,
        backoff: &[Duration],
    ) {
        self.on_its_way = None;
        self.changes += 1;
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        let Some(delivery) = self.all.get_mut(place) else {
            return;
        };
        delivery.attempts.push(status);
        if status.is_some_and(|status| (200..300).contains(&status)) {
            delivery.state = DeliveryState::Delivered;
            world.edit(&delivery.event_id, |event| {
                let pending = event.number("pending_webhooks");
                event["pending_webhooks"] = Value::from((pending - 1).max(0));
            });
            return;
        }
        match backoff.get(delivery.attempts.len() - 1) {
            Some(wait) => delivery.due = Instant::now() + *wait,
            None => delivery.state = DeliveryState::GivenUp,
        }
    }
}

fn receivers(world: &World, event: &str) -> Vec<Value> {
    let endpoints = world.all(Kind::WebhookEndpoint);
    let listening = endpoints
        .filter(|endpoint| endpoint.text("status") == "enabled" && listens(endpoint, event));
    listening.cloned().collect()
}

/// The header `Stripe-Signature`.
pub(crate) fn signature(secret: &str, at: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{at}.{body}").as_bytes());
    let digest: String = tag.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("t={at},v1={digest}")
}

#[cfg(test)]
mod tests {
    use super::signature;

    /// Computed with OpenSSL: `printf '1614556800.{"id":"evt_1"}' | openssl dgst -sha256 -hmac whsec_test`.
    #[test]
    fn the_signature_is_hmac_sha256_over_time_and_body() {
        assert_eq!(
            signature("whsec_test", 1_614_556_800, r#"{"id":"evt_1"}"#),
            "t=1614556800,v1=e326b9127f526dab808bd39e79a44ab61b0dc0517386b06a7abf563ce203409b"
        );
    }
}
