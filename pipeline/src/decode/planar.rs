//! Whether a TIFF keeps its colours apart, each in planes of its own, as its first directory says.
//!
//! The decoder reads most of these, and panics over some that are whole; only this tells them from damaged ones.

const PLANAR_CONFIGURATION: u64 = 284;
const SEPARATE: u64 = 2;

/// Looks at the tag; a directory that is cut short has none.
pub(super) fn is_planar(tiff: &[u8]) -> bool {
    entry(tiff) == Some(SEPARATE)
}

/// The value of the tag: a 16-bit number in the first bytes of the entry's last field.
fn entry(tiff: &[u8]) -> Option<u64> {
    let is_big_endian = tiff.starts_with(b"MM");
    let number = |start: u64, length: u64| -> Option<u64> {
        let start = usize::try_from(start).ok()?;
        let bytes = tiff.get(start..start.checked_add(usize::try_from(length).ok()?)?)?;
        let join = |number, &byte: &u8| (number << 8) | u64::from(byte);
        Some(if is_big_endian {
            bytes.iter().fold(0, join)
        } else {
            bytes.iter().rev().fold(0, join)
        })
    };
    // BigTIFF has wider numbers: of the directory's place, the count of entries, and the parts of an entry.
    let is_big = number(2, 2)? == 43;
    let (directory, count_bytes, entry_bytes, value_at) = if is_big {
        (number(8, 8)?, 8, 20, 12)
    } else {
        (number(4, 4)?, 2, 12, 8)
    };
    let count = number(directory, count_bytes)?;
    let first = directory.checked_add(count_bytes)?;
    (0..count.min(1 << 16))
        .map_while(|index| first.checked_add(index * entry_bytes))
        .map_while(|entry| Some((number(entry, 2)?, entry)))
        .find(|&(tag, _)| tag == PLANAR_CONFIGURATION)
        .and_then(|(_, entry)| number(entry.checked_add(value_at)?, 2))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A whole, grey TIFF of 12 × 8 RGB pixels, its colours apart and in tiles of 16 × 16 pixels.
    pub(in crate::decode) fn tiled_planes() -> Vec<u8> {
        const TILE: u32 = 16 * 16;
        let blob = 8 + 2 + 11 * 12 + 4;
        let tiles = blob + 6 + 12 + 12;
        let entries: [(u16, u16, u32, u32); 11] = [
            (256, 3, 1, 12),
            (257, 3, 1, 8),
            (258, 3, 3, blob),
            (259, 3, 1, 1),
            (262, 3, 1, 2),
            (277, 3, 1, 3),
            (284, 3, 1, 2),
            (322, 3, 1, 16),
            (323, 3, 1, 16),
            (324, 4, 3, blob + 6),
            (325, 4, 3, blob + 18),
        ];
        let mut tiff = b"II*\0\x08\0\0\0\x0b\0".to_vec();
        for (tag, kind, count, value) in entries {
            tiff.extend(tag.to_le_bytes());
            tiff.extend(kind.to_le_bytes());
            tiff.extend(count.to_le_bytes());
            tiff.extend(value.to_le_bytes());
        }
        tiff.extend([0; 4]);
        tiff.extend([8, 0, 8, 0, 8, 0]);
        for plane in 0..3 {
            tiff.extend((tiles + plane * TILE).to_le_bytes());
        }
        for _ in 0..3 {
            tiff.extend(TILE.to_le_bytes());
        }
        assert_eq!(tiff.len(), tiles as usize);
        tiff.extend([128; 3 * TILE as usize]);
        tiff
    }

    #[test]
    fn the_tag_is_found_in_either_order_and_width_and_nowhere_in_what_is_cut() {
        let planar = tiled_planes();
        assert!(is_planar(&planar));
        for length in 0..planar.len() {
            // The seventh entry is the tag's.
            assert_eq!(is_planar(&planar[..length]), length >= 10 + 6 * 12 + 10);
        }
        let big_endian = b"MM\0*\0\0\0\x08\0\x01\x01\x1c\0\x03\0\0\0\x01\0\x02\0\0";
        assert!(is_planar(big_endian));
        let mut together = big_endian.to_vec();
        together[19] = 1;
        assert!(!is_planar(&together));
        let mut big = b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
        big.extend(b"\x1c\x01\x03\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0");
        assert!(is_planar(&big));
        let mut far = b"II+\0\x08\0\0\0".to_vec();
        far.extend([0xff; 8]);
        assert!(!is_planar(&far));
    }
}
