//! What a network under training says about images it does not learn from.

use anyhow::{Context, Result};
use ndarray::Array2;

use crate::dataset::Split;
use crate::metrics::{Scores, Tally};

use super::augment::ImageShape;
use super::session::TrainingSession;

/// Images per evaluation step.
const EVALUATION_BATCH: usize = 256;
/// At most so many training images are evaluated on after each epoch.
const SAMPLE_IMAGES: usize = 2000;
/// At most so many validation images are kept to compare the exported model with.
const HELD_OUT_IMAGES: usize = 1000;

/// What the trained network says about the validation images.
#[derive(Clone, Debug)]
pub struct HeldOut {
    /// Pixels of the first images, `[at most 1000, H, W, C]`.
    pub images: Vec<u8>,
    /// Logits of all images, `[N, K]`.
    pub logits: Array2<f32>,
    /// Their true classes, `[N]`.
    pub labels: Vec<u32>,
}

/// Training images spread evenly over the split.
pub(super) fn sample(train: &Split, shape: ImageShape) -> Split {
    let count = train.len().min(SAMPLE_IMAGES);
    let chosen = (0..count).map(|index| index * train.len() / count);
    let image = |index: usize| &train.pixels[index * shape.len()..(index + 1) * shape.len()];
    Split {
        pixels: chosen.clone().flat_map(image).copied().collect(),
        labels: chosen.map(|index| train.labels[index]).collect(),
        sources: Vec::new(),
    }
}

/// Mean cross-entropy and accuracy on a split, by the evaluation step; nothing where a logit is no number.
pub(super) fn evaluate(
    session: &TrainingSession,
    split: &Split,
    shape: ImageShape,
) -> Result<Option<(f64, f64)>> {
    let mut tally: Option<Tally> = None;
    let batches = split.pixels.chunks(EVALUATION_BATCH * shape.len());
    for (images, labels) in batches.zip(split.labels.chunks(EVALUATION_BATCH)) {
        let logits = session.evaluate(images)?;
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Ok(None);
        }
        let tally = tally.get_or_insert_with(|| Tally::new(logits.ncols(), Scores::Logits));
        for (row, &label) in logits.outer_iter().zip(labels) {
            tally.add(&row.to_vec(), label)?;
        }
    }
    let tally = tally.context("there are no images to evaluate on")?;
    Ok(Some((tally.loss()?, tally.accuracy())))
}

/// Logits of the validation images, as the exported model must give them.
pub(super) fn held_out(
    session: &TrainingSession,
    validation: &Split,
    shape: ImageShape,
    mirror_averaging: bool,
) -> Result<HeldOut> {
    let count = validation.len().min(HELD_OUT_IMAGES);
    let images = validation.pixels[..count * shape.len()].to_vec();
    let mut logits = Vec::new();
    for batch in validation.pixels.chunks(EVALUATION_BATCH * shape.len()) {
        let mut plain = session.evaluate(batch)?;
        if mirror_averaging {
            plain += &session.evaluate(&mirrored(batch, shape))?;
            plain *= 0.5;
        }
        logits.push(plain);
    }
    let views: Vec<_> = logits.iter().map(|batch| batch.view()).collect();
    let logits = ndarray::concatenate(ndarray::Axis(0), &views)?;
    Ok(HeldOut {
        images,
        logits,
        labels: validation.labels.clone(),
    })
}

/// Images `[N, H, W, C]` with left and right exchanged.
fn mirrored(images: &[u8], shape: ImageShape) -> Vec<u8> {
    let rows = images.chunks_exact(shape.width * shape.channels);
    rows.flat_map(|row| row.rchunks_exact(shape.channels).flatten().copied())
        .collect()
}
