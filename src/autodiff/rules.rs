//! One rule per operation: from the gradient of its first output to the gradients of its inputs.
//!
//! dY stands for ∂loss/∂Y. Each rule has its formula above it and builds only what is wanted.

use anyhow::{Result, bail, ensure};

use crate::graph::{Axes, Dim, ElementType, Graph, Node, Op, Shape, ValueId};

/// Gradients of the inputs of `node`, in their order; `None` where not wanted.
pub(super) fn input_gradients(
    graph: &mut Graph,
    node: &Node,
    dy: ValueId,
    wanted: &[bool],
) -> Result<Vec<Option<ValueId>>> {
    let y = node.outputs[0];
    let input = |index: usize| node.inputs[index];
    let wants = |index: usize| wanted.get(index).copied().unwrap_or(false);
    // One gradient for the first input, which is the only one that can be wanted or the only one there is.
    let only = |gradient: ValueId| {
        let mut gradients = vec![None; node.inputs.len()];
        gradients[0] = Some(gradient);
        gradients
    };

    Ok(match &node.op {
        // dA = dY, dB = dY, each summed over the axes it was broadcast along.
        Op::Add => vec![
            if_wanted(wants(0), || sum_to(graph, dy, input(0)))?,
            if_wanted(wants(1), || sum_to(graph, dy, input(1)))?,
        ],
        // dA = dY, dB = −dY.
        Op::Sub => vec![
            if_wanted(wants(0), || sum_to(graph, dy, input(0)))?,
            if_wanted(wants(1), || {
                let negative = graph.scale(dy, -1.0)?;
                sum_to(graph, negative, input(1))
            })?,
        ],
        // dA = dY · B, dB = dY · A.
        Op::Mul => vec![
            if_wanted(wants(0), || {
                let product = graph.mul(dy, input(1))?;
                sum_to(graph, product, input(0))
            })?,
            if_wanted(wants(1), || {
                let product = graph.mul(dy, input(0))?;
                sum_to(graph, product, input(1))
            })?,
        ],
        // dA = dY / B, dB = −dY · Y / B.
        Op::Div => vec![
            if_wanted(wants(0), || {
                let quotient = graph.div(dy, input(1))?;
                sum_to(graph, quotient, input(0))
            })?,
            if_wanted(wants(1), || {
                let product = graph.mul(dy, y)?;
                let quotient = graph.div(product, input(1))?;
                let negative = graph.scale(quotient, -1.0)?;
                sum_to(graph, negative, input(1))
            })?,
        ],
        // dX = dY / (2 √X).
        Op::Sqrt => {
            let half = graph.scale(dy, 0.5)?;
            only(graph.div(half, y)?)
        }
        // dX = dY · Y.
        Op::Exp => only(graph.mul(dy, y)?),
        // dX = dY / X.
        Op::Log => only(graph.div(dy, input(0))?),
        // dX = dY · 2/√π · exp(−X²).
        Op::Erf => {
            let square = graph.mul(input(0), input(0))?;
            let negative = graph.scale(square, -1.0)?;
            let bell = graph.exp(negative)?;
            let slope = graph.scale(bell, std::f32::consts::FRAC_2_SQRT_PI)?;
            only(graph.mul(dy, slope)?)
        }
        // dX = dY where Y > 0, else 0.
        Op::Relu => only(graph.node(Op::ReluGrad, &[dy, y])?[0]),
        // dX = dY where X > 0, else alpha · dY.
        Op::LeakyRelu { alpha } => {
            only(graph.node(Op::LeakyReluGrad { alpha: *alpha }, &[dy, input(0)])?[0])
        }
        // dX = dY where min < X < max, else 0.
        &Op::Clip { min, max } => only(graph.node(Op::ClipGrad { min, max }, &[dy, input(0)])?[0]),
        // dX = dY · Y · (1 − Y).
        Op::Sigmoid => only(graph.node(Op::SigmoidGrad, &[dy, y])?[0]),
        // dX = dY ⋆ W turned by 180°; dW = X ⋆ dY; dB = sum of dY over N, H and W.
        Op::Conv(conv) => {
            let operands = [dy, input(0), input(1)];
            let mut gradients = vec![
                if_wanted(wants(0), || {
                    Ok(graph.node(Op::ConvInputGrad(*conv), &operands)?[0])
                })?,
                if_wanted(wants(1), || {
                    Ok(graph.node(Op::ConvWeightGrad(*conv), &operands)?[0])
                })?,
            ];
            if node.inputs.len() == 3 {
                gradients.push(if_wanted(wants(2), || {
                    Ok(graph.reduce_sum(dy, Axes::Drop(&[0, 2, 3]))?)
                })?);
            }
            gradients
        }
        // Y = A·B + C (A, B as transposed): dA = dY·Bᵀ, dB = Aᵀ·dY, dC = dY summed to the shape of C.
        &Op::Gemm {
            transpose_a,
            transpose_b,
        } => {
            let (a, b) = (input(0), input(1));
            let mut product = |left: (ValueId, bool), right: (ValueId, bool)| {
                let op = Op::Gemm {
                    transpose_a: left.1,
                    transpose_b: right.1,
                };
                Ok(graph.node(op, &[left.0, right.0])?[0])
            };
            let mut gradients = vec![
                if_wanted(wants(0), || match transpose_a {
                    false => product((dy, false), (b, !transpose_b)),
                    true => product((b, transpose_b), (dy, true)),
                })?,
                if_wanted(wants(1), || match transpose_b {
                    false => product((a, !transpose_a), (dy, false)),
                    true => product((dy, true), (a, transpose_a)),
                })?,
            ];
            if node.inputs.len() == 3 {
                gradients.push(if_wanted(wants(2), || sum_to(graph, dy, input(2)))?);
            }
            gradients
        }
        // dA = dY·Bᵀ, dB = Aᵀ·dY on the last two axes.
        Op::MatMul => {
            let mut swap_last_two: Vec<usize> = (0..graph.shape(y).rank()).collect();
            let rank = swap_last_two.len();
            swap_last_two.swap(rank - 2, rank - 1);
            vec![
                if_wanted(wants(0), || {
                    let transposed = graph.transpose(input(1), &swap_last_two)?;
                    Ok(graph.matmul(dy, transposed)?)
                })?,
                if_wanted(wants(1), || {
                    let transposed = graph.transpose(input(0), &swap_last_two)?;
                    Ok(graph.matmul(transposed, dy)?)
                })?,
            ]
        }
        // With x̂ = (X − mean) / std: dScale = Σ dY·x̂, dBias = Σ dY,
        // dX = scale / std · (dY − mean(dY) − x̂ · mean(dY·x̂)), sums and means per channel (Ioffe & Szegedy, 2015).
        Op::BatchNorm(norm) => {
            let operands = [dy, input(0), input(1), node.outputs[1], node.outputs[2]];
            let gradients = graph.node(Op::BatchNormGrad(*norm), &operands)?;
            (0..5)
                .map(|index| gradients.get(index).copied().filter(|_| wants(index)))
                .collect()
        }
        // dX = dY at the index of each window's largest value, added up where windows overlap.
        Op::MaxPool(_) => only(graph.node(Op::MaxPoolGrad, &[dy, node.outputs[1], input(0)])?[0]),
        // dX = dY / (kH·kW) at every place of its window, added up where windows overlap.
        Op::AveragePool(pool) => only(graph.node(Op::AveragePoolGrad(*pool), &[dy, input(0)])?[0]),
        // dX = dY / (H·W) everywhere.
        Op::GlobalAveragePool => {
            let scaled = graph.scale(dy, 1.0 / elements(&graph.shape(input(0)).dims()[2..])?)?;
            only(graph.expand_like(scaled, input(0))?)
        }
        // dX = Y · (dY − Σ dY·Y).
        Op::Softmax => only(graph.node(Op::SoftmaxGrad, &[dy, y])?[0]),
        // dX = dY − softmax(X) · Σ dY.
        Op::LogSoftmax => only(graph.node(Op::LogSoftmaxGrad, &[dy, y])?[0]),
        // dLogits = dLoss · (softmax − one-hot) · weight of the label / Σ weights.
        Op::SoftmaxCrossEntropy => {
            let mut operands = vec![dy, node.outputs[1]];
            operands.extend(&node.inputs[1..]);
            only(graph.node(Op::SoftmaxCrossEntropyGrad, &operands)?[0])
        }
        // dX = dY · mask / (1 − ratio).
        Op::Dropout { ratio } => {
            only(graph.node(Op::DropoutGrad { ratio: *ratio }, &[dy, node.outputs[1]])?[0])
        }
        // dXᵢ = the part of dY that Xᵢ became.
        Op::Concat { axis } => {
            let mut start = 0;
            let mut gradients = Vec::new();
            for (index, &id) in node.inputs.iter().enumerate() {
                let end = start + fixed(graph.shape(id).dims()[*axis])?;
                gradients.push(if_wanted(wants(index), || {
                    Ok(graph.slice(dy, *axis, start..end)?)
                })?);
                start = end;
            }
            gradients
        }
        // dX = dY surrounded by zeros.
        &Op::Slice { axis, start, end } => {
            let dims = graph.shape(input(0)).dims().to_vec();
            let (mut before, mut behind) = (vec![0; dims.len()], vec![0; dims.len()]);
            before[axis] = start;
            behind[axis] = fixed(dims[axis])? - end;
            only(graph.pad(dy, &before, &behind)?)
        }
        &Op::Reverse { axis } => only(graph.reverse(dy, axis)?),
        // dX = the inner part of dY.
        Op::Pad { before, behind } => {
            let mut inner = dy;
            for axis in 0..before.len() {
                if before[axis] + behind[axis] > 0 {
                    let size = fixed(graph.shape(inner).dims()[axis])?;
                    inner = graph.slice(inner, axis, before[axis]..size - behind[axis])?;
                }
            }
            only(inner)
        }
        // dX = dY in the shape of X.
        Op::Reshape { .. } => {
            let shape = graph.shape(input(0)).clone();
            only(graph.reshape(dy, shape)?)
        }
        // dX = dY with the axes put back.
        Op::Transpose { permutation } => {
            let mut inverse = vec![0; permutation.len()];
            for (to, &from) in permutation.iter().enumerate() {
                inverse[from] = to;
            }
            only(graph.transpose(dy, &inverse)?)
        }
        // dX = dY repeated along the axes.
        Op::ReduceSum { axes, keep } => only(spread(graph, dy, input(0), axes, *keep)?),
        // dX = dY / count, repeated along the axes; where the batch axis is among them, only a run knows the count.
        Op::ReduceMean { axes, keep } => {
            let spread_out = spread(graph, dy, input(0), axes, *keep)?;
            let dims = axes.iter().map(|&axis| graph.shape(input(0)).dims()[axis]);
            let (batch, fixed): (Vec<Dim>, Vec<Dim>) =
                dims.partition(|dim| matches!(dim, Dim::Batch(_)));
            let scaled = graph.scale(spread_out, 1.0 / elements(&fixed)?)?;
            only(match batch.is_empty() {
                true => scaled,
                false => {
                    let images = graph.batch_size(input(0))?;
                    graph.div(scaled, images)?
                }
            })
        }
        // dX = dY summed over the axes that were repeated.
        Op::ExpandLike => only(sum_to(graph, dy, input(0))?),
        Op::BatchSize => bail!("the batch size has no gradient"),
        // dX = dY converted back, between floats; whole numbers have no slope.
        Op::Cast { to } => {
            let from = graph.value(input(0)).ty.element;
            ensure!(
                from == ElementType::F32 && *to == ElementType::F32,
                "a conversion from {from} to {to} has no gradient"
            );
            only(graph.cast(dy, from)?)
        }
        Op::ReluGrad
        | Op::LeakyReluGrad { .. }
        | Op::ClipGrad { .. }
        | Op::SigmoidGrad
        | Op::ConvInputGrad(_)
        | Op::ConvWeightGrad(_)
        | Op::BatchNormGrad(_)
        | Op::MaxPoolGrad
        | Op::AveragePoolGrad(_)
        | Op::SoftmaxGrad
        | Op::LogSoftmaxGrad
        | Op::SoftmaxCrossEntropyGrad
        | Op::DropoutGrad { .. }
        | Op::NesterovStep { .. }
        | Op::Accumulate => bail!("{} cannot be differentiated again", node.op.name()),
    })
}

