//! SHA-256 of bytes and of streams, in the hexadecimal form people compare.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

/// SHA-256 of `bytes`, in lower-case hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// SHA-256 of everything `reader` gives, in lower-case hexadecimal, and how many bytes that was.
pub(super) fn sha256_of(reader: &mut impl Read) -> io::Result<(String, u64)> {
    copy_with_sha256(reader, &mut io::sink())
}

/// Copies `reader` to `writer`; returns the SHA-256 of the bytes and how many there were.
pub(super) fn copy_with_sha256(
    reader: &mut impl Read,
    writer: &mut impl Write,
) -> io::Result<(String, u64)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut total = 0;
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => return Ok((hexadecimal(&hasher.finalize()), total)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..count]);
        writer.write_all(&buffer[..count])?;
        total += count as u64;
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_agree_with_the_published_vectors() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc"), abc);
        let mut copy = Vec::new();
        assert_eq!(
            copy_with_sha256(&mut &b"abc"[..], &mut copy).unwrap(),
            (abc.to_owned(), 3)
        );
        assert_eq!(copy, b"abc");
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(
            sha256_of(&mut io::empty()).unwrap(),
            (nothing.to_owned(), 0)
        );
    }
}
