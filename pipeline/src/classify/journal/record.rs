//! What a journal says: records as protobuf messages, one a frame.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use prost::Message;

use super::frame::{self, Next};
use crate::classify::key::Key;
use crate::classify::rows::{Candidate, Outcome, Row};
use crate::decode::{Fault, Stamp, Status};

/// Version of the records; another one is not read.
pub(super) const SCHEMA: u32 = 4;

/// How long rows may wait until they are forced onto the disk. A kill loses none of them, a power failure these.
const SYNC_EVERY: Duration = Duration::from_secs(5);

#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(message, optional, tag = "1")]
    start: Option<Start>,
    #[prost(message, optional, tag = "2")]
    row: Option<RowRecord>,
    #[prost(message, optional, tag = "3")]
    finish: Option<Finish>,
}

/// The first record: what the rows depend on.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Start {
    #[prost(uint32, tag = "1")]
    pub(super) schema: u32,
    #[prost(message, repeated, tag = "2")]
    pub(super) facts: Vec<Fact>,
}

/// One thing that the rows depend on.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Fact {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
    /// Whether it decides only which files there are, not what becomes of one.
    #[prost(bool, tag = "3")]
    pub(super) is_scope: bool,
}

#[derive(Clone, PartialEq, Message)]
struct RowRecord {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(uint64, tag = "2")]
    bytes: u64,
    #[prost(sint64, tag = "3")]
    modified: i64,
    /// Empty where the content was not read.
    #[prost(bytes = "vec", tag = "4")]
    content: Vec<u8>,
    /// Place in [`Status::ALL`].
    #[prost(uint32, tag = "5")]
    status: u32,
    #[prost(string, tag = "6")]
    message: String,
    #[prost(uint32, repeated, tag = "7")]
    classes: Vec<u32>,
    #[prost(float, repeated, tag = "8")]
    confidences: Vec<f32>,
    /// What the categories above the first class have together.
    #[prost(float, repeated, tag = "9")]
    above: Vec<f32>,
    #[prost(float, tag = "10")]
    familiarity: f32,
}

impl RowRecord {
    /// What became of a file, and nothing of which file that was.
    fn of(outcome: &Outcome) -> Self {
        let (best, above, familiarity, message) = match outcome {
            Outcome::Labelled {
                best,
                above,
                familiarity,
                damage,
            } => (
                &best[..],
                above.clone(),
                *familiarity,
                damage.clone().unwrap_or_default(),
            ),
            Outcome::Failed(fault) => (&[][..], Vec::new(), 0.0, fault.message.clone()),
        };
        Self {
            status: outcome.status() as u32,
            message,
            classes: best.iter().map(|best| best.class as u32).collect(),
            confidences: best.iter().map(|best| best.confidence).collect(),
            above,
            familiarity,
            ..Self::default()
        }
    }
}

/// Appends an outcome in as few bytes as it takes.
pub(in crate::classify) fn encode_outcome(outcome: &Outcome, bytes: &mut Vec<u8>) {
    bytes.extend(RowRecord::of(outcome).encode_length_delimited_to_vec());
}

/// The outcome that `bytes` begin with.
pub(in crate::classify) fn decode_outcome(bytes: &[u8]) -> Result<Outcome> {
    let record = RowRecord::decode_length_delimited(bytes)?;
    understand(record).map(|row| row.outcome)
}

/// The last record of a whole run.
#[derive(Clone, PartialEq, Eq, Message)]
struct Finish {
    /// Rows before this record.
    #[prost(uint64, tag = "1")]
    rows: u64,
}

/// A row of an earlier run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Remembered {
    pub(crate) key: Key,
    pub(crate) stamp: Stamp,
    pub(crate) content: Option<blake3::Hash>,
    pub(crate) outcome: Outcome,
}

/// Writes a journal.
pub(crate) struct Writer {
    file: BufWriter<File>,
    path: PathBuf,
    rows: u64,
    synced: Instant,
}

