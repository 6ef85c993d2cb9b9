//! Gradient of a convolution for its weights: dW[o, i, kh, kw] = Σ dY[n, o, oh, ow] · X[n, i, oh·s + kh·d − p, ow·s + kw·d − p].
//!
//! Output channels fill the lanes. The sums of two blocks of outputs, a few inputs and a row of taps stay in registers while the
//! pixels go by: each pixel costs one load for a block of dY and one broadcast for an input and tap, for several times as many
//! multiply–adds. X is copied once per image into a frame of zeros, which leaves no special cases at the borders for any stride,
//! kernel or dilation; there is no im2col. Rows are taken in strips that fit the nearest cache.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::depthwise;
use super::geometry::Convolution;
use super::simd::{Instructions, Kernel, Simd};
use super::workers::{Pieces, Workers, with_zeroed_scratch};

/// Blocks of outputs that share a broadcast.
const OUT_BLOCKS: usize = 2;
/// Blocks of inputs that one piece of work covers: a strip of dY is read once for as many.
const SOURCE_BLOCKS: usize = 4;
/// Floats of dY in a strip; with the rows of X under it, it leaves room in 32 KiB.
const STRIP: usize = 3 * 1024;

/// Writes dW `[O, I, kH, kW]` into `dw` from dY and X, both in blocked layout; X is plain when it has fewer channels than a
/// block. `tiles` is working memory that is kept between calls.
///
/// Channels must be multiples of the block, but for plain X.
///
/// # Panics
/// When the lengths or the channels do not fit the geometry.
pub fn weight_gradient(
    instructions: Instructions,
    conv: &Convolution,
    dy: &[f32],
    x: &[f32],
    dw: &mut [f32],
    tiles: &mut Vec<f32>,
    workers: &dyn Workers,
) {
    let block = instructions.block();
    let plain = conv.in_channels < block;
    assert!(conv.is_consistent());
    assert!(conv.out_channels.is_multiple_of(block));
    assert!((plain && !conv.depthwise) || conv.in_channels.is_multiple_of(block));
    assert_eq!(dy.len(), conv.out_len());
    assert_eq!(x.len(), conv.in_len());
    assert_eq!(dw.len(), conv.weight_len());
    if conv.depthwise {
        depthwise::weight_gradient(instructions, conv, dy, x, dw, workers);
        return;
    }

    let sources = if plain { conv.in_channels } else { block };
    let source_blocks = conv.in_channels / sources;
    let out_blocks = conv.out_channels / block;
    // Sums of one block of outputs and one block of inputs.
    let unit = conv.taps() * sources * block;
    tiles.clear();
    tiles.resize(unit * source_blocks * out_blocks, 0.0);

    let mut rest = tiles.as_mut_slice();
    let mut pieces = Vec::new();
    for outputs in ranges(out_blocks, OUT_BLOCKS) {
        for inputs in ranges(source_blocks, SOURCE_BLOCKS) {
            let (sums, behind) = rest.split_at_mut(outputs.len() * inputs.len() * unit);
            rest = behind;
            pieces.push(Mutex::new(Tiles {
                outputs: outputs.clone(),
                inputs,
                sums,
            }));
        }
    }
    let frame = Frame::new(conv, sources, plain);
    workers.for_each(pieces.len(), &|index| {
        let mut tiles = pieces[index].lock().unwrap_or_else(PoisonError::into_inner);
        with_zeroed_scratch(frame.len * tiles.inputs.len(), |framed| {
            instructions.run(TileSums {
                conv,
                dy,
                x,
                frame,
                framed,
                tiles: &mut tiles,
            });
        });
    });

    let pieces: Vec<Tiles<'_>> = pieces
        .into_iter()
        .map(|piece| piece.into_inner().unwrap_or_else(PoisonError::into_inner))
        .collect();
    let rows = Pieces::new(dw, block * conv.in_channels * conv.taps());
    workers.for_each(rows.count(), &|out_block| {
        rows.with(out_block, |rows| {
            for piece in pieces
                .iter()
                .filter(|piece| piece.outputs.contains(&out_block))
            {
                piece.copy_to_filters(conv, out_block, sources, block, rows);
            }
        });
    });
}

/// Consecutive ranges of `len` below `count`; the last one may be shorter.
fn ranges(count: usize, len: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count)
        .step_by(len)
        .map(move |start| start..count.min(start + len))
}

/// The sums that one piece of work makes, for some blocks of outputs and inputs: `[inputs, kH, kW, S, outputs, B]`.
struct Tiles<'a> {
    outputs: Range<usize>,
    inputs: Range<usize>,
    sums: &'a mut [f32],
}

