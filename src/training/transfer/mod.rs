//! Training on top of a pretrained backbone.
//!
//! The units of the backbone that stay as they are give features, which are computed once for each image and some random variants
//! of it; the rest learns from these by the loop that trains whole networks. What is exported is the whole network again.

mod cross_validation;
mod features;
mod folds;
mod store;

use std::collections::BTreeMap;
use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use ort::environment::Environment;
use serde::{Deserialize, Serialize};

use self::features::{Extractor, LabelledFeatures, Views};
use super::augment::ImageShape;
use super::checkpoint::CheckpointFile;
use super::events::Event;
use super::fit::{Fitted, Job, fit};
use super::options::TrainOptions;
use super::run::Trained;
use super::validation::{self, HeldOut};
use crate::backbone::Pretrained;
use crate::dataset::{Dataset, Split};
use crate::graph::{Graph, Initializer};
use crate::network::{self, Architecture, EfficientnetOptions, Network, Task};

pub(super) use cross_validation::cross_validate;
pub use folds::out_of_fold;

/// Name that all parameters of a backbone begin with.
const BACKBONE: &str = "backbone.";

/// How a network learns on top of a pretrained backbone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransferOptions {
    /// Which units of the backbone learn.
    pub trained: TrainedUnits,
    /// Random variants of each training image that features are computed for, beside the image as it is. A network of which every
    /// unit learns sees new variants in every epoch instead.
    pub variants: usize,
    /// What the learning rate of the backbone's units is multiplied with.
    pub backbone_rate: f32,
    /// Cross-validation with so many folds, instead of a validation part; for a backbone of which no unit learns.
    pub folds: Option<usize>,
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
            folds: None,
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
    /// The weights.
    pub pretrained: &'a Pretrained,
    /// Folder for features, which need not exist.
    pub features: &'a Path,
}

/// Makes the parameters of a graph start as the pretrained ones of the same names, and learn as fast as `rate` says.
///
/// # Errors
/// When one of a backbone's parameters is missing or of another size.
pub(super) fn start_from(graph: &mut Graph, pretrained: &Pretrained, rate: f32) -> Result<()> {
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
    environment: &Environment,
    checkpoints: Option<&CheckpointFile>,
    stop: &AtomicBool,
    emit: &mut dyn FnMut(&Event),
) -> Result<Trained> {
    let begun = Instant::now();
    let (backbone, settings) = backbone(options)?;
    let shape = ImageShape::from(&dataset.preprocess);
    let mut cut =
        network::build_cut(backbone, &task, trained_units).context("building the network")?;
    let Transfer {
        pretrained,
        features,
    } = transfer;
    start_from(&mut cut.tail.graph, pretrained, settings.backbone_rate)?;

    // The features are those that the file's weights give.
    let frozen = values_of(&cut.trunk.graph, pretrained)?;
    let frozen = options.weight_storage.stored(&cut.trunk.graph, frozen)?;
    let threads = options.threads;
    let mut extractor = Extractor::new(&cut.trunk, &frozen, shape, environment, threads)?;
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
        network: &cut.tail,
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
    } = fit(job, environment, checkpoints, stop, emit)?;
    let best = options.weight_storage.stored(&cut.tail.graph, best)?;
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

    let network = match options.mirror_averaging {
        true => network::build_mirror_averaged(&options.architecture, &task)?,
        false => network::build(&options.architecture, &task)?,
    };
    let mut values: BTreeMap<String, Vec<f32>> = named(&cut.trunk.graph, frozen)
        .chain(named(&cut.tail.graph, best))
        .collect();
    Ok(Trained {
        parameters: joined(&network, &mut values)?,
        trained_scalars: cut.tail.graph.trained_scalars(),
        network,
        task,
        history,
        summary,
        ending,
        held_out: HeldOut::of_split(validation, logits)?,
    })
}

/// The backbone of these options, and how it is used.
fn backbone(options: &TrainOptions) -> Result<(&EfficientnetOptions, TransferOptions)> {
    match (&options.architecture, options.transfer) {
        (Architecture::EfficientnetLite(backbone), Some(transfer)) => Ok((backbone, transfer)),
        _ => bail!("pretrained weights go with a backbone only; choose one with --backbone"),
    }
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

/// The parameters of a graph by their names; what comes behind them, as an optimizer's state does, is left out.
fn named(graph: &Graph, values: Vec<Vec<f32>>) -> impl Iterator<Item = (String, Vec<f32>)> {
    let names = graph.parameters().map(|(_, value, _)| value.name.clone());
    names.zip(values)
}

/// The values of all parameters of a network, in its order.
fn joined(network: &Network, values: &mut BTreeMap<String, Vec<f32>>) -> Result<Vec<Vec<f32>>> {
    network
        .graph
        .parameters()
        .map(|(_, value, _)| {
            let values = values.get_mut(&value.name).map(mem::take);
            values.with_context(|| format!("neither part of the network has {}", value.name))
        })
        .collect()
}
