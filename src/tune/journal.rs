//! What was found so far, on disk: a line for each training, with a checksum, so that no stop loses more than the one under way.
//!
//! The first line says which search it is. A torn last line is dropped; damage anywhere else is an error.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::points::Search;
use super::records::Record;
use super::space::{NetworkKind, Space};
use crate::training::options::TrainOptions;

/// Name of the journal in the output folder.
pub const FILE: &str = "trials.jsonl";
/// Changes when old journals can no longer be read.
const VERSION: u32 = 1;
/// Letters of a line's checksum.
const CHECK_LETTERS: usize = 16;

/// Which search a journal belongs to: everything that its results depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Version of the file format.
    version: u32,
    /// Fingerprint of the training and validation parts.
    pub data: String,
    /// Kinds of network.
    pub networks: Vec<NetworkKind>,
    /// How points are chosen.
    pub search: Search,
    /// Ranges.
    pub space: Space,
    /// What does not vary.
    pub base: TrainOptions,
}

impl Identity {
    /// The identity of a search on data with this fingerprint.
    pub fn new(
        data: String,
        networks: Vec<NetworkKind>,
        search: Search,
        space: Space,
        base: TrainOptions,
    ) -> Self {
        Self {
            version: VERSION,
            data,
            networks,
            search,
            space,
            base,
        }
    }

    /// What the user would have to change to go on with the other one's search.
    fn difference(&self, other: &Self) -> Option<&'static str> {
        let Self {
            version,
            data,
            networks,
            search,
            space,
            base,
        } = self;
        [
            (*version != other.version, "another version of the program"),
            (*data != other.data, "other data, --size or --colour"),
            (*networks != other.networks, "another --network"),
            (*search != other.search, "another --search"),
            (*space != other.space, "another --space"),
            (
                *base != other.base,
                "another --seed, --validation-fraction, --threads, or other defaults",
            ),
        ]
        .into_iter()
        .find_map(|(differs, what)| differs.then_some(what))
    }
}

