//! Invitations: a seat that is held until it is taken, given back, or a week has passed.
//!
//! Members are what is used of `team_members`, open invitations are what is reserved of it: together they
//! never pass the limit at the moment one is made, and taking a held seat needs no free one.

use std::future::Future;
use std::net::IpAddr;

use chrono::TimeDelta;
use rawdrive_tenancy_core::audit::{AuditTx, Change};
use rawdrive_tenancy_core::id::InvitationId;
use rawdrive_tenancy_core::{Env, Role, StoreError};
use rawdrive_usage::{Charge, UsageTx, give_back_reserved, reserve, settle_reserved};
use serde_json::{Value, json};

use crate::access_token::TokenIssuer;
use crate::api_key::worth;
use crate::email::EmailAddress;
use crate::error::IdentityError;
use crate::opaque_token::{InvitationToken, TokenPepper};
use crate::password::{ClaimedPassword, Password, PasswordHash, PasswordHasher};
use crate::ports::{
    Authenticated, Belonging, IdentityRead, PasswordAttempts, User, WorkspaceStatus, account_of,
};
use crate::rate_limit::{self, Counters};
use crate::session::{Person, SignedIn, begin_session};
use crate::team::{TeamError, acting, permit, seat};
use crate::team_ports::{IdentityUnit, Invitation};
use crate::validated_text::PersonName;

/// How long an invitation holds its seat.
pub const INVITATION_LIFETIME: TimeDelta = TimeDelta::days(7);

/// An invitation as a token names it, with the workspace that it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundInvitation {
    /// The invitation.
    pub invitation: Invitation,
    /// The role that its sponsor has now.
    pub sponsor_role: Option<Role>,
    /// What was stored of its secret.
    pub secret_hash: Vec<u8>,
    /// The workspace's status.
    pub workspace_status: WorkspaceStatus,
}

/// An invitation, and what it is worth now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedInvitation {
    /// The invitation.
    pub invitation: Invitation,
    /// Nothing while its sponsor is no member.
    pub worth: Option<Role>,
}

/// Finds an invitation before anybody is a member: inside the workspace that the token names.
pub trait InvitationRead: Sync {
    /// The invitation that the token names, expired ones included; whether the secret is right, the caller
    /// checks.
    fn invitation(
        &self,
        token: &InvitationToken,
    ) -> impl Future<Output = Result<Option<FoundInvitation>, StoreError>> + Send;
}

/// Invites somebody, audited as `invitation.created`. Returns the invitation and the token to be mailed.
///
/// # Errors
/// [`TeamError::Forbidden`] above the inviting role, [`TeamError::AlreadyMember`],
/// [`TeamError::AlreadyInvited`], [`TeamError::Exceeded`] when no seat is free.
pub async fn invite(
    tx: &mut impl IdentityUnit,
    env: &Env,
    pepper: &TokenPepper,
    id: InvitationId,
    email: EmailAddress,
    role: Role,
) -> Result<(Invitation, InvitationToken), TeamError> {
    tx.lock_team().await?;
    let acting = acting(tx).await?;
    permit(acting.role, None, Some(role))?;
    if tx.is_member(&email).await? {
        return Err(TeamError::AlreadyMember);
    }
    give_back_expired(tx, env).await?;
    let now = env.now();
    let invitation = Invitation {
        id,
        email,
        role,
        sponsor: Some(acting.sponsor),
        invited_by: tx.actor().to_string(),
        created_at: now,
        expires_at: now + INVITATION_LIFETIME,
    };
    let token = InvitationToken::with_id(env, tx.workspace(), id);
    let hash = token.keyed_hash(pepper);
    if !tx.insert_invitation(&invitation, &hash).await? {
        return Err(TeamError::AlreadyInvited);
    }
    reserve(tx, env, &seat()).await?;
    tx.record(Change {
        action: "invitation.created",
        subject: id.to_string(),
        before: Value::Null,
        after: facts(&invitation),
    });
    Ok((invitation, token))
}

fn facts(invitation: &Invitation) -> Value {
    json!({ "email": invitation.email.as_str(), "role": invitation.role.as_str() })
}

/// Takes an invitation back, audited as `invitation.revoked`; its seat is free.
///
/// # Errors
/// [`TeamError::NotFound`], [`TeamError::Forbidden`].
pub async fn revoke_invitation(
    tx: &mut impl IdentityUnit,
    env: &Env,
    id: InvitationId,
) -> Result<(), TeamError> {
    tx.lock_team().await?;
    let acting = acting(tx).await?;
    let invitation = tx.take_invitation(id).await?.ok_or(TeamError::NotFound)?;
    permit(acting.role, None, Some(invitation.role))?;
    let ended = [invitation];
    give_seats_back(tx, &ended).await?;
    record_ended(tx, env, &ended).await?;
    Ok(())
}

