//! The training loop.

use std::cmp::Ordering;
use std::sync::atomic::{self, AtomicBool};
use std::time::Instant;

use anyhow::{Context, Result};
use ndarray::Array2;
use ort::environment::Environment;

use crate::artifacts;
use crate::dataset::{Dataset, Split};
use crate::metrics::{Scores, Tally};
use crate::network::{self, Network, Task};

use super::augment::ImageShape;
use super::events::{EpochSummary, Event, RunStart, RunSummary};
use super::formulation;
use super::history::History;
use super::loader::{Loader, LoaderOptions};
use super::options::TrainOptions;
use super::session::{Compute, TrainingSession};

/// Images per evaluation step.
const EVALUATION_BATCH: usize = 256;
/// Batches made ahead of the step.
const PREFETCH: usize = 2;
/// At most so many validation images are kept to compare the exported model with.
const HELD_OUT_IMAGES: usize = 1000;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The network's description.
    pub network: Network,
    /// What it was built for.
    pub task: Task,
    /// The best epoch's parameters, in the order of the network's graph.
    pub parameters: Vec<Vec<f32>>,
    /// Figures per epoch.
    pub history: History,
    /// Summary of the run.
    pub summary: RunSummary,
    /// How the run ended.
    pub ending: Ending,
    /// Validation images with the logits that the training session's evaluation step gives them.
    pub held_out: HeldOut,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// After the last epoch.
    Finished,
    /// The user stopped it.
    Stopped,
    /// The loss was no number any more; the best weights before that are kept.
    Diverged {
        /// Step at which that was seen, from 1.
        step: u64,
    },
}

/// Images with the logits they must give.
#[derive(Clone, Debug)]
pub struct HeldOut {
    /// Pixels, `[N, H, W, C]`.
    pub images: Vec<u8>,
    /// Logits `[N, K]`.
    pub logits: Array2<f32>,
}

/// Trains a network on a data set that has a validation part.
///
/// The weights with the best validation accuracy are kept, and of several with the same accuracy those with the lowest loss. Once `stop` is set the run ends after the step under way, with the
/// best weights so far; before the first validation those are the weights of that moment.
///
/// # Errors
/// When the options are out of range, the network does not fit the images, ONNX Runtime reports an error, or the loss diverges
/// before the first validation.
pub fn train(
    dataset: &Dataset,
    options: &TrainOptions,
    environment: &Environment,
    stop: &AtomicBool,
    emit: &mut dyn FnMut(&Event),
) -> Result<Trained> {
    options.validate()?;
    let started = Instant::now();
    let validation = dataset
        .validation
        .as_ref()
        .context("the data set has no validation part")?;
    let shape = ImageShape::from(&dataset.preprocess);
    let task = task(dataset, shape);
    let network = network::build(&options.architecture, &task).context("building the network")?;
    let chosen = formulation::choose(options.formulation, &network.graph, environment)?;
    let artifacts = artifacts::build(
        &network,
        &options.optimizer,
        chosen.formulation,
        options.seed,
    )?;
    let mut session = TrainingSession::new(
        environment,
        &artifacts,
        options.optimizer.optimizer.clone(),
        [shape.height, shape.width, shape.channels],
        task.classes,
        Compute {
            threads: options.threads,
            seed: options.seed,
            // Waiting threads leave the cores to the loader.
            spinning: false,
            profile: None,
        },
    )?;
    let loader = Loader::new(
        &dataset.train,
        shape,
        task.classes,
        LoaderOptions {
            batch_size: options.batch_size,
            seed: options.seed,
            augment: options.augment,
            label_smoothing: options.label_smoothing,
            class_weights: options
                .balance
                .class_weights
                .of(&dataset.train.class_counts(task.classes)),
            sampling: options.balance.sampling,
            prefetch: PREFETCH,
        },
    )?;
    emit(&Event::RunStarted(RunStart {
        epochs: options.epochs,
        steps_per_epoch: loader.batches_per_epoch(),
        batch_size: options.batch_size,
        train_images: dataset.train.len(),
        validation_images: validation.len(),
        classes: task.classes,
        device: "cpu".to_owned(),
        formulation: chosen.description,
    }));

    let Outcome {
        history,
        best,
        ending,
    } = run_epochs(
        &mut session,
        &loader,
        validation,
        shape,
        options,
        stop,
        emit,
    )?;
    session.restore(&best)?;
    let held_out = held_out(&session, validation, shape)?;
    let best_epoch = history.best();
    let summary = RunSummary {
        epochs: history.epochs.len(),
        best_epoch: best_epoch.map_or(0, |epoch| epoch.epoch),
        best_accuracy: best_epoch.map_or(0.0, |epoch| epoch.validation_accuracy),
        seconds: started.elapsed().as_secs_f64(),
        stopped: ending == Ending::Stopped,
    };
    emit(&Event::RunDone(summary));
    // The optimizer's state comes behind the network's own parameters and is not part of the model.
    let own = network.graph.parameters().count();
    Ok(Trained {
        parameters: best.into_iter().take(own).collect(),
        network,
        task,
        history,
        summary,
        ending,
        held_out,
    })
}

