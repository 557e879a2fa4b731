//! Renditions are what the photo shows, and nothing else of it.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test are test code, which clippy knows of functions marked as tests alone"
)]

mod camera;
mod studio;

use image::{DynamicImage, ImageFormat, RgbImage, Rgba, RgbaImage};
use rawdrive_gallery::renditions::{Obstacle, RenditionName, Renditions};

use camera::{corners, exif, jpeg, xmp};
use studio::Studio;

/// What a picture shows in its corners, left to right and from the top.
fn seen(image: &RgbImage) -> [[u8; 3]; 4] {
    let (right, bottom) = (image.width() - 3, image.height() - 3);
    [(2, 2), (right, 2), (2, bottom), (right, bottom)].map(|(x, y)| image.get_pixel(x, y).0)
}

fn near(one: [u8; 3], other: [u8; 3]) -> bool {
    one.iter().zip(other).all(|(a, b)| a.abs_diff(b) < 24)
}

fn assert_seen(image: &RgbImage, what: &str) {
    let (found, expected) = (seen(image), camera::CORNERS);
    let same = found.iter().zip(expected).all(|(a, b)| near(*a, b));
    assert!(same, "{what}: {found:?}");
}

/// The names of a JPEG's application segments and comments.
fn metadata(jpeg: &[u8]) -> Vec<String> {
    let (mut at, mut found) = (2, Vec::new());
    while let [0xFF, code, high, low, ref rest @ ..] = jpeg[at..] {
        let length = usize::from(u16::from_be_bytes([high, low]));
        if matches!(code, 0xE0..=0xEF | 0xFE) {
            found.push(format!("{code:x} {}", rest[..4].escape_ascii()));
        }
        if code == 0xDA {
            return found;
        }
        at += 2 + length;
    }
    found
}

#[tokio::test]
async fn a_photo_is_upright_whichever_way_it_was_held_and_says_nothing_of_where() {
    let studio = Studio::open().await;
    for orientation in 1..=8 {
        let stored = camera::held(&corners(900, 600), orientation);
        let bytes = jpeg(&stored, &[exif(orientation), xmp()]);
        assert!(
            exif::Reader::new()
                .read_from_container(&mut std::io::Cursor::new(&bytes))
                .is_ok()
        );
        let found = studio.made("image/jpeg", &bytes).await;
        for (name, sides) in [
            (RenditionName::Thumb, (400, 267)),
            (RenditionName::Web, (900, 600)),
        ] {
            let what = format!("{orientation} {name}");
            let (rendition, bytes) = studio.rendition(&found, name).await;
            let image = image::load_from_memory_with_format(&bytes, ImageFormat::Jpeg);
            let image = image.unwrap().into_rgb8();
            assert_eq!((rendition.width, rendition.height), sides, "{what}");
            assert_eq!(image.dimensions(), sides, "{what}");
            assert_seen(&image, &what);
            assert_eq!(metadata(&bytes), ["e0 JFIF"], "{what}");
            let read = exif::Reader::new().read_from_container(&mut std::io::Cursor::new(&bytes));
            assert!(read.is_err(), "{what}");
            for secret in [&b"GPS"[..], b"Exif", b"xmp", b"ICC_PROFILE"] {
                let holds = bytes.windows(secret.len()).any(|w| w == secret);
                assert!(!holds, "{what} holds {}", secret.escape_ascii());
            }
        }
    }
}

#[tokio::test]
async fn wide_colours_are_shown_as_they_are_meant() {
    let studio = Studio::open().await;
    let profile = moxcms::ColorProfile::new_display_p3().encode().unwrap();
    let plain = DynamicImage::from(RgbImage::from_pixel(64, 64, image::Rgb([60, 200, 60])));
    let mut png = Vec::new();
    let mut encoder = image::codecs::png::PngEncoder::new(&mut png);
    image::ImageEncoder::set_icc_profile(&mut encoder, profile.clone()).unwrap();
    plain.write_with_encoder(encoder).unwrap();
    let mut webp = Vec::new();
    let mut encoder = image::codecs::webp::WebPEncoder::new_lossless(&mut webp);
    image::ImageEncoder::set_icc_profile(&mut encoder, profile.clone()).unwrap();
    plain.write_with_encoder(encoder).unwrap();
    let marked = jpeg(&plain.to_rgb8(), &[camera::icc(&profile)]);
    let unmarked = jpeg(&plain.to_rgb8(), &[]);
    for (what, media, bytes, red) in [
        ("JPEG", "image/jpeg", marked, 0..30),
        ("PNG", "image/png", png, 0..30),
        ("WebP", "image/webp", webp, 0..30),
        ("without a profile", "image/jpeg", unmarked, 54..67),
    ] {
        let found = studio.made(media, &bytes).await;
        let (_, bytes) = studio.rendition(&found, RenditionName::Web).await;
        let image = image::load_from_memory(&bytes).unwrap().into_rgb8();
        let pixel = image.get_pixel(32, 32).0;
        // The same green has less red in it in sRGB.
        assert!(
            red.contains(&pixel[0]) && pixel[1] > 190,
            "{what}: {pixel:?}"
        );
    }
}

