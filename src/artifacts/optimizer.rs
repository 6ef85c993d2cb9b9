//! Optimizers as part of the training graph: from gradients to updates, with their state in frozen parameters.

use anyhow::Result;
use pipeline::onnx::{
    ModelProto, NodeProto, SequenceTypeProto, TypeProto, TypeValue, ValueInfoProto,
};
use serde::{Deserialize, Serialize};

use crate::graph::{
    Axes, ElementType, Graph, Initializer, Op, Origin, Role, Shape, TensorType, ValueId,
};
use crate::lowering;

use super::TrainingGraph;

/// An optimizer with its constants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Optimizer {
    /// Adam with decoupled weight decay (Loshchilov & Hutter, 2019, algorithm 2), in PyTorch's form.
    AdamW {
        /// Decay rate of the first moment.
        beta1: f32,
        /// Decay rate of the second moment.
        beta2: f32,
        /// Added to the root of the second moment.
        epsilon: f32,
    },
    /// Stochastic gradient descent with Nesterov momentum, in PyTorch's form.
    Sgd {
        /// Share of the velocity kept at each step; 0 for none.
        momentum: f32,
    },
}

/// Everything about the optimizer but the learning rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptimizerOptions {
    /// Which one.
    pub optimizer: Optimizer,
    /// Weight decay of convolution and dense weights; biases and normalisations do not decay.
    pub weight_decay: f32,
    /// Largest allowed norm of all gradients together.
    pub clip_norm: Option<f32>,
}

impl Optimizer {
    /// AdamW with its usual constants.
    pub const fn adamw() -> Self {
        Self::AdamW {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
        }
    }

    /// The factors `1 / (1 − β₁ᵗ)` and `1 / (1 − β₂ᵗ)` that step `t` (from 1) feeds to the training graph; none where the
    /// optimizer has no bias to correct.
    pub fn corrections(&self, step: u64) -> Option<[f32; 2]> {
        match self {
            Self::AdamW { beta1, beta2, .. } => {
                let correction =
                    |beta: f32| (1.0 / (1.0 - f64::from(beta).powf(step as f64))) as f32;
                Some([correction(*beta1), correction(*beta2)])
            }
            Self::Sgd { .. } => None,
        }
    }
}

pub(super) struct Updates {
    /// For each trained parameter, what `learning_rate ·` it is moved against.
    pub(super) updates: Vec<ValueId>,
    /// Writes of the optimizer's state.
    pub(super) state_writes: Vec<ValueId>,
}

/// Adds the updates of all trained parameters to the graph.
pub(super) fn add_updates(
    training: &mut TrainingGraph,
    options: &OptimizerOptions,
) -> Result<Updates> {
    let graph = &mut training.graph;
    graph.scoped("optimizer", |graph| {
        let gradients = match options.clip_norm {
            Some(norm) => clip(graph, &training.gradients, norm)?,
            None => training.gradients.clone(),
        };
        let scalar = TensorType::f32(Shape::fixed(&[1]));
        let corrections = match options.optimizer {
            Optimizer::AdamW { .. } => [
                graph.input("first_correction", scalar.clone()),
                graph.input("second_correction", scalar),
            ]
            .to_vec(),
            Optimizer::Sgd { .. } => vec![],
        };
        let mut all = Updates {
            updates: Vec::new(),
            state_writes: Vec::new(),
        };
        for (&parameter, gradient) in training.trained.iter().zip(gradients) {
            let name = graph.value(parameter).name.clone();
            let (decay, rate) = match &graph.value(parameter).origin {
                Origin::Parameter(info) if info.role == Role::Weight => {
                    (options.weight_decay, info.rate)
                }
                Origin::Parameter(info) => (0.0, info.rate),
                Origin::Input | Origin::Constant(_) | Origin::Node => (0.0, 1.0),
            };
            let update = graph.scoped(&name, |graph| match &options.optimizer {
                Optimizer::AdamW {
                    beta1,
                    beta2,
                    epsilon,
                } => {
                    let direction = adam(
                        graph,
                        gradient,
                        [*beta1, *beta2],
                        *epsilon,
                        &corrections,
                        &mut all,
                    )?;
                    add_decay(graph, direction, parameter, decay)
                }
                Optimizer::Sgd { momentum: 0.0 } => add_decay(graph, gradient, parameter, decay),
                Optimizer::Sgd { momentum } => {
                    let op = Op::NesterovStep {
                        momentum: *momentum,
                        weight_decay: decay,
                    };
                    nesterov(graph, op, [parameter, gradient], &mut all)
                }
            })?;
            let update = match rate == 1.0 {
                true => update,
                false => graph.scale(update, rate)?,
            };
            all.updates.push(update);
        }
        Ok(all)
    })
}

