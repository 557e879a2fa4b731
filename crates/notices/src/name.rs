//! Names that people chose, as a mail says them: seen whole, in one line, and no link.
//!
//! Who reads a mail trusts what it links to. A name is somebody else's word, so nothing in it may become a link: not an
//! address of the web, not one of mail, and not what a mail program would take for one.

use rawdrive_tenancy_core::text;

/// What is said instead of a name of which nothing is left.
const NAMELESS: &str = "RawDrive";

/// A name in its two forms.
#[derive(Debug)]
pub struct Name {
    /// For a subject: without the words that could be links.
    pub subject: String,
    /// For the text: with them, broken so that they are none.
    pub text: String,
}

impl Name {
    /// The forms of a name as somebody wrote it.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let seen: String = text::visible(&text::normal(name)).into_owned();
        let words = seen.split(' ').filter(|word| unlinked(word) == **word);
        let named = |text: &str| match text.trim() {
            "" => NAMELESS.to_owned(),
            left => left.to_owned(),
        };
        Self {
            subject: named(&words.collect::<Vec<_>>().join(" ")),
            text: named(&unlinked(&seen)),
        }
    }
}

/// The text with a space wherever a mail program would see a link: behind the dots of a domain, behind the sign of a
/// mail address, behind a scheme.
fn unlinked(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut before = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        out.push(c);
        let after = chars.peek().copied();
        let joined = |before: Option<char>| before.is_some_and(|c| !c.is_whitespace());
        let breaks = match c {
            // RFC 3987 takes these for the dots of a domain.
            '.' | '\u{3002}' | '\u{ff0e}' | '\u{ff61}' | '\u{2024}' => {
                joined(before) && after.is_some_and(char::is_alphabetic)
            }
            '@' | '\u{ff20}' | '\u{fe6b}' => joined(before) && joined(after),
            ':' | '\u{ff1a}' | '\u{fe55}' => {
                before.is_some_and(char::is_alphabetic) && after.is_some_and(|c| !c.is_whitespace())
            }
            _ => false,
        };
        if breaks {
            out.push(' ');
        }
        before = Some(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_said_and_links_nowhere() {
        for (name, subject, text) in [
            ("Studio Zoë", "Studio Zoë", "Studio Zoë"),
            (
                "Studio 3.5 & Söhne",
                "Studio 3.5 & Söhne",
                "Studio 3.5 & Söhne",
            ),
            (
                "Dr. Müller, M. A.",
                "Dr. Müller, M. A.",
                "Dr. Müller, M. A.",
            ),
            ("Studio: Ana", "Studio: Ana", "Studio: Ana"),
            (
                "Win at http://evil.example/x now",
                "Win at now",
                "Win at http: //evil. example/x now",
            ),
            ("www.evil.example", "RawDrive", "www. evil. example"),
            ("HTTPS://EVIL.EXAMPLE", "RawDrive", "HTTPS: //EVIL. EXAMPLE"),
            ("http://1.2.3.4/x", "RawDrive", "http: //1.2.3.4/x"),
            ("(evil.example),", "RawDrive", "(evil. example),"),
            ("call tel:+49301234", "call", "call tel: +49301234"),
            ("eve@evil.example", "RawDrive", "eve@ evil. example"),
            ("mailto:eve@evil", "RawDrive", "mailto: eve@ evil"),
            ("evil\u{3002}example", "RawDrive", "evil\u{3002} example"),
            ("evil\u{ff0e}example", "RawDrive", "evil\u{ff0e} example"),
            ("evil\u{200b}.\u{200b}example", "RawDrive", "evil. example"),
            ("münchen.de", "RawDrive", "münchen. de"),
            ("anna.studio Wien", "Wien", "anna. studio Wien"),
            ("Evil\r\nBcc: all", "Evil  Bcc: all", "Evil  Bcc: all"),
            ("gpj\u{202e}exe", "gpjexe", "gpjexe"),
            ("\u{3164}", "RawDrive", "RawDrive"),
        ] {
            let said = Name::of(name);
            assert_eq!((said.subject.as_str(), said.text.as_str()), (subject, text));
            assert_eq!(unlinked(&said.text), said.text, "broken once is enough");
        }
    }
}
