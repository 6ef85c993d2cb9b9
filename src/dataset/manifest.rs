//! A manifest: a CSV with the columns `path` and `label` and perhaps `split`; other columns are ignored.
//!
//! Paths are relative to the manifest's folder. Files are not opened here.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::image_files::{LabelledFile, Listing};
use super::{Part, natural_order};

/// Whether a header cell is the column `wanted`, in any case, with or without a byte order mark.
pub(super) fn is_column(cell: &str, wanted: &str) -> bool {
    cell.trim_start_matches('\u{feff}')
        .trim()
        .eq_ignore_ascii_case(wanted)
}

/// Lists the files of a manifest in its order.
///
/// # Errors
/// Names the manifest, the line and what was expected there.
pub(super) fn list(manifest: &Path) -> Result<Listing> {
    let content = File::open(manifest)
        .with_context(|| format!("{}: cannot be opened", manifest.display()))?;
    let folder = manifest.parent().unwrap_or(Path::new(""));
    // `manifest` says nothing; then the folder's name does.
    let named_by = match (manifest.file_stem(), folder.file_name()) {
        (Some(stem), Some(folder)) if stem == "manifest" => folder,
        (stem, _) => stem.unwrap_or_default(),
    };
    let name = named_by.to_string_lossy().into_owned();
    parse(content, folder, name).with_context(|| manifest.display().to_string())
}

fn parse(content: impl Read, folder: &Path, name: String) -> Result<Listing> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .from_reader(content);
    let headers = reader.headers().context("line 1: cannot be read")?.clone();
    let column = |wanted: &str| headers.iter().position(|cell| is_column(cell, wanted));
    let path_column = column("path").context("line 1: no column `path`")?;
    let label_column = column("label").context("line 1: no column `label`")?;
    let part_column = column("split");

    let mut rows = Vec::new();
    let mut first_lines: HashMap<String, u64> = HashMap::new();
    for record in reader.records() {
        let record = record.context("cannot be read")?;
        let line = record.position().map_or(0, csv::Position::line);
        let cell = |column: usize| record.get(column).unwrap_or_default().trim();
        let (path, label) = (cell(path_column), cell(label_column));
        ensure!(!path.is_empty(), "line {line}: no path");
        ensure!(!label.is_empty(), "line {line}: no label for {path}");
        ensure!(
            !label.contains(char::is_control),
            "line {line}: label {label:?} has a control character"
        );
        let part = match part_column.map(cell) {
            None | Some("") => Part::Train,
            Some(part) => Part::parse(part).with_context(|| {
                format!("line {line}: split {part:?}, expected train, validation or test")
            })?,
        };
        if let Some(first) = first_lines.insert(path.to_owned(), line) {
            bail!(
                "line {line}: {path} is listed twice, first on line {first}: an image has one label and one split"
            );
        }
        rows.push((part, path.to_owned(), label.to_owned()));
    }

    let names: BTreeSet<&str> = rows.iter().map(|(_, _, label)| label.as_str()).collect();
    let mut classes: Vec<String> = names.into_iter().map(str::to_owned).collect();
    classes.sort_by(|a, b| natural_order::compare(a, b));
    let labels: HashMap<&str, u32> = classes.iter().map(String::as_str).zip(0..).collect();

    let mut listing = Listing::new(name);
    for (part, path, label) in rows {
        let label = labels
            .get(label.as_str())
            .copied()
            .context("a label without a class")?;
        let file = LabelledFile {
            path: folder.join(&path),
            source: path,
            label,
        };
        listing.files.entry(part).or_default().push(file);
    }
    listing.classes = classes;
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(content: &str) -> Result<Listing> {
        parse(content.as_bytes(), Path::new("shop"), "list".into())
    }

    fn message(content: &str) -> String {
        format!("{:#}", parsed(content).unwrap_err())
    }

    #[test]
    fn columns_are_found_by_name() {
        let listing = parsed(
            "\u{feff}id,Label,\"path\",split\n1,\"bag, large\",x/1.jpg,\n2,size 10,2.jpg,Val\n3,size 9,3.jpg,test\n",
        );
        let listing = listing.unwrap();
        assert_eq!(listing.classes, ["bag, large", "size 9", "size 10"]);
        let first = &listing.files[&Part::Train][0];
        assert_eq!(
            (first.path.as_path(), first.source.as_str(), first.label),
            (Path::new("shop/x/1.jpg"), "x/1.jpg", 0)
        );
        assert_eq!(listing.files[&Part::Validation][0].label, 2);
        assert_eq!(listing.files[&Part::Test][0].label, 1);
    }

    #[test]
    fn wrong_rows_name_their_line() {
        assert!(message("file,label\n").contains("line 1: no column `path`"));
        assert!(message("path,label\na.jpg,bag\nb.jpg,\n").contains("line 3: no label for b.jpg"));
        assert!(message("path,label\na.jpg\n").contains("line 2: no label"));
        assert!(message("path,label\n,bag\n").contains("line 2: no path"));
        assert!(
            message("path,label,split\na.jpg,bag,dev\n")
                .contains("line 2: split \"dev\", expected")
        );
        assert!(
            message("path,label\na.jpg,bag\na.jpg,coat\n")
                .contains("line 3: a.jpg is listed twice, first on line 2")
        );
    }
}
