//! Frames: a length, a checksum, that many bytes. The first frame that is cut short or does not agree with its checksum is the
//! end of the file.

use std::io::{self, Read, Write};

/// Larger frames are not written, so a larger length is damage.
const MAX_BYTES: usize = 1 << 20;

/// Writes one frame: length and checksum as little-endian 32-bit numbers, then the bytes. The checksum covers the length too.
pub(super) fn write(output: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    if bytes.len() > MAX_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a record of the journal is too large",
        ));
    }
    let length = (bytes.len() as u32).to_le_bytes();
    output.write_all(&length)?;
    output.write_all(&checksum(length, bytes).to_le_bytes())?;
    output.write_all(bytes)
}

/// What comes next in a file of frames.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A whole frame, its bytes in the buffer.
    Frame,
    /// The file ends behind the last frame.
    End,
    /// The file ends within a frame, or is damaged from here on.
    Torn,
}

/// Reads the next frame's bytes into `buffer`.
pub(super) fn read(input: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<Next> {
    let mut head = Vec::with_capacity(8);
    input.take(8).read_to_end(&mut head)?;
    let [l0, l1, l2, l3, c0, c1, c2, c3] = head[..] else {
        return Ok(if head.is_empty() {
            Next::End
        } else {
            Next::Torn
        });
    };
    let length = [l0, l1, l2, l3];
    let bytes = u32::from_le_bytes(length) as usize;
    if bytes > MAX_BYTES {
        return Ok(Next::Torn);
    }
    buffer.clear();
    input.take(bytes as u64).read_to_end(buffer)?;
    let is_whole =
        buffer.len() == bytes && checksum(length, buffer) == u32::from_le_bytes([c0, c1, c2, c3]);
    Ok(if is_whole { Next::Frame } else { Next::Torn })
}

fn checksum(length: [u8; 4], bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(mut file: &[u8]) -> (Vec<Vec<u8>>, Next) {
        let (mut frames, mut buffer) = (Vec::new(), Vec::new());
        loop {
            match read(&mut file, &mut buffer).unwrap() {
                Next::Frame => frames.push(buffer.clone()),
                end => return (frames, end),
            }
        }
    }

    fn file() -> (Vec<u8>, Vec<Vec<u8>>) {
        let frames = vec![b"one".to_vec(), vec![], vec![0; 300], b"four".to_vec()];
        let mut file = Vec::new();
        for frame in &frames {
            write(&mut file, frame).unwrap();
        }
        (file, frames)
    }

    #[test]
    fn whole_frames_survive_a_cut_anywhere() {
        let (file, frames) = file();
        assert_eq!(read_all(&file), (frames.clone(), Next::End));
        for length in 0..file.len() {
            let (read, end) = read_all(&file[..length]);
            assert_eq!(read, frames[..read.len()], "cut at {length}");
            let whole: usize = read.iter().map(|frame| frame.len() + 8).sum();
            assert_eq!(end == Next::End, whole == length, "cut at {length}");
        }
    }

    #[test]
    fn a_flipped_bit_ends_the_file_before_it() {
        let (file, frames) = file();
        for bit in 0..file.len() * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let (read, end) = read_all(&flipped);
            assert_eq!(end, Next::Torn, "bit {bit}");
            assert_eq!(read, frames[..read.len()], "bit {bit}");
        }
        // A file system may leave zeros where data never arrived.
        let mut zeros = file.clone();
        zeros.extend([0; 100]);
        assert_eq!(read_all(&zeros), (frames, Next::Torn));
    }
}
