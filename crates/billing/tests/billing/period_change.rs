//! The billing day moves with a subscription, and what was used is used: nothing is granted anew.

use chrono::TimeDelta;
use proptest::prelude::*;
use rawdrive_billing::{CancelWhen, cancel};
use rawdrive_plans::Metric;
use rawdrive_tenancy_core::Commit as _;
use rawdrive_testkit::Card;
use rawdrive_usage::{Charge, LineKind, Period, QuotaKey, UsageTx as _, add};

use crate::studio::Studio;

impl Studio {
    /// The counter of analyses of the period that is now.
    fn analyses(&self) -> QuotaKey {
        let entitlements = &self.billing.store.rows(&self.scope).entitlements;
        let period = Period::containing(self.billing.env.now(), entitlements.billing_anchor);
        QuotaKey::flow(Metric::new("ai_analysis"), period)
    }

    async fn analyse(&self, amount: u64) {
        let charge = Charge {
            key: self.analyses(),
            amount,
        };
        let mut tx = self
            .billing
            .store
            .begin_despite_read_only(&self.scope)
            .await;
        add(&mut tx, &self.billing.env, charge, "doc".to_owned())
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }

    async fn analysed(&self) -> u64 {
        let mut tx = self
            .billing
            .store
            .begin_despite_read_only(&self.scope)
            .await;
        tx.quota(&self.analyses()).await.unwrap().used
    }
}

#[tokio::test]
async fn who_subscribes_in_the_middle_of_a_month_has_used_what_was_used() {
    let studio = Studio::open().await;
    studio.analyse(7).await;
    studio.subscribe("basic", Card::Good).await.unwrap();
    studio.deliver_all().await;
    let entitlements = studio
        .billing
        .store
        .rows(&studio.scope)
        .entitlements
        .clone();
    assert_eq!(
        entitlements.billing_anchor,
        Some(studio.billing.env.now()),
        "the billing day is today's"
    );
    assert_eq!(studio.analysed().await, 7);
    let rows = studio.billing.store.rows(&studio.scope);
    let carried: Vec<_> = rows
        .ledger
        .iter()
        .filter(|line| line.kind == LineKind::Carry)
        .map(|line| line.quantity)
        .collect();
    assert_eq!(carried, [-7, 7]);
    // The next period begins with nothing, on the billing day.
    studio.pass(TimeDelta::days(32));
    studio.deliver_all().await;
    assert_eq!(studio.analysed().await, 0);
}

#[derive(Debug, Clone, Copy)]
enum Turn {
    Analyse(u64),
    Subscribe(&'static str),
    Cancel,
    Deliver,
    Pass(i64),
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        (1..20_u64).prop_map(Turn::Analyse),
        prop_oneof![Just("basic"), Just("professional"), Just("tried")].prop_map(Turn::Subscribe),
        Just(Turn::Cancel),
        Just(Turn::Deliver),
        (1..800_i64).prop_map(Turn::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// However often somebody subscribes, cancels and subscribes again: only time gives units back, and only by the end
    /// of a period.
    #[test]
    fn only_the_end_of_a_period_grants_anew(turns in proptest::collection::vec(turn(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome: Result<(), TestCaseError> = runtime.block_on(async {
            let studio = Studio::open().await;
            for turn in turns {
                let (used, key) = (studio.analysed().await, studio.analyses());
                match turn {
                    Turn::Analyse(n) => studio.analyse(n).await,
                    // Refused where there is one, or none: then nothing is changed either.
                    Turn::Subscribe(plan) => drop(studio.subscribe(plan, Card::Good).await),
                    Turn::Cancel => drop(cancel(&studio.billing, &studio.scope, CancelWhen::Now).await),
                    Turn::Deliver => studio.deliver_all().await,
                    Turn::Pass(hours) => {
                        studio.pass(TimeDelta::hours(hours));
                        let expected = if studio.analyses() == key { used } else { 0 };
                        prop_assert_eq!(studio.analysed().await, expected);
                        continue;
                    }
                }
                let more = if let Turn::Analyse(n) = turn { n } else { 0 };
                prop_assert_eq!(studio.analysed().await, used + more, "after {:?}", turn);
            }
            let rows = studio.billing.store.rows(&studio.scope);
            let carried = rows.ledger.iter().filter(|line| line.kind == LineKind::Carry);
            prop_assert_eq!(carried.map(|line| line.quantity).sum::<i64>(), 0);
            prop_assert_eq!(rows.discrepancies(), Vec::<String>::new());
            Ok(())
        });
        outcome?;
    }
}
