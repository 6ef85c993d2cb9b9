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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Axes, ElementType, Initializer, Role, Shape, TensorType};

    fn weight(graph: &mut Graph, name: &str, shape: &[usize]) -> ValueId {
        graph.parameter(name, shape, Role::Weight, Initializer::Constant(1.0))
    }

    fn message(graph: &mut Graph, loss: ValueId, wrt: ValueId) -> String {
        format!("{:#}", differentiate(graph, loss, &[wrt]).unwrap_err())
    }

    #[test]
    fn the_gradients_of_a_value_with_two_users_are_added() {
        let mut graph = Graph::new();
        let x = weight(&mut graph, "x", &[]);
        let square = graph.mul(x, x).unwrap();
        let loss = graph.add(square, x).unwrap();
        let forward_nodes = graph.nodes().len();
        let gradient = differentiate(&mut graph, loss, &[x]).unwrap()[0];
        // d(x² + x)/dx = 1 + x + x.
        let backward: Vec<&str> = graph.nodes()[forward_nodes..]
            .iter()
            .map(|node| node.op.name())
            .collect();
        assert_eq!(backward, ["mul", "mul", "add", "add"]);
        assert_eq!(graph.nodes().last().unwrap().outputs, [gradient]);
    }

    #[test]
    fn nothing_is_computed_for_what_needs_no_gradient() {
        let mut graph = Graph::new();
        let images = graph.input("images", TensorType::f32(Shape::batch(&[4])));
        let weight = weight(&mut graph, "weight", &[4]);
        let product = graph.mul(images, weight).unwrap();
        let loss = graph.reduce_sum(product, Axes::Drop(&[0, 1])).unwrap();
        let gradients = differentiate(&mut graph, loss, &[weight]).unwrap();
        assert_eq!(graph.shape(gradients[0]), graph.shape(weight));
        // The images' own gradient would be a product with the weight.
        let uses_weight = |node: &&crate::graph::Node| node.inputs.contains(&weight);
        assert_eq!(graph.nodes().iter().filter(uses_weight).count(), 1);
    }

    #[test]
    fn what_cannot_be_differentiated_is_named() {
        let mut graph = Graph::new();
        let x = weight(&mut graph, "x", &[3]);
        let idle = weight(&mut graph, "idle", &[3]);
        let square = graph.mul(x, x).unwrap();
        let loss = graph.reduce_sum(square, Axes::Drop(&[0])).unwrap();
        assert_eq!(
            message(&mut graph.clone(), square, x),
            "only a scalar can be differentiated, mul: f32[3] is none"
        );
        assert_eq!(
            message(&mut graph.clone(), loss, idle),
            "the loss does not depend on idle: f32[3]"
        );

        let labels = graph.cast(x, ElementType::I64).unwrap();
        let floats = graph.cast(labels, ElementType::F32).unwrap();
        let sum = graph.reduce_sum(floats, Axes::Drop(&[0])).unwrap();
        assert_eq!(
            message(&mut graph, sum, x),
            "gradient of node `cast_1` (cast): a conversion from i64 to f32 has no gradient"
        );
    }
}
