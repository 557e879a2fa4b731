//! The team of a workspace: who acts on it, and what they may change.

use rawdrive_plans::Metric;
use rawdrive_tenancy_core::id::UserId;
use rawdrive_tenancy_core::{Actor, Role, StoreError};
use rawdrive_usage::{Charge, Exceeded, QuotaKey, TakeError};

use crate::api_key::worth;
use crate::team_ports::IdentityUnit;

/// Why the team stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum TeamError {
    /// The acting person's membership ended meanwhile.
    #[error("the membership has ended")]
    Unauthenticated,
    /// It takes a higher role.
    #[error("this needs the role {required}")]
    Forbidden {
        /// The least role that may.
        required: Role,
    },
    /// There is no such member, or no such invitation.
    #[error("there is no such member or invitation")]
    NotFound,
    /// The last owner stays.
    #[error("the last owner stays")]
    LastOwner,
    /// The person is a member already.
    #[error("the person is a member already")]
    AlreadyMember,
    /// Who would keep the keys of the person who is removed is that person.
    #[error("is for somebody else to say: whoever keeps the keys stays")]
    NobodyKeeps,
    /// The address has an open invitation.
    #[error("the address has an open invitation")]
    AlreadyInvited,
    /// Every seat is taken.
    #[error("the limit of {} is reached", .0.metric)]
    Exceeded(Exceeded),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<TakeError> for TeamError {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::Exceeded(exceeded) => Self::Exceeded(exceeded),
            TakeError::NotHeld => Self::NotFound,
            TakeError::Store(error) => Self::Store(error),
        }
    }
}

/// The least role that may make a member of role `from` one of role `to`; `None` stands for somebody
/// outside. Admins manage everybody but owners; who is or becomes an owner, owners alone decide.
#[must_use]
pub const fn role_to_change(from: Option<Role>, to: Option<Role>) -> Role {
    if matches!(from, Some(Role::Owner)) || matches!(to, Some(Role::Owner)) {
        Role::Owner
    } else {
        Role::Admin
    }
}

/// Whether `acting` may.
pub(crate) fn permit(acting: Role, from: Option<Role>, to: Option<Role>) -> Result<(), TeamError> {
    let required = role_to_change(from, to);
    if acting >= required {
        Ok(())
    } else {
        Err(TeamError::Forbidden { required })
    }
}

/// A seat.
pub(crate) fn seat() -> Charge {
    Charge {
        key: QuotaKey::level(Metric::team_members()),
        amount: 1,
    }
}

/// Who acts, as it stands under the team's lock.
pub(crate) struct Acting {
    /// What they may do.
    pub(crate) role: Role,
    /// The member: the person, or who answers for the key.
    pub(crate) sponsor: UserId,
}

/// Who acts, read under the team's lock: what was read before the transaction may be past.
pub(crate) async fn acting(tx: &mut impl IdentityUnit) -> Result<Acting, TeamError> {
    let (user, most) = match tx.actor() {
        Actor::User(user) => (Some(user), Role::Owner),
        Actor::Key(key) => {
            let key = tx.api_key(key).await?.ok_or(TeamError::Unauthenticated)?;
            (key.sponsor, key.role)
        }
        // The people of a workspace are the business of its people.
        Actor::Guest(_) | Actor::System(_) => (None, Role::Member),
    };
    let sponsor = user.ok_or(TeamError::Unauthenticated)?;
    let member = tx.member(sponsor).await?;
    let role = worth(most, member.map(|member| member.role));
    let role = role.ok_or(TeamError::Unauthenticated)?;
    Ok(Acting { role, sponsor })
}
