//! The usual kind of JPEG at a fraction of its size: one pass, Huffman codes, 8 bits.
//!
//! Nearly all the time goes into Huffman codes, and nearly all of these are of no use for a small picture. So coefficients are only looked
//! at where they matter; of the others the number of bits is enough. The pixels are means of those of the whole picture, and what each
//! coefficient adds to them is added at once.
//!
//! It takes flawless files of that kind only. `None` says no more than that another decoder should have a look.

mod bits;
mod colour;
mod header;
mod huffman;
mod scan;
mod segments;
mod tables;
mod transform;

#[cfg(test)]
mod tests;

pub(super) use header::EXIF_HEADER;
use header::Header;

/// A JPEG whose header was read.
pub(super) struct BaselineJpeg<'a> {
    header: Header<'a>,
}

/// Pixels of a decoded picture, row by row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Raster {
    pub(super) height: usize,
    pub(super) width: usize,
    /// 1 for grey, 3 for red, green and blue.
    pub(super) channels: usize,
    pub(super) bytes: Vec<u8>,
}

impl<'a> BaselineJpeg<'a> {
    /// Reads the header.
    pub(super) fn open(jpeg: &'a [u8]) -> Option<Self> {
        Header::read(jpeg).map(|header| Self { header })
    }

    /// Width and height as stored.
    pub(super) fn dimensions(&self) -> (u32, u32) {
        (self.header.width as u32, self.header.height as u32)
    }

    /// 1 for grey, 3 for colours.
    pub(super) fn channels(&self) -> usize {
        self.header.components.len()
    }

    /// The EXIF block.
    pub(super) fn exif(&self) -> Option<&'a [u8]> {
        self.header.exif
    }

    /// The picture at `eighths` / 8 of its size, sides rounded up, in grey where that is all there is or all that is wanted.
    pub(super) fn decode(&self, eighths: u8, is_grey: bool) -> Option<Raster> {
        let eighths = usize::from(eighths);
        let wanted = if is_grey { 1 } else { self.channels() };
        let planes = scan::decode(&self.header, eighths, wanted)?;
        let (height, width) = (
            (self.header.height * eighths).div_ceil(8),
            (self.header.width * eighths).div_ceil(8),
        );
        let bytes = match planes.as_slice() {
            [grey] => colour::cropped(grey, height, width),
            [luma, blue, red] => colour::rgb([luma, blue, red], height, width),
            _ => return None,
        };
        Some(Raster {
            height,
            width,
            channels: wanted,
            bytes,
        })
    }
}
