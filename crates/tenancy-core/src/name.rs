//! Short stable names that an embedder declares: why the system acts, of what kind a guest is.

use std::fmt;
use std::str::FromStr;

/// The most bytes of a name.
const LONGEST: usize = 30;

/// A name of 1 to 30 of `a`–`z`, `0`–`9` and `_` that begins with a letter. It is copied, not allocated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortName {
    bytes: [u8; LONGEST],
    length: u8,
}

/// A text that is no [`ShortName`].
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("expected 1 to 30 of a-z, 0-9 and _, beginning with a letter")]
pub struct InvalidName;

const fn is_name(bytes: &[u8]) -> bool {
    if bytes.is_empty() || bytes.len() > LONGEST || !bytes[0].is_ascii_lowercase() {
        return false;
    }
    let mut at = 0;
    while at < bytes.len() {
        if !matches!(bytes[at], b'a'..=b'z' | b'0'..=b'9' | b'_') {
            return false;
        }
        at += 1;
    }
    true
}

const fn copied(from: &[u8]) -> ShortName {
    let mut bytes = [0; LONGEST];
    let mut at = 0;
    while at < from.len() {
        bytes[at] = from[at];
        at += 1;
    }
    ShortName {
        bytes,
        length: at as u8,
    }
}

impl ShortName {
    /// A name that stands in the source.
    ///
    /// # Panics
    /// For a text that is none; in a constant, the compiler says so.
    #[must_use]
    pub const fn new(name: &str) -> Self {
        assert!(
            is_name(name.as_bytes()),
            "expected 1 to 30 of a-z, 0-9 and _, beginning with a letter"
        );
        copied(name.as_bytes())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII is ever copied in.
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl FromStr for ShortName {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if is_name(text.as_bytes()) {
            Ok(copied(text.as_bytes()))
        } else {
            Err(InvalidName)
        }
    }
}

impl fmt::Display for ShortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ShortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        for text in ["a", "sign_up", "r2d2", &"x".repeat(LONGEST)] {
            assert_eq!(text.parse::<ShortName>().unwrap().to_string(), text);
            assert_eq!(ShortName::new(text).as_str(), text);
        }
        for text in ["", "_a", "2d", "Sign", "a-b", "ä", &"x".repeat(LONGEST + 1)] {
            assert_eq!(text.parse::<ShortName>(), Err(InvalidName), "{text}");
        }
    }
}