/// What is left when the epochs are over.
struct Outcome {
    history: History,
    /// All parameters of the best epoch.
    best: Vec<Vec<f32>>,
    ending: Ending,
}

/// Trains and validates epoch after epoch, keeping the best parameters, until the end, a stop or a divergence.
fn run_epochs(
    session: &mut TrainingSession,
    loader: &Loader<'_>,
    validation: &Split,
    shape: ImageShape,
    options: &TrainOptions,
    stop: &AtomicBool,
    emit: &mut dyn FnMut(&Event),
) -> Result<Outcome> {
    let mut history = History::default();
    let mut best = None;
    let mut ending = Ending::Finished;
    for epoch in 1..=options.epochs {
        let started = Instant::now();
        emit(&Event::EpochStarted { epoch });
        let pass = train_epoch(session, loader, epoch, options, stop, emit)?;
        let train_seconds = started.elapsed().as_secs_f64();
        if let Some(interrupted) = pass.interrupted {
            ending = interrupted;
            // A stop in the first epoch still leaves a model behind; later ones leave the best one.
            if best.is_some() || matches!(ending, Ending::Diverged { .. }) {
                break;
            }
        }
        let Some((loss, accuracy)) = validate(session, validation, shape)? else {
            ending = Ending::Diverged {
                step: session.steps_done(),
            };
            break;
        };
        let is_best = history
            .best()
            .is_none_or(|before| is_better((accuracy, loss), before));
        let summary = EpochSummary {
            epoch,
            train_loss: pass.mean_loss,
            validation_loss: loss,
            validation_accuracy: accuracy,
            learning_rate: pass.learning_rate,
            seconds: started.elapsed().as_secs_f64(),
            images_per_second: pass.images as f64 / train_seconds,
            is_best,
        };
        if is_best {
            best = Some(session.parameters()?);
        }
        history.epochs.push(summary);
        emit(&Event::EpochDone(summary));
        if ending != Ending::Finished {
            break;
        }
    }
    let best = best.with_context(|| match ending {
        Ending::Diverged { step } => format!(
            "the loss is no number any more at step {step}, before the first validation; try a lower learning rate"
        ),
        Ending::Finished | Ending::Stopped => "no epoch was finished".to_owned(),
    })?;
    Ok(Outcome {
        history,
        best,
        ending,
    })
}

/// What the network has to know about the data.
fn task(dataset: &Dataset, shape: ImageShape) -> Task {
    let (mean, deviation) = channel_statistics(&dataset.train.pixels, shape.channels);
    Task {
        height: shape.height,
        width: shape.width,
        channels: shape.channels,
        classes: dataset.classes.len(),
        mean,
        deviation,
    }
}

