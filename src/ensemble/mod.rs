//! Several trained models as one file that gives the mean of what they say.
//!
//! Networks that started from different weights, or are built differently, err on different images, so that their mean errs less than each
//! of them (Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", 2017). What is averaged
//! are logits divided by the temperature of each model, so that one that is too sure of itself does not outvote the others. Temperature and
//! thresholds of the mean are measured on images that none of them learnt from. Nothing here trains.

mod graph;
mod members;
mod weights;

use anyhow::{Context, Result, ensure};
use ndarray::Array2;
use ort::environment::Environment;
use pipeline::model::{Classifier, FORMAT_VERSION, Metadata, ModelFile, SessionSettings, seal};
use pipeline::onnx::ModelProto;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::dataset::{Dataset, Split};
use crate::evaluation::batch_size;
use crate::lowering::WeightStorage;
use crate::metrics::{Scores, Tally};
use crate::training::export::{DataSummary, TrainingSummary, Trust, compare, self_test};
use crate::training::validation::HeldOut;

use graph::Part;
pub use members::Members;

/// How an ensemble came to be; part of the model file, where that of a single network has a [`TrainingSummary`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnsembleSummary {
    /// Version of this program.
    pub program_version: String,
    /// Version of ONNX Runtime that measured.
    pub onnxruntime_version: String,
    /// The data that all of them learnt from.
    pub data: DataSummary,
    /// How each of them came to be.
    pub members: Vec<TrainingSummary>,
    /// What the mean says about the images that were held out.
    pub validation: Figures,
    /// In what the weights were stored anew; none where they are as the members have them.
    pub weight_storage: Option<WeightStorage>,
}

/// How good one of the models, or their mean, is on the held-out images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Share of the images whose most probable class is the true one.
    pub accuracy: f64,
    /// Mean cross-entropy of the probabilities.
    pub loss: f64,
}

/// A finished ensemble.
#[derive(Clone, Debug)]
pub struct Ensemble {
    /// The file.
    pub file: ModelFile,
    /// How it came to be.
    pub summary: EnsembleSummary,
    /// Figures of the members as their files are, in their order.
    pub members: Vec<Figures>,
    /// Figures of the mean of these, where the weights were stored anew.
    pub mean_of_files: Option<Figures>,
    /// Largest gap found between the file's logits and the mean of the members', on the images compared.
    pub largest_gap: f32,
    /// Number of images compared.
    pub compared_images: usize,
}

