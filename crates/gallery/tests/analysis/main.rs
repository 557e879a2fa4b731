//! Analysers: what their numbers mean, and what every adapter keeps to.

mod contract;
mod endpoint;
mod meaning;
mod pool;

use std::io::Cursor;

use bytes::Bytes;
use futures_util::FutureExt as _;
use image::{DynamicImage, ImageFormat};
use rawdrive_gallery::analysis::{
    AnalyzeError, Analyzer, Findings, LocalAnalyzer, Measurements, PixelFormat, Subject,
};

/// The photographs that the repository ships.
const PHOTOS: [(&str, PixelFormat, &[u8]); 4] = [
    (
        "camera",
        PixelFormat::Png,
        include_bytes!("../../../../bins/rawdrive/assets/photos/camera.png"),
    ),
    (
        "chelsea",
        PixelFormat::Jpeg,
        include_bytes!("../../../../bins/rawdrive/assets/photos/chelsea.jpg"),
    ),
    (
        "coffee",
        PixelFormat::Jpeg,
        include_bytes!("../../../../bins/rawdrive/assets/photos/coffee.jpg"),
    ),
    (
        "grass",
        PixelFormat::Webp,
        include_bytes!("../../../../bins/rawdrive/assets/photos/grass.webp"),
    ),
];

fn subject(format: PixelFormat, bytes: impl Into<Bytes>) -> Subject<'static> {
    let bytes = bytes.into();
    Subject {
        format,
        size_bytes: bytes.len() as u64,
        bytes: async { Ok(bytes) }.boxed(),
    }
}

async fn analyzed(
    analyzer: &dyn Analyzer,
    format: PixelFormat,
    bytes: impl Into<Bytes>,
) -> Result<Findings, AnalyzeError> {
    analyzer.analyze(subject(format, bytes)).await
}

/// What a local analyser measures.
async fn measured(format: PixelFormat, bytes: impl Into<Bytes>) -> Measurements {
    let found = analyzed(&LocalAnalyzer::new(), format, bytes).await;
    found.expect("the image is whole").measured
}

async fn measured_image(image: &DynamicImage) -> Measurements {
    measured(PixelFormat::Png, encoded(image, ImageFormat::Png)).await
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    image
        .write_to(&mut Cursor::new(&mut bytes), format)
        .expect("memory takes every write");
    bytes
}

fn decoded(photo: &[u8]) -> DynamicImage {
    let image = image::load_from_memory(photo).expect("the photo is whole");
    DynamicImage::ImageRgb8(image.into_rgb8())
}
