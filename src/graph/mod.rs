//! A typed tensor graph: the one description of a network that training, evaluation and serving are emitted from.
//!
//! Shapes are inferred and checked as nodes are added; the batch dimension stays symbolic. The graph knows nothing of memory
//! layouts, ONNX node names, providers or files: [`crate::lowering`] turns it into ONNX, [`crate::autodiff`] adds gradients.

mod build;
mod infer;
mod op;
mod shape;
mod tensor;
mod text;

use std::sync::Arc;

pub use build::Axes;
pub use op::{BatchNorm, Conv2d, Op, Pool2d};
pub use shape::{Dim, ElementType, Shape, ShapeError, TensorType};
pub use tensor::{Tensor, TensorData};

/// A value of a [`Graph`]: an index that is only meaningful there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(usize);

impl ValueId {
    /// Position in [`Graph::values`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// Fed at every run.
    Input,
    /// Lives between runs.
    Parameter(Parameter),
    /// Never changes.
    Constant(Tensor),
    /// Made by a node.
    Node,
}

/// A value that lives between runs: a weight, a statistic, an optimizer's moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// What it is for; decides whether it is trained, decayed and exported.
    pub role: Role,
    /// What it starts as.
    pub initializer: Initializer,
    /// What its learning rate is multiplied with.
    pub rate: f32,
}

/// What a parameter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Weight of a convolution or dense layer: trained, with weight decay.
    Weight,
    /// Bias, or scale and shift of a normalisation: trained, without weight decay.
    BiasOrNorm,
    /// Running statistic of a normalisation: written by the forward pass, not trained.
    Statistic,
    /// Optimizer state or gradient bookkeeping: neither trained nor exported.
    State,
}

impl Role {
    /// Whether the optimizer changes it.
    pub fn is_trained(self) -> bool {
        matches!(self, Self::Weight | Self::BiasOrNorm)
    }
}

/// What a parameter starts as.
#[derive(Clone, Debug, PartialEq)]
pub enum Initializer {
    /// All the same value.
    Constant(f32),
    /// Normal with variance `2 / fan_in` (He et al., 2015, equation 10), for layers followed by a rectifier.
    HeNormal {
        /// Number of inputs that one output sums over.
        fan_in: usize,
    },
    /// Uniform on ±√(1 / fan_in), for the last layer, whose logits should start small.
    LecunUniform {
        /// Number of inputs that one output sums over.
        fan_in: usize,
    },
    /// These values, of which there must be as many as the shape has elements.
    Given(Arc<[f32]>),
}

/// A named, typed value.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Unique name.
    pub name: String,
    /// Element type and shape.
    pub ty: TensorType,
    /// Where it comes from.
    pub origin: Origin,
}

/// An operation with its inputs and outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Unique name; the first output has the same one.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Values it reads.
    pub inputs: Vec<ValueId>,
    /// Values it makes.
    pub outputs: Vec<ValueId>,
}

