//! Networks: functions from (height, width, channels, classes, options) to a graph.
//!
//! A network takes images as the model file does, `uint8 [N, H, W, C]`, and ends in logits `[N, K]`; normalisation is part of
//! it. Loss, gradients and optimizer are added by [`crate::artifacts`].

mod cut;
mod efficientnet;
mod layers;
mod resnet;
mod seed;
mod vgg;

use serde::{Deserialize, Serialize};

use crate::graph::{Axes, Dim, ElementType, Graph, Shape, ShapeError, Tensor, TensorType, ValueId};

pub use cut::{Cut, HeadOptions, Trunk, build_cut, build_head};
pub use efficientnet::{EfficientnetOptions, NormMode, Variant};
pub use layers::HEAD;
pub use resnet::ResnetOptions;
pub use seed::SeedOptions;
pub use vgg::VggOptions;

/// Which network, with its options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Architecture {
    /// The convolution–pooling–dense network of the original Fashion-MNIST study.
    Seed(SeedOptions),
    /// A small residual network with batch normalisation.
    Resnet(ResnetOptions),
    /// Stages of 3×3 convolutions with max pooling between them.
    Vgg(VggOptions),
    /// EfficientNet-Lite, which pretrained weights exist for.
    EfficientnetLite(EfficientnetOptions),
    /// One dense layer behind features that come from elsewhere; no network of images.
    Head(HeadOptions),
}

impl Default for Architecture {
    fn default() -> Self {
        Self::Resnet(ResnetOptions::default())
    }
}

/// What a network is built for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Height of the images.
    pub height: usize,
    /// Width of the images.
    pub width: usize,
    /// 1 for grey, 3 for colour.
    pub channels: usize,
    /// Number of classes.
    pub classes: usize,
    /// Mean of each channel over the training images, on the scale 0 to 255.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel over the training images, on the same scale.
    pub deviation: Vec<f32>,
}

/// A network: its graph, where images go in and where logits come out.
#[derive(Clone, Debug)]
pub struct Network {
    /// The description; no loss, no gradients.
    pub graph: Graph,
    /// Input `uint8 [N, H, W, C]`.
    pub images: ValueId,
    /// Output `f32 [N, K]`.
    pub logits: ValueId,
}

/// Name of the image input, in training and in the model file.
pub const IMAGES: &str = "images";

/// Builds a network.
///
/// # Errors
/// When the options give layers that do not fit each other or the image size.
pub fn build(architecture: &Architecture, task: &Task) -> Result<Network, ShapeError> {
    let mut graph = Graph::new();
    let shape = Shape::batch(&[task.height, task.width, task.channels]);
    let images = graph.input(IMAGES, TensorType::new(ElementType::U8, shape));
    let logits = logits(&mut graph, images, architecture, task)?;
    Ok(Network {
        graph,
        images,
        logits,
    })
}

/// Builds a backbone of which every unit learns, with the same parameters in the same order as [`build`]; `norm` says what its
/// normalisations go by while they do.
///
/// # Errors
/// As [`build`].
pub fn build_backbone(
    options: &EfficientnetOptions,
    task: &Task,
    norm: NormMode,
) -> Result<Network, ShapeError> {
    let mut graph = Graph::new();
    let shape = Shape::batch(&[task.height, task.width, task.channels]);
    let images = graph.input(IMAGES, TensorType::new(ElementType::U8, shape));
    let normalised = graph.scoped("normalise", |graph| normalise(graph, images, task))?;
    let logits = efficientnet::build(&mut graph, normalised, task, options, norm)?;
    Ok(Network {
        graph,
        images,
        logits,
    })
}

/// Builds the same network, with the same parameters in the same order, whose logits are the mean of those of each image and of
/// its mirror image. It computes twice as much.
///
/// # Errors
/// As [`build`].
pub fn build_mirror_averaged(
    architecture: &Architecture,
    task: &Task,
) -> Result<Network, ShapeError> {
    let mut graph = Graph::new();
    let shape = Shape::batch(&[task.height, task.width, task.channels]);
    let images = graph.input(IMAGES, TensorType::new(ElementType::U8, shape));
    let both = graph.scoped("mirror", |graph| {
        let mirrored = graph.reverse(images, 2)?;
        graph.concat(&[images, mirrored], 0)
    })?;
    let logits = logits(&mut graph, both, architecture, task)?;
    let mean = graph.scoped("mirror", |graph| {
        let shape = vec![Dim::Fixed(2), Dim::Batch(1), Dim::Fixed(task.classes)];
        let pairs = graph.reshape(logits, Shape::new(shape))?;
        graph.reduce_mean(pairs, Axes::Drop(&[0]))
    })?;
    Ok(Network {
        graph,
        images,
        logits: mean,
    })
}

/// From bytes `[N, H, W, C]` to logits `[N, K]`.
fn logits(
    graph: &mut Graph,
    images: ValueId,
    architecture: &Architecture,
    task: &Task,
) -> Result<ValueId, ShapeError> {
    let normalised = graph.scoped("normalise", |graph| normalise(graph, images, task))?;
    match architecture {
        Architecture::Seed(options) => seed::build(graph, normalised, task, options),
        Architecture::Resnet(options) => resnet::build(graph, normalised, task, options),
        Architecture::Vgg(options) => vgg::build(graph, normalised, task, options),
        Architecture::EfficientnetLite(options) => {
            efficientnet::build(graph, normalised, task, options, NormMode::default())
        }
        Architecture::Head(_) => Err(ShapeError {
            node: "head".to_owned(),
            inputs: vec![],
            problem: "it takes features, not images; give what makes them with --backbone"
                .to_owned(),
        }),
    }
}

/// Bytes `[N, H, W, C]` to floats `[N, C, H, W]` with mean 0 and deviation 1 per channel: `(x − mean) / deviation`.
fn normalise(graph: &mut Graph, images: ValueId, task: &Task) -> Result<ValueId, ShapeError> {
    // Bytes are a quarter to move, and constants of shape [C, 1, 1] meet whole planes.
    let planes = match task.channels {
        // With one channel, NHWC and NCHW hold the same bytes.
        1 => {
            let mut dims = graph.shape(images).dims().to_vec();
            dims.rotate_right(1);
            dims.swap(0, 1);
            graph.reshape(images, Shape::new(dims))?
        }
        _ => graph.transpose(images, &[0, 3, 1, 2])?,
    };
    let floats = graph.cast(planes, ElementType::F32)?;
    let factors: Vec<f32> = task
        .deviation
        .iter()
        .map(|deviation| 1.0 / deviation.max(1.0))
        .collect();
    let offsets: Vec<f32> = task
        .mean
        .iter()
        .zip(&factors)
        .map(|(mean, factor)| -mean * factor)
        .collect();
    let mut per_channel = |values: Vec<f32>| match values.as_slice() {
        [value] => graph.scalar(*value),
        _ => graph.constant(Tensor::f32(&[task.channels, 1, 1], values)),
    };
    let (factors, offsets) = (per_channel(factors), per_channel(offsets));
    let scaled = graph.mul(floats, factors)?;
    graph.add(scaled, offsets)
}
