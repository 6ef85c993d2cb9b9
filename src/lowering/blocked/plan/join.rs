//! Which neighbours are done together with a node, once the layouts are decided.

use crate::graph::{Op, Pool2d};
use crate::kernels::Bounds;
use crate::lowering::Mode;

use super::{Plan, RELU, Step, channels};

impl Plan<'_> {
    /// Joins one node with its neighbours, once the layouts are decided.
    pub(super) fn join(&mut self, index: usize) {
        // The step of a chain is that of its last node, which begins no other chain.
        match (&self.steps[index], &self.nodes[index].op) {
            (Step::Conv { .. }, Op::Conv(_)) => {
                if let Some((relu, Op::Relu)) = self.only_reader(index) {
                    self.steps[relu] = Step::Conv {
                        conv: index,
                        rectify: true,
                    };
                    self.steps[index] = Step::Deferred;
                }
            }
            (Step::BatchNorm { .. }, Op::BatchNorm(_)) => self.join_batch_norm(index),
            (Step::MaxPool { .. }, Op::MaxPool(_)) => self.join_max_pool(index),
            (&Step::BatchNormGrad { gradient, .. }, _) => {
                let Some(producer) = self.producers[gradient.index()] else {
                    return;
                };
                if let (Step::RectifierGrad(rectifier), true) =
                    (&self.steps[producer], self.is_read_once(gradient))
                {
                    self.steps[index] = Step::BatchNormGrad {
                        gradient: rectifier.gradient,
                        rectifier: Some(*rectifier),
                    };
                    self.steps[producer] = Step::Deferred;
                }
            }
            (Step::MaxPoolGrad(_), _) => self.join_max_pool_grad(index),
            _ => {}
        }
    }

    /// Normalisation, then maybe a residual addition, then a rectifier: one pass over the values.
    fn join_batch_norm(&mut self, index: usize) {
        let Some((next, op)) = self.only_reader(index) else {
            return;
        };
        let bounds = |op: &Op| match *op {
            Op::Relu => Some(RELU),
            // A clip is no activation of ONNX Runtime's blocked convolution, which does the normalisation in inference.
            Op::Clip { min, max } if self.mode == Mode::Training => Some(Bounds {
                low: min,
                high: max,
            }),
            _ => None,
        };
        let (last, residual, bounds) = match op {
            Op::Add if self.steps[next] == Step::Elementwise => {
                let normalised = self.nodes[index].outputs[0];
                let [left, right] = self.nodes[next].inputs[..] else {
                    return;
                };
                let residual = if left == normalised { right } else { left };
                let Some((last, op)) = self.only_reader(next) else {
                    return;
                };
                let Some(bounds) = bounds(op) else { return };
                if residual == normalised {
                    return;
                }
                (last, Some(residual), bounds)
            }
            op => match bounds(op) {
                Some(bounds) => (next, None, bounds),
                None => return,
            },
        };
        self.steps[index] = Step::Deferred;
        self.steps[next] = Step::Deferred;
        self.steps[last] = Step::BatchNorm {
            norm: index,
            residual,
            bounds,
        };
    }

    /// A convolution of few channels before the pooling, and a rectifier behind it. Joining the convolution means that its output
    /// is never there: nothing but the pooling and the gradient that needs no more than its shape may read it.
    fn join_max_pool(&mut self, index: usize) {
        let node = self.nodes[index];
        let z = node.inputs[0];
        let needs_no_values = |reader: &usize| {
            let other = self.nodes[*reader];
            *reader == index || (other.op == Op::MaxPoolGrad && other.inputs[0] != z)
        };
        let conv = self.producers[z.index()].filter(|&conv| {
            let Op::MaxPool(pool) = &node.op else {
                return false;
            };
            matches!(self.steps[conv], Step::Conv { rectify: false, .. })
                && channels(self.graph, self.nodes[conv].inputs[0]) < self.block
                && pool.padding == [0; 4]
                && !self.is_target[z.index()]
                && self.readers[z.index()].iter().all(needs_no_values)
        });
        if let Some(conv) = conv {
            self.steps[conv] = Step::Deferred;
        }
        let (last, rectify) = match self.only_reader(index) {
            Some((relu, Op::Relu)) => (relu, true),
            _ => (index, false),
        };
        self.steps[index] = Step::Deferred;
        self.steps[last] = Step::MaxPool {
            conv,
            pool: index,
            rectify,
        };
    }

    /// A rectifier behind the pooling is part of the winners, and where only a convolution's own gradients read the gradient of
    /// the pooling, it is never spread over the windows.
    fn join_max_pool_grad(&mut self, index: usize) {
        let Some(pooled) = self.pooled(index) else {
            return;
        };
        if pooled.rectified.is_some() {
            // Its gradient stood between.
            if let Some(rectifier) = self.producers[self.nodes[index].inputs[0].index()] {
                self.steps[rectifier] = Step::Deferred;
            }
        }
        self.steps[index] = Step::MaxPoolGrad(pooled);
        let output = self.nodes[index].outputs[0];
        let reads_winners = |reader: &usize| {
            let node = self.nodes[*reader];
            match (&self.steps[*reader], &node.op) {
                (Step::ConvInputGrad, Op::ConvInputGrad(conv))
                | (Step::ConvWeightGrad, Op::ConvWeightGrad(conv)) => {
                    conv.groups == 1 && conv.dilations[1] == 1 && node.inputs[0] == output
                }
                (Step::ChannelSum, _) => true,
                _ => false,
            }
        };
        let Op::MaxPool(pool) = &self.nodes[pooled.pool].op else {
            return;
        };
        let is_sparse = pool.kernel[0] * pool.kernel[1] >= 4 && is_disjoint(pool);
        if is_sparse
            && !self.is_target[output.index()]
            && self.readers[output.index()].iter().all(reads_winners)
        {
            self.steps[index] = Step::Deferred;
        }
    }
}

fn is_disjoint(pool: &Pool2d) -> bool {
    pool.strides[0] >= pool.kernel[0] && pool.strides[1] >= pool.kernel[1] && pool.padding == [0; 4]
}
