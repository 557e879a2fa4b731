#![doc = include_str!("../README.md")]

use std::collections::BTreeSet;
use std::future::Future;

use chrono::{DateTime, Utc};
use rawdrive_plans::{Feature, PlansTx};
use rawdrive_tenancy_core::event::{DomainEvent, EventsTx};
use rawdrive_tenancy_core::{Env, StoreError};

/// The kind of the event that tells of completion.
pub const ONBOARDING_COMPLETED: &str = "onboarding.completed";

/// The workspace has a name.
pub const NAMED: &str = "named";
/// It has a billing e-mail address.
pub const BILLING_EMAIL_SET: &str = "billing_email_set";

/// What the checklist is computed from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The names of the facts that hold now.
    pub held: BTreeSet<String>,
    /// The ids of steps that somebody skipped.
    pub skipped: BTreeSet<String>,
}

impl Facts {
    /// Whether a fact holds. One that nobody looks at does not.
    #[must_use]
    pub fn hold(&self, fact: &str) -> bool {
        self.held.contains(fact)
    }
}

/// The state of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Still to be done.
    Open,
    /// Its fact holds.
    Completed,
    /// Somebody said that it need not be done.
    Skipped,
    /// The plan cannot do it; it holds nothing back.
    NotAvailable,
}

impl Status {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Completed => "completed",
            Self::Skipped => "skipped",
            Self::NotAvailable => "not_available",
        }
    }
}

/// A step.
#[derive(Debug, Clone)]
pub struct Step {
    /// The stable id.
    pub id: &'static str,
    /// What is to be done, for a person.
    pub title: &'static str,
    /// What the plan must include for it.
    pub needs: Option<Feature>,
    /// Whether it is done.
    pub done: fn(&Facts) -> bool,
}

/// The core's own step: who pays, and how they are called.
pub const PROFILE: Step = Step {
    id: "profile",
    title: "Name the workspace and set a billing e-mail address",
    needs: None,
    done: |facts| facts.hold(NAMED) && facts.hold(BILLING_EMAIL_SET),
};

/// A step as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// The step's id.
    pub id: &'static str,
    /// The step's title.
    pub title: &'static str,
    /// Its state. What the plan cannot do is not available, done or skipped as it may be; what is done is
    /// completed, skipped as it may be.
    pub status: Status,
}

/// The checklist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checklist {
    /// Every step, in order.
    pub steps: Vec<Item>,
    /// `floor(100 · (completed + skipped) / applicable)`.
    pub progress_percentage: u8,
    /// Whether no step is open.
    pub is_complete: bool,
}

/// Computes the checklist of these steps; `includes` says what the plan in force can do.
#[must_use]
pub fn checklist(steps: &[Step], facts: &Facts, includes: impl Fn(&Feature) -> bool) -> Checklist {
    let status = |step: &Step| {
        if step.needs.as_ref().is_some_and(|needs| !includes(needs)) {
            Status::NotAvailable
        } else if (step.done)(facts) {
            Status::Completed
        } else if facts.skipped.contains(step.id) {
            Status::Skipped
        } else {
            Status::Open
        }
    };
    let steps: Vec<_> = steps
        .iter()
        .map(|step| Item {
            id: step.id,
            title: step.title,
            status: status(step),
        })
        .collect();
    let count = |status| steps.iter().filter(|s| s.status == status).count();
    let open = count(Status::Open);
    let applicable = steps.len() - count(Status::NotAvailable);
    let percentage = (100 * (applicable - open))
        .checked_div(applicable)
        .unwrap_or(100);
    Checklist {
        is_complete: open == 0,
        progress_percentage: u8::try_from(percentage).unwrap_or(100),
        steps,
    }
}

