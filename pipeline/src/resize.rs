//! Fits 8-bit pixels of any shape into the model's input shape, as the preprocessing contract says.
//!
//! Every filter is area-correct when it shrinks. Pixels that have the right shape already are copied, byte for byte.

mod planes;

use std::cell::RefCell;

use anyhow::{Context as _, Result, ensure};
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use crate::decode::{Pixels, luma};
use crate::preprocess::{Colour, Filter, Fit, Preprocess};

pub(crate) use planes::fit_planes;

thread_local! {
    // The resizer keeps its intermediate rows between images.
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

/// The part of a picture that is its content, in pixels: not a whole number where the last row or column stands for less than the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Extent {
    pub(crate) top: f64,
    pub(crate) left: f64,
    pub(crate) height: f64,
    pub(crate) width: f64,
}

impl Extent {
    /// All of a picture.
    pub(crate) fn whole(height: u32, width: u32) -> Self {
        Self {
            top: 0.0,
            left: 0.0,
            height: f64::from(height),
            width: f64::from(width),
        }
    }

    /// Without what sums that were rounded have beyond the edges of an image, which the resizer refuses.
    fn inside(self, height: u32, width: u32) -> Self {
        let within = |start: f64, length: f64, side: u32| {
            let side = f64::from(side);
            let start = start.clamp(0.0, side);
            (start, length.min(side - start))
        };
        let (top, height) = within(self.top, self.height, height);
        let (left, width) = within(self.left, self.width, width);
        Self {
            top,
            left,
            height,
            width,
        }
    }

    /// Of another extent of the same picture, the part that this is of `whole`.
    fn of(self, whole: Self, other: Self) -> Self {
        let (down, across) = (other.height / whole.height, other.width / whole.width);
        Self {
            top: other.top + (self.top - whole.top) * down,
            left: other.left + (self.left - whole.left) * across,
            height: self.height * down,
            width: self.width * across,
        }
    }

    /// The largest part in the middle with the proportions of the target.
    fn middle(self, (target_height, target_width): (u32, u32)) -> Self {
        let (target_height, target_width) = (f64::from(target_height), f64::from(target_width));
        let scale = f64::min(self.height / target_height, self.width / target_width);
        let (height, width) = (target_height * scale, target_width * scale);
        Self {
            top: self.top + (self.height - height) / 2.0,
            left: self.left + (self.width - width) / 2.0,
            height,
            width,
        }
    }
}

/// Fits an image of `height × width` pixels, in the contract's colour, into `out`.
///
/// `pixels` is `[height, width, C]` and `out` is `[preprocess.height, preprocess.width, C]`, both row-major. Lengths that do
/// not agree with the shapes, and empty images, are errors.
pub fn fit(
    pixels: &[u8],
    height: u32,
    width: u32,
    preprocess: &Preprocess,
    out: &mut [u8],
) -> Result<()> {
    let channels = preprocess.colour.channels();
    ensure!(
        height > 0 && width > 0,
        "an image of {width}×{height} pixels cannot be resized"
    );
    ensure!(
        pixels.len() == height as usize * width as usize * channels,
        "{} bytes are not {height}×{width}×{channels} pixels",
        pixels.len()
    );
    ensure!(
        out.len() == preprocess.bytes_per_image(),
        "{} bytes have no room for {}×{}×{channels} pixels",
        out.len(),
        preprocess.height,
        preprocess.width
    );
    if (height, width) == (preprocess.height, preprocess.width) {
        out.copy_from_slice(pixels);
        return Ok(());
    }
    let extent = Extent::whole(height, width);
    fit_extent(pixels, (height, width), extent, preprocess, out)
}

/// As [`fit`], of a part of the image.
pub(crate) fn fit_extent(
    pixels: &[u8],
    (height, width): (u32, u32),
    extent: Extent,
    preprocess: &Preprocess,
    out: &mut [u8],
) -> Result<()> {
    let inner = scaled(pixels, (height, width), extent, preprocess)?;
    if (inner.height, inner.width) != (preprocess.height, preprocess.width) {
        fill(out, preprocess.background, preprocess.colour);
    }
    paste(&inner, preprocess, out);
    Ok(())
}

