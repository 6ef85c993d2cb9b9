//! From a file to the bytes of one row of the input tensor: read, sniff, check limits, decode, orient, convert, resize.
//!
//! Training and classification both come through here. Nothing in this module trusts the file: limits are checked before
//! memory is taken, a panic in a decoder stays with its image, and anything that is not a regular file is never opened.

mod baseline;
mod budget;
mod detail;
mod guard;
mod jpeg;
mod libjpeg;
mod photo;
mod pixels;
mod planar;
mod read;
mod reduced;
mod revision;
mod riff;
mod sniff;
mod status;

use std::io::Cursor;
use std::path::Path;

use image::codecs::jpeg::JpegDecoder;
use image::codecs::{bmp, gif, png, tiff, webp};
use image::metadata::Orientation::NoTransforms;
use image::{DynamicImage, ImageDecoder, ImageError, ImageResult};

use crate::preprocess::{Orientation, Preprocess};
use crate::resize;
use baseline::join_row;
pub use budget::{Held, MemoryBudget};
pub use guard::install_quiet_panic_hook;
pub(crate) use pixels::Pixels;
pub use pixels::luma;
pub use read::Stamp;
pub(crate) use read::{Content, Refusal, is_out_of_files, open_fault, read, read_ahead};
use reduced::ReducedJpeg;
pub use reduced::{description as reduced_jpeg_decoder, reduced_jpeg};
pub use revision::REVISION;
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
    let memory = MemoryBudget::new(u64::MAX);
    let content = read(path, limits, &memory).map_err(alone)?;
    decode_bytes(&content.bytes, preprocess, limits, out)
}

/// Decodes an image file that is in memory into `out`; see [`decode_file`].
pub fn decode_bytes(
    bytes: &[u8],
    preprocess: &Preprocess,
    limits: &Limits,
    out: &mut [u8],
) -> Result<Decoded, Fault> {
    decode_within(bytes, preprocess, limits, &MemoryBudget::new(u64::MAX), out).map_err(alone)
}

/// A refusal where nobody else takes memory.
fn alone(refusal: Refusal) -> Fault {
    match refusal {
        Refusal::Fault(fault) => fault,
        Refusal::NoRoom => Fault::new(Status::TooLarge, "there is not enough memory for it"),
        Refusal::OutOfFiles(error) => open_fault(&error),
    }
}

/// Decodes an image file that is in memory into `out`, with what decoding takes on top from `memory`; see [`decode_file`].
pub(crate) fn decode_within(
    bytes: &[u8],
    preprocess: &Preprocess,
    limits: &Limits,
    memory: &MemoryBudget,
    out: &mut [u8],
) -> Result<Decoded, Refusal> {
    if bytes.is_empty() {
        return Err(Fault::new(Status::Corrupt, "the file is empty").into());
    }
    let format = match sniff(bytes) {
        Sniffed::Image(format) => format,
        Sniffed::OtherImage(name) => {
            let message = format!("{name} is not supported; convert it to JPEG or PNG");
            return Err(Fault::new(Status::Unsupported, message).into());
        }
        Sniffed::Unknown => {
            let message = "the content is not that of an image";
            return Err(Fault::new(Status::NotAnImage, message).into());
        }
    };
    guard::guarded(|| decode(bytes, format, preprocess, limits, memory, out))
        .unwrap_or_else(|panic| Err(given_up(bytes, format, &panic).into()))
}

/// What is wrong with a file over which the decoder panicked.
fn given_up(bytes: &[u8], format: Format, panic: &str) -> Fault {
    if format == Format::Tiff && planar::is_planar(bytes) {
        // Tiles that reach over the image's edge: a legal file, which other programs read.
        let message = "TIFF with its colour planes in separate tiles is not supported; convert it to JPEG or PNG";
        return Fault::new(Status::Unsupported, message);
    }
    Fault::new(
        Status::Corrupt,
        format!("the {format} decoder gave up: {panic}"),
    )
}

