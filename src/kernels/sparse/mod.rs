//! Gradients of a convolution with max pooling behind it, straight from the pooled gradient.
//!
//! Only the winner of each window gets a gradient, and none where the rectifier behind the pooling was closed: with 2×2 windows
//! at most one value of dY in four is not zero, about one in eight after a rectifier. Instead of writing dY out and convolving
//! with the zeros, these kernels walk the winners of each output channel: a winner at a pixel adds its gradient times a patch of
//! X to dW, and its gradient times the filter to a patch of dX. Input channels fill the lanes; a row of a patch is one run of
//! floats in one block of the image, with zeros around it.

mod frame;
mod winners;

use super::geometry::{Convolution, Pooling};
use super::simd::{Instructions, Kernel, Simd};
use super::workers::{Pieces, Workers, with_zeroed_scratch};
use frame::Frame;
use winners::{Patches, Winner, Winners};

/// What comes back from a max pooling, in blocked layout: dY of the convolution, but for the zeros.
#[derive(Clone, Copy)]
pub struct PooledGradient<'a> {
    /// The pooling; its input is the output of the convolution, and its windows do not overlap.
    pub pooling: &'a Pooling,
    /// Gradient of each window.
    pub gradient: &'a [f32],
    /// Place of each window's winner, or [`super::CLOSED`].
    pub winners: &'a [u8],
}

impl PooledGradient<'_> {
    fn assert_fits(&self, conv: &Convolution, block: usize) {
        let pooling = self.pooling;
        // A row of a patch is one run of floats.
        assert!(conv.dilations[1] == 1);
        assert!(conv.is_consistent() && !conv.depthwise && pooling.is_disjoint());
        assert!(conv.out_channels.is_multiple_of(block) && pooling.channels == conv.out_channels);
        assert!(pooling.images == conv.images && pooling.in_size == conv.out_size);
        assert!(
            self.gradient.len() == pooling.out_len() && self.winners.len() == pooling.out_len()
        );
    }
}

/// Writes dW `[O, I, kH, kW]` into `dw` from the pooled gradient and X, in blocked layout or, with fewer channels than a block,
/// plain.
///
/// # Panics
/// When lengths or channels do not fit.
pub fn pooled_weight_gradient(
    instructions: Instructions,
    conv: &Convolution,
    pooled: PooledGradient<'_>,
    x: &[f32],
    dw: &mut [f32],
    workers: &dyn Workers,
) {
    let block = instructions.block();
    pooled.assert_fits(conv, block);
    let sources = block.min(conv.in_channels);
    assert!(conv.in_channels.is_multiple_of(sources));
    assert!(x.len() == conv.in_len() && dw.len() == conv.weight_len());
    let frame = Frame::new(conv, sources, block);
    let patches = Patches::new(conv, pooled.pooling, &frame);
    let offsets = frame.offsets(conv);
    let pieces = Pieces::new(dw, block * conv.in_channels * conv.taps());
    workers.for_each(pieces.count(), &|out_block| {
        pieces.with(out_block, |dw| {
            let row = frame.vectors * block;
            let filter_len = conv.kernel[0] * row;
            let sums_len = conv.in_channels / sources * block * filter_len;
            with_zeroed_scratch(sums_len + frame.len(), |scratch| {
                let (sums, framed) = scratch.split_at_mut(sums_len);
                instructions.run(WeightSums {
                    conv,
                    pooled,
                    x,
                    frame,
                    patches: &patches,
                    offsets: &offsets,
                    out_block,
                    sums,
                    framed,
                });
                // From [I / S, B, kH, kW · S and what is dropped] to [B, I, kH, kW].
                for (lane, filters) in dw
                    .chunks_exact_mut(conv.in_channels * conv.taps())
                    .enumerate()
                {
                    for (channel, filter) in filters.chunks_exact_mut(conv.taps()).enumerate() {
                        let start =
                            (channel / sources * block + lane) * filter_len + channel % sources;
                        for (tap, value) in filter.iter_mut().enumerate() {
                            let (kh, kw) = (tap / conv.kernel[1], tap % conv.kernel[1]);
                            *value = sums[start + kh * row + kw * sources];
                        }
                    }
                }
            });
        });
    });
}

