//! Names of files in headers: as forms bring them in, and as downloads give them out.
//!
//! RFC 7578 says how a form names its files, and the commonest clients have ways of their own: quotes as `%22` or
//! behind a backslash, encoded words (RFC 2047) and `filename*` (RFC 8187) from .NET, everything percent-encoded,
//! whole paths, and bytes that are not UTF-8.

use crate::{FileName, TextError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What `Content-Disposition` says of a form's part.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct FormDisposition {
    /// The field's name.
    pub(crate) name: Option<String>,
    /// The file's name, as its owner reads it. Not checked yet.
    pub(crate) filename: Option<String>,
}

impl FormDisposition {
    /// Reads the header's value.
    #[must_use]
    pub(crate) fn read(value: &[u8]) -> Self {
        let mut read = Self::default();
        let mut extended = None;
        for (name, value) in parameters(value) {
            if name.eq_ignore_ascii_case(b"name") {
                read.name = Some(text(&value));
            } else if name.eq_ignore_ascii_case(b"filename*") {
                extended = extended_value(&value);
            } else if name.eq_ignore_ascii_case(b"filename") {
                read.filename = Some(plain_name(&value));
            }
        }
        // Whoever writes both means the one that cannot be misread.
        read.filename = extended.or(read.filename);
        read
    }

    /// The file's name, fit to be stored; nothing where the form gives none.
    ///
    /// # Errors
    /// It cannot be a file's name even without its path and what cannot be seen.
    pub(crate) fn file_name(&self) -> Result<Option<FileName>, TextError> {
        self.filename.as_deref().map(FileName::of_form).transpose()
    }
}

/// The parameters of a header's value, behind its first semicolon: names as they were sent, values without quotes.
/// A backslash escapes a quote or a backslash and stands for itself before anything else, since old browsers send
/// whole paths.
pub(crate) fn parameters(value: &[u8]) -> Vec<(&[u8], Vec<u8>)> {
    let mut found = Vec::new();
    let Some(start) = memchr::memchr(b';', value) else {
        return found;
    };
    let mut rest = &value[start + 1..];
    while let Some(equals) = memchr::memchr2(b'=', b';', rest) {
        let (name, behind) = rest.split_at(equals);
        rest = behind.get(1..).unwrap_or_default();
        if behind.starts_with(b";") {
            continue;
        }
        rest = rest.trim_ascii_start();
        let value = match rest.strip_prefix(b"\"") {
            Some(quoted) => {
                let (value, behind) = unquoted(quoted);
                rest = behind;
                value
            }
            None => {
                let end = memchr::memchr(b';', rest).unwrap_or(rest.len());
                rest[..end].trim_ascii().to_vec()
            }
        };
        found.push((name.trim_ascii(), value));
        let end = memchr::memchr(b';', rest).map_or(rest.len(), |end| end + 1);
        rest = &rest[end..];
    }
    found
}

/// A text up to its closing quote, and what follows it.
fn unquoted(quoted: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut value = Vec::new();
    let mut rest = quoted;
    loop {
        match rest {
            [b'\\', escaped @ (b'"' | b'\\'), behind @ ..] => {
                value.push(*escaped);
                rest = behind;
            }
            [b'"', behind @ ..] => return (value, behind),
            [byte, behind @ ..] => {
                value.push(*byte);
                rest = behind;
            }
            [] => return (value, rest),
        }
    }
}

fn plain_name(value: &[u8]) -> String {
    if let Some(decoded) = encoded_words(value).or_else(|| all_encoded(value)) {
        return decoded;
    }
    // What forms of browsers cannot hold within quotes (WHATWG HTML, multipart/form-data).
    text(value)
        .replace("%22", "\"")
        .replace("%0D", "\r")
        .replace("%0d", "\r")
        .replace("%0A", "\n")
        .replace("%0a", "\n")
}

/// UTF-8, or else the code page that Windows and old browsers mean by ISO 8859-1.
fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| windows_1252(bytes), str::to_owned)
}

