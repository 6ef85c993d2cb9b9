//! What earlier runs already know, joined with the walk: both are in path order, so one row of each is in memory at a time.

use anyhow::Result;
use serde::Serialize;

use super::journal::{Reader, Remembered};
use super::key::Key;
use super::rows::Outcome;
use crate::decode::{Stamp, Status};

/// How the files of this run compare with those of the last one that came to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Taken over from a run that was stopped; these are in none of the other counts.
    pub continued: u64,
    /// Taken over from the last run: nothing about them changed.
    pub reused: u64,
    /// There was no such file.
    pub new: u64,
    /// Size, time or content differ.
    pub changed: u64,
    /// Could not be classified last time, and were tried again.
    pub retried: u64,
    /// There is no such file any more.
    pub gone: u64,
}

/// What is known of a file.
#[derive(Debug, PartialEq)]
pub(crate) enum Known {
    /// Nothing that still holds.
    Nothing,
    /// Its row.
    Row(Remembered),
    /// Its row, if its content is still the same.
    IfSame(Remembered),
}

/// The rows of earlier runs.
pub(crate) struct Earlier {
    stopped: Cursor,
    previous: Cursor,
    /// Whether only the content tells that a file is the same, not its time of change.
    by_content: bool,
    comparison: Comparison,
}

impl Earlier {
    pub(crate) fn new(
        stopped: Option<Reader>,
        previous: Option<Reader>,
        by_content: bool,
    ) -> Result<Self> {
        Ok(Self {
            stopped: Cursor::new(stopped)?,
            previous: Cursor::new(previous)?,
            by_content,
            comparison: Comparison::default(),
        })
    }

    /// Says what is known of a file. Files have to be asked for in path order.
    pub(crate) fn find(&mut self, key: &Key, stamp: Stamp) -> Result<Known> {
        let (stopped, _) = self.stopped.find(key)?;
        let (previous, gone) = self.previous.find(key)?;
        self.comparison.gone += gone;
        // What was done an hour ago is not looked at again, be it good or bad; what was done last night is.
        if let Some(row) = stopped.filter(|row| row.stamp == stamp) {
            self.comparison.continued += 1;
            return Ok(Known::Row(row));
        }
        let comparison = &mut self.comparison;
        Ok(match previous {
            None => {
                comparison.new += 1;
                Known::Nothing
            }
            Some(row) if !matches!(row.outcome.status(), Status::Ok | Status::Degraded) => {
                comparison.retried += 1;
                Known::Nothing
            }
            // Counted once the content is known.
            Some(row) if self.by_content && row.stamp.bytes == stamp.bytes => Known::IfSame(row),
            Some(row) if !self.by_content && row.stamp == stamp => {
                comparison.reused += 1;
                Known::Row(row)
            }
            Some(_) => {
                comparison.changed += 1;
                Known::Nothing
            }
        })
    }

    /// Ends the walk: what was not asked for is gone.
    pub(crate) fn finish(mut self) -> Result<Comparison> {
        self.comparison.gone += self.previous.count_rest()?;
        Ok(self.comparison)
    }
}

/// Whether a file that was to be the same by its content is.
pub(crate) fn is_same(remembered: &Remembered, content: Option<blake3::Hash>) -> bool {
    remembered.content.is_some() && remembered.content == content
}

struct Cursor {
    reader: Option<Reader>,
    next: Option<Remembered>,
}

impl Cursor {
    fn new(reader: Option<Reader>) -> Result<Self> {
        let mut cursor = Self { reader, next: None };
        cursor.advance()?;
        Ok(cursor)
    }

    fn advance(&mut self) -> Result<()> {
        self.next = match &mut self.reader {
            Some(reader) => reader.next_row()?,
            None => None,
        };
        Ok(())
    }

    /// The row at `key`, and how many rows before it nobody asked for.
    fn find(&mut self, key: &Key) -> Result<(Option<Remembered>, u64)> {
        let mut passed = 0;
        while self.next.as_ref().is_some_and(|next| next.key < *key) {
            passed += 1;
            self.advance()?;
        }
        let found = self.next.take_if(|next| next.key == *key);
        if found.is_some() {
            self.advance()?;
        }
        Ok((found, passed))
    }

    fn count_rest(&mut self) -> Result<u64> {
        let mut rest = 0;
        while self.next.is_some() {
            rest += 1;
            self.advance()?;
        }
        Ok(rest)
    }
}

/// Outcomes that depend on nothing but the content, so that they hold for every file with the same.
pub(crate) fn depends_on_content(outcome: &Outcome) -> bool {
    !matches!(
        outcome.status(),
        Status::Unreadable | Status::Vanished | Status::ReadError
    )
}
