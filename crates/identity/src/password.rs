//! Passwords: Argon2id at OWASP's cost, never more at once than the machine can bear.

use std::fmt;
use std::sync::Arc;

use argon2::password_hash::{self, phc};
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use rawdrive_tenancy_core::id::UserId;
use rawdrive_tenancy_core::{Ambient, StoreError};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

use crate::text::InvalidText;

const MIN_CHARS: usize = 8; // NIST SP 800-63B section 5.1.1.2
const MAX_BYTES: usize = 1024;
const SALT_BYTES: usize = 16;

/// A password that somebody may have from now on.
#[derive(Debug, Clone)]
pub struct Password(SecretString);

impl Password {
    /// Checks a new password: at least 8 characters and at most 1024 bytes, without NUL. Anything else is
    /// taken as it is; rules of composition make passwords worse.
    ///
    /// # Errors
    /// What a password must be.
    pub fn parse(text: &str) -> Result<Self, InvalidText> {
        if text.chars().count() < MIN_CHARS {
            return Err(InvalidText::must("be at least 8 characters long"));
        }
        bounded(text).map(Self)
    }
}

/// A password that somebody says they have; it may be older than today's rules.
#[derive(Debug, Clone)]
pub struct ClaimedPassword(SecretString);

impl ClaimedPassword {
    /// Bounds a claimed password: at most 1024 bytes, without NUL.
    ///
    /// # Errors
    /// What a password must be.
    pub fn parse(text: &str) -> Result<Self, InvalidText> {
        bounded(text).map(Self)
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

/// Hashes and verifies passwords on blocking threads: a bounded number at once, a bounded number waiting,
/// the others [`Busy`](PasswordError::Busy). Cheap to clone; clones share the bounds.
#[derive(Debug, Clone)]
pub struct PasswordHasher {
    argon2: Argon2<'static>,
    admitted: Arc<Semaphore>,
    running: Arc<Semaphore>,
}

impl PasswordHasher {
    /// A hasher that runs at most `running` at once and lets at most `waiting` more wait.
    ///
    /// # Errors
    /// The cost is out of Argon2's range.
    pub fn new(cost: HashCost, running: usize, waiting: usize) -> Result<Self, InvalidCost> {
        let params =
            Params::new(cost.memory_kib, cost.passes, cost.lanes, None).map_err(|_| InvalidCost)?;
        Ok(Self {
            argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            admitted: Arc::new(Semaphore::new(running + waiting)),
            running: Arc::new(Semaphore::new(running)),
        })
    }

    /// The hasher that servers run: OWASP's cost, 2 at once, 64 waiting.
    #[must_use]
    pub fn standard() -> Self {
        Self::new(HashCost::OWASP, 2, 64).expect("OWASP's cost is in range")
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// [`PasswordError::Busy`] or [`PasswordError::Failed`].
    pub async fn hash(
        &self,
        password: &Password,
        ambient: &Ambient,
    ) -> Result<PasswordHash, PasswordError> {
        let (secret, salt) = (password.0.clone(), ambient.bytes::<SALT_BYTES>());
        let hashed: phc::PasswordHash = self
            .run(move |argon2| {
                argon2.hash_password_with_salt(secret.expose_secret().as_bytes(), &salt)
            })
            .await?
            .map_err(|error| PasswordError::Failed(error.into()))?;
        Ok(PasswordHash(hashed.to_string()))
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
    ) -> Result<bool, PasswordError> {
        let corrupt = |reason: String| StoreError::Corrupt {
            table: "users",
            column: "password_hash",
            row: user.to_string(),
            reason,
        };
        let hash = phc::PasswordHash::new(&stored.0).map_err(|error| corrupt(error.to_string()))?;
        if hash.algorithm != argon2::ARGON2ID_IDENT || hash.salt.is_none() || hash.hash.is_none() {
            return Err(corrupt("no Argon2id hash with salt and output".to_owned()).into());
        }
        let secret = claimed.0.clone();
        match self
            .run(move |argon2| argon2.verify_password(secret.expose_secret().as_bytes(), &hash))
            .await?
        {
            Ok(()) => Ok(true),
            Err(password_hash::Error::PasswordInvalid) => Ok(false),
            Err(error @ password_hash::Error::OutOfMemory) => {
                Err(PasswordError::Failed(error.into()))
            }
            Err(error) => Err(corrupt(error.to_string()).into()),
        }
    }

    /// Spends what a verification costs, for an address that nobody has: the time must not tell.
    ///
    /// # Errors
    /// [`PasswordError::Busy`] or [`PasswordError::Failed`], as a verification would.
    pub async fn verify_nothing(&self, claimed: &ClaimedPassword) -> Result<(), PasswordError> {
        let secret = claimed.0.clone();
        let spent: password_hash::Result<phc::PasswordHash> = self
            .run(move |argon2| {
                argon2.hash_password_with_salt(secret.expose_secret().as_bytes(), &[0; SALT_BYTES])
            })
            .await?;
        spent
            .map(drop)
            .map_err(|error| PasswordError::Failed(error.into()))
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Argon2<'static>) -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let admitted = Arc::clone(&self.admitted)
            .try_acquire_owned()
            .map_err(|_| PasswordError::Busy)?;
        let running = Arc::clone(&self.running)
            .acquire_owned()
            .await
            .map_err(|_| PasswordError::Busy)?;
        let argon2 = self.argon2.clone();
        // The permits go with the work: a request that is dropped does not stop its thread.
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&argon2);
            drop((running, admitted));
            result
        });
        done.await
            .map_err(|error| PasswordError::Failed(error.into()))
    }
}
