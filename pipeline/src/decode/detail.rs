//! How much detail of a large picture the contract needs, and where the picture lies in what is decoded of it.

use image::metadata::Orientation;

use super::Pixels;
use crate::preprocess::{Fit, Preprocess};
use crate::resize::{self, Extent};

/// A reduced picture has at least this many times the pixels, along each side, of what it is scaled to: then the filter sees nearly what
/// it sees of the whole picture. With 1, labels of 1 photo in 100 differ, with 2 of 1 in 400 (docs/benchmarks.md).
const OVERSAMPLING: f64 = 2.0;
/// The fractions for which libjpeg has transforms that cost less than that of a whole block.
const CHEAP_EIGHTHS: [u8; 3] = [1, 2, 4];

/// The smallest cheap number of eighths at which a picture of `height × width` pixels, turned upright, has the detail that the contract
/// needs; `None` where only the whole picture has.
pub(super) fn sufficient_eighths(
    (height, width): (u32, u32),
    preprocess: &Preprocess,
) -> Option<u8> {
    let (needed_height, needed_width) = scaled_size(height, width, preprocess);
    CHEAP_EIGHTHS.into_iter().find(|&eighths| {
        covers(height, eighths, needed_height * OVERSAMPLING)
            && covers(width, eighths, needed_width * OVERSAMPLING)
    })
}

/// Height and width to which the whole picture is scaled, some of which [`Fit::Crop`] cuts off.
fn scaled_size(height: u32, width: u32, preprocess: &Preprocess) -> (f64, f64) {
    let (target_height, target_width) = (preprocess.height, preprocess.width);
    let size = match preprocess.fit {
        Fit::Stretch => (target_height, target_width),
        Fit::Pad => resize::inside(
            f64::from(height),
            f64::from(width),
            (target_height, target_width),
        ),
        Fit::Crop => {
            let ratio = f64::max(
                f64::from(target_height) / f64::from(height),
                f64::from(target_width) / f64::from(width),
            );
            return (f64::from(height) * ratio, f64::from(width) * ratio);
        }
    };
    (f64::from(size.0), f64::from(size.1))
}

/// Whether the whole picture has at least the pixels that it is scaled to, along each side, and more along one.
pub(super) fn is_made_smaller((height, width): (u32, u32), preprocess: &Preprocess) -> bool {
    let (needed_height, needed_width) = scaled_size(height, width, preprocess);
    let (height, width) = (f64::from(height), f64::from(width));
    height >= needed_height
        && width >= needed_width
        && (height, width) != (needed_height, needed_width)
}

fn covers(side: u32, eighths: u8, needed: f64) -> bool {
    reduced(side, eighths) >= needed
}

fn reduced(side: u32, eighths: u8) -> f64 {
    f64::from(side) * f64::from(eighths) / 8.0
}

/// Height and width of a stored picture once it is turned.
pub(super) fn upright<T>(height: T, width: T, orientation: Orientation) -> (T, T) {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    match orientation {
        Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH => (width, height),
        _ => (height, width),
    }
}

/// What of reduced pixels, turned upright, stands for the picture of `height × width`; see [`extent`].
pub(super) fn reduced_extent(
    pixels: &Pixels,
    (height, width): (u32, u32),
    eighths: u8,
    orientation: Orientation,
) -> Extent {
    let content = (reduced(height, eighths), reduced(width, eighths));
    extent(pixels, content, orientation)
}

/// What of pixels, turned upright, stands for a picture of which they show `height × width`: where that is no whole number, the last row or
/// column as stored stands for less than the others.
pub(super) fn extent(
    pixels: &Pixels,
    (height, width): (f64, f64),
    orientation: Orientation,
) -> Extent {
    use Orientation::{
        FlipHorizontal, FlipVertical, NoTransforms, Rotate90, Rotate90FlipH, Rotate180, Rotate270,
        Rotate270FlipH,
    };
    let (is_bottom_first, is_right_first) = match orientation {
        NoTransforms | Rotate90FlipH => (false, false),
        FlipHorizontal | Rotate90 => (false, true),
        FlipVertical | Rotate270 => (true, false),
        Rotate180 | Rotate270FlipH => (true, true),
    };
    let start = |is_turned: bool, side: u32, content: f64| match is_turned {
        true => f64::from(side) - content,
        false => 0.0,
    };
    Extent {
        top: start(is_bottom_first, pixels.height, height),
        left: start(is_right_first, pixels.width, width),
        height,
        width,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::Colour;

    #[test]
    fn the_smallest_size_with_twice_the_pixels_is_taken() {
        let stretch = Preprocess::stretch(28, 28, Colour::Grey);
        let eighths = |height, width| sufficient_eighths((height, width), &stretch);
        assert_eq!(eighths(3000, 2000), Some(1));
        assert_eq!(eighths(533, 400), Some(2));
        assert_eq!(eighths(448, 4000), Some(1));
        assert_eq!(eighths(447, 4000), Some(2));
        assert_eq!(eighths(112, 120), Some(4));
        assert_eq!(eighths(111, 120), None);
    }

    #[test]
    fn what_is_not_made_smaller_stays_as_it_is() {
        let stretch = Preprocess::stretch(30, 20, Colour::Grey);
        for (size, expected) in [((30, 20), false), ((31, 20), true), ((29, 400), false)] {
            assert_eq!(is_made_smaller(size, &stretch), expected, "{size:?}");
        }
    }

    #[test]
    fn padding_needs_less_and_cropping_more_of_a_long_picture() {
        let with = |fit| Preprocess {
            fit,
            ..Preprocess::stretch(50, 50, Colour::Rgb)
        };
        // Scaled to 13 × 50 and to 50 × 200.
        assert_eq!(sufficient_eighths((208, 800), &with(Fit::Pad)), Some(1));
        assert_eq!(sufficient_eighths((208, 800), &with(Fit::Stretch)), Some(4));
        assert_eq!(sufficient_eighths((200, 800), &with(Fit::Crop)), Some(4));
        assert_eq!(sufficient_eighths((198, 792), &with(Fit::Crop)), None);
    }
}
