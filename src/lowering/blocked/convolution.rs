//! Convolutions, their gradients and the sums that are gradients of their biases.

use pipeline::onnx::AttributeProto;

use crate::graph::{Conv2d, Node, Op, Shape, TensorType, ValueId};
use crate::kernels::Bounds;
use crate::lowering::proto::{int, ints, string};
use crate::lowering::recipes;

use super::plan::RELU;
use super::{Blocked, CATALOG, NCHWC, bound_attributes, channels, size};

impl Blocked<'_, '_, '_> {
    /// `block` and the attributes that describe a convolution from X to Y.
    pub(super) fn conv_geometry(
        &self,
        conv: &Conv2d,
        x: ValueId,
        weight: ValueId,
    ) -> Vec<AttributeProto> {
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

    pub(super) fn conv(&mut self, node: &Node, rectify: bool, output: ValueId) {
        let Op::Conv(conv) = &node.op else { return };
        let (x, weight) = (node.inputs[0], node.inputs[1]);
        // Fewer channels than a block are read as they are.
        let is_plain = channels(self.emitter, x) < self.block;
        let mut operands = vec![if is_plain {
            self.emitter.name(x)
        } else {
            self.emitter.other(x)
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
    pub(super) fn conv_input_grad(&mut self, node: &Node) {
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
                    self.emitter.other(dy),
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
                let operands = vec![self.emitter.other(dy), self.emitter.name(weight)];
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

    pub(super) fn conv_weight_grad(&mut self, node: &Node) {
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
            self.emitter.other(x)
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
            None => ("ConvWeightGradient", vec![self.emitter.other(dy)], geometry),
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

    pub(super) fn channel_sum(&mut self, node: &Node) {
        let value = node.inputs[0];
        let (gradient, rectified) = match self.plan.pooled_instead_of(value) {
            // Each window hands its whole gradient to its winner, unless the rectifier was closed.
            Some(pooled) => (pooled.gradient, pooled.rectified),
            None => (value, None),
        };
        let mut operands = vec![self.emitter.other(gradient)];
        operands.extend(rectified.map(|id| self.emitter.other(id)));
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
}

fn is_depthwise(conv: &Conv2d) -> bool {
    conv.groups > 1
}
