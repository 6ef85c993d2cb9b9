//! From a file to the bytes of one row of the input tensor: read, sniff, check limits, decode, orient, convert, resize.
//!
//! Training and classification both come through here. Nothing in this module trusts the file: limits are checked before
//! memory is taken, a panic in a decoder stays with its image, and anything that is not a regular file is never opened.

mod guard;
mod pixels;
mod sniff;
mod status;

use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::path::Path;

use image::codecs::{bmp, gif, jpeg, png, tiff, webp};
use image::{DynamicImage, ImageDecoder, ImageError, ImageResult};

use crate::preprocess::{Orientation, Preprocess};
use crate::resize;
pub use guard::install_quiet_panic_hook;
pub use pixels::luma;
pub use sniff::{Format, Sniffed, sniff};
pub use status::{Fault, Status};

/// What one image may cost at most; anything over is [`Status::TooLarge`], decided from its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Limits {
    /// Bytes of the file.
    pub max_file_bytes: u64,
    /// Height × width of the decoded image.
    pub max_pixels: u64,
    /// Bytes of the decoded image, as the decoder gives it.
    pub max_decoded_bytes: u64,
}

impl Default for Limits {
    /// 256 MiB a file, 100 million pixels, 512 MiB decoded.
    fn default() -> Self {
        Self {
            max_file_bytes: 256 << 20,
            max_pixels: 100_000_000,
            max_decoded_bytes: 512 << 20,
        }
    }
}

/// An image that became a row of the input tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Format the content is in, whatever the file's name says.
    pub format: Format,
    /// Width as stored, before the EXIF orientation.
    pub width: u32,
    /// Height as stored, before the EXIF orientation.
    pub height: u32,
    /// [`Status::Ok`] or [`Status::Degraded`].
    pub status: Status,
    /// What is wrong with a degraded file.
    pub note: Option<String>,
}

/// Reads and decodes the file at `path` into `out`.
///
/// `out` is one image of the input tensor, `preprocess.bytes_per_image()` long, row-major height × width × channels. After a
/// failure its content is unspecified. Links are followed; FIFOs, devices and sockets are not opened.
pub fn decode_file(
    path: &Path,
    preprocess: &Preprocess,
    limits: &Limits,
    out: &mut [u8],
) -> Result<Decoded, Fault> {
    let bytes = read(path, limits)?;
    decode_bytes(&bytes, preprocess, limits, out)
}

/// Decodes an image file that is in memory into `out`; see [`decode_file`].
pub fn decode_bytes(
    bytes: &[u8],
    preprocess: &Preprocess,
    limits: &Limits,
    out: &mut [u8],
) -> Result<Decoded, Fault> {
    if bytes.is_empty() {
        return Err(Fault::new(Status::Corrupt, "the file is empty"));
    }
    let format = match sniff(bytes) {
        Sniffed::Image(format) => format,
        Sniffed::OtherImage(name) => {
            return Err(Fault::new(
                Status::Unsupported,
                format!("{name} is not supported; convert it to JPEG or PNG"),
            ));
        }
        Sniffed::Unknown => {
            return Err(Fault::new(
                Status::NotAnImage,
                "the content is not that of an image",
            ));
        }
    };
    guard::guarded(|| decode(bytes, format, preprocess, limits, out)).unwrap_or_else(|panic| {
        Err(Fault::new(
            Status::Corrupt,
            format!("the {format} decoder gave up: {panic}"),
        ))
    })
}

fn decode(
    bytes: &[u8],
    format: Format,
    preprocess: &Preprocess,
    limits: &Limits,
    out: &mut [u8],
) -> Result<Decoded, Fault> {
    let fault = |error| decoder_fault(format, error);
    let mut decoder = open(bytes, format, limits).map_err(fault)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height, decoder.total_bytes(), limits)?;
    decoder.set_limits(image_limits(limits)).map_err(fault)?;
    let orientation = match preprocess.orientation {
        // A damaged EXIF block is no reason to lose the picture.
        Orientation::Apply => decoder
            .orientation()
            .unwrap_or(image::metadata::Orientation::NoTransforms),
        Orientation::Ignore => image::metadata::Orientation::NoTransforms,
    };
    let mut image = DynamicImage::from_decoder(decoder).map_err(fault)?;
    image.apply_orientation(orientation);
    let pixels = pixels::convert(image, preprocess.colour, preprocess.background);
    resize::fit(&pixels.bytes, pixels.height, pixels.width, preprocess, out)
        .map_err(|error| Fault::new(Status::Corrupt, error.to_string()))?;

    // The decoder fills what is missing with grey and says nothing; a whole JPEG ends with its end marker.
    let truncated = format == Format::Jpeg && !ends_with_marker(bytes);
    Ok(Decoded {
        format,
        width,
        height,
        status: if truncated {
            Status::Degraded
        } else {
            Status::Ok
        },
        note: truncated.then(|| "the JPEG ends early: its end marker is missing".to_owned()),
    })
}

