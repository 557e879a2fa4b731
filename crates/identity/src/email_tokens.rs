//! Mailed proofs: that somebody reads the mail of an address. One sets a new password, the other verifies
//! the address itself.
//!
//! Whoever asks for one learns nothing: the request is written down as it came, whether anybody has the
//! address or not, and is answered by mail alone, later. Nothing here belongs to a workspace, because a
//! person may have none (left) and still needs a password to accept an invitation with.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_tenancy_core::id::{ProofId, UserId};
use rawdrive_tenancy_core::{Env, StoreError};
use secrecy::SecretString;

use crate::code::SignInCode;
use crate::email::EmailAddress;
use crate::error::IdentityError;
use crate::opaque_token::{
    EmailVerificationToken, PasswordResetToken, SecretToken, TokenKind, TokenPepper,
};
use crate::password::{Password, PasswordHash, PasswordHasher};
use crate::ports::{IdentityRead, PasswordAttempts};
use crate::rate_limit::{self, Counters};

/// How long the link to a new password works.
pub const RESET_LIFETIME: TimeDelta = TimeDelta::hours(1);
/// How long the link that verifies an address works.
pub const VERIFICATION_LIFETIME: TimeDelta = TimeDelta::hours(24);
/// So many mails of a purpose go to a person at once.
const MAILS_PER_HOUR: u32 = 5;
/// From then on one each time.
const MAIL_SPACING: TimeDelta = TimeDelta::minutes(10);
/// How long after a request a mail still makes sense to whoever asked.
const REQUEST_LIFETIME: TimeDelta = TimeDelta::hours(1);

/// What a proof is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProofPurpose {
    /// Setting a new password.
    PasswordReset,
    /// Verifying the address.
    EmailVerification,
    /// Signing in although others have tried too often: a code, which is computed and of which no proof is stored.
    SignInCode,
}

impl ProofPurpose {
    /// The name in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PasswordReset => "password_reset",
            Self::EmailVerification => "email_verification",
            Self::SignInCode => "sign_in_code",
        }
    }
}

impl fmt::Display for ProofPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no purpose.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected password_reset, email_verification or sign_in_code")]
pub struct UnknownPurpose;

impl FromStr for ProofPurpose {
    type Err = UnknownPurpose;
    fn from_str(text: &str) -> Result<Self, UnknownPurpose> {
        [
            Self::PasswordReset,
            Self::EmailVerification,
            Self::SignInCode,
        ]
        .into_iter()
        .find(|purpose| purpose.as_str() == text)
        .ok_or(UnknownPurpose)
    }
}

/// Somebody's wish for a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofRequest {
    /// Its id.
    pub id: ProofId,
    /// What for.
    pub purpose: ProofPurpose,
    /// The folded address, which may be nobody's.
    pub email_folded: String,
    /// When they asked.
    pub created_at: DateTime<Utc>,
    /// How often it was leased.
    pub attempts: u32,
}

impl ProofRequest {
    /// Somebody has just signed up, and is mailed the link that verifies their address.
    #[must_use]
    pub fn for_verification(env: &Env, email: &EmailAddress) -> Self {
        Self {
            id: env.id(),
            purpose: ProofPurpose::EmailVerification,
            email_folded: email.folded(),
            created_at: env.now(),
            attempts: 0,
        }
    }
}

