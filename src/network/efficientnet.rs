//! EfficientNet-Lite (Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019; the Lite variants,
//! without squeeze-and-excite and with ReLU6, are its authors' of 2020): the backbone for photos.
//!
//! A backbone is a row of units: the stem, the inverted residual blocks, and the top, which is a convolution with global average
//! pooling behind it. Parameters have the same names whichever units are built, so that the values of one part fit another.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Task, layers};
use crate::graph::{BatchNorm, Conv2d, Dim, Graph, Initializer, Role, Shape, ShapeError, ValueId};

/// Of the reference implementation.
const NORM: BatchNorm = BatchNorm {
    epsilon: 1e-3,
    momentum: 0.99,
};
/// Filters of the stem, whatever the variant.
const STEM_FILTERS: usize = 32;
/// Width of the features, whatever the variant.
const FEATURE_WIDTH: usize = 1280;

/// Size of an EfficientNet-Lite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// 4.7 million weights, 0.8 billion operations for an image of 224×224.
    #[default]
    Lite0,
    /// 5.4 million weights, 1.2 billion operations at 240×240.
    Lite1,
    /// 6.1 million weights, 1.7 billion operations at 260×260.
    Lite2,
}

/// Which EfficientNet-Lite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EfficientnetOptions {
    /// Its size.
    pub variant: Variant,
    /// Share of the features dropped while training.
    pub dropout: f32,
}

impl Default for EfficientnetOptions {
    fn default() -> Self {
        Self {
            variant: Variant::default(),
            dropout: 0.2,
        }
    }
}

/// What the normalisations go by while training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormMode {
    /// The statistics of the batch, which also move the running ones.
    #[default]
    Batch,
    /// The running statistics, which stay as they are.
    Running,
}

/// An inverted residual block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    kernel: usize,
    stride: usize,
    /// How many times as many channels the depthwise convolution has.
    expansion: usize,
    filters: usize,
}

/// Stages of blocks at width and depth 1 (table 1 of the paper): blocks, kernel, stride of the first block, expansion, filters.
const STAGES: [(usize, usize, usize, usize, usize); 7] = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
];

impl fmt::Display for Variant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Lite0 => "efficientnet-lite0",
            Self::Lite1 => "efficientnet-lite1",
            Self::Lite2 => "efficientnet-lite2",
        })
    }
}

impl Variant {
    /// All variants, the smallest first.
    pub const ALL: [Self; 3] = [Self::Lite0, Self::Lite1, Self::Lite2];

    /// Height and width of the images it was designed for.
    pub fn side(self) -> u32 {
        match self {
            Self::Lite0 => 224,
            Self::Lite1 => 240,
            Self::Lite2 => 260,
        }
    }

    /// Number of units: the stem, the blocks, the top.
    pub fn units(self) -> usize {
        self.blocks().len() + 2
    }

    /// Width and depth as tenths of those of the smallest.
    fn scale(self) -> (usize, usize) {
        match self {
            Self::Lite0 => (10, 10),
            Self::Lite1 => (10, 11),
            Self::Lite2 => (11, 12),
        }
    }

    fn blocks(self) -> Vec<Block> {
        let (width, depth) = self.scale();
        let mut blocks = Vec::new();
        for (stage, (repeats, kernel, stride, expansion, filters)) in STAGES.into_iter().enumerate()
        {
            // The first and the last stage are never deeper.
            let is_fixed = stage == 0 || stage + 1 == STAGES.len();
            let repeats = match is_fixed {
                true => repeats,
                false => (repeats * depth).div_ceil(10),
            };
            for index in 0..repeats {
                blocks.push(Block {
                    kernel,
                    stride: if index == 0 { stride } else { 1 },
                    expansion,
                    filters: rounded_to_eight(filters * width),
                });
            }
        }
        blocks
    }
}

/// The multiple of 8 nearest to a number of tenths, but not below nine tenths of it.
fn rounded_to_eight(tenths: usize) -> usize {
    let nearest = ((tenths + 40) / 80 * 8).max(8);
    match nearest * 100 < tenths * 9 {
        true => nearest + 8,
        false => nearest,
    }
}

pub(super) fn build(
    graph: &mut Graph,
    x: ValueId,
    task: &Task,
    options: &EfficientnetOptions,
    norm: NormMode,
) -> Result<ValueId, ShapeError> {
    let variant = options.variant;
    let features = build_units(graph, x, variant, 0..variant.units(), norm)?;
    let kept = layers::dropout(graph, features, options.dropout)?;
    layers::logits(graph, kept, task.classes)
}

