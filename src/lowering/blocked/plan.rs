//! Which values are made in blocked layout, and which operations are done together.
//!
//! The plan is made before anything is emitted, by one walk over the nodes: what a node becomes depends on who uses its outputs.

mod join;

use crate::graph::{Conv2d, Dim, Graph, Node, Op, ValueId};
use crate::kernels::{Bounds, CLOSED};
use crate::lowering::{Mode, Targets};

/// What ReLU lets through.
pub(super) const RELU: Bounds = Bounds {
    low: 0.0,
    high: f32::INFINITY,
};

/// What becomes of one node.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Portable operators on plain values.
    Portable,
    /// Done together with a later node.
    Deferred,
    /// The same standard operator, on blocked values.
    Elementwise,
    /// A convolution, with a rectifier behind it or not; the output is that of the last of them.
    Conv {
        conv: usize,
        rectify: bool,
    },
    /// Gradient of a convolution for its input.
    ConvInputGrad,
    /// Gradient of a convolution for its weights.
    ConvWeightGrad,
    /// A batch normalisation with what follows it.
    BatchNorm {
        norm: usize,
        residual: Option<ValueId>,
        bounds: Bounds,
    },
    /// Gradient of a batch normalisation, from the gradient behind the rectifier that follows it, if one does.
    BatchNormGrad {
        gradient: ValueId,
        rectifier: Option<Rectifier>,
    },
    /// Gradient of a rectifier alone.
    RectifierGrad(Rectifier),
    /// Max pooling, with a convolution of few channels before it and a rectifier behind it or not.
    MaxPool {
        conv: Option<usize>,
        pool: usize,
        rectify: bool,
    },
    /// Gradient of a max pooling, from the gradient behind the rectifier if that is part of the pooling.
    MaxPoolGrad(Pooled),
    GlobalAveragePool,
    /// Spreads one value per channel over all pixels.
    Spread,
    /// Sum of each channel over images and pixels.
    ChannelSum,
    /// Step of the optimizer, in one pass.
    Nesterov,
}

/// An open or closed rectifier, read off its output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rectifier {
    /// Gradient behind it.
    pub(super) gradient: ValueId,
    pub(super) output: ValueId,
    pub(super) bounds: Bounds,
}

/// The gradient of a max pooling before it is spread over the windows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pooled {
    pub(super) gradient: ValueId,
    /// Node of the pooling, which made the winners.
    pub(super) pool: usize,
    /// What came out of the rectifier, if that is part of the pooling.
    pub(super) rectified: Option<ValueId>,
}

/// The steps of all nodes.
pub(super) struct Plan<'g> {
    graph: &'g Graph,
    nodes: &'g [&'g Node],
    block: usize,
    mode: Mode,
    pub(super) steps: Vec<Step>,
    /// By value: whether it is made in blocked layout.
    is_blocked: Vec<bool>,
    /// By value: the node that makes it, among `nodes`.
    producers: Vec<Option<usize>>,
    /// By value: the nodes that read it, and whether it is handed out.
    readers: Vec<Vec<usize>>,
    is_target: Vec<bool>,
}

