//! The installation's secret key, and the signing keys that lie sealed under it.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{DecodingKey, EncodingKey};
use rawdrive_tenancy_core::{Env, StoreError};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use serde_json::{Value, json};

use crate::ports::{SealedKey, SigningKeys};

/// How long an access token holds.
pub const ACCESS_LIFETIME_SECONDS: i64 = 900;

/// How far the clocks of two servers may be apart.
pub const LEEWAY_SECONDS: i64 = 5;
/// How long a key goes on signing after its successor was made. Every server must load the keys anew more
/// often than this, so that it knows the successor before the first token under it arrives.
pub const ROTATION_OVERLAP_SECONDS: i64 = 600;

const MASTER_KEY_MIN_BYTES: usize = 32;
const SEALING_PURPOSE: &str = "rawdrive signing keys v1";
const NONCE_BYTES: usize = 12;
/// The DER of a PKCS #8 v1 Ed25519 private key (RFC 8410 section 7), up to its 32 bytes.
const PKCS8_PREFIX: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";

/// The text of `RAWDRIVE_SECRET_KEY`. It seals nothing itself: every use derives a key of its own.
#[derive(Clone)]
pub struct MasterKey(SecretString);

/// A secret key that could be guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the secret key must be at least {MASTER_KEY_MIN_BYTES} bytes long")]
pub struct MasterKeyTooShort;

impl MasterKey {
    /// Takes any text of at least 32 bytes, as it stands.
    ///
    /// # Errors
    /// The text is shorter.
    pub fn new(text: &str) -> Result<Self, MasterKeyTooShort> {
        if text.len() < MASTER_KEY_MIN_BYTES {
            Err(MasterKeyTooShort)
        } else {
            Ok(Self(text.into()))
        }
    }

    /// The key for one purpose (HKDF-SHA-256, RFC 5869). A purpose is written once in the code and never
    /// shared: who holds one derived key learns nothing of another.
    #[must_use]
    pub fn derive(&self, purpose: &'static str) -> [u8; 32] {
        let extracted = Salt::new(HKDF_SHA256, b"rawdrive master key v1")
            .extract(self.0.expose_secret().as_bytes());
        let mut key = [0; 32];
        extracted
            .expand(&[purpose.as_bytes()], HKDF_SHA256)
            .and_then(|expanded| expanded.fill(&mut key))
            .expect("HKDF-SHA-256 yields 32 bytes");
        key
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

/// Why there is no key to sign with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key was sealed under another secret key, or its row was altered.
    #[error(
        "failed to open the signing key {kid}: it was sealed under another secret key, or altered"
    )]
    Unsealable {
        /// Its name.
        kid: String,
    },
    /// There is none.
    #[error("failed to find a signing key")]
    None,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An Ed25519 key that signs access tokens.
pub struct SigningKey {
    kid: String,
    public: [u8; 32],
    created_at: DateTime<Utc>,
    retired_at: Option<DateTime<Utc>>,
    seed: SecretBox<[u8; 32]>,
    pub(crate) signing: EncodingKey,
    pub(crate) verifying: DecodingKey,
}

impl SigningKey {
    /// A fresh key.
    #[must_use]
    pub fn generate(env: &Env) -> Self {
        let seed = env.bytes();
        Self::from_seed(env.uuid().simple().to_string(), seed, env.now(), None)
    }

    /// The row for this key.
    #[must_use]
    pub fn seal(&self, master: &MasterKey, env: &Env) -> SealedKey {
        let nonce: [u8; NONCE_BYTES] = env.bytes();
        let mut body = self.seed.expose_secret().to_vec();
        sealing_key(master)
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(self.kid.as_bytes()),
                &mut body,
            )
            .expect("AES-GCM seals 32 bytes");
        SealedKey {
            kid: self.kid.clone(),
            public: self.public,
            sealed: [&nonce, body.as_slice()].concat(),
            created_at: self.created_at,
            retired_at: self.retired_at,
        }
    }

    /// The key of a row.
    ///
    /// # Errors
    /// [`KeyError::Unsealable`].
    pub fn open(row: &SealedKey, master: &MasterKey) -> Result<Self, KeyError> {
        let unsealable = || KeyError::Unsealable {
            kid: row.kid.clone(),
        };
        let (nonce, body) = row
            .sealed
            .split_at_checked(NONCE_BYTES)
            .ok_or_else(unsealable)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| unsealable())?;
        let mut body = body.to_vec();
        let seed = sealing_key(master)
            .open_in_place(nonce, Aad::from(row.kid.as_bytes()), &mut body)
            .ok()
            .and_then(|seed| <[u8; 32]>::try_from(&*seed).ok())
            .ok_or_else(unsealable)?;
        let key = Self::from_seed(row.kid.clone(), seed, row.created_at, row.retired_at);
        // The row's public half would go to the JWKS: one that was swapped must not.
        if key.public == row.public {
            Ok(key)
        } else {
            Err(unsealable())
        }
    }

    /// Its name.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    fn from_seed(
        kid: String,
        seed: [u8; 32],
        created_at: DateTime<Utc>,
        retired_at: Option<DateTime<Utc>>,
    ) -> Self {
        let pair =
            Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are an Ed25519 seed");
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        Self {
            kid,
            public,
            created_at,
            retired_at,
            signing: EncodingKey::from_ed_der(&[PKCS8_PREFIX.as_slice(), &seed].concat()),
            verifying: DecodingKey::from_ed_der(&public),
            seed: SecretBox::new(Box::new(seed)),
        }
    }

    fn signs_at(&self, now: DateTime<Utc>) -> bool {
        self.retired_at.is_none_or(|at| now < at)
    }

    /// The second at which the last token that it can have signed has ended.
    pub(crate) fn ends_at(&self) -> Option<i64> {
        self.retired_at
            .map(|at| at.timestamp() + 1 + ACCESS_LIFETIME_SECONDS + LEEWAY_SECONDS)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kid,
            created_at,
            retired_at,
            ..
        } = self;
        f.debug_struct("SigningKey")
            .field("kid", kid)
            .field("created_at", created_at)
            .field("retired_at", retired_at)
            .finish_non_exhaustive()
    }
}

