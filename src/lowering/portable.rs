//! The portable formulation: operators that every ONNX Runtime 1.19 with the training API has, on CPU and CUDA alike.
//!
//! Inference graphs are plain ONNX. Training graphs add ONNX Runtime's gradient kernels, except where those are slow or have no
//! CUDA kernel: rectifier masks are arithmetic, and the max-pool gradient scatters through `GatherElementsGrad`.

use crate::graph::{Dim, Node, Op, Tensor};

use super::emitter::{Domain, Emitter};
use super::proto::{data_type, float, int, ints, string};
use super::recipes;

const STANDARD: Domain = Domain::Standard;
const MICROSOFT: Domain = Domain::Microsoft;

/// Adds the one ONNX node that stands for an operation which treats all elements alike, in whatever layout `operands` and
/// `output` are.
pub(super) fn emit_elementwise(
    emitter: &mut Emitter<'_>,
    node: &Node,
    operands: Vec<String>,
    output: String,
) {
    let (operator, attributes) = match &node.op {
        Op::Add => ((STANDARD, "Add"), vec![]),
        Op::Sub => ((STANDARD, "Sub"), vec![]),
        Op::Mul => ((STANDARD, "Mul"), vec![]),
        Op::Div => ((STANDARD, "Div"), vec![]),
        Op::Relu => ((STANDARD, "Relu"), vec![]),
        Op::LeakyRelu { alpha } => ((STANDARD, "LeakyRelu"), vec![float("alpha", *alpha)]),
        Op::Sigmoid => ((STANDARD, "Sigmoid"), vec![]),
        Op::SigmoidGrad => ((MICROSOFT, "SigmoidGrad"), vec![]),
        Op::LeakyReluGrad { alpha } => ((MICROSOFT, "LeakyReluGrad"), vec![float("alpha", *alpha)]),
        &Op::Clip { min, max } => {
            let operands = recipes::clip_operands(emitter, &node.name, operands, min, max);
            emitter.raw_node(
                (STANDARD, "Clip"),
                &node.name,
                operands,
                vec![output],
                vec![],
            );
            return;
        }
        other => unreachable!("{} is no operation on elements", other.name()),
    };
    emitter.raw_node(operator, &node.name, operands, vec![output], attributes);
}