/// Nodes in topological order: every value is made before it is used, by construction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    values: Vec<Value>,
    nodes: Vec<Node>,
    scope: String,
    /// Per base name, how often it was used.
    name_counts: std::collections::BTreeMap<String, usize>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// All values, in the order they were made.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// All nodes, in topological order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One value.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// Shape of a value.
    pub fn shape(&self, id: ValueId) -> &Shape {
        &self.values[id.0].ty.shape
    }

    /// All parameters, in the order they were made.
    pub fn parameters(&self) -> impl Iterator<Item = (ValueId, &Value, &Parameter)> {
        self.values
            .iter()
            .enumerate()
            .filter_map(|(index, value)| match &value.origin {
                Origin::Parameter(parameter) => Some((ValueId(index), value, parameter)),
                Origin::Input | Origin::Constant(_) | Origin::Node => None,
            })
    }

    /// Number of trained scalars.
    pub fn trained_scalars(&self) -> usize {
        self.parameters()
            .filter(|(_, _, parameter)| parameter.role.is_trained())
            .map(|(_, value, _)| value.ty.shape.fixed_len().unwrap_or(0))
            .sum()
    }

    /// Multiply–add operations of the convolutions and dense layers, for one image, times two.
    pub fn flops_per_image(&self) -> usize {
        self.nodes
            .iter()
            .map(|node| {
                let weight = |index: usize| self.shape(node.inputs[index]).fixed_len().unwrap_or(0);
                match &node.op {
                    Op::Conv(_) => {
                        let output = self.shape(node.outputs[0]).dims();
                        match output {
                            [_, _, Dim::Fixed(height), Dim::Fixed(width)] => {
                                2 * weight(1) * height * width
                            }
                            _ => 0,
                        }
                    }
                    Op::Gemm { .. } => 2 * weight(1),
                    _ => 0,
                }
            })
            .sum()
    }

    /// Everything made inside `body` has `name` in front of its own name.
    pub fn scoped<T>(&mut self, name: &str, body: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.scope.len();
        self.scope.push_str(name);
        self.scope.push('.');
        let result = body(self);
        self.scope.truncate(outer);
        result
    }

    /// Adds an input.
    pub fn input(&mut self, name: &str, ty: TensorType) -> ValueId {
        let name = self.unique_name(name);
        self.push_value(name, ty, Origin::Input)
    }

    /// Adds a float parameter of a fixed shape.
    pub fn parameter(
        &mut self,
        name: &str,
        shape: &[usize],
        role: Role,
        initializer: Initializer,
    ) -> ValueId {
        let name = self.unique_name(name);
        let ty = TensorType::new(ElementType::F32, Shape::fixed(shape));
        let parameter = Parameter {
            role,
            initializer,
            rate: 1.0,
        };
        self.push_value(name, ty, Origin::Parameter(parameter))
    }

    /// All parameters with their names, to change what they start as and how fast they learn.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = (&str, &mut Parameter)> {
        self.values
            .iter_mut()
            .filter_map(|value| match &mut value.origin {
                Origin::Parameter(parameter) => Some((value.name.as_str(), parameter)),
                Origin::Input | Origin::Constant(_) | Origin::Node => None,
            })
    }

    /// Adds a constant.
    pub fn constant(&mut self, tensor: Tensor) -> ValueId {
        let name = self.unique_name("constant");
        let ty = TensorType::new(tensor.data.element(), Shape::fixed(&tensor.shape));
        self.push_value(name, ty, Origin::Constant(tensor))
    }

    /// Adds a float scalar constant of shape `[]`.
    pub fn scalar(&mut self, value: f32) -> ValueId {
        self.constant(Tensor::scalar(value))
    }

    /// Adds a node and returns its outputs.
    ///
    /// # Errors
    /// When the inputs' types or shapes do not fit the operation; the message names the node and the shapes.
    pub fn node(&mut self, op: Op, inputs: &[ValueId]) -> Result<Vec<ValueId>, ShapeError> {
        let types: Vec<&TensorType> = inputs.iter().map(|&id| &self.values[id.0].ty).collect();
        let output_types = infer::infer(&op, &types).map_err(|problem| ShapeError {
            node: format!("{}{}", self.scope, op.name()),
            inputs: inputs.iter().map(|&id| self.describe(id)).collect(),
            problem,
        })?;
        let name = self.unique_name(op.name());
        let outputs = output_types
            .into_iter()
            .enumerate()
            .map(|(index, ty)| {
                let output_name = match index {
                    0 => name.clone(),
                    _ => format!("{name}:{index}"),
                };
                self.push_value(output_name, ty, Origin::Node)
            })
            .collect::<Vec<_>>();
        self.nodes.push(Node {
            name,
            op,
            inputs: inputs.to_vec(),
            outputs: outputs.clone(),
        });
        Ok(outputs)
    }

    /// `name: type[shape]`, for messages.
    pub fn describe(&self, id: ValueId) -> String {
        let value = self.value(id);
        format!("{}: {}", value.name, value.ty)
    }

    fn push_value(&mut self, name: String, ty: TensorType, origin: Origin) -> ValueId {
        self.values.push(Value { name, ty, origin });
        ValueId(self.values.len() - 1)
    }

    /// The scoped name itself the first time, then with `_1`, `_2`, … behind it: the same calls give the same names.
    fn unique_name(&mut self, base: &str) -> String {
        let mut name = format!("{}{base}", self.scope);
        let count = self.name_counts.entry(name.clone()).or_insert(0);
        if *count > 0 {
            name = format!("{name}_{count}");
        }
        *count += 1;
        name
    }
}
