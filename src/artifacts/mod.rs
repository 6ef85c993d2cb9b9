//! The four files of ONNX Runtime's training API, made in memory: training model, evaluation model, optimizer model and
//! checkpoint.
//!
//! The optimizer's arithmetic is part of the training graph: ONNX Runtime's own optimizers have no parameter groups, and
//! biases and normalisations must not decay. What is accumulated for each parameter is therefore its update, and the optimizer
//! model is plain `w ← w − learning_rate · update`.

mod checkpoint;
mod initial;
mod optimizer;

use anyhow::{Context, Result};
use pipeline::onnx::{
    ModelProto, NodeProto, SequenceTypeProto, TypeProto, TypeValue, ValueInfoProto,
};
use prost::Message;

use crate::autodiff::differentiate;
use crate::graph::{ElementType, Graph, Op, Shape, TensorType, ValueId};
use crate::lowering::{self, Formulation, Mode, Parameters, Targets, WeightStorage};
use crate::network::Network;

pub use initial::initial_values;
pub use optimizer::{Optimizer, OptimizerOptions};

/// Name of the only visible output of the training and evaluation models: a sequence of float tensors.
///
/// `ort` 2.0.0-rc.15 panics on tensor outputs of a training or evaluation step, but reads sequences.
pub const METRICS: &str = "metrics";

/// Name of the evaluation and serving value `[N, K]`.
pub const LOGITS: &str = "logits";

/// Name of the training input for soft targets `[N, K]`.
pub const TARGETS: &str = "targets";

/// Everything `ort::training::Trainer` needs, and what is needed to make sense of its parameters.
#[derive(Clone, Debug)]
pub struct Artifacts {
    /// `training_model.onnx`. Inputs: images, targets, then the optimizer's corrections if it has any. The metrics
    /// are the loss `[]` and the logits `[N, K]`.
    pub training: Vec<u8>,
    /// `eval_model.onnx`. Input: images. The metrics are the logits `[N, K]`.
    pub evaluation: Vec<u8>,
    /// `optimizer_model.onnx`.
    pub optimizer: Vec<u8>,
    /// The checkpoint to start from.
    pub checkpoint: Vec<u8>,
    /// Name and number of elements of each parameter, in the order of the models' inputs.
    pub parameters: Vec<(String, usize)>,
}

/// The training graph, before it becomes ONNX: loss, gradients and updates behind the network.
#[derive(Clone, Debug)]
pub struct TrainingGraph {
    /// The network's graph, extended.
    pub graph: Graph,
    /// The loss, `[]`.
    pub loss: ValueId,
    /// The logits, `[N, K]`.
    pub logits: ValueId,
    /// Trained parameters.
    pub trained: Vec<ValueId>,
    /// The loss's gradient for each of them.
    pub gradients: Vec<ValueId>,
}

/// Adds the loss of soft targets and the gradients of all trained parameters to a network. What is differentiated is the loss times
/// `loss_scale`, and the gradients are divided by that: it keeps those in between from being too small for 16-bit floats.
///
/// # Errors
/// When a trained parameter has no influence on the loss, or an operation no gradient.
pub fn training_graph(network: &Network, loss_scale: f32) -> Result<TrainingGraph> {
    let mut graph = network.graph.clone();
    let targets = graph.input(TARGETS, graph.value(network.logits).ty.clone());
    let loss = graph.scoped("loss", |graph| {
        graph.soft_cross_entropy(network.logits, targets)
    })?;
    let trained: Vec<ValueId> = graph
        .parameters()
        .filter(|(_, _, parameter)| parameter.role.is_trained())
        .map(|(id, _, _)| id)
        .collect();
    let gradients = match loss_scale {
        1.0 => differentiate(&mut graph, loss, &trained)?,
        scale => {
            let scaled = graph.scale(loss, scale)?;
            let gradients = differentiate(&mut graph, scaled, &trained)?;
            gradients
                .into_iter()
                .map(|gradient| graph.scale(gradient, 1.0 / scale))
                .collect::<Result<_, _>>()?
        }
    };
    Ok(TrainingGraph {
        graph,
        loss,
        logits: network.logits,
        trained,
        gradients,
    })
}

