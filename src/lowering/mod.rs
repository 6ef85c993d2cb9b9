//! From a [`Graph`] to an ONNX graph.
//!
//! The same description is emitted in two modes: training (batch statistics, dropout) and inference (running statistics, no
//! dropout). Only what the asked-for values need is emitted. Which ONNX operators stand for an operation is the business of a
//! formulation: [`portable`] uses those that every build of ONNX Runtime with the training API has, CUDA included; [`mixed`] the same
//! on 16-bit floats where that is enough; [`blocked`] those that are fast on x86-64. What comes out is the same up to rounding.

mod blocked;
mod emitter;
mod mixed;
mod portable;
mod proto;
mod recipes;
pub(crate) mod storage;

use anyhow::{Context, Result};
use pipeline::onnx::{
    GraphProto, ModelProto, OperatorSetIdProto, TensorTypeProto, TypeProto, TypeValue,
};

use crate::graph::{Dim, ElementType, Graph, Node, Op, Origin, Role, TensorType, ValueId};

pub(crate) use emitter::NCHWC as BLOCKED_DOMAIN;
use emitter::{Emitter, OtherForm};
pub(crate) use proto::value_info;
pub use storage::WeightStorage;

/// Highest IR version and operator set that ONNX Runtime 1.19.2 and every later one read without conversion.
const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;

/// Which of a network's two behaviours is emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics, dropout, updates of running statistics.
    Training,
    /// Running statistics, no dropout.
    Inference,
}

/// Which operators stand for the operations of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Formulation {
    /// Operators that every build of ONNX Runtime with the training API has.
    Portable,
    /// The same in mixed precision: convolutions and matrix products multiply 16-bit floats.
    Mixed,
    /// ONNX Runtime's convolutions on blocked layout and the operators of [`crate::operators`], which have to be registered with
    /// the session. What does not fit into blocks stays portable.
    Blocked {
        /// Channels in a block, as ONNX Runtime chose them for this processor.
        block: usize,
    },
}

impl Formulation {
    /// What the loss has to be multiplied with before it is differentiated, and its gradients divided by.
    pub fn loss_scale(self) -> f32 {
        match self {
            Self::Mixed => mixed::LOSS_SCALE,
            Self::Portable | Self::Blocked { .. } => 1.0,
        }
    }

    /// What a network is judged with that learns with this one.
    pub fn for_inference(self) -> Self {
        match self {
            Self::Mixed => Self::Portable,
            other => other,
        }
    }
}

/// How many of the graph's convolutions a formulation takes in blocked layout, and how many there are.
pub fn blocked_convolutions(graph: &Graph, formulation: Formulation) -> (usize, usize) {
    let is_convolution = |node: &&Node| matches!(node.op, Op::Conv(_));
    let total = graph.nodes().iter().filter(is_convolution).count();
    let blocked = match formulation {
        Formulation::Portable | Formulation::Mixed => 0,
        Formulation::Blocked { block } => graph
            .nodes()
            .iter()
            .filter(|node| blocked::takes_convolution(graph, node, block))
            .count(),
    };
    (blocked, total)
}

/// What the emitted graph computes.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// Values handed out, each with the name it gets.
    pub outputs: Vec<(String, ValueId)>,
    /// Values computed for their effect alone, such as state updates.
    pub effects: Vec<ValueId>,
}

/// Where the parameters of the emitted graph come from.
#[derive(Clone, Copy, Debug)]
pub enum Parameters<'a> {
    /// Graph inputs, all of them in the order of the description, used or not: what the training API wants.
    Inputs,
    /// Constants in the file, as many as are used.
    Constants {
        /// One slice of elements for each parameter, in the order of the description.
        values: &'a [Vec<f32>],
        /// How the weights are held.
        storage: WeightStorage,
    },
}

/// Emits the part of `graph` that `targets` need.
///
/// # Errors
/// When constants for the parameters are missing or of the wrong length.
pub fn lower(
    name: &str,
    graph: &Graph,
    mode: Mode,
    formulation: Formulation,
    targets: &Targets,
    parameters: Parameters<'_>,
) -> Result<GraphProto> {
    let roots = targets
        .outputs
        .iter()
        .map(|(_, id)| *id)
        .chain(targets.effects.iter().copied());
    let needed = needed_values(graph, roots);
    let other_form = match formulation {
        Formulation::Mixed => OtherForm::Half,
        Formulation::Portable | Formulation::Blocked { .. } => OtherForm::Blocked,
    };
    let mut emitter = Emitter::new(graph, mode, &needed, other_form);
    for (output, id) in &targets.outputs {
        emitter.rename(*id, output);
    }
    let nodes: Vec<&Node> = graph
        .nodes()
        .iter()
        .filter(|node| node.outputs.iter().any(|id| needed[id.index()]))
        .collect();
    match formulation {
        Formulation::Portable => nodes
            .iter()
            .for_each(|node| portable::emit(&mut emitter, node)),
        Formulation::Mixed => mixed::emit(&mut emitter, &nodes, targets),
        Formulation::Blocked { block } => blocked::emit(&mut emitter, &nodes, targets, block),
    }

    let mut proto = GraphProto {
        name: Some(name.to_owned()),
        ..GraphProto::default()
    };
    for (index, value) in graph.values().iter().enumerate() {
        if matches!(value.origin, Origin::Input) && needed[index] {
            proto.input.push(value_info(&value.name, &value.ty));
        }
    }
    for (index, (id, value, parameter)) in graph.parameters().enumerate() {
        match parameters {
            Parameters::Inputs => proto.input.push(value_info(&value.name, &value.ty)),
            Parameters::Constants { values, storage } if needed[id.index()] => {
                let data = values
                    .get(index)
                    .filter(|data| Some(data.len()) == value.ty.shape.fixed_len())
                    .with_context(|| {
                        format!(
                            "no values of the right number for parameter {}",
                            graph.describe(id)
                        )
                    })?;
                let storage = match parameter.role {
                    Role::Weight => storage,
                    _ => WeightStorage::Float32,
                };
                let stored = storage.held(&value.name, &dims(&value.ty), data)?;
                proto.initializer.extend(stored.tensors);
                proto.node.extend(stored.nodes);
            }
            Parameters::Constants { .. } => {}
        }
    }
    for (output, id) in &targets.outputs {
        proto.output.push(value_info(output, &graph.value(*id).ty));
    }
    let (nodes, initializers, value_infos) = emitter.finish();
    proto.node.extend(nodes);
    proto.initializer.extend(initializers);
    proto.value_info = value_infos;
    proto
        .value_info
        .retain(|info| proto.output.iter().all(|output| output.name != info.name));
    Ok(proto)
}

