//! A photo of one object on a plain background, made what a model of such objects knows: trimmed, scaled, sharpened, put on the
//! right ground.
//!
//! The steps are those by which Fashion-MNIST was made, each of them optional in the contract. Nothing here finds objects: where
//! the background is not plain, nothing is trimmed and the whole image is used. All arithmetic is on integers.

use anyhow::Result;
use image::DynamicImage;

use super::pixels::{Pixels, convert, luma};
use crate::preprocess::{Colour, Ground, PhotoSteps, Preprocess};
use crate::resize::{self, Extent};

/// A line of the image is background although one in so many of its pixels is not: noise of a JPEG or a camera.
const PIXELS_PER_SPECK: usize = 256;
/// A ground of this luma or more is light.
const LIGHT_FROM: u8 = 128;

/// Weights of the 3×3 sharpening operator, in 65,536ths. With `g` the Gaussian of sigma 1, neighbours weigh `−g` and the centre
/// twice the sum of all nine, divided by their total, so that a flat area keeps its value.
const BESIDE: i32 = -6740;
const DIAGONAL: i32 = -4088;
const CENTRE: i32 = 65_536 - 4 * (BESIDE + DIAGONAL);

/// The part of an image that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Region {
    top: usize,
    left: usize,
    height: usize,
    width: usize,
}

/// Makes `out`, `[height, width, C]` of the contract, from a photo of any size.
///
/// # Errors
/// When the image cannot be resized.
pub(super) fn fit(
    image: DynamicImage,
    steps: PhotoSteps,
    preprocess: &Preprocess,
    out: &mut [u8],
) -> Result<()> {
    // Colours have to be there until the edges are trimmed.
    let colour = match image.color().has_color() {
        true => Colour::Rgb,
        false => Colour::Grey,
    };
    let whole = convert(image, colour, preprocess.background);
    let edge = edge_colour(&whole, colour);
    let kept = steps.trim_percent.map_or(Region::whole(&whole), |percent| {
        trim(&whole, colour, percent)
    });
    let object = cut(&whole, colour, kept, preprocess.colour);
    drop(whole);
    let size = (object.height, object.width);
    let extent = Extent::whole(size.0, size.1);
    let mut inner = resize::scaled(&object.bytes, size, extent, preprocess)?;
    if steps.sharpen {
        inner.bytes = sharpened(&inner, preprocess.colour.channels());
    }
    let background = match steps.ground {
        Ground::Own => edge,
        Ground::Dark => {
            darken_ground(&mut inner.bytes, edge, preprocess.colour);
            [0; 3]
        }
    };
    resize::fill(out, background, preprocess.colour);
    resize::paste(&inner, preprocess, out);
    Ok(())
}

impl Region {
    fn whole(image: &Pixels) -> Self {
        Self {
            top: 0,
            left: 0,
            height: image.height as usize,
            width: image.width as usize,
        }
    }
}

/// One pixel as red, green, blue.
fn pixel(image: &Pixels, colour: Colour, row: usize, column: usize) -> [u8; 3] {
    let start = (row * image.width as usize + column) * colour.channels();
    match (colour, &image.bytes[start..]) {
        (Colour::Rgb, &[red, green, blue, ..]) => [red, green, blue],
        (_, rest) => [rest.first().copied().unwrap_or_default(); 3],
    }
}

/// Median of each channel over the outermost pixels: a logo, a shadow or an object that touches the edge does not move it.
fn edge_colour(image: &Pixels, colour: Colour) -> [u8; 3] {
    let (height, width) = (image.height as usize, image.width as usize);
    let rows = (0..width).flat_map(|column| [(0, column), (height - 1, column)]);
    let columns = (0..height).flat_map(|row| [(row, 0), (row, width - 1)]);
    let mut counts = [[0_usize; 256]; 3];
    for (row, column) in rows.chain(columns) {
        for (counts, value) in counts.iter_mut().zip(pixel(image, colour, row, column)) {
            counts[usize::from(value)] += 1;
        }
    }
    let half = (height + width) as u64;
    counts.map(|counts| {
        let mut seen = 0;
        let below = counts.iter().take_while(|&&count| {
            seen += count as u64;
            seen < half
        });
        below.count().min(255) as u8
    })
}

