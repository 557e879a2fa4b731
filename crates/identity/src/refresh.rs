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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rawdrive_tenancy_core::id::{TypedId, WorkspaceId};

    use super::*;

    fn token() -> RefreshToken {
        let ambient = Ambient::system();
        RefreshToken::generate(&ambient, WorkspaceId::from_uuid(ambient.uuid()))
    }

    #[test]
    fn a_token_comes_back_from_its_text_and_shows_its_secret_nowhere_else() {
        let token = token();
        let text = token.text();
        let text = text.expose_secret();
        assert_eq!(text.len(), 113);
        let read = RefreshToken::parse(text).unwrap();
        assert_eq!(
            (read.workspace(), read.id()),
            (token.workspace(), token.id())
        );
        assert!(read.matches(&token.secret_hash()));
        assert!(!format!("{token:?}").contains(token.secret.expose_secret()));
    }

    #[test]
    fn base62_is_the_number_least_digit_first() {
        let mut number = [0; 32];
        number[31] = 63;
        assert_eq!(base62(number), format!("11{}", "0".repeat(41)));
        assert_eq!(base62([0xff; 32]).len(), 43);
        assert_ne!(
            base62([0xff; 32]).as_bytes()[42],
            b'0',
            "43 digits hold all 256 bits"
        );
    }

    #[test]
    fn other_texts_are_no_tokens() {
        let text = token().text().expose_secret().to_owned();
        let parts: Vec<&str> = text.split('_').collect();
        let [_, workspace, id, secret] = parts[..] else {
            panic!("four parts")
        };
        for wrong in [
            String::new(),
            "rdr_".into(),
            format!("rdr_{workspace}_{id}"),
            format!("rdr_{workspace}_{id}_"),
            format!("rdr_{workspace}_{id}_{secret}_"),
            format!("rdr_{workspace}_{id}_{secret}0"),
            format!("rdr_{workspace}_{id}_{}", &secret[1..]),
            format!("rdr_{workspace}_{id}_{}-", &secret[1..]),
            format!("rdr_{workspace}_{id}_{}é", &secret[2..]),
            format!("rdr_{workspace}__{secret}"),
            format!("rdr__{id}_{secret}"),
            format!("rdr_{workspace}0_{id}_{secret}"),
            format!("rdr_{}_{id}_{secret}", &workspace[1..]),
            format!("rdr_{}G_{id}_{secret}", &workspace[1..]),
            format!("rdr_{}A_{id}_{secret}", &workspace[1..]),
            format!("rdr_ws_{workspace}_{id}_{secret}"),
            format!("RDR_{workspace}_{id}_{secret}"),
            format!("rd_{workspace}_{id}_{secret}"),
            format!(" {text}"),
            format!("{text}\n"),
            format!("{text}\0"),
        ] {
            assert_eq!(
                RefreshToken::parse(&wrong).unwrap_err(),
                InvalidRefreshToken,
                "{wrong:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_changed_text_is_no_token_or_another_one(at in 0_usize..113, byte in 0x20_u8..0x7f) {
            let token = token();
            let mut text = token.text().expose_secret().as_bytes().to_vec();
            prop_assume!(text[at] != byte);
            text[at] = byte;
            let same = |read: RefreshToken| {
                read.workspace() == token.workspace() && read.id() == token.id() && read.matches(&token.secret_hash())
            };
            prop_assert!(!RefreshToken::parse(&String::from_utf8(text).unwrap()).is_ok_and(same));
        }

        #[test]
        fn whatever_parses_prints_as_it_was(text in "rdr_[0-9a-f]{32}_[0-9a-f]{32}_[0-9A-Za-z]{43}") {
            let token = RefreshToken::parse(&text).unwrap().text();
            prop_assert_eq!(token.expose_secret(), &text);
        }

        #[test]
        fn no_text_makes_parsing_panic(text in "\\PC*") {
            prop_assert!(RefreshToken::parse(&text).is_err());
        }
    }
}
