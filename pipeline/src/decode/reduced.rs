//! JPEG at a fraction of its size, straight from the DCT coefficients: what a small input needs of a large photo.
//!
//! Of each block of 8×8 pixels libjpeg can compute 1×1, 2×2 or 4×4 from the lowest frequencies alone, and leave the colours out where only
//! the brightness is asked for. Only flawless files come out of here. Everything else is `None` and left to the decoder of whole
//! pictures, which can say what is wrong; so the status of a file does not depend on the size that was asked for.
#![allow(unsafe_code)]

use std::io::{self, BufRead, Read};

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, RgbImage};
use mozjpeg::{ColorSpace, ColorSpaceExt as _, Decompress, Marker};
use mozjpeg_sys::{jpeg_common_struct, jpeg_error_mgr, jpeg_std_error};

use super::guard::guarded;
use crate::preprocess::Colour;

/// What stands in an APP1 segment before the EXIF block.
const EXIF_HEADER: &[u8] = b"Exif\0\0";

/// Bytes that libjpeg sees at a time. Where it has 512 for each of the up to ten blocks of a unit, it reads them by a faster routine that
/// takes invalid codes for zeros and says nothing. The other one costs a tenth of the speed and finds them.
const BYTES_AT_A_TIME: usize = 511;

unsafe extern "C" {
    /// Of libjpeg: whether its SIMD code for colours was built and runs on this processor.
    safe fn jsimd_can_ycc_rgb() -> std::ffi::c_int;
}

/// What decodes JPEGs at a fraction of their size, for `--version` and reports.
pub fn description() -> &'static str {
    match jsimd_can_ycc_rgb() {
        0 => "libjpeg without SIMD (nasm was not there when the program was built)",
        _ => "libjpeg with SIMD",
    }
}

/// A JPEG whose header was read.
pub(super) struct ReducedJpeg<'a> {
    decoder: Decompress<Morsels<'a>>,
}

/// Gives its bytes out a few at a time.
struct Morsels<'a>(&'a [u8]);

impl Read for Morsels<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl BufRead for Morsels<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(&self.0[..self.0.len().min(BYTES_AT_A_TIME)])
    }

    fn consume(&mut self, bytes: usize) {
        self.0 = &self.0[bytes..];
    }
}

impl<'a> ReducedJpeg<'a> {
    /// Reads the header.
    pub(super) fn open(bytes: &'a [u8]) -> Option<Self> {
        let open = || {
            Decompress::builder()
                .with_err(strict_errors())
                .with_markers(&[Marker::APP(1)])
                .from_reader(Morsels(bytes))
        };
        let decoder = guarded(open).ok()?.ok()?;
        // What printers separate into four inks is for the other decoder.
        matches!(
            decoder.color_space(),
            ColorSpace::JCS_GRAYSCALE | ColorSpace::JCS_YCbCr | ColorSpace::JCS_RGB
        )
        .then_some(Self { decoder })
    }

    /// Width and height as stored.
    pub(super) fn dimensions(&self) -> (u32, u32) {
        let (width, height) = self.decoder.size();
        (width as u32, height as u32)
    }

    /// How the picture is to be turned.
    pub(super) fn orientation(&self) -> Orientation {
        self.decoder
            .markers()
            .find_map(|marker| marker.data.strip_prefix(EXIF_HEADER))
            .and_then(Orientation::from_exif_chunk)
            .unwrap_or(Orientation::NoTransforms)
    }

    /// Bytes of the whole picture in its own colours.
    pub(super) fn total_bytes(&self) -> u64 {
        let (width, height) = self.decoder.size();
        let channels = self.decoder.color_space().num_components();
        (width as u64)
            .saturating_mul(height as u64)
            .saturating_mul(channels as u64)
    }

    /// Bytes that decoding takes on top of the file, at most: the reduced picture and a copy of it, a strip of it in the making, and all
    /// coefficients where they come in several passes.
    pub(super) fn cost(&self, eighths: u8, is_progressive: bool) -> u64 {
        let (whole, eighths) = (self.total_bytes(), u64::from(eighths));
        let strip = self.decoder.width() as u64 * 64;
        let coefficients = match is_progressive {
            true => whole.saturating_mul(2),
            false => 0,
        };
        (whole.saturating_mul(eighths * eighths) / 64)
            .saturating_mul(2)
            .saturating_add(strip)
            .saturating_add(coefficients)
    }

    /// The picture at `eighths` / 8 of its size, sides rounded up; in grey where that is all there is or all that is `wanted`.
    pub(super) fn decode(self, eighths: u8, wanted: Colour) -> Option<DynamicImage> {
        let Self { mut decoder } = self;
        let is_grey = wanted == Colour::Grey || decoder.color_space() == ColorSpace::JCS_GRAYSCALE;
        decoder.scale(eighths);
        let decode = || {
            let mut started = match is_grey {
                true => decoder.grayscale(),
                false => decoder.rgb(),
            }
            .ok()?;
            let (width, height) = (started.width() as u32, started.height() as u32);
            let pixels: Vec<u8> = started.read_scanlines().ok()?;
            started.finish().ok()?;
            match is_grey {
                true => GrayImage::from_raw(width, height, pixels).map(DynamicImage::from),
                false => RgbImage::from_raw(width, height, pixels).map(DynamicImage::from),
            }
        };
        guarded(decode).ok().flatten()
    }
}

