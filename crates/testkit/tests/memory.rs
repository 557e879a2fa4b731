//! The store in memory keeps the contract, and the model's word.

use proptest::prelude::*;
use rawdrive_billing::{
    CustomerId, CustomerQuery, GatewayError, IdempotencyKey, ManualGateway, Metadata, NewCustomer,
    PaymentGateway,
};
use rawdrive_plans::Catalogue;
use rawdrive_testkit::contract::gateway::{Cards, Till};
use rawdrive_testkit::holds::{operations, play};
use rawdrive_testkit::{Card, MemoryGateway, MemoryStore, Surroundings, plan};

async fn memory(surroundings: &Surroundings, _: &Catalogue) -> MemoryStore {
    MemoryStore::new(surroundings.ambient().clone())
}

rawdrive_testkit::store_contract!(crate::memory);

async fn till() -> Till<MemoryGateway> {
    let surroundings = Surroundings::seeded(1);
    let card = |card: Card| card.method().parse().unwrap();
    Till {
        gateway: MemoryGateway::new(surroundings.ambient().clone()),
        cards: Cards {
            pays: card(Card::Good),
            refused: card(Card::Declined),
            unattachable: None,
            wants_payer: card(Card::NeedsConfirmation),
        },
        now: surroundings.ambient().now(),
        running: Box::new(()),
    }
}

mod gateway {
    rawdrive_testkit::gateway_contract!(crate::till);
}

#[tokio::test]
async fn the_manual_gateway_sells_nothing() {
    let gateway = ManualGateway;
    let customer: CustomerId = "cus_1".parse().unwrap();
    let key: IdempotencyKey = "key".parse().unwrap();
    assert_eq!(gateway.livemode(), None);
    assert!(gateway.customer(&customer).await.unwrap().is_none());
    assert!(gateway.subscriptions_of(&customer).await.unwrap().is_empty());
    let all = gateway.customers(&CustomerQuery::default()).await.unwrap();
    assert!(all.items.is_empty());
    let new = NewCustomer {
        name: "a".to_owned(),
        email: None,
        metadata: Metadata::default(),
    };
    let refused = gateway.create_customer(&new, &key).await;
    assert!(matches!(refused, Err(GatewayError::NotConfigured)), "{refused:?}");
    let refused = gateway.portal(&customer, "https://example.com").await;
    assert!(matches!(refused, Err(GatewayError::NotConfigured)), "{refused:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn counters_and_holds_are_what_the_model_says(operations in operations(40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let surroundings = Surroundings::seeded(1);
        let store = MemoryStore::new(surroundings.ambient().clone());
        runtime.block_on(play(&store, &surroundings, &plan(&[]), &operations));
    }
}
