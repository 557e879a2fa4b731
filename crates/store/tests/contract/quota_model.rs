//! Counters and holds are what the model says. Fewer rounds than in memory: each step is a commit
//! to a disk.

use proptest::prelude::*;
use rawdrive_testkit::TestEnv;
use rawdrive_testkit::quota_model::{Operation, operations, play};

use crate::support::Engine;

fn run(engine: Engine, operations: &[Operation]) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let test_env = TestEnv::seeded(1);
        let catalogue = rawdrive_gallery::built_in_catalogue();
        let store = crate::subject::open(engine, &test_env, &catalogue).await;
        let plan = catalogue.newest(&"enterprise".parse().unwrap()).unwrap();
        play(&store, &test_env, &plan, operations).await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn counters_and_holds_are_what_the_model_says_on_sqlite(operations in operations(25)) {
        run(Engine::Sqlite, &operations);
    }

    #[test]
    fn counters_and_holds_are_what_the_model_says_on_postgres(operations in operations(25)) {
        run(Engine::Postgres, &operations);
    }
}
