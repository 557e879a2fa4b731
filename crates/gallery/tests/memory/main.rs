//! The gallery's ports in memory keep the gallery's contract.

use rawdrive_plans::Catalogue;
use rawdrive_testkit::{MemoryStore, TestEnv};

async fn memory(test_env: &TestEnv, _: &Catalogue) -> MemoryStore {
    MemoryStore::new(test_env.env().clone())
}

rawdrive_gallery::gallery_contract!(crate::memory);
