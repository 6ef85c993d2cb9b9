//! IDX files, the format of the MNIST family: a strict reader, plain or gzip by content, and the writer.
//!
//! Only what labelled grey images need: unsigned bytes in one dimension (labels) or three (images). What the numbers mean is
//! not known here. Offsets in messages count uncompressed bytes.

use std::fs::File;
use std::io::{BufReader, Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

/// Deflate cannot shrink by more than this, so a header that promises more than the file can hold is refused unread.
const MAX_GZIP_RATIO: u64 = 1_032;

/// Grey images of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Rows of an image.
    pub height: u32,
    /// Columns of an image.
    pub width: u32,
    /// Pixels, `[N, height, width]` row-major.
    pub pixels: Vec<u8>,
}

impl Images {
    /// Number of images.
    pub fn len(&self) -> usize {
        let size = self.height as usize * self.width as usize;
        self.pixels.len().checked_div(size).unwrap_or(0)
    }

    /// Whether there is no image at all.
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }

    /// SHA-256 of the uncompressed file these images make, in hexadecimal.
    pub fn sha256(&self) -> String {
        file_sha256(&[self.len() as u32, self.height, self.width], &self.pixels)
    }
}

/// SHA-256 of the uncompressed file these labels make, in hexadecimal.
pub fn labels_sha256(labels: &[u8]) -> String {
    file_sha256(&[labels.len() as u32], labels)
}

/// Reads a file of images (three dimensions: count, height, width).
///
/// # Errors
/// Names the file, the byte offset and what was expected there.
pub fn read_images(path: &Path) -> Result<Images> {
    let ([_, height, width], pixels) = read::<3>(path, "images (count, height, width)")?;
    Ok(Images {
        height,
        width,
        pixels,
    })
}

/// Reads a file of labels (one dimension).
///
/// # Errors
/// Names the file, the byte offset and what was expected there.
pub fn read_labels(path: &Path) -> Result<Vec<u8>> {
    Ok(read::<1>(path, "labels (count)")?.1)
}

/// Writes images as an uncompressed IDX file.
///
/// # Errors
/// When the file cannot be written, or there are more images than the header can count.
pub fn write_images(path: &Path, images: &Images) -> Result<()> {
    let count =
        u32::try_from(images.len()).context("an IDX file holds at most 4,294,967,295 images")?;
    write(path, &[count, images.height, images.width], &images.pixels)
}

/// Writes labels as an uncompressed IDX file.
///
/// # Errors
/// When the file cannot be written, or there are more labels than the header can count.
pub fn write_labels(path: &Path, labels: &[u8]) -> Result<()> {
    let count =
        u32::try_from(labels.len()).context("an IDX file holds at most 4,294,967,295 labels")?;
    write(path, &[count], labels)
}