/// Handlers under which everything that libjpeg has to complain about ends the decoding, warnings included: left to itself it fills
/// what is missing with grey.
fn strict_errors() -> jpeg_error_mgr {
    // SAFETY: all fields are integers, pointers and optional functions, for which zero is a value; libjpeg fills all of them in.
    let mut errors = unsafe {
        let mut errors: jpeg_error_mgr = std::mem::zeroed();
        jpeg_std_error(&mut errors);
        errors
    };
    errors.error_exit = Some(give_up);
    errors.emit_message = Some(give_up_at_warnings);
    errors
}

/// What is unwound with: the caller asks only whether it was.
struct Flawed;

// libjpeg is compiled to be unwound through, and `Decompress` frees what it took. No panic hook runs.
extern "C-unwind" fn give_up(_: &mut jpeg_common_struct) {
    std::panic::resume_unwind(Box::new(Flawed));
}

/// Warnings have the level −1, everything else is for tracing.
extern "C-unwind" fn give_up_at_warnings(_: &mut jpeg_common_struct, level: std::ffi::c_int) {
    if level < 0 {
        std::panic::resume_unwind(Box::new(Flawed));
    }
}

#[cfg(test)]
mod tests {
    use image::codecs::jpeg::JpegEncoder;
    use image::{ImageEncoder as _, Luma, Rgb};

    use super::*;

    /// 90 × 61 pixels, brighter to the right and bluer to the bottom.
    fn photo() -> DynamicImage {
        RgbImage::from_fn(90, 61, |x, y| Rgb([2 * x as u8, 2 * x as u8, 4 * y as u8])).into()
    }

    fn jpeg(image: &DynamicImage, exif: Option<Vec<u8>>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
        if let Some(exif) = exif {
            encoder.set_exif_metadata(exif).unwrap();
        }
        image.write_with_encoder(encoder).unwrap();
        bytes
    }

    fn reduced(bytes: &[u8], eighths: u8, wanted: Colour) -> Option<DynamicImage> {
        ReducedJpeg::open(bytes)?.decode(eighths, wanted)
    }

    #[test]
    fn each_pixel_is_the_mean_of_the_block_it_stands_for() {
        let (photo, bytes) = (photo(), jpeg(&photo(), None));
        for (eighths, width, height) in [(1, 12, 8), (2, 23, 16), (4, 45, 31)] {
            let small = reduced(&bytes, eighths, Colour::Rgb).unwrap().into_rgb8();
            assert_eq!(small.dimensions(), (width, height));
            let side = 8 / u32::from(eighths);
            // Those at the edges stand for pixels beyond it, too.
            for (x, y) in [(1, 1), (width / 2, height / 2), (width - 2, height - 2)] {
                let block = photo.crop_imm(x * side, y * side, side, side).into_rgb8();
                for channel in 0..3 {
                    let sum: u32 = block
                        .pixels()
                        .map(|pixel| u32::from(pixel.0[channel]))
                        .sum();
                    let mean = (sum / (side * side)) as u8;
                    let got = small.get_pixel(x, y).0[channel];
                    assert!(
                        got.abs_diff(mean) <= 6,
                        "{eighths}/8 at {x},{y}: {got}, not {mean}"
                    );
                }
            }
        }
    }

    #[test]
    fn grey_is_the_brightness_and_needs_no_colours() {
        let bytes = jpeg(&photo(), None);
        let colour = reduced(&bytes, 2, Colour::Rgb).unwrap().into_rgb8();
        let grey = reduced(&bytes, 2, Colour::Grey).unwrap();
        assert!(matches!(grey, DynamicImage::ImageLuma8(_)));
        for (colour, grey) in colour.pixels().zip(grey.as_luma8().unwrap().pixels()) {
            assert!(crate::decode::luma(colour.0).abs_diff(grey.0[0]) <= 2);
        }
        let grey = GrayImage::from_pixel(40, 40, Luma([90])).into();
        let own = reduced(&jpeg(&grey, None), 1, Colour::Rgb).unwrap();
        assert_eq!(own, GrayImage::from_pixel(5, 5, Luma([90])).into());
    }

    #[test]
    fn only_flawless_files_come_out() {
        let bytes = jpeg(&photo(), None);
        let whole = reduced(&bytes, 1, Colour::Rgb);
        assert!(whole.is_some());
        for kept in [0, 2, 30, bytes.len() / 2, bytes.len() - 2] {
            assert_eq!(
                reduced(&bytes[..kept], 1, Colour::Rgb),
                None,
                "{kept} bytes"
            );
        }
        // Leftovers between two segments do not hurt the picture, but the strict decoder has a word on them.
        let mut leftovers = bytes.clone();
        leftovers.splice(20..20, [7; 9]);
        assert_eq!(reduced(&leftovers, 1, Colour::Rgb), None);
        assert_eq!(reduced(b"no picture at all", 1, Colour::Rgb), None);
    }

    #[test]
    fn the_header_says_size_orientation_and_cost() {
        let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
        let bytes = jpeg(&photo(), Some(exif));
        let opened = ReducedJpeg::open(&bytes).unwrap();
        assert_eq!(opened.dimensions(), (90, 61));
        assert_eq!(opened.orientation(), Orientation::Rotate90);
        assert_eq!(opened.total_bytes(), 90 * 61 * 3);
        assert!(opened.cost(1, false) < opened.cost(2, false));
        assert!(opened.cost(1, true) > opened.total_bytes());
        let bytes = jpeg(&photo(), None);
        let opened = ReducedJpeg::open(&bytes).unwrap();
        assert_eq!(opened.orientation(), Orientation::NoTransforms);
    }
}
