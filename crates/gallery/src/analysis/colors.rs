//! Dominant colours: clusters in a space where distance is difference to the eye.

use image::RgbImage;

use super::DominantColor;

/// The most colours that are told.
const MOST: usize = 5;
/// Colours whose share is less are traces.
const LEAST_SHARE: f64 = 0.01;
/// Clusters closer than this look alike; two colours are just told apart at about 0.02.
const ALIKE: f64 = 0.06;
/// Rounds of refinement; most images settle sooner.
const ROUNDS: usize = 16;
/// Pixels are first gathered by the upper bits of their channels: thousands of colours instead of
/// hundreds of thousands of pixels.
const BITS: u32 = 5;

/// A point in Oklab (Björn Ottosson, 2020): lightness, green to red, blue to yellow.
type Lab = [f64; 3];

/// Pixels of nearly one colour.
#[derive(Clone, Copy)]
struct Tone {
    lab: Lab,
    weight: f64,
}

/// At most five colours, the largest share first. No chance is involved: the same pixels give the same
/// colours.
pub(super) fn dominant(image: &RgbImage) -> Vec<DominantColor> {
    let tones = tones(image);
    let total: f64 = tones.iter().map(|tone| tone.weight).sum();
    let clusters = merged(refined(&tones, split(&tones)));
    let mut found: Vec<_> = clusters
        .into_iter()
        .map(|cluster| (hex(cluster.lab), cluster.weight / total))
        .filter(|(_, share)| *share >= LEAST_SHARE)
        .collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    found
        .into_iter()
        .filter_map(|(color, share)| {
            Some(DominantColor {
                color: color.parse().ok()?,
                // Rounded down, so that the shares never sum to more than 1.
                share: (share * 10_000.0).floor() / 10_000.0,
            })
        })
        .collect()
}

fn tones(image: &RgbImage) -> Vec<Tone> {
    let mut bins = vec![([0_u64; 3], 0_u64); 1 << (3 * BITS)];
    for pixel in image.pixels() {
        let [r, g, b] = pixel.0.map(|channel| usize::from(channel >> (8 - BITS)));
        let (sums, count) = &mut bins[r << (2 * BITS) | g << BITS | b];
        for (sum, channel) in sums.iter_mut().zip(pixel.0) {
            *sum += u64::from(channel);
        }
        *count += 1;
    }
    bins.into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(sums, count)| Tone {
            lab: lab(sums.map(|sum| sum as f64 / count as f64)),
            weight: count as f64,
        })
        .collect()
}

/// Cuts the tones into at most [`MOST`] groups, each time the one that varies most, at its mean: two
/// colours are parted however unequal their shares are.
fn split(tones: &[Tone]) -> Vec<Lab> {
    let mut groups = vec![tones.to_vec()];
    while groups.len() < MOST {
        let spreads = groups.iter().map(|group| spread(group)).enumerate();
        let Some((at, (axis, variation))) = spreads.max_by(|a, b| a.1.1.total_cmp(&b.1.1)) else {
            break;
        };
        if variation <= f64::EPSILON {
            break;
        }
        let mean = mean(&groups[at])[axis];
        let (low, high) = groups[at].iter().partition(|tone| tone.lab[axis] < mean);
        groups[at] = low;
        groups.push(high);
    }
    groups
        .iter()
        .filter(|group| !group.is_empty())
        .map(|group| mean(group))
        .collect()
}

/// The axis along which a group varies most, and its squared deviations there.
fn spread(group: &[Tone]) -> (usize, f64) {
    let mean = mean(group);
    let along = |axis: usize| {
        let deviation = |tone: &Tone| tone.weight * (tone.lab[axis] - mean[axis]).powi(2);
        (axis, group.iter().map(deviation).sum())
    };
    let [a, b, c] = [along(0), along(1), along(2)];
    [b, c].into_iter().fold(
        a,
        |widest: (usize, f64), next| {
            if next.1 > widest.1 { next } else { widest }
        },
    )
}

fn mean(group: &[Tone]) -> Lab {
    let weight: f64 = group.iter().map(|tone| tone.weight).sum();
    [0, 1, 2].map(|axis| {
        let sum: f64 = group.iter().map(|t| t.lab[axis] * t.weight).sum();
        sum / weight.max(f64::MIN_POSITIVE)
    })
}

fn distance_squared(a: Lab, b: Lab) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
}

/// Lloyd's algorithm: each tone to its nearest centre, each centre to the mean of its tones.
fn refined(tones: &[Tone], mut centres: Vec<Lab>) -> Vec<Tone> {
    let mut clusters = Vec::new();
    for _ in 0..ROUNDS {
        let mut groups = vec![Vec::new(); centres.len()];
        for tone in tones {
            let near = |at: usize| distance_squared(centres[at], tone.lab);
            let nearest = (0..centres.len()).min_by(|a, b| near(*a).total_cmp(&near(*b)));
            if let Some(nearest) = nearest {
                groups[nearest].push(*tone);
            }
        }
        groups.retain(|group: &Vec<Tone>| !group.is_empty());
        clusters = groups
            .iter()
            .map(|group| Tone {
                lab: mean(group),
                weight: group.iter().map(|tone| tone.weight).sum(),
            })
            .collect();
        let moved: Vec<Lab> = clusters.iter().map(|cluster| cluster.lab).collect();
        if moved == centres {
            break;
        }
        centres = moved;
    }
    clusters
}