impl<'g> Plan<'g> {
    pub(super) fn new(
        graph: &'g Graph,
        nodes: &'g [&'g Node],
        targets: &Targets,
        mode: Mode,
        block: usize,
    ) -> Self {
        let values = graph.values().len();
        let mut plan = Self {
            graph,
            nodes,
            block,
            mode,
            steps: vec![Step::Portable; nodes.len()],
            is_blocked: vec![false; values],
            producers: vec![None; values],
            readers: vec![Vec::new(); values],
            is_target: vec![false; values],
        };
        for id in targets
            .outputs
            .iter()
            .map(|(_, id)| id)
            .chain(&targets.effects)
        {
            plan.is_target[id.index()] = true;
        }
        for (index, node) in nodes.iter().enumerate() {
            for output in &node.outputs {
                plan.producers[output.index()] = Some(index);
            }
        }
        for (index, node) in nodes.iter().enumerate() {
            for input in plan.reads(node) {
                plan.readers[input.index()].push(index);
            }
        }
        for index in 0..nodes.len() {
            plan.choose_layout(index);
        }
        for index in 0..nodes.len() {
            plan.join(index);
        }
        plan
    }

    /// The node that makes a value.
    fn producer(&self, id: ValueId) -> Option<&'g Node> {
        self.producers[id.index()].map(|index| self.nodes[index])
    }

    pub(super) fn node(&self, index: usize) -> &'g Node {
        self.nodes[index]
    }

    /// The pooled gradient that stands for a gradient which is never spread over the windows.
    pub(super) fn pooled_instead_of(&self, id: ValueId) -> Option<Pooled> {
        let index = self.producers[id.index()]?;
        match (&self.nodes[index].op, &self.steps[index]) {
            (Op::MaxPoolGrad, Step::Deferred) => self.pooled(index),
            _ => None,
        }
    }

    fn is_blocked(&self, id: ValueId) -> bool {
        self.is_blocked[id.index()]
    }

    /// What a node reads: as described, but the gradient of a clip is read off the clip's output.
    fn reads(&self, node: &Node) -> Vec<ValueId> {
        match self.rectifier(node) {
            Some(rectifier) => vec![rectifier.gradient, rectifier.output],
            None => node.inputs.clone(),
        }
    }

    /// The rectifier that a node is the gradient of.
    fn rectifier(&self, node: &Node) -> Option<Rectifier> {
        let gradient = *node.inputs.first()?;
        match node.op {
            Op::ReluGrad => Some(Rectifier {
                gradient,
                output: node.inputs[1],
                bounds: RELU,
            }),
            Op::ClipGrad { min, max } => {
                let forward = Op::Clip { min, max };
                let clip = self
                    .nodes
                    .iter()
                    .find(|other| other.op == forward && other.inputs[0] == node.inputs[1])?;
                Some(Rectifier {
                    gradient,
                    output: clip.outputs[0],
                    bounds: Bounds {
                        low: min,
                        high: max,
                    },
                })
            }
            _ => None,
        }
    }

    /// Decides on one node by itself, once all nodes before it are decided.
    fn choose_layout(&mut self, index: usize) {
        let node = self.nodes[index];
        let input_blocked = |position: usize| self.is_blocked(node.inputs[position]);
        let step = match &node.op {
            Op::Conv(_) if takes_convolution(self.graph, node, self.block) => Step::Conv {
                conv: index,
                rectify: false,
            },
            Op::ConvInputGrad(conv)
                if self.takes_gradient(node, conv) && self.whole_blocks(node.outputs[0]) =>
            {
                Step::ConvInputGrad
            }
            Op::ConvWeightGrad(conv) if self.takes_gradient(node, conv) => Step::ConvWeightGrad,
            Op::BatchNorm(_) if input_blocked(0) => Step::BatchNorm {
                norm: index,
                residual: None,
                bounds: Bounds::NONE,
            },
            Op::BatchNormGrad(_) if input_blocked(1) => Step::BatchNormGrad {
                gradient: node.inputs[0],
                rectifier: None,
            },
            Op::ReluGrad | Op::ClipGrad { .. } => match self.rectifier(node) {
                Some(rectifier) if self.is_blocked(rectifier.output) => {
                    Step::RectifierGrad(rectifier)
                }
                _ => Step::Portable,
            },
            Op::MaxPool(pool)
                if input_blocked(0) && pool.kernel[0] * pool.kernel[1] < usize::from(CLOSED) =>
            {
                Step::MaxPool {
                    conv: None,
                    pool: index,
                    rectify: false,
                }
            }
            Op::MaxPoolGrad => match self.pooled(index) {
                Some(pooled) => Step::MaxPoolGrad(pooled),
                None => Step::Portable,
            },
            Op::GlobalAveragePool if input_blocked(0) => Step::GlobalAveragePool,
            Op::ExpandLike if input_blocked(1) && self.repeats_pixels(node) => Step::Spread,
            Op::ReduceSum { axes, keep: false } if input_blocked(0) && axes == &[0, 2, 3] => {
                Step::ChannelSum
            }
            Op::Relu | Op::Clip { .. } | Op::LeakyRelu { .. } | Op::Sigmoid if input_blocked(0) => {
                Step::Elementwise
            }
            Op::Add | Op::Sub | Op::Mul | Op::Div | Op::SigmoidGrad | Op::LeakyReluGrad { .. }
                if self.is_same_shape(node) && (input_blocked(0) || input_blocked(1)) =>
            {
                Step::Elementwise
            }
            Op::NesterovStep { .. } => Step::Nesterov,
            _ => Step::Portable,
        };
        self.is_blocked[node.outputs[0].index()] = match step {
            Step::Portable
            | Step::Deferred
            | Step::ConvWeightGrad
            | Step::GlobalAveragePool
            | Step::ChannelSum
            | Step::Nesterov => false,
            Step::Elementwise
            | Step::Conv { .. }
            | Step::ConvInputGrad
            | Step::BatchNorm { .. }
            | Step::BatchNormGrad { .. }
            | Step::RectifierGrad(_)
            | Step::MaxPool { .. }
            | Step::MaxPoolGrad(_)
            | Step::Spread => true,
        };
        self.steps[index] = step;
    }

    /// The gradient that a `MaxPoolGrad` in blocked layout starts from.
    fn pooled(&self, index: usize) -> Option<Pooled> {
        let node = self.nodes[index];
        let pool = self.producers[node.inputs[1].index()]?;
        if !self.is_blocked(self.nodes[pool].outputs[0]) {
            return None;
        }
        let gradient = node.inputs[0];
        let behind_rectifier = || {
            let relu = self.only_reader(pool).filter(|(_, op)| **op == Op::Relu)?.0;
            let rectifier = self.rectifier(self.producer(gradient)?)?;
            let is_that =
                rectifier.output == self.nodes[relu].outputs[0] && self.is_read_once(gradient);
            is_that.then_some(rectifier)
        };
        // A rectifier that is part of the pooling has to be passed on the way back as well.
        Some(match behind_rectifier() {
            Some(rectifier) => Pooled {
                gradient: rectifier.gradient,
                pool,
                rectified: Some(rectifier.output),
            },
            None => Pooled {
                gradient,
                pool,
                rectified: None,
            },
        })
    }

    /// The node that alone reads the first output of a node, with its operation.
    fn only_reader(&self, index: usize) -> Option<(usize, &'g Op)> {
        let output = self.nodes[index].outputs[0];
        let reader = *self.readers[output.index()].first()?;
        self.is_read_once(output)
            .then(|| (reader, &self.nodes[reader].op))
    }

    fn is_read_once(&self, id: ValueId) -> bool {
        self.readers[id.index()].len() == 1 && !self.is_target[id.index()]
    }

    fn whole_blocks(&self, id: ValueId) -> bool {
        channels(self.graph, id).is_multiple_of(self.block)
    }

    /// Whether a node repeats one value per image and channel over the pixels.
    fn repeats_pixels(&self, node: &Node) -> bool {
        let (from, to) = (
            self.graph.shape(node.inputs[0]),
            self.graph.shape(node.outputs[0]),
        );
        let is_one_pixel = matches!(from.dims(), [_, _, Dim::Fixed(1), Dim::Fixed(1)]);
        is_one_pixel && from.dims()[..2] == to.dims()[..2]
    }

    fn is_same_shape(&self, node: &Node) -> bool {
        let [left, right] = node.inputs[..] else {
            return false;
        };
        self.graph.shape(left) == self.graph.shape(right)
    }

    /// Whether the gradients of a convolution, from dY, X and W, can be computed in blocks.
    fn takes_gradient(&self, node: &Node, conv: &Conv2d) -> bool {
        let [dy, x, weight] = node.inputs[..] else {
            return false;
        };
        fits(self.graph, conv, x, weight, dy, self.block)
    }
}

