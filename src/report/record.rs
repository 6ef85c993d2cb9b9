//! `metrics.json`: every figure about a model on some images, for programs.

use pipeline::model::ModelFile;
use serde::Serialize;

use crate::dataset::Dataset;
use crate::evaluation::Judgement;
use crate::metrics::Evaluation;
use crate::metrics::calibration::ReliabilityBin;

use super::confidence::Confidence;

/// All figures, as a file. Training and evaluation write the same.
#[derive(Clone, Debug, Serialize)]
pub struct Metrics<'a> {
    program: &'static str,
    version: &'static str,
    model: Model<'a>,
    onnxruntime: &'a str,
    data: Data<'a>,
    /// What the loss is taken of.
    loss_of: &'static str,
    #[serde(flatten)]
    evaluation: &'a Evaluation,
    calibration: Calibration,
}

#[derive(Clone, Debug, Serialize)]
struct Model<'a> {
    file: &'a str,
    sha256: &'a str,
}

#[derive(Clone, Debug, Serialize)]
struct Data<'a> {
    name: &'a str,
    /// Of what was loaded: the parts that were judged or, in a training, all.
    fingerprint: &'a str,
    parts: Vec<&'static str>,
    skipped_files: usize,
    images_without_answer: usize,
}

#[derive(Clone, Debug, Serialize)]
struct Calibration {
    expected_calibration_error: f64,
    bins: Vec<ReliabilityBin>,
}

impl<'a> Metrics<'a> {
    /// The figures of `judgement`, which is about all images of `dataset`.
    pub fn new(
        model: &'a ModelFile,
        onnxruntime: &'a str,
        dataset: &'a Dataset,
        judgement: &'a Judgement,
    ) -> Self {
        let answers = judgement.answers();
        let Confidence {
            expected_calibration_error,
            bins,
            coverage: _,
        } = Confidence::of(&answers.confidences, &answers.correct);
        Self {
            program: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            model: Model {
                file: model.name(),
                sha256: model.checksum(),
            },
            onnxruntime,
            data: Data {
                name: &dataset.name,
                fingerprint: &dataset.fingerprint,
                parts: dataset
                    .parts()
                    .filter(|(_, split)| !split.is_empty())
                    .map(|(part, _)| part.name())
                    .collect(),
                skipped_files: dataset.skipped.len(),
                images_without_answer: judgement.without_answer,
            },
            loss_of: "probabilities",
            evaluation: &judgement.evaluation,
            calibration: Calibration {
                expected_calibration_error,
                bins,
            },
        }
    }
}