fn read(path: &Path, limits: &Limits) -> Result<Vec<u8>, Fault> {
    let metadata = fs::metadata(path).map_err(|error| open_fault(&error))?;
    if !metadata.is_file() {
        return Err(Fault::new(Status::Unreadable, "not a regular file"));
    }
    check_file_bytes(metadata.len(), limits)?;
    let file = File::open(path).map_err(|error| open_fault(&error))?;
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1);
    // The file may have grown since it was looked at.
    file.take(limits.max_file_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| Fault::new(Status::ReadError, format!("could not be read: {error}")))?;
    check_file_bytes(bytes.len() as u64, limits)?;
    Ok(bytes)
}

fn check_file_bytes(bytes: u64, limits: &Limits) -> Result<(), Fault> {
    if bytes <= limits.max_file_bytes {
        return Ok(());
    }
    Err(Fault::new(
        Status::TooLarge,
        format!("the file is larger than {} bytes", limits.max_file_bytes),
    ))
}

fn open_fault(error: &io::Error) -> Fault {
    let status = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Status::Vanished,
        io::ErrorKind::PermissionDenied => Status::Unreadable,
        _ => Status::ReadError,
    };
    Fault::new(status, format!("could not be opened: {error}"))
}

fn open<'a>(
    bytes: &'a [u8],
    format: Format,
    limits: &Limits,
) -> ImageResult<Box<dyn ImageDecoder + 'a>> {
    let cursor = Cursor::new(bytes);
    Ok(match format {
        Format::Jpeg => Box::new(jpeg::JpegDecoder::new(cursor)?),
        Format::Png => Box::new(png::PngDecoder::with_limits(cursor, image_limits(limits))?),
        Format::WebP => Box::new(webp::WebPDecoder::new(cursor)?),
        Format::Gif => Box::new(gif::GifDecoder::new(cursor)?),
        Format::Bmp => Box::new(bmp::BmpDecoder::new(cursor)?),
        Format::Tiff => Box::new(tiff::TiffDecoder::new(cursor)?),
    })
}

fn image_limits(limits: &Limits) -> image::Limits {
    let mut image_limits = image::Limits::no_limits();
    image_limits.max_alloc = Some(limits.max_decoded_bytes);
    image_limits
}

/// `DynamicImage::from_decoder` takes memory for the whole image without looking at any limit, so this comes before it.
fn check_size(width: u32, height: u32, bytes: u64, limits: &Limits) -> Result<(), Fault> {
    if width == 0 || height == 0 {
        return Err(Fault::new(
            Status::Corrupt,
            format!("the image is {width}×{height} pixels"),
        ));
    }
    let pixels = u64::from(width) * u64::from(height);
    if pixels > limits.max_pixels {
        let message = format!(
            "{width}×{height} is {pixels} pixels, more than {}",
            limits.max_pixels
        );
        return Err(Fault::new(Status::TooLarge, message));
    }
    if bytes > limits.max_decoded_bytes {
        let message = format!(
            "{width}×{height} takes {bytes} bytes, more than {}",
            limits.max_decoded_bytes
        );
        return Err(Fault::new(Status::TooLarge, message));
    }
    Ok(())
}

fn decoder_fault(format: Format, error: ImageError) -> Fault {
    match error {
        ImageError::Limits(error) => Fault::new(Status::TooLarge, error.to_string()),
        ImageError::Unsupported(error) => Fault::new(Status::Unsupported, error.to_string()),
        error => Fault::new(Status::Corrupt, format!("damaged {format}: {error}")),
    }
}

/// Cameras write padding or thumbnails' leftovers after the end marker, hence a little room.
fn ends_with_marker(jpeg: &[u8]) -> bool {
    let tail = &jpeg[jpeg.len().saturating_sub(64)..];
    tail.windows(2).any(|marker| marker == [0xFF, 0xD9])
}

#[cfg(test)]
mod tests;
