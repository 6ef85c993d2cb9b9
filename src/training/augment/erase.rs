//! Random erasing: a random rectangle is overwritten.

use rand::{Rng, RngExt};

use super::{Erasing, ErasingFill, ImageShape};

/// How often a rectangle is drawn before the image is left as it is.
const ATTEMPTS: usize = 10;

/// Rows and columns of a rectangle, half open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rectangle {
    top: usize,
    left: usize,
    height: usize,
    width: usize,
}

/// Erases a rectangle with the probability of `erasing`.
pub(super) fn erase(image: &mut [u8], shape: ImageShape, erasing: &Erasing, rng: &mut impl Rng) {
    if !rng.random_bool(f64::from(erasing.probability)) {
        return;
    }
    let Some(Rectangle {
        top,
        left,
        height,
        width,
    }) = draw_rectangle(shape, erasing, rng)
    else {
        return;
    };
    for y in top..top + height {
        let start = (y * shape.width + left) * shape.channels;
        let row = &mut image[start..start + width * shape.channels];
        match erasing.fill {
            ErasingFill::Constant(value) => row.fill(value),
            ErasingFill::Noise => rng.fill_bytes(row),
        }
    }
}

/// A rectangle of random area, aspect ratio and place that leaves something of the image on each side pair.
///
/// As in the paper, a rectangle as high or as wide as the image is drawn again, a few times; `None` when none fitted.
fn draw_rectangle(shape: ImageShape, erasing: &Erasing, rng: &mut impl Rng) -> Option<Rectangle> {
    let [smallest, largest] = erasing
        .area
        .map(|fraction| fraction * (shape.height * shape.width) as f32);
    // A ratio and its inverse must be equally likely, hence the logarithm.
    let [flattest, steepest] = erasing.aspect.map(f32::ln);
    for _ in 0..ATTEMPTS {
        let area = rng.random_range(smallest..=largest);
        let aspect = rng.random_range(flattest..=steepest).exp();
        let height = (area * aspect).sqrt().round() as usize;
        let width = (area / aspect).sqrt().round() as usize;
        if (1..shape.height).contains(&height) && (1..shape.width).contains(&width) {
            let top = rng.random_range(0..=shape.height - height);
            let left = rng.random_range(0..=shape.width - width);
            return Some(Rectangle {
                top,
                left,
                height,
                width,
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::augment::image_rng;

    const SHAPE: ImageShape = ImageShape {
        height: 20,
        width: 40,
        channels: 3,
    };

    fn erased(erasing: &Erasing, seed: u64) -> Vec<u8> {
        let mut image = vec![1; SHAPE.len()];
        erase(&mut image, SHAPE, erasing, &mut image_rng(seed, 0, 0));
        image
    }

    #[test]
    fn rectangles_have_the_area_and_aspect_asked_for_and_reach_every_border() {
        let erasing = Erasing {
            area: [0.05, 0.2],
            aspect: [0.5, 2.0],
            ..Erasing::default()
        };
        let (mut at_top, mut at_left, mut at_bottom, mut at_right, mut higher) = (0, 0, 0, 0, 0);
        for seed in 0..2000 {
            let rectangle = draw_rectangle(SHAPE, &erasing, &mut image_rng(seed, 0, 0)).unwrap();
            let Rectangle {
                top,
                left,
                height,
                width,
            } = rectangle;
            // Rounding to whole pixels moves a side by at most half a pixel.
            let (h, w) = (height as f32, width as f32);
            assert!(
                (h + 0.5) * (w + 0.5) >= 0.05 * 800.0 && (h - 0.5) * (w - 0.5) <= 0.2 * 800.0,
                "{rectangle:?}"
            );
            assert!(
                (h + 0.5) / (w - 0.5) >= 0.5 && (h - 0.5) / (w + 0.5) <= 2.0,
                "{rectangle:?}"
            );
            assert!(top + height <= 20 && left + width <= 40, "{rectangle:?}");
            at_top += usize::from(top == 0);
            at_left += usize::from(left == 0);
            at_bottom += usize::from(top + height == 20);
            at_right += usize::from(left + width == 40);
            higher += usize::from(height > width);
        }
        assert!(at_top > 0 && at_left > 0 && at_bottom > 0 && at_right > 0);
        assert!(
            (700..1200).contains(&higher),
            "high and wide rectangles are about equally frequent: {higher}"
        );
    }

    #[test]
    fn a_constant_overwrites_one_rectangle_in_all_channels() {
        let erasing = Erasing {
            probability: 1.0,
            fill: ErasingFill::Constant(200),
            ..Erasing::default()
        };
        let image = erased(&erasing, 3);
        let erased_pixels: Vec<usize> = image
            .chunks(3)
            .enumerate()
            .filter(|(_, pixel)| *pixel == [200; 3])
            .map(|(index, _)| index)
            .collect();
        assert!(
            image
                .chunks(3)
                .all(|pixel| pixel == [200; 3] || pixel == [1; 3])
        );
        let rows: Vec<usize> = erased_pixels.iter().map(|index| index / 40).collect();
        let columns: Vec<usize> = erased_pixels.iter().map(|index| index % 40).collect();
        let height = rows.iter().max().unwrap() - rows.iter().min().unwrap() + 1;
        let width = columns.iter().max().unwrap() - columns.iter().min().unwrap() + 1;
        assert_eq!(erased_pixels.len(), height * width);
    }

    #[test]
    fn noise_is_noise() {
        let image = erased(
            &Erasing {
                probability: 1.0,
                area: [0.3, 0.3],
                ..Erasing::default()
            },
            1,
        );
        let distinct: std::collections::BTreeSet<u8> = image.into_iter().collect();
        assert!(distinct.len() > 100, "{}", distinct.len());
    }

    #[test]
    fn happens_as_often_as_asked() {
        let erasing = Erasing {
            probability: 0.25,
            fill: ErasingFill::Constant(0),
            ..Erasing::default()
        };
        let changed = (0..2000)
            .filter(|&seed| erased(&erasing, seed).contains(&0))
            .count();
        assert!((430..570).contains(&changed), "{changed}");
    }

    #[test]
    fn an_image_too_small_for_a_rectangle_is_left_alone() {
        let shape = ImageShape {
            height: 1,
            width: 1,
            channels: 1,
        };
        assert_eq!(
            draw_rectangle(shape, &Erasing::default(), &mut image_rng(0, 0, 0)),
            None
        );
    }
}
