//! Pictures that are hardly ones of a product: empty, dark, tiny or very long.

use std::fmt::{self, Display, Formatter};

use pipeline::preprocess::Preprocess;

/// Largest standard deviation of the brightness of an empty picture, of 255.
const EMPTY_DEVIATION: f64 = 4.0;
/// A picture is dark where so many of its pixels ...
const DARK_SHARE: f64 = 0.98;
/// ... are no brighter than this, of 255.
const DARK_BRIGHTNESS: f64 = 48.0;
/// A picture is small where its longer side is less than this share of what the model sees.
const SMALL_SHARE: f64 = 0.5;
/// A picture is long where one side is more than so many times the other.
const LONG_RATIO: f64 = 4.0;

/// What is odd about a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// It has one brightness all over.
    Empty,
    /// Nearly all of it is dark.
    Dark,
    /// The file has far fewer pixels than the model sees.
    Small,
    /// One side is many times the other.
    Long,
}

impl Display for Oddity {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Empty => "empty",
            Self::Dark => "dark",
            Self::Small => "small",
            Self::Long => "long",
        })
    }
}

/// What is odd about an image `[H, W, C]` whose file has `size`, width and height.
pub(super) fn of(image: &[u8], preprocess: &Preprocess, size: Option<(u32, u32)>) -> Vec<Oddity> {
    let mut oddities = Vec::new();
    let channels = preprocess.colour.channels();
    let brightness: Vec<f64> = image
        .chunks_exact(channels)
        .map(|pixel| {
            let sum: u32 = pixel.iter().map(|&value| u32::from(value)).sum();
            f64::from(sum) / channels as f64
        })
        .collect();
    let count = brightness.len().max(1) as f64;
    let mean = brightness.iter().sum::<f64>() / count;
    let variance = brightness
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / count;
    let dark = brightness
        .iter()
        .filter(|&&value| value <= DARK_BRIGHTNESS)
        .count();
    if variance.sqrt() <= EMPTY_DEVIATION {
        oddities.push(Oddity::Empty);
    } else if dark as f64 >= DARK_SHARE * count {
        oddities.push(Oddity::Dark);
    }
    if let Some((width, height)) = size {
        let (shorter, longer) = (
            f64::from(width.min(height)).max(1.0),
            f64::from(width.max(height)),
        );
        if longer < SMALL_SHARE * f64::from(preprocess.height.max(preprocess.width)) {
            oddities.push(Oddity::Small);
        }
        if longer > LONG_RATIO * shorter {
            oddities.push(Oddity::Long);
        }
    }
    oddities
}

#[cfg(test)]
mod tests {
    use pipeline::preprocess::Colour;

    use super::*;

    #[test]
    fn each_oddity_is_seen_and_a_usual_picture_has_none() {
        let preprocess = Preprocess::stretch(10, 10, Colour::Rgb);
        let usual: Vec<u8> = (0..300).map(|byte| (byte * 7 % 256) as u8).collect();
        let dark: Vec<u8> = (0..300).map(|byte| (byte % 40) as u8).collect();
        let of = |image: &[u8], size| of(image, &preprocess, size);
        assert_eq!(of(&usual, Some((600, 800))), []);
        assert_eq!(of(&usual, None), []);
        assert_eq!(of(&[255; 300], Some((600, 800))), [Oddity::Empty]);
        assert_eq!(of(&[0; 300], None), [Oddity::Empty]);
        assert_eq!(of(&dark, None), [Oddity::Dark]);
        assert_eq!(of(&usual, Some((4, 3))), [Oddity::Small]);
        assert_eq!(of(&usual, Some((900, 100))), [Oddity::Long]);
    }
}
