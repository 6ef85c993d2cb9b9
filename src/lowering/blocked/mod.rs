//! The blocked formulation: ONNX Runtime's convolutions on blocked layout, and this program's operators for what it lacks.
//!
//! A value of shape `[N, C, H, W]` lies in memory as `[N, C / B, H, W, B]`; its declared shape stays the same. Parameters stay as
//! they are: filters are packed at every step, so checkpoints and exports know nothing of this. [`plan`] decides what is done in
//! blocks and what is done together; this module writes the nodes. What the plan leaves alone is emitted as
//! [`super::portable`] does it, with reorderings where layouts meet.

mod plan;

use pipeline::onnx::AttributeProto;

use crate::graph::{Conv2d, Dim, Node, Op, Shape, Tensor, TensorType, ValueId};
use crate::kernels::Bounds;

use super::emitter::{Domain, Emitter, fixed, float, int, ints, string};
use super::{Mode, Targets, portable, recipes};
use plan::{Plan, Pooled, RELU, Rectifier, Step};

pub(super) use plan::takes_convolution;

const STANDARD: Domain = Domain::Standard;
const NCHWC: Domain = Domain::Nchwc;
const CATALOG: Domain = Domain::Catalog;

/// Adds the ONNX nodes that stand for `nodes`, which are all that is needed for `targets`.
pub(super) fn emit(emitter: &mut Emitter<'_>, nodes: &[&Node], targets: &Targets, block: usize) {
    let plan = Plan::new(emitter.graph, nodes, targets, emitter.mode, block);
    let mut blocked = Blocked {
        emitter,
        plan: &plan,
        block,
    };
    for (node, step) in nodes.iter().zip(&plan.steps) {
        blocked.emit(node, step, nodes);
    }
    // What is handed out is handed out plain.
    for (_, id) in &targets.outputs {
        emitter.name(*id);
    }
}

struct Blocked<'e, 'g, 'p> {
    emitter: &'e mut Emitter<'g>,
    plan: &'p Plan<'p>,
    block: usize,
}

