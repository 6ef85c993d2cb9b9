//! Short ways to add the operations networks are written with.

use super::{BatchNorm, Conv2d, Dim, ElementType, Graph, Op, Pool2d, Shape, ShapeError, ValueId};

/// Axes a reduction runs over, and whether it keeps them with size 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axes<'a> {
    /// The axes go away.
    Drop(&'a [usize]),
    /// The axes stay with size 1.
    Keep(&'a [usize]),
}

type Result = std::result::Result<ValueId, ShapeError>;

impl Graph {
    fn first(&mut self, op: Op, inputs: &[ValueId]) -> Result {
        self.node(op, inputs).map(|outputs| outputs[0])
    }

    /// `a + b`, broadcasting.
    pub fn add(&mut self, a: ValueId, b: ValueId) -> Result {
        self.first(Op::Add, &[a, b])
    }

    /// `a − b`, broadcasting.
    pub fn sub(&mut self, a: ValueId, b: ValueId) -> Result {
        self.first(Op::Sub, &[a, b])
    }

    /// `a · b`, broadcasting.
    pub fn mul(&mut self, a: ValueId, b: ValueId) -> Result {
        self.first(Op::Mul, &[a, b])
    }

    /// `a / b`, broadcasting.
    pub fn div(&mut self, a: ValueId, b: ValueId) -> Result {
        self.first(Op::Div, &[a, b])
    }

    /// `factor · x`.
    pub fn scale(&mut self, x: ValueId, factor: f32) -> Result {
        let factor = self.scalar(factor);
        self.mul(x, factor)
    }

    /// `x + amount`.
    pub fn shift(&mut self, x: ValueId, amount: f32) -> Result {
        let amount = self.scalar(amount);
        self.add(x, amount)
    }

    /// `√x`.
    pub fn sqrt(&mut self, x: ValueId) -> Result {
        self.first(Op::Sqrt, &[x])
    }

    /// `exp x`.
    pub fn exp(&mut self, x: ValueId) -> Result {
        self.first(Op::Exp, &[x])
    }

    /// Natural logarithm.
    pub fn log(&mut self, x: ValueId) -> Result {
        self.first(Op::Log, &[x])
    }

    /// Rectifier.
    pub fn relu(&mut self, x: ValueId) -> Result {
        self.first(Op::Relu, &[x])
    }

    /// Rectifier with a slope on the negative side.
    pub fn leaky_relu(&mut self, x: ValueId, alpha: f32) -> Result {
        self.first(Op::LeakyRelu { alpha }, &[x])
    }

    /// Bounds the values; `clip(x, 0.0, 6.0)` is ReLU6.
    pub fn clip(&mut self, x: ValueId, min: f32, max: f32) -> Result {
        self.first(Op::Clip { min, max }, &[x])
    }

    /// Logistic function.
    pub fn sigmoid(&mut self, x: ValueId) -> Result {
        self.first(Op::Sigmoid, &[x])
    }

    /// `x · sigmoid(x)`, also called swish.
    pub fn silu(&mut self, x: ValueId) -> Result {
        let gate = self.sigmoid(x)?;
        self.mul(x, gate)
    }

    /// `x · (1 + erf(x / √2)) / 2`, the exact form.
    pub fn gelu(&mut self, x: ValueId) -> Result {
        let scaled = self.scale(x, std::f32::consts::FRAC_1_SQRT_2)?;
        let erf = self.first(Op::Erf, &[scaled])?;
        let shifted = self.shift(erf, 1.0)?;
        let product = self.mul(x, shifted)?;
        self.scale(product, 0.5)
    }

    /// Convolution with weights `[O, C / groups, kH, kW]` and maybe a bias `[O]`.
    pub fn conv(
        &mut self,
        x: ValueId,
        weight: ValueId,
        bias: Option<ValueId>,
        conv: Conv2d,
    ) -> Result {
        let inputs: Vec<ValueId> = [x, weight].into_iter().chain(bias).collect();
        self.first(Op::Conv(conv), &inputs)
    }

    /// Batch normalisation over all axes but the second; the four parameters have shape `[C]`.
    pub fn batch_norm(
        &mut self,
        x: ValueId,
        [scale, bias, mean, variance]: [ValueId; 4],
        batch_norm: BatchNorm,
    ) -> Result {
        self.first(Op::BatchNorm(batch_norm), &[x, scale, bias, mean, variance])
    }

    /// Largest value of each window.
    pub fn max_pool(&mut self, x: ValueId, pool: Pool2d) -> Result {
        self.first(Op::MaxPool(pool), &[x])
    }

    /// Mean of each window, padding counted as zeros.
    pub fn average_pool(&mut self, x: ValueId, pool: Pool2d) -> Result {
        self.first(Op::AveragePool(pool), &[x])
    }

    /// Mean over H and W, which stay with size 1.
    pub fn global_average_pool(&mut self, x: ValueId) -> Result {
        self.first(Op::GlobalAveragePool, &[x])
    }

    /// `x · weightᵀ + bias` for x `[N, I]`, weight `[O, I]` and bias `[O]`.
    pub fn dense(&mut self, x: ValueId, weight: ValueId, bias: ValueId) -> Result {
        let op = Op::Gemm {
            transpose_a: false,
            transpose_b: true,
        };
        self.first(op, &[x, weight, bias])
    }

    /// Matrix product of the last two axes.
    pub fn matmul(&mut self, a: ValueId, b: ValueId) -> Result {
        self.first(Op::MatMul, &[a, b])
    }

    /// Softmax over the last axis.
    pub fn softmax(&mut self, x: ValueId) -> Result {
        self.first(Op::Softmax, &[x])
    }

    /// Logarithm of the softmax over the last axis.
    pub fn log_softmax(&mut self, x: ValueId) -> Result {
        self.first(Op::LogSoftmax, &[x])
    }

    /// Mean cross-entropy of logits `[N, K]` and labels `[N]`, maybe with class weights `[K]`.
    pub fn cross_entropy(
        &mut self,
        logits: ValueId,
        labels: ValueId,
        weights: Option<ValueId>,
    ) -> Result {
        let inputs: Vec<ValueId> = [logits, labels].into_iter().chain(weights).collect();
        self.first(Op::SoftmaxCrossEntropy, &inputs)
    }

    /// Mean over the batch of `−Σ targets · log softmax(logits)` for targets `[N, K]`, which need not add up to 1: label
    /// smoothing, mixed images and class weights are all properties of the targets.
    pub fn soft_cross_entropy(&mut self, logits: ValueId, targets: ValueId) -> Result {
        let log_probabilities = self.log_softmax(logits)?;
        let products = self.mul(targets, log_probabilities)?;
        let per_image = self.reduce_sum(products, Axes::Drop(&[1]))?;
        let mean = self.reduce_mean(per_image, Axes::Drop(&[0]))?;
        self.scale(mean, -1.0)
    }

    /// Dropout; the identity outside training.
    pub fn dropout(&mut self, x: ValueId, ratio: f32) -> Result {
        self.first(Op::Dropout { ratio }, &[x])
    }

    /// Joins values along an axis.
    pub fn concat(&mut self, values: &[ValueId], axis: usize) -> Result {
        self.first(Op::Concat { axis }, values)
    }

    /// Takes `range` of an axis.
    pub fn slice(&mut self, x: ValueId, axis: usize, range: std::ops::Range<usize>) -> Result {
        let op = Op::Slice {
            axis,
            start: range.start,
            end: range.end,
        };
        self.first(op, &[x])
    }

    /// Runs through an axis from its end to its beginning.
    pub fn reverse(&mut self, x: ValueId, axis: usize) -> Result {
        self.first(Op::Reverse { axis }, &[x])
    }

    /// Surrounds the value with zeros.
    pub fn pad(&mut self, x: ValueId, before: &[usize], behind: &[usize]) -> Result {
        let op = Op::Pad {
            before: before.to_vec(),
            behind: behind.to_vec(),
        };
        self.first(op, &[x])
    }

    /// The same elements in another shape.
    pub fn reshape(&mut self, x: ValueId, shape: Shape) -> Result {
        self.first(Op::Reshape { shape }, &[x])
    }

    /// `[N, …]` to `[N, rest]`.
    pub fn flatten(&mut self, x: ValueId) -> Result {
        let (first, rest) = match self.shape(x).dims() {
            [first, rest @ ..] => (*first, rest),
            [] => (Dim::Fixed(1), [].as_slice()),
        };
        let rest = rest
            .iter()
            .map(|dim| match dim {
                Dim::Fixed(size) | Dim::Batch(size) => *size,
            })
            .product();
        self.reshape(x, Shape::new(vec![first, Dim::Fixed(rest)]))
    }

    /// Permutes the axes.
    pub fn transpose(&mut self, x: ValueId, permutation: &[usize]) -> Result {
        let op = Op::Transpose {
            permutation: permutation.to_vec(),
        };
        self.first(op, &[x])
    }

    /// Sum over axes.
    pub fn reduce_sum(&mut self, x: ValueId, axes: Axes<'_>) -> Result {
        let (axes, keep) = axes.parts();
        self.first(Op::ReduceSum { axes, keep }, &[x])
    }

    /// Mean over axes.
    pub fn reduce_mean(&mut self, x: ValueId, axes: Axes<'_>) -> Result {
        let (axes, keep) = axes.parts();
        self.first(Op::ReduceMean { axes, keep }, &[x])
    }

    /// Repeats axes of size 1 to the shape of `like`.
    pub fn expand_like(&mut self, x: ValueId, like: ValueId) -> Result {
        self.first(Op::ExpandLike, &[x, like])
    }

    /// Number of images in the batch, as a float `[]`.
    pub fn batch_size(&mut self, x: ValueId) -> Result {
        self.first(Op::BatchSize, &[x])
    }

    /// Converts the elements.
    pub fn cast(&mut self, x: ValueId, to: ElementType) -> Result {
        self.first(Op::Cast { to }, &[x])
    }

    /// Sets a state parameter to `value` at the end of each run.
    pub fn assign(&mut self, state: ValueId, value: ValueId) -> Result {
        let overwrite = self.constant(super::Tensor::flag(true));
        self.first(Op::Accumulate, &[state, value, overwrite])
    }
}

impl Axes<'_> {
    fn parts(self) -> (Vec<usize>, bool) {
        match self {
            Self::Drop(axes) => (axes.to_vec(), false),
            Self::Keep(axes) => (axes.to_vec(), true),
        }
    }
}
