//! Sums over everything but the channels: gradients of biases.

use super::rectifier::Bounds;
use super::simd::{Instructions, Kernel, Simd};
use super::workers::{Pieces, Workers};

/// Sum of each channel over images and pixels, `[C]`, of a value of `pixels` pixels in blocked layout; with a rectifier's output
/// and bounds, only where it was open.
///
/// # Panics
/// When the length is no multiple of `channels · pixels`, or the two lengths differ.
pub fn channel_sums(
    instructions: Instructions,
    channels: usize,
    pixels: usize,
    values: &[f32],
    rectifier: Option<(&[f32], Bounds)>,
    workers: &dyn Workers,
) -> Vec<f32> {
    let block = instructions.block();
    assert!(pixels > 0 && channels.is_multiple_of(block));
    assert!(values.len().is_multiple_of(channels * pixels));
    assert!(rectifier.is_none_or(|(y, _)| y.len() == values.len()));
    let mut sums = vec![0.0; channels];
    let (plane, blocks) = (pixels * block, channels / block);
    let pieces = Pieces::new(&mut sums, block);
    workers.for_each(pieces.count(), &|index| {
        pieces.with(index, |sums| {
            let mut totals = [0.0_f64; 16];
            for start in (index * plane..values.len()).step_by(blocks * plane) {
                let mut lanes = [0.0; 16];
                instructions.run(PlaneSum {
                    values: &values[start..start + plane],
                    rectifier: rectifier.map(|(y, bounds)| (&y[start..start + plane], bounds)),
                    lanes: &mut lanes,
                });
                for (total, lane) in totals.iter_mut().zip(lanes) {
                    *total += f64::from(lane);
                }
            }
            for (sum, total) in sums.iter_mut().zip(totals) {
                *sum = total as f32;
            }
        });
    });
    drop(pieces);
    sums
}

struct PlaneSum<'a> {
    values: &'a [f32],
    rectifier: Option<(&'a [f32], Bounds)>,
    lanes: &'a mut [f32],
}

impl Kernel for PlaneSum<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // Independent sums, so that an addition need not wait for the one before.
        let mut sums = [simd.splat(0.0); 4];
        let pixels = self.values.chunks_exact(S::LANES).enumerate();
        match self.rectifier {
            None => {
                for (index, pixel) in pixels {
                    sums[index % 4] = simd.add(sums[index % 4], simd.read(pixel));
                }
            }
            Some((y, bounds)) => {
                let (low, high) = (simd.splat(bounds.low), simd.splat(bounds.high));
                for ((index, pixel), y) in pixels.zip(y.chunks_exact(S::LANES)) {
                    let y = simd.read(y);
                    let open = simd.where_greater(y, low, simd.read(pixel));
                    let open = simd.where_greater(high, y, open);
                    sums[index % 4] = simd.add(sums[index % 4], open);
                }
            }
        }
        let sum = simd.add(simd.add(sums[0], sums[1]), simd.add(sums[2], sums[3]));
        simd.write(sum, self.lanes);
    }
}
