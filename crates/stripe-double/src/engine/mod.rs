//! What Stripe does by itself: bills, charges, retries, renews, ends.
//!
//! Every function works on a [`World`](crate::state::World) at its `now` and emits the events that Stripe
//! emits. None reads a clock or waits.

pub(crate) mod changing;
pub(crate) mod cycling;
pub(crate) mod ending;
pub(crate) mod invoicing;
pub(crate) mod outcomes;
pub(crate) mod paying;
pub(crate) mod previewing;
pub(crate) mod scheduler;
pub(crate) mod scheduling;
pub(crate) mod setting_up;
pub(crate) mod subscribing;
