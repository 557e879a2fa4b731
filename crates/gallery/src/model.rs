//! The things themselves, and the texts they carry.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::id::{ClientId, GalleryId, LibraryId, PhotoId};
use crate::renditions::model::Renditions;
use chrono::{DateTime, Utc};
use rawdrive_tenancy_core::text::{Hidden, check_visible, folded, normal};
use serde::{Deserialize, Serialize};

/// What is wrong with a text; finishes the sentence "the field …".
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("{0}")]
pub struct TextError(&'static str);

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        text!($(#[$doc])* $name, str::to_owned, $check);
    };
    ($(#[$doc:meta])* $name:ident, $form:expr, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name(String);

        impl FromStr for $name {
            type Err = TextError;
            fn from_str(text: &str) -> Result<Self, TextError> {
                let check: fn(&str) -> Result<(), &'static str> = $check;
                let form: fn(&str) -> String = $form;
                let text = form(text.trim());
                check(&text).map(|()| Self(text)).map_err(TextError)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl $name {
            /// Takes the text of a column as it stands: what is written today may be narrower than what was taken
            /// when the row was written.
            #[must_use]
            pub const fn from_stored(text: String) -> Self { Self(text) }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str { &self.0 }
        }
    };
}

text!(
    /// The name of a library, a gallery or a brand: 1 to 200 characters, all of them to be seen, trimmed.
    Title,
    normal,
    |text| {
        if text.is_empty() || text.chars().count() > 200 || text.chars().any(char::is_control) {
            return Err("must be 1 to 200 characters without control characters");
        }
        check_visible(text).map_err(|hidden| match hidden {
            Hidden::Control => "must hold no control characters",
            Hidden::Direction => "must hold no characters that turn the direction of text",
            Hidden::Invisible => "must hold no characters that cannot be seen",
        })
    }
);

impl Title {
    /// What it is sorted and searched by: names that differ in case alone are the same.
    #[must_use]
    pub fn folded(&self) -> String {
        compared(&self.0)
    }
}

/// A text as it is compared: folded, and no longer than an index takes.
fn compared(text: &str) -> String {
    let mut folded = folded(text);
    folded.truncate(folded.floor_char_boundary(COMPARED_BYTES));
    folded
}

text!(
    /// The name a photo had on its owner's disk: shown and given back at download, never part of a path. At most 255
    /// UTF-16 units, as NTFS and APFS count; what ext4 counts as 255 bytes is never more.
    FileName,
    |text| {
        if text.is_empty() || text.encode_utf16().count() > 255 || text.chars().any(char::is_control) {
            return Err("must be 1 to 255 characters without control characters");
        }
        if text.contains(['/', '\\']) || text == "." || text == ".." {
            return Err("must be a file's name without a path");
        }
        Ok(())
    }
);

/// Whether a character turns round the text about it (Unicode Standard Annex 9): embeddings, overrides, isolates and
/// their ends, by which `exe.jpg` can be made to look like another name.
fn turns_text_round(c: char) -> bool {
    matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// Whether a character shows nothing by itself: white space, and what is ignored where it is not supported.
fn is_invisible(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(
            c,
            '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
                | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}' | '\u{2800}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}'
                | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E0FFF}'
        )
}

/// The longest text that names are compared by, in bytes: an index holds no more, and no file system has longer names.
const COMPARED_BYTES: usize = 600;

impl FileName {
    /// What it is sorted and searched by: names that differ in case alone are the same.
    #[must_use]
    pub fn folded(&self) -> String {
        compared(&self.0)
    }

    /// A name that somebody gives a photo. Names that were stored before may hold more.
    ///
    /// # Errors
    /// It is no file's name, cannot be seen, or turns text round.
    pub fn of_upload(text: &str) -> Result<Self, TextError> {
        let name: Self = text.parse()?;
        if name.0.chars().any(turns_text_round) {
            return Err(TextError("must not hold characters that turn text round"));
        }
        if name.0.chars().all(is_invisible) {
            return Err(TextError("must be a name that can be seen"));
        }
        Ok(name)
    }

    /// The name that a form gives a file. No person wrote it there, and none could mend it: the path that some
    /// clients put before it, control characters and those that turn text round are left out.
    ///
    /// # Errors
    /// What is left is no file's name, or the text holds NUL.
    pub fn of_form(text: &str) -> Result<Self, TextError> {
        if text.contains('\0') {
            return Err(TextError("must not hold NUL"));
        }
        let last = text.rsplit(['/', '\\']).next().unwrap_or_default();
        Self::of_upload(&harmless(last))
    }

    /// The name without what could harm whoever saves a file by it.
    #[must_use]
    pub fn harmless(&self) -> String {
        harmless(&self.0)
    }
}

fn harmless(name: &str) -> String {
    name.chars()
        .filter(|c| !c.is_control() && !turns_text_round(*c))
        .map(|c| if matches!(c, '/' | '\\') { '_' } else { c })
        .collect()
}

text!(
    /// A colour as `#rrggbb`.
    Color,
    |text| {
        let digits = text.strip_prefix('#').unwrap_or_default();
        if digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(())
        } else {
            Err("must be a colour such as #1a2b3c")
        }
    }
);

text!(
    /// An http or https address that anybody may see: it holds no name and no password.
    Website,
    |text| {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}');
        // RFC 3986 section 3.2: the authority ends at the path, the query or the fragment.
        let authority = rest.unwrap_or_default().split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err("must hold no user name and no password");
        }
        match rest {
            Some(rest) if !rest.is_empty() && !rest.starts_with('/') && text.len() <= 2000 && text.chars().all(plain) => Ok(()),
            _ => Err("must be an address such as https://example.com of at most 2000 characters"),
        }
    }
);