/// Cuts lines off each side while they have the colour of the corner there; the whole image where nothing would be left.
fn trim(image: &Pixels, colour: Colour, percent: u8) -> Region {
    let (height, width) = (image.height as usize, image.width as usize);
    // d² ≤ (percent / 100)² · 3 · 255², in integers.
    let limit = i64::from(percent).pow(2) * 3 * 255 * 255;
    let is_near = |reference: [u8; 3], row: usize, column: usize| {
        let squares = pixel(image, colour, row, column)
            .into_iter()
            .zip(reference)
            .map(|(value, reference)| (i64::from(value) - i64::from(reference)).pow(2));
        squares.sum::<i64>() * 10_000 <= limit
    };
    let corner = |row: usize, column: usize| pixel(image, colour, row, column);
    let is_plain_row = |reference: [u8; 3], row: usize| {
        let specks = (0..width).filter(|&column| !is_near(reference, row, column));
        specks.take(width / PIXELS_PER_SPECK + 1).count() <= width / PIXELS_PER_SPECK
    };
    let (first, below) = (corner(0, 0), corner(height - 1, 0));
    let Some(top) = (0..height).find(|&row| !is_plain_row(first, row)) else {
        return Region::whole(image);
    };
    let bottom = (top..height)
        .rev()
        .find(|&row| !is_plain_row(below, row))
        .unwrap_or(top);
    let rows = top..bottom + 1;
    let is_plain_column = |reference: [u8; 3], column: usize| {
        let allowed = rows.len() / PIXELS_PER_SPECK;
        let specks = rows.clone().filter(|&row| !is_near(reference, row, column));
        specks.take(allowed + 1).count() <= allowed
    };
    let right_reference = corner(0, width - 1);
    let Some(left) = (0..width).find(|&column| !is_plain_column(first, column)) else {
        return Region::whole(image);
    };
    let right = (left..width)
        .rev()
        .find(|&column| !is_plain_column(right_reference, column))
        .unwrap_or(left);
    Region {
        top,
        left,
        height: rows.len(),
        width: right - left + 1,
    }
}

/// The kept part of the image, in the wanted colour.
fn cut(image: &Pixels, colour: Colour, kept: Region, wanted: Colour) -> Pixels {
    let channels = colour.channels();
    let row_bytes = image.width as usize * channels;
    let mut bytes = Vec::with_capacity(kept.height * kept.width * wanted.channels());
    for row in image
        .bytes
        .chunks_exact(row_bytes)
        .skip(kept.top)
        .take(kept.height)
    {
        let row = &row[kept.left * channels..(kept.left + kept.width) * channels];
        match (colour, wanted) {
            (Colour::Rgb, Colour::Grey) => {
                bytes.extend(row.as_chunks::<3>().0.iter().copied().map(luma));
            }
            (Colour::Grey, Colour::Rgb) => bytes.extend(row.iter().flat_map(|&grey| [grey; 3])),
            _ => bytes.extend_from_slice(row),
        }
    }
    Pixels {
        bytes,
        height: kept.height as u32,
        width: kept.width as u32,
    }
}

/// Makes the ground black and stretches what lies between it and the other end of the scale: a photo on white is negated, one on
/// black stays as it is, and a grey ground does not shine through. What is beyond the ground becomes black too.
fn darken_ground(values: &mut [u8], ground: [u8; 3], colour: Colour) {
    let is_light = luma(ground) >= LIGHT_FROM;
    let darkened = |value: u8, ground: u8| {
        let (distance, range) = match is_light {
            true => (ground.saturating_sub(value), ground),
            false => (value.saturating_sub(ground), 255 - ground),
        };
        let (distance, range) = (u32::from(distance), u32::from(range).max(1));
        ((distance * 255 + range / 2) / range) as u8
    };
    match colour {
        Colour::Grey => {
            let ground = luma(ground);
            values
                .iter_mut()
                .for_each(|value| *value = darkened(*value, ground));
        }
        Colour::Rgb => {
            for pixel in values.as_chunks_mut::<3>().0 {
                for (value, ground) in pixel.iter_mut().zip(ground) {
                    *value = darkened(*value, ground);
                }
            }
        }
    }
}

/// The image under the sharpening operator; beyond its edges it goes on as at them.
fn sharpened(image: &Pixels, channels: usize) -> Vec<u8> {
    let (height, width) = (image.height as usize, image.width as usize);
    let mut out = Vec::with_capacity(image.bytes.len());
    for row in 0..height {
        let rows = [row.saturating_sub(1), row, (row + 1).min(height - 1)];
        for column in 0..width {
            let columns = [
                column.saturating_sub(1),
                column,
                (column + 1).min(width - 1),
            ];
            for channel in 0..channels {
                let at = |row: usize, column: usize| {
                    i32::from(image.bytes[(row * width + column) * channels + channel])
                };
                let [above, here, below] = rows;
                let [left, middle, right] = columns;
                let beside =
                    at(above, middle) + at(below, middle) + at(here, left) + at(here, right);
                let diagonal =
                    at(above, left) + at(above, right) + at(below, left) + at(below, right);
                let sum = CENTRE * at(here, middle) + BESIDE * beside + DIAGONAL * diagonal;
                out.push(((sum + 32_768) >> 16).clamp(0, 255) as u8);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
