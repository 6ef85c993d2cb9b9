//! Batch normalisation with what follows it, rectifiers, and the step of the optimizer.

use crate::graph::{Conv2d, Node, Op, Shape, Tensor, TensorType, ValueId};
use crate::kernels::Bounds;
use crate::lowering::emitter::Domain;
use crate::lowering::proto::{float, int, string};
use crate::lowering::recipes;

use super::plan::Rectifier;
use super::{Blocked, CATALOG, NCHWC, STANDARD, bound_attributes, channels};

impl Blocked<'_, '_, '_> {
    pub(super) fn batch_norm(
        &mut self,
        node: &Node,
        residual: Option<ValueId>,
        bounds: Bounds,
        output: ValueId,
    ) {
        let Op::BatchNorm(norm) = &node.op else {
            return;
        };
        let mut operands = vec![self.emitter.other(node.inputs[0])];
        operands.extend(node.inputs[1..].iter().map(|&id| self.emitter.name(id)));
        operands.extend(residual.map(|id| self.emitter.other(id)));
        let running = [operands[3].clone(), operands[4].clone()];
        let updated = running.clone().map(|name| format!("{name}.updated"));
        let outputs = vec![
            self.emitter.declare_other(output),
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
    pub(super) fn scale_and_shift(
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

        let mut operands = vec![self.emitter.other(node.inputs[0]), weight, offset];
        operands.extend(residual.map(|id| self.emitter.other(id)));
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

    pub(super) fn batch_norm_grad(
        &mut self,
        node: &Node,
        gradient: ValueId,
        rectifier: Option<Rectifier>,
    ) {
        let Op::BatchNormGrad(norm) = &node.op else {
            return;
        };
        let mut operands = vec![
            self.emitter.other(gradient),
            self.emitter.other(node.inputs[1]),
        ];
        operands.extend(node.inputs[2..].iter().map(|&id| self.emitter.name(id)));
        operands.extend(rectifier.map(|rectifier| self.emitter.other(rectifier.output)));
        let outputs = vec![
            self.emitter.declare_other(node.outputs[0]),
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

    pub(super) fn rectifier_grad(&mut self, node: &Node, rectifier: &Rectifier) {
        let operands = vec![
            self.emitter.other(rectifier.gradient),
            self.emitter.other(rectifier.output),
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

    pub(super) fn nesterov_step(&mut self, node: &Node) {
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
}
