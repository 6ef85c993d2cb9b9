//! Training proper: from a network and examples to the weights of the best epoch, whatever the examples are.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::artifacts;
use crate::graph::Op;
use crate::network::Network;

use super::checkpoint::{CheckpointFile, RunIdentity, RunState};
use super::epochs::Epochs;
use super::events::{Event, RunStart, RunSummary};
use super::examples::Examples;
use super::formulation;
use super::history::History;
use super::loader::{Loader, LoaderOptions};
use super::machine::Machine;
use super::options::TrainOptions;
use super::plan::Plan;
use super::pruning::ImageLosses;
use super::run::Ending;
use super::session::{Compute, TrainingSession};
use super::validation::sample;

/// Batches made ahead of the step.
const PREFETCH: usize = 2;

/// What is trained, and on what.
#[derive(Debug)]
pub(super) struct Job<'a, E> {
    /// The network, from examples to logits.
    pub(super) network: &'a Network,
    /// Number of classes.
    pub(super) classes: usize,
    /// What it learns from.
    pub(super) train: E,
    /// What the best epoch is chosen by.
    pub(super) validation: &'a E,
    /// SHA-256 of all that the examples are made of.
    pub(super) data_fingerprint: &'a str,
    /// How it learns.
    pub(super) options: &'a TrainOptions,
    /// Seconds of the time budget that are gone.
    pub(super) seconds_before: f64,
}

/// What came of it.
pub(super) struct Fitted {
    /// The session, with the weights of its last step, or their average where that is what is judged.
    pub(super) session: TrainingSession,
    /// All parameters of the best epoch, the optimizer's state included.
    pub(super) best: Vec<Vec<f32>>,
    /// Figures per epoch.
    pub(super) history: History,
    /// Summary of the run.
    pub(super) summary: RunSummary,
    /// How the run ended.
    pub(super) ending: Ending,
}

/// Trains; see [`super::run::train`].
///
/// # Errors
/// When the checkpoint is of another run or cannot be written, examples cannot be read, ONNX Runtime reports an error, or the loss
/// diverges before the first validation.
pub(super) fn fit<E: Examples>(
    job: Job<'_, E>,
    machine: Machine<'_>,
    checkpoints: Option<&CheckpointFile>,
    stop: &AtomicBool,
    emit: &mut dyn FnMut(&Event),
) -> Result<Fitted> {
    let Job {
        network,
        classes,
        train,
        validation,
        data_fingerprint,
        options,
        seconds_before,
    } = job;
    let chosen = formulation::choose(options.formulation, &network.graph, machine)?;
    let identity = RunIdentity {
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        onnxruntime_version: checkpoints
            .map_or_else(String::new, |file| file.onnxruntime_version.clone()),
        data_fingerprint: data_fingerprint.to_owned(),
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
        network,
        &options.optimizer,
        chosen.formulation,
        options.seed,
    )?;
    let steps_done = earlier
        .as_ref()
        .map_or(0, |earlier| earlier.state.steps_done);
    let mut session = TrainingSession::new(
        machine,
        &artifacts,
        options.optimizer.optimizer.clone(),
        train.shape(),
        classes,
        Compute {
            threads: options.threads,
            seed: dropout_seed(options.seed, network, steps_done),
            // Waiting threads leave the cores to the loader.
            spinning: false,
            profile: None,
        },
    )?;
    let (train_count, validation_count) = (train.labels().len(), validation.labels().len());
    let class_counts = class_counts(train.labels(), classes);
    let loader = Loader::new(
        train,
        classes,
        LoaderOptions {
            batch_size: options.batch_size,
            seed: options.seed,
            mixing: options.mixing,
            label_smoothing: options.label_smoothing,
            class_weights: options.balance.class_weights.of(&class_counts),
            sampling: options.balance.sampling,
            epoch_images: options
                .pruning
                .map(|pruning| pruning.epoch_images(train_count)),
            prefetch: PREFETCH,
        },
    )?;
    let plan = Plan::new(
        options.epochs,
        loader.batches_per_epoch(),
        options
            .time_budget
            .map(|budget| budget.saturating_sub(seconds_before as u64).max(1)),
        validation_count,
        options.batch_size,
    );
    emit(&Event::RunStarted(RunStart {
        epochs: plan.epochs(0),
        time_budget: options.time_budget,
        steps_per_epoch: loader.batches_per_epoch(),
        batch_size: options.batch_size,
        train_images: train_count,
        epoch_images: options.pruning.map(|_| loader.images_per_epoch()),
        validation_images: validation_count,
        classes,
        device: machine.device.to_string(),
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
    let (mut best, mut average) = (None, None);
    let mut losses = options.pruning.map(|_| ImageLosses::unknown(train_count));
    let is_new = earlier.is_none();
    if let Some(earlier) = earlier {
        session.continue_from(&earlier.parameters, earlier.state.steps_done)?;
        (state, best, average) = (earlier.state, earlier.best, earlier.average);
        losses = earlier.losses;
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
        sample: sample(train_count),
        options,
        identity,
        checkpoints,
        saved: Instant::now(),
        state,
        best,
        average,
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
        average,
        ..
    } = epochs;
    if let Some(average) = &average {
        session.restore(average)?;
    }

    let best = best.with_context(|| match ending {
        Ending::Diverged { step } => format!(
            "the loss is no number any more at step {step}, before the first validation; try a lower learning rate"
        ),
        Ending::Finished | Ending::Stopped => "no epoch was finished".to_owned(),
    })?;
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
    Ok(Fitted {
        session,
        best,
        history,
        summary,
        ending,
    })
}

/// The seed from which ONNX Runtime draws the next dropout mask: it counts up with every mask that is drawn.
fn dropout_seed(seed: u64, network: &Network, steps_done: u64) -> u64 {
    let nodes = network.graph.nodes().iter();
    let layers = nodes.filter(|node| matches!(node.op, Op::Dropout { .. }));
    seed.wrapping_add(steps_done.wrapping_mul(layers.count() as u64))
}

/// Number of examples of each class.
fn class_counts(labels: &[u32], classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    for &label in labels {
        // The loader refuses labels out of range, with a message.
        if let Some(count) = counts.get_mut(label as usize) {
            *count += 1;
        }
    }
    counts
}
