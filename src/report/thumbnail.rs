//! Pictures inside the page, in a data URI: the pixels that the model saw as PNG, photos as JPEG.

use std::io::Cursor;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType as PngFilter, PngEncoder};
use image::imageops::{self, FilterType};
use image::{ExtendedColorType, GrayImage, ImageEncoder, RgbImage};
use pipeline::preprocess::{Colour, Preprocess};

/// Quality of JPEGs, of 100.
const PHOTO_QUALITY: u8 = 82;

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

/// A photo as a data URI, as small as JPEG makes it; `None` where `pixels` are not `side × side` in RGB.
pub fn photo_uri(pixels: &[u8], side: u32) -> Option<String> {
    let photo = RgbImage::from_raw(side, side, pixels.to_vec())?;
    let mut jpeg = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut jpeg, PHOTO_QUALITY);
    photo.write_with_encoder(encoder).ok()?;
    Some(format!(
        "data:image/jpeg;base64,{}",
        BASE64_STANDARD.encode(jpeg)
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

    #[test]
    fn photos_are_small_and_nothing_is_read_past_their_end() {
        let uri = photo_uri(&[200; 64 * 64 * 3], 64).unwrap();
        let jpeg = uri.strip_prefix("data:image/jpeg;base64,").unwrap();
        let photo = image::load_from_memory(&BASE64_STANDARD.decode(jpeg).unwrap()).unwrap();
        assert_eq!((photo.width(), photo.height()), (64, 64));
        assert_eq!(photo_uri(&[200; 10], 64), None);
    }
}