impl Blocked<'_, '_, '_> {
    fn emit(&mut self, node: &Node, step: &Step, nodes: &[&Node]) {
        match step {
            Step::Portable => portable::emit(self.emitter, node),
            Step::Deferred => {}
            Step::Elementwise => self.elementwise(node),
            Step::Conv { conv, rectify } => self.conv(nodes[*conv], *rectify, node.outputs[0]),
            Step::ConvInputGrad => self.conv_input_grad(node),
            Step::ConvWeightGrad => self.conv_weight_grad(node),
            Step::BatchNorm {
                norm,
                residual,
                bounds,
            } => match self.emitter.mode {
                Mode::Training => {
                    self.batch_norm(nodes[*norm], *residual, *bounds, node.outputs[0])
                }
                Mode::Inference => {
                    self.scale_and_shift(nodes[*norm], *residual, *bounds, node.outputs[0])
                }
            },
            Step::BatchNormGrad {
                gradient,
                rectifier,
            } => self.batch_norm_grad(node, *gradient, *rectifier),
            Step::RectifierGrad(rectifier) => self.rectifier_grad(node, rectifier),
            Step::MaxPool {
                conv,
                pool,
                rectify,
            } => {
                self.max_pool(
                    conv.map(|conv| nodes[conv]),
                    nodes[*pool],
                    *rectify,
                    node.outputs[0],
                );
            }
            Step::MaxPoolGrad(pooled) => self.max_pool_grad(node, pooled, nodes[pooled.pool]),
            Step::GlobalAveragePool => {
                // One pixel: both layouts are the same.
                let operands = vec![self.emitter.blocked(node.inputs[0])];
                self.emitter.node(
                    (NCHWC, "GlobalAveragePool"),
                    &node.name,
                    operands,
                    &node.outputs,
                    vec![],
                );
            }
            Step::Spread => self.spread(node),
            Step::ChannelSum => self.channel_sum(node),
            Step::NesterovStep => self.nesterov_step(node),
        }
    }

    /// A node whose first output is a blocked value.
    fn blocked_node(
        &mut self,
        operator: (Domain, &str),
        name: &str,
        operands: Vec<String>,
        output: ValueId,
        attributes: Vec<AttributeProto>,
    ) {
        let outputs = vec![self.emitter.declare_blocked(output)];
        self.emitter
            .raw_node(operator, name, operands, outputs, attributes);
    }

    fn elementwise(&mut self, node: &Node) {
        let operands = node
            .inputs
            .iter()
            .map(|&id| self.emitter.blocked(id))
            .collect();
        let output = self.emitter.declare_blocked(node.outputs[0]);
        portable::emit_elementwise(self.emitter, node, operands, output);
    }

    /// `block` and the attributes that describe a convolution from X to Y.
    fn conv_geometry(&self, conv: &Conv2d, x: ValueId, weight: ValueId) -> Vec<AttributeProto> {
        let [height, width] = size(self.emitter, x);
        let channels = channels(self.emitter, x);
        vec![
            int("block", self.block as i64),
            ints("kernel", &recipes::kernel(self.emitter, weight)),
            ints("strides", &conv.strides),
            ints("padding", &conv.padding[..2]),
            ints("dilations", &conv.dilations),
            int("in_channels", channels as i64),
            ints("in_size", &[height, width]),
            int("depthwise", is_depthwise(conv).into()),
        ]
    }

    /// The name of the filters in the order that ONNX Runtime wants.
    fn packed(&mut self, node: &str, weight: ValueId, backward: bool) -> String {
        let mut ty = self.emitter.graph.value(weight).ty.clone();
        if backward {
            let [outputs, inputs, height, width] = ty.shape.dims() else {
                return self.emitter.name(weight);
            };
            ty = TensorType::f32(Shape::new(vec![*inputs, *outputs, *height, *width]));
        }
        let operands = vec![self.emitter.name(weight)];
        let attributes = vec![
            int("block", self.block as i64),
            int("backward", backward.into()),
        ];
        self.emitter.intermediate(
            (CATALOG, "PackFilters"),
            format!("{node}/filters"),
            operands,
            &ty,
            attributes,
        )
    }

    fn conv(&mut self, node: &Node, rectify: bool, output: ValueId) {
        let Op::Conv(conv) = &node.op else { return };
        let (x, weight) = (node.inputs[0], node.inputs[1]);
        // Fewer channels than a block are read as they are.
        let is_plain = channels(self.emitter, x) < self.block;
        let mut operands = vec![if is_plain {
            self.emitter.name(x)
        } else {
            self.emitter.blocked(x)
        }];
        operands.push(self.packed(&node.name, weight, false));
        operands.extend(node.inputs.get(2).map(|&bias| self.emitter.name(bias)));
        let mut attributes = recipes::conv_attributes(conv, &recipes::kernel(self.emitter, weight));
        if rectify {
            attributes.push(string("activation", "Relu"));
        }
        self.blocked_node((NCHWC, "Conv"), &node.name, operands, output, attributes);
    }

    /// With stride 1, a convolution of dY with flipped filters; else, and behind a pooling, an operator of this program.
    fn conv_input_grad(&mut self, node: &Node) {
        let Op::ConvInputGrad(conv) = &node.op else {
            return;
        };
        let [dy, x, weight] = node.inputs[..] else {
            return;
        };
        let output = node.outputs[0];
        if let Some(pooled) = self.plan.pooled_instead_of(dy) {
            let mut operands = self.pooled_operands(&pooled);
            operands.push(self.emitter.name(weight));
            let mut attributes = self.pool_geometry(pooled.pool);
            attributes.extend(self.conv_geometry(conv, x, weight).into_iter().skip(1));
            self.blocked_node(
                (CATALOG, "PooledConvInputGradient"),
                &node.name,
                operands,
                output,
                attributes,
            );
            return;
        }
        let kernel = recipes::kernel(self.emitter, weight);
        // Padding of the flipped convolution: what the kernel reaches beyond the padding of the forward one.
        let reach = |axis: usize| conv.dilations[axis] * (kernel[axis] - 1);
        let flipped: Option<Vec<usize>> = (0..4)
            .map(|side| reach(side % 2).checked_sub(conv.padding[side]))
            .collect();
        match flipped {
            Some(padding) if conv.strides == [1, 1] && !is_depthwise(conv) => {
                let operands = vec![
                    self.emitter.blocked(dy),
                    self.packed(&node.name, weight, true),
                ];
                let attributes = vec![
                    ints("kernel_shape", &kernel),
                    ints("strides", &conv.strides),
                    ints("pads", &padding),
                    ints("dilations", &conv.dilations),
                    int("group", 1),
                ];
                self.blocked_node((NCHWC, "Conv"), &node.name, operands, output, attributes);
            }
            _ => {
                let operands = vec![self.emitter.blocked(dy), self.emitter.name(weight)];
                let attributes = self.conv_geometry(conv, x, weight);
                self.blocked_node(
                    (CATALOG, "ConvInputGradient"),
                    &node.name,
                    operands,
                    output,
                    attributes,
                );
            }
        }
    }

    fn conv_weight_grad(&mut self, node: &Node) {
        let Op::ConvWeightGrad(conv) = &node.op else {
            return;
        };
        let [dy, x, weight] = node.inputs[..] else {
            return;
        };
        let is_plain = channels(self.emitter, x) < self.block;
        let x_name = if is_plain {
            self.emitter.name(x)
        } else {
            self.emitter.blocked(x)
        };
        let geometry = self.conv_geometry(conv, x, weight);
        let (operator, mut operands, attributes) = match self.plan.pooled_instead_of(dy) {
            Some(pooled) => {
                let mut attributes = self.pool_geometry(pooled.pool);
                attributes.extend(geometry.into_iter().skip(1));
                (
                    "PooledConvWeightGradient",
                    self.pooled_operands(&pooled),
                    attributes,
                )
            }
            None => (
                "ConvWeightGradient",
                vec![self.emitter.blocked(dy)],
                geometry,
            ),
        };
        operands.push(x_name);
        self.emitter.node(
            (CATALOG, operator),
            &node.name,
            operands,
            &node.outputs,
            attributes,
        );
    }

    fn channel_sum(&mut self, node: &Node) {
        let value = node.inputs[0];
        let (gradient, rectified) = match self.plan.pooled_instead_of(value) {
            // Each window hands its whole gradient to its winner, unless the rectifier was closed.
            Some(pooled) => (pooled.gradient, pooled.rectified),
            None => (value, None),
        };
        let mut operands = vec![self.emitter.blocked(gradient)];
        operands.extend(rectified.map(|id| self.emitter.blocked(id)));
        let mut attributes = vec![int("block", self.block as i64)];
        attributes.extend(bound_attributes(if rectified.is_some() {
            RELU
        } else {
            Bounds::NONE
        }));
        self.emitter.node(
            (CATALOG, "ChannelSum"),
            &node.name,
            operands,
            &node.outputs,
            attributes,
        );
    }

    fn nesterov_step(&mut self, node: &Node) {
        let Op::NesterovStep {
            momentum,
            weight_decay,
        } = node.op
        else {
            return;
        };
        let operands = node
            .inputs
            .iter()
            .map(|&id| self.emitter.name(id))
            .collect();
        let attributes = vec![
            float("momentum", momentum),
            float("weight_decay", weight_decay),
        ];
        self.emitter.node(
            (CATALOG, "NesterovStep"),
            &node.name,
            operands,
            &node.outputs,
            attributes,
        );
    }

    fn batch_norm(
        &mut self,
        node: &Node,
        residual: Option<ValueId>,
        bounds: Bounds,
        output: ValueId,
    ) {
        let Op::BatchNorm(norm) = &node.op else {
            return;
        };
        let mut operands = vec![self.emitter.blocked(node.inputs[0])];
        operands.extend(node.inputs[1..].iter().map(|&id| self.emitter.name(id)));
        operands.extend(residual.map(|id| self.emitter.blocked(id)));
        let running = [operands[3].clone(), operands[4].clone()];
        let updated = running.clone().map(|name| format!("{name}.updated"));
        let outputs = vec![
            self.emitter.declare_blocked(output),
            self.emitter.declare(node.outputs[1]),
            self.emitter.declare(node.outputs[2]),
            updated[0].clone(),
            updated[1].clone(),
        ];
        let mut attributes = vec![
            int("block", self.block as i64),
            float("epsilon", norm.epsilon),
            float("momentum", norm.momentum),
        ];
        attributes.extend(bound_attributes(bounds));
        self.emitter.raw_node(
            (CATALOG, "BatchNorm"),
            &node.name,
            operands,
            outputs,
            attributes,
        );
        let overwrite = self
            .emitter
            .constant(&node.name, "overwrite", &Tensor::flag(true));
        for (running, updated) in running.into_iter().zip(updated) {
            let name = format!("{running}.written");
            let operands = vec![running, updated, overwrite.clone()];
            self.emitter.raw_node(
                (Domain::Microsoft, "InPlaceAccumulatorV2"),
                &name,
                operands,
                vec![name.clone()],
                vec![],
            );
        }
    }

    /// Normalisation by running statistics is a depthwise 1×1 convolution, which adds the residual and rectifies as well.
    fn scale_and_shift(
        &mut self,
        node: &Node,
        residual: Option<ValueId>,
        bounds: Bounds,
        output: ValueId,
    ) {
        let Op::BatchNorm(norm) = &node.op else {
            return;
        };
        let name = node.name.as_str();
        let channels = channels(self.emitter, node.inputs[0]);
        let vector = TensorType::f32(Shape::fixed(&[channels]));
        let [scale, bias, mean, variance] =
            [1, 2, 3, 4].map(|index| self.emitter.name(node.inputs[index]));
        let epsilon = self
            .emitter
            .constant(name, "epsilon", &Tensor::scalar(norm.epsilon));
        let mut step = |operator: &str, suffix: &str, operands: Vec<String>| {
            self.emitter.intermediate(
                (STANDARD, operator),
                format!("{name}/{suffix}"),
                operands,
                &vector,
                vec![],
            )
        };
        let shifted = step("Add", "shifted", vec![variance, epsilon]);
        let deviation = step("Sqrt", "deviation", vec![shifted]);
        let factor = step("Div", "factor", vec![scale, deviation]);
        let centre = step("Mul", "centre", vec![mean, factor.clone()]);
        let offset = step("Sub", "offset", vec![bias, centre]);
        let shape =
            self.emitter
                .constant(name, "shape", &Tensor::i64s(vec![channels as i64, 1, 1, 1]));
        let ty = TensorType::f32(Shape::fixed(&[channels, 1, 1, 1]));
        let weight = self.emitter.intermediate(
            (STANDARD, "Reshape"),
            format!("{name}/weight"),
            vec![factor, shape],
            &ty,
            vec![],
        );

        let mut operands = vec![self.emitter.blocked(node.inputs[0]), weight, offset];
        operands.extend(residual.map(|id| self.emitter.blocked(id)));
        let conv = Conv2d {
            groups: channels,
            ..Conv2d::same(1)
        };
        let mut attributes = recipes::conv_attributes(&conv, &[1, 1]);
        if bounds != Bounds::NONE {
            attributes.push(string("activation", "Relu"));
        }
        self.blocked_node((NCHWC, "Conv"), name, operands, output, attributes);
    }

    fn batch_norm_grad(&mut self, node: &Node, gradient: ValueId, rectifier: Option<Rectifier>) {
        let Op::BatchNormGrad(norm) = &node.op else {
            return;
        };
        let mut operands = vec![
            self.emitter.blocked(gradient),
            self.emitter.blocked(node.inputs[1]),
        ];
        operands.extend(node.inputs[2..].iter().map(|&id| self.emitter.name(id)));
        operands.extend(rectifier.map(|rectifier| self.emitter.blocked(rectifier.output)));
        let outputs = vec![
            self.emitter.declare_blocked(node.outputs[0]),
            self.emitter.declare(node.outputs[1]),
            self.emitter.declare(node.outputs[2]),
        ];
        let mut attributes = vec![
            int("block", self.block as i64),
            float("epsilon", norm.epsilon),
        ];
        attributes.extend(bound_attributes(
            rectifier.map_or(Bounds::NONE, |rectifier| rectifier.bounds),
        ));
        self.emitter.raw_node(
            (CATALOG, "BatchNormGradient"),
            &node.name,
            operands,
            outputs,
            attributes,
        );
    }

    fn rectifier_grad(&mut self, node: &Node, rectifier: &Rectifier) {
        let operands = vec![
            self.emitter.blocked(rectifier.gradient),
            self.emitter.blocked(rectifier.output),
        ];
        let mut attributes = vec![int("block", self.block as i64)];
        attributes.extend(bound_attributes(rectifier.bounds));
        self.blocked_node(
            (CATALOG, "RectifierGradient"),
            &node.name,
            operands,
            node.outputs[0],
            attributes,
        );
    }

    fn max_pool(&mut self, conv: Option<&Node>, node: &Node, rectify: bool, output: ValueId) {
        let mut attributes = self.pool_attributes(node);
        attributes.push(int("rectify", rectify.into()));
        let (operator, operands) = match conv {
            None => ("MaxPool", vec![self.emitter.blocked(node.inputs[0])]),
            Some(conv_node) => {
                let Op::Conv(conv) = &conv_node.op else {
                    return;
                };
                let geometry = self.conv_geometry(conv, conv_node.inputs[0], conv_node.inputs[1]);
                attributes.extend(geometry.into_iter().skip(1));
                let operands = conv_node
                    .inputs
                    .iter()
                    .map(|&id| self.emitter.name(id))
                    .collect();
                ("ConvMaxPool", operands)
            }
        };
        let outputs = vec![self.emitter.declare_blocked(output), winners(node)];
        self.emitter.raw_node(
            (CATALOG, operator),
            &node.name,
            operands,
            outputs,
            attributes,
        );
    }

    fn max_pool_grad(&mut self, node: &Node, pooled: &Pooled, pool: &Node) {
        let operands = self.pooled_operands(pooled);
        let attributes = self.pool_attributes(pool);
        self.blocked_node(
            (CATALOG, "MaxPoolGradient"),
            &node.name,
            operands,
            node.outputs[0],
            attributes,
        );
    }

    /// Gradient and winners.
    fn pooled_operands(&mut self, pooled: &Pooled) -> Vec<String> {
        let winners = winners(self.plan.node(pooled.pool));
        vec![self.emitter.blocked(pooled.gradient), winners]
    }

    fn pool_geometry(&self, pool: usize) -> Vec<AttributeProto> {
        self.pool_attributes(self.plan.node(pool))
    }

    /// `block` and the attributes that describe a pooling.
    fn pool_attributes(&self, node: &Node) -> Vec<AttributeProto> {
        let Op::MaxPool(pool) = &node.op else {
            return vec![];
        };
        vec![
            int("block", self.block as i64),
            ints("pool_window", &pool.kernel),
            ints("pool_strides", &pool.strides),
            ints("pool_padding", &pool.padding[..2]),
            ints("pool_in_size", &size(self.emitter, node.inputs[0])),
            ints("pool_out_size", &size(self.emitter, node.outputs[0])),
        ]
    }

    fn spread(&mut self, node: &Node) {
        // One pixel: both layouts are the same.
        let operands = vec![self.emitter.name(node.inputs[0])];
        let [height, width] = size(self.emitter, node.outputs[0]);
        let attributes = vec![ints("scales", &[1, 1, height, width])];
        self.blocked_node(
            (NCHWC, "Upsample"),
            &node.name,
            operands,
            node.outputs[0],
            attributes,
        );
    }
}

/// Where a pooling writes its winners.
fn winners(pool: &Node) -> String {
    format!("{}/winners", pool.name)
}

fn bound_attributes(bounds: Bounds) -> [AttributeProto; 2] {
    [float("low", bounds.low), float("high", bounds.high)]
}

fn is_depthwise(conv: &Conv2d) -> bool {
    conv.groups > 1
}

/// C of a value `[N, C, H, W]`.
fn channels(emitter: &Emitter<'_>, id: ValueId) -> usize {
    emitter.graph.shape(id).dims().get(1).map_or(1, fixed)
}

/// H and W of a value `[N, C, H, W]`.
fn size(emitter: &Emitter<'_>, id: ValueId) -> [usize; 2] {
    let dims = emitter.graph.shape(id).dims();
    let dim = |axis: usize| dims.get(axis).map_or(1, |dim: &Dim| fixed(dim));
    [dim(2), dim(3)]
}
