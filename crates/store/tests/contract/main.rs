//! What the store promises to those who call it, on a database of its own for each test.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test are test code, which clippy knows of functions marked as tests alone"
)]

mod deletion;
mod idempotency;
mod stage;
