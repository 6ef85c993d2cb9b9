//! What a model file says about itself, and how that is written into ONNX metadata.
//!
//! Each field is one `metadata_props` entry, its value JSON, its key under the `catalog.` prefix. What is optional to the
//! machine but of interest to people, the training summary, is carried as it is.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::calibration::Calibration;
use super::familiarity::Familiarity;
use crate::onnx::StringStringEntryProto;
use crate::preprocess::Preprocess;

/// Version of the metadata that this program writes, and the highest it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Prefix of every key of ours.
pub(crate) const PREFIX: &str = "catalog.";

/// Largest height or width of a model's input; more is a damaged or hostile file.
const MAX_SIDE: u32 = 8192;

/// Everything a model file says about itself, apart from graph and weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// Version of this structure; see [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Class names; a class is an index into this list and into the model's outputs.
    pub labels: Vec<String>,
    /// How an image becomes the model's input.
    pub preprocess: Preprocess,
    /// Probabilities are the softmax of logits divided by this.
    pub temperature: f32,
    /// What the confidences were worth on validation images; models made before this was measured have none.
    pub calibration: Option<Calibration>,
    /// What tells images of unknown things, from the validation images; models made before this was measured have none.
    pub familiarity: Option<Familiarity>,
    /// How the model was trained, for people and reports.
    pub summary: serde_json::Value,
    /// Images with the logits they must give, run whenever the model is loaded.
    pub self_test: Vec<SelfTest>,
}

/// An image with the logits it must give.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfTest {
    /// An encoded image, usually PNG, in base64.
    pub image: String,
    /// One logit per class.
    pub logits: Vec<f32>,
}

impl Metadata {
    /// The entries to put into a model, in fixed order.
    pub(crate) fn to_entries(&self) -> Result<Vec<StringStringEntryProto>> {
        self.validate()?;
        let mut entries = vec![
            entry("format_version", &self.format_version)?,
            entry("labels", &self.labels)?,
            entry("preprocess", &self.preprocess)?,
            entry("temperature", &self.temperature)?,
            entry("summary", &self.summary)?,
            entry("self_test", &self.self_test)?,
        ];
        if let Some(calibration) = &self.calibration {
            entries.push(entry("calibration", calibration)?);
        }
        if let Some(familiarity) = &self.familiarity {
            entries.push(entry("familiarity", familiarity)?);
        }
        Ok(entries)
    }

    /// Reads the entries back; keys without our prefix are someone else's.
    pub(crate) fn from_entries(entries: &[StringStringEntryProto]) -> Result<Self> {
        let mut values = BTreeMap::new();
        for entry in entries {
            if let Some(key) = entry.key().strip_prefix(PREFIX)
                && values.insert(key, entry.value()).is_some()
            {
                bail!("metadata key {PREFIX}{key} is there twice");
            }
        }
        // The version first: a later format may have changed any of the others.
        let format_version: u32 = field(&values, "format_version")?;
        ensure!(
            format_version == FORMAT_VERSION,
            "its format version is {format_version}, this program reads {FORMAT_VERSION}; use the version of catalog that wrote it"
        );
        let metadata = Self {
            format_version,
            labels: field(&values, "labels")?,
            preprocess: field(&values, "preprocess")?,
            temperature: field(&values, "temperature")?,
            calibration: optional_field(&values, "calibration")?,
            familiarity: optional_field(&values, "familiarity")?,
            summary: field(&values, "summary")?,
            self_test: field(&values, "self_test")?,
        };
        metadata.validate()?;
        Ok(metadata)
    }

    pub(crate) fn validate(&self) -> Result<()> {
        validate_labels(&self.labels)?;
        validate_preprocess(&self.preprocess)?;
        ensure!(
            self.temperature.is_finite() && self.temperature > 0.0,
            "the temperature is {}, it has to be above zero",
            self.temperature
        );
        if let Some(calibration) = &self.calibration {
            calibration.validate(self.labels.len())?;
        }
        if let Some(familiarity) = &self.familiarity {
            familiarity.validate()?;
        }
        for (number, test) in self.self_test.iter().enumerate() {
            ensure!(
                test.logits.len() == self.labels.len(),
                "self-test {} has {} logits for {} classes",
                number + 1,
                test.logits.len(),
                self.labels.len()
            );
            ensure!(
                test.logits.iter().all(|logit| logit.is_finite()),
                "self-test {} has a logit that is not finite",
                number + 1
            );
        }
        Ok(())
    }
}

