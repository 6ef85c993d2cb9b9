//! Reads a CSV of labels back, row by row, and checks on the way that it is one: its columns, its words, its order.
//!
//! One row is in memory at a time. It reads what [`CsvOutput`](super::CsvOutput) writes, for Excel too; JSON lines are refused.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Error, Result, anyhow, bail, ensure};
use csv::{ErrorKind, StringRecord};

use super::decision::Decision;
use super::key::Key;
use crate::decode::Status;

/// What helps where a file is not what a run wrote.
const WRITE_AGAIN: &str = "give the file as `catalog classify` or `catalog merge` wrote it";

/// A row of a file of labels.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelRow {
    pub(super) key: Key,
    /// The path as the cell has it; [`path_of`](super::path_of) gives the path itself.
    pub path: String,
    /// The most probable class as the cell has it, and its confidence; none where the file was not classified.
    pub label: Option<(String, f32)>,
    /// What became of the file.
    pub status: Status,
    /// What was decided; none where there is no label, or no such column.
    pub decision: Option<Decision>,
}

/// Reads the rows of one file of labels.
pub struct LabelsReader<R> {
    name: PathBuf,
    rows: csv::Reader<R>,
    record: StringRecord,
    places: Places,
    last: Option<(Key, String)>,
}

/// Where the columns are.
#[derive(Clone, Copy, Debug)]
struct Places {
    path: usize,
    label: usize,
    confidence: usize,
    status: usize,
    decision: Option<usize>,
}

impl LabelsReader<File> {
    /// Opens a file of labels.
    ///
    /// # Errors
    /// When it cannot be opened or its first line is not that of a file of labels.
    pub fn open(path: &Path) -> Result<Self> {
        let file =
            File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
        Self::new(path, file)
    }
}

impl<R: Read> LabelsReader<R> {
    /// Reads labels from `input`; messages call it `name`.
    ///
    /// # Errors
    /// When its first line is not that of a file of labels.
    pub fn new(name: &Path, input: R) -> Result<Self> {
        let mut rows = csv::Reader::from_reader(input);
        let headers = rows.headers().map_err(|error| not_csv(name, error))?;
        let first = headers.get(0).unwrap_or_default();
        ensure!(
            !first.starts_with('{'),
            "{} holds JSON lines, and only CSV can be read: classify again without --format jsonl",
            name.display()
        );
        let place = |column| headers.iter().position(|header| header == column);
        let needed = |column| {
            place(column).with_context(|| {
                format!(
                    "line 1 of {} names no column `{column}`, so it is no file of labels: {WRITE_AGAIN}",
                    name.display()
                )
            })
        };
        let places = Places {
            path: needed("path")?,
            label: needed("label")?,
            confidence: needed("confidence")?,
            status: needed("status")?,
            decision: place("decision"),
        };
        Ok(Self {
            name: name.to_owned(),
            rows,
            record: StringRecord::new(),
            places,
            last: None,
        })
    }

    /// Whether rows say what was decided about them.
    pub fn has_decisions(&self) -> bool {
        self.places.decision.is_some()
    }

    /// The next row; none at the end.
    ///
    /// # Errors
    /// When the file cannot be read, a row is not one of labels, or rows are not in path order.
    pub fn next_row(&mut self) -> Result<Option<LabelRow>> {
        let is_row = self.rows.read_record(&mut self.record);
        if !is_row.map_err(|error| not_csv(&self.name, error))? {
            return Ok(None);
        }
        let line = self.record.position().map_or(0, csv::Position::line);
        let row = understood(&self.record, &self.places)
            .with_context(|| format!("line {line} of {}: {WRITE_AGAIN}", self.name.display()))?;
        if let Some((last, text)) = &self.last {
            let name = self.name.display();
            ensure!(
                *last != row.key,
                "line {line} of {name} has {} for the second time: {WRITE_AGAIN}",
                row.path
            );
            ensure!(
                *last < row.key,
                "line {line} of {name} is out of order: {} stands behind {text}. Labels are compared in the path order in which \
                 they are written, and this file was sorted or edited since: {WRITE_AGAIN}",
                row.path
            );
        }
        self.last = Some((row.key.clone(), row.path.clone()));
        Ok(Some(row))
    }
}

