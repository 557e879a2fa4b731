//! Passwords: Argon2id at OWASP's cost, never more at once than the machine can bear.

use std::fmt;
use std::net::IpAddr;

use argon2::password_hash::phc::{self, Output, ParamsString, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use rawdrive_tenancy_core::id::UserId;
use rawdrive_tenancy_core::{Env, StoreError};
use secrecy::{ExposeSecret, SecretString};

use crate::hash_queue::{Full, HashQueue, HashWaiting, Lease};
use crate::network::Network;
use crate::precis::opaque_string;
use crate::validated_text::InvalidText;

const MIN_CHARS: usize = 8; // NIST SP 800-63B section 5.1.1.2
const MAX_BYTES: usize = 1024;
const SALT_BYTES: usize = 16;

/// A password that somebody may have from now on.
#[derive(Debug, Clone)]
pub struct Password(SecretString);

impl Password {
    /// Checks a new password: at least 8 characters and at most 1024 bytes that every keyboard types alike (RFC 8265
    /// section 4.2, whose form is kept). Anything else is taken as it is; rules of composition make passwords worse.
    ///
    /// # Errors
    /// What a password must be.
    pub fn parse(text: &str) -> Result<Self, InvalidText> {
        if text.chars().count() < MIN_CHARS {
            return Err(InvalidText::must("be at least 8 characters long"));
        }
        bounded(text)?;
        let Some(prepared) = opaque_string(text) else {
            return Err(InvalidText::must(
                "hold no control characters and none that cannot be seen",
            ));
        };
        if prepared.chars().count() < MIN_CHARS {
            return Err(InvalidText::must("be at least 8 characters long"));
        }
        bounded(&prepared).map(Self)
    }
}

/// A password that somebody says they have; it may be older than today's rules.
#[derive(Debug, Clone)]
pub struct ClaimedPassword {
    /// As it was typed, and before that in the form of RFC 8265 where that is another text: a password that was set
    /// before the form was kept was hashed as it was typed.
    forms: Vec<SecretString>,
}

impl ClaimedPassword {
    /// Bounds a claimed password: at most 1024 bytes, without NUL.
    ///
    /// # Errors
    /// What a password must be.
    pub fn parse(text: &str) -> Result<Self, InvalidText> {
        let typed = bounded(text)?;
        let prepared = opaque_string(text).filter(|prepared| prepared != text);
        let prepared = prepared.map(SecretString::from);
        Ok(Self {
            forms: prepared.into_iter().chain([typed]).collect(),
        })
    }
}

fn bounded(text: &str) -> Result<SecretString, InvalidText> {
    if text.len() > MAX_BYTES {
        return Err(InvalidText::must("be at most 1024 bytes long"));
    }
    if text.contains('\0') {
        return Err(InvalidText::must("hold no control characters"));
    }
    Ok(text.into())
}

/// A stored password hash: a PHC string, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Wraps the text of the column as it stands; whether it is a hash shows when it is verified.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The text for the column.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// Why a password was neither hashed nor verified.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// As many as may wait are waiting: try again in a second.
    #[error("too many passwords are being hashed")]
    Busy,
    /// The stored hash is none.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The hash function itself failed: no memory, or its thread died.
    #[error("failed to hash a password")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a hash costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashCost {
    /// Memory.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl HashCost {
    /// OWASP's Password Storage Cheat Sheet: 19 MiB, two passes, one lane.
    pub const OWASP: Self = Self {
        memory_kib: 19_456,
        passes: 2,
        lanes: 1,
    };
    /// The least the function takes: for tests.
    pub const LEAST: Self = Self {
        memory_kib: Params::MIN_M_COST,
        passes: 1,
        lanes: 1,
    };
}

/// A cost that the function does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("failed to set the cost of password hashes: Argon2 does not take it")]
pub struct InvalidCost;

/// Hashes and verifies passwords on blocking threads, a bounded number at once, in memory that is wiped
/// after each use and given back when nobody waits. Requests wait in a queue in which client networks take turns; those for whom there is no
/// place are [`Busy`](PasswordError::Busy). Cheap to clone; clones share memory and queue.
#[derive(Debug, Clone)]
pub struct PasswordHasher {
    params: Params,
    queue: HashQueue,
}

impl PasswordHasher {
    /// A hasher that runs at most `at_once` hashes and lets `waiting` more requests wait.
    ///
    /// # Errors
    /// The cost is out of Argon2's range.
    pub fn new(cost: HashCost, at_once: usize, waiting: HashWaiting) -> Result<Self, InvalidCost> {
        let params =
            Params::new(cost.memory_kib, cost.passes, cost.lanes, None).map_err(|_| InvalidCost)?;
        Ok(Self {
            queue: HashQueue::new(at_once, params.block_count(), waiting),
            params,
        })
    }

