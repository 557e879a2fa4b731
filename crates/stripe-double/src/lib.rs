//! A double of Stripe: a stateful server that behaves as Stripe's documentation says, for tests and for
//! development without an account.
//!
//! It answers `/v1` in API version 2026-09-30.endive: customers, catalogue, payment methods, subscriptions
//! with their whole life in time, invoices, Checkout, the billing portal, events and signed webhooks. It knows
//! nothing of who uses it. What it does not know of Stripe it refuses, with Stripe's own error for an unknown
//! parameter or path, instead of ignoring it.
//!
//! ```no_run
//! use rawdrive_stripe_double::{Config, Fault, Matching, StripeDouble};
//!
//! # fn main() -> Result<(), rawdrive_stripe_double::StartError> {
//! let double = StripeDouble::start(Config::new("sk_test_double"))?;
//! // A client takes `double.url()` for https://api.stripe.com.
//! let faults = double.faults();
//! faults.next(1, Matching::new("POST", "/v1/subscriptions"), Fault::DropAnswer);
//! // … call, lose the answer, call again with the same idempotency key …
//! assert_eq!(double.state().count("subscription"), 1);
//! # Ok(())
//! # }
//! ```
//!
//! Not there: taxes, discounts, tiers and metered prices, quotes, credit notes, bank debits, Connect, prices of
//! different intervals on one subscription, checkout modes other than `subscription`.
//!
//! **Invariant:** an answer, an event and a later read of the same object agree, because all three are the one
//! object under one lock; and time moves objects in the order of time, however far the clock jumps.

// Whole resources are written as one `json!`.
#![recursion_limit = "512"]

mod calendar;
mod cards;
mod config;
mod control;
mod engine;
mod faults;
mod idempotency;
mod json;
mod money;
mod objects;
mod pages;
mod persistence;
mod recorder;
mod routes;
mod server;
mod service;
mod shared;
mod state;
mod test_handle;
mod webhooks;
mod wire;

pub use config::{Account, Clock, Config, FinalAction, StartError};
pub use faults::{DeliveryOrder, Fault, Matching};
pub use persistence::StateError;
pub use shared::Call;
pub use test_handle::{FaultError, Faults, State, StripeDouble};
pub use webhooks::{Delivery, DeliveryState};