/// Adds some units of a backbone behind `x`: planes `[N, 3, H, W]` where they begin with the stem, else what the unit before gives.
/// The top ends in features `[N, 1280]`.
///
/// # Errors
/// When `x` is not what the first unit takes.
pub(super) fn build_units(
    graph: &mut Graph,
    x: ValueId,
    variant: Variant,
    units: Range<usize>,
    norm: NormMode,
) -> Result<ValueId, ShapeError> {
    let blocks = variant.blocks();
    graph.scoped("backbone", |graph| {
        let mut x = x;
        for unit in units {
            x = match unit.checked_sub(1).map(|index| (index, blocks.get(index))) {
                None => graph.scoped("stem", |graph| {
                    let x = conv_norm(graph, x, STEM_FILTERS, 3, 2, false, norm)?;
                    graph.clip(x, 0.0, 6.0)
                })?,
                Some((index, Some(block))) => graph
                    .scoped(&format!("block{index:02}"), |graph| {
                        inverted_residual(graph, x, *block, norm)
                    })?,
                Some((_, None)) => graph.scoped("top", |graph| {
                    let x = conv_norm(graph, x, FEATURE_WIDTH, 1, 1, false, norm)?;
                    let x = graph.clip(x, 0.0, 6.0)?;
                    let pooled = graph.global_average_pool(x)?;
                    graph.flatten(pooled)
                })?,
            };
        }
        Ok(x)
    })
}

/// 1×1 convolution to more channels, depthwise convolution, 1×1 convolution to fewer; and the input again where it has their shape
/// (Sandler et al., "MobileNetV2", 2018, section 3.4).
fn inverted_residual(
    graph: &mut Graph,
    x: ValueId,
    block: Block,
    norm: NormMode,
) -> Result<ValueId, ShapeError> {
    let channels = layers::size(graph, x, 1);
    let mut y = x;
    if block.expansion > 1 {
        y = graph.scoped("expand", |graph| {
            let wide = channels * block.expansion;
            let y = conv_norm(graph, y, wide, 1, 1, false, norm)?;
            graph.clip(y, 0.0, 6.0)
        })?;
    }
    y = graph.scoped("depthwise", |graph| {
        let wide = channels * block.expansion;
        let y = conv_norm(graph, y, wide, block.kernel, block.stride, true, norm)?;
        graph.clip(y, 0.0, 6.0)
    })?;
    y = graph.scoped("project", |graph| {
        conv_norm(graph, y, block.filters, 1, 1, false, norm)
    })?;
    match block.stride == 1 && channels == block.filters {
        true => graph.add(x, y),
        false => Ok(y),
    }
}

fn conv_norm(
    graph: &mut Graph,
    x: ValueId,
    filters: usize,
    kernel: usize,
    stride: usize,
    is_depthwise: bool,
    norm: NormMode,
) -> Result<ValueId, ShapeError> {
    let convolved = graph.scoped("conv", |graph| {
        let groups = if is_depthwise { filters } else { 1 };
        let channels = layers::size(graph, x, 1) / groups.max(1);
        let weight = graph.parameter(
            "weight",
            &[filters, channels, kernel, kernel],
            Role::Weight,
            Initializer::HeNormal {
                fan_in: channels * kernel * kernel,
            },
        );
        let [top, bottom] = same_padding(layers::size(graph, x, 2), kernel, stride);
        let [left, right] = same_padding(layers::size(graph, x, 3), kernel, stride);
        let geometry = Conv2d {
            strides: [stride; 2],
            padding: [top, left, bottom, right],
            dilations: [1, 1],
            groups,
        };
        graph.conv(x, weight, None, geometry)
    })?;
    normalise(graph, convolved, norm)
}

/// Zeros before and behind, so that a side of `size` becomes `⌈size / stride⌉`; of an odd number the larger half goes behind.
fn same_padding(size: usize, kernel: usize, stride: usize) -> [usize; 2] {
    let covered = (size.div_ceil(stride).max(1) - 1) * stride + kernel;
    let zeros = covered.saturating_sub(size);
    [zeros / 2, zeros - zeros / 2]
}