impl Writer {
    /// Starts a journal at `path`, where nothing may be.
    pub(super) fn create(path: &Path, start: &Start) -> Result<Self> {
        let file = File::options()
            .write(true)
            .create_new(true)
            .open(path)
            .with_context(|| format!("{} cannot be made", path.display()))?;
        let mut writer = Self {
            file: BufWriter::with_capacity(1 << 16, file),
            path: path.to_owned(),
            rows: 0,
            synced: Instant::now(),
        };
        writer.record(&Record {
            start: Some(start.clone()),
            ..Record::default()
        })?;
        writer.commit()?;
        Ok(writer)
    }

    /// Adds a row, which is safe from a kill with the next commit.
    pub(crate) fn write(&mut self, row: &Row) -> Result<()> {
        self.write_remembered(&Remembered {
            key: Key::of(&row.source.shown),
            stamp: row.stamp,
            content: row.content,
            outcome: row.outcome.clone(),
        })
    }

    pub(super) fn write_remembered(&mut self, row: &Remembered) -> Result<()> {
        let record = RowRecord {
            key: row.key.as_bytes().to_vec(),
            bytes: row.stamp.bytes,
            modified: row.stamp.modified,
            content: row
                .content
                .map_or_else(Vec::new, |hash| hash.as_bytes().to_vec()),
            ..RowRecord::of(&row.outcome)
        };
        self.rows += 1;
        self.record(&Record {
            row: Some(record),
            ..Record::default()
        })
    }

    /// Hands everything to the operating system, and now and then to the disk.
    pub(crate) fn commit(&mut self) -> Result<()> {
        let written = self.file.flush();
        written.with_context(|| self.failed())?;
        if self.synced.elapsed() >= SYNC_EVERY {
            self.sync()?;
        }
        Ok(())
    }

    /// Ends the journal of a whole run; all of it is on the disk then.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.record(&Record {
            finish: Some(Finish { rows: self.rows }),
            ..Record::default()
        })?;
        self.file.flush().with_context(|| self.failed())?;
        self.sync()
    }

    fn sync(&mut self) -> Result<()> {
        self.synced = Instant::now();
        let synced = self.file.get_ref().sync_data();
        synced.with_context(|| self.failed())
    }

    fn record(&mut self, record: &Record) -> Result<()> {
        let written = frame::write(&mut self.file, &record.encode_to_vec());
        written.with_context(|| self.failed())
    }

    fn failed(&self) -> String {
        format!("{} could not be written", self.path.display())
    }
}

/// Reads a journal from its start.
pub(crate) struct Reader {
    input: BufReader<File>,
    path: PathBuf,
    buffer: Vec<u8>,
    start: Start,
    last: Option<Key>,
}

impl Reader {
    /// Opens a journal; none where nothing is at `path`, or where not even its first record is whole.
    pub(super) fn open(path: &Path) -> Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.with_context(|| format!("{} cannot be opened", path.display()))?,
        };
        let mut reader = Self {
            input: BufReader::with_capacity(1 << 16, file),
            path: path.to_owned(),
            buffer: Vec::new(),
            start: Start::default(),
            last: None,
        };
        let first = reader.record()?;
        Ok(first.and_then(|record| record.start).map(|start| {
            reader.start = start;
            reader
        }))
    }

    pub(super) fn start(&self) -> &Start {
        &self.start
    }

    /// The next row; none at the end, be it the proper one or that of a torn file.
    pub(crate) fn next_row(&mut self) -> Result<Option<Remembered>> {
        let Some(record) = self.record()? else {
            return Ok(None);
        };
        let Some(row) = record.row else {
            return Ok(None);
        };
        let row = understand(row).with_context(|| {
            format!(
                "{} cannot be understood; start anew with --overwrite",
                self.path.display()
            )
        })?;
        // What is merged with the walk has to be in the order of the walk.
        ensure!(
            self.last.as_ref() < Some(&row.key),
            "{} is out of order; start anew with --overwrite",
            self.path.display()
        );
        self.last = Some(row.key.clone());
        Ok(Some(row))
    }

    fn record(&mut self) -> Result<Option<Record>> {
        let next = frame::read(&mut self.input, &mut self.buffer)
            .with_context(|| format!("{} could not be read", self.path.display()))?;
        Ok(match next {
            Next::Frame => Record::decode(self.buffer.as_slice()).ok(),
            Next::End => None,
            Next::Torn => {
                tracing::debug!("{} has a torn end, which is dropped", self.path.display());
                None
            }
        })
    }
}

