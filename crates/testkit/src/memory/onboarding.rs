//! Onboarding: facts that are looked at, what was skipped, and that completion was told.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use rawdrive_onboarding::{BILLING_EMAIL_SET, Facts, NAMED, OnboardingRead, OnboardingTx};
use rawdrive_tenancy_core::StoreError;
use rawdrive_tenancy_core::id::WorkspaceId;

use super::{MemoryReader, MemoryStore, MemoryTx, Rows, State};

/// A fact of a product's own: its name, and whether it holds of a workspace's rows.
pub type Fact = (&'static str, fn(&Rows) -> bool);

/// What onboarding keeps of a workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OnboardingRows {
    /// The ids of steps that somebody skipped.
    pub skipped: BTreeSet<String>,
    /// When completion was told.
    pub told_at: Option<DateTime<Utc>>,
}

impl MemoryStore {
    /// The same store, which looks at these facts as well.
    #[must_use]
    pub fn with_facts(&self, facts: &[Fact]) -> Self {
        let facts = self.facts.iter().chain(facts).copied().collect();
        Self {
            facts,
            ..self.clone()
        }
    }

    fn facts_of(
        &self,
        state: &State,
        workspace: WorkspaceId,
        operation: &'static str,
    ) -> Result<(Facts, Option<DateTime<Utc>>), StoreError> {
        let rows = state.workspaces.get(&workspace);
        let made = state.identity.workspaces.get(&workspace);
        let (Some(rows), Some(made)) = (rows, made) else {
            return Err(StoreError::Dangling { operation });
        };
        let own = [
            (NAMED, !made.made.name.as_str().is_empty()),
            (BILLING_EMAIL_SET, made.made.billing_email.is_some()),
        ];
        let others = self.facts.iter().map(|(name, holds)| (*name, holds(rows)));
        let held = own.into_iter().chain(others).filter(|(_, holds)| *holds);
        let facts = Facts {
            held: held.map(|(name, _)| name.to_owned()).collect(),
            skipped: rows.onboarding.skipped.clone(),
        };
        Ok((facts, rows.onboarding.told_at))
    }
}

impl OnboardingRead for MemoryReader {
    async fn onboarding(&self) -> Result<(Facts, Option<DateTime<Utc>>), StoreError> {
        const OPERATION: &str = "read onboarding's facts";
        let facts = |state: &State| {
            let workspace = self.scope.workspace();
            self.store.facts_of(state, workspace, OPERATION)
        };
        self.store.look(OPERATION, facts)?
    }
}

impl OnboardingTx for MemoryTx {
    async fn onboarding(&mut self) -> Result<(Facts, Option<DateTime<Utc>>), StoreError> {
        const OPERATION: &str = "read onboarding's facts";
        self.store.call(OPERATION)?;
        let workspace = self.scope.workspace();
        self.store.facts_of(&self.state, workspace, OPERATION)
    }

    async fn skip_step(&mut self, step: &str, _: DateTime<Utc>) -> Result<(), StoreError> {
        let rows = &mut self.write("skip a step")?.onboarding;
        rows.skipped.insert(step.to_owned());
        Ok(())
    }

    async fn unskip_step(&mut self, step: &str) -> Result<(), StoreError> {
        let rows = &mut self.write("take a skip back")?.onboarding;
        rows.skipped.remove(step);
        Ok(())
    }

    async fn lock_completion(&mut self) -> Result<Option<DateTime<Utc>>, StoreError> {
        // Whoever writes here writes alone.
        let rows = self.read("lock onboarding's completion")?;
        Ok(rows.onboarding.told_at)
    }

    async fn note_completion(&mut self, at: DateTime<Utc>) -> Result<(), StoreError> {
        let rows = &mut self.write("note onboarding's completion")?.onboarding;
        rows.told_at = Some(at);
        Ok(())
    }
}
