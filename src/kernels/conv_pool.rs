//! A convolution of few channels with max pooling behind it, in one pass.
//!
//! The first layer of a network does little arithmetic on a large output, most of which the pooling throws away: writing it out
//! and reading it back would take longer than computing it. Here a row of windows is computed into a buffer that stays in the
//! nearest cache, and only the winners leave it.

use super::filters::{FilterUse, pack_filters};
use super::geometry::{Convolution, Pooling};
use super::pooling::{CLOSED, pool_window};
use super::simd::{Instructions, Kernel, Simd};
use super::workers::{Pieces, Workers, with_zeroed_scratch};

/// Outputs computed at a time: with the filter and a value of X they fill the registers.
const OUTPUTS: usize = 8;

/// A convolution of plain X `[N, I, H, W]`, I smaller than a block, with W `[O, I, kH, kW]` and bias `[O]`, then a max pooling.
#[derive(Clone, Copy)]
pub struct ConvMaxPool<'a> {
    /// The convolution.
    pub conv: &'a Convolution,
    /// The pooling of its output, without padding.
    pub pooling: &'a Pooling,
    /// Whether a rectifier follows, as in [`super::max_pool`].
    pub rectify: bool,
    /// X.
    pub x: &'a [f32],
    /// W.
    pub weight: &'a [f32],
    /// Bias, if there is one.
    pub bias: Option<&'a [f32]>,
}

impl ConvMaxPool<'_> {
    /// Writes the pooled values and the winners, both in blocked layout. `packed` is working memory that is kept between calls.
    ///
    /// # Panics
    /// When lengths or channels do not fit.
    pub fn run(
        &self,
        instructions: Instructions,
        pooled: &mut [f32],
        winners: &mut [u8],
        packed: &mut Vec<f32>,
        workers: &dyn Workers,
    ) {
        let (conv, pooling, block) = (self.conv, self.pooling, instructions.block());
        assert!(conv.is_consistent() && !conv.depthwise && conv.in_channels < block);
        assert!(conv.out_channels.is_multiple_of(block) && pooling.channels == conv.out_channels);
        assert!(pooling.images == conv.images && pooling.in_size == conv.out_size);
        assert!(
            pooling.padding == [0, 0]
                && pooling.window[0] * pooling.window[1] < usize::from(CLOSED)
        );
        for axis in 0..2 {
            let last = (pooling.out_size[axis] - 1) * pooling.strides[axis] + pooling.window[axis];
            assert!(last <= conv.out_size[axis]);
        }
        assert!(self.x.len() == conv.in_len() && self.weight.len() == conv.weight_len());
        assert!(self.bias.is_none_or(|bias| bias.len() == conv.out_channels));
        assert!(pooled.len() == pooling.out_len() && winners.len() == pooling.out_len());

        packed.clear();
        packed.resize(self.weight.len(), 0.0);
        let [kernel_height, kernel_width] = conv.kernel;
        let shape = [
            conv.out_channels,
            conv.in_channels,
            kernel_height,
            kernel_width,
        ];
        pack_filters(block, shape, FilterUse::Forward, self.weight, packed);

        let frame = Frame::new(conv);
        let offsets = frame.window_row(conv, pooling);
        let packed = packed.as_slice();
        let image_len = pooling.channels * pooling.out_pixels();
        let pooled = Pieces::new(pooled, image_len);
        let winners = Pieces::new(winners, image_len);
        workers.for_each(pooled.count(), &|image| {
            pooled.with(image, |pooled| {
                winners.with(image, |winners| {
                    let row_len = offsets.len().next_multiple_of(OUTPUTS) * block;
                    with_zeroed_scratch(row_len + frame.len(conv), |scratch| {
                        let (row, framed) = scratch.split_at_mut(row_len);
                        frame.fill(
                            conv,
                            &self.x[image * conv.in_channels * conv.in_pixels()..],
                            framed,
                        );
                        let offsets = &offsets;
                        instructions.run(Image {
                            job: self,
                            packed,
                            frame,
                            offsets,
                            framed,
                            row,
                            pooled,
                            winners,
                        });
                    });
                });
            });
        });
    }
}

/// X with zeros around it, `[I, rows, columns]`.
#[derive(Clone, Copy)]
struct Frame {
    rows: usize,
    columns: usize,
}

impl Frame {
    fn new(conv: &Convolution) -> Self {
        Self {
            rows: conv.framed_size(0),
            columns: conv.framed_size(1),
        }
    }

    fn len(&self, conv: &Convolution) -> usize {
        conv.in_channels * self.rows * self.columns
    }

    fn fill(&self, conv: &Convolution, x: &[f32], framed: &mut [f32]) {
        let [height, width] = conv.in_size;
        for (index, source) in x
            .chunks_exact(width)
            .take(conv.in_channels * height)
            .enumerate()
        {
            let (channel, row) = (index / height, index % height);
            let start =
                (channel * self.rows + row + conv.padding[0]) * self.columns + conv.padding[1];
            framed[start..start + width].copy_from_slice(source);
        }
    }

