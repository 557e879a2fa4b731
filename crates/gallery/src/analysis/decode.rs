//! Pixels out of bytes, within bounds.

use std::io::Cursor;

use bytes::Bytes;
use image::{DynamicImage, RgbImage};
use png::{DecodeOptions, Transformations};

use super::jpeg;
use super::memory::transient;
use super::shrink::Shrinker;
use super::{AnalyzeError, Bound, MAX_PIXELS, MAX_SIDE, PixelFormat};
use crate::{Finding, ImageFacts, InspectError, Inspector, MediaType, Orientation};

/// How much of an image is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sides {
    /// The longer side down to which an image is averaged while it is decoded, in whole steps.
    pub(super) averaged: u32,
    /// The longer side of what is kept, in pixels.
    pub(super) kept: u32,
    /// Whether the colour profile is wanted.
    profile: bool,
    /// What is kept, and what is made of it, takes this much, whatever the image.
    kept_bytes: u64,
}

impl Sides {
    /// Enough to measure and to describe.
    pub(super) const MEASURED: Self = Self {
        averaged: 1280,
        kept: 1024,
        profile: false,
        kept_bytes: 16 << 20,
    };

    /// What people are shown: at most `side` along the longer side.
    pub(crate) const fn shown(side: u32) -> Self {
        // Three bytes a pixel, of which there are copies in other colours and sides, and the encoded ones.
        let kept_bytes = side as u64 * side as u64 * 9 + MAX_PROFILE_BYTES as u64 * 4;
        Self {
            averaged: side,
            kept: side,
            profile: true,
            kept_bytes,
        }
    }
}

/// The largest colour profile that is looked into, in bytes; a picture with a larger one is taken as sRGB.
pub(super) const MAX_PROFILE_BYTES: usize = 4 << 20;

/// What the chunks of a PNG may take that are read into memory: palette, transparency, Exif.
const PNG_CHUNK_BYTES: usize = 4 << 20;

/// Columns, rows and steps of the passes of an interlaced PNG (W3C PNG, 8.1).
const PASSES: [Pass; 7] = [
    Pass::new((0, 8), (0, 8)),
    Pass::new((4, 8), (0, 8)),
    Pass::new((0, 4), (4, 8)),
    Pass::new((2, 4), (0, 4)),
    Pass::new((0, 2), (2, 4)),
    Pass::new((1, 2), (0, 2)),
    Pass::new((0, 1), (1, 2)),
];

/// An image that is fit to be decoded.
#[derive(Debug)]
pub(super) struct Encoded {
    bytes: Bytes,
    plan: Plan,
    averaged_bytes: u64,
    orientation: Orientation,
    sides: Sides,
}

/// A picture out of a file.
pub(crate) struct Decoded {
    /// Upright, on white where it was transparent.
    pub(crate) image: RgbImage,
    /// What its colours mean (ICC.1), where the file says so and it was asked for.
    pub(crate) profile: Option<Vec<u8>>,
}

#[derive(Debug)]
enum Plan {
    Jpeg(jpeg::Plan),
    Png { row_bytes: u64 },
    Webp { decoding_bytes: u64 },
}

impl Encoded {
    /// Looks at an image's header. No pixel is decoded.
    pub(super) fn open(
        format: PixelFormat,
        bytes: Bytes,
        sides: Sides,
    ) -> Result<Self, AnalyzeError> {
        let facts =
            facts(format, &bytes).map_err(|error| AnalyzeError::Damaged(error.to_string()))?;
        let (width, height) = facts.width.zip(facts.height).unwrap_or_default();
        if width.max(height) > MAX_SIDE {
            return Err(AnalyzeError::TooLarge(Bound::Side));
        }
        let pixels = u64::from(width) * u64::from(height);
        if pixels > MAX_PIXELS {
            return Err(AnalyzeError::TooLarge(Bound::Pixels));
        }
        let plan = match format {
            PixelFormat::Jpeg => Plan::Jpeg(jpeg::Plan::read(&bytes)?),
            // Eight bytes are the largest pixel.
            PixelFormat::Png => Plan::Png {
                row_bytes: u64::from(width.max(height)) * 8,
            },
            PixelFormat::Webp => Plan::Webp {
                decoding_bytes: pixels * webp_bytes_a_pixel(&bytes)? + bytes.len() as u64,
            },
        };
        Ok(Self {
            bytes,
            plan,
            averaged_bytes: Shrinker::bytes(width, height, sides.averaged),
            orientation: facts.orientation.unwrap_or_default(),
            sides,
        })
    }

    /// The most bytes that decoding takes beside the file itself.
    pub(super) fn decoding_bytes(&self) -> u64 {
        self.sides.kept_bytes
            + self.averaged_bytes
            + match &self.plan {
                Plan::Jpeg(plan) => plan.decoding_bytes(),
                // Two rows as they are stored and two as they are given out, rounded up; and the chunks.
                Plan::Png { row_bytes } => row_bytes * 8 + PNG_CHUNK_BYTES as u64,
                Plan::Webp { decoding_bytes } => *decoding_bytes,
            }
    }

