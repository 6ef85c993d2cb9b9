//! Pictures inside the page: the pixels that the model saw, as PNG in a data URI.

use std::io::Cursor;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::codecs::png::{CompressionType, FilterType as PngFilter, PngEncoder};
use image::imageops::{self, FilterType};
use image::{ExtendedColorType, GrayImage, ImageEncoder, RgbImage};
use pipeline::preprocess::{Colour, Preprocess};

/// An image of the data set as a data URI, its longer side at most `longest` pixels; smaller ones keep their own pixels.
///
/// `None` where `pixels` are not an image of that shape.
pub(super) fn data_uri(pixels: &[u8], preprocess: &Preprocess, longest: u32) -> Option<String> {
    let (height, width) = (preprocess.height, preprocess.width);
    let factor = f64::from(longest) / f64::from(height.max(width)).max(1.0);
    let side = |length: u32| ((f64::from(length) * factor).round() as u32).max(1);
    let pixels = pixels.to_vec();
    let (bytes, width, height, colour) = match preprocess.colour {
        Colour::Grey => {
            let mut image = GrayImage::from_raw(width, height, pixels)?;
            if factor < 1.0 {
                image = imageops::resize(&image, side(width), side(height), FilterType::Triangle);
            }
            let (width, height) = image.dimensions();
            (image.into_raw(), width, height, ExtendedColorType::L8)
        }
        Colour::Rgb => {
            let mut image = RgbImage::from_raw(width, height, pixels)?;
            if factor < 1.0 {
                image = imageops::resize(&image, side(width), side(height), FilterType::Triangle);
            }
            let (width, height) = image.dimensions();
            (image.into_raw(), width, height, ExtendedColorType::Rgb8)
        }
    };
    let mut png = Cursor::new(Vec::new());
    PngEncoder::new_with_quality(&mut png, CompressionType::Best, PngFilter::Adaptive)
        .write_image(&bytes, width, height, colour)
        .ok()?;
    Some(format!(
        "data:image/png;base64,{}",
        BASE64_STANDARD.encode(png.into_inner())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(uri: &str) -> image::DynamicImage {
        let png = uri.strip_prefix("data:image/png;base64,").unwrap();
        image::load_from_memory(&BASE64_STANDARD.decode(png).unwrap()).unwrap()
    }

    #[test]
    fn small_pictures_keep_their_pixels_and_large_ones_shrink() {
        let small = Preprocess::stretch(2, 3, Colour::Grey);
        let pixels = [0, 50, 100, 150, 200, 250];
        let picture = decoded(&data_uri(&pixels, &small, 96).unwrap());
        assert_eq!((picture.width(), picture.height()), (3, 2));
        assert_eq!(picture.to_luma8().into_raw(), pixels);

        let large = Preprocess::stretch(100, 200, Colour::Rgb);
        let picture = decoded(&data_uri(&vec![7; 60_000], &large, 96).unwrap());
        assert_eq!((picture.width(), picture.height()), (96, 48));
        assert_eq!(data_uri(&[], &small, 96), None);
    }
}