fn sealing_key(master: &MasterKey) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM, &master.derive(SEALING_PURPOSE))
        .expect("AES-256 takes 32 bytes");
    LessSafeKey::new(key)
}

/// The signing keys of the installation; never empty.
#[derive(Debug)]
pub struct Keyring {
    /// By age, the oldest first.
    keys: Vec<SigningKey>,
    version: [u8; 32],
}

impl Keyring {
    /// A ring of these keys.
    ///
    /// # Errors
    /// [`KeyError::None`] when there is none.
    pub fn new(mut keys: Vec<SigningKey>) -> Result<Self, KeyError> {
        if keys.is_empty() {
            return Err(KeyError::None);
        }
        // By retirement first: a rotation sets it for every key before its own, whatever the clock says.
        let age = |key: &SigningKey| {
            let retired_at = key.retired_at.unwrap_or(DateTime::<Utc>::MAX_UTC);
            (retired_at, key.created_at)
        };
        keys.sort_by(|a, b| (age(a), &a.kid).cmp(&(age(b), &b.kid)));
        let mut context = Context::new(&SHA256);
        for key in &keys {
            context.update(key.kid.as_bytes());
            context.update(&key.public);
            context.update(&key.ends_at().unwrap_or(i64::MAX).to_be_bytes());
        }
        let mut version = [0; 32];
        version.copy_from_slice(context.finish().as_ref());
        Ok(Self { keys, version })
    }

    /// The ring of these rows.
    ///
    /// # Errors
    /// [`KeyError::Unsealable`] for the first that does not open, [`KeyError::None`] without any.
    pub fn open(rows: &[SealedKey], master: &MasterKey) -> Result<Self, KeyError> {
        Self::new(
            rows.iter()
                .map(|row| SigningKey::open(row, master))
                .collect::<Result<_, _>>()?,
        )
    }

    /// The key that signs now: the oldest one not retired, because the others may not have reached every
    /// server yet.
    pub(crate) fn signer(&self, now: DateTime<Utc>) -> &SigningKey {
        let newest = self.keys.last().expect("a keyring is never empty");
        self.keys
            .iter()
            .find(|key| key.signs_at(now))
            .unwrap_or(newest)
    }

    pub(crate) fn key(&self, kid: &str) -> Option<&SigningKey> {
        self.keys.iter().find(|key| key.kid == kid)
    }

    /// Differs whenever the keys, or their ends, do.
    pub(crate) fn version(&self) -> &[u8; 32] {
        &self.version
    }

    /// The public keys under which a token may hold at `now` (RFC 7517, RFC 8037).
    #[must_use]
    pub fn jwks(&self, now: DateTime<Utc>) -> Value {
        let holds = |key: &&SigningKey| key.ends_at().is_none_or(|end| now.timestamp() < end);
        let keys: Vec<Value> = self.keys.iter().filter(holds).map(jwk).collect();
        json!({ "keys": keys })
    }
}

fn jwk(key: &SigningKey) -> Value {
    let x = URL_SAFE_NO_PAD.encode(key.public);
    json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": key.kid, "use": "sig", "alg": "EdDSA" })
}

/// Loads the installation's keys; makes the first one when there is none. Several servers may start at
/// once: what was stored first counts.
///
/// # Errors
/// A key does not open, or the store fails.
pub async fn load_keyring(
    store: &impl SigningKeys,
    env: &Env,
    master: &MasterKey,
) -> Result<Keyring, KeyError> {
    let mut rows = store.signing_keys().await?;
    if rows.is_empty() {
        store
            .insert_first_signing_key(&SigningKey::generate(env).seal(master, env))
            .await?;
        rows = store.signing_keys().await?;
    }
    Keyring::open(&rows, master)
}

/// Makes a new key. The others sign for [`ROTATION_OVERLAP_SECONDS`] more, and their last tokens hold to
/// their own end.
///
/// # Errors
/// The store fails.
pub async fn rotate_keys(
    store: &impl SigningKeys,
    env: &Env,
    master: &MasterKey,
) -> Result<SealedKey, KeyError> {
    let new = SigningKey::generate(env).seal(master, env);
    let retire_at = env.now() + TimeDelta::seconds(ROTATION_OVERLAP_SECONDS);
    store.rotate_signing_keys(&new, retire_at).await?;
    Ok(new)
}
