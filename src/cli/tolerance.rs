//! How many of many files may be otherwise than wished: a number, or a share.

use std::str::FromStr;

/// How many files are tolerated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Tolerance {
    /// So many files.
    Files(u64),
    /// So many in a hundred.
    Percent(f64),
}

impl Tolerance {
    /// Whether `count` of `all` files are tolerated.
    pub(super) fn allows(self, count: u64, all: u64) -> bool {
        match self {
            Self::Files(most) => count <= most,
            Self::Percent(most) => count as f64 * 100.0 <= most * all as f64,
        }
    }

    /// In words: `10 files`, `0.5 %`.
    pub(super) fn described(self) -> String {
        match self {
            Self::Files(1) => "1 file".to_owned(),
            Self::Files(most) => format!("{most} files"),
            Self::Percent(most) => format!("{most}\u{a0}%"),
        }
    }
}

impl FromStr for Tolerance {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "expected a number of files, or a share such as 0.5%";
        match text.strip_suffix('%') {
            None => text.parse().map(Self::Files).map_err(|_| wrong),
            Some(number) => match number.trim().parse::<f64>() {
                Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Self::Percent(percent)),
                _ => Err(wrong),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_tolerated_by_number_or_share() {
        let allows = |text: &str| text.parse::<Tolerance>().unwrap().allows(1, 200);
        assert!(!allows("0") && allows("1"));
        assert!(!allows("0.4%") && allows("0.5%"));
        assert!(Tolerance::Percent(0.0).allows(0, 0));
        for wrong in ["", "%", "101%", "-1", "1.5", "NaN%"] {
            assert!(wrong.parse::<Tolerance>().is_err(), "{wrong}");
        }
    }
}
