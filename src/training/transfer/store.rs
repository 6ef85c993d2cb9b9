//! Features of images on disk: computed once, read at random places at every step.
//!
//! A file of little-endian floats, `[example, view, …]`, without a header: its name is the digest of all it depends on. It is read
//! through the system's page cache, so that what fits into memory is read at its speed, and what does not needs none.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use same_file::Handle;
use tempfile::{NamedTempFile, TempPath};

use crate::read_at::read_exact_at;

/// Most bytes that the features of all runs together take on disk.
const MOST_BYTES: u64 = 16 << 30;
/// What a run that is killed has to compute again, at most.
const NOTE_EVERY: Duration = Duration::from_secs(5);
/// Bytes of the number of variants behind an unfinished file.
const NOTE_BYTES: u64 = 8;

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
        self.place(self.examples * self.views)
    }

    /// Byte at which a variant begins, counted over all images.
    fn place(&self, variant: usize) -> u64 {
        variant as u64 * self.width() as u64 * 4
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
        let place = self.layout.place(example * self.layout.views + view);
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
///
/// What a run that was stopped or killed has written is in a file of its own, from which the next one goes on. Behind the room for all
/// features that file holds how many of its variants are known to be on the disk.
pub(super) struct Writer {
    file: BufWriter<File>,
    /// The file, which goes with this where another run is writing the same features.
    draft: Draft,
    path: PathBuf,
    layout: Layout,
    /// Variants that are there.
    written: usize,
    /// When it was last noted how many there are.
    noted: Instant,
}

enum Draft {
    Kept(PathBuf),
    Private(TempPath),
}

impl Writer {
    /// Goes on with the file at `path`, or begins it, in a folder that need not exist, and throws away the features that were not
    /// used for the longest time where there are too many.
    ///
    /// # Errors
    /// When the folder cannot be made or written.
    pub(super) fn new(path: &Path, layout: &Layout) -> Result<Self> {
        let folder = path.parent().context("features need a folder")?;
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let draft = path.with_extension("part");
        make_room(folder, &draft, layout.bytes())?;
        let context = || format!("cannot write into {}", folder.display());
        let (file, draft, written) = match unfinished(&draft).with_context(context)? {
            Some(file) => {
                let written = noted(&file, layout).with_context(context)?;
                if written == 0 {
                    file.set_len(0).with_context(context)?;
                }
                (file, Draft::Kept(draft), written)
            }
            // Neither waits for the other, and both come to the same bytes.
            None => {
                let (file, path) = NamedTempFile::new_in(folder)
                    .with_context(context)?
                    .into_parts();
                (file, Draft::Private(path), 0)
            }
        };
        let mut writer = Self {
            file: BufWriter::new(file),
            draft,
            path: path.to_owned(),
            layout: layout.clone(),
            written,
            noted: Instant::now(),
        };
        writer
            .file
            .seek(SeekFrom::Start(layout.place(written)))
            .with_context(context)?;
        Ok(writer)
    }

    /// Number of variants that are there, of the first images.
    pub(super) fn written(&self) -> usize {
        self.written
    }

    /// Adds the features of some variants; those of an image come one behind the other.
    ///
    /// # Errors
    /// When the disk is full, or something else is wrong with it.
    pub(super) fn write(&mut self, features: &[f32]) -> Result<()> {
        self.add(features)
            .with_context(|| format!("cannot write features to {}", self.path.display()))
    }

    fn add(&mut self, features: &[f32]) -> io::Result<()> {
        for value in features {
            self.file.write_all(&value.to_le_bytes())?;
        }
        self.written += features.len() / self.layout.width().max(1);
        if self.noted.elapsed() >= NOTE_EVERY && matches!(self.draft, Draft::Kept(_)) {
            self.note()?;
            self.noted = Instant::now();
        }
        Ok(())
    }

    /// Notes how many variants there are, once they are on the disk.
    fn note(&mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_data()?;
        self.file.seek(SeekFrom::Start(self.layout.bytes()))?;
        self.file.write_all(&(self.written as u64).to_le_bytes())?;
        let place = self.layout.place(self.written);
        self.file.seek(SeekFrom::Start(place)).map(drop)
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// When features are missing, or the disk is full.
    pub(super) fn finish(mut self) -> Result<Store> {
        let Layout {
            examples, views, ..
        } = self.layout;
        ensure!(
            self.written == examples * views,
            "{} variants of images have features, expected {examples} × {views}",
            self.written
        );
        let context = || format!("cannot write features to {}", self.path.display());
        self.file.flush().with_context(context)?;
        let file = self.file.get_ref();
        file.set_len(self.layout.bytes()).with_context(context)?;
        // Under its name it is taken for whole.
        file.sync_all().with_context(context)?;
        match self.draft {
            Draft::Kept(draft) => fs::rename(draft, &self.path).with_context(context)?,
            Draft::Private(draft) => draft
                .persist(&self.path)
                .map_err(|error| error.error)
                .with_context(context)?,
        }
        Store::open(&self.path, &self.layout)?
            .with_context(|| format!("{} vanished as soon as it was written", self.path.display()))
    }
}

/// Opens the file for unfinished features, and makes it where there is none; none where another run writes it.
fn unfinished(draft: &Path) -> Result<Option<File>> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    let file = options.open(draft)?;
    if file.try_lock().is_err() {
        return Ok(None);
    }
    // A run that finished in between has given the file its name.
    let is_still_there =
        Handle::from_path(draft).ok() == Some(Handle::from_file(file.try_clone()?)?);
    Ok(is_still_there.then_some(file))
}

/// The variants that an unfinished file is known to have; none where it is new or of another length.
fn noted(file: &File, layout: &Layout) -> io::Result<usize> {
    let mut bytes = [0; NOTE_BYTES as usize];
    if file.metadata()?.len() == layout.bytes() + NOTE_BYTES {
        read_exact_at(file, &mut bytes, layout.bytes())?;
    }
    let all = layout.examples * layout.views;
    let noted = usize::try_from(u64::from_le_bytes(bytes)).unwrap_or(0);
    Ok(if noted <= all { noted } else { 0 })
}

/// Removes the features that were not used for the longest time, until `wanted` bytes more are not too many. `draft` is where they will be,
/// and stays.
fn make_room(folder: &Path, draft: &Path, wanted: u64) -> Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)
        .with_context(|| format!("cannot read the folder {}", folder.display()))?
    {
        let entry = entry?;
        // A file that another run removes at this moment needs no room.
        if let Ok(metadata) = entry.metadata()
            && metadata.is_file()
            && entry.path() != draft
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
        write_to(&mut writer, values);
        writer.finish()
    }

    /// Goes on to so many values.
    fn write_to(writer: &mut Writer, values: usize) {
        for first in (writer.written() * 3..values).step_by(3) {
            let first = first as f32;
            writer.write(&[first, first + 1.0, first + 2.0]).unwrap();
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_run_goes_on_from_what_the_one_before_it_noted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        let mut stopped = Writer::new(&path, &layout()).unwrap();
        write_to(&mut stopped, 6);
        stopped.note().unwrap();
        write_to(&mut stopped, 9);
        drop(stopped);
        let mut next = Writer::new(&path, &layout()).unwrap();
        assert_eq!(next.written(), 2);
        write_to(&mut next, 12);
        drop(next.finish().unwrap());
        let whole: Vec<u8> = (0..12)
            .flat_map(|value: u8| f32::from(value).to_le_bytes())
            .collect();
        assert_eq!(fs::read(&path).unwrap(), whole);
        assert_eq!(names(folder.path()), ["one"]);
    }

    #[test]
    fn an_unfinished_file_that_makes_no_sense_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        let nonsense = [vec![1; 48], 5_u64.to_le_bytes().to_vec()].concat();
        for content in [vec![], vec![7; 20], nonsense, vec![9; 100]] {
            fs::write(folder.path().join("one.part"), content).unwrap();
            let mut writer = Writer::new(&path, &layout()).unwrap();
            assert_eq!(writer.written(), 0);
            write_to(&mut writer, 12);
            drop(writer.finish().unwrap());
            assert_eq!(fs::metadata(&path).unwrap().len(), 48);
        }
    }

    #[test]
    fn two_runs_that_compute_the_same_do_not_disturb_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        let mut first = Writer::new(&path, &layout()).unwrap();
        write_to(&mut first, 6);
        let second = write(&path, 12).unwrap();
        write_to(&mut first, 12);
        let first = first.finish().unwrap();
        for store in [first, second] {
            let mut out = [0.0; 3];
            store.read(1, 1, &mut out).unwrap();
            assert_eq!(out, [9.0, 10.0, 11.0]);
        }
        assert_eq!(names(folder.path()), ["one"]);
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