/// `g · min(1, norm / ‖all g‖₂)`.
fn clip(graph: &mut Graph, gradients: &[ValueId], norm: f32) -> Result<Vec<ValueId>> {
    let mut total = graph.scalar(0.0);
    for &gradient in gradients {
        let square = graph.mul(gradient, gradient)?;
        let axes: Vec<usize> = (0..graph.shape(square).rank()).collect();
        let sum = graph.reduce_sum(square, Axes::Drop(&axes))?;
        total = graph.add(total, sum)?;
    }
    let length = graph.sqrt(total)?;
    // PyTorch's clip_grad_norm_ adds the same amount, so that a zero gradient is no division by zero.
    let length = graph.shift(length, 1e-6)?;
    let limit = graph.scalar(norm);
    let ratio = graph.div(limit, length)?;
    let factor = graph.clip(ratio, f32::NEG_INFINITY, 1.0)?;
    gradients
        .iter()
        .map(|&gradient| Ok(graph.mul(gradient, factor)?))
        .collect()
}

/// `update + decay · w`.
fn add_decay(
    graph: &mut Graph,
    update: ValueId,
    parameter: ValueId,
    decay: f32,
) -> Result<ValueId> {
    if decay == 0.0 {
        return Ok(update);
    }
    let pull = graph.scale(parameter, decay)?;
    Ok(graph.add(update, pull)?)
}

/// `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²`, `m c₁ / (√(v c₂) + ε)` with the corrections c.
fn adam(
    graph: &mut Graph,
    gradient: ValueId,
    [beta1, beta2]: [f32; 2],
    epsilon: f32,
    corrections: &[ValueId],
    all: &mut Updates,
) -> Result<ValueId> {
    let square = graph.mul(gradient, gradient)?;
    let first = moving_average(graph, "first_moment", gradient, beta1, all)?;
    let second = moving_average(graph, "second_moment", square, beta2, all)?;
    let first = graph.mul(first, corrections[0])?;
    let second = graph.mul(second, corrections[1])?;
    let root = graph.sqrt(second)?;
    let root = graph.shift(root, epsilon)?;
    Ok(graph.div(first, root)?)
}

fn moving_average(
    graph: &mut Graph,
    name: &str,
    value: ValueId,
    beta: f32,
    all: &mut Updates,
) -> Result<ValueId> {
    let state = state_like(graph, name, value);
    let kept = graph.scale(state, beta)?;
    let fresh = graph.scale(value, 1.0 - beta)?;
    let average = graph.add(kept, fresh)?;
    all.state_writes.push(graph.assign(state, average)?);
    Ok(average)
}

/// Sutskever et al. (2013), as PyTorch has it.
fn nesterov(
    graph: &mut Graph,
    step: Op,
    [parameter, gradient]: [ValueId; 2],
    all: &mut Updates,
) -> Result<ValueId> {
    let velocity = state_like(graph, "velocity", gradient);
    let outputs = graph.node(step, &[parameter, gradient, velocity])?;
    all.state_writes.push(graph.assign(velocity, outputs[1])?);
    Ok(outputs[0])
}

fn state_like(graph: &mut Graph, name: &str, value: ValueId) -> ValueId {
    let sizes: Vec<usize> = graph
        .shape(value)
        .dims()
        .iter()
        .map(|dim| match dim {
            crate::graph::Dim::Fixed(size) | crate::graph::Dim::Batch(size) => *size,
        })
        .collect();
    graph.parameter(name, &sizes, Role::State, Initializer::Constant(0.0))
}

/// `optimizer_model.onnx` of plain gradient descent: `w ← w − learning_rate · update` for all parameters at once.
pub(super) fn model() -> ModelProto {
    let sequence = |name: &str| ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(TypeValue::Sequence(Box::new(SequenceTypeProto {
                elem_type: Some(lowering::unshaped_float()),
            }))),
        }),
        ..ValueInfoProto::default()
    };
    let single = |name: &str, element| {
        lowering::value_info(name, &TensorType::new(element, Shape::fixed(&[1])))
    };
    let graph = pipeline::onnx::GraphProto {
        name: Some("catalog".to_owned()),
        // ONNX Runtime checks these names and their order; the moments are required although nothing reads them.
        input: vec![
            single("learning_rate", ElementType::F32),
            single("step", ElementType::I64),
            sequence("params"),
            sequence("gradients"),
            sequence("first_order_moments"),
        ],
        output: vec![single("updated", ElementType::Bool)],
        node: vec![NodeProto {
            input: ["learning_rate", "params", "gradients"]
                .map(str::to_owned)
                .to_vec(),
            output: vec!["updated".to_owned()],
            name: Some("descend".to_owned()),
            op_type: Some("SGDOptimizerV2".to_owned()),
            domain: Some("com.microsoft".to_owned()),
            ..NodeProto::default()
        }],
        ..pipeline::onnx::GraphProto::default()
    };
    lowering::model(graph)
}