/// Scales a part of an image as the contract's fit says, without padding it: the result is no larger than the model's input, and smaller
/// only with [`Fit::Pad`].
pub(crate) fn scaled(
    pixels: &[u8],
    (height, width): (u32, u32),
    extent: Extent,
    preprocess: &Preprocess,
) -> Result<Pixels> {
    let source = ImageRef::new(width, height, pixels, pixel_type(preprocess.colour))?;
    let (size, extent) = placed(extent, preprocess);
    scale(&source, extent, size, preprocess.filter)
}

/// The size that a part of an image is scaled to, and that part, as the contract's fit says.
fn placed(extent: Extent, preprocess: &Preprocess) -> ((u32, u32), Extent) {
    let target = (preprocess.height, preprocess.width);
    match preprocess.fit {
        Fit::Stretch => (target, extent),
        Fit::Crop => (target, extent.middle(target)),
        Fit::Pad => (inside(extent.height, extent.width, target), extent),
    }
}

fn scale(
    source: &ImageRef<'_>,
    extent: Extent,
    (height, width): (u32, u32),
    filter: Filter,
) -> Result<Pixels> {
    let part = extent.inside(source.height(), source.width());
    let options = ResizeOptions::new()
        .resize_alg(algorithm(filter))
        .use_alpha(false)
        .crop(part.left, part.top, part.width, part.height);
    let mut bytes = vec![0; height as usize * width as usize * source.pixel_type().size()];
    let mut target = Image::from_slice_u8(width, height, &mut bytes, source.pixel_type())?;
    RESIZER
        .with_borrow_mut(|resizer| resizer.resize(source, &mut target, &options))
        .context("could not be resized")?;
    Ok(Pixels {
        bytes,
        height,
        width,
    })
}

/// The largest shape of the source's proportions inside the target, each side at least one pixel.
pub(crate) fn inside(
    height: f64,
    width: f64,
    (target_height, target_width): (u32, u32),
) -> (u32, u32) {
    let ratio = f64::min(
        f64::from(target_height) / height,
        f64::from(target_width) / width,
    );
    let side = |length: f64, limit: u32| ((length * ratio).round() as u32).clamp(1, limit);
    (side(height, target_height), side(width, target_width))
}

/// Paints all of `out` in one colour.
pub(crate) fn fill(out: &mut [u8], background: [u8; 3], colour: Colour) {
    match colour {
        Colour::Grey => out.fill(luma(background)),
        Colour::Rgb => out.as_chunks_mut::<3>().0.fill(background),
    }
}

/// Puts the scaled image in the middle; an odd remainder goes to the bottom and the right.
pub(crate) fn paste(inner: &Pixels, preprocess: &Preprocess, out: &mut [u8]) {
    let channels = preprocess.colour.channels();
    let top = (preprocess.height - inner.height) as usize / 2;
    let left = (preprocess.width - inner.width) as usize / 2;
    let (inner_row, out_row) = (
        inner.width as usize * channels,
        preprocess.width as usize * channels,
    );
    for (row, target) in inner
        .bytes
        .chunks_exact(inner_row)
        .zip(out.chunks_exact_mut(out_row).skip(top))
    {
        target[left * channels..][..inner_row].copy_from_slice(row);
    }
}

fn pixel_type(colour: Colour) -> PixelType {
    match colour {
        Colour::Grey => PixelType::U8,
        Colour::Rgb => PixelType::U8x3,
    }
}

