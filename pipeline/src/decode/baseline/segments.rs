//! Entropy-coded data as it lies in the file: with a zero behind each byte of ones, cut by restart markers.

/// The data of a scan without what is stuffed into it.
pub(super) struct Segments {
    bytes: Vec<u8>,
    /// Where each part ends; restart markers are between them.
    ends: Vec<usize>,
}

impl Segments {
    /// Takes the data of a scan up to the marker that ends the image; `None` where another one comes, or the restart markers are not in
    /// their order.
    pub(super) fn new(scan: &[u8]) -> Option<Self> {
        let mut bytes = Vec::with_capacity(scan.len());
        let mut ends = Vec::new();
        let mut rest = scan;
        loop {
            let ones = memchr::memchr(0xFF, rest)?;
            match *rest.get(ones + 1)? {
                0 => bytes.extend_from_slice(&rest[..=ones]),
                marker => {
                    bytes.extend_from_slice(&rest[..ones]);
                    let expected = 0xD0 + (ends.len() % 8) as u8;
                    ends.push(bytes.len());
                    match marker {
                        0xD9 => return Some(Self { bytes, ends }),
                        _ if marker == expected => {}
                        _ => return None,
                    }
                }
            }
            rest = &rest[ones + 2..];
        }
    }

    /// The parts in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, &end)| &self.bytes[start..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(scan: &[u8]) -> Option<Vec<Vec<u8>>> {
        Some(Segments::new(scan)?.iter().map(<[u8]>::to_vec).collect())
    }

    #[test]
    fn stuffed_zeros_go_and_markers_cut() {
        assert_eq!(parts(b"\xFF\xD9"), Some(vec![vec![]]));
        assert_eq!(
            parts(b"a\xFF\0\xFF\0b\xFF\xD0\xFF\xD1c\0\xFF\xD9rest"),
            Some(vec![b"a\xFF\xFFb".to_vec(), vec![], b"c\0".to_vec()])
        );
    }

    #[test]
    fn what_is_out_of_order_is_refused() {
        for scan in [
            &b""[..],
            b"abc",
            b"a\xFF",
            b"a\xFF\xD1b\xFF\xD9",
            b"a\xFF\xC4\0\x02\xFF\xD9",
            b"a\xFF\xFF\xD9",
        ] {
            assert_eq!(parts(scan), None, "{scan:?}");
        }
    }
}
