//! Photos as cameras write them, made here.

use image::{DynamicImage, ImageEncoder as _, Rgb, RgbImage};

/// What [`corners`] shows, left to right and from the top.
pub(crate) const CORNERS: [[u8; 3]; 4] = [[220, 30, 30], [30, 180, 40], [40, 60, 220], [240; 3]];

/// A picture with another colour in each quarter.
pub(crate) fn corners(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let right = usize::from(x >= width / 2);
        let below = usize::from(y >= height / 2);
        Rgb(CORNERS[below * 2 + right])
    })
}

/// The pixels that a camera stores of an upright picture when it was held that way (Exif 2.32, 4.6.5.1.6).
pub(crate) fn held(upright: &RgbImage, orientation: u8) -> RgbImage {
    // All but the quarter turns undo themselves.
    let undone = match orientation {
        6 => 8,
        8 => 6,
        other => other,
    };
    let mut stored = DynamicImage::from(upright.clone());
    stored.apply_orientation(image::metadata::Orientation::from_exif(undone).unwrap());
    stored.into_rgb8()
}

/// A JPEG with segments behind its header.
pub(crate) fn jpeg(image: &RgbImage, segments: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (width, height) = image.dimensions();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95)
        .write_image(
            image.as_raw(),
            width,
            height,
            image::ExtendedColorType::Rgb8,
        )
        .unwrap();
    [&bytes[..2], &segments.concat(), &bytes[2..]].concat()
}

fn segment(code: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 2).unwrap().to_be_bytes();
    [&[0xFF, code], &length[..], body].concat()
}

/// Exif with an orientation, and the place where it was taken.
pub(crate) fn exif(orientation: u8) -> Vec<u8> {
    let entry = |tag: u16, kind: u16, count: u32, value: [u8; 4]| {
        [
            &tag.to_le_bytes()[..],
            &kind.to_le_bytes(),
            &count.to_le_bytes(),
            &value,
        ]
        .concat()
    };
    let tiff = [
        b"II*\0\x08\0\0\0".to_vec(),
        // The first directory, from 8 on: two entries.
        2_u16.to_le_bytes().to_vec(),
        entry(0x0112, 3, 1, [orientation, 0, 0, 0]),
        entry(0x8825, 4, 1, 38_u32.to_le_bytes()),
        vec![0; 4],
        // The place, from 38 on: two entries.
        2_u16.to_le_bytes().to_vec(),
        entry(1, 2, 2, *b"N\0\0\0"),
        entry(2, 5, 3, 68_u32.to_le_bytes()),
        vec![0; 4],
        // Degrees, minutes and seconds, from 68 on.
        [52_u32, 1, 31, 1, 12, 1]
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect(),
    ];
    segment(0xE1, &[&b"Exif\0\0"[..], &tiff.concat()].concat())
}

/// XMP with the place again.
pub(crate) fn xmp() -> Vec<u8> {
    let text = "<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:Description exif:GPSLatitude='52,31.2N'/></x:xmpmeta>";
    let name = b"http://ns.adobe.com/xap/1.0/\0";
    segment(0xE1, &[&name[..], text.as_bytes()].concat())
}

/// A colour profile.
pub(crate) fn icc(profile: &[u8]) -> Vec<u8> {
    // In two parts, the second before the first, as no camera writes it and every reader must take it.
    let (first, second) = profile.split_at(profile.len() / 2);
    let part = |number: u8, bytes: &[u8]| {
        segment(0xE2, &[&b"ICC_PROFILE\0"[..], &[number, 2], bytes].concat())
    };
    [part(2, second), part(1, first)].concat()
}

/// A PNG's header that says it has this size, and nothing behind it but its end.
pub(crate) fn bomb(width: u32, height: u32) -> Vec<u8> {
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let named = [&kind[..], data].concat();
        let crc = !named.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
            })
        });
        let length = u32::try_from(data.len()).unwrap().to_be_bytes();
        [&length[..], &named, &crc.to_be_bytes()].concat()
    };
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let header = [&size[..], &[8, 2, 0, 0, 0]].concat();
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &header),
        chunk(b"IDAT", b"x"),
        chunk(b"IEND", b""),
    ]
    .concat()
}
