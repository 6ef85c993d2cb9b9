//! Two files of labels side by side, joined by path: both are in path order, so one row of each is in memory at a time.

use std::io::Read;

use anyhow::Result;

use super::labels_file::{LabelRow, LabelsReader};

/// A file, as one or both of two files of labels have it.
#[derive(Clone, Debug, PartialEq)]
pub enum Pair {
    /// Only the first has it.
    Old(LabelRow),
    /// Only the second has it.
    New(LabelRow),
    /// Both have it: the row of the first, then that of the second.
    Both(LabelRow, LabelRow),
}

/// Reads two files of labels to their ends, in path order.
pub struct LabelsJoin<A, B> {
    old: Ahead<A>,
    new: Ahead<B>,
}

/// A file of labels, read one row ahead.
struct Ahead<R> {
    reader: LabelsReader<R>,
    next: Option<LabelRow>,
}

impl<R: Read> Ahead<R> {
    fn new(mut reader: LabelsReader<R>) -> Result<Self> {
        let next = reader.next_row()?;
        Ok(Self { reader, next })
    }

    /// The row that was read, and the one behind it in its place.
    fn take(&mut self) -> Result<Option<LabelRow>> {
        let following = match &self.next {
            Some(_) => self.reader.next_row()?,
            None => None,
        };
        Ok(std::mem::replace(&mut self.next, following))
    }
}

impl<A: Read, B: Read> LabelsJoin<A, B> {
    /// Joins two files of labels.
    ///
    /// # Errors
    /// When the first row of one cannot be read.
    pub fn new(old: LabelsReader<A>, new: LabelsReader<B>) -> Result<Self> {
        Ok(Self {
            old: Ahead::new(old)?,
            new: Ahead::new(new)?,
        })
    }

    /// The next file; none at the end of both.
    ///
    /// # Errors
    /// When a file cannot be read further; see [`LabelsReader::next_row`].
    pub fn next_pair(&mut self) -> Result<Option<Pair>> {
        let order = match (&self.old.next, &self.new.next) {
            (None, None) => return Ok(None),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(old), Some(new)) => old.key.cmp(&new.key),
        };
        let old = if order.is_le() {
            self.old.take()?
        } else {
            None
        };
        let new = if order.is_ge() {
            self.new.take()?
        } else {
            None
        };
        Ok(match (old, new) {
            (Some(old), Some(new)) => Some(Pair::Both(old, new)),
            (Some(old), None) => Some(Pair::Old(old)),
            (None, Some(new)) => Some(Pair::New(new)),
            (None, None) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;

    use super::*;
    use crate::classify::key::Key;
    use crate::classify::path_text::path_text;

    /// Names that differ in what matters to the order: folders, and letters on both sides of the separator.
    fn path() -> impl Strategy<Value = PathBuf> {
        let component = proptest::string::string_regex("[a -.%é]?[ab%]").unwrap();
        proptest::collection::vec(component, 1..4)
            .prop_map(|components| components.iter().collect())
    }

    fn labels() -> impl Strategy<Value = BTreeMap<Key, (PathBuf, u8)>> {
        proptest::collection::vec((path(), 0..3u8), 0..12).prop_map(|rows| {
            rows.into_iter()
                .map(|(path, label)| (Key::of(&path), (path, label)))
                .collect()
        })
    }

    fn csv(labels: &BTreeMap<Key, (PathBuf, u8)>) -> Vec<u8> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer
            .write_record(["path", "label", "confidence", "status"])
            .unwrap();
        for (path, label) in labels.values() {
            let row = [&path_text(path), &format!("class {label}"), "0.5", "ok"];
            writer.write_record(row).unwrap();
        }
        writer.into_inner().unwrap()
    }

    fn label(row: &LabelRow) -> String {
        row.label.clone().unwrap().0
    }

    proptest! {
        #[test]
        fn the_join_is_that_of_two_maps(old in labels(), new in labels()) {
            let (old_bytes, new_bytes) = (csv(&old), csv(&new));
            let reader = |bytes| LabelsReader::new(Path::new("labels.csv"), bytes).unwrap();
            let mut join = LabelsJoin::new(reader(&old_bytes[..]), reader(&new_bytes[..])).unwrap();
            let mut joined = Vec::new();
            while let Some(pair) = join.next_pair().unwrap() {
                joined.push(match pair {
                    Pair::Old(old) => (old.path.clone(), Some(label(&old)), None),
                    Pair::New(new) => (new.path.clone(), None, Some(label(&new))),
                    Pair::Both(old, new) => {
                        prop_assert_eq!(&old.path, &new.path);
                        (old.path.clone(), Some(label(&old)), Some(label(&new)))
                    }
                });
            }
            let mut keys: Vec<&Key> = old.keys().chain(new.keys()).collect();
            keys.sort();
            keys.dedup();
            let found = |labels: &BTreeMap<Key, (PathBuf, u8)>, key: &Key| {
                labels.get(key).map(|(_, label)| format!("class {label}"))
            };
            let naive: Vec<_> = keys
                .into_iter()
                .map(|key| {
                    let (path, _) = old.get(key).or_else(|| new.get(key)).unwrap();
                    (path_text(path), found(&old, key), found(&new, key))
                })
                .collect();
            prop_assert_eq!(joined, naive);
        }
    }
}
