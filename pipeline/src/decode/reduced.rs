//! JPEG for a small input: at a fraction of its size, straight from the DCT coefficients, where that has the detail, else in planes of
//! brightness and colours.
//!
//! The usual kind of file is decoded by [`BaselineJpeg`], which takes about half the time where a small fraction is asked for; everything
//! else, by libjpeg. Only flawless files come out of here. Others are `None` and left to the decoder of whole pictures, which can say
//! what is wrong; so the status of a file does not depend on the size that was asked for.

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, RgbImage};

use super::baseline::{BaselineJpeg, WholePlane};
use super::detail;
use super::libjpeg::{self, Libjpeg};
use super::pixels::Pixels;
use crate::preprocess::Colour;
use crate::resize::Extent;

/// The most eighths for which [`BaselineJpeg`] is the faster one: of more detail it would have to compute what libjpeg has SIMD for.
const FEW_EIGHTHS: u8 = 2;

/// What decodes JPEGs for inputs that are smaller, for `--version` and reports.
pub fn description() -> &'static str {
    match libjpeg::has_simd() {
        false => {
            "catalog's own decoder; where it does not apply, libjpeg without SIMD (nasm was not there when the program was built)"
        }
        true => "catalog's own decoder; where it does not apply, libjpeg with SIMD",
    }
}

/// A flawless JPEG at `eighths` / 8 of its size, 1, 2 or 4, as it is stored: the EXIF orientation is not applied, and no limits are. `None`
/// where it is not flawless, or not of a kind that is decoded at a fraction.
pub fn reduced_jpeg(bytes: &[u8], eighths: u8, colour: Colour) -> Option<DynamicImage> {
    ReducedJpeg::open(bytes)?.decode(eighths, colour)
}

/// A JPEG whose header was read.
pub(super) struct ReducedJpeg<'a> {
    bytes: &'a [u8],
    header: Header<'a>,
}

enum Header<'a> {
    Baseline(BaselineJpeg<'a>),
    Libjpeg(Box<Libjpeg<'a>>),
}

impl<'a> ReducedJpeg<'a> {
    /// Reads the header.
    pub(super) fn open(bytes: &'a [u8]) -> Option<Self> {
        let header = match BaselineJpeg::open(bytes) {
            Some(baseline) => Header::Baseline(baseline),
            None => Header::Libjpeg(Box::new(Libjpeg::open(bytes)?)),
        };
        Some(Self { bytes, header })
    }

    /// Width and height as stored.
    pub(super) fn dimensions(&self) -> (u32, u32) {
        match &self.header {
            Header::Baseline(jpeg) => jpeg.dimensions(),
            Header::Libjpeg(jpeg) => jpeg.dimensions(),
        }
    }

    /// How the picture is to be turned.
    pub(super) fn orientation(&self) -> Orientation {
        let exif = match &self.header {
            Header::Baseline(jpeg) => jpeg.exif(),
            Header::Libjpeg(jpeg) => jpeg.exif(),
        };
        exif.and_then(Orientation::from_exif_chunk)
            .unwrap_or(Orientation::NoTransforms)
    }

    /// Bytes of the whole picture in its own colours.
    pub(super) fn total_bytes(&self) -> u64 {
        let (width, height) = self.dimensions();
        let channels = match &self.header {
            Header::Baseline(jpeg) => jpeg.channels(),
            Header::Libjpeg(jpeg) => jpeg.channels(),
        };
        u64::from(width)
            .saturating_mul(u64::from(height))
            .saturating_mul(channels as u64)
    }

    /// Bytes that decoding takes on top of the file, at most: the reduced picture and a copy of it, a strip of it in the making, the file
    /// once more, and all coefficients where they come in several passes.
    pub(super) fn cost(&self, eighths: u8, is_progressive: bool) -> u64 {
        let (whole, eighths) = (self.total_bytes(), u64::from(eighths));
        let strip = u64::from(self.dimensions().0) * 64;
        let coefficients = match is_progressive {
            true => whole.saturating_mul(2),
            false => 0,
        };
        (whole.saturating_mul(eighths * eighths) / 64)
            .saturating_mul(2)
            .saturating_add(strip)
            .saturating_add(self.bytes.len() as u64)
            .saturating_add(coefficients)
    }

    /// The picture at `eighths` / 8 of its size, sides rounded up; in grey where that is all there is or all that is `wanted`.
    pub(super) fn decode(self, eighths: u8, wanted: Colour) -> Option<DynamicImage> {
        let jpeg = match self.header {
            Header::Libjpeg(jpeg) => return jpeg.decode(eighths, wanted),
            Header::Baseline(jpeg) => jpeg,
        };
        let decoded = match eighths <= FEW_EIGHTHS {
            true => jpeg.decode(eighths, wanted == Colour::Grey),
            false => None,
        };
        let Some(raster) = decoded else {
            return Libjpeg::open(self.bytes)?.decode(eighths, wanted);
        };
        let (width, height) = (raster.width as u32, raster.height as u32);
        match raster.channels {
            1 => GrayImage::from_raw(width, height, raster.bytes).map(DynamicImage::from),
            _ => RgbImage::from_raw(width, height, raster.bytes).map(DynamicImage::from),
        }
    }

    /// The planes of the whole picture, turned upright, each with what of it is the picture: brightness, and where the file has colours and
    /// they are `wanted`, these. `None` where [`BaselineJpeg`] does not take the file, and for grey files where colours are wanted.
    pub(super) fn planes(
        self,
        wanted: Colour,
        orientation: Orientation,
    ) -> Option<Vec<(Pixels, Extent)>> {
        let Header::Baseline(jpeg) = self.header else {
            return None;
        };
        if jpeg.channels() < wanted.channels() {
            return None;
        }
        let planes = jpeg.planes(wanted == Colour::Grey)?;
        let upright = |plane: WholePlane| {
            let (height, width) = plane.content;
            let image = GrayImage::from_raw(plane.width as u32, plane.height as u32, plane.bytes)?;
            let mut image = DynamicImage::from(image);
            image.apply_orientation(orientation);
            let pixels = Pixels {
                height: image.height(),
                width: image.width(),
                bytes: image.into_bytes(),
            };
            let content = detail::upright(height, width, orientation);
            let extent = detail::extent(&pixels, content, orientation);
            Some((pixels, extent))
        };
        planes.into_iter().map(upright).collect()
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
