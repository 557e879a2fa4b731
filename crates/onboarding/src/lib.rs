//! Onboarding as a projection of facts: nothing is stored that the facts already say.
//!
//! ```
//! use rawdrive_onboarding::{Facts, checklist};
//! let list = checklist(&Facts { has_library: true, ..Facts::default() });
//! assert_eq!((list.progress_percentage, list.is_complete), (33, false));
//! ```
//!
//! Invariant: the checklist is a pure function of the facts; undoing a fact reopens its step.

/// What the checklist is computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts {
    /// The workspace has a name and a billing e-mail address.
    pub has_profile: bool,
    /// Branding was saved.
    pub has_branding: bool,
    /// The plan includes branding.
    pub branding_available: bool,
    /// A library exists.
    pub has_library: bool,
    /// A client has been invited.
    pub has_invited_client: bool,
}

/// The state of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Still to be done.
    Open,
    /// Its fact holds.
    Completed,
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
            Self::NotAvailable => "not_available",
        }
    }
}

/// A step as data: an embedder can add its own.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// The stable id.
    pub id: &'static str,
    /// What is to be done, for a person.
    pub title: &'static str,
    /// Whether it is done.
    pub done: fn(&Facts) -> bool,
    /// Whether the plan can do it.
    pub available: fn(&Facts) -> bool,
}

/// The built-in steps, in their order.
pub const STEPS: [Step; 4] = [
    Step {
        id: "profile",
        title: "Name the workspace and set a billing e-mail address",
        done: |f| f.has_profile,
        available: |_| true,
    },
    Step {
        id: "branding",
        title: "Make galleries look like yours",
        done: |f| f.has_branding,
        available: |f| f.branding_available,
    },
    Step {
        id: "first_library",
        title: "Create a library",
        done: |f| f.has_library,
        available: |_| true,
    },
    Step {
        id: "invite_client",
        title: "Invite a client",
        done: |f| f.has_invited_client,
        available: |_| true,
    },
];

/// The checklist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checklist {
    /// Id, title and status of every step, in order.
    pub steps: Vec<(&'static str, &'static str, Status)>,
    /// `floor(100 · completed / applicable)`.
    pub progress_percentage: u8,
    /// Whether no step is open.
    pub is_complete: bool,
}

/// Computes the built-in checklist.
#[must_use]
pub fn checklist(facts: &Facts) -> Checklist {
    checklist_of(&STEPS, facts)
}

/// Computes a checklist of any steps.
#[must_use]
pub fn checklist_of(steps: &[Step], facts: &Facts) -> Checklist {
    let status = |step: &Step| match ((step.done)(facts), (step.available)(facts)) {
        (true, _) => Status::Completed,
        (false, true) => Status::Open,
        (false, false) => Status::NotAvailable,
    };
    let steps: Vec<_> = steps
        .iter()
        .map(|step| (step.id, step.title, status(step)))
        .collect();
    let completed = steps.iter().filter(|s| s.2 == Status::Completed).count();
    let applicable = steps.iter().filter(|s| s.2 != Status::NotAvailable).count();
    let percentage = (100 * completed).checked_div(applicable).unwrap_or(100);
    Checklist {
        is_complete: completed == applicable,
        progress_percentage: u8::try_from(percentage).unwrap_or(100),
        steps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_the_plan_cannot_do_holds_nothing_back() {
        let done = Facts {
            has_profile: true,
            has_library: true,
            has_invited_client: true,
            ..Facts::default()
        };
        let list = checklist(&done);
        assert_eq!((list.progress_percentage, list.is_complete), (100, true));
        assert_eq!(list.steps[1].2, Status::NotAvailable);
        let upgraded = checklist(&Facts {
            branding_available: true,
            ..done
        });
        assert_eq!(
            (upgraded.progress_percentage, upgraded.is_complete),
            (75, false)
        );
    }

    #[test]
    fn complete_means_that_every_combination_has_no_open_step() {
        for bits in 0_u8..32 {
            let bit = |i: u8| bits & (1 << i) != 0;
            let facts = Facts {
                has_profile: bit(0),
                has_branding: bit(1),
                branding_available: bit(2),
                has_library: bit(3),
                has_invited_client: bit(4),
            };
            let list = checklist(&facts);
            let open = list.steps.iter().any(|s| s.2 == Status::Open);
            assert_eq!(list.is_complete, !open, "{facts:?}");
            assert_eq!(
                list.is_complete,
                list.progress_percentage == 100,
                "{facts:?}"
            );
        }
    }
}
