//! The usual kind of JPEG for a small input: one pass, Huffman codes, 8 bits.
//!
//! At a fraction of the size, nearly all the time goes into Huffman codes, and nearly all of these are of no use. So coefficients are only
//! looked at where they matter; of the others the number of bits is enough. The pixels are means of those of the whole picture, and what each
//! coefficient adds to them is added at once.
//!
//! Where all pixels matter, they are given as they are in the file: brightness and colours in planes of their own, the colours mostly of
//! fewer pixels. To scale these and join them afterwards is less work than the other way round.
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
mod whole;

#[cfg(test)]
mod tests;

pub(super) use colour::join_row;
pub(super) use header::EXIF_HEADER;
use header::Header;
use scan::Scale;

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

/// One component of the whole picture.
#[derive(Debug, PartialEq)]
pub(super) struct WholePlane {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) bytes: Vec<u8>,
    /// How much of the rows and columns is the picture: where colours stand for several pixels, the last one stands for fewer.
    pub(super) content: (f64, f64),
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
        let planes = scan::decode(&self.header, Scale::Eighths(eighths), wanted)?;
        let (height, width) = (
            (self.header.height * eighths).div_ceil(8),
            (self.header.width * eighths).div_ceil(8),
        );
        let bytes = match planes.as_slice() {
            [_] => colour::cropped(planes.into_iter().next()?, height, width),
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

    /// The whole picture: brightness, and where colours are there and wanted, blue and red chroma (JFIF 1.02).
    pub(super) fn planes(&self, is_grey: bool) -> Option<Vec<WholePlane>> {
        let wanted = if is_grey { 1 } else { self.channels() };
        let planes = scan::decode(&self.header, Scale::Whole, wanted)?;
        let units = scan::Units::new(&self.header);
        let components = self.header.components.iter();
        Some(
            components
                .zip(planes)
                .map(|(component, plane)| {
                    let content = units.content(&self.header, component);
                    let (height, width) = (content.0.ceil() as usize, content.1.ceil() as usize);
                    WholePlane {
                        bytes: colour::cropped(plane, height, width),
                        height,
                        width,
                        content,
                    }
                })
                .collect(),
        )
    }
}