    /// Decodes the image, turns it upright, lays it on white where it is transparent and scales it down.
    pub(super) fn decode(self) -> Result<Decoded, AnalyzeError> {
        let sides = self.sides;
        let profile = sides.profile.then(|| self.profile()).flatten();
        let small = match &self.plan {
            Plan::Jpeg(plan) => plan.decode(self.bytes, sides),
            Plan::Png { .. } => decode_png(&self.bytes, sides),
            Plan::Webp { .. } => decode_webp(&self.bytes, sides),
        };
        let mut upright = DynamicImage::ImageRgb8(small?);
        let orientation = image::metadata::Orientation::from_exif(self.orientation.get());
        if let Some(orientation) = orientation {
            upright.apply_orientation(orientation);
        }
        Ok(Decoded {
            image: upright.into_rgb8(),
            profile,
        })
    }

    /// The colour profile; nothing for one that cannot be read.
    fn profile(&self) -> Option<Vec<u8>> {
        let profile = match &self.plan {
            Plan::Jpeg(_) => jpeg::profile(&self.bytes),
            Plan::Png { .. } => {
                let mut decoder = png::Decoder::new(Cursor::new(&self.bytes[..]));
                decoder.set_limits(png::Limits {
                    bytes: MAX_PROFILE_BYTES,
                });
                decoder.set_ignore_text_chunk(true);
                let reader = decoder.read_info().ok()?;
                reader.info().icc_profile.as_ref().map(|p| p.to_vec())
            }
            Plan::Webp { .. } => {
                let mut decoder = webp_decoder(&self.bytes).ok()?;
                decoder.set_memory_limit(MAX_PROFILE_BYTES);
                decoder.icc_profile().ok()?
            }
        };
        profile.filter(|profile| profile.len() <= MAX_PROFILE_BYTES)
    }
}

fn facts(format: PixelFormat, bytes: &[u8]) -> Result<ImageFacts, InspectError> {
    let mut inspector = Inspector::new(match format {
        PixelFormat::Jpeg => MediaType::Jpeg,
        PixelFormat::Png => MediaType::Png,
        PixelFormat::Webp => MediaType::Webp,
    });
    inspector.push(bytes)?;
    // Whatever was stored is decoded as far as it goes.
    let (Finding::Whole(facts) | Finding::Open(facts)) = inspector.finish()?;
    Ok(facts)
}

/// A pass of an interlaced picture: first and step, of columns and of rows.
#[derive(Clone, Copy)]
struct Pass {
    columns: (u32, u32),
    rows: (u32, u32),
}

impl Pass {
    const fn new(columns: (u32, u32), rows: (u32, u32)) -> Self {
        Self { columns, rows }
    }

    /// Whether it has pixels in a picture of this width.
    const fn reaches(self, width: u32) -> bool {
        self.columns.0 < width
    }
}

/// Row by row: the picture never lies in memory as a whole. Profiles and texts are passed over.
fn decode_png(bytes: &[u8], sides: Sides) -> Result<RgbImage, AnalyzeError> {
    let refused = |error| match error {
        png::DecodingError::LimitsExceeded => AnalyzeError::TooLarge(Bound::Memory),
        other => AnalyzeError::Damaged(other.to_string()),
    };
    let mut options = DecodeOptions::default();
    options.set_ignore_text_chunk(true);
    options.set_ignore_iccp_chunk(true);
    let mut decoder = png::Decoder::new_with_options(Cursor::new(bytes), options);
    decoder.set_limits(png::Limits {
        bytes: PNG_CHUNK_BYTES + MAX_SIDE as usize * 8,
    });
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(refused)?;
    let (width, height) = reader.info().size();
    let interlaced = reader.info().interlaced;
    let (color, _) = reader.output_color_type();
    let mut shrinker = Shrinker::new(width, height, sides.averaged);
    let whole = [Pass::new((0, 1), (0, 1))];
    let passes = if interlaced { &PASSES[..] } else { &whole };
    for pass in passes.iter().filter(|pass| pass.reaches(width)) {
        let (first, step) = pass.columns;
        for y in (pass.rows.0..height).step_by(pass.rows.1 as usize) {
            let row = reader.next_row().map_err(refused)?;
            let row = row.ok_or_else(|| AnalyzeError::Damaged("rows are missing".to_owned()))?;
            let row = row.data();
            match color {
                png::ColorType::Grayscale => {
                    shrinker.add(y, first, step, row.iter().map(|level| [*level; 3]));
                }
                png::ColorType::GrayscaleAlpha => {
                    let pixels = row.as_chunks::<2>().0.iter();
                    shrinker.add(
                        y,
                        first,
                        step,
                        pixels.map(|[l, a]| on_white([*l, *l, *l, *a])),
                    );
                }
                png::ColorType::Rgba => {
                    let pixels = row.as_chunks::<4>().0.iter();
                    shrinker.add(y, first, step, pixels.map(|pixel| on_white(*pixel)));
                }
                png::ColorType::Rgb | png::ColorType::Indexed => {
                    shrinker.add(y, first, step, row.as_chunks::<3>().0.iter().copied());
                }
            }
        }
    }
    Ok(shrinker.finish().resized(sides.kept))
}

