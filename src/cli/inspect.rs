//! `catalog inspect`: everything a model file says about itself. It needs no ONNX Runtime, since nothing is run.

mod calibration;
mod training;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use pipeline::model::{Calibration, Familiarity, ModelFile};
use pipeline::onnx::{
    DimensionValue, ModelProto, TensorTypeProto, TypeValue, ValueInfoProto, data_type,
};
use pipeline::preprocess::{PhotoSteps, Preprocess};
use prost::Message as _;
use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use self::calibration::AtPrecision;
use super::print;
use crate::default_model::default_model;

/// Width of the text.
const COLUMNS: usize = 80;
/// Columns of a fact's name, with the gap behind it.
const NAME_COLUMNS: usize = 13;

/// Say everything a model file says about itself
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  catalog inspect models/shop/model.onnx
  catalog inspect models/shop/model.onnx --json | jq .labels

The file is checked as before any use: its checksum, its content, its labels and shapes.")]
pub(super) struct InspectArgs {
    /// Model file [default: the model for fashion articles that is part of the program]
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Write JSON instead of text
    #[arg(long)]
    json: bool,
}

/// What a model file says about itself.
#[derive(Debug, Serialize)]
struct Description<'a> {
    file: &'a str,
    bytes: usize,
    sha256: &'a str,
    format_version: u32,
    ir_version: Option<i64>,
    opsets: Vec<Opset>,
    producer: String,
    nodes: usize,
    inputs: Vec<String>,
    outputs: Vec<String>,
    labels: &'a [String],
    preprocess: &'a Preprocess,
    temperature: f32,
    /// What the confidences were worth on the validation images.
    calibration: Option<&'a Calibration>,
    /// From which confidence on labels are accepted, for some precisions.
    thresholds: Option<Vec<AtPrecision>>,
    /// What tells images of unknown things.
    familiarity: Option<&'a Familiarity>,
    self_tests: usize,
    training: &'a serde_json::Value,
}

#[derive(Debug, Serialize)]
struct Opset {
    domain: String,
    version: i64,
}

/// Runs `catalog inspect`.
pub(super) fn run(args: &InspectArgs) -> Result<ExitCode> {
    let model = match &args.model {
        Some(path) => ModelFile::read(path)?,
        None => default_model()?,
    };
    let onnx = ModelProto::decode(model.bytes())
        .with_context(|| format!("{} is not an ONNX model", model.name()))?;
    let description = Description::new(&model, &onnx);
    print(&match args.json {
        true => serde_json::to_string_pretty(&description)? + "\n",
        false => description.text(),
    })?;
    Ok(ExitCode::SUCCESS)
}

impl<'a> Description<'a> {
    fn new(model: &'a ModelFile, onnx: &ModelProto) -> Self {
        let metadata = model.metadata();
        let graph = onnx.graph.as_ref();
        let opsets = onnx.opset_import.iter().map(|opset| Opset {
            domain: match opset.domain() {
                "" => "ai.onnx".to_owned(),
                domain => domain.to_owned(),
            },
            version: opset.version(),
        });
        let values = |values: &[ValueInfoProto]| values.iter().map(written).collect();
        Self {
            file: model.name(),
            bytes: model.bytes().len(),
            sha256: model.checksum(),
            format_version: metadata.format_version,
            ir_version: onnx.ir_version,
            opsets: opsets.collect(),
            producer: format!("{} {}", onnx.producer_name(), onnx.producer_version())
                .trim()
                .to_owned(),
            nodes: graph.map_or(0, |graph| graph.node.len()),
            inputs: graph.map_or_else(Vec::new, |graph| values(&graph.input)),
            outputs: graph.map_or_else(Vec::new, |graph| values(&graph.output)),
            labels: &metadata.labels,
            preprocess: &metadata.preprocess,
            temperature: metadata.temperature,
            calibration: metadata.calibration.as_ref(),
            thresholds: metadata
                .calibration
                .as_ref()
                .map(calibration::at_precisions),
            familiarity: metadata.familiarity.as_ref(),
            self_tests: metadata.self_test.len(),
            training: &metadata.summary,
        }
    }

    /// For a person: a fact a line, its name in front.
    fn text(&self) -> String {
        let opsets: Vec<String> = self
            .opsets
            .iter()
            .map(|opset| format!("{} {}", opset.domain, opset.version))
            .collect();
        let mut lines = vec![
            fact("file", self.file),
            fact("size", format!("{} bytes", self.bytes)),
            fact("SHA-256", self.sha256),
            fact(
                "format",
                format!(
                    "catalog {}, ONNX IR {}, operators {}, written by {}",
                    self.format_version,
                    self.ir_version.unwrap_or_default(),
                    opsets.join(" and "),
                    self.producer
                ),
            ),
            fact("graph", format!("{} nodes", self.nodes)),
            fact("inputs", self.inputs.join(", ")),
            fact("outputs", self.outputs.join(", ")),
            fact("image", image(self.preprocess)),
            fact("self-test", format!("{} images", self.self_tests)),
            fact("labels", self.labels.len()),
        ];
        let digits = self.labels.len().saturating_sub(1).to_string().len();
        for (number, label) in self.labels.iter().enumerate() {
            lines.push(format!("  {number:>digits$}  {}", printable(label)));
        }
        lines.push(String::new());
        lines.push(fact("temperature", self.temperature));
        lines.extend(calibration::lines(self.calibration, self.labels));
        lines.push(String::new());
        lines.push(calibration::familiarity_line(self.familiarity));
        lines.push(String::new());
        lines.extend(training::lines(self.training));
        lines.join("\n") + "\n"
    }
}

