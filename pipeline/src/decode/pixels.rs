//! Turns whatever a decoder gave — 16 bits, floats, palettes, alpha — into 8-bit grey or RGB.
//!
//! Transparency is composited here, on the contract's background, before anything is resized: resizing first would mix in
//! the colours hidden under transparent pixels. Embedded colour profiles are not applied.

use image::DynamicImage;

use crate::preprocess::Colour;

/// 8-bit pixels, `height × width × colour.channels()`, row-major.
pub(crate) struct Pixels {
    pub(crate) bytes: Vec<u8>,
    pub(crate) height: u32,
    pub(crate) width: u32,
}

/// BT.601 luma in 16-bit fixed point, rounded: `(19595·R + 38470·G + 7471·B + 32768) >> 16`. The weights add up to 65,536, so
/// a grey pixel keeps its value.
pub fn luma([red, green, blue]: [u8; 3]) -> u8 {
    ((19595 * u32::from(red) + 38470 * u32::from(green) + 7471 * u32::from(blue) + 32768) >> 16)
        as u8
}

/// Converts a decoded image to the contract's colour; transparent pixels show `background`.
pub(crate) fn convert(image: DynamicImage, colour: Colour, background: [u8; 3]) -> Pixels {
    let (height, width) = (image.height(), image.width());
    let bytes = match (colour, image.color().has_color(), image.color().has_alpha()) {
        (Colour::Grey, false, false) => image.into_luma8().into_raw(),
        (Colour::Grey, false, true) => over_grey(&image.into_luma_alpha8().into_raw(), background),
        (Colour::Grey, true, false) => rgb_pixels(&image.into_rgb8().into_raw())
            .map(luma)
            .collect(),
        (Colour::Grey, true, true) => rgba_pixels(&image.into_rgba8().into_raw())
            .map(|pixel| luma(over(pixel, background)))
            .collect(),
        (Colour::Rgb, _, false) => image.into_rgb8().into_raw(),
        (Colour::Rgb, _, true) => rgba_pixels(&image.into_rgba8().into_raw())
            .flat_map(|pixel| over(pixel, background))
            .collect(),
    };
    Pixels {
        bytes,
        height,
        width,
    }
}

fn over_grey(grey_alpha: &[u8], background: [u8; 3]) -> Vec<u8> {
    let (pixels, _) = grey_alpha.as_chunks::<2>();
    pixels
        .iter()
        .map(|&[grey, alpha]| luma(over([grey, grey, grey, alpha], background)))
        .collect()
}

fn rgb_pixels(bytes: &[u8]) -> impl Iterator<Item = [u8; 3]> {
    bytes.as_chunks::<3>().0.iter().copied()
}

fn rgba_pixels(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    bytes.as_chunks::<4>().0.iter().copied()
}

/// Straight alpha over an opaque background, rounded to nearest.
fn over([red, green, blue, alpha]: [u8; 4], background: [u8; 3]) -> [u8; 3] {
    let alpha = u32::from(alpha);
    let mix = |front: u8, back: u8| {
        ((u32::from(front) * alpha + u32::from(back) * (255 - alpha) + 127) / 255) as u8
    };
    [
        mix(red, background[0]),
        mix(green, background[1]),
        mix(blue, background[2]),
    ]
}

#[cfg(test)]
mod tests {
    use image::{GrayAlphaImage, ImageBuffer, LumaA, Rgb, RgbImage, Rgba, RgbaImage};

    use super::*;

    #[test]
    fn grey_pixels_keep_their_value_and_the_weights_are_those_of_bt601() {
        assert!((0..=255).all(|value| luma([value; 3]) == value));
        assert_eq!(
            [luma([255, 0, 0]), luma([0, 255, 0]), luma([0, 0, 255])],
            [76, 150, 29]
        );
    }

    #[test]
    fn transparent_pixels_show_the_background_and_half_transparent_ones_mix() {
        let image = RgbaImage::from_fn(2, 1, |x, _| {
            if x == 0 {
                Rgba([9, 9, 9, 0])
            } else {
                Rgba([255, 0, 0, 128])
            }
        });
        let pixels = convert(image.into(), Colour::Rgb, [10, 20, 30]);
        assert_eq!(pixels.bytes, [10, 20, 30, 133, 10, 15]);

        let image = GrayAlphaImage::from_pixel(1, 1, LumaA([7, 0]));
        assert_eq!(
            convert(image.into(), Colour::Grey, [255, 255, 255]).bytes,
            [255]
        );
    }

    #[test]
    fn sixteen_bits_are_rounded_to_eight() {
        let image = ImageBuffer::<Rgb<u16>, _>::from_pixel(1, 1, Rgb([0, 257 * 100, u16::MAX]));
        assert_eq!(
            convert(image.into(), Colour::Rgb, [0; 3]).bytes,
            [0, 100, 255]
        );
    }

    #[test]
    fn height_and_width_stay_apart() {
        let pixels = convert(RgbImage::new(3, 2).into(), Colour::Rgb, [0; 3]);
        assert_eq!(
            (pixels.height, pixels.width, pixels.bytes.len()),
            (2, 3, 18)
        );
    }
}
