//! Proving a password: every attempt is counted before it is verified, so that parallel guesses count too.

use std::net::{IpAddr, Ipv6Addr};

use aws_lc_rs::digest::{Context, SHA256};
use chrono::TimeDelta;
use rawdrive_tenancy_core::Ambient;

use crate::email::EmailAddress;
use crate::error::IdentityError;
use crate::password::{ClaimedPassword, PasswordHasher};
use crate::ports::{Attempt, PasswordAttempts, User};

const WINDOW: TimeDelta = TimeDelta::minutes(15);
const LIMIT_PER_CLIENT: u32 = 10;
const LIMIT_PER_ACCOUNT: u32 = 100;

/// What an attempt counts towards.
pub(crate) struct Counters(Vec<([u8; 32], u32)>);

impl Counters {
    /// Sign-in: narrow for one client at one address, wide for all clients at it, so that a stranger
    /// locks out an account only by real effort.
    pub(crate) fn for_sign_in(email: &EmailAddress, client: IpAddr) -> Self {
        let folded = email.folded();
        let account = key(&[b"sign-in", folded.as_bytes()]);
        let from_client = key(&[b"sign-in", folded.as_bytes(), &network(client)]);
        Self(vec![
            (from_client, LIMIT_PER_CLIENT),
            (account, LIMIT_PER_ACCOUNT),
        ])
    }

    /// Proving the present password within a session.
    pub(crate) fn for_user(user: &User) -> Self {
        Self(vec![(
            key(&[b"current-password", user.id.to_string().as_bytes()]),
            LIMIT_PER_CLIENT,
        )])
    }
}

/// Whether the claim is the user's password. Nobody's password (`None`) costs and counts the same.
pub(crate) async fn prove(
    attempts: &impl PasswordAttempts,
    hasher: &PasswordHasher,
    ambient: &Ambient,
    counters: &Counters,
    user: Option<&User>,
    claimed: &ClaimedPassword,
) -> Result<bool, IdentityError> {
    take_all(attempts, ambient, counters).await?;
    let verified = match user {
        Some(user) => hasher.verify(user.id, &user.password_hash, claimed).await,
        None => hasher.verify_nothing(claimed).await.map(|()| false),
    };
    match verified {
        Ok(true) => {
            for (key, _) in &counters.0 {
                attempts.forget(*key).await?;
            }
        }
        Ok(false) => {}
        Err(_) => give_back(attempts, &counters.0).await?,
    }
    Ok(verified?)
}

async fn take_all(
    attempts: &impl PasswordAttempts,
    ambient: &Ambient,
    counters: &Counters,
) -> Result<(), IdentityError> {
    for (taken, (key, limit)) in counters.0.iter().enumerate() {
        match attempts.take(*key, *limit, WINDOW, ambient.now()).await? {
            Attempt::Allowed => {}
            Attempt::RetryAfter { seconds } => {
                give_back(attempts, &counters.0[..taken]).await?;
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

fn key(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    key
}

/// The client's address; of IPv6 the first 64 bits, because one subscriber has them all.
fn network(client: IpAddr) -> [u8; 16] {
    match client.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).octets(),
    }
}