/// A shelf of galleries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// Its id.
    pub id: LibraryId,
    /// Its name.
    pub name: Title,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// 1, 2, 3 …: grows with each change.
    pub version: u32,
}

/// What the client of a gallery may download.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Download {
    /// Nothing.
    #[default]
    None,
    /// Web-sized copies.
    Web,
    /// The originals.
    Original,
}

impl Download {
    /// The name on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Web => "web",
            Self::Original => "original",
        }
    }
}

impl FromStr for Download {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        [Self::None, Self::Web, Self::Original]
            .into_iter()
            .find(|d| d.as_str() == text)
            .ok_or(TextError("must be none, web or original"))
    }
}

/// A delivery of photos.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gallery {
    /// Its id.
    pub id: GalleryId,
    /// The library it stands in.
    pub library: LibraryId,
    /// Its name.
    pub name: Title,
    /// What its clients may download.
    pub download: Download,
    /// When it was deleted; it still counts, since it can come back.
    pub deleted_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// 1, 2, 3 …: grows with each change.
    pub version: u32,
}

/// A gallery and how many photos it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GalleryOverview {
    /// The gallery.
    pub gallery: Gallery,
    /// Photos in it.
    pub photo_count: u64,
}

/// As [`GalleryOverview`], for members: with who sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGallery {
    /// The gallery and its count.
    pub overview: GalleryOverview,
    /// The clients who see it.
    pub clients: BTreeSet<ClientId>,
}

/// How stored pixels are turned for display: Exif's `Orientation`, 1 to 8. 1 is upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orientation(u8);

impl Orientation {
    /// Of Exif's number; nothing for one that has no meaning.
    #[must_use]
    pub fn of_exif(number: u32) -> Option<Self> {
        u8::try_from(number)
            .ok()
            .filter(|number| (1..=8).contains(number))
            .map(Self)
    }

    /// Exif's number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Width and height as they are displayed, of pixels that are stored so.
    #[must_use]
    pub const fn displayed(self, width: u32, height: u32) -> (u32, u32) {
        match self.0 {
            5..=8 => (height, width),
            _ => (width, height),
        }
    }
}

impl Default for Orientation {
    fn default() -> Self {
        Self(1)
    }
}

