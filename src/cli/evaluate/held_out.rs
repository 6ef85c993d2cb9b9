//! Which images a model did not learn from, where its data has no validation part: what its training held out is held out again.

use anyhow::{Result, bail, ensure};
use pipeline::model::ModelFile;

use crate::cli::dataset::with_validation;
use crate::dataset::{Dataset, Part, Source};
use crate::ensemble::EnsembleSummary;
use crate::training::export::{DataSummary, TrainingSummary};
use crate::training::options::TrainOptions;

/// What a model says about its training.
pub(super) struct Learnt {
    data: DataSummary,
    options: TrainOptions,
}

impl Learnt {
    /// Reads it; `None` where the file does not say it, or not as this version of the program reads it.
    pub(super) fn of(model: &ModelFile) -> Option<Self> {
        let summary = &model.metadata().summary;
        let (data, options) = match serde_json::from_value::<EnsembleSummary>(summary.clone()) {
            // All of a mean held out the same.
            Ok(mean) => (mean.data, mean.members.into_iter().next()?.options),
            Err(_) => {
                let training: TrainingSummary = serde_json::from_value(summary.clone()).ok()?;
                (training.data, training.options)
            }
        };
        Some(Self { data, options })
    }

    /// What a reader should know where the model is judged on all of the data that it learnt from.
    pub(super) fn warning(&self, dataset: &Dataset) -> Option<String> {
        if self.data.fingerprint != dataset.fingerprint || dataset.train.is_empty() {
            return None;
        }
        let mut warning = format!(
            "the model learnt from images of {}: it does better on them than on others",
            dataset.name
        );
        if self.folds().is_none() {
            warning += "; --part validation judges those that were held out";
        }
        Some(warning)
    }

    /// Number of parts of a cross-validation, which holds nothing out.
    fn folds(&self) -> Option<usize> {
        self.options.transfer.as_ref()?.folds
    }

    /// The images of `dataset`, which has no validation part, that were held out of it.
    fn held_out(&self, dataset: Dataset, source: &Source) -> Result<Dataset> {
        let name = dataset.name.clone();
        ensure!(
            self.data.fingerprint == dataset.fingerprint,
            "{name}: no validation part in it, and the model learnt from other data, so that nothing of this was held out: \
             leave out --part, or give the data a validation part"
        );
        if let Some(folds) = self.folds() {
            bail!(
                "{name}: nothing was held out, since the model was trained with --folds {folds} and learnt from every image; \
                 its figures are in the report of the training"
            );
        }
        let (fraction, seed) = (
            self.options.validation_fraction,
            self.options.seed_of_split(),
        );
        let dataset = with_validation(dataset, source, fraction, seed)?.only(Part::Validation);
        let found = dataset.validation.as_ref().map_or(0, |split| split.len());
        ensure!(
            found == self.data.validation_images,
            "{name}: {found} images would be held out, the training held out {}: it was made by another version of the program",
            self.data.validation_images
        );
        tracing::info!(
            "{name} has no validation part: judging what the training held out of it, {fraction} by seed {seed}"
        );
        Ok(dataset)
    }
}

/// The validation part of data that was loaded whole where it has none.
///
/// # Errors
/// When it has none and the model does not say what was held out of this data.
pub(super) fn validation_part(
    dataset: Dataset,
    source: &Source,
    learnt: Option<&Learnt>,
) -> Result<Dataset> {
    if dataset.validation.is_some() {
        return Ok(dataset);
    }
    match learnt {
        Some(learnt) => learnt.held_out(dataset, source),
        None => bail!(
            "{}: no validation part in it, and the model does not say what was held out",
            dataset.name
        ),
    }
}
