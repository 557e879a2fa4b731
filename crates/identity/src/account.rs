//! Signing up, and changing one's own account.

use std::net::IpAddr;

use rawdrive_tenancy_core::audit::Change;
use rawdrive_tenancy_core::{Env, Membership, Role, StoreError};
use serde_json::{Value, json};

use crate::access_token::TokenIssuer;
use crate::email::EmailAddress;
use crate::error::IdentityError;
use crate::password::{ClaimedPassword, Password, PasswordHash, PasswordHasher};
use crate::ports::{
    Belonging, IdentityRead, IdentityTx, NewWorkspace, PasswordAttempts, User, UserUpdate,
    WorkspaceStatus,
};
use crate::rate_limit::{self, Counters};
use crate::session::{Person, SignedIn, begin_session};
use crate::team_ports::IdentityUnit;
use crate::validated_text::{Currency, PersonName, WorkspaceName, slug};

/// Who signs up, and what their workspace is.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// Their address.
    pub email: EmailAddress,
    /// Their name.
    pub name: PersonName,
    /// Their workspace's name.
    pub workspace_name: WorkspaceName,
    /// What it will pay in.
    pub currency: Currency,
}

/// First half of a sign-up, outside any transaction: counts it (50 per hour for a client), refuses an address that is
/// taken, and hashes the password last, because that is dear.
///
/// # Errors
/// [`IdentityError::TooManyAttempts`], [`IdentityError::EmailTaken`], [`IdentityError::Busy`].
pub async fn prepare_sign_up(
    read: &impl IdentityRead,
    attempts: &impl PasswordAttempts,
    hasher: &PasswordHasher,
    env: &Env,
    (email, password): (&EmailAddress, &Password),
    client: IpAddr,
) -> Result<PasswordHash, IdentityError> {
    let counters = Counters::for_sign_up(client);
    rate_limit::take(attempts, env, &counters).await??;
    if read.user_by_email(&email.folded()).await?.is_some() {
        return Err(IdentityError::EmailTaken);
    }
    Ok(hasher.hash(password, env, client).await?)
}

/// Lets a new account know the network that it was made from. After the commit: until then the address may be
/// somebody else's.
///
/// # Errors
/// The store fails.
pub async fn meet_network(
    attempts: &impl PasswordAttempts,
    env: &Env,
    email: &EmailAddress,
    client: IpAddr,
) -> Result<(), StoreError> {
    Counters::for_sign_in(email, client)
        .welcome(attempts, env)
        .await
}

/// Makes user, workspace, owner's membership, session and refresh token, and audits `workspace.created`.
///
/// The caller's order: [`prepare_sign_up`] (no transaction waits for a hash), a fresh workspace id, `begin`
/// for the system reason `SignUp` in it, this, the workspace's entitlements and the owner's seat in the same
/// transaction, commit.
///
/// # Errors
/// [`IdentityError::EmailTaken`]; drop the handle.
pub async fn sign_up(
    tx: &mut impl IdentityUnit,
    env: &Env,
    issuer: &TokenIssuer,
    account: NewAccount,
    password_hash: PasswordHash,
) -> Result<SignedIn, IdentityError> {
    let now = env.now();
    let NewAccount {
        email,
        name,
        workspace_name,
        currency,
    } = account;
    let user = User {
        id: env.id(),
        email,
        name,
        password_hash,
        session_epoch: 0,
        created_at: now,
        email_verified_at: None,
    };
    let workspace = NewWorkspace {
        slug: slug(&workspace_name, tx.workspace()),
        name: workspace_name,
        billing_email: None,
        currency,
        created_at: now,
    };
    tx.insert_user(&user).await?;
    tx.insert_workspace(&workspace).await?;
    tx.insert_membership(user.id, Role::Owner, now).await?;
    let tokens = begin_session(tx, env, issuer, user.id, user.session_epoch).await?;
    tx.record(Change {
        action: "workspace.created",
        subject: tx.workspace().to_string(),
        before: Value::Null,
        after: json!({
            "name": workspace.name.as_str(),
            "slug": workspace.slug,
            "currency": currency.as_str(),
            "owner": user.id,
        }),
    });
    let workspace = Belonging {
        workspace: tx.workspace(),
        name: workspace.name,
        role: Role::Owner,
        status: WorkspaceStatus::Active,
    };
    Ok(SignedIn {
        person: Person::from(user),
        workspace,
        tokens,
    })
}

