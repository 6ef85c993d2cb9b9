//! A network with a backbone in two parts: the trunk, which stays as it is, and the tail, which learns.

use serde::{Deserialize, Serialize};

use super::efficientnet::{EfficientnetOptions, NormMode, build_units};
use super::layers::{dropout, logits};
use super::{IMAGES, Network, Task, normalise};
use crate::graph::{ElementType, Graph, Shape, ShapeError, TensorType, ValueId};

/// Name of the tail's input.
const FEATURES: &str = "features";

/// The layer behind features that come from elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeadOptions {
    /// Share of the features dropped while training.
    pub dropout: f32,
}

impl Default for HeadOptions {
    fn default() -> Self {
        Self {
            dropout: EfficientnetOptions::default().dropout,
        }
    }
}

/// Builds the layer behind `width` features; its input is [`Network::images`].
///
/// # Errors
/// When the dropout is no share.
pub fn build_head(
    options: &HeadOptions,
    width: usize,
    classes: usize,
) -> Result<Network, ShapeError> {
    let mut graph = Graph::new();
    let features = graph.input(FEATURES, TensorType::f32(Shape::batch(&[width])));
    let kept = dropout(&mut graph, features, options.dropout)?;
    let logits = logits(&mut graph, kept, classes)?;
    Ok(Network {
        graph,
        images: features,
        logits,
    })
}

/// The first units of a backbone, from images to features.
#[derive(Clone, Debug)]
pub struct Trunk {
    /// The description.
    pub graph: Graph,
    /// Input `uint8 [N, H, W, C]`.
    pub images: ValueId,
    /// Output `f32 [N, …]`.
    pub features: ValueId,
}

/// A network in two parts, whose parameters have the names they have in the whole one.
#[derive(Clone, Debug)]
pub struct Cut {
    /// From images to features.
    pub trunk: Trunk,
    /// From features to logits; its input is [`Network::images`].
    pub tail: Network,
}

/// Builds a network whose last `trained_units` units of the backbone learn, beside its last layer; with none of them, the features
/// are what the whole backbone gives.
///
/// `norm` says what the normalisations of these units go by while they learn.
///
/// # Errors
/// When the backbone has fewer units, or the images are too small for it.
pub fn build_cut(
    options: &EfficientnetOptions,
    task: &Task,
    trained_units: usize,
    norm: NormMode,
) -> Result<Cut, ShapeError> {
    let units = options.variant.units();
    let cut = units.saturating_sub(trained_units);

    let mut graph = Graph::new();
    let shape = Shape::batch(&[task.height, task.width, task.channels]);
    let images = graph.input(IMAGES, TensorType::new(ElementType::U8, shape));
    let planes = graph.scoped("normalise", |graph| normalise(graph, images, task))?;
    let variant = options.variant;
    let features = build_units(&mut graph, planes, variant, 0..cut, NormMode::Batch)?;
    let trunk = Trunk {
        graph,
        images,
        features,
    };

    let mut graph = Graph::new();
    let input = TensorType::f32(trunk.graph.shape(features).clone());
    let features = graph.input(FEATURES, input);
    let pooled = build_units(&mut graph, features, variant, cut..units, norm)?;
    let kept = dropout(&mut graph, pooled, options.dropout)?;
    let logits = logits(&mut graph, kept, task.classes)?;
    let tail = Network {
        graph,
        images: features,
        logits,
    };
    Ok(Cut { trunk, tail })
}
