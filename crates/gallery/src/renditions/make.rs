//! How renditions are made.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use futures_util::FutureExt as _;
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder as _, RgbImage};
use rawdrive_tenancy_core::WorkspaceScope;

use super::colour::to_srgb;
use super::model::{Obstacle, Rendition, RenditionName, Renditions};
use crate::analysis::decode::{Decoded, Sides};
use crate::analysis::decoders::whole;
use crate::analysis::shrink::smaller;
use crate::analysis::{AnalyzeError, Decoders, Subject, Unfit, fitness};
use crate::{BlobError, Blobs, Photo};

/// An attempt that neither ends well nor says why not has taken too long, or has broken the server. After so many the
/// photo is left without renditions.
const MOST_ATTEMPTS: u32 = 8;

/// How well what is seen is kept, of 100.
const fn quality(name: RenditionName) -> u8 {
    match name {
        RenditionName::Thumb => 78,
        RenditionName::Web => 84,
    }
}

/// Why renditions are not made now. Try again later.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// What the decoders need does not answer, such as the photo's bytes.
    #[error("failed to decode a photo")]
    Decoders(#[source] AnalyzeError),
    /// The renditions cannot be stored.
    #[error("failed to store a rendition")]
    Blob(#[from] BlobError),
}

/// Makes renditions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RenditionMaker {
    blobs: Blobs,
    decoders: Decoders,
}

/// A rendition and its bytes.
struct Made {
    rendition: Rendition,
    bytes: Vec<u8>,
}

impl RenditionMaker {
    /// With the threads and the memory of these decoders.
    #[must_use]
    pub fn new(blobs: Blobs, decoders: Decoders) -> Self {
        Self { blobs, decoders }
    }

    /// Makes a photo's renditions and stores their bytes. Whoever asks records what they are, or takes the bytes back with
    /// [`Blobs::delete_renditions`]. `attempts` is how often it was begun.
    ///
    /// # Errors
    /// See [`MakeError`].
    pub async fn make(
        &self,
        scope: &WorkspaceScope,
        photo: &Photo,
        attempts: u32,
    ) -> Result<Renditions, MakeError> {
        let format = match fitness(photo) {
            Ok(format) => format,
            Err(Unfit::Format { .. }) => return Ok(Renditions::Impossible(Obstacle::Format)),
            Err(Unfit::TooLarge(_)) => return Ok(Renditions::Impossible(Obstacle::TooLarge)),
        };
        let name = photo.id.to_string();
        if attempts > MOST_ATTEMPTS && self.blobs.stored(scope, &name).await?.is_some() {
            let photo = photo.id;
            tracing::error!(%photo, attempts, "a photo's renditions are given up");
            return Ok(Renditions::Impossible(Obstacle::Damaged));
        }
        let subject = Subject {
            format,
            size_bytes: photo.size_bytes,
            bytes: whole(&self.blobs, scope, photo.id, photo.size_bytes).boxed(),
        };
        let sides = Sides::shown(RenditionName::Web.longest_side());
        let made = self.decoders.decoded(subject, sides, renditions_of).await;
        let (thumb, web) = match made {
            Ok(Some(made)) => made,
            Ok(None) | Err(AnalyzeError::Damaged(_)) => {
                return Ok(Renditions::Impossible(Obstacle::Damaged));
            }
            Err(AnalyzeError::TooLarge(_)) => {
                return Ok(Renditions::Impossible(Obstacle::TooLarge));
            }
            Err(error @ (AnalyzeError::Busy | AnalyzeError::Unavailable(_))) => {
                return Err(MakeError::Decoders(error));
            }
        };
        let ready = Renditions::Ready {
            thumb: thumb.rendition,
            web: web.rendition,
        };
        for (name, made) in [(RenditionName::Thumb, thumb), (RenditionName::Web, web)] {
            let bytes = Bytes::from(made.bytes);
            self.blobs
                .put_rendition(scope, photo.id, name, bytes)
                .await?;
        }
        Ok(ready)
    }
}

/// The thumb and the web rendition; nothing of a picture that cannot be encoded.
fn renditions_of(decoded: Decoded) -> Option<(Made, Made)> {
    let web = match &decoded.profile {
        Some(profile) => to_srgb(decoded.image, profile),
        None => decoded.image,
    };
    let thumb = smaller(&web, RenditionName::Thumb.longest_side());
    Some((
        encoded(&thumb, RenditionName::Thumb)?,
        encoded(&web, RenditionName::Web)?,
    ))
}

/// JPEG with its own header alone.
fn encoded(image: &RgbImage, name: RenditionName) -> Option<Made> {
    let (width, height) = image.dimensions();
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality(name))
        .write_image(image.as_raw(), width, height, ExtendedColorType::Rgb8)
        .ok()?;
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(digest(&SHA256, &bytes).as_ref());
    let rendition = Rendition {
        width,
        height,
        size_bytes: bytes.len() as u64,
        sha256,
    };
    Some(Made { rendition, bytes })
}