/// Planes or pixels of four channels, their copy into the answer, and what transparency and transformations take.
fn webp_bytes_a_pixel(bytes: &[u8]) -> Result<u64, AnalyzeError> {
    let mut decoder = webp_decoder(bytes)?;
    Ok(
        match (
            decoder.is_animated(),
            decoder.has_alpha(),
            decoder.is_lossy(),
        ) {
            (true, ..) => 24,
            (_, true, _) => 12,
            (_, _, true) => 5,
            (_, _, false) => 9,
        },
    )
}

fn webp_decoder(bytes: &[u8]) -> Result<image_webp::WebPDecoder<Cursor<&[u8]>>, AnalyzeError> {
    image_webp::WebPDecoder::new(Cursor::new(bytes)).map_err(webp_refused)
}

fn webp_refused(error: image_webp::DecodingError) -> AnalyzeError {
    match error {
        image_webp::DecodingError::MemoryLimitExceeded
        | image_webp::DecodingError::ImageTooLarge => AnalyzeError::TooLarge(Bound::Memory),
        other => AnalyzeError::Damaged(other.to_string()),
    }
}

fn decode_webp(bytes: &[u8], sides: Sides) -> Result<RgbImage, AnalyzeError> {
    let mut decoder = webp_decoder(bytes)?;
    let (width, height) = decoder.dimensions();
    let size = decoder.output_buffer_size();
    let size = size.ok_or(AnalyzeError::TooLarge(Bound::Memory))?;
    let mut pixels = transient(size);
    pixels.resize(size, 0);
    decoder.read_image(&mut pixels).map_err(webp_refused)?;
    let mut shrinker = Shrinker::new(width, height, sides.averaged);
    let channels = if decoder.has_alpha() { 4 } else { 3 };
    for (y, row) in (0..height).zip(pixels.chunks_exact(width as usize * channels)) {
        match channels {
            4 => {
                let pixels = row.as_chunks::<4>().0.iter();
                shrinker.add(y, 0, 1, pixels.map(|pixel| on_white(*pixel)));
            }
            _ => shrinker.add(y, 0, 1, row.as_chunks::<3>().0.iter().copied()),
        }
    }
    Ok(shrinker.finish().resized(sides.kept))
}

