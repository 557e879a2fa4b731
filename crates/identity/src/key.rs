//! Keys.

use chrono::{DateTime, Utc};

/// A signing key as it lies in SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedKey {
    /// The key's name in token headers and in the JWKS; 32 lower-case hex digits.
    pub kid: String,
    /// The public half.
    pub public: [u8; 32],
    /// The private half: 12 bytes nonce, ciphertext, 16 bytes tag.
    pub sealed: Vec<u8>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// From when on it signs no more; set ahead of time by a rotation.
    pub retired_at: Option<DateTime<Utc>>,
}
