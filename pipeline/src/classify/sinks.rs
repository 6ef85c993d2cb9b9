//! The last stage: every row, in order, into the labels, the journal and the summary.

use anyhow::{Context as _, Result, bail, ensure};

use super::columns::Columns;
use super::contents::Contents;
use super::csv_output::CsvOutput;
use super::earlier::depends_on_content;
use super::journal::Writer as JournalWriter;
use super::jsonl_output::JsonlOutput;
use super::output::Output;
use super::path_text::path_text;
use super::rows::{Origin, Outcome, Row, RowInProgress};
use super::ruling::{Rules, Ruling};
use super::settings::Format;
use super::sorted::Sorter;
use super::summary::Summary;
use crate::decode::Status;

/// The labels in one of their formats.
pub(super) enum Labels {
    Csv(Box<CsvOutput<Output>>),
    Jsonl(JsonlOutput<Output>),
}

/// Everything a row goes into.
pub(super) struct Sinks {
    pub(super) labels: Labels,
    pub(super) journal: Option<JournalWriter>,
    pub(super) sorter: Option<Sorter>,
    /// What decides about rows.
    pub(super) rules: Rules,
    pub(super) summary: Summary,
    pub(super) stop_after_failures: Option<u64>,
    /// What became of contents that may come again.
    pub(super) contents: Contents,
}

impl Labels {
    pub(super) fn new(output: Output, format: Format, columns: Columns<'_>) -> Result<Self> {
        Ok(match format {
            Format::Csv => Self::Csv(Box::new(CsvOutput::new(output, columns)?)),
            Format::Excel => Self::Csv(Box::new(CsvOutput::for_excel(output, columns)?)),
            Format::Jsonl => Self::Jsonl(JsonlOutput::new(output, columns)),
        })
    }

    fn write(&mut self, row: &Row, ruling: Ruling) -> Result<()> {
        match self {
            Self::Csv(output) => output.write(row, ruling),
            Self::Jsonl(output) => output.write(row, ruling),
        }
        .context("the labels could not be written")
    }

    pub(super) fn finish(self) -> Result<Output> {
        match self {
            Self::Csv(output) => output.finish(),
            Self::Jsonl(output) => output.finish(),
        }
        .context("the labels could not be written")
    }
}

impl Sinks {
    /// Writes the rows of a slab; they survive a kill from here on.
    pub(super) fn write(&mut self, rows: Vec<RowInProgress>) -> Result<()> {
        for row in rows {
            let row = self.complete(row)?;
            self.check(&row)?;
            if let Some(content) = row.content
                && row.origin == Origin::ThisRun
                && depends_on_content(&row.outcome)
            {
                self.contents.add(content, &row.outcome);
            }
            if let Some(journal) = &mut self.journal {
                journal.write(&row)?;
            }
            let ruling = self.rules.rule(&row.outcome);
            if let Some(sorter) = &mut self.sorter {
                sorter.place(&row, ruling)?;
            }
            self.labels.write(&row, ruling)?;
            self.summary.count(&row, ruling);
            self.stop_at_failure(&row)?;
        }
        match &mut self.journal {
            Some(journal) => journal.commit(),
            None => Ok(()),
        }
    }

    fn complete(&self, row: RowInProgress) -> Result<Row> {
        match row {
            RowInProgress::Whole(row) => Ok(row),
            RowInProgress::Duplicate {
                source,
                stamp,
                content,
            } => {
                let outcome = self.contents.outcome(&content);
                Ok(Row {
                    outcome: outcome.with_context(|| {
                        format!(
                            "{} is the same as another file, of which nothing is known; this is a bug of the program",
                            source.path.display()
                        )
                    })?,
                    source,
                    stamp,
                    content: Some(content),
                    origin: Origin::Duplicate,
                })
            }
        }
    }

    /// What a journal says is used as an index, so it is not trusted.
    fn check(&self, row: &Row) -> Result<()> {
        if let Outcome::Labelled { best, above, .. } = &row.outcome {
            let expected = match (&self.rules.taxonomy, best.first()) {
                (Some(taxonomy), Some(first)) => taxonomy.ancestors(first.class).count(),
                _ => 0,
            };
            ensure!(
                above.len() == expected,
                "the journal has {} sums of categories for {} where there are {expected}; start anew with --overwrite",
                above.len(),
                row.source.path.display()
            );
            ensure!(
                best.iter()
                    .all(|best| best.class < self.summary.classes.len()),
                "the journal has a class for {} that the model does not have; start anew with --overwrite",
                row.source.path.display()
            );
        }
        Ok(())
    }

    fn stop_at_failure(&mut self, row: &Row) -> Result<()> {
        let status = row.outcome.status();
        let failures = self.summary.found - self.summary.with_status(Status::Ok);
        match self.stop_after_failures {
            Some(most) if status != Status::Ok && failures > most => {
                // The row that ends the run is not done again either.
                if let Some(journal) = &mut self.journal {
                    journal.commit()?;
                }
                let reason = match &row.outcome {
                    Outcome::Failed(fault) => fault.message.as_str(),
                    Outcome::Labelled { damage, .. } => damage.as_deref().unwrap_or_default(),
                };
                bail!(
                    "{} is {status}: {reason}; the run ends: {failures} not ok, {most} allowed",
                    path_text(&row.source.shown)
                )
            }
            _ => Ok(()),
        }
    }
}
