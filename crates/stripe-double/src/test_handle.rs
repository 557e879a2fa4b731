//! The double as the embedding program holds it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::cards::Decline;
use crate::config::{Config, StartError};
use crate::engine::cycling::{PAUSE_REASONS, enter_pause};
use crate::engine::invoicing::FINALIZATION_ERRORS;
use crate::engine::paying;
use crate::faults::{DeliveryOrder, Fault, Matching};
use crate::json::{Fields as _, set, visible};
use crate::server::{self, Running};
use crate::shared::{Call, Shared};
use crate::state::Kind;
use crate::webhooks::Delivery;

/// A running double. It stops when this is dropped.
pub struct StripeDouble {
    running: Running,
}

impl StripeDouble {
    /// Starts a double on a thread of its own; it serves when this returns.
    ///
    /// # Errors
    /// Fails if the address cannot be listened on or the thread cannot be started.
    pub fn start(config: Config) -> Result<Self, StartError> {
        server::start(config).map(|running| Self { running })
    }

    /// The base URL, without a trailing slash: what a client takes for `https://api.stripe.com`.
    pub fn url(&self) -> String {
        format!("http://{}", self.running.address)
    }

    /// What is to go wrong.
    pub fn faults(&self) -> Faults {
        Faults::of(&self.running.shared)
    }

    /// What the double holds, and what has been asked of it.
    pub fn state(&self) -> State {
        State {
            shared: Arc::clone(&self.running.shared),
        }
    }

    /// Does everything that the clock has made due, now rather than at the next tick.
    pub fn settle(&self) {
        let shared = &self.running.shared;
        let mut inner = shared.lock();
        shared.catch_up(&mut inner);
        // Once more: a test clock that arrives may leave what the other clocks must do.
        shared.catch_up(&mut inner);
    }

    /// Moves the double's time ahead of the clock it was given, and does what that makes due.
    pub fn advance(&self, by: chrono::Duration) {
        let shared = &self.running.shared;
        let mut inner = shared.lock();
        inner.ahead += by.num_seconds();
        shared.catch_up(&mut inner);
    }

    /// The double's time.
    pub fn now(&self) -> DateTime<Utc> {
        let shared = &self.running.shared;
        let now = shared.now(&shared.lock());
        DateTime::from_timestamp(now, 0).unwrap_or_default()
    }

    /// Blocks until every delivery has ended, one way or another. False if that takes longer than `longest`,
    /// as it does while webhooks are held.
    pub fn wait_for_webhooks(&self, longest: Duration) -> bool {
        self.running.shared.wait_settled(longest)
    }
}

impl fmt::Debug for StripeDouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StripeDouble")
            .field("url", &self.url())
            .finish_non_exhaustive()
    }
}

/// Why a fault could not be caused.
#[derive(Debug, thiserror::Error)]
#[error("failed to cause the fault: {reason}")]
pub struct FaultError {
    reason: String,
}

impl FaultError {
    fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
        }
    }

    fn of(error: &crate::wire::error::ApiError) -> Self {
        let message = error.fields.get("message").and_then(Value::as_str);
        Self::new(message.unwrap_or_default())
    }
}

/// What is to go wrong. Cheap to clone; every clone acts on the same double.
#[derive(Clone)]
pub struct Faults {
    shared: Arc<Shared>,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faults")
    }
}

