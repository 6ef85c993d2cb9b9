//! JPEG by the letter: the usual decoder fills what is missing with grey and says nothing, this one says what is wrong.

use image::{DynamicImage, GrayImage, RgbImage};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Decodes a JPEG that breaks no rule, to the pixels that the lenient decoder gives for it. The error is what is wrong with
/// the file, in the decoder's words.
pub(super) fn decode_strictly(bytes: &[u8]) -> Result<DynamicImage, String> {
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder
        .decode_headers()
        .map_err(|error| error.to_string())?;
    let colours = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => ColorSpace::Luma,
        _ => ColorSpace::RGB,
    };
    decoder.set_options(options.jpeg_set_out_colorspace(colours));
    let pixels = decoder.decode().map_err(|error| error.to_string())?;
    let (width, height) = decoder.dimensions().ok_or("it has no size")?;
    let (width, height) = (width as u32, height as u32);
    let image = if colours == ColorSpace::Luma {
        GrayImage::from_raw(width, height, pixels).map(DynamicImage::from)
    } else {
        RgbImage::from_raw(width, height, pixels).map(DynamicImage::from)
    };
    image.ok_or_else(|| "it has another size than it says".to_owned())
}

/// Whether the end marker is there. Cameras write padding or leftovers of thumbnails behind it, hence a little room.
pub(super) fn ends_with_marker(jpeg: &[u8]) -> bool {
    let tail = &jpeg[jpeg.len().saturating_sub(64)..];
    tail.windows(2).any(|marker| marker == [0xFF, 0xD9])
}

/// Whether the picture comes in several passes, for which the decoder keeps all coefficients.
pub(super) fn is_progressive(jpeg: &[u8]) -> bool {
    let mut rest = jpeg.get(2..).unwrap_or_default();
    // Segments: FF, a marker, a length of two bytes that counts itself.
    while let [0xFF, marker, after @ ..] = rest {
        match (marker, after) {
            (0xC0 | 0xC1 | 0xDA, _) => return false,
            (0xC2, _) => return true,
            (0xFF, _) => rest = &rest[1..],
            (_, [high, low, ..]) => {
                let length = usize::from(*high) * 256 + usize::from(*low);
                rest = after.get(length..).unwrap_or_default();
            }
            _ => return false,
        }
    }
    // Whatever stands between the segments may hide anything.
    true
}

#[cfg(test)]
mod tests {
    use image::Rgb;
    use image::codecs::jpeg::JpegEncoder;

    use super::*;

    #[test]
    fn a_sound_file_gives_the_same_pixels_by_both_decoders() {
        let photo = RgbImage::from_fn(37, 21, |x, y| Rgb([x as u8 * 5, y as u8 * 9, 77]));
        for image in [
            DynamicImage::from(photo.clone()),
            DynamicImage::from(photo).to_luma8().into(),
        ] {
            let mut jpeg = Vec::new();
            JpegEncoder::new(&mut jpeg).encode_image(&image).unwrap();
            let lenient = image::load_from_memory(&jpeg).unwrap();
            assert_eq!(decode_strictly(&jpeg).unwrap(), lenient);
            assert!(ends_with_marker(&jpeg) && !is_progressive(&jpeg));
            assert!(decode_strictly(&jpeg[..jpeg.len() / 2]).is_err());
        }
    }

    #[test]
    fn passes_are_told_by_the_frame_marker() {
        assert!(is_progressive(b"\xFF\xD8\xFF\xE0\0\x04ab\xFF\xC2\0\x08"));
        assert!(!is_progressive(b"\xFF\xD8\xFF\xE0\0\x04ab\xFF\xC0\0\x08"));
        assert!(is_progressive(b"\xFF\xD8garbage"));
        assert!(!is_progressive(b"\xFF\xD8\xFF\xC4"));
    }
}
