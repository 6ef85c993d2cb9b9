use std::fs::File;
use std::io::Write as _;

use image::codecs::gif::GifEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, Frame, ImageEncoder, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};

use super::*;
use crate::preprocess::{Colour, Fit};

const RED: [u8; 3] = [255, 0, 0];
const GREEN: [u8; 3] = [0, 255, 0];
const BLUE: [u8; 3] = [0, 0, 255];
const BLACK: [u8; 3] = [0; 3];

/// 8 rows of 12 pixels; the quarters are red, green (right), blue (below), black.
fn quarters() -> RgbImage {
    RgbImage::from_fn(12, 8, |x, y| {
        Rgb(match (y < 4, x < 6) {
            (true, true) => RED,
            (true, false) => GREEN,
            (false, true) => BLUE,
            (false, false) => BLACK,
        })
    })
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A little-endian EXIF block whose only entry is the orientation.
fn exif(orientation: u8) -> Vec<u8> {
    let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    exif
}

fn png_with_orientation(orientation: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = PngEncoder::new(&mut bytes);
    encoder.set_exif_metadata(exif(orientation)).unwrap();
    encoder
        .write_image(quarters().as_raw(), 12, 8, ExtendedColorType::Rgb8)
        .unwrap();
    bytes
}

fn decoded(bytes: &[u8], preprocess: &Preprocess) -> (Decoded, Vec<u8>) {
    let mut out = vec![0; preprocess.bytes_per_image()];
    let decoded = decode_bytes(bytes, preprocess, &Limits::default(), &mut out).unwrap();
    (decoded, out)
}

fn fault(bytes: &[u8]) -> Fault {
    fault_within(bytes, &Limits::default())
}

fn fault_within(bytes: &[u8], limits: &Limits) -> Fault {
    let preprocess = Preprocess::stretch(4, 4, Colour::Rgb);
    decode_bytes(bytes, &preprocess, limits, &mut [0; 48]).unwrap_err()
}

/// The four corner pixels: top left, top right, bottom left, bottom right.
fn corners(pixels: &[u8], preprocess: &Preprocess) -> [[u8; 3]; 4] {
    let (height, width) = (preprocess.height as usize, preprocess.width as usize);
    let at = |row: usize, column: usize| {
        let start = (row * width + column) * preprocess.colour.channels();
        match preprocess.colour {
            Colour::Grey => [pixels[start]; 3],
            Colour::Rgb => pixels[start..start + 3].try_into().unwrap(),
        }
    };
    [
        at(0, 0),
        at(0, width - 1),
        at(height - 1, 0),
        at(height - 1, width - 1),
    ]
}

#[test]
fn orientation_fit_and_colour_keep_every_corner_in_its_place() {
    // Where the stored corners end up, for each value of the EXIF tag.
    let places = [
        (1, [RED, GREEN, BLUE, BLACK]),
        (2, [GREEN, RED, BLACK, BLUE]),
        (3, [BLACK, BLUE, GREEN, RED]),
        (4, [BLUE, BLACK, RED, GREEN]),
        (5, [RED, BLUE, GREEN, BLACK]),
        (6, [BLUE, RED, BLACK, GREEN]),
        (7, [BLACK, GREEN, BLUE, RED]),
        (8, [GREEN, BLACK, RED, BLUE]),
    ];
    for (tag, turned) in places {
        let png = png_with_orientation(tag);
        for colour in [Colour::Grey, Colour::Rgb] {
            for fit in [Fit::Stretch, Fit::Pad, Fit::Crop] {
                // Padding shows at the corners unless the proportions agree.
                let (height, width) = match (fit, tag >= 5) {
                    (Fit::Pad, true) => (6, 4),
                    (Fit::Pad, false) => (4, 6),
                    _ => (4, 10),
                };
                let shown = |pixel: [u8; 3]| {
                    if colour == Colour::Grey {
                        [luma(pixel); 3]
                    } else {
                        pixel
                    }
                };
                let apply = Preprocess {
                    fit,
                    ..Preprocess::stretch(height, width, colour)
                };
                let (_, out) = decoded(&png, &apply);
                assert_eq!(
                    corners(&out, &apply),
                    turned.map(shown),
                    "tag {tag}, {fit:?}, {colour:?}"
                );

                let ignore = Preprocess {
                    orientation: Orientation::Ignore,
                    ..apply
                };
                if fit != Fit::Pad {
                    let (_, out) = decoded(&png, &ignore);
                    assert_eq!(
                        corners(&out, &ignore),
                        [RED, GREEN, BLUE, BLACK].map(shown),
                        "tag {tag} ignored"
                    );
                }
            }
        }
    }
}

#[test]
fn every_format_is_told_by_content_and_decodes() {
    let preprocess = Preprocess::stretch(8, 12, Colour::Rgb);
    for (file, format) in [
        (ImageFormat::Jpeg, Format::Jpeg),
        (ImageFormat::Png, Format::Png),
        (ImageFormat::WebP, Format::WebP),
        (ImageFormat::Gif, Format::Gif),
        (ImageFormat::Bmp, Format::Bmp),
        (ImageFormat::Tiff, Format::Tiff),
    ] {
        let (decoded, out) = decoded(&encoded(quarters(), file), &preprocess);
        assert_eq!(
            decoded,
            Decoded {
                format,
                width: 12,
                height: 8,
                status: Status::Ok,
                note: None
            },
            "{format}"
        );
        let lossy = matches!(format, Format::Jpeg | Format::Gif);
        let original = quarters();
        let far = out
            .iter()
            .zip(original.as_raw())
            .filter(|(a, b)| a.abs_diff(**b) > if lossy { 40 } else { 0 });
        assert!(far.count() <= if lossy { 30 } else { 0 }, "{format}");
    }
}

#[test]
fn the_first_frame_of_an_animation_is_taken() {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    for colour in [[255, 0, 0, 255], [0, 0, 255, 255]] {
        encoder
            .encode_frame(Frame::new(RgbaImage::from_pixel(4, 4, Rgba(colour))))
            .unwrap();
    }
    drop(encoder);
    let (_, out) = decoded(&bytes, &Preprocess::stretch(4, 4, Colour::Rgb));
    assert_eq!(out[..3], RED);
}

#[test]
fn the_same_grey_pixels_come_out_of_an_indexed_sixteen_bit_or_transparent_file() {
    let preprocess = Preprocess::stretch(2, 3, Colour::Grey);
    let grey = image::GrayImage::from_fn(3, 2, |x, y| image::Luma([(x * 40 + y * 90) as u8]));
    let (_, expected) = decoded(&encoded(grey.clone(), ImageFormat::Png), &preprocess);
    assert_eq!(expected, *grey.as_raw());
    let grey = DynamicImage::from(grey);
    for variant in [
        DynamicImage::from(grey.to_luma16()),
        grey.to_luma_alpha8().into(),
        grey.to_luma_alpha16().into(),
        grey.to_rgb16().into(),
        grey.to_rgba16().into(),
        grey.to_rgba8().into(),
    ] {
        let colour = variant.color();
        assert_eq!(
            decoded(&encoded(variant, ImageFormat::Png), &preprocess).1,
            expected,
            "{colour:?}"
        );
    }
}

#[test]
fn a_truncated_jpeg_is_degraded_and_a_whole_one_is_not() {
    let photo = RgbImage::from_fn(64, 48, |x, y| {
        Rgb([(x * 4) as u8, (y * 5) as u8, (x * y) as u8])
    });
    let mut whole = Vec::new();
    JpegEncoder::new_with_quality(&mut whole, 90)
        .encode_image(&photo)
        .unwrap();
    let preprocess = Preprocess::stretch(4, 4, Colour::Rgb);
    assert_eq!(decoded(&whole, &preprocess).0.status, Status::Ok);
    whole.extend([0; 20]);
    assert_eq!(
        decoded(&whole, &preprocess).0.status,
        Status::Ok,
        "a little padding after the end is common"
    );
    for kept in [whole.len() / 2, whole.len() * 3 / 4, whole.len() - 40] {
        let (decoded, _) = decoded(&whole[..kept], &preprocess);
        assert_eq!(
            decoded.status,
            Status::Degraded,
            "{kept} of {} bytes",
            whole.len()
        );
        assert!(decoded.note.unwrap().contains("end marker"));
    }
    assert_eq!(fault(&whole[..30]).status, Status::Corrupt);
}

#[test]
fn files_that_are_no_usable_image_have_their_own_status() {
    assert_eq!(fault(b"").status, Status::Corrupt);
    assert_eq!(fault(b"just some words").status, Status::NotAnImage);
    let heic = fault(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic");
    assert_eq!(heic.status, Status::Unsupported);
    assert!(heic.message.contains("HEIC"), "{heic}");
    for format in [
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Gif,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
    ] {
        let bytes = encoded(quarters(), format);
        assert_eq!(
            fault(&bytes[..bytes.len() / 2]).status,
            Status::Corrupt,
            "{format:?}"
        );
    }
}

/// A PNG that claims to be 60,000 pixels square, with a correct checksum over the claim.
fn huge_png() -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0".to_vec();
    let checksum = crc32(&png[12..29]);
    png.extend(checksum.to_be_bytes());
    png.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
    png
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 {
                (crc >> 1) ^ 0xEDB8_8320
            } else {
                crc >> 1
            }
        })
    })
}

