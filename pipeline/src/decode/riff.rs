//! Whether the EXIF block of a WebP, a chunk of a RIFF file, lies within it.
//!
//! The decoder takes memory for it by the length that it claims, up to 4 GiB, before it reads a byte of it.

/// The four letters and the length of the file, and the four letters of its kind.
const HEADER: usize = 12;

/// Whether the first EXIF chunk, which is the one that counts, claims more bytes than are left.
pub(super) fn exif_overreaches(riff: &[u8]) -> bool {
    let mut rest = riff.get(HEADER..).unwrap_or_default();
    while let Some((&[a, b, c, d, length @ ..], behind)) = rest.split_first_chunk::<8>() {
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if [a, b, c, d] == *b"EXIF" {
            return length > behind.len();
        }
        // Chunks begin at even places.
        let padded = length.saturating_add(length % 2);
        rest = behind.get(padded..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(chunks: &[(&[u8; 4], &[u8], u32)]) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WEBP".to_vec();
        for &(kind, content, claimed) in chunks {
            file.extend(kind);
            file.extend(claimed.to_le_bytes());
            file.extend(content);
        }
        file
    }

    #[test]
    fn only_the_first_exif_chunk_counts() {
        assert!(!exif_overreaches(b"RIFF"));
        assert!(!exif_overreaches(&file(&[])));
        assert!(!exif_overreaches(&file(&[(b"VP8 ", b"", u32::MAX)])));
        let picture = (b"VP8X", &b"three\0"[..], 5);
        assert!(!exif_overreaches(&file(&[picture, (b"EXIF", b"four", 4)])));
        assert!(exif_overreaches(&file(&[picture, (b"EXIF", b"four", 5)])));
        assert!(exif_overreaches(&file(&[
            picture,
            (b"EXIF", b"", u32::MAX)
        ])));
        let twice = [(b"EXIF", &b"four"[..], 4), (b"EXIF", b"", u32::MAX)];
        assert!(!exif_overreaches(&file(&twice)));
    }
}
