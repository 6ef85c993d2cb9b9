//! Parts of the portable formulation that take more than one node, or whose nodes depend on the mode.

use pipeline::onnx::AttributeProto;

use crate::graph::{
    Conv2d, Dim, ElementType, Node, Op, Pool2d, Shape, Tensor, TensorType, ValueId,
};

use super::Mode;
use super::emitter::{Domain, Emitter};
use super::proto::{data_type, float, int, ints};

const STANDARD: Domain = Domain::Standard;
const MICROSOFT: Domain = Domain::Microsoft;

/// A slope so steep that `HardSigmoid`, `max(0, min(1, slope · x))`, is the step function 0 or 1 on every normal float.
const STEP: f32 = 3e38;
/// The same for 16-bit floats, in which the slope itself has to be finite.
const HALF_STEP: f32 = 6e4;

pub(super) fn kernel(emitter: &Emitter<'_>, weight: ValueId) -> Vec<usize> {
    let dims = emitter.graph.shape(weight).dims();
    let size = |dim: &Dim| match dim {
        Dim::Fixed(size) | Dim::Batch(size) => *size,
    };
    dims[2..].iter().map(size).collect()
}

pub(super) fn conv_attributes(conv: &Conv2d, kernel: &[usize]) -> Vec<AttributeProto> {
    vec![
        ints("kernel_shape", kernel),
        ints("strides", &conv.strides),
        ints("pads", &conv.padding),
        ints("dilations", &conv.dilations),
        int("group", conv.groups as i64),
    ]
}

pub(super) fn pool_attributes(pool: &Pool2d) -> Vec<AttributeProto> {
    vec![
        ints("kernel_shape", &pool.kernel),
        ints("strides", &pool.strides),
        ints("pads", &pool.padding),
    ]
}

/// `Clip` takes its bounds as inputs; an infinite one is left out.
pub(super) fn clip_operands(
    emitter: &mut Emitter<'_>,
    node: &str,
    mut operands: Vec<String>,
    min: f32,
    max: f32,
) -> Vec<String> {
    for (suffix, bound) in [("min", min), ("max", max)] {
        operands.push(match bound.is_finite() {
            true => emitter.constant(node, suffix, &Tensor::scalar(bound)),
            false => String::new(),
        });
    }
    operands
}

/// In training the kernel writes the running statistics over its inputs, as long as they are no graph outputs.
pub(super) fn batch_norm(
    emitter: &mut Emitter<'_>,
    node: &Node,
    inputs: Vec<String>,
    output: String,
) {
    let Op::BatchNorm(norm) = &node.op else {
        return;
    };
    let mut attributes = vec![
        float("epsilon", norm.epsilon),
        float("momentum", norm.momentum),
    ];
    match emitter.mode {
        Mode::Inference => {
            emitter.raw_node(
                (STANDARD, "BatchNormalization"),
                &node.name,
                inputs,
                vec![output],
                attributes,
            );
        }
        Mode::Training => {
            attributes.push(int("training_mode", 1));
            let updated = |input: &str| format!("{input}.updated");
            let output_names = vec![
                output,
                updated(&inputs[3]),
                updated(&inputs[4]),
                emitter.declare(node.outputs[1]),
                emitter.declare(node.outputs[2]),
            ];
            emitter.raw_node(
                (MICROSOFT, "BatchNormInternal"),
                &node.name,
                inputs,
                output_names,
                attributes,
            );
        }
    }
}

pub(super) fn dropout(emitter: &mut Emitter<'_>, node: &Node, inputs: Vec<String>, ratio: f32) {
    match emitter.mode {
        Mode::Inference => emitter.node(
            (STANDARD, "Identity"),
            &node.name,
            inputs,
            &node.outputs[..1],
            vec![],
        ),
        Mode::Training => {
            let mut operands = inputs;
            operands.extend(dropout_operands(emitter, &node.name, ratio));
            emitter.node(
                (STANDARD, "Dropout"),
                &node.name,
                operands,
                &node.outputs,
                vec![],
            );
        }
    }
}

pub(super) fn dropout_operands(emitter: &mut Emitter<'_>, node: &str, ratio: f32) -> [String; 2] {
    let training = Tensor {
        shape: vec![],
        ..Tensor::flag(true)
    };
    [
        emitter.constant(node, "ratio", &Tensor::scalar(ratio)),
        emitter.constant(node, "training", &training),
    ]
}

