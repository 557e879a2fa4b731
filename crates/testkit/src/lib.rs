//! What unit tests of the domain and of its adapters need: the ports in memory, surroundings that a seed
//! decides, things to start from, and what every store must promise.
//!
//! ```
//! use chrono::TimeDelta;
//! use rawdrive_plans::{Limit, Metric};
//! use rawdrive_tenancy_core::Commit;
//! use rawdrive_testkit::{MemoryStore, Surroundings, plan};
//! use rawdrive_usage::{Charge, QuotaKey, TakeError, UsageTx, add};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let surroundings = Surroundings::seeded(7);
//! let store = MemoryStore::new(surroundings.ambient().clone());
//! let scope = store.workspace(&plan(&[(Metric::team_members(), Limit::AtMost(1))])).await?;
//!
//! let seat = Charge { key: QuotaKey::level(Metric::team_members()), amount: 1 };
//! let mut tx = store.begin_despite_read_only(&scope).await;
//! let line = add(&mut tx, surroundings.ambient(), seat.clone(), "usr_1".to_owned()).await?;
//! tx.append(&[line]).await?;
//! tx.commit().await?;
//!
//! let mut tx = store.begin_despite_read_only(&scope).await;
//! let second = add(&mut tx, surroundings.ambient(), seat, "usr_2".to_owned()).await;
//! assert!(matches!(second, Err(TakeError::Exceeded(_))));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Invariant: the store in memory passes the same [`store_contract!`] as the one on SQL, so that what is
//! proved over it is proved over what runs.

mod build;
pub mod contract;
mod fault;
mod gateway;
pub mod holds;
mod memory;
pub mod mirror;
mod surroundings;

pub use build::{client, gallery, library, photo, plan, scope};
pub use fault::{Fault, Faults};
pub use gateway::{Books, Card, GatewayFault, MemoryGateway, Renewals};
pub use memory::{BillingRows, HoldRow, MemoryStore, MemoryTx, MemoryUsage, ObjectRow, Rows};
pub use surroundings::Surroundings;