/// Joins the members. `dataset` is what they learnt from, with the validation part that they did not.
///
/// # Errors
/// When the data is not that of the members, a member cannot be run, or the file's logits are not the mean of theirs.
pub fn combine(
    members: &Members,
    dataset: &Dataset,
    storage: Option<WeightStorage>,
    environment: &Environment,
    onnxruntime_version: &str,
) -> Result<Ensemble> {
    members.check_data(dataset)?;
    let validation = dataset
        .validation
        .as_ref()
        .context("the data set has no validation part")?;
    let share = 1.0 / members.count() as f32;
    let mut parts = Vec::new();
    let mut figures = Vec::new();
    let mut mean_of_files = Mean::default();
    let mut mean = Mean::default();
    for file in members.files() {
        let failed = || format!("{} cannot be a member", file.name());
        let temperature = file.metadata().temperature;
        // Its self-test runs here, with the weights that it was made with.
        let said = logits(file, validation, environment).with_context(failed)? / temperature;
        figures.push(judged(&said, 1.0, validation).with_context(failed)?);
        let mut model = ModelProto::decode(file.bytes())?;
        match storage {
            None => mean.add(said * share),
            Some(storage) => {
                mean_of_files.add(said * share);
                let stored = stored(file, &mut model, storage).with_context(failed)?;
                let said = logits(&stored, validation, environment).with_context(failed)?;
                mean.add(said * (share / temperature));
            }
        }
        parts.push(Part {
            model,
            weight: share / temperature,
        });
    }
    let mean = mean.sum.context("there are no members")?;
    let held_out = HeldOut::of_split(validation, mean)?;
    let Trust {
        temperature,
        calibration,
        familiarity,
    } = Trust::of(&held_out)?;
    let mean = judged(&held_out.logits, temperature, validation)?;
    let mean_of_files = mean_of_files
        .sum
        .map(|sum| judged(&sum, temperature, validation));
    let summary = EnsembleSummary {
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        onnxruntime_version: onnxruntime_version.to_owned(),
        data: members.summaries()[0].data.clone(),
        members: members.summaries().to_vec(),
        validation: mean,
        weight_storage: storage,
    };
    let metadata = Metadata {
        format_version: FORMAT_VERSION,
        labels: dataset.classes.clone(),
        preprocess: dataset.preprocess.clone(),
        temperature,
        calibration: Some(calibration),
        familiarity,
        // By way of text, as in a training.
        summary: serde_json::from_str(&serde_json::to_string(&summary)?)?,
        self_test: self_test(&held_out, &dataset.preprocess)?,
    };
    let model = graph::mean(parts, dataset.classes.len(), temperature)?;
    let file = ModelFile::from_bytes(seal(model, &metadata)?, "the ensemble")
        .context("the ensemble fails its own checks")?;
    let (largest_gap, compared_images) = compare(&file, &held_out, environment)?;
    Ok(Ensemble {
        file,
        summary,
        members: figures,
        mean_of_files: mean_of_files.transpose()?,
        largest_gap,
        compared_images,
    })
}

/// The sum of what several models say.
#[derive(Default)]
struct Mean {
    sum: Option<Array2<f32>>,
}

impl Mean {
    fn add(&mut self, said: Array2<f32>) {
        self.sum = Some(match self.sum.take() {
            Some(sum) => sum + said,
            None => said,
        });
    }
}

/// Stores the weights of a member's graph anew, and gives it as a file. That has no self-test: it was of the weights before.
fn stored(file: &ModelFile, model: &mut ModelProto, storage: WeightStorage) -> Result<ModelFile> {
    let graph = model.graph.as_mut().context("it has no graph")?;
    let count = weights::hold(graph, storage)?;
    ensure!(
        count > 0,
        "its weights are neither float32 nor float16, or smaller than asked for already: leave out --weights"
    );
    let metadata = Metadata {
        self_test: Vec::new(),
        ..file.metadata().clone()
    };
    model.metadata_props.clear();
    Ok(ModelFile::from_bytes(
        seal(model.clone(), &metadata)?,
        file.name(),
    )?)
}

/// Logits `[N, K]` of all images of a split.
fn logits(file: &ModelFile, split: &Split, environment: &Environment) -> Result<Array2<f32>> {
    let settings = SessionSettings::on_processor(0);
    let mut classifier = Classifier::load(environment, file, &settings)?;
    let places: Vec<usize> = (0..split.len()).collect();
    let batches = places
        .chunks(batch_size(split.pixels.image_size()))
        .map(|places| {
            let pixels = split.pixels.subset(places).to_vec()?;
            Ok(classifier.classify(&pixels, places.len())?.logits)
        });
    let batches = batches.collect::<Result<Vec<_>>>()?;
    let views: Vec<_> = batches.iter().map(|batch| batch.view()).collect();
    Ok(ndarray::concatenate(ndarray::Axis(0), &views)?)
}

/// Accuracy and loss of logits at a temperature.
fn judged(logits: &Array2<f32>, temperature: f32, split: &Split) -> Result<Figures> {
    let mut tally = Tally::new(logits.ncols(), Scores::Logits);
    for (row, &label) in logits.outer_iter().zip(&split.labels) {
        let row: Vec<f32> = row.iter().map(|logit| logit / temperature).collect();
        tally.add(&row, label)?;
    }
    Ok(Figures {
        accuracy: tally.accuracy(),
        loss: tally.loss()?,
    })
}
