//! Reverse-mode differentiation, as a graph that grows.
//!
//! The whole algorithm is [`differentiate`]: seed the loss with one, walk the nodes backwards, ask each node's rule for the
//! gradients of its inputs, and add up what arrives at a value from several users.

mod rules;

use anyhow::{Context, Result, ensure};

use crate::graph::{Graph, Op, Tensor, ValueId};

/// Adds the gradients of `loss` with respect to each value of `wrt` to the graph, and returns them in the same order.
///
/// Gradients are computed only along paths from `wrt` to `loss`. A value the loss does not depend on gets an error: training a
/// parameter nothing uses is a mistake in the network.
///
/// # Errors
/// When the loss is no scalar, does not depend on a value of `wrt`, or depends on it through an operation without a gradient.
pub fn differentiate(graph: &mut Graph, loss: ValueId, wrt: &[ValueId]) -> Result<Vec<ValueId>> {
    ensure!(
        graph.shape(loss).rank() == 0,
        "only a scalar can be differentiated, {} is none",
        graph.describe(loss)
    );
    let nodes = graph.nodes().to_vec();

    // A value needs a gradient if it is asked for or made from one that needs it.
    let mut needs_gradient = vec![false; graph.values().len()];
    for id in wrt {
        needs_gradient[id.index()] = true;
    }
    for node in &nodes {
        if node.inputs.iter().any(|id| needs_gradient[id.index()]) {
            for output in &node.outputs {
                needs_gradient[output.index()] = true;
            }
        }
    }

    let mut gradients: Vec<Option<ValueId>> = vec![None; graph.values().len()];
    gradients[loss.index()] = Some(graph.constant(Tensor::scalar(1.0)));
    graph.scoped("gradient", |graph| -> Result<()> {
        for node in nodes.iter().rev() {
            let Some(gradient) = gradients[node.outputs[0].index()] else {
                continue;
            };
            let wanted: Vec<bool> = node
                .inputs
                .iter()
                .map(|id| needs_gradient[id.index()])
                .collect();
            if !wanted.contains(&true) {
                continue;
            }
            ensure!(
                node.outputs[1..]
                    .iter()
                    .all(|id| gradients[id.index()].is_none()),
                "node `{}`: only its first output can be differentiated",
                node.name
            );
            let input_gradients = graph
                .scoped(&node.name, |graph| {
                    rules::input_gradients(graph, node, gradient, &wanted)
                })
                .with_context(|| {
                    format!("gradient of node `{}` ({})", node.name, node.op.name())
                })?;
            for (&input, input_gradient) in node.inputs.iter().zip(input_gradients) {
                let Some(input_gradient) = input_gradient else {
                    continue;
                };
                let sum = &mut gradients[input.index()];
                *sum = Some(match *sum {
                    Some(so_far) => graph.node(Op::Add, &[so_far, input_gradient])?[0],
                    None => input_gradient,
                });
            }
        }
        Ok(())
    })?;
    wrt.iter()
        .map(|&id| {
            gradients[id.index()]
                .with_context(|| format!("the loss does not depend on {}", graph.describe(id)))
        })
        .collect()
}
