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

    /// Why a run that was published is no success: more files are not ok than tolerated, or a folder could not be read, which may hide any
    /// number of files. `None` where it is one.
    pub(super) fn shortfall(
        self,
        failures: u64,
        files: u64,
        unreadable_folders: u64,
    ) -> Option<String> {
        let mut reasons = Vec::new();
        if !self.allows(failures, files) {
            let limit = match self {
                Self::Files(0) => "--max-failures would tolerate some".to_owned(),
                _ => format!("more than the {} of --max-failures", self.described()),
            };
            reasons.push(format!(
                "{failures} of {files} files are not ok, {limit}; their rows say why, in the columns status and error"
            ));
        }
        match unreadable_folders {
            0 => {}
            1 => reasons.push("1 folder could not be read".to_owned()),
            folders => reasons.push(format!("{folders} folders could not be read")),
        }
        (!reasons.is_empty()).then(|| format!("published, but {}", reasons.join("; ")))
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
    fn a_shortfall_says_what_is_wrong() {
        let shortfall = |text: &str, failures, folders| {
            let tolerance: Tolerance = text.parse().unwrap();
            tolerance.shortfall(failures, 200, folders)
        };
        assert_eq!(shortfall("0", 0, 0), None);
        assert_eq!(shortfall("1%", 2, 0), None);
        assert_eq!(
            shortfall("0", 2, 0).unwrap(),
            "published, but 2 of 200 files are not ok, --max-failures would tolerate some; their rows say why, in the columns status and error"
        );
        assert_eq!(
            shortfall("1%", 3, 2).unwrap(),
            "published, but 3 of 200 files are not ok, more than the 1\u{a0}% of --max-failures; their rows say why, in the columns \
             status and error; 2 folders could not be read"
        );
        assert_eq!(
            shortfall("100%", 200, 1).unwrap(),
            "published, but 1 folder could not be read"
        );
    }

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
