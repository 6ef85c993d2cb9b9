//! Gradient of a convolution for its input, for any stride: dX[n, i, ih, iw] = Σ dY[n, o, oh, ow] · W[o, i, kh, kw] over the taps
//! with oh·s + kh·d − p = ih and ow·s + kw·d − p = iw.
//!
//! Input channels fill the lanes. The columns of dX fall into as many classes as the stride; within a class every column meets
//! the same taps, and its neighbours meet neighbouring pixels of dY: each class is a dense convolution with stride 1 over a copy
//! of dY that has zeros around it. (With stride 1 there is one class, but there ONNX Runtime's own convolution with flipped
//! weights is at least as fast.)

use super::depthwise;
use super::geometry::Convolution;
use super::simd::{Instructions, Kernel, Simd};
use super::workers::{Pieces, Workers, with_zeroed_scratch};

/// Writes dX `[N, I, H, W]` in blocked layout into `dx` from dY in blocked layout and W `[O, I, kH, kW]`. `packed` is working
/// memory that is kept between calls. Channels must be multiples of the block.
///
/// # Panics
/// When the lengths or the channels do not fit the geometry.
pub fn input_gradient(
    instructions: Instructions,
    conv: &Convolution,
    dy: &[f32],
    weight: &[f32],
    dx: &mut [f32],
    packed: &mut Vec<f32>,
    workers: &dyn Workers,
) {
    let block = instructions.block();
    assert!(conv.is_consistent());
    assert!(conv.out_channels.is_multiple_of(block) && conv.in_channels.is_multiple_of(block));
    assert_eq!(dy.len(), conv.out_len());
    assert_eq!(weight.len(), conv.weight_len());
    assert_eq!(dx.len(), conv.in_len());
    if conv.depthwise {
        depthwise::input_gradient(instructions, conv, dy, weight, dx, workers);
        return;
    }

    // [I / B, kH, kW, O, B]: the vectors that one output column needs, one after the other.
    let (taps, outputs) = (conv.taps(), conv.out_channels);
    packed.clear();
    packed.resize(weight.len(), 0.0);
    for (in_block, packed) in packed.chunks_exact_mut(taps * outputs * block).enumerate() {
        for (index, vector) in packed.chunks_exact_mut(block).enumerate() {
            let (tap, output) = (index / outputs, index % outputs);
            for (lane, value) in vector.iter_mut().enumerate() {
                *value = weight[(output * conv.in_channels + in_block * block + lane) * taps + tap];
            }
        }
    }
    let pieces = Pieces::new(dx, conv.in_channels * conv.in_pixels());
    let packed = packed.as_slice();
    workers.for_each(pieces.count(), &|image| {
        let dy = &dy[image * outputs * conv.out_pixels()..][..outputs * conv.out_pixels()];
        pieces.with(image, |dx| {
            with_zeroed_scratch(Padded::new(conv).len(outputs), |padded| {
                instructions.run(ImageGradient {
                    conv,
                    dy,
                    packed,
                    padded,
                    dx,
                });
            });
        });
    });
}

/// dY with enough rows and columns of zeros around it that no tap of any column of dX falls outside.
#[derive(Clone, Copy)]
struct Padded {
    size: [usize; 2],
    before: [usize; 2],
}

impl Padded {
    fn new(conv: &Convolution) -> Self {
        let axis = |axis: usize| {
            let stride = conv.strides[axis];
            let reach = (conv.kernel[axis] - 1) * conv.dilations[axis];
            let before = reach.saturating_sub(conv.padding[axis]).div_ceil(stride);
            let last = (conv.in_size[axis] - 1 + conv.padding[axis]) / stride;
            (before, before + conv.out_size[axis].max(last + 1))
        };
        let ((top, height), (left, width)) = (axis(0), axis(1));
        Self {
            size: [height, width],
            before: [top, left],
        }
    }

    fn len(&self, channels: usize) -> usize {
        channels * self.size[0] * self.size[1]
    }
}

struct ImageGradient<'a> {
    conv: &'a Convolution,
    /// `[O / B, OH, OW, B]`.
    dy: &'a [f32],
    /// `[I / B, kH, kW, O, B]`.
    packed: &'a [f32],
    padded: &'a mut [f32],
    /// `[I / B, H, W, B]`.
    dx: &'a mut [f32],
}

/// A tap that meets a column class: where its vectors of W begin, and where its first pixel of dY is in the padded copy.
#[derive(Clone, Copy)]
struct Tap {
    weight: usize,
    pixel: usize,
}

