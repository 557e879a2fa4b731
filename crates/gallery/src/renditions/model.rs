//! What there is of a photo's renditions.

use std::fmt;
use std::str::FromStr;

use rawdrive_tenancy_core::job::JobKind;
use serde::{Deserialize, Serialize};

use crate::id::PhotoId;
use crate::pixel_format::PixelFormat;

/// A kind of rendition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RenditionName {
    /// For a grid of many.
    Thumb,
    /// For a screen.
    Web,
}

/// There is no rendition of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be thumb or web")]
pub struct NoRendition;

impl RenditionName {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Thumb, Self::Web];

    /// The name on the wire and in the blob store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Thumb => "thumb",
            Self::Web => "web",
        }
    }

    /// The length of its longer side at most, in pixels. A photo that is smaller keeps its size.
    #[must_use]
    pub const fn longest_side(self) -> u32 {
        match self {
            Self::Thumb => 400,
            Self::Web => 2_048,
        }
    }
}

impl fmt::Display for RenditionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RenditionName {
    type Err = NoRendition;
    fn from_str(text: &str) -> Result<Self, NoRendition> {
        let mut all = Self::ALL.into_iter();
        all.find(|name| name.as_str() == text).ok_or(NoRendition)
    }
}

/// What a rendition is stored and sent as.
pub const RENDITION_TYPE: &str = "image/jpeg";

/// A rendition that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rendition {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Bytes.
    pub size_bytes: u64,
    /// SHA-256 of the bytes.
    pub sha256: [u8; 32],
}

/// Why a photo has no renditions, and will have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Its format is not decoded.
    Format,
    /// Its pixels cannot be decoded.
    Damaged,
    /// Decoding takes more than there is for it.
    TooLarge,
}

impl Obstacle {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Format, Self::Damaged, Self::TooLarge];

    /// The name in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Damaged => "damaged",
            Self::TooLarge => "too_large",
        }
    }
}

/// The renditions of a photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renditions {
    /// They are being made, or a command has still to have them made.
    Pending,
    /// They are there.
    Ready {
        /// For a grid.
        thumb: Rendition,
        /// For a screen.
        web: Rendition,
    },
    /// They cannot be made.
    Impossible(Obstacle),
}

impl Renditions {
    /// Those of a photo that has just come in.
    #[must_use]
    pub fn of_new(content_type: &str) -> Self {
        match PixelFormat::of(content_type) {
            Some(_) => Self::Pending,
            None => Self::Impossible(Obstacle::Format),
        }
    }

    /// The rendition of that name, if it is there.
    #[must_use]
    pub const fn get(&self, name: RenditionName) -> Option<&Rendition> {
        match (self, name) {
            (Self::Ready { thumb, .. }, RenditionName::Thumb) => Some(thumb),
            (Self::Ready { web, .. }, RenditionName::Web) => Some(web),
            (Self::Pending | Self::Impossible(_), _) => None,
        }
    }
}

/// Makes a photo's renditions, anew where there are some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MakeRenditions {
    /// The photo.
    pub photo: PhotoId,
}

impl JobKind for MakeRenditions {
    const NAME: &'static str = "make_renditions";
}
