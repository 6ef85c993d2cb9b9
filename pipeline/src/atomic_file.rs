//! Files that appear whole or not at all: written beside their final place, made durable, then renamed over it.
//!
//! Whatever the program leaves behind as a single file goes through here.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tempfile::{Builder, NamedTempFile};

/// What the names of unfinished files end with.
const SUFFIX: &str = ".tmp";

/// Writes the file at `destination` in one go: `content` fills it, and only when it is whole and durable does it take its place.
///
/// # Errors
/// When `content` fails or the file cannot be written; what was at `destination` is then untouched.
pub fn write(
    destination: &Path,
    content: impl FnOnce(&mut StagedFile) -> Result<()>,
) -> Result<()> {
    let mut staged = StagedFile::create(destination)?;
    content(&mut staged).with_context(|| format!("{} cannot be written", destination.display()))?;
    staged.make_durable()?.publish()
}

/// A file that is being written under another name; dropping it leaves nothing behind.
pub struct StagedFile {
    temporary: BufWriter<NamedTempFile>,
    destination: PathBuf,
}

/// A file that is whole and durable under another name.
pub struct DurableFile {
    temporary: NamedTempFile,
    destination: PathBuf,
}

impl StagedFile {
    /// Creates an empty file in the folder of `destination`, which has to exist; nothing at `destination` is touched.
    pub fn create(destination: &Path) -> Result<Self> {
        let name = destination
            .file_name()
            .with_context(|| format!("{} is not the name of a file", destination.display()))?;
        ensure!(
            !destination.is_dir(),
            "{} is a folder, not a file to write",
            destination.display()
        );
        let folder = folder_of(destination);
        let prefix = prefix(name);
        let mut builder = Builder::new();
        builder.prefix(&prefix).suffix(SUFFIX);
        // Private by default; a result gets the permissions that any other new file of the user would get.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let temporary = builder
            .tempfile_in(folder)
            .with_context(|| format!("the folder {} cannot be written", folder.display()))?;
        Ok(Self {
            temporary: BufWriter::new(temporary),
            destination: destination.to_owned(),
        })
    }

    /// Writes out what is buffered and waits until it is on the disk. A failure is final: the data may be lost, and asking
    /// again could wrongly succeed.
    pub fn make_durable(self) -> Result<DurableFile> {
        let Self {
            temporary,
            destination,
        } = self;
        let failed = || format!("{} could not be written", destination.display());
        let temporary = temporary
            .into_inner()
            .map_err(|error| error.into_error())
            .with_context(failed)?;
        temporary.as_file().sync_all().with_context(failed)?;
        Ok(DurableFile {
            temporary,
            destination,
        })
    }
}

impl Write for StagedFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.temporary.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.temporary.flush()
    }
}

impl DurableFile {
    /// Puts the file in its place, replacing what is there in one step.
    pub fn publish(self) -> Result<()> {
        let Self {
            temporary,
            destination,
        } = self;
        let failed = || format!("{} could not be put in place", destination.display());
        temporary
            .persist(&destination)
            .map_err(|error| error.error)
            .with_context(failed)?;
        // The rename itself has to reach the disk too; only Unix lets a folder be opened for that.
        if cfg!(unix) {
            File::open(folder_of(&destination))
                .and_then(|folder| folder.sync_all())
                .with_context(failed)?;
        }
        Ok(())
    }

    /// Size in bytes.
    pub fn bytes(&self) -> Result<u64> {
        Ok(fs::metadata(self.temporary.path())?.len())
    }
}

/// Removes what runs that were killed left of unfinished files for `destination`. Nobody may be writing it meanwhile.
///
/// # Errors
/// When the folder cannot be listed or a file in it cannot be removed.
pub fn remove_leftovers(destination: &Path) -> Result<()> {
    let Some(name) = destination.file_name() else {
        return Ok(());
    };
    let prefix = prefix(name);
    let folder = folder_of(destination);
    let unreadable = || format!("{} cannot be listed", folder.display());
    for entry in fs::read_dir(folder).with_context(unreadable)? {
        let entry = entry.with_context(unreadable)?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.starts_with(prefix.as_encoded_bytes()) && name.ends_with(SUFFIX.as_bytes()) {
            fs::remove_file(entry.path())
                .with_context(|| format!("{} cannot be removed", entry.path().display()))?;
        }
    }
    Ok(())
}

/// What the names of unfinished files begin with.
fn prefix(name: &OsStr) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    prefix
}

/// The folder a file lies in; the current one where its path has no folder.
pub(crate) fn folder_of(file: &Path) -> &Path {
    file.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_file_stays_until_the_new_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let destination = folder.path().join("labels.csv");
        fs::write(&destination, "old").unwrap();

        let mut staged = StagedFile::create(&destination).unwrap();
        staged.write_all(b"new").unwrap();
        let durable = staged.make_durable().unwrap();
        assert_eq!(durable.bytes().unwrap(), 3);
        assert_eq!(fs::read(&destination).unwrap(), b"old");
        durable.publish().unwrap();
        assert_eq!(fs::read(&destination).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn content_that_fails_half_way_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let destination = folder.path().join("history.csv");
        write(&destination, |file| Ok(file.write_all(b"old")?)).unwrap();
        let error = write(&destination, |file| {
            file.write_all(b"half")?;
            anyhow::bail!("no more figures")
        });
        let message = format!("{:#}", error.unwrap_err());
        assert!(
            message.contains("history.csv cannot be written: no more figures"),
            "{message}"
        );
        assert_eq!(fs::read(&destination).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn giving_up_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut staged = StagedFile::create(&folder.path().join("labels.csv")).unwrap();
        staged.write_all(&[b'x'; 100_000]).unwrap();
        drop(staged);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_run_left_can_be_removed() {
        let folder = tempfile::tempdir().unwrap();
        let destination = folder.path().join("labels.csv");
        std::mem::forget(StagedFile::create(&destination).unwrap());
        let other = StagedFile::create(&folder.path().join("labels")).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        remove_leftovers(&destination).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        drop(other);
    }

    #[test]
    fn places_that_cannot_be_written_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = |path: &Path| format!("{:#}", StagedFile::create(path).err().unwrap());
        assert!(error(&folder.path().join("none/labels.csv")).contains("none cannot be written"));
        assert!(error(folder.path()).contains("is a folder"));
    }

    #[cfg(unix)]
    #[test]
    fn the_result_has_the_permissions_of_an_ordinary_file() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        fs::write(folder.path().join("ordinary"), "").unwrap();
        StagedFile::create(&folder.path().join("staged"))
            .unwrap()
            .make_durable()
            .unwrap()
            .publish()
            .unwrap();
        assert_eq!(
            mode(&folder.path().join("staged")),
            mode(&folder.path().join("ordinary"))
        );
    }
}
