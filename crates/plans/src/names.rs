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

macro_rules! name {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Cow<'static, str>);

        impl $name {
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
                let rest = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
                let good = (1..=63).contains(&text.len())
                    && text.as_bytes()[0].is_ascii_lowercase()
                    && text.bytes().all(rest);
                if good { Ok(Self(Cow::Owned(text.to_owned()))) } else { Err(NameError(text.chars().take(64).collect())) }
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
    /// What is counted, such as `storage_bytes`.
    Metric;
    /// What a plan switches on or off, such as `custom_branding`.
    Feature;
}

impl Slug {
    /// The plan every workspace begins on.
    #[must_use]
    pub const fn free() -> Self {
        Self(Cow::Borrowed("free"))
    }
}

impl Metric {
    /// Bytes of all stored originals of a workspace. A level.
    #[must_use]
    pub const fn storage_bytes() -> Self {
        Self(Cow::Borrowed("storage_bytes"))
    }
    /// Photos in one gallery; its subject is the gallery. A level.
    #[must_use]
    pub const fn photos() -> Self {
        Self(Cow::Borrowed("photos"))
    }
    /// Members and open invitations. A level.
    #[must_use]
    pub const fn team_members() -> Self {
        Self(Cow::Borrowed("team_members"))
    }
    /// Analyses in a period. A flow.
    #[must_use]
    pub const fn ai_analysis() -> Self {
        Self(Cow::Borrowed("ai_analysis"))
    }
    /// Whether the metric is counted apart for each subject (a gallery) rather than for the workspace.
    #[must_use]
    pub fn per_subject(&self) -> bool {
        *self == Self::photos()
    }
    /// Whether crossing a threshold is worth a notice. Seats are taken by people who know it.
    #[must_use]
    pub fn warns(&self) -> bool {
        *self != Self::team_members()
    }
}

impl Feature {
    /// A gallery in the photographer's own colours.
    #[must_use]
    pub const fn custom_branding() -> Self {
        Self(Cow::Borrowed("custom_branding"))
    }
}