struct WeightSums<'a> {
    conv: &'a Convolution,
    pooled: PooledGradient<'a>,
    x: &'a [f32],
    frame: Frame,
    patches: &'a Patches,
    offsets: &'a [usize],
    out_block: usize,
    /// `[I / S, B, kH, vectors, lanes]`.
    sums: &'a mut [f32],
    framed: &'a mut [f32],
}

impl Kernel for WeightSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (conv, frame, offsets) = (self.conv, self.frame, self.offsets);
        let blocks = conv.out_channels / S::LANES;
        let block_len = frame.sources * conv.in_pixels();
        let in_blocks = conv.in_channels / frame.sources;
        let filter_len = offsets.len() * S::LANES;
        let mut winners = Winners::new(self.pooled.pooling, S::LANES);
        for image in 0..conv.images {
            winners.collect(
                &self.pooled,
                S::LANES,
                image * blocks + self.out_block,
                self.patches,
            );
            for in_block in 0..in_blocks {
                let x = &self.x[(image * in_blocks + in_block) * block_len..][..block_len];
                frame.fill(conv, x, self.framed);
                for lane in 0..S::LANES {
                    let entries = winners.of(lane);
                    let sums =
                        &mut self.sums[(in_block * S::LANES + lane) * filter_len..][..filter_len];
                    let mut first = 0;
                    while first < offsets.len() {
                        let (offsets, sums) = (&offsets[first..], &mut sums[first * S::LANES..]);
                        first += match offsets.len() {
                            9.. => add_patches::<S, 9>(simd, entries, self.framed, offsets, sums),
                            3.. => add_patches::<S, 3>(simd, entries, self.framed, offsets, sums),
                            _ => add_patches::<S, 1>(simd, entries, self.framed, offsets, sums),
                        };
                    }
                }
            }
        }
    }
}

/// Adds gradient times patch of all winners to `V` vectors of sums, and returns `V`.
#[inline(always)]
fn add_patches<S: Simd, const V: usize>(
    simd: S,
    winners: &[Winner],
    framed: &[f32],
    offsets: &[usize],
    sums: &mut [f32],
) -> usize {
    let offsets: [usize; V] = std::array::from_fn(|index| offsets[index]);
    let reach = offsets[V - 1] + S::LANES;
    let mut acc = [simd.splat(0.0); V];
    for (acc, sums) in acc.iter_mut().zip(sums.chunks_exact(S::LANES)) {
        *acc = simd.read(sums);
    }
    for winner in winners {
        let patch = winner.patch as usize;
        assert!(patch + reach <= framed.len());
        let gradient = simd.splat(winner.gradient);
        for v in 0..V {
            // SAFETY: the offsets ascend, and the vector of the last one was checked.
            let x = unsafe { simd.load(framed.as_ptr().add(patch + offsets[v])) };
            acc[v] = simd.mul_add(gradient, x, acc[v]);
        }
    }
    for (acc, sums) in acc.iter().zip(sums.chunks_exact_mut(S::LANES)) {
        simd.write(*acc, sums);
    }
    V
}

