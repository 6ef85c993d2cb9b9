//! Mixed precision: the portable operators, with convolutions, matrix products and what lies between them on 16-bit floats.
//!
//! GPUs multiply 16-bit floats several times as fast as 32-bit ones, and move them in half the time. Weights, statistics, loss and
//! updates stay 32-bit floats; weights are rounded at every step (Micikevicius et al., "Mixed Precision Training", 2018). So that small
//! gradients do not vanish, the loss is multiplied with [`LOSS_SCALE`] before it is differentiated, and the gradients are divided by it.

use crate::graph::{ElementType, Graph, Node, Op, ValueId};

use super::emitter::{Domain, Emitter};
use super::proto::float;
use super::{Targets, portable, recipes};

/// What the loss is multiplied with: a power of two, so that no gradient changes but for those that would be too small for 16 bits.
pub(super) const LOSS_SCALE: f32 = 1024.0;

/// Adds the ONNX nodes that stand for `nodes`, which are all that is needed for `targets`.
pub(super) fn emit(emitter: &mut Emitter<'_>, nodes: &[&Node], targets: &Targets) {
    let mut is_half = vec![false; emitter.graph.values().len()];
    for node in nodes {
        match place(emitter.graph, node, &is_half) {
            Place::Float => portable::emit(emitter, node),
            Place::Half => {
                emitter.halved(|emitter| portable::emit(emitter, node));
                for &output in &node.outputs {
                    is_half[output.index()] = is_float(emitter.graph, output);
                }
            }
            Place::Norm => {
                match &node.op {
                    Op::BatchNormGrad(_) => batch_norm_grad(emitter, node),
                    _ => batch_norm(emitter, node),
                }
                is_half[node.outputs[0].index()] = true;
            }
        }
    }
    // What is handed out is handed out as 32-bit floats.
    for (_, id) in &targets.outputs {
        emitter.plain(*id);
    }
}

/// In what a node computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// 32-bit floats.
    Float,
    /// 16-bit floats.
    Half,
    /// 16-bit images, 32-bit statistics.
    Norm,
}

/// Products are worth a conversion; what passes their results on takes them as they are. Everything else, such as sums over whole
/// batches and the loss, needs the 32 bits.
fn place(graph: &Graph, node: &Node, is_half: &[bool]) -> Place {
    let is_half = |input: usize| is_half[node.inputs[input].index()];
    let follows = match &node.op {
        Op::Conv(_)
        | Op::ConvInputGrad(_)
        | Op::ConvWeightGrad(_)
        | Op::Gemm { .. }
        | Op::MatMul => true,
        Op::BatchNorm(_) if is_half(0) => return Place::Norm,
        Op::BatchNormGrad(_) if is_half(1) => return Place::Norm,
        Op::Relu
        | Op::LeakyRelu { .. }
        | Op::Clip { .. }
        | Op::MaxPool(_)
        | Op::AveragePool(_)
        | Op::GlobalAveragePool
        | Op::Dropout { .. }
        | Op::DropoutGrad { .. }
        | Op::Slice { .. }
        | Op::Reverse { .. }
        | Op::Pad { .. }
        | Op::Reshape { .. }
        | Op::Transpose { .. } => is_half(0),
        // Their gradient may come from the loss; what decides is the image.
        Op::ReluGrad
        | Op::LeakyReluGrad { .. }
        | Op::ClipGrad { .. }
        | Op::AveragePoolGrad(_)
        | Op::ExpandLike => is_half(1),
        Op::MaxPoolGrad => is_half(2),
        Op::Add | Op::Concat { .. } => (0..node.inputs.len()).all(is_half),
        Op::BatchNorm(_)
        | Op::BatchNormGrad(_)
        | Op::Sub
        | Op::Mul
        | Op::Div
        | Op::Sqrt
        | Op::Exp
        | Op::Log
        | Op::Erf
        | Op::Sigmoid
        | Op::SigmoidGrad
        | Op::Softmax
        | Op::SoftmaxGrad
        | Op::LogSoftmax
        | Op::LogSoftmaxGrad
        | Op::SoftmaxCrossEntropy
        | Op::SoftmaxCrossEntropyGrad
        | Op::ReduceSum { .. }
        | Op::ReduceMean { .. }
        | Op::BatchSize
        | Op::Cast { .. }
        | Op::NesterovStep { .. }
        | Op::Accumulate => false,
    };
    match follows && node.outputs.iter().any(|&id| is_float(graph, id)) {
        true => Place::Half,
        false => Place::Float,
    }
}

fn is_float(graph: &Graph, id: ValueId) -> bool {
    graph.value(id).ty.element == ElementType::F32
}

/// Images come and go as 16-bit floats; scale, shift and statistics do not.
fn batch_norm(emitter: &mut Emitter<'_>, node: &Node) {
    let mut operands = vec![emitter.other(node.inputs[0])];
    operands.extend(node.inputs[1..].iter().map(|&id| emitter.plain(id)));
    let image = emitter.declare_other(node.outputs[0]);
    recipes::batch_norm(emitter, node, operands, image);
}

fn batch_norm_grad(emitter: &mut Emitter<'_>, node: &Node) {
    let Op::BatchNormGrad(norm) = &node.op else {
        return;
    };
    let mut operands: Vec<String> = node.inputs[..2]
        .iter()
        .map(|&id| emitter.other(id))
        .collect();
    operands.extend(node.inputs[2..].iter().map(|&id| emitter.plain(id)));
    let mut outputs = vec![emitter.declare_other(node.outputs[0])];
    outputs.extend(node.outputs[1..].iter().map(|&id| emitter.declare(id)));
    let attributes = vec![float("epsilon", norm.epsilon)];
    emitter.raw_node(
        (Domain::Microsoft, "BatchNormalizationGrad"),
        &node.name,
        operands,
        outputs,
        attributes,
    );
}
