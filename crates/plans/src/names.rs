//! Names and limits.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// How much of a metric a workspace may hold or use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// No limit. On the wire `null`.
    Unlimited,
    /// At most this many units of the metric; 0 allows none.
    AtMost(u64),
}

impl Limit {
    /// The number, or nothing for unlimited: the shape on the wire and in the database.
    #[must_use]
    pub const fn bound(self) -> Option<u64> {
        match self {
            Self::Unlimited => None,
            Self::AtMost(n) => Some(n),
        }
    }

    /// The inverse of [`Limit::bound`].
    #[must_use]
    pub const fn from_bound(bound: Option<u64>) -> Self {
        match bound {
            None => Self::Unlimited,
            Some(n) => Self::AtMost(n),
        }
    }

    /// Whether a level of `total` units is within the limit.
    #[must_use]
    pub const fn admits(self, total: u64) -> bool {
        match self {
            Self::Unlimited => true,
            Self::AtMost(n) => total <= n,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => f.write_str("unlimited"),
            Self::AtMost(n) => n.fmt(f),
        }
    }
}

/// A name that cannot be one.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
#[error("`{0}` is no name: expected 1 to 63 of a-z, 0-9, _ and -, beginning with a letter")]
pub struct NameError(String);

const fn is_name(bytes: &[u8]) -> bool {
    if bytes.is_empty() || bytes.len() > 63 || !bytes[0].is_ascii_lowercase() {
        return false;
    }
    let mut at = 0;
    while at < bytes.len() {
        if !matches!(bytes[at], b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-') {
            return false;
        }
        at += 1;
    }
    true
}

macro_rules! name {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Cow<'static, str>);

        impl $name {
            /// A name that stands in the source.
            ///
            /// # Panics
            /// For a text that is no name; in a constant, the compiler says so.
            #[must_use]
            pub const fn new(name: &'static str) -> Self {
                assert!(is_name(name.as_bytes()), "expected 1 to 63 of a-z, 0-9, _ and -, beginning with a letter");
                Self(Cow::Borrowed(name))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str { &self.0 }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                if is_name(text.as_bytes()) { Ok(Self(Cow::Owned(text.to_owned()))) } else { Err(NameError(text.chars().take(64).collect())) }
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> { s.serialize_str(&self.0) }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(D::Error::custom)
            }
        }
    )+};
}

name! {
    /// A plan's stable name, such as `professional`.
    Slug;
    /// What is counted, such as `api_calls`.
    Metric;
    /// What a plan switches on or off, such as `single_sign_on`.
    Feature;
}

impl Slug {
    /// The plan every workspace begins on.
    #[must_use]
    pub const fn free() -> Self {
        Self::new("free")
    }
}

impl Metric {
    /// Members and open invitations. A level.
    #[must_use]
    pub const fn team_members() -> Self {
        Self::new("team_members")
    }
}
