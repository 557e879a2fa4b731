//! Completion over a store: told once, by what completes the list.

use std::sync::Arc;

use chrono::TimeDelta;
use rawdrive_onboarding::{
    ONBOARDING_COMPLETED, OnboardingRead as _, OnboardingTx as _, Status, Step, review,
};
use rawdrive_plans::{Feature, Plan, PlansTx as _};
use rawdrive_tenancy_core::event::{DeliverEvent, DomainEvent};
use rawdrive_tenancy_core::{Commit as _, WorkspaceScope};
use rawdrive_testkit::{MemoryStore, Rows, TestEnv, plan_with};
use serde_json::json;

const STYLES: Feature = Feature::new("styles");

const STEPS: [Step; 2] = [
    Step {
        id: "first_contract",
        title: "Write a contract",
        needs: None,
        done: |facts| facts.hold("contract_written"),
    },
    Step {
        id: "style",
        title: "Choose a style",
        needs: Some(STYLES),
        done: |facts| facts.hold("styled"),
    },
];

#[derive(Debug, Clone, Default)]
struct Contracts(u32);

fn contract_written(rows: &Rows) -> bool {
    rows.slots.get::<Contracts>().0 > 0
}

struct Stage {
    test_env: TestEnv,
    store: MemoryStore,
    scope: WorkspaceScope,
}

impl Stage {
    async fn on(plan: &Arc<Plan>) -> Self {
        let test_env = TestEnv::seeded(1);
        let store = MemoryStore::new(test_env.env().clone());
        let store = store.with_facts(&[("contract_written", contract_written)]);
        let scope = store.workspace(plan).await.expect("a workspace");
        Self {
            test_env,
            store,
            scope,
        }
    }

    async fn count_contracts(&self, count: u32) {
        let mut tx = self.store.begin_despite_read_only(&self.scope).await;
        let written = tx.change_slot("write", |contracts: &mut Contracts| {
            contracts.0 = count;
            Ok(())
        });
        written.expect("written");
        let steps = &STEPS;
        review(&mut tx, self.test_env.env(), steps)
            .await
            .expect("reviewed");
        tx.commit().await.expect("committed");
    }

    /// The events of the workspace.
    fn told(&self) -> Vec<DomainEvent> {
        let jobs = self.store.rows(&self.scope).jobs.clone();
        let events = jobs
            .iter()
            .filter_map(|(job, _)| job.as_kind::<DeliverEvent>());
        events.map(|deliver| deliver.event).collect()
    }
}

#[tokio::test]
async fn completion_is_told_when_nothing_that_the_plan_can_do_is_open() {
    let stage = Stage::on(&plan_with(&[], &[])).await;
    stage.count_contracts(0).await;
    assert_eq!(stage.told(), []);
    stage.test_env.advance(TimeDelta::hours(1));
    let at = stage.test_env.env().now();
    stage.count_contracts(1).await;
    let event = DomainEvent {
        kind: ONBOARDING_COMPLETED.to_owned(),
        subject: stage.scope.workspace().to_string(),
        facts: json!({ "completed_at": at }),
    };
    assert_eq!(stage.told(), std::slice::from_ref(&event));
    // Undone and done again, it is not told again.
    stage.test_env.advance(TimeDelta::hours(1));
    stage.count_contracts(0).await;
    stage.count_contracts(2).await;
    assert_eq!(stage.told(), [event]);
    let (_, told_at) = stage.store.read(&stage.scope).onboarding().await.unwrap();
    assert_eq!(told_at, Some(at));
}

#[tokio::test]
async fn what_the_plan_in_force_can_do_is_to_be_done() {
    let stage = Stage::on(&plan_with(&[], &[STYLES])).await;
    stage.count_contracts(1).await;
    assert_eq!(stage.told(), [], "a style is still to be chosen");
    let mut tx = stage.store.begin_despite_read_only(&stage.scope).await;
    tx.move_to_plan(&plan_with(&[], &[])).await.unwrap();
    review(&mut tx, stage.test_env.env(), &STEPS).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(
        stage.told().len(),
        1,
        "a plan without styles completes the list"
    );
}

#[tokio::test]
async fn a_skipped_step_is_not_open() {
    let stage = Stage::on(&plan_with(&[], &[STYLES])).await;
    stage.count_contracts(1).await;
    let mut tx = stage.store.begin_despite_read_only(&stage.scope).await;
    tx.skip_step("style", stage.test_env.env().now())
        .await
        .unwrap();
    review(&mut tx, stage.test_env.env(), &STEPS).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(stage.told().len(), 1);
}

#[test]
fn states_have_names_on_the_wire() {
    let all = [
        Status::Open,
        Status::Completed,
        Status::Skipped,
        Status::NotAvailable,
    ];
    assert_eq!(
        all.map(Status::as_str),
        ["open", "completed", "skipped", "not_available"]
    );
}
