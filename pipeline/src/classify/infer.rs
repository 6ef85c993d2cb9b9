//! The third stage: a session of the model, which turns decoded slabs into rows.

use std::sync::mpsc::SyncSender;

use anyhow::{Context as _, Result};

use super::batch::{Looked, Todo};
use super::queue::{Receiver, Sender};
use super::rows::{Kept, RowInProgress, row};
use super::stages::{Decoded, Labelled, timed};
use super::summary::StageTimes;
use crate::model::Classifier;

/// A session, and what goes in and out of it.
pub(super) struct Infer<'a> {
    pub(super) classifier: &'a mut Classifier,
    pub(super) kept: Kept<'a>,
    pub(super) decoded: Receiver<Decoded>,
    /// Where pixels go back to when they are through.
    pub(super) buffers: SyncSender<Vec<u8>>,
    pub(super) labelled: Sender<Labelled>,
}

impl Infer<'_> {
    /// Ends when no slab comes any more, or when nobody takes its rows.
    ///
    /// # Errors
    /// When the model cannot be run.
    pub(super) fn run(mut self) -> Result<StageTimes> {
        let mut times = StageTimes::default();
        while let Ok(next) = timed(&mut times.starved_seconds, || self.decoded.recv()) {
            let Decoded {
                slab,
                looked,
                pixels,
                forget,
            } = next;
            let images = looked.iter().filter(|looked| looked.is_image()).count();
            times.files += images as u64;
            let rows = timed(&mut times.busy_seconds, || -> Result<_> {
                // A batch without a single image is not worth a run of the model.
                let predictions = if images > 0 {
                    Some(
                        self.classifier
                            .classify(&pixels, looked.len())
                            .context("the model could not be run")?,
                    )
                } else {
                    None
                };
                let mut new = join(slab.files, looked).map(|(image, file, looked)| {
                    row(image, file, looked, predictions.as_ref(), self.kept)
                });
                let rows = slab.rows.into_iter();
                Ok(rows
                    .filter_map(|known| known.map(RowInProgress::Whole).or_else(|| new.next()))
                    .collect())
            })?;
            // At the end nobody wants the buffer back.
            let _ = self.buffers.send(pixels);
            let labels = Labelled {
                rows,
                skipped: slab.skipped,
                forget,
            };
            if timed(&mut times.blocked_seconds, || self.labelled.send(labels)).is_err() {
                break;
            }
        }
        times.queue_depth = Some(self.decoded.mean_depth());
        Ok(times.over())
    }
}

fn join(files: Vec<Todo>, looked: Vec<Looked>) -> impl Iterator<Item = (usize, Todo, Looked)> {
    files
        .into_iter()
        .zip(looked)
        .enumerate()
        .map(|(image, (file, looked))| (image, file, looked))
}
