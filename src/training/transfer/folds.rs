//! What the layer behind a frozen backbone says of images that it did not learn from: every image, one fold after the other.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail, ensure};
use ndarray::{Array2, ArrayView1};
use rand_chacha::ChaCha8Rng;

use super::Transfer;
use super::features::{LabelledFeatures, Views};
use super::parts::{Parts, settings};
use crate::dataset::Dataset;
use crate::metrics::softmax;
use crate::training::augment::{ImageShape, MixSettings};
use crate::training::events::Event;
use crate::training::examples::Examples;
use crate::training::fit::{Fitted, Job, fit};
use crate::training::machine::Machine;
use crate::training::options::TrainOptions;
use crate::training::run::{Ending, task};
use crate::training::validation;

/// Probabilities `[N, K]` of the training images, each said by a layer that learnt from the images of the other folds. `folds` has the
/// fold of every image, from 0.
///
/// Every layer has the weights of its last step: to choose an epoch by the images left out would be to look at their labels.
///
/// # Errors
/// When `options` are not those of a frozen backbone, there are fewer than two folds, features cannot be computed or kept, a training
/// diverges, ONNX Runtime reports an error, or `stop` is set.
pub fn out_of_fold<'m>(
    dataset: &Dataset,
    folds: &[usize],
    options: &TrainOptions,
    transfer: Transfer<'_>,
    machine: impl Into<Machine<'m>>,
    stop: &AtomicBool,
    emit: &mut dyn FnMut(&Event),
) -> Result<Array2<f32>> {
    options.validate()?;
    let machine = machine.into();
    let count = folds.iter().max().map_or(0, |&last| last + 1);
    ensure!(count >= 2, "{count} folds: at least 2 are needed");
    let settings = settings(options)?;
    let shape = ImageShape::from(&dataset.preprocess);
    let task = task(dataset, shape, Some(transfer))?;
    let Parts {
        mut extractor,
        tail,
        frozen: _,
    } = Parts::prepare(options, &task, transfer, 0, machine)?;
    let views = Views::Random(settings.variants, options.augment);
    let split = &dataset.train;
    let total = split.len() * views.count();
    let mut done = 0;
    let mut progress = |images: usize| {
        done += images;
        emit(&Event::FeaturesDone { done, total });
        stopped(stop)
    };
    let store = extractor.features(split, &views, transfer.features, &mut progress)?;
    drop(extractor);

    let mut probabilities = Array2::zeros((split.len(), task.classes));
    for fold in 0..count {
        let chosen = |is_wanted: &dyn Fn(usize) -> bool| {
            let features = LabelledFeatures {
                store: &store,
                split,
                view: 0,
            };
            Chosen::new(
                features,
                (0..split.len())
                    .filter(|&place| is_wanted(folds[place]))
                    .collect(),
            )
        };
        let left_out = chosen(&|of| of == fold);
        if left_out.places.is_empty() {
            continue;
        }
        let job = Job {
            network: &tail,
            classes: task.classes,
            train: chosen(&|of| of != fold),
            validation: &left_out,
            data_fingerprint: &dataset.fingerprint,
            options,
            seconds_before: 0.0,
        };
        let fitted = fit_to_the_end(job, machine, stop)?;
        let logits = validation::logits(&fitted.session, &left_out)?;
        for (&place, row) in left_out.places.iter().zip(logits.rows()) {
            let row = softmax(&row.to_vec());
            probabilities.row_mut(place).assign(&ArrayView1::from(&row));
        }
        emit(&Event::Note(format!(
            "{} of {count} parts: learnt from the others",
            fold + 1
        )));
    }
    Ok(probabilities)
}

/// Trains the layer of one fold, which is of use only with the weights of its last step.
///
/// # Errors
/// When the training diverges, ONNX Runtime reports an error, or `stop` is set.
pub(super) fn fit_to_the_end<E: Examples>(
    job: Job<'_, E>,
    machine: Machine<'_>,
    stop: &AtomicBool,
) -> Result<Fitted> {
    let fitted = fit(job, machine, None, stop, &mut |_| ())?;
    stopped(stop)?;
    if let Ending::Diverged { step } = fitted.ending {
        bail!("the loss was no number any more at step {step}; try a lower learning rate");
    }
    Ok(fitted)
}

pub(super) fn stopped(stop: &AtomicBool) -> Result<()> {
    ensure!(!stop.load(Ordering::Relaxed), "stopped");
    Ok(())
}

/// Some of the examples.
pub(super) struct Chosen<'a> {
    features: LabelledFeatures<'a>,
    places: Vec<usize>,
    labels: Vec<u32>,
}

impl<'a> Chosen<'a> {
    pub(super) fn new(features: LabelledFeatures<'a>, places: Vec<usize>) -> Self {
        let labels = places.iter().map(|&place| features.labels()[place]);
        Self {
            labels: labels.collect(),
            features,
            places,
        }
    }
}

impl Examples for Chosen<'_> {
    type Element = f32;

    fn shape(&self) -> &[usize] {
        self.features.shape()
    }

    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn source(&self, index: usize) -> &str {
        self.features.source(self.places[index])
    }

    fn read(&self, index: usize, out: &mut [f32]) -> Result<()> {
        self.features.read(self.places[index], out)
    }

    fn vary(&self, index: usize, rng: &mut ChaCha8Rng, out: &mut [f32]) -> Result<()> {
        self.features.vary(self.places[index], rng, out)
    }

    fn mix(
        &self,
        batch: &mut [f32],
        targets: &mut [f32],
        classes: usize,
        settings: &MixSettings,
        rng: &mut ChaCha8Rng,
    ) {
        self.features.mix(batch, targets, classes, settings, rng);
    }

    fn can_be_mixed(&self) -> bool {
        self.features.can_be_mixed()
    }
}
