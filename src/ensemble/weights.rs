//! Weights of a finished model in another storage.

use std::collections::BTreeSet;
use std::mem;

use anyhow::{Result, ensure};
use pipeline::onnx::{GraphProto, NodeProto, TensorProto, data_type};

use crate::lowering::WeightStorage;
use crate::lowering::storage::{floats, halves};

/// Operators whose second input is a weight.
const WEIGHTED: [&str; 3] = ["Conv", "Gemm", "MatMul"];

/// Holds the weights of convolutions and dense layers in `storage`, where the graph has them as float32 or float16; gives their number.
///
/// # Errors
/// When a tensor's data and shape disagree, or a weight is too large for the storage.
pub(super) fn hold(graph: &mut GraphProto, storage: WeightStorage) -> Result<usize> {
    let weights: BTreeSet<String> = graph
        .node
        .iter()
        .filter(|node| WEIGHTED.contains(&node.op_type()))
        .filter_map(|node| node.input.get(1).cloned())
        .collect();
    let mut nodes = Vec::new();
    let mut count = 0;
    for tensor in mem::take(&mut graph.initializer) {
        let (name, values) = match tensor.data_type() {
            // What has no filters is no weight of a network.
            _ if tensor.dims.len() < 2 => (None, Vec::new()),
            data_type::FLOAT if weights.contains(tensor.name()) => {
                (Some(tensor.name().to_owned()), floats(&tensor)?)
            }
            data_type::FLOAT16 => match only_widening(&tensor, &graph.node) {
                Some(place) if is_weight(&graph.node[place], &weights) => {
                    let widening = graph.node.remove(place);
                    (widening.output.into_iter().next(), halves(&tensor)?)
                }
                _ => (None, Vec::new()),
            },
            _ => (None, Vec::new()),
        };
        let Some(name) = name else {
            graph.initializer.push(tensor);
            continue;
        };
        let elements: i64 = tensor.dims.iter().product();
        ensure!(
            values.len() as i64 == elements,
            "the weight {name} has {} numbers for the shape {:?}",
            values.len(),
            tensor.dims
        );
        let held = storage.held(&name, &tensor.dims, &values)?;
        graph.initializer.extend(held.tensors);
        nodes.extend(held.nodes);
        count += 1;
    }
    nodes.append(&mut graph.node);
    graph.node = nodes;
    Ok(count)
}

/// Place of the node that makes floats of half floats, where nothing else reads these.
fn only_widening(tensor: &TensorProto, nodes: &[NodeProto]) -> Option<usize> {
    let mut readers = (0..).zip(nodes).filter(|(_, node)| {
        let mut inputs = node.input.iter();
        inputs.any(|input| input == tensor.name())
    });
    let (place, reader) = readers.next()?;
    let to = reader
        .attribute
        .iter()
        .find(|attribute| attribute.name() == "to");
    let widens =
        reader.op_type() == "Cast" && to.is_some_and(|to| to.i() == i64::from(data_type::FLOAT));
    (widens && readers.next().is_none()).then_some(place)
}

fn is_weight(widening: &NodeProto, weights: &BTreeSet<String>) -> bool {
    widening.output.iter().all(|name| weights.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `y = x · a + b`, and `a` times something; `a` as it is held, `b` of float32.
    fn graph(storage: WeightStorage, weights: &[f32]) -> GraphProto {
        let held = storage.held("a", &[2, 2], weights).unwrap();
        let mut node = held.nodes;
        node.push(NodeProto::of("Gemm", &["x", "a", "b"], "y", vec![]));
        let mut initializer = held.tensors;
        initializer.push(TensorProto::floats("b", &[2, 1], &[1.0, 2.0]));
        GraphProto {
            node,
            initializer,
            ..GraphProto::default()
        }
    }

    const WEIGHTS: [f32; 4] = [1.27, -0.5, 0.25, 0.125];

    #[test]
    fn floats_and_halves_become_the_same_whole_numbers() {
        for storage in [WeightStorage::Float32, WeightStorage::Float16] {
            // Of powers of two a half float loses nothing.
            let weights = [1.0, -0.5, 0.25, 0.125];
            let mut found = graph(storage, &weights);
            assert_eq!(hold(&mut found, WeightStorage::Int8).unwrap(), 1);
            let expected = graph(WeightStorage::Int8, &weights);
            assert_eq!(found.node, expected.node);
            let mut initializers = found.initializer.clone();
            initializers.sort_by(|a, b| a.name().cmp(b.name()));
            let mut wanted = expected.initializer.clone();
            wanted.sort_by(|a, b| a.name().cmp(b.name()));
            assert_eq!(initializers, wanted, "{storage:?}");
        }
    }

    #[test]
    fn what_is_no_weight_stays_as_it_is() {
        // Whole numbers are not made floats of again.
        let mut whole = graph(WeightStorage::Int8, &WEIGHTS);
        let before = whole.clone();
        assert_eq!(hold(&mut whole, WeightStorage::Float16).unwrap(), 0);
        assert_eq!(whole, before);
        // Half floats that something else reads, too.
        let mut shared = graph(WeightStorage::Float16, &WEIGHTS);
        let read = shared.initializer[0].name().to_owned();
        shared
            .node
            .push(NodeProto::of("Shape", &[&read], "shape", vec![]));
        let before = shared.clone();
        assert_eq!(hold(&mut shared, WeightStorage::Int8).unwrap(), 0);
        assert_eq!(shared, before);
    }

    #[test]
    fn weights_that_are_cut_or_too_large_are_named() {
        let mut cut = graph(WeightStorage::Float32, &WEIGHTS);
        cut.initializer[0].raw_data = Some(vec![0; 7]);
        let error = hold(&mut cut, WeightStorage::Int8).unwrap_err();
        assert_eq!(error.to_string(), "the data of a are cut");
        cut.initializer = vec![TensorProto::floats("a", &[2, 3], &WEIGHTS)];
        let error = hold(&mut cut, WeightStorage::Int8).unwrap_err();
        assert!(error.to_string().contains("4 numbers"), "{error}");
        let mut large = graph(WeightStorage::Float32, &[1e6, 0.0, 0.0, 0.0]);
        let error = hold(&mut large, WeightStorage::Float16).unwrap_err();
        assert!(
            error.to_string().starts_with("a weight of a is 1000000"),
            "{error}"
        );
    }
}
