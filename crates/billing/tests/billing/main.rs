//! Billing over ports in memory: convergence, grace, operations that survive what is lost, and selling.

#![expect(clippy::unwrap_used, reason = "what fails here is the test's failure")]

mod convergence;
mod grace;
mod operations;
mod period_change;
mod studio;
mod subscriptions;
