//! Counters and holds on SQLite are what the model says. Fewer rounds than in memory: each step is a commit
//! to a disk.

use proptest::prelude::*;
use rawdrive_plans::Catalogue;
use rawdrive_testkit::Surroundings;
use rawdrive_testkit::holds::{operations, play};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn counters_and_holds_are_what_the_model_says(operations in operations(25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let surroundings = Surroundings::seeded(1);
            let catalogue = Catalogue::built_in();
            let sqlite = crate::sqlite::open(&surroundings, &catalogue).await;
            let plan = catalogue.newest(&"enterprise".parse().unwrap()).unwrap();
            play(&sqlite, &surroundings, &plan, &operations).await;
        });
    }
}
