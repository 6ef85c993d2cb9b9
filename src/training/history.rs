//! The figures of every epoch of a run, as a table.

use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use pipeline::atomic_file;

use super::events::EpochSummary;

/// The figures of every epoch so far, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// One entry per finished epoch.
    pub epochs: Vec<EpochSummary>,
}

impl History {
    /// The last epoch that was the best when it ended; `None` before the first.
    pub fn best(&self) -> Option<&EpochSummary> {
        self.epochs.iter().rev().find(|epoch| epoch.is_best)
    }

    /// Writes the history as CSV: a header, which is there even without epochs, and a row per epoch.
    ///
    /// # Errors
    /// When `writer` fails.
    pub fn write_csv(&self, writer: impl Write) -> csv::Result<()> {
        let mut csv = csv::WriterBuilder::new()
            .has_headers(false)
            .from_writer(writer);
        csv.write_record(COLUMNS)?;
        for epoch in &self.epochs {
            csv.serialize(epoch)?;
        }
        csv.flush()?;
        Ok(())
    }

    /// Reads what [`History::write_csv`] wrote.
    ///
    /// # Errors
    /// When a column is missing or a cell is not of its type; the error names the line.
    pub fn read_csv(reader: impl Read) -> csv::Result<Self> {
        let epochs = csv::Reader::from_reader(reader)
            .into_deserialize()
            .collect::<csv::Result<_>>()?;
        Ok(Self { epochs })
    }

    /// Writes `history.csv`, or whatever `path` is called, replacing the old one only when the new one is whole.
    ///
    /// # Errors
    /// When the file cannot be written; the error names it.
    pub fn save(&self, path: &Path) -> Result<()> {
        atomic_file::write(path, |file| Ok(self.write_csv(file)?))
            .context("the training history cannot be saved")
    }
}

/// The fields of [`EpochSummary`] in order; a test holds them to it.
const COLUMNS: [&str; 9] = [
    "epoch",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "learning_rate",
    "seconds",
    "images_per_second",
    "is_best",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> History {
        let epoch = |epoch, validation_accuracy, is_best| EpochSummary {
            epoch,
            train_loss: 0.75,
            train_accuracy: 0.9,
            validation_loss: 0.5,
            validation_accuracy,
            learning_rate: 0.001,
            seconds: 12.5,
            images_per_second: 4800.0,
            is_best,
        };
        History {
            epochs: vec![
                epoch(1, 0.8, true),
                epoch(2, 0.9, true),
                epoch(3, 0.85, false),
            ],
        }
    }

    fn csv(history: &History) -> String {
        let mut bytes = Vec::new();
        history.write_csv(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn csv_has_a_header_and_a_row_per_epoch() {
        insta::assert_snapshot!(csv(&history()), @r"
        epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,learning_rate,seconds,images_per_second,is_best
        1,0.75,0.9,0.5,0.8,0.001,12.5,4800.0,true
        2,0.75,0.9,0.5,0.9,0.001,12.5,4800.0,true
        3,0.75,0.9,0.5,0.85,0.001,12.5,4800.0,false
        ");
    }

    #[test]
    fn header_is_there_without_epochs_and_names_the_fields() {
        let derived = {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.serialize(history().epochs[0]).unwrap();
            String::from_utf8(writer.into_inner().unwrap()).unwrap()
        };
        assert_eq!(
            csv(&History::default()).trim_end(),
            derived.lines().next().unwrap()
        );
    }

    #[test]
    fn reads_back() {
        assert_eq!(
            History::read_csv(csv(&history()).as_bytes()).unwrap(),
            history()
        );
        assert_eq!(
            History::read_csv(csv(&History::default()).as_bytes()).unwrap(),
            History::default()
        );
    }

    #[test]
    fn a_damaged_file_is_an_error_with_its_line() {
        let text = csv(&history()).replace("0.85", "much");
        let error = History::read_csv(text.as_bytes()).unwrap_err().to_string();
        assert!(
            error.contains("line: 4") && error.contains("invalid float"),
            "{error}"
        );
    }

    #[test]
    fn the_best_is_the_last_that_was_best_when_it_ended() {
        assert_eq!(history().best().map(|epoch| epoch.epoch), Some(2));
        assert_eq!(History::default().best(), None);
    }

    #[test]
    fn saving_replaces_the_old_file_and_names_a_path_it_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.csv");
        std::fs::write(&path, "old").unwrap();
        history().save(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), csv(&history()));
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no temporary file stays"
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let plain = folder.path().join("plain");
            std::fs::write(&plain, "").unwrap();
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode(&path), mode(&plain), "as readable as any other file");
        }
        let error = format!(
            "{:#}",
            history()
                .save(&folder.path().join("missing/history.csv"))
                .unwrap_err()
        );
        assert!(
            error.contains("history") && error.contains("missing cannot be written"),
            "{error}"
        );
    }
}
