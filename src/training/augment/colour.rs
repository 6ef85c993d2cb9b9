//! Changes of colour: jitter of brightness, contrast and saturation, and a few operations drawn at random.
//!
//! Everything is done in place on `uint8 [H, W, C]` of one channel or three. What only maps values to values goes through a table of
//! 256 entries, so that an image of any size costs one look-up a byte.

use rand::{Rng, RngExt};

use super::ImageShape;
use super::settings::{ColourJitter, RandomOperations};

/// A change of an image, as RandAugment draws them: Cubuk et al., "RandAugment: Practical automated data augmentation with a
/// reduced search space" (2019). Its geometric ones are not among them: rotation, shear and shift have settings of their own and are
/// done in one interpolation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    /// Darkest and brightest value of each channel become 0 and 255.
    AutoContrast,
    /// The values of each channel become equally frequent.
    Equalize,
    /// Fewer bits per channel.
    Posterize,
    /// What is brighter than a threshold is inverted.
    Solarize,
    /// Brighter or darker.
    Brightness,
    /// Farther from or nearer to the mean brightness.
    Contrast,
    /// More or less colour.
    Saturation,
    /// Sharper or softer.
    Sharpness,
}

const OPERATIONS: [Operation; 8] = [
    Operation::AutoContrast,
    Operation::Equalize,
    Operation::Posterize,
    Operation::Solarize,
    Operation::Brightness,
    Operation::Contrast,
    Operation::Saturation,
    Operation::Sharpness,
];

/// The factors that the full magnitude reaches: 1 ± this.
const STRONGEST_FACTOR: f32 = 0.9;

/// Changes brightness, contrast and saturation, in this order. What is switched off draws nothing.
pub(super) fn jitter(
    image: &mut [u8],
    shape: ImageShape,
    settings: &ColourJitter,
    rng: &mut impl Rng,
) {
    let mut factor = |most: f32| (most > 0.0).then(|| rng.random_range(1.0 - most..=1.0 + most));
    let brightness = factor(settings.brightness);
    let contrast = factor(settings.contrast);
    let saturation = factor(settings.saturation);
    if let Some(factor) = brightness {
        brighten(image, factor);
    }
    if let Some(factor) = contrast {
        stretch_contrast(image, shape.channels, factor);
    }
    if let Some(factor) = saturation {
        saturate(image, shape.channels, factor);
    }
}

/// Applies so many operations, each drawn from all of them.
pub(super) fn random_operations(
    image: &mut [u8],
    shape: ImageShape,
    settings: &RandomOperations,
    rng: &mut impl Rng,
) {
    for _ in 0..settings.count {
        let operation = OPERATIONS[rng.random_range(0..OPERATIONS.len())];
        let is_more = rng.random_bool(0.5);
        apply(image, shape, operation, settings.magnitude, is_more);
    }
}

/// `magnitude` is 0 for hardly anything and 1 for the most. `is_more` says which way, where there are two.
fn apply(image: &mut [u8], shape: ImageShape, operation: Operation, magnitude: f32, is_more: bool) {
    let change = STRONGEST_FACTOR * magnitude;
    let factor = if is_more { 1.0 + change } else { 1.0 - change };
    match operation {
        Operation::AutoContrast => each_channel(image, shape.channels, auto_contrast),
        Operation::Equalize => each_channel(image, shape.channels, equalize),
        Operation::Posterize => {
            let dropped = (4.0 * magnitude).round() as u32;
            let mask = 255_u8.checked_shl(dropped).unwrap_or(0);
            map(image, |value| value & mask);
        }
        Operation::Solarize => {
            let threshold = (256.0 * (1.0 - magnitude)).round() as u16;
            map(image, |value| match u16::from(value) >= threshold {
                true => 255 - value,
                false => value,
            });
        }
        Operation::Brightness => brighten(image, factor),
        Operation::Contrast => stretch_contrast(image, shape.channels, factor),
        Operation::Saturation => saturate(image, shape.channels, factor),
        Operation::Sharpness => sharpen(image, shape, factor),
    }
}

