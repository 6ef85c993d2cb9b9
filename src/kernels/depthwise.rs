//! Gradients of depthwise convolutions: the channels of a block fill the lanes, and no channel meets another.

use super::geometry::Convolution;
use super::simd::{Instructions, Kernel, Simd};
use super::workers::{Pieces, Workers};

/// dW[c, kh, kw] = Σ dY[n, c, oh, ow] · X[n, c, ih, iw]. The caller has checked the lengths.
pub(super) fn weight_gradient(
    instructions: Instructions,
    conv: &Convolution,
    dy: &[f32],
    x: &[f32],
    dw: &mut [f32],
    workers: &dyn Workers,
) {
    let pieces = Pieces::new(dw, instructions.block() * conv.taps());
    workers.for_each(pieces.count(), &|block| {
        pieces.with(block, |dw| {
            instructions.run(WeightSums {
                conv,
                dy,
                x,
                block,
                dw,
            })
        });
    });
}

struct WeightSums<'a> {
    conv: &'a Convolution,
    dy: &'a [f32],
    x: &'a [f32],
    block: usize,
    dw: &'a mut [f32],
}

impl Kernel for WeightSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let conv = self.conv;
        let blocks = conv.out_channels / S::LANES;
        let (dy_len, x_len) = (conv.out_pixels() * S::LANES, conv.in_pixels() * S::LANES);
        let step = conv.strides[1] * S::LANES;
        for tap in 0..conv.taps() {
            let (kh, kw) = (tap / conv.kernel[1], tap % conv.kernel[1]);
            let columns = conv.outputs_inside(1, kw);
            // Independent sums, so that an addition need not wait for the one before.
            let mut sums = [simd.splat(0.0); 4];
            if !columns.is_empty() {
                for image in 0..conv.images {
                    let dy = &self.dy[(image * blocks + self.block) * dy_len..][..dy_len];
                    let x = &self.x[(image * blocks + self.block) * x_len..][..x_len];
                    for oh in conv.outputs_inside(0, kh) {
                        let first_in = conv.input_of(0, oh, kh) * conv.in_size[1]
                            + conv.input_of(1, columns.start, kw);
                        let dy = &dy[(oh * conv.out_size[1] + columns.start) * S::LANES..]
                            [..columns.len() * S::LANES];
                        let x = &x[first_in * S::LANES..][..(columns.len() - 1) * step + S::LANES];
                        for (index, dy) in dy.chunks_exact(S::LANES).enumerate() {
                            let sum = &mut sums[index % 4];
                            *sum = simd.mul_add(simd.read(dy), simd.read(&x[index * step..]), *sum);
                        }
                    }
                }
            }
            let mut lanes = [0.0; 16];
            simd.write(
                simd.add(simd.add(sums[0], sums[1]), simd.add(sums[2], sums[3])),
                &mut lanes,
            );
            for (lane, value) in lanes[..S::LANES].iter().enumerate() {
                self.dw[lane * conv.taps() + tap] = *value;
            }
        }
    }
}

/// dX[c, ih, iw] = Σ dY[c, oh, ow] · W[c, kh, kw] over the taps that read it. The caller has checked the lengths.
pub(super) fn input_gradient(
    instructions: Instructions,
    conv: &Convolution,
    dy: &[f32],
    weight: &[f32],
    dx: &mut [f32],
    workers: &dyn Workers,
) {
    let pieces = Pieces::new(dx, instructions.block() * conv.in_pixels());
    workers.for_each(pieces.count(), &|plane| {
        pieces.with(plane, |dx| {
            instructions.run(InputSums {
                conv,
                dy,
                weight,
                plane,
                dx,
            })
        });
    });
}

struct InputSums<'a> {
    conv: &'a Convolution,
    dy: &'a [f32],
    weight: &'a [f32],
    /// Image and block: `image · C / B + block`.
    plane: usize,
    dx: &'a mut [f32],
}

impl Kernel for InputSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let conv = self.conv;
        let block = self.plane % (conv.in_channels / S::LANES);
        let dy_len = conv.out_pixels() * S::LANES;
        let dy = &self.dy[self.plane * dy_len..][..dy_len];
        let weight = &self.weight[block * S::LANES * conv.taps()..][..S::LANES * conv.taps()];
        let step = conv.strides[1] * S::LANES;
        self.dx.fill(0.0);
        for tap in 0..conv.taps() {
            let (kh, kw) = (tap / conv.kernel[1], tap % conv.kernel[1]);
            let columns = conv.outputs_inside(1, kw);
            if columns.is_empty() {
                continue;
            }
            let mut lanes = [0.0; 16];
            for (lane, value) in lanes[..S::LANES].iter_mut().enumerate() {
                *value = weight[lane * conv.taps() + tap];
            }
            let factor = simd.read(&lanes);
            for oh in conv.outputs_inside(0, kh) {
                let first_in = conv.input_of(0, oh, kh) * conv.in_size[1]
                    + conv.input_of(1, columns.start, kw);
                let dy = &dy[(oh * conv.out_size[1] + columns.start) * S::LANES..]
                    [..columns.len() * S::LANES];
                let dx =
                    &mut self.dx[first_in * S::LANES..][..(columns.len() - 1) * step + S::LANES];
                for (index, dy) in dy.chunks_exact(S::LANES).enumerate() {
                    let dx = &mut dx[index * step..];
                    simd.write(simd.mul_add(simd.read(dy), factor, simd.read(dx)), dx);
                }
            }
        }
    }
}
