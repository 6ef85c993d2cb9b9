//! The loss of every step as CSV, for those who compare two machines or look for the step at which a run went wrong.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};

use crate::training::events::Event;

/// Name of the file in the output folder.
const STEPS_FILE: &str = "steps.csv";
/// Its columns.
const COLUMNS: [&str; 5] = ["epoch", "step", "loss", "learning_rate", "images"];

/// Writes a row for each step. A run that is continued begins the file anew, at the step it goes on with.
pub(super) struct StepLog {
    rows: csv::Writer<File>,
    epoch: usize,
    /// The first row that could not be written; the training goes on.
    failure: Option<csv::Error>,
}

impl StepLog {
    /// Begins the file in the output folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn create(folder: &Path) -> Result<Self> {
        let path = folder.join(STEPS_FILE);
        let mut rows = csv::Writer::from_path(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        rows.write_record(COLUMNS)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self {
            rows,
            epoch: 0,
            failure: None,
        })
    }

    /// Takes what the loop tells.
    pub(super) fn take(&mut self, event: &Event) {
        match event {
            Event::EpochStarted { epoch } => self.epoch = *epoch,
            Event::StepDone {
                step,
                loss,
                learning_rate,
                images,
                ..
            } if self.failure.is_none() => {
                let row = (self.epoch, step, loss, learning_rate, images);
                self.failure = self.rows.serialize(row).err();
            }
            _ => {}
        }
    }

    /// Puts the last rows on disk.
    ///
    /// # Errors
    /// When a row could not be written.
    pub(super) fn finish(mut self) -> Result<()> {
        let written = match self.failure {
            Some(error) => Err(error),
            None => self.rows.flush().map_err(csv::Error::from),
        };
        written.with_context(|| format!("{STEPS_FILE} could not be written"))
    }
}