fn understood(record: &StringRecord, places: &Places) -> Result<LabelRow> {
    // Rows of another length than the first line do not come this far.
    let cell = |place: usize| record.get(place).unwrap_or_default();
    let path = cell(places.path);
    ensure!(!path.is_empty(), "the path is empty");
    let word = cell(places.status);
    let status = Status::ALL
        .into_iter()
        .find(|status| status.as_str() == word)
        .with_context(|| format!("{word:?} is no status"))?;
    let is_labelled = matches!(status, Status::Ok | Status::Degraded);
    let label = match (cell(places.label), cell(places.confidence)) {
        ("", "") if !is_labelled => None,
        ("", _) if is_labelled => bail!("{path} is {status} and has no label"),
        (label, confidence) if is_labelled => {
            let number = confidence.parse::<f32>().ok();
            let number = number.filter(|number| (0.0..=1.0).contains(number));
            let number = number.with_context(|| format!("{confidence:?} is no confidence"))?;
            Some((label.to_owned(), number))
        }
        _ => bail!("{path} is {status} and has a label all the same"),
    };
    let decision = match places.decision.map_or("", cell) {
        "" => None,
        word => Some(Decision::named(word).with_context(|| format!("{word:?} is no decision"))?),
    };
    Ok(LabelRow {
        key: Key::of_cell(path),
        path: path.to_owned(),
        label,
        status,
        decision,
    })
}

/// An error of the CSV reader, in words that name the file.
fn not_csv(name: &Path, error: csv::Error) -> Error {
    let name = name.display();
    let line = error.position().map_or(1, csv::Position::line);
    match error.kind() {
        ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => anyhow!(
            "line {line} of {name} has {len} cells where the first line has {expected_len}; was it cut while it was copied? \
             {WRITE_AGAIN}"
        ),
        ErrorKind::Utf8 { .. } => {
            anyhow!("line {line} of {name} is not UTF-8 text: {WRITE_AGAIN}")
        }
        _ => Error::new(error).context(format!("{name} cannot be read")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(text: &str) -> Result<LabelsReader<&[u8]>> {
        LabelsReader::new(Path::new("labels.csv"), text.as_bytes())
    }

    fn rows(text: &str) -> Result<Vec<LabelRow>> {
        let mut reader = reader(text)?;
        let mut rows = Vec::new();
        while let Some(row) = reader.next_row()? {
            rows.push(row);
        }
        Ok(rows)
    }

    #[test]
    fn rows_are_those_that_were_written_whatever_columns_there_are() {
        let rows = rows(
            "\u{feff}path,label,confidence,label_2,confidence_2,status,error,decision\r\n\
             ./a/b.jpg,%3Dbag,0.750000,coat,0.25,ok,,review\r\n\
             \"./a-,b.jpg\",,,,,corrupt,broken,\r\n",
        )
        .unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].label, Some(("%3Dbag".to_owned(), 0.75)));
        assert_eq!(rows[0].decision, Some(Decision::Review));
        assert_eq!(
            (&*rows[1].path, rows[1].status),
            ("./a-,b.jpg", Status::Corrupt)
        );
        assert_eq!((&rows[1].label, rows[1].decision), (&None, None));
        assert!(
            !reader("path,label,confidence,status\n")
                .unwrap()
                .has_decisions()
        );
    }

    #[test]
    fn what_is_no_file_of_labels_is_told_with_its_line() {
        const HEADER: &str = "path,label,confidence,status,error\n";
        let error = |text: &str| format!("{:#}", rows(text).unwrap_err());
        for (text, said) in [
            ("", "line 1 of labels.csv names no column `path`"),
            ("path,label\n", "names no column `confidence`"),
            ("{\"path\":\"./a\"}\n", "without --format jsonl"),
            ("./a,b,0.5,ok,\n./b,b", "names no column `path`"),
        ] {
            assert!(error(text).contains(said), "{}", error(text));
        }
        for (row, said) in [
            (
                "./a,b,0.5,ok,\n./b,b,0.5",
                "line 3 of labels.csv has 3 cells",
            ),
            ("./a,b,0.5,fine,\n", "line 2 of labels.csv"),
            ("./a,b,0.5,fine,\n", "\"fine\" is no status"),
            ("./a,b,1.5,ok,\n", "\"1.5\" is no confidence"),
            ("./a,b,NaN,ok,\n", "\"NaN\" is no confidence"),
            ("./a,,,ok,\n", "./a is ok and has no label"),
            ("./a,b,0.5,corrupt,\n", "has a label all the same"),
            (",b,0.5,ok,\n", "the path is empty"),
            (
                "./a,b,1,ok,\n./a,b,1,ok,\n",
                "line 3 of labels.csv has ./a for the second time",
            ),
            (
                "./a-b,b,1,ok,\n./a/b,b,1,ok,\n",
                "./a/b stands behind ./a-b",
            ),
        ] {
            let error = error(&format!("{HEADER}{row}"));
            assert!(error.contains(said), "{error}");
            assert!(error.contains("catalog classify"), "{error}");
        }
        let bytes = [HEADER.as_bytes(), b"./\xff,b,1,ok,\n"].concat();
        let mut reader = LabelsReader::new(Path::new("x"), &bytes[..]).unwrap();
        let error = reader.next_row().unwrap_err().to_string();
        assert!(error.contains("line 2 of x is not UTF-8"), "{error}");
    }
}