fn if_wanted(wanted: bool, gradient: impl FnOnce() -> Result<ValueId>) -> Result<Option<ValueId>> {
    wanted.then(gradient).transpose()
}

fn fixed(dim: Dim) -> Result<usize> {
    match dim {
        Dim::Fixed(size) => Ok(size),
        Dim::Batch(_) => bail!("the batch axis has no fixed size"),
    }
}

/// Product of fixed sizes.
fn elements(dims: &[Dim]) -> Result<f32> {
    let sizes = dims
        .iter()
        .map(|&dim| fixed(dim))
        .collect::<Result<Vec<_>>>()?;
    Ok(sizes.iter().product::<usize>() as f32)
}

/// Sums a gradient over the axes along which `like` was broadcast, so that it has the shape of `like`.
fn sum_to(graph: &mut Graph, gradient: ValueId, like: ValueId) -> Result<ValueId> {
    let target = graph.shape(like).clone();
    let dims = graph.shape(gradient).dims().to_vec();
    let missing = dims.len() - target.rank();
    let axes: Vec<usize> = (0..dims.len())
        .filter(|&axis| axis < missing || (target.dims()[axis - missing] != dims[axis]))
        .collect();
    if axes.is_empty() {
        return Ok(gradient);
    }
    let summed = graph.reduce_sum(gradient, Axes::Keep(&axes))?;
    Ok(match missing {
        0 => summed,
        _ => graph.reshape(summed, target)?,
    })
}

/// Undoes a reduction's shape: the dropped axes come back with size 1, then are repeated to the shape of `like`.
fn spread(
    graph: &mut Graph,
    gradient: ValueId,
    like: ValueId,
    axes: &[usize],
    keep: bool,
) -> Result<ValueId> {
    let kept = match keep {
        true => gradient,
        false => {
            let dims = graph.shape(like).dims().iter().enumerate();
            let dims = dims.map(|(axis, &dim)| {
                if axes.contains(&axis) {
                    Dim::Fixed(1)
                } else {
                    dim
                }
            });
            let shape = Shape::new(dims.collect());
            graph.reshape(gradient, shape)?
        }
    };
    Ok(graph.expand_like(kept, like)?)
}