impl Kernel for ImageGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let conv = self.conv;
        let frame = Padded::new(conv);
        let [frame_height, frame_width] = frame.size;
        let row = conv.out_size[1] * S::LANES;
        for (index, source) in self.dy.chunks_exact(row).enumerate() {
            let (out_block, oh) = (index / conv.out_size[0], index % conv.out_size[0]);
            let start =
                (out_block * frame_height + oh + frame.before[0]) * frame_width + frame.before[1];
            self.padded[start * S::LANES..][..row].copy_from_slice(source);
        }
        // The output index that input `at` has with tap `tap`, counted in the padded copy.
        let meets = |axis: usize, at: usize, tap: usize| {
            let stride = conv.strides[axis];
            let shifted = at + conv.padding[axis] + frame.before[axis] * stride;
            let offset = shifted.checked_sub(tap * conv.dilations[axis])?;
            offset.is_multiple_of(stride).then_some(offset / stride)
        };

        let [height, width] = conv.in_size;
        let in_blocks = conv.in_channels / S::LANES;
        let mut taps: Vec<Tap> = Vec::with_capacity(conv.taps());
        for ih in 0..height {
            for class in 0..conv.strides[1].min(width) {
                taps.clear();
                for kh in 0..conv.kernel[0] {
                    let Some(oh) = meets(0, ih, kh) else { continue };
                    for kw in 0..conv.kernel[1] {
                        let Some(ow) = meets(1, class, kw) else {
                            continue;
                        };
                        let weight = (kh * conv.kernel[1] + kw) * conv.out_channels * S::LANES;
                        taps.push(Tap {
                            weight,
                            pixel: oh * frame_width + ow,
                        });
                    }
                }
                let columns = (width - class).div_ceil(conv.strides[1]);
                let line = Line {
                    conv,
                    taps: &taps,
                    padded: self.padded,
                    packed: self.packed,
                    plane: frame_height * frame_width,
                    first: ih * width + class,
                };
                let mut in_block = 0;
                while in_block < in_blocks {
                    let blocks = if in_blocks - in_block >= 2 { 2 } else { 1 };
                    let mut column = 0;
                    while column < columns {
                        column += match (blocks, columns - column) {
                            (2, 6..) => line.tile::<S, 6, 2>(simd, in_block, column, self.dx),
                            (2, 4..) => line.tile::<S, 4, 2>(simd, in_block, column, self.dx),
                            (2, 2..) => line.tile::<S, 2, 2>(simd, in_block, column, self.dx),
                            (2, _) => line.tile::<S, 1, 2>(simd, in_block, column, self.dx),
                            (_, 6..) => line.tile::<S, 6, 1>(simd, in_block, column, self.dx),
                            (_, 2..) => line.tile::<S, 2, 1>(simd, in_block, column, self.dx),
                            (_, _) => line.tile::<S, 1, 1>(simd, in_block, column, self.dx),
                        };
                    }
                    in_block += blocks;
                }
            }
        }
    }
}

/// The columns of one class in one row of dX.
struct Line<'a> {
    conv: &'a Convolution,
    taps: &'a [Tap],
    padded: &'a [f32],
    packed: &'a [f32],
    /// Pixels of the padded copy.
    plane: usize,
    /// Pixel of the class's first column in dX.
    first: usize,
}

impl Line<'_> {
    /// Computes `J` columns of the class from `column` on, for `I` blocks of input channels from `in_block` on, and returns `J`.
    #[inline(always)]
    fn tile<S: Simd, const J: usize, const I: usize>(
        &self,
        simd: S,
        in_block: usize,
        column: usize,
        dx: &mut [f32],
    ) -> usize {
        let conv = self.conv;
        let out_blocks = conv.out_channels / S::LANES;
        let block_len = conv.taps() * conv.out_channels * S::LANES;
        assert!(self.packed.len() >= (in_block + I) * block_len);
        assert!(self.padded.len() >= out_blocks * self.plane * S::LANES);
        let mut acc = [[simd.splat(0.0); J]; I];
        for tap in self.taps {
            let pixel = tap.pixel + column;
            assert!(
                pixel + J <= self.plane && tap.weight + conv.out_channels * S::LANES <= block_len
            );
            // SAFETY: pixels up to `pixel + J` lie in each plane of the padded copy, and the vectors of this tap, one for each
            // output channel, in each of the `I` blocks of W: both were checked.
            unsafe {
                let mut weight = self.packed.as_ptr().add(in_block * block_len + tap.weight);
                for out_block in 0..out_blocks {
                    let mut dy = self
                        .padded
                        .as_ptr()
                        .add((out_block * self.plane + pixel) * S::LANES);
                    for _ in 0..S::LANES {
                        let mut weights = [simd.splat(0.0); I];
                        for (i, vector) in weights.iter_mut().enumerate() {
                            *vector = simd.load(weight.add(i * block_len));
                        }
                        for j in 0..J {
                            let value = simd.splat(*dy.add(j * S::LANES));
                            for i in 0..I {
                                acc[i][j] = simd.mul_add(value, weights[i], acc[i][j]);
                            }
                        }
                        dy = dy.add(1);
                        weight = weight.add(S::LANES);
                    }
                }
            }
        }
        for (i, acc) in acc.iter().enumerate() {
            for (j, value) in acc.iter().enumerate() {
                let pixel = self.first + (column + j) * conv.strides[1];
                let start = ((in_block + i) * conv.in_pixels() + pixel) * S::LANES;
                simd.write(*value, &mut dx[start..start + S::LANES]);
            }
        }
        J
    }
}
