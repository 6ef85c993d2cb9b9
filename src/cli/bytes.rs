//! Numbers of bytes as arguments.

/// A number of bytes, with K, M or G behind it for powers of 1024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 1 << 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    match number
        .trim()
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
    {
        None | Some(0) => Err("expected a size such as 800000000, 512M or 2G".to_owned()),
        Some(bytes) => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("17"), Ok(17));
        assert_eq!(size("2k"), Ok(2048));
        assert_eq!(size("512M"), Ok(512 << 20));
        assert_eq!(size("2 G"), Ok(2 << 30));
        for wrong in ["", "M", "1.5G", "-1", "0", "99999999999G", "x"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