/// Whether a node is a convolution that can be done in blocks of `block` channels.
pub(in crate::lowering) fn takes_convolution(graph: &Graph, node: &Node, block: usize) -> bool {
    match &node.op {
        Op::Conv(conv) => fits(
            graph,
            conv,
            node.inputs[0],
            node.inputs[1],
            node.outputs[0],
            block,
        ),
        _ => false,
    }
}

/// The output has whole blocks of channels; the input has, too, or fewer channels than a block; groups are one or as many as
/// channels. ONNX Runtime does not check this: it would read the wrong memory.
fn fits(
    graph: &Graph,
    conv: &Conv2d,
    x: ValueId,
    weight: ValueId,
    y: ValueId,
    block: usize,
) -> bool {
    let (inputs, outputs) = (channels(graph, x), channels(graph, y));
    let is_depthwise = conv.groups == inputs && inputs == outputs && channels(graph, weight) == 1;
    let is_dense = conv.groups == 1 && (inputs < block || inputs.is_multiple_of(block));
    outputs.is_multiple_of(block) && (is_dense || (is_depthwise && inputs > 1))
}

/// Second dimension.
fn channels(graph: &Graph, id: ValueId) -> usize {
    match graph.shape(id).dims().get(1) {
        Some(Dim::Fixed(size) | Dim::Batch(size)) => *size,
        None => 1,
    }
}
