//! What the weights of a network start as: random numbers, those of a pretrained backbone, or those of a model that was trained before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use pipeline::model::ModelFile;
use pipeline::onnx::ModelProto;
use pipeline::preprocess::Preprocess;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::artifacts::initial_values;
use crate::graph::{Graph, Initializer};
use crate::lowering::storage::read_back;
use crate::network::HEAD;

use super::export::TrainingSummary;
use super::transfer::Transfer;

/// What the weights of a network start as.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// Random numbers.
    Random,
    /// Those of a pretrained backbone.
    Backbone(Transfer<'a>),
    /// Those of a model that was trained before.
    Model(&'a EarlierModel),
}

impl<'a> Start<'a> {
    /// The backbone, where it is one.
    pub(super) fn transfer(self) -> Option<Transfer<'a>> {
        match self {
            Self::Backbone(transfer) => Some(transfer),
            Self::Random | Self::Model(_) => None,
        }
    }
}

/// A model file as options name it: it has to be there, unchanged, when they are used again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlierFile {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of its content, in hexadecimal.
    pub sha256: String,
}

/// A model that was trained before, with its weights.
#[derive(Clone, Debug)]
pub struct EarlierModel {
    file: EarlierFile,
    labels: Vec<String>,
    preprocess: Preprocess,
    summary: TrainingSummary,
    weights: BTreeMap<String, Vec<f32>>,
}

impl EarlierModel {
    /// Reads a model file of `catalog train`.
    ///
    /// # Errors
    /// When it cannot be read, or holds no single network that was trained from its first layer on.
    pub fn read(path: &Path) -> Result<Self> {
        let file = ModelFile::read(path)?;
        let name = file.name();
        let value = &file.metadata().summary;
        ensure!(
            value.get("members").is_none(),
            "{name} is a mean of several models, and training can start from one of them only"
        );
        let summary: TrainingSummary = serde_json::from_value(value.clone()).with_context(|| {
            format!(
                "{name} does not say how it was trained, or not as this version of the program reads it"
            )
        })?;
        ensure!(
            summary.options.transfer.is_none(),
            "{name} was trained on top of a backbone: give that with --backbone again"
        );
        let graph = ModelProto::decode(file.bytes())?.graph;
        let weights = read_back(&graph.unwrap_or_default())
            .with_context(|| format!("the weights of {name} cannot be read"))?;
        Ok(Self {
            file: EarlierFile {
                path: path.to_owned(),
                sha256: file.checksum().to_owned(),
            },
            labels: file.metadata().labels.clone(),
            preprocess: file.metadata().preprocess.clone(),
            summary,
            weights,
        })
    }

    /// Reads the model that options name.
    ///
    /// # Errors
    /// As [`EarlierModel::read`], and when it is another file than when the options were made.
    pub fn open(file: &EarlierFile) -> Result<Self> {
        let model = Self::read(&file.path)?;
        ensure!(
            model.file.sha256 == file.sha256,
            "{} is not the file these options were made for: its SHA-256 is {}, expected {}",
            file.path.display(),
            model.file.sha256,
            file.sha256
        );
        Ok(model)
    }

    /// The file, as options name it.
    pub fn file(&self) -> &EarlierFile {
        &self.file
    }

    /// How it was trained.
    pub fn summary(&self) -> &TrainingSummary {
        &self.summary
    }

    /// How images become its input.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// How many of these classes it knows.
    pub fn classes_known(&self, classes: &[String]) -> usize {
        let known = |class: &&String| self.labels.contains(class);
        classes.iter().filter(known).count()
    }

    /// Checks that what is held out now was not learnt from before, as far as can be told. `split` is the share and the seed of what
    /// is held out of data with this fingerprint. The answer is a warning where it cannot be told.
    ///
    /// # Errors
    /// When the data are the same and the split is another: accuracies on the validation images would be too high.
    pub fn check_split(&self, fingerprint: &str, split: (f64, u64)) -> Result<Option<String>> {
        let name = self.file.path.display();
        if self.summary.data.fingerprint != fingerprint {
            return Ok(Some(format!(
                "{name} learnt from other data: where images that are held out now were among them, the figures of this run are too good; \
                 a validation part that stays the same tells better"
            )));
        }
        let before = &self.summary.options;
        ensure!(
            split == (before.validation_fraction, before.seed_of_split()),
            "{name} learnt from images that would be held out now: leave out --validation-fraction and --split-seed, or give {} and {} as it had",
            before.validation_fraction,
            before.seed_of_split()
        );
        Ok(None)
    }

    /// Makes the parameters of a graph start as those of the model. Of the last layer, rows of classes that the model does not know
    /// start as they would without it.
    ///
    /// # Errors
    /// When the graph is of another network.
    pub(super) fn start(&self, graph: &mut Graph, classes: &[String], seed: u64) -> Result<()> {
        let fresh = initial_values(graph, seed);
        for ((name, parameter), values) in graph.parameters_mut().zip(fresh) {
            let Some(weights) = self.weights.get(name) else {
                bail!("{}: it has no {name}", self.of_another_network());
            };
            let is_head = name.split('.').next() == Some(HEAD);
            let values = match is_head && self.labels != classes {
                true => self.rows(weights, values, classes),
                false => Some(weights.clone()).filter(|weights| weights.len() == values.len()),
            };
            let values = values.with_context(|| {
                format!(
                    "{}: its {name} is of another size",
                    self.of_another_network()
                )
            })?;
            parameter.initializer = Initializer::Given(Arc::from(values));
        }
        Ok(())
    }

    /// `fresh` with the model's rows for the classes that it knows; none where rows are not of one length.
    fn rows(&self, weights: &[f32], mut fresh: Vec<f32>, classes: &[String]) -> Option<Vec<f32>> {
        let length = fresh.len() / classes.len().max(1);
        if length == 0 || weights.len() != length * self.labels.len() {
            return None;
        }
        for (row, class) in fresh.chunks_exact_mut(length).zip(classes) {
            if let Some(place) = self.labels.iter().position(|label| label == class) {
                row.copy_from_slice(&weights[place * length..][..length]);
            }
        }
        Some(fresh)
    }

    fn of_another_network(&self) -> String {
        format!(
            "{} is of another network, or of images of another kind",
            self.file.path.display()
        )
    }
}