fn understand(row: RowRecord) -> Result<Remembered> {
    let status = Status::ALL
        .get(row.status as usize)
        .copied()
        .context("a row has an unknown status")?;
    ensure!(
        row.classes.len() == row.confidences.len(),
        "a row has more classes than confidences"
    );
    let best = row.classes.iter().zip(&row.confidences);
    let best = best
        .map(|(&class, &confidence)| Candidate {
            class: class as usize,
            confidence,
        })
        .collect();
    let labelled = |damage| Outcome::Labelled {
        best,
        above: row.above,
        familiarity: row.familiarity,
        damage,
    };
    let outcome = match status {
        Status::Ok => labelled(None),
        Status::Degraded => labelled(Some(row.message)),
        status => Outcome::Failed(Fault::new(status, row.message)),
    };
    let content = match row.content.as_slice() {
        [] => None,
        bytes => Some(
            bytes
                .try_into()
                .map(blake3::Hash::from_bytes)
                .context("a row has a checksum of a wrong length")?,
        ),
    };
    Ok(Remembered {
        key: Key::from_bytes(row.key),
        stamp: Stamp {
            bytes: row.bytes,
            modified: row.modified,
        },
        content,
        outcome,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn remembered(name: &str, class: usize) -> Remembered {
        Remembered {
            key: Key::of(Path::new(name)),
            stamp: Stamp {
                bytes: 3,
                modified: -5,
            },
            content: Some(blake3::hash(name.as_bytes())),
            outcome: Outcome::Labelled {
                best: vec![Candidate {
                    class,
                    confidence: 1.0 / 3.0,
                }],
                above: vec![0.5, 0.7],
                familiarity: -2.5,
                damage: None,
            },
        }
    }

    pub(crate) fn rows(path: &Path) -> Vec<Remembered> {
        let mut reader = Reader::open(path).unwrap().unwrap();
        let mut rows = Vec::new();
        while let Some(row) = reader.next_row().unwrap() {
            rows.push(row);
        }
        rows
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let start = Start {
            schema: SCHEMA,
            facts: vec![],
        };
        let mut degraded = remembered("b", 2);
        if let Outcome::Labelled { damage, .. } = &mut degraded.outcome {
            *damage = Some("cut short".to_owned());
        }
        let failed = Remembered {
            content: None,
            outcome: Outcome::Failed(Fault::new(Status::ReadError, "no")),
            ..remembered("c", 0)
        };
        let expected = [remembered("a", 1), degraded, failed];
        let mut writer = Writer::create(&path, &start).unwrap();
        for row in &expected {
            writer.write_remembered(row).unwrap();
        }
        writer.finish().unwrap();
        assert_eq!(rows(&path), expected);

        // Cut anywhere, it is the same with fewer rows.
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            if let Some(mut reader) = Reader::open(&path).unwrap() {
                let mut count = 0;
                while let Some(row) = reader.next_row().unwrap() {
                    assert_eq!(row, expected[count]);
                    count += 1;
                }
            }
        }
    }

    #[test]
    fn disorder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut writer = Writer::create(&path, &Start::default()).unwrap();
        writer.write_remembered(&remembered("b", 1)).unwrap();
        writer.write_remembered(&remembered("a", 1)).unwrap();
        writer.finish().unwrap();
        let mut reader = Reader::open(&path).unwrap().unwrap();
        reader.next_row().unwrap();
        let error = reader.next_row().unwrap_err().to_string();
        assert!(error.contains("out of order"), "{error}");
    }
}
