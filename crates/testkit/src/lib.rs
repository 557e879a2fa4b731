//! What unit tests of the domain and of its adapters need: the ports in memory, an `Env` that a seed
//! decides, things to start from, and what every store must promise.
//!
//! ```
//! use chrono::TimeDelta;
//! use rawdrive_plans::{Limit, Metric};
//! use rawdrive_tenancy_core::Commit;
//! use rawdrive_testkit::{MemoryStore, TestEnv, plan};
//! use rawdrive_usage::{Charge, QuotaKey, TakeError, add};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let test_env = TestEnv::seeded(7);
//! let store = MemoryStore::new(test_env.env().clone());
//! let scope = store.workspace(&plan(&[(Metric::team_members(), Limit::AtMost(1))])).await?;
//!
//! let seat = Charge { key: QuotaKey::level(Metric::team_members()), amount: 1 };
//! let mut tx = store.begin_despite_read_only(&scope).await;
//! add(&mut tx, test_env.env(), seat.clone(), "usr_1".to_owned()).await?;
//! tx.commit().await?; // the counter, and the ledger line that says so
//!
//! let mut tx = store.begin_despite_read_only(&scope).await;
//! let second = add(&mut tx, test_env.env(), seat, "usr_2".to_owned()).await;
//! assert!(matches!(second, Err(TakeError::Exceeded(_))));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Invariant: the store in memory passes the same [`store_contract!`] as the one on SQL, so that what is
//! proved over it is proved over what runs.

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
pub use fixtures::{plan, plan_with, scope};
pub use gateway::{Books, Card, GatewayFault, MemoryGateway, Renewals};
pub use mailer::MemoryMailer;
pub use memory::{
    BillingRows, Fact, HoldRow, IdentityRows, MembershipRow, MemoryReader, MemoryStore, MemoryTx,
    ObjectRow, OnboardingRows, RefreshTokenRow, Rows, SessionRow, WorkspaceRow,
};
pub use slots::{Slot, Slots};
pub use test_env::TestEnv;
pub use webhook::sign_webhook;