impl Faults {
    pub(crate) fn of(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
        }
    }

    /// Lets the next `times` calls that match go wrong.
    pub fn next(&self, times: usize, matching: Matching, fault: Fault) {
        self.shared.lock().faults.plan(times, matching, fault);
    }

    /// Forgets all planned faults, ends `down` and everything that hangs or is held.
    pub fn clear(&self) {
        self.shared.lock().faults.clear();
        self.shared.released.notify_waiters();
        self.shared.to_deliver.notify_one();
    }

    /// While down, every connection to the API is closed without an answer.
    pub fn down(&self, down: bool) {
        self.shared.lock().faults.down = down;
    }

    /// Lets the customer's next charge be declined, whatever the card. May be called several times: declines
    /// queue up.
    ///
    /// # Errors
    /// Fails if there is no such customer, or no such decline code (`generic_decline`, `insufficient_funds`,
    /// `lost_card`, `stolen_card`, `expired_card`, `incorrect_cvc`, `processing_error`,
    /// `authentication_required`).
    pub fn decline_next_charge(&self, customer: &str, code: &str) -> Result<(), FaultError> {
        let mut inner = self.shared.lock();
        if inner.world.kind_of(customer) != Some(Kind::Customer) {
            return Err(FaultError::new(format!("no such customer: {customer}")));
        }
        if Decline::named(code).is_none() {
            return Err(FaultError::new(format!("no such decline code: {code}")));
        }
        inner.world.edit(customer, |customer| {
            let mut queued = customer.rows("_declines").to_vec();
            queued.push(Value::from(code));
            set(customer, "_declines", queued);
        });
        Ok(())
    }

    /// Lets the customer's next draft that becomes final by itself, as those of renewals do, fail to: it stays a
    /// draft that says why. May be called several times: failures queue up.
    ///
    /// # Errors
    /// Fails if there is no such customer, or no such code (`customer_tax_location_invalid`,
    /// `taxes_calculation_failed`, `stripe_tax_inactive`).
    pub fn fail_next_finalization(&self, customer: &str, code: &str) -> Result<(), FaultError> {
        let mut inner = self.shared.lock();
        if inner.world.kind_of(customer) != Some(Kind::Customer) {
            return Err(FaultError::new(format!("no such customer: {customer}")));
        }
        if !FINALIZATION_ERRORS.iter().any(|(known, _)| *known == code) {
            return Err(FaultError::new(format!("no such code: {code}")));
        }
        inner.world.edit(customer, |customer| {
            let mut queued = customer.rows("_finalization_errors").to_vec();
            queued.push(Value::from(code));
            set(customer, "_finalization_errors", queued);
        });
        Ok(())
    }

    /// Ends the authentication that a payment or setup intent waits for.
    ///
    /// # Errors
    /// Fails if there is no such intent or it does not wait.
    pub fn authenticate(&self, intent: &str, succeeds: bool) -> Result<(), FaultError> {
        self.change(intent, |world| {
            paying::authenticate(world, intent, succeeds)
        })
    }

    /// Lets a card's holder dispute a charge. Returns the dispute's id.
    ///
    /// # Errors
    /// Fails if there is no such charge, it failed, or it is disputed already.
    pub fn dispute(&self, charge: &str, reason: &str) -> Result<String, FaultError> {
        self.change(charge, |world| paying::dispute(world, charge, reason))
    }

    /// Lets an object vanish as if it had never been made: somebody has deleted the account's test data, or the key is
    /// another account's.
    ///
    /// # Errors
    /// Fails if there is no such object.
    pub fn forget(&self, id: &str) -> Result<(), FaultError> {
        let mut inner = self.shared.lock();
        if inner.world.get(id).is_none() {
            return Err(FaultError::new(format!("no such object: {id}")));
        }
        inner.world.forget(id);
        Ok(())
    }

    /// Pauses a subscription for a reason of Stripe's: `first_payment_failure`, `final_payment_failure`,
    /// `pause_requested`, `system`, `trial_end_without_payment_method`.
    ///
    /// # Errors
    /// Fails if there is no such subscription, or no such reason.
    pub fn pause_subscription(&self, id: &str, reason: &str) -> Result<(), FaultError> {
        if !PAUSE_REASONS.contains(&reason) {
            return Err(FaultError::new(format!("no such reason: {reason}")));
        }
        self.change(id, |world| {
            let before = visible(&world.find(Kind::Subscription, id, "subscription", false)?);
            enter_pause(world, id, reason, &before);
            Ok(())
        })
    }

    /// Decides a dispute that is open, as `won` or `lost`.
    ///
    /// # Errors
    /// Fails if there is no such dispute.
    pub fn decide_dispute(&self, id: &str, is_won: bool) -> Result<(), FaultError> {
        self.change(id, |world| {
            world.find(Kind::Dispute, id, "dispute", false)?;
            let status = if is_won { "won" } else { "lost" };
            world.edit(id, |dispute| set(dispute, "status", status));
            world.emit("charge.dispute.closed", id);
            Ok(())
        })
    }

    fn change<T>(
        &self,
        id: &str,
        change: impl FnOnce(&mut crate::state::World) -> Result<T, crate::wire::error::ApiError>,
    ) -> Result<T, FaultError> {
        let mut inner = self.shared.lock();
        self.shared.catch_up(&mut inner);
        let real_now = inner.world.now;
        if let Some(clock) = inner.world.clock_of(id) {
            inner.world.now = inner.world.copy(&clock).number("frozen_time");
        }
        let outcome = change(&mut inner.world);
        inner.world.now = real_now;
        self.shared.take_up(&mut inner);
        outcome.map_err(|error| FaultError::of(&error))
    }

    /// Holds all webhooks back, or lets them go.
    pub fn hold_webhooks(&self, hold: bool) {
        self.shared.lock().faults.webhooks.held = hold;
        self.shared.to_deliver.notify_one();
    }

    /// Lets the next `times` webhooks of matching types (`*` stands for any text) never arrive.
    pub fn drop_webhooks(&self, times: usize, types: &str) {
        let mut inner = self.shared.lock();
        let drops = &mut inner.faults.webhooks.drops;
        drops.push_back((times, types.to_owned()));
    }

    /// Lets the next `times` webhooks of matching types arrive twice.
    pub fn duplicate_webhooks(&self, times: usize, types: &str) {
        let mut inner = self.shared.lock();
        let duplicates = &mut inner.faults.webhooks.duplicates;
        duplicates.push_back((times, types.to_owned()));
    }

    /// Lets webhooks wait, in real time, before they are sent; zero ends that.
    pub fn delay_webhooks(&self, delay: Duration) {
        self.shared.lock().faults.webhooks.delay = delay;
    }

    /// In which order webhooks that wait are sent. Hold them, let events come about, then release.
    pub fn order_webhooks(&self, order: DeliveryOrder) {
        self.shared.lock().faults.webhooks.order = order;
    }

    /// Sends an event again to every endpoint that listens. Returns to how many.
    ///
    /// # Errors
    /// Fails if there is no such event.
    pub fn redeliver(&self, event: &str) -> Result<usize, FaultError> {
        let mut inner = self.shared.lock();
        if inner.world.kind_of(event) != Some(Kind::Event) {
            return Err(FaultError::new(format!("no such event: {event}")));
        }
        let inner = &mut *inner;
        let sent = inner.deliveries.redeliver(&inner.world, event);
        self.shared.to_deliver.notify_one();
        Ok(sent)
    }
}

