//! The numbers mean what their names say.

use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use rawdrive_gallery::analysis::{NEAR_DUPLICATE_DISTANCE, PerceptualHash, PixelFormat};

use crate::{PHOTOS, decoded, encoded, measured, measured_image};

#[tokio::test]
async fn the_more_a_photo_is_blurred_the_less_sharp_it_is() {
    for (name, format, bytes) in PHOTOS {
        let image = decoded(bytes);
        let sharp = measured(format, bytes).await.sharpness;
        let soft = measured_image(&image.blur(1.0)).await.sharpness;
        let blurred = measured_image(&image.blur(4.0)).await.sharpness;
        assert!(
            sharp > 1.5 * soft && soft > 1.5 * blurred && blurred > 0.0,
            "{name}: {sharp} {soft} {blurred}"
        );
    }
}

#[tokio::test]
async fn sharpness_is_that_of_one_size_whatever_size_the_photo_has() {
    let coffee = decoded(PHOTOS[2].2);
    let small = measured_image(&coffee).await.sharpness;
    let enlarged = coffee.resize(2400, 2400, FilterType::CatmullRom);
    let large = measured_image(&enlarged).await.sharpness;
    assert!((0.7..1.4).contains(&(large / small)), "{small} {large}");
}

#[tokio::test]
async fn a_plain_surface_has_no_edges_and_a_checkerboard_the_most() {
    let plain = RgbImage::from_pixel(512, 300, Rgb([90, 120, 30]));
    assert_eq!(measured_image(&plain.into()).await.sharpness, 0.0);
    let board = RgbImage::from_fn(512, 512, |x, y| Rgb([((x + y) % 2 * 255) as u8; 3]));
    assert_eq!(measured_image(&board.into()).await.sharpness, 1_040_400.0);
    // Too small to have an inner pixel once it is 512 wide.
    let line = RgbImage::from_pixel(512, 1, Rgb([255, 0, 0]));
    assert_eq!(measured_image(&line.into()).await.sharpness, 0.0);
}

#[tokio::test]
async fn a_brighter_photo_has_a_higher_mean() {
    for (name, _, bytes) in PHOTOS {
        let image = decoded(bytes);
        let mean = async |brighten| {
            measured_image(&image.brighten(brighten))
                .await
                .exposure
                .mean
        };
        let means = [mean(-60).await, mean(0).await, mean(60).await];
        assert!(
            means[0] < means[1] && means[1] < means[2],
            "{name}: {means:?}"
        );
    }
}

#[tokio::test]
async fn what_is_clipped_is_the_share_of_black_and_of_white() {
    // A quarter black, half grey, a quarter white.
    let image = RgbImage::from_fn(40, 10, |x, _| {
        Rgb([[0, 128, 128, 255][(x / 10) as usize]; 3])
    });
    let exposure = measured_image(&image.into()).await.exposure;
    assert_eq!(
        (exposure.shadows_clipped, exposure.highlights_clipped),
        (0.25, 0.25)
    );
    assert_eq!(exposure.mean, 0.501);
    for (level, mean, shadows, highlights) in [(0, 0.0, 1.0, 0.0), (255, 1.0, 0.0, 1.0)] {
        let image = RgbImage::from_pixel(9, 9, Rgb([level; 3]));
        let exposure = measured_image(&image.into()).await.exposure;
        assert_eq!(
            (
                exposure.mean,
                exposure.shadows_clipped,
                exposure.highlights_clipped
            ),
            (mean, shadows, highlights)
        );
    }
}

#[tokio::test]
async fn an_image_of_two_colours_has_these_two() {
    for (width, height) in [(16, 8), (300, 200), (2000, 1500)] {
        let image = RgbImage::from_fn(width, height, |x, _| {
            Rgb(if x < width / 2 {
                [0xe0, 0x30, 0x20]
            } else {
                [0x20, 0x40, 0xa0]
            })
        });
        let image = DynamicImage::ImageRgb8(image);
        let colors = measured_image(&image).await.dominant_colors;
        let told: Vec<_> = colors.iter().map(|c| c.color.as_str()).collect();
        assert_eq!(told, ["#2040a0", "#e03020"], "{width} × {height}");
        assert!(
            colors.iter().all(|c| (0.49..=0.5).contains(&c.share)),
            "{colors:?}"
        );
        // Compression adds fringes where the colours meet: they are traces, and the colours stay.
        let jpeg = encoded(&image, ImageFormat::Jpeg);
        let colors = measured(PixelFormat::Jpeg, jpeg).await.dominant_colors;
        assert_eq!(colors.len(), 2, "{width} × {height}: {colors:?}");
        for color in &colors {
            let near = [[0xe0, 0x30, 0x20], [0x20, 0x40, 0xa0]]
                .iter()
                .any(|wanted| {
                    let told = u32::from_str_radix(&color.color.as_str()[1..], 16).expect("hex");
                    let told = [told >> 16, told >> 8 & 255, told & 255];
                    told.iter().zip(wanted).all(|(a, b)| a.abs_diff(*b) < 8)
                });
            assert!(near, "{colors:?}");
        }
    }
}

fn jpeg(image: &DynamicImage, quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    image
        .write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality))
        .expect("memory takes every write");
    bytes
}

async fn hash(image: &DynamicImage) -> PerceptualHash {
    measured_image(image).await.perceptual_hash
}

#[tokio::test]
async fn a_photo_that_is_encoded_again_resized_or_slightly_brightened_stays_near() {
    for (name, format, bytes) in PHOTOS {
        let original = measured(format, bytes).await.perceptual_hash;
        let image = decoded(bytes);
        let (width, height) = (image.width(), image.height());
        let half = image.resize_exact(width / 2, height / 2, FilterType::Lanczos3);
        let enlarged = image.resize_exact(width * 3, height * 3, FilterType::CatmullRom);
        let variants = [
            (
                "JPEG 85",
                measured(PixelFormat::Jpeg, jpeg(&image, 85))
                    .await
                    .perceptual_hash,
            ),
            (
                "JPEG 40",
                measured(PixelFormat::Jpeg, jpeg(&image, 40))
                    .await
                    .perceptual_hash,
            ),
            ("half", hash(&half).await),
            ("enlarged", hash(&enlarged).await),
            ("brighter", hash(&image.brighten(12)).await),
            ("darker", hash(&image.brighten(-12)).await),
            ("more contrast", hash(&image.adjust_contrast(8.0)).await),
            ("softer", hash(&image.blur(1.0)).await),
            ("grey", hash(&image.grayscale()).await),
        ];
        for (change, variant) in variants {
            let distance = original.distance(variant);
            assert!(
                distance <= NEAR_DUPLICATE_DISTANCE,
                "{name}, {change}: {distance}"
            );
        }
    }
}

#[tokio::test]
async fn different_photos_are_far_apart() {
    let mut hashes = Vec::new();
    for (name, format, bytes) in PHOTOS {
        hashes.push((name, measured(format, bytes).await.perceptual_hash));
        // The same photo upside down is another picture.
        hashes.push((name, hash(&decoded(bytes).rotate180()).await));
    }
    for (i, (name, a)) in hashes.iter().enumerate() {
        for (other, b) in &hashes[..i] {
            let distance = a.distance(*b);
            assert!(
                distance > NEAR_DUPLICATE_DISTANCE + 4,
                "{name} and {other}: {distance}"
            );
        }
    }
}
