//! JPEG at a fraction of its size by libjpeg, of any kind that it knows.
//!
//! Of each block of 8×8 pixels libjpeg can compute 1×1, 2×2 or 4×4, and leave the colours out where only the brightness is asked for. Only
//! flawless files come out of here.
#![allow(unsafe_code)]

use std::io::{self, BufRead, Read};

use image::{DynamicImage, GrayImage, RgbImage};
use mozjpeg::{ColorSpace, ColorSpaceExt as _, Decompress, Marker};
use mozjpeg_sys::{jpeg_common_struct, jpeg_error_mgr, jpeg_std_error};

use super::baseline::EXIF_HEADER;
use super::guard::guarded;
use crate::preprocess::Colour;

/// Bytes that libjpeg sees at a time. Where it has 512 for each of the up to ten blocks of a unit, it reads them by a faster routine that
/// takes invalid codes for zeros and says nothing. The other one costs a tenth of the speed and finds them.
const BYTES_AT_A_TIME: usize = 511;

unsafe extern "C" {
    /// Of libjpeg: whether its SIMD code for colours was built and runs on this processor.
    safe fn jsimd_can_ycc_rgb() -> std::ffi::c_int;
}

/// Whether libjpeg has its SIMD code.
pub(super) fn has_simd() -> bool {
    jsimd_can_ycc_rgb() != 0
}

/// A JPEG whose header was read.
pub(super) struct Libjpeg<'a> {
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

impl<'a> Libjpeg<'a> {
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

    /// The EXIF block.
    pub(super) fn exif(&self) -> Option<&[u8]> {
        let markers = self.decoder.markers();
        markers
            .map(|marker| marker.data)
            .find_map(|data| data.strip_prefix(EXIF_HEADER))
    }

    /// Of how many values a pixel consists.
    pub(super) fn channels(&self) -> usize {
        self.decoder.color_space().num_components()
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
