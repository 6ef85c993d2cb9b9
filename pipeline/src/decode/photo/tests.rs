use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::{GrayImage, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use proptest::prelude::*;

use super::*;
use crate::decode::{Limits, decode_bytes};
use crate::preprocess::Fit;

fn contract() -> Preprocess {
    Preprocess::fashion_mnist(28, 28, Colour::Grey)
}

fn fitted(image: impl Into<DynamicImage>, preprocess: &Preprocess) -> Vec<u8> {
    let mut png = Cursor::new(Vec::new());
    image.into().write_to(&mut png, ImageFormat::Png).unwrap();
    let mut out = vec![99; preprocess.bytes_per_image()];
    decode_bytes(&png.into_inner(), preprocess, &Limits::default(), &mut out).unwrap();
    out
}

/// A `height × width` photo in one colour, with a box of another in `rows` and `columns`.
fn boxed(
    (height, width): (u32, u32),
    ground: [u8; 3],
    object: [u8; 3],
    rows: std::ops::Range<u32>,
    columns: std::ops::Range<u32>,
) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb(match rows.contains(&y) && columns.contains(&x) {
            true => object,
            false => ground,
        })
    })
}

fn rgb(image: RgbImage) -> Pixels {
    convert(image.into(), Colour::Rgb, [255; 3])
}

#[test]
fn an_image_of_the_models_size_is_taken_byte_for_byte() {
    let image = GrayImage::from_fn(28, 28, |x, y| Luma([(x * 9 + y * 3) as u8]));
    let light = GrayImage::from_pixel(28, 28, Luma([250]));
    assert_eq!(fitted(image.clone(), &contract()), image.into_raw());
    assert_eq!(fitted(light.clone(), &contract()), light.into_raw());
}

#[test]
fn the_object_fills_the_canvas_in_proportion_bright_on_black() {
    let photo = boxed((300, 200), [250; 3], [20, 30, 90], 40..260, 60..115);
    let out = fitted(photo, &contract());
    // 220×55 becomes 28×7, in columns 10 to 16.
    for row in out.chunks(28) {
        assert!(row[..10].iter().chain(&row[17..]).all(|&value| value == 0));
        assert!(row[11..16].iter().all(|&value| value > 200), "{row:?}");
    }
}

#[test]
fn a_dark_ground_is_not_negated() {
    let photo = boxed((200, 300), [3; 3], [220, 200, 210], 50..105, 20..240);
    let out = fitted(photo, &contract());
    assert!(out[..28 * 10].iter().all(|&value| value == 0));
    assert!(out[28 * 12..28 * 15].iter().all(|&value| value > 190));
}

#[test]
fn a_grey_ground_becomes_black_and_what_is_on_it_keeps_the_whole_scale() {
    let darkened = |values: &[u8], ground: u8| {
        let mut values = values.to_vec();
        darken_ground(&mut values, [ground; 3], Colour::Grey);
        values
    };
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(darkened(&all, 0), all);
    assert_eq!(
        darkened(&all, 255),
        all.iter().rev().copied().collect::<Vec<_>>()
    );
    assert_eq!(darkened(&[0, 100, 200, 220], 200), [255, 128, 0, 0]);
    assert_eq!(darkened(&[0, 50, 255], 50), [0, 0, 255]);
    let mut pixel = [0, 100, 50];
    darken_ground(&mut pixel, [200, 200, 0], Colour::Rgb);
    assert_eq!(pixel, [255, 128, 0]);
}

#[test]
fn transparency_is_ground() {
    let cut_out = RgbaImage::from_fn(120, 120, |x, y| {
        match (30..90).contains(&x) && (10..110).contains(&y) {
            true => Rgba([60, 20, 20, 255]),
            // What hides under transparency does not matter.
            false => Rgba([0, 0, 0, 0]),
        }
    });
    let out = fitted(cut_out, &contract());
    assert_eq!((out[0], out[14 * 28]), (0, 0));
    assert!(out[14 * 28 + 14] > 200);
}

#[test]
fn the_own_ground_pads_with_the_colour_of_the_edge() {
    let photo = boxed((100, 100), [200, 100, 50], [0, 0, 250], 40..60, 10..90);
    let out = fitted(photo, &Preprocess::plain_background(8, 8, Colour::Rgb));
    assert_eq!(out[..3], [200, 100, 50]);
    assert_eq!(out[(3 * 8 + 4) * 3..][..3], [0, 0, 250]);
}

#[test]
fn trimming_reaches_as_far_as_the_colour_of_the_corners_and_not_further() {
    let region = |image: RgbImage, percent| trim(&rgb(image), Colour::Rgb, percent);
    let expected = Region {
        top: 20,
        left: 5,
        height: 11,
        width: 32,
    };
    // 12 levels of grey are 4.7 %, 14 are 5.5 %.
    for (object, found) in [
        (238, expected),
        (236, expected),
        (
            240,
            Region {
                top: 0,
                left: 0,
                height: 50,
                width: 40,
            },
        ),
    ] {
        let photo = boxed((50, 40), [252; 3], [object; 3], 20..31, 5..37);
        assert_eq!(region(photo, 5), found, "{object}");
    }
    // The corners may differ from each other.
    let mut photo = boxed((50, 40), [250; 3], [10; 3], 20..31, 5..37);
    for y in 31..50 {
        (0..40).for_each(|x| photo.put_pixel(x, y, Rgb([180; 3])));
    }
    assert_eq!(region(photo, 5), expected);
}

