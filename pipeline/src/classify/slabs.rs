//! The walk, cut into slabs: a batch of files to look at, with the rows between them that earlier runs know already.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::batch::Todo;
use super::earlier::{Comparison, Earlier, Known};
use super::key::Key;
use super::rows::{Origin, Outcome, Row};
use super::settings::Settings;
use super::shard::Shard;
use super::walk::{SkipReason, Source, Visit, Walk};
use crate::decode::{Fault, Stamp};

/// Rows of a slab that need no look, at most; neither may a tree full of what gets no row be collected in memory.
const OTHERS: usize = 4096;

/// Some files in path order.
#[derive(Default)]
pub(crate) struct Slab {
    /// Rows that are known; none for each of `files`, in order.
    pub(crate) rows: Vec<Option<Row>>,
    /// Files to look at, at most a batch.
    pub(crate) files: Vec<Todo>,
    /// What got no row.
    pub(crate) skipped: Vec<(PathBuf, SkipReason)>,
}

/// All files that the walk found, whichever shard they belong to: shards of the same tree agree on this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// How many there are.
    pub files: u64,
    /// Hash over their paths, as the output shows them.
    pub digest: String,
}

/// What is known at the end of the walk.
pub(crate) struct Walked {
    /// Less the files that can be told only by their content.
    pub(crate) comparison: Comparison,
    pub(crate) tree: Tree,
}

/// The walk in slabs.
pub(crate) struct Slabs {
    walk: Walk,
    earlier: Earlier,
    shard: Option<Shard>,
    batch_size: usize,
    files: u64,
    paths: Box<blake3::Hasher>,
}

impl Slabs {
    pub(crate) fn new(settings: &Settings, earlier: Earlier) -> Self {
        Self {
            walk: Walk::new(settings.inputs.clone()),
            earlier,
            shard: settings.shard,
            batch_size: settings.batch_size,
            files: 0,
            paths: Box::default(),
        }
    }

    /// The next slab; none behind the last file.
    pub(crate) fn next(&mut self) -> Result<Option<Slab>> {
        let mut slab = Slab::default();
        while slab.files.len() < self.batch_size && slab.others() < OTHERS {
            match self.walk.next().transpose()? {
                Some(Visit::File(source, stamp)) => self.add(&mut slab, source, stamp)?,
                Some(Visit::Skipped { path, reason }) => slab.skipped.push((path, reason)),
                None if slab.rows.is_empty() && slab.skipped.is_empty() => return Ok(None),
                None => break,
            }
        }
        Ok(Some(slab))
    }

    fn add(&mut self, slab: &mut Slab, source: Source, stamp: Result<Stamp, Fault>) -> Result<()> {
        let key = Key::of(&source.shown);
        self.files += 1;
        // Behind each path a byte that none contains in this place.
        self.paths.update(key.as_bytes()).update(&[0, 0]);
        if self.shard.is_some_and(|shard| !shard.has(&key)) {
            return Ok(());
        }
        let row = match stamp {
            Err(fault) => Some(Row {
                source,
                stamp: Stamp::default(),
                content: None,
                outcome: Outcome::Failed(fault),
                origin: Origin::ThisRun,
            }),
            Ok(stamp) => {
                let mut last_time = None;
                match self.earlier.find(&key, stamp)? {
                    Known::Row(known) => Some(Row {
                        source,
                        stamp,
                        content: known.content,
                        outcome: known.outcome,
                        origin: Origin::Earlier,
                    }),
                    known => {
                        if let Known::IfSame(known) = known {
                            last_time = Some(known);
                        }
                        slab.files.push(Todo {
                            source,
                            stamp,
                            last_time,
                        });
                        None
                    }
                }
            }
        };
        slab.rows.push(row);
        Ok(())
    }

    /// Ends the walk.
    pub(crate) fn finish(self) -> Result<Walked> {
        Ok(Walked {
            comparison: self.earlier.finish()?,
            tree: Tree {
                files: self.files,
                digest: self.paths.finalize().to_hex().to_string(),
            },
        })
    }
}

impl Slab {
    fn others(&self) -> usize {
        (self.rows.len() - self.files.len()).max(self.skipped.len())
    }
}