/// A photo: its bytes lie in the blob store under its id and never change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Photo {
    /// Its id.
    pub id: PhotoId,
    /// The gallery it is in.
    pub gallery: GalleryId,
    /// The name it came with.
    pub filename: FileName,
    /// The type its content was checked against.
    pub content_type: String,
    /// Bytes.
    pub size_bytes: u64,
    /// SHA-256 of the bytes.
    pub sha256: [u8; 32],
    /// Pixels across as it is displayed, where the header tells.
    pub width: Option<u32>,
    /// Pixels down as it is displayed, where the header tells.
    pub height: Option<u32>,
    /// How its pixels are turned for display. Unknown for formats that are not looked into, and for photos
    /// from before it was kept, whose sides are those of the pixels as they are stored.
    pub orientation: Option<Orientation>,
    /// EXIF's time of capture, where there is one.
    pub taken_at: Option<DateTime<Utc>>,
    /// When it was uploaded.
    pub created_at: DateTime<Utc>,
    /// When its record was last changed.
    pub updated_at: DateTime<Utc>,
    /// 1, 2, 3 …: grows with each change of its record. Its bytes never change.
    pub version: u32,
    /// Its smaller copies.
    pub renditions: Renditions,
}

impl Photo {
    /// What it is sorted by among photos by time: when it was taken, or where nobody says so, when it was uploaded.
    #[must_use]
    pub fn taken_or_uploaded_at(&self) -> DateTime<Utc> {
        self.taken_at.unwrap_or(self.created_at)
    }
}

/// How a workspace's galleries look to its clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branding {
    /// The name that is shown.
    pub display_name: Title,
    /// The accent colour.
    pub primary_color: Color,
    /// A photo of the workspace that serves as its logo.
    pub logo_photo: Option<PhotoId>,
    /// The photographer's own site.
    pub website: Option<Website>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_names_and_never_paths() {
        for good in ["IMG_0001.jpg", "Zoë & Max – 1.CR3", "..jpg", "%2e%2e"] {
            assert!(good.parse::<FileName>().is_ok(), "{good}");
        }
        for bad in ["", "..", "a/b", "a\\b", "a\0b", "a\nb", &"x".repeat(256)] {
            assert!(bad.parse::<FileName>().is_err(), "{bad}");
            assert!(FileName::of_upload(bad).is_err(), "{bad}");
        }
    }

    /// 255 bytes on ext4, 255 UTF-16 units on NTFS and APFS: whatever one of them could hold.
    #[test]
    fn a_file_name_is_as_long_as_file_systems_allow() {
        for c in ["x", "ä", "写", "📷"] {
            let most = 255 / c.encode_utf16().count();
            assert!(c.repeat(most).parse::<FileName>().is_ok(), "{c}");
            assert!(c.repeat(most + 1).parse::<FileName>().is_err(), "{c}");
        }
    }

    #[test]
    fn names_that_deceive_are_refused_when_given_and_still_read_when_stored() {
        for bad in [
            "a\u{202E}gpj.exe",
            "\u{2066}a.jpg",
            "\u{200B}",
            "\u{3164}\u{2800}",
        ] {
            assert!(FileName::of_upload(bad).is_err(), "{bad:?}");
            assert!(bad.parse::<FileName>().is_ok(), "{bad:?}");
        }
        // What Persian and Hebrew names and emoji need is no deceit.
        for good in [
            "می\u{200C}خواهم.jpg",
            "שלום\u{200F}.jpg",
            "👩\u{200D}👧.jpg",
            "❤\u{FE0F}",
        ] {
            assert!(FileName::of_upload(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn websites_and_colours() {
        for good in [
            "https://example.com/a?b=c",
            "https://example.com/@studio",
            "https://example.com?mail=a@b.example",
            "http://example.com#@",
            "https://example.com:8443/",
        ] {
            assert!(good.parse::<Website>().is_ok(), "{good}");
        }
        for bad in [
            "javascript:alert(1)",
            "https://",
            "https:///x",
            "https://a b",
            "ftp://x",
            "https://user:password@example.com/",
            "https://user@example.com",
            "https://@example.com",
            "https://user:p%40ss@example.com?x=1",
            "https://a@b@example.com#f",
        ] {
            assert!(bad.parse::<Website>().is_err(), "{bad}");
        }
        assert!("#a0B1c2".parse::<Color>().is_ok());
        assert!("red".parse::<Color>().is_err());
    }
}
