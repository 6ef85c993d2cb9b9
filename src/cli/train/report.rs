//! What a training leaves for people and programs beside the model: the report, its plots and the figures.
//!
//! They are about the model file as users get it, on the validation part; the test part is for `catalog evaluate`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use ndarray::{Array2, ArrayView1, s};
use pipeline::atomic_file;
use pipeline::model::{Classifier, Device, ModelFile, Predictions, SessionSettings};

use crate::dataset::{Dataset, Part};
use crate::evaluation::{Judgement, batch_size, judge};
use crate::metrics::softmax;
use crate::report::environment::{moment, processor, system};
use crate::report::text::{bytes, duration, grouped};
use crate::report::{DataSheet, Metrics, Report, save_figures};
use crate::runtime::Runtime;
use crate::training::export::Exported;
use crate::training::run::{Ending, Trained};

use super::MODEL_FILE;

/// The k of the top-k accuracies, as `evaluate` takes them by default.
const TOP_K: [usize; 2] = [1, 3];

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

    let metrics = Metrics::new(&model, &runtime.version, &validation, &judgement);
    let metrics = serde_json::to_string_pretty(&metrics)? + "\n";
    let save = |name: &str, text: &str| {
        let path = folder.join(name);
        atomic_file::write(&path, |file| Ok(file.write_all(text.as_bytes())?))?;
        Ok::<_, anyhow::Error>(path)
    };
    save("metrics.json", &metrics)?;

    let summary = &exported.summary;
    let report = Report {
        kind: "Training report",
        subtitle: format!(
            "How well the model learnt, judged on {} validation images.",
            grouped(judgement.evaluation.images)
        ),
        part: Part::Validation.name(),
        labels: &validation.classes,
        dataset: &validation,
        judgement: &judgement,
        calibration: Some(&exported.calibration),
        history: Some(&trained.history),
        remarks: remarks(trained, &validation, &judgement),
        data: &data,
        options: serde_json::from_str(&serde_json::to_string(&summary.options)?)?,
        environment: vec![
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
            ("ONNX Runtime", runtime.version.clone()),
            ("trained on", device.to_string()),
            ("formulation", formulation),
            ("processor", processor()),
            ("system", system()),
        ],
        footer: format!(
            "Written by catalog {} on {}.",
            env!("CARGO_PKG_VERSION"),
            moment(SystemTime::now())
        ),
    };
    save_figures(&report.figures(), &folder.join("plots"))?;
    save("report.html", &report.html())
}

fn judged(validation: &Dataset, model: &ModelFile, runtime: &Runtime) -> Result<Judgement> {
    let settings = SessionSettings {
        device: Device::Cpu,
        threads: 0,
        spinning: false,
    };
    let mut classifier = Classifier::load(&runtime.environment, model, &settings)?;
    judge(
        validation,
        &model.metadata().labels,
        batch_size(validation.preprocess.bytes_per_image()),
        &TOP_K,
        |batch, images| {
            classifier
                .classify(batch, images)
                .context("the model could not be run")
        },
    )
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

fn remarks(trained: &Trained, validation: &Dataset, judgement: &Judgement) -> Vec<String> {
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
    if judgement.without_answer > 0 {
        remarks.push(format!(
            "{} images are in no figure: the model gave numbers that are not finite for them.",
            judgement.without_answer
        ));
    }
    if !validation.skipped.is_empty() {
        remarks.push(format!(
            "{} files could not be used; see Data.",
            validation.skipped.len()
        ));
    }
    remarks
}
