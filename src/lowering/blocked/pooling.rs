//! Max pooling, alone or with the convolution before it, and its gradient.

use pipeline::onnx::AttributeProto;

use crate::graph::{Node, Op, ValueId};
use crate::lowering::proto::{int, ints};

use super::plan::Pooled;
use super::{Blocked, CATALOG, size};

impl Blocked<'_, '_, '_> {
    pub(super) fn max_pool(
        &mut self,
        conv: Option<&Node>,
        node: &Node,
        rectify: bool,
        output: ValueId,
    ) {
        let mut attributes = self.pool_attributes(node);
        attributes.push(int("rectify", rectify.into()));
        let (operator, operands) = match conv {
            None => ("MaxPool", vec![self.emitter.other(node.inputs[0])]),
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
        let outputs = vec![self.emitter.declare_other(output), winners(node)];
        self.emitter.raw_node(
            (CATALOG, operator),
            &node.name,
            operands,
            outputs,
            attributes,
        );
    }

    pub(super) fn max_pool_grad(&mut self, node: &Node, pooled: &Pooled, pool: &Node) {
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
    pub(super) fn pooled_operands(&mut self, pooled: &Pooled) -> Vec<String> {
        let winners = winners(self.plan.node(pooled.pool));
        vec![self.emitter.other(pooled.gradient), winners]
    }

    pub(super) fn pool_geometry(&self, pool: usize) -> Vec<AttributeProto> {
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
}

/// Where a pooling writes its winners.
fn winners(pool: &Node) -> String {
    format!("{}/winners", pool.name)
}