/// The requests that wait to be answered. Each is carried out at least once.
pub trait ProofRequests: Sync {
    /// Writes a request down, and wakes whoever answers them.
    fn insert_request(
        &self,
        request: &ProofRequest,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Leases up to `n` requests. Nobody else gets them until the lease ends.
    fn lease_requests(
        &self,
        n: u32,
        lease: TimeDelta,
    ) -> impl Future<Output = Result<Vec<ProofRequest>, StoreError>> + Send;

    /// A request is answered.
    fn finish_request(
        &self,
        request: &ProofRequest,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// A request could not be answered; it is tried again after its backoff.
    fn retry_request(
        &self,
        request: &ProofRequest,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A proof that waits for its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofRow {
    /// Its id.
    pub id: ProofId,
    /// What it is good for.
    pub purpose: ProofPurpose,
    /// Whose it is.
    pub user: UserId,
    /// [`SecretToken::stored_hash`] of its token.
    pub secret_hash: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
}

/// When a person has proofs enough for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProofPace {
    /// So many proofs …
    pub at_most: u32,
    /// … made later than this are enough …
    pub since: DateTime<Utc>,
    /// … while one of them was made later than this.
    pub newest_since: DateTime<Utc>,
}

/// The open proofs: global rows.
pub trait Proofs: Sync {
    /// Inserts a proof, unless its user has proofs enough for the same purpose. `false`: they have.
    fn insert_proof(
        &self,
        proof: &ProofRow,
        pace: ProofPace,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// An open proof.
    fn proof(
        &self,
        id: ProofId,
    ) -> impl Future<Output = Result<Option<ProofRow>, StoreError>> + Send;

    /// In one transaction: deletes this proof and every other one of its user, sets their password, ends all
    /// their sessions and notes that their address is verified. `false`: the proof was spent meanwhile, and
    /// nothing has changed.
    fn spend_on_password(
        &self,
        proof: &ProofRow,
        password_hash: &PasswordHash,
        at: DateTime<Utc>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// In one transaction: deletes this proof and the user's other ones for the same purpose, and notes that
    /// their address is verified, unless it was before. `false`: the proof was spent meanwhile.
    fn spend_on_verification(
        &self,
        proof: &ProofRow,
        at: DateTime<Utc>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// Writes down that somebody wants a mail to an address. Counted first, by the client's network alone: 5 per hour to
/// an address, 30 in all, so that nobody uses up what is somebody else's. What is counted, written and answered is the
/// same whether anybody has the address.
///
/// # Errors
/// [`IdentityError::TooManyAttempts`].
pub async fn request_proof(
    requests: &impl ProofRequests,
    attempts: &impl PasswordAttempts,
    env: &Env,
    purpose: ProofPurpose,
    email: &EmailAddress,
    client: IpAddr,
) -> Result<(), IdentityError> {
    let counters = Counters::for_mail(purpose.as_str(), email, client);
    rate_limit::take(attempts, env, &counters).await??;
    let request = request_of(env, purpose, email);
    requests.insert_request(&request).await?;
    Ok(())
}

fn request_of(env: &Env, purpose: ProofPurpose, email: &EmailAddress) -> ProofRequest {
    ProofRequest {
        id: env.id(),
        purpose,
        email_folded: email.folded(),
        created_at: env.now(),
        attempts: 0,
    }
}

/// Writes down that an account's owner needs a code, unless the last one still holds. `by` is counted where the account
/// itself was not tried at. Whether there is such a mail, if there is such an account.
pub(crate) async fn request_code(
    requests: &impl ProofRequests,
    attempts: &impl PasswordAttempts,
    env: &Env,
    email: &EmailAddress,
    by: Option<IpAddr>,
) -> Result<bool, IdentityError> {
    let counters = Counters::for_code(email, by);
    if let Err(refused) = rate_limit::take(attempts, env, &counters).await? {
        return Ok(refused.by_account);
    }
    let request = request_of(env, ProofPurpose::SignInCode, email);
    requests.insert_request(&request).await?;
    Ok(true)
}

/// A proof on its way: what goes into the mail.
#[derive(Debug)]
pub struct IssuedProof {
    /// What it is good for.
    pub purpose: ProofPurpose,
    /// The address on record, not the one that was typed.
    pub to: EmailAddress,
    /// The token or the code, in clear only here.
    pub token: SecretString,
}

/// Issues what a request asks for. Nothing for an address that nobody has, for one that is verified already,
/// and for a request that is an hour old: whoever asked has asked again. Nothing either for a person who had five
/// links within the hour, one of them within ten minutes: whoever else asked, that one holds. Then mail it, and finish
/// the request.
///
/// # Errors
/// The store fails.
pub async fn answer_request(
    store: &(impl IdentityRead + Proofs),
    env: &Env,
    pepper: &TokenPepper,
    request: &ProofRequest,
) -> Result<Option<IssuedProof>, StoreError> {
    let now = env.now();
    if now - request.created_at >= REQUEST_LIFETIME {
        return Ok(None);
    }
    let Some(user) = store.user_by_email(&request.email_folded).await? else {
        return Ok(None);
    };
    let purpose = request.purpose;
    let (id, secret_hash, token, lifetime) = match purpose {
        ProofPurpose::PasswordReset => {
            let token = PasswordResetToken::generate(env, user.id);
            let hash = token.stored_hash(pepper);
            (token.id(), hash, token.text(), RESET_LIFETIME)
        }
        ProofPurpose::EmailVerification if user.email_verified_at.is_some() => return Ok(None),
        ProofPurpose::SignInCode => {
            return Ok(Some(IssuedProof {
                purpose,
                token: SignInCode::of(&user, env, pepper).text(),
                to: user.email,
            }));
        }
        ProofPurpose::EmailVerification => {
            let token = EmailVerificationToken::generate(env, user.id);
            let hash = token.stored_hash(pepper);
            (token.id(), hash, token.text(), VERIFICATION_LIFETIME)
        }
    };
    let proof = ProofRow {
        id,
        purpose,
        user: user.id,
        secret_hash,
        created_at: now,
        expires_at: now + lifetime,
    };
    let pace = ProofPace {
        at_most: MAILS_PER_HOUR,
        since: now - TimeDelta::hours(1),
        newest_since: now - MAIL_SPACING,
    };
    if !store.insert_proof(&proof, pace).await? {
        return Ok(None);
    }
    Ok(Some(IssuedProof {
        purpose,
        to: user.email,
        token,
    }))
}

/// Sets a new password by a mailed proof. All sessions of the user end, their other resets too; the mail has
/// reached them, so their address is verified; and what they had mistyped before is forgotten.
///
/// # Errors
/// [`IdentityError::NoSuchProof`]: unknown, spent or expired; [`IdentityError::Busy`].
pub async fn reset_password(
    store: &(impl IdentityRead + Proofs),
    attempts: &impl PasswordAttempts,
    hasher: &PasswordHasher,
    (env, pepper): (&Env, &TokenPepper),
    (token, client): (&PasswordResetToken, IpAddr),
    password: &Password,
) -> Result<(), IdentityError> {
    // The secret before the hash, which is slow: who has no proof costs nothing.
    let proof = open(store, env, pepper, ProofPurpose::PasswordReset, token).await?;
    let hash = hasher.hash(password, env, client).await?;
    if !store.spend_on_password(&proof, &hash, env.now()).await? {
        return Err(IdentityError::NoSuchProof);
    }
    if let Some(user) = store.user(proof.user).await? {
        Counters::for_sign_in(&user.email, client)
            .welcome(attempts, env)
            .await?;
    }
    Ok(())
}

/// Verifies an address by a mailed proof.
///
/// # Errors
/// [`IdentityError::NoSuchProof`]: unknown, spent or expired.
pub async fn verify_email(
    proofs: &impl Proofs,
    env: &Env,
    pepper: &TokenPepper,
    token: &EmailVerificationToken,
) -> Result<(), IdentityError> {
    let proof = open(proofs, env, pepper, ProofPurpose::EmailVerification, token).await?;
    if proofs.spend_on_verification(&proof, env.now()).await? {
        Ok(())
    } else {
        Err(IdentityError::NoSuchProof)
    }
}

/// The open proof of a token.
async fn open<K: TokenKind<Owner = UserId, Id = ProofId>>(
    proofs: &impl Proofs,
    env: &Env,
    pepper: &TokenPepper,
    purpose: ProofPurpose,
    token: &SecretToken<K>,
) -> Result<ProofRow, IdentityError> {
    let found = proofs.proof(token.id()).await?;
    let is_right = token.matches_stored(pepper, found.as_ref().map(|row| row.secret_hash.as_str()));
    let holds = |row: &ProofRow| {
        is_right
            && row.purpose == purpose
            && row.user == token.owner()
            && env.now() < row.expires_at
    };
    found.filter(holds).ok_or(IdentityError::NoSuchProof)
}
