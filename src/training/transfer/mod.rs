//! Training on top of a pretrained backbone.
//!
//! The units of the backbone that stay as they are give features, which are computed once for each image and some random variants
//! of it; the rest learns from these by the loop that trains whole networks. What is exported is the whole network again.

mod cross_validation;
mod features;
mod folds;
mod parts;
mod store;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use pipeline::model::InputContract;
use serde::{Deserialize, Serialize};

use self::features::{LabelledFeatures, Views};
use self::parts::{Parts, Whole, settings};
use super::checkpoint::CheckpointFile;
use super::events::Event;
use super::fit::{Fitted, Job, fit};
use super::machine::Machine;
use super::options::TrainOptions;
use super::run::Trained;
use super::validation::{self, HeldOut};
use crate::backbone::{ForeignBackbone, Pretrained};
use crate::dataset::{Dataset, Split};
use crate::graph::{Graph, Initializer};
use crate::network::{NormMode, Task};

pub(super) use cross_validation::cross_validate;
pub use folds::out_of_fold;
pub use parts::Behind;
pub(super) use parts::whole_backbone;

/// Name that all parameters of a backbone begin with.
const BACKBONE: &str = "backbone.";

/// How a network learns on top of a pretrained backbone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransferOptions {
    /// Which units of the backbone learn.
    pub trained: TrainedUnits,
    /// Random variants of each training image that features are computed for, beside the image as it is. A network of which every
    /// unit learns sees new variants in every epoch instead.
    pub variants: usize,
    /// What the learning rate of the backbone's units is multiplied with.
    pub backbone_rate: f32,
    /// What the normalisations of the units that learn go by while they do.
    pub norm: NormMode,
    /// Cross-validation with so many folds, instead of a validation part; for a backbone of which no unit learns.
    pub folds: Option<usize>,
    /// A backbone that is a part of somebody else's model.
    pub file: Option<ForeignFile>,
}

/// A part of somebody else's model, which has to be there when the options are used again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForeignFile {
    /// The ONNX file.
    pub path: PathBuf,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// Name of the value that serves as features.
    pub features: String,
    /// How images become its input.
    pub contract: InputContract,
}

/// Which units of a backbone learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrainedUnits {
    /// The last ones, so many; 0 for none.
    Last(usize),
    /// All of them.
    All,
}

impl Default for TransferOptions {
    fn default() -> Self {
        Self {
            trained: TrainedUnits::Last(0),
            variants: 1,
            backbone_rate: 0.1,
            norm: NormMode::Running,
            folds: None,
            file: None,
        }
    }
}

impl TransferOptions {
    /// Checks that the numbers are in their ranges.
    ///
    /// # Errors
    /// Names the option and its range.
    pub fn validate(&self) -> Result<()> {
        ensure!(
            self.backbone_rate > 0.0 && self.backbone_rate.is_finite(),
            "the backbone's learning rate is multiplied with {}, expected a number above 0",
            self.backbone_rate
        );
        if let Some(folds) = self.folds {
            ensure!(
                (2..=20).contains(&folds),
                "cross-validation takes 2 to 20 folds, not {folds}"
            );
            ensure!(
                self.trained == TrainedUnits::Last(0),
                "cross-validation is for a backbone that stays as it is: leave out --folds, or give --freeze all"
            );
        }
        Ok(())
    }
}

/// A backbone to train on top of, and where features are kept.
#[derive(Clone, Copy, Debug)]
pub struct Transfer<'a> {
    /// What it is.
    pub backbone: BackboneModel<'a>,
    /// Folder for features, which need not exist.
    pub features: &'a Path,
}

