//! Sessions: signing in, refreshing, switching the workspace, signing out.

use std::net::IpAddr;

use chrono::TimeDelta;
use rawdrive_tenancy_core::id::{SessionId, UserId, WorkspaceId};
use rawdrive_tenancy_core::{Env, Membership};
use secrecy::SecretString;

use crate::access_token::TokenIssuer;
use crate::code::SignInCode;
use crate::email::EmailAddress;
use crate::email_tokens::{ProofRequests, request_code};
use crate::error::IdentityError;
use crate::opaque_token::{DeviceToken, REFRESH_LIFETIME, RefreshToken, TokenPepper};
use crate::password::{ClaimedPassword, PasswordHasher};
use crate::ports::{
    Authenticated, Belonging, IdentityRead, IdentityTx, NewRefresh, NewSession, PasswordAttempts,
    User, WorkspaceStatus, account_of,
};
use crate::rate_limit::{self, Counters, Presented};
use crate::validated_text::PersonName;

/// How long a session can be refreshed at all; then the password is asked for again.
pub const SESSION_LIFETIME: TimeDelta = TimeDelta::days(180);

/// A user without their secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Their id.
    pub id: UserId,
    /// Their address.
    pub email: EmailAddress,
    /// Their name.
    pub name: PersonName,
    /// Whether they proved that mail to their address reaches them.
    pub email_verified: bool,
}

impl From<User> for Person {
    fn from(
        User {
            id,
            email,
            name,
            email_verified_at,
            ..
        }: User,
    ) -> Self {
        Self {
            id,
            email,
            name,
            email_verified: email_verified_at.is_some(),
        }
    }
}

/// A pair of tokens, in clear only here.
#[derive(Debug)]
pub struct Tokens {
    /// The access token.
    pub access: SecretString,
    /// How long it holds.
    pub expires_in_seconds: u32,
    /// The refresh token.
    pub refresh: SecretString,
}

/// A session that has begun.
#[derive(Debug)]
pub struct SignedIn {
    /// Whose.
    pub person: Person,
    /// Where.
    pub workspace: Belonging,
    /// With what.
    pub tokens: Tokens,
}

/// What somebody says who wants to sign in.
#[derive(Debug)]
pub struct Credentials {
    /// Their address.
    pub email: EmailAddress,
    /// Their password.
    pub password: ClaimedPassword,
    /// Where they call from.
    pub client: IpAddr,
    /// What they got when they signed in before.
    pub device: Option<DeviceToken>,
    /// What was mailed to them.
    pub code: Option<SignInCode>,
}

impl Credentials {
    fn presented(&self, user: Option<&User>, env: &Env, pepper: &TokenPepper) -> Presented {
        let Some(user) = user else {
            return Presented::Nothing;
        };
        let code = self.code.as_ref();
        if code.is_some_and(|code| code.holds(user, env, pepper)) {
            return Presented::Code(user.id);
        }
        let device = self.device.as_ref();
        device
            .and_then(|token| token.device_of(user.id, env, pepper))
            .map_or(Presented::Nothing, Presented::Device)
    }
}

/// A user whose password was proved just now. Made by [`prove_password`] alone.
#[derive(Debug)]
pub struct Proven(User);

impl Proven {
    /// The user.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.0
    }
}

/// The right to open a session in one workspace. Made by [`sign_in`] and [`switch`] alone; spent by
/// [`open_session`].
#[derive(Debug)]
pub struct Opening {
    person: Person,
    epoch: u32,
    workspace: Belonging,
}

impl Opening {
    /// The workspace whose scope the caller begins.
    #[must_use]
    pub fn workspace(&self) -> WorkspaceId {
        self.workspace.workspace
    }
}