    /// Where the patches of the outputs under one row of windows begin, window after window, counted from the first.
    fn window_row(&self, conv: &Convolution, pooling: &Pooling) -> Vec<usize> {
        let mut offsets = Vec::new();
        for pw in 0..pooling.out_size[1] {
            for kh in 0..pooling.window[0] {
                for kw in 0..pooling.window[1] {
                    let column = pw * pooling.strides[1] + kw;
                    offsets.push(kh * conv.strides[0] * self.columns + column * conv.strides[1]);
                }
            }
        }
        offsets
    }
}

struct Image<'a> {
    job: &'a ConvMaxPool<'a>,
    /// `[O / B, I, kH, kW, B]`.
    packed: &'a [f32],
    frame: Frame,
    offsets: &'a [usize],
    framed: &'a [f32],
    /// Outputs under one row of windows, `[PW, window, B]`.
    row: &'a mut [f32],
    pooled: &'a mut [f32],
    winners: &'a mut [u8],
}

impl Kernel for Image<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (conv, pooling) = (self.job.conv, self.job.pooling);
        let filter_len = conv.in_channels * conv.taps() * S::LANES;
        let places = pooling.window[0] * pooling.window[1];
        let row_len = pooling.out_size[1] * S::LANES;
        let down = pooling.strides[0] * conv.strides[0] * self.frame.columns;
        let rows = self
            .pooled
            .chunks_exact_mut(row_len)
            .zip(self.winners.chunks_exact_mut(row_len));
        for (index, (pooled, winners)) in rows.enumerate() {
            let (block, ph) = (index / pooling.out_size[0], index % pooling.out_size[0]);
            let filter = &self.packed[block * filter_len..][..filter_len];
            let bias = match self.job.bias {
                Some(bias) => simd.read(&bias[block * S::LANES..]),
                None => simd.splat(0.0),
            };
            for (offsets, outputs) in self
                .offsets
                .chunks(OUTPUTS)
                .zip(self.row.chunks_exact_mut(OUTPUTS * S::LANES))
            {
                convolve(
                    simd,
                    conv,
                    self.frame,
                    filter,
                    bias,
                    &self.framed[ph * down..],
                    offsets,
                    outputs,
                );
            }
            let windows = self.row.chunks_exact(places * S::LANES);
            let results = pooled
                .chunks_exact_mut(S::LANES)
                .zip(winners.chunks_exact_mut(S::LANES));
            for (window, (pooled, winners)) in windows.zip(results) {
                let place = |place: usize| (place as u8, &window[place * S::LANES..]);
                // Windows of 2×2 are the usual ones: with a known number of places the compiler keeps all of them in registers.
                match places {
                    4 => {
                        let values = [place(0), place(1), place(2), place(3)];
                        pool_window(simd, self.job.rectify, values.into_iter(), pooled, winners);
                    }
                    _ => pool_window(
                        simd,
                        self.job.rectify,
                        (0..places).map(place),
                        pooled,
                        winners,
                    ),
                }
            }
        }
    }
}

/// Computes the outputs whose patches begin at up to [`OUTPUTS`] offsets.
#[inline(always)]
#[expect(clippy::too_many_arguments)]
fn convolve<S: Simd>(
    simd: S,
    conv: &Convolution,
    frame: Frame,
    filter: &[f32],
    bias: S::Vector,
    framed: &[f32],
    offsets: &[usize],
    outputs: &mut [f32],
) {
    // Beyond the last offset the first one is computed again, and not read.
    let offsets: [usize; OUTPUTS] =
        std::array::from_fn(|index| offsets.get(index).copied().unwrap_or(offsets[0]));
    let [kernel_height, kernel_width] = conv.kernel;
    let reach = ((conv.in_channels - 1) * frame.rows + (kernel_height - 1) * conv.dilations[0])
        * frame.columns
        + (kernel_width - 1) * conv.dilations[1];
    assert!(offsets.iter().all(|offset| offset + reach < framed.len()));
    assert!(filter.len() == conv.in_channels * conv.taps() * S::LANES);
    let patches: [*const f32; OUTPUTS] =
        std::array::from_fn(|index| framed[offsets[index]..].as_ptr());
    let mut acc = [bias; OUTPUTS];
    let mut weights = filter.as_ptr();
    for channel in 0..conv.in_channels {
        for kh in 0..kernel_height {
            let row = (channel * frame.rows + kh * conv.dilations[0]) * frame.columns;
            for kw in 0..kernel_width {
                let tap = row + kw * conv.dilations[1];
                // SAFETY: `tap <= reach`, and every offset plus that was checked; the filter has one vector for each tap.
                unsafe {
                    let weight = simd.load(weights);
                    weights = weights.wrapping_add(S::LANES);
                    for index in 0..OUTPUTS {
                        let value = simd.splat(*patches[index].add(tap));
                        acc[index] = simd.mul_add(value, weight, acc[index]);
                    }
                }
            }
        }
    }
    for (acc, output) in acc.iter().zip(outputs.chunks_exact_mut(S::LANES)) {
        simd.write(*acc, output);
    }
}
