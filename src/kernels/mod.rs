//! Arithmetic of the custom operators: what ONNX Runtime's own kernels do slowly or not at all on tensors in blocked layout.
//!
//! A value of shape `[N, C, H, W]` in blocked layout lies in memory as `[N, C / B, H, W, B]`: B neighbouring channels of a pixel
//! fill one vector register. B is ONNX Runtime's choice, 8 or 16 (see [`crate::lowering::blocked`]).
//!
//! This module is plain arithmetic over slices. It knows nothing of graphs or of ONNX Runtime: who calls it hands over the data
//! and a [`Workers`] to spread the work over. Every sum is added up in an order that does not depend on the number of workers,
//! so a training run gives the same bytes with any. It is also the only place in the program with `unsafe` code: vector
//! instructions that need a check of the processor ([`simd`]) and inner loops without bounds checks, each behind a safe function
//! that checks the extents first.

#![allow(unsafe_code)]
// Arrays that live in registers are indexed by loops with constant bounds, which unroll.
#![allow(clippy::needless_range_loop)]

mod batch_norm;
mod channel_sum;
mod conv_input;
mod conv_pool;
mod conv_weight;
mod depthwise;
mod filters;
mod geometry;
mod optimizer;
mod pooling;
mod rectifier;
mod simd;
mod sparse;
#[cfg(test)]
mod tests;
mod workers;

pub use batch_norm::{BatchNormBackward, BatchNormForward, Moments, Normalisation};
pub use channel_sum::channel_sums;
pub use conv_input::input_gradient;
pub use conv_pool::ConvMaxPool;
pub use conv_weight::weight_gradient;
pub use filters::{FilterUse, pack_filters};
pub use geometry::{Convolution, Pooling};
pub use optimizer::NesterovStep;
pub use pooling::{CLOSED, max_pool, max_pool_gradient};
pub use rectifier::{Bounds, rectifier_gradient};
pub use simd::Instructions;
pub use sparse::{PooledGradient, pooled_input_gradient, pooled_weight_gradient};
pub use workers::Workers;
