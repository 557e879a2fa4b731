//! Smaller copies of photos, for looking at: what there is of each photo, and how it is made.
//!
//! A job makes them after the upload: decoded within the bounds of [`Decoders`](crate::analysis::Decoders), upright, in
//! sRGB, as JPEG, and without a byte of the original's metadata. Making them again comes to the same bytes, so that a job
//! that is carried out twice changes nothing.
//!
//! Invariant: a rendition lies beside the originals of its workspace, under its photo's id, and goes when the photo goes.
//! Whoever makes one looks for the photo once more afterwards, in the transaction that records it, and takes the bytes
//! back where there is none.
//!
//! Deliberately absent: WebP (the encoders that are kept write it without loss, which is larger), renditions of HEIC,
//! TIFF and RAW, and metering: nobody asked for these bytes.

mod colour;
mod make;
pub(crate) mod model;

pub use make::{MakeError, RenditionMaker};
pub use model::{
    MakeRenditions, NoRendition, Obstacle, RENDITION_TYPE, Rendition, RenditionName, Renditions,
};