/// A name and what it is, broken at spaces into lines of at most [`COLUMNS`] columns.
fn fact(name: &str, value: impl ToString) -> String {
    let mut text = format!("{name:<NAME_COLUMNS$}");
    let mut column = NAME_COLUMNS;
    for (place, word) in printable(&value.to_string()).split(' ').enumerate() {
        if place > 0 && column + 1 + word.width() > COLUMNS {
            text.push('\n');
            text.push_str(&" ".repeat(NAME_COLUMNS));
            column = NAME_COLUMNS;
        } else if place > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += word.width();
    }
    text
}

/// Text from a file cannot move the cursor.
fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| match letter.is_control() {
            true => '\u{fffd}',
            false => letter,
        })
        .collect()
}

fn image(preprocess: &Preprocess) -> String {
    let Preprocess {
        height,
        width,
        colour,
        fit,
        filter,
        orientation,
        background: [red, green, blue],
        reduced_jpeg,
        photo,
    } = preprocess;
    let jpeg = match reduced_jpeg {
        true => ", large JPEGs decoded at a fraction of their size",
        false => "",
    };
    let photo = photo.as_ref().map(photo_steps).unwrap_or_default();
    format!(
        "{width}×{height} {} (width×height), fit {}, filter {}, EXIF orientation {}, background {red},{green},{blue}{jpeg}{photo}",
        word(colour),
        word(fit),
        word(filter),
        word(orientation)
    )
}

/// What happens to images of another size, behind the other facts.
fn photo_steps(steps: &PhotoSteps) -> String {
    let PhotoSteps {
        trim_percent,
        sharpen,
        ground,
    } = steps;
    let trim = trim_percent.map_or("not trimmed".to_owned(), |percent| {
        format!("trimmed within {percent} % of the corner's colour")
    });
    let sharpen = if *sharpen { ", sharpened" } else { "" };
    format!("; photos {trim}{sharpen}, ground {}", word(ground))
}

/// The word by which a choice goes in JSON.
fn word(choice: &impl Serialize) -> String {
    match serde_json::to_value(choice) {
        Ok(serde_json::Value::String(word)) => word,
        other => format!("{other:?}"),
    }
}

/// Name, element type and shape: `images uint8 [N, 28, 28, 1]`.
fn written(value: &ValueInfoProto) -> String {
    let tensor = match value.r#type.as_ref().and_then(|typed| typed.value.as_ref()) {
        Some(TypeValue::Tensor(tensor)) => tensor,
        Some(TypeValue::Sequence(_)) | None => return value.name().to_owned(),
    };
    format!(
        "{} {} {}",
        value.name(),
        element(tensor.elem_type()),
        shape(tensor)
    )
}

fn element(number: i32) -> String {
    match number {
        data_type::FLOAT => "float32".to_owned(),
        data_type::UINT8 => "uint8".to_owned(),
        data_type::FLOAT16 => "float16".to_owned(),
        data_type::INT32 => "int32".to_owned(),
        data_type::INT64 => "int64".to_owned(),
        data_type::BOOL => "bool".to_owned(),
        other => format!("type {other}"),
    }
}

fn shape(tensor: &TensorTypeProto) -> String {
    let Some(shape) = &tensor.shape else {
        return "of any shape".to_owned();
    };
    let sizes: Vec<String> = shape
        .dim
        .iter()
        .map(|dimension| match &dimension.value {
            Some(DimensionValue::Fixed(size)) => size.to_string(),
            Some(DimensionValue::Symbolic(name)) => name.clone(),
            None => "?".to_owned(),
        })
        .collect();
    format!("[{}]", sizes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_model_describes_itself() {
        let model = default_model().unwrap();
        let onnx = ModelProto::decode(model.bytes()).unwrap();
        let description = Description::new(&model, &onnx);
        let text = description.text();
        let rows: Vec<&str> = text.lines().collect();
        assert!(rows.iter().all(|row| row.width() <= COLUMNS), "{text}");
        let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "images uint8 [N, 28, 28, 1]",
            "probabilities float32 [N, 10]",
            "28×28 grey (width×height), fit pad, filter bilinear, EXIF orientation apply",
            "trimmed within 5 % of the corner's colour",
            "0 T-shirt/top",
            "fashion-mnist: 54000 images to learn from, 6000 to choose by",
            " best",
            "the mean of 4 models, weights rounded to int8",
            "validation accuracy 0.9573, loss 0.1157 on 6000 images",
            "architecture.name vgg",
            "architecture.name resnet",
        ] {
            assert!(joined.contains(part), "{part:?} is not in:\n{text}");
        }
        assert!(text.contains(model.checksum()), "{text}");
        let json = serde_json::to_value(&description).unwrap();
        assert_eq!(json["labels"].as_array().unwrap().len(), 10);
        assert!(json["training"]["members"][1]["options"].is_object());
    }

    #[test]
    fn facts_keep_within_their_columns_and_control_characters_are_not_shown() {
        let text = fact("labels", "größe ".repeat(30));
        assert!(text.lines().count() > 2 && text.lines().all(|line| line.width() <= COLUMNS));
        assert!(
            text.lines()
                .skip(1)
                .all(|line| line.starts_with("             gr"))
        );
        assert_eq!(fact("x", "y"), "x            y");
        assert_eq!(printable("a\nb\u{1b}"), "a\u{fffd}b\u{fffd}");
    }
}
