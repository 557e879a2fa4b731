#![doc = include_str!("../README.md")]

pub mod contract;
mod fault;
mod fixtures;
mod gateway;
mod mailer;
mod memory;
pub mod product;
pub mod quota_model;
mod slots;
mod test_env;
pub mod usage_cache;
mod webhook;

pub use fault::{Fault, Faults};
pub use fixtures::{plan, plan_allowing, plan_with, scope};
pub use gateway::{Books, Card, GatewayFault, MemoryGateway, Renewals};
pub use mailer::MemoryMailer;
pub use memory::{
    BillingRows, Fact, HoldRow, IdentityRows, MembershipRow, MemoryReader, MemoryStore, MemoryTx,
    ObjectRow, OnboardingRows, RefreshTokenRow, Rows, SessionRow, WorkspaceRow,
};
pub use slots::{Slot, Slots};
pub use test_env::TestEnv;
pub use webhook::sign_webhook;