/// What is transparent is shown on white, as galleries are.
fn on_white([r, g, b, alpha]: [u8; 4]) -> [u8; 3] {
    let alpha = u16::from(alpha);
    [r, g, b].map(|channel| {
        let mixed = (u16::from(channel) * alpha + 255 * (255 - alpha) + 127) / 255;
        u8::try_from(mixed).unwrap_or(u8::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageEncoder as _, ImageFormat, RgbaImage};

    fn decode(format: PixelFormat, bytes: &[u8]) -> Result<RgbImage, AnalyzeError> {
        let encoded = Encoded::open(format, Bytes::copy_from_slice(bytes), Sides::MEASURED)?;
        Ok(encoded.decode()?.image)
    }

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
                matches!(
                    refused,
                    Err(AnalyzeError::TooLarge(Bound::Pixels | Bound::Side))
                ),
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

    /// A chunk of a PNG.
    fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let named = [&kind[..], data].concat();
        let length = u32::try_from(data.len()).unwrap().to_be_bytes();
        [&length[..], &named, &crc32(&named).to_be_bytes()].concat()
    }

    fn noise(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let seed =
                (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)).wrapping_mul(747_796_405);
            image::Rgb([(seed >> 24) as u8, (seed >> 16) as u8, (x + y) as u8])
        })
    }

    #[test]
    fn an_interlaced_picture_is_the_same_as_one_in_rows() {
        for (width, height) in [(1, 1), (3, 2), (5, 9), (33, 17)] {
            let image = noise(width, height);
            let mut raw = Vec::new();
            for pass in PASSES.iter().filter(|pass| pass.reaches(width)) {
                for y in (pass.rows.0..height).step_by(pass.rows.1 as usize) {
                    raw.push(0);
                    for x in (pass.columns.0..width).step_by(pass.columns.1 as usize) {
                        raw.extend(image.get_pixel(x, y).0);
                    }
                }
            }
            let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
            header.extend([8, 2, 0, 0, 1]);
            // zlib with one stored block: the pictures are small.
            let length = u16::try_from(raw.len()).unwrap();
            let (a, b) = raw.iter().fold((1_u32, 0_u32), |(a, b), byte| {
                let a = (a + u32::from(*byte)) % 65_521;
                (a, (b + a) % 65_521)
            });
            let zlib = [
                &[0x78, 0x01, 1][..],
                &length.to_le_bytes(),
                &(!length).to_le_bytes(),
                &raw,
                &(b << 16 | a).to_be_bytes(),
            ]
            .concat();
            let bytes = [
                b"\x89PNG\r\n\x1A\n".to_vec(),
                chunk(b"IHDR", &header),
                chunk(b"IDAT", &zlib),
                chunk(b"IEND", b""),
            ]
            .concat();
            assert_eq!(
                decode(PixelFormat::Png, &bytes).unwrap(),
                image,
                "{width} × {height}"
            );
        }
    }

    #[test]
    fn every_colour_of_png_is_decoded_alike() {
        let image = DynamicImage::ImageRgb8(noise(40, 30));
        let grey = decode(PixelFormat::Png, &png(&image.to_luma8().into())).unwrap();
        let same = |bytes: &[u8], expected: &RgbImage| {
            assert_eq!(&decode(PixelFormat::Png, bytes).unwrap(), expected)
        };
        same(&png(&image), &image.to_rgb8());
        same(&png(&image.to_rgba8().into()), &image.to_rgb8());
        same(&png(&image.to_rgb16().into()), &image.to_rgb8());
        same(&png(&image.to_luma_alpha8().into()), &grey);
        assert_eq!(grey, DynamicImage::from(image.to_luma8()).to_rgb8());
    }

    /// 34 bytes that say they are 115 megapixels.
    #[test]
    fn what_decoding_takes_is_known_before_anything_is_decoded() {
        let bits = (14_000_u32 - 1) | (8_200 - 1) << 14;
        let webp = [
            &b"RIFF\x1A\0\0\0WEBPVP8L\x0D\0\0\0\x2F"[..],
            &bits.to_le_bytes(),
            b"\x88\x88\x08\0\0\0\0\0\0",
        ]
        .concat();
        let webp = Encoded::open(PixelFormat::Webp, webp.into(), Sides::MEASURED).unwrap();
        assert!(webp.decoding_bytes() > 1_000_000_000);

        let segment = |code: u8, body: &[u8]| {
            let length = u16::try_from(body.len() + 2).unwrap().to_be_bytes();
            [&[0xFF, code], &length[..], body].concat()
        };
        let jpeg = |code: u8, components: u8, scans: usize| {
            let mut frame = vec![8, 0x27, 0x10, 0x27, 0x10, components];
            frame.extend((0..components).flat_map(|id| [id, 0x11, 0]));
            let mut scan = vec![components];
            scan.extend((0..components).flat_map(|id| [id, 0]));
            scan.extend([0, 0, 0]);
            let scan = [segment(0xDA, &scan), b"x".to_vec()].concat().repeat(scans);
            let bytes = [
                b"\xFF\xD8".to_vec(),
                segment(code, &frame),
                scan,
                b"\xFF\xD9".to_vec(),
            ]
            .concat();
            Encoded::open(PixelFormat::Jpeg, bytes.into(), Sides::MEASURED)
                .map(|image| image.decoding_bytes())
        };
        // 100 megapixels: three bytes each, and two for each coefficient where they are kept.
        let fixed = Sides::MEASURED.kept_bytes + (32 << 20);
        assert!((300_000_000..300_000_000 + fixed).contains(&jpeg(0xC0, 3, 1).unwrap()));
        assert!((100_000_000..100_000_000 + fixed).contains(&jpeg(0xC0, 1, 1).unwrap()));
        assert!(jpeg(0xC2, 4, 2).unwrap() > 1_100_000_000);
        assert!(matches!(
            jpeg(0xC2, 1, 65),
            Err(AnalyzeError::TooLarge(Bound::Work))
        ));
        assert!(matches!(
            jpeg(0xC2, 3, 60),
            Err(AnalyzeError::TooLarge(Bound::Work))
        ));
    }

    /// What a PNG says of its colours and in words is never unpacked.
    #[test]
    fn profiles_and_texts_are_passed_over() {
        let whole = png(&DynamicImage::ImageRgb8(noise(10, 10)));
        let (head, rest) = whole.split_at(33);
        for kind in [b"iCCP", b"zTXt", b"iTXt", b"tEXt", b"abCd"] {
            let broken = chunk(kind, b"name\0\0no zlib stream");
            let bytes = [head, &broken, rest].concat();
            assert_eq!(decode(PixelFormat::Png, &bytes).unwrap(), noise(10, 10));
        }
    }
}
