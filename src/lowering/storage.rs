//! How weights are held in a model file, and the nodes that make floats of them again. ONNX Runtime runs these once, when it loads the
//! file: computation is float32 whatever the file holds.

use anyhow::{Result, ensure};
use half::f16;
use pipeline::onnx::{AttributeProto, NodeProto, TensorProto, data_type};
use serde::{Deserialize, Serialize};

use crate::graph::{Graph, Role};

/// Largest whole number a weight becomes; −128 is left out, so that zero is in the middle.
const LARGEST: f32 = 127.0;

/// How the weights of convolutions and dense layers are held in a file. Biases, normalisations and statistics are float32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightStorage {
    /// As they were trained.
    #[default]
    Float32,
    /// Rounded to half floats, which halves the file.
    Float16,
    /// Rounded to whole numbers from −127 to 127 of a step, which is another one for each filter: a quarter of the file.
    Int8,
}

/// A tensor as the file holds it, and the nodes that give it under its name.
pub(crate) struct Held {
    pub(crate) tensors: Vec<TensorProto>,
    pub(crate) nodes: Vec<NodeProto>,
}

impl WeightStorage {
    /// The values that a file gives back for `values`, which hold one slice for each of the graph's first parameters.
    ///
    /// # Errors
    /// When a weight is too large for the storage.
    pub fn stored(self, graph: &Graph, mut values: Vec<Vec<f32>>) -> Result<Vec<Vec<f32>>> {
        for ((_, value, parameter), data) in graph.parameters().zip(&mut values) {
            if parameter.role != Role::Weight {
                continue;
            }
            match self {
                Self::Float32 => {}
                Self::Float16 => {
                    for weight in data {
                        *weight = half(&value.name, *weight)?.to_f32();
                    }
                }
                Self::Int8 => {
                    let row = row_length(&super::dims(&value.ty), data.len());
                    for row in data.chunks_exact_mut(row) {
                        let step = step(row);
                        for weight in row {
                            *weight = f32::from(whole(*weight, step)) * step;
                        }
                    }
                }
            }
        }
        Ok(values)
    }

    /// A weight `[filters, …]` as it is held.
    ///
    /// # Errors
    /// When it is too large for the storage.
    pub(crate) fn held(self, name: &str, dims: &[i64], data: &[f32]) -> Result<Held> {
        Ok(match self {
            Self::Float32 => Held {
                tensors: vec![TensorProto::floats(name, dims, data)],
                nodes: vec![],
            },
            Self::Float16 => {
                let halves = format!("{name}/float16");
                let mut bytes = Vec::with_capacity(2 * data.len());
                for &weight in data {
                    bytes.extend(half(name, weight)?.to_le_bytes());
                }
                Held {
                    nodes: vec![widening(&halves, name)],
                    tensors: vec![tensor(halves, data_type::FLOAT16, dims, bytes)],
                }
            }
            Self::Int8 => {
                let row = row_length(dims, data.len());
                let steps: Vec<f32> = data.chunks_exact(row).map(step).collect();
                let bytes = data
                    .chunks_exact(row)
                    .zip(&steps)
                    .flat_map(|(row, &step)| row.iter().map(move |&value| whole(value, step)))
                    .map(|whole| whole as u8);
                let (int8, step, floats) = (
                    format!("{name}/int8"),
                    format!("{name}/step"),
                    format!("{name}/steps"),
                );
                // One step for each filter, whatever comes behind.
                let step_dims: Vec<i64> = [steps.len() as i64]
                    .into_iter()
                    .chain(dims.iter().skip(1).map(|_| 1))
                    .collect();
                Held {
                    nodes: vec![
                        widening(&int8, &floats),
                        NodeProto::of("Mul", &[&floats, &step], name, vec![]),
                    ],
                    tensors: vec![
                        tensor(int8, data_type::INT8, dims, bytes.collect()),
                        TensorProto::floats(&step, &step_dims, &steps),
                    ],
                }
            }
        })
    }
}

