//! The double against what Stripe documents: through the real client, by shape, by its life in time, and by
//! what goes wrong.

mod client;
mod hosted;
mod idempotency;
mod lives;
mod others;
mod payments;
mod persistence;
mod prorations;
mod shapes;
mod support;
mod webhooks;
