//! E-mail addresses: kept as typed, compared folded.

use std::fmt;
use std::str::FromStr;

use crate::text::InvalidText;

const MAX_BYTES: usize = 254; // RFC 5321 section 4.5.3.1.3, less the angle brackets
const MAX_LOCAL_BYTES: usize = 64; // RFC 5321 section 4.5.3.1.1

const FORM: InvalidText = InvalidText::must("be an e-mail address such as ana@example.com");
const LENGTH: InvalidText = InvalidText::must("be at most 254 bytes long, 64 of them before the @");

/// An e-mail address that mail can be sent to as far as its form tells. Equality is that of the text as
/// given; uniqueness is decided by [`folded`](Self::folded).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EmailAddress(String);

impl EmailAddress {
    /// Checks an address. Quoted local parts and address literals are refused: nobody's mailbox needs
    /// them, and every parser reads them differently.
    ///
    /// # Errors
    /// What an address must be.
    pub fn parse(text: &str) -> Result<Self, InvalidText> {
        if text.len() > MAX_BYTES {
            return Err(LENGTH);
        }
        let (local, domain) = text.split_once('@').ok_or(FORM)?;
        if local.len() > MAX_LOCAL_BYTES {
            return Err(LENGTH);
        }
        let local_holds = |c: char| {
            if c.is_ascii() {
                is_atext(c)
            } else {
                c.is_alphanumeric()
            }
        };
        if !local
            .split('.')
            .all(|atom| !atom.is_empty() && atom.chars().all(local_holds))
        {
            return Err(FORM);
        }
        let dotted = domain.contains('.') || domain.eq_ignore_ascii_case("localhost");
        if !dotted || !domain.split('.').all(is_label) {
            return Err(FORM);
        }
        Ok(Self(text.to_owned()))
    }

    /// The address as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text under which the address is unique: lower case, by Unicode.
    #[must_use]
    pub fn folded(&self) -> String {
        self.0.to_lowercase()
    }
}

/// RFC 5322 section 3.2.3.
fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c)
}

fn is_label(label: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '-';
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.chars().all(inside)
}

impl FromStr for EmailAddress {
    type Err = InvalidText;
    fn from_str(text: &str) -> Result<Self, InvalidText> {
        Self::parse(text)
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Redacted: addresses are personal data, and debug output ends in logs.
impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailAddress(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_their_text_and_compare_folded() {
        for text in [
            "Ana@Example.COM",
            "a.b+tag@x-y.example",
            "ÄNNE@münchen.example",
            "root@localhost",
        ] {
            let email = EmailAddress::parse(text).unwrap();
            assert_eq!(email.as_str(), text);
            assert_eq!(
                email.folded(),
                EmailAddress::parse(&email.folded()).unwrap().folded()
            );
        }
        assert_eq!(
            EmailAddress::parse("ÄNNE@X.example").unwrap().folded(),
            "änne@x.example"
        );
        assert_eq!(
            format!("{:?}", EmailAddress::parse("a@b.c").unwrap()),
            "EmailAddress(…)"
        );
    }

    #[test]
    fn other_texts_are_refused_in_words() {
        let long = format!("a@{}.example", "b".repeat(250));
        for (text, message) in [
            ("", FORM),
            ("ana", FORM),
            ("@example.com", FORM),
            ("ana@", FORM),
            ("ana@example", FORM),
            ("ana@@example.com", FORM),
            ("ana@b@example.com", FORM),
            ("ana @example.com", FORM),
            (" ana@example.com", FORM),
            ("ana@example.com\n", FORM),
            ("ana@example.com\r\nBcc: eve@example.com", FORM),
            ("ana\0@example.com", FORM),
            ("ana\u{200b}@example.com", FORM),
            ("ana\u{202e}@example.com", FORM),
            ("\"ana\"@example.com", FORM),
            ("<ana@example.com>", FORM),
            ("ana,eve@example.com", FORM),
            ("ana..b@example.com", FORM),
            (".ana@example.com", FORM),
            ("ana@.example.com", FORM),
            ("ana@example..com", FORM),
            ("ana@-example.com", FORM),
            ("ana@[127.0.0.1]", FORM),
            (long.as_str(), LENGTH),
        ] {
            assert_eq!(EmailAddress::parse(text), Err(message), "{text:?}");
        }
        assert_eq!(
            FORM.to_string(),
            "must be an e-mail address such as ana@example.com"
        );
    }
}
