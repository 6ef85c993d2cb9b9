//! Reading a file whole, without trusting that it is one.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::budget::{Held, MemoryBudget};
use super::{Fault, Limits, Status};

/// Size and time of change of a file: where both are as they were, the content is taken to be the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Size in bytes.
    pub bytes: u64,
    /// When the content was last changed, in nanoseconds since 1970.
    pub modified: i64,
}

impl Stamp {
    /// The stamp of a file.
    pub fn of(metadata: &Metadata) -> Self {
        let nanoseconds = |time: std::time::SystemTime| match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => {
                i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos)
            }
        };
        Self {
            bytes: metadata.len(),
            modified: metadata.modified().map_or(0, nanoseconds),
        }
    }
}

/// The content of a file, with the memory it takes.
pub(crate) struct Content<'a> {
    pub(crate) bytes: Vec<u8>,
    /// Of the file as it was read.
    pub(crate) stamp: Stamp,
    _held: Held<'a>,
}

/// Why a file was not read, or an image not decoded.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// For a reason of its own.
    Fault(Fault),
    /// Others hold the memory that it needs.
    NoRoom,
    /// The process has no file descriptors left; every other file would fail too.
    OutOfFiles(io::Error),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Reads the file at `path` into memory taken from `memory`. Links are followed; FIFOs, devices and sockets are not opened.
pub(crate) fn read<'a>(
    path: &Path,
    limits: &Limits,
    memory: &'a MemoryBudget,
) -> Result<Content<'a>, Refusal> {
    let opened = Opened::new(path, limits)?;
    let held = take(memory, opened.expected())?;
    Ok(opened.read(held)?)
}

/// The same ahead of time: none where there is no room at the moment.
pub(crate) fn read_ahead<'a>(
    path: &Path,
    limits: &Limits,
    memory: &'a MemoryBudget,
) -> Option<Result<Content<'a>, Refusal>> {
    let opened = match Opened::new(path, limits) {
        Ok(opened) => opened,
        Err(refusal) => return Some(Err(refusal)),
    };
    let held = memory.take(opened.expected())?;
    Some(opened.read(held).map_err(Refusal::from))
}

/// A regular file of a size that is read.
struct Opened {
    file: File,
    metadata: Metadata,
}

impl Opened {
    fn new(path: &Path, limits: &Limits) -> Result<Self, Refusal> {
        let metadata = fs::metadata(path).map_err(open_failure)?;
        check_is_file(&metadata)?;
        check_file_bytes(metadata.len(), limits)?;
        let file = open(path).map_err(open_failure)?;
        let metadata = file.metadata().map_err(read_fault)?;
        check_is_file(&metadata)?;
        check_file_bytes(metadata.len(), limits)?;
        Ok(Self { file, metadata })
    }

    /// Bytes to read: one more than the file has tells one that has grown since.
    fn expected(&self) -> u64 {
        self.metadata.len().saturating_add(1)
    }

    fn read(self, held: Held<'_>) -> Result<Content<'_>, Fault> {
        let expected = self.expected();
        let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(0));
        self.file
            .take(expected)
            .read_to_end(&mut bytes)
            .map_err(read_fault)?;
        if bytes.len() as u64 != self.metadata.len() {
            let message = format!(
                "changed while it was read: {} bytes were expected",
                self.metadata.len()
            );
            return Err(Fault::new(Status::ReadError, message));
        }
        Ok(Content {
            bytes,
            stamp: Stamp::of(&self.metadata),
            _held: held,
        })
    }
}

/// Takes memory; more than there is at all is a fault of the image, not of the moment.
pub(crate) fn take(memory: &MemoryBudget, bytes: u64) -> Result<Held<'_>, Refusal> {
    if bytes > memory.limit() {
        let message = format!(
            "it takes {bytes} bytes of memory, more than the {} that are allowed",
            memory.limit()
        );
        return Err(Fault::new(Status::TooLarge, message).into());
    }
    memory.take(bytes).ok_or(Refusal::NoRoom)
}

/// Between looking and opening, a file may have been replaced by a FIFO, which would be waited for without this flag.
#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).open(path)
}

/// Whether the process, or the whole system, has no file descriptors left.
pub(crate) fn is_out_of_files(error: &io::Error) -> bool {
    #[cfg(unix)]
    return matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
    #[cfg(not(unix))]
    return false;
}

fn check_is_file(metadata: &Metadata) -> Result<(), Fault> {
    if metadata.is_file() {
        return Ok(());
    }
    let what = if metadata.is_dir() {
        "a folder, not a file"
    } else {
        "not a regular file"
    };
    Err(Fault::new(Status::Unreadable, what))
}

fn check_file_bytes(bytes: u64, limits: &Limits) -> Result<(), Fault> {
    if bytes <= limits.max_file_bytes {
        return Ok(());
    }
    Err(Fault::new(
        Status::TooLarge,
        format!("the file is larger than {} bytes", limits.max_file_bytes),
    ))
}

fn read_fault(error: io::Error) -> Fault {
    Fault::new(Status::ReadError, format!("could not be read: {error}"))
}

fn open_failure(error: io::Error) -> Refusal {
    if is_out_of_files(&error) {
        Refusal::OutOfFiles(error)
    } else {
        Refusal::Fault(open_fault(&error))
    }
}

/// What it means for a file that it cannot be looked at or opened.
pub(crate) fn open_fault(error: &io::Error) -> Fault {
    let status = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Status::Vanished,
        io::ErrorKind::PermissionDenied => Status::Unreadable,
        _ => Status::ReadError,
    };
    Fault::new(status, format!("could not be opened: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_its_size_from_the_budget_and_gives_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, [7; 100]).unwrap();
        let memory = MemoryBudget::new(150);
        let read = |memory| read(&path, &Limits::default(), memory);
        let content = read(&memory).unwrap();
        assert_eq!((content.bytes.len(), content.stamp.bytes), (100, 100));
        assert!(matches!(read(&memory), Err(Refusal::NoRoom)));
        assert!(read_ahead(&path, &Limits::default(), &memory).is_none());
        drop(content);
        let ahead = read_ahead(&path, &Limits::default(), &memory).unwrap();
        assert_eq!(ahead.unwrap().bytes, [7; 100]);
        assert!(read(&memory).is_ok());
        assert!(matches!(
            read(&MemoryBudget::new(100)),
            Err(Refusal::Fault(Fault {
                status: Status::TooLarge,
                ..
            }))
        ));
        // Too large to be read ahead says nothing about the file.
        assert!(read_ahead(&path, &Limits::default(), &MemoryBudget::new(100)).is_none());
        let gone = read_ahead(&folder.path().join("y"), &Limits::default(), &memory);
        assert!(
            matches!(gone, Some(Err(Refusal::Fault(fault))) if fault.status == Status::Vanished)
        );
    }

    #[cfg(unix)]
    #[test]
    fn no_file_descriptors_is_not_the_fault_of_a_file() {
        for number in [libc::EMFILE, libc::ENFILE] {
            let failure = open_failure(io::Error::from_raw_os_error(number));
            assert!(matches!(failure, Refusal::OutOfFiles(_)));
        }
        let failure = open_failure(io::Error::from_raw_os_error(libc::EIO));
        assert!(matches!(failure, Refusal::Fault(fault) if fault.status == Status::ReadError));
    }

    #[test]
    fn stamps_of_times_before_1970_are_negative() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("x")).unwrap();
        file.set_modified(UNIX_EPOCH - std::time::Duration::from_nanos(1500))
            .unwrap();
        assert_eq!(Stamp::of(&file.metadata().unwrap()).modified, -1500);
    }
}