    /// The hasher that servers run: OWASP's cost, 2 at once, 64 waiting of one network and 1,024 in total.
    #[must_use]
    pub fn standard() -> Self {
        let waiting = HashWaiting {
            per_network: 64,
            in_total: 1_024,
        };
        Self::new(HashCost::OWASP, 2, waiting).expect("OWASP's cost is in range")
    }

    /// Hashes a new password for a client.
    ///
    /// # Errors
    /// [`PasswordError::Busy`] or [`PasswordError::Failed`].
    pub async fn hash(
        &self,
        password: &Password,
        env: &Env,
        client: IpAddr,
    ) -> Result<PasswordHash, PasswordError> {
        let salt = env.bytes::<SALT_BYTES>();
        let output = self
            .run(
                client,
                argon2(self.params.clone()),
                &password.0,
                salt.to_vec(),
            )
            .await?;
        let failed = |error: phc::Error| PasswordError::Failed(error.into());
        let hash = phc::PasswordHash {
            algorithm: ARGON2ID_IDENT,
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&self.params)
                .map_err(|error| PasswordError::Failed(error.into()))?,
            salt: Some(Salt::new(&salt).map_err(failed)?),
            hash: Some(Output::new(&output).map_err(failed)?),
        };
        Ok(PasswordHash(hash.to_string()))
    }

    /// Whether the claimed password is the one that was hashed for this user.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the stored text is no Argon2id hash; [`PasswordError::Busy`] or
    /// [`PasswordError::Failed`].
    pub async fn verify(
        &self,
        user: UserId,
        stored: &PasswordHash,
        claimed: &ClaimedPassword,
        client: IpAddr,
    ) -> Result<bool, PasswordError> {
        let corrupt = |reason: String| StoreError::Corrupt {
            table: "users",
            column: "password_hash",
            row: user.to_string(),
            reason,
        };
        let hash = phc::PasswordHash::new(&stored.0).map_err(|error| corrupt(error.to_string()))?;
        let (true, Some(salt), Some(expected)) =
            (hash.algorithm == ARGON2ID_IDENT, hash.salt, hash.hash)
        else {
            return Err(corrupt("no Argon2id hash with salt and output".to_owned()).into());
        };
        // The cost that it was hashed at, which may not be today's.
        let params = Params::try_from(&hash).map_err(|error| corrupt(error.to_string()))?;
        let version = hash
            .version
            .map_or(Ok(Version::default()), Version::try_from);
        let version = version.map_err(|error| corrupt(error.to_string()))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, version, params);
        for form in &claimed.forms {
            let output = self.run(client, argon2.clone(), form, salt.to_vec());
            if verify_slices_are_equal(&output.await?, expected.as_bytes()).is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Spends what a verification costs, for an address that nobody has: the time must not tell.
    ///
    /// # Errors
    /// [`PasswordError::Busy`] or [`PasswordError::Failed`], as a verification would.
    pub async fn verify_nothing(
        &self,
        claimed: &ClaimedPassword,
        client: IpAddr,
    ) -> Result<(), PasswordError> {
        for form in &claimed.forms {
            let argon2 = argon2(self.params.clone());
            self.run(client, argon2, form, vec![0; SALT_BYTES]).await?;
        }
        Ok(())
    }

    async fn run(
        &self,
        client: IpAddr,
        argon2: Argon2<'static>,
        secret: &SecretString,
        salt: Vec<u8>,
    ) -> Result<Vec<u8>, PasswordError> {
        let lease = self.queue.enter(Network::of(client)).await?;
        let secret = secret.clone();
        // The lease goes with the work: a request that is dropped does not stop its thread.
        tokio::task::spawn_blocking(move || digest(lease, &argon2, &secret, &salt))
            .await
            .map_err(|error| PasswordError::Failed(error.into()))?
    }
}

impl From<Full> for PasswordError {
    fn from(Full: Full) -> Self {
        Self::Busy
    }
}

fn argon2(params: Params) -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn digest(
    mut lease: Lease,
    argon2: &Argon2<'_>,
    secret: &SecretString,
    salt: &[u8],
) -> Result<Vec<u8>, PasswordError> {
    let params = argon2.params();
    let mut output = vec![0; params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN)];
    let blocks = lease
        .blocks(params.block_count())
        .map_err(|error| PasswordError::Failed(error.into()))?;
    argon2
        .hash_password_into_with_memory(
            secret.expose_secret().as_bytes(),
            salt,
            &mut output,
            blocks,
        )
        .map_err(|error| PasswordError::Failed(error.into()))?;
    Ok(output)
}