pub(super) fn shape_of(emitter: &mut Emitter<'_>, node: &str, id: ValueId) -> String {
    let rank = emitter.graph.shape(id).rank();
    let operands = vec![emitter.name(id)];
    let ty = TensorType::new(ElementType::I64, Shape::fixed(&[rank]));
    emitter.intermediate(
        (STANDARD, "Shape"),
        format!("{node}/shape_of"),
        operands,
        &ty,
        vec![],
    )
}

pub(super) fn batch_size(emitter: &mut Emitter<'_>, node: &Node, inputs: Vec<String>) {
    let name = &node.name;
    let vector = |element| TensorType::new(element, Shape::fixed(&[1]));
    let first = vec![int("start", 0), int("end", 1)];
    let images = emitter.intermediate(
        (STANDARD, "Shape"),
        format!("{name}/images"),
        inputs,
        &vector(ElementType::I64),
        first,
    );
    let float_type = vec![int("to", data_type(ElementType::F32).into())];
    let images = emitter.intermediate(
        (STANDARD, "Cast"),
        format!("{name}/float"),
        vec![images],
        &vector(ElementType::F32),
        float_type,
    );
    let scalar = emitter.constant(name, "scalar", &Tensor::i64s(vec![]));
    emitter.node(
        (STANDARD, "Reshape"),
        name,
        vec![images, scalar],
        &node.outputs,
        vec![],
    );
}

/// 1 where `x > 0`, else 0.
pub(super) fn step(emitter: &mut Emitter<'_>, name: String, x: String, ty: &TensorType) -> String {
    let slope = match emitter.is_halved(ty.element) {
        true => HALF_STEP,
        false => STEP,
    };
    let attributes = vec![float("alpha", slope), float("beta", 0.0)];
    emitter.intermediate((STANDARD, "HardSigmoid"), name, vec![x], ty, attributes)
}

/// `dY · step(X − min) · step(max − X)`; an infinite bound needs no factor.
pub(super) fn clip_grad(
    emitter: &mut Emitter<'_>,
    node: &Node,
    inputs: Vec<String>,
    min: f32,
    max: f32,
) {
    let name = &node.name;
    let ty = emitter.graph.value(node.inputs[1]).ty.clone();
    let mut masks = Vec::new();
    for (side, bound) in [("min", min), ("max", max)] {
        if bound.is_infinite() {
            continue;
        }
        let bound = emitter.constant(name, side, &Tensor::scalar(bound));
        let operands = match side {
            "min" => vec![inputs[1].clone(), bound],
            _ => vec![bound, inputs[1].clone()],
        };
        let room = emitter.intermediate(
            (STANDARD, "Sub"),
            format!("{name}/{side}_room"),
            operands,
            &ty,
            vec![],
        );
        masks.push(step(emitter, format!("{name}/{side}_mask"), room, &ty));
    }
    let mask = match masks.as_slice() {
        [] => {
            return emitter.node(
                (STANDARD, "Identity"),
                name,
                inputs[..1].to_vec(),
                &node.outputs,
                vec![],
            );
        }
        [mask] => mask.clone(),
        _ => emitter.intermediate(
            (STANDARD, "Mul"),
            format!("{name}/mask"),
            masks,
            &ty,
            vec![],
        ),
    };
    emitter.node(
        (STANDARD, "Mul"),
        name,
        vec![inputs[0].clone(), mask],
        &node.outputs,
        vec![],
    );
}