fn windows_1252(bytes: &[u8]) -> String {
    // 0x80 to 0x9F; the rest is ISO 8859-1.
    const UPPER_CONTROLS: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž',
        '\u{8f}', '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}',
        'ž', 'Ÿ',
    ];
    let decoded = bytes.iter().map(|byte| match byte {
        0x80..=0x9F => UPPER_CONTROLS[usize::from(byte - 0x80)],
        _ => char::from(*byte),
    });
    decoded.collect()
}

/// Text of a charset by its label; nothing where the label is unknown or the bytes are not of it.
fn of_charset(label: &[u8], bytes: &[u8]) -> Option<String> {
    let known = |labels: &[&str]| {
        labels
            .iter()
            .any(|l| label.eq_ignore_ascii_case(l.as_bytes()))
    };
    if known(&["utf-8", "utf8", "us-ascii"]) {
        return std::str::from_utf8(bytes).ok().map(str::to_owned);
    }
    known(&["iso-8859-1", "latin1", "windows-1252"]).then(|| windows_1252(bytes))
}

/// `utf-8''M%C3%A4dchen.jpg` (RFC 8187, 3.2).
fn extended_value(value: &[u8]) -> Option<String> {
    let mut parts = value.splitn(3, |byte| *byte == b'\'');
    let (charset, _language, encoded) = (parts.next()?, parts.next()?, parts.next()?);
    of_charset(charset, &percent_decoded(encoded)?)
}

fn percent_decoded(mut encoded: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(encoded.len());
    while let Some((&first, rest)) = encoded.split_first() {
        encoded = rest;
        if first != b'%' {
            decoded.push(first);
            continue;
        }
        let (digits, rest) = rest.split_first_chunk::<2>()?;
        decoded.push(hex_byte(*digits)?);
        encoded = rest;
    }
    Some(decoded)
}

fn hex_byte([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |byte| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

/// A name in which everything but letters, digits and `-._~` is percent-encoded, as some libraries send all names.
/// Names that hold anything else are taken as they stand.
fn all_encoded(value: &[u8]) -> Option<String> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._~%".contains(b);
    if !value.contains(&b'%') || !value.iter().all(plain) {
        return None;
    }
    let decoded = String::from_utf8(percent_decoded(value)?).ok()?;
    // A path that was hidden from whoever looked at the name is none.
    let harmless = !decoded.contains(['/', '\\']) && !decoded.chars().any(char::is_control);
    (harmless && !matches!(decoded.as_str(), "." | "..")).then_some(decoded)
}

/// `=?utf-8?B?TcOkZGNoZW4uanBn?=`, one or more of them and nothing else (RFC 2047, 2). Bytes are put together
/// before they are read: long names are cut anywhere.
fn encoded_words(value: &[u8]) -> Option<String> {
    let mut rest = value.trim_ascii();
    let mut known: Option<(&[u8], Vec<u8>)> = None;
    while !rest.is_empty() {
        let (charset, behind) = until(rest.strip_prefix(b"=?")?, b"?")?;
        let (encoding, behind) = until(behind, b"?")?;
        let (word, behind) = until(behind, b"?=")?;
        rest = behind.trim_ascii_start();
        // A language may follow the charset (RFC 2231, 5).
        let charset = charset.split(|byte| *byte == b'*').next()?;
        let bytes = match encoding {
            b"B" | b"b" => STANDARD.decode(word).ok()?,
            b"Q" | b"q" => quoted_printable(word)?,
            _ => return None,
        };
        let (first, all) = known.get_or_insert_with(|| (charset, Vec::new()));
        if !first.eq_ignore_ascii_case(charset) {
            return None;
        }
        all.extend(bytes);
    }
    let (charset, bytes) = known?;
    of_charset(charset, &bytes)
}

fn until<'a>(bytes: &'a [u8], end: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = memchr::memmem::find(bytes, end)?;
    Some((&bytes[..at], &bytes[at + end.len()..]))
}