/// What the double holds, and what has been asked of it. Reads see no half of a change.
#[derive(Clone)]
pub struct State {
    shared: Arc<Shared>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("State")
    }
}

impl State {
    /// Every call to the API, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.lock().calls.clone()
    }

    /// How many calls there were, by method and path: `POST /v1/subscriptions`.
    pub fn call_counts(&self) -> BTreeMap<String, usize> {
        Shared::counters(&self.shared.lock())
    }

    /// How many calls matched.
    pub fn calls_to(&self, method: &str, path: &str) -> usize {
        let wanted = Matching::new(method, path);
        let inner = self.shared.lock();
        let calls = inner.calls.iter();
        calls
            .filter(|call| wanted.matches(&call.method, &call.path))
            .count()
    }

    /// An object as the API would show it, without expansions.
    pub fn object(&self, id: &str) -> Option<Value> {
        self.shared.lock().world.get(id).map(visible)
    }

    /// All objects of a kind, oldest first: `subscription`, `invoice`, `charge`, `customer`, `event`, …
    pub fn objects(&self, kind: &str) -> Vec<Value> {
        let inner = self.shared.lock();
        let kind = Kind::ALL.into_iter().find(|known| known.object() == kind);
        let rows = kind.map(|kind| inner.world.all(kind).map(visible).collect());
        rows.unwrap_or_default()
    }

    /// How many objects of a kind there are, deleted ones included.
    pub fn count(&self, kind: &str) -> usize {
        self.objects(kind).len()
    }

    /// The charges of a customer that succeeded, oldest first.
    pub fn paid_charges(&self, customer: &str) -> Vec<Value> {
        let mut charges = self.objects("charge");
        charges.retain(|charge| charge.link("customer") == Some(customer) && charge.flag("paid"));
        charges
    }

    /// All events, oldest first, whatever the API's thirty days.
    pub fn events(&self) -> Vec<Value> {
        self.objects("event")
    }

    /// Every delivery of a webhook, in the order they came about.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.shared.lock().deliveries.list()
    }
}
