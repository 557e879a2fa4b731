//! What the server, the ticks, the deliveries and the handle share: one lock.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::Notify;

use crate::config::Config;
use crate::engine::scheduler;
use crate::faults::FaultBook;
use crate::idempotency::Keys;
use crate::json::{Fields as _, set};
use crate::persistence::{Keeper, Kept, configure_endpoints};
use crate::recorder::Recorder;
use crate::state::{Cause, Kind, World};
use crate::webhooks::Deliveries;

/// A call that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The HTTP method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query, as it came.
    pub query: String,
    /// The idempotency key it carried.
    pub idempotency_key: Option<String>,
    /// The answer's status; `None` where the connection was closed without one.
    pub status: Option<u16>,
    /// Whether the answer was an earlier one, given again.
    pub replayed: bool,
    /// Whether the endpoint did its work.
    pub executed: bool,
}

pub(crate) struct Inner {
    pub(crate) world: World,
    pub(crate) keys: Keys,
    pub(crate) faults: FaultBook,
    pub(crate) deliveries: Deliveries,
    pub(crate) calls: Vec<Call>,
    /// How far the double's clock has been moved beyond the one it was given.
    pub(crate) ahead: i64,
}

pub(crate) struct Shared {
    pub(crate) config: Config,
    inner: Mutex<Inner>,
    /// There may be something to deliver.
    pub(crate) to_deliver: Notify,
    /// Hanging calls may go on.
    pub(crate) released: Notify,
    /// A delivery has ended.
    settled: Condvar,
    keeper: Option<Keeper>,
    pub(crate) recorder: Option<Recorder>,
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        base_url: String,
        kept: Option<Kept>,
        recorder: Option<Recorder>,
    ) -> Self {
        let now = (config.clock)().timestamp();
        let mut inner = Inner {
            world: World::new(config.account.clone(), base_url, now),
            keys: Keys::default(),
            faults: FaultBook::default(),
            deliveries: Deliveries::default(),
            calls: Vec::new(),
            ahead: 0,
        };
        if let Some(kept) = kept {
            kept.restore(&mut inner);
        }
        configure_endpoints(&mut inner.world, &config.webhook);
        inner.deliveries.readdress(&inner.world);
        Self {
            keeper: config.state.clone().map(Keeper::new),
            recorder,
            config,
            inner: Mutex::new(inner),
            to_deliver: Notify::new(),
            released: Notify::new(),
            settled: Condvar::new(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The double's time.
    pub(crate) fn now(&self, inner: &Inner) -> i64 {
        (self.config.clock)().timestamp() + inner.ahead
    }

    /// Does everything that is due, on every clock.
    pub(crate) fn catch_up(&self, inner: &mut Inner) {
        let now = self.now(inner);
        inner.world.cause = Cause::default();
        if inner.world.next_due(None, now).is_some() {
            scheduler::run(&mut inner.world, None, now);
        }
        inner.world.now = now;
        advance_test_clocks(&mut inner.world);
        inner.world.now = now;
        self.take_up(inner);
    }

    /// Does what a request has made due at once, such as the dispute of a charge. Test clocks that it set
    /// going are left to the next occasion, so that its answer can say `advancing`.
    pub(crate) fn catch_up_after(&self, inner: &mut Inner) {
        let now = inner.world.now;
        if inner.world.next_due(None, now).is_some() {
            scheduler::run(&mut inner.world, None, now);
            self.take_up(inner);
        }
    }

    /// Plans the deliveries of what has just come about.
    pub(crate) fn take_up(&self, inner: &mut Inner) {
        let Inner {
            world,
            faults,
            deliveries,
            ..
        } = inner;
        if world.outbox.is_empty() {
            return;
        }
        deliveries.take_up(world, &mut faults.webhooks);
        self.to_deliver.notify_one();
    }

    /// Whether what is known outlives the run.
    pub(crate) const fn keeps(&self) -> bool {
        self.keeper.is_some()
    }

    /// Writes what is known where it is kept, if it has changed.
    pub(crate) fn keep(&self) {
        if let Some(keeper) = &self.keeper
            && let Err(error) = keeper.keep(|| self.lock())
        {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "what the double knows could not be kept");
        }
    }

    pub(crate) fn delivery_ended(&self) {
        self.settled.notify_all();
    }

    /// Waits until no delivery is pending. False if that takes longer than `longest`.
    pub(crate) fn wait_settled(&self, longest: Duration) -> bool {
        let end = Instant::now() + longest;
        let mut inner = self.lock();
        while !inner.deliveries.is_settled() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            inner = self
                .settled
                .wait_timeout(inner, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    /// Calls by method and path.
    pub(crate) fn counters(inner: &Inner) -> BTreeMap<String, usize> {
        let mut counters = BTreeMap::new();
        for call in &inner.calls {
            *counters
                .entry(format!("{} {}", call.method, call.path))
                .or_default() += 1;
        }
        counters
    }
}

/// Test clocks that were told to advance arrive.
fn advance_test_clocks(world: &mut World) {
    for id in world.ids(Kind::TestClock) {
        let clock = world.copy(&id);
        let target = clock["status_details"]["advancing"].time("target_frozen_time");
        let horizon = target.unwrap_or_else(|| clock.number("frozen_time"));
        if world.next_due(Some(&id), horizon).is_some() {
            scheduler::run(world, Some(&id), horizon);
        }
        if target.is_some() {
            world.now = horizon;
            world.edit(&id, |clock| {
                set(clock, "frozen_time", horizon);
                set(clock, "status", "ready");
                set(clock, "status_details", json!({}));
            });
            world.emit("test_helpers.test_clock.ready", &id);
        }
    }
}
