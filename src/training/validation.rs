//! What a network says about images it does not learn from.

use anyhow::{Context, Result};
use ndarray::Array2;

use crate::dataset::Split;
use crate::evaluation::batch_size;
use crate::metrics::{Scores, Tally};

use super::augment::ImageShape;
use super::examples::Examples;
use super::session::TrainingSession;

/// At most so many training images are evaluated on after each epoch.
const SAMPLE_IMAGES: usize = 2000;
/// At most so many validation images are kept to compare the exported model with.
const HELD_OUT_IMAGES: usize = 1000;

/// What a trained network says about the validation images, or several of them on average.
#[derive(Clone, Debug)]
pub struct HeldOut {
    /// Pixels of the first images, `[at most 1000, H, W, C]`.
    pub images: Vec<u8>,
    /// Logits of all images, `[N, K]`, by the network that is exported.
    pub logits: Array2<f32>,
    /// The same by networks that learnt from none of them, where that network learnt from all.
    pub judged_by_others: Option<Array2<f32>>,
    /// Their true classes, `[N]`.
    pub labels: Vec<u32>,
}

impl HeldOut {
    /// The first images of a split with the logits of all of them.
    ///
    /// # Errors
    /// When the images cannot be read back from their file.
    pub(crate) fn of_split(split: &Split, logits: Array2<f32>) -> Result<Self> {
        let count = split.len().min(HELD_OUT_IMAGES);
        let first: Vec<usize> = (0..count).collect();
        Ok(Self {
            images: split.pixels.subset(&first).to_vec()?,
            logits,
            judged_by_others: None,
            labels: split.labels.clone(),
        })
    }
}

impl HeldOut {
    /// The logits `[N, K]` that say how good the network is: of a network that did not learn from the image.
    pub fn unseen_logits(&self) -> &Array2<f32> {
        self.judged_by_others.as_ref().unwrap_or(&self.logits)
    }
}

/// Places of training examples spread evenly over all of them.
pub(super) fn sample(examples: usize) -> Vec<usize> {
    let count = examples.min(SAMPLE_IMAGES);
    (0..count).map(|index| index * examples / count).collect()
}

/// Mean cross-entropy and accuracy on the examples at some places, by the evaluation step; nothing where a logit is no number.
pub(super) fn evaluate<E: Examples>(
    session: &TrainingSession,
    examples: &E,
    places: &[usize],
) -> Result<Option<(f64, f64)>> {
    let mut tally: Option<Tally> = None;
    let labels = examples.labels();
    for places in places.chunks(batch_size(examples.width())) {
        let logits = session.evaluate(&batch(examples, places)?)?;
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Ok(None);
        }
        let tally = tally.get_or_insert_with(|| Tally::new(logits.ncols(), Scores::Logits));
        for (row, &place) in logits.outer_iter().zip(places) {
            tally.add(&row.to_vec(), labels[place])?;
        }
    }
    let tally = tally.context("there are no images to evaluate on")?;
    Ok(Some((tally.loss()?, tally.accuracy())))
}

/// Logits `[N, K]` of all examples.
pub(super) fn logits<E: Examples>(session: &TrainingSession, examples: &E) -> Result<Array2<f32>> {
    let places: Vec<usize> = (0..examples.labels().len()).collect();
    let batches = places
        .chunks(batch_size(examples.width()))
        .map(|places| session.evaluate(&batch(examples, places)?));
    let batches = batches.collect::<Result<Vec<_>>>()?;
    let views: Vec<_> = batches.iter().map(|batch| batch.view()).collect();
    Ok(ndarray::concatenate(ndarray::Axis(0), &views)?)
}

/// The examples at some places, one behind the other, as they are.
fn batch<E: Examples>(examples: &E, places: &[usize]) -> Result<Vec<E::Element>> {
    let width = examples.width();
    let mut batch = vec![E::Element::default(); places.len() * width];
    for (out, &place) in batch.chunks_exact_mut(width).zip(places) {
        examples.read(place, out)?;
    }
    Ok(batch)
}

/// Logits of the validation images, as the exported model must give them.
pub(super) fn held_out(
    session: &TrainingSession,
    validation: &Split,
    shape: ImageShape,
    mirror_averaging: bool,
) -> Result<HeldOut> {
    let mut logits = Vec::new();
    let places: Vec<usize> = (0..validation.len()).collect();
    for places in places.chunks(batch_size(shape.len())) {
        let batch = validation.pixels.subset(places).to_vec()?;
        let mut plain = session.evaluate(&batch)?;
        if mirror_averaging {
            plain += &session.evaluate(&mirrored(&batch, shape))?;
            plain *= 0.5;
        }
        logits.push(plain);
    }
    let views: Vec<_> = logits.iter().map(|batch| batch.view()).collect();
    let logits = ndarray::concatenate(ndarray::Axis(0), &views)?;
    HeldOut::of_split(validation, logits)
}

/// Images `[N, H, W, C]` with left and right exchanged.
fn mirrored(images: &[u8], shape: ImageShape) -> Vec<u8> {
    let rows = images.chunks_exact(shape.width * shape.channels);
    rows.flat_map(|row| row.rchunks_exact(shape.channels).flatten().copied())
        .collect()
}
