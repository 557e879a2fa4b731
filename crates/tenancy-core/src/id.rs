//! Typed ids: a prefix that names the kind, then the 32 lower-case hex digits of a UUIDv7.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use uuid::Uuid;

/// A text that is no id of the expected kind. Over HTTP it is answered exactly as an unknown id.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("expected `{prefix}_` and 32 lower-case hex digits")]
pub struct IdError {
    /// The prefix that was expected.
    pub prefix: &'static str,
}

/// What all typed ids have in common.
pub trait TypedId: Copy + fmt::Display + FromStr<Err = IdError> + Send + Sync + 'static {
    /// The kind's prefix, without the underscore.
    const PREFIX: &'static str;
    /// Wraps a UUID that is known to be of this kind (a column of its table, a fresh id).
    fn from_uuid(uuid: Uuid) -> Self;
    /// The bare UUID.
    fn uuid(self) -> Uuid;
}

fn parse(prefix: &'static str, text: &str) -> Result<Uuid, IdError> {
    let error = IdError { prefix };
    let digits = text
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('_'))
        .ok_or(error)?;
    // `Uuid::try_parse` also takes hyphens, braces and capitals; one id has one text.
    if digits.len() != 32
        || !digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    {
        return Err(error);
    }
    Uuid::try_parse(digits).map_err(|_| error)
}

macro_rules! typed_id {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl TypedId for $name {
            const PREFIX: &'static str = $prefix;
            fn from_uuid(uuid: Uuid) -> Self { Self(uuid) }
            fn uuid(self) -> Uuid { self.0 }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0.simple())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(self, f) }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> { parse($prefix, text).map(Self) }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> { s.collect_str(self) }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(D::Error::custom)
            }
        }
    )+};
}

typed_id! {
    /// A workspace: the tenant.
    WorkspaceId = "ws";
    /// A person with an account; belongs to any number of workspaces.
    UserId = "usr";
    /// A sign-in: a family of refresh tokens.
    SessionId = "ses";
    /// One refresh token of a session.
    RefreshId = "rft";
    /// A library: a shelf of galleries.
    LibraryId = "lib";
    /// A gallery: a delivery of photos.
    GalleryId = "gal";
    /// A photo; the same digits name its upload's hold and its blob.
    PhotoId = "pho";
    /// A hold of metered units while an operation is under way.
    HoldId = "hld";
    /// A client: somebody whom galleries are delivered to, without an account.
    ClientId = "cli";
    /// A link that was mailed to a client.
    ClientLinkId = "lnk";
    /// An invitation to join a workspace.
    InvitationId = "inv";
    /// An API key.
    ApiKeyId = "key";
    /// A mailed proof: a password reset, or the verification of an address.
    ProofId = "prf";
    /// A device that somebody signed in on.
    DeviceId = "dev";
    /// An override of a plan's limit or feature.
    OverrideId = "ovr";
    /// A domain event.
    EventId = "evt";
    /// A call to the payment provider that is made once, however often it is tried.
    OperationId = "opr";
    /// A job of the leased runner.
    JobId = "job";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_id_has_one_text() {
        let text = "gal_0189000000007000800000000000000a";
        assert_eq!(text.parse::<GalleryId>().unwrap().to_string(), text);
        for wrong in [
            "gal_0189000000007000800000000000000A",
            "gal_01890000-0000-7000-8000-00000000000a",
            "lib_0189000000007000800000000000000a",
            "0189000000007000800000000000000a",
            "gal_",
            "gal_0189000000007000800000000000000a0",
        ] {
            assert!(wrong.parse::<GalleryId>().is_err(), "{wrong}");
        }
    }
}
