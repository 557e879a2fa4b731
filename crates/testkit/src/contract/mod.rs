//! What the domain's ports promise, said once and put to every store that implements them.
//!
//! ```
//! use rawdrive_plans::Catalogue;
//! use rawdrive_testkit::{MemoryStore, TestEnv};
//!
//! async fn memory(test_env: &TestEnv, _: &Catalogue) -> MemoryStore {
//!     MemoryStore::new(test_env.env().clone())
//! }
//!
//! rawdrive_testkit::store_contract!(crate::memory);
//! # fn main() {}
//! ```

pub mod allowances;
pub mod gateway;
pub mod history;
pub mod identity;
pub mod mail;
pub mod onboarding;
pub mod quota;
pub mod records;
pub mod transactions;
pub mod usage_cache;

use std::collections::BTreeMap;
use std::future::Future;

use rawdrive_identity::ports::{IdentityRead, IdentityTx, PasswordAttempts, SigningKeys};
use rawdrive_identity::{
    ApiKeyList, ApiKeyRead, ApiKeysTx, InvitationRead, InvitationTx, ProofRequests, Proofs,
    StrangerMailTx, TeamTx,
};
use rawdrive_onboarding::{OnboardingRead, OnboardingTx};
use rawdrive_plans::{
    Allowance, Catalogue, Limit, Metric, Override, Plan, PlansTx, Setting, UnitOfWork,
};
use rawdrive_tenancy_core::audit::{AuditTx, Entry, Hash};
use rawdrive_tenancy_core::event::EventsTx;
use rawdrive_tenancy_core::id::TypedId;
use rawdrive_tenancy_core::job::{Job, JobsTx};
use rawdrive_tenancy_core::{Commit, Env, StoreError, WorkspaceScope};
use rawdrive_usage::{
    Charge, IngestTx, LedgerEntry, QuotaKey, ReservationsTx, SealTx, UsageRead, UsageTx,
};
use uuid::Uuid;

use crate::{MemoryReader, MemoryStore, MemoryTx, TestEnv, product};

/// A store that can be put to the contract: beside the ports, what a test must see of it. Its methods
/// panic where the database fails.
pub trait Subject:
    UnitOfWork<
    Tx: UsageTx
            + PlansTx
            + EventsTx
            + JobsTx
            + AuditTx
            + IngestTx
            + SealTx
            + ReservationsTx
            + IdentityTx
            + TeamTx
            + InvitationTx
            + ApiKeysTx
            + StrangerMailTx
            + OnboardingTx,