impl Tiles<'_> {
    /// Puts the sums of one block of outputs where they belong in its filters `[B, I, kH, kW]`.
    fn copy_to_filters(
        &self,
        conv: &Convolution,
        out_block: usize,
        sources: usize,
        block: usize,
        filters: &mut [f32],
    ) {
        let taps = conv.taps();
        let vector = self.outputs.len() * block;
        let offset = (out_block - self.outputs.start) * block;
        for (index, input) in self.inputs.clone().enumerate() {
            for source in 0..sources {
                for tap in 0..taps {
                    let sums = &self.sums
                        [((index * taps + tap) * sources + source) * vector + offset..][..block];
                    let start = (input * sources + source) * taps + tap;
                    for (lane, sum) in sums.iter().enumerate() {
                        filters[lane * conv.in_channels * taps + start] = *sum;
                    }
                }
            }
        }
    }
}

/// A block of X with zeros around it, so that every tap of every output falls inside. Source `s` of pixel `p` is at
/// `p · pixel + s · source`.
#[derive(Clone, Copy)]
struct Frame {
    columns: usize,
    pixel: usize,
    source: usize,
    sources: usize,
    /// Floats.
    len: usize,
}

impl Frame {
    fn new(conv: &Convolution, sources: usize, plain: bool) -> Self {
        let (rows, columns) = (conv.framed_size(0), conv.framed_size(1));
        let (pixel, source) = if plain {
            (1, rows * columns)
        } else {
            (sources, 1)
        };
        Self {
            columns,
            pixel,
            source,
            sources,
            len: rows * columns * sources,
        }
    }

    /// Copies one block of one image in; what lies around it stays as it is.
    fn fill(&self, conv: &Convolution, x: &[f32], framed: &mut [f32]) {
        let planes = self.sources / self.pixel;
        let row = conv.in_size[1] * self.pixel;
        for (index, source) in x.chunks_exact(row).enumerate() {
            let (plane, ih) = (index / conv.in_size[0], index % conv.in_size[0]);
            debug_assert!(plane < planes);
            let start = ((ih + conv.padding[0]) * self.columns + conv.padding[1]) * self.pixel
                + plane * self.source;
            framed[start..start + row].copy_from_slice(source);
        }
    }
}

struct TileSums<'a, 'b> {
    conv: &'a Convolution,
    dy: &'a [f32],
    x: &'a [f32],
    frame: Frame,
    /// One frame for each block of inputs of the piece.
    framed: &'a mut [f32],
    tiles: &'a mut Tiles<'b>,
}

impl Kernel for TileSums<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.tiles.outputs.len() {
            2 => self.sum::<S, 2>(simd),
            _ => self.sum::<S, 1>(simd),
        }
    }
}

impl TileSums<'_, '_> {
    /// The sums for `O` blocks of outputs.
    #[inline(always)]
    fn sum<S: Simd, const O: usize>(self, simd: S) {
        let (conv, frame) = (self.conv, self.frame);
        let [out_height, out_width] = conv.out_size;
        let [kernel_height, kernel_width] = conv.kernel;
        let plane = conv.out_pixels() * S::LANES;
        let out_blocks = conv.out_channels / S::LANES;
        let block_len = conv.in_pixels() * frame.sources;
        let vector = O * S::LANES;
        let unit = conv.taps() * frame.sources * vector;
        let rows_per_strip = (STRIP / (vector * out_width)).max(1);
        assert!(self.tiles.outputs.len() == O);

        for image in 0..conv.images {
            for (index, input) in self.tiles.inputs.clone().enumerate() {
                let x = &self.x[image * conv.in_channels * conv.in_pixels() + input * block_len..]
                    [..block_len];
                frame.fill(conv, x, &mut self.framed[index * frame.len..][..frame.len]);
            }
            let dy =
                &self.dy[(image * out_blocks + self.tiles.outputs.start) * plane..][..O * plane];
            for rows in ranges(out_height, rows_per_strip) {
                for index in 0..self.tiles.inputs.len() {
                    let strip = Strip {
                        dy,
                        plane,
                        dy_start: rows.start * out_width * S::LANES,
                        framed: &self.framed[index * frame.len..][..frame.len],
                        row: frame.columns * conv.strides[0] * frame.pixel,
                        step: conv.strides[1] * frame.pixel,
                        tap_step: conv.dilations[1] * frame.pixel,
                        source: frame.source,
                        rows: rows.len(),
                        columns: out_width,
                    };
                    let sums = &mut self.tiles.sums[index * unit..][..unit];
                    for kh in 0..kernel_height {
                        let first_row = rows.start * conv.strides[0] + kh * conv.dilations[0];
                        let x_start = first_row * frame.columns * frame.pixel;
                        let sums = &mut sums[kh * kernel_width * frame.sources * vector..];
                        let mut kw = 0;
                        while kw < kernel_width {
                            let x_start = x_start + kw * strip.tap_step;
                            let sums = &mut sums[kw * frame.sources * vector..];
                            kw += match kernel_width - kw {
                                3.. => strip.taps::<S, 3, O>(simd, x_start, frame.sources, sums),
                                _ => strip.taps::<S, 1, O>(simd, x_start, frame.sources, sums),
                            };
                        }
                    }
                }
            }
        }
    }
}

