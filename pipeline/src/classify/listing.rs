//! The names in one folder, sorted by their bytes, in memory that does not grow with the folder.
//!
//! Up to [`NAMES_IN_MEMORY`] names are sorted in place. A larger folder is sorted in runs of that many names, which lie in a
//! temporary file and are merged as they are taken; the file has no name and is gone with the listing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::OsString;
use std::fs::{self, File, FileType};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

/// Names that are sorted at a time.
const NAMES_IN_MEMORY: usize = 1 << 16;
/// Bytes of a run that are read at a time.
const READ_AHEAD: u64 = 1 << 15;

/// What an entry of a folder is, as far as the folder tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EntryKind {
    File,
    Folder,
    Link,
    Other,
}

/// A name and what it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) name: OsString,
    pub(crate) kind: EntryKind,
}

/// The entries of a folder that were not taken yet.
pub(crate) enum Listing {
    /// All in memory, last first.
    Small(Vec<Entry>),
    Large(Merge),
}

impl Listing {
    /// Lists `folder`. The folder is read to its end here, and not open any more afterwards.
    pub(crate) fn of(folder: &Path) -> io::Result<Self> {
        Self::with_runs_of(folder, NAMES_IN_MEMORY)
    }

    fn with_runs_of(folder: &Path, names_in_memory: usize) -> io::Result<Self> {
        let mut entries = Vec::new();
        let mut spill: Option<Spill> = None;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            entries.push(Entry {
                kind: kind(entry.file_type()?),
                name: entry.file_name(),
            });
            // Elsewhere names are not bytes, and could not be had back from a file.
            if cfg!(unix) && entries.len() == names_in_memory {
                if spill.is_none() {
                    spill = Some(Spill::new().map_err(explain)?);
                }
                if let Some(spill) = &mut spill {
                    spill.write(&mut entries).map_err(explain)?;
                }
            }
        }
        if let Some(mut spill) = spill {
            spill.write(&mut entries).map_err(explain)?;
            return Ok(Self::Large(Merge::new(spill)?));
        }
        entries.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Self::Small(entries))
    }

    /// The next entry.
    pub(crate) fn next(&mut self) -> io::Result<Option<Entry>> {
        match self {
            Self::Small(entries) => Ok(entries.pop()),
            Self::Large(merge) => merge.next(),
        }
    }
}

fn explain(error: io::Error) -> io::Error {
    let folder = std::env::temp_dir();
    io::Error::new(
        error.kind(),
        format!(
            "its many names could not be sorted in {}: {error}",
            folder.display()
        ),
    )
}

fn kind(file_type: FileType) -> EntryKind {
    if file_type.is_file() {
        EntryKind::File
    } else if file_type.is_dir() {
        EntryKind::Folder
    } else if file_type.is_symlink() {
        EntryKind::Link
    } else {
        EntryKind::Other
    }
}

/// Sorted runs, one behind the other in a file.
struct Spill {
    file: File,
    /// Where each run ends.
    ends: Vec<u64>,
}

impl Spill {
    fn new() -> io::Result<Self> {
        Ok(Self {
            file: tempfile::tempfile()?,
            ends: Vec::new(),
        })
    }

    /// Sorts the entries and writes them as a run: length of the name, kind, name.
    fn write(&mut self, entries: &mut Vec<Entry>) -> io::Result<()> {
        entries.sort_unstable();
        let mut run = Vec::new();
        for entry in entries.drain(..) {
            let name = entry.name.as_encoded_bytes();
            run.extend((name.len() as u32).to_le_bytes());
            run.push(entry.kind as u8);
            run.extend(name);
        }
        self.file.write_all(&run)?;
        self.ends
            .push(self.ends.last().unwrap_or(&0) + run.len() as u64);
        Ok(())
    }
}

/// The runs of a file, of which the least entry is taken.
pub(crate) struct Merge {
    file: File,
    runs: Vec<Run>,
    /// The first entry of each run that has one left.
    heads: BinaryHeap<Reverse<(Entry, usize)>>,
}