>
{
    /// Reads a workspace.
    type Read: UsageRead + ApiKeyList + OnboardingRead + Send + Sync;
    /// What belongs to no workspace, or comes before any scope.
    type Installation: IdentityRead
        + InvitationRead
        + ApiKeyRead
        + PasswordAttempts
        + SigningKeys
        + ProofRequests
        + Proofs;
    /// Reads the workspace as it is committed.
    fn read(&self, scope: &WorkspaceScope) -> Self::Read;
    /// What belongs to no workspace.
    fn installation(&self) -> &Self::Installation;
    /// Makes a workspace on a plan of the catalogue that the store was opened with.
    fn workspace(&self, plan: &Plan) -> impl Future<Output = WorkspaceScope> + Send;
    /// The workspace's jobs that are due, in any order.
    fn due_jobs(&self, scope: &WorkspaceScope) -> impl Future<Output = Vec<Job>> + Send;
    /// The workspace's ledger, oldest line first.
    fn ledger(&self, scope: &WorkspaceScope) -> impl Future<Output = Vec<LedgerEntry>> + Send;
    /// The workspace's audit chain, oldest entry first, and its head.
    fn audit(
        &self,
        scope: &WorkspaceScope,
    ) -> impl Future<Output = (Vec<Entry>, (u64, Hash))> + Send;
    /// Adds a note, a row of an extension's own; `Taken` where its id is.
    fn insert_note(
        tx: &mut Self::Tx,
        id: Uuid,
        text: &str,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Writes another text; whether there is such a note.
    fn change_note(
        tx: &mut Self::Tx,
        id: Uuid,
        text: &str,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// A note's text.
    fn note(
        tx: &mut Self::Tx,
        id: Uuid,
    ) -> impl Future<Output = Result<Option<String>, StoreError>> + Send;
    /// Where usage is not the ledger's sum, or reserved not the sum of what is held; empty when all is well.
    fn discrepancies(&self, scope: &WorkspaceScope) -> impl Future<Output = Vec<String>> + Send;
}

/// The notes of a workspace in memory.
#[derive(Debug, Clone, Default)]
struct Notes(BTreeMap<Uuid, String>);

impl Subject for MemoryStore {
    type Read = MemoryReader;
    type Installation = Self;

    fn read(&self, scope: &WorkspaceScope) -> MemoryReader {
        Self::read(self, scope)
    }

    fn installation(&self) -> &Self {
        self
    }

    async fn workspace(&self, plan: &Plan) -> WorkspaceScope {
        let made = Self::workspace(self, plan).await;
        made.expect("no fault was asked for")
    }

    async fn due_jobs(&self, scope: &WorkspaceScope) -> Vec<Job> {
        let now = self.env().now();
        let rows = self.rows(scope);
        let due = rows
            .jobs
            .iter()
            .filter(|(_, at)| at.is_none_or(|at| at <= now));
        due.map(|(work, _)| work.clone()).collect()
    }

    async fn ledger(&self, scope: &WorkspaceScope) -> Vec<LedgerEntry> {
        let rows = self.rows(scope);
        rows.ledger.clone()
    }

    async fn audit(&self, scope: &WorkspaceScope) -> (Vec<Entry>, (u64, Hash)) {
        let chain = self.rows(scope).audit.clone();
        let head = chain
            .last()
            .map_or((0, Hash::default()), |e| (e.seq, e.hash));
        (chain, head)
    }

    async fn insert_note(tx: &mut MemoryTx, id: Uuid, text: &str) -> Result<(), StoreError> {
        const OPERATION: &str = "insert a note";
        tx.change_slot(OPERATION, |notes: &mut Notes| {
            match notes.0.insert(id, text.to_owned()) {
                None => Ok(()),
                Some(_) => Err(StoreError::Taken {
                    operation: OPERATION,
                }),
            }
        })
    }

    async fn change_note(tx: &mut MemoryTx, id: Uuid, text: &str) -> Result<bool, StoreError> {
        tx.change_slot("change a note", |notes: &mut Notes| {
            let note = notes.0.get_mut(&id);
            Ok(note.map(|note| text.clone_into(note)).is_some())
        })
    }

    async fn note(tx: &mut MemoryTx, id: Uuid) -> Result<Option<String>, StoreError> {
        let notes = tx.slot::<Notes>("read a note")?;
        Ok(notes.0.get(&id).cloned())
    }

    async fn discrepancies(&self, scope: &WorkspaceScope) -> Vec<String> {
        self.rows(scope).discrepancies()
    }
}

/// A store with two workspaces in it, both on a plan that limits nothing.
#[derive(Debug)]
pub struct Stage<S> {
    /// The store.
    pub store: S,
    /// What it was opened with.
    pub test_env: TestEnv,
    /// The workspace in which things happen.
    pub scope: WorkspaceScope,
    /// A workspace to which nothing of that may be seen.
    pub other: WorkspaceScope,
}

impl<S: Subject> Stage<S> {
    /// Opens a store and makes its workspaces.
    pub async fn set(make: impl AsyncFnOnce(&TestEnv, &Catalogue) -> S) -> Self {
        let test_env = TestEnv::seeded(1);
        let catalogue = product::catalogue();
        let store = make(&test_env, &catalogue).await;
        let unlimited: Vec<_> = catalogue
            .current()
            .filter(|plan| {
                plan.limits()
                    .all(|(_, limit)| limit == Allowance::Unlimited)
            })
            .collect();
        let plan = unlimited
            .first()
            .expect("the catalogue has a plan without limits");
        Self {
            scope: store.workspace(plan).await,
            other: store.workspace(plan).await,
            store,
            test_env,
        }
    }

    /// Time, ids and bytes.
    #[must_use]
    pub fn env(&self) -> &Env {
        self.test_env.env()
    }

    /// Begins a write in the first workspace.
    pub async fn begin(&self) -> S::Tx {
        begin(&self.store, &self.scope).await
    }

    /// Limits a metric of the first workspace.
    pub async fn limit(&self, metric: Metric, limit: Limit) {
        let mut tx = self.begin().await;
        let new = Override {
            id: self.env().id(),
            setting: Setting::Limit(metric, limit),
            reason: "test".to_owned(),
            until: None,
        };
        tx.add_override(&new).await.expect("the store works");
        tx.commit().await.expect("the store works");
    }

    /// A fresh id.
    #[must_use]
    pub fn id<I: TypedId>(&self) -> I {
        self.env().id()
    }
}

/// Begins a write.
pub async fn begin<S: UnitOfWork>(store: &S, scope: &WorkspaceScope) -> S::Tx {
    let begun = store.begin(scope).await;
    begun.unwrap_or_else(|error| panic!("the workspace takes writes: {error}"))
}

/// An amount of stored bytes.
pub(crate) fn bytes(amount: u64) -> Charge {
    Charge {
        key: QuotaKey::level(product::BYTES),
        amount,
    }
}

/// Makes a test of each promise, for the store that a function makes: an `async fn(&TestEnv,
/// &Catalogue) -> S` that is named by a path from the crate's root.
#[macro_export]
macro_rules! store_contract {
    ($make:path) => {
        $crate::store_contract! { $crate::contract => $make =>
            quota {
                reserving_stops_at_the_limit,
                no_interleaving_passes_the_limit,
                several_holds_are_decided_as_one_after_the_other,
                growth_is_bounded_and_shrinking_never,
                settling_more_than_was_held_takes_the_rest,
                what_takes_below_zero_is_an_error,
                a_hold_ends_once,
                a_hold_grows_by_what_it_did_not_hold_as_well,
                expiry_is_final,
                overdue_holds_make_room_for_others,
                a_refused_take_leaves_nothing_behind,
                an_episode_fires_once_and_again_after_a_real_fall,
                settling_counts_what_was_not_held,
            }
            allowances {
                a_tolerance_is_taken_to_its_last_unit,
                a_soft_limit_refuses_nothing,
                a_reservation_is_settled_once,
                a_reservation_ends_in_its_time,
            }
            transactions {
                what_is_dropped_never_was,
                workspaces_do_not_see_each_others_rows,
                one_id_may_stand_in_two_workspaces,
                an_unseen_row_is_not_written,
            }
            history {
                lines_are_chained_and_summed,
                hours_and_totals_are_those_of_happening,
                a_sealed_month_takes_no_line_any_more,
                lines_are_found_by_what_they_are,
                an_event_counts_once_for_ever,
                what_is_given_back_may_come_again,
                events_count_beyond_a_limit_and_in_their_own_period,
                a_correction_is_a_line_and_an_entry,
                an_anchor_that_moves_grants_nothing_anew,
                what_is_held_moves_with_the_anchor,
            }
            identity {
                an_address_is_one_accounts,
                an_account_changes_as_is_said,
                a_membership_is_of_one_workspace,
                a_team_changes_and_who_leaves_is_signed_out,
                the_last_workspace_comes_first,
                a_session_holds_as_long_as_all_of_it_does,
                a_refresh_token_is_used_once,
                an_invitation_is_taken_once,
                invitations_end_by_who_made_them_and_by_time,
                a_key_is_worth_what_its_sponsor_is,
                keys_are_handed_over_and_deleted,
                counters_change_together,
                mails_to_strangers_are_counted,
                an_owner_who_is_verified_is_found,
                signing_keys_are_made_once_and_rotated,
                requests_for_mail_are_leased,
                proofs_are_made_at_a_pace,
                a_proof_is_spent_once,
            }
            onboarding {
                facts_are_what_the_rows_say,
                a_skip_stands_until_it_is_taken_back,
                completion_is_told_once,
            }
            records {
                ledger_lines_are_numbered_without_gaps,
                jobs_become_due,
                events_are_delivered_by_jobs,
                the_audit_chain_verifies,
                a_later_override_stands_above,
            }
        }
    };
    // Promises in modules below the first path, which may be another crate's.
    ($promises:path => $make:path => $($module:ident { $($name:ident,)+ })+) => {$(
        mod $module {
            use $promises as promises;
            $(
                #[tokio::test]
                async fn $name() {
                    let stage = $crate::contract::Stage::set($make).await;
                    promises::$module::$name(&stage).await;
                }
            )+
        }
    )+};
}
