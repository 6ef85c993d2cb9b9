//! Layers with their parameters.

use crate::graph::{BatchNorm, Conv2d, Dim, Graph, Initializer, Pool2d, Role, ShapeError, ValueId};

/// Images whose shorter side is longer than this are halved in the stem until it is not.
const LARGEST_STAGE_SIDE: usize = 40;

/// What the names of the last layer's parameters begin with.
pub const HEAD: &str = "head";

/// Size of a fixed axis; 0 for one that depends on the batch.
pub(super) fn size(graph: &Graph, x: ValueId, axis: usize) -> usize {
    match graph.shape(x).dims().get(axis) {
        Some(Dim::Fixed(size)) => *size,
        Some(Dim::Batch(_)) | None => 0,
    }
}

/// Convolution with a square kernel and no bias, for use before a normalisation: a bias there would have a true gradient of
/// zero, and an adaptive optimizer turns its rounding noise into drift.
pub(super) fn conv(
    graph: &mut Graph,
    x: ValueId,
    filters: usize,
    kernel: usize,
    stride: usize,
) -> Result<ValueId, ShapeError> {
    graph.scoped("conv", |graph| {
        let weight = conv_weight(graph, x, filters, kernel);
        graph.conv(x, weight, None, Conv2d::same(kernel).with_stride(stride))
    })
}

/// Convolutions with stride 2, until an image is no larger than the networks are shaped for.
pub(super) fn halve_large(
    graph: &mut Graph,
    x: ValueId,
    filters: usize,
) -> Result<ValueId, ShapeError> {
    let mut x = x;
    while size(graph, x, 2).min(size(graph, x, 3)) > LARGEST_STAGE_SIDE {
        x = graph.scoped("halve", |graph| conv_norm_relu(graph, x, filters, 2))?;
    }
    Ok(x)
}

/// 3×3 convolution, batch normalisation, rectifier.
pub(super) fn conv_norm_relu(
    graph: &mut Graph,
    x: ValueId,
    filters: usize,
    stride: usize,
) -> Result<ValueId, ShapeError> {
    let convolved = conv(graph, x, filters, 3, stride)?;
    let normalised = batch_norm(graph, convolved)?;
    graph.relu(normalised)
}

/// 3×3 convolution, 2×2 max pooling if `pools`, and batch normalisation, or the convolution's bias in its place.
///
/// The pooling goes before the normalisation, which then sees a quarter of the values (Jordan, "94% on CIFAR-10 in 3.29 seconds on
/// a single GPU", 2024, has the same order). Both go before the rectifier, whose gradient sees as few.
pub(super) fn conv_pool_norm(
    graph: &mut Graph,
    x: ValueId,
    filters: usize,
    pools: bool,
    normalised: bool,
) -> Result<ValueId, ShapeError> {
    let convolved = match normalised {
        true => conv(graph, x, filters, 3, 1)?,
        false => conv_with_bias(graph, x, filters, 3)?,
    };
    let pooled = match pools {
        true => max_pool_if_it_fits(graph, convolved)?,
        false => convolved,
    };
    match normalised {
        true => batch_norm(graph, pooled),
        false => Ok(pooled),
    }
}

/// 2×2 max pooling, or nothing where the image is too small for it.
pub(super) fn max_pool_if_it_fits(graph: &mut Graph, x: ValueId) -> Result<ValueId, ShapeError> {
    match size(graph, x, 2) >= 2 && size(graph, x, 3) >= 2 {
        true => graph.max_pool(x, Pool2d::square(2)),
        false => Ok(x),
    }
}

/// Convolution with a square kernel and a bias.
pub(super) fn conv_with_bias(
    graph: &mut Graph,
    x: ValueId,
    filters: usize,
    kernel: usize,
) -> Result<ValueId, ShapeError> {
    graph.scoped("conv", |graph| {
        let weight = conv_weight(graph, x, filters, kernel);
        let bias = graph.parameter(
            "bias",
            &[filters],
            Role::BiasOrNorm,
            Initializer::Constant(0.0),
        );
        graph.conv(x, weight, Some(bias), Conv2d::same(kernel))
    })
}

fn conv_weight(graph: &mut Graph, x: ValueId, filters: usize, kernel: usize) -> ValueId {
    let channels = size(graph, x, 1);
    let fan_in = channels * kernel * kernel;
    let shape = [filters, channels, kernel, kernel];
    graph.parameter(
        "weight",
        &shape,
        Role::Weight,
        Initializer::HeNormal { fan_in },
    )
}

/// Batch normalisation.
pub(super) fn batch_norm(graph: &mut Graph, x: ValueId) -> Result<ValueId, ShapeError> {
    graph.scoped("norm", |graph| {
        let channels = [size(graph, x, 1)];
        let mut parameter = |name, role, value| {
            graph.parameter(name, &channels, role, Initializer::Constant(value))
        };
        let parameters = [
            parameter("scale", Role::BiasOrNorm, 1.0),
            parameter("bias", Role::BiasOrNorm, 0.0),
            parameter("mean", Role::Statistic, 0.0),
            parameter("variance", Role::Statistic, 1.0),
        ];
        graph.batch_norm(x, parameters, BatchNorm::default())
    })
}

/// Dense layer on `[N, I]` that a rectifier follows.
pub(super) fn dense(graph: &mut Graph, x: ValueId, units: usize) -> Result<ValueId, ShapeError> {
    let fan_in = size(graph, x, 1);
    dense_from(graph, x, units, Initializer::HeNormal { fan_in })
}

/// Last dense layer: logits.
pub(super) fn logits(graph: &mut Graph, x: ValueId, classes: usize) -> Result<ValueId, ShapeError> {
    let fan_in = size(graph, x, 1);
    graph.scoped(HEAD, |graph| {
        dense_from(graph, x, classes, Initializer::LecunUniform { fan_in })
    })
}

fn dense_from(
    graph: &mut Graph,
    x: ValueId,
    units: usize,
    initializer: Initializer,
) -> Result<ValueId, ShapeError> {
    graph.scoped("dense", |graph| {
        let shape = [units, size(graph, x, 1)];
        let weight = graph.parameter("weight", &shape, Role::Weight, initializer);
        let bias = graph.parameter(
            "bias",
            &[units],
            Role::BiasOrNorm,
            Initializer::Constant(0.0),
        );
        graph.dense(x, weight, bias)
    })
}

/// Dropout, or nothing where the ratio is 0.
pub(super) fn dropout(graph: &mut Graph, x: ValueId, ratio: f32) -> Result<ValueId, ShapeError> {
    match ratio > 0.0 {
        true => graph.dropout(x, ratio),
        false => Ok(x),
    }
}
