//! Typed ids: a prefix that names the kind, then the 32 lower-case hex digits of a UUIDv7.

use std::fmt;
use std::str::FromStr;

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

/// The UUID of 32 lower-case hex digits: one id has one text.
pub(crate) fn parse_digits(digits: &str) -> Option<Uuid> {
    // `Uuid::try_parse` also takes hyphens, braces and capitals.
    let plain = digits.len() == 32
        && digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    plain.then(|| Uuid::try_parse(digits).ok()).flatten()
}

/// Reads an id of the kind `T`.
///
/// # Errors
/// The text is no id of this kind.
pub fn parse_id<T: TypedId>(text: &str) -> Result<T, IdError> {
    text.strip_prefix(T::PREFIX)
        .and_then(|rest| rest.strip_prefix('_'))
        .and_then(parse_digits)
        .map(T::from_uuid)
        .ok_or(IdError { prefix: T::PREFIX })
}

/// What [`typed_id!`](crate::typed_id) stands on.
#[doc(hidden)]
pub mod macro_support {
    pub use serde::de::Error;
    pub use serde::{Deserialize, Deserializer, Serialize, Serializer};
    pub use uuid::Uuid;
}

/// Declares kinds of ids, each with its prefix.
///
/// ```
/// rawdrive_tenancy_core::typed_id! {
///     /// A contract.
///     ContractId = "con";
/// }
/// let id: ContractId = "con_01890000000070008000000000000001".parse()?;
/// assert_eq!(id.to_string(), "con_01890000000070008000000000000001");
/// # Ok::<(), rawdrive_tenancy_core::id::IdError>(())
/// ```
#[macro_export]
macro_rules! typed_id {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($crate::id::macro_support::Uuid);

        impl $crate::id::TypedId for $name {
            const PREFIX: &'static str = $prefix;
            fn from_uuid(uuid: $crate::id::macro_support::Uuid) -> Self { Self(uuid) }
            fn uuid(self) -> $crate::id::macro_support::Uuid { self.0 }
        }
        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::write!(f, concat!($prefix, "_{}"), self.0.simple())
            }
        }
        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Display::fmt(self, f)
            }
        }
        impl ::std::str::FromStr for $name {
            type Err = $crate::id::IdError;
            fn from_str(text: &str) -> ::std::result::Result<Self, $crate::id::IdError> {
                $crate::id::parse_id(text)
            }
        }
        impl $crate::id::macro_support::Serialize for $name {
            fn serialize<S: $crate::id::macro_support::Serializer>(
                &self,
                serializer: S,
            ) -> ::std::result::Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> $crate::id::macro_support::Deserialize<'de> for $name {
            fn deserialize<D: $crate::id::macro_support::Deserializer<'de>>(
                deserializer: D,
            ) -> ::std::result::Result<Self, D::Error> {
                let text = <::std::string::String as $crate::id::macro_support::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(<D::Error as $crate::id::macro_support::Error>::custom)
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
    /// A hold of metered units while an operation is under way.
    HoldId = "hld";
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
    /// An address to which a workspace has events sent.
    WebhookEndpointId = "whe";
    /// An event on its way to an endpoint.
    DeliveryId = "dlv";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_id_has_one_text() {
        let text = "ses_0189000000007000800000000000000a";
        assert_eq!(text.parse::<SessionId>().unwrap().to_string(), text);
        for wrong in [
            "ses_0189000000007000800000000000000A",
            "ses_01890000-0000-7000-8000-00000000000a",
            "usr_0189000000007000800000000000000a",
            "0189000000007000800000000000000a",
            "ses_",
            "ses_0189000000007000800000000000000a0",
        ] {
            assert!(wrong.parse::<SessionId>().is_err(), "{wrong}");
        }
    }
}