fn quoted_printable(word: &[u8]) -> Option<Vec<u8>> {
    let percent: Vec<u8> = word
        .iter()
        .flat_map(|byte| match byte {
            b'_' => b"%20".to_vec(),
            b'%' => b"%25".to_vec(),
            b'=' => b"%".to_vec(),
            byte => vec![*byte],
        })
        .collect();
    percent_decoded(&percent)
}

/// What a browser does with a photo's bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shown {
    /// It shows them.
    Inline,
    /// It saves them.
    Attachment,
}

/// `Content-Disposition` of a download (RFC 6266): the name for clients that read ASCII alone, and the whole name.
/// No character of it ends the header, leads into another directory or turns text round. Where the plain one lacks
/// something, `unique` keeps two files apart.
#[must_use]
pub(crate) fn content_disposition(shown: Shown, name: &FileName, unique: &str) -> String {
    let shown = match shown {
        Shown::Inline => "inline",
        Shown::Attachment => "attachment",
    };
    let name = name.harmless();
    let plain = ascii_name(&name, unique);
    format!(
        "{shown}; filename=\"{plain}\"; filename*=UTF-8''{}",
        percent_encoded(&name)
    )
}

fn ascii_name(name: &str, unique: &str) -> String {
    let replaced: String = name
        .char_indices()
        .map(|(at, c)| match c {
            // Some clients decode what looks encoded, and hide what begins with a dot.
            '"' | '\\' | '/' | '%' => '_',
            '.' if at == 0 => '_',
            ' '..='~' => c,
            _ => '_',
        })
        .collect();
    if replaced == name {
        return replaced;
    }
    match replaced.rsplit_once('.') {
        Some((stem, extension)) => format!("{stem}-{unique}.{extension}"),
        None => format!("{replaced}-{unique}"),
    }
}