fn half(name: &str, weight: f32) -> Result<f16> {
    let half = f16::from_f32(weight);
    ensure!(
        half.is_finite(),
        "a weight of {name} is {weight}, beyond the range of float16; keep float32"
    );
    Ok(half)
}

/// Number of weights of one filter.
fn row_length(dims: &[i64], weights: usize) -> usize {
    let rows = dims.first().map_or(1, |&rows| rows.max(1) as usize);
    (weights / rows).max(1)
}

fn tensor(name: String, element: i32, dims: &[i64], bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        dims: dims.to_vec(),
        data_type: Some(element),
        name: Some(name),
        raw_data: Some(bytes),
        ..TensorProto::default()
    }
}

fn widening(from: &str, to: &str) -> NodeProto {
    NodeProto {
        name: Some(format!("{to}/widened")),
        ..NodeProto::of(
            "Cast",
            &[from],
            to,
            vec![AttributeProto::int("to", data_type::FLOAT.into())],
        )
    }
}

/// The step of which the largest weight of a row is [`LARGEST`].
fn step(row: &[f32]) -> f32 {
    let largest = row
        .iter()
        .fold(0.0_f32, |largest, weight| largest.max(weight.abs()));
    largest / LARGEST
}

/// How many steps a weight is; a row of zeros has a step of zero.
fn whole(weight: f32, step: f32) -> i8 {
    match step > 0.0 {
        true => (weight / step).round().clamp(-LARGEST, LARGEST) as i8,
        false => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Initializer;

    /// Two filters of three weights, the second all zero.
    const WEIGHTS: [f32; 6] = [0.5, -1.27, 0.004, 0.0, 0.0, 0.0];

    fn stored(storage: WeightStorage) -> Vec<f32> {
        let mut graph = Graph::new();
        graph.parameter("weight", &[2, 3], Role::Weight, Initializer::Constant(0.0));
        let values = storage.stored(&graph, vec![WEIGHTS.to_vec()]).unwrap();
        values.into_iter().next().unwrap()
    }

    #[test]
    fn each_filter_has_its_own_step_in_int8() {
        let found = stored(WeightStorage::Int8);
        let expected = [0.5, -1.27, 0.0, 0.0, 0.0, 0.0];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} for {expected}");
        }
        // What was rounded is not rounded further.
        assert_eq!(stored(WeightStorage::Float32), WEIGHTS);
    }

    #[test]
    fn the_file_holds_what_is_judged() {
        let held = WeightStorage::Int8
            .held("weight", &[2, 3], &WEIGHTS)
            .unwrap();
        let [whole, step] = held.tensors.as_slice() else {
            panic!("{} tensors", held.tensors.len())
        };
        assert_eq!(step.dims, [2, 1]);
        let floats = |tensor: &TensorProto| -> Vec<f32> {
            let bytes = tensor.raw_data.as_deref().unwrap();
            let (values, _) = bytes.as_chunks();
            values
                .iter()
                .map(|&value| f32::from_le_bytes(value))
                .collect()
        };
        let steps = floats(step);
        let values: Vec<f32> = whole
            .raw_data
            .iter()
            .flatten()
            .enumerate()
            .map(|(place, &byte)| f32::from(byte as i8) * steps[place / 3])
            .collect();
        assert_eq!(values, stored(WeightStorage::Int8));
        let operators: Vec<&str> = held.nodes.iter().map(NodeProto::op_type).collect();
        assert_eq!(operators, ["Cast", "Mul"]);
        assert_eq!(held.nodes[1].output, ["weight"]);
    }

    #[test]
    fn weights_beyond_half_floats_are_refused() {
        let mut graph = Graph::new();
        graph.parameter("weight", &[1, 1], Role::Weight, Initializer::Constant(0.0));
        let error = WeightStorage::Float16
            .stored(&graph, vec![vec![1e6]])
            .unwrap_err();
        assert!(
            error.to_string().contains("beyond the range of float16"),
            "{error}"
        );
    }
}
