//! Facts about an ONNX classifier that was not made by `catalog` and so does not say them itself.
//!
//! Nothing is guessed: every fact is required, because a wrong mean or a swapped layout still gives labels.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::metadata::{validate_labels, validate_preprocess};
use crate::preprocess::Preprocess;

/// Everything that has to be known about a foreign model.
#[derive(Clone, Debug, PartialEq)]
pub struct ForeignFacts {
    /// Class names in the order of the model's output.
    pub labels: Vec<String>,
    /// Input and output.
    pub contract: ForeignContract,
}

/// How a foreign model wants its input and what its output means; read from JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForeignContract {
    /// How an image becomes bytes.
    pub preprocess: Preprocess,
    /// Order of the input's dimensions.
    pub layout: Layout,
    /// A byte becomes `(byte · scale − mean) / std`; 1/255 where the model wants values from 0 to 1.
    pub scale: f32,
    /// One mean per channel.
    pub mean: Vec<f32>,
    /// One standard deviation per channel.
    pub std: Vec<f32>,
    /// What the output's numbers are.
    pub output: OutputKind,
    /// Name of the output, needed where the model has more than one.
    #[serde(default)]
    pub output_name: Option<String>,
}

/// How a foreign model wants its input; read from JSON. The same as in [`ForeignContract`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputContract {
    /// How an image becomes bytes.
    pub preprocess: Preprocess,
    /// Order of the input's dimensions.
    pub layout: Layout,
    /// A byte becomes `(byte · scale − mean) / std`.
    pub scale: f32,
    /// One mean per channel.
    pub mean: Vec<f32>,
    /// One standard deviation per channel.
    pub std: Vec<f32>,
}

/// Order of the dimensions of a foreign model's float input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// Image, channel, row, column.
    Nchw,
    /// Image, row, column, channel.
    Nhwc,
}

/// What the numbers of a foreign model's output are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputKind {
    /// Before the softmax.
    Logits,
    /// After the softmax.
    Probabilities,
}

impl ForeignFacts {
    /// Reads the contract from a JSON file and the class names from a text file with one name a line.
    pub fn read(contract: &Path, labels: &Path) -> Result<Self> {
        let text = fs::read_to_string(contract)
            .with_context(|| format!("{} cannot be read", contract.display()))?;
        let parsed = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a preprocessing contract", contract.display()))?;
        let names = fs::read_to_string(labels)
            .with_context(|| format!("{} cannot be read", labels.display()))?;
        let facts = Self {
            labels: parse_labels(&names),
            contract: parsed,
        };
        facts
            .validate()
            .with_context(|| format!("{} and {}", contract.display(), labels.display()))?;
        Ok(facts)
    }

    pub(crate) fn validate(&self) -> Result<()> {
        validate_labels(&self.labels)?;
        self.contract.input().validate()
    }
}

impl ForeignContract {
    /// The part about the input.
    fn input(&self) -> InputContract {
        let Self {
            preprocess,
            layout,
            scale,
            mean,
            std,
            output: _,
            output_name: _,
        } = self.clone();
        InputContract {
            preprocess,
            layout,
            scale,
            mean,
            std,
        }
    }
}

impl InputContract {
    /// Reads it from a JSON file.
    ///
    /// # Errors
    /// When the file cannot be read, a fact is missing or impossible.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("{name} cannot be read"))?;
        let contract: Self = serde_json::from_str(&text)
            .with_context(|| format!("{name} is not a preprocessing contract"))?;
        contract.validate().with_context(|| name.to_string())?;
        Ok(contract)
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// Names the fact and what it has to be.
    pub fn validate(&self) -> Result<()> {
        let Self {
            preprocess,
            layout: _,
            scale,
            mean,
            std,
        } = self;
        validate_preprocess(preprocess)?;
        ensure!(
            scale.is_finite() && *scale != 0.0,
            "the scale is {scale}, it has to be a number other than zero"
        );
        let channels = preprocess.colour.channels();
        for (name, values) in [("mean", mean), ("std", std)] {
            ensure!(
                values.len() == channels,
                "{name} has {} values for {channels} channels",
                values.len()
            );
            ensure!(
                values.iter().all(|value| value.is_finite()),
                "{name} has a value that is not finite"
            );
        }
        ensure!(
            std.iter().all(|&value| value > 0.0),
            "std has a value that is not above zero"
        );
        Ok(())
    }
}

fn parse_labels(text: &str) -> Vec<String> {
    text.trim_start_matches('\u{feff}')
        .lines()
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTRACT: &str = r#"{
        "preprocess": {"height": 4, "width": 6, "colour": "rgb", "fit": "crop", "filter": "bilinear", "orientation": "apply", "background": [0, 0, 0]},
        "layout": "nchw", "scale": 0.00392157, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "output": "logits"
    }"#;

    fn read(contract: &str, labels: &str) -> Result<ForeignFacts> {
        let folder = tempfile::tempdir().unwrap();
        let (json, txt) = (
            folder.path().join("contract.json"),
            folder.path().join("labels.txt"),
        );
        fs::write(&json, contract).unwrap();
        fs::write(&txt, labels).unwrap();
        ForeignFacts::read(&json, &txt)
    }

    #[test]
    fn facts_are_read_from_json_and_lines() {
        let facts = read(CONTRACT, "\u{feff}boot\r\nbag with handle\n").unwrap();
        assert_eq!(facts.labels, ["boot", "bag with handle"]);
        assert_eq!(facts.contract.layout, Layout::Nchw);
        assert_eq!(facts.contract.output, OutputKind::Logits);
    }

    #[test]
    fn a_missing_or_unknown_fact_is_named() {
        let error = |contract: &str| format!("{:#}", read(contract, "a\nb\n").unwrap_err());
        assert!(
            error(&CONTRACT.replace("\"scale\": 0.00392157,", ""))
                .contains("missing field `scale`")
        );
        assert!(
            error(&CONTRACT.replace("\"scale\"", "\"scales\"")).contains("unknown field `scales`")
        );
        assert!(
            error(&CONTRACT.replace("[0.485, 0.456, 0.406]", "[0.5]"))
                .contains("mean has 1 values for 3 channels")
        );
        assert!(error(&CONTRACT.replace("0.229", "0.0")).contains("not above zero"));
        assert!(
            format!("{:#}", read(CONTRACT, "a\n\nb\n").unwrap_err()).contains("a label is empty")
        );
    }
}