/// What a backbone is.
#[derive(Clone, Copy, Debug)]
pub enum BackboneModel<'a> {
    /// A network of ours with weights that others trained.
    Pretrained(&'a Pretrained),
    /// A part of somebody else's model.
    Foreign(&'a ForeignBackbone),
}

/// Makes the parameters of a graph start as the pretrained ones of the same names, and learn as fast as `rate` says.
///
/// # Errors
/// When one of a backbone's parameters is missing or of another size.
fn start_from(graph: &mut Graph, pretrained: &Pretrained, rate: f32) -> Result<()> {
    let sizes: Vec<usize> = graph
        .parameters()
        .map(|(_, value, _)| value.ty.shape.fixed_len().unwrap_or(0))
        .collect();
    for ((name, parameter), size) in graph.parameters_mut().zip(sizes) {
        if !name.starts_with(BACKBONE) {
            continue;
        }
        let values = values(pretrained, name, size)?;
        parameter.initializer = Initializer::Given(Arc::from(values));
        parameter.rate = rate;
    }
    Ok(())
}

/// Pretrained values of a parameter.
fn values<'a>(pretrained: &'a Pretrained, name: &str, size: usize) -> Result<&'a [f32]> {
    let weights = pretrained.parameters.get(name);
    let values = weights
        .map(|weights| weights.values.as_slice())
        .with_context(|| format!("the pretrained weights have no {name}"))?;
    ensure!(
        values.len() == size,
        "the pretrained weights have {} values for {name}, which takes {size}",
        values.len()
    );
    Ok(values)
}

/// Trains the last units of a backbone and the layer behind them; see [`super::run::train`].
///
/// # Errors
/// As that, and when features cannot be computed or kept.
#[expect(
    clippy::too_many_arguments,
    reason = "the run's own, and which part of the network learns"
)]
pub(super) fn train(
    dataset: &Dataset,
    validation: &Split,
    options: &TrainOptions,
    transfer: Transfer<'_>,
    trained_units: usize,
    task: Task,
    machine: Machine<'_>,
    checkpoints: Option<&CheckpointFile>,
    stop: &AtomicBool,
    emit: &mut dyn FnMut(&Event),
) -> Result<Trained> {
    let begun = Instant::now();
    let settings = settings(options)?;
    let Parts {
        mut extractor,
        tail,
        frozen,
    } = Parts::prepare(options, &task, transfer, trained_units, machine)?;
    let features = transfer.features;
    let learning = Views::Random(settings.variants, options.augment);
    let judging = match options.mirror_averaging {
        true => Views::Mirrored,
        false => Views::Plain,
    };
    let total = dataset.train.len() * learning.count() + validation.len() * judging.count();
    let mut done = 0;
    let mut progress = |images: usize| {
        done += images;
        emit(&Event::FeaturesDone { done, total });
        match stop.load(Ordering::Relaxed) {
            true => bail!("stopped before the features of all images were computed"),
            false => Ok(()),
        }
    };
    let of_validation = extractor.features(validation, &judging, features, &mut progress)?;
    let of_train = extractor.features(&dataset.train, &learning, features, &mut progress)?;
    drop(extractor);

    let as_they_are = LabelledFeatures {
        store: &of_validation,
        split: validation,
        view: 0,
    };
    let job = Job {
        network: &tail,
        classes: task.classes,
        train: LabelledFeatures {
            store: &of_train,
            split: &dataset.train,
            view: 0,
        },
        validation: &as_they_are,
        data_fingerprint: &dataset.fingerprint,
        options,
        seconds_before: begun.elapsed().as_secs_f64(),
    };
    let Fitted {
        mut session,
        best,
        history,
        summary,
        ending,
    } = fit(job, machine, checkpoints, stop, emit)?;
    let best = options.weight_storage.stored(&tail.graph, best)?;
    session.restore(&best)?;
    let mut logits = validation::logits(&session, &as_they_are)?;
    if options.mirror_averaging {
        let mirrored = LabelledFeatures {
            view: 1,
            ..as_they_are
        };
        logits += &validation::logits(&session, &mirrored)?;
        logits *= 0.5;
    }

    let trained_scalars = tail.graph.trained_scalars();
    let Whole {
        network,
        parameters,
        behind,
    } = frozen.completed(options, &task, tail, best)?;
    Ok(Trained {
        parameters,
        trained_scalars,
        network,
        behind,
        task,
        history,
        summary,
        ending,
        held_out: HeldOut::of_split(validation, logits)?,
    })
}

/// Pretrained values of all parameters of a graph, in its order.
fn values_of(graph: &Graph, pretrained: &Pretrained) -> Result<Vec<Vec<f32>>> {
    graph
        .parameters()
        .map(|(_, value, _)| {
            let size = value.ty.shape.fixed_len().unwrap_or(0);
            Ok(values(pretrained, &value.name, size)?.to_vec())
        })
        .collect()
}
