//! Secrets that we mint: `<kind>_<workspace>_<id>_<secret>`. The text names its workspace, so that the row is
//! looked up inside it and no index spans tenants; a proof of a person's names the user instead.

use std::fmt;
use std::marker::PhantomData;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::{constant_time, hmac};
use chrono::TimeDelta;
use rawdrive_tenancy_core::Env;
use rawdrive_tenancy_core::id::{
    ApiKeyId, DeviceId, InvitationId, ProofId, RefreshId, TypedId, UserId, WorkspaceId,
};
use secrecy::{ExposeSecret, SecretString};

/// How long a device is known.
pub const DEVICE_LIFETIME: TimeDelta = TimeDelta::days(180);
/// How long a refresh token can be exchanged.
pub const REFRESH_LIFETIME: TimeDelta = TimeDelta::days(30);

const ID_CHARS: usize = 32;
/// 62⁴³ > 2²⁵⁶.
const SECRET_CHARS: usize = 43;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A kind of secret: its prefix, and what it names.
pub trait TokenKind: 'static {
    /// The text before the first underscore.
    const PREFIX: &'static str;
    /// What the secret belongs to.
    type Owner: TypedId;
    /// Its row.
    type Id: TypedId;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident, $alias:ident = $prefix:literal, $owner:ty, $id:ty;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub enum $kind {}
        impl TokenKind for $kind {
            const PREFIX: &'static str = $prefix;
            type Owner = $owner;
            type Id = $id;
        }
        $(#[$doc])*
        pub type $alias = SecretToken<$kind>;
    )+};
}

kinds! {
    /// Exchanged for a new pair of tokens, once.
    Refresh, RefreshToken = "rdr", WorkspaceId, RefreshId;
    /// A program's credential.
    ApiKey, ApiKeyToken = "rd", WorkspaceId, ApiKeyId;
    /// Makes somebody a member, once.
    InvitationKind, InvitationToken = "rdi", WorkspaceId, InvitationId;
    /// Sets a new password, once.
    PasswordReset, PasswordResetToken = "rdp", UserId, ProofId;
    /// Proves an address, once.
    EmailVerification, EmailVerificationToken = "rdv", UserId, ProofId;
    /// Shows that somebody signed in on this device before. It proves nothing but that.
    Device, DeviceToken = "rdd", UserId, DeviceId;
}

/// A secret in clear: on its way to whom it is for, or as somebody presents it.
pub struct SecretToken<K: TokenKind> {
    owner: K::Owner,
    id: K::Id,
    secret: SecretString,
    kind: PhantomData<K>,
}

impl<K: TokenKind> Clone for SecretToken<K> {
    fn clone(&self) -> Self {
        Self {
            owner: self.owner,
            id: self.id,
            secret: self.secret.clone(),
            kind: PhantomData,
        }
    }
}

impl<K: TokenKind> fmt::Debug for SecretToken<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}_{}_…", K::PREFIX, self.owner, self.id)
    }
}

/// A text that is no secret of the expected kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text is no token of this kind")]
pub struct InvalidToken;

/// The key of [`SecretToken::keyed_hash`], derived from the installation's secret key: who steals the
/// database alone cannot even try secrets.
#[derive(Debug, Clone)]
pub struct TokenPepper(hmac::Key);

impl TokenPepper {
    /// A pepper under a key that is used for nothing else.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// HMAC-SHA-256 of what `parts` say, each with its length: for secrets that are computed rather than stored. The
    /// first part says what for; no token's text begins as one of these.
    pub(crate) fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }
}

impl<K: TokenKind> SecretToken<K> {
    /// A fresh secret of 256 bits with a fresh id.
    #[must_use]
    pub fn generate(env: &Env, owner: K::Owner) -> Self {
        Self::with_id(env, owner, env.id())
    }

    /// A fresh secret of 256 bits for a row whose id is known.
    #[must_use]
    pub fn with_id(env: &Env, owner: K::Owner, id: K::Id) -> Self {
        Self {
            owner,
            id,
            secret: base62(env.bytes()).into(),
            kind: PhantomData,
        }
    }

    /// Reads a secret; one secret has exactly one text.
    ///
    /// # Errors
    /// The text is none of this kind.
    pub fn parse(text: &str) -> Result<Self, InvalidToken> {
        let mut parts = text.split('_');
        let (Some(prefix), Some(owner), Some(id), Some(secret), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(InvalidToken);
        };
        let is_secret =
            secret.len() == SECRET_CHARS && secret.bytes().all(|b| b.is_ascii_alphanumeric());
        if prefix != K::PREFIX || !is_secret {
            return Err(InvalidToken);
        }
        Ok(Self {
            owner: id_of(owner)?,
            id: id_of(id)?,
            secret: secret.into(),
            kind: PhantomData,
        })
    }

    /// The text for whom it is for.
    #[must_use]
    pub fn text(&self) -> SecretString {
        let (owner, id) = (self.owner.uuid().simple(), self.id.uuid().simple());
        let prefix = K::PREFIX;
        format!("{prefix}_{owner}_{id}_{}", self.secret.expose_secret()).into()
    }

    /// What it says it belongs to; nothing is proved by that.
    #[must_use]
    pub fn owner(&self) -> K::Owner {
        self.owner
    }

    /// The row that it names.
    #[must_use]
    pub fn id(&self) -> K::Id {
        self.id
    }