fn decode(
    bytes: &[u8],
    format: Format,
    preprocess: &Preprocess,
    limits: &Limits,
    memory: &MemoryBudget,
    out: &mut [u8],
) -> Result<Decoded, Refusal> {
    // Where edges are trimmed, single pixels decide: that takes all of them.
    if format == Format::Jpeg && preprocess.reduced_jpeg && preprocess.photo.is_none() {
        let decoded = decode_reduced(bytes, preprocess, limits, memory, out)?;
        if let Some(decoded) = decoded {
            return Ok(decoded);
        }
    }
    let fault = |error| decoder_fault(format, error);
    let mut decoder = open(bytes, format, limits).map_err(fault)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height, decoder.total_bytes(), limits)?;
    let _held = read::take(memory, cost(bytes, format, &decoder))?;
    decoder.set_limits(image_limits(limits)).map_err(fault)?;
    let orientation = match preprocess.orientation {
        Orientation::Apply if format == Format::WebP && riff::exif_overreaches(bytes) => {
            NoTransforms
        }
        // A damaged EXIF block is no reason to lose the picture.
        Orientation::Apply => decoder.orientation().unwrap_or(NoTransforms),
        Orientation::Ignore => NoTransforms,
    };
    let (mut image, note) = match format {
        Format::Jpeg => decode_jpeg(bytes, decoder).map_err(fault)?,
        _ => (DynamicImage::from_decoder(decoder).map_err(fault)?, None),
    };
    image.apply_orientation(orientation);
    let fitted = match preprocess.photo_steps(image.height(), image.width()) {
        None => {
            let pixels = pixels::convert(image, preprocess.colour, preprocess.background);
            resize::fit(&pixels.bytes, pixels.height, pixels.width, preprocess, out)
        }
        Some(steps) => photo::fit(image, steps, preprocess, out),
    };
    fitted.map_err(|error| Fault::new(Status::Corrupt, error.to_string()))?;

    Ok(Decoded {
        format,
        width,
        height,
        status: if note.is_some() {
            Status::Degraded
        } else {
            Status::Ok
        },
        note,
    })
}

/// Decodes as little of a large, flawless JPEG as the contract needs, or all of it without joining its colours before they are scaled; `None`
/// for any other.
fn decode_reduced(
    bytes: &[u8],
    preprocess: &Preprocess,
    limits: &Limits,
    memory: &MemoryBudget,
    out: &mut [u8],
) -> Result<Option<Decoded>, Refusal> {
    if !jpeg::ends_with_marker(bytes) {
        return Ok(None);
    }
    let Some(jpeg) = ReducedJpeg::open(bytes) else {
        return Ok(None);
    };
    let (width, height) = jpeg.dimensions();
    check_size(width, height, jpeg.total_bytes(), limits)?;
    let orientation = match preprocess.orientation {
        Orientation::Apply => jpeg.orientation(),
        Orientation::Ignore => NoTransforms,
    };
    let upright = detail::upright(height, width, orientation);
    let eighths = detail::sufficient_eighths(upright, preprocess);
    let _held = match eighths {
        Some(eighths) => read::take(memory, jpeg.cost(eighths, jpeg::is_progressive(bytes)))?,
        None if detail::is_made_smaller(upright, preprocess) => {
            read::take(memory, jpeg.cost(8, false))?
        }
        None => return Ok(None),
    };
    let fitted = match eighths {
        Some(eighths) => {
            let Some(mut image) = jpeg.decode(eighths, preprocess.colour) else {
                return Ok(None);
            };
            image.apply_orientation(orientation);
            let reduced = pixels::convert(image, preprocess.colour, preprocess.background);
            let extent = detail::reduced_extent(&reduced, upright, eighths, orientation);
            let size = (reduced.height, reduced.width);
            resize::fit_extent(&reduced.bytes, size, extent, preprocess, out)
        }
        None => {
            let Some(planes) = jpeg.planes(preprocess.colour, orientation) else {
                return Ok(None);
            };
            resize::fit_planes(&planes, join_row, preprocess, out)
        }
    };
    fitted.map_err(|error| Fault::new(Status::Corrupt, error.to_string()))?;
    Ok(Some(Decoded {
        format: Format::Jpeg,
        width,
        height,
        status: Status::Ok,
        note: None,
    }))
}

/// What can still be seen of a damaged JPEG is worth a label; what is wrong with it is told.
fn decode_jpeg(
    bytes: &[u8],
    decoder: impl ImageDecoder,
) -> ImageResult<(DynamicImage, Option<String>)> {
    let (image, damage) = match jpeg::decode_strictly(bytes) {
        Ok(image) => (image, None),
        Err(damage) => (DynamicImage::from_decoder(decoder)?, Some(damage)),
    };
    let note = if !jpeg::ends_with_marker(bytes) {
        Some("the JPEG ends early: its end marker is missing".to_owned())
    } else {
        damage.map(|damage| format!("the JPEG is damaged: {damage}"))
    };
    Ok((image, note))
}

/// Bytes that decoding takes on top of the file, at most: the image, a copy for turning or converting it, and for a JPEG of
/// several passes its coefficients.
fn cost(bytes: &[u8], format: Format, decoder: &impl ImageDecoder) -> u64 {
    let image = decoder.total_bytes();
    let copies = match format {
        Format::Jpeg if jpeg::is_progressive(bytes) => 4,
        _ => 2,
    };
    image.saturating_mul(copies)
}

fn open<'a>(
    bytes: &'a [u8],
    format: Format,
    limits: &Limits,
) -> ImageResult<Box<dyn ImageDecoder + 'a>> {
    let cursor = Cursor::new(bytes);
    Ok(match format {
        Format::Jpeg => Box::new(JpegDecoder::new(cursor)?),
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

#[cfg(test)]
mod tests;