/// ONNX Runtime's `Indices` count through the whole flattened input, so the gradient is one scatter along one axis;
/// `MaxPoolGrad` itself has no CUDA kernel.
pub(super) fn max_pool_grad(emitter: &mut Emitter<'_>, node: &Node, inputs: Vec<String>) {
    let name = &node.name;
    let [gradient, indices, _] = inputs.as_slice() else {
        return;
    };
    let pooled = emitter.graph.shape(node.inputs[0]).len();
    let all = emitter.graph.shape(node.inputs[2]).len();
    let flat = |element, len| TensorType::new(element, Shape::new(vec![len]));
    let minus_one = emitter.constant(name, "flat", &Tensor::i64s(vec![-1]));

    let operands = vec![gradient.clone(), minus_one.clone()];
    let ty = flat(ElementType::F32, pooled);
    let flat_gradient = emitter.intermediate(
        (STANDARD, "Reshape"),
        format!("{name}/gradient"),
        operands,
        &ty,
        vec![],
    );
    let operands = vec![indices.clone(), minus_one.clone()];
    let ty = flat(ElementType::I64, pooled);
    let flat_indices = emitter.intermediate(
        (STANDARD, "Reshape"),
        format!("{name}/indices"),
        operands,
        &ty,
        vec![],
    );
    let operands = vec![emitter.name(node.inputs[2])];
    let ty = TensorType::new(ElementType::I64, Shape::fixed(&[]));
    let size = emitter.intermediate(
        (STANDARD, "Size"),
        format!("{name}/size"),
        operands,
        &ty,
        vec![],
    );
    let ty = TensorType::new(ElementType::I64, Shape::fixed(&[1]));
    let size = emitter.intermediate(
        (STANDARD, "Reshape"),
        format!("{name}/flat_size"),
        vec![size, minus_one],
        &ty,
        vec![],
    );
    let operands = vec![flat_gradient, size, flat_indices];
    let ty = flat(ElementType::F32, all);
    let scattered = emitter.intermediate(
        (MICROSOFT, "GatherElementsGrad"),
        format!("{name}/scattered"),
        operands,
        &ty,
        vec![int("axis", 0)],
    );
    let shape = shape_of(emitter, name, node.inputs[2]);
    emitter.node(
        (STANDARD, "Reshape"),
        name,
        vec![scattered, shape],
        &node.outputs,
        vec![],
    );
}

/// A mean over windows is a depthwise convolution with constant weights, and its gradient is that convolution's;
/// `AveragePoolGrad` itself takes the batch size from the declared shape and has no CUDA kernel.
pub(super) fn average_pool_grad(
    emitter: &mut Emitter<'_>,
    node: &Node,
    inputs: Vec<String>,
    pool: &Pool2d,
) {
    let channels = match emitter.graph.shape(node.inputs[1]).dims()[1] {
        Dim::Fixed(size) | Dim::Batch(size) => size,
    };
    let [height, width] = pool.kernel;
    let share = 1.0 / (height * width) as f32;
    let weight = Tensor::f32(
        &[channels, 1, height, width],
        vec![share; channels * height * width],
    );
    let weight = emitter.constant(&node.name, "weight", &weight);
    let conv = Conv2d {
        strides: pool.strides,
        padding: pool.padding,
        dilations: [1, 1],
        groups: channels,
    };
    let operands = vec![inputs[0].clone(), inputs[1].clone(), weight];
    let attributes = conv_attributes(&conv, &pool.kernel);
    emitter.node(
        (MICROSOFT, "ConvGrad"),
        &node.name,
        operands,
        &node.outputs,
        attributes,
    );
}

/// g′ = g + λw, v′ = μv + g′, update = g′ + μv′.
pub(super) fn nesterov_step(
    emitter: &mut Emitter<'_>,
    node: &Node,
    inputs: Vec<String>,
    momentum: f32,
    weight_decay: f32,
) {
    let name = &node.name;
    let [weight, gradient, velocity] = inputs.as_slice() else {
        return;
    };
    let ty = emitter.graph.value(node.inputs[0]).ty.clone();
    let step = |emitter: &mut Emitter<'_>, operator: &str, suffix: &str, operands: [&String; 2]| {
        let operands = operands.map(String::clone).to_vec();
        let name = format!("{name}/{suffix}");
        emitter.intermediate((STANDARD, operator), name, operands, &ty, vec![])
    };
    let decayed = match weight_decay {
        0.0 => gradient.clone(),
        decay => {
            let decay = emitter.constant(name, "weight_decay", &Tensor::scalar(decay));
            let pull = step(emitter, "Mul", "pull", [weight, &decay]);
            step(emitter, "Add", "decayed", [gradient, &pull])
        }
    };
    let momentum = emitter.constant(name, "momentum", &Tensor::scalar(momentum));
    let kept = step(emitter, "Mul", "kept", [velocity, &momentum]);
    let operands = vec![kept, decayed.clone()];
    let velocity_node = format!("{name}/velocity");
    emitter.node(
        (STANDARD, "Add"),
        &velocity_node,
        operands,
        &node.outputs[1..],
        vec![],
    );
    let velocity = emitter.name(node.outputs[1]);
    let ahead = step(emitter, "Mul", "ahead", [&velocity, &momentum]);
    emitter.node(
        (STANDARD, "Add"),
        name,
        vec![decayed, ahead],
        &node.outputs[..1],
        vec![],
    );
}