/// Proves a password. Counted before it is verified, and forgotten on success:
///
/// - by account and network: ten wrong ones at once, then ever more slowly, up to one every 15 minutes;
/// - by network: 100 wrong ones an hour at whatever accounts, 1,000 where the account knows the network;
/// - by account: 300 wrong ones a day from networks that it does not know.
///
/// A known device, and whoever has the mailed code, is counted by itself alone. So nobody locks an account's owner out:
/// from a network of their own they are admitted, and where they share one with whoever guesses, by device or code.
/// Whoever is refused has a code mailed to the account. An unknown address answers the same, after the same time.
///
/// # Errors
/// [`IdentityError::WrongCredentials`], [`IdentityError::TooManyAttempts`], [`IdentityError::Busy`].
pub async fn prove_password(
    read: &(impl IdentityRead + ProofRequests),
    attempts: &impl PasswordAttempts,
    hasher: &PasswordHasher,
    (env, pepper): (&Env, &TokenPepper),
    credentials: &Credentials,
) -> Result<Proven, IdentityError> {
    let Credentials {
        email,
        password,
        client,
        ..
    } = credentials;
    let user = account_of(read, email).await?;
    let presented = credentials.presented(user.as_ref(), env, pepper);
    let counters = Counters::for_presented(email, *client, presented);
    let taken = match rate_limit::take(attempts, env, &counters).await? {
        Ok(taken) => taken,
        Err(refused) => {
            let by = (!refused.by_account).then_some(*client);
            return Err(IdentityError::TooManyAttempts {
                retry_after_seconds: refused.retry_after_seconds,
                code_mailed: request_code(read, attempts, env, email, by).await?,
            });
        }
    };
    let proved = rate_limit::verify(
        attempts,
        hasher,
        env,
        (&counters, taken),
        user.as_ref(),
        (password, *client),
    )
    .await?;
    user.filter(|_| proved)
        .map(Proven)
        .ok_or(IdentityError::WrongCredentials)
}

/// First half of a sign-in, outside any transaction: proves the password and chooses the workspace, the
/// last used one, otherwise the oldest. One that is closed is opened only when there is no other, because
/// nothing but restoring and leaving is possible from there. Then `begin` for the system reason `SignIn` in
/// [`Opening::workspace`], [`open_session`], commit.
///
/// # Errors
/// Those of [`prove_password`], and [`IdentityError::NoWorkspace`].
pub async fn sign_in(
    read: &(impl IdentityRead + ProofRequests),
    attempts: &impl PasswordAttempts,
    hasher: &PasswordHasher,
    keyed: (&Env, &TokenPepper),
    credentials: &Credentials,
) -> Result<Opening, IdentityError> {
    let Proven(user) = prove_password(read, attempts, hasher, keyed, credentials).await?;
    let mut belongings = read.workspaces_of(user.id).await?;
    if belongings.is_empty() {
        return Err(IdentityError::NoWorkspace);
    }
    let chosen = belongings
        .iter()
        .position(|b| b.status == WorkspaceStatus::Active)
        .unwrap_or(0);
    let workspace = belongings.swap_remove(chosen);
    Ok(Opening {
        epoch: user.session_epoch,
        person: Person::from(user),
        workspace,
    })
}

/// First half of a switch: looks the named workspace up among the user's own. The session that asks goes
/// on; the other workspace gets a family of its own by [`open_session`], in the same order as a sign-in.
///
/// # Errors
/// [`IdentityError::NoSuchWorkspace`], whether it is foreign or does not exist.
pub async fn switch(
    read: &impl IdentityRead,
    authenticated: &Authenticated,
    target: WorkspaceId,
) -> Result<Opening, IdentityError> {
    let user = authenticated.membership.user();
    let belongings = read.workspaces_of(user).await?;
    let workspace = belongings
        .into_iter()
        .find(|b| b.workspace == target)
        .ok_or(IdentityError::NoSuchWorkspace)?;
    let user = read
        .user(user)
        .await?
        .ok_or(IdentityError::Unauthenticated)?;
    // The epoch of the session that asks, not the user's: should it have moved on in between, the new
    // session must not outlive the old one.
    Ok(Opening {
        epoch: authenticated.session_epoch,
        person: Person::from(user),
        workspace,
    })
}

/// Second half of a sign-in or a switch, in the transaction of the chosen workspace: a session with its
/// first refresh token; the workspace becomes the last used one. The session carries the epoch at which the
/// password was proved, so that one opened across a password change is dead at birth.
///
/// # Errors
/// [`IdentityError::Unauthenticated`] when the membership went meanwhile, or the handle is another
/// workspace's.
pub async fn open_session(
    tx: &mut impl IdentityTx,
    env: &Env,
    issuer: &TokenIssuer,
    opening: Opening,
) -> Result<SignedIn, IdentityError> {
    let Opening {
        person,
        epoch,
        mut workspace,
    } = opening;
    if tx.workspace() != workspace.workspace {
        return Err(IdentityError::Unauthenticated);
    }
    workspace.role = tx
        .membership(person.id)
        .await?
        .ok_or(IdentityError::Unauthenticated)?;
    let tokens = begin_session(tx, env, issuer, person.id, epoch).await?;
    Ok(SignedIn {
        person,
        workspace,
        tokens,
    })
}

