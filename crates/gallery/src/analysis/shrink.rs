//! A picture made smaller while its rows come, so that the whole of it need not lie in memory.

use image::RgbImage;

use super::memory::transient;

/// Averages squares of pixels. Rows may come in any order and in parts, as interlaced pictures have them.
pub(crate) struct Shrinker {
    size: (u32, u32),
    factor: u32,
    /// Sides in squares.
    width: u32,
    height: u32,
    row: Vec<f32>,
    sums: Vec<f32>,
}

impl Shrinker {
    /// Of a picture with these sides, down to `side` or somewhat more along the longer one.
    pub(crate) fn new(width: u32, height: u32, side: u32) -> Self {
        let factor = factor(width, height, side);
        let (across, down) = (width.div_ceil(factor), height.div_ceil(factor));
        let samples = across as usize * 3;
        let mut sums = transient(samples * down as usize);
        sums.resize(samples * down as usize, 0.0);
        Self {
            size: (width, height),
            factor,
            width: across,
            height: down,
            row: vec![0.0; samples],
            sums,
        }
    }

    /// The bytes that averages take.
    pub(super) fn bytes(width: u32, height: u32, side: u32) -> u64 {
        let factor = factor(width, height, side);
        let squares = u64::from(width.div_ceil(factor)) * u64::from(height.div_ceil(factor));
        squares * 3 * size_of::<f32>() as u64
    }

    /// Adds pixels of row `y`, of every `step`th column from `first` on.
    pub(crate) fn add(
        &mut self,
        y: u32,
        first: u32,
        step: u32,
        pixels: impl Iterator<Item = [u8; 3]>,
    ) {
        self.row.fill(0.0);
        let columns = (first..self.size.0).step_by(step as usize);
        for (pixel, column) in pixels.zip(columns) {
            let at = (column / self.factor) as usize * 3;
            for (sum, value) in self.row[at..at + 3].iter_mut().zip(pixel) {
                *sum += f32::from(value);
            }
        }
        let at = (y / self.factor) as usize * self.row.len();
        let sums = self.sums[at..].iter_mut();
        for (sum, value) in sums.zip(&self.row) {
            *sum += value;
        }
    }

    /// The averages, once all rows have been added.
    pub(crate) fn finish(mut self) -> Averaged {
        // The last squares are cut off where a side is no multiple.
        let share = |at: u32, length: u32| f64::from((length - at * self.factor).min(self.factor));
        let rows = self.sums.chunks_exact_mut(self.row.len());
        for (y, row) in (0..self.height).zip(rows) {
            let down = share(y, self.size.1);
            for (x, pixel) in (0..self.width).zip(row.as_chunks_mut::<3>().0) {
                let count = (down * share(x, self.size.0)) as f32;
                for sample in pixel {
                    *sample /= count;
                }
            }
        }
        Averaged {
            width: self.width,
            height: self.height,
            samples: self.sums,
        }
    }
}

/// How many pixels along each side are averaged into one.
fn factor(width: u32, height: u32, side: u32) -> u32 {
    (width.max(height) / side).max(1)
}

/// A picture between averaging and its final size.
pub(crate) struct Averaged {
    width: u32,
    height: u32,
    samples: Vec<f32>,
}

impl Averaged {
    /// At most `side` along the longer side, by Catmull and Rom's filter: averaging alone would blur what is measured.
    pub(crate) fn resized(self, side: u32) -> RgbImage {
        let (width, height) = scaled(self.width, self.height, side);
        let across = taps(self.width, width);
        let wide = self.width as usize * 3;
        let mut row = vec![0.0; wide];
        let mut pixels = Vec::with_capacity(width as usize * height as usize * 3);
        for (first, weights) in taps(self.height, height) {
            row.fill(0.0);
            let rows = self.samples.chunks_exact(wide).skip(first);
            for (weight, samples) in weights.iter().zip(rows) {
                for (sum, sample) in row.iter_mut().zip(samples) {
                    *sum += weight * sample;
                }
            }
            for (first, weights) in &across {
                let mut pixel = [0.5; 3];
                for (weight, samples) in weights.iter().zip(row.as_chunks::<3>().0[*first..].iter())
                {
                    for (sum, sample) in pixel.iter_mut().zip(samples) {
                        *sum += weight * sample;
                    }
                }
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a float becomes the nearest level, and what the filter overshoots is cut"
                )]
                pixels.extend(pixel.map(|sum: f32| sum as u8));
            }
        }
        RgbImage::from_raw(width, height, pixels).unwrap_or_default()
    }
}

/// A picture of at most `side` along the longer side.
pub(crate) fn smaller(image: &RgbImage, side: u32) -> RgbImage {
    let mut shrinker = Shrinker::new(image.width(), image.height(), side);
    for (y, row) in (0..).zip(image.rows()) {
        shrinker.add(y, 0, 1, row.map(|pixel| pixel.0));
    }
    shrinker.finish().resized(side)
}

/// Sides of at most `side`; never larger than they were.
fn scaled(width: u32, height: u32, side: u32) -> (u32, u32) {
    let longer = width.max(height).max(1);
    let scale = |length: u32| {
        let doubled = u64::from(length) * u64::from(side) * 2 + u64::from(longer);
        let scaled = u32::try_from(doubled / (2 * u64::from(longer))).unwrap_or(side);
        if longer > side { scaled } else { length }.max(1)
    };
    (scale(width), scale(height))
}