/// There has to be a class, and names have to be there and different.
pub(crate) fn validate_labels(labels: &[String]) -> Result<()> {
    ensure!(!labels.is_empty(), "there are no labels");
    let mut sorted: Vec<&str> = labels.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    ensure!(sorted.first() != Some(&""), "a label is empty");
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        bail!("the label {:?} is there twice", pair[0]);
    }
    Ok(())
}

pub(crate) fn validate_preprocess(preprocess: &Preprocess) -> Result<()> {
    let (height, width) = (preprocess.height, preprocess.width);
    ensure!(
        (1..=MAX_SIDE).contains(&height) && (1..=MAX_SIDE).contains(&width),
        "the input is {height}×{width} pixels, each side has to be 1 to {MAX_SIDE}"
    );
    let percent = preprocess.photo.and_then(|steps| steps.trim_percent);
    ensure!(
        percent.is_none_or(|percent| percent <= 100),
        "photos are trimmed within {} % of the corner's colour, it has to be 0 to 100",
        percent.unwrap_or_default()
    );
    Ok(())
}

fn entry(name: &str, value: &impl Serialize) -> Result<StringStringEntryProto> {
    let value = serde_json::to_string(value)
        .with_context(|| format!("metadata {PREFIX}{name} cannot be written as JSON"))?;
    Ok(StringStringEntryProto {
        key: Some(format!("{PREFIX}{name}")),
        value: Some(value),
    })
}

fn field<T: DeserializeOwned>(values: &BTreeMap<&str, &str>, name: &str) -> Result<T> {
    let text = values
        .get(name)
        .with_context(|| format!("metadata key {PREFIX}{name} is missing"))?;
    serde_json::from_str(text)
        .with_context(|| format!("metadata {PREFIX}{name} is not what it should be"))
}

fn optional_field<T: DeserializeOwned>(
    values: &BTreeMap<&str, &str>,
    name: &str,
) -> Result<Option<T>> {
    values
        .contains_key(name)
        .then(|| field(values, name))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::metadata;
    use crate::preprocess::{Ground, PhotoSteps};

    #[test]
    fn entries_round_trip_and_leave_other_keys_alone() {
        let written = metadata();
        let mut entries = written.to_entries().unwrap();
        entries.push(StringStringEntryProto {
            key: Some("author".into()),
            value: Some("someone".into()),
        });
        assert_eq!(Metadata::from_entries(&entries).unwrap(), written);
        assert_eq!(
            written.to_entries().unwrap(),
            metadata().to_entries().unwrap()
        );
    }

    #[test]
    fn a_missing_repeated_or_newer_entry_is_named() {
        let entries = metadata().to_entries().unwrap();
        let error = |entries: &[StringStringEntryProto]| {
            Metadata::from_entries(entries).unwrap_err().to_string()
        };
        assert!(error(&entries[..5]).contains("catalog.self_test is missing"));
        let twice = [entries.clone(), vec![entries[1].clone()]].concat();
        assert!(error(&twice).contains("catalog.labels is there twice"));
        let mut newer = entries.clone();
        newer[0].value = Some("2".into());
        assert!(error(&newer).contains("format version is 2, this program reads 1"));
    }

    #[test]
    fn values_without_meaning_are_refused_before_they_are_written() {
        let refused = |change: fn(&mut Metadata)| {
            let mut metadata = metadata();
            change(&mut metadata);
            metadata.to_entries().unwrap_err().to_string()
        };
        assert!(refused(|metadata| metadata.labels.clear()).contains("no labels"));
        assert!(
            refused(|metadata| metadata.labels[1] = metadata.labels[0].clone()).contains("twice")
        );
        assert!(refused(|metadata| metadata.labels[1].clear()).contains("empty"));
        assert!(refused(|metadata| metadata.temperature = f32::NAN).contains("temperature"));
        assert!(refused(|metadata| metadata.preprocess.width = 0).contains("0 pixels"));
        assert!(
            refused(|metadata| {
                metadata.preprocess.photo = Some(PhotoSteps {
                    trim_percent: Some(101),
                    sharpen: false,
                    ground: Ground::Own,
                });
            })
            .contains("101 %")
        );
        assert!(refused(|metadata| metadata.self_test[0].logits.truncate(1)).contains("1 logits"));
    }
}