pub(crate) async fn begin_session(
    tx: &mut impl IdentityTx,
    env: &Env,
    issuer: &TokenIssuer,
    user: UserId,
    epoch: u32,
) -> Result<Tokens, IdentityError> {
    let now = env.now();
    let session = NewSession {
        id: env.id(),
        user,
        epoch,
        created_at: now,
        expires_at: now + SESSION_LIFETIME,
    };
    tx.insert_session(&session).await?;
    tx.note_last_workspace(user).await?;
    issue_pair(tx, env, issuer, user, session.id, session.expires_at).await
}

async fn issue_pair(
    tx: &mut impl IdentityTx,
    env: &Env,
    issuer: &TokenIssuer,
    user: UserId,
    session: SessionId,
    session_expires_at: chrono::DateTime<chrono::Utc>,
) -> Result<Tokens, IdentityError> {
    let issued_at = env.now();
    let token = RefreshToken::generate(env, tx.workspace());
    let refresh = NewRefresh {
        id: token.id(),
        session,
        secret_hash: token.secret_hash(),
        issued_at,
        expires_at: (issued_at + REFRESH_LIFETIME).min(session_expires_at),
    };
    tx.insert_refresh(&refresh).await?;
    let (access, expires_in_seconds) = issuer.issue(env, user, tx.workspace(), session);
    Ok(Tokens {
        access,
        expires_in_seconds,
        refresh: token.text(),
    })
}

/// What became of a refresh token. **Commit in both cases**, then ask for the [`tokens`](Self::tokens).
#[derive(Debug)]
#[must_use = "commit, then answer with the tokens"]
pub enum Refreshed {
    /// It was exchanged.
    Rotated(Tokens),
    /// It had been exchanged before: somebody else holds it. Its whole session is revoked.
    Revoked,
}

impl Refreshed {
    /// The new pair, after the commit.
    ///
    /// # Errors
    /// [`IdentityError::Unauthenticated`] for a token that had been used.
    pub fn tokens(self) -> Result<Tokens, IdentityError> {
        match self {
            Self::Rotated(tokens) => Ok(tokens),
            Self::Revoked => Err(IdentityError::Unauthenticated),
        }
    }
}

/// Exchanges a refresh token for a new pair. The caller's order: [`RefreshToken::parse`] (a text that is
/// none is unauthenticated), `begin` for the system reason `Authenticate` in its
/// [`workspace`](RefreshToken::workspace), this, commit, [`Refreshed::tokens`].
///
/// A closed workspace's session is refreshed too: restoring and leaving stay possible.
///
/// # Errors
/// [`IdentityError::Unauthenticated`]: unknown, expired, revoked, or its owner no longer a member.
pub async fn refresh(
    tx: &mut impl IdentityTx,
    env: &Env,
    issuer: &TokenIssuer,
    token: &RefreshToken,
) -> Result<Refreshed, IdentityError> {
    if tx.workspace() != token.workspace() {
        return Err(IdentityError::Unauthenticated);
    }
    let now = env.now();
    // The secret first: whoever merely knows an id learns nothing and revokes nothing.
    let found = tx
        .refresh(token.id())
        .await?
        .filter(|row| token.matches(&row.secret_hash));
    let row = found.ok_or(IdentityError::Unauthenticated)?;
    if row.used_at.is_some() {
        tx.revoke_session(row.session, now).await?;
        return Ok(Refreshed::Revoked);
    }
    let over = now >= row.expires_at || now >= row.session_expires_at;
    let ended = row.session_revoked || row.session_epoch != row.user_epoch || row.role.is_none();
    if over || ended {
        return Err(IdentityError::Unauthenticated);
    }
    if !tx.mark_refresh_used(row.id, now).await? {
        tx.revoke_session(row.session, now).await?;
        return Ok(Refreshed::Revoked);
    }
    issue_pair(
        tx,
        env,
        issuer,
        row.user,
        row.session,
        row.session_expires_at,
    )
    .await
    .map(Refreshed::Rotated)
}

/// Ends the present session; access and refresh tokens stop at once. In the member's scope, then commit.
///
/// # Errors
/// The store fails, or the handle is another workspace's.
pub async fn sign_out(
    tx: &mut impl IdentityTx,
    env: &Env,
    membership: &Membership,
) -> Result<(), IdentityError> {
    if tx.workspace() != membership.workspace() {
        return Err(IdentityError::Unauthenticated);
    }
    tx.revoke_session(membership.session(), env.now()).await?;
    Ok(())
}