/// Replaces every value by what `of` makes of it.
fn map(image: &mut [u8], of: impl Fn(u8) -> u8) {
    let mut table = [0; 256];
    for (value, entry) in (0..=255).zip(&mut table) {
        *entry = of(value);
    }
    for value in image {
        *value = table[usize::from(*value)];
    }
}

fn brighten(image: &mut [u8], factor: f32) {
    map(image, |value| rounded(f32::from(value) * factor));
}

/// Values move away from the mean brightness by a factor, or towards it.
fn stretch_contrast(image: &mut [u8], channels: usize, factor: f32) {
    let pixels = (image.len() / channels).max(1);
    let sum: u64 = image
        .chunks_exact(channels)
        .map(|pixel| u64::from(brightness(pixel)))
        .sum();
    let mean = sum as f32 / pixels as f32;
    map(image, |value| {
        rounded(mean + (f32::from(value) - mean) * factor)
    });
}

/// Channels move away from the pixel's brightness by a factor, or towards it. Grey images stay as they are.
fn saturate(image: &mut [u8], channels: usize, factor: f32) {
    if channels < 3 {
        return;
    }
    for pixel in image.chunks_exact_mut(channels) {
        let grey = f32::from(brightness(pixel));
        for value in pixel {
            *value = rounded(grey + (f32::from(*value) - grey) * factor);
        }
    }
}

/// Brightness of a pixel as ITU-R BT.601 weighs the channels.
fn brightness(pixel: &[u8]) -> u8 {
    match *pixel {
        [red, green, blue] => {
            let sum = 299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue);
            ((sum + 500) / 1000) as u8
        }
        _ => pixel.first().copied().unwrap_or(0),
    }
}

/// Maps the values of each channel by a table made of their frequencies.
fn each_channel(image: &mut [u8], channels: usize, table_of: impl Fn(&[u32; 256]) -> [u8; 256]) {
    for channel in 0..channels {
        let mut counts = [0; 256];
        for value in image[channel..].iter().step_by(channels) {
            counts[usize::from(*value)] += 1;
        }
        let table = table_of(&counts);
        for value in image[channel..].iter_mut().step_by(channels) {
            *value = table[usize::from(*value)];
        }
    }
}

fn auto_contrast(counts: &[u32; 256]) -> [u8; 256] {
    let lowest = counts.iter().position(|&count| count > 0).unwrap_or(0);
    let highest = counts.iter().rposition(|&count| count > 0).unwrap_or(0);
    // A channel of one value has no contrast to stretch.
    let scale = match highest > lowest {
        true => 255.0 / (highest - lowest) as f32,
        false => return identity(),
    };
    let mut table = [0; 256];
    for (value, entry) in table.iter_mut().enumerate() {
        *entry = rounded((value as f32 - lowest as f32) * scale);
    }
    table
}

/// Each value becomes the share of the values up to it, counting its own half.
fn equalize(counts: &[u32; 256]) -> [u8; 256] {
    let total: u32 = counts.iter().sum();
    if counts.contains(&total) {
        return identity();
    }
    let mut table = [0; 256];
    let mut below = 0_u32;
    for (entry, &count) in table.iter_mut().zip(counts) {
        let rank = below as f32 + count as f32 / 2.0;
        *entry = rounded(255.0 * rank / total.max(1) as f32);
        below += count;
    }
    table
}

fn identity() -> [u8; 256] {
    let mut table = [0; 256];
    for (value, entry) in (0..=255).zip(&mut table) {
        *entry = value;
    }
    table
}

/// Values move away from the mean of the 3×3 pixels around by a factor, or towards it. The border stays as it is.
fn sharpen(image: &mut [u8], shape: ImageShape, factor: f32) {
    let ImageShape {
        height,
        width,
        channels,
    } = shape;
    if height < 3 || width < 3 {
        return;
    }
    let before = image.to_vec();
    let row = width * channels;
    for y in 1..height - 1 {
        for at in y * row + channels..(y + 1) * row - channels {
            let line = |at: usize| {
                u32::from(before[at - channels])
                    + u32::from(before[at])
                    + u32::from(before[at + channels])
            };
            let mean = (line(at - row) + line(at) + line(at + row)) as f32 / 9.0;
            image[at] = rounded(mean + (f32::from(before[at]) - mean) * factor);
        }
    }
}