/// For each place of a shorter line: the first place of the longer one that counts in it, and the weights of this one
/// and those behind it. They sum to 1.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "places lie within a picture's sides"
)]
fn taps(from: u32, to: u32) -> Vec<(usize, Vec<f32>)> {
    let ratio = f64::from(from) / f64::from(to);
    let taps = (0..to).map(|at| {
        let centre = (f64::from(at) + 0.5) * ratio;
        let first = (centre - 2.0 * ratio).floor().max(0.0) as u32;
        let last = ((centre + 2.0 * ratio).ceil() as u32).min(from);
        let weights = (first..last).map(|x| catmull_rom((f64::from(x) + 0.5 - centre) / ratio));
        let weights: Vec<f64> = weights.collect();
        let sum: f64 = weights.iter().sum();
        let weights = weights.iter().map(|weight| (weight / sum) as f32);
        (first as usize, weights.collect())
    });
    taps.collect()
}

fn catmull_rom(at: f64) -> f64 {
    let x = at.abs();
    if x < 1.0 {
        1.5 * x.powi(3) - 2.5 * x.powi(2) + 1.0
    } else if x < 2.0 {
        -0.5 * x.powi(3) + 2.5 * x.powi(2) - 4.0 * x + 2.0
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use super::smaller as shrunk;

    #[test]
    fn whole_areas_are_averaged() {
        let image = RgbImage::from_fn(8, 4, |x, y| {
            image::Rgb([(x / 2 * 20) as u8, (y / 2 * 100) as u8, 7])
        });
        let small = shrunk(&image, 4);
        assert_eq!(small.dimensions(), (4, 2));
        assert_eq!(
            small,
            RgbImage::from_fn(4, 2, |x, y| image::Rgb([
                (x * 20) as u8,
                (y * 100) as u8,
                7
            ]))
        );
    }

    #[test]
    fn squares_that_are_cut_off_are_averages_too() {
        let image = RgbImage::from_fn(5, 3, |x, y| {
            image::Rgb([(x / 2 * 50) as u8, (y / 2 * 90) as u8, 9])
        });
        let small = shrunk(&image, 2);
        let averaged = {
            let mut shrinker = Shrinker::new(5, 3, 2);
            for (y, row) in (0..).zip(image.rows()) {
                shrinker.add(y, 0, 1, row.map(|pixel| pixel.0));
            }
            shrinker.finish()
        };
        assert_eq!((averaged.width, averaged.height), (3, 2));
        assert_eq!(averaged.samples[6..9], [100.0, 0.0, 9.0]);
        assert_eq!(averaged.samples[9..12], [0.0, 90.0, 9.0]);
        assert_eq!(small.dimensions(), (2, 1));
    }

    #[test]
    fn the_filter_keeps_more_of_an_edge_than_averaging_does() {
        let edge = RgbImage::from_fn(60, 4, |x, _| image::Rgb([if x < 30 { 50 } else { 200 }; 3]));
        let shrunk = |averaged| {
            let mut shrinker = Shrinker::new(60, 4, averaged);
            for (y, row) in (0..).zip(edge.rows()) {
                shrinker.add(y, 0, 1, row.map(|pixel| pixel.0));
            }
            let small = shrinker.finish().resized(20);
            small.iter().max().copied()
        };
        assert_eq!(shrunk(20), Some(200));
        assert!(shrunk(60) > Some(200));
    }

    proptest! {
        #[test]
        fn a_plain_picture_stays_plain_and_a_small_one_as_it_is(
            width in 1..300_u32, height in 1..300_u32, side in 1..200_u32, level: u8, seed: u8,
        ) {
            let plain = shrunk(&RgbImage::from_pixel(width, height, image::Rgb([level; 3])), side);
            prop_assert!(plain.pixels().all(|pixel| pixel.0 == [level; 3]));
            prop_assert!(plain.width().max(plain.height()) <= side.max(1));
            let noise = RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 7 + y * 13) as u8 ^ seed, x as u8, y as u8]));
            if width.max(height) <= side {
                prop_assert_eq!(shrunk(&noise, side), noise);
            }
        }

        /// Rows may come in any order and in parts.
        #[test]
        fn parts_make_the_same_picture(width in 1..64_u32, height in 1..64_u32) {
            let image = RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 31 + y * 17) as u8, x as u8, y as u8]));
            let mut shrinker = Shrinker::new(width, height, 24);
            for (y, row) in (0..height).zip(image.rows()).collect::<Vec<_>>().into_iter().rev() {
                shrinker.add(y, 0, 2, row.clone().step_by(2).map(|pixel| pixel.0));
                shrinker.add(y, 1, 2, row.skip(1).step_by(2).map(|pixel| pixel.0));
            }
            let near = |(a, b): (&u8, &u8)| a.abs_diff(*b) <= 1;
            prop_assert!(shrinker.finish().resized(24).iter().zip(shrunk(&image, 24).iter()).all(near));
        }
    }
}
