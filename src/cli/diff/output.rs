//! Where a comparison is written: places are made before anything is read, and files appear at the end.

use std::io::{self, Stdout, Write as _};
use std::path::Path;

use anyhow::{Context as _, Error, Result, ensure};
use pipeline::atomic_file::StagedFile;

use super::DiffArgs;
use crate::diff::change::Change;
use crate::diff::csv::ChangesCsv;

/// The files that were asked for.
pub(super) struct Outputs {
    changes: Changes,
    html: Option<StagedFile>,
}

/// Where changes go.
enum Changes {
    Nowhere,
    File(Box<ChangesCsv<StagedFile>>),
    Stdout(Box<ChangesCsv<Stdout>>),
    /// To standard output, whose reader went away.
    Unread,
}

impl Outputs {
    /// Makes the files, so that a place that cannot be written is known at once.
    pub(super) fn create(arguments: &DiffArgs, has_decisions: bool) -> Result<Self> {
        let DiffArgs {
            old,
            new,
            html,
            out,
            ..
        } = arguments;
        for written in [html, out].into_iter().flatten() {
            ensure!(
                written != old && written != new,
                "{} is one of the files that are compared; write to another place",
                written.display()
            );
        }
        ensure!(
            html.is_none() || html != out,
            "the page and the changes cannot have the same file; give --html and --out different names"
        );
        let changes = match out.as_deref() {
            None => Changes::Nowhere,
            Some(path) if path == Path::new("-") => {
                Changes::Stdout(Box::new(ChangesCsv::new(io::stdout(), has_decisions)?))
            }
            Some(path) => {
                let file = StagedFile::create(path)?;
                Changes::File(Box::new(ChangesCsv::new(file, has_decisions)?))
            }
        };
        Ok(Self {
            changes,
            html: html.as_deref().map(StagedFile::create).transpose()?,
        })
    }

    /// Writes one change.
    pub(super) fn write(&mut self, change: &Change) -> Result<()> {
        match &mut self.changes {
            Changes::Nowhere | Changes::Unread => Ok(()),
            Changes::File(csv) => csv.write(change),
            Changes::Stdout(csv) => match csv.write(change) {
                // As in `| head`: the figures and the exit code are still wanted.
                Err(error) if is_unread(&error) => {
                    self.changes = Changes::Unread;
                    Ok(())
                }
                written => written,
            },
        }
    }

    /// Whether the changes are what goes to standard output.
    pub(super) fn is_stdout_taken(&self) -> bool {
        matches!(self.changes, Changes::Stdout(_) | Changes::Unread)
    }

    /// Puts the files in place, all of them whole before the first appears.
    pub(super) fn publish(self, html: Option<String>) -> Result<()> {
        let mut whole = Vec::new();
        match self.changes {
            Changes::Nowhere | Changes::Unread => {}
            Changes::File(csv) => whole.push(csv.finish()?.make_durable()?),
            Changes::Stdout(csv) => match csv.finish() {
                Err(error) if !is_unread(&error) => return Err(error),
                _ => {}
            },
        }
        if let (Some(mut file), Some(html)) = (self.html, html) {
            file.write_all(html.as_bytes())
                .context("the page cannot be written")?;
            whole.push(file.make_durable()?);
        }
        whole.into_iter().try_for_each(|file| file.publish())
    }
}

/// Whether the error is that whoever read went away.
fn is_unread(error: &Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>().or_else(|| {
            match cause.downcast_ref::<csv::Error>()?.kind() {
                csv::ErrorKind::Io(error) => Some(error),
                _ => None,
            }
        });
        io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}
