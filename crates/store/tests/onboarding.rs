//! Whatever is done and undone, in whichever order, committed or not: the checklist is a function of the facts,
//! and completion is told once, by the transaction that first completes it.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test are test code, which clippy knows of functions marked as tests alone"
)]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use proptest::prelude::*;
use rawdrive_gallery::id::{ClientId, LibraryId};
use rawdrive_gallery::{
    BRANDING_SAVED, Branding, CLIENT_INVITED, ClientsTx, GalleryTx, LIBRARY_MADE, Library, STEPS,
    add_client, delete_client, invite_client, revoke_link, save_branding,
};
use rawdrive_identity::ports::{IdentityTx, NewWorkspace};
use rawdrive_identity::{Currency, EmailAddress, PersonName, TokenPepper, WorkspaceName};
use rawdrive_onboarding::{
    BILLING_EMAIL_SET, Facts, NAMED, ONBOARDING_COMPLETED, OnboardingRead, OnboardingTx, checklist,
    review,
};
use rawdrive_plans::{PlansTx, Slug, set_plan};
use rawdrive_store::{Release, Store, WriteTx};
use rawdrive_tenancy_core::event::DeliverEvent;
use rawdrive_tenancy_core::{Commit as _, Env, SystemReason, WorkspaceScope};
use tokio::runtime::Runtime;

#[macro_use]
mod support;

use support::{Database, Engine};

#[derive(Debug, Clone, Copy)]
enum Step {
    BillingEmail(bool),
    Branding,
    Plan(&'static str),
    Library(bool),
    Invite,
    Revoke,
    DeleteClient,
    Skip(usize),
    Unskip(usize),
}

fn step() -> impl Strategy<Value = (Step, bool)> {
    let step = prop_oneof![
        any::<bool>().prop_map(Step::BillingEmail),
        Just(Step::Branding),
        prop_oneof![Just("free"), Just("professional")].prop_map(Step::Plan),
        any::<bool>().prop_map(Step::Library),
        Just(Step::Invite),
        Just(Step::Revoke),
        Just(Step::DeleteClient),
        (0_usize..4).prop_map(Step::Skip),
        (0_usize..4).prop_map(Step::Unskip),
    ];
    // One in five is rolled back.
    (step, proptest::bool::weighted(0.8))
}

/// What the facts must be, kept apart from the database.
#[derive(Debug, Clone, Default)]
struct Model {
    facts: Facts,
    branding_on: bool,
    library: Option<LibraryId>,
    client: Option<ClientId>,
}

impl Model {
    fn set(&mut self, fact: &str, holds: bool) {
        if holds {
            self.facts.held.insert(fact.to_owned());
        } else {
            self.facts.held.remove(fact);
        }
    }
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

#[expect(
    clippy::disallowed_methods,
    reason = "a test opens a workspace of its own"
)]
async fn workspace(store: &Store) -> WorkspaceScope {
    let env = store.env();
    let scope = WorkspaceScope::for_system(env.id(), SystemReason::SIGN_UP);
    let mut tx = store
        .begin_despite_read_only(&scope, Release::Identity)
        .await
        .unwrap();
    let new = NewWorkspace {
        name: WorkspaceName::parse("Studio").unwrap(),
        slug: "studio".to_owned(),
        billing_email: None,
        currency: Currency::parse("usd").unwrap(),
        created_at: env.now(),
    };
    tx.insert_workspace(&new).await.unwrap();
    let free = rawdrive_gallery::built_in_catalogue()
        .newest(&Slug::free())
        .unwrap();
    tx.insert_entitlements(&free).await.unwrap();
    tx.commit().await.unwrap();
    scope
}

/// Carries a step out in an open transaction, as its route does.
async fn act(tx: &mut WriteTx, env: &Env, step: Step, model: &mut Model) {
    match step {
        Step::BillingEmail(set) => {
            let mut row = tx.workspace_row().await.unwrap();
            row.billing_email = set.then(|| "bills@example.com".to_owned());
            tx.update_workspace(&row).await.unwrap();
            model.set(BILLING_EMAIL_SET, set);
        }
        Step::Branding => {
            let branding = Branding {
                display_name: "Studio".parse().unwrap(),
                primary_color: "#112233".parse().unwrap(),
                logo_photo: None,
                website: None,
            };
            let saved = save_branding(tx, env, &branding).await;
            assert_eq!(saved.is_ok(), model.branding_on, "{saved:?}");
            if model.branding_on {
                model.set(BRANDING_SAVED, true);
            }
        }
        Step::Plan(slug) => {
            let slug = slug.parse().unwrap();
            set_plan(tx, &rawdrive_gallery::built_in_catalogue(), &slug, "test")
                .await
                .unwrap();
            model.branding_on = slug != Slug::free();
        }
        Step::Library(true) if model.library.is_none() => {
            let now = env.now();
            let library = Library {
                id: env.id(),
                name: "First".parse().unwrap(),
                created_at: now,
                updated_at: now,
                version: 1,
            };
            tx.insert_library(&library).await.unwrap();
            model.library = Some(library.id);
            model.set(LIBRARY_MADE, true);
        }
        Step::Library(true) => {}
        Step::Library(false) => {
            if let Some(id) = model.library.take() {
                tx.delete_library(id).await.unwrap();
                model.set(LIBRARY_MADE, false);
            }
        }
        Step::Invite => {
            let client = match model.client {
                Some(id) => tx.client(id).await.unwrap().unwrap(),
                None => {
                    let name = PersonName::parse("Mia").unwrap();
                    let email = EmailAddress::parse("mia@example.com").unwrap();
                    let added = add_client(tx, env, env.id(), name, email).await;
                    added.unwrap()
                }
            };
            let pepper = TokenPepper::new(&[7; 32]);
            invite_client(tx, env, &pepper, client.clone())
                .await
                .unwrap();
            model.client = Some(client.id);
            model.set(CLIENT_INVITED, true);
        }
        Step::Revoke => {
            if let Some(id) = model.client {
                let client = tx.client(id).await.unwrap().unwrap();
                let revoked = revoke_link(tx, &client).await.unwrap();
                assert_eq!(revoked, model.facts.hold(CLIENT_INVITED));
                model.set(CLIENT_INVITED, false);
            }
        }
        Step::DeleteClient => {
            if let Some(id) = model.client.take() {
                let client = tx.client(id).await.unwrap().unwrap();
                delete_client(tx, &client).await.unwrap();
                model.set(CLIENT_INVITED, false);
            }
        }
        Step::Skip(at) => {
            tx.skip_step(STEPS[at].id, env.now()).await.unwrap();
            model.facts.skipped.insert(STEPS[at].id.to_owned());
        }
        Step::Unskip(at) => {
            tx.unskip_step(STEPS[at].id).await.unwrap();
            model.facts.skipped.remove(STEPS[at].id);
        }
    }
}

