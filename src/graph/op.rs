//! The closed set of operations.
//!
//! Adding one means adding an arm to three exhaustive matches: shapes (`graph::infer`), gradients (`autodiff::rules`) and
//! emission (`lowering::portable`); an operation without one of them does not compile.

use super::{ElementType, Shape};

/// An operation. Images are `[N, C, H, W]`; axes count from 0.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `A + B`, broadcasting.
    Add,
    /// `A − B`, broadcasting.
    Sub,
    /// `A · B`, broadcasting.
    Mul,
    /// `A / B`, broadcasting.
    Div,
    /// `√X`.
    Sqrt,
    /// `exp X`.
    Exp,
    /// Natural logarithm.
    Log,
    /// Gauss error function.
    Erf,
    /// `max(X, 0)`.
    Relu,
    /// `X` where positive, `alpha · X` elsewhere.
    LeakyRelu {
        /// Slope on the negative side.
        alpha: f32,
    },
    /// `min(max(X, min), max)`; ReLU6 is `Clip { min: 0, max: 6 }`.
    Clip {
        /// Lower bound.
        min: f32,
        /// Upper bound.
        max: f32,
    },
    /// `1 / (1 + exp(−X))`.
    Sigmoid,
    /// Cross-correlation of X `[N, C, H, W]` with W `[O, C / groups, kH, kW]`, plus bias B `[O]` if given.
    Conv(Conv2d),
    /// `op(A) · op(B) + C`, where op transposes if told to; C broadcasts and is optional.
    Gemm {
        /// Transpose A.
        transpose_a: bool,
        /// Transpose B.
        transpose_b: bool,
    },
    /// Matrix product of the last two axes; the leading axes are equal.
    MatMul,
    /// Normalisation of X by batch statistics per channel when training, by running ones otherwise.
    ///
    /// Inputs: X, scale `[C]`, bias `[C]`, running mean `[C]`, running variance `[C]`. Outputs: Y, saved mean `[C]` and saved
    /// inverse standard deviation `[C]` (the last two while training only).
    BatchNorm(BatchNorm),
    /// Largest value of each window. Outputs: Y, and indices into the flattened input.
    MaxPool(Pool2d),
    /// Mean of each window; padding counts as zeros.
    AveragePool(Pool2d),
    /// Mean over H and W: `[N, C, 1, 1]`.
    GlobalAveragePool,
    /// Softmax over the last axis.
    Softmax,
    /// Logarithm of the softmax over the last axis.
    LogSoftmax,
    /// Mean cross-entropy of logits `[N, K]` and integer labels `[N]`, optionally weighted by class weights `[K]` (then divided
    /// by the sum of the weights met). Outputs: loss `[]`, log-probabilities `[N, K]`.
    SoftmaxCrossEntropy,
    /// Zeroes each value with probability `ratio` and scales the rest by `1 / (1 − ratio)` when training; the identity
    /// otherwise. Outputs: Y, mask.
    Dropout {
        /// Probability of zero.
        ratio: f32,
    },
    /// Joins values along an axis.
    Concat {
        /// The axis.
        axis: usize,
    },
    /// Takes `start..end` of an axis.
    Slice {
        /// The axis.
        axis: usize,
        /// First index.
        start: usize,
        /// One past the last index.
        end: usize,
    },
    /// Runs through an axis from its end to its beginning.
    Reverse {
        /// The axis.
        axis: usize,
    },
    /// Surrounds the value with zeros: per axis, how many before and behind.
    Pad {
        /// Zeros before, per axis.
        before: Vec<usize>,
        /// Zeros behind, per axis.
        behind: Vec<usize>,
    },
    /// The same elements in another shape.
    Reshape {
        /// The new shape.
        shape: Shape,
    },
    /// Permutes the axes: axis `i` of the result is axis `permutation[i]` of the input.
    Transpose {
        /// The permutation.
        permutation: Vec<usize>,
    },
    /// Sum over axes.
    ReduceSum {
        /// The axes, ascending.
        axes: Vec<usize>,
        /// Keep them with size 1.
        keep: bool,
    },
    /// Mean over axes.
    ReduceMean {
        /// The axes, ascending.
        axes: Vec<usize>,
        /// Keep them with size 1.
        keep: bool,
    },
    /// Repeats axes of size 1 to the shape of the second input.
    ExpandLike,
    /// Number of images in the batch, as a float `[]`.
    BatchSize,
    /// Converts the elements.
    Cast {
        /// New element type.
        to: ElementType,
    },
    /// Gradient of [`Op::Relu`] from dY and Y.
    ReluGrad,
    /// Gradient of [`Op::LeakyRelu`] from dY and X.
    LeakyReluGrad {
        /// Slope on the negative side.
        alpha: f32,
    },
    /// Gradient of [`Op::Clip`] from dY and X.
    ClipGrad {
        /// Lower bound.
        min: f32,
        /// Upper bound.
        max: f32,
    },
    /// Gradient of [`Op::Sigmoid`] from dY and Y.
    SigmoidGrad,
    /// Gradient of [`Op::Conv`] for X, from dY, X and W.
    ConvInputGrad(Conv2d),
    /// Gradient of [`Op::Conv`] for W, from dY, X and W.
    ConvWeightGrad(Conv2d),
    /// Gradients of [`Op::BatchNorm`] for X, scale and bias, from dY, X, scale, saved mean, saved inverse standard deviation.
    BatchNormGrad(BatchNorm),
    /// Gradient of [`Op::MaxPool`] from dY, indices and X.
    MaxPoolGrad,
    /// Gradient of [`Op::AveragePool`] from dY and X.
    AveragePoolGrad(Pool2d),
    /// Gradient of [`Op::Softmax`] from dY and Y.
    SoftmaxGrad,
    /// Gradient of [`Op::LogSoftmax`] from dY and Y.
    LogSoftmaxGrad,
    /// Gradient of [`Op::SoftmaxCrossEntropy`] for the logits, from dLoss, log-probabilities, labels and class weights if any.
    SoftmaxCrossEntropyGrad,
    /// Gradient of [`Op::Dropout`] from dY and the mask.
    DropoutGrad {
        /// Probability of zero.
        ratio: f32,
    },
    /// Step of gradient descent with Nesterov momentum μ and weight decay λ. Inputs: weight w, gradient g, velocity v. Outputs: the
    /// update g + λw + μv′, and the new velocity v′ = μv + g + λw.
    NesterovStep {
        /// μ.
        momentum: f32,
        /// λ.
        weight_decay: f32,
    },
    /// Writes into a parameter (first input) the second input where the flag (third input, bool `[1]`) is true, and adds the
    /// second input to it otherwise. Output: bool `[1]`. Every other reader of the parameter must come before.
    Accumulate,
}

