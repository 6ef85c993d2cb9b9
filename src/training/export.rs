//! From trained weights to the model file, checked before anyone gets it.

use std::io::Cursor;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use ort::environment::Environment;
use pipeline::model::{
    Calibration, Classifier, FORMAT_VERSION, Familiarity, Metadata, ModelFile, SelfTest,
    SessionSettings, familiarity, seal,
};
use pipeline::preprocess::{Colour, Preprocess};
use serde::{Deserialize, Serialize};

use crate::artifacts;
use crate::dataset::Dataset;
use crate::evaluation::batch_size;
use crate::metrics::calibration::fit_temperature;
use crate::metrics::thresholds;

use super::events::{EpochSummary, RunSummary};
use super::options::TrainOptions;
use super::run::Trained;
use super::validation::HeldOut;

/// Images of the self-test in a model file.
const SELF_TEST_IMAGES: usize = 4;
/// Largest allowed gap between a logit of the file and that which was computed before it was made, relative to the largest logit
/// (and to 1 where all are smaller). Rounding in another order of summation is about a hundredth of this.
const TOLERANCE: f32 = 1e-3;

/// How a model came to be; part of the model file.
///
/// No time is in it: the same data, options and seed give the same bytes on the same machine. How long things took is in
/// the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingSummary {
    /// Version of this program.
    pub program_version: String,
    /// Version of ONNX Runtime that trained.
    pub onnxruntime_version: String,
    /// The data.
    pub data: DataSummary,
    /// All options.
    pub options: TrainOptions,
    /// Number of trained scalars.
    pub trained_scalars: usize,
    /// Operations of the convolutions and dense layers for one image; not known of somebody else's model.
    pub flops_per_image: Option<usize>,
    /// The run.
    pub run: RunFigures,
    /// Every epoch.
    pub epochs: Vec<EpochFigures>,
}

/// What came of a run, but for its time; see [`RunSummary`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunFigures {
    /// Epochs that were finished.
    pub epochs: usize,
    /// The epoch whose weights are kept.
    pub best_epoch: usize,
    /// Validation accuracy of that epoch.
    pub best_accuracy: f64,
    /// Whether the user stopped it before its last epoch.
    pub stopped: bool,
}

/// Figures of one epoch, but for its time; see [`EpochSummary`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochFigures {
    /// Number of the epoch, from 1.
    pub epoch: usize,
    /// Mean loss over the epoch's steps.
    pub train_loss: f64,
    /// Accuracy on a sample of the training images as they are; older models do not say it.
    #[serde(default)]
    pub train_accuracy: Option<f64>,
    /// Mean cross-entropy on the validation images.
    pub validation_loss: f64,
    /// Accuracy on the validation images.
    pub validation_accuracy: f64,
    /// Learning rate of the last step.
    pub learning_rate: f32,
    /// Whether it was the best epoch so far.
    pub is_best: bool,
}

impl From<RunSummary> for RunFigures {
    fn from(run: RunSummary) -> Self {
        let RunSummary {
            epochs,
            best_epoch,
            best_accuracy,
            seconds: _,
            stopped,
        } = run;
        Self {
            epochs,
            best_epoch,
            best_accuracy,
            stopped,
        }
    }
}

impl From<EpochSummary> for EpochFigures {
    fn from(summary: EpochSummary) -> Self {
        let EpochSummary {
            epoch,
            train_loss,
            train_accuracy,
            validation_loss,
            validation_accuracy,
            learning_rate,
            seconds: _,
            images_per_second: _,
            is_best,
        } = summary;
        Self {
            epoch,
            train_loss,
            train_accuracy: Some(train_accuracy),
            validation_loss,
            validation_accuracy,
            learning_rate,
            is_best,
        }
    }
}

/// The data a model learnt from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSummary {
    /// Name of the data set.
    pub name: String,
    /// SHA-256 over classes, labels and pixels.
    pub fingerprint: String,
    /// Images learnt from.
    pub train_images: usize,
    /// Images the best epoch was chosen by.
    pub validation_images: usize,
    /// Files that could not be used.
    pub skipped_files: usize,
}

/// A finished model file.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The file's bytes.
    pub bytes: Vec<u8>,
    /// What is in its metadata about the training.
    pub summary: TrainingSummary,
    /// What the probabilities are the softmax of logits divided by.
    pub temperature: f32,
    /// What the confidences were worth on the validation images.
    pub calibration: Calibration,
    /// Largest gap found between the model file and the evaluation step, in logits.
    pub largest_gap: f32,
    /// Number of images compared.
    pub compared_images: usize,
}

