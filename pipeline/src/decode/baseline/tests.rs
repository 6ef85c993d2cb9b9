//! Against libjpeg, which computes the same means in another way.

use mozjpeg::{ColorSpace, Compress};
use proptest::prelude::*;

use super::*;
use crate::decode::libjpeg::Libjpeg;
use crate::preprocess::Colour;

/// An image with a restart marker behind every second unit, 70 × 45 pixels, written by Pillow.
const RESTARTS: &[u8] = include_bytes!("restarts.jpg");

/// How a file is written.
#[derive(Clone, Debug)]
struct Recipe {
    width: usize,
    height: usize,
    quality: u8,
    is_grey: bool,
    /// Pixels that a value of the colours stands for, across and down.
    sampling: (u8, u8),
    has_own_codes: bool,
    noise: u32,
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let sampling = prop::sample::select(vec![(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)]);
    let size = (1..70_usize, 1..50_usize);
    (
        size,
        // Worse ones take steps of 16 bits, which are left to libjpeg.
        40..100_u8,
        any::<bool>(),
        sampling,
        any::<bool>(),
        0..200_u32,
    )
        .prop_map(
            |((width, height), quality, is_grey, sampling, has_own_codes, noise)| Recipe {
                width,
                height,
                quality,
                is_grey,
                sampling,
                has_own_codes,
                noise,
            },
        )
}

impl Recipe {
    fn jpeg(&self, is_progressive: bool) -> Vec<u8> {
        let (space, channels) = match self.is_grey {
            true => (ColorSpace::JCS_GRAYSCALE, 1),
            false => (ColorSpace::JCS_RGB, 3),
        };
        let mut compress = Compress::new(space);
        compress.set_size(self.width, self.height);
        // Mozilla's defaults are several passes and codes of one's own.
        compress.set_fastest_defaults();
        compress.set_quality(f32::from(self.quality));
        compress.set_optimize_coding(self.has_own_codes);
        if !self.is_grey {
            compress.set_chroma_sampling_pixel_sizes(self.sampling, self.sampling);
        }
        if is_progressive {
            compress.set_progressive_mode();
        }
        let pixels: Vec<u8> = (0..self.height * self.width * channels)
            .map(|at| {
                let (x, y) = (at / channels % self.width, at / channels / self.width);
                let grain = (at as u32).wrapping_mul(2_654_435_761) >> 8;
                (x * 4 + y * 3 * (at % channels + 1)) as u8 / 2
                    + (grain % (self.noise + 1) / 2) as u8
            })
            .collect();
        let mut started = compress.start_compress(Vec::new()).unwrap();
        started.write_scanlines(&pixels).unwrap();
        started.finish().unwrap()
    }
}

fn ours(jpeg: &[u8], eighths: u8, is_grey: bool) -> Option<Raster> {
    BaselineJpeg::open(jpeg)?.decode(eighths, is_grey)
}

/// What libjpeg makes of a flawless file.
fn theirs(jpeg: &[u8], eighths: u8, is_grey: bool) -> Option<Raster> {
    let colour = if is_grey { Colour::Grey } else { Colour::Rgb };
    let image = Libjpeg::open(jpeg)?.decode(eighths, colour)?;
    Some(Raster {
        height: image.height() as usize,
        width: image.width() as usize,
        channels: usize::from(image.color().channel_count()),
        bytes: image.into_bytes(),
    })
}

