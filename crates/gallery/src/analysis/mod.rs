//! What can be measured and said about a photo: the port, and what an analysis is.
//!
//! An analysis is a metered operation: a unit of the flow `ai_analysis` is held before it begins, renewed
//! while it runs, and settled in the transaction that stores its result. One that fails gives the unit back.
//!
//! Invariant: whatever the bytes say, all analyses of a process together take no more than
//! [`MAX_ENCODED_BYTES`] for files and [`MAX_DECODING_BYTES`] for decoding them; pixels are decoded on
//! the threads of [`Decoders`] alone, which renditions are made with too.
//!
//! Deliberately absent: colour management (what is measured is taken as sRGB), and anything that recognises people.

mod colors;
pub(crate) mod decode;
pub(crate) mod decoders;
mod jpeg;
mod local;
mod measure;
mod memory;
mod phash;
mod pool;
mod run;
pub(crate) mod shrink;
mod vision;

use std::error::Error;
use std::fmt;

use crate::id::PhotoId;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;

pub use decoders::Decoders;
pub use local::LocalAnalyzer;
pub use phash::PerceptualHash;
pub use run::{AnalysisError, Analyzed, NearDuplicate, analyze, near_duplicates};
pub use vision::{VisionAnalyzer, VisionSettings, VisionSetupError};

pub use crate::pixel_format::PixelFormat;
use crate::{BlobError, Color, Photo};

/// The most pixels that are decoded: the largest medium-format sensors have 102 million.
pub const MAX_PIXELS: u64 = 120_000_000;

/// No format that is decoded has longer sides than JPEG's and PNG's cameras write.
const MAX_SIDE: u32 = u16::MAX as u32;

/// The largest file that is decoded, in bytes, and what all that lie in memory at a time may have together.
pub const MAX_ENCODED_BYTES: u64 = 128 << 20;

/// What decoding may take, in bytes, of all images that are decoded at a time: three bytes for each of
/// [`MAX_PIXELS`], and what is kept and measured.
pub const MAX_DECODING_BYTES: u64 = 400 << 20;

/// The distance up to which two photos are near duplicates, in bits of 64. Resizing, compressing again and
/// slight changes of brightness stay well below; unrelated photos are about 32 apart.
pub const NEAR_DUPLICATE_DISTANCE: u32 = 10;

/// A photo as an analyser gets it.
pub struct Subject<'a> {
    /// How its pixels are stored.
    pub format: PixelFormat,
    /// How many bytes there are.
    pub size_bytes: u64,
    /// Its bytes: read when this is awaited, so that a photo which waits for its turn takes no memory.
    pub bytes: BoxFuture<'a, Result<Bytes, BlobError>>,
}

impl fmt::Debug for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("format", &self.format)
            .field("size_bytes", &self.size_bytes)
            .finish_non_exhaustive()
    }
}

/// Why a photo is not analysed, whatever analyser is asked: known before anything is held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Its format cannot be decoded.
    #[error("photos of the type {content_type} cannot be analysed: JPEG, PNG and WebP can")]
    Format {
        /// The photo's type.
        content_type: String,
    },
    /// It is larger than what is analysed.
    #[error(transparent)]
    TooLarge(#[from] Bound),
}

/// What an image is too large for; finishes the sentence "the photo …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Bound {
    /// Its pixels are too many.
    #[error("has more than {MAX_PIXELS} pixels")]
    Pixels,
    /// One of its sides is too long.
    #[error("has a side of more than {MAX_SIDE} pixels")]
    Side,
    /// Its file is too large.
    #[error("has more than {MAX_ENCODED_BYTES} bytes")]
    File,
    /// Decoding takes more memory than there is for it.
    #[error("takes more than {MAX_DECODING_BYTES} bytes of memory to decode")]
    Memory,
    /// Decoding goes through too many pixels, or through them too often.
    #[error(
        "takes more work to decode than one analysis does: its pixels times its scans are too many"
    )]
    Work,
}

/// The format to decode a photo by.
///
/// # Errors
/// It is not fit for analysis.
pub fn fitness(photo: &Photo) -> Result<PixelFormat, Unfit> {
    let format = PixelFormat::of(&photo.content_type).ok_or_else(|| Unfit::Format {
        content_type: photo.content_type.clone(),
    })?;
    if pixels(photo).is_some_and(|pixels| pixels > MAX_PIXELS) {
        return Err(Bound::Pixels.into());
    }
    if photo.size_bytes > MAX_ENCODED_BYTES {
        return Err(Bound::File.into());
    }
    Ok(format)
}

fn pixels(photo: &Photo) -> Option<u64> {
    Some(u64::from(photo.width?) * u64::from(photo.height?))
}

/// How light is distributed. Measured on sRGB luma (Rec. 709 weights), as a camera's histogram is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exposure {
    /// Mean luma, from 0 (black) to 1 (white).
    pub mean: f64,
    /// The share of pixels that are black or within two of 255 levels of it.
    pub shadows_clipped: f64,
    /// The share of pixels that are white or within two of 255 levels of it.
    pub highlights_clipped: f64,
}

/// One of a photo's main colours.
#[derive(Debug, Clone, PartialEq)]
pub struct DominantColor {
    /// The colour.
    pub color: Color,
    /// The share of pixels that look like it, from 0 to 1.
    pub share: f64,
}

/// What is measured of the pixels alone: the same bytes always measure the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurements {
    /// Variance of the Laplacian of the luma (0 to 255) on a picture whose longer side is 512 pixels, in
    /// squared levels: 0 for a plain surface, below about 100 for a blurred photo, at most 1,040,400.
    pub sharpness: f64,
    /// How light is distributed.
    pub exposure: Exposure,
    /// At most five, the largest share first. Shares sum to at most 1: traces of colour are left out.
    pub dominant_colors: Vec<DominantColor>,
    /// What near duplicates are found by.
    pub perceptual_hash: PerceptualHash,
}

/// What a model says about a photo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caption {
    /// A sentence or two.
    pub description: String,
    /// Lower-case keywords, the first the most important.
    pub tags: Vec<String>,
}

/// What an analyser found.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    /// Measured.
    pub measured: Measurements,
    /// Said, by analysers that can.
    pub caption: Option<Caption>,
}

/// A stored analysis.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// The photo.
    pub photo: PhotoId,
    /// What was found.
    pub findings: Findings,
    /// Who found it, by name and version.
    pub analyzer: String,
    /// When.
    pub analyzed_at: DateTime<Utc>,
}

/// Why an analyser found nothing.
#[derive(Debug, thiserror::Error)]
pub enum AnalyzeError {
    /// The pixels cannot be decoded. Final: the same bytes fail again.
    #[error("the image cannot be decoded: {0}")]
    Damaged(String),
    /// Decoding would take more than the bounds allow. Final.
    #[error("the image {0}")]
    TooLarge(Bound),
    /// Too many are waiting already. Nothing was done: try again later.
    #[error("too many photos are being analysed")]
    Busy,
    /// Something that the analyser needs did not answer as it should. Unknown: try again later.
    #[error("the analyser is unavailable")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
}

/// Finds out what can be known of a photo's pixels.
pub trait Analyzer: Send + Sync + fmt::Debug {
    /// Name and version, stored with each analysis.
    fn name(&self) -> &str;
    /// Analyses one photo. Dropping the future gives up; what was held for it is free soon after.
    fn analyze<'a>(&'a self, subject: Subject<'a>)
    -> BoxFuture<'a, Result<Findings, AnalyzeError>>;
}