#[test]
fn limits_hold_before_memory_is_taken() {
    let png = encoded(quarters(), ImageFormat::Png);
    let fine = Limits {
        max_file_bytes: png.len() as u64,
        max_pixels: 96,
        max_decoded_bytes: 288,
    };
    let preprocess = Preprocess::stretch(4, 4, Colour::Rgb);
    assert!(decode_bytes(&png, &preprocess, &fine, &mut [0; 48]).is_ok());
    for limits in [
        Limits {
            max_pixels: 95,
            ..fine
        },
        Limits {
            max_decoded_bytes: 287,
            ..fine
        },
    ] {
        assert_eq!(
            fault_within(&png, &limits).status,
            Status::TooLarge,
            "{limits:?}"
        );
    }

    let huge = fault(&huge_png());
    assert_eq!(huge.status, Status::TooLarge, "{huge}");

    // The size in a JPEG's frame header: 65,500 squared.
    let mut jpeg = encoded(quarters(), ImageFormat::Jpeg);
    let frame = jpeg
        .windows(2)
        .position(|marker| marker == [0xFF, 0xC0])
        .unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xFF, 0xDC, 0xFF, 0xDC]);
    assert_eq!(fault(&jpeg).status, Status::TooLarge);
}

/// The bytes with so many of them changed.
fn damaged(bytes: &[u8], count: usize, seed: &mut u32) -> Vec<u8> {
    let mut damaged = bytes.to_vec();
    for _ in 0..count {
        *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let place = *seed as usize / 256 % damaged.len();
        damaged[place] = (*seed >> 13) as u8;
    }
    damaged
}

