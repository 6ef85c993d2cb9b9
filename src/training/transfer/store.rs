//! Features of images on disk: computed once, read at random places at every step.
//!
//! A file of little-endian floats, `[example, view, …]`, without a header: its name is the digest of all it depends on. It is read
//! through the system's page cache, so that what fits into memory is read at its speed, and what does not needs none.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;

use crate::read_at::read_exact_at;

/// Most bytes that the features of all runs together take on disk.
const MOST_BYTES: u64 = 16 << 30;

/// What the features of an image are, and how many there are of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Number of images.
    pub(super) examples: usize,
    /// Variants of each.
    pub(super) views: usize,
    /// Shape of the features of one.
    pub(super) shape: Vec<usize>,
}

impl Layout {
    /// Floats of one variant of one image.
    pub(super) fn width(&self) -> usize {
        self.shape.iter().product()
    }

    fn bytes(&self) -> u64 {
        self.examples as u64 * self.views as u64 * self.width() as u64 * 4
    }
}

/// Features that are there.
#[derive(Debug)]
pub(super) struct Store {
    file: File,
    path: PathBuf,
    layout: Layout,
}

impl Store {
    /// The features at `path`, if they are there and whole.
    ///
    /// # Errors
    /// When the file is there and cannot be opened.
    pub(super) fn open(path: &Path, layout: &Layout) -> Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot open {}", path.display()));
            }
        };
        if file.metadata()?.len() != layout.bytes() {
            return Ok(None);
        }
        // What was used last is thrown away last; a file of another user stays as old as it is.
        file.set_modified(SystemTime::now()).ok();
        Ok(Some(Self {
            file,
            path: path.to_owned(),
            layout: layout.clone(),
        }))
    }

    /// What is in it.
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Reads the features of one variant of an image.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn read(&self, example: usize, view: usize, out: &mut [f32]) -> Result<()> {
        let width = self.layout.width();
        let place = ((example * self.layout.views + view) * width * 4) as u64;
        let mut bytes = vec![0; width * 4];
        read_exact_at(&self.file, &mut bytes, place)
            .with_context(|| format!("cannot read features from {}", self.path.display()))?;
        for (value, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
            *value = f32::from_le_bytes(*bytes);
        }
        Ok(())
    }
}

/// Features that are being written; nobody sees them before [`Writer::finish`].
pub(super) struct Writer {
    file: BufWriter<NamedTempFile>,
    path: PathBuf,
    layout: Layout,
    written: u64,
}

impl Writer {
    /// Begins the file at `path`, in a folder that need not exist, and throws away the features that were not used for the longest
    /// time where there are too many.
    ///
    /// # Errors
    /// When the folder cannot be made or written.
    pub(super) fn new(path: &Path, layout: &Layout) -> Result<Self> {
        let folder = path.parent().context("features need a folder")?;
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        make_room(folder, layout.bytes())?;
        let file = NamedTempFile::new_in(folder)
            .with_context(|| format!("cannot write into {}", folder.display()))?;
        Ok(Self {
            file: BufWriter::new(file),
            path: path.to_owned(),
            layout: layout.clone(),
            written: 0,
        })
    }

    /// Adds the features of one variant; those of an image come one behind the other.
    ///
    /// # Errors
    /// When the disk is full, or something else is wrong with it.
    pub(super) fn write(&mut self, features: &[f32]) -> Result<()> {
        for value in features {
            self.file
                .write_all(&value.to_le_bytes())
                .with_context(|| format!("cannot write features to {}", self.path.display()))?;
        }
        self.written += features.len() as u64 * 4;
        Ok(())
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// When features are missing, or the disk is full.
    pub(super) fn finish(self) -> Result<Store> {
        let Self {
            file,
            path,
            layout,
            written,
        } = self;
        ensure!(
            written == layout.bytes(),
            "{written} bytes of features were computed, expected {}",
            layout.bytes()
        );
        let context = || format!("cannot write features to {}", path.display());
        let file = file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .with_context(context)?;
        let file = file.persist(&path).map_err(|error| error.error);
        file.with_context(context)?;
        Store::open(&path, &layout)?
            .with_context(|| format!("{} vanished as soon as it was written", path.display()))
    }
}

/// Removes the features that were not used for the longest time, until `wanted` bytes more are not too many.
fn make_room(folder: &Path, wanted: u64) -> Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)
        .with_context(|| format!("cannot read the folder {}", folder.display()))?
    {
        let entry = entry?;
        // A file that another run removes at this moment needs no room.
        if let Ok(metadata) = entry.metadata()
            && metadata.is_file()
        {
            files.push((metadata.modified()?, entry.path(), metadata.len()));
        }
    }
    files.sort();
    let mut total: u64 = wanted + files.iter().map(|(_, _, bytes)| bytes).sum::<u64>();
    for (_, path, bytes) in files {
        if total <= MOST_BYTES {
            break;
        }
        // A run that still reads it keeps it open and is not disturbed.
        fs::remove_file(&path).ok();
        total -= bytes;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout {
            examples: 2,
            views: 2,
            shape: vec![1, 3],
        }
    }

    fn write(path: &Path, values: usize) -> Result<Store> {
        let mut writer = Writer::new(path, &layout())?;
        for first in (0..values).step_by(3) {
            writer.write(&[first as f32, first as f32 + 1.0, first as f32 + 2.0])?;
        }
        writer.finish()
    }

    #[test]
    fn what_was_written_is_read_back_at_any_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("features/one");
        assert!(Store::open(&path, &layout()).unwrap().is_none());
        drop(write(&path, 12).unwrap());
        let store = Store::open(&path, &layout()).unwrap().unwrap();
        let mut out = [0.0; 3];
        store.read(1, 0, &mut out).unwrap();
        assert_eq!(out, [6.0, 7.0, 8.0]);
        store.read(0, 1, &mut out).unwrap();
        assert_eq!(out, [3.0, 4.0, 5.0]);
    }

    #[test]
    fn features_that_are_not_whole_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        assert!(write(&path, 9).is_err());
        assert!(!path.exists());
        fs::write(&path, [0; 44]).unwrap();
        assert!(Store::open(&path, &layout()).unwrap().is_none());
    }
}