/// Joins clusters that look alike, the closest two first.
fn merged(mut clusters: Vec<Tone>) -> Vec<Tone> {
    loop {
        let pairs = (0..clusters.len()).flat_map(|b| (0..b).map(move |a| (a, b)));
        let closest = pairs
            .map(|(a, b)| (distance_squared(clusters[a].lab, clusters[b].lab), a, b))
            .min_by(|x, y| x.0.total_cmp(&y.0));
        match closest {
            Some((distance, a, b)) if distance < ALIKE * ALIKE => {
                let both = [clusters[a], clusters[b]];
                clusters[a] = Tone {
                    lab: mean(&both),
                    weight: both[0].weight + both[1].weight,
                };
                clusters.swap_remove(b);
            }
            _ => return clusters,
        }
    }
}

fn to_linear(channel: f64) -> f64 {
    let c = channel / 255.0;
    if c <= 0.040_45 {
        c / 12.92
    } else {
        ((c + 0.055) / 1.055).powf(2.4)
    }
}

fn to_coded(linear: f64) -> u8 {
    let c = linear.clamp(0.0, 1.0);
    let coded = if c <= 0.003_130_8 {
        c * 12.92
    } else {
        1.055 * c.powf(1.0 / 2.4) - 0.055
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0 to 255 above"
    )]
    let level = (coded * 255.0).round() as u8;
    level
}

fn lab(rgb: [f64; 3]) -> Lab {
    let [r, g, b] = rgb.map(to_linear);
    let l = (0.412_221_470_8 * r + 0.536_332_536_3 * g + 0.051_445_992_9 * b).cbrt();
    let m = (0.211_903_498_2 * r + 0.680_699_545_1 * g + 0.107_396_956_6 * b).cbrt();
    let s = (0.088_302_461_9 * r + 0.281_718_837_6 * g + 0.629_978_700_5 * b).cbrt();
    [
        0.210_454_255_3 * l + 0.793_617_785_0 * m - 0.004_072_046_8 * s,
        1.977_998_495_1 * l - 2.428_592_205_0 * m + 0.450_593_709_9 * s,
        0.025_904_037_1 * l + 0.782_771_766_2 * m - 0.808_675_766_0 * s,
    ]
}

fn hex([lightness, a, b]: Lab) -> String {
    let l = (lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let m = (lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let s = (lightness - 0.089_484_177_5 * a - 1.291_485_548_0 * b).powi(3);
    let [r, g, b] = [
        4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s,
        -1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s,
        -0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701_0 * s,
    ]
    .map(to_coded);
    format!("#{r:02x}{g:02x}{b:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(image: &RgbImage) -> Vec<(String, f64)> {
        dominant(image)
            .into_iter()
            .map(|found| (found.color.to_string(), found.share))
            .collect()
    }

    #[test]
    fn two_flat_colours_are_these_two() {
        let image = RgbImage::from_fn(40, 10, |x, _| {
            image::Rgb(if x < 30 {
                [0x12, 0x9a, 0x40]
            } else {
                [0xf0, 0x20, 0x05]
            })
        });
        assert_eq!(
            told(&image),
            [("#129a40".to_owned(), 0.75), ("#f02005".to_owned(), 0.25)]
        );
    }

    #[test]
    fn a_small_patch_on_a_large_surface_is_seen_and_a_trace_is_not() {
        let with_patch = |pixels: u32| {
            RgbImage::from_fn(100, 100, |x, y| {
                image::Rgb(if y * 100 + x < pixels {
                    [255, 0, 0]
                } else {
                    [20, 20, 60]
                })
            })
        };
        assert_eq!(
            told(&with_patch(300)),
            [("#14143c".to_owned(), 0.97), ("#ff0000".to_owned(), 0.03)]
        );
        assert_eq!(told(&with_patch(50)), [("#14143c".to_owned(), 0.995)]);
    }

    #[test]
    fn shades_that_look_alike_are_one_colour() {
        let image = RgbImage::from_fn(64, 8, |x, _| {
            image::Rgb([100, 100, if x < 32 { 100 } else { 112 }])
        });
        assert_eq!(told(&image).len(), 1);
    }

    proptest! {
        /// A colour comes back from Oklab as it went in.
        #[test]
        fn conversion_loses_nothing(rgb: [u8; 3]) {
            let [r, g, b] = rgb;
            prop_assert_eq!(hex(lab(rgb.map(f64::from))), format!("#{r:02x}{g:02x}{b:02x}"));
        }

        #[test]
        fn shares_are_ordered_and_sum_to_at_most_one(pixels in proptest::collection::vec(any::<[u8; 3]>(), 1..300)) {
            let image = RgbImage::from_fn(pixels.len() as u32, 1, |x, _| image::Rgb(pixels[x as usize]));
            let found = dominant(&image);
            prop_assert!(found.len() <= MOST);
            prop_assert!(found.iter().map(|f| f.share).sum::<f64>() <= 1.0 + 1e-9);
            prop_assert!(found.windows(2).all(|pair| pair[0].share >= pair[1].share));
            prop_assert_eq!(found, dominant(&image));
        }
    }
}
