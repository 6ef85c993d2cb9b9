//! A training run on images.

use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};

use crate::dataset::{Dataset, PixelStore};
use crate::network::{self, Network, Task};

use super::augment::ImageShape;
use super::checkpoint::CheckpointFile;
use super::events::{Event, RunSummary};
use super::examples::LabelledImages;
use super::fit::{Fitted, Job, fit};
use super::history::History;
use super::machine::Machine;
use super::options::TrainOptions;
use super::start::Start;
use super::transfer::{self, BackboneModel, Behind, TrainedUnits, Transfer};
use super::validation::{HeldOut, held_out};

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The description of the network that is exported; of the layer alone, where it is behind somebody else's model.
    pub network: Network,
    /// That model.
    pub behind: Option<Behind>,
    /// What it was built for.
    pub task: Task,
    /// Number of scalars that were trained.
    pub trained_scalars: usize,
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
/// weights of that moment. What the options say the weights start from is given as `start`. With a checkpoint file, a run that was
/// ended by whatever means continues where its last checkpoint was, and comes to the same weights.
///
/// # Errors
/// When the options are out of range, the network does not fit the images, the checkpoint is of another run or cannot be written,
/// ONNX Runtime reports an error, or the loss diverges before the first validation.
pub fn train<'m>(
    dataset: &Dataset,
    options: &TrainOptions,
    start: Start<'_>,
    machine: impl Into<Machine<'m>>,
    checkpoints: Option<&CheckpointFile>,
    stop: &AtomicBool,
    emit: &mut dyn FnMut(&Event),
) -> Result<Trained> {
    options.validate()?;
    let transfer = start.transfer();
    let machine = machine.into();
    let validation = dataset
        .validation
        .as_ref()
        .context("the data set has no validation part")?;
    let shape = ImageShape::from(&dataset.preprocess);
    let task = task(dataset, shape, transfer)?;
    if let (Some(transfer), Some(folds)) = (
        transfer,
        options
            .transfer
            .as_ref()
            .and_then(|transfer| transfer.folds),
    ) {
        return transfer::cross_validate(
            dataset, options, transfer, folds, task, machine, stop, emit,
        );
    }
    if let (Some(transfer), Some(TrainedUnits::Last(units))) = (
        transfer,
        options.transfer.as_ref().map(|transfer| transfer.trained),
    ) {
        return transfer::train(
            dataset,
            validation,
            options,
            transfer,
            units,
            task,
            machine,
            checkpoints,
            stop,
            emit,
        );
    }
    let build = || network::build(&options.architecture, &task).context("building the network");
    let network = match start {
        Start::Backbone(transfer) => transfer::whole_backbone(options, &task, transfer)?,
        Start::Random => build()?,
        Start::Model(earlier) => {
            let mut network = build()?;
            earlier.start(&mut network.graph, &dataset.classes, options.seed)?;
            network
        }
    };
    let images = |split| LabelledImages::new(split, shape, options.augment);
    let job = Job {
        network: &network,
        classes: task.classes,
        train: images(&dataset.train)?,
        validation: &images(validation)?,
        data_fingerprint: &dataset.fingerprint,
        options,
        seconds_before: 0.0,
    };
    let Fitted {
        mut session,
        best,
        history,
        summary,
        ending,
    } = fit(job, machine, checkpoints, stop, emit)?;
    // What the file will hold is what is compared and judged.
    let best = options.weight_storage.stored(&network.graph, best)?;
    session.restore(&best)?;
    let held_out = held_out(&session, validation, shape, options.mirror_averaging)?;
    let network = match options.mirror_averaging {
        true => network::build_mirror_averaged(&options.architecture, &task)?,
        false => network::build(&options.architecture, &task)?,
    };
    // The optimizer's state comes behind the network's own parameters and is not part of the model.
    let own = network.graph.parameters().count();
    Ok(Trained {
        parameters: best.into_iter().take(own).collect(),
        trained_scalars: network.graph.trained_scalars(),
        network,
        behind: None,
        task,
        history,
        summary,
        ending,
        held_out,
    })
}

/// What the network has to know about the data.
///
/// # Errors
/// When the images cannot be read back from their file.
pub(super) fn task(
    dataset: &Dataset,
    shape: ImageShape,
    transfer: Option<Transfer<'_>>,
) -> Result<Task> {
    let (mean, deviation) = match transfer {
        Some(transfer) => match transfer.backbone {
            BackboneModel::Pretrained(pretrained) => {
                (pretrained.mean.to_vec(), pretrained.deviation.to_vec())
            }
            // Its own nodes normalise.
            BackboneModel::Foreign(_) => (vec![0.0; shape.channels], vec![1.0; shape.channels]),
        },
        None => channel_statistics(&dataset.train.pixels, shape.channels)?,
    };
    Ok(Task {
        height: shape.height,
        width: shape.width,
        channels: shape.channels,
        classes: dataset.classes.len(),
        mean,
        deviation,
    })
}

/// Mean and standard deviation of each channel of pixels whose last axis is the channel.
fn channel_statistics(pixels: &PixelStore, channels: usize) -> Result<(Vec<f32>, Vec<f32>)> {
    let mut sums = vec![0_u64; channels];
    let mut squares = vec![0_u64; channels];
    for image in pixels.images() {
        let image = image?;
        for (channel, (sum, square)) in sums.iter_mut().zip(&mut squares).enumerate() {
            let values = image[channel..].iter().step_by(channels);
            for value in values.map(|&value| u64::from(value)) {
                *sum += value;
                *square += value * value;
            }
        }
    }
    let count = (pixels.len() * pixels.image_size() / channels).max(1) as f64;
    Ok(sums
        .into_iter()
        .zip(squares)
        .map(|(sum, square)| {
            let mean = sum as f64 / count;
            let variance = square as f64 / count - mean * mean;
            (mean as f32, variance.max(0.0).sqrt() as f32)
        })
        .unzip())
}
