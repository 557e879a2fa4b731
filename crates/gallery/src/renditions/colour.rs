//! Colours as a browser takes them: sRGB.

use image::RgbImage;
use moxcms::{ColorProfile, DataColorSpace, Layout, TransformOptions};

/// The picture in sRGB, whose colours a profile describes (ICC.1). One that cannot be read, or is not about red, green and
/// blue, is passed over: its picture is taken as sRGB.
pub(super) fn to_srgb(image: RgbImage, profile: &[u8]) -> RgbImage {
    match converted(&image, profile) {
        Some(converted) => converted,
        None => image,
    }
}

fn converted(image: &RgbImage, profile: &[u8]) -> Option<RgbImage> {
    let profile = ColorProfile::new_from_slice(profile).ok()?;
    if profile.color_space != DataColorSpace::Rgb {
        return None;
    }
    let options = TransformOptions::default();
    let srgb = ColorProfile::new_srgb();
    let transform = profile.create_transform_8bit(Layout::Rgb, &srgb, Layout::Rgb, options);
    let mut pixels = vec![0; image.as_raw().len()];
    transform
        .ok()?
        .transform(image.as_raw(), &mut pixels)
        .ok()?;
    RgbImage::from_raw(image.width(), image.height(), pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(pixel: [u8; 3]) -> RgbImage {
        RgbImage::from_pixel(3, 2, image::Rgb(pixel))
    }

    #[test]
    fn wide_colours_are_brought_into_srgb() {
        let green = [40, 200, 60];
        for (profile, greener) in [
            (ColorProfile::new_display_p3(), true),
            (ColorProfile::new_adobe_rgb(), true),
            (ColorProfile::new_srgb(), false),
        ] {
            let seen = to_srgb(plain(green), &profile.encode().unwrap());
            let [red, _, _] = seen.get_pixel(1, 1).0;
            // The same numbers stand for a stronger green there: it has less red in sRGB.
            assert_eq!(red + 3 < green[0], greener, "{seen:?}");
        }
        let grey = to_srgb(
            plain([128; 3]),
            &ColorProfile::new_display_p3().encode().unwrap(),
        );
        let [red, _, blue] = grey.get_pixel(0, 0).0;
        assert!(
            red.abs_diff(128) <= 1 && blue.abs_diff(128) <= 1,
            "{grey:?}"
        );
    }

    #[test]
    fn a_profile_that_says_nothing_of_red_green_and_blue_changes_nothing() {
        let grey = ColorProfile::new_gray_with_gamma(1.0).encode().unwrap();
        for profile in [&b"no profile"[..], &[0; 200], &grey] {
            assert_eq!(to_srgb(plain([1, 2, 3]), profile), plain([1, 2, 3]));
        }
    }
}
