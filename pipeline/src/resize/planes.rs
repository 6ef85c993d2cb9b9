//! Fits a picture whose brightness and colours are planes of their own, as a JPEG has them.

use anyhow::{Context as _, Result};
use fast_image_resize::PixelType;
use fast_image_resize::images::ImageRef;

use super::{Extent, fill, paste, placed, scale};
use crate::decode::Pixels;
use crate::preprocess::Preprocess;

/// Joins rows of brightness, blue and red chroma of one length: red, green, blue and a byte of no meaning for each pixel.
pub(crate) type Join = fn([&[u8]; 3], &mut [[u8; 4]]);

/// The planes of a picture, each of one channel and with its extent, of which the first has most pixels: scaled as the contract's fit says, and
/// joined. One plane is a grey image, three are brightness and colours.
///
/// They are scaled down first, where a row of pixels is computed at once, and across when there are fewer rows, all colours together: of the
/// resizer's ways that is the cheapest.
pub(crate) fn fit_planes(
    planes: &[(Pixels, Extent)],
    join: Join,
    preprocess: &Preprocess,
    out: &mut [u8],
) -> Result<()> {
    let (_, whole) = planes.first().context("there are no planes")?;
    let ((height, width), part) = placed(*whole, preprocess);
    let filter = preprocess.filter;
    let low = planes.iter().map(|(plane, extent)| {
        let source = ImageRef::new(plane.width, plane.height, &plane.bytes, PixelType::U8)?;
        let rows = Extent {
            left: 0.0,
            width: f64::from(plane.width),
            ..part.of(*whole, *extent)
        };
        scale(&source, rows, (height, plane.width), filter)
    });
    let mut low = low.collect::<Result<Vec<_>>>()?;
    let columns = Extent {
        top: 0.0,
        height: f64::from(height),
        ..part
    };
    let inner = match (low.as_slice(), planes) {
        ([luma, blue, red], [_, (_, of_blue), (_, of_red)]) => {
            let blue = Stretched::new(blue, *of_blue, luma.width, *whole);
            let red = Stretched::new(red, *of_red, luma.width, *whole);
            let joined = joined(luma, blue, red, join);
            let source = ImageRef::new(luma.width, height, &joined, PixelType::U8x4)?;
            let scaled = scale(&source, columns, (height, width), filter)?;
            let mut bytes = vec![0; scaled.bytes.len() / 4 * 3];
            let pixels = scaled.bytes.as_chunks::<4>().0;
            for (out, &[red, green, blue, _]) in bytes.as_chunks_mut().0.iter_mut().zip(pixels) {
                *out = [red, green, blue];
            }
            Pixels { bytes, ..scaled }
        }
        _ => {
            let low = low.swap_remove(0);
            let source = ImageRef::new(low.width, height, &low.bytes, PixelType::U8)?;
            scale(&source, columns, (height, width), filter)?
        }
    };
    if (inner.height, inner.width) != (preprocess.height, preprocess.width) {
        fill(out, preprocess.background, preprocess.colour);
    }
    paste(&inner, preprocess, out);
    Ok(())
}

/// A plane of colours of which a value stands for one or several columns of brightness.
struct Stretched<'a> {
    plane: &'a Pixels,
    stretch: Stretch,
    row: Vec<u8>,
}

/// Which column of a plane belongs to a column of brightness.
enum Stretch {
    /// The same.
    Same,
    /// That of half the number.
    Double,
    /// These.
    Columns(Vec<usize>),
}

impl<'a> Stretched<'a> {
    /// For `width` columns of brightness, of which `whole` is the picture, as `extent` is of the plane.
    fn new(plane: &'a Pixels, extent: Extent, width: u32, whole: Extent) -> Self {
        let across = extent.width / whole.width;
        let last = plane.width.saturating_sub(1) as usize;
        let columns: Vec<usize> = (0..width)
            .map(|column| {
                let middle = f64::from(column) + 0.5 - whole.left;
                ((middle * across + extent.left) as usize).min(last)
            })
            .collect();
        let is = |expected: fn(usize) -> usize| {
            let mut places = columns.iter().enumerate();
            places.all(|(place, &column)| column == expected(place))
        };
        let stretch = if is(|place| place) {
            Stretch::Same
        } else if is(|place| place / 2) {
            Stretch::Double
        } else {
            Stretch::Columns(columns)
        };
        Self {
            plane,
            stretch,
            row: vec![0; width as usize],
        }
    }

    fn row(&mut self, number: usize) -> &[u8] {
        let width = self.plane.width as usize;
        let own = &self.plane.bytes[number * width..][..width];
        match &self.stretch {
            Stretch::Same => return &own[..self.row.len()],
            Stretch::Double => {
                let (pairs, odd) = self.row.as_chunks_mut::<2>();
                for (pair, &value) in pairs.iter_mut().zip(own) {
                    *pair = [value; 2];
                }
                if let (Some(odd), Some(&last)) = (odd.first_mut(), own.get(pairs.len())) {
                    *odd = last;
                }
            }
            Stretch::Columns(columns) => {
                for (value, &column) in self.row.iter_mut().zip(columns) {
                    *value = own[column];
                }
            }
        }
        &self.row
    }
}

/// Pixels of four bytes.
fn joined(luma: &Pixels, mut blue: Stretched<'_>, mut red: Stretched<'_>, join: Join) -> Vec<u8> {
    let mut bytes = vec![0; 4 * luma.bytes.len()];
    let width = luma.width as usize;
    let rows = luma.bytes.chunks_exact(width);
    let out = bytes.as_chunks_mut::<4>().0.chunks_exact_mut(width);
    for (number, (luma, out)) in rows.zip(out).enumerate() {
        join([luma, blue.row(number), red.row(number)], out);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::{Colour, Fit};

    #[test]
    fn colours_of_every_sampling_turned_any_way_fit() {
        let join: Join = |[luma, blue, red], out| {
            for (((out, &luma), &blue), &red) in out.iter_mut().zip(luma).zip(blue).zip(red) {
                *out = [luma, blue, red, 0];
            }
        };
        for (height, width) in (20..200).step_by(7).zip((31..150).cycle()) {
            for (down, across) in [(1, 1), (1, 2), (2, 2), (4, 1)] {
                for is_turned in [false, true] {
                    let plane = |down: u32, across: u32| {
                        let content = (
                            f64::from(height) / f64::from(down),
                            f64::from(width) / f64::from(across),
                        );
                        let (rows, columns) = (content.0.ceil(), content.1.ceil());
                        let pixels = Pixels {
                            bytes: vec![7; (rows * columns) as usize],
                            height: rows as u32,
                            width: columns as u32,
                        };
                        let start =
                            |whole: f64, content| if is_turned { whole - content } else { 0.0 };
                        let extent = Extent {
                            top: start(rows, content.0),
                            left: start(columns, content.1),
                            height: content.0,
                            width: content.1,
                        };
                        (pixels, extent)
                    };
                    let planes = [plane(1, 1), plane(down, across), plane(down, across)];
                    for fit in [Fit::Stretch, Fit::Pad, Fit::Crop] {
                        let preprocess = Preprocess {
                            fit,
                            background: [7; 3],
                            ..Preprocess::stretch(19, 13, Colour::Rgb)
                        };
                        let mut out = vec![0; preprocess.bytes_per_image()];
                        fit_planes(&planes, join, &preprocess, &mut out).unwrap();
                        assert_eq!(out, vec![7; out.len()]);
                    }
                }
            }
        }
    }
}