/// Gives back the seats of invitations that were taken.
pub(crate) async fn give_seats_back(
    tx: &mut (impl UsageTx + Send),
    taken: &[Invitation],
) -> Result<(), StoreError> {
    let amount = taken.len() as u64;
    if amount > 0 {
        let seats = Charge { amount, ..seat() };
        give_back_reserved(tx, &seats).await?;
    }
    Ok(())
}

/// Audits the end of each invitation that was open.
pub(crate) async fn record_ended(
    tx: &mut impl AuditTx,
    env: &Env,
    taken: &[Invitation],
) -> Result<(), StoreError> {
    // One that has expired was no invitation any more: only its seat was still to be given back.
    let open = taken.iter().filter(|i| env.now() < i.expires_at);
    for invitation in open {
        tx.record(Change {
            action: "invitation.revoked",
            subject: invitation.id.to_string(),
            before: facts(invitation),
            after: Value::Null,
        });
    }
    Ok(())
}

/// Gives the seats of expired invitations back, in a transaction of its own. Returns how many.
///
/// # Errors
/// The database's failure.
pub async fn sweep_invitations(tx: &mut impl IdentityUnit, env: &Env) -> Result<u64, StoreError> {
    tx.lock_team().await?;
    give_back_expired(tx, env).await
}

async fn give_back_expired(tx: &mut impl IdentityUnit, env: &Env) -> Result<u64, StoreError> {
    let amount = tx.take_expired_invitations(env.now()).await?;
    if amount > 0 {
        let seats = Charge { amount, ..seat() };
        give_back_reserved(tx, &seats).await?;
    }
    Ok(amount)
}

/// Who accepts, as the request says.
#[derive(Debug)]
pub struct Acceptance {
    /// The mailed token.
    pub token: InvitationToken,
    /// A new user's name.
    pub name: Option<PersonName>,
    /// A new user's password.
    pub new_password: Option<Password>,
    /// An existing user's password, as claimed.
    pub claimed_password: Option<ClaimedPassword>,
    /// The session that the request carries.
    pub session: Option<Authenticated>,
    /// Where the request comes from.
    pub client: IpAddr,
}

/// Why an invitation is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// Unknown, used, revoked, expired: which of them is not told.
    #[error("there is no such invitation")]
    NoInvitation,
    /// The workspace is deleted or suspended.
    #[error("the workspace is not active")]
    WorkspaceInactive,
    /// A new user must say this.
    #[error("{field} is required of a new user")]
    Missing {
        /// `name` or `password`.
        field: &'static str,
    },
    /// Neither the password nor a session of the invited address was proved.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The team stays as it is.
    #[error(transparent)]
    Team(#[from] TeamError),
}

impl From<StoreError> for AcceptError {
    fn from(error: StoreError) -> Self {
        Self::Team(TeamError::Store(error))
    }
}

/// Somebody who may accept: proved to be whom the invitation is for, or new.
#[derive(Debug)]
pub struct Accepting {
    token: InvitationToken,
    who: Who,
}

#[derive(Debug)]
enum Who {
    /// Proved by password or session; the epoch at that moment.
    Known(User),
    New(PersonName, PasswordHash),
}

impl Accepting {
    /// The token whose workspace the caller begins in.
    #[must_use]
    pub fn token(&self) -> &InvitationToken {
        &self.token
    }
}

/// The invitation that a token opens now.
///
/// # Errors
/// [`AcceptError::NoInvitation`], [`AcceptError::WorkspaceInactive`].
pub async fn find_invitation(
    read: &impl InvitationRead,
    env: &Env,
    pepper: &TokenPepper,
    token: &InvitationToken,
) -> Result<FoundInvitation, AcceptError> {
    let found = read
        .invitation(token)
        .await?
        .filter(|found| token.matches_keyed(pepper, &found.secret_hash))
        .filter(|found| env.now() < found.invitation.expires_at)
        // Nobody answers for it any more.
        .filter(|found| found.sponsor_role.is_some())
        .ok_or(AcceptError::NoInvitation)?;
    if found.workspace_status != WorkspaceStatus::Active {
        return Err(AcceptError::WorkspaceInactive);
    }
    Ok(found)
}