/// Reads a whole file of `RANK` dimensions; the payload has exactly their product in bytes.
fn read<const RANK: usize>(path: &Path, kind: &str) -> Result<([u32; RANK], Vec<u8>)> {
    let name = path.display();
    let mut file = File::open(path).with_context(|| format!("{name}: cannot be opened"))?;
    let file_size = file
        .metadata()
        .with_context(|| format!("{name}: cannot be read"))?
        .len();
    let mut start = [0; 2];
    let is_gzip = file.read_exact(&mut start).is_ok() && start == [0x1f, 0x8b];
    file.rewind()
        .with_context(|| format!("{name}: cannot be read"))?;
    let plain = BufReader::new(file);
    let (mut content, size_limit): (Box<dyn Read>, u64) = if is_gzip {
        (
            Box::new(MultiGzDecoder::new(plain)),
            file_size.saturating_mul(MAX_GZIP_RATIO),
        )
    } else {
        (Box::new(plain), file_size)
    };

    let mut header = vec![0; 4 + 4 * RANK];
    let got = read_up_to(&mut content, &mut header)
        .with_context(|| format!("{name}: byte 0: cannot be read"))?;
    let magic = magic(RANK);
    if got >= 4 {
        ensure!(
            header[..4] == magic,
            "{name}: byte 0: found {}, expected {} for an IDX file of {kind}",
            hexadecimal(&header[..4]),
            hexadecimal(&magic)
        );
    }
    ensure!(
        got == header.len(),
        "{name}: byte {got}: the file ends inside its header, expected {} bytes of header for {kind}: it is truncated",
        header.len()
    );

    let mut dimensions = [0; RANK];
    for (dimension, bytes) in dimensions.iter_mut().zip(header[4..].chunks_exact(4)) {
        *dimension = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    if let Some(axis) = dimensions.iter().position(|&dimension| dimension == 0) {
        bail!(
            "{name}: byte {}: found 0, expected a positive number in the header: {kind}",
            4 + 4 * axis
        );
    }
    let size = dimensions.iter().try_fold(1u64, |product, &dimension| {
        product.checked_mul(u64::from(dimension))
    });
    let promised = size.and_then(|size| size.checked_add(header.len() as u64));
    let (size, promised) = match (size, promised) {
        (Some(size), Some(promised)) if promised <= size_limit => (size, promised),
        _ => bail!(
            "{name}: byte 4: the header promises {} bytes ({}), but the file has only {file_size}{}: it is truncated or damaged",
            promised.map_or("more than 18 quintillion".to_owned(), |bytes| bytes
                .to_string()),
            dimensions.map(|dimension| dimension.to_string()).join("×"),
            if is_gzip { " compressed" } else { "" },
        ),
    };

    let mut payload = vec![
        0;
        usize::try_from(size)
            .with_context(|| format!("{name}: too large for this machine"))?
    ];
    let got = read_up_to(&mut content, &mut payload).with_context(|| {
        format!("{name}: damaged after the header, expected {promised} bytes in all")
    })?;
    ensure!(
        got == payload.len(),
        "{name}: byte {}: the file ends here, expected {promised} bytes in all: it is truncated",
        header.len() + got
    );
    // Read to the very end, so that gzip's own checksum is verified too.
    let more = content
        .read(&mut [0])
        .with_context(|| format!("{name}: byte {promised}: the gzip stream is damaged"))?;
    ensure!(
        more == 0,
        "{name}: byte {promised}: expected the end of the file as its header says, found more bytes"
    );
    Ok((dimensions, payload))
}

/// Fills `buffer` as far as the content goes and says how far that was; a cut gzip stream counts as the end.
fn read_up_to(content: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match content.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn write(path: &Path, dimensions: &[u32], payload: &[u8]) -> Result<()> {
    File::create(path)
        .and_then(|mut file| {
            file.write_all(&header(dimensions))?;
            file.write_all(payload)
        })
        .with_context(|| format!("{}: cannot be written", path.display()))
}

fn file_sha256(dimensions: &[u32], payload: &[u8]) -> String {
    let digest = Sha256::new()
        .chain_update(header(dimensions))
        .chain_update(payload)
        .finalize();
    super::fingerprint::hexadecimal(&digest)
}

/// Two zeros, the type (8: unsigned byte), the number of dimensions.
fn magic(rank: usize) -> [u8; 4] {
    [0, 0, 8, rank as u8]
}

fn header(dimensions: &[u32]) -> Vec<u8> {
    let mut header = magic(dimensions.len()).to_vec();
    header.extend(
        dimensions
            .iter()
            .flat_map(|dimension| dimension.to_be_bytes()),
    );
    header
}

fn hexadecimal(bytes: &[u8]) -> String {
    format!("0x{}", super::fingerprint::hexadecimal(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    fn images() -> Images {
        Images {
            height: 2,
            width: 3,
            pixels: (0..24).collect(),
        }
    }

    fn bytes_of(images: &Images) -> Vec<u8> {
        [
            header(&[images.len() as u32, images.height, images.width]),
            images.pixels.clone(),
        ]
        .concat()
    }

    fn read_bytes(bytes: &[u8]) -> Result<Images> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x-images-idx3-ubyte");
        std::fs::write(&path, bytes).unwrap();
        read_images(&path)
    }

    fn message(bytes: &[u8]) -> String {
        format!("{:#}", read_bytes(bytes).unwrap_err())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn round_trip_plain_and_gzip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images");
        write_images(&path, &images()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap()[..8], [0, 0, 8, 3, 0, 0, 0, 4]);
        assert_eq!(read_images(&path).unwrap(), images());
        assert_eq!(read_bytes(&gzip(&bytes_of(&images()))).unwrap(), images());
        write_labels(&path, &[3, 1, 2]).unwrap();
        assert_eq!(read_labels(&path).unwrap(), [3, 1, 2]);
    }

    #[test]
    fn truncation_names_the_byte() {
        let whole = bytes_of(&images());
        assert!(
            message(&whole[..39])
                .contains("the header promises 40 bytes (4×2×3), but the file has only 39")
        );
        assert!(message(&whole[..7]).contains("byte 7: the file ends inside its header"));
        assert!(message(&[]).contains("byte 0: the file ends inside its header"));
        assert!(
            message(&gzip(&whole[..30]))
                .contains("byte 30: the file ends here, expected 40 bytes in all")
        );
        let compressed = gzip(&whole);
        assert!(message(&compressed[..compressed.len() - 12]).contains("truncated"));
    }

    #[test]
    fn a_damaged_gzip_stream_is_an_error() {
        let whole = gzip(&bytes_of(&images()));
        assert!(message(&whole[..whole.len() - 4]).contains("byte 40: the gzip stream is damaged"));
        let noise: Vec<u8> = (0..4_000u32)
            .map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let mut compressed = gzip(&bytes_of(&Images {
            height: 20,
            width: 20,
            pixels: noise,
        }));
        let checksum = compressed.len() - 8;
        compressed[checksum] ^= 1;
        assert!(read_bytes(&compressed).is_err());
    }

    #[test]
    fn wrong_kinds_are_told_apart() {
        let mut bytes = bytes_of(&images());
        bytes[2] = 13;
        assert!(message(&bytes).contains("byte 0: found 0x00000d03, expected 0x00000803"));
        assert!(message(b"label,pixel1").contains("found 0x6c616265"));
        assert!(message(&[header(&[4]), vec![0; 4]].concat()).contains("expected 0x00000803"));
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let longer = [bytes_of(&images()), vec![0]].concat();
        assert!(message(&longer).contains("byte 40: expected the end of the file"));
        assert!(message(&gzip(&longer)).contains("byte 40: expected the end of the file"));
    }

    #[test]
    fn a_lying_header_allocates_nothing() {
        let huge = [header(&[u32::MAX, u32::MAX, u32::MAX]), vec![0; 9]].concat();
        assert!(message(&huge).contains("the header promises more than"));
        let large = [header(&[1_000_000, 1_000, 1_000]), vec![0; 9]].concat();
        assert!(message(&large).contains("1000000000016 bytes"));
        assert!(message(&gzip(&large)).contains("compressed"));
        assert!(message(&header(&[0, 28, 28])).contains("byte 4: found 0"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64), rank in 0u8..5) {
            let _ = read_bytes(&bytes);
            let _ = read_bytes(&[vec![0, 0, 8, rank], bytes].concat());
        }
    }
}
