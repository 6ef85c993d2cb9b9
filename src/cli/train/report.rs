//! What a training tells in the report beside its model.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ndarray::{Array2, ArrayView1, s};
use pipeline::model::{Device, ModelFile, Predictions};

use crate::cli::validation_report::{TOP_K, ValidationReport, judged, options};
use crate::dataset::{Dataset, Part};
use crate::evaluation::{Judgement, batch_size, judge};
use crate::metrics::softmax;
use crate::report::DataSheet;
use crate::report::text::{bytes, duration, grouped};
use crate::runtime::Runtime;
use crate::training::export::Exported;
use crate::training::run::{Ending, Trained};

use super::MODEL_FILE;

/// Judges the exported model on the validation part and writes `metrics.json`, `plots/` and `report.html`; gives the path of
/// the report.
pub(super) fn write(
    folder: &Path,
    dataset: Dataset,
    trained: &Trained,
    exported: &Exported,
    runtime: &Runtime,
    device: Device,
    formulation: String,
) -> Result<PathBuf> {
    let data = DataSheet::of(&dataset);
    let validation = dataset.only(Part::Validation);
    let model = ModelFile::from_bytes(exported.bytes.clone(), MODEL_FILE)?;
    let judgement = match &trained.held_out.judged_by_others {
        Some(logits) => judged_by_others(&validation, logits, exported.temperature)?,
        None => judged(&validation, &model, runtime)?,
    };

    let summary = &exported.summary;
    let facts = vec![
        ("model", MODEL_FILE.to_owned()),
        ("model checksum (SHA-256)", model.checksum().to_owned()),
        ("model size", bytes(exported.bytes.len() as u64)),
        (
            "trained parameters",
            grouped(summary.trained_scalars as u64),
        ),
        (
            "operations for one image",
            match summary.flops_per_image {
                Some(flops) => format!("{:.1} million", flops as f64 / 1e6),
                None => "not known of a backbone from a file".to_owned(),
            },
        ),
        ("training took", duration(trained.summary.seconds)),
        ("catalog", summary.program_version.clone()),
        ("trained on", device.to_string()),
        ("formulation", formulation),
    ];
    ValidationReport {
        kind: "Training report",
        subtitle: format!(
            "How well the model learnt, judged on {} validation images.",
            grouped(judgement.evaluation.images)
        ),
        model: &model,
        runtime,
        data: &data,
        validation: &validation,
        judgement: &judgement,
        history: Some(&trained.history),
        remarks: remarks(trained),
        options: options(&model.metadata().summary),
        facts,
    }
    .write(folder)
}

/// What the networks say that did not learn from the images: their logits `[N, K]` are in the order of the images.
fn judged_by_others(
    validation: &Dataset,
    logits: &Array2<f32>,
    temperature: f32,
) -> Result<Judgement> {
    let mut next = 0;
    judge(
        validation,
        &validation.classes,
        batch_size(validation.preprocess.bytes_per_image()),
        &TOP_K,
        |_, images| {
            let logits = logits.slice(s![next..next + images, ..]).to_owned();
            next += images;
            let mut probabilities = Array2::zeros(logits.dim());
            for (row, logits) in probabilities.outer_iter_mut().zip(logits.outer_iter()) {
                let scaled: Vec<f32> = logits.iter().map(|logit| logit / temperature).collect();
                ArrayView1::from(&softmax(&scaled)).assign_to(row);
            }
            Ok(Predictions {
                logits,
                probabilities,
            })
        },
    )
}

fn remarks(trained: &Trained) -> Vec<String> {
    let mut remarks = Vec::new();
    match trained.ending {
        Ending::Finished => {}
        Ending::Stopped => remarks.push(
            "The training was stopped before its last epoch; this is the best model until then."
                .to_owned(),
        ),
        Ending::Diverged { step } => remarks.push(format!(
            "The loss was no number any more at step {step}; this is the best model before that."
        )),
    }
    remarks.push(match trained.held_out.judged_by_others {
        None => "The best epoch was chosen by these same images, so expect a little less on new ones; catalog evaluate judges the model on a test part.",
        Some(_) => "Each image was judged by a layer that learnt from the other folds only. The model has the mean of these layers, which among them learnt from every image.",
    }.to_owned());
    remarks
}
