//! The store in memory keeps the contract, and the model's word.

use proptest::prelude::*;
use rawdrive_plans::Catalogue;
use rawdrive_testkit::contract::gateway::MemorySubject;
use rawdrive_testkit::contract::mail::{
    each_recipient_gets_a_mail_of_their_own, what_is_no_address_is_refused_as_that,
};
use rawdrive_testkit::quota_model::{operations, play};
use rawdrive_testkit::{MemoryMailer, MemoryStore, TestEnv, plan};

async fn memory(test_env: &TestEnv, _: &Catalogue) -> MemoryStore {
    MemoryStore::new(test_env.env().clone())
}

rawdrive_testkit::store_contract!(crate::memory);

async fn provider() -> MemorySubject {
    MemorySubject::new()
}

rawdrive_testkit::gateway_contract!(crate::provider);

#[tokio::test]
async fn the_manual_gateway_sells_nothing() {
    rawdrive_testkit::contract::gateway::sells_nothing(&rawdrive_billing::ManualGateway).await;
}

#[tokio::test]
async fn the_mailer_in_memory_keeps_the_contract() {
    each_recipient_gets_a_mail_of_their_own(&MemoryMailer::default()).await;
    what_is_no_address_is_refused_as_that(&MemoryMailer::default()).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn counters_and_holds_are_what_the_model_says(operations in operations(40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let test_env = TestEnv::seeded(1);
        let store = MemoryStore::new(test_env.env().clone());
        runtime.block_on(play(&store, &test_env, &plan(&[]), &operations));
    }
}