/// Mean and standard deviation of each channel of pixels whose last axis is the channel.
fn channel_statistics(pixels: &[u8], channels: usize) -> (Vec<f32>, Vec<f32>) {
    let count = (pixels.len() / channels).max(1) as f64;
    (0..channels)
        .map(|channel| {
            let values = || {
                pixels[channel..]
                    .iter()
                    .step_by(channels)
                    .map(|&value| u64::from(value))
            };
            let mean = values().sum::<u64>() as f64 / count;
            let square = values().map(|value| value * value).sum::<u64>() as f64 / count;
            (mean as f32, (square - mean * mean).max(0.0).sqrt() as f32)
        })
        .unzip()
}

/// What one pass over the training images gave.
struct Pass {
    mean_loss: f64,
    learning_rate: f32,
    images: usize,
    interrupted: Option<Ending>,
}

fn train_epoch(
    session: &mut TrainingSession,
    loader: &Loader<'_>,
    epoch: usize,
    options: &TrainOptions,
    stop: &AtomicBool,
    emit: &mut dyn FnMut(&Event),
) -> Result<Pass> {
    let steps = loader.batches_per_epoch();
    let total_steps = steps * options.epochs;
    let steps_before = steps * (epoch - 1);
    let mut pass = Pass {
        mean_loss: 0.0,
        learning_rate: 0.0,
        images: 0,
        interrupted: None,
    };
    let mut loss_sum = 0.0;
    loader.epoch(epoch as u64, |batches| -> Result<()> {
        let mut step = 0;
        while let Some(batch) = batches.next_batch() {
            pass.learning_rate = options
                .schedule
                .learning_rate(steps_before + step, total_steps);
            let loss = session.step(&batch.images, &batch.targets, pass.learning_rate)?;
            step += 1;
            pass.images += batch.len();
            loss_sum += f64::from(loss);
            pass.mean_loss = loss_sum / step as f64;
            if !loss.is_finite() {
                pass.interrupted = Some(Ending::Diverged {
                    step: (steps_before + step) as u64,
                });
                break;
            }
            emit(&Event::StepDone {
                step,
                steps,
                loss,
                learning_rate: pass.learning_rate,
                images: batch.len(),
            });
            if stop.load(atomic::Ordering::Relaxed) {
                pass.interrupted = Some(Ending::Stopped);
                break;
            }
        }
        Ok(())
    })?;
    Ok(pass)
}

/// More validation images are right, or as many with a lower loss: few images tie often, and the first epoch that gets them all
/// right is hardly sure of any.
fn is_better((accuracy, loss): (f64, f64), before: &EpochSummary) -> bool {
    match accuracy.total_cmp(&before.validation_accuracy) {
        Ordering::Greater => true,
        Ordering::Equal => loss < before.validation_loss,
        Ordering::Less => false,
    }
}

/// Mean cross-entropy and accuracy on a split, by the evaluation step; nothing where a logit is no number.
fn validate(
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
    let tally = tally.context("there are no validation images")?;
    Ok(Some((tally.loss()?, tally.accuracy())))
}

fn held_out(session: &TrainingSession, validation: &Split, shape: ImageShape) -> Result<HeldOut> {
    let count = validation.len().min(HELD_OUT_IMAGES);
    let images = validation.pixels[..count * shape.len()].to_vec();
    let mut logits = Vec::new();
    for batch in images.chunks(EVALUATION_BATCH * shape.len()) {
        logits.push(session.evaluate(batch)?);
    }
    let views: Vec<_> = logits.iter().map(|batch| batch.view()).collect();
    let logits = ndarray::concatenate(ndarray::Axis(0), &views)?;
    Ok(HeldOut { images, logits })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_decides_between_epochs_of_the_same_accuracy() {
        let before = EpochSummary {
            epoch: 1,
            train_loss: 0.5,
            validation_loss: 0.4,
            validation_accuracy: 0.9,
            learning_rate: 0.1,
            seconds: 1.0,
            images_per_second: 1.0,
            is_best: true,
        };
        assert!(is_better((0.91, 9.0), &before));
        assert!(is_better((0.9, 0.3), &before));
        assert!(!is_better((0.9, 0.4), &before));
        assert!(!is_better((0.89, 0.1), &before));
    }
}