#[test]
fn damage_anywhere_never_escapes() {
    install_quiet_panic_hook();
    let limits = Limits {
        max_pixels: 1 << 20,
        max_decoded_bytes: 1 << 23,
        ..Limits::default()
    };
    let preprocess = Preprocess::stretch(4, 4, Colour::Grey);
    let mut seed = 1u32;
    for format in [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Gif,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
    ] {
        let bytes = encoded(quarters(), format);
        for _ in 0..300 {
            let damaged = damaged(&bytes, 4, &mut seed);
            if let Err(fault) = decode_bytes(&damaged, &preprocess, &limits, &mut [0; 16]) {
                assert!(!fault.message.is_empty());
            }
        }
    }
}

#[test]
fn files_are_read_whole_and_what_is_no_file_is_never_opened() {
    let folder = tempfile::tempdir().unwrap();
    let preprocess = Preprocess::stretch(4, 4, Colour::Rgb);
    let decode =
        |path: &Path, limits: &Limits| decode_file(path, &preprocess, limits, &mut [0; 48]);
    let png = encoded(quarters(), ImageFormat::Png);
    let path = folder.path().join("named.jpg");
    File::create(&path).unwrap().write_all(&png).unwrap();

    assert_eq!(
        decode(&path, &Limits::default()).unwrap().format,
        Format::Png
    );
    let small = Limits {
        max_file_bytes: png.len() as u64 - 1,
        ..Limits::default()
    };
    assert_eq!(decode(&path, &small).unwrap_err().status, Status::TooLarge);
    assert_eq!(
        decode(&folder.path().join("gone.png"), &Limits::default())
            .unwrap_err()
            .status,
        Status::Vanished
    );
    assert_eq!(
        decode(folder.path(), &Limits::default())
            .unwrap_err()
            .status,
        Status::Unreadable
    );
    #[cfg(unix)]
    assert_eq!(
        decode(Path::new("/dev/zero"), &Limits::default())
            .unwrap_err()
            .status,
        Status::Unreadable
    );
}