#[test]
fn noise_of_a_jpeg_does_not_stop_the_trimming() {
    let mut photo = boxed((400, 600), [255; 3], [120, 20, 20], 100..300, 200..400);
    for (x, y) in [(3, 2), (590, 50), (10, 390), (300, 5)] {
        photo.put_pixel(x, y, Rgb([150; 3]));
    }
    let found = trim(&rgb(photo.clone()), Colour::Rgb, 5);
    assert_eq!(
        (found.top, found.left, found.height, found.width),
        (100, 200, 200, 200)
    );

    let mut jpeg = Vec::new();
    let clean = boxed((400, 600), [255; 3], [120, 20, 20], 100..300, 200..400);
    JpegEncoder::new_with_quality(&mut jpeg, 60)
        .encode_image(&clean)
        .unwrap();
    let decoded = image::load_from_memory(&jpeg).unwrap().into_rgb8();
    let found = trim(&rgb(decoded), Colour::Rgb, 5);
    // Within one block of the JPEG.
    assert!(
        found.top.abs_diff(100) <= 16 && found.height.abs_diff(200) <= 32,
        "{found:?}"
    );
}

#[test]
fn what_is_all_background_or_none_of_it_stays_whole() {
    for colour in [[255; 3], [0; 3], [90, 120, 10]] {
        let photo = boxed((30, 50), colour, colour, 0..0, 0..0);
        assert_eq!(
            trim(&rgb(photo.clone()), Colour::Rgb, 5),
            Region::whole(&rgb(photo))
        );
    }
    let busy = RgbImage::from_fn(50, 30, |x, y| {
        Rgb([(x * 83 + y * 151) as u8, 9, (y * 67) as u8])
    });
    let found = trim(&rgb(busy.clone()), Colour::Rgb, 5);
    assert!(found.height >= 28 && found.width >= 48, "{found:?}");
}

#[test]
fn sharpening_keeps_flat_areas_and_overshoots_at_edges() {
    let image = |values: Vec<u8>| Pixels {
        bytes: values,
        height: 3,
        width: 4,
    };
    for flat in [0, 1, 100, 255] {
        assert_eq!(sharpened(&image(vec![flat; 12]), 1), [flat; 12]);
    }
    let edge = [50, 50, 100, 100].repeat(3);
    // At an edge of 50 levels: 50 · (6740 + 2 · 4088) / 65,536 = 11.4.
    assert_eq!(sharpened(&image(edge), 1), [50, 39, 111, 100].repeat(3));
}

#[test]
fn the_contract_of_older_models_has_no_photo_steps_and_is_written_as_before() {
    let stretch = Preprocess::stretch(28, 28, Colour::Grey);
    let json = serde_json::to_string(&stretch).unwrap();
    assert!(!json.contains("photo"), "{json}");
    assert_eq!(serde_json::from_str::<Preprocess>(&json).unwrap(), stretch);
    let json = serde_json::to_string(&contract()).unwrap();
    assert_eq!(
        serde_json::from_str::<Preprocess>(&json).unwrap(),
        contract()
    );
    let unknown = json.replace("\"sharpen\"", "\"sharpness\"");
    assert!(serde_json::from_str::<Preprocess>(&unknown).is_err());
}

proptest! {
    #[test]
    fn any_image_becomes_an_input(
        (height, width) in (1_u32..90, 1_u32..90),
        seed in any::<u32>(),
        is_plain in any::<bool>(),
        kind in 0..4_u8,
        percent in prop::option::of(0..=100_u8),
        (model_height, model_width) in (1_u32..40, 1_u32..40),
    ) {
        let value = |x: u32, y: u32, channel: u32| {
            let inside = x > width / 3 && y > height / 3;
            let noise = (x * 7919 + y * 104_729 + channel * 31).wrapping_mul(seed | 1) >> 13;
            if is_plain && !inside { 240 } else { noise as u8 }
        };
        let image: DynamicImage = match kind {
            0 => GrayImage::from_fn(width, height, |x, y| Luma([value(x, y, 0)])).into(),
            1 => RgbaImage::from_fn(width, height, |x, y| Rgba([0, 1, 2, 3].map(|c| value(x, y, c)))).into(),
            _ => RgbImage::from_fn(width, height, |x, y| Rgb([0, 1, 2].map(|c| value(x, y, c)))).into(),
        };
        for colour in [Colour::Grey, Colour::Rgb] {
            for fit in [Fit::Pad, Fit::Stretch, Fit::Crop] {
                for ground in [Ground::Dark, Ground::Own] {
                    let photo = Some(PhotoSteps { trim_percent: percent, sharpen: kind != 3, ground });
                    let preprocess = Preprocess { fit, photo, ..Preprocess::stretch(model_height, model_width, colour) };
                    prop_assert_eq!(fitted(image.clone(), &preprocess), fitted(image.clone(), &preprocess));
                }
            }
        }
    }
}

#[test]
fn needles_become_lines() {
    for (height, width) in [(1, 5000), (5000, 1), (1, 1), (2, 3000)] {
        let out = fitted(
            RgbImage::from_pixel(width, height, Rgb([255; 3])),
            &contract(),
        );
        assert_eq!(out.len(), 784);
        let photo = boxed(
            (height, width),
            [255; 3],
            [0; 3],
            0..height,
            0..width.div_ceil(2),
        );
        fitted(photo, &contract());
    }
}
