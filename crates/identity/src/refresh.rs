//! Refresh tokens: `rdr_<workspace>_<id>_<secret>`. The text names its workspace, so that the row is looked
//! up inside it and no index spans tenants.

use aws_lc_rs::constant_time;
use aws_lc_rs::digest::{SHA256, digest};
use chrono::TimeDelta;
use rawdrive_tenancy_core::Ambient;
use rawdrive_tenancy_core::id::{RefreshId, TypedId, WorkspaceId};
use secrecy::{ExposeSecret, SecretString};

/// How long a refresh token can be exchanged.
pub const REFRESH_LIFETIME: TimeDelta = TimeDelta::days(30);

const PREFIX: &str = "rdr_";
const ID_CHARS: usize = 32;
/// 62⁴³ > 2²⁵⁶.
const SECRET_CHARS: usize = 43;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A refresh token in clear: on its way to a client, or as a client presents it.
#[derive(Debug, Clone)]
pub struct RefreshToken {
    workspace: WorkspaceId,
    id: RefreshId,
    secret: SecretString,
}

/// A text that is no refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text is no refresh token")]
pub struct InvalidRefreshToken;

impl RefreshToken {
    /// A fresh token with 256 bits of secret.
    #[must_use]
    pub fn generate(ambient: &Ambient, workspace: WorkspaceId) -> Self {
        Self {
            workspace,
            id: ambient.id(),
            secret: base62(ambient.bytes()).into(),
        }
    }

    /// Reads a token; one token has exactly one text.
    ///
    /// # Errors
    /// The text is none.
    pub fn parse(text: &str) -> Result<Self, InvalidRefreshToken> {
        let mut parts = text
            .strip_prefix(PREFIX)
            .ok_or(InvalidRefreshToken)?
            .split('_');
        let (Some(workspace), Some(id), Some(secret), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidRefreshToken);
        };
        if secret.len() != SECRET_CHARS || !secret.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(InvalidRefreshToken);
        }
        Ok(Self {
            workspace: id_of(workspace)?,
            id: id_of(id)?,
            secret: secret.into(),
        })
    }

    /// The text for the client.
    #[must_use]
    pub fn text(&self) -> SecretString {
        let (workspace, id) = (self.workspace.uuid().simple(), self.id.uuid().simple());
        format!("{PREFIX}{workspace}_{id}_{}", self.secret.expose_secret()).into()
    }

    /// The workspace that it names; nothing is proved by that.
    #[must_use]
    pub fn workspace(&self) -> WorkspaceId {
        self.workspace
    }

    /// The row that it names.
    #[must_use]
    pub fn id(&self) -> RefreshId {
        self.id
    }

    /// What is stored of the secret. With 256 random bits in it, SHA-256 needs neither salt nor cost.
    #[must_use]
    pub fn secret_hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, self.secret.expose_secret().as_bytes()).as_ref());
        hash
    }

    /// Whether this is the secret that was stored; takes the same time either way.
    #[must_use]
    pub fn matches(&self, stored: &[u8; 32]) -> bool {
        constant_time::verify_slices_are_equal(&self.secret_hash(), stored).is_ok()
    }
}

fn id_of<I: TypedId>(digits: &str) -> Result<I, InvalidRefreshToken> {
    if digits.len() != ID_CHARS {
        return Err(InvalidRefreshToken);
    }
    format!("{}_{digits}", I::PREFIX)
        .parse()
        .map_err(|_| InvalidRefreshToken)
}

/// The number's 43 digits to base 62, the least first. Underscores part the token, so base64url cannot.
fn base62(mut number: [u8; 32]) -> String {
    let digit = |_| {
        let mut rest = 0_u32;
        for byte in &mut number {
            let dividend = rest << 8 | u32::from(*byte);
            *byte = (dividend / 62) as u8;
            rest = dividend % 62;
        }
        char::from(BASE62[rest as usize])
    };
    (0..SECRET_CHARS).map(digit).collect()
}