/// The same contract with JPEGs decoded whole.
fn whole(reduced: &Preprocess) -> Preprocess {
    Preprocess {
        reduced_jpeg: false,
        ..reduced.clone()
    }
}

/// A photo of 480 × 360 pixels: an object with some texture on a white ground, to the left of the middle.
fn photo() -> RgbImage {
    RgbImage::from_fn(480, 360, |x, y| {
        let inside = (60..260).contains(&x) && (40..320).contains(&y);
        Rgb(match inside {
            true => [(x / 2) as u8, (y / 3) as u8, (60 + (x + y) % 40) as u8],
            false => [255; 3],
        })
    })
}

fn jpeg_with_orientation(orientation: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
    encoder.set_exif_metadata(exif(orientation)).unwrap();
    encoder.encode_image(&photo()).unwrap();
    bytes
}

#[test]
fn a_jpeg_decoded_at_a_fraction_of_its_size_looks_like_the_whole_one() {
    let contracts = [Fit::Stretch, Fit::Pad, Fit::Crop].map(|fit| Preprocess {
        fit,
        ..Preprocess::stretch(24, 30, Colour::Rgb)
    });
    let grey = Preprocess::stretch(30, 24, Colour::Grey);
    for reduced in contracts.into_iter().chain([grey]) {
        let whole = whole(&reduced);
        for orientation in 1..=8 {
            let jpeg = jpeg_with_orientation(orientation);
            let (said, small) = decoded(&jpeg, &reduced);
            let (said_of_whole, large) = decoded(&jpeg, &whole);
            assert_eq!(said, said_of_whole);
            let differences = small
                .iter()
                .zip(&large)
                .map(|(a, b)| u64::from(a.abs_diff(*b)));
            let mean = differences.sum::<u64>() as f64 / small.len() as f64;
            assert!(mean < 4.0, "{reduced:?}, orientation {orientation}: {mean}");
            assert_ne!(small, large, "{reduced:?}: decoded in another way");
        }
    }
}

