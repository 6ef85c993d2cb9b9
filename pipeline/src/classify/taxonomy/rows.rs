//! The rows of a taxonomy's file.

use anyhow::{Context as _, Result, ensure};

/// Between the levels of a path.
const SEPARATOR: char = '>';

/// A row that names a category, and the line it stands in.
pub(super) struct Entry {
    pub(super) line: u64,
    /// Empty where the row is about a category above labels.
    pub(super) label: String,
    /// From the topmost category on; none is empty.
    pub(super) levels: Vec<String>,
    pub(super) external_id: String,
}

/// Places of the columns.
struct Places {
    label: usize,
    path: usize,
    external_id: Option<usize>,
}

/// Reads the rows of a taxonomy; messages call it `name`.
///
/// # Errors
/// Names the line that cannot be read, or has an empty level.
pub(super) fn entries(name: &str, bytes: &[u8]) -> Result<Vec<Entry>> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .trim(csv::Trim::All)
        .from_reader(bytes);
    let mut records = reader.records();
    let mut next = || {
        records.next().map(|record| {
            record.map_err(|error| {
                let line = error.position().map_or(1, csv::Position::line);
                match error.kind() {
                    csv::ErrorKind::UnequalLengths {
                        expected_len, len, ..
                    } => anyhow::anyhow!(
                        "line {line} of {name} has {len} cells where the first line has {expected_len}; put quotes around a cell \
                         with a comma"
                    ),
                    csv::ErrorKind::Utf8 { .. } => {
                        anyhow::anyhow!("line {line} of {name} is not UTF-8 text; save it as CSV UTF-8")
                    }
                    _ => anyhow::Error::new(error).context(format!("{name} cannot be read")),
                }
            })
        })
    };
    let header = next().transpose()?.unwrap_or_default();
    let places = Places::find(&header).with_context(|| {
        format!(
            "line 1 of {name} has to name the columns label, path and, if wished, external_id, with commas between them, and no \
             others; it is {:?}",
            header.iter().collect::<Vec<_>>().join(",")
        )
    })?;
    let mut entries = Vec::new();
    while let Some(record) = next() {
        let record = record?;
        let line = record.position().map_or(0, csv::Position::line);
        let cell = |place: usize| record.get(place).unwrap_or_default().to_owned();
        let path = cell(places.path);
        let levels: Vec<String> = path
            .split(SEPARATOR)
            .map(|level| level.trim().to_owned())
            .collect();
        ensure!(
            levels.iter().all(|level| !level.is_empty()),
            "line {line} of {name}: the path {path:?} has an empty level; write it as \"A > B > C\""
        );
        entries.push(Entry {
            line,
            label: cell(places.label),
            levels,
            external_id: places.external_id.map(cell).unwrap_or_default(),
        });
    }
    Ok(entries)
}

impl Places {
    /// None where a column is missing, twice there or not known.
    fn find(header: &csv::StringRecord) -> Option<Self> {
        let place = |column| header.iter().position(|name| name == column);
        let places = Self {
            label: place("label")?,
            path: place("path")?,
            external_id: place("external_id"),
        };
        let known = 2 + usize::from(places.external_id.is_some());
        (header.len() == known).then_some(places)
    }
}