/// Makes the model file and compares it with the evaluation step on held-out images.
///
/// # Errors
/// When the file fails its own checks, or its logits are further from the evaluation step's than rounding explains.
pub fn export(
    dataset: &Dataset,
    options: &TrainOptions,
    trained: &Trained,
    environment: &Environment,
    onnxruntime_version: &str,
) -> Result<Exported> {
    let summary = TrainingSummary {
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        onnxruntime_version: onnxruntime_version.to_owned(),
        data: DataSummary {
            name: dataset.name.clone(),
            fingerprint: dataset.fingerprint.clone(),
            train_images: dataset.train.len(),
            validation_images: dataset.validation.as_ref().map_or(0, |split| split.len()),
            skipped_files: dataset.skipped.len(),
        },
        options: options.clone(),
        trained_scalars: trained.trained_scalars,
        flops_per_image: match trained.behind {
            None => Some(trained.network.graph.flops_per_image()),
            Some(_) => None,
        },
        run: trained.summary.into(),
        epochs: trained
            .history
            .epochs
            .iter()
            .map(|&epoch| epoch.into())
            .collect(),
    };
    // Without folds, the same images chose the weights, which flatters the model a little. It is what is usually done: one number
    // fitted to thousands of images follows them hardly more than any others.
    let held_out = &trained.held_out;
    let Trust {
        temperature,
        calibration,
        familiarity,
    } = Trust::of(held_out)?;
    let metadata = Metadata {
        format_version: FORMAT_VERSION,
        labels: dataset.classes.clone(),
        preprocess: dataset.preprocess.clone(),
        temperature,
        calibration: Some(calibration.clone()),
        familiarity,
        // By way of text: a value made directly would hold 0.1 as the 0.10000000149011612 that the f32 is.
        summary: serde_json::from_str(&serde_json::to_string(&summary)?)?,
        self_test: self_test(held_out, &dataset.preprocess)?,
    };
    let model = artifacts::serving_model(
        &trained.network,
        &trained.parameters,
        temperature,
        options.weight_storage,
    )?;
    let model = match &trained.behind {
        None => model,
        Some(behind) => behind.backbone.joined(behind.dimensions, model)?,
    };
    let bytes = seal(model, &metadata)?;
    let file = ModelFile::from_bytes(bytes, "the exported model")
        .context("the exported model fails its own checks")?;
    let (largest_gap, compared_images) = compare(&file, held_out, environment)?;
    Ok(Exported {
        bytes: file.bytes().to_vec(),
        summary,
        temperature,
        calibration,
        largest_gap,
        compared_images,
    })
}

/// What the held-out images say about a model's confidences.
pub(crate) struct Trust {
    /// What the probabilities are the softmax of logits divided by.
    pub(crate) temperature: f32,
    /// What the confidences are worth.
    pub(crate) calibration: Calibration,
    /// What tells images of unknown things.
    pub(crate) familiarity: Option<Familiarity>,
}

impl Trust {
    /// Fits the temperature, and measures what comes of it, on logits of networks that did not learn from the images.
    ///
    /// # Errors
    /// When there are no logits.
    pub(crate) fn of(held_out: &HeldOut) -> Result<Self> {
        let unseen = held_out.unseen_logits();
        let classes = unseen.ncols();
        let logits = unseen.as_standard_layout();
        let logits = logits.as_slice().context("the logits are in disorder")?;
        let temperature = fit_temperature(logits, classes, &held_out.labels) as f32;
        let calibration = thresholds::calibration(logits, classes, &held_out.labels, temperature);
        let scores = unseen
            .outer_iter()
            .map(|logits| familiarity(logits, temperature))
            .collect();
        Ok(Self {
            temperature,
            calibration,
            familiarity: Familiarity::of(scores),
        })
    }
}

/// The first held-out images as PNG, with the logits that the model must give them.
pub(crate) fn self_test(held_out: &HeldOut, preprocess: &Preprocess) -> Result<Vec<SelfTest>> {
    let color = match preprocess.colour {
        Colour::Grey => ExtendedColorType::L8,
        Colour::Rgb => ExtendedColorType::Rgb8,
    };
    let images = held_out.images.chunks(preprocess.bytes_per_image());
    images
        .zip(held_out.logits.outer_iter())
        .take(SELF_TEST_IMAGES)
        .map(|(pixels, logits)| {
            let mut png = Cursor::new(Vec::new());
            PngEncoder::new(&mut png)
                .write_image(pixels, preprocess.width, preprocess.height, color)
                .context("encoding a self-test image")?;
            Ok(SelfTest {
                image: BASE64_STANDARD.encode(png.into_inner()),
                logits: logits.to_vec(),
            })
        })
        .collect()
}

/// Largest gap between the file's logits and those that were computed before it was made, and the number of images compared.
pub(crate) fn compare(
    file: &ModelFile,
    held_out: &HeldOut,
    environment: &Environment,
) -> Result<(f32, usize)> {
    let settings = SessionSettings::on_processor(0);
    let mut classifier = Classifier::load(environment, file, &settings)?;
    let bytes_per_image = file.metadata().preprocess.bytes_per_image();
    let largest_logit = held_out
        .logits
        .iter()
        .fold(1.0_f32, |largest, logit| largest.max(logit.abs()));
    let mut largest_gap = 0.0_f32;
    let mut compared = 0;
    for batch in held_out
        .images
        .chunks(batch_size(bytes_per_image) * bytes_per_image)
    {
        let count = batch.len() / bytes_per_image;
        let predictions = classifier.classify(batch, count)?;
        let expected = held_out
            .logits
            .slice(ndarray::s![compared..compared + count, ..]);
        for (found, expected) in predictions.logits.iter().zip(expected.iter()) {
            // A NaN must not pass: it is no gap of zero.
            let gap = (found - expected).abs();
            ensure!(
                gap <= TOLERANCE * largest_logit,
                "the logits of the file are not those that were computed before: {found} instead of {expected} among images {compared} to {}",
                compared + count - 1
            );
            largest_gap = largest_gap.max(gap);
        }
        compared += count;
    }
    Ok((largest_gap, compared))
}
