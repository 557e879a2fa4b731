//! The catalogue's prices at Stripe: compared, made once, never overwritten.

use rawdrive_billing::{
    BillingDirectory as _, PriceFinding, StripeGateway, SyncPlansError, SyncedPrice, sync_plans,
};
use rawdrive_plans::Catalogue;
use rawdrive_stripe_double::{Fault, Matching, StripeDouble};
use rawdrive_testkit::{MemoryStore, TestEnv};

use crate::{gateway, start};

const FREE: &str = "[[plan]]\nslug = \"free\"\nversion = 1\nname = \"Free\"\n";

/// A plan with prices by the month and by the year.
fn catalogue(monthly: u64, stripe_price: &str) -> Catalogue {
    let text = format!(
        "{FREE}[[plan]]\nslug = \"professional\"\nversion = 1\nname = \"Professional\"\nprices = [\
         {{ currency = \"usd\", interval = \"month\", amount = {monthly}{stripe_price} }},\
         {{ currency = \"usd\", interval = \"year\", amount = 29000 }}]\n"
    );
    Catalogue::parse(&text).unwrap()
}

struct Scene {
    double: StripeDouble,
    gateway: StripeGateway,
    store: MemoryStore,
}

impl Scene {
    fn set() -> Self {
        let (double, settings) = start();
        Self {
            double,
            gateway: gateway(&settings),
            store: MemoryStore::new(TestEnv::seeded(7).env().clone()),
        }
    }

    async fn sync(&self, catalogue: &Catalogue, dry_run: bool) -> Vec<SyncedPrice> {
        let synced = sync_plans(catalogue, &self.gateway, &self.store, dry_run).await;
        synced.unwrap()
    }

    fn made(&self) -> (usize, usize) {
        let state = self.double.state();
        (state.count("product"), state.count("price"))
    }

    async fn noted(&self) -> usize {
        self.store.sold_prices().await.unwrap().len()
    }
}

#[tokio::test]
async fn a_dry_run_says_what_is_missing_and_makes_nothing() {
    let scene = Scene::set();
    let report = scene.sync(&catalogue(2_900, ""), true).await;
    let keys: Vec<_> = report
        .iter()
        .map(|synced| synced.lookup_key.as_str())
        .collect();
    assert_eq!(
        keys,
        [
            "rawdrive_professional_v1_usd_month",
            "rawdrive_professional_v1_usd_year"
        ]
    );
    assert!(
        report
            .iter()
            .all(|synced| synced.finding == PriceFinding::Missing)
    );
    assert_eq!((scene.made(), scene.noted().await), ((0, 0), 0));
}

#[tokio::test]
async fn what_is_missing_is_made_once_and_noted() {
    let scene = Scene::set();
    let catalogue = catalogue(2_900, "");
    let report = scene.sync(&catalogue, false).await;
    assert!(
        report
            .iter()
            .all(|synced| matches!(synced.finding, PriceFinding::Made(_)))
    );
    assert_eq!((scene.made(), scene.noted().await), ((1, 2), 2));
    let again = scene.sync(&catalogue, false).await;
    assert!(
        again
            .iter()
            .all(|synced| matches!(synced.finding, PriceFinding::Present(_)))
    );
    assert_eq!((scene.made(), scene.noted().await), ((1, 2), 2));
    let sold = scene.store.sold_prices().await.unwrap();
    assert!(
        sold.iter()
            .all(|price| price.sold.plan.as_str() == "professional" && price.sold.version == 1)
    );
}

#[tokio::test]
async fn a_price_that_differs_is_named_and_nothing_is_made() {
    let scene = Scene::set();
    scene.sync(&catalogue(2_900, ""), false).await;
    let dearer = catalogue(3_900, "");
    let report = scene.sync(&dearer, false).await;
    let conflicts: Vec<_> = report
        .iter()
        .filter(|synced| synced.is_conflict())
        .collect();
    let [conflict] = conflicts.as_slice() else {
        panic!("{report:?}")
    };
    let PriceFinding::Differs(_, differences) = &conflict.finding else {
        panic!("{conflict:?}")
    };
    let said: Vec<_> = differences.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        ["amount is 2900 at the provider, 3900 in the catalogue"]
    );
    assert_eq!((scene.made(), scene.noted().await), ((1, 2), 2));
}

#[tokio::test]
async fn a_price_that_the_catalogue_names_is_noted_as_it_is() {
    let scene = Scene::set();
    let report = scene
        .sync(&catalogue(2_900, ", stripe_price = \"price_own\""), false)
        .await;
    assert_eq!(
        report[0].finding,
        PriceFinding::Named("price_own".parse().unwrap())
    );
    assert_eq!((scene.made(), scene.noted().await), ((1, 1), 2));
}

#[tokio::test]
async fn a_failure_that_stripe_keeps_is_stepped_over_and_a_lost_answer_makes_no_second_price() {
    for committed in [false, true] {
        let scene = Scene::set();
        let prices = || Matching::new("POST", "/v1/prices");
        scene
            .double
            .faults()
            .next(1, prices(), Fault::ServerError { committed });
        scene.sync(&catalogue(2_900, ""), false).await;
        assert_eq!((scene.made(), scene.noted().await), ((1, 2), 2));
    }
    let scene = Scene::set();
    scene
        .double
        .faults()
        .next(2, Matching::method("POST"), Fault::DropAnswer);
    scene.sync(&catalogue(2_900, ""), false).await;
    assert_eq!((scene.made(), scene.noted().await), ((1, 2), 2));
}

#[tokio::test]
async fn a_stripe_that_refuses_the_key_is_an_error() {
    let (_double, mut settings) = start();
    settings.secret_key = "sk_test_other".to_owned().into();
    let store = MemoryStore::new(TestEnv::seeded(7).env().clone());
    let failed = sync_plans(&catalogue(2_900, ""), &gateway(&settings), &store, false).await;
    assert!(
        matches!(failed, Err(SyncPlansError::Gateway(_))),
        "{failed:?}"
    );
}