fn rounded(value: f32) -> u8 {
    // Saturates at both ends.
    (value + 0.5) as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::training::augment::image_rng;

    const PIXEL: ImageShape = ImageShape {
        height: 1,
        width: 2,
        channels: 3,
    };
    /// Red and a dark grey.
    const IMAGE: [u8; 6] = [200, 100, 100, 40, 40, 40];

    fn after(operation: Operation, magnitude: f32, is_more: bool) -> [u8; 6] {
        let mut image = IMAGE;
        apply(&mut image, PIXEL, operation, magnitude, is_more);
        image
    }

    #[test]
    fn operations_do_what_they_are_called() {
        use Operation::{
            AutoContrast, Brightness, Contrast, Equalize, Posterize, Saturation, Solarize,
        };
        assert_eq!(after(Brightness, 0.5, true), [255, 145, 145, 58, 58, 58]);
        assert_eq!(after(Brightness, 0.5, false), [110, 55, 55, 22, 22, 22]);
        // The mean brightness is that of 130 and 40.
        assert_eq!(after(Contrast, 1.0, false), [97, 87, 87, 81, 81, 81]);
        assert_eq!(after(Saturation, 1.0, false), [137, 127, 127, 40, 40, 40]);
        assert_eq!(after(AutoContrast, 0.0, true), [255, 255, 255, 0, 0, 0]);
        assert_eq!(after(Equalize, 0.0, true), [191, 191, 191, 64, 64, 64]);
        assert_eq!(after(Posterize, 1.0, true), [192, 96, 96, 32, 32, 32]);
        assert_eq!(after(Solarize, 0.5, true), [55, 100, 100, 40, 40, 40]);
        assert_eq!(after(Solarize, 0.0, true), IMAGE);
    }

    #[test]
    fn sharpening_moves_away_from_the_neighbours_and_softening_towards_them() {
        let shape = ImageShape {
            height: 3,
            width: 3,
            channels: 1,
        };
        let mut image = [90, 90, 90, 90, 180, 90, 90, 90, 90];
        sharpen(&mut image, shape, 0.0);
        assert_eq!(image, [90, 90, 90, 90, 100, 90, 90, 90, 90]);
        sharpen(&mut image, shape, 2.0);
        assert_eq!(image[4], 109);
    }

    #[test]
    fn one_colour_stays_one_colour() {
        let shape = ImageShape {
            height: 2,
            width: 2,
            channels: 1,
        };
        for operation in [Operation::AutoContrast, Operation::Equalize] {
            let mut image = [77; 4];
            apply(&mut image, shape, operation, 1.0, true);
            assert_eq!(image, [77; 4], "{operation:?}");
        }
    }

    proptest! {
        #[test]
        fn no_change_is_no_change(image in prop::collection::vec(any::<u8>(), 27)) {
            let shape = ImageShape { height: 3, width: 3, channels: 3 };
            for operation in [
                Operation::Posterize,
                Operation::Solarize,
                Operation::Brightness,
                Operation::Contrast,
                Operation::Saturation,
                Operation::Sharpness,
            ] {
                let mut changed = image.clone();
                apply(&mut changed, shape, operation, 0.0, true);
                prop_assert_eq!(&changed, &image, "{:?}", operation);
            }
        }

        #[test]
        fn grey_pixels_stay_grey(values in prop::collection::vec(any::<u8>(), 16), seed: u64) {
            let shape = ImageShape { height: 4, width: 4, channels: 3 };
            let mut image: Vec<u8> = values.iter().flat_map(|&value| [value; 3]).collect();
            let mut rng = image_rng(seed, 0, 0);
            let settings = ColourJitter { brightness: 0.4, contrast: 0.4, saturation: 0.4 };
            jitter(&mut image, shape, &settings, &mut rng);
            let operations = RandomOperations { count: 3, magnitude: 0.7 };
            random_operations(&mut image, shape, &operations, &mut rng);
            for pixel in image.chunks_exact(3) {
                prop_assert!(pixel[0] == pixel[1] && pixel[1] == pixel[2], "{:?}", pixel);
            }
        }
    }
}
