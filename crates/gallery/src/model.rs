//! The things themselves, and the texts they carry.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use rawdrive_tenancy_core::id::{ClientId, GalleryId, LibraryId, PhotoId};
use serde::{Deserialize, Serialize};

/// What is wrong with a text; finishes the sentence "the field …".
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("{0}")]
pub struct TextError(&'static str);

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name(String);

        impl FromStr for $name {
            type Err = TextError;
            fn from_str(text: &str) -> Result<Self, TextError> {
                let check: fn(&str) -> Result<(), &'static str> = $check;
                let text = text.trim();
                check(text).map(|()| Self(text.to_owned())).map_err(TextError)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str { &self.0 }
        }
    };
}

text!(
    /// The name of a library, a gallery or a brand: 1 to 200 characters, trimmed.
    Title,
    |text| {
        if text.is_empty() || text.chars().count() > 200 || text.chars().any(char::is_control) {
            return Err("must be 1 to 200 characters without control characters");
        }
        Ok(())
    }
);

text!(
    /// The name a photo had on its owner's disk: shown and given back at download, never part of a path.
    FileName,
    |text| {
        if text.is_empty() || text.len() > 255 || text.chars().any(char::is_control) {
            return Err("must be 1 to 255 bytes without control characters");
        }
        if text.contains(['/', '\\']) || text == "." || text == ".." {
            return Err("must be a file's name without a path");
        }
        Ok(())
    }
);

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
    /// An http or https address.
    Website,
    |text| {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}');
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
    /// Pixels, where the header tells.
    pub width: Option<u32>,
    /// Pixels, where the header tells.
    pub height: Option<u32>,
    /// EXIF's time of capture, where there is one.
    pub taken_at: Option<DateTime<Utc>>,
    /// When it was uploaded.
    pub created_at: DateTime<Utc>,
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
        }
    }

    #[test]
    fn websites_and_colours() {
        assert!("https://example.com/a?b=c".parse::<Website>().is_ok());
        for bad in [
            "javascript:alert(1)",
            "https://",
            "https:///x",
            "https://a b",
            "ftp://x",
        ] {
            assert!(bad.parse::<Website>().is_err(), "{bad}");
        }
        assert!("#a0B1c2".parse::<Color>().is_ok());
        assert!("red".parse::<Color>().is_err());
    }
}
