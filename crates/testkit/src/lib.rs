#![doc = include_str!("../README.md")]

pub mod contract;
mod fault;
mod fixtures;
mod gateway;
mod memory;
pub mod product;
pub mod quota_model;
mod slots;
mod test_env;
pub mod usage_cache;

pub use fault::{Fault, Faults};
pub use fixtures::{plan, plan_allowing, scope};
pub use gateway::{Books, Card, GatewayFault, MemoryGateway, Renewals};
pub use memory::{BillingRows, HoldRow, MemoryStore, MemoryTx, MemoryUsage, ObjectRow, Rows};
pub use slots::{Slot, Slots};
pub use test_env::TestEnv;
