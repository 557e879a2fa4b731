#![doc = include_str!("../README.md")]

mod billing;
mod builder;
mod events;
mod housekeeping;
mod job;
mod lane;
mod mails;
mod queue;
mod webhooks;

pub use billing::Provider;
pub use builder::{Builder, Runtime};
pub use job::{JobContext, JobError};
pub use mails::Mails;
pub use webhooks::Webhooks;