/// First half of an acceptance, outside any transaction: the invitation is there, and who accepts is whom
/// it is for. Then `begin` for the system reason `AcceptInvitation` in the token's workspace, [`accept`],
/// commit.
///
/// # Errors
/// [`AcceptError::NoInvitation`], [`AcceptError::WorkspaceInactive`], [`AcceptError::Missing`];
/// [`IdentityError::WrongCredentials`] and [`IdentityError::Unauthenticated`] when nothing proves the
/// address's owner, [`IdentityError::TooManyAttempts`].
pub async fn prove_acceptance(
    read: &(impl IdentityRead + InvitationRead),
    attempts: &impl PasswordAttempts,
    hasher: &PasswordHasher,
    env: &Env,
    pepper: &TokenPepper,
    acceptance: Acceptance,
) -> Result<Accepting, AcceptError> {
    let Acceptance {
        token,
        name,
        new_password,
        claimed_password,
        session,
        client,
    } = acceptance;
    let found = find_invitation(read, env, pepper, &token).await?;
    let email = &found.invitation.email;
    let who = match account_of(read, email).await? {
        None => {
            let name = name.ok_or(AcceptError::Missing { field: "name" })?;
            let password = new_password.ok_or(AcceptError::Missing { field: "password" })?;
            let hash = hasher.hash(&password, env, client).await;
            Who::New(name, hash.map_err(IdentityError::from)?)
        }
        Some(user) => {
            let by_session = session.is_some_and(|s| s.membership.user() == user.id);
            if !by_session {
                let claimed = claimed_password.ok_or(IdentityError::Unauthenticated)?;
                let counters = Counters::for_sign_in(email, client);
                let claim = (&claimed, client);
                let proved =
                    rate_limit::prove(attempts, hasher, env, &counters, Some(&user), claim);
                if !proved.await? {
                    return Err(IdentityError::WrongCredentials.into());
                }
            }
            Who::Known(user)
        }
    };
    Ok(Accepting { token, who })
}

/// Second half: the held seat becomes a member's, in one transaction with the membership, the session and
/// the audit entry `membership.created`. The invitation is used up. The role is at most the one that the invitation's
/// sponsor has under the team's lock.
///
/// # Errors
/// [`AcceptError::NoInvitation`] when somebody was faster, or the sponsor is no member any more, [`TeamError::AlreadyMember`],
/// [`TeamError::Exceeded`] when the plan has shrunk below the held seat, [`IdentityError::EmailTaken`] when the
/// address signed up meanwhile.
pub async fn accept(
    tx: &mut impl IdentityUnit,
    env: &Env,
    issuer: &TokenIssuer,
    accepting: Accepting,
) -> Result<SignedIn, AcceptError> {
    let Accepting { token, who } = accepting;
    let now = env.now();
    if tx.workspace() != token.workspace() {
        return Err(AcceptError::NoInvitation);
    }
    tx.lock_team().await?;
    let invitation = tx
        .take_invitation(token.id())
        .await?
        .filter(|invitation| now < invitation.expires_at)
        .ok_or(AcceptError::NoInvitation)?;
    let sponsor = match invitation.sponsor {
        Some(sponsor) => tx.member(sponsor).await?.map(|member| member.role),
        None => None,
    };
    let role = worth(invitation.role, sponsor).ok_or(AcceptError::NoInvitation)?;
    let user = match who {
        Who::Known(user) => user,
        Who::New(name, password_hash) => {
            let user = User {
                id: env.id(),
                email: invitation.email.clone(),
                name,
                password_hash,
                session_epoch: 0,
                // The token came by mail to this address.
                email_verified_at: Some(now),
                created_at: now,
            };
            tx.insert_user(&user).await.map_err(IdentityError::from)?;
            user
        }
    };
    if tx.member(user.id).await?.is_some() {
        return Err(TeamError::AlreadyMember.into());
    }
    settle_reserved(tx, env, &seat(), &user.id.to_string())
        .await
        .map_err(TeamError::from)?;
    tx.insert_membership(user.id, role, now).await?;
    let tokens = begin_session(tx, env, issuer, user.id, user.session_epoch).await?;
    let name = tx.workspace_name().await?;
    tx.record(Change {
        action: "membership.created",
        subject: user.id.to_string(),
        before: Value::Null,
        after: json!({
            "role": role.as_str(),
            "invitation": invitation.id,
            "invited_by": invitation.invited_by,
        }),
    });
    Ok(SignedIn {
        workspace: Belonging {
            workspace: tx.workspace(),
            name,
            role,
            status: WorkspaceStatus::Active,
        },
        person: Person::from(user),
        tokens,
    })
}
