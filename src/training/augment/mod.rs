//! Random variants of training images: an affine map, changes of colour and random erasing, on `uint8` pixels `[H, W, C]`.
//!
//! One image in, one image of the same shape out; no threads, no state. Every draw comes from the generator that is passed in,
//! and [`image_rng`] derives one per image and epoch, so that a run does not depend on how many threads made its batches.

mod affine;
mod colour;
mod erase;
mod mix;
mod settings;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use affine::Affine;
pub use mix::MixSettings;
pub(crate) use mix::mix;
pub use settings::{AugmentSettings, ColourJitter, Erasing, ErasingFill, Fill, RandomOperations};

/// Shape of an image: pixels lie row by row, the channels of a pixel side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageShape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Bytes per pixel.
    pub channels: usize,
}

impl ImageShape {
    /// Bytes of one image: `height · width · channels`.
    pub fn len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Whether an image of this shape has no pixel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<&pipeline::preprocess::Preprocess> for ImageShape {
    fn from(preprocess: &pipeline::preprocess::Preprocess) -> Self {
        Self {
            height: preprocess.height as usize,
            width: preprocess.width as usize,
            channels: preprocess.colour.channels(),
        }
    }
}

/// The random generator of one image in one epoch.
///
/// The 32-byte ChaCha key is seed, epoch, image index and a purpose as little-endian 64-bit numbers, so each image has a
/// stream of its own, whichever thread asks and in whatever order.
pub fn image_rng(seed: u64, epoch: u64, image: u64) -> ChaCha8Rng {
    keyed_rng([seed, epoch, image, u64::from_le_bytes(*b"augment ")])
}

/// The random generator that shuffles the images of one epoch; unrelated to every [`image_rng`].
pub fn shuffle_rng(seed: u64, epoch: u64) -> ChaCha8Rng {
    keyed_rng([seed, epoch, 0, u64::from_le_bytes(*b"shuffle ")])
}

/// The random generator that mixes the images of a batch of one epoch; `first` is the index of the batch's first image.
pub fn mix_rng(seed: u64, epoch: u64, first: u64) -> ChaCha8Rng {
    keyed_rng([seed, epoch, first, u64::from_le_bytes(*b"mix     ")])
}

fn keyed_rng(words: [u64; 4]) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// Writes a random variant of `image` to `out`; both are `[H, W, C]` of the given shape.
///
/// All geometry is one inverse affine map, so pixels are interpolated (bilinearly) at most once; flips and shifts, which are whole
/// pixels, copy them exactly. `settings` should have passed [`AugmentSettings::validate`].
///
/// # Panics
/// When `image` or `out` is not `shape.len()` bytes long.
pub fn augment(
    image: &[u8],
    shape: ImageShape,
    settings: &AugmentSettings,
    rng: &mut impl Rng,
    out: &mut [u8],
) {
    assert_eq!(
        image.len(),
        shape.len(),
        "an image of {shape:?} has another length"
    );
    assert_eq!(
        out.len(),
        shape.len(),
        "the room for an image of {shape:?} has another length"
    );
    if shape.is_empty() {
        return;
    }
    draw_affine(shape, settings, rng).apply(image, shape, settings.fill, out);
    colour::jitter(out, shape, &settings.colour, rng);
    colour::random_operations(out, shape, &settings.operations, rng);
    if settings.erasing.probability > 0.0 {
        erase::erase(out, shape, &settings.erasing, rng);
    }
}

/// Draws the geometry. What is switched off draws nothing.
fn draw_affine(shape: ImageShape, settings: &AugmentSettings, rng: &mut impl Rng) -> Affine {
    let flip_x =
        settings.horizontal_flip > 0.0 && rng.random_bool(f64::from(settings.horizontal_flip));
    let flip_y = settings.vertical_flip > 0.0 && rng.random_bool(f64::from(settings.vertical_flip));
    let shift_x = whole_pixels(settings.shift_x, shape.width, rng);
    let shift_y = whole_pixels(settings.shift_y, shape.height, rng);
    let rotation = symmetric(settings.rotation_degrees, rng).to_radians();
    let shear = symmetric(settings.shear_degrees, rng).to_radians();
    let [zoom_out, zoom_in] = settings.zoom;
    let zoom = if zoom_out < zoom_in {
        rng.random_range(zoom_out..=zoom_in)
    } else {
        zoom_out
    };
    Affine {
        flip_x,
        flip_y,
        shift_x,
        shift_y,
        rotation,
        shear,
        zoom,
    }
}

/// A whole number of pixels, uniform within ± the fraction of the side.
fn whole_pixels(fraction: f32, side: usize, rng: &mut impl Rng) -> i64 {
    let most = (fraction * side as f32).round() as i64;
    if most > 0 {
        rng.random_range(-most..=most)
    } else {
        0
    }
}

/// Uniform within ±`most`.
fn symmetric(most: f32, rng: &mut impl Rng) -> f32 {
    if most > 0.0 {
        rng.random_range(-most..=most)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{
        Strategy, any, prop, prop_assert, prop_assert_eq, prop_assume, proptest,
    };

    use super::*;

    fn images() -> impl Strategy<Value = (Vec<u8>, ImageShape)> {
        (1usize..9, 1usize..9, prop::sample::select(vec![1usize, 3])).prop_flat_map(
            |(height, width, channels)| {
                let shape = ImageShape {
                    height,
                    width,
                    channels,
                };
                prop::collection::vec(any::<u8>(), shape.len())
                    .prop_map(move |image| (image, shape))
            },
        )
    }

    fn augmented(
        image: &[u8],
        shape: ImageShape,
        settings: &AugmentSettings,
        seed: u64,
    ) -> Vec<u8> {
        let mut out = vec![99; image.len()];
        augment(image, shape, settings, &mut image_rng(seed, 1, 0), &mut out);
        out
    }

    /// Everything on, so that every pixel may be interpolated.
    fn strong(fill: Fill) -> AugmentSettings {
        AugmentSettings {
            rotation_degrees: 30.0,
            shift_x: 0.3,
            shift_y: 0.3,
            shear_degrees: 20.0,
            zoom: [0.7, 1.4],
            horizontal_flip: 0.5,
            vertical_flip: 0.5,
            erasing: Erasing {
                probability: 0.0,
                ..Erasing::default()
            },
            fill,
            ..AugmentSettings::none()
        }
    }

    #[test]
    fn generators_depend_on_seed_epoch_image_and_purpose() {
        let first = |mut rng: ChaCha8Rng| rng.next_u64();
        let draws = [
            first(image_rng(1, 2, 3)),
            first(image_rng(2, 1, 3)),
            first(image_rng(1, 3, 2)),
            first(image_rng(3, 2, 1)),
            first(image_rng(1, 2, 0)),
            first(shuffle_rng(1, 2)),
        ];
        let mut distinct = draws.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), draws.len());
        assert_eq!(first(image_rng(1, 2, 3)), draws[0]);
    }