/// Wraps a graph as a model of this program.
pub fn model(graph: GraphProto) -> ModelProto {
    let domains: std::collections::BTreeSet<&str> = graph
        .node
        .iter()
        .filter_map(|node| node.domain.as_deref())
        .collect();
    let opset = |domain: &str, version| OperatorSetIdProto {
        domain: Some(domain.to_owned()),
        version: Some(version),
    };
    let mut opset_import = vec![opset("", OPSET)];
    opset_import.extend(domains.into_iter().map(|domain| opset(domain, 1)));
    ModelProto {
        ir_version: Some(IR_VERSION),
        producer_name: Some("catalog".to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        graph: Some(graph),
        opset_import,
        ..ModelProto::default()
    }
}

/// Which values have to be there for `roots`.
fn needed_values(graph: &Graph, roots: impl Iterator<Item = ValueId>) -> Vec<bool> {
    let mut needed = vec![false; graph.values().len()];
    for root in roots {
        needed[root.index()] = true;
    }
    for node in graph.nodes().iter().rev() {
        if !node.outputs.iter().any(|id| needed[id.index()]) {
            continue;
        }
        for input in &node.inputs {
            needed[input.index()] = true;
        }
    }
    needed
}

fn dims(ty: &TensorType) -> Vec<i64> {
    let dims = ty.shape.dims().iter().map(|dim| match dim {
        Dim::Fixed(size) | Dim::Batch(size) => *size as i64,
    });
    dims.collect()
}

/// A float tensor of any shape: what the members of a sequence are declared as.
pub(crate) fn unshaped_float() -> TypeProto {
    TypeProto {
        value: Some(TypeValue::Tensor(TensorTypeProto {
            elem_type: Some(proto::data_type(ElementType::F32)),
            shape: None,
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Initializer, Role, Shape};

    /// Twice an input plus a parameter, with an output that is dropped and a parameter that nothing uses.
    fn graph() -> (Graph, ValueId) {
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::f32(Shape::batch(&[2])));
        let bias = graph.parameter("bias", &[2], Role::BiasOrNorm, Initializer::Constant(0.0));
        graph.parameter("idle", &[3], Role::Weight, Initializer::Constant(0.0));
        let unwanted = graph.input("unwanted", TensorType::f32(Shape::batch(&[2])));
        let twice = graph.scale(x, 2.0).unwrap();
        graph.add(twice, unwanted).unwrap();
        let sum = graph.add(twice, bias).unwrap();
        (graph, sum)
    }

    fn lowered(parameters: Parameters<'_>) -> Result<GraphProto> {
        let (graph, sum) = graph();
        let targets = Targets {
            outputs: vec![("y".to_owned(), sum)],
            effects: vec![],
        };
        lower(
            "test",
            &graph,
            Mode::Inference,
            Formulation::Portable,
            &targets,
            parameters,
        )
    }

    fn constants(values: &[Vec<f32>]) -> Parameters<'_> {
        Parameters::Constants {
            values,
            storage: WeightStorage::Float32,
        }
    }

    #[test]
    fn only_what_the_outputs_need_is_emitted() {
        let proto = lowered(Parameters::Inputs).unwrap();
        let inputs: Vec<&str> = proto.input.iter().map(|input| input.name()).collect();
        // All parameters, used or not: the training API wants that.
        assert_eq!(inputs, ["x", "bias", "idle"]);
        let operators: Vec<&str> = proto.node.iter().map(|node| node.op_type()).collect();
        assert_eq!(operators, ["Mul", "Add"]);
        assert_eq!(proto.output.len(), 1);
        assert_eq!(proto.output[0].name(), "y");
        assert_eq!(proto.node[1].output, ["y"]);
    }

    #[test]
    fn constants_replace_the_parameters_that_are_used() {
        let proto = lowered(constants(&[vec![1.0, -1.0], vec![0.0; 3]])).unwrap();
        let inputs: Vec<&str> = proto.input.iter().map(|input| input.name()).collect();
        assert_eq!(inputs, ["x"]);
        let bias = proto
            .initializer
            .iter()
            .find(|tensor| tensor.name() == "bias")
            .unwrap();
        assert_eq!(bias.dims, [2]);
        assert_eq!(
            bias.raw_data.as_deref(),
            Some([1.0_f32.to_le_bytes(), (-1.0_f32).to_le_bytes()].as_flattened())
        );
        assert!(
            proto
                .initializer
                .iter()
                .all(|tensor| tensor.name() != "idle")
        );

        let error = lowered(constants(&[vec![1.0]])).unwrap_err().to_string();
        assert_eq!(
            error,
            "no values of the right number for parameter bias: f32[2]"
        );
    }
}
