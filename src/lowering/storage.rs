//! How weights are held in a model file, and the nodes that make floats of them again. ONNX Runtime runs these once, when it loads the
//! file: computation is float32 whatever the file holds.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use half::f16;
use pipeline::onnx::{AttributeProto, GraphProto, NodeProto, TensorProto, data_type};
use serde::{Deserialize, Serialize};

use crate::graph::{Graph, Role};

/// Largest whole number a weight becomes; −128 is left out, so that zero is in the middle.
const LARGEST: f32 = 127.0;
/// What the name of a weight ends in where half floats of it are held.
const HALVES: &str = "/float16";
/// Where whole numbers are.
const WHOLE: &str = "/int8";
/// What the name of the sizes of the steps ends in.
const STEP: &str = "/step";

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
                let halves = format!("{name}{HALVES}");
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
                    format!("{name}{WHOLE}"),
                    format!("{name}{STEP}"),
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

/// The float tensors of a graph by the names that its nodes read them under, however they are held: the reverse of
/// [`WeightStorage::held`].
///
/// # Errors
/// When the data of a tensor are cut, or steps are missing.
pub(crate) fn read_back(graph: &GraphProto) -> Result<BTreeMap<String, Vec<f32>>> {
    let held: BTreeMap<&str, &TensorProto> = graph
        .initializer
        .iter()
        .map(|tensor| (tensor.name(), tensor))
        .collect();
    let mut values = BTreeMap::new();
    for (&name, &tensor) in &held {
        let (name, read) = match tensor.data_type() {
            data_type::FLOAT => (name, floats(tensor)?),
            data_type::FLOAT16 => (name.strip_suffix(HALVES).unwrap_or(name), halves(tensor)?),
            data_type::INT8 => {
                let Some(name) = name.strip_suffix(WHOLE) else {
                    continue;
                };
                let steps = held
                    .get(format!("{name}{STEP}").as_str())
                    .with_context(|| format!("the steps of {name} are missing"))?;
                (name, multiplied(tensor, &floats(steps)?)?)
            }
            _ => continue,
        };
        values.insert(name.to_owned(), read);
    }
    Ok(values)
}

/// Whole numbers, one slice for each of the steps that they are of.
fn multiplied(tensor: &TensorProto, steps: &[f32]) -> Result<Vec<f32>> {
    let whole = tensor.raw_data.as_deref().unwrap_or_default();
    ensure!(
        !steps.is_empty() && !whole.is_empty() && whole.len().is_multiple_of(steps.len()),
        "the data of {} are cut",
        tensor.name()
    );
    let rows = whole.chunks_exact(whole.len() / steps.len()).zip(steps);
    Ok(rows
        .flat_map(|(row, step)| row.iter().map(move |&byte| f32::from(byte as i8) * step))
        .collect())
}

/// Elements of a tensor of float32.
///
/// # Errors
/// When its data are cut.
pub(crate) fn floats(tensor: &TensorProto) -> Result<Vec<f32>> {
    match &tensor.raw_data {
        Some(bytes) => elements(tensor, bytes, f32::from_le_bytes),
        None => Ok(tensor.float_data.clone()),
    }
}

/// Elements of a tensor of float16.
///
/// # Errors
/// When its data are cut, or not raw.
pub(crate) fn halves(tensor: &TensorProto) -> Result<Vec<f32>> {
    let bytes = tensor
        .raw_data
        .as_deref()
        .with_context(|| format!("the half floats of {} are not raw", tensor.name()))?;
    elements(tensor, bytes, |bytes| f16::from_le_bytes(bytes).to_f32())
}

fn elements<const N: usize>(
    tensor: &TensorProto,
    bytes: &[u8],
    value: impl Fn([u8; N]) -> f32,
) -> Result<Vec<f32>> {
    let (whole, rest) = bytes.as_chunks();
    ensure!(rest.is_empty(), "the data of {} are cut", tensor.name());
    Ok(whole.iter().map(|&bytes| value(bytes)).collect())
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
        let steps = floats(step).unwrap();
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
    fn what_is_held_can_be_read_back() {
        for storage in [
            WeightStorage::Float32,
            WeightStorage::Float16,
            WeightStorage::Int8,
        ] {
            let held = storage.held("weight", &[2, 3], &WEIGHTS).unwrap();
            let mut graph = GraphProto {
                initializer: held.tensors,
                node: held.nodes,
                ..GraphProto::default()
            };
            let bias = TensorProto::floats("bias", &[2], &[3.0, -4.0]);
            graph.initializer.push(bias);
            let values = read_back(&graph).unwrap();
            assert_eq!(values["weight"], stored(storage), "{storage:?}");
            assert_eq!(values["bias"], [3.0, -4.0]);
        }
        let mut cut = WeightStorage::Int8
            .held("weight", &[2, 3], &WEIGHTS)
            .unwrap()
            .tensors;
        cut[0].raw_data = Some(vec![1; 5]);
        let mut graph = GraphProto {
            initializer: cut,
            ..GraphProto::default()
        };
        let error = read_back(&graph).unwrap_err().to_string();
        assert_eq!(error, "the data of weight/int8 are cut");
        graph.initializer.truncate(1);
        let error = read_back(&graph).unwrap_err().to_string();
        assert_eq!(error, "the steps of weight are missing");
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