/// Where a run goes on in the file, and what was read of it already.
struct Run {
    at: u64,
    end: u64,
    buffer: io::Cursor<Vec<u8>>,
}

impl Merge {
    fn new(spill: Spill) -> io::Result<Self> {
        let starts = std::iter::once(0).chain(spill.ends.iter().copied());
        let runs = starts
            .zip(&spill.ends)
            .map(|(at, &end)| Run {
                at,
                end,
                buffer: io::Cursor::new(Vec::new()),
            })
            .collect();
        let mut merge = Self {
            file: spill.file,
            runs,
            heads: BinaryHeap::new(),
        };
        for run in 0..merge.runs.len() {
            merge.refill(run)?;
        }
        Ok(merge)
    }

    fn next(&mut self) -> io::Result<Option<Entry>> {
        let Some(Reverse((entry, run))) = self.heads.pop() else {
            return Ok(None);
        };
        self.refill(run)?;
        Ok(Some(entry))
    }

    /// Takes the next entry of a run to its head.
    fn refill(&mut self, number: usize) -> io::Result<()> {
        let run = &mut self.runs[number];
        let mut head = [0; 5];
        if !run.read(&mut self.file, &mut head)? {
            return Ok(());
        }
        let [length @ .., kind] = head;
        let mut name = vec![0; u32::from_le_bytes(length) as usize];
        run.read(&mut self.file, &mut name)?;
        let kind = match kind {
            0 => EntryKind::File,
            1 => EntryKind::Folder,
            2 => EntryKind::Link,
            _ => EntryKind::Other,
        };
        self.heads.push(Reverse((
            Entry {
                name: os_string(name),
                kind,
            },
            number,
        )));
        Ok(())
    }
}

impl Run {
    /// Fills `bytes`; false where the run is at its end.
    fn read(&mut self, file: &mut File, bytes: &mut [u8]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < bytes.len() {
            let count = self.buffer.read(&mut bytes[filled..])?;
            filled += count;
            if count == 0 {
                let more = READ_AHEAD.min(self.end - self.at);
                if more == 0 {
                    return Ok(false);
                }
                let mut ahead = vec![0; more as usize];
                file.seek(SeekFrom::Start(self.at))?;
                file.read_exact(&mut ahead)?;
                self.at += more;
                self.buffer = io::Cursor::new(ahead);
            }
        }
        Ok(true)
    }
}

#[cfg(unix)]
fn os_string(bytes: Vec<u8>) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes)
}

/// Never needed: where names are not bytes, all stay in memory.
#[cfg(not(unix))]
fn os_string(bytes: Vec<u8>) -> OsString {
    String::from_utf8_lossy(&bytes).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(mut listing: Listing) -> Vec<(String, EntryKind)> {
        let mut names = Vec::new();
        while let Some(entry) = listing.next().unwrap() {
            let kind = entry.kind;
            names.push((entry.name.into_string().unwrap(), kind));
        }
        names
    }

    #[test]
    fn a_large_folder_is_listed_like_a_small_one() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..1000 {
            // An order that has nothing to do with that of the names.
            let name = format!("{}{:0>40}", number * 7919 % 1000, number);
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::create_dir(folder.path().join("500-folder")).unwrap();
        let whole = names(Listing::of(folder.path()).unwrap());
        assert_eq!(whole.len(), 1001);
        assert!(whole.is_sorted());
        assert_eq!(
            whole
                .iter()
                .filter(|(_, kind)| *kind == EntryKind::Folder)
                .count(),
            1
        );
        for run in [1, 10, 77, 1001] {
            let listing = Listing::with_runs_of(folder.path(), run).unwrap();
            assert!(matches!(listing, Listing::Large(_)));
            assert_eq!(names(listing), whole, "runs of {run}");
        }
    }
}