fn algorithm(filter: Filter) -> ResizeAlg {
    ResizeAlg::Convolution(match filter {
        Filter::Bilinear => FilterType::Bilinear,
        Filter::Box => FilterType::Box,
        Filter::CatmullRom => FilterType::CatmullRom,
        Filter::Lanczos3 => FilterType::Lanczos3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHITE: [u8; 3] = [255; 3];
    const RED: [u8; 3] = [255, 0, 0];
    const GREEN: [u8; 3] = [0, 255, 0];
    const BLUE: [u8; 3] = [0, 0, 255];
    const BLACK: [u8; 3] = [0; 3];

    /// `height × width` pixels whose four quarters are red, green (right), blue (below) and black.
    fn quarters(height: usize, width: usize) -> Vec<u8> {
        (0..height * width)
            .flat_map(
                |pixel| match (pixel / width < height / 2, pixel % width < width / 2) {
                    (true, true) => RED,
                    (true, false) => GREEN,
                    (false, true) => BLUE,
                    (false, false) => BLACK,
                },
            )
            .collect()
    }

    fn fitted(
        height: u32,
        width: u32,
        fit: Fit,
        target_height: u32,
        target_width: u32,
    ) -> Vec<[u8; 3]> {
        let preprocess = Preprocess {
            fit,
            ..Preprocess::stretch(target_height, target_width, Colour::Rgb)
        };
        let mut out = vec![7; preprocess.bytes_per_image()];
        super::fit(
            &quarters(height as usize, width as usize),
            height,
            width,
            &preprocess,
            &mut out,
        )
        .unwrap();
        out.as_chunks::<3>().0.to_vec()
    }

    #[test]
    fn the_same_shape_is_copied_byte_for_byte() {
        let pixels: Vec<u8> = (0..=255).cycle().take(5 * 3).collect();
        for fit in [Fit::Stretch, Fit::Pad, Fit::Crop] {
            let preprocess = Preprocess {
                fit,
                ..Preprocess::stretch(5, 3, Colour::Grey)
            };
            let mut out = vec![0; 15];
            super::fit(&pixels, 5, 3, &preprocess, &mut out).unwrap();
            assert_eq!(out, pixels);
        }
    }

    #[test]
    fn stretch_keeps_every_corner_in_its_place() {
        // 20 high, 60 wide, into 4 high, 6 wide.
        let out = fitted(20, 60, Fit::Stretch, 4, 6);
        assert_eq!(
            [out[0], out[5], out[18], out[23]],
            [RED, GREEN, BLUE, BLACK]
        );
    }

    #[test]
    fn crop_keeps_the_middle() {
        // Of 60 columns the middle 20 are kept: the border between left and right stays in the middle.
        let out = fitted(20, 60, Fit::Crop, 4, 4);
        assert_eq!(
            [out[0], out[3], out[12], out[15]],
            [RED, GREEN, BLUE, BLACK]
        );
        let out = fitted(60, 20, Fit::Crop, 4, 4);
        assert_eq!(
            [out[0], out[3], out[12], out[15]],
            [RED, GREEN, BLUE, BLACK]
        );
    }

    #[test]
    fn pad_keeps_everything_and_fills_the_rest() {
        // 20×60 becomes 4×12, with four rows of background above and below.
        let out = fitted(20, 60, Fit::Pad, 12, 12);
        assert!(
            out[..48]
                .iter()
                .chain(&out[96..])
                .all(|&pixel| pixel == WHITE)
        );
        assert_eq!(
            [out[48], out[59], out[84], out[95]],
            [RED, GREEN, BLUE, BLACK]
        );
        // A needle still leaves a line.
        let out = fitted(1000, 2, Fit::Pad, 6, 6);
        assert_eq!(out.iter().filter(|&&pixel| pixel != WHITE).count(), 6);
    }

    #[test]
    fn shrinking_averages_over_the_area() {
        let stripes: Vec<u8> = (0..64 * 64)
            .map(|pixel| if pixel % 2 == 0 { 0 } else { 200 })
            .collect();
        for filter in [
            Filter::Bilinear,
            Filter::Box,
            Filter::CatmullRom,
            Filter::Lanczos3,
        ] {
            let preprocess = Preprocess {
                filter,
                ..Preprocess::stretch(4, 4, Colour::Grey)
            };
            let mut out = vec![0; 16];
            fit(&stripes, 64, 64, &preprocess, &mut out).unwrap();
            assert!(
                out.iter().all(|&value| value.abs_diff(100) <= 2),
                "{filter:?}: {out:?}"
            );
        }
    }

    #[test]
    fn lengths_that_do_not_fit_the_shape_are_errors() {
        let preprocess = Preprocess::stretch(2, 2, Colour::Grey);
        assert!(fit(&[0; 5], 2, 3, &preprocess, &mut [0; 4]).is_err());
        assert!(fit(&[0; 6], 2, 3, &preprocess, &mut [0; 5]).is_err());
        assert!(fit(&[], 0, 3, &preprocess, &mut [0; 4]).is_err());
    }

    #[test]
    fn sums_that_were_rounded_do_not_lead_beyond_an_edge() {
        let edges = Extent {
            top: -1e-15,
            left: 2.0,
            height: 5.000_000_000_000_001,
            width: 3.000_000_000_000_001,
        };
        let expected = Extent {
            top: 0.0,
            left: 2.0,
            height: 5.0,
            width: 3.0,
        };
        assert_eq!(edges.inside(5, 5), expected);
    }
}
