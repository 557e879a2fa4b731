//! The people of a workspace: their roles, and how they leave.
//!
//! Every use case here locks the team first, so that of two owners who remove each other one stays.

use rawdrive_tenancy_core::audit::Change;
use rawdrive_tenancy_core::id::UserId;
use rawdrive_tenancy_core::{Env, Role};
use rawdrive_usage::subtract;
use serde_json::{Value, json};

use crate::api_key::{record_handed_over, record_revoked};
use crate::invitation::{give_seats_back, record_ended};
use crate::team::{TeamError, acting, permit, seat};
use crate::team_ports::{ApiKeyRow, IdentityUnit, Invitation, Inviter, Member, TeamTx};

/// What ended with a membership, or went on under somebody else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftBehind {
    /// Invitations that the person answered for: taken back.
    pub invitations: Vec<Invitation>,
    /// Keys that the person answered for: revoked.
    pub api_keys: Vec<ApiKeyRow>,
    /// Keys that the remover kept, and answers for now.
    pub kept_api_keys: Vec<ApiKeyRow>,
}

impl LeftBehind {
    /// Whether the person left nothing behind.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What becomes of the keys that a person answers for when they are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeysOf {
    /// They are revoked.
    Revoked,
    /// Who removes the person answers for them from now on.
    Kept,
}

/// Gives a member another role, audited as `membership.role_changed`; the same role changes nothing. What the member
/// answers for is worth at most the new role, by how it is read.
///
/// # Errors
/// [`TeamError::NotFound`], [`TeamError::Forbidden`], [`TeamError::LastOwner`].
pub async fn change_role(
    tx: &mut impl IdentityUnit,
    user: UserId,
    role: Role,
) -> Result<Member, TeamError> {
    tx.lock_team().await?;
    let acting = acting(tx).await?;
    let mut member = tx.member(user).await?.ok_or(TeamError::NotFound)?;
    permit(acting.role, Some(member.role), Some(role))?;
    if member.role == role {
        return Ok(member);
    }
    stays_owned(tx, member.role).await?;
    tx.set_role(user, role).await?;
    tx.record(Change {
        action: "membership.role_changed",
        subject: user.to_string(),
        before: json!({ "role": member.role.as_str() }),
        after: json!({ "role": role.as_str() }),
    });
    member.role = role;
    Ok(member)
}

/// Takes a member out of the workspace, audited as `membership.removed`; their seat is free, their sessions in it end,
/// and so do the invitations that they answer for, each audited as `invitation.revoked`. Their keys are revoked, each
/// audited as `api_key.revoked`, or kept, audited as `api_key.sponsor_changed`.
///
/// # Errors
/// [`TeamError::NotFound`], [`TeamError::Forbidden`], [`TeamError::LastOwner`], [`TeamError::NobodyKeeps`].
pub async fn remove_member(
    tx: &mut impl IdentityUnit,
    env: &Env,
    user: UserId,
    keys: KeysOf,
) -> Result<LeftBehind, TeamError> {
    tx.lock_team().await?;
    let acting = acting(tx).await?;
    let member = tx.member(user).await?.ok_or(TeamError::NotFound)?;
    permit(acting.role, Some(member.role), None)?;
    let keeper = match keys {
        KeysOf::Revoked => None,
        KeysOf::Kept if acting.sponsor == user => return Err(TeamError::NobodyKeeps),
        KeysOf::Kept => Some(acting.sponsor),
    };
    let taken = tx.take_invitations(Inviter::Sponsor(user)).await?;
    end_membership(tx, env, &member, taken, "membership.removed", keeper).await
}

/// Leaves the workspace, audited as `membership.left`. The keys that the person answers for are revoked, as when they are
/// removed. Their invitations hold their seats, and nobody can accept one: who stays decides what becomes of them.
///
/// # Errors
/// [`TeamError::Unauthenticated`] when the membership has ended already, [`TeamError::LastOwner`].
pub async fn leave(
    tx: &mut impl IdentityUnit,
    env: &Env,
    user: UserId,
) -> Result<LeftBehind, TeamError> {
    tx.lock_team().await?;
    let member = tx.member(user).await?.ok_or(TeamError::Unauthenticated)?;
    end_membership(tx, env, &member, Vec::new(), "membership.left", None).await
}

async fn end_membership(
    tx: &mut impl IdentityUnit,
    env: &Env,
    member: &Member,
    taken: Vec<Invitation>,
    action: &'static str,
    keeper: Option<UserId>,
) -> Result<LeftBehind, TeamError> {
    stays_owned(tx, member.role).await?;
    give_seats_back(tx, &taken).await?;
    subtract(tx, env, seat(), member.user.to_string()).await?;
    let mut left = LeftBehind::default();
    match keeper {
        Some(keeper) => left.kept_api_keys = tx.hand_over_api_keys(member.user, keeper).await?,
        None => left.api_keys = tx.delete_api_keys_of(member.user).await?,
    }
    tx.delete_membership(member.user, env.now()).await?;
    tx.record(Change {
        action,
        subject: member.user.to_string(),
        before: json!({ "role": member.role.as_str() }),
        after: Value::Null,
    });
    record_ended(tx, env, &taken).await?;
    for key in &left.api_keys {
        record_revoked(tx, key).await?;
    }
    for (key, keeper) in left.kept_api_keys.iter().zip(keeper.into_iter().cycle()) {
        record_handed_over(tx, key, keeper).await?;
    }
    let open = |invitation: &Invitation| env.now() < invitation.expires_at;
    left.invitations = taken.into_iter().filter(open).collect();
    Ok(left)
}

/// Hands the workspace over: another member becomes an owner, the one who acts an admin. Audited once, as
/// `workspace.transferred`.
///
/// # Errors
/// [`TeamError::NotFound`] when the other is no member, [`TeamError::Forbidden`] when the acting person is no
/// owner any more, [`TeamError::AlreadyMember`] when both are one.
pub async fn transfer(
    tx: &mut impl IdentityUnit,
    from: UserId,
    to: UserId,
) -> Result<Member, TeamError> {
    tx.lock_team().await?;
    let giver = tx.member(from).await?.ok_or(TeamError::Unauthenticated)?;
    permit(giver.role, Some(Role::Owner), None)?;
    let mut heir = tx.member(to).await?.ok_or(TeamError::NotFound)?;
    if from == to {
        return Err(TeamError::AlreadyMember);
    }
    tx.set_role(to, Role::Owner).await?;
    tx.set_role(from, Role::Admin).await?;
    tx.record(Change {
        action: "workspace.transferred",
        subject: to.to_string(),
        before: json!({ "owner": from, "role": heir.role.as_str() }),
        after: json!({ "owner": to, "role": Role::Owner.as_str() }),
    });
    heir.role = Role::Owner;
    Ok(heir)
}

/// Under the team's lock: refuses when the only owner would cease to be one.
async fn stays_owned(tx: &mut impl TeamTx, leaving: Role) -> Result<(), TeamError> {
    if leaving == Role::Owner && tx.owners().await? <= 1 {
        return Err(TeamError::LastOwner);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_alone_decide_who_is_an_owner_and_admins_decide_the_rest() {
        let everybody = [
            None,
            Some(Role::Member),
            Some(Role::Admin),
            Some(Role::Owner),
        ];
        for from in everybody {
            for to in everybody {
                let concerns_owner = from == Some(Role::Owner) || to == Some(Role::Owner);
                assert!(permit(Role::Member, from, to).is_err());
                assert_eq!(permit(Role::Admin, from, to).is_ok(), !concerns_owner);
                assert!(permit(Role::Owner, from, to).is_ok());
            }
        }
    }
}
