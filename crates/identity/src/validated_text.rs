//! What a text that a person typed must be: names of people, workspaces and keys, and the currency a workspace pays in.

use std::fmt;

use rawdrive_tenancy_core::id::{TypedId, WorkspaceId};
use rawdrive_tenancy_core::text::{Hidden, check_visible, normal};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

const MAX_CHARS: usize = 200;
const SLUG_WORDS_MAX_CHARS: usize = 40;

/// A text that a field does not take. Displays as the rest of a sentence whose subject is the field:
/// "must …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must {requirement}")]
pub struct InvalidText {
    /// What the field takes, without the "must".
    pub requirement: &'static str,
}

impl InvalidText {
    pub(crate) const fn must(requirement: &'static str) -> Self {
        Self { requirement }
    }
}

fn checked(text: &str) -> Result<String, InvalidText> {
    let text = normal(text.trim());
    if text.is_empty() {
        return Err(InvalidText::must("not be empty"));
    }
    if text.chars().count() > MAX_CHARS {
        return Err(InvalidText::must("be at most 200 characters long"));
    }
    check_visible(&text).map_err(|hidden| match hidden {
        Hidden::Control => InvalidText::must("hold no control characters"),
        Hidden::Direction => {
            InvalidText::must("hold no characters that turn the direction of text")
        }
        Hidden::Invisible => InvalidText::must("hold no characters that cannot be seen"),
    })?;
    Ok(text)
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(String);

        impl $name {
            /// Trims and checks a name. It is kept in the normal form NFC.
            ///
            /// # Errors
            /// What a name must be.
            pub fn parse(text: &str) -> Result<Self, InvalidText> {
                checked(text).map(Self)
            }

            /// Takes the text of a column as it stands: what is taken today may be less than what was taken when the
            /// row was written.
            #[must_use]
            pub const fn from_stored(text: String) -> Self {
                Self(text)
            }

            /// The name, without space around it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// A person's name: 1 to 200 characters, all of them to be seen.
    PersonName
}
name! {
    /// A workspace's name: 1 to 200 characters, all of them to be seen.
    WorkspaceName
}
name! {
    /// An API key's name: 1 to 200 characters, all of them to be seen.
    ApiKeyName
}

/// A workspace's slug: the name's ASCII letters and digits joined by hyphens, then the last 8 hex digits
/// of the id, which are random and make it unique enough to tell namesakes apart.
#[must_use]
pub fn slug(name: &WorkspaceName, id: WorkspaceId) -> String {
    let mut words = String::new();
    for c in name.as_str().chars() {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() => words.push(c),
            _ if words.is_empty() || words.ends_with('-') => {}
            _ => words.push('-'),
        }
        if words.len() == SLUG_WORDS_MAX_CHARS {
            break;
        }
    }
    let words = words.trim_end_matches('-');
    let words = if words.is_empty() { "workspace" } else { words };
    let tail = id.uuid().as_u128() & 0xffff_ffff;
    format!("{words}-{tail:08x}")
}

/// An ISO 4217 code in lower case, as Stripe writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// US dollars.
    pub const USD: Self = Self(*b"usd");

    /// Checks a code, in either case.
    ///
    /// # Errors
    /// What a code must be.
    pub fn parse(text: &str) -> Result<Self, InvalidText> {
        match text.as_bytes() {
            &[a, b, c] if text.bytes().all(|b| b.is_ascii_alphabetic()) => {
                Ok(Self([a, b, c].map(|b| b.to_ascii_lowercase())))
            }
            _ => Err(InvalidText::must(
                "be a three-letter currency code such as usd",
            )),
        }
    }

    /// Three lower-case letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("xxx")
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed_and_bounded() {
        assert_eq!(
            PersonName::parse("  Zoë Çelik ").unwrap().as_str(),
            "Zoë Çelik"
        );
        assert!(WorkspaceName::parse(&"ß".repeat(200)).is_ok());
        assert_eq!(PersonName::parse("Zoe\u{308}"), PersonName::parse("Zoë"));
        for wrong in [
            "",
            "  ",
            "\u{200b}",
            "\u{3164}",
            "\u{2800}",
            "a\u{202e}b",
            "\t",
            "a\0b",
            "a\nb",
            "a\u{7f}b",
            "a\u{85}b",
            &"x".repeat(201),
        ] {
            assert!(WorkspaceName::parse(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(
            PersonName::parse(" ").unwrap_err().to_string(),
            "must not be empty"
        );
    }

    #[test]
    fn a_slug_is_ascii_words_and_the_end_of_the_id() {
        let id: WorkspaceId = "ws_0189000000007000800000000badcafe".parse().unwrap();
        let slug_of = |name: &str| slug(&WorkspaceName::parse(name).unwrap(), id);
        assert_eq!(slug_of("Ana's  Studio!"), "ana-s-studio-0badcafe");
        assert_eq!(slug_of("Фото"), "workspace-0badcafe");
        assert_eq!(slug_of("--Zoë--"), "zo-0badcafe");
        assert_eq!(slug_of(&"long name ".repeat(19)).len(), 40 - 1 + 9);
    }

    #[test]
    fn a_currency_is_three_letters_in_lower_case() {
        assert_eq!(Currency::parse("EUR").unwrap().as_str(), "eur");
        for wrong in ["", "us", "usdt", "u5d", "€", "éu", " us"] {
            assert!(Currency::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