/// What a person wants changed of themselves.
#[derive(Debug, Clone, Default)]
pub struct AccountUpdate {
    /// Another name.
    pub name: Option<PersonName>,
    /// Another password.
    pub password: Option<PasswordChange>,
}

/// A new password, and the present one as proof.
#[derive(Debug, Clone)]
pub struct PasswordChange {
    /// The password from now on.
    pub new: Password,
    /// The password so far, as claimed.
    pub current: ClaimedPassword,
}

/// An update whose password, if any, was proved and hashed.
#[derive(Debug)]
pub struct ProvenUpdate {
    name: Option<PersonName>,
    password: Option<Replacement>,
}

#[derive(Debug)]
struct Replacement {
    proved: PasswordHash,
    new: PasswordHash,
}

/// First half of a change to one's own account: proves the present password (counted by session: ten at once, then ever more slowly)
/// and hashes the new one, before any transaction. Then `begin` in the member's scope, [`update_me`],
/// commit.
///
/// # Errors
/// [`IdentityError::WrongCurrentPassword`], [`IdentityError::TooManyAttempts`], [`IdentityError::Busy`].
pub async fn prove_update(
    read: &impl IdentityRead,
    attempts: &impl PasswordAttempts,
    hasher: &PasswordHasher,
    env: &Env,
    (membership, client): (&Membership, IpAddr),
    update: AccountUpdate,
) -> Result<ProvenUpdate, IdentityError> {
    let AccountUpdate { name, password } = update;
    let Some(PasswordChange { new, current }) = password else {
        return Ok(ProvenUpdate {
            name,
            password: None,
        });
    };
    let user = read
        .user(membership.user())
        .await?
        .ok_or(IdentityError::Unauthenticated)?;
    let counters = Counters::for_session(membership.session());
    let claim = (&current, client);
    if !rate_limit::prove(attempts, hasher, env, &counters, Some(&user), claim).await? {
        return Err(IdentityError::WrongCurrentPassword);
    }
    let new = hasher.hash(&new, env, client).await?;
    Ok(ProvenUpdate {
        name,
        password: Some(Replacement {
            proved: user.password_hash,
            new,
        }),
    })
}

/// Second half: changes name and password. A new password ends every other session of the user, in every
/// workspace; the one that asked goes on.
///
/// # Errors
/// [`IdentityError::WrongCurrentPassword`] when the password was changed since it was proved;
/// [`IdentityError::Unauthenticated`] when the handle is not the session's workspace's, or the user is gone.
pub async fn update_me(
    tx: &mut impl IdentityTx,
    membership: &Membership,
    update: ProvenUpdate,
) -> Result<Person, IdentityError> {
    if tx.workspace() != membership.workspace() {
        return Err(IdentityError::Unauthenticated);
    }
    let mut user = tx
        .user(membership.user())
        .await?
        .ok_or(IdentityError::Unauthenticated)?;
    let ProvenUpdate { name, password } = update;
    let ends_sessions = password.is_some();
    let password_hash = match password {
        Some(Replacement { proved, .. }) if proved != user.password_hash => {
            return Err(IdentityError::WrongCurrentPassword);
        }
        Some(Replacement { new, .. }) => Some(new),
        None => None,
    };
    let update = UserUpdate {
        name,
        password_hash,
    };
    if update != UserUpdate::default() {
        tx.update_user(user.id, &update).await?;
    }
    if ends_sessions {
        let epoch = tx.bump_session_epoch(user.id).await?;
        tx.restamp_session(membership.session(), epoch).await?;
    }
    if let Some(name) = update.name {
        user.name = name;
    }
    Ok(Person::from(user))
}
