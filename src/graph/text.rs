//! A text form for people and for snapshot tests: one line for each input, parameter and node.

use std::fmt;

use super::{Graph, Initializer, Op, Origin, Role, TensorData, ValueId};

impl fmt::Display for Graph {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for value in &self.values {
            match &value.origin {
                Origin::Input => writeln!(formatter, "input {}: {}", value.name, value.ty)?,
                Origin::Parameter(parameter) => writeln!(
                    formatter,
                    "parameter {}: {} = {} ({})",
                    value.name, value.ty, parameter.initializer, parameter.role
                )?,
                Origin::Constant(_) | Origin::Node => {}
            }
        }
        for node in &self.nodes {
            let inputs: Vec<String> = node.inputs.iter().map(|&id| self.operand(id)).collect();
            let output = self.value(node.outputs[0]);
            writeln!(
                formatter,
                "{}: {} = {}({}){}",
                output.name,
                output.ty,
                node.op.name(),
                inputs.join(", "),
                Attributes(&node.op)
            )?;
        }
        Ok(())
    }
}

impl Graph {
    /// A name, or the value itself for scalars.
    fn operand(&self, id: ValueId) -> String {
        let value = self.value(id);
        match &value.origin {
            Origin::Constant(tensor) => match &tensor.data {
                TensorData::F32(data) if data.len() == 1 => format!("{:?}", data[0]),
                TensorData::Bool(data) if data.len() == 1 => data[0].to_string(),
                TensorData::F32(_) | TensorData::I64(_) | TensorData::Bool(_) => {
                    format!("constant {}", value.ty)
                }
            },
            Origin::Input | Origin::Parameter(_) | Origin::Node => value.name.clone(),
        }
    }
}

/// Attributes of an operation, with a space in front; nothing where there are none.
struct Attributes<'a>(&'a Op);

impl fmt::Display for Attributes<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Op::Conv(conv) | Op::ConvInputGrad(conv) | Op::ConvWeightGrad(conv) => write!(
                formatter,
                " strides={:?} padding={:?} dilations={:?} groups={}",
                conv.strides, conv.padding, conv.dilations, conv.groups
            ),
            Op::MaxPool(pool) | Op::AveragePool(pool) | Op::AveragePoolGrad(pool) => write!(
                formatter,
                " kernel={:?} strides={:?} padding={:?}",
                pool.kernel, pool.strides, pool.padding
            ),
            Op::BatchNorm(norm) | Op::BatchNormGrad(norm) => {
                write!(
                    formatter,
                    " epsilon={:?} momentum={:?}",
                    norm.epsilon, norm.momentum
                )
            }
            Op::Gemm {
                transpose_a,
                transpose_b,
            } => write!(
                formatter,
                " transpose_a={transpose_a} transpose_b={transpose_b}"
            ),
            Op::LeakyRelu { alpha } | Op::LeakyReluGrad { alpha } => {
                write!(formatter, " alpha={alpha:?}")
            }
            Op::Clip { min, max } | Op::ClipGrad { min, max } => {
                write!(formatter, " min={min:?} max={max:?}")
            }
            Op::Dropout { ratio } | Op::DropoutGrad { ratio } => {
                write!(formatter, " ratio={ratio:?}")
            }
            Op::Concat { axis } | Op::Reverse { axis } => write!(formatter, " axis={axis}"),
            Op::Slice { axis, start, end } => {
                write!(formatter, " axis={axis} range={start}..{end}")
            }
            Op::Pad { before, behind } => write!(formatter, " before={before:?} behind={behind:?}"),
            Op::Transpose { permutation } => write!(formatter, " permutation={permutation:?}"),
            Op::ReduceSum { axes, keep } | Op::ReduceMean { axes, keep } => {
                write!(formatter, " axes={axes:?} keep={keep}")
            }
            Op::NesterovStep {
                momentum,
                weight_decay,
            } => write!(
                formatter,
                " momentum={momentum:?} weight_decay={weight_decay:?}"
            ),
            // The shape or type after the colon says it all.
            Op::Reshape { .. } | Op::Cast { .. } => Ok(()),
            Op::Add
            | Op::Sub
            | Op::Mul
            | Op::Div
            | Op::Sqrt
            | Op::Exp
            | Op::Log
            | Op::Erf
            | Op::Relu
            | Op::Sigmoid
            | Op::MatMul
            | Op::GlobalAveragePool
            | Op::Softmax
            | Op::LogSoftmax
            | Op::SoftmaxCrossEntropy
            | Op::ExpandLike
            | Op::BatchSize
            | Op::ReluGrad
            | Op::SigmoidGrad
            | Op::MaxPoolGrad
            | Op::SoftmaxGrad
            | Op::LogSoftmaxGrad
            | Op::SoftmaxCrossEntropyGrad
            | Op::Accumulate => Ok(()),
        }
    }
}

impl fmt::Display for Initializer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(value) => write!(formatter, "{value:?}"),
            Self::HeNormal { fan_in } => write!(formatter, "he_normal(fan_in={fan_in})"),
            Self::LecunUniform { fan_in } => write!(formatter, "lecun_uniform(fan_in={fan_in})"),
            Self::Given(values) => write!(formatter, "given({} values)", values.len()),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Weight => "weight",
            Self::BiasOrNorm => "bias or norm",
            Self::Statistic => "statistic",
            Self::State => "state",
        })
    }
}