    #[test]
    fn defaults_shift_by_at_most_one_of_28_pixels_and_flip_half_of_the_images() {
        let shape = ImageShape {
            height: 28,
            width: 28,
            channels: 1,
        };
        let settings = AugmentSettings::default();
        let mut seen = std::collections::BTreeMap::new();
        let mut flips = 0;
        for image in 0..2000 {
            let affine = draw_affine(shape, &settings, &mut image_rng(7, 0, image));
            assert!(affine.shift_x.abs() <= 1 && affine.shift_y.abs() <= 1);
            assert!(!affine.flip_y);
            assert_eq!(
                (affine.rotation, affine.shear, affine.zoom),
                (0.0, 0.0, 1.0)
            );
            *seen.entry((affine.shift_x, affine.shift_y)).or_insert(0) += 1;
            flips += usize::from(affine.flip_x);
        }
        assert_eq!(seen.len(), 9, "every shift occurs: {seen:?}");
        assert!((900..1100).contains(&flips), "{flips}");
    }

    #[test]
    fn sides_are_not_swapped() {
        // 2 rows of 6: only a horizontal shift of 3 pixels is possible.
        let shape = ImageShape {
            height: 2,
            width: 6,
            channels: 1,
        };
        let settings = AugmentSettings {
            shift_x: 0.5,
            shift_y: 0.0,
            ..AugmentSettings::none()
        };
        let shifts: std::collections::BTreeSet<(i64, i64)> = (0..200)
            .map(|image| draw_affine(shape, &settings, &mut image_rng(0, 0, image)))
            .map(|affine| (affine.shift_x, affine.shift_y))
            .collect();
        assert_eq!(
            shifts.into_iter().collect::<Vec<_>>(),
            (-3..=3).map(|x| (x, 0)).collect::<Vec<_>>()
        );
    }

