//! E-mail addresses: kept as typed, compared as people mean them.

use std::fmt;
use std::str::FromStr;

use icu_properties::CodePointMapData;
use icu_properties::props::GeneralCategory;
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use rawdrive_tenancy_core::text;

use crate::validated_text::InvalidText;

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
        if !local.split('.').all(is_atom) || !domain.split('.').all(is_label) {
            return Err(FORM);
        }
        let domain = ascii_domain(domain).ok_or(FORM)?;
        if !domain.contains('.') && domain != "localhost" {
            return Err(FORM);
        }
        if local.len() + 1 + domain.len() > MAX_BYTES {
            return Err(LENGTH);
        }
        Ok(Self(text.to_owned()))
    }

    /// Takes the text of a column as it stands: what is taken today may be less than what was taken when the row was
    /// written.
    #[must_use]
    pub const fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The address as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text under which the address is unique: the local part with its case folded as Unicode does, the domain
    /// as mail servers know it.
    #[must_use]
    pub fn folded(&self) -> String {
        let (local, domain) = self.parts();
        let domain = ascii_domain(domain).unwrap_or_else(|| text::folded(domain));
        format!("{}@{domain}", text::folded(local))
    }

    /// The text under which an account was unique before [`folded`](Self::folded) was what it is. Where two accounts
    /// turned out to have one address, the younger one is still known by it.
    #[must_use]
    pub fn formerly_folded(&self) -> String {
        self.0.to_lowercase()
    }

    /// The address as it is handed to mail servers: the domain in letters, digits and hyphens.
    #[must_use]
    pub fn deliverable(&self) -> String {
        let (local, domain) = self.parts();
        match ascii_domain(domain) {
            Some(domain) => format!("{local}@{domain}"),
            None => self.0.clone(),
        }
    }

    fn parts(&self) -> (&str, &str) {
        self.0.rsplit_once('@').unwrap_or((&self.0, ""))
    }
}

/// A domain in A-labels (UTS #46, without the transitional mappings), so that each has one text.
fn ascii_domain(domain: &str) -> Option<String> {
    let ascii = Uts46::new().to_ascii(
        domain.as_bytes(),
        AsciiDenyList::STD3,
        Hyphens::CheckFirstLast,
        DnsLength::Verify,
    );
    ascii.ok().map(|ascii| ascii.into_owned())
}

/// RFC 5322 section 3.2.3, and the letters and digits of every script with their marks.
fn is_atom(atom: &str) -> bool {
    let holds = |(at, c): (usize, char)| {
        if c.is_ascii() {
            is_atext(c)
        } else {
            c.is_alphanumeric() || at > 0 && is_mark(c)
        }
    };
    !atom.is_empty() && atom.char_indices().all(holds) && text::check_visible(atom).is_ok()
}

fn is_mark(c: char) -> bool {
    matches!(
        CodePointMapData::<GeneralCategory>::new().get(c),
        GeneralCategory::NonspacingMark | GeneralCategory::SpacingMark
    )
}

/// RFC 5322 section 3.2.3.
fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c)
}

/// Whether all of a label is seen: what is not, IDNA would pass over. Which characters it may hold, IDNA says.
fn is_label(label: &str) -> bool {
    text::check_visible(label).is_ok()
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
        let international = EmailAddress::parse("ÄNNE@München.example").unwrap();
        assert_eq!(international.deliverable(), "ÄNNE@xn--mnchen-3ya.example");
        assert_eq!(
            format!("{:?}", EmailAddress::parse("a@b.c").unwrap()),
            "EmailAddress(…)"
        );
    }

    #[test]
    fn one_mailbox_has_one_text() {
        for same in [
            &["straße@x.example", "STRASSE@x.example", "strasse@X.EXAMPLE"][..],
            &[
                "οδυσσευς@x.example",
                "ΟΔΥΣΣΕΥΣ@x.example",
                "οδυσσευσ@x.example",
            ],
            &["ſam@x.example", "sam@x.example"],
            &["İrem@x.example", "irem@x.example", "i\u{307}rem@x.example"],
            &["zoë@x.example", "zoe\u{308}@x.example", "ZOË@x.example"],
            &["हिन्दी@x.example"],
            &[
                "a@münchen.example",
                "A@MÜNCHEN.example",
                "a@mu\u{308}nchen.example",
                "a@xn--mnchen-3ya.example",
                "a@XN--MNCHEN-3YA.example",
            ],
            &["a@ｅxample.com", "a@example.com"],
        ] {
            let key = EmailAddress::parse(same[0]).unwrap().folded();
            for text in same {
                let email = EmailAddress::parse(text).unwrap();
                assert_eq!(email.folded(), key, "{text}");
                assert_eq!(EmailAddress::from_stored(key.clone()).folded(), key);
            }
        }
        let key = |text| EmailAddress::parse(text).unwrap().folded();
        // Registries tell these apart.
        assert_ne!(key("a@straße.example"), key("a@strasse.example"));
        assert_ne!(key("a@x.example"), key("a@y.example"));
        assert_ne!(key("ırem@x.example"), key("irem@x.example"));
    }

    /// What `idna` 3.20, a Python library of the same standard, makes of these domains.
    const DOMAINS: &str = include_str!("idna_vectors.json");

    #[test]
    fn an_independent_implementation_knows_domains_by_the_same_name() {
        let vectors: Vec<(String, Option<String>)> = serde_json::from_str(DOMAINS).unwrap();
        assert!(vectors.len() > 30);
        for (domain, ascii) in vectors {
            let email = EmailAddress::parse(&format!("a@{domain}")).ok();
            let found = email.map(|email| email.deliverable()[2..].to_owned());
            assert_eq!(found, ascii, "{domain:?}");
        }
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
            ("ana\u{3164}@example.com", FORM),
            ("\u{301}ana@example.com", FORM),
            ("ana@exa\u{ad}mple.com", FORM),
            ("ana@exa\u{200d}mple.com", FORM),
            ("ana@xn--zzzzzz-.com", FORM),
            ("ana@xn--a.com", FORM),
            ("ana@exam_ple.com", FORM),
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