/// Makes the four files. The same network, options, formulation and seed give the same bytes; the checkpoint does not depend on
/// the formulation.
///
/// # Errors
/// As [`training_graph`].
pub fn build(
    network: &Network,
    options: &OptimizerOptions,
    formulation: Formulation,
    seed: u64,
) -> Result<Artifacts> {
    let mut training = training_graph(network, formulation.loss_scale())?;
    let updates = optimizer::add_updates(&mut training, options)?;
    let graph = &mut training.graph;
    let reset = graph.input(
        "lazy_reset_grad",
        TensorType::new(ElementType::Bool, Shape::fixed(&[1])),
    );
    let mut outputs = Vec::new();
    for (&parameter, &update) in training.trained.iter().zip(&updates.updates) {
        let name = graph.value(parameter).name.clone();
        let ty = graph.value(parameter).ty.clone();
        let buffer = graph.input(&format!("{name}_grad.accumulation.buffer"), ty);
        let accumulated = graph.node(Op::Accumulate, &[buffer, update, reset])?;
        outputs.push((format!("{name}_grad.accumulation.out"), accumulated[0]));
    }

    let metrics = [
        ("loss".to_owned(), training.loss),
        ("training_logits".to_owned(), training.logits),
    ];
    let training_model = with_metrics(
        graph,
        Mode::Training,
        formulation,
        &metrics,
        Targets {
            outputs,
            effects: updates.state_writes,
        },
    )?;
    let evaluation_model = with_metrics(
        graph,
        Mode::Inference,
        formulation.for_inference(),
        &[(LOGITS.to_owned(), training.logits)],
        Targets::default(),
    )?;
    let initial = initial_values(graph, seed);
    Ok(Artifacts {
        training: training_model.encode_to_vec(),
        evaluation: evaluation_model.encode_to_vec(),
        optimizer: optimizer::model().encode_to_vec(),
        checkpoint: checkpoint::encode(graph, &initial),
        parameters: graph
            .parameters()
            .zip(&initial)
            .map(|((_, value, _), data)| (value.name.clone(), data.len()))
            .collect(),
    })
}

/// Lowers a graph with `metrics` gathered into the sequence [`METRICS`], in front of the other outputs.
fn with_metrics(
    graph: &Graph,
    mode: Mode,
    formulation: Formulation,
    metrics: &[(String, ValueId)],
    targets: Targets,
) -> Result<ModelProto> {
    let mut all = targets;
    let hidden_outputs = all.outputs.len();
    all.outputs.extend_from_slice(metrics);
    let mut proto = lowering::lower(
        "catalog",
        graph,
        mode,
        formulation,
        &all,
        Parameters::Inputs,
    )?;
    // The members are values inside the graph; only the sequence is handed out.
    let members = proto.output.split_off(hidden_outputs);
    proto.value_info.extend(members.iter().cloned());
    proto.node.push(NodeProto {
        input: members
            .iter()
            .filter_map(|info| info.name.clone())
            .collect(),
        output: vec![METRICS.to_owned()],
        name: Some(METRICS.to_owned()),
        op_type: Some("SequenceConstruct".to_owned()),
        ..NodeProto::default()
    });
    let element = lowering::unshaped_float();
    proto.output.insert(
        0,
        ValueInfoProto {
            name: Some(METRICS.to_owned()),
            r#type: Some(TypeProto {
                value: Some(TypeValue::Sequence(Box::new(SequenceTypeProto {
                    elem_type: Some(element),
                }))),
            }),
            ..ValueInfoProto::default()
        },
    );
    Ok(lowering::model(proto))
}

/// The model that serves: normalisation, network, `logits` and `probabilities = softmax(logits / temperature)`, with the
/// parameters inside. `values` holds one slice per parameter of the network's graph, in its order; weights that `storage` cannot
/// hold are rounded.
///
/// # Errors
/// When a parameter is missing.
pub fn serving_model(
    network: &Network,
    values: &[Vec<f32>],
    temperature: f32,
    storage: WeightStorage,
) -> Result<ModelProto> {
    let mut graph = network.graph.clone();
    let probabilities = graph.scoped("serve", |graph| {
        let tempered = match temperature == 1.0 {
            true => network.logits,
            false => graph.scale(network.logits, 1.0 / temperature)?,
        };
        graph.softmax(tempered)
    })?;
    let targets = Targets {
        outputs: vec![
            (LOGITS.to_owned(), network.logits),
            ("probabilities".to_owned(), probabilities),
        ],
        effects: vec![],
    };
    let proto = lowering::lower(
        "catalog",
        &graph,
        Mode::Inference,
        Formulation::Portable,
        &targets,
        Parameters::Constants { values, storage },
    )
    .context("the serving graph")?;
    Ok(lowering::model(proto))
}
