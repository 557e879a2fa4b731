//! Sharpness and exposure.

use image::imageops::FilterType;
use image::{DynamicImage, RgbImage};

use super::{Exposure, Measurements, PerceptualHash, colors};

/// The longer side of the picture that sharpness is measured on, in pixels: one size for all, since a
/// photo looks the sharper the smaller it is shown.
const SIDE: u32 = 512;

/// Levels of 255 at either end of the scale that count as clipped.
const CLIPPED_LEVELS: f64 = 2.0;

/// Everything that is measured of an image.
pub(super) fn measure(image: &RgbImage) -> Measurements {
    let longer = image.width().max(image.height());
    let image = DynamicImage::ImageRgb8(image.clone());
    // Colours and light are read off a picture that was never enlarged: enlarging invents tones in between.
    let shrunk = if longer > SIDE {
        image.resize(SIDE, SIDE, FilterType::CatmullRom)
    } else {
        image
    };
    let sized = if longer < SIDE {
        shrunk.resize(SIDE, SIDE, FilterType::CatmullRom)
    } else {
        shrunk.clone()
    };
    let (shrunk, sized) = (shrunk.into_rgb8(), sized.into_rgb8());
    Measurements {
        sharpness: rounded(
            laplacian_variance(&luma(&sized), sized.width() as usize),
            100.0,
        ),
        exposure: exposure(&luma(&shrunk)),
        dominant_colors: colors::dominant(&shrunk),
        perceptual_hash: PerceptualHash::of(&shrunk),
    }
}

/// The luma of each pixel, 0 to 255, by the weights of Rec. 709.
pub(super) fn luma(image: &RgbImage) -> Vec<f64> {
    image
        .pixels()
        .map(|pixel| {
            let [r, g, b] = pixel.0.map(f64::from);
            0.2126 * r + 0.7152 * g + 0.0722 * b
        })
        .collect()
}

/// The variance of the Laplacian (the kernel 0 1 0 / 1 −4 1 / 0 1 0) over all inner pixels; 0 where there
/// are none.
fn laplacian_variance(luma: &[f64], width: usize) -> f64 {
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    let rows: Vec<&[f64]> = luma.chunks_exact(width).collect();
    for around in rows.windows(3) {
        for x in 1..width.saturating_sub(1) {
            let row = around[1];
            let value = around[0][x] + around[2][x] + row[x - 1] + row[x + 1] - 4.0 * row[x];
            count += 1.0;
            sum += value;
            squares += value * value;
        }
    }
    if count == 0.0 {
        return 0.0;
    }
    let mean = sum / count;
    (squares / count - mean * mean).max(0.0)
}

fn exposure(luma: &[f64]) -> Exposure {
    let count = luma.len().max(1) as f64;
    let share = |clipped: &dyn Fn(f64) -> bool| {
        luma.iter().filter(|level| clipped(**level)).count() as f64 / count
    };
    Exposure {
        mean: rounded(luma.iter().sum::<f64>() / count / 255.0, 10_000.0),
        shadows_clipped: rounded(share(&|level| level <= CLIPPED_LEVELS), 10_000.0),
        highlights_clipped: rounded(share(&|level| level >= 255.0 - CLIPPED_LEVELS), 10_000.0),
    }
}

/// To so many parts of one: further digits would be noise.
fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}