#[tokio::test]
async fn every_format_that_is_decoded_is_shown_and_what_is_transparent_is_white() {
    let studio = Studio::open().await;
    let picture = DynamicImage::from(corners(300, 200));
    for (media, format) in [
        ("image/png", ImageFormat::Png),
        ("image/webp", ImageFormat::WebP),
        ("image/jpeg", ImageFormat::Jpeg),
    ] {
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        let found = studio.made(media, bytes.get_ref()).await;
        for name in RenditionName::ALL {
            let (rendition, bytes) = studio.rendition(&found, name).await;
            // What is smaller is not enlarged.
            assert_eq!((rendition.width, rendition.height), (300, 200), "{media}");
            let image = image::load_from_memory(&bytes).unwrap().into_rgb8();
            assert_seen(&image, media);
        }
    }
    let clear = DynamicImage::from(RgbaImage::from_pixel(9, 9, Rgba([9, 9, 9, 0])));
    let mut bytes = std::io::Cursor::new(Vec::new());
    clear.write_to(&mut bytes, ImageFormat::Png).unwrap();
    let found = studio.made("image/png", bytes.get_ref()).await;
    let (_, bytes) = studio.rendition(&found, RenditionName::Thumb).await;
    let image = image::load_from_memory(&bytes).unwrap().into_rgb8();
    assert!(near(image.get_pixel(4, 4).0, [255; 3]));
}

#[tokio::test]
async fn what_cannot_be_shown_says_why_and_leaves_no_bytes() {
    let studio = Studio::open().await;
    let whole = jpeg(&corners(64, 64), &[]);
    let table: [(&str, &[u8], Obstacle); 5] = [
        ("image/heic", b"not looked at", Obstacle::Format),
        ("image/tiff", b"II*\0", Obstacle::Format),
        (
            "image/jpeg",
            b"\xFF\xD8\xFF\xE0 no picture",
            Obstacle::Damaged,
        ),
        ("image/png", &whole, Obstacle::Damaged),
        (
            "image/png",
            &camera::bomb(65_535, 65_535),
            Obstacle::TooLarge,
        ),
    ];
    for (media, bytes, obstacle) in table {
        let found = studio.made(media, bytes).await;
        let expected = Renditions::Impossible(obstacle);
        assert_eq!(found.renditions, expected, "{media} {obstacle:?}");
        assert_eq!(studio.renditions_of(&found).await, [""; 0]);
    }
    // And it still makes those of a good one.
    let found = studio.made("image/jpeg", &whole).await;
    assert!(matches!(found.renditions, Renditions::Ready { .. }));
}

#[tokio::test]
async fn making_them_anew_comes_to_the_same_bytes() {
    let studio = Studio::open().await;
    let bytes = jpeg(&corners(2_500, 1_000), &[exif(6)]);
    let first = studio.made("image/jpeg", &bytes).await;
    let (thumb, _) = studio.rendition(&first, RenditionName::Thumb).await;
    assert_eq!((thumb.width, thumb.height), (160, 400));
    let again = studio.make(&first, 3).await;
    assert_eq!(again, first.renditions);
}

#[tokio::test]
async fn a_photo_that_broke_whoever_tried_is_left_without() {
    let studio = Studio::open().await;
    let bytes = jpeg(&corners(64, 64), &[]);
    let photo = studio.stored("image/jpeg", &bytes).await;
    let tried = studio.make(&photo, 8).await;
    assert!(matches!(tried, Renditions::Ready { .. }), "{tried:?}");
    let given_up = studio.make(&photo, 9).await;
    assert_eq!(given_up, Renditions::Impossible(Obstacle::Damaged));
}
