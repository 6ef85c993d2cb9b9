//! Numbers of bytes as arguments.

/// A number of bytes, with K, M or G behind it for powers of 1024, also written Ki or KiB and so on.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic());
    let (number, unit) = text.split_at(unit_at.unwrap_or(text.len()));
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" => Some(1),
        "k" | "ki" | "kib" => Some(1 << 10),
        "m" | "mi" | "mib" => Some(1 << 20),
        "g" | "gi" | "gib" => Some(1 << 30),
        _ => None,
    };
    let bytes = number
        .trim()
        .parse::<u64>()
        .ok()
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor));
    match bytes {
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
        assert_eq!(size("512Mi"), Ok(512 << 20));
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("2 G"), Ok(2 << 30));
        for wrong in [
            "",
            "M",
            "1.5G",
            "5MB",
            "5iB",
            "-1",
            "0",
            "99999999999G",
            "x",
        ] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