    #[test]
    #[should_panic(expected = "has another length")]
    fn a_wrong_length_is_a_panic_not_a_wrong_image() {
        augmented(
            &[0; 5],
            ImageShape {
                height: 2,
                width: 3,
                channels: 1,
            },
            &AugmentSettings::none(),
            0,
        );
    }

    proptest! {
        #[test]
        fn no_augmentation_copies_exactly((image, shape) in images(), seed: u64) {
            prop_assert_eq!(augmented(&image, shape, &AugmentSettings::none(), seed), image);
        }

        #[test]
        fn flipping_twice_is_the_identity((image, shape) in images(), seed: u64, x: bool, y: bool) {
            let settings = AugmentSettings {
                horizontal_flip: f32::from(u8::from(x)),
                vertical_flip: f32::from(u8::from(y)),
                ..AugmentSettings::none()
            };
            let once = augmented(&image, shape, &settings, seed);
            prop_assert_eq!(augmented(&once, shape, &settings, !seed), image);
        }

        #[test]
        fn the_same_generator_gives_the_same_image((image, shape) in images(), seed: u64) {
            let mut settings = strong(Fill::Edge);
            settings.erasing = Erasing { probability: 1.0, ..Erasing::default() };
            prop_assert_eq!(augmented(&image, shape, &settings, seed), augmented(&image, shape, &settings, seed));
        }

        #[test]
        fn interpolation_stays_within_the_range_of_the_image((image, shape) in images(), seed: u64) {
            let out = augmented(&image, shape, &strong(Fill::Edge), seed);
            prop_assert!(out.iter().min() >= image.iter().min() && out.iter().max() <= image.iter().max());
        }

        #[test]
        fn a_border_filled_with_a_constant_stays_within_image_and_constant((image, shape) in images(), seed: u64, fill: u8) {
            let out = augmented(&image, shape, &strong(Fill::Constant(fill)), seed);
            let (low, high) = (image.iter().min().unwrap().min(&fill), image.iter().max().unwrap().max(&fill));
            prop_assert!(out.iter().all(|value| (low..=high).contains(&value)));
        }

        #[test]
        fn a_flat_image_stays_flat(shape in images().prop_map(|(_, shape)| shape), value: u8, seed: u64) {
            let image = vec![value; shape.len()];
            prop_assert_eq!(augmented(&image, shape, &strong(Fill::Constant(value)), seed), image);
        }

        #[test]
        fn channels_are_not_mixed((image, shape) in images(), seed: u64) {
            prop_assume!(shape.channels == 3);
            let grey = ImageShape { channels: 1, ..shape };
            let out = augmented(&image, shape, &strong(Fill::Constant(9)), seed);
            for channel in 0..3 {
                let plane = |pixels: &[u8]| pixels.iter().skip(channel).step_by(3).copied().collect::<Vec<u8>>();
                prop_assert_eq!(plane(&out), augmented(&plane(&image), grey, &strong(Fill::Constant(9)), seed));
            }
        }
    }
}