/// Writes dX `[N, I, H, W]` in blocked layout into `dx` from the pooled gradient and W `[O, I, kH, kW]`. `packed` is working
/// memory that is kept between calls.
///
/// # Panics
/// When lengths or channels do not fit.
pub fn pooled_input_gradient(
    instructions: Instructions,
    conv: &Convolution,
    pooled: PooledGradient<'_>,
    weight: &[f32],
    dx: &mut [f32],
    packed: &mut Vec<f32>,
    workers: &dyn Workers,
) {
    let block = instructions.block();
    pooled.assert_fits(conv, block);
    assert!(conv.in_channels.is_multiple_of(block));
    assert!(weight.len() == conv.weight_len() && dx.len() == conv.in_len());
    let frame = Frame::new(conv, block, block);
    let patches = Patches::new(conv, pooled.pooling, &frame);
    let offsets = frame.offsets(conv);
    // [I / B, O, kH, kW, B]: the filter of one output and one block of inputs like a patch.
    packed.clear();
    packed.resize(weight.len(), 0.0);
    for (index, filter) in packed.chunks_exact_mut(conv.taps() * block).enumerate() {
        let (in_block, output) = (index / conv.out_channels, index % conv.out_channels);
        for (tap, vector) in filter.chunks_exact_mut(block).enumerate() {
            for (lane, value) in vector.iter_mut().enumerate() {
                *value = weight
                    [(output * conv.in_channels + in_block * block + lane) * conv.taps() + tap];
            }
        }
    }
    let packed = packed.as_slice();
    let pieces = Pieces::new(dx, conv.in_channels * conv.in_pixels());
    workers.for_each(pieces.count(), &|image| {
        pieces.with(image, |dx| {
            let frames_len = conv.in_channels / block * frame.len();
            with_zeroed_scratch(frames_len, |framed| {
                instructions.run(PatchSums {
                    conv,
                    pooled,
                    packed,
                    frame,
                    patches: &patches,
                    offsets: &offsets,
                    image,
                    framed,
                    dx,
                });
            });
        });
    });
}

struct PatchSums<'a> {
    conv: &'a Convolution,
    pooled: PooledGradient<'a>,
    /// `[I / B, O, kH, kW, B]`.
    packed: &'a [f32],
    frame: Frame,
    patches: &'a Patches,
    offsets: &'a [usize],
    image: usize,
    /// One frame for each block of input channels.
    framed: &'a mut [f32],
    /// `[I / B, H, W, B]`.
    dx: &'a mut [f32],
}

impl Kernel for PatchSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (conv, frame, offsets) = (self.conv, self.frame, self.offsets);
        let blocks = conv.out_channels / S::LANES;
        let filter_len = offsets.len() * S::LANES;
        let mut winners = Winners::new(self.pooled.pooling, S::LANES);
        for block in 0..blocks {
            winners.collect(
                &self.pooled,
                S::LANES,
                self.image * blocks + block,
                self.patches,
            );
            for (in_block, framed) in self.framed.chunks_exact_mut(frame.len()).enumerate() {
                for lane in 0..S::LANES {
                    let output = block * S::LANES + lane;
                    let filter = &self.packed
                        [(in_block * conv.out_channels + output) * filter_len..][..filter_len];
                    let entries = winners.of(lane);
                    let mut first = 0;
                    while first < offsets.len() {
                        let (offsets, filter) = (&offsets[first..], &filter[first * S::LANES..]);
                        first += match offsets.len() {
                            9.. => scatter_filter::<S, 9>(simd, entries, filter, offsets, framed),
                            3.. => scatter_filter::<S, 3>(simd, entries, filter, offsets, framed),
                            _ => scatter_filter::<S, 1>(simd, entries, filter, offsets, framed),
                        };
                    }
                }
            }
        }
        let planes = self.dx.chunks_exact_mut(conv.in_pixels() * S::LANES);
        for (dx, framed) in planes.zip(self.framed.chunks_exact(frame.len())) {
            frame.take(conv, framed, dx);
        }
    }
}

/// Adds gradient times `V` vectors of a filter to the patches of all winners, and returns `V`.
#[inline(always)]
fn scatter_filter<S: Simd, const V: usize>(
    simd: S,
    winners: &[Winner],
    filter: &[f32],
    offsets: &[usize],
    framed: &mut [f32],
) -> usize {
    let offsets: [usize; V] = std::array::from_fn(|index| offsets[index]);
    let reach = offsets[V - 1] + S::LANES;
    let mut weights = [simd.splat(0.0); V];
    for (vector, weights) in weights.iter_mut().zip(filter.chunks_exact(S::LANES)) {
        *vector = simd.read(weights);
    }
    for winner in winners {
        let patch = winner.patch as usize;
        assert!(patch + reach <= framed.len());
        let gradient = simd.splat(winner.gradient);
        for v in 0..V {
            // SAFETY: the offsets ascend, and the vector of the last one was checked.
            unsafe {
                let target = framed.as_mut_ptr().add(patch + offsets[v]);
                simd.store(
                    simd.mul_add(gradient, weights[v], simd.load(target)),
                    target,
                );
            }
        }
    }
    V
}