fn normalise(graph: &mut Graph, x: ValueId, mode: NormMode) -> Result<ValueId, ShapeError> {
    graph.scoped("norm", |graph| {
        let channels = layers::size(graph, x, 1);
        let mut parameter = |name, role, value| {
            graph.parameter(name, &[channels], role, Initializer::Constant(value))
        };
        let scale = parameter("scale", Role::BiasOrNorm, 1.0);
        let bias = parameter("bias", Role::BiasOrNorm, 0.0);
        let mean = parameter("mean", Role::Statistic, 0.0);
        let variance = parameter("variance", Role::Statistic, 1.0);
        match mode {
            NormMode::Batch => graph.batch_norm(x, [scale, bias, mean, variance], NORM),
            NormMode::Running => {
                // x · a + (bias − mean · a) with a = scale / √(variance + ε).
                let variance = graph.shift(variance, NORM.epsilon)?;
                let deviation = graph.sqrt(variance)?;
                let factor = graph.div(scale, deviation)?;
                let moved = graph.mul(mean, factor)?;
                let offset = graph.sub(bias, moved)?;
                let planes = Shape::new(vec![Dim::Fixed(channels), Dim::Fixed(1), Dim::Fixed(1)]);
                let factor = graph.reshape(factor, planes.clone())?;
                let offset = graph.reshape(offset, planes)?;
                let scaled = graph.mul(x, factor)?;
                graph.add(scaled, offset)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{ElementType, TensorType};
    use crate::network::{Architecture, build};

    fn task(side: usize) -> Task {
        Task {
            height: side,
            width: side,
            channels: 3,
            classes: 1000,
            mean: vec![127.0; 3],
            deviation: vec![128.0; 3],
        }
    }

    #[test]
    fn weights_are_as_many_as_the_authors_count() {
        for (variant, expected) in [
            (Variant::Lite0, 4_652_008),
            (Variant::Lite1, 5_416_680),
            (Variant::Lite2, 6_092_072),
        ] {
            let options = EfficientnetOptions {
                variant,
                ..EfficientnetOptions::default()
            };
            let architecture = Architecture::EfficientnetLite(options);
            let network = build(&architecture, &task(variant.side() as usize)).unwrap();
            assert_eq!(network.graph.trained_scalars(), expected);
        }
    }

    #[test]
    fn padding_covers_the_side_and_is_larger_behind() {
        assert_eq!(same_padding(224, 3, 2), [0, 1]);
        assert_eq!(same_padding(112, 5, 2), [1, 2]);
        assert_eq!(same_padding(65, 3, 2), [1, 1]);
        assert_eq!(same_padding(7, 5, 1), [2, 2]);
        assert_eq!(same_padding(1, 3, 2), [1, 1]);
    }

    #[test]
    fn parts_have_the_parameters_of_the_whole() {
        let variant = Variant::Lite0;
        let names = |ranges: &[Range<usize>], norm| {
            let mut all = Vec::new();
            for range in ranges {
                let mut graph = Graph::new();
                let shape = match range.start {
                    0 => [3, 64, 64],
                    _ => [320, 2, 2],
                };
                let ty = TensorType::new(ElementType::F32, Shape::batch(&shape));
                let x = graph.input("x", ty);
                build_units(&mut graph, x, variant, range.clone(), norm).unwrap();
                let values = graph.parameters();
                all.extend(
                    values.map(|(_, value, _)| (value.name.clone(), value.ty.shape.clone())),
                );
            }
            all
        };
        let units = variant.units();
        let whole = names(std::slice::from_ref(&(0..units)), NormMode::Batch);
        let parts = names(&[0..units - 1, units - 1..units], NormMode::Running);
        assert_eq!(whole, parts);
        assert!(
            whole
                .iter()
                .any(|(name, _)| name == "backbone.block03.depthwise.norm.scale")
        );
    }

    /// The axes are right: a size that differs along H and W comes out at a 32nd of each.
    #[test]
    fn any_size_of_images_will_do() {
        let mut graph = Graph::new();
        let shape = Shape::batch(&[3, 70, 33]);
        let x = graph.input("x", TensorType::new(ElementType::F32, shape));
        let units = Variant::Lite0.units();
        let y = build_units(&mut graph, x, Variant::Lite0, 0..units - 1, NormMode::Batch).unwrap();
        let sizes: Vec<usize> = (1..4).map(|axis| layers::size(&graph, y, axis)).collect();
        assert_eq!(sizes, [320, 3, 2]);
    }
}