/// A journal, locked for this process.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// Opens the journal in `folder`, or makes it, and reads what it holds.
    ///
    /// # Errors
    /// When another run has it open, when it belongs to another search, when a line before the last is damaged, or when it cannot
    /// be read or written.
    pub fn open(folder: &Path, identity: &Identity) -> Result<(Self, Vec<Record>)> {
        let path = folder.join(FILE);
        let shown = path.display();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("cannot open {shown}"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("{shown}: another run is working on it; wait for it or take another --out")
            }
            // Some network file systems know no locks.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {shown}"));
            }
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .with_context(|| format!("cannot read {shown}"))?;
        let (entries, whole) = read(&bytes).with_context(|| format!("{shown} is damaged"))?;
        let mut entries = entries.into_iter();
        let mut journal = Self { file, path };
        journal.cut_to(whole as u64)?;
        match entries.next() {
            None => journal.write(&Entry::Search(Box::new(identity.clone())))?,
            Some(Entry::Search(found)) => {
                if let Some(what) = identity.difference(&found) {
                    bail!(
                        "{} belongs to a search with {what}; repeat its command to go on with it, or take another --out",
                        journal.path.display()
                    );
                }
            }
            Some(Entry::Trial(_)) => bail!(
                "{} does not begin with the settings of a search",
                journal.path.display()
            ),
        }
        let mut records = Vec::new();
        for entry in entries {
            match entry {
                Entry::Trial(record) => records.push(*record),
                Entry::Search(_) => bail!(
                    "{} holds the settings of two searches",
                    journal.path.display()
                ),
            }
        }
        Ok((journal, records))
    }

    /// Adds a training; it is on the disk when this returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, record: &Record) -> Result<()> {
        self.write(&Entry::Trial(Box::new(record.clone())))
    }

    fn write(&mut self, entry: &Entry) -> Result<()> {
        let line = line(entry)?;
        self.file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data())
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn cut_to(&mut self, length: u64) -> Result<()> {
        let cut = |file: &mut File| {
            if file.metadata()?.len() > length {
                file.set_len(length)?;
                file.sync_all()?;
            }
            file.seek(SeekFrom::Start(length))
        };
        cut(&mut self.file)
            .map(drop)
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Entry {
    Search(Box<Identity>),
    Trial(Box<Record>),
}

/// `{"check":"0123456789abcdef","entry":…}` with the start of the SHA-256 of the text that stands for `…`.
fn line(entry: &Entry) -> Result<String> {
    let text = serde_json::to_string(entry)?;
    Ok(format!(
        "{{\"check\":\"{}\",\"entry\":{text}}}\n",
        check(&text)
    ))
}

fn check(text: &str) -> String {
    Sha256::digest(text)
        .iter()
        .take(CHECK_LETTERS / 2)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The entries, and how many bytes they take: what comes behind is torn.
fn read(bytes: &[u8]) -> Result<(Vec<Entry>, usize)> {
    let mut entries = Vec::new();
    let mut whole = 0;
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = rest.iter().position(|&byte| byte == b'\n');
        let entry = end.and_then(|end| parse(&rest[..end]));
        match (entry, end) {
            (Some(entry), Some(end)) => {
                entries.push(entry);
                whole += end + 1;
                rest = &rest[end + 1..];
            }
            (_, end) => {
                let is_last = end.is_none_or(|end| end + 1 == rest.len());
                ensure!(
                    is_last,
                    "line {} does not match its checksum; take another --out, or cut the file off before that line",
                    entries.len() + 1
                );
                break;
            }
        }
    }
    Ok((entries, whole))
}

fn parse(line: &[u8]) -> Option<Entry> {
    let line = std::str::from_utf8(line).ok()?;
    let rest = line.strip_prefix("{\"check\":\"")?;
    let (found, rest) = rest.split_at_checked(CHECK_LETTERS)?;
    let text = rest.strip_prefix("\",\"entry\":")?.strip_suffix('}')?;
    (check(text) == found)
        .then(|| serde_json::from_str(text).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::records::tests::record;

    fn identity() -> Identity {
        Identity::new(
            "abc".to_owned(),
            vec![NetworkKind::Seed],
            Search::Quasi,
            Space::default(),
            TrainOptions::default(),
        )
    }

    fn error(folder: &Path, identity: &Identity) -> String {
        format!("{:#}", Journal::open(folder, identity).unwrap_err())
    }

    #[test]
    fn cut_off_anywhere_it_keeps_every_whole_line_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let (mut journal, none) = Journal::open(folder.path(), &identity()).unwrap();
        assert!(none.is_empty());
        for trial in 0..3 {
            journal.add(&record(trial, 0, 0.5)).unwrap();
        }
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            let (entries, kept) = read(&whole[..length]).unwrap();
            let lines = whole[..length].iter().filter(|&&b| b == b'\n').count();
            assert_eq!(entries.len(), lines, "{length}");
            assert!(kept == 0 || whole[kept - 1] == b'\n', "{length}");
        }
        // Waiting for the disk takes its time, so not every byte here.
        for length in (0..whole.len()).step_by(97) {
            std::fs::write(&path, &whole[..length]).unwrap();
            let (mut journal, records) = Journal::open(folder.path(), &identity()).unwrap();
            let lines = whole[..length].iter().filter(|&&b| b == b'\n').count();
            assert_eq!(records.len(), lines.saturating_sub(1), "{length}");
            for trial in records.len()..3 {
                journal.add(&record(trial, 0, 0.5)).unwrap();
            }
            drop(journal);
            assert_eq!(std::fs::read(&path).unwrap(), whole, "{length}");
        }
    }

    #[test]
    fn damage_in_the_middle_is_an_error_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let (mut journal, _) = Journal::open(folder.path(), &identity()).unwrap();
        journal.add(&record(0, 0, 0.5)).unwrap();
        journal.add(&record(1, 0, 0.5)).unwrap();
        drop(journal);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen("\"trial\":0", "\"trial\":7", 1)).unwrap();
        let error = error(folder.path(), &identity());
        assert!(
            error.contains("line 2 does not match its checksum"),
            "{error}"
        );
    }

    #[test]
    fn another_search_is_refused_and_says_what_differs() {
        let folder = tempfile::tempdir().unwrap();
        drop(Journal::open(folder.path(), &identity()).unwrap());
        let mut other = identity();
        other.search = Search::Random;
        assert!(error(folder.path(), &other).contains("a search with another --search; repeat"));
        let mut other = identity();
        other.data = "def".to_owned();
        assert!(error(folder.path(), &other).contains("other data"));
    }

    #[test]
    fn two_runs_at_once_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = Journal::open(folder.path(), &identity()).unwrap();
        assert!(error(folder.path(), &identity()).contains("another run is working on it"));
        drop(first);
        Journal::open(folder.path(), &identity()).unwrap();
    }
}
