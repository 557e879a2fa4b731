//! Billing over ports in memory: convergence, grace, operations that survive what is lost, and selling.

#![expect(clippy::unwrap_used, reason = "what fails here is the test's failure")]

mod anchor;
mod convergence;
mod grace;
mod operations;
mod sell;
mod studio;