/// Whether this kind of change can complete the list, and so is reviewed.
fn can_complete(step: Step) -> bool {
    match step {
        Step::Library(made) => made,
        Step::Revoke | Step::DeleteClient | Step::Unskip(_) => false,
        Step::BillingEmail(_) | Step::Branding | Step::Plan(_) | Step::Invite | Step::Skip(_) => {
            true
        }
    }
}

/// How often completion was told, by what lies in the outbox.
async fn told(store: &Store) -> usize {
    let jobs = store
        .lease_jobs(1_000, chrono::TimeDelta::seconds(60))
        .await
        .unwrap();
    jobs.iter()
        .filter(|job| {
            job.job
                .as_kind::<DeliverEvent>()
                .is_some_and(|told| told.event.kind == ONBOARDING_COMPLETED)
        })
        .count()
}

async fn walk(engine: Engine, steps: Vec<(Step, bool)>) {
    let database = Database::new(engine).await;
    let store = database
        .open(Env::system(), &rawdrive_gallery::built_in_catalogue())
        .await;
    let env = store.env().clone();
    let scope = workspace(&store).await;
    let mut model = Model {
        facts: Facts {
            held: [NAMED.to_owned()].into(),
            ..Facts::default()
        },
        ..Model::default()
    };
    let mut ever_complete = None;
    for (step, commits) in steps {
        let mut next = model.clone();
        let mut tx = store.begin(&scope).await.unwrap();
        act(&mut tx, &env, step, &mut next).await;
        if can_complete(step) {
            review(&mut tx, &env, &STEPS).await.unwrap();
        }
        if commits {
            tx.commit().await.unwrap();
            model = next;
        }
        let (facts, told_at) = store.read(&scope).onboarding().await.unwrap();
        assert_eq!(facts, model.facts, "after {step:?}");
        if ever_complete.is_none() && checklist(&STEPS, &facts, |_| model.branding_on).is_complete {
            assert!(told_at.is_some(), "{step:?} completed the list untold");
            ever_complete = told_at;
        }
        assert_eq!(told_at, ever_complete, "after {step:?}");
    }
    assert_eq!(told(&store).await, usize::from(ever_complete.is_some()));
    store.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn completion_is_told_once_by_whatever_completes_the_facts(steps in proptest::collection::vec(step(), 1..40)) {
        RUNTIME.block_on(walk(Engine::Sqlite, steps));
    }

    #[test]
    fn completion_is_told_once_on_postgres_too(steps in proptest::collection::vec(step(), 1..40)) {
        RUNTIME.block_on(walk(Engine::Postgres, steps));
    }
}

async fn a_list_that_is_completed_twice_is_told_once(engine: Engine) {
    let all = [
        Step::BillingEmail(true),
        Step::Library(true),
        Step::Invite,
        Step::Revoke,
        Step::Invite,
        Step::Plan("professional"),
        Step::Branding,
        Step::Plan("free"),
    ];
    walk(engine, all.map(|step| (step, true)).into()).await;
}

async fn steps_completed_at_the_same_time_are_told_once(engine: Engine) {
    let database = Database::new(engine).await;
    let store = database
        .open(Env::system(), &rawdrive_gallery::built_in_catalogue())
        .await;
    let scope = workspace(&store).await;
    let skips = STEPS.map(|step| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut tx = store.begin(&scope).await.unwrap();
            tx.skip_step(step.id, store.env().now()).await.unwrap();
            review(&mut tx, store.env(), &STEPS).await.unwrap();
            tx.commit().await.unwrap();
        })
    });
    for skip in skips {
        skip.await.unwrap();
    }
    let (facts, told_at) = store.read(&scope).onboarding().await.unwrap();
    assert!(told_at.is_some());
    let skipped: BTreeSet<_> = STEPS.map(|step| step.id.to_owned()).into();
    assert_eq!(facts.skipped, skipped);
    assert_eq!(told(&store).await, 1);
}

on_every_database![
    a_list_that_is_completed_twice_is_told_once,
    steps_completed_at_the_same_time_are_told_once,
];
