//! Pixels out of bytes, within bounds.

use std::io::Cursor;

use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{
    DynamicImage, ImageDecoder as _, ImageError, ImageFormat, ImageReader, Limits, RgbImage,
};

use super::{AnalyzeError, MAX_PIXELS, PixelFormat};

/// The longer side of what is kept of an image, in pixels: enough to measure and to describe.
pub(super) const KEPT_SIDE: u32 = 1024;

/// The most bytes of decoded pixels: [`MAX_PIXELS`] of 8-bit colour with transparency.
const MAX_DECODED_BYTES: u64 = MAX_PIXELS * 4;

/// No format that is decoded has longer sides than JPEG's and PNG's cameras write.
const MAX_SIDE: u32 = u16::MAX as u32;

/// Decodes an image, turns it upright, lays it on white where it is transparent and scales it down to
/// [`KEPT_SIDE`]. The header is checked against the bounds before a pixel is decoded.
pub(super) fn decode(format: PixelFormat, bytes: &[u8]) -> Result<RgbImage, AnalyzeError> {
    let format = match format {
        PixelFormat::Jpeg => ImageFormat::Jpeg,
        PixelFormat::Png => ImageFormat::Png,
        PixelFormat::Webp => ImageFormat::WebP,
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(refused)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS
        || decoder.total_bytes() > MAX_DECODED_BYTES
    {
        return Err(AnalyzeError::TooLarge);
    }
    // A photo whose orientation cannot be read is shown as it lies, and is measured so.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(refused)?;
    // Averaging whole pixels is fast and good as long as there are many of them for each that is kept.
    if width.max(height) > 4 * KEPT_SIDE {
        image = image.thumbnail(2 * KEPT_SIDE, 2 * KEPT_SIDE);
    }
    if width.max(height) > KEPT_SIDE {
        image = image.resize(KEPT_SIDE, KEPT_SIDE, FilterType::CatmullRom);
    }
    image.apply_orientation(orientation);
    Ok(opaque(image))
}

fn refused(error: ImageError) -> AnalyzeError {
    match error {
        ImageError::Limits(_) => AnalyzeError::TooLarge,
        other => AnalyzeError::Damaged(other.to_string()),
    }
}

/// What is transparent is shown on white, as galleries are.
fn opaque(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let image = image.into_rgba8();
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [r, g, b, alpha] = image.get_pixel(x, y).0.map(u16::from);
        let over = |channel: u16| {
            let mixed = (channel * alpha + 255 * (255 - alpha) + 127) / 255;
            u8::try_from(mixed).unwrap_or(u8::MAX)
        };
        image::Rgb([over(r), over(g), over(b)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageEncoder as _, RgbaImage};

    fn png(image: &DynamicImage) -> Vec<u8> {
        let mut bytes = Vec::new();
        image
            .write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)
            .unwrap();
        bytes
    }

    /// A PNG that says it is of this size and holds a few bytes.
    fn bomb(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = png(&DynamicImage::new_rgb8(1, 1));
        bytes[16..20].copy_from_slice(&width.to_be_bytes());
        bytes[20..24].copy_from_slice(&height.to_be_bytes());
        let crc = crc32(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
            })
        })
    }

    #[test]
    fn a_bomb_is_refused_by_its_header() {
        for (width, height) in [(60_000, 60_000), (65_536, 1), (1, 70_000), (12_000, 10_001)] {
            let refused = decode(PixelFormat::Png, &bomb(width, height));
            assert!(
                matches!(refused, Err(AnalyzeError::TooLarge)),
                "{width} × {height}: {refused:?}"
            );
        }
        // The same file of a size that it has is decoded: the bomb fails by its size alone.
        assert!(decode(PixelFormat::Png, &bomb(1, 1)).is_ok());
    }

    #[test]
    fn damaged_and_foreign_bytes_are_no_image() {
        let whole = png(&DynamicImage::new_rgb8(64, 64));
        for bytes in [&whole[..whole.len() / 2], b"", b"GIF89a"] {
            let refused = decode(PixelFormat::Png, bytes);
            assert!(
                matches!(refused, Err(AnalyzeError::Damaged(_))),
                "{refused:?}"
            );
        }
        let mistaken = decode(PixelFormat::Jpeg, &whole);
        assert!(
            matches!(mistaken, Err(AnalyzeError::Damaged(_))),
            "{mistaken:?}"
        );
    }

    #[test]
    fn what_is_transparent_is_white() {
        let clear = RgbaImage::from_pixel(4, 4, image::Rgba([200, 0, 0, 0]));
        let seen = decode(PixelFormat::Png, &png(&clear.into())).unwrap();
        assert_eq!(seen.get_pixel(2, 2).0, [255, 255, 255]);
        let half = RgbaImage::from_pixel(4, 4, image::Rgba([0, 0, 0, 128]));
        let seen = decode(PixelFormat::Png, &png(&half.into())).unwrap();
        assert_eq!(seen.get_pixel(0, 0).0, [127, 127, 127]);
    }

    #[test]
    fn an_image_is_turned_upright_and_scaled_down() {
        // Exif of one entry: orientation 6, a quarter turn to the right.
        let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let wide = RgbImage::from_fn(2048, 1024, |x, _| {
            image::Rgb([if x < 1024 { 250 } else { 5 }; 3])
        });
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::jpeg::JpegEncoder::new(&mut bytes);
        encoder.set_exif_metadata(exif.to_vec()).unwrap();
        encoder
            .write_image(&wide, 2048, 1024, image::ExtendedColorType::Rgb8)
            .unwrap();
        let seen = decode(PixelFormat::Jpeg, &bytes).unwrap();
        assert_eq!(seen.dimensions(), (512, 1024));
        assert!(seen.get_pixel(256, 100).0[0] > 240 && seen.get_pixel(256, 900).0[0] < 15);
    }
}