/// Adds the ONNX nodes that stand for `node`.
pub(super) fn emit(emitter: &mut Emitter<'_>, node: &Node) {
    let inputs: Vec<String> = node.inputs.iter().map(|&id| emitter.name(id)).collect();
    let name = node.name.as_str();
    let outputs = node.outputs.as_slice();
    let mut simple = |op_type: &str, inputs: Vec<String>, attributes| {
        emitter.node((STANDARD, op_type), name, inputs, outputs, attributes);
    };
    match &node.op {
        Op::Add => simple("Add", inputs, vec![]),
        Op::Sub => simple("Sub", inputs, vec![]),
        Op::Mul => simple("Mul", inputs, vec![]),
        Op::Div => simple("Div", inputs, vec![]),
        Op::Sqrt => simple("Sqrt", inputs, vec![]),
        Op::Exp => simple("Exp", inputs, vec![]),
        Op::Log => simple("Log", inputs, vec![]),
        Op::Erf => simple("Erf", inputs, vec![]),
        Op::Relu => simple("Relu", inputs, vec![]),
        Op::LeakyRelu { alpha } => simple("LeakyRelu", inputs, vec![float("alpha", *alpha)]),
        Op::Sigmoid => simple("Sigmoid", inputs, vec![]),
        Op::MatMul => simple("MatMul", inputs, vec![]),
        Op::GlobalAveragePool => simple("GlobalAveragePool", inputs, vec![]),
        Op::Softmax => simple("Softmax", inputs, vec![int("axis", -1)]),
        Op::LogSoftmax => simple("LogSoftmax", inputs, vec![int("axis", -1)]),
        Op::SoftmaxCrossEntropy => simple(
            "SoftmaxCrossEntropyLoss",
            inputs,
            vec![string("reduction", "mean")],
        ),
        Op::Concat { axis } => simple("Concat", inputs, vec![int("axis", *axis as i64)]),
        Op::Transpose { permutation } => {
            simple("Transpose", inputs, vec![ints("perm", permutation)])
        }
        Op::Cast { to } => simple("Cast", inputs, vec![int("to", data_type(*to).into())]),
        Op::Conv(conv) => {
            let attributes =
                recipes::conv_attributes(conv, &recipes::kernel(emitter, node.inputs[1]));
            emitter.node((STANDARD, "Conv"), name, inputs, outputs, attributes);
        }
        Op::Gemm {
            transpose_a,
            transpose_b,
        } => {
            let attributes = vec![
                int("transA", (*transpose_a).into()),
                int("transB", (*transpose_b).into()),
            ];
            emitter.node((STANDARD, "Gemm"), name, inputs, outputs, attributes);
        }
        Op::MaxPool(pool) => simple("MaxPool", inputs, recipes::pool_attributes(pool)),
        Op::AveragePool(pool) => {
            let mut attributes = recipes::pool_attributes(pool);
            attributes.push(int("count_include_pad", 1));
            simple("AveragePool", inputs, attributes);
        }
        &Op::Clip { min, max } => {
            let operands = recipes::clip_operands(emitter, name, inputs, min, max);
            emitter.node((STANDARD, "Clip"), name, operands, outputs, vec![]);
        }
        Op::BatchNorm(_) => {
            let output = emitter.declare(outputs[0]);
            recipes::batch_norm(emitter, node, inputs, output);
        }
        Op::Dropout { ratio } => recipes::dropout(emitter, node, inputs, *ratio),
        Op::Slice { axis, start, end } => {
            let mut operands = inputs;
            for (suffix, index) in [("start", start), ("end", end), ("axis", axis)] {
                operands.push(emitter.constant(name, suffix, &Tensor::i64s(vec![*index as i64])));
            }
            emitter.node((STANDARD, "Slice"), name, operands, outputs, vec![]);
        }
        Op::Reverse { axis } => {
            // From the last index down to before the first, which no index but the smallest integer can say.
            let mut operands = inputs;
            for (suffix, index) in [
                ("start", -1),
                ("end", i64::MIN),
                ("axis", *axis as i64),
                ("step", -1),
            ] {
                operands.push(emitter.constant(name, suffix, &Tensor::i64s(vec![index])));
            }
            emitter.node((STANDARD, "Slice"), name, operands, outputs, vec![]);
        }
        Op::Pad { before, behind } => {
            let pads = before
                .iter()
                .chain(behind)
                .map(|&size| size as i64)
                .collect();
            let pads = emitter.constant(name, "pads", &Tensor::i64s(pads));
            let operands = vec![inputs[0].clone(), pads];
            emitter.node((STANDARD, "Pad"), name, operands, outputs, vec![]);
        }
        Op::Reshape { shape } => {
            let sizes = shape.dims().iter().map(|dim| match dim {
                Dim::Fixed(size) => *size as i64,
                Dim::Batch(_) => -1,
            });
            let sizes = emitter.constant(name, "shape", &Tensor::i64s(sizes.collect()));
            let operands = vec![inputs[0].clone(), sizes];
            emitter.node((STANDARD, "Reshape"), name, operands, outputs, vec![]);
        }
        Op::ReduceSum { axes, keep } => {
            let axes = axes.iter().map(|&axis| axis as i64).collect();
            let axes = emitter.constant(name, "axes", &Tensor::i64s(axes));
            let operands = vec![inputs[0].clone(), axes];
            let attributes = vec![
                int("keepdims", (*keep).into()),
                int("noop_with_empty_axes", 1),
            ];
            emitter.node((STANDARD, "ReduceSum"), name, operands, outputs, attributes);
        }
        Op::ReduceMean { axes, keep } => {
            let attributes = vec![ints("axes", axes), int("keepdims", (*keep).into())];
            simple("ReduceMean", inputs, attributes);
        }
        Op::ExpandLike => {
            let shape = recipes::shape_of(emitter, name, node.inputs[1]);
            let operands = vec![inputs[0].clone(), shape];
            emitter.node((STANDARD, "Expand"), name, operands, outputs, vec![]);
        }
        Op::BatchSize => recipes::batch_size(emitter, node, inputs),
        Op::ReluGrad => {
            let like = emitter.graph.value(node.inputs[1]).ty.clone();
            let mask = recipes::step(emitter, format!("{name}/mask"), inputs[1].clone(), &like);
            let operands = vec![inputs[0].clone(), mask];
            emitter.node((STANDARD, "Mul"), name, operands, outputs, vec![]);
        }
        &Op::ClipGrad { min, max } => recipes::clip_grad(emitter, node, inputs, min, max),
        Op::LeakyReluGrad { alpha } => {
            let attributes = vec![float("alpha", *alpha)];
            emitter.node(
                (MICROSOFT, "LeakyReluGrad"),
                name,
                inputs,
                outputs,
                attributes,
            );
        }
        Op::SigmoidGrad => emitter.node((MICROSOFT, "SigmoidGrad"), name, inputs, outputs, vec![]),
        Op::SoftmaxGrad => {
            emitter.node(
                (MICROSOFT, "SoftmaxGrad_13"),
                name,
                inputs,
                outputs,
                vec![int("axis", -1)],
            );
        }
        Op::LogSoftmaxGrad => {
            emitter.node(
                (MICROSOFT, "LogSoftmaxGrad_13"),
                name,
                inputs,
                outputs,
                vec![int("axis", -1)],
            );
        }
        Op::SoftmaxCrossEntropyGrad => {
            let attributes = vec![string("reduction", "mean")];
            emitter.node(
                (MICROSOFT, "SoftmaxCrossEntropyLossGrad"),
                name,
                inputs,
                outputs,
                attributes,
            );
        }
        Op::DropoutGrad { ratio } => {
            let mut operands = inputs;
            operands.extend(recipes::dropout_operands(emitter, name, *ratio));
            emitter.node((MICROSOFT, "DropoutGrad"), name, operands, outputs, vec![]);
        }
        Op::ConvInputGrad(conv) => {
            let attributes =
                recipes::conv_attributes(conv, &recipes::kernel(emitter, node.inputs[2]));
            emitter.node((MICROSOFT, "ConvGrad"), name, inputs, outputs, attributes);
        }
        Op::ConvWeightGrad(conv) => {
            let attributes =
                recipes::conv_attributes(conv, &recipes::kernel(emitter, node.inputs[2]));
            let output_names = vec![String::new(), emitter.declare(outputs[0])];
            emitter.raw_node(
                (MICROSOFT, "ConvGrad"),
                name,
                inputs,
                output_names,
                attributes,
            );
        }
        Op::BatchNormGrad(norm) => {
            // The kernel computes all three at once and wants a name for each.
            let output_names = outputs.iter().map(|&id| emitter.declare(id)).collect();
            let attributes = vec![float("epsilon", norm.epsilon)];
            emitter.raw_node(
                (MICROSOFT, "BatchNormalizationGrad"),
                name,
                inputs,
                output_names,
                attributes,
            );
        }
        Op::MaxPoolGrad => recipes::max_pool_grad(emitter, node, inputs),
        Op::AveragePoolGrad(pool) => recipes::average_pool_grad(emitter, node, inputs, pool),
        &Op::NesterovStep {
            momentum,
            weight_decay,
        } => recipes::nesterov_step(emitter, node, inputs, momentum, weight_decay),
        Op::Accumulate => emitter.node(
            (MICROSOFT, "InPlaceAccumulatorV2"),
            name,
            inputs,
            outputs,
            vec![],
        ),
    }
}