/// The largest difference of two values.
fn difference(ours: &Raster, theirs: &Raster) -> u8 {
    assert_eq!(
        (ours.height, ours.width, ours.channels),
        (theirs.height, theirs.width, theirs.channels)
    );
    let pairs = ours.bytes.iter().zip(&theirs.bytes);
    pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

/// libjpeg rounds in between, and once more for colours.
fn allowed(channels: usize) -> u8 {
    if channels == 1 { 1 } else { 4 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn pixels_are_those_of_libjpeg(recipe in recipe(), eighths in prop::sample::select(vec![1_u8, 2]), is_grey: bool) {
        let jpeg = recipe.jpeg(false);
        let theirs = theirs(&jpeg, eighths, is_grey).unwrap();
        match ours(&jpeg, eighths, is_grey) {
            // Where colours are halved one way only, libjpeg decodes one value for two pixels and interpolates.
            Some(ours) if ours.channels == 3 && !matches!(recipe.sampling, (1, 1) | (2, 2)) => {
                prop_assert_eq!(ours.bytes.len(), theirs.bytes.len());
            }
            Some(ours) => prop_assert!(difference(&ours, &theirs) <= allowed(ours.channels)),
            // Eight values of a colour where there are two of brightness.
            None => prop_assert_eq!((recipe.sampling, eighths, is_grey), ((4, 1), 2, false)),
        }
    }

    #[test]
    fn planes_are_the_whole_picture(recipe in recipe()) {
        let jpeg = recipe.jpeg(false);
        let file = BaselineJpeg::open(&jpeg).unwrap();
        let planes = file.planes(false).unwrap();
        prop_assert_eq!(planes.len(), if recipe.is_grey { 1 } else { 3 });
        let luma = &planes[0];
        prop_assert_eq!((luma.height, luma.width), (recipe.height, recipe.width));
        let expected = theirs(&jpeg, 8, true).unwrap();
        let bytes = luma.bytes.iter().zip(&expected.bytes);
        prop_assert!(bytes.map(|(a, b)| a.abs_diff(*b)).all(|difference| difference <= 1));
        if let [luma, blue, red] = planes.as_slice() {
            let (across, down) = recipe.sampling;
            let content = (recipe.height as f64 / f64::from(down), recipe.width as f64 / f64::from(across));
            prop_assert_eq!([blue.content, red.content], [content, content]);
            prop_assert_eq!(blue.bytes.len(), content.0.ceil() as usize * content.1.ceil() as usize);
            if recipe.sampling == (1, 1) {
                let pixels = luma.bytes.iter().zip(&blue.bytes).zip(&red.bytes);
                let ours: Vec<u8> = pixels.flat_map(|((&luma, &blue), &red)| colour::rgb_of([luma, blue, red])).collect();
                let theirs = theirs(&jpeg, 8, false).unwrap();
                let pairs = ours.iter().zip(&theirs.bytes);
                prop_assert!(pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap() <= allowed(3));
            }
        }
        prop_assert_eq!(file.planes(true).unwrap(), [planes.into_iter().next().unwrap()]);
    }

    #[test]
    fn what_libjpeg_complains_about_is_refused(
        recipe in recipe(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut jpeg = recipe.jpeg(false);
        for (place, byte) in changes {
            let place = place.index(jpeg.len());
            jpeg[place] = byte;
        }
        if let Some(cut) = cut {
            jpeg.truncate(cut.index(jpeg.len()));
        }
        for (eighths, is_grey) in [(1, true), (2, true), (1, false), (2, false)] {
            if let Some(ours) = ours(&jpeg, eighths, is_grey) {
                let theirs = theirs(&jpeg, eighths, is_grey);
                prop_assert!(theirs.is_some());
                // Coefficients that no encoder writes may take either of them beyond the numbers it has.
                prop_assert_eq!(ours.bytes.len(), theirs.unwrap().bytes.len());
            }
        }
        for is_grey in [true, false] {
            if BaselineJpeg::open(&jpeg).and_then(|jpeg| jpeg.planes(is_grey)).is_some() {
                prop_assert!(theirs(&jpeg, 8, is_grey).is_some());
            }
        }
    }

    #[test]
    fn bytes_that_are_no_image_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut jpeg = RESTARTS[..RESTARTS.len() / 3].to_vec();
        jpeg.extend(bytes);
        for is_grey in [true, false] {
            ours(&jpeg, 2, is_grey);
            BaselineJpeg::open(&jpeg).and_then(|jpeg| jpeg.planes(is_grey));
        }
    }
}

#[test]
fn predictions_begin_anew_behind_restart_markers() {
    for (eighths, is_grey) in [(1, true), (2, true), (1, false), (2, false)] {
        let ours = ours(RESTARTS, eighths, is_grey).unwrap();
        let theirs = theirs(RESTARTS, eighths, is_grey).unwrap();
        assert!(difference(&ours, &theirs) <= allowed(ours.channels));
    }
    // One marker less, or out of order.
    let place = RESTARTS
        .windows(2)
        .position(|two| two == [0xFF, 0xD1])
        .unwrap();
    let mut jpeg = RESTARTS.to_vec();
    jpeg[place + 1] = 0xD2;
    assert_eq!(ours(&jpeg, 1, true), None);
    jpeg.drain(place..place + 2);
    assert_eq!(ours(&jpeg, 1, true), None);
}

#[test]
fn other_kinds_of_jpeg_are_for_others() {
    let recipe = Recipe {
        width: 40,
        height: 30,
        quality: 80,
        is_grey: false,
        sampling: (2, 2),
        has_own_codes: false,
        noise: 9,
    };
    assert!(ours(&recipe.jpeg(false), 1, true).is_some());
    assert_eq!(ours(&recipe.jpeg(true), 1, true), None);
    let mut inks = Compress::new(ColorSpace::JCS_CMYK);
    inks.set_size(8, 8);
    inks.set_fastest_defaults();
    let mut started = inks.start_compress(Vec::new()).unwrap();
    started.write_scanlines(&[90; 8 * 8 * 4]).unwrap();
    assert_eq!(ours(&started.finish().unwrap(), 1, true), None);
}

#[test]
fn anything_behind_the_data_or_missing_from_it_is_noticed() {
    let end = RESTARTS.len() - 2;
    let mut jpeg = RESTARTS.to_vec();
    jpeg.insert(end, 7);
    assert_eq!(ours(&jpeg, 1, true), None);
    jpeg.drain(end - 1..=end);
    assert_eq!(ours(&jpeg, 1, true), None);
    // What follows the end marker is none of the image.
    let mut jpeg = RESTARTS.to_vec();
    jpeg.extend(b"more");
    assert!(ours(&jpeg, 1, true).is_some());
}
