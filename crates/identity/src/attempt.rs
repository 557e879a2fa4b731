//! Counting attempts: at a password before it is verified, so that parallel guesses count too, and at having
//! mail sent to somebody.

use std::net::IpAddr;

use aws_lc_rs::digest::{Context, SHA256};
use chrono::TimeDelta;
use rawdrive_tenancy_core::{Ambient, StoreError};

use crate::email::EmailAddress;
use crate::error::IdentityError;
use crate::network::Network;
use crate::password::{ClaimedPassword, PasswordHasher};
use crate::ports::{Attempt, PasswordAttempts, User};

const WINDOW: TimeDelta = TimeDelta::minutes(15);
const LIMIT_PER_CLIENT: u32 = 10;
const LIMIT_PER_ACCOUNT: u32 = 100;
const MAIL_WINDOW: TimeDelta = TimeDelta::hours(1);
const MAILS_PER_ADDRESS: u32 = 5;
const MAILS_PER_CLIENT: u32 = 30;
const SIGN_UP_WINDOW: TimeDelta = TimeDelta::hours(1);
const SIGN_UPS_PER_CLIENT: u32 = 50;

/// What an attempt counts towards.
pub(crate) struct Counters {
    limits: Vec<([u8; 32], u32)>,
    window: TimeDelta,
}

impl Counters {
    /// Sign-in: narrow for one client at one address, wide for all clients at it, so that a stranger
    /// locks out an account only by real effort.
    pub(crate) fn for_sign_in(email: &EmailAddress, client: IpAddr) -> Self {
        let folded = email.folded();
        let account = key(&[b"sign-in", folded.as_bytes()]);
        let from_client = key(&[b"sign-in", folded.as_bytes(), Network::of(client).octets()]);
        Self {
            limits: vec![
                (from_client, LIMIT_PER_CLIENT),
                (account, LIMIT_PER_ACCOUNT),
            ],
            window: WINDOW,
        }
    }

    /// Having a mail sent: few to one address, whoever asks, and not many by one client.
    pub(crate) fn for_mail(purpose: &str, email: &EmailAddress, client: IpAddr) -> Self {
        let (purpose, folded) = (purpose.as_bytes(), email.folded());
        let address = key(&[b"mail to", purpose, folded.as_bytes()]);
        let by_client = key(&[b"mail by", purpose, Network::of(client).octets()]);
        Self {
            limits: vec![(by_client, MAILS_PER_CLIENT), (address, MAILS_PER_ADDRESS)],
            window: MAIL_WINDOW,
        }
    }

    /// Signing up: an office's worth of newcomers by one client.
    pub(crate) fn for_sign_up(client: IpAddr) -> Self {
        Self {
            limits: vec![(
                key(&[b"sign-up", Network::of(client).octets()]),
                SIGN_UPS_PER_CLIENT,
            )],
            window: SIGN_UP_WINDOW,
        }
    }

    /// Proving the present password within a session.
    pub(crate) fn for_user(user: &User) -> Self {
        Self {
            limits: vec![(
                key(&[b"current-password", user.id.to_string().as_bytes()]),
                LIMIT_PER_CLIENT,
            )],
            window: WINDOW,
        }
    }

    /// Forgets what was counted.
    pub(crate) async fn forget(&self, attempts: &impl PasswordAttempts) -> Result<(), StoreError> {
        for (key, _) in &self.limits {
            attempts.forget(*key).await?;
        }
        Ok(())
    }
}

/// Whether the claim is the user's password. Nobody's password (`None`) costs and counts the same.
pub(crate) async fn prove(
    attempts: &impl PasswordAttempts,
    hasher: &PasswordHasher,
    ambient: &Ambient,
    counters: &Counters,
    user: Option<&User>,
    (claimed, client): (&ClaimedPassword, IpAddr),
) -> Result<bool, IdentityError> {
    take_all(attempts, ambient, counters).await?;
    let verified = match user {
        Some(user) => {
            hasher
                .verify(user.id, &user.password_hash, claimed, client)
                .await
        }
        None => hasher.verify_nothing(claimed, client).await.map(|()| false),
    };
    match verified {
        Ok(true) => counters.forget(attempts).await?,
        Ok(false) => {}
        Err(_) => give_back(attempts, &counters.limits).await?,
    }
    Ok(verified?)
}

/// Counts one attempt towards each; when one is full, towards none.
pub(crate) async fn take_all(
    attempts: &impl PasswordAttempts,
    ambient: &Ambient,
    counters: &Counters,
) -> Result<(), IdentityError> {
    let Counters { limits, window } = counters;
    for (taken, (key, limit)) in limits.iter().enumerate() {
        match attempts.take(*key, *limit, *window, ambient.now()).await? {
            Attempt::Allowed => {}
            Attempt::RetryAfter { seconds } => {
                give_back(attempts, &limits[..taken]).await?;
                return Err(IdentityError::TooManyAttempts {
                    retry_after_seconds: seconds.max(1),
                });
            }
        }
    }
    Ok(())
}

async fn give_back(
    attempts: &impl PasswordAttempts,
    taken: &[([u8; 32], u32)],
) -> Result<(), IdentityError> {
    for (key, _) in taken {
        attempts.give_back(*key).await?;
    }
    Ok(())
}

pub(crate) fn key(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    key
}