/// Some rows of dY with the frame of X they meet.
struct Strip<'a> {
    dy: &'a [f32],
    /// Floats from one block of dY to the next.
    plane: usize,
    dy_start: usize,
    framed: &'a [f32],
    /// Floats of X from one output row, column, tap and source to the next.
    row: usize,
    step: usize,
    tap_step: usize,
    source: usize,
    rows: usize,
    columns: usize,
}

impl Strip<'_> {
    /// Adds to the sums `[T, sources, O, B]` of `T` neighbouring taps, as many sources at a time as the registers hold, and
    /// returns `T`.
    #[inline(always)]
    fn taps<S: Simd, const T: usize, const O: usize>(
        &self,
        simd: S,
        x_start: usize,
        sources: usize,
        sums: &mut [f32],
    ) -> usize {
        // Registers for sums: 12 of 16 with AVX2, 24 of 32 with AVX-512.
        let mut first = 0;
        while first < sources {
            let left = sources - first;
            first += match (S::LANES >= 16, T, O) {
                (true, 3, 2) if left >= 4 => {
                    self.add::<S, T, O, 4>(simd, x_start, first, sources, sums)
                }
                (true, _, _) if left >= 8 => {
                    self.add::<S, T, O, 8>(simd, x_start, first, sources, sums)
                }
                (false, 3, 2) if left >= 2 => {
                    self.add::<S, T, O, 2>(simd, x_start, first, sources, sums)
                }
                (false, 1, 1) if left >= 8 => {
                    self.add::<S, T, O, 8>(simd, x_start, first, sources, sums)
                }
                (false, 3, 1) | (false, 1, _) if left >= 4 => {
                    self.add::<S, T, O, 4>(simd, x_start, first, sources, sums)
                }
                _ => self.add::<S, T, O, 1>(simd, x_start, first, sources, sums),
            };
        }
        T
    }

    /// [`Strip::taps`] for the `R` sources from `first` on; returns `R`.
    #[inline(always)]
    fn add<S: Simd, const T: usize, const O: usize, const R: usize>(
        &self,
        simd: S,
        x_start: usize,
        first: usize,
        sources: usize,
        sums: &mut [f32],
    ) -> usize {
        let x_start = x_start + first * self.source;
        let last_pixel =
            (self.rows - 1) * self.row + (self.columns - 1) * self.step + (T - 1) * self.tap_step;
        assert!(first + R <= sources && sums.len() >= T * sources * O * S::LANES);
        assert!(self.framed.len() > x_start + last_pixel + (R - 1) * self.source);
        assert!(
            self.dy.len()
                >= (O - 1) * self.plane + self.dy_start + self.rows * self.columns * S::LANES
        );

        // SAFETY: the last value of X, the last vector of dY and the last sum that are touched were checked; all others come
        // before them.
        unsafe {
            let sum = |t: usize, r: usize, o: usize| ((t * sources + first + r) * O + o) * S::LANES;
            let mut acc = [[[simd.splat(0.0); O]; R]; T];
            for t in 0..T {
                for r in 0..R {
                    for o in 0..O {
                        acc[t][r][o] = simd.load(sums.as_ptr().add(sum(t, r, o)));
                    }
                }
            }
            let mut dy = self.dy.as_ptr().add(self.dy_start);
            for row in 0..self.rows {
                let mut x = self.framed.as_ptr().add(x_start + row * self.row);
                for _ in 0..self.columns {
                    let mut gradients = [simd.splat(0.0); O];
                    for (o, gradient) in gradients.iter_mut().enumerate() {
                        *gradient = simd.load(dy.add(o * self.plane));
                    }
                    for t in 0..T {
                        for r in 0..R {
                            let value = simd.splat(*x.add(t * self.tap_step + r * self.source));
                            for o in 0..O {
                                acc[t][r][o] = simd.mul_add(value, gradients[o], acc[t][r][o]);
                            }
                        }
                    }
                    dy = dy.wrapping_add(S::LANES);
                    x = x.wrapping_add(self.step);
                }
            }
            for t in 0..T {
                for r in 0..R {
                    for o in 0..O {
                        simd.store(acc[t][r][o], sums.as_mut_ptr().add(sum(t, r, o)));
                    }
                }
            }
        }
        R
    }
}
