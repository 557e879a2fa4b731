//! What is counted and refused, over the store in memory: the use cases by the contract that SQL keeps too, and the
//! pure parts by what they answer.

mod corrections;
mod ledger;
mod quota;
mod refusal;
mod time;

use rawdrive_plans::Catalogue;
use rawdrive_testkit::{MemoryStore, TestEnv};

async fn memory(test_env: &TestEnv, _: &Catalogue) -> MemoryStore {
    MemoryStore::new(test_env.env().clone())
}

mod contract {
    rawdrive_testkit::store_contract!(crate::memory);
}
