//! The 785-column CSV: a label, then the 784 pixels of a 28×28 grey image; the header is optional.
//!
//! Any other number of columns is refused rather than guessed at.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// Height and width of the images.
pub(super) const SIDE: u32 = 28;
/// Pixels of one image.
pub(super) const PIXELS: usize = (SIDE * SIDE) as usize;
const COLUMNS: usize = 1 + PIXELS;

/// The labelled images of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows {
    /// One label per image.
    pub labels: Vec<u8>,
    /// Pixels, `[N, 28, 28]` row-major.
    pub pixels: Vec<u8>,
}

/// Reads a file; its first row is a header when neither of its first two cells is a number.
///
/// # Errors
/// Names the file, the line and what was expected there.
pub(super) fn read(path: &Path) -> Result<Rows> {
    let file = File::open(path).with_context(|| format!("{}: cannot be opened", path.display()))?;
    parse(file).with_context(|| path.display().to_string())
}

fn parse(content: impl Read) -> Result<Rows> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .buffer_capacity(1 << 20)
        .from_reader(content);
    let mut rows = Rows::default();
    let mut record = csv::ByteRecord::new();
    let mut is_first = true;
    while reader
        .read_byte_record(&mut record)
        .context("cannot be read")?
    {
        let line = record.position().map_or(0, csv::Position::line);
        ensure!(
            record.len() == COLUMNS,
            "line {line}: {} columns, expected {COLUMNS}: the label, then the {PIXELS} pixels of a {SIDE}×{SIDE} image",
            record.len()
        );
        if std::mem::take(&mut is_first) && is_header(&record) {
            continue;
        }
        for (column, cell) in record.iter().enumerate() {
            let value = byte(cell).with_context(|| {
                let cell = String::from_utf8_lossy(&cell[..cell.len().min(20)]);
                let what = if column == 0 { "label" } else { "pixel" };
                format!("line {line}, column {}: {what} {cell:?}, expected a whole number from 0 to 255", column + 1)
            })?;
            if column == 0 {
                rows.labels.push(value);
            } else {
                rows.pixels.push(value);
            }
        }
    }
    if rows.labels.is_empty() {
        bail!("no image in the file: expected rows of {COLUMNS} columns");
    }
    Ok(rows)
}

fn is_header(record: &csv::ByteRecord) -> bool {
    let is_number =
        |cell: &[u8]| std::str::from_utf8(cell).is_ok_and(|text| text.parse::<f64>().is_ok());
    record.iter().take(2).all(|cell| !is_number(cell))
}

fn byte(cell: &[u8]) -> Option<u8> {
    std::str::from_utf8(cell).ok()?.parse().ok()
}

/// Writes a file with the header `label,pixel1,…,pixel784`; `pixels` is `[N, 28, 28]`.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn write(path: &Path, labels: &[u8], pixels: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        write!(out, "label")?;
        for pixel in 1..=PIXELS {
            write!(out, ",pixel{pixel}")?;
        }
        out.write_all(b"\n")?;
        for (label, image) in labels.iter().zip(pixels.chunks_exact(PIXELS)) {
            write!(out, "{label}")?;
            for pixel in image {
                write!(out, ",{pixel}")?;
            }
            out.write_all(b"\n")?;
        }
        out.flush()
    };
    write().with_context(|| format!("{}: cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(label: &str, pixel: &str) -> String {
        format!("{label}{}\n", format!(",{pixel}").repeat(PIXELS))
    }

    fn message(content: &str) -> String {
        format!("{:#}", parse(content.as_bytes()).unwrap_err())
    }

    #[test]
    fn round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let rows = Rows {
            labels: vec![9, 255],
            pixels: (0..2 * PIXELS).map(|index| index as u8).collect(),
        };
        write(&path, &rows.labels, &rows.pixels).unwrap();
        assert!(
            std::fs::read_to_string(&path)
                .unwrap()
                .starts_with("label,pixel1,pixel2,")
        );
        assert_eq!(read(&path).unwrap(), rows);
    }

    #[test]
    fn header_byte_order_mark_and_crlf_are_optional() {
        let plain = parse((row("3", "7") + &row("0", "255")).as_bytes()).unwrap();
        assert_eq!(
            (plain.labels.as_slice(), plain.pixels.len()),
            (&[3, 0][..], 2 * PIXELS)
        );
        let header = format!("\u{feff}label{}\r\n", ",pixel".repeat(PIXELS));
        let windows = header + &(row("3", "7") + &row("0", "255")).replace('\n', "\r\n");
        assert_eq!(parse(windows.as_bytes()).unwrap(), plain);
    }

    #[test]
    fn wrong_cells_name_line_and_column() {
        let good = row("1", "0");
        assert!(
            message(&format!("{good}{}", row("256", "0")))
                .starts_with("line 2, column 1: label \"256\", expected")
        );
        assert!(message(&format!("{good}{}", row("-1", "0"))).contains("label \"-1\""));
        assert!(message(&row("1", "300")).contains("line 1, column 2: pixel \"300\""));
        assert!(
            message(&format!("{good}{}", row("1", "x"))).contains("line 2, column 2: pixel \"x\"")
        );
        assert!(message(&row("dress", "0")).contains("line 1, column 1: label \"dress\""));
        assert!(message(&row("1", "0.5")).contains("whole number"));
    }

    #[test]
    fn other_column_counts_are_refused() {
        let short = row("1", "0").replacen(",0", "", 1);
        assert!(message(&short).starts_with("line 1: 784 columns, expected 785"));
        assert!(message(&format!("{}{short}", row("1", "0"))).starts_with("line 2: 784 columns"));
        assert!(message("").contains("no image in the file"));
        assert!(message(&format!("label{}\n", ",pixel".repeat(PIXELS))).contains("no image"));
    }
}