    /// What is stored of a refresh token's secret. With 256 random bits in it, SHA-256 needs neither salt
    /// nor cost.
    #[must_use]
    pub fn secret_hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, self.secret.expose_secret().as_bytes()).as_ref());
        hash
    }

    /// What is stored of every other secret: HMAC-SHA-256 of the whole text, so that a hash holds for its
    /// own kind, owner and row alone.
    #[must_use]
    pub fn keyed_hash(&self, pepper: &TokenPepper) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(
            hmac::sign(&pepper.0, self.text().expose_secret().as_bytes()).as_ref(),
        );
        hash
    }

    /// Whether this is the secret whose [`SecretToken::secret_hash`] was stored; takes the same time either
    /// way.
    #[must_use]
    pub fn matches(&self, stored: &[u8; 32]) -> bool {
        constant_time::verify_slices_are_equal(&self.secret_hash(), stored).is_ok()
    }

    /// [`SecretToken::keyed_hash`] as it lies in a column: 64 lower-case hex digits.
    #[must_use]
    pub fn stored_hash(&self, pepper: &TokenPepper) -> String {
        hex(&self.keyed_hash(pepper))
    }

    /// Whether this is the secret whose [`SecretToken::stored_hash`] was stored. Takes the same time either
    /// way, also when nothing was.
    #[must_use]
    pub fn matches_stored(&self, pepper: &TokenPepper, stored: Option<&str>) -> bool {
        let nobodys = "0".repeat(64);
        let expected = stored.unwrap_or(&nobodys);
        let same = constant_time::verify_slices_are_equal(
            self.stored_hash(pepper).as_bytes(),
            expected.as_bytes(),
        );
        same.is_ok() && stored.is_some()
    }

    /// Whether this is the secret whose [`SecretToken::keyed_hash`] was stored; takes the same time either
    /// way.
    #[must_use]
    pub fn matches_keyed(&self, pepper: &TokenPepper, stored: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&self.keyed_hash(pepper), stored).is_ok()
    }
}

impl<K: TokenKind<Owner = WorkspaceId>> SecretToken<K> {
    /// The workspace that it names; nothing is proved by that.
    #[must_use]
    pub fn workspace(&self) -> WorkspaceId {
        self.owner
    }
}

impl SecretToken<Device> {
    /// A fresh token of this user's device. It is computed, not stored: whoever shows it got it from us.
    #[must_use]
    pub fn issue(env: &Env, pepper: &TokenPepper, user: UserId) -> Self {
        Self::of(pepper, user, env.id())
    }

    fn of(pepper: &TokenPepper, user: UserId, id: DeviceId) -> Self {
        let tag = pepper.tag(&[b"device", user.uuid().as_bytes(), id.uuid().as_bytes()]);
        Self {
            owner: user,
            id,
            secret: base62(tag).into(),
            kind: PhantomData,
        }
    }

    /// The device, if this token is ours, the user's, and no older than [`DEVICE_LIFETIME`].
    #[must_use]
    pub fn device_of(&self, user: UserId, env: &Env, pepper: &TokenPepper) -> Option<DeviceId> {
        let ours = Self::of(pepper, self.owner, self.id);
        let (ours, claimed) = (ours.secret.expose_secret(), self.secret.expose_secret());
        constant_time::verify_slices_are_equal(ours.as_bytes(), claimed.as_bytes()).ok()?;
        // A UUIDv7 begins with the milliseconds of its making.
        let (issued_at, _) = self.id.uuid().get_timestamp()?.to_unix();
        let age = env.now().timestamp().checked_sub_unsigned(issued_at)?;
        let is_young = age < DEVICE_LIFETIME.num_seconds();
        (self.owner == user && is_young).then_some(self.id)
    }
}

fn id_of<I: TypedId>(digits: &str) -> Result<I, InvalidToken> {
    if digits.len() != ID_CHARS {
        return Err(InvalidToken);
    }
    format!("{}_{digits}", I::PREFIX)
        .parse()
        .map_err(|_| InvalidToken)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
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
        let env = Env::system();
        RefreshToken::generate(&env, WorkspaceId::from_uuid(env.uuid()))
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
            format!("rdi_{workspace}_{id}_{secret}"),
            format!(" {text}"),
            format!("{text}\n"),
            format!("{text}\0"),
        ] {
            assert_eq!(
                RefreshToken::parse(&wrong).unwrap_err(),
                InvalidToken,
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn a_keyed_hash_holds_for_its_kind_owner_row_and_pepper_alone() {
        let env = Env::system();
        let pepper = TokenPepper::new(&[7; 32]);
        let key = ApiKeyToken::generate(&env, env.id());
        let hash = key.keyed_hash(&pepper);
        assert!(key.matches_keyed(&pepper, &hash));
        assert!(!key.matches_keyed(&TokenPepper::new(&[8; 32]), &hash));
        assert!(!key.matches_keyed(&pepper, &hash[..31]));
        let stored = key.stored_hash(&pepper);
        assert_eq!(stored, stored.to_lowercase());
        assert_eq!(stored.len(), 64);
        assert!(key.matches_stored(&pepper, Some(&stored)));
        for wrong in [None, Some(""), Some(&stored[1..])] {
            assert!(!key.matches_stored(&pepper, wrong), "{wrong:?}");
        }
        let text = key.text().expose_secret().to_owned();
        let parts: Vec<&str> = text.split('_').collect();
        let other = env.uuid().simple().to_string();
        for twin in [
            format!("rd_{other}_{}_{}", parts[2], parts[3]),
            format!("rd_{}_{other}_{}", parts[1], parts[3]),
        ] {
            let twin = ApiKeyToken::parse(&twin).unwrap();
            assert!(!twin.matches_keyed(&pepper, &hash));
        }
        let invitation = InvitationToken::parse(&text.replacen("rd_", "rdi_", 1)).unwrap();
        assert!(!invitation.matches_keyed(&pepper, &hash));
        assert!(ApiKeyToken::parse(&text.to_uppercase()).is_err());
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