fn percent_encoded(name: &str) -> String {
    use std::fmt::Write as _;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    name.bytes().fold(String::new(), |mut text, b| {
        let _ = if plain(b) {
            write!(text, "{}", char::from(b))
        } else {
            write!(text, "%{b:02X}")
        };
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filename(value: &[u8]) -> Option<String> {
        FormDisposition::read(value).filename
    }

    #[test]
    fn a_form_names_its_file_as_the_commonest_clients_write_it() {
        for (client, value, expected) in [
            ("browsers, curl, requests", "form-data; name=\"file\"; filename=\"Mädchen.jpg\"".as_bytes(), "Mädchen.jpg"),
            (".NET", &b"form-data; name=file; filename=\"=?utf-8?B?TcOkZGNoZW4uanBn?=\"; filename*=utf-8''M%C3%A4dchen.jpg"[..], "Mädchen.jpg"),
            (".NET, the older name alone", &b"form-data; name=file; filename=\"=?utf-8?B?TcOkZGNoZW4uanBn?=\""[..], "Mädchen.jpg"),
            ("mail libraries", &b"form-data; name=file; filename=\"=?ISO-8859-1?Q?M=E4dchen_1.jpg?=\""[..], "Mädchen 1.jpg"),
            ("a character over two words", &b"form-data; name=file; filename=\"=?utf-8?Q?M=C3?= =?UTF-8?q?=A4dchen.jpg?=\""[..], "Mädchen.jpg"),
            ("the newer name first", &b"form-data; name=file; filename*=UTF-8'de'%e2%82%ac.jpg; filename=x.jpg"[..], "€.jpg"),
            ("an unreadable newer name", &b"form-data; name=file; filename*=klingon''%41; filename=x.jpg"[..], "x.jpg"),
            ("unquoted", &b"form-data; name=file; filename=IMG 1.jpg ; x=y"[..], "IMG 1.jpg"),
            ("browsers' quotes", &b"form-data; name=\"file\"; filename=\"a%22b.jpg\""[..], "a\"b.jpg"),
            ("curl's quotes", &b"form-data; name=\"file\"; filename=\"a\\\"b;c.jpg\""[..], "a\"b;c.jpg"),
            ("aiohttp", &b"form-data; name=\"file\"; filename=\"M%C3%A4dchen%201.jpg\""[..], "Mädchen 1.jpg"),
            ("a name with a percent sign", &b"form-data; name=\"file\"; filename=\"50% off %41.jpg\""[..], "50% off %41.jpg"),
            ("not UTF-8", &b"form-data; name=\"file\"; filename=\"M\xE4dchen \x80.jpg\""[..], "Mädchen €.jpg"),
            ("other case", &b"FORM-DATA; Name=\"file\"; FileName=\"a.jpg\""[..], "a.jpg"),
            ("an old browser's path", &b"form-data; name=\"file\"; filename=\"C:\\new\\a.jpg\""[..], "C:\\new\\a.jpg"),
            ("a hidden path", &b"form-data; name=\"file\"; filename=\"..%2Fa.jpg\""[..], "..%2Fa.jpg"),
            ("hidden dots", &b"form-data; name=\"file\"; filename=\"%2e%2e\""[..], "%2e%2e"),
            ("no encoded word", &b"form-data; name=\"file\"; filename=\"=?x?y?z?=.jpg\""[..], "=?x?y?z?=.jpg"),
            ("an open quote", &b"form-data; name=\"file\"; filename=\"a.jpg"[..], "a.jpg"),
        ] {
            let read = FormDisposition::read(value);
            assert_eq!(read.filename.as_deref(), Some(expected), "{client}");
            assert_eq!(read.name.as_deref(), Some("file"), "{client}");
        }
        for none in [
            &b"form-data"[..],
            b"form-data; name=file",
            b"",
            b";",
            b"form-data; filename",
            b"form-data;;; =",
        ] {
            assert_eq!(filename(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_path_and_what_cannot_be_seen_are_no_part_of_a_name() {
        let stored = |value: &[u8]| {
            let name = FormDisposition::read(value).file_name();
            name.map(|name| name.map(|name| name.to_string()))
        };
        for (value, expected) in [
            (&b"form-data; filename=\"C:\\fakepath\\a.jpg\""[..], "a.jpg"),
            (b"form-data; filename=\"../../etc/a.jpg\"", "a.jpg"),
            (b"form-data; filename=\"a%0D%0Ab.jpg\"", "ab.jpg"),
            (
                "form-data; filename=\"a\u{202E}gpj.exe\"".as_bytes(),
                "agpj.exe",
            ),
        ] {
            assert_eq!(stored(value).unwrap().as_deref(), Some(expected));
        }
        assert_eq!(stored(b"form-data; name=file"), Ok(None));
        for bad in [
            &b"form-data; filename=\"\""[..],
            b"form-data; filename=\"a/\"",
            b"form-data; filename=\"..\"",
        ] {
            assert!(stored(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_download_names_its_file_twice() {
        let header =
            |name: &str| content_disposition(Shown::Inline, &name.parse().unwrap(), "0a1b");
        assert_eq!(
            header("IMG_1 (2).jpg"),
            "inline; filename=\"IMG_1 (2).jpg\"; filename*=UTF-8''IMG_1%20%282%29.jpg"
        );
        assert_eq!(
            header("Mädchen.jpg"),
            "inline; filename=\"M_dchen-0a1b.jpg\"; filename*=UTF-8''M%C3%A4dchen.jpg"
        );
        assert_eq!(
            header("a\"b%22.jpg"),
            "inline; filename=\"a_b_22-0a1b.jpg\"; filename*=UTF-8''a%22b%2522.jpg"
        );
        assert_eq!(
            header(".profile"),
            "inline; filename=\"_profile-0a1b\"; filename*=UTF-8''.profile"
        );
        assert_eq!(
            header("a\u{202E}gpj.exe"),
            "inline; filename=\"agpj.exe\"; filename*=UTF-8''agpj.exe"
        );
    }
}