#[test]
fn colours_that_are_scaled_before_they_are_joined_look_like_those_of_the_whole_picture() {
    // Every sampling there is, and sides that end within a unit.
    for sampling in [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)] {
        let jpeg = subsampled(&photo_of(403, 285), sampling);
        for orientation in 1..=8 {
            let jpeg = with_orientation(&jpeg, orientation);
            for fit in [Fit::Stretch, Fit::Pad, Fit::Crop] {
                for colour in [Colour::Rgb, Colour::Grey] {
                    let planes = Preprocess {
                        fit,
                        ..Preprocess::stretch(210, 224, colour)
                    };
                    let ((said, ours), (said_of_whole, whole)) =
                        (decoded(&jpeg, &planes), decoded(&jpeg, &whole(&planes)));
                    assert_eq!(said, said_of_whole);
                    assert_ne!(ours, whole, "decoded in another way");
                    let differences = ours.iter().zip(&whole).map(|(a, b)| a.abs_diff(*b));
                    let mean = differences.map(f64::from).sum::<f64>() / ours.len() as f64;
                    assert!(
                        mean < 1.5,
                        "{sampling:?}, {orientation}, {fit:?}, {colour:?}: {mean}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_jpeg_that_is_not_made_smaller_is_taken_as_it_is() {
    let jpeg = subsampled(&photo_of(40, 30), (2, 2));
    for (height, width) in [(30, 40), (31, 40), (60, 20)] {
        let contract = Preprocess::stretch(height, width, Colour::Rgb);
        assert_eq!(decoded(&jpeg, &contract), decoded(&jpeg, &whole(&contract)));
    }
}

/// Slow changes of brightness and colour, darker to the left and the top.
fn photo_of(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let (across, down) = (x * 200 / width, y * 200 / height);
        Rgb([
            across as u8 + 30,
            down as u8 + 20,
            ((across + down) / 2) as u8,
        ])
    })
}

/// A JPEG whose colours have one value for so many pixels, across and down.
fn subsampled(image: &RgbImage, sampling: (u8, u8)) -> Vec<u8> {
    let mut compress = mozjpeg::Compress::new(mozjpeg::ColorSpace::JCS_RGB);
    compress.set_size(image.width() as usize, image.height() as usize);
    compress.set_fastest_defaults();
    compress.set_quality(95.0);
    compress.set_chroma_sampling_pixel_sizes(sampling, sampling);
    let mut started = compress.start_compress(Vec::new()).unwrap();
    started.write_scanlines(image).unwrap();
    started.finish().unwrap()
}

/// A JPEG with an EXIF block.
fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut content = b"Exif\0\0".to_vec();
    content.extend(exif(orientation));
    let mut bytes = vec![0xFF, 0xD8, 0xFF, 0xE1];
    bytes.extend((content.len() as u16 + 2).to_be_bytes());
    bytes.extend(content);
    bytes.extend(&jpeg[2..]);
    bytes
}

#[test]
fn the_content_stays_in_its_place_where_blocks_go_beyond_the_edge() {
    // The last blocks have one pixel of the picture: taken for whole ones, they would move all edges by a hundredth of the side.
    let photo = RgbImage::from_fn(401, 281, |x, y| {
        Rgb([(x * 255 / 400) as u8, (y * 255 / 280) as u8, 99])
    });
    for orientation in 1..=8 {
        let mut jpeg = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut jpeg, 100);
        encoder.set_exif_metadata(exif(orientation)).unwrap();
        encoder.encode_image(&photo).unwrap();
        for fit in [Fit::Stretch, Fit::Pad, Fit::Crop] {
            let reduced = Preprocess {
                fit,
                ..Preprocess::stretch(16, 16, Colour::Rgb)
            };
            let whole = whole(&reduced);
            let ((_, small), (_, large)) = (decoded(&jpeg, &reduced), decoded(&jpeg, &whole));
            let largest = small.iter().zip(&large).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(largest <= Some(3), "{fit:?}, {orientation}: {largest:?}");
        }
    }
}

#[test]
fn what_is_said_of_a_damaged_jpeg_does_not_depend_on_the_size_it_is_decoded_at() {
    install_quiet_panic_hook();
    let reduced = Preprocess::stretch(24, 30, Colour::Rgb);
    let planes = Preprocess::stretch(240, 300, Colour::Rgb);
    let whole = whole(&reduced);
    let jpeg = jpeg_with_orientation(1);
    let mut seed = 7u32;
    let mut flaws = 0;
    for _ in 0..400 {
        let damaged = damaged(&jpeg, 8, &mut seed);
        let said = |preprocess: &Preprocess| {
            let mut out = vec![0; preprocess.bytes_per_image()];
            decode_bytes(&damaged, preprocess, &Limits::default(), &mut out)
        };
        let (small, large) = (said(&reduced), said(&whole));
        flaws += usize::from(large.as_ref().is_ok_and(|large| large.status != Status::Ok));
        assert_eq!(small, large);
        assert_eq!(said(&planes), large);
    }
    assert!(flaws > 10, "{flaws}");
}

#[test]
fn planes_in_separate_tiles_are_unsupported_not_damaged() {
    install_quiet_panic_hook();
    let fault = fault(&planar::tests::tiled_planes());
    assert_eq!(fault.status, Status::Unsupported, "{fault:?}");
    assert!(fault.message.contains("separate tiles"), "{fault:?}");
}
