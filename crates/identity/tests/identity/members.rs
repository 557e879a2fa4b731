//! The team's ports in memory, as far as keys need them: nobody is invited here.

use chrono::{DateTime, Utc};
use rawdrive_identity::{
    EmailAddress, Invitation, InvitationTx, Inviter, Member, TeamTx, WorkspaceName,
};
use rawdrive_plans::Limit;
use rawdrive_tenancy_core::id::{HoldId, InvitationId, UserId};
use rawdrive_tenancy_core::{Actor, Role, StoreError, SystemReason};
use rawdrive_usage::{Charge, Edges, Hold, HoldState, LedgerLine, QuotaKey, QuotaRow, UsageTx};

use crate::memory::Tx;

const NO_SEATS: &str = "no seat is counted in these tests";

impl TeamTx for Tx {
    fn actor(&self) -> Actor {
        Actor::System(SystemReason::OPERATOR)
    }

    async fn lock_team(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn member(&mut self, user: UserId) -> Result<Option<Member>, StoreError> {
        let membership = self.state.memberships.get(&(self.workspace, user));
        let person = self.state.users.get(&user);
        Ok(membership
            .zip(person)
            .map(|((role, joined_at), person)| Member {
                user,
                name: person.name.clone(),
                email: person.email.clone(),
                role: *role,
                joined_at: *joined_at,
            }))
    }

    async fn owners(&mut self) -> Result<u64, StoreError> {
        let here = self
            .state
            .memberships
            .iter()
            .filter(|((at, _), _)| *at == self.workspace);
        Ok(here.filter(|(_, (role, _))| *role == Role::Owner).count() as u64)
    }

    async fn set_role(&mut self, user: UserId, role: Role) -> Result<(), StoreError> {
        if let Some(membership) = self.state.memberships.get_mut(&(self.workspace, user)) {
            membership.0 = role;
        }
        Ok(())
    }

    async fn delete_membership(
        &mut self,
        user: UserId,
        _: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.state.memberships.remove(&(self.workspace, user));
        Ok(())
    }
}

impl InvitationTx for Tx {
    async fn is_member(&mut self, _: &EmailAddress) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn insert_invitation(
        &mut self,
        _: &Invitation,
        _: &[u8; 32],
    ) -> Result<bool, StoreError> {
        panic!("{NO_SEATS}")
    }
    async fn take_invitation(&mut self, _: InvitationId) -> Result<Option<Invitation>, StoreError> {
        Ok(None)
    }
    async fn take_invitations(&mut self, _: Inviter) -> Result<Vec<Invitation>, StoreError> {
        Ok(Vec::new())
    }
    async fn take_expired_invitations(&mut self, _: DateTime<Utc>) -> Result<u64, StoreError> {
        Ok(0)
    }
    async fn workspace_name(&mut self) -> Result<WorkspaceName, StoreError> {
        Ok(self.state.workspaces[&self.workspace].row.name.clone())
    }
}

impl UsageTx for Tx {
    async fn reserve(&mut self, _: &Charge, _: Limit) -> Result<bool, StoreError> {
        panic!("{NO_SEATS}")
    }
    async fn apply(
        &mut self,
        _: &QuotaKey,
        _: u64,
        _: i64,
        _: Limit,
    ) -> Result<Option<QuotaRow>, StoreError> {
        panic!("{NO_SEATS}")
    }
    async fn quota(&mut self, _: &QuotaKey) -> Result<QuotaRow, StoreError> {
        panic!("{NO_SEATS}")
    }
    async fn begin_attempt(&mut self) -> Result<(), StoreError> {
        panic!("{NO_SEATS}")
    }
    async fn undo_attempt(&mut self) -> Result<(), StoreError> {
        panic!("{NO_SEATS}")
    }
    async fn lock(&mut self, _: &QuotaKey) -> Result<QuotaRow, StoreError> {
        panic!("{NO_SEATS}")
    }
    async fn move_held(&mut self, _: &QuotaKey, _: &QuotaKey) -> Result<(), StoreError> {
        panic!("{NO_SEATS}")
    }
    async fn quotas(&mut self) -> Result<Vec<(QuotaKey, QuotaRow)>, StoreError> {
        panic!("{NO_SEATS}")
    }
    async fn insert_holds(&mut self, _: &[Hold], _: DateTime<Utc>) -> Result<(), StoreError> {
        panic!("{NO_SEATS}")
    }
    async fn held(&mut self, _: HoldId) -> Result<Option<Hold>, StoreError> {
        panic!("{NO_SEATS}")
    }
    async fn grow_hold(
        &mut self,
        _: HoldId,
        _: Option<&Charge>,
        _: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        panic!("{NO_SEATS}")
    }
    async fn close_hold(&mut self, _: HoldId, _: HoldState) -> Result<bool, StoreError> {
        panic!("{NO_SEATS}")
    }
    async fn overdue(&mut self, _: DateTime<Utc>) -> Result<Vec<Hold>, StoreError> {
        panic!("{NO_SEATS}")
    }
    fn add_line(&mut self, _: LedgerLine) {
        panic!("{NO_SEATS}")
    }
    fn add_line_by(&mut self, _: Actor, _: LedgerLine) {
        panic!("{NO_SEATS}")
    }
    async fn mark_thresholds(&mut self, _: &QuotaKey, _: &Edges) -> Result<(), StoreError> {
        panic!("{NO_SEATS}")
    }
}
