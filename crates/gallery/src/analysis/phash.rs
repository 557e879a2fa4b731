//! A hash of what an image looks like.

use std::f64::consts::PI;
use std::fmt;

use image::{DynamicImage, RgbImage, imageops::FilterType};

use super::measure::luma;

/// The side of the square that is transformed, in pixels.
const SIDE: usize = 32;
/// Diagonals of the transform that the hash reads: enough for 64 coefficients without the mean.
const DIAGONALS: usize = 11;
/// Coefficients below this are noise of compression and rounding (of at most 8,160).
const DEAD_ZONE: f64 = 4.0;

/// 64 bits of an image's coarse structure: the signs, against their median, of the 64 lowest frequencies of
/// a cosine transform of its luma on 32 × 32 pixels. Colour and brightness as such do not enter it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PerceptualHash(u64);

impl PerceptualHash {
    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The hash of these bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// In how many bits of 64 two hashes differ.
    #[must_use]
    pub const fn distance(self, other: Self) -> u32 {
        (self.0 ^ other.0).count_ones()
    }

    pub(super) fn of(image: &RgbImage) -> Self {
        let side = SIDE as u32;
        let square = DynamicImage::ImageRgb8(image.clone())
            .resize_exact(side, side, FilterType::Triangle)
            .into_rgb8();
        let coefficients = lowest_frequencies(&luma(&square));
        let mut sorted = coefficients;
        sorted.sort_by(f64::total_cmp);
        let median = f64::midpoint(sorted[31], sorted[32]);
        Self(
            coefficients
                .iter()
                .fold(0, |bits, c| bits << 1 | u64::from(*c > median)),
        )
    }
}

impl fmt::Display for PerceptualHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for PerceptualHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The orthonormal cosine transform's 64 coefficients next to the mean, diagonal by diagonal.
fn lowest_frequencies(pixels: &[f64]) -> [f64; 64] {
    let wave = |frequency: usize, at: usize| {
        let scale = if frequency == 0 { 1.0 } else { 2.0 } / SIDE as f64;
        scale.sqrt() * ((2 * at + 1) as f64 * frequency as f64 * PI / (2 * SIDE) as f64).cos()
    };
    let mut waves = [[0.0; SIDE]; DIAGONALS];
    for (frequency, samples) in waves.iter_mut().enumerate() {
        for (at, sample) in samples.iter_mut().enumerate() {
            *sample = wave(frequency, at);
        }
    }
    // Rows first: the second sum then runs over 32 numbers instead of 1,024.
    let mut rows = [[0.0; DIAGONALS]; SIDE];
    for (row, pixels) in rows.iter_mut().zip(pixels.chunks_exact(SIDE)) {
        for (sum, samples) in row.iter_mut().zip(&waves) {
            *sum = pixels.iter().zip(samples).map(|(p, w)| p * w).sum();
        }
    }
    let mut coefficients = [0.0; 64];
    let order = (1..DIAGONALS).flat_map(|diagonal| (0..=diagonal).map(move |y| (diagonal - y, y)));
    for (coefficient, (x, y)) in coefficients.iter_mut().zip(order) {
        let value: f64 = rows.iter().zip(&waves[y]).map(|(row, w)| row[x] * w).sum();
        if value.abs() >= DEAD_ZONE {
            *coefficient = value;
        }
    }
    coefficients
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hash_is_sixteen_digits() {
        assert_eq!(
            PerceptualHash::from_bits(0xAB).to_string(),
            "00000000000000ab"
        );
    }

    #[test]
    fn a_plain_surface_has_no_structure() {
        let plain = |level| RgbImage::from_pixel(50, 40, image::Rgb([level; 3]));
        assert_eq!(PerceptualHash::of(&plain(10)).bits(), 0);
        assert_eq!(PerceptualHash::of(&plain(200)).bits(), 0);
    }

    proptest! {
        #[test]
        fn distance_is_a_metric(a: u64, b: u64, c: u64) {
            let [a, b, c] = [a, b, c].map(PerceptualHash::from_bits);
            prop_assert_eq!(a.distance(b), b.distance(a));
            prop_assert_eq!(a.distance(b) == 0, a == b);
            prop_assert!(a.distance(c) <= a.distance(b) + b.distance(c));
        }
    }
}
