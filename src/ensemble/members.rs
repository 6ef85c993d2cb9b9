//! The models that are averaged, and whether they can be.

use anyhow::{Context, Result, ensure};
use pipeline::model::ModelFile;
use pipeline::onnx::{ModelProto, OperatorSetIdProto};
use prost::Message as _;

use crate::dataset::Dataset;
use crate::training::export::TrainingSummary;

/// Models of the same classes and the same pictures, with a set of images that none of them learnt from.
#[derive(Clone, Debug)]
pub struct Members {
    files: Vec<ModelFile>,
    summaries: Vec<TrainingSummary>,
}

impl Members {
    /// Takes at least two models.
    ///
    /// # Errors
    /// When they are fewer, one does not say how it was trained, or two do not go together; the message names them.
    pub fn new(files: Vec<ModelFile>) -> Result<Self> {
        ensure!(
            files.len() > 1,
            "a mean is of two models or more; name at least one more"
        );
        let summaries = files.iter().map(summary).collect::<Result<Vec<_>>>()?;
        let members = Self { files, summaries };
        members.check_each_other()?;
        Ok(members)
    }

    /// The files.
    pub fn files(&self) -> &[ModelFile] {
        &self.files
    }

    /// How each of them was trained.
    pub fn summaries(&self) -> &[TrainingSummary] {
        &self.summaries
    }

    /// Their number, two at least.
    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// Share and seed of what was held out of the training data, where that has no validation part.
    ///
    /// # Errors
    /// When they are not the same for all: images that were held out of one were learnt by another.
    pub fn split(&self) -> Result<(f64, u64)> {
        let split = |summary: &TrainingSummary| {
            let options = &summary.options;
            (options.validation_fraction, options.seed_of_split())
        };
        let first = split(&self.summaries[0]);
        for (file, summary) in self.files.iter().zip(&self.summaries) {
            let (share, seed) = split(summary);
            ensure!(
                (share, seed) == first,
                "{} held out {} of the images by seed {}, {} held out {share} by seed {seed}: train them with the same --validation-fraction and --split-seed",
                self.files[0].name(),
                first.0,
                first.1,
                file.name()
            );
        }
        Ok(first)
    }

    /// Whether this is the data they learnt from.
    ///
    /// # Errors
    /// When it is not.
    pub fn check_data(&self, dataset: &Dataset) -> Result<()> {
        for (file, summary) in self.files.iter().zip(&self.summaries) {
            ensure!(
                summary.data.fingerprint == dataset.fingerprint,
                "{} learnt from other data than {}: give the data of its training, unchanged",
                file.name(),
                dataset.name
            );
        }
        Ok(())
    }

    fn check_each_other(&self) -> Result<()> {
        let first = &self.files[0];
        let operator_sets = operator_sets(first)?;
        for (index, file) in self.files.iter().enumerate() {
            let (metadata, other) = (file.metadata(), first.metadata());
            ensure!(
                metadata.labels == other.labels,
                "{} and {} have different classes, or the same in another order",
                first.name(),
                file.name()
            );
            ensure!(
                metadata.preprocess == other.preprocess,
                "{} and {} want their pictures prepared in different ways: train them with the same --size, --colour and --fit",
                first.name(),
                file.name()
            );
            ensure!(
                self::operator_sets(file)? == operator_sets,
                "{} and {} are of different ONNX operator sets, as where one is behind a backbone from a file",
                first.name(),
                file.name()
            );
            let twin = self.files[..index]
                .iter()
                .find(|twin| twin.checksum() == file.checksum());
            if let Some(twin) = twin {
                anyhow::bail!(
                    "{} and {} are the same model: a mean of both is either of them",
                    twin.name(),
                    file.name()
                );
            }
        }
        Ok(())
    }
}

fn operator_sets(file: &ModelFile) -> Result<Vec<OperatorSetIdProto>> {
    Ok(ModelProto::decode(file.bytes())?.opset_import)
}

/// How a model was trained, as its file says.
fn summary(file: &ModelFile) -> Result<TrainingSummary> {
    let value = &file.metadata().summary;
    ensure!(
        value.get("members").is_none(),
        "{} is a mean of models already: give these instead of it",
        file.name()
    );
    let summary: TrainingSummary = serde_json::from_value(value.clone()).with_context(|| {
        format!(
            "{} does not say how it was trained, or not as this version of the program reads it",
            file.name()
        )
    })?;
    let folds = summary
        .options
        .transfer
        .as_ref()
        .and_then(|transfer| transfer.folds);
    ensure!(
        folds.is_none(),
        "{} was trained with --folds and has learnt from every image: none is left to measure the mean on",
        file.name()
    );
    Ok(summary)
}