/// Writes, in the handle's workspace.
pub trait OnboardingTx {
    /// The facts as this transaction sees them, and when completion was told.
    fn onboarding(
        &mut self,
    ) -> impl Future<Output = Result<(Facts, Option<DateTime<Utc>>), StoreError>> + Send;
    /// Notes that a step need not be done; once is enough.
    fn skip_step(
        &mut self,
        step: &str,
        at: DateTime<Utc>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Forgets that it was skipped, if it was.
    fn unskip_step(&mut self, step: &str) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// When completion was told. As long as it was not, no other transaction gets past this call until this
    /// one ends: of two that complete a step each, the second sees both.
    fn lock_completion(
        &mut self,
    ) -> impl Future<Output = Result<Option<DateTime<Utc>>, StoreError>> + Send;
    /// Notes that completion is told, after [`OnboardingTx::lock_completion`].
    fn note_completion(
        &mut self,
        at: DateTime<Utc>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What the use cases of this crate ask of a transaction: [`OnboardingTx`] for the facts, [`PlansTx`] for the steps that the
/// plan leaves out, [`EventsTx`] to tell of completion. Whatever has the three has this.
pub trait OnboardingUnit: OnboardingTx + PlansTx + EventsTx + Send {}

impl<T: OnboardingTx + PlansTx + EventsTx + Send> OnboardingUnit for T {}

/// Reads, in the handle's workspace.
pub trait OnboardingRead {
    /// The facts, and when completion was told.
    fn onboarding(
        &self,
    ) -> impl Future<Output = Result<(Facts, Option<DateTime<Utc>>), StoreError>> + Send;
}

/// Tells, once in a workspace's life, that onboarding is complete. To be called last in every transaction that
/// can complete a step or take one off the list; one that can only reopen steps has nothing to tell.
///
/// # Errors
/// The database's failure.
pub async fn review(
    tx: &mut impl OnboardingUnit,
    env: &Env,
    steps: &[Step],
) -> Result<(), StoreError> {
    if tx.lock_completion().await?.is_some() {
        return Ok(());
    }
    let (facts, _) = tx.onboarding().await?;
    let entitlements = tx.entitlements().await?;
    let now = env.now();
    let list = checklist(steps, &facts, |f| entitlements.feature(f, now).value);
    if !list.is_complete {
        return Ok(());
    }
    tx.note_completion(now).await?;
    tx.emit(DomainEvent {
        kind: ONBOARDING_COMPLETED.to_owned(),
        subject: entitlements.workspace.to_string(),
        facts: serde_json::json!({ "completed_at": now }),
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: fn(&Feature) -> bool = |_| true;
    const NONE: fn(&Feature) -> bool = |_| false;

    const STEPS: [Step; 3] = [
        PROFILE,
        Step {
            id: "style",
            title: "Choose a style",
            needs: Some(Feature::new("styles")),
            done: |facts| facts.hold("styled"),
        },
        Step {
            id: "first_contract",
            title: "Write a contract",
            needs: None,
            done: |facts| facts.hold("contract_written"),
        },
    ];

    fn of(held: &[&str]) -> Facts {
        Facts {
            held: held.iter().map(|fact| (*fact).to_owned()).collect(),
            skipped: BTreeSet::new(),
        }
    }

    fn done_but_style() -> Facts {
        of(&[NAMED, BILLING_EMAIL_SET, "contract_written"])
    }

    #[test]
    fn a_step_the_plan_cannot_do_holds_nothing_back() {
        let list = checklist(&STEPS, &done_but_style(), NONE);
        assert_eq!((list.progress_percentage, list.is_complete), (100, true));
        assert_eq!(list.steps[1].status, Status::NotAvailable);
        let upgraded = checklist(&STEPS, &done_but_style(), ALL);
        assert_eq!(
            (upgraded.progress_percentage, upgraded.is_complete),
            (66, false)
        );
    }

    #[test]
    fn a_profile_needs_a_name_and_an_address() {
        for (facts, status) in [
            (of(&[]), Status::Open),
            (of(&[NAMED]), Status::Open),
            (of(&[BILLING_EMAIL_SET]), Status::Open),
            (of(&[NAMED, BILLING_EMAIL_SET]), Status::Completed),
        ] {
            assert_eq!(
                checklist(&STEPS, &facts, ALL).steps[0].status,
                status,
                "{facts:?}"
            );
        }
    }

    #[test]
    fn not_available_goes_before_completed_and_completed_before_skipped() {
        let mut facts = done_but_style();
        facts.skipped = STEPS.iter().map(|step| step.id.to_owned()).collect();
        let status = |facts: &Facts, has: fn(&Feature) -> bool, at: usize| {
            checklist(&STEPS, facts, has).steps[at].status
        };
        assert_eq!(status(&facts, NONE, 1), Status::NotAvailable);
        assert_eq!(status(&facts, ALL, 1), Status::Skipped);
        assert_eq!(status(&facts, ALL, 2), Status::Completed);
        facts.held.insert("styled".to_owned());
        assert_eq!(status(&facts, NONE, 1), Status::NotAvailable);
        assert_eq!(status(&facts, ALL, 1), Status::Completed);
    }

    #[test]
    fn complete_means_that_every_combination_has_no_open_step() {
        const FACTS: [&str; 4] = [NAMED, BILLING_EMAIL_SET, "styled", "contract_written"];
        let steps = STEPS;
        for bits in 0_u16..1 << 8 {
            let bit = |i: u8| bits & (1 << i) != 0;
            let held = FACTS.into_iter().zip(0..).filter(|(_, at)| bit(*at));
            let skipped = steps.iter().zip(4..).filter(|(_, at)| bit(*at));
            let facts = Facts {
                held: held.map(|(fact, _)| fact.to_owned()).collect(),
                skipped: skipped.map(|(step, _)| step.id.to_owned()).collect(),
            };
            let list = checklist(&STEPS, &facts, |_| bit(7));
            let count = |status| list.steps.iter().filter(|s| s.status == status).count();
            let open = count(Status::Open);
            let applicable = STEPS.len() - count(Status::NotAvailable);
            assert_eq!(list.is_complete, open == 0, "{facts:?}");
            let done = count(Status::Completed) + count(Status::Skipped);
            assert_eq!(
                usize::from(list.progress_percentage),
                100 * done / applicable,
                "{facts:?}"
            );
        }
    }

    #[test]
    fn without_an_applicable_step_there_is_nothing_left_to_do() {
        for steps in [&[] as &[Step], &STEPS[1..2]] {
            let list = checklist(steps, &Facts::default(), NONE);
            assert_eq!((list.progress_percentage, list.is_complete), (100, true));
        }
    }
}
