//! The blocked formulation: ONNX Runtime's convolutions on blocked layout, and this program's operators for what it lacks.
//!
//! A value of shape `[N, C, H, W]` lies in memory as `[N, C / B, H, W, B]`; its declared shape stays the same. Parameters stay as
//! they are: filters are packed at every step, so checkpoints and exports know nothing of this. [`plan`] decides what is done in
//! blocks and what is done together; this module writes the nodes. What the plan leaves alone is emitted as
//! [`super::portable`] does it, with reorderings where layouts meet.

mod convolution;
mod normalisation;
mod plan;
mod pooling;

use pipeline::onnx::AttributeProto;

use crate::graph::{Dim, Node, ValueId};
use crate::kernels::Bounds;

use super::emitter::{Domain, Emitter};
use super::proto::{fixed, float, ints};
use super::{Mode, Targets, portable};
use plan::{Plan, Step};

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
                let operands = vec![self.emitter.other(node.inputs[0])];
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
            Step::Nesterov => self.nesterov_step(node),
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
        let outputs = vec![self.emitter.declare_other(output)];
        self.emitter
            .raw_node(operator, name, operands, outputs, attributes);
    }

    fn elementwise(&mut self, node: &Node) {
        let operands = node
            .inputs
            .iter()
            .map(|&id| self.emitter.other(id))
            .collect();
        let output = self.emitter.declare_other(node.outputs[0]);
        portable::emit_elementwise(self.emitter, node, operands, output);
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

fn bound_attributes(bounds: Bounds) -> [AttributeProto; 2] {
    [float("low", bounds.low), float("high", bounds.high)]
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
