//! The training loop.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, Result};
use ort::environment::Environment;

use crate::artifacts;
use crate::dataset::Dataset;
use crate::graph::Op;
use crate::network::{self, Network, Task};

use super::augment::ImageShape;
use super::checkpoint::{CheckpointFile, RunIdentity, RunState};
use super::epochs::Epochs;
use super::events::{Event, RunStart, RunSummary};
use super::formulation;
use super::history::History;
use super::loader::{Loader, LoaderOptions};
use super::options::TrainOptions;
use super::plan::Plan;
use super::pruning::ImageLosses;
use super::session::{Compute, TrainingSession};
use super::validation::{HeldOut, held_out, sample};

/// Batches made ahead of the step.
const PREFETCH: usize = 2;
/// What came of a run.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The description of the network that is exported.
    pub network: Network,
    /// What it was built for.
    pub task: Task,
    /// The best epoch's parameters as the file holds them, in the order of the network's graph.
    pub parameters: Vec<Vec<f32>>,
    /// Figures per epoch.
    pub history: History,
    /// Summary of the run.
    pub summary: RunSummary,
    /// How the run ended.
    pub ending: Ending,
    /// Validation images with the logits that the training session's evaluation step gives them, or gives them and their mirror
    /// images on average.
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

/// Trains a network on a data set that has a validation part.
///
/// The weights with the best validation accuracy are kept, and of several with the same accuracy those with the lowest loss. Once
/// `stop` is set the run ends after the step under way, with the best weights so far; before the first validation those are the
/// weights of that moment. With a checkpoint file, a run that was ended by whatever means continues where its last checkpoint was,
/// and comes to the same weights.
///
/// # Errors
/// When the options are out of range, the network does not fit the images, the checkpoint is of another run or cannot be written,
/// ONNX Runtime reports an error, or the loss diverges before the first validation.
pub fn train(
    dataset: &Dataset,
    options: &TrainOptions,
    environment: &Environment,
    checkpoints: Option<&CheckpointFile>,
    stop: &AtomicBool,
    emit: &mut dyn FnMut(&Event),
) -> Result<Trained> {
    options.validate()?;
    let validation = dataset
        .validation
        .as_ref()
        .context("the data set has no validation part")?;
    let shape = ImageShape::from(&dataset.preprocess);
    let task = task(dataset, shape);
    let network = network::build(&options.architecture, &task).context("building the network")?;
    let chosen = formulation::choose(options.formulation, &network.graph, environment)?;
    let identity = RunIdentity {
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        onnxruntime_version: checkpoints
            .map_or_else(String::new, |file| file.onnxruntime_version.clone()),
        data_fingerprint: dataset.fingerprint.clone(),
        options: options.clone(),
        formulation: chosen.description.clone(),
    };
    let earlier = match checkpoints {
        Some(file) => file.load()?,
        None => None,
    };
    if let Some(earlier) = &earlier
        && let Some(warning) = earlier.identity.check(&identity)?
    {
        emit(&Event::Warning(warning));
    }
    let artifacts = artifacts::build(
        &network,
        &options.optimizer,
        chosen.formulation,
        options.seed,
    )?;
    let steps_done = earlier
        .as_ref()
        .map_or(0, |earlier| earlier.state.steps_done);
    let mut session = TrainingSession::new(
        environment,
        &artifacts,
        options.optimizer.optimizer.clone(),
        [shape.height, shape.width, shape.channels],
        task.classes,
        Compute {
            threads: options.threads,
            seed: dropout_seed(options.seed, &network, steps_done),
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
            mixing: options.mixing,
            label_smoothing: options.label_smoothing,
            class_weights: options
                .balance
                .class_weights
                .of(&dataset.train.class_counts(task.classes)),
            sampling: options.balance.sampling,
            epoch_images: options
                .pruning
                .map(|pruning| pruning.epoch_images(dataset.train.len())),
            prefetch: PREFETCH,
        },
    )?;
    let plan = Plan::new(
        options.epochs,
        loader.batches_per_epoch(),
        options.time_budget,
        validation.len(),
        options.batch_size,
    );
    emit(&Event::RunStarted(RunStart {
        epochs: plan.epochs(0),
        time_budget: options.time_budget,
        steps_per_epoch: loader.batches_per_epoch(),
        batch_size: options.batch_size,
        train_images: dataset.train.len(),
        epoch_images: options.pruning.map(|_| loader.images_per_epoch()),
        validation_images: validation.len(),
        classes: task.classes,
        device: "cpu".to_owned(),
        formulation: chosen.description,
    }));
    let mut state = RunState {
        step: 0,
        steps_done: 0,
        loss_sum: 0.0,
        images: 0,
        learning_rate: 0.0,
        epoch_seconds: 0.0,
        seconds: 0.0,
        training_seconds: 0.0,
        history: Vec::new(),
        plan,
        is_pruned: false,
    };
    let mut best = None;
    let mut losses = options
        .pruning
        .map(|_| ImageLosses::unknown(dataset.train.len()));
    let is_new = earlier.is_none();
    if let Some(earlier) = earlier {
        session.continue_from(&earlier.parameters, earlier.state.steps_done)?;
        (state, best, losses) = (earlier.state, earlier.best, earlier.losses);
        emit(&Event::Resumed {
            epoch: state.history.len() + 1,
            step: state.step,
            accuracies: state
                .history
                .iter()
                .map(|epoch| epoch.validation_accuracy)
                .collect(),
        });
        if state.plan.is_known() {
            emit(&Event::Planned {
                epochs: state.plan.epochs(state.steps_done),
                steps: state.plan.steps(state.steps_done),
            });
        }
    }
    let mut epochs = Epochs {
        session,
        loader: &loader,
        validation,
        sample: sample(&dataset.train, shape),
        shape,
        options,
        identity,
        checkpoints,
        saved: Instant::now(),
        state,
        best,
        losses,
    };
    // From here on it shows that the run is unfinished, whatever the folder holds of an earlier one.
    if is_new {
        epochs.save()?;
    }
    let ending = epochs.run(stop, emit)?;
    // It would diverge again.
    if let (Ending::Diverged { .. }, Some(file)) = (&ending, checkpoints) {
        file.remove()?;
    }
    let Epochs {
        mut session,
        state,
        best,
        ..
    } = epochs;

    let best = best.with_context(|| match ending {
        Ending::Diverged { step } => format!(
            "the loss is no number any more at step {step}, before the first validation; try a lower learning rate"
        ),
        Ending::Finished | Ending::Stopped => "no epoch was finished".to_owned(),
    })?;
    // What the file will hold is what is compared and judged.
    let best = options.weight_storage.stored(&network.graph, best)?;
    session.restore(&best)?;
    let held_out = held_out(&session, validation, shape, options.mirror_averaging)?;
    let network = match options.mirror_averaging {
        true => network::build_mirror_averaged(&options.architecture, &task)?,
        false => network,
    };
    let history = History {
        epochs: state.history,
    };
    let best_epoch = history.best();
    let summary = RunSummary {
        epochs: history.epochs.len(),
        best_epoch: best_epoch.map_or(0, |epoch| epoch.epoch),
        best_accuracy: best_epoch.map_or(0.0, |epoch| epoch.validation_accuracy),
        seconds: state.seconds,
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

/// The seed from which ONNX Runtime draws the next dropout mask: it counts up with every mask that is drawn.
fn dropout_seed(seed: u64, network: &Network, steps_done: u64) -> u64 {
    let nodes = network.graph.nodes().iter();
    let layers = nodes.filter(|node| matches!(node.op, Op::Dropout { .. }));
    seed.wrapping_add(steps_done.wrapping_mul(layers.count() as u64))
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
