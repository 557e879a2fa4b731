//! Onboarding as a projection of facts: nothing is stored that the facts already say, but for what somebody
//! skipped, and that completion was told.
//!
//! ```
//! use rawdrive_onboarding::{Facts, STEPS, checklist};
//! let facts = Facts { has_library: true, ..Facts::default() };
//! let list = checklist(&STEPS, &facts, |_| false);
//! assert_eq!((list.progress_percentage, list.is_complete), (33, false));
//! ```
//!
//! Steps are data. An embedder shows more, or others:
//!
//! ```
//! use rawdrive_onboarding::{STEPS, Step, Status, Facts, checklist};
//! let mut steps = STEPS.to_vec();
//! steps.push(Step { id: "call", title: "Talk to us", needs: None, done: |_| false });
//! let facts = Facts { skipped: ["call".to_owned()].into(), ..Facts::default() };
//! assert_eq!(checklist(&steps, &facts, |_| true).steps[4].status, Status::Skipped);
//! ```
//!
//! Invariant: the checklist is a pure function of the facts; undoing a fact reopens its step. Completion is
//! told once in a workspace's life, by the transaction that first completes it.

use std::collections::BTreeSet;
use std::future::Future;

use chrono::{DateTime, Utc};
use rawdrive_plans::{Feature, PlansTx};
use rawdrive_tenancy_core::event::{DomainEvent, EventsTx};
use rawdrive_tenancy_core::{Env, StoreError};

/// The kind of the event that tells of completion.
pub const ONBOARDING_COMPLETED: &str = "onboarding.completed";

/// What the checklist is computed from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The workspace has a name.
    pub has_name: bool,
    /// It has a billing e-mail address.
    pub has_billing_email: bool,
    /// Branding was saved.
    pub has_branding: bool,
    /// A library exists.
    pub has_library: bool,
    /// A client has been invited, by a link that holds.
    pub has_invited_client: bool,
    /// The ids of steps that somebody skipped.
    pub skipped: BTreeSet<String>,
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

/// The built-in steps, in their order.
pub const STEPS: [Step; 4] = [
    Step {
        id: "profile",
        title: "Name the workspace and set a billing e-mail address",
        needs: None,
        done: |f| f.has_name && f.has_billing_email,
    },
    Step {
        id: "branding",
        title: "Make galleries look like yours",
        needs: Some(Feature::custom_branding()),
        done: |f| f.has_branding,
    },
    Step {
        id: "first_library",
        title: "Create a library",
        needs: None,
        done: |f| f.has_library,
    },
    Step {
        id: "invite_client",
        title: "Invite a client",
        needs: None,
        done: |f| f.has_invited_client,
    },
];

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
    tx: &mut (impl OnboardingTx + PlansTx + EventsTx + Send),
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

    fn done_but_branding() -> Facts {
        Facts {
            has_name: true,
            has_billing_email: true,
            has_library: true,
            has_invited_client: true,
            ..Facts::default()
        }
    }

    #[test]
    fn a_step_the_plan_cannot_do_holds_nothing_back() {
        let list = checklist(&STEPS, &done_but_branding(), NONE);
        assert_eq!((list.progress_percentage, list.is_complete), (100, true));
        assert_eq!(list.steps[1].status, Status::NotAvailable);
        let upgraded = checklist(&STEPS, &done_but_branding(), ALL);
        assert_eq!(
            (upgraded.progress_percentage, upgraded.is_complete),
            (75, false)
        );
    }

    #[test]
    fn not_available_goes_before_completed_and_completed_before_skipped() {
        let mut facts = done_but_branding();
        facts.skipped = STEPS.iter().map(|step| step.id.to_owned()).collect();
        let status = |facts: &Facts, has: fn(&Feature) -> bool, at: usize| {
            checklist(&STEPS, facts, has).steps[at].status
        };
        assert_eq!(status(&facts, NONE, 1), Status::NotAvailable);
        assert_eq!(status(&facts, ALL, 1), Status::Skipped);
        assert_eq!(status(&facts, ALL, 2), Status::Completed);
        facts.has_branding = true;
        assert_eq!(status(&facts, NONE, 1), Status::NotAvailable);
        assert_eq!(status(&facts, ALL, 1), Status::Completed);
    }

    #[test]
    fn complete_means_that_every_combination_has_no_open_step() {
        let steps = STEPS;
        for bits in 0_u16..1 << 10 {
            let bit = |i: u8| bits & (1 << i) != 0;
            let skipped = steps.iter().zip(6..).filter(|(_, at)| bit(*at));
            let facts = Facts {
                has_name: bit(0),
                has_billing_email: bit(1),
                has_branding: bit(2),
                has_library: bit(3),
                has_invited_client: bit(4),
                skipped: skipped.map(|(step, _)| step.id.to_owned()).collect(),
            };
            let list = checklist(&steps, &facts, |_| bit(5));
            let count = |status| list.steps.iter().filter(|s| s.status == status).count();
            let open = count(Status::Open);
            let applicable = 4 - count(Status::NotAvailable);
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