/// Geometry of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Steps along H and W.
    pub strides: [usize; 2],
    /// Zeros at the top, left, bottom and right.
    pub padding: [usize; 4],
    /// Distance between taps along H and W.
    pub dilations: [usize; 2],
    /// Number of channel groups; as many as channels makes it depthwise.
    pub groups: usize,
}

impl Conv2d {
    /// Stride 1, no dilation, one group, and padding that keeps the size for an odd square kernel.
    pub fn same(kernel: usize) -> Self {
        Self {
            strides: [1, 1],
            padding: [kernel / 2; 4],
            dilations: [1, 1],
            groups: 1,
        }
    }

    /// The same with another stride along both axes.
    pub fn with_stride(self, stride: usize) -> Self {
        Self {
            strides: [stride; 2],
            ..self
        }
    }
}

/// Geometry of a pooling window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool2d {
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Steps along H and W.
    pub strides: [usize; 2],
    /// Rows and columns added at the top, left, bottom and right.
    pub padding: [usize; 4],
}

impl Pool2d {
    /// A square window that moves by its own size.
    pub fn square(size: usize) -> Self {
        Self {
            kernel: [size; 2],
            strides: [size; 2],
            padding: [0; 4],
        }
    }
}

/// Constants of a batch normalisation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm {
    /// Added to the variance.
    pub epsilon: f32,
    /// Share of the old running statistic that is kept at each step: `running ← momentum · running + (1 − momentum) · batch`.
    pub momentum: f32,
}

impl Default for BatchNorm {
    fn default() -> Self {
        Self {
            epsilon: 1e-5,
            momentum: 0.9,
        }
    }
}

impl Op {
    /// Short name: the base of node names and the word of the text form.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Sub => "sub",
            Self::Mul => "mul",
            Self::Div => "div",
            Self::Sqrt => "sqrt",
            Self::Exp => "exp",
            Self::Log => "log",
            Self::Erf => "erf",
            Self::Relu => "relu",
            Self::LeakyRelu { .. } => "leaky_relu",
            Self::Clip { .. } => "clip",
            Self::Sigmoid => "sigmoid",
            Self::Conv(_) => "conv",
            Self::Gemm { .. } => "gemm",
            Self::MatMul => "matmul",
            Self::BatchNorm(_) => "batch_norm",
            Self::MaxPool(_) => "max_pool",
            Self::AveragePool(_) => "average_pool",
            Self::GlobalAveragePool => "global_average_pool",
            Self::Softmax => "softmax",
            Self::LogSoftmax => "log_softmax",
            Self::SoftmaxCrossEntropy => "cross_entropy",
            Self::Dropout { .. } => "dropout",
            Self::Concat { .. } => "concat",
            Self::Slice { .. } => "slice",
            Self::Reverse { .. } => "reverse",
            Self::Pad { .. } => "pad",
            Self::Reshape { .. } => "reshape",
            Self::Transpose { .. } => "transpose",
            Self::ReduceSum { .. } => "reduce_sum",
            Self::ReduceMean { .. } => "reduce_mean",
            Self::ExpandLike => "expand_like",
            Self::BatchSize => "batch_size",
            Self::Cast { .. } => "cast",
            Self::ReluGrad => "d_relu",
            Self::LeakyReluGrad { .. } => "d_leaky_relu",
            Self::ClipGrad { .. } => "d_clip",
            Self::SigmoidGrad => "d_sigmoid",
            Self::ConvInputGrad(_) => "d_conv_input",
            Self::ConvWeightGrad(_) => "d_conv_weight",
            Self::BatchNormGrad(_) => "d_batch_norm",
            Self::MaxPoolGrad => "d_max_pool",
            Self::AveragePoolGrad(_) => "d_average_pool",
            Self::SoftmaxGrad => "d_softmax",
            Self::LogSoftmaxGrad => "d_log_softmax",
            Self::SoftmaxCrossEntropyGrad => "d_cross_entropy",
            Self::DropoutGrad { .. } => "d_dropout",
            Self::NesterovStep { .. } => "nesterov_step",
            Self::Accumulate => "accumulate",
        }
    }
}
